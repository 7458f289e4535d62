#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: jsonschema
"""peer_json_schema.py [--seed S] [--n N]: random schemas. Texts that the grammar writes must be JSON that the package jsonschema
holds valid; documents that are made valid, with properties in the schema's order, must be accepted; spoilt ones that
jsonschema refuses must not be. SCHEMA is tests/tool/schema.c's program.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
TOOL = os.environ.get("SCHEMA", "")
LONG = bool(os.environ.get("LB_TEST_LONG"))
passed = failed = skipped = 0
PATTERNS = [("^[a-c]{2,4}$", ["ab", "cccc"]), ("^(x|yy)+-?\\d$", ["x1", "yyx-0"]), ("b\"q", ["b\"q", "xxb\"qy"]), ("^[^\\s]\\\\$", ["a\\", "\"\\"])]


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok and failed < 20:
        print("FAIL " + what[:1500])


def word(r):
    return "".join(r.choice(["a", "b", "é", "\"", "\\", "\n", " ", "z", "€", "😀"]) for _ in range(r.randrange(4)))


def scalar(r):
    return r.choice([None, True, False, r.randrange(-50, 50), 1.5, word(r)])


def schema(r, depth, defs):
    kind = r.choice(["string", "integer", "number", "boolean", "null", "enum", "const", "any", "ref"] + ["object", "array", "anyOf", "allOf"] * (2 if depth else 0))
    if kind == "ref" and defs:
        return {"$ref": "#/$defs/" + r.choice(defs)}
    if kind == "string":
        s = {"type": "string"}
        how = r.randrange(4)
        if how == 1:
            s["minLength"] = r.randrange(3)
            s["maxLength"] = s["minLength"] + r.randrange(4)
        elif how == 2:
            s["pattern"] = r.choice(PATTERNS)[0]
        elif how == 3:
            s["format"] = r.choice(["date", "time", "date-time", "uuid", "ipv4", "ipv6"])
        return s
    if kind in ("integer", "number"):
        s = {"type": kind}
        if r.random() < 0.6:
            s[r.choice(["minimum", "exclusiveMinimum"])] = r.randrange(-300, 300)
        if r.random() < 0.6:
            s[r.choice(["maximum", "exclusiveMaximum"])] = r.randrange(300, 1500) if r.random() < 0.8 else r.randrange(-300, 300)
        return s
    if kind == "enum":
        return {"enum": [scalar(r) for _ in range(r.randint(1, 4))]}
    if kind == "const":
        return {"const": r.choice([scalar(r), [scalar(r)], {word(r): scalar(r)}])}
    if kind == "object":
        names = list(dict.fromkeys(word(r) or "k" for _ in range(r.randrange(4))))
        s = {"type": "object", "properties": {n: schema(r, depth - 1, defs) for n in names}}
        s["required"] = [n for n in names if r.random() < 0.5]
        if r.random() < 0.5:
            s["additionalProperties"] = r.choice([False, True, schema(r, depth - 1, [])])
        return s
    if kind == "array":
        s = {"type": "array"}
        if r.random() < 0.7:
            s["items"] = schema(r, depth - 1, defs)
        if r.random() < 0.4:
            s["prefixItems"] = [schema(r, depth - 1, []) for _ in range(r.randint(1, 3))]
        if r.random() < 0.5:
            s["minItems"] = r.randrange(3)
        if r.random() < 0.5:
            s["maxItems"] = s.get("minItems", 0) + r.randrange(4)
        return s
    if kind == "anyOf":
        return {r.choice(["anyOf"]): [schema(r, depth - 1, defs) for _ in range(r.randint(1, 3))]}
    if kind == "allOf":
        return {"allOf": [schema(r, depth - 1, []), {"type": r.choice([["string", "integer", "object"], ["array", "object", "null"]])}]}
    return {"type": kind} if kind in ("boolean", "null") else {}


def document(r, s, root, depth=0):
    """A valid document, or KeyError where this does not know how."""
    if depth > 6:
        raise KeyError
    if "$ref" in s:
        return document(r, root["$defs"][s["$ref"][8:]], root, depth + 1)
    if "enum" in s:
        return r.choice(s["enum"])
    if "const" in s:
        return s["const"]
    if "anyOf" in s:
        return document(r, r.choice(s["anyOf"]), root, depth + 1)
    if "allOf" in s:
        raise KeyError
    t = s.get("type")
    if t is None:
        return r.choice([scalar(r), [scalar(r)], {"q": scalar(r)}])
    if t == "string":
        if "pattern" in s:
            return r.choice(dict(PATTERNS)[s["pattern"]])
        if "format" in s:
            return {"date": "2031-02-28", "time": "01:02:03Z", "date-time": "1999-12-31T23:59:59+01:30", "ipv4": "255.0.19.1",
                    "uuid": "01234567-89ab-cdef-0123-456789abcdef", "ipv6": "1:2:3:4:5:6:ab:ffff"}[s["format"]]
        return "".join(r.choice("ab\"\\é€\n") for _ in range(r.randint(s.get("minLength", 0), s.get("maxLength", 5))))
    if t in ("integer", "number"):
        lo = max(s.get("minimum", -10**6), s.get("exclusiveMinimum", -10**6) + 1)
        hi = min(s.get("maximum", 10**6), s.get("exclusiveMaximum", 10**6) - 1)
        return r.randint(lo, hi) if lo <= hi else (_ for _ in ()).throw(KeyError())
    if t == "boolean":
        return r.random() < 0.5
    if t == "null":
        return None
    if t == "object":
        d = {n: document(r, p, root, depth + 1) for n, p in s["properties"].items() if n in s["required"] or r.random() < 0.5}
        extra = s.get("additionalProperties")
        if extra not in (None, False) and r.random() < 0.5:
            d["extra"] = 7 if extra is True else document(r, extra, root, depth + 1)
        return d
    first = s.get("prefixItems", [])
    n = r.randint(s.get("minItems", 0), s.get("maxItems", 4))
    if "items" not in s:
        n = min(n, max(len(first), s.get("minItems", 0))) if first else n
    return [document(r, first[i] if i < len(first) else s.get("items", {}), root, depth + 1) for i in range(n)]


def spoil(r, d):
    if isinstance(d, dict) and d:
        k = r.choice(list(d))
        return {**d, k: spoil(r, d[k])} if r.random() < 0.7 else {x: v for x, v in d.items() if x != k}
    if isinstance(d, list) and d and r.random() < 0.7:
        return [spoil(r, x) if r.random() < 0.5 else x for x in d]
    return r.choice([None, True, "spoilt", -10**7, 3.25, [], {}, [d]])


def run(jsonschema, r, n):
    refused = written = dead = 0
    for case in range(n):
        defs = {k: schema(r, 2, ["a", "b"]) for k in ("a", "b")}
        s = schema(r, 3, list(defs))
        s = dict(s, **{"$defs": defs})
        text = json.dumps(s, ensure_ascii=r.random() < 0.5)
        out = subprocess.run([TOOL, "write", "20", str(case)], input=text.encode(), stdout=subprocess.PIPE)
        if out.returncode:
            check(False, "%s: ends with %d" % (text, out.returncode))
            continue
        lines = out.stdout.decode().split("\n")[:-1]
        valid = jsonschema.Draft202012Validator(s, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        if lines[:1] and lines[0].startswith("refused"):
            refused += 1
            continue
        for line in lines:
            if line.startswith(("long", "dead")):
                dead += line.startswith("dead")
                continue
            raw = bytes.fromhex(line)
            try:
                d = json.loads(raw)
                ok = valid.is_valid(d)
            except (ValueError, RecursionError):
                ok = False
            written += 1
            check(ok, "%s: wrote %r" % (text, raw))
        docs, want = [], []
        for _ in range(10):
            try:
                d = document(r, s, s)
            except (KeyError, RecursionError):
                continue
            if valid.is_valid(d):
                docs.append(json.dumps(d, ensure_ascii=False, separators=r.choice([(",", ":"), (", ", ": ")])) if "const" not in text and "enum" not in text
                            else json.dumps(d, ensure_ascii=False, separators=(",", ":")))
                want.append("yes")
            bad = spoil(r, d)
            if not valid.is_valid(bad):
                docs.append(json.dumps(bad, ensure_ascii=False, separators=(",", ":")))
                want.append("no")
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            f.write(text)
            f.flush()
            out = subprocess.run([TOOL, "accept", f.name], input="".join(x + "\n" for x in docs).encode(), stdout=subprocess.PIPE)
        got = out.stdout.decode().split()
        for d, w, g in zip(docs, want, got + ["?"] * len(want)):
            check(w == g, "%s: %s: %s, not %s" % (text, d, g, w))
    check(refused < n // 2, "%d of %d schemas refused" % (refused, n))
    check(written > n, "only %d texts" % written)
    print("peer_json_schema: %d schemas, %d refused, %d texts written, %d dead ends" % (n, refused, written, dead))


def main():
    global skipped
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--n", type=int, default=2000 if LONG else 150)
    a = p.parse_args()
    start = time.time()
    try:
        import jsonschema
    except ImportError:
        jsonschema = None
    if not jsonschema or not TOOL:
        skipped = 1
        print("skip: peer_json_schema: no package jsonschema" if TOOL else "skip: peer_json_schema: no SCHEMA")
    else:
        run(jsonschema, random.Random(a.seed), a.n)
    if os.environ.get("NOSKIP"):
        globals().update(failed=failed + skipped, skipped=0)
    print("peer_json_schema: %d passed, %d failed, %d skipped [cost: slow] %.1f s" % (passed, failed, skipped, time.time() - start))
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
