#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# merge.sh: merge files end to end: inputs of every format, slices, texts of the result, refusals.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

for m in a b; do
    make_model gguf llama "$W/made-$m" "seed=$(printf %d "'$m")"
    ok "$m" "$LBRX" convert "$W/made-$m/model.gguf" -o "$W/$m" --to hf
done
cp "$W/made-b/model.gguf" "$W/b.gguf"
ok "mlx input" "$LBRX" convert "$W/b" -o "$W/bm" --to mlx
cd "$W" || exit 1
linear() { # NAME MODEL WEIGHT MODEL WEIGHT [MORE]
    cat >"$1.yml" <<END
merge_method: linear
models:
  - model: $2
    parameters: {weight: $3}
  - model: $4
    parameters: {weight: $5}
${6:-}
END
}

# ---- linear: with itself, with weight 0, in any order, from any format ----
linear self a 0.25 a2 0.75
ln -s a a2
ok "self" "$LBRX" merge self.yml -o self
ok "self is itself" "$LBRX" diff a self
linear zero a 1 b 0
ok "zero" "$LBRX" merge zero.yml -o zero
ok "weight 0" "$LBRX" diff a zero
linear hf a 1 b 3
linear gguf a 1 b.gguf 3
linear mlx a 1 bm 3
for f in hf gguf mlx; do ok "$f" "$LBRX" merge $f.yml -o m-$f; done
ok "gguf as hf" "$LBRX" diff m-hf m-gguf
ok "mlx as hf" "$LBRX" diff m-hf m-mlx
exits 5 "no input" "$LBRX" diff m-hf a
cmp m-hf/model.safetensors m-mlx/model.safetensors >/dev/null 2>&1 # provenance differs
ok "threads" "$LBRX" merge hf.yml -o m-hf1 -t 1
ok "budget" "$LBRX" merge hf.yml -o m-hf2 --memory 64MB
if cmp -s m-hf/model.safetensors m-hf1/model.safetensors && cmp -s m-hf/model.safetensors m-hf2/model.safetensors; then
    pass
else
    fail "threads and budget" "the bytes differ"
fi

# ---- the merge file is a MODEL; one pass is its steps through f32 ----
linear f32 a 1 b.gguf 3 "dtype: float32"
ok "to f32" "$LBRX" merge f32.yml -o m-f32
ok "to gguf" "$LBRX" merge f32.yml -o one.gguf --no-provenance
ok "in two steps" "$LBRX" convert m-f32 -o two.gguf --no-provenance
ok "one pass is two" "$LBRX" diff one.gguf two.gguf
ok "convert" "$LBRX" convert f32.yml -o three.gguf --no-provenance
if cmp -s one.gguf three.gguf; then pass; else fail "convert" "not what merge makes"; fi
ok "quantized" "$LBRX" merge f32.yml -o q.gguf --type q8_0 --no-provenance
ok "quantized in two steps" "$LBRX" quantize two.gguf -o q2.gguf --type q8_0 --no-provenance
ok "quantize one pass is two" "$LBRX" diff q.gguf q2.gguf
ok "quantize the file" "$LBRX" quantize f32.yml -o q3.gguf --type q8_0 --no-provenance
if cmp -s q.gguf q3.gguf; then pass; else fail "quantize the file" "not what merge makes"; fi
ok "to mlx" "$LBRX" merge f32.yml -o m-q4 --to mlx --type mlx-q4
ok "mlx in two steps" "$LBRX" quantize m-f32 -o m-q4b --to mlx --type mlx-q4
ok "mlx one pass is two" "$LBRX" diff m-q4 m-q4b
ok "none" "$LBRX" merge hf.yml --to none

# ---- config and tokenizer from a GGUF ----
linear donor b.gguf 3 a 1
ok "a GGUF first" "$LBRX" merge donor.yml -o m-donor
ok "a GGUF first: values" "$LBRX" diff m-hf m-donor
ok "its folder" "$LBRX" convert b.gguf -o bh --to hf
for f in config.json tokenizer.json tokenizer_config.json; do
    if cmp -s bh/$f m-donor/$f; then pass; else fail "a GGUF first" "$f is not that of a conversion"; fi
