#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch numpy safetensors transformers gguf tokenizers
"""peer_perplexity.py [--model FILE --text FILE [--chunks N]]: `lbrx perplexity` against llama-perplexity and transformers.

Small models, trained for a minute on the documents, in GGUF types of every kind: perplexity within 0.1 % of llama-perplexity's, with activations rounded
as there (the default), and as generate rounds them, --exact and --fast printed beside it; saved logits and divergences of them against transformers
on the same values, in double; llama-perplexity's own divergence, whose logits are rounded to 16 bits, near ours.
--model: the same perplexities of a real file and of its values in f32, where llama.cpp rounds nothing, which is what is checked there.

llama-perplexity: in the folder that LBRX_LLAMA_TOOLS names, or on the PATH; without it that part is skipped."""
import argparse
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import peer_convert as pc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "families"))
import kit
import numpy as np
import torch
import transformers

CTX, CHUNKS = 128, 6
TYPES = ["f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl", "iq4_xs",
         "iq3_s", "tq2_0", "mxfp4", "nvfp4"]
SIZES = dict(vocab_size=kit.VOCAB, hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, bos_token_id=kit.BOS, eos_token_id=kit.EOS, max_position_embeddings=4096)
MODELS = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {}),
          "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {"head_dim": 64}),
          "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM, {"head_dim": 64, "query_pre_attn_scalar": 64})}
worst = {}


def tool():
    folder = os.environ.get("LBRX_LLAMA_TOOLS")
    return shutil.which("llama-perplexity", path=folder) if folder else shutil.which("llama-perplexity")


