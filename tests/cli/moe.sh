#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# moe.sh: models made of the parts of others: mixtures of experts, layers drawn at random.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

for m in a b; do
    make_model hf llama "$W/$m" "seed=$(printf %d "'$m")" vocab=4096 hidden=64 head_dim=16 tok=bytes
done
cd "$W" || exit 1
ok "gguf" "$LBRX" convert b -o b.gguf

# ---- layershuffle: a merge file that `merge` runs the same; seeds; options in place of a file ----
printf 'models:\n- {model: a}\n- {model: b.gguf}\nrandom_seed: 1\n' >shuffle.yml
ok "shuffle" "$LBRX" layershuffle shuffle.yml -o s1 --write-yaml made.yml
ok "its merge file" "$LBRX" merge made.yml -o s2
ok "runs the same" "$LBRX" diff s1 s2
ok "options" "$LBRX" layershuffle -m a -m b.gguf --seed 1 -o s3
ok "are the same" "$LBRX" diff s1 s3
ok "yaml" "$LBRX" layershuffle shuffle.yml --print-yaml
cmp -s "$W/out" made.yml && pass || fail "yaml" "printed and written differ"
ok "seeds" "$LBRX" layershuffle shuffle.yml --seed 0 --print-yaml
cmp -s "$W/out" made.yml && fail "seeds" "another seed gives the same" || pass
ok "without SIMD" env LBRX_CPU=ref "$LBRX" layershuffle shuffle.yml --print-yaml
cmp -s "$W/out" made.yml && pass || fail "without SIMD" "other draws"
ok "full" "$LBRX" layershuffle -m a -w 1 -m b -w 0.5 --full-random --fp16 -o s4.gguf --type q8_0
exits 2 "both" "$LBRX" layershuffle shuffle.yml -m a -o no
exits 2 "neither" "$LBRX" layershuffle -o no
exits 2 "weights" "$LBRX" layershuffle -m a -w 1 -m b -o no
exits 3 "no model" "$LBRX" layershuffle -m nix/nix -o no
exits 3 "no weight" "$LBRX" layershuffle -m a -w 0 -o no
printf 'models:\n- {modell: a}\n' >bad.yml
exits 3 "key" "$LBRX" layershuffle bad.yml -o no
complains "key" "models[0].modell: unknown key; did you mean model?"
[ ! -e no ] && pass || fail "refusals" "something was written"

