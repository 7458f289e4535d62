#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# draft.sh: text with guesses of the next tokens is the text without, whoever guesses: the model itself, the same quantized,
# another one, what stood before; greedy and sampled, with penalties and grammars; dense, with windows, experts, latent
# attention, recurrent layers.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}

# tiny FAMILY LABEL TOKENIZER DIR
tiny() {
    mkdir "$4"
    case $3 in
    bpe) cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$4" ;;
    spm)
        cp "$GOLDEN/family/tokenizer.model" "$4"
        cp "$GOLDEN/family/tokenizer_config_spm.json" "$4/tokenizer_config.json"
        ;;
    esac
    "$LOGITS" make "$GOLDEN/logits/$1.json" "$2" "$4" || exit 1
}

# without_timings COMMAND...: stdout without what differs
without_timings() {
    "$@" -p "the cat sat on the mat, the cat sat" --ids --json --ignore-eos >"$W/out" 2>"$W/err" </dev/null &&
        sed 's/"timings":.*//' "$W/out"
}

# drafts NAME MODEL DRAFTS...: each sampling, without and with each draft
drafts() {
    what=$1 model=$2
    shift 2
    for how in "--temp 0 -n 40" "--seed 7 -n 40" "--temp 1.5 --seed 5 --top-k 0 --repeat-penalty 1.2 --dry-multiplier 0.8 -n 30" \
        "--temp 0 -n 1" "--mirostat 2 --seed 3 -n 25 -t 2 --kv-type f32"; do
        # shellcheck disable=SC2086 # options
        turn=$((turn + 1))
        in_turn 0 2 || continue
        without_timings "$LBRX" generate "$model" $how >"$W/plain" || fail "$what $how" "exit $?"
        for with in "--lookup 4" "--lookup 2 --draft-max 64" "$@"; do
            # shellcheck disable=SC2086
            if without_timings "$LBRX" generate "$model" $how $with >"$W/drafted"; then
                same "$what, $how, $with" "$W/plain" "$W/drafted"
            else
                fail "$what, $how, $with" "exit $?"
            fi
            tr ',' '\n' <"$W/out" | grep '"accepted":' >>"$W/accepted"
        done
    done
}

tiny llama Llama-3.2-1B-Instruct bpe "$W/llama"
tiny olmo2 OLMo-2-1124-7B-Instruct bpe "$W/other"
ok "gguf" "$LBRX" convert "$W/llama" -o "$W/x.gguf" --to gguf --no-sync -q --set tokenizer.ggml.pre=str:gpt-2
ok "quantized" "$LBRX" quantize "$W/x.gguf" -o "$W/q4.gguf" --type q4_0 --no-sync -q
drafts llama "$W/llama" "--draft $W/llama" "--draft $W/llama --draft-min-p 0 --draft-max 3" "--draft $W/other --draft-min-p 0" \
    "--draft $W/q4.gguf --lookup 3"
for family in "gemma3 gemma-3-1b-it bpe" "gpt_oss gpt-oss-values bpe" "deepseek_v3 Moonlight-16B-A3B bpe" "lfm2 lfm2-by-number bpe" \
    "qwen3_next Qwen3-Next-MTP bpe" "granitemoe granite-3.1-1b-a400m-instruct bpe" "gpt2 gpt2 bpe"; do
    # shellcheck disable=SC2086 # three words
    set -- $family
    tiny "$1" "$2" "$3" "$W/$1"
    drafts "$1" "$W/$1" "--draft $W/$1 --draft-min-p 0"
done
# a recurrent draft for a dense model, and the other way round
drafts "dense by recurrent" "$W/llama" "--draft $W/lfm2 --draft-min-p 0"
drafts "recurrent by dense" "$W/lfm2" "--draft $W/llama --draft-min-p 0"
if grep -qv ':0}*$' "$W/accepted" && grep -q ':0}*$' "$W/accepted"; then pass; else fail "guesses" "all right, or all wrong"; fi

# a model's own guesses are all right, also where it had to come back to a state
for model in llama gemma3 lfm2 qwen3_next; do
    for n in 9 40; do
        ok "$model by itself" "$LBRX" generate "$W/$model" -p "the cat sat" --temp 0 -n $n --ignore-eos --json \
            --draft "$W/$model" --draft-min-p 0
        if sed 's/.*"drafted":\([0-9]*\),"accepted":\([0-9]*\).*/\1 \2/' "$W/out" | awk '$1 > 0 && $1 == $2 { ok = 1 } END { exit !ok }'
        then pass; else fail "$model by itself" "some were wrong"; fi
    done
done

# ---- grammars ----
printf 'root ::= ("the" | "cat" | " " | "o" | "a")* "."\n' >"$W/g.gbnf"
for model in llama lfm2; do
    for how in "--temp 0" "--seed 9"; do
        # shellcheck disable=SC2086
        without_timings "$LBRX" generate "$W/$model" $how -n 30 --grammar "$W/g.gbnf" >"$W/plain" || fail "grammar" "exit $?"
        for with in "--lookup 3" "--draft $W/$model --draft-min-p 0"; do
            # shellcheck disable=SC2086
            without_timings "$LBRX" generate "$W/$model" $how -n 30 --grammar "$W/g.gbnf" $with >"$W/drafted"
            same "$model, a grammar, $how, $with" "$W/plain" "$W/drafted"
        done
    done
done

# ---- texts that stop, the context's end ----
for how in "--temp 0 -n 40 --stop t" "--temp 0 -n 400 --ctx 50" "--seed 2 -n 400 --ctx 37"; do
    # shellcheck disable=SC2086
    without_timings "$LBRX" generate "$W/llama" $how >"$W/plain" || fail "$how" "exit $?"
    # shellcheck disable=SC2086
    without_timings "$LBRX" generate "$W/llama" $how --draft "$W/llama" --draft-min-p 0 >"$W/drafted"
    same "drafts, $how" "$W/plain" "$W/drafted"
done
ok "timings" "$LBRX" generate "$W/llama" -p "the cat" --temp 0 -n 20 --ignore-eos --json --draft "$W/llama" --draft-min-p 0
says "timings" '"steps":'
says "timings" '"accepted":'

# ---- what is refused ----
tiny llama tied-biased spm "$W/spm"
exits 3 "another vocabulary" "$LBRX" generate "$W/llama" -p x --draft "$W/spm"
complains "another vocabulary" "the draft model has another vocabulary"
exits 3 "no model" "$LBRX" generate "$W/llama" -p x --draft "$W/none"
exits 2 "one token looked up" "$LBRX" generate "$W/llama" -p x --lookup 1
complains "one token looked up" "--lookup"
exits 2 "no probability" "$LBRX" generate "$W/llama" -p x --lookup 2 --draft-min-p 2
exits 2 "no length" "$LBRX" generate "$W/llama" -p x --lookup 2 --draft-max 0
finish
