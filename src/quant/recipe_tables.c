/* SPDX-License-Identifier: Apache-2.0 */
/* recipe_tables.c: the rules of llama-quantize (src/llama-quant.cpp of llama-cpp-python 0.3.36). */
#include "quant/recipe_tables.h"

/* ---- what a name stands for: tensor_get_category ---- */

const lb_recipe_kind lb_recipe_kinds[] = {
    {"output.weight", true, LB_KIND_OUTPUT},
    {"token_embd.weight", true, LB_KIND_EMBD},
    {"per_layer_token_embd.weight", true, LB_KIND_EMBD},
    {"attn_qkv.weight", false, LB_KIND_V},
    {"attn_kv_b.weight", false, LB_KIND_V},
    {"attn_v.weight", false, LB_KIND_V},
    {"attn_k.weight", false, LB_KIND_K},
    {"attn_q.weight", false, LB_KIND_Q},
    {"attn_output.weight", false, LB_KIND_O},
    {"ffn_up", false, LB_KIND_UP},
    {"ffn_gate", false, LB_KIND_GATE},
    {"ffn_down", false, LB_KIND_DOWN},
};
const u32 lb_recipe_n_kinds = LB_LEN(lb_recipe_kinds);

/* ---- names that no recipe touches: tensor_allows_quantization ---- */

#define KEEP(text) \
    { text, false, LB_HOLD_KEEP, 0 }
#define KEEP_WHOLE(text) \
    { text, true, LB_HOLD_KEEP, 0 }
#define GLM5_KEEP(text) \
    { text, false, LB_HOLD_KEEP, LB_IF_GLM5 }
#define GLM5_Q8(text) \
    { text, false, LB_HOLD_Q8, LB_IF_GLM5 }

const lb_recipe_name lb_recipe_names[] = {
    KEEP("_norm.weight"),
    KEEP("ffn_gate_inp.weight"), /* routers */
    KEEP("ffn_gate_tid2eid.weight"),
    KEEP("altup"), /* small */
    KEEP("laurel"),
    KEEP("per_layer_model_proj"),
    KEEP_WHOLE("position_embd.weight"), /* looked up, not multiplied with */
    KEEP_WHOLE("token_types.weight"),
    KEEP("ssm_conv1d"), /* short convolutions */
    KEEP("shortconv.conv.weight"),
    KEEP("indexer.k_proj.weight"),
    KEEP("indexer.q_proj.weight"),
    KEEP("time_mix_first.weight"), /* small matrices of RWKV */
    KEEP("time_mix_w0.weight"),
    KEEP("time_mix_w1.weight"),
    KEEP("time_mix_w2.weight"),
    KEEP("time_mix_v0.weight"),
    KEEP("time_mix_v1.weight"),
    KEEP("time_mix_v2.weight"),
    KEEP("time_mix_a0.weight"),
    KEEP("time_mix_a1.weight"),
    KEEP("time_mix_a2.weight"),
    KEEP("time_mix_g1.weight"),
    KEEP("time_mix_g2.weight"),
    KEEP("time_mix_decay_w1.weight"),
    KEEP("time_mix_decay_w2.weight"),
    KEEP("time_mix_lerp_fused.weight"),
    KEEP("attn_rel_b.weight"), /* relative positions */
    KEEP(".position_embd"),    /* of parts that see and hear */
    KEEP("sam.pos_embd"),
    KEEP("sam.neck."),
    KEEP("sam.net_"),
    KEEP(".rel_pos"),
    KEEP(".patch_embd"),
    KEEP(".patch_merger"),
    KEEP("a.rvq.codebook"),
    KEEP("mm.a.code_embd"),
    GLM5_KEEP("hc_"),
    GLM5_KEEP("indexer.attn_q_b"),
    GLM5_KEEP("indexer.attn_k"),
    GLM5_KEEP("indexer.proj"),
    GLM5_KEEP("indexer_compressor_gate"),
    GLM5_KEEP("indexer_compressor_ape"),
    GLM5_KEEP("ssm_f_a.weight"),
    GLM5_KEEP("ssm_f_b.weight"),
    GLM5_KEEP("ssm_g_a.weight"),
    GLM5_KEEP("ssm_g_b.weight"),
    GLM5_KEEP("ssm_beta.weight"),
    GLM5_KEEP("attn_kv_a_mqa.weight"),
    GLM5_KEEP("attn_k_b.weight"),
    GLM5_KEEP("attn_v_b.weight"),
    GLM5_Q8("attn_q_a"),
    GLM5_Q8("attn_q_b"),
    GLM5_Q8("nextn.eh_proj"),
};
const u32 lb_recipe_n_names = LB_LEN(lb_recipe_names);

/* ---- architectures: where llama_tensor_get_type_impl asks for one, and what load_arch_hparams of
 * src/models makes of block_count and of the size that it calls 70B ---- */

