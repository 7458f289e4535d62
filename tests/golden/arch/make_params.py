#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes params.json: configs (published ones and random ones) and the <arch>.* pairs that the
converter writes for them; no weights are needed for that.

usage: make_params.py LLAMA_CPP [N]      N random configs are tried, 200 are kept
"""
import json
import logging
import os
import random
import struct
import sys
import tempfile
from pathlib import Path

LLAMA_CPP = sys.argv[1]
N = int(sys.argv[2]) if len(sys.argv) > 2 else 400
sys.path.insert(0, LLAMA_CPP)
sys.path.insert(0, os.path.join(LLAMA_CPP, "gguf-py"))
os.environ["HF_HUB_OFFLINE"] = "1"
logging.disable(logging.CRITICAL)
import gguf  # noqa: E402
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class  # noqa: E402

random.seed(11)
R = random.random
PUBLISHED = [  # as on the hub; shortened to what a model's shape consists of
    dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=4096, hidden_act="silu",
         intermediate_size=14336, max_position_embeddings=131072, num_attention_heads=32,
         num_hidden_layers=32, num_key_value_heads=8, pretraining_tp=1, rms_norm_eps=1e-05,
         rope_scaling=dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                           original_max_position_embeddings=8192, rope_type="llama3"),
         rope_theta=500000.0, tie_word_embeddings=False, torch_dtype="bfloat16", vocab_size=128256,
         bos_token_id=128000, eos_token_id=[128001, 128008, 128009], attention_bias=False,
         attention_dropout=0.0, initializer_range=0.02, mlp_bias=False, use_cache=True),
    dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=4096,
         intermediate_size=11008, max_position_embeddings=4096, num_attention_heads=32,
         num_hidden_layers=32, num_key_value_heads=32, rms_norm_eps=1e-05, rope_scaling=None,
         vocab_size=32000, bos_token_id=1, eos_token_id=2, pretraining_tp=1, hidden_act="silu"),
    dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=4096,
         intermediate_size=11008, max_length=4096, max_sequence_length=2048,
         num_attention_heads=32, num_hidden_layers=32, rms_norm_eps=1e-06, vocab_size=32000),
    dict(architectures=["MistralForCausalLM"], model_type="mistral", hidden_size=4096,
         intermediate_size=14336, max_position_embeddings=32768, num_attention_heads=32,
         num_hidden_layers=32, num_key_value_heads=8, rms_norm_eps=1e-05, rope_theta=1000000.0,
         sliding_window=None, vocab_size=32768, tie_word_embeddings=False, hidden_act="silu"),
    dict(architectures=["MistralForCausalLM"], model_type="mistral", hidden_size=5120, head_dim=128,
         intermediate_size=14336, max_position_embeddings=1024000, num_attention_heads=32,
         num_hidden_layers=40, num_key_value_heads=8, rms_norm_eps=1e-05, rope_theta=1000000.0,
         sliding_window=None, vocab_size=131072),
    dict(architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_size=896,
         intermediate_size=4864, max_position_embeddings=32768, max_window_layers=21,
         num_attention_heads=14, num_hidden_layers=24, num_key_value_heads=2, rms_norm_eps=1e-06,
         rope_theta=1000000.0, sliding_window=32768, tie_word_embeddings=True,
         use_sliding_window=False, vocab_size=151936, hidden_act="silu", use_mrope=False),
    dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", attention_bias=False, head_dim=128,
         hidden_size=1024, intermediate_size=3072, max_position_embeddings=40960,
         max_window_layers=28, num_attention_heads=16, num_hidden_layers=28, num_key_value_heads=8,
         rms_norm_eps=1e-06, rope_scaling=None, rope_theta=1000000, sliding_window=None,
         tie_word_embeddings=True, use_sliding_window=False, vocab_size=151936),
    dict(architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", attention_bias=False,
         attn_logit_softcapping=None, final_logit_softcapping=None, head_dim=256, hidden_size=1152,
         hidden_activation="gelu_pytorch_tanh", intermediate_size=6912, cache_implementation="hybrid",
         max_position_embeddings=32768, num_attention_heads=4, num_hidden_layers=26,
         num_key_value_heads=1, query_pre_attn_scalar=256, rms_norm_eps=1e-06,
         rope_local_base_freq=10000, rope_scaling=None, rope_theta=1000000, sliding_window=512,
         sliding_window_pattern=6, vocab_size=262144, eos_token_id=[1, 106]),
]
CLASSES = {"llama": ["LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel", "IQuestCoderForCausalLM"],
           "mistral": ["MistralForCausalLM"], "qwen2": ["Qwen2ForCausalLM", "Qwen2Model"],
           "qwen3": ["Qwen3ForCausalLM", "Qwen3Model"], "gemma3_text": ["Gemma3ForCausalLM"]}


def scaling():
    t = random.choice(["linear", "yarn", "dynamic", "llama3", "default"])
    s = {random.choice(["type", "rope_type"]): t}
    for k, v in (("factor", random.choice([2, 2.5, 8.0])), ("low_freq_factor", 1.0),
                 ("high_freq_factor", 4.0), ("original_max_position_embeddings", 4096)):
        if R() < 0.85:
            s[k] = v
    for k, v in (("beta_fast", 32), ("beta_slow", 1.5), ("attention_factor", 1.25),
                 ("attn_factor", 0.5), ("extrapolation_factor", 1.0), ("rope_theta", 777.0),
                 ("partial_rotary_factor", 0.5)):
        if R() < 0.15:
            s[k] = v
    return s


def random_config():
    t = random.choice(list(CLASSES))
    n_head = random.choice([2, 4, 8])
    c = {"architectures": [random.choice(CLASSES[t])], "model_type": t,
         "hidden_size": 32 * n_head, "num_attention_heads": n_head,
         "intermediate_size": random.choice([64, 96]), "num_hidden_layers": random.choice([1, 4, 12]),
         "vocab_size": random.choice([1000, 49152])}
    if R() < 0.08:
        c["model_type"] = random.choice(["own_type", "llama", "mistral"])
    opt = {"num_key_value_heads": [1, 2, n_head, None, None, 2.0], "head_dim": [16, 64, None, 128, 15],
           "max_position_embeddings": [2048, 4096, 131072, None], "rms_norm_eps": [1e-5, 1e-6, 1, 1e-12],
           "tie_word_embeddings": [True, False], "rope_theta": [10000.0, 500000, 1e6, None],
           "rope_scaling": [None, {}, scaling()], "sliding_window": [512, None, 4096],
           "use_sliding_window": [True, False], "sliding_window_pattern": [1, 2, 6],
           "rope_local_base_freq": [10000.0, 5000], "query_pre_attn_scalar": [256, 168],
           "final_logit_softcapping": [None, 30.0, 0.0], "attention_bias": [True, False],
           "n_ctx": [77], "is_causal": [False, True], "layer_norm_eps": [1e-5], "norm_eps": [1e-4],
           "rotary_emb_base": [123.0], "original_max_position_embeddings": [99],
           "num_experts_per_tok": [2], "num_local_experts": [4], "partial_rotary_factor": [0.5],
           "classifier_dropout": [None], "transformers_version": ["4.44.0"],
           "layer_types": [["full_attention", "sliding_attention"] * 6]}
    for k, v in opt.items():
        if R() < (0.5 if k in ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps",
                               "rope_theta", "rope_scaling", "head_dim") else 0.12):
            c[k] = random.choice(v)
    if R() < 0.2:
        p = scaling()
        p.setdefault("rope_type", p.pop("type", "default"))
        if t == "gemma3_text" and R() < 0.7:
            p = {"full_attention": p, "sliding_attention": {"rope_type": "default",
                                                            "rope_theta": 321.0}}
        c["rope_parameters"] = p
    for k in ("hidden_size", "intermediate_size", "vocab_size", "num_attention_heads"):
        if R() < 0.03:
            del c[k]
    return c


def pairs(c, d):
    (d / "config.json").write_text(json.dumps(c))
    hp = ModelBase.load_hparams(d, False)
    cls = get_model_class(get_model_architecture(hp, ModelType.TEXT), mmproj=False)
    m = cls(d, gguf.LlamaFileType.MOSTLY_F16, d / "out.gguf")
    m.set_gguf_parameters()
    m.gguf_writer.remove_key("general.file_type")
    kv = []
    for k, v in m.gguf_writer.kv_data[0].items():
        t = v.type.name.lower()
        fmt = m.gguf_writer._simple_value_packing.get(v.type)
        if fmt:
            struct.pack("<" + fmt, v.value)  # what cannot be written fails here
        kv.append([k, t, struct.unpack("<I", struct.pack("<f", v.value))[0]
                   if t == "float32" else v.value])
    extra = [[n, [int(x) for x in t.numpy().view("uint32")]] for n, t in m.generate_extra_tensors()]
    return kv, extra


def main():
    out, n_bad = [], 0
    with tempfile.TemporaryDirectory() as t:
        d = Path(t) / "m"
        d.mkdir()
        for i in range(len(PUBLISHED) + N):
            c = PUBLISHED[i] if i < len(PUBLISHED) else random_config()
            try:
                kv, extra = pairs(c, d)
            except Exception as e:  # noqa: BLE001
                n_bad += 1
                out.append({"config": json.dumps(c), "error": type(e).__name__})
                continue
            out.append({"config": json.dumps(c), "kv": kv, "made": extra})
    keep = out if "--all" in sys.argv else out[:len(PUBLISHED) + 200]
    path = Path(__file__).parent / "params.json" if "--all" not in sys.argv else Path("params.json")
    with open(path, "w") as f:
        f.write('{"peer": "llama-cpp-python 0.3.36, transformers 5.23.0", "cases": [\n')
        f.write(",\n".join(json.dumps(x) for x in keep) + "\n]}\n")
    print(path, os.path.getsize(path), len(keep), "cases, errors among all:", n_bad)


main()
