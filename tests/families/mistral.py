# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import MistralConfig, MistralForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2]), bos_token_id=BOS, eos_token_id=EOS)
    yield Case("Mistral-7B-v0.1", MistralConfig(**s, sliding_window=4096), MistralForCausalLM, tokenizer="spm",
               edit=old_rope(10000.0, head_dim=None, rope_scaling=None))
    yield Case("Mistral-7B-Instruct-v0.3", MistralConfig(**s, sliding_window=None, max_position_embeddings=32768),
               MistralForCausalLM, tokenizer="spm", dtype="f16", shard="60KB",
               edit=old_rope(1000000.0, head_dim=None, rope_scaling=None))
    # heads larger than their share of the hidden size
    yield Case("Mistral-Nemo-Instruct-2407", MistralConfig(**s, sliding_window=None, head_dim=r.choice([24, 32])),
               MistralForCausalLM, edit=old_rope(1000000.0, rope_scaling=None))
