#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_moe.py: tiny models, files of experts, and what mergekit-moe 0.1.5 makes of them (torch 2.15 on AVX2,
transformers 5.24), as a line `TENSOR SHA256` for each tensor: experts one by one, under the names that lbrx writes.
Run in an empty copy of this folder; it says where a value of a router is not what lbrx ($LBRX) makes, so that the models
can be drawn anew: routers are the only tensors that need not be equal in every bit."""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers
import yaml
from mergekit.moe.config import MoEMergeConfig
from mergekit.options import MergeOptions
from mergekit.scripts import moe
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

SIZE = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            max_position_embeddings=64, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1)
SEED = 7
A, B = "positive_prompts", "negative_prompts"
CASES = {
    "mixtral": {"base_model": "llama0", "gate_mode": "cheap_embed", "dtype": "bfloat16", "experts": [
        {"source_model": "llama0", A: ["write code", "in python, été"], B: ["a story"]},
        {"source_model": "llama1", A: ["solve mathematics", ""], "residual_scale": 0.5}]},
    "mixtral_random": {"base_model": "llama0", "gate_mode": "random", "dtype": "bfloat16", "experts_per_token": 1,
                       "experts": [{"source_model": "llama0"}, {"source_model": "llama1"}, {"source_model": "llama0"}]},
    "mixtral_uniform": {"base_model": "llama1", "gate_mode": "uniform_random", "dtype": "float32", "experts": [
        {"source_model": "llama0", A: ["a"]}, {"source_model": "llama1", A: ["b"]}]},
    "deepseek": {"base_model": "llama0", "gate_mode": "cheap_embed", "dtype": "bfloat16", "experts": [
        {"source_model": "llama0", A: ["write code"]}, {"source_model": "llama1", A: ["solve mathematics"]}],
        "shared_experts": [{"source_model": "llama1", "residual_scale": 0.25}]},
    "qwen": {"base_model": "llama0", "gate_mode": "cheap_embed", "dtype": "bfloat16", "experts": [
        {"source_model": "llama0", A: ["write code"]}, {"source_model": "llama1", A: ["solve mathematics"]}],
        "shared_experts": [{"source_model": "llama1", A: ["a story"]}]},
    "qwen3": {"base_model": "qwen30", "gate_mode": "cheap_embed", "experts": [
        {"source_model": "qwen30", A: ["write code"], B: ["mathematics"]},
        {"source_model": "qwen31", A: ["solve mathematics"], "residual_scale": 2}]},
}


def tokenizer():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(["write code in python, solve mathematics for a story"] * 3, trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<s>", eos_token="</s>")


def make(name, cls, config, seed, t):
    torch.manual_seed(seed)
    m = cls(config(vocab_size=len(t), **SIZE, **({"head_dim": 16} if cls is Qwen3ForCausalLM else {}))).bfloat16()
    for k, p in m.named_parameters():
        if "norm" in k:
            p.data.add_(torch.randn_like(p) * 0.1)
    m.save_pretrained(name)
    os.remove(pathlib.Path(name) / "generation_config.json")


def digests(path, plain):
    out = {}
    w = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    for k, t in load_file(path).items():
        head, _, tail = k.partition(".mlp.experts.")
        many = {k: t}
        if tail in ("gate_up_proj", "down_proj"):
            many = {"%s.mlp.experts.%d.%s.weight" % (head, e, p): x for e in range(len(t)) for p, x in zip(
                ("gate_proj", "up_proj") if tail == "gate_up_proj" else (tail,),
                t[e].chunk(2) if tail == "gate_up_proj" else (t[e],))}
        for k, x in many.items():
            if plain and ".mlp." in k: # mixtral's own names
                k = k.replace(".mlp.", ".block_sparse_moe.")
                for a, b in w.items():
                    k = k.replace(a, b)
            out[k] = hashlib.sha256(x.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
    return out


def main():
    t = tokenizer()
    for i in range(2):
        make("llama%d" % i, LlamaForCausalLM, LlamaConfig, 11 + i, t)
        make("qwen3%d" % i, Qwen3ForCausalLM, Qwen3Config, 21 + i, t)
    t.save_pretrained("tokenizer")
    for m in ("llama0", "llama1", "qwen30"):
        for f in os.listdir("tokenizer"):
            shutil.copy("tokenizer/" + f, m)
    for name, config in CASES.items():
        pathlib.Path(name + ".yml").write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False))
        with tempfile.TemporaryDirectory() as d:
            transformers.trainer_utils.set_seed(SEED)
            moe.build(MoEMergeConfig.model_validate(config), d + "/theirs", MergeOptions(clone_tensors=True))
            theirs = digests(d + "/theirs/model.safetensors", name.startswith("mixtral"))
            pathlib.Path(name + ".txt").write_text("".join("%s %s\n" % x for x in sorted(theirs.items())))
            if "LBRX" in os.environ:
                subprocess.run([os.environ["LBRX"], "moe", name + ".yml", "-o", d + "/ours", "--seed", str(SEED), "-q"],
                               check=True)
                ours = digests(d + "/ours/model.safetensors", False)
                print(name, len(ours), [k for k in theirs if theirs[k] != ours.get(k)])
    for m in ("llama0", "llama1", "qwen30"):
        for f in os.listdir("tokenizer"):
            os.remove(m + "/" + f)


sys.exit(main())
