#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_recipe.py >recipe.txt: what llama-quantize (LBRX_LLAMA_QUANTIZE; recipe_peers.py) decides for models of real
sizes. Files without data, dry runs.

    model ARCH LAYERS OF_MTP HEADS HEADS_KV EXPERTS
    t TYPE FIRST LAST NAME DIM...      tensors of these layers ("#" in the name), or one (- -)
    run RECIPE [OPTION...]             options as tests/tool/recipe.c has them
    = I:TYPE[*N][,TYPE[*N]]...         of row I's tensors, N in a row; rows that are not here keep their types
    ! WORDS                            an error of llama-quantize
"""
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True
import recipe_peers as peers

MOST = [x for x in peers.RECIPES if x not in ("f16", "bf16", "f32", "copy")]
SOME = "q2_k q3_k_s q3_k_m q3_k_l q4_k_s q4_k_m q5_k_m iq4_xs iq3_m iq3_xs iq2_m".split()
FEW = "q4_k_m iq3_xxs q2_k_s mxfp4_moe".split()


def rows(n, *layer, outer=(), first=0):
    return [(name, shape, "f16", first, n - 1) for name, *shape in layer] + [(name, shape, "f16", None, None) for name, *shape in outer]


def attention(d, kv, heads=None):
    return ("blk.#.attn_q.weight", heads or d, d), ("blk.#.attn_k.weight", kv, d), ("blk.#.attn_v.weight", kv, d), \
           ("blk.#.attn_output.weight", d, heads or d)


def ffn(d, f, more=""):
    return ("blk.#.ffn_gate%s.weight" % more, f, d), ("blk.#.ffn_up%s.weight" % more, f, d), ("blk.#.ffn_down%s.weight" % more, d, f)


def experts(d, f, n):
    return ("blk.#.ffn_gate_inp.weight", n, d), ("blk.#.ffn_gate_exps.weight", n, f, d), ("blk.#.ffn_up_exps.weight", n, f, d), \
           ("blk.#.ffn_down_exps.weight", n, d, f)


def outer(d, tied=False, vocab=32000):
    return [("token_embd.weight", vocab, d)] + ([] if tied else [("output.weight", vocab, d)])


OPTIONS = [("q4_k_m", "--pure"), ("q4_k_m", "--leave-output-tensor"), ("q2_k", "--output-tensor-type", "q8_0"),
           ("q3_k_m", "--token-embedding-type", "q5_k"), ("q4_k_m", "--tensor-type", "attn_v=q5_0", "--tensor-type", r"blk\.[0-3]\.FFN_=iq4_nl"),
           ("q5_k_s", "--tensor-type", "token_embd=q8_0", "--token-embedding-type", "f16"), ("f16", "--tensor-type", "attn=q8_0"),
           ("q8_0", "--tensor-type", "ffn_down=bf16", "--pure")]
# name of arch, layers, heads, heads kv, experts, more keys, tensors, runs
MODELS = [
    ("llama", 32, 32, 32, 0, {}, rows(32, *attention(4096, 4096), *ffn(4096, 11008), outer=outer(4096)),
     [(x, *w) for x in peers.RECIPES for w in ((), ("--imatrix",))]),
    ("llama", 16, 32, 8, 0, {}, rows(16, *attention(2048, 512), *ffn(2048, 8192), outer=outer(2048, True)),
     [(x,) for x in MOST] + OPTIONS),
    ("llama", 80, 64, 8, 0, {}, rows(80, *attention(8192, 1024), *ffn(8192, 28672), outer=outer(8192)), [(x,) for x in SOME]),
    ("qwen2", 80, 64, 8, 0, {}, rows(80, ("blk.#.attn_v.weight", 1024, 8192), ("blk.#.ffn_down.weight", 8192, 29568), outer=outer(8192)),
     [("q3_k_s",), ("q4_k_s",)]),
    ("jais2", 68, 8, 8, 0, {}, rows(68, ("blk.#.attn_v.weight", 1024, 8192)), [("q3_k_s",)]),
    ("llama", 32, 32, 8, 8, {}, rows(32, *attention(4096, 1024), *experts(4096, 14336, 8), outer=outer(4096)),
     [(x, *w) for x in MOST for w in ((), ("--imatrix",))]),
    ("qwen3moe", 48, 32, 4, 128, {}, rows(48, *attention(2048, 512, 4096), *experts(2048, 768, 128), outer=outer(2048)), [(x,) for x in SOME]),
    ("falcon", 32, 71, 1, 0, {}, rows(32, ("blk.#.attn_qkv.weight", 4672, 4544), ("blk.#.attn_output.weight", 4544, 4544),
                                      ("blk.#.ffn_up.weight", 18176, 4544), ("blk.#.ffn_down.weight", 4544, 18176), outer=outer(4544)),
     [(x,) for x in MOST]),
    ("falcon", 60, 128, 8, 0, {}, rows(60, ("blk.#.attn_qkv.weight", 9216, 8192), ("blk.#.ffn_down.weight", 8192, 32768), outer=outer(8192)),
     [("q3_k_s",), ("q4_k_m",), ("q3_k_m",)]),
    ("gpt2", 12, 12, 12, 0, {}, rows(12, ("blk.#.attn_qkv.weight", 2304, 768), ("blk.#.attn_output.weight", 768, 768),
                                    ("blk.#.ffn_up.weight", 3072, 768), ("blk.#.ffn_down.weight", 768, 3072),
                                    outer=outer(768) + [("position_embd.weight", 1024, 768)]), [(x,) for x in MOST]),
    ("llama", 30, 9, 3, 0, {}, rows(30, *attention(576, 192), *ffn(576, 1536), outer=outer(576, True)), [(x,) for x in MOST]),
    ("llama", 3, 4, 4, 0, {}, rows(3, *attention(80, 80), *ffn(80, 200), outer=outer(80)), [(x,) for x in MOST]),
    ("deepseek2", 61, 128, 1, 256, {}, rows(61, ("blk.#.attn_q_a.weight", 1536, 7168), ("blk.#.attn_q_b.weight", 24576, 1536),
                                           ("blk.#.attn_k_b.weight", 128, 512, 128), ("blk.#.attn_v_b.weight", 128, 128, 512),
                                           ("blk.#.attn_kv_a_mqa.weight", 576, 7168), ("blk.#.attn_output.weight", 7168, 16384),
                                           outer=outer(7168)) + rows(3, *ffn(7168, 18432)) +
     rows(61, *experts(7168, 2048, 256), *ffn(7168, 2048, "_shexp"), first=3), [(x,) for x in SOME + ["mxfp4_moe"]]),
    ("bailingmoe3", 4, 8, 8, 16, {}, rows(4, *attention(256, 256), ("blk.#.attn_k_b.weight", 4, 64, 256), *experts(256, 512, 16), outer=outer(256)),
     [(x,) for x in FEW]),
    ("glm5-next", 6, 8, 8, 16, {}, rows(6, ("blk.#.attn_q_a.weight", 64, 256), ("blk.#.attn_q_b.weight", 64, 256), ("blk.#.attn_k_b.weight", 4, 64, 256),
                                       ("blk.#.hc_attn_fn.weight", 64, 256), ("blk.#.ssm_beta.weight", 64, 256), *experts(256, 512, 16),
                                       outer=outer(256)), [(x,) for x in FEW] + [("q4_k_m", "--pure")]),
    ("gemma3n", 8, 8, 2, 0, {}, rows(8, *attention(256, 64), *ffn(256, 512), ("blk.#.altup_router.weight", 4, 256), ("blk.#.inp_gate.weight", 256, 256),
                                    outer=outer(256, True) + [("per_layer_token_embd.weight", 512, 2048), ("per_layer_model_proj.weight", 2048, 256)]),
     [(x,) for x in FEW] + OPTIONS[2:6] + [("q4_0", "--token-embedding-type", "f16", "--tensor-type", "per_layer_token_embd=q5_1")]),
    ("llama", 8, 8, 8, 8, {}, rows(8, *attention(256, 256), *ffn(256, 512), outer=outer(256) + [("enc.ffn_up.weight", 256, 256)]), [("q4_k_m",), ("iq2_m",)]),
]


def expand(name, first, last):
    return [name] if first is None else [name.replace("#", str(b)) for b in range(first, last + 1)]


def coded(types):
    out = []
    for t in types:
        if out and out[-1][0] == t:
            out[-1][1] += 1
        else:
            out.append([t, 1])
    return ",".join(t if n == 1 else "%s*%d" % (t, n) for t, n in out)


def main():
    print("# llama-quantize of llama-cpp-python 0.3.36's llama.cpp: python3 make_recipe.py")
    with tempfile.TemporaryDirectory() as d:
        path, imatrix = pathlib.Path(d) / "m.gguf", pathlib.Path(d) / "i.dat"
        peers.importance(imatrix, {"output.weight": 32})
        for arch, n, head, kv, n_expert, keys, table, runs in MODELS:
            keys = {**keys, "block_count": n, "attention.head_count": head, "attention.head_count_kv": kv}
            if n_expert:
                keys["expert_count"] = n_expert
            m = peers.Model(arch, keys, [(name, s, t) for template, s, t, first, last in table for name in expand(template, first, last)])
            why = peers.complete(m, path)
            if why:
                sys.exit("%s: %s" % (arch, why))
            print("model %s %d %d %d %d %d" % (arch, n, m.keys.get("nextn_predict_layers", 0), head, kv, n_expert))
            for template, s, t, first, last in table:
                print("t", t, *("-" if x is None else x for x in (first, last)), template, *s)
            for recipe, *options in runs:
                said = peers.quantize(path, recipe, *[y for x in options for y in ((x, str(imatrix)) if x == "--imatrix" else (x,))])
                print("run", recipe, *options)
                if said.types is None:
                    print("! " + said.why)
                    continue
                of = [[said.types[x] for x in expand(template, first, last)] for template, _, _, first, last in table]
                print("=", *("%d:%s" % (i, coded(x)) for i, x in enumerate(of) if set(x) != {"f16"}))


main()
