#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: transformers jinja2
"""peer_template.py [--seed S] [--n N] [--template TOOL] [--templates DIR]: text/template.h against transformers'
render_jinja_template, byte for byte, and raising where it raises:
  - the templates of llama.cpp's sources (DIR, or LBRX_CHAT_TEMPLATES; default beside LBRX_CONVERT_HF_TO_GGUF) and those
    of tests/golden/template, over conversations made of all that chat templates look at
  - random expressions and random programs of the language
  - models with the tokenizers of tests/golden/text: `lbrx template` against apply_chat_template"""
import argparse
import datetime
import itertools
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
os.environ["HF_HUB_OFFLINE"] = "1"
import jinja2
import transformers
from transformers.utils import chat_template_utils as ctu

transformers.utils.logging.set_verbosity_error()
HERE = pathlib.Path(__file__).resolve().parents[2]
passed = failed = 0
SHOWN = 40


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok and failed <= SHOWN:
        print("FAIL", what, flush=True)
    return ok


class Tool:
    """What the tool says: (text, None) or (None, message)."""

    def __init__(self, path, now=None):
        self.p = subprocess.Popen([path] + ([str(now)] if now else []), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True, encoding="utf-8")

    def ask(self, line):
        self.p.stdin.write(json.dumps(line) + "\n")
        self.p.stdin.flush()
        answer = self.p.stdout.readline()
        if not answer:
            raise SystemExit("the tool ended: " + json.dumps(line)[:2000])
        a = json.loads(answer)
        return a.get("text"), a.get("error"), a.get("status")


def python_chat(template, chat):
    more = {k: v for k, v in chat.items() if k not in ("messages", "tools", "documents", "add_generation_prompt")}
    try:
        out, _ = ctu.render_jinja_template([chat["messages"]], tools=chat.get("tools"), documents=chat.get("documents"),
                                           chat_template=template,
                                           add_generation_prompt=chat.get("add_generation_prompt", True), **more)
        return out[0], None
    except RecursionError:
        raise
    except Exception as e:
        return None, f"{type(e).__name__}: {e}"


def python_vars(template, variables):
    try:
        return ctu._compile_jinja_template(template).render(**variables), None
    except Exception as e:
        return None, f"{type(e).__name__}: {e}"


# ---- conversations ----

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Get the weather, \"now\" — or later\nat a place.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "The city", "enum": ["Paris", "München"]},
            "days": {"type": "integer", "minimum": 1, "default": 3},
            "opts": {"type": "object", "properties": {"unit": {"type": ["string", "null"]}, "deep": {
                "type": "array", "items": {"type": "object", "properties": {"x": {"type": "number"}}}}},
                "required": ["unit"]},
            "any": {"anyOf": [{"type": "string"}, {"type": "integer"}], "nullable": True},
            "list": {"type": "array", "items": {"type": "string"}}}, "required": ["city"]},
        "return": {"type": "string"}}},
    {"type": "function", "function": {"name": "noargs", "description": "", "parameters": {
        "type": "object", "properties": {}}}},
    {"type": "function", "function": {"name": "<b>&'\"", "description": "Ünïcode 🎉 </tool>", "parameters": {
        "type": "object", "properties": {"π": {"type": "number", "description": "3.14 <tag>"}}, "required": []},
        "strict": True}},
]
TOOL_FLAT = [{"name": "flat", "description": "No function member", "parameters": {
    "type": "object", "properties": {"a": {"type": "boolean", "description": "b"}}}}]


def call(arguments, name="get_weather", ident="call_12345"):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


ARGS = {"city": "Paris \"x\"", "days": 2, "f": 1.5, "t": True, "n": None, "o": {"k": ["ü", 1e-7, 10 ** 20]}, "e": {}}
CALLS = [
    [call(ARGS)], [call(json.dumps(ARGS, ensure_ascii=False))], [call({}), call('{"a": 1}', "noargs", "abcdefghi")],
    [{"function": {"name": "noargs", "arguments": {"x": "multi\nline"}}}], [{"name": "flat", "arguments": {"a": False}}],
    [call("not json {")], [],
]
CONTENTS = ["Hello", "", "  spaces \n", "Ünï 🎉 中文 <b>&amp;", [{"type": "text", "text": "part one"}],
            [{"type": "text", "text": "look "}, {"type": "image"}, {"type": "text", "text": " there"}],
            [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}, {"type": "text", "text": "what?"}], None,
            "<think>\nhm\n</think>\n\nanswer", "[INST]<|im_end|>{{ x }}{% if %}", [{"type": "video"}, {"type": "audio"}]]
