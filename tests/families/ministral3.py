# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, PAD, VOCAB, Case
from transformers import Ministral3Config, Ministral3ForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]), head_dim=r.choice([16, 32]),
             bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    rope = {"rope_type": "yarn", "type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "mscale": 1.0,
            "mscale_all_dim": 1.0, "original_max_position_embeddings": 16, "max_position_embeddings": 256,
            "beta_fast": 32.0, "beta_slow": 1.0, "llama_4_scaling_beta": r.choice([0.1, 0.25])}
    yield Case("Ministral-3-8B-Base-2512", Ministral3Config(**s, max_position_embeddings=256, rope_parameters=rope),
               Ministral3ForCausalLM)
    yield Case("tied", Ministral3Config(**s, tie_word_embeddings=True), Ministral3ForCausalLM, dtype="f16", tokenizer="spm")
    yield Case("other-factor", Ministral3Config(**s, max_position_embeddings=256, rope_parameters=dict(
        rope, mscale_all_dim=0.5, factor=4.0)), Ministral3ForCausalLM, dtype="f32", shard="60KB")
