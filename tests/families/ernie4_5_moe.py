# SPDX-License-Identifier: Apache-2.0
import torch
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import Ernie4_5_MoeConfig, Ernie4_5_MoeForCausalLM


def published(bias):
    """Routers in f32, a layer of multi-token prediction, and with or without the bias of the scores."""
    def edit(t):
        h = t["model.norm.weight"][1][0]
        dtype = t["model.norm.weight"][0]
        for k in list(t):
            if k.endswith("e_score_correction_bias") and not bias:
                t.pop(k)
            elif k.endswith(("mlp.gate.weight", "e_score_correction_bias")):
                t[k] = (torch.float32, t[k][1])
        t.update({"model.mtp_emb_norm.0.weight": (dtype, [h]), "model.mtp_hidden_norm.0.weight": (dtype, [h]),
                  "model.mtp_linear_proj.0.weight": (dtype, [h, 2 * h]),
                  "model.mtp_block.0.input_layernorm.weight": (dtype, [h]),
                  "model.mtp_block.0.mlp.up_proj.weight": (dtype, [96, h])})
    return edit


def kept(state):
    return {k: v for k, v in state.items() if ".mtp_" not in k}


def for_mlx(state):
    return {k: v for k, v in kept(state).items() if "e_score" not in k}


def cases(r):
    kv, moe = r.choice([1, 2, 4]), r.choice([32, 48])
    shared = r.choice([1, 2])
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 128]), intermediate_size=kv * moe * shared,
             num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=kv, bos_token_id=BOS, eos_token_id=EOS,
             moe_intermediate_size=moe, moe_num_experts=r.choice([3, 4]), moe_k=2, moe_num_shared_experts=shared)
    m = Ernie4_5_MoeForCausalLM
    yield Case("ERNIE-4.5-21B-A3B-PT", Ernie4_5_MoeConfig(**s), m, tokenizer="spm", tensors=published(False),
               back=kept, mlx_back=kept, edit=old_rope(500000.0, torch_dtype=None))
    yield Case("ernie-moe-biased", Ernie4_5_MoeConfig(**{**s, "moe_num_shared_experts": 0}, use_bias=True,
                                                      tie_word_embeddings=False), m, tokenizer="spm",
               tensors=published(True), back=kept, mlx_back=for_mlx, edit=old_rope(10000.0, moe_layer_start_index=1),
               mlx="mlx-lm expects biases of the experts with use_bias",
               mlx_logits="mlx-lm knows no bias on the scores of experts")
