#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage.sh: help, version, suggestions, exit codes, completion, the environment.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

ok version "$LBRX" --version
says version "lbrx $(cat "$root/VERSION")"
ok help "$LBRX" help
says help "Commands:"
ok help-flag "$LBRX" --help
exits 2 "no command" "$LBRX"
complains "no command" "lbrx help"
[ "$(wc -l <"$W/err")" -eq 1 ] && pass || fail "no command" "not one line on stderr"

# The first word of commands of two.
exits 2 "half a command" "$LBRX" lora
complains "half a command" "lora what? 'lbrx help lora' lists what there is"
ok "half a command: help" "$LBRX" help lora
for word in extract fuse convert; do says "half a command: help" "lora $word"; done

# Every command that help lists has a help page with usage and examples, by three ways the same.
commands=$("$LBRX" help | sed -n 's/^  \([a-z][a-z ]*[a-z]\)   *[A-Z].*/\1/p')
[ -n "$commands" ] || fail commands "help lists none"
echo "$commands" | while read -r command; do echo "$command"; done >"$W/commands"
while read -r command; do
    # shellcheck disable=SC2086 # a command may be two words
    ok "$command --help" "$LBRX" $command --help
    says "$command" "Usage: lbrx $command"
    says "$command" "Examples:"
    cp "$W/out" "$W/page"
    # shellcheck disable=SC2086
    ok "help $command" "$LBRX" help $command
    same "help $command" "$W/page" "$W/out"
    if awk 'length($0) > 80 && !/^  (lbrx|#|source)/ { exit 1 }' "$W/page"; then
        pass
    else
        fail "$command" "a help line of more than 80 columns"
    fi
done <"$W/commands"

exits 2 "unknown command" "$LBRX" inspekt x
complains "unknown command" "did you mean 'inspect'?"
exits 2 "far from any" "$LBRX" zzzzzz
complains "far from any" "lbrx help"
exits 2 "option without command" "$LBRX" --frob
complains "option without command" "unknown option '--frob'"
# What comes with later versions does not exist yet, not even in the help.
exits 2 "serve is not there yet" "$LBRX" serve
exits 2 "help serve" "$LBRX" help serve
exits 2 "the target named last" "$LBRX" convert x y.gguf
complains "the target named last" "an output is named with -o: -o y.gguf"
exits 2 "another tool's word" "$LBRX" convert x -o y --dtype bfloat16
complains "another tool's word" "did you mean bf16?"
exits 2 "another tool's option" "$LBRX" convert x -o y --outtype f16
complains "another tool's option" "did you mean --dtype?"
exits 3 "a name on the hub" "$LBRX" inspect some/Model-1B
complains "a name on the hub" "a model of the hub is called hf://some/Model-1B"
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' >"$W/pointer.gguf"
exits 3 "a pointer" "$LBRX" inspect "$W/pointer.gguf"
complains "a pointer" "a Git LFS pointer"
printf '<!DOCTYPE html>\n<html></html>\n' >"$W/page.gguf"
exits 3 "a web page" "$LBRX" inspect "$W/page.gguf"
complains "a web page" "a web page"
mkdir "$W/web"
cp "$W/page.gguf" "$W/web/model.safetensors"
exits 3 "a web page for weights" "$LBRX" inspect "$W/web"
complains "a web page for weights" "a web page"
rm -r "$W/web"
exits 2 "--codes knows no other word" "$LBRX" convert x -o y --codes some
exits 2 "--mtp knows no other word" "$LBRX" convert x -o y --mtp maybe
exits 2 "unknown option" "$LBRX" info --jsno
complains "unknown option" "did you mean --json?"
exits 2 "argument too many" "$LBRX" info x
complains "argument too many" "info: unexpected argument 'x': 'lbrx inspect x' shows a model"
exits 2 "help of nothing" "$LBRX" help nonsense
exits 2 "no shell" "$LBRX" completion
exits 2 "unknown shell" "$LBRX" completion csh

ok info "$LBRX" info
says info "cpu families"
ok "info --json" "$LBRX" info --json --kernels
cp "$W/out" "$W/info.json"
if command -v python3 >/dev/null 2>&1; then
    ok "info is JSON" python3 -c 'import json,sys
