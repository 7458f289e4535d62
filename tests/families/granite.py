# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, PAD, VOCAB, Case, old_rope
from transformers import GraniteConfig, GraniteForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 128]), intermediate_size=r.choice([128, 192]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]), bos_token_id=BOS, eos_token_id=EOS,
             pad_token_id=PAD, embedding_multiplier=12.0, residual_multiplier=0.22)
    yield Case("granite-3.3-2b-instruct", GraniteConfig(**s, attention_multiplier=0.015625, logits_scaling=8.0,
               max_position_embeddings=131072, tie_word_embeddings=True), GraniteForCausalLM,
               edit=old_rope(10000000.0))
    yield Case("granite-3.0-8b-base", GraniteConfig(**s, attention_multiplier=0.0078125, logits_scaling=16.0),
               GraniteForCausalLM, dtype="f16", shard="60KB", edit=old_rope(10000.0))
    yield Case("biased", GraniteConfig(**s, attention_bias=True, mlp_bias=True), GraniteForCausalLM, dtype="f32",
               mlx="its class asks for rope_theta", mlx_adds=("rope_theta", "rope_scaling"))
