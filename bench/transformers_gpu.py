# SPDX-License-Identifier: Apache-2.0
"""transformers_gpu.py: what torch and transformers reach on a GPU with a Llama-shaped model in bf16, to stand beside
`lbrx bench --device cuda` and bench/inference.py --device cuda of the same run.

    python3 bench/transformers_gpu.py [--shape 8b] [-p 4096] [-n 64] [--repeat 3] [--device cuda] [--compile] [--json]

Weights are random and made on the device. Printed: the bandwidth at which torch reads memory; the products of one prompt by
cuBLAS alone (each matrix of the model by P tokens), as TFLOP/s and as tokens a second; transformers reading a prompt of P
tokens (logits of the last one); transformers generating N tokens one by one with a static cache, as it is and with the
step as a CUDA graph (--compile: compiled, too, mode "reduce-overhead", which takes minutes before the first token), what
share of the bandwidth that is, and whether the tokens are those of the first way. Medians of REPEAT rounds, each as soon
as it is known."""
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


def static_cache(o, model):
    import torch
    from transformers import StaticCache
    return StaticCache(config=model.config, max_cache_len=o.n + 16, max_batch_size=1, device=o.device, dtype=torch.bfloat16)


def cache_name(model):
    """What forward calls it: another word from transformers 5.2x on."""
    import inspect
    return "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"


def generating(o, clock, model, compiled):
    """(seconds a token, tokens)"""
    import torch
    cache, name, tokens = static_cache(o, model), cache_name(model), []
    step = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True) if compiled else model.forward

    def run():
        cache.reset()
        tokens.clear()
        token = torch.ones((1, 1), dtype=torch.long, device=o.device)
        for i in range(o.n):
            at = torch.full((1,), i, dtype=torch.long, device=o.device)
            out = step(input_ids=token, cache_position=at, position_ids=at[None], use_cache=True, **{name: cache})
            token = out.logits[:, -1:].argmax(-1)
            tokens.append(token)
    run()
    return clock.median(run, o.repeat) / o.n, torch.cat(tokens).flatten().tolist()


def generating_graph(o, clock, model):
    """The same with one step recorded as a CUDA graph, as inference servers do, without a compiler: what goes from token
    to token stays in tensors at one place, also the mask, which is made of the position. On a CPU the step as it is."""
    import torch
    cache, name = static_cache(o, model), cache_name(model)
    places = torch.arange(o.n + 16, device=o.device)
    token = torch.ones((1, 1), dtype=torch.long, device=o.device)
    at = torch.zeros(1, dtype=torch.long, device=o.device)
    made = torch.zeros(o.n + 16, dtype=torch.long, device=o.device)

    def step():
        mask = (places <= at)[None, None, None]
        out = model(input_ids=token, attention_mask=mask, cache_position=at, position_ids=at[None], use_cache=True,
                    **{name: cache})
        token.copy_(out.logits[:, -1:].argmax(-1))
        made.index_copy_(0, at, token[0])
        at.add_(1)

    def begin():
        cache.reset()
        token.fill_(1)
        at.zero_()

    one = step
    if clock.cuda:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        begin()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        one = graph.replay

    def run():
        begin()
        for _ in range(o.n):
            one()
    run()
    return clock.median(run, o.repeat) / o.n, made[:o.n].tolist()


def same(a, b):
    n = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)
    return "the same tokens" if n is None else f"the same tokens up to {n}"


def measure(o):
    """(name, value) as they are known"""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM
    clock = Clock(o.device)
    read = bandwidth(o, clock) / 1e9
    yield "torch", torch.__version__
    yield "transformers", transformers.__version__
    yield "device", torch.cuda.get_device_name() if clock.cuda else "cpu"
    yield "read_gb_per_second", read
    with torch.inference_mode():
        seconds, tflops = products(o, clock)
        yield "cublas_tflops", tflops
        yield "cublas_tokens_per_second", o.p / seconds
        with torch.device(o.device):
            model = AutoModelForCausalLM.from_config(config_of(o.shape), dtype=torch.bfloat16).eval()
        ids = torch.randint(0, model.config.vocab_size, (1, o.p), device=o.device)
        yield "prompt_tokens_per_second", o.p / clock.median(lambda: model(ids, logits_to_keep=1), o.repeat)
        size = 2 * (sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel())
        ways = [("generating", lambda: generating(o, clock, model, False)),
                ("generating_graph", lambda: generating_graph(o, clock, model))]
        if o.compile:
            ways.append(("generating_compiled", lambda: generating(o, clock, model, True)))
        first = None
        for name, way in ways:
            try:
                seconds, tokens = way()
            except RuntimeError as e:  # of a graph: something in the step cannot be recorded
                yield name, f"failed: {e}".splitlines()[0]
                continue
            first = first or tokens
            yield name + "_tokens_per_second", 1 / seconds
            yield name + "_bandwidth_share", size / seconds / 1e9 / read
            yield name + "_gives", same(first, tokens)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--shape", default="8b", choices=sorted(models.SHAPES))
    a.add_argument("-p", type=int, default=4096)
    a.add_argument("-n", type=int, default=64)
    a.add_argument("--repeat", type=int, default=3)
    a.add_argument("--device", default="cuda")
    a.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False)
    a.add_argument("--json", action="store_true")
    o = a.parse_args()
    out = {}
    try:
        for k, v in measure(o):
            out[k] = v
            if not o.json:
                print(f"{k.replace('_', ' ')}: {v if isinstance(v, str) else f'{v:,.2f}'}", flush=True)
    except ImportError as e:
        sys.exit(f"{e}: this needs torch and transformers")
    if o.json:
        print(json.dumps(out))


if __name__ == "__main__":
    main()