REASONING = [("reasoning_content", "I think\nso"), ("thinking", "hmm <x>"), ("reasoning", ""), None, None]
KWARGS = [{}, {}, {"enable_thinking": False}, {"enable_thinking": True}, {"thinking": True}, {"reasoning_effort": "high"},
          {"reasoning_effort": "none"}, {"date_string": "26 Jul 2024"}, {"tools_in_user_message": False},
          {"clear_thinking": False}, {"thinking_budget": 512}, {"xml_tools": [{"name": "x"}], "python_tools": None},
          {"builtin_tools": ["browser", "python"]}, {"model_identity": "I am me."}, {"add_vision_id": True},
          {"keep_past_thinking": True, "preserve_thinking": True}, {"strftime_now": None}, {"custom_tools": TOOLS[:1]},
          {"citations": "accurate", "controls": {"length": "long", "originality": "low"}},
          {"thinking_mode": "chat", "drop_thinking": True}, {"functions": "[]", "datetime": "today"}]
ALWAYS = {"fireworks-ai-llama-3-firefunction-v2.jinja": {"functions": "[]", "datetime": "today"}}
TOKENS = [{"bos_token": "<s>", "eos_token": "</s>"}, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>",
          "unk_token": "<unk>", "pad_token": "<pad>"}, {}]


def message(r, role):
    m = {"role": role}
    if r.random() < 0.95:
        m["content"] = r.choice(CONTENTS) if r.random() < 0.6 else "text %d" % r.randrange(99)
    if role == "assistant":
        if r.random() < 0.35:
            m["tool_calls"] = r.choice(CALLS)
            if r.random() < 0.5:
                m["content"] = r.choice([None, "", "calling"])
        reason = r.choice(REASONING)
        if reason:
            m[reason[0]] = reason[1]
        if r.random() < 0.05:
            m["prefix"] = True
    if role == "tool":
        m.update(r.choice([{}, {"tool_call_id": "call_12345"}, {"name": "get_weather"}, {
            "tool_call_id": "abcdefghi", "name": "noargs"}]))
        if r.random() < 0.3:
            m["content"] = r.choice(["{\"temp\": 21}", {"temp": 21, "sky": "clear"}, "", [{"type": "text", "text": "21"}]])
    return m


def roles(r):
    n = r.randrange(1, 5)
    out = ["system"] if r.random() < 0.5 else []
    for _ in range(n):
        out.append("user")
        if r.random() < 0.75:
            out.append("assistant")
            while r.random() < 0.3:
                out += ["tool"] * r.randrange(1, 3) + (["assistant"] if r.random() < 0.8 else [])
    if r.random() < 0.12:
        r.shuffle(out)
    if r.random() < 0.06:
        out.insert(r.randrange(len(out) + 1), r.choice(["developer", "system", "function", "weird", "ipython", "context"]))
    return out


def plain(r, out):
    """A conversation without the odd cases: templates get to their ends."""
    ms = []
    for role in out:
        m = {"role": role, "content": r.choice(["Hello there", "Ünï 🎉", "two\nlines ", "x"])}
        if role == "assistant" and r.random() < 0.4:
            m = {"role": role, "content": "", "tool_calls": [call(dict(ARGS), ident="abcdefghi")]}
        if role == "tool":
            m.update({"tool_call_id": "abcdefghi", "name": "get_weather"})
        ms.append(m)
    return ms


def conversation(r):
    out = roles(r)
    chat = {"messages": plain(r, out) if r.random() < 0.45 else [message(r, role) for role in out]}
    x = r.random()
    if x < 0.35:
        chat["tools"] = r.choice([TOOLS, TOOLS[:1], TOOLS[1:2], TOOL_FLAT, []])
    if r.random() < 0.08:
        chat["documents"] = [{"title": "T", "text": "Some text"}, {"title": "Ü", "text": "", "doc_id": 7}]
    chat["add_generation_prompt"] = r.random() < 0.6
    chat.update(r.choice(TOKENS))
    chat.update(r.choice(KWARGS))
    return chat


def same(ours, theirs, what):
    text, error, status = ours
    if status == "not supported":
        return check(False, f"{what}: refused: {error}")
    if theirs[1] is not None:
        return check(error is not None, f"{what}: python raises {theirs[1][:300]}; we give {text!r:.300}")
    if error is not None:
        return check(False, f"{what}: we say {error}; python gives {theirs[0]!r:.300}")
    if text == theirs[0]:
        return check(True, what)
    at = next((i for i, (a, b) in enumerate(itertools.zip_longest(text, theirs[0])) if a != b), 0)
    return check(False, f"{what}: differ at {at}: ours {text[max(0, at - 60):at + 80]!r}\n   python "
                        f"{theirs[0][max(0, at - 60):at + 80]!r}")


