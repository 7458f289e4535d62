#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# merge_random.sh: which random numbers a tensor gets hangs on the merge file and the seed alone: not on the output's
# order, type and layout, on merges around it, or on inputs that need none. Under sanitizers two methods, each with one of the ways to run.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
cd "$W" || exit 1

# three NAME FAMILY MORE: models NAME1 to NAME3
three() {
    for i in 1 2 3; do
        # shellcheck disable=SC2086
        make_model gguf "$2" "$W/made" seed=$i $3
        ok "model $1$i" "$LBRX" convert made/model.gguf -o "$1$i" --to hf
        rm -r made
    done
}
# random FILE METHOD SHARED BASE [MODEL PARAMETERS]...
random() {
    printf 'merge_method: %s\nbase_model: %s\nparameters: %s\ndtype: float32\nmodels:\n' "$2" "$4" "$3" >"$1"
    yml=$1
    shift 4
    while [ $# -gt 1 ]; do
        printf '  - {model: %s, parameters: %s}\n' "$1" "$2" >>"$yml"
        shift 2
    done
}
# same NAME FILE FILE
same() {
    if cmp -s "$2" "$3"; then pass; else fail "$1" "$2 and $3 differ"; fi
}

three d llama "layers=12 dtype=bf16"
three e qwen3moe "layers=2 dtype=f16"
three t llama "layers=2 tied=1 dtype=f32"
half="{weight: 0.5, density: 0.5, epsilon: 0.2}"
most="{weight: 0.7, density: 0.75}"
for method in dare_ties dare_linear della della_linear; do
    case $method in dare_linear | della) if is_sanitized; then continue; fi ;; esac # the same code
    own=$most
    case $method in della*) own="{weight: 0.7, density: 0.75, epsilon: 0.1}" ;; *) half="{weight: 0.5, density: 0.5}" ;; esac
    turn=$((turn + 1))
    for m in d e t; do
        case $m in
        e) in_turn 0 2 || continue ;;
        t) in_turn 1 2 || continue ;;
        esac
        # rows in another order (q and k), experts in one tensor, the order of GGUF; quantized; MLX
        random "$m.yml" "$method" "{}" "${m}1" "${m}2" "$half" "${m}3" "$own"
        ok "$method $m: hf" "$LBRX" merge "$m.yml" -o "$m-hf" --seed 5 --no-provenance --force
        ok "$method $m: gguf" "$LBRX" merge "$m.yml" -o "$m.gguf" --seed 5 --no-provenance --force
        ok "$method $m: gguf of hf" "$LBRX" convert "$m-hf" -o "$m-two.gguf" --no-provenance --force
        ok "$method $m: one pass is two" "$LBRX" diff "$m.gguf" "$m-two.gguf"
        ok "$method $m: mlx" "$LBRX" merge "$m.yml" -o "$m-mlx" --to mlx --seed 5 --no-provenance --force
        ok "$method $m: hf is mlx" "$LBRX" diff "$m-hf" "$m-mlx"
    done
    ok "$method: quantized" "$LBRX" merge d.yml -o q.gguf --type q4_0 --seed 5 --no-provenance --force
    ok "$method: quantized in two steps" "$LBRX" quantize d-two.gguf -o q-two.gguf --type q4_0 --no-provenance --force
    ok "$method: quantized one pass is two" "$LBRX" diff q.gguf q-two.gguf
    way=-1
    for how in "-t 1" "-t 4 --memory 24MiB" "--memory 64MiB --max-shard-size 20kB"; do
        way=$((way + 1))
        in_turn $way 3 || continue
        # shellcheck disable=SC2086
        ok "$method: $how" "$LBRX" merge d.yml -o d-how --seed 5 --no-provenance --force $how
        ok "$method: $how: the same" "$LBRX" diff d-hf d-how
    done
    ok "$method: another seed" "$LBRX" merge d.yml -o d-other --seed 6 --no-provenance --force
    exits 5 "$method: a seed is seen" "$LBRX" diff d-hf d-other

    # the file as a MODEL: of convert, and of a merge around it, whose own numbers begin anew
    ok "$method: seed 0" "$LBRX" merge d.yml -o d-hf --no-provenance --force
    ok "$method: convert" "$LBRX" convert d.yml -o d-convert --no-provenance --force
    ok "$method: convert is merge" "$LBRX" diff d-hf d-convert
    random around.yml "$method" "{rescale: false}" d1 d.yml "$half" d2 "$own"
    random step.yml "$method" "{rescale: false}" d1 d-hf "$half" d2 "$own"
    ok "$method: around" "$LBRX" merge around.yml -o d-around --no-provenance --force
    ok "$method: by steps" "$LBRX" merge step.yml -o d-step --no-provenance --force
    ok "$method: around is by steps" "$LBRX" diff d-around d-step

    # what is kept whole, or (della) dropped whole, takes no numbers
    whole="{weight: 0.0, density: 1.0}"
    random with.yml "$method" "{normalize: false}" d1 d2 "$whole" d3 "$half"
    random without.yml "$method" "{normalize: false}" d1 d3 "$half"
    ok "$method: with" "$LBRX" merge with.yml -o d-with --no-provenance --force
    ok "$method: without" "$LBRX" merge without.yml -o d-without --no-provenance --force
    ok "$method: all is kept" "$LBRX" diff d-with d-without
    random with.yml "$method" "{normalize: false}" d1 d2 "{weight: 0.0, density: 0.0}" d3 "$half"
    ok "$method: nothing" "$LBRX" merge with.yml -o d-with --no-provenance --force
    case $method in
    della*) ok "$method: nothing is kept" "$LBRX" diff d-with d-without ;;
    *) exits 5 "$method: nothing is kept, by numbers" "$LBRX" diff d-with d-without ;;
    esac
done

# ---- refusals ----
refuses() { # NAME TEXT: of no.yml
    exits 3 "$1" "$LBRX" merge no.yml -o none
    complains "$1" "$2"
    if [ -e none ] || [ -e none.lbrx-partial ]; then fail "$1" "something was written"; fi
}
random no.yml della "{}" d1 d2 "{weight: 1, density: 0.9}"
refuses "density and epsilon" "density 0.9 and epsilon 0.15"
random no.yml della_linear "{}" d1 d2 "{weight: 1, density: 0.1, epsilon: 0.1}"
refuses "density without epsilon" "density 0.1 and epsilon 0.1"
random no.yml dare_ties "{}" d1 d2 "{weight: 1, density: 1.5}"
exits 3 "density" "$LBRX" merge no.yml -o none
complains "density" "density"
finish
