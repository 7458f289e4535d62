#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch numpy safetensors transformers tokenizers sentencepiece gguf
"""peer_convert.py: `lbrx convert` against the reference converter, transformers and mlx-lm.

Tiny random models of each family, float type and tokenizer kind:
  HF -> GGUF   every key, type, value, tensor name, order and byte as convert_hf_to_gguf.py writes them
  GGUF -> HF   transformers loads config, tokenizer and weights; the same state and logits, bit for bit
  HF <-> MLX   tensors and config as mlx_lm.convert writes them; quantized folders as mx.dequantize reads
Real GGUF files named by LBRX_TEST_GGUF (separated by the path separator) are read back the same way.

LBRX_CONVERT_HF_TO_GGUF names the reference script; without it, or without mlx-lm, those parts are skipped.
LBRX_TEST_ONLY=WORD[,WORD] runs the cases whose names hold one of them.
"""
import contextlib
import importlib.util
import io
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
SCRIPT = os.environ.get("LBRX_CONVERT_HF_TO_GGUF", "")
if SCRIPT:
    sys.path.insert(0, str(pathlib.Path(SCRIPT).parent / "gguf-py"))
    sys.path.insert(0, str(pathlib.Path(SCRIPT).parent))

import numpy as np
import sentencepiece
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

import gguf

transformers.logging.set_verbosity(logging.CRITICAL)
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
LBRX = os.environ.get("LBRX", "build/lbrx")
ONLY = [w for w in os.environ.get("LBRX_TEST_ONLY", "").split(",") if w]
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
TEXTS = ("Hello world", "  two  spaces\n\nand lines", "caf\u00e9 \u4e2d\u6587 \U0001f600 1234", "<s>[INST] x </s>",
         "<|im_start|>user\nhi<|im_end|>\n")
START = time.time()
passed = failed = skipped = 0


def check(ok, what):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAILED: " + what, flush=True)
    return bool(ok)


def skip(what):
    global skipped
    skipped += 1
    print("skip: %s: %s" % (pathlib.Path(sys.argv[0]).stem, what))


def lbrx(what, *args):
    p = subprocess.run([LBRX, *map(str, args)], capture_output=True, text=True, timeout=600)
    return check(p.returncode == 0, "%s: exit %d: %s" % (what, p.returncode, p.stderr.strip()[-400:]))


# ---- the reference converter ----

