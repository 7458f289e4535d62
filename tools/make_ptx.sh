#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make_ptx.sh: src/device/kern/kernels.ptx.gz from the kernels' text, by nvcc. Run it after a change in
# src/device/kern and commit what it makes; `make check` says when that was forgotten.
#
# The text is for compute capability 7.5 and PTX 7.0 (drivers of CUDA 11.0 and later); the driver compiles it
# for its device. nvcc writes the PTX version of its own CUDA: it is lowered, and ptxas says whether all
# instructions are in the lower one. The first line holds the SHA-256 of the kernels' text.
# NVCC, PTXAS: other programs. Without nvcc there is nothing to do for those who only build.
set -eu
cd "$(dirname "$0")/.."
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
ptxas=${PTXAS:-$(dirname "$nvcc")/ptxas}
out=src/device/kern/kernels.ptx.gz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh tools/kernel_text.sh >"$work/kernels.cu"
sum=$(sha256sum <"$work/kernels.cu" | cut -d' ' -f1)
"$nvcc" -std=c++14 -ptx -arch=compute_75 -fmad=false -o "$work/nvcc.ptx" "$work/kernels.cu"
{
    echo "// lbrx kernels $sum"
    sed -e '/^\/\//d; /^$/d' -e 's/^\.version .*/.version 7.0/' "$work/nvcc.ptx"
} >"$work/kernels.ptx"
for arch in sm_75 sm_80 sm_90; do
    "$ptxas" -arch=$arch -o "$work/cubin" "$work/kernels.ptx"
done
gzip -9 -n <"$work/kernels.ptx" >"$out"
echo "$out: $(wc -c <"$work/kernels.ptx") bytes of PTX, $(wc -c <"$out") compressed"
