# SPDX-License-Identifier: Apache-2.0
"""kit.py: tiny models of model families and what the peers make of them. README.md says how a family's file looks.

Weights are not random numbers but a function of the tensor's name and the element's number (fill), so that the
golden files hold no weights: tests/unit/test_families.c makes the same folders.
"""
import contextlib
import hashlib
import importlib
import io
import json
import logging
import os
import pathlib
import shutil
import struct
import sys
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden" / "family"
SCRIPT = os.environ.get("LBRX_CONVERT_HF_TO_GGUF", "")
if SCRIPT:
    sys.path.insert(0, str(pathlib.Path(SCRIPT).parent / "gguf-py"))
    sys.path.insert(0, str(pathlib.Path(SCRIPT).parent))

import numpy as np
import torch
import transformers

transformers.logging.set_verbosity(logging.CRITICAL)
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)

VOCAB = 384  # rows of the embedding; the tokenizers of golden/family have 300 and 360 tokens
BOS, EOS, PAD = 1, 2, 0
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
FTYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}
ST = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.uint8: "U8", torch.int8: "I8",
      torch.int32: "I32", torch.int64: "I64", torch.float8_e4m3fn: "F8_E4M3", torch.bool: "BOOL"}
OF_ST = {v: k for k, v in ST.items()}


class Case:
    """One model.
      label      name of the folder (feeds general.name and its kin)
      config     a transformers config object, or a dict: the text of config.json
      model      the class that has the weights (transformers), or None
      tensors    model None: {name: shape} or {name: (dtype, shape)}; else a function that edits such a dict
      dtype      of the weights: bf16, f16, f32; outtype: of the GGUF (default: dtype)
      edit       a function that edits config.json's dict
      shard      max_shard_size
      tokenizer  "bpe" or "spm"
      files      more small files: {name: text}
      back       the state that GGUF -> HF gives, from the source's state (default: the same): a function
      mlx_back   the same for MLX -> HF
      unread     parts of HF names that only lbrx is given, to leave them out: the peers stop at them
      lossy      parts of HF names whose values GGUF -> HF does not give back exactly
      mlx_lossy  parts of GGUF names whose values MLX -> GGUF does not make as HF -> GGUF does
      fuse_qkv   a file that the reference makes with --fuse-qkv is read, else refused
      without_mtp     the reference is told that there are no layers of multi-token prediction
      gguf       why there is no such form: the reference refuses, and so must lbrx ("": there is one)
      mlx        why mlx-lm makes none, though lbrx does
      mlx_adds   keys of config.json that lbrx adds for mlx-lm ("text_config.x": in a nested one)
      logits     or why transformers does not run it (no class), or the GGUF does not carry all
      mlx_logits or why mlx-lm computes something else
      quantize   False: mlx_lm.convert does not quantize it
      keep       lbrx is asked for no type: codes stay as they are, as the reference has them
      mtp        it has layers of multi-token prediction: GGUF without them is compared too (--mtp drop)
      pre        False: the converter writes no name of a pre-tokenizer"""

    def __init__(self, label, config, model=None, tensors=None, dtype="bf16", outtype=None, edit=None, shard=None,
                 tokenizer="bpe", files=None, back=None, mlx_back=None, unread=(), lossy=(), gguf="", mlx="", mlx_adds=(),
                 logits=True, mlx_logits=True, quantize=True, keep=False, mtp=False, pre=True, mlx_lossy=(), without_mtp=False,
                 fuse_qkv=True):
        self.__dict__.update(locals())
        del self.self
        self.outtype = outtype or dtype


def family(name):
    sys.path.insert(0, str(HERE)) if str(HERE) not in sys.path else None
    return importlib.import_module(name)


def families():
    return sorted(p.stem for p in HERE.glob("*.py") if p.stem not in ("kit", "deep", "make_family", "quant"))


def old_rope(theta=10000.0, scaling=None, **kw):
    """An edit: config.json as transformers 4 wrote it, and kw; a value of None takes a key out."""
    def edit(c):
        c.pop("rope_parameters", None)
        c.update({"rope_theta": theta, "rope_scaling": scaling, "torch_dtype": c.pop("dtype", "bfloat16"), **kw})
        for k in [k for k in kw if kw[k] is None]:
            c.pop(k)
    return edit


def glm_tokenizer():
    """Files: the byte-level tokenizer with the tokens that GLM's converters name."""
    t = json.loads((GOLDEN / "tokenizer.json").read_text())
    t["added_tokens"] += [dict(t["added_tokens"][0], id=300 + i, content=text)
                          for i, text in enumerate(("<|endoftext|>", "<|user|>", "[gMASK]", "<|observation|>"))]
    return {"tokenizer.json": json.dumps(t, separators=(",", ":"))}