def load_script():
    if not SCRIPT:
        return None
    spec = importlib.util.spec_from_file_location("convert_hf_to_gguf", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reference(module, folder, out, outtype):
    argv = sys.argv
    sys.argv = ["convert", str(folder), "--outfile", str(out), "--outtype", outtype]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            module.main()
        return None
    except (Exception, SystemExit) as e:  # the script's own errors are results here
        return "".join(traceback.format_exception_only(type(e), e)).strip()
    finally:
        sys.argv = argv
        logging.disable(logging.CRITICAL)


def pairs(reader):
    out = {}
    for key, field in reader.fields.items():
        if key.startswith("GGUF."):
            continue
        kinds = field.types if field.types[0] != gguf.GGUFValueType.ARRAY else field.types[:2]
        out[key] = (tuple(kinds), [field.parts[i].tobytes() for i in field.data])
    return out


def same_bytes(name, a, b):
    """-exp(A_log): torch's exp of f32 is up to one step away from the correctly rounded value."""
    if name.endswith(".ssm_a") and a.dtype == np.float32:
        return np.abs(a.view(np.int32).astype(np.int64) - b.view(np.int32)).max() <= 1
    return a.tobytes() == b.tobytes()


def compare_gguf(what, ours, theirs):
    a, b = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    ka = {k: v for k, v in pairs(a).items() if not k.startswith("lbrx.")}
    kb = pairs(b)
    for key in ka.keys() - kb.keys():
        check(False, "%s: key %s is only in ours" % (what, key))
    for key in kb.keys() - ka.keys():
        check(False, "%s: key %s is missing" % (what, key))
    for key in ka.keys() & kb.keys():
        x, y = ka[key], kb[key]
        diff = [i for i, (p, q) in enumerate(zip(x[1], y[1])) if p != q][:3]
        check(x == y, "%s: key %s: %s %d values, expected %s %d; differ at %s: %s, expected %s" %
              (what, key, x[0], len(x[1]), y[0], len(y[1]), diff, [x[1][i][:80] for i in diff],
               [y[1][i][:80] for i in diff]))
    check([k for k in ka if k in kb] == [k for k in kb if k in ka], what + ": order of the keys")
    check([t.name for t in a.tensors] == [t.name for t in b.tensors], what + ": names and order of the tensors")
    tb = {t.name: t for t in b.tensors}
    for t in a.tensors:
        if t.name in tb:
            u = tb[t.name]
            same = t.tensor_type == u.tensor_type and list(t.shape) == list(u.shape)
            check(same, "%s: %s is %s %s, expected %s %s" %
                  (what, t.name, t.tensor_type, list(t.shape), u.tensor_type, list(u.shape)))
            if same:
                check(same_bytes(t.name, t.data, u.data), "%s: bytes of %s" % (what, t.name))


# ---- tokenizers ----

CHAT = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(path, folder, pre, digits):
    """A tokenizer.json from a GGUF's vocabulary; its hash is one that the reference script knows."""
    r = gguf.GGUFReader(path)

    def get(key, default=None):
        return r.fields[key].contents() if key in r.fields else default
    tokens, kinds = get("tokenizer.ggml.tokens"), get("tokenizer.ggml.token_type")
    merges = [tuple(m.split(" ")) for m in get("tokenizer.ggml.merges")]
    inner = {t: i for i, t in enumerate(tokens) if kinds[i] == 1 or digits}
    t = Tokenizer(models.BPE(vocab=inner, merges=merges, ignore_merges=pre == "llama-bpe"))
    if digits:
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False)])
    else:
        import tokenizers
        regex = LLAMA3 if pre == "llama-bpe" else LLAMA3.replace("{1,3}", "")
        t.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(tokenizers.Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        if pre == "qwen2":
            t.normalizer = tokenizers.normalizers.NFC()
    t.decoder = decoders.ByteLevel()
    t.add_tokens([AddedToken(x, special=kinds[i] == 3, normalized=False)
                  for i, x in enumerate(tokens) if kinds[i] in (3, 4)])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        i = get("tokenizer.ggml.%s_token_id" % key)
        if i is not None:
            config[name + "_token"] = tokens[i]
    if pre == "llama-bpe":
        bos = get("tokenizer.ggml.bos_token_id")
        b = tokens[bos]
        t.post_processor = processors.TemplateProcessing(single=b + ":0 $A:0", pair="%s:0 $A:0 %s:1 $B:1" % (b, b),
                                                         special_tokens=[(b, bos)])
    folder.mkdir()
    t.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return len(tokens), get("tokenizer.ggml.bos_token_id"), get("tokenizer.ggml.eos_token_id")


def pieces(folder, kind):
    """A tokenizer.model trained on the source code of this suite."""
    folder.mkdir()
    ids = (dict(pad_id=0, eos_id=1, bos_id=2, unk_id=3) if kind == "gemma" else
           dict(unk_id=0, bos_id=1, eos_id=2, pad_id=-1))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(pathlib.Path(__file__).read_text().splitlines()),
        model_prefix=str(folder / "tokenizer"), model_type="bpe", vocab_size=480, byte_fallback=True,
        add_dummy_prefix=kind != "gemma", remove_extra_whitespaces=False, normalization_rule_name="identity",
        split_digits=True, minloglevel=9, user_defined_symbols=["<start_of_turn>", "<end_of_turn>"], **ids)
    (folder / "tokenizer.vocab").unlink()
    config = {"add_bos_token": True, "add_eos_token": False, "bos_token": "<bos>", "eos_token": "<eos>",
              "unk_token": "<unk>", "pad_token": "<pad>", "tokenizer_class": "GemmaTokenizer",
              "clean_up_tokenization_spaces": False}
    if kind != "gemma":
        config.update(bos_token="<s>", eos_token="</s>", tokenizer_class="LlamaTokenizer", legacy=False)
        del config["pad_token"]
    if kind == "gemma":
        fix_pieces(folder / "tokenizer.model", {"<s>": "<bos>", "</s>": "<eos>"})
        (folder / "chat_template.jinja").write_text(CHAT)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return 480, ids["bos_id"], ids["eos_id"]


