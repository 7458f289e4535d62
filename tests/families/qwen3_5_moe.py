# SPDX-License-Identifier: Apache-2.0
from kit import Case
from qwen3_5 import ALONE, VISION, alone, sections, sizes
from qwen3_next import LAYERS, MLX_LOSSY, NORMS, ROUNDED, add_mtp, mlx_back, stack, without_mtp
from transformers import Qwen3_5MoeConfig, Qwen3_5MoeForCausalLM, Qwen3_5MoeForConditionalGeneration, Qwen3_5MoeTextConfig


def experts(r, heads=None):
    return dict(sizes(r, heads), num_experts=r.choice([3, 4]), num_experts_per_tok=2, moe_intermediate_size=r.choice([32, 48]),
                shared_expert_intermediate_size=r.choice([32, 64]))


def cases(r):
    s = experts(r, 2)
    yield Case("Qwen3.5-35B-A3B", Qwen3_5MoeConfig(text_config=s, vision_config=VISION),
               Qwen3_5MoeForConditionalGeneration, dtype="f16", edit=sections, lossy=("A_log", *NORMS),
               tensors=lambda t: stack(t, s["num_experts"], "model.language_model."), back=alone,
               mlx_back=lambda x: mlx_back(alone(x)), mlx_lossy=MLX_LOSSY, mlx_logits=ROUNDED,
               fuse_qkv=False, without_mtp=True, quantize=False)
    u = experts(r)

    def stacked_mtp(t):
        stack(t, u["num_experts"])
        add_mtp(t)
    yield Case("Qwen3.5-MoE-text", Qwen3_5MoeTextConfig(**u), Qwen3_5MoeForCausalLM, dtype="f32", tensors=stacked_mtp,
               lossy=("A_log",), mlx=ALONE, mlx_back=without_mtp, fuse_qkv=False, mtp=True)
