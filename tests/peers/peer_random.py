#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch numpy safetensors transformers tokenizers sentencepiece gguf
"""peer_random.py [--seed S] [--n N] [--only I[,I]] [--family F[,F]] [--keep DIR]: random small models through
every conversion.

Each number I of a seed is one model: a family, sizes, biases, rope scaling, tied or not, float type, shards,
config as transformers writes it today or as it did, a tokenizer of some kind with its files, a chat template,
generation config, model card and folder name. Compared:
  HF -> GGUF        with convert_hf_to_gguf.py: keys, types, values, order, tensors, bytes
  their GGUF -> HF  state and logits bit for bit, tokens of texts; also quantized by gguf-py
  HF -> MLX         with mlx_lm.convert: tensors, config; quantized ones by value, to HF and to GGUF
  HF -> GGUF -> HF, HF -> MLX -> GGUF -> HF: tensors and small files byte for byte
LBRX_LIBGGML may name libggml-base.so for the types that gguf-py cannot write.
A vocabulary made up has no known hash: the reference is told the name of the pre-tokenizer.
"""
import argparse
import contextlib
import ctypes
import io
import json
import os
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

import gguf
import numpy as np
import sentencepiece
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

ROOT = pathlib.Path(__file__).resolve().parents[2]
K_QUANTS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ3_XXS", "IQ3_S", "IQ2_XXS", "IQ2_XS",
            "IQ2_S", "IQ1_S", "IQ1_M")
LIBGGML = ctypes.CDLL(os.environ["LBRX_LIBGGML"]) if os.environ.get("LBRX_LIBGGML") else None
if not LIBGGML:
    K_QUANTS = ()
else:
    LIBGGML.ggml_quantize_chunk.restype = ctypes.c_size_t
PRE = [None]  # what the reference takes for the pre-tokenizer's name

# ---- byte-level tokenizers ----

SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s")
SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
LLAMA3 = "|".join((SHORT, WORD, r"\p{N}{1,3}", SYMBOLS, SPACES))
QWEN2 = "|".join((SHORT, WORD, r"\p{N}", SYMBOLS, SPACES))
TEKKEN = "|".join((CASED % ("", ""), r"\p{N}", SLASH, SPACES))
GPT4O = "|".join((CASED % (SHORT + "?", SHORT + "?"), r"\p{N}{1,3}", SLASH, SPACES))
# name: normalizer NFC, patterns ("digits": each alone; None: GPT-2's), ignore_merges
FORMS = {"llama-bpe": (False, [LLAMA3], True), "dbrx": (False, [LLAMA3], False), "qwen2": (True, [QWEN2], False),
         "stablelm2": (False, [QWEN2], False), "tekken": (False, [TEKKEN], True), "gpt-4o": (False, [GPT4O], False),
         "smollm": (False, ["digits", None], False), "gpt-2": (False, [None], False),
         "olmo": (True, [None], False), "command-r": (True, ["digits", None], False)}
OF_FAMILY = {"llama": ["llama-bpe", "smollm", "gpt-2", "gpt-4o", "dbrx", "command-r"], "mistral": ["tekken"],
             "qwen2": ["qwen2", "stablelm2", "gpt-2"], "qwen3": ["qwen2", "llama-bpe"], "gemma3": ["olmo"],
             "mixtral": ["tekken"], "qwen2_moe": ["qwen2"], "qwen3_moe": ["qwen2"], "olmoe": ["olmo"],
             "granitemoe": ["gpt-2"],
             "granite": ["llama-bpe", "smollm"], "olmo2": ["dbrx", "gpt-4o"], "seed_oss": ["llama-bpe"],
             "smollm3": ["smollm", "llama-bpe"], "starcoder2": ["smollm", "gpt-2"]}
# Families with experts: the chance of a SentencePiece tokenizer, the config's keys of experts.
EXPERTS = {"mixtral": (0.6, ("num_local_experts",)), "qwen2_moe": (0.0, ("num_experts",)),
           "qwen3_moe": (0.0, ("num_experts",)), "olmoe": (0.0, ("num_experts",)),
           "granitemoe": (0.0, ("num_local_experts",))}
GEMMA = ("gemma", "gemma2", "gemma3")


def corpus():
    texts = [p.read_text() for p in sorted((ROOT / "docs").glob("*.md"))[:4]]
    texts.append("na\u00efve caf\u00e9 \u4e2d\u6587\u5b57\u7b26 \u65e5\u672c\u8a9e \u0440\u0443\u0441\u0441\u043a"
                 "\u0438\u0439 \U0001f600\U0001f680 12345 3.14 don't I'LL\n\n\tx  y   z\r\n" * 6)
    return [line for t in texts for line in t.splitlines(keepends=True)]


def byte_level(r, form, vocab_size):
    nfc, steps, ignore = FORMS[form]
    t = Tokenizer(models.BPE(ignore_merges=ignore))
    if nfc:
        t.normalizer = normalizers.NFC()
    parts = []
    for s in steps:
        if s == "digits":
            parts.append(pre_tokenizers.Digits(individual_digits=True))
        elif s is None:
            parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
        else:
            parts += [pre_tokenizers.Split(Regex(s), "isolated"),
                      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    t.pre_tokenizer = parts[0] if len(parts) == 1 else pre_tokenizers.Sequence(parts)
    t.decoder = decoders.ByteLevel()
    lines = corpus()
    r.shuffle(lines)
    first = r.choice([[], ["<|endoftext|>"], ["<unk>", "<s>", "</s>"]])
    t.train_from_iterator(lines[:400], trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=first))
    return t, first


def add_tokens(r, t, first, opts):
    """Special tokens and others; the names of those that stand for BOS, EOS, PAD, UNK (or None)."""
    style = r.choice(["im", "llama3", "s", "mistral"])
    if style == "im":
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        named = dict(bos_token=r.choice([None, "<|endoftext|>", "<|im_start|>"]), eos_token="<|im_end|>",
                     pad_token="<|endoftext|>", unk_token=r.choice([None, "<|endoftext|>"]))
    elif style == "llama3":
        special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        special += ["<|reserved_special_token_%d|>" % i for i in range(r.randrange(6))]
        named = dict(bos_token="<|begin_of_text|>", eos_token=r.choice(["<|eot_id|>", "<|end_of_text|>"]))
    elif style == "s":
        special = ["<s>", "</s>", "<unk>", "<pad>"]
        named = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=r.choice([None, "<pad>", "</s>"]))
    else:
        special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"]
        special += ["<SPECIAL_%d>" % i for i in range(20, 20 + r.randrange(9))]
        named = dict(bos_token="<s>", eos_token="</s>", unk_token=r.choice([None, "<unk>"]))
    t.add_tokens([AddedToken(x, special=True, normalized=False) for x in special])
    more = []
    strip = opts["strip"] = r.random() < 0.15  # GGUF has no place for it
    if r.random() < 0.6:
        more = r.sample(["<tool_call>", "</tool_call>", "<think>", "</think>", "<|box_start|>", "  ", "\n\n\n",
                         "\u4e2d\u6587\u5b57", "h\u00e9llo", "<\uff5cUser\uff5c>", "\t\t", "<unused7>", "\u2581\u2581x",
                         "<|file sep|>"], r.randrange(1, 6))
        t.add_tokens([AddedToken(x, special=r.random() < 0.2, normalized=r.random() < 0.3,
                                 lstrip=strip and r.random() < 0.3, rstrip=strip and r.random() < 0.3) for x in more])
    return {k: v for k, v in named.items() if v}


