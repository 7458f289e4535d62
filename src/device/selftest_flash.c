/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_flash.c: attention by tensor cores (attend_mma_*, attend_few_*), and rope_store against
 * the steps that it does at once.
 *
 * Bounds: queries and weights are f16 (of few tokens two: 22 bits), relative to which the sums'
 * roundings are small; a weight's smallest step is that of f16's subnormal numbers, 2^-25 of the
 * largest one. Tensor cores cut off where they add. */
#include "device/selftest_attend.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <math.h>
#include <stdio.h>

#define ULP LB_SELFTEST_ULP
#define TINY LB_SELFTEST_TINY

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
}

/* ---- attend_mma_*, attend_few_* ---- */

/* How the tokens of a case stand in their sequences. */
typedef enum order {
    ANYWHERE,
    PROMPT /* one behind the other, at the end of the first sequence */
} order;

typedef struct flash_case {
    lb_selftest_att_case c; /* its dimensions are at most the kernel's */
    order order;
    bool sinks, large; /* large: of a GPU alone */
} flash_case;
#define D 0 /* as many as the kernel has */
static const flash_case flash_cases[] = {
    {{1, 1, 1, D, D, 1, 0, 64, LB_DEV_F16, 0, false}, ANYWHERE, false, false},
    {{5, 4, 2, D, D, 3, 0, 64, LB_DEV_F16, 0, false}, ANYWHERE, true, false},
    {{67, 2, 1, D, D, 3, 0, 128, LB_DEV_F16, 0, false}, PROMPT, false, false},
    {{70, 2, 2, D, 40, 2, 50, 64, LB_DEV_F16, 0, false}, PROMPT, true, false},
    {{9, 9, 1, 48, D, 4, 100, 64, LB_DEV_F16, 30, false}, ANYWHERE, false, false},
    {{11, 2, 1, 32, 32, 3, 0, 192, LB_DEV_F16, 0, true}, ANYWHERE, true, false},
    {{300, 8, 2, D, D, 16, 0, 256, LB_DEV_F16, 0, false}, PROMPT, false, true},
    {{256, 4, 4, D, D, 12, 333, 128, LB_DEV_F16, 0, false}, PROMPT, true, true},
    {{130, 24, 2, D, D, 9, 0, 64, LB_DEV_F16, 50, false}, ANYWHERE, false, true},
};
#undef D

/* Elements of a head at most. */
static u32 head_of(lb_dev_kernel k) {
    switch (k) {
    case LB_DK_attend_mma_64:
    case LB_DK_attend_few_64:
        return 64;
    case LB_DK_attend_mma_96:
        return 96;
    case LB_DK_attend_mma_128:
    case LB_DK_attend_few_128:
        return 128;
    case LB_DK_attend_mma_192:
    case LB_DK_attend_few_192:
        return 192;
    default:
        return 256;
    }
}

static bool is_few(lb_dev_kernel k) {
    return k >= LB_DK_attend_few_64 && k <= LB_DK_attend_few_256;
}

typedef struct flash {
    lb_selftest_att x;
    const float *sinks;
    float *weight;
    bool few;
} flash;

/* e^x as f32 has it, of x at most 0. */
static double exp_of(double x) {
    float v = (float)x;
    lb_k_exp_f32_ref(1, &v, &v);
    return (double)v;
}

/* What a head of a token gives, and by how much its values may be off as a part of their sizes. */
static void compare_head(lb_selftest *t, const flash *f, const lb_selftest_view *w,
                         const float *out) {
    const lb_attend_args *a = &f->x.a;
    const u32 n = w->end - w->from;
    lb_selftest_att_sums s;
    lb_selftest_att_sum(&f->x, w, f->weight, &s);
    const double capped = 16 * ULP * (double)a->softcap;
    const double size =
        (s.bound_score - capped) / ((a->k_dim + 8.0) * ULP); /* of a score's terms */
    const double half = f->few ? 0x1p-21 : 0x1p-11;
    const double score = 2 * s.bound_score + size * half + 8 * ULP * size;
    const double relative = 2.1 * score * (1 + 2.1 * score) + (4.0 * n + 64) * ULP + half;
    const double least = n * (f->few ? 0x1p-36 : 0x1p-25);
    double sum = s.sum, top = s.max;
    if (a->has_sinks && !s.nan) {
        const double sink = (double)f->sinks[w->head];
        top = fmax(top, sink);
        sum = sum * exp_of(s.max - top) + exp_of(sink - top);
    }
    for (u32 i = 0; i < a->v_dim; i++) {
        const double part = s.nan ? NAN : exp_of(s.max - top) / sum;
        lb_selftest_compare(t, t->at++, out[i], part * s.value[i],
                            part * (2.1 * relative * s.size[i] + 4 * least) + TINY);
    }
}

