#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: gguf numpy
"""peer_imatrix.py: importance matrices as llama-quantize reads them, bit for bit (tests/golden/imatrix/imatrix_peer.py).

Random files that llama-imatrix's own functions write, in both forms, and gguf-py's with the shapes that other tools may
write; then the same with bytes changed or cut off: where lbrx takes a file, llama-quantize takes it too and its values are
the same (but for a GGUF's last padding). What it takes and lbrx does not (damage that it does not look for) is counted."""
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

START = time.time()
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden/imatrix"))
sys.dont_write_bytecode = True
import imatrix_peer as peer  # noqa: E402
import numpy as np  # noqa: E402

DUMP = os.environ.get("IMATRIX_DUMP", str(ROOT / "build/cc/tests/imatrix_dump"))
SEED = int(os.environ.get("LB_TEST_SEED", "42"))
N = 400 if os.environ.get("LB_TEST_LONG") else 20  # files of each kind; four times as many damaged ones
passed = failed = skipped = refused_alone = both = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    if not ok:
        print(f"FAILED: {what} (seed {SEED})")


def ours(paths):
    """What is read of each, or None where it is refused."""
    run = subprocess.run([DUMP, *map(str, paths)], capture_output=True, check=True)
    texts = run.stdout.split(b"\0")[1:]
    return [None if t.startswith(b"error ") else t for t in texts]


def sums(r, n):
    x = np.float32(r.standard_normal(n) ** 2) * np.float32(10.0) ** np.float32(r.integers(-30, 30))
    x[r.random(n) < 0.1] = 0
    return x


def tool_file(r, path, program, form):
    entries = {}
    for i in range(r.integers(1, 12)):
        n_mats, n_cols = (int(r.integers(1, 9)), int(r.integers(1, 40)))
        one = n_mats == 1 or r.random() < 0.3
        counts = [int(2 ** (r.random() * 34)) * int(r.random() < 0.85) for _ in range(1 if one else n_mats)]
        if form == "dat":  # a number of calls is an i32, and no entry at all is not a file
            counts = [min(c, 10 ** 9) for c in counts]
            counts[0] = counts[0] or int(i == 0)
        entries[f"blk.{i}.{r.choice(['attn_q', 'ffn_down_exps', 'ssm_in'])}.weight"] = (sums(r, n_mats * n_cols), counts)
    peer.write(program, path, form, int(r.integers(0, 500)), 512, "text.raw", entries)


def other_file(r, path):
    tensors = []
    for i in range(r.integers(1, 8)):
        n_mats, n_cols = (int(r.integers(1, 6)), int(r.integers(1, 20)))
        shape = [(n_mats * n_cols,), (n_mats, n_cols), (1, n_mats * n_cols), (1, n_mats, n_cols)][r.integers(0, 4)]
        n_counts = n_mats if r.random() < 0.7 else 1
        counts = (r.random(n_counts) * 10 ** r.integers(0, 6)).astype(np.float32).reshape([(n_counts,), (n_counts, 1)][r.integers(0, 2)])
        tensors += [(f"t{i}.weight.in_sum2", sums(r, n_mats * n_cols).reshape(shape)), (f"t{i}.weight.counts", counts)]
        if r.random() < 0.2:
            tensors.append((f"t{i}.weight.in_sum", sums(r, 3)))
    r.shuffle(tensors)
    peer.write_gguf(path, [f"set {i}" for i in range(r.integers(1, 3))], int(r.integers(0, 500)), 512,
                    {k: np.asarray(v, np.float32) for k, v in tensors}, alignment=int(r.choice([8, 32, 64])))


def damage(rng, raw):
    b = bytearray(raw)
    kind = rng.random()
    if kind < 0.2:
        return bytes(b[:rng.randrange(len(b))])
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(b))
        if kind < 0.6:
            b[at] ^= 1 << rng.randrange(8)
        else:
            b[at] = rng.choice([0, 1, 255, 127, rng.randrange(256)])
    return bytes(b)


def compare(program, folder, paths, whole):
    global refused_alone, both
    for path, have in zip(paths, ours(paths), strict=True):
        want = peer.read(program, path, folder / "dump")
        if whole:
            check(have is not None and have == want, f"{path.name}: {'differs' if have else 'refused'}")
        elif have is None:
            refused_alone += want is not None
            check(True, "")
        else:
            both += 1
            if want is None:  # the padding behind the last tensor is nobody's data, and ggml wants it
                path.write_bytes(path.read_bytes() + bytes(64))
                want = peer.read(program, path, folder / "dump")
            check(have == want, f"{path.name}: lbrx takes it, and llama-quantize {'otherwise' if want else 'does not'}")


def run():
    global skipped
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        program = peer.build(folder)
        if not program or not os.path.exists(DUMP):
            skipped = 1
            print("skip: peer_imatrix: LBRX_CONVERT_HF_TO_GGUF names no script of llama.cpp, or there is no imatrix_dump")
            return
        for i in range(N):
            r, rng = np.random.default_rng((SEED, i)), random.Random(SEED * 1000 + i)
            paths = [folder / f"{i}.gguf", folder / f"{i}.dat", folder / f"{i}.other.gguf"]
            tool_file(r, paths[0], program, "gguf")
            tool_file(r, paths[1], program, "dat")
            other_file(r, paths[2])
            compare(program, folder, paths, True)
            bad = [folder / f"{i}.{k}.bad" for k in range(12)]
            for k, path in enumerate(bad):
                path.write_bytes(damage(rng, paths[k % 3].read_bytes()))
            compare(program, folder, bad, False)
            for path in (*paths, *bad):
                path.unlink()
        print(f"damaged: {both} taken by both, {refused_alone} by llama-quantize alone")


run()
if os.environ.get("NOSKIP"):
    failed, skipped = failed + skipped, 0
print(f"peer_imatrix: {passed} passed, {failed} failed, {skipped} skipped [cost: slow] {time.time() - START:.1f} s")
sys.exit(failed != 0)