def fix_pieces(path, names):
    from sentencepiece import sentencepiece_model_pb2
    m = sentencepiece_model_pb2.ModelProto()
    m.ParseFromString(path.read_bytes())
    for p in m.pieces:
        p.piece = names.get(p.piece, p.piece)
    path.write_bytes(m.SerializeToString())


# ---- models ----

def config_of(family, vocab, **kw):
    bos, eos = vocab[1:]
    base = dict(vocab_size=vocab[0], hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, bos_token_id=bos, eos_token_id=eos,
                max_position_embeddings=512, tie_word_embeddings=False)
    base.update(kw)
    kind = {"llama": transformers.LlamaConfig, "mistral": transformers.MistralConfig,
            "qwen2": transformers.Qwen2Config, "qwen3": transformers.Qwen3Config,
            "gemma3": transformers.Gemma3TextConfig}[family]
    return kind(**base)


def make(folder, config, dtype, tok, shard=None):
    """A random model: every weight, norms and biases too, away from its default."""
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(torch.randn_like(p) * 0.05)
    model = model.to(DTYPES[dtype])
    with contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    for f in tok.iterdir():
        shutil.copy(f, folder)


def cases(toks):
    rope3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 8192, "rope_theta": 500000.0}
    gemma = dict(head_dim=32, tie_word_embeddings=True, sliding_window=64, query_pre_attn_scalar=32,
                 num_hidden_layers=7)
    rows = [("llama2 bf16", "llama", "spm", "bf16", {}, None),
            ("llama2 f16 sharded", "llama", "spm", "f16", {}, "60KB"),
            ("llama2 f32 tied", "llama", "spm", "f32", dict(tie_word_embeddings=True), None),
            ("llama mha bias head_dim", "llama", "spm", "bf16",
             dict(num_key_value_heads=4, attention_bias=True, mlp_bias=True, head_dim=24), None),
            ("llama linear rope", "llama", "spm", "bf16",
             dict(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}), None),
            ("mistral window", "mistral", "spm", "bf16", dict(sliding_window=32), None),
            ("mistral f16 no window", "mistral", "spm", "f16", dict(sliding_window=None, head_dim=32), None),
            ("gemma3 bf16", "gemma3", "gemma", "bf16", gemma, None),
            ("gemma3 f32 sharded", "gemma3", "gemma", "f32", gemma, "100KB"),
            ("gemma3 f16", "gemma3", "gemma", "f16", gemma, None),
            ("llama3 rope smollm", "llama", "smollm", "bf16",
             dict(rope_parameters=rope3, tie_word_embeddings=True), None),
            ("llama3 rope bpe f16", "llama", "llama-bpe", "f16", dict(rope_parameters=rope3), "8MB"),
            ("qwen2 bf16 tied", "qwen2", "qwen2", "bf16", dict(tie_word_embeddings=True), None),
            ("qwen2 f32 sharded", "qwen2", "smollm", "f32", {}, "5MB"),
            ("qwen3 bf16", "qwen3", "qwen2", "bf16", dict(head_dim=32), None),
            ("qwen3 f16 tied", "qwen3", "smollm", "f16", dict(head_dim=32, tie_word_embeddings=True), None)]
    for name, family, tok, dtype, kw, shard in rows:
        if tok not in toks:
            skip("%s: no vocabulary %s" % (name, tok))
        elif not ONLY or any(w in name for w in ONLY):
            yield name, family, tok, dtype, kw, shard


