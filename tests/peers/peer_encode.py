#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: tokenizers transformers sentencepiece
"""peer_encode.py [--seed S] [--n N] [--encode FILE]: ids of random texts with tokenizers trained on this suite's own text,
by text/encode.h and by
  tokenizers     byte-level BPE with the patterns of many families, BPE with byte fallback, normalizers, added tokens
                 with all flags, post-processors; with and without special tokens
  transformers   the same folders as AutoTokenizer opens them: what tokenizer_config.json adds; bos_token
  sentencepiece  a tokenizer.model of BPE alone
Texts that hold a code point that PCRE2's or utf8proc's Unicode does not know are left out."""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

sys.dont_write_bytecode = True
os.environ["HF_HUB_OFFLINE"] = "1"
import sentencepiece
import transformers
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

transformers.utils.logging.set_verbosity_error()
HERE = pathlib.Path(__file__).resolve().parents[2]
passed = failed = 0
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
PATTERNS = {  # as tokenizer.json of the families has them
    "llama3": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + CONTRACTIONS + r"?"
             r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + CONTRACTIONS + r"?"
             r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "bloom": r" ?[^(\s|[.,!?…。,、।۔،])]+",
    "digits": r"\p{N}",
    "words": r"[\p{Han}]+|\w+|[^\S\r\n]+|[^\w\s]|\s",
}


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL", what, flush=True)
    return ok


def corpus():
    files = ["README.md", "STYLE.md", "docs/formats.md", "tests/golden/text/corpus.txt"]
    return [l for f in files for l in (HERE / f).read_text("utf-8").split("\n") if l.strip()]


LINES = corpus()


def char(r):
    """One of all planes, as Unicode 14 has them. The library's tables of marks that combine are those of Unicode 9."""
    while True:
        c = chr(r.choice([r.randrange(32, 127), r.randrange(160, 0x250), r.randrange(0x250, 0x3000),
                          r.randrange(0x3000, 0xa000), r.randrange(0xac00, 0xd7a0), r.randrange(0x1f300, 0x1f650)]))
        if unicodedata.category(c) != "Cn" and (ord(c) < 0x370 or unicodedata.category(c) != "Mn"):
            return c


def text(r, special):
    parts = []
    for _ in range(r.randrange(0, 10)):
        k = r.random()
        line = r.choice(LINES)
        at = r.randrange(len(line))
        parts.append(line[at:at + r.randrange(1, 40)] if k < 0.4 else
                     "".join(char(r) for _ in range(r.randrange(1, 6))) if k < 0.6 else
                     r.choice([" ", "  ", "\n", "\n\n", "\t", " \r\n", "\u00a0", "\u3000", "    "]) if k < 0.75 else
                     r.choice(["don't", "I'LL", "x's", "12345", "3.14", "e\u0301", "\ufb01", "\u212b", "İ", "ǆ", "ß"])
                     if k < 0.9 else r.choice(special))
    return "".join(parts)


# ---- tokenizers ----

def added(r):
    out = [AddedToken("<s>", special=True), AddedToken("</s>", special=True), AddedToken("<unk>", special=True)]
    for t in ("<|user|>", "<|end|>", "[X]", "héé", "word", " lead", "<b><i>"):
        if r.random() < 0.6:
            out.append(AddedToken(t, special=r.random() < 0.4, lstrip=r.random() < 0.3, rstrip=r.random() < 0.3,
                                  single_word=r.random() < 0.2, normalized=r.random() < 0.3))
    return out


def byte_level(r):
    t = Tokenizer(models.BPE(ignore_merges=r.random() < 0.3))
    name = r.choice(list(PATTERNS) + ["plain", "prefix"])
    if name in ("plain", "prefix"):
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=name == "prefix")
    else:
        steps = [pre_tokenizers.Split(Regex(PATTERNS[name]), r.choice(["isolated", "isolated", "removed"])
                                      if name == "bloom" else "isolated")]
        if name == "gpt2" and r.random() < 0.5:
            steps.insert(0, r.choice([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation()]))
        t.pre_tokenizer = pre_tokenizers.Sequence(steps + [pre_tokenizers.ByteLevel(add_prefix_space=False,
                                                                                    use_regex=False)])
    t.normalizer = r.choice([None, None, normalizers.NFC(), normalizers.NFKC(), normalizers.StripAccents(),
                             normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])])
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=r.choice([600, 900]), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return name, t, trainer


