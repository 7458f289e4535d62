#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden files of the plain float types and of ggml's small block types.

    make_decode.py GGML_DEQUANT GGUF_PY OUT_DIR

GGML_DEQUANT is ggml_dequant.c built against llama.cpp's sources (its head says how), GGUF_PY the folder
of the same sources' gguf-py. Plain floats come from torch, and from ml_dtypes where torch has no such
type or cannot convert it; F6 and F4 are packed here (low element in the low bits). Blocks hold random
bytes, with the scales' special values put in; each value must come out alike from ggml's C and from
gguf-py, where gguf-py has the type. Made with torch 2.15, ml_dtypes 0.6, llama-cpp-python 0.3.36."""
import subprocess
import sys
import numpy as np
import torch
import ml_dtypes
from golden import write

GGML, GGUF_PY, OUT = sys.argv[1:4]
sys.path.insert(0, GGUF_PY)
import gguf  # noqa: E402

rng = np.random.default_rng(1)


def same(a, b):
    return ((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))).all()


def torch_f32(raw, dtype):
    return torch.from_numpy(raw).view(dtype).to(torch.float32).numpy()


def floats():
    b8 = np.arange(256, dtype=np.uint8)
    # every exponent and sign with mantissas at the limits, and random ones
    m16 = np.unique(np.concatenate([[0, 1, 2, 0x1ff, 0x200, 0x3fe, 0x3ff], rng.integers(0, 1024, 9)]))
    f16 = np.array([e << 10 | m for e in range(64) for m in m16], np.uint16)
    bf16 = np.array([e << 7 | m for e in range(512) for m in (0, 1, 0x40, 0x7f)], np.uint16)
    # f64: random f32s, their midpoints, and what lies a bit beside a midpoint; denormals; overflow
    f32 = rng.integers(0, 1 << 32, 256, dtype=np.uint64).astype(np.uint32).view(np.float32)
    f32 = f32[np.isfinite(f32)]
    f64 = f32.astype(np.float64)
    with np.errstate(over="ignore"):
        mid = (f64 + np.nextafter(f32, np.float32(np.inf)).astype(np.float64)) / 2
    tiny = np.array([2.0**-149, 2.0**-150, 1.5 * 2.0**-149, 2.0**-150 * (1 + 2.0**-52), 1e-320, -1e-300,
                     3.4028235677973366e38, 3.4028235677973362e38, -1e300, np.inf, -np.inf, np.nan, 0.0, -0.0])
    f64 = np.concatenate([f64, mid, np.nextafter(mid, np.inf), np.nextafter(mid, -np.inf), tiny])
    f32 = np.concatenate([f32, np.array([0, 0x80000000, 1, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001],
                                        np.uint32).view(np.float32)])
    yield "f32", f32, f32
    yield "f16", f16, torch_f32(f16, torch.float16)
    yield "bf16", bf16, torch_f32(bf16, torch.bfloat16)
    yield "f64", f64, torch.from_numpy(f64).to(torch.float32).numpy()
    for name, tdtype, mdtype in (
            ("f8_e4m3", torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn),
            ("f8_e5m2", torch.float8_e5m2, ml_dtypes.float8_e5m2),
            ("f8_e8m0", torch.float8_e8m0fnu, ml_dtypes.float8_e8m0fnu),
            ("f8_e4m3fnuz", torch.float8_e4m3fnuz, ml_dtypes.float8_e4m3fnuz),
            ("f8_e5m2fnuz", torch.float8_e5m2fnuz, ml_dtypes.float8_e5m2fnuz)):
        values = torch_f32(b8, tdtype)
        assert same(values, b8.view(mdtype).astype(np.float32)), name
        yield name, b8, values
    for name, mdtype in (("f6_e2m3", ml_dtypes.float6_e2m3fn), ("f6_e3m2", ml_dtypes.float6_e3m2fn)):
        code = np.concatenate([np.arange(64), rng.permutation(64)]).astype(np.uint8)
        c = code.astype(np.uint32).reshape(-1, 4)
        word = c[:, 0] | c[:, 1] << 6 | c[:, 2] << 12 | c[:, 3] << 18
        raw = np.stack([word & 255, word >> 8 & 255, word >> 16], 1).astype(np.uint8)
        yield name, raw, code.view(mdtype).astype(np.float32)
    code = np.stack([b8 & 15, b8 >> 4], 1).ravel()
    yield "f4", b8, code.view(ml_dtypes.float4_e2m1fn).astype(np.float32)


F16_SPECIAL = np.array([0, 0x8000, 1, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x3c00, 0x7c00, 0xfc00, 0x7e00],
                       np.uint16).view(np.uint8).reshape(-1, 2)


def blocks():
    # name, bytes a block, offsets of the f16 fields, number of blocks
    for name, size, halves, n in (("q4_0", 18, [0], 40), ("q4_1", 20, [0, 2], 40), ("q5_0", 22, [0], 40),
                                  ("q5_1", 24, [0, 2], 40), ("q8_0", 34, [0], 40), ("q1_0", 18, [0], 24),
                                  ("q2_0", 18, [0], 24), ("mxfp4", 17, [], 260), ("nvfp4", 36, [], 64),
                                  ("tq1_0", 54, [52], 16), ("tq2_0", 66, [64], 16)):
        raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
        special = len(F16_SPECIAL)
        for i, at in enumerate(halves):
            # the others: scales as models have them, 2^-12 .. 2^-5
            raw[:, at + 1] = raw[:, at + 1] & 0x83 | rng.integers(0x0c, 0x28, n).astype(np.uint8) & 0x7c
            raw[:special, at:at + 2] = np.roll(F16_SPECIAL, 3 * i, axis=0)
        if name == "mxfp4":
            raw[:256, 0] = np.arange(256)
        if name == "nvfp4":
            raw[:, :4] = np.arange(256, dtype=np.uint8).reshape(64, 4)
        values = np.frombuffer(subprocess.run([GGML, name], input=raw.tobytes(), check=True,
                                              capture_output=True).stdout, np.float32)
        with np.errstate(all="ignore"):
            try:
                other = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[name.upper()]).ravel()
                assert same(values, other), name
            except (NotImplementedError, KeyError):
                print("gguf-py has no", name)
        yield name, raw, values
        if name == "q8_0":
            # q8_1 has no decoder in ggml: q d, as q8_0; only the field s stands between
            s = rng.integers(0, 256, (n, 2), dtype=np.uint8)
            yield "q8_1", np.concatenate([raw[:, :2], s, raw[:, 2:]], 1), values


for record in list(floats()) + list(blocks()):
    write(f"{OUT}/{record[0]}.bin", [record])
