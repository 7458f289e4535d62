#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_text.py: the small tokenizers of tests/golden/text and what the peers make of them.

    make_text.py LLAMA_CPP      in an environment with tokenizers, transformers, sentencepiece, gguf

Trains vocabularies of a few hundred tokens on corpus.txt in the shapes of the families, then writes
beside each folder NAME
    NAME.kv.json    keys that LLAMA_CPP's conversion/ writes for it (its set_vocab, run on the folder; only
                    the check of the pre-tokenizer's hash is replaced, since these vocabularies are no one's)
    NAME.ids.json   [text, ids] pairs by the tokenizers library
Made with tokenizers 0.23.3, transformers 5.23.0, sentencepiece 0.2.3, llama-cpp-python 0.3.36; internlm2 and kimi, which have
keys only, with transformers 5.24.0.
"""
import json
import os
import pathlib
import shutil
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
HERE = pathlib.Path(__file__).resolve().parent
CORPUS = HERE / "corpus.txt"
TEXTS = [
    "", " ", "Hello world", " Hello  world ", "We've 12345 letters, don't we?", "tab\tand\n\nnewline  \n x",
    "fließt über die Brücke", "e\u0301te\u0301 l'été", "今天 hello 世界", "안녕 नमस्ते مرحبا", "🙂🚀 ok", "a<|end|>b <s> </s>",
    "<|user|>hi<|end|>\n", "   leading", "x" * 40, "THE'LL we'Ll 'S 3.14 1,000", "\u00a0nbsp\u3000wide", "\u2581piece\u2581",
    "<start>a\n\n\nb    c", "if (total > limit) {\n        return -1;\n    }",
]
WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + WORD + r"|\p{N}{1,3}|" + TAIL
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + WORD + r"|\p{N}|" + TAIL


def dump(path, value, **options):
    path.write_text(json.dumps(value, **options), encoding="utf-8")


def bpe(name, pre, size, special, plain=(), normalizer=None, post=None, ignore_merges=False, legacy=False):
    """A byte-level BPE folder; special and plain tokens stand behind the vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.normalizer = normalizer
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    t.train([str(CORPUS)], trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_tokens([AddedToken(s, special=True, normalized=False) for s in special])
    t.add_tokens([AddedToken(s, special=False, normalized=False) for s in plain])
    if post:
        t.post_processor = post(t)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    t.save(str(folder / "tokenizer.json"))
    if legacy:  # merges as one string each, and escapes, as older writers have them
        j = json.load(open(folder / "tokenizer.json", encoding="utf-8"))
        j["model"]["merges"] = [" ".join(m) for m in j["model"]["merges"]]
        dump(folder / "tokenizer.json", j, indent=2)
    return folder, t


def template(bos, eos=None):
    from tokenizers import processors

    def make(t):
        tail = f" {eos}:0" if eos else ""
        known = [(x, t.token_to_id(x)) for x in (bos, eos) if x]
        return processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{bos}:0 $A:0{tail}", pair=f"{bos}:0 $A:0 {bos}:1 $B:1",
                                          special_tokens=known)])
    return make


def spm(name, **options):
    import sentencepiece

    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=str(CORPUS), model_prefix=str(folder / "tokenizer"), model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
        character_coverage=0.98, num_threads=1, **options)
    (folder / "tokenizer.vocab").unlink()
    return folder


