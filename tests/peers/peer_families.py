#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch numpy safetensors transformers gguf
"""peer_families.py [--seed S] [--n N] [--family F[,F]] [--table FILE]: the families of tests/families, with other
draws than the golden files', against the peers:
  HF -> GGUF    with the reference converter: keys, types, values, order, tensors, bytes; with --mtp drop too
  their GGUF -> HF    state, made with --fuse-qkv too; transformers loads it; the same logits in f32
  HF -> MLX     with mlx_lm.convert: tensors, config; logits of mlx-lm near those of transformers
  quantized MLX (by mlx_lm.convert) -> HF and GGUF    the values that mlx dequantizes
  HF -> GGUF -> HF, HF -> MLX -> HF, HF -> MLX -> GGUF -> HF    tensors bit for bit, config.json byte for byte
--table writes the results, a row a family, into the marked part of FILE (docs/formats.md).
"""
import argparse
import json
import pathlib
import random
import shutil
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
import peer_convert as pc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "families"))
import kit
import torch
import transformers

OUT = ("--no-sync", "--force", "-q")
COLUMNS = ("HF → GGUF", "GGUF → HF", "transformers", "HF → MLX", "MLX → HF", "mlx-lm", "MLX → GGUF", "quantized MLX")
cells = {}  # (family, column): [passed, failed]; a reason instead where there is no such form


PRE = [True]  # the case's


class Part:
    """Counts the checks made in it for a cell of the table."""

    def __init__(self, family, column):
        self.cell = cells.setdefault((family, column), [0, 0, ""])

    def __enter__(self):
        self.before = pc.passed, pc.failed
        return self

    def __exit__(self, kind, e, trace):
        if kind is not None and issubclass(kind, Exception):
            pc.check(False, "".join(traceback.format_exception(kind, e, trace)[-3:]))
        self.cell[0] += pc.passed - self.before[0]
        self.cell[1] += pc.failed - self.before[1]
        return kind is None or issubclass(kind, Exception)

    def none(self, why):
        self.cell[2] = why


def convert(what, src, out, to, *flags):
    if to == "gguf" and PRE[0] and not (pathlib.Path(src) / "tokenizer.model").exists():
        flags += ("--set", "tokenizer.ggml.pre=str:gpt-2")
    return pc.lbrx(what, "convert", src, "-o", out, "--to", to, *OUT, *flags)


def as_type(case):
    return () if case.keep else ("--dtype", case.outtype)


def is_lossy(case, name):
    return any(p in name for p in case.lossy)


def same_state(what, got, want, case):
    pc.compare_states(what, {k: v for k, v in got.items() if not is_lossy(case, k)},
                      {k: v for k, v in want.items() if not is_lossy(case, k)})


def logits(folder):
    auto = transformers.AutoModelForCausalLM
    if type(transformers.AutoConfig.from_pretrained(folder)) not in auto._model_mapping:
        auto = transformers.AutoModelForImageTextToText  # a language model beside other parts
    m = auto.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return m(torch.arange(3, 35).reshape(1, -1)).logits


def same_logits(what, back, src):
    a, b = logits(back), logits(src)
    n = min(a.shape[-1], b.shape[-1])
    pc.check(a[..., :n].equal(b[..., :n]), "%s: logits differ by %g" % (what, (a[..., :n] - b[..., :n]).abs().max()))


