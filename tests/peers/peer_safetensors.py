#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: safetensors
"""The safetensors reader against the package safetensors (0.8.0): mutated files, one verdict each.

Every file that we accept the package accepts, with the same tensors. A file that only the package
accepts must be one of the kinds that format/safetensors.h says we refuse. Seeds: the goldens and
files made here; mutations of bytes, of numbers, of structure.
"""
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time

import safetensors

START = time.time()
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LBRX = os.environ.get("LBRX") or os.path.join(os.path.dirname(ROOT), "build", "cc", "lbrx")
PROGRAM = os.path.join(os.path.dirname(LBRX), "tests", "test_safetensors")
N_BYTES, N_TEXT, N_TREE = 6000, 6000, 8000
DTYPES = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
          "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
          "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64}
rng = random.Random(int(os.environ.get("LB_TEST_SEED", "7")))


def pack(header, data):
    return struct.pack("<Q", len(header)) + header + data


def made():
    """A valid header as a list of (name, entry) and its data."""
    entries, at = [], 0
    for i in range(rng.randrange(0, 6)):
        dtype = rng.choice(list(DTYPES))
        shape = [rng.choice([0, 1, 2, 3, 4, 8]) for _ in range(rng.randrange(0, 5))]
        bits = DTYPES[dtype]
        for d in shape:
            bits *= d
        if bits % 8:
            shape.append(8)
            bits *= 8
        entries.append((rng.choice(["a", "b.weight", "é", "x\"y", ""]) + str(i),
                        {"dtype": dtype, "shape": shape, "data_offsets": [at, at + bits // 8]}))
        at += bits // 8
    rng.shuffle(entries)
    if rng.random() < 0.5:
        entries.insert(0, ("__metadata__", {"format": "pt", "k": "v\n"}))
    return entries, at


def dump(entries):
    sep = rng.choice([(",", ":"), (", ", ": ")])
    text = "{" + sep[0].join(json.dumps(k, ensure_ascii=rng.random() < 0.5) + sep[1] +
                             json.dumps(v, separators=sep) for k, v in entries) + "}"
    return text.encode()


def mutate_tree():
    """Structure: keys twice, fields gone, added, swapped, numbers changed, whole entries replaced."""
    entries, size = made()
    for _ in range(rng.randrange(0, 3)):
        if not entries:
            break
        i = rng.randrange(len(entries))
        name, e = entries[i]
        kind = rng.randrange(12)
        if kind == 0:
            entries.insert(rng.randrange(len(entries) + 1), (name, e))
        elif kind == 1:
            entries[i] = (name, rng.choice([None, 1, "x", [], {}, [[]], True, 1.5,
                                            list(e.values()) if isinstance(e, dict) else e]))
        elif kind == 2 and isinstance(e, dict) and e:
            e = dict(e)
            del e[rng.choice(list(e))]
            entries[i] = (name, e)
        elif kind == 3 and isinstance(e, dict):
            e = dict(e)
            e[rng.choice(["extra", "dtype", "shape", "data_offsets"])] = rng.choice(
                [None, 1, -1, 1.5, "F32", "U8", "f32", [], [0], [1, 2, 3], [0, 0], {"U8": None}, {"a": [{}]},
                 [-1], [1.0], ["1"], [2**64], [2**63, 4, 0], [0, 2**63, 4], [1] * 8, [1] * 9, 10**400])
            entries[i] = (name, e)
        elif kind in (4, 5, 6) and isinstance(e, dict) and isinstance(e.get("data_offsets"), list):
            e = dict(e)
            e["data_offsets"] = [max(0, v + rng.choice([-8, -1, 0, 0, 1, 4]))
                                 for v in e["data_offsets"] if isinstance(v, int)]
            entries[i] = (name, e)
        elif kind == 7:
            size = max(0, size + rng.choice([-8, -1, 1, 8]))
        elif kind == 8:
            entries[i] = (rng.choice(["__metadata__", "a0", "", "z"]), e)
        elif kind == 9 and name == "__metadata__":
            entries[i] = (name, rng.choice([None, {}, {"a": 1}, {"a": None}, {"a": "b"}, [], "x"]))
        elif kind == 10:
            del entries[i]
    header = dump(entries)
    if rng.random() < 0.2:
        header = rng.choice([b" ", b"\n\t", b"\0", b"\xef\xbb\xbf", b""]) + header + \
            rng.choice([b" ", b"\n\r\t ", b"\0", b"x", b"{}", b""])
    return pack(header, bytes(size))


TOKENS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"0", b"1", b"-", b".", b"e5", b"E400", b"null",
          b"true", b"NaN", b"Infinity", b" ", b"\n", b"\\u0061", b"\\ud800", b"\\udc00", b"\\u0000", b"\xff",
          b"\xc3\xa9", b"\x1f", b"/", b"//", b"01", b"-0", b"1.0", b"18446744073709551616", b"[" * 70,
          b'"x":1,', b'"dtype":"U8",', b'"__metadata__":{},', b"'"]


def mutate_text():
    """Tokens put in, cut out, doubled in the text of a valid header."""
    entries, size = made()
    header = dump(entries)
    for _ in range(rng.randrange(1, 3)):
        i = rng.randrange(len(header) + 1)
        j = min(len(header), i + rng.choice([0, 0, 1, 2, 5]))
        header = header[:i] + (rng.choice(TOKENS) if rng.random() < 0.8 else header[i:j] * 2) + header[j:]
    return pack(header, bytes(size))


def mutate_bytes(seeds):
    """Bytes of a whole file flipped, cut, added; the length too."""
    raw = bytearray(rng.choice(seeds))
    for _ in range(rng.randrange(1, 4)):
        kind = rng.randrange(5)
        if kind < 3 and raw:
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        elif kind == 3:
            del raw[rng.randrange(len(raw) + 1):]
        else:
            raw += bytes(rng.randrange(1, 4))
    return bytes(raw)


def theirs(raw):
    try:
        tensors = safetensors.deserialize(raw)
    except safetensors.SafetensorError as e:
        return None, str(e)
    return [(k, v["dtype"], v["shape"], len(v["data"])) for k, v in tensors], ""


def stricter(raw):
    """Which of our documented refusals this file meets; None if it is none of them."""
    n = struct.unpack("<Q", raw[:8])[0]
    text = raw[8:8 + n].decode()
    kinds = set()

    def pairs(items):
        if len({k for k, _ in items}) != len(items):
            kinds.add("a key twice")
        return dict(items)

    depth = deepest = 0
    quoted = escaped = False
    for c in text:
        if quoted:
            quoted, escaped = (True, not escaped if c == "\\" else False) if c != '"' or escaped else (False, False)
        elif c == '"':
            quoted = True
        elif c in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif c in "]}":
            depth -= 1
    tree = json.loads(text, object_pairs_hook=pairs)
    if deepest > 64:
        kinds.add("nested deeper than 64")
    for name, e in tree.items():
        if name == "__metadata__":
            continue
        if isinstance(e, list):
            kinds.add("an entry as an array")
        elif isinstance(e.get("dtype"), dict):
            kinds.add("a dtype as an object")
        elif len(e.get("shape", [])) > 8:
            kinds.add("more than 8 dimensions")
        elif 0 in e.get("shape", []):
            product = 1
            for d in e["shape"]:
                product *= d or 1
            if product >= 2**61:
                kinds.add("no elements, but dimensions that overflow")
    return sorted(kinds)[0] if kinds else None


def ours(files):
    with tempfile.NamedTemporaryFile(suffix=".batch") as f:
        for raw in files:
            f.write(struct.pack("<Q", len(raw)) + raw)
        f.flush()
        out = subprocess.run([PROGRAM, "--verdicts", f.name], capture_output=True, check=True)
    lines = out.stdout.decode(errors="replace").split("\n")[:-1]
    assert len(lines) == len(files), (len(lines), len(files))
    return lines


def our_tensors(line):
    out = []
    for word in line.split(" ")[1:]:
        name, dtype, dims, begin, end = word.split(":")
        out.append((bytes.fromhex(name).decode(), dtype, [int(d) for d in dims.split(",") if d],
                    int(end) - int(begin)))
    return out


def main():
    seeds = [pack(dump(e), bytes(s)) for e, s in (made() for _ in range(40))]
    for name in ("dtypes", "shapes", "mlx"):
        seeds.append(open(os.path.join(ROOT, "golden", "st", name + ".safetensors"), "rb").read())
    files = list(seeds)
    files += [mutate_bytes(seeds) for _ in range(N_BYTES)]
    files += [mutate_text() for _ in range(N_TEXT)]
    files += [mutate_tree() for _ in range(N_TREE)]
    passed = failed = both = neither = 0
    only_theirs = {}
    for raw, line in zip(files, ours(files)):
        tensors, why = theirs(raw)
        good = True
        if line.startswith("ok"):
            good = tensors is not None and sorted(our_tensors(line)) == sorted(tensors)
            both += good
        elif tensors is None:
            neither += 1
        else:
            kind = stricter(raw)
            good = kind is not None
            only_theirs[kind] = only_theirs.get(kind, 0) + 1
        passed += good
        failed += not good
        if not good and failed <= 10:
            print(f"{raw[:300]!r}\n  ours: {line[:200]}\n  theirs: {tensors} {why}")
    print(f"{both} accepted by both, {neither} refused by both; refused by us alone: {only_theirs}")
    if both < 1000 or neither < 1000:
        print("too few files of one kind: the mutations have lost their point")
        failed += 1
    print(f"peer_safetensors: {passed} passed, {failed} failed, 0 skipped [cost: slow] "
          f"{time.time() - START:.1f} s")
    sys.exit(1 if failed else 0)


main()
