#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: mergekit transformers torch
"""peer_merge_outline.py: merge files as mergekit 0.1.5's own planner takes them apart.

Random merge files of every method and form over models that exist as lists of tensors only. mergekit plans each, and runs
each task of the plan on tensors of a few elements up to where the method would compute: so for each tensor of the result
its inputs in their order, the values of all parameters, what is copied, and what is refused are mergekit's own. The order
of execution is that of its scheduler. Half of the cases leave modules and layers to the names. Also: the table of methods against mergekit's specifications."""
import contextlib
import copy
import io
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

START = time.time()
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import logging  # noqa: E402

import torch  # noqa: E402
import transformers  # noqa: E402
import yaml  # noqa: E402

with contextlib.redirect_stderr(io.StringIO()):
    import mergekit.merge_methods as mm
    from mergekit.architecture import arch_info_for_config, get_architecture_info
    from mergekit.common import ModelReference
    from mergekit.config import MergeConfiguration
    from mergekit.graph import Executor
    from mergekit.io.tasks import GatherTensors, LoaderCache
    from mergekit.merge import _model_out_config
    from mergekit.merge_methods.base import MergeMethod
    from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
    from mergekit.options import MergeOptions
    from mergekit.plan import MergePlanner
    from mergekit.scripts import merge_raw_pytorch as raw
    from mergekit.tokenizer.embed import PermutedVocabulary

logging.disable(logging.CRITICAL)
DUMP = os.environ.get("MERGE_OUTLINE", str(ROOT / "build/cc/tests/merge_outline"))
SEED = int(os.environ.get("LB_TEST_SEED", "42"))
N = 6000 if os.environ.get("LB_TEST_LONG") else 400
passed = failed = skipped = 0
counts = {"tensors": 0, "inputs": 0, "parameters": 0, "refused by both": 0, "orders": 0}


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok and failed <= 20:
        print(f"FAILED: {what} (seed {SEED})")
    return ok


# ---- models that are only described ----

MODELS = {}  # path -> {"config", "tensors": {name: (shape, dtype)}}


class Loader:
    def __init__(self, path):
        self.index = self
        self.tensor_paths = {name: "model.safetensors" for name in MODELS[path]["tensors"]}


class Loaders(dict):
    def __contains__(self, ref):
        return True

    def __missing__(self, ref):
        return Loader(ref.model.path)


def config_of(self, trust_remote_code=False):
    return copy.deepcopy(MODELS[self.model.path]["config"])


ModelReference.config = config_of
raw.SimpleLoaderCache.get = lambda self, model: Loader(model)
raw.tqdm.tqdm = lambda x, desc=None: x

def llama(layers, vocab):
    return transformers.LlamaConfig(num_hidden_layers=layers, vocab_size=vocab, architectures=["LlamaForCausalLM"])


def granite(layers, vocab):
    return transformers.GraniteConfig(num_hidden_layers=layers, vocab_size=vocab, architectures=["GraniteForCausalLM"])


def bert(layers, vocab):
    return transformers.BertConfig(num_hidden_layers=layers, vocab_size=vocab, architectures=["BertForMaskedLM"])


def gemma3(layers, vocab):
    return transformers.Gemma3Config(text_config={"num_hidden_layers": layers, "vocab_size": vocab},
                                     vision_config={"num_hidden_layers": 2},
                                     architectures=["Gemma3ForConditionalGeneration"])


def describe(r, arch, config, tied, lacking):
    """The tensors of a model by mergekit's list of its architecture, and how lbrx is told of them."""
    tensors, facts, layers, index = {}, [], [], {}
    for number, (name, module) in enumerate(arch.modules.items()):
        prefix = module.weight_prefix or ""
        info = module.architecture
        n = info.num_layers(config) if info.num_layers_config_key() else info.definition.override_num_layers or 0
        layers.append(n)
        groups = [(info.pre_weights(config), -1, "")] + [(info.layer_weights(i, config), i, "") for i in range(n)]
        groups.append((info.post_weights(config), -1, "a"))
        for weights, layer, flags in groups:
            for w in weights:
                full = prefix + w.name
                same = -1
                absent = w.optional and r.random() < (float(tied) if w.tied_names else lacking)
                if absent and w.tied_names:
                    same = index.get(prefix + w.tied_names[0], -1)
                if absent and same < 0:
                    continue
                buffer = w.force_dtype == "int64"
                shape = [12 if w.vocabulary_axis == 0 and r.random() < 0.01 else 10, 2]
                if not absent:
                    tensors[full] = (shape, "int64" if buffer else "float32")
                    index[full] = len(facts)
                facts.append([full, shape, "i64" if buffer else "f32", number, layer, same,
                              flags + "o" * w.optional + "v" * (w.vocabulary_axis is not None) + "b" * buffer])
    return tensors, {"n_layers": layers, "facts": facts}


