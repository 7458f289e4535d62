#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: numpy torch safetensors transformers peft gguf
"""peer_lora_extract.py [--seed S] [--n N]: differences of many spectra, extracted.
  numpy   what A and B leave of each matrix's difference against the best of that rank (numpy's SVD, in double): within
          1 % at random, 1e-6 exact; ranks by energy and by epsilon
  peft    loads it; base and adapter merged are base + B A; biases, norms, embeddings are the tuned model's
  mlx-lm  loads --to mlx, where it is installed
  mergekit-extract-lora (MERGEKIT_BIN: the folder of its programs), where it is named: the same modules, no worse
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
import traceback

sys.dont_write_bytecode = True
import peer_convert as pc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "families"))
import kit
import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

OUT = ("--no-sync", "--force", "-q")
P = "base_model.model."
KINDS = ("flat", "power", "steep", "low_rank", "sparse", "zero", "tiny", "huge", "one_row", "equal", "step", "slow")


def delta(kind, m, n, g):
    x = torch.randn(m, n, generator=g, dtype=torch.float64)
    k = min(m, n)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    i = torch.arange(1, k + 1, dtype=torch.float64)
    sigma = {"power": i ** -0.7, "steep": 0.6 ** i, "step": torch.where(i <= 10, 1.0, 0.3),
             "equal": torch.ones(k, dtype=torch.float64), "slow": torch.exp(-i / 80)}.get(kind)
    if kind == "low_rank":
        return 0.01 * torch.randn(m, 5, generator=g, dtype=torch.float64) @ \
            torch.randn(5, n, generator=g, dtype=torch.float64)
    if kind == "zero":
        return 0 * x
    if kind == "sparse":
        return 0.02 * x * (torch.rand(m, n, generator=g) < 0.02)
    if kind == "one_row":
        x[: m // 2] = 0
        x[m // 2 + 1:] = 0
        return 0.02 * x
    if sigma is not None:
        return 0.3 * (u * sigma) @ v
    return {"tiny": 1e-12, "huge": 1e4}.get(kind, 0.01) * x


def models(r, work, index):
    """Base and tuned model in f32, and the kind of each matrix's difference."""
    bias = index % 3 == 1
    cls, cfg = (transformers.Qwen2ForCausalLM, transformers.Qwen2Config) if bias else \
        (transformers.LlamaForCausalLM, transformers.LlamaConfig)
    heads, large = r.choice([2, 4]), index % 5 == 4
    c = cfg(hidden_size=384 if large else heads * r.choice([16, 24]),
            intermediate_size=r.choice([500, 640] if large else [72, 160, 224]), num_hidden_layers=2,
            num_attention_heads=heads, num_key_value_heads=r.choice([1, heads]), vocab_size=r.choice([300, 328]),
            max_position_embeddings=64, tie_word_embeddings=index % 4 == 3)
    torch.manual_seed(index)
    m = cls(c).float()
    m.save_pretrained(work / "base")
    state = {k: v.clone() for k, v in m.state_dict().items() if not (c.tie_word_embeddings and k == "lm_head.weight")}
    g = torch.Generator().manual_seed(index)
    kinds = {}
    for k, v in state.items():
        if v.dim() == 2 and "embed" not in k and "lm_head" not in k:
            kinds[k] = r.choice(("flat", "power", "slow") if large else KINDS)
            # what f32 holds of base + difference is the difference
            v += delta(kinds[k], *v.shape, g).float()
        elif r.random() < 0.4:
            v += 0.05 * torch.randn(v.shape, generator=g)
    shutil.copytree(work / "base", work / "tuned")
    save_file({k: v.contiguous() for k, v in state.items()}, work / "tuned/model.safetensors", metadata={"format": "pt"})
    return kinds


def best(d, rank):
    s = np.linalg.svd(d, compute_uv=False)
    return float(np.sqrt((s[rank:] ** 2).sum())), s


