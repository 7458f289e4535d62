#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes convert.json: tiny models of every family and variant, converted by the reference converter.

usage: make_arch.py LLAMA_CPP TOKENIZER_GGUF WORK_DIR
  LLAMA_CPP       llama.cpp's source tree (conversion/, gguf-py/); the golden was made with that of
                  llama-cpp-python 0.3.36, transformers 5.23.0 (with experts: 5.24.0), torch (CPU)
  TOKENIZER_GGUF  a GGUF with SmolLM2's tokenizer: its hash is known to the converter
Per case: the inputs (config.json, generation_config.json, README.md, folder name, tensors with their
shards) and what the converter wrote: every key with type and value before tokenizer.*, the tokenizer's
keys as hashes, the tensor directory, the bits of made tensors, the order of q and k rows.
"""
import hashlib
import json
import logging
import os
import shutil
import struct
import sys

LLAMA_CPP, TOK_GGUF, WORK = sys.argv[1:4]
sys.path.insert(0, LLAMA_CPP)
sys.path.insert(0, os.path.join(LLAMA_CPP, "gguf-py"))
os.environ["HF_HUB_OFFLINE"] = "1"
logging.disable(logging.WARNING)

import torch  # noqa: E402
import gguf  # noqa: E402
from pathlib import Path  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from conversion import (  # noqa: E402
    ModelBase, ModelType, TextModel, get_model_architecture, get_model_class)
from transformers import (  # noqa: E402
    Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GemmaConfig,
    GemmaForCausalLM, GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig,
    MistralForCausalLM, Olmo2Config, Olmo2ForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
    Qwen3ForCausalLM, SeedOssConfig, SeedOssForCausalLM, SmolLM3Config, SmolLM3ForCausalLM,
    Starcoder2Config, Starcoder2ForCausalLM,
    GraniteMoeConfig, GraniteMoeForCausalLM, MixtralConfig, MixtralForCausalLM, OlmoeConfig,
    OlmoeForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM)

FTYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "auto": 1024}
SMALL = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=49152)
NORMAL = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "rms_norm_eps",
          "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings",
          "tie_word_embeddings", "attention_bias", "mlp_bias", "rope_parameters", "rope_theta",
          "rope_scaling", "sliding_window", "layer_types", "query_pre_attn_scalar",
          "final_logit_softcapping", "hidden_act", "hidden_activation")
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}


def tokenizer(folder):
    """SmolLM2's tokenizer.json rebuilt from the GGUF."""
    if not (Path(WORK) / "tok").is_dir():
        r = gguf.GGUFReader(TOK_GGUF)
        get = lambda k: r.fields["tokenizer.ggml." + k].contents()  # noqa: E731
        toks, types = get("tokens"), get("token_type")
        added = [dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False,
                      normalized=False, special=True)
                 for i, (t, k) in enumerate(zip(toks, types)) if k == 3]
        tj = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
              "normalizer": None,
              "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                  {"type": "Digits", "individual_digits": True},
                  {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                   "use_regex": True}]},
              "post_processor": None,
              "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                          "use_regex": True},
              "model": {"type": "BPE", "dropout": None, "unk_token": None,
                        "continuing_subword_prefix": None, "end_of_word_suffix": None,
                        "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                        "vocab": {t: i for i, t in enumerate(toks)},
                        "merges": [m.split(" ") for m in get("merges")]}}
        os.makedirs(Path(WORK) / "tok")
        (Path(WORK) / "tok" / "tokenizer.json").write_text(json.dumps(tj, ensure_ascii=False))
        (Path(WORK) / "tok" / "tokenizer_config.json").write_text(json.dumps({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>", "pad_token": "<|im_end|>",
            "add_prefix_space": False}))
    for f in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(WORK) / "tok" / f, folder)


def shards(folder):
    return sorted(f for f in os.listdir(folder) if f.endswith(".safetensors"))


def edit_tensors(folder, fn):
    for f in shards(folder):
        t = fn(load_file(folder / f))
        save_file(t, folder / f, metadata={"format": "pt"})


