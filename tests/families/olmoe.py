# SPDX-License-Identifier: Apache-2.0
from kit import EOS, VOCAB, Case, old_rope
from transformers import OlmoeConfig, OlmoeForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([32, 48]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=4, num_experts=r.choice([3, 5]), num_experts_per_tok=2,
             eos_token_id=EOS, pad_token_id=1)
    yield Case("OLMoE-1B-7B-0924", OlmoeConfig(**s), OlmoeForCausalLM, shard="60KB",
               edit=old_rope(10000.0, clip_qkv=None, norm_topk_prob=False))
    # published in f32
    yield Case("OLMoE-1B-7B-0125-Instruct", OlmoeConfig(**s), OlmoeForCausalLM, dtype="f32", outtype="bf16",
               edit=old_rope(10000.0, torch_dtype="float32"))
