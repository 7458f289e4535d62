#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# template.sh: `lbrx template` on files and models: where a model has its templates, special tokens, options, exit codes.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

# prints TEXT NAME COMMAND...: exit 0 and exactly TEXT on stdout.
prints() {
    printf '%s' "$1" >"$W/want"
    shift
    ok "$@" && same "$1: text" "$W/want" "$W/out"
}

cat >"$W/t.jinja" <<'END'
{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}
{% endfor %}{{ tools | tojson if tools else 'no tools' }}{% if add_generation_prompt %}<go>{% endif %}{{ x }}
END
echo '{"messages": [{"role": "user", "content": "hé"}]}' >"$W/chat.json"
prints '<user>hé
no tools<go>' "a file" "$LBRX" template "$W/t.jinja" --input "$W/chat.json"
prints '<user>hé
no tools1' "options" "$LBRX" template "$W/t.jinja" --input "$W/chat.json" --no-generation-prompt --kwargs '{"x": 1}'
prints '[B]<user>hé
no tools<go>' "a token by hand" "$LBRX" template "$W/t.jinja" --input "$W/chat.json" --kwargs '{"bos_token": "[B]"}'
ok "stdin" sh -c "'$LBRX' template '$W/t.jinja' <'$W/chat.json'"
says "stdin" "<user>hé"

# ---- what goes wrong: one line, its exit code ----
echo '{% if messages %}{{ raise_exception("Roles must alternate") }}{% endif %}' >"$W/raise.jinja"
exits 3 "raise_exception" "$LBRX" template "$W/raise.jinja" --input "$W/chat.json"
complains "raise_exception" "raise.jinja: line 1: Roles must alternate"
[ -s "$W/out" ] && fail "raise_exception" "text on stdout" || pass
printf '\n{%% for x in y %%}' >"$W/open.jinja"
exits 3 "a syntax error" "$LBRX" template "$W/open.jinja" --input "$W/chat.json"
complains "a syntax error" "open.jinja: line 2: Unexpected end of template"
echo '{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}' >"$W/bomb.jinja"
exits 4 "a bomb" "$LBRX" template "$W/bomb.jinja" --input "$W/chat.json"
complains "a bomb" "steps"
echo '{% include "x" %}' >"$W/include.jinja"
exits 3 "include" "$LBRX" template "$W/include.jinja" --input "$W/chat.json"
complains "include" "'include' is not supported"
echo '{"messages": 1}' >"$W/bad.json"
exits 3 "no messages" "$LBRX" template "$W/t.jinja" --input "$W/bad.json"
echo '[' >"$W/bad.json"
exits 3 "no JSON" "$LBRX" template "$W/t.jinja" --input "$W/bad.json"
exits 2 "kwargs" "$LBRX" template "$W/t.jinja" --input "$W/chat.json" --kwargs '[]'
exits 3 "a file that is not there" "$LBRX" template "$W/none.jinja" --input "$W/chat.json"

# ---- models ----
"$MAKE_MODEL" hf llama "$W/m" >/dev/null || fail "model" "not made"
exits 3 "no template" "$LBRX" template "$W/m" --input "$W/chat.json"
complains "no template" "no chat template"
config() {
    printf '{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": %s}' "$1" \
        >"$W/m/tokenizer_config.json"
}
config '"{{ bos_token }}{{ eos_token }}{{ pad_token }}:{{ messages[0] }}"'
printf '{"messages": [{"role": "user", "content": null, "reasoning": "r"}]}' >"$W/null.json"
prints "<s></s>:{'thinking': 'r', 'role': 'user', 'reasoning': 'r', 'reasoning_content': 'r'}" "a config's" \
    "$LBRX" template "$W/m" --input "$W/null.json"
config '[{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}, {"name": "rag", "template": "R"}]'
prints D "the default" "$LBRX" template "$W/m" --input "$W/chat.json"
echo '{"messages": [{"role": "user"}], "tools": [{"name": "f"}]}' >"$W/tools.json"
prints T "tool_use" "$LBRX" template "$W/m" --input "$W/tools.json"
prints R "by name" "$LBRX" template "$W/m" --input "$W/chat.json" --name rag
exits 3 "an unknown name" "$LBRX" template "$W/m" --input "$W/chat.json" --name nope
echo '{"messages": []}' >"$W/empty.json"
exits 3 "an empty conversation" "$LBRX" template "$W/m" --input "$W/empty.json"
complains "an empty conversation" "the conversation is empty"
printf 'F{{ bos_token }}\n' >"$W/m/chat_template.jinja"
prints 'F<s>' "a file before the config" "$LBRX" template "$W/m" --input "$W/chat.json"
mkdir "$W/m/additional_chat_templates"
printf 'A' >"$W/m/additional_chat_templates/tool_use.jinja"
prints A "additional templates" "$LBRX" template "$W/m" --input "$W/tools.json"
prints 'F<s>' "beside the default" "$LBRX" template "$W/m" --input "$W/chat.json"

# ---- GGUF: with a tokenizer that can be a folder's, and with one that cannot ----
"$MAKE_MODEL" gguf llama "$W/g" >/dev/null || fail "gguf" "not made"
for kind in llama unheard-of; do
    ok "$kind: keys" "$LBRX" convert "$W/g/model.gguf" -o "$W/$kind.gguf" --set "tokenizer.ggml.model=str:$kind" \
        --set 'tokenizer.chat_template=str:{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ pad_token }}' \
        --set 'tokenizer.chat_template.tool_use=str:T{{ tools | length }}' --no-sync -q
    prints '<s></s><unk>' "$kind" "$LBRX" template "$W/$kind.gguf" --input "$W/chat.json"
    prints 'T1' "$kind: tool_use" "$LBRX" template "$W/$kind.gguf" --input "$W/tools.json"
done
exits 3 "a GGUF without" "$LBRX" template "$W/g/model.gguf" --input "$W/chat.json"
complains "a GGUF without" "no chat template"
finish
