# SPDX-License-Identifier: Apache-2.0
import math

from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import PhimoeConfig, PhimoeForCausalLM

# The reference goes by the two lengths, whatever the config's factor: here it is theirs. (1.2431 in Phi 3.5 MoE.)
MSCALE = math.sqrt(1 + math.log(32) / math.log(4096))


def hub(edit=lambda c: None):
    """The class as it is written on the hub: the reference knows no other."""
    def f(c):
        edit(c)
        c["architectures"] = ["PhiMoEForCausalLM"]
    return f


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([48, 96]), num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]), num_local_experts=r.choice([3, 4]),
             num_experts_per_tok=2, max_position_embeddings=131072, attention_bias=True, lm_head_bias=True,
             bos_token_id=BOS, eos_token_id=EOS)
    rope = {"long_factor": [round(1 + r.random() * 30, 3) for _ in range(8)], "long_mscale": MSCALE,
            "original_max_position_embeddings": 4096, "short_factor": [round(1 + r.random(), 6) for _ in range(8)],
            "short_mscale": MSCALE, "type": "longrope"}
    why = "mlx-lm takes the long factors of longrope for short texts too"
    yield Case("Phi-3.5-MoE-instruct", PhimoeConfig(**s), PhimoeForCausalLM, tokenizer="spm", shard="100KB",
               edit=hub(old_rope(10000.0, rope)), mlx_logits=why)
    rope = {k: v for k, v in rope.items() if k != "type"} | {"rope_type": "longrope", "rope_theta": 20000.0}
    yield Case("Phi-mini-MoE-instruct", PhimoeConfig(**s, sliding_window=2047, rope_parameters=rope), PhimoeForCausalLM,
               tokenizer="spm", dtype="f16", edit=hub(), mlx_adds=("rope_theta", "rope_scaling"),
               mlx_logits=why)