def st_header(path):
    with open(path, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        return json.loads(f.read(n))


def number_rows(sd):
    """Column 0 of q and k (and the biases) holds the row number: the relayout can be read off."""
    for k, v in sd.items():
        if k.endswith(("q_proj.weight", "k_proj.weight")):
            v[:, 0] = torch.arange(v.shape[0], dtype=v.dtype)
        if k.endswith(("q_proj.bias", "k_proj.bias")):
            v[:] = torch.arange(v.shape[0], dtype=v.dtype)


def value(field):
    types = [t.name for t in field.types]
    c = field.contents()
    if types[0] == "ARRAY":
        if field.name.startswith("tokenizer."):
            h = hashlib.sha256(json.dumps(c, ensure_ascii=False).encode()).hexdigest()
            return ["array", types[1].lower(), {"n": len(c), "sha256": h}]
        return ["array", types[1].lower(), c]
    t = types[0].lower()
    if t == "float32":
        return [t, struct.unpack("<I", struct.pack("<f", c))[0]]
    if t == "string" and field.name.startswith("tokenizer.") and len(c) > 80:
        return [t, {"sha256": hashlib.sha256(c.encode()).hexdigest()}]
    return [t, c]


def convert(folder, outtype):
    # The class of the family may wrap the tokenizer in its own pre-tokenizer; the name of that is
    # text/'s matter, so the converter is not asked to recognise it here.
    TextModel.get_vocab_base_pre = lambda self, tok: "smollm"
    out = Path(WORK) / "out.gguf"
    with torch.inference_mode():
        hp = ModelBase.load_hparams(folder, False)
        cls = get_model_class(get_model_architecture(hp, ModelType.TEXT), mmproj=False)
        if cls.__name__ in ("GemmaModel", "Gemma2Model"):  # no tokenizer.model here
            cls._set_vocab_sentencepiece = cls._set_vocab_gpt2
        cls(folder, gguf.LlamaFileType(FTYPES[outtype]), out).write()
    r = gguf.GGUFReader(out)
    kv = [[f.name] + value(f) for f in r.fields.values() if not f.name.startswith("GGUF.")]
    dirs, extra = [], {}
    for t in r.tensors:
        dirs.append([t.name, t.tensor_type.name.lower(), [int(x) for x in reversed(t.shape)]])
        if t.name == "rope_freqs.weight":
            extra["rope_freqs"] = [int(x) for x in t.data.view("uint32")]
        if outtype in ("f32", "f16", "bf16") and t.name.startswith("blk.0.attn_") and \
                t.name.split(".")[2] in ("attn_q", "attn_k"):
            import numpy as np
            d = t.data
            if t.tensor_type.name == "BF16":
                d = (d.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
                d = d.reshape([int(x) for x in reversed(t.shape)])
            col = d[:, 0] if d.ndim == 2 else d
            if len(col) > 256:  # larger numbers are not exact in BF16
                continue
            extra.setdefault("rows", {})[t.name] = [int(x) for x in col]
    os.remove(out)
    return kv, dirs, extra, hp


class Case:
    def __init__(self, label, cfg, cls, outtype="f16", dtype=torch.bfloat16, config=None,
                 generation=None, readme=None, tensors=None, shard=None, raw_config=None):
        self.__dict__.update(locals())

    def run(self, seed):
        folder = Path(WORK) / self.label
        shutil.rmtree(folder, ignore_errors=True)
        torch.manual_seed(seed)
        m = self.cls(self.cfg).to(self.dtype)
        with torch.no_grad():
            number_rows(m.state_dict())
        m.save_pretrained(folder, max_shard_size=self.shard or "5GB")
        if self.tensors:
            edit_tensors(folder, self.tensors)
        cj = folder / "config.json"
        if self.raw_config is not None:
            cj.write_text(self.raw_config)
        elif self.config:
            c = json.loads(cj.read_text())
            self.config(c)
            cj.write_text(json.dumps(c, indent=2))
        gj = folder / "generation_config.json"
        if self.generation is not None:
            gj.write_text(json.dumps(self.generation))
        elif gj.exists():
            os.remove(gj)
        if self.readme is not None:
            (folder / "README.md").write_text(self.readme)
        tokenizer(folder)
        tensors = []
        for f in shards(folder):
            for n, t in sorted(st_header(folder / f).items()):
                if n != "__metadata__":
                    tensors.append([n, t["dtype"], t["shape"], f])
        kv, dirs, extra, hp = convert(folder, self.outtype)
        hp = {k: hp[k] for k in NORMAL if k in hp}
        res = {"label": self.label, "outtype": self.outtype, "config": cj.read_text(),
               "generation": gj.read_text() if gj.exists() else None,
               "readme": self.readme, "normal": hp,
               "tensors_in": tensors, "kv": kv, "tensors": dirs, **extra}
        shutil.rmtree(folder)
        return res


def setk(**kw):
    def f(c):
        for k, v in kw.items():
            c[k] = v
    return f


def old_rope(theta=10000.0, scaling=None, drop=(), **kw):
    """The config as transformers 4 wrote it."""
    def f(c):
        c.pop("rope_parameters", None)
        c["rope_theta"] = theta
        c["rope_scaling"] = scaling
        c["torch_dtype"] = c.pop("dtype")
        c.update(kw)
        for k in drop:
            c.pop(k)
    return f


def bare(sd):
    return {k.removeprefix("model."): v for k, v in sd.items() if not k.startswith("lm_head")}


def prefixed(sd):
    return {"language_model." + k: v for k, v in sd.items()}


def with_inv_freq(sd):
    for b in range(2):
        sd[f"model.layers.{b}.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    return sd


def stacked(sd):
    """Experts as transformers 5 holds them: gate over up."""
    by = {}
    for k in [k for k in sd if ".experts." in k]:
        head, e, what, _ = k.rsplit(".", 3)
        by.setdefault(head, {}).setdefault(what, {})[int(e)] = sd.pop(k)
    for head, p in by.items():
        gate, up, down = ([p[w][e] for e in sorted(p[w])] for w in
                          ("gate_proj", "up_proj", "down_proj"))
        sd[head + ".gate_up_proj"] = torch.stack([torch.cat(x) for x in zip(gate, up)])
        sd[head + ".down_proj"] = torch.stack(down)
    return sd


def with_head(sd):
    sd["lm_head.weight"] = sd["model.embed_tokens.weight"].clone()
    return sd


CARD = """---
license: llama3.2
license_link: https://example.org/LICENSE
language:
- en
- no
tags: [chat, 'merge', 3d]
pipeline_tag: text-generation
base_model:
  - meta-llama/Llama-3.2-1B
  - https://huggingface.co/NousResearch/Hermes-2-Pro-Llama-3-8B
datasets: teknium/OpenHermes-2.5
model_creator: Someone
---
# Body
"""


def cases():
    L, M, Q2, Q3, G = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM,
                       Gemma3ForCausalLM)
    s = SMALL
    yield Case("Llama-3.2-1B-Instruct", LlamaConfig(**s, max_position_embeddings=131072,
               rope_parameters={**LLAMA3, "factor": 32.0, "rope_theta": 500000.0}), L,
               generation={"temperature": 0.6, "top_p": 0.9, "top_k": 40, "min_p": 0.05,
                           "repetition_penalty": 1.1, "do_sample": True}, readme=CARD)
    yield Case("llama-old-llama3-9m", LlamaConfig(**{**s, "num_hidden_layers": 1},
               head_dim=128), L, outtype="f32",
               config=old_rope(500000.0, {k: v for k, v in LLAMA3.items()},
                               max_position_embeddings=131072))
    yield Case("odd-llama3", LlamaConfig(**{**s, "hidden_size": 96}, head_dim=96,
               rope_parameters={"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 2.0,
                                "high_freq_factor": 6.5, "rope_theta": 10000,
                                "original_max_position_embeddings": 2000}), L, outtype="bf16")
    yield Case("tied-biased", LlamaConfig(**s, tie_word_embeddings=True, attention_bias=True,
               mlp_bias=True), L, outtype="q8_0", dtype=torch.float16, tensors=with_inv_freq)
    yield Case("biased-rows", LlamaConfig(**s, attention_bias=True), L, outtype="f32",
               dtype=torch.float32)
    yield Case("old-linear-v2", LlamaConfig(**{**s, "hidden_size": 128}, head_dim=48), L,
               outtype="auto", dtype=torch.float32,
               config=old_rope(26000, {"type": "linear", "factor": 2.5}))
    yield Case("llama-yarn-chat-1m", LlamaConfig(**s, max_position_embeddings=65536), L,
               config=old_rope(10000.0, {"rope_type": "yarn", "factor": 16.0, "beta_fast": 32.0,
                                         "beta_slow": 1.0, "attention_factor": 1.2,
                                         "extrapolation_factor": 1.0,
                                         "original_max_position_embeddings": 4096}))
    yield Case("yarn-no-orig", LlamaConfig(**s, max_position_embeddings=65536), L,
               config=old_rope(10000.0, {"type": "yarn", "factor": 4}))
    minimal = json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
                          "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
                          "num_hidden_layers": 2, "vocab_size": 49160,
                          "_name_or_path": "org-x/Tiny-Llama-7M-Chat-v1.1"})
    yield Case("minimal", LlamaConfig(**{**s, "num_key_value_heads": 4, "vocab_size": 49160}), L,
               raw_config=minimal, tensors=with_head)
    yield Case("bare_model", LlamaConfig(**s, tie_word_embeddings=True), L, tensors=bare,
               config=setk(architectures=["LlamaModel"]))
    yield Case("LLaMA-prefixed", LlamaConfig(**{**s, "num_key_value_heads": 4}), L,
               tensors=prefixed, outtype="auto", dtype=torch.float16,
               config=setk(architectures=["LLaMAForCausalLM"], num_key_value_heads=None,
                           _name_or_path="./some/computer/path"))
    yield Case("IQuest-Coder-40M", LlamaConfig(**s), L,
               config=setk(architectures=["IQuestCoderForCausalLM"], model_type="iquestcoder_x",
                           head_dim=None))
    yield Case("Mistral-7B-Instruct-v0.3", MistralConfig(**s, sliding_window=1024), M,
               shard="3MB", config=old_rope(1000000.0, drop=("rope_scaling",)))
    yield Case("mistral-tied-head", MistralConfig(**s, tie_word_embeddings=True, head_dim=32), M,
               tensors=with_head, outtype="bf16")
    yield Case("Mistral-min", MistralConfig(**{**s, "num_key_value_heads": 8,
                                               "num_attention_heads": 8}), M,
               config=lambda c: [c.pop(k) for k in
                                 ("num_key_value_heads", "head_dim", "sliding_window",
                                  "max_position_embeddings", "rope_parameters", "rms_norm_eps")])
    yield Case("Qwen2.5-0.5B-Instruct", Qwen2Config(**s, tie_word_embeddings=True), Q2,
               generation={"repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8,
                           "top_k": 20, "pad_token_id": 0, "penalty_last_n": 64,
                           "mirostat": 2, "mirostat_tau": 5.0, "mirostat_eta": 0.1,
                           "xtc_probability": 0.5, "xtc_threshold": 0.1, "sequence": "top_k;temp"},
               config=old_rope(1000000.0, drop=("rope_scaling",), use_sliding_window=False,
                               sliding_window=32768, max_window_layers=21))
    yield Case("Qwen2-72B-yarn", Qwen2Config(**s), Q2, outtype="f32",
               config=old_rope(1000000.0, {"type": "yarn", "factor": 4.0,
                                           "original_max_position_embeddings": 32768},
                               max_position_embeddings=131072, use_sliding_window=True))
    yield Case("qwen2-bare-7b", Qwen2Config(**s, tie_word_embeddings=True), Q2, tensors=bare,
               config=setk(architectures=["Qwen2Model"], head_dim=16))
    yield Case("Qwen3-0.6B", Qwen3Config(**s, tie_word_embeddings=True, head_dim=32,
               rope_parameters={"rope_type": "default", "rope_theta": 1000000}), Q3,
               generation={"temperature": 0.6, "top_k": 20, "top_p": 0.95}, outtype="bf16",
               readme="---\nlibrary_name: transformers\nlicense: apache-2.0\n"
                      "base_model:\n- Qwen/Qwen3-0.6B-Base\n---\n")
    yield Case("qwen3-untied-head128", Qwen3Config(**s, attention_bias=True), Q3, shard="7MB",
               config=lambda c: c.pop("head_dim"))
    yield Case("qwen3-bare", Qwen3Config(**s, tie_word_embeddings=True, head_dim=16), Q3,
               tensors=bare, config=setk(architectures=["Qwen3Model"]))
    g = dict(s, vocab_size=49216, num_hidden_layers=7, head_dim=32, sliding_window=128)
    yield Case("gemma-3-270m-it", Gemma3TextConfig(**g), G, outtype="f16")
    yield Case("gemma-3-4b-old", Gemma3TextConfig(**g, query_pre_attn_scalar=168), G,
               dtype=torch.float16, outtype="f32",
               config=old_rope(1000000.0, {"rope_type": "linear", "factor": 8.0},
                               drop=("layer_types",), rope_local_base_freq=12000.0,
                               sliding_window_pattern=6, final_logit_softcapping=30.0))
    yield Case("gemma3-all-global", Gemma3TextConfig(**{**g, "vocab_size": 49152}), G,
               outtype="bf16",
               config=old_rope(drop=("layer_types", "rope_scaling"), sliding_window_pattern=1))
    yield Case("gemma3-min-1b", Gemma3TextConfig(**{**g, "num_key_value_heads": 4,
               "num_attention_heads": 4, "head_dim": 256}), G, tensors=with_head,
               config=lambda c: [c.pop(k) for k in
                                 ("num_key_value_heads", "head_dim", "rope_parameters",
                                  "layer_types", "max_position_embeddings", "rms_norm_eps")])
    yield from expert_cases()
    yield from dense_cases(dict(SMALL))