def state(folder):
    out = {}
    for f in sorted(pathlib.Path(folder).glob("*.safetensors")):
        out.update(load_file(f))
    return out


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and \
        a.contiguous().view(torch.uint8).equal(b.contiguous().view(torch.uint8))


def nearly(got, want):
    """Gemma's norms came back from value + 1 in f32 (f16 models: in f16), as the reference stores them."""
    step = 2.0 ** (-23 if want.dtype == torch.float32 else -10)
    return got.dtype == want.dtype and got.shape == want.shape and \
        bool(((got.double() - want.double()).abs() <= step * 2).all())


def compare_states(what, got, want, cast=None, norms=True):
    """norms=False: those that went through a sum are compared within its rounding."""
    check(got.keys() == want.keys(), "%s: tensors %s missing, %s too many" %
          (what, sorted(want.keys() - got.keys())[:3], sorted(got.keys() - want.keys())[:3]))
    for name in want.keys() & got.keys():
        w = want[name].to(cast) if cast else want[name]
        if not norms and name.endswith("norm.weight"):
            check(nearly(got[name], w), "%s: %s is not near" % (what, name))
            continue
        check(same_bits(got[name], w), "%s: %s: %s %s, expected %s %s; %s values differ" %
              (what, name, got[name].dtype, list(got[name].shape), w.dtype, list(w.shape),
               int((got[name].float() != w.float()).sum()) if got[name].shape == w.shape else "all"))


def logits(folder):
    m = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    with torch.no_grad():
        return m(torch.arange(3, 23).reshape(1, -1)).logits


def compare_models(what, got, want):
    """Both folders as transformers sees them."""
    a, b = logits(got), logits(want)
    check(same_bits(a, b), "%s: logits differ by %g" % (what, (a.float() - b.float()).abs().max()))


def compare_tokenizers(what, got, want, exact=True):
    """exact=False: a tokenizer rebuilt from GGUF's arrays, which do not say how transformers' SentencePiece
    classes treat blanks at the start and after special tokens, nor name every special token."""
    a = transformers.AutoTokenizer.from_pretrained(got)
    b = transformers.AutoTokenizer.from_pretrained(want)
    for text in TEXTS if exact else TEXTS[:1] + TEXTS[2:3]:
        x, y = a(text)["input_ids"], b(text)["input_ids"]
        check(x == y, "%s: tokens of %r: %s, expected %s" % (what, text, x[:12], y[:12]))
        x, y = a.decode(y), b.decode(y)
        check(x == y, "%s: text of the tokens of %r: %r, expected %r" % (what, text, x, y))
    for key in ("bos_token", "eos_token", "unk_token", "pad_token")[:4 if exact else 2]:
        x, y = getattr(a, key), getattr(b, key)
        check(x == y, "%s: %s is %r, expected %r" % (what, key, x, y))
    check(a.chat_template == b.chat_template, "%s: chat template %r" % (what, a.chat_template))
    x, y = a.get_vocab(), b.get_vocab()
    if not exact:  # a class of transformers adds tokens of its own (gemma's <mask>) behind the model's vocabulary
        n = json.loads((pathlib.Path(want) / "config.json").read_text())["vocab_size"]
        x, y = ({t: i for t, i in v.items() if i < n} for v in (x, y))
    check(x == y, "%s: vocabulary: %s" % (what, sorted(x.items() ^ y.items())[:6]))