static const lb_recipe_arch archs[] = {
    {"bailingmoe3", LB_IF_BAILING, 0, false, 0, NULL},
    {"deci", 0, 80, false, 0, NULL},
    {"falcon", LB_IF_FALCON, 0, false, 0, NULL},
    {"glm5-next", LB_IF_GLM5, 0, false, 0, NULL},
    {"graniteswitch", 0, 0, false, 1, NULL}, /* a layer for its router */
    {"jais2", 0, 68, false, 0, NULL},
    {"llama", 0, 80, true, 0, NULL},
    {"llama-embed", 0, 80, true, 0, NULL},
    {"nanbeige", 0, 0, false, 0, "num_loops"},
    {"olmo", 0, 80, false, 0, NULL},
    {"qwen2", 0, 80, false, 0, NULL},
};

const lb_recipe_arch *lb_recipe_arch_find(lb_str arch) {
    for (u32 i = 0; i < LB_LEN(archs); i++)
        if (lb_str_eq_c(arch, archs[i].arch))
            return &archs[i];
    return NULL;
}

/* ---- rows that are not whole blocks: tensor_type_fallback ---- */

static const struct {
    lb_dtype dtype, instead;
} fallbacks[] = {
    {LB_IQ1_S, LB_IQ4_NL},   {LB_IQ1_M, LB_IQ4_NL}, {LB_IQ2_XXS, LB_IQ4_NL}, {LB_IQ2_XS, LB_IQ4_NL},
    {LB_IQ2_S, LB_IQ4_NL},   {LB_IQ3_S, LB_IQ4_NL}, {LB_IQ4_XS, LB_IQ4_NL},  {LB_Q2_0, LB_Q4_0},
    {LB_IQ3_XXS, LB_IQ4_NL}, {LB_Q2_K, LB_Q4_0},    {LB_Q3_K, LB_Q4_0},      {LB_TQ1_0, LB_Q4_0},
    {LB_TQ2_0, LB_Q4_0},     {LB_Q4_K, LB_Q5_0},    {LB_Q5_K, LB_Q5_1},      {LB_Q6_K, LB_Q8_0},
};

bool lb_recipe_fallback(lb_dtype dtype, lb_dtype *out) {
    *out = dtype; /* blocks of 32: none are smaller */
    for (u32 i = 0; i < LB_LEN(fallbacks); i++)
        if (fallbacks[i].dtype == dtype)
            *out = fallbacks[i].instead;
    return lb_dtype_get(*out)->block_elems <= 32;
}

/* ---- rules: llama_tensor_get_type_impl ---- */

#define R(id) ((u64)1 << LB_RECIPE_##id)
#define ALL (R(COUNT) - 1)
#define LOW (R(IQ2_XXS) | R(IQ2_XS) | R(IQ2_S) | R(IQ2_M) | R(IQ1_S) | R(IQ1_M))
#define LOW_TWO (R(IQ2_S) | R(IQ2_M))
#define LOW_ONE (R(IQ1_S) | R(IQ1_M))
#define OUTPUT LB_KIND_OUTPUT
#define EMBD LB_KIND_EMBD
#define Q LB_KIND_Q
#define K LB_KIND_K
#define V LB_KIND_V
#define O LB_KIND_O
#define DOWN LB_KIND_DOWN
#define IF(x) LB_IF_##x

