#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: numpy gguf safetensors mlx torch
"""lbrx diff of one model in every type of GGUF and every mode of MLX, in pairs across and within formats, against numpy
over the values that gguf-py and mlx decode: figures by tensor and of all together."""
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import time

import gguf
import mlx.core as mx
import numpy as np
import torch
from safetensors.torch import save_file

START = time.time()
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LBRX = os.environ.get("LBRX") or os.path.join(ROOT, "build", "lbrx")
passed = failed = 0
rng = np.random.default_rng(11)
HIDDEN, HEADS, KV_HEADS = 256, 4, 2
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN,
          "intermediate_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": HEADS,
          "num_key_value_heads": KV_HEADS, "head_dim": 64, "vocab_size": 96, "rms_norm_eps": 1e-5,
          "max_position_embeddings": 256, "tie_word_embeddings": False, "rope_theta": 10000.0,
          "hidden_act": "silu", "torch_dtype": "bfloat16"}
# name in GGUF, ggml's number, values and bytes a block, places of f16 scales
TYPES = [("q4_0", 2, 32, 18, (0,)), ("q4_1", 3, 32, 20, (0, 2)), ("q5_0", 6, 32, 22, (0,)), ("q5_1", 7, 32, 24, (0, 2)),
         ("q8_0", 8, 32, 34, (0,)), ("q2_k", 10, 256, 84, (80, 82)), ("q3_k", 11, 256, 110, (108,)),
         ("q4_k", 12, 256, 144, (0, 2)), ("q5_k", 13, 256, 176, (0, 2)), ("q6_k", 14, 256, 210, (208,)),
         ("iq2_xxs", 16, 256, 66, (0,)), ("iq2_xs", 17, 256, 74, (0,)), ("iq3_xxs", 18, 256, 98, (0,)),
         ("iq1_s", 19, 256, 50, (0,)), ("iq4_nl", 20, 32, 18, (0,)), ("iq3_s", 21, 256, 110, (0,)),
         ("iq2_s", 22, 256, 82, (0,)), ("iq4_xs", 23, 256, 136, (0,)), ("iq1_m", 29, 256, 56, ()),
         ("tq1_0", 34, 256, 54, (52,)), ("tq2_0", 35, 256, 66, (64,)), ("mxfp4", 39, 32, 17, ()),
         ("nvfp4", 40, 64, 36, ()), ("q1_0", 41, 128, 18, (0,)), ("q2_0", 42, 64, 18, (0,))]
