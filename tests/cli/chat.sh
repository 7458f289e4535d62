#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# chat.sh: `lbrx chat`, line by line through pipes and on a terminal (tests/tool/pty.c plays the keys and looks at the
# screen). What the tiny random model answers is what a grammar lets it.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}
PTY=${PTY:-$root/build/cc/tests/pty}

file=$GOLDEN/logits/llama.json
label=$("$LOGITS" list "$file" | awk '$2 == "bpe" { print $1; exit }')
mkdir "$W/m"
cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/m"
"$LOGITS" make "$file" "$label" "$W/m" || exit 1
cat >"$W/m/chat_template.jinja" <<'END2'
{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' and no_system is defined %}{{ raise_exception('System role not supported') }}{% endif %}{% if 'FORBIDDEN' in m['content'] %}{{ raise_exception('not that word') }}{% endif %}{% if m['role'] != 'system' or deaf is not defined %}[{{ m['role'] }}]{{ m['content'] }}{{ '\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% if thinks is defined %}<think>
{% endif %}{% endif %}
END2
printf 'root ::= "The answer."' >"$W/answer.gbnf"
printf 'root ::= "Another one."' >"$W/another.gbnf"
printf 'root ::= ("word " [a-z] " "){90000}' >"$W/long.gbnf"
printf 'root ::= "<think>\\nso</think>\\nThe answer."' >"$W/marks.gbnf"
printf 'root ::= "a\\x1b[31mb\\x07c"' >"$W/escapes.gbnf"

