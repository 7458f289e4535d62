#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the golden files of tests/unit/test_pytorch.c and the corpora of fuzz_pytorch and fuzz_pickle.

Run in this folder with torch 2.15.0 and numpy 2.4.6. Not run by `make test`. The values of every
tensor of n elements are 0, 1, 2... n-1 (bool: odd ones), so that a test knows them. Files:
  dtypes.pt           one tensor of each type, six elements [2, 3]
  shapes.pt           rank 0, empty, rank 5, dimensions of one, an odd name
  views.pt            rows of a tensor, a reshaped one, one of another type over untyped bytes, tied
                      names, a parameter, a parameter with attributes
  nested.pt           {"model": state dict, "optimizer": ..., "epoch": 3}
  model.pt            state_dict() of a small module: OrderedDict with _metadata
  mixed.pt            entries that are no tensors
  proto3.pt 4 5       views.pt in the other protocols
  legacy.pt           views.pt without the zip archive; legacy_model.pt
  sharded/            pytorch_model-0000x-of-00002.bin with index and config
  strided.pt columns.pt   views: a transposed tensor, columns of one
  expanded.pt         a view with stride 0, which is refused
  values.pt           what may stand beside tensors: sets, bytes, a device; a tensor with attributes
  refused_*.pt        a sparse, a quantized, a conjugated tensor; a numpy array; a whole module;
                      a lone tensor; big-endian; TorchScript
