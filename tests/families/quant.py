# SPDX-License-Identifier: Apache-2.0
"""quant.py: GGUF files quantized by gguf-py, or by libggml (LBRX_LIBGGML names libggml-base.so) for what it lacks."""
import ctypes
import os

import gguf
import numpy as np

LIBGGML = ctypes.CDLL(os.environ["LBRX_LIBGGML"]) if os.environ.get("LBRX_LIBGGML") else None
K_TYPES = ("Q4_K", "Q5_K") if LIBGGML else ()


def quantize(x, kind):
    size, bytes_per = gguf.GGML_QUANT_SIZES[kind]
    if x.shape[-1] % size:
        raise ValueError(kind)
    if kind.name not in K_TYPES:
        return gguf.quants.quantize(x, kind)
    x = np.ascontiguousarray(x, np.float32)
    out = np.zeros(x.size // size * bytes_per, np.uint8)
    LIBGGML.ggml_quantize_chunk.restype = ctypes.c_size_t
    LIBGGML.ggml_quantize_chunk(int(kind), x.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p),
                                ctypes.c_int64(0), ctypes.c_int64(x.size // x.shape[-1]), ctypes.c_int64(x.shape[-1]), None)
    return out.reshape(*x.shape[:-1], -1)


def quantize_file(path, out, kinds, r):
    """Matrices in one of the kinds each, the rest as it is; their values by name."""
    reader = gguf.GGUFReader(path)
    w = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for f in reader.fields.values():
        if f.name.startswith("GGUF.") or f.name == "general.architecture":
            continue
        kind = f.types[0]
        w.add_key_value(f.name, f.contents(), kind, f.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    values = {}
    for t in reader.tensors:
        shape = [int(n) for n in reversed(t.shape)]
        x = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32).reshape(shape)
        plain = x.ndim < 2 or "ffn_gate_inp" in t.name or "rope" in t.name
        kind = gguf.GGMLQuantizationType.F32 if plain else r.choice(kinds)
        try:
            data = quantize(x, kind)
        except ValueError:
            kind = gguf.GGMLQuantizationType.F16
            data = gguf.quants.quantize(x, kind)
        w.add_tensor(t.name, data, raw_dtype=kind)
        if not plain:
            values[t.name] = gguf.quants.dequantize(data, kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return values
