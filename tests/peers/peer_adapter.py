#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch safetensors transformers gguf peft
"""peer_adapter.py [--seed S] [--n N]: LoRA adapters of random models through their three forms:
  PEFT -> GGUF    with convert_lora_to_gguf.py: keys, tensors, bytes
  PEFT -> MLX     mlx-lm loads it: logits near those of peft
  and back        the same tensors and adapter_config.json; from GGUF and MLX that lbrx did not make, peft loads
                  it with the same logits
"""
import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
import peer_convert as pc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "families"))
import kit
import numpy as np
import peft
import torch
import transformers

OUT = ("--no-sync", "--force", "-q")
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def logits(base, adapter):
    m = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    m = peft.PeftModel.from_pretrained(m, adapter).eval()
    with torch.no_grad():
        return m(torch.arange(3, 35).reshape(1, -1)).logits


def make(r, base, out, opts):
    m = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    targets = r.sample(KINDS, r.randrange(1, len(KINDS) + 1))
    kw = dict(r=r.choice([1, 4, 8]), lora_alpha=r.choice([8, 16, 20, 0.5]), target_modules=targets, task_type="CAUSAL_LM",
              lora_dropout=0.05)
    opts["rslora"] = r.random() < 0.3
    kw["use_rslora"] = opts["rslora"]
    if r.random() < 0.3:
        kw["layers_to_transform"] = [1]
    opts["ranks"] = r.random() < 0.3 and not opts["rslora"] and len(targets) > 1
    if opts["ranks"]:
        kw["rank_pattern"] = {targets[0]: 2}
        if r.random() < 0.5:  # the same scale for all
            kw["alpha_pattern"] = {targets[0]: kw["lora_alpha"] * 2 / kw["r"]}
            opts["one_scale"] = True
    opts["embedding"] = r.random() < 0.25 and not m.config.tie_word_embeddings
    if opts["embedding"]:
        kw["target_modules"] = targets + ["embed_tokens"]
    m = peft.get_peft_model(m, peft.LoraConfig(**kw))
    with torch.no_grad():
        for n, p in m.named_parameters():
            if "lora_" in n:
                p.normal_(0, 0.3)
    m.to(r.choice([torch.float32, torch.bfloat16])).save_pretrained(out)


def convert(what, *args):
    return pc.lbrx(what, "convert", *args, *OUT)


def same_folder(what, got, want):
    pc.compare_states(what, kit.state(got), kit.state(want))
    a, b = ((d / "adapter_config.json").read_bytes() for d in (got, want))
    pc.check(a == b, what + ": adapter_config.json is not the original's")


def gguf_part(what, base, src, work, opts):
    ours, theirs, back = work / "ours.gguf", work / "theirs.gguf", work / "back"
    script = pathlib.Path(pc.SCRIPT).parent / "convert_lora_to_gguf.py"
    p = subprocess.run([sys.executable, script, "--base", base, src, "--outfile", theirs, "--outtype", "f32"],
                       capture_output=True, text=True)
    if opts["ranks"] and opts.get("one_scale"):
        rc = subprocess.run([pc.LBRX, "convert", src, "-o", ours, "--base", base, *OUT], capture_output=True).returncode
        return pc.check(rc == 3, "%s: several alphas: exit %d" % (what, rc))
    if not convert(what + " -> gguf", src, "-o", ours, "--base", base, "--dtype", "f32"):
        return
    if pc.check(p.returncode == 0, "%s: the reference: %s" % (what, p.stderr[-300:])) and not opts["rslora"]:
        pc.compare_gguf(what + " -> gguf", ours, theirs)
    if convert(what + " -> gguf", src, "-o", ours, "--base", base) and \
            convert(what + " -> gguf -> hf", ours, "-o", back, "--to", "hf", "--base", base):
        same_folder(what + " -> gguf -> hf", back, src)
    if not opts["rslora"] and convert(what + " -> their gguf -> hf", theirs, "-o", back, "--to", "hf", "--base", base):
        a, b = logits(base, back), logits(base, src)
        pc.check(a.equal(b), "%s -> their gguf -> hf: logits differ by %g" % (what, (a - b).abs().max()))


def mlx_part(what, base, src, work, opts):
    ours, back, plain = work / "mlx", work / "back", work / "plain"
    if opts["ranks"]:
        rc = subprocess.run([pc.LBRX, "convert", src, "-o", ours, "--to", "mlx", *OUT], capture_output=True).returncode
        return pc.check(rc == 3, "%s: several ranks: exit %d" % (what, rc))
    if not convert(what + " -> mlx", src, "-o", ours, "--to", "mlx"):
        return
    model, _ = pc.mlx_lm.load(str(work / "base-mlx"), adapter_path=str(ours))
    model.set_dtype(pc.mx.float32)
    x = np.array(model(pc.mx.array([list(range(3, 35))])))
    y = logits(base, src).numpy()
    near = np.abs(x - y).max() / np.abs(y).max()
    pc.check(near < 0.01, "%s: logits of mlx-lm and peft differ by %g" % (what, near))
    if convert(what + " -> mlx -> hf", ours, "-o", back, "--to", "hf"):
        same_folder(what + " -> mlx -> hf", back, src)
    if convert(what + " -> mlx, nothing kept", src, "-o", plain, "--to", "mlx", "--no-provenance") and \
            convert(what + " -> mlx -> hf, nothing kept", plain, "-o", back, "--to", "hf"):
        a, b = logits(base, back), logits(base, src)
        pc.check((a - b).abs().max() <= 1e-5 * b.abs().max(), "%s -> mlx -> hf: logits differ by %g" % (what, (a - b).abs().max()))


def bin_part(what, r, src, work):
    """The same in adapter_model.bin, some matrices as transposed views."""
    old, new = work / "bin", work / "from-bin"
    shutil.copytree(src, old, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({k: v.t().contiguous().t() if r.random() < 0.5 else v for k, v in kit.state(src).items()},
               old / "adapter_model.bin")
    if convert(what + " .bin", old, "-o", new, "--to", "hf"):
        same_folder(what + " .bin", new, src)


def one(r, index, work):
    opts = {}
    case = r.choice(list(kit.family("llama").cases(r)))
    base, src = kit.build(case, work / "base"), work / "Tiny-LoRA"
    make(r, base, src, opts)
    what = "#%d %s %s" % (index, case.label, opts)
    bin_part(what, r, src, work)
    if pc.SCRIPT:
        gguf_part(what, base, src, work, opts)
    if pc.mx is not None and convert(what, base, "-o", work / "base-mlx", "--to", "mlx"):
        mlx_part(what, base, src, work, opts)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--seed", default="1")
    a.add_argument("--n", type=int, default=3)
    args = a.parse_args()
    if not pc.SCRIPT:
        pc.skip("LBRX_CONVERT_HF_TO_GGUF does not name the reference converter")
    for i in range(args.n):
        with tempfile.TemporaryDirectory(prefix="lbrx-adapter-") as d:
            try:
                one(random.Random("%s/%d" % (args.seed, i)), i, pathlib.Path(d))
            except Exception:
                pc.check(False, "#%d: %s" % (i, traceback.format_exc()))
    print("peer_adapter: %d passed, %d failed, %d skipped [cost: slow] %.1f s" %
          (pc.passed, pc.failed, pc.skipped, time.time() - pc.START))
    sys.exit(pc.failed != 0)


main()
