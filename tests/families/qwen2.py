# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import Qwen2Config, Qwen2ForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 128]), intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2]), bos_token_id=BOS, eos_token_id=EOS)
    own = dict(use_sliding_window=False, sliding_window=32768, max_window_layers=21, layer_types=None)
    yield Case("Qwen2.5-0.5B-Instruct", Qwen2Config(**s, tie_word_embeddings=True, max_position_embeddings=32768),
               Qwen2ForCausalLM, edit=old_rope(1000000.0, rope_scaling=None, **own))
    yield Case("Qwen2.5-7B-Instruct", Qwen2Config(**s), Qwen2ForCausalLM, dtype="f16", shard="60KB",
               edit=old_rope(1000000.0, rope_scaling=None, **own))
    # as its card says how to make it long; as transformers 5 writes it
    yield Case("QwQ-32B", Qwen2Config(**s, rope_parameters={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "rope_theta": 1000000.0}),
        Qwen2ForCausalLM, mlx_adds=("rope_theta", "rope_scaling"))