def real_templates(tool, folders, n, seed):
    for folder in folders:
        for path in sorted(pathlib.Path(folder).glob("*.jinja")):
            template = path.read_text("utf-8")
            r = random.Random(f"{seed} {path.name}")
            first = True
            raised = 0
            for i in range(n):
                chat = {**conversation(r), **ALWAYS.get(path.name, {})}
                if i == 0:
                    chat["messages"] = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"},
                                        {"role": "user", "content": "What?"}]
                    chat["tools"] = TOOLS[:1] if "tool_use" in path.name else None
                theirs = python_chat(template, json.loads(json.dumps(chat)))
                raised += theirs[1] is not None
                line = {"chat": chat}
                if first:
                    line["template"] = template
                first = False
                if not same(tool.ask(line), theirs, f"{path.name} #{i}") and failed <= 3:
                    print("   ", json.dumps(chat, ensure_ascii=False)[:1500])
            if raised == n and n > 20:
                check(False, f"{path.name}: python always raises: nothing was compared")


# ---- random programs ----

VARS = {"s": "Hello, World", "u": "ünï ß 中 🎉x", "e": "", "w": "  a b\n c ", "i": 7, "z": 0, "neg": -3, "f": 2.5, "g": 1e-7, "b": True,
        "n": None, "big": 12345678901234567890123, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "el": [], "mix": [1, "a", None, 2.0, [1]],
        "d": {"a": 1, "b": [1, 2], "items": "x", "c d": {"k": "v"}}, "ed": {}, "q": "it's \"q\"\\", "lines": "a\nb\r\nc\n\nd",
        "ld": [{"n": "x", "v": 2, "t": {"k": 1}}, {"n": "Y", "v": 1}, {"n": "x", "v": 3, "t": {"k": 0}}]}
ATOMS = list(VARS) + ["missing", "1", "0", "2", "-1", "3", "1.5", "0.1", "10", "100", "'a'", "''", "'b'", "\"x y\"", "'%s-%s'", "' '",
                      "'{}|{}'", "true", "false", "none", "[]", "{}", "[1, 2, 3]", "('a', 1)", "{'a': 1, 'b': none}", "range(3)",
                      "'l'", "'\\n'", "'a,b,c'", "'3'", "'4.7'", "'abc'", "()", "[[1, 2], [3]]"]
BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and", "or", "**"]
FILTERS = ["abs", "attr('a')", "batch(2)|list", "batch(2, 'x')|list", "capitalize", "center(20)", "count", "d('x')", "default('dd', true)", "dictsort",
           "dictsort(true)", "dictsort(by='value')", "dictsort(reverse=true)", "e", "escape", "first", "float", "float(1.0)", "forceescape",
           "groupby('n')", "groupby('v', default=0)", "groupby(0)", "indent", "indent(2, true)", "indent('> ', blank=true)", "int", "int(5)", "int(base=16)", "join",
           "join(', ')", "join('-', attribute='n')", "last", "length", "list", "lower", "items|list", "map('upper')|list", "map(attribute='n')|list",
           "map(attribute='t.k', default='z')|list", "map('int')|join('+')", "min", "max", "min(attribute='v')", "reject('odd')|list", "rejectattr('t')|list",
           "replace('a', 'b')", "replace('l', 'L', 1)", "replace('', '.')", "reverse", "reverse|list", "round", "round(1)", "round(2, 'floor')", "round(0, 'ceil')",
           "safe", "select|list", "select('string')|list", "select('equalto', 1)|list", "select('in', [1, 'a'])|list", "selectattr('v', 'gt', 1)|list", "selectattr('t', 'defined')|map(attribute='n')|list",
           "slice(2)|list", "slice(3, 'f')|list", "sort", "sort(reverse=true)", "sort(attribute='v')", "sort(attribute='n,v')", "sort(case_sensitive=true)", "string", "sum",
           "sum(attribute='v')", "sum(start=1)", "title", "trim", "trim('H ')", "truncate(7)", "truncate(5, true, '…')", "truncate(3, leeway=0)", "unique|list", "unique(attribute='n')|list",
           "upper", "urlencode", "wordcount", "wordwrap(5)", "wordwrap(10, false)", "xmlattr", "tojson", "tojson(indent=2)", "tojson(indent=0)", "tojson(ensure_ascii=true)",
           "tojson(separators=(',', ':'))", "tojson(sort_keys=true)", "tojson(indent='\t', sort_keys=true)", "format(1, 2)", "format(a=1)", "filesizeformat", "filesizeformat(true)", "nosuch", "map", "select('nosuch')|list"]
