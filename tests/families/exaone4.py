# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, PAD, VOCAB, Case, old_rope
from transformers import Exaone4_5_Config, Exaone4_5_ForConditionalGeneration, Exaone4Config, Exaone4ForCausalLM

LLAMA3 = {"rope_type": "llama3", "factor": 16.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}
KEYS = ("rope_theta", "rope_scaling", "head_dim", "sliding_window_pattern")


def add_mtp(t):
    """What transformers leaves out: one layer behind the others, and what joins it to them."""
    first = "model.language_model.layers.0."
    d, (_, n) = t[first + "mlp.up_proj.weight"][0], t[first + "mlp.up_proj.weight"][1]
    t.update({"mtp.layers.0." + k[len(first):]: v for k, v in list(t.items()) if k.startswith(first)})
    t["mtp.fc.weight"] = d, [n, 2 * n]
    for k in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"):
        t["mtp.%s.weight" % k] = d, [n]


def alone(state):
    return {k.replace("language_model.", ""): v for k, v in state.items() if "visual." not in k}


def published(c):
    t = c["text_config"]
    old_rope(0, dict(LLAMA3, rope_theta=1000000.0), rope_theta=None, torch_dtype=None, sliding_window_pattern="LLLG",
             num_nextn_predict_layers=1, mtp_share_layers=True, model_type="exaone4_5_text",
             architectures=["Exaone4ForCausalLM"])(t)
    t.pop("tie_word_embeddings", None)


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([96, 160]), num_attention_heads=4,
             num_key_value_heads=r.choice([1, 2, 4]), bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    full = ["full_attention"] * 2
    yield Case("EXAONE-4.0-32B", Exaone4Config(**s, num_hidden_layers=4, sliding_window=16, head_dim=r.choice([16, 32])),
               Exaone4ForCausalLM, edit=old_rope(1000000, LLAMA3, sliding_window_pattern="LLLG"))
    yield Case("EXAONE-4.0-1.2B", Exaone4Config(**s, num_hidden_layers=2, sliding_window=None, layer_types=full, head_dim=16,
                                                tie_word_embeddings=True), Exaone4ForCausalLM, dtype="f16",
               edit=lambda c: (old_rope(1000000, LLAMA3)(c), c.update(sliding_window_pattern=None)))
    asks = "the class of mlx-lm asks for rope_theta and head_dim"
    yield Case("every-third", Exaone4Config(**s, num_hidden_layers=r.choice([3, 4, 6]), sliding_window=8,
                                            sliding_window_pattern=3), Exaone4ForCausalLM, dtype="f32", shard="60KB",
               mlx=asks, mlx_adds=KEYS)
    yield Case("mixed", Exaone4Config(**s, num_hidden_layers=3, sliding_window=8, layer_types=[
        "full_attention", "sliding_attention", "sliding_attention"]), Exaone4ForCausalLM, mlx=asks, mlx_adds=KEYS)
    vision = dict(depth=1, hidden_size=32, intermediate_size=48, num_heads=2, num_key_value_heads=1, out_hidden_size=64,
                  patch_size=4, fullatt_block_indexes=[0])
    yield Case("EXAONE-4.5-33B", Exaone4_5_Config(
        text_config=dict(s, model_type="exaone4", num_hidden_layers=4, sliding_window=16), vision_config=vision),
               Exaone4_5_ForConditionalGeneration, edit=published, tensors=add_mtp, back=alone,
               mlx_back=lambda s: {k: v for k, v in alone(s).items() if not k.startswith("mtp.")},
               mlx="mlx-lm has no class of EXAONE 4.5", mlx_logits="mlx-lm has no class")
