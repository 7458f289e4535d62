# SPDX-License-Identifier: Apache-2.0
"""models.py: writes Llama-shaped Hugging Face folders for the benchmarks: random bf16 weights, or sparse
files (holes) for shapes that no disk holds; also GGUF files without a tokenizer, and importance matrices for
them, for the quantizers. Standard library only.

    python3 bench/models.py SHAPE OUT [--sparse] [--layers N] [--tokenizer FOLDER]

SHAPE is one of the names below, --layers N has the first of its layers. --tokenizer copies the tokenizer files of an existing folder, so that the
reference converters accept the model; its vocabulary sets the number of rows of the embedding."""
import array
import json
import os
import random
import shutil
import struct
import sys

#        hidden, layers, intermediate, heads, kv heads, vocabulary
SHAPES = {
    "1.1b": (2048, 22, 5632, 32, 4, 32000),   # TinyLlama
    "7b": (4096, 32, 11008, 32, 32, 32000),   # Llama 2 7B
    "8b": (4096, 32, 14336, 32, 8, 128256),   # Llama 3 8B
    "13b": (5120, 40, 13824, 40, 40, 32000),  # Llama 2 13B
    "33b": (6656, 60, 17920, 52, 52, 32000),  # Llama 33B
    "70b": (8192, 80, 28672, 64, 8, 32000),   # Llama 2 70B
    "405b": (16384, 126, 53248, 128, 8, 128256),  # Llama 3.1 405B
    # of experts: how many, how many a token has, the size of a head
    "30b-a3b": (2048, 48, 768, 32, 4, 151936, 128, 8, 128),  # Qwen3 30B A3B
    # of delta nets, three layers in four: columns of the shared expert, heads of keys and of values, the size of both
    "80b-a3b": (2048, 48, 512, 16, 2, 151936, 512, 10, 256, 512, 16, 32, 128),  # Qwen3 Next 80B A3B
}
SHARD = 5_000_000_000
TEXTS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "vocab.json",
         "merges.txt", "chat_template.jinja", "generation_config.json")