TESTS = ["defined", "undefined", "none", "boolean", "false", "true", "integer", "float", "number", "string", "mapping", "sequence", "iterable", "callable",
         "odd", "even", "divisibleby(2)", "divisibleby 3", "lower", "upper", "in [1, 'a', none]", "eq 1", "== 'a'", "ne(2)", "gt(1)", "lt 5", "sameas none", "sameas(true)", "escaped", "filter", "test", "nosuch"]
METHODS = ["strip()", "lstrip()", "rstrip()", "strip('H d')", "split()", "split(',')", "split(' ', 1)", "rsplit(' ', 1)", "rsplit()", "splitlines()", "splitlines(true)",
           "replace('l', 'L')", "replace('l', 'LL', 1)", "startswith('H')", "startswith(('a', 'H'))", "endswith('d')", "upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()",
           "find('o')", "rfind('o')", "find('o', 5)", "find('zz')", "index('l')", "count('l')", "count('')", "join(['a', 'b'])", "join(ls)", "format(1, 'x')", "format(a=1)", "center(15, '*')", "ljust(14)", "rjust(14, '.')", "zfill(15)",
           "partition(',')", "rpartition('o')", "removeprefix('He')", "removesuffix('ld')", "isalnum()", "isalpha()", "isdigit()", "islower()", "isupper()", "isspace()", "istitle()", "isnumeric()", "isdecimal()", "isascii()", "isidentifier()", "isprintable()", "expandtabs(4)",
           "keys()", "values()", "items()", "keys()|list", "items()|list", "get('a')", "get('zz')", "get('zz', 5)", "get(1)", "append(1)", "pop()", "update({})", "count(1)", "index(1)", "copy()", "bit_length()", "is_integer()", "nosuch()", "a", "b", "items", "n", "__class__", "_x", "real", "format_map(d)"]
SUBS = ["[0]", "[-1]", "[1:]", "[:-1]", "[::-1]", "[1:5:2]", "['a']", "['items']", "['nosuch']", "[99]", "[:3]", "[-2:]", "[none:2]", ".a", ".nosuch", ".items", "[::2]", "[5:1:-1]", "[true]", "[1.0]", "['c d'].k", ".0"]
PERCENT = ["'%s' % ", "'%d' % ", "'%5.2f|' % ", "'%-5s|' % ", "'%05d' % ", "'%x' % ", "'%r' % ", "'%+d' % ", "'%s %s' % ", "'%(a)s' % ", "'%e' % ", "'%g' % ", "'%%' % ", "'%c' % ", "'%.2s' % ", "'%#x' % "]
BRACES = ["'{}'", "'{!r}'", "'{:>8}'", "'{:<8}|'", "'{:^8}'", "'{:*^9}'", "'{:05}'", "'{:.2f}'", "'{:d}'", "'{:,}'", "'{:x}'", "'{:+}'", "'{:e}'", "'{:.3}'", "'{:%}'", "'{0}{0}'", "'{0[0]}'", "'{0.a}'", "'{{}}'", "'{:08.3f}'", "'{:_}'", "'{:#x}'", "'{:g}'", "'{:b}'", "'{:s}'", "'{'", "'{:}'", "'{0[a]}'", "'{:{}}'"]


def expr(r, depth):
    x = r.random()
    if depth == 0 or x < 0.12:
        return r.choice(ATOMS)
    sub = lambda: expr(r, depth - 1)
    if x < 0.32:
        op = r.choice(BINARY)  # powers of powers would keep Python busy for ever
        return f"({sub()} {op} {r.choice(['2', '0', '-1', '0.5', 'b', 's']) if op == '**' else sub()})"
    if x < 0.52:
        return f"({sub()}|{r.choice(FILTERS)})"
    if x < 0.62:
        return f"({sub()} is {r.choice(['', 'not '])}{r.choice(TESTS)})"
    if x < 0.74:
        return f"({sub()}).{r.choice(METHODS)}"
    if x < 0.84:
        return f"({sub()}){r.choice(SUBS)}"
    if x < 0.88:
        return f"({sub()} if {sub()}{r.choice([' else ' + sub(), ''])})"
    if x < 0.90:
        return f"(not {sub()})" if r.random() < 0.5 else f"(-{sub()})"
    if x < 0.93:
        return f"({r.choice(PERCENT)}({sub()}{r.choice(['', ', ' + sub()])}))"
    if x < 0.96:
        return f"({r.choice(BRACES)}.format({sub()}, {sub()}))"
    if x < 0.98:
        return f"[{sub()}, {sub()}]"
    return f"{{'k': {sub()}, 'j': {sub()}}}"


