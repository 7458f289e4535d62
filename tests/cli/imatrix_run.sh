#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# imatrix_run.sh: `lbrx imatrix` and `imatrix merge`: the same bytes from any number of threads, batch and instruction set,
# the same sums from every format, experts each their own counts, going on from a file, sums of files; and what goes wrong.
# Against llama-imatrix: tests/peers/peer_imatrix_run.py.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}

# model NAME FAMILY TOKENIZER: $W/NAME, a folder
model() {
    mkdir "$W/$1"
    if [ "$3" = bpe ]; then
        cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/$1"
    else
        cp "$GOLDEN/family/tokenizer.model" "$W/$1"
        cp "$GOLDEN/family/tokenizer_config_spm.json" "$W/$1/tokenizer_config.json"
    fi
    label=$("$LOGITS" list "$GOLDEN/logits/$2.json" | awk -v tok="$3" '$2 == tok { print $1; exit }')
    "$LOGITS" make "$GOLDEN/logits/$2.json" "$label" "$W/$1" || exit 1
}
model hf llama bpe
model moe mixtral spm
cats 60 >"$W/book"
run() {
    out=$1
    shift
    "$LBRX" imatrix "$@" -f "$W/book" -o "$W/$out" --ctx 64 --no-sync
}

# ---- what it is ----
ok "a model" run a.gguf "$W/hf"
says "a model" "chunks of 64 tokens; perplexity"
ok "shown" "$LBRX" inspect "$W/a.gguf" --tensors
says "shown" "datasets      book"
says "shown" "of 64 tokens"
says "shown" "blk.0.attn_q.weight"
says "shown" "blk.1.ffn_down.weight"
grep -q "^output\|token_embd" "$W/out" && fail "shown" "the head or the embedding is in it" || pass
ok "with the head" run head.gguf "$W/hf" --process-output --no-ppl
ok "with the head" "$LBRX" inspect "$W/head.gguf" --tensors
says "with the head" "output.weight"

# ---- the same bytes ----
ok "three threads" run t3.gguf "$W/hf" -t 3 --no-ppl
same "three threads" "$W/a.gguf" "$W/t3.gguf"
ok "a small batch" run b1.gguf "$W/hf" --batch 1
same "a small batch" "$W/a.gguf" "$W/b1.gguf"
ok "without SIMD" env LBRX_CPU=ref "$LBRX" imatrix "$W/hf" -f "$W/book" -o "$W/ref.gguf" --ctx 64 --no-ppl
same "without SIMD" "$W/a.gguf" "$W/ref.gguf"
ok "chunks of 129 in batches of 64" "$LBRX" imatrix "$W/hf" -f "$W/book" -o "$W/c1.gguf" --ctx 129 --batch 64 --no-ppl
ok "chunks of 129 in one" "$LBRX" imatrix "$W/hf" -f "$W/book" -o "$W/c2.gguf" --ctx 129 --batch 512 --no-ppl
same "chunks of 129" "$W/c1.gguf" "$W/c2.gguf"

# ---- every format: names of GGUF ----
ok "to gguf" "$LBRX" convert "$W/hf" -o "$W/x.gguf" --dtype f32 --no-sync -q --set tokenizer.ggml.pre=str:gpt-2
ok "to mlx" "$LBRX" convert "$W/hf" -o "$W/mlx" --to mlx --dtype f32 --no-sync -q
# rows of q and k stand in another order in a GGUF, and so do sums over them: the last bits
list() {
    "$LBRX" inspect "$1" --tensors | grep '^blk\.'
}
list "$W/a.gguf" >"$W/a.list"
for m in x.gguf mlx; do
    ok "$m" run "from-$m.gguf" "$W/$m" --no-ppl
    list "$W/from-$m.gguf" >"$W/$m.list"
    same "$m: names and counts" "$W/a.list" "$W/$m.list"
done
same "mlx" "$W/a.gguf" "$W/from-mlx.gguf"

# ---- experts ----
ok "experts" run moe.gguf "$W/moe"
ok "experts" "$LBRX" inspect "$W/moe.gguf" --tensors
says "experts" "blk.0.ffn_gate_exps.weight"
says "experts" "blk.0.ffn_gate_inp.weight"
# one text of few tokens: some expert stays without
printf 'a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a' >"$W/short"
ok "unreached" "$LBRX" imatrix "$W/moe" -f "$W/short" -o "$W/few.gguf" --ctx 4 --chunks 1 --no-ppl
grep -q '^warning: no token reached blk\.[0-9]*\.ffn_down_exps.weight, .* of expert [0-9]' "$W/err" && pass ||
    fail "unreached" "no warning"
ok "unreached, as JSON" "$LBRX" imatrix "$W/moe" -f "$W/short" -o "$W/few.dat" --ctx 4 --chunks 1 --no-ppl --json -q
says "unreached, as JSON" '"unreached":{"blk.'
says "unreached, as JSON" '"format":"dat"'
ok "unreached, quantized" "$LBRX" convert "$W/moe" -o "$W/moe-x.gguf" --dtype f32 --no-sync -q
for form in gguf dat; do
    ok "few.$form is read" "$LBRX" quantize "$W/moe-x.gguf" -o "$W/q.gguf" --type q4_0 --imatrix "$W/few.$form" --no-sync -q --force
done

