# SPDX-License-Identifier: Apache-2.0
"""readers.py: conversion of models quantized by others, of PyTorch files, and of what families lay out otherwise,
against the floor. Standard library only; no peer.

    python3 bench/readers.py [--work DIR] [--repeat 3] [--only NAME,NAME] [--layers 6]

The floor is that of convert.py: `cat inputs > /dev/null`, then `dd if=/dev/zero bs=256K` of as many bytes as the job
writes; floor and lbrx run one after the other, medians are printed, and the processors' time of both. The models have random codes and small scales: what
they say does not matter here, and their sizes are those of a Llama of 2048 columns (or of the family named)."""
import argparse
import array
import io
import json
import os
import pickle
import random
import resource
import statistics
import struct
import sys
import zipfile

import convert
import models

H, FF, HEADS, KV, VOCAB = 2048, 5632, 32, 4, 32000
SIZES = {"F32": 4, "I32": 4, "F16": 2, "BF16": 2, "U8": 1, "I8": 1, "F8_E4M3": 1, "U32": 4}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": H,
         "intermediate_size": FF, "num_attention_heads": HEADS, "num_key_value_heads": KV, "rms_norm_eps": 1e-05,
         "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": False, "vocab_size": VOCAB,
         "torch_dtype": "bfloat16"}


# ---- bytes: a block of each kind, repeated ----

def floats(code, make):
    r = random.Random(1)
    return array.array(code, (make(r) for _ in range(1 << 16))).tobytes() * 8


BLOCKS = {}


def block(kind):
    if kind not in BLOCKS:
        if kind == "codes":
            BLOCKS[kind] = random.Random(2).randbytes(1 << 20)
        elif kind == "fp8":  # no NaN
            BLOCKS[kind] = bytes(b & 0xf7 for b in random.Random(2).randbytes(1 << 20))
        elif kind == "F32":
            BLOCKS[kind] = floats("f", lambda r: r.uniform(0.001, 0.01))
        elif kind == "F16":  # positive, 2^-9 to 2^-7
            BLOCKS[kind] = floats("H", lambda r: (6 + r.randrange(2)) << 10 | r.randrange(1024))
        elif kind == "BF16":
            BLOCKS[kind] = floats("H", lambda r: (r.randrange(2) << 15) | (114 + r.randrange(8)) << 7 | r.randrange(128))
        elif kind == "e8m0":
            BLOCKS[kind] = bytes(118 + r for r in random.Random(3).choices(range(4), k=1 << 16))
    return BLOCKS[kind]


def n_bytes(dtype, shape):
    return SIZES[dtype] * models.elems(shape)


def fill(f, kind, size):
    if isinstance(kind, bytes):
        f.write(kind)
        return
    b = block(kind)
    while size:
        f.write(b[:size])
        size -= min(size, len(b))