def check_matrices(what, base, tuned, adapter, kinds, rank, slack):
    worst = 0
    for name, kind in kinds.items():
        stem = P + name.removesuffix(".weight")
        d = (tuned[name].double() - base[name].double()).numpy()
        if stem + ".lora_A.weight" not in adapter:
            pc.check(not d.any(), "%s: %s (%s) has no factors" % (what, name, kind))
            continue
        a, b = adapter[stem + ".lora_A.weight"].double().numpy(), adapter[stem + ".lora_B.weight"].double().numpy()
        pc.check(a.shape[0] == b.shape[1] <= rank, "%s: %s: rank %s" % (what, name, a.shape))
        left, (least, s) = float(np.linalg.norm(d - b @ a)), best(d, a.shape[0])
        norm = float(np.linalg.norm(d))
        # A and B are f32, and so is the difference that they are of
        ok = left <= least * (1 + slack) + 2e-6 * norm
        worst = max(worst, left / least - 1 if least > 1e-4 * norm else 0)
        pc.check(ok, "%s: %s (%s): left %.9g, least %.9g of %.9g" % (what, name, kind, left, least, norm))
        norms = np.abs(np.linalg.norm(a, axis=1) - np.linalg.norm(b, axis=0))
        pc.check((norms <= 1e-5 * max(s[0], 1) ** 0.5 + 1e-6).all(), "%s: %s: scale is not distributed" % (what, name))
    return worst


def check_peft(what, work, base, tuned, adapter, folder):
    m = transformers.AutoModelForCausalLM.from_pretrained(work / "base", dtype=torch.float32)
    m = peft.PeftModel.from_pretrained(m, folder)
    missing = [k for k in adapter if not any(k.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.") == n
                                             or n.replace(".modules_to_save.default", "") == k
                                             for n in m.state_dict())]
    pc.check(not missing, "%s: peft knows no %s" % (what, missing[:3]))
    got = m.merge_and_unload().state_dict()
    for k, w in tuned.items():
        stem = P + k.removesuffix(".weight")
        want = w.double()
        if stem + ".lora_A.weight" in adapter:
            want = base[k].double() + adapter[stem + ".lora_B.weight"].double() @ adapter[stem + ".lora_A.weight"].double()
        near = (got[k].double() - want).abs().max() <= 1e-5 * max(1e-3, want.abs().max())
        pc.check(near, "%s: peft makes another %s" % (what, k))


def energy(what, work, kinds, base, tuned, x):
    pc.lbrx(what, "lora", "extract", work / "base", work / "tuned", "-o", work / "e", "--rank", 32, "--energy", x, "--exact",
            *OUT)
    a = load_file(work / "e/adapter_model.safetensors")
    cfg = json.loads((work / "e/adapter_config.json").read_text())
    for name, kind in kinds.items():
        stem = name.removesuffix(".weight")
        d = (tuned[name].double() - base[name].double()).numpy()
        got = a[P + stem + ".lora_A.weight"].shape[0] if P + stem + ".lora_A.weight" in a else 0
        if not got:
            continue
        pc.check(cfg["rank_pattern"].get(stem, cfg["r"]) == got == cfg["alpha_pattern"].get(stem, cfg["lora_alpha"]),
                 "%s: %s: rank in the config" % (what, name))
        s = np.linalg.svd(d, compute_uv=False) ** 2
        have = s.cumsum() / s.sum()
        least = min(int((have < x * (1 - 1e-6)).sum()) + 1, 32)
        most = min(int((have < x * (1 + 1e-6)).sum()) + 1, 32)
        pc.check(least <= got <= most, "%s: %s (%s): rank %d, not %d..%d" % (what, name, kind, got, least, most))


