#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch safetensors mergekit
"""peer_merge_methods.py [--seed S] [--n N] [--method M[,M]] [--lbrx FILE]: every merge method on random models against
the functions of mergekit 0.1.5, in both roundings:
  --rounding mergekit    bit for bit: passthrough, linear, task_arithmetic, nearswap, ram, and without rescale ties
                         (mergekit's sort being made stable) and breadcrumbs* (but for equal magnitudes at a
                         threshold); arcee_fusion but for 1 % of the elements, those
                         as important as its threshold; the others within one unit in the last place of the output type, beyond what coefficients that differ by 2^-20 (2^-7
                         where mergekit takes dot products in bf16 or f16) make of it
  --rounding f32         within what the roundings of mergekit's work type can do, of its result in float64
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import torch
from mergekit import merge_methods
from mergekit.merge_methods import arcee_fusion
from mergekit.merge_methods.api import merge_tensors
from safetensors.torch import load_file, save_file

passed = failed = 0
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
METHODS = ("passthrough", "linear", "task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties", "sce", "slerp", "nuslerp", "multislerp", "karcher", "model_stock",
           "nearswap", "arcee_fusion", "ram", "ramplus_tl")
EXACT = ("passthrough", "linear", "task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties", "nearswap", "ram")
SPARSE = ("ties", "breadcrumbs", "breadcrumbs_ties")
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 160,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1, "vocab_size": 96, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 128, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2,
}
SHAPES = {
    "model.embed_tokens.weight": (96, 64), "lm_head.weight": (96, 64), "model.norm.weight": (64,),
    "model.layers.0.self_attn.q_proj.weight": (64, 64), "model.layers.0.self_attn.k_proj.weight": (32, 64),
    "model.layers.0.self_attn.v_proj.weight": (32, 64), "model.layers.0.self_attn.o_proj.weight": (64, 64),
    "model.layers.0.mlp.gate_proj.weight": (160, 64), "model.layers.0.mlp.up_proj.weight": (160, 64),
    "model.layers.0.mlp.down_proj.weight": (64, 160), "model.layers.0.input_layernorm.weight": (64,),
    "model.layers.0.post_attention_layernorm.weight": (64,),
}


# Of equal magnitudes lbrx keeps the first ones.
argsort = torch.argsort
torch.argsort = lambda x, **k: argsort(x, stable=True, **k)
torch.topk = lambda x, k, largest: [y[:k] for y in torch.sort(x, descending=largest, stable=True)]


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL", what, flush=True)
    return ok


# ---- cases ----

def models(r, n, spread, dtypes):
    """A base and variants of it: from nearly the same to unrelated; with zeros, equal values, and huge ones."""
    g = torch.Generator().manual_seed(r.randrange(1 << 30))
    base = {k: torch.randn(s, generator=g) * 0.05 for k, s in SHAPES.items()}
    out = []
    for i in range(n):
        m = {}
        for k, t in base.items():
            d = torch.randn(t.shape, generator=g) * 0.05 * spread
            keep = torch.rand(t.shape, generator=g) < 0.7
            x = t + (d * keep if i else 0)
            x.view(-1)[torch.randint(x.numel(), (3,), generator=g)] = 0.0
            m[k] = x.to(dtypes[i])
        out.append(m)
    return out


def write(folder, state):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def draw(r, method):
    """(number of models, whether one is the base, parameters a model, shared parameters)."""
    w = lambda: round(r.uniform(-0.3, 1.2), 3)
    pos = lambda: round(r.uniform(0.1, 1.2), 3)
    flag = lambda: r.random() < 0.5
    shared, own, n, base = {}, lambda: {}, r.randint(2, 5), True
    if method == "passthrough":
        n, base, own = 1, False, lambda: {"scale": w()} if flag() else {}
    elif method == "linear":
        base, own, shared = False, lambda: {"weight": pos()}, {"normalize": flag()}
    elif method == "task_arithmetic":
        own, shared = lambda: {"weight": w()}, {"normalize": flag(), "lambda": r.choice([1.0, 0.7, 1.3])}
        shared["int8_mask"] = flag()
    elif method in SPARSE:
        d = lambda: r.choice([0.0, 1e-6, 0.01, 0.3, 0.5, 0.9, 1.0, round(r.random(), 3)])
        more = lambda: {"gamma": r.choice([0.0, 0.01, 0.05, 0.6, round(r.random(), 3)])} if method != "ties" and flag() else {}
        own = lambda: {"weight": w(), **({"density": d()} if r.random() < 0.9 else {}), **more()}
        shared = {k: flag() for k in ("normalize", "rescale", "int8_mask") if flag()}
        shared["lambda"] = r.choice([1.0, 0.7, 1.3])
    elif method == "arcee_fusion":
        n = 2
    elif method == "sce":
        shared = {"select_topk": r.choice([0.0, 1e-6, 0.1, 0.3, 0.8, 1.0, round(r.random(), 3)]), "int8_mask": flag()}
    elif method == "slerp":
        n, shared = 2, {"t": r.choice([0.0, 1.0, 0.5, round(r.random(), 3)])}
    elif method == "nuslerp":
        base, own = flag(), lambda: {"weight": pos()}
        n, flat = 2 + base, flag()
        shared = {} if flat else {"nuslerp_flatten": False, "nuslerp_row_wise": flag()}
    elif method == "multislerp":
        base, own, shared = flag(), lambda: {"weight": pos()}, {"normalize_weights": flag()}
    elif method == "karcher":
        base, shared = flag(), {"max_iter": r.choice([1, 3, 10, 30]), "tol": r.choice([1e-5, 1e-9])}
    elif method == "model_stock":
        n, shared = r.randint(3, 5), {"filter_wise": flag()}
    elif method == "nearswap":
        n, shared = 2, {"t": r.choice([0.0, 1e-4, 0.003, 0.01])}
    elif method in ("ram", "ramplus_tl"):
        shared = {"epsilon": r.choice([1e-5, 1e-3, 0.01])}
        if method == "ramplus_tl":
            shared.update(r=r.choice([0.1, 0.5]), alpha=r.choice([0.2, 1.0]))
    return n, base, own, shared


def parameters(m, own, shared):
    out = dict(shared)
    for p in m.spec.parameters:
        values = {k: o[p.name] for k, o in enumerate(own) if p.name in o}
        if p.name not in out and values:
            values = {k: o.get(p.name, p.default) for k, o in enumerate(own) if o}
            out[p.name] = values
    return out


def ulp(x, dtype):
    """One unit in the last place of x in dtype."""
    bits, low = {torch.bfloat16: (8, -133), torch.float16: (11, -24), torch.float32: (24, -149)}[dtype]
    e = torch.frexp(x.abs().double())[1].double() - bits
    return torch.pow(2.0, torch.clamp(e, min=float(low)))


def yaml(folders, method, base_at, own, shared, dtype):
    out = {"merge_method": method, "parameters": shared, "models": []}
    for k, f in enumerate(folders):
        out["models"].append({"model": str(f), **({"parameters": own[k]} if own[k] else {})})
    if base_at is not None:
        out["base_model"] = str(folders[base_at])
    if dtype:
        out["dtype"] = dtype
    return json.dumps(out)  # JSON is YAML


def merge(lbrx, yml, out, rounding):
    cmd = [lbrx, "merge", str(yml), "-o", str(out), "--to", "hf", "--no-sync", "-q", "--force", "--rounding", rounding]
    p = subprocess.run(cmd, capture_output=True, text=True)
    if not check(p.returncode == 0, f"{' '.join(cmd)}: {p.stderr.strip()}"):
        return None
    return load_file(out / "model.safetensors")


def unsure(method, tensors, base_at, own):
    """Elements that the order of equal magnitudes decides, or the sign of a sum that is about 0."""
    base, deltas = tensors[base_at], []
    out = torch.zeros(base.shape, dtype=torch.bool)
    for k, t in enumerate(tensors):
        if k == base_at:
            continue
        d, n = (t - base), t.numel()
        deltas.append(d.double() * own[k]["weight"])
        density = own[k].get("density", 1.0)
        if method == "ties" or density >= 1:
            continue
        kept, top = int(density * n), int(own[k].get("gamma", 0.01) * n)
        top = min(top, n - kept)
        w = d.abs().float()
        s = w.flatten().sort(descending=True).values
        for rank in (top, top + kept):
            if kept and 0 < rank < n and s[rank - 1] == s[rank]:
                out |= w == s[rank]
    return out, sum(deltas).abs() <= 2.0**-20 * sum(d.abs() for d in deltas)


def unsure_fusion(tensors, base_at):
    """Elements as important as the threshold: in f32 divergences are small differences of large sums."""
    base, x = tensors[base_at], tensors[1 - base_at]
    importance = arcee_fusion._compute_importance(x, base).double()
    least = arcee_fusion.DynamicThresholdFusion().calculate_dynamic_threshold(importance)
    delta = (x - base).abs().double()
    noise = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 1e-6}[x.dtype]
    if x.dtype == torch.float32:
        exact = arcee_fusion._compute_importance(x.double(), base.double())
        noise += 1e-7 / max(1e-12, float((exact / delta)[delta > 0].median())) if bool((delta > 0).any()) else 0
    return (importance - least).abs() <= noise * least.abs()


def compare_mergekit(what, method, work, name, ours, want, tensors, total, base_at, rescale, skip):
    """Returns (equal elements, elements)."""
    if not check(ours.dtype == want.dtype and ours.shape == want.shape,
                 f"{what} {name}: {ours.dtype} {tuple(ours.shape)}, {want.dtype} {tuple(want.shape)}"):
        return 0, 1
    bits = {2: torch.int16, 4: torch.int32}[ours.element_size()]
    same = ours.view(bits) == want.view(bits)
    if method == "nearswap" and work == torch.float16:  # 0 times an infinite reciprocal
        same |= want.isnan() & (ours == tensors[base_at])
    same |= skip
    n = int(same.sum()), same.numel()
    if method in EXACT and not rescale:
        check(bool(same.all()), f"{what} {name}: {n[1] - n[0]} of {n[1]} elements differ")
        return n
    coarse = work != torch.float32 and method not in ("slerp", "ramplus_tl")
    size = sum(t.double().abs() for t in tensors)
    if method == "multislerp":  # coefficients are about the weights, and its own in f32 are off by 2^-19
        size *= 2 * max(1, total)
    if method in ("nuslerp", "model_stock") and coarse:  # norms, cosine and what is made of it: each is rounded
        size *= 2
    bound = ulp(want, ours.dtype) + (2.0**-7 if coarse else 2.0**-20) * size
    if method in ("karcher", "multislerp") and work == torch.float16:  # elements of unit vectors are subnormal
        bound += 2.0**-22 * max(t.double().norm() for t in tensors)
    if method == "karcher" and work != torch.float32:
        # models whose angle rounds to 0 are passed over: which ones, is up to the roundings of a unit vector
        t = torch.stack([t.double() for t in tensors])
        bound += t.amax(0) - t.amin(0)
    off = (ours.double() - want.double()).abs() * ~skip
    if method == "arcee_fusion" and not check(int((off > bound).sum()) <= max(4, n[1] // 100),
                                              f"{what} {name}: {int((off > bound).sum())} elements fused or not"):
        return n
    if method == "arcee_fusion":  # exp and log of torch differ in the last bit, and the threshold by them
        return n
    check(bool((off <= bound).all()), f"{what} {name}, mergekit: off by up to {float((off / bound).max()):.3g} of what is allowed")
    return n


def compare_f32(what, name, ours, exact, tensors, skip):
    """One rounding, and what sums in f32 lose."""
    size = sum(t.double().abs() for t in tensors)
    bound = 0.5 * ulp(exact, ours.dtype) + 2.0**-20 * size
    off = (ours.double() - exact).abs() * ~skip
    bad = int((~(off <= bound)).sum())
    check(bad == 0, f"{what} {name}: {bad} elements off in f32, by up to {float((off / bound).max()):.3g} of what is allowed")


def one(args, r, method, folder, tally):
    n, base, own, shared = draw(r, method)
    base_at = r.randrange(n) if base else None
    kinds = list(DTYPES)
    dtype = r.choice(kinds + [None])
    mixed = r.random() < 0.3
    kind = r.choice(kinds)
    stored = [DTYPES[r.choice(kinds) if mixed else kind] for _ in range(n)]
    spread = r.choice([0.02, 0.3, 1.0, 3.0])
    own = [own() if k != base_at else {} for k in range(n)]
    states = models(r, n, spread, stored)
    folders = [folder / f"m{k}" for k in range(n)]
    for f, s in zip(folders, states):
        write(f, s)
    yml = folder / "merge.yml"
    yml.write_text(yaml(folders, method, base_at, own, shared, dtype))
    m = merge_methods.get(method)
    total = sum(o.get("weight", 0) for o in own)
    what = f"{method} {yml.read_text().replace(str(folder) + '/', '')} stored {[str(d)[6:] for d in stored]} spread {spread}"
    params = parameters(m, own, shared)
    ours, plain = (merge(args.lbrx, yml, folder / f"out-{x}", x) for x in ("mergekit", "f32"))
    if not ours or not plain:
        return
    check(set(ours) == set(SHAPES), f"{what}: tensors")
    for name in SHAPES:
        t = [s[name] for s in states]
        work = DTYPES[dtype] if dtype else t[0].dtype
        for x in t:
            work = work if dtype else torch.promote_types(work, x.dtype)
        run = lambda d: merge_tensors(t, m, parameters=params, base_index=base_at, name=name, dtype=d)
        want = run(work).to(ours[name].dtype if method in ("ramplus_tl", "arcee_fusion") else work)
        typed = [x.to(work) for x in t]
        skip = near = torch.tensor(False)
        if method == "arcee_fusion":
            skip, near = unsure_fusion(typed, base_at), unsure_fusion([x.float() for x in t], base_at)
        if method == "sce":
            near = unsure("ties", [x.float() for x in t], base_at, [{"weight": 1.0}] * n)[1]
        if method in SPARSE:
            skip, _ = unsure(method, typed, base_at, own)
            near = torch.logical_or(*unsure(method, [x.float() for x in t], base_at, own))
        a, b = compare_mergekit(what, method, work, name, ours[name], want, typed, total, base_at,
                                shared.get("rescale"), skip)
        c = tally.setdefault((method, str(work)[6:]), [0, 0])
        c[0], c[1] = c[0] + a, c[1] + b
        # sce: which of two elements varies more can be up to the last bit
        exact = run(torch.float32 if method == "sce" else torch.float64).double()
        compare_f32(what, name, plain[name], exact, t, near)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--n", type=int, default=6)
    ap.add_argument("--method", default="")
    ap.add_argument("--lbrx", default=os.environ.get("LBRX", "build/lbrx"))
    args = ap.parse_args()
    names = args.method.split(",") if args.method else METHODS
    tally = {}
    for method in names:
        for k in range(args.n):
            with tempfile.TemporaryDirectory() as d:
                one(args, random.Random(f"{args.seed} {method} {k}"), method, pathlib.Path(d), tally)
    for (method, work), (same, n) in tally.items():
        print(f"{method:16} {work:9} {100 * same / n:7.3f} % of {n} elements are mergekit's bit for bit")
    print(f"{passed} passed, {failed} failed (seed {args.seed})")
    return failed > 0


sys.exit(main())
