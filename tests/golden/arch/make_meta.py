#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes meta.json: what the reference reads out of names and model cards.

usage: make_meta.py LLAMA_CPP     (its gguf-py/: that of llama-cpp-python 0.3.36)
The names of gguf-py/tests/test_metadata.py are run again through the peer, with random ones beside.
"""
import ast
import json
import logging
import os
import random
import struct
import sys
import tempfile
from pathlib import Path

LLAMA_CPP = sys.argv[1]
sys.path.insert(0, os.path.join(LLAMA_CPP, "gguf-py"))
logging.disable(logging.CRITICAL)
import gguf  # noqa: E402

random.seed(7)


def upstream_names():
    """First arguments of get_model_id_components in upstream's test."""
    tree = ast.parse(open(os.path.join(LLAMA_CPP, "gguf-py/tests/test_metadata.py")).read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get_model_id_components":
            yield [eval(compile(ast.Expression(a), "", "eval")) for a in node.args]


WORDS = ["Llama", "llama", "Mistral", "Qwen2.5", "gemma", "3", "3.1", "v0.1", "V2", "iter3", "Iter12",
         "8B", "7b", "0.5B", "1_6B", "8x7B", "A2.7B", "57b", "a14B", "mini", "Small", "XL", "xxl",
         "medium", "large", "7b1", "13b2", "4k", "128k", "1m", "100B", "2dpo", "Instruct", "chat",
         "CHAT", "vision", "LoRA", "lora", "q4_0", "Q4_K_M", "iq2", "iq3_x", "f16", "BF16", "fp32",
         "bfp16", "b16", "hf", "DPO", "R", "x", "1x", "8x", "_", "a", "A", "2407", "0628", "v1.5.2",
         "v", "it", "Ünïcode", "模型", "7Б", "étude", "3B1x", "1.5b3", "9t", "2K", "it's", "o1a"]
SIZES = [0, 0, 7 * 10**9, 8030261248, 494032768, 135 * 10**6, 50000, 1340 * 10**6, -1234, -8 * 10**9,
         57 * 10**9, 1]


def random_names():
    for _ in range(500):
        n = random.randint(1, 7)
        name = random.choice(["-", "-", "-", "--"]).join(random.choice(WORDS) for _ in range(n))
        name = random.choice(["", "", "org/", "meta-llama/", "./", "../", "/", "a/b/", "-"]) + name
        name += random.choice(["", "", "", "-", " x"])
        yield [name, random.choice(SIZES)]


TITLES = ["Mixtral-8x7B-Instruct-v0.1", "Meta-Llama-3-8B", "hermes-2-pro-llama-3-8b-DPO", "", "-",
          "  a  b ", "it's-o1a", "étude-n°5", "v1.2-v1.2x-8k-Xb", "ǆ-word", "a\tb\u00a0c", "日本-x"]
LABELS = [(p, s, e, n) for p, s, e, n in [
    (1, 1, 0, 0), (999, 999, 0, 0), (1499, 0, 0, 0), (9949, 0, 0, 0), (9951, 0, 0, 0),
    (99500, 0, 0, 0), (1000000, 0, 0, 0), (1000001, 0, 0, 0), (134515008, 0, 0, 0),
    (268098176, 0, 0, 0), (1000000000, 0, 0, 0), (1235814400, 0, 0, 0), (8030261248, 0, 0, 0),
    (9950000000, 0, 0, 0), (70553706496, 0, 0, 0), (999999999999, 0, 0, 0),
    (1000000000001, 0, 0, 0), (405853388800, 0, 0, 0), (46702792704, 1605644288, 5637144576, 8),
    (141 * 10**9, 3 * 10**9, 17250000000, 8), (2500, 0, 0, 0), (500, 0, 0, 0), (450, 0, 0, 0)]]

CARDS = [
    "", "---\n", "---\n---\n", "no card\n---\nlicense: mit\n---\n",
    "---\nlicense: mit\n", "---\r\nlicense: mit\r\ntags:\r\n- a\r\n---\r\nx",
    "---\nname: A Name\nauthor: Me\nversion: v1.0\norganization: Org\ndescription: >\n  two\n  lines\n"
    "finetune: Chat\nbasename: Base\nsize_label: 9B\nurl: https://x.y\ndoi: 10.1/2\nuuid: abc\n"
    "repo_url: https://r\nlicense: other\nlicense_name: my\nlicense_link: LICENSE\n---\n",
    "---\nmodel_name: N\nmodel_author: A\nmodel_creator: C\nmodel_version: v\nmodel_organization: O\n"
    "model_description: D\nmodel_finetune: F\nmodel_basename: B\nmodel_type: T\n"
    "model_size_label: S\nmodel_url: U\nmodel_doi: I\nmodel_uuid: Q\nmodel_repo_url: R\n---\n",
    "---\nmodel_creator: C\nmodel_type: T\nlicense:\n- mit\n- apache-2.0\n---\n",
    "---\nname: no\nlicense: null\nlicense_name: ''\nlanguage: no\n---\n",
    "---\nlanguage:\n- en\n- no\n- de\nlanguages: [fr]\ntags: one\npipeline_tag: text-generation\n---\n",
    "---\n\tlanguage: en\n---\n", "---\n- a\n- list\n---\n", "---\ntags: []\n---\n",
    "---\nbase_model: meta-llama/Llama-3.1-8B\n---\n", "---\nbase_model:\n---\n",
    "---\nbase_model: [a/b-7B-v2, https://huggingface.co/a/b-7B, https://huggingface.co/a/b/tree/main, "
    "https://example.org/x, http://huggingface.co/o/n, ssh://huggingface.co/o/n, plain, "
    "'with space', ./rel/name, /abs]\n---\n",
    "---\nbase_models:\n- name: N\n  author: A\n  version: V\n  organization: O\n  description: D\n"
    "  url: U\n  doi: I\n  uuid: Q\n  repo_url: R\n  other: x\n- teknium/OpenHermes-2.5\n---\n",
    "---\nbase_model_sources: x/y\ndataset_sources: [x/y, https://huggingface.co/datasets/x]\n---\n",
    "---\ndatasets:\n- teknium/OpenHermes-2.5\n- HuggingFaceH4/ultrachat_200k\n- name: D\n---\n",
    "---\ndataset: a/b\nbase_model: &x [p/q]\ndatasets: *x\n---\n",
    "---\nlicense: &l mit\nlicense_name: *l\nbase: &b {tags: [t]}\n<<: *b\n---\n",
    "---\nlicense: \"mi\\u0074\"\nauthor: 'it''s'\ntags:\n  - |-\n    block\n  - >-\n    folded\n    text\n"
    "---\n",
    "---\nlicense: a\nlicense: b\n---\n",
    "---\nlicense: mit # comment\nx: {a: 1, b: [1.5, 0x10, 1_000, 0o7, .5, 1e5, 1.0e+5, ~, yes]}\n---\n",
]


def value(v):
    t = v.type.name.lower()
    if t == "array":
        return ["array", "string", list(v.value)]
    if t == "float32":
        return [t, struct.unpack("<I", struct.pack("<f", v.value))[0]]
    return [t, v.value]


def cards():
    combos = [(c, {}, None, "Some-Model-7B-Instruct-v0.2", 7 * 10**9) for c in CARDS]
    combos += [
        ("", {"_name_or_path": "mistralai/Mistral-7B-v0.1"}, None, "out", 7241732096),
        ("", {"_name_or_path": "/data/x/y/z"}, None, "Llama-3-8B", 8030261248),
        ("", {"_name_or_path": "./local-3b"}, None, "x", 3 * 10**9),
        ("", {"_name_or_path": ""}, None, "SmolLM2-135M-Instruct", 134515008),
        ("", {}, None, "a b c", 10**6), ("", {}, None, "plain", 10**6),
        ("", {}, {"temperature": 1, "top_k": 0, "top_p": 0.95, "repetition_penalty": 1.2,
                  "penalty_repeat": 1.3, "min_p": None}, "m-1B", 10**9),
        ("---\nname: X\n---\n", {"_name_or_path": "o/n-2B"}, {}, "m-1B", 10**9)]
    for readme, cfg, gen, label, n in combos:
        with tempfile.TemporaryDirectory() as d:
            f = Path(d) / label
            f.mkdir()
            (f / "config.json").write_text(json.dumps(cfg))
            if readme:
                (f / "README.md").write_bytes(readme.encode())
            if gen is not None:
                (f / "generation_config.json").write_text(json.dumps(gen))
            w = gguf.GGUFWriter(None, "llama")
            try:
                m = gguf.Metadata.load(None, f, None, n)
                if m.name is None:
                    m.name = f.name
                if m.size_label is None and n > 0:
                    m.size_label = gguf.size_label(n, n, 0, 0)
                m.set_gguf_meta_model(w)
            except Exception as e:  # noqa: BLE001
                print("the peer fails:", repr(readme), type(e).__name__, str(e)[:60])
                continue
        kv = [[k] + value(v) for k, v in w.kv_data[0].items() if k != "general.architecture"]
        yield {"readme": readme, "config": json.dumps(cfg), "label": label, "n_params": n,
               "generation": None if gen is None else json.dumps(gen), "kv": kv}


def main():
    names = []
    for args in list(upstream_names()) + list(random_names()):
        names.append(args[:1] + [args[1] if len(args) > 1 else 0] +
                     list(gguf.Metadata.get_model_id_components(*args)))
    out = {"peer": "gguf-py of llama-cpp-python 0.3.36",
           "names": names,
           "titles": [[t, gguf.Metadata.id_to_title(t)] for t in TITLES],
           "labels": [[*x, gguf.size_label(*x)] for x in LABELS],
           "cards": list(cards())}
    path = Path(__file__).parent / "meta.json"
    with open(path, "w") as f:
        f.write('{"peer": %s,\n' % json.dumps(out["peer"]))
        for k in ("names", "titles", "labels", "cards"):
            f.write('"%s": [\n' % k)
            f.write(",\n".join(json.dumps(x, ensure_ascii=False) for x in out[k]))
            f.write("\n]%s\n" % ("" if k == "cards" else ","))
        f.write("}\n")
    print(path, os.path.getsize(path), len(names), len(out["cards"]))


main()
