# SPDX-License-Identifier: Apache-2.0
"""runs.py: what configs say that their families' GGUF cannot hold, which is run from a folder all the same. As a file of
tests/families, for make_logits.py alone."""
from kit import BOS, EOS, VOCAB, Case
from transformers import (Cohere2Config, Cohere2ForCausalLM, CohereConfig, CohereForCausalLM, DeepseekV2Config,
                          DeepseekV2ForCausalLM, Gemma2Config, Gemma2ForCausalLM, GlmConfig, GlmForCausalLM, LlamaConfig,
                          LlamaForCausalLM, NemotronConfig, NemotronForCausalLM, Qwen3Config, Qwen3ForCausalLM,
                          Qwen3MoeConfig, Qwen3MoeForCausalLM, SmolLM3Config, SmolLM3ForCausalLM)

AT_MOST = 10  # cases
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0 + i / 8 for i in range(8)],
        "long_factor": [1.5 + i / 2 for i in range(8)], "original_max_position_embeddings": 16}


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, bos_token_id=BOS, eos_token_id=EOS)

    def case(label, config, model, edit=None, **kw):
        return Case(label, config(**{**s, "pad_token_id": 0, **kw}), model, gguf="no form", mlx="not read", edit=edit)
    yield case("glm-head-dim-linear", GlmConfig, GlmForCausalLM, head_dim=32, rope_parameters={
        "rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0, "partial_rotary_factor": 0.5})
    yield case("command-r-yarn", CohereConfig, CohereForCausalLM, rope_parameters=YARN)
    yield case("nemotron-llama3-silu", NemotronConfig, NemotronForCausalLM, hidden_act="silu",
               rope_parameters={**LLAMA3, "partial_rotary_factor": 0.5})
    yield case("qwen3-longrope", Qwen3Config, Qwen3ForCausalLM, head_dim=16, rope_parameters=LONG)
    yield case("llama-gelu", LlamaConfig, LlamaForCausalLM, hidden_act="gelu")
    yield case("cohere2-layers", Cohere2Config, Cohere2ForCausalLM, sliding_window=8, num_hidden_layers=3,
               layer_types=["full_attention", "sliding_attention", "full_attention"])
    yield case("smollm3-layers", SmolLM3Config, SmolLM3ForCausalLM, num_hidden_layers=3, no_rope_layers=[0, 1, 1])
    yield case("gemma2-no-caps", Gemma2Config, Gemma2ForCausalLM, head_dim=16, attn_logit_softcapping=None,
               final_logit_softcapping=None, sliding_window=8, layer_types=["full_attention", "sliding_attention"])
    yield case("qwen3-moe-dense-layer", Qwen3MoeConfig, Qwen3MoeForCausalLM, head_dim=16, num_experts=4,
               num_experts_per_tok=2, moe_intermediate_size=32, mlp_only_layers=[1])
    yield case("deepseek-v2-greedy-mscale", DeepseekV2Config, DeepseekV2ForCausalLM, num_key_value_heads=4, q_lora_rank=48,
               rms_norm_eps=0.01, kv_lora_rank=32, qk_rope_head_dim=16, qk_nope_head_dim=16, v_head_dim=16, n_routed_experts=4,
               n_shared_experts=1, num_experts_per_tok=2, n_group=2, topk_group=1, topk_method="greedy",
               first_k_dense_replace=1, moe_intermediate_size=32, rope_parameters={**YARN, "mscale": 0.7})
