#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden values of exp and log: floats and the correctly rounded results.

    make_explog.py OUT_DIR

mpmath gives the values with 200 bits. Inputs: special values, random ones, and of the floats from 2^-7 on (exp) or
to 2^9 (log) those whose result lies nearest to the middle of two floats (within 2^-24 of their distance), which
are found in extended precision. Takes some minutes. Made with mpmath 1.3, numpy 2 on x86-64."""
import sys
import mpmath
import numpy as np
from golden import write

mpmath.mp.prec = 200
SPECIAL = np.array([0, 0x80000000, 1, 0x80000001, 0x7fffff, 0x800000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
                    0x7fc00000, 0x3f800000, 0x3f7fffff, 0x3f800001, 0xbf800000, 0x42b17217, 0x42b17218, 0x42b17219,
                    0xc2aeac4f, 0xc2aeac50, 0xc2cff1b4, 0xc2cff1b5, 0xc2cff1b6, 0x3fb504f3, 0x3fb504f4, 0x3f3504f3],
                   np.uint32)


def hard(fn, blocks):
    out = []
    low = np.arange(1 << 16, dtype=np.uint32)
    for b in blocks:
        x = (low | np.uint32(b << 16)).view(np.float32)
        m = np.abs(fn(x.astype(np.longdouble)))
        m, e = np.frexp(m[m != 0]), low[m != 0]
        f = np.ldexp(m[0], 24)
        d = np.abs(f - np.floor(f) - np.longdouble(0.5))
        pick = (d < 2.0 ** -24) & (d > 0) & (m[1] > -125) & (m[1] <= 128)
        out.append((e[pick] | np.uint32(b << 16)).astype(np.uint32))
    return np.concatenate(out)


def rounded(v):
    """To nearest even, by the integers: overflow and denormals too."""
    if v == 0 or mpmath.isinf(v) or mpmath.isnan(v):
        return np.float32(float(v))
    e = max(int(mpmath.floor(mpmath.log(abs(v), 2))), -126)
    n = mpmath.nint(abs(v) * mpmath.mpf(2) ** (23 - e))  # nint: half to even
    r = n * mpmath.mpf(2) ** (e - 23)
    return np.float32(float(mpmath.sign(v) * r)) if r < mpmath.mpf(2) ** 128 else np.float32(float(mpmath.sign(v)) * np.inf)


def exp(x):
    return np.float32(np.nan) if np.isnan(x) else np.float32(np.inf if x > 0 else 0) if np.isinf(x) else \
        rounded(mpmath.exp(mpmath.mpf(float(x))))


def log(x):
    return np.float32(np.nan) if np.isnan(x) or x < 0 else np.float32(-np.inf) if x == 0 else \
        np.float32(np.inf) if np.isinf(x) else rounded(mpmath.log(mpmath.mpf(float(x))))


rng = np.random.default_rng(3)
bits = rng.integers(0, 1 << 32, 600, dtype=np.uint64).astype(np.uint32)
near = (rng.standard_normal(600) * 8).astype(np.float32).view(np.uint32)
around_one = (0x3f800000 + rng.integers(-2000, 2000, 200)).astype(np.uint32)
records = []
for name, fn, scan, blocks in (
        ("exp", exp, np.exp, [*range(0x3c00, 0x42b2), *range(0xbc00, 0xc2af)]),
        ("log", log, np.log, range(0x3c00, 0x4400))):
    x = np.unique(np.concatenate([SPECIAL, bits, near, near & 0x7fffffff, around_one, hard(scan, blocks)]))
    x = x.view(np.float32)
    records.append((name, x, np.array([fn(v) for v in x], np.float32)))
    print(name, x.size)
write(sys.argv[1] + "/explog.bin", records)
