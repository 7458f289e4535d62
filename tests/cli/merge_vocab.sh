#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# merge_vocab.sh: merges of models with different tokens: rows, tokenizer files, config, chat templates, refusals.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

for m in a b; do
    make_model gguf llama "$W/made-$m" "seed=$(printf %d "'$m")"
    ok "$m" "$LBRX" convert "$W/made-$m/model.gguf" -o "$W/$m" --to hf
done
cp "$W/made-b/model.gguf" "$W/b.gguf"
cd "$W" || exit 1

# A copy with tokens added, rows of its own for them (1.0, 2.0...) and some of no token at the end; and what looks at one.
cat >tool.py <<'END'
import json, os, shutil, struct, sys

def load(d):
    f = open(d + "/model.safetensors", "rb")
    h = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    data = f.read()
    h.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[v["data_offsets"][0]:v["data_offsets"][1]]) for k, v in h.items()}

def save(d, tensors):
    h, at = {}, 0
    for k, (t, s, b) in tensors.items():
        h[k] = {"dtype": t, "shape": s, "data_offsets": [at, at + len(b)]}
        at += len(b)
    text = json.dumps(h).encode()
    with open(d + "/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(b for _, _, b in tensors.values()))

def tokens(d):
    t = json.load(open(d + "/tokenizer.json"))
    v = t["model"]["vocab"]
    v = dict(v) if isinstance(v, dict) else {x[0]: i for i, x in enumerate(v)}
    v.update({x["content"]: x["id"] for x in t["added_tokens"]})
    return v, t

def vary(src, dst, pad, names):
    shutil.copytree(src, dst)
    os.remove(dst + "/model.safetensors.index.json")
    v, t = tokens(dst)
    at = {name: max(v.values()) + 1 + i for i, name in enumerate(names)}
    for name, i in at.items():
        t["added_tokens"].append({"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
                                  "normalized": False, "special": True})
    json.dump(t, open(dst + "/tokenizer.json", "w"))
    tensors = load(src)
    c = json.load(open(dst + "/config.json"))
    for k, (ty, s, b) in tensors.items():
        if s[0] == c["vocab_size"] and len(s) == 2:
            row = lambda x: struct.pack("<f", x)[4 - len(b) // (s[0] * s[1]):] * s[1]
            new = b"".join(row(1.0 + i) for i in range(len(names))) + b"\0" * (pad * s[1] * len(b) // (s[0] * s[1]))
            tensors[k] = (ty, [s[0] + len(names) + pad, s[1]], b + new)
    c["vocab_size"] += len(names) + pad
    json.dump(c, open(dst + "/config.json", "w"))
    save(dst, tensors)

def rows(d, name="model.embed_tokens.weight"):
    ty, s, b = load(d)[name]
    n = len(b) // s[0]
    assert ty in ("F32", "BF16", "F16"), ty
    def value(x):
        return struct.unpack("<f", x if ty == "F32" else b"\0\0" + x)[0]
    size = len(b) // (s[0] * s[1])
    return [[value(b[i * n + j * size:i * n + (j + 1) * size]) for j in range(s[1])] for i in range(s[0])]

if __name__ == "__main__":
    vary(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
END
python3 tool.py a x 5 "<x>" "<both>" && python3 tool.py b y 0 "<both>" "<y>" && python3 tool.py a z 0 "<z>" || fail "models" "not made"
file() { # NAME MORE: linear merges of a and y, half and half
    printf 'merge_method: linear\nmodels:\n' >"$1.yml"
    for i in $2; do printf '  - {model: %s, parameters: {weight: 1}}\n' "$i" >>"$1.yml"; done
    printf '%s\n' "$3" >>"$1.yml"
}
says_python() { # NAME: a script from stdin that fails where something is wrong
    if python3 - >out.txt 2>&1; then pass; else fail "$1" "$(cat out.txt)"; fi
}

# ---- union: tokens of all, each row of whoever has one ----
file union "x y" "tokenizer_source: union"
ok "union" "$LBRX" merge union.yml -o u
if grep -q "1 tokens added: 323 tokens in 323 rows" "$W/err" && grep -q "left out: 4 rows" "$W/err"; then pass; else fail "union" "not said: $(cat "$W/err")"; fi
says_python "union: rows" <<'END'
import json
from tool import *
v, t = tokens("u")
assert [v[k] for k in ("<x>", "<both>", "<y>")] == [320, 321, 322], v
c = json.load(open("u/config.json"))
assert c["vocab_size"] == 323
for name in ("model.embed_tokens.weight", "lm_head.weight"):
    r, x, y = rows("u", name), rows("x", name), rows("y", name)
    assert len(r) == 323
    assert r[320] == x[320] == [1.0] * len(x[0])              # only in the first: not halved
    assert r[322] == y[321] == [2.0] * len(x[0])
    assert r[321] == [(2.0 + 1.0) / 2] * len(x[0])            # other rows in each
    for i in range(320):
        assert all(abs(p - (q + s) / 2) <= abs(p) * 0.01 + 1e-6 for p, q, s in zip(r[i], x[i], y[i])), i
END
ok "union: whole" "$LBRX" verify u
file f32 "x y" "tokenizer_source: union
dtype: float32"
ok "union: in f32" "$LBRX" merge f32.yml -o u32
ok "union: on to gguf" "$LBRX" merge f32.yml -o one.gguf --no-provenance
ok "union: in two steps" "$LBRX" convert u32 -o two.gguf --no-provenance
ok "union: one pass is two" "$LBRX" diff one.gguf two.gguf
ok "union: back" "$LBRX" convert one.gguf -o back --to hf
says_python "union: tokens of the gguf" <<'END'
from tool import *
assert tokens("back")[0] == tokens("u")[0]
END
ok "union: one thread" "$LBRX" merge union.yml -o u1 -t 1 --memory 64MB
if cmp -s u/model.safetensors u1/model.safetensors; then pass; else fail "union" "threads and budget are seen"; fi
ok "mlx" "$LBRX" merge union.yml -o um --to mlx --type mlx-q4
ok "convert y" "$LBRX" convert y -o y.gguf
file gguf "x y.gguf" "tokenizer_source: union"
ok "union with a gguf" "$LBRX" merge gguf.yml -o ug
ok "union with a gguf: the same" "$LBRX" diff u ug

ok "convert y to mlx-q8" "$LBRX" quantize y -o yq --to mlx --type mlx-q8
ok "convert y to q8_0" "$LBRX" quantize y.gguf -o yq.gguf --type q8_0
for q in yq yq.gguf; do
    file quantized "x $q" "tokenizer_source: union"
    ok "union with $q" "$LBRX" merge quantized.yml -o uq --force
    says_python "union with $q" <<'END'
from tool import *
assert tokens("uq")[0] == tokens("u")[0]
for a, b in zip(rows("uq"), rows("u")):
    assert all(abs(p - q) < 0.02 for p, q in zip(a, b)), (a[:4], b[:4])
END
done
cp -r y spm && rm spm/tokenizer.json
file spm "spm x" "tokenizer_source: union"
ok "a tokenizer.model alone" "$LBRX" merge spm.yml -o sp
if grep -q "left out: tokenizer.model" "$W/err" && [ ! -e sp/tokenizer.model ]; then pass; else fail "a tokenizer.model alone" "not said"; fi
says_python "a tokenizer.model alone" <<'END'
from tool import *
v = tokens("sp")[0]
assert v["<x>"] == 320 and v["<both>"] == 321 and len(v) == 322, v
assert rows("sp")[320] == [1.0] * len(rows("sp")[0])
END
for m in x y; do
    cp -r $m un-$m
    sed 's/LlamaForCausalLM/NobodyForCausalLM/; s/"llama"/"nobody"/' $m/config.json >un-$m/config.json
done
file unknown "un-x un-y" "tokenizer_source: union"
ok "a family that nobody knows" "$LBRX" merge unknown.yml -o un
says_python "a family that nobody knows" <<'END'
from tool import *
assert rows("un") == rows("u") and rows("un", "lm_head.weight") == rows("u", "lm_head.weight")
END
cat >twice.yml <<'END'
name: one
merge_method: linear
tokenizer_source: union
models: [{model: x, parameters: {weight: 1}}, {model: y, parameters: {weight: 1}}]
---
merge_method: linear
tokenizer_source: union
models: [{model: one, parameters: {weight: 1}}, {model: z, parameters: {weight: 1}}]
END
ok "a merge of a merge" "$LBRX" merge twice.yml -o tw
says_python "a merge of a merge" <<'END'
from tool import *
v, r = tokens("tw")[0], rows("tw")
assert [r[v[t]][0] for t in ("<x>", "<both>", "<y>", "<z>")] == [1.0, 1.5, 2.0, 1.0]
END

# ---- padding, settings of tokens, another model's tokenizer ----
file pad "x y" "tokenizer: {source: base, pad_to_multiple_of: 64}"
ok "padding" "$LBRX" merge pad.yml -o p
says_python "padding" <<'END'
import json
from tool import *
r = rows("p")
assert len(r) == 384 and json.load(open("p/config.json"))["vocab_size"] == 384
n = 322
for j in range(len(r[0])):
    mean = sum(r[i][j] for i in range(n)) / n
    assert all(abs(r[i][j] - mean) < 1e-3 for i in range(n, 384)), j
END
cat >set.yml <<'END'
merge_method: task_arithmetic
base_model: a
models:
  - {model: y, parameters: {weight: 1}}
tokenizer:
  source: base
  tokens:
    "<new>": {source: {kind: model_token, model: y, token: "<y>"}}
    "<row>": {source: {kind: model_token, model: y, token_id: 320}}
    "<0>": {source: {kind: zero}}
    "<both>": {source: y}
END
ok "settings" "$LBRX" merge set.yml -o st
says_python "settings" <<'END'
from tool import *
v, t = tokens("st")
r = rows("st")
assert len(r) == 324
assert r[v["<new>"]] == [2.0] * len(r[0]) and r[v["<row>"]] == [1.0] * len(r[0])
assert r[v["<0>"]] == [0.0] * len(r[0]) and r[v["<both>"]] == [1.0] * len(r[0])
END
sed 's/token: "<y>"/token: "<no>"/' set.yml >no.yml
cp y/config.json keep.json
rm -f y/generation_config.json
python3 - <<'END'
import json
for d, ids in (("a", (1, 2)), ("y", (5, [6, 7]))):
    c = json.load(open(d + "/config.json"))
    c.update(bos_token_id=ids[0], eos_token_id=ids[1])
    json.dump(c, open(d + "/config.json", "w"))
json.dump({"eos_token_id": 2, "temperature": 0.5}, open("a/generation_config.json", "w"))
END
file model "a b" "tokenizer_source: y"
ok "the tokenizer of a third" "$LBRX" merge model.yml -o t
says_python "the tokenizer of a third" <<'END'
import json
from tool import *
assert tokens("t")[0] == tokens("y")[0] and len(rows("t")) == 322
c = json.load(open("t/config.json"))
assert c["bos_token_id"] == 5 and c["eos_token_id"] == [6, 7] and c["vocab_size"] == 322, c
assert json.load(open("t/generation_config.json")) == {"eos_token_id": [6, 7], "temperature": 0.5}
assert rows("t")[321] == [0.0] * len(rows("t")[0])
END
cp keep.json y/config.json
file gmodel "a b" "tokenizer_source: y.gguf"
ok "the tokenizer of a gguf" "$LBRX" merge gmodel.yml -o tg
says_python "the tokenizer of a gguf" <<'END'
import json
from tool import *
assert tokens("tg")[0] == tokens("y")[0] and len(rows("tg")) == 322
c = json.load(open("tg/config.json"))
assert c["bos_token_id"] == 1 and c["eos_token_id"] == 2, c
END

# ---- files beside tokenizer.json ----
echo stale >x/tokenizer.model
echo '{"added_tokens_decoder": {}, "eos_token": "<x>"}' >x/tokenizer_config.json
echo '{"<x>": 320}' >x/added_tokens.json
ok "files" "$LBRX" merge union.yml -o f
if grep -q "left out: tokenizer.model" "$W/err"; then pass; else fail "files" "not said"; fi
says_python "files" <<'END'
import json, os
assert not os.path.exists("f/tokenizer.model")
t = json.load(open("f/tokenizer_config.json"))
assert t["added_tokens_decoder"]["322"]["content"] == "<y>" and t["eos_token"] == "<x>", t
assert json.load(open("f/added_tokens.json"))["<y>"] == 322
END
file base "x a" "tokenizer_source: base"
ok "nothing new" "$LBRX" merge base.yml -o nothing
if cmp -s x/tokenizer.model nothing/tokenizer.model && cmp -s x/tokenizer.json nothing/tokenizer.json; then pass; else fail "nothing new" "other files"; fi

# ---- tied embeddings, and one of its own ----
python3 - <<'END'
import json
from tool import *
import shutil
import os
shutil.copytree("a", "tied")
os.remove("tied/model.safetensors.index.json")
t = load("tied")
t.pop("lm_head.weight")
save("tied", t)
c = json.load(open("tied/config.json"))
c["tie_word_embeddings"] = True
json.dump(c, open("tied/config.json", "w"))
END
file tied "tied y" "tokenizer_source: union"
ok "tied and not" "$LBRX" merge tied.yml -o ti
file both "tied tied2" "tokenizer_source: union"
cp -r tied tied2
ok "tied twice" "$LBRX" merge both.yml -o ti2
says_python "tied" <<'END'
import json
from tool import *
assert json.load(open("ti/config.json"))["tie_word_embeddings"] is False
assert rows("ti", "lm_head.weight")[321] == [2.0] * len(rows("ti")[0])
assert json.load(open("ti2/config.json"))["tie_word_embeddings"] is True and "lm_head.weight" not in load("ti2")
END

# ---- chat templates ----
printf '{{ "%%s of the first, long enough" }}' >tpl
cp tpl x/chat_template.jinja
file named "a b" "chat_template: chatml"
ok "a template by name" "$LBRX" merge named.yml -o c1
if grep -q im_start c1/chat_template.jinja; then pass; else fail "a template by name" "not there"; fi
file auto "x y z" "chat_template: auto
tokenizer_source: union"
printf ' {{ "of the most" }}\n' >y/chat_template.jinja
printf '{"chat_template": [{"name": "default", "template": "{{ \\"of the most\\" }}"}, {"name": "rag", "template": "r"}]}' >z/tokenizer_config.json
ok "the most common template" "$LBRX" merge auto.yml -o c2
if [ "$(cat c2/chat_template.jinja)" = '{{ "of the most" }}' ]; then pass; else fail "the most common template" "$(cat c2/chat_template.jinja)"; fi
ok "template of a gguf" "$LBRX" merge auto.yml -o c2.gguf
ok "template of a gguf" "$LBRX" inspect c2.gguf --metadata
says "template of a gguf" "of the most"

# ---- refusals: one line, nothing written ----
refuses() { # CODE NAME FILE TEXT
    exits "$1" "$2" "$LBRX" merge "$3" -o none
    complains "$2" "$4"
    if [ -e none ] || [ -e none.lbrx-partial ]; then fail "$2" "something was written"; fi
}
file other "x y" ""
refuses 3 "other vocabularies" other.yml "(tokenizer_source: union or base)"
refuses 3 "no such token" no.yml "line 8: tokens: '<new>'"
sed 's/token_id: 320/token_id: 322/' set.yml >id.yml
refuses 3 "no such row" id.yml "'<row>'"
file unoin "x y" "tokenizer_source: unoin"
refuses 3 "no such source" unoin.yml "tokenizer_source (did you mean union?)"
file nobody "x y" "tokenizer: {tokens: {'<q>': {source: z}}}"
refuses 3 "no input" nobody.yml "line 5: tokenizer.tokens.<q>: model z"
file tname "a b" "chat_template: chatlm"
refuses 3 "no such template" tname.yml "did you mean chatml"
rm a/tokenizer.json a/tokenizer.model
file none "a b" "tokenizer_source: union"
refuses 3 "no tokenizer" none.yml "tokenizer of 'a'"
finish