# ---- values ----

def hashes(name, n):
    """n 32-bit numbers from a name."""
    h = 2166136261
    for b in name.encode():
        h = (h ^ b) * 16777619 & 0xffffffff
    x = (np.arange(n, dtype=np.uint64) * 0x9e3779b9 + h & 0xffffffff).astype(np.uint32)
    x ^= x >> 16
    x *= np.uint32(0x85ebca6b)
    x ^= x >> 13
    x *= np.uint32(0xc2b2ae35)
    return x ^ x >> 16


def fill(name, dtype, shape):
    """Floats: 8 significant bits, 2^-3 to 2^-7 in size; codes: any; scales named *_scales: near 1/1024; those of FP8,
    *_scale_inv: powers of two, so that bf16 holds the values."""
    n = int(np.prod(shape)) if len(shape) else 1
    x = hashes(name, n)
    if dtype == torch.uint8:
        v = 116 + (x & 7) if name.endswith("_scales") else x & 255
        return torch.from_numpy(v.astype(np.uint8)).reshape(shape)
    if dtype == torch.float8_e4m3fn:
        v = np.where((x & 127) == 127, 126, x & 255).astype(np.uint8)
        return torch.from_numpy(v).view(torch.float8_e4m3fn).reshape(shape)
    if name.endswith("_scale_inv"):
        return torch.from_numpy(np.ldexp(1.0, -(4 + (x >> 8 & 3).astype(np.int32)))).to(dtype).reshape(shape)
    if not dtype.is_floating_point:
        return torch.from_numpy((x & 1 if dtype == torch.bool else x & 127).astype(np.int64)).to(dtype).reshape(shape)
    v = np.ldexp((128 + (x & 127)).astype(np.float64), -(11 + (x >> 8 & 3).astype(np.int32)))
    v = np.where(x & 128, -v, v)
    return torch.from_numpy(v).to(dtype).reshape(shape)


# ---- folders ----

def header(path):
    with open(path, "rb") as f:
        return json.loads(f.read(int.from_bytes(f.read(8), "little")))


def shards(folder):
    return sorted(pathlib.Path(folder).glob("*.safetensors"))


def save(tensors, path):
    from safetensors.torch import save_file
    save_file({k: fill(k, *v) for k, v in tensors.items()}, path, metadata={"format": "pt"})


