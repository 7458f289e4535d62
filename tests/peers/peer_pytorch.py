#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch numpy safetensors transformers
"""Files of torch.save against torch.load, with weights_only where that reads the protocol (2 and 3).

Random state dicts (types, shapes, views, shared storages, parameters, nesting, protocols, the legacy
form): converted to safetensors they have torch's tensors, bit by bit; with a view that is not
made of lines they are refused by its name. Mutated files: what lbrx accepts, torch accepts, with the
same tensors. A Llama in .bin files, one or shards, converts to the same HF and MLX folders and the
same GGUF as from safetensors (of one file to the byte).
"""
import collections
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
import warnings
import zipfile

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

START = time.time()
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LBRX = os.environ.get("LBRX") or str(ROOT / "build" / "lbrx")
LONG = bool(os.environ.get("LB_TEST_LONG"))
MAKE_MODEL = os.environ.get("MAKE_MODEL") or str(ROOT / "build" / "cc" / "tests" / "make_model")
N_DICTS, N_MUTATED = (2000, 20000) if LONG else (150, 800)
rng = random.Random(int(os.environ.get("LB_TEST_SEED", "11")))
passed = failed = 0
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2,
          torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32,
          torch.uint64, torch.complex64]
# torch writes the others in the legacy form too, and cannot read them there
OLD_DTYPES = [t for t in DTYPES if t not in torch.storage._new_dtypes()]


def check(ok, what):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAILED: " + what, flush=True)
    return bool(ok)


def run(*args):
    return subprocess.run([LBRX, *map(str, args)], capture_output=True, text=True, timeout=600, errors="replace")


def same(a, b):
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    flat = [x.detach().contiguous().reshape(-1) for x in (a, b)]
    return a.numel() == 0 or torch.equal(flat[0].view(torch.uint8), flat[1].view(torch.uint8))


def bits(*shape, dtype):
    n = 1
    for d in shape:
        n *= d
    if dtype == torch.bool:
        return torch.tensor([rng.random() < 0.5 for _ in range(n)], dtype=dtype).reshape(shape)
    raw = torch.frombuffer(bytearray(rng.randbytes(n * dtype.itemsize) or b"\0" * 16), dtype=torch.uint8)
    return raw[:n * dtype.itemsize].clone().view(dtype).reshape(shape)


