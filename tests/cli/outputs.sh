#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# outputs.sh: what the writing commands leave alone: files behind links, sums that exist, the
# terminal, and the descriptors of a process that was started without some.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

if ! "$LBRX" help convert >"$W/out" 2>"$W/err"; then
    skip "everything" "this build does not list the command"
    finish
fi
mkdir "$W/g" "$W/s"
make_model gguf llama "$W/g"
make_model hf llama "$W/hf" shard=300000
G=$W/g/model.gguf
safetensors "$W/one.safetensors" \
    '{"a\u001b[2J":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}' \
    'abcd'

# ---- links under our own names ----
echo mine >"$W/mine"
ln -s "$W/mine" "$W/l.gguf.lbrx-journal"
exits 1 "link as journal" "$LBRX" convert "$G" -o "$W/l.gguf"
ln -s "$W/mine" "$W/k.gguf.lbrx-partial"
ok "link as partial" "$LBRX" convert "$G" -o "$W/k.gguf"
if [ "$(cat "$W/mine")" = mine ]; then pass; else fail "links" "the file behind one was written"; fi

# ---- left by a run to the other kind of output ----
mkdir "$W/f.gguf.lbrx-partial"
echo x >"$W/f.gguf.lbrx-partial/model.safetensors"
ok "folder as partial" "$LBRX" convert "$G" -o "$W/f.gguf"
echo x >"$W/d.lbrx-partial"
ok "file as partial" "$LBRX" convert "$W/hf" -o "$W/d"

# ---- sums ----
echo mine >"$W/x.gguf.sha256"
exits 2 "sums exist" "$LBRX" convert "$G" -o "$W/x.gguf" --sha256
complains "sums exist" "x.gguf.sha256' exists"
ok "sums replaced" "$LBRX" convert "$G" -o "$W/x.gguf" --sha256 --force
ok "sums of parts" "$LBRX" split "$G" -o "$W/s/x.gguf" --max-shard-size 300kB --sha256
ok "sums of parts hold" sh -c 'cd "$1" && sha256sum -c x.gguf.sha256' sh "$W/s"
says "sums of parts hold" "x-00002-of-"

# ---- a lone safetensors file ----
exits 2 "cut a lone file" "$LBRX" split "$W/one.safetensors" -o "$W/cut" --max-shard-size 2
ok "cut it into a folder" "$LBRX" split "$W/one.safetensors" -o "$W/cut" --max-shard-size 2 --to hf

# ---- names of a file on the terminal ----
ok "plan" "$LBRX" convert "$W/one.safetensors" -o "$W/t" --dry-run
says "plan" 'a\x1b[2J'
if grep -q "$(printf '\033')" "$W/out"; then fail "plan" "a control byte"; else pass; fi

# ---- closed descriptors ----
ok "no standard files" sh -c '"$LBRX" convert "$1" -o "$2" --to none <&- 2>&-' sh "$W/hf" "$W/n"
"$LBRX" convert "$W/hf" -o "$W/n" --progress plain <&- >&- 2>&-
exits 0 "written without them" "$LBRX" diff "$W/hf" "$W/n"
finish
