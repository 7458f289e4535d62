#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_adapter.py FOLDER CONFIG NAME:DIM[:DIM]...: an adapter of random matrices, the same for the same folder's name.
CONFIG is the text of adapter_config.json: with fine_tune_type the weights' file is mlx-lm's, else PEFT's."""
import json, os, random, struct, sys
folder, config, names = sys.argv[1], sys.argv[2], sys.argv[3:]
r = random.Random(os.path.basename(folder))
os.makedirs(folder, exist_ok=True)
head, data = {}, b""
for n in names:
    name, *dims = n.split(":")
    dims = [int(d) for d in dims]
    k = 1
    for d in dims:
        k *= d
    raw = struct.pack("<%df" % k, *(r.uniform(0.1, 1) if "magnitude" in name else r.gauss(0, 0.1) for _ in range(k)))
    head[name] = {"dtype": "F32", "shape": dims, "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
h = json.dumps(head).encode()
mlx = "fine_tune_type" in config
open(folder + ("/adapters" if mlx else "/adapter_model") + ".safetensors", "wb").write(struct.pack("<Q", len(h)) + h + data)
open(folder + "/adapter_config.json", "w").write(config)