def build(case, folder):
    """The model's folder."""
    folder = pathlib.Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if case.model is not None:
        with contextlib.redirect_stderr(io.StringIO()):
            m = case.model(case.config).to(DTYPES[case.dtype])
            m.save_pretrained(folder, max_shard_size=case.shard or "5GB")
        (folder / "generation_config.json").unlink(missing_ok=True)
        for f in shards(folder):
            t = {k: (OF_ST[v["dtype"]], v["shape"]) for k, v in header(f).items() if k != "__metadata__"}
            if case.tensors:
                case.tensors(t)
            save(t, f)
    else:
        d = DTYPES[case.dtype]
        save({k: v if isinstance(v[0], torch.dtype) else (d, v) for k, v in case.tensors.items()},
             folder / "model.safetensors")
    path = folder / "config.json"
    c = json.loads(path.read_text()) if path.exists() else \
        case.config if isinstance(case.config, dict) else json.loads(case.config.to_json_string())
    if case.edit:
        case.edit(c)
    path.write_text(json.dumps(c, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json") if case.tokenizer == "bpe" else \
            ("tokenizer.model", "tokenizer_config_spm.json"):
        shutil.copy(GOLDEN / name, folder / name.replace("_spm", ""))
    for name, text in (case.files or {}).items():
        (folder / name).write_text(text)
    return folder


def for_peers(case, folder):
    """The folder without what they do not read, under the same name."""
    if not case.unread:
        return folder
    out = folder.parent / "peers" / folder.name
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder, out)
    for f in shards(out):
        t = {k: (OF_ST[v["dtype"]], v["shape"]) for k, v in header(f).items() if k != "__metadata__"}
        save({k: v for k, v in t.items() if not any(p in k for p in case.unread)}, f)
    return out


def state(folder):
    from safetensors.torch import load_file
    out = {}
    for f in shards(folder):
        out.update(load_file(f))
    return out


# ---- the peers ----

_auto = transformers.AutoTokenizer.from_pretrained


def tokenizer_of(folder, *args, **kw):
    """A model type that transformers does not know brings code for its tokenizer; these models have none."""
    try:
        return _auto(folder, *args, **kw)
    except AttributeError:
        return transformers.PreTrainedTokenizerFast.from_pretrained(folder)


transformers.AutoTokenizer.from_pretrained = tokenizer_of


def to_gguf(case, folder, out, no_mtp=False, **kw):
    """By the reference converter; None, or why it fails."""
    import gguf
    from conversion import ModelBase, ModelType, TextModel, get_model_architecture, get_model_class
    # The vocabulary is made up: its hash is in no table.
    TextModel.get_vocab_base_pre = lambda self, tok: "gpt-2"
    logging.disable(logging.WARNING)
    try:
        with torch.inference_mode(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            hp = ModelBase.load_hparams(pathlib.Path(folder), False)
            cls = get_model_class(get_model_architecture(hp, ModelType.TEXT), mmproj=False)
            cls.no_mtp = no_mtp or case.without_mtp
            cls(pathlib.Path(folder), gguf.LlamaFileType(FTYPES[case.outtype]), pathlib.Path(out), **kw).write()
    except (Exception, SystemExit) as e:
        return "%s: %s" % (type(e).__name__, e)
    return None


def to_mlx(folder, out, **kw):
    import mlx_lm
    shutil.rmtree(out, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            mlx_lm.convert(str(folder), str(out), **kw)
        except Exception as e:
            return "%s: %s" % (type(e).__name__, e)
    return None


# ---- golden files ----

def digest(raw):
    return hashlib.sha256(raw).hexdigest()[:16]


def torch_bytes(t):
    return t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""


def listed(tensors):
    """[name, type, shape, digest] of a state."""
    return [[k, ST[v.dtype], list(v.shape), digest(torch_bytes(v))] for k, v in sorted(tensors.items())]


def value(field):
    c = field.contents()
    kind = field.types[0].name.lower()
    if kind == "array":
        return ["array", field.types[1].name.lower(), c]
    return [kind, struct.unpack("<I", struct.pack("<f", c))[0] if kind == "float32" else c]


def of_gguf(path):
    import gguf
    r = gguf.GGUFReader(path)
    kv = [[f.name] + value(f) for f in r.fields.values() if not f.name.startswith(("GGUF.", "tokenizer."))]
    return {"kv": kv, "tensors": [[t.name, t.tensor_type.name.lower(), [int(n) for n in reversed(t.shape)],
                                   digest(t.data.tobytes())] for t in r.tensors]}


def mlx_config(folder):
    """mlx_lm.convert undoes FP8 and goes on naming it."""
    c = json.loads((folder / "config.json").read_text())
    if c.get("quantization_config", {}).get("quant_method") == "fp8":
        del c["quantization_config"]
    return c


def of_mlx(folder):
    """safetensors' own reader: the bytes as they are stored."""
    out = []
    for f in shards(folder):
        raw = f.read_bytes()
        at = 8 + int.from_bytes(raw[:8], "little")
        for k, v in header(f).items():
            if k != "__metadata__":
                a, b = v["data_offsets"]
                out.append([k, v["dtype"], v["shape"], digest(raw[at + a:at + b])])
    return {"config": mlx_config(folder), "tensors": sorted(out)}


def golden(case, work):
    """What the peers make of the case, for tests/unit/test_families.c."""
    folder = build(case, pathlib.Path(work) / case.label)
    got = state(for_peers(case, folder))
    files = {f.name: [[k, v["dtype"], v["shape"]] for k, v in header(f).items() if k != "__metadata__"]
             for f in shards(folder)}
    out = {"label": case.label, "config": (folder / "config.json").read_text(), "outtype": case.outtype,
           "same_type": case.outtype == case.dtype, "keep": case.keep, "tokenizer": case.tokenizer,
           "files": case.files or {}, "shards": files, "lossy": list(case.lossy),
           "mlx_lossy": list(case.mlx_lossy), "mlx_adds": list(case.mlx_adds)}
    path = pathlib.Path(work) / "out.gguf"
    folder = for_peers(case, folder)
    why = to_gguf(case, folder, path)
    if bool(why) != bool(case.gguf):
        sys.exit("%s: the reference converter: %s" % (case.label, why or "does not refuse"))
    out["gguf"] = None if why else of_gguf(path)
    if case.mtp:
        why = to_gguf(case, folder, path, no_mtp=True)
        if why:
            sys.exit("%s: the reference converter, --no-mtp: %s" % (case.label, why))
        out["no_mtp"] = of_gguf(path)
    out["back"] = listed(case.back(dict(got)) if case.back else got) if case.back or case.unread else None
    why = to_mlx(folder, pathlib.Path(work) / "mlx")
    if bool(why) != bool(case.mlx):
        sys.exit("%s: mlx_lm.convert: %s" % (case.label, why or "does not refuse"))
    out["mlx"] = None if why else of_mlx(pathlib.Path(work) / "mlx")
    out["mlx_back"] = listed(case.mlx_back(dict(got)) if case.mlx_back else got) \
        if case.mlx_back or case.unread else None
    return out
