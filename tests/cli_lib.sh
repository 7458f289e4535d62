# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# cli_lib.sh: what the scripts in tests/cli share. A script sources it, calls `ok NAME COMMAND...` and
# the like, and ends with `finish`.
#
#   LBRX        the program (absolute path)    W  an empty folder, removed when all is well
#   MAKE_MODEL  makes models up (tests/tool/make_model.c)
set -u
name=$(basename "$0" .sh)
root=$(cd "$(dirname "$0")/../.." && pwd)
LBRX=${LBRX:-$root/build/lbrx}
MAKE_MODEL=${MAKE_MODEL:-$root/build/cc/tests/make_model}
GOLDEN=${LB_TEST_GOLDEN:-$root/tests/golden}
W=$(mktemp -d "${TMPDIR:-/tmp}/lbrx-cli-XXXXXX") || exit 1
export LBRX W GOLDEN MAKE_MODEL
# Without --device a model runs on a GPU where there is one: what is compared here are the CPU's results.
case $name in
device* | quantize_device) ;;
*) export CUDA_VISIBLE_DEVICES= ;;
esac
passed=0 failed=0 skipped=0 cost=${cost:-fast}
begin=$(date +%s)

# Whether the program was built with a sanitizer: what repeats the same code on other sizes or in other
# orders is left out then.
is_sanitized() {
    case $LBRX in
    *-address* | *-thread* | *-fuzz*) true ;;
    *) false ;;
    esac
}

# in_turn I N: whether the I-th of N ways of doing the same is taken: all are, under sanitizers one for each $turn.
turn=0
in_turn() {
    ! is_sanitized || [ $((turn % $2)) -eq "$1" ]
}

# yes or no: whether `ulimit -d` measures the program; a sanitizer's own memory would be counted.
memory_is_limited() {
    if is_sanitized; then
        echo no
    else
        if [ "$(uname -s)" = Linux ]; then echo yes; else echo no; fi
    fi
}

pass() {
    passed=$((passed + 1))
}

# fail NAME WHY: shows what the last command printed.
fail() {
    failed=$((failed + 1))
    echo "FAILED: $name: $1: $2"
    sed 's/^/    out: /' "$W/out" 2>/dev/null | head -40
    sed 's/^/    err: /' "$W/err" 2>/dev/null | head -40
}

skip() {
    if [ -n "${NOSKIP:-}" ]; then
        fail "$1" "skipped: $2"
    else
        skipped=$((skipped + 1))
        echo "skip: $name: $1: $2"
    fi
}

# exits CODE NAME COMMAND...: runs it with stdout in $W/out and stderr in $W/err. An error must be one
# line that starts with `lbrx: `, and nothing may stand on stdout with it (a comparison has a result).
exits() {
    want=$1 what=$2
    shift 2
    "$@" >"$W/out" 2>"$W/err" </dev/null
    got=$?
    if [ "$got" != "$want" ]; then
        fail "$what" "exit $got, expected $want"
        return 1
    fi
    if [ "$want" != 0 ] && [ "$1" = "$LBRX" ]; then
        if ! tail -1 "$W/err" | grep -q '^lbrx: .'; then
            fail "$what" "stderr does not end with a line 'lbrx: ...'"
            return 1
        fi
        if [ "$want" != 5 ] && [ -s "$W/out" ]; then
            fail "$what" "something on stdout beside the error"
            return 1
        fi
    fi
    pass
}

# ok NAME COMMAND...
ok() {
    exits 0 "$@"
}

# says NAME TEXT: the last command's stdout holds TEXT; complains: its stderr does.
says() {
    if grep -qF -e "$2" "$W/out"; then pass; else fail "$1" "stdout does not hold '$2'"; fi
}

complains() {
    if grep -qF -e "$2" "$W/err"; then pass; else fail "$1" "stderr does not hold '$2'"; fi
}

# make_model hf|gguf FAMILY DIR KEY=VALUE...: a made-up model, or the script ends.
make_model() {
    "$MAKE_MODEL" "$@" >/dev/null || {
        echo "$name: cannot make a model: $*"
        exit 1
    }
}

# value FILE TENSOR TYPE INDEX BYTES: puts a value (printf's escapes) into a copy of FILE: $W/bad.gguf.
value() {
    at=$("$LBRX" inspect "$1" --json | sed -n "s/.*\"$2\", \"type\": \"$3\".*\"offset\": \([0-9]*\).*/\1/p" | head -1)
    [ -n "$at" ] || fail "value" "$1 has no $2 of type $3"
    size=2
    [ "$3" != f32 ] || size=4
    cp "$1" bad.gguf
    # shellcheck disable=SC2059 # the format is the point
    printf "$5" | dd of=bad.gguf bs=1 seek=$((at + $4 * size)) conv=notrunc 2>/dev/null
}

# safetensors FILE HEADER DATA: a file by hand; DATA with printf's escapes (\\000 for a zero byte).
safetensors() {
    n=${#2}
    # shellcheck disable=SC2059 # the format is the point
    {
        printf "\\$(printf %03o $((n % 256)))\\$(printf %03o $((n / 256)))\\000\\000\\000\\000\\000\\000"
        printf %s "$2"
        printf "$3"
    } >"$1"
}

# flip FILE OFFSET: changes one byte.
flip() {
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    # shellcheck disable=SC2059
    printf "\\$(printf %03o $(((byte + 1) % 256)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

# same NAME A B: equal files.
same() {
    if cmp -s "$2" "$3"; then pass; else fail "$1" "$2 and $3 differ"; fi
}

# cats N: N different lines of words
cats() {
    seq 0 $(($1 - 1)) | sed 's/^/the cat sat on the mat and the dog /'
}

# ends_running NAME MODEL OPTIONS COMMAND...: a generation without end, with these options; what COMMAND does when it
# speaks ends it with one line and exit code 1.
ends_running() {
    what=$1 of=$2 with=$3
    rm -f "$W/out"
    shift 3
    # shellcheck disable=SC2086 # options are words
    "$LBRX" generate "$of" -p "the cat sat on" -n 60000000 --ignore-eos $with >"$W/out" 2>"$W/err" </dev/null &
    pid=$!
    waited=0
    while [ ! -s "$W/out" ] && [ $waited -lt 300 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
    "$@"
    wait $pid
    got=$?
    if [ "$got" = 1 ]; then pass; else fail "$what" "exit $got, expected 1"; fi
    if [ "$(wc -l <"$W/err")" = 1 ]; then pass; else fail "$what" "not one line on stderr"; fi
}

finish() {
    [ "$failed" -ne 0 ] || rm -rf "$W"
    echo "$name: $passed passed, $failed failed, $skipped skipped [cost: $cost] $(($(date +%s) - begin)).0 s"
    [ "$failed" -eq 0 ]
    exit
}
