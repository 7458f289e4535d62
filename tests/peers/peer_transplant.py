#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch safetensors tokenizers transformers mergekit
"""peer_transplant.py [--seed S] [--n N] [--lbrx FILE]: lbrx transplant against mergekit-tokensurgeon 0.1.5 on small
models with tokenizers of both kinds (byte-level BPE, SentencePiece-like BPE with byte tokens) trained on different
texts: every row of both matrices for what is determined, distributions for what is drawn, config and tokenizer, and
that transformers loads and runs the result."""
import argparse
import contextlib
import io
import json
import logging
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import warnings

START = time.time()
sys.dont_write_bytecode = True
warnings.filterwarnings("ignore")
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
import transformers
from click.testing import CliRunner
from mergekit.io.tasks import LoaderCache
from mergekit.scripts import tokensurgeon
from mergekit.tokenizer.normalization import normalized_vocabulary
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

transformers.logging.set_verbosity_error()
logging.disable(logging.CRITICAL)
passed = failed = 0
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TEXTS = [
    ["the quick brown fox jumps over the lazy dog and runs away from the house at the end of the street",
     "language models can be merged when their vocabularies are the same or nearly so, and otherwise not",
     "def main():\n    return transplant(model, donor)  # tokens\n", "one naive cafe near the street, data for all",
     "1234567890 2026 3.14159", "in the beginning there was a tokenizer that split words into pieces"],
    ["a different text trains another vocabulary with other merges of words and of their pieces",
     "the house of the dog is brown and the fox is lazy, the street is quick", "def run(args):\n    print(args)\n",
     "transplanting a tokenizer needs embeddings for tokens that the model has never seen before", "naïve été 日本 Ω≈ç"],
]


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL", what, flush=True)
    return ok


# ---- models ----

def byte_level(folder, text, size, names, cls):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys(v for v in names.values())) + ["<|im_start|>"]
    t.train_from_iterator(text, trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False,
                                                    initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": cls, **names}))
    return t.get_vocab_size()


def pieces(folder, text, size, names, cls):
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>"] + list(dict.fromkeys(v for v in names.values() if v != "<unk>"))
    t.train_from_iterator(text, trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                                    special_tokens=special + [f"<0x{i:02X}>" for i in range(256)]))
    j = json.loads(t.to_str())
    j["added_tokens"] = [a for a in j["added_tokens"] if not a["content"].startswith("<0x")]
    (folder / "tokenizer.json").write_text(json.dumps(j, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": cls, **names}))
    return len(j["model"]["vocab"])


KINDS = {
    "gpt2": (byte_level, {"bos_token": "<|end|>", "eos_token": "<|end|>", "unk_token": "<|end|>"}, "GPT2TokenizerFast"),
    "fast": (byte_level, {"bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<pad>"}, "PreTrainedTokenizerFast"),
    "llama": (pieces, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, "LlamaTokenizerFast"),
    "padded": (pieces, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}, "LlamaTokenizerFast"),
}


def make(folder, kind, text, size, hidden, seed, dtype=torch.float32, tied=False, spare=0):
    folder.mkdir()
    build, names, cls = KINDS[kind]
    vocab = build(folder, TEXTS[text] * 3, size, names, cls)
    vocab += spare
    g = torch.Generator().manual_seed(seed)
    r = lambda *s: (torch.randn(*s, generator=g) * 0.05).to(dtype)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
              "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1,
              "vocab_size": vocab, "rms_norm_eps": 1e-5, "max_position_embeddings": 128, "rope_theta": 10000.0,
              "hidden_act": "silu", "tie_word_embeddings": tied, "bos_token_id": 0, "eos_token_id": 1,
              "torch_dtype": str(dtype)[6:]}
    (folder / "config.json").write_text(json.dumps(config))
    h, kv, p = hidden, hidden // 2, "model.layers.0."
    state = {EMBED: r(vocab, h), "model.norm.weight": r(h), p + "self_attn.q_proj.weight": r(h, h),
             p + "self_attn.k_proj.weight": r(kv, h), p + "self_attn.v_proj.weight": r(kv, h),
             p + "self_attn.o_proj.weight": r(h, h), p + "mlp.gate_proj.weight": r(96, h),
             p + "mlp.up_proj.weight": r(96, h), p + "mlp.down_proj.weight": r(h, 96),
             p + "input_layernorm.weight": r(h), p + "post_attention_layernorm.weight": r(h)}
    if not tied:
        state[HEAD] = r(vocab, h)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


