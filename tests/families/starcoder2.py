# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import Starcoder2Config, Starcoder2ForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 96]), intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2]), bos_token_id=BOS, eos_token_id=EOS)
    yield Case("starcoder2-3b", Starcoder2Config(**s, sliding_window=4096, max_position_embeddings=16384),
               Starcoder2ForCausalLM, edit=old_rope(999999.4420358813, rope_scaling=None, mlp_type="default",
                                                    norm_type="layer_norm", tie_word_embeddings=None))
    yield Case("starcoder2-15b", Starcoder2Config(**s, tie_word_embeddings=False), Starcoder2ForCausalLM, dtype="f32",
               outtype="bf16", shard="60KB", edit=old_rope(100000, rope_scaling=None, torch_dtype="float32"))
