#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch safetensors transformers peft gguf
"""peer_lora.py [--seed S] [--n N] [--family F]: random adapters of random models, fused.
  PEFT   all options (patterns, rsLoRA, DoRA, biases, embeddings, whole modules, rows of tokens, parameters of
         experts): what lbrx makes of MODEL+ADAPTER against merge_and_unload, in f32; bf16 to the last bit or the next;
         from MLX and GGUF forms of the base the same values as from Hugging Face's
  MLX    LoRA, DoRA, whole weights: against mlx_lm's fuse
  GGUF   adapters that convert_lora_to_gguf.py makes: the same values as from the folder
"""
import argparse
import contextlib
import io
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings

sys.dont_write_bytecode = True
import peer_convert as pc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "families"))
import kit
import peft
import torch
import transformers
from transformers.pytorch_utils import Conv1D

OUT = ("--no-sync", "--force", "-q")
GGUF_FAMILIES = ("mixtral", "llama", "qwen3_moe", "phi3", "olmoe", "gpt2", "qwen2_moe", "glm4", "deepseek_v2", "gemma",
                 "phimoe", "qwen3_5", "glm4_moe")
FAMILIES = ("llama", "qwen2", "gpt2", "mixtral", "gemma", "phi3", "qwen3_moe", "qwen2_moe", "starcoder2", "gpt_oss",
            "glm4", "olmoe", "deepseek_v2", "qwen3_5", "stablelm", "qwen3_next")


def quietly(f, *args, **kw):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), \
            warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return f(*args, **kw)


def load(base, dtype=torch.float32):
    return quietly(transformers.AutoModelForCausalLM.from_pretrained, base, dtype=dtype)


def linears(m):
    """Names of modules by their last part; those of experts' parameters."""
    kinds, params, biased = set(), set(), set()
    for name, x in m.named_modules():
        if isinstance(x, (torch.nn.Linear, Conv1D)) and not name.endswith("lm_head"):
            kinds.add(name.rsplit(".", 1)[-1])
            if x.bias is not None:
                biased.add(name.rsplit(".", 1)[-1])
        for p, v in x.named_parameters(recurse=False):
            if v.dim() == 3 and not isinstance(x, torch.nn.modules.conv._ConvNd) and name.endswith(".experts"):
                params.add("experts." + p)
    whole = {k for k in biased if all(x.bias is not None for n, x in m.named_modules()
                                      if n.endswith("." + k) and hasattr(x, "bias"))}
    return sorted(kinds), sorted(params), sorted(whole)


def options(r, m, has_tokens):
    kinds, params, biased = linears(m)
    tied = m.config.get_text_config().tie_word_embeddings
    targets = r.sample(kinds, r.randrange(1, len(kinds) + 1))
    kw = dict(r=r.choice([1, 4, 8]), lora_alpha=r.choice([8, 16, 20, 3]), target_modules=targets,
              use_rslora=r.random() < 0.3, task_type="CAUSAL_LM")
    what = r.choice(["", "", "dora", "bias", "params", "embed", "save", "tokens", "patterns", "patterns", "layers", "head"])
    embed = next(n for n, x in m.named_modules() if x is m.get_input_embeddings()).rsplit(".", 1)[-1]
    if what == "params" and not params:
        what = "dora"
    if what == "dora":
        kw["use_dora"] = True
        if r.random() < 0.3 and not tied:
            kw["target_modules"] = targets + [embed]
    elif what == "bias":
        kw["bias"] = r.choice(["all", "lora_only"])
        if biased:
            kw.update(lora_bias=True, bias="none", target_modules=r.sample(biased, r.randrange(1, len(biased) + 1)))
    elif what == "params":
        kw.update(target_parameters=r.sample(params, r.randrange(1, len(params) + 1)), use_rslora=r.random() < 0.3)
        if r.random() < 0.3:
            kw["target_modules"] = []
    elif what == "embed" and not tied:
        kw["target_modules"] = targets + [embed] + r.choice([[], ["lm_head"]])
    elif what == "save" and not tied:
        kw["modules_to_save"] = r.choice([["lm_head"], [embed], [embed, "lm_head"]])
    elif what == "tokens" and has_tokens:
        kw["trainable_token_indices"] = {embed: sorted(r.sample(range(300), r.choice([1, 3, 7])))}
    elif what == "patterns":
        kw["rank_pattern"] = {r.choice([targets[0], r"layers\.\d\..*" + targets[0], "^(?!x).*" + targets[0]]): 2}
        kw["alpha_pattern"] = {targets[-1]: 5, "(" + "|".join(targets) + ")": 7}
    elif what == "layers" and "layers" in next(n for n, x in m.named_modules() if n.endswith(targets[0])):
        kw.update(layers_to_transform=[1], exclude_modules=r.choice([None, [targets[-1]]]) if len(targets) > 1 else None)
    elif what == "head" and not tied:
        kw["target_modules"] = targets + ["lm_head"]
    return what, kw


