#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shift.sh: a full context that goes on (`generate --context-shift`): keys of the first layer against those of a context that
# read the shorter text from the start, for every family and type of keys (rope of pairs, halves, parts; linear, yarn, llama3,
# longrope; of latent attention; norms behind it); which models cannot, by name; drafts and many prompts as without. Under
# sanitizers every second model has one of the types of keys, in turn, and two ways of drawing have drafts.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}
SHIFT=${SHIFT:-$root/build/cc/tests/shift}

# near NAME MODEL TYPE BOUND: 0: compared, or the model is none that can
near() {
    "$SHIFT" "$2" "$3" >"$W/out" 2>"$W/err"
    rc=$?
    case $rc in
    0)
        compared=$((compared + 1))
        if awk -v bound="$4" '!($1 <= bound) { exit 1 }' "$W/out"; then pass; else fail "$1 $3" "$(cat "$W/out") above $4"; fi
        ;;
    3)
        refused=$((refused + 1))
        grep -q "a full context cannot be shifted" "$W/err" && pass || fail "$1 $3" "refused without a reason"
        ;;
    1) grep -q "no whole blocks of $3" "$W/err" && pass || fail "$1 $3" "exit 1" ;;
    4) ;;
    *) fail "$1 $3" "exit $rc" ;;
    esac
}

compared=0 refused=0
for file in "$GOLDEN"/logits/*.json; do
    family=$(basename "$file" .json)
    "$LOGITS" list "$file" >"$W/cases" || exit 1
    while read -r label _; do
        rm -rf "$W/hf"
        "$LOGITS" make "$file" "$label" "$W/hf" || exit 1
        ! in_turn 0 6 || near "$family $label" "$W/hf" f32 2e-5
        ! in_turn 2 6 || near "$family $label" "$W/hf" f16 2e-3
        ! in_turn 4 6 || near "$family $label" "$W/hf" q8_0 2e-2
        turn=$((turn + 1))
    done <"$W/cases"
done
least=100
! is_sanitized || least=12
[ "$compared" -ge $least ] && [ "$refused" -ge $((least / 16)) ] && pass || fail "models" "$compared compared, $refused refused"

tiny() {
    mkdir "$W/$1"
    cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/$1"
    "$LOGITS" make "$GOLDEN/logits/$1.json" "$2" "$W/$1" || exit 1
}
tiny llama Llama-3.2-1B-Instruct
tiny lfm2 lfm2-by-number
tiny gpt2 gpt2
M=$W/llama
answers() {
    sed 's/"timings":.*//' "$W/out"
}
T="the cat sat on the mat"
ok "the context's end" "$LBRX" generate "$M" -p "$T" --temp 0 -n 100 --ctx 32 --ids --json --ignore-eos
says "the context's end" '"tokens":21'
for how in "--temp 0" "--seed 4" "--seed 4 --keep 5" "--temp 0 --keep -1" "--temp 0 --keep 3 --kv-type f32"; do
    # shellcheck disable=SC2086 # options
    ok "shifted, $how" "$LBRX" generate "$M" -p "$T" $how -n 100 --ctx 32 --ids --json --ignore-eos --context-shift
    says "shifted, $how" '"tokens":100'
    answers >"$W/want"
    if is_sanitized; then
        case $how in
        "--temp 0" | "--seed 4 --keep 5") ;;
        *) continue ;;
        esac
    fi
    for with in "--draft $M --draft-min-p 0" "--lookup 3" "-t 3" "--batch 3"; do
        # shellcheck disable=SC2086
        ok "shifted, $how $with" "$LBRX" generate "$M" -p "$T" $how -n 100 --ctx 32 --ids --json --ignore-eos --context-shift \
            $with
        answers >"$W/got"
        same "shifted, $how $with" "$W/want" "$W/got"
    done
done
printf '"%s"\n"a dog"\n"the cat and the dog"\n' "$T" >"$W/prompts"
ok "many" "$LBRX" generate "$M" --jsonl -f "$W/prompts" --seed 4 -n 100 --ctx 32 --ids --ignore-eos --context-shift --keep 2 -q
answers | sed -n 1p >"$W/got"
ok "alone" "$LBRX" generate "$M" -p "$T" --seed 4 -n 100 --ctx 32 --ids --json --ignore-eos --context-shift --keep 2
answers >"$W/want"
same "many" "$W/want" "$W/got"
# what was there before the first shift is as without
ok "before" "$LBRX" generate "$M" -p "$T" --seed 4 -n 21 --ctx 32 --ids --json --ignore-eos
sed 's/.*"ids":\(\[[^]]*\)\].*/\1/' "$W/out" >"$W/first"
if grep -qF "$(cat "$W/first")," "$W/want"; then pass; else fail "before" "another beginning"; fi
exits 3 "recurrent layers" "$LBRX" generate "$W/lfm2" -p "$T" -n 5 --context-shift
complains "recurrent layers" "recurrent layers keep one state"
exits 3 "learned positions" "$LBRX" generate "$W/gpt2" -p "$T" -n 5 --context-shift
complains "learned positions" "learned"
exits 2 "no count" "$LBRX" generate "$M" -p "$T" --context-shift --keep -2
exits 4 "a prompt that fills it" "$LBRX" generate "$M" -p "$T" -n 50 --ctx 12 --context-shift --keep -1
complains "a prompt that fills it" "nothing can leave it"
finish
