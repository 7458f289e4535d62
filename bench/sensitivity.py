#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sensitivity.py: what `quantize --target-bpw --sensitivity` gains over the weighted error of the weights, at the same size.

    python3 bench/sensitivity.py --work DIR [--bpw 3.75,4.5,5.25] [--write docs/quality.md]

DIR is the work folder of bench/quality.py (its model base.gguf, calibrate.txt, measure.txt, imatrix.gguf). Sensitivity is
measured on the text for calibration, with the importance matrix; the divergence of what comes out on the other text, by
`lbrx perplexity --kl` (exact logits; the second half of each chunk counts). Then the figures that were not run are compared
with runs, for some tensors (--check REGEX). What is there already is not made again."""
import argparse
import json
import math
import os
import re
import statistics
import subprocess

import peers

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
LBRX = os.environ.get("LBRX") or os.path.join(ROOT, "build", "lbrx")
TYPES = "q2_k,q3_k,iq4_xs,q4_k,q5_k,q6_k,q8_0"
BEGIN, END = "<!-- sensitivity -->", "<!-- /sensitivity -->"


def lbrx(*args):
    return subprocess.run([LBRX, *map(str, args), "-q"], check=True, stdout=subprocess.PIPE).stdout


def measured(o, name, *more):
    path = o.path(name)
    if not os.path.exists(path):
        lbrx("sensitivity", o.path("base.gguf"), "-f", o.path("calibrate.txt"), "-o", path, "--types", TYPES, "--imatrix",
             o.path("imatrix.gguf"), "--chunks", o.chunks, "--ctx", o.ctx, *more)
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def divergence(o, model):
    logits = o.path(f"measure-{o.measure}.logits")
    text = ["-f", o.path("measure.txt"), "--chunks", o.measure]
    if not os.path.exists(logits):
        lbrx("perplexity", o.path("base.gguf"), *text, "--save-logits", logits)
    return json.loads(lbrx("perplexity", model, *text, "--kl", logits, "--json"))


def row(o, bpw):
    out, target = [], ["--target-bpw", bpw, "--type", TYPES, "--imatrix", o.path("imatrix.gguf"), "--no-sync", "--force"]
    for more in [], ["--sensitivity", o.path("sensitivity.json")]:
        model = o.path("target.gguf")
        lbrx("quantize", o.path("base.gguf"), "-o", model, *target, *more)
        out.append((os.path.getsize(model), divergence(o, model)))
        os.remove(model)
    (size, error), (_, by) = out
    return (f"| {bpw} | {size / 1e6:.1f} MB | {error['kl_mean']:.4f} ± {error['kl_stderr']:.4f} | {by['kl_mean']:.4f} ± {by['kl_stderr']:.4f} "
            f"| {100 * (by['kl_mean'] / error['kl_mean'] - 1):+.0f} % | {100 * error['top1_agreement']:.1f} % | {100 * by['top1_agreement']:.1f} % "
            f"| {error['perplexity']:.2f} | {by['perplexity']:.2f} |")


def check(o, all_of):
    """By how much figures that follow from errors differ from runs."""
    real = {t["name"]: t for t in measured(o, "sensitivity-check.json", "--anchors", "all", "--tensors", o.check)["tensors"]}
    off, order = [], []
    for t in all_of["tensors"]:
        if t["name"] not in real:
            continue
        other = real[t["name"]]["kl"]
        off += [abs(math.log(a / b)) for a, b, run in zip(t["kl"], other, t["run"]) if a and b and not run]
        order.append(sorted(range(len(other)), key=lambda i: t["kl"][i] or 0) == sorted(range(len(other)), key=lambda i: other[i] or 0))
    off.sort()
    return (f"Figures of {len(order)} tensors that were not run ({len(off)} of them), against runs: {100 * (math.exp(statistics.median(off)) - 1):.0f} % off in "
            f"the median, {100 * (math.exp(off[int(len(off) * .9)]) - 1):.0f} % at the 90th percentile; all types in the right order in {sum(order)} of {len(order)} tensors.")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", required=True)
    p.add_argument("--bpw", default="3.75,4.5,5.25")
    p.add_argument("--chunks", type=int, default=2)
    p.add_argument("--ctx", type=int, default=256)
    p.add_argument("--measure", type=int, default=5, help="chunks of 512 tokens for the divergence")
    p.add_argument("--check", default=r"blk\.(3|15|27)\.(attn_q|attn_v|ffn_down|ffn_up)")
    p.add_argument("--write")
    o = p.parse_args()
    o.path = lambda name: os.path.join(o.work, name)
    s = measured(o, "sensitivity.json")
    lines = [f"{peers.processor()}; sensitivity from {s['chunks']} chunks of {s['ctx']} tokens ({len(s['tensors'])} tensors, {len(s['types'])} types, two of each "
             f"run), divergence from {o.measure} chunks of 512.", "",
             "| bits a value | file | KL, by weighted error | KL, by sensitivity | change | same top-1 | by sensitivity | perplexity | by sensitivity |",
             "|---|---|---|---|---|---|---|---|---|",
             *(row(o, b) for b in o.bpw.split(",")), "", check(o, s)]
    text = "\n".join(lines)
    print(text)
    if o.write:
        with open(o.write, encoding="utf-8") as f:
            page = f.read()
        page = re.sub(f"(?s){BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}\n{END}", page)
        with open(o.write, "w", encoding="utf-8") as f:
            f.write(page)


main()
