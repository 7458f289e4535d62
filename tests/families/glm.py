# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, glm_tokenizer, old_rope
from transformers import GlmConfig, GlmForCausalLM


def cases(r):
    # The reference takes the hidden size for the context length, and 1e-05 and 10000 whatever the config says: here
    # they are so.
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 128]), intermediate_size=r.choice([96, 160]),
             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]),
             rms_norm_eps=1e-5, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=None)
    s.update(head_dim=s["hidden_size"] // 4, max_position_embeddings=s["hidden_size"])
    yield Case("glm-4-9b-chat-hf", GlmConfig(**s), GlmForCausalLM, files=glm_tokenizer(),
               edit=old_rope(partial_rotary_factor=0.5), mlx_logits="mlx-lm rotates whole heads")
    yield Case("glm-edge-1.5b-chat", GlmConfig(**s, attention_bias=False, rope_parameters={
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}), GlmForCausalLM, dtype="f32",
               files=glm_tokenizer(), mlx_adds=("rope_theta",))
