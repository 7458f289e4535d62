# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM


def cases(r):
    s = dict(vocab_size=VOCAB, intermediate_size=96, num_hidden_layers=2, num_experts=r.choice([3, 4]),
             num_experts_per_tok=2, moe_intermediate_size=r.choice([32, 48]), bos_token_id=BOS, eos_token_id=EOS)
    own = dict(use_sliding_window=False, max_window_layers=21, decoder_sparse_step=1, layer_types=None, qkv_bias=None,
               mlp_only_layers=None)
    yield Case("Qwen1.5-MoE-A2.7B-Chat", Qwen2MoeConfig(
        **s, hidden_size=64, num_attention_heads=4, num_key_value_heads=4, shared_expert_intermediate_size=64),
        Qwen2MoeForCausalLM, edit=old_rope(1000000.0, sliding_window=32768, rope_scaling=None, **own))
    # the larger one, made long
    yield Case("Qwen2-57B-A14B-Instruct", Qwen2MoeConfig(
        **s, hidden_size=112, num_attention_heads=7, num_key_value_heads=1, shared_expert_intermediate_size=96),
        Qwen2MoeForCausalLM, shard="80KB", mlx="mlx-lm's class has linear rope scaling only", quantize=False,
        mlx_logits="mlx-lm's class has linear rope scaling only",
        edit=old_rope(1000000.0, {"factor": 4.0, "original_max_position_embeddings": 8192, "type": "yarn"},
                      sliding_window=65536, **own))
