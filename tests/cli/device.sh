#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# device.sh: `lbrx info` and `lbrx selftest` with no driver, with a stand-in for NVIDIA's, and with one that fails.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

# ---- the CPU ----
exits 0 "selftest cpu" "$LBRX" selftest --device cpu
says "selftest cpu" "44 kernels right, 0 wrong"
exits 0 "one kernel" "$LBRX" selftest --device cpu --kernel mv_q4_k --schedule 7 --json
says "one kernel" '"kernel": "mv_q4_k", "cases": 4, "right": true'
exits 2 "no such kernel" "$LBRX" selftest --device cpu --kernel mv_q4
complains "no such kernel" "no kernel is called 'mv_q4'"
exits 2 "no such device" "$LBRX" selftest --device tpu
complains "no such device" "is not one of"

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
assert d["device_facts"][2]["maps_files"] is True and d["devices_absent"] == {}
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
