#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: sentencepiece tokenizers gguf
"""peer_tok_kinds.py [--seed S] [--n N]: vocabularies beside BPE, from a GGUF as the reference writes it:
  Unigram ("t5")      tokenizer.json gives the ids of sentencepiece, tokenizer.model is the same model again
  WordPiece ("bert")  tokenizer.json gives the ids of the tokenizer that the keys were made from
Vocabularies are trained on this suite's own text. What is compared of texts with a table of characters has no
characters that combine: the tokenizers library looks up clusters where sentencepiece looks up characters.
"""
import argparse
import io
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import unicodedata

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LBRX = os.environ.get("LBRX", "build/lbrx")
HERE = pathlib.Path(__file__).resolve().parents[2]
START = time.time()
passed = failed = 0


def check(ok, what):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAILED %s" % what)


def corpus():
    files = ["README.md", "STYLE.md", "docs/formats.md", "tests/golden/text/corpus.txt"]
    return [l for f in files for l in (HERE / f).read_text("utf-8").split("\n") if l.strip()]


def texts(r, n):
    """Lines, words, blanks and characters of all kinds, none that combines."""
    lines, out = corpus(), ["", " ", "   ", "a", " a  b ", "<s> x", "[MASK] y"]
    blanks = [" ", "  ", "\n", "\t", "\u00a0", "\u3000"]
    for _ in range(n):
        s = ""
        for _ in range(r.randrange(1, 12)):
            k = r.random()
            if k < 0.4:
                line = r.choice(lines)
                at = r.randrange(len(line))
                s += line[at:at + r.randrange(1, 20)]
            elif k < 0.7:
                s += r.choice(blanks)
            else:
                s += chr(r.choice([r.randint(0x21, 0x7e), r.randint(0xa1, 0x17f), r.randint(0x400, 0x44f),
                                   r.randint(0x4e00, 0x4eff), r.randint(0xff01, 0xff5e), r.randint(0x1f600, 0x1f64f)]))
        if not any(unicodedata.category(c).startswith(("M", "C")) and c not in "\n\t" for c in unicodedata.normalize("NFD", s)
                   if unicodedata.combining(c) == 0) and not any(unicodedata.combining(c) for c in s):
            out.append(s)
    return out


def writer(path, model):
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(64)
    w.add_embedding_length(8)
    w.add_block_count(1)
    w.add_feed_forward_length(8)
    w.add_head_count(1)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model(model)
    return w


def convert(w, path, out, what):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    p = subprocess.run([LBRX, "convert", path, "-o", out, "--to", "hf", "--no-sync", "--force", "-q"],
                       capture_output=True, text=True)
    check(p.returncode == 0, "%s: %s" % (what, p.stderr.strip()))
    return p.returncode == 0


def compare(what, got, want, cases, score=None):
    """score: of each id; cuts of one text that are worth the same are equal."""
    def same(g, w):
        return g == w or (score and len(g) == len(w) and abs(sum(map(score, g)) - sum(map(score, w))) < 1e-3)
    bad = [(t, g, w) for t, g, w in zip(cases, got, want) if not same(g, w)]
    check(not bad, "%s: %d of %d, first %r: %s, expected %s" % ((what, len(bad), len(cases)) + (bad or [("", "", "")])[0]))