# ---- random files ----

def scalar(r, kind):
    if kind == "bool":
        return r.choice([True, False, "yes", "off", 1, 0])
    if kind == "int":
        return r.choice([1, 5, 10, "7", 3.0, "4.0"])
    return r.choice([0, 1, True, round(r.random(), 3), r.random() * 2, "1e-2", "0.25", "1_0.5", 1e-7, -0.5])


def value(r, kind):
    if r.random() < 0.6:
        return scalar(r, kind)
    if kind == "int":
        return [scalar(r, kind)] * r.randint(1, 3)
    return [scalar(r, kind) for _ in range(r.choice([0, 1, 2, 3, 5]))]


FILTERS = ["mlp", "self_attn", "q_proj", "layers.1.", "layers.0", "embed", "lm_head", "norm", "*", None, "", "weight", "bias"]


def setting(r, kind):
    pick = r.random()
    if pick < 0.6:
        return value(r, kind)
    one = lambda: {"filter": r.choice(FILTERS), "value": value(r, kind)}  # noqa: E731
    if pick < 0.7:
        return one()
    choices = [one() for _ in range(r.randint(1, 4))]
    if r.random() < 0.6:
        choices.append({"value": value(r, kind)})
    return choices


def complete(r, v, kind):
    if isinstance(v, dict):
        v = [v]
    if isinstance(v, list) and v and isinstance(v[0], dict):
        return v + [{"value": scalar(r, kind)}]
    return v or scalar(r, kind)


KINDS = {}  # method -> {parameter: kind}


def settings(r, method, p):
    out = {}
    for name, (kind, required) in KINDS[method].items():
        if r.random() < max(p, 0.97 * (required and p > 0.5)):
            out[name] = setting(r, kind)
            if required and p > 0.5:  # mostly for all tensors
                out[name] = complete(r, out[name], kind)
    if r.random() < 0.1:
        out[r.choice(["weight", "normalize", "scale"])] = r.choice([1, 0])
    return out


def with_settings(r, method, p, d):
    s = settings(r, method, p)
    if s:
        d["parameters"] = s
    return d


def text_of(r, doc):
    return yaml.safe_dump(doc, sort_keys=r.random() < 0.5, default_flow_style=r.choice([None, False, True]))


def some_models(r, method, names, base):
    """Mostly as many as the method takes, and the base where it must be among them."""
    chosen = r.sample(names, min(len(names), r.choice(SIZES[method])))
    if base and base not in chosen and r.random() < 0.95:
        chosen[r.randrange(len(chosen))] = base
    return chosen


def random_slices(r, method, names, layers, base):
    out = []
    for _ in range(r.randint(1, 3)):
        n = r.choice([0, 1, 1, 2, 3])
        sources = []
        for name in some_models(r, method, names, base):
            first = r.randint(0, max(0, layers[name] - n + (n > 0 and r.random() < 0.03)))
            sources.append(with_settings(r, method, 0.3, {"model": name, "layer_range": [first, first + n]}))
        s = with_settings(r, method, 0.3, {"sources": sources})
        if r.random() < 0.1:
            s["base_model"] = r.choice([x["model"] for x in sources] if r.random() < 0.9 else names)
        out.append(s)
    return out


def random_models(r, method, names, base):
    chosen = some_models(r, method, names, base)
    if base and len(chosen) > 1 and r.random() < 0.5:
        chosen.remove(base) if base in chosen else None  # the planner adds it
    return [with_settings(r, method, 0.4, {"model": name}) for name in chosen]


SIZES = {}  # method -> numbers of inputs that it is likely to take


