#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""merge_pictures.py: the pictures of docs/merging.md, docs/img/merge-*.svg: what each merge method makes of two small
models, computed by its formula. Standard library only; the files are the same on every machine.

    python3 tools/merge_pictures.py [--check]     --check: says whether the files are what it makes"""
import math
import os
import random
import sys

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "img")
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.name { font: 600 13px ui-monospace, monospace }
.small { font-size: 10.5px; fill: #57606a }
.a { fill: #0969da } .b { fill: #bc4c00 } .y { fill: #24292f }
.sa { stroke: #0969da } .sb { stroke: #bc4c00 } .sy { stroke: #24292f }
.off { opacity: .22 }
.axis { stroke: #8c959f; stroke-width: 1 }
.line { fill: none; stroke-width: 2 } .thin { fill: none; stroke: #8c959f; stroke-width: 1; stroke-dasharray: 3 3 }
.box { fill: none; stroke: #8c959f }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 } .a { fill: #4493f8 } .b { fill: #f0883e } .y { fill: #e6edf3 }
.sa { stroke: #4493f8 } .sb { stroke: #f0883e } .sy { stroke: #e6edf3 } .axis, .thin, .box { stroke: #656c76 } }
</style>"""


class Picture:
    def __init__(self, width, height):
        self.width, self.height, self.items = width, height, []

    def add(self, text):
        self.items.append(text)

    def text(self, x, y, s, cls="", anchor="start"):
        s = s.replace("&", "&amp;").replace("<", "&lt;")
        self.add(f'<text x="{x:.1f}" y="{y:.1f}"{f" class={chr(34)}{cls}{chr(34)}" if cls else ""} text-anchor="{anchor}">{s}</text>')

    def line(self, x1, y1, x2, y2, cls):
        self.add(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}"/>')

    def rect(self, x, y, w, h, cls, more=""):
        self.add(f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" class="{cls}"{more}/>')

    def dot(self, x, y, cls, r=4):
        self.add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" class="{cls}"/>')

    def path(self, points, cls):
        self.add(f'<path d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in points)}" class="{cls}"/>')

    def svg(self, title):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
                f'height="{self.height}" role="img" aria-label="{title}">\n{STYLE}\n' + "\n".join(self.items) + "\n</svg>\n")


# ---- element by element ----

N = 20


def example():
    """Differences of two models to their base: heavy tails, some zeros."""
    r = random.Random(7)
    draw = lambda: 0.0 if r.random() < 0.1 else round(max(-1, min(1, r.gauss(0, 0.25) * (2.4 if r.random() < 0.2 else 1))), 2)
    a = [draw() for _ in range(N)]
    b = [draw() if r.random() < 0.75 else x * 0.8 for x in a]
    return a, b


def top(values, k, skip=0):
    order = sorted(range(N), key=lambda i: (-abs(values[i]), i))
    return {i for i in order[skip:skip + k] if values[i]}


def consensus(a, b, ka, kb, w=0.5):
    """Sign election over the weighted sum; the mean of those that agree."""
    out = []
    for i in range(N):
        x, y = w * a[i] * (i in ka), w * b[i] * (i in kb)
        sign = 1 if x + y >= 0 else -1
        agree = [v for v in (x, y) if v * sign > 0]
        out.append(sum(agree) / (w * len(agree)) if agree else 0)
    return out


def half_sum(a, b, ka, kb):
    return [0.5 * (a[i] * (i in ka) + b[i] * (i in kb)) for i in range(N)]


