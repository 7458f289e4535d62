#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""widen.py: widens a Hugging Face model with zeros until its rows divide, without changing its function.

    python3 tools/widen.py MODEL OUT [--multiple 256] [--off-grid SEED]

For measuring quantizations: a type with super-blocks of 256 values needs rows that divide by 256, which the
rows of small models do not (SmolLM2-135M: hidden 576, so that llama-quantize falls back for most tensors).

Hidden size, heads x head size and intermediate size become multiples of --multiple: rows and columns of zeros
are put behind those that are there, whole heads (and whole groups of heads with their key and value head) in
attention. The mean of squares that RMSNorm divides by is over more values then, of which the new ones are 0:
norm weights are multiplied by sqrt(old / new) and rms_norm_eps by old / new, and each norm gives what it gave.
Tensors that are only moved keep their type and bytes; norms are written as F32, since the factor is not a
power of two. The logits are those of MODEL to the rounding of sums (tests/peers/peer_widen.py).

--off-grid SEED also moves random factors of 2^-1/2 to 2^1/2 between neighbouring tensors, which cancel: from
the columns of q, k, v, gate and up to the weights of the norm before them, from the columns of o and down to
the rows of v and up. It is for models whose values were quantized once, like the demo's: a block of 32 of
Q4_1 holds 16 different values, which a 4-bit type over the same block finds again; so its error would be near
nothing, and say nothing about models as they were trained. Matrices are written as F32 then.

