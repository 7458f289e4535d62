#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_foreign.py: folders quantized by other tools, and the values that the makers' own code gives.

    make_foreign.py fp8        needs transformers (Fp8Dequantize of integrations/finegrained_fp8.py)
    make_foreign.py ct         needs compressed-tensors (the compressors' own compress and decompress)
Each folder holds config.json, model.safetensors and expect/model.safetensors: the same names, decoded to f32.
Made with torch 2.15.0, transformers 5.24.0, compressed-tensors 0.20.0, safetensors 0.8.0."""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent


def write(name, config, tensors, expect):
    folder = HERE / name
    (folder / "expect").mkdir(parents=True, exist_ok=True)
    text = {"architectures": ["Nobody"], "model_type": "nobody", "quantization_config": config}
    (folder / "config.json").write_text(json.dumps(text, indent=1) + "\n")
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    save_file({k: v.to(torch.float32).contiguous() for k, v in expect.items()}, folder / "expect" / "model.safetensors")


def weight(rows, cols, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, cols, generator=g) * 0.05
    x[0, : cols // 8] *= 30
    return x


def to_f8(x):
    return x.clamp(-448, 448).to(torch.float8_e4m3fn)


def fp8():
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    undo = Fp8Dequantize(None)._dequantize_one
    tensors, expect = {}, {}
    for name, block, dtype in (("block", (8, 16), torch.float32), ("bf16", (8, 16), torch.bfloat16)):
        w = weight(24, 48, 1)
        s = torch.rand(24 // block[0], 48 // block[1]).to(dtype) * 0.01
        tensors[name + ".weight"] = to_f8(w * 300)
        tensors[name + ".weight_scale_inv"] = s
        expect[name + ".weight"] = undo(tensors[name + ".weight"], s, torch.float32)
    # cut blocks: DeepSeek-V3 inference/kernel.py weight_dequant: the scale of block (i // 8, j // 16)
    w, s = to_f8(weight(21, 39, 2) * 300), torch.rand(3, 3) * 0.01
    tensors["cut.weight"], tensors["cut.weight_scale_inv"] = w, s
    expect["cut.weight"] = w.float() * s.repeat_interleave(8, 0)[:21].repeat_interleave(16, 1)[:, :39]
    tensors["norm.weight"] = expect["norm.weight"] = torch.rand(5)
    tensors["block.input_scale"] = torch.tensor(0.5)
    write("fp8_block", {"quant_method": "fp8", "weight_block_size": [8, 16]}, tensors, expect)
    tensors, expect = {}, {}
    for name, s in (("tensor", torch.tensor(0.013)), ("channel", torch.rand(10, 1) * 0.01),
                    ("e8m0", torch.full((10,), 120, dtype=torch.uint8))):
        w = to_f8(weight(10, 33, 3) * 300)
        tensors[name + ".weight"], tensors[name + ".weight_scale_inv"] = w, s
        s2 = s.reshape(-1, 1) if s.dim() else s
        expect[name + ".weight"] = undo(w, s2, torch.float32)
    write("fp8_rows", {"quant_method": "fp8", "activation_scheme": "static"}, tensors, expect)


def ct():
    from compressed_tensors.compressors.naive_quantized.base import NaiveQuantizationCompressor as Naive
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor as Packed
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    def one(name, maker, dtype, shape, tensors, expect, groups, **args):
        a = QuantizationArgs(**args)
        w = weight(*shape, len(tensors)).to(dtype)
        if a.strategy == "block":
            b = a.block_structure
            grid = (-(-shape[0] // b[0]), -(-shape[1] // b[1]))
            lo, hi = -torch.rand(grid), torch.rand(grid)
        elif a.strategy == "group":
            v = w.reshape(shape[0], -1, a.group_size)
            lo, hi = v.amin(-1), v.amax(-1)
        elif a.strategy == "channel":
            lo, hi = w.amin(-1, keepdim=True), w.amax(-1, keepdim=True)
        else:
            lo, hi = w.amin().reshape(1), w.amax().reshape(1)
        scale, zero = calculate_qparams(lo, hi, a)
        state = {"weight": w, "weight_scale": scale.to(dtype)}
        if not a.symmetric:
            state["weight_zero_point"] = zero.to(torch.int8)
        scheme = QuantizationScheme(targets=["Linear"], weights=a)
        packed = maker.compress(dict(state), scheme)
        back = maker.decompress(dict(packed), scheme)
        for k, v in packed.items():
            tensors[f"{name}.{k}"] = v
        expect[f"{name}.weight"] = back["weight"]
        groups[name] = {"targets": [name], "weights": json.loads(a.model_dump_json())}

    def folder(name, fmt, maker, rows):
        tensors, expect, groups = {}, {}, {}
        for row, dtype, shape, args in rows:
            one(row, maker, dtype, shape, tensors, expect, groups, **args)
        tensors["lm_head.weight"] = expect["lm_head.weight"] = torch.rand(3, 4).to(torch.bfloat16)
        config = {"quant_method": "compressed-tensors", "format": fmt, "config_groups": groups, "ignore": ["lm_head"]}
        write(name, config, tensors, expect)

    f8 = {"num_bits": 8, "type": "float", "symmetric": True}
    folder("ct_float", "float-quantized", Naive, [
        ("tensor", torch.bfloat16, (9, 40), f8 | {"strategy": "tensor"}),
        ("channel", torch.bfloat16, (9, 40), f8 | {"strategy": "channel"}),
        ("half", torch.float16, (9, 40), f8 | {"strategy": "channel"}),
        ("block", torch.float32, (16, 40), f8 | {"strategy": "block", "block_structure": [8, 8]})])
    i8 = {"num_bits": 8, "type": "int"}
    folder("ct_int", "int-quantized", Naive, [
        ("channel", torch.bfloat16, (9, 40), i8 | {"symmetric": True, "strategy": "channel"}),
        ("tensor", torch.float16, (9, 40), i8 | {"symmetric": True, "strategy": "tensor"}),
        ("zeros", torch.float32, (9, 40), i8 | {"symmetric": False, "strategy": "channel"}),
        ("group", torch.bfloat16, (9, 64), i8 | {"symmetric": False, "strategy": "group", "group_size": 16})])
    rows = []
    for bits in (2, 3, 4, 5, 8):
        for sym in (True, False):
            a = {"num_bits": bits, "type": "int", "symmetric": sym}
            dtype = torch.bfloat16 if sym else torch.float16
            rows.append((f"g{bits}{'s' if sym else 'a'}", dtype, (21, 96), a | {"strategy": "group", "group_size": 32}))
            rows.append((f"c{bits}{'s' if sym else 'a'}", dtype, (34, 43), a | {"strategy": "channel"}))
    folder("ct_packed", "pack-quantized", Packed, rows)


for what in sys.argv[1:]:
    torch.manual_seed(7)
    {"fp8": fp8, "ct": ct}[what]()
