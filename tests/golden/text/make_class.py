#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_class.py: class.json, the vocabularies that transformers makes of small folders.

Each entry: the files of a folder (all with the same tokenizer.json) and the texts of all ids as
AutoTokenizer numbers them: what the class brings along, what the older files say.
Made with transformers 5.24.0, tokenizers 0.23.3.
"""
import json
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import transformers

HERE = pathlib.Path(__file__).resolve().parent
BYTES = {"version": "1.0", "truncation": None, "padding": None,
         "added_tokens": [{"id": 3, "content": "<|im_end|>", "single_word": False, "lstrip": False,
                           "rstrip": False, "normalized": False, "special": True}],
         "normalizer": None,
         "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
         "post_processor": None,
         "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
         "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                   "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                   "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}
EOS = {"eos_token": "<|im_end|>"}
ADDED = {"content": "<|x|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
# model_type, tokenizer_config.json, special_tokens_map.json, added_tokens.json
ROWS = [
    ("qwen2", EOS, None, None),
    ("qwen2", dict(EOS, tokenizer_class="PreTrainedTokenizerFast", unk_token=None), None, None),
    ("qwen2", dict(EOS, tokenizer_class="LlamaTokenizerFast", pad_token="<p>", unk_token=None), None, None),
    ("qwen3", EOS, None, None),
    ("qwen3", dict(EOS, tokenizer_class="Qwen2Tokenizer", pad_token=None, unk_token="<|im_end|>"), None, None),
    ("qwen3", dict(EOS, tokenizer_class="PreTrainedTokenizerFast"), None, None),
    ("qwen3_next", EOS, None, None),
    ("qwen3_5", dict(EOS, tokenizer_class="PreTrainedTokenizerFast", unk_token=None), None, None),
    ("qwen3_5_text", EOS, None, None),
    ("qwen3_5_text", dict(EOS, tokenizer_class="PreTrainedTokenizerFast"), None, None),
    ("llama", EOS, None, None),
    ("llama", dict(EOS, tokenizer_class="LlamaTokenizer"), None, None),
    ("llama", dict(EOS, tokenizer_class="GPT2Tokenizer"), None, None),
    ("llama", dict(EOS, tokenizer_class="CohereTokenizerFast"), None, None),
    ("llama", dict(EOS, tokenizer_class="GPTNeoXTokenizerFast"), None, None),
    ("mistral", dict(EOS, tokenizer_class="LlamaTokenizer"), None, None),
    ("gemma3_text", EOS, None, None),
    ("gemma3_text", dict(EOS, tokenizer_class="PreTrainedTokenizerFast", extra_special_tokens=["<e>"]), None, None),
    ("llama", dict(EOS, bos_token="<c>"), {"bos_token": "<m>", "pad_token": {"content": "<p>", "lstrip": False,
     "normalized": False, "rstrip": False, "single_word": False}}, {"<y>": 9, "<x>": 5}),
    ("llama", dict(EOS, bos_token="<c>", added_tokens_decoder={"7": ADDED}),
     {"bos_token": "<m>", "pad_token": "<p>"}, {"<y>": 4}),
    ("llama", dict(EOS, additional_special_tokens=["<1>", "<2>"]), {"additional_special_tokens": ["<3>"]}, None),
    ("llama", EOS, {"additional_special_tokens": ["<3>"], "extra_special_tokens": ["<4>"]}, None),
    ("llama", dict(EOS, extra_special_tokens=[], additional_special_tokens=["<1>"]), {"extra_special_tokens": ["<4>"]}, None),
    ("llama", dict(EOS, image_token="<img>", extra_special_tokens={"audio_token": "<a>"}), {"other_token": "<o>"}, None),
    ("qwen2", dict(EOS, added_tokens_decoder={"3": dict(ADDED, content="<|im_end|>", normalized=True)}), None, None),
] + [(model_type, dict(EOS, **more), None, None)
     for model_type in ("cohere", "cohere2", "starcoder2", "olmo2", "olmo3", "granite", "ministral3", "mistral3", "exaone4")
     for more in ({}, {"tokenizer_class": "GPT2Tokenizer"}, {"tokenizer_class": "CohereTokenizerFast"})
] + [(model_type, dict(EOS, **more), None, None)
     for model_type in (
         "deepseek_v2", "deepseek_v3", "ernie4_5", "ernie4_5_moe", "glm4", "glm4_moe", "gpt2", "gpt_oss", "granitemoe",
         "hunyuan_v1_dense", "internlm2", "lfm2", "lfm2_moe", "minimax_m2", "mixtral", "nemotron", "olmoe", "phi3", "qwen2_moe",
         "qwen3_moe", "seed_oss", "smollm3", "stablelm")
     for more in ({}, {"tokenizer_class": "GPT2Tokenizer"}, {"tokenizer_class": "LlamaTokenizerFast"})]


def main():
    out = []
    for model_type, config, older, added in ROWS:
        files = {"config.json": {"model_type": model_type}, "tokenizer.json": BYTES, "tokenizer_config.json": config}
        if older is not None:
            files["special_tokens_map.json"] = older
        if added is not None:
            files["added_tokens.json"] = added
        with tempfile.TemporaryDirectory() as d:
            for name, value in files.items():
                pathlib.Path(d, name).write_text(json.dumps(value))
            vocab = transformers.AutoTokenizer.from_pretrained(d).get_vocab()
        del files["tokenizer.json"]
        names = dict((i, t) for t, i in vocab.items())
        out.append({"files": files, "tokens": [names[i] for i in sorted(names)]})
    text = ",\n".join(json.dumps(o) for o in out)
    (HERE / "class.json").write_text('{"tokenizer":\n%s,\n"rows": [\n%s\n]}\n' % (json.dumps(BYTES), text))


main()
