#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sensitivity.sh: `lbrx sensitivity` on tiny models: what is run is, to the last digits, the divergence of a model with that
# tensor alone in that type; the same bytes from any number of threads and memory; experts, also with gate and up in one;
# what `quantize` makes of it; and what goes wrong.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}

# model NAME FAMILY TOKENIZER: $W/NAME.gguf in f32
model() {
    mkdir "$W/$1"
    if [ "$3" = spm ]; then
        cp "$GOLDEN/family/tokenizer.model" "$W/$1"
        cp "$GOLDEN/family/tokenizer_config_spm.json" "$W/$1/tokenizer_config.json"
    fi
    label=$("$LOGITS" list "$GOLDEN/logits/$2.json" | awk -v tok="$3" '$2 == tok { print $1; exit }')
    "$LOGITS" make "$GOLDEN/logits/$2.json" "$label" "$W/$1" || exit 1
    ok "$1" "$LBRX" convert "$W/$1" -o "$W/$1.gguf" --dtype f32 --no-sync -q
}
model dense llama spm
model moe mixtral spm
model fused gemma4 own
cats 60 >"$W/book"
TYPES=q4_0,q4_1,q5_0,q8_0
# run OUT MODEL ARGS...
run() {
    out=$1
    shift
    "$LBRX" sensitivity -f "$W/book" -o "$W/$out" --ctx 64 --chunks 3 --types "$TYPES" --exact --kv-type f32 --no-sync "$@"
}
# figure FILE TENSOR KEY: the list of it
figure() {
    sed -n "s/.*\"name\":\"$2\".*\"$3\":\\[\\([^]]*\\)\\].*/\\1/p" "$1"
}

ok "dense" run s.json "$W/dense.gguf"
says "dense" "tensors"

# ---- end to end: a model with one tensor in a type, read back from a file of that type ----
# other_model BASE TENSOR TYPE N: $W/BASE.gguf with that, and the N-th figure of $W/BASE-all.json
other_model() {
    case $2 in
    blk.3.ffn_down.weight | token_embd.weight | output.weight) if is_sanitized; then return; fi ;; # the same code
    esac
    z=$W/$1.logits
    if [ ! -f "$z" ]; then
        ok "$1: logits" "$LBRX" perplexity "$W/$1.gguf" -f "$W/book" --ctx 64 --chunks 3 --exact --kv-type f32 --save-logits "$z" -q
        ok "$1: all run" run "$1-all.json" "$W/$1.gguf" --anchors all
    fi
    ok "$1 $2" "$LBRX" quantize "$W/$1.gguf" -o "$W/one.gguf" --type "$3" --pure --override "^$2\$=$3" --override '.*=f32' \
        --no-sync -q --force
    ok "$1 $2" "$LBRX" perplexity "$W/one.gguf" -f "$W/book" --ctx 64 --chunks 3 --exact --kv-type f32 --kl "$z" --json -q
    kl=$(sed -n 's/.*"kl_mean":\([0-9.e-]*\).*/\1/p' "$W/out")
    mine=$(figure "$W/$1-all.json" "$2" kl | tr ',' '\n' | sed -n "$4p")
    if awk -v a="$kl" -v b="$mine" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 <= (1e-6 * a) ^ 2) }'; then
        pass
    else
        fail "$1 $2" "as $3: $mine, end to end $kl"
    fi
}
other_model dense blk.0.attn_q.weight q4_0 1
other_model dense blk.3.ffn_down.weight q5_0 3
other_model dense token_embd.weight q8_0 4
other_model moe blk.1.ffn_down_exps.weight q4_1 2
other_model moe output.weight q8_0 4
# gate and up in one tensor
other_model fused blk.1.ffn_gate_up_exps.weight q4_0 1
cp "$W/dense-all.json" "$W/all.json"
figure "$W/all.json" blk.0.attn_q.weight run | grep -q false && fail "everything run" "something was not" || pass

# ---- the same bytes ----
if ! is_sanitized; then
    ok "three threads" run t3.json "$W/dense.gguf" -t 3
    same "three threads" "$W/s.json" "$W/t3.json"