def gguf_part(f, what, case, src, work, want):
    ours, theirs, back = work / "ours.gguf", work / "theirs.gguf", work / "back"
    with Part(f, COLUMNS[0]) as part:
        why = kit.to_gguf(case, kit.for_peers(case, src), theirs)
        if case.gguf:
            part.none(case.gguf)
            rc = pc.subprocess.run([pc.LBRX, "convert", src, "-o", ours, *OUT], capture_output=True).returncode
            pc.check(why and rc == 3, "%s: the reference says %s, lbrx exit %d" % (what, why, rc))
            return
        if not pc.check(not why, "%s: the reference converter: %s" % (what, why)) or \
                not convert(what + " -> gguf", src, ours, "gguf", *as_type(case)):
            return
        pc.compare_gguf(what + " -> gguf", ours, theirs)
        if case.mtp:
            bare, theirs_bare = work / "ours-bare.gguf", work / "theirs-bare.gguf"
            why = kit.to_gguf(case, src, theirs_bare, no_mtp=True)
            if pc.check(not why, "%s: the reference converter, --no-mtp: %s" % (what, why)) and \
                    convert(what + " -> gguf", src, bare, "gguf", *as_type(case), "--mtp", "drop"):
                pc.compare_gguf(what + " -> gguf --mtp drop", bare, theirs_bare)
    back_want = case.back(dict(want)) if case.back else want
    with Part(f, COLUMNS[1]):
        w, fused = what + " -> gguf (--fuse-qkv) -> hf", work / "fused.gguf"
        if case.outtype == case.dtype and not kit.to_gguf(case, kit.for_peers(case, src), fused, fuse_qkv=True) and \
                (convert(w, fused, back, "hf") if case.fuse_qkv else refused(w, fused, back, "hf")):
            same_state(w, kit.state(back), back_want, case)
    for whose, path in (("ours", ours), ("theirs", theirs)):
        w = "%s -> gguf (%s) -> hf" % (what, whose)
        with Part(f, COLUMNS[1]):
            if convert(w, path, back, "hf") and case.outtype == case.dtype:
                same_state(w, kit.state(back), back_want, case)
                if whose == "ours" and not case.back:
                    pc.check((back / "config.json").read_bytes() == (src / "config.json").read_bytes(),
                             w + ": config.json is not the original's")
        with Part(f, COLUMNS[2]) as part:
            if case.logits is not True:
                part.none(case.logits or "transformers has no class")
            elif not case.lossy and case.outtype == case.dtype and back.exists():
                same_logits(w, back, src)


def flat(config, before=""):
    """Members of nested configs by dotted names."""
    out = {}
    for k, v in config.items():
        if isinstance(v, dict) and k.endswith("_config"):
            out.update(flat(v, before + k + "."))
        else:
            out[before + k] = v
    return out


def is_added(name, adds):
    return name in adds or any(name.startswith(a + ".") for a in adds)


def refused(what, src, out, to):
    rc = pc.subprocess.run([pc.LBRX, "convert", src, "-o", out, "--to", to, *OUT], capture_output=True).returncode
    pc.check(rc == 3, "%s: exit %d, expected 3" % (what, rc))


def near_logits(what, ours, src, case):
    import numpy as np
    model, _ = pc.mlx_lm.load(str(ours))
    model.set_dtype(pc.mx.float32)
    x = np.array(model(pc.mx.array([list(range(3, 35))])).astype(pc.mx.float32))
    ref = logits(src).numpy()
    n = min(x.shape[-1], ref.shape[-1])
    scale = np.abs(ref).max()
    near = np.abs(x[..., :n] - ref[..., :n]).max() / scale
    pc.check(near < 0.01, "%s: logits of mlx-lm and of transformers differ by %.3g of %.3g" % (what, near * scale, scale))