def block(r, depth):
    x = r.random()
    e = lambda: expr(r, r.randrange(3))
    body = lambda: "".join(block(r, depth - 1) for _ in range(r.randrange(1, 4)))
    name = lambda: r.choice(["v", "w1", "s", "i", "ns.a", "loopy"])
    dash = lambda: r.choice(["", "", "-", "+"])
    l, t = dash(), dash()
    if depth == 0 or x < 0.2:
        return r.choice(["text ", "\n", "  \n  ", "x", "\n\n  y", "\t", "<>&", "{ ", "é"])
    if x < 0.34:
        return "{{%s %s %s}}" % (r.choice(["", "-"]), r.choice([e(), "v", "w1", "loop.index", "ns.a", "loopy", "loop.last", "loop.previtem", "loop.cycle('a', 'b')", "loop.changed(v)", "loop.length", "loop.revindex0", "loop.nextitem", "loop.depth"]),
                                 r.choice(["", "-"]))
    if x < 0.46:
        return "{%%%s if %s %s%%}%s{%% elif %s %%}%s{%%- else -%%}%s{%% endif %s%%}" % (l, e(), t, body(), e(), body(), body(), dash())
    if x < 0.60:
        head = r.choice([f"x in {e()}", "x in l", "x in ls", "x in range(4)", "k, v in d.items()", "x in ld", "x in l if x > 1", "x in [[1, [2]], 3] recursive", "a, b in d|dictsort", "x in s", "x in mix", "v in ls if v != 'A'"])
        inner = body() + r.choice(["", "{% break %}", "{% continue %}", "{% if loop.index == 2 %}{% break %}{% endif %}", "{{ loop.index0 }}", "{{ x }}", "{% if x is iterable and x is not string %}{{ loop(x) }}{% endif %}"])
        return "{%%%s for %s %s%%}%s%s{%% endfor %s%%}" % (l, head, t, inner, r.choice(["", "{% else %}" + body()]), dash())
    if x < 0.72:
        return r.choice(["{%%%s set %s = %s %s%%}" % (l, name(), e(), t), "{%% set v, w1 = %s, %s %%}" % (e(), e()), "{%% set %s %%}%s{%% endset %%}" % (name(), body()), "{%% set v | upper | replace('A', 'b') %%}%s{%% endset %%}" % body()])
    if x < 0.80:
        return "{%% macro %s(a, b=%s) %%}%s{{ a }}{{ b }}%s{%% endmacro %%}{{ %s(%s) }}" % (r.choice("mn"), e(), body(), r.choice(["", "{{ caller() if caller }}", "{{ varargs }}", "{{ kwargs }}"]), r.choice("mn"), r.choice(["1", "1, 2", "a=3", "", "1, 2, 3", "1, c=2", e()]))
    if x < 0.84:
        return "{%% call%s m(%s) %%}%s{%% endcall %%}" % (r.choice(["", "(q)"]), e(), body())
    if x < 0.88:
        return "{%% filter %s %%}%s{%% endfilter %%}" % (r.choice(["upper", "trim", "indent(2)", "replace('e', 'E')|title", "length"]), body())
    if x < 0.92:
        return "{%% with v = %s, w1 = v %%}%s{%% endwith %%}" % (e(), body())
    if x < 0.95:
        return "{#%s comment %s#}" % (dash(), dash())
    if x < 0.97:
        return "{% generation %}" + body() + "{% endgeneration %}"
    return "{% raw %}{{ x }}{% endraw %}"


# Slices of constants that have no items: jinja2's optimizer makes them undefined in {{ }}, and nowhere else.
FOLDED = ("object is not subscriptable", "unhashable type: 'slice'")
SKIP = ("generator object", " object at 0x", "<built-in", "<bound method", "function ", "more than 64 bits", "<class ")