def one(module, work, name, family, tok, vocab, tok_dir, dtype, kw, shard):
    src = work / name.replace(" ", "-")
    make(src, config_of(family, vocab, **kw), dtype, tok_dir, shard)
    want = state(src)
    # HF -> GGUF
    for outtype in dict.fromkeys((dtype, "f16", "f32")):
        ours, theirs = work / "ours.gguf", work / "theirs.gguf"
        what = "%s -> %s gguf" % (name, outtype)
        flags = [] if outtype == dtype else ["--dtype", outtype]
        if not lbrx(what, "convert", src, "-o", ours, "--no-sync", "--force", "-q", *flags):
            continue
        gguf_files = [("ours", ours)]
        if module:
            why = reference(module, src, theirs, outtype)
            if check(why is None, "%s: the reference fails: %s" % (what, why)):
                compare_gguf(what, ours, theirs)
                gguf_files.append(("theirs", theirs))
        for whose, path in gguf_files:
            if outtype == "f32" and dtype != "f32":
                continue  # the type of the way back is f32 then; covered by dtype f32
            back = work / "back"
            w = "%s (%s) -> hf" % (what, whose)
            if not lbrx(w, "convert", path, "-o", back, "--to", "hf", "--no-sync", "--force", "-q"):
                continue
            exact = family != "gemma3" or dtype == "bf16"
            compare_states(w, state(back), want, None if outtype == dtype else DTYPES[outtype], exact)
            if outtype == dtype:
                if exact:
                    compare_models(w, back, src)
                # transformers takes another class than tokenizer_config.json's for mistral, and adds no blank
                if whose == "ours" or family != "mistral":
                    compare_tokenizers(w, back, src, whose == "ours")
            if whose == "ours" and outtype == dtype:
                for f in ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                          "chat_template.jinja", "generation_config.json"):
                    if (src / f).exists():
                        check((back / f).exists() and (back / f).read_bytes() == (src / f).read_bytes(),
                              "%s: %s is not the original's" % (w, f))
    mlx_part(work, name, src, dtype, want)
    for f in (src, work / "back", work / "ours-mlx", work / "theirs-mlx", work / "values"):
        shutil.rmtree(f, ignore_errors=True)


# ---- MLX ----

try:
    import mlx.core as mx
    import mlx_lm
except ImportError:
    mx = None


def mlx_to_torch(x):
    """The same bits; numpy has no bf16."""
    kinds = {mx.bfloat16: (mx.uint16, torch.bfloat16), mx.float16: (mx.uint16, torch.float16),
             mx.float32: (mx.uint32, torch.float32)}
    if x.dtype not in kinds:
        return torch.from_numpy(np.array(x))
    word, kind = kinds[x.dtype]
    return torch.from_numpy(np.array(x.view(word)).copy()).view(kind)


def mlx_state(folder):
    out = {}
    for f in sorted(pathlib.Path(folder).glob("*.safetensors")):
        out.update({k: mlx_to_torch(v) for k, v in mx.load(str(f)).items()})
    return out


