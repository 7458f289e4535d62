# SPDX-License-Identifier: Apache-2.0
import json

from kit import Case
from transformers import Gemma4Config, Gemma4ForCausalLM, Gemma4ForConditionalGeneration, Gemma4TextConfig


def tokenizer():
    """BPE with byte fallback, as gemma4's: letters, a pair of them, marks that stay visible."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>"] + [chr(c) for c in range(97, 123)] + ["\u2581", "th", "\u2581t"]
    vocab = {t: i for i, t in enumerate(tokens)}
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, t in enumerate(tokens[:4])]
    added += [dict(added[0], id=len(tokens) + i, content=t) for i, t in enumerate(["<|channel>", "<|turn>", "<|\"|>"])]
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
             "vocab": vocab, "merges": [["t", "h"], ["\u2581", "t"]]}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": space,
            "pre_tokenizer": split, "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": model}


TOK = tokenizer()
VOCAB = len(TOK["model"]["vocab"]) + len(TOK["added_tokens"])  # rows beyond them are cut off
FILES = {"tokenizer.json": json.dumps(TOK, ensure_ascii=False, separators=(",", ":")),
         "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>",
                                              "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"})}


def alone(state):
    """The language model among the parts of a class, as its own class has it."""
    return {k.replace("language_model.", ""): v for k, v in state.items() if not k.removeprefix("model.").startswith(
        ("vision_tower.", "audio_tower.", "embed_vision.", "embed_audio."))}


def few(t):
    """An edit of tensors: some of the other parts are enough."""
    others = [k for k in t if not k.startswith(("model.language_model.", "lm_head."))]
    for k in others[3:-3]:
        t.pop(k)


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([64, 96]), num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, head_dim=16, global_head_dim=32,
             max_position_embeddings=512, sliding_window=r.choice([16, 64]), final_logit_softcapping=30.0,
             vocab_size_per_layer_input=VOCAB, layer_types=["sliding_attention"] + ["full_attention"] * 2)
    per_layer = dict(s, hidden_size_per_layer_input=16, num_kv_shared_layers=1)
    k_eq_v = dict(s, hidden_size_per_layer_input=0, attention_k_eq_v=True, num_global_key_value_heads=1)
    vision = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                  num_key_value_heads=2, head_dim=8, patch_size=2, position_embedding_size=4)
    audio = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, subsampling_conv_channels=[4, 2],
                 output_proj_dims=16)

    def old(c):
        """As released: sizes under names of their own."""
        t = c.get("text_config", c)
        full = next(iter(t.pop("per_layer_config").values()))
        t["global_head_dim"] = full["head_dim"]
        t["num_global_key_value_heads"] = full.get("num_key_value_heads")
        c["vocab_size"] = VOCAB
    yield Case("gemma-4-E2B-it", Gemma4Config(text_config=dict(per_layer, use_double_wide_mlp=True),
                                              vision_config=vision, audio_config=audio),
               Gemma4ForConditionalGeneration, tensors=few, files=FILES, pre=False, edit=old, back=alone, mlx_back=alone)
    k_eq_v.update(num_hidden_layers=2, layer_types=s["layer_types"][:2])
    experts = dict(k_eq_v, num_experts=r.choice([2, 3]), top_k_experts=2, moe_intermediate_size=32,
                   enable_moe_block=True)
    yield Case("gemma-4-26B-A4B-it", Gemma4Config(text_config=experts, vision_config=vision),
               Gemma4ForConditionalGeneration, tensors=few, files=FILES, pre=False, edit=old, back=alone,
               mlx_back=alone, outtype="f32")
    yield Case("gemma-4-31B", Gemma4TextConfig(**dict(k_eq_v, final_logit_softcapping=None)), Gemma4ForCausalLM,
               dtype="f16", files=FILES, pre=False, mlx="mlx-lm does not read per_layer_config")
