#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_binary.sh PROGRAM: it links only the platform's C library, and needs no newer one than 2.34
# (or OLDEST, for a release); no build file asks for the machine's own instruction set or for inexact arithmetic.
set -u
cd "$(dirname "$0")/.." || exit 1
status=0

if grep -nE -e '-m(arch|tune|cpu)=native|-f(fast-math|unsafe-math|associative-math)|-Ofast' \
    Makefile 'do' .ci/run tests/*.mk 2>/dev/null; then
    echo "the flags above make the program differ from machine to machine"
    status=1
fi
case $1 in
*-address* | *-thread* | *-memory* | *-fuzz*) exit $status ;; # sanitizers bring their own libraries
esac
if [ "$(uname -s)" = Darwin ]; then
    otool -L "$1" | tail -n +2 | grep -v '/usr/lib/libSystem' && {
        echo "$1 links more than libSystem"
        status=1
    }
    exit $status
fi
command -v objdump >/dev/null 2>&1 || {
    echo "objdump is not installed"
    exit 77
}
objdump -p "$1" | sed -n 's/^ *NEEDED *//p' |
    grep -vE '^(libc\.so\.6|libm\.so\.6|libpthread\.so\.0|libdl\.so\.2|ld-linux[-a-z0-9_]*\.so\.[0-9])$' && {
    echo "$1 links more than the C library"
    status=1
}
newest=$(objdump -T "$1" | grep -oE 'GLIBC_[0-9.]+' | sort -u -V | tail -1)
limit=GLIBC_${OLDEST:-2.34}
if [ "$(printf '%s\n%s\n' "$newest" "$limit" | sort -V | tail -1)" != "$limit" ]; then
    objdump -T "$1" | grep "$newest"
    echo "$1 needs $newest; $limit is the limit"
    status=1
fi
exit $status
