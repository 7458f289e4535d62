#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh PROGRAM: a program lbrx for macOS on Apple silicon. What its file says (tools/check_macho.py), and on Linux its
# self-test: run.c maps it, the stand-in for Metal (tests/metal) compiles and runs the kernels' text that is in it; on
# another processor by Debian's cross compiler and qemu. Ends with a line of counts.
set -u
cd "$(dirname "$0")/../.." || exit 1
program=$1
passed=0 failed=0 skipped=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# expect NAME CODE TEXT COMMAND...: the exit code, and TEXT in what is printed.
expect() {
    name=$1 want=$2 text=$3
    shift 3
    "$@" >"$work/out" 2>&1 </dev/null
    got=$?
    if [ $got -eq "$want" ] && grep -qF -e "$text" "$work/out"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: macho: $name: exit $got, expected $want with '$text'"
        tail -5 "$work/out" | sed 's/^/    /'
    fi
}

finish() {
    echo "macho: $passed passed, $failed failed, $skipped skipped"
    [ $failed -eq 0 ]
    exit
}

expect "the file" 0 "a program that macOS loads" python3 tools/check_macho.py "$program"
# A byte of a page, the end, and the library's name: each is seen.
bytes=$(wc -c <"$program")
cp "$program" "$work/damaged"
printf 'x' | dd of="$work/damaged" bs=1 seek=40000 conv=notrunc 2>/dev/null
expect "a damaged page" 1 "is not the one that was signed" python3 tools/check_macho.py "$work/damaged"
head -c $((bytes - 100)) "$program" >"$work/damaged"
expect "a cut file" 1 "$work/damaged: " python3 tools/check_macho.py "$work/damaged"
LC_ALL=C sed 's,/usr/lib/libSystem\.B\.dylib,/usr/lib/libSystem.C.dylib,' "$program" >"$work/damaged"
expect "another library" 1 "it asks for" python3 tools/check_macho.py "$work/damaged"

cc=cc runner=
if [ "$(uname -s)" != Linux ]; then
    skipped=$((skipped + 1))
    echo "skip: macho: it is run on Linux"
    finish
fi
if [ "$(uname -m)" != aarch64 ]; then
    cc=aarch64-linux-gnu-gcc
    runner=$(command -v qemu-aarch64-static || command -v qemu-aarch64)
    if [ -z "$runner" ] || ! command -v $cc >/dev/null || ! command -v clang >/dev/null; then
        skipped=$((skipped + 1))
        echo "skip: macho: its run needs qemu-user, $cc and clang"
        finish
    fi
    runner="$runner -L /usr/aarch64-linux-gnu"
fi
if ! make -s --no-print-directory CC=$cc "CFLAGS=-idirafter /usr/include" macho-run >"$work/out" 2>&1; then
    failed=$((failed + 1))
    echo "FAILED: macho: what runs it does not compile"
    tail -20 "$work/out"
    finish
fi

# lbrx ARGUMENT...: the program, with the stand-in.
# shellcheck disable=SC2086 # the runner is a command line
lbrx() {
    LBRX_TEST_METAL=$PWD/build/$cc/tests/metal/libmetal.so $runner "build/$cc/tests/macho/run" "$program" "$@"
}
expect "info" 0 "metal    Stub" lbrx info
expect "info, the system" 0 "darwin arm64" lbrx info
# Of each family some: under an emulator all of them take minutes.
for kernel in mv_q4_k mve_mlx_q4 mm_q4_0 mm_bf16 rows_iq2_xxs rms_norm attend attend_tile attend_wide kv_put route routes_group delta_gates \
    delta_steps delta_chunks conv_steps; do
    expect "selftest metal $kernel" 0 "1 kernels right, 0 wrong" lbrx selftest --device metal --kernel $kernel
done
expect "selftest cpu" 0 "1 kernels right, 0 wrong" lbrx selftest --device cpu --kernel argmax --schedule 3
STUB_METAL=broken expect "a text that does not compile" 5 "does not compile the kernels: program_source:" \
    lbrx selftest --kernel add
STUB_METAL=none expect "no GPU" 3 "the system has no GPU" lbrx selftest --device metal
STUB_METAL_LOST=2 expect "lost" 5 "the device was lost" lbrx selftest --device metal --kernel add
finish