fi
ok "little memory" run mem.json "$W/dense.gguf" --memory 40MB
same "little memory" "$W/s.json" "$W/mem.json"
part=
if is_sanitized; then # minutes of scalar products: tensors of one layer and a chunk
    part='--tensors blk\.1\. --chunks 1'
    # shellcheck disable=SC2086 # options
    ok "of one layer" run simd.json "$W/dense.gguf" $part
else
    cp "$W/s.json" "$W/simd.json"
fi
# shellcheck disable=SC2086
ok "without SIMD" env LBRX_CPU=ref "$LBRX" sensitivity "$W/dense.gguf" -f "$W/book" -o "$W/ref.json" --ctx 64 --chunks 3 \
    --types "$TYPES" --exact --kv-type f32 --no-sync $part
same "without SIMD" "$W/simd.json" "$W/ref.json"
ok "as JSON" run json.json "$W/dense.gguf" --json -q
same "as JSON" "$W/json.json" "$W/out"

# ---- other models ----
ok "experts" run moe.json "$W/moe.gguf"
figure "$W/moe.json" blk.0.ffn_down_exps.weight kl | grep -q '^[0-9]' && pass || fail "experts" "no figures"
figure "$W/moe.json" output.weight kl | grep -q '^null,null,null,[0-9]' && pass || fail "experts" "head"
ok "only some" run some.json "$W/dense.gguf" --tensors 'blk\.1\.' --tensors ffn_up
[ "$(grep -c '"name"' "$W/some.json")" = 10 ] && pass || fail "only some" "$(grep -c '"name"' "$W/some.json") tensors"
# one tensor alone is what it is among all
figure "$W/some.json" blk.1.attn_k.weight kl >"$W/a"
figure "$W/s.json" blk.1.attn_k.weight kl >"$W/b"
same "one among some" "$W/a" "$W/b"
ok "with importance" "$LBRX" imatrix "$W/dense.gguf" -f "$W/book" -o "$W/i.gguf" --ctx 64 --no-ppl -q
ok "with importance" run imatrix.json "$W/dense.gguf" --imatrix "$W/i.gguf"
grep -q '"imatrix":"i.gguf"' "$W/imatrix.json" && pass || fail "with importance" "not said"
cmp -s "$W/imatrix.json" "$W/s.json" && fail "with importance" "no difference" || pass

# ---- run on a device: the CPU's figures, but for the order of sums; its local errors to the digit, nearly ----
# near WHAT MODEL TENSORS...
near() {
    what=$1 model=$2
    shift 2
    for d in cpu emulated; do
        ok "$what: $d" "$LBRX" sensitivity "$model" -f "$W/book" -o "$W/on-$d.json" --ctx 16 --chunks 1 --types q4_0,iq4_nl,q8_0 \
            --exact --kv-type f32 --no-sync --force --device $d "$@"
    done
    cmp -s "$W/on-cpu.json" "$W/on-emulated.json" && fail "$what" "the CPU's bytes: nothing was run there" || pass
    python3 - "$W/on-cpu.json" "$W/on-emulated.json" <<'PY' && pass || fail "$what" "other figures"
import json, sys
a, b = (json.load(open(p)) for p in sys.argv[1:])
assert len(a["tensors"]) == len(b["tensors"]) > 0
n = 0
for x, y in zip(a["tensors"], b["tensors"]):
    assert x["name"] == y["name"] and x["run"] == y["run"]
    for key, bound in (("kl", 5e-3), ("error", 1e-3)):
        for u, v in zip(x[key], y[key]):
            assert (u is None) == (v is None)
            if u is not None:
                assert u > 0 and abs(u - v) <= bound * u, (x["name"], key, u, v)
                n += 1
assert n >= 6
PY
}
near "on a device" "$W/dense.gguf" --tensors 'blk\.2\.(attn_v|ffn_down)' --tensors token_embd
near "experts on a device" "$W/moe.gguf" --tensors 'blk\.3\.(ffn_down_exps|attn_output)' --tensors output.weight
exits 3 "two devices" run n.json "$W/dense.gguf" --device emulated,emulated
complains "two devices" "layers of the model are not run one by one: it lies on other devices"
near "gate and up in one on a device" "$W/fused.gguf" --tensors 'blk\.1\.ffn_gate_up_exps' --anchors 1

