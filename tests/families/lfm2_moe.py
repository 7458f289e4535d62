# SPDX-License-Identifier: Apache-2.0
import torch
from kit import BOS, EOS, VOCAB, Case
from transformers import Lfm2MoeConfig, Lfm2MoeForCausalLM


def bias_in_f32(t):
    for k in t:
        if k.endswith("expert_bias"):
            t[k] = (torch.float32, t[k][1])


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 128]), intermediate_size=r.choice([96, 160]),
             num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]), bos_token_id=BOS,
             eos_token_id=EOS, moe_intermediate_size=r.choice([32, 48]), num_experts=r.choice([3, 4]),
             num_experts_per_tok=2, num_dense_layers=r.choice([1, 2]))
    yield Case("LFM2-8B-A1B", Lfm2MoeConfig(**s, layer_types=r.choice([
        ["conv", "conv", "full_attention"], ["conv", "full_attention", "conv"]])), Lfm2MoeForCausalLM,
        tensors=bias_in_f32, mlx_adds=("rope_theta",))
