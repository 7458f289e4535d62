#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh: runs test programs in parallel and adds up their closing lines.
#
#   tests/run.sh [-j N] PROGRAM...
#
# A PROGRAM is a built test, a script tests/cli/*.sh or a suite tests/peers/*.py. Each closes with
#     NAME: N passed, N failed, N skipped [cost: fast|slow] SECONDS s
# A program that ends without that line, or says 0 failed but exits with an error, counts as one
# failure and its output is shown. Suites in Python name the packages they need on a line
# `# needs: numpy gguf`; where one is absent the suite counts as one skip.
# Prints a table, what was skipped and what failed, and closes with `N passed, N failed, N skipped`; exit 1 on any failure.
#
# Environment: JOBS (default: all cores), TEST_TIMEOUT (seconds a program, default 900),
# LBRX_PYTHON (default python3), NOSKIP=1 (a skip is a failure), RUNNER (a command put before each
# built program: valgrind, qemu).
set -u

# A suite in Python has one of the jobs' places: threads of numpy's products would wait for each other in loops.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1

jobs=${JOBS:-$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)}
python=${LBRX_PYTHON:-python3}

# The packages of suite $1 that cannot be imported.
absent() {
    needs=$(sed -n 's/^# needs: *//p' "$1" | head -1)
    if ! command -v "$python" >/dev/null 2>&1; then
        echo "$python"
        return
    fi
    for package in $needs; do
        "$python" -c "import $package" >/dev/null 2>&1 || echo "$package"
    done
}

# Those that write small files by thousands of small pieces, and are about neither: in memory where there is a place for it.
in_memory=" test_plan test_plan_dense test_plan_quant test_select "

has_room() {
    [ -w /dev/shm ] && df -Pk /dev/shm 2>/dev/null | awk 'END { exit !($4 > 1048576) }'
}

# Runs one program; leaves its output in $2.log and its exit status in $2.rc.
run_one() {
    limit=
    if command -v timeout >/dev/null 2>&1; then
        limit="timeout -k 10 ${TEST_TIMEOUT:-900}"
    fi
    case "$in_memory" in
    *" ${1##*/} "*) [ -n "${TMPDIR:-}" ] || ! has_room || export TMPDIR=/dev/shm ;;
    esac
    # shellcheck disable=SC2086 # limit and RUNNER are command lines
    case $1 in
    *.py)
        gone=$(absent "$1" | tr '\n' ' ')
        if [ -n "$gone" ]; then
            count='0 failed, 1 skipped'
            [ -z "${NOSKIP:-}" ] || count='1 failed, 0 skipped'
            echo "$(basename "$1" .py): 0 passed, $count [cost: slow] 0.0 s" >"$2.log"
            echo "skip: $(basename "$1"): no python package ${gone% }" >>"$2.log"
            echo 0 >"$2.rc"
            return
        fi
        $limit "$python" "$1" >"$2.log" 2>&1
        ;;
    *.sh) $limit sh "$1" >"$2.log" 2>&1 ;;
    *) $limit ${RUNNER:-} "$1" >"$2.log" 2>&1 ;;
    esac
    echo $? >"$2.rc"
}

if [ "${1:-}" = --one ]; then
    log=$2/$(echo "$3" | tr '/.' '__')
    run_one "$3" "$log" </dev/null
    times >"$log.cpu" # line 2: of the program and all that it started
    exit 0
fi
if [ "${1:-}" = -j ]; then
    jobs=$2
    shift 2
fi

out=$(mktemp -d "${TMPDIR:-/tmp}/lbrx-run-XXXXXX") || exit 1
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM

