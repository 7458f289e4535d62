#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch safetensors transformers tokenizers mergekit
"""peer_moe.py [--seed S] [--n N] [--lbrx FILE]: mixtures of experts of tiny random models, made by mergekit-moe 0.1.5 and
by lbrx from the same file:
  tensors   experts, attention, norms, embeddings bit for bit (in bf16 and f32); routers of embeddings within two units in
            the last place of f32, of torch's draws within three, in bf16 nearly all equal; routers of states within
            2e-5, mergekit's base being run in f32 and each prompt alone (it runs it in bf16 and on padded prompts). mergekit writes mixtral's
            and qwen3's experts fused, lbrx one by one: what transformers makes of the names is compared
  config    equal apart from the keys of DIFFERS
  loading   transformers loads lbrx's folder without a missing or unexpected tensor and gives mergekit's logits
  noise     what is added has mean 0 and the wanted deviation, and is the same again with the same seed
and layershuffle: mergekit's draws after random.seed(N) give the same slices."""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import types

sys.dont_write_bytecode = True
os.environ["HF_HUB_OFFLINE"] = "1"
import logging
import torch
import transformers
import yaml
from mergekit.moe.config import MoEMergeConfig
from mergekit.moe import router
from mergekit.options import MergeOptions
from mergekit.scripts import layershuffle, moe
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast,
                          Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

