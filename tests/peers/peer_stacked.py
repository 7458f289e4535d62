#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch transformers safetensors yaml
"""peer_stacked.py [--seed S] [--lbrx FILE]: mixtures of experts that transformers saves in both of its forms
(save_original_format true, and false: experts stacked as they are in memory): lbrx diff finds them equal; a merge of two
models in any forms is what torch computes of the two, loads in transformers without a missing or unexpected tensor, and
gives the same bytes from all forms."""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import logging
import torch
import transformers as T
import yaml

logging.disable(logging.CRITICAL)
T.utils.logging.disable_progress_bar()
passed = failed = 0
BASE = dict(vocab_size=160, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128)
SMALL = dict(num_experts_per_tok=2, moe_intermediate_size=32)
ROUTED = dict(n_routed_experts=4, n_shared_experts=1, first_k_dense_replace=1, n_group=1, topk_group=1, **SMALL)
LATENT = dict(kv_lora_rank=32, qk_rope_head_dim=16, qk_nope_head_dim=16, v_head_dim=16, num_key_value_heads=4, **ROUTED)
LINEAR = dict(linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=16, linear_value_head_dim=16)
FAMILIES = {
    "Mixtral": dict(num_local_experts=4),
    "Qwen3Moe": dict(num_experts=4, head_dim=16, **SMALL),
    "Qwen2Moe": dict(num_experts=4, shared_expert_intermediate_size=64, **SMALL),
    "Phimoe": dict(num_local_experts=4),
    "GraniteMoe": dict(num_local_experts=4, num_experts_per_tok=2),
    "GptOss": dict(num_local_experts=4, num_experts_per_tok=2, head_dim=16,
                   layer_types=["sliding_attention", "full_attention"]),
    "DeepseekV2": dict(q_lora_rank=None, topk_method="greedy", **LATENT),
    "DeepseekV3": dict(q_lora_rank=32, **LATENT),
    "Olmoe": dict(num_experts=4, num_experts_per_tok=2),
    "Glm4Moe": dict(head_dim=16, **ROUTED),
    "MiniMaxM2": dict(num_local_experts=4, num_experts_per_tok=2, head_dim=16, rotary_dim=8),
    "Qwen3Next": dict(num_experts=4, shared_expert_intermediate_size=32, head_dim=16, **SMALL, **LINEAR,
                      num_hidden_layers=4),
    "Ernie4_5_Moe": dict(moe_num_experts=4, moe_k=2, moe_intermediate_size=32, moe_num_shared_experts=1,
                         moe_layer_start_index=1, moe_layer_end_index=-1),
    "Lfm2Moe": dict(num_experts=4, num_dense_layers=1, num_hidden_layers=3,
                    layer_types=["conv", "full_attention", "conv"], **SMALL),
}


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL", what, flush=True)


def run(*args):
    r = subprocess.run(args, capture_output=True, text=True)
    return r.returncode, r.stdout + r.stderr


def make(config, seed):
    torch.manual_seed(seed)
    model = T.AutoModelForCausalLM.from_config(config).float()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in list(model.parameters()) + [b for b in model.buffers() if b.is_floating_point() and b.dim() < 2]:
            p.copy_(torch.randn(p.shape, generator=g) * 0.1)
    return model


def family(name, folder, seed, lbrx):
    kind = getattr(T, name + "Config", None)
    if not kind:
        return print("skip:", name, "is not in transformers", T.__version__)
    config = kind(**{**BASE, **FAMILIES[name]})
    models = [make(config, seed + i) for i in range(2)]
    for i, model in enumerate(models):
        for form in ("one", "stack"):
            model.save_pretrained(folder / f"{i}-{form}", save_original_format=form == "one")
    for a, b in (("one", "stack"), ("stack", "one")):
        code, text = run(lbrx, "diff", folder / f"0-{a}", folder / f"0-{b}", "-q")
        check(code == 0, f"{name}: diff {a} {b}: {text[-300:]}")
    first = None
    for a, b in (("one", "one"), ("one", "stack"), ("stack", "one"), ("stack", "stack")):
        what, out = f"{name}: merge {a} {b}", folder / f"out-{a}-{b}"
        (folder / "m.yml").write_text(yaml.safe_dump(dict(
            merge_method="linear", dtype="float32", parameters=dict(normalize=False),
            models=[dict(model=str(folder / f"0-{a}"), parameters=dict(weight=0.25)),
                    dict(model=str(folder / f"1-{b}"), parameters=dict(weight=0.5))])))
        code, text = run(lbrx, "merge", folder / "m.yml", "-o", out, "--no-sync", "-q", "--no-provenance")
        check(code == 0, f"{what}: {text[-300:]}")
        if code:
            continue
        data = (out / "model.safetensors").read_bytes()
        first = first or data
        check(data == first, f"{what}: other bytes")
    if not first:
        return
    got, info = T.AutoModelForCausalLM.from_pretrained(folder / "out-stack-stack", dtype=torch.float32,
                                                       output_loading_info=True)
    check(not info["missing_keys"] and not info["unexpected_keys"], f"{name}: {info}")
    x, y, z = (m.state_dict() for m in (*models, got))
    for k in x:
        if x[k].is_floating_point() and "inv_freq" not in k:
            check(torch.allclose(0.25 * x[k] + 0.5 * y[k], z[k].float(), atol=1e-6), f"{name}: {k}")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--lbrx", default=os.environ.get("LBRX") or
                      str(pathlib.Path(__file__).resolve().parents[2] / "build" / "lbrx"))
    args = args.parse_args()
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            family(name, pathlib.Path(folder), args.seed, args.lbrx)
    print(f"peer_stacked: {passed} passed, {failed} failed, 0 skipped [cost: slow] 0.0 s")
    return failed != 0


sys.exit(main())