def make_folders():
    from tokenizers import Regex, normalizers, pre_tokenizers, processors

    split = lambda p: pre_tokenizers.Split(Regex(p), "isolated")
    bytes_ = lambda **o: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False, **o)
    chat = "{% for m in messages %}<|{{ m.role }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"

    f, t = bpe("llama3", pre_tokenizers.Sequence([split(LLAMA3), bytes_()]), 480,
               ["<|begin_of_text|>", "<|end_of_text|>", "<|user|>", "<|end|>"], ignore_merges=True,
               post=template("<|begin_of_text|>"))
    dump(f / "tokenizer_config.json", {
        "bos_token": "<|begin_of_text|>", "eos_token": "<|end|>", "chat_template": chat,
        "clean_up_tokenization_spaces": True, "model_max_length": 131072,
        "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2)
    dump(f / "special_tokens_map.json", {"bos_token": "<|begin_of_text|>", "eos_token": "<|end|>"}, indent=2)
    dump(f / "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 488,
                             "bos_token_id": 480, "eos_token_id": [481, 483]})

    f, t = bpe("qwen2", pre_tokenizers.Sequence([split(QWEN2), bytes_(trim_offsets=False)]), 460,
               ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ["<tool_call>", "</tool_call>", "é"],
               normalizer=normalizers.NFC(), legacy=True,
               post=lambda t: processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False))
    dump(f / "tokenizer_config.json", {
        "add_bos_token": False, "add_prefix_space": False, "bos_token": None, "eos_token": "<|im_end|>",
        "pad_token": {"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": False}, "unk_token": None,
        "tokenizer_class": "Qwen2Tokenizer"}, indent=4, ensure_ascii=False)
    (f / "chat_template.jinja").write_text(chat + "\n", encoding="utf-8")
    dump(f / "config.json", {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 470,
                             "bos_token_id": 460, "eos_token_id": 462})

    f, t = bpe("smollm", pre_tokenizers.Sequence([pre_tokenizers.Digits(True),
                                                  pre_tokenizers.ByteLevel(add_prefix_space=False)]), 440, [])
    j = json.load(open(f / "tokenizer.json", encoding="utf-8"))
    first = next(iter(j["model"]["vocab"]))  # the first token becomes a special one, inside the vocabulary
    j["model"]["vocab"] = {("<|endoftext|>" if k == first else k): v for k, v in j["model"]["vocab"].items()}
    j["model"]["merges"] = [m for m in j["model"]["merges"] if first not in m and first not in "".join(m)]
    j["added_tokens"] = [{"id": 0, "content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True}]
    dump(f / "tokenizer.json", j, ensure_ascii=False, separators=(",", ":"))
    dump(f / "tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": [
            {"name": "default", "template": chat}, {"name": "tool use", "template": "{{ tools }}"},
            {"name": "rag", "template": "{{ documents }}"}]})
    dump(f / "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 440})

    f = spm("spm_llama", vocab_size=600)
    dump(f / "tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "added_tokens_decoder": {
            str(i): {"content": s, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                     "special": True} for i, s in enumerate(["<unk>", "<s>", "</s>"])},
        "legacy": True, "tokenizer_class": "LlamaTokenizer"}, indent=2)
    dump(f / "added_tokens.json", {"<|user|>": 600, "▁<|end|>": 601})
    dump(f / "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 604,
                             "bos_token_id": 1, "eos_token_id": 2})
    save_fast(f, "LlamaTokenizer")

    f = spm("spm_gemma", vocab_size=640, add_dummy_prefix=False, unk_id=3, bos_id=2, eos_id=1, pad_id=0,
            user_defined_symbols=["<start>", "\n\n", "\n\n\n", "▁▁", "▁▁▁", "▁▁▁▁", "<unused0>"])
    dump(f / "tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>",
        "unk_token": "<unk>", "added_tokens_decoder": {
            str(i): {"content": s, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                     "special": i < 4} for i, s in enumerate(
                ["<pad>", "</s>", "<s>", "<unk>", "<start>", "\n\n", "\n\n\n", "▁▁", "▁▁▁", "▁▁▁▁", "<unused0>"])},
        "tokenizer_class": "GemmaTokenizer"}, indent=2, ensure_ascii=False)
    dump(f / "config.json", {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": 640,
                             "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0})
    save_fast(f, "GemmaTokenizer")

    f = HERE / "hf_llama"  # the same tokenizer.json without a tokenizer.model
    shutil.rmtree(f, ignore_errors=True)
    f.mkdir()
    shutil.copy(HERE / "spm_llama" / "tokenizer.json", f)
    dump(f / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                                       "tokenizer_class": "PreTrainedTokenizerFast"})
    dump(f / "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 604})


def make_internlm2():
    """spm_llama's model with the tokens of a chat model over its last pieces and behind them."""
    from sentencepiece import sentencepiece_model_pb2

    f = HERE / "internlm2"
    shutil.rmtree(f, ignore_errors=True)
    f.mkdir()
    m = sentencepiece_model_pb2.ModelProto()
    m.ParseFromString((HERE / "spm_llama" / "tokenizer.model").read_bytes())
    m.pieces[590].piece = "\0"
    for i in range(591, 600):
        m.pieces[i].piece = "[UNUSED_TOKEN_%d]" % i
    (f / "tokenizer.model").write_bytes(m.SerializeToString())
    dump(f / "tokenizer_config.json", {
        "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>",
        "added_tokens_decoder": {
            str(i): {"content": s, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                     "special": special} for i, s, special in
            [(0, "<unk>", True), (1, "<s>", True), (2, "</s>", True), (596, "<|im_end|>", True),
             (597, "<|im_start|>", True), (598, "▁<|plugin|>", False), (601, "<|last|>", False)]},
        "chat_template": "{{ messages }}", "tokenizer_class": "InternLM2Tokenizer"}, indent=2, ensure_ascii=False)
    dump(f / "added_tokens.json", {"<|user|>": 7, "▁<|end|>": 8})
    dump(f / "config.json", {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "vocab_size": 600,
                             "bos_token_id": 1, "eos_token_id": 2})


def make_kimi():
    """A file of tiktoken of smollm's vocabulary, and the tokens that Kimi's own class names behind it."""
    import base64
    from conversion.qwen import QwenModel

    f = HERE / "kimi"
    shutil.rmtree(f, ignore_errors=True)
    f.mkdir()
    byte_of = {QwenModel.token_bytes_to_string(bytes([b])): b for b in range(256)}
    vocab = json.loads((HERE / "smollm" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    ranks = sorted((i, bytes(byte_of[c] for c in t)) for t, i in vocab.items())
    n = len(ranks)
    (f / "tiktoken.model").write_text("".join("%s %d\n" % (base64.b64encode(t).decode(), i) for i, t in ranks))
    dump(f / "tokenizer_config.json", {
        "tokenizer_class": "TikTokenTokenizer", "bos_token": "[BOS]", "eos_token": "[EOS]", "unk_token": "[UNK]",
        "auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]}, "chat_template": "{{ messages }}",
        "added_tokens_decoder": {str(n + i): {"content": t, "special": True} for i, t in
                                 [(0, "[BOS]"), (1, "[EOS]"), (2, "<|im_end|>"), (254, "[UNK]"), (255, "[PAD]")]}})
    dump(f / "config.json", {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "kimi_k2", "vocab_size": n + 260,
                             "bos_token_id": n, "eos_token_id": n + 2, "pad_token_id": n + 255})

    class Tokenizer:
        """What set_vocab asks of the class that comes with the model."""
        model = type("model", (), {"_mergeable_ranks": {t: i for i, t in ranks}})
        special_tokens = {"<|reserved_token_%d|>" % i: i for i in range(n, n + 256)}

    for i, t in json.loads((f / "tokenizer_config.json").read_text())["added_tokens_decoder"].items():
        Tokenizer.special_tokens.pop("<|reserved_token_%s|>" % i)
        Tokenizer.special_tokens[t["content"]] = int(i)
    import transformers
    transformers.AutoTokenizer.from_pretrained = staticmethod(lambda *a, **k: Tokenizer())


def make_gemma4():
    """spm_gemma's tokenizer.json, without a tokenizer.model, with the marks of a chat."""
    f = HERE / "gemma4"
    shutil.rmtree(f, ignore_errors=True)
    f.mkdir()
    t = json.loads((HERE / "spm_gemma" / "tokenizer.json").read_text(encoding="utf-8"))
    for i, s in enumerate(["<|channel>", "<channel|>", "<|turn>", "<|\"|>", "<plain>"]):
        t["added_tokens"].append({"id": 640 + i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
                                  "normalized": False, "special": i < 4})
    dump(f / "tokenizer.json", t, ensure_ascii=False, separators=(",", ":"))
    dump(f / "tokenizer_config.json", {
        "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
        "extra_special_tokens": {"channel": "<|channel>", "turn": "<|turn>"}, "chat_template": "{{ messages }}",
        "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2)
    dump(f / "config.json", {"architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4",
                             "text_config": {"model_type": "gemma4_text", "vocab_size": 650}})


def save_fast(folder, kind):
    """tokenizer.json of a SentencePiece folder, in the published files' own shape."""
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    m = sentencepiece_model_pb2.ModelProto()
    m.ParseFromString((folder / "tokenizer.model").read_bytes())
    vocab = {p.piece: i for i, p in enumerate(m.pieces)}
    scores = {p.piece: p.score for p in m.pieces}
    gemma = kind == "GemmaTokenizer"
    merges = []
    for word in vocab:
        cuts = [(word[:i], word[i:]) for i in range(1, len(word)) if word[:i] in vocab and word[i:] in vocab]
        merges += [(scores[word], *c) for c in sorted(cuts, key=lambda c: (vocab[c[0]], vocab[c[1]]))]
    # the orders of transformers' converters: SpmConverter's later one (gemma), and the one before
    merges.sort(key=lambda m: (m[0], len(m[1]), len(m[2])) if gemma else m[0], reverse=True)
    t = Tokenizer(models.BPE(vocab=vocab, merges=[m[1:] for m in merges], unk_token="<unk>", fuse_unk=True,
                             byte_fallback=True))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if gemma:
        t.normalizer = normalizers.Replace(" ", "▁")
        t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        back.append(decoders.Strip(" ", 1, 0))
    t.decoder = decoders.Sequence(back)
    t.add_tokens([AddedToken(o["content"], special=o["special"], normalized=False)
                  for o in config["added_tokens_decoder"].values()])
    added = folder / "added_tokens.json"
    if added.exists():
        t.add_tokens([AddedToken(s, normalized=False) for s in json.loads(added.read_text(encoding="utf-8"))])
    bos = ("<s>", vocab["<s>"])
    t.post_processor = processors.TemplateProcessing(single="<s>:0 $A:0", pair="<s>:0 $A:0 <s>:1 $B:1",
                                                     special_tokens=[bos])
    t.save(str(folder / "tokenizer.json"))


def reference(llama_cpp, name, arch, pre):
    """The keys that the converter's set_vocab writes for a folder."""
    sys.path[:0] = [str(llama_cpp / "gguf-py"), str(llama_cpp)]
    import logging

    import gguf
    from conversion.base import TextModel
    from conversion.deepseek import DeepseekV2Model
    from conversion.gemma import Gemma3Model, Gemma4Model
    from conversion.internlm import InternLM2Model
    from conversion.llama import LlamaModel
    from conversion.qwen import Qwen2Model

    logging.disable(logging.CRITICAL)
    kind = {"llama": LlamaModel, "qwen2": Qwen2Model, "gemma3": Gemma3Model,
            "internlm2": InternLM2Model, "deepseek2": DeepseekV2Model, "gemma4": Gemma4Model}.get(arch, TextModel)
    model = object.__new__(kind)
    model.dir_model = HERE / name
    model.hparams = json.loads((HERE / name / "config.json").read_text())
    model.is_mistral_format = False
    model.origin_hf_arch = None
    model.gguf_writer = gguf.GGUFWriter(None, arch)
    model.gguf_writer.kv_data = [{}]
    model.get_vocab_base_pre = lambda tokenizer: pre
    model.set_vocab()
    types = {gguf.GGUFValueType.UINT32: "u32", gguf.GGUFValueType.INT32: "i32", gguf.GGUFValueType.FLOAT32: "f32",
             gguf.GGUFValueType.BOOL: "bool", gguf.GGUFValueType.STRING: "str", gguf.GGUFValueType.ARRAY: "array"}
    out = {}
    for key, v in model.gguf_writer.kv_data[0].items():
        value, row = v.value, {"type": types[v.type]}
        if row["type"] == "array":
            value = [x.decode() if isinstance(x, (bytes, bytearray)) else x for x in value]
            row["elem"] = types[gguf.GGUFValueType.get_type(value[0])]
            if row["elem"] == "i32":
                value = [int(x) for x in value]
            if key == "tokenizer.chat_templates":
                value = ["tool_use", "rag"]  # the converter writes a set, in an order that changes
        out[key] = {**row, "value": value}
    return out


def main(llama_cpp):
    make_folders()
    from tokenizers import Tokenizer

    for name, arch, pre in (("llama3", "llama", "llama-bpe"), ("qwen2", "qwen2", "qwen2"), ("smollm", "llama", "smollm"),
                            ("spm_llama", "llama", None), ("spm_gemma", "gemma3", None), ("hf_llama", "llama", None)):
        dump(HERE / f"{name}.kv.json", reference(llama_cpp, name, arch, pre))
        t = Tokenizer.from_file(str(HERE / name / "tokenizer.json"))
        dump(HERE / f"{name}.ids.json", [[s, t.encode(s).ids] for s in TEXTS])
    make_internlm2()
    dump(HERE / "internlm2.kv.json", reference(llama_cpp, "internlm2", "internlm2", None))
    make_kimi()
    dump(HERE / "kimi.kv.json", reference(llama_cpp, "kimi", "deepseek2", "kimi-k2"))
    make_gemma4()
    dump(HERE / "gemma4.kv.json", reference(llama_cpp, "gemma4", "gemma4", None))
    t = Tokenizer.from_file(str(HERE / "gemma4" / "tokenizer.json"))
    dump(HERE / "gemma4.ids.json", [[s, t.encode(s).ids] for s in TEXTS])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
