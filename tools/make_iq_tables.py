#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_iq_tables.py: writes src/kernel/iq_tables.c from the codebooks of GGUF's IQ-quants.

The codebooks are part of the file format. They are read from gguf-py (gguf.quants, the `grid_hex` and
`grid_map` of each class); the header declares them by hand. With the path of ggml-common.h as argument
every table is compared with ggml's own first.

    python3 tools/make_iq_tables.py [ggml-common.h] > src/kernel/iq_tables.c
"""
import re
import sys

import gguf.quants as q
import numpy as np

# our name, ggml's name, gguf-py's class
GRIDS = [
    ("lb_iq2xxs_grid", "iq2xxs_grid", q.IQ2_XXS),
    ("lb_iq2xs_grid", "iq2xs_grid", q.IQ2_XS),
    ("lb_iq2s_grid", "iq2s_grid", q.IQ2_S),
    ("lb_iq3xxs_grid", "iq3xxs_grid", q.IQ3_XXS),
    ("lb_iq3s_grid", "iq3s_grid", q.IQ3_S),
    ("lb_iq1s_grid", "iq1s_grid", q.IQ1_S),
]


def points(cls):
    """One integer a point, the first element in the lowest byte."""
    cls.init_grid()
    grid = cls.grid.reshape(cls.grid_shape).astype(np.int64) & 0xFF
    return [sum(int(v) << 8 * i for i, v in enumerate(row)) for row in grid]


def signs():
    """7 signs as stored, bit 7 makes the number of minuses even."""
    return [s | (bin(s).count("1") & 1) << 7 for s in range(128)]


def ggml_table(text, name):
    body = re.search(r"GGML_TABLE_BEGIN\(\w+, %s, \w+\)(.*?)GGML_TABLE_END" % name, text, re.S).group(1)
    return [int(v, 0) for v in re.findall(r"-?(?:0x[0-9a-fA-F]+|\d+)", body)]


def rows(values, per_row, fmt):
    for i in range(0, len(values), per_row):
        print("    " + ", ".join(fmt % v for v in values[i : i + per_row]) + ",")


def main():
    tables = {ours: points(cls) for ours, _, cls in GRIDS}
    assert signs() == list(q.IQ2_XXS.ksigns)
    if len(sys.argv) > 1:
        text = open(sys.argv[1]).read()
        for ours, theirs, _ in GRIDS:
            assert tables[ours] == ggml_table(text, theirs), theirs
        assert signs() == ggml_table(text, "ksigns_iq2xs")
        assert list(q.IQ4_NL.kvalues) == ggml_table(text, "kvalues_iq4nl")
    print("/* SPDX-License-Identifier: Apache-2.0 */")
    print("/* iq_tables.c: the codebooks of GGUF's IQ-quants; iq_tables.h says what they are.")
    print(" * Written by tools/make_iq_tables.py from gguf-py 0.19.0 (llama-cpp-python 0.3.36). */")
    print('#include "kernel/iq_tables.h"\n')
    print("/* clang-format off */")
    for ours, _, cls in GRIDS:
        wide = cls.grid_shape[1] == 8
        print("const u%d %s[%d] = {" % (64 if wide else 32, ours, len(tables[ours])))
        rows(tables[ours], 4 if wide else 8, "0x%016x" if wide else "0x%08x")
        print("};")
    print("const u8 lb_iq_signs[128] = {")
    rows(signs(), 16, "%3d")
    print("};")
    print("const i8 lb_iq4_values[16] = {")
    rows(list(q.IQ4_NL.kvalues), 16, "%d")
    print("};")
    print("/* clang-format on */")


main()