def tensors(shape, vocab):
    h, layers, inter, heads, kv, _ = shape[:6]
    experts, _, dim = shape[6:9] or (0, 0, h // heads)
    shared, keys, values, linear = shape[9:] or (0, 0, 0, 0)
    q, k = dim * heads, dim * kv
    yield "model.embed_tokens.weight", (vocab, h)
    for i in range(layers):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (h,)
        for m in [f"experts.{e}." for e in range(experts)] or [""]:
            yield p + f"mlp.{m}down_proj.weight", (h, inter)
            yield p + f"mlp.{m}gate_proj.weight", (inter, h)
            yield p + f"mlp.{m}up_proj.weight", (inter, h)
        if experts:
            yield p + "mlp.gate.weight", (experts, h)
        if shared:
            yield p + "mlp.shared_expert.down_proj.weight", (h, shared)
            yield p + "mlp.shared_expert.gate_proj.weight", (shared, h)
            yield p + "mlp.shared_expert.up_proj.weight", (shared, h)
            yield p + "mlp.shared_expert_gate.weight", (1, h)
        yield p + "post_attention_layernorm.weight", (h,)
        if linear and (i + 1) % 4:
            n_k, n_v = keys * linear, values * linear
            yield p + "linear_attn.A_log", (values,)
            yield p + "linear_attn.conv1d.weight", (2 * n_k + n_v, 1, 4)
            yield p + "linear_attn.dt_bias", (values,)
            yield p + "linear_attn.in_proj_ba.weight", (2 * values, h)
            yield p + "linear_attn.in_proj_qkvz.weight", (2 * (n_k + n_v), h)
            yield p + "linear_attn.norm.weight", (linear,)
            yield p + "linear_attn.out_proj.weight", (h, n_v)
            continue
        if experts:
            yield p + "self_attn.q_norm.weight", (dim,)
            yield p + "self_attn.k_norm.weight", (dim,)
        yield p + "self_attn.k_proj.weight", (k, h)
        yield p + "self_attn.o_proj.weight", (h, q)
        yield p + "self_attn.q_proj.weight", (2 * q if linear else q, h)
        yield p + "self_attn.v_proj.weight", (k, h)
    yield "model.norm.weight", (h,)
    yield "lm_head.weight", (vocab, h)


def elems(dims):
    n = 1
    for d in dims:
        n *= d
    return n


def weights():
    """8 MiB of bf16 values of random sign and mantissa, exponents around 2^-6: quick to make, wide in range."""
    raw = array.array("H", random.Random(1).randbytes(1 << 21))
    return array.array("H", ((v & 0x807F) | (114 + (v >> 7 & 7)) << 7 for v in raw)).tobytes() * 4


def gaussian():
    """2 MiB of bf16 values of the normal distribution, as quantizers find them: deviation 0.02."""
    rng = random.Random(1)
    wide = array.array("I", array.array("f", [rng.gauss(0, 0.02) for _ in range(1 << 20)]).tobytes())
    return array.array("H", [(v + 0x8000) >> 16 for v in wide]).tobytes()


def near(block, seed):
    """The same values, each moved by up to a fifth of what such values are: a model tuned from it."""
    rng, wide = random.Random(seed), array.array("H", block)
    bits = array.array("I", (v << 16 for v in wide)).tobytes()
    moved = array.array("f", (x + rng.gauss(0, 0.004) for x in array.array("f", bits)))
    return array.array("H", [(v + 0x8000) >> 16 for v in array.array("I", moved.tobytes())]).tobytes()


def write_values(f, size, block):
    while size:
        n = min(size, len(block))
        f.write(block[:n])
        size -= n


def write_shard(path, items, sparse, block):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dims in items:
        size = 2 * elems(dims)
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        if sparse:
            f.truncate(8 + len(text) + at)
        else:
            write_values(f, at, block)


def make(name, out, sparse=False, tokenizer=None, block=None, layers=None):
    shape = SHAPES[name]
    shape = (shape[0], layers or shape[1], *shape[2:])
    block = b"" if sparse else block or weights()
    vocab = shape[5]
    os.makedirs(out, exist_ok=True)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
              "hidden_size": shape[0], "num_hidden_layers": shape[1], "intermediate_size": shape[2],
              "num_attention_heads": shape[3], "num_key_value_heads": shape[4], "rms_norm_eps": 1e-05,
              "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": False,
              "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.02}
    if shape[6:]:
        config |= {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "moe_intermediate_size": shape[2],
                   "num_experts": shape[6], "num_experts_per_tok": shape[7], "head_dim": shape[8], "norm_topk_prob": True,
                   "decoder_sparse_step": 1, "mlp_only_layers": []}
    if shape[9:]:
        config |= {"architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "partial_rotary_factor": 0.25,
                   "shared_expert_intermediate_size": shape[9], "linear_num_key_heads": shape[10], "linear_num_value_heads": shape[11],
                   "linear_key_head_dim": shape[12], "linear_value_head_dim": shape[12], "linear_conv_kernel_dim": 4,
                   "full_attention_interval": 4}
    if tokenizer:
        for t in TEXTS:
            if os.path.exists(os.path.join(tokenizer, t)):
                shutil.copy(os.path.join(tokenizer, t), out)
        vocab = json.load(open(os.path.join(tokenizer, "config.json")))["vocab_size"]
    config["vocab_size"] = vocab
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
    shards, size = [[]], 0
    for item in tensors(shape, vocab):
        n = 2 * elems(item[1])
        if shards[-1] and size + n > SHARD:
            shards.append([])
            size = 0
        shards[-1].append(item)
        size += n
    names = (["model.safetensors"] if len(shards) == 1 else
             [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))])
    for path, items in zip(names, shards):
        write_shard(os.path.join(out, path), items, sparse, block)
    total = sum(2 * elems(d) for s in shards for _, d in s)
    if len(shards) > 1:
        with open(os.path.join(out, "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {"total_size": total},
                       "weight_map": {n: p for p, s in zip(names, shards) for n, _ in s}}, f, indent=2)
    return total