def expert_cases():
    s = dict(SMALL, num_experts_per_tok=2)
    yield Case("Qwen3-30B-A3B", Qwen3MoeConfig(**s, num_experts=4, moe_intermediate_size=32,
               head_dim=32, norm_topk_prob=True), Qwen3MoeForCausalLM, shard="4MB",
               config=old_rope(1000000.0, drop=("num_local_experts",), num_experts=4))
    yield Case("qwen3-moe-stacked", Qwen3MoeConfig(**s, num_experts=3, moe_intermediate_size=32,
               head_dim=32, attention_bias=True), Qwen3MoeForCausalLM, tensors=stacked,
               outtype="bf16")
    yield Case("Mixtral-8x7B-Instruct-v0.1", MixtralConfig(**s, num_local_experts=4),
               MixtralForCausalLM, shard="4MB", config=old_rope(1000000.0, drop=("rope_scaling",)))
    yield Case("mixtral-head-dim", MixtralConfig(**s, num_local_experts=3, head_dim=32,
               tie_word_embeddings=True), MixtralForCausalLM, outtype="q8_0")
    yield Case("Qwen1.5-MoE-A2.7B", Qwen2MoeConfig(**s, num_experts=4, moe_intermediate_size=32,
               shared_expert_intermediate_size=64), Qwen2MoeForCausalLM)
    yield Case("qwen2-moe-f32", Qwen2MoeConfig(**s, num_experts=3, moe_intermediate_size=48,
               shared_expert_intermediate_size=32), Qwen2MoeForCausalLM, tensors=stacked,
               outtype="f32", dtype=torch.float32)
    yield Case("OLMoE-1B-7B", OlmoeConfig(**s, num_experts=4), OlmoeForCausalLM)
    yield Case("olmoe-eps", OlmoeConfig(**{**s, "num_key_value_heads": None}, num_experts=3,
               rms_norm_eps=1e-6), OlmoeForCausalLM, outtype="bf16")
    g = dict(s, attention_multiplier=0.015625, embedding_multiplier=12.0, logits_scaling=6.0,
             residual_multiplier=0.22)
    yield Case("granite-3.1-1b-a400m-instruct", GraniteMoeConfig(**g, num_local_experts=4,
               tie_word_embeddings=True), GraniteMoeForCausalLM)
    yield Case("granitemoe-plain", GraniteMoeConfig(**s, num_local_experts=3, attention_bias=True),
               GraniteMoeForCausalLM, outtype="f32", config=setk(embedding_multiplier=0))


