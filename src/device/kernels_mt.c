/* SPDX-License-Identifier: Apache-2.0 */
/* kernels_mt.c: the families of products of few tokens by tensor cores (kern/mt.k), which take the
 * place of mv_* where their shapes fit. */
#include "device/device.h"
#include "device/kern/mt_args.h"
#include "device/kernels_family.h"
#include "tensor/dtype.h"

enum {
    COLS_MAX = 1 << 24, /* so that 16 rows of any type are below 4 GiB */
    Q6_COLS = 2048,     /* rows are a multiple of 16 bytes */
    GROUPS = 2,         /* threadgroups that a multiprocessor holds */
    EXPERTS_LEAST = 4   /* of each row of experts, where rows are many: no long last round */
};

/* What is wrong with an activation of sums. */
static const char *acted(const lb_mv_args *a) {
    if (!a->act)
        return NULL;
    if (a->act <= LB_DEV_PRE_NORM || a->act > LB_DEV_PRE_OAI || a->pre > LB_DEV_PRE_NORM ||
        (a->act == LB_DEV_PRE_OAI && !a->gated))
        return "what is made of sums is none of the ways there are";
    return a->gated && a->n_rows % 2 ? "an odd number of rows where two make a value" : NULL;
}

/* What threadgroups that share columns leave. */
static const char *joined(const lb_mv_args *a, u32 groups, u64 *bytes) {
    if (a->parts <= 1)
        return NULL;
    if (a->act || a->pre == LB_DEV_PRE_NORM)
        return "a norm or an activation needs all columns in one threadgroup";
    if ((u64)a->split * a->parts > a->n_cols / LB_DEV_MT_COLS)
        return "columns are not shared by threadgroups and their simdgroups";
    if ((u64)groups * a->n_tokens > LB_DEV_MT_COUNTERS)
        return LB_DEV_TOO_LARGE;
    *bytes = lb_dev_mt_join_bytes(a->n_rows, a->n_tokens, a->parts);
    return NULL;
}

/* Tiles, or so many side by side as a threadgroup has at a time. */
static u32 tiles_of(const lb_mv_args *a) {
    const bool pair = a->act && a->gated; /* rows that meet are of one tile */
    const u64 tiles = lb_ceil_div_u64(lb_dev_mv_values(a), LB_DEV_MT_ROWS / (pair ? 2 : 1));
    return (u32)lb_ceil_div_u64(tiles, LB_DEV_MT_SIMDGROUPS / a->split);
}

/* What is asked of mt_* and mte_* alike, whose buffers are known; n_mats: of a stack, or 1. */
static const char *share_out(lb_dev_form form, u32 type, const lb_mv_args *a, u64 n_mats,
                             lb_dev_shape *s) {
    const u32 n_rows = lb_dev_mv_values(a);
    const char *bad = acted(a);
    if (bad)
        return bad;
    if (n_rows < LB_DEV_MT_ROWS || a->n_cols % LB_DEV_MT_COLS)
        return "fewer than 16 rows, or columns that are no multiple of 256";
    if (form == LB_DEV_BLOCKS && type == LB_Q6_K && a->n_cols % Q6_COLS)
        return "columns that are no multiple of 2048";
    if (a->simdgroups != LB_DEV_MT_SIMDGROUPS || !a->split || LB_DEV_MT_SIMDGROUPS % a->split ||
        a->split > a->n_cols / LB_DEV_MT_COLS)
        return "rows are not shared by the simdgroups of a threadgroup";
    const bool pair = a->act && a->gated;
    const u32 full = tiles_of(a);
    /* from a tile's first row to the end of its last one, where pairs lie half the rows apart */
    const u64 row_bytes = s->need_bytes[0] / a->n_rows / n_mats;
    const u64 reach = row_bytes * (n_mats * n_rows + LB_DEV_MT_ROWS / 2);
    if (a->n_cols > COLS_MAX || (pair && reach > UINT32_MAX) || n_mats * a->n_rows > UINT32_MAX)
        return LB_DEV_TOO_LARGE;
    s->groups[0] = a->per ? LB_MIN(a->per, full) : full;
    s->groups[1] = a->n_tokens;
    s->n_threads = 32 * LB_DEV_MT_SIMDGROUPS;
    return NULL;
}

static const char *shape_mt(lb_dev_form form, u32 n_forms, u32 type, const lb_mv_args *a,
                            lb_dev_shape *s) {
    const char *bad = lb_dev_vector_needs(form, type, a, n_forms, s);
    if (!bad)
        bad = share_out(form, type, a, 1, s);
    if (bad)
        return bad;
    s->groups[2] = LB_MAX(a->parts, 1u);
    return joined(a, s->groups[0], &s->need_bytes[n_forms + 3]);
}

