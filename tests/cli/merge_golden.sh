#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# merge_golden.sh: what mergekit 0.1.5 made of small models with each of its methods (golden/merge/make.py):
#   --rounding mergekit   bit for bit where cases.json says so, apart from the elements that an unstable sort chooses;
#                         else within one unit in the last place, and what coefficients that are off by 2^-20 (2^-7
#                         where mergekit has them in a short type) make of it
#   --rounding f32        of models in f32: as near as sums in f32 are
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
cd "$W" || exit 1
"$LBRX" merge --methods --json >methods.json || exit 1

cat >files.py <<'END'
# Writes NAME.yml for each case, and the list of cases: NAME METHOD SEED.
import json, os
golden = os.environ["GOLDEN"] + "/merge/"
for c in json.load(open(golden + "cases.json"))["cases"]:
    m = c["config"]
    for x in m["models"]:
        x["model"] = golden + "models/" + x["model"]
    if "base_model" in m:
        m["base_model"] = golden + "models/" + m["base_model"]
    open(c["name"] + ".yml", "w").write(json.dumps(m))
    print(c["name"], m["merge_method"], c["seed"])
END
cat >compare.py <<'END'
# compare.py NAME: NAME-mergekit and NAME-f32 against the golden result.
import array, hashlib, json, math, os, struct, sys
golden = os.environ["GOLDEN"] + "/merge/"
cases = json.load(open(golden + "cases.json"))
case = next(c for c in cases["cases"] if c["name"] == sys.argv[1])
names, method = sorted(cases["shapes"]), case["config"]["merge_method"]
BITS = {"bf16": 8, "f16": 11, "f32": 24}
BYTES = {"BF16": 2, "F16": 2, "F32": 4}

def values(raw, dtype):
    if dtype in ("f32", "F32"):
        return array.array("f", raw)
    if dtype in ("f16", "F16"):
        return [x[0] for x in struct.iter_unpack("<e", raw)]
    return array.array("f", b"".join(b"\0\0" + raw[i:i + 2] for i in range(0, len(raw), 2)))

def load(path):
    f = open(path + "/model.safetensors", "rb")
    head = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    data = f.read()
    out = {}
    for k, t in head.items():
        if k != "__metadata__":
            a, b = t["data_offsets"]
            out[k] = (data[a:b], t["dtype"], t["shape"])
    return out

def ulp(x, bits):
    return math.ldexp(1, math.frexp(abs(x))[1] - bits) if x else 0

def size_of(n):
    return math.prod(cases["shapes"][n])

def steepness(inputs, k, i):
    """How much t = N c / (1 + (N - 1) c) of model_stock changes with c, which is rounded: of the row, or of the whole."""
    cols = cases["shapes"][k][-1]
    row = range(i // cols * cols, i // cols * cols + cols) if case["config"]["parameters"].get("filter_wise") else range(size_of(k))
    d = [[x[j] - inputs[0][j] for j in row] for x in inputs[1:]]
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))
    pairs = [(a, b) for a in range(len(d)) for b in range(a)]
    c = sum(dot(d[a], d[b]) / math.sqrt(max(dot(d[a], d[a]) * dot(d[b], d[b]), 1e-30)) for a, b in pairs) / len(pairs)
    return len(d) / (1 + (len(d) - 1) * c) ** 2

ours, plain = load(case["name"] + "-mergekit"), load(case["name"] + "-f32")
for k in names:
    for state in (ours, plain):
        assert state[k][1].lower() == case["type"] and state[k][2] == cases["shapes"][k], (k, state[k][1:])
assert set(ours) == set(names), sorted(set(ours) ^ set(names))
models = [load(golden + "models/" + m["model"]) for m in case["config"]["models"]]
raw = b"".join(ours[k][0] for k in names)
if "sha256" in case:
    assert hashlib.sha256(raw).hexdigest() == case["sha256"], "not mergekit's bytes"
    golden_raw = raw
else:
    golden_raw = open(f"{golden}expected/{case['name']}.bin", "rb").read()
at, worst, width = 0, 0.0, BYTES[case["type"].upper()]
based = "base_model" in case["config"]
total = sum(abs(m.get("parameters", {}).get("weight", 1)) for m in case["config"]["models"]) if method == "multislerp" else 1
for k in names:
    n = size_of(k)
    want = values(golden_raw[at:at + n * width], case["type"])
    at += n * width
    got, other = values(ours[k][0], ours[k][1]), values(plain[k][0], plain[k][1])
    inputs = [values(m[k][0], m[k][1]) for m in models]
    free = set(case.get("free", {}).get(k, []))
    for i in range(n):
        size = sum(abs(x[i]) for x in inputs)
        coarse = case["type"] != "f32" and method not in ("slerp", "ramplus_tl")
        if i not in free and case["exact"]:
            assert got[i] == want[i], f"{k}[{i}]: {got[i]!r}, mergekit {want[i]!r}"
        elif i not in free:
            by = 2 * max(1, total) if method == "multislerp" else 2 if coarse and method == "nuslerp" else 1
            if coarse and method == "model_stock":
                by = 2 * max(1, steepness(inputs, k, i))
            allowed = ulp(want[i], BITS[case["type"]]) + math.ldexp(by * size, -7 if coarse else -20)
            if method == "karcher" and coarse:  # which models it passes over, is up to roundings of a unit vector
                allowed += max(x[i] for x in inputs) - min(x[i] for x in inputs)
            assert abs(got[i] - want[i]) <= allowed, f"{k}[{i}]: {got[i]!r}, mergekit {want[i]!r}, {allowed!r} allowed"
        if case["type"] == "f32" and i not in free:
            allowed = ulp(want[i], 24) + math.ldexp(size * max(1, total), -20)
            assert abs(other[i] - want[i]) <= allowed, f"f32: {k}[{i}]: {other[i]!r}, mergekit {want[i]!r}, {allowed!r} allowed"
END
python3 files.py >cases || exit 1
while read -r case method seed; do
    if ! grep -q "\"name\": \"$method\", \"title\"" methods.json; then
        skip "$case" "this build has no method $method"
        continue
    fi
    for rounding in mergekit f32; do
        ok "$case $rounding" "$LBRX" merge "$case.yml" -o "$case-$rounding" --rounding "$rounding" --seed "$seed" --no-sync
    done
    python3 compare.py "$case" >out 2>err && pass || fail "$case" "$(tail -1 err)"
done <cases
finish
