# SPDX-License-Identifier: Apache-2.0
"""transformers_gpu.py: what torch and transformers reach on a GPU with a Llama-shaped model in bf16, to stand beside
`lbrx bench --device cuda` and bench/inference.py --device cuda of the same run.

    python3 bench/transformers_gpu.py [--shape 8b] [-p 4096] [-n 64] [--repeat 3] [--device cuda] [--no-compile] [--json]

Weights are random and made on the device. Printed: the bandwidth at which torch reads memory; the products of one prompt by
cuBLAS alone (each matrix of the model by P tokens), as TFLOP/s and as tokens a second; transformers reading a prompt of P
tokens (logits of the last one); transformers generating N tokens one by one with a static cache, as it is and compiled
(mode "reduce-overhead": CUDA graphs), and what share of the bandwidth that is. Medians of REPEAT rounds."""
import argparse
import json
import statistics
import sys
import time

import models


def config_of(shape):
    from transformers import LlamaConfig
    h, layers, inter, heads, kv, vocab = models.SHAPES[shape]
    return LlamaConfig(hidden_size=h, num_hidden_layers=layers, intermediate_size=inter, num_attention_heads=heads,
                       num_key_value_heads=kv, vocab_size=vocab, max_position_embeddings=8192, tie_word_embeddings=False)


def matrices(shape):
    """[(rows, columns, how many)] of a pass, without the head."""
    h, layers, inter, heads, kv, _ = models.SHAPES[shape]
    k = h // heads * kv
    return [(h + 2 * k, h, layers), (h, h, layers), (2 * inter, h, layers), (h, inter, layers)]


class Clock:
    def __init__(self, device):
        import torch
        self.torch, self.cuda = torch, device.startswith("cuda")

    def now(self):
        if self.cuda:
            self.torch.cuda.synchronize()
        return time.perf_counter()

    def median(self, f, repeat):
        f()
        seconds = []
        for _ in range(repeat):
            begin = self.now()
            f()
            seconds.append(self.now() - begin)
        return statistics.median(seconds)


def bandwidth(o, clock):
    import torch
    x = torch.ones((1 << 30) if clock.cuda else (1 << 24), dtype=torch.float32, device=o.device)
    return x.numel() * 4 / clock.median(x.sum, 5 * o.repeat)


def products(o, clock):
    """(seconds of a prompt's products, TFLOP/s)"""
    import torch
    total, operations = 0.0, 0
    for rows, cols, n in matrices(o.shape):
        w = torch.randn(rows, cols, device=o.device, dtype=torch.bfloat16)
        x = torch.randn(o.p, cols, device=o.device, dtype=torch.bfloat16)
        times = 8 if clock.cuda else 1

        def many():
            for _ in range(times):
                torch.nn.functional.linear(x, w)
        total += n * clock.median(many, o.repeat) / times
        operations += 2 * n * rows * cols * o.p
    return total, operations / total / 1e12


def generating(o, clock, model, compiled):
    """Seconds a token."""
    import torch
    from transformers import StaticCache
    cache = StaticCache(config=model.config, max_cache_len=o.n + 16, max_batch_size=1, device=o.device, dtype=torch.bfloat16)
    step = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True) if compiled else model.forward

    def run():
        cache.reset()
        token = torch.ones((1, 1), dtype=torch.long, device=o.device)
        for i in range(o.n):
            at = torch.full((1,), i, dtype=torch.long, device=o.device)
            out = step(input_ids=token, past_key_values=cache, cache_position=at, position_ids=at[None], use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
    run()
    return clock.median(run, o.repeat) / o.n


def measure(o):
    import torch
    import transformers
    from transformers import AutoModelForCausalLM
    clock = Clock(o.device)
    out = {"torch": torch.__version__, "transformers": transformers.__version__,
           "device": torch.cuda.get_device_name() if clock.cuda else "cpu", "read_gb_per_second": bandwidth(o, clock) / 1e9}
    with torch.inference_mode():
        seconds, out["cublas_tflops"] = products(o, clock)
        out["cublas_tokens_per_second"] = o.p / seconds
        with torch.device(o.device):
            model = AutoModelForCausalLM.from_config(config_of(o.shape), dtype=torch.bfloat16).eval()
        ids = torch.randint(0, model.config.vocab_size, (1, o.p), device=o.device)
        out["prompt_tokens_per_second"] = o.p / clock.median(lambda: model(ids, logits_to_keep=1), o.repeat)
        size = 2 * (sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel())
        for name, compiled in (("generating", False), ("generating_compiled", True)):
            if compiled and o.no_compile:
                continue
            seconds = generating(o, clock, model, compiled)
            out[name + "_tokens_per_second"] = 1 / seconds
            out[name + "_bandwidth_share"] = size / seconds / 1e9 / out["read_gb_per_second"]
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--shape", default="8b", choices=sorted(models.SHAPES))
    a.add_argument("-p", type=int, default=4096)
    a.add_argument("-n", type=int, default=64)
    a.add_argument("--repeat", type=int, default=3)
    a.add_argument("--device", default="cuda")
    a.add_argument("--no-compile", action="store_true")
    a.add_argument("--json", action="store_true")
    o = a.parse_args()
    try:
        out = measure(o)
    except ImportError as e:
        sys.exit(f"{e}: this needs torch and transformers")
    if o.json:
        print(json.dumps(out))
        return
    for k, v in out.items():
        print(f"{k.replace('_', ' ')}: {v if isinstance(v, str) else f'{v:,.2f}'}")


if __name__ == "__main__":
    main()