done
ok "a GGUF first, to GGUF" "$LBRX" merge donor.yml -o m-donor.gguf
ok "the merge file is kept" "$LBRX" inspect m-donor.gguf --metadata
says "the merge file is kept" 'lbrx.text.mergekit_config.yml str = "merge_method: linear'
ok "a GGUF first, to GGUF: values" "$LBRX" diff m-donor.gguf m-donor --tolerance 3e-3

# ---- methods: a model with itself; one pass over dot products, in any tiles ----
method() { # NAME METHOD PARAMETERS MODEL [MODEL...]: the first is the base
    printf 'merge_method: %s\nbase_model: %s\nparameters: %s\nmodels:\n' "$2" "$4" "$3" >"$1.yml"
    yml=$1.yml
    shift 3
    for i in "$@"; do printf '  - {model: %s, parameters: {weight: 0.5}}\n' "$i" >>"$yml"; done
}
ln -s a a3
for m in "task_arithmetic {}" "multislerp {}" "model_stock {}" "model_stock {filter_wise: true}" "ram {}" "ramplus_tl {}" \
    "nuslerp {nuslerp_flatten: false}" "nuslerp {}"; do
    method mine "${m%% *}" "${m#* }" a a2 a3
    ok "$m: itself" "$LBRX" merge mine.yml -o mine --force
    ok "$m: is itself" "$LBRX" diff a mine
    method mine "${m%% *}" "${m#* }" a b a3
    ok "$m" "$LBRX" merge mine.yml -o mine --force
    ok "$m: one thread" "$LBRX" merge mine.yml -o mine1 --force -t 1 --memory 64MB
    case $m in
    model_stock*) ok "$m: one model alone is left out" "$LBRX" diff a mine ;;
    *) exits 5 "$m: another" "$LBRX" diff a mine ;;
    esac
    if cmp -s mine/model.safetensors mine1/model.safetensors; then pass; else fail "$m" "threads and budget are seen"; fi
done
for m in "slerp {t: 0.3}" "nearswap {t: 0.01}" "karcher {}"; do
    method mine "${m%% *}" "${m#* }" a a2
    ok "$m: itself" "$LBRX" merge mine.yml -o mine --force
    ok "$m: is itself" "$LBRX" diff a mine
    method mine "${m%% *}" "${m#* }" a b
    ok "$m" "$LBRX" merge mine.yml -o mine --force
    ok "$m: one thread" "$LBRX" merge mine.yml -o mine1 --force -t 1 --memory 64MB
    if cmp -s mine/model.safetensors mine1/model.safetensors; then pass; else fail "$m" "threads and budget are seen"; fi
done

# ---- slices: layers, config, what is left out ----
cat >slices.yml <<'END'
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
  - sources: [{model: b, layer_range: [1, 2]}]
dtype: float16
END
ok "slices" "$LBRX" merge slices.yml -o s
python3 - s a <<'END' >out.txt 2>&1 && pass || fail "slices" "$(cat out.txt)"
import json, struct, sys
def tensors(d):
    f = open(d + "/model.safetensors", "rb")
    h = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    return {k: v for k, v in h.items() if k != "__metadata__"}
s, a = tensors(sys.argv[1]), tensors(sys.argv[2])
assert any(k.startswith("model.layers.2.") for k in s), sorted(s)
assert not any(k.startswith("model.layers.3.") for k in s)
assert {v["dtype"] for v in s.values()} == {"F16"}
c = json.load(open(sys.argv[1] + "/config.json"))
assert c["num_hidden_layers"] == 3, c
assert c.get("torch_dtype", c.get("dtype")) == "float16", c
END
ok "slices are whole" "$LBRX" verify s
for f in README.md mergekit_config.yml lbrx.json tokenizer.json; do
    if [ -s s/$f ]; then pass; else fail "texts" "no $f"; fi
