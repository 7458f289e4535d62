#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_methods.py > methods.txt: small merges by the functions of mergekit 0.1.5 (torch 2.x on AVX2), for
test_merge_methods. A case:
    case METHOD DTYPE N BASE    BASE: index of the base, -1: none
    shared NAME VALUE           a parameter; own I NAME VALUE: of input I
    in I BITS...                the values of input I: f32, in hexadecimal
    out BITS...                 mergekit's result in DTYPE
"""
import random
import struct

import torch
from mergekit import merge_methods
from mergekit.merge_methods.api import merge_tensors

ROWS, COLS = 3, 8
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
W = {"weight": (0.4, 0.7, -0.2, 0.5)}
P = {"weight": (0.4, 0.7, 0.2, 0.5)}
CASES = [
    ("passthrough", 1, -1, {"scale": (1.3,)}, {}),
    ("linear", 3, -1, P, {"normalize": True}),
    ("linear", 2, -1, P, {"normalize": False}),
    ("task_arithmetic", 3, 0, W, {"lambda": 0.7}),
    ("task_arithmetic", 4, 2, P, {"normalize": True}),
    ("slerp", 2, 1, {}, {"t": 0.3}),
    ("nuslerp", 2, -1, P, {}),
    ("nuslerp", 3, 1, P, {}),
    ("multislerp", 3, -1, P, {}),
    ("multislerp", 4, 0, P, {"normalize_weights": False}),
    ("karcher", 3, -1, {}, {}),
    ("model_stock", 4, 1, {}, {}),
    ("model_stock", 3, 0, {}, {"filter_wise": True}),
    ("nuslerp", 2, -1, P, {"nuslerp_flatten": False}),
    ("nuslerp", 3, 2, P, {"nuslerp_flatten": False, "nuslerp_row_wise": True}),
    ("nearswap", 2, 0, {}, {"t": 0.01}),
    ("ram", 4, 3, {}, {"epsilon": 0.02}),
    ("ramplus_tl", 4, 0, {}, {"epsilon": 0.02, "r": 0.5, "alpha": 1.0}),
    ("ties", 4, 0, {**W, "density": (0.4, 0.7, 0.01, 0.5)}, {}),
    ("ties", 3, 2, {**P, "density": (0.4, 0.3, 1.0)}, {"normalize": False, "lambda": 1.3}),
    ("breadcrumbs", 3, 1, {**W, "density": (0.4, 0.7, 0.3), "gamma": (0.1, 0.2, 0.2)}, {"normalize": True}),
    ("breadcrumbs_ties", 4, 0, {**P, "density": (0.4, 0.3, 0.2, 0.4), "gamma": (0.1, 0.2, 0.1, 0.0)}, {}),
    ("sce", 4, 1, {}, {"select_topk": 0.5}),
    ("sce", 3, 0, {}, {}),
    ("arcee_fusion", 2, 1, {}, {}),
]
# Of equal magnitudes lbrx keeps the first ones.
argsort = torch.argsort
torch.argsort = lambda x, **k: argsort(x, stable=True, **k)
torch.topk = lambda x, k, largest: [y[:k] for y in torch.sort(x, descending=largest, stable=True)]


def bits(t):
    return " ".join(f"{struct.unpack('<I', struct.pack('<f', v))[0]:08x}" for v in t.float().flatten().tolist())


for number, (method, n, base, own, shared) in enumerate(CASES):
    for kind, dtype in DTYPES.items():
        g = torch.Generator().manual_seed(100 * number + len(kind))
        first = torch.randn(ROWS, COLS, generator=g)
        tensors = []
        for i in range(n):
            d = torch.randn(ROWS, COLS, generator=g) * 0.3
            x = first + d * (torch.rand(ROWS, COLS, generator=g) < 0.6)
            x.view(-1)[random.Random(number * 10 + i).randrange(ROWS * COLS)] = 0
            tensors.append(x.to(dtype))
        params = dict(shared)
        for name, values in own.items():
            params[name] = {i: values[i] for i in range(n) if i != base}
        out = merge_tensors(tensors, merge_methods.get(method), parameters=params, base_index=base if base >= 0 else None)
        print(f"case {method} {kind} {n} {base}")
        for name, v in shared.items():
            print(f"shared {name} {float(v)}")
        for name, values in own.items():
            for i in range(n):
                if i != base:
                    print(f"own {i} {name} {values[i]}")
        for i, t in enumerate(tensors):
            print(f"in {i} {bits(t)}")
        print(f"out {bits(out)}")