def random_file(r, form, method, names, layers, modules):
    doc = with_settings(r, method, 0.85, {"merge_method": method})
    policy = mm.get(method).spec.contract.base.value
    if r.random() < {"required": 0.98, "optional": 0.6, "ignored": 0.15}[policy]:
        doc["base_model"] = r.choice(names)
    base = doc.get("base_model") if policy != "ignored" else None
    if form == "slices":
        doc["slices"] = random_slices(r, method, names, layers, base)
    elif form == "models" or form == "raw":
        doc["models"] = random_models(r, method, names, base)
    else:
        doc["modules"] = {m: with_settings(r, method, 0.3, {"models": random_models(r, method, names, base)}
                                           if r.random() < 0.5 or m != modules[0]
                                           else {"slices": random_slices(r, method, names, layers, base)})
                          for m in modules}
    if form != "raw" and r.random() < 0.15:
        doc["tokenizer_source"] = "base"
    return doc


# ---- mergekit ----

class Refused(Exception):
    pass


def task_result(task, gather):
    """What reaches the method: ("merge", inputs, parameters), ("copy", inputs), ("equal", inputs), None."""
    seen = []

    def resolved(self, groups, parameters, **_):
        seen.append(("merge", [e.id for e in groups[0].entries], parameters[0]))
        return (torch.zeros(1),)

    def passthrough(self, group):
        seen.append(("copy", [e.id for e in group.entries], None))
        return torch.zeros(1)

    tensors, loads = {}, {}
    weights = gather.weight_info.items() if isinstance(gather, GatherTensors) else \
        [(m, None) for m in gather.tensors.keys()]
    for model, w in weights:
        name = task.output_weight.name if w is None else w.name
        have = MODELS[model.model.path]["tensors"]
        names = [name] if w is None else [name, *(w.aliases or ()), *(w.tied_names or ())]
        found = next((x for x in names if x in have), None)
        if found is None:
            if w is not None and not w.optional:
                raise Refused(f"{name} is not in {model}")
            continue
        shape, dtype = have[found]
        if isinstance(task.gather_tensors, PermutedVocabulary):
            shape = [10, *shape[1:]]
        tensors[model] = torch.zeros(shape, dtype=getattr(torch, dtype))
        loads[model] = found
    old = MergeMethod._execute_resolved, ExecuteMergeMethodTask._passthrough
    MergeMethod._execute_resolved, ExecuteMergeMethodTask._passthrough = resolved, passthrough
    try:
        out = task.execute(tensors)
    finally:
        MergeMethod._execute_resolved, ExecuteMergeMethodTask._passthrough = old
    if not seen:
        return None if out is None else ("equal", [m for m in task.model_order if m in tensors], None, loads)
    return (*seen[0], loads)


def plan(doc, is_raw):
    """[(name, result, label)], in the order of execution."""
    with contextlib.redirect_stderr(io.StringIO()):
        if is_raw:
            config = raw.RawPyTorchMergeConfig.model_validate(doc)
            tasks = raw.plan_flat_merge(config, "", False, False, MergeOptions())
            tasks = [(t.tensor_name, t.tensor_task) for t in tasks[:-1]]
        else:
            config = MergeConfiguration.model_validate(doc)
            options = MergeOptions()
            arch = get_architecture_info(config, options)
            planner = MergePlanner(config, arch, options, _model_out_config(config, arch))
            planner._plan()
            tasks = [(w.name, t) for w, t in planner._tensors]
    out = []
    for name, t in tasks:
        gather = t.gather_tensors.gather_tensors if isinstance(t.gather_tensors, PermutedVocabulary) else t.gather_tensors
        out.append((name, task_result(t, gather), gather))
    order = None
    if not is_raw:  # there the order is that of a set of names
        run = Executor([t for _, t in tasks]).schedule.tasks
        order = [h.task().output_weight.name for h in run if isinstance(h.task(), ExecuteMergeMethodTask)]
    return out, order


# ---- comparison ----

def as_number(v):
    return math.nan if v is None else float(v)


def same(a, b):
    return a == b or (a != a and b != b)


