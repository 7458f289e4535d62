#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch safetensors transformers tokenizers gguf mergekit
"""peer_merge_vocab.py [--seed S] [--n N] [--lbrx FILE]: merges of models with different tokens against mergekit 0.1.5.

Small models with tokenizers of four kinds (byte-level BPE, BPE with byte fallback as Llama's, Unigram, WordLevel), with added tokens,
rows of no token, tied or not, of several types, merged by random files with tokenizer_source or a tokenizer section. Of
both results, opened with transformers: the tokens with their flags, the ids of those that the base has, how texts are cut; the rows of
each token bit for bit, rows of padding within two units in the last place, all other tensors, the config. Where mergekit
fails, rows are those of its documented rules, computed here. Some results go on to GGUF. Chat templates: what the
named ones make of conversations, and which one `auto` takes."""
import argparse
import itertools
import json
import logging
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

START = time.time()
sys.dont_write_bytecode = True
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402

import mergekit.config as mk_config  # noqa: E402
from mergekit._data import chat_templates  # noqa: E402
from mergekit.merge import run_merge  # noqa: E402
from mergekit.merge_methods.api import merge_tensors  # noqa: E402
from mergekit.options import MergeOptions  # noqa: E402

logging.disable(logging.CRITICAL)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
ROOT = pathlib.Path(__file__).resolve().parents[2]
passed = failed = 0
reasons, current = {}, None
counts = {"merges": 0, "tokens": 0, "refused by mergekit": 0, "texts": 0, "on to gguf": 0, "renderings": 0}


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok and failed <= 20:
        print("FAILED:", what, flush=True)
        if current and "-v" in sys.argv:
            print("   ", current)
    return ok


def in_order(self):
    """referenced_models, in the order of the file: mergekit's is that of a set."""
    out = [self.base_model] if self.base_model else []
    slices = [s for m in (self.modules or {}).values() for s in m.slices]
    for m in (self.models or []) + [x for s in slices for x in s.sources]:
        if m.model not in out:
            out.append(m.model)
    return out


mk_config.MergeConfiguration.referenced_models = in_order

# ---- tokenizers ----

TEXTS = ["the quick brown fox jumps over the lazy dog", "hello world, merge models together: tokens 12 345", "naïve café über straße",
         "der schnelle braune fuchs springt über den faulen hund", "hallo welt, tokens und modelle 12 99", "日本語 テキスト",
         "def f(x):\n    return x + 1", "models tokens vocab merge it's we've", "les modèles de langue, été"]
ADDED = ["<|im_start|>", "<|im_end|>", "<pad>", "<tool>", "the lazy", "<x>", "[INST]", "fox"]


def corpus(r):
    return [t for t in TEXTS for _ in range(r.randint(0, 4))] + [TEXTS[0], TEXTS[3]] * 3


def byte_level(r):
    t = Tokenizer(models.BPE())
    if r.random() < 0.3:
        t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(r), trainers.BpeTrainer(
        vocab_size=r.randint(280, 340), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"],
        show_progress=False))
    return t, "PreTrainedTokenizerFast", {"eos_token": "<|endoftext|>"}


