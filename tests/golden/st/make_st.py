#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the golden files of tests/unit/test_{safetensors,folder,mlx,st_layout}.c.

Run in this folder with safetensors 0.8.0, numpy 2.4.6, torch 2.15.0, transformers 5.23.0,
huggingface_hub 2.4.0, mlx 0.32.4 (CPU), mlx-lm 0.32.2. Not run by `make test`. Files:
  dtypes.safetensors     every dtype of the format; written by hand, read back by safetensors
  shapes.safetensors     safetensors.numpy: rank 0, empty, rank 8, odd sizes, metadata
  mlx.safetensors        mx.save_safetensors: header not padded, data unaligned
  hf_sharded/            transformers save_pretrained of a tiny Llama in shards, with its index
  mlx_all/               mlx-lm save_model + save_config: every bits x group and mode, a stack, a
                         plain layer, a layer with bias, nvfp4 with a global scale
  mlx_null/              group_size null and missing mode in the config, settings in text_config
  mlx_index/             the index mlx-lm writes for shards of one tensor each
  mlx_all.expect, mlx_null.expect   path, mode, bits, group, logical shape of each packed weight
  cuts.txt               shard numbers by huggingface_hub and mlx-lm for lists of sizes
"""
import json
import os
import random
import shutil
import struct
import types

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.utils
import numpy as np
import safetensors
import safetensors.numpy
import torch
from huggingface_hub.serialization._base import split_state_dict_into_shards_factory
from mlx_lm.models.switch_layers import SwitchLinear
from transformers import LlamaConfig, LlamaForCausalLM

# name, bits; the order of the crate's enum
DTYPES = [("BOOL", 8), ("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6), ("U8", 8), ("I8", 8),
          ("F8_E5M2", 8), ("F8_E4M3", 8), ("F8_E8M0", 8), ("F8_E4M3FNUZ", 8), ("F8_E5M2FNUZ", 8),
          ("I16", 16), ("U16", 16), ("F16", 16), ("BF16", 16), ("I32", 32), ("U32", 32), ("F32", 32),
          ("C64", 64), ("F64", 64), ("I64", 64), ("U64", 64)]


def dtypes():
    header, off = {}, 0
    for name, bits in DTYPES:
        n = 2 * 4 * bits // 8
        header["t." + name] = {"dtype": name, "shape": [2, 4], "data_offsets": [off, off + n]}
        off += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = struct.pack("<Q", len(text)) + text + bytes(i % 251 for i in range(off))
    back = dict(safetensors.deserialize(data))
    assert len(back) == len(DTYPES)
    for name, _ in DTYPES:
        assert back["t." + name]["dtype"] == name, (name, back["t." + name]["dtype"])
    open("dtypes.safetensors", "wb").write(data)


def shapes():
    tensors = {
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((0,), np.float16),
        "hole": np.zeros((2, 0, 3), np.int64),
        "odd": np.arange(7, dtype=np.uint8),
        "rank8": np.arange(4, dtype=np.int16).reshape(1, 1, 1, 1, 1, 1, 2, 2),
        "name with \"quotes\", \\ and \t": np.ones((3,), np.float64),
        "ünï/\U0001f600": np.ones((1, 5), np.float32),
        "": np.zeros((1,), bool),
    }
    safetensors.numpy.save_file(tensors, "shapes.safetensors",
                                metadata={"format": "np", "note": "line\nbreak \"q\" é"})


def mlx_plain():
    mx.save_safetensors("mlx.safetensors", {
        "b.weight": mx.arange(6, dtype=mx.float32).reshape(2, 3),
        "a.bias": mx.arange(3, dtype=mx.bfloat16),
        "z": mx.array([1, 2, 3, 4, 5], dtype=mx.uint8),
        "s": mx.array(7, dtype=mx.int32),
    }, metadata={"format": "mlx"})
    raw = open("mlx.safetensors", "rb").read()
    assert struct.unpack("<Q", raw[:8])[0] % 8 != 0, "meant to be unaligned"


def hf_sharded():
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    shutil.rmtree("hf_sharded", ignore_errors=True)
    model.save_pretrained("hf_sharded", max_shard_size=2500)
    order = {k: [list(v.shape), "BF16"] for k, v in model.state_dict().items()}
    with open("hf_sharded.order", "w") as f:  # the list the layout is given
        for k, (shape, dtype) in order.items():
            f.write(f"{k} {dtype} {' '.join(map(str, shape))}\n")
    os.remove("hf_sharded/generation_config.json")


class All(nn.Module):
    """One layer for each encoding; inputs of 256, so that every group divides."""

    def __init__(self):
        super().__init__()
        mx.random.seed(0)
        for bits in (1, 2, 3, 4, 5, 6, 8):
            for group in (32, 64, 128):
                setattr(self, f"affine_{bits}_{group}", nn.Linear(256, 2, bias=False))
        self.mxfp4 = nn.Linear(64, 3, bias=False)
        self.mxfp8 = nn.Linear(64, 3, bias=False)
        self.nvfp4 = nn.Linear(64, 3, bias=False)
        self.default = nn.Linear(64, 2, bias=True)
        self.embed = nn.Embedding(5, 64)
        self.experts = SwitchLinear(64, 2, 3, bias=True)
        self.experts_nv = SwitchLinear(64, 2, 3, bias=False)
        self.experts_gs = SwitchLinear(64, 2, 3, bias=False)
        self.norm = nn.RMSNorm(64)
        self.plain = nn.Linear(48, 2, bias=False)


def quantize(model, params, default):
    """params: path -> dict. Returns the config object mlx-lm would save."""
    logical = {p: m.weight.shape for p, m in leaves(model) if "weight" in m}
    model.set_dtype(mx.bfloat16)
    config = {"model_type": "all", "hidden_size": 64}

    def predicate(path, module):
        return params.get(path, True)

    model, config = mlx_lm.utils.quantize_model(model, config, default["group_size"],
                                                default["bits"], default["mode"],
                                                quant_predicate=predicate)
    packed = {p: m for p, m in leaves(model) if "scales" in m}
    return config, logical, packed


def leaves(model):
    out = []

    def walk(prefix, tree):
        for k, v in tree.items():
            path = f"{prefix}.{k}" if prefix else k
            if isinstance(v, nn.Module):
                out.append((path, v))
    walk("", model.children())
    return out


def write_expect(name, logical, packed):
    with open(name, "w") as f:
        for path in sorted(packed):
            m = packed[path]
            f.write(f"{path}.weight {m.mode} {m.bits} {m.group_size} "
                    f"{' '.join(map(str, logical[path]))}\n")


def mlx_all():
    shutil.rmtree("mlx_all", ignore_errors=True)
    model = All()
    params = {}
    for bits in (1, 2, 3, 4, 5, 6, 8):
        for group in (32, 64, 128):
            params[f"affine_{bits}_{group}"] = {"bits": bits, "group_size": group}
    params["mxfp4"] = {"bits": 4, "group_size": 32, "mode": "mxfp4"}
    params["mxfp8"] = {"bits": 8, "group_size": 32, "mode": "mxfp8"}
    params["nvfp4"] = {"bits": 4, "group_size": 16, "mode": "nvfp4"}
    params["experts_nv"] = {"bits": 4, "group_size": 16, "mode": "nvfp4"}
    params["experts_gs"] = {"bits": 4, "group_size": 16, "mode": "nvfp4", "global_scale": True}
    config, logical, packed = quantize(model, params, {"group_size": 32, "bits": 4, "mode": "affine"})
    config["quantization"]["plain"] = False  # 48 is no multiple of 32; awq writes such entries
    mlx_lm.utils.save_model("mlx_all", model)
    mlx_lm.utils.save_config(config, "mlx_all/config.json")
    write_expect("mlx_all.expect", logical, packed)


def mlx_null():
    shutil.rmtree("mlx_null", ignore_errors=True)
    model = All()
    for name in [n for n, _ in leaves(model) if n.startswith("affine") or n in ("plain", "experts_gs")]:
        del model[name]
    params = {n: True for n, _ in leaves(model)}
    params["mxfp4"] = {"bits": 4, "group_size": 32, "mode": "mxfp4"}
    params["mxfp8"] = {"bits": 8, "group_size": 32, "mode": "mxfp8"}
    params["default"] = {"bits": 8, "group_size": 64}
    config, logical, packed = quantize(model, params, {"group_size": 16, "bits": 4, "mode": "nvfp4"})
    q = config["quantization"]
    q["group_size"] = None
    q["default"]["group_size"] = None
    q["mxfp4"] = {"group_size": None, "bits": None, "mode": "mxfp4"}
    del q["mxfp8"]["bits"]
    mlx_lm.utils.save_model("mlx_null", model)
    config = {"text_config": {"quantization_config": q}, "model_type": "all"}
    mlx_lm.utils.save_config(config, "mlx_null/config.json")
    write_expect("mlx_null.expect", logical, packed)


def mlx_index():
    shutil.rmtree("mlx_index", ignore_errors=True)
    shutil.rmtree("tmp", ignore_errors=True)
    model = nn.Module()
    model.b = nn.Linear(4, 2)
    model.a = nn.Linear(4, 3, bias=False)
    model.set_dtype(mx.float16)
    original = mlx_lm.utils.make_shards
    mlx_lm.utils.make_shards = lambda w: original(w, 0)  # 0 bytes: a tensor each
    mlx_lm.utils.save_model("tmp", model)
    mlx_lm.utils.make_shards = original
    os.mkdir("mlx_index")
    shutil.copy("tmp/model.safetensors.index.json", "mlx_index/sharded.json")
    with open("mlx_index/sharded.order", "w") as f:
        for k, v in dict(mlx_lm.utils.tree_flatten(model.parameters())).items():
            f.write(f"{k} F16 {' '.join(map(str, v.shape))}\n")
    shutil.rmtree("tmp")


class Limit(int):
    """mlx-lm shifts its limit by 30: this one stays as it is."""

    def __lshift__(self, _):
        return int(self)


def cuts():
    rng = random.Random(1)
    lines = []
    fixed = [([6, 6, 2, 6, 2, 2], 10), ([6, 6, 2, 11, 2], 10), ([11], 10), ([11, 12, 3], 10),
             ([0, 11, 0, 10, 0], 10), ([10, 10, 10], 10), ([], 10), ([0, 0], 10), ([5, 5, 1], 10)]
    for i in range(120):
        n = rng.randrange(1, 40)
        fixed.append(([rng.choice([0, 1, 2, 3, 5, 8, 13, 21, 34]) for _ in range(n)],
                      rng.choice([1, 7, 13, 20, 33, 60])))
    for sizes, limit in fixed:
        names = [f"t{i:03d}" for i in range(len(sizes))]
        weights = {n: types.SimpleNamespace(nbytes=s) for n, s in zip(names, sizes)}
        split = split_state_dict_into_shards_factory(weights, get_storage_size=lambda t: t.nbytes,
                                                     filename_pattern="m{suffix}.safetensors",
                                                     max_shard_size=limit) if sizes else None
        hf = {}
        if split:
            for number, (_, keys) in enumerate(split.filename_to_tensors.items()):
                for k in keys:
                    hf[k] = number
        mlx = {}
        for number, shard in enumerate(mlx_lm.utils.make_shards(weights, Limit(limit))):
            for k in shard:
                mlx[k] = number
        for style, where in (("hf", hf), ("mlx", mlx)):
            lines.append(f"{style} {limit} {len(sizes)}" +
                         "".join(f" {s}" for s in sizes) + "".join(f" {where[n]}" for n in names))
    open("cuts.txt", "w").write("\n".join(lines) + "\n")


dtypes()
shapes()
mlx_plain()
hf_sharded()
mlx_all()
mlx_null()
mlx_index()
cuts()