def mlx_convert(src, out, **kw):
    shutil.rmtree(out, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        mlx_lm.convert(str(src), str(out), **kw)


def mlx_part(work, name, src, dtype, want):
    if mx is None:
        return skip(name + ": no package mlx_lm")
    ours, theirs, back = work / "ours-mlx", work / "theirs-mlx", work / "back"
    shutil.rmtree(ours, ignore_errors=True)
    what = name + " -> mlx"
    mlx_convert(src, theirs)
    if lbrx(what, "convert", src, "-o", ours, "--to", "mlx", "--no-sync", "-q"):
        compare_states(what, mlx_state(ours), mlx_state(theirs))
        a, b = (json.loads((f / "config.json").read_text()) for f in (ours, theirs))
        # what mlx-lm would take from its own defaults, transformers 5 having it under other names, is added
        extra = {k: a.pop(k) for k in a.keys() - b.keys()}
        rope = b.get("rope_parameters") or {}
        # qwen2's default theta is another than transformers': without the key mlx-lm computes another model
        scaled = "rope_scaling" in extra or extra.get("rope_theta", 10000) != 10000 or \
            "rope_theta" in extra and b["model_type"] == "qwen2"
        if "rope_scaling" in extra:
            want_rope = {k: v for k, v in rope.items() if k != "rope_theta"}
            check(extra.pop("rope_scaling") == want_rope, what + ": rope_scaling")
        if "rope_theta" in extra:
            check(extra.pop("rope_theta") == rope.get("rope_theta"), what + ": rope_theta")
        check(extra.keys() <= {"rope_local_base_freq", "sliding_window_pattern", "query_pre_attn_scalar"},
              "%s: config.json has more: %s" % (what, extra))
        check(a == b, "%s: config.json: %s" % (what, {k: (a.get(k), b.get(k)) for k in a.keys() | b.keys()
                                                      if a.get(k) != b.get(k)}))
        model, _ = mlx_lm.load(str(ours))
        other, _ = mlx_lm.load(str(theirs))
        ids = mx.arange(3, 23).reshape(1, -1)
        check(scaled or bool(mx.array_equal(model(ids), other(ids))), what + ": logits of mlx-lm")
    for whose, folder in (("ours", ours), ("theirs", theirs)):
        w = "%s (%s) -> hf" % (what, whose)
        if folder.exists() and lbrx(w, "convert", folder, "-o", back, "--to", "hf", "--no-sync", "--force", "-q"):
            compare_states(w, state(back), want)
            compare_models(w, back, src)
    modes = [("q4 g64", dict(q_bits=4, q_group_size=64)), ("q8 g32", dict(q_bits=8, q_group_size=32)),
             ("mixed_3_4", dict(quant_predicate="mixed_3_4")),
             ("mxfp4", dict(q_mode="mxfp4", q_bits=4, q_group_size=32))]
    for mode, kw in modes if dtype != "f32" else modes[:1]:
        quantized(work, "%s -> mlx %s -> hf" % (name, mode), src, theirs, back, kw)


def quantized(work, what, src, theirs, back, kw):
    try:
        mlx_convert(src, theirs, quantize=True, **kw)
    except Exception as e:
        return skip("%s: mlx_lm.convert: %s" % (what, e))
    values = work / "values"
    mlx_convert(theirs, values, dequantize=True)
    want = mlx_state(values)
    stored = mlx_state(theirs)
    if not lbrx(what, "convert", theirs, "-o", back, "--to", "hf", "--no-sync", "--force", "-q"):
        return
    got = state(back)
    check(got.keys() == want.keys(), "%s: names %s" % (what, sorted(got.keys() ^ want.keys())[:4]))
    for k in got.keys() & want.keys():
        q = k.removesuffix("weight") + "scales" in stored
        w = want[k].to(torch.bfloat16) if q else want[k]
        check(same_bits(got[k], w), "%s: %s: %s, expected %s; %d values differ" %
              (what, k, got[k].dtype, w.dtype, int((got[k].float() != w.float()).sum())))
    transformers.AutoModelForCausalLM.from_pretrained(back, dtype="auto")


# ---- real models ----

def permuted(x, heads):
    """Rows of q and k from llama.cpp's order to Hugging Face's."""
    return x.reshape(heads, x.shape[0] // heads // 2, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def real_gguf(work, path):
    r = gguf.GGUFReader(path)
    arch = r.fields["general.architecture"].contents()
    heads = r.fields[arch + ".attention.head_count"].contents()
    kv_heads = r.fields[arch + ".attention.head_count_kv"].contents()
    hf, mlx, again, last = (work / n for n in ("real-hf", "real-mlx", "real.gguf", "real-last"))
    if not lbrx(path.name + " -> hf", "convert", path, "-o", hf, "--to", "hf", "--no-sync", "--force", "-q"):
        return
    got = state(hf)
    names = gguf.get_tensor_name_map(next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == arch),
                                     r.fields[arch + ".block_count"].contents())
    by_name = {names.get_name(k, try_suffixes=(".weight", ".bias")): k for k in got}
    for t in r.tensors:
        if t.name == "rope_freqs.weight" or not check(t.name in by_name, "%s: %s is lost" % (path.name, t.name)):
            continue
        x = torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).copy())
        x = x.reshape([int(n) for n in reversed(t.shape)])
        if arch == "llama" and t.name.split(".")[2:3] in (["attn_q"], ["attn_k"]):
            x = torch.from_numpy(permuted(x.numpy(), heads if ".attn_q." in t.name else kv_heads).copy())
        if arch.startswith("gemma") and t.name.endswith("norm.weight"):
            x = x - 1
        y = got[by_name[t.name]]
        check(same_bits(y, x.to(torch.bfloat16)), "%s: %s: %d of %d values differ" %
              (path.name, t.name, int((y.float() != x.to(torch.bfloat16).float()).sum())
               if y.shape == x.shape else -1, x.numel()))
    check(len(got) == len([t for t in r.tensors if t.name != "rope_freqs.weight"]), path.name + ": tensors made up")
    same_text(path, hf)
    steps = ((hf, mlx, "mlx"), (mlx, again, "gguf"), (again, last, "hf"))
    if all(lbrx("%s -> %s" % (path.name, to), "convert", a, "-o", b, "--to", to, "--no-sync", "--force", "-q")
           for a, b, to in steps):
        compare_states(path.name + " around", state(last), got)
        compare_tokenizers(path.name + " around", last, hf)
    for f in (hf, mlx, last):
        shutil.rmtree(f, ignore_errors=True)
    again.unlink(missing_ok=True)


