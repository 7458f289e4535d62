#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ttft.py GGUF...: seconds from the start of a program to its first token, against llama-completion, in one run.

    python3 bench/ttft.py model.gguf [--forms gguf,hf,mlx] [-n 16] [-t 1,2] [--repeat 5] [--llama DIR] [--work DIR]

A prompt of 16 tokens, greedy, from a warm page cache: `lbrx generate -n 1` and `llama-completion -n 1 --no-warmup`, until
the first byte of the answer. The other forms are conversions of the file by lbrx (a folder in bf16, MLX groups); the peer,
which reads GGUF only, stands beside them with the file itself. Runs are interleaved (A B A B); the table has medians of
the seconds and of the processor's seconds of both programs, which say more where other programs run."""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

import peers
from quality import LBRX

WORDS = ("The old harbour of the town lies behind a long wall of stone, where ships from the north used to wait for the "
         "tide and for better weather in the spring").split()


def prompt_of(path, n):
    """Words that are n tokens, or as near above as words allow."""
    for i in range(1, len(WORDS) + 1):
        text = " ".join(WORDS[:i])
        if peers.run([LBRX, "tokenize", path, text, "-q"]).count(",") + 1 >= n:
            return text
    sys.exit(f"-n {n}: the script has no text of so many tokens")


def once(cmd):
    """(seconds to the first byte, processor's seconds of the whole run)"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    t = time.perf_counter()
    p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    first = os.read(p.stdout.fileno(), 1)
    t = time.perf_counter() - t
    p.stdout.read()
    if p.wait():
        sys.exit(f"{' '.join(cmd)}: exit {p.returncode}")
    if not first:
        sys.exit(f"{' '.join(cmd)}: no output")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return t, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def form_of(o, path, form):
    if form == "gguf":
        return path
    out = os.path.join(o.work, f"{os.path.basename(path)}.{form}")
    if not os.path.exists(out):
        peers.run([LBRX, "convert", path, "-o", out, "--to", form, "-q", "--no-sync"])
    return out


def commands(o, form, path, prompt, threads):
    ours = [LBRX, "generate", form, "-p", prompt, "-n", "1", "--temp", "0", "-t", threads, "-q"]
    peer = [os.path.join(o.llama, "llama-completion"), "-m", path, "-p", prompt, "-n", "1", "--temp", "0", "-t", threads,
            "-no-cnv", "--no-warmup", "--no-display-prompt", "--simple-io", "--no-perf"]
    return ours, peer


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("models", nargs="+")
    a.add_argument("--work", default="build/bench-inference")
    a.add_argument("--llama", help="folder with llama-completion")
    a.add_argument("--forms", default="gguf,hf,mlx")
    a.add_argument("-n", type=int, default=16)
    a.add_argument("-t", default="1,2")
    a.add_argument("--repeat", type=int, default=5)
    o = a.parse_args()
    o.work = os.path.abspath(o.work)
    os.makedirs(o.work, exist_ok=True)
    o.llama = peers.llama_tools(o.work, o.llama, ("llama-completion",))
    print(peers.processor() + ", llama.cpp of " + peers.LLAMA + "\n")
    print("| model | form | threads | lbrx, s | of the processor | llama.cpp, s | of the processor | ratio |\n"
          "|---|---|---|---|---|---|---|---|")
    for path in o.models:
        prompt = prompt_of(path, o.n)
        for form in o.forms.split(","):
            for threads in o.t.split(","):
                ours, peer = commands(o, form_of(o, path, form), path, prompt, threads)
                once(ours), once(peer)
                pairs = [(once(ours), once(peer)) for _ in range(o.repeat)]
                x, cx, y, cy = (statistics.median(v) for v in zip(*(p + q for p, q in pairs)))
                print(f"| {os.path.basename(path)} | {form} | {threads} | {x:.3f} | {cx:.3f} | {y:.3f} | {cy:.3f} | "
                      f"{y / x:.1f} |", flush=True)


main()