def make(r, base, out, index):
    """An adapter; what it is. None: this peft takes no such one."""
    m = load(base)
    what, kw = options(r, m, True)
    try:
        m = quietly(peft.get_peft_model, m, peft.LoraConfig(**kw))
    except (ValueError, TypeError, RuntimeError) as e:
        return None, "%s: %s" % (what, str(e)[:80])
    torch.manual_seed(index)
    with torch.no_grad():
        for n, p in m.named_parameters():
            if "lora_" in n or "modules_to_save" in n or "trainable_tokens" in n or (p.requires_grad and "bias" in n):
                p.normal_(0, 0.2)
            if "magnitude" in n:
                p.abs_().add_(0.5)
    m.config._name_or_path = str(base)
    quietly(m.save_pretrained, out)
    if r.random() < 0.3:
        torch.save(kit.state(out), out / "adapter_model.bin")
        (out / "adapter_model.safetensors").unlink()
    return what, {k: v for k, v in kw.items() if k != "task_type"}


def merged(base, adapters, out, dtype=torch.float32):
    m = load(base, dtype)
    m = quietly(peft.PeftModel.from_pretrained, m, adapters[0], adapter_name="a0")
    for i, a in enumerate(adapters[1:]):
        quietly(m.load_adapter, a, adapter_name="a%d" % (i + 1))
    names = ["a%d" % i for i in range(len(adapters))]
    m = quietly(m.base_model.merge_and_unload, adapter_names=names) if len(adapters) > 1 else \
        quietly(m.merge_and_unload)
    quietly(m.save_pretrained, out)
    return kit.state(out)


def bare(state):
    """Without what wraps the language model or goes beside it (transformers loads the language model alone)."""
    return {k.removeprefix("transformer.").replace("model.language_model.", "model."): v for k, v in state.items()
            if not k.startswith(("mtp.", "model.visual."))}


def near(what, got, want, base, steps=0):
    """Sums in f32 of another order: within 2^-20 of the largest; steps: of the type's last bit."""
    got, want = bare(got), bare(want)
    pc.check(set(got) == set(want), "%s: other tensors: %s" % (what, sorted(set(got) ^ set(want))[:4]))
    bad = []
    for k in set(got) & set(want):
        a, b = got[k].float(), want[k].float()
        if a.shape != b.shape:
            bad.append("%s: %s, %s" % (k, tuple(a.shape), tuple(b.shape)))
        elif steps:
            ulp = torch.finfo(want[k].dtype).eps * b.abs().max()
            if not (a - b).abs().max() <= steps * ulp:
                bad.append("%s: %g of %g" % (k, (a - b).abs().max(), b.abs().max()))
        elif not (a - b).abs().max() <= 2.0 ** -20 * b.abs().max():
            bad.append("%s: %g of %g" % (k, (a - b).abs().max(), b.abs().max()))
    pc.check(not bad, "%s: %s" % (what, bad[:3]))
    return not bad


def same(what, a, b):
    """What stands under one name: forms differ in prefixes and stacks."""
    a, b = bare(a), bare(b)
    # norms as 1 + w and -exp(A) lose bits on their way
    a, b = ({k: v for k, v in x.items() if "norm" not in k and "A_log" not in k} for x in (a, b))
    both = [(k, v, b[k]) for k, v in a.items() if k in b]
    bad = [k for k, x, y in both if x.shape != y.shape or not torch.equal(x.float(), y.float())]
    pc.check(not bad and 3 * len(both) > len(b), "%s: differs: %s of %d" % (what, bad[:4], len(both)))


