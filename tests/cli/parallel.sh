#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# parallel.sh: `lbrx generate --jsonl`: answers to many prompts are those to each alone, however many are made at a time, with
# any batch, any threads and any drafts; in order; what is refused. Under sanitizers a third of the ways, in turn.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}

cat >"$W/prompts" <<'END'
"the cat sat on"
{"text": "the cat sat on the mat", "n": 3}

{"prompt": "a dog", "seed": 9}
{"text": "the cat sat on the mat and the dog", "n": 25}
{"ids": [5, 6, 7, 8, 9, 10, 11]}
{"text": "x", "n": 0}
"the cat sat on the mat and the cat"
{"text": "mat", "n": 1, "seed": 4}
"the the the the the the the the the the the the the the the the the the the the the the the the the the the the the the"
END
# answers without timings
answers() {
    sed 's/"timings":{[^}]*},//' "$W/out"
}

# compare NAME MODEL OPTIONS...
compare() {
    what=$1 model=$2
    shift 2
    ok "$what" "$LBRX" generate "$model" --jsonl -f "$W/prompts" --parallel 1 -n 12 --ids -q --seed 3 --ctx 80 "$@"
    answers >"$W/want"
    [ "$(wc -l <"$W/want")" = 9 ] && pass || fail "$what" "not nine answers"
    turn=$((turn + 1)) way=0
    for how in "2" "3 --batch 7" "4 -t 2" "8 -t 1" "9 --batch 1" "64"; do
        way=$((way + 1))
        in_turn $((way % 3)) 3 || continue
        # shellcheck disable=SC2086 # options
        ok "$what, $how at a time" "$LBRX" generate "$model" --jsonl -f "$W/prompts" --parallel $how -n 12 --ids -q --seed 3 \
            --ctx 80 "$@"
        answers >"$W/got"
        same "$what, $how at a time" "$W/want" "$W/got"
    done
    # with drafts; each one's count of guesses is its own
    for how in "1 --lookup 3" "3 --lookup 2 --draft-max 16 --batch 5" "4 --draft $M --draft-min-p 0 -t 2" \
        "9 --draft $model --draft-min-p 0.3 --lookup 3 --batch 7" "64 --draft $M --draft-max 3 --draft-min-p 0"; do
        way=$((way + 1))
        in_turn $((way % 3)) 3 || continue
        # shellcheck disable=SC2086 # options
        ok "$what, drafts, $how" "$LBRX" generate "$model" --jsonl -f "$W/prompts" -n 12 --ids -q --seed 3 --ctx 80 "$@" \
            --parallel $how
        answers >"$W/got"
        same "$what, drafts, $how" "$W/want" "$W/got"
        tr ',{}' '\n' <"$W/out" | grep '"accepted":' >>"$W/accepted"
    done
    # each alone
    ok "$what alone" "$LBRX" generate "$model" -p "the cat sat on" -n 12 --ids --json --seed 3 --ctx 80 "$@"
    answers >"$W/got"
    sed -n 1p "$W/want" >"$W/one"
    same "$what alone" "$W/one" "$W/got"
    ok "$what alone" "$LBRX" generate "$model" -p "a dog" -n 12 --ids --json --seed 9 --ctx 80 "$@"
    answers >"$W/got"
    sed -n 3p "$W/want" >"$W/one"
    same "$what, its own seed" "$W/one" "$W/got"
    ok "$what alone" "$LBRX" generate "$model" -p "the cat sat on the mat and the dog" -n 25 --ids --json --seed 3 --ctx 80 "$@"
    answers >"$W/got"
    sed -n 4p "$W/want" >"$W/one"
    same "$what, its own length" "$W/one" "$W/got"
}

