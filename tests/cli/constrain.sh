#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# constrain.sh: how `lbrx generate` chooses: every option of sampling, grammars and schemas (what tiny random models write
# under them is a text of the grammar, at any temperature), texts that stop, conversations.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}
SCHEMA=${SCHEMA:-$root/build/cc/tests/schema}

file=$GOLDEN/logits/llama.json
label=$("$LOGITS" list "$file" | awk '$2 == "bpe" { print $1; exit }')
mkdir "$W/bpe"
cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/bpe"
"$LOGITS" make "$file" "$label" "$W/bpe" || exit 1
make_model hf llama "$W/spm" tok=pieces vocab=4096 hidden=32 heads=2 kv_heads=1 head_dim=16 ffn=48 layers=2
make_model hf llama "$W/padded" vocab=560 hidden=32 heads=2 kv_heads=1 head_dim=16 ffn=48 layers=2
cp "$GOLDEN/text/llama3/tokenizer.json" "$GOLDEN/text/llama3/tokenizer_config.json" "$W/padded" # 488 tokens
cat >"$W/template.jinja" <<'END2'
{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' and no_system is defined %}{{ raise_exception('System role not supported') }}{% endif %}[{{ m['role'] }}]{{ m['content'] }}{% if style is defined %}({{ style }}){% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}
END2

# ids NAME COMMAND...: the ids of the prompt in $W/NAME.prompt, those of the answer in $W/NAME.ids
ids() {
    what=$1
    shift
    ok "$what" "$LBRX" generate "$@" --ids --json -t 1 || return
    sed 's/.*"prompt_ids":\[\([^]]*\)\].*/\1/' "$W/out" >"$W/$what.prompt"
    sed 's/.*"ids":\[\([^]]*\)\],"text".*/\1/' "$W/out" >"$W/$what.ids"
}
differ() {
    if cmp -s "$2" "$3"; then fail "$1" "no difference"; else pass; fi
}
TEXT="the cat sat on the mat"

# ---- every option reaches the sampler: with it the answer is another one, twice the same ----
set -- "$W/bpe" -p "$TEXT" -n 60 --seed 11 --ignore-eos
ids base "$@"
ids base2 "$@"
same "a seed" "$W/base.ids" "$W/base2.ids"
for o in "--temp 2" "--temperature 0.1" "--top-k 2" "--top-p 0.1" "--min-p 0.9" "--typical 0.2" "--top-n-sigma 0.5" \
    "--xtc-probability 1 --xtc-threshold 0.001" "--repeat-penalty 3" "--presence-penalty 4" "--frequency-penalty 4" \
    "--dynatemp-range 0.7 --dynatemp-exp 2" "--mirostat 2" "--mirostat 2 --mirostat-ent 1 --mirostat-lr 0.5" \
    "--samplers temperature" "--seed 12" "--typical-p 0.2" "--top-nsigma 0.5"; do
    # shellcheck disable=SC2086 # words
    ids option "$@" $o && differ "$o" "$W/base.ids" "$W/option.ids"
done
ids explicit "$@" --samplers "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature" --repeat-last-n 64 \
    --dry-penalty-last-n 64 --min-keep 0
same "the usual steps by name" "$W/base.ids" "$W/explicit.ids"
ids none "$@" --repeat-penalty 3 --repeat-last-n 0
same "a window of nothing" "$W/base.ids" "$W/none.ids"
ids all "$@" --repeat-penalty 3 --repeat-last-n -1
differ "a window of everything" "$W/base.ids" "$W/all.ids"
# DRY needs repetitions: a prompt full of them
set -- "$W/bpe" -p "the cat the cat the cat the cat" -n 40 --temp 0 --ignore-eos
ids rep "$@"
ids dry "$@" --dry-multiplier 30 --dry-base 3 --dry-allowed-length 1 --dry-penalty-last-n -1
differ "dry" "$W/rep.ids" "$W/dry.ids"
ids nodry "$@" --dry-multiplier 30 --dry-allowed-length 1 --dry-penalty-last-n 0
same "dry without a window" "$W/rep.ids" "$W/nodry.ids"
first=$(cut -d, -f1 "$W/rep.ids")
ids forbidden "$@" --logit-bias "$first=-inf"
if grep -q "\(^\|,\)$first\(,\|\$\)" "$W/forbidden.ids"; then fail "a forbidden token" "is there"; else pass; fi
ids wanted "$@" -n 3 --logit-bias 40=1000
printf '40,40,40\n' >"$W/want"
same "a token with a bias" "$W/want" "$W/wanted.ids"
ids other "$@" -n 3 --logit-bias 40+1000 --logit-bias 41=2000 --logit-bias 41-1500
same "several, as llama.cpp writes them" "$W/want" "$W/other.ids"

# Without a seed: another one each time, which --json tells and which gives the same again.
set -- "$W/bpe" -p "$TEXT" -n 20 --temp 3 --top-k 0 --top-p 1 --min-p 0 --ignore-eos
ids free "$@"
seed=$(sed 's/.*"seed":\([0-9]*\).*/\1/' "$W/out")
ids again "$@" --seed "$seed"
same "the seed that was drawn" "$W/free.ids" "$W/again.ids"
ids third "$@"
differ "another seed" "$W/free.ids" "$W/third.ids"

# ---- grammars: what comes is a text of them ----
cat >"$W/list.gbnf" <<'END2'
root ::= ("- " [a-z ]{1,12} "\n"){1,3}
END2
printf 'root ::= "(" root ")" | [0-9]{1,3} | "é€😀"' >"$W/nest.gbnf"
printf 'root ::= " yes" | " no" | "maybe"' >"$W/word.gbnf"
printf '# llama.cpp: arithmetic\nroot ::= (expr "=" [0-9]{1,4} "\\n"){1,2}\nexpr ::= term ([-+*/] term)?\nterm ::= [0-9]{1,3} | "(" [a-z] ")"\n' >"$W/arith.gbnf"
cat >"$W/city.json" <<'END2'
{"type":"object","properties":{"city":{"type":"string","maxLength":12},"people":{"type":"integer","minimum":0,"maximum":99999},
 "rivers":{"type":"array","items":{"type":"string","maxLength":5},"maxItems":2}},"required":["city","people","rivers"]}
END2
printf '{"enum":["red","gr\\u00fcn",3,null,{"a":[true]}]}' >"$W/enum.json"
printf '{"type":"string","format":"date-time"}' >"$W/date.json"
printf '{"$ref":"#/$defs/t","$defs":{"t":{"anyOf":[{"type":"null"},{"type":"array","items":{"$ref":"#/$defs/t"},"maxItems":2}]}}}' >"$W/tree.json"
printf '{}' >"$W/any.json"
whole=0
for model in bpe spm padded; do
    for g in list.gbnf nest.gbnf word.gbnf arith.gbnf city.json enum.json date.json tree.json any.json; do
        case $g in *.json) how=--json-schema ;; *) how=--grammar ;; esac
        for t in "--temp 0" "--temp 1 --seed 1" "--temp 5 --top-k 0 --top-p 1 --min-p 0 --seed 2" \
            "--temp 5 --top-k 0 --seed 3 --mirostat 2" "--temp 0 --repeat-penalty 2 --dry-multiplier 2"; do
            # shellcheck disable=SC2086 # words
            ok "$model $g $t" "$LBRX" generate "$W/$model" -p "$TEXT" -n 300 -t 1 $how "$W/$g" $t || continue
            cp "$W/out" "$W/text"
            verdict=$("$SCHEMA" whole "$W/$g" <"$W/text")
            case $verdict in
            yes) whole=$((whole + 1)) && pass ;;
            begun) # only for want of room
                # shellcheck disable=SC2086
                ok "$model $g $t again" "$LBRX" generate "$W/$model" -p "$TEXT" -n 300 -t 1 $how "$W/$g" $t --json
                says "$model $g $t: $verdict" '"finish_reason":"length"'
                ;;
            *) fail "$model $g $t" "'$(cat "$W/text")': $verdict" ;;
            esac
        done
    done