def post_processor(r, t, named):
    bos, eos = named.get("bos_token"), named.get("eos_token")
    kind = r.choice(["none", "bytes", "bos", "bytes+bos", "bos+eos"])
    parts = []
    if "bytes" in kind:
        parts.append(processors.ByteLevel(trim_offsets=r.random() < 0.5))
    if "bos" in kind and bos:
        single = bos + " $A" + (" " + eos if "eos" in kind else "")
        pair = single + " " + bos + ":1 $B:1" + (" " + eos + ":1" if "eos" in kind else "")
        parts.append(processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[(x, t.token_to_id(x)) for x in {bos, eos} if x in single]))
    if parts:
        t.post_processor = parts[0] if len(parts) == 1 and r.random() < 0.7 else processors.Sequence(parts)


def make_bpe(r, family, folder, opts):
    form = r.choice(OF_FAMILY[family])
    opts["tok"] = "bpe " + form
    t, first = byte_level(r, form, r.randrange(330, 700))
    named = add_tokens(r, t, first, opts)
    post_processor(r, t, named)
    PRE[0] = form
    t.save(str(folder / "tokenizer.json"), pretty=r.random() < 0.8)
    if r.random() < 0.2:  # merges as strings, as older files have them
        j = json.loads((folder / "tokenizer.json").read_text())
        j["model"]["merges"] = [" ".join(m) for m in j["model"]["merges"]]
        (folder / "tokenizer.json").write_text(json.dumps(j, indent=2, ensure_ascii=r.random() < 0.3))
    legacy = form in ("qwen2", "gpt-2") and family in ("llama", "qwen2", "qwen3") and r.random() < 0.4
    if legacy or r.random() < 0.3:
        t.model.save(str(folder))  # vocab.json, merges.txt beside it
    config = dict(named)
    classes = ["PreTrainedTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"]
    if family not in ("qwen2", "qwen3", "gemma3", "starcoder2", "olmo2") or form == "qwen2":
        classes.append(None)  # then the class of the model's type, whatever tokenizer.json says
    classes += {"qwen2": ["Qwen2Tokenizer"], "gpt-2": ["GPT2Tokenizer"], "smollm": ["GPT2Tokenizer"],
                "llama-bpe": ["LlamaTokenizerFast"]}.get(form, [])
    config["tokenizer_class"] = r.choice(classes)
    if not config["tokenizer_class"]:
        del config["tokenizer_class"]
    if r.random() < 0.2:
        config["unk_token"] = None
    for key in ("add_bos_token", "add_eos_token"):
        if r.random() < 0.15:
            config[key] = r.random() < 0.5
    if r.random() < 0.1:
        config["add_prefix_space"] = False
    if r.random() < 0.5:
        config["added_tokens_decoder"] = decoder_of(t)
        opts["decoder"] = True
    if r.random() < 0.2:
        config["additional_special_tokens"] = [named["eos_token"]]
    if legacy and (form == "qwen2" or family != "qwen2"):  # nothing else, as before tokenizer.json
        opts["tok"] += " legacy"
        opts["strip"] = True
        (folder / "tokenizer.json").unlink()
        config["tokenizer_class"] = "Qwen2Tokenizer" if form == "qwen2" else "GPT2Tokenizer"
        config["added_tokens_decoder"] = decoder_of(t)
    return config, named, t.get_vocab_size(), {k: t.token_to_id(v) for k, v in named.items()}


def decoder_of(t):
    return {str(i): {"content": a.content, "lstrip": a.lstrip, "normalized": a.normalized, "rstrip": a.rstrip,
                     "single_word": a.single_word, "special": a.special}
            for i, a in sorted(t.get_added_tokens_decoder().items())}


# ---- SentencePiece ----

