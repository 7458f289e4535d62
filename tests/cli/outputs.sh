#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# outputs.sh: what the writing commands leave alone: files behind links, sums that exist, the
# terminal, and the descriptors of a process that was started without some.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

if ! "$LBRX" help convert >"$W/out" 2>"$W/err"; then
    skip "everything" "this build does not list the command"
    finish
fi
mkdir "$W/g" "$W/s"
make_model gguf llama "$W/g"
make_model hf llama "$W/hf" shard=300000
G=$W/g/model.gguf
safetensors "$W/one.safetensors" \
    '{"a\u001b[2J":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}' \
    'abcd'

# ---- links under our own names ----
echo mine >"$W/mine"
ln -s "$W/mine" "$W/l.gguf.lbrx-journal"
exits 1 "link as journal" "$LBRX" convert "$G" -o "$W/l.gguf"
ln -s "$W/mine" "$W/k.gguf.lbrx-partial"
ok "link as partial" "$LBRX" convert "$G" -o "$W/k.gguf"
if [ "$(cat "$W/mine")" = mine ]; then pass; else fail "links" "the file behind one was written"; fi

# ---- left by a run to the other kind of output ----
mkdir "$W/f.gguf.lbrx-partial"
echo x >"$W/f.gguf.lbrx-partial/model.safetensors"
ok "folder as partial" "$LBRX" convert "$G" -o "$W/f.gguf"
echo x >"$W/d.lbrx-partial"
ok "file as partial" "$LBRX" convert "$W/hf" -o "$W/d"

# ---- sums ----
echo mine >"$W/x.gguf.sha256"
exits 2 "sums exist" "$LBRX" convert "$G" -o "$W/x.gguf" --sha256
complains "sums exist" "x.gguf.sha256' exists"
ok "sums replaced" "$LBRX" convert "$G" -o "$W/x.gguf" --sha256 --force
ok "sums of parts" "$LBRX" split "$G" -o "$W/s/x.gguf" --max-shard-size 300kB --sha256
ok "sums of parts hold" sh -c 'cd "$1" && sha256sum -c x.gguf.sha256' sh "$W/s"
says "sums of parts hold" "x-00002-of-"

# ---- a lone safetensors file ----
exits 2 "cut a lone file" "$LBRX" split "$W/one.safetensors" -o "$W/cut" --max-shard-size 2
ok "cut it into a folder" "$LBRX" split "$W/one.safetensors" -o "$W/cut" --max-shard-size 2 --to hf

# ---- names of a file on the terminal ----
ok "plan" "$LBRX" convert "$W/one.safetensors" -o "$W/t" --dry-run
says "plan" 'a\x1b[2J'
if grep -q "$(printf '\033')" "$W/out"; then fail "plan" "a control byte"; else pass; fi

# ---- closed descriptors ----
ok "no standard files" sh -c '"$LBRX" convert "$1" -o "$2" --to none <&- 2>&-' sh "$W/hf" "$W/n"
"$LBRX" convert "$W/hf" -o "$W/n" --progress plain <&- >&- 2>&-
exits 0 "written without them" "$LBRX" diff "$W/hf" "$W/n"

# ---- what --force may replace ----
mkfifo "$W/pipe"
exits 2 "a pipe" "$LBRX" convert "$G" -o "$W/pipe" --force
[ -p "$W/pipe" ] && pass || fail "a pipe" "it is gone"
exits 2 "standard output" "$LBRX" convert "$G" -o -
ok "a folder of ours" "$LBRX" convert "$W/hf" -o "$W/old" --sha256
ok "replaced, sums too" "$LBRX" convert "$W/hf" -o "$W/old" --force
for stranger in notes.txt data.json script.py weights.bin .hidden; do
    echo mine >"$W/old/$stranger"
    exits 2 "$stranger" "$LBRX" convert "$W/hf" -o "$W/old" --force
    complains "$stranger" "$stranger"
    [ "$(cat "$W/old/$stranger")" = mine ] && pass || fail "$stranger" "it is gone"
    rm "$W/old/$stranger"
