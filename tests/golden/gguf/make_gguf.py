#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the GGUF goldens of this folder and a text dump of each, as gguf-py reads them.

    make_gguf.py [GGUF_SPLIT]

Needs numpy and the gguf package of llama-cpp-python 0.3.36 (vendor/llama.cpp/gguf-py; the package on
PyPI, 0.19, lacks q2_0 and gives q8_1 40 bytes a block). GGUF_SPLIT is llama-gguf-split of the same version with one
more unit, `B` for bytes, in split_str_to_n_bytes (its own smallest is 1 MB); without it the split sets
are left as they are. The dump's lines, which tests/unit/test_gguf.c prints too:
    version N / align N / data OFFSET
    kv KEY TYPE VALUE       integers in decimal, bool 0 or 1, floats as hex bits, strings as hex bytes
    kv KEY array:TYPE:N VALUE,VALUE...
    tensor NAME TYPE [SHAPE, slowest first] OFFSET BYTES
"""
import pathlib
import struct
import subprocess
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFValueType as V

HERE = pathlib.Path(__file__).parent
NAMES = {V.UINT8: "u8", V.INT8: "i8", V.UINT16: "u16", V.INT16: "i16", V.UINT32: "u32", V.INT32: "i32",
         V.FLOAT32: "f32", V.BOOL: "bool", V.STRING: "str", V.UINT64: "u64", V.INT64: "i64",
         V.FLOAT64: "f64"}


def value_text(part, t):
    if t == V.STRING:
        return bytes(part).hex()
    if t == V.FLOAT32:
        return "%08x" % np.asarray(part, np.float32).view(np.uint32)[0]
    if t == V.FLOAT64:
        return "%016x" % np.asarray(part, np.float64).view(np.uint64)[0]
    return str(int(part[0]))


def dump(path):
    r = gguf.GGUFReader(path)
    out = []
    fields = dict(r.fields)
    out.append("version %d" % fields.pop("GGUF.version").parts[0][0])
    fields.pop("GGUF.tensor_count")
    fields.pop("GGUF.kv_count")
    out.append("align %d" % r.alignment)
    out.append("data %d" % r.data_offset)
    for name, f in fields.items():
        t = f.types[-1]
        vals = [value_text(f.parts[i], t) for i in f.data]
        if f.types[0] == V.ARRAY:
            out.append("kv %s array:%s:%d %s" % (name, NAMES[t], len(vals), ",".join(vals)))
        else:
            out.append("kv %s %s %s" % (name, NAMES[t], vals[0]))
    for t in r.tensors:
        shape = "[" + ", ".join(str(int(d)) for d in reversed(t.shape)) + "]"
        out.append("tensor %s %s %s %d %d" % (t.name, t.tensor_type.name.lower(), shape, t.data_offset,
                                              t.n_bytes))
    pathlib.Path(path).with_suffix(".txt").write_text("\n".join(out) + "\n")


def ramp(n, start):
    return np.array([(start + i * 7) & 0xFF for i in range(n)], np.uint8)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def writer(name, arch="llama"):
    return gguf.GGUFWriter(HERE / name, arch)


def add_values(w):
    w.add_uint8("t.u8", 255)
    w.add_int8("t.i8", -128)
    w.add_uint16("t.u16", 65535)
    w.add_int16("t.i16", -32768)
    w.add_uint32("t.u32", 4294967295)
    w.add_int32("t.i32", -2147483648)
    w.add_uint64("t.u64", 18446744073709551615)
    w.add_int64("t.i64", -9223372036854775808)
    w.add_float32("t.f32", 0.1)
    w.add_float64("t.f64", 0.1)
    w.add_bool("t.yes", True)
    w.add_bool("t.no", False)
    w.add_string("t.str", "text with \u00e9\u4e2d\U0001f600 and \"quotes\"\n")
    w.add_key_value("t.empty", "", V.STRING)
    w.add_key_value("t.bytes", b"\x00\xff\x00not utf-8", V.STRING)
    for t, vals in ((V.UINT8, [0, 1, 255]), (V.INT8, [-128, 127]), (V.UINT16, [65535]), (V.INT16, [-1, 1]),
                    (V.UINT32, [1, 2, 3]), (V.INT32, [-5, 5]), (V.UINT64, [2 ** 64 - 1]),
                    (V.INT64, [-2 ** 63]), (V.FLOAT32, [0.5, -0.0, float("inf")]),
                    (V.FLOAT64, [1e300, 5e-324]), (V.BOOL, [True, False, True]),
                    (V.STRING, ["", "a", "\u00e9", "x" * 300])):
        w.add_key_value("a." + NAMES[t], vals, V.ARRAY, sub_type=t)


def make_values():
    w = writer("values.gguf")
    add_values(w)
    w.add_tensor("token_embd.weight", np.arange(6, dtype=np.float32).reshape(2, 3))
    finish(w)


def make_types():
    w = writer("types.gguf")
    for i, q in enumerate(Q):
        block, size = gguf.GGML_QUANT_SIZES[q]
        data = ramp(3 * 2 * size, i).reshape(3, 2 * size)
        w.add_tensor("blk.%d.%s.weight" % (i, q.name.lower()), data, raw_dtype=q)
    w.add_tensor("one", np.ones((1,), np.float32))
    w.add_tensor("lead.1", np.ones((1, 1, 2, 5), np.float16))
    w.add_tensor("tail.1", np.ones((5, 1), np.float16))
    w.add_tensor("four", np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5))
    finish(w)


def make_alignments():
    for align in (8, 32, 64, 4096):
        w = writer("align%d.gguf" % align)
        w.add_custom_alignment(align)
        for i, n in enumerate((1, 9, 64, 0, 5000 if align == 4096 else 100)):
            w.add_tensor("t%d" % i, ramp(n, i).view(np.int8))
        finish(w)


def make_shapes():
    w = writer("shapes.gguf")
    w.add_tensor("scalar", np.float32(3).reshape(()))
    w.add_tensor("zero", np.zeros((0,), np.float32))
    w.add_tensor("zero.rows", np.zeros((0, 34), np.uint8), raw_dtype=Q.Q8_0)
    w.add_tensor("zero.cols", np.zeros((7, 0), np.float16))
    w.add_tensor("n" * 63, np.ones((2,), np.float64))
    finish(w)
    w = writer("no_tensors.gguf")
    w.add_uint32("general.file_type", 1)
    finish(w)


def make_v2():
    data = bytearray((HERE / "values.gguf").read_bytes())
    data[4:8] = struct.pack("<I", 2)
    (HERE / "v2.gguf").write_bytes(data)


def make_nvfp4():
    """As convert_hf_to_gguf.py writes it: x.weight, x.scale, x.input_scale; experts with one scale each."""
    w = writer("nvfp4.gguf")
    size = gguf.GGML_QUANT_SIZES[Q.NVFP4][1]
    w.add_tensor("blk.0.attn_q.weight", ramp(2 * size, 1).reshape(2, size), raw_dtype=Q.NVFP4)
    w.add_tensor("blk.0.attn_q.scale", np.array([0.5], np.float32))
    w.add_tensor("blk.0.attn_q.input_scale", np.array([2.0], np.float32))
    w.add_tensor("blk.0.ffn_up_exps.weight", ramp(3 * 2 * size, 2).reshape(3, 2, size), raw_dtype=Q.NVFP4)
    w.add_tensor("blk.0.ffn_up_exps.scale", np.array([1, 2, 3], np.float32))
    w.add_tensor("blk.0.ffn_gate.weight", ramp(2 * size, 3).reshape(2, size), raw_dtype=Q.NVFP4)
    w.add_tensor("blk.0.attn_k.weight", np.ones((4, 4), np.float16))
    w.add_tensor("blk.0.attn_k.scale", np.array([0.25], np.float32))
    finish(w)


def make_splits(tool):
    for stem, args in (("split4000", []), ("split4000first", ["--no-tensor-first-split"])):
        for old in HERE.glob(stem + "-*"):
            old.unlink()
        subprocess.run([tool, "--split", "--split-max-size", "4000B", *args, HERE / "types.gguf", HERE / stem],
                       check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    make_values()
    make_types()
    make_alignments()
    make_shapes()
    make_v2()
    make_nvfp4()
    if len(sys.argv) > 1:
        make_splits(sys.argv[1])
    for p in sorted(HERE.glob("*.gguf")):
        dump(p)