"""
import collections
import io
import json
import os
import pickle
import shutil
import sys
import zipfile

import numpy as np
import torch

assert sys.byteorder == "little"
FLOATS = ["float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2"]
INTS = ["int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64"]


def ramp(*shape, dtype=torch.float32):
    n = int(np.prod(shape)) if shape else 1
    return torch.arange(n, dtype=torch.float64).reshape(shape).to(dtype)


def state():
    base = ramp(4, 3)
    with_state = torch.nn.Parameter(ramp(2), requires_grad=False)
    with_state.tag = "x"
    return collections.OrderedDict([
        ("base", base),
        ("rows", base[1:3]),
        ("one_row", base[2]),
        ("one_column_of_one_row", base[2:3, 1:2]),
        ("reshaped", base.view(2, 6)),
        ("tied", base),
        ("parameter", torch.nn.Parameter(ramp(2, 2))),
        ("with_state", with_state),
        ("half", ramp(5, dtype=torch.float16)[2:]),
        ("eight", ramp(6, dtype=torch.float8_e4m3fn)[1:4]),
        ("empty", base[0:0]),
    ])


def repack(src, dst, change):
    """The archive with entries changed: name -> bytes, or None to leave it out."""
    out = io.BytesIO()
    with zipfile.ZipFile(src) as z, zipfile.ZipFile(out, "w") as o:
        for i in z.infolist():
            data = change(i.filename, z.read(i))
            if data is not None:
                o.writestr(zipfile.ZipInfo(i.filename), data)
    with open(dst, "wb") as f:
        f.write(out.getvalue())


def main():
    torch.save({t: ramp(2, 3, dtype=getattr(torch, t)) for t in FLOATS + INTS} |
               {"bool": ramp(2, 3).to(torch.int32) % 2 == 1,
                "complex64": ramp(2, 3, dtype=torch.complex64)}, "dtypes.pt")
    torch.save({"scalar": ramp().reshape(()) + 1, "hole": ramp(2, 0, 3), "rank5": ramp(1, 2, 1, 2, 2),
                "ones": ramp(3, 4)[1:2, 2:3].reshape(1, 1), "nam\u00e9 /\"\n": ramp(3)}, "shapes.pt")
    torch.save(state(), "views.pt")
    for p in (3, 4, 5):
        torch.save(state(), "proto%d.pt" % p, pickle_protocol=p)
    torch.save(state(), "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "optimizer": {"state": {0: {"exp_avg": ramp(3)}}, "param_groups": [
        {"lr": 1e-3, "betas": (0.9, 0.999), "amsgrad": False, "params": [0, 2**70, None, -5]}]},
        "model": {"w": ramp(3), "b": ramp(1)}}, "nested.pt")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.save(module.state_dict(), "model.pt")
    torch.save(module.state_dict(), "legacy_model.pt", _use_new_zipfile_serialization=False)
    torch.save({"w": ramp(3), "extra": None, "step": 7, "lr": 0.5, "size": torch.Size([1, 2]),
                "d": torch.float16, "o": {}, "s": "text", "t": (1, (2, [3]))}, "mixed.pt")
    torch.save({"w": ramp(3, 2).t()}, "strided.pt")
    with_attributes = ramp(2)
    with_attributes.tag = "x"
    torch.save({"w": with_attributes, "set": {1}, "none": frozenset(), "bytes": b"\xff", "empty": b"",
                "device": torch.device("cpu"), "buffer": torch.nn.Buffer(ramp(3))}, "values.pt")
    torch.save({"w": ramp(3, 1).expand(3, 4)}, "expanded.pt")
    torch.save({"w": ramp(3, 4)[:, 1:3]}, "columns.pt")

    shutil.rmtree("sharded", ignore_errors=True)
    os.mkdir("sharded")
    parts = [{"a": ramp(2, 2), "b": ramp(3, dtype=torch.bfloat16)}, {"c": ramp(2, dtype=torch.float16)}]
    index = {"metadata": {"total_size": 26}, "weight_map": {}}
    for i, part in enumerate(parts):
        name = "pytorch_model-%05d-of-00002.bin" % (i + 1)
        torch.save(part, os.path.join("sharded", name))
        index["weight_map"].update({k: name for k in part})
    with open("sharded/pytorch_model.bin.index.json", "w", encoding="utf-8") as f:
        f.write(json.dumps(index, indent=2) + "\n")
    with open("sharded/config.json", "w", encoding="utf-8") as f:
        f.write("{}\n")

    torch.save({"w": ramp(2, 2).to_sparse()}, "refused_sparse.pt")
    torch.save({"w": torch.quantize_per_tensor(ramp(2), 0.1, 0, torch.qint8)}, "refused_quantized.pt")
    torch.save({"w": ramp(2, dtype=torch.complex64).conj()}, "refused_conjugated.pt")
    torch.save({"w": np.arange(3)}, "refused_numpy.pt")
    torch.save(torch.nn.Linear(1, 1), "refused_module.pt")
    torch.save(ramp(2), "refused_tensor.pt")
    repack("strided.pt", "refused_big.pt", lambda n, d: b"big" if n.endswith("/byteorder") else d)
    repack("strided.pt", "refused_script.pt", lambda n, d: d)
    with zipfile.ZipFile("refused_script.pt", "a") as z:
        z.writestr("strided/constants.pkl", b"\x80\x02).")
    corpora()


def corpora():
    """Whole files; the pickles alone."""
    to = os.path.join(os.pardir, os.pardir, "fuzz", "corpus")
    for kind in ("pytorch", "pickle"):
        os.makedirs(os.path.join(to, kind), exist_ok=True)  # what was found once stays
    for name in sorted(n for n in os.listdir(".") if n.endswith(".pt")):
        stem = name[:-3]
        if os.path.getsize(name) < 3400:
            shutil.copy(name, os.path.join(to, "pytorch", stem))
        if zipfile.is_zipfile(name):
            with zipfile.ZipFile(name) as z:
                data = z.read(next(n for n in z.namelist() if n.endswith("/data.pkl")))
            with open(os.path.join(to, "pickle", stem), "wb") as f:
                f.write(data)
    for p in (2, 3, 4, 5):
        values = [1, -1, 300, 2**40, 2**90, 1.5, "\u00e9", b"b", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [],
                  [None], {}, {"a": True}, {1: False}]
        values.append(values)
        with open(os.path.join(to, "pickle", "values%d" % p), "wb") as f:
            pickle.dump(values, f, protocol=p)


main()
