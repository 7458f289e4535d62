# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import GraniteMoeConfig, GraniteMoeForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([32, 48]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2]), num_local_experts=r.choice([3, 5]),
             num_experts_per_tok=2, bos_token_id=BOS, eos_token_id=EOS)
    # as released: whole numbers beside others
    yield Case("granite-3.1-1b-a400m-instruct", GraniteMoeConfig(
        **s, tie_word_embeddings=True, attention_multiplier=0.015625, embedding_multiplier=12.0, logits_scaling=6,
        residual_multiplier=0.22), GraniteMoeForCausalLM, edit=old_rope(10000000.0, attention_dropout=0.1))
    # a config that lacks what the class has defaults for
    gone = dict.fromkeys(("attention_multiplier", "embedding_multiplier", "logits_scaling", "residual_multiplier",
                          "num_experts_per_tok", "attention_bias"))
    yield Case("granite-moe-bare", GraniteMoeConfig(**s), GraniteMoeForCausalLM, dtype="f16",
               edit=old_rope(10000.0, **gone), mlx="its class asks for the multipliers", mlx_adds=tuple(gone))