def fuse(what, base, adapters, out, *more):
    arg = "+".join(str(x) for x in [base, *adapters])
    return pc.lbrx(what, "convert", arg, "-o", out, "--to", "hf", "--dtype", "f32", *OUT, *more) and kit.state(out)


def one(r, index, family, work):
    case = r.choice([c for c in kit.family(family).cases(r) if c.model is not None and not c.unread])
    base = kit.build(case, work / "base")
    src, ours = work / "adapter", work / "ours"
    try:
        load(base)
    except Exception as e:
        return pc.skip("#%d %s: transformers does not load it: %s" % (index, case.label, str(e)[:60]))
    kind, kw = make(r, base, src, index)
    what = "#%d %s %s %s" % (index, case.label, kind, kw)
    if kind is None:
        return pc.skip("#%d %s: peft makes none: %s" % (index, case.label, kw))
    try:
        want = merged(base, [src], work / "theirs")
    except Exception as e:
        return pc.skip("#%d %s: peft does not merge it: %s" % (index, what, str(e)[:100]))
    got = fuse(what, base, [src], ours)
    if not got or not near(what, got, want, base):
        return
    for form, name in (("mlx", "base-mlx"), ("gguf", "base.gguf")):
        p = subprocess.run([pc.LBRX, "convert", base, "-o", work / name, "--to", form, *OUT], capture_output=True, text=True)
        if p.returncode:
            continue
        again = fuse("%s from %s" % (what, form), work / name, [src], work / "from")
        if again:
            same("%s from %s" % (what, form), again, got)
    if index % 3 == 0 and kind not in ("tokens", "save"):
        second = work / "second"
        other = make(r, base, second, index + 1000)[0]
        if other is not None:
            try:
                want = other not in ("tokens", "save") and merged(base, [src, second], work / "theirs")
            except Exception:
                want = None
            got = want and fuse(what + ", two", base, [src, second], ours)
            if got:
                near(what + ", two", got, want, base)
            core_space(what + " and " + other, work, base, [src, second], {kind, other} <= FACTORS)
    if index % 4 == 0:
        want = merged(base, [src], work / "theirs", torch.bfloat16)
        pc.lbrx(what + " bf16", "convert", "%s+%s" % (base, src), "-o", ours, "--to", "hf", "--dtype", "bf16", *OUT)
        near(what + " bf16", kit.state(ours), want, base, 2)


FACTORS = {"", "params", "patterns", "layers"}  # peft saves matrices of tokens beside their factors


def core_space(what, work, base, adapters, all_factors):
    """Sums of differences are the same in the space of the factors, which must be found in every form that they have."""
    out = {}
    forms = [base] + [work / f for f in ("base.gguf", "base-mlx") if (work / f).exists()]
    for form in forms:
        models = [{"model": "%s+%s" % (form, a), "parameters": {"weight": w}} for a, w in zip(adapters, (0.75, 0.5))]
        for method in ("task_arithmetic", "core_space"):
            yml = work / (method + ".yml")
            yml.write_text(json.dumps({"merge_method": method, "base_model": str(form), "models": models, "dtype": "float32"}))
            p = subprocess.run([pc.LBRX, "merge", yml, "-o", work / method, "--to", "hf", *OUT[:2]], capture_output=True, text=True)
            if not pc.check(p.returncode == 0, "%s, %s of %s: %s" % (what, method, form.name, p.stderr.strip())):
                return
            out[method] = kit.state(work / method)
        near("%s, core space of %s" % (what, form.name), out["core_space"], out["task_arithmetic"], base)
        if all_factors:
            pc.check("low-rank terms" not in p.stderr, "%s, core space of %s: %s" % (what, form.name, p.stderr.strip()))


# ---- tied embeddings, more tokens ----