# ---- moe: gates by prompts, drawn; any format in and out ----
moe() { # NAME GATE EXPERT EXPERT [MORE]
    cat >"$1.yml" <<END
base_model: a
gate_mode: $2
experts:
- source_model: $3
  positive_prompts: [the, one]
- source_model: $4
  positive_prompts: [" of"]
  negative_prompts: ["a b"]
  residual_scale: 0.5
${5:-}
END
}
moe hf cheap_embed a b
moe gguf cheap_embed a b.gguf
for f in hf gguf; do ok "$f" "$LBRX" moe $f.yml -o moe-$f; done
ok "experts of any format" "$LBRX" diff moe-hf moe-gguf
ok "a" "$LBRX" convert a -o a.gguf
sed 's/base_model: a/base_model: a.gguf/; s/source_model: a/source_model: a.gguf/' gguf.yml >base.yml
ok "base of any format" "$LBRX" moe base.yml -o moe-base
ok "base of any format: diff" "$LBRX" diff moe-hf moe-base
same "base of any format: config" moe-hf/config.json moe-base/config.json
ok "mlx" "$LBRX" convert a -o a-mlx --to mlx
sed 's/base_model: a/base_model: a-mlx/' gguf.yml >base.yml
ok "base of mlx" "$LBRX" moe base.yml -o moe-mlx
ok "base of mlx: diff" "$LBRX" diff moe-hf moe-mlx
ok "again" "$LBRX" moe hf.yml -o moe-1 -t 1 --memory 64MB
same "threads and budget" moe-hf/model.safetensors moe-1/model.safetensors
ok "without SIMD" env LBRX_CPU=ref "$LBRX" moe hf.yml -o moe-ref
same "without SIMD" moe-hf/model.safetensors moe-ref/model.safetensors
grep -q '"num_local_experts": 2' moe-hf/config.json && pass || fail config "no number of experts"
same "the file is kept" hf.yml moe-hf/mergekit_moe_config.yml
grep -q "mixture of experts (Mixtral)" moe-hf/README.md && pass || fail card "does not say what it is"
ok "to gguf" "$LBRX" moe hf.yml -o one.gguf
ok "in two steps" "$LBRX" convert moe-hf -o two.gguf
ok "quantized" "$LBRX" moe hf.yml -o q.gguf --type q8_0
ok "convert takes the file" "$LBRX" convert hf.yml -o three.gguf
ok "is the same" "$LBRX" diff one.gguf three.gguf
ok "quantize takes it" "$LBRX" quantize hf.yml -o q2.gguf --type q8_0
ok "is the same quantized" "$LBRX" diff q.gguf q2.gguf
ok "inspect takes it" "$LBRX" inspect hf.yml
ok "to mlx" "$LBRX" moe hf.yml -o mlx --to mlx --type mlx-q4
ok "dry" "$LBRX" moe hf.yml -o no --dry-run
says "dry" "block_sparse_moe.experts.1.w2.weight"
grep -q '"operation": "moe --seed 0 --to hf"' moe-hf/lbrx.json && pass || fail provenance "no seed"
sed 's/\[" of"\]/[the, one, the, one]/; /negative/d' hf.yml >alike.yml
ok "alike" "$LBRX" moe alike.yml -o alike
complains "alike" "ALL layers have degenerate routers"
{
    printf 'base_model: a\ngate_mode: cheap_embed\nexperts:\n'
    for i in 1 2 3 4 5 6 7 8 9; do
        printf -- '- {source_model: a, positive_prompts: ["%s"]}\n- {source_model: b, positive_prompts: ["x%s"]}\n' $i $i
    done
} >many.yml
ok "many" "$LBRX" moe many.yml -o many
complains "many" "tell 18 experts apart is not looked at"
complains "many" "18 experts are no power of two"
ok "verify takes it" "$LBRX" verify hf.yml
ok "verify against it" "$LBRX" verify moe-hf --against hf.yml
for g in random uniform_random; do
    moe $g $g a b
    ok "$g" "$LBRX" moe $g.yml -o $g-0
    ok "$g again" "$LBRX" moe $g.yml -o $g-1 --seed 0 -t 1
    ok "$g other" "$LBRX" moe $g.yml -o $g-2 --seed 1
    same "$g: seeds" $g-0/model.safetensors $g-1/model.safetensors
    exits 5 "$g: another seed" "$LBRX" diff $g-0 $g-2
done
sed 's/residual_scale: 0.5/noise_scale: 0.01/' hf.yml >noise.yml
ok "noise" "$LBRX" moe noise.yml -o noise-0
ok "noise again" "$LBRX" moe noise.yml -o noise-1 -t 1 --memory 64MB
same "noise: seed, threads and budget" noise-0/model.safetensors noise-1/model.safetensors
exits 5 "noise is there" "$LBRX" diff moe-hf noise-0
# a mixture's base may be computed: a merge of itself
printf 'merge_method: passthrough\nmodels: [{model: a}]\n' >base.yml
sed 's/base_model: a/base_model: base.yml/' hf.yml >of-merge.yml
ok "base of a merge" "$LBRX" moe of-merge.yml -o of-merge
ok "is the base" "$LBRX" diff moe-hf of-merge
ok "adapter" "$LBRX" lora extract a b -o adapter --rank 4
ok "fused" "$LBRX" lora fuse a adapter -o fused --dtype f32
moe lora random a+adapter b
moe lora2 random fused b
ok "an expert with an adapter" "$LBRX" moe lora.yml -o lora-1
ok "and fused before" "$LBRX" moe lora2.yml -o lora-2
ok "are the same" "$LBRX" diff lora-1 lora-2
moe shared random a b 'shared_experts: [{source_model: b}]'
ok "shared" "$LBRX" moe shared.yml -o shared
grep -q '"n_shared_experts": 1' shared/config.json && pass || fail shared "config"
exits 3 "deepseek in gguf" "$LBRX" moe shared.yml -o no.gguf
exits 3 "deepseek quantized for mlx" "$LBRX" quantize shared -o no --to mlx --type mlx-q4
complains "deepseek quantized for mlx" "which of its matrices mlx-lm's class has quantized is not known"
ok "deepseek for mlx" "$LBRX" moe shared.yml -o shared-mlx --to mlx
moe qwen random a b 'shared_experts: [{source_model: b}]
architecture: qwen'
ok "qwen" "$LBRX" moe qwen.yml -o qwen
grep -q '"model_type": "qwen2_moe"' qwen/config.json && pass || fail qwen "config"

