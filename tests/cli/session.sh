#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# session.sh: saved sessions (`generate --session`, `chat --session`, /save and /load): what goes on is what would have come
# without a pause, for every kind of cache; files of other models and kinds, damaged, cut or newer ones; ctrl-C and kill -9.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}

# tiny FAMILY LABEL
tiny() {
    mkdir "$W/$1"
    cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/$1"
    "$LOGITS" make "$GOLDEN/logits/$1.json" "$2" "$W/$1" || exit 1
}
tiny llama Llama-3.2-1B-Instruct
for family in lfm2 qwen3_next deepseek_v2 gemma3 phi3; do
    label=$("$LOGITS" list "$GOLDEN/logits/$family.json" | awk '$2 == "bpe" { print $1; exit }')
    [ -n "$label" ] && tiny "$family" "$label"
done
tiny rope dynamic # trained with 24 positions
make_model hf llama "$W/wide" vocab=400 # heads of 64
cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/wide"
M=$W/llama S=$W/x.session
T="the cat sat on the mat"
G="--temp 0 --ids --json --ignore-eos -q"
# ids: of the last answer, a line each
ids() {
    sed 's/.*"ids":\[\([^]]*\)\],"text".*/\1/' "$W/out" | tr ',' '\n'
}
computed() {
    sed 's/.*"prompt_tokens":\([0-9]*\),.*/\1/' "$W/out"
}

# paused NAME MODEL OPTION...: 30 tokens at once, and 11, 1 and 18 of them.
paused() {
    what=$1 model=$2
    shift 2
    rm -f "$S"
    # shellcheck disable=SC2086 # options
    ok "$what, at once" "$LBRX" generate "$model" -p "$T" $G -n 30 "$@"
    ids >"$W/want"
    # shellcheck disable=SC2086
    ok "$what, begun" "$LBRX" generate "$model" -p "$T" $G -n 11 --session "$S" "$@"
    ids >"$W/got"
    for n in 1 18; do
        # shellcheck disable=SC2086
        ok "$what, $n more" "$LBRX" generate "$model" $G -n $n --session "$S" "$@"
        ids >>"$W/got"
        [ "$(computed)" = 1 ] && pass || fail "$what" "$(computed) tokens were read again"
    done
    same "$what" "$W/want" "$W/got"
}
models=0
for m in llama lfm2 qwen3_next deepseek_v2 gemma3 phi3; do
    [ -d "$W/$m" ] || continue
    models=$((models + 1))
    paused "$m" "$W/$m"
    if is_sanitized && [ $m != llama ]; then continue; fi
    paused "$m f32" "$W/$m" --kv-type f32
done
[ "$models" -ge 5 ] && pass || fail "models" "only $models"
for type in q8_0 q4_0; do # of heads as large as their blocks
    paused "$type" "$W/wide" --kv-type $type
done
paused "exact" "$M" --exact
paused "fast" "$M" --fast
paused "threads" "$M" -t 3 --batch 2
paused "penalties" "$M" --repeat-penalty 1.3 --repeat-last-n 40
paused "drafts" "$M" --lookup 3
paused "recurrent drafts" "$W/lfm2" --lookup 2
paused "shifted" "$M" --ctx 24 --context-shift --keep 3
paused "dynamic rope" "$W/rope" --ctx 64
# shellcheck disable=SC2086
{
    exits 2 "dynamic rope, a larger context" "$LBRX" generate "$W/rope" $G -n 1 --session "$S" --ctx 80
    complains "dynamic rope, a larger context" "use --ctx 64"
    rm "$S"
    ok "dynamic rope, within its training" "$LBRX" generate "$W/rope" -p "$T" $G -n 1 --session "$S" --ctx 24
    exits 2 "dynamic rope, beyond it" "$LBRX" generate "$W/rope" $G -n 1 --session "$S" --ctx 64
    complains "dynamic rope, beyond it" "use a smaller --ctx"
}

# the same file from any machine and number of threads
rm -f "$S"
# shellcheck disable=SC2086
{
    ok "a file" "$LBRX" generate "$M" -p "$T" $G -n 9 --session "$S" -t 1
    ok "a file without SIMD" env LBRX_CPU=ref "$LBRX" generate "$M" -p "$T" $G -n 9 --session "$W/ref.session" -t 2
    same "files" "$S" "$W/ref.session"
}

