#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""peer_quant.py: every quantizer against ggml's, where LBRX_LIBGGML names libggml-base.so: 18 kinds of rows with 7 kinds
of importance each (tests/tool/quant_peer.c), for every instruction set of this machine."""
import os
import pathlib
import re
import subprocess
import sys
import time

start = time.time()
lib, tool = os.environ.get("LBRX_LIBGGML"), os.environ.get("QUANT_PEER")
long = bool(os.environ.get("LB_TEST_LONG"))
passed = failed = skipped = 0
if not lib or not tool:
    skipped = 1
    print("skip: peer_quant: LBRX_LIBGGML names no libggml-base.so" if tool else "skip: peer_quant: no QUANT_PEER")
else:
    for isa in ("0", "0xffffffff"):  # the references, then the fastest
        run = subprocess.run([tool, lib, "--rows", "2000" if long else "25", "--isa", isa],
                             stdout=subprocess.PIPE, text=True)
        lines = re.findall(r"^(\S+) +\d+ blocks, (\d+) rows differ", run.stdout, re.M)
        bad = sum(int(n) != 0 for _, n in lines)
        if bad or run.returncode or len(lines) < 25:
            print(run.stdout, end="")
            bad = max(bad, 1)
        failed += bad
        passed += len(lines) - bad
if os.environ.get("NOSKIP"):
    failed, skipped = failed + skipped, 0
name = pathlib.Path(__file__).stem
print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped [cost: fast] {time.time() - start:.1f} s")
sys.exit(failed != 0)
