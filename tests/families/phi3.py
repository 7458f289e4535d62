# SPDX-License-Identifier: Apache-2.0
import json

from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import Phi3Config, Phi3ForCausalLM

# Phi 4's; with another class the reference asks for tokenizer.model
GPT2 = {"tokenizer_config.json": json.dumps({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>",
                                             "eos_token": "</s>", "pad_token": "<pad>"})}


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 96]), intermediate_size=r.choice([96, 160]),
             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]),
             max_position_embeddings=4096, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=None)
    pairs = s["hidden_size"] // 8
    yield Case("Phi-3-mini-4k-instruct", Phi3Config(**s, sliding_window=2047), Phi3ForCausalLM, tokenizer="spm",
               files={"added_tokens.json": json.dumps({"<|user|>": 361, " x": 362, "<s>": BOS})})

    def factors(n):
        return {"long_factor": [round(1 + r.random() * 30, 3) for _ in range(n)],
                "short_factor": [round(1 + r.random(), 6) for _ in range(n)]}
    yield Case("Phi-3.5-mini-instruct", Phi3Config(**dict(s, max_position_embeddings=131072), sliding_window=262144),
               Phi3ForCausalLM, dtype="f16", tokenizer="spm",
               edit=old_rope(10000.0, {"type": r.choice(["longrope", "yarn"]), **factors(pairs)}),
               mlx_logits="mlx-lm takes the long factors of longrope for short texts too")
    s["max_position_embeddings"] = r.choice([4096, 16384])
    yield Case("Phi-4-mini-instruct", Phi3Config(
        **s, original_max_position_embeddings=4096, tie_word_embeddings=True, rope_parameters={
            "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75, **factors(pairs * 3 // 4)}),
               Phi3ForCausalLM, files=GPT2, mlx_adds=("partial_rotary_factor", "rope_theta", "rope_scaling"),
               mlx_logits="mlx-lm takes the long factors of longrope for short texts too")
    s["max_position_embeddings"] = 16384
    yield Case("phi-4", Phi3Config(**s), Phi3ForCausalLM, files=GPT2,
               edit=old_rope(250000.0, original_max_position_embeddings=16384))
