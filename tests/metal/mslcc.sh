#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mslcc.sh TEXT OUT: Metal Shading Language to a shared object, by clang: the stand-in's compiler. Messages go to
# stderr, with the text's own lines. What was compiled before is taken from the folder LB_TEST_MSL_CACHE.
#
# LB_TEST_CLANG names the compiler, LB_TEST_MSL_TARGET what it compiles for (this machine).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
text=$1 out=$2
clang=${LB_TEST_CLANG:-clang} target=${LB_TEST_MSL_TARGET:-}
cache=${LB_TEST_MSL_CACHE:-}
if [ -n "$cache" ]; then
    key=$(cat "$text" "$here/include/metal_stdlib" "$here/kernels.awk" "$here/threads.inc" "$0" | sha256sum | cut -d' ' -f1)
    kept=$cache/$key$target.so
    if [ -f "$kept" ]; then
        cp "$kept" "$out"
        exit 0
    fi
fi
# Contraction is off by the text's own pragma in Metal, and a char is signed there; clang takes both as options.
set -- -x c++ -std=c++14 ${target:+--target="$target"} -D__METAL_VERSION__=300 -DLBK_MSL_CHECK -nostdinc -nostdinc++ \
    -I"$here/include" -O1 -fPIC -fvisibility=hidden -fno-exceptions -fno-math-errno -fsigned-char -ffp-contract=off \
    -Wall -Werror=return-type -Wno-unknown-attributes -Wno-unused-function -Wno-unknown-pragmas
# Else each fma is a call.
[ -n "$target" ] || ! grep -qw fma /proc/cpuinfo 2>/dev/null || set -- "$@" -mfma
{
    printf '#line 1 "program_source"\n'
    cat "$text"
    printf '#line 1 "threads.inc"\n'
    cat "$here/threads.inc"
} >"$out.cc"
"$clang" "$@" -E "$out.cc" -o "$out.ii"
awk -f "$here/kernels.awk" "$out.ii" >"$out.all.cc"
"$clang" "$@" -c "$out.all.cc" -o "$out.o"
# Nothing of C's library is linked: the program that opens it has it.
"$clang" ${target:+--target="$target"} -nostdlib -shared "$out.o" -o "$out"
if [ -n "$cache" ]; then
    mkdir -p "$cache"
    cp "$out" "$kept.$$"
    mv "$kept.$$" "$kept"
fi
