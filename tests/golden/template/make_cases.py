#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_cases.py > cases.json: what transformers 5.24 with jinja2 3.1.6 (Python 3.11) renders: the templates beside this
file over conversations of tests/peers/peer_template.py, and its random expressions and programs. strftime_now is left to
the peers' suite, but for the number of a year's digits."""
import json
import pathlib
import random
import runpy
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.argv = ["peer_template.py"]
peer = runpy.run_path(str(HERE.parents[1] / "peers/peer_template.py"), run_name="cases")
cases = []


def add(case, result):
    text, error = result
    cases.append({**case, **({"text": text} if error is None else {"raises": error.split("\n")[0][:100]})})


for path in sorted(HERE.glob("*.jinja")):
    template = path.read_text("utf-8")
    r = random.Random(path.name)
    for i in range(24):
        chat = peer["conversation"](r)
        add({"file": path.name, "chat": chat}, peer["python_chat"](template, json.loads(json.dumps(chat))))
vars_ = peer["VARS"]
for i in range(900):
    r = random.Random(f"golden {i}")
    if i % 6:
        template = "{{ " + peer["expr"](r, r.randrange(1, 3)) + " }}"
    else:
        template = ("{% set ns = namespace(a=1) %}{% macro m(a) %}<{{ a }}{{ caller(1) if caller }}>{% endmacro %}"
                    + "".join(peer["block"](r, 2) for _ in range(r.randrange(1, 4))))
    result = peer["python_vars"](template, vars_)
    if result[1] is None and any(x in result[0] for x in peer["SKIP"]):
        continue
    if "[" in template and ":" in template and result[1] is None and result[0] == "":
        continue  # jinja2's optimizer makes slices of constants undefined
    if result[1] is not None and i % 4:
        continue
    add({"template": template}, result)
print(json.dumps({"vars": vars_, "cases": cases}, ensure_ascii=False, indent=0))
