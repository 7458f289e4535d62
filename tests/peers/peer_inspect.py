#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: numpy gguf safetensors
"""lbrx inspect --json --hash against gguf (0.19) and safetensors (0.8): names, types, shapes, offsets,
hashes and metadata of models written by these packages."""
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time

import gguf
import numpy as np
from safetensors.numpy import save_file

START = time.time()
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LBRX = os.environ.get("LBRX") or os.path.join(ROOT, "build", "lbrx")
passed = failed = 0
rng = np.random.default_rng(5)


def check(what, got, want):
    global passed, failed
    if got == want:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {what}: got {got!r}, expected {want!r}")


def inspect(path):
    run = subprocess.run([LBRX, "inspect", path, "--json", "--hash"], capture_output=True)
    if run.returncode != 0:
        check(f"inspect {path}", run.stderr, b"")
        return None
    return json.loads(run.stdout)


def packed(values, elem):
    if elem == gguf.GGUFValueType.STRING:
        return b"".join(len(s).to_bytes(8, "little") + s for s in values)
    return b"".join(np.asarray(v).tobytes() for v in values)


def field_value(field):
    """The value as inspect should print it."""
    if field.types[0] == gguf.GGUFValueType.ARRAY:
        elem = field.types[1]
        raw = [bytes(field.parts[i]) for i in field.data]
        if elem == gguf.GGUFValueType.STRING:
            values = [r.decode() for r in raw]
        else:
            values = [field.parts[i].tolist()[0] for i in field.data]
        if len(raw) <= 128:
            return [bool(v) for v in values] if elem == gguf.GGUFValueType.BOOL else values
        data = b"".join(len(r).to_bytes(8, "little") + r for r in raw) \
            if elem == gguf.GGUFValueType.STRING else b"".join(raw)
        names = {"STRING": "str", "INT32": "i32", "FLOAT32": "f32", "UINT32": "u32"}
        return {"type": names[elem.name], "length": len(raw),
                "sha256": hashlib.sha256(data).hexdigest()}
    if field.types[0] == gguf.GGUFValueType.STRING:
        return bytes(field.parts[field.data[0]]).decode()
    value = field.parts[field.data[0]].tolist()[0]
    return bool(value) if field.types[0] == gguf.GGUFValueType.BOOL else value


def check_gguf(path):
    got = inspect(path)
    if got is None:
        return
    reader = gguf.GGUFReader(path)
    check("format", got["format"], "gguf")
    name = os.path.basename(path)
    tensors = {t["name"]: t for t in got["tensors"]}
    check("tensors", len(got["tensors"]), len(reader.tensors))
    n_params = n_bytes = 0
    for t in reader.tensors:
        g = tensors[t.name]
        check(t.name, (g["type"], g["shape"], g["bytes"], g["file"], g["offset"], g["sha256"]),
              (t.tensor_type.name.lower(), [int(d) for d in reversed(t.shape)], int(t.n_bytes), name,
               int(t.data_offset), hashlib.sha256(t.data.tobytes()).hexdigest()))
        n_params += int(t.n_elements)
        n_bytes += int(t.n_bytes)
    check("sums", (got["parameters"], got["bytes"]), (n_params, n_bytes))
    check("bpw", round(got["bpw"], 9), round(8 * n_bytes / n_params, 9))
    fields = {k: f for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    check("keys", list(got["metadata"]), list(fields))
    for key, field in fields.items():
        check(key, got["metadata"].get(key), field_value(field))


def write_gguf(path):
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("name with \"quotes\", \\ and \u00e9\u4e2d\U0001f600\n")
    w.add_uint8("t.u8", 255)
    w.add_int8("t.i8", -128)
    w.add_uint16("t.u16", 65535)
    w.add_int16("t.i16", -32768)
    w.add_uint32("t.u32", 2**32 - 1)
    w.add_int32("t.i32", -2**31)
    w.add_uint64("t.u64", 2**64 - 1)
    w.add_int64("t.i64", -2**63)
    w.add_float32("t.f32", 1e-5)
    w.add_float64("t.f64", 1e-300)
    w.add_bool("t.bool", True)
    w.add_array("t.strings", ["a", "b\n", ""])
    w.add_array("t.ints", list(range(-64, 64)))
    w.add_array("t.long", list(range(200)))
    w.add_array("t.tokens", [f"tok{i}" for i in range(500)])
    w.add_array("t.floats", [float(i) / 7 for i in range(300)])
    w.add_array("t.bools", [True, False])
    for i, kind in enumerate((gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16,
                              gguf.GGMLQuantizationType.BF16, gguf.GGMLQuantizationType.Q8_0,
                              gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q5_1)):
        x = rng.standard_normal((3 + i, 64)).astype(np.float32)
        w.add_tensor(f"blk.{i}.weight", gguf.quants.quantize(x, kind), raw_dtype=kind)
    w.add_tensor("vector", rng.standard_normal(7).astype(np.float32))
    w.add_tensor("stack", rng.standard_normal((2, 3, 4)).astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def check_folder(folder):
    os.mkdir(folder)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-05,
              "big": 1000000000000000019884624838656, "nested": {"a": [1, 2.5, None, True]}}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    shards = [{"b": rng.standard_normal((5, 3)).astype(np.float16), "a": np.arange(6, dtype=np.int64)},
              {"c": rng.standard_normal((2, 2, 2)).astype(np.float32)}]
    index = {"metadata": {}, "weight_map": {}}
    for i, shard in enumerate(shards):
        name = f"model-0000{i + 1}-of-00002.safetensors"
        save_file(shard, os.path.join(folder, name), metadata={"format": "pt"})
        index["weight_map"].update({k: name for k in shard})
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump(index, f)
    got = inspect(folder)
    if got is None:
        return
    check("folder", (got["format"], got["architecture"], got["metadata"]), ("hf", "llama", config))
    tensors = {t["name"]: t for t in got["tensors"]}
    for shard in shards:
        for name, x in shard.items():
            t = tensors[name]
            kind = {"float16": "f16", "int64": "i64", "float32": "f32"}[str(x.dtype)]
            check(name, (t["type"], t["shape"], t["bytes"], t["file"], t["sha256"]),
                  (kind, list(x.shape), x.nbytes, index["weight_map"][name],
                   hashlib.sha256(x.tobytes()).hexdigest()))
            with open(os.path.join(folder, t["file"]), "rb") as f:
                f.seek(t["offset"])
                check(name + " offset", f.read(t["bytes"]), x.tobytes())
    check("sums", (got["parameters"], got["bytes"]), (15 + 6 + 8, 30 + 48 + 32))


with tempfile.TemporaryDirectory() as work:
    write_gguf(os.path.join(work, "m.gguf"))
    check_gguf(os.path.join(work, "m.gguf"))
    check_folder(os.path.join(work, "hf"))
    for path in os.environ.get("LBRX_TEST_GGUF", "").split(os.pathsep):
        if path:
            check_gguf(path)
print(f"peer_inspect: {passed} passed, {failed} failed, 0 skipped [cost: slow] "
      f"{time.time() - START:.1f} s")
sys.exit(failed != 0)
