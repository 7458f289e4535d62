#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make_kernel_tables.sh: src/device/kern/iq_tables.k from src/kernel/iq_tables.c: the codebooks of the IQ-quants in the
# kernels' dialect.
set -eu
cd "$(dirname "$0")/.."
{
    echo '/* iq_tables.k: the codebooks of the IQ-quants; kernel/iq_tables.h says what they are.'
    echo ' * Written by tools/make_kernel_tables.sh from kernel/iq_tables.c. */'
    sed -n -e 's/^const u64 lb_\(iq[a-z0-9]*_grid\)\[\([0-9]*\)\] = {$/LBK_TABLE(u64, lbk_\1, \2) = {/p' \
        -e 's/^const u32 lb_\(iq[a-z0-9]*_grid\)\[\([0-9]*\)\] = {$/LBK_TABLE(u32, lbk_\1, \2) = {/p' \
        -e '/^ *0x[0-9a-f]/p' -e '/^};$/p' src/kernel/iq_tables.c |
        awk '/LBK_TABLE/ { on = 1 } on { print } /^};$/ { on = 0 }'
} >src/device/kern/iq_tables.k