def safetensors(path, tensors):
    """tensors: (name, dtype, shape, kind of bytes)."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, _ in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + n_bytes(dtype, shape)]}
        at += n_bytes(dtype, shape)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, dtype, shape, kind in tensors:
            fill(f, kind, n_bytes(dtype, shape))


def ramp(n, group):
    return array.array("i", (i // group for i in range(n))).tobytes()


# ---- what each tool makes of one matrix of [rows, cols]: parts, and the config that says so ----

def gptq(bits, order=False):
    def parts(r, c):
        g = list(range(c))
        if order:
            random.Random(4).shuffle(g)
        idx = array.array("i", (x // 128 for x in g)).tobytes()
        return [(".qweight", "I32", (c * bits // 32, r), "codes"), (".qzeros", "I32", (c // 128, r * bits // 32), "codes"),
                (".scales", "F16", (c // 128, r), "F16"), (".g_idx", "I32", (c,), idx)]
    return parts, {"quant_method": "gptq", "bits": bits, "group_size": 128, "desc_act": order, "sym": False}


def awq():
    def parts(r, c):
        return [(".qweight", "I32", (c, r // 8), "codes"), (".qzeros", "I32", (c // 128, r // 8), "codes"),
                (".scales", "F16", (c // 128, r), "F16")]
    return parts, {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}


def fp8_block():
    def parts(r, c):
        return [(".weight", "F8_E4M3", (r, c), "fp8"), (".weight_scale_inv", "F32", (-(-r // 128), -(-c // 128)), "F32")]
    return parts, {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


def compressed(fmt, weights, parts):
    return parts, {"quant_method": "compressed-tensors", "format": fmt, "quantization_status": "compressed",
                   "ignore": ["lm_head"], "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}


def fp8_channel():
    return compressed("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True,
                                          "dynamic": False},
                      lambda r, c: [(".weight", "F8_E4M3", (r, c), "fp8"), (".weight_scale", "BF16", (r, 1), "F16")])


def packed(symmetric):
    def parts(r, c):
        out = [(".weight_packed", "I32", (r, c // 8), "codes"), (".weight_scale", "F16", (r, c // 128), "F16"),
               (".weight_shape", "I32", (2,), struct.pack("<ii", r, c))]
        return out if symmetric else out + [(".weight_zero_point", "I32", (r // 8, c // 128), "codes")]
    return compressed("pack-quantized", {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128,
                                         "symmetric": symmetric, "dynamic": False}, parts)


def int8_channel():
    return compressed("int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True,
                                        "dynamic": False},
                      lambda r, c: [(".weight", "I8", (r, c), "codes"), (".weight_scale", "F16", (r, 1), "F16")])


def nvfp4():
    return compressed("nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "tensor_group",
                                               "group_size": 16, "symmetric": True, "dynamic": False},
                      lambda r, c: [(".weight_packed", "U8", (r, c // 2), "codes"),
                                    (".weight_scale", "F8_E4M3", (r, c // 16), "e8m0"),
                                    (".weight_global_scale", "F32", (1,), struct.pack("<f", 300.0))])


def bnb_nf4():
    table = [float.fromhex(x) for x in (
        "-0x1p+0 -0x1.647362p-1 -0x1.0cd66p-1 -0x1.94654p-2 -0x1.23449ap-2 -0x1.7a6a7ep-3 -0x1.74f0e2p-4 0x0p+0 "
        "0x1.45f5fep-4 0x1.4995c6p-3 0x1.f809bap-3 0x1.5a0674p-2 0x1.c3497p-2 0x1.200f56p-1 0x1.722766p-1 0x1p+0").split()]

    def parts(r, c):
        state = json.dumps({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [r, c]}).encode()
        return [(".weight", "U8", (r * c // 2, 1), "codes"), (".weight.absmax", "F32", (r * c // 64,), "F32"),
                (".weight.quant_map", "F32", (16,), struct.pack("<16f", *table)),
                (".weight.quant_state.bitsandbytes__nf4", "U8", (len(state),), state)]
    return parts, {"quant_method": "bitsandbytes", "load_in_4bit": True, "_load_in_4bit": True,
                   "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "uint8",
                   "bnb_4bit_use_double_quant": False, "llm_int8_skip_modules": None}


def bnb_int8():
    return (lambda r, c: [(".weight", "I8", (r, c), "codes"), (".SCB", "F32", (r,), "F32"),
                          (".weight_format", "U8", (), b"\0")]), \
        {"quant_method": "bitsandbytes", "load_in_8bit": True, "_load_in_8bit": True}


def mlx(bits, group=64):
    return (lambda r, c: [(".weight", "U32", (r, c * bits // 32), "codes"), (".scales", "BF16", (r, c // group), "F16"),
                          (".biases", "BF16", (r, c // group), "BF16")]), {"group_size": group, "bits": bits}


def llama(out, layers, parts, how, key="quantization_config", embed=None):
    os.makedirs(out)
    k = H // HEADS * KV
    tensors = [("model.embed_tokens" + s, *rest) for s, *rest in (embed or PLAIN)(VOCAB, H)]
    for i in range(layers):
        p = f"model.layers.{i}."
        for name, r, c in (("self_attn.q_proj", H, H), ("self_attn.k_proj", k, H), ("self_attn.v_proj", k, H),
                           ("self_attn.o_proj", H, H), ("mlp.gate_proj", FF, H), ("mlp.up_proj", FF, H),
                           ("mlp.down_proj", H, FF)):
            tensors += [(p + name + s, *rest) for s, *rest in parts(r, c)]
        tensors += [(p + n + ".weight", "BF16", (H,), "BF16") for n in ("input_layernorm", "post_attention_layernorm")]
    tensors += [("model.norm.weight", "BF16", (H,), "BF16")]
    tensors += [("lm_head" + s, *rest) for s, *rest in (embed or PLAIN)(VOCAB, H)]
    config = dict(LLAMA, num_hidden_layers=layers)
    if how:
        config[key] = how
    if embed:
        config["quantization_config"] = how
    json.dump(config, open(os.path.join(out, "config.json"), "w"))
    return tensors


def PLAIN(r, c):
    return [(".weight", "BF16", (r, c), "BF16")]


# ---- families that lay their matrices out otherwise ----

def experts(out, layers):
    """Qwen3-MoE: a matrix for each of 64 experts."""
    os.makedirs(out)
    h, ff, n = 1024, 512, 64
    t = [("model.embed_tokens.weight", "BF16", (VOCAB, h), "BF16"), ("lm_head.weight", "BF16", (VOCAB, h), "BF16"),
         ("model.norm.weight", "BF16", (h,), "BF16")]
    for i in range(layers):
        p = f"model.layers.{i}."
        for name, r, c in (("q_proj", 1024, h), ("k_proj", 256, h), ("v_proj", 256, h), ("o_proj", h, 1024)):
            t.append((p + f"self_attn.{name}.weight", "BF16", (r, c), "BF16"))
        t += [(p + f"self_attn.{n_}_norm.weight", "BF16", (64,), "BF16") for n_ in "qk"]
        t += [(p + n_ + ".weight", "BF16", (h,), "BF16") for n_ in ("input_layernorm", "post_attention_layernorm")]
        t.append((p + "mlp.gate.weight", "BF16", (n, h), "BF16"))
        for e in range(n):
            for name, r, c in (("gate_proj", ff, h), ("up_proj", ff, h), ("down_proj", h, ff)):
                t.append((p + f"mlp.experts.{e}.{name}.weight", "BF16", (r, c), "BF16"))
    config = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": h,
              "intermediate_size": 2048, "moe_intermediate_size": ff, "num_hidden_layers": layers,
              "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64, "num_experts": n,
              "num_experts_per_tok": 4, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
              "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 4096, "vocab_size": VOCAB,
              "tie_word_embeddings": False, "hidden_act": "silu", "torch_dtype": "bfloat16"}
    json.dump(config, open(os.path.join(out, "config.json"), "w"))
    return t


def gpt2(out, layers):
    """Matrices that store inputs first."""
    os.makedirs(out)
    h = 1536
    t = [("wte.weight", "F16", (VOCAB, h), "F16"), ("wpe.weight", "F16", (1024, h), "F16"),
         ("ln_f.weight", "F16", (h,), "F16"), ("ln_f.bias", "F16", (h,), "F16")]
    for i in range(layers):
        for name, r, c in (("attn.c_attn", h, 3 * h), ("attn.c_proj", h, h), ("mlp.c_fc", h, 4 * h),
                           ("mlp.c_proj", 4 * h, h)):
            t += [(f"h.{i}.{name}.weight", "F16", (r, c), "F16"), (f"h.{i}.{name}.bias", "F16", (c,), "F16")]
        t += [(f"h.{i}.{n}.{w}", "F16", (h,), "F16") for n in ("ln_1", "ln_2") for w in ("weight", "bias")]
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": h, "n_head": 24, "n_layer": layers,
              "n_positions": 1024, "n_ctx": 1024, "vocab_size": VOCAB, "layer_norm_epsilon": 1e-5,
              "activation_function": "gelu_new", "torch_dtype": "float16"}
    json.dump(config, open(os.path.join(out, "config.json"), "w"))
    return t


def gpt_oss(out, layers):
    """MXFP4 experts whose gate and up rows alternate."""
    os.makedirs(out)
    h, ff, n = 1440, 1440, 16
    t = [("model.embed_tokens.weight", "BF16", (VOCAB, h), "BF16"), ("lm_head.weight", "BF16", (VOCAB, h), "BF16"),
         ("model.norm.weight", "BF16", (h,), "BF16")]
    for i in range(layers):
        p = f"model.layers.{i}."
        for name, r, c in (("q_proj", 1024, h), ("k_proj", 256, h), ("v_proj", 256, h), ("o_proj", h, 1024)):
            t += [(p + f"self_attn.{name}.weight", "BF16", (r, c), "BF16"), (p + f"self_attn.{name}.bias", "BF16", (r,), "BF16")]
        t += [(p + "self_attn.sinks", "BF16", (16,), "BF16")]
        t += [(p + n_ + ".weight", "BF16", (h,), "BF16") for n_ in ("input_layernorm", "post_attention_layernorm")]
        t += [(p + "mlp.router.weight", "BF16", (n, h), "BF16"), (p + "mlp.router.bias", "BF16", (n,), "BF16")]
        for name, r, c in (("gate_up_proj", 2 * ff, h), ("down_proj", h, ff)):
            t += [(p + f"mlp.experts.{name}_blocks", "U8", (n, r, c // 32, 16), "codes"),
                  (p + f"mlp.experts.{name}_scales", "U8", (n, r, c // 32), "e8m0"),
                  (p + f"mlp.experts.{name}_bias", "BF16", (n, r), "BF16")]
    config = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_size": h, "intermediate_size": ff,
              "num_hidden_layers": layers, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64,
              "num_local_experts": n, "num_experts_per_tok": 4, "rms_norm_eps": 1e-5, "rope_theta": 150000.0,
              "sliding_window": 128, "max_position_embeddings": 4096, "vocab_size": VOCAB, "hidden_act": "silu",
              "layer_types": ["sliding_attention" if i % 2 == 0 else "full_attention" for i in range(layers)],
              "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                               "truncate": False, "original_max_position_embeddings": 4096},
              "initial_context_length": 4096, "swiglu_limit": 7.0, "attention_bias": True, "tie_word_embeddings": False,
              "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn",
                                      "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}}
    json.dump(config, open(os.path.join(out, "config.json"), "w"))
    return t


def phi3(out, layers):
    """q, k and v in one matrix, gate and up in one."""
    os.makedirs(out)
    t = [("model.embed_tokens.weight", "BF16", (VOCAB, H), "BF16"), ("lm_head.weight", "BF16", (VOCAB, H), "BF16"),
         ("model.norm.weight", "BF16", (H,), "BF16")]
    for i in range(layers):
        p = f"model.layers.{i}."
        for name, r, c in (("self_attn.qkv_proj", 3 * H, H), ("self_attn.o_proj", H, H), ("mlp.gate_up_proj", 2 * FF, H),
                           ("mlp.down_proj", H, FF)):
            t.append((p + name + ".weight", "BF16", (r, c), "BF16"))
        t += [(p + n + ".weight", "BF16", (H,), "BF16") for n in ("input_layernorm", "post_attention_layernorm")]
    config = dict(LLAMA, architectures=["Phi3ForCausalLM"], model_type="phi3", num_hidden_layers=layers,
                  num_key_value_heads=HEADS, original_max_position_embeddings=4096, rope_scaling=None, pad_token_id=0)
    json.dump(config, open(os.path.join(out, "config.json"), "w"))
    return t


# ---- files of torch.save ----

class Storage:
    def __init__(self, key, n):
        self.key, self.n = key, n


class Global:
    def __init__(self, module, name):
        self.module, self.name = module, name


class Writer(pickle._Pickler):
    """Names of classes that are not there, and storages as persistent ids."""
    dispatch = dict(pickle._Pickler.dispatch)

    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return ("storage", Global("torch", "BFloat16Storage"), obj.key, "cpu", obj.n)
        return None

    def save_global_(self, obj):
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
    dispatch[Global] = save_global_

    def save_tensor(self, obj):
        self.save(Global("torch._utils", "_rebuild_tensor_v2"))
        strides, n = [], 1
        for d in reversed(obj.shape):
            strides.insert(0, n)
            n *= d
        self.save((Storage(obj.key, n), 0, tuple(obj.shape), tuple(strides), False, {}))
        self.write(pickle.REDUCE)


class Tensor:
    def __init__(self, key, shape):
        self.key, self.shape = key, shape


Writer.dispatch[Tensor] = Writer.save_tensor


def torch_bin(path, tensors):
    b = io.BytesIO()
    Writer(b, 2).dump({name: Tensor(str(i), shape) for i, (name, _, shape, _) in enumerate(tensors)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        z.writestr("archive/data.pkl", b.getvalue())
        for i, (_, dtype, shape, kind) in enumerate(tensors):
            with z.open(f"archive/data/{i}", "w", force_zip64=True) as f:
                fill(f, kind, n_bytes(dtype, shape))
        z.writestr("archive/version", "3\n")


# ---- jobs ----

FORMS = {
    "fp8 128x128": fp8_block, "fp8 rows": fp8_channel, "int4 groups": lambda: packed(True),
    "int4 groups, zeros": lambda: packed(False), "int8 rows": int8_channel, "nvfp4": nvfp4,
    "gptq 4": lambda: gptq(4), "gptq 4 act-order": lambda: gptq(4, True), "gptq 3": lambda: gptq(3),
    "gptq 8": lambda: gptq(8), "awq": awq, "bnb nf4": bnb_nf4, "bnb int8": bnb_int8,
}


def write(out, tensors, torch=False):
    if torch:
        torch_bin(os.path.join(out, "pytorch_model.bin"), tensors)
    else:
        safetensors(os.path.join(out, "model.safetensors"), tensors)
    return out


def cpu():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def inputs(path):
    return [path] if os.path.isfile(path) else [os.path.join(path, f) for f in sorted(os.listdir(path))]


class Bench:
    def __init__(self, o):
        self.o, self.work = o, os.path.abspath(o.work)
        self.src, self.out = os.path.join(self.work, "readers-in"), os.path.join(self.work, "readers-out")

    def wanted(self, name):
        return not self.o.only or any(w in name for w in self.o.only.split(","))

    def job(self, name, src, to, *more):
        if not self.wanted(name):
            return
        f, t, used = [], [], [[], []]
        _, rep = convert.lbrx(src, self.out, to, *more)
        n = convert.size_of(self.out)
        convert.drop(self.out)
        for _ in range(self.o.repeat):
            before = cpu()
            f.append(convert.floor(inputs(src), n, self.work))
            used[0].append(cpu() - before)
            before = cpu()
            s, rep = convert.lbrx(src, self.out, to, *more)
            used[1].append(cpu() - before)
            t.append(s)
            convert.drop(self.out)
        fm, tm = statistics.median(f), statistics.median(t)
        best = min(b / a for a, b in zip(f, t))
        print(f"| {name} | {rep['bytes_read'] / 1e9:.2f} | {n / 1e9:.2f} | {fm:.2f} s | {tm:.2f} s | {tm / fm:.2f} | {best:.2f} | "
              f"{statistics.median(used[0]):.2f} s | {statistics.median(used[1]):.2f} s | "
              f"{rep['peak_rss_bytes'] / 1e6:.0f} MB |", flush=True)

    def model(self, make):
        convert.drop(self.src)
        make(self.src)
        return self.src

    def run(self):
        n = self.o.layers
        print("| job | GB read | GB written | floor | lbrx | lbrx / floor | at best | CPU, floor | CPU, lbrx | peak memory |\n"
              "|---|---|---|---|---|---|---|---|---|---|")
        for name, form in FORMS.items():
            if self.wanted(name):
                src = self.model(lambda out: write(out, llama(out, n, *form())))
                self.job(name + " to bf16", src, "hf", "--dtype", "bf16")
        if self.wanted("torch"):
            self.job("torch .bin to safetensors",
                     self.model(lambda out: write(out, llama(out, 2 * n, PLAIN, None), torch=True)), "hf")
        for bits in (4, 8):
            if self.wanted(f"mlx {bits}"):
                parts, how = mlx(bits)
                self.job(f"mlx {bits} to bf16",
                         self.model(lambda out: write(out, llama(out, n, parts, how, "quantization", parts))), "hf")
        for name, make in (("experts stacked", experts), ("gpt2 turned", gpt2), ("phi3 split", phi3), ("gpt_oss mxfp4", gpt_oss)):
            if not self.wanted(name):
                continue
            src = self.model(lambda out: write(out, make(out, n)))
            self.job(name + ", to MLX", src, "mlx")
            self.job(name + ", to GGUF", src, "gguf", "--set", "tokenizer.ggml.pre=str:gpt-2") \
                if os.path.exists(os.path.join(src, "tokenizer.json")) else None
        convert.drop(self.src)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--work", default=os.path.join(convert.HERE, "..", "build", "bench"))
    a.add_argument("--repeat", type=int, default=3)
    a.add_argument("--layers", type=int, default=6)
    a.add_argument("--only", help="names, or parts of them, with commas between")
    o = a.parse_args()
    os.makedirs(os.path.abspath(o.work), exist_ok=True)
    Bench(o).run()


if __name__ == "__main__":
    main()