TIED = {"head": dict(target_modules=["q_proj", "lm_head"]), "embed": dict(target_modules=["q_proj", "embed_tokens"]),
        "both": dict(target_modules=["embed_tokens", "lm_head"]), "dora": dict(target_modules=["lm_head"], use_dora=True),
        "save": dict(target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
        "save head": dict(target_modules=["q_proj"], modules_to_save=["lm_head"]),
        "save, tied": dict(target_modules=["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True),
        "embed, tied": dict(target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True),
        "tokens": dict(target_modules=["q_proj"], trainable_token_indices=[3, 9]),
        "more tokens": dict(target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])}


def logits(m):
    with torch.no_grad():
        return m.eval()(torch.arange(3, 35).reshape(1, -1)).logits


def tied_one(r, index, kind, work):
    """merge_and_unload changes both of two tied matrices: what counts is what the adapted model computes."""
    family, tied = r.choice(["llama", "qwen2", "gemma"]), kind != "more tokens" or r.random() < 0.5
    config = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config, "gemma": transformers.GemmaConfig}[family](
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        vocab_size=64, tie_word_embeddings=tied)
    what = "tied %s %s" % (family, kind)
    base, src = work / "base", work / "adapter"
    torch.manual_seed(index)
    quietly(transformers.AutoModelForCausalLM.from_config(config).save_pretrained, base)
    m = load(base)
    if kind == "more tokens":
        quietly(m.resize_token_embeddings, 70)
    m = quietly(peft.get_peft_model, m, peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **TIED[kind]))
    with torch.no_grad():
        for n, p in m.named_parameters():
            if "lora_" in n or "modules_to_save" in n or "trainable_tokens" in n:
                p.normal_(0, 0.3)
    quietly(m.save_pretrained, src)
    want = logits(m)
    (src / "tokenizer.json").write_text("{}")
    if pc.lbrx(what, "convert", "%s+%s" % (base, src), "-o", work / "out", *OUT):
        got = logits(load(work / "out"))
        near = (got - want).abs().max() / want.abs().max()
        pc.check(got.shape == want.shape and near < 1e-5, "%s: logits differ by %g" % (what, near))
        pc.check((work / "out" / "tokenizer.json").exists() == (kind == "more tokens"), what + ": the tokenizer")


# ---- towers ----

VLM = {"gemma3": "gemma-3-4b-it", "llava": "llava-1.5-7b-hf", "mistral3": "Mistral-Small-3.1-24B-Instruct-2503", "qwen3_5": "Qwen3.5-9B"}


