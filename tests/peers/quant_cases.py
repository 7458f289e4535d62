# SPDX-License-Identifier: Apache-2.0
"""What peer_quant_mlx.py and peer_quant_hf.py share: random weights of every kind, and the program that runs the
kernels of every instruction set."""
import os
import pathlib
import platform
import subprocess
import sys

sys.dont_write_bytecode = True
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden" / "kern"))
import quant_peers as peers
from make_quant import how_of, CPU, ASYM, TIMES, FLOAT, STORED

LBRX = os.environ.get("LBRX", "build/lbrx")
QUANTIZE = os.environ.get("QUANTIZE", str(pathlib.Path(LBRX).parent / "tests" / "quantize"))
N_KINDS = 14
passed = failed = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL " + what)


def isa_masks():
    """The reference and everything that the machine has, one after the other (enum lb_isa)."""
    return (0, 1, 3) if platform.machine() == "x86_64" else (0, 4)


def run(name, w, how, global_scale=0, mask=0xFFFFFFFF, tile=()):
    """The bytes after the codes are not split: codes, rest, count."""
    n, group = w.shape
    args = [QUANTIZE, name, str(group), str(how), str(n), repr(float(global_scale)), str(mask), *map(str, tile)]
    return subprocess.run(args, input=w.tobytes(), stdout=subprocess.PIPE, check=True).stdout


def weights(rng, n, group, t):
    """Rows of the type and the kind of each: normal, heavy tails, constant, +-0, subnormal, negative, huge, ties,
    positive, of any size, around 1e-7, constant of any size, any bits, with a NaN or Inf."""
    a = rng.standard_normal((n, group)).astype(np.float32)
    k = rng.integers(0, N_KINDS, n)

    def power(lo, hi):
        return np.exp2(rng.integers(lo, hi, (n, 1)).astype(np.float32))

    with np.errstate(all="ignore"):
        kinds = [a, a**5, np.broadcast_to(a[:, :1], a.shape), 0 * a, a * power(-149, -110), -np.abs(a) - 1, a * power(100, 126),
                 (rng.integers(-30, 31, (n, group)) * 0.5).astype(np.float32) * power(-10, 10), np.abs(a) + np.float32(0.1),
                 a * power(-40, 15), a * power(-30, -20), a[:, :1] * power(-149, 127) + 0 * a,
                 rng.integers(0, 1 << 32, (n, group), dtype=np.uint32).view(np.float32),
                 np.where(rng.random((n, group)) < 0.02, np.array([np.nan, np.inf, -np.inf], np.float32)[rng.integers(0, 3, (n, group))], a)]
        x = np.select([(k == i)[:, None] for i in range(N_KINDS)], kinds)
        return peers.store(x, t), k
