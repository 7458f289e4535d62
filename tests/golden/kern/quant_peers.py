# SPDX-License-Identifier: Apache-2.0
"""The defining code of quantized types, as make_quant.py and tests/peers/peer_quant_*.py call it: mlx on the CPU, and
mlx's Metal kernels, whose text the wheel has, compiled for the host (metal_host.cpp). All take and give numpy arrays; a
row is a group. Values of bf16 and f16 are their u16."""
import ctypes
import pathlib
import re
import subprocess
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).parent
TYPES = ("f32", "bf16", "f16")  # as lb_round numbers them
MODES = {"mxfp4": (32, 4, 104), "mxfp8": (32, 8, 108), "nvfp4": (16, 4, 116)}  # group, bits, metal_host's number


def store(x, t):
    """f32 values as the type stores them: f32, or u16 rounded to nearest even."""
    x = np.ascontiguousarray(x, np.float32)
    if t == "f32":
        return x
    with np.errstate(all="ignore"):
        if t == "f16":
            return x.astype(np.float16).view(np.uint16)
    b = x.view(np.uint32)
    r = ((b.astype(np.uint64) + 0x7FFF + (b >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), (b >> 16 | 0x40).astype(np.uint16), r)


def load(w, t):
    if t == "f32":
        return w
    return w.view(np.float16).astype(np.float32) if t == "f16" else (w.astype(np.uint32) << 16).view(np.float32)


def one_nan(a, t):
    """Which NaN arithmetic makes depends on the machine: the library has one."""
    return np.where(np.isnan(load(a, t)), np.array({"f32": np.nan, "bf16": 0x7FC0, "f16": 0x7E00}[t]).astype(a.dtype), a)


def mlx_cpu(mode, w, t, group, bits, global_scale=0):
    """codes (u8), scales, biases (None in the floating modes) by mx.quantize on the CPU."""
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    x = mx.array(w)
    if t != "f32":
        x = x.view(mx.bfloat16 if t == "bf16" else mx.float16)
    kw = {"global_scale": mx.array(global_scale, dtype=mx.float32)} if global_scale else {}
    out = mx.quantize(x, group_size=group, bits=bits, mode=mode, **kw)
    codes = np.array(out[0]).view(np.uint8).reshape(len(w), -1)
    if mode != "affine":
        return codes, np.array(out[1])[:, 0], None
    return (codes, *(np.array(a if t == "f32" else a.view(mx.uint16))[:, 0] for a in out[1:]))


def stored_codes(w, t, bits, scales, biases, cpu):
    """Codes chosen again for the scales and biases that mlx stored: its own line with these, in f32."""
    n = np.float32(2**bits - 1)
    s, b = (load(np.ascontiguousarray(a), t)[:, None] for a in (scales, biases))
    with np.errstate(all="ignore"):
        q = (load(w, t) - b) / s
        whole = np.rint(q) if cpu else np.sign(q) * (np.floor(np.abs(q)) + (np.abs(q) - np.floor(np.abs(q)) >= 0.5))
        whole = np.where(whole > 0, np.minimum(whole, n), 0) if cpu else np.where(whole < n, np.maximum(whole, 0), n)
    code = whole.astype(np.uint8)[:, :, None] >> np.arange(bits, dtype=np.uint8) & 1
    return np.packbits(code.reshape(len(w), -1), axis=1, bitorder="little")


def cut(text, start):
    """The template that the line `start` belongs to, to its closing brace."""
    at = text.index(start)
    begin = text.rindex("template <", 0, at) if "template <" in text[:at] else at
    depth, i = 0, text.index("{", text.index(")", at) if "(" in start else at)
    for i in range(i, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            break
    return re.sub(r"\[\[(kernel|buffer\(\d+\)|thread\w*|threads\w*)\]\]", "", text[begin : i + 1])


def metal():
    """A function like mlx_cpu, by the text of the Metal kernels; None without a compiler."""
    import mlx

    kernels = pathlib.Path(list(mlx.__path__)[0]) / "include/mlx/backend/metal/kernels"
    q, f = (kernels / "quantized.h").read_text(), (kernels / "fp_quantized.h").read_text()
    inc = {
        "affine": "\n".join(cut(q, s) for s in ("get_pack_factor()", "get_bytes_per_pack()", "void affine_quantize(")),
        "fp": cut(f, "struct Quantize {") + ";\n" + cut(f, "void fp_quantize("),
    }
    for name in ("fp4", "fp8"):
        inc[name] = (kernels / f"{name}.h").read_text().replace("#pragma once", "")
    with tempfile.TemporaryDirectory() as d:
        for name, text in inc.items():
            (pathlib.Path(d) / f"{name}.inc").write_text(text)
        try:
            subprocess.run(["c++", "-std=c++17", "-O2", "-w", "-ffp-contract=off", "-shared", "-fPIC", f"-I{d}",
                            str(HERE / "metal_host.cpp"), "-o", f"{d}/metal.so"], check=True)
        except FileNotFoundError:
            return None
        lib = ctypes.CDLL(f"{d}/metal.so")

    def quantize(mode, w, t, group, bits, global_scale=0):
        n = len(w)
        codes, scales, biases = (np.zeros((n, k), d) for k, d in ((group * bits // 8, np.uint8), (1, w.dtype), (1, w.dtype)))
        if mode != "affine":
            scales = np.zeros((n, 1), np.uint8)
        assert mode != "nvfp4" or n % 2 == 0
        p = [ctypes.c_void_p(a.ctypes.data) for a in (w, codes, scales, biases)]
        number = MODES[mode][2] if mode != "affine" else bits
        rc = lib.metal_quantize(number, group, TYPES.index(t), ctypes.c_size_t(n), *p, ctypes.c_float(global_scale))
        assert rc == 0
        return codes, scales[:, 0], biases[:, 0] if mode == "affine" else None

    return quantize


def tensor(w, t):
    import torch

    x = torch.from_numpy(w if t == "f32" else w.view(np.int16))
    return x.view({"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[t])


def array(x):
    """A tensor's bytes, in rows."""
    import torch

    return x.contiguous().view(torch.uint8).numpy()


def ct_params(w, t, **args):
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.utils import calculate_qparams

    x, a = tensor(w, t), QuantizationArgs(**args)
    scale, zero = calculate_qparams(x.amin(1, keepdim=True), x.amax(1, keepdim=True), a)
    return x, a, scale, zero


def ct_groups(w, t, bits, symmetric):
    """pack-quantized: words, scales, zero points (i8, if any); a row is a group."""
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
    from compressed_tensors.quantization.lifecycle.forward import quantize

    x, a, scale, zero = ct_params(w, t, num_bits=bits, type="int", symmetric=symmetric, strategy="group", group_size=w.shape[1])
    codes = quantize(x, scale, zero, a, dtype=torch.int8)
    packed = pack_to_int32(codes.reshape(1, -1), bits)
    return [array(packed), array(scale)] + ([] if symmetric else [array(zero)])


def ct_rows(w, t, kind, symmetric):
    """float- and int-quantized channels: codes, scales and zero points as f32."""
    from compressed_tensors.quantization.lifecycle.forward import quantize

    x, a, scale, zero = ct_params(w, t, num_bits=8, type=kind, symmetric=symmetric, strategy="channel")
    codes = quantize(x, scale, zero, a, dtype=a.pytorch_dtype())
    return [array(codes), array(scale.float()), array(zero.float())]


def ct_matrix(w, t, kind, symmetric, tile):
    """A matrix with one scale (no tile), one a row (a tile of one row) or one a block, cut ones at the ends: codes,
    scales and zero points as f32."""
    import torch
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import quantize
    from compressed_tensors.quantization.utils import calculate_qparams
    from compressed_tensors.quantization.utils.helpers import maybe_pad_tensor_for_block_quant

    args = {"strategy": "tensor"} if tile is None else {"strategy": "channel"}
    if tile and tile[0] > 1:
        args = {"strategy": "block", "block_structure": list(tile)}
    a = QuantizationArgs(num_bits=8, type=kind, symmetric=symmetric, **args)
    x = tensor(w, t)
    if a.strategy == "block":
        y = maybe_pad_tensor_for_block_quant(x, tile)
        y = y.reshape(y.shape[0] // tile[0], tile[0], y.shape[1] // tile[1], tile[1])
        lo, hi = y.amin((1, 3)), y.amax((1, 3))
    else:
        lo, hi = (x.amin().reshape(1), x.amax().reshape(1)) if tile is None else (x.amin(1, keepdim=True), x.amax(1, keepdim=True))
    scale, zero = calculate_qparams(lo, hi, a)
    codes = quantize(x, scale, zero, a, dtype=torch.float8_e4m3fn if kind == "float" else torch.int8)
    return [array(codes), array(scale.float()), array(zero.float())]


def fp8_matrix(w, t, tile):
    """Fp8Quantize of transformers: codes, weight_scale_inv; no tile: one scale."""
    from types import SimpleNamespace

    from transformers.integrations.finegrained_fp8 import Fp8Quantize

    config = SimpleNamespace(weight_block_size=tile, scale_fmt="float")
    out = Fp8Quantize(SimpleNamespace(quantization_config=config)).convert({"x.weight": tensor(w, t)})
    return [array(out["x.weight"]), array(out["x.weight_scale_inv"])]


def fp8_rows(w, t):
    """The same, one block a row."""
    return fp8_matrix(w, t, (1, w.shape[1]))
