#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes config.json: configs as transformers' classes and mlx-lm see them.

usage: make_config.py      (transformers 5.23.0, mlx-lm 0.32.2)
rope: llama3 parameters and the bits of the factors.
normal: a config and what the converter then works with (AutoConfig, or the JSON where that refuses).
mlx: config, generation_config -> the text that mlx-lm's load_config and save_config write.
"""
import json
import logging
import math
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
logging.disable(logging.CRITICAL)
import torch  # noqa: E402
from mlx_lm.utils import load_config, save_config  # noqa: E402
from transformers import AutoConfig  # noqa: E402

HERE = Path(__file__).parent
BASE = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 8,
        "vocab_size": 49160}
CLASS = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
         "qwen3": "Qwen3ForCausalLM", "gemma3_text": "Gemma3ForCausalLM"}
KEYS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "rms_norm_eps",
        "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings",
        "tie_word_embeddings", "sliding_window")


def variants():
    yield {}
    for t in ("mistral", "qwen2", "qwen3", "gemma3_text"):
        yield dict(model_type=t)
    for kw in (dict(vocab_size=49160.0), dict(rms_norm_eps=1), dict(rms_norm_eps=1e-5),
               dict(max_position_embeddings=None), dict(num_key_value_heads=2.0),
               dict(num_key_value_heads=2), dict(num_key_value_heads=None), dict(hidden_size=66),
               dict(head_dim=15), dict(head_dim=32), dict(head_dim=None), dict(head_dim="x"),
               dict(tie_word_embeddings=None), dict(tie_word_embeddings=True),
               dict(model_type="unknown_type"), dict(n_ctx=5),
               dict(rope_theta=26000), dict(rope_theta=None), dict(rotary_emb_base=5000.0),
               dict(global_rope_theta=7.0, rope_theta=5.0), dict(rope_local_base_freq=3.0),
               dict(rope_scaling=None), dict(rope_scaling={}), dict(rope_scaling=[]),
               dict(rope_scaling={"type": "linear"}),
               dict(rope_scaling={"type": "linear", "factor": 2.0}, rope_theta=5000.0),
               dict(rope_scaling={"factor": 2.0}),
               dict(rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
               dict(rope_scaling={"type": "yarn", "factor": 2.0}),
               dict(rope_scaling={"type": "yarn", "factor": 2.0}, model_type="unknown_type",
                    original_max_position_embeddings=77),
               dict(rope_scaling={"type": "yarn", "factor": 2.0},
                    original_max_position_embeddings=77),
               dict(rope_scaling={"rope_type": "llama3", "factor": 8.0}),
               dict(rope_parameters={"rope_type": "default", "rope_theta": 7.0}, rope_theta=5.0),
               dict(rope_parameters={"rope_theta": 7.0}, rope_scaling={"factor": 1.0}),
               dict(rope_parameters=None, rope_scaling={"type": "linear", "factor": 3.0},
                    model_type="unknown_type"),
               dict(model_type="qwen2", num_key_value_heads=None),
               dict(model_type="qwen2", use_sliding_window=True, sliding_window=99),
               dict(model_type="qwen3", head_dim=None),
               dict(model_type="mistral", num_key_value_heads=4, sliding_window=None),
               dict(model_type="gemma3_text", rope_theta=5.0, rope_local_base_freq=6.0),
               dict(model_type="gemma3_text", rope_scaling={"rope_type": "linear", "factor": 8.0}),
               dict(model_type="gemma3_text", num_hidden_layers=4,
                    rope_scaling={"type": "linear", "factor": 8.0}),
               dict(model_type="gemma3_text", rope_parameters={"rope_theta": 5.0}),
               dict(model_type="gemma3_text",
                    rope_parameters={"sliding_attention": None,
                                     "full_attention": {"type": "linear", "factor": 2.0,
                                                        "rope_theta": 5.0}}),
               dict(model_type="gemma3_text", sliding_window_pattern=2, num_hidden_layers=2,
                    rope_scaling={"type": "linear", "factor": 8.0}),
               dict(model_type="gemma3_text", layer_types=["sliding_attention"] * 8,
                    rope_scaling={"type": "linear", "factor": 8.0})):
        yield kw


def mirror(c):
    """TextModel.__init__ of the converter, on the plain dict."""
    find = lambda ks: next((c[k] for k in ks if k in c), None)  # noqa: E731
    r = c.get("rope_parameters", c.get("rope_scaling")) or {}
    theta = find(["global_rope_theta", "rope_global_theta", "rope_theta_global", "rope_theta",
                  "rotary_emb_base"])
    local = find(["local_rope_theta", "rope_local_theta", "rope_theta_local", "swa_rope_theta",
                  "rope_local_base_freq"])
    orig = find(["original_max_position_embeddings"])
    if "full_attention" not in r and "sliding_attention" not in r:
        if local is not None:
            r["sliding_attention"] = {"rope_theta": local}
        if "rope_theta" not in r and theta is not None:
            r["rope_theta"] = theta
        if "rope_type" not in r and r.get("type") is not None:
            r["rope_type"] = r["type"]
        if "original_max_position_embeddings" not in r and orig is not None:
            r["original_max_position_embeddings"] = orig
    full = r.get("full_attention", r)
    full = {k: full[k] for k in ("rope_type", "rope_theta", "factor",
                                 "original_max_position_embeddings") if full.get(k) is not None}
    return full, (r.get("sliding_attention") or {}).get("rope_theta")


def normal(kw, d):
    c = {**BASE, **kw}
    c["architectures"] = [CLASS.get(c["model_type"], "LlamaForCausalLM")]
    text = json.dumps(c)
    (d / "config.json").write_text(text)
    try:
        n, raw = AutoConfig.from_pretrained(d, trust_remote_code=False).to_dict(), False
    except Exception:  # noqa: BLE001
        n, raw = json.loads(text), True
    full, local = mirror(n)
    return {"config": text, "raw": raw, "fields": {k: n[k] for k in KEYS if n.get(k) is not None},
            "rope": full, "local_theta": local}


def rope_cases():
    """The steps of conversion/llama.py, generate_extra_tensors, on torch's float32 scalars."""
    for dim in (16, 64, 96, 128):
        for base in (10000.0, 500000.0):
            for fac, low, high, old in ((8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 8192),
                                        (4.0, 2.0, 6.5, 2000), (2.5, 1.0, 8.0, 4096)):
                r = []
                for f in 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)):
                    w = 2 * math.pi / f
                    if w < old / high:
                        r.append(1)
                    elif w > old / low:
                        r.append(fac)
                    else:
                        s = (old / w - low) / (high - low)
                        r.append(1 / ((1 - s) / fac + s))
                bits = torch.tensor(r, dtype=torch.float32).numpy().view("uint32")
                yield [dim, base, fac, low, high, old, [int(x) for x in bits]]


