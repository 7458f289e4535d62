#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""reform.py SOURCE FOLDER [stacked] [turned] [both]: a copy of a folder with one file of floats, in another form.
stacked: experts as transformers 5 holds them in memory (save_pretrained(save_original_format=False));
both: beside what the source has; turned: the values of each tensor in the opposite order, another model."""
import json, os, re, shutil, struct, sys
source, folder, how = sys.argv[1], sys.argv[2], sys.argv[3:]
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight$")
ORDER = {"gate_proj": 0, "w1": 0, "up_proj": 1, "w3": 1, "down_proj": 2, "w2": 2}
RENAMED = [(".input_linear.weight", ".experts.gate_up_proj"), (".output_linear.weight", ".experts.down_proj"),
           ("router.layer.weight", "router.weight"), (".mlp.moe_statics", ".mlp.gate.moe_statics")]


def renamed(name, kind):
    for old, new in RENAMED:
        name = name.replace(old, new)
    if kind in ("mixtral", "phimoe", "minimax_m2"):
        name = name.replace(".block_sparse_moe.", ".mlp.")
    return name.replace(".mlp.gate.weight", ".mlp.router.weight") if kind == "phimoe" else name


def stacked(tensors, kind):
    out, experts = {}, {}
    for name, t in tensors.items():
        m = EXPERT.match(name)
        if m:
            down = ORDER[m[3]] == 2
            key = renamed(m[1], kind) + (".down_proj" if down else ".gate_up_proj")
            experts.setdefault(key, {})[int(m[2]), ORDER[m[3]]] = t
        else:
            out[renamed(name, kind)] = t
    for name, parts in experts.items():
        keys = sorted(parts)
        n, (rows, cols) = keys[-1][0] + 1, parts[keys[0]][0]
        out[name] = ([n, rows * len(keys) // n, cols], b"".join(parts[k][1] for k in keys), parts[keys[0]][2])
    return out


raw = open(source + "/model.safetensors", "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head, body = json.loads(raw[8:8 + n]), raw[8 + n:]
tensors = {}
for name, t in head.items():
    if name != "__metadata__":
        size = {"F32": 4, "F16": 2, "BF16": 2}[t["dtype"]]
        data = body[t["data_offsets"][0]:t["data_offsets"][1]]
        if "turned" in how:
            data = b"".join(data[i:i + size] for i in range(len(data) - size, -1, -size))
        tensors[name] = (t["shape"], data, t["dtype"])
kind = json.load(open(source + "/config.json"))["model_type"]
if "stacked" in how:
    tensors = {**(tensors if "both" in how else {}), **stacked(tensors, kind)}
os.makedirs(folder)
for f in os.listdir(source):
    if not f.endswith(".safetensors"):
        shutil.copy(source + "/" + f, folder)
head, data = {"__metadata__": {"format": "pt"}}, b""
for name in sorted(tensors):
    shape, part, dtype = tensors[name]
    head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
    data += part
text = json.dumps(head).encode()
open(folder + "/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
