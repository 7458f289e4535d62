#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# report.sh: the page of `lbrx report`: what is on it, what it refuses, and that nothing that a file
# says can leave its place. Parts of it: tests/unit/test_report.c.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

# holds NAME FILE TEXT, lacks NAME FILE TEXT
holds() {
    if grep -qF -e "$3" "$2"; then pass; else fail "$1" "$2 does not hold '$3'"; fi
}

lacks() {
    if grep -qF -e "$3" "$2"; then fail "$1" "$2 holds '$3'"; else pass; fi
}

# The page as a browser meets it: well-formed, nothing that fetches or runs beside the one script and
# style that its policy names by hash, links within itself, plots with title, description and finite
# figures, tables without holes.
cat >"$W/check.py" <<'PY'
import base64, hashlib, sys
import xml.etree.ElementTree as tree
text = open(sys.argv[1], encoding="utf-8").read()
assert text.startswith("<!DOCTYPE html>\n") and text.endswith("</html>\n")
root = tree.fromstring(text.split("\n", 1)[1])
ns = "{http://www.w3.org/1999/xhtml}"
known = set("html head meta title style body header h1 h2 h3 nav ul li a main section div dl dt dd details "
            "summary figure figcaption table caption thead tbody tr th td p b span svg desc g rect text line "
            "path circle footer script".split())
ids = [e.get("id") for e in root.iter() if e.get("id")]
assert len(ids) == len(set(ids)), "ids"
for e in root.iter():
    assert e.tag.replace(ns, "") in known, e.tag
    for k, v in e.attrib.items():
        assert not k.startswith("on") and k not in ("style", "src", "action"), k
        assert k != "href" or v[0] == "#" and v[1:] in ids, v
    for k in "x", "y", "width", "height", "cx", "cy", "r", "x1", "x2", "y1", "y2":
        if e.tag != ns + "meta" and e.get(k):
            assert abs(float(e.get(k))) < 1e5, e.attrib
    assert not any(w in e.get("d", "") for w in ("nan", "inf")), e.attrib
(policy,) = [m.get("content") for m in root.iter(ns + "meta") if m.get("http-equiv")]
assert policy.startswith("default-src 'none';"), policy
for tag in "style", "script":
    (body,) = [e.text for e in root.iter(ns + tag)]
    digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
    assert "%s-src 'sha256-%s'" % (tag, digest) in policy, tag
    assert "url(" not in body and "@import" not in body and "//" not in body, tag
for svg in root.iter(ns + "svg"):
    if svg.get("aria-hidden") != "true":
        assert svg.get("role") == "img" and svg.find(ns + "title").text and svg.find(ns + "desc").text
for table in root.iter(ns + "table"):
    n = len(table.find(ns + "thead").find(ns + "tr"))
    assert n and table.find(ns + "caption").text
    for row in table.find(ns + "tbody"):
        assert len(row) == n, "cells"
PY

page() {
    if [ "$(grep -o '<script' "$2" | wc -l)" = 1 ]; then pass; else fail "$1" "not one script"; fi
    if command -v python3 >/dev/null 2>&1; then
        ok "$1: the page" python3 "$W/check.py" "$2"
    else
        skip "$1: the page" "no python3"
    fi
}

# ---- what is on it ----
make_model hf qwen2 "$W/hf"
make_model gguf qwen2 "$W/q8" dtype=q8_0
make_model gguf qwen2 "$W/q4" dtype=q4_0
ok "one model" "$LBRX" report "$W/hf" -o "$W/one.html"
says "one model" "one.html: "
page "one model" "$W/one.html"
holds "head" "$W/one.html" "<dt>architecture</dt><dd>qwen2</dd>"
holds "head" "$W/one.html" "<dt>format</dt><dd>hf</dd>"
lacks "no errors" "$W/one.html" 'id="errors"'
ok "three models" "$LBRX" report "$W/hf" "$W/q8/model.gguf" "$W/q4/model.gguf" -o "$W/three.html" --json
cp "$W/out" "$W/three.json"
page "three models" "$W/three.html"
for word in 'id="types"' 'id="layers"' 'id="map"' 'id="errors"' 'id="hist"' 'relative error to A' 'q4_0' \
    'Error map' 'prefers-color-scheme:dark' '@media print' 'equally spaced'; do
    holds "three models" "$W/three.html" "$word"
