#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lora_extract.sh: differences of models as adapters: back to the model they are of, forms of the inputs and of the
# result, same bytes in every budget, ranks, what is saved whole, what is refused.
# The values against numpy, peft, mlx-lm and mergekit-extract-lora: tests/peers/peer_lora_extract.py.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

make_model gguf llama "$W/made" seed=7
ok "base" "$LBRX" convert "$W/made/model.gguf" -o "$W/base" --to hf --dtype f32
cd "$W" || exit 1
# tuned.py FOLDER RANK [norm]: base and a difference of that rank in each matrix of a layer; a norm
cat >tuned.py <<'END'
import json, os, random, shutil, struct, sys
folder, rank, more = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
r = random.Random(folder)
raw = open("base/model.safetensors", "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head = json.loads(raw[8:8 + n])
out = bytearray(raw)
for name, h in sorted(head.items()):
    if name == "__metadata__":
        continue
    at, end = (8 + n + x for x in h["data_offsets"])
    x = list(struct.unpack("<%df" % ((end - at) // 4), raw[at:end]))
    if len(h["shape"]) == 2 and ".layers." in name and "nothing" not in more:
        m, k = h["shape"]
        for _ in range(rank):
            u, v = [r.gauss(0, 0.1) for _ in range(m)], [r.gauss(0, 0.1) for _ in range(k)]
            for i in range(m):
                for j in range(k):
                    x[i * k + j] += u[i] * v[j]
    if len(h["shape"]) == 1 and "norm" in more and "layers.0.input_layernorm" in name:
        x = [v + 0.5 for v in x]
    if "embed" in more and "embed_tokens" in name:
        x[5] += 1
    if "nan" in more and name.endswith("layers.1.mlp.up_proj.weight"):
        x[3] = float("nan")
    out[at:end] = struct.pack("<%df" % len(x), *x)
shutil.copytree("base", folder)
open(folder + "/model.safetensors", "wb").write(out)
END
# near.py A B LIMIT: the largest difference of values
cat >near.py <<'END'
import json, struct, sys
def read(folder):
    raw = open(folder + "/model.safetensors", "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    return {k: struct.unpack("<%df" % ((h["data_offsets"][1] - h["data_offsets"][0]) // 4),
                             raw[8 + n + h["data_offsets"][0]:8 + n + h["data_offsets"][1]])
            for k, h in json.loads(raw[8:8 + n]).items() if k != "__metadata__"}
a, b = read(sys.argv[1]), read(sys.argv[2])
assert set(a) == set(b)
off = max(abs(x - y) for k in a for x, y in zip(a[k], b[k]))
print(off)
sys.exit(not off <= float(sys.argv[3]))
END
near() { # NAME A B LIMIT
    if python3 near.py "$2" "$3" "$4" >out 2>err; then pass; else fail "$1" "off by $(cat out)"; fi
}
python3 tuned.py tuned 3
python3 tuned.py normed 3 norm
python3 tuned.py embedded 3 embed
X="lora extract base tuned"
F="--to hf --dtype f32"

# ---- and back ----
ok "extract" "$LBRX" $X -o a --rank 3
[ -f a/adapter_model.safetensors ] && [ -f a/adapter_config.json ] && [ ! -e a.factors.safetensors ] && pass ||
    fail "extract" "other files"
ok "fuse" "$LBRX" lora fuse base a -o back $F
near "it is the model" tuned back 1e-5
ok "exact" "$LBRX" $X -o e --rank 3 --exact
ok "fuse exact" "$LBRX" lora fuse base e -o back-e $F
near "it is the model, exact" tuned back-e 1e-5
ok "rank 1" "$LBRX" $X -o one --rank 1
ok "fuse rank 1" "$LBRX" lora fuse base one -o back-1 $F
near "not far" tuned back-1 1
ok "all of the difference" "$LBRX" $X -o all --rank 32 --energy 0.999999
grep -q '"r": 3' all/adapter_config.json && pass || fail "energy" "not of rank 3"
ok "no roots" "$LBRX" $X -o plain --rank 3 --no-distribute-scale
ok "fuse without roots" "$LBRX" lora fuse base plain -o back-p $F
near "it is the model without roots" tuned back-p 1e-5
ok "small values left out" "$LBRX" $X -o eps --rank 16 --sv-epsilon 1e-4
grep -q '"r": 3' eps/adapter_config.json && pass || fail "sv-epsilon" "not of rank 3"

# ---- same bytes ----
for how in "--memory 24MB -t 1" "-t 3" "--memory 40MB -t 2"; do
    ok "$how" "$LBRX" $X -o again --rank 3 --force $how
    cmp -s a/adapter_model.safetensors again/adapter_model.safetensors && pass || fail "$how" "other bytes"
    ok "exact $how" "$LBRX" $X -o again --rank 3 --exact --force $how
    cmp -s e/adapter_model.safetensors again/adapter_model.safetensors && pass || fail "exact $how" "other bytes"
done
LBRX_CPU=ref ok "scalar" "$LBRX" $X -o again --rank 3 --force
cmp -s a/adapter_model.safetensors again/adapter_model.safetensors && pass || fail "scalar" "other bytes"
ok "another seed" "$LBRX" $X -o again --rank 1 --seed 5 --force
cmp -s one/adapter_model.safetensors again/adapter_model.safetensors && fail "seed" "same bytes" || pass

# ---- forms ----
ok "base to gguf" "$LBRX" convert base -o base.gguf --dtype f32
ok "tuned to gguf" "$LBRX" convert tuned -o tuned.gguf --dtype f32
ok "from gguf" "$LBRX" lora extract base.gguf tuned.gguf -o from-gguf --rank 3
ok "the same from gguf" "$LBRX" diff a from-gguf
ok "of an adapter" "$LBRX" lora extract base base+a -o again --rank 3 --force
ok "fuse that" "$LBRX" lora fuse base again -o back-a $F
near "an adapter of an adapter" tuned back-a 1e-5
ok "to mlx" "$LBRX" $X -o m --to mlx --rank 3
ok "to gguf" "$LBRX" $X -o g.gguf --rank 3
for a in m g.gguf; do
    ok "fuse $a" "$LBRX" lora fuse base $a -o "back-$a" $F
    ok "the same by $a" "$LBRX" diff back "back-$a"
done
ok "bf16" "$LBRX" $X -o b --rank 3 --dtype bf16
"$LBRX" inspect b >out 2>err && grep -qi bf16 out && pass || fail "bf16" "not"
ok "quantized base" "$LBRX" quantize base -o q.gguf --type q8_0
ok "of a quantized base" "$LBRX" lora extract q.gguf tuned -o q --rank 8
ok "nothing is written" "$LBRX" $X --to none
ok "dry run" "$LBRX" $X -o dry --dry-run
grep -q "dense(svd)" out && [ ! -e dry ] && [ ! -e dry.factors.safetensors ] && pass || fail "dry run" "not so"

# ---- whole tensors ----
ok "a norm" "$LBRX" lora extract base normed -o n --rank 3
grep -q 'model.layers.0.input_layernorm"' n/adapter_config.json && ! grep -q 'post_attention' n/adapter_config.json && pass ||
    fail "a norm" "others in modules_to_save"
ok "fuse a norm" "$LBRX" lora fuse base n -o back-n $F
near "with its norm" normed back-n 1e-5
ok "an embedding" "$LBRX" lora extract base embedded -o w --rank 3
ok "fuse an embedding" "$LBRX" lora fuse base w -o back-w $F
near "with its embedding" embedded back-w 1e-5
ok "factors of embeddings" "$LBRX" lora extract base embedded -o el --rank 3 --embed-lora
grep -q lora_embedding_A el/adapter_model.safetensors && pass || fail "factors of embeddings" "none"
ok "fuse factors of embeddings" "$LBRX" lora fuse base el -o back-l $F
near "with factors of embeddings" embedded back-l 1e-5
ok "skipped" "$LBRX" lora extract base normed -o s --rank 3 --skip-undecomposable
grep -q "left out" err && pass || fail "skipped" "not said"
ok "some modules" "$LBRX" $X -o some --rank 3 --include-regex 'q_proj$' --exclude-regex 'layers\.1\.'
grep -q "layers.0.self_attn.q_proj" some/adapter_model.safetensors && ! grep -q "k_proj\|layers.1" some/adapter_model.safetensors &&
    pass || fail "some modules" "others"
ok "saved by name" "$LBRX" $X -o kept --rank 3 --save-module k_proj
grep -q "self_attn.k_proj.weight" kept/adapter_model.safetensors && pass || fail "saved by name" "not"
ok "fuse what is saved" "$LBRX" lora fuse base kept -o back-k $F
near "with what is saved" tuned back-k 1e-5

# ---- refusals ----
python3 tuned.py nan 3 nan
python3 tuned.py same 3 nothing
refused() { # NAME SAYS ARGS...
    n=$1 says=$2
    shift 2
    exits 3 "$n" "$LBRX" lora extract "$@" -o none
    complains "$n" "$says"
    [ ! -e none ] && [ ! -e none.factors.safetensors ] && pass || fail "$n" "wrote"
}
refused "NaN" "layers.1.mlp.up_proj.weight" base nan
refused "equal" "do not differ" base same
make_model gguf llama "$W/other" seed=9 layers=3
refused "other layers" "is not in the" base other/model.gguf
exits 2 "rank 0" "$LBRX" $X -o none --rank 0
exits 2 "energy" "$LBRX" $X -o none --energy 2
exits 2 "no pattern" "$LBRX" $X -o none --include-regex '('
exits 2 "one model" "$LBRX" lora extract base -o none
finish
