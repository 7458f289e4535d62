#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# docs.sh: the commands that the documents show as runnable (blocks ```sh) run, in order, in one
# folder a document, with `lbrx` as this build. What a block needs it makes itself, or the document
# names its model on a line `<!-- needs: NAME -->`, a folder or file of tests/golden.
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
    for need in $(sed -n 's/^<!-- needs: \(.*\) -->$/\1/p' "$document"); do
        cp -R "$GOLDEN/$need" "$work/"
    done
    exits 0 "$(basename "$document")" sh -c "cd '$work' && set -eu && . '$block'"
done
[ "$found" -gt 0 ] || fail docs "no runnable block found"
finish
