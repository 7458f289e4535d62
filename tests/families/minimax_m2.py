# SPDX-License-Identifier: Apache-2.0
import torch

from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import MiniMaxM2Config, MiniMaxM2ForCausalLM

F8 = torch.float8_e4m3fn


def in_f32(t):
    for k in t:
        if k.endswith("e_score_correction_bias"):
            t[k] = (torch.float32, t[k][1])


def blocks(t):
    """The matrices of a released checkpoint: FP8 with a scale for each 128 x 128 (transformers takes a grid that has a
    rest for one of smaller blocks)."""
    in_f32(t)
    for k in [k for k in t if "_proj.weight" in k or ".experts." in k]:
        d, (rows, cols) = t[k]
        t[k] = (F8, [rows, cols])
        t[k + "_scale_inv"] = (torch.float32, [-(-rows // 128), -(-cols // 128)])


def values(state):
    """Those of FP8 in bf16."""
    out = {}
    for k, v in state.items():
        if k.endswith("_scale_inv"):
            continue
        if k + "_scale_inv" in state:
            s = state[k + "_scale_inv"].repeat_interleave(128, 0)[:v.shape[0]].repeat_interleave(128, 1)[:, :v.shape[1]]
            v = (v.float() * s).to(torch.bfloat16)
        out[k] = v
    return out


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 256]), intermediate_size=r.choice([64, 128]),
             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=r.choice([1, 2]),
             head_dim=r.choice([32, 64]), num_local_experts=r.choice([4, 6]), num_experts_per_tok=2, bos_token_id=BOS,
             eos_token_id=EOS, rms_norm_eps=1e-06)
    own = dict(rotary_dim=s["head_dim"] // 2, scoring_func="sigmoid", use_qk_norm=True, shared_intermediate_size=0,
               use_routing_bias=True)
    fp8 = {"quant_method": "fp8", "fmt": "float8_e4m3fn", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
           "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]}
    yield Case("MiniMax-M2", MiniMaxM2Config(**s), MiniMaxM2ForCausalLM, tensors=blocks, back=values, mlx_back=values,
               edit=old_rope(5000000.0, quantization_config=fp8, **own))
    yield Case("MiniMax-M2-bf16", MiniMaxM2Config(**s), MiniMaxM2ForCausalLM, tensors=in_f32, shard="60KB",
               edit=old_rope(5000000.0, **own))
    yield Case("saved-by-5", MiniMaxM2Config(**s, **own), MiniMaxM2ForCausalLM, tensors=in_f32, dtype="f16",
               mlx="its class asks for rope_theta at the top of the config", mlx_adds=("rope_theta",))
