# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM

SMALL = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=32, qk_rope_head_dim=8, num_experts_per_tok=2,
             first_k_dense_replace=1, bos_token_id=BOS, eos_token_id=EOS)
GATE = dict(scoring_func="softmax", moe_layer_freq=1, ep_size=1, seq_aux=True)


def yarn(mscale):
    return {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": mscale, "mscale_all_dim": mscale,
            "original_max_position_embeddings": 512}


def cases(r):
    s = dict(SMALL, qk_nope_head_dim=r.choice([16, 24]), v_head_dim=r.choice([16, 24]))
    yield Case("DeepSeek-V2-Chat", DeepseekV2Config(**s, q_lora_rank=r.choice([24, 48]), n_routed_experts=4,
               n_shared_experts=r.choice([1, 2]), n_group=2, topk_group=1, topk_method="group_limited_greedy",
               routed_scaling_factor=16.0, norm_topk_prob=False, max_position_embeddings=20480), DeepseekV2ForCausalLM,
               shard="100KB", edit=old_rope(10000, yarn(r.choice([0.707, 1.0])), **GATE))
    # no low rank of q; tied, as no released model is, but as the reference converter understands it
    lite = DeepseekV2Config(**s, q_lora_rank=None, n_routed_experts=3, n_shared_experts=2, n_group=1, topk_group=1,
                            topk_method="greedy", routed_scaling_factor=1.0, norm_topk_prob=r.random() < .5,
                            attention_bias=r.random() < .3)
    yield Case("DeepSeek-V2-Lite", lite, DeepseekV2ForCausalLM, dtype=r.choice(["f16", "bf16"]),
               edit=old_rope(10000.0, yarn(0.707), **GATE),
               logits=not lite.norm_topk_prob or "transformers does not divide by the sum")
