# SPDX-License-Identifier: Apache-2.0
"""deep.py: models of tests/families that compute something: as many layers as a family's pattern needs, windows shorter
than a text of 40 tokens, weights at which every layer counts and nothing saturates."""
import copy
import math
import pathlib
import tempfile

import kit
import torch

LAYERS = {"gemma3": 7, "exaone4": 5, "cohere2": 5, "smollm3": 5, "olmo3": 5, "qwen3_5": 5, "qwen3_5_moe": 5,
          "qwen3_next": 5, "lfm2": 5, "lfm2_moe": 5, "gemma4": 0, "gemma4_unified": 0}
WINDOW = 8
# Half widths of embeddings: small where they are scaled by the root of their length and are the output too, large where
# logits are scaled down.
EMBEDDING = {"gemma": 1 / 8, "gemma2": 1 / 8, "gemma3": 1 / 8, "gemma4": 1 / 8, "gemma4_unified": 1 / 8, "cohere2": 4.0,
             "command_r": 4.0}


def text_part(d):
    return d["text_config"] if isinstance(d.get("text_config"), dict) else d


def deepen(case, family, layers=None, window=WINDOW, change=None):
    """The case with more layers; lists with an entry a layer are made anew by the config class. None: it has no such."""
    if case.model is None or isinstance(case.config, dict) or case.logits is not True:
        return None
    d = case.config.to_dict()
    t = text_part(d)
    key = "num_hidden_layers" if "num_hidden_layers" in t else "n_layer"
    old, n = t[key], max(LAYERS.get(family, 4) if layers is None else layers, t[key])
    for k in list(t):
        if isinstance(t[k], list) and len(t[k]) == old and k != "architectures":
            if n == old:
                continue
            if k == "layer_types" and family == "lfm2_moe":  # its class makes none
                t[k] = [t[k][i % old] for i in range(n)]
            else:
                t.pop(k)
    t[key] = n
    if t.get("moe_layer_end_index") is not None:
        t["moe_layer_end_index"] = -1
    if family == "phimoe":  # several experts are near enough to each other
        t["num_local_experts"] = max(4, t["num_local_experts"])
    if t.get("sliding_window"):
        t["sliding_window"] = window
    if t.get("max_window_layers") is not None:
        t["max_window_layers"] = 1
    if change:
        change(t)
    for k in ("_name_or_path", "transformers_version"):
        d.pop(k, None)
    out = copy.copy(case)
    out.config = type(case.config)(**d)
    if case.dtype == "f16" and family in ("qwen3_5_moe", "qwen3_next"):  # exponents rounded to f16
        out.dtype = out.outtype = "bf16"
    out.edit = edit_of(case.edit, n)
    return out


def edit_of(edit, n):
    """An edit that writes lists or counts of the old number of layers is no longer right."""
    def checked(c):
        before = text_part(c).get("num_hidden_layers", text_part(c).get("n_layer"))
        edit(c)
        after = text_part(c).get("num_hidden_layers", text_part(c).get("n_layer"))
        if before != after:
            raise ValueError("the edit has its own number of layers")
        for k, v in text_part(c).items():
            if k == "layer_types" and isinstance(v, list) and len(v) != n:
                raise ValueError("the edit has its own list of layers")
    return checked if edit else None


def pow2(x):
    return 2.0 ** round(math.log2(x))


def spread(name, v, family=""):
    """(centre, half width) of a tensor's values, from those that the class gives a new model."""
    flat = v.float().flatten()
    short = name.rsplit(".", 2)
    if name.endswith("A_log"):
        return 0.0, 1.0
    if v.ndim <= 1 or v.numel() == max(v.shape):
        if flat.numel() and flat.eq(1).all():
            return 1.0, 0.25
        if flat.eq(0).all() and "norm" in " ".join(short[-2:]) and not name.endswith("bias"):
            return 0.0, 0.25  # a norm stored as value - 1
        return 0.0, 0.5 if name.endswith("sinks") else 0.125
    if flat.eq(1).all():
        return 1.0, 0.25  # norms of heads, one behind the other
    if "embed" in name or "wte" in name or "wpe" in name or "tok_embeddings" in name:
        return 0.0, EMBEDDING.get(family, 0.5)
    gain = 2.0 if "lm_head" in name or ".gate.w" in name or "router" in name else 1.0
    return 0.0, pow2(gain * math.sqrt(3.0 / v.shape[-1]))


def listed(case, family):
    """[name, type, shape, centre, half width] of all tensors of a case's folder, in order; its config.json."""
    with tempfile.TemporaryDirectory(prefix="lbrx-deep-") as d:
        folder = kit.build(case, pathlib.Path(d) / "m")
        config = (folder / "config.json").read_text()
        types = {k: (v["dtype"], v["shape"]) for f in kit.shards(folder) for k, v in kit.header(f).items()
                 if k != "__metadata__" and not k.startswith("mtp.") and ".mtp_" not in k}
        torch.manual_seed(0)
        m = case.model(case.config)
        m.save_pretrained(pathlib.Path(d) / "new")
        new = kit.state(pathlib.Path(d) / "new")
    if any(t not in ("F32", "BF16", "F16") for t, _ in types.values()):
        raise ValueError("a type that has no made-up values")
    zero = any(spread(k, v) == (0.0, 0.25) for k, v in new.items() if k.endswith("layernorm.weight"))
    for k, (_, s) in types.items():
        if k not in new:  # made by an edit of the names
            norm = len(s) == 1 and "norm" in k
            new[k] = torch.full(s, float(not zero)) if norm else torch.arange(math.prod(s)).reshape(s)
    return config, [[k, t, s, *spread(k, new[k], family)] for k, (t, s) in types.items()]


def ids_of(label, n, vocab):
    h = kit.hashes(label, n)
    return [3 + int(x) % (vocab - 3) for x in h]
