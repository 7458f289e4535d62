#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tokenizing.py TEXT MODEL... [--lbrx FILE] [-r N]: MB/s of `lbrx tokenize` on a text file, on one core, the opening
of the model taken off (measured with an empty text), medians of N runs; for folders with a tokenizer.json the tokenizers
library beside it (one thread, in the same run, in turn)."""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"


def timed(command, data):
    t = time.perf_counter()
    subprocess.run(command, input=data, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - t


def library(path):
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    return Tokenizer.from_file(str(path)) if path.exists() else None


def main():
    p = argparse.ArgumentParser()
    p.add_argument("text")
    p.add_argument("models", nargs="+")
    p.add_argument("--lbrx", default="build/lbrx")
    p.add_argument("-r", type=int, default=5)
    args = p.parse_args()
    data = pathlib.Path(args.text).read_bytes()
    lines = data.decode("utf-8", "replace").splitlines(keepends=True)
    print("| model | lbrx MB/s | tokenizers MB/s |\n|---|---|---|")
    for m in args.models:
        ours, theirs, t = [], [], library(pathlib.Path(m) / "tokenizer.json")
        for _ in range(args.r):
            ours.append(timed([args.lbrx, "tokenize", m], data) - timed([args.lbrx, "tokenize", m], b""))
            if t:
                start = time.perf_counter()
                for line in lines:
                    t.encode(line)
                theirs.append(time.perf_counter() - start)
        mb = len(data) / 1e6
        print("| %s | %.1f | %s |" % (pathlib.Path(m).name, mb / statistics.median(ours),
                                      "%.1f" % (mb / statistics.median(theirs)) if theirs else ""), flush=True)


sys.exit(main())