const lb_recipe_rule lb_recipe_rules[] = {
    {R(MXFP4_MOE), OUTPUT, 0, 0, LB_Q8_0},
    {ALL, OUTPUT, IF(FALCON), 0, LB_Q8_0},
    {ALL, OUTPUT, IF(MISFIT), 0, LB_Q8_0},
    {LOW | R(IQ3_XXS), OUTPUT, 0, 0, LB_Q5_K},
    {ALL & ~R(Q8_0), OUTPUT, 0, 0, LB_Q6_K},

    {R(MXFP4_MOE), LB_KIND_FFN, IF(STACKED), 0, LB_MXFP4},
    {R(MXFP4_MOE), LB_KIND_HIDDEN, IF(STACKED), IF(BAILING), LB_MXFP4},
    {R(MXFP4_MOE), LB_KIND_HIDDEN, 0, 0, LB_Q8_0},

    {R(IQ2_XXS) | R(IQ2_XS) | LOW_ONE, EMBD, 0, 0, LB_Q2_K},
    {LOW_TWO | R(IQ3_XXS), EMBD, 0, 0, LB_IQ3_S},
    {R(TQ1_0) | R(TQ2_0) | R(Q2_0), EMBD, 0, 0, LB_Q4_K},

    {LOW, V, IF(GQA), 0, LB_Q4_K},
    {LOW, V, IF(EXPERTS), 0, LB_Q4_K},
    {LOW_TWO, V, 0, 0, LB_IQ3_S},
    {LOW, V, 0, 0, LB_Q2_K},
    {ALL, V, IF(EIGHT), 0, LB_Q8_0},
    {R(Q2_K) | R(Q2_K_S) | R(IQ3_XXS) | R(IQ3_XS) | R(IQ3_S), V, IF(GQA), 0, LB_Q4_K},
    {R(Q2_K), V, 0, 0, LB_Q3_K},
    {R(IQ3_XXS), V, 0, IF(WEIGHTED), LB_IQ3_S},
    {R(IQ3_M), V, 0, 0, LB_Q4_K},
    {R(Q3_K_M), V, IF(FIRST_2), 0, LB_Q5_K},
    {R(Q3_K_M), V, 0, 0, LB_Q4_K},
    {R(Q3_K_L), V, 0, 0, LB_Q5_K},
    {R(IQ4_NL) | R(IQ4_XS), V, IF(GQA), 0, LB_Q5_K},
    {R(Q4_K_M) | R(Q5_K_M), V, IF(CHOSEN), 0, LB_Q6_K},
    {R(Q4_K_S), V, IF(FIRST_4), 0, LB_Q5_K},

    {LOW, K, IF(EIGHT), 0, LB_Q4_K},
    {ALL, K, IF(EIGHT), 0, LB_Q8_0},
    {R(IQ3_XS), Q | K, 0, 0, LB_IQ3_XXS},
    {R(IQ3_XXS), Q | K, 0, 0, LB_IQ2_S},

    {LOW_TWO, DOWN, IF(EIGHTH), 0, LB_IQ3_S},
    {LOW, DOWN, IF(EIGHTH), 0, LB_Q2_K},
    {R(Q2_K), DOWN, 0, 0, LB_Q3_K},
    {R(Q2_K_S), DOWN, IF(EIGHTH), 0, LB_Q4_K},
    {R(IQ3_XXS), DOWN, IF(EIGHTH), IF(WEIGHTED), LB_Q4_K},
    {R(IQ3_XXS), DOWN, 0, IF(WEIGHTED), LB_Q3_K},
    {R(Q3_K_M), DOWN, IF(SIXTEENTH), 0, LB_Q5_K},
    {R(Q3_K_M), DOWN, IF(CHOSEN), 0, LB_Q4_K},
    {R(Q3_K_M), DOWN, 0, IF(FALCON), LB_Q4_K},
    {R(IQ3_M), DOWN, IF(EIGHTH), 0, LB_Q4_K},
    {R(IQ3_M), DOWN, IF(EIGHT) | IF(CHOSEN), 0, LB_Q4_K},
    {R(Q3_K_L), DOWN, IF(FALCON), 0, LB_Q4_K},
    {R(Q3_K_L), DOWN, 0, 0, LB_Q5_K},
    {R(Q4_K_M), DOWN, IF(FALCON) | IF(SIXTEENTH), 0, LB_Q6_K},
    {R(Q4_K_M), DOWN, IF(FALCON) | IF(CHOSEN), 0, LB_Q5_K},
    {R(Q4_K_M) | R(Q5_K_M), DOWN, IF(CHOSEN), 0, LB_Q6_K},
    {R(IQ4_NL) | R(IQ4_XS), DOWN, IF(EIGHTH), IF(WEIGHTED), LB_Q5_K},
    {R(Q4_K_S), DOWN, IF(EIGHTH), IF(FALCON), LB_Q5_K},
    {R(Q4_0), DOWN, IF(EIGHTH) | IF(WEIGHTED), 0, LB_Q4_1},
    {R(Q5_0), DOWN, IF(EIGHTH) | IF(WEIGHTED), 0, LB_Q5_1},

    {LOW, O, IF(EIGHT), 0, LB_Q5_K},
    {LOW_ONE, O, 0, 0, LB_IQ2_XXS},
    {LOW_TWO, O, 0, 0, LB_IQ3_S},
    {R(Q3_K_L), O, IF(FALCON), 0, LB_Q4_K},
    {R(Q2_K) | R(IQ3_XS) | R(IQ3_XXS) | R(Q3_K_S) | R(Q3_K_M) | R(IQ4_NL) | R(Q4_K_S) | R(Q4_K_M) |
         R(IQ3_S) | R(IQ3_M) | R(IQ4_XS),
     O, IF(EIGHT), IF(FALCON), LB_Q5_K},
    {R(Q2_K), O, 0, IF(FALCON) | IF(EIGHT), LB_Q3_K},
    {R(IQ3_XXS), O, 0, IF(FALCON) | IF(EIGHT), LB_IQ3_S},
    {R(Q3_K_M) | R(IQ3_M), O, 0, IF(FALCON) | IF(EIGHT), LB_Q4_K},
    {R(Q3_K_L), O, 0, IF(FALCON) | IF(EIGHT), LB_Q5_K},

    {R(IQ3_XS), LB_KIND_UP | LB_KIND_GATE, IF(MIDDLE), 0, LB_IQ3_XXS},
};
const u32 lb_recipe_n_rules = LB_LEN(lb_recipe_rules);

/* Eight heads share a value there: its matrix is small. */
const lb_recipe_raise lb_recipe_raises[] = {
    {{ALL & ~LOW, V, IF(70B), 0, LB_Q5_K}, LB_Q3_K},
    {{ALL & ~LOW, V, IF(70B), 0, LB_Q5_K}, LB_Q4_K},
};
const u32 lb_recipe_n_raises = LB_LEN(lb_recipe_raises);