def mlx_part(f, what, case, src, work, want):
    ours, theirs, back, other = work / "ours-mlx", work / "theirs-mlx", work / "back", work / "mlx.gguf"
    shutil.rmtree(ours, ignore_errors=True)
    back_want = case.mlx_back(dict(want)) if case.mlx_back else want
    with Part(f, COLUMNS[3]) as part:
        why = kit.to_mlx(kit.for_peers(case, src), theirs)
        if case.mlx:
            part.none(case.mlx)
        else:
            pc.check(not why, "%s: mlx_lm.convert: %s" % (what, why))
        if not convert(what + " -> mlx", src, ours, "mlx"):
            return
        if not case.mlx and not why:
            pc.check(kit.of_mlx(ours)["tensors"] == kit.of_mlx(theirs)["tensors"], "%s -> mlx: tensors: %s" % (what, [
                x for x in kit.of_mlx(ours)["tensors"] + kit.of_mlx(theirs)["tensors"]
                if (x in kit.of_mlx(ours)["tensors"]) != (x in kit.of_mlx(theirs)["tensors"])][:4]))
            i, j = (json.loads((d / "model.safetensors.index.json").read_text()) for d in (ours, theirs))
            pc.check(list(i["weight_map"].items()) == list(j["weight_map"].items()) and
                     i["metadata"]["total_size"] == j["metadata"]["total_size"], what + " -> mlx: the index")
            # mlx-lm does not count parameters of modules that hold others
            more = i["metadata"]["total_parameters"] - j["metadata"]["total_parameters"]
            pc.check(0 <= more < 0.01 * i["metadata"]["total_parameters"], "%s -> mlx: parameters: %d more" % (what, more))
            a, b = flat(json.loads((ours / "config.json").read_text())), flat(kit.mlx_config(theirs))
            pc.check(all(is_added(k, case.mlx_adds) for k in a.keys() - b.keys()), "%s: config.json adds %s" %
                     (what, a.keys() - b.keys()))
            pc.check(all(a.get(k) == v for k, v in b.items()), "%s: config.json: %s" %
                     (what, {k: (a.get(k), v) for k, v in b.items() if a.get(k) != v}))
    for whose, folder in (("ours", ours), ("theirs", theirs)):
        with Part(f, COLUMNS[4]):
            w = "%s -> mlx (%s) -> hf" % (what, whose)
            if folder.exists() and (whose == "ours" or not case.mlx) and convert(w, folder, back, "hf"):
                same_state(w, kit.state(back), back_want, case)
                loses = case.mlx_lossy or case.mlx_back and case.mlx_logits is not True
                if case.logits is True and not case.lossy and not loses:
                    same_logits(w, back, src)
    with Part(f, COLUMNS[5]) as part:
        if case.mlx_logits is True and case.logits is True:
            near_logits(what + " -> mlx", ours, src, case)
        else:
            part.none(next((w for w in (case.mlx_logits, case.logits) if w and w is not True), "not compared: no class"))
    if not case.gguf:
        with Part(f, COLUMNS[6]):
            w = what + " -> mlx -> gguf -> hf"
            if convert(w, ours, other, "gguf", *as_type(case)) and convert(w, other, back, "hf") and \
                    case.outtype == case.dtype:
                both = case.back(dict(back_want)) if case.back else back_want
                same_state(w, kit.state(back), both, case)
    if case.quantize is True and not case.mlx:
        with Part(f, COLUMNS[7]):
            quantized(what, case, src, work)


def dequantized(folder, kw):
    """mlx_lm's dequantizer passes over matrices a head (mla.py)."""
    mx, raw, out = pc.mx, {}, {}
    for f in sorted(folder.glob("*.safetensors")):
        raw.update(mx.load(str(f)))
    for k, v in raw.items():
        stem = k.removesuffix("weight")
        if k.endswith((".scales", ".biases")) and k.rpartition(".")[0] + ".weight" in raw:
            continue
        if stem != k and stem + "scales" in raw:
            v = mx.dequantize(v, raw[stem + "scales"], raw.get(stem + "biases"), group_size=kw["q_group_size"],
                              bits=kw["q_bits"], mode=kw.get("q_mode", "affine"))
        out[k] = pc.mlx_to_torch(v)
    return out