def with_fallback(r):
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=r.random() < 0.8, fuse_unk=r.random() < 0.7))
    name = r.choice(["prepend", "metaspace", "replace"])
    if name == "metaspace":
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=r.choice(["first", "always", "never"]),
                                                   split=r.random() < 0.5)
        t.normalizer = r.choice([None, normalizers.Strip(), normalizers.Nmt()])  # may take the first character
    else:
        t.normalizer = normalizers.Sequence(([normalizers.Prepend("▁")] if name == "prepend" else []) +
                                            [normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False, max_token_length=12, limit_alphabet=80,
                                  special_tokens=["<unk>"] + ["<0x%02X>" % b for b in range(256)])
    return name, t, trainer


def post(r, t):
    ids = [("<s>", t.token_to_id("<s>")), ("</s>", t.token_to_id("</s>"))]
    return r.choice([None, processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=ids),
                     processors.TemplateProcessing(single="<s> $A </s>", pair="$A $B", special_tokens=ids),
                     processors.RobertaProcessing(ids[1], ids[0])])


def run_encode(args, path, texts, special):
    p = subprocess.run([args.encode, str(path)] + ([] if special else ["--no-special"]), text=True, capture_output=True,
                       input="".join(json.dumps(t) + "\n" for t in texts))
    lines = p.stdout.split("\n")
    return p, (json.loads(lines[0]) if p.returncode == 0 else None), [json.loads(l) for l in lines[1:] if l]


def compare(what, texts, ours, theirs):
    bad = [(t, a, b) for t, a, b in zip(texts, ours, theirs) if a != b]
    check(len(ours) == len(texts) and not bad, "%s: %d of %d: %s" % (what, len(bad), len(texts), bad[:1]))


def fast(r, args, i, root):
    name, t, trainer = (byte_level if r.random() < 0.65 else with_fallback)(r)
    t.train_from_iterator(LINES, trainer)
    # blanks that another has taken; the library panics where they strip themselves
    blanks = [AddedToken("  ", normalized=r.random() < 0.3)] if r.random() < 0.3 else []
    for a in added(r) + blanks:
        (t.add_special_tokens if a.special else t.add_tokens)([a])
    p = post(r, t)
    if p:
        t.post_processor = p
    f = PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    f.save_pretrained(root)
    (root / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    (root / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    texts = [text(r, [a.content for a in t.get_added_tokens_decoder().values()]) for _ in range(80)]
    theirs = AutoTokenizer.from_pretrained(root)
    for special in (True, False):
        q, bos, ours = run_encode(args, root, texts, special)
        what = "case %d: %s%s" % (i, name, "" if special else " without special tokens")
        if not check(q.returncode == 0, "%s: %s" % (what, q.stderr)):
            return
        compare(what + ": tokenizers", texts, ours, [t.encode(x, add_special_tokens=special).ids for x in texts])
        compare(what + ": transformers", texts, ours, [theirs(x, add_special_tokens=special).input_ids for x in texts])
        check(bos == theirs.bos_token, "%s: bos %r" % (what, bos))


def pieces(r, args, i, root):
    """A tokenizer.model by itself."""
    opts = dict(vocab_size=500, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
                add_dummy_prefix=True, remove_extra_whitespaces=False, num_threads=1, minloglevel=2,
                character_coverage=0.9995, max_sentencepiece_length=10)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_prefix=str(root / "tokenizer"), **opts)
    (root / "tokenizer.vocab").unlink()
    (root / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}))
    (root / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"],
                                                  "vocab_size": 500, "hidden_size": 64, "intermediate_size": 64,
                                                  "num_hidden_layers": 1, "num_attention_heads": 4}))
    (root / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    sp = sentencepiece.SentencePieceProcessor(model_file=str(root / "tokenizer.model"))
    texts = [t for t in (text(r, ["x"]) for _ in range(80)) if t and "\x00" not in t]
    q, bos, ours = run_encode(args, root, texts, False)
    if check(q.returncode == 0, "pieces %d: %s" % (i, q.stderr)):
        compare("pieces %d" % i, texts, ours, [sp.encode(x) for x in texts])
        check(bos == "<s>", "pieces %d: bos %r" % (i, bos))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--n", type=int, default=30)
    p.add_argument("--encode", default=os.environ.get("ENCODE", "build/cc/tests/encode"))
    args = p.parse_args()
    for i in range(args.n):
        with tempfile.TemporaryDirectory() as d:
            (pieces if i % 10 == 9 else fast)(random.Random(args.seed * 1000 + i), args, i, pathlib.Path(d))
    print("peer_encode: %d passed, %d failed, 0 skipped" % (passed, failed))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
