#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make_ptx.sh: src/device/kern/kernels*.ptx.gz from the kernels' text, by nvcc. Run it after a
# change in src/device/kern and commit what it makes; `make check` says when that was forgotten.
#
# The text is for compute capability 7.5 and PTX 7.0 (drivers of CUDA 11.0 and later), the products by tensor cores
# (mm_*: LBK_TENSOR) for 8.0, those that are for 9.0 alone (gemm*: LBK_HOPPER) for PTX 8.0; the driver compiles them for its device. nvcc writes the PTX version of its own CUDA: it is
# lowered, hints of newer ones are left out, and ptxas says whether all instructions are in the lower one. The first line holds the SHA-256 of
# the kernels' text. NVCC, PTXAS: other programs. Without nvcc there is nothing to do for those who only build.
set -eu
cd "$(dirname "$0")/.."
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
ptxas=${PTXAS:-$(dirname "$nvcc")/ptxas}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh tools/kernel_text.sh >"$work/kernels.cu"
sum=$(sha256sum <"$work/kernels.cu" | cut -d' ' -f1)

# NAME COMPUTE ARCHS PTX [OPTION]: for COMPUTE in that version of PTX, tried for ARCHS
make_one() {
    out=src/device/kern/$1.ptx.gz
    "$nvcc" -std=c++14 -ptx -arch="compute_$2" -fmad=false ${5:+"$5"} -o "$work/nvcc.ptx" "$work/kernels.cu"
    {
        echo "// lbrx kernels $sum"
        sed -e '/^\/\//d; /^$/d; /\.pragma "used_bytes_mask/d' -e "s/^\.version .*/.version $4/" "$work/nvcc.ptx"
    } >"$work/$1.ptx"
    for arch in $3; do
        "$ptxas" -arch="$arch" -o "$work/cubin" "$work/$1.ptx"
    done
    gzip -9 -n <"$work/$1.ptx" >"$out"
    echo "$out: $(wc -c <"$work/$1.ptx") bytes of PTX, $(wc -c <"$out") compressed"
}
make_one kernels 75 'sm_75 sm_80 sm_90' 7.0
make_one kernels_mm 80 'sm_80 sm_90' 7.0 -DLBK_TENSOR
make_one kernels_hopper 90a sm_90a 8.0 -DLBK_HOPPER
