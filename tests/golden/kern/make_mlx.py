#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden file of MLX's quantized groups, by mx.dequantize on the CPU (mlx 0.32.4).

    make_mlx.py OUT_DIR

Records of mlx.bin are named "q<bits> <scale type> <bias type> <group>": raw = codes, scales, biases (the
last two as f32), values = mx.dequantize; and "<mode> <result type> <group> <global scale or 0>": raw =
codes, scales (one byte each), values = mx.dequantize(mode, dtype)."""
import sys
import numpy as np
import mlx.core as mx
from golden import write

mx.set_default_device(mx.cpu)
rng = np.random.default_rng(3)
TYPE = {"bf16": mx.bfloat16, "f16": mx.float16, "f32": mx.float32}


def f32(a):
    return np.array(a.astype(mx.float32))


def affine(bits, ts, tb, group):
    n_groups = 256 // group
    codes = rng.integers(0, 256, (1, 256 * bits // 8), dtype=np.uint8)
    scale = mx.array((rng.standard_normal((1, n_groups)) * 0.02).astype(np.float32)).astype(TYPE[ts])
    bias = mx.array((rng.standard_normal((1, n_groups)) * 0.1).astype(np.float32)).astype(TYPE[tb])
    y = mx.dequantize(mx.array(codes.view(np.uint32)), scale, bias, group_size=group, bits=bits)
    raw = np.concatenate([a.view(np.uint8).ravel() for a in (codes, f32(scale), f32(bias))])
    return f"q{bits} {ts} {tb} {group}", raw, f32(y)


def edges(bits, t):
    """Scales and biases at the limits of the type: zeros, subnormals, overflow of product and of sum."""
    top = {"bf16": 3.3895314e38, "f16": 65504.0, "f32": 3.4028235e38}[t]
    tiny = {"bf16": 2.0**-133, "f16": 2.0**-24, "f32": 2.0**-149}[t]
    s = np.array([[0, -0.0, tiny, -3 * tiny, top, -top, top / 200, np.inf, 1, tiny * 64, top, top / 255,
                   -1, np.nan, 0.1, 2.0**-14]], np.float32)
    b = np.array([[-0.0, -0.0, -tiny, top, -top, np.inf, top, -np.inf, np.nan, -tiny, top, -top / 7,
                   0, 1, tiny, -2.0**-14]], np.float32)
    codes = rng.integers(0, 256, (1, 512 * bits // 8), dtype=np.uint8)
    scale, bias = mx.array(s).astype(TYPE[t]), mx.array(b).astype(TYPE[t])
    y = mx.dequantize(mx.array(codes.view(np.uint32)), scale, bias, group_size=32, bits=bits)
    raw = np.concatenate([a.view(np.uint8).ravel() for a in (codes, f32(scale), f32(bias))])
    return f"q{bits} {t} {t} 32", raw, f32(y)


def fp(mode, t, group, bits, global_scale, step):
    """Every step-th scale code, 255 among them."""
    scale = np.arange(step - 1, 256, step, dtype=np.uint8).reshape(1, -1)
    codes = rng.integers(0, 256, (1, scale.size * group * bits // 8), dtype=np.uint8)
    y = mx.dequantize(mx.array(codes.view(np.uint32)), mx.array(scale), None, group_size=group, bits=bits, mode=mode,
                      global_scale=mx.array(global_scale) if global_scale else None, dtype=TYPE[t])
    if global_scale:
        assert y.dtype == mx.float32  # whatever dtype asks for
    raw = np.concatenate([codes.ravel(), scale.ravel()])
    return f"{mode} {t} {group} {global_scale}", raw, f32(y)


records = []
for bits in (1, 2, 3, 4, 5, 6, 8):
    for t in TYPE:
        records += [affine(bits, t, t, group) for group in (32, 64, 128)]
        records += [edges(bits, t)]
for ts, tb in (("bf16", "f32"), ("f32", "bf16"), ("f16", "bf16"), ("bf16", "f16")):
    records += [affine(4, ts, tb, 64)]
for t, step in (("bf16", 8), ("f32", 1)):
    records += [fp("mxfp4", t, 32, 4, 0, step), fp("mxfp8", t, 32, 8, 0, step), fp("nvfp4", t, 16, 4, 0, step)]
records += [fp("nvfp4", "f32", 16, 4, g, 4) for g in (0.37, 2688.0, 1e-3)]
write(f"{sys.argv[1]}/mlx.bin", records)
