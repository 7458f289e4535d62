#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# docs.sh: the commands that the documents show as runnable (blocks ```sh) run, in order, in one
# folder a document, with `lbrx` as this build. A document says what model its commands meet on a line
# `<!-- model: NAME.gguf FAMILY -->`: a made-up one of that family stands there under that name; a made-up adapter (PEFT)
# of a module on a line `<!-- adapter: FOLDER MODULE ROWS COLUMNS -->`.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

mkdir "$W/bin"
ln -s "$LBRX" "$W/bin/lbrx"
PATH=$W/bin:$PATH
export PATH
found=0
for document in "$root"/README.md "$root"/docs/*.md; do
    [ -f "$document" ] || continue
    block=$W/$(basename "$document" .md).sh
    awk '/^```sh$/ { inside = 1; next } /^```/ { inside = 0 } inside' "$document" >"$block"
    [ -s "$block" ] || continue
    found=$((found + 1))
    work=$W/work.$found
    mkdir "$work"
    sed -n 's/^<!-- model: \(.*\) -->$/\1/p' "$document" | while read -r file family; do
        "$MAKE_MODEL" gguf "$family" "$work/made" >/dev/null && mv "$work/made/model.gguf" "$work/$file" &&
            rmdir "$work/made"
    done
    sed -n 's/^<!-- adapter: \(.*\) -->$/\1/p' "$document" | while read -r folder module rows cols; do
        python3 "$root/tests/tool/make_adapter.py" "$work/$folder" '{"peft_type": "LORA", "r": 2, "lora_alpha": 4}' \
            "base_model.model.$module.lora_A.weight:2:$cols" "base_model.model.$module.lora_B.weight:$rows:2"
    done
    exits 0 "$(basename "$document")" sh -c "cd '$work' && set -eu && . '$block'"
done
# The list of changes names every family; no link within the tree is dead.
"$LBRX" info --models | sed '1,/^models/d; s/^  \([^ ]*\).*/\1/' >"$W/families"
if [ "$(wc -l <"$W/families")" -gt 40 ]; then pass; else fail families "not listed"; fi
while read -r family; do
    if grep -qF "\`$family\`" "$root/CHANGELOG.md"; then pass; else fail CHANGELOG.md "does not name $family"; fi
done <"$W/families"
for document in "$root"/*.md "$root"/docs/*.md "$root"/docs/perf/*.md; do
    grep -o '\](\([^)]*\))' "$document" | sed 's/^](//; s/[#)].*//' | grep -v '[: ]' | while read -r link; do
        [ -z "$link" ] || [ -e "$(dirname "$document")/$link" ] || echo "$document: $link"
    done
done >"$W/out"
if [ -s "$W/out" ]; then fail links "dead"; else pass; fi
# Every merge method is described; the pictures are what their script makes.
"$LBRX" merge --methods | sed -n 's/^\([a-z][a-z0-9_]*\) .*/\1/p' >"$W/methods"
if [ "$(wc -l <"$W/methods")" -gt 10 ]; then pass; else fail methods "not listed"; fi
while read -r method; do
    if grep -qF "\`$method\`" "$root/docs/merging.md"; then pass; else fail docs/merging.md "does not name $method"; fi
done <"$W/methods"
ok pictures python3 "$root/tools/merge_pictures.py" --check
[ "$found" -gt 0 ] || fail docs "no runnable block found"

# ---- every family has its row in the table, and a golden file ----
"$LBRX" info --models | sed -n '/^models/,$s/^  \([a-z0-9_-]*\)  .*/\1/p' | tr - _ >"$W/families"
[ "$(wc -l <"$W/families")" -gt 40 ] && pass || fail families "$(wc -l <"$W/families") listed"
while read -r family; do
    if ! grep -q "^| $family |" "$root/docs/formats.md"; then
        fail "$family" "no row in docs/formats.md"
    elif [ ! -f "$root/tests/golden/family/$family.json" ]; then
        fail "$family" "no golden file"
    else
        pass
    fi
done <"$W/families"
finish
