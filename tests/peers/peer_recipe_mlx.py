#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch numpy safetensors transformers mlx mlx_lm
"""peer_recipe_mlx.py [--seed S] [--n RUNS] [--family F[,F]]: what src/quant/mlx_recipe.h decides for tiny models of every
family, as they are and with more layers, against mlx-lm, for random types, groups, recipes and overrides. MLX_RECIPE names
tests/tool/mlx_recipe.c's program.
  type of every module, config.json's object with its order, refusals    quantize_model of the loaded model
  the same, types of what is not quantized and of scales                 mlx_lm.convert's folder, one run a model
  bytes of all tensors, the index, config.json of lbrx quantize          the same folder (codes by mlx's rule for the CPU)
A model that mlx-lm has no class for is counted, and must be decided all the same.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "families"), str(TESTS / "golden" / "quant")]
START, TOOL, LBRX = time.time(), os.environ.get("MLX_RECIPE", ""), os.environ.get("LBRX", "")
LONG = bool(os.environ.get("LB_TEST_LONG"))
passed = failed = skipped = classless = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL: " + what)
    return ok


def ours(folder, runs):
    """A list of decide's results; a refusal is a text."""
    p = subprocess.run([TOOL, str(folder), *runs], capture_output=True, text=True)
    if not check(p.returncode == 0, "%s: %s" % (folder, p.stderr)):
        return []
    out, lines = [], p.stdout.splitlines()
    while lines:
        end = lines.index("done")
        head, rest, lines = lines[0], lines[1:end], lines[end + 1:]
        types = dict(x.split(" ", 1) for x in rest)
        out.append(head if head.startswith("error ") else (mp.pairs(head), types))
    return out


def draw(r):
    t = r.choice(mp.TYPES + mp.MIXED)
    run = t if t[4:] in mp.MODES else "%s%s" % (t, r.choice(["", "/32", "/64", "/128"]))
    if r.random() < 0.15 and t not in mp.MIXED:
        run = "pure " + run
    group = mp.parse(run)[2]
    for pattern in r.sample(["embed_tokens", "proj", r"layers\.[13]\..*down", r"\.0\.", "lm_head|router|gate", r"(k|v)_proj\.weight$"], 2):
        # mlx-lm asks first whether rows divide into the groups of its default
        kinds = ["mlx-q3", "mlx-q6", "mlx-q8", "bf16"] if t[4:] not in mp.MODES else [t, "f16"]
        if r.random() < 0.2:
            run += " %s=%s" % (pattern, r.choice(kinds))
    return run


def same_refusal(got, want):
    """For the same reason."""
    both = ("the model has no tensor with 'down_proj'", "does not have expected keys"), \
           ("no multiple of 64, but mlx-lm's class", "last dimension of the matrix needs to be divisible")
    return isinstance(got, str) and isinstance(want, str) and any(a in got and b in want for a, b in both)


def compare(what, folder, runs):
    for run, got in zip(runs, ours(folder, runs)):
        want, w = mp.decide(folder, run), "%s %s" % (what, run)
        if isinstance(got, str) and "the pattern is in the name of no tensor" in got:
            continue
        if isinstance(want, str) or isinstance(got, str):
            check(same_refusal(got, want), "%s: %s, mlx-lm: %s" % (w, got, want))
            continue
        check(got[0] == want[0], "%s: config\n  ours   %s\n  theirs %s" % (w, got[0], want[0]))
        mine = {k[:-7]: " ".join(v.split(" ")[:3]) for k, v in got[1].items() if " - - " not in v}
        check(mine == want[1], "%s: %s" % (w, sorted(set(mine.items()) ^ set(want[1].items()))[:6]))


def headers(folder):
    out = {}
    for f in kit.shards(folder):
        out.update({k: v["dtype"] for k, v in kit.header(f).items() if k != "__metadata__"})
    return out


def whole(what, folder, out, run):
    """mlx_lm.convert's own folder: its config, and types of tensors. True: it has made one."""
    why, (got,) = mp.convert(folder, out, run), ours(folder, [run])
    if isinstance(got, str) and "the pattern is in the name of no tensor" in got:
        return False
    if why or isinstance(got, str):
        check(same_refusal(got, why), "%s %s: %s, mlx_lm.convert: %s" % (what, run, got, why))
        return False
    c = json.loads((out / "config.json").read_text(), object_pairs_hook=lambda x: list(map(list, x)))
    for key in ("quantization", "quantization_config"):
        check([v for k, v in c if k == key] == [got[0]], "%s %s: %s of mlx_lm.convert" % (what, run, key))
    plain, made = headers(folder), headers(out)
    for name, choice in got[1].items():
        stem, mode = name[:-7], choice.split(" ")[0]
        if " - - " in choice:
            asked = choice.endswith(" override")  # the type is the command's own work
            check(asked or made.get(name) == plain[name], "%s %s: %s is %s, was %s" % (what, run, name, made.get(name), plain[name]))
            continue
        want = {"weight": "U32", "scales": plain[name] if mode == "affine" else "U8", "biases": plain[name] if mode == "affine" else None}
        have = {p: made.get("%s.%s" % (stem, p)) for p in want}
        check(want == have, "%s %s: %s: %s, expected %s" % (what, run, stem, have, want))
    return True