def make_spm(r, family, folder, opts):
    gemma = family in GEMMA
    kind = r.choice(["model", "model+json", "json"])
    if gemma and kind == "json":
        kind = "model"
    opts["tok"] = "spm " + kind
    n = r.randrange(480, 640)
    ids = dict(pad_id=0, eos_id=1, bos_id=2, unk_id=3) if gemma else dict(unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    lines = [s for s in corpus() if s.strip()]
    r.shuffle(lines)
    extra = {}
    if r.random() < 0.3:
        extra["control_symbols"] = ["<ctrl_a>", "<|b|>"]
    if gemma or r.random() < 0.5:
        extra["user_defined_symbols"] = r.sample(["<start_of_turn>", "<end_of_turn>", "\u2581\u2581", "<2mass>",
                                                  "<unused0>", "[INST]", "\u4e2d\u6587"], r.randrange(1, 5))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines[:300]), model_prefix=str(folder / "tokenizer"), model_type="bpe", vocab_size=n,
        byte_fallback=True, add_dummy_prefix=not gemma, remove_extra_whitespaces=False, character_coverage=0.9995,
        normalization_rule_name="identity", split_digits=True, minloglevel=9, **ids, **extra)
    (folder / "tokenizer.vocab").unlink()
    named = (dict(bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<pad>") if gemma else
             dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>"))
    if gemma:
        pc.fix_pieces(folder / "tokenizer.model", {"<s>": "<bos>", "</s>": "<eos>"})
    elif r.random() < 0.3:
        named["pad_token"] = r.choice(["</s>", "<unk>"])
    config = dict(named, tokenizer_class="GemmaTokenizer" if gemma else "LlamaTokenizer",
                  add_bos_token=True, add_eos_token=r.random() < 0.1, clean_up_tokenization_spaces=False)
    if not gemma:
        config["legacy"] = r.random() < 0.5
        if family not in ("mistral", "mixtral") and r.random() < 0.3:  # general classes of transformers do not read it
            config["tokenizer_class"] = "LlamaTokenizer"
            config["add_prefix_space"] = r.random() < 0.7
    if r.random() < 0.3 and "add_prefix_space" not in config:
        config["tokenizer_class"] = r.choice(["PreTrainedTokenizerFast", "TokenizersBackend", config["tokenizer_class"] + "Fast"])
    n_all = n
    if kind != "model":
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        out = folder / "made"
        with contextlib.redirect_stderr(io.StringIO()):
            tok = transformers.AutoTokenizer.from_pretrained(folder)
            if not gemma and r.random() < 0.5:
                tok.add_tokens(["<|extra_%d|>" % i for i in range(r.randrange(1, 5))], special_tokens=r.random() < 0.5)
                n_all = len(tok)
            tok.save_pretrained(out)
        shutil.move(out / "tokenizer.json", folder / "tokenizer.json")
        shutil.rmtree(out)
        if n_all > n or r.random() < 0.4:
            config["added_tokens_decoder"] = decoder_of(Tokenizer.from_file(str(folder / "tokenizer.json")))
        if kind == "json":
            (folder / "tokenizer.model").unlink()
    elif r.random() < 0.25:
        (folder / "added_tokens.json").write_text(json.dumps({"<|added|>": n, "<extra token>": n + 1}))
        n_all = n + 2
    by_name = dict(bos_token=ids["bos_id"], eos_token=ids["eos_id"])
    return config, named, n_all, by_name


# ---- the other files ----

TEMPLATES = [pc.CHAT,
             "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + "
             "message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}",
             "{%- for m in messages %}\n    {{- \"<start_of_turn>\" + m.role + \"\\n\" + m.content | trim }}\n"
             "{%- endfor %}\n{# caf\u00e9 \u4e2d #}\n"]
NAMES = ["Llama-3.2-1B-Instruct", "my model", "Qwen2.5-0.5B-Instruct-v2", "TinyLlama-1.1B-Chat-v1.0", "model",
         "mistral-7b-instruct-v0.3-hf", "gemma-3-1b-it", "Hermes-2-Pro-Llama-3-8B", "Phi-3-mini-4k-instruct",
         "checkpoint-500", "Yi-1.5-6B", "SmolLM2-135M-Instruct", "Foo_Bar.v2-finetuned-2x7B-moe", "a", "x-8x7b-lora",
         "Qwen3-4B-Base-bf16", "deepseek-llm-7b-base", "DARE.ties-merge_v0.1", "Meta-Llama-3-70B-Instruct-abliterated",
         "openchat_3.5-1210", "\u6a21\u578b-7B", "stable-code-3b-4bit", "Nous-Capybara-34B-200k"]
CARDS = [
    "---\nlicense: apache-2.0\nlanguage:\n- en\n- fr\n- no\ntags:\n- chat\n- text-generation\npipeline_tag: "
    "text-generation\nbase_model: Qwen/Qwen2.5-0.5B\n---\n# Title\nText.\n",
    "---\nlicense: other\nlicense_name: my-license\nlicense_link: https://example.com/LICENSE\nbase_model:\n- meta-llama/"
    "Llama-3.2-1B\n- org-b/Some-Model-7B-v0.2\ndatasets:\n- HuggingFaceH4/ultrachat_200k\n- openai/gsm8k\n---\n",
    "---\nlibrary_name: transformers\nlanguage: en\ntags: []\nmodel_name: My Great Model 3B\nmodel_creator: Someone\n"
    "author: A. N. Author\norganization: An Org\nmodel_type: llama\n---\n\ntext\n",
    "---\nlicense:\n- mit\n- gpl-3.0\nbase_model: someone/base\ndatasets: wikitext\nmodel-index:\n- name: x\n  results: []\n"
    "finetune: Instruct\nbasename: thing\nsize_label: 3B\nversion: v1.5\n---\n",
    "# A card without front matter\n", "---\n---\n", "",
    "---\nname: Named Here\nquantized_by: q\ndescription: \"two\\nlines \u00e9\"\ntags:\n  - a\n  - 'b c'\nlanguages: [de, it]\n"
    "repo_url: https://huggingface.co/x/y\nurl: https://x.example\ndoi: 10.1/2\nuuid: 1234\n---\nbody\n"]
GENERATION = [dict(temperature=0.6, top_p=0.9, do_sample=True), dict(temperature=0.7, top_k=20, top_p=0.8,
              repetition_penalty=1.05, do_sample=True), dict(max_length=4096), dict(min_p=0.05, temperature=1),
              dict(do_sample=False, temperature=0.0), dict(max_new_tokens=10, top_k=64, top_p=0.95)]


def write_side_files(r, folder, config, named, ids, opts):
    kind = r.choice(["none", "config", "jinja", "jinja", "list", "jinja+more", "json"])
    opts["template"] = kind
    text = r.choice(TEMPLATES)
    if kind == "config":
        config["chat_template"] = text
    elif kind == "list":
        config["chat_template"] = [{"name": "default", "template": text},
                                   {"name": "tool_use", "template": TEMPLATES[0] + "{# tools #}"}]
    elif kind.startswith("jinja"):
        (folder / "chat_template.jinja").write_text(text)
        if "more" in kind:
            (folder / "additional_chat_templates").mkdir()
            (folder / "additional_chat_templates" / "rag.jinja").write_text(TEMPLATES[1])
    elif kind == "json":
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": text}, indent=2))
    if r.random() < 0.3:
        for k in list(named):
            if k in config and r.random() < 0.5:
                config[k] = {"__type": "AddedToken", "content": named[k], "lstrip": False, "normalized": False,
                             "rstrip": False, "single_word": False}
    if r.random() < 0.7:
        config["model_max_length"] = r.choice([512, 4096, 1000000000000000019884624838656])
    if r.random() < 0.93 or "chat_template" in config or not (folder / "tokenizer.json").exists():
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=r.random() < 0.3))
    if r.random() < 0.5:
        (folder / "special_tokens_map.json").write_text(json.dumps(named, indent=2))
    if r.random() < 0.6:
        eos = ids.get("eos_token")
        g = {"bos_token_id": ids.get("bos_token"), "eos_token_id": r.choice([eos, [eos, 5], eos]),
             "transformers_version": "4.45.0", "_from_model_config": True}
        if r.random() < 0.6:
            g.update(r.choice(GENERATION))
        (folder / "generation_config.json").write_text(json.dumps({k: v for k, v in g.items() if v is not None}, indent=2))
    else:
        (folder / "generation_config.json").unlink(missing_ok=True)
    if r.random() < 0.6:
        (folder / "README.md").write_text(r.choice(CARDS))


# ---- models ----

FAMILIES = ["llama", "llama", "mistral", "qwen2", "qwen3", "gemma3"] + list(EXPERTS)


def rope_of(r, family, theta, max_pos):
    kinds = {"llama": ["none", "none", "llama3", "linear", "dynamic", "yarn"], "mistral": ["none", "none", "yarn"],
             "qwen2": ["none", "none", "yarn", "linear"], "qwen3": ["none", "none", "yarn"],
             "granite": ["none"], "smollm3": ["none", "llama3", "yarn", "linear"], "olmo2": ["none", "yarn"],
             "seed_oss": ["none", "linear"], "starcoder2": ["none", "linear"], "gemma": ["none"], "gemma2": ["none"],
             "qwen3_moe": ["none", "none", "yarn"]}.get(family, ["none"])
    kind = r.choice(kinds)
    rope = {"rope_type": "default" if kind == "none" else kind, "rope_theta": theta}
    if kind != "none":
        rope["factor"] = r.choice([2.0, 4.0, 8.0, 32.0, 1.5, 4])
    if kind == "llama3":
        rope.update(low_freq_factor=r.choice([1.0, 1.0, 2.0]), high_freq_factor=r.choice([4.0, 4.0, 8.0]),
                    original_max_position_embeddings=r.choice([8192, 8192, 64, 4096]))
        rope["factor"] = float(rope["factor"])
    if kind == "yarn":
        rope["original_max_position_embeddings"] = max_pos // 2
        for key, v in (("beta_fast", 32.0), ("beta_slow", 1.0), ("attention_factor", 1.2), ("beta_fast", 24.0)):
            if r.random() < 0.25:
                rope[key] = v
    return rope