# ---- on a device: the same matrices and counts; values differ in their last digits (test_device_sums) ----
for m in hf moe; do
    ok "$m on the CPU" "$LBRX" imatrix "$W/$m" -f "$W/book" -o "$W/$m-cpu.gguf" --ctx 24 --chunks 2 --no-sync
    ok "$m on a device" "$LBRX" imatrix "$W/$m" -f "$W/book" -o "$W/$m-dev.gguf" --ctx 24 --chunks 2 --no-sync --device emulated
    says "$m on a device" "2 chunks of 24 tokens; perplexity"
    list "$W/$m-cpu.gguf" >"$W/cpu.list"
    list "$W/$m-dev.gguf" >"$W/dev.list"
    same "$m on a device: names and counts" "$W/cpu.list" "$W/dev.list"
done
cmp -s "$W/hf-cpu.gguf" "$W/hf-dev.gguf" && fail "on a device" "the CPU's bytes: nothing was computed there" || pass
ok "layers of both" "$LBRX" imatrix "$W/hf" -f "$W/book" -o "$W/both.gguf" --ctx 24 --chunks 2 --no-sync --no-ppl \
    --device emulated,emulated --gpu-layers 3
list "$W/hf-cpu.gguf" >"$W/cpu.list"
list "$W/both.gguf" >"$W/dev.list"
same "layers of both: names and counts" "$W/cpu.list" "$W/dev.list"
exits 3 "heads shared" "$LBRX" imatrix "$W/hf" -f "$W/book" -o "$W/n.gguf" --ctx 24 --device emulated,emulated --split-mode row
complains "heads shared" "what products read is not added up"
ok "what lies where" "$LBRX" imatrix "$W/hf" -f "$W/book" -o "$W/n.gguf" --ctx 24 --device emulated --dry-run
says "what lies where" "weights"

# ---- going on, and sums ----
ok "whole" run whole.gguf "$W/hf" --no-ppl --chunks 6
ok "first part" run first.gguf "$W/hf" --no-ppl --chunks 4 --save-frequency 2
[ -f "$W/first.gguf.at_2" ] && pass || fail "save-frequency" "first.gguf.at_2 is missing"
same "kept at the end" "$W/first.gguf" "$W/first.gguf.at_4"
ok "going on" run on.gguf "$W/hf" --no-ppl --in-file "$W/first.gguf" --from-chunk 4 --chunks 2
ok "second part" run second.gguf "$W/hf" --no-ppl --from-chunk 4 --chunks 2
ok "sum" "$LBRX" imatrix merge "$W/first.gguf" "$W/second.gguf" -o "$W/sum.gguf"
says "sum" "2 files"
says "sum" "6 chunks of 64 tokens"
# whichever way they were added up, but for the rounding of a file between
for m in on sum; do
    ok "what comes from $m" "$LBRX" quantize "$W/x.gguf" -o "$W/q-$m.gguf" --type q8_0 --imatrix "$W/$m.gguf" --no-sync -q
    list "$W/$m.gguf" >"$W/$m.list"
    list "$W/whole.gguf" >"$W/whole.list"
    same "$m: names and counts" "$W/whole.list" "$W/$m.list"
    cmp -l "$W/whole.gguf" "$W/$m.gguf" | wc -l | awk '{ exit !($1 < 8000) }' && pass || fail "$m" "too many bytes differ"
done
ok "as a legacy file" "$LBRX" imatrix merge "$W/first.gguf" -o "$W/first.dat"
ok "forms mixed" "$LBRX" imatrix merge "$W/first.dat" "$W/second.gguf" -o "$W/mixed.gguf" --json
says "forms mixed" '"chunk_count":6'
ok "one file is itself" "$LBRX" imatrix merge "$W/first.gguf" -o "$W/first2.gguf"
same "one file is itself" "$W/first.gguf" "$W/first2.gguf"
ok "little memory" run little.gguf "$W/hf" --no-ppl --chunks 6 --memory 48MB
same "little memory" "$W/whole.gguf" "$W/little.gguf"

# ---- what goes wrong ----
exits 2 "it exists" run a.gguf "$W/hf" --no-ppl
complains "it exists" "a.gguf"
ok "replaced" run a.gguf "$W/hf" --no-ppl --force
ok "a folder of parts" run first3.gguf "$W/hf" --no-ppl --chunks 2 --save-frequency 1
rm "$W/first3.gguf"
exits 2 "a part exists" run first3.gguf "$W/hf" --no-ppl --chunks 2 --save-frequency 1
complains "a part exists" "first3.gguf.at_1"
exits 2 "too little text" "$LBRX" imatrix "$W/hf" -f "$W/short" -o "$W/n.gguf"
complains "too little text" "two chunks of --ctx 512"
exits 2 "behind the end" run n.gguf "$W/hf" --from-chunk 1000
exits 3 "of another model" run n.gguf "$W/hf" --in-file "$W/moe.gguf" --no-ppl
complains "of another model" "an importance matrix of another model"
exits 3 "a sum of two models" "$LBRX" imatrix merge "$W/moe.gguf" "$W/a.gguf" -o "$W/n.gguf"
complains "a sum of two models" "a.gguf: importance of 'blk.0.attn_"
exits 3 "no importance matrix" "$LBRX" imatrix merge "$W/x.gguf" -o "$W/n.gguf"
exits 2 "onto an input" "$LBRX" imatrix merge "$W/a.gguf" -o "$W/a.gguf" --force
exits 2 "no output" "$LBRX" imatrix "$W/hf" -f "$W/book"
exits 3 "no text" "$LBRX" imatrix "$W/hf" -f "$W/absent" -o "$W/n.gguf"
[ ! -e "$W/n.gguf" ] && pass || fail "errors" "something was written"
set -- "$W"/*.lbrx-*
[ ! -e "$1" ] && pass || fail "errors" "$1 was left behind"
finish
