# SPDX-License-Identifier: Apache-2.0
import torch
from kit import BOS, EOS, VOCAB, Case
from transformers import GPT2Config, GPT2LMHeadModel


def bare(t):
    """Names of the inner model, as the first checkpoints have them."""
    for k in list(t):
        t[k.removeprefix("transformer.")] = t.pop(k)


def masks(t):
    bare(t)
    for b in range(2):
        t["h.%d.attn.bias" % b] = (torch.float32, [1, 1, 64, 64])
        t["h.%d.attn.masked_bias" % b] = (torch.float32, [])


def named(state):
    return {k if k.startswith("transformer.") else "transformer." + k: v for k, v in state.items()}


def cases(r):
    s = dict(vocab_size=VOCAB, n_positions=64, n_ctx=64, n_embd=r.choice([64, 96]), n_layer=2,
             n_head=r.choice([2, 4]), bos_token_id=BOS, eos_token_id=EOS)
    own = "mlx-lm reads only names without 'transformer.'"
    yield Case("gpt2", GPT2Config(**s), GPT2LMHeadModel, mlx=own, shard="100KB", dtype=r.choice(["bf16", "f32"]))
    yield Case("gpt2-first", GPT2Config(**s), GPT2LMHeadModel, tensors=masks, back=named, mlx_back=named,
               unread=(".attn.bias", ".attn.masked_bias"), dtype="f32")
    yield Case("gpt2-medium-f16", GPT2Config(**s, layer_norm_epsilon=1e-6), GPT2LMHeadModel, tensors=bare,
               back=named, mlx_back=named, dtype="f16")
