#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""metal_roofline.py: the tables of docs/perf/METAL.md, from the constants of the kernels.

    python3 tools/metal_roofline.py            writes them into the document, between their marks
    python3 tools/metal_roofline.py --check    exit 1 where the document has others (tools/check.sh)

Threads, tiles and threadgroup memory are read from src/device/kern and src/device/kernels*.c, simdgroups from
tuning.def, bytes of types from src/tensor/dtype.def. What a kernel reads, writes and
computes is the table FAMILIES, of the texts in kern/; chips are the table CHIPS, with sources in the document.
"""
import glob
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOC = ROOT / "docs/perf/METAL.md"
KERN = ROOT / "src/device/kern"

# ---- constants of the sources ----

CONST = {}


def value(text):
    """A constant expression of the kernels: products and sums of numbers and of names."""
    words = re.sub(r"\b(\d+)u\b", r"\1", text)
    words = re.sub(r"\b[A-Z][A-Z0-9_]*\b", lambda m: str(value(CONST[m.group(0)])), words)
    if not re.fullmatch(r"[\d\s()+*/-]+", words):
        raise ValueError(f"not a constant: {text}")
    return int(eval(words.replace("/", "//"), {"__builtins__": {}}))


def read_constants():
    for path in sorted(KERN.glob("*.[kh]")):
        if "cuda" in path.name or "cpu" in path.name:
            continue
        for name, text in re.findall(r"^#define (LBK?_[A-Z0-9_]+) +([^/\n]*?)\s*(?:/\*.*)?$", path.read_text(), re.M):
            CONST.setdefault(name, text)
    for path in sorted((ROOT / "src/device").glob("kernels*.c")):
        for block in re.findall(r"enum \{([^}]*)\}", path.read_text()):
            for name, text in re.findall(r"\b([A-Z][A-Z0-9_]*) = (\d+)", block):
                CONST.setdefault(name, text)
    tuning = re.findall(r"LB_DEV_TUNING\(([^)]*)\)", (ROOT / "src/device/tuning.def").read_text())
    at = tuning[0].replace(" ", "").split(",").index("simdgroups")  # the first one names the columns
    CONST["SIMDGROUPS"] = str(max(int(r.split(",")[at]) for r in tuning if r.startswith("METAL")))


def read_types():
    types = {}
    for name, elems, size in re.findall(r'^LB_DTYPE\((\w+), .*?, (\d+), (\d+), \w+\)', (ROOT / "src/tensor/dtype.def").read_text(),
                                        re.M):
        types[name.lower()] = int(size) / int(elems)
    return types


SIZES = {"float": 4, "u32": 4, "i32": 4, "u16": 2, "u8": 1, "lbk_f4": 16}


def shared_bytes(text):
    """Threadgroup memory of a kernel's text."""
    return sum(SIZES[t] * value(n) for t, n in re.findall(r"LBK_SHARED\((\w+), \w+, ([^;]*)\);", text))


def kernel_text(file, name):
    """From the head of a kernel to the next one."""
    text = (KERN / file).read_text()
    at = text.index(f"LBK_KERNEL({name},")
    end = text.find("\nLBK_KERNEL(", at + 1)
    return text[at:end if end > 0 else None]


def memory_of(f):
    if f["file"] == "mv.k":
        return shared_bytes((KERN / "mv.k").read_text())
    if f["file"] == "mm.k":
        text = (KERN / "mm_metal.k").read_text()
        return 4 * value(re.search(r"LBK_MM_MEMORY\(n\) threadgroup float n\[([^]]*)\]", text).group(1))
    if f["kernel"] is None:
        return 0
    return shared_bytes(kernel_text(f["file"], f["kernel"]))


# ---- the model whose shapes the tables have: Llama 3 8B ----

D, FF, HEADS, KV, DIM, VOCAB, CTX = 4096, 14336, 32, 8, 128, 128256, 4096


