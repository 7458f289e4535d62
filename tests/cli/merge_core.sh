#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# merge_core.sh: core_space: adapters merged in the space of their factors: forms of base and adapters, several adapters on
# one model, what has no factors, what is refused, budgets. The values against numpy: tests/peers/peer_core_space.py.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
cd "$W" || exit 1
limited=$(memory_is_limited)

make_model gguf llama made layers=2 hidden=64 ffn=96 heads=4 kv_heads=2 head_dim=16 vocab=96 dtype=f32 seed=3
ok "base" "$LBRX" convert made/model.gguf -o base --to hf --dtype f32 --no-sync
ok "base in mlx" "$LBRX" convert base -o base-mlx --to mlx --no-sync
ln made/model.gguf base.gguf
cp -r base copy
ln -s base link
P=base_model.model.model.layers
adapter() { # NAME RANK CONFIG MODULE:IN:OUT...: of those modules
    name_=$1 rank_=$2 config_=$3 list_=
    shift 3
    for at in "$@"; do
        in_=${at#*:}
        list_="$list_ $P.${at%%:*}.lora_A.weight:$rank_:${in_%:*} $P.${at%%:*}.lora_B.weight:${in_#*:}:$rank_"
    done
    # shellcheck disable=SC2086
    python3 "$root/tests/tool/make_adapter.py" "$name_" "{\"peft_type\": \"LORA\", \"r\": $rank_, $config_}" $list_ $extra
}
extra=
Q=0.self_attn.q_proj:64:64 K=1.self_attn.k_proj:64:32 D=1.mlp.down_proj:96:64
adapter a 4 '"lora_alpha": 6' $Q $K $D
adapter b 7 '"lora_alpha": 4, "use_rslora": true' $Q $D
adapter c 1 '"lora_alpha": 2' $K
adapter wide 40 '"lora_alpha": 40' $K # with those of a, more than k_proj has rows
extra=$P.0.self_attn.q_proj.lora_magnitude_vector:64
adapter dora 2 '"lora_alpha": 4, "use_dora": true' $Q
extra=base_model.model.model.norm.weight:64
adapter norm 2 '"lora_alpha": 4, "modules_to_save": ["norm"]' $K

yml() { # FILE INNER BASE MODEL...: a merge file; weights are 1, 0.5, 0.25
    file_=$1 inner_=$2 base_=$3 weight_=1
    shift 3
    {
        printf 'merge_method: core_space\nbase_model: %s\ndtype: float32\nparameters: {inner_method: %s}\nmodels:\n' "$base_" "$inner_"
        for m_ in "$@"; do
            echo "- {model: $m_, parameters: {weight: $weight_, density: 0.5}}"
            weight_=$(python3 -c "print($weight_ / 2)")
        done
    } >"$file_"
}
merge() { # NAME FILE OUT ARGUMENTS...
    what_=$1 file_=$2 out_=$3
    shift 3
    ok "$what_" "$LBRX" merge "$file_" -o "$out_" --no-sync --no-provenance --force "$@"
}

# ---- nothing is lost on the way to the space and back ----
yml one.yml task_arithmetic base base+a
merge "one" one.yml one
ok "fused" "$LBRX" lora fuse base a -o fused --no-sync
ok "one adapter is itself" "$LBRX" diff fused one --tolerance 1e-6
exits 5 "and does something" "$LBRX" diff base one --tolerance 1e-2
yml sum.yml task_arithmetic base base+a base+b base+c
merge "sum" sum.yml sum
sed 's/core_space/task_arithmetic/; /inner_method/d' sum.yml >full.yml
merge "full space" full.yml full
ok "sums are the same in both" "$LBRX" diff full sum --tolerance 1e-6
yml wide.yml task_arithmetic base base+a base+wide base+c
merge "more ranks than rows" wide.yml wide-sum
sed 's/core_space/task_arithmetic/; /inner_method/d' wide.yml >full.yml
merge "more ranks than rows, full space" full.yml full
ok "more ranks than rows: the same" "$LBRX" diff full wide-sum --tolerance 1e-6

# ---- every inner method, every form, every number of threads ----
for inner in $("$LBRX" merge --methods --json | python3 -c '
import json, sys
m = next(m for m in json.load(sys.stdin) if m["name"] == "core_space")
print(*next(p["words"] for p in m["parameters"] if p["name"] == "inner_method"))'); do
    yml "$inner.yml" "$inner" base base+a base+b base+c
    merge "$inner" "$inner.yml" "m-$inner" -t 1
    for t in 2 7; do
        merge "$inner -t $t" "$inner.yml" again -t $t --memory 32MiB
        same "$inner -t $t" "m-$inner/model.safetensors" again/model.safetensors
    done
    ok "$inner: finite" "$LBRX" verify again
done
exits 5 "ties is another than a sum" "$LBRX" diff m-ties sum --tolerance 1e-3
ok "adapter to gguf" "$LBRX" lora convert a -o a.gguf --base base
ok "adapter to mlx" "$LBRX" lora convert b -o b-mlx --to mlx
for forms in "base.gguf a b" "base-mlx a b" "base a.gguf b-mlx" "base.gguf a.gguf b-mlx" "link a b"; do
    # shellcheck disable=SC2086
    set -- $forms
    yml form.yml ties "$1" "$1+$2" "$1+$3" "$1+c"
    merge "$forms" form.yml form --to hf
    ok "the same from $forms" "$LBRX" diff m-ties form
done
ok "to gguf" "$LBRX" merge ties.yml -o ties.gguf --no-sync
ok "the same in gguf" "$LBRX" diff m-ties ties.gguf
ok "quantized" "$LBRX" merge ties.yml -o q.gguf --type q8_0 --no-sync --no-provenance
ok "quantized in two steps" "$LBRX" quantize m-ties -o q2.gguf --type q8_0 --no-sync --no-provenance
ok "the same" "$LBRX" diff q.gguf q2.gguf
ok "a merge file is a model" "$LBRX" diff ties.yml m-ties
ok "verify" "$LBRX" verify m-ties --against ties.yml
ok "dry run" "$LBRX" merge ties.yml -o no --dry-run
grep -q "^model.layers.1.mlp.down_proj.weight .*dense(svd)" out && pass || fail "dry run" "no factors in it"
grep -q "^model.layers.0.mlp.down_proj.weight .*copy" out && pass || fail "dry run" "what no adapter changes is not copied"
[ ! -e no ] && pass || fail "dry run" "it wrote"
ok "base quantized" "$LBRX" quantize base.gguf -o base-q.gguf --type q8_0 --no-sync
yml form.yml ties base-q.gguf base-q.gguf+a base-q.gguf+b
merge "of a quantized base" form.yml form --to hf --dtype f32
yml form.yml ties dequant dequant+a dequant+b
ok "its values" "$LBRX" convert base-q.gguf -o dequant --to hf --dtype f32 --no-sync
merge "of its values" form.yml form2 --to hf --dtype f32
ok "the same" "$LBRX" diff form form2

# ---- several adapters on one model, adapters on the base; files elsewhere ----
yml two.yml task_arithmetic base base+a+b
merge "two adapters" two.yml two
ok "two fused" "$LBRX" lora fuse base a b -o both --no-sync
ok "two adapters on one" "$LBRX" diff both two --tolerance 1e-6
if grep -q "low-rank terms" err; then fail "two adapters" "no factors"; else pass; fi
yml on.yml ties base+c base+c+a base+c+b
merge "adapters on the base" on.yml on
ok "base with its adapter" "$LBRX" lora fuse base c -o base-c --no-sync
yml on2.yml ties base-c base-c+a base-c+b
merge "on it fused" on2.yml on2
ok "the same" "$LBRX" diff on on2 --tolerance 1e-6
mkdir elsewhere
(cd elsewhere && "$LBRX" merge ../two.yml -o ../two-e --no-sync --no-provenance -q) >out 2>err && pass || fail "from another folder" "$(cat err)"
same "from another folder" two/model.safetensors two-e/model.safetensors
cat >named.yml <<'END'
name: first
merge_method: linear
dtype: float32
models:
- {model: base, parameters: {weight: 1}}
- {model: copy, parameters: {weight: 1}}
---
merge_method: task_arithmetic
base_model: base
dtype: float32
models:
- {model: first+a, parameters: {weight: 1}}
END
merge "an adapter on a document" named.yml named
ok "it is not lost" "$LBRX" diff fused named --tolerance 1e-6

# ---- what has no factors ----
yml dora.yml task_arithmetic base base+a base+dora
merge "DoRA" dora.yml with-dora
complains "DoRA" "1 tensors are more than the base and low-rank terms in some input"
complains "DoRA" "the first is model.layers.0.self_attn.q_proj.weight"
sed 's/core_space/task_arithmetic/; /inner_method/d' dora.yml >full.yml
merge "DoRA, full space" full.yml full
ok "DoRA: merged as it is" "$LBRX" diff full with-dora --tolerance 1e-6
yml norm.yml ties base base+a base+norm
merge "a whole tensor" norm.yml with-norm
complains "a whole tensor" "the first is model.norm.weight"

# ---- refused ----
refused() { # NAME WORDS
    exits 3 "$1" "$LBRX" merge bad.yml -o bad --no-sync
    complains "$1" "$2"
    [ ! -e bad ] && pass || fail "$1" "it wrote"
}
yml bad.yml ties base base+a copy
refused "a model" "line 7: merge_method core_space merges adapters of base_model ('base+ADAPTER'): 'copy' is a model without one"
yml bad.yml ties base base+a copy+b
refused "another base" "line 7: merge_method core_space merges adapters of base_model ('base+ADAPTER'): 'copy+b' is one of another model"
yml bad.yml ties base base.gguf+a
refused "the base in another form" "'base.gguf+a' is one of another model"
yml bad.yml ties base+c base+a
refused "less than the base" "'base+a' is one of another model"
yml bad.yml tis base base+a
refused "no such inner method" "did you mean ties?"
yml bad.yml 3 base base+a
refused "a number" "inner_method: one of task_arithmetic, linear, ties"
yml bad.yml "[ties, tsv]" base base+a
refused "a gradient of words" "inner_method: one of task_arithmetic"
yml bad.yml core_space base base+a
refused "itself" "inner_method: one of task_arithmetic"
yml bad.yml ties base base+a
sed -i '/base_model/d' bad.yml
refused "no base_model" "base"
yml bad.yml ties base
sed -i 's/models:/models: []/' bad.yml
refused "no adapters" "models"
extra=
adapter long 4 '"lora_alpha": 6' 0.self_attn.q_proj:72:64
yml bad.yml ties base base+a base+long
refused "another shape" "is it another model's?"

# ---- the budget: factors of a matrix are held, matrices are not ----
make_model gguf llama big layers=1 hidden=1024 ffn=4096 heads=8 kv_heads=8 head_dim=128 vocab=64 dtype=bf16 seed=4
ok "a larger base" "$LBRX" convert big/model.gguf -o large --to hf --no-sync
for n in 1 2 3; do
    adapter "l$n" 32 '"lora_alpha": 32' 0.mlp.gate_proj:1024:4096 0.mlp.down_proj:4096:1024
done
yml large.yml tsv large large+l1 large+l2 large+l3
merge "larger" large.yml l-out
exits 4 "too little memory" "$LBRX" merge large.yml -o bad --memory 12MiB
complains "too little memory" "needs at least"
least=$(sed 's/.*at least \([0-9]*\) MiB.*/\1/' err)
[ "${least:-999}" -le 48 ] && pass || fail "the least budget" "$least MiB"
if [ "$limited" = yes ]; then
    # shellcheck disable=SC2016 # expanded by the inner shell
    ok "$least MiB" sh -c 'ulimit -d "$1"; shift; exec "$LBRX" "$@"' sh $(((least + 16) * 1024)) \
        merge large.yml -o l-least --memory "${least}MiB" --no-sync --no-provenance
else
    ok "$least MiB" "$LBRX" merge large.yml -o l-least --memory "${least}MiB" --no-sync --no-provenance
fi
same "in $least MiB" l-out/model.safetensors l-least/model.safetensors
finish
