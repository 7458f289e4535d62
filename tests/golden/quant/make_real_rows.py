#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_real_rows.py: weights of a trained model for test_refine: 8 rows of 1024 bf16 in real_rows.bf16.

    build/lbrx convert SmolLM2-135M-Instruct.Q4_1.gguf -o hf --to hf     # the file of tools/demo.sh
    python3 tools/widen.py hf wide --off-grid 1
    python3 tests/golden/quant/make_real_rows.py wide tests/golden/quant/real_rows.bf16

SmolLM2-135M-Instruct: Apache 2.0. The zeros that widening adds are left out. safetensors 0.8, torch 2.15."""
import sys

import torch
from safetensors import safe_open

NAMES = ["model.layers.0.self_attn.q_proj", "model.layers.3.self_attn.k_proj", "model.layers.9.self_attn.v_proj",
         "model.layers.14.self_attn.o_proj", "model.layers.14.mlp.gate_proj", "model.layers.20.mlp.up_proj",
         "model.layers.29.mlp.down_proj", "model.embed_tokens"]

with safe_open(sys.argv[1] + "/model.safetensors", "pt") as f, open(sys.argv[2], "wb") as out:
    for name in NAMES:
        x = f.get_slice(name + ".weight")[16:32].float().flatten()
        x = x[x != 0][:1024].to(torch.bfloat16)
        assert len(x) == 1024
        out.write(x.view(torch.int16).numpy().tobytes())
