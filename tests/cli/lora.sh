#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lora.sh: adapters put into models: forms of base and adapter, scales, merge files, budgets, resume, what is refused.
# The values against peft and mlx-lm: tests/peers/peer_lora.py.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

make_model gguf llama "$W/made" seed=7
ok "base" "$LBRX" convert "$W/made/model.gguf" -o "$W/base" --to hf
ok "base in mlx" "$LBRX" convert "$W/base" -o "$W/base-mlx" --to mlx
cd "$W" || exit 1
cat >shapes.py <<'END'
import json, struct, sys
f = open(sys.argv[1] + "/model.safetensors", "rb")
h = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
print(h[sys.argv[2]]["shape"][int(sys.argv[3])])
END
shape() { python3 shapes.py base "$1" "$2"; }
out=$(shape model.layers.0.self_attn.q_proj.weight 0)
hidden=$(shape model.layers.0.self_attn.q_proj.weight 1)
vocab=$(shape model.embed_tokens.weight 0)
P=base_model.model.model.layers
Q0=$P.0.self_attn.q_proj Q1=$P.1.self_attn.q_proj
adapter() { python3 "$root/tests/tool/make_adapter.py" "$@"; }
LORA='{"peft_type": "LORA", "r": 2, "lora_alpha": 6}'
adapter one "$LORA" $Q0.lora_A.weight:2:"$hidden" $Q0.lora_B.weight:"$out":2 $Q1.lora_A.weight:2:"$hidden" $Q1.lora_B.weight:"$out":2
adapter two "$LORA" $Q0.lora_A.weight:2:"$hidden" $Q0.lora_B.weight:"$out":2
adapter dora '{"peft_type": "LORA", "r": 2, "lora_alpha": 6, "use_dora": true}' $Q0.lora_A.weight:2:"$hidden" \
    $Q0.lora_B.weight:"$out":2 $Q0.lora_magnitude_vector:"$out"

