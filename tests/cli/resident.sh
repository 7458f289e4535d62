#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# resident.sh: models that do not fit --memory: the same bytes as from the mapped file, for every command, format and family,
# in any budget from the least that works on; what the process holds stays below it; files that go away; and how much a
# model that fits takes beside its file. Under sanitizers, forms of a dense model and one of experts, and two budgets above
# the least.
# shellcheck source=tests/cli_lib.sh
cost=slow
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}
limited=$(memory_is_limited)

# climb COMMAND...: runs it with the --memory of $mib MiB, and where that is refused with what the refusal names (a sanitizer's
# allocator takes a multiple before there is anything to name)
most_tries=12 step=1 less=2
if is_sanitized; then most_tries=60 step=4 less=5; fi
climb() {
    tries=0
    until "$@" --memory "${mib}MiB" || [ $tries = $most_tries ]; do
        next=$(sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p' "$W/err")
        mib=$(($([ "${next:-0}" -gt $mib ] && echo "$next" || echo $((mib + step)))))
        tries=$((tries + 1))
    done
    [ $tries -lt $most_tries ]
}

# ---- every family: budgets of KiB around the least, until one is found in which a part does not fit ----
scored() {
    "$LBRX" score "$model" --jsonl --top 10 --batch 5 "$@" <"$W/ids" >"$W/got" 2>"$W/err"
}
# streamed WHAT MODEL: $W/ids scored in such a budget
streamed() {
    what=$1 model=$2
    scored || fail "$what" "exit $?"
    mv "$W/got" "$W/want"
    mib=2
    if ! climb scored; then
        fail "$what" "no budget works"
        return
    fi
    low=$(((mib - less) * 1024)) high=$(((mib + 2) * 1024)) found=no
    while [ $((high - low)) -gt 4 ] && [ $found = no ]; do
        kib=$(((low + high) / 2))
        if ! scored --memory ${kib}KiB; then
            low=$kib
        elif grep -q "do not fit: " "$W/err"; then
            found=yes
        else
            high=$kib
        fi
    done
    if [ $found = yes ]; then same "$what" "$W/want" "$W/got"; else fail "$what" "no budget in which a part fits"; fi
}
for file in "$GOLDEN"/logits/*.json; do
    family=$(basename "$file" .json)
    case $family in
    llama | qwen3_moe | deepseek_v3 | gpt_oss | gemma4 | qwen3_next) ;;
    *) if is_sanitized; then continue; fi ;; # the same code
    esac
    label=$("$LOGITS" list "$file" | awk '{ print $1; exit }')
    rm -rf "$W/hf" "$W/x.gguf" "$W/mlx"
    mkdir "$W/hf"
    cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/hf"
    case $("$LOGITS" list "$file" | awk '{ print $2; exit }') in
    bpe) ;;
    spm)
        rm "$W/hf/tokenizer.json"
        cp "$GOLDEN/family/tokenizer.model" "$W/hf"
        cp "$GOLDEN/family/tokenizer_config_spm.json" "$W/hf/tokenizer_config.json"
        ;;
    *) rm -f "$W/hf/tokenizer.json" "$W/hf/tokenizer_config.json" ;;
    esac
    "$LOGITS" make "$file" "$label" "$W/hf" && "$LOGITS" ids "$file" "$label" >"$W/ids" || exit 1
    # two layers of different sizes: a ring of two of the larger is no smaller than all
    [ "$family" = gemma4_unified ] || streamed "$family" "$W/hf"
    case $family in
    llama | qwen3_moe | deepseek_v3 | gpt_oss | gemma4 | qwen3_next)
        case $family in
        llama | qwen3_moe) ;;
        *) if is_sanitized; then continue; fi ;; # no other code than of these
        esac
        ok "$family: gguf" "$LBRX" convert "$W/hf" -o "$W/x.gguf" --no-sync -q --set tokenizer.ggml.pre=str:gpt-2
        streamed "$family: gguf" "$W/x.gguf"
        ok "$family: mlx" "$LBRX" convert "$W/hf" -o "$W/mlx" --to mlx --no-sync -q
        streamed "$family: mlx" "$W/mlx"
        ;;
    esac
done
rm -rf "$W/hf" "$W/x.gguf" "$W/mlx"

# ---- larger ones: every command ----
make_model hf llama "$W/dense" tok=bytes layers=12 hidden=256 ffn=768 heads=4 kv_heads=2 head_dim=64 vocab=4096
make_model hf qwen3moe "$W/moe" tok=bytes layers=6 hidden=256 ffn=256 heads=4 kv_heads=2 head_dim=64 vocab=4096 experts=16 used=4
cats 40 >"$W/text"
printf '{%% for m in messages %%}[{{ m["role"] }}] {{ m["content"] }} {%% endfor %%}' >"$W/chat.jinja"
printf 'Hello there\nAnd again\n' >"$W/lines"
printf '{"text": "the cat sat on the mat"}\n{"text": "a dog"}\n' >"$W/jsonl"
cat >"$W/merge.yml" <<END
merge_method: linear
dtype: bfloat16
models:
  - {model: $W/dense, parameters: {weight: 0.5}}
  - {model: $W/dense-mlx, parameters: {weight: 0.25}}
END

# Of sensitivity and text, under sanitizers, tensors of one layer and a chunk: all are run in the same way.
chunks=2 some=
! is_sanitized || chunks=1 some='--tensors blk\.1\.'
# command NAME MODEL OPTIONS...: its result in $W/got
command() {
    verb=$1 of=$2
    shift 2
    [ $verb != sensitivity ] || set -- "$@" $some
    case $verb in
    generate) "$LBRX" generate "$of" -p "the cat sat on" -n 12 --temp 0 --ignore-eos "$@" ;;
    jsonl) "$LBRX" generate "$of" -f "$W/jsonl" --jsonl -n 6 --temp 0 --ignore-eos --ids --seed 1 --parallel 2 "$@" ;;
    chat) "$LBRX" chat "$of" --chat-template "$W/chat.jinja" --ctx 256 -n 6 --temp 0 "$@" <"$W/lines" ;;
    score) "$LBRX" score "$of" --jsonl --top 5 "$@" <"$W/jsonl" ;;
    perplexity) "$LBRX" perplexity "$of" -f "$W/text" --ctx 64 --chunks $((chunks + 1)) --save-logits "$W/logits" --force --no-sync "$@" ;;
    imatrix) "$LBRX" imatrix "$of" -f "$W/text" --ctx 64 --chunks $chunks -o "$W/i.dat" --force --no-sync "$@" ;;
    sensitivity) "$LBRX" sensitivity "$of" -f "$W/text" --ctx 32 --chunks 1 --types q4_0,q8_0 --anchors 1 -o "$W/s.json" \
        --force --no-sync "$@" ;;
    esac >"$W/out" 2>"$W/err" </dev/null || return
    case $verb in
    perplexity) cp "$W/logits" "$W/got" ;;
    imatrix) cp "$W/i.dat" "$W/got" ;;
    sensitivity) cp "$W/s.json" "$W/got" ;;
    jsonl) sed 's/"timings":{[^}]*},//' "$W/out" >"$W/got" ;;
    *) cp "$W/out" "$W/got" ;;
    esac
}
above='2 5 10 100'
! is_sanitized || above='2 100'
# budgets VERB MODEL: the least that works, one less, and some above
budgets() {
    what="$1 $(basename "$2")"
    if ! command "$1" "$2" -q; then
        fail "$what" "exit $?"
        return
    fi
    cp "$W/got" "$W/want"
    mib=6
    if ! climb command "$1" "$2"; then
        fail "$what" "no budget works"
        return
    fi
    complains "$what: $mib MiB" "do not fit: "
    same "$what: $mib MiB" "$W/want" "$W/got"
    command "$1" "$2" --memory $((mib - less))MiB
    got=$?
    if [ $got = 4 ]; then pass; else fail "$what: $((mib - less)) MiB" "exit $got"; fi
    for more in $above; do
        if command "$1" "$2" --memory $((mib + more))MiB; then
            same "$what: $((mib + more)) MiB" "$W/want" "$W/got"
        else
            fail "$what: $((mib + more)) MiB" "exit $?"
        fi
    done
    if grep -q "do not fit" "$W/err"; then fail "$what: $mib MiB and 100" "read from files"; else pass; fi
}
for model in dense moe; do
    ok "$model: gguf" "$LBRX" convert "$W/$model" -o "$W/$model.gguf" --no-sync -q --set tokenizer.ggml.pre=str:gpt-2
    for v in generate jsonl chat score perplexity imatrix sensitivity; do
        case $model-$v in
        moe-jsonl | moe-chat | moe-score | moe-perplexity) if is_sanitized; then continue; fi ;; # as of the dense one
        esac
        budgets $v "$W/$model.gguf"
    done
    ok "$model: mlx" "$LBRX" quantize "$W/$model" -o "$W/$model-mlx" --to mlx --type mlx-q4 --no-sync -q
    ok "$model: q4_k_m" "$LBRX" quantize "$W/$model" -o "$W/$model-q.gguf" --type q4_k_m --no-sync -q --set tokenizer.ggml.pre=str:gpt-2
    ok "$model: split" "$LBRX" convert "$W/$model.gguf" -o "$W/$model-split.gguf" --max-shard-size 4MB --no-sync -q
    split=$(find "$W" -name "$model-split-00001-of-*.gguf")
    for m in "$W/$model" "$W/$model-mlx" "$W/$model-q.gguf" "$split"; do
        case $m in
        "$W/moe" | "$W"/moe-split*) if is_sanitized; then continue; fi ;;
        esac
        budgets generate "$m"
    done
done
budgets generate "$W/merge.yml"
budgets score "$W/merge.yml"

# ---- copies of all weights: --repack ----
for m in dense dense-mlx dense-q.gguf moe moe-mlx moe-q.gguf; do
    ok "$m" "$LBRX" generate "$W/$m" -p "the cat sat on" -n 12 --temp 0 -q
    mv "$W/out" "$W/want"
    ok "$m: --repack" "$LBRX" generate "$W/$m" -p "the cat sat on" -n 12 --temp 0 --repack
    same "$m: --repack" "$W/want" "$W/out"
    complains "$m: --repack" "are copied into memory"
    if ! is_sanitized; then # its allocator takes all of that; test_fault_stream has the least for it
        exits 4 "$m: --repack" "$LBRX" generate "$W/$m" -p x -n 1 --repack --memory 9MiB
        complains "$m: --repack" "a copy of the weights (--repack) of"
    fi
done
ok "bench --repack" "$LBRX" bench "$W/moe" -p 0 -n 4 -r 1 --repack --json
says "bench --repack" '"bandwidth_share":'

# ---- what the process holds, by the kernel's count ----
# holds MIB MODEL ARGS...: bench in that budget
holds() {
    mib=$1 of=$2
    shift 2
    [ $limited = yes ] || return 0
    # shellcheck disable=SC2016 # expanded by the inner shell
    ok "$mib MiB: $of" sh -c 'ulimit -d "$1"; shift; exec "$LBRX" "$@"' sh $(((mib + 16) * 1024)) bench "$of" \
        -p 40 -n 6 -r 2 --memory "${mib}MiB" --json "$@" || return
    says "$mib MiB: $of" '"streamed_bytes_per_token":'
    for peak in $(tr ',' '\n' <"$W/out" | sed -n 's/.*"peak_rss_bytes":\([0-9]*\).*/\1/p'); do
        if [ "$peak" -le $(((mib + 16) * 1048576)) ]; then pass; else fail "$mib MiB: $of" "$peak resident"; fi
    done
}
make_model gguf llama "$W/large" sparse=1 dtype=bf16 layers=24 hidden=1024 ffn=3072 heads=16 kv_heads=4 head_dim=64 vocab=32000
size=$(wc -c <"$W/large/model.gguf")
if [ "$size" -gt 700000000 ]; then pass; else fail "large" "$size bytes"; fi
for mib in 170 260 420; do holds $mib "$W/large/model.gguf"; done
make_model gguf qwen3moe "$W/wide" sparse=1 dtype=bf16 layers=12 hidden=512 ffn=768 heads=8 kv_heads=4 head_dim=64 vocab=32000 \
    experts=32 used=4