d = json.load(open(sys.argv[1]))
assert d["version"] == sys.argv[2], d["version"]
assert d["cpu"]["cores"] >= 1 and d["page_bytes"] >= 4096 and d["memory_bytes"] > 0
assert "cpu" in d["devices"]
assert set("LBRX_CPU LBRX_LOG LBRX_CACHE HF_HOME HF_HUB_CACHE HF_ENDPOINT HF_TOKEN NO_COLOR TMPDIR "
           "XDG_CACHE_HOME".split()) <= set(d["environment"])
assert all(k["isa"] in ("ref", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512vbmi", "neon", "dotprod", "i8mm") for k in d["kernels"]) and d["kernels"]' \
        "$W/info.json" "$(cat "$root/VERSION")"
else
    skip "info is JSON" "no python3"
fi
ok "info --models" "$LBRX" info --models
says "info --models" "Qwen3MoeForCausalLM"
n_families=$(grep -c '^LB_FAMILY(' "$root/src/arch/families.def")
if [ "$(sed -n '/^models/,$p' "$W/out" | tail -n +2 | grep -c '^  [a-z]')" = "$n_families" ]; then pass; else fail "info --models" "not $n_families"; fi
ok "info --models --json" "$LBRX" info --models --json
says "info --models --json" '"classes": ["Gemma3ForCausalLM"'
ok "LBRX_CPU=ref" env LBRX_CPU=ref "$LBRX" info --kernels
if sed -n '/^kernels/,$p' "$W/out" | tail -n +2 | grep -qv ' ref$'; then
    fail "LBRX_CPU=ref" "a kernel is not the reference"
else
    pass
fi
LBRX_CPU=pentium exits 2 "LBRX_CPU unknown" "$LBRX" info
complains "LBRX_CPU unknown" "LBRX_CPU"

HF_TOKEN=hf_secret ok "a token" "$LBRX" info
says "a token" "HF_TOKEN"
if grep -q hf_secret "$W/out"; then fail "a token" "it is printed"; else pass; fi
HF_TOKEN=hf_secret ok "a token, JSON" "$LBRX" info --json
if grep -q hf_secret "$W/out"; then fail "a token, JSON" "it is printed"; else pass; fi
LBRX_LOG=1 ok log "$LBRX" info
complains log "log: lbrx "
LBRX_LOG=0 ok "no log" "$LBRX" info
[ ! -s "$W/err" ] && pass || fail "no log" "something on stderr"

# A result that cannot be written is a failure.
if [ -w /dev/full ]; then
    "$LBRX" info >/dev/full 2>"$W/err"
    if [ $? = 1 ] && grep -q '^lbrx: .*standard output' "$W/err"; then
        pass
    else
        fail "full disk" "not noticed"
    fi
fi

# The completion scripts are accepted by their shells, and bash's completes.
for shell in bash zsh fish; do
    ok "completion $shell" "$LBRX" completion $shell
    cp "$W/out" "$W/completion.$shell"
    if command -v $shell >/dev/null 2>&1; then
        ok "$shell reads its completion" $shell -n "$W/completion.$shell"
    else
        skip "$shell reads its completion" "no $shell"
    fi
done
if command -v bash >/dev/null 2>&1; then
    cat >"$W/try.bash" <<'END'
source "$W/completion.bash"
COMP_WORDS=(lbrx inf) COMP_CWORD=1; _lbrx; [ "${COMPREPLY[*]}" = info ] || exit 1
COMP_WORDS=(lbrx info --ker) COMP_CWORD=2; _lbrx; [ "${COMPREPLY[*]}" = --kernels ] || exit 2
COMP_WORDS=(lbrx completion z) COMP_CWORD=2; _lbrx; [ "${COMPREPLY[*]}" = zsh ] || exit 4
COMP_WORDS=(lbrx help insp) COMP_CWORD=2; _lbrx; [ "${COMPREPLY[*]}" = inspect ] || exit 5
COMP_WORDS=(lbrx info x) COMP_CWORD=2; _lbrx; [ "${COMPREPLY[*]}" = "" ] || exit 6
COMP_WORDS=(lbrx inspect --progress p) COMP_CWORD=3; _lbrx; [ "${COMPREPLY[*]}" = plain ] || exit 3
END
    ok "bash completes" bash "$W/try.bash"
fi
finish