static bool make_flash(lb_selftest *t, const flash_case *k, flash *f) {
    const u32 d = head_of(t->row->kernel);
    lb_selftest_att_case c = k->c;
    f->few = is_few(t->row->kernel);
    c.k_dim = c.k_dim ? c.k_dim : d;
    c.v_dim = c.v_dim ? LB_MIN(c.v_dim, d) : d;
    c.n_tokens = f->few ? LB_MIN(c.n_tokens, 8u) : c.n_tokens;
    if (!lb_selftest_att_make(t, &c, !f->few, &f->x))
        return false;
    f->x.a.first = 4; /* where both are multiples of 4, within what was made */
    f->x.a.stride = c.n_heads * c.k_dim + 8;
    f->x.a.has_sinks = k->sinks;
    f->sinks = lb_selftest_floats(t, c.n_heads, 4);
    f->weight = lb_selftest_floats(t, (u64)c.n_table * LB_DEV_PAGE_ROWS, 0);
    u32 *tokens = lb_arena_new(&t->arena, u32, 2ull * c.n_tokens);
    if (!f->sinks || !f->weight || !tokens)
        return false;
    memcpy(tokens, f->x.tokens, 8ull * c.n_tokens);
    for (u32 i = 0; k->order == PROMPT && i < c.n_tokens; i++) {
        tokens[2 * i] = c.n_table * LB_DEV_PAGE_ROWS - c.n_tokens + i;
        tokens[2 * i + 1] = 0;
    }
    f->x.tokens = tokens;
    return true;
}

/* Buffers of attend_few_* by their place. */
enum { FEW_X, FEW_COS, FEW_SIN, FEW_Q_W, FEW_K_W, FEW_TABLE, FEW_TOKENS, FEW_SINKS, FEW_CACHE };
enum { FEW_PART = FEW_CACHE + 1, FEW_OUT };

static void compare_bytes(lb_selftest *t, const u8 *got, const u8 *want, u64 n) {
    if (memcmp(got, want, n) == 0)
        return;
    for (u64 i = 0; i < n; i++)
        lb_selftest_compare(t, t->at++, (float)got[i], (double)want[i], 0);
}

/* What a launch of attend_few_* leaves. */
typedef struct few_out {
    u8 *cache, *part;
    float *out;
    u64 cache_bytes, part_bytes, out_bytes;
} few_out;

static bool make_few_out(lb_selftest *t, const lb_dev_shape *s, few_out *o) {
    o->cache_bytes = s->need_bytes[FEW_CACHE];
    o->part_bytes = s->need_bytes[FEW_PART];
    o->out_bytes = s->need_bytes[FEW_OUT];
    o->cache = lb_arena_push(&t->arena, o->cache_bytes, 16);
    o->part = lb_arena_push(&t->arena, o->part_bytes, 16);
    o->out = lb_arena_push(&t->arena, o->out_bytes, 16);
    return o->cache && o->part && o->out;
}

/* bufs: but for the part, whose counters begin as zeros; they come back as such. */
static lb_status launch_few(lb_selftest *t, lb_selftest_data *bufs, const lb_few_args *a,
                            few_out *o, lb_err *err) {
    void *const outs[LB_DEV_BUFS_MAX] = {
        [FEW_CACHE] = o->cache, [FEW_PART] = o->part, [FEW_OUT] = o->out};
    memset(o->part, 0xff, o->part_bytes);
    memset(o->part, 0, 4ull * LB_DEV_FEW_COUNTERS);
    bufs[FEW_PART] = (lb_selftest_data){o->part, o->part_bytes};
    bufs[FEW_OUT] = (lb_selftest_data){NULL, o->out_bytes};
    LB_TRY(lb_selftest_launch_all(t, bufs, a, outs, err));
    for (u64 i = 0; i < 4ull * LB_DEV_FEW_COUNTERS; i++)
        lb_selftest_compare(t, t->at++, (float)o->part[i], 0, 0);
    return LB_OK;
}