M=$W/llama
for family in "llama Llama-3.2-1B-Instruct" "gemma3 gemma-3-1b-it" "gpt_oss gpt-oss-values" "deepseek_v3 Moonlight-16B-A3B" \
    "lfm2 lfm2-by-number" "qwen3_next Qwen3-Next-MTP" "gpt2 gpt2"; do
    # shellcheck disable=SC2086 # two words
    set -- $family
    mkdir "$W/$1"
    cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/$1"
    "$LOGITS" make "$GOLDEN/logits/$1.json" "$2" "$W/$1" || exit 1
    compare "$1" "$W/$1" --ignore-eos
done
if grep -q '"accepted":0' "$W/accepted" && grep -q '"accepted":[1-9]' "$W/accepted"; then pass; else
    fail "guesses" "all right, or all wrong"
fi
compare "greedy, an end" "$M" --temp 0
printf 'root ::= ("the" | "cat" | " " | "o" | "a")* "."\n' >"$W/g.gbnf"
compare "a grammar" "$M" --grammar "$W/g.gbnf" --repeat-penalty 1.3
compare "a text that stops" "$M" --stop t --mirostat 2
compare "a context that moves" "$M" --ctx 40 --context-shift --ignore-eos
compare "a context that is full" "$M" --ctx 40 --ignore-eos

# a model's own guesses are all right, several sequences together, also where it had to come back to a state
for model in llama gemma3 lfm2 qwen3_next; do
    ok "$model by itself" "$LBRX" generate "$W/$model" --jsonl -f "$W/prompts" -n 30 --temp 0 --ignore-eos --parallel 4 \
        --draft "$W/$model" --draft-min-p 0
    if sed 's/.*, \([0-9]*\) of \([0-9]*\) guessed.*/\1 \2/; s/.*; \([0-9]*\) of \([0-9]*\) guessed.*/\1 \2/' "$W/err" |
        awk '$1 > 20 && $1 == $2 { ok = 1 } END { exit !ok }'
    then pass; else fail "$model by itself" "$(cat "$W/err")"; fi
    if grep -q '"accepted":[1-9]' "$W/out"; then pass; else fail "$model by itself" "no timings of guesses"; fi
done

ok "stdin" sh -c "'$LBRX' generate '$M' --jsonl -f - -n 2 --ids -q --seed 1 <'$W/prompts'"
[ "$(wc -l <"$W/out")" = 9 ] && pass || fail "stdin" "not nine answers"
ok "said" "$LBRX" generate "$M" --jsonl -f "$W/prompts" -n 2 --parallel 3
complains "said" "9 answers, 3 at a time"
: >"$W/nothing"
ok "nothing" "$LBRX" generate "$M" --jsonl -f "$W/nothing"
[ -s "$W/out" ] && fail "nothing" "an answer" || pass

# ---- what is refused, before anything is computed ----
bad() {
    printf '"the cat"\n%s\n' "$3" >"$W/bad"
    exits "$1" "$2" "$LBRX" generate "$M" --jsonl -f "$W/bad" -n 2
    complains "$2" "line 2"
}
bad 3 "no JSON" 'x'
bad 3 "no prompt" '{"n": 3}'
bad 3 "a number" '7'
bad 3 "ids that are none" '{"ids": [1, "a"]}'
bad 3 "no ids" '{"ids": []}'
bad 3 "a negative length" '{"text": "a", "n": -1}'
bad 3 "a seed that is none" '{"text": "a", "seed": "a"}'
bad 3 "an id beyond the vocabulary" '{"ids": [1, 99999999]}'
exits 4 "a prompt beyond the context" "$LBRX" generate "$M" --jsonl -f "$W/prompts" --ctx 8
complains "a prompt beyond the context" "line 1"
exits 2 "no file" "$LBRX" generate "$M" --jsonl -p x
exits 2 "none at a time" "$LBRX" generate "$M" --jsonl -f "$W/prompts" --parallel 0
exits 3 "a draft that is none" "$LBRX" generate "$M" --jsonl -f "$W/prompts" --draft "$W/none"
exits 2 "one token looked up" "$LBRX" generate "$M" --jsonl -f "$W/prompts" --lookup 1
finish