def compare_tensor(what, method, theirs, ours):
    kind, inputs, parameters, loads = theirs
    counts["tensors"] += 1
    ok = check(ours["copy"] == (kind != "merge"), f"{what}: {kind}, {ours}")
    ids = [str(i) for i in inputs]
    counts["inputs"] += len(ids)
    ok &= check([s["model"] for s in ours["slots"]] == ids, f"{what}: {ids}, {ours}")
    if not ok:
        return
    check([s["fact"] for s in ours["slots"]] == [loads[i] for i in inputs], f"{what}: {loads}, {ours}")
    if kind != "merge":
        return
    for p in method.spec.parameters:
        if p.scope.value == "shared":
            counts["parameters"] += 1
            check(same(as_number(parameters[p.name]), ours["params"][p.name]),
                  f"{what}: {p.name} {parameters[p.name]}, {ours['params']}")
        for i, s in zip(inputs, ours["slots"]):
            if p.scope.value != "shared" and i in parameters[p.name]:
                counts["parameters"] += 1
                check(same(as_number(parameters[p.name][i]), s["params"][p.name]),
                      f"{what}: {p.name} of {i} {parameters[p.name][i]}, {s['params']}")


def ends(doc):
    """Models of the first and of the last slice, where there are slices."""
    slices = doc.get("slices") or next((m["slices"] for m in (doc.get("modules") or {}).values() if "slices" in m), None)
    return ([s["model"] for s in slices[0]["sources"]], [s["model"] for s in slices[-1]["sources"]]) if slices else ([], [])


def compare(case, ours):
    doc, what = case["doc"], case["yaml"].strip()
    first, last = ends(doc)
    fewer = len(first) < len(last)  # mergekit leaves sources of the last slice out
    try:
        theirs, order = plan(copy.deepcopy(doc), case["raw"])
    except Exception as e:  # noqa: BLE001 whatever it is, mergekit does not take the file
        counts["refused by both"] += "error" in ours
        check("error" in ours or fewer, f"{what}\n  mergekit: {type(e).__name__} {str(e)[:300]}; lbrx takes it")
        return
    if fewer:
        return
    if case["raw"] and "is missing in" in ours.get("error", ""):  # of a base that is not listed mergekit takes no names
        return
    tied = {f[0] for m in case["models"].values() for f in m["facts"] if f[5] >= 0} if first != last else set()
    if any(f"'{name}'" in ours.get("error", "") for name in tied):  # mergekit leaves it out, see below
        return
    if not check("error" not in ours, f"{what}\n  lbrx: {ours.get('error')}"):
        return
    method = mm.get(doc["merge_method"])
    mine = {t["name"]: t for t in ours["tensors"]}
    check(len(mine) == len(ours["tensors"]), f"{what}\n  a name twice")
    made = {name: result for name, result, _ in theirs if result}
    more = set(mine) - set(made) - tied  # to a matrix of other models than those of the result's
    check(not more and not set(made) - set(mine), f"{what}\n  {sorted(more)[:3]} {sorted(set(made) - set(mine))[:3]}")
    for name in set(mine) & set(made):
        compare_tensor(f"{what}\n  {name}", method, made[name], mine[name])
    if order:
        labels = {name: max(r[3].values()) for name, r in made.items()}
        counts["orders"] += 1
        check([labels[n] for n in order if n in labels] == [labels[t["name"]] for t in ours["tensors"] if t["name"] in labels],
              f"{what}\n  order")
    used = {(s["model"], s["fact"]) for t in ours["tensors"] for s in t["slots"]}
    listed = {(s["model"], s["fact"]) for s in ours["skipped"]}
    every = {(m, f[0]) for m in case["models"] for f in case["models"][m]["facts"] if f[5] < 0 and m in referenced(doc)}
    check(not used & listed and used | listed == every, f"{what}\n  neither used nor skipped: {sorted(every - used - listed)[:3]}")


def referenced(doc):
    found = set()

    def walk(v, key):
        if isinstance(v, dict):
            for k, x in v.items():
                walk(x, k)
        elif isinstance(v, list):
            for x in v:
                walk(x, key)
        elif key == "model":
            found.add(v)

    walk(doc, "")
    return found | ({doc["base_model"]} if "base_model" in doc else set())


def spec_of(method):
    s = method.spec
    kind = {float: "float", int: "int", bool: "bool"}
    params = [{"name": p.name, "scope": p.scope.value, "kind": kind.get(p.value_type, "float"), "required": p.required,
               "default": 0.0 if p.required else as_number(p.default)} for p in s.parameters]
    c = s.contract
    return {"name": s.name, "base": c.base.value, "min_in": c.min_inputs, "max_in": c.max_inputs or 0,
            "min_non_base": c.min_non_base or 0, "max_non_base": c.max_non_base or 0,
            "lack": s.optional_tensor_policy.value, "params": params}