def mlx_cases():
    with open(HERE / "convert.json") as f:
        for c in json.load(f)["cases"]:
            qwen = json.loads(c["config"])
            # mlx-lm's class of these has no biases
            if not qwen["model_type"].startswith("qwen3") or not qwen["attention_bias"]:
                yield c["config"], c["generation"], None
    yield ('{"z": 1, "a": {"y": 1, "b": [NaN, -Infinity, {"__float__": "Infinity"}]}, '
           '"_name_or_path": "x/y", "vision_config": {"a": 1}, "é": "\\ud83d\\ude00 ü",'
           '"eos_token_id": 5, "x": 1e-05, "f": 1.0}'), '{"eos_token_id": [1, 2]}', None
    yield '{"b": 1, "eos_token_id": 5}', '{"eos_token_id": 0}', {"group_size": 64, "bits": 4,
                                                                 "mode": "affine",
                                                                 "m.x": {"bits": 8}}
    yield '{"quantization": {"bits": 4}, "model_type": "none"}', None, None


def main():
    out = {"normal": [], "rope": list(rope_cases()), "mlx": []}
    with tempfile.TemporaryDirectory() as t:
        d = Path(t)
        for kw in variants():
            out["normal"].append(normal(kw, d))
        for cfg, gen, quant in mlx_cases():
            (d / "config.json").write_text(cfg)
            g = d / "generation_config.json"
            g.unlink(missing_ok=True)
            if gen is not None:
                g.write_text(gen)
            c = load_config(d)
            if quant:
                c["quantization"] = quant
            save_config(c, d / "out.json")
            out["mlx"].append({"config": cfg, "generation": gen,
                               "quantization": json.dumps(quant) if quant else None,
                               "text": (d / "out.json").read_text()})
    path = HERE / "config.json"
    with open(path, "w") as f:
        f.write('{"peer": "transformers 5.23.0, mlx-lm 0.32.2",\n')
        for k in ("normal", "rope", "mlx"):
            f.write('"%s": [\n' % k)
            f.write(",\n".join(json.dumps(x) for x in out[k]))
            f.write("\n]%s\n" % ("" if k == "mlx" else ","))
        f.write("}\n")
    print(path, os.path.getsize(path))


main()