static void compare_heads(lb_selftest *t, const flash *f, const float *out) {
    const lb_attend_args *a = &f->x.a;
    for (u32 i = 0; i < a->n_tokens * a->n_heads; i++) {
        const u32 token = i / a->n_heads, pos = f->x.tokens[2 * token];
        const u32 from = a->window && pos >= a->window ? pos - a->window + 1 : 0;
        const lb_selftest_view w = {token, i % a->n_heads, from, pos + 1};
        compare_head(t, f, &w, out + (u64)i * a->v_dim);
    }
}

static lb_status check_mma(lb_selftest *t, flash *f, lb_err *err) {
    const lb_attend_args *a = &f->x.a;
    lb_dev_shape s;
    LB_TRY(lb_dev_kernel_shape(t->row->kernel, a, &s, err));
    float *out = lb_arena_push(&t->arena, s.need_bytes[5], 16);
    if (!out)
        return no_memory(err);
    const lb_selftest_data bufs[] = {{f->x.q, (u64)a->n_tokens * a->stride * 4},
                                     {f->x.cache, s.need_bytes[1]},
                                     {f->x.table, s.need_bytes[2]},
                                     {f->x.tokens, s.need_bytes[3]},
                                     {f->sinks, a->n_heads * 4ull},
                                     {NULL, s.need_bytes[5]}};
    LB_TRY(lb_selftest_launch(t, bufs, a, out, err));
    compare_heads(t, f, out);
    return LB_OK;
}

static lb_status check_few(lb_selftest *t, flash *f, lb_err *err) {
    const lb_few_args a = {.at = f->x.a};
    lb_dev_shape s;
    few_out o;
    LB_TRY(lb_dev_kernel_shape(t->row->kernel, &a, &s, err));
    if (!make_few_out(t, &s, &o))
        return no_memory(err);
    const lb_selftest_data none = {f->sinks, 4};
    lb_selftest_data bufs[LB_DEV_BUFS_MAX] = {{f->x.q, (u64)a.at.n_tokens * a.at.stride * 4},
                                              none,
                                              none,
                                              none,
                                              none,
                                              {f->x.table, s.need_bytes[FEW_TABLE]},
                                              {f->x.tokens, s.need_bytes[FEW_TOKENS]},
                                              {f->sinks, a.at.n_heads * 4ull},
                                              {f->x.cache, o.cache_bytes}};
    LB_TRY(launch_few(t, bufs, &a, &o, err));
    compare_heads(t, f, o.out);
    compare_bytes(t, o.cache, f->x.cache, o.cache_bytes);
    return LB_OK;
}

/* ---- attend_few_* that put: the very bytes of rope_store and of what attends behind it ---- */

typedef struct put_case {
    lb_selftest_att_case c; /* of one token */
    u32 pos, n_rot;
    bool pairs, q_norm, k_norm, late, sinks;
} put_case;
#define D 0
static const put_case put_cases[] = {
    {{1, 4, 1, D, D, 2, 0, 64, LB_DEV_F16, 0, false}, 75, 32, false, true, true, false, false},
    {{1, 18, 2, D, D, 5, 0, 96, LB_DEV_F16, 0, false}, 319, 48, true, false, false, false, true},
    {{1, 20, 2, 48, D, 4, 100, 64, LB_DEV_F16, 30, false}, 200, 48, false, false, true, true, true},
    {{1, 8, 1, D, 40, 4, 0, 64, LB_DEV_F16, 0, true}, 255, 0, false, true, false, true, false},
    {{1, 9, 1, 32, 32, 1, 0, 64, LB_DEV_F16, 0, false}, 0, 24, false, true, true, false, false},
    {{1, 2, 1, D, D, 3, 0, 64, LB_DEV_F16, 0, true}, 100, 64, true, true, true, false, false},
};
#undef D

typedef struct put {
    lb_few_args a;
    flash f;
    const float *x, *cos, *sin, *q_w, *k_w;
    float *turned; /* x behind rope_store */
    u8 *cache;     /* the same */
    u32 *place, *tokens;
    u64 x_bytes;
} put;

