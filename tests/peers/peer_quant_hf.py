#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch numpy compressed_tensors transformers
"""peer_quant_hf.py: packed groups, integer and E4M3 channels against compressed-tensors' own calculate_qparams,
quantize and pack_to_int32, and blocks against transformers' Fp8Quantize: every width, three groups, every type of
weights, groups of every kind, every instruction set of this machine; matrices with one scale, one a row and one a block
of 128 x 128 by both. LB_TEST_LONG=1: ten times as many groups.

Rows with NaN or Inf are left out (torch's minimum of them is NaN; the kernels count them), and for Fp8Quantize rows so
small that its factor is infinite."""
import os
import time

import quant_cases as qc
import numpy as np

peers = qc.peers
START = time.time()
N = 20000 if os.environ.get("LB_TEST_LONG") else 2000
rng = np.random.default_rng(int(os.environ.get("LB_TEST_SEED", "1"), 0))
groups = 0


def compare(name, group, t, how, peer, min_amax=0):
    global groups
    w, kind = qc.weights(rng, N, group, t)
    x = np.abs(peers.load(w, t))
    keep = np.isfinite(x).all(1) & ((x.max(1) >= min_amax) | (x.max(1) == 0))
    w, n = np.ascontiguousarray(w[keep]), int(keep.sum())
    want = b"".join(np.ascontiguousarray(p).tobytes() for p in peer(w))
    groups += n
    for mask in qc.isa_masks():
        got = qc.run(name, w, how, 0, mask)[: len(want)]
        at = next((i for i in range(0, len(want), 64) if got[i : i + 64] != want[i : i + 64]), None)
        qc.check(at is None, f"{name} of {group}, {t}, how {how:#06x}, isa mask {mask:#x}: byte {at} of {len(want)}")


def compare_matrix(name, t, how, shape, tile, peer):
    """Rows of very different sizes, a block of zeros."""
    global groups
    x = rng.standard_normal(shape).astype(np.float32) ** 3 * np.exp2(rng.integers(-8, 4, (shape[0], 1)).astype(np.float32))
    x[:128, :128] = 0
    w = peers.store(x, t)
    want = b"".join(np.ascontiguousarray(p).tobytes() for p in peer(w))
    groups += 1
    for mask in qc.isa_masks():
        got = qc.run(name, w, how, 0, mask, tile or shape)[: len(want)]
        qc.check(got == want, f"{name} of {shape} in {tile}, {t}, how {how:#06x}, isa mask {mask:#x}")


for t in peers.TYPES:
    for shape in ((256, 384), (300, 200), (129, 513)):
        for tile in (None, (1, shape[1]), (128, 128)):
            for name, kind, symmetric, how in (("f8", "float", True, qc.FLOAT), ("i8", "int", True, 0), ("i8", "int", False, qc.ASYM)):
                compare_matrix(name, t, qc.how_of(t, t, 8, how), shape, tile, lambda w: peers.ct_matrix(w, t, kind, symmetric, tile))
            if tile != (128, 128) or shape == (256, 384):  # it leaves others as they are
                compare_matrix("f8", t, qc.how_of(t, "f32", 8, qc.TIMES), shape, tile, lambda w: peers.fp8_matrix(w, t, tile))
    for bits in (2, 3, 4, 5, 6, 7, 8):
        for group in (32, 96, 128):
            for flag in (0, qc.ASYM):
                compare("groups", group, t, qc.how_of(t, t, bits, flag), lambda w: peers.ct_groups(w, t, bits, flag == 0))
    compare("f8", 192, t, qc.how_of(t, t, 8, qc.FLOAT), lambda w: peers.ct_rows(w, t, "float", True))
    compare("i8", 192, t, qc.how_of(t, t, 8), lambda w: peers.ct_rows(w, t, "int", True))
    compare("i8", 192, t, qc.how_of(t, t, 8, qc.ASYM), lambda w: peers.ct_rows(w, t, "int", False))
    compare("f8", 192, t, qc.how_of(t, "f32", 8, qc.TIMES), lambda w: peers.fp8_rows(w, t), 2.0**-119)

print(f"peer_quant_hf: {groups} groups")
print(f"peer_quant_hf: {qc.passed} passed, {qc.failed} failed, 0 skipped [cost: slow] {time.time() - START:.1f} s")
raise SystemExit(1 if qc.failed else 0)