# ---- GGUF ----
GGUF_NAMES = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
              "post_attention_layernorm": "ffn_norm", "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v",
              "o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}


def gguf_name(name):
    parts = name.split(".")
    layer = f"blk.{parts[2]}." if parts[1] == "layers" else ""
    return f"{layer}{GGUF_NAMES[parts[-2]]}.weight"


def gguf_string(s):
    return struct.pack("<Q", len(s)) + s.encode()


def gguf_value(v):
    if isinstance(v, str):
        return struct.pack("<I", 8) + gguf_string(v)
    if isinstance(v, list):
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(gguf_string, v))
    return struct.pack("<If", 6, v) if isinstance(v, float) else struct.pack("<II", 4, v)


def write_gguf(path, meta, items):
    """items: (name, dims, type: 0 F32 or 30 BF16, what is repeated until the tensor is full)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(items), len(meta))
    head += b"".join(gguf_string(k) + gguf_value(v) for k, v in meta.items())
    at = 0
    for name, dims, kind, _ in items:
        head += gguf_string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *reversed(dims))
        head += struct.pack("<IQ", kind, at)
        at += -(-elems(dims) * (2 if kind else 4) // 32) * 32
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32))
        for _, dims, kind, block in items:
            size = elems(dims) * (2 if kind else 4)
            write_values(f, size, block)
            f.write(bytes(-size % 32))


def part(name, share):
    """A shape with 1 / share of the layers and of the vocabulary: near the same mixture of matrices."""
    h, layers, inter, heads, kv, vocab = SHAPES[name][:6]
    return h, max(1, round(layers / share)), inter, heads, kv, vocab // share // 32 * 32


def make_gguf(shape, path):
    h, layers, inter, heads, kv, vocab = shape
    meta = {"general.architecture": "llama", "general.name": "bench", "general.file_type": 32, "llama.block_count": layers,
            "llama.context_length": 4096, "llama.embedding_length": h, "llama.feed_forward_length": inter,
            "llama.attention.head_count": heads, "llama.attention.head_count_kv": kv, "llama.rope.dimension_count": h // heads,
            "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.vocab_size": vocab}
    block, ones = gaussian(), array.array("f", [1.0] * 4096).tobytes()
    write_gguf(path, meta, [(gguf_name(n), d, 0 if len(d) == 1 else 30, ones if len(d) == 1 else block)
                            for n, d in tensors(shape, vocab)])


def make_imatrix(shape, path):
    """Importances of every matrix: squares of 2^x, x of the normal distribution."""
    rng = random.Random(2)
    sums = array.array("f", [2.0 ** (2 * rng.gauss(0, 1)) for _ in range(1 << 14)]).tobytes()
    meta = {"general.type": "imatrix", "imatrix.datasets": ["random"], "imatrix.chunk_count": 100, "imatrix.chunk_size": 512}
    items = []
    for n, d in tensors(shape, shape[5]):
        if len(d) == 2 and "embed_tokens" not in n:
            items += [(gguf_name(n) + ".in_sum2", (1, d[1]), 0, sums), (gguf_name(n) + ".counts", (1, 1), 0, struct.pack("<f", 1.0))]
    write_gguf(path, meta, items)


if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    tok = sys.argv[sys.argv.index("--tokenizer") + 1] if "--tokenizer" in sys.argv else None
    if tok:
        args.remove(tok)
    n_layers = sys.argv[sys.argv.index("--layers") + 1] if "--layers" in sys.argv else None
    if n_layers:
        args.remove(n_layers)
    if len(args) != 2 or args[0] not in SHAPES:
        sys.exit(__doc__)
    print(make(args[0], args[1], "--sparse" in sys.argv, tok, layers=n_layers and int(n_layers)))
