# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import MixtralConfig, MixtralForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([64, 96]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2]), num_local_experts=r.choice([3, 4]),
             num_experts_per_tok=2, bos_token_id=BOS, eos_token_id=EOS)
    yield Case("Mixtral-8x22B-v0.1", MixtralConfig(**s, max_position_embeddings=65536), MixtralForCausalLM,
               tokenizer="spm", shard="80KB", edit=old_rope(1000000, head_dim=None, rope_scaling=None))
    # as its fine-tunes have it: a window that no reader of the base model has
    yield Case("dolphin-2.5-mixtral-8x7b", MixtralConfig(**s, sliding_window=4096, head_dim=16),
               MixtralForCausalLM, tokenizer="spm", dtype="f16", outtype="bf16",
               edit=old_rope(1000000.0, attention_dropout=None, router_aux_loss_coef=0.02))
