#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""peer_widen.py: tools/widen.py changes no function: logits of small random models before and after, on random ids.

In double precision by a forward pass of our own (standard library only): widened by zeros alone the logits agree to
the rounding of the sums, with factors moved between tensors to the rounding of the F32 that those are written in.
Then, where transformers and torch are, the same by transformers for every model type that the tool takes. A model
whose eps or norm weights were left as they are must differ by far more, or the comparison would see nothing."""
import array
import json
import math
import os
import pathlib
import random
import struct
import sys
import tempfile
import time

START = time.time()
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True
import widen  # noqa: E402

SEED = int(os.environ.get("LB_TEST_SEED", "7"))
rng = random.Random(SEED)
passed = failed = skipped = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    if not ok:
        print(f"FAILED: {what} (seed {SEED})")


# ---- standard library only ----
def read(folder):
    """config, tensors as lists of rows."""
    out = {}
    for name, t in widen.tensors_of(folder).items():
        rows, cols = ([1] + t.shape)[-2:]
        out[name] = [list(widen.floats(t.row(i, cols), t.dtype)) for i in range(rows)]
    return json.load(open(os.path.join(folder, "config.json"))), out


def apply(m, v):
    return [sum(map(lambda a, b: a * b, row, v)) for row in m]


def norm(v, weight, eps):
    f = 1 / math.sqrt(sum(x * x for x in v) / len(v) + eps)
    return [x * f * w for x, w in zip(v, weight[0])]


def turn(v, head_dim, at, theta):
    out = []
    for h in range(0, len(v), head_dim):
        half = head_dim // 2
        for i in range(head_dim):
            a = at * theta ** (-2 * (i % half) / head_dim)
            other = -v[h + i + half] if i < half else v[h + i - half]
            out.append(v[h + i] * math.cos(a) + other * math.sin(a))
    return out


def attend(q, keys, values, head_dim, group):
    out = []
    for h in range(len(q) // head_dim):
        a, g = h * head_dim, h // group * head_dim
        s = [sum(q[a + i] * k[g + i] for i in range(head_dim)) / math.sqrt(head_dim) for k in keys]
        e = [math.exp(x - max(s)) for x in s]
        out += [sum(w * v[g + i] for w, v in zip(e, values)) / sum(e) for i in range(head_dim)]
    return out


def logits(folder, ids):
    c, t = read(folder)
    hd, eps, theta = c["head_dim"], c["rms_norm_eps"], c["rope_theta"]
    group = c["num_attention_heads"] // c["num_key_value_heads"]
    cache, out = [([], []) for _ in range(c["num_hidden_layers"])], []
    for at, token in enumerate(ids):
        x = t["model.embed_tokens.weight"][token]
        for i, (keys, values) in enumerate(cache):
            w = lambda name: t[f"model.layers.{i}.{name}.weight"]
            y = norm(x, w("input_layernorm"), eps)
            keys.append(turn(apply(w("self_attn.k_proj"), y), hd, at, theta))
            values.append(apply(w("self_attn.v_proj"), y))
            q = turn(apply(w("self_attn.q_proj"), y), hd, at, theta)
            x = [a + b for a, b in zip(x, apply(w("self_attn.o_proj"), attend(q, keys, values, hd, group)))]
            y = norm(x, w("post_attention_layernorm"), eps)
            g = [a / (1 + math.exp(-a)) * b for a, b in zip(apply(w("mlp.gate_proj"), y), apply(w("mlp.up_proj"), y))]
            x = [a + b for a, b in zip(x, apply(w("mlp.down_proj"), g))]
        out += apply(t["model.embed_tokens.weight"], norm(x, t["model.norm.weight"], eps))
    return out


def make(folder, hidden, heads, kv, hd, inter, dtype):
    config = {"model_type": "llama", "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv,
              "head_dim": hd, "intermediate_size": inter, "num_hidden_layers": 2, "vocab_size": 11, "rope_theta": 100.0,
              "rms_norm_eps": 0.1, "tie_word_embeddings": True}
    shapes = {"model.embed_tokens.weight": [11, hidden], "model.norm.weight": [hidden]}
    for i in range(2):
        for name, shape in (("input_layernorm", [hidden]), ("post_attention_layernorm", [hidden]),
                            ("self_attn.q_proj", [heads * hd, hidden]), ("self_attn.k_proj", [kv * hd, hidden]),
                            ("self_attn.v_proj", [kv * hd, hidden]), ("self_attn.o_proj", [hidden, heads * hd]),
                            ("mlp.gate_proj", [inter, hidden]), ("mlp.up_proj", [inter, hidden]),
                            ("mlp.down_proj", [hidden, inter])):
            shapes[f"model.layers.{i}.{name}.weight"] = shape
    header, data = {}, b""
    for name, shape in shapes.items():
        v = array.array("f", [rng.gauss(0, 0.5) for _ in range(math.prod(shape))])
        raw = widen.little(v)
        if dtype == "BF16":
            raw = b"".join(raw[i + 2 : i + 4] for i in range(0, len(raw), 4))
        elif dtype == "F16":
            raw = struct.pack(f"<{len(v)}e", *v)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    os.makedirs(folder)
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)) / sum(x * x for x in a))


def spoil(folder, **change):
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    config.update(change)
    with open(path, "w") as f:
        json.dump(config, f)


def own(work):
    ids = [rng.randrange(11) for _ in range(7)]
    for n, (sizes, multiple) in enumerate([((12, 3, 1, 4, 10), 16), ((12, 3, 3, 4, 16), 8), ((16, 4, 2, 4, 16), 8),
                                           ((6, 2, 1, 6, 7), 32)]):
        for dtype in ("F32", "F16", "BF16"):
            src = os.path.join(work, f"{n}{dtype}")
            make(src, *sizes, dtype)
            want = logits(src, ids)
            for seed in (None, 1):
                out = f"{src}-{seed}"
                w = widen.widen(src, out, multiple, seed)
                c, t = read(out)
                rows = [len(r[0]) for name, r in t.items() if name.endswith("proj.weight")]
                check(all(r % multiple == 0 for r in rows), f"{sizes} {dtype}: rows divide by {multiple}")
                got = logits(out, ids)
                # norm weights are rounded to F32 in any case, and with factors all that they touch
                check(distance(want, got) < 1e-6, f"{sizes} {dtype} {seed}: {distance(want, got):.2g}")
                if w.new["hidden"] != w.old["hidden"]:
                    spoil(out, rms_norm_eps=0.1)
                    off = distance(want, logits(out, ids))
                    check(off > 1e-3, f"{sizes} {dtype} {seed}: the old eps would change the logits, by {off:.2g}")
                if seed is None:  # what is moved keeps its bits
                    a, b = read(src)[1], t
                    check(all(row == b[k][i][: len(row)] and not any(b[k][i][len(row):]) for k in a if "norm" not in k
                              for i, row in enumerate(a[k])), f"{sizes} {dtype}: moved tensors keep their values")


# ---- by transformers ----
def peer(work):
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    for kind in widen.MODELS:
        for heads, kv, tied in ((3, 1, True), (6, 2, False)):
            hd = 16
            config = transformers.AutoConfig.for_model(
                kind, hidden_size=heads * hd, intermediate_size=88, num_hidden_layers=3, num_attention_heads=heads,
                num_key_value_heads=kv, head_dim=hd, vocab_size=97, tie_word_embeddings=tied, max_position_embeddings=64,
                rms_norm_eps=0.05, **({"attention_bias": True, "mlp_bias": True} if kind == "llama" else {}))
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            for p in model.parameters():
                p.data.normal_(0, 0.3)
            src = os.path.join(work, f"{kind}-{heads}")
            model.save_pretrained(src)
            ids = torch.randint(0, 97, (2, 23))
            want = model(ids).logits.detach().double()
            for seed in (None, 3):
                out = f"{src}-{seed}"
                widen.widen(src, out, 64, seed)
                wide = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
                off = float((wide(ids).logits.detach().double() - want).norm() / want.norm())
                check(off < 1e-5, f"{kind}, {heads} heads, seed {seed}: logits off by {off:.2g}")


with tempfile.TemporaryDirectory(prefix="lbrx-peer-") as folder:
    own(folder)
    try:
        import torch, transformers  # noqa: E401, F401
    except ImportError as e:
        print(f"skip: peer_widen: {e.name} is not installed")
        if os.environ.get("NOSKIP"):
            failed += 1
        else:
            skipped += 1
    else:
        peer(folder)
print(f"peer_widen: {passed} passed, {failed} failed, {skipped} skipped [cost: fast] {time.time() - START:.1f} s")
raise SystemExit(1 if failed else 0)
