#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""inference.py: reading prompts and generating, against llama-bench, side by side in one run.

    python3 bench/inference.py [--work DIR] [--llama DIR] [--models a,b] [-p 512] [-n 64] [-t 1,2] [--repeat 3] [--fast] [--repack]
                               [--device cuda] [--shape 1.1b|8b|...] [MODEL...]

Models: the demo's SmolLM2-135M as it comes (Q4_1), and a random model of 1.1B parameters (TinyLlama's shape; --shape: of
models.py) in the types below, quantized by lbrx; MLX groups, which llama.cpp does not read, stand beside its nearest type, Q4_1. Both
programs read the same file from a warm page cache with the same number of threads; rounds are interleaved (A B A B), and
each figure is the median of its rounds in tokens a second. llama-bench is built for the processor from the source package
in PyPI unless --llama names a folder that has it. --fast: lbrx rounds activations to eight bits, as llama.cpp does.
--repack: a column for lbrx with that option, which copies the weights as llama.cpp does of the types that it repacks. MODEL:
other GGUF files instead. --device: on that device, against a llama-bench (--llama) that is built for it.

The third figure of a generation is the share of the bandwidth with which as many threads read the file's bytes from
memory in the same run, that is what no program can exceed."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

import models
import peers
from quality import LBRX, demo_model

#        name, type, type that the peer runs (None: the same file)
LARGE = [("q4_k_m", "q4_k_m", None), ("q8_0", "q8_0", None), ("q4_0", "q4_0", None), ("mlx-q4", "mlx-q4", "q4_1"),
         ("bf16", "bf16", None), ("q5_k_m", "q5_k_m", None), ("q6_k", "q6_k", None), ("q2_k", "q2_k", None),
         ("q3_k_m", "q3_k_m", None), ("iq4_xs", "iq4_xs", None), ("iq4_nl", "iq4_nl", None), ("iq3_xxs", "iq3_xxs", None),
         ("iq2_xs", "iq2_xs", None), ("iq1_m", "iq1_m", None)]
# at least so many times the peer's: generation; prompts of the types that it does not repack; of those that it does
GENERATION, PLAIN, REPACKED = 1.1, 2.0, 1.3
REPACKS = {"q4_k_m", "q8_0", "q4_0", "iq4_nl", "mlx-q4", "q4_1", "bf16"}


def run_json(cmd):
    r = subprocess.run(cmd, capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"{' '.join(map(str, cmd))}: exit {r.returncode}\n{r.stderr[-2000:]}")
    return json.loads(r.stdout)


def ours(o, path, threads, *more):
    """{test: (tokens a second, share of the bandwidth or None)}"""
    out = run_json([LBRX, "bench", path, "-p", str(o.p), "-n", str(o.n), "-r", "1", "-t", str(threads), "--json", "-q",
                    *(["--fast"] if o.fast else []), "--device", o.device or "cpu", *more])
    return {r["test"]: (r["tokens_per_second"][0], r.get("bandwidth_share")) for r in out}


def theirs(o, path, threads):
    out = run_json([os.path.join(o.llama, "llama-bench"), "-m", path, "-p", str(o.p), "-n", str(o.n), "-r", "1", "-t",
                    str(threads), "-o", "json", *(["-ngl", "99"] if o.device else [])])
    return {("pp%d" % r["n_prompt"] if r["n_prompt"] else "tg%d" % r["n_gen"]): r["avg_ts"] for r in out}


def rounds(o, path, peer, threads):
    a, b, c = {}, {}, {}
    for _ in range(o.repeat):
        for test, x in ours(o, path, threads).items():
            a.setdefault(test, []).append(x)
        for test, x in theirs(o, peer, threads).items():
            b.setdefault(test, []).append(x)
        for test, x in ours(o, path, threads, "--repack").items() if o.repack else ():
            c.setdefault(test, []).append(x)
    for test in a:
        shares = [s for _, s in a[test] if s]
        yield (test, statistics.median(x for x, _ in a[test]), statistics.median(b[test]),
               statistics.median(shares) if shares else None, statistics.median(x for x, _ in c[test]) if c else None)


