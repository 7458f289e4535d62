#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# device.sh: `lbrx info` and `lbrx selftest` with no driver, with stand-ins for NVIDIA's and for Metal, and with ones
# that fail.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

# all_right WHAT: more than 200 kernels, none wrong
all_right() {
    grep -Eq ': [2-9][0-9][0-9] kernels right, 0 wrong' "$W/out" && pass || fail "$1" "$(tail -1 "$W/out")"
}

# ---- the CPU ----
if ! is_sanitized; then # test_device runs all of them, too
    exits 0 "selftest cpu" "$LBRX" selftest --device cpu
    all_right "selftest cpu"
fi
exits 0 "one kernel" "$LBRX" selftest --device cpu --kernel mv_q4_k --schedule 7 --json
says "one kernel" '"kernel": "mv_q4_k", "cases": 5, "right": true'
exits 2 "no such kernel" "$LBRX" selftest --device cpu --kernel mv_q4
complains "no such kernel" "no kernel is called 'mv_q4'"
exits 2 "no such device" "$LBRX" selftest --device tpu
complains "no such device" "is not one of"

# ---- Metal: a stand-in that compiles the very text by clang ----
exits 3 "no metal" env LBRX_TEST_METAL=./nowhere "$LBRX" selftest --device metal
complains "no metal" "metal: ./nowhere cannot be opened"
metal() {
    env LBRX_TEST_METAL="$LB_TEST_STUB_METAL" "$@"
}
if [ -z "${LB_TEST_STUB_METAL:-}" ] || [ ! -f "$LB_TEST_STUB_METAL" ]; then
    skip "metal" "no stand-in for Metal: it needs clang"
else
    exits 0 "metal info" metal "$LBRX" info
    says "metal info" "metal    Stub \\x1b Apple GPU, M2, Apple8 (applegpu_g14g), 67.1 MB, 1024 threads and 32768 bytes a threadgroup, Metal 3"
    exits 0 "metal info json" metal "$LBRX" info --json
    says "metal info json" '"device": "metal", "name": '
    if ! is_sanitized; then # test_device_metal runs all of them, too
        exits 0 "metal selftest" metal "$LBRX" selftest --device metal
        all_right "metal selftest"
    fi
    exits 0 "metal is the GPU" metal "$LBRX" selftest --kernel rms_norm
    says "metal is the GPU" "M2, Apple8 (applegpu_g14g): 1 kernels right, 0 wrong"
    exits 2 "metal, on the CPU alone" metal "$LBRX" inspect "$W" --device metal
    complains "metal, on the CPU alone" "this command computes on the CPU alone: use --device cpu"
    STUB_METAL=none exits 3 "metal none" metal "$LBRX" selftest --device metal
    complains "metal none" "the system has no GPU for this program"
    STUB_METAL=broken exits 5 "metal broken" metal "$LBRX" selftest --device metal --kernel add
    says "metal broken" "the system does not compile the kernels: program_source:"
    STUB_METAL_MEMORY=400 exits 1 "metal memory" metal "$LBRX" selftest --device metal --kernel add
    complains "metal memory" "that the GPU may use"
    STUB_METAL_LOST=2 exits 5 "metal lost" metal "$LBRX" selftest --device metal --kernel add
    says "metal lost" "WRONG: metal: the device was lost"
fi

if [ -z "${LB_TEST_STUB_CUDA:-}" ] || [ ! -f "$LB_TEST_STUB_CUDA" ]; then
    skip "stand-in" "no stand-in for the CUDA driver"
    finish
fi
LD_LIBRARY_PATH=$(dirname "$LB_TEST_STUB_CUDA")
export LD_LIBRARY_PATH

# ---- two GPUs ----
exits 0 "info" "$LBRX" info
says "info" "cuda:1   Stub \\x1b GPU, compute capability 9.0, 67.1 MB, 2 multiprocessors"
exits 0 "info json" "$LBRX" info --json
python3 - "$W/out" <<'PY' && pass || fail "info json" "not what it should be"
import json, sys
d = json.load(open(sys.argv[1]))
assert d["devices"] == ["cpu", "cuda:0", "cuda:1"], d["devices"]
assert d["device_facts"][1]["generation"] == "compute capability 9.0"
assert d["device_facts"][2]["maps_files"] is True and "cuda" not in d["devices_absent"]
PY
exits 0 "selftest" "$LBRX" selftest --kernel rms_norm
says "selftest" "compute capability 9.0: 1 kernels right, 0 wrong"
exits 3 "no third" "$LBRX" selftest --device cuda:2
complains "no third" "cuda:2: there is no such GPU, they are 0 to 1"
exits 2 "on the CPU alone" "$LBRX" inspect "$W" --device cuda:1
complains "on the CPU alone" "this command computes on the CPU alone: use --device cpu"

# ---- faults: one line, the right code ----
STUB_CUDA=old exits 3 "old" "$LBRX" selftest --device cuda
complains "old" "of CUDA 10.2, kernels need 11.0: update NVIDIA's driver"
STUB_CUDA=none exits 3 "none" "$LBRX" selftest --device cuda
complains "none" "the driver sees no GPU"
STUB_CUDA=none exits 0 "info none" "$LBRX" info
says "info none" "  cuda     the driver sees no GPU"
STUB_CUDA_MEMORY=100 exits 1 "memory" "$LBRX" selftest --device cuda --kernel add
complains "memory" "cuda:0: a buffer of 256 bytes: out of memory"
STUB_CUDA_LOST=2 exits 5 "lost" "$LBRX" selftest --device cuda --kernel add
says "lost" "WRONG: cuda:0: the device was lost"
finish
