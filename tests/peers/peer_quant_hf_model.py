#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch numpy transformers compressed_tensors safetensors accelerate
"""peer_quant_hf_model.py: folders that lbrx quantize --to hf writes, with every type, scope and kind of zero points:
every tensor and the quantization_config against what compressed-tensors (apply_quantization_config, compress_model) and
transformers' Fp8Quantize make of the same model; then loaded by AutoModelForCausalLM on the CPU, whose weights are those
that lbrx convert reads back, and whose logits are those of the plain model with these weights. Mixtures of experts, tied
embeddings, sizes that are no whole blocks."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
import torch
import transformers
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, apply_quantization_config
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors import safe_open
from transformers.integrations.finegrained_fp8 import Fp8Quantize

transformers.utils.logging.disable_progress_bar()
START = time.time()
LBRX = os.environ.get("LBRX", "build/lbrx")
TMP = pathlib.Path(tempfile.mkdtemp(prefix="lbrx-hf-"))
passed = failed = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL " + what)


def lbrx(*args):
    p = subprocess.run([LBRX, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    return p.returncode, p.stderr


BASE = {"hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 128, "tie_word_embeddings": False}


def models():
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    yield "llama", LlamaForCausalLM(LlamaConfig(**BASE)), torch.bfloat16
    yield "half", LlamaForCausalLM(LlamaConfig(**BASE)), torch.float16
    yield "tied", Qwen2ForCausalLM(Qwen2Config(**{**BASE, "tie_word_embeddings": True})), torch.bfloat16
    yield "odd", LlamaForCausalLM(LlamaConfig(**{**BASE, "intermediate_size": 328})), torch.bfloat16
    yield "moe", Qwen3MoeForCausalLM(Qwen3MoeConfig(**BASE, head_dim=64, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=128,
                                                    decoder_sparse_step=1)), torch.bfloat16


def weights(**kw):
    return QuantizationArgs(num_bits=kw.pop("bits", 8), dynamic=False, symmetric=kw.pop("symmetric", True), **kw)


TOKEN = {"dynamic": True, "strategy": "token", "symmetric": True, "num_bits": 8}
CASES = [
    ("fp8", [], weights(type="float", strategy="channel"), QuantizationArgs(type="float", **TOKEN)),
    ("fp8", ["--group-size", "tensor"], weights(type="float", strategy="tensor"), QuantizationArgs(type="float", **TOKEN)),
    ("w8a8", [], weights(type="int", strategy="channel"), QuantizationArgs(type="int", **TOKEN)),
    ("w8a8", ["--group-size", "tensor", "--sym"], weights(type="int", strategy="tensor"), QuantizationArgs(type="int", **TOKEN)),
    ("w4a16", [], weights(bits=4, type="int", strategy="group", group_size=128), None),
    ("w4a16", ["--group-size", "32"], weights(bits=4, type="int", strategy="group", group_size=32), None),
    ("w4a16", ["--group-size", "64", "--asym"], weights(bits=4, type="int", strategy="group", group_size=64, symmetric=False), None),
    ("w4a16", ["--asym"], weights(bits=4, type="int", strategy="group", group_size=128, symmetric=False), None),
    ("w4a16", ["--group-size", "channel"], weights(bits=4, type="int", strategy="channel"), None),
    ("w4a16", ["--group-size", "channel", "--asym"], weights(bits=4, type="int", strategy="channel", symmetric=False), None),
    ("fp8-block", [], None, None),
]


def tensors(folder):
    out = {}
    for f in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(f, "pt") as s:
            for k in s.keys():
                out[k] = s.get_tensor(k)
    return out


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.contiguous().view(torch.uint8) if a.dim() else a.reshape(1).view(torch.uint8),
                                                                     b.contiguous().view(torch.uint8) if b.dim() else b.reshape(1).view(torch.uint8))


def by_compressed_tensors(plain, args, inputs, ignore, out):
    """The folder that compressed-tensors makes of the model by minimum and maximum."""
    m = transformers.AutoModelForCausalLM.from_pretrained(plain, dtype="auto")
    scheme = QuantizationScheme(targets=["Linear"], weights=args, input_activations=inputs)
    apply_quantization_config(m, QuantizationConfig(config_groups={"group_0": scheme}, ignore=ignore))
    for mod in m.modules():
        if getattr(mod, "quantization_scheme", None) is None:
            continue
        w = mod.weight.data
        if args.strategy == "tensor":
            lo, hi = w.amin().reshape(1), w.amax().reshape(1)
        else:
            x = w.reshape(w.shape[0], -1, args.group_size if args.strategy == "group" else w.shape[1])
            lo, hi = x.amin(-1), x.amax(-1)
        scale, zero = calculate_qparams(lo, hi, args)
        mod.weight_scale.data.copy_(scale)
        mod.weight_zero_point.data.copy_(zero)
        mod.quantization_status = "frozen"
    c = ModelCompressor.from_pretrained_model(m)
    c.compress_model(m)
    m.save_pretrained(out)
    c.update_config(out)


def by_fp8_quantize(plain, left):
    """transformers' codes, tensor by tensor."""
    config = transformers.FineGrainedFP8Config()
    q = Fp8Quantize(type("Q", (), {"quantization_config": config})())
    out = {}
    for k, v in tensors(plain).items():
        linear = v.dim() == 2 and k.endswith("_proj.weight") and k.removesuffix(".weight") not in left
        out.update(q.convert({k: v}) if linear else {k: v})
    return out


