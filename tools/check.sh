#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh: what a script can see about the source: `make check`.
#
#   tools/check.sh build/cc/lbrx
#
# Runs every tools/check_*.sh and a few short checks; prints what is wrong and closes with
# `check: N passed, N failed, N skipped`. A check whose tool is absent counts as skipped.
set -u
cd "$(dirname "$0")/.." || exit 1
binary=${1:-build/lbrx}
library=$(dirname "$binary")/liblbrx.a
passed=0 failed=0 skipped=0

out=$(mktemp -d "${TMPDIR:-/tmp}/lbrx-check-XXXXXX") || exit 1
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM
names=

# check NAME COMMAND...: begun, beside the others.
check() {
    name=$1
    names="$names $name"
    shift
    {
        "$@" >"$out/$name" 2>&1
        echo $? >"$out/$name.rc"
    } &
}

# ended NAME: exit 0 passed, 77 skipped, else failed.
ended() {
    text=$(cat "$out/$1")
    case $(cat "$out/$1.rc" 2>/dev/null) in
    0)
        passed=$((passed + 1))
        [ -z "$text" ] || printf '%s\n' "$text"
        ;;
    77)
        skipped=$((skipped + 1))
        echo "skip: $1: $text"
        ;;
    *)
        failed=$((failed + 1))
        printf '%s\n' "$text"
        echo "FAILED: $1"
        ;;
    esac
}

# shellcheck disable=SC2317 # called through check
docs_current() {
    status=0
    "$binary" help --format=md | cmp - docs/cli.md || status=1
    "$binary" help --format=man | cmp - docs/lbrx.1 || status=1
    [ $status -eq 0 ] || echo "run 'make docs'"
    return $status
}

# shellcheck disable=SC2317
metal_tables() {
    command -v python3 >/dev/null 2>&1 || {
        echo "python3 is not installed"
        return 77
    }
    python3 tools/metal_roofline.py --check
}

# shellcheck disable=SC2317
shell_scripts() {
    command -v shellcheck >/dev/null 2>&1 || {
        echo "shellcheck is not installed"
        return 77
    }
    find tools tests ./do .ci/run -type f \( -name '*.sh' -o -name 'do' -o -name run \) \
        -exec shellcheck -x -S warning {} +
}

# shellcheck disable=SC2317
formatted() {
    case $(clang-format --version 2>/dev/null) in
    *'version 14.'*) ;;
    *)
        echo "needs clang-format 14 (other versions format differently)"
        return 77
        ;;
    esac
    find src tests -path tests/golden -prune -o -name '*.[ch]' \
        -exec clang-format --dry-run -Werror {} + 2>&1 | grep 'error:' | cut -d: -f1 | sort | uniq -c |
        sed 's/$/: run clang-format -i/' | grep . && return 1
    return 0
}

check layers sh tools/check_layers.sh
check size sh tools/check_size.sh
check names sh tools/check_names.sh "$library"
check headers sh tools/check_headers.sh
check binary sh tools/check_binary.sh "$binary"
check ptx sh tools/check_ptx.sh
check docs docs_current
check metal metal_tables
check format formatted
check shell shell_scripts
wait
for name in $names; do
    ended "$name"
done
echo "check: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
