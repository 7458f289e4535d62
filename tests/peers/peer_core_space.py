#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: numpy
"""peer_core_space.py [--seed S] [--n N] [--inner M[,M]] [--lbrx FILE]: core_space on random adapters of different ranks
and scales, in the forms that adapters and bases have, against the paper's formulas in numpy (arXiv 2509.17786, section 3):

    U = left vectors of [B_1 ... B_T], V = right vectors of [A_1; ...; A_T]; M_t = s_t U'B_t A_t V; W + U inner(M) V'

in float64; lbrx's must be within one rounding to the type of the output and what factors in f32 lose. Where the sum of
the ranks is above a side of the matrix, and where adapters span less than their ranks say, U and V are what there is."""
import argparse
import json
import math
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import numpy as np

passed = failed = 0
start = time.time()
F32 = np.float32
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 96, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 128, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2,
}
PHI3 = {**LLAMA, "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "pad_token_id": 0}
MOE = {**LLAMA, "architectures": ["GraniteMoeForCausalLM"], "model_type": "granitemoe", "num_local_experts": 4,
       "num_experts_per_tok": 2, "embedding_multiplier": 12.0, "logits_scaling": 6.0, "residual_multiplier": 0.22,
       "attention_multiplier": 0.0625, "intermediate_size": 48}
TOKENIZER = json.dumps({"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
                        "decoder": {"type": "ByteLevel"},
                        "model": {"type": "BPE", "vocab": {chr(0x100 + i) if i < 68 else chr(0x21 + i - 68): i for i in range(96)},
                                  "merges": []}})
ENDS = {"model.embed_tokens": (96, 64), "lm_head": (96, 64), "model.norm": (64,)}
NORMS = {"input_layernorm": (64,), "post_attention_layernorm": (64,)}
ATTENTION = {"self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "self_attn.v_proj": (32, 64), "self_attn.o_proj": (64, 64)}
SHAPES = {
    "llama": {**ATTENTION, "mlp.gate_proj": (96, 64), "mlp.up_proj": (96, 64), "mlp.down_proj": (64, 96), **NORMS},
    "phi3": {"self_attn.qkv_proj": (128, 64), "self_attn.o_proj": (64, 64), "mlp.gate_up_proj": (192, 64),
             "mlp.down_proj": (64, 96), **NORMS},
    "granitemoe": {**ATTENTION, "block_sparse_moe.input_linear": (4, 96, 64), "block_sparse_moe.output_linear": (4, 64, 48),
                   "block_sparse_moe.router.layer": (4, 64), **NORMS},
}


def shapes_of(kind):
    out = {f"{k}.weight": s for k, s in ENDS.items()}
    for layer in range(2):
        out.update({f"model.layers.{layer}.{k}.weight": s for k, s in SHAPES[kind].items()})
    return out


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL", what, flush=True)
    return ok


# ---- files ----

def to_bf16(x):
    bits = x.astype(F32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def store(x, dtype):
    return to_bf16(x).tobytes() if dtype == "BF16" else x.astype({"F16": np.float16, "F32": F32}[dtype]).tobytes()


def load(raw, dtype):
    if dtype == "BF16":
        return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(F32)
    return np.frombuffer(raw, {"F16": np.float16, "F32": F32}[dtype]).astype(F32)


def write(folder, state, dtype, config, weights="model.safetensors", name="config.json"):
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(config))
    head, blobs, at = {}, [], 0
    for key, x in state.items():
        blobs.append(store(x, dtype))
        head[key] = {"dtype": dtype, "shape": list(x.shape), "data_offsets": [at, at + len(blobs[-1])]}
        at += len(blobs[-1])
        state[key] = load(blobs[-1], dtype).reshape(x.shape)  # what is stored, not what was drawn
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    (folder / weights).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def read(folder):
    raw = (folder / "model.safetensors").read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            out[name] = load(raw[8 + n + a:8 + n + b], t["dtype"]).reshape(t["shape"])
    return out


# ---- adapters ----

PARAMETER = {"input_linear": "gate_up_proj", "output_linear": "down_proj"}


def peft_name(name, experts):
    """Stacks are parameters of one module in transformers; of two the first lies within the other's wrapper."""
    head, last = name.rsplit(".", 1)
    if last not in PARAMETER:
        return f"base_model.model.{name}"
    return f"base_model.model.{head}.experts" + (".base_layer" if last == "input_linear" and len(experts) == 2 else "")


def one_adapter(r, g, kind, folder):
    """What it adds to each tensor: name -> list of (B, A, scale), of a stack one for each matrix; and whole tensors."""
    rank, alpha = r.choice([1, 2, 4, 8, 16]), r.choice([1, 8, 16, 20])
    form = r.choice(["PEFT", "PEFT", "MLX"]) if kind == "llama" else "PEFT"
    rslora, pattern = form == "PEFT" and r.random() < 0.3, {}
    dtype = r.choice(["F32", "F32", "BF16"])
    modules = [k for k, s in SHAPES[kind].items() if len(s) == 2 and "router" not in k]
    targets = r.sample(modules, r.randrange(1, len(modules) + 1))
    if form == "PEFT" and r.random() < 0.3:
        pattern = {targets[0].rsplit(".", 1)[-1]: r.choice([3, 5, 12])}
    experts = [k for k, s in SHAPES[kind].items() if len(s) == 3]
    experts = r.sample(experts, r.randrange(0, len(experts) + 1))
    poor = r.random() < 0.15  # its factors have less rank than they say
    state, scales, adds, whole = {}, {}, {}, {}
    for layer in range(2):
        if r.random() < 0.2:
            continue
        for k in targets + experts:
            if k == targets[-1] and r.random() < 0.2 and len(targets) > 1:
                continue
            shape = SHAPES[kind][k]
            n, rows, cols = shape[0] if len(shape) == 3 else 1, shape[-2], shape[-1]
            own = pattern.get(k.rsplit(".", 1)[-1], rank) if len(shape) == 2 else rank
            a, b = (g.standard_normal(s) * 0.1 for s in ((n * own, cols), (rows, own * n)))
            if poor:
                a[-1], b[:, -1] = 0, 0
            name = f"model.layers.{layer}.{k}"
            if form == "MLX":
                state[f"{name}.lora_a"], state[f"{name}.lora_b"] = a.T.copy(), b.T.copy()
                scales[name] = alpha / 4
            else:
                p = peft_name(name, experts)
                state[f"{p}.lora_A.weight"], state[f"{p}.lora_B.weight"] = a, b
                scales[name] = alpha / (math.sqrt(own) if rslora else own)
            adds[f"{name}.weight"] = (n, own)
    if not adds:
        return one_adapter(r, g, kind, folder)
    if form == "MLX":
        config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": rank, "scale": alpha / 4, "dropout": 0.0}}
        write(folder, state, dtype, config, "adapters.safetensors", "adapter_config.json")
    else:
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "use_rslora": rslora, "rank_pattern": pattern,
                  "target_modules": sorted({k.rsplit(".", 1)[-1] for k in targets})}
        if experts:
            config["target_parameters"] = [f"experts.{PARAMETER[k.rsplit('.', 1)[-1]]}" for k in experts]
        if r.random() < 0.25:
            name = "base_model.model.model.norm.weight"
            state[name] = g.standard_normal(64)
            config["modules_to_save"] = ["norm"]
        write(folder, state, dtype, config, "adapter_model.safetensors", "adapter_config.json")
        if config.get("modules_to_save"):
            whole["model.norm.weight"] = state[name]
    for name, (n, own) in adds.items():
        k = name.removesuffix(".weight")
        if form == "MLX":
            a, b = state[f"{k}.lora_a"].T, state[f"{k}.lora_b"].T
        else:
            p = peft_name(k, experts)
            a, b = state[f"{p}.lora_A.weight"], state[f"{p}.lora_B.weight"]
        # of a stack the matrices are the fastest index of B's columns, and the slowest of A's rows
        adds[name] = [(b[:, e::n].astype(float) if n > 1 else b.astype(float), a[e * own:(e + 1) * own].astype(float), scales[k])
                      for e in range(n)]
    return adds, whole, f"{form} {dtype} rank {rank} alpha {alpha}{' rslora' if rslora else ''}{pattern or ''}{' poor' if poor else ''}"


# ---- inner methods, of differences to a base of zeros ----

def kept(x, first, last):
    """Those that are the first-th to last-th largest magnitudes; how near the next ones are."""
    flat = np.abs(x).ravel()
    order = np.argsort(-flat, kind="stable")
    for cut in (first, last):
        if 0 < cut < flat.size:
            gap[0] = min(gap[0], (flat[order[cut - 1]] - flat[order[cut]]) / max(flat[order[0]], 1e-30))
    mask = np.zeros(flat.size, bool)
    mask[order[first:last]] = True
    return np.where(mask.reshape(x.shape), x, 0)


def weighted(own, m):
    return [o.get("weight", 1) * x for o, x in zip(own, m)]


def task_arithmetic(own, shared, m):
    total = sum(o.get("weight", 1) for o in own) if shared.get("normalize") else 1
    return shared.get("lambda", 1) * sum(weighted(own, m)) / (total if abs(total) >= 1e-8 else 1)


def linear(own, shared, m):
    return sum(weighted(own, m)) / (sum(o.get("weight", 1) for o in own) if shared.get("normalize", True) else 1)


def agree(own, shared, m, normalize):
    w = weighted(own, m)
    total = sum(w)
    gap[0] = min(gap[0], float(np.abs(total[total != 0]).min(initial=1)) / max(float(np.abs(total).max()), 1e-30))
    sign = np.where(total >= 0, 1, -1)
    use = [(np.sign(x) == sign) for x in w]
    out = sum(np.where(u, x, 0) for u, x in zip(use, w))
    if normalize:
        by = sum(np.where(u, o.get("weight", 1), 0) for o, u in zip(own, use))
        out = out / np.where(by == 0, 1, by)
    return shared.get("lambda", 1) * out


def top(own, m):
    return [x if o.get("density", 1) >= 1 else kept(x, 0, max(1, int(o["density"] * x.size))) for o, x in zip(own, m)]


def ties(own, shared, m):
    return agree(own, shared, top(own, m), shared.get("normalize", True))


def middle(own, m):
    out = []
    for o, x in zip(own, m):
        d, n = o.get("density", 1), x.size
        if d < 1:
            k = int(d * n)
            first = min(int(o.get("gamma", 0.01) * n), n - k)
            x = kept(x, first, first + k)
        out.append(x)
    return out


def breadcrumbs(own, shared, m):
    return task_arithmetic(own, shared, middle(own, m))


def breadcrumbs_ties(own, shared, m):
    return agree(own, shared, middle(own, m), shared.get("normalize", False))


def consensus_ta(own, shared, m):
    t = weighted(own, m)
    total, count = sum(t), 0
    for o, x in zip(own, t):
        lead = np.abs(x) - o.get("tall_lambda", 0.4) * np.abs(total - x)
        size = max(float(np.abs(total).max()), 1e-30)
        gap[0] = min(gap[0], float(np.abs(lead[x != 0]).min(initial=1)) / size)
        count = count + (lead > 0)
    return shared.get("lambda", 1) * np.where(count >= shared.get("k", 2), total, 0)


def spectrum(x):
    u, s, v = np.linalg.svd(x, full_matrices=False)
    return u, s, v


def iso_c(own, shared, m):
    total = sum(weighted(own, m))
    u, s, v = spectrum(total)
    keep = s > 2.0**-22 * s[0]
    if s[0]:  # what the ranks leave out is noise, what is near it moves
        slack[0] = max(slack[0], 2.0**-20 * s[0] / s[keep].min() * s.mean())
        gap[0] = min(gap[0], s[keep].min() / s[0])
    return shared.get("lambda", 1) * s.mean() * u[:, keep] @ v[keep]


def star(own, shared, m):
    out = 0
    for x in weighted(own, m):
        u, s, v = spectrum(x)
        if not s[0]:
            continue
        r = min(int(np.searchsorted(np.cumsum(s), s.sum() * shared.get("eta", 40) / 100)) + 1, len(s))
        behind = s[r - 1] - (s[r] if r < len(s) else 0)
        gap[0] = min(gap[0], abs(np.cumsum(s) - s.sum() * shared.get("eta", 40) / 100).min() / s.sum(), behind / s[0])
        slack[0] = max(slack[0], 2.0**-20 * s.sum() / max(behind, 1e-30) * s[0] / s[:r].sum() * s[0])
        out = out + (u[:, :r] * (s[:r] * (s.sum() / s[:r].sum()))) @ v[:r]
    return shared.get("lambda", 1) / len(m) * out


def tsv(own, shared, m):
    k = min(m[0].shape) // len(m)
    if k == 0:
        return 0 * m[0]
    parts = [spectrum(x) for x in weighted(own, m)]
    u = np.concatenate([p[0][:, :k] for p in parts], 1)
    s = np.concatenate([p[1][:k] for p in parts])
    v = np.concatenate([p[2][:k] for p in parts], 0)
    there = np.concatenate([p[1][:k] > 2.0**-22 * p[1][0] for p in parts])
    if not there.any():
        return 0 * m[0]
    u, s, v = u[:, there], s[there], v[there]  # vectors of no direction are left out
    (a, su, b), (c, sv, e) = spectrum(u), spectrum(v)
    behind = min(np.append(p[1], 0)[k - 1] - np.append(p[1], 0)[k] if np.append(p[1], 0)[k] > 2.0**-22 * p[1][0] else
                 min(p[1][p[1] > 2.0**-22 * p[1][0]], default=1) for p in parts) / max(p[1][0] for p in parts)
    slack[0] = max(slack[0], 2.0**-19 * s.max() / max(behind, 1e-12) / max(min(su[-1], sv[-1]), 1e-12))
    gap[0] = min(gap[0], su[-1], sv[-1], behind)
    return shared.get("lambda", 1) * (a @ b * s) @ (c @ e)


gap = [1.0]    # how far the nearest decision is from falling the other way
slack = [0.0]  # what a factorisation in between may move an element by
INNER = {"task_arithmetic": task_arithmetic, "linear": linear, "ties": ties, "breadcrumbs": breadcrumbs,
         "breadcrumbs_ties": breadcrumbs_ties, "consensus_ta": consensus_ta, "iso_c": iso_c, "star": star, "tsv": tsv}


def core_space(base, terms, inner, own, shared):
    """terms: of each input (B, A, scale) or None."""
    there = [t for t in terms if t]
    u, sb, _ = spectrum(np.concatenate([t[0] for t in there], 1))
    _, sa, v = spectrum(np.concatenate([t[1] for t in there], 0))
    # singular values side by side turn their vectors: then methods over elements have no one result
    for s in (sb, sa):
        near = -np.diff(s) / s[0]
        elementwise[0] = min(elementwise[0], float(near[s[1:] > 1e-9 * s[0]].min(initial=1)))
        full[0] &= bool(s[-1] > 1e-9 * s[0])
    m = [t[2] * u.T @ t[0] @ t[1] @ v.T if t else np.zeros((u.shape[1], len(v))) for t in terms]
    return base + u @ inner(own, shared, m) @ v


elementwise = [1.0]
full = [True]


def parts_of(kind, name, base, terms):
    """Matrices that have factors of their own: experts, and gate and up of each."""
    if base.ndim == 2:
        yield np.s_[:], [t[0] if t else None for t in terms]
        return
    rows = base.shape[1]
    halves = [np.s_[:rows // 2], np.s_[rows // 2:]] if "input_linear" in name else [np.s_[:]]
    for e in range(base.shape[0]):
        for h in halves:
            yield (e, h), [(t[e][0][h], t[e][1], t[e][2]) if t else None for t in terms]


# ---- cases ----

def draw(r, inner, n):
    maybe = lambda name, *v: {name: r.choice(v)} if r.random() < 0.6 else {}
    own = [{"weight": round(r.uniform(0.2, 1.2), 3)} if r.random() < 0.7 else {} for _ in range(n)]
    shared = maybe("lambda", 0.5, 1.0, 1.5) if inner != "linear" else {}
    if inner in ("task_arithmetic", "linear", "ties", "breadcrumbs", "breadcrumbs_ties"):
        shared.update(maybe("normalize", True, False))
    if inner in ("ties", "breadcrumbs", "breadcrumbs_ties"):
        for o in own:
            o.update(maybe("density", 0.1, 0.3, 0.7, 1.0))
            o.update(maybe("gamma", 0.05, 0.2) if inner != "ties" else {})
    if inner == "consensus_ta":
        shared.update(maybe("k", 1, 2))
        for o in own:
            o.update(maybe("tall_lambda", 0.2, 0.6))
    if inner == "star":
        shared.update(maybe("eta", 10, 40, 90))
    return own, shared


def ulp(x, bits):
    return np.ldexp(1.0, np.frexp(np.abs(x))[1] - bits)


def run(args, what, *command):
    p = subprocess.run([args.lbrx, *map(str, command)], capture_output=True, text=True)
    return check(p.returncode == 0, f"{what}: {p.stderr.strip()}") and p


def one(args, r, inner, folder):
    kind = r.choice(["llama", "llama", "llama", "phi3", "granitemoe"])
    config = {"llama": LLAMA, "phi3": PHI3, "granitemoe": MOE}[kind]
    out_type, stored = r.choice(["float32", "float32", "bfloat16"]), r.choice(["F32", "BF16", "F16"])
    g = np.random.default_rng(r.randrange(1 << 30))
    base = {k: (g.standard_normal(s) * 0.05).astype(F32) for k, s in shapes_of(kind).items()}
    write(folder / "base", base, stored, config)
    n = r.randint(1, 5)
    adapters = [one_adapter(r, g, kind, folder / f"a{i}") for i in range(n)]
    own, shared = draw(r, inner, n)
    name = "base"
    what = f"core_space {inner} {kind} {stored} to {out_type}, {own} {shared}, {[a[2] for a in adapters]}"
    if kind == "llama" and r.random() < 0.4:
        form = r.choice(["gguf", "mlx"])
        (folder / "base/tokenizer.json").write_text(TOKENIZER)
        name = "base.gguf" if form == "gguf" else "base-mlx"
        if not run(args, what, "convert", folder / "base", "-o", folder / name, "--to", form, "--no-sync", "-q"):
            return
        what += f" from {form}"
    yml = folder / "merge.yml"
    yml.write_text(json.dumps({
        "merge_method": "core_space", "base_model": name, "dtype": out_type, "parameters": {"inner_method": inner, **shared},
        "models": [{"model": f"{name}+a{i}", "parameters": own[i]} for i in range(n)]}))
    if not run(args, what, "merge", yml, "-o", folder / "out", "--to", "hf", "--no-sync", "-q", "--no-provenance"):
        return
    got = read(folder / "out")
    check(set(got) == set(base), f"{what}: tensors")
    for key, x in got.items():
        b, terms = base[key].astype(float), [a[0].get(key) for a in adapters]
        gap[0], slack[0], elementwise[0], full[0] = 1.0, 0.0, 1.0, True
        want, size = b.copy(), np.abs(b)
        if any(key in a[1] for a in adapters):
            d = [a[1][key].astype(float) - b if key in a[1] else 0 * b for a in adapters]
            if inner in ("iso_c", "star", "tsv"):
                want = b + shared.get("lambda", 1) / n * sum(weighted(own, d))
            else:
                want = b + INNER[inner](own, shared, d)
            size = size + sum(map(np.abs, d))
        elif any(terms):
            for at, t in parts_of(kind, key, b, terms):
                want[at] = core_space(b[at], t, INNER[inner], own, shared)
                size[at] += sum(np.abs(p[2] * p[0] @ p[1]).max() for p in t if p)
        by_elements = inner not in ("task_arithmetic", "linear", "iso_c", "star", "tsv")
        if gap[0] < 1e-5 or (by_elements and elementwise[0] < 1e-3) or (inner in ("iso_c", "tsv") and not full[0]):
            skipped[0] += 1
            continue
        if by_elements:
            slack[0] += 2.0**-21 / elementwise[0] * float(np.abs(want - b).max())
        off = np.abs(x.astype(float) - want)
        bound = 0.5 * ulp(want, 24 if out_type == "float32" else 8) + 2.0**-20 * size + slack[0]
        check(bool((off <= bound).all()), f"{what} {key}: {int((off > bound).sum())} elements off, by up to "
              f"{float((off / bound).max()):.3g} of what is allowed")
        if any(terms) and out_type == "float32":
            moved = float(np.abs(want - b).mean())
            worst[inner] = max(worst.get(inner, 0), float(off.mean()) / max(moved, 1e-30) if moved > 1e-9 else 0)
    others = {f"-t {t}": ["-t", t] for t in (1, 7)}
    others["in little memory"] = ["--memory", "28MiB"]  # 26 are needed under the address sanitizer
    for how, more in others.items():
        if run(args, what, "merge", yml, "-o", folder / "again", "--to", "hf", "--no-sync", "-q", "--no-provenance", "--force", *more):
            same = (folder / "out/model.safetensors").read_bytes() == (folder / "again/model.safetensors").read_bytes()
            check(same, f"{what}: other bytes with {how}")


worst, skipped = {}, [0]


def random_ones(args, r, inner, folder):
    """dare: of each element of M what it is, or nothing, and about so many of them as density says."""
    g = np.random.default_rng(r.randrange(1 << 30))
    base = {k: (g.standard_normal(s) * 0.05).astype(F32) for k, s in shapes_of("llama").items()}
    write(folder / "base", base, "F32", LLAMA)
    while True:
        adds, whole, what = one_adapter(r, g, "llama", folder / f"a{len(list(folder.iterdir()))}")
        if not whole:
            break
    name = sorted(folder.glob("a*"))[-1].name
    yml = folder / "merge.yml"
    yml.write_text(json.dumps({
        "merge_method": "core_space", "base_model": "base", "dtype": "float32",
        "parameters": {"inner_method": inner, "rescale": False, "normalize": False},
        "models": [{"model": f"base+{name}", "parameters": {"density": 0.5}}]}))
    if not run(args, what, "merge", yml, "-o", folder / "out", "--no-sync", "-q", "--seed", "3"):
        return
    got, there, n = read(folder / "out"), 0, 0
    for key, t in adds.items():
        u, sb, _ = spectrum(t[0][0])
        _, sa, v = spectrum(t[0][1])
        if sb[-1] <= 1e-9 * sb[0] or sa[-1] <= 1e-9 * sa[0]:
            continue
        m = t[0][2] * u.T @ t[0][0] @ t[0][1] @ v.T
        x = u.T @ (got[key].astype(float) - base[key]) @ v.T
        size, kept_here = np.abs(m).max(), np.abs(x - m) < np.abs(x)
        check(np.abs(x - np.where(kept_here, m, 0)).max() < 1e-5 * size + 1e-6, f"{inner} {what} {key}: neither M nor nothing")
        there, n = there + int((kept_here & (np.abs(m) > 1e-4 * size)).sum()), n + m.size
    if n > 200:
        check(0.35 < there / n < 0.65, f"{inner} {what}: {there} of {n} are kept")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--n", type=int, default=8)
    ap.add_argument("--inner", default="")
    ap.add_argument("--lbrx", default=os.environ.get("LBRX", "build/lbrx"))
    args = ap.parse_args()
    args.lbrx = os.path.abspath(args.lbrx)
    for inner in args.inner.split(",") if args.inner else [*INNER, "dare_linear", "dare_ties"]:
        for k in range(args.n):
            with tempfile.TemporaryDirectory() as d:
                (one if inner in INNER else random_ones)(args, random.Random(f"{args.seed} {inner} {k}"), inner, pathlib.Path(d))
    for inner, off in worst.items():
        check(off <= 2e-3, f"{inner}: off by {off:.3g} of what it does, on average")
        print(f"{inner}: f32 off by {off:.2g} of what it does at most, on average over a tensor")
    print(f"seed {args.seed}; {skipped[0]} tensors left out: a decision is too near")
    print(f"peer_core_space: {passed} passed, {failed} failed, 0 skipped [cost: slow] {time.time() - start:.1f} s")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