def view_of(x):
    """A view and whether it is contiguous."""
    kind = rng.randrange(6)
    if x.dim() == 0:
        return x
    if kind == 0:
        a, b = sorted(rng.randrange(x.shape[0] + 1) for _ in range(2))
        return x[a:b]
    if kind == 1:
        return x.reshape(-1)
    if kind == 2 and x.shape[0]:
        return x[rng.randrange(x.shape[0])]
    if kind == 3 and rng.random() < 0.4:
        return x.transpose(0, -1)
    if kind == 4 and rng.random() < 0.4:
        return x[..., :max(1, x.shape[-1] // 2)]
    return x.unsqueeze(0)


def is_read(x):
    """What of views that are not contiguous is read: rows or columns that are lines of neighbours."""
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16) or x.dim() < 2:
        return False
    rows, cols = x.numel() // x.shape[-1], x.shape[-1]
    if rows == 1 or cols == 1:
        return False
    try:
        step = x.detach().as_strided(x.shape[:-1], x.stride()[:-1], 0).view(rows).stride(0)
    except RuntimeError:
        return False
    return (x.stride(-1) == 1 and step >= cols) or (step == 1 and x.stride(-1) >= rows)


def random_dict(legacy):
    out = collections.OrderedDict() if rng.random() < 0.5 else {}
    for i in range(rng.randrange(1, 9)):
        name = rng.choice(["w", "layers.%d.weight" % i, "\u00e9", "a b", "x\"y"]) + str(i)
        tensors = [v for v in out.values() if isinstance(v, torch.Tensor)]
        if tensors and rng.random() < 0.4:
            out[name] = view_of(rng.choice(tensors).detach())
        else:
            dtype = rng.choice(OLD_DTYPES if legacy else DTYPES)
            out[name] = bits(*[rng.choice([0, 1, 2, 3, 5, 8]) if rng.random() < 0.1 else rng.randrange(1, 6)
                               for _ in range(rng.randrange(0, 5))], dtype=dtype)
            if dtype.is_floating_point and rng.random() < 0.3:
                out[name] = torch.nn.Parameter(out[name], requires_grad=rng.random() < 0.5)
        if rng.random() < 0.1:
            out["other%d" % i] = rng.choice([None, 1, 2.5, True, "text", [1], (), {"k": (1, -2)}, 2**77])
    return out


def whole(state):
    """What torch.save writes and the state dict in it."""
    if rng.random() < 0.3:
        return {rng.choice(["state_dict", "model", "module"]): state, "epoch": rng.randrange(9)}
    return state


def convert(path, out):
    p = run("convert", path, "-o", out, "--force", "--no-sync", "--no-provenance", "-q", "--progress", "none")
    return p.returncode, p.stderr.strip()


def state_of(loaded):
    for key in ("state_dict", "model_state_dict", "model", "module"):
        if isinstance(loaded.get(key), dict) and loaded[key]:
            return state_of(loaded[key])
    return {k: v for k, v in loaded.items() if isinstance(v, torch.Tensor)}


def random_dicts(work):
    path, out = work / "x.pt", work / "x.safetensors"
    for i in range(N_DICTS):
        legacy = rng.random() < 0.25
        state = random_dict(legacy)
        protocol = rng.choice([2, 2, 3, 4, 5])
        torch.save(whole(state), path, pickle_protocol=protocol,
                   _use_new_zipfile_serialization=not legacy)
        want = state_of(torch.load(path, weights_only=protocol < 4))
        rc, text = convert(path, out)
        bad = [k for k, v in want.items() if not v.is_contiguous() and v.numel() and not is_read(v)]
        if bad:
            check(rc == 3 and "strides" in text and any("'%s'" % k in text for k in bad), "dict %d: %s" % (i, text))
            continue
        if not check(rc == 0, "dict %d: exit %d: %s" % (i, rc, text)):
            continue
        got = load_file(out)
        check(got.keys() == want.keys() and all(same(got[k], want[k]) for k in want), "dict %d: tensors" % i)


def mutate(data):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice(b"().0123BCGJKMNQRXbcehjqrstu}]a\x80\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x95")
        elif kind == 2:
            del data[at:at + rng.randrange(1, 6)]
        elif kind == 3:
            other = rng.randrange(len(data))
            data[at:at] = data[other:other + rng.randrange(1, 20)]
        else:
            data[at:at] = bytes([rng.choice(b"(.0N2)}]")])
        if not data:
            data = bytearray(b".")
    return bytes(data)


def repack(source, change):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(source)) as z, zipfile.ZipFile(out, "w") as o:
        for i in z.infolist():
            data = z.read(i)
            o.writestr(zipfile.ZipInfo(i.filename), change(data) if i.filename.endswith("/data.pkl") else data)
    return out.getvalue()


def mutated(work):
    path, out = work / "m.pt", work / "m.safetensors"
    sources = []
    for legacy in (False, True):
        for protocol in (2, 3):
            b = io.BytesIO()
            base = bits(4, 3, dtype=torch.float32)
            torch.save({"a": base, "b": base[1:3], "c": torch.nn.Parameter(bits(2, dtype=torch.float16)),
                        "d": bits(3, dtype=torch.int8 if legacy else torch.float8_e5m2), "n": 3}, b, pickle_protocol=protocol,
                       _use_new_zipfile_serialization=not legacy)
            sources.append((legacy, b.getvalue()))
    n_both = n_ours = 0
    for i in range(N_MUTATED):
        legacy, data = rng.choice(sources)
        data = mutate(data) if legacy else repack(data, mutate)
        path.write_bytes(data)
        rc, text = convert(path, out)
        if rc != 0:
            check(rc in (3, 4) and "m.pt" in text and text.count("lbrx: ") == 1, "mutated %d: %d: %s" % (i, rc, text))
            continue
        n_ours += 1
        try:
            want = state_of(torch.load(path, weights_only=True, map_location="cpu"))
        except Exception as e:
            check(False, "mutated %d: torch refuses it: %s" % (i, str(e).splitlines()[:3]))
            continue
        got = load_file(out)
        n_both += 1
        check(got.keys() == want.keys() and all(same(got[k], want[k]) for k in want), "mutated %d: tensors" % i)
    print("mutated: %d files, %d accepted by both, %d only by lbrx" % (N_MUTATED, n_both, n_ours - n_both))