def element_panels():
    a, b = example()
    every = set(range(N))
    r = random.Random(3)
    drawn = [{i for i in range(N) if r.random() < 0.5} for _ in range(2)]
    rank = [{i: k for k, i in enumerate(sorted(range(N), key=lambda j: abs(v[j])))} for v in (a, b)]
    della = [{i for i in range(N) if r.random() < 0.25 + 0.5 * rank[k][i] / (N - 1)} for k in range(2)]
    scale = lambda v, keep: sum(map(abs, v)) / sum(abs(v[i]) for i in keep)
    scaled = lambda v, keep: [x * scale(v, keep) for x in v]
    var = [(x - y) ** 2 for x, y in zip(a, b)]
    chosen = top(var, N // 2)
    power = [sum(v[i] ** 2 for i in chosen) for v in (a, b)]
    sce = []
    for i in range(N):
        x, y = (a[i], b[i]) if i in chosen else (0, 0)
        sign = 1 if x + y >= 0 else -1
        wx, wy = power[0] * (x * sign > 0), power[1] * (y * sign > 0)
        sce.append((wx * x + wy * y) / (wx + wy) if wx + wy else 0)
    tall = [{i for i in range(N) if abs(u[i]) > 0.4 * abs(v[i])} for u, v in ((a, b), (b, a))]
    both = tall[0] & tall[1]
    kept = [set(), set()]
    for g in range(0, N, 4):
        group = range(g, g + 4)
        kept[0] |= set(sorted((i for i in group if a[i]), key=lambda i: -abs(a[i]))[:2])
        free = sorted((i for i in group if b[i]), key=lambda i: (i in kept[0], -abs(b[i])))
        kept[1] |= set(free[:2])
    near = [max(0, min(1, 0.12 / max(abs(x), 1e-6))) * x for x in a]
    order = sorted(map(abs, a))
    limit = order[N // 2] + 1.5 * (order[3 * N // 4] - order[N // 4])
    large = {i for i in range(N) if abs(a[i]) >= limit}
    ram = [(x + y) / max(1, (x != 0) + (y != 0)) for x, y in zip(a, b)]
    norm = lambda v: [(x - min(v)) / (max(v) - min(v)) for x in v]
    soft = lambda v: [math.exp(x) / sum(map(math.exp, v)) for x in v]
    inner = [soft([2 * x for x in norm([x * x for x in v])]) for v in (a, b)]
    cross = [[sum(t) for t in zip(*(soft(norm([x * y for x, y in zip(u, v)])) for v in (a, b)))] for u in (a, b)]
    beta = [[x * y for x, y in zip(i, c)] for i, c in zip(inner, cross)]
    comp = [top(x, N // 2) for x in beta]
    pcb = []
    for i in range(N):
        w = [beta[k][i] * (i in comp[k]) for k in range(2)]
        pcb.append((w[0] * a[i] + w[1] * b[i]) / sum(w) if sum(w) else 0)
    no = set()
    return a, b, [
        ("task_arithmetic", "half of each", every, every, half_sum(a, b, every, every)),
        ("ties", "the largest half; those of the winning sign", top(a, 10), top(b, 10), consensus(a, b, top(a, 10), top(b, 10))),
        ("dare_linear", "any half, made up for", *drawn, half_sum(scaled(a, drawn[0]), scaled(b, drawn[1]), *drawn)),
        ("dare_ties", "the same, those of the winning sign", *drawn, consensus(scaled(a, drawn[0]), scaled(b, drawn[1]), *drawn)),
        ("della", "likelier the larger; winning sign", *della, consensus(scaled(a, della[0]), scaled(b, della[1]), *della)),
        ("breadcrumbs", "without the largest and the smallest", top(a, 10, 2), top(b, 10, 2), half_sum(a, b, top(a, 10, 2), top(b, 10, 2))),
        ("sce", "where models differ most; by energy, winning sign", chosen, chosen, sce),
        ("ram", "what one model alone changes stays whole", every, every, ram),
        ("nearswap", "one model: steps of at most t", every, no, near),
        ("arcee_fusion", "one model: what stands out", large, no, [x * (i in large) for i, x in enumerate(a)]),
        ("consensus_ta", "what serves both (k = 2)", both, both, [(x + y) * (i in both) for i, (x, y) in enumerate(zip(a, b))]),
        ("cabs", "2 of 4 each, apart as far as it goes", *kept, [x * (i in kept[0]) + y * (i in kept[1]) for i, (x, y) in enumerate(zip(a, b))]),
        ("pcb", "weights by a competition, the better half", *comp, pcb),
    ]


def elements():
    a, b, panels = element_panels()
    cols, w, h = 3, 300, 138
    rows = (len(panels) + cols - 1) // cols
    p = Picture(cols * w, rows * h + 30)
    for x, cls, s in ((10, "a", "difference of model A to the base"), (250, "b", "of model B"), (360, "y", "what is added to the base"),
                      (560, "a off", "left out")):
        p.rect(x, 8, 10, 10, cls)
        p.text(x + 15, 17, s)
    for k, (name, what, ka, kb, y) in enumerate(panels):
        x0, y0 = k % cols * w + 10, k // cols * h + 30
        mid, unit, step = y0 + 84, 34, 14
        p.text(x0, y0 + 14, name, "name")
        p.text(x0, y0 + 28, what, "small")
        p.line(x0, mid, x0 + N * step, mid, "axis")
        alone = name in ("nearswap", "arcee_fusion")
        for i in range(N):
            for d, keep, cls, dx in ((a, ka, "a", 1), *(() if alone else ((b, kb, "b", 5),))):
                if d[i]:
                    p.rect(x0 + i * step + dx, mid - max(d[i], 0) * unit, 4, abs(d[i]) * unit, cls + ("" if i in keep else " off"))
            v = max(-1.4, min(1.4, y[i]))
            if v:
                p.line(x0 + i * step + 0.5, mid - v * unit, x0 + i * step + 11.5, mid - v * unit, "sy line")
    return p.svg("what methods over differences to a base make of twenty elements of two models")


# ---- in the plane ----

def panel(p, k, name, what):
    x0 = k * 225
    p.text(x0 + 10, 18, name, "name")
    p.text(x0 + 10, 33, what, "small")
    return lambda v: (x0 + 20 + 150 * v[0], 205 - 150 * v[1])


def slerp(u, v, t):
    c = (u[0] * v[0] + u[1] * v[1]) / math.hypot(*u) / math.hypot(*v)
    angle = math.acos(c)
    s, e = math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
    return (s * u[0] + e * v[0], s * u[1] + e * v[1])


def plane():
    p = Picture(900, 232)
    a, b, o = (1.05, 0.3), (0.25, 0.95), (0.0, 0.0)
    mean = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)

    def arrow(at, u, v, cls):
        (x1, y1), (x2, y2) = at(u), at(v)
        p.line(x1, y1, x2, y2, cls + " line")
        t = math.atan2(y2 - y1, x2 - x1)
        for d in (2.7, -2.7):
            p.line(x2, y2, x2 + 8 * math.cos(t + d), y2 + 8 * math.sin(t + d), cls + " line")

    def point(at, v, s, cls="y", dx=7, dy=4):
        x, y = at(v)
        p.dot(x, y, cls)
        p.text(x + dx, y + dy, s)

    at = panel(p, 0, "linear", "the weighted mean: on the line between")
    p.line(*at(a), *at(b), "thin")
    point(at, a, "A", "a"), point(at, b, "B", "b"), point(at, mean, "½ A + ½ B")
    at = panel(p, 1, "task_arithmetic", "base + λ (w₁ d₁ + w₂ d₂)")
    base, s = (0.1, 0.12), (0.1 + 0.75 * (a[0] + b[0] - 0.2), 0.12 + 0.6 * (a[1] + b[1] - 0.24))
    for v, cls in ((a, "sa"), (b, "sb")):
        arrow(at, base, v, cls)
    s = (base[0] + 0.6 * (a[0] + b[0] - 2 * base[0]), base[1] + 0.6 * (a[1] + b[1] - 2 * base[1]))
    arrow(at, base, s, "sy")
    point(at, base, "base", dx=-6, dy=16), point(at, a, "A", "a"), point(at, b, "B", "b"), point(at, s, "result", dx=-44, dy=-6)
    at = panel(p, 2, "slerp and its kin", "along the arc: lengths are not lost")
    p.line(*at(a), *at(b), "thin")
    p.line(*at(o), *at(a), "axis"), p.line(*at(o), *at(b), "axis")
    p.path([at(slerp(a, b, k / 24)) for k in range(25)], "sy line")
    point(at, a, "A", "a"), point(at, b, "B", "b"), point(at, slerp(a, b, 0.5), "t = ½"), point(at, o, "0", dx=-4, dy=17)
    at = panel(p, 3, "model_stock", "toward the mean as far as models agree")
    da, db = ((v[0] - base[0], v[1] - base[1]) for v in (a, b))
    c = (da[0] * db[0] + da[1] * db[1]) / math.hypot(*da) / math.hypot(*db)
    t = 2 * c / (1 + c)
    s = (base[0] + t * (mean[0] - base[0]), base[1] + t * (mean[1] - base[1]))
    for v, cls in ((a, "sa"), (b, "sb")):
        arrow(at, base, v, cls)
    p.line(*at(a), *at(b), "thin"), p.line(*at(base), *at(mean), "thin")
    point(at, base, "base", dx=-6, dy=16), point(at, a, "A", "a"), point(at, b, "B", "b"), point(at, mean, "mean")
    point(at, s, f"t = {t:.2f}")
    return p.svg("methods that take tensors as vectors, in the plane")


# ---- layers and columns ----

def layers():
    p = Picture(900, 190)
    p.text(10, 18, "passthrough", "name")
    p.text(10, 33, "slices of layers, one above the other", "small")
    for i in range(8):
        p.rect(20, 165 - 15 * i, 60, 13, "a" if i < 6 else "a off", ' rx="2"')
        p.rect(100, 165 - 15 * i, 60, 13, "b" if i > 2 else "b off", ' rx="2"')
    for i in range(11):
        y = 165 - 11.5 * i
        p.rect(200, y, 60, 10, "a" if i < 6 else "b", ' rx="2"')
    p.text(50, 187, "A", anchor="middle"), p.text(130, 187, "B", anchor="middle"), p.text(230, 187, "result", anchor="middle")
    p.text(320, 18, "lines", "name")
    p.text(320, 33, "differences of deep layers count more: α + β l/(L-1)", "small")
    for i in range(12):
        s = 0.3 + 0.7 * i / 11
        p.rect(335 + 19 * i, 165 - 105 * s, 14, 105 * s, "a")
    p.line(330, 165, 566, 165, "axis")
    p.line(330, 60, 566, 60, "thin"), p.text(570, 64, "α + β"), p.line(330, 133.5, 566, 133.5, "thin"), p.text(570, 138, "α")
    p.text(335, 182, "layer 0", "small"), p.text(566, 182, "L-1", "small", "end")
    p.text(630, 18, "importance", "name")
    p.text(630, 33, "each column by what comes in there", "small")
    r = random.Random(5)
    for i in range(13):
        u, v = r.random() ** 2 + 0.02, r.random() ** 2 + 0.02
        share = u / (u + v)
        x = 640 + 18 * i
        p.rect(x, 52, 12, 100 * share, "a"), p.rect(x, 52 + 100 * share, 12, 100 * (1 - share), "b")
        p.rect(x, 160, 5.5, 22 * min(1, u), "a"), p.rect(x + 6.5, 160, 5.5, 22 * min(1, v), "b")
    return p.svg("methods by layers and by columns")


# ---- factors ----

def times(x, y):
    return [[sum(a * b for a, b in zip(row, col)) for col in zip(*y)] for row in x]


def turned(x):
    return [list(c) for c in zip(*x)]


def left_vectors(x):
    """Columns of U of x = U S V', as rows: one-sided Jacobi turns pairs of columns until all are orthogonal."""
    cols = turned(x)
    for _ in range(30):
        for i in range(len(cols)):
            for j in range(i):
                p, q = cols[j], cols[i]
                a, b, c = sum(v * v for v in p), sum(v * v for v in q), sum(u * v for u, v in zip(p, q))
                if abs(c) < 1e-14 * math.sqrt(a * b):
                    continue
                z = (b - a) / (2 * c)
                t = (1 if z >= 0 else -1) / (abs(z) + math.sqrt(1 + z * z))
                k = 1 / math.sqrt(1 + t * t)
                cols[j] = [k * (u - t * v) for u, v in zip(p, q)]
                cols[i] = [k * (t * u + v) for u, v in zip(p, q)]
    cols.sort(key=lambda v: -sum(x * x for x in v))
    return [[x / math.sqrt(sum(y * y for y in v)) for x in v] for v in cols]


def heat(p, x, y, m, cls, size, most=None):
    """A matrix: how dark says how large."""
    most = most or max(abs(v) for row in m for v in row)
    for i, row in enumerate(m):
        for j, v in enumerate(row):
            p.rect(x + size * j, y + size * i, size - 1, size - 1, cls if v >= 0 else "y",
                   f' opacity="{min(1, abs(v) / most):.2f}"')
    p.rect(x - 1, y - 1, size * len(m[0]) + 1, size * len(m) + 1, "box")


def core():
    r = random.Random(11)
    rows, cols, rank = 10, 12, 2
    draw = lambda n, m: [[r.gauss(0, 1) for _ in range(m)] for _ in range(n)]
    shared = draw(rows, 1)  # the two agree in a direction
    b = [[[s[0] + 0.6 * v[0], v[1]] for s, v in zip(shared, draw(rows, rank))] for _ in range(2)]
    a = [draw(rank, cols) for _ in range(2)]
    u = left_vectors([x + y for x, y in zip(*b)])
    v = left_vectors(turned(a[0] + a[1]))
    m = [times(times(u, b[k]), times(a[k], turned(v))) for k in range(2)]
    kept = []
    for x in m:
        flat = sorted((-abs(e), i) for i, e in enumerate(sum(x, [])))[:8]
        keep = {i for _, i in flat}
        kept.append([[e if i * 4 + j in keep else 0 for j, e in enumerate(row)] for i, row in enumerate(x)])
    merged = []
    for p, q in zip(*kept):
        merged.append([])
        for e, f in zip(p, q):
            agree = [w for w in (e, f) if w * (e + f) > 0]
            merged[-1].append(sum(agree) / max(1, len(agree)))
    p = Picture(900, 215)
    p.text(10, 18, "core_space", "name")
    p.text(10, 33, "two adapters of rank 2, merged by ties (density 0.5) in the space of their factors; black: negative", "small")
    for k, cls in enumerate("ab"):
        y = 50 + 82 * k
        p.text(12, y + 36, "AB"[k], anchor="middle")
        heat(p, 24, y, b[k], cls, 7)
        p.text(41, y + 30, "·")
        heat(p, 50, y, a[k], cls, 7)
        p.text(140, y + 30, "=")
        heat(p, 156, y, times(b[k], a[k]), cls, 7)
        p.text(248, y + 30, "→")
        p.text(303, y + 64, "M = UᵀBAV, 4 × 4", "small", "middle")
        heat(p, 275, y, m[k], cls, 13)
        p.text(338, y + 30, "→")
        heat(p, 360, y, kept[k], cls, 13, max(abs(e) for e in sum(m[k], [])))
        p.text(386, y + 64, "its 8 largest", "small", "middle")
    p.text(430, 125, "→")
    heat(p, 452, 96, merged, "a", 13)
    p.text(478, 160, "signs that agree", "small", "middle")
    p.text(520, 125, "→")
    heat(p, 545, 90, turned(u), "a", 7)
    p.text(558, 174, "U", anchor="middle")
    p.text(578, 125, "·")
    heat(p, 588, 98, merged, "a", 13)
    p.text(646, 125, "·")
    heat(p, 656, 110, v, "a", 7)
    p.text(697, 152, "Vᵀ", anchor="middle")
    p.text(748, 125, "=")
    heat(p, 766, 90, times(times(turned(u), merged), v), "a", 7)
    p.text(808, 174, "what is added to the base", "small", "middle")
    return p.svg("core_space: factors, cores, their merge and the result")


def main():
    made = {"merge-elements.svg": elements(), "merge-plane.svg": plane(), "merge-layers.svg": layers(), "merge-core.svg": core()}
    wrong = []
    for name, text in made.items():
        path = os.path.join(OUT, name)
        if "--check" in sys.argv:
            if not os.path.exists(path) or open(path, encoding="utf-8").read() != text:
                wrong.append(name)
            continue
        os.makedirs(OUT, exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    if wrong:
        sys.exit(f"not what tools/merge_pictures.py makes: {', '.join(wrong)}")


main()
