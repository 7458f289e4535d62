#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# roundtrip.sh: conversions end to end: GGUF, HF, MLX, GGUF, HF with equal tensors; the same bytes for
# any number of threads and any budget; killed at any time, --resume ends with the same bytes.
# LB_TEST_LONG=1 kills more often.
# shellcheck source=tests/cli_lib.sh
cost=slow
. "$(dirname "$0")/../cli_lib.sh"

# The name, type, shape and SHA-256 of every tensor, one a line, sorted.
tensors() {
    "$LBRX" inspect "$1" --hash --json |
        sed -n 's/^{"name": \(.*\), "bytes": .*"sha256": \("[0-9a-f]*"\)}.*/\1 \2/p' | sort
}

# same_tree NAME A B: equal folders or files.
same_tree() {
    if diff -r "$2" "$3" >"$W/out" 2>&1; then pass; else fail "$1" "$2 and $3 differ"; fi
}

# nothing_left NAME: no partial and no journal in $W/o.
nothing_left() {
    if find "$W/o" -name '*.lbrx-*' | grep . >"$W/out"; then fail "$1" "left behind"; else pass; fi
}

if ! "$LBRX" help convert >/dev/null 2>&1; then
    skip everything "this build does not list convert"
    finish
fi
mkdir "$W/o"
for family in llama qwen2 qwen3 gemma3 qwen3moe; do
    tolerance=0
    # Its made-up norms are w + 1 for a w that bf16 rounds.
    [ $family != gemma3 ] || tolerance=2e-2
    make_model gguf $family "$W/$family"
    ok "$family to HF" "$LBRX" convert "$W/$family/model.gguf" -o "$W/o/$family" --to hf -q
    ok "$family to MLX" "$LBRX" convert "$W/o/$family" -o "$W/o/$family-mlx" --to mlx -q
    ok "$family to GGUF" "$LBRX" convert "$W/o/$family-mlx" -o "$W/o/$family.gguf" -q
    ok "$family again" "$LBRX" convert "$W/o/$family.gguf" -o "$W/o/$family-again" --to hf -q
    tensors "$W/o/$family" >"$W/first"
    tensors "$W/o/$family-again" >"$W/last"
    [ -s "$W/first" ] || fail "$family" "no tensors listed"
    same "$family: HF, MLX, GGUF, HF" "$W/first" "$W/last"
    ok "$family values" "$LBRX" diff "$W/$family/model.gguf" "$W/o/$family" --tolerance "$tolerance"
    ok "$family verified" "$LBRX" verify "$W/o/$family-mlx"
done
# Codes that both formats have a form for go there and back as they are; --codes none makes values of them.
for type in q4_0 q4_1 q5_0 q5_1 q8_0; do
    make_model gguf llama "$W/$type" dtype=$type
    ok "$type to MLX" "$LBRX" convert "$W/$type/model.gguf" -o "$W/o/$type" --to mlx --lossless -q
    ok "$type back" "$LBRX" convert "$W/o/$type" -o "$W/o/$type.gguf" --lossless -q
    tensors "$W/$type/model.gguf" >"$W/first"
    tensors "$W/o/$type.gguf" >"$W/last"
    [ -s "$W/first" ] || fail "$type" "no tensors listed"
    same "$type: GGUF, MLX, GGUF" "$W/first" "$W/last"
    ok "$type values" "$LBRX" convert "$W/$type/model.gguf" -o "$W/o/$type-values" --to mlx --codes none -q
    if grep -q '"quantization"' "$W/o/$type-values/config.json"; then fail "$type" "codes were kept"; else pass; fi
done
# An embedding of which GGUF keeps the rows of the tokenizer's tokens; norms + 1 in f16, which is said.
make_model gguf gemma3 "$W/g3" dtype=q8_0
ok "gemma3 codes" "$LBRX" convert "$W/g3/model.gguf" -o "$W/o/g3" --to mlx -q
ok "gemma3 codes back" "$LBRX" convert "$W/o/g3" -o "$W/o/g3.gguf"
complains "gemma3 codes back" "tensors are computed in f16"
ok "gemma3 codes kept" "$LBRX" convert "$W/o/g3" -o "$W/o/g3l.gguf" --lossless
if grep -q 'computed in f16' "$W/err"; then fail "gemma3 codes kept" "said with the originals beside"; else pass; fi
tensors "$W/g3/model.gguf" | grep q8_0 >"$W/first"
tensors "$W/o/g3.gguf" | grep q8_0 >"$W/last"
if grep -q token_embd "$W/first"; then pass; else fail "gemma3 codes" "no embedding in codes"; fi
same "gemma3: codes there and back" "$W/first" "$W/last"
# What the types promise and the bytes do not keep is refused, not rounded: a bias that another tool changed in what was
# Q4_0 (lbrx.codes says so); a scale of Q8_0 whose bias, -128 times it, is no finite f16.
offset() { "$LBRX" inspect "$1" --json | tr '{' '\n' | sed -n "s/^\"name\": \"$2\".*\"offset\": \([0-9]*\).*/\1/p"; }
at=$(offset "$W/o/q4_0" model.layers.1.mlp.up_proj.biases)
flip "$W/o/q4_0/model.safetensors" "$((at + 1))"
exits 3 "a bias that was changed" "$LBRX" convert "$W/o/q4_0" -o "$W/o/changed.gguf" -q
complains "a bias that was changed" "'blk.1.ffn_up.weight': 32 of its values have a scale or bias that q4_0 has no place for"
[ -e "$W/o/changed.gguf" ] && fail "a bias that was changed" "the file is there"
ok "a bias that was changed, near" "$LBRX" convert "$W/o/q4_0" -o "$W/o/changed.gguf" --codes near
says "a bias that was changed, near" "rounded: 32 values of 1 tensors"
ok "a bias that was changed, values" "$LBRX" convert "$W/o/q4_0" -o "$W/o/values.gguf" --codes none --dtype f32 -q
ok "a bias that was changed, compared" "$LBRX" diff "$W/o/q4_0" "$W/o/values.gguf"
at=$(offset "$W/q8_0/model.gguf" blk.0.attn_v.weight)
printf '\000\140' | dd of="$W/q8_0/model.gguf" bs=1 seek="$at" conv=notrunc 2>/dev/null
for codes in exact near; do
    exits 3 "a scale of 512, $codes" "$LBRX" convert "$W/q8_0/model.gguf" -o "$W/o/large" --to mlx --codes $codes -q
    complains "a scale of 512, $codes" "a scale or bias that f16 would make infinite: --codes none"
