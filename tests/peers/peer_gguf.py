#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: gguf numpy
"""peer_gguf.py: files written by gguf-py are shown by `lbrx inspect` as gguf-py reads them.

Random models (every value type, every tensor type that the package knows, alignments, split files), then
the same with bytes changed: what lbrx accepts gguf-py reads to the same tensors; nothing crashes.
"""
import hashlib
import json
import math
import logging
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time

import gguf
import numpy as np
from gguf import GGUFValueType as V

LBRX = os.environ.get("LBRX", "build/lbrx")
SEED = int(os.environ.get("LB_TEST_SEED", "42"))
ARRAY_MAX = 128  # elements that inspect prints; more become type, length and hash
INTS = {V.UINT8: (0, 255), V.INT8: (-128, 127), V.UINT16: (0, 65535), V.INT16: (-2 ** 15, 2 ** 15 - 1),
        V.UINT32: (0, 2 ** 32 - 1), V.INT32: (-2 ** 31, 2 ** 31 - 1), V.UINT64: (0, 2 ** 64 - 1),
        V.INT64: (-2 ** 63, 2 ** 63 - 1)}
NAMES = {V.UINT8: "u8", V.INT8: "i8", V.UINT16: "u16", V.INT16: "i16", V.UINT32: "u32", V.INT32: "i32",
         V.FLOAT32: "f32", V.BOOL: "bool", V.STRING: "str", V.UINT64: "u64", V.INT64: "i64",
         V.FLOAT64: "f64"}
PACK = {V.UINT8: "B", V.INT8: "b", V.UINT16: "H", V.INT16: "h", V.UINT32: "I", V.INT32: "i", V.UINT64: "Q",
        V.INT64: "q", V.FLOAT32: "f", V.FLOAT64: "d", V.BOOL: "?"}
passed = failed = 0


def check(ok, what):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("%s (seed %d)" % (what, SEED))


def inspect(path, *flags):
    return subprocess.run([LBRX, "inspect", str(path), "--json", *flags], capture_output=True, timeout=60)


def random_value(r, t):
    if t in INTS:
        low, high = INTS[t]
        return r.choice((low, high, 0, 1, r.randint(low, high)))
    if t == V.FLOAT32:
        return float(np.float32(r.choice((0.0, -0.0, 1e-5, 3.4e38, math.inf, -math.inf, r.gauss(0, 1)))))
    if t == V.FLOAT64:
        return r.choice((0.1, 1e300, 5e-324, r.gauss(0, 1)))
    if t == V.BOOL:
        return r.random() < 0.5
    return "".join(r.choice("abc \n\"\\/\x01\u00e9\u4e2d\U0001f600") for _ in range(r.randrange(20)))


def add_pairs(r, w):
    """Adds random pairs to a writer; returns what inspect must print."""
    want = {"general.architecture": "llama"}
    for i in range(r.randrange(20)):
        t = r.choice(list(NAMES))
        v = random_value(r, t)
        w.add_key_value("k.%d" % i, v, t)
        want["k.%d" % i] = v
    for i in range(r.randrange(6)):
        t = r.choice(list(NAMES))
        v = [random_value(r, t) for _ in range(r.choice((1, 2, 30, 128, 129, 500)))]
        w.add_key_value("a.%d" % i, v, V.ARRAY, sub_type=t)
        want["a.%d" % i] = v if len(v) <= ARRAY_MAX else long_array(t, v)
    return want


def long_array(t, vals):
    h = hashlib.sha256()
    for v in vals:
        if t == V.STRING:
            h.update(struct.pack("<Q", len(v.encode())) + v.encode())
        else:
            h.update(struct.pack("<" + PACK[t], v))
    return {"type": NAMES[t], "length": len(vals), "sha256": h.hexdigest()}