def llama(work):
    folders = {name: work / name for name in ("st", "one", "shards")}
    subprocess.run([MAKE_MODEL, "hf", "llama", folders["st"], "tok=pieces", "vocab=4096"],
                   check=True, capture_output=True)
    state = {}
    for f in sorted(folders["st"].glob("*.safetensors")):
        state.update(load_file(f))
    for name in ("one", "shards"):
        shutil.copytree(folders["st"], folders[name], ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    torch.save(state, folders["one"] / "pytorch_model.bin")
    keys, index = list(state), {}
    for i in range(3):
        name = "pytorch_model-%05d-of-00003.bin" % (i + 1)
        part = {k: state[k] for k in keys[i::3]}
        torch.save(part, folders["shards"] / name)
        index.update({k: name for k in part})
    (folders["shards"] / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {"total_size": 0}, "weight_map": index}))
    for to in ("hf", "mlx", "gguf"):
        outs = {}
        for name, folder in folders.items():
            outs[name] = work / ("%s.%s" % (name, to))
            p = run("convert", folder, "-o", outs[name], "--to", to, "--no-provenance", "-q", "--set",
                    "general.name=str:m") if to == "gguf" else \
                run("convert", folder, "-o", outs[name], "--to", to, "--no-provenance", "-q")
            check(p.returncode == 0, "llama %s to %s: %s" % (name, to, p.stderr.strip()))
            p = run("diff", folders["st"], outs[name])
            check(p.returncode == 0, "llama %s to %s: diff: %s" % (name, to, p.stdout.strip()[-200:]))
            p = run("verify", outs[name])
            check(p.returncode == 0, "llama %s to %s: verify: %s" % (name, to, p.stdout.strip()[-200:]))
        for name in ("one", "shards"):
            a, b = outs["st"], outs[name]
            if to == "gguf":
                if name == "one":  # of shards the tensors come in another order
                    check(a.read_bytes() == b.read_bytes(), "llama %s: GGUF differs" % name)
                continue
            files = sorted(f.name for f in a.iterdir() if f.suffix == ".safetensors")
            check(files == sorted(f.name for f in b.iterdir() if f.suffix == ".safetensors"), "llama: files")
            for f in files:
                x, y = load_file(a / f), load_file(b / f)
                check(x.keys() == y.keys() and all(same(x[k], y[k]) for k in x), "llama %s to %s" % (name, to))
    dtype = next(iter(state.values())).dtype
    back = LlamaForCausalLM.from_pretrained(work / "shards.hf", dtype=dtype).state_dict()
    check(all(same(back[k], state[k]) for k in state), "transformers loads the converted folder")
    for name in ("one", "shards"):
        p = run("verify", folders[name])
        check(p.returncode == 0, "verify of .bin: %s" % p.stderr.strip())


def main():
    with tempfile.TemporaryDirectory(prefix="lbrx-peer-") as tmp:
        work = pathlib.Path(tmp)
        for part in (random_dicts, mutated, llama):
            part(work)
    print("%s: %d passed, %d failed, 0 skipped [cost: slow] %.1f s" %
          (pathlib.Path(sys.argv[0]).stem, passed, failed, time.time() - START))
    return failed != 0


sys.exit(main())