def more_config(r, family, kw, head_dim):
    if family in ("granite", "smollm3", "olmo2", "seed_oss"):
        kw["attention_bias"] = r.random() < 0.3
    if family in ("granite", "smollm3", "seed_oss"):
        kw["mlp_bias"] = r.random() < 0.2
    if family == "granite":
        for key in ("embedding_multiplier", "logits_scaling", "residual_multiplier", "attention_multiplier"):
            kw[key] = r.choice([1.0, 12, 0.22, 0.015625, 8.0])
    if family == "smollm3":
        kw.update(num_hidden_layers=r.choice([1, 4, 5]), pad_token_id=None)
    if family == "seed_oss":
        kw.update(head_dim=head_dim, attention_out_bias=r.random() < 0.3)
    if family == "starcoder2":
        kw["norm_epsilon"] = kw.pop("rms_norm_eps")
        kw.update(use_bias=r.random() < 0.7, sliding_window=r.choice([None, None, 4096]))
    if family in ("gemma", "gemma2"):
        kw.update(head_dim=head_dim, tie_word_embeddings=True)
    if family == "gemma2":
        kw.update(num_hidden_layers=r.choice([1, 2, 3]), sliding_window=r.choice([16, 512, 4096]),
                  query_pre_attn_scalar=r.choice([head_dim, head_dim, 256]), attn_logit_softcapping=r.choice([50.0, 30.0]),
                  final_logit_softcapping=r.choice([30.0, 15.0]))


