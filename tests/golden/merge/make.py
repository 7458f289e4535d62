#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make.py: what mergekit 0.1.5 (torch 2.x, x86-64 with AVX2) makes of small models with every one of its methods, for
tests/cli/merge_golden.sh. Writes beside itself:
    models/TYPE-N/     a base (0) and three variants of it: config.json, model.safetensors
    cases.json         NAME, the merge file (models by their names here), seed, type of the result, what is compared:
                       sha256 of the tensors' bytes in the order of their names, or expected/NAME.bin with those bytes
                       free: elements that mergekit's unstable sorting chooses (equal magnitudes at a threshold, equal
                       ones of a row), by tensor
    python3 tests/golden/merge/make.py        (needs mergekit==0.1.5)
"""
import hashlib
import json
import pathlib
import shutil
import tempfile

import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
LONG = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
H, FFN, KV, VOCAB, LAYERS, SEED = 8, 12, 4, 12, 2, 42
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": H, "intermediate_size": FFN,
    "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": LAYERS, "vocab_size": VOCAB,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
}
SHAPES = {"model.embed_tokens.weight": (VOCAB, H), "lm_head.weight": (VOCAB, H), "model.norm.weight": (H,)}
for layer in range(LAYERS):
    SHAPES.update({f"model.layers.{layer}.{k}.weight": s for k, s in {
        "self_attn.q_proj": (H, H), "self_attn.k_proj": (KV, H), "self_attn.v_proj": (KV, H), "self_attn.o_proj": (H, H),
        "mlp.gate_proj": (FFN, H), "mlp.up_proj": (FFN, H), "mlp.down_proj": (H, FFN), "input_layernorm": (H,),
        "post_attention_layernorm": (H,)}.items()})

# name, models (the first is the base where there is one), whether it is one, a model's parameters, shared ones
W = [{"weight": w} for w in (0.4, 0.7, -0.2)]
P = [{"weight": w} for w in (0.4, 0.7, 0.2)]
G = [{"weight": [0.2, 0.9]}, {"weight": [{"filter": "mlp", "value": 0.8}, {"value": 0.3}]}, {"weight": 0.5}]
D = [{"weight": w, "density": d} for w, d in ((0.4, 0.6), (0.7, 0.5), (-0.2, 0.8))]
E = [{**d, "epsilon": 0.15} for d in D]
CASES = [
    ("passthrough", 1, False, [{"scale": 1.3}], {}),
    ("linear", 3, False, P, {}),
    ("linear", 3, False, G, {"normalize": False}),
    ("slerp", 2, True, [], {"t": [0.1, 0.7]}),
    ("nuslerp", 2, False, P, {}),
    ("nuslerp", 3, True, P, {"nuslerp_flatten": False}),
    ("multislerp", 3, False, P, {}),
    ("multislerp", 4, True, P, {"normalize_weights": False}),
    ("karcher", 3, False, [], {}),
    ("model_stock", 4, True, [], {}),
    ("model_stock", 3, True, [], {"filter_wise": True}),
    ("nearswap", 2, True, [], {"t": 0.01}),
    ("arcee_fusion", 2, True, [], {}),
    ("sce", 4, True, [], {"select_topk": 0.6}),
    ("sce", 3, True, [], {}),
    ("ram", 4, True, [], {"epsilon": 0.02}),
    ("ramplus_tl", 4, True, [], {"epsilon": 0.02, "r": 0.5, "alpha": 1.0}),
    ("task_arithmetic", 4, True, W, {"lambda": 0.7}),
    ("task_arithmetic", 4, True, P, {"normalize": True}),
    ("ties", 4, True, D, {}),
    ("ties", 4, True, D, {"normalize": False, "lambda": 0.8}),
    ("breadcrumbs", 4, True, [{**d, "gamma": 0.1} for d in D], {}),
    ("breadcrumbs_ties", 4, True, [{**d, "gamma": 0.1} for d in D], {"normalize": True}),
    ("dare_linear", 4, True, D, {"rescale": False}),
    ("dare_linear", 4, True, D, {}),
    ("dare_ties", 4, True, D, {"rescale": False}),
    ("dare_ties", 4, True, D, {"normalize": True}),
    ("della", 4, True, E, {}),
    ("della_linear", 4, True, E, {"rescale": False}),
]
# bit for bit (apart from `free`)
EXACT = {"passthrough", "linear", "task_arithmetic", "nearswap", "ram", "ties", "breadcrumbs", "breadcrumbs_ties"}


def make_models():
    g = torch.Generator().manual_seed(SEED)
    base = {k: torch.randn(s, generator=g) * 0.1 for k, s in SHAPES.items()}
    for i in range(4):
        state = {k: t + (torch.randn(t.shape, generator=g) * 0.05 * (torch.rand(t.shape, generator=g) < 0.7) if i else 0)
                 for k, t in base.items()}
        for kind, dtype in DTYPES.items():
            folder = HERE / "models" / f"{kind}-{i}"
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps(CONFIG))
            save_file({k: t.to(dtype) for k, t in state.items()}, folder / "model.safetensors", {"format": "pt"})


def at_threshold(key, n_keep):
    """Of a whole tensor: those as large as the last that is kept, where some of them are and others not (zeros: all one)."""
    order = key.flatten().sort(descending=True).values
    if not 0 < n_keep < order.numel() or order[n_keep - 1] != order[n_keep] or order[n_keep] == 0:
        return set()
    return set((key.flatten() == order[n_keep - 1]).nonzero().flatten().tolist())


def free_elements(method, deltas, own, shared):
    out = set()
    for d, o in zip(deltas, own or [{}] * len(deltas)):
        key, n = d.abs().float(), d.numel()
        if method == "ties":
            out |= at_threshold(key, max(1, int(o["density"] * n)))
        elif method.startswith("breadcrumbs"):
            keep, top = int(o["density"] * n), int(o["gamma"] * n)
            low = max(0, n - keep - top)
            out |= at_threshold(key, n - low) | at_threshold(key, n - low - keep)
        elif method.startswith("della"):
            rows = key.reshape(-1, key.shape[-1])
            same = ((rows[:, :, None] == rows[:, None, :]).sum(-1) > 1) & (rows > 0)
            out |= set(same.flatten().nonzero().flatten().tolist())
    if method == "sce" and "select_topk" in shared:
        var = torch.stack(deltas).var(dim=0, unbiased=False)
        out |= at_threshold(var.float(), int(int(torch.count_nonzero(var)) * shared["select_topk"]))
    return sorted(out)


def blob(state):
    return b"".join(state[k].contiguous().view(torch.uint8).numpy().tobytes() for k in sorted(state))


def one(number, case, kind):
    method, n, based, own, shared = case
    name = f"{number:02d}-{method}-{kind}"
    folders = [f"{kind}-{i}" for i in range(n)] if based else [f"{kind}-{i}" for i in range(1, n + 1)]
    models, rest = [], iter(own)
    for i, f in enumerate(folders):
        p = {} if based and i == 0 else next(rest, {})
        models.append({"model": f, **({"parameters": p} if p else {})})
    config = {"merge_method": method, "models": models, "parameters": shared, "dtype": LONG[kind], "out_dtype": LONG[kind]}
    if based:
        config["base_model"] = folders[0]
    absolute = json.loads(json.dumps(config))
    for m in absolute["models"]:
        m["model"] = str(HERE / "models" / m["model"])
    if based:
        absolute["base_model"] = absolute["models"][0]["model"]
    with tempfile.TemporaryDirectory() as out:
        run_merge(MergeConfiguration.model_validate(absolute), out,
                  MergeOptions(copy_tokenizer=False, write_model_card=False, random_seed=SEED, quiet=True))
        state = load_file(pathlib.Path(out) / "model.safetensors")
    assert set(state) == set(SHAPES) and all(t.dtype == DTYPES[kind] for t in state.values()), name
    states = [load_file(HERE / "models" / f / "model.safetensors") for f in folders]
    free = {}
    for k in SHAPES if based else []:
        found = free_elements(method, [s[k] - states[0][k] for s in states[1:]], own, shared)
        if found:
            free[k] = found
    exact = method in EXACT or (method.startswith("dare") and shared.get("rescale") is False)
    data = blob(state)
    entry = {"name": name, "config": config, "seed": SEED, "type": kind, "exact": exact}
    if exact and not free:
        entry["sha256"] = hashlib.sha256(data).hexdigest()
    else:
        (HERE / "expected" / f"{name}.bin").write_bytes(data)
    if free:
        entry["free"] = free
    return entry


def main():
    for d in ("models", "expected"):
        shutil.rmtree(HERE / d, ignore_errors=True)
    (HERE / "expected").mkdir()
    make_models()
    entries = []
    for number, case in enumerate(CASES):
        for kind in ("bf16", "f32", *(["f16"] if case[0] in EXACT and "ties" not in case[0] and "bread" not in case[0] else [])):
            entries.append(one(number, case, kind))
    text = ",\n ".join(json.dumps(e) for e in entries)
    (HERE / "cases.json").write_text(f'{{"shapes": {json.dumps(SHAPES)},\n"cases": [\n {text}]}}\n')


main()