done
ok "provenance left out" "$LBRX" merge slices.yml -o s2 --no-provenance
if [ -e s2/README.md ] || [ -e s2/lbrx.json ]; then fail "no provenance" "there is some"; else pass; fi
cat >few.yml <<'END'
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 1]}]
END
ok "few" "$LBRX" merge few.yml -o few
if grep -q "no slice takes its layer" "$W/err"; then pass; else fail "few" "not said"; fi

# ---- the merge file looked at, without being written ----
ok "diff with what it made" "$LBRX" diff hf.yml m-hf --tolerance 3e-3
ok "diff of two merge files" "$LBRX" diff hf.yml mlx.yml
exits 5 "diff with another" "$LBRX" diff hf.yml b --json
says "diff with another" '"only_in_b": []'
exits 5 "diff with a quantized one" "$LBRX" diff hf.yml q.gguf
ok "verify" "$LBRX" verify hf.yml
says "verify" "no problem found"
ok "verify against" "$LBRX" verify m-hf --against hf.yml
exits 5 "verify against another" "$LBRX" verify m-hf --against self.yml
python3 - <<'END' >out.txt 2>&1 && pass || fail "a NaN" "$(cat out.txt)"
import json, shutil, struct
shutil.copytree("a", "nan", symlinks=True)
b = bytearray(open("nan/model.safetensors", "rb").read())
n = struct.unpack("<Q", b[:8])[0]
t = json.loads(b[8:8 + n])["model.norm.weight"]
size = 2 if t["dtype"] in ("F16", "BF16") else 4
at = 8 + n + t["data_offsets"][0]
b[at:at + size] = b"\xff" * size
open("nan/model.safetensors", "wb").write(b)
END
linear notnumber nan 1 b 1
exits 5 "verify finds a NaN" "$LBRX" verify notnumber.yml
says "verify finds a NaN" "model.norm.weight: 1 value that is NaN or infinite"
exits 5 "diff finds a NaN" "$LBRX" diff notnumber.yml hf.yml

# ---- refusals: one line, nothing written ----
refuses() { # CODE NAME FILE TEXT [OPTION...]
    code=$1 what=$2 file=$3 text=$4
    shift 4
    exits "$code" "$what" "$LBRX" merge "$file" -o none "$@"
    set -- "$code" "$what"
    complains "$what" "$text"
    if [ -e none ] || [ -e none.lbrx-partial ]; then fail "$2" "something was written"; fi
}
linear sum a 1 b -1
refuses 3 "sum of zero" sum.yml "add up to zero"
linear what a 1 b x
refuses 3 "no number" what.yml "weight"
sed 's/linear/linaer/' hf.yml >method.yml
refuses 3 "no method" method.yml "linaer"
sed 's/weight:/wieght:/' hf.yml >key.yml
refuses 3 "no key" key.yml "weight"
sed 's/\[1, 2\]/[1, 9]/' slices.yml >range.yml
refuses 3 "range" range.yml "range"
make_model hf qwen3 "$W/other"
linear kinds a 1 other 1
refuses 3 "other family" kinds.yml "of the family"
linear gone a 1 nowhere 1
exits 3 "no model" "$LBRX" merge gone.yml -o none
complains "no model" "nowhere"
linear ring a 1 ring.yml 1
refuses 3 "of itself" ring.yml "made of itself"
# ---- --type keep: the types of the base ----
types() { # MODEL: name and type of each tensor
    "$LBRX" inspect "$1" --tensors --json | python3 -c "
import json, sys
for t in json.load(sys.stdin)['tensors']: print(t['name'], t['type'], t['shape'])" | sort
}
keeps() { # NAME BASE OUT: OUT has the types of BASE
    types "$2" >kept-a
    types "$3" >kept-b
    if [ -s kept-a ] && cmp -s kept-a kept-b; then pass; else fail "$1" "$(diff kept-a kept-b | head -3)"; fi
}
ok "keep: a GGUF" "$LBRX" quantize b.gguf -o base.gguf --type q4_k_m --override 'blk.1.attn_q=q8_0'
ok "keep: MLX" "$LBRX" quantize b -o base-mlx --to mlx --type mlx-mixed_3_6 --group-size 32
ok "keep: fp8" "$LBRX" quantize b -o base-fp8 --to hf --type fp8
ok "keep: w4a16" "$LBRX" quantize b -o base-w4 --to hf --type w4a16 --group-size 32
ok "keep: plain" "$LBRX" convert b -o base-f16 --to hf --dtype f16
for m in .gguf -mlx -fp8 -w4 -f16; do
    linear keep$m base$m 1 a 0
    ok "keep base$m" "$LBRX" merge keep$m.yml -o kept$m --type keep
    keeps "keep base$m" base$m kept$m
    case $m in
    .gguf | -f16) ok "keep base$m: values" "$LBRX" diff base$m kept$m --tolerance 0.02 ;;
    *) ok "keep base$m: values" "$LBRX" diff base$m kept$m --tolerance 0.12 ;;
    esac