def random_config(r, family, n_vocab, ids, opts):
    head_dim = r.choice([8, 16, 24, 32, 32, 64, 64, 80, 96, 128])
    heads = r.choice([1, 2, 3, 4, 4, 6, 8])
    kv = r.choice([d for d in range(1, heads + 1) if heads % d == 0])
    free = family in ("qwen3", "gemma3", "mistral", "llama") and r.random() < 0.4
    hidden = heads * r.choice([8, 16, 24, 32]) if free else heads * head_dim
    if r.random() < 0.35:
        hidden, free = heads * 64 * r.choice([1, 2]) if heads < 4 else heads * 64, True
        head_dim = r.choice([32, 64]) if family != "qwen2" else hidden // heads
    if family == "qwen2":
        hidden = heads * head_dim
    theta = r.choice([10000.0, 500000.0, 1000000.0, 5000000.0, 10000, 1e4])
    max_pos = r.choice([128, 512, 2048, 32768, 131072])
    kw = dict(vocab_size=n_vocab, hidden_size=hidden, intermediate_size=r.choice([48, 64, 96, 128, 172, 256]),
              num_hidden_layers=r.choice([1, 2, 2, 3, 4]), num_attention_heads=heads, num_key_value_heads=kv,
              max_position_embeddings=max_pos, tie_word_embeddings=r.random() < 0.4,
              rms_norm_eps=r.choice([1e-5, 1e-6, 1e-5, 3e-6]),
              bos_token_id=ids.get("bos_token"), eos_token_id=ids.get("eos_token"))
    if ids.get("pad_token") is not None and r.random() < 0.5:
        kw["pad_token_id"] = ids["pad_token"]
    if family in ("granite", "olmo2", "starcoder2"):  # no head size of its own
        hidden = kw["hidden_size"] = heads * head_dim
        free = False
    elif family != "qwen2" and (free or r.random() < 0.5):
        kw["head_dim"] = head_dim
    if family == "qwen3":
        kw["head_dim"] = head_dim
        kw["attention_bias"] = r.random() < 0.2
    if family == "llama":
        kw["attention_bias"] = r.random() < 0.25
        kw["mlp_bias"] = r.random() < 0.15
    if family in ("qwen2", "qwen3") and r.random() < 0.3:
        kw["use_sliding_window"] = False
        kw["sliding_window"] = r.choice([64, 32768, None])
        kw["max_window_layers"] = r.choice([1, 28])
    more_config(r, family, kw, head_dim)
    if family == "mistral":
        kw["sliding_window"] = r.choice([None, 32, 4096])
    if family == "gemma3":
        kw["tie_word_embeddings"] = r.random() < 0.9
        kw["head_dim"] = head_dim
        kw["num_hidden_layers"] = r.choice([1, 2, 6, 7, 8])
        kw["sliding_window"] = r.choice([16, 512, 4096])
        kw["query_pre_attn_scalar"] = r.choice([head_dim, head_dim, 256])
        full = {"rope_type": "default", "rope_theta": 1000000.0}
        if r.random() < 0.3:
            full = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0}
        kw["rope_parameters"] = {"full_attention": full, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
        if r.random() < 0.3:
            kw["final_logit_softcapping"] = r.choice([30.0, None])
    elif family in GEMMA:
        kw["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}
    else:
        kw["rope_parameters"] = rope_of(r, family, theta, max_pos)
    if family in EXPERTS:
        random_experts(r, family, kw)
    opts["sizes"] = {k: v for k, v in kw.items() if "token_id" not in k}
    classes = {"llama": transformers.LlamaConfig, "mistral": transformers.MistralConfig, "qwen2": transformers.Qwen2Config,
               "qwen3": transformers.Qwen3Config, "gemma3": transformers.Gemma3TextConfig,
               "mixtral": transformers.MixtralConfig, "qwen2_moe": transformers.Qwen2MoeConfig,
               "qwen3_moe": transformers.Qwen3MoeConfig, "olmoe": transformers.OlmoeConfig,
               "granitemoe": transformers.GraniteMoeConfig,
               "gemma": transformers.GemmaConfig, "gemma2": transformers.Gemma2Config,
               "granite": transformers.GraniteConfig, "olmo2": transformers.Olmo2Config,
               "seed_oss": transformers.SeedOssConfig, "smollm3": transformers.SmolLM3Config,
               "starcoder2": transformers.Starcoder2Config}
    return classes[family](**kw)


def random_experts(r, family, kw):
    n = r.choice([2, 3, 4, 8])
    kw[EXPERTS[family][1][0]] = n
    kw["intermediate_size"] = r.choice([48, 64, 96, 128])  # torch multiplies grouped matrices of whole 16 bytes
    kw["num_experts_per_tok"] = r.randrange(1, n + 1)
    if family == "qwen3_moe":
        kw["head_dim"] = kw.get("head_dim", 32)
        kw["attention_bias"] = r.random() < 0.2
        kw["norm_topk_prob"] = True  # GGUF does not say; all released models have it
        kw["moe_intermediate_size"] = r.choice([32, 48, 64])
        kw["mlp_only_layers"] = r.choice([[], [], [0]]) if kw["num_hidden_layers"] > 1 else []
    elif family != "mixtral":  # their classes know no head_dim
        kw.pop("head_dim", None)
        kw["hidden_size"] = kw["num_attention_heads"] * r.choice([16, 32, 64])
    if family == "qwen2_moe":
        kw["moe_intermediate_size"] = r.choice([32, 48, 64])
        kw["shared_expert_intermediate_size"] = r.choice([32, 96])
        kw["tie_word_embeddings"] = False  # mlx-lm knows no tied ones
    if family == "olmoe":
        kw["rms_norm_eps"] = 1e-5  # as the reference writes, whatever the config says
    if family == "granitemoe":
        kw.update(embedding_multiplier=12.0, logits_scaling=r.choice([6.0, 8.0]), residual_multiplier=0.22,
                  attention_multiplier=0.015625)


def unstacked(state):
    """The experts one by one, as lbrx writes them."""
    out = {}
    for k, v in state.items():
        head, _, what = k.rpartition(".")
        if what == "gate_up_proj":
            for e, m in enumerate(v):
                for name, half in zip(("gate_proj", "up_proj"), m.chunk(2)):
                    out["%s.%d.%s.weight" % (head, e, name)] = half
        elif what == "down_proj" and head.endswith(".experts"):
            out.update({"%s.%d.down_proj.weight" % (head, e): m for e, m in enumerate(v)})
        else:
            out[k] = v
    return out


def merged(state):
    """The experts stacked under the names that the reference merges them to."""
    out, by = {}, {}
    for k, v in state.items():
        parts = k.split(".")
        if "input_linear" in k:
            for name, half in zip(("gate_proj", "up_proj"), v.chunk(2, 1)):
                out[k.replace("block_sparse_moe.input_linear", "mlp.experts." + name)] = half
        elif "output_linear" in k:
            out[k.replace("block_sparse_moe.output_linear", "mlp.experts.down_proj")] = v
        elif "experts" in parts:
            e = int(parts.pop(parts.index("experts") + 1))
            by.setdefault(".".join(parts), {})[e] = v
        else:
            out[k] = v
    return out | {k: torch.stack([v[e] for e in range(len(v))]) for k, v in by.items()}


def mlx_to_hf(state):
    """Names and shapes of Hugging Face for the experts of an MLX folder."""
    mixtral = any("block_sparse_moe.gate." in k for k in state)
    names = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"} if mixtral else {}
    out = {}
    for k, v in state.items():
        head, _, what = k.removesuffix(".weight").rpartition(".switch_mlp.")
        if not head:
            out[k] = v
        elif any("router.layer" in n for n in state):
            if what == "gate_proj":
                out[head + ".input_linear.weight"] = torch.cat([v, state[k.replace("gate_proj", "up_proj")]], 1)
            elif what == "down_proj":
                out[head + ".output_linear.weight"] = v
        else:
            out.update({"%s.experts.%d.%s.weight" % (head, e, names.get(what, what)): m for e, m in enumerate(v)})
    return out


def stack_experts(folder):
    """The experts as transformers 5 holds them in memory: stacked, gate over up."""
    for f in folder.glob("*.safetensors"):
        tensors = load_file(f)
        by = {}
        for k in [k for k in tensors if ".experts." in k]:
            head, e, what, _ = k.rsplit(".", 3)
            by.setdefault(head, {}).setdefault(what, {})[int(e)] = tensors.pop(k)
        for head, parts in by.items():
            gate, up, down = ([parts[w][e] for e in range(len(parts[w]))] for w in ("gate_proj", "up_proj", "down_proj"))
            tensors[head + ".gate_up_proj"] = torch.stack([torch.cat(x) for x in zip(gate, up)])
            tensors[head + ".down_proj"] = torch.stack(down)
        save_file(tensors, f, metadata={"format": "pt"})


def older_config(r, folder, family):
    """config.json as transformers 4 wrote it."""
    path = folder / "config.json"
    c = json.loads(path.read_text())
    rope = c.pop("rope_parameters", None) or {}
    if family == "gemma3":
        full = dict(rope["full_attention"])
        c["rope_theta"] = full.pop("rope_theta")
        c["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        c["rope_scaling"] = None if full.get("rope_type") == "default" else full
        if r.random() < 0.6:
            c.pop("layer_types", None)
            c["sliding_window_pattern"] = 6
    else:
        rope = dict(rope)
        c["rope_theta"] = rope.pop("rope_theta")
        kind = rope.get("rope_type")
        if kind == "default":
            c["rope_scaling"] = None
        else:
            if r.random() < 0.4 and kind != "llama3":
                rope["type"] = rope.pop("rope_type")
            c["rope_scaling"] = rope
        if r.random() < 0.5:
            c.pop("layer_types", None)
    if "num_local_experts" in c and "num_local_experts" not in EXPERTS[family][1]:
        c["num_experts"] = c.pop("num_local_experts")
    if "dtype" in c:
        c["torch_dtype"] = c.pop("dtype")
    if r.random() < 0.3:
        for key in ("attention_bias", "mlp_bias", "attention_dropout", "pretraining_tp", "initializer_range", "use_cache",
                    "pad_token_id"):
            if not c.get(key) is True and (family, key) not in (
                    ("seed_oss", "attention_bias"), ("smollm3", "pad_token_id")):
                c.pop(key, None)
    if family in ("llama", "mistral") and c.get("head_dim") and \
            c["head_dim"] * c["num_attention_heads"] == c["hidden_size"] and r.random() < 0.5:
        c.pop("head_dim")
    if not c["tie_word_embeddings"] and family not in ("gemma3", "qwen3_moe", "smollm3", "starcoder2") and r.random() < 0.3:
        c.pop("tie_word_embeddings")
    c["transformers_version"] = "4.46.0"
    if r.random() < 0.3:
        c["_name_or_path"] = r.choice(["meta-llama/Llama-2-7b-hf", "./out/checkpoint-20", ""])
    path.write_text(json.dumps(dict(sorted(c.items())), indent=2) + "\n")


def generate(r, work, index):
    """(folder, options) of one random model."""
    opts = {"family": r.choice(FAMILIES)}
    family = opts["family"]
    spm = {"llama": 0.5, "mistral": 0.6, "gemma3": 0.9, "gemma": 1, "gemma2": 1, "granite": 0.2, "smollm3": 0.1}
    spm = EXPERTS[family][0] if family in EXPERTS else spm.get(family, 0.0)
    folder = work / ("m%d" % index) / r.choice(NAMES)
    tok = work / ("m%d" % index) / "tok"
    tok.mkdir(parents=True)
    maker = make_spm if r.random() < spm else make_bpe
    config, named, n_tokens, ids = maker(r, family, tok, opts)
    opts["pad"] = r.choice([0, 0, 0, 1, 7, 64])
    cfg = random_config(r, family, n_tokens + opts["pad"], ids, opts)
    opts["dtype"] = r.choice(["bf16", "bf16", "f16", "f32"])
    opts["shard"] = r.choice([None, None, "100KB", "40KB"])
    torch.manual_seed(r.randrange(1 << 30))
    model = transformers.AutoModelForCausalLM.from_config(cfg)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    with contextlib.redirect_stderr(io.StringIO()):
        model.to(pc.DTYPES[opts["dtype"]]).save_pretrained(folder, **({"max_shard_size": opts["shard"]} if opts["shard"] else {}))
    if family in ("qwen2_moe", "qwen3_moe") and not opts["shard"] and r.random() < 0.3:
        opts["stacked"] = True
        stack_experts(folder)
    for f in tok.iterdir():
        shutil.copy(f, folder)
    opts["old"] = r.random() < 0.5
    if opts["old"]:
        older_config(r, folder, family)
    write_side_files(r, folder, config, named, ids, opts)
    opts["pre"] = PRE[0]
    return folder, opts


# ---- what is compared ----

TEXTS = ("Hello world", "The quick brown fox, 12345 times; it's I'LL\n\nand \tmore.", "caf\u00e9 \u4e2d\u6587\u5b57 \U0001f600 x",
         "  two  blanks ", "<|im_start|>user\nhi<|im_end|>\n<tool_call> x</think>", "<s>[INST] x </s>  y", "")


# A GGUF does not say how transformers' SentencePiece classes treat blanks at the start and after added tokens.
REBUILT = TEXTS[:2] + ("caf\u00e9 \U0001f600 x", "ab\u4e2d\u6587")


def tokens_equal(what, got, want, texts, template=True):
    a, b = (transformers.AutoTokenizer.from_pretrained(f) for f in (got, want))
    for text in texts:
        x, y = a(text)["input_ids"], b(text)["input_ids"]
        pc.check(x == y, "%s: tokens of %r: %s, expected %s" % (what, text, x[:14], y[:14]))
        if x == y:
            x, y = a.decode(x), b.decode(y)
            pc.check(x == y, "%s: text of the tokens of %r: %r, expected %r" % (what, text, x, y))
    for key in ("bos_token", "eos_token"):
        x, y = getattr(a, key), getattr(b, key)
        pc.check(x == y, "%s: %s is %r, expected %r" % (what, key, x, y))
    x, y = a.chat_template, b.chat_template
    pc.check(not template or x == y, "%s: chat template is %r, expected %r" % (what, x, y))


def run(*args):
    p = subprocess.run([pc.LBRX, *map(str, args)], capture_output=True, text=True, timeout=600)
    return p.returncode, p.stderr.strip()[-400:]


OUT = ("--no-sync", "--force", "-q")


def to_gguf(what, module, src, work, opts, outtype):
    """Ours and theirs, or None where the reference refuses."""
    ours, theirs = work / "ours.gguf", work / "theirs.gguf"
    theirs.unlink(missing_ok=True)
    flags = [] if outtype == opts["dtype"] else ["--dtype", outtype]
    rc, message = run("convert", src, "-o", ours, *OUT, *flags)
    if not module:
        refused = rc != 0 and opts["sizes"].get("mlp_only_layers")  # how, is looked at in one()
        return (ours, None) if not refused and pc.check(rc == 0, "%s: exit %d: %s" % (what, rc, message)) else None
    why = pc.reference(module, src, theirs, outtype)
    if why is not None:
        pc.skip("%s: the reference fails (%s); ours: exit %d %s" % (what, why[-200:], rc, message))
        return (ours, None) if rc == 0 else None
    if not pc.check(rc == 0, "%s: exit %d: %s" % (what, rc, message)):
        return None
    pc.compare_gguf(what, ours, theirs)
    return ours, theirs


def quantize(x, kind):
    """By libggml where LBRX_LIBGGML names it (libggml-base.so), else by gguf-py, which knows fewer types."""
    if LIBGGML and kind.name not in ("F32", "F16", "BF16"):
        size, bytes_per = gguf.GGML_QUANT_SIZES[kind]
        if x.shape[-1] % size:
            raise ValueError(kind)
        x = np.ascontiguousarray(x, np.float32)
        out = np.zeros(x.size // size * bytes_per, np.uint8)
        ones = np.ones(x.shape[-1], np.float32)
        ptr = [a.ctypes.data_as(ctypes.c_void_p) for a in (x, out, ones)]
        LIBGGML.ggml_quantize_chunk(int(kind), ptr[0], ptr[1], ctypes.c_int64(0), ctypes.c_int64(x.shape[0]),
                                    ctypes.c_int64(x.shape[1]), ptr[2])
        return out.reshape(x.shape[0], -1)
    return gguf.quants.quantize(x, kind)


def quantized_gguf(r, what, theirs, work, src):
    """The reference's file with each matrix in a type of gguf-py: by value."""
    reader = gguf.GGUFReader(theirs)
    kinds = [gguf.GGMLQuantizationType[k] for k in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4", "BF16", "F16", "F32",
                                                    "TQ1_0", "TQ2_0") + K_QUANTS]
    path = work / "quant.gguf"
    w = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for f in reader.fields.values():
        if f.name.startswith("GGUF.") or f.name == "general.architecture":
            continue
        kind = f.types[0]
        w.add_key_value(f.name, f.contents(), kind, f.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    want, last = {}, None
    for t in reader.tensors:
        x = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        x = x.reshape([int(n) for n in reversed(t.shape)])
        kind = r.choice(kinds) if x.ndim >= 2 else gguf.GGMLQuantizationType.F32
        if "ffn_up_exps" in t.name and last and "ffn_gate_exps" in last[0]:
            kind = last[1]  # halves of one matrix in granitemoe
        elif "ffn_gate_inp" in t.name:
            kind = gguf.GGMLQuantizationType.F32
        try:
            data = quantize(x, kind)
        except Exception:
            kind = gguf.GGMLQuantizationType.F16
            data = gguf.quants.quantize(x, kind)
        w.add_tensor(t.name, data, raw_dtype=kind)
        last = (t.name, kind)
        want[t.name] = (torch.from_numpy(gguf.quants.dequantize(data, kind).reshape(x.shape).astype(np.float32).copy()), kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    back = work / "back"
    rc, message = run("convert", path, "-o", back, "--to", "hf", *OUT)
    if not pc.check(rc == 0, "%s: exit %d: %s" % (what, rc, message)):
        return
    got = merged(pc.state(back))
    arch = reader.fields["general.architecture"].contents()
    heads = reader.fields[arch + ".attention.head_count"].contents()
    kv = reader.fields[arch + ".attention.head_count_kv"].contents()
    names = gguf.get_tensor_name_map(next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == arch),
                                     reader.fields[arch + ".block_count"].contents())
    by_name = {names.get_name(k, try_suffixes=(".weight", ".bias")): k for k in got}
    quant_types = {gguf.GGMLQuantizationType[k] for k in ("F32", "F16", "BF16")}
    for name, (x, kind) in want.items():
        if name == "rope_freqs.weight" or not pc.check(name in by_name, "%s: %s is lost" % (what, name)):
            continue
        if arch in ("llama", "granite", "granitemoe", "smollm3") and name.split(".")[2:3] in (["attn_q"], ["attn_k"]):
            x = torch.from_numpy(pc.permuted(x.numpy(), heads if ".attn_q." in name else kv).copy())
        if arch in GEMMA and name.endswith("norm.weight"):
            x = x - 1
        y = got[by_name[name]]
        if kind not in quant_types:
            x = x.to(torch.bfloat16)
            pc.check(pc.same_bits(y, x), "%s: %s (%s): %s; %d of %d values differ" % (
                what, name, kind.name, y.dtype, int((y.float() != x.float()).sum()), x.numel()))
        elif "ffn_gate_inp" in name:  # F32 in every GGUF
            pc.check(bool((y.float() == x.to(y.dtype).float()).all()), "%s: %s: values" % (what, name))
        elif x.ndim >= 2:
            pc.check(bool((y.float() == x).all()), "%s: %s (%s): values" % (what, name, kind.name))
    model = transformers.AutoModelForCausalLM.from_pretrained(back, dtype="auto")
    with torch.no_grad():
        model(torch.arange(3, 23).reshape(1, -1))


def mlx_logits(what, ours, src, opts):
    model, _ = pc.mlx_lm.load(str(ours))
    if opts["family"] in ("qwen3_moe", "starcoder2") and opts["sizes"]["rope_parameters"]["rope_type"] != "default":
        return  # mlx-lm's classes have no rope scaling
    # mlx-lm knows no attention factor, no soft cap in gemma3, and no gemma3 without a global layer
    if "attention_factor" not in str(opts["sizes"]) and not opts["sizes"].get("final_logit_softcapping") and \
            (opts["family"] != "gemma3" or opts["sizes"]["num_hidden_layers"] >= 6):
        if opts["family"] in EXPERTS:  # mlx on a CPU has experts in f32 only; f32 chooses the same ones
            model.set_dtype(pc.mx.float32)
        x = np.array(model(pc.mx.array([list(range(3, 23))])).astype(pc.mx.float32))
        if opts["family"] in EXPERTS:
            m = transformers.AutoModelForCausalLM.from_pretrained(src, dtype=torch.float32).eval()
            with torch.no_grad():
                ref = m(torch.arange(3, 23).reshape(1, -1)).logits.numpy()
        else:
            ref = pc.logits(src).float().numpy()
        scale = np.abs(ref).max()
        near = np.abs(x - ref).max() / scale
        pc.check(near < {"bf16": 0.15, "f16": 0.02, "f32": 0.004}[opts["dtype"]],
                 "%s: logits of mlx-lm and of transformers differ by %.3g of %.3g" % (what, near * scale, scale))


def mlx_part(r, what, src, work, opts, want):
    mx, mlx_lm = pc.mx, pc.mlx_lm
    ours, theirs, back = work / "ours-mlx", work / "theirs-mlx", work / "back"
    for f in (ours, theirs):
        shutil.rmtree(f, ignore_errors=True)
    rc, message = run("convert", src, "-o", ours, "--to", "mlx", "--no-sync", "-q")
    try:
        pc.mlx_convert(src, theirs)
    except Exception as e:
        if opts["family"] in EXPERTS and not opts["sizes"].get("attention_bias") and \
                (opts["family"] != "mixtral" or "head_dim" not in opts["sizes"]) and \
                pc.check(rc == 0, "%s: exit %d: %s" % (what, rc, message)):
            mlx_logits(what + " (ours alone)", ours, src, opts)
        pc.skip("%s: mlx_lm.convert: %s; ours: exit %d" % (what, str(e)[:200], rc))
        if rc:  # what its class has no form for
            pc.check(rc == 3 and "mlx-lm" in message, "%s: exit %d: %s" % (what, rc, message))
        return rc == 0
    if not pc.check(rc == 0, "%s: exit %d: %s" % (what, rc, message)):
        return
    c = json.loads((src / "config.json").read_text())
    if "tie_word_embeddings" not in c and opts["family"] != "gemma3" and "lm_head.weight" in want:
        return pc.skip(what + ": mlx-lm takes a config without tie_word_embeddings for a tied one and loses a matrix")
    pc.compare_states(what, pc.mlx_state(ours), pc.mlx_state(theirs))
    a, b = (json.loads((f / "config.json").read_text()) for f in (ours, theirs))
    added = {k: a[k] for k in a.keys() - b.keys()}
    pc.check(added.keys() <= {"rope_scaling", "rope_theta", "rope_local_base_freq", "sliding_window_pattern",
                              "query_pre_attn_scalar", "tie_word_embeddings", "head_dim", "num_experts"} |
             ({"attention_bias", "mlp_bias"} if opts["family"] in ("granite", "seed_oss") else set()),
             "%s: config.json has more: %s" % (what, added))
    pc.check(all(a.get(k) == v for k, v in b.items()), "%s: config.json: %s" %
             (what, {k: (a.get(k), v) for k, v in b.items() if a.get(k) != v}))
    mlx_logits(what, ours, src, opts)
    rc, message = run("convert", theirs, "-o", back, "--to", "hf", *OUT)
    if pc.check(rc == 0, "%s -> hf: exit %d: %s" % (what, rc, message)):
        pc.compare_states(what + " -> hf", pc.state(back), want)
        a, b = (json.loads((f / "config.json").read_text()) for f in (back, src))
    mlx_quantized(r, what, src, work, opts)


def mlx_quantized(r, what, src, work, opts):
    theirs, values, back, out = work / "theirs-q", work / "values", work / "back", work / "q.gguf"
    kw = r.choice([dict(q_bits=b, q_group_size=g) for b in (2, 3, 4, 5, 6, 8) for g in (32, 64, 128)] +
                  [dict(quant_predicate=p) for p in ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")] * 2 +
                  [dict(q_mode="mxfp4", q_bits=4, q_group_size=32), dict(q_mode="mxfp8", q_bits=8, q_group_size=32),
                   dict(q_mode="nvfp4", q_bits=4, q_group_size=16)] * 3)
    what = "%s %s" % (what, kw)
    try:
        pc.mlx_convert(src, theirs, quantize=True, **kw)
        pc.mlx_convert(theirs, values, dequantize=True)
    except Exception as e:
        return pc.skip("%s: mlx_lm.convert: %s" % (what, str(e)[:200]))
    stored = pc.mlx_state(theirs)
    want = pc.mlx_state(values)
    rounded = {k: v.to(torch.bfloat16) if k.removesuffix("weight") + "scales" in stored else v
               for k, v in want.items()}
    want, rounded = (mlx_to_hf(x) if any("switch_mlp" in k for k in x) else x for x in (want, rounded))
    rc, message = run("convert", theirs, "-o", back, "--to", "hf", *OUT)
    if pc.check(rc == 0, "%s -> hf: exit %d: %s" % (what, rc, message)):
        got = pc.state(back)
        pc.check(got.keys() == want.keys(), "%s: names %s" % (what, sorted(got.keys() ^ want.keys())[:4]))
        for k in got.keys() & want.keys():
            w = rounded[k]
            pc.check(pc.same_bits(got[k], w), "%s: %s: %s, expected %s; %d values differ" %
                     (what, k, got[k].dtype, w.dtype, int((got[k].float() != w.float()).sum())))
        transformers.AutoModelForCausalLM.from_pretrained(back, dtype="auto")
    if opts["sizes"].get("mlp_only_layers"):
        return
    rc, message = run("convert", theirs, "-o", out, "--dtype", "f32", *OUT)
    if not pc.check(rc == 0, "%s -> gguf: exit %d: %s" % (what, rc, message)):
        return
    rc, message = run("convert", out, "-o", back, "--to", "hf", *OUT)
    if pc.check(rc == 0, "%s -> gguf -> hf: exit %d: %s" % (what, rc, message)):
        got = pc.state(back)
        for k in got.keys() & want.keys():
            if not k.endswith("norm.weight"):
                want[k] = want[k][:got[k].shape[0]]  # gemma3: rows without a token
                pc.check(got[k].float().equal(want[k].float()), "%s -> gguf: %s: values" % (what, k))


SMALL = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja",
         "chat_template.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json",
         "additional_chat_templates/rag.jinja")


def around(what, src, work, steps, want, opts):
    """src through the formats of steps and back to hf; the last comparison is byte by byte."""
    at = src
    for i, to in enumerate(steps):
        out = work / ("step%d%s" % (i, ".gguf" if to == "gguf" else ""))
        rc, message = run("convert", at, "-o", out, "--to", to, *OUT)
        if not pc.check(rc == 0, "%s: %s: exit %d: %s" % (what, to, rc, message)):
            return
        at = out
    pc.compare_states(what, pc.state(at), cut(want, pc.state(at), opts), None, opts["family"] not in GEMMA)
    for f in SMALL:
        if (src / f).exists():
            same = (at / f).exists() and (at / f).read_bytes() == (src / f).read_bytes()
            if f == "config.json" and ("mlx" in steps or opts["family"] == "gemma3" and opts["pad"]):
                continue  # completed, or cut with the vocabulary
            if "legacy" in opts["tok"] and f.startswith(("tokenizer_config", "special_tokens", "chat_template.json")):
                continue  # a tokenizer.json takes the place of vocab.json and merges.txt
            pc.check(same, "%s: %s is not the original's" % (what, f))


def no_word_on_bos(path, folder):
    """Where a GGUF does not say whether BOS is added, llama.cpp has a rule of its own; so has lbrx. Where it
    does because tokenizer_config.json says so, transformers goes by tokenizer.json alone."""
    fields = gguf.GGUFReader(path).fields
    config = folder / "tokenizer_config.json"
    if config.exists() and {"add_bos_token", "add_eos_token"} & json.loads(config.read_text()).keys():
        return fields["tokenizer.ggml.model"].contents() == "gpt2"
    return fields["tokenizer.ggml.model"].contents() == "gpt2" and \
        not {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"} <= fields.keys()


def gguf_lacks(opts):
    """What the reference leaves out of a GGUF."""
    s = opts["sizes"]
    return opts["family"] in ("mistral", "starcoder2") and s.get("sliding_window") or \
        opts["family"] in ("gemma2", "gemma3") and s["query_pre_attn_scalar"] != s["head_dim"]


def cut(want, got, opts):
    """gemma3's GGUF keeps only the rows of the embedding that the tokenizer knows, as the reference's."""
    if opts["family"] != "gemma3" or not opts["pad"]:
        return want
    n = got["model.embed_tokens.weight"].shape[0]
    return {k: v[:n] if v.shape[0] > n and "embed_tokens" in k else v for k, v in want.items()}


def one(index, seed, module, work, keep):
    r = random.Random("%s/%s" % (seed, index))
    folder, opts = generate(r, work, index)
    what = "#%d %s" % (index, opts["family"])
    print("%s: %s" % (what, json.dumps({k: v for k, v in opts.items()}, default=str)), flush=True)
    want = unstacked(pc.state(folder)) if opts.get("stacked") else pc.state(folder)
    outtype = r.choice([opts["dtype"], opts["dtype"], "f16", "bf16", "f32"])
    files = to_gguf("%s -> %s gguf" % (what, outtype), module, folder, work, opts, outtype)
    exact = opts["family"] not in GEMMA or opts["dtype"] == "bf16"
    if opts["sizes"].get("mlp_only_layers"):  # no form in GGUF, for the reference and for lbrx
        rc, message = run("convert", folder, "-o", work / "no.gguf", *OUT)
        pc.check(files is None and rc == 3 and "mlp_only_layers" in message, "%s: exit %d: %s" % (what, rc, message))
        around(what + " -> mlx -> hf", folder, work, ("mlx", "hf"), want, opts)
        exact = False
    if files:
        for whose, path in zip(("ours", "theirs"), files):
            if path is None:
                continue
            back = work / "back"
            w = "%s -> %s gguf (%s) -> hf" % (what, outtype, whose)
            rc, message = run("convert", path, "-o", back, "--to", "hf", *OUT)
            if not pc.check(rc == 0, "%s: exit %d: %s" % (w, rc, message)):
                continue
            if outtype == opts["dtype"]:
                pc.compare_states(w, pc.state(back), cut(want, pc.state(back), opts), None, opts["family"] not in GEMMA)
            if exact and outtype in (opts["dtype"], "f32") and \
                    (whose == "ours" or not gguf_lacks(opts)):
                a = transformers.AutoModelForCausalLM.from_pretrained(back, dtype=torch.float32).eval()
                b = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
                ids = torch.arange(3, 43).reshape(1, -1)
                with torch.no_grad():
                    x, y = a(ids).logits, b(ids).logits
                n = min(x.shape[-1], y.shape[-1])
                pc.check(x[..., :n].equal(y[..., :n]), "%s: logits differ by %g" % (w, (x[..., :n] - y[..., :n]).abs().max()))
            rebuilt = whose == "theirs" and opts["tok"].startswith("spm")
            texts = REBUILT if rebuilt else TEXTS
            if not (folder / "tokenizer_config.json").exists() and whose == "theirs":
                continue
            if (whose == "theirs" or "legacy" in opts["tok"]) and (opts.get("strip") or no_word_on_bos(path, folder)):
                texts = ()
            # transformers does not read chat_template.json
            tokens_equal(w, back, folder, texts, opts["template"] != "json")
        if files[1]:
            quantized_gguf(r, what + " -> quantized gguf -> hf", files[1], work, folder)
    has_mlx = pc.mx is None or mlx_part(r, what + " -> mlx", folder, work, opts, want) is not False
    around(what + " -> gguf -> hf", folder, work, ("gguf", "hf"), want, opts) if exact else None
    around(what + " -> mlx -> gguf -> hf", folder, work, ("mlx", "gguf", "hf"), want, opts) if exact and has_mlx else None
    if keep:
        shutil.copytree(folder, pathlib.Path(keep) / ("m%d" % index) / folder.name, dirs_exist_ok=True)
    for f in work.iterdir():
        if f.is_dir():
            shutil.rmtree(f)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--seed", default="1")
    a.add_argument("--n", type=int, default=10)
    a.add_argument("--only", default="")
    a.add_argument("--family", default="", help="draw from these, with commas between")
    a.add_argument("--keep", default="")
    args = a.parse_args()
    FAMILIES[:] = args.family.split(",") if args.family else FAMILIES
    module = pc.load_script()
    if module:
        from conversion import base
        base.TextModel.get_vocab_base_pre = lambda self, tokenizer: PRE[0]
    else:
        pc.skip("LBRX_CONVERT_HF_TO_GGUF does not name the reference converter")
    if pc.mx is None:
        pc.skip("no package mlx_lm")
    pc.logging.disable(pc.logging.CRITICAL)
    numbers = [int(x) for x in args.only.split(",")] if args.only else range(args.n)
    for index in numbers:
        with tempfile.TemporaryDirectory(prefix="lbrx-random-") as d:
            try:
                one(index, args.seed, module, pathlib.Path(d), args.keep)
            except Exception:
                pc.check(False, "#%d: %s" % (index, traceback.format_exc()))
    print("peer_random: %d passed, %d failed, %d skipped [cost: slow] %.1f s" %
          (pc.passed, pc.failed, pc.skipped, time.time() - pc.START))
    sys.exit(pc.failed != 0)


main()
