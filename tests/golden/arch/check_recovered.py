#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loads every config of recovered.json (made by test_arch_config from the metadata of convert.json) with
transformers and mlx-lm, and compares the models with those of the original configs.

usage: check_recovered.py      (transformers 5.23.0, mlx-lm 0.32.2)
"""
import json
import logging
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
logging.disable(logging.CRITICAL)
import torch  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402
from mlx_lm.utils import _get_classes, load_config  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig  # noqa: E402

HERE = Path(__file__).parent
SAME = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "final_logit_softcapping",
        "hidden_act", "hidden_activation")


def load(text, d):
    (d / "config.json").write_text(text)
    c = AutoConfig.from_pretrained(d)
    with torch.device("meta"):
        m = AutoModelForCausalLM.from_config(c)
    names = {k: tuple(v.shape) for k, v in m.state_dict().items()}
    rot = type(m.model.rotary_emb)(config=c)
    freqs = {k: v for k, v in rot.named_buffers() if "inv_freq" in k}
    return c, names, freqs, m


def gguf_names(config):
    """HF name -> GGUF name by the reference's own table (gguf from PyPI is enough for these)."""
    import gguf
    arch = {"llama": gguf.MODEL_ARCH.LLAMA, "gemma3_text": gguf.MODEL_ARCH.GEMMA3}
    m = gguf.get_tensor_name_map(arch[config.model_type], config.num_hidden_layers)

    class Names(dict):
        def __missing__(self, k):
            return m.get_name(k, try_suffixes=(".weight", ".bias"))
    return Names()


def main():
    old = json.load(open(HERE / "convert.json"))["cases"]
    new = json.load(open(HERE / "recovered.json"))["configs"]
    assert len(old) == len(new)
    bad = n_mlx = 0

    def differs(label, *what):
        nonlocal bad
        bad += 1
        print(label, *what)

    with tempfile.TemporaryDirectory() as t:
        d = Path(t)
        for o, n in zip(old, new):
            label = o["label"]
            # the class without a head, and types only the reference knows, load as the plain class
            cfg = json.loads(o["config"])
            if cfg["model_type"] == "iquestcoder_x":
                cfg["model_type"] = "llama"
            cfg["architectures"] = None
            a, an, af, am = load(json.dumps(cfg), d)
            b, bn, bf, bm = load(n["config"], d)
            if n["generation"]:
                (d / "generation_config.json").write_text(n["generation"])
                GenerationConfig.from_pretrained(d).validate()
            for k in SAME:
                x, y = getattr(a, k, None), getattr(b, k, None)
                if x != y:
                    differs(label, k, x, y)
            in_gguf = {x[0] for x in o["tensors"]}
            if b.tie_word_embeddings == ("output.weight" in in_gguf):
                differs(label, "tied", b.tie_word_embeddings)
            rows = next(x[2][0] for x in o["tensors"] if x[0] == "token_embd.weight")
            skip = {"lm_head.weight", "model.embed_tokens.weight"}
            if {k: v for k, v in an.items() if k not in skip} != \
                    {k: v for k, v in bn.items() if k not in skip}:
                differs(label, "tensors", set(an.items()) ^ set(bn.items()))
            if bn["model.embed_tokens.weight"][0] != rows:
                differs(label, "rows", bn["model.embed_tokens.weight"], rows)
            for k in af:
                if k not in bf or not torch.allclose(af[k], bf[k], rtol=3e-7, atol=0):
                    differs(label, "rope", k)
            if getattr(a, "layer_types", None) and \
                    set(a.layer_types) != {"full_attention"} and a.layer_types != b.layer_types:
                differs(label, "layer types", a.layer_types, b.layer_types)
            if "sliding_attention" in (getattr(b, "layer_types", None) or ()) and \
                    a.sliding_window != b.sliding_window:
                differs(label, "window", a.sliding_window, b.sliding_window)
            if len(bm.model.layers) and hasattr(bm.model.layers[0].self_attn, "scaling"):
                x = bm.model.layers[0].self_attn.scaling
                want = b.head_dim ** -0.5 if hasattr(b, "head_dim") else \
                    (b.hidden_size // b.num_attention_heads) ** -0.5
                if x != want:  # what llama.cpp computes with
                    differs(label, "scale", x, want)
            # mlx-lm: the class takes the config; tensor names and rope base are the model's
            c = load_config(d)
            cls, args = _get_classes(c)
            mx = cls(args.from_dict(c))
            names = {k for k, _ in tree_flatten(mx.parameters())}
            want = set(bn)
            if c["model_type"] == "gemma3_text":  # decided by the weights
                names.discard("lm_head.weight")
                want.discard("lm_head.weight")
            if b.tie_word_embeddings:
                want.discard("lm_head.weight")
            if c["model_type"] == "qwen3":  # mlx-lm's qwen3 knows no biases
                want = {k for k in want if not k.endswith(".bias")}
            if {k for k in names if "rope" not in k} != want:
                differs(label, "mlx tensors", sorted(names ^ want)[:4])
            n_mlx += 1
            (d / "generation_config.json").unlink(missing_ok=True)
        for o, n in zip(json.load(open(HERE / "foreign.json"))["cases"],
                        json.load(open(HERE / "recovered.json"))["foreign"]):
            b, bn, _, _ = load(n["config"], d)
            names = gguf_names(b)
            want = {names[k]: list(v) for k, v in bn.items()
                    if k != "lm_head.weight" or not b.tie_word_embeddings}
            got = {x[0]: x[2] for x in o["tensors"] if x[0] != "rope_freqs.weight"}
            if want != got:
                differs(o["label"], "tensors", sorted(set(want) ^ set(got))[:4])
    print(f"{len(new)} configs loaded by transformers, {n_mlx} by mlx-lm, {bad} differences")
    return bad != 0


raise SystemExit(main())
