# SPDX-License-Identifier: Apache-2.0
"""repeat.py: a model's layers several times over, byte for byte: quantized models of shapes that take too long to
quantize or too much disk to hold in bf16. Standard library only.

    python3 bench/models.py 70b hf --layers 2 && lbrx quantize hf -o small.gguf --type q4_k_m
    python3 bench/repeat.py small.gguf 70b-q4_k_m --times 40 [--threads 8]
    python3 bench/repeat.py small-mlx 70b-mlx --times 40

IN is a GGUF file, or a folder of safetensors (MLX, Hugging Face). OUT becomes a folder: of a split GGUF, whose first
part's name is printed, or of as many files of safetensors. Each repetition is a file of its own, so that several are
written at a time. Recipes that give some layers other types repeat those of the few layers."""
import argparse
import concurrent.futures
import glob
import json
import mmap
import os
import re
import shutil
import struct
import sys

CHUNK = 8 << 20
GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


def mapped(path):
    with open(path, "rb") as f:
        return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))


def write_file(path, head, ranges):
    """ranges: [(memoryview, bytes to add behind it)]"""
    with open(path, "wb", buffering=0) as f:
        f.write(head)
        for data, pad in ranges:
            for at in range(0, len(data), CHUNK):
                piece = data[at:at + CHUNK]
                while piece:
                    piece = piece[f.write(piece):]
            f.write(b"\0" * pad)


def run_all(jobs, threads):
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(write_file, *job) for job in jobs]:
            done.result()


# ---- GGUF ----

def text(s):
    return struct.pack("<Q", len(s)) + s