# ---- what mergekit-moe makes of the same files, bit for bit (golden/moe/make_moe.py) ----
cp -r "$GOLDEN/moe" golden
cd golden || exit 1
for m in llama0 llama1 qwen30; do cp tokenizer/* $m/; done
for yml in *.yml; do
    case=${yml%.yml}
    ok "golden $case" "$LBRX" moe $yml -o "out-$case" --seed 7
    "$LBRX" inspect "out-$case" --tensors --hash --json | sed 's/{"name"/\
&/g' | sed -n 's/^{"name": "\([^"]*\)".*"sha256": "\([0-9a-f]*\)".*/\1 \2/p' | LC_ALL=C sort >"$case.got"
    same "golden $case" "$case.txt" "$case.got"
done
[ "$(cat ./*.got | wc -l)" -gt 190 ] && pass || fail golden "no digests"
# routers of the base's states: not bit for bit, but near (golden/moe/make_states.py)
for g in hidden hidden_avg; do
    cp states/$g.yml .
    ok "golden $g" "$LBRX" moe $g.yml -o "out-$g"
    ok "golden $g: values" "$LBRX" diff states/$g "out-$g" --tolerance 1e-6
done
exits 5 "golden: two modes" "$LBRX" diff out-hidden out-hidden_avg --tolerance 0.1
cd ..
moe states hidden a b
ok "states" "$LBRX" moe states.yml -o states-0
ok "states again" "$LBRX" moe states.yml -o states-1 -t 1 --memory 64MB
same "states: threads and budget" states-0/model.safetensors states-1/model.safetensors
sed '/gate_mode/d' states.yml >usual.yml
ok "states by default" "$LBRX" moe usual.yml -o states-2
same "states by default: the same" states-0/model.safetensors states-2/model.safetensors
sed 's/base_model: a/base_model: a.gguf/; s/source_model: a/source_model: a.gguf/' states.yml >base.yml
ok "states of a gguf" "$LBRX" moe base.yml -o states-3
ok "states of a gguf: near" "$LBRX" diff states-0 states-3 --tolerance 1e-2
sed 's/positive_prompts: \[the, one\]/positive_prompts: [the, the]/; s/\[" of"\]/[the]/; /negative/d' states.yml >alike.yml
ok "states alike" "$LBRX" moe alike.yml -o alike2
complains "states alike" "ALL layers have degenerate routers"