def add_tensors(r, w):
    rng = np.random.default_rng(r.randrange(2 ** 32))
    # q8_1: gguf 0.19 says 40 bytes a block, ggml 36
    types = [t for t in gguf.GGMLQuantizationType if t.name != "Q8_1"]
    for i in range(r.randrange(1, 12)):
        t = r.choice(types)
        block, size = gguf.GGML_QUANT_SIZES[t]
        rows = [r.randrange(1, 5) for _ in range(r.randrange(3))]
        data = rng.integers(0, 256, rows + [r.randrange(1, 4) * size], dtype=np.uint8)
        w.add_tensor("blk.%d.%s" % (i, t.name), data, raw_dtype=t)


def write(r, path, **kw):
    w = gguf.GGUFWriter(path, "llama", **kw)
    want = add_pairs(r, w)
    if not kw and r.random() < 0.5:
        align = 2 ** r.randrange(0, 13)
        if hasattr(w, "add_custom_alignment"):
            w.add_custom_alignment(align)
            want["general.alignment"] = align
    add_tensors(r, w)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return want


def tensors_of(path):
    reader = gguf.GGUFReader(path)
    return [{"name": t.name, "type": t.tensor_type.name.lower(), "shape": [int(d) for d in reversed(t.shape)],
             "bytes": int(t.n_bytes), "file": pathlib.Path(path).name, "offset": int(t.data_offset),
             "sha256": hashlib.sha256(t.data.tobytes()).hexdigest()} for t in reader.tensors]


def same(a, b):
    """Equal with the same types; inf and -0.0 included."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def check_metadata(got, want, what):
    bad = [k for k in {**got, **want} if k not in got or k not in want or not same(got[k], want[k])]
    check(not bad and list(got) == list(want), "%s: metadata differ at %s" % (what, bad))


def test_random_files(r, tmp):
    for i in range(60):
        path = tmp / "random.gguf"
        want = write(r, path)
        p = inspect(path, "--hash")
        if p.returncode != 0:
            check(False, "file %d: exit %d: %s" % (i, p.returncode, p.stderr.decode()))
            continue
        got = json.loads(p.stdout)
        check_metadata(got["metadata"], want, "file %d" % i)
        check(got["tensors"] == tensors_of(path), "file %d: tensors differ" % i)


def test_split(r, tmp):
    for i in range(10):
        for old in tmp.glob("s-*"):
            old.unlink()
        want = write(r, tmp / "s.gguf", split_max_tensors=r.randrange(1, 4))
        files = sorted(tmp.glob("s-*.gguf")) or [tmp / "s.gguf"]
        p = inspect(files[0], "--hash")
        got = json.loads(p.stdout) if p.returncode == 0 else {}
        check_metadata(got.get("metadata", {}), want, "split %d (%s)" % (i, p.stderr.decode().strip()))
        check(got.get("tensors") == [t for f in files for t in tensors_of(f)], "split %d: tensors differ" % i)
        if len(files) > 1:
            p = inspect(files[1])
            check(p.returncode != 0 and files[0].name.encode() in p.stderr, "split %d: second file" % i)


def test_changed_bytes(r, tmp):
    n_accepted = 0
    path = tmp / "changed.gguf"
    write(r, path)
    data = path.read_bytes()
    end = min(len(data), gguf.GGUFReader(path).data_offset)
    for i in range(400):
        b = bytearray(data)
        for _ in range(r.randrange(1, 3)):
            b[r.randrange(end)] ^= 1 << r.randrange(8)
        path.write_bytes(b)
        p = inspect(path, "--hash")
        if p.returncode not in (0, 3, 4):
            check(False, "change %d: exit %d: %s" % (i, p.returncode, p.stderr.decode()))
        if p.returncode == 0:
            n_accepted += 1
            check(json.loads(p.stdout)["tensors"] == tensors_of(path), "change %d: tensors differ" % i)
    check(0 < n_accepted < 400, "changes: %d of 400 accepted" % n_accepted)


def main():
    r = random.Random(SEED)
    logging.disable(logging.WARNING)  # "Model fails split requirements"
    start = time.time()
    with tempfile.TemporaryDirectory() as tmp:
        for test in (test_random_files, test_split, test_changed_bytes):
            test(r, pathlib.Path(tmp))
    print("peer_gguf: %d passed, %d failed, 0 skipped [cost: slow] %.1f s" % (passed, failed, time.time() - start))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
