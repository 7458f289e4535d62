#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""busy.py MODEL...: what is left of the speed of generating when other programs want the same cores.

    python3 bench/busy.py model.gguf [-t 2] [-n 48] [--others 2] [--repeat 3] [--llama DIR] [--work DIR]

`lbrx bench` and llama-bench, each alone and beside `yes >/dev/null` (as many as --others), interleaved in one run (idle
and busy, A B A B), medians in tokens a second. With as many threads as others on as many cores, half of the time is a
thread's share. Fails where lbrx keeps less than 40 % of its idle speed."""
import argparse
import os
import statistics
import subprocess
import sys

import peers
from inference import ours, theirs

KEEPS = 0.4


class others:
    """Programs that never wait."""

    def __init__(self, n):
        self.n = n

    def __enter__(self):
        self.all = [subprocess.Popen(["yes"], stdout=subprocess.DEVNULL) for _ in range(self.n)]

    def __exit__(self, *_):
        for p in self.all:
            p.kill()
            p.wait()


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("models", nargs="+")
    a.add_argument("--work", default="build/bench-inference")
    a.add_argument("--llama", help="folder with llama-bench")
    a.add_argument("-t", type=int, default=2)
    a.add_argument("-n", type=int, default=48)
    a.add_argument("--others", type=int, default=2)
    a.add_argument("--repeat", type=int, default=3)
    o = a.parse_args()
    o.p, o.fast = 0, False
    o.work = os.path.abspath(o.work)
    os.makedirs(o.work, exist_ok=True)
    o.llama = peers.llama_tools(o.work, o.llama, ("llama-bench",))
    print(peers.processor() + ", llama.cpp of " + peers.LLAMA + f", {o.t} threads, {o.others} others\n")
    print("| model | program | alone | busy | kept |\n|---|---|---|---|---|")
    failed = False
    for path in o.models:
        got = {(name, n): [] for name in ("lbrx", "llama.cpp") for n in (0, o.others)}
        test = f"tg{o.n}"
        for _ in range(o.repeat):
            for n in (0, o.others):
                with others(n):
                    got["lbrx", n].append(ours(o, path, o.t)[test][0])
                    got["llama.cpp", n].append(theirs(o, path, o.t)[test])
        for name in ("lbrx", "llama.cpp"):
            idle, busy = (statistics.median(got[name, n]) for n in (0, o.others))
            failed |= name == "lbrx" and busy < KEEPS * idle
            print(f"| {os.path.basename(path)} | {name} | {idle:.1f} | {busy:.1f} | {busy / idle:.0%} |", flush=True)
    sys.exit(failed)


main()
