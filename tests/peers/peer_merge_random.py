#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch safetensors mergekit
"""peer_merge_random.py [--seed S] [--n N] [--method M[,M]] [--lbrx FILE]: methods that draw random numbers, on random
models of twelve layers, against whole merges by mergekit 0.1.5 with --random-seed:
  --rounding mergekit    bit for bit where nothing is rescaled; else within one unit in the last place of the output
                         type beyond what a scale off by 2^-20 (2^-7 where mergekit has it in bf16) makes of it; but
                         for elements of equal magnitude in a row, whose order is up to torch's sort (della)
  --rounding f32         the same elements are kept; and (dare) within what roundings in f32 can do, of float64
and seeds that differ make results that differ."""
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
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.merge_methods.api import merge_tensors
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

passed = failed = 0
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
METHODS = ("dare_linear", "dare_ties", "della", "della_linear")
N_LAYERS = 12  # layer 10 comes before layer 2
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 24, "intermediate_size": 40,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": N_LAYERS, "vocab_size": 50,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 128, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "head_dim": 6,
}
LAYER = {
    "self_attn.q_proj": (24, 24), "self_attn.k_proj": (12, 24), "self_attn.v_proj": (12, 24), "self_attn.o_proj": (24, 24),
    "mlp.gate_proj": (40, 24), "mlp.up_proj": (40, 24), "mlp.down_proj": (24, 40), "input_layernorm": (24,),
    "post_attention_layernorm": (24,),
}


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL", what, flush=True)
    return ok


def shapes(tied):
    out = {"model.embed_tokens.weight": (50, 24), "model.norm.weight": (24,)}
    if not tied:
        out["lm_head.weight"] = (50, 24)
    for i in range(N_LAYERS):
        out.update({f"model.layers.{i}.{k}.weight": s for k, s in LAYER.items()})
    return out


def models(r, n, tied, dtypes):
    g = torch.Generator().manual_seed(r.randrange(1 << 30))
    base = {k: torch.randn(s, generator=g) * 0.05 for k, s in shapes(tied).items()}
    out = []
    for i in range(n):
        m = {}
        for k, t in base.items():
            d = torch.randn(t.shape, generator=g) * 0.02 * (torch.rand(t.shape, generator=g) < 0.9)
            m[k] = (t + (d if i else 0)).to(dtypes[i])
        out.append(m)
    return out


def draw(r, exact):
    """Parameters a model, shared ones."""
    some = [0.25, 0.5, 0.625, 0.9375, 0.0625] + ([] if exact else [0.3, 0.66, 0.9, 0.1, 0.999])
    own = lambda: {"weight": round(r.uniform(-0.3, 1.2), 3), "density": r.choice(some + [1.0, 0.0])}
    shared = {}
    if r.random() < 0.6:
        shared["rescale"] = r.random() < 0.3
    for k, values in (("normalize", (True, False)), ("lambda", (1.0, 0.7, 1.3)), ("int8_mask", (True, False))):
        if r.random() < 0.5:
            shared[k] = r.choice(values)
    return own, shared


def della(r, own, density):
    """Of 0 < density - epsilon and density + epsilon < 1, but for densities that need none."""
    if 0 < density < 1:
        own["epsilon"] = min(density, 1 - density) * r.choice([0.3, 0.7, 0.95])


def ulp(x, dtype):
    bits, low = {torch.bfloat16: (8, -133), torch.float16: (11, -24), torch.float32: (24, -149)}[dtype]
    e = torch.frexp(x.abs().double())[1].double() - bits
    return torch.pow(2.0, torch.clamp(e, min=float(low)))


def merge(lbrx, yml, out, rounding, seed):
    cmd = [lbrx, "merge", str(yml), "-o", str(out), "--to", "hf", "--no-sync", "-q", "--force", "--rounding", rounding,
           "--seed", str(seed)]
    p = subprocess.run(cmd, capture_output=True, text=True)
    if not check(p.returncode == 0, f"{' '.join(cmd)}: {p.stderr.strip()}"):
        return None
    return load_file(out / "model.safetensors")