# ---- refusals: one line with line and key; nothing written ----
refuse() { # NAME TEXT: of hf.yml changed by sed
    sed "$1" hf.yml >bad.yml
    exits 3 "$2" "$LBRX" moe bad.yml -o no
    complains "$2" "$2"
}
refuse 's/cheap_embed/cheep_embed/' "line 2: gate_mode: 'cheep_embed' is none of"
refuse 's/positive_prompts: \[" of/positive_promts: \[" of/' "experts[1].positive_promts: unknown key; did you mean positive_prompts?"
refuse 's/source_model: b/source_model: a/' "all are the same model"
ok "all the same" "$LBRX" moe bad.yml -o same --i-understand-this-is-not-useful-without-training
refuse 's/positive_prompts: \[" of.*/x-y: 1/' "experts[1]: positive_prompts is missing or empty"
refuse 's/\[" of"\]/[the, one]/; /negative/d' "all have the same prompts"
refuse 's/^gate_mode/experts_per_token: 3\ngate_mode/' "2 experts, of which a token is to use 3"
refuse 's/^gate_mode/architecture: mixtrel\ngate_mode/' "line 2: architecture: 'mixtrel' begins none of"
refuse 's/^gate_mode/architecture: qwen3\ngate_mode/' "Qwen3 MoE: the models must be qwen3"
refuse 's/source_model: b/source_model: nix\/nix/' "line 6: "
make_model gguf qwen2 "$W/made-q" seed=7
refuse 's/source_model: b/source_model: made-q\/model.gguf/' "Mixtral: the models must be"
make_model hf llama "$W/wide" ffn=768 vocab=4096 hidden=64 head_dim=16 tok=bytes
refuse 's/source_model: b/source_model: wide/' "tensor 'model.layers.0.mlp.gate_proj.weight' of 'wide' is"
make_model hf llama "$W/deep" layers=3 vocab=4096 hidden=64 head_dim=16 tok=bytes
refuse 's/source_model: b/source_model: deep/' "'deep' has 3 layers, 'a' 2"
make_model hf llama "$W/bare" vocab=4096 hidden=64 head_dim=16
refuse 's/base_model: a/base_model: bare/' "tokenizer: "
refuse 's/base_model: a/base_model: bad.yml/' "this merge is made of itself"
mkdir other
cp b/* other/
sed 's/LlamaForCausalLM/LlamaForSequenceClassification/' b/config.json >other/config.json
refuse 's/source_model: b/source_model: other/' "other: config.json: the class 'LlamaForSequenceClassification'"
[ ! -e no ] && pass || fail "refusals" "something was written"
exits 3 "merge refuses it" "$LBRX" merge hf.yml -o no
complains "merge refuses it" "lbrx moe takes it"

# ---- --type keep: attention as the base has it, experts as its feed-forward ----
for m in a b; do make_model hf llama "wide-$m" "seed=$(printf %d "'$m")" vocab=4096 hidden=256 ffn=512 heads=4 kv_heads=2 head_dim=64 tok=bytes; done
ok "keep: gguf" "$LBRX" quantize wide-a -o wide.gguf --type q4_k_m
ok "keep: mlx" "$LBRX" quantize wide-a -o wide-mlx --to mlx --type mlx-mixed_3_6
ok "keep: fp8" "$LBRX" quantize wide-a -o wide-fp8 --type fp8
ok "keep: w4a16" "$LBRX" quantize wide-a -o wide-w4 --type w4a16 --group-size 64
cat >kept_types.py <<'END'
# kept_types.py BASE RESULT: of each tensor of both the same; of experts those of the layer's feed-forward.
import json, re, sys
base, made = ({t["name"]: t["type"] for t in json.load(open(f))["tensors"]} for f in sys.argv[1:])
own = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
n = 0
for name, kind in made.items():
    like = re.sub(r"ffn_(\w+)_exps", r"ffn_\1", name)
    like = re.sub(r"block_sparse_moe\.(experts\.\d+|switch_mlp)\.(\w+)", lambda m: "mlp." + own.get(m[2], m[2]), like)
    router = "ffn_gate_inp" in name or "block_sparse_moe.gate." in name
    assert router or base[like] == kind, (name, kind, base.get(like))
    n += like != name
assert n >= 6, n
END
for m in wide.gguf wide-mlx wide-fp8 wide-w4; do
    printf 'base_model: %s\ngate_mode: random\nexperts:\n- source_model: %s\n- source_model: wide-b\n' $m $m >keep.yml
    ok "keep: $m" "$LBRX" moe keep.yml -o "kept-$m" --type keep
    "$LBRX" inspect $m --tensors --json >k1
    "$LBRX" inspect "kept-$m" --tensors --json >k2
    python3 kept_types.py k1 k2 2>err && pass || fail "keep: $m" "$(tail -1 err)"
    ok "keep: $m is whole" "$LBRX" verify "kept-$m"
    ok "keep: $m: values" "$LBRX" moe keep.yml -o values --to hf --type f32 --force
    ok "keep: $m: values" "$LBRX" diff values "kept-$m" --tolerance 0.35
done
for m in fp8 w4; do
    grep -q '"model.layers.1.block_sparse_moe.gate"' kept-wide-$m/config.json && pass || fail "keep: $m" "routers are no plain modules in config.json"
done
finish
