#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch numpy safetensors transformers gguf
"""peer_logits.py [--seed S] [--n N] [--family F[,F]] [--tokens N] [--deep]: log-probabilities of tiny random models of
every family (tests/families) by transformers in f32 and by `lbrx score`, from the Hugging Face folder, from its GGUF and
from its MLX form: of all tokens at all positions of a sequence the five most likely, within 1e-3, and the same first.
--deep: with more layers, and windows shorter than the text (tests/families/deep.py)."""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
import peer_convert as pc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "families"))
import deep
import kit
import safetensors
import safetensors.torch
import torch
import transformers

TOLERANCE, TOP = 1e-3, 5
F16_TOLERANCE = 2e-2  # of a GGUF whose norms (value + 1) the reference converter rounds to f16
worst = {}


def reference(folder, ids):
    auto = transformers.AutoModelForCausalLM
    if type(transformers.AutoConfig.from_pretrained(folder)) not in auto._model_mapping:
        auto = transformers.AutoModelForImageTextToText
    m = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return m(torch.tensor([ids])).logits[0].double().log_softmax(-1)


def enliven(folder, family):
    """The weights of tests/families are small, and so would be all differences: norms go to about 1, matrices to a gain of
    about 1, so that every layer counts in the result."""
    for shard in kit.shards(folder):
        with safetensors.safe_open(shard, "pt") as f:
            meta, state = f.metadata(), {k: f.get_tensor(k) for k in f.keys()}
        for k, v in state.items():
            if v.dtype not in (torch.float32, torch.bfloat16, torch.float16) or k.endswith(("_scale_inv", "_scales", "A_log")):
                continue
            x = v.float()
            if "norm" in k.split(".")[-2:][0] or "ln_" in k or ".norm" in k:
                x = 4 * x + (0 if "gemma" in family or "qwen3_5" in family or "qwen3_next" in family else not k.endswith("bias"))
            elif x.ndim > 1:
                x = 2 * x
            state[k] = x.to(v.dtype)
        safetensors.torch.save_file(state, shard, meta)


def score(what, model, ids):
    r = subprocess.run([pc.LBRX, "score", str(model), "--jsonl", "--top", str(TOP), "--kv-type", "f32", "-q"],
                       input=json.dumps({"ids": ids}) + "\n", capture_output=True, text=True)
    if not pc.check(r.returncode == 0, "%s: exit %d: %s" % (what, r.returncode, r.stderr.strip()[:300])):
        return None
    return json.loads(r.stdout)


def compare(what, family, want, got, ids, tolerance=TOLERANCE):
    if got is None:
        return
    d, bad_top = 0.0, 0
    for i, row in enumerate(got["top"]):
        d = max(d, max(abs(want[i, t].item() - lp) for t, lp in row))
        first = want[i].argmax().item()
        bad_top += row[0][0] != first and want[i, first].item() - want[i, row[0][0]].item() > tolerance
    for i in range(1, len(ids)):
        d = max(d, abs(want[i - 1, ids[i]].item() - got["logprobs"][i]))
    worst[family] = max(worst.get(family, 0), d)
    pc.check(not bad_top and d <= tolerance, "%s: log-probabilities differ by %.3g, %d of %d first tokens" %
             (what, d, bad_top, len(ids)))


def convert(what, src, out, to, case):
    flags = ("--no-sync", "--force", "-q", "--dtype", "f32")
    if to == "gguf" and case.pre and not (pathlib.Path(src) / "tokenizer.model").exists():
        flags += ("--set", "tokenizer.ggml.pre=str:gpt-2")
    return pc.lbrx(what, "convert", src, "-o", out, "--to", to, *flags)


def one(f, case, work, n):
    what = "%s %s" % (f, case.label)
    src = kit.build(case, work / case.label)
    enliven(src, f)
    if case.logits is not True and case.logits:
        pc.skip("%s: %s" % (what, case.logits))
        return
    vocab = getattr(kit.family(f), "VOCAB", kit.VOCAB)
    r = random.Random(what)
    ids = [r.randrange(3, vocab) for _ in range(n)]
    try:
        theirs = kit.for_peers(case, src)
        if theirs != src:
            enliven(theirs, f)
        want = reference(theirs, ids)
    except Exception as e:
        pc.skip("%s: transformers: %s" % (what, str(e)[:200]))
        return
    if case.gguf == "no form for biases":
        r = subprocess.run([pc.LBRX, "score", str(src), "--jsonl"], input="{}", capture_output=True, text=True)
        pc.check(r.returncode == 3 and "bias" in r.stderr, "%s: exit %d, refused: %s" % (what, r.returncode, r.stderr[:200]))
        return
    compare(what + " hf", f, want, score(what + " hf", src, ids), ids)
    if not case.gguf and convert(what + " -> gguf", src, work / "x.gguf", "gguf", case):
        compare(what + " gguf", f, want, score(what + " gguf", work / "x.gguf", ids), ids,
                F16_TOLERANCE if case.dtype == "f16" else TOLERANCE)
    if not case.mlx and convert(what + " -> mlx", src, work / "mlx", "mlx", case):
        compare(what + " mlx", f, want, score(what + " mlx", work / "mlx", ids), ids)


def deepened(case, f):
    """None: it cannot have more layers than it has."""
    try:
        out = deep.deepen(case, f)
        edited = f in ("glm4_moe", "ernie4_5_moe", "qwen3_next") or (f.startswith("qwen3_5") and case.tensors)
        if out and not edited:  # by the number of layers that it had
            if f in ("mistral", "mixtral", "starcoder2"):
                out.gguf = "no window"
            with tempfile.TemporaryDirectory(prefix="lbrx-deep-") as d:
                kit.build(out, pathlib.Path(d) / "m")
            return out
    except Exception as e:
        pc.skip("%s %s, deep: %s" % (f, case.label, str(e)[:100]))
    return None


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--seed", default="1")
    a.add_argument("--n", type=int, default=1)
    a.add_argument("--tokens", type=int, default=40)
    a.add_argument("--family", default="")
    a.add_argument("--deep", action="store_true")
    args = a.parse_args()
    pc.logging.disable(pc.logging.CRITICAL)
    for f in args.family.split(",") if args.family else kit.families():
        for i in range(args.n):
            for case in kit.family(f).cases(random.Random("%s/%d" % (args.seed, i))):
                with tempfile.TemporaryDirectory(prefix="lbrx-logits-") as d:
                    try:
                        if args.deep:
                            case = deepened(case, f)
                        if case:
                            one(f, case, pathlib.Path(d), args.tokens)
                    except Exception:
                        pc.check(False, "%s %s: %s" % (f, case.label, traceback.format_exc()))
    print("largest difference: " + ", ".join("%s %.2g" % x for x in sorted(worst.items())))
    print("peer_logits: %d passed, %d failed, %d skipped [cost: slow] %.1f s" %
          (pc.passed, pc.failed, pc.skipped, time.time() - pc.START))
    sys.exit(pc.failed != 0)


main()
