#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""quantize.py: quantization against llama-quantize, against mlx_lm.convert and against the floor, side by side in one run.

    python3 bench/quantize.py [--work DIR] [--llama DIR] [--peers] [--part 8] [--repeat 3] [--types q4_k_m,iq3_xxs]
    python3 bench/quantize.py --device cuda [--work DIR] [--part 1] [--repeat 3] [--types iq2_xxs,q4_k_m]

First table: CPU time of `lbrx quantize` and of llama-quantize for the same GGUF of BF16 values of the normal
distribution, on one thread each, one after the other; the tensors of both results are compared. CPU time is what a
shared machine does not change much; wall time stands beside it. --part N takes 1/N of the layers and of the
vocabulary of the 1.1B shape, near the same mixture of matrices; time goes with the number of weights. Types that
llama-quantize makes only with an importance matrix get one with random entries (and so do all with --imatrix).
Second table: the whole 1.1B shape from a Hugging Face folder of bf16, all threads, warm page cache, no sync, against
the floor of bench/convert.py: `cat inputs > /dev/null` and `dd if=/dev/zero bs=256K` of as many bytes as the job
writes; with --peers also `mlx_lm.convert -q` (CPU). Medians of interleaved rounds; ratios are what counts.

With --device one table instead: the same job on the CPU and on the device, in turn, all threads (-t gives another
number), page cache warm, no sync; the tensors of both are compared. "made" leaves out what a start costs (the driver,
its kernels), as the command reports it.

Peak memory is anonymous memory (RssAnon of /proc, looked at every 5 ms). llama-quantize is built from the source
package in PyPI unless --llama names a folder that has it; the tokenizer of the second table is the demo's model's."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time

import models
import peers
from convert import drop, floor, size_of, weights
from quality import LBRX, ROOT, demo_model, gguf_types, inspect

# at least so many times less CPU time than llama-quantize, where the bytes are the same
ASKED = {**dict.fromkeys(["q4_k_m", "q5_k_m", "q6_k"], 8), **dict.fromkeys(["q2_k", "q3_k_m", "iq4_xs"], 6),
         **dict.fromkeys(["iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs", "iq3_s", "iq1_s", "iq1_m"], 4)}
WEIGHTED = {"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs", "iq3_s", "q2_k_s"}
JOBS = [("mlx-q4", "mlx", 1.4), ("mlx-q8", "mlx", 1.4), ("q8_0", "gguf", 1.4), ("q4_0", "gguf", 1.4), ("fp8", "hf", 1.4),
        ("fp8-block", "hf", None), ("w4a16", "hf", None), ("mlx-mxfp4", "mlx", None), ("q4_k_m", "gguf", None),
        ("q6_k", "gguf", None)]


class Run:
    """wall and CPU seconds, peak anonymous bytes of a program; ok and what it printed."""

    def __init__(self, cmd):
        begin = time.monotonic()
        p = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.peak, self.text = 0, b""
        reader = threading.Thread(target=self.read, args=(p.stdout,))
        watcher = threading.Thread(target=self.watch, args=(p.pid,))
        reader.start()
        watcher.start()
        _, status, use = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        self.wall, self.cpu = time.monotonic() - begin, use.ru_utime + use.ru_stime
        reader.join()
        watcher.join()
        self.ok = p.returncode == 0

    def read(self, pipe):
        self.text = pipe.read()

    def watch(self, pid):
        try:
            with open(f"/proc/{pid}/status", "rb") as f:
                while True:
                    f.seek(0)
                    at = (text := f.read()).find(b"RssAnon:")
                    if at < 0:  # it has ended
                        return
                    self.peak = max(self.peak, 1024 * int(text[at + 8 :].split(None, 1)[0]))
                    time.sleep(0.005)
        except OSError:
            return


def must(run):
    if not run.ok:
        sys.exit(run.text.decode(errors="replace")[-2000:])
    return run


def median(runs, what):
    return statistics.median(getattr(r, what) for r in runs)


def same_bytes(a, b):
    one, two = ([(t["name"], t["type"], t["sha256"]) for t in inspect(p, "--hash")["tensors"]] for p in (a, b))
    return sorted(one) == sorted(two)