def quantized(what, case, src, work):
    """The values that mlx dequantizes, in MLX's own names: quantized -> hf -> mlx is dequantized."""
    q, values, back, again = work / "q", work / "values", work / "back", work / "again"
    for kw in (dict(q_bits=4, q_group_size=32), dict(q_mode="mxfp4", q_bits=4, q_group_size=32)):
        w = "%s -> mlx %s" % (what, kw)
        why = kit.to_mlx(kit.for_peers(case, src), q, quantize=True, **kw) or kit.to_mlx(q, values, dequantize=True)
        if why:
            pc.skip("%s: mlx_lm.convert: %s" % (w, why))
            continue
        stored, want = pc.mlx_state(q), dequantized(values, kw)
        if convert(w + " -> hf", q, back, "hf", "--dtype", "f32") and convert(w + " again", back, again, "mlx"):
            # a language model among other parts comes back alone
            got, stored, want = ({k.replace("language_model.", ""): v for k, v in x.items()}
                                 for x in (pc.mlx_state(again), stored, want))
            pc.check(got.keys() == want.keys(), "%s: names %s" % (w, sorted(got.keys() ^ want.keys())[:4]))
            for k in got.keys() & want.keys():
                was = k.removesuffix("weight") + "scales" in stored
                x = got[k] if was else got[k].to(want[k].dtype)
                y = want[k].float() if was else want[k]
                same = x.float().equal(y.float()) if not was else x.to(want[k].dtype).float().equal(y)
                pc.check(same, "%s -> hf: %s: %d values differ" % (w, k, int((x.float() != y.float()).sum())))
        if not case.gguf and convert(w + " -> gguf", q, work / "q.gguf", "gguf", "--dtype", "f32") and \
                convert(w + " -> gguf -> hf", work / "q.gguf", back, "hf", "--dtype", "f32"):
            direct = work / "direct"
            if convert(w, q, direct, "hf", "--dtype", "f32"):
                a, b = kit.state(back), kit.state(direct)
                b = case.back(b) if case.back else b
                for k in a.keys() & b.keys():
                    pc.check(is_lossy(case, k) or a[k].float().equal(b[k].float()), "%s -> gguf: %s" % (w, k))
                pc.check(a.keys() == b.keys(), "%s -> gguf: names %s" % (w, sorted(a.keys() ^ b.keys())[:4]))


def one(f, case, work):
    PRE[0] = case.pre
    what = "%s %s" % (f, case.label)
    src = kit.build(case, work / case.label)
    want = kit.state(kit.for_peers(case, src))
    try:
        gguf_part(f, what, case, src, work, want)
        if pc.mx is not None:
            mlx_part(f, what, case, src, work, want)
    except Exception:
        pc.check(False, "%s: %s" % (what, traceback.format_exc()))
    for d in work.iterdir():
        shutil.rmtree(d) if d.is_dir() else d.unlink()


def table(path):
    rows = ["| family | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    notes = []
    for f in sorted({k[0] for k in cells}):
        line = [f]
        for column in COLUMNS:
            n, bad, why = cells.get((f, column), [0, 0, ""])
            if why:
                notes.append("- %s, %s: %s" % (f, column, why))
            line.append("%d failed" % bad if bad else str(n) + ("*" if why else "") if n else "—" + ("*" if why else ""))
        rows.append("| " + " | ".join(line) + " |")
    text = pathlib.Path(path).read_text()
    head, _, rest = text.partition("<!-- table -->\n")
    _, _, tail = rest.partition("<!-- /table -->\n")
    body = "\n".join(rows) + "\n" + ("\n" + "\n".join(dict.fromkeys(notes)) + "\n" if notes else "")
    pathlib.Path(path).write_text(head + "<!-- table -->\n" + body + "<!-- /table -->\n" + tail)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--seed", default="1")
    a.add_argument("--n", type=int, default=1)
    a.add_argument("--family", default="")
    a.add_argument("--table", default="")
    args = a.parse_args()
    if not pc.SCRIPT:
        pc.skip("LBRX_CONVERT_HF_TO_GGUF does not name the reference converter")
    else:
        pc.logging.disable(pc.logging.CRITICAL)
        for f in args.family.split(",") if args.family else kit.families():
            for i in range(args.n):
                for case in kit.family(f).cases(random.Random("%s/%d" % (args.seed, i))):
                    with tempfile.TemporaryDirectory(prefix="lbrx-family-") as d:
                        one(f, case, pathlib.Path(d))
    if args.table:
        table(args.table)
    print("peer_families: %d passed, %d failed, %d skipped [cost: slow] %.1f s" %
          (pc.passed, pc.failed, pc.skipped, time.time() - pc.START))
    sys.exit(pc.failed != 0)


main()
