#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# release.sh: portable binaries from one machine, by the C compiler in the PyPI package ziglang.
#
#   tools/release.sh [TARGET...]           build/release/lbrx-VERSION-TARGET/lbrx for each
#   tools/release.sh --check [TARGET...]   only compiles the whole library for each: `make check-targets`;
#                                          for macOS also links the program and runs it (tests/macho/check.sh)
#
# TARGET: x86_64-linux-gnu.2.28 aarch64-linux-gnu.2.28 aarch64-macos, or another triple that zig knows.
# The static libraries are built from the sources that Debian ships, checked by their SHA-256 and kept
# in ${LBRX_CACHE:-~/.cache/lbrx}/release. --check fetches nothing and takes the headers of this
# machine; without ziglang it is skipped. ZIG names another zig (a path without blanks).
set -eu
cd "$(dirname "$0")/.."
zig_version=0.17.1
pool=${LBRX_DEBIAN_POOL:-https://deb.debian.org/debian/pool/main}
cache=${LBRX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lbrx}/release
targets='aarch64-macos x86_64-linux-gnu.2.28 aarch64-linux-gnu.2.28' # what runs in check() first
out=build/release
version=$(cat VERSION)
jobs=${JOBS:-2}
# A libc's checks of lengths, which zig asks for where it does not optimise, are no part of a release.
checked='-idirafter /usr/include -g0 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0'

say() {
    printf '%s\n' "release: $*" >&2
}

# Leaves the compiler's command line in $zig, or returns 1.
find_zig() {
    python=python3
    if [ -x "$cache/zig-$zig_version/bin/python" ]; then
        python=$cache/zig-$zig_version/bin/python
    fi
    if [ -n "${ZIG:-}" ]; then
        zig=$ZIG
    elif $python -m ziglang version >/dev/null 2>&1; then
        # The program itself: two thousand starts of Python are a minute.
        zig=$($python -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))')
        [ -x "$zig" ] || zig="$python -m ziglang"
    else
        return 1
    fi
}

install_zig() {
    say "installing ziglang $zig_version into $cache"
    python3 -m venv "$cache/zig-$zig_version"
    "$cache/zig-$zig_version/bin/python" -m pip install -q --disable-pip-version-check \
        "ziglang==$zig_version" || {
        rm -rf "$cache/zig-$zig_version"
        return 1
    }
}

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum "$1" | cut -d' ' -f1
    else
        shasum -a 256 "$1" | cut -d' ' -f1
    fi
}

# source_of PATH SHA256: unpacks an archive of Debian's pool into $out/src.
source_of() {
    file=$cache/$(basename "$1")
    if [ ! -f "$file" ] || [ "$(sha256 "$file")" != "$2" ]; then
        say "fetching $(basename "$1")"
        mkdir -p "$cache"
        python3 -c 'import sys, urllib.request
urllib.request.urlretrieve(sys.argv[1], sys.argv[2])' "$pool/$1" "$file.partial"
        if [ "$(sha256 "$file.partial")" != "$2" ]; then
            say "$1: the fetched file is not the expected one (SHA-256 differs)"
            rm -f "$file.partial"
            return 1
        fi
        mv "$file.partial" "$file"
    fi
    tar -xzf "$file" -C "$out/src"
}

