#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: numpy gguf
"""peer_quantize.py [--seed S] [--only PART[,PART]]: whole files of `lbrx quantize` against llama-quantize's, byte for byte,
where LBRX_LLAMA_QUANTIZE names it (built from the sdist of llama-cpp-python 0.3.36):
  types    every file type from f32, f16 and bf16, with and without importance (GGUF and legacy), of several families
  again    from quantized files
  options  --pure, --tensor-type, ... and their mixtures
  same_bytes several types in one read, threads, budgets and processors: the same bytes
  folders  from Hugging Face and MLX folders (LBRX_CONVERT_HF_TO_GGUF), tensor by tensor
llama-quantize runs in the folder of the importance file, whose name is then the one that lbrx writes down."""
import argparse
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden" / "quant"))
import numpy as np
import recipe_peers as peers
from recipe_peers import gguf

LBRX = os.environ.get("LBRX", str(ROOT / "build" / "lbrx"))
LONG = bool(os.environ.get("LB_TEST_LONG"))
ALL = [x for x in peers.RECIPES]
passed = failed = skipped = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL " + what, flush=True)
    return ok


# ---- models with data ----

def values(r, shape):
    """Rows of every kind that a quantizer may meet."""
    x = r.standard_normal(shape).astype(np.float32) * np.float32(0.02)
    rows = x.reshape(-1, shape[-1])
    for i in range(len(rows)):
        kind = r.integers(0, 24)
        n = len(rows[i])
        if kind == 0:
            rows[i] = 0
        elif kind == 1:
            rows[i] = np.float32(r.standard_normal())
        elif kind == 2:
            rows[i, r.integers(0, n)] = 8 * r.standard_normal()
        elif kind == 3:
            rows[i] *= np.float32(1e-6)
        elif kind == 4:
            rows[i] = np.abs(rows[i])
        elif kind == 5:
            rows[i, : n // 2] = 0
        elif kind == 6:
            rows[i] = np.round(rows[i] * 100) / 8
        elif kind == 7:
            rows[i] = rows[i] * np.float32(1e-38)
    return x


def encode(x, t):
    if t == "f32":
        return x.astype("<f4").tobytes()
    if t == "f16":
        return x.astype("<f2").tobytes()
    if t == "bf16":
        u = x.view(np.uint32)
        return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype("<u2").tobytes()
    if t == "i32":
        return np.round(x * 100).astype("<i4").tobytes()
    raise ValueError(t)


def write(model, path, seed, file_type=1):
    """The model's file with values."""
    model.write(path, file_type)
    r = np.random.default_rng(seed)
    reader = gguf.GGUFReader(path)
    places = {t.name: t.data_offset for t in reader.tensors}
    del reader
    with open(path, "r+b") as f:
        for name, shape, t in model.tensors:
            f.seek(places[name])
            f.write(encode(values(r, tuple(shape)), t))


def importance(r, path, tensors, form, partial=0.0):
    """tensors: (name, columns, matrices)"""
    entries = {}
    for name, cols, mats in tensors:
        if r.random() < partial:
            continue
        v = np.float32(r.standard_normal(cols * mats) ** 2) * np.float32(10.0 ** r.integers(-3, 3))
        v[r.random(cols * mats) < 0.05] = 0
        counts = np.float32(r.integers(1, 5000, mats))
        if mats > 1:
            counts[r.random(mats) < 0.2] = 0
        entries[name] = (v, counts)
    if form == "dat":
        with open(path, "wb") as f:
            f.write(struct.pack("<i", len(entries)))
            for name, (v, counts) in entries.items():
                f.write(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", int(r.integers(0, 9)), len(v)))
                f.write(v.astype("<f4").tobytes())
            f.write(struct.pack("<i", int(r.integers(0, 200))) + struct.pack("<i", 8) + b"text.raw")
        return
    w = gguf.GGUFWriter(path, "")
    w.add_architecture = lambda: None
    w.kv_data[0].pop("general.architecture", None)
    w.add_type("imatrix")
    w.add_array("imatrix.datasets", ["text.raw", "more.txt"])
    w.add_uint32("imatrix.chunk_count", int(r.integers(0, 200)))
    w.add_uint32("imatrix.chunk_size", 512)
    for name, (v, counts) in entries.items():
        w.add_tensor(name + ".in_sum2", np.ascontiguousarray(v.reshape(len(counts), -1)))
        w.add_tensor(name + ".counts", np.ascontiguousarray(counts.reshape(-1, 1)))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def experts(d, f, n, rows=4):
    return [("ffn_gate_inp.weight", [n, d]), ("ffn_gate_exps.weight", [n, rows, d]), ("ffn_up_exps.weight", [n, rows, d]), ("ffn_down_exps.weight", [n, rows, f])]


def dense(d, f, rows=6):
    """llama-quantize does not ask whether shapes go together: few rows, quantized soon."""
    return [("attn_norm.weight", [d]), ("attn_q.weight", [rows, d]), ("attn_k.weight", [rows, d]), ("attn_v.weight", [rows, d]), ("attn_q.bias", [d]),
            ("attn_output.weight", [rows, d]), ("ffn_gate.weight", [rows, d]), ("ffn_up.weight", [rows, d]), ("ffn_down.weight", [rows, f])]


def family(name):
    """(arch, keys, rows of a layer, layers, rows outside)"""
    def out(d, tied=False, vocab=9):
        return [("token_embd.weight", [vocab, d]), ("output_norm.weight", [d])] + ([] if tied else [("output.weight", [vocab, d])])
    if name == "dense":
        return "llama", {}, dense(256, 512), 9, out(256)
    if name == "tied":
        return "llama", {}, dense(512, 768), 3, out(512, True)
    if name == "rows32":  # whole blocks of 32, none of 256
        return "qwen2", {}, dense(96, 160), 4, out(96)
    if name == "rows8":  # no whole blocks at all
        return "llama", {}, dense(40, 72), 2, out(40)
    if name == "moe":
        return "qwen3moe", {"expert_count": 6, "expert_used_count": 2}, dense(256, 256)[:6] + experts(256, 256, 6), 5, out(256)
    if name == "moe8":
        return "llama", {"expert_count": 8, "expert_used_count": 2}, dense(256, 256)[:6] + experts(256, 32, 8), 2, out(256)
    if name == "mla":
        return "deepseek2", {"expert_count": 4, "expert_used_count": 2}, [
            ("attn_q_a.weight", [6, 256]), ("attn_q_b.weight", [12, 32]), ("attn_kv_a_mqa.weight", [7, 256]), ("attn_k_b.weight", [2, 9, 32]),
            ("attn_v_b.weight", [2, 5, 256]), ("attn_output.weight", [6, 64]), ("ffn_down_shexp.weight", [6, 64]), ("ffn_gate_inp_shexp.weight", [1, 64]), ("attn_one.weight", [1, 3, 256]), ("exp_probs_b.bias", [4]),
            ] + experts(256, 64, 4), 3, out(256)
    if name == "hybrid":
        return "nemotron_h", {}, [("ssm_in.weight", [6, 256]), ("ssm_conv1d.weight", [32, 4]), ("ssm_a", [8, 1]), ("ssm_d", [1, 8]), ("ssm_out.weight", [6, 32]),
                                  ("attn_q.weight", [6, 256]), ("attn_v.weight", [6, 256]), ("ffn_down.weight", [6, 512])], 3, out(256)
    if name == "gemma3n":
        return "gemma3n", {}, dense(256, 256) + [("altup_router.weight", [4, 256]), ("inp_gate.weight", [6, 256]), ("laurel_l.weight", [6, 256])], 2, \
            out(256, True) + [("per_layer_token_embd.weight", [6, 512]), ("per_layer_model_proj.weight", [6, 256])]
    if name == "gpt2":
        return "gpt2", {}, [("attn_qkv.weight", [6, 256]), ("attn_qkv.bias", [6]), ("attn_output.weight", [6, 32]), ("ffn_up.weight", [6, 256]),
                            ("ffn_down.weight", [6, 64])], 4, out(256) + [("position_embd.weight", [4, 256])]
    if name == "falcon":
        return "falcon", {}, [("attn_qkv.weight", [6, 256]), ("attn_output.weight", [6, 32]), ("ffn_up.weight", [6, 256]), ("ffn_down.weight", [6, 512])], 8, out(256)
    raise ValueError(name)


FAMILIES = "dense tied rows32 rows8 moe moe8 mla hybrid gemma3n gpt2 falcon".split()


def f32(name):
    return len(name) and (name.endswith(("norm.weight", ".bias", "ffn_gate_inp.weight", "exp_probs_b.bias", "conv1d.weight", "ssm_a", "ssm_d")))


def make(name, path, dtype, seed, more=None):
    arch, keys, rows, n, outer = family(name)
    keys = {"block_count": n, "attention.head_count": 4, "attention.head_count_kv": 1, **keys, **(more or {})}
    kind = lambda x, s: "f32" if len(s) == 1 or f32(x) else dtype
    m = peers.Model(arch, keys, peers.layers(0, n, [(x, s, kind(x, s)) for x, s in rows]) + [(x, s, kind(x, s)) for x, s in outer])
    why = peers.complete(m, path)
    if why:
        raise SystemExit("%s: %s" % (name, why))
    write(m, path, seed, {"f32": 0, "f16": 1, "bf16": 32}[dtype])
    return m


def weighted(m):
    return [(n, s[-1], s[0] if len(s) == 3 else 1) for n, s, t in m.tensors if len(s) > 1 and not f32(n) and "embd" not in n]


# ---- both ----

def theirs(work, src, out, recipe, options):
    args = [peers.QUANTIZE, *options, src, out, recipe.upper(), "2"]
    run = subprocess.run(args, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return peers.Said(subprocess.CompletedProcess(args, run.returncode, run.stdout, b""))


def ours(work, src, out, recipe, options, env=None):
    args = [LBRX, "quantize", src, "-o", out, "--type", recipe, "--no-provenance", "--no-sync", "--force", *options]
    return subprocess.run(args, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})


def first_difference(a, b):
    x, y = gguf.GGUFReader(a), gguf.GGUFReader(b)
    kx, ky = list(x.fields), list(y.fields)
    if kx != ky:
        return "keys: %s" % [(p, q) for p, q in zip(kx + ["-"], ky + ["-"]) if p != q][:3]
    for k in kx:
        if not k.startswith("GGUF.") and (x.fields[k].types != y.fields[k].types or x.fields[k].contents() != y.fields[k].contents()):
            return "key %s: %r, %r" % (k, x.fields[k].contents(), y.fields[k].contents())
    nx, ny = [(t.name, t.tensor_type.name) for t in x.tensors], [(t.name, t.tensor_type.name) for t in y.tensors]
    if nx != ny:
        return "tensors: %s" % [(p, q) for p, q in zip(nx + ["-"], ny + ["-"]) if p != q][:3]
    for t, u in zip(x.tensors, y.tensors):
        if t.data.tobytes() != u.data.tobytes():
            return "values of %s (%s)" % (t.name, t.tensor_type.name)
    return "layout"


def decoded(t):
    q, data = t.tensor_type, np.ascontiguousarray(t.data)
    if q.name == "F32":
        return data.astype(np.float32)
    return gguf.quants.dequantize(data.view(np.uint8) if q.name in ("BF16",) else data, q).astype(np.float32)


# Words of a refusal: (ours, theirs)
WORDS = (("choose another type for the", "ASSERT"), ("choose another type for the", "validation failed"), ("needs importance", "ASSERT(imatrix"), ("needs an importance file", "requires an imatrix"), ("needs importance", "Missing importance matrix"), ("stands in", "no tensor type fallback"),
         ("again", "requantizing from type"))


def compare(what, work, src, recipe, options, ours_from=None):
    a, b = work / "a.gguf", work / "b.gguf"
    a.unlink(missing_ok=True), b.unlink(missing_ok=True)
    want = theirs(work, src, "a.gguf", recipe, ["--allow-requantize", *options])
    got = ours(work, ours_from or src, "b.gguf", recipe, options)
    what = "%s %s %s" % (what, recipe, " ".join(options))
    pruned = [int(x) for i, o in enumerate(options) if i and options[i - 1] == "--prune-layers" for x in o.split(",")]
    if want.rc == 0 and got.returncode == 0:
        same = a.read_bytes() == b.read_bytes()
        return check(same, "%s: %s" % (what, "" if same else first_difference(a, b)))
    if "the pattern is in no tensor's name" in got.stderr:  # llama-quantize passes over it
        return check(got.returncode == 2 and "--tensor-type" in " ".join(options), what)
    ok = want.rc != 0 and got.returncode != 0 and any(p in got.stderr and q in want.text for p, q in WORDS)
    return check(ok, "%s: lbrx %d %s; llama-quantize %d %s" % (what, got.returncode, got.stderr.strip()[-200:], want.rc, want.why.strip()[-200:]))


def types(r, work):
    for fam in FAMILIES:
        for dtype in ("f32", "f16", "bf16") if LONG else (r.choice(("f32", "f16", "bf16")),):
            m = make(fam, work / "m.gguf", dtype, r.randrange(1 << 30))
            for form in ("gguf", "dat"):
                importance(np.random.default_rng(r.randrange(1 << 30)), work / ("i." + form), weighted(m), form)
            for recipe in ALL if LONG else r.sample(ALL, 12):
                how = r.choice(("none", "gguf", "dat"))
                for h in ("none", "gguf", "dat") if LONG else (how,):
                    compare("%s %s" % (fam, dtype), work, "m.gguf", recipe, [] if h == "none" else ["--imatrix", "i." + h])


def again(r, work):
    """Sources that are quantized: made by llama-quantize; tensors of the chosen type keep their codes."""
    for fam in ("dense", "moe", "rows32", "gemma3n") if LONG else r.sample(("dense", "moe", "rows32", "gemma3n"), 2):
        m = make(fam, work / "m.gguf", "f32", r.randrange(1 << 30))
        importance(np.random.default_rng(r.randrange(1 << 30)), work / "i.gguf", weighted(m), "gguf")
        for source in ALL[:-4] if LONG else r.sample(ALL[:-4], 3):
            if theirs(work, "m.gguf", "q.gguf", source, ["--imatrix", "i.gguf"]).rc:
                continue
            targets = [source] + r.sample(ALL, 8 if LONG else 3)
            for recipe in targets:
                for weights in ([], ["--imatrix", "i.gguf"]):
                    compare("%s from %s" % (fam, source), work, "q.gguf", recipe, weights)
            several("%s from %s" % (fam, source), r, work, "q.gguf", targets, ["--imatrix", "i.gguf"])


def several(what, r, work, src, recipes, options):
    """All in one read: each as alone."""
    recipes = [x for x in dict.fromkeys(recipes) if ours(work, src, "one-%s.gguf" % x, x, options).returncode == 0]
    run = ours(work, src, "all-{type}.gguf", ",".join(recipes), options)
    if recipes and check(run.returncode == 0, "%s: %s: %s" % (what, recipes, run.stderr[-300:])):
        for x in recipes:
            check((work / ("all-%s.gguf" % x)).read_bytes() == (work / ("one-%s.gguf" % x)).read_bytes(), "%s %s: %s of several" % (what, options, x))
    for x in recipes:
        (work / ("all-%s.gguf" % x)).unlink(missing_ok=True)
        (work / ("one-%s.gguf" % x)).unlink()


NAMED = r"attn_v ffn_(up|down) ^blk\.[0-9]*[13579]\. ATTN_[QK] blk\.(0|1)\. \.weight$ token_embd ^output [.]ffn (?:q|k)\.weight attn_(?!k)".split()
KEYS = ["general.name=str:A name of mine", "general.quantization_version=int:3", "general.file_type=int:5", "new.key=float:0.1", "new.flag=bool:true",
        "%s.block_count=int:%d", "%s.attention.head_count_kv=int:4", "general.name=str:", "new.number=int:4294967295", "a.float=float:-1e-5"]


def any_options(r, work, arch, n):
    both = []
    for flag in ("--pure", "--leave-output-tensor"):
        if r.random() < 0.2:
            both.append(flag)
    for flag in ("--output-tensor-type", "--token-embedding-type"):
        if r.random() < 0.25:
            both += [flag, r.choice(("q8_0", "F16", "q4_1", "iq4_nl", "f32", "BF16"))]
    named = []
    while r.random() < 0.4:
        named.append(r.choice(NAMED) + "=" + r.choice(("q8_0", "Q5_K", "f16", "mxfp4", "nvfp4", "q1_0", "tq2_0", "q3_k", "F32", "q2_0", "iq4_xs")))
    if named and r.random() < 0.4:
        (work / "types.txt").write_text("\n ".join(named) + "\n")
        both += ["--tensor-type-file", "types.txt"]
    else:
        both += [x for n in named for x in ("--tensor-type", n)]
    while r.random() < 0.3:
        kv = r.choice(KEYS)
        both += ["--override-kv", kv if "%" not in kv else kv % ((arch, n) if kv.count("%") == 2 else arch)]
    if r.random() < 0.3:
        layers = r.sample(range(n), r.randint(1, n - 1))
        both += ["--prune-layers", ",".join(map(str, layers))]
        both = [x for i, x in enumerate(both) if "block_count" not in x and "block_count" not in both[min(i + 1, len(both) - 1)]]
    if r.random() < 0.6:
        both += ["--imatrix", r.choice(("i.gguf", "i.dat"))]
        names = [r.choice(("attn", "ffn", "blk.0.", "blk.1.attn_q", "exps", "nothing")) for _ in range(r.choice((0, 0, 1, 2)))]
        flag = r.choice(("--include-weights", "--exclude-weights"))
        both += [x for n in names for x in (flag, n)]
    return both


def options(r, work):
    for fam in FAMILIES:
        dtype = r.choice(("f32", "f16", "bf16"))
        m = make(fam, work / "m.gguf", dtype, r.randrange(1 << 30))
        for form in ("gguf", "dat"):
            importance(np.random.default_rng(r.randrange(1 << 30)), work / ("i." + form), weighted(m), form)
        for _ in range(60 if LONG else 4):
            o = any_options(r, work, m.arch, m.keys["block_count"])
            compare("%s %s" % (fam, dtype), work, "m.gguf", r.choice(ALL), o)


def same_bytes(r, work):
    """Threads, budgets, processors."""
    cpus = ["ref", "avx2", ""] if "avx2" in subprocess.run([LBRX, "info"], capture_output=True, text=True).stdout else ["ref", ""]
    for fam in FAMILIES if LONG else r.sample(FAMILIES, 1):
        m = make(fam, work / "m.gguf", "bf16", r.randrange(1 << 30))
        importance(np.random.default_rng(r.randrange(1 << 30)), work / "i.gguf", weighted(m), "gguf")
        several(fam, r, work, "m.gguf", r.sample(ALL, 8), [])
        several(fam, r, work, "m.gguf", r.sample(ALL, 8), ["--imatrix", "i.gguf"])
        for recipe in ALL if LONG else r.sample(ALL, 6):
            o = ["--imatrix", "i.gguf"]
            if ours(work, "m.gguf", "one.gguf", recipe, o + ["-t", "1"]).returncode:
                continue
            want = (work / "one.gguf").read_bytes()
            for more, cpu in ((["-t", "2"], ""), (["-t", "7", "--memory", "16MiB"], ""), (["--memory", "2GiB"], ""), *(([], c) for c in cpus)):
                run = ours(work, "m.gguf", "two.gguf", recipe, o + more, {"LBRX_CPU": cpu} if cpu else None)
                check(run.returncode == 0 and (work / "two.gguf").read_bytes() == want, "%s %s %s %s: %s" % (fam, recipe, more, cpu, run.stderr[-200:]))


def matrices(path):
    """Of a file, for an importance file: what llama-imatrix would have seen."""
    return [(t.name, int(t.shape[0]), int(t.shape[2]) if len(t.shape) == 3 else 1) for t in gguf.GGUFReader(path).tensors
            if len(t.shape) > 1 and t.name.startswith("blk.") and t.name.endswith(".weight") and not f32(t.name)]


def folders(r, work):
    """Straight from folders of Hugging Face and MLX: as llama-quantize makes it of the GGUF between."""
    global skipped
    folder = ROOT / "tests" / "families"
    sys.path.insert(0, str(folder))
    try:
        import kit
    except ImportError as e:
        skipped += 1
        print("skip: peer_quantize: folders: %s" % e)
        return
    done = 0
    for name in sorted(p.stem for p in folder.glob("*.py") if p.stem not in ("kit", "make_family", "quant")):
        cases = list(__import__(name).cases(random.Random(r.random())))
        for case in cases if LONG else r.sample(cases, 1):
            for x in ("src", "mlx"):
                shutil.rmtree(work / x, ignore_errors=True)
            kit.build(case, work / "src")
            run = lambda *args: subprocess.run([LBRX, *args, "--no-sync", "--force", "-q", "--no-provenance"], cwd=work, capture_output=True).returncode
            if run("convert", "src", "-o", "m.gguf") or peers.quantize(work / "m.gguf", "f16").rc:
                continue  # no GGUF form; none that llama.cpp reads in this size
            done += 1
            mlx = r.random() < 0.5 and run("convert", "src", "-o", "mlx", "--to", "mlx") == 0 and run("convert", "mlx", "-o", "m2.gguf") == 0
            for x in ("m", "m2") if mlx else ("m",):
                importance(np.random.default_rng(r.randrange(1 << 30)), work / ("i%s.gguf" % x), matrices(work / (x + ".gguf")), "gguf")
            for recipe in r.sample(ALL, 20 if LONG else 3):
                weights = r.random() < 0.5
                for x, ours_from in (("m", "src"), ("m2", "mlx")) if mlx else (("m", "src"),):
                    o = ["--imatrix", "i%s.gguf" % x] if weights else []
                    compare("%s %s, %s" % (name, case.label, ours_from), work, x + ".gguf", recipe, o, ours_from=ours_from)
    check(done > 30, "%d models of families" % done)


def main():
    global skipped
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only", default="types,again,options,same_bytes,folders")
    a = p.parse_args()
    start, r = time.time(), random.Random(a.seed)
    if not peers.QUANTIZE or not peers.SCRIPT:
        skipped = 1
        print("skip: peer_quantize: LBRX_LLAMA_QUANTIZE or LBRX_CONVERT_HF_TO_GGUF (whose gguf-py knows all types) is not set")
    else:
        with tempfile.TemporaryDirectory() as d:
            for part in a.only.split(","):
                globals()[part](random.Random(r.random()), pathlib.Path(d))
    if os.environ.get("NOSKIP"):
        globals().update(failed=failed + skipped, skipped=0)
    print("peer_quantize: %d passed, %d failed, %d skipped [cost: slow] %.1f s" % (passed, failed, skipped, time.time() - start))
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