def dense_cases(s):
    g = dict(s, head_dim=32)
    yield Case("gemma-2b-it", GemmaConfig(**g), GemmaForCausalLM)
    yield Case("gemma-7b-old", GemmaConfig(**{**g, "num_key_value_heads": 4}), GemmaForCausalLM,
               outtype="f32", dtype=torch.float16, tensors=with_head,
               config=old_rope(hidden_act="gelu", drop=("rope_scaling",)))
    yield Case("gemma-2-2b-it", Gemma2Config(**g, sliding_window=128), Gemma2ForCausalLM)
    yield Case("gemma-2-9b-old", Gemma2Config(**g, query_pre_attn_scalar=168), Gemma2ForCausalLM,
               outtype="bf16", config=old_rope(drop=("layer_types",), attn_logit_softcapping=40.0))
    yield Case("granite-3.3-2b-instruct", GraniteConfig(**s, tie_word_embeddings=True,
               embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22,
               attention_multiplier=0.0625), GraniteForCausalLM)
    yield Case("granite-bias-old", GraniteConfig(**s, attention_bias=True, mlp_bias=True),
               GraniteForCausalLM, outtype="f32", dtype=torch.float32,
               config=old_rope(10000000.0, logits_scaling=16, head_dim=16))
    yield Case("OLMo-2-1124-7B", Olmo2Config(**s), Olmo2ForCausalLM, outtype="bf16")
    yield Case("olmo2-tied-yarn", Olmo2Config(**s, tie_word_embeddings=True), Olmo2ForCausalLM,
               config=old_rope(500000.0, {"type": "yarn", "factor": 4.0,
                                          "original_max_position_embeddings": 4096}))
    yield Case("Seed-OSS-36B-Instruct", SeedOssConfig(**s, head_dim=32), SeedOssForCausalLM)
    yield Case("seed-biases", SeedOssConfig(**s, head_dim=16, attention_out_bias=True,
               mlp_bias=True, tie_word_embeddings=True), SeedOssForCausalLM, outtype="f32",
               config=old_rope(1e7))
    yield Case("SmolLM3-3B", SmolLM3Config(**{**s, "num_hidden_layers": 5}, pad_token_id=None), SmolLM3ForCausalLM)
    yield Case("smollm3-llama3", SmolLM3Config(**s, tie_word_embeddings=False, attention_bias=True, pad_token_id=None,
               rope_parameters={**LLAMA3, "rope_theta": 50000.0}), SmolLM3ForCausalLM,
               outtype="f32", dtype=torch.float32)
    yield Case("starcoder2-3b", Starcoder2Config(**s, sliding_window=4096), Starcoder2ForCausalLM)
    yield Case("starcoder2-old", Starcoder2Config(**s, use_bias=False, tie_word_embeddings=False),
               Starcoder2ForCausalLM, outtype="f32", config=old_rope(999999.5))


def main():
    os.makedirs(WORK, exist_ok=True)
    out = []
    only = sys.argv[4:]
    for i, c in enumerate(cases()):
        if only and c.label not in only:
            continue
        print(c.label, flush=True)
        out.append(c.run(i))
    path = Path(__file__).parent / "convert.json"
    with open(path, "w") as f:
        f.write('{"peer": "llama-cpp-python 0.3.36, transformers 5.23.0; those with experts: 5.24.0",\n "cases": [\n')
        f.write(",\n".join(json.dumps(c, ensure_ascii=False) for c in out))
        f.write("\n]}\n")
    print(path, os.path.getsize(path))


main()
