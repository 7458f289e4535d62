# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=r.choice([16, 32]), num_experts=r.choice([3, 4]), num_experts_per_tok=2,
             moe_intermediate_size=r.choice([32, 48]), norm_topk_prob=True, bos_token_id=BOS, eos_token_id=EOS)
    yield Case("Qwen3-30B-A3B", Qwen3MoeConfig(**s), Qwen3MoeForCausalLM, shard="100KB",
               edit=old_rope(1000000.0, num_experts=s["num_experts"], num_local_experts=None))
