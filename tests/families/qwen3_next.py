# SPDX-License-Identifier: Apache-2.0
import torch
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

NORMS = ("layernorm.weight", "model.norm.weight", "q_norm.weight", "k_norm.weight")
MLX_LOSSY = ("attn_norm", "attention_norm", "output_norm", "q_norm", "k_norm")
ROUNDED = "mlx-lm rounds norms + 1 to the model's type: where two experts are near, it may take the other"
LAYERS = 2


def mlx_back(state):
    """mlx-lm holds these norms as value + 1, in the model's type."""
    return {k: (v + 1 - 1 if k.endswith(NORMS) else v) for k, v in state.items()}


def linear(r, heads=None):
    """Sizes of the layers of linear attention; heads of values for one of keys."""
    keys = r.choice([1, 2])
    return dict(linear_conv_kernel_dim=r.choice([3, 4]), linear_key_head_dim=r.choice([16, 24]),
                linear_value_head_dim=r.choice([16, 32]), linear_num_key_heads=keys,
                linear_num_value_heads=keys * (heads or r.choice([1, 2, 3])))


def sizes(r, heads=None):
    return dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=4,
                num_key_value_heads=2, head_dim=r.choice([16, 32]), num_experts=2, num_experts_per_tok=2,
                moe_intermediate_size=r.choice([32, 48]), shared_expert_intermediate_size=r.choice([32, 64]),
                bos_token_id=BOS, eos_token_id=EOS, **linear(r, heads))


def add_mtp(t, at="model."):
    """A layer of multi-token prediction, built like the last one, which transformers does not load."""
    last = "%slayers.%d." % (at, LAYERS - 1)
    for k in [k for k in t if k.startswith(last)]:
        t["mtp.layers.0." + k[len(last):]] = t[k]
    d, (_, n) = t[at + "embed_tokens.weight"]
    t["mtp.fc.weight"] = (d, [n, 2 * n])
    for k in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        t["mtp.%s.weight" % k] = (d, [n])


def without_mtp(state):
    return {k: v for k, v in state.items() if not k.startswith("mtp.")}


def cases(r):
    # as published: no layer_types
    yield Case("Qwen3-Next-80B-A3B", Qwen3NextConfig(full_attention_interval=2, **sizes(r, 2)), Qwen3NextForCausalLM,
               edit=old_rope(10000000.0, partial_rotary_factor=0.25, full_attention_interval=2, layer_types=None),
               mlx_back=mlx_back, mlx_lossy=MLX_LOSSY, mlx_logits=ROUNDED, fuse_qkv=False, without_mtp=True, quantize=False)
    # what is f32 comes through MLX exactly, but not through exp and log
    yield Case("Qwen3-Next-MTP", Qwen3NextConfig(full_attention_interval=2, **sizes(r)), Qwen3NextForCausalLM, dtype="f32",
               edit=old_rope(10000000.0, partial_rotary_factor=0.25, full_attention_interval=2), tensors=add_mtp,
               lossy=("A_log",), mlx_back=without_mtp, fuse_qkv=False, mtp=True)
    # as transformers 5 writes it; in f16 the reference adds and exponentiates with 11 bits
    s, share, every = dict(sizes(r, 1), num_experts=r.choice([3, 4])), r.choice([0.5, 0.75, 1.0]), r.choice([1, 2])
    yield Case("Qwen3-Next-Stacked", Qwen3NextConfig(full_attention_interval=every, partial_rotary_factor=share,
                                                     attention_bias=r.choice([True, False]), tie_word_embeddings=True, **s),
               Qwen3NextForCausalLM, dtype="f16", tensors=lambda t: stack(t, s["num_experts"]), lossy=("A_log", *NORMS),
               back=unstack, mlx_back=lambda x: mlx_back(unstack(x)), mlx_lossy=MLX_LOSSY,
               mlx="mlx-lm wants rope_theta and experts one by one", fuse_qkv=False, without_mtp=True)


def stack(t, n, at="model."):
    """Experts as transformers 5 holds them in memory."""
    for b in range(LAYERS):
        p = "%slayers.%d.mlp.experts." % (at, b)
        kind, (rows, cols) = t[p + "0.gate_proj.weight"]
        for e in range(n):
            for name in ("gate_proj", "up_proj", "down_proj"):
                t.pop("%s%d.%s.weight" % (p, e, name))
        t[p + "gate_up_proj"] = (kind, [n, 2 * rows, cols])
        t[p + "down_proj"] = (kind, [n, cols, rows])


def unstack(state):
    out = {}
    for k, v in state.items():
        if k.endswith("experts.gate_up_proj"):
            for e, x in enumerate(v):
                gate, up = torch.chunk(x, 2)
                out[k.replace("gate_up_proj", "%d.gate_proj.weight" % e)] = gate.contiguous()
                out[k.replace("gate_up_proj", "%d.up_proj.weight" % e)] = up.contiguous()
        elif k.endswith("experts.down_proj"):
            for e, x in enumerate(v):
                out[k.replace("down_proj", "%d.down_proj.weight" % e)] = x.contiguous()
        else:
            out[k] = v
    return out