done
[ "$whole" -ge 90 ] && pass || fail grammars "only $whole of 135 texts came to an end"
ok "ends with the grammar" "$LBRX" generate "$W/bpe" -p "$TEXT" --grammar "$W/word.gbnf" --json --ignore-eos
says "ends with the grammar" '"finish_reason":"stop"'
for t in 1 3; do
    ok "threads $t" "$LBRX" generate "$W/spm" -p "$TEXT" --json-schema "$W/city.json" --seed 5 -t $t --batch 3
    cp "$W/out" "$W/threads.$t"
done
same "a grammar with one thread and three" "$W/threads.1" "$W/threads.3"
for d in "--lookup 2" "--draft $W/bpe"; do
    # shellcheck disable=SC2086
    ok "a grammar and $d" "$LBRX" generate "$W/bpe" -p "$TEXT" --json-schema "$W/city.json" --seed 5 $d
    cp "$W/out" "$W/drafted"
    ok "a grammar without" "$LBRX" generate "$W/bpe" -p "$TEXT" --json-schema "$W/city.json" --seed 5
    same "a grammar with guesses: $d" "$W/drafted" "$W/out"
done

# ---- grammars that are none ----
bad() {
    printf '%s' "$3" >"$W/$2"
    case $2 in *.json) how=--json-schema ;; *) how=--grammar ;; esac
    exits "$1" "$2" "$LBRX" generate "$W/bpe" -p "$TEXT" $how "$W/$2"
    complains "$2" "$4"
}
bad 3 left.gbnf 'root ::= root "a" | "b"' "left recursion"
bad 3 endless.gbnf 'root ::= "a" root' "has no text that ends"
bad 3 syntax.gbnf 'root ::= ("a"' "grammar:1:14"
bad 3 noroot.gbnf 'top ::= "a"' 'no rule "root"'
bad 3 token.gbnf 'root ::= <|no_such_token|>' "token.gbnf"
bad 4 large.gbnf 'root ::= "a"{1000000}' "more than 100000"
bad 3 broken.json '{"type":' "broken.json"
bad 3 contradicts.json '{"type":"integer","minimum":5,"maximum":3}' "no number is between"
bad 3 itself.json '{"type":"object","required":["a"],"properties":{"a":{"$ref":"#"}}}' "no document is valid"
bad 3 unknown.json '{"type":"object","patternProperties":{"a":{}}}' "patternProperties"
bad 3 none.json '{"type":"string","enum":[3]}' "none.json"
exits 3 "no such grammar" "$LBRX" generate "$W/bpe" -p "$TEXT" --grammar "$W/nothing.gbnf"
exits 2 "both" "$LBRX" generate "$W/bpe" -p "$TEXT" --grammar "$W/word.gbnf" --json-schema "$W/any.json"
complains "both" "one of them"
# A vocabulary without bytes: the pieces of the other tokenizer can write no euro sign.
printf 'root ::= "日"' >"$W/sun.gbnf"
printf 'root ::= "the 日"' >"$W/sun2.gbnf"
sed 's/"<0x/"<1x/g' "$W/spm/tokenizer.json" >"$W/t.json"
if ! cmp -s "$W/t.json" "$W/spm/tokenizer.json"; then
    cp -r "$W/spm" "$W/nobytes"
    mv "$W/t.json" "$W/nobytes/tokenizer.json"
    exits 3 "no token can begin" "$LBRX" generate "$W/nobytes" -p "$TEXT" --grammar "$W/sun.gbnf"
    complains "no token can begin" "no token of the model can begin"
    "$LBRX" generate "$W/nobytes" -p "$TEXT" --grammar "$W/sun2.gbnf" >"$W/out" 2>"$W/err"
    [ $? -eq 3 ] && pass || fail "no token can go on" "exit"
    complains "no token can go on" 'behind "the '