done
[ ! -e "$W/three.html.lbrx-partial" ] && [ ! -e "$W/three.html.lbrx-journal" ] && pass ||
    fail "three models" "something is left beside the page"

# Figures are those of inspect and diff.
if command -v python3 >/dev/null 2>&1; then
    ok inspect "$LBRX" inspect "$W/q4/model.gguf" --json
    cp "$W/out" "$W/inspect.json"
    exits 5 diff "$LBRX" diff "$W/hf" "$W/q4/model.gguf" --json
    cp "$W/out" "$W/diff.json"
    ok "the same figures" python3 -c 'import json, math, sys
report, inspect, diff = (json.load(open(p)) for p in sys.argv[1:4])
m = report["models"][2]
for k in "parameters", "bytes", "bpw", "format", "architecture":
    assert m[k] == inspect[k], k
assert sum(t["bytes"] for t in m["types"]) == m["bytes"] == sum(t["bytes"] for t in m["tensors"])
assert sum(t["parameters"] for t in m["types"]) == m["parameters"]
rows = {t["name"]: t for t in diff["tensors"]}
assert len(m["errors"]["tensors"]) == len(rows)
for t in m["errors"]["tensors"]:
    for k in "rel", "rmse", "cosine", "max_abs":
        assert t[k] == rows[t["name"]][k], t
for k in "rel", "rmse", "cosine", "max_abs":
    assert m["errors"]["total"][k] == diff["total"][k], k
assert report["models"][0]["errors"] is None
for t in m["types"]:
    h = t["histogram"]
    if "codes" in h:
        assert sum(h["codes"]) == h["sampled"] == t["parameters"], t["type"] # small: all of it
        assert sum(n for e, n in h["scales"]["half_octaves"]) + h["scales"]["zero"] == h["sampled"] // 32
    else:
        n = sum(n for side in ("above", "below") for e, n in h[side]["half_octaves"])
        assert n + h["above"]["zero"] + h["below"]["zero"] == h["sampled"] == t["parameters"], t["type"]
layers = {t["layer"] for t in m["tensors"]}
assert layers == {None, 0, 1}, layers' "$W/three.json" "$W/inspect.json" "$W/diff.json"
fi

