#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# quantize_beside.sh: a model so large that the CPU begins while a device is opened: the same bytes, whoever made them;
# a device that does not open, or fails later, is told of as ever.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
cost=slow
cd "$W" || exit 1
if [ -z "${LB_TEST_STUB_CUDA:-}" ] || [ ! -f "$LB_TEST_STUB_CUDA" ]; then
    skip "cuda" "no stand-in for the CUDA driver"
    finish
fi
if is_sanitized; then
    skip "beside" "256 M values"
    finish
fi
LD_LIBRARY_PATH=$(dirname "$LB_TEST_STUB_CUDA")
export LD_LIBRARY_PATH
# 2^28 values and a little more, zeros but for digits that are small numbers in bf16
make_model hf llama big sparse=1 dtype=bf16 layers=1 hidden=2048 heads=16 ffn=2048 vocab=131072 tied=1
file=$(find big -name '*.safetensors' | head -1)
for at in 1 200 500; do
    seq 400000 | tr -d '\n' | dd of="$file" bs=1M seek=$at conv=notrunc iflag=fullblock 2>/dev/null
done
Q="$LBRX quantize big -o"

ok "cpu" $Q cpu --to mlx --type mlx-q4 --no-provenance --no-sync
alike() {
    ok "$1" env $2 LBRX_LOG=1 $Q made --to mlx --type mlx-q4 --no-provenance --no-sync --device cuda -t ${3:-2}
    for one in cpu/*; do
        same "$1: ${one#cpu/}" "$one" "made/${one#cpu/}"
    done
    grep -q "nothing was quantized" "$W/err" && fail "$1" "$(cat "$W/err")" || pass
    rm -rf made
}
alike "begun at once" A= 1
grep -q " values quantized in [1-9]" "$W/err" && pass || fail "begun at once" "$(cat "$W/err")"
alike "begun late" STUB_CUDA_SLOW=60
alike "begun when all is done" STUB_CUDA_SLOW=1500
alike "a kernel that fails" STUB_CUDA_BAD=wrong:enc_
grep -q "^warning: cuda:0: kernel enc_mlx_affine fails its test: .*; the CPU quantizes instead$" "$W/err" && pass ||
    fail "a kernel that fails" "$(cat "$W/err")"
# gone WHAT EXIT TEXT SETTINGS...
gone() {
    title=$1 code=$2 text=$3
    shift 3
    exits "$code" "$title" env "$@" $Q made --to mlx --type mlx-q4 --no-provenance --no-sync --device cuda
    complains "$title" "$text"
}
for slow in 0 60 1500; do
    gone "no GPU" 3 "the driver sees no GPU" STUB_CUDA=none STUB_CUDA_SLOW=$slow
    [ "$(find . -maxdepth 1 -name '*made*')" = "" ] && pass || fail "no GPU" "something was written"
done
gone "no GPUs" 3 "the driver sees no GPU" STUB_CUDA_GPUS=0
gone "memory" 1 "a buffer of" STUB_CUDA_MEMORY=3000000
[ "$(find . -maxdepth 1 -name '*made*')" = "" ] && pass || fail "memory" "something was written"
gone "lost at first" 1 "cuda:0: the device was lost" STUB_CUDA_LOST=1
[ "$(find . -maxdepth 1 -name '*made*')" = "" ] && pass || fail "lost at first" "something was written"
finish