def mergekit(what, work, kinds, base, tuned, ours):
    tool = os.environ.get("MERGEKIT_BIN")
    if not tool:
        return pc.skip("mergekit: MERGEKIT_BIN is not set")
    p = subprocess.run([tool + "/mergekit-extract-lora", "--model", work / "tuned", "--base-model", work / "base",
                        "--out-path", work / "mk", "--max-rank", "8"], capture_output=True, text=True)
    if p.returncode:
        return pc.skip("%s: mergekit: %s" % (what, p.stderr.strip().splitlines()[-1:]))
    theirs = load_file(work / "mk/adapter_model.safetensors")
    for name, kind in kinds.items():
        stem = P + name.removesuffix(".weight")
        d = (tuned[name].double() - base[name].double()).numpy()
        if stem + ".lora_A.weight" not in ours:
            continue
        pc.check(stem + ".lora_A.weight" in theirs, "%s: mergekit has no %s" % (what, name))
        left = [float(np.linalg.norm(d - x[stem + ".lora_B.weight"].double().numpy() @
                                     x[stem + ".lora_A.weight"].double().numpy())) for x in (ours, theirs)]
        pc.check(left[0] <= left[1] * (1 + 1e-5) + 2e-6 * float(np.linalg.norm(d)),
                 "%s: %s (%s): left %g, mergekit's %g" % (what, name, kind, *left))


def mlx(what, work):
    try:
        import mlx_lm
    except ImportError:
        return pc.skip("mlx_lm is not installed")
    from mlx_lm.tuner.utils import load_adapters
    args = ("lora", "extract", work / "base", work / "tuned", "-o", work / "mlx", "--to", "mlx", "--rank", 8,
            "--skip-undecomposable", "--exclude-regex", "embed|lm_head", *OUT)
    if not pc.lbrx(what, *args):
        return
    model, _ = mlx_lm.utils.load_model(work / "base")
    model = load_adapters(model, str(work / "mlx"))
    pc.check(any("lora_a" in k for k, _ in __import__("mlx").utils.tree_flatten(model.parameters())),
             what + ": mlx-lm has no factors")


def one(r, index, work):
    kinds = models(r, work, index)
    base, tuned = kit.state(work / "base"), kit.state(work / "tuned")
    rank = 64 if index % 5 == 4 else r.choice([1, 4, 8, 16])  # large ones are where an iteration less shows
    what = "#%d rank %d" % (index, rank)
    worst = 0
    for way, slack in (((), 0.01), (("--exact",), 1e-6), (("--power", "1", "--seed", str(index)), 0.06)):
        if not pc.lbrx(what, "lora", "extract", work / "base", work / "tuned", "-o", work / "a", "--rank", rank, *way, *OUT):
            return
        adapter = load_file(work / "a/adapter_model.safetensors")
        off = check_matrices(what + " " + " ".join(way), base, tuned, adapter, kinds, rank, slack)
        worst = max(worst, off if slack == 0.01 else 0)
    check_peft(what, work, base, tuned, adapter, work / "a")
    for k, w in tuned.items():
        if torch.equal(w, base[k]) and w.dim() == 1:
            pc.check(P + k not in adapter, "%s: %s is equal and saved" % (what, k))
    energy(what + " energy", work, kinds, base, tuned, r.choice([0.5, 0.9, 0.99]))
    if index % 2 == 0:
        pc.lbrx(what, "lora", "extract", work / "base", work / "tuned", "-o", work / "k", "--rank", 8, "--exact", *OUT)
        mergekit(what, work, kinds, base, tuned, load_file(work / "k/adapter_model.safetensors"))
    if index % 3 != 1:
        mlx(what, work)
    return worst


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--seed", default="1")
    a.add_argument("--n", type=int, default=9)
    a.add_argument("--only", type=int)
    args = a.parse_args()
    worst = 0
    for i in range(args.n) if args.only is None else [args.only]:
        r = random.Random("%s/%d" % (args.seed, i))
        with tempfile.TemporaryDirectory(prefix="lbrx-extract-") as d:
            try:
                worst = max(worst, one(r, i, pathlib.Path(d)) or 0)
            except Exception:
                pc.check(False, "#%d: %s" % (i, traceback.format_exc()))
    print("beyond the best: %.2g at most" % worst)
    print("peer_lora_extract: %d passed, %d failed, %d skipped [cost: slow] %.1f s" %
          (pc.passed, pc.failed, pc.skipped, time.time() - pc.START))
    sys.exit(pc.failed != 0)


main()
