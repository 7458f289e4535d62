#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the files of this folder: make_imatrix.py (llama-cpp-python 0.3.36, gguf 0.19), with LBRX_CONVERT_HF_TO_GGUF set
to the former's script. tool.gguf and tool.dat are written by llama-imatrix's own functions, old.dat is the latter as it
was before April 2024, other.gguf is gguf-py's: shapes, counts and order that the tool does not write and llama-quantize
reads. What llama-quantize makes of each is in NAME.txt."""
import tempfile

import numpy as np
from imatrix_peer import HERE, build, read, write, write_gguf

r = np.random.default_rng(7)


def sums(n):
    return (r.standard_normal(n) ** 2 * 1000).astype(np.float32)


edges = np.array([0.0, 1e-45, 1e-38, 3.4e38, 1.0, 1 / 3, 0.1, 7.0, 1e-20, 65504, 16777217, 2.5], np.float32)
entries = {
    "blk.0.attn_q.weight": (edges, [1536]),
    "blk.0.ffn_down_exps.weight": (np.concatenate([sums(6), np.zeros(6), sums(12)]), [700, 0, 3, 16777219]),
    "blk.1.attn_k_b.weight": (sums(24), [1537]),  # a stack of matrices with one count
    "blk.1.ffn_up.weight": (np.zeros(5), [0]),  # never met; the legacy form leaves it out
    "blk.10.attn_q.weight": (sums(7), [1536]),
    "output.weight": (sums(12), [1536]),
}
with tempfile.TemporaryDirectory() as folder:
    host = build(folder)
    write(host, HERE / "tool.gguf", "gguf", 3, 512, "calibration.txt", entries)
    write(host, HERE / "tool.dat", "dat", 3, 512, "calibration.txt", entries)
    raw = (HERE / "tool.dat").read_bytes()
    (HERE / "old.dat").write_bytes(raw[: -8 - len("calibration.txt")])
    write_gguf(HERE / "other.gguf", ["a.txt", "ü b.parquet", ""], 40, 0, {
        "output.weight.counts": [[10.0]],
        "blk.3.ffn_up_exps.weight.in_sum2": sums(20),  # one dimension and four counts
        "blk.3.ffn_up_exps.weight.counts": [0.4, 0.5, 2.5, 1e9],  # 0, 1, 3
        "blk.3.attn_v_b.weight.in_sum2": sums(20).reshape(2, 2, 5),
        "blk.3.attn_v_b.weight.counts": [12.0],
        "blk.2.attn_k.weight.in_sum2": [sums(3)],
        "blk.2.attn_k.weight.in_sum": [sums(3)],  # of a later version of the tool
        "blk.2.attn_k.weight.counts": 5.0,
        "output.weight.in_sum2": np.array([-0.0, 4.0], np.float32),
        "other": [1.0],
    }, alignment=64)
    for name in ("tool.gguf", "tool.dat", "old.dat", "other.gguf"):
        text = read(host, HERE / name, HERE / f"{name}.txt")
        assert text, name
