#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# rotate.sh: keys and values that are rotated before they are stored (`--kv-rotate`): where nothing is rounded the same
# probabilities as without, for every family whose heads can be; the same answer from every machine and number of threads;
# which heads cannot. Under sanitizers every second model and a shorter text.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}

lines=30 ctx=96
if is_sanitized; then lines=5 ctx=32; fi
cats $lines >"$W/book"
# perplexity_of MODEL OPTION...: of the text, or nothing
perplexity_of() {
    "$LBRX" perplexity "$@" -f "$W/book" --ctx $ctx --exact -q --json 2>"$W/err" |
        sed -n 's/.*"perplexity":\([^,]*\),.*/\1/p'
}
compared=0 refused=0
for file in "$GOLDEN"/logits/*.json; do
    family=$(basename "$file" .json)
    "$LOGITS" list "$file" | awk '$2 == "bpe" { print $1 }' >"$W/labels"
    while read -r label; do
        turn=$((turn + 1))
        in_turn 0 2 || continue
        rm -rf "$W/hf"
        mkdir "$W/hf"
        cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/hf"
        "$LOGITS" make "$file" "$label" "$W/hf" || exit 1
        off=$(perplexity_of "$W/hf" --kv-type f32 --kv-rotate off)
        on=$(perplexity_of "$W/hf" --kv-type f32 --kv-rotate on)
        if [ -n "$on" ] && [ -n "$off" ]; then
            compared=$((compared + 1))
            if [ "$on" = "$off" ]; then
                # a model of nothing but recurrent layers has no keys
                fail "$family $label" "nothing was rotated"
            elif awk -v a="$on" -v b="$off" 'BEGIN { d = a / b - 1; exit !(d < 1e-4 && d > -1e-4) }'; then
                pass
            else
                fail "$family $label" "perplexity $on, without $off"
            fi
        else
            refused=$((refused + 1))
            complains "$family $label" "cannot be rotated"
        fi
    done <"$W/labels"
done
least=8
! is_sanitized || least=4
[ "$compared" -ge $least ] && [ "$refused" -ge $least ] && pass || fail "models" "$compared compared, $refused refused"

make_model hf llama "$W/wide" vocab=400 # heads of 64
cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/wide"
# answer NAME OPTION...
answer() {
    what=$1
    shift
    ok "$what" "$LBRX" generate "$W/wide" -p "the cat sat on the mat" --temp 0 --ids --json --ignore-eos -n 40 "$@"
    sed 's/,"timings".*//' "$W/out" >"$W/$what"
}
for type in q8_0 q4_0 f16; do
    answer want --kv-type $type --kv-rotate on
    answer threads --kv-type $type --kv-rotate on -t 3 --batch 2
    same "$type, threads" "$W/want" "$W/threads"
    for isa in ref avx2; do
        LBRX_CPU=$isa
        export LBRX_CPU
        answer isa --kv-type $type --kv-rotate on
        unset LBRX_CPU
        same "$type, $isa" "$W/want" "$W/isa"
    done
done
# auto: where the type is quantized
for how in "q8_0 on" "q4_0 on" "f16 off" "f32 off"; do
    # shellcheck disable=SC2086 # two words
    set -- $how
    rm -f "$W"/*.session
    answer auto --kv-type "$1" --session "$W/auto.session"
    answer said --kv-type "$1" --kv-rotate "$2" --session "$W/said.session"
    same "auto, $1" "$W/auto.session" "$W/said.session"
done
exits 2 "a session that is rotated" "$LBRX" generate "$W/wide" -n 1 --kv-type f32 --kv-rotate on --session "$W/auto.session"
complains "a session that is rotated" "use --kv-rotate off"
finish