# ---- prompts that begin like the session ----
# shellcheck disable=SC2086
{
    rm -f "$S"
    ok "a prompt" "$LBRX" generate "$M" -p "$T" $G -n 0 --session "$S"
    prompt=$(computed)
    ok "a longer one" "$LBRX" generate "$M" -p "$T and the dog" $G -n 5 --session "$S"
    ids >"$W/got"
    [ "$(computed)" -lt "$prompt" ] && pass || fail "a longer one" "$(computed) of its tokens were read"
    ok "at once" "$LBRX" generate "$M" -p "$T and the dog" $G -n 5
    ids >"$W/want"
    same "a longer one" "$W/want" "$W/got"
    ok "a shorter one" "$LBRX" generate "$M" -p "$T" --temp 0 --ids --json --ignore-eos -n 5 --session "$S"
    complains "a shorter one" "tokens are used"
    [ "$(computed)" = 1 ] && pass || fail "a shorter one" "$(computed) of its tokens were read"
    ok "another one" "$LBRX" generate "$M" -p "a dog" --temp 0 --ids --json --ignore-eos -n 5 --session "$S"
    ids >"$W/got"
    ok "another one alone" "$LBRX" generate "$M" -p "a dog" $G -n 5
    ids >"$W/want"
    same "another one" "$W/want" "$W/got"
    rm -f "$S"
    ok "recurrent" "$LBRX" generate "$W/lfm2" -p "$T" $G -n 5 --session "$S"
    ok "recurrent, a shorter one" "$LBRX" generate "$W/lfm2" -p "the cat" $G -n 5 --session "$S"
    ids >"$W/got"
    ok "recurrent alone" "$LBRX" generate "$W/lfm2" -p "the cat" $G -n 5
    ids >"$W/want"
    same "recurrent, a shorter one" "$W/want" "$W/got"
}

# ---- what is refused, and stays as it is ----
# shellcheck disable=SC2086
{
    rm -f "$S"
    ok "begun" "$LBRX" generate "$M" -p "$T" $G -n 9 --session "$S"
    cp "$S" "$W/good"
    # refused CODE NAME TEXT OPTION...
    refused() {
        code=$1 what=$2 text=$3 model=$4
        shift 4
        cp "$S" "$W/before"
        exits "$code" "$what" "$LBRX" generate "$model" $G -n 5 --session "$S" "$@"
        complains "$what" "$text"
        same "$what: the file" "$W/before" "$S"
    }
    refused 3 "another model" "of another model" "$W/gemma3"
    cp -r "$M" "$W/near" # one value of one tensor
    size=$(wc -c <"$W/near/model.safetensors")
    printf '\101' | dd of="$W/near/model.safetensors" bs=1 seek=$((size - 1)) conv=notrunc 2>/dev/null
    refused 3 "nearly the same model" "of another model" "$W/near"
    refused 2 "another kind of keys" "use --kv-type f16" "$M" --kv-type f32
    refused 2 "rounded otherwise" "without --exact" "$M" --exact
    refused 2 "many prompts" "not with --jsonl" "$M" --jsonl -f "$W/good"
    refused 2 "a chat without a message" "--chat needs" "$M" --chat
    printf '\002' | dd of="$S" bs=1 seek=8 conv=notrunc 2>/dev/null
    refused 3 "a newer version" "version 2 of saved sessions" "$M"
    size=$(wc -c <"$W/good")
    for at in 70 97 200 $((size - 1)); do
        cp "$W/good" "$S"
        printf '\125' | dd of="$S" bs=1 seek=$at conv=notrunc 2>/dev/null
        cmp -s "$S" "$W/good" && printf '\252' | dd of="$S" bs=1 seek=$at conv=notrunc 2>/dev/null
        refused 3 "damaged at $at" "damaged" "$M"
    done
    for n in 0 7 50 100 $((size - 1)); do
        head -c "$n" "$W/good" >"$S"
        refused 3 "cut at $n" "$S: " "$M"
    done
    cp "$W/good" "$S"
    printf x >>"$S"
    refused 3 "longer" "damaged or incomplete" "$M"
    cp "$M/config.json" "$S"
    refused 3 "something else" "no saved session" "$M"
    exits 2 "no session, no prompt" "$LBRX" generate "$M" --session "$W/none.session" -n 1
    complains "no session, no prompt" "to begin a session"
    exits 3 "no folder" "$LBRX" generate "$M" -p x --session "$W/none/x.session" -n 1
    exits 1 "a folder of its name" "$LBRX" generate "$M" -p x --session "$W/llama" -n 1
}

# ---- inspect ----
cp "$W/good" "$S"
ok "inspect" "$LBRX" inspect "$S"
says "inspect" "saved session"
ok "inspect as JSON" "$LBRX" inspect "$S" --json
says "inspect as JSON" '"kv_type": "f16"'
exits 2 "inspect, tensors" "$LBRX" inspect "$S" --tensors
head -c 90 "$W/good" >"$W/cut.session"
exits 3 "inspect, cut" "$LBRX" inspect "$W/cut.session"