done
cmp -s base-fp8/config.json kept-fp8/config.json && pass || fail "keep" "config.json of fp8"
cmp -s base-w4/config.json kept-w4/config.json && pass || fail "keep" "config.json of w4a16"
ok "keep: fp8, some plain" "$LBRX" quantize b -o base-plain --to hf --type fp8 --override 'down_proj=bf16'
linear keep-plain base-plain 1 a 0
ok "keep: fp8, some plain" "$LBRX" merge keep-plain.yml -o kept-plain --type keep
cmp -s base-plain/config.json kept-plain/config.json && pass || fail "keep" "config.json of fp8 with plain modules"
ok "keep: MLX is whole" "$LBRX" verify kept-mlx
sed 's/model: a,/model: base.gguf,/; s/model: b,/model: base.gguf,/; /dtype/d' slices.yml >keep-slices.yml
ok "keep: slices" "$LBRX" merge keep-slices.yml -o kept-slices.gguf --type keep
types kept-slices.gguf >kept-b
says_type() { if grep -q "$1" kept-b; then pass; else fail "keep: slices" "no $1"; fi; }
says_type "blk.2.attn_q.weight q8_0"
says_type "blk.0.attn_q.weight q4_k"
cat >keep-self.yml <<'END'
merge_method: passthrough
models: [{model: base.gguf}]
END
ok "keep: codes are copied" "$LBRX" merge keep-self.yml -o kept-self.gguf --type keep
ok "keep: not a code is another" "$LBRX" diff base.gguf kept-self.gguf
"$LBRX" inspect base.gguf --metadata | grep file_type >kept-a
"$LBRX" inspect kept-self.gguf --metadata | grep file_type >kept-b
if [ -s kept-a ] && cmp -s kept-a kept-b; then pass; else fail "keep" "general.file_type"; fi
sed 's/base.gguf/base-mlx/' keep-self.yml >keep-mlx-self.yml
ok "keep: codes of MLX are copied" "$LBRX" merge keep-mlx-self.yml -o kept-self-mlx --type keep --no-provenance
ok "keep: not a code of MLX is another" "$LBRX" diff base-mlx kept-self-mlx
sed 's/model: a,/model: base-mlx,/; s/model: b,/model: base-mlx,/; /dtype/d' slices.yml >keep-slices-mlx.yml
ok "keep: slices of MLX" "$LBRX" merge keep-slices-mlx.yml -o kept-slices-mlx --type keep
ok "keep: their values" "$LBRX" merge keep-slices-mlx.yml -o slices-mlx --to hf --dtype f32
ok "keep: codes of MLX in other layers" "$LBRX" diff slices-mlx kept-slices-mlx
refuses 2 "keep: another format" keep-fp8.yml "writes the format of the base" --to gguf --type keep
refuses 2 "keep: and an override" keep-fp8.yml "no other option" --type keep --pure
refuses 2 "types without a type" hf.yml "name one with --type" --pure
exits 2 "keep: no base" "$LBRX" quantize a -o none --type keep
complains "keep: no base" "has none"

# ---- raw: tensors by name alone, as mergekit-pytorch ----
python3 - <<'END' >out.txt 2>&1 || fail "raw" "$(cat out.txt)"
import json, struct
def write(path, tensors):
    head, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)
