#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: numpy gguf
"""peer_recipe.py [--seed S] [--n N] [--arch A[,A]]: the types that src/quant chooses against llama-quantize's, where
LBRX_LLAMA_QUANTIZE names it (built from the sdist of llama-cpp-python 0.3.36) and RECIPE tests/tool/recipe.c's program:
  families   the models of tests/families, converted by lbrx
  archs      every architecture that llama.cpp knows, with random tensors: rows of any length, experts, layers, options
  runs       small models quantized for good: types, order and general.file_type in the file, refusals
"""
import argparse
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden" / "quant"))
import recipe_peers as peers
from recipe_peers import gguf

TOOL = os.environ.get("RECIPE", "")
LONG = bool(os.environ.get("LB_TEST_LONG"))
passed = failed = skipped = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL " + what)
    return ok


class Ours:
    """types as in peers.Said; why: the error or the refusal."""

    def __init__(self, lines):
        _, self.recipe, file_type = lines[0].split()
        self.file_type = int(file_type)
        word, _, self.why = lines[-1].partition(" ")
        self.refused = word == "refused"
        self.types = None if word == "error" else {x.split()[0]: x.split()[1] for x in lines[1:-1]}


def ours(path, recipes, *options):
    run = subprocess.run([TOOL, str(path), ",".join(recipes), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        return run.stderr
    return [Ours(part.split("\n")) for part in re.split(r"\n(?=recipe )", run.stdout.strip())]


def compare(what, path, recipes, options, imatrix=None):
    """A dry run. Options that name a type for rows that it cannot hold: llama-quantize's dry run does not look."""
    got = ours(path, recipes, *options, *(("--imatrix",) if imatrix else ()))
    if not check(isinstance(got, list), "%s %s: %s" % (what, options, got)):
        return
    for recipe, o in zip(recipes, got):
        w = "%s %s %s%s" % (what, recipe, " ".join(options), " imatrix" if imatrix else "")
        want = peers.quantize(path, recipe, *options, *(("--imatrix", str(imatrix)) if imatrix else ()))
        if o.types is None:
            ok = "choose another type for the" in o.why or \
                 "is in none of the" in o.why and re.search("Failed to determine layer|Bad layer", want.why) or \
                 "no other type stands in" in o.why and "no tensor type fallback" in want.why
            check(ok, "%s: %s; llama-quantize: %s" % (w, o.why, want.why))
        elif check(want.types is not None, "%s: llama-quantize: %s" % (w, want.why)):
            off = [(n, o.types.get(n), t) for n, t in want.types.items() if o.types.get(n) != t]
            check(not off and list(o.types) == list(want.types), "%s: %d of %d: %s" % (w, len(off), len(want.types), off[:6]))


# ---- random models ----

NAMES = """attn_q.weight attn_k.weight attn_v.weight attn_output.weight attn_qkv.weight ffn_gate.weight ffn_up.weight
ffn_down.weight""".split()
MLA = "attn_q_a.weight attn_q_b.weight attn_kv_a_mqa.weight attn_kv_b.weight attn_k_b.weight attn_v_b.weight attn_output.weight".split()
SHARED = "ffn_gate_shexp.weight ffn_up_shexp.weight ffn_down_shexp.weight ffn_gate_inp.weight ffn_gate_inp_shexp.weight".split()
MORE = """attn_norm.weight ffn_norm.weight attn_q.bias ffn_up.bias attn_q_norm.weight ssm_in.weight ssm_out.weight ssm_conv1d.weight
ssm_a ssm_x.weight ssm_dt.weight ssm_beta.weight ssm_f_a.weight shortconv.conv.weight shortconv.in_proj.weight time_mix_w1.weight
time_mix_key.weight time_mix_lerp_fused.weight channel_mix_key.weight time_mix_first.weight time_mix_decay_w2.weight attn_rel_b.weight
indexer.k_proj.weight indexer.attn_q_b.weight indexer.attn_k.weight indexer.proj.weight hc_attn_fn.weight nextn.eh_proj.weight
cross_attn_k.weight cross_attn_v.weight altup_proj.weight laurel_l.weight inp_gate.weight proj.weight attn_sinks.weight
ffn_gate_tid2eid.weight exp_probs_b.bias attn_gate.weight nextn.embed_tokens.weight attn_k.weight_extra""".split()
OUTER = """output_norm.weight position_embd.weight token_types.weight per_layer_token_embd.weight per_layer_model_proj.weight cls.weight
rope_freqs.weight v.blk.0.attn_v.weight v.patch_embd.weight v.position_embd.weight mm.0.weight enc.blk.1.ffn_down.weight
enc.blk.2.attn_k.weight sam.neck.0.weight output.bias altup_embd_proj.weight dec.blk.0.cross_attn_v.weight a.rvq.codebook.weight ab.cd""".split()
OVERRIDES = r"attn_v ffn_(up|gate) ^blk\.[0-9]*[13579]\. ATTN_[QK] blk\.(0|1)\. \.weight$ ffn_down_exps token_embd per_layer_token_embd " \
            r"^output \d\.ATTN [[:digit:]][.]ffn (?:q|k)\.weight attn_(?!k) nothing_is_called_so".split()


def cols(r):
    return r.choice((256, 512, 768, 2048, 32, 64, 96, 128, 160, 576, 640, 48, 80, 33, 1, 4))


def model(r, arch, keys):
    """Any tensors: llama-quantize asks metadata and names, not whether they go together."""
    n = r.choice((1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 22, 24, 32, 33, 40, 48, 64, 68, 80, 81))
    experts = r.choice((0, 0, 0, 1, 2, 4, 8, 8, 16, 3))
    head, kv = r.choice(((8, 8), (8, 2), (64, 8), (4, 1), (6, 2), (7, 2), (16, 4), (12, 0)))
    keys = dict(keys, block_count=n)
    keys["attention.head_count"], keys["attention.head_count_kv"] = head, kv
    if r.random() < 0.2:
        keys["attention.head_count"] = [r.choice((head, 4)) for _ in range(n)]
        keys["attention.head_count_kv"] = [r.choice((kv, 1)) for _ in range(n)]
    keys.pop("expert_count", 0), keys.pop("expert_used_count", 0)
    for k, v in keys.items():  # of each layer
        if isinstance(v, list) and len(v) == 4 and k != "rope.dimension_sections":
            keys[k] = (v * n)[:n]
    if experts:
        keys["expert_count"], keys["expert_used_count"] = experts, 1
    fit = r.random() < 0.5  # else rows of any length
    stored = r.choice(("f16", "f16", "bf16", "f32", "q8_0"))
    any_cols = (lambda: r.choice((256, 512, 1024))) if fit else (lambda: cols(r))

    def shape(name):
        if name.endswith((".bias", "_norm.weight")) or "_a" == name[-2:]:
            return [any_cols()]
        return ([r.choice((1, 2, 4))] if "exps" in name or r.random() < 0.05 else []) + [r.choice((1, 2, 3, 8)), any_cols()]

    def kind(name, s):
        t = "f32" if len(s) == 1 or "norm" in name else stored
        return "f16" if t == "q8_0" and s[-1] % 32 else t

    style, names = r.random(), list(NAMES)
    names = [x for x in names if r.random() < 0.85]
    if style < 0.15:
        names = MLA + NAMES[5:]
    if experts and r.random() < 0.8:
        names = [x for x in names if "ffn" not in x] + ["ffn_%s_exps.weight" % x for x in ("gate", "up", "down")] + SHARED
        if r.random() < 0.3:
            names += ["ffn_%s.%d.weight" % (x, e) for x in ("gate", "up", "down") for e in range(experts)]
    names += [x for x in MORE if r.random() < 0.12]
    outer = ["token_embd.weight"] + [x for x in OUTER if r.random() < 0.15] + ["output.weight"] * (r.random() < 0.7)
    if experts > 1 and r.random() < 0.7:
        outer = [x for x in outer if "ffn" not in x]
    shapes = {x: shape(x) for x in names}
    out = [("blk.%d.%s" % (b, x), shapes[x]) for b in range(n) for x in names if r.random() < 0.97]
    if r.random() < 0.05:
        out.append(("blk.%d.ffn_down.weight" % n, [2, 256]))
    out += [(x, shape(x)) for x in outer]
    r.shuffle(out)
    return peers.Model(arch, keys, [(x, s, kind(x, s)) for x, s in out])


def options(r):
    out = []
    for flag in ("--pure", "--leave-output-tensor"):
        if r.random() < 0.12:
            out.append(flag)
    for flag in ("--output-tensor-type", "--token-embedding-type"):
        if r.random() < 0.15:
            out += [flag, r.choice(("q8_0", "F16", "q6_K", "iq4_nl", "f32", "Q4_K"))]
    while r.random() < 0.25:
        out += ["--tensor-type", r.choice(OVERRIDES) + "=" + r.choice(("q8_0", "Q5_K", "iq3_s", "f16", "mxfp4", "nvfp4", "q1_0", "tq2_0", "iq2_xs"))]
    return out


def archs(r, work, n, only):
    """The keys that an architecture asks for are found by asking."""
    all_archs = only or sorted(set(gguf.MODEL_ARCH_NAMES.values()) | {
        "falcon", "glm5-next", "bailingmoe3", "deci", "olmo", "jais2", "nanbeige", "graniteswitch", "llama-embed", "qwen2", "llama"})
    # For clip llama-quantize reads no keys, and decides by memory that nothing has been written to.
    all_archs = [a for a in all_archs if a != "clip"]
    path, imatrix, without = work / "m.gguf", work / "i.dat", {}
    peers.importance(imatrix, {"output.weight": 32})
    for arch in all_archs:
        base = peers.Model(arch, {"block_count": 4, "attention.head_count": 4, "attention.head_count_kv": 2}, [("a.b.weight", [2, 32], "f16")])
        why = peers.complete(base, path)
        if why:
            base.keys.update({"expert_count": 4, "expert_used_count": 1})
            why = peers.complete(base, path)
        if why:
            without[arch] = why
            continue
        for i in range(n):
            m = model(r, arch, base.keys)
            m.write(path)
            if peers.quantize(path, "f16").rc:  # this number of layers or heads is none of the architecture's
                m.keys = dict(base.keys)
                m.write(path)
                if peers.quantize(path, "f16").rc:
                    without[arch] = peers.quantize(path, "f16").why
                    continue
            for _ in range(2):
                compare("%s %d" % (arch, i), path, r.sample(peers.RECIPES, 4), options(r), imatrix if r.random() < 0.3 else None)
    check(len(without) < len(all_archs) / 3, "no model of %s" % without)
    print("peer_recipe: %d architectures; no models of %s" % (len(all_archs), ", ".join(
        "%s (%s)" % (a, w.strip().split("\n")[-1][:60]) for a, w in without.items()) or "none"))


# ---- for good ----

def same_file(what, path, o, file_type):
    f = gguf.GGUFReader(path)
    types = {t.name: t.tensor_type.name.lower() for t in f.tensors}
    check(list(types.items()) == list(o.types.items()), "%s: the file has %s" % (what, [
        x for x in types.items() if x not in o.types.items()][:5] or "another order"))
    check(int(f.fields["general.file_type"].contents()) == file_type, what + ": general.file_type")


def runs(r, work):
    path, out, imatrix = work / "m.gguf", work / "q.gguf", work / "i.dat"
    dense = [(x, [4, 256], "f16") for x in NAMES if "qkv" not in x] + [("attn_norm.weight", [256], "f32")]
    experts = dense[:4] + [("ffn_%s_exps.weight" % x, [8, 2, 256], "bf16") for x in ("gate", "up", "down")] + [
        ("ffn_gate_inp.weight", [8, 256], "f32")]
    head = {"block_count": 12, "attention.head_count": 8, "attention.head_count_kv": 2, "rope.dimension_count": 8}
    outer = [("token_embd.weight", [8, 256], "f16"), ("output_norm.weight", [256], "f32")]
    odd = [(x, [2, 96 if "down" in x else 48 if "up" in x else 64], "f16") for x, _, _ in dense[:-1]]
    models = {"dense": peers.Model("llama", head, peers.layers(0, 12, dense) + outer + [("output.weight", [8, 256], "f16")]),
              "tied": peers.Model("llama", head, peers.layers(0, 12, dense) + outer),
              "experts": peers.Model("llama", {**head, "expert_count": 8}, peers.layers(0, 12, experts) + outer),
              "odd rows": peers.Model("llama", head, peers.layers(0, 12, odd) + outer),
              "quantized": peers.Model("llama", head, peers.layers(0, 12, [(x, s, "q8_0" if t == "f16" else t) for x, s, t in dense]) + outer)}
    for name, m in models.items():
        m.write(path, 7 if name == "quantized" else 1)
        peers.importance(imatrix, {n: s[-1] * (s[0] if len(s) == 3 else 1) for n, s, _ in m.tensors if len(s) > 1})
        for recipe in peers.RECIPES if LONG else r.sample(peers.RECIPES, 12):
            for weighted in (False, True):
                what = "%s %s%s" % (name, recipe, " imatrix" if weighted else "")
                o = ours(path, [recipe], *(("--imatrix",) if weighted else ()))[0]
                want = peers.quantize(path, recipe, *(("--imatrix", str(imatrix)) if weighted else ()), out=out)
                refused = o.refused or o.types is None
                words = ("needs an importance file", "requires an imatrix"), ("again", "requantizing from type"), \
                        ("stands in", "no tensor type fallback")
                check(refused == (want.rc != 0), "%s: %s; llama-quantize: %s" % (what, o.why, want.why))
                if refused:
                    check(any(a in o.why and b in want.why for a, b in words), "%s: %s; llama-quantize: %s" % (what, o.why, want.why))
                elif want.rc == 0:
                    same_file(what, out, o, (7 if name == "quantized" else 1) if recipe == "copy" else o.file_type)
    for name, n in [(x, None) for x in peers.RECIPES] + [(x.upper(), x) for x in peers.RECIPES] + [
            ("Q3_K", "q3_k_m"), ("q4_k", "q4_k_m"), ("Q5_k", "q5_k_m"), ("15", "q4_k_m"), ("0", "f32"), ("38", "mxfp4_moe"), ("7", "q8_0")]:
        o, want = ours(path, [name], "--allow-requantize"), peers.quantize(path, name, "--allow-requantize")
        check(isinstance(o, list) and o[0].recipe == (n or name) and o[0].types == want.types, "the name " + name)


def families(r, work, n):
    """Models of tests/families as lbrx converts them, every recipe."""
    lbrx, folder = os.environ.get("LBRX", "build/lbrx"), ROOT / "tests" / "families"
    sys.path.insert(0, str(folder))
    try:
        import kit
    except ImportError as e:
        global skipped
        skipped += 1
        print("skip: peer_recipe: families: %s" % e)
        return
    done = 0
    for name in sorted(p.stem for p in folder.glob("*.py") if p.stem not in ("kit", "make_family", "quant")):
        try:
            cases = list(__import__(name).cases(random.Random(r.random())))
        except Exception as e:
            check(False, "%s: %r" % (name, e))
            continue
        for case in r.sample(cases, min(n, len(cases))):
            src, out = work / "src", work / "f.gguf"
            shutil.rmtree(src, ignore_errors=True)
            kit.build(case, src)
            run = subprocess.run([lbrx, "convert", str(src), "-o", str(out), "--no-sync", "--force", "-q"], capture_output=True)
            if run.returncode or peers.quantize(out, "f16").rc:  # no GGUF form; none that llama.cpp reads in this size
                continue
            done += 1  # rows of 64 and 96: whole blocks of 32 and of 64, none of 256
            compare("%s %s" % (name, case.label), out, r.sample(peers.RECIPES, 9), options(r))
    check(done > 40, "%d models of families" % done)


def main():
    global skipped
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--n", type=int, default=4 if LONG else 1)
    p.add_argument("--arch", default="")
    p.add_argument("--only", default="runs,archs,families")
    a = p.parse_args()
    start, r = time.time(), random.Random(a.seed)
    if not peers.QUANTIZE or not TOOL:
        skipped = 1
        print("skip: peer_recipe: LBRX_LLAMA_QUANTIZE names no llama-quantize" if TOOL else "skip: peer_recipe: no RECIPE")
    else:
        with tempfile.TemporaryDirectory() as d:
            if "runs" in a.only:
                runs(r, pathlib.Path(d))
            if "archs" in a.only:
                archs(r, pathlib.Path(d), a.n, a.arch.split(",") if a.arch else None)
            if "families" in a.only:
                families(r, pathlib.Path(d), a.n)
    if os.environ.get("NOSKIP"):
        globals().update(failed=failed + skipped, skipped=0)
    print("peer_recipe: %d passed, %d failed, %d skipped [cost: slow] %.1f s" % (passed, failed, skipped, time.time() - start))
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