sources() {
    rm -rf "$out/src"
    mkdir -p "$out/src/include"
    source_of liby/libyaml/libyaml_0.2.5.orig.tar.gz \
        fa240dbf262be053f3898006d502d514936c818e422afdcf33921c63bed9bf2e
    source_of p/pcre2/pcre2_10.42.orig.tar.gz \
        c33b418e3b936ee3153de2c61cc638e7e4fe3156022a5c77d0711bcbb9d64f1f
    source_of u/utf8proc/utf8proc_2.8.0.orig.tar.gz \
        a0a60a79fe6f6d54e7d411facbfcc867a6e198608f2cd992490e46f04b1bcecc
    source_of x/xxhash/xxhash_0.8.1.orig.tar.gz \
        3bb6b7d6f30c591dd65aaaff1c8b7a5b94d81687998ca9400082c739a690436c
    cp "$out"/src/libyaml-*/include/yaml.h "$out"/src/utf8proc-*/utf8proc.h "$out"/src/xxHash-*/xxhash.h \
        "$out/src/include"
    for pcre2 in "$out"/src/pcre2-*/src; do
        cp "$pcre2/pcre2.h.generic" "$pcre2/pcre2.h"
        cp "$pcre2/config.h.generic" "$pcre2/config.h"
        cp "$pcre2/pcre2_chartables.c.dist" "$pcre2/pcre2_chartables.c"
        cp "$pcre2/pcre2.h" "$out/src/include"
    done
}

# library NAME TARGET FLAGS FILE...: the files compiled to $out/TARGET/libNAME.a.
library() {
    name=$1 target=$2 flags=$3
    shift 3
    dir=$out/$target/$name
    mkdir -p "$dir"
    rm -f "$dir"/*.o "$out/$target/lib$name.a"
    for file; do
        # shellcheck disable=SC2086 # zig and flags are command lines
        $zig cc -target "$target" -O2 -w $flags -c "$file" -o "$dir/$(basename "$file" .c).o"
    done
    # shellcheck disable=SC2086
    $zig ar rcs "$out/$target/lib$name.a" "$dir"/*.o
}

libraries() {
    yaml=$(echo "$out"/src/libyaml-*) pcre2=$(echo "$out"/src/pcre2-*/src)
    utf8proc=$(echo "$out"/src/utf8proc-*)
    library yaml "$1" "-I$yaml/include -DYAML_VERSION_STRING=\"0.2.5\" -DYAML_VERSION_MAJOR=0
        -DYAML_VERSION_MINOR=2 -DYAML_VERSION_PATCH=5" "$yaml"/src/*.c
    # The rest of the folder are programs, other forms of the same, and what others include.
    parts='auto_possess chartables compile config context convert dfa_match error extuni find_bracket
        jit_compile maketables match match_data newline ord2utf pattern_info script_run serialize
        string_utils study substitute substring tables ucd valid_utf xclass'
    # shellcheck disable=SC2046,SC2086 # names without blanks
    library pcre2-8 "$1" "-I$pcre2 -DHAVE_CONFIG_H -DPCRE2_CODE_UNIT_WIDTH=8 -DPCRE2_STATIC
        -DSUPPORT_PCRE2_8 -DSUPPORT_UNICODE -DHAVE_STDINT_H -DHAVE_INTTYPES_H -DHAVE_MEMMOVE
        -DHAVE_STRERROR" $(printf "$pcre2/pcre2_%s.c " $parts)
    library utf8proc "$1" "-I$utf8proc -DUTF8PROC_STATIC" "$utf8proc/utf8proc.c"
}

# make_for TARGET GOAL VARIABLE=VALUE...
make_for() {
    target=$1 goal=$2
    shift 2
    nice make -j"$jobs" --no-print-directory CC="$zig cc -target $target" AR="$zig ar" \
        ARCH="${target%%-*}" ARM_BASE=-mcpu=generic B="$out/$target" "$@" "$goal"
}

# The libraries that the program asks for, and the newest glibc: as tools/check_binary.sh.
check_program() {
    case $1 in
    *macos*) python3 tools/check_macho.py "$2" ;;
    *) OLDEST=2.28 sh tools/check_binary.sh "$2" ;;
    esac
}

build() {
    libraries "$1"
    os=UNAME=Linux libs="-lm -lpthread -ldl"
    case $1 in
    *macos*) os=UNAME=Darwin libs="-lm -lpthread" ;;
    esac
    here=$out/$1
    make_for "$1" "$here/lbrx" "$os" BREW=/nonexistent LDFLAGS=-s \
        CFLAGS="-I$out/src/include -DUTF8PROC_STATIC -DPCRE2_STATIC" \
        LIBS="$here/libyaml.a $here/libpcre2-8.a $here/libutf8proc.a $libs"
    check_program "$1" "$here/lbrx" || {
        say "$here/lbrx: not what a release must be"
        return 1
    }
    folder=$out/lbrx-$version-$1
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$here/lbrx" LICENSE README.md docs/lbrx.1 "$folder"
    say "$folder/lbrx"
}