def unigram(r, i, d):
    opts = dict(model_type="unigram", vocab_size=r.choice([450, 600]), hard_vocab_limit=False, minloglevel=2,
                character_coverage=0.98, byte_fallback=r.random() < 0.3, add_dummy_prefix=r.random() < 0.7,
                remove_extra_whitespaces=r.random() < 0.6,
                normalization_rule_name=r.choice(["identity", "nmt_nfkc", "nfkc", "nmt_nfkc_cf"]))
    if r.random() < 0.4:
        opts.update(control_symbols=["<ctl>"])
    if r.random() < 0.4:
        opts.update(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    buf = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_writer=buf, **opts)
    m = pb.ModelProto()
    m.ParseFromString(buf.getvalue())
    s = sentencepiece.SentencePieceProcessor(model_proto=buf.getvalue())
    n, pad = len(m.pieces), r.choice([0, 5])
    path, out, what = d / "u.gguf", d / "u", "unigram #%d %s" % (i, opts)
    w = writer(path, "t5")
    w.add_tokenizer_pre("default")
    w.add_token_list([p.piece.encode() for p in m.pieces] + [b"[PAD%d]" % k for k in range(n, n + pad)])
    w.add_token_scores([p.score for p in m.pieces] + [-10000.0] * pad)
    w.add_token_types([p.type for p in m.pieces] + [5] * pad)
    w.add_add_space_prefix(m.normalizer_spec.add_dummy_prefix)
    w.add_remove_extra_whitespaces(m.normalizer_spec.remove_extra_whitespaces)
    if m.normalizer_spec.precompiled_charsmap:
        w.add_precompiled_charsmap(m.normalizer_spec.precompiled_charsmap)
    w.add_unk_token_id(s.unk_id())
    if s.bos_id() >= 0:
        w.add_bos_token_id(s.bos_id())
    w.add_eos_token_id(s.eos_id())
    if not convert(w, path, out, what):
        return
    cases = [t for t in texts(r, 200) if "<" not in t]
    want = [s.encode(t) for t in cases]
    t = Tokenizer.from_file(str(out / "tokenizer.json"))
    compare(what + ": tokenizer.json", [t.encode(x, add_special_tokens=False).ids for x in cases], want, cases, s.get_score)
    compare(what + ": with EOS", [t.encode(x).ids for x in cases[:9]], [x + [s.eos_id()] for x in want[:9]], cases[:9], s.get_score)
    s = sentencepiece.SentencePieceProcessor(str(out / "tokenizer.model"))
    compare(what + ": tokenizer.model", [s.encode(x) for x in cases], want, cases)


def wordpiece(r, i, d):
    lower, accents = r.random() < 0.6, r.choice([None, True, False])
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=accents)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=r.choice([300, 700]), special_tokens=names,
                                                              show_progress=False))
    t.add_tokens([AddedToken("<plain>", normalized=False)])
    cls, sep, unk = (t.token_to_id(x) for x in ("[CLS]", "[SEP]", "[UNK]"))
    t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                                                     special_tokens=[("[CLS]", cls), ("[SEP]", sep)])
    n, pad = t.get_vocab_size(), r.choice([0, 3])
    tokens, types = [], []
    for k in range(n):
        x = t.id_to_token(k)
        kind = 3 if x in names else 4 if x == "<plain>" else 1
        tokens.append(x if kind == 3 else x[2:] if x.startswith("##") else "\u2581" + x)
        types.append(kind)
    path, out, what = d / "w.gguf", d / "w", "wordpiece #%d lower %s accents %s" % (i, lower, accents)
    w = writer(path, "bert")
    w.add_tokenizer_pre("jina-v2-en")
    w.add_token_list(tokens + ["\u2581[PAD%d]" % k for k in range(n, n + pad)])
    w.add_token_types(types + [5] * pad)
    w.add_bos_token_id(cls)
    w.add_sep_token_id(sep)
    w.add_unk_token_id(unk)
    w.add_bool("tokenizer.ggml.normalizer.lowercase", lower)
    if accents is not None:
        w.add_bool("tokenizer.ggml.normalizer.strip_accents", accents)
    if not convert(w, path, out, what):
        return
    cases = texts(r, 200) + ["<plain>x [CLS] [mask]"]
    b = Tokenizer.from_file(str(out / "tokenizer.json"))
    compare(what, [b.encode(x).ids for x in cases], [t.encode(x).ids for x in cases], cases)
    pairs = list(zip(cases, cases[1:]))[:20]
    compare(what + ": pairs", [(b.encode(*x).ids, b.encode(*x).type_ids) for x in pairs],
            [(t.encode(*x).ids, t.encode(*x).type_ids) for x in pairs], pairs)
    check([b.id_to_token(k) for k in range(n)] == [t.id_to_token(k) for k in range(n)], what + ": vocabulary")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--seed", default="1")
    a.add_argument("--n", type=int, default=6)
    args = a.parse_args()
    for i in range(args.n):
        r = random.Random("%s/%d" % (args.seed, i))
        with tempfile.TemporaryDirectory(prefix="lbrx-kinds-") as d:
            unigram(r, i, pathlib.Path(d))
            wordpiece(r, i, pathlib.Path(d))
    print("peer_tok_kinds: %d passed, %d failed, 0 skipped [cost: slow] %.1f s" % (passed, failed, time.time() - START))
    sys.exit(failed != 0)


main()
