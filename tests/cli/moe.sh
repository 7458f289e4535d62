#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# moe.sh: models made of the parts of others: mixtures of experts, layers drawn at random.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

for m in a b; do
    make_model gguf llama "$W/made-$m" "seed=$(printf %d "'$m")"
    ok "$m" "$LBRX" convert "$W/made-$m/model.gguf" -o "$W/$m" --to hf
done
cp "$W/made-b/model.gguf" "$W/b.gguf"
cd "$W" || exit 1

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

finish
