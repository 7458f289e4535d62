# SPDX-License-Identifier: Apache-2.0
import torch

from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import GptOssConfig, GptOssForCausalLM

E2M1 = torch.tensor([0, .5, 1, 1.5, 2, 3, 4, 6])
E2M1 = torch.cat([E2M1, -E2M1])


def values(state):
    """Experts as transformers holds them: codes become bf16, inputs before outputs."""
    out = {}
    for k, v in state.items():
        if k.endswith("_blocks"):
            codes = torch.stack([v & 15, v >> 4], dim=-1).flatten(-2).long()
            scale = torch.exp2(state[k.replace("_blocks", "_scales")].float() - 127)
            x = (E2M1[codes] * scale[..., None]).flatten(-2)
            out[k.removesuffix("_blocks")] = x.to(torch.bfloat16).transpose(1, 2).contiguous()
        elif not k.endswith("_scales"):
            out[k] = v
    return out


def one_zero(state):
    """GGUF's MXFP4 has no negative zero."""
    return {k: v + 0 if "experts" in k else v for k, v in values(state).items()}


def packed(c):
    """The tensors of a released checkpoint."""
    h, f, e, d = c["hidden_size"], c["intermediate_size"], c["num_local_experts"], c["head_dim"]
    q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    t = {"model.embed_tokens.weight": [VOCAB, h], "lm_head.weight": [VOCAB, h], "model.norm.weight": [h]}
    for i in range(c["num_hidden_layers"]):
        p = "model.layers.%d." % i
        for n, rows, cols in (("q", q, h), ("k", kv, h), ("v", kv, h), ("o", h, q)):
            t[p + "self_attn.%s_proj.weight" % n] = [rows, cols]
            t[p + "self_attn.%s_proj.bias" % n] = [rows]
        t[p + "self_attn.sinks"] = [c["num_attention_heads"]]
        t[p + "mlp.router.weight"], t[p + "mlp.router.bias"] = [e, h], [e]
        t[p + "input_layernorm.weight"] = t[p + "post_attention_layernorm.weight"] = [h]
        for n, rows, cols in (("gate_up", 2 * f, h), ("down", h, f)):
            m = p + "mlp.experts.%s_proj" % n
            t[m + "_blocks"] = (torch.uint8, [e, rows, cols // 32, 16])
            t[m + "_scales"] = (torch.uint8, [e, rows, cols // 32])
            t[m + "_bias"] = [e, rows]
    return t


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 96]), intermediate_size=r.choice([64, 96]),
             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=r.choice([1, 2]),
             head_dim=r.choice([16, 32]), num_local_experts=r.choice([4, 6]), num_experts_per_tok=2, sliding_window=16)
    yarn = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
            "original_max_position_embeddings": 4096}
    released = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", **s, "attention_bias": True,
                "attention_dropout": 0.0, "eos_token_id": EOS, "experts_per_token": 2, "hidden_act": "silu",
                "initial_context_length": 4096, "max_position_embeddings": 131072, "rms_norm_eps": 1e-05,
                "layer_types": ["sliding_attention", "full_attention"], "rope_scaling": yarn, "rope_theta": 150000,
                "swiglu_limit": 7.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
                "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": [
                    "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}}
    yield Case("gpt-oss-20b", released, tensors=packed(released), back=one_zero, mlx_back=values, keep=True,
               quantize=False)
    yield Case("gpt-oss-values", GptOssConfig(**s, bos_token_id=BOS, eos_token_id=EOS), GptOssForCausalLM,
               edit=old_rope(150000.0, yarn, swiglu_limit=7.0),
               mlx="it takes the values of experts for transposed")