done
ok "a scale of 512, values" "$LBRX" convert "$W/q8_0/model.gguf" -o "$W/o/large" --to mlx --codes none --dtype f32 -q
ok "a scale of 512, compared" "$LBRX" diff "$W/q8_0/model.gguf" "$W/o/large"
rm -rf "$W/o/changed.gguf" "$W/o/values.gguf" "$W/o/large"
make_model gguf llama "$W/q4_k" dtype=q4_k
ok "q4_k" "$LBRX" convert "$W/q4_k/model.gguf" -o "$W/o/q4_k-values" --to mlx
complains "q4_k" "tensors become values, because their scales are not stored as f16: --codes near keeps the codes"
ok "q4_k near" "$LBRX" convert "$W/q4_k/model.gguf" -o "$W/o/q4_k" --to mlx --codes near -q
if grep -q '"bits": 4' "$W/o/q4_k/config.json"; then pass; else fail "q4_k near" "codes were not kept"; fi
if grep -q "become values" "$W/err"; then fail "q4_k near" "says that they were not"; else pass; fi
ok "q4_k near: values" "$LBRX" diff "$W/q4_k/model.gguf" "$W/o/q4_k" --tolerance 2e-3
nothing_left "round trips"

# Threads and budgets cannot be seen in the result.
make_model gguf llama "$W/big" dtype=q4_k layers=3 hidden=512 heads=8 kv_heads=4 ffn=1024
ok "one thread" "$LBRX" convert "$W/big/model.gguf" -o "$W/o/t1" --to hf -t 1 -q
for flags in "-t 2" "-t 7" "-t 3 --memory 32MB" "--no-sync"; do
    rm -rf "$W/o/t2"
    # shellcheck disable=SC2086
    ok "$flags" "$LBRX" convert "$W/big/model.gguf" -o "$W/o/t2" --to hf -q $flags
    same_tree "$flags" "$W/o/t1" "$W/o/t2"
done

# Interrupted at any time, --resume ends with the same bytes; nothing under the final name before.
make_model gguf llama "$W/huge" layers=8 hidden=1024 heads=16 kv_heads=4 ffn=4096 vocab=4096
ok whole "$LBRX" convert "$W/huge/model.gguf" -o "$W/o/whole" --to hf -q
rounds=6
[ -z "${LB_TEST_LONG:-}" ] || rounds=200
i=0
resumed=0
while [ $i -lt $rounds ]; do
    i=$((i + 1))
    signal=KILL
    [ $((i % 3)) -ne 0 ] || signal=INT
    rm -rf "$W/o/cut" "$W/o/cut.lbrx-partial" "$W/o/cut.lbrx-journal"
    tries=0
    while [ ! -e "$W/o/cut" ] && [ $tries -lt 40 ]; do
        tries=$((tries + 1))
        "$LBRX" convert "$W/huge/model.gguf" -o "$W/o/cut" --to hf -q -t 1 --resume >"$W/out" \
            2>"$W/err" &
        pid=$!
        # 5 to 75 ms and growing: the first tries are cut early, a later one comes through.
        sleep "0.0$(((i * 7 + tries * 3) % 8))5"
        [ $tries -gt 12 ] || kill -s $signal $pid 2>/dev/null
        wait $pid 2>/dev/null # the shell would say "Killed"
        rc=$?
        case $rc in
        0 | 130 | 137) ;;
        *) fail "cut $i" "exit $rc" ;;
        esac
        [ ! -s "$W/o/cut.lbrx-journal" ] || resumed=$((resumed + 1))
        if [ $rc -ne 0 ] && [ -e "$W/o/cut" ] && [ $rc -ne 137 ]; then
            fail "cut $i" "something stands under the final name"
        fi
    done
    same_tree "cut $i" "$W/o/whole" "$W/o/cut"
done
[ $resumed -gt 0 ] || fail cut "no run was ever cut in its middle"
finish
