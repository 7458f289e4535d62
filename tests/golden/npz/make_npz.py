#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the files of this folder: make_npz.py (numpy 2, mlx 0.32.4). mlx.npz: mlx.core.savez of a small quantized
layer beside plain arrays; types.npz: numpy.savez of every type; the bytes of each array in *.json."""
import hashlib
import json
import pathlib

import mlx.core as mx
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent


def digest(raw):
    return hashlib.sha256(raw).hexdigest()


mx.random.seed(3)
w, s, b = mx.quantize(mx.random.normal((4, 64)).astype(mx.float16), group_size=32, bits=4)
arrays = {"layers.0.w.weight": w, "layers.0.w.scales": s, "layers.0.w.biases": b,
          "norm.weight": mx.arange(8).astype(mx.bfloat16), "one": mx.array(3.0)}
mx.savez(str(HERE / "mlx.npz"), **arrays)
want = {}
for k, v in arrays.items():
    raw = np.array(v.view(mx.uint16) if v.dtype == mx.bfloat16 else v).tobytes()
    want[k] = [{"uint32": "u32", "float16": "f16", "bfloat16": "bf16", "float32": "f32"}[str(v.dtype).split(".")[-1]],
               list(v.shape), digest(raw)]
(HERE / "mlx.json").write_text(json.dumps(want, indent=1) + "\n")
kinds = {"f4": "f32", "f2": "f16", "f8": "f64", "u1": "u8", "i1": "i8", "u2": "u16", "i2": "i16", "u4": "u32", "i4": "i32",
         "u8": "u64", "i8": "i64", "?": "bool", "c8": "c64"}
r = np.random.default_rng(1)
arrays = {ours: r.integers(0, 2, (2, 3)).astype(k) for k, ours in kinds.items()}
arrays["empty"] = np.zeros((0, 4), "f4")
arrays["scalar"] = np.float32(1.5)
np.savez(HERE / "types.npz", **arrays)
(HERE / "types.json").write_text(json.dumps({k: [kinds.get(v.dtype.str[1:], "bool" if v.dtype == bool else "f32"), list(v.shape),
                                                 digest(v.tobytes())] for k, v in arrays.items()}, indent=1) + "\n")
np.savez_compressed(HERE / "compressed.npz", x=np.zeros((4, 4), "f4"))
np.savez(HERE / "fortran.npz", x=np.asfortranarray(np.zeros((2, 3), "f4")))
np.savez(HERE / "fortran_3.npz", x=np.asfortranarray(np.zeros((2, 3, 2), "f4")))
np.savez(HERE / "big_endian.npz", x=np.zeros((2, 3), ">f4"))
np.savez(HERE / "object.npz", x=np.array([{"a": 1}], dtype=object))