# ---- runs ----

def mergekit(model, donor, out, options):
    LoaderCache().loaders.clear()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        r = CliRunner().invoke(tokensurgeon.main, [str(model), str(donor), str(out), *options])
    return r.exception if r.exit_code else None


def ours(lbrx, model, donor, out, options):
    r = subprocess.run([lbrx, "transplant", model, donor, "-o", out, "-q", *options], capture_output=True, text=True)
    return check(r.returncode == 0, f"lbrx: {r.stderr.strip()}")


def row_errors(a, b):
    a, b = a.double(), b.double()
    return (a - b).norm(dim=1) / b.norm(dim=1).clamp_min(1e-9)


def plain_rows(donor):
    """Rows of tokens whose text is the same to both: ASCII without a role."""
    v = normalized_vocabulary(transformers.AutoTokenizer.from_pretrained(donor))
    text = {k: k if isinstance(k, str) else k[1] if k[0].value == "word_start" else "\xff" for k in v}
    return torch.tensor([i for k, i in v.items() if text[k].isascii() and not text[k].startswith("<0x")])


def compare(lbrx, folder, model, donor, options, tolerance, rows=None):
    what = f"{model.name} {donor.name} {' '.join(options)}"
    a, b = (folder / f"{k}-{abs(hash(what)) % 10**9}" for k in ("lbrx", "mergekit"))
    why = mergekit(model, donor, b, options)
    if not check(why is None, f"{what}: mergekit: {why!r}") or not ours(lbrx, model, donor, a, options):
        return
    x, y = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    if not check(sorted(x) == sorted(y), f"{what}: tensors {sorted(set(x) ^ set(y))}"):
        return
    for name in x:
        if name not in (EMBED, HEAD):
            check(torch.equal(x[name], y[name]), f"{what}: {name}")
        elif check(x[name].shape == y[name].shape and x[name].dtype == y[name].dtype, f"{what}: {name} {x[name].shape}"):
            e = row_errors(x[name], y[name])
            e = e if rows is None else e[rows]
            check(bool((e <= tolerance).all()), f"{what}: {name}: {int((e > tolerance).sum())} of {len(e)} rows off, "
                  f"by up to {float(e.max()):.3g}")
    c, d = (json.loads((k / "config.json").read_text()) for k in (a, b))
    for key in ("vocab_size", "bos_token_id", "eos_token_id", "hidden_size", "tie_word_embeddings"):
        check(c.get(key) == d.get(key), f"{what}: config {key}: {c.get(key)} and {d.get(key)}")
    t, u = (transformers.AutoTokenizer.from_pretrained(k) for k in (a, donor))
    check(t.get_vocab() == u.get_vocab() and t.special_tokens_map == u.special_tokens_map, f"{what}: tokenizer")
    return a


def runs(folder):
    m = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    t = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        y = m(torch.tensor([t("the quick brown fox")["input_ids"]])).logits
    check(bool(torch.isfinite(y).all()) and y.shape[-1] == m.config.vocab_size, f"{folder.name}: logits")


# ---- what 0.1.5 has and cannot run, or runs to something else ----

def with_rope_theta(self, name):
    """transformers 5 keeps it elsewhere, where mergekit does not look."""
    where = self.__dict__.get("rope_parameters") or {}
    if name == "rope_theta" and "rope_theta" in where:
        return where["rope_theta"]
    raise AttributeError(name)


def mended():
    transformers.LlamaConfig.__getattr__ = with_rope_theta
    real = tokensurgeon.compute_token_basis
    tokensurgeon.compute_token_basis = lambda *a: real(*a[:5], a[5].k)  # it is given the options for k


