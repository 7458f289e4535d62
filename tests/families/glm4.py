# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, glm_tokenizer, old_rope
from transformers import Glm4Config, Glm4ForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 96]), intermediate_size=r.choice([96, 160]),
             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]),
             head_dim=r.choice([16, 32]), bos_token_id=BOS, eos_token_id=EOS, pad_token_id=None)
    yield Case("GLM-4-9B-0414", Glm4Config(**s, attention_bias=False), Glm4ForCausalLM, files=glm_tokenizer(),
               edit=old_rope(partial_rotary_factor=0.5))
    yield Case("GLM-Z1-9B-0414", Glm4Config(**s, rope_parameters={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "rope_theta": 10000.0,
        "partial_rotary_factor": r.choice([0.5, 0.25])}), Glm4ForCausalLM, dtype="f16", files=glm_tokenizer(),
               mlx="mlx-lm's class asks for rope_theta and partial_rotary_factor",
               mlx_logits="mlx-lm's class has no rope scaling")
