#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# inspect.sh: `lbrx inspect` on what is no model; on models see test_inspect.c and tests/peers.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

exits 2 "no model" "$LBRX" inspect
exits 3 absent "$LBRX" inspect "$W/absent"
complains absent "no such file or folder"
exits 2 "empty name" "$LBRX" inspect ""
: >"$W/empty"
exits 3 "empty file" "$LBRX" inspect "$W/empty"
echo "merge_method: linear" >"$W/m.yml"
exits 3 "merge file" "$LBRX" inspect "$W/m.yml"
complains "merge file" "is needed"
printf 'PK\003\004xxxxxxxxxxxxxxxx' >"$W/pytorch_model.bin"
exits 3 pickle "$LBRX" inspect "$W/pytorch_model.bin"
complains pickle "damaged or incomplete"
exits 3 "model+adapter" "$LBRX" inspect "$W/empty+$W/m.yml"
complains "model+adapter" "empty: neither"
echo '{"metadata": {}}' >"$W/model.safetensors.index.json"
exits 3 "an index" "$LBRX" inspect "$W/model.safetensors.index.json"
complains "an index" "give the folder"
mkdir "$W/folder"
exits 3 "empty folder" "$LBRX" inspect "$W/folder"
printf '\377\377\377\377\000\000\000\000{}' >"$W/short.safetensors"
exits 3 "cut off" "$LBRX" inspect "$W/short.safetensors"
for device in cuda cuda:1; do
    exits 2 "device $device" "$LBRX" inspect "$W/empty" --device $device
    complains "device $device" "computes on the CPU alone"
done
exits 2 "device metal" "$LBRX" inspect "$W/empty" --device metal
complains "device metal" "this command computes on the CPU alone"
exits 2 "unknown device" "$LBRX" inspect "$W/empty" --device tpu

# ---- names that are none ----
make_model hf qwen2 "$W/called"
ln -s round "$W/called/round"
ok "a link in a circle" "$LBRX" inspect "$W/called"
says "a link in a circle" "'round' is a link to nothing"
mkdir "$W/called/below"
for path in . ./ below/.. "$W/called/."; do
    ok "called $path" sh -c 'cd "$1" && "$LBRX" inspect "$2"' sh "$W/called" "$path"
    says "called $path" "model         called"
done

# ---- the hub's local cache ----
make_model hf qwen2 "$W/made"
repo=$W/cache/models--some--Tiny-Model
commit=0123456789abcdef0123456789abcdef01234567
mkdir -p "$repo/blobs" "$repo/refs" "$repo/snapshots/$commit"
printf %s "$commit" >"$repo/refs/main"
for file in "$W"/made/*; do
    cp "$file" "$repo/blobs/blob-of-$(basename "$file")"
    ln -s "../../blobs/blob-of-$(basename "$file")" "$repo/snapshots/$commit/$(basename "$file")"
done
mkdir -p "$W/home/.cache/huggingface" "$W/hf_home"
ln -s "$W/cache" "$W/home/.cache/huggingface/hub"
ln -s "$W/cache" "$W/hf_home/hub"
unset HF_HUB_CACHE HF_HOME XDG_CACHE_HOME
ok "HF_HUB_CACHE" env HF_HUB_CACHE="$W/cache" "$LBRX" inspect hf://some/Tiny-Model
says "HF_HUB_CACHE" "some/Tiny-Model"
ok "HF_HOME" env HF_HOME="$W/hf_home" "$LBRX" inspect hf://some/Tiny-Model@main
ok "XDG_CACHE_HOME" env XDG_CACHE_HOME="$W/home/.cache" "$LBRX" inspect "hf://some/Tiny-Model@$commit"
ok "HOME" env HOME="$W/home" "$LBRX" diff hf://some/Tiny-Model "$W/made"
ok "a file of it" env HOME="$W/home" "$LBRX" inspect hf://some/Tiny-Model/model.safetensors
ok "convert" env HOME="$W/home" "$LBRX" convert hf://some/Tiny-Model -o "$W/copy" -q
grep -q '"name": "some/Tiny-Model"' "$W/copy/lbrx.json" && pass || fail convert "no hub id in lbrx.json"
grep -q "$commit" "$W/copy/lbrx.json" && fail convert "a part of a path in lbrx.json" || pass
exits 2 "into the snapshot" env HOME="$W/home" "$LBRX" convert hf://some/Tiny-Model \
    -o "$repo/snapshots/$commit/x"
HF_ENDPOINT=http://127.0.0.1:1
export HF_ENDPOINT
HOME=$W/home exits 3 "not in the cache" "$LBRX" inspect hf://some/other
complains "not in the cache" "not in the local cache, and not to be had"
HOME=$W/home exits 3 "no such revision" "$LBRX" inspect hf://some/Tiny-Model@v2
for bad in hf:// hf:///x hf://a/../b hf://../b hf://a/b@ hf://a/b/../../c "hf://a b/c" hf://a/b@../x; do
    HOME=$W/home exits 2 "$bad" "$LBRX" inspect "$bad"
done
finish
