#!/usr/bin/env python3
"""Goldens of CPython's json and float.repr, made with 3.11: f64.txt and dumps.txt in this folder.

f64.txt    hex bits, repr, one pair a line.
dumps.txt  records "indent compact ascii n_in n_out\\n" + n_in bytes of input + "\\n" + n_out bytes that
           json.dumps writes for it + "\\n".
"""
import json
import os
import random
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
rng = random.Random(20)


def bits(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0]


def value(b):
    return struct.unpack("<d", struct.pack("<Q", b))[0]


def f64_cases():
    yield from (0.0, -0.0, 1.0, -1.5, 0.1, 0.2, 0.1 + 0.2, 1 / 3, 1e-4, 1e-5, 9.999e-5, 1e15, 1e16, 1e17)
    yield from (123456789012345680.0, 1e22, 1e23, 5e-324, 2.2250738585072014e-308, 2.225073858507201e-308)
    yield from (1.7976931348623157e308, 9007199254740993.0, 2.0**-44, 10000.0, 500000.0, 1e-6, 1e-12)
    yield from (float("inf"), float("-inf"), float("nan"), 9.5, 99999999999999990.0, 9999999999999998.0)
    for e in range(-1074, 1024, 7 if "--all" not in sys.argv else 1):
        yield 2.0**e
    n = 400 if "--all" not in sys.argv else 200000
    for _ in range(n):
        yield value(rng.getrandbits(64))
        yield value(rng.getrandbits(52))  # subnormal
        yield rng.uniform(-100, 100)
        yield float("%de%d" % (rng.randrange(1, 10**rng.randrange(1, 18)), rng.randrange(-320, 300)))


with open(os.path.join(HERE, "f64.txt") if "--all" not in sys.argv else "/dev/stdout", "w") as f:
    for x in f64_cases():
        if x != x:
            x = float("nan")
        s = json.dumps(x)
        f.write("%016x %s\n" % (bits(x), s))


def text():
    pools = ["abc xyz", "\"\\/\b\f\n\r\t", "\x00\x01\x1f\x7f", "é€ñ", "中文字", "😀🤗", "\u2028\u2029\ufeff\uffff"]
    return "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(0, 12)))


def tree(depth):
    k = rng.randrange(0, 9 if depth else 7)
    if k == 0:
        return None
    if k == 1:
        return rng.random() < 0.5
    if k == 2:
        return rng.choice([0, -1, 7, 2**63, -(2**64), 10**30, rng.randrange(-1000, 1000)])
    if k == 3:
        return rng.choice([1e-05, 1e16, 10000.0, float("inf"), float("-inf"), rng.uniform(-1, 1), -0.0])
    if k < 7:
        return text()
    n = rng.randrange(0, 6)
    if k == 7:
        return [tree(depth - 1) for _ in range(n)]
    return {text(): tree(depth - 1) for _ in range(n)}


if "--all" not in sys.argv:
    with open(os.path.join(HERE, "dumps.txt"), "wb") as f:
        for i in range(150):
            v = tree(5)
            indent = rng.choice([None, None, 1, 2, 4])
            compact = indent is None and rng.random() < 0.3
            ascii_ = rng.random() < 0.5
            how = dict(indent=indent, ensure_ascii=ascii_)
            if compact:
                how["separators"] = (",", ":")
            src = json.dumps(v, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 3])).encode()
            out = json.dumps(v, **how).encode()
            f.write(b"%d %d %d %d %d\n" % (indent or 0, compact, ascii_, len(src), len(out)))
            f.write(src + b"\n" + out + b"\n")
