# SPDX-License-Identifier: Apache-2.0
from kit import VOCAB, Case, old_rope
from transformers import Gemma2Config, Gemma2ForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_hidden_layers=r.choice([2, 3]),
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2]), head_dim=r.choice([16, 32]))
    s["query_pre_attn_scalar"] = s["head_dim"]  # GGUF has no key for another
    yield Case("gemma-2-2b-it", Gemma2Config(**s), Gemma2ForCausalLM, tokenizer="spm",
               edit=old_rope(10000.0, layer_types=None, cache_implementation="hybrid", sliding_window_size=4096))
    yield Case("gemma-2-27b-it", Gemma2Config(**s, sliding_window=16), Gemma2ForCausalLM,
               tokenizer="spm", dtype="f32", edit=old_rope(10000.0, layer_types=None),
               mlx_logits="mlx-lm's class has no window")
