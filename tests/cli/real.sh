#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# real.sh: models that people have, where the cache folder has them (`./do demo` brings the first): log-probabilities
# of transformers in f32 (golden/real/make_real.py), of the file as it is and of what other formats make of it.
# Under sanitizers one of the texts.
cost=slow
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$(dirname "$MAKE_MODEL")/logits}
cache=${LBRX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lbrx}/demo

# same_as NAME MODEL GOLDEN LABEL TOLERANCE [OPTION...]
same_as() {
    what=$1 model=$2 golden=$3 label=$4 tolerance=$5
    shift 5
    if ! "$LBRX" score "$model" --jsonl --top 8 "$@" <"$W/ids" >"$W/out" 2>"$W/err"; then
        fail "$what" "score failed"
    elif ! worst=$("$LOGITS" check "$golden" "$label" "$tolerance" <"$W/out"); then
        : >"$W/out"
        fail "$what" "differs by $worst"
    else
        pass
    fi
}

texts='prose code mixed'
! is_sanitized || texts=prose
for golden in "$GOLDEN"/real/*.json; do
    file=$(basename "$golden" .json)
    model=$cache/$file
    if [ ! -f "$model" ]; then
        skip "$file" "not in the cache folder"
        continue
    fi
    sum=$(sed -n 's/^{"sha256": "\([0-9a-f]*\)".*/\1/p' "$golden")
    [ "$(sha256sum <"$model" | cut -c1-64)" = "$sum" ] && pass || fail "$file" "is another file than the golden's"
    ok "$file: hf" "$LBRX" convert "$model" -o "$W/hf" --to hf --dtype f32
    ok "$file: mlx" "$LBRX" convert "$W/hf" -o "$W/mlx" --to mlx
    for label in $texts; do
        "$LOGITS" ids "$golden" $label >"$W/ids"
        same_as "$file: $label" "$model" "$golden" $label 1e-3 --exact --kv-type f32
        same_as "$file: $label: hf" "$W/hf" "$golden" $label 1e-3 --kv-type f32
        same_as "$file: $label: mlx" "$W/mlx" "$golden" $label 1e-3 --kv-type f32
        # activations rounded where they meet quantized weights
        same_as "$file: $label: rounded" "$model" "$golden" $label 0.1
    done
    rm -rf "$W/hf" "$W/mlx"
done
finish