def loose(method, states, base_at, own, name, work):
    """della: elements whose magnitude is another's of their row too (which of them comes first is up to torch's sort),
    and their greatest share of what is kept."""
    any_tied = torch.zeros(states[0][name].shape, dtype=torch.bool)
    share = 0.0
    for k, s in enumerate(states):
        if not method.startswith("della") or k == base_at or not 0 < own[k]["density"] < 1:
            continue
        d = (s[name].to(work) - states[base_at][name].to(work)).abs().double()
        rows = d.reshape(-1, d.shape[-1])
        tied = ((rows[:, :, None] == rows[:, None, :]).sum(-1) > 1).reshape(d.shape)
        any_tied |= tied
        share = max(share, float(d[tied].sum() / d.sum().clamp(min=1e-30)) / own[k]["density"])
    return any_tied, share


def by_functions(states, method, base_at, params, dtype, seed):
    """All tensors in the order of mergekit's execution."""
    m = merge_methods.get(method)
    torch.manual_seed(seed)
    return {name: merge_tensors([s[name] for s in states], m, parameters=params, base_index=base_at, name=name, dtype=dtype)
            for name in sorted(states[0])}


def one(args, r, method, folder, tally):
    n, exact, tied = r.randint(2, 4), r.random() < 0.6, r.random() < 0.3
    base_at, seed = r.randrange(n), r.choice([0, 1, 42, r.randrange(1 << 32)])
    kinds = list(DTYPES)
    dtype = r.choice(kinds + [None])
    kind = r.choice(kinds)
    stored = [DTYPES[r.choice(kinds) if r.random() < 0.2 else kind] for _ in range(n)]
    make, shared = draw(r, exact)
    own = [make() if k != base_at else {} for k in range(n)]
    if method.startswith("della"):
        for o in own:
            della(r, o, o.get("density", 1))
    states = models(r, n, tied, stored)
    folders = [folder / f"m{k}" for k in range(n)]
    for f, s in zip(folders, states):
        f.mkdir()
        (f / "config.json").write_text(json.dumps({**CONFIG, "tie_word_embeddings": tied}))
        save_file(s, f / "model.safetensors", {"format": "pt"})
    text = {"merge_method": method, "base_model": str(folders[base_at]), "parameters": shared, "models": [
        {"model": str(f), **({"parameters": o} if o else {})} for f, o in zip(folders, own)]}
    if dtype:
        text["dtype"] = dtype
    yml = folder / "merge.yml"
    yml.write_text(json.dumps(text))
    what = f"{yml.read_text().replace(str(folder) + '/', '')} seed {seed} stored {[str(d)[6:] for d in stored]}"
    run_merge(MergeConfiguration.model_validate(text), str(folder / "theirs"),
              MergeOptions(random_seed=seed, copy_tokenizer=False, write_model_card=False, quiet=True))
    theirs = load_file(folder / "theirs" / "model.safetensors")
    ours, plain = (merge(args.lbrx, yml, folder / f"out-{x}", x, seed) for x in ("mergekit", "f32"))
    if not ours or not plain or not check(set(ours) == set(theirs), f"{what}: tensors {set(ours) ^ set(theirs)}"):
        return
    rescaled = shared.get("rescale", True) and any(0 < o.get("density", 1) < 1 for o in own)
    for name, want in theirs.items():
        if not check(ours[name].dtype == want.dtype and ours[name].shape == want.shape, f"{what} {name}: type or shape"):
            continue
        work = want.dtype
        bits = {2: torch.int16, 4: torch.int32}[want.element_size()]
        same = ours[name].view(bits) == want.view(bits)
        c = tally.setdefault((method, rescaled, str(work)[6:]), [0, 0])
        c[0], c[1] = c[0] + int(same.sum()), c[1] + same.numel()
        tied, share = loose(method, states, base_at, own, name, work)
        if not rescaled:
            bad = int((~same & ~tied).sum())
            check(bad == 0, f"{what} {name}: {bad} of {same.numel()} elements differ")
            continue
        size = 6 * sum((s[name].double() - states[base_at][name].double()).abs() for s in states)
        bound = ulp(want, work) + (2.0**-7 if work == torch.bfloat16 else 2.0**-20) * size / min(
            o["density"] for o in own if o and o["density"] > 0)
        bound += 2 * share * size / min(o["density"] for o in own if o and o["density"] > 0)
        off = (ours[name].double() - want.double()).abs()
        bad = int((~(off <= bound) & ~tied).sum())
        # where weighted differences cancel out, the sign of their sum is that of its rounding
        check(bad == 0 or "ties" in method + "ties" * (method == "della") and bad <= 1 + off.numel() // 200,
              f"{what} {name}: {bad} of {off.numel()} elements off by up to {float((off / bound).max()):.3g} of what is allowed")
    works = {t.dtype for t in theirs.values()}
    if method.startswith("della"):  # float64 has other ranks than the work type
        same_masks(what, states, base_at, own, ours, plain, "ties" in method or method == "della")
    elif exact or torch.bfloat16 not in works:
        compare_f32(what, states, method, base_at, own, shared, seed, plain)
    other = merge(args.lbrx, yml, folder / "out-other", "mergekit", seed + 1)
    if other and any(0.2 < o.get("density", 1) < 0.9 and abs(o["weight"]) > 0.1 for o in own if o):
        check(any(not torch.equal(other[k], ours[k]) for k in ours), f"{what}: seed {seed + 1} makes the same")


