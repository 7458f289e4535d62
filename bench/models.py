# SPDX-License-Identifier: Apache-2.0
"""models.py: writes Llama-shaped Hugging Face folders for the benchmarks: random bf16 weights, or sparse
files (holes) for shapes that no disk holds. Standard library only.

    python3 bench/models.py SHAPE OUT [--sparse] [--tokenizer FOLDER]

SHAPE is one of the names below. --tokenizer copies the tokenizer files of an existing folder, so that the
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
    "13b": (5120, 40, 13824, 40, 40, 32000),  # Llama 2 13B
    "33b": (6656, 60, 17920, 52, 52, 32000),  # Llama 33B
    "70b": (8192, 80, 28672, 64, 8, 32000),   # Llama 2 70B
    "405b": (16384, 126, 53248, 128, 8, 128256),  # Llama 3.1 405B
}
SHARD = 5_000_000_000
TEXTS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "vocab.json",
         "merges.txt", "chat_template.jinja", "generation_config.json")


def tensors(shape, vocab):
    h, layers, inter, heads, kv, _ = shape
    k = h // heads * kv
    yield "model.embed_tokens.weight", (vocab, h)
    for i in range(layers):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (h,)
        yield p + "mlp.down_proj.weight", (h, inter)
        yield p + "mlp.gate_proj.weight", (inter, h)
        yield p + "mlp.up_proj.weight", (inter, h)
        yield p + "post_attention_layernorm.weight", (h,)
        yield p + "self_attn.k_proj.weight", (k, h)
        yield p + "self_attn.o_proj.weight", (h, h)
        yield p + "self_attn.q_proj.weight", (h, h)
        yield p + "self_attn.v_proj.weight", (k, h)
    yield "model.norm.weight", (h,)
    yield "lm_head.weight", (vocab, h)


def elems(dims):
    n = 1
    for d in dims:
        n *= d
    return n


def write_shard(path, items, sparse):
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
            return
        # bf16 values of random sign and mantissa, exponents around 2^-6
        raw = array.array("H", random.Random(1).randbytes(1 << 21))
        block = array.array("H", ((v & 0x807F) | (114 + (v >> 7 & 7)) << 7 for v in raw)).tobytes() * 4
        left = at
        while left:
            n = min(left, len(block))
            f.write(block[:n])
            left -= n


def make(name, out, sparse=False, tokenizer=None):
    shape = SHAPES[name]
    vocab = shape[5]
    os.makedirs(out, exist_ok=True)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
              "hidden_size": shape[0], "num_hidden_layers": shape[1], "intermediate_size": shape[2],
              "num_attention_heads": shape[3], "num_key_value_heads": shape[4], "rms_norm_eps": 1e-05,
              "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": False,
              "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.02}
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
        write_shard(os.path.join(out, path), items, sparse)
    total = sum(2 * elems(d) for s in shards for _, d in s)
    if len(shards) > 1:
        with open(os.path.join(out, "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {"total_size": total},
                       "weight_map": {n: p for p, s in zip(names, shards) for n, _ in s}}, f, indent=2)
    return total


if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    tok = sys.argv[sys.argv.index("--tokenizer") + 1] if "--tokenizer" in sys.argv else None
    if tok:
        args.remove(tok)
    if len(args) != 2 or args[0] not in SHAPES:
        sys.exit(__doc__)
    print(make(args[0], args[1], "--sparse" in sys.argv, tok))
