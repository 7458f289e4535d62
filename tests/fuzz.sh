#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh: runs libFuzzer programs from their committed corpus, JOBS (2) processes at a time.
#
#   T=60 tests/fuzz.sh build/clang-fuzz/tests/fuzz_gguf...     seconds each; with more JOBS than
#                                                              targets several processes of each
#   RUNS=20000000 tests/fuzz.sh ...                            executions each
#   JOBS=16 TOTAL=540 tests/fuzz.sh ...                        seconds for all together
# The last two work in rounds of ROUND (60) seconds: each round gives the processes to the targets
# that are furthest behind, so that slow targets get more of them; both may be given.
#
# SEED=1: the same course each time, as far as it comes; else another one each time.
#
# The programs need nothing but the corpus, and that only to begin with. New inputs go to
# build/fuzz/NAME/<process> and are never written to tests/fuzz/corpus; what fails stays in
# build/fuzz/NAME.<process>.crash-* with its log, and is copied to $OUT where that is set. Closes
# with `N passed, N failed, N skipped`, one per target.
set -u
work=build/fuzz
JOBS=${JOBS:-2}

# Inputs longer than this find nothing more and cost executions.
max_len() {
    case $1 in
    size | split_names | arch_names) echo 128 ;;
    regex) echo 256 ;;
    json | yaml | merge_config | moe_config | model_card | cli) echo 512 ;;
    arch_* | index | journal | sentencepiece | tok_files) echo 1024 ;;
    pytorch) echo 3500 ;;
    *) echo 2048 ;;
    esac
}

# PROGRAM, number of the process, seconds (0: no limit), executions (0: no limit).
run_one() {
    name=$(basename "$1")
    name=${name#fuzz_}
    log=$work/$name.$2.log
    mkdir -p "$work/$name/$2"
    n=$2 t=$3 runs=$4
    set -- "$1" "$work/$name/$n"
    for seeds in tests/fuzz/corpus/"$name" "$work/$name"/*; do
        [ ! -d "$seeds" ] || [ "$seeds" = "$work/$name/$n" ] || set -- "$@" "$seeds"
    done
    [ ! -f "tests/fuzz/$name.dict" ] || set -- "$@" "-dict=tests/fuzz/$name.dict"
    [ "$t" = 0 ] || set -- "$@" "-max_total_time=$t"
    [ "$runs" = 0 ] || set -- "$@" "-runs=$runs"
    [ -z "${SEED:-}" ] || set -- "$@" "-seed=$((SEED * 1000 + n))"
    # A program's executions are short and give back what they take: a quarantine of 256 MB only
    # makes the memory cold, and four frames of an allocation say where it was made.
    ASAN_OPTIONS=${ASAN_OPTIONS:-quarantine_size_mb=8:malloc_context_size=4} "$@" "-max_len=$(max_len "$name")" \
        -artifact_prefix="$work/$name.$n." -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=512 \
        -entropic=$((n == 1)) -print_final_stats=1 >"$log" 2>&1
    rc=$?
    done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    echo "${done_runs:-0} ${rate:-0}" >>"$work/$name.runs"
    [ $rc != 0 ] || [ -z "$done_runs" ] || return 0
    cp "$log" "$work/$name.$n.failed"
    [ -z "${OUT:-}" ] || cp "$work/$name.$n".* "$OUT"/
}

sum_runs() {
    awk '{ n += $1 } END { printf "%d", n }' "$work/$1.runs" 2>/dev/null || echo 0
}

has_failed() {
    for f in "$work/$1".*.failed; do
        [ ! -f "$f" ] || return 0
    done
    return 1
}

# The processes of one round, as lines for run_one. A target's rate, until it has run: 20,000/s.
one_round() {
    for program; do
        name=$(basename "$program")
        name=${name#fuzz_}
        has_failed "$name" || echo "$program $(sum_runs "$name") $(tail -1 "$work/$name.runs" 2>/dev/null)"
    done | awk -v jobs="$JOBS" -v t="$round" -v goal="${RUNS:-0}" '
        { program[NR] = $1; runs[NR] = $2; rate[NR] = $4 > 0 ? $4 : 20000 }
        END {
            for (j = 0; j < jobs; j++) {
                least = 0
                for (i = 1; i <= NR; i++)
                    if ((!goal || runs[i] < goal) && (!least || runs[i] < runs[least]))
                        least = i
                if (!least)
                    exit
                print program[least], ++n[least], t, 0
                runs[least] += rate[least] * t
            }
        }'
}

rounds() {
    begin=$(date +%s)
    while :; do
        round=${ROUND:-60}
        if [ -n "${TOTAL:-}" ]; then
            left=$((begin + TOTAL - $(date +%s)))
            [ "$left" -gt 1 ] || break
            [ "$left" -ge $((2 * round)) ] || round=$left
        fi
        tasks=$(one_round "$@")
        [ -n "$tasks" ] || break
        echo "$tasks" | xargs -L 1 -P "$JOBS" sh "$0" --one
    done
}

if [ "${1:-}" = --one ]; then
    shift
    run_one "$@"
    exit 0
fi
mkdir -p "$work"
rm -f "$work"/*.runs "$work"/*.failed
each=$((JOBS / ($# ? $# : 1)))
if [ -n "${TOTAL:-}${RUNS:-}" ]; then
    rounds "$@"
else
    i=0
    while [ $i -lt $((each ? each : 1)) ]; do
        i=$((i + 1))
        for program; do
            echo "$program $i ${T:-60} 0"
        done
    done | xargs -L 1 -P "$JOBS" sh "$0" --one
fi
passed=0 failed=0
for program; do
    name=$(basename "$program")
    name=${name#fuzz_}
    rate=$(awk '{ n += $2 } END { printf "%d", NR ? n / NR : 0 }' "$work/$name.runs" 2>/dev/null)
    echo "fuzz $name: $(sum_runs "$name") executions, ${rate:-0}/s a process"
    if [ -s "$work/$name.runs" ] && ! has_failed "$name"; then
        passed=$((passed + 1))
        continue
    fi
    for f in "$work/$name".*.failed; do
        echo "---- fuzz $name failed: inputs $(echo "${f%.failed}".*-*)"
        tail -50 "$f"
    done
    failed=$((failed + 1))
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
