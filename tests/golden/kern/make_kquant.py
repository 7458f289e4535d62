#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_kquant.py: golden records of the K-quants and IQ-quants, <type>.bin beside this script.

Values are those of ggml's dequantize_row_* and, where it has the type, of gguf-py, which must agree in
every bit first. Made with gguf-py 0.19.0 and ggml-quants.c of llama-cpp-python 0.3.36 on x86-64:

    gcc -O1 -ffp-contract=off -fPIC -shared -Iggml/include -Iggml/src -o libggmlq.so \\
        ggml/src/ggml-quants.c -lm -Wl,--defsym=ggml_abort=0,--defsym=ggml_row_size=0 \\
        -Wl,--defsym=ggml_type_name=0,--defsym=ggml_type_size=0
    python3 tests/golden/kern/make_kquant.py ./libggmlq.so
"""
import ctypes
import os
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from golden import write

# ggml's name of the decoder: byte offsets of the block's f16 scales (iq1_m's is spread, q8_k's is f32)
TYPES = {
    "q2_K": [80, 82], "q3_K": [108], "q4_K": [0, 2], "q5_K": [0, 2], "q6_K": [208], "q8_K": [],
    "iq2_xxs": [0], "iq2_xs": [0], "iq2_s": [0], "iq3_xxs": [0], "iq3_s": [0], "iq1_s": [0],
    "iq1_m": [], "iq4_nl": [0], "iq4_xs": [0],
}
# +-0, smallest and largest subnormal, smallest normal, one, largest finite, Inf, quiet and signalling NaN
EDGES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C00, 0xFBFF, 0x7BFF, 0x7C00, 0xFC00, 0x7E00, 0xFC01]
EDGES_F32 = [0, 1 << 31, 1, 0x807FFFFF, 0x00800000, 0x3F800000, 0xFF7FFFFF, 0x7F7FFFFF, 0x7F800000,
             0xFF800000, 0x7FC00000, 0xFF800001]


def set_scale(name, blocks, which, bits):
    """Puts scale number i into block i. bits: u16 each, for q8_k u32."""
    bits = np.asarray(bits)
    if name == "q8_K":
        blocks[:, 0:4] = bits.astype("<u4").reshape(-1, 1).view(np.uint8)
    elif name == "iq1_m":
        for i in range(4):
            high = blocks[:, 48 + 2 * i + 1]
            high[:] = high & 15 | ((bits >> 4 * i & 15) << 4).astype(np.uint8)
    else:
        at = TYPES[name][which]
        blocks[:, at : at + 2] = bits.astype("<u2").reshape(-1, 1).view(np.uint8)


def same(a, b):
    nan = np.isnan(a)
    return (nan == np.isnan(b)).all() and (a[~nan].view(np.uint32) == b[~nan].view(np.uint32)).all()


def decode(lib, name, blocks):
    n_elems = GGML_QUANT_SIZES[GGMLQuantizationType[name.upper()]][0] * len(blocks)
    out = np.empty(n_elems, np.float32)
    blocks = np.ascontiguousarray(blocks)
    getattr(lib, "dequantize_row_" + name)(
        ctypes.c_void_p(blocks.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(n_elems))
    if name != "q8_K":
        with np.errstate(all="ignore"):
            py = dequantize(blocks.reshape(1, -1), GGMLQuantizationType[name.upper()]).reshape(-1)
        assert same(out, np.ascontiguousarray(py)), name
    return out


def records(lib, name, rng):
    n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name.upper()]][1]
    edges = EDGES_F32 if name == "q8_K" else EDGES
    n_scales = max(1, len(TYPES[name]))

    plain = rng.integers(0, 256, (12, n_bytes), np.uint8)
    for s in range(n_scales):
        scale = np.abs(rng.normal(0, 0.01, 12)).astype(np.float32)
        bits = scale.view(np.uint32) if name == "q8_K" else scale.astype(np.float16).view(np.uint16)
        set_scale(name, plain, s, bits)
    yield "random", plain

    # Every code at its lowest and highest, with an odd number of blocks.
    ends = np.repeat(np.array([0, 0xFF, 0x0F], np.uint8)[:, None], n_bytes, 1)
    for s in range(n_scales):
        one = 0x3F800000 if name == "q8_K" else 0x3C00
        set_scale(name, ends, s, [one, one, one])
    yield "ends", ends

    for s in range(n_scales):
        extreme = rng.integers(0, 256, (len(edges), n_bytes), np.uint8)
        for other in range(n_scales):
            set_scale(name, extreme, other, [0x3000] * len(edges))
        set_scale(name, extreme, s, edges)
        yield "scale %d" % s, extreme
    if n_scales == 2:  # Inf - Inf, -0 - 0 and the like
        extreme = rng.integers(0, 256, (len(edges), n_bytes), np.uint8)
        set_scale(name, extreme, 0, edges)
        set_scale(name, extreme, 1, edges)
        yield "both scales", extreme


def main():
    lib = ctypes.CDLL(os.path.abspath(sys.argv[1]))
    rng = np.random.default_rng(20240607)
    for name in TYPES:
        recs = [(name.lower() + " " + what, raw, decode(lib, name, raw)) for what, raw in records(lib, name, rng)]
        write(os.path.join(os.path.dirname(os.path.abspath(__file__)), name.lower() + ".bin"), recs)


main()
