# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, PAD, VOCAB, Case, old_rope
from transformers import Cohere2Config, Cohere2ForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_attention_heads=4,
             num_key_value_heads=r.choice([1, 2, 4]), logit_scale=r.choice([0.0625, 0.25]), bos_token_id=BOS,
             eos_token_id=EOS, pad_token_id=PAD)
    rotary = {"edit": lambda c: c.update(rotary_pct=1.0)}  # the reference cannot do without
    yield Case("c4ai-command-r7b-12-2024", Cohere2Config(**s, num_hidden_layers=4, sliding_window=16), Cohere2ForCausalLM,
               edit=old_rope(50000.0, layer_types=None, sliding_window_pattern=4, rotary_pct=1.0, head_dim=16))
    yield Case("command-a", Cohere2Config(**s, num_hidden_layers=r.choice([4, 5, 8]), sliding_window=32),
               Cohere2ForCausalLM, dtype="f16", mlx_adds=("rope_theta",), **rotary)
    yield Case("biased", Cohere2Config(**s, num_hidden_layers=4, attention_bias=True), Cohere2ForCausalLM,
               gguf="no form for biases", mlx_adds=("rope_theta",), **rotary)