Models: model_type llama, mistral or qwen2 (qwen3 also norms heads, whose size stays, with the same rms_norm_eps),
safetensors of F32, F16 or BF16. Standard library only; holds one row at a time. What is made is a folder for benchmarks; provenance is not carried over."""
import argparse
import array
import itertools
import json
import math
import mmap
import operator
import os
import random
import shutil
import struct
import sys

MODELS = ("llama", "mistral", "qwen2")
SIZES = {"F32": 4, "F16": 2, "BF16": 2}
# what the rows and columns of a tensor are: hidden, query heads, key and value heads, intermediate, or neither
TABLE = {
    "embed_tokens.weight": ("", "hidden"),
    "lm_head.weight": ("", "hidden"),
    "norm.weight": ("norm",),
    "input_layernorm.weight": ("norm",),
    "post_attention_layernorm.weight": ("norm",),
    "self_attn.q_proj.weight": ("q", "hidden"),
    "self_attn.k_proj.weight": ("kv", "hidden"),
    "self_attn.v_proj.weight": ("kv", "hidden"),
    "self_attn.o_proj.weight": ("hidden", "q"),
    "self_attn.q_proj.bias": ("q",),
    "self_attn.k_proj.bias": ("kv",),
    "self_attn.v_proj.bias": ("kv",),
    "self_attn.o_proj.bias": ("hidden",),
    "mlp.gate_proj.weight": ("inter", "hidden"),
    "mlp.up_proj.weight": ("inter", "hidden"),
    "mlp.down_proj.weight": ("hidden", "inter"),
    "mlp.gate_proj.bias": ("inter",),
    "mlp.up_proj.bias": ("inter",),
    "mlp.down_proj.bias": ("hidden",),
}
# --off-grid: (factors that multiply the rows or the norm, factors that divide the columns)
FACTORS = {
    "input_layernorm.weight": ("attn", None),
    "self_attn.q_proj.weight": (None, "attn"),
    "self_attn.k_proj.weight": (None, "attn"),
    "self_attn.v_proj.weight": ("v", "attn"),
    "self_attn.v_proj.bias": ("v", None),
    "self_attn.o_proj.weight": (None, "v"),
    "post_attention_layernorm.weight": ("mlp", None),
    "mlp.gate_proj.weight": (None, "mlp"),
    "mlp.up_proj.weight": ("up", "mlp"),
    "mlp.up_proj.bias": ("up", None),
    "mlp.down_proj.weight": (None, "up"),
}


def refuse(text):
    sys.exit(f"widen: {text}")


def up(n, multiple):
    return -(-n // multiple) * multiple


class Tensor:
    def __init__(self, data, dtype, shape, begin):
        self.data, self.dtype, self.shape, self.begin = data, dtype, shape, begin

    def row(self, i, cols):
        size = cols * SIZES[self.dtype]
        return self.data[self.begin + i * size : self.begin + (i + 1) * size]


def floats(raw, dtype):
    """The values of little-endian bytes, as an array of f32."""
    if dtype == "F32":
        out = array.array("f", raw)
    elif dtype == "F16":
        out = array.array("f", struct.unpack(f"<{len(raw) // 2}e", raw))
        return out
    else:  # the upper halves of F32
        wide = bytearray(2 * len(raw))
        wide[2::4], wide[3::4] = raw[0::2], raw[1::2]
        out = array.array("f", bytes(wide))
    if sys.byteorder == "big":
        out.byteswap()
    return out


def little(values):
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def tensors_of(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, name), "rb") as f:
            data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        n = struct.unpack_from("<Q", data)[0]
        for tensor, d in json.loads(data[8 : 8 + n]).items():
            if tensor != "__metadata__":
                if d["dtype"] not in SIZES:
                    refuse(f"{tensor} is {d['dtype']}: only F32, F16 and BF16 (lbrx convert dequantizes)")
                found[tensor] = Tensor(data, d["dtype"], d["shape"], 8 + n + d["data_offsets"][0])
    return found or refuse(f"no .safetensors in {folder}")


def split(name):
    """model.layers.3.mlp.up_proj.weight -> ("3", "mlp.up_proj.weight")"""
    short = name.removeprefix("model.")
    if short.startswith("layers."):
        return tuple(short.removeprefix("layers.").split(".", 1))
    return "", short


class Widening:
    def __init__(self, config, multiple, seed):
        c = config
        if c.get("model_type") not in MODELS:
            refuse(f"model_type {c.get('model_type')!r}: only {', '.join(MODELS)}")
        heads, kv = c["num_attention_heads"], c.get("num_key_value_heads") or c["num_attention_heads"]
        self.head_dim = c.get("head_dim") or c["hidden_size"] // heads
        self.group = heads // kv
        new_kv = kv
        while new_kv * self.group * self.head_dim % multiple:
            new_kv += 1
        hidden = up(c["hidden_size"], multiple)
        while hidden % (new_kv * self.group):  # transformers takes no llama otherwise
            hidden += multiple
        self.old = {"": None, "hidden": c["hidden_size"], "norm": c["hidden_size"], "q": heads * self.head_dim,
                    "kv": kv * self.head_dim, "inter": c["intermediate_size"]}
        self.new = {"": None, "hidden": hidden, "norm": hidden,
                    "q": new_kv * self.group * self.head_dim, "kv": new_kv * self.head_dim,
                    "inter": up(c["intermediate_size"], multiple)}
        share = c["hidden_size"] / hidden
        self.norm_factor = math.sqrt(share)
        self.seed = seed
        self.config = dict(c, hidden_size=self.new["hidden"], head_dim=self.head_dim,
                           num_attention_heads=new_kv * self.group, num_key_value_heads=new_kv,
                           intermediate_size=self.new["inter"], rms_norm_eps=c.get("rms_norm_eps", 1e-6) * share)

    def kinds(self, name, shape):
        kinds = TABLE.get(split(name)[1]) or refuse(f"tensor {name} is not one that this tool knows")
        want = [self.old[k] or n for k, n in zip(kinds, shape)]
        if len(kinds) != len(shape) or want != shape:
            refuse(f"{name} is {shape}, not {want}")
        return kinds

    def shape(self, name, shape):
        return [self.new[k] or n for k, n in zip(self.kinds(name, shape), shape)]

    def dtype(self, name, t):
        """F32 where values change, else what it was."""
        scaled = self.seed is not None and split(name)[1] in FACTORS
        return "F32" if scaled or "norm" in self.kinds(name, t.shape) else t.dtype

    def factors(self, layer, which):
        if which is None or self.seed is None:
            return None
        n = self.old[{"attn": "hidden", "mlp": "hidden", "v": "kv", "up": "inter"}[which]]
        rng = random.Random(f"{self.seed} {layer} {which}")
        return [2.0 ** rng.uniform(-0.5, 0.5) for _ in range(n)]

    def columns(self, layer, which):
        """What the columns are multiplied by: the output of a value head goes to each query head of its group."""
        f = self.factors(layer, which)
        if f and which == "v":
            hd = self.head_dim
            f = [x for h in range(len(f) // hd) for x in f[h * hd : (h + 1) * hd] * self.group]
        return f and [1 / x for x in f]

    def write(self, out, name, t):
        layer, short = split(name)
        kinds, dtype = self.kinds(name, t.shape), self.dtype(name, t)
        by, over = FACTORS.get(short, (None, None))
        rows, columns = self.factors(layer, by), self.columns(layer, over)
        if len(t.shape) == 1:  # one row, with the factors of rows along it
            columns = rows
            if kinds == ("norm",):
                columns = [self.norm_factor * x for x in rows or [1.0] * t.shape[0]]
            rows = None
        n_rows, n_cols = ([1] + t.shape)[-2:]
        wide = self.shape(name, t.shape)
        tail = bytes((wide[-1] - n_cols) * SIZES[dtype])
        for i in range(n_rows):
            raw = t.row(i, n_cols)
            if dtype != t.dtype or columns or rows:
                v = floats(raw, t.dtype)
                factor = columns or itertools.repeat(1.0)
                if rows:
                    factor = map(operator.mul, factor, itertools.repeat(rows[i]))
                raw = little(array.array("f", map(operator.mul, v, factor)))
            out.write(raw + tail)
        if len(wide) == 2:
            for _ in range(wide[0] - n_rows):
                out.write(bytes(wide[1] * SIZES[dtype]))


def widen(src, dst, multiple=256, seed=None):
    with open(os.path.join(src, "config.json")) as f:
        w = Widening(json.load(f), multiple, seed)
    tensors = tensors_of(src)
    header, at, share = {"__metadata__": {"format": "pt"}}, 0, 0
    for name, t in tensors.items():
        shape, dtype = w.shape(name, t.shape), w.dtype(name, t)
        size = math.prod(shape) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(dst)
    with open(os.path.join(dst, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, t in tensors.items():
            w.write(f, name, t)
    if seed is not None:
        for key in {"dtype", "torch_dtype"} & set(w.config):
            w.config[key] = "float32"
    with open(os.path.join(dst, "config.json"), "w") as f:
        json.dump(w.config, f, indent=2)
    for name in os.listdir(src):
        if not name.endswith((".safetensors", ".safetensors.index.json")) and name not in ("config.json", "lbrx.json"):
            if os.path.isfile(os.path.join(src, name)):
                shutil.copy(os.path.join(src, name), dst)
    return w


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model")
    a.add_argument("out")
    a.add_argument("--multiple", type=int, default=256)
    a.add_argument("--off-grid", type=int, metavar="SEED")
    o = a.parse_args()
    if os.path.exists(o.out):
        refuse(f"{o.out} exists")
    w = widen(o.model, o.out, o.multiple, o.off_grid)
    for kind in ("hidden", "q", "kv", "inter"):
        print(f"{kind:6} {w.old[kind]} -> {w.new[kind]}")


if __name__ == "__main__":
    main()
