#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: mlx numpy
"""peer_quant_mlx.py: the quantizers of MLX's types against mx.quantize on the CPU and against the text of its Metal
kernels compiled for the host: every width, group, mode and type of weights, groups of every kind, every instruction
set of this machine; and codes chosen again for the scales that mlx stored, by numpy. LB_TEST_LONG=1: ten times as many
groups.

What is not compared: the signs of codes of mxfp8 in groups with NaN or Inf (infinity times 0, 0 over 0 and NaN, which
machines and types sign as they like)."""
import os
import time

import quant_cases as qc
import numpy as np

peers = qc.peers
START = time.time()
N = 20000 if os.environ.get("LB_TEST_LONG") else 2000
rng = np.random.default_rng(int(os.environ.get("LB_TEST_SEED", "1"), 0))
metal = peers.metal()
skipped = 0 if metal else 1
groups = 0


def compare(mode, name, group, bits, t, rule, quantize, global_scale, flag=0):
    global groups
    w, kind = qc.weights(rng, N, group, t)
    how = qc.how_of(t, t, 0, flag | (qc.CPU if rule == "cpu" else 0))
    codes, scales, biases = quantize(mode, w, t, group, bits, global_scale)
    if flag:
        codes = peers.stored_codes(w, t, bits, scales, biases, rule == "cpu")
    groups += N
    loose = np.full(N, 255, np.uint8)
    if mode == "mxfp8":
        loose[~np.isfinite(peers.load(w, t)).all(1)] = 127
    for mask in qc.isa_masks():
        out = np.frombuffer(qc.run(name, w, how, global_scale, mask), np.uint8)
        c, rest = out[: codes.size].reshape(codes.shape), out[codes.size : -8]
        same = ((c & loose[:, None]) == (codes & loose[:, None])).all(1)
        if biases is None:
            same &= rest == scales
        else:
            s, b = np.frombuffer(rest.tobytes(), w.dtype).reshape(2, N)
            for ours, theirs in ((s, scales), (b, biases)):
                theirs = peers.one_nan(theirs, t)
                same &= (ours == theirs) if t != "f32" else (ours.view(np.uint32) == theirs.view(np.uint32))
        bad = np.bincount(kind[~same], minlength=qc.N_KINDS)
        qc.check(same.all(), f"{name} of {group}, {t}, how {how:#07x}, isa mask {mask:#x}: {N - same.sum()} groups, by kind {bad}")


cases = [("affine", f"q{b}", g, b, 0) for b in (1, 2, 3, 4, 5, 6, 8) for g in (32, 64, 128)]
cases += [(m, m, *peers.MODES[m][:2], 0) for m in peers.MODES]
cases += [("nvfp4", "nvfp4", 16, 4, s) for s in (0.37, 2688.0, 1e-3)]
for mode, name, group, bits, global_scale in cases:
    for t in peers.TYPES:
        for rule, quantize in (("cpu", peers.mlx_cpu), ("metal", metal)):
            if quantize:
                compare(mode, name, group, bits, t, rule, quantize, global_scale)
            if quantize and mode == "affine":
                compare(mode, name, group, bits, t, rule, quantize, 0, qc.STORED)

if not metal:
    print("skip: peer_quant_mlx: no C++ compiler for the text of the Metal kernels")
    if os.environ.get("NOSKIP"):
        qc.failed, skipped = qc.failed + 1, 0
print(f"peer_quant_mlx: {groups} groups")
print(f"peer_quant_mlx: {qc.passed} passed, {qc.failed} failed, {skipped} skipped [cost: slow] {time.time() - START:.1f} s")
raise SystemExit(1 if qc.failed else 0)