static bool make_put(lb_selftest *t, const put_case *k, put *p) {
    const u32 d = head_of(t->row->kernel);
    lb_selftest_att_case c = k->c;
    c.k_dim = c.k_dim ? c.k_dim : d;
    c.v_dim = c.v_dim ? c.v_dim : d;
    p->f.few = true;
    if (!lb_selftest_att_make(t, &c, false, &p->f.x))
        return false;
    lb_attend_args *a = &p->f.x.a;
    a->first = 0;
    a->has_sinks = k->sinks;
    lb_rope_store_args *r = &p->a.put;
    *r = (lb_rope_store_args){.n_tokens = 1,
                              .n_heads = c.n_heads,
                              .n_heads_kv = c.n_heads_kv,
                              .k_dim = c.k_dim,
                              .v_dim = c.v_dim,
                              .n_rot = LB_MIN(k->n_rot, c.k_dim),
                              .pairs = k->pairs,
                              .k_first = c.n_heads * c.k_dim + 3,
                              LB_DEV_KV_PLACES(a),
                              .q_norm = k->q_norm,
                              .k_norm = k->k_norm,
                              .late = k->late,
                              .q_w_stride = k->late ? c.k_dim : 0,
                              .k_w_stride = k->late ? c.k_dim : 0,
                              .eps = 1e-5f};
    r->v_first = r->k_first + c.n_heads_kv * c.k_dim + 1;
    r->stride = a->stride = (r->v_first + c.n_heads_kv * c.v_dim + 3) & ~3u;
    p->a.at = *a;
    p->x_bytes = 4ull * a->stride;
    p->x = lb_selftest_floats(t, a->stride, 3);
    p->cos = lb_selftest_floats(t, c.k_dim, 1);
    p->sin = lb_selftest_floats(t, c.k_dim, 1);
    p->q_w = lb_selftest_floats(t, (u64)c.n_heads * c.k_dim, 2);
    p->k_w = lb_selftest_floats(t, (u64)c.n_heads_kv * c.k_dim, 2);
    p->turned = lb_selftest_floats(t, a->stride, 0);
    p->f.sinks = lb_selftest_floats(t, c.n_heads, 4);
    p->cache = lb_arena_push(&t->arena, (u64)a->n_pages * a->page_bytes, 16);
    p->place = lb_arena_new(&t->arena, u32, 1);
    p->tokens = lb_arena_new(&t->arena, u32, 2);
    if (!p->x || !p->cos || !p->sin || !p->q_w || !p->k_w || !p->turned || !p->f.sinks ||
        !p->cache || !p->place || !p->tokens)
        return false;
    p->tokens[0] = LB_MIN(k->pos, c.n_table * LB_DEV_PAGE_ROWS - 1);
    p->tokens[1] = c.hole ? 0 : a->n_seqs - 1; /* the first one's second page is not there */
    const u32 at = p->tokens[1] * a->n_table + p->tokens[0] / LB_DEV_PAGE_ROWS;
    p->place[0] = p->f.x.table[at] * LB_DEV_PAGE_ROWS + p->tokens[0] % LB_DEV_PAGE_ROWS;
    return true;
}

