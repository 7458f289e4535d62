#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_states.py: what mergekit-moe 0.1.5 (torch 2.15, transformers 5.24) makes of the models of this folder by the
states of the base, which runs in f32 here (its own choice is bf16): states/NAME.yml and states/NAME, experts one by one,
under the names that lbrx writes. Run in this folder;
make_moe.py makes the models."""
import os
import pathlib
import shutil

import yaml
from mergekit.moe import router
from mergekit.moe.config import MoEMergeConfig
from mergekit.options import MergeOptions
from mergekit.scripts import moe
from safetensors.torch import load_file, save_file


def one_by_one(path):
    out, w = {}, {"gate_up_proj": ("w1", "w3"), "down_proj": ("w2",)}
    for k, t in load_file(path).items():
        head, _, tail = k.partition(".mlp.experts.")
        for e in range(len(t) if tail else 0):
            for name, x in zip(w[tail], t[e].chunk(len(w[tail]))):
                out["%s.block_sparse_moe.experts.%d.%s.weight" % (head, e, name)] = x.contiguous()
        if not tail:
            out[k.replace(".mlp.", ".block_sparse_moe.")] = t
    save_file(out, path, metadata={"format": "pt"})


A, B = "positive_prompts", "negative_prompts"
bf16 = router.get_hidden_states
router.get_hidden_states = lambda model, **k: bf16(model.float(), **k)
for m in ("llama0", "llama1"):
    for f in os.listdir("tokenizer"):
        shutil.copy("tokenizer/" + f, m)
for gate in ("hidden", "hidden_avg"):
    config = {"base_model": "llama0", "gate_mode": gate, "dtype": "float32", "experts": [
        {"source_model": "llama0", A: ["write code in python"], B: ["a story"]},
        {"source_model": "llama1", A: ["solve mathematics, été"]}]}
    out = pathlib.Path("states") / gate
    shutil.rmtree(out, ignore_errors=True)
    moe.build(MoEMergeConfig.model_validate(config), str(out), MergeOptions(clone_tensors=True))
    for f in os.listdir(out):
        if f not in ("config.json", "model.safetensors"):
            os.remove(out / f)
    one_by_one(out / "model.safetensors")
    (pathlib.Path("states") / (gate + ".yml")).write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False))
for m in ("llama0", "llama1"):
    for f in os.listdir("tokenizer"):
        os.remove(m + "/" + f)
