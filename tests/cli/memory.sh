#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# memory.sh: the budget holds from the first byte read to the last one written, for the vocabularies of
# released models: proven by the kernel (RLIMIT_DATA = budget + 16 MiB) and by the resident peak. Under sanitizers, whose own
# memory would be counted, the same commands on small vocabularies and layers, few experts and methods.
# shellcheck source=tests/cli_lib.sh
cost=slow
. "$(dirname "$0")/../cli_lib.sh"

if ! "$LBRX" help convert >"$W/out" 2>"$W/err"; then
    skip "everything" "this build does not list the command"
    finish
fi
limited=$(memory_is_limited)
[ $limited = yes ] || skip "limits" "a sanitizer, or a system without RLIMIT_DATA"

gemma_vocab=262144 llama_vocab=128256 heads=8 ffn=512 experts=512 layers=80
methods='linear model_stock ties dare_ties della sce cabs'
if is_sanitized; then
    gemma_vocab=8192 llama_vocab=4096 heads=2 ffn=64 experts=32 layers=8
    methods='linear dare_ties' # merge_props.sh has all of them
fi

verb=convert
# within MIB ARGUMENTS...: converts (or what $verb says) under the budget and the limit; the peak of what was resident is read
# from the report.
within() {
    mib=$1
    shift
    if [ $limited = no ]; then
        ok "$verb $*" "$LBRX" $verb "$@" --no-sync --force
        return
    fi
    # shellcheck disable=SC2016 # expanded by the inner shell
    ok "$mib MiB: $verb $*" sh -c 'ulimit -d "$1"; shift; exec "$LBRX" "$@"' sh $(((mib + 16) * 1024)) \
        $verb "$@" --memory "${mib}MiB" --no-sync --force --json || return
    case "$*" in *--dry-run*) return ;; esac # reports no peak: the kernel's limit has said it
    peak=$(sed 's/.*"peak_rss_bytes": *\([0-9]*\).*/\1/' "$W/out")
    if [ "$peak" -le $(((mib + 32) * 1048576)) ]; then pass; else fail "$mib MiB: $*" "$peak resident"; fi
}

shape="hidden=16 head_dim=16 heads=1 kv_heads=1 ffn=32 layers=1"

# ---- 262,144 pieces, 34 MB of tokenizer.json with 560,000 merges, and a tokenizer.model ----
# shellcheck disable=SC2086
make_model hf gemma3 "$W/gemma" vocab=$gemma_vocab tok=model $shape
within 64 "$W/gemma" -o "$W/g.gguf"
within 64 "$W/g.gguf" -o "$W/back" --to hf
same "gemma: tokenizer.json" "$W/gemma/tokenizer.json" "$W/back/tokenizer.json"
same "gemma: tokenizer.model" "$W/gemma/tokenizer.model" "$W/back/tokenizer.model"
within 64 "$W/g.gguf" -o "$W/mlx" --to mlx
same "gemma: to mlx" "$W/gemma/tokenizer.json" "$W/mlx/tokenizer.json"
within 64 "$W/mlx" -o "$W/m.gguf" --no-provenance
within 64 "$W/m.gguf" -o "$W/made" --to hf # rebuilt from the arrays
within 32 "$W/g.gguf" -o "$W/again.gguf"
within 32 "$W/gemma" -o "$W/mlx" --to mlx # copied, not parsed

# ---- a budget that planning does not fit into names one that it does ----
if [ $limited = yes ]; then
    exits 4 "too little" "$LBRX" convert "$W/gemma" -o "$W/no.gguf" --memory 12MiB
    complains "too little" "needs at least"
    least=$(sed 's/.*at least \([0-9]*\) MiB.*/\1/' "$W/err")
    within "${least:-1}" "$W/gemma" -o "$W/least.gguf"
    exits 4 "one MiB less" "$LBRX" convert "$W/gemma" -o "$W/no.gguf" --memory $((${least:-1} - 1))MiB
fi
rm -rf "$W/gemma" "$W/back" "$W/mlx" "$W/made"

# ---- 128,256 tokens of byte-level BPE ----
# shellcheck disable=SC2086
make_model hf llama "$W/llama" vocab=$llama_vocab tok=bytes $shape
within 64 "$W/llama" -o "$W/l.gguf"
within 64 "$W/l.gguf" -o "$W/back" --to hf
same "llama: tokenizer.json" "$W/llama/tokenizer.json" "$W/back/tokenizer.json"
within 64 "$W/l.gguf" -o "$W/made" --to hf --no-provenance

