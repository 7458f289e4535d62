#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# logits.sh: log-probabilities of tiny models of every family, as transformers computes them in f32
# (tests/golden/logits), by `lbrx score`: from the Hugging Face folder, from its GGUF, from its MLX form; and the same
# bytes however the tokens are cut into batches; under sanitizers one way and one other form in turn.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}

# compare WHAT MODEL FILE LABEL
compare() {
    if ! "$LBRX" score "$2" --jsonl --top 10 --kv-type f32 -q <"$W/ids" >"$W/got" 2>"$W/err"; then
        fail "$1" "exit $?"
    elif "$LOGITS" check "$3" "$4" 1e-3 <"$W/got" >"$W/out" 2>"$W/err"; then
        pass
    else
        fail "$1" "log-probabilities differ by $(cat "$W/out")"
    fi
}

# batch WHAT MODEL N: to $W/cutN
batch() {
    "$LBRX" score "$2" --jsonl --top 10 --batch "$3" -q <"$W/ids" >"$W/cut$3" 2>"$W/err" || fail "$1" "exit $?"
}

# cut WHAT MODEL: token after token, three at a time, all at once; f16 keys and values
cut() {
    batch "$1" "$2" 256
    if in_turn 0 2; then
        batch "$1" "$2" 1
        same "$1: batches of one" "$W/cut1" "$W/cut256"
    fi
    if in_turn 1 2; then
        batch "$1" "$2" 3
        same "$1: batches of three" "$W/cut3" "$W/cut256"
    fi
    turn=$((turn + 1))
}

# form WHAT TO FILE LABEL FLAGS...: the folder, converted
form() {
    what=$1 to=$2 file=$3 label=$4
    shift 4
    rm -rf "${W:?}/$to"
    exits 0 "$what" "$LBRX" convert "$W/hf" -o "$W/$to" --to "$to" --dtype f32 --no-sync -q "$@" || return
    compare "$what" "$W/$to" "$file" "$label"
}

for file in "$GOLDEN"/logits/*.json; do
    family=$(basename "$file" .json)
    "$LOGITS" list "$file" >"$W/cases" || exit 1
    while read -r label tokenizer forms; do
        rm -rf "$W/hf"
        set --
        case $tokenizer in
        bpe)
            set -- --set tokenizer.ggml.pre=str:gpt-2
            mkdir "$W/hf"
            cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/hf"
            ;;
        spm)
            mkdir "$W/hf"
            cp "$GOLDEN/family/tokenizer.model" "$W/hf"
            cp "$GOLDEN/family/tokenizer_config_spm.json" "$W/hf/tokenizer_config.json"
            ;;
        esac
        "$LOGITS" make "$file" "$label" "$W/hf" && "$LOGITS" ids "$file" "$label" >"$W/ids" || exit 1
        for to in $forms; do
            what="$family $label: $to"
            case $to in
            hf)
                compare "$what" "$W/hf" "$file" "$label"
                cut "$what" "$W/hf"
                ;;
            gguf) ! in_turn 0 2 || form "$what" gguf "$file" "$label" "$@" ;;
            mlx) ! in_turn 1 2 || form "$what" mlx "$file" "$label" ;;
            esac
        done
        # GGUF has [1, n] as [n]
        if [ "$family" = qwen2_moe ]; then
            what="$family $label: one row of a router"
            rm -f "$W/one_row.gguf"
            exits 0 "$what" "$LBRX" quantize "$W/hf" -o "$W/one_row.gguf" --type f32 --no-sync -q &&
                compare "$what" "$W/one_row.gguf" "$file" "$label"
        fi
    done <"$W/cases"
done
finish
