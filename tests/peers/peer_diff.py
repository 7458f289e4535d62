#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: numpy gguf safetensors
"""lbrx diff against numpy: figures over types and formats, the layout of attention heads, norms that
are stored plus one, what one model lacks, exit codes, threads."""
import json
import math
import os
import subprocess
import sys
import tempfile
import time

import gguf
import numpy as np
from safetensors.numpy import save_file

START = time.time()
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LBRX = os.environ.get("LBRX") or os.path.join(ROOT, "build", "lbrx")
passed = failed = 0
rng = np.random.default_rng(6)
Q = gguf.GGMLQuantizationType


def check(what, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {what}: {detail}")


def diff(a, b, *flags, code=None):
    run = subprocess.run([LBRX, "diff", a, b, "--json", "-q", *flags], capture_output=True)
    want = (0, 5) if code is None else (code,)
    check(f"exit of diff {flags}", run.returncode in want, (run.returncode, run.stderr))
    return json.loads(run.stdout) if run.returncode in (0, 5) else None


def near(a, b):
    return a == b or (math.isfinite(a) and abs(a - b) <= 1e-9 * max(abs(a), abs(b)) + 1e-300)


def check_row(row, a, b):
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    d = a - b
    na, nb, nd = np.linalg.norm(a), np.linalg.norm(b), np.linalg.norm(d)
    want = {"max_abs": np.abs(d).max(initial=0), "rmse": nd / math.sqrt(max(len(d), 1)),
            "rel": 0 if nd == 0 else nd / na if na else math.inf,
            "cosine": 1 if na == 0 and nb == 0 else 0 if na == 0 or nb == 0 else a @ b / (na * nb)}
    for key, value in want.items():
        check(f"{row['name']} {key}", near(row[key], float(value)), (row[key], value))
    check(f"{row['name']} identical", row["identical"] == bool((a == b).all()), row)


def rows(result):
    return {r["name"]: r for r in result["tensors"]}


def save(path, tensors, config=None):
    os.makedirs(path)
    save_file({k: np.asarray(x) for k, x in tensors.items()}, os.path.join(path, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump(config or {"model_type": "unknown-kind"}, f)
    return path


def test_figures(work):
    """Any names, any shapes, within one format; also rows longer than a tile and odd sizes."""
    shapes = {"v": (7,), "scalar": (), "m": (33, 65), "long": (2, 200001), "tall": (70001, 3),
              "stack": (3, 5, 7), "empty": (0, 4), "big": (4099, 1031)}
    a = {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
    a["zero"] = np.zeros((4, 4), np.float32)
    a["half"] = rng.standard_normal((9, 9)).astype(np.float16)
    a["double"] = rng.standard_normal((5, 5))
    a["ints"] = np.array([1, 2, 2**60, -5], np.int64)
    a["same"] = rng.standard_normal((64, 64)).astype(np.float32)
    a["zeros-differ"] = np.array([0.0, 1.0], np.float32)
    b = {k: (x + (1e-3 * rng.standard_normal(x.shape)).astype(x.dtype) if x.dtype.kind == "f" else x)
         for k, x in a.items()}
    b["same"] = a["same"]
    b["zero"] = a["zero"]
    b["zeros-differ"] = np.array([-0.0, 1.0], np.float32)
    b["ints"] = np.array([1, 3, 2**60, -5], np.int64)
    b["only-b"] = np.ones(2, np.float32)
    a["only-a"] = np.ones(2, np.float32)
    a["shape"], b["shape"] = np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)
    pa, pb = save(f"{work}/a", a), save(f"{work}/b", b)
    result = diff(pa, pb, code=5)
    got = rows(result)
    for key in shapes.keys() | {"zero", "half", "double", "ints", "same", "zeros-differ"}:
        check_row(got[key], np.asarray(a[key]), np.asarray(b[key]))
    check("only", (result["only_in_a"], result["only_in_b"]) == (["only-a"], ["only-b"]), result)
    check("shape", got["shape"]["max_abs"] is None and not got["shape"]["identical"], got["shape"])
    check("not identical", result["identical"] is False)
    for threads in ("1", "2", "7"):
        check(f"{threads} threads", diff(pa, pb, "-t", threads, code=5) == result)
    check("budget", diff(pa, pb, "--memory", "20MB", code=5) == result)
    check("itself", diff(pa, pa, code=0)["identical"])
    loose = diff(pa, pb, "--tolerance", "1e10", code=5)
    check("tolerance", sum(not r["identical"] for r in loose["tensors"]) == 1, "only the shape")


def test_special(work):
    nan, inf = np.float32("nan"), np.float32("inf")
    a = {"nan": np.array([1, nan, inf, -inf], np.float32), "broken": np.array([1, 2, 3], np.float32),
         "huge": np.array([3e38, 1], np.float32)}
    b = {"nan": a["nan"].copy(), "broken": np.array([1, nan, 3], np.float32),
         "huge": np.array([-3e38, 1], np.float32)}
    got = rows(diff(save(f"{work}/na", a), save(f"{work}/nb", b), code=5))
    check("NaN equals NaN", got["nan"]["identical"] and got["nan"]["max_abs"] == 0, got["nan"])
    check("NaN differs", not got["broken"]["identical"] and got["broken"]["rel"] == math.inf,
          got["broken"])
    check("overflow", not got["huge"]["identical"] and got["huge"]["max_abs"] == math.inf, got["huge"])


CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
          "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 128, "rms_norm_eps": 1e-5,
          "max_position_embeddings": 256, "tie_word_embeddings": False, "rope_theta": 10000.0,
          "hidden_act": "silu", "torch_dtype": "float32"}


def permute(x, heads):
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def llama(config):
    """An HF folder and GGUF files of it, written by gguf-py."""
    n, ff, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    q = config["num_attention_heads"] * config["head_dim"]
    hf, names = {}, {}

    def add(name, gguf_name, shape):
        hf[name] = rng.standard_normal(shape).astype(np.float32)
        names[name] = gguf_name

    add("model.embed_tokens.weight", "token_embd.weight", (vocab, n))
    add("lm_head.weight", "output.weight", (vocab, n))
    add("model.norm.weight", "output_norm.weight", (n,))
    for i in range(config["num_hidden_layers"]):
        p, g = f"model.layers.{i}.", f"blk.{i}."
        add(p + "input_layernorm.weight", g + "attn_norm.weight", (n,))
        add(p + "post_attention_layernorm.weight", g + "ffn_norm.weight", (n,))
        add(p + "self_attn.q_proj.weight", g + "attn_q.weight", (q, n))
        add(p + "self_attn.k_proj.weight", g + "attn_k.weight", (kv, n))
        add(p + "self_attn.v_proj.weight", g + "attn_v.weight", (kv, n))
        add(p + "self_attn.o_proj.weight", g + "attn_output.weight", (n, q))
        add(p + "mlp.gate_proj.weight", g + "ffn_gate.weight", (ff, n))
        add(p + "mlp.up_proj.weight", g + "ffn_up.weight", (ff, n))
        add(p + "mlp.down_proj.weight", g + "ffn_down.weight", (n, ff))
    return hf, names


def write_gguf(path, config, hf, names, kind):
    w = gguf.GGUFWriter(path, "llama")
    w.add_block_count(config["num_hidden_layers"])
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_dimension_count(config["head_dim"])
    w.add_vocab_size(config["vocab_size"])
    w.add_file_type(0)
    stored = {}
    for name, x in hf.items():
        heads = {"q_proj": config["num_attention_heads"],
                 "k_proj": config["num_key_value_heads"]}.get(name.split(".")[-2], 0)
        y = permute(x, heads) if heads else x
        t = kind if y.ndim > 1 else Q.F32
        data = gguf.quants.quantize(y, t)
        w.add_tensor(names[name], data, raw_dtype=t)
        values = gguf.quants.dequantize(data, t) if t not in (Q.F32,) else y
        if heads:  # back to the rows of HF
            values = values.reshape(heads, x.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(x.shape)
        stored[name] = values.reshape(x.shape)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return stored


def test_llama(work):
    hf, names = llama(CONFIG)
    folder = save(f"{work}/llama", hf, CONFIG)
    for kind in (Q.F32, Q.BF16, Q.Q8_0, Q.Q4_0):
        path = f"{work}/{kind.name}.gguf"
        stored = write_gguf(path, CONFIG, hf, names, kind)
        result = diff(folder, path, code=0 if kind == Q.F32 else 5)
        if not result:
            continue
        got = rows(result)
        check(f"{kind.name} names", sorted(got) == sorted(hf), result)
        for name, values in stored.items():
            check_row(got[name], hf[name], values)
        back = rows(diff(path, folder))
        check(f"{kind.name} the other way", back.keys() == got.keys() and
              all(near(back[k]["max_abs"], got[k]["max_abs"]) for k in got))
    gone = dict(hf)
    del gone["model.layers.1.self_attn.k_proj.weight"]
    result = diff(save(f"{work}/gone", gone, CONFIG), f"{work}/F32.gguf", code=5)
    check("missing", result["only_in_b"] == ["blk.1.attn_k.weight"] and not result["only_in_a"], result)


with tempfile.TemporaryDirectory() as work:
    test_figures(work)
    test_special(work)
    test_llama(work)
print(f"peer_diff: {passed} passed, {failed} failed, 0 skipped [cost: slow] {time.time() - START:.1f} s")
sys.exit(failed != 0)
