#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch safetensors compressed_tensors bitsandbytes transformers
"""peer_foreign.py: random llamas quantized by other tools' own code, through every conversion.

Each model is written twice: with codes, and with the values that the maker's code gives for them (bf16). Both are
converted to HF, MLX and GGUF; the tensors must be the same bytes. Sizes are random and do not divide into blocks.
GPTQ, AWQ and ModelOpt are packed here, as tests/golden/foreign proves that their makers do.
"""
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import torch
from compressed_tensors.compressors.naive_quantized.base import NaiveQuantizationCompressor as Naive
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor as Packed
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file, save_file

LBRX = os.environ.get("LBRX", "build/lbrx")
MAKE = os.environ.get("MAKE_MODEL", str(pathlib.Path(LBRX).parent / "tests" / "make_model"))
START = time.time()
passed = failed = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL " + what)


def fp8(rng):
    """DeepSeek's blocks; the last of a row or column may be cut."""
    block = (rng.choice((16, 32, 128)), rng.choice((16, 32, 128)))

    def make(w):
        grid = [-(-n // b) for n, b in zip(w.shape, block)]
        s = torch.rand(grid) * 0.01 + 0.001
        big = s.repeat_interleave(block[0], 0)[: w.shape[0]].repeat_interleave(block[1], 1)[:, : w.shape[1]]
        q = (w.float() / big).clamp(-448, 448).to(torch.float8_e4m3fn)
        return {"weight": q, "weight_scale_inv": s}, q.float() * big

    return {"quant_method": "fp8", "weight_block_size": list(block)}, make


def compressed(maker, fmt, **args):
    a = QuantizationArgs(**args)
    scheme = QuantizationScheme(targets=["Linear"], weights=a)

    def make(w):
        if a.strategy == "group":
            v = w.reshape(w.shape[0], -1, a.group_size)
            lo, hi = v.amin(-1), v.amax(-1)
        else:
            lo, hi = w.amin(-1, keepdim=True), w.amax(-1, keepdim=True)
        scale, zero = calculate_qparams(lo, hi, a)
        state = {"weight": w, "weight_scale": scale.to(w.dtype)}
        if not a.symmetric:
            state["weight_zero_point"] = zero.to(torch.int8)
        codes = maker.compress(dict(state), scheme)
        return codes, maker.decompress(dict(codes), scheme)["weight"]

    config = {"quant_method": "compressed-tensors", "format": fmt, "ignore": ["lm_head"],
              "config_groups": {"group_0": {"targets": ["Linear"], "weights": json.loads(a.model_dump_json())}}}
    return config, make


def ordered(bits):
    """Groups of columns in activation order, which compressed-tensors wrote until 2026: as its 0.9.4 dequantized."""
    group = 32

    def make(w):
        cols = w.shape[1]
        order = (torch.arange(cols) // group)[torch.randperm(cols)]
        codes = torch.randint(0, 2**bits, w.shape)
        zero = torch.randint(0, 2**bits, (w.shape[0], cols // group))
        scale = (torch.rand(w.shape[0], cols // group) * 0.01).to(torch.bfloat16)
        value = (codes - zero[:, order]).to(torch.bfloat16) * scale[:, order]
        return {"weight_packed": pack(codes, bits), "weight_scale": scale, "weight_shape": torch.tensor(w.shape),
                "weight_zero_point": pack(zero.T, bits).T, "weight_g_idx": order.to(torch.int32)}, value

    args = {"num_bits": bits, "type": "int", "symmetric": False, "strategy": "group", "group_size": group,
            "actorder": "group"}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": args}}}, make


def nvfp4(maker):
    """compressed-tensors' and ModelOpt's: the one scale of all divides there and multiplies here."""
    from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor as NV

    a = QuantizationArgs(num_bits=4, type="float", symmetric=True, strategy="tensor_group", group_size=16)
    scheme = QuantizationScheme(targets=["Linear"], weights=a)

    def make(w):
        all_of = (448 * 6 / w.abs().max().float()).reshape(1)
        scale = w.float().unflatten(-1, (-1, 16)).abs().amax(-1) / 6 * all_of
        scale = scale.clamp(2**-9, 448).to(torch.float8_e4m3fn)
        state = {"weight": w, "weight_scale": scale.to(w.dtype), "weight_global_scale": all_of}
        codes = NV.compress(state, scheme)
        if maker == "compressed-tensors":
            return codes, NV.decompress(dict(codes), scheme)["weight"]
        packed, scale_2 = codes["weight_packed"], (1 / all_of).reshape(())
        low_first = torch.stack((packed & 15, packed >> 4), -1).flatten(1).long()
        e2m1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
        value = e2m1[low_first].unflatten(-1, (-1, 16)) * (scale.float() * scale_2)[..., None]
        return {"weight": packed, "weight_scale": scale, "weight_scale_2": scale_2}, value.flatten(1)

    config = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}
    if maker == "compressed-tensors":
        config = {"quant_method": maker, "format": "nvfp4-pack-quantized",
                  "config_groups": {"group_0": {"targets": ["Linear"], "weights": json.loads(a.model_dump_json())}}}
    return config, make


def bitsandbytes(kind, nested, block, storage=torch.uint8):
    import bitsandbytes.functional as F
    from bitsandbytes.backends.default import ops

    torch._dynamo.config.disable = True

    def make(w):
        if kind == "int8":
            q, scale, _ = F.int8_vectorwise_quant(w.clone())
            parts = {"weight": q, "SCB": scale, "weight_format": torch.tensor(0, dtype=torch.uint8)}
            return parts, F.int8_vectorwise_dequant(q, scale)
        q, state = F.quantize_4bit(w, blocksize=block, quant_type=kind, compress_statistics=nested,
                                   quant_storage=storage)
        parts = {"weight": q} | {"weight." + k: v for k, v in state.as_dict(packed=True).items()}
        absmax = F.dequantize_blockwise(state.absmax, state.state2) + state.offset if nested else state.absmax
        code = F.get_4bit_type(kind, device="cpu")  # the CPU library is wrong where blocks cross rows
        flat = q.view(torch.uint8).reshape(-1)
        return parts, ops._dequantize_4bit_compute(flat, absmax, code, block, w.shape, w.dtype)

    return {"quant_method": "bitsandbytes", "load_in_4bit": kind != "int8", "load_in_8bit": kind == "int8",
            "bnb_4bit_quant_type": kind if kind != "int8" else "fp4"}, make


def pack(codes, bits):
    """Codes along the last axis to i32 words: one stream of bits, the lowest first."""
    bit = (codes[..., None].long() >> torch.arange(bits)) & 1
    words = (bit.flatten(-2).unflatten(-1, (-1, 32)) << torch.arange(32)).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def codes_of(w, bits, sym, g_idx):
    """Codes, scales and zero points [inputs or groups, outputs] of groups of inputs."""
    groups = int(g_idx.max()) + 1
    parts = [w.float()[:, g_idx == g].T for g in range(groups)]
    lo = torch.stack([p.amin(0) for p in parts]).clamp(max=0)
    hi = torch.stack([p.amax(0) for p in parts]).clamp(min=0)
    if sym:
        hi = torch.maximum(hi, -lo)
        lo = -hi
    scale = ((hi - lo) / (2**bits - 1)).clamp(min=1e-4).half()
    zero = torch.full_like(lo, 2 ** (bits - 1)) if sym else torch.round(-lo / scale.float())
    zero = zero.clamp(1, 2**bits - 1).long()
    codes = torch.round(w.float().T / scale.float()[g_idx] + zero[g_idx]).clamp(0, 2**bits - 1).long()
    return codes, scale, zero, ((codes - zero[g_idx]).half() * scale[g_idx]).T


def gptq(rng, bits, v1):
    sym, act, every = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.25
    group = rng.choice((32, 64, 128))

    def make(w):
        size = w.shape[1] if every else group
        g_idx = torch.arange(w.shape[1]) // size
        if act:
            g_idx = g_idx[torch.randperm(w.shape[1])]
        codes, scale, zero, value = codes_of(w, bits, sym, g_idx)
        parts = {"qweight": pack(codes.T, bits).T, "qzeros": pack(zero - int(v1), bits), "scales": scale}
        if act or rng.random() < 0.5:
            parts["g_idx"] = g_idx.to(torch.int32)
        return parts, value

    return {"quant_method": "gptq", "bits": bits, "group_size": -1 if every else group, "desc_act": act, "sym": sym,
            "checkpoint_format": "gptq" if v1 else "gptq_v2"}, make


def awq(rng):
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])

    def make(w):
        g_idx = torch.arange(w.shape[1]) // 32
        codes, scale, zero, value = codes_of(w, 4, False, g_idx)
        words = lambda x: pack(x.unflatten(-1, (-1, 8))[..., order].flatten(-2), 4)
        return {"qweight": words(codes), "qzeros": words(zero), "scales": scale}, value

    return {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}, make


def recipes(rng):
    for v1 in (True, False):
        for bits in (2, 3, 4, 8):
            yield "gptq %d" % bits, gptq(rng, bits, v1)
    yield "awq", awq(rng)
    for kind in ("nf4", "fp4"):
        for nested in (False, True):
            yield "bitsandbytes " + kind, bitsandbytes(kind, nested, rng.choice((32, 64, 128)))
    yield "bitsandbytes in bf16", bitsandbytes("nf4", True, 64, torch.bfloat16)
    yield "bitsandbytes int8", bitsandbytes("int8", False, 0)
    yield "nvfp4", nvfp4("compressed-tensors")
    yield "modelopt", nvfp4("modelopt")
    yield "fp8 blocks", fp8(rng)
    f8 = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
    yield "float-quantized", compressed(Naive, "float-quantized", **f8)
    for sym in (True, False):
        yield "int-quantized", compressed(Naive, "int-quantized", num_bits=8, type="int", symmetric=sym,
                                          strategy="channel")
        for bits in (3, 4, 8):
            yield "packed %d" % bits, compressed(Packed, "pack-quantized", num_bits=bits, type="int", symmetric=sym,
                                                 strategy="group", group_size=32)
    for bits in (4, 8):
        yield "packed %d in activation order" % bits, ordered(bits)
    yield "packed rows", compressed(Packed, "pack-quantized", num_bits=4, type="int", symmetric=False,
                                    strategy="channel")


def run(*args):
    r = subprocess.run([LBRX, *map(str, args)], capture_output=True, text=True)
    if r.returncode:
        check(False, " ".join(map(str, args)) + "\n" + r.stderr)
    return r.returncode == 0


def gguf_data(path):
    """Tensor infos and data: the metadata name the source."""
    import gguf
    return {t.name: (t.tensor_type, tuple(t.shape), t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}


def load_folder(path):
    out = {}
    for f in sorted(pathlib.Path(path).glob("*.safetensors")):
        out.update(load_file(f))
    return {k: (v.dtype, tuple(v.shape), v.contiguous().view(torch.uint8).numpy().tobytes()) for k, v in out.items()}


def one(name, recipe, rng, work):
    config, make = recipe
    hidden, ffn = 32 * rng.randint(2, 9), 32 * rng.randint(2, 12)
    base = work / "base"
    subprocess.run([MAKE, "hf", "llama", base, "hidden=%d" % hidden, "ffn=%d" % ffn, "heads=4", "kv_heads=2",
                    "head_dim=%d" % rng.choice((16, 32, 48)), "vocab=4096", "layers=1", "tok=bytes"], check=True,
                   stdout=subprocess.DEVNULL)
    plain, codes, exact = {}, {}, True
    for k, v in {k: v for f in base.glob("*.safetensors") for k, v in load_file(f).items()}.items():
        if v.dim() == 2 and "proj" in k:
            parts, v = make(v)
            exact &= torch.equal(v.float(), v.to(torch.bfloat16).float())
            v = v.to(torch.bfloat16)
            codes.update({k[: -len("weight")] + p: t.contiguous() for p, t in parts.items()})
        else:
            codes[k] = v
        plain[k] = v.contiguous()
    for kind, tensors in (("plain", plain), ("codes", codes)):
        shutil.copytree(base, work / kind / "m")
        for f in list((work / kind / "m").glob("*.safetensors*")):
            f.unlink()
        save_file(tensors, work / kind / "m" / "model.safetensors", metadata={"format": "pt"})
    text = json.loads((base / "config.json").read_text())
    text["quantization_config"] = config
    (work / "codes" / "m" / "config.json").write_text(json.dumps(text, indent=2))
    for to, extra in (("hf", ("--dtype", "bf16")), ("mlx", ()), ("gguf", ())):
        out = {}
        for kind in ("plain", "codes"):
            path = work / kind / ("out.gguf" if to == "gguf" else "out-" + to)
            if not run("convert", work / kind / "m", "-o", path, "--to", to, *extra):
                return
            out[kind] = gguf_data(path) if to == "gguf" else load_folder(path)
            if to != "gguf":
                check("quantization" not in (path / "config.json").read_text(), name + ": config to " + to)
        same = out["plain"].keys() == out["codes"].keys()
        bad = [k for k in out["plain"] if same and out["plain"][k] != out["codes"][k]]
        check(same and not bad, "%s (%d, %d) to %s: %s" % (name, hidden, ffn, to, bad))
    check(run("verify", work / "codes" / "m"), name + ": verify")
    if exact:  # else the plain model has them rounded
        check(run("diff", work / "codes" / "m", work / "plain" / "m"), name + ": diff")


def main():
    seed = int(os.environ.get("LBRX_TEST_SEED", "1"))
    rng = random.Random(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    for name, recipe in recipes(rng):
        with tempfile.TemporaryDirectory(prefix="lbrx-foreign-") as d:
            one(name, recipe, rng, pathlib.Path(d))
    print("peer_foreign: %d passed, %d failed, 0 skipped [cost: fast] %.1f s" % (passed, failed, time.time() - START))
    sys.exit(failed != 0)


main()