MODES = [("affine", b, g) for b in (2, 3, 4, 5, 6, 8) for g in (32, 64, 128)] + [
    ("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]


def check(what, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {what}: {detail}")


def model():
    """Names in Hugging Face and GGUF, values of bf16."""
    hf, names = {}, {}

    def add(name, gguf_name, shape):
        x = (rng.standard_normal(shape) * 0.05).astype(np.float32)
        hf[name] = (x.view(np.uint32) & 0xffff0000).view(np.float32)
        names[name] = gguf_name

    add("model.embed_tokens.weight", "token_embd.weight", (96, HIDDEN))
    add("model.norm.weight", "output_norm.weight", (HIDDEN,))
    p, g = "model.layers.0.", "blk.0."
    add(p + "input_layernorm.weight", g + "attn_norm.weight", (HIDDEN,))
    add(p + "post_attention_layernorm.weight", g + "ffn_norm.weight", (HIDDEN,))
    add(p + "self_attn.q_proj.weight", g + "attn_q.weight", (HEADS * 64, HIDDEN))
    add(p + "self_attn.k_proj.weight", g + "attn_k.weight", (KV_HEADS * 64, HIDDEN))
    add(p + "self_attn.v_proj.weight", g + "attn_v.weight", (KV_HEADS * 64, HIDDEN))
    add(p + "mlp.down_proj.weight", g + "ffn_down.weight", (HIDDEN, HIDDEN))
    return hf, names


def save_hf(path, tensors):
    os.makedirs(path)
    bits = {k: (v.view(np.uint32) >> 16).astype(np.uint16) for k, v in tensors.items()}
    save_file({k: torch.from_numpy(v.copy()).view(torch.bfloat16) for k, v in bits.items()},
              os.path.join(path, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump(CONFIG, f)


def random_blocks(n, kind):
    """Any codes, scales that are ordinary numbers."""
    name, _, _, size, scales = kind
    b = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in scales:
        b[:, at:at + 2] = (rng.standard_normal(n) * 0.01).astype(np.float16).reshape(n, 1).view(np.uint8)
    if name == "mxfp4":
        b[:, 0] = rng.integers(110, 124, n)
    elif name == "nvfp4":
        b[:, :4] = rng.integers(0, 0x40, (n, 4))
    elif name == "iq1_m":  # the f16 scale: 0.01 in the high nibbles of four words
        d = int(np.float16(0.01).view(np.uint16))
        for i in range(4):
            b[:, 48 + 2 * i + 1] = (b[:, 48 + 2 * i + 1] & 15) | (d >> (4 * i) & 15) << 4
    return b


def decode(blocks, kind, shape):
    name, number = kind[:2]
    if name in ("q1_0", "q2_0"):  # which gguf-py does not know: f16 d, then codes of 1 or 2 bits
        d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").astype(np.float32)
        return ((2 * bits - 1 if name == "q1_0" else bits[:, ::2] + 2 * bits[:, 1::2] - 1) * d).reshape(shape)
    return gguf.quants.dequantize(blocks.reshape(shape[0], -1), gguf.GGMLQuantizationType(number)).reshape(shape)


def save_gguf(path, hf, names, kind):
    """Decoded values, in the rows of Hugging Face."""
    number, per_block = kind[1:3]
    w = gguf.GGUFWriter(path, "llama")
    for key, value in (("block_count", 1), ("context_length", 256), ("embedding_length", HIDDEN),
                       ("feed_forward_length", HIDDEN), ("head_count", HEADS), ("head_count_kv", KV_HEADS),
                       ("vocab_size", 96)):
        getattr(w, "add_" + key)(value)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(64)
    parts, values = [], {}
    for key, x in hf.items():
        if x.ndim == 1:
            parts.append((names[key], [len(x)], 0, x.tobytes()))
            values[key] = x
            continue
        rows, cols = x.shape
        blocks = random_blocks(rows * cols // per_block, kind)
        parts.append((names[key], [cols, rows], number, blocks.tobytes()))
        v = decode(blocks, kind, (rows, cols))
        heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(key.split(".")[-2], 0)
        if heads:
            v = v.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)
        values[key] = v
    write_raw(path, w, parts)
    return values


def write_raw(path, w, parts):
    """The file by hand behind gguf-py's pairs: its writer refuses types that it does not know."""
    w.add_file_type(0)
    pairs = [(k, v) for shard in w.kv_data for k, v in shard.items()]
    out = [struct.pack("<IIQQ", 0x46554747, 3, len(parts), len(pairs))]
    for k, v in pairs:
        out.append(struct.pack("<Q", len(k)) + k.encode() + w._pack_val(v.value, v.type, add_vtype=True))
    off = 0
    for name, ne, number, data in parts:
        out.append(struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(ne)))
        out.append(struct.pack(f"<{len(ne)}QIQ", *ne, number, off))
        off += (len(data) + 31) // 32 * 32
    head = b"".join(out)
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32))
        for _, _, _, data in parts:
            f.write(data + bytes(-len(data) % 32))


def save_mlx(path, hf, mode, bits, group):
    os.makedirs(path)
    tensors, values = {}, {}
    for key, x in hf.items():
        w = mx.array(x).astype(mx.bfloat16)
        if x.ndim == 1:
            tensors[key], values[key] = w, x
            continue
        q = mx.quantize(w, group_size=group, bits=bits, mode=mode)
        for part, t in zip(("weight", "scales", "biases"), q):
            tensors[key[:-6] + part] = t
        v = mx.dequantize(*q, group_size=group, bits=bits, mode=mode)
        values[key] = np.array(v.astype(mx.float32))
    mx.save_safetensors(os.path.join(path, "model.safetensors"), tensors, metadata={"format": "mlx"})
    q = {"group_size": group, "bits": bits, "mode": mode}
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump({**CONFIG, "quantization": q, "quantization_config": q}, f)
    return values


def figures(a, b):
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    d = a - b
    return {"dd": d @ d, "aa": a @ a, "bb": b @ b, "ab": a @ b, "max_abs": np.abs(d).max(), "n": len(d)}


def near(x, y, part):
    return x == y or abs(x - y) <= part * max(abs(x), abs(y))


def check_figures(what, row, f):
    want = {"max_abs": f["max_abs"], "rmse": math.sqrt(f["dd"] / f["n"]), "rel": math.sqrt(f["dd"] / f["aa"]),
            "cosine": f["ab"] / math.sqrt(f["aa"] * f["bb"]) if f["dd"] else 1.0}
    # differences are f32: the largest is rounded, sums of many less
    bad = {k: (row[k], v) for k, v in want.items() if not near(row[k], v, 1e-7 if k == "max_abs" else 3e-8)}
    check(what, not bad, bad)


def check_pair(a, b):
    (name_a, path_a, va), (name_b, path_b, vb) = a, b
    run = subprocess.run([LBRX, "diff", path_a, path_b, "--json", "-q"], capture_output=True)
    what = f"{name_a} and {name_b}"
    same = name_a == name_b
    if run.returncode != (0 if same else 5):
        check(what, False, (run.returncode, run.stderr))
        return
    result = json.loads(run.stdout)
    both_gguf = path_a.endswith(".gguf") and path_b.endswith(".gguf")  # names as they are stored
    back = {v: k for k, v in names.items()} if both_gguf else {}
    rows = {back.get(r["name"], r["name"]): r for r in result["tensors"]}
    check(f"{what}: names", rows.keys() == va.keys() and not result["only_in_a"] and not result["only_in_b"], result)
    total = {"dd": 0, "aa": 0, "bb": 0, "ab": 0, "max_abs": 0, "n": 0}
    for key in va:
        f = figures(va[key], vb[key])
        check_figures(f"{what}: {key}", rows[key], f)
        total = {k: max(v, f[k]) if k == "max_abs" else v + f[k] for k, v in total.items()}
    check_figures(f"{what}: total", result["total"], total)


with tempfile.TemporaryDirectory() as work:
    hf, names = model()
    save_hf(f"{work}/hf", hf)
    models = [("hf", f"{work}/hf", hf)]
    for kind in TYPES:
        path = f"{work}/{kind[0]}.gguf"
        values = save_gguf(path, hf, names, kind)
        models.append((kind[0], path, values))
    for mode, bits, group in MODES:
        path = f"{work}/mlx_{mode}_{bits}_{group}"
        models.append((os.path.basename(path), path, save_mlx(path, hf, mode, bits, group)))
    # each side is decoded by itself: every type against one of each kind says all, in both orders
    anchors = [m for m in models if m[0] in ("hf", "q8_0", "iq3_s", "mlx_affine_4_64", "mlx_nvfp4_4_16")]
    pairs = [(a, b) if (i + k) % 2 else (b, a) for i, a in enumerate(anchors) for k, b in enumerate(models)]
    for a, b in pairs:
        check_pair(a, b)
print(f"peer_diff_types: {len(models)} models, {len(pairs)} pairs")
print(f"peer_diff_types: {passed} passed, {failed} failed, 0 skipped [cost: slow] {time.time() - START:.1f} s")
sys.exit(failed != 0)