static lb_status check_put(lb_selftest *t, const put_case *k, lb_err *err) {
    put p = {0};
    lb_dev_shape s;
    few_out two, one;
    if (!make_put(t, k, &p))
        return no_memory(err);
    LB_TRY(lb_dev_kernel_shape(t->row->kernel, &p.a, &s, err));
    if (!make_few_out(t, &s, &two) || !make_few_out(t, &s, &one))
        return no_memory(err);
    const lb_rope_store_args *r = &p.a.put;
    const lb_selftest_data cos = {p.cos, r->k_dim * 4ull}, sin = {p.sin, r->k_dim * 4ull};
    const lb_selftest_data q_w = {p.q_w, (u64)r->n_heads * r->k_dim * 4};
    const lb_selftest_data k_w = {p.k_w, (u64)r->n_heads_kv * r->k_dim * 4};
    const lb_selftest_data cache = {p.f.x.cache, two.cache_bytes};
    const lb_selftest_data store[] = {cos, sin, q_w, k_w, {p.place, 4}, {p.x, p.x_bytes}, cache};
    lb_selftest_data bufs[LB_DEV_BUFS_MAX] = {{p.turned, p.x_bytes},
                                              cos,
                                              sin,
                                              q_w,
                                              k_w,
                                              {p.f.x.table, s.need_bytes[FEW_TABLE]},
                                              {p.tokens, 8},
                                              {p.f.sinks, r->n_heads * 4ull},
                                              {p.cache, two.cache_bytes}};
    LB_TRY(lb_selftest_launch_of(t, LB_DK_rope_store, store, r,
                                 (void *const[LB_DEV_BUFS_MAX]){[5] = p.turned, [6] = p.cache},
                                 err));
    const lb_few_args plain = {.at = p.a.at};
    LB_TRY(launch_few(t, bufs, &plain, &two, err));
    bufs[FEW_X].ptr = p.x;
    bufs[FEW_CACHE] = cache;
    LB_TRY(launch_few(t, bufs, &p.a, &one, err));
    for (u64 i = 0; i < one.out_bytes / 4; i++)
        lb_selftest_compare(t, t->at++, one.out[i], (double)two.out[i], 0);
    compare_bytes(t, one.cache, p.cache, one.cache_bytes);
    return LB_OK;
}

static lb_status check_flash(lb_selftest *t, u32 i, lb_err *err) {
    flash f;
    if (!make_flash(t, &flash_cases[i], &f))
        return no_memory(err);
    if (!f.few)
        return check_mma(t, &f, err);
    LB_TRY(check_few(t, &f, err));
    (void)snprintf(t->where, sizeof t->where, "case %u, beside rope_store", i);
    return i < LB_LEN(put_cases) && lb_dev_has(t->dev, LB_DK_rope_store)
               ? check_put(t, &put_cases[i], err)
               : LB_OK;
}

/* ---- rope_store ---- */

typedef struct store_case {
    u32 n_tokens, n_heads, n_heads_kv, k_dim, v_dim, n_rot, type;
    bool pairs, q_norm, k_norm, late;
} store_case;
static const store_case store_cases[] = {
    {1, 4, 2, 64, 64, 64, LB_DEV_F16, false, false, false, false},
    {3, 3, 1, 128, 96, 128, LB_DEV_F16, true, true, true, false},
    {2, 5, 5, 80, 80, 20, LB_DEV_F32, false, true, true, true},
    {9, 2, 1, 24, 40, 16, LB_DEV_F16, true, false, true, false},
    {2, 1, 1, 512, 512, 0, LB_DEV_F32, false, true, false, true},
};

/* Values of a head, and how far each may be off. */
typedef struct store_head {
    double v[LB_DEV_HEAD_MAX], bound[LB_DEV_HEAD_MAX];
} store_head;

static void norm_head(store_head *h, const float *w, u32 n, double eps) {
    double sum = 0, error = 0;
    for (u32 i = 0; i < n; i++) {
        sum += h->v[i] * h->v[i];
        error += 2 * fabs(h->v[i]) * h->bound[i];
    }
    const double scale = 1 / sqrt(sum / n + eps);
    const double relative = (n + 16.0) * ULP + error / (sum + n * eps);
    for (u32 i = 0; i < n; i++) {
        h->bound[i] = fabs(scale * (double)w[i]) * (h->bound[i] + relative * fabs(h->v[i]));
        h->v[i] *= scale * (double)w[i];
    }
}

static void turn_head(store_head *h, const float *cos, const float *sin, u32 n_rot, bool pairs) {
    for (u32 i = 0; i < n_rot / 2; i++) {
        const u32 i0 = pairs ? 2 * i : i, i1 = pairs ? 2 * i + 1 : i + n_rot / 2;
        const double c = (double)cos[i], s = (double)sin[i], u = h->v[i0], v = h->v[i1];
        const double off = (fabs(u) + fabs(v)) * 2 * ULP + h->bound[i0] + h->bound[i1];
        h->v[i0] = u * c - v * s;
        h->v[i1] = v * c + u * s;
        h->bound[i0] = h->bound[i1] = off;
    }
}

/* How far a stored value may be off. */
static double stored_bound(double v, double bound, u32 type) {
    return type == LB_DEV_F32 ? bound : bound + fabs(v) * 0x1p-11 + 0x1p-25;
}