done
cp -R "$W/hf" "$W/with"
echo x >"$W/with/eval_results.json"
ok "a side file is copied" "$LBRX" convert "$W/with" -o "$W/taken"
[ -s "$W/taken/eval_results.json" ] && pass || fail "a side file is copied" "it is not"
ok "what lbrx.json lists may go" "$LBRX" convert "$W/hf" -o "$W/taken" --force
mkdir "$W/links"
ln -s "$G" "$W/links/m.gguf"
exits 2 "the folder of a link that is the input" "$LBRX" convert "$W/links/m.gguf" -o "$W/links" --to hf --force
[ -L "$W/links/m.gguf" ] && pass || fail "the folder of a link" "it is gone"
ok "a folder with a tokenizer" "$LBRX" convert "$G" -o "$W/from" --to hf
exits 2 "parts of a GGUF inside the input" "$LBRX" split "$W/from" -o "$W/from/x.gguf" \
    --max-shard-size 700kB
complains "parts of a GGUF inside the input" "lies inside the input"

# ---- a dry run refuses what the run would ----
exits 2 "plan onto the input" "$LBRX" convert "$W/hf" -o "$W/hf" --dry-run
exits 2 "plan onto what exists" "$LBRX" convert "$W/hf" -o "$W/old" --dry-run
ok "plan with --force" "$LBRX" convert "$W/hf" -o "$W/old" --dry-run --force
ok "plan as JSON" "$LBRX" convert "$W/hf" -o "$W/planned" --dry-run --json
says "plan as JSON" '"peak_memory_bytes": '
says "plan as JSON" '"source": "copy <- read model.norm.weight"'
[ ! -e "$W/planned" ] && pass || fail "plan as JSON" "something was written"
if command -v python3 >/dev/null 2>&1; then
    cp "$W/out" "$W/plan.json"
    ok "plan is JSON" python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
assert d["dry_run"] is True and len(d["plan"]) == d["tensors"] == 21
assert d["bytes_read"] == d["bytes_written"] == 2689536 < d["disk_bytes"]' "$W/plan.json"
fi
ok "none" "$LBRX" convert "$W/hf" --to none --json
says "none" '"bytes_written": 0,'

# ---- loaders look for these names ----
mkdir "$W/vae"
echo '{"_class_name": "AutoencoderKL"}' >"$W/vae/config.json"
cp "$W/one.safetensors" "$W/vae/diffusion_pytorch_model.safetensors"
ok "diffusers" "$LBRX" convert "$W/vae" -o "$W/vae2"
same "diffusers" "$W/vae/config.json" "$W/vae2/config.json"
[ -s "$W/vae2/diffusion_pytorch_model.safetensors" ] && pass || fail diffusers "another name"
mkdir "$W/lora"
echo '{"peft_type": "LORA"}' >"$W/lora/adapter_config.json"
cp "$W/one.safetensors" "$W/lora/adapter_model.safetensors"
ok "an adapter" "$LBRX" convert "$W/lora" -o "$W/lora2"
[ -s "$W/lora2/adapter_model.safetensors" ] && pass || fail "an adapter" "another name"
exits 3 "an adapter to MLX" "$LBRX" convert "$W/lora" -o "$W/lora3" --to mlx
complains "an adapter to MLX" "adapter"
safetensors "$W/f64.safetensors" '{"w":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}' \
    '\000\000\000\000\000\000\370\077'
exits 3 "a type that MLX lacks" "$LBRX" convert "$W/f64.safetensors" -o "$W/f64" --to mlx
complains "a type that MLX lacks" "--dtype f32"
ok "cast it" "$LBRX" convert "$W/f64.safetensors" -o "$W/f64" --to mlx --dtype f32
finish