# ---- quantizers: 512 experts, each with weights of its own, take no more than one ----
verb=quantize
shape="layers=1 hidden=256 ffn=64 heads=4 kv_heads=2 head_dim=64 vocab=320 experts=$experts used=8"
# shellcheck disable=SC2086
make_model gguf qwen3moe "$W/moe" dtype=bf16 $shape
# shellcheck disable=SC2086
make_model imatrix qwen3moe "$W/moe.dat" $shape
within 12 "$W/moe/model.gguf" -o "$W/q.gguf" --type q4_k_m
within 12 "$W/moe/model.gguf" -o "$W/q.gguf" --type iq2_xs --imatrix "$W/moe.dat"
within 20 "$W/moe/model.gguf" -o "$W/q-{type}.gguf" --type q4_k_m,q8_0,iq2_xs,iq4_xs,q6_k,q3_k_m,f16,bf16 --imatrix "$W/moe.dat"
rm -rf "$W/moe"
# the default budget, rows of 28,672 and a vocabulary of 128,256: holes for data
make_model gguf llama "$W/wide" sparse=1 dtype=bf16 layers=1 hidden=1024 ffn=28672 heads=16 kv_heads=8 head_dim=64 vocab=$llama_vocab
within 256 "$W/wide/model.gguf" --to none --type q4_k_m,q8_0
within 16 "$W/wide/model.gguf" --to none --type q5_k_m
rm -rf "$W/wide"
verb=convert

# ---- merges of ten models: of 70B, holes for data, planned; and a layer of their width, run ----
verb=merge
ten() { # NAME METHOD FOLDER [LAYERS]
    printf 'merge_method: %s\ndtype: bfloat16\n' "$2" >"$W/$1.yml"
    [ "$2" = linear ] || printf 'base_model: %s/0\n' "$3" >>"$W/$1.yml"
    if [ -n "${4:-}" ]; then
        printf 'slices:\n  - sources:\n' >>"$W/$1.yml"
    else
        printf 'models:\n' >>"$W/$1.yml"
    fi
    for i in 0 1 2 3 4 5 6 7 8 9; do
        printf '%s- {model: %s/%d, parameters: {weight: 0.3, density: 0.5}%s}\n' "${4:+    }" "$3" $i "${4:+, layer_range: [0, $4]}" \
            >>"$W/$1.yml"
    done
}
copies() { # FOLDER SHAPE...
    to=$1
    shift
    mkdir "$to"
    make_model hf llama "$to/0" sparse=1 dtype=bf16 shard=50000000000 head_dim=128 hidden=8192 "$@"
    for i in 1 2 3 4 5 6 7 8 9; do ln -s 0 "$to/$i"; done
}
copies "$W/70b" layers=$layers ffn=28672 vocab=128256 heads=64 kv_heads=8
# inputs of one matrix that are more than the budget in f32: 8 heads, 336 MB
copies "$W/wide" layers=2 ffn=$ffn vocab=320 heads=$heads kv_heads=2
"$LBRX" merge --methods >"$W/methods"
for method in $methods; do
    grep -q "^$method " "$W/methods" || continue
    ten plan $method "$W/70b"
    within 512 "$W/plan.yml" -o "$W/x" --dry-run
    ten run $method "$W/wide" 1
    within 256 "$W/run.yml" --to none
done
rm -rf "$W/70b" "$W/wide"

# ---- 1T parameters in 61 layers of 384 experts, 163,840 tokens: holes for data, so planned only ----
plans() {
    [ $limited = yes ] || return 0
    kib=$(((64 + 16) * 1024))
    # shellcheck disable=SC2016 # expanded by the inner shell
    ok "1T in 64 MiB: $verb $*" sh -c 'ulimit -d "$1"; shift; exec "$LBRX" "$@"' sh $kib $verb "$@" \
        --memory 64MiB --dry-run -q
}
verb=convert
shape="layers=61 hidden=7168 ffn=2048 heads=64 kv_heads=8 head_dim=128 vocab=163840 experts=384 used=8"
# shellcheck disable=SC2086
make_model gguf qwen3moe "$W/moe" shard=50000000000 sparse=1 $shape
plans "$W"/moe/*-00001-of-* -o "$W/x" --to hf
plans "$W"/moe/*-00001-of-* -o "$W/x" --to mlx
verb=quantize
plans "$W"/moe/*-00001-of-* -o "$W/x-{type}.gguf" --type q4_k_m,q8_0,iq4_xs,q2_k
verb=convert
rm -rf "$W/moe"
# shellcheck disable=SC2086
make_model hf qwen3moe "$W/moe" shard=50000000000 sparse=1 tok=bytes $shape
plans "$W/moe" -o "$W/x" --to gguf --set tokenizer.ggml.pre=str:gpt-2
plans "$W/moe" -o "$W/x" --to mlx
# A signal is heard while it plans: sent at several moments, since a machine may be done before the
# last of them and another not yet started at the first. Interrupted or done, never anything else.
for signal in TERM INT; do
    heard=0
    for moment in 0.03 0.06 0.1 0.2 0.4; do
        # shellcheck disable=SC2016 # expanded by the inner shell
        sh -c '"$LBRX" convert "$1" -o "$2" --to mlx --dry-run -q & pid=$!
            sleep "$4"; kill -"$3" $pid 2>/dev/null; wait $pid' \
            sh "$W/moe" "$W/x" $signal $moment >"$W/out" 2>"$W/err" </dev/null
        rc=$?
        case $rc in
        0 | 143) ;;
        130)
            heard=$((heard + 1))
            complains "$signal while planning" "lbrx: interrupted"
            [ -s "$W/out" ] && fail "$signal while planning" "a plan was printed"
            ;;
        *) fail "$signal while planning" "exit $rc" ;;
        esac
    done
    if [ $heard -gt 0 ]; then
        pass
    else
        fail "$signal while planning" "not heard at any moment"
    fi
done
finish
