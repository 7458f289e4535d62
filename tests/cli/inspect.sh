#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# inspect.sh: `lbrx inspect` on what is no model; on models see test_inspect.c and tests/peers.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

exits 2 "no model" "$LBRX" inspect
exits 3 absent "$LBRX" inspect "$W/absent"
complains absent "no such file or folder"
exits 3 hub "$LBRX" inspect hf://owner/name
complains hub "hf://"
: >"$W/empty"
exits 3 "empty file" "$LBRX" inspect "$W/empty"
echo "merge_method: linear" >"$W/m.yml"
exits 3 "merge file" "$LBRX" inspect "$W/m.yml"
complains "merge file" "merge file"
printf 'PK\003\004xxxxxxxxxxxxxxxx' >"$W/pytorch_model.bin"
exits 3 pickle "$LBRX" inspect "$W/pytorch_model.bin"
complains pickle "PyTorch"
exits 3 "model+adapter" "$LBRX" inspect "$W/empty+$W/m.yml"
complains "model+adapter" "MODEL+ADAPTER"
echo '{"metadata": {}}' >"$W/model.safetensors.index.json"
exits 3 "an index" "$LBRX" inspect "$W/model.safetensors.index.json"
complains "an index" "give the folder"
mkdir "$W/folder"
exits 3 "empty folder" "$LBRX" inspect "$W/folder"
printf '\377\377\377\377\000\000\000\000{}' >"$W/short.safetensors"
exits 3 "cut off" "$LBRX" inspect "$W/short.safetensors"
for device in cuda cuda:1 metal; do
    exits 2 "device $device" "$LBRX" inspect "$W/empty" --device $device
    complains "device $device" "not in this build"
done
exits 2 "unknown device" "$LBRX" inspect "$W/empty" --device tpu

finish