def verdict(name, test, ratio, share):
    if test.startswith("tg"):
        return ratio >= GENERATION or (share or 0) >= 0.9
    return ratio >= (REPACKED if name in REPACKS else PLAIN)


def quantized(o, kind):
    path = os.path.join(o.work, f"{o.shape}-{kind}" + ("" if kind.startswith("mlx") else ".gguf"))
    base = os.path.join(o.work, "hf-" + o.shape)
    if os.path.exists(path):
        return path
    if not os.path.exists(os.path.join(base, "config.json")):
        with tempfile.TemporaryDirectory(dir=o.work) as t:
            if not o.tokenizer:
                peers.run([LBRX, "convert", demo_model(o.work), "-o", t + "/hf", "--to", "hf", "-q"])
            models.make(o.shape, base, tokenizer=o.tokenizer or t + "/hf", block=models.gaussian())
    to = ["--to", "mlx"] if kind.startswith("mlx") else []
    weights = []
    if kind.startswith(("iq1", "iq2", "iq3_xxs")):
        weights = ["--imatrix", os.path.join(o.work, "imatrix.gguf")]
        if not os.path.exists(weights[1]):
            models.make_imatrix(models.SHAPES[o.shape], weights[1])
    if kind == "bf16":
        peers.run([LBRX, "convert", base, "-o", path, "-q", "--no-sync"])
    else:
        peers.run([LBRX, "quantize", base, "-o", path, "--type", kind, "-q", "--no-sync", *to, *weights])
    return path


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--work", default="build/bench-inference")
    a.add_argument("--llama", help="folder with llama-bench")
    a.add_argument("--tokenizer", help="folder with the random model's tokenizer and config.json; else the demo's")
    a.add_argument("--models", help="names, of: demo, " + ", ".join(m[0] for m in LARGE))
    a.add_argument("-p", type=int, default=512)
    a.add_argument("-n", type=int, default=64)
    a.add_argument("-t", default="1,2")
    a.add_argument("--repeat", type=int, default=3)
    a.add_argument("--fast", action="store_true")
    a.add_argument("--keep", action="store_true", help="keep the quantized models")
    a.add_argument("--repack", action="store_true")
    a.add_argument("--shape", default="1.1b", choices=sorted(models.SHAPES))
    a.add_argument("--device", help="of both; llama-bench with all layers there")
    a.add_argument("model", nargs="*")
    o = a.parse_args()
    o.work = os.path.abspath(o.work)
    os.makedirs(o.work, exist_ok=True)
    o.llama = peers.llama_tools(o.work, o.llama, ("llama-bench",))
    names = o.model or (o.models.split(",") if o.models else ["demo", *(m[0] for m in LARGE)])
    print(peers.processor() + ", llama.cpp of " + peers.LLAMA + (", --fast" if o.fast else "") + "\n")
    print("| model | test | threads | lbrx | llama.cpp | ratio | of the bandwidth |" + (" --repack | ratio |" if o.repack else "") + " |\n" +
          "|---" * (10 if o.repack else 8) + "|", flush=True)
    for name in names:
        kind, other = next(((k, p) for n, k, p in LARGE if n == name), (None, None))
        path = name if o.model else demo_model(o.work) if name == "demo" else quantized(o, kind)
        peer = quantized(o, other) if other else path
        for threads in o.t.split(","):
            for test, x, y, share, copied in rounds(o, path, peer, threads):
                ok = verdict("q4_1" if name == "demo" else name, test, x / y, share)
                print(f"| {os.path.basename(name)} | {test} | {threads} | {x:.1f} | {y:.1f} | {x / y:.2f} | {f'{share:.0%}' if share else ''} | " +
                      (f"{copied:.1f} | {copied / y:.2f} | " if copied else "") + f"{'' if ok else 'below the aim'} |", flush=True)
        if name != "demo" and not o.keep and not o.model:
            for f in {path, peer}:
                peers.run(["rm", "-rf", f])


if __name__ == "__main__":
    main()