def rotated(lbrx, folder, model, donor):
    """landmark_pca by its definition, in float64; mergekit's rotation is turned the other way round."""
    out = folder / f"pca-{model.name}{donor.name}"
    if not ours(lbrx, model, donor, out, ["-a", "landmark_pca"]):
        return
    vo, vd = (normalized_vocabulary(transformers.AutoTokenizer.from_pretrained(k)) for k in (model, donor))
    shared = sorted(set(vo) & set(vd), key=lambda k: vd[k])
    fresh = torch.tensor([vd[k] for k in vd if k not in vo])
    m, d, x = (load_file(k / "model.safetensors") for k in (model, donor, out))
    for name in (EMBED, HEAD):
        if name not in x:
            continue
        e = d.get(name, d[EMBED]).double()
        a, b = e[[vd[k] for k in shared]], m[name].double()[[vo[k] for k in shared]]
        q = min(a.shape[1], b.shape[1])
        va, vb = (torch.linalg.svd(k - k.mean(0), full_matrices=False)[2][:q].T for k in (a, b))
        u, _, vt = torch.linalg.svd(((a - a.mean(0)) @ va).T @ ((b - b.mean(0)) @ vb))
        want = (e[fresh] - a.mean(0)) @ va @ (u @ vt) @ vb.T + b.mean(0)
        off = row_errors(x[name][fresh], want)
        check(bool((off < 1e-5).all()), f"{model.name} {donor.name} landmark_pca: {name} off by {float(off.max()):.3g}")


# ---- what is drawn ----

def drawn(lbrx, folder, model, donor):
    state = load_file(model / "model.safetensors")
    zero = folder / "zero"
    if not ours(lbrx, model, donor, zero, ["-a", "zero"]):
        return
    fresh = load_file(zero / "model.safetensors")[EMBED].abs().sum(dim=1) == 0
    n = int(fresh.sum())
    outs = {}
    for method in ("randn", "john_hewitt"):
        rows = []
        for seed in range(8):
            out = folder / f"{method}-{seed}"
            if not ours(lbrx, model, donor, out, ["-a", method, "--seed", str(seed)]):
                return
            x = load_file(out / "model.safetensors")
            check(torch.equal(x[EMBED][~fresh], load_file(zero / "model.safetensors")[EMBED][~fresh]), f"{method}: matches")
            check(not torch.equal(x[EMBED][fresh], x[HEAD][fresh]), f"{method}: the same numbers twice")
            rows.append(x[EMBED][fresh])
        outs[method] = torch.cat(rows).double()
        check(len(torch.unique(outs[method], dim=0)) == 8 * n, f"{method}: rows repeat")
    x = outs["randn"]
    check(abs(float(x.mean())) < 4 / x.numel() ** 0.5 and abs(float(x.var()) - 1) < 0.05, "randn: moments")
    x, e = outs["john_hewitt"], state[EMBED].double()
    cov, want = x.T.cov(), e.T.cov(correction=0)
    check(float((x.mean(0) - e.mean(0)).norm() / e.std() / e.shape[1] ** 0.5) < 4 / len(x) ** 0.5, "john_hewitt: mean")
    noise = (e.shape[1] / len(x)) ** 0.5
    check(float((cov - want).norm() / want.norm()) < 2.5 * noise, f"john_hewitt: covariance off by "
          f"{float((cov - want).norm() / want.norm()):.3g}")
    out = folder / "noisy"
    if ours(lbrx, model, donor, out, ["-a", "zero", "--new-vocab-noise", "0.5"]):
        x = load_file(out / "model.safetensors")[EMBED]
        check(abs(float(x[fresh].std()) - 0.5) < 0.03, "noise: deviation")
        check(torch.equal(x[~fresh], load_file(zero / "model.safetensors")[EMBED][~fresh]), "noise: matches changed")


