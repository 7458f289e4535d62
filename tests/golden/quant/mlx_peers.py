# SPDX-License-Identifier: Apache-2.0
"""mlx_peers.py: what mlx-lm decides for an MLX folder, for make_recipe_mlx.py here and tests/peers/peer_recipe_mlx.py.

A run is a text: "[pure ]TYPE[/GROUP][ REGEX=TYPE]...", as tests/tool/mlx_recipe.c has it.
"""
import contextlib
import io
import json
import pathlib
import re
import shutil

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
from mlx.utils import tree_flatten
from mlx_lm.convert import mixed_quant_predicate_builder
from mlx_lm.utils import load_model, quantize_model

MODES = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}
TYPES = ["mlx-q%d" % b for b in (1, 2, 3, 4, 5, 6, 8)] + ["mlx-" + m for m in MODES]
MIXED = ["mlx-mixed_" + x for x in ("2_6", "3_4", "3_6", "4_6")]


def parse(run):
    """(pure, type, group, [(pattern, type)])."""
    words = run.split(" ")
    pure = words[0] == "pure"
    name, _, group = words[pure].partition("/")
    return pure, name, int(group or 0) or None, [w.rsplit("=", 1) for w in words[pure + 1:]]


def params(name, group):
    name = name[4:]
    mode = name if name in MODES else "affine"
    bits, own = MODES.get(name, (int(name[1:]) if mode == "affine" else 0, 64))
    return {"group_size": own if mode != "affine" or group not in (32, 64, 128) else group, "bits": bits, "mode": mode}


def predicate(model, run):
    """For mlx-lm, of a run's overrides: they go before its own rules; None: these alone."""
    pure, name, group, overrides = parse(run)
    mixed = mixed_quant_predicate_builder(name[4:], model, group) if name in MIXED else None
    own = None if pure else mixed or getattr(model, "quant_predicate", None)
    if pure and not overrides:
        return lambda path, m: True
    base = {"group_size": group or 64, "bits": 4, "mode": "affine"} if mixed else params(name, group)

    def ask(path, m):
        for pattern, kind in overrides:
            if re.search(pattern, path + ".weight"):
                p = None if kind in ("f32", "f16", "bf16") else params(kind, group)
                return False if p is None else True if p == base else p
        return own(path, m) if own else True
    return ask if overrides else mixed


def options(run):
    """Of mlx_lm.convert, but for the predicate."""
    _, name, group, _ = parse(run)
    if name in MIXED:
        return dict(q_group_size=group)
    p = params(name, group)
    return dict(q_bits=p["bits"], q_mode=p["mode"], q_group_size=group)


def load(folder):
    """The model and its config, or why mlx-lm has none."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            return load_model(pathlib.Path(folder), lazy=True)
        except Exception as e:
            return "%s: %s" % (type(e).__name__, e)


def modules(model):
    return tree_flatten(model.leaf_modules(), is_leaf=nn.Module.is_module)


def decide(folder, run):
    """("quantization" as pairs, {module: "MODE BITS GROUP"} of what the run has quantized), or mlx-lm's error."""
    model, config = load(folder)
    before = {p for p, m in modules(model) if hasattr(m, "bits")}
    o = options(run)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            model, config = quantize_model(model, config, o["q_group_size"], o.get("q_bits"), mode=o.get("q_mode", "affine"),
                                           quant_predicate=predicate(model, run))
        except Exception as e:
            return "%s: %s" % (type(e).__name__, e)
    return pairs(json.dumps(config["quantization"])), {
        p: "%s %d %d" % (m.mode, m.bits, group_of(m)) for p, m in modules(model) if hasattr(m, "bits") and p not in before}


def group_of(m):
    """None stands for the mode's (mixed recipes without a group size)."""
    return m.group_size or 64


def pairs(text):
    return json.loads(text, object_pairs_hook=lambda x: list(map(list, x)))


def convert(folder, out, run):
    """By mlx_lm.convert itself; None, or its error."""
    shutil.rmtree(out, ignore_errors=True)
    _, name, _, overrides = parse(run)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            ask = name[4:] if name in MIXED and not overrides else predicate(load(folder)[0], run)
            mlx_lm.convert(str(folder), str(out), quantize=True, quant_predicate=ask, **options(run))
        except Exception as e:
            return "%s: %s" % (type(e).__name__, e)
    return None


def deepen(folder, n):
    """Repeats the layers of an MLX folder until there are n; False where its config is not of such a kind."""
    folder = pathlib.Path(folder)
    c = json.loads((folder / "config.json").read_text())
    text = c.get("text_config", c)
    have = text.get("num_hidden_layers")
    if not have or "quantization" in c:
        return False
    for k, v in text.items():
        if isinstance(v, list) and len(v) == have:
            text[k] = [v[i % have] for i in range(n)]
    text["num_hidden_layers"] = n
    weights = {}
    for f in folder.glob("*.safetensors"):
        weights.update(mx.load(str(f)))
    for k in list(weights):
        m = re.match(r"(.*\.layers\.)(\d+)(\..*)", k)
        for i in range(have, n) if m else ():
            if i % have == int(m[2]):
                weights["%s%d%s" % (m[1], i, m[3])] = weights[k]
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    (folder / "config.json").write_text(json.dumps(c))
    return True
