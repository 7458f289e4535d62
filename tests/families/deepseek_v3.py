# SPDX-License-Identifier: Apache-2.0
import torch
from kit import Case, old_rope
from deepseek_v2 import SMALL, yarn
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

GATE = dict(scoring_func="sigmoid", topk_method="noaux_tc", moe_layer_freq=1, ep_size=1, rope_interleave=None,
            num_mtp_layers=None)


def bias_f32(t):
    """As the checkpoints have it: the bias of the router is not cast."""
    for k in t:
        if k.endswith("e_score_correction_bias"):
            t[k] = (torch.float32, t[k][1])


def with_mtp(t):
    """The last layer once more, and what leads to and from it."""
    bias_f32(t)
    w = torch.bfloat16
    for k in [k for k in t if k.startswith("model.layers.1.")]:
        t[k.replace("layers.1.", "layers.2.")] = t[k]
    for name, shape in (("embed_tokens", t["model.embed_tokens.weight"][1]), ("enorm", [64]), ("hnorm", [64]),
                        ("eh_proj", [64, 128]), ("shared_head.norm", [64]),
                        ("shared_head.head", t["lm_head.weight"][1])):
        t["model.layers.2.%s.weight" % name] = (w, shape)


def without_mtp(state):
    return {k: v for k, v in state.items() if not k.startswith("model.layers.2.")}


def beside_vision(t):
    """As Kimi K2.5 has it."""
    bias_f32(t)
    for k in list(t):
        t["language_model." + k] = t.pop(k)
    for name, shape in (("vision_tower.encoder.final_layernorm.weight", [16]), ("mm_projector.pre_norm.weight", [16]),
                        ("vision_tower.patch_embed.proj.weight", [16, 3, 2, 2]), ("mm_projector.proj.0.weight", [64, 64])):
        t[name] = (torch.bfloat16, shape)


def alone(state):
    return {k.removeprefix("language_model."): v for k, v in state.items()
            if not k.startswith(("vision_tower.", "mm_projector."))}


def nested(text):
    """An edit: the config that it makes, inside that of Kimi K2.5."""
    def edit(c):
        inner = dict(c)
        text(inner)
        c.clear()
        c.update(architectures=["KimiK25ForConditionalGeneration"], bos_token_id=1, dtype="bfloat16", eos_token_id=2,
                 ignore_index=-100, media_placeholder_token_id=299, model_type="kimi_k25", pad_token_id=0,
                 text_config=inner, tie_word_embeddings=False, use_unified_vision_chunk=True,
                 video_placeholder="<|kimi_k25_video_placeholder|>",
                 vision_config=dict(init_pos_emb_height=4, merge_kernel_size=[2, 2], mm_projector_type="patchmerger",
                                    patch_size=2, text_hidden_size=64, vt_hidden_size=16, vt_num_hidden_layers=1))
    return edit


def cases(r):
    s = dict(SMALL, qk_nope_head_dim=r.choice([16, 24]), v_head_dim=r.choice([16, 24]), n_shared_experts=1)
    yield Case("DeepSeek-V3", DeepseekV3Config(**s, q_lora_rank=r.choice([24, 48]), n_routed_experts=4, n_group=2,
               topk_group=1, routed_scaling_factor=2.5, max_position_embeddings=20480), DeepseekV3ForCausalLM,
               tensors=with_mtp, back=without_mtp, mlx_back=without_mtp, mlx="mlx-lm keeps a layer of multi-token prediction",
               logits="a layer of multi-token prediction",
               edit=old_rope(10000, yarn(1.0), num_nextn_predict_layers=1, **GATE))
    yield Case("Moonlight-16B-A3B", DeepseekV3Config(**s, q_lora_rank=None, n_routed_experts=3, n_group=1, topk_group=1,
               routed_scaling_factor=2.446, attention_bias=r.random() < .3), DeepseekV3ForCausalLM, tensors=bias_f32,
               dtype=r.choice(["f16", "bf16"]), edit=old_rope(50000.0, num_nextn_predict_layers=0, **GATE))
    yield Case("Kimi-K2-Instruct", DeepseekV3Config(**s, q_lora_rank=24, n_routed_experts=4, n_group=1, topk_group=1,
               routed_scaling_factor=2.827), DeepseekV3ForCausalLM, tensors=bias_f32, outtype=r.choice(["bf16", "f16"]),
               logits="transformers has no class for kimi_k2",
               edit=old_rope(50000.0, dict(yarn(1.0), factor=32.0, beta_slow=1.0, beta_fast=1.0), model_type="kimi_k2",
                             num_nextn_predict_layers=0, **GATE))
    yield Case("Kimi-K2.5", DeepseekV3Config(**s, q_lora_rank=24, n_routed_experts=3, n_group=1, topk_group=1,
               routed_scaling_factor=2.827), DeepseekV3ForCausalLM, tensors=beside_vision, back=alone, mlx_back=alone,
               logits="transformers has no class for kimi_k2",
               edit=nested(old_rope(50000.0, dict(yarn(1.0), factor=64.0, beta_slow=1.0, beta_fast=32.0),
                                    model_type="kimi_k2", num_nextn_predict_layers=0, **GATE)))
