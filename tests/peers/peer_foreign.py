#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch safetensors compressed_tensors transformers
"""peer_foreign.py: random llamas quantized by other tools' own code, through every conversion.

Each model is written twice: with codes, and with the values that the maker's code gives for them (bf16). Both are
converted to HF, MLX and GGUF; the tensors must be the same bytes. Sizes are random and do not divide into blocks.
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
        return {"weight": q, "weight_scale_inv": s}, (q.float() * big).to(torch.bfloat16)

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


def recipes(rng):
    yield "fp8 blocks", fp8(rng)
    f8 = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
    yield "float-quantized", compressed(Naive, "float-quantized", **f8)
    for sym in (True, False):
        yield "int-quantized", compressed(Naive, "int-quantized", num_bits=8, type="int", symmetric=sym,
                                          strategy="channel")
        for bits in (3, 4, 8):
            yield "packed %d" % bits, compressed(Packed, "pack-quantized", num_bits=bits, type="int", symmetric=sym,
                                                 strategy="group", group_size=32)
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
    plain, codes = {}, {}
    for k, v in {k: v for f in base.glob("*.safetensors") for k, v in load_file(f).items()}.items():
        if v.dim() == 2 and "proj" in k:
            parts, v = make(v)
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
    if recipe[0]["quant_method"] != "fp8":  # whose values are f32: the plain model has them rounded
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
