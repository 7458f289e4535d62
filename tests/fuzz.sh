#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh: runs libFuzzer programs from their committed corpus, two at a time.
#
#   T=60 tests/fuzz.sh build/clang-fuzz/tests/fuzz_gguf...     seconds each
#   T=0 RUNS=20000000 tests/fuzz.sh ...                        executions each
#
# New inputs go to build/fuzz/NAME and are never written to tests/fuzz/corpus; a crash stays in
# build/fuzz/NAME.crash-*. Closes with `N passed, N failed, N skipped`, one per target.
set -u

run_one() {
    name=$(basename "$1")
    name=${name#fuzz_}
    work=build/fuzz/$name
    seeds=tests/fuzz/corpus/$name
    mkdir -p "$work"
    set -- "$1" "$work"
    [ ! -d "$seeds" ] || set -- "$@" "$seeds"
    dict=tests/fuzz/$name.dict
    [ ! -f "$dict" ] || set -- "$@" "-dict=$dict"
    [ "${T:-60}" = 0 ] || set -- "$@" "-max_total_time=${T:-60}"
    [ -z "${RUNS:-}" ] || set -- "$@" "-runs=$RUNS"
    "$@" -artifact_prefix="$work." -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=512 \
        -print_final_stats=1 >"$work.log" 2>&1
    echo $? >"$work.rc"
}

if [ "${1:-}" = --one ]; then
    run_one "$2"
    exit 0
fi
mkdir -p build/fuzz
rm -f build/fuzz/*.rc
[ $# -eq 0 ] || printf '%s\0' "$@" | xargs -0 -n 1 -P "${JOBS:-2}" sh "$0" --one
passed=0 failed=0
for program; do
    name=$(basename "$program")
    name=${name#fuzz_}
    log=build/fuzz/$name.log
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ "$(cat "build/fuzz/$name.rc" 2>/dev/null)" = 0 ] && [ -n "$runs" ]; then
        echo "fuzz $name: $runs executions"
        passed=$((passed + 1))
    else
        echo "---- fuzz $name failed; inputs: build/fuzz/$name.*"
        tail -50 "$log"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