fi

# ---- texts that stop ----
ok "without a stop" "$LBRX" generate "$W/bpe" -p "$TEXT" -n 60 --temp 0 --ignore-eos
cp "$W/out" "$W/long"
n=$(wc -c <"$W/long")
tr '\n' ' ' <"$W/long" | cut -c 12-14 >"$W/cut"
stop=$(cat "$W/cut")
if [ "$n" -gt 20 ] && [ ${#stop} -ge 2 ] && grep -qF -- "$stop" "$W/long"; then
    ok "a stop" "$LBRX" generate "$W/bpe" -p "$TEXT" -n 60 --temp 0 --ignore-eos --stop "never there" --stop "$stop"
    if grep -qF -- "$stop" "$W/out"; then fail "a stop" "is printed"; else pass; fi
    printf %s "$(awk -v s="$stop" 'BEGIN { RS = "\001" } { i = index($0, s); printf "%s", substr($0, 1, i - 1) }' "$W/long")" >"$W/want"
    printf %s "$(cat "$W/out")" >"$W/got"
    same "up to the stop" "$W/want" "$W/got"
    ok "a stop, as JSON" "$LBRX" generate "$W/bpe" -p "$TEXT" -n 60 --temp 0 --ignore-eos --stop "$stop" --json
    says "a stop, as JSON" '"finish_reason":"stop"'
else
    fail "a stop" "the model writes too little"
fi
exits 2 "an empty stop" "$LBRX" generate "$W/bpe" -p "$TEXT" --stop ""
# A special token stops as a token: it has no text.
ok "a special token" "$LBRX" generate "$W/bpe" -p "$TEXT" --stop "<s>" --logit-bias 1=1000 --json --ids
says "a special token" '"ids":[],"text":"","finish_reason":"stop"'

# ---- conversations ----
t=$W/template.jinja
ids direct "$W/bpe" -p "<s>[system]be brief
[user]hi
[assistant]" -n 1
ids talk "$W/bpe" --chat -p hi --system "be brief" --chat-template "$t" -n 1
same "a system message" "$W/direct.prompt" "$W/talk.prompt"
printf '[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}]' >"$W/m.json"
ids list "$W/bpe" --messages "$W/m.json" --chat-template "$t" -n 1
same "messages" "$W/direct.prompt" "$W/list.prompt"
printf '{"messages":[{"role":"user","content":"hi"}],"style":"kind"}' >"$W/o.json"
ids object "$W/bpe" --messages "$W/o.json" --system "be brief" --chat-template "$t" -n 1 --kwargs '{"style":"short"}'
ids styled "$W/bpe" -p "<s>[system]be brief(short)
[user]hi(short)
[assistant]" -n 1
same "messages of an object, --kwargs first" "$W/styled.prompt" "$W/object.prompt"
ok "messages of stdin" sh -c "'$LBRX' generate '$W/bpe' --messages - --chat-template '$t' -n 1 <'$W/m.json'"
exits 3 "a template that raises" "$LBRX" generate "$W/bpe" --chat -p hi --system x --chat-template "$t" --kwargs '{"no_system":1}'
complains "a template that raises" "System role not supported"
exits 3 "messages that are none" "$LBRX" generate "$W/bpe" --messages "$W/enum.json" --chat-template "$t"
complains "messages that are none" "enum.json"
exits 2 "two systems" "$LBRX" generate "$W/bpe" --messages "$W/m.json" --system y --chat-template "$t"
exits 2 "a system without a chat" "$LBRX" generate "$W/bpe" -p hi --system y
complains "a system without a chat" "--system needs --chat"
exits 2 "kwargs that are no object" "$LBRX" generate "$W/bpe" --chat -p hi --kwargs 3
exits 3 "no template" "$LBRX" generate "$W/spm" --chat -p hi
complains "no template" "--chat-template"
exits 3 "no template file" "$LBRX" generate "$W/bpe" --chat -p hi --chat-template "$W/none.jinja"
exits 3 "a template's syntax" "$LBRX" generate "$W/bpe" --chat -p hi --chat-template "$W/list.gbnf.jinja"
printf '{{ %% }}' >"$W/syntax.jinja"
exits 3 "a template's syntax" "$LBRX" generate "$W/bpe" --chat -p hi --chat-template "$W/syntax.jinja"
complains "a template's syntax" "syntax.jinja"
printf '<|im_start|>{{ messages[0].content }}' >"$W/foreign.jinja"
ok "a foreign template" "$LBRX" generate "$W/bpe" --chat -p hi --chat-template "$W/foreign.jinja" -n 1
complains "a foreign template" "writes <|im_start|>, which is no token"
ok "a user who names tokens" "$LBRX" generate "$W/bpe" --chat -p "what is <|im_start|>?" -n 1
[ -s "$W/err" ] && fail "a user who names tokens" "is told of it" || pass

# ---- wrong usage ----
for o in "--logit-bias 5" "--logit-bias 5=" "--logit-bias 5=x" "--logit-bias =1" "--logit-bias 5=nan" "--samplers foo" \
    "--mirostat 1" "--mirostat 3" "--seed x" "--repeat-last-n x" "--repeat-last-n -2" "--dry-penalty-last-n 1e9" \
    "--repeat-penalty 0" "--logit-bias 99999999=1" "--temp x" "--stop"; do
    # shellcheck disable=SC2086
    exits 2 "$o" "$LBRX" generate "$W/bpe" -p "$TEXT" $o
done
complains "--stop" "needs a value"
ok "an empty prompt, for a model that begins with a token" "$LBRX" generate "$W/padded" -p "" -n 2
exits 2 "an empty prompt" "$LBRX" generate "$W/bpe" -p ""
complains "an empty prompt" "empty"
finish