def fixed(lbrx, folder):
    make(folder / "A", "gpt2", 0, 420, 48, 1)
    make(folder / "B", "fast", 1, 400, 64, 2, spare=8)
    make(folder / "C", "llama", 0, 480, 64, 3)
    make(folder / "D", "padded", 1, 430, 48, 4, tied=True)
    make(folder / "E", "gpt2", 1, 400, 64, 5, dtype=torch.bfloat16)
    f = lambda a, b, *o, tol=1e-5, rows=None: compare(lbrx, folder, folder / a, folder / b, list(o), tol, rows)
    for a, b in ("AB", "BC", "CA", "DC", "CD"):
        out = f(a, b, "-k", "16")
        if out and b != "D":
            runs(out)
    f("A", "B", "-a", "zero")
    f("A", "B", "-a", "mean")
    f("A", "B", "-k", "16", "--magikarp")
    f("C", "A", "-k", "16", "--magikarp")
    f("A", "C", "-k", "16", "--prefix-match", "yes", "--byte-match", "yes")
    f("C", "B", "-k", "16", "--new-vocab-scale", "0.5")
    for w in ("distance_proportional", "barycentric", "least_squares"):
        f("A", "B", "-k", "16", "-a", "common_interpolation", "-w", w)
        f("D", "C", "-k", "16", "-a", "common_interpolation", "-w", w, "-c")
    f("A", "B", "-k", "80", "-a", "common_interpolation", "-w", "least_squares", tol=1e-4)  # wider than the rows
    f("A", "B", "-k", "80", "-a", "common_interpolation", "-w", "barycentric", tol=1e-4)
    for s in ("mean", "sum", "weighted_mean", "first_last"):
        f("A", "B", "-a", "subword", "-s", s, rows=plain_rows(folder / "B"))
    f("C", "D", "-a", "subword", rows=plain_rows(folder / "D"))
    # in bf16 mergekit rounds once, or more often: a unit in the last place
    f("E", "A", "-k", "16", tol=2.0**-8)
    f("A", "E", "-k", "16")
    f("E", "A", "-a", "mean", tol=2.0**-8)
    drawn(lbrx, folder, folder / "A", folder / "B")
    for a, b in ("AB", "BA", "AD", "DA", "AC"):
        rotated(lbrx, folder, folder / a, folder / b)
    mended()
    for a, b in ("AB", "CA", "DC"):
        f(a, b, "-a", "mp_rope", "-k", "12")
        f(a, b, "-a", "stb", "-k", "16", tol=2e-4)  # eigenvectors of float32 there


def one(lbrx, r, folder):
    kinds = list(KINDS)
    spec = lambda text: dict(text=text, size=r.randint(360, 520), hidden=r.choice([32, 48, 64]), seed=r.randrange(1 << 30),
                             spare=r.choice([0, 0, 16]), tied=r.random() < 0.3)
    make(folder / "M", r.choice(kinds), **spec(0))
    make(folder / "N", r.choice(kinds), **spec(1))
    if r.random() < 0.6:
        options = ["-k", str(r.randint(1, 14))]
    else:
        options = ["-a", "common_interpolation", "-k", str(r.randint(1, 14)), "-w",
                   r.choice(["distance_proportional", "barycentric", "least_squares"])]
        options += ["-c"] if r.random() < 0.4 else []
    for flag, p in (("--magikarp", 0.3), ("--prefix-match=yes", 0.3), ("--byte-match=yes", 0.3), ("--new-vocab-scale=1.5", 0.2)):
        options += [flag] if r.random() < p else []
    compare(lbrx, folder, folder / "M", folder / "N", options, 2e-5)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--n", type=int, default=8)
    ap.add_argument("--lbrx", default=os.environ.get("LBRX", "build/lbrx"))
    args = ap.parse_args()
    with tempfile.TemporaryDirectory() as d:
        fixed(args.lbrx, pathlib.Path(d))
    for k in range(args.n):
        with tempfile.TemporaryDirectory() as d:
            before = failed
            one(args.lbrx, random.Random(f"{args.seed} {k}"), pathlib.Path(d))
            if failed > before:
                print(f"  case {k} of seed {args.seed}")
    print(f"peer_transplant: {passed} passed, {failed} failed, 0 skipped [cost: slow] {time.time() - START:.1f} s")
    return failed > 0


sys.exit(main())
