#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_quantize.py >quantize.txt: sums of whole files that llama-quantize (LBRX_LLAMA_QUANTIZE; recipe_peers.py) makes of
models and importance files of tests/tool/make_model.c (MAKE_MODEL); tests/cli/quantize.sh makes the same ones.

    model NAME FAMILY KEY=VALUE...          make_model gguf FAMILY, make_model imatrix FAMILY
    keep NAME : TYPE=SUM...                 of all parts of a model in parts (shard=200000), one behind the other: --keep-split
    run NAME [OPTION...] : TYPE=SUM...      the first 16 digits of the file's SHA-256; i.dat is the importance file
"""
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import recipe_peers as peers

MAKE_MODEL = os.environ["MAKE_MODEL"]
MODELS = {
    "dense": "llama layers=2 hidden=256 ffn=256 heads=2 kv_heads=1 head_dim=32 vocab=64 dtype=bf16",
    "deep": "qwen2 layers=9 hidden=256 ffn=64 heads=1 kv_heads=1 head_dim=32 vocab=64 dtype=f16",
    "moe": "qwen3moe layers=2 hidden=256 ffn=256 heads=2 kv_heads=1 head_dim=32 vocab=64 experts=3 used=1 dtype=f16",
    "rows32": "qwen2 layers=2 hidden=96 ffn=160 heads=3 kv_heads=1 head_dim=32 vocab=64 dtype=f32",
    "rows8": "qwen3 layers=2 hidden=40 ffn=72 heads=3 kv_heads=1 head_dim=8 vocab=64 dtype=f16",
    "tied": "gemma3 layers=2 hidden=256 ffn=256 heads=2 kv_heads=1 head_dim=32 vocab=64 dtype=f32",
    "again": "qwen3moe layers=2 hidden=256 ffn=256 heads=2 kv_heads=1 head_dim=32 vocab=64 experts=3 used=1 dtype=q8_0",
    "one": "qwen3moe layers=2 hidden=256 ffn=64 heads=1 kv_heads=1 head_dim=32 vocab=64 experts=1 used=1 dtype=f16",
}
FEW = "q4_0 q5_1 q8_0 q2_k q3_k_m q4_k_m q5_k_s q6_k iq4_xs iq4_nl tq1_0 mxfp4_moe q2_0".split()
ALL = peers.RECIPES
I = ["--imatrix", "i.dat"]
RUNS = [("dense", [], ALL), ("dense", I, ALL), ("moe", [], ALL), ("moe", I, ALL), ("rows32", [], ALL), ("rows32", I, ALL),
        ("deep", [], FEW), ("deep", I, FEW), ("rows8", [], FEW[:5]), ("tied", [], FEW), ("tied", I, FEW),
        ("again", [], FEW + ["copy", "f16"]), ("again", I, FEW + ["iq2_xs"]),
        ("dense", ["--pure"], ["q4_k_m", "q3_k_s"]), ("dense", ["--leave-output-tensor"], ["q4_k_m"]),
        ("dense", ["--output-tensor-type", "q5_k", "--token-embedding-type", "iq4_nl"], ["q2_k"]),
        ("dense", ["--tensor-type", "ATTN_V=q5_0", "--tensor-type", r"blk\.1\.ffn_(up|down)=q2_k"], ["q4_k_s", "f16"]),
        ("moe", [*I, "--include-weights", "ffn_down", "--include-weights", "blk.1."], ["q4_0", "iq3_s"]),
        ("moe", [*I, "--exclude-weights", "exps"], ["q4_0", "q2_k"]), ("moe", [*I, "--exclude-weights", "blk"], ["q4_0"]),
        ("dense", [*I, "--override-kv", "general.name=str:Another", "--override-kv", "llama.attention.head_count_kv=int:2", "--override-kv",
                   "new.key=float:0.1", "--override-kv", "general.file_type=int:3", "--override-kv", "new.flag=bool:true"], ["q3_k_m", "copy"]),
        ("one", [], ["q8_0", "q4_k_m", "copy"]),
        ("deep", [*I, "--prune-layers", "7,0,3,4"], ["q4_k_m", "q4_0", "copy"]), ("moe", [*I, "--prune-layers", "0"], ["q3_k_m"])]


def main():
    print("# llama-quantize of llama-cpp-python 0.3.36's llama.cpp: MAKE_MODEL=... LBRX_LLAMA_QUANTIZE=... python3 make_quantize.py")
    with tempfile.TemporaryDirectory() as d:
        for name, spec in MODELS.items():
            family, *keys = spec.split()
            for what, path in (("gguf", name), ("imatrix", name + ".dat")):
                subprocess.run([MAKE_MODEL, what, family, path, *keys], cwd=d, check=True, stdout=subprocess.DEVNULL)
            print("model", name, spec)
        for name, options, types in RUNS:
            os.replace(pathlib.Path(d) / (name + ".dat"), pathlib.Path(d) / "i.dat")
            sums = []
            for t in types:
                run = subprocess.run([peers.QUANTIZE, "--allow-requantize", *options, name + "/model.gguf", "out.gguf", t.upper(), "2"], cwd=d,
                                     capture_output=True)
                if run.returncode == 0:
                    sums.append("%s=%s" % (t, hashlib.sha256((pathlib.Path(d) / "out.gguf").read_bytes()).hexdigest()[:16]))
            os.replace(pathlib.Path(d) / "i.dat", pathlib.Path(d) / (name + ".dat"))
            for i in range(0, len(sums), 8):
                print("run", name, *options, ":", *sums[i:i + 8])
        keep(d, "deep", ["q4_k_m", "q3_k_m", "copy"])


def keep(d, name, types):
    family, *keys = MODELS[name].split()
    subprocess.run([MAKE_MODEL, "gguf", family, "parts", "shard=200000", *keys], cwd=d, check=True, stdout=subprocess.DEVNULL)
    first, sums = next(pathlib.Path(d).glob("parts/*-00001-of-*.gguf")), []
    for t in types:
        subprocess.run([peers.QUANTIZE, "--keep-split", str(first), "kept.gguf", t.upper(), "2"], cwd=d, check=True, capture_output=True)
        text = b"".join(x.read_bytes() for x in sorted(pathlib.Path(d).glob("kept-*.gguf")))
        sums.append("%s=%s" % (t, hashlib.sha256(text).hexdigest()[:16]))
    print("keep", name, ":", *sums)


main()
