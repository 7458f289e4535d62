# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import Qwen3Config, Qwen3ForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2]), head_dim=r.choice([16, 32]), bos_token_id=BOS,
             eos_token_id=EOS)
    own = dict(max_window_layers=28, layer_types=None, max_position_embeddings=40960)
    yield Case("Qwen3-0.6B", Qwen3Config(**s, tie_word_embeddings=True), Qwen3ForCausalLM,
               edit=old_rope(1000000, **own))
    yield Case("Qwen3-32B", Qwen3Config(**s), Qwen3ForCausalLM, dtype="f16", shard="60KB", edit=old_rope(1000000, {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, **own))
    yield Case("Qwen3-4B-Base", Qwen3Config(**s, rope_parameters={"rope_type": "default", "rope_theta": 1000000}),
               Qwen3ForCausalLM, dtype="f32", mlx_adds=("rope_theta",))