static const char *shape_mte(lb_dev_form form, u32 n_forms, u32 type, const lb_mv_args *a,
                             lb_dev_shape *s) {
    if (!a->n_mats || !a->per_x)
        return "no matrices, or no rows of y for one of x";
    if (a->add || a->parts > 1)
        return "experts' products are added to nothing, and their columns not shared";
    const char *bad = lb_dev_routed_needs(form, type, a, n_forms, s);
    return bad ? bad : share_out(form, type, a, a->n_mats, s);
}

u64 lb_dev_mt_join_bytes(u32 n_rows, u32 n_tokens, u32 parts) {
    return 4 * (LB_DEV_MT_COUNTERS + (u64)n_tokens * parts * n_rows);
}

const char *lb_dev_shape_mt(u32 type, const void *val, lb_dev_shape *s) {
    return shape_mt(LB_DEV_BLOCKS, 1, type, val, s);
}

const char *lb_dev_shape_mt_mlx(u32 bits, const void *val, lb_dev_shape *s) {
    return shape_mt(LB_DEV_AFFINE, 3, bits, val, s);
}

const char *lb_dev_shape_mte(u32 type, const void *val, lb_dev_shape *s) {
    return shape_mte(LB_DEV_BLOCKS, 1, type, val, s);
}

const char *lb_dev_shape_mte_mlx(u32 bits, const void *val, lb_dev_shape *s) {
    return shape_mte(LB_DEV_AFFINE, 3, bits, val, s);
}

/* bytes: of the ring. room: whether products leave multiprocessors to what comes next (room_for);
 * those of floats are slower then. */
typedef struct mt_ring {
    lb_dev_kernel k, experts;
    u32 bytes;
    bool room;
} mt_ring;

static const mt_ring *ring_of(lb_dev_kernel k) {
    static const mt_ring rings[] = {
#define RING(type, x_bytes, room)                                                                \
    {LB_DK_mt_##type, LB_DK_mte_##type,                                                          \
     (LB_DEV_MT_RING_##type + (x_bytes)*LB_DEV_MT_COLS * LB_DEV_MT_KEEP) * LB_DEV_MT_SIMDGROUPS, \
     room}
        RING(q4_k, 4, true),   RING(q5_k, 4, true),  RING(q6_k, 4, true),
        RING(q8_0, 4, true),   RING(q4_0, 4, true),  RING(mlx_q4, 4, true),
        RING(mlx_q8, 4, true), RING(bf16, 6, false), RING(f16, 6, false),
#undef RING
    };
    for (u32 i = 0; i < LB_LEN(rings); i++)
        if (rings[i].k == k || rings[i].experts == k)
            return &rings[i];
    return NULL;
}

u32 lb_dev_mt_ring(lb_dev_kernel k) {
    const mt_ring *r = ring_of(k);
    return r ? r->bytes : 0;
}

u32 lb_dev_mt_shared(lb_dev_kernel k) {
    const u32 ring = lb_dev_mt_ring(k);
    return ring ? ring + LB_DEV_MT_DECLARED : 0;
}

/* How many threadgroups, at most two a multiprocessor, make a product of one token when room is
 * left: one each where that is two rounds, full but for a tenth, so that the first rows of the next
 * product wait beside it; half as many as there are tiles in front of an attention, which needs
 * whole multiprocessors, and beside products of other types. docs/devices.md has what these are
 * worth. */
static u32 room_for(u32 n_units, const lb_mv_args *a) {
    const u32 two = GROUPS * n_units, n = tiles_of(a);
    if (n <= two)
        return n > two - two / 10 ? n_units : two;
    return n < 2 * two && !a->add && !a->act ? (n + 1) / 2 : two;
}

void lb_dev_mt_share(const lb_dev_info *d, lb_dev_kernel k, bool alone, lb_mv_args *a) {
    const mt_ring *ring = ring_of(k);
    const u32 n_blocks = a->n_cols / LB_DEV_MT_COLS;
    a->simdgroups = LB_DEV_MT_SIMDGROUPS;
    a->split = a->simdgroups; /* so that threadgroups have as many tiles as others */
    while (a->split > 1 && a->split > n_blocks)
        a->split /= 2;
    a->parts = 1;
    if (alone && !a->act && a->pre != LB_DEV_PRE_NORM && n_blocks > LB_DEV_MT_KEEP * a->split)
        a->parts = LB_MAX(LB_MIN(d->tuning.mt_parts, n_blocks / a->split), 1u);
    a->per = GROUPS * d->n_units;
    if (ring && k == ring->experts) { /* each row has threadgroups of its own */
        a->per = a->per ? LB_MAX(a->per / LB_MAX(a->n_tokens, 1u), (u32)EXPERTS_LEAST) : 0;
    } else if (a->parts > 1) { /* each of a token has a counter */
        const u32 most = LB_DEV_MT_COUNTERS / LB_MAX(a->n_tokens, 1u);
        a->per = a->per ? LB_MIN(LB_MAX(a->per / a->parts, 1u), most) : most;
    } else if (a->n_tokens == 1 && ring && ring->room) {
        a->per = room_for(d->n_units, a);
    }
}
