#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# do: builds, tests and shows lbrx on a machine that may have nothing installed yet.
#
#   ./do build    build/lbrx
#   ./do test     the whole suite, offline; last line: N passed, N failed, N skipped
#   ./do demo     fetches a small real model and takes it through every format
#   ./do check    style, layers, names, format: `make check`
#   ./do release  portable binaries for Linux (x86-64, Arm) and macOS, by the compiler in PyPI's ziglang
#   ./do deps     only installs what is missing
#
# Packages come from apt (Debian, Ubuntu) or Homebrew (macOS), and only where something is missing:
# a machine that has a compiler and the libraries is left alone and needs no network.
# LBRX_NO_INSTALL=1 never installs: what is missing is named, and ends the run if it is required.
set -eu
cd "$(dirname "$0")"

say() {
    printf '%s\n' "do: $*" >&2
}

have() {
    command -v "$1" >/dev/null 2>&1
}

cores() {
    nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2
}

# Whether a program that includes header $1 compiles (Homebrew's folder included).
has_header() {
    prefix=/usr
    if have brew; then
        prefix=$(brew --prefix)
    fi
    printf '#include <stddef.h>\n#include <stdint.h>\n#define PCRE2_CODE_UNIT_WIDTH 8\n#include <%s>\n' \
        "$1" | "${CC:-cc}" -I"$prefix/include" -fsyntax-only -x c - >/dev/null 2>&1
}

has_libfuzzer() {
    have clang || return 1
    ls "$(clang -print-resource-dir 2>/dev/null)"/lib/*/*fuzzer* >/dev/null 2>&1
}

# Prints the package names that are missing for $1 = build | test | demo. Debian's names; brew_name maps them.
missing() {
    have "${CC:-cc}" || echo gcc
    have make || echo make
    has_header stdio.h || echo libc6-dev
    has_header yaml.h || echo libyaml-dev
    has_header pcre2.h || echo libpcre2-dev
    has_header utf8proc.h || echo libutf8proc-dev
    has_header xxhash.h || echo libxxhash-dev
    if [ "$1" = demo ]; then
        have python3 || echo python3
        python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
    fi
    [ "$1" = test ] || return 0
    have clang || echo clang
    have clang-format || echo clang-format
    [ "$(uname -s)" = Linux ] || return 0
    have ldd && have objdump || echo binutils
    have valgrind || echo valgrind
    ldconfig -p 2>/dev/null | grep -q 'libcurl.*\.so\.4' || ls /usr/lib/*/libcurl.so.4 >/dev/null 2>&1 || echo libcurl4
    have shellcheck || echo shellcheck
    has_libfuzzer || echo libclang-rt-14-dev
    [ "$(uname -m)" = x86_64 ] || return 0
    have aarch64-linux-gnu-gcc || echo gcc-aarch64-linux-gnu
    echo '#include <stdio.h>' | aarch64-linux-gnu-gcc -fsyntax-only -x c - >/dev/null 2>&1 ||
        echo libc6-dev-arm64-cross
    have qemu-aarch64-static || have qemu-aarch64 || echo qemu-user-static
}

brew_names() {
    for name; do
        case $name in
        libyaml-dev) echo libyaml ;;
        libpcre2-dev) echo pcre2 ;;
        libutf8proc-dev) echo utf8proc ;;
        libxxhash-dev) echo xxhash ;;
        python3 | python3-pip) echo python ;;
        clang-format) echo clang-format ;;
        *) ;; # the compiler and make come with Apple's command line tools
        esac
    done
}

install_apt() {
    sudo=
    if [ "$(id -u)" != 0 ]; then
        have sudo || return 1
        sudo=sudo
    fi
    say "installing: $*"
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null || return 1
    if $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" \
        >/dev/null; then
        return 0
    fi
    # One unknown name fails the whole call (other releases number clang's runtime differently).
    for package; do
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
            "$package" >/dev/null || say "cannot install $package"
    done
}

install_brew() {
    # shellcheck disable=SC2046 # names are plain words
    set -- $(brew_names "$@")
    [ $# -gt 0 ] || return 0
    say "installing: $*"
    brew install --quiet "$@"
}

install() {
    if [ "$(uname -s)" = Darwin ]; then
        if ! have cc; then
            say "no compiler: run 'xcode-select --install', then ./do again"
            return 1
        fi
        if ! have brew; then
            say "Homebrew is needed for: $* (https://brew.sh)"
            return 1
        fi
        install_brew "$@"
    elif have apt-get; then
        install_apt "$@"
    else
        say "no apt-get here; install by hand: $*"
        return 1
    fi
}

# $1 = build | test | demo. What building needs is required; what only tests use is not: a check whose tool
# is missing counts as skipped.
deps() {
    # shellcheck disable=SC2046
    set -- "$1" $(missing "$1")
    level=$1
    shift
    if [ $# -gt 0 ]; then
        if [ -n "${LBRX_NO_INSTALL:-}" ]; then
            say "missing: $*"
        else
            install "$@" || true
        fi
    fi
    # shellcheck disable=SC2046
    set -- $(missing build)
    if [ $# -gt 0 ]; then
        say "cannot build without: $*"
        exit 1
    fi
    if [ "$level" = test ]; then
        # shellcheck disable=SC2046
        set -- $(missing test)
        [ $# -eq 0 ] || say "not installed, what needs it is skipped: $*"
    fi
}

build() {
    make -j"$(cores)" --no-print-directory all
}

case "${1:-help}" in
deps)
    deps test
    ;;
build)
    deps build
    build
    say "built build/lbrx: $(build/lbrx --version)"
    ;;
test)
    deps test
    make -j"$(cores)" --no-print-directory tests
    exec make --no-print-directory test
    ;;
check)
    deps test
    build
    exec make --no-print-directory check
    ;;
demo)
    deps demo
    build
    shift
    exec tools/demo.sh "$@"
    ;;
release)
    shift
    exec tools/release.sh "$@"
    ;;
help | -h | --help)
    sed -n '3,14s/^# \{0,1\}//p' "$0"
    ;;
*)
    say "unknown command '$1': build, test, demo, check, release, deps"
    exit 2
    ;;
esac
