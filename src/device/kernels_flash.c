/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_flash.c: families of flash.k (attention by tensor cores over f16) and rope_store.k. */
#include "device/kernels_family.h"

enum {
    FLASH_TOKENS = 64, /* LBK_FLASH_TOKENS */
    FLASH_THREADS = 128,
    FEW_HEADS = 8,       /* LBK_FEW_HEADS */
    FEW_WIDE = 128,      /* longer heads have fewer threads, for their registers */
    STORE_SIMDGROUPS = 8 /* LBK_ROPE_STORE_SIMDGROUPS: a head each */
};

/* What both need beside the buffers of attend; d: elements that a head has at most. */
static const char *f16_needs(u32 d, const lb_attend_args *a, lb_dev_shape *s) {
    const u32 places = a->k_off | a->v_off | a->k_bytes | a->v_bytes | a->page_bytes;
    const char *bad = lb_dev_shape_attend(0, a, s);
    if (bad)
        return bad;
    if (a->type != LB_DEV_F16 || places % 16)
        return "keys and values are no rows of f16 at multiples of 16 bytes";
    if (!a->k_dim || !a->v_dim || a->k_dim % 8 || a->v_dim % 8 || a->k_dim > d || a->v_dim > d)
        return "heads have not a multiple of 8 elements, or more than the kernel has";
    if (a->first % 4 || a->stride % 4)
        return "queries do not begin at multiples of 4 values";
    return a->scale > 0 ? NULL : "the scale of scores is not above zero";
}

const char *lb_dev_shape_flash(u32 d, const void *val, lb_dev_shape *s) {
    const lb_attend_args *a = val;
    const char *bad = f16_needs(d, a, s);
    if (bad)
        return bad;
    if (a->n_splits != 1)
        return "there are several splits where all positions are taken at once";
    s->need_bytes[4] = a->has_sinks ? (u64)a->n_heads * 4 : 0;
    s->need_bytes[5] = (u64)a->n_tokens * a->n_heads * a->v_dim * 4; /* below attend's parts */
    s->groups[0] = a->n_heads;
    s->groups[1] = (u32)lb_ceil_div_u64(a->n_tokens, FLASH_TOKENS);
    s->n_threads = FLASH_THREADS;
    return s->groups[1] > LB_DEV_GRID_Y_MAX ? LB_DEV_TOO_LARGE : NULL;
}

/* Bytes of the weights of heads; 0: they have none. */
static u64 norm_bytes(u32 normed, u32 n_heads, u32 stride, u32 dim) {
    return normed && n_heads ? ((u64)(n_heads - 1) * stride + dim) * 4 : 0;
}

const char *lb_dev_shape_rope_store(u32 type, const void *val, lb_dev_shape *s) {
    const lb_rope_store_args *a = val;
    const lb_kv_args kv = {.n_tokens = a->n_tokens,
                           .k_first = a->k_first,
                           .v_first = a->v_first,
                           .stride = a->stride,
                           LB_DEV_KV_OF(a)};
    lb_dev_shape stored = {.groups = {0, 1, 1}};
    u64 queries;
    const char *bad = lb_dev_shape_kv_store(type, &kv, &stored);
    if (!bad)
        bad = lb_dev_strided(a->n_tokens, 0, (u64)a->n_heads * a->k_dim, a->stride, &queries);
    if (bad)
        return bad;
    if (a->n_rot > a->k_dim || a->n_rot % 2)
        return "the turned part of a head is odd or longer than the head";
    s->need_bytes[0] = s->need_bytes[1] = (u64)a->n_tokens * (a->n_rot / 2) * 4;
    s->need_bytes[2] = norm_bytes(a->q_norm, a->n_heads, a->q_w_stride, a->k_dim);
    s->need_bytes[3] = norm_bytes(a->k_norm, a->n_heads_kv, a->k_w_stride, a->k_dim);
    s->need_bytes[4] = stored.need_bytes[1];
    s->need_bytes[5] = LB_MAX(queries, stored.need_bytes[0]);
    s->need_bytes[6] = stored.need_bytes[2];
    s->groups[0] = (u32)lb_ceil_div_u64(a->n_heads + 2ull * a->n_heads_kv, STORE_SIMDGROUPS);
    s->groups[1] = a->n_tokens;
    s->n_threads = 32 * STORE_SIMDGROUPS;
    return a->n_heads > INT32_MAX ? LB_DEV_TOO_LARGE : NULL;
}

/* What is put is what is attended to: of the one token, with its heads, in the same places. */
static bool same_heads(const lb_rope_store_args *p, const lb_attend_args *a) {
    return p->n_tokens == 1 && a->n_tokens == 1 && p->n_heads == a->n_heads &&
           p->n_heads_kv == a->n_heads_kv && p->k_dim == a->k_dim && p->v_dim == a->v_dim &&
           p->stride == a->stride && a->first == 0 && p->k_off == a->k_off &&
           p->v_off == a->v_off && p->k_bytes == a->k_bytes && p->v_bytes == a->v_bytes &&
           p->page_bytes == a->page_bytes && p->n_pages == a->n_pages && p->type == a->type;
}

static const char *few_puts(const lb_few_args *f, lb_dev_shape *s) {
    lb_dev_shape put = {.groups = {0, 1, 1}};
    if (!f->put.n_tokens)
        return NULL;
    if (!same_heads(&f->put, &f->at))
        return "what is put is not of the one token that is attended to";
    const char *bad = lb_dev_shape_rope_store(0, &f->put, &put);
    for (u32 i = 0; i < 4; i++) /* angles, weights of norms */
        s->need_bytes[1 + i] = put.need_bytes[i];
    s->need_bytes[0] = LB_MAX(s->need_bytes[0], put.need_bytes[5]);
    s->need_bytes[8] = LB_MAX(s->need_bytes[8], put.need_bytes[6]);
    return bad;
}

const char *lb_dev_shape_few(u32 d, const void *val, lb_dev_shape *s) {
    const lb_few_args *f = val;
    const lb_attend_args *a = &f->at;
    lb_dev_shape at = *s;
    const char *bad = f16_needs(d, a, &at);
    if (bad)
        return bad;
    const u64 n_groups = lb_ceil_div_u64(a->n_heads / a->n_heads_kv, FEW_HEADS);
    const u64 rows = a->n_tokens * n_groups;
    if (rows > LB_DEV_GRID_Y_MAX)
        return LB_DEV_TOO_LARGE;
    if (a->n_splits > LB_DEV_FEW_SPLITS)
        return "there are more than 64 splits";
    if (rows * a->n_heads_kv > LB_DEV_FEW_COUNTERS)
        return "there are more tokens and heads than counters";
    s->need_bytes[0] = at.need_bytes[0];
    s->need_bytes[5] = at.need_bytes[2];
    s->need_bytes[6] = at.need_bytes[3];
    s->need_bytes[7] = a->has_sinks ? (u64)a->n_heads * 4 : 0;
    s->need_bytes[8] = at.need_bytes[1];
    s->need_bytes[9] = at.need_bytes[4] + 4ull * LB_DEV_FEW_COUNTERS;
    s->need_bytes[10] = (u64)a->n_tokens * a->n_heads * a->v_dim * 4;
    s->groups[0] = a->n_heads_kv * a->n_splits;
    s->groups[1] = (u32)rows;
    s->n_threads = d <= FEW_WIDE ? 256 : 128;
    return few_puts(f, s);
}
