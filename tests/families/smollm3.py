# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, PAD, VOCAB, Case, old_rope
from transformers import SmolLM3Config, SmolLM3ForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 128]), intermediate_size=r.choice([96, 160]), num_hidden_layers=5,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2]), bos_token_id=BOS, eos_token_id=EOS,
             pad_token_id=PAD)
    yield Case("SmolLM3-3B", SmolLM3Config(**s), SmolLM3ForCausalLM,
               edit=old_rope(5000000.0, max_window_layers=28, sliding_window=None, layer_types=["full_attention"] * 5))
    yield Case("no-list", SmolLM3Config(**s, tie_word_embeddings=False), SmolLM3ForCausalLM, dtype="f16", shard="80KB",
               edit=old_rope(2000000.0, no_rope_layers=None, layer_types=None))