def compare_tensors(name, got, want):
    check(set(got) == set(want), f"{name}: tensors {sorted(set(got) ^ set(want))[:4]}")
    for k in sorted(set(got) & set(want)):
        check(same(got[k], want[k]), f"{name}: {k}: {got[k].dtype} {tuple(got[k].shape)} {want[k].dtype} {tuple(want[k].shape)}")


def compare_loaded(name, out, back):
    ids = torch.arange(24).reshape(2, 12) % 300
    # transformers 5.24 has no place for packed zero points but where it dequantizes at once
    how = {"quantization_config": transformers.CompressedTensorsConfig(dequantize=True)} if "--asym" in name else {}
    m = transformers.AutoModelForCausalLM.from_pretrained(out, dtype="auto", **how)
    with torch.no_grad():
        logits = m.eval()(ids).logits
    ref = transformers.AutoModelForCausalLM.from_pretrained(back, dtype="auto").eval()
    got = dict(m.named_parameters())
    for k, v in ref.named_parameters():
        check(k in got and got[k].shape == v.shape and torch.equal(got[k].to(v.dtype), v), f"{name}: {k} as transformers reads it")
    with torch.no_grad():
        want = ref(ids).logits
    # activations are quantized a token in fp8 and w8a8
    check(torch.allclose(logits.float(), want.float(), atol=0.1, rtol=0.1), f"{name}: logits differ by {(logits - want).abs().max()}")


for kind, model, dtype in models():
    torch.manual_seed(1)
    plain = TMP / kind
    model.to(dtype).save_pretrained(plain)
    for kind_type, options, args, inputs in CASES if kind in ("llama", "moe") else CASES[::3] + CASES[-1:]:
        name = f"{kind} {kind_type} {' '.join(options)}"
        out, back, ref = (TMP / f"{kind}-{x}" for x in ("out", "back", "ref"))
        for d in (out, back, ref):
            shutil.rmtree(d, ignore_errors=True)
        rc, err = lbrx("quantize", plain, "-o", out, "--type", kind_type, *options)
        if kind == "moe" and ("--asym" in options or "tensor" in options):  # nobody reads such experts
            check(rc == 2 and "experts" in err and not out.exists(), f"{name}: exit {rc}: {err}")
            continue
        check(rc == 0, f"{name}: exit {rc}: {err}")
        if rc:
            continue
        config = json.loads((out / "config.json").read_text())["quantization_config"]
        if kind_type == "fp8-block":
            compare_tensors(name, tensors(out), by_fp8_quantize(plain, config["modules_to_not_convert"]))
        elif kind != "moe":  # its experts are one module to transformers, and none to compressed-tensors
            by_compressed_tensors(plain, args, inputs, config["ignore"], ref)
            compare_tensors(name, tensors(out), tensors(ref))
            theirs = json.loads((ref / "config.json").read_text())["quantization_config"]
            check(sorted(config["ignore"]) == sorted(theirs["ignore"]), f"{name}: ignore {config['ignore']} {theirs['ignore']}")
            config["ignore"] = theirs["ignore"]
            check(json.dumps(config) == json.dumps(theirs), f"{name}: config {config} {theirs}")
        rc, err = lbrx("convert", out, "-o", back, "--dtype", {torch.bfloat16: "bf16", torch.float16: "f16"}[dtype])
        check(rc == 0, f"{name}: convert back: {err}")
        if kind == "moe" and kind_type == "w8a8":  # not read by transformers 5.24
            continue
        try:
            compare_loaded(name, out, back)
        except (RuntimeError, ValueError) as e:
            check(False, f"{name}: loaded: {e}")

shutil.rmtree(TMP)
print(f"peer_quant_hf_model: {passed} passed, {failed} failed, 0 skipped [cost: slow] {time.time() - START:.1f} s")
sys.exit(1 if failed else 0)
