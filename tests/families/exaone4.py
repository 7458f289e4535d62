# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, PAD, VOCAB, Case, old_rope
from transformers import Exaone4Config, Exaone4ForCausalLM

LLAMA3 = {"rope_type": "llama3", "factor": 16.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}
KEYS = ("rope_theta", "rope_scaling", "head_dim", "sliding_window_pattern")


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_attention_heads=4,
             num_key_value_heads=r.choice([1, 2, 4]), bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    full = ["full_attention"] * 2
    yield Case("EXAONE-4.0-32B", Exaone4Config(**s, num_hidden_layers=4, sliding_window=16, head_dim=r.choice([16, 32])),
               Exaone4ForCausalLM, edit=old_rope(1000000, LLAMA3, sliding_window_pattern="LLLG"))
    yield Case("EXAONE-4.0-1.2B", Exaone4Config(**s, num_hidden_layers=2, sliding_window=None, layer_types=full, head_dim=16,
                                                tie_word_embeddings=True), Exaone4ForCausalLM, dtype="f16",
               edit=lambda c: (old_rope(1000000, LLAMA3)(c), c.update(sliding_window_pattern=None)))
    asks = "the class of mlx-lm asks for rope_theta and head_dim"
    yield Case("every-third", Exaone4Config(**s, num_hidden_layers=r.choice([3, 4, 6]), sliding_window=8,
                                            sliding_window_pattern=3), Exaone4ForCausalLM, dtype="f32", shard="60KB",
               mlx=asks, mlx_adds=KEYS)
    yield Case("mixed", Exaone4Config(**s, num_hidden_layers=3, sliding_window=8, layer_types=[
        "full_attention", "sliding_attention", "sliding_attention"]), Exaone4ForCausalLM, mlx=asks, mlx_adds=KEYS)
