#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# verify.sh: what `lbrx verify` finds, and that it finds nothing in a good model.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

for family in llama gemma3 qwen3moe; do
    make_model gguf $family "$W/$family" dtype=q4_k
    ok "$family" "$LBRX" verify "$W/$family/model.gguf"
    says "$family" "no problem found"
    make_model hf $family "$W/$family-hf" shard=300000
    ok "$family folder" "$LBRX" verify "$W/$family-hf" --json
    says "$family folder" '"ok": true'
done

# Values that are no numbers: 1, NaN, -Inf, 2.
safetensors "$W/nan.safetensors" '{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}' \
    '\000\000\200\077\000\000\300\177\000\000\200\377\000\000\000\100'
exits 5 NaN "$LBRX" verify "$W/nan.safetensors"
says NaN "x: 1 NaN and 1 infinite values"
exits 5 "NaN json" "$LBRX" verify "$W/nan.safetensors" --json
says "NaN json" '"nan": 1, "inf": 1'

# SHA-256 sums beside files.
if command -v sha256sum >/dev/null 2>&1; then
    (cd "$W/llama" && sha256sum model.gguf >model.gguf.sha256)
    ok "sum of a file" "$LBRX" verify "$W/llama/model.gguf"
    says "sum of a file" "SHA-256: 1 files checked, 0 different"
    flip "$W/llama/model.gguf" $(($(wc -c <"$W/llama/model.gguf") - 9))
    exits 5 "changed file" "$LBRX" verify "$W/llama/model.gguf"
    says "changed file" "model.gguf: its SHA-256 is not the one beside it"
    (cd "$W/gemma3-hf" && sha256sum ./*.safetensors | sed 's|\./||' >SHA256SUMS)
    ok "sums of a folder" "$LBRX" verify "$W/gemma3-hf"
    says "sums of a folder" "different"
    (cd "$W/gemma3-hf" && sha256sum ./* >../sums && mv ../sums SHA256SUMS)
    sed -i.bak '/SHA256SUMS/d' "$W/gemma3-hf/SHA256SUMS" && rm "$W/gemma3-hf/SHA256SUMS.bak"
    ok "sums of all files" "$LBRX" verify "$W/gemma3-hf"
    says "sums of all files" "SHA-256: $(wc -l <"$W/gemma3-hf/SHA256SUMS" | tr -d ' ') files checked, 0 different"
    echo >>"$W/gemma3-hf/config.json"
    exits 5 "changed text" "$LBRX" verify "$W/gemma3-hf"
    says "changed text" "config.json: its SHA-256 is not"
    rm "$W/gemma3-hf/model.safetensors.index.json"
    exits 5 "a file that is gone" "$LBRX" verify "$W/gemma3-hf"
    says "a file that is gone" "model.safetensors.index.json: has a SHA-256 and is not there"
    echo nonsense >"$W/gemma3-hf/SHA256SUMS"
    exits 3 "broken sums" "$LBRX" verify "$W/gemma3-hf"
else
    skip "sums" "no sha256sum"
fi

# The hashes that a conversion leaves in lbrx.json.
if "$LBRX" help convert >/dev/null 2>&1; then
    make_model gguf qwen2 "$W/src"
    ok convert "$LBRX" convert "$W/src/model.gguf" -o "$W/made" --to hf -q
    ok "made" "$LBRX" verify "$W/made"
    says "made" "27 hashes checked, 0 different"
    flip "$W/made/model.safetensors" $(($(wc -c <"$W/made/model.safetensors") - 5))
    exits 5 "changed tensor" "$LBRX" verify "$W/made"
    says "changed tensor" "its bytes are not those of its hash in lbrx.json"
fi

# The sums of a split GGUF stand under the name that was asked for.
if command -v sha256sum >/dev/null 2>&1; then
    make_model gguf qwen2 "$W/parts"
    ok split "$LBRX" split "$W/parts/model.gguf" -o "$W/parts/x.gguf" --max-shard-size 700kB --sha256 -q
    ok "sums of parts" "$LBRX" verify "$W"/parts/x-00001-of-*.gguf
    says "sums of parts" "files checked, 0 different"
fi

# A tensor that the architecture needs is not there.
mkdir "$W/gone"
cp "$W/llama-hf/config.json" "$W/gone"
safetensors "$W/gone/model.safetensors" \
    '{"model.norm.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' '\000\000\200\077'
exits 5 "missing tensors" "$LBRX" verify "$W/gone"
# 2^400 as F64, 1 + 2i as C64: finite, though f32 could not hold the first; then infinite both.
wide='{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"b":{"dtype":"C64","shape":[1],"data_offsets":[8,16]}}'
safetensors "$W/wide.safetensors" "$wide" '\000\000\000\000\000\000\360\130\000\000\200\077\000\000\000\100'
ok "wide values" "$LBRX" verify "$W/wide.safetensors"
says "wide values" "0 NaN, 0 infinite"
safetensors "$W/wide.safetensors" "$wide" '\000\000\000\000\000\000\360\177\000\000\200\077\000\000\200\377'
exits 5 "wide infinities" "$LBRX" verify "$W/wide.safetensors"
says "wide infinities" "0 NaN, 2 infinite"
finish