f = lambda *v: struct.pack("<%df" % len(v), *v)
q = lambda *v: struct.pack("<%dq" % len(v), *v)
write("r1.safetensors", {"unet.w": ("F32", [2, 2], f(1, 2, 3, 4)), "n": ("I64", [2], q(7, 9)), "only1": ("F32", [1], f(5))})
write("r2.safetensors", {"unet.w": ("F32", [2, 2], f(3, 4, 5, 8)), "n": ("I64", [2], q(7, 9)), "only2": ("F32", [1], f(6))})
write("r3.safetensors", {"unet.w": ("F32", [2, 2], f(3, 4, 5, 8)), "n": ("I64", [2], q(7, 8))})
END
linear raw r1.safetensors 1 r2.safetensors 1
refuses 3 "raw: a tensor that one lacks" raw.yml "only1" --raw
ok "raw: those that all have" "$LBRX" merge raw.yml -o raw.safetensors --raw -i
ok "raw: all" "$LBRX" merge raw.yml -o rawdir --raw --tensor-union
python3 - <<'END' >out.txt 2>&1 && pass || fail "raw" "$(cat out.txt)"
import json, struct
def read(path):
    b = open(path, "rb").read()
    n = struct.unpack("<Q", b[:8])[0]
    h = json.loads(b[8:8 + n])
    h.pop("__metadata__", None)
    return {k: b[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]] for k, v in h.items()}
both = {"n": struct.pack("<2q", 7, 9), "unet.w": struct.pack("<4f", 2, 3, 4, 6)}
assert read("raw.safetensors") == both, read("raw.safetensors")
assert read("rawdir/model.safetensors") == {**both, "only1": struct.pack("<f", 5), "only2": struct.pack("<f", 6)}
END
linear rawint r1.safetensors 1 r3.safetensors 1
refuses 3 "raw: integers that differ" rawint.yml "integers that differ" --raw --tensor-intersection
refuses 2 "raw: without it" raw.yml "belong to --raw" -u

# ---- several documents ----
cat >multi.yml <<'END'
name: first
merge_method: linear
models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]
dtype: float32
---
merge_method: linear
models: [{model: first, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]
dtype: float32
END
ok "documents" "$LBRX" merge multi.yml -o m-multi --keep-intermediate between
linear two-steps between/first 1 b 1 "dtype: float32"
ok "the first document" "$LBRX" verify between/first
ok "documents are steps" "$LBRX" diff m-multi two-steps.yml
refuses 2 "no documents" hf.yml "no named document" --keep-intermediate between

# ---- verify knows the options ----
printf 'merge_method: dare_linear\nbase_model: a\nmodels: [{model: b, parameters: {weight: 1, density: 0.5}}]\n' >dare.yml
ok "seed" "$LBRX" merge dare.yml -o m-seed --seed 7 --rounding mergekit
ok "seed: against" "$LBRX" verify m-seed --against dare.yml

exits 3 "hash of a merge file" "$LBRX" inspect hf.yml --hash
# ---- importance: a file for each model ----
make_model imatrix llama im.dat
make_model imatrix llama other.dat hidden=128
weighted() { # NAME FILE: of both models
    cat >"$1.yml" <<END
merge_method: importance
models:
  - {model: a, parameters: {importance: $2}}
  - {model: b, parameters: {importance: im.dat, weight: 0}}
END
}
weighted one im.dat
ok "importance" "$LBRX" merge one.yml -o one-im
ok "importance, weight 0" "$LBRX" diff a one-im
weighted other other.dat
refuses 3 "importance of another model" other.yml "of another model"
weighted model a
refuses 3 "no importance" model.yml "line 3"
weighted number 0.5
refuses 3 "importance: a number" number.yml "a file's name is needed"
weighted gone gone.gguf
refuses 3 "importance: no file" gone.yml "gone.gguf"
sed 's/{importance: im.dat, weight: 0}/{}/' one.yml >lacks.yml
refuses 3 "importance: not said" lacks.yml "needs the parameter \`importance\`"
ok "inspect" "$LBRX" inspect slices.yml --json
says "inspect" '"name": "model.layers.2.mlp.down_proj.weight", "type": "f16"'
finish
