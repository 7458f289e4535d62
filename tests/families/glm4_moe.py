# SPDX-License-Identifier: Apache-2.0
import json

import torch

from kit import EOS, VOCAB, Case, old_rope
from transformers import Glm4MoeConfig, Glm4MoeForCausalLM

LAYERS = 2
# The reference asks the tokenizer for these.
TOKENIZER = {"tokenizer_config.json": json.dumps({
    "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
    "added_tokens_decoder": {str(300 + i): {"content": t, "special": True} for i, t in enumerate(
        ("<|endoftext|>", "[gMASK]", "<|user|>", "<|observation|>"))}})}


def as_released(t):
    """The bias in f32, as the class keeps it, and a layer of multi-token prediction behind the others, which it does
    not load."""
    last, new = "model.layers.%d." % (LAYERS - 1), "model.layers.%d." % LAYERS
    in_f32(t)
    for k in [k for k in t if k.startswith(last)]:
        t[new + k[len(last):]] = t[k]
    d, shape = t["model.embed_tokens.weight"]
    for k in ("embed_tokens", "shared_head.head"):
        t[new + k + ".weight"] = (d, shape)
    for k in ("enorm", "hnorm", "shared_head.norm"):
        t[new + k + ".weight"] = (d, shape[1:])
    t[new + "eh_proj.weight"] = (d, [shape[1], 2 * shape[1]])


def in_f32(t):
    for k in t:
        if k.endswith("e_score_correction_bias"):
            t[k] = (torch.float32, t[k][1])


def without_mtp(state):
    return {k: v for k, v in state.items() if not k.startswith("model.layers.%d." % LAYERS)}


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=4,
             num_key_value_heads=r.choice([1, 2]), head_dim=r.choice([16, 32]), n_routed_experts=r.choice([4, 6]),
             num_experts_per_tok=2, n_shared_experts=r.choice([1, 2]), moe_intermediate_size=r.choice([32, 48]),
             first_k_dense_replace=1, n_group=r.choice([1, 2]), topk_group=1, routed_scaling_factor=2.5,
             eos_token_id=EOS)
    why = "its class asks for rope_theta at the top of the config"
    adds = ("head_dim", "rope_theta", "rope_scaling", "partial_rotary_factor")
    yield Case("GLM-4.5-Air", Glm4MoeConfig(**s, attention_bias=True), Glm4MoeForCausalLM, tensors=as_released,
               edit=old_rope(1000000.0, partial_rotary_factor=0.5), files=TOKENIZER, mlx_back=without_mtp, mtp=True)
    yield Case("GLM-4.5", Glm4MoeConfig(**s, use_qk_norm=True), Glm4MoeForCausalLM, tensors=as_released,
               files=TOKENIZER, mlx_back=without_mtp, mlx=why, mlx_adds=adds)
    yield Case("no-mtp", Glm4MoeConfig(**s, num_mtp_layers=0, norm_topk_prob=False), Glm4MoeForCausalLM, shard="60KB",
               tensors=in_f32, files=TOKENIZER, mlx=why, mlx_adds=adds)