# ---- --type keep: codes of what no adapter changes stay the same ----
make_model gguf qwen3moe "$W/moe" layers=2 hidden=64 ffn=64 heads=4 kv_heads=2 head_dim=16 vocab=96 experts=4 used=2 dtype=bf16 seed=5
ok "experts" "$LBRX" convert moe/model.gguf -o moe-hf --to hf --no-sync
adapter moe-lora "$LORA" $Q0.lora_A.weight:2:64 $Q0.lora_B.weight:64:2
ok "experts in codes" "$LBRX" quantize moe-hf -o moe-k.gguf --type q8_0 --no-sync
ok "experts in codes of mlx" "$LBRX" quantize moe-hf -o moe-k --to mlx --type mlx-q4 --group-size 32 --no-sync
types() { "$LBRX" inspect "$1" --tensors --json | python3 -c "
import json, sys
for t in json.load(sys.stdin)['tensors']: print(t['name'], t['type'], t['shape'])" | sort; }
for m in moe-k.gguf moe-k; do
    ok "keep $m" "$LBRX" lora fuse $m moe-lora -o "kept-$m" --type keep --no-sync
    types $m >kept-a
    types "kept-$m" >kept-b
    same "keep $m: types" kept-a kept-b
    exits 5 "keep $m: the adapter is in it" "$LBRX" diff $m "kept-$m"
    grep -q "compared, 1 different" out && pass || fail "keep $m" "$(tail -2 out)"
done

# ---- one model, whatever the forms ----
F="--to hf --dtype f32"
ok "fuse" "$LBRX" lora fuse base one -o fused $F
exits 5 "it is another" "$LBRX" diff base fused
ok "MODEL+ADAPTER" "$LBRX" convert base+one -o plus $F
cmp -s fused/model.safetensors plus/model.safetensors # provenance says the command
ok "is the same" "$LBRX" diff fused plus
ok "without it" "$LBRX" diff base base
ok "diff computes it" "$LBRX" diff base+one fused
ok "verify computes it" "$LBRX" verify base+one
ok "inspect" "$LBRX" inspect base+one
grep -q "base+one" out && pass || fail "inspect" "no name"
ok "from mlx" "$LBRX" lora fuse base-mlx one -o from-mlx $F
ok "the same from mlx" "$LBRX" diff fused from-mlx
ok "without --to" "$LBRX" lora fuse base-mlx one -o stays
"$LBRX" inspect stays | grep -q "^format *mlx" && pass || fail "it stays mlx" "it does not"
ok "adapter to gguf" "$LBRX" lora convert one -o one.gguf --base base
ok "adapter to mlx" "$LBRX" lora convert one -o one-mlx --to mlx
for a in one.gguf one-mlx; do
    ok "$a" "$LBRX" lora fuse base $a -o "from-$a" $F
    ok "the same with $a" "$LBRX" diff fused "from-$a"
    ok "$a on mlx" "$LBRX" diff "base-mlx+$a" base+one
done
ok "and back" "$LBRX" lora convert one.gguf -o back --to hf --base base
ok "the same adapter" "$LBRX" diff one back
ok "to gguf" "$LBRX" lora fuse base one -o fused.gguf --dtype f32 --no-provenance
ok "in two steps" "$LBRX" convert fused -o steps.gguf --no-provenance
ok "the same in one pass" "$LBRX" diff fused.gguf steps.gguf
ok "quantized" "$LBRX" lora fuse base one -o q.gguf --type q8_0
ok "quantized in two steps" "$LBRX" quantize fused -o q2.gguf --type q8_0
ok "the same quantized" "$LBRX" diff q.gguf q2.gguf

# ---- scales, several, merge files ----
ok "scale 0" "$LBRX" lora fuse base one -o zero --scale 0
ok "scale 0 is the base" "$LBRX" diff base zero
ok "two" "$LBRX" lora fuse base one two -o both $F
ok "two by +" "$LBRX" diff base+one+two both
ok "one after the other" "$LBRX" lora fuse fused two -o after $F
ok "is the same" "$LBRX" diff both after
ok "the second scaled away" "$LBRX" lora fuse base one two -o first $F --scale 1,0
ok "leaves the first" "$LBRX" diff fused first
ok "half" "$LBRX" lora fuse base one -o half $F --scale 0.5
exits 5 "half" "$LBRX" diff fused half
printf 'merge_method: linear\nmodels:\n  - model: base+one\n    parameters: {weight: 1}\n  - model: {model: base, lora: two}\n    parameters: {weight: 0}\ndtype: float32\n' >m.yml
ok "in a merge file" "$LBRX" merge m.yml -o merged
ok "it is that model" "$LBRX" diff merged fused
ok "dora" "$LBRX" lora fuse base dora -o d $F
exits 5 "dora" "$LBRX" diff fused d
ok "dora to mlx" "$LBRX" lora convert dora -o dora-mlx --to mlx
ok "does the same" "$LBRX" diff base+dora base+dora-mlx
exits 3 "dora to gguf" "$LBRX" lora convert dora -o none --to gguf --base base
complains "dora to gguf" "has no place"
mkdir a+b
cp -r one a+b/
ok "a + in a name" "$LBRX" diff base+a+b/one base+one

# ---- budgets, threads, what was begun ----
ok "small budget, one thread" "$LBRX" lora fuse base one -o small $F --memory 32MB -t 1
if cmp -s small/model.safetensors fused/model.safetensors; then pass; else fail "budget" "the bytes differ"; fi
# a file size limit stops it: what was begun goes on from there
(
    ulimit -f 4
    "$LBRX" lora fuse base one dora -o stopped $F --no-sync -q >out 2>err
)
[ $? -eq 0 ] && fail "stopped" "it was not"
ok "goes on" "$LBRX" lora fuse base one dora -o stopped $F --resume
ok "at once" "$LBRX" lora fuse base one dora -o at-once $F
if cmp -s stopped/model.safetensors at-once/model.safetensors; then pass; else fail "resume" "the bytes differ"; fi
if [ "$(memory_is_limited)" = yes ]; then
    # shellcheck disable=SC2016 # expanded by the inner shell
    ok "the kernel's limit" sh -c 'ulimit -d $((40 * 1024)); exec "$@"' sh "$LBRX" lora fuse base dora -o none --to none --memory 24MiB
else
    skip "the kernel's limit" "a sanitizer, or a system without RLIMIT_DATA"
fi
ok "dry run" "$LBRX" lora fuse base one -o dry --dry-run
grep -q "lowrank(3)" out && pass || fail "dry run" "no lowrank"
[ ! -e dry ] && pass || fail "dry run" "wrote"

# ---- whole tensors, rows, biases, names ----
H=base_model.model.lm_head E=base_model.model.model.embed_tokens
adapter save "$LORA" $Q0.lora_A.weight:2:"$hidden" $Q0.lora_B.weight:"$out":2 $E.weight:"$vocab":"$hidden" $P.0.input_layernorm.weight:"$hidden"
ok "whole tensors" "$LBRX" lora fuse base save -o saved $F
adapter rows '{"peft_type": "LORA", "r": 2, "lora_alpha": 6, "trainable_token_indices": [1, 7]}' \
    $E.token_adapter.trainable_tokens_delta:2:"$hidden"
ok "rows of tokens" "$LBRX" lora fuse base rows -o rowed $F
python3 - "$hidden" <<'END' && pass || fail "rows of tokens" "others"
import json, struct, sys
def tensor(path, name):
    f = open(path, "rb")
    n = struct.unpack("<Q", f.read(8))[0]
    h = json.loads(f.read(n))[name]
    f.seek(8 + n + h["data_offsets"][0])
    return f.read(h["data_offsets"][1] - h["data_offsets"][0]), h
k = int(sys.argv[1])
rows, _ = tensor("rows/adapter_model.safetensors", "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta")
got, h = tensor("rowed/model.safetensors", "model.embed_tokens.weight")
base, _ = tensor("fused/model.safetensors", "model.embed_tokens.weight")
for i in range(h["shape"][0]):
    want = rows[:4 * k] if i == 1 else rows[4 * k:] if i == 7 else base[4 * k * i:4 * k * (i + 1)]
    assert got[4 * k * i:4 * k * (i + 1)] == want, i
END

# ---- refusals: nothing is written ----
refused() { # NAME SAYS CONFIG TENSORS...
    says=$2
    n=$1
    shift 2
    rm -rf bad
    adapter bad "$@"
    exits 3 "$n" "$LBRX" lora fuse base bad -o none
    complains "$n" "$says"
    [ ! -e none ] && pass || fail "$n" "wrote"
}
pair="$Q0.lora_A.weight:2:$hidden $Q0.lora_B.weight:$out:2"
for kind in LOHA LOKR IA3 VERA XLORA ADALORA OFT LN_TUNING; do
    refused "$kind" "$kind" "{\"peft_type\": \"$kind\", \"r\": 2, \"lora_alpha\": 6}" $pair
done
for key in use_qalora layer_replication alora_invocation_tokens kasa_config use_bdlora; do
    refused "$key" "$key" "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 6, \"$key\": [3]}" $pair
done
refused "loftq" "loftq" '{"peft_type": "LORA", "r": 2, "lora_alpha": 6, "init_lora_weights": "loftq"}' $pair
refused "no such module" "fits no tensor" "$LORA" $P.0.self_attn.x_proj.lora_A.weight:2:"$hidden" $P.0.self_attn.x_proj.lora_B.weight:"$out":2
refused "no such layer" "fits no tensor" "$LORA" $P.99.self_attn.q_proj.lora_A.weight:2:"$hidden" $P.99.self_attn.q_proj.lora_B.weight:"$out":2
refused "another shape" "is it another model's" "$LORA" $Q0.lora_A.weight:2:"$((hidden + 1))" $Q0.lora_B.weight:"$out":2
refused "no bias there" "fits no tensor" "$LORA" $pair $Q0.lora_B.bias:"$out"
refused "another rank" "says 2" "$LORA" $Q0.lora_A.weight:4:"$hidden" $Q0.lora_B.weight:"$out":4
refused "a tensor of no kind" "fits no tensor" "$LORA" $pair base_model.model.score.weight:2:"$hidden"
refused "another head" "that of the base model" "$LORA" $pair $H.weight:"$vocab":"$((hidden - 1))"
exits 3 "no adapter" "$LBRX" lora fuse base base -o none
exits 3 "no adapter to convert" "$LBRX" lora convert base -o none --to gguf
exits 2 "scales" "$LBRX" lora fuse base one -o none --scale 1,2
exits 2 "no number" "$LBRX" lora fuse base one -o none --scale x
exits 2 "no adapter given" "$LBRX" lora fuse base -o none
exits 3 "absent" "$LBRX" convert base+absent -o none
finish
