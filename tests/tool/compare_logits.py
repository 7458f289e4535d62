#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare_logits.py BASE OTHER: what `lbrx perplexity --kl BASE` prints as JSON of the model that OTHER was saved of, from
both files, by their description (src/format/logits.h) and the definitions alone; needs no package."""
import json
import math
import struct
import sys


def read(path):
    b = open(path, "rb").read()
    magic, version, vocab, ctx, bos, chunks = struct.unpack_from("<8sIIIIQ", b)
    assert magic == b"lbrxlgts" and version == 1
    ids = struct.unpack_from("<%dI" % (chunks * ctx), b, 64)
    at, rows = 64 + 4 * len(ids), []
    for c in range(chunks):
        for t in range(ctx // 2, ctx - 1):
            rows.append((ids[c * ctx + t + 1], struct.unpack_from("<%df" % vocab, b, at)))
            at += 4 * vocab + 16
    assert at == len(b)
    return (vocab, ctx, bos, ids), rows


def log_softmax(x):
    top = max(x)
    lse = top + math.log(math.fsum(math.exp(v - top) for v in x))
    return [v - lse for v in x]


def percentile(v, p):
    at = p * (len(v) - 1)
    i = int(at)
    return v[i] + (at - i) * (v[min(i + 1, len(v) - 1)] - v[i])


def mean(v):
    m = math.fsum(v) / len(v)
    return m, math.sqrt(max(math.fsum(x * x for x in v) / len(v) - m * m, 0) / (len(v) - 1))


def main():
    (head_a, a), (head_b, b) = read(sys.argv[1]), read(sys.argv[2])
    assert head_a == head_b
    kl, ratio, change, same, base, own = [], [], [], 0, [], []
    for (token, x), (_, y) in zip(a, b):
        p, q = log_softmax(x), log_softmax(y)
        kl.append(math.fsum(math.exp(u) * (u - v) for u, v in zip(p, q)))
        ratio.append(p[token] - q[token])
        change.append((math.exp(q[token]) - math.exp(p[token])) ** 2)
        same += p.index(max(p)) == q.index(max(q))
        base.append(-p[token])
        own.append(-q[token])
    kl.sort()
    n = len(kl)
    (kl_mean, kl_err), (lr, lr_err), (sq, sq_err) = mean(kl), mean(ratio), mean(change)
    ppl, ppl_err = mean(own)
    rms, top = math.sqrt(sq), same / n
    print(json.dumps({"perplexity": math.exp(ppl), "stderr": math.exp(ppl) * ppl_err, "tokens": n, "ctx": head_a[1],
                      "kl_mean": kl_mean, "kl_stderr": kl_err, "kl_median": percentile(kl, 0.5), "kl_p99": percentile(kl, 0.99),
                      "kl_max": kl[-1], "top1_agreement": top, "top1_stderr": math.sqrt(top * (1 - top) / (n - 1)),
                      "perplexity_base": math.exp(sum(base) / n), "log_ratio": lr, "log_ratio_stderr": lr_err, "p_rms": rms,
                      "p_rms_stderr": 0.5 / rms * sq_err if rms else 0}))


def check():
    """compare_logits.py --check PRINTED BASE OTHER: exit 1 where a number is another one."""
    with open(sys.argv[2]) as f:
        got = json.load(f)
    del sys.argv[1:3]
    import contextlib
    import io
    with contextlib.redirect_stdout(io.StringIO()) as text:
        main()
    want = json.loads(text.getvalue())
    bad = [(k, v, got.get(k)) for k, v in want.items() if not abs(v - got.get(k, math.nan)) <= 1e-9 * (abs(v) + 1e-3)]
    for k, v, g in bad:
        print("%s: %r, not %r" % (k, g, v))
    sys.exit(bool(bad))


check() if sys.argv[1] == "--check" else main()
