#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: tokenizers transformers sentencepiece
"""peer_tokenize.py [--seed S] [--n N] [--vocabs FOLDER]: `lbrx tokenize` on random texts and random ids, against
  tokenizers     BPE, Unigram, WordPiece and WordLevel trained on this suite's own text, with the normalizers,
                 pre-tokenizers and decoders that such models have: ids of texts, and texts of ids, with and without
                 special tokens, on both ways
  sentencepiece  a tokenizer.model of BPE or Unigram alone, with its tables of characters and treatment of blanks
  llama.cpp      ggml-vocab-*.gguf with their .inp and .out (--vocabs, or VOCABS: its folder `models`)"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import peer_encode
import sentencepiece
from peer_encode import LINES, added, byte_level, check, compare, post, text, with_fallback
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from sentencepiece import sentencepiece_model_pb2 as pb

LBRX = os.environ.get("LBRX", "build/lbrx")


def lbrx(path, lines, *flags):
    p = subprocess.run([LBRX, "tokenize", str(path), "--jsonl", *flags], text=True, capture_output=True,
                       input="".join(json.dumps(l) + "\n" for l in lines))
    return p, [json.loads(l) for l in p.stdout.split("\n") if l]


def train_spm(root, r, kind, **more):
    opts = dict(vocab_size=500, model_type=kind, num_threads=1, minloglevel=2, max_sentencepiece_length=10,
                normalization_rule_name=r.choice(["identity", "nfkc", "nmt_nfkc", "nmt_nfkc_cf"]),
                byte_fallback=r.random() < 0.5, add_dummy_prefix=r.random() < 0.8,
                remove_extra_whitespaces=r.random() < 0.5, character_coverage=0.9995, **more)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_prefix=str(root / "tokenizer"), **opts)
    (root / "tokenizer.vocab").unlink()
    return opts


def charsmap(root, r):
    rule = r.choice(["nfkc", "nmt_nfkc", "nmt_nfkc_cf"])
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES[:50]), model_prefix=str(root / "map"),
                                             model_type="char", vocab_size=60, minloglevel=2, hard_vocab_limit=False,
                                             normalization_rule_name=rule)
    m = pb.ModelProto.FromString((root / "map.model").read_bytes())
    for f in root.glob("map.*"):
        f.unlink()
    return m.normalizer_spec.precompiled_charsmap


def unigram(r, root):
    t = Tokenizer(models.Unigram())
    steps = []
    if r.random() < 0.7:
        steps.append(normalizers.Precompiled(charsmap(root, r)))
    if r.random() < 0.5:
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    if r.random() < 0.3:
        steps.append(normalizers.Nmt())
    if steps:
        t.normalizer = normalizers.Sequence(steps)
    scheme = r.choice(["always", "first", "never"])
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=r.random() < 0.7)
    t.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return "unigram", t, trainers.UnigramTrainer(vocab_size=500, show_progress=False, unk_token="<unk>",
                                                 special_tokens=["<unk>", "<s>", "</s>"])


def wordpiece(r, root):
    t = Tokenizer(models.WordPiece(unk_token="<unk>", max_input_chars_per_word=r.choice([10, 100])))
    t.normalizer = normalizers.BertNormalizer(clean_text=r.random() < 0.8, handle_chinese_chars=r.random() < 0.8,
                                              strip_accents=r.choice([None, True, False]), lowercase=r.random() < 0.7)
    t.pre_tokenizer = r.choice([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Whitespace(),
                                pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])])
    t.decoder = decoders.WordPiece(cleanup=r.random() < 0.7)
    return "wordpiece", t, trainers.WordPieceTrainer(vocab_size=600, show_progress=False,
                                                     special_tokens=["<unk>", "<s>", "</s>"])


def wordlevel(r, root):
    t = Tokenizer(models.WordLevel(unk_token="<unk>"))
    t.pre_tokenizer = r.choice([pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit(),
                                pre_tokenizers.CharDelimiterSplit(" ")])
    return "wordlevel", t, trainers.WordLevelTrainer(vocab_size=400, show_progress=False,
                                                     special_tokens=["<unk>", "<s>", "</s>"])


def bpe(r, root):
    name, t, trainer = (byte_level if r.random() < 0.5 else with_fallback)(r)
    if name in ("prepend", "replace"):
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()] +
                                      ([decoders.Strip(" ", 1, 0)] if name == "prepend" else
                                       [decoders.Strip(" ", 0, 2)] if r.random() < 0.2 else []))
    elif name == "metaspace":
        t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(
            prepend_scheme=r.choice(["always", "never"]))])
    elif r.random() < 0.2:
        t.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("ab", "X"), decoders.Strip(" ", 2, 1)])
    return "bpe " + name, t, trainer


def suffix(r, root):
    t = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.decoder = decoders.BPEDecoder(suffix="</w>")
    return "bpe with suffix", t, trainers.BpeTrainer(vocab_size=500, show_progress=False, end_of_word_suffix="</w>",
                                                     special_tokens=["<unk>"])


def folder(t, root):
    t.save(str(root / "tokenizer.json"))
    (root / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    (root / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return Tokenizer.from_file(str(root / "tokenizer.json"))


def fast(r, args, i, root):
    name, t, trainer = r.choice([unigram, unigram, wordpiece, wordpiece, wordlevel, bpe, bpe, suffix])(r, root)
    t.train_from_iterator(LINES, trainer)
    for a in added(r):
        (t.add_special_tokens if a.special else t.add_tokens)([a])
    p = post(r, t)
    if p:
        t.post_processor = p
    theirs = folder(t, root)
    texts = [text(r, [a.content for a in t.get_added_tokens_decoder().values()]) for _ in range(80)]
    for flags in ([], ["--no-bos"], ["--no-special"]):
        theirs.encode_special_tokens = flags == ["--no-special"]
        q, ours = lbrx(root, texts, *flags)
        what = "case %d: %s %s" % (i, name, flags)
        if not check(q.returncode == 0, "%s: %s" % (what, q.stderr)):
            return
        compare(what, texts, ours, [theirs.encode(x, add_special_tokens=flags != ["--no-bos"]).ids for x in texts])
    n = t.get_vocab_size()
    special = {k for k, v in t.get_added_tokens_decoder().items() if v.special}
    ids = [theirs.encode(x).ids for x in texts[:40]]
    ids += [[r.randrange(n) for _ in range(r.randrange(12))] for _ in range(80)]
    ids = [[k for k in l if theirs.id_to_token(k) is not None] for l in ids]
    for skip in (False, True):
        q, ours = lbrx(root, ids, "--detokenize", *(["--no-special"] if skip else []))
        what = "case %d: %s back%s" % (i, name, " without special tokens" if skip else "")
        if check(q.returncode == 0, "%s: %s" % (what, q.stderr)):
            # the library skips by text, and misses tokens that it keeps in normalized form
            compare(what, ids, ours, [theirs.decode([k for k in x if not (skip and k in special)],
                                                    skip_special_tokens=False) for x in ids])


def pieces(r, args, i, root):
    kind = r.choice(["unigram", "bpe"])
    opts = train_spm(root, r, kind)
    arch = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]} if kind == "unigram" else \
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (root / "config.json").write_text(json.dumps(dict(arch, vocab_size=500)))
    (root / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    sp = sentencepiece.SentencePieceProcessor(model_file=str(root / "tokenizer.model"))
    texts = [t for t in (text(r, ["x"]) for _ in range(80)) if t and "\x00" not in t]
    q, ours = lbrx(root, texts, "--no-bos")
    what = "pieces %d: %s" % (i, {k: opts[k] for k in ("model_type", "normalization_rule_name", "byte_fallback",
                                                       "add_dummy_prefix", "remove_extra_whitespaces")})
    if check(q.returncode == 0, "%s: %s" % (what, q.stderr)):
        compare(what, texts, ours, [sp.encode(x) for x in texts])


def vocabs(path):
    for inp in sorted(pathlib.Path(path).glob("*.gguf.inp")):
        texts = inp.read_text("utf-8").split("\n__ggml_vocab_test__\n")
        want = [[int(x) for x in l.split()] for l in pathlib.Path(str(inp)[:-4] + ".out").read_text().split("\n")]
        texts = texts[:len(want)]
        q, ours = lbrx(str(inp)[:-4], texts, "--no-bos")
        if check(q.returncode == 0, "%s: %s" % (inp.name, q.stderr)):
            compare(inp.name, texts, ours, want[:len(texts)])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--n", type=int, default=30)
    p.add_argument("--vocabs", default=os.environ.get("VOCABS"))
    args = p.parse_args()
    for i in range(args.n):
        with tempfile.TemporaryDirectory() as d:
            (pieces if i % 5 == 4 else fast)(random.Random(args.seed * 1000 + i), args, i, pathlib.Path(d))
    if args.vocabs:
        vocabs(args.vocabs)
    print("peer_tokenize: %d passed, %d failed, %d skipped" % (peer_encode.passed, peer_encode.failed, not args.vocabs))
    return peer_encode.failed > 0


sys.exit(main())