for mib in 120 200 400; do holds $mib "$W/wide/model.gguf"; done
ok "bench" "$LBRX" bench "$W/wide/model.gguf" -p 0 -n 4 -r 1 --memory 200MiB
says "bench" "a token from files"
complains "bench" "experts of"

# ---- a model that fits: its file, keys and values, and at most 200 MB ----
if [ $limited = yes ]; then
    ok "200 MB" "$LBRX" bench "$W/large/model.gguf" -p 512 -n 4 -r 1 --json
    kv=$((24 * 2 * 4 * 64 * 2 * 576))
    for peak in $(tr ',' '\n' <"$W/out" | sed -n 's/.*"peak_rss_bytes":\([0-9]*\).*/\1/p'); do
        if [ "$peak" -le $((size + kv + 200000000)) ]; then pass; else fail "200 MB" "$peak resident, $size of it mapped"; fi
    done
fi
rm -rf "$W/large" "$W/wide"

# ---- a session that does not fit: the least is named before anything of it is made, and works ----
for with in "--ctx 30000" "--ctx 3000 --batch 2000" "--ctx 9000 --kv-type q8_0 -t 3" "--ctx 100 --batch 64"; do
    turn=$((turn + 1))
    for model in dense moe; do
        for mib in 8 16 24; do
            case $model in dense) in_turn 0 2 || continue ;; *) in_turn 1 2 || continue ;; esac
            # shellcheck disable=SC2086 # options
            "$LBRX" generate "$W/$model.gguf" -p x -n 2 $with --memory ${mib}MiB >"$W/out" 2>"$W/err" && continue
            least=$(sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p' "$W/err")
            if [ -z "$least" ]; then continue; fi # the model itself has no room
            # shellcheck disable=SC2086
            ok "$model $with in $least MiB" "$LBRX" generate "$W/$model.gguf" -p x -n 2 $with --memory $((least + 1))MiB
            # shellcheck disable=SC2086
            exits 4 "$model $with in less" "$LBRX" generate "$W/$model.gguf" -p x -n 2 $with --memory $((least - 4))MiB
        done
    done
done
exits 4 "67108864 positions" "$LBRX" generate "$W/moe.gguf" -p x -n 2 --ctx 67108864 --memory 100MiB
least=$(sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p' "$W/err")
[ "${least:-0}" -ge $((6 * 2 * 2 * 64 * 2 * 64)) ] && pass || fail "67108864 positions" "$least MiB"

# ---- files that go away ----
long_enough() {
    "$LBRX" generate "$1" -p x -n 4 --ctx 4000 "$2" "$3" >"$W/out" 2>"$W/err"
}
for model in dense moe; do
    mib=8
    climb long_enough "$W/$model.gguf" || fail "$model: --ctx 4000" "no budget works"
    few=$((mib + 2))MiB
    cp "$W/$model.gguf" "$W/cut.gguf"
    size=$(wc -c <"$W/cut.gguf")
    ends_running "$model: cut" "$W/cut.gguf" "--ctx 4000 --context-shift -q --memory $few" truncate -s 8192 "$W/cut.gguf"
    complains "$model: cut" "was cut to 8192 bytes while it was in use: it had $size"
    cp "$W/$model.gguf" "$W/gone.gguf"
    ok "$model: stays" "$LBRX" generate "$W/gone.gguf" -p "the cat sat on" -n 300 --temp 0 --ignore-eos -q
    mv "$W/out" "$W/want"
    rm -f "$W/got"
    "$LBRX" generate "$W/gone.gguf" -p "the cat sat on" -n 300 --ctx 4000 --temp 0 --ignore-eos -q --memory "$few" >"$W/got" 2>"$W/err" &
    pid=$!
    while [ ! -s "$W/got" ] && kill -0 $pid 2>/dev/null; do sleep 0.05; done
    rm "$W/gone.gguf"
    if wait $pid; then pass; else fail "$model: removed" "exit $?"; fi
    same "$model: removed" "$W/want" "$W/got"
done
finish
