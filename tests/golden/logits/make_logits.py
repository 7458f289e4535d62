#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/logits/<family>.json: tiny models of the families (tests/families, deep.py) and what transformers
computes of a text of 40 tokens in f32: the five likeliest tokens behind each position, and the next one's log-probability.

usage: LOGITS=build/cc/tests/logits make_logits.py FAMILY... | all
The golden files were made with transformers 5.24. They hold no weights: tests/tool/logits.c makes them.
"""
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "families"))
import deep
import kit
import torch
import transformers

LOGITS = os.environ.get("LOGITS", str(HERE.parents[2] / "build/cc/tests/logits"))
TOKENS, TOP, AT_MOST = 40, 5, 2
# Layers of multi-token prediction stand where the next layer would; configs that say what these models are not (the
# edits of tests/families); weights that transformers does not divide by their sum, whatever norm_topk_prob says.
LEFT_OUT = {"glm4_moe": ("GLM-4.5-Air", "GLM-4.5"), "gemma3": ("gemma-3-12b-pt",), "exaone4": ("EXAONE-4.0-1.2B",),
            "deepseek_v2": ("DeepSeek-V2-Lite",), "minimax_m2": ("MiniMax-M2",), "qwen3_next": ("Qwen3-Next-80B-A3B",)}
# GGUF has no window for these.
NO_WINDOW = ("mistral", "mixtral", "starcoder2")


def grouped(tensors):
    """Names that differ in numbers as one: [pattern, type, shape, centre, half width, layers, experts]."""
    groups = {}
    for name, *rest in tensors:
        numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
        pattern = name
        for x, letter in zip(numbers, "be"):
            pattern = re.sub(r"(?<=\.)%s(?=\.)" % x, "{%s}" % letter, pattern, count=1)
        if len(numbers) > 2 or pattern.count("{") != len(numbers):
            pattern, numbers = name, []
        groups.setdefault((pattern, json.dumps(rest)), []).append(tuple(int(x) for x in numbers))
    out = []
    for (pattern, rest), numbers in groups.items():
        rest = json.loads(rest)
        counts = [sorted(set(c)) for c in zip(*numbers)]
        if len(counts) == 2 and len(counts[0]) * len(counts[1]) != len(numbers):
            for b in counts[0]:
                out.append([pattern, *rest, [b], sorted(e for x, e in numbers if x == b)])
        else:
            out.append([pattern, *rest, *counts])
    return out


def loaded(folder):
    auto = transformers.AutoModelForCausalLM
    if type(transformers.AutoConfig.from_pretrained(folder)) not in auto._model_mapping:
        auto = transformers.AutoModelForImageTextToText
    m, info = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    missing = [k for k in info["missing_keys"] if "lm_head" not in k and "e_score_correction_bias" not in k and
               "_tower." not in k]
    if missing or info["mismatched_keys"]:
        raise ValueError("transformers misses %s" % sorted(missing)[:3])
    return m.eval()


def log_probs(folder, ids):
    with torch.no_grad():
        return loaded(folder)(torch.tensor([ids])).logits[0].double().log_softmax(-1)


def model(case, family):
    """A golden case without its results."""
    config, tensors = deep.listed(case, family)
    vocab = getattr(kit.family(family), "VOCAB", kit.VOCAB)
    files = {"config.json": json.dumps(json.loads(config), separators=(",", ":")), **(case.files or {})}
    windowed = family in NO_WINDOW and json.loads(config).get("sliding_window")
    forms = ["hf"] + ["gguf"] * (not case.gguf and not windowed) + ["mlx"] * (not case.mlx)
    return {"label": case.label, "forms": " ".join([case.tokenizer if case.pre else "own", *forms]), "files": files,
            "tensors": grouped(tensors), "ids": deep.ids_of(case.label, TOKENS, vocab)}


def make(c, folder):
    """The folder of a golden case, by the C program."""
    path = pathlib.Path(str(folder) + ".json")
    path.write_text(json.dumps({"cases": [c]}))
    subprocess.run([LOGITS, "make", path, c["label"], folder], check=True)
    return folder


def results(c, lp):
    top = lp.topk(TOP)
    c["top"] = [[x for i, p in zip(ids, ps) for x in (i, round(p, 6))]
                for ids, ps in zip(top.indices.tolist(), top.values.tolist())]
    c["logprobs"] = [round(lp[i, t].item(), 6) for i, t in enumerate(c["ids"][1:])]


def cases(family):
    n = 0
    for case in kit.family(family).cases(random.Random(0)):
        if case.label in LEFT_OUT.get(family, ()) or n == getattr(kit.family(family), "AT_MOST", AT_MOST):
            continue
        try:
            case = deep.deepen(case, family)
            if case is None:
                continue
            c = model(case, family)
        except Exception as e:
            print("%s %s: %s: %s" % (family, case.label if case else "", type(e).__name__, str(e)[:200]))
            continue
        n += 1
        yield c


def main():
    for f in [*kit.families(), "rope", "runs"] if sys.argv[1:] == ["all"] else sys.argv[1:]:
        out = []
        for c in cases(f):
            with tempfile.TemporaryDirectory(prefix="lbrx-logits-") as d:
                try:
                    results(c, log_probs(make(c, pathlib.Path(d) / "m"), c["ids"]))
                    out.append(c)
                except Exception as e:
                    print("%s %s: %s: %s" % (f, c["label"], type(e).__name__, str(e)[:300]))
        if out:
            with open(HERE / (f + ".json"), "w") as file:
                file.write("{\"made\": \"make_logits.py %s, transformers %s\", \"cases\": [\n" % (f, transformers.__version__))
                file.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in out) + "\n]}\n")
        spread = ["%.1f" % (sum(t[1] for t in c["top"]) / len(c["top"])) for c in out]
        print("%s: %d cases, likeliest at %s" % (f, len(out), ", ".join(spread)))


if __name__ == "__main__":
    main()
