# SPDX-License-Identifier: Apache-2.0
"""convert.py: conversion against the floor and against the peers, side by side in one run.

    python3 bench/convert.py [--work DIR] [--peers] [--shape 1.1b] [--repeat 3] [--table]

The floor is `cat inputs > /dev/null` and then `dd if=/dev/zero bs=256K` of as many bytes as the job writes,
without sync on either side (warm cache). Every round runs floor, lbrx and (with --peers) the peer one
after the other; medians are printed, ratios are what counts on a shared machine.
--peers installs transformers, torch, gguf, mlx and mlx-lm from PyPI into a virtual environment in the work
folder and takes convert_hf_to_gguf.py from the source package llama-cpp-python==0.3.36.
--table adds time and memory for the 7B, 13B, 33B and 70B shapes: real files where the disk has room,
sparse ones (marked so) with --to none otherwise."""
import argparse
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import models
import peers

HERE = os.path.dirname(os.path.abspath(__file__))
LBRX = os.environ.get("LBRX") or os.path.join(HERE, "..", "build", "lbrx")


def timed(cmd, **kw):
    begin = time.monotonic()
    r = subprocess.run(cmd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kw)
    if r.returncode:
        sys.exit(f"{cmd}: {r.stderr.decode()[-2000:]}")
    return time.monotonic() - begin


def size_of(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(f) for f in glob.glob(path + "/*"))


def drop(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)


def drop_caches():
    try:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError:
        return False


def floor(inputs, n_bytes, work):
    out = os.path.join(work, "floor.tmp")
    t = timed(["sh", "-c", 'cat "$@" > /dev/null', "cat"] + inputs)
    t += timed(["dd", "if=/dev/zero", f"of={out}", "bs=256K", f"count={n_bytes // (256 << 10) + 1}"])
    drop(out)
    return t


def lbrx(src, out, to, *more):
    drop(out)
    begin = time.monotonic()
    r = subprocess.run([LBRX, "convert", src, "-o", out, "--to", to, "--no-sync", "--json", "-q", *more],
                       stdout=subprocess.PIPE)
    t = time.monotonic() - begin
    if r.returncode:
        sys.exit("lbrx failed")
    return t, json.loads(r.stdout)


def weights(path):
    return [path] if os.path.isfile(path) else sorted(glob.glob(path + "/*.safetensors"))


def job(name, src, out, to, work, repeat, peer=None, cold=False):
    f, l, p = [], [], []
    _, rep = lbrx(src, out, to)  # warms the cache; what it writes is what the floor writes
    n = size_of(out)
    drop(out)
    for _ in range(repeat):
        if cold:
            drop_caches()
        f.append(floor(weights(src), n, work))
        if cold:
            drop_caches()
        t, rep = lbrx(src, out, to)
        l.append(t)
        drop(out)
        if peer:
            p.append(peer(out))
            drop(out)
    fm, lm = statistics.median(f), statistics.median(l)
    row = (f"| {name}{' (cold)' if cold else ''} | {fm:.2f} s | {lm:.2f} s | {lm / fm:.2f} | "
           f"{rep['peak_rss_bytes'] / 1e6:.0f} MB |")
    row += f" {statistics.median(p):.1f} s | {statistics.median(p) / lm:.0f}x |" if p else " | |"
    print(row, flush=True)


def install_peers(work):
    python = peers.venv(work, ["torch", "transformers", "gguf", "safetensors", "sentencepiece", "protobuf", "mlx[cpu]",
                               "mlx-lm"])
    return python, os.path.join(peers.llama_source(work), "convert_hf_to_gguf.py")


def table(work):
    print("\n| shape | what | time | peak memory | promised |\n|---|---|---|---|---|")
    promised = {"7b": "72 s, 16 GB", "13b": "150 s, 22 GB", "33b": "345 s", "70b": "790 s"}
    for name, text in promised.items():
        src, out = os.path.join(work, "shape-" + name), os.path.join(work, "shape-out")
        drop(src)
        bytes_ = sum(2 * models.elems(d) for _, d in models.tensors(models.SHAPES[name], models.SHAPES[name][5]))
        real = shutil.disk_usage(work).free > 2.5 * bytes_ and bytes_ < 30e9
        models.make(name, src, sparse=not real)
        t, rep = lbrx(src, out, "mlx" if real else "none")
        what = "HF to MLX, real files" if real else "read and computed, sparse, nothing written"
        print(f"| {name} ({bytes_ / 1e9:.0f} GB) | {what} | {t:.1f} s | {rep['peak_rss_bytes'] / 1e6:.0f} MB | {text} |",
              flush=True)
        drop(src)
        drop(out)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--work", default=os.path.join(HERE, "..", "build", "bench"))
    a.add_argument("--shape", default="1.1b", choices=models.SHAPES)
    a.add_argument("--tokenizer", help="folder with the tokenizer that the model gets (needed for GGUF)")
    a.add_argument("--repeat", type=int, default=3)
    a.add_argument("--peers", action="store_true")
    a.add_argument("--cold", action="store_true", help="also with the page cache dropped (root)")
    a.add_argument("--table", action="store_true")
    o = a.parse_args()
    work = os.path.abspath(o.work)
    os.makedirs(work, exist_ok=True)
    peer_gguf = peer_mlx = None
    src = os.path.join(work, "hf-" + o.shape)
    if not os.path.exists(src):
        models.make(o.shape, src, tokenizer=o.tokenizer)
    if o.peers:
        python, script = install_peers(work)
        peer_gguf = lambda out: timed([python, script, src, "--outfile", out, "--outtype", "bf16"])
        peer_mlx = lambda out: timed([python, "-m", "mlx_lm", "convert", "--hf-path", src, "--mlx-path", out])
    print("| job | floor | lbrx | lbrx / floor | peak memory | peer | peer / lbrx |\n|---|---|---|---|---|---|---|")
    gguf, mlx = os.path.join(work, "out.gguf"), os.path.join(work, "out-mlx")
    for cold in [False, True] if o.cold else [False]:
        job("HF to MLX", src, mlx, "mlx", work, o.repeat, None if cold else peer_mlx, cold)
        if o.tokenizer:
            job("HF to GGUF", src, gguf, "gguf", work, o.repeat, None if cold else peer_gguf, cold)
            lbrx(src, gguf, "gguf")
            keep = os.path.join(work, "in.gguf")
            os.replace(gguf, keep)
            job("GGUF to HF", keep, os.path.join(work, "out-hf"), "hf", work, o.repeat, None, cold)
            drop(keep)
    if o.table:
        table(work)


if __name__ == "__main__":
    main()