def same_text(path, hf):
    """Greedy continuation by transformers: our folder, and (with accelerate) its own reading of the GGUF."""
    prompt = "The capital of France is"
    texts = []
    for args in ((hf, {}), (path.parent, {"gguf_file": path.name})):
        if args[1] and importlib.util.find_spec("accelerate") is None:
            skip(path.name + ": transformers reads GGUF with the package accelerate only")
            continue
        tok = transformers.AutoTokenizer.from_pretrained(args[0], **args[1])
        model = transformers.AutoModelForCausalLM.from_pretrained(args[0], dtype=torch.bfloat16, **args[1]).eval()
        ids = tok(prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        texts.append((ids.tolist(), tok.decode(out[0])))
    if "Instruct" in path.name:  # a small base model may say anything
        check("Paris" in texts[0][1], "%s: it says %r" % (path.name, texts[0][1]))
    check(texts[0] == texts[-1], "%s: text %r, expected %r" % (path.name, texts[0], texts[-1]))


def main():
    module = load_script()
    if not module:
        skip("LBRX_CONVERT_HF_TO_GGUF does not name the reference converter")
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="lbrx-peer-") as d:
        work = pathlib.Path(d)
        toks = {"spm": pieces(work / "tok-spm", "llama"), "gemma": pieces(work / "tok-gemma", "gemma")}
        found = {}
        if SCRIPT:
            for pre in ("llama-bpe", "qwen2"):
                found[pre] = pathlib.Path(SCRIPT).parent / "models" / ("ggml-vocab-%s.gguf" % pre)
        real = [p for p in os.environ.get("LBRX_TEST_GGUF", "").split(os.pathsep) if p]
        for p in real:
            f = gguf.GGUFReader(p).fields.get("tokenizer.ggml.pre")
            if f and f.contents() == "smollm":
                found["smollm"] = pathlib.Path(p)
        for pre, path in found.items():
            if path.exists():
                toks[pre] = byte_level(path, work / ("tok-" + pre), pre, pre == "smollm")
        for name, family, tok, dtype, kw, shard in cases(toks):
            try:
                one(module, work, name, family, tok, toks[tok], work / ("tok-" + tok), dtype, kw, shard)
            except Exception:
                check(False, "%s: %s" % (name, traceback.format_exc()))
        for p in real:
            if not ONLY or any(w in p for w in ONLY):
                try:
                    real_gguf(work, pathlib.Path(p))
                except Exception:
                    check(False, "%s: %s" % (p, traceback.format_exc()))
        if not real:
            skip("LBRX_TEST_GGUF names no real model")
    print("peer_convert: %d passed, %d failed, %d skipped [cost: slow] %.1f s" %
          (passed, failed, skipped, time.time() - START))
    sys.exit(failed != 0)

if __name__ == "__main__":
    main()
