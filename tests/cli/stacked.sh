#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# stacked.sh: folders whose experts are stacked as in transformers 5's memory, beside those of the same model that keep them one
# by one: they compare as equal and merge with each other to the same bytes; a folder that has experts in both forms is refused.
# By transformers itself: tests/peers/peer_stacked.py.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}
REFORM=$root/tests/tool/reform.py
cd "$W" || exit 1

# merge NAME METHOD A B: of two folders, to "merged"
merge() {
    base='' more=''
    case $2 in
    slerp) base="base_model: $3" more='parameters: {t: 0.25}' ;;
    ties) base="base_model: $5" more='parameters: {normalize: true}' ;;
    esac
    printf 'merge_method: %s\n%s\n%s\ndtype: float32\nmodels:\n' "$2" "$base" "$more" >m.yml
    printf '  - model: %s\n    parameters: {weight: %s, density: 0.4}\n' "$3" 0.3 "$4" 0.9 >>m.yml
    rm -rf merged
    ok "$1, $2" "$LBRX" merge m.yml -o merged --no-sync -q --no-provenance
}

for family in "mixtral Mixtral-8x22B-v0.1" "qwen3_moe Qwen3-30B-A3B" "qwen2_moe Qwen1.5-MoE-A2.7B-Chat" "phimoe Phi-3.5-MoE-instruct" \
    "granitemoe granite-3.1-1b-a400m-instruct" "deepseek_v3 Moonlight-16B-A3B" "minimax_m2 MiniMax-M2-bf16" "lfm2_moe LFM2-8B-A1B" \
    "glm4_moe no-mtp" "ernie4_5_moe ERNIE-4.5-21B-A3B-PT" "qwen3_next Qwen3-Next-MTP"; do
    # shellcheck disable=SC2086 # two words
    set -- $family
    f=$1
    "$LOGITS" make "$GOLDEN/logits/$f.json" "$2" "$f-a" || exit 1
    for how in "b turned" "a-stacked stacked" "b-stacked turned stacked"; do
        # shellcheck disable=SC2086
        python3 "$REFORM" "$f-a" "$f-"$how || exit 1
    done
    ok "$f" "$LBRX" diff "$f-a" "$f-a-stacked" -q
    ok "$f, the other way round" "$LBRX" diff "$f-b-stacked" "$f-b" -q
    exits 5 "$f, another" "$LBRX" diff "$f-a" "$f-b-stacked"
    says "$f, another" " 0 only in A, 0 only in B"
    for method in linear slerp ties; do
        merge "$f" $method "$f-a" "$f-b" "$f-a"
        mv merged want
        for pair in "a b-stacked" "a-stacked b" "a-stacked b-stacked"; do
            # shellcheck disable=SC2086
            set -- $pair
            merge "$f, $pair" $method "$f-$1" "$f-$2" "$f-a-stacked"
            same "$f, $method, $pair" want/model.safetensors merged/model.safetensors
        done
        rm -rf want
    done
    # a merge that is not written, against a folder of either form
    printf 'merge_method: passthrough\nmodels:\n  - model: %s\n' "$f-a-stacked" >m.yml
    ok "$f, a merge file" "$LBRX" diff m.yml "$f-a" -q
    ok "$f, a merge file" "$LBRX" diff "$f-a-stacked" m.yml -q
    rm -rf "$f-b" "$f-b-stacked"
done

# ---- what is refused ----
python3 "$REFORM" mixtral-a twice stacked both || exit 1
merge_fails() {
    printf 'merge_method: linear\nmodels:\n  - model: mixtral-a\n    parameters: {weight: 1}\n  - model: %s\n    parameters: {weight: 1}\n' "$2" >m.yml
    exits 3 "$1" "$LBRX" merge m.yml -o merged --no-sync -q
    complains "$1" "$3"
}
merge_fails "both forms" twice "twice"
exits 5 "both forms" "$LBRX" diff mixtral-a twice
finish