def random_programs(tool, n, seed):
    unsupported = 0
    for i in range(n):
        r = random.Random(f"{seed} {i}")
        if i % 3:
            template = "{{ " + expr(r, r.randrange(1, 4)) + " }}"
        else:
            template = "{% set ns = namespace(a=1) %}{% macro m(a) %}<{{ a }}{{ caller(1) if caller }}>{% endmacro %}" + "".join(
                block(r, 3) for _ in range(r.randrange(1, 5)))
        theirs = python_vars(template, VARS)
        ours = tool.ask({"template": template, "vars": VARS})
        if ours[2] == "not supported":  # said by name: big integers, generators printed...
            unsupported += 1
            continue
        if theirs[0] is not None and any(x in theirs[0] for x in SKIP):
            continue
        if theirs[1] is None and any(x in (ours[1] or "") for x in FOLDED):
            continue
        same(ours, theirs, template[:600])
    check(unsupported <= n / 10, f"{unsupported} of {n} programs are not supported")
    print(f"random programs: {n}, of which refused by name {unsupported}")


FOLDER_TEMPLATE = ("{{ bos_token }}|{{ eos_token }}|{{ unk_token }}|{{ pad_token }}|{{ sep_token }}|{{ cls_token }}|"
                   "{{ mask_token }}|{{ messages }}|{{ tools }}|{{ add_generation_prompt }}|{{ x }}\n")


def model_folders(lbrx, make_model):
    """Models with the tokenizers of tests/golden/text: what apply_chat_template gives."""
    from transformers import AutoTokenizer
    chat = {"messages": [{"role": "user", "content": None, "n": 1}, {"role": "assistant", "content": "é", "thinking": "t"}],
            "tools": TOOLS[:1], "x": {"k": [1.0, None]}}
    for texts in sorted((HERE / "tests/golden/text").iterdir()):
        if not (texts / "tokenizer.json").exists():
            continue
        with tempfile.TemporaryDirectory() as tmp:
            model = pathlib.Path(tmp) / "m"
            subprocess.run([make_model, "hf", "llama", str(model)], check=True, stdout=subprocess.DEVNULL)
            for f in texts.iterdir():
                if f.is_file() and f.name != "config.json":
                    shutil.copy(f, model / f.name)
            (model / "chat_template.jinja").write_text(FOLDER_TEMPLATE, "utf-8")
            (model / "additional_chat_templates").mkdir()
            (model / "additional_chat_templates/tool_use.jinja").write_text("T" + FOLDER_TEMPLATE, "utf-8")
            try:
                tok = AutoTokenizer.from_pretrained(str(model))
            except Exception as e:
                print(f"  {texts.name}: transformers does not open it: {type(e).__name__}")
                continue
            for tools in (None, chat["tools"]):
                want = tok.apply_chat_template(chat["messages"], tools=tools, tokenize=False, add_generation_prompt=True,
                                               x=chat["x"])
                got = subprocess.run([lbrx, "template", str(model)], input=json.dumps({**chat, "tools": tools}).encode(),
                                     capture_output=True)
                check(got.stdout.decode() == want and got.returncode == 0,
                      f"{texts.name}: {got.stdout.decode()!r} {got.stderr.decode()}\n   python {want!r}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--n", type=int, default=60, help="conversations a template")
    p.add_argument("--programs", type=int, default=6000)
    p.add_argument("--template", default=os.environ.get("TEMPLATE", str(HERE / "build/cc/tests/template")))
    p.add_argument("--templates", default=os.environ.get("LBRX_CHAT_TEMPLATES"))
    o = p.parse_args()
    convert = os.environ.get("LBRX_CONVERT_HF_TO_GGUF")
    folders = [HERE / "tests/golden/template"]
    if o.templates or convert:
        folders.insert(0, o.templates or pathlib.Path(convert).parent / "models/templates")
    else:
        print("skip: peer_template: templates of llama.cpp: LBRX_CONVERT_HF_TO_GGUF is not set")

    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 2, 3, 4, 5, 6, 789)

    ctu.datetime = Fixed
    now = int((datetime.datetime(2026, 2, 3, 4, 5, 6, 789) - datetime.datetime(1970, 1, 1)) / datetime.timedelta(microseconds=1))
    tool = Tool(o.template, now)
    real_templates(tool, folders, o.n, o.seed)
    random_programs(tool, o.programs, o.seed)
    model_folders(os.environ.get("LBRX", str(HERE / "build/cc/lbrx")),
                  os.environ.get("MAKE_MODEL", str(HERE / "build/cc/tests/make_model")))
    print(f"peer_template: {passed} passed, {failed} failed, 0 skipped [cost: slow]")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