# The class writes into the config that it was given.
MLX_WRITES = {"lfm2-vl": "text_config"}


def raw(folder):
    out = {}
    for f in kit.shards(folder):
        data = f.read_bytes()
        at = 8 + int.from_bytes(data[:8], "little")
        out.update({k: (v["dtype"], v["shape"], data[at + v["data_offsets"][0]:at + v["data_offsets"][1]])
                    for k, v in kit.header(f).items() if k != "__metadata__"})
    return out


def command(what, src, theirs, out, run):
    """lbrx quantize of the source against the folder that mlx_lm.convert has made."""
    pure, name, group, overrides = mp.parse(run)
    if any(kind in ("f16", "bf16") for _, kind in overrides):  # mlx-lm has no types for single tensors
        return
    shutil.rmtree(out, ignore_errors=True)
    args = ["--group-size", str(group)] * bool(group) + ["--pure"] * pure + [x for o in overrides for x in ("--override", "=".join(o))]
    p = subprocess.run([LBRX, "quantize", str(src), "-o", str(out), "--to", "mlx", "--type", name, "--mlx-rule", "cpu", "--no-sync", "-q",
                        *args], capture_output=True, text=True)
    if not check(p.returncode == 0, "%s quantize %s: %s" % (what, run, p.stderr)):
        return
    a, b = raw(out), raw(theirs)
    check(a == b, "%s quantize %s: tensors %s" % (what, run, [(k, k in a and a[k][:2], k in b and b[k][:2]) for k in sorted(a.keys() | b.keys())
                                                              if a.get(k) != b.get(k)][:4]))
    a, b = (json.loads((d / "config.json").read_text()) for d in (out, theirs))
    a, b = ({k: json.dumps(v) for k, v in c.items() if k != MLX_WRITES.get(c["model_type"])} for c in (a, b))
    check(list(a.items()) == list(b.items()), "%s quantize %s: config.json: %s" % (what, run, sorted(set(a.items()) ^ set(b.items()))[:4]))
    a, b = (json.loads((d / "model.safetensors.index.json").read_text()) for d in (out, theirs))
    check(a["weight_map"] == b["weight_map"] and a["metadata"]["total_size"] == b["metadata"]["total_size"], "%s quantize %s: index" % (what, run))


def one(f, case, work, r, n):
    global classless
    src, folder = kit.build(case, work / "src"), work / "mlx"
    shutil.rmtree(folder, ignore_errors=True)
    p = subprocess.run([LBRX, "convert", str(src), "-o", str(folder), "--to", "mlx", "--no-sync", "-q"], capture_output=True, text=True)
    if p.returncode == 3 and case.mlx:
        return
    if not check(p.returncode == 0, "%s %s: %s" % (f, case.label, p.stderr)):
        return
    runs = ["mlx-q4/32", "mlx-mxfp4", "mlx-mixed_3_6"] + [draw(r) for _ in range(n)]
    why = mp.load(folder)
    if isinstance(why, str):
        classless += 1
        for run, got in zip(runs, ours(folder, runs)):
            check(isinstance(got, str) or got[1], "%s %s %s: nothing is decided" % (f, case.label, run))
        return
    compare("%s %s" % (f, case.label), folder, runs)
    run = r.choice(runs)
    made = whole("%s %s" % (f, case.label), folder, work / "q", run)
    # codes of the source: mlx-lm keeps what it can, lbrx makes all anew
    if made and "quantization" not in json.loads((folder / "config.json").read_text()):
        command("%s %s" % (f, case.label), src, work / "q", work / "ours", run)
    layers = r.randint(5, 33)
    if mp.deepen(folder, layers) and not isinstance(mp.load(folder), str):
        deep["yes"] += 1
        compare("%s %s of %d layers" % (f, case.label, layers), folder, [r.choice(mp.MIXED) + r.choice(["", "/32"]), draw(r)])


deep = {"yes": 0}


def main():
    global skipped, kit, mp
    a = argparse.ArgumentParser()
    a.add_argument("--seed", default="1")
    a.add_argument("--n", type=int, default=12 if LONG else 3)
    a.add_argument("--family", default="")
    args = a.parse_args()
    try:
        import kit
        import mlx_peers as mp
    except ImportError as e:
        print("skip: peer_recipe_mlx: %s" % e)
        skipped = 1
    else:
        import logging
        logging.disable(logging.CRITICAL)
        r = random.Random(args.seed)
        with tempfile.TemporaryDirectory(prefix="lbrx-recipe-mlx-") as d:
            for f in args.family.split(",") if args.family else kit.families():
                for case in kit.family(f).cases(random.Random("%s/0" % args.seed)):
                    one(f, case, pathlib.Path(d), r, args.n)
        print("%d models without a class of mlx-lm, %d with more layers" % (classless, deep["yes"]))
    if os.environ.get("NOSKIP"):
        globals().update(failed=failed + skipped, skipped=0)
    print("peer_recipe_mlx: %d passed, %d failed, %d skipped [cost: slow] %.1f s" % (passed, failed, skipped, time.time() - START))
    sys.exit(failed != 0)


main()