class Gguf:
    def __init__(self, path):
        self.m = mapped(path)
        magic, version, n_tensors, n_pairs = self.take("<4sIQQ", 0)
        if magic != b"GGUF" or version not in (2, 3):
            sys.exit(f"{path}: no GGUF file of version 2 or 3")
        self.version, self.pairs, self.tensors = version, [], []
        self.align, at = 32, 24
        for _ in range(n_pairs):
            key, at = self.string(at)
            kind, = self.take("<I", at)
            end = self.skip(kind, at + 4)
            if key == b"general.alignment":
                self.align, = self.take("<I", at + 4)
            self.pairs.append((key, kind, bytes(self.m[at + 4:end])))
            at = end
        infos = []
        for _ in range(n_tensors):
            name, at = self.string(at)
            n_dims, = self.take("<I", at)
            end = at + 4 + 8 * n_dims + 4
            infos.append((name, bytes(self.m[at:end]), *self.take("<Q", end)))
            at = end + 8
        base = -(-at // self.align) * self.align
        ends = sorted(i[2] for i in infos) + [len(self.m) - base]
        after = dict(zip(ends, ends[1:]))
        self.tensors = [(name, info, self.m[base + off:base + after[off]]) for name, info, off in infos]

    def take(self, form, at):
        return struct.unpack_from(form, self.m, at)

    def string(self, at):
        n, = self.take("<Q", at)
        return bytes(self.m[at + 8:at + 8 + n]), at + 8 + n

    def skip(self, kind, at):
        if kind == STRING:
            return self.string(at)[1]
        if kind != ARRAY:
            return at + GGUF_SIZES[kind]
        inner, n = self.take("<IQ", at)
        if inner in GGUF_SIZES:
            return at + 12 + n * GGUF_SIZES[inner]
        at += 12
        for _ in range(n):
            at = self.skip(inner, at)
        return at


def repeated_pairs(g, times):
    """Counts of layers, and lists of one value a layer."""
    count = next(struct.unpack("<I", v)[0] for k, kind, v in g.pairs if k.endswith(b".block_count"))
    arch = next(v[8:] for k, kind, v in g.pairs if k == b"general.architecture")
    out = []
    for key, kind, value in g.pairs:
        if key == arch + b".block_count":
            value = struct.pack("<I", count * times)
        elif kind == ARRAY and key.startswith(arch + b"."):
            inner, n = struct.unpack_from("<IQ", value)
            if n == count and inner in GGUF_SIZES:
                value = struct.pack("<IQ", inner, n * times) + value[12:] * times
        out.append((key, kind, value))
    return count, out


def gguf_head(g, pairs, tensors):
    """(bytes, ranges)"""
    head = struct.pack("<4sIQQ", b"GGUF", g.version, len(tensors), len(pairs))
    head += b"".join(text(k) + struct.pack("<I", kind) + v for k, kind, v in pairs)
    at, ranges = 0, []
    for name, info, data in tensors:
        head += text(name) + info + struct.pack("<Q", at)
        ranges.append((data, -len(data) % g.align))
        at += len(data) + ranges[-1][1]
    return head + b"\0" * (-len(head) % g.align), ranges


def repeat_gguf(path, out, times, threads):
    g = Gguf(path)
    count, pairs = repeated_pairs(g, times)
    layers = [t for t in g.tensors if t[0].startswith(b"blk.")]
    rest = [t for t in g.tensors if not t[0].startswith(b"blk.")]
    stem = os.path.join(out, os.path.basename(out.rstrip("/")))
    names, jobs = [], []
    for k in range(times):
        own = [(re.sub(rb"^blk\.(\d+)", lambda m: b"blk.%d" % (int(m[1]) + k * count), name), info, data)
               for name, info, data in layers]
        split = [(b"split.no", 2, struct.pack("<H", k)), (b"split.count", 2, struct.pack("<H", times)),
                 (b"split.tensors.count", 5, struct.pack("<i", len(rest) + times * len(layers)))]
        names.append(f"{stem}-{k + 1:05}-of-{times:05}.gguf")
        jobs.append((names[-1], *gguf_head(g, (pairs if k == 0 else []) + split, (rest if k == 0 else []) + own)))
    run_all(jobs, threads)
    print(names[0])


# ---- folders of safetensors ----

LAYER = re.compile(r"((?:^|\.)layers\.)(\d+)(?=\.)")


def repeated_config(c, count, times):
    """Lists of one value a layer, and what is said of a layer's modules by name."""
    if isinstance(c, list):
        return c * times if len(c) == count and count > 1 else c
    if not isinstance(c, dict):
        return c
    out = {}
    for key, value in c.items():
        for k in range(times if LAYER.search(key) else 1):
            name = LAYER.sub(lambda m: m[1] + str(int(m[2]) + k * count), key)
            out[name] = repeated_config(value, count, times)
    if "num_hidden_layers" in c:
        out["num_hidden_layers"] = count * times
    return out


def repeat_folder(path, out, times, threads):
    config = json.load(open(os.path.join(path, "config.json"), encoding="utf-8"))
    count = config.get("num_hidden_layers") or config["text_config"]["num_hidden_layers"]
    layers, rest, meta = [], [], {"format": "pt"}
    for file in sorted(glob.glob(os.path.join(path, "*.safetensors"))):
        m = mapped(file)
        n, = struct.unpack_from("<Q", m, 0)
        for name, t in json.loads(bytes(m[8:8 + n])).items():
            if name == "__metadata__":
                meta = t
                continue
            begin, end = t["data_offsets"]
            (layers if LAYER.search(name) else rest).append((name, t, m[8 + n + begin:8 + n + end]))
    weights, jobs, total = {}, [], 0
    for k in range(times):
        file = f"model-{k + 1:05}-of-{times:05}.safetensors"
        header, at, ranges = {"__metadata__": meta}, 0, []
        for name, t, data in (rest if k == 0 else []) + layers:
            name = LAYER.sub(lambda m: m[1] + str(int(m[2]) + k * count), name)
            header[name] = {"dtype": t["dtype"], "shape": t["shape"], "data_offsets": [at, at + len(data)]}
            at += len(data)
            ranges.append((data, 0))
            weights[name] = file
        head = json.dumps(header, separators=(",", ":")).encode()
        head += b" " * (-len(head) % 8)
        total += at
        jobs.append((os.path.join(out, file), struct.pack("<Q", len(head)) + head, ranges))
    run_all(jobs, threads)
    for name in os.listdir(path):
        if not name.endswith((".safetensors", ".index.json")) and name not in ("config.json", "lbrx.json"):
            shutil.copy(os.path.join(path, name), out)
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump(repeated_config(config, count, times), f, indent=2)
    with open(os.path.join(out, "model.safetensors.index.json"), "w", encoding="utf-8") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": weights}, f, indent=1)
    print(out)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model")
    a.add_argument("out")
    a.add_argument("--times", type=int, required=True)
    a.add_argument("--threads", type=int, default=8)
    o = a.parse_args()
    if o.times < 1:
        sys.exit("--times: at least 1")
    os.makedirs(o.out)
    (repeat_folder if os.path.isdir(o.model) else repeat_gguf)(o.model, o.out, o.times, o.threads)


if __name__ == "__main__":
    main()