# Those that sleep most of their time, as a client does that a server sends away: they run beside the others and
# take no place from them.
waiting=" pull.sh "
# The longest ones first, so that all jobs end together. As measured without and with sanitizers.
longest="device.sh device_run.sh merge_props.sh memory.sh resident.sh test_plan test_device_model test_device sensitivity.sh shift.sh"
longest="$longest test_device_metal checkkern test_plan_figures lora_extract.sh merge_random.sh quantize.sh logits.sh merge_core.sh"
longest="$longest test_plan_quant stacked.sh real.sh test_families transplant.sh test_device_cuda test_refine test_fault_stream"
longest="$longest parallel.sh constrain.sh generate.sh session.sh test_quant_golden test_budget test_measure test_attend test_plan_dense"
longest="$longest test_matmul test_pytorch test_repack test_select merge_golden.sh imatrix_run.sh perplexity.sh quantize_device.sh"
longest="$longest rotate.sh roundtrip.sh test_safetensors test_json"
ordered() {
    for name in $longest; do
        for program; do
            [ "${program##*/}" != "$name" ] || printf '%s\0' "$program"
        done
    done
    for program; do
        case "$waiting $longest " in
        *" ${program##*/} "*) ;;
        *) printf '%s\0' "$program" ;;
        esac
    done
}

for program; do
    case $waiting in
    *" ${program##*/} "*) sh "$0" --one "$out" "$program" & ;;
    esac
done
ordered "$@" >"$out/ordered"
[ ! -s "$out/ordered" ] || xargs -0 -n 1 -P "$jobs" sh "$0" --one "$out" <"$out/ordered"
wait

passed=0 failed=0 skipped=0
: >"$out/table"
: >"$out/skips"
: >"$out/failures"
for program; do
    log=$out/$(echo "$program" | tr '/.' '__')
    name=$(basename "$program")
    rc=$(cat "$log.rc" 2>/dev/null || echo "not run")
    # The last line of the form `<words>: N passed, N failed, N skipped [cost: x] S s`.
    line=$(sed -n 's/^.*: \([0-9]* passed, [0-9]* failed, [0-9]* skipped.*\)$/\1/p' "$log.log" \
        2>/dev/null | tail -1)
    p=0 f=0 s=0
    if [ -n "$line" ]; then
        p=${line%% passed*}
        f=${line#*passed, }
        f=${f%% failed*}
        s=${line#*failed, }
        s=${s%% skipped*}
    fi
    note=
    if [ -z "$line" ]; then
        f=1
        note=" (ended without its closing line, exit $rc)"
    elif [ "$rc" != 0 ] && [ "$f" = 0 ]; then
        f=1
        note=" (exit $rc)"
    fi
    if [ "$f" != 0 ]; then
        echo "---- $name$note"
        cat "$log.log" 2>/dev/null
        echo "----"
        {
            echo "  $name$note"
            { grep -A 12 FAIL "$log.log" || tail -20 "$log.log"; } 2>/dev/null | head -60 | sed 's/^/    /'
        } >>"$out/failures"
    fi
    if [ "$s" != 0 ]; then
        grep '^skip:' "$log.log" | sed 's/^skip: *//' >>"$out/skips"
    fi
    cost=$(echo "$line" | sed -n 's/.*\[cost: \([a-z]*\)\].*/\1/p')
    time=$(echo "$line" | sed -n 's/.* \([0-9.]*\) s.*/\1/p')
    cpu=$(tr 'ms' '  ' <"$log.cpu" | awk 'NR == 2 { printf "%.1f", 60 * ($1 + $3) + $2 + $4 }')
    printf '%-28s %-5s %8s s %8s s %6d %6d %6d\n' "$name" "${cost:--}" "${time:--}" "$cpu" "$p" "$f" \
        "$s" >>"$out/table"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done

printf '%-28s %-5s %10s %10s %6s %6s %6s\n' program cost time cpu passed failed skip
sort -k3,3 -n -r "$out/table"
if [ -s "$out/skips" ]; then
    echo 'skipped:'
    sort "$out/skips" | uniq | sed 's/^/  /'
fi
if [ -s "$out/failures" ]; then # again, where one looks
    echo 'failed:'
    cat "$out/failures"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