typedef struct store {
    lb_rope_store_args a;
    const float *x, *cos, *sin, *q_w, *k_w;
    const u32 *place;
    float *x_out;
    u8 *cache, *cache_out;
} store;

static void want_head(const store *s, u32 token, u32 head, bool is_q, store_head *h) {
    const lb_rope_store_args *a = &s->a;
    const float *x = s->x + (u64)token * a->stride + (is_q ? 0 : a->k_first) + (u64)head * a->k_dim;
    const float *w = is_q ? s->q_w + head * a->q_w_stride : s->k_w + head * a->k_w_stride;
    const bool normed = is_q ? a->q_norm != 0 : a->k_norm != 0;
    const u64 at = (u64)token * (a->n_rot / 2);
    for (u32 i = 0; i < a->k_dim; i++) {
        h->v[i] = (double)x[i];
        h->bound[i] = 0;
    }
    if (normed && !a->late)
        norm_head(h, w, a->k_dim, (double)a->eps);
    turn_head(h, s->cos + at, s->sin + at, a->n_rot, a->pairs != 0);
    if (normed && a->late)
        norm_head(h, w, a->k_dim, (double)a->eps);
}

static float stored(const u8 *row, u32 i, u32 type) {
    return type == LB_DEV_F32 ? lb_f32_from_bits(lb_load_u32(row + 4ull * i))
                              : lb_f16_to_f32(lb_load_u16(row + 2ull * i));
}

/* A head's row in a page; what was compared there gets the result's bytes. */
static void compare_row(lb_selftest *t, store *s, u64 at, u32 dim, const store_head *h) {
    const u32 size = s->a.type == LB_DEV_F32 ? 4 : 2;
    for (u32 i = 0; i < dim; i++)
        lb_selftest_compare(t, t->at++, stored(s->cache_out + at, i, s->a.type), h->v[i],
                            stored_bound(h->v[i], h->bound[i], s->a.type) + TINY);
    memcpy(s->cache + at, s->cache_out + at, (size_t)dim * size);
}

static void compare_token(lb_selftest *t, store *s, u32 token) {
    const lb_rope_store_args *a = &s->a;
    const u32 page = s->place[token] / LB_DEV_PAGE_ROWS, row = s->place[token] % LB_DEV_PAGE_ROWS;
    store_head h;
    for (u32 i = 0; i < a->n_heads; i++) {
        const float *q = s->x_out + (u64)token * a->stride + (u64)i * a->k_dim;
        want_head(s, token, i, true, &h);
        for (u32 e = 0; e < a->k_dim; e++)
            lb_selftest_compare(t, t->at++, q[e], h.v[e], h.bound[e] + TINY);
    }
    for (u32 i = 0; i < a->n_heads_kv && page < a->n_pages; i++) {
        const u64 line = (u64)i * LB_DEV_PAGE_ROWS + row, base = (u64)page * a->page_bytes;
        want_head(s, token, i, false, &h);
        compare_row(t, s, base + a->k_off + line * a->k_bytes, a->k_dim, &h);
        for (u32 e = 0; e < a->v_dim; e++) {
            h.v[e] = (double)s->x[(u64)token * a->stride + a->v_first + i * a->v_dim + e];
            h.bound[e] = 0;
        }
        compare_row(t, s, base + a->v_off + line * a->v_bytes, a->v_dim, &h);
    }
}

