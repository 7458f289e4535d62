#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_recipe_mlx.py >recipe_mlx.txt: what mlx-lm decides for the tiny models of tests/golden/family that it has a class
for (their first draw, made again by tests/families), as they are and with more layers (mlx_peers.py).

    model FILE LABEL LAYERS    tests/golden/family/FILE.json; its layers are repeated until there are so many
    run RUN                    as tests/tool/mlx_recipe.c has it
    = TYPE[*N]...              of the modules that can be quantized, in the order of their names, N in a row:
                               "-" stays as it is; BITS/GROUP: affine; else the mode
    # DIGEST                   of "quantization" in config.json: sha256 of its text without spaces, 16 digits
    ! WORDS                    an error of mlx-lm
"""
import hashlib
import itertools
import json
import pathlib
import random
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "families"))
import kit
import mlx_peers as mp

RUNS = ["mlx-q4", "mlx-q6/32", "mlx-mxfp4", "mlx-nvfp4", "mlx-mixed_3_6", "mlx-mixed_2_6/32", "pure mlx-q5/32",
        r"mlx-q3/32 embed_tokens|lm_head|output=mlx-q6 \.1\..*down=bf16 \.0\.=mlx-q8"]
DEEP = ["mlx-mixed_3_4", "mlx-mixed_4_6/32"]


def text_of(pairs):
    def back(x):
        return {k: back(v) for k, v in x} if isinstance(x, list) else x
    return json.dumps(back(pairs), separators=(",", ":"))


def short(kind):
    mode, _, rest = kind.partition(" ")
    return rest.replace(" ", "/") if mode == "affine" else mode


def show(folder, runs):
    model, _ = mp.load(folder)
    names = sorted(p for p, m in mp.modules(model) if hasattr(m, "to_quantized"))
    for run in runs:
        print("run " + run)
        got = mp.decide(folder, run)
        if isinstance(got, str):
            print("! " + got.splitlines()[0][:60])
            continue
        types = (short(got[1].get(p, "-")) for p in names)
        print("= " + " ".join("%s*%d" % (t, n) if n > 1 else t for t, n in ((t, len(list(x))) for t, x in itertools.groupby(types))))
        print("# " + hashlib.sha256(text_of(got[0]).encode()).hexdigest()[:16])


def main():
    print("# mlx-lm 0.32.2: python3 make_recipe_mlx.py")
    for f in kit.families():
        for case in kit.family(f).cases(random.Random(0)):
            with tempfile.TemporaryDirectory(prefix="lbrx-recipe-mlx-") as d:
                folder = pathlib.Path(d) / "mlx"
                if kit.to_mlx(kit.for_peers(case, kit.build(case, pathlib.Path(d) / case.label)), folder):
                    continue
                c = json.loads((folder / "config.json").read_text())
                have = c.get("text_config", c).get("num_hidden_layers", c.get("n_layer", 0))
                print("model %s %s %d" % (f, case.label, have))
                show(folder, RUNS)
                n = 3 + sum(map(ord, case.label)) % 11
                if mp.deepen(folder, n) and not isinstance(mp.load(folder), str):
                    print("model %s %s %d" % (f, case.label, n))
                    show(folder, DEEP)


main()
