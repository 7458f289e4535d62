#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: gguf numpy
"""peer_imatrix_run.py [LABEL...]: `lbrx imatrix` against llama-imatrix, which LBRX_LLAMA_IMATRIX names (with
llama-quantize beside it), on tiny models of every family (tests/golden/logits): from the same GGUF in f32 names, shapes,
counts and keys are equal and sums within rounding, with and without --process-output; a GGUF with gate and up in one
tensor gives what the two give. From the Hugging Face and the MLX folder it is what comes from the GGUF. Both forms are
read by llama-quantize; sums of two files are, byte for byte, those of llama-imatrix --in-file."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

START = time.time()
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
import gguf  # noqa: E402
import numpy as np  # noqa: E402

GOLDEN = ROOT / "tests/golden"
LBRX = os.environ.get("LBRX", str(ROOT / "build/lbrx"))
LOGITS = os.environ.get("LOGITS", str(ROOT / "build/cc/tests/logits"))
PEER = os.environ.get("LBRX_LLAMA_IMATRIX", "")
CTX = 64
LIMIT = 5e-3
FLIPS = 4
# the last layer in which llama.cpp computes the same (docs/inference.md: routers, limits of yarn; no windows of Phi 3, and of
# EXAONE 4 by the number of layers)
UNTIL = {"deepseek_v2": 0, "phimoe": -1, "gpt_oss": -1, "exaone4": -1, "phi3": -1}
passed = failed = skipped = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print(f"FAILED: {what}", flush=True)
    return ok


def run(*command, cwd=None):
    r = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd)
    return r.returncode, r.stdout.decode(errors="replace")


def load(path):
    r = gguf.GGUFReader(path)
    keys = {k: f.contents() for k, f in r.fields.items() if not k.startswith("GGUF.")}
    return keys, {t.name: (tuple(int(d) for d in t.shape), np.array(t.data, np.float64).reshape(-1)) for t in r.tensors}


def near(a, b, limit):
    """Largest distance of a column's sum from the other's, in parts of the larger one and a little of the largest of all."""
    return float(np.max(np.abs(a - b) / (np.maximum(np.abs(a), np.abs(b)) + np.abs(b).max() * 1e-3 + 1e-30))) <= limit


def layer(name):
    return int(name.split(".")[1]) if name.startswith("blk.") else 1 << 29


def compare(what, ours, theirs, limit, keys=True, until=1 << 30):
    (ka, a), (kb, b) = load(ours), load(theirs)
    check(not keys or ka == kb, f"{what}: keys {ka} and {kb}")
    if not check(list(a) == list(b), f"{what}: tensors {sorted(set(a) ^ set(b))[:6]}"):
        return
    flips = [n for n in a if n.endswith(".counts") and not np.array_equal(a[n][1], b[n][1])]
    first = min((layer(n) for n in flips), default=1 << 30)  # from there on a few tokens go another way
    for n in a:
        if not check(a[n][0] == b[n][0], f"{what}: shape of {n}: {a[n][0]} and {b[n][0]}"):
            continue
        if layer(n) > until:  # computed otherwise there
            continue
        if n.endswith(".counts"):  # a token whose experts are a rounding apart may have another one
            check(np.abs(a[n][1] - b[n][1]).max() <= (FLIPS if len(a[n][1]) > 1 else 0), f"{what}: {n}: {a[n][1]} and {b[n][1]}")
        elif layer(n) >= first:
            check(np.linalg.norm(a[n][1] - b[n][1]) <= 0.1 * np.linalg.norm(b[n][1]), f"{what}: {n}")
        else:
            check(near(a[n][1], b[n][1], limit), f"{what}: {n}: {np.max(np.abs(a[n][1] - b[n][1]))}")


def cases(wanted):
    seen = set()
    for path in sorted((GOLDEN / "logits").glob("*.json")):
        for line in run(LOGITS, "list", path)[1].splitlines():
            label, tok, *forms = line.split()
            if tok == "own" or "gguf" not in forms or (wanted and label not in wanted) or (path.stem in seen and not wanted):
                continue
            seen.add(path.stem)
            yield path, label, tok, forms


def folder(path, label, tok, to):
    to.mkdir()
    names = {"bpe": ["tokenizer.json", "tokenizer_config.json"], "spm": ["tokenizer.model", "tokenizer_config_spm.json"]}[tok]
    for n in names:
        shutil.copy(GOLDEN / "family" / n, to / n.replace("_spm", ""))
    code, out = run(LOGITS, "make", path, label, to)
    assert code == 0, out


def one(path, label, tok, forms, w):
    hf, model, text = w / "hf", w / "x.gguf", w / "text.txt"
    folder(path, label, tok, hf)
    pre = ["--set", "tokenizer.ggml.pre=str:gpt-2"] if tok == "bpe" else []
    code, out = run(LBRX, "convert", hf, "-o", model, "--to", "gguf", "--dtype", "f32", "--no-sync", "-q", *pre)
    if not check(code == 0, f"{label}: {out}"):
        return
    what = f"{path.stem} {label}"
    for more in [], ["--process-output"]:
        code, out = run(LBRX, "imatrix", "x.gguf", "-f", "text.txt", "-o", "ours.gguf", "--ctx", CTX, "--kv-type", "f32", "-q",
                        "--force", *more, cwd=w)
        if not check(code == 0, f"{what}: {out}"):
            return
        code, out = run(PEER, "-m", "x.gguf", "-f", "text.txt", "-o", "theirs.gguf", "-c", CTX, "-b", CTX, "-ctk", "f32", "-ctv", "f32",
                        "-t", 1, *more, cwd=w)
        if code:
            global skipped
            skipped += 1
            why = (out.strip().splitlines() or [f"exit {code}"])[-1][:150]
            print(f"skip: {what}: llama-imatrix: {why}")
            break
        compare(f"{what} {' '.join(more)}", w / "ours.gguf", w / "theirs.gguf", LIMIT, until=UNTIL.get(path.stem, 1 << 30))
    run(LBRX, "imatrix", "x.gguf", "-f", "text.txt", "-o", "a.gguf", "--ctx", CTX, "--no-ppl", "-q", cwd=w)
    for form in ["hf"] + (["mlx"] if "mlx" in forms else []):
        source = w / form
        if form == "mlx":
            run(LBRX, "convert", hf, "-o", source, "--to", "mlx", "--dtype", "f32", "--no-sync", "-q")
        if path.stem in ("gemma", "gemma2"):
            continue  # the test's tokenizer is not theirs: config.json, which a GGUF follows, has another BOS
        code, out = run(LBRX, "imatrix", source, "-f", text, "-o", w / f"{form}.gguf", "--ctx", CTX, "--no-ppl", "-q")
        if check(code == 0, f"{what} from {form}: {out}"):
            compare(f"{what} from {form}", w / f"{form}.gguf", w / "a.gguf", LIMIT)
    return model


def readers(model, w, what):
    """llama-quantize reads both forms; sums of two."""
    quantize = os.path.join(os.path.dirname(PEER), "llama-quantize")
    for name in "a.gguf", "a.dat":
        run(LBRX, "imatrix", model, "-f", "text.txt", "-o", name, "--ctx", CTX, "--no-ppl", "-q", "--force", cwd=w)
        code, out = run(quantize, "--imatrix", name, model, w / "q.gguf", "Q4_0", cwd=w)
        check(code == 0 and "loaded" in out, f"{what}: llama-quantize --imatrix {name}: {out[-300:]}")
        ours = run(LBRX, "quantize", model, "-o", w / "o.gguf", "--type", "q4_0", "--imatrix", name, "--no-sync", "-q", "--force",
                   cwd=w)
        check(ours[0] == 0, f"{what}: lbrx quantize --imatrix {name}: {ours[1]}")
    run(LBRX, "imatrix", model, "-f", "text.txt", "-o", "b.gguf", "--ctx", CTX, "--no-ppl", "-q", "--from-chunk", 2, cwd=w)
    for form in "gguf", "dat":
        code, out = run(LBRX, "imatrix", "merge", "a.gguf", "b.gguf", "-o", f"sum.{form}", cwd=w)
        check(code == 0, out)
        code, out = run(PEER, "-m", model, "--in-file", "a.gguf", "--in-file", "b.gguf", "-o", f"peer.{form}", "-c", CTX, "--output-format", form,
                        cwd=w)
        check(code == 0, out[-300:])
        check((w / f"sum.{form}").read_bytes() == (w / f"peer.{form}").read_bytes(), f"{what}: sum of two as {form}")
    # a legacy file is one count for all experts, here as there
    code, out = run(LBRX, "imatrix", "merge", "a.dat", "b.gguf", "-o", "mixed.gguf", "--ctx", CTX, cwd=w)
    check(code == 0, out)
    code, out = run(PEER, "-m", model, "--in-file", "a.dat", "--in-file", "b.gguf", "-o", "peer.mixed.gguf", "-c", CTX, cwd=w)
    if code == 0:
        compare(f"{what}: legacy and GGUF", w / "mixed.gguf", w / "peer.mixed.gguf", 1e-6)


def main():
    global skipped
    if not PEER or not os.path.exists(PEER) or not os.path.exists(LOGITS):
        skipped = 1
        print("skip: peer_imatrix_run: LBRX_LLAMA_IMATRIX names no llama-imatrix, or there is no tests/logits")
        return
    words = json.loads((GOLDEN / "family/tokenizer.json").read_text())["model"]["vocab"]
    words = [w for w in words if w.isascii() and w.isalpha()]
    text = " ".join(words[(7 * i * i + 3 * i) % len(words)] for i in range(400)) + "\n"
    for path, label, tok, forms in cases(sys.argv[1:]):
        with tempfile.TemporaryDirectory() as name:
            w = pathlib.Path(name)
            (w / "text.txt").write_text(text)
            model = one(path, label, tok, forms, w)
            if model and path.stem in ("llama", "mixtral", "deepseek_v2"):
                readers(model, w, label)


main()
if os.environ.get("NOSKIP"):
    failed, skipped = failed + skipped, 0
print(f"peer_imatrix_run: {passed} passed, {failed} failed, {skipped} skipped [cost: slow] {time.time() - START:.1f} s")
sys.exit(failed != 0)
