#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes yaml.json: texts and what PyYAML's safe_load makes of them (null: it refuses).

usage: make_yaml.py     (PyYAML 6)
Differences that the reader has are not in the list. On purpose: timestamps and sexagesimal numbers stay
strings, a repeated key is refused, keys are strings, an anchor may be defined again, "<<" is a string
where it is no key. By libyaml: no lone surrogates, a comment right after | or >.
"""
import json
import math
import random
from pathlib import Path

import yaml

random.seed(3)
TEXTS = [
    "", "a", "a: 1", "- 1\n- two\n-\n- ~\n- null\n- Null\n- 'null'\n", "{a: [1, 2, {b: c}], d: {}}",
    "[yes, No, ON, off, true, False, y, n, YES, yEs]",
    "[0, 00, 07, 08, 0o7, 0x1F, 0xg, 0b101, -0b11, +12, -12, 1_000, _1, 1__0, 0_7, 12345678901234567890123]",
    "[1.0, 1., .5, -.5, +1.5, 1e5, 1.e+5, 1.0e+5, 1.0E-5, 1.5e5, 1_0.0_1, 01.5, -01.5, .1_0, ._1, 0.]",
    "[.inf, -.inf, +.inf, .Inf, .INF, .nan, .NaN, -.nan, inf, nan, .iNF]",
    "['1', \"2\", '''', \"a\\tb\\u00e9\\x41\", 'a\n  b']", "a: |\n  x\n   y\n\nb: >-\n  p\n  q\n\n  r\n",
    "a: &x {k: 1}\nb: *x\nc: [*x, *x]\n", "a: &x 1\nb: &x 2\nc: *x\n",
    "d: &d {a: 1, b: 2}\ne:\n  <<: *d\n  b: 3\n", "d: &d {a: 1}\nf: &f {a: 2, c: 3}\ne: {b: 0, <<: [*d, *f]}\n",
    "e:\n  a: own\n  <<: {a: merged, z: 1}\n", "'<<': 1", "a: !!str 1\nb: !!int '7'\nc: !!float '1.5'\n",
    "a: !!seq [1]\nb: !!map {c: 1}\nc: !!null ''\nd: !!bool 'yes'\n", "a: ! 1", "? a\n: b\n", "a: b: c", "a: [",
    "- a\nb", "\ta: 1", "a: *nope", "a: !foo 1", "a: !!python/object:x 1", "--- 1\n--- 2\n", "--- 1\n...\n", "%YAML 1.1\n--- a\n",
    "# only\n", "a: # c\n  b # d\n", "a: 'x' # y", "a: x#y", "é: ü\n日本: [語]", "a:\n- 1\n- 2\nb:\n  - c: d\n    e: f\n",
    "models:\n  - model: a/b\n    parameters:\n      weight: [0, 0.5, 1]\n      density: 1e-5\nmerge_method: ties\ndtype: bfloat16\n",
    "slices:\n- sources:\n  - model: m\n    layer_range: [0, 32]\nparameters:\n  t:\n    - filter: self_attn\n      value: [0, .5, 0.3, 0.7, 1]\n    - value: 0.5\n",
    "x: ~/path", "x: -", "x: '-'", "- - - a\n  - b\n", "{a, b: , c}", "[a, , b]", "a: 'unterminated", "@a", "`a", "a: @b", "%a", "key: &a", "&a key: *a",
]


def rand_text():
    parts = [": ", "- ", "\n", "  ", "a", "b", "[", "]", "{", "}", ",", "'", '"', "&x ", "*x", "|", ">",
             "1", ".5", "yes", "#", "?", "!!str ", "~", "<<", "0x1", "1e+3", "é", "...", "---"]
    return "".join(random.choice(parts) for _ in range(random.randint(1, 14)))


class Refused(Exception):
    pass


def plain(v, depth=0):
    if isinstance(v, dict):
        out = {}
        for k, x in v.items():
            if isinstance(k, bool) or not isinstance(k, str):
                raise Refused  # the reader keeps the key's text: compared elsewhere
            out[k] = plain(x)
        return out
    if isinstance(v, list):
        return [plain(x) for x in v]
    if isinstance(v, float) and not math.isfinite(v):
        return {"float": str(v)}
    if v is None or isinstance(v, (str, int, float)):
        return v
    raise Refused


def has_duplicate(node):
    if isinstance(node, yaml.MappingNode):
        keys = [k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode)]
        keys = [k for k in keys if k != "<<"] + [k for k in keys if k == "<<"][:1]
        return len(keys) != len(set(keys)) or any(has_duplicate(x) for p in node.value for x in p)
    return isinstance(node, yaml.SequenceNode) and any(has_duplicate(x) for x in node.value)


def main():
    out = []
    texts = TEXTS + [rand_text() for _ in range(3000)]
    for t in texts:
        if "|#" in t or ">#" in t or t.count("&x") > 1 or t.strip(" &x\n") == "<<":
            continue
        try:
            root = yaml.compose(t, yaml.SafeLoader)
            if root is not None and has_duplicate(root):
                continue
            out.append({"text": t, "value": plain(yaml.safe_load(t))})
        except (Refused, RecursionError):
            continue
        except (yaml.YAMLError, ValueError):
            out.append({"text": t, "error": True})
    good = [c for c in out if "value" in c and not isinstance(c["value"], str)]
    keep = [c for c in out if c["text"] in TEXTS]
    keep += [c for c in good if c not in keep][:300]
    keep += [c for c in out if "error" in c and c not in keep][:150]
    with open(Path(__file__).parent / "yaml.json", "w") as f:
        f.write('{"peer": "PyYAML %s", "cases": [\n' % yaml.__version__)
        f.write(",\n".join(json.dumps(c) for c in keep) + "\n]}\n")
    print(len(keep))


main()
