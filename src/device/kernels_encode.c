/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_encode.c: the families of the kernels that quantize (kern/encode*.k). */
#include "device/encode.h"
#include "device/kernels_family.h"

enum { THREADS = 64 /* LBK_ENC_THREADS */, KEYS8 = 6561, KEYS4 = 4096 };

/* The kernels: values of a group (a thread has one), keys and entries of the codebook's lists
 * (kernel/quant_grid.c has counted them). */
static const struct {
    lb_dtype type;
    lb_dev_kernel kernel;
    u32 group, n_keys, n_near;
} kinds[] = {
    {LB_Q2_K, LB_DK_enc_q2_k, 16, 0, 0},
    {LB_Q3_K, LB_DK_enc_q3_k, 16, 0, 0},
    {LB_Q4_K, LB_DK_enc_q4_k, 32, 0, 0},
    {LB_Q5_K, LB_DK_enc_q5_k, 32, 0, 0},
    {LB_Q6_K, LB_DK_enc_q6_k, 16, 0, 0},
    {LB_IQ4_NL, LB_DK_enc_iq4_nl, 32, 0, 0},
    {LB_IQ4_XS, LB_DK_enc_iq4_xs, 32, 0, 0},
    {LB_IQ2_XXS, LB_DK_enc_iq2_xxs, 32, KEYS8, 135360},
    {LB_IQ2_XS, LB_DK_enc_iq2_xs, 16, KEYS8, 203376},
    {LB_IQ2_S, LB_DK_enc_iq2_s, 16, KEYS8, 69064},
    {LB_IQ3_XXS, LB_DK_enc_iq3_xxs, 32, KEYS4, 34304},
    {LB_IQ3_S, LB_DK_enc_iq3_s, 32, KEYS4, 36456},
    {LB_IQ1_S, LB_DK_enc_iq1_s, 32, KEYS8, 343304},
    {LB_IQ1_M, LB_DK_enc_iq1_m, 16, KEYS8, 343304},
};

static u32 kind_of(lb_dtype t) {
    u32 i = 0;
    while (i < LB_LEN(kinds) && kinds[i].type != t)
        i++;
    return i;
}

bool lb_dev_encode_of(lb_dtype t, lb_dev_kernel *out) {
    const u32 i = kind_of(t);
    if (i == LB_LEN(kinds))
        return false;
    *out = kinds[i].kernel;
    return true;
}

bool lb_dev_refine_of(lb_dtype t, lb_dev_kernel *out) {
    static const struct {
        lb_dtype type;
        lb_dev_kernel kernel;
    } refined[] = {{LB_Q2_K, LB_DK_refine_q2_k},       {LB_Q3_K, LB_DK_refine_q3_k},
                   {LB_Q4_K, LB_DK_refine_q4_k},       {LB_Q5_K, LB_DK_refine_q5_k},
                   {LB_Q6_K, LB_DK_refine_q6_k},       {LB_IQ4_XS, LB_DK_refine_iq4_xs},
                   {LB_IQ4_NL, LB_DK_refine_iq4_nl},   {LB_IQ2_XXS, LB_DK_refine_iq2_xxs},
                   {LB_IQ2_XS, LB_DK_refine_iq2_xs},   {LB_IQ2_S, LB_DK_refine_iq2_s},
                   {LB_IQ3_XXS, LB_DK_refine_iq3_xxs}, {LB_IQ3_S, LB_DK_refine_iq3_s},
                   {LB_IQ1_S, LB_DK_refine_iq1_s},     {LB_IQ1_M, LB_DK_refine_iq1_m}};
    for (u32 i = 0; i < LB_LEN(refined); i++)
        if (refined[i].type == t) {
            *out = refined[i].kernel;
            return true;
        }
    return false;
}

bool lb_dev_encode_exact(lb_dev_kind kind) {
    return kind != LB_DEV_METAL; /* whose compiler and GPUs may flush subnormal floats */
}

u32 lb_dev_encode_table_words(lb_dtype t) {
    const u32 i = kind_of(t);
    return i < LB_LEN(kinds) ? 2 * kinds[i].n_keys + kinds[i].n_near : 0;
}

static const char *shape(u32 type, const lb_encode_args *a, u32 out, lb_dev_shape *s) {
    const lb_dtype_info *t = lb_dtype_get((lb_dtype)type);
    const u32 per_block = t->block_elems / kinds[kind_of((lb_dtype)type)].group;
    s->need_bytes[0] = (u64)a->n_blocks * t->block_elems * sizeof(float);
    s->need_bytes[1] = a->has_importance ? (u64)a->row_blocks * t->block_elems * sizeof(float) : 0;
    s->need_bytes[out] = (u64)a->n_blocks * t->block_bytes;
    s->groups[0] = (u32)lb_ceil_div_u64(a->n_blocks, THREADS / per_block);
    s->n_threads = THREADS;
    if (!a->row_blocks || a->first_block >= a->row_blocks)
        return "rows have no blocks, or not the first one";
    return a->n_blocks > UINT32_MAX / 4 || a->row_blocks > UINT32_MAX / 4 ? "the shape is too large"
                                                                          : NULL;
}

const char *lb_dev_shape_encode(u32 type, const void *val, lb_dev_shape *s) {
    return shape(type, val, 2, s);
}

const char *lb_dev_shape_encode_grid(u32 type, const void *val, lb_dev_shape *s) {
    s->need_bytes[2] = (u64)lb_dev_encode_table_words((lb_dtype)type) * sizeof(u32);
    return shape(type, val, 3, s);
}

static const char *shape_mlx(const lb_encode_mlx_args *a, bool affine, lb_dev_shape *s) {
    const u64 n_elems = (u64)a->n_groups * a->group;
    const u32 scale_bytes = !affine ? 1 : a->out_type == LB_DEV_F32 ? 4 : 2;
    if (a->in_type > LB_DEV_BF16 || a->out_type > LB_DEV_BF16)
        return "values or scales are no floats";
    if (affine ? a->group != 32 && a->group != 64 && a->group != 128
               : a->group != 32 && a->group != 16)
        return "groups have no such size";
    if (affine ? a->bits < 1 || a->bits > 8 || a->bits == 7 : a->bits != 4 && a->bits != 8)
        return "codes have no such number of bits";
    if (n_elems > UINT32_MAX / 8)
        return LB_DEV_TOO_LARGE;
    s->need_bytes[0] = n_elems * (a->in_type == LB_DEV_F32 ? 4 : 2);
    s->need_bytes[1] = n_elems * a->bits / 8;
    s->need_bytes[2] = (u64)a->n_groups * scale_bytes;
    if (affine)
        s->need_bytes[3] = s->need_bytes[2];
    s->groups[0] = (u32)lb_ceil_div_u64(affine ? n_elems / 32 : a->n_groups, THREADS);
    s->n_threads = THREADS;
    return NULL;
}

const char *lb_dev_shape_encode_affine(u32 type, const void *val, lb_dev_shape *s) {
    (void)type;
    return shape_mlx(val, true, s);
}

const char *lb_dev_shape_encode_float(u32 type, const void *val, lb_dev_shape *s) {
    (void)type;
    return shape_mlx(val, false, s);
}

const char *lb_dev_shape_refine(u32 type, const void *val, lb_dev_shape *s) {
    const lb_encode_args *a = val;
    const lb_dtype_info *t = lb_dtype_get((lb_dtype)type);
    s->need_bytes[2] = (u64)a->n_blocks * t->block_bytes;
    return shape(type, a, 3, s);
}
