#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""merge.py: `lbrx merge` against the floor (inputs read once, or twice where a method needs a number of the whole
tensor first, output written) and against mergekit 0.1.5, side by side in one run.

    python3 bench/merge.py [--work DIR] [--methods ties,linear] [--no-peer | --mergekit FILE] [--peer-part 4] [--repeat 3]

First table: three models of the 1.1B shape in bf16 (a base of normal values and two that are near it; two where the
method takes two), to a folder, all threads, warm page cache, no sync. The floor is that of bench/convert.py:
`cat inputs > /dev/null`, twice where lbrx reads twice, and `dd if=/dev/zero bs=256K` of as many bytes as are written;
rounds are interleaved, medians stand in the table. Second table: the same with 1/PART of the layers and of the
vocabulary (--peer-part 1: all of it, which takes mergekit half an hour), lbrx and mergekit one after the other.
mergekit is installed from PyPI unless --mergekit names its mergekit-yaml. Third table: ten models of the shape of
Llama 2 70B, holes for data: planned, and their first two layers merged with `--to none`, within 512 MB.

Peak memory is anonymous memory (RssAnon of /proc, looked at every 5 ms). Needs 9 GB in the work folder (--small: 1/8
of it, to try the script out)."""
import argparse
import json
import os
import statistics
import sys

import models
import peers
from convert import drop, floor, size_of, weights
from quality import LBRX, ROOT
from quantize import Run, median, must

# method: models, whether the first is the base, parameters of a model, of all; at most times the floor, at least
# times faster than mergekit
W = {"weight": 0.5}
D = {"weight": 0.5, "density": 0.5}
METHODS = {
    "linear": (3, False, W, {}, 1.5, 10),
    "task_arithmetic": (3, True, W, {}, 1.5, 10),
    "slerp": (2, True, {}, {"t": 0.4}, 1.5, 10),
    "nuslerp": (2, False, W, {}, 1.5, 10),
    "multislerp": (3, False, W, {}, 1.5, 10),
    "karcher": (3, False, {}, {}, 1.5, 10),
    "model_stock": (3, True, {}, {}, 1.5, 10),
    "ties": (3, True, D, {}, 3, 50),
    "breadcrumbs": (3, True, {**D, "gamma": 0.01}, {}, 3, 50),
    "sce": (3, True, {}, {"select_topk": 0.5}, 3, None),
    "dare_linear": (3, True, D, {}, 3, 25),
    "dare_ties": (3, True, D, {}, 3, 25),
    "della": (3, True, {**D, "epsilon": 0.1}, {}, 3, 25),
    "della_linear": (3, True, {**D, "epsilon": 0.1}, {}, 3, 25),
    "breadcrumbs_ties": (3, True, {**D, "gamma": 0.01}, {}, 3, 50),
    "arcee_fusion": (2, True, {}, {}, None, None),
    "nearswap": (2, True, {}, {"t": 0.001}, None, None),
    "ram": (3, True, {}, {}, None, None),
    "ramplus_tl": (3, True, {}, {}, None, None),
    "lines": (3, True, {}, {}, None, None),
    "consensus_ta": (3, True, {}, {"k": 1}, None, None),
    "cabs": (3, True, {}, {}, None, None),
    "pcb": (3, True, {}, {}, None, None),
}
OWN = {"lines", "consensus_ta", "cabs", "pcb"}  # mergekit has none of these
DEFAULT = ["linear", "task_arithmetic", "slerp", "nuslerp", "multislerp", "karcher", "model_stock", "ties", "breadcrumbs", "sce",
           "dare_ties", "della"]
BUDGET = 512 << 20


def known():
    return {m["name"] for m in json.loads(must(Run([LBRX, "merge", "--methods", "--json"])).text)}


def make_models(work, shape, prefix):
    """Three folders: a base and two that are near it."""
    out = []
    for i in range(3):
        path = os.path.join(work, f"{prefix}-{i}")
        if not os.path.exists(path):
            block = models.gaussian()
            drop(path + ".partial")
            models.SHAPES["bench"] = shape
            models.make("bench", path + ".partial", block=models.near(block, i) if i else block)
            os.rename(path + ".partial", path)
        out.append(path)
    return out


def merge_file(work, name, folders):
    n, based, own, shared, _, _ = METHODS[name]
    listed = [{"model": f, **({} if based and i == 0 or not own else {"parameters": own})} for i, f in enumerate(folders[:n])]
    path = os.path.join(work, f"{name}.yml")
    with open(path, "w") as f:
        json.dump({"merge_method": name, "models": listed, "parameters": shared, "dtype": "bfloat16",
                   **({"base_model": folders[0]} if based else {})}, f)
    return path, folders[:n]


def lbrx(yml, out, *more):
    return must(Run([LBRX, "merge", yml, "-o", out, "--no-sync", "-q", "--memory", "512MB", *more]))


def bytes_read(yml, out):
    drop(out)
    return json.loads(lbrx(yml, out, "--json").text)["bytes_read"]


def against_floor(o, names):
    shape = models.part("1.1b", 8) if o.small else models.SHAPES["1.1b"]
    folders, out = make_models(o.work, shape, "merge-small" if o.small else "merge-1.1b"), os.path.join(o.work, "merged")
    print(f"\n{size_of(folders[0]) / 1e9:.2f} GB of bf16 a model, {peers.cores()} threads, {o.repeat} rounds\n")
    print("| method | models | reads | lbrx / floor | asked | floor | lbrx | CPU | peak |\n|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in names:
        yml, inputs = merge_file(o.work, name, folders)
        files = [f for d in inputs for f in weights(d)]
        stored = sum(os.path.getsize(f) for f in files)
        passes = max(1, round(bytes_read(yml, out) / stored))  # warms the cache
        n, f, l = size_of(out), [], []
        for _ in range(o.repeat):
            drop(out)
            f.append(floor(files * min(passes, 2), n, o.work))
            l.append(lbrx(yml, out))
        drop(out)
        fm, lm, asked = statistics.median(f), median(l, "wall"), METHODS[name][4]
        print(f"| {name} | {len(inputs)} | {passes} | {lm / fm:.2f} | {asked or ''} | {fm:.2f} s | {lm:.2f} s | {median(l, 'cpu'):.2f} s | "
              f"{median(l, 'peak') / 1e6:.0f} MB |", flush=True)
    if not o.keep:
        for d in folders:
            drop(d)


def against_mergekit(o, names):
    part = 32 if o.small else o.peer_part
    shape = models.SHAPES["1.1b"] if part == 1 else models.part("1.1b", part)
    folders = make_models(o.work, shape, f"merge-part{part}")
    tool = o.mergekit or os.path.join(os.path.dirname(peers.venv(o.work, ["mergekit==0.1.5", "torch", "transformers"])), "mergekit-yaml")
    out, theirs = os.path.join(o.work, "merged"), os.path.join(o.work, "merged-peer")
    print(f"\n{size_of(folders[0]) / 1e6:.0f} MB of bf16 a model, {peers.cores()} threads, {o.repeat} rounds, of mergekit {o.peer_repeat}\n")
    print("| method | mergekit / lbrx | asked | lbrx | mergekit | CPU, lbrx | CPU, mergekit | peak, lbrx | peak, mergekit |\n"
          "|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in (n for n in names if n not in OWN):
        yml, _ = merge_file(o.work, name, folders)
        l, p = [], []
        for i in range(max(o.repeat, o.peer_repeat)):
            drop(out)
            l.append(lbrx(yml, out))
            if i < o.peer_repeat:
                drop(theirs)
                p.append(must(Run([tool, yml, theirs, "--quiet", "--no-copy-tokenizer", "--random-seed", "0"])))
        drop(out)
        drop(theirs)
        asked = METHODS[name][5]
        print(f"| {name} | {median(p, 'wall') / median(l, 'wall'):.0f}x | {str(asked) + 'x' if asked else ''} | {median(l, 'wall'):.2f} s | "
              f"{median(p, 'wall'):.1f} s | {median(l, 'cpu'):.2f} s | {median(p, 'cpu'):.1f} s | {median(l, 'peak') / 1e6:.0f} MB | "
              f"{median(p, 'peak') / 1e6:.0f} MB |", flush=True)
    if not o.keep:
        for d in folders:
            drop(d)


def large(o, names):
    """Ten models of 70B, as sparse files."""
    folders = [os.path.join(o.work, f"merge-70b-{i}") for i in range(10)]
    for f in folders:
        drop(f)
        models.make("70b", f, sparse=True)
    print("\nten models of the 70B shape, 1.4 TB that are holes, --memory 512MB\n")
    print("| method | what | wall | CPU | peak |\n|---|---|---|---|---|", flush=True)
    for name in (n for n in ("linear", "ties", "model_stock", "dare_ties", "della") if n in names):
        _, based, own, shared, _, _ = METHODS[name]
        given = lambda i: {"parameters": own} if own and not (based and i == 0) else {}
        head = {"merge_method": name, "parameters": shared, "dtype": "bfloat16", **({"base_model": folders[0]} if based else {})}
        whole, first = (os.path.join(o.work, f"70b-{k}.yml") for k in ("whole", "first"))
        with open(whole, "w") as f:
            json.dump({**head, "models": [{"model": m, **given(i)} for i, m in enumerate(folders)]}, f)
        with open(first, "w") as f:
            json.dump({**head, "slices": [{"sources": [{"model": m, "layer_range": [0, 1], **given(i)}
                                                       for i, m in enumerate(folders)]}]}, f)
        for what, yml, more in (("plan", whole, ["--dry-run"]), ("the first layer, embedding and head", first, ["--to", "none"])):
            r = must(Run([LBRX, "merge", yml, "-q", "--memory", "512MB", *more,
                          *(["-o", os.path.join(o.work, "none")] if "--dry-run" in more else [])]))
            over = "" if r.peak <= BUDGET else " TOO MUCH"
            print(f"| {name} | {what} | {r.wall:.1f} s | {r.cpu:.1f} s | {r.peak / 1e6:.0f} MB{over} |", flush=True)
    for f in folders:
        drop(f)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--work", default=os.path.join(ROOT, "build", "bench"))
    a.add_argument("--methods", help="separated by commas; all: every one that it knows")
    a.add_argument("--mergekit", help="mergekit-yaml of mergekit 0.1.5")
    a.add_argument("--no-peer", action="store_true")
    a.add_argument("--peer-part", type=int, default=4)
    a.add_argument("--repeat", type=int, default=3)
    a.add_argument("--peer-repeat", type=int, default=1)
    a.add_argument("--only", choices=["floor", "peer", "large"])
    a.add_argument("--small", action="store_true", help="1/8 of everything, to try the script out")
    a.add_argument("--keep", action="store_true", help="the models, for another run")
    o = a.parse_args()
    o.work = os.path.abspath(o.work)
    os.makedirs(o.work, exist_ok=True)
    asked = list(METHODS) if o.methods == "all" else o.methods.split(",") if o.methods else DEFAULT
    if set(asked) - set(METHODS):
        sys.exit(f"unknown: {', '.join(sorted(set(asked) - set(METHODS)))}")
    there = known()
    names = [n for n in asked if n in there]
    print(peers.processor())
    for n in asked:
        if n not in there:
            print(f"this build has no method {n}")
    if o.only in (None, "floor"):
        against_floor(o, names)
    if o.only in (None, "peer") and not o.no_peer:
        against_mergekit(o, names)
    if o.only in (None, "large"):
        large(o, names)


if __name__ == "__main__":
    main()