def vlm_one(r, index, family, work):
    """An adapter of language model and tower, under the names of transformers' class, which checkpoints do not have."""
    base, src = kit.build([c for c in kit.family(family).cases(r) if c.label == VLM[family]][0], work / "base"), work / "adapter"

    def model():
        return quietly(transformers.AutoModelForImageTextToText.from_pretrained, base, dtype=torch.float32)
    m = model()
    names = [n for n, x in m.named_modules() if isinstance(x, torch.nn.Linear) and "lm_head" not in n]
    names = sorted(r.sample(names, len(names) // 2))
    m = quietly(peft.get_peft_model, m, peft.LoraConfig(r=4, lora_alpha=8, target_modules=names))
    with torch.no_grad():
        for n, p in m.named_parameters():
            if "lora_" in n:
                p.normal_(0, 0.2)
    quietly(m.save_pretrained, src)
    quietly(quietly(peft.PeftModel.from_pretrained, model(), src).merge_and_unload().save_pretrained, work / "theirs")
    want, got = kit.state(work / "theirs"), fuse("vlm " + family, base, [src], work / "ours")
    if got:
        near("vlm " + family, {k: v for k, v in got.items() if not k.startswith("mtp.")}, want, base)


# ---- MLX ----

MLX_FAMILIES = ("llama", "qwen2", "mixtral", "gemma", "qwen3_moe", "olmoe", "glm4", "deepseek_v2", "phi3")


def mlx_adapter(r, base, out):
    """A random adapter of mlx-lm's; the model with it, in f32."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten
    from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
    from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
    model, _ = quietly(pc.mlx_lm.load, str(base))
    model.set_dtype(mx.float32)
    kinds = {}
    for k, m in model.layers[-1].named_modules():
        if isinstance(m, (nn.Linear, nn.QuantizedLinear, SwitchLinear, QuantizedSwitchLinear)):
            kinds[k] = isinstance(m, (SwitchLinear, QuantizedSwitchLinear))
    kind = r.choice(["lora", "lora", "lora", "dora"])
    keys = [k for k in kinds if kind == "lora" or not kinds[k]]
    keys = r.sample(keys, r.randrange(1, len(keys) + 1))
    quantized = any(isinstance(m, nn.QuantizedEmbedding) for _, m in model.named_modules())
    if r.random() < 0.3 and not (kind == "dora" and quantized):
        keys.append("model.embed_tokens")
    config = {"fine_tune_type": kind, "num_layers": r.choice([1, 2, 16]),
              "lora_parameters": {"rank": r.choice([2, 8]), "scale": r.choice([1.0, 20.0, 0.5]), "dropout": 0.0, "keys": keys}}
    model.freeze()
    linear_to_lora_layers(model, config["num_layers"], config["lora_parameters"], kind == "dora")
    mx.random.seed(r.randrange(1000))
    w = {k: mx.random.normal(v.shape) * 0.1 if k.rsplit(".", 1)[-1] != "m" else mx.abs(mx.random.normal(v.shape)) + 0.5
         for k, v in tree_flatten(model.parameters()) if k.rsplit(".", 1)[-1] in ("lora_a", "lora_b", "m")}
    out.mkdir()
    mx.save_safetensors(str(out / "adapters.safetensors"), w)
    (out / "adapter_config.json").write_text(json.dumps(config))
    model, _ = quietly(pc.mlx_lm.load, str(base))
    if not quantized:
        model.set_dtype(mx.float32)
    return quietly(load_adapters, model, str(out)), config


def mlx_one(r, index, family, work):
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_unflatten
    from mlx_lm.utils import dequantize_model
    case = r.choice([c for c in kit.family(family).cases(r) if c.model is not None and not c.unread and not c.mlx])
    base = kit.build(case, work / "base")
    ours, src = work / "base-mlx", work / "adapter"
    more = ("quantize",) if index % 3 == 2 and case.quantize else ("convert", "--dtype", "f32")
    if more[0] == "quantize":
        more += ("--type", "mlx-q8", "--group-size", "32")
    what = "mlx #%d %s %s" % (index, case.label, more[0])
    if subprocess.run([pc.LBRX, *more, base, "-o", ours, "--to", "mlx", *OUT], capture_output=True).returncode:
        return pc.skip(what + ": no such base")
    try:
        model, config = mlx_adapter(r, ours, src)
    except Exception as e:
        return pc.skip("%s: mlx-lm makes none: %s" % (what, str(e)[:80]))
    what += " %s" % config
    fused = [(n, m.fuse(dequantize=True)) for n, m in model.named_modules() if hasattr(m, "fuse")]
    model.update_modules(tree_unflatten(fused))
    model = quietly(dequantize_model, model)
    want = {k: pc.mlx_to_torch(v) for k, v in tree_flatten(model.parameters())}
    arg = "%s+%s" % (ours, src)
    if not pc.lbrx(what, "convert", arg, "-o", work / "fused", "--to", "mlx", "--dtype", "f32", *OUT):
        return
    got = kit.state(work / "fused")
    # mlx-lm rounds what it dequantizes and adds to the type of the scales
    near(what, {k: v for k, v in got.items() if k in want}, want, base, 8 if more[0] == "quantize" else 0)
    if pc.lbrx(what + " on hf", "convert", "%s+%s" % (base, src), "-o", work / "from-hf", "--to", "mlx", "--dtype", "f32", *OUT) \
            and more[0] == "convert":
        same(what + " on hf", kit.state(work / "from-hf"), got)


# ---- GGUF ----

def by_expert(r, base, out):
    """An adapter of experts as modules, as transformers 4 had them."""
    from safetensors.torch import save_file
    state, adapter = kit.state(base), {}
    for k, v in state.items():
        if ".experts." in k and v.dim() == 2:
            name = "base_model.model." + k.removesuffix(".weight")
            adapter[name + ".lora_A.weight"] = torch.randn(4, v.shape[1]) * 0.2
            adapter[name + ".lora_B.weight"] = torch.randn(v.shape[0], 4) * 0.2
    if adapter:
        out.mkdir()
        save_file(adapter, out / "adapter_model.safetensors")
        (out / "adapter_config.json").write_text(json.dumps(
            {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"]}))
    return bool(adapter)


def same_gguf(what, ours, theirs):
    import gguf
    a, b = ({t.name: t.data for t in gguf.GGUFReader(f).tensors} for f in (ours, theirs))
    bad = [k for k in set(a) & set(b) if a[k].shape != b[k].shape or (a[k] != b[k]).any()]
    pc.check(set(a) == set(b) and not bad, "%s: in GGUF: %s" % (what, bad[:3] or sorted(set(a) ^ set(b))[:4]))


def gguf_one(r, index, family, work):
    """The reference's adapter in GGUF is what it was made of, and ours is the reference's."""
    case = r.choice([c for c in kit.family(family).cases(r) if c.model is not None and not c.unread and not c.gguf])
    base, src = kit.build(case, work / "base"), work / "adapter"
    try:
        m = load(base)
    except Exception as e:
        return pc.skip("gguf #%d %s: %s" % (index, case.label, str(e)[:60]))
    experts = index % 2 == 0 and by_expert(r, base, src)
    kinds = linears(m)[0]
    kw = dict(r=4, lora_alpha=8, target_modules=r.sample(kinds, r.randrange(1, len(kinds) + 1)), task_type="CAUSAL_LM")
    what = "gguf #%d %s %s" % (index, case.label, "experts" if experts else kw["target_modules"])
    try:
        m = quietly(peft.get_peft_model, m, peft.LoraConfig(**kw))
    except Exception as e:
        return pc.skip("%s: %s" % (what, str(e)[:60]))
    with torch.no_grad():
        for n, p in m.named_parameters():
            if "lora_" in n:
                p.normal_(0, 0.2)
    if not experts:
        quietly(m.save_pretrained, src)
    script = pathlib.Path(pc.SCRIPT).parent / "convert_lora_to_gguf.py"
    p = subprocess.run([sys.executable, script, "--base", base, src, "--outfile", work / "theirs.gguf"], capture_output=True,
                       text=True)
    if p.returncode:
        return pc.skip("%s: the reference: %s" % (what, p.stderr.strip().rsplit("\n", 1)[-1][:80]))
    a = fuse(what, base, [src], work / "a")
    if family != "gpt2":  # whose pairs it turns round, unlike the tensors that they are of
        b = fuse(what + " theirs", base, [work / "theirs.gguf"], work / "b")
        if a and b:
            same(what + " theirs", b, a)
    if pc.lbrx(what + " ours", "lora", "convert", src, "-o", work / "ours.gguf", "--base", base, *OUT):
        if family != "gpt2":
            same_gguf(what, work / "ours.gguf", work / "theirs.gguf")
        b = fuse(what + " ours", base, [work / "ours.gguf"], work / "b")
        if b:
            same(what + " ours", b, a)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--seed", default="1")
    a.add_argument("--n", type=int, default=16)
    a.add_argument("--only", type=int)
    a.add_argument("--family")
    a.add_argument("--part", choices=["peft", "tied", "vlm", "mlx", "gguf"])
    args = a.parse_args()
    parts = [("peft", one, FAMILIES, args.n), ("tied", tied_one, list(TIED), (args.n + 1) // 2), ("vlm", vlm_one, list(VLM), (args.n + 3) // 4), ("mlx", mlx_one, MLX_FAMILIES, (args.n + 1) // 2 if pc.mx is not None else 0),
             ("gguf", gguf_one, GGUF_FAMILIES, (args.n + 3) // 4 if pc.SCRIPT else 0)]
    for part, run, families, n in parts:
        for i in range(n) if args.only is None else [args.only]:
            r = random.Random("%s/%s/%d" % (args.seed, part, i))
            if args.part not in (None, part):
                continue
            with tempfile.TemporaryDirectory(prefix="lbrx-lora-") as d:
                try:
                    run(r, i, args.family or families[i % len(families)], pathlib.Path(d))
                except Exception:
                    pc.check(False, "%s #%d: %s" % (part, i, traceback.format_exc()))
    print("peer_lora: %d passed, %d failed, %d skipped [cost: slow] %.1f s" %
          (pc.passed, pc.failed, pc.skipped, time.time() - pc.START))
    sys.exit(pc.failed != 0)


main()