def parameters(method, own, shared):
    out = dict(shared)
    for p in merge_methods.get(method).spec.parameters:
        values = {k: o[p.name] for k, o in enumerate(own) if p.name in o}
        if p.name not in out and values:
            out[p.name] = values
    return out


def same_masks(what, states, base_at, own, ours, plain, signs):
    """What both roundings make is near, as it is only where they keep the same elements."""
    least = min([o["density"] for o in own if o and o["density"] > 0] + [1])
    for name, x in ours.items():
        size = sum((s[name].double() - states[base_at][name].double()).abs() for s in states)
        unit = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-22}[x.dtype]
        bound = 2 * unit * (6 * size / least + x.double().abs()) + 2 * unit * sum(s[name].double().abs() for s in states)
        off = (plain[name].double() - x.double()).abs()
        bad = int((~(off <= bound)).sum())
        check(bad <= signs * (1 + off.numel() // 200),
              f"{what} {name}: {bad} of {off.numel()} elements are of another mask in f32 ({float((off / bound).max()):.3g})")


def compare_f32(what, states, method, base_at, own, shared, seed, plain):
    exact = by_functions(states, method, base_at, parameters(method, own, shared), torch.float64, seed)
    for name, x in exact.items():
        size = sum((s[name].double() - states[base_at][name].double()).abs() for s in states)
        bound = 0.5 * ulp(x, plain[name].dtype) + 2.0**-18 * size / min(
            [o["density"] for o in own if o and o["density"] > 0] + [1]) + 2.0**-23 * x.abs()
        off = (plain[name].double() - x).abs()
        bad = int((~(off <= bound)).sum())
        check(bad <= ("ties" in method), f"{what} {name}: {bad} elements off in f32, by up to {float((off / bound).max()):.3g} of what is allowed")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--n", type=int, default=6)
    ap.add_argument("--method", default="")
    ap.add_argument("--lbrx", default=os.environ.get("LBRX", "build/lbrx"))
    args = ap.parse_args()
    tally = {}
    for method in args.method.split(",") if args.method else METHODS:
        for k in range(args.n):
            with tempfile.TemporaryDirectory() as d:
                one(args, random.Random(f"{args.seed} {method} {k}"), method, pathlib.Path(d), tally)
    for (method, rescaled, work), (same, n) in sorted(tally.items()):
        print(f"{method:12} {'rescaled' if rescaled else '':9} {work:9} {100 * same / n:7.3f} % of {n} elements are mergekit's bit for bit")
    print(f"{passed} passed, {failed} failed (seed {args.seed})")
    return failed > 0


sys.exit(main())
