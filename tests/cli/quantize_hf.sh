#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# quantize_hf.sh: folders for transformers and vLLM: every type and scope, the same bytes from any input,
# budget and number of threads, verify against the source, and what is refused. What the bytes are:
# tests/peers/peer_quant_hf_model.py.
# shellcheck source=tests/cli_lib.sh
cost=slow
. "$(dirname "$0")/../cli_lib.sh"
cd "$W" || exit 1
Q="$LBRX quantize"

make_model gguf llama g hidden=256 ffn=512 heads=4 layers=2
ok "to hf" "$LBRX" convert g/model.gguf -o m --to hf --no-sync
ok "to mlx" "$LBRX" convert m -o mlx --to mlx --no-sync

while read -r type options; do
    # shellcheck disable=SC2086 # options
    ok "$type $options" $Q m -o q --type "$type" $options --no-sync --no-provenance --force
    # shellcheck disable=SC2086
    ok "$type $options: in little memory" $Q m -o r --type "$type" $options -t 3 --memory 20MB --no-sync \
        --no-provenance --force
    same "$type $options: any budget" q/model.safetensors r/model.safetensors
    # shellcheck disable=SC2086
    ok "$type $options: from mlx" $Q mlx -o r --to hf --type "$type" $options --no-sync --no-provenance --force
    ok "$type $options: no difference" "$LBRX" diff q r
    # shellcheck disable=SC2086
    ok "$type $options: from gguf" $Q g/model.gguf -o r --to hf --type "$type" $options --no-sync --no-provenance --force
    ok "$type $options: no difference" "$LBRX" diff q r
    ok "$type $options: verify" "$LBRX" verify q --against m
    says "$type $options: verify" "made again, 0 different"
    ok "$type $options: read back" "$LBRX" convert q -o back --dtype bf16 --no-sync --force
    exits 5 "$type $options: near the source" "$LBRX" diff m back --json
    rel=$(sed -n 's/.*"name": "model.layers.0.mlp.up_proj.weight".*"rel": \([0-9.e-]*\).*/\1/p' out)
    if awk "BEGIN { exit !($rel > 0 && $rel < 0.35) }"; then pass; else fail "$type $options" "up_proj is off by $rel"; fi
    if grep -q '"quantization_config"' q/config.json; then pass; else fail "$type $options" "no quantization_config"; fi
done <<END
fp8
fp8 --group-size tensor
fp8-block
w4a16
w4a16 --group-size 32 --asym
w4a16 --group-size channel --asym
w4a16 --override o_proj=fp8 --override down_proj=bf16
w8a8
w8a8 --group-size tensor --sym
END

# ---- refused ----
exits 2 "not a type of GGUF" $Q m -o x.gguf --type fp8
exits 2 "groups" $Q m -o x --type fp8 --group-size 64
complains "groups" "channel or tensor"
exits 2 "zero points" $Q m -o x --type w8a8 --asym
exits 2 "blocks have one size" $Q m -o x --type fp8-block --group-size channel
exits 2 "both" $Q m -o x --type w4a16 --sym --asym
exits 2 "refine" $Q m -o x --type w4a16 --refine
exits 2 "two configs" $Q m -o x --type fp8-block --override o_proj=w8a8
exits 2 "an override for nothing" $Q m -o x --type fp8 --override no_such=w8a8
make_model hf llama odd hidden=192 ffn=320 heads=4 layers=1 vocab=512
exits 3 "no blocks" $Q odd -o x --type fp8-block
if [ ! -e x ]; then pass; else fail "refused" "x exists"; fi

finish
