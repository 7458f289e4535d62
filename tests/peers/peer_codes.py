#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: torch safetensors transformers gguf
"""peer_codes.py: codes between GGUF and MLX as they are. Tiny models of three families, quantized by gguf-py (and by
libggml, where LBRX_LIBGGML names it, to the K types):
  GGUF -> MLX     words, scales and biases as mlx.core.load reads them from the GGUF (Q4_0, Q4_1, Q8_0); mlx's values
                  in f32 are gguf-py's; mlx-lm loads and runs the folder
  and back        the same types and bytes; a mixture of Q4_0 and Q4_1 comes back as Q4_1 with the same values
  --codes near    Q4_K and Q5_K: values within what rounding their scales to f16 does; --codes none: bf16
"""
import json
import pathlib
import random
import shutil
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import peer_convert as pc


sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "families"))
import gguf
import mlx_lm.utils
import kit
import quant as types
import numpy as np
from transformers import LlamaConfig, LlamaForCausalLM

OUT = ("--no-sync", "--force", "-q")
FAMILIES = ("llama", "qwen3_moe", "phi3")
EXACT = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4")


def values(w, s, b, bits, mode):
    mx = pc.mx
    if mode == "mxfp4":
        return np.array(mx.dequantize(w, s, group_size=32, bits=4, mode="mxfp4").astype(mx.float32))
    f = mx.float32
    return np.array(mx.dequantize(w, s.astype(f), b.astype(f), group_size=32, bits=bits))


def mlx_values(folder):
    """Every tensor of an MLX folder by value, in f32."""
    mx = pc.mx
    q = json.loads((folder / "config.json").read_text()).get("quantization", {})
    state = {}
    for f in folder.glob("*.safetensors"):
        state.update(mx.load(str(f)))
    out = {}
    for k, v in state.items():
        stem = k.rsplit(".", 1)[0]
        if k.endswith((".scales", ".biases")):
            continue
        if stem + ".scales" in state:
            own = q.get(stem, q)
            out[k] = values(v, state[stem + ".scales"], state.get(stem + ".biases"), own["bits"], own.get("mode"))
        else:
            out[k] = np.array(v.astype(mx.float32))
    return out, state


def same_gguf(what, a, b):
    x, y = ({t.name: t for t in gguf.GGUFReader(p).tensors} for p in (a, b))
    pc.check(x.keys() == y.keys(), what + ": names")
    for n in x.keys() & y.keys():
        pc.check(x[n].tensor_type == y[n].tensor_type and x[n].data.tobytes() == y[n].data.tobytes(),
                 "%s: %s: %s, expected %s" % (what, n, y[n].tensor_type.name, x[n].tensor_type.name))


def by_mlx(what, path, state):
    """What mlx.core.load makes of the GGUF, for tensors whose rows GGUF does not move."""
    for k, v in pc.mx.load(str(path)).items():
        if "ffn_" not in k or not k.startswith("blk.") or k.endswith("_norm.weight") or "_exps" in k or "gate_inp" in k:
            continue
        _, layer, rest = k.split(".", 2)
        name = {"ffn_down": "mlp.down_proj", "ffn_up": "mlp.up_proj", "ffn_gate": "mlp.gate_proj"}[rest.split(".")[0]]
        ours = state.get("model.layers.%s.%s.%s" % (layer, name, rest.split(".")[1]))
        if ours is None:
            continue  # fused in this family
        pc.check(ours.dtype == v.dtype and bool(pc.mx.array_equal(ours, v)), "%s: %s is not mlx's" % (what, k))


def one(family, kinds, work, r, flags=()):
    case = next(iter(kit.family(family).cases(r)))
    if set(kinds) <= {"Q4_K", "Q5_K"}:  # rows of whole blocks
        family, case = "llama", kit.Case("Wide", LlamaConfig(vocab_size=kit.VOCAB, hidden_size=256, intermediate_size=512,
                                                             num_hidden_layers=2, num_attention_heads=4), LlamaForCausalLM)
    what = "%s %s %s" % (family, "+".join(kinds), " ".join(flags))
    src, plain, q = kit.build(case, work / case.label), work / "plain.gguf", work / "q.gguf"
    why = kit.to_gguf(case, src, plain)
    if not pc.check(not why, "%s: the reference: %s" % (what, why)):
        return
    want = types.quantize_file(plain, q, [gguf.GGMLQuantizationType[k] for k in kinds], r)
    ours, back = work / "mlx", work / "back.gguf"
    shutil.rmtree(ours, ignore_errors=True)
    if not pc.lbrx(what, "convert", q, "-o", ours, "--to", "mlx", *OUT, *flags):
        return
    got, state = mlx_values(ours)
    hf = work / "hf"
    if not pc.lbrx(what + " hf", "convert", q, "-o", hf, "--to", "hf", "--dtype", "f32", *OUT) or \
            not pc.lbrx(what + " hf mlx", "convert", hf, "-o", work / "values", "--to", "mlx", *OUT):
        return
    exact, _ = mlx_values(work / "values")
    codes = sum(k.endswith(".scales") for k in state)
    if "none" in flags:
        return pc.check(codes == 0, what + ": codes are kept")
    pc.check(codes > 0, what + ": no codes")
    for k in exact:
        if k.rsplit(".", 1)[0] + ".scales" not in state:
            continue
        near = np.abs(got[k] - exact[k]).max() / max(np.abs(exact[k]).max(), 1e-9)
        pc.check(near <= (2e-3 if "near" in flags else 0), "%s: %s: values differ by %g" % (what, k, near))
    model, _ = mlx_lm.utils.load_model(ours)
    model.set_dtype(pc.mx.float32)  # mlx on a CPU has experts in f32 only
    pc.check(bool(pc.mx.all(pc.mx.isfinite(model(pc.mx.array([[3, 4, 5]])).astype(pc.mx.float32)))), what + ": mlx-lm")
    if set(kinds) <= {"Q4_0", "Q4_1", "Q8_0"}:
        by_mlx(what, q, state)
    if not pc.lbrx(what + " back", "convert", ours, "-o", back, *OUT, "--set", "tokenizer.ggml.pre=str:gpt-2"):
        return
    if not flags and set(kinds) != {"Q4_0", "Q4_1"}:
        same_gguf(what + " -> mlx -> gguf", q, back)
    elif not flags:
        for t in gguf.GGUFReader(back).tensors:
            if t.name in want:
                x = gguf.quants.dequantize(t.data, t.tensor_type)
                pc.check(np.array_equal(x.reshape(-1), want[t.name].reshape(-1)), "%s: %s: values" % (what, t.name))


def main():
    r = random.Random(sys.argv[1] if len(sys.argv) > 1 else "1")
    if not pc.SCRIPT or pc.mx is None:
        pc.skip("LBRX_CONVERT_HF_TO_GGUF does not name the reference converter, or there is no mlx_lm")
    else:
        jobs = [((k,), ()) for k in EXACT] + [(("Q4_0", "Q4_1"), ()), (("Q8_0", "Q4_0"), ()), (("Q4_0",), ("--codes", "none"))]
        jobs += [((k,), ("--codes", "near")) for k in types.K_TYPES]
        for kinds, flags in jobs:
            with tempfile.TemporaryDirectory(prefix="lbrx-codes-") as d:
                one(r.choice(FAMILIES), kinds, pathlib.Path(d), r, flags)
    print("peer_codes: %d passed, %d failed, %d skipped [cost: slow] %.1f s" %
          (pc.passed, pc.failed, pc.skipped, time.time() - pc.START))
    sys.exit(pc.failed != 0)


main()
