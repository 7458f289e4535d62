#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# diff.sh: exit codes and forms of `lbrx diff`; its figures are checked by tests/peers/peer_diff.py.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

exits 2 "one model" "$LBRX" diff "$W"
exits 3 absent "$LBRX" diff "$W/a" "$W/b"
for family in qwen2 qwen3; do
    make_model hf $family "$W/$family"
    make_model gguf $family "$W/$family-gguf"
    ok "$family by value" "$LBRX" diff "$W/$family" "$W/$family-gguf/model.gguf"
    says "$family" ", 0 different; 0 only in A, 0 only in B"
    ok "$family the other way" "$LBRX" diff "$W/$family-gguf/model.gguf" "$W/$family"
done
# The same values in other types and files.
make_model hf qwen2 "$W/f32" dtype=f32 shard=500000
ok "bf16 in f32, sharded" "$LBRX" diff "$W/qwen2" "$W/f32"
make_model hf qwen2 "$W/other" seed=2
exits 5 "other values" "$LBRX" diff "$W/qwen2" "$W/other"
complains "other values" "are different"
says "other values" "model.layers.1.mlp.up_proj.weight"
cp "$W/out" "$W/text"
exits 5 "two threads" "$LBRX" diff "$W/qwen2" "$W/other" -t 2
same "threads" "$W/text" "$W/out"
ok tolerance "$LBRX" diff "$W/qwen2" "$W/other" --tolerance 100
exits 2 "negative tolerance" "$LBRX" diff "$W/qwen2" "$W/other" --tolerance -1
exits 5 "other model" "$LBRX" diff "$W/qwen2" "$W/qwen3"
says "other model" "only in A: model.layers.0.self_attn.q_proj.bias"
says "other model" "only in B: model.layers.0.self_attn.q_norm.weight"
exits 4 "no memory" "$LBRX" diff "$W/qwen2" "$W/other" --memory 1kB
complains "no memory" "at least"
if command -v python3 >/dev/null 2>&1; then
    exits 5 json "$LBRX" diff "$W/qwen2" "$W/other" --json
    cp "$W/out" "$W/d.json"
    ok "json form" python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
assert d["identical"] is False and d["only_in_a"] == d["only_in_b"] == []
assert len(d["tensors"]) == 27
for t in d["tensors"]:
    assert set(t) == {"name", "max_abs", "rmse", "rel", "cosine", "identical"}, t
assert all(t["rel"] > 0 and t["cosine"] < 1 for t in d["tensors"] if not t["identical"])
t = d["total"] # as if all were one vector
rels = [x["rel"] for x in d["tensors"]]
assert min(rels) < t["rel"] < max(rels) and t["values"] == 1345792, t
assert t["max_abs"] == max(x["max_abs"] for x in d["tensors"])' "$W/d.json"
fi

# One value of one tensor.
safetensors "$W/a.safetensors" '{"x":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}' '\000\000\200\077\000\000\000\100'
cp "$W/a.safetensors" "$W/b.safetensors"
ok "by hand" "$LBRX" diff "$W/a.safetensors" "$W/b.safetensors"
size=$(wc -c <"$W/b.safetensors")
flip "$W/b.safetensors" $((size - 1)) # 2 becomes 2 * 2^126: another exponent
exits 5 "one byte" "$LBRX" diff "$W/a.safetensors" "$W/b.safetensors" --json
says "one byte" '"identical": false}'
safetensors "$W/c.safetensors" '{"x":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}' '\000\000\000\000\000\000\000\000'
exits 5 "from zero" "$LBRX" diff "$W/c.safetensors" "$W/a.safetensors" --json
says "from zero" '"rel": 1e999, "cosine": 0.0'
# |d| = 1 of |a|^2 = 1 + 4 in one tensor, equal 2 in the other: sqrt(1 / 9), by hand.
two='{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}'
safetensors "$W/t1.safetensors" "$two" '\000\000\200\077\000\000\000\100\000\000\000\100'
safetensors "$W/t2.safetensors" "$two" '\000\000\000\000\000\000\000\100\000\000\000\100'
exits 5 "total" "$LBRX" diff "$W/t1.safetensors" "$W/t2.safetensors" --json
says "total" '"total": {"max_abs": 1.0, "rmse": 0.5773502691896257, "rel": 0.3333333333333333, "cosine": 0.9428090415820632, "values": 3}'
exits 5 "total" "$LBRX" diff "$W/t1.safetensors" "$W/t2.safetensors"
says "total" "values of those that differ: max abs 1, rmse 0.707, rel 0.447, cosine 0.89442719"
# The largest errors first, so many of them; JSON has all.
three='{"p":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"q":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"r":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}'
safetensors "$W/s1.safetensors" "$three" '\000\000\200\077\000\000\200\077\000\000\200\077'
safetensors "$W/s2.safetensors" "$three" '\000\000\000\100\000\000\200\100\000\000\100\100' # 2, 4, 3
for how in "" "--sort file" "--sort error" "--top 2" "--top 9" "--sort file --top 1"; do
    # shellcheck disable=SC2086
    exits 5 "order $how" "$LBRX" diff "$W/s1.safetensors" "$W/s2.safetensors" $how
    sed -n 's/^\([pqr]\) .*/\1/p' "$W/out" | tr -d '\n' >>"$W/orders"
    printf ' ' >>"$W/orders"
done
[ "$(cat "$W/orders")" = "pqr pqr qrp qr qrp q " ] && pass || fail "orders" "$(cat "$W/orders")"
exits 2 "top 0" "$LBRX" diff "$W/s1.safetensors" "$W/s2.safetensors" --top 0
# What f32 cannot hold: 2^400 as F64, 1 + 2i as C64.
wide='{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"b":{"dtype":"C64","shape":[1],"data_offsets":[8,16]}}'
safetensors "$W/wide.safetensors" "$wide" '\000\000\000\000\000\000\360\130\000\000\200\077\000\000\000\100'
cp "$W/wide.safetensors" "$W/other.safetensors"
ok "wide values" "$LBRX" diff "$W/wide.safetensors" "$W/other.safetensors"
flip "$W/other.safetensors" $(($(wc -c <"$W/wide.safetensors") - 1))
exits 5 "another imaginary part" "$LBRX" diff "$W/wide.safetensors" "$W/other.safetensors"
says "another imaginary part" ", 1 different"
# An adapter has other names and layouts in each form.
mkdir "$W/peft"
safetensors "$W/peft/adapter_model.safetensors" '{"base_model.model.x.q_proj.lora_A.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"base_model.model.x.q_proj.lora_B.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]}}' \
    '\000\000\200\077\000\000\000\100\000\000\200\077\000\000\000\100'
echo '{"peft_type":"LORA","r":1,"lora_alpha":2,"target_modules":["q_proj"]}' >"$W/peft/adapter_config.json"
ok "an adapter to MLX" "$LBRX" convert "$W/peft" -o "$W/mlx-adapter" --to mlx -q
exits 3 "adapters in two forms" "$LBRX" diff "$W/peft" "$W/mlx-adapter"
complains "adapters in two forms" "these are PEFT's and MLX's"
ok "an adapter back" "$LBRX" convert "$W/mlx-adapter" -o "$W/peft-again" --to hf -q
ok "adapters in one form" "$LBRX" diff "$W/peft" "$W/peft-again"
finish
