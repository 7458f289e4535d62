# SPDX-License-Identifier: Apache-2.0
import json

from kit import Case
from transformers import Gemma3TextConfig, Gemma3TextModel

VOCAB = 303  # entries of the tokenizer's vocabulary and of added_tokens: rows beyond them are cut off
MODULES = json.dumps([{"idx": i, "name": str(i), "path": path, "type": "sentence_transformers.models." + kind}
                      for i, (path, kind) in enumerate([("", "Transformer"), ("2_Dense", "Dense")])])


def named(state):
    """As a model with a head has them: transformers takes either."""
    return {"model." + k.removeprefix("model."): v for k, v in state.items()}


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2]), head_dim=r.choice([16, 32]),
             max_position_embeddings=512, sliding_window=r.choice([16, 64]), use_bidirectional_attention=True)
    s["query_pre_attn_scalar"] = s["head_dim"]
    yield Case("embeddinggemma-300m", Gemma3TextConfig(**s), Gemma3TextModel, files={"modules.json": MODULES},
               back=named, mlx_back=named, mlx="mlx-lm has no class for models without a head",
               logits="it has none", mlx_logits="it has none")
