#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden sums of quantized weights, by the peers' own code: mlx 0.32.4 on the CPU, the text of its Metal kernels
compiled for the host, compressed-tensors 0.20 and the rule of transformers 5.24's Fp8Quantize with torch 2.15.

    make_quant.py OUT_DIR

Lines of quant_mlx.txt: "<name> <group> <how> <global scale> <SHA-256>": name and how as tests/unit/quant_kit.h and LB_QUANT_HOW
have them, the sum that of codes, scales and biases or zero points of 48 groups of the weights below, which
quant_weights() in quant_kit.c makes too. The one NaN is 0x7fc00000. With STORED the scales and biases are mlx's and the
codes numpy's for them."""
import hashlib
import sys

import numpy as np

import quant_peers as peers

N_GROUPS = 48
CPU, ASYM, TIMES, FLOAT, STORED = 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16


def how_of(t, rounding, bits=0, flags=0):
    return peers.TYPES.index(t) | peers.TYPES.index(rounding) << 4 | bits << 8 | flags


def random_at(i):
    """splitmix64 at places of its sequence."""
    z = (np.asarray(i, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def normal_of(z):
    total = sum(((z >> np.uint64(16 * i)) & np.uint64(0xFFFF)).astype(np.int64) for i in range(4))
    return (total - 131070).astype(np.float32) * np.float32(2.0**-16)


def power_of_2(e):
    return np.exp2(np.asarray(e, np.float64)).astype(np.float32)


def weights(n, group, t, with_odd):
    g = np.arange(n, dtype=np.uint64)
    z = random_at(g[:, None] * np.uint64(group) + np.arange(group, dtype=np.uint64))
    q = random_at(np.uint64(1 << 40) + g)[:, None]
    v, kind = normal_of(z), (g % np.uint64(12))[:, None]
    a, high = np.abs(v), (z >> np.uint64(32)).astype(np.uint32)
    odd = np.array([0x7FC00000, 0x7F800000, 0xFF800000], np.uint32).view(np.float32)
    hot = (np.arange(group) == q % np.uint64(group)) & with_odd
    kinds = [v, v * v * (v * v) * v, np.broadcast_to(v[:, :1], v.shape), (high & 0x80000000).view(np.float32),
             (high & 0x807FFFFF).view(np.float32), -a - 1, v * power_of_2(14 if t == "f16" else 125),
             ((z % np.uint64(61)).astype(np.int64) - 30).astype(np.float32) * np.float32(0.5)
             * power_of_2((q % np.uint64(20)).astype(np.int64) - 10), a + np.float32(0.125),
             v * power_of_2((q % np.uint64(40)).astype(np.int64) - 30), v * power_of_2(-24),
             np.where(hot, odd[((q >> np.uint64(8)) % np.uint64(3)).astype(int)], v)]
    x = np.select([kind == np.uint64(i) for i in range(12)], kinds)
    return peers.store(x.astype(np.float32), t)


def mlx_lines():
    metal = peers.metal()
    cases = [("affine", f"q{b}", g, b, 0) for b in (1, 2, 3, 4, 5, 6, 8) for g in (32, 64, 128)]
    cases += [(m, m, *peers.MODES[m][:2], 0) for m in peers.MODES] + [("nvfp4", "nvfp4", 16, 4, 0.375)]
    for mode, name, group, bits, global_scale in cases:
        for t in peers.TYPES:
            w = weights(N_GROUPS, group, t, mode == "affine")
            for quantize, flag in ((metal, 0), (peers.mlx_cpu, CPU)):
                codes, scales, biases = quantize(mode, w, t, group, bits, global_scale)
                parts = [codes, scales] if biases is None else [codes, peers.one_nan(scales, t), peers.one_nan(biases, t)]
                yield name, group, how_of(t, t, 0, flag), global_scale, parts
                if mode == "affine":
                    parts[0] = peers.stored_codes(w, t, bits, parts[1], parts[2], flag == CPU)
                    yield name, group, how_of(t, t, 0, flag | STORED), 0, parts


def hf_lines():
    for t in peers.TYPES:
        for bits in (2, 3, 4, 5, 6, 7, 8):
            for group in (32, 96, 128):
                for flag in (0, ASYM):
                    w = weights(N_GROUPS, group, t, False)
                    yield "groups", group, how_of(t, t, bits, flag), 0, peers.ct_groups(w, t, bits, flag == 0)
        w = weights(N_GROUPS, 160, t, False)
        yield "f8", 160, how_of(t, t, 8, FLOAT), 0, peers.ct_rows(w, t, "float", True)
        yield "i8", 160, how_of(t, t, 8), 0, peers.ct_rows(w, t, "int", True)
        yield "i8", 160, how_of(t, t, 8, ASYM), 0, peers.ct_rows(w, t, "int", False)
        # without the subnormals, whose factor is infinite
        yield "f8", 160, how_of(t, "f32", 8, TIMES), 0, peers.fp8_rows(w[np.arange(N_GROUPS) % 12 != 4], t)


if __name__ == "__main__":
    with open(f"{sys.argv[1]}/quant_mlx.txt", "w") as f:
        for lines in (mlx_lines(), hf_lines()):
            for name, group, how, global_scale, parts in lines:
                h = hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts))
                f.write(f"{name} {group} {how:#06x} {global_scale} {h.hexdigest()}\n")