def llama(pattern, model, text, ctx, chunks, *more):
    """What it prints behind the pattern; it loses its last lines now and then, more often on a busy machine."""
    for _ in range(15):
        r = subprocess.run([tool(), "-m", str(model), "-f", str(text), "-c", str(ctx), "--chunks", str(chunks), "-t", "1", *map(str, more)],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        if m := re.search(pattern + r"\s*(\S+)", r.stdout):
            return float(m.group(1))
    return None


def llama_ppl(*args):
    return llama("Final estimate: PPL =", *args)


def lbrx(model, text, ctx, chunks, *more):
    r = subprocess.run([pc.LBRX, "perplexity", str(model), "-f", str(text), "--ctx", str(ctx), "--chunks", str(chunks), "--json", "-q",
                        *map(str, more)], capture_output=True, text=True)
    return json.loads(r.stdout) if pc.check(r.returncode == 0, "%s: exit %d: %s" % (model, r.returncode, r.stderr[:300])) else None


def note(kind, what, d):
    if d > worst.get(kind, (-1,))[0]:
        worst[kind] = (d, what)


def read(path):
    """ids [chunks, ctx] and logits [chunks, rows, vocab] of a file of ours."""
    b = path.read_bytes()
    _, _, vocab, ctx, _, chunks = struct.unpack_from("<8sIIIIQ", b)
    ids = np.frombuffer(b, "<u4", chunks * ctx, 64).reshape(chunks, ctx)
    rows = np.frombuffer(b, np.dtype([("x", "<f4", vocab), ("h", "V16")]), offset=64 + 4 * ids.size)
    return ids, rows["x"].reshape(chunks, -1, vocab), struct.unpack_from("<I", b, 20)[0]


def reference(folder, ids, bos):
    m = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    ids = torch.tensor(ids.astype("i8"))
    if bos != 0xffffffff:
        ids[:, 0] = bos
    with torch.no_grad():
        return m(ids).logits[:, CTX // 2 : CTX - 1].double()


def by_torch(base, other, ids):
    """The figures of other's logits against base's."""
    p, q = base.log_softmax(-1), other.log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1).flatten()
    right = torch.tensor(ids[:, CTX // 2 + 1 :].astype("i8")).unsqueeze(-1)
    lp, lq = p.gather(-1, right).flatten(), q.gather(-1, right).flatten()
    return {"perplexity": (-lq.mean()).exp(), "kl_mean": kl.mean(), "kl_median": kl.quantile(0.5), "kl_p99": kl.quantile(0.99),
            "kl_max": kl.max(), "top1_agreement": (p.argmax(-1) == q.argmax(-1)).double().mean(), "perplexity_base": (-lp.mean()).exp(),
            "log_ratio": (lp - lq).mean(), "p_rms": (lq.exp() - lp.exp()).square().mean().sqrt()}


def train(folder, text, steps=60):
    """Some steps on the text: a model that predicts something has weights and activations as models have them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor(tokenizer(text.read_text(), add_special_tokens=False)["input_ids"])
    torch.manual_seed(1)
    m = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder), dtype=torch.float32)
    best = torch.optim.AdamW(m.parameters(), lr=2e-3)
    for _ in range(steps):
        at = torch.randint(0, len(ids) - 129, (6,))
        batch = torch.stack([ids[i : i + 128] for i in at])
        loss = m(batch, labels=batch).loss
        best.zero_grad()
        loss.backward()
        best.step()
    m.save_pretrained(folder)
    return loss.item()


def against_torch(what, q, text, work, base, ids, bos):
    """A quantized file against transformers with its values."""
    got = lbrx(q, text, CTX, CHUNKS, "--exact", "--kl", work / "base.logits", "--kv-type", "f32")
    flat = work / "values"
    if not got or not pc.lbrx(what, "convert", q, "-o", flat, "--to", "hf", "--dtype", "f32", "--no-sync", "--force", "-q"):
        return
    want = by_torch(base, reference(flat, ids, bos), ids)
    for k, v in want.items():
        d = abs(got[k] - v.item()) / max(abs(v.item()), 1e-3)
        note("of transformers, " + k, what, d)
        limit = 5e-3 if k == "top1_agreement" else 2e-4
        pc.check(d <= limit, "%s: %s is %.9g, by transformers %.9g" % (what, k, got[k], v.item()))


def one(family, work):
    config, model, more = MODELS[family]
    case = kit.Case("Small-" + family, config(**SIZES, **more), model, dtype="f32")
    src = kit.build(case, work / "src")
    text, f32 = work / "text", work / "f32.gguf"
    docs = pathlib.Path(__file__).resolve().parents[2] / "docs"
    text.write_text("\n".join(p.read_text() for p in (docs / "merging.md", docs / "formats.md", docs / "quantization.md")))
    loss = train(src, text)
    pc.check(loss < 5, "%s: nothing was learned: %.3g" % (family, loss))
    if not pc.lbrx(family, "convert", src, "-o", f32, "--to", "gguf", "--no-sync", "-q", "--set", "tokenizer.ggml.pre=str:gpt-2"):
        return
    saved = lbrx(src, text, CTX, CHUNKS, "--save-logits", work / "base.logits", "--kv-type", "f32")
    if not saved:
        return
    ids, logits, bos = read(work / "base.logits")
    base = reference(src, ids, bos)
    d = (torch.tensor(logits).double().log_softmax(-1) - base.log_softmax(-1)).abs().max().item()
    note("of saved log-probabilities", family, d)
    pc.check(d < 1e-3, "%s: saved log-probabilities are up to %.3g from transformers'" % (family, d))
    kld = work / "base.kld"
    if tool():
        llama_ppl(f32, text, CTX, CHUNKS, "--kl-divergence-base", kld)
    else:
        pc.skip("%s: no llama-perplexity" % family)
    for kind in ["f32"] + (TYPES if family == "llama" else TYPES[2::3]):
        q, what = work / (kind + ".gguf"), "%s %s" % (family, kind)
        if kind != "f32" and not pc.lbrx(what, "quantize", f32, "-o", q, "--type", kind, "--no-sync", "-q"):
            continue
        if kind != "f32":
            against_torch(what, q, text, work, base, ids, bos)
        if tool():
            against_llama(what, q, text, kld, work)
        if q != f32:
            q.unlink()


def against_llama(what, q, text, kld, work):
    want = llama_ppl(q, text, CTX, CHUNKS)
    if want is None:
        pc.skip("%s: llama-perplexity gives nothing" % what)
        return
    for flags in ((), ("--activations", "usual"), ("--exact",), ("--fast",)):
        got = lbrx(q, text, CTX, CHUNKS, "--kl", work / "base.logits", *flags)
        if not got:
            return
        d = abs(got["perplexity"] / want - 1)
        note("of llama-perplexity" + (" with " + " ".join(flags) if flags else ""), what, d)
        if not flags:
            pc.check(d <= 1e-3, "%s: perplexity %.6g, llama-perplexity %.6g" % (what, got["perplexity"], want))
            kl = got["kl_mean"]
    theirs = llama("Mean    KLD:", q, text, CTX, CHUNKS, "--kl-divergence-base", kld, "--kl-divergence")
    if theirs is None:
        pc.skip("%s: llama-perplexity gives no divergence" % what)
    else:
        note("of llama-perplexity's divergence (nats)", what, abs(theirs - kl))
        pc.check(abs(theirs - kl) <= 0.05 * kl + 1e-4, "%s: divergence %.6g, llama-perplexity's %.6g" % (what, kl, theirs))


def real(model, text, chunks):
    with tempfile.TemporaryDirectory(prefix="lbrx-perplexity-") as d:
        values = pathlib.Path(d) / "values.gguf"
        pc.lbrx("values", "convert", model, "-o", values, "--to", "gguf", "--dtype", "f32", "--no-sync", "-q")
        want = {"llama-perplexity": llama_ppl(model, text, 512, chunks), "llama-perplexity of the values": llama_ppl(values, text, 512, chunks)}
        got = {"lbrx " + (f or "(default)"): lbrx(model, text, 512, chunks, *f.split())["perplexity"]
               for f in ("", "--activations usual", "--exact", "--fast")}
    for k, v in {**want, **got}.items():
        print("%-32s %s" % (k, v))
    of_values = want["llama-perplexity of the values"]
    pc.check(of_values and abs(got["lbrx --exact"] / of_values - 1) <= 1e-3, "%s: not within 0.1 %% of llama-perplexity's of the values" % model)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--model")
    a.add_argument("--text")
    a.add_argument("--chunks", type=int, default=6)
    o = a.parse_args()
    pc.logging.disable(pc.logging.CRITICAL)
    if o.model:
        real(o.model, o.text, o.chunks)
    else:
        for family in MODELS:
            with tempfile.TemporaryDirectory(prefix="lbrx-perplexity-") as d:
                one(family, pathlib.Path(d))
    for k, (d, what) in sorted(worst.items()):
        print("largest difference %s: %.3g (%s)" % (k, d, what))
    print("peer_perplexity: %d passed, %d failed, %d skipped [cost: slow] %.1f s" %
          (pc.passed, pc.failed, pc.skipped, time.time() - pc.START))
    sys.exit(pc.failed != 0)


main()
