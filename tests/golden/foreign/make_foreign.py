#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_foreign.py: folders quantized by other tools, and the values that the makers' own code gives.

    make_foreign.py fp8        needs transformers (Fp8Dequantize of integrations/finegrained_fp8.py)
    make_foreign.py ct         needs compressed-tensors (the compressors' own compress and decompress)
    make_foreign.py ct_order   needs compressed-tensors 0.9.4 (the last ones with groups in activation order: dequantize)
    make_foreign.py gptq       needs gptqmodel (TorchLinear's pack_original and dequantize_weight)
    make_foreign.py awq        needs autoawq (WQLinear_GEMM.from_linear, dequantize_gemm)
    make_foreign.py bnb        needs bitsandbytes (quantize_4bit, dequantize_4bit, int8_vectorwise_dequant)
    make_foreign.py modelopt   needs nvidia-modelopt (NVFP4QTensor's and FP8QTensor's quantize and dequantize)
Each folder holds config.json, model.safetensors and expect/model.safetensors: the same names, decoded to f32.
Made with torch 2.15.0, transformers 5.24.0, compressed-tensors 0.20.0, gptqmodel 7.3.4, autoawq 0.2.9, bitsandbytes
0.50.2, nvidia-modelopt 0.47.0, safetensors 0.8.0."""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent


def write(name, config, tensors, expect, own=None):
    """own: the file beside config.json that has the quantizer's config."""
    folder = HERE / name
    (folder / "expect").mkdir(parents=True, exist_ok=True)
    text = {"architectures": ["Nobody"], "model_type": "nobody"}
    if own:
        (folder / own).write_text(json.dumps(config, indent=1) + "\n")
    else:
        text["quantization_config"] = config
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
    ct_fp4()
    ct_mxfp8()


def ct_fp4():
    """NVFP4, MXFP4 and, in the same folder, a group of another kind."""
    from compressed_tensors.compressors.mxfp4.base import MXFP4PackedCompressor as MX
    from compressed_tensors.compressors.naive_quantized.base import NaiveQuantizationCompressor as Naive
    from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor as NV
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    tensors, expect, groups = {}, {}, {}
    f4 = {"num_bits": 4, "type": "float", "symmetric": True}
    for name, maker, dtype, args in (
            ("nv", NV, torch.bfloat16, f4 | {"strategy": "tensor_group", "group_size": 16}),
            ("nvh", NV, torch.float16, f4 | {"strategy": "tensor_group", "group_size": 16}),
            ("mx", MX, torch.bfloat16, f4 | {"strategy": "group", "group_size": 32}),
            ("f8", Naive, torch.bfloat16, {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"})):
        a = QuantizationArgs(**args)
        w = weight(9, 96, len(tensors)).to(dtype)
        state = {"weight": w}
        if maker is NV:
            state["weight_global_scale"] = (448 * 6 / w.abs().max().float()).reshape(1)
            scale = w.float().unflatten(-1, (-1, 16)).abs().amax(-1) / 6 * state["weight_global_scale"]
            state["weight_scale"] = scale.clamp(max=448).to(torch.float8_e4m3fn)
        elif maker is MX:
            state["weight_scale"] = w.float().unflatten(-1, (-1, 32)).abs().amax(-1).log2().floor().sub(2).exp2()
        else:
            state["weight_scale"] = (w.abs().amax(-1, keepdim=True) / 448).to(dtype)
        scheme = QuantizationScheme(targets=["Linear"], weights=a)
        if maker is NV:
            state["weight_scale"] = state["weight_scale"].to(dtype)
        packed = maker.compress(dict(state), scheme)
        if maker is not Naive:
            packed["weight_packed"][0, :4] = torch.tensor([0x80, 0x08, 0x88, 0xff], dtype=torch.uint8)
        for k, v in packed.items():
            tensors[f"{name}.{k}"] = v
        expect[f"{name}.weight"] = maker.decompress(dict(packed), scheme)["weight"]
        groups[name] = {"targets": [name], "weights": json.loads(a.model_dump_json())}
    config = {"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": groups}
    for g, fmt in (("nv", "nvfp4-pack"), ("mx", "mxfp4-pack"), ("f8", "float")):
        config["config_groups"][g]["format"] = fmt + "-quantized"
    write("ct_fp4", config, tensors, expect)


def ct_mxfp8():
    """MXFP8, scales of any exponent."""
    from compressed_tensors.compressors.mxfp8.base import MXFP8QuantizationCompressor as MX
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    a = QuantizationArgs(num_bits=8, type="float", symmetric=True, strategy="group", group_size=32,
                         scale_dtype=torch.uint8)
    g = torch.Generator().manual_seed(8)
    scale = torch.randint(110, 134, (9, 3), generator=g).to(torch.uint8)
    scale[0] = torch.tensor([0, 254, 255], dtype=torch.uint8)
    packed = {"weight": to_f8(weight(9, 96, 8) * 300), "weight_scale": scale}
    back = MX.decompress(dict(packed), QuantizationScheme(targets=["Linear"], weights=a))
    config = {"quant_method": "compressed-tensors", "format": "mxfp8-quantized", "config_groups": {
        "group_0": {"targets": ["Linear"], "weights": json.loads(a.model_dump_json())}}}
    write("ct_mxfp8", config, {"mx." + k: v for k, v in packed.items()}, {"mx.weight": back["weight"]})


def ct_order():
    """Groups of columns in activation order."""
    from compressed_tensors.compressors.quantized_compressors.pack_quantized import pack_to_int32
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    tensors, expect, groups = {}, {}, {}
    for bits, sym, dtype in ((4, True, torch.bfloat16), (4, False, torch.float16), (8, True, torch.float32),
                             (8, False, torch.bfloat16), (0, False, torch.float16)):
        packed, bits = bits > 0, bits or 8
        name = ("p" if packed else "i") + str(bits) + ("s" if sym else "a")
        a = QuantizationArgs(num_bits=bits, type="int", symmetric=sym, strategy="group", group_size=16, actorder="group")
        g = torch.Generator().manual_seed(bits)
        rows, cols, half = 24, 96, 2 ** (bits - 1)
        order = (torch.arange(cols) // 16)[torch.randperm(cols, generator=g)].to(torch.int32)
        codes = torch.randint(-half, half, (rows, cols), generator=g).to(torch.int8)
        zero = torch.randint(-half, half, (rows, 6), generator=g).to(torch.int8)
        scale = (torch.rand(rows, 6, generator=g) * 0.1).to(dtype)
        value = dequantize(codes, scale, None if sym else zero, args=a, g_idx=order)
        parts = {"weight_scale": scale, "weight_g_idx": order}
        if packed:
            parts["weight_packed"] = pack_to_int32(codes, bits)
            parts["weight_shape"] = torch.tensor([rows, cols])
        else:
            parts["weight"] = codes
        if not sym:
            parts["weight_zero_point"] = pack_to_int32(zero, bits, packed_dim=0) if packed else zero
        for k, v in parts.items():
            tensors[f"{name}.{k}"] = v
        expect[f"{name}.weight"] = value
        groups[name] = {"targets": [name], "weights": json.loads(a.model_dump_json())}
    write("ct_order", {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups},
          tensors, expect)


def grid(w, group, bits, sym, g_idx):
    """Scales [rows, groups] and zero points of min and max; some zero points are 0."""
    groups = int(g_idx.max()) + 1
    scales, zeros = torch.empty(w.shape[0], groups), torch.empty(w.shape[0], groups)
    for g in range(groups):
        part = w[:, g_idx == g]
        lo, hi = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        if sym:
            hi = torch.maximum(hi, -lo)
            lo = -hi
        scales[:, g] = ((hi - lo) / (2**bits - 1)).half().float()
        zeros[:, g] = 2 ** (bits - 1) if sym else torch.round(-lo / scales[:, g]).clamp(0, 2**bits - 1)
    if not sym:
        zeros[:: 5] = 0
    return scales, zeros


def gptq():
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization.config import QuantizeConfig
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module, convert_gptq_v2_to_v1_format_module

    def one(name, v1, bits, group, sym, act, shape, dtype, tensors, expect):
        rows, cols = shape
        size = cols if group == -1 else group
        g_idx = torch.arange(cols, dtype=torch.int32) // size
        if act:
            g_idx = g_idx[torch.randperm(cols)]
        linear = torch.nn.Linear(cols, rows, bias=True)
        linear.weight.data = weight(rows, cols, len(tensors))
        m = TorchLinear(bits=bits, group_size=group, sym=sym, desc_act=act, in_features=cols, out_features=rows,
                        bias=True).eval()
        m.pack_original(linear, *grid(linear.weight.data, size, bits, sym, g_idx), g_idx)
        m.scales = m.scales.to(dtype)
        if v1:
            convert_gptq_v2_to_v1_format_module(m, QuantizeConfig(bits=bits))
        for part in ("qweight", "qzeros", "scales", "g_idx", "bias"):
            if part != "g_idx" or act or "tied" not in name:
                tensors[f"{name}.{part}"] = getattr(m, part).clone()
        if v1:
            convert_gptq_v1_to_v2_format_module(m, bits, m.pack_dtype)
        expect[name + ".weight"] = m.dequantize_weight().T
        expect[name + ".bias"] = m.bias

    f16, bf16 = torch.float16, torch.bfloat16
    for v1 in (True, False):
        tensors, expect, rules = {}, {}, {"-:.*norm": {}}
        for bits in (2, 3, 4, 8):
            for name, group, sym, act, shape, dtype in (
                    ("sym", 32, True, False, (32, 96), f16), ("asym", 32, False, False, (64, 64), f16),
                    ("act", 32, False, True, (32, 96), bf16), ("all", -1, False, False, (32, 64), f16)):
                rules[f"+:{name}{bits}"] = {"bits": bits, "group_size": group, "desc_act": act}
                one(f"{name}{bits}", v1, bits, group, sym, act, shape, dtype, tensors, expect)
        one("lm_head", v1, 4, 32, True, False, (72, 96), f16, tensors, expect)
        tensors["norm.weight"] = expect["norm.weight"] = torch.rand(5)
        config = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False,
                  "lm_head": True, "dynamic": rules, "checkpoint_format": "gptq" if v1 else "gptq_v2"}
        write("gptq_v1" if v1 else "gptq_v2", config, tensors, expect)
    # the older way: a file of its own, no table of groups, inputs that are no whole group
    tensors, expect = {}, {}
    one("tied", True, 4, 64, True, False, (40, 96), f16, tensors, expect)
    write("gptq_old", {"bits": 4, "group_size": 64, "desc_act": False, "damp_percent": 0.01}, tensors, expect,
          "quantize_config.json")


def awq():
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm

    tensors, expect = {}, {}
    for name, shape, group in (("a", (64, 64), 32), ("b", (96, 96), 32), ("c", (32, 160), 32)):
        linear = torch.nn.Linear(shape[1], shape[0], bias=name == "a")
        linear.weight.data = weight(*shape, 3)
        scales, zeros = grid(linear.weight.data, group, 4, False, torch.arange(shape[1]) // group)
        m = WQLinear_GEMM.from_linear(linear, 4, group, scales=scales.T.contiguous(), zeros=zeros.T.contiguous())
        for part in ("qweight", "qzeros", "scales"):
            tensors[f"{name}.{part}"] = getattr(m, part)
        if name == "a":
            tensors["a.bias"] = expect["a.bias"] = m.bias
        expect[name + ".weight"] = dequantize_gemm(m.qweight, m.qzeros, m.scales, 4, group).T
    config = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm",
              "modules_to_not_convert": ["lm_head"]}
    tensors["lm_head.weight"] = expect["lm_head.weight"] = torch.rand(3, 4).half()
    write("awq", config, tensors, expect)
    write("awq_old", {"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}, tensors, expect,
          "quant_config.json")


def bnb():
    import bitsandbytes.functional as F
    from bitsandbytes.backends.default import ops
    from bitsandbytes.functional import get_4bit_type

    torch._dynamo.config.disable = True

    def undo(q, state):
        """The definition: blocks of the flat matrix. The CPU library's own differs where they cross rows."""
        absmax = state.absmax
        if state.nested:
            absmax = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
        code = get_4bit_type(state.quant_type, device="cpu")
        q = q.view(torch.uint8).reshape(-1)
        mine = ops._dequantize_4bit_compute(q, absmax, code, state.blocksize, state.shape, state.dtype)
        if state.shape[-1] % state.blocksize == 0:
            assert torch.equal(mine, F.dequantize_4bit(q.reshape(-1, 1), state))
        return mine

    tensors, expect = {}, {}
    for kind in ("nf4", "fp4"):
        for nested in (False, True):
            for name, shape, block, dtype, storage in (
                    ("a", (17, 128), 64, torch.bfloat16, torch.uint8), ("b", (9, 100), 64, torch.float16, torch.uint8),
                    ("c", (11, 33), 32, torch.float32, torch.uint8), ("d", (88, 96), 32, torch.float32, torch.uint8),
                    ("e", (6, 256), 128, torch.bfloat16, torch.bfloat16)):
                w = weight(*shape, len(tensors)).to(dtype)
                q, state = F.quantize_4bit(w, blocksize=block, quant_type=kind, compress_statistics=nested,
                                           quant_storage=storage)
                layer = f"{kind}{'n' if nested else ''}.{name}"
                tensors[layer + ".weight"] = q
                for k, v in state.as_dict(packed=True).items():
                    tensors[f"{layer}.weight.{k}"] = v
                expect[layer + ".weight"] = undo(q, state)
    w = weight(7, 45, 1).half()
    q, scale, _ = F.int8_vectorwise_quant(w)
    tensors |= {"int8.weight": q, "int8.SCB": scale, "int8.weight_format": torch.tensor(0, dtype=torch.uint8)}
    expect["int8.weight"] = F.int8_vectorwise_dequant(q, scale)
    tensors["lm_head.weight"] = expect["lm_head.weight"] = torch.rand(3, 4).to(torch.bfloat16)
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True, "_load_in_4bit": True,
              "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_quant_storage": "uint8"}
    write("bnb", config, tensors, expect)


def modelopt():
    from modelopt.torch.quantization.qtensor import FP8QTensor, NVFP4QTensor

    tensors, expect = {}, {}
    for name, shape in (("a", (9, 64)), ("b", (3, 16))):
        w = weight(*shape, 5).to(torch.bfloat16)
        q, scale, scale_2 = NVFP4QTensor.quantize(w, 16)
        tensors |= {name + ".weight": q._quantized_data, name + ".weight_scale": scale,
                    name + ".weight_scale_2": scale_2, name + ".input_scale": torch.tensor(0.25)}
        tensors[name + ".weight"][0, :4] = torch.tensor([0x80, 0x08, 0x88, 0xff], dtype=torch.uint8)
        expect[name + ".weight"] = q.dequantize(torch.float32, scale=scale, double_scale=scale_2, block_sizes={-1: 16})
    w = weight(9, 33, 6).to(torch.bfloat16)
    for name, s in (("f8", w.abs().amax().float() / 448), ("rows", w.abs().amax(1).float() / 448)):
        q = (w / (s[:, None] if s.dim() else s)).to(torch.float8_e4m3fn)
        tensors |= {name + ".weight": q, name + ".weight_scale": s, name + ".input_scale": torch.tensor(0.5)}
        t = FP8QTensor(w.shape, w.dtype, q)
        expect[name + ".weight"] = t.dequantize(torch.float32, scale=s[:, None] if s.dim() else s)
    tensors["a.k_scale"] = torch.tensor(1.0)
    tensors["lm_head.weight"] = expect["lm_head.weight"] = torch.rand(3, 4).to(torch.bfloat16)
    layers = {"a": {"quant_algo": "NVFP4", "group_size": 16}, "b": {"quant_algo": "W4A16_NVFP4"},
              "f8": {"quant_algo": "FP8"}, "rows": {"quant_algo": "FP8_PER_CHANNEL_PER_TOKEN"}}
    quantization = {"quant_algo": "MIXED_PRECISION", "kv_cache_quant_algo": "FP8", "quantized_layers": layers}
    write("modelopt_mixed", {"producer": {"name": "modelopt", "version": "0.47.0"}, "quantization": quantization},
          tensors, expect, "hf_quant_config.json")
    only = lambda d: {k: v for k, v in d.items() if k.split(".")[0] in ("a", "b")}
    write("modelopt_nvfp4", {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, only(tensors),
          only(expect))


for what in sys.argv[1:]:
    torch.manual_seed(7)
    {"fp8": fp8, "ct": ct, "ct_fp4": ct_fp4, "ct_mxfp8": ct_mxfp8, "ct_order": ct_order, "gptq": gptq,
     "awq": awq, "bnb": bnb, "modelopt": modelopt}[what]()