# ---- stopped, killed ----
# shellcheck disable=SC2086
{
    rm -f "$S"
    ok "at once" "$LBRX" generate "$M" -p "$T" $G -n 3000 --ctx 4000
    ids >"$W/want"
    "$LBRX" generate "$M" -p "$T" $G -n 3900 --ctx 4000 --session "$S" >"$W/out" 2>"$W/err" &
    pid=$!
    sleep 0.3
    kill -INT $pid
    wait $pid
    code=$?
    # an answer that came to its end before is no failure of the program
    [ $code = 130 ] || [ $code = 0 ] && pass || fail "stopped" "exit $code"
    if [ -f "$S" ]; then
        ok "stopped: it is whole" "$LBRX" inspect "$S" --json
        held=$(sed 's/.*"tokens": \([0-9]*\),.*/\1/' "$W/out")
        if [ "$held" -lt 2500 ]; then
            ok "stopped, going on" "$LBRX" generate "$M" $G -n 20 --ctx 4000 --session "$S"
            ids | head -20 >"$W/got"
            sed -n "$((held - prompt + 1)),$((held - prompt + 20))p" "$W/want" >"$W/part"
            same "stopped, going on" "$W/part" "$W/got"
        else
            skip "stopped, going on" "the answer was complete by then"
        fi
    else
        skip "stopped" "ctrl-C came before anything was read"
    fi
    # killed while it saves, again and again: the old or the new one stands there, whole
    ok "a long one" "$LBRX" generate "$M" -p "$T" $G -n 1500 --ctx 4000 --session "$S"
    i=0 whole=0 times=40
    ! is_sanitized || times=10
    while [ $i -lt $times ]; do
        "$LBRX" generate "$M" $G -n 1 --ctx 4000 --session "$S" >/dev/null 2>&1 &
        pid=$!
        sleep "0.0$((i % 10))"
        kill -KILL $pid 2>/dev/null
        wait $pid 2>/dev/null
        "$LBRX" inspect "$S" >/dev/null 2>&1 && whole=$((whole + 1))
        i=$((i + 1))
    done
    [ $whole = $times ] && pass || fail "killed" "$whole of $times times a whole session"
    ok "killed, going on" "$LBRX" generate "$M" $G -n 3 --ctx 4000 --session "$S"
    [ -e "$S.lbrx-partial" ] && fail "killed" "something is left beside" || pass
}

# ---- conversations ----
cat >"$M/chat_template.jinja" <<'END2'
{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}
END2
printf 'root ::= "The answer."' >"$W/answer.gbnf"
A="--grammar $W/answer.gbnf --json --temp 0"
# talk NAME LINES OPTION...
talk() {
    what=$1
    printf '%b' "$2" >"$W/in"
    shift 2
    "$LBRX" chat "$M" "$@" <"$W/in" >"$W/out" 2>"$W/err" && pass || fail "$what" "exit $?"
}
# shellcheck disable=SC2086
{
    talk "at once" 'one\ntwo\nthree\n' $A
    sed 's/,"timings".*"tokens"/ "tokens"/; s/"seconds".*//' "$W/out" | tail -1 >"$W/want"
    kept=$(sed -n '3s/.*"kept_tokens":\([0-9]*\),.*/\1/p' "$W/out")
    rm -f "$S"
    talk "begun" 'one\ntwo\n' $A --session "$S"
    ok "a conversation" "$LBRX" inspect "$S"
    says "a conversation" "conversation  yes"
    talk "gone on with" 'three\n' $A --session "$S"
    sed 's/,"timings".*"tokens"/ "tokens"/; s/"seconds".*//' "$W/out" >"$W/got"
    same "gone on with" "$W/want" "$W/got"
    got=$(sed -n 's/.*"kept_tokens":\([0-9]*\),.*/\1/p' "$W/out")
    [ "$got" = "$kept" ] && pass || fail "gone on with" "$got tokens were kept, without a pause $kept"
    talk "commands" "one\ntwo\n/save $W/y.session\n/clear\n/load $W/y.session\nthree\n" $A
    got=$(sed -n '$s/.*"kept_tokens":\([0-9]*\),.*/\1/p' "$W/out")
    [ "$got" = "$kept" ] && pass || fail "commands" "$got tokens were kept, without a pause $kept"
    printf '/load %s\n' "$W/good" >"$W/in"
    exits 2 "no conversation" sh -c "'$LBRX' chat '$M' <'$W/in'"
    complains "no conversation" "there is no conversation in it"
    refused 2 "a conversation" "go on with it by lbrx chat" "$M"
    exits 2 "two conversations" "$LBRX" chat "$M" --session "$S" --messages "$S"
    # a system message from now on
    talk "a system message" 'four\n/save '"$W/m.json"'\n' $A --session "$S" --system "Be brief."
    grep -q '"Be brief."' "$W/m.json" && pass || fail "a system message" "it is not in the conversation"
    rm -f "$S"
    talk "nothing said" '' $A --session "$S"
    talk "nothing said, gone on with" 'one\n' $A --session "$S"
}
finish
