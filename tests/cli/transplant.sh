#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# transplant.sh: a model with another's tokenizer, end to end: rows, files and config of the result,
# every method, formats of both models, budgets and threads, interruption, refusals.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

# model NAME FAMILY VOCAB TOKENIZER [KEY=VALUE]...: made-up weights with a tokenizer of the goldens.
model() {
    to=$1 family=$2 rows=$3 tok=$4
    shift 4
    make_model hf "$family" "$W/$to" "vocab=$rows" layers=1 "$@"
    for f in "$GOLDEN/text/$tok"/*; do
        case $f in */config.json) ;; *) cp "$f" "$W/$to/" ;; esac
    done
}
model m llama 610 hf_llama seed=1 hidden=128                   # pieces: 604 tokens, 6 rows beside them
model d llama 488 llama3 seed=2 hidden=96 heads=6   # bytes: 484, and narrower
model q llama 470 qwen2 seed=3 hidden=128 tied=1               # bytes, no output matrix
cd "$W" || exit 1
printf '{"bos_token_id": 1, "eos_token_id": 2, "temperature": 0.6}' >m/generation_config.json
printf '{"bos_token_id": 480, "eos_token_id": [481, 483]}' >d/generation_config.json
T="$LBRX transplant"
shape() { # FOLDER TENSOR: its shape
    "$LBRX" inspect "$1" --tensors | awk -v n="$2" '$1 == n { print }'
}

# ---- rows, files, config ----
ok "omp" $T m d -o omp -k 16
grep -q "note: tokens: 484 of the donor" err && pass || fail omp "no count of tokens"
for t in model.embed_tokens.weight lm_head.weight; do
    shape omp $t | grep -q "\[484, 128\]" && pass || fail omp "$t: $(shape omp $t)"
done
cmp -s omp/tokenizer.json d/tokenizer.json && cmp -s omp/tokenizer_config.json d/tokenizer_config.json && pass ||
    fail omp "not the donor's tokenizer"
[ ! -e omp/added_tokens.json ] || fail omp "a file of the old tokenizer"
grep -q '"vocab_size": 484' omp/config.json && grep -q '"hidden_size": 128' omp/config.json && pass ||
    fail omp "config.json"
tr -d ' \n' <omp/generation_config.json | grep -q '^{"bos_token_id":480,"eos_token_id":\[481,483\],"temperature":0.6}$' &&
    pass || fail omp "generation_config.json: $(cat omp/generation_config.json)"
grep -q -- '"operation": "transplant --approximation-method omp -k 16 --to hf"' omp/lbrx.json && pass ||
    fail omp "provenance"
[ "$(grep -c '"digest"' omp/lbrx.json)" = 2 ] && pass || fail omp "sources"
grep -q "is m with the tokenizer of d" omp/README.md && pass || fail omp "card"
ok "verify" "$LBRX" verify omp
ok "back to itself" $T m m -o same
ok "itself" "$LBRX" convert m -o cut --dtype f32
"$LBRX" diff m same >out 2>err
grep -q "layers" out && fail "itself" "other tensors changed"
pass

# ---- the same bytes for any threads, budget, instruction set ----
same() { # NAME ENV... : omp again
    what=$1
    shift
    rm -rf again
    ok "$what" env "$@"
    cmp -s omp/model.safetensors again/model.safetensors && pass || fail "$what" "the bytes differ"
}
same "one thread" "$LBRX" transplant m d -o again -k 16 -t 1
same "budget" "$LBRX" transplant m d -o again -k 16 --memory 30MB
limited=$(memory_is_limited)
if [ $limited = yes ]; then
    same "hard budget" sh -c "ulimit -d 46000 && exec '$LBRX' transplant m d -o again -k 16 --memory 30MB"
else
    skip "hard budget" "a sanitizer, or a system without RLIMIT_DATA"
fi
same "reference" LBRX_CPU=ref "$LBRX" transplant m d -o again -k 16
same "batch size" "$LBRX" transplant m d -o again --k 16 --batch-size -1 --approximation-method omp
exits 4 "too small a budget" $T m d -o again2 --memory 1MB
[ ! -e again2 ] && pass || fail "too small a budget" "something was written"

# ---- every method ----
for a in common_interpolation subword mean zero randn john_hewitt landmark_pca stb mp_rope; do
    ok "$a" $T m d -o "m-$a" -a $a -k 16
    exits 5 "$a is another" "$LBRX" diff omp "m-$a"
    ok "$a again" $T m d -o again-$a -a $a -k 16 -t 1 --memory 30MB
    cmp -s "m-$a/model.safetensors" "again-$a/model.safetensors" && pass || fail "$a" "the bytes differ"
done
ok "another seed" $T m d -o seed -a randn --seed 1
cmp -s seed/model.safetensors m-randn/model.safetensors && fail seed "the same numbers" || pass
for o in "-w barycentric" "-w least_squares" "-c" "--prefix-match yes" "--byte-match yes" "--magikarp"; do
    # shellcheck disable=SC2086
    ok "interpolation $o" $T m d -o opt -k 8 -a common_interpolation $o --force
    exits 5 "$o does something" "$LBRX" diff opt m-common_interpolation