# talk CODE NAME LINES OPTION...: the lines through a pipe
talk() {
    code=$1 what=$2
    printf '%b' "$3" >"$W/in"
    shift 3
    "$LBRX" chat "$W/m" "$@" <"$W/in" >"$W/out" 2>"$W/err"
    got=$?
    if [ "$got" = "$code" ]; then pass; else fail "$what" "exit $got, expected $code"; fi
}
# answers NAME LINE...: what stands on stdout
answers() {
    what=$1
    shift
    if [ $# -gt 0 ]; then printf '%s\n' "$@" >"$W/want"; else : >"$W/want"; fi
    same "$what" "$W/want" "$W/out"
}
silent() {
    if [ -s "$W/err" ]; then fail "$1" "something on stderr"; else pass; fi
}
A="--grammar $W/answer.gbnf -t 1"

# ---- through pipes ----
# shellcheck disable=SC2086 # words
{
    talk 0 "two messages" 'one\n\n  \ntwo\n' $A
    answers "two messages" "The answer." "The answer."
    silent "two messages"
    talk 0 "no line end" 'one' $A
    answers "no line end" "The answer."
    talk 0 "nothing" '' $A
    answers "nothing"
    talk 0 "exit" 'one\n/exit\ntwo\n' $A
    answers "exit" "The answer."
    talk 0 "quit" '/quit\ntwo\n' $A
    answers "quit"
}
talk 0 "saved" "one\\\\\nmore\n//slash\n/save $W/saved.json\n" $A
answers "saved" "The answer." "The answer."
complains "saved" "4 messages are in"
cat >"$W/want" <<'END2'
{
  "messages": [
    {
      "role": "user",
      "content": "one\nmore"
    },
    {
      "role": "assistant",
      "content": "The answer."
    },
    {
      "role": "user",
      "content": "/slash"
    },
    {
      "role": "assistant",
      "content": "The answer."
    }
  ]
}
END2
same "what was saved" "$W/want" "$W/saved.json"
[ "$(find "$W" -name '*partial*' | wc -l)" -eq 0 ] && pass || fail "what was saved" "something is left over"
# Loaded, it is the same conversation: the same is read.
talk 0 "loaded" "/load $W/saved.json\n/save $W/again.json\nnext\n/timings\n" $A
same "loaded and saved" "$W/saved.json" "$W/again.json"
complains "loaded" "4 messages from"
talk 0 "messages" 'next\n/timings\n' $A --messages "$W/saved.json"
complains "messages" "0 known before"
talk 0 "undone" "one\n/undo\n/save $W/u.json\n" $A
grep -q '"messages": \[\]' "$W/u.json" && pass || fail "undone" "something is left"
talk 0 "system" "/system be brief\none\n/clear\n/save $W/s.json\n/system\n/system -\n/system\n" $A
grep -q '"be brief"' "$W/s.json" && ! grep -q '"one"' "$W/s.json" && pass || fail "system" "is not kept alone"
complains "system" "be brief"
complains "system" "there is no system message"
talk 0 "system option" "/system\n" $A --system "from the start"
complains "system option" "from the start"
talk 0 "regen" "one\n/set grammar $W/another.gbnf\n/regen\n/save $W/r.json\n" $A
answers "regen" "The answer." "Another one."
grep -q 'Another one' "$W/r.json" && ! grep -q 'The answer' "$W/r.json" && pass || fail "regen" "the old one is there"
# What was read before is not read again.
talk 0 "kept" 'one\n/timings\ntwo\n/timings\n' $A
[ "$(grep -c '\[' "$W/err")" -eq 2 ] && tail -1 "$W/err" | grep -qv ' 0 known before' && pass || fail "kept" "nothing is"
# Random numbers: a seed is the whole conversation's, each answer has its own.
talk 0 "seed" 'one\n/regen\n' -n 8 --temp 3 --top-k 0 --top-p 1 --min-p 0 --seed 4
cp "$W/out" "$W/seed"
talk 0 "seed again" 'one\n/regen\n' -n 8 --temp 3 --top-k 0 --top-p 1 --min-p 0 --seed 4
same "a seed" "$W/seed" "$W/out"
for d in "--lookup 2" "--draft $W/m"; do
    # shellcheck disable=SC2086
    talk 0 "$d" 'one\n/regen\n' -n 8 --temp 3 --top-k 0 --top-p 1 --min-p 0 --seed 4 $d
    same "guesses change nothing: $d" "$W/seed" "$W/out"
done
talk 3 "json" 'one\n/regen\nFORBIDDEN\n' -n 8 --temp 3 --top-k 0 --top-p 1 --min-p 0 --seed 4 --json
[ "$(wc -l <"$W/out")" -eq 3 ] && pass || fail "json" "not a line each"
[ "$(sed -n 's/.*"content":\(.*\),"finish_reason":"length","timings".*/\1/p' "$W/out" | sort -u | wc -l)" -eq 2 ] && pass ||
    fail "json" "an answer and another one are the same"
grep -q '{"error":".*not that word' "$W/out" && pass || fail "json" "no error"
grep -q 'not that word' "$W/err" && fail "json" "the error is told twice" || pass

# Templates that are of another mind.
talk 3 "raises" "one\nFORBIDDEN\ntwo\n/save $W/f.json\n" $A
answers "raises" "The answer." "The answer."
complains "raises" "not that word"
[ "$(grep -c 'not that word' "$W/err")" -eq 1 ] && pass || fail "raises" "the error is told twice"
grep -q FORBIDDEN "$W/f.json" && fail "raises" "the message is kept" || pass
talk 3 "no system" "/system x\none\n/save $W/f.json\n" $A --kwargs '{"no_system":1}'
answers "no system" "The answer."
complains "no system" "System role not supported"
grep -q '"x"' "$W/f.json" && fail "no system" "it is kept" || pass
exits 3 "no system from the start" "$LBRX" chat "$W/m" --system x --kwargs '{"no_system":1}'
complains "no system from the start" "System role not supported"
talk 0 "deaf" 'one\n/system y\n' $A --system x --kwargs '{"deaf":1}'
complains "deaf" "leaves the system message out"
complains "deaf" "will not read it"

# Models that think first: what they think is kept apart.
talk 0 "thinks" "one\n/save $W/t.json\n" --grammar "$W/marks.gbnf"
answers "thinks" "The answer."
grep -q '"reasoning_content": "so"' "$W/t.json" && grep -q '"content": "The answer."' "$W/t.json" && pass || fail "thinks" "is not kept apart"
talk 0 "marks" 'one\n' --grammar "$W/marks.gbnf" --json
says "marks" '"reasoning_content":"so","content":"The answer.","finish_reason":"stop"'

# The template has opened the thought, and it does not end; a grammar is about the answer and knows nothing of that.
talk 0 "opened" 'one\n' -n 8 --kwargs '{"thinks":1}' --json
says "opened" '"content":""'
grep -q '"reasoning_content":".' "$W/out" && pass || fail "opened" "no thought"
talk 0 "a grammar" 'one\n' $A --kwargs '{"thinks":1}'
answers "a grammar" "The answer."

# Limits.
talk 4 "full" 'one\ntwo\nthree\nfour\nfive\n/clear\nsix\n' $A --ctx 64
complains "full" "the context room for 64: /undo, /clear"
tail -1 "$W/out" | grep -q 'The answer' && pass || fail "full" "no answer after /clear"
talk 0 "shift" "one\ntwo\nthree\nfour\nfive\nsix\n/save $W/shift.json\n/regen\n/undo\n/timings\n" $A --ctx 100 --context-shift --system "be brief"
[ "$(wc -l <"$W/out")" -eq 7 ] && pass || fail "shift" "not seven answers"
complains "shift" "messages are not read any more"
[ "$(grep -c '"role"' "$W/shift.json")" -eq 13 ] && pass || fail "shift" "the conversation is shorter"
# what stays in the context is not read again, but where the model cannot shift
talk 0 "shift, what is read" 'one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\n' $A --temp 0 --ctx 100 --context-shift --system "be brief" --json
sed 's/.*"prompt_tokens":\([0-9]*\),"kept_tokens":\([0-9]*\),.*/\1 \2/' "$W/out" | awk 'NR > 1 && ($1 > 30 || $2 < 34) { bad = 1 } END { exit bad || NR != 8 }' &&
    pass || fail "shift, what is read" "the conversation was read again"
talk 4 "a message that never fits" 'one\nthis is a message that is longer than the whole context of so few tokens, whatever is left out before it\ntwo\n' $A --ctx 64 --context-shift
[ "$(wc -l <"$W/out")" -eq 2 ] && pass || fail "a message that never fits" "not two answers"
talk 0 "cut off" 'one\n' --grammar "$W/long.gbnf" --ctx 64
complains "cut off" "the context is full"
talk 0 "-n" 'one\n' --grammar "$W/long.gbnf" -n 3
complains "-n" "cut off after 3 tokens: -n"

# What is set.
talk 2 "set" '/set temp x\n/set nothing 1\n/set temp 0.5\n/set top_k 7\n/set stop a\n/set stop b\n/set stop\n/set\n/set mirostat 1\n/bogus\n/help me\n/timings x\n/save\n' -q
complains "set" "'x' is not a number"
complains "set" "unknown option '--nothing'"
complains "set" "there is no command /bogus"
complains "set" "/help takes nothing behind it"
complains "set" "'x' is not one of on|off"
talk 0 "values" '/set temp 0.5\n/set top_k 7\n/set stop a\n/set stop b\n/set logit-bias 3=-inf\n/set\n/set stop\n/set\n/set temp\n/set\n' --seed 5
sed 's/  */ /' "$W/err" >"$W/values"
for v in 'temp 0.5' 'top-k 7' 'stop "a", "b"' 'stop -' 'logit-bias "3=-inf"' 'temp 0.8' 'seed 5'; do
    grep -qxF "$v" "$W/values" && pass || fail "values" "no $v"
done
talk 3 "a grammar that is none" "/set grammar $W/m/config.json\none\n" $A
answers "a grammar that is none" "The answer."
talk 3 "no such file" '/load /nonexistent\none\n' $A
answers "no such file" "The answer."
talk 1 "cannot be saved" 'one\n/save /nonexistent/x\n' $A
talk 2 "a nearly right command" '/regn\n' -q
complains "a nearly right command" "did you mean /regen"
exits 2 "an option" "$LBRX" chat "$W/m" --temp x
exits 3 "no model" "$LBRX" chat "$W/none"
exits 2 "no argument" "$LBRX" chat
# A signal ends it, and says so.
mkfifo "$W/fifo"
"$LBRX" chat "$W/m" --grammar "$W/long.gbnf" --ctx 60000 <"$W/fifo" >"$W/out" 2>"$W/err" &
pid=$!
exec 9>"$W/fifo"
echo one >&9
i=0
while [ ! -s "$W/out" ] && [ $i -lt 100 ]; do
    sleep 0.1
    i=$((i + 1))
done
kill -TERM "$pid"
wait "$pid"
[ $? -eq 130 ] && pass || fail "a signal" "not 130"
exec 9>&-

# ---- on a terminal ----
# play NAME WANT OPTION...: the script on stdin; how it ended
play() {
    what=$1 ends=$2
    shift 2
    cat >"$W/script"
    XDG_CACHE_HOME=$W/cache "$PTY" "${ROWS:-24}" "${COLUMNS_:-60}" "$W/script" "$LBRX" chat "$W/m" "$@" >"$W/out" 2>"$W/err"
    case $? in
    0) if [ "$(cat "$W/out")" = "$ends" ]; then pass; else fail "$what" "not '$ends'"; fi ;;
    77) skip "$what" "no terminals" ;;
    *) fail "$what" "$(head -1 "$W/out")" ;;
    esac
}
unset LBRX_CACHE NO_COLOR
TERM=xterm
export TERM
play "a message" "exit 0 restored" --grammar "$W/answer.gbnf" <<'END2'
wait /help tells what can be typed
wait >
raw \e[?2004h
type hello\r
wait The answer.
raw \e[?2004h
type \x04
raw \e[?2004l
END2
play "editing" "exit 0 restored" --grammar "$W/answer.gbnf" <<'END2'
wait >
type wörld 日本語
wait > wörld 日本語
type \x01hello \x05!
wait > hello wörld 日本語!
type \x17\x17
wait > hello
type \e[D\e[DX\x7f\x0b
wait > hell
type \x15
gone hell
type one\\\rtwo
wait . two
type \r
wait The answer.
type \e[A
wait > one
wait . two
type \x15\x08\x15/un\t
wait > /undo
type \r
wait taken back: 0 messages
type \e[A
wait > /undo
type \x15\e[200~a paste\nof two lines\e[201~
wait . of two lines
type \x0c
gone taken back
wait . of two lines
size 10 20
wait > a paste
type  that is too long for a row
wait is too long for a ro
size 24 70
wait . of two lines that is too long for a row
type \x03
wait >
type \x04
END2
play "ctrl-C stops an answer" "exit 0 restored" --grammar "$W/long.gbnf" --ctx 60000 <<'END2'
wait >
type one\r
raw word
type \x03
raw [stopped]
type two\r
raw word
type \x03
raw [stopped]
raw \e[?2004h
type \x03
wait ctrl-C again, or ctrl-D, leaves
type x
wait > x
type \x03
type \x03
wait ctrl-C again
type \x03
END2
play "typed ahead" "exit 0 restored" --grammar "$W/answer.gbnf" <<'END2'
wait >
type one\rtwo\rthree\r/exit\r
wait > three
END2
play "ends by a signal at the prompt" "exit 130 restored" --grammar "$W/answer.gbnf" <<'END2'
wait >
type some text
wait some text
signal TERM
END2
play "ends by a signal in an answer" "exit 130 restored" --grammar "$W/long.gbnf" --ctx 60000 <<'END2'
wait >
type one\r
wait word
signal TERM
END2
play "an interrupt that was sent" "exit 0 restored" --grammar "$W/answer.gbnf" <<'END2'
wait >
signal INT
wait ctrl-C again
signal INT
END2
play "a hangup" "signal 1 restored" --grammar "$W/answer.gbnf" <<'END2'
wait >
signal HUP
END2
play "thoughts are dim" "exit 0 restored" --grammar "$W/marks.gbnf" <<'END2'
wait >
type one\r
raw \e[2mso
raw \e[0m
wait The answer.
type /exit\r
END2
NO_COLOR=1 play "no colours" "exit 0 restored" --grammar "$W/marks.gbnf" <<'END2'
wait >
type one\r
raw so
wait The answer.
type /exit\r
END2
play "a model does not steer the terminal" "exit 0 restored" --grammar "$W/escapes.gbnf" <<'END2'
wait >
type one\r
wait a[31mbc
type /exit\r
END2
play "history of other days" "exit 0 restored" --grammar "$W/answer.gbnf" --history <<'END2'
wait >
type first\\\rof two\r
wait The answer.
type second \\\\ one\r
wait > second
type /exit\r
END2
[ -f "$W/cache/lbrx/chat_history" ] && [ "$(find "$W/cache/lbrx/chat_history" -perm 600 | wc -l)" -eq 1 ] && pass ||
    fail "history" "no file, or for everyone"
play "history comes back" "exit 0 restored" --grammar "$W/answer.gbnf" --history <<'END2'
wait >
type \e[A
wait > /exit
type \e[A
wait > second \\\\ one
type \e[A\e[A
wait > first
wait . of two
type \x03\x04
END2
rm -rf "$W/cache"
play "no history unless asked" "exit 0 restored" --grammar "$W/answer.gbnf" <<'END2'
wait >
type first\r
wait The answer.
type /exit\r
END2
[ -e "$W/cache" ] && fail "no history unless asked" "there is a file" || pass
play "words are not cut" "exit 0 restored" --grammar "$W/long.gbnf" -n 60 <<'END2'
wait >
type /help\r
wait {"messages": [...]}
wait ctrl-C stops an answer;
type /exit\r
END2
finish
