# SPDX-License-Identifier: Apache-2.0
"""rope.py: what configs say of rope and GGUF has no key for, which counts where a folder is run. As a file of
tests/families, for make_logits.py alone."""
from kit import BOS, EOS, VOCAB, Case
from transformers import (DeepseekV3Config, DeepseekV3ForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM)

AT_MOST = 5  # cases


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=1, bos_token_id=BOS, eos_token_id=EOS)
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}

    def case(label, config, model, rope, **kw):
        return Case(label, config(**s, rope_parameters=rope, **kw), model, gguf="no key", mlx="not read")
    yield case("yarn-attention-factor", LlamaConfig, LlamaForCausalLM, {**yarn, "attention_factor": 1.5})
    yield case("yarn-mscale", Qwen2Config, Qwen2ForCausalLM, {**yarn, "mscale": 0.7, "mscale_all_dim": 1.2})
    yield case("yarn-truncate", LlamaConfig, LlamaForCausalLM, {**yarn, "truncate": False, "beta_fast": 16.0})
    # the text is longer than what it was trained for
    yield case("dynamic", LlamaConfig, LlamaForCausalLM, {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
               max_position_embeddings=24)
    s.update(num_key_value_heads=4, q_lora_rank=None, kv_lora_rank=32, qk_rope_head_dim=16, qk_nope_head_dim=16, v_head_dim=16,
             n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, n_group=1, topk_group=1, first_k_dense_replace=1,
             moe_intermediate_size=32)
    yield case("latent-attention-factor", DeepseekV3Config, DeepseekV3ForCausalLM,
               {**yarn, "attention_factor": 1.0, "truncate": False, "original_max_position_embeddings": 16})
