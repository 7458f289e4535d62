# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, PAD, VOCAB, Case, old_rope
from transformers import CohereConfig, CohereForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]), max_position_embeddings=8192,
             logit_scale=r.choice([0.0625, 0.8333]), bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    yield Case("c4ai-command-r-v01", CohereConfig(**s), CohereForCausalLM,
               edit=old_rope(8000000.0, model_max_length=131072))
    yield Case("c4ai-command-r-plus-08-2024", CohereConfig(**s, use_qk_norm=True), CohereForCausalLM, dtype="f16",
               mlx_adds=("rope_theta",))
    yield Case("biased", CohereConfig(**s, attention_bias=True), CohereForCausalLM, dtype="f32", shard="60KB",
               mlx_adds=("rope_theta",))