# ---- codes of other tools: all are counted, and of GPTQ, AWQ and packed ones each as often as it is stored ----
if command -v python3 >/dev/null 2>&1; then
    for folder in "$GOLDEN"/foreign/*/; do
        kind=$(basename "$folder")
        ok "$kind" "$LBRX" report "$folder" -o "$W/foreign.html" --force --json
        cp "$W/out" "$W/foreign.json"
        ok "$kind: codes" python3 -c 'import collections, json, struct, sys
def read(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + n])
    head.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in head.items()}
def codes(words, bits, n):
    x = int.from_bytes(b"".join(words), "little")
    return [x >> bits * i & (1 << bits) - 1 for i in range(n)]
folder, report = sys.argv[1], json.load(open(sys.argv[2]))
stored, expect = read(folder + "/model.safetensors"), read(folder + "/expect/model.safetensors")
want, got = collections.Counter(), collections.Counter()
for name, (_, shape, _) in expect.items():
    base = name[:-7]
    q, p = stored.get(base + ".qweight"), stored.get(base + ".weight_packed")
    if q and "awq" in folder:
        bits, n = 4, len(q[2]) * 2
        want.update((bits, c) for c in codes([q[2]], bits, n))
    elif q:
        rows, cols = q[1]
        n = shape[0] * shape[1] // cols
        bits = rows * 32 // n
        for c in range(cols):
            column = [q[2][4 * (r * cols + c):][:4] for r in range(rows)]
            want.update((bits, x) for x in codes(column, bits, n))
    elif p and p[0] == "I32":
        rows, words = p[1]
        (bits,) = [b for b in (2, 3, 4, 5, 8) if -(-shape[-1] * b // 32) == words]
        for r in range(rows):
            want.update((bits, x) for x in codes([p[2][4 * r * words:][:4 * words]], bits, shape[-1]))
for t in report["models"][0]["types"]:
    h = t["histogram"]
    if h and "codes" in h:
        assert sum(h["codes"]) == h["sampled"] == t["parameters"], t["type"]
        if t["type"][0] in "wga":
            bits = len(h["codes"]).bit_length() - 1
            got.update({(bits, i): n for i, n in enumerate(h["codes"]) if n})
assert got == want, folder
assert want or not any(k.endswith((".qweight", ".weight_packed")) and v[0] == "I32" for k, v in stored.items())
' "${folder%/}" "$W/foreign.json"
    done
fi

# ---- the same page for any number of threads, budget, set of instructions ----
for how in "-t 1" "-t 3" "--memory 64MB" "--no-sync -q --progress none"; do
    # shellcheck disable=SC2086
    ok "again $how" "$LBRX" report "$W/hf" "$W/q8/model.gguf" "$W/q4/model.gguf" -o "$W/again.html" --force $how
    same "again $how" "$W/three.html" "$W/again.html"
done
ok "reference kernels" env LBRX_CPU=ref "$LBRX" report "$W/hf" "$W/q8/model.gguf" "$W/q4/model.gguf" \
    -o "$W/again.html" --force
same "reference kernels" "$W/three.html" "$W/again.html"

# ---- the budget is a limit of the process ----
if [ "$(memory_is_limited)" = yes ]; then
    # shellcheck disable=SC2016 # expanded by the inner shell
    ok "the budget" sh -c 'ulimit -d $((40 * 1024)); exec "$LBRX" report "$@" --memory 32MiB' sh \
        "$W/hf" "$W/q8/model.gguf" "$W/q4/model.gguf" -o "$W/again.html" --force
    same "the budget" "$W/three.html" "$W/again.html"
else
    skip "the budget" "a sanitizer, or a system without RLIMIT_DATA"
fi

# ---- refusals ----
exits 2 "no model" "$LBRX" report -o "$W/x.html"
exits 2 "no output" "$LBRX" report "$W/hf"
exits 2 "standard output" "$LBRX" report "$W/hf" -o -
exits 2 "it exists" "$LBRX" report "$W/hf" -o "$W/one.html"
complains "it exists" "--force"
exits 2 "an input" "$LBRX" report "$W/q8/model.gguf" -o "$W/q8/model.gguf" --force
complains "an input" "is, contains or lies inside the input"
exits 2 "inside an input" "$LBRX" report "$W/hf" -o "$W/hf/report.html"
ln -s "$W/q8/model.gguf" "$W/link.html"
exits 2 "a link to an input" "$LBRX" report "$W/q8/model.gguf" -o "$W/link.html" --force
mkdir "$W/folder"
exits 2 "a folder" "$LBRX" report "$W/hf" -o "$W/folder" --force
exits 1 "no folder" "$LBRX" report "$W/hf" -o "$W/absent/x.html"
exits 3 "absent" "$LBRX" report "$W/absent" -o "$W/x.html"
exits 4 "no memory" "$LBRX" report "$W/hf" -o "$W/x.html" --memory 1kB
[ ! -e "$W/x.html" ] && pass || fail "refusals" "a page was written"
ok "replaced" "$LBRX" report "$W/hf" -o "$W/one.html" --force
# Too many models; and as many as there may be.
set --
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do set -- "$@" "$W/q4/model.gguf"; done
ok "sixteen models" "$LBRX" report "$@" -o "$W/many.html"
page "sixteen models" "$W/many.html"
exits 2 "seventeen" "$LBRX" report "$@" "$W/hf" -o "$W/x.html"

# ---- models that cannot be compared are shown without errors ----
safetensors "$W/a.safetensors" '{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' '\000\000\200\077\000\000\000\100'
ok "nothing in common" "$LBRX" report "$W/hf" "$W/a.safetensors" -o "$W/apart.html"
page "nothing in common" "$W/apart.html"
holds "nothing in common" "$W/apart.html" "Not compared: no tensor of the first model"
safetensors "$W/c.safetensors" '{"x":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}' '\000\000\200\077\000\000\000\100'
ok "complex and real" "$LBRX" report "$W/a.safetensors" "$W/c.safetensors" -o "$W/complex.html"
page "complex and real" "$W/complex.html"
holds "complex and real" "$W/complex.html" "complex values are not compared"
# NaN, infinities, zeros, subnormals; an empty tensor; integers; no tensor at all.
safetensors "$W/odd.safetensors" '{"x":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},"e":{"dtype":"F32","shape":[0],"data_offsets":[24,24]},"i":{"dtype":"I32","shape":[1],"data_offsets":[24,28]}}' \
    '\000\000\300\177\000\000\200\377\000\000\000\000\001\000\000\000\000\000\200\077\000\000\000\200\007\000\000\000'
safetensors "$W/even.safetensors" '{"x":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},"e":{"dtype":"F32","shape":[0],"data_offsets":[24,24]},"i":{"dtype":"I32","shape":[1],"data_offsets":[24,28]}}' \
    '\000\000\200\077\000\000\000\000\000\000\000\000\001\000\000\000\000\000\200\077\000\000\000\200\007\000\000\000'
ok "odd values" "$LBRX" report "$W/odd.safetensors" "$W/even.safetensors" -o "$W/odd.html"
page "odd values" "$W/odd.html"
holds "odd values" "$W/odd.html" "2 NaN or infinite"
safetensors "$W/none.safetensors" '{"__metadata__":{"format":"pt","lbrx.operation":"</dd><script>x</script>"}}' ''
ok "no tensor" "$LBRX" report "$W/none.safetensors" "$W/none.safetensors" -o "$W/none.html"
page "no tensor" "$W/none.html"
holds "provenance" "$W/none.html" "&lt;/dd&gt;&lt;script&gt;x&lt;/script&gt;"

# ---- hostile names ----
# shellcheck disable=SC2016
bad='</title></svg><script>alert(1)</script><img src=x onerror=alert(2)>.0.\"x\" \u0027y\u0027 &amp; `z` ]]>\u202e\u0000\u001b[2J'
safetensors "$W/bad.safetensors" '{"'"$bad"'":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' '\000\000\200\077\000\000\000\100'
cp "$W/bad.safetensors" "$W/<b>&\"'.safetensors"
ok "hostile names" "$LBRX" report "$W/bad.safetensors" "$W/<b>&\"'.safetensors" -o "$W/bad.html" --json
cp "$W/out" "$W/bad.json"
page "hostile names" "$W/bad.html"
lacks "hostile names" "$W/bad.html" "<script>alert"
lacks "hostile names" "$W/bad.html" "<img"
holds "hostile names" "$W/bad.html" "&lt;script&gt;alert(1)&lt;/script&gt;"
holds "hostile names" "$W/bad.html" '\u202e\x00\x1b[2J'
if command -v python3 >/dev/null 2>&1; then
    ok "hostile names: JSON" python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$W/bad.json"
fi

# ---- very many tensors: the page stays small, and says what shares a place ----
if command -v python3 >/dev/null 2>&1; then
    ok "many tensors" python3 -c 'import json, struct, sys
head = {}
n = 0
for layer in range(1000):
    for role in range(100):
        head["deep.%d.role%d.weight" % (layer, role)] = {"dtype": "F32", "shape": [1], "data_offsets": [n, n + 4]}
        n += 4
text = json.dumps(head).encode()
for seed in 0, 1:
    with open(sys.argv[1 + seed], "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.write(b"".join(struct.pack("<f", i % 7 + 1 + seed * (i % 3)) for i in range(n // 4)))
' "$W/many1.safetensors" "$W/many2.safetensors"
    ok "many tensors" "$LBRX" report "$W/many1.safetensors" "$W/many2.safetensors" -o "$W/many.html" --force
    page "many tensors" "$W/many.html"
    size=$(wc -c <"$W/many.html")
    if [ "$size" -lt 12000000 ]; then pass; else fail "many tensors" "$size bytes"; fi
    holds "many tensors" "$W/many.html" "share a column"
    holds "many tensors" "$W/many.html" "smallest roles share the last row"
    holds "many tensors" "$W/many.html" "tensors with smaller errors are not listed here"
    holds "many tensors" "$W/many.html" "the worst of each role and column is drawn"
fi
finish