logging.disable(logging.CRITICAL)
transformers.utils.logging.disable_progress_bar()
passed = failed = 0
KINDS = {"llama": (LlamaConfig, LlamaForCausalLM), "mistral": (MistralConfig, MistralForCausalLM),
         "qwen2": (Qwen2Config, Qwen2ForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
# mergekit's config of DeepSeek is every field that transformers' base class has; auto_map of the base is nobody's.
# rope_theta, rope_scaling: beside rope_parameters, for classes and programs older than those.
# num_experts: mergekit writes qwen3's under a name that only transformers 5 reads.
DIFFERS = {"transformers_version", "rope_theta", "rope_scaling", "num_experts", "num_local_experts", "dtype",
           "torch_dtype", "_name_or_path", "output_hidden_states", "return_dict", "chunk_size_feed_forward",
           "is_encoder_decoder", "id2label", "label2id", "problem_type", "output_attentions"}
WORDS = "the quick brown fox writes code and solves mathematics in python for a reader of stories été ночь 夜".split()


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAIL", what, flush=True)
    return ok


# ---- mergekit's states: f32, and no padding ----

HIDDEN = ("hidden", "hidden_avg", "hidden_last")
padded_states = router.get_hidden_states


def states(model, tokenized, average=True):
    rows = [ids[mask.bool()] for ids, mask in zip(tokenized["input_ids"], tokenized["attention_mask"])]
    one = [padded_states(model.float(), transformers.BatchEncoding({"input_ids": ids[None]}), average) for ids in rows]
    return torch.stack(one).mean(0)


router.get_hidden_states = states


# ---- models ----

def tokenizer(r, path, bos):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"]
    t.train_from_iterator([" ".join(r.choices(WORDS, k=12)) for _ in range(20)], trainers.BpeTrainer(
        vocab_size=330, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    PreTrainedTokenizerFast(tokenizer_object=t, eos_token="</s>", **({"bos_token": "<s>"} if bos else {})
                            ).save_pretrained(path)
    return t.get_vocab_size()


def make_models(r, kind, n, root):
    cls, model = KINDS[kind]
    heads, dim = r.choice([(4, 16), (2, 32), (4, 8)])
    size = dict(hidden_size=r.choice([64, 48]) if kind == "qwen3" else heads * dim, num_attention_heads=heads,
                intermediate_size=r.choice([96, 80]), num_hidden_layers=r.choice([1, 2, 3]),
                num_key_value_heads=r.choice([1, 2]), max_position_embeddings=r.choice([128, 4096]),
                rms_norm_eps=r.choice([1e-5, 1e-6]), tie_word_embeddings=r.random() < 0.3)
    if kind == "qwen3":
        size["head_dim"] = dim
    if kind in ("llama", "mistral") and r.random() < 0.4:
        size["rope_parameters"] = r.choice([
            {"rope_type": "default", "rope_theta": 500000.0},
            {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
             "high_freq_factor": 4.0, "original_max_position_embeddings": 64}])
    names = []
    for i in range(n):
        path = root / ("%s%d" % (kind, i))
        vocab = tokenizer(random.Random(5), path, kind != "qwen2")
        torch.manual_seed(r.randrange(1 << 30))
        m = model(cls(vocab_size=vocab + 6, bos_token_id=0, eos_token_id=1, **size)).to(torch.bfloat16)
        for name, p in m.named_parameters():
            if name.endswith("bias") or "norm" in name:
                p.data.add_(torch.randn_like(p) * 0.1)
        m.save_pretrained(path)
        names.append(str(path))
    if r.random() < 0.3:
        forget(r, pathlib.Path(names[0]) / "config.json")
    return names


def forget(r, path):
    """What a config may leave to its class, which has other defaults in the result; rope in transformers 4's names."""
    c = json.loads(path.read_text())
    rope = c.pop("rope_parameters")
    if rope["rope_theta"] != 10000.0:
        c["rope_theta"] = rope["rope_theta"]
    if rope["rope_type"] != "default":
        c["rope_scaling"] = {k: v for k, v in rope.items() if k != "rope_theta"}
    for k, v in (("rms_norm_eps", 1e-6), ("tie_word_embeddings", False), ("hidden_act", "silu")):
        if c.get(k) == v and r.random() < 0.5:
            del c[k]
    path.write_text(json.dumps(c))


def prompts(r, least=0):
    return [" ".join(r.choices(WORDS, k=r.randrange(least, 6))) + r.choice(["", " ", "\n", "é", "<s>"])
            for _ in range(r.randrange(1, 4))]


def expert(r, model, least=0):
    e = {"source_model": model, "positive_prompts": prompts(r, least)}
    if r.random() < 0.5:
        e["negative_prompts"] = prompts(r, least)
    if r.random() < 0.4:
        e["residual_scale"] = r.choice([0.5, 2, 0.25])
    return e


def make_config(r, kind, names):
    n = r.choice([2, 2, 3, 4])
    gate = r.choice(["cheap_embed", "cheap_embed", "random", "uniform_random", *HIDDEN])
    least = gate in HIDDEN and kind == "qwen2" # without a token at the beginning an empty prompt has no state
    c = {"base_model": names[0], "gate_mode": gate, "experts": [expert(r, names[i % len(names)], least) for i in range(n)]}
    if r.random() < 0.8:
        c["dtype"] = r.choice(["bfloat16", "float32", "float16"])
    if r.random() < 0.5:
        c["experts_per_token"] = r.randrange(1, n + 1)
    if kind == "qwen2":
        c["shared_experts"] = [expert(r, names[1], least)]
    elif kind != "qwen3" and r.random() < 0.6:
        shared = expert(r, names[1], least)
        if r.random() < 0.5:
            shared.pop("positive_prompts"), shared.pop("negative_prompts", 0)
        c["shared_experts"] = [shared]
    if r.random() < 0.3:
        c["architecture"] = {"qwen2": "qwen", "qwen3": "Qwen3"}.get(kind, "")
    return {k: v for k, v in c.items() if v != ""}


# ---- comparing ----

def split_experts(tensors):
    """One matrix an expert, under the names that lbrx writes."""
    out = {}
    for name, t in tensors.items():
        head, _, tail = name.partition(".mlp.experts.")
        mixtral = tail in ("gate_up_proj", "down_proj")
        if not mixtral:
            out[name] = t
            continue
        for e in range(t.shape[0]):
            parts = dict(zip(("gate_proj", "up_proj"), t[e].chunk(2))) if tail == "gate_up_proj" else {"down_proj": t[e]}
            for p, x in parts.items():
                out["%s.mlp.experts.%d.%s.weight" % (head, e, p)] = x.contiguous()
    return out


def plain_names(tensors):
    w = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    out = {}
    for name, t in tensors.items():
        name = name.replace(".block_sparse_moe.", ".mlp.")
        p = name.split(".")
        if ".experts." in name and p[-2] in w:
            p[-2] = w[p[-2]]
        out[".".join(p)] = t
    return out


def ulps(a, b, dtype):
    bits = {torch.float32: torch.int32}.get(dtype, torch.int16)
    x, y = (t.contiguous().view(bits).to(torch.int64) for t in (a, b))
    sign = 1 << (31 if bits == torch.int32 else 15)
    x, y = (torch.where(v < 0, -sign - v, v) for v in (x, y))
    return (x - y).abs()


def compare_tensors(what, ours, theirs, mode):
    a, b = plain_names(load_file(ours)), split_experts(load_file(theirs))
    if not check(a.keys() == b.keys(), "%s: names: %s" % (what, sorted(a.keys() ^ b.keys())[:6])):
        return
    bad = [k for k in a if a[k].dtype != b[k].dtype or a[k].shape != b[k].shape]
    if not check(not bad, "%s: types and shapes: %s" % (what, [(k, a[k].shape, b[k].shape) for k in bad][:3])):
        return
    gates = [k for k in a if k.endswith((".mlp.gate.weight", "shared_expert_gate.weight"))]
    check(all(torch.equal(a[k], b[k]) for k in a if k not in gates),
          "%s: values of %s" % (what, [k for k in a if k not in gates and not torch.equal(a[k], b[k])][:3]))
    for k in gates:
        x, y = a[k], b[k]
        u = ulps(x, y, x.dtype)
        near = (x.double() - y.double()).abs().max() < 4e-7
        if mode in HIDDEN:
            ok = (x.double() - y.double()).abs().max() < (2e-5 if x.dtype == torch.float32 else 2e-3)
        elif mode == "uniform_random":
            ok = torch.equal(x, y)
        elif x.dtype == torch.float32:
            ok = near or u.max() <= 3 if mode == "cheap_embed" else u.max() <= 3
        else:
            ok = u.max() <= 1 and (u > 0).double().mean() <= 0.01
        check(ok, "%s: %s: %d units, %d of %d differ" % (what, k, u.max(), (u > 0).sum(), u.numel()))


def rope_of(c):
    r = dict(c.get("rope_parameters") or {})
    return {**r, "rope_theta": r.get("rope_theta", c.get("rope_theta"))}


def compare_config(what, ours, theirs):
    a, b = (json.loads((p / "config.json").read_text()) for p in (ours, theirs))
    # A config of transformers 4 becomes one of 5 in mergekit's hands, with all fields of the class.
    added = {k for k in b if k not in a and (b[k] is None or k in (
        "attention_dropout", "initializer_range", "use_cache", "pretraining_tp", "rope_parameters", "layer_types",
        "max_window_layers"))}
    differ = {k: (a.get(k), b.get(k)) for k in (a.keys() | b.keys()) - DIFFERS - added if a.get(k) != b.get(k)}
    check(not differ, "%s: config: %s" % (what, differ))
    count = [c.get("num_experts") or c.get("num_local_experts") or c.get("n_routed_experts") for c in (a, b)]
    check(count[0] == count[1] and count[0], "%s: experts: %s" % (what, count))
    dtype = [c.get("torch_dtype") or c.get("dtype") for c in (a, b)] # mergekit's deepseek has both, dtype the base's
    check(dtype[0] == dtype[1], "%s: dtype: %s" % (what, dtype))


def compare_logits(what, r, ours, theirs):
    out = []
    for path in (ours, theirs):
        m, info = transformers.AutoModelForCausalLM.from_pretrained(path, output_loading_info=True, dtype=torch.float32)
        left = {k: v for k, v in info.items() if v}
        check(not left, "%s: loading %s: %s" % (what, path.name, left))
        torch.manual_seed(1)
        with torch.no_grad():
            out.append(m(torch.randint(0, 300, (2, 20))).logits)
    d = (out[0] - out[1]).abs().max().item()
    check(d < 2e-3, "%s: logits differ by %g" % (what, d))


# ---- running ----

def mergekit_moe(config, out, seed):
    transformers.trainer_utils.set_seed(seed)
    try:
        moe.build(MoEMergeConfig.model_validate(config), str(out), MergeOptions(random_seed=seed, clone_tensors=True),
                  allow_all_same=True)
        return True
    except SystemExit:
        return False


def lbrx_moe(args, file, out, seed, *more):
    return subprocess.run([args.lbrx, "moe", str(file), "-o", str(out), "--seed", str(seed), "-q",
                           "--i-understand-this-is-not-useful-without-training", *more], capture_output=True, text=True)


def run_case(r, args, i, root):
    kind = r.choice(list(KINDS))
    names = make_models(r, kind, r.choice([2, 3]), root)
    config, seed = make_config(r, kind, names), r.randrange(1000)
    file = root / "moe.yml"
    file.write_text(yaml.safe_dump(config, allow_unicode=r.random() < 0.5, sort_keys=r.random() < 0.5))
    what = "case %d: %s %s %s%s" % (i, kind, config["gate_mode"], config.get("dtype", "-"),
                                    " shared" if "shared_experts" in config else "")
    theirs, ours = root / "theirs", root / "ours"
    made = mergekit_moe(config, theirs, seed)
    p = lbrx_moe(args, file, ours, seed)
    if not made:
        check(p.returncode == 3, "%s: mergekit refuses: exit %d %s" % (what, p.returncode, p.stderr))
        return
    if not check(p.returncode == 0, "%s: exit %d: %s" % (what, p.returncode, p.stderr)):
        return
    compare_tensors(what, ours / "model.safetensors", theirs / "model.safetensors", config["gate_mode"])
    compare_config(what, ours, theirs)
    if json.loads((ours / "config.json").read_text())["model_type"] != "deepseek": # a class of remote code
        compare_logits(what, r, ours, theirs)
    gguf(args, what, root, file, ours, seed)


def gguf(args, what, root, file, ours, seed):
    """In one pass, and in two; deepseek has no table."""
    p = lbrx_moe(args, file, root / "one.gguf", seed, "--no-provenance")
    if json.loads((ours / "config.json").read_text())["model_type"] == "deepseek":
        check(p.returncode == 3, "%s: gguf of deepseek: exit %d" % (what, p.returncode))
        return
    if "has no form in GGUF" in p.stderr: # llama3's rope in qwen2moe
        return
    q = subprocess.run([args.lbrx, "diff", str(ours), str(root / "one.gguf"), "--tolerance", "1e-2"],
                       capture_output=True, text=True)
    check(p.returncode == 0 and q.returncode == 0, "%s: gguf: %s %s" % (what, p.stderr, q.stderr or q.stdout[-400:]))


def noise(r, args, root):
    names = make_models(r, "llama", 2, root)
    config = {"base_model": names[0], "gate_mode": "random", "dtype": "float32", "experts": [
        {"source_model": names[0], "noise_scale": 0.01}, {"source_model": names[1], "residual_scale": 3.0}]}
    file = root / "noise.yml"
    file.write_text(yaml.safe_dump(config))
    for out, seed in (("n1", 4), ("n2", 4), ("n3", 5)):
        p = lbrx_moe(args, file, root / out, seed, "--no-provenance")
        check(p.returncode == 0, "noise: %s" % p.stderr)
    a, b, c = (load_file(root / o / "model.safetensors") for o in ("n1", "n2", "n3"))
    base, other = (load_file(pathlib.Path(n) / "model.safetensors") for n in names)
    check(all(torch.equal(a[k], b[k]) for k in a), "noise: the same seed gives another result")
    deltas = []
    for k in base:
        if ".mlp." not in k:
            continue
        w = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}[k.split(".")[-2]]
        at = k.rsplit(".mlp.", 1)[0] + ".block_sparse_moe.experts.%d." + w + ".weight"
        x = a[at % 0] - base[k].float()
        deltas.append(x.flatten())
        check(abs(x.std().item() - 0.01) < 0.001 and abs(x.mean().item()) < 0.001, "noise: %s: %g" % (k, x.std()))
        check(not torch.equal(a[at % 0], c[at % 0]), "noise: %s: another seed gives the same" % k)
        check(torch.equal(a[at % 1], other[k].float() * (3.0 if w == "w2" else 1.0)), "noise: %s: scale" % k)
    n = min(len(x) for x in deltas)
    m = torch.corrcoef(torch.stack([x[:n] for x in deltas]).double()) - torch.eye(len(deltas))
    check(m.abs().max() < 0.1, "noise: of two tensors is alike")


def shuffles(r, args, root):
    """mergekit's does not run: 0.1.5 asks the architecture for a number of layers that it no longer knows. It does not
    join slices, and full_random draws from the first layers only: all of them here."""
    layershuffle.arch_info_for_config = lambda _: types.SimpleNamespace(num_layers=lambda c: c.num_hidden_layers)
    names = make_models(r, "llama", 2, root)
    for i in range(4):
        seed, full = r.randrange(1 << 40), i % 2 == 1
        weights = [1.0, 1.0] if full else [round(r.random() + 0.1, 3) for _ in names]
        random.seed(seed)
        out = subprocess.run([args.lbrx, "layershuffle", "--print-yaml", "--seed", str(seed)] +
                             [x for n, w in zip(names, weights) for x in ("-m", n, "-w", str(w))] +
                             (["--full-random"] if full else []), capture_output=True, text=True)
        ours = yaml.safe_load(out.stdout)
        flags = [x for n, w in zip(names, weights) for x in ("-m", n, "-w", str(w))]
        path = root / "shuffle.yml"
        layershuffle.main(["-"] + flags + ["--dry-run", "--write-yaml", str(path)] +
                          (["--full-random"] if full else []), standalone_mode=False)
        flat = lambda c: [(s["sources"][0]["model"], l) for s in c["slices"]
                          for l in range(*s["sources"][0]["layer_range"])]
        theirs = yaml.safe_load(path.read_text())
        model = lambda m: m if isinstance(m, str) else m["model"]["path"]
        check(flat(ours) == [(model(m), l) for m, l in flat(theirs)], "layershuffle %d: %s" % (seed, out.stderr))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--n", type=int, default=12)
    p.add_argument("--lbrx", default=os.environ.get("LBRX", "build/lbrx"))
    args = p.parse_args()
    for i in range(args.n):
        with tempfile.TemporaryDirectory() as d:
            run_case(random.Random(args.seed * 1000 + i), args, i, pathlib.Path(d))
    with tempfile.TemporaryDirectory() as d:
        noise(random.Random(args.seed), args, pathlib.Path(d))
    with tempfile.TemporaryDirectory() as d:
        shuffles(random.Random(args.seed), args, pathlib.Path(d))
    print("peer_moe: %d passed, %d failed, 0 skipped" % (passed, failed))
    return failed > 0


sys.exit(main())