# ---- what quantize makes of it ----
ok "by it" "$LBRX" quantize "$W/dense.gguf" -o "$W/by.gguf" --target-bpw 5.6 --type "$TYPES" --sensitivity "$W/s.json" --no-sync
grep -q "sum of their divergences" "$W/err" && pass || fail "by it" "not said"
ok "by error" "$LBRX" quantize "$W/dense.gguf" -o "$W/error.gguf" --target-bpw 5.6 --type "$TYPES" --no-sync -q
for m in by error; do
    ok "$m" "$LBRX" perplexity "$W/$m.gguf" -f "$W/book" --ctx 64 --chunks 3 --exact --kv-type f32 --kl "$W/dense.logits" --json -q
    sed -n 's/.*"kl_mean":\([0-9.e-]*\).*/\1/p' "$W/out" >"$W/$m.kl"
done
awk -v a="$(cat "$W/by.kl")" -v b="$(cat "$W/error.kl")" 'BEGIN { exit !(a > 0 && a < b) }' && pass ||
    fail "less divergence" "$(cat "$W/by.kl") by it, $(cat "$W/error.kl") by error"
"$LBRX" inspect "$W/by.gguf" --metadata | grep -q -- "--sensitivity s.json" && pass || fail "by it" "not in the file's record"
exits 2 "without a target" "$LBRX" quantize "$W/dense.gguf" -o "$W/n.gguf" --type q8_0 --sensitivity "$W/s.json"
exits 2 "to MLX" "$LBRX" quantize "$W/dense.gguf" -o "$W/n" --to mlx --target-bpw 5 --sensitivity "$W/s.json"
exits 2 "a type that it lacks" "$LBRX" quantize "$W/dense.gguf" -o "$W/n.gguf" --target-bpw 5.6 --sensitivity "$W/s.json"
complains "a type that it lacks" "was not measured for"
exits 3 "of another model" "$LBRX" quantize "$W/dense.gguf" -o "$W/n.gguf" --target-bpw 5.6 --type "$TYPES" --sensitivity "$W/moe.json"
complains "of another model" "of another model"
exits 3 "of some tensors" "$LBRX" quantize "$W/dense.gguf" -o "$W/n.gguf" --target-bpw 5.6 --type "$TYPES" --sensitivity "$W/some.json"
complains "of some tensors" "has nothing for 'blk."
sed 's/blk.3.attn_q/blk.7.attn_q/' "$W/s.json" >"$W/more.json"
exits 3 "of a deeper model" "$LBRX" quantize "$W/dense.gguf" -o "$W/n.gguf" --target-bpw 5.6 --type "$TYPES" --sensitivity "$W/more.json"
for bad in 's/"version":1/"version":2/' 's/lbrx-sensitivity/x/' 's/"kl":\[/"kl":[1,/' 's/"q4_0"/"q9_9"/' 's/"shape":\[/"shape":[-/' \
    's/"name":"blk.1.attn_q.weight"/"name":"blk.0.attn_q.weight"/' 's/"kl":\[0/"kl":[-0/' '$d'; do
    sed "$bad" "$W/s.json" >"$W/bad.json"
    exits 3 "damage $bad" "$LBRX" quantize "$W/dense.gguf" -o "$W/n.gguf" --target-bpw 5.6 --type "$TYPES" --sensitivity "$W/bad.json"
done

# ---- what goes wrong ----
exits 2 "it exists" run s.json "$W/dense.gguf"
exits 2 "a type that there is not" "$LBRX" sensitivity "$W/dense.gguf" -f "$W/book" -o "$W/n.json" --types q9
exits 2 "no such tensor" run n.json "$W/dense.gguf" --tensors nothing
exits 2 "anchors" run n.json "$W/dense.gguf" --anchors 0
echo a >"$W/short"
exits 2 "too little text" "$LBRX" sensitivity "$W/dense.gguf" -f "$W/short" -o "$W/n.json" --types q8_0
for f in n n.gguf n.json; do
    [ ! -e "$W/$f" ] && pass || fail "errors" "$f was written"
done
set -- "$W"/*.lbrx-*
[ ! -e "$1" ] && pass || fail "errors" "$1 was left behind"
finish