def llama(r):
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    t.train_from_iterator([x.replace(" ", " ▁") for x in corpus(r)], trainers.BpeTrainer(
        vocab_size=r.randint(340, 420), special_tokens=special, show_progress=False))
    j = json.loads(t.to_str())
    j["added_tokens"] = [a for a in j["added_tokens"] if not a["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(j)), "LlamaTokenizer", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def unigram(r):
    t = Tokenizer(models.Unigram())
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(corpus(r), trainers.UnigramTrainer(vocab_size=r.randint(60, 90), special_tokens=["<unk>", "</s>"],
                                                             unk_token="<unk>", show_progress=False))
    return t, "PreTrainedTokenizerFast", {"eos_token": "</s>", "unk_token": "<unk>"}


def words(r):
    t = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.train_from_iterator(corpus(r), trainers.WordLevelTrainer(special_tokens=["[UNK]", "[EOS]"], vocab_size=r.randint(20, 60),
                                                               show_progress=False))
    return t, "PreTrainedTokenizerFast", {"eos_token": "[EOS]", "unk_token": "[UNK]"}


# ---- models ----

def write_model(r, folder, kind, seed, like=None):
    """like: a folder whose tokenizer it has."""
    t, cls, special = kind(r)
    if like:
        t = Tokenizer.from_file(str(like / "tokenizer.json"))
    for name in [] if like else r.sample(ADDED, r.randint(0, 5)):
        s = r.random() < 0.6
        t.add_tokens([AddedToken(name, special=s, normalized=not s and r.random() < 0.5, lstrip=r.random() < 0.3,
                                 rstrip=r.random() < 0.2, single_word=r.random() < 0.1)])
    folder.mkdir()
    t.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": cls, "model_max_length": 1000, **special}
    if r.random() < 0.2 and "<pad>" in t.get_vocab():
        config["pad_token"] = "<pad>"
    if r.random() < 0.3:
        config["added_tokens_decoder"] = {str(i): {"content": a.content, "lstrip": a.lstrip, "normalized": a.normalized,
                                                   "rstrip": a.rstrip, "single_word": a.single_word, "special": a.special}
                                          for i, a in sorted(t.get_added_tokens_decoder().items())}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    n = len(transformers.AutoTokenizer.from_pretrained(folder).get_vocab())
    rows = n + r.choice([0, 0, 0, 1, 5, 40]) - (r.randint(1, 3) if r.random() < 0.05 else 0)
    tied = r.random() < 0.3
    c = transformers.LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
                                 num_key_value_heads=1, vocab_size=rows, tie_word_embeddings=tied,
                                 architectures=["LlamaForCausalLM"], bos_token_id=1, eos_token_id=2)
    g = torch.Generator().manual_seed(seed)
    dtype = r.choice([torch.float32, torch.bfloat16, torch.bfloat16, torch.float16])
    c.dtype = dtype
    state = {k: torch.randn(s, generator=g) for k, s in {
        "model.embed_tokens.weight": (rows, 16), "lm_head.weight": (rows, 16), "model.norm.weight": (16,),
        "model.layers.0.self_attn.q_proj.weight": (16, 16), "model.layers.0.self_attn.k_proj.weight": (8, 16),
        "model.layers.0.self_attn.v_proj.weight": (8, 16), "model.layers.0.self_attn.o_proj.weight": (16, 16),
        "model.layers.0.mlp.gate_proj.weight": (24, 16), "model.layers.0.mlp.up_proj.weight": (24, 16),
        "model.layers.0.mlp.down_proj.weight": (16, 24), "model.layers.0.input_layernorm.weight": (16,),
        "model.layers.0.post_attention_layernorm.weight": (16,)}.items()}
    state["model.embed_tokens.weight"].view(-1)[:9] *= -0.0
    if tied:
        state.pop("lm_head.weight")
    c.save_pretrained(folder)
    save_file({k: v.to(dtype) for k, v in state.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


# ---- merge files ----

def pick_token(r, folder):
    v = transformers.AutoTokenizer.from_pretrained(folder).get_vocab()
    return r.choice(sorted(v))


def draw_file(r, folders):
    method = r.choice(["linear", "linear", "task_arithmetic", "passthrough", "nearswap"])
    n = {"linear": r.randint(1, 4), "task_arithmetic": r.randint(2, 4), "passthrough": 1}.get(method, 2)
    use = r.sample(folders, n)
    y = {"merge_method": method, "models": [], "parameters": {}}
    if method in ("task_arithmetic", "nearswap") or (method == "linear" and r.random() < 0.4):
        y["base_model"] = str(use[0])
    if method == "nearswap":
        y["parameters"] = {"t": 0.3}
    for f in use:
        weight = {"linear": r.choice([1.0, 0.5, 0.25]), "task_arithmetic": 0.5}.get(method)
        y["models"].append({"model": str(f), **({"parameters": {"weight": weight}} if weight else {})})
    if r.random() < 0.4:
        y["dtype"] = r.choice(["float32", "bfloat16", "float16"])
    other = r.choice(folders)
    source = r.choice(["union", "union", "base", str(other)])
    tied = {json.loads((f / "config.json").read_text())["tie_word_embeddings"] for f in use}
    if source != "union" and y["merge_method"] == "task_arithmetic" and len(tied) == 1 and r.random() < 0.5:
        # random numbers go by rows: where ids are the same, and mergekit's scheduler has no choice
        y["merge_method"] = "dare_linear"
        y["parameters"]["rescale"] = False
        for m in y["models"]:
            m["parameters"]["density"] = 0.5
    if r.random() < 0.4:
        y["tokenizer_source"] = source
        return y, use
    y["tokenizer"] = t = {"source": source}
    if r.random() < 0.4:
        t["pad_to_multiple_of"] = r.choice([1, 8, 64])
    names = r.sample(ADDED, r.randint(0, 3)) + [pick_token(r, r.choice(use))] * r.randint(0, 1)
    for name in names:
        f = r.choice(use)
        rows = json.loads((f / "config.json").read_text())["vocab_size"]
        kind = r.random()
        setting = {}
        if kind < 0.3:
            setting["source"] = {"kind": "zero"}
        elif kind < 0.6:
            setting["source"] = {"kind": "model_token", "model": str(f), "token": pick_token(r, f)}
        elif kind < 0.9:
            setting["source"] = {"kind": "model_token", "model": str(f), "token_id": r.randrange(rows)}
        else:
            setting["source"] = str(f)
        if r.random() < 0.3:
            setting["force"] = True
        t.setdefault("tokens", {})[name] = setting
    return y, use


# ---- the rules, for what mergekit fails on ----

class Model:
    def __init__(self, folder):
        self.state = load_file(folder / "model.safetensors")
        self.rows = self.state["model.embed_tokens.weight"].shape[0]
        self.vocab = {k: i for k, i in transformers.AutoTokenizer.from_pretrained(folder).get_vocab().items() if i < self.rows}
        self.tied = "lm_head.weight" not in self.state

    def get(self, name):
        return self.state["model.embed_tokens.weight" if name == "lm_head.weight" and self.tied else name]


class Refused(Exception):
    pass


def rows_by_rules(y, use, vocab, n_rows, name):
    ms = {str(f): Model(f) for f in use}
    dtype = None
    for m in ms.values():
        x = getattr(torch, y["dtype"]) if "dtype" in y else m.get(name).dtype
        dtype = x if dtype is None else torch.promote_types(dtype, x)
    mats = {k: m.get(name).to(dtype) for k, m in ms.items()}
    base = y.get("base_model")
    out = {k: torch.zeros(n_rows, 16, dtype=dtype) for k in ms}
    for token, i in vocab.items():
        has = [k for k in ms if token in ms[k].vocab]
        setting = ((y.get("tokenizer") or {}).get("tokens") or {}).get(token)
        force = bool(setting and setting.get("force"))
        if len(has) < len(ms) or force:
            source = setting["source"] if setting else None
            if isinstance(source, str):
                if token not in ms[source].vocab:
                    raise Refused(token)
                row = mats[source][ms[source].vocab[token]]
            elif source and source["kind"] == "zero":
                row = torch.zeros(16, dtype=dtype)
            elif source:
                m = ms[source["model"]]
                at = source["token_id"] if "token_id" in source else m.vocab.get(source["token"])
                if at is None or at >= m.rows:
                    raise Refused(token)
                row = mats[source["model"]][at]
            elif not has:
                row = torch.zeros(16, dtype=dtype)
            elif len(has) == 1 or base in has:
                k = has[0] if len(has) == 1 else base
                row = mats[k][ms[k].vocab[token]]
            else:
                row = torch.zeros(16, dtype=dtype)
                for k in has:
                    row = row + mats[k][ms[k].vocab[token]]
                row = row / len(has)
        for k in ms:
            out[k][i] = mats[k][ms[k].vocab[token]] if token in ms[k].vocab and not force else row
    n = max(vocab.values()) + 1
    for k in ms:
        out[k][n:] = out[k][:n].mean(dim=0)
    return out


def by_rules(y, use, vocab, n_rows):
    result = {}
    names = ["model.embed_tokens.weight"]
    if not all(Model(f).tied for f in use):
        names.append("lm_head.weight")
    for name in names:
        rows = rows_by_rules(y, use, vocab, n_rows, name)
        keys = list(rows)
        own = {p: {k: m["parameters"][p] for k, m in zip(keys, y["models"])} for p in ("weight",)
               if "parameters" in y["models"][0]}
        base = keys.index(y["base_model"]) if "base_model" in y and y["merge_method"] != "linear" else None
        result[name] = merge_tensors([rows[k] for k in keys], y["merge_method"], ids=keys, base_index=base, name=name,
                                     parameters={**y["parameters"], **own})
    return result


# ---- comparisons ----

def ulp(x, dtype):
    bits, low = {torch.bfloat16: (8, -133), torch.float16: (11, -24), torch.float32: (24, -149)}[dtype]
    e = torch.frexp(x.abs().double())[1].double() - bits
    return torch.pow(2.0, torch.clamp(e, min=float(low)))


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and bool((a.view(torch.uint8) == b.view(torch.uint8)).all())


def compare_rows(want, vw, got, vg, what):
    """Matrices whose rows are tokens, each by its own ids."""
    n, m = max(vw.values()) + 1, max(vg.values()) + 1
    if not check(want.shape == got.shape and want.dtype == got.dtype, f"{what}: {tuple(want.shape)} {want.dtype}, "
                                                                      f"not {tuple(got.shape)} {got.dtype}"):
        return
    names = list(vw)
    a, b = want[[vw[t] for t in names]], got[[vg[t] for t in names]]
    bad = [] if same_bits(a, b) else [i for i in range(len(names)) if not same_bits(a[i], b[i])][:3]
    check(not bad, f"{what}: rows of {[(names[i], a[i][:3], b[i][:3]) for i in bad]}")
    p, q = want[n:].double(), got[m:].double()
    # Of a mean: torch's order of adding up, in f32, and its roundings of sum and mean.
    size = want[:n].double().abs().mean(dim=0)
    bound = 4 * ulp(torch.maximum(p.abs(), size / 4), want.dtype) + 4e-7 * size
    off = ((p - q).abs() / bound).max() if p.numel() and p.shape == q.shape else 0.0
    check(p.shape == q.shape and off <= 1, f"{what}: padding, {want.dtype}: off by {off:.3g} times what may be")
    counts["tokens"] += len(names)


def flags(t):
    return {a.content: (a.lstrip, a.rstrip, a.single_word, a.normalized, a.special) for a in t.added_tokens_decoder.values()}


def cut(t, text):
    names = {i: x for x, i in t.get_vocab().items()}
    return [names[i] for i in t.encode(text)]


def compare(out, ref, base_vocab, what):
    a, b = (transformers.AutoTokenizer.from_pretrained(d) for d in (ref, out))
    va, vb = a.get_vocab(), b.get_vocab()
    if not check(set(va) == set(vb), f"{what}: tokens {sorted(set(va) ^ set(vb))[:4]}"):
        return
    check(all(vb[t] == i == va[t] for t, i in base_vocab.items() if t in va), f"{what}: ids of the base moved")
    check(sorted(va.values()) == sorted(vb.values()), f"{what}: ids")
    fa, fb = flags(a), flags(b)
    check(fa == fb, f"{what}: flags {[(t, fa.get(t), fb.get(t)) for t in set(fa) | set(fb) if fa.get(t) != fb.get(t)][:2]}")
    for text in TEXTS + ["<|im_start|>the lazy foxes<x>  <tool>", " [INST] fox<pad><unk> é"]:
        x, y = cut(a, text), cut(b, text)
        counts["texts"] += 1
        check(x == y, f"{what}: '{text}' is cut {y}, not {x}")
    want, got = load_file(ref / "model.safetensors"), load_file(out / "model.safetensors")
    check(set(want) == set(got), f"{what}: tensors {set(want) ^ set(got)}")
    for k in sorted(set(want) & set(got)):
        if "embed" in k or "lm_head" in k:
            compare_rows(want[k], va, got[k], vb, f"{what}: {k}")
        else:
            check(same_bits(want[k], got[k]), f"{what}: {k}")
    ca, cb = (json.loads((d / "config.json").read_text()) for d in (ref, out))
    ca["tie_word_embeddings"] = "lm_head.weight" not in got
    for k in sorted(set(ca) | set(cb)):
        if not k.endswith("_token_id"):
            check(ca.get(k) == cb.get(k), f"{what}: config {k}: {cb.get(k)}, not {ca.get(k)}")


def base_of(y, use):
    source = (y.get("tokenizer") or {}).get("source", y.get("tokenizer_source"))
    return pathlib.Path(source) if source not in ("union", "base") else use[0]


def to_gguf(lbrx, file, out, tmp, what):
    """The merge written as GGUF in one pass has the tokens of the folder."""
    import gguf
    r = subprocess.run([lbrx, "merge", str(file), "-o", str(tmp / "x.gguf"), "--force"], capture_output=True, text=True)
    if not check(r.returncode == 0, f"{what}: to gguf: {r.stderr.strip()[:300]}"):
        return
    counts["on to gguf"] += 1
    f = gguf.GGUFReader(tmp / "x.gguf")
    field = f.fields["tokenizer.ggml.tokens"]
    tokens = [bytes(field.parts[i]).decode() for i in field.data]
    v = transformers.AutoTokenizer.from_pretrained(out).get_vocab()
    check(all(tokens[i].replace("▁", " ") == t.replace("▁", " ") for t, i in v.items()), f"{what}: tokens in the gguf")


def run_case(r, args, kind, folders, tmp, number):
    y, use = draw_file(r, folders)
    file, out, ref = tmp / f"{number}.yml", tmp / f"o{number}", tmp / f"r{number}"
    file.write_text(json.dumps(y))
    global current
    current = json.dumps(y)
    what = f"seed {args.seed} case {number} ({kind.__name__})"
    try:
        config = mk_config.MergeConfiguration.model_validate(json.loads(json.dumps(y)))
        run_merge(config, str(ref), MergeOptions(write_model_card=False, quiet=True, random_seed=7))
        failure = None
    except Exception as e:
        failure = e
    p = subprocess.run([args.lbrx, "merge", str(file), "-o", str(out), "--rounding", "mergekit", "--seed", "7"],
                       capture_output=True, text=True)
    counts["merges"] += 1
    base = transformers.AutoTokenizer.from_pretrained(base_of(y, use)).get_vocab()
    rows = json.loads((base_of(y, use) / "config.json").read_text())["vocab_size"]
    base = {t: i for t, i in base.items() if i < rows}
    section = y.get("tokenizer") or {}
    if section.get("source") == "base" and any(t not in base for t in section.get("tokens") or {}):
        # mergekit adds them to the base's own tokenizer and takes its padding for their rows, whatever the file says
        failure = failure or RuntimeError("tokens added to the base")
    if p.returncode == 0 and failure is None:
        compare(out, ref, base, what)
        if kind in (byte_level, llama) and r.random() < 0.3:
            to_gguf(args.lbrx, file, out, tmp, what)
        return
    if failure is not None:
        counts["refused by mergekit"] += 1
        why = type(failure).__name__ + " " + str(failure)[:60]
        reasons[why] = reasons.get(why, 0) + 1
    if p.returncode == 0 and y["merge_method"] == "dare_linear":
        return  # the rules know no random numbers
    if p.returncode == 0:
        v = transformers.AutoTokenizer.from_pretrained(out).get_vocab()
        got = load_file(out / "model.safetensors")
        n = got["model.embed_tokens.weight"].shape[0]
        try:
            want = by_rules(y, use, v, n)
        except Refused as e:
            check(False, f"{what}: {e}: has no source, and was taken")
            return
        for k, x in want.items():
            compare_rows(x, v, got[k], v, f"{what}: by the rules: {k} ({type(failure).__name__}: {failure})")
        return
    refused = p.returncode == 3 and p.stderr.count("\n") == 1 and not out.exists()
    check(failure is not None and refused, f"{what}: {p.stderr.strip()[:300]} ({failure!r})")


# ---- chat templates ----

def renderings(lbrx, folder, tmp):
    from transformers.utils.chat_template_utils import _compile_jinja_template as compiled
    for name in ("alpaca", "chatml", "exaone", "llama3", "mistral"):
        theirs = (pathlib.Path(chat_templates.__file__).parent / f"{name}.jinja").read_text()
        file = tmp / f"{name}.yml"
        file.write_text(json.dumps({"merge_method": "passthrough", "models": [{"model": str(folder)}], "chat_template": name}))
        r = subprocess.run([lbrx, "merge", str(file), "-o", str(tmp / name)], capture_output=True, text=True)
        if not check(r.returncode == 0, f"{name}: {r.stderr}"):
            continue
        ours = transformers.AutoTokenizer.from_pretrained(tmp / name).chat_template
        a, b = compiled(theirs), compiled(ours)
        for k in range(1, 5):
            for roles in itertools.product(["system", "user", "assistant", "user_context", "tool"], repeat=k):
                turns = [{"role": role, "content": f" x{i} é\n "} for i, role in enumerate(roles)]
                for prompt in (False, True):
                    texts = []
                    for t in (a, b):
                        try:
                            texts.append(t.render(messages=turns, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>"))
                        except Exception as e:
                            texts.append("refused")
                    counts["renderings"] += 1
                    check(texts[0] == texts[1], f"{name}: {roles}: {texts}")


def auto_template(args, r, folders, tmp):
    names = ["{{ 'first, of some length' }}", " {{ 'second, of some length' }}\n", "{{ 'second, of some length' }}"]
    for number in range(4):
        use = r.sample(folders, 3)
        for f in use:
            (f / "chat_template.jinja").unlink(missing_ok=True)
            if r.random() < 0.8:
                (f / "chat_template.jinja").write_text(r.choice(names))
        y = {"merge_method": "linear", "chat_template": "auto", "tokenizer_source": "union", "base_model": str(use[0]),
             "models": [{"model": str(f), "parameters": {"weight": 1}} for f in use]}
        file, out, ref = tmp / f"auto{number}.yml", tmp / f"auto{number}", tmp / f"auto-r{number}"
        file.write_text(json.dumps(y))
        p = subprocess.run([args.lbrx, "merge", str(file), "-o", str(out)], capture_output=True, text=True)
        try:
            run_merge(mk_config.MergeConfiguration.model_validate(y), str(ref), MergeOptions(write_model_card=False, quiet=True))
        except Exception:  # of its tokenizers
            continue
        if check(p.returncode == 0, f"auto: {p.stderr}"):
            a, b = (transformers.AutoTokenizer.from_pretrained(d).chat_template for d in (ref, out))
            check((a or "").strip() == (b or "").strip(), f"auto: {b!r}, not {a!r}")
    for f in folders:
        (f / "chat_template.jinja").unlink(missing_ok=True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=int(os.environ.get("LB_TEST_SEED", "42")))
    ap.add_argument("--n", type=int, default=2000 if os.environ.get("LB_TEST_LONG") else 120)
    ap.add_argument("--lbrx", default=str(ROOT / "build/lbrx"))
    ap.add_argument("-v", action="store_true", help="why mergekit refused")
    args = ap.parse_args()
    r = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as t:
        tmp = pathlib.Path(t)
        number = 0
        for kind in itertools.cycle((byte_level, llama, byte_level, unigram, llama, words)):
            if number >= args.n:
                break
            group = tmp / f"g{number}"
            group.mkdir()
            folders = []
            for i in range(4):
                like = folders[0] if i == 3 else None
                folders.append(write_model(r, group / f"m{i}", kind, r.randrange(1 << 30), like))
            for _ in range(10):
                run_case(r, args, kind, folders, tmp, number)
                number += 1
                for d in tmp.glob(f"[or]{number - 1}"):
                    subprocess.run(["rm", "-r", str(d)], check=False)
        auto_template(args, r, folders, tmp)
        renderings(args.lbrx, folders[0], tmp)
    print("compared " + ", ".join(f"{v} {k}" for k, v in counts.items()))
    for why, n in sorted(reasons.items(), key=lambda x: -x[1])[:8] if "-v" in sys.argv else []:
        print(f"  mergekit: {n}: {why}")
    print(f"peer_merge_vocab: {passed} passed, {failed} failed, 0 skipped [cost: slow] {time.time() - START:.1f} s")
    sys.exit(failed > 0)


main()