def up(a, b):
    return -(-a // b)


def product(bytes_a_weight, t, rows=FF, cols=D):
    """least: each byte once; asked: what threadgroups load; flops: without decoding."""
    least = rows * cols * bytes_a_weight + 4 * t * (rows + cols)
    return least, 2 * rows * cols * t


def mv_asked(w, t, rows=FF, cols=D):
    groups = up(rows, value("SIMDGROUPS * LBK_MV_ROWS"))
    return t * (rows * cols * w + groups * cols * 4 + rows * 4)


def mm_asked(w, t, rows=FF, cols=D):
    row_tiles, token_tiles = up(rows, value("LB_DEV_MM_ROWS")), up(t, value("LB_DEV_MM_TOKENS"))
    return token_tiles * rows * cols * w + row_tiles * t * cols * 4 + 4 * t * rows


# Of each family: an example, its text, threads, and of t tokens (least bytes, asked bytes, flops). An f32 value that is
# read and written is 8 bytes. exp, tanh and the like count as one.
FAMILIES = [
    dict(name="mv_q4_0", file="mv.k", kernel="", threads="32 * SIMDGROUPS", shape="14336 x 4096",
         cost=lambda t, w: (product(w["q4_0"], t)[0], mv_asked(w["q4_0"], t), product(w["q4_0"], t)[1])),
    dict(name="mv_bf16", file="mv.k", kernel="", threads="32 * SIMDGROUPS", shape="14336 x 4096",
         cost=lambda t, w: (product(w["bf16"], t)[0], mv_asked(w["bf16"], t), product(w["bf16"], t)[1])),
    dict(name="mm_q4_0", file="mm.k", kernel="", threads="MM_THREADS", shape="14336 x 4096",
         cost=lambda t, w: (product(w["q4_0"], t)[0], mm_asked(w["q4_0"], t), product(w["q4_0"], t)[1])),
    dict(name="mm_bf16", file="mm.k", kernel="", threads="MM_THREADS", shape="14336 x 4096",
         cost=lambda t, w: (product(w["bf16"], t)[0], mm_asked(w["bf16"], t), product(w["bf16"], t)[1])),
    dict(name="rows_q4_0", file="rows.k", kernel=None, threads="ROWS_THREADS", shape="rows of 4096",
         cost=lambda t, w: (t * D * (w["q4_0"] + 4), t * D * (w["q4_0"] + 4), 2 * t * D)),
    dict(name="rms_norm", file="rows.k", kernel="rms_norm", threads="ROW_THREADS", shape="rows of 4096",
         cost=lambda t, w: (8 * t * D + 4 * D, 16 * t * D, 4 * t * D)),
    dict(name="layer_norm", file="rows.k", kernel="layer_norm", threads="ROW_THREADS", shape="rows of 4096",
         cost=lambda t, w: (8 * t * D + 8 * D, 24 * t * D, 8 * t * D)),
    dict(name="rms_norm_heads", file="rows.k", kernel="rms_norm_heads", threads="ROW_THREADS", shape="32 heads of 128",
         cost=lambda t, w: (8 * t * D + 4 * DIM, 16 * t * D, 4 * t * D)),
    dict(name="softmax", file="rows.k", kernel="softmax", threads="ROW_THREADS", shape="rows of 4096",
         cost=lambda t, w: (8 * t * D, 20 * t * D, 5 * t * D)),
    dict(name="argmax", file="rows.k", kernel="argmax", threads="ROW_THREADS", shape="rows of 128256",
         cost=lambda t, w: (4 * t * VOCAB, 4 * t * VOCAB, t * VOCAB)),
    dict(name="rope", file="maps.k", kernel="rope", threads="MAP_THREADS", shape="32 heads of 128",
         cost=lambda t, w: (8 * t * D + 4 * t * DIM, 8 * t * D + 4 * t * D, 3 * t * D)),
    dict(name="add, residual", file="maps.k", kernel="add", threads="MAP_THREADS", shape="rows of 4096",
         cost=lambda t, w: (12 * t * D, 12 * t * D, t * D)),
    dict(name="act_silu", file="act.k", kernel=None, threads="MAP_THREADS", shape="rows of 14336, gated",
         cost=lambda t, w: (12 * t * FF, 12 * t * FF, 5 * t * FF)),
    dict(name="kv_store", file="attend.k", kernel="kv_store", threads="MAP_THREADS", shape="8 heads of 128, f16",
         cost=lambda t, w: (12 * t * KV * DIM, 12 * t * KV * DIM, t * 2 * KV * DIM)),
    dict(name="attend", file="attend.k", kernel="attend", threads="ATTEND_THREADS", shape="4096 positions, f16",
         cost=lambda t, w: (CTX * KV * DIM * 4 + 8 * t * D, t * HEADS * CTX * DIM * 4 + 8 * t * D, t * HEADS * CTX * (5 * DIM + 4))),
    dict(name="attend_tile", file="attend.k", kernel="attend_tile", threads="TILE_THREADS", shape="4096 positions, f16",
         cost=lambda t, w: (CTX * KV * DIM * 4 + 8 * t * D, t * HEADS * CTX * DIM * 4 + 8 * t * D, t * HEADS * CTX * (4 * DIM + 4))),
    dict(name="attend_wide", file="wide.k", kernel="attend_wide", threads="32 * LBK_WIDE_SIMDGROUPS", shape="4096 positions, q8_0",
         cost=lambda t, w: (CTX * KV * DIM * 2 * w["q8_0"] + 8 * t * D, t * HEADS * CTX * DIM * 2 * w["q8_0"] + 8 * t * D,
                            t * HEADS * CTX * (7 * DIM + 4))),
    dict(name="attend_join", file="attend.k", kernel="attend_join", threads="ATTEND_THREADS", shape="4 splits",
         cost=lambda t, w: (t * HEADS * (4 * (DIM + 2) + DIM) * 4, t * HEADS * (4 * (DIM + 2) + DIM) * 4, t * HEADS * 4 * (2 * DIM + 2))),
    dict(name="mix_rows", file="wide.k", kernel="mix_rows", threads="ROW_THREADS", shape="rows of 128",
         cost=lambda t, w: (8 * t * D, 8 * t * D, t * D * 7)),
    dict(name="route", file="route.k", kernel="route", threads="LBK_ROUTE_THREADS", shape="8 of 128 experts",
         cost=lambda t, w: (4 * t * 128 + 64 * t, 4 * t * 128 + 64 * t, t * (128 * 4 + (128 + 8 * 4) * 32 * 3))),
    dict(name="routes_group", file="group.k", kernel="routes_group", threads="LBK_GROUP_THREADS", shape="8 of 128 experts",
         cost=lambda t, w: (64 * t + 32 * t, 129 * 64 * t, 129 * 8 * t)),
    dict(name="experts_sum", file="route.k", kernel="experts_sum", threads="MAP_THREADS", shape="8 of 4096",
         cost=lambda t, w: (36 * t * D, 36 * t * D, 16 * t * D)),
    dict(name="delta_steps", file="state.k", kernel="delta_steps", threads="ROW_THREADS", shape="32 states of 128 x 128",
         cost=lambda t, w: (8 * 32 * DIM * DIM + 16 * t * D, t * 8 * 32 * DIM * DIM, t * 32 * DIM * DIM * 7)),
    dict(name="delta_chunks", file="delta.k", kernel="delta_chunks", threads="ROW_THREADS", shape="32 states of 128 x 128",
         cost=lambda t, w: (8 * 32 * DIM * DIM + 16 * t * D, 8 * 32 * DIM * DIM + t * (1024 * DIM + 8 * D),
                            t * 64 * (3 * DIM * DIM + 9 * value("LBK_DC_TOKENS") * DIM))),
]

# ---- chips: GPU cores of the largest form, GHz of the GPU, GB/s; None: not sold, or not published ----

CHIPS = [
    ("M1", 8, 1.278, 68.2), ("M1 Pro", 16, 1.296, 204.8), ("M1 Max", 32, 1.296, 409.6), ("M1 Ultra", 64, 1.296, 800),
    ("M2", 10, 1.398, 102.4), ("M2 Pro", 19, 1.398, 204.8), ("M2 Max", 38, 1.398, 400), ("M2 Ultra", 76, 1.398, 800),
    ("M3", 10, 1.398, 102.4), ("M3 Pro", 18, 1.398, 153.6), ("M3 Max", 40, 1.398, 400), ("M3 Ultra", 80, 1.398, 800),
    ("M4", 10, 1.470, 120), ("M4 Pro", 20, 1.470, 273), ("M4 Max", 40, 1.678, 546),
    ("M5", 10, 1.578, 153), ("M5 Pro", 20, 1.578, 307), ("M5 Max", 40, 1.578, 614),
]
FLOPS_A_CORE = 256   # of a cycle: 128 multiply-adds of f32
CORE_MEMORY = 65536  # threadgroup memory of a core, Apple 7 and 8
CORE_THREADS = 3072
GROUP_MEMORY, GROUP_THREADS = 32768, 1024


def gflops(chip):
    return chip[1] * FLOPS_A_CORE * chip[2]


def ridge(chip):
    return gflops(chip) / chip[3]


def switch(w_bytes, chip):
    """The first count of tokens at which a product is bound by arithmetic."""
    for t in range(1, 4097):
        least, flops = product(w_bytes, t)
        if flops / least >= ridge(chip):
            return t
    return None


def table(head, rows, left=1):
    """Columns of a Markdown table, the first `left` of them aligned to the left."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("---" if i < left else "--:" for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in r) + " |" for r in rows])


def number(x):
    if x >= 1000:
        return f"{x:,.0f}"
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def launches():
    rows = []
    for f in FAMILIES:
        threads, memory = value(f["threads"]), memory_of(f)
        if threads > GROUP_THREADS or memory > GROUP_MEMORY:
            raise SystemExit(f"{f['name']}: {threads} threads and {memory} bytes are more than a threadgroup may have")
        by_threads = CORE_THREADS // threads
        groups = min(by_threads, CORE_MEMORY // memory) if memory else by_threads
        what = "memory" if groups < by_threads else "threads"
        rows.append((f["name"], threads, f"{memory:,}", groups, groups * threads // 32, what))
    return table(["kernel", "threads", "bytes of threadgroup memory", "threadgroups a core", "simdgroups", "limited by"], rows)


def costs(types):
    rows = []
    for f in FAMILIES:
        for t in (1, 512) if f["name"][:3] != "mv_" else (1, 8):
            many = f["name"][:3] == "mm_" or f["name"] in ("attend_tile", "delta_chunks")
            if (t == 1) if many else (f["name"] == "attend" and t > 1):
                continue
            least, asked, flops = f["cost"](t, types)
            rows.append((f["name"], f["shape"], t, number(least / 1e6), number(asked / 1e6), number(flops / 1e6),
                         f"{least / flops:.3g}", f"{flops / least:.3g}"))
    return table(["kernel", "shape", "tokens", "MB, each byte once", "MB that threads load and store", "Mflop", "bytes a flop",
                  "flops a byte"], rows, 2)


def chips():
    rows = []
    for c in CHIPS:
        rows.append((c[0], c[1], f"{c[2]:.3f}", f"{c[3]:g}", number(gflops(c) / 1e3), f"{ridge(c):.1f}"))
    return table(["chip", "GPU cores", "GHz", "GB/s", "f32 TFLOP/s", "flops a byte at the ridge"], rows)


def bounds(types):
    names = ["q4_0", "q4_k", "q6_k", "q8_0", "bf16", "f32"]
    rows = [[c[0]] + [switch(types[n], c) or "-" for n in names] for c in CHIPS]
    return table(["chip"] + names, rows)


def by_kernel(types):
    """Which bound each kernel meets, on the chips with the lowest and the highest ridge."""
    low, high = min(CHIPS, key=ridge), max(CHIPS, key=ridge)
    rows = []
    for f in FAMILIES:
        last = {"mv_": 16}.get(f["name"][:3], 512)
        said = []
        for c in (low, high):
            first = next((t for t in range(1, last + 1) if f["cost"](t, types)[2] / f["cost"](t, types)[0] >= ridge(c)), None)
            said.append("bandwidth" if first is None else "arithmetic" if first == 1 else f"arithmetic from {first} tokens")
        rows.append((f["name"], f"1 to {last}", said[0], said[1]))
    return table(["kernel", "tokens", f"{low[0]} ({ridge(low):.0f} flops a byte)", f"{high[0]} ({ridge(high):.0f})"], rows, 4)


def most(types):
    """Tokens a second that bandwidth and arithmetic allow for the products of the model."""
    weights = 32 * (2 * D * D + 2 * D * KV * DIM + 3 * D * FF) + D * VOCAB
    rows = []
    for c in CHIPS:
        row = [c[0]]
        for n in ("q4_0", "q8_0", "bf16"):
            row.append(number(c[3] * 1e9 / (weights * types[n])))
        row.append(number(gflops(c) * 1e9 / (2 * weights)))
        rows.append(row)
    return table(["chip", "generating, q4_0", "q8_0", "bf16", "prompts, any type"], rows)


def main():
    read_constants()
    types = read_types()
    parts = {"launches": launches(), "costs": costs(types), "chips": chips(), "bounds": bounds(types),
             "kernels": by_kernel(types), "most": most(types)}
    old = DOC.read_text()
    new = old
    for name, text in parts.items():
        new, n = re.subn(rf"(<!-- {name}: tools/metal_roofline.py -->\n).*?(<!-- end -->)", lambda m: m.group(1) + text + "\n" + m.group(2),
                         new, flags=re.S)
        if n != 1:
            raise SystemExit(f"{DOC.relative_to(ROOT)}: {n} places for '{name}', not one")
    if sys.argv[1:] == ["--check"]:
        if new != old:
            print(f"{DOC.relative_to(ROOT)} is not of these kernels: run python3 tools/metal_roofline.py")
            return 1
        return 0
    DOC.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
