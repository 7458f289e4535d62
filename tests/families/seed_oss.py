# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, PAD, VOCAB, Case, old_rope
from transformers import SeedOssConfig, SeedOssForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2]), head_dim=r.choice([16, 32]), bos_token_id=BOS,
             eos_token_id=EOS, pad_token_id=PAD)
    yield Case("Seed-OSS-36B-Instruct", SeedOssConfig(**s), SeedOssForCausalLM,
               edit=old_rope(10000000.0, {"rope_type": "default"}))
    yield Case("unbiased", SeedOssConfig(**s, attention_bias=False, tie_word_embeddings=True), SeedOssForCausalLM,
               dtype="f16", shard="60KB", mlx_adds=("rope_theta", "rope_scaling"))