def compare_methods(specs):
    """The table of methods: what is in it is as mergekit has it (and what mergekit has not may be more)."""
    table = {m["name"]: m for m in json.loads(subprocess.run([DUMP, "--methods"], capture_output=True, check=True).stdout)}
    for name, want in specs.items():
        got = table.get(name)
        if not got:
            continue
        params = {p["name"]: p for p in got["params"]}
        for p in want["params"]:
            mine = params.get(p["name"])
            check(mine and all(mine[k] == p[k] for k in ("scope", "kind", "required")) and
                  (p["required"] or same(mine["default"], p["default"])), f"{name}: {p}, {mine}")
        check(all(got[k] == want[k] for k in want if k != "params"), f"{name}: {want}, {got}")
    print(f"{len(set(table) & set(specs))} of mergekit's {len(specs)} methods are in the table")


def make_case(i, methods, specs):
    r = random.Random(SEED * 1000003 + i)
    method = r.choice(methods)
    form = r.choice(["models", "models", "slices", "slices", "modules", "raw"])
    family = r.choice([llama, granite, granite, bert] + [gemma3] * (form != "slices"))
    names = r.sample(["a", "org/b", "c-d", "./e", "f_7"], 4)
    same_layers = r.random() < 0.9 if form != "slices" else False
    n = r.randint(1, 4)
    layers = {m: n if same_layers else r.randint(3, 5) for m in names}
    models, modules = {}, ["m"]
    lacking = r.choice([0, 0, 1, 0.1, 0.5])  # what a family may lack, all of the models lack mostly
    tied = r.choice([0, 1, 0.4]) if form != "raw" else r.choice([0, 1])
    for m in names:
        config = family(layers[m], 10)
        arch = arch_info_for_config(config)
        modules = list(arch.modules)
        tensors, described = describe(r, arch, config, r.random() < tied, lacking)
        if form == "raw":
            extra = r.random() < 0.1
            if extra:
                tensors["only.weight"] = ([2, 2], "float32")
            described = {"n_layers": [0], "facts": [
                [k, s, {"float32": "f32", "int64": "i64"}[d], 0, -1, -1, "b" * (d == "int64")]
                for k, (s, d) in tensors.items()]}
        MODELS[f"{i}/{m}"] = {"config": config, "tensors": tensors}
        models[f"{i}/{m}"] = described
    full = {m: f"{i}/{m}" for m in names}
    doc = random_file(r, form, method, [full[m] for m in names], {full[m]: layers[m] for m in names}, modules)
    text = text_of(r, doc)
    by_names = {"model_type": config.model_type} if form != "raw" and r.random() < 0.5 else {}
    return {**by_names, "doc": doc, "yaml": text, "raw": form == "raw", "method": specs[method], "models": models,
            "modules": ["m"] if form == "raw" else modules}


def run():
    LoaderCache.loaders = Loaders()
    specs = {m.spec.name: spec_of(m) for m in mm.registered_methods()}
    for name, s in specs.items():
        KINDS[name] = {p["name"]: (p["kind"], p["required"]) for p in s["params"]}
        low = max(s["min_in"], s["min_non_base"] + (s["base"] != "ignored"))
        SIZES[name] = [s["max_in"]] * 20 + [1, 2, 3] if s["max_in"] else \
            [low] * 20 + [1, 2, 4] if s["max_non_base"] else [low, 2, 3, 3, 3, 4, 4, 4]
    compare_methods(specs)
    cases = [make_case(i, sorted(specs), specs) for i in range(N)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "cases.json"
        path.write_text(json.dumps([{k: v for k, v in c.items() if k != "doc"} for c in cases]))
        out = subprocess.run([DUMP, str(path)], capture_output=True, check=True).stdout
    answers = json.loads(out)
    check(len(answers) == len(cases), "an answer each")
    for case, ours in zip(cases, answers):
        compare(case, ours)
    print(", ".join(f"{n} {what}" for what, n in counts.items()))


run()
if os.environ.get("NOSKIP"):
    failed, skipped = failed + skipped, 0
print(f"peer_merge_outline: {passed} passed, {failed} failed, {skipped} skipped [cost: slow] {time.time() - START:.1f} s")
sys.exit(failed != 0)
