# SPDX-License-Identifier: Apache-2.0
from kit import VOCAB, Case, old_rope
from transformers import GemmaConfig, GemmaForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, head_dim=r.choice([16, 32]))
    yield Case("gemma-2b-it", GemmaConfig(**s, num_key_value_heads=1), GemmaForCausalLM, tokenizer="spm",
               edit=old_rope(10000.0, hidden_act="gelu", hidden_activation=None, tie_word_embeddings=None))
    # as of its second version
    yield Case("codegemma-7b", GemmaConfig(**s, num_key_value_heads=4), GemmaForCausalLM, tokenizer="spm", dtype="f16",
               shard="60KB", lossy=("norm.weight",), edit=old_rope(10000.0, hidden_activation="gelu_pytorch_tanh"))