def against_llama(o):
    o.types = [t for t in o.types if t in gguf_types()]
    if not o.types:
        return
    shape = models.part("1.1b", o.part)
    src, imatrix = os.path.join(o.work, "part.gguf"), os.path.join(o.work, "part-imatrix.gguf")
    models.make_gguf(shape, src)
    models.make_imatrix(shape, imatrix)
    ours, theirs = os.path.join(o.work, "ours.gguf"), os.path.join(o.work, "theirs.gguf")
    tool = os.path.join(peers.llama_tools(o.work, o.llama), "llama-quantize")
    n = sum(models.elems(d) for _, d in models.tensors(shape, shape[5]))
    print(f"{n / 1e6:.0f} M weights, one thread, {o.repeat} rounds, of llama-quantize {o.peer_repeat}\n")
    print("| type | CPU, llama-quantize / lbrx | asked | wall, the same | same bytes | CPU, lbrx | ns a weight | CPU, llama-quantize | "
          "peak, lbrx | peak, llama-quantize |\n|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in o.types:
        matrix = ["--imatrix", imatrix] if o.imatrix or name in WEIGHTED else []
        l, p = [], []
        for i in range(max(o.repeat, o.peer_repeat)):
            drop(ours)
            l.append(must(Run([LBRX, "quantize", src, "-o", ours, "--type", name, "-t", "1", "--no-sync", "-q", *matrix])))
            if i < o.peer_repeat:
                p.append(Run([tool, *matrix, src, theirs, name, "1"]))
        label = name + (" (imatrix)" if matrix else "")
        if not all(r.ok for r in p):  # not one of its choices
            print(f"| {label} | | | | | {median(l, 'cpu'):.2f} s | {median(l, 'cpu') / n * 1e9:.2f} | | {median(l, 'peak') / 1e6:.0f} MB | |")
        else:
            print(f"| {label} | {median(p, 'cpu') / median(l, 'cpu'):.1f}x | {str(ASKED[name]) + 'x' if name in ASKED else ''} | "
                  f"{median(p, 'wall') / median(l, 'wall'):.1f}x | {'yes' if same_bytes(ours, theirs) else 'NO'} | "
                  f"{median(l, 'cpu'):.2f} s | {median(l, 'cpu') / n * 1e9:.2f} | {median(p, 'cpu'):.1f} s | "
                  f"{median(l, 'peak') / 1e6:.0f} MB | {median(p, 'peak') / 1e6:.0f} MB |", flush=True)
        drop(ours)
        drop(theirs)
    drop(src)


# what a device quantizes (src/device/kernels.def: enc_*)
THERE = ["q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl", "iq4_xs", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s",
         "iq1_s", "iq1_m"]


def against_device(o):
    shape = models.part("1.1b", o.part)
    src, imatrix = os.path.join(o.work, "part.gguf"), os.path.join(o.work, "part-imatrix.gguf")
    models.make_gguf(shape, src)
    models.make_imatrix(shape, imatrix)
    here, there = os.path.join(o.work, "cpu.gguf"), os.path.join(o.work, "device.gguf")
    n = sum(models.elems(d) for _, d in models.tensors(shape, shape[5]))
    print(f"{n / 1e6:.0f} M weights, {o.threads} threads, {o.repeat} rounds\n")
    print("| type | CPU / device, made | CPU / device, wall | same bytes | M weights/s, CPU | M weights/s, device | made, CPU | "
          "made, device | wall, CPU | wall, device | CPU time, CPU | CPU time, device |\n|" + "---|" * 12, flush=True)
    for name in [t for t in o.types if not o.given and t in THERE or o.given]:
        matrix = ["--imatrix", imatrix] if o.imatrix or name in WEIGHTED else []
        runs = {"cpu": [], o.device: []}
        for _ in range(o.repeat):
            for device, out in (("cpu", here), (o.device, there)):
                drop(out)
                r = must(Run([LBRX, "quantize", src, "-o", out, "--type", name, "-t", str(o.threads), "--no-sync", "-q", "--json",
                              "--device", device, *matrix]))
                r.made = json.loads(r.text)["seconds"]
                runs[device].append(r)
        c, d = runs["cpu"], runs[o.device]
        m = {w: (median(c, w), median(d, w)) for w in ("made", "wall", "cpu")}
        print(f"| {name}{' (imatrix)' if matrix else ''} | {m['made'][0] / m['made'][1]:.1f}x | {m['wall'][0] / m['wall'][1]:.1f}x | "
              f"{'yes' if same_bytes(here, there) else 'NO'} | {n / m['made'][0] / 1e6:.0f} | {n / m['made'][1] / 1e6:.0f} | "
              + " | ".join(f"{v:.2f} s" for w in ("made", "wall", "cpu") for v in m[w]) + " |", flush=True)
        drop(here)
        drop(there)
    drop(src)


def source(o):
    """The folder of the 1.1B shape, with the demo's tokenizer."""
    src, tokenizer = os.path.join(o.work, "hf-1.1b-normal"), os.path.join(o.work, "tokenizer")
    if not os.path.exists(src):
        drop(tokenizer)
        must(Run([LBRX, "convert", demo_model(o.work), "-o", tokenizer, "--to", "hf", "--no-sync", "-q"]))
        models.make("1.1b", src + ".partial", tokenizer=tokenizer, block=models.gaussian())
        os.rename(src + ".partial", src)
        drop(tokenizer)
    return src


def against_floor(o):
    src, out, python = source(o), os.path.join(o.work, "out"), None
    if o.peers:
        python = peers.venv(o.work, ["torch", "transformers", "safetensors", "sentencepiece", "protobuf", "mlx[cpu]", "mlx-lm"])
    print(f"\n1.1B shape, {size_of(src) / 1e9:.2f} GB of bf16, {peers.cores()} threads, {o.repeat} rounds\n")
    print("| job | lbrx / floor | asked | mlx_lm.convert / lbrx | floor | lbrx | CPU, lbrx | written | peak, lbrx | mlx_lm.convert |\n"
          "|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name, to, asked in (j for j in JOBS if not o.given or j[0] in o.types):
        target = out + (".gguf" if to == "gguf" else "")
        f, l, p = [], [], []
        run = lambda: must(Run([LBRX, "quantize", src, "-o", target, "--to", to, "--type", name, "--no-sync", "-q"]))
        drop(target)
        run()  # warms the cache; what it writes is what the floor writes
        n = size_of(target)
        for _ in range(o.repeat):
            drop(target)
            f.append(floor(weights(src), n, o.work))
            l.append(run())
        drop(target)
        if python and to == "mlx":
            kind, bits = ("affine", name[-1]) if name.startswith("mlx-q") else (name[4:], None)
            more = ["--q-bits", bits] if bits else ["--q-mode", kind, "--q-group-size", "32", "--q-bits", "4"]
            for _ in range(o.peer_repeat):
                p.append(must(Run([python, "-m", "mlx_lm", "convert", "--hf-path", src, "--mlx-path", out, "-q", *more])))
                drop(out)
        fm, lm = statistics.median(f), median(l, "wall")
        ratio, peer = (f"{median(p, 'wall') / lm:.0f}x", f"{median(p, 'wall'):.1f} s") if p else ("", "")
        print(f"| {name} to {to} | {lm / fm:.2f} | {asked or ''} | {ratio} | {fm:.2f} s | {lm:.2f} s | {median(l, 'cpu'):.2f} s | "
              f"{n / 1e9:.2f} GB | {median(l, 'peak') / 1e6:.0f} MB | {peer} |", flush=True)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--work", default=os.path.join(ROOT, "build", "bench"))
    a.add_argument("--llama", help="folder with llama-quantize")
    a.add_argument("--types", help="separated by commas; default: all recipes, and the second table's own list")
    a.add_argument("--part", type=int, default=8)
    a.add_argument("--imatrix", action="store_true")
    a.add_argument("--repeat", type=int, default=3)
    a.add_argument("--peer-repeat", type=int, default=1)
    a.add_argument("--peers", action="store_true", help="also mlx_lm.convert")
    a.add_argument("--device", help="cuda, cuda:N: against the CPU")
    a.add_argument("-t", "--threads", type=int, default=peers.cores())
    a.add_argument("--only", choices=["llama", "floor"])
    o = a.parse_args()
    o.work = os.path.abspath(o.work)
    o.given = bool(o.types)
    o.types = o.types.split(",") if o.types else list(gguf_types())
    os.makedirs(o.work, exist_ok=True)
    print(peers.processor(), flush=True)
    if o.device:
        against_device(o)
        return
    if o.only != "floor":
        against_llama(o)
    if o.only != "llama":
        against_floor(o)


if __name__ == "__main__":
    main()