done
for o in sum weighted_mean first_last; do
    ok "subword $o" $T m d -o opt -a subword -s $o --force
    exits 5 "$o does something" "$LBRX" diff opt m-subword
done
ok "scale" $T m d -o scaled -k 16 --new-vocab-scale 2
ok "noise" $T m d -o noisy -k 16 --nvn 0.1 --seed 3
exits 5 "scaled" "$LBRX" diff omp scaled
exits 5 "noisy" "$LBRX" diff omp noisy
# one matrix only
ok "prefix of the embedding" $T m d -o px -k 16 --prefix-match embed
"$LBRX" diff omp px >out 2>err
grep "^lm_head.weight" out | grep -qv identical && fail "prefix of the embedding" "lm_head changed"
grep -q "embed_tokens" out && pass || fail "prefix of the embedding" "nothing changed"

# ---- formats ----
ok "tied" $T q d -o tied -k 16
[ -z "$(shape tied lm_head.weight)" ] && pass || fail tied "an output matrix"
ok "tied donor" $T m q -o td -k 16
shape td lm_head.weight | grep -q "\[465, 128\]" && pass || fail "tied donor" "$(shape td lm_head.weight)"
ok "gguf of the donor" "$LBRX" convert d -o d.gguf
ok "gguf donor" $T m d.gguf -o g -k 16
ok "as from the folder" "$LBRX" diff omp g
ok "gguf of the model" "$LBRX" convert m -o m.gguf
ok "gguf model" $T m.gguf d -o gm -k 16 --to hf
ok "as from hf too" "$LBRX" diff omp gm
cmp -s gm/tokenizer.json d/tokenizer.json && pass || fail "gguf model" "not the donor's tokenizer"
for a in landmark_pca stb mp_rope; do
    ok "$a to a narrower one" $T d m -o "n-$a" -a $a -k 16
    ok "$a of the same width" $T m q -o "s-$a" -a $a -k 16
done
model w llama 610 hf_llama hidden=768 ffn=64
model v llama 488 llama3 hidden=768 ffn=64 seed=2
exits 4 "stb in too little" $T w v -o little -a stb --memory 12MB
what="stb needs at least" # a plan takes more with a sanitizer: there that may be said first
[ $limited = yes ] || what="needs at least"
grep -q "$what" err && [ ! -e little ] && pass || fail "in too little" "$(tail -1 err)"
ok "mlx of the model" "$LBRX" convert m -o mm --to mlx
ok "mlx model" $T mm d -o mx --to hf -k 16
ok "as from hf" "$LBRX" diff omp mx
ok "to gguf" $T m d -o one.gguf -k 16 --type q8_0 --no-provenance
ok "with all digits" $T m d -o f32 -k 16 --dtype f32
ok "in steps" "$LBRX" quantize f32 -o two.gguf --type q8_0 --no-provenance
ok "one pass is its steps" "$LBRX" diff one.gguf two.gguf
"$LBRX" inspect one.gguf --metadata >out 2>err
grep -q "tokenizer.ggml.tokens.*484" out && pass || fail "to gguf" "$(grep tokenizer.ggml.tokens out)"
ok "quantized model" "$LBRX" quantize m -o m4 --to mlx --type mlx-q8
ok "of codes" $T m4 d -o x4 --to hf -k 16
ok "a merge as the model" sh -c 'printf "merge_method: passthrough\nmodels: [{model: m}]\n" >p.yml'
ok "merged" $T p.yml d -o xm -k 16
ok "as of the model" "$LBRX" diff omp xm
ok "none" $T m d --to none -k 16
ok "plan" $T m d -o plan --dry-run
[ ! -e plan ] && grep -q "^made " out && grep -q "^temporary " out && pass || fail plan "not what is made"
ok "json" $T m d -o j --dry-run --json
grep -q '"inputs": \[{"name": "m"' out && pass || fail json "inputs"

# ---- refusals: one line, nothing written ----
refused() { # CODE NAME WHAT ARGS...
    code=$1 what=$2 says=$3
    shift 3
    exits "$code" "$what" $T "$@" -o refused
    grep -q -- "$says" err && pass || fail "$what" "$(tail -1 err)"
    [ ! -e refused ] || fail "$what" "something was written"
}
refused 3 "more than they share" "share [0-9]* tokens" m d -k 600
make_model hf llama "$W/bare"
refused 3 "no tokenizer" "bare" m bare
refused 3 "no tokenizer of the model" "bare" bare d
refused 2 "no method" "approximation-method" m d -a nothing
refused 2 "no atoms" "k" m d -k 0
refused 2 "contradiction" "exclude" m d --magikarp --no-magikarp
refused 2 "one model" "DONOR" m
cp -r d nan
printf '{"model_type": "llama"' >nan/config.json
refused 3 "damaged" "config.json" m nan
cp -r m image
sed 's/"vocab_size"/"image_token_id": 7, "vocab_size"/' m/config.json >image/config.json
refused 3 "a token of the model's own" "image_token_id" image d
finish
