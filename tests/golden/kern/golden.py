# SPDX-License-Identifier: Apache-2.0
"""Writes golden records (tests/unit/golden.h): stored bytes and the f32 values of the defining code."""
import struct
import numpy as np


def record(name, raw, values):
    raw = np.ascontiguousarray(raw).view(np.uint8).ravel().tobytes()
    values = np.ascontiguousarray(values, dtype="<f4").ravel()
    return (b"LBKG" + struct.pack("<I", 1) + name.encode().ljust(32, b"\0") +
            struct.pack("<QQ", values.size, len(raw)) + raw + values.tobytes())


def write(path, records):
    with open(path, "wb") as f:
        for r in records:
            f.write(record(*r))