# objects TARGET FLAGS FILE...: their objects, which the library then takes as they are.
objects() {
    target=$1 flags=$2 os=Linux
    case $target in
    *macos*) os=Darwin ;;
    esac
    shift 2
    # shellcheck disable=SC2046 # names without blanks
    nice make -j"$jobs" --no-print-directory CC="$zig cc -target $target" AR="$zig ar" ARCH="${target%%-*}" \
        ARM_BASE=-mcpu=generic B="$out/$target" UNAME=$os BREW=/nonexistent OPT="$flags" \
        CFLAGS="$checked" $(printf "$out/$target/%s\n" "$@" | sed 's,/src/,/,; s/c$/o/')
}

# What the self-test runs for seconds under an emulator.
optimised() {
    objects "$1" -O1 src/device/selftest*.c src/kernel/*_ref.c
}

# The program for macOS without the libraries that are not at hand, which no self-test calls; it runs while the next
# targets are compiled (count_macos).
check_macos() {
    if ! text=$(make_for "$1" "$out/$1/lbrx" UNAME=Darwin BREW=/nonexistent LDFLAGS=-s \
        CFLAGS="$checked" LIBS="-lm -lpthread -Wl,-undefined,dynamic_lookup" 2>&1); then
        failed=$((failed + 1))
        printf '%s\n' "$text" | grep -vE '^  build/'
        echo "FAILED: the program does not link for $1"
        return
    fi
    sh tests/macho/check.sh "$out/$1/lbrx" >"$out/$1/macho.log" &
    macos=$1
}

count_macos() {
    wait # what failed is counted
    cat "$out/$macos/macho.log"
    tail -1 "$out/$macos/macho.log" >"$out/$macos/macho.count"
    read -r _ p _ f _ s _ <"$out/$macos/macho.count"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

check() {
    passed=0 failed=0 skipped=0 macos=
    if ! find_zig; then
        echo "skip: check-targets: no ziglang: pip install ziglang==$zig_version"
        echo "check-targets: 0 passed, 0 failed, 1 skipped"
        return 0
    fi
    for target; do
        # Nothing of it runs on Linux: without optimising, which zig takes for a wish to be checked, and without the
        # processor's code but for what has assembly: LLVM's says as much of a source. macOS' has all, of it some
        # kernels' tests run.
        how='-O0 -g0 -fno-sanitize=undefined' llvm=
        case $target in
        *macos*) optimised "$target" >/dev/null 2>&1 || true ;; # what fails there fails again
        *) llvm=-flto ;;
        esac
        # shellcheck disable=SC2046 # names without blanks
        if text=$(objects "$target" "$how" $(grep -l __asm__ src/*/*.c) 2>&1) &&
            text=$(make_for "$target" lib OPT="$how $llvm" CFLAGS="$checked" 2>&1); then
            passed=$((passed + 1))
            case $target in
            *macos*) check_macos "$target" ;;
            esac
        else
            failed=$((failed + 1))
            printf '%s\n' "$text" | grep -vE '^  build/'
            echo "FAILED: the library does not compile for $target"
        fi
    done
    [ -z "$macos" ] || count_macos
    echo "check-targets: $passed passed, $failed failed, $skipped skipped"
    [ $failed -eq 0 ]
}

if [ "${1:-}" = --check ]; then
    shift
    # shellcheck disable=SC2086 # one word each
    [ $# -gt 0 ] || set -- $targets
    out=build/targets
    check "$@"
    exit
fi
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $targets
find_zig || install_zig && find_zig
sources
for target; do
    build "$target"
done
