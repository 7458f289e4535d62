# SPDX-License-Identifier: Apache-2.0
"""recipe_peers.py: models without data (sparse GGUF files of any size), and what llama-quantize says of them: what
make_recipe.py and tests/peers/peer_recipe.py share. LBRX_LLAMA_QUANTIZE names the program, built from the sdist of
llama-cpp-python 0.3.36 (cmake --build . --target llama-quantize)."""
import os
import pathlib
import re
import struct
import subprocess
import sys

SCRIPT = os.environ.get("LBRX_CONVERT_HF_TO_GGUF", "")
if SCRIPT:  # its gguf-py knows the types and architectures of this version
    sys.path.insert(0, str(pathlib.Path(SCRIPT).parent / "gguf-py"))
import gguf

QUANTIZE = os.environ.get("LBRX_LLAMA_QUANTIZE", "")
RECIPES = """q1_0 q2_0 q4_0 q4_1 mxfp4_moe q5_0 q5_1 iq2_xxs iq2_xs iq2_s iq2_m iq1_s iq1_m tq1_0 tq2_0 q2_k q2_k_s iq3_xxs
iq3_s iq3_m iq3_xs q3_k_s q3_k_m q3_k_l iq4_nl iq4_xs q4_k_s q4_k_m q5_k_s q5_k_m q6_k q8_0 f16 bf16 f32 copy""".split()
TYPES = {t.name.lower(): t for t in gguf.GGMLQuantizationType}
BASE = {"context_length": 64, "embedding_length": 64, "feed_forward_length": 64, "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.layer_norm_epsilon": 1e-5}


class Model:
    """keys: what stands behind "<arch>." in the metadata; tensors: (name, shape slowest first, type in lower case)."""

    def __init__(self, arch, keys, tensors):
        self.arch, self.keys, self.tensors = arch, {**BASE, **keys}, tensors
        n_expert = self.keys.get("expert_count", 0)
        if n_expert:
            self.keys.setdefault("expert_used_count", 1)

    def write(self, path, file_type=1):
        w = gguf.GGUFWriter(path, self.arch)
        w.add_file_type(file_type)
        for k, v in self.keys.items():
            key = k if k.startswith("xielu.") else "%s.%s" % (self.arch, k)
            put = {bool: w.add_bool, int: w.add_uint32, float: w.add_float32, str: w.add_string, list: w.add_array}[type(v)]
            put(key, v)
        size = 0
        for name, shape, t in self.tensors:
            block, n_bytes = gguf.GGML_QUANT_SIZES[TYPES[t]]
            n = n_bytes * shape[-1] // block
            for d in shape[:-1]:
                n *= d
            stored = list(shape[:-1]) + [n_bytes * shape[-1] // block]
            w.add_tensor_info(name, shape if block == 1 else stored, gguf.np.dtype("uint8") if block > 1 else gguf.np.dtype("float32"), n,
                              raw_dtype=TYPES[t])
            size += -(-n // 32) * 32
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_ti_data_to_file()
        w.close()
        head = os.path.getsize(path)
        os.truncate(path, -(-head // 32) * 32 + size)


LINE = re.compile(r"^\[ *\d+/ *\d+\] (\S+) +- \[.*?\], type = +(\S+), size = +\S+ MiB(?: -> +\S+ MiB \((\S+)\))?$", re.M)


class Said:
    """types: {tensor: type} in the order of llama-quantize, None where it stopped: why says with which words."""

    def __init__(self, run):
        text = (run.stdout + run.stderr).decode(errors="replace")
        self.text, self.rc = text, run.returncode
        self.types = {m[1]: (m[3] or m[2]).lower() for m in LINE.finditer(text)} if run.returncode == 0 else None
        why = re.search(r"failed to quantize: (.*)", text) or re.search(r"(GGML_ASSERT.*|.*regex.*)", text)
        self.why = why[1] if why else text[-300:]


def quantize(path, recipe, *options, out=None):
    """Without out a dry run."""
    args = [QUANTIZE, *(() if out else ("--dry-run",)), *options, str(path), *((str(out),) if out else ()), recipe.upper(), "1"]
    return Said(subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE))


def importance(path, entries):
    """A legacy importance file of {tensor: number of values}, all 1."""
    with open(path, "wb") as f:
        f.write(struct.pack("<i", len(entries)))
        for name, n in entries.items():
            f.write(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 1, n) + struct.pack("<%df" % n, *[1.0] * n))


def complete(model, path, tries=40):
    """Gives the model the keys that llama-quantize asks for; the reason where it takes none."""
    for _ in range(tries):
        model.write(path)
        said = quantize(path, "f16")
        if said.rc == 0:
            return None
        lacks = re.search(r"key not found in model: (?!xielu)[^.\s]+\.(\S+)", said.text) or \
                re.search(r"key not found in model: (\S+)", said.text)
        wrong = re.search(r"key (?:\S+?)\.(\S+) has wrong type (\S+) but expected type (\S+)", said.text)
        if wrong and wrong[3] in MADE:
            model.keys[wrong[1]] = MADE[wrong[3]]
        elif lacks and lacks[1] not in model.keys:
            model.keys[lacks[1]] = VALUES.get(lacks[1], [1] if "array key" in said.text else 1)
        else:
            return said.why
    return "asks for ever more keys"


# What is asserted of values that are asked for; lists of four, as the layers of such a model.
VALUES = {"kda.gate_lower_bound": -1.0, "attention.indexer.kpool": 2, "attention.indexer.top_k": 2, "hyper_connection.count": 4,
          "attention.sliding_window_pattern": [True] * 4, "rope.dimension_sections": [1, 1, 1, 1], "xielu.alpha_n": [1.0] * 4,
          "xielu.alpha_p": [1.0] * 4, "xielu.beta": [1.0] * 4, "xielu.eps": [1.0] * 4}
MADE = {"f32": 1.0, "bool": True, "str": "x", "u32": 1, "arr": [1]}


def layers(first, last, rows):
    """rows of every layer: (name behind "blk.N.", shape, type)"""
    return [("blk.%d.%s" % (b, name), shape, t) for b in range(first, last) for name, shape, t in rows]
