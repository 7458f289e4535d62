# SPDX-License-Identifier: Apache-2.0
from kit import EOS, VOCAB, Case, old_rope
from transformers import Olmo2Config, Olmo2ForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 96]), intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, eos_token_id=EOS, pad_token_id=1, max_position_embeddings=4096)
    yield Case("OLMo-2-1124-7B-Instruct", Olmo2Config(**s, num_key_value_heads=4, rms_norm_eps=1e-6), Olmo2ForCausalLM,
               edit=old_rope(500000))
    yield Case("OLMo-2-0325-32B", Olmo2Config(**s, num_key_value_heads=r.choice([1, 2])), Olmo2ForCausalLM, dtype="f32",
               outtype="bf16", shard="60KB", edit=old_rope(500000, torch_dtype="float32"))
    yield Case("biased", Olmo2Config(**s, num_key_value_heads=2, attention_bias=True), Olmo2ForCausalLM, dtype="f16",
               mlx_adds=("rope_theta", "rope_scaling"))
