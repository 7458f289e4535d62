#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# imatrix.sh: importance matrices as arguments: shown and checked, and no models. Values and refusals
# of the reader: tests/unit/test_imatrix.c; against llama.cpp: tests/peers/peer_imatrix.py.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
made=$GOLDEN/imatrix

ok gguf "$LBRX" inspect "$made/tool.gguf" --tensors --metadata
for text in "format        imatrix (GGUF)" "datasets      calibration.txt" "chunks        3 of 512 tokens" \
    "entries       6 (1 with a count an expert)" "counts        9 (zero: 2)" "values        84" \
    "note: counts of zero: 2 of 9, the first of 'blk.0.ffn_down_exps.weight'" "imatrix.chunk_size u32 = 512" \
    "tensor                      columns  experts         counts  zero  chunks" \
    "blk.0.ffn_down_exps.weight        6        4  0 to 16777220     1   32768"; do
    says gguf "$text"
done
ok legacy "$LBRX" inspect "$made/tool.dat" --tensors
for text in "format        imatrix (legacy)" "datasets      calibration.txt" "chunks        3" "entries       5" \
    "blk.0.ffn_down_exps.weight      24        ?   32769     0   32769"; do
    says legacy "$text"
done
ok "an old one" "$LBRX" inspect "$made/old.dat"
says "an old one" "chunks        unknown"
says "an old one" "datasets      unknown"
ok json "$LBRX" inspect "$made/tool.dat" --json --hash
says json '"format": "imatrix"'
says json '"chunk_count": 3, "chunk_size": null'
# the name decides nothing
cp "$made/tool.dat" "$W/x.gguf"
cp "$made/tool.gguf" "$W/x.dat"
ok "called .gguf" "$LBRX" inspect "$W/x.gguf"
says "called .gguf" "imatrix (legacy)"
ok "called .dat" "$LBRX" inspect "$W/x.dat"
says "called .dat" "imatrix (GGUF)"

# ---- no model ----
for form in gguf dat; do
    exits 3 "convert $form" "$LBRX" convert "$made/tool.$form" -o "$W/made" --to hf
    complains "convert $form" "an importance matrix, not a model"
    exits 3 "diff $form" "$LBRX" diff "$made/tool.$form" "$made/tool.$form"
    exits 3 "split $form" "$LBRX" split "$made/tool.$form" -o "$W/made" --max-shard-size 1M
done
[ ! -e "$W/made" ] && pass || fail "no model" "something was written"

# ---- damage ----
for form in gguf dat; do
    size=$(wc -c <"$made/tool.$form")
    head -c $((size / 2)) "$made/tool.$form" >"$W/cut.$form"
    exits 3 "cut $form" "$LBRX" inspect "$W/cut.$form"
    complains "cut $form" "cut.$form"
    ok "verify $form" "$LBRX" verify "$made/tool.$form"
    says "verify $form" "no problem found"
    # a value of output.weight below zero: its sign is in the last byte of four
    at=$("$LBRX" inspect "$made/tool.$form" --json | sed -n 's/.*"output.weight[^}]*"offset": \([0-9]*\).*/\1/p' | tail -1)
    cp "$made/tool.$form" "$W/negative.$form"
    [ "$form" = dat ] || at=$("$LBRX" inspect "$made/tool.gguf" --json |
        sed -n 's/.*"output.weight.in_sum2[^}]*"offset": \([0-9]*\).*/\1/p')
    printf '\300' | dd of="$W/negative.$form" bs=1 seek=$((at + 7)) conv=notrunc 2>/dev/null
    exits 5 "negative $form" "$LBRX" verify "$W/negative.$form"
    says "negative $form" "importance of 'output.weight': value 1 of column 1 is -"
    printf '\177' | dd of="$W/negative.$form" bs=1 seek=$((at + 7)) conv=notrunc 2>/dev/null
    printf '\377' | dd of="$W/negative.$form" bs=1 seek=$((at + 6)) conv=notrunc 2>/dev/null
    exits 5 "NaN $form" "$LBRX" verify "$W/negative.$form" --json
    says "NaN $form" "value 1 of column 1 is nan"
done
printf 'short' >"$W/short"
exits 3 short "$LBRX" inspect "$W/short"
finish