static bool make_store(lb_selftest *t, const store_case *k, store *s) {
    const u32 size = k->type == LB_DEV_F32 ? 4 : 2;
    s->a = (lb_rope_store_args){.n_tokens = k->n_tokens,
                                .n_heads = k->n_heads,
                                .n_heads_kv = k->n_heads_kv,
                                .k_dim = k->k_dim,
                                .v_dim = k->v_dim,
                                .n_rot = k->n_rot,
                                .pairs = k->pairs,
                                .k_first = k->n_heads * k->k_dim + 3,
                                .k_off = 64,
                                .k_bytes = (k->k_dim * size + 15) & ~15u,
                                .v_bytes = (k->v_dim * size + 15) & ~15u,
                                .n_pages = 2,
                                .type = k->type,
                                .q_norm = k->q_norm,
                                .k_norm = k->k_norm,
                                .late = k->late,
                                .q_w_stride = k->late ? k->k_dim : 0,
                                .k_w_stride = k->late ? k->k_dim : 0,
                                .eps = 1e-5f};
    lb_rope_store_args *a = &s->a;
    a->v_first = a->k_first + a->n_heads_kv * a->k_dim + 1;
    a->stride = a->v_first + a->n_heads_kv * a->v_dim + 2;
    a->v_off = a->k_off + a->n_heads_kv * LB_DEV_PAGE_ROWS * a->k_bytes + 32;
    a->page_bytes = a->v_off + a->n_heads_kv * LB_DEV_PAGE_ROWS * a->v_bytes + 16;
    const u64 bytes = (u64)a->n_pages * a->page_bytes, n = (u64)a->n_tokens * a->stride;
    const u64 n_angles = (u64)a->n_tokens * (a->n_rot / 2);
    u32 *place = lb_arena_new(&t->arena, u32, a->n_tokens);
    s->x = lb_selftest_floats(t, n, 3);
    s->cos = lb_selftest_floats(t, n_angles + 1, 1);
    s->sin = lb_selftest_floats(t, n_angles + 1, 1);
    s->q_w = lb_selftest_floats(t, (u64)a->n_heads * a->k_dim, 2);
    s->k_w = lb_selftest_floats(t, (u64)a->n_heads_kv * a->k_dim, 2);
    s->x_out = lb_selftest_floats(t, n, 0);
    s->cache = lb_arena_push(&t->arena, bytes, 16);
    s->cache_out = lb_arena_push(&t->arena, bytes, 16);
    s->place = place;
    if (!place || !s->x || !s->cos || !s->sin || !s->q_w || !s->k_w || !s->x_out || !s->cache ||
        !s->cache_out)
        return false;
    for (u64 i = 0; i < bytes; i++)
        s->cache[i] = (u8)(lb_selftest_u32(t) >> 9);
    for (u32 i = 0; i < a->n_tokens; i++) /* all different, over a page's limit */
        place[i] = 60 + i;
    if (a->n_tokens > 4)
        place[a->n_tokens - 1] = a->n_pages * LB_DEV_PAGE_ROWS; /* not there */
    return true;
}

static lb_status check_rope_store(lb_selftest *t, const store_case *k, lb_err *err) {
    store s;
    if (!make_store(t, k, &s))
        return no_memory(err);
    const lb_rope_store_args *a = &s.a;
    const u64 bytes = (u64)a->n_pages * a->page_bytes, n = (u64)a->n_tokens * a->stride;
    const u64 angles = (u64)a->n_tokens * (a->n_rot / 2) * 4;
    const lb_selftest_data bufs[] = {{s.cos, angles},
                                     {s.sin, angles},
                                     {s.q_w, (u64)a->n_heads * a->k_dim * 4},
                                     {s.k_w, (u64)a->n_heads_kv * a->k_dim * 4},
                                     {s.place, a->n_tokens * 4ull},
                                     {s.x, n * 4},
                                     {s.cache, bytes}};
    void *const outs[] = {[5] = s.x_out, [6] = s.cache_out};
    LB_TRY(lb_selftest_launch_all(t, bufs, a, outs, err));
    for (u32 i = 0; i < a->n_tokens; i++)
        compare_token(t, &s, i);
    for (u64 i = 0; i < bytes; i++) /* all else is as it was */
        lb_selftest_compare(t, t->at++, (float)s.cache_out[i], (double)s.cache[i], 0);
    for (u64 i = 0; i < n; i++)
        if (i % a->stride >= (u64)a->n_heads * a->k_dim)
            lb_selftest_compare(t, t->at++, s.x_out[i], (double)s.x[i], 0);
    return LB_OK;
}

lb_status lb_selftest_flash(lb_selftest *t, u32 i, bool *more, lb_err *err) {
    (void)snprintf(t->where, sizeof t->where, "case %u", i);
    if (t->row->kernel == LB_DK_rope_store) {
        *more = i + 1 < LB_LEN(store_cases);
        return check_rope_store(t, &store_cases[i], err);
    }
    *more = i + 1 < LB_LEN(flash_cases) && (t->opts->large || !flash_cases[i + 1].large);
    return check_flash(t, i, err);
}
