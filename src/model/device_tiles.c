/* SPDX-License-Identifier: Apache-2.0 */
/* device_tiles.c: products of prompts on devices that multiply tiles of f16 (kern/args.h): tokens
 * become tiles once for all products that read them, a matrix at a time is unpacked to scratch, and
 * the two are multiplied. Gate and up become the operand of down at once.
 *
 * Scratch has two slots, so that the next strip of rows may be unpacked beside a product. What is
 * stored as f32 and matrices of few rows go the usual way: their products stay f32. Experts have a
 * file of their own (device_experts.c). */
#include "model/device_tiles.h"

#define ROWS_MIN 64u

bool lb_dtile_fits(const lb_mat *m) {
    return m->n_rows >= ROWS_MIN && m->n_cols >= LB_DEV_TILE_COLS &&
           !(m->kind == LB_ENC_PLAIN && m->dtype == LB_F32);
}

static void widen(lb_dtile_sizes *s, const lb_linear *l) {
    for (u32 i = 0; l->w && l->w->n_stack == 1 && i < l->w->n_mats; i++) {
        const lb_mat *m = &l->w->mats[i];
        if (!lb_dtile_fits(m))
            continue;
        s->slot =
            LB_MAX(s->slot, lb_dev_tile_bytes((u32)m->n_rows, (u32)m->n_cols, LB_DEV_TILE_PAD));
        s->n_cols = LB_MAX(s->n_cols, (u32)l->w->n_cols);
    }
}

/* Of the layers: rows of the output go by in strips. */
static lb_dtile_sizes sizes_of(const lb_model *m) {
    lb_dtile_sizes s = {0};
    for (u32 i = 0; i < m->p.n_layers; i++) {
        const lb_layer *l = &m->layer[i];
        const lb_linear *const all[] = {
            &l->qkv,       &l->q,           &l->k,    &l->v,     &l->o,       &l->q_a,
            &l->q_b,       &l->kv_a,        &l->kv_b, &l->in,    &l->out,     &l->gate_z,
            &l->gate,      &l->up,          &l->down, &l->ba,    &l->in_gate, &l->gate_shared,
            &l->up_shared, &l->down_shared, &l->beta, &l->alpha, &l->in_proj};
        for (u32 k = 0; k < LB_LEN(all); k++)
            widen(&s, all[k]);
        if (l->down.w)
            s.n_ff = LB_MAX(s.n_ff, (u32)l->down.w->n_cols);
        if (l->down_shared.w)
            s.n_ff = LB_MAX(s.n_ff, (u32)l->down_shared.w->n_cols);
    }
    return s;
}

lb_dtile_sizes lb_dtile_sizes_of(const lb_context *c) {
    const lb_resident *r = c->device->r;
    const u32 from = lb_dev_info_get(r->d)->tuning.gemm;
    const bool taken = from && c->o.n_batch >= from && c->o.acts != LB_ACTS_EXACT && !r->no_tiles &&
                       lb_dev_has(r->d, LB_DK_gemm) && lb_dev_has(r->d, LB_DK_gemm_gated);
    lb_dtile_sizes s = {0};
    if (taken) {
        s = sizes_of(c->m);
        lb_dexperts_sizes(c, c->o.n_batch, &s);
    }
    return s;
}

bool lb_dtiled(const lb_context *c, u32 n) {
    const lb_dev *d = c->device->r->d;
    return c->device->slot_bytes && n >= lb_dev_info_get(d)->tuning.gemm &&
           lb_dev_has(d, LB_DK_gemm) && lb_dev_has(d, LB_DK_gemm_gated) &&
           lb_dev_has(d, LB_DK_tile_rows);
}

/* Of b, whose slots are not the whole. */
static bool has_room(const lb_context *c, lb_dbuf b, u32 n, u32 n_cols) {
    return lb_dev_tile_bytes(n, n_cols, LB_DEV_TILE_ROWS) <= lb_dev_buf_bytes(c->device->buf[b]);
}

/* Rows of a strip. */
static u32 strip_rows(const lb_context *c, u32 n_cols) {
    const u64 n = c->device->slot_bytes / lb_dev_tile_bytes(LB_DEV_TILE_PAD, n_cols, 1);
    return (u32)LB_MIN(n * LB_DEV_TILE_PAD, (u64)INT32_MAX);
}

bool lb_dmat_tiled(const lb_context *c, const lb_dmat *m) {
    return m->args.n_rows >= ROWS_MIN && m->args.n_cols >= LB_DEV_TILE_COLS &&
           m->kernel[LB_DEV_UNPACK] != LB_DK_unpack_f32 &&
           lb_dev_has(c->device->r->d, m->kernel[LB_DEV_UNPACK]) &&
           strip_rows(c, m->args.n_cols) > 0;
}

bool lb_dlinear_tiled(const lb_context *c, const lb_dlinear *l, u32 n) {
    bool fits = l->parts && lb_dtiled(c, n) && has_room(c, LB_DBUF_TILES, n, l->n_cols);
    for (u32 i = 0; fits && i < l->n_parts; i++)
        fits = lb_dmat_tiled(c, &l->parts[i]);
    return fits;
}

/* ---- operands ---- */

typedef struct operand {
    lb_dbuf tiles;
    float scale; /* 0: LB_DBUF_POWERS has one of each token */
} operand;

lb_status lb_dtile_rows(const lb_context *c, const lb_dinput *in, u32 n, u32 n_cols, lb_err *err) {
    const bool norm = in->pre == LB_DEV_PRE_NORM;
    const lb_tile_args a = {.n_tokens = n,
                            .n_cols = n_cols,
                            .x_stride = in->stride ? in->stride : n_cols,
                            .norm = norm,
                            .eps = c->m->p.eps};
    const lb_dev_arg buf[] = {in->x, norm ? in->w : c->device->r->zeros,
                              lb_dbuf_arg(c, LB_DBUF_TILES), lb_dbuf_arg(c, LB_DBUF_POWERS)};
    return lb_dlaunch(c, LB_DK_tile_rows, buf, &a, err);
}

static lb_dev_arg slot_arg(const lb_context *c, u32 slot) {
    return (lb_dev_arg){c->device->buf[LB_DBUF_SLOTS], slot * c->device->slot_bytes};
}

static lb_status unpack(const lb_context *c, const lb_dmat *m, u32 first, u32 n, lb_dev_arg to,
                        lb_err *err) {
    const lb_unpack_args a = {.n_rows = m->args.n_rows,
                              .n_cols = m->args.n_cols,
                              .group_elems = m->args.group_elems,
                              .scale_type = m->args.scale_type,
                              .scale_rows = m->args.scale_rows,
                              .first = first,
                              .n = n};
    lb_dev_arg buf[LB_DEV_BUFS_MAX];
    const u32 at = lb_dmat_args(m, buf);
    buf[at] = to;
    return lb_dlaunch(c, m->kernel[LB_DEV_UNPACK], buf, &a, err);
}

/* ---- products ---- */

/* Rows that lie unpacked in a slot, until they are multiplied: of one matrix, or of several whose
 * results are neighbours. */
typedef struct strip {
    const lb_dproduct *p; /* the first one's; NULL: none */
    u32 n, y_first, slot;
    float times;
} strip;

/* A barrier stands between the unpacking and this, which the next strip's may run beside. */
static lb_status multiply(const lb_context *c, const operand *x, strip *s, lb_err *err) {
    const lb_dproduct *p = s->p;
    if (!p)
        return LB_OK;
    lb_gemm_args a = {.n_tokens = p->n,
                      .n_rows = s->n,
                      .n_cols = p->l->n_cols,
                      .y_first = s->y_first,
                      .y_stride = p->stride,
                      .add = p->out.sum,
                      .times = s->times,
                      .add_times = p->out.times,
                      .add_scale = p->out.scale,
                      .a_scale = x->scale};
    const lb_dev_arg buf[] = {lb_dbuf_arg(c, x->tiles), lb_dbuf_arg(c, LB_DBUF_POWERS),
                              slot_arg(c, s->slot), p->out.y, lb_dbuf_arg(c, LB_DBUF_JOIN)};
    a.parts = lb_dev_gemm_parts(lb_dev_info_get(c->device->r->d), &a);
    s->p = NULL;
    LB_TRY(lb_dbarrier(c, err));
    return lb_dlaunch(c, LB_DK_gemm, buf, &a, err);
}

static bool same_arg(lb_dev_arg a, lb_dev_arg b) {
    return a.buf == b.buf && a.off_bytes == b.off_bytes;
}

static bool same_float(float a, float b) {
    return lb_f32_bits(a) == lb_f32_bits(b);
}

/* Whether m's rows, of p and to y_first on, can follow those of a strip of the same input: one
 * product of more rows keeps a device busier than two. */
static bool follows(const strip *s, const lb_dproduct *p, const lb_dmat *m, u32 y_first, u32 most) {
    const lb_doutput *a = s->p ? &s->p->out : NULL, *b = &p->out;
    return a && s->n % LB_DEV_TILE_PAD == 0 && m->args.n_rows <= most - s->n &&
           y_first == s->y_first + s->n && same_float(m->args.times, s->times) &&
           same_arg(a->y, b->y) && s->p->stride == p->stride && a->sum == b->sum &&
           same_float(a->times, b->times) && same_float(a->scale, b->scale);
}

/* Unpacks the product's rows strip by strip; each is multiplied when the next one is unpacked, the
 * last one by the caller. */
static lb_status run_product(const lb_context *c, const operand *x, const lb_dproduct *p,
                             strip *last, lb_err *err) {
    const u32 most = strip_rows(c, p->l->n_cols);
    u32 y_first = p->first;
    for (u32 i = 0; i < p->l->n_parts; i++) {
        const lb_dmat *m = &p->l->parts[i];
        if (follows(last, p, m, y_first, most)) {
            lb_dev_arg to = slot_arg(c, last->slot);
            to.off_bytes += lb_dev_tile_bytes(last->n, p->l->n_cols, LB_DEV_TILE_PAD);
            LB_TRY(unpack(c, m, 0, m->args.n_rows, to, err));
            last->n += m->args.n_rows;
            y_first += m->args.n_rows;
            continue;
        }
        for (u32 first = 0, n; first < m->args.n_rows; first += n, y_first += n) {
            const u32 slot = last->slot ^ 1u;
            n = LB_MIN(most, m->args.n_rows - first);
            LB_TRY(multiply(c, x, last, err));
            LB_TRY(unpack(c, m, first, n, slot_arg(c, slot), err));
            *last = (strip){p, n, y_first, slot, m->args.times};
        }
    }
    return LB_OK;
}

static bool same_input(const lb_dproduct *a, const lb_dproduct *b) {
    return same_arg(a->in.x, b->in.x) && a->in.pre == b->in.pre && same_arg(a->in.w, b->in.w) &&
           a->in.stride == b->in.stride && a->n == b->n && a->l->n_cols == b->l->n_cols;
}

/* Where not all products that read a norm can be tiled, it becomes rows. */
static lb_status norm_first(const lb_context *c, lb_dproduct *p, lb_err *err) {
    const lb_row_args a = {p->n, p->l->n_cols, c->m->p.eps};
    const lb_dev_arg h = lb_dbuf_arg(c, LB_DBUF_H);
    LB_TRY(lb_dlaunch(c, LB_DK_rms_norm, (lb_dev_arg[]){p->in.x, p->in.w, h}, &a, err));
    p->in = (lb_dinput){.x = h};
    return lb_dbarrier(c, err);
}

static lb_status run_tiled(const lb_context *c, const lb_dproduct *p, const bool *fits, u32 n,
                           lb_err *err) {
    const operand x = {.tiles = LB_DBUF_TILES};
    const lb_dproduct *tiled = NULL;
    strip last = {0};
    for (u32 i = 0; i < n; i++) {
        if (!fits[i])
            continue;
        if (!tiled || !same_input(tiled, &p[i])) {
            LB_TRY(multiply(c, &x, &last, err));
            if (tiled)
                LB_TRY(lb_dbarrier(c, err));
            LB_TRY(lb_dtile_rows(c, &p[i].in, p[i].n, p[i].l->n_cols, err));
            tiled = &p[i];
        }
        LB_TRY(run_product(c, &x, &p[i], &last, err));
    }
    LB_TRY(multiply(c, &x, &last, err));
    return lb_dbarrier(c, err);
}

lb_status lb_dproject_tiled(const lb_context *c, const lb_dproduct *p, u32 n, lb_err *err) {
    lb_dproduct own[LB_DTILED_MAX];
    bool fits[LB_DTILED_MAX], all = true, any = false;
    LB_ASSERT(n <= LB_DTILED_MAX);
    for (u32 i = 0; i < n; i++) {
        own[i] = p[i];
        fits[i] = lb_dlinear_tiled(c, p[i].l, p[i].n) && p[i].in.pre <= LB_DEV_PRE_NORM &&
                  p[i].in.stride % 4 == 0;
        all &= fits[i];
        any |= fits[i];
    }
    for (u32 i = 0; i < n && !all; i++) {
        if (own[i].in.pre != LB_DEV_PRE_NORM)
            continue;
        if (i && same_input(&p[i], &p[0]))
            own[i].in = own[0].in;
        else
            LB_TRY(norm_first(c, &own[i], err));
    }
    if (any)
        LB_TRY(run_tiled(c, own, fits, n, err));
    for (u32 i = 0; i < n; i++)
        if (!fits[i])
            LB_TRY(lb_dproject_plain(c, &own[i], 1, err));
        else
            LB_TRY(lb_dadd_bias(c, &own[i], err));
    return lb_dbarrier(c, err);
}

/* ---- gate and up ---- */

bool lb_dgated_tiled(const lb_context *c, const lb_dgated *g) {
    const lb_dlinear *up = g->up, *gate = g->fused ? up : g->gate;
    const u32 n_ff = g->down->n_cols;
    return lb_dtiled(c, g->n) && !c->o.sums && gate->parts && lb_dlinear_tiled(c, gate, g->n) &&
           lb_dlinear_tiled(c, up, g->n) && lb_dlinear_tiled(c, g->down, g->n) &&
           gate->n_parts == 1 && up->n_parts == 1 && !gate->bias.buf && !up->bias.buf &&
           n_ff <= strip_rows(c, up->n_cols) && has_room(c, LB_DBUF_GATED, g->n, n_ff) &&
           g->in.pre <= LB_DEV_PRE_NORM && g->in.stride % 4 == 0;
}

/* Its tiles are down's operand. */
static lb_status activate(const lb_context *c, const lb_dgated *g, lb_err *err) {
    const lb_dmat *up = g->up->parts, *gate = g->fused ? up : g->gate->parts;
    const u32 n_ff = g->down->n_cols;
    const lb_gemm_args a = {.n_tokens = g->n,
                            .n_rows = n_ff,
                            .n_cols = up->args.n_cols,
                            .times = gate->args.times,
                            .add_times = up->args.times,
                            .act = g->act,
                            .alpha = LB_OAI_ALPHA,
                            .limit = LB_OAI_LIMIT};
    const lb_dev_arg buf[] = {lb_dbuf_arg(c, LB_DBUF_TILES), lb_dbuf_arg(c, LB_DBUF_POWERS),
                              slot_arg(c, 0), slot_arg(c, 1), lb_dbuf_arg(c, LB_DBUF_GATED)};
    LB_TRY(lb_dtile_rows(c, &g->in, g->n, up->args.n_cols, err));
    LB_TRY(unpack(c, gate, 0, n_ff, slot_arg(c, 0), err));
    LB_TRY(unpack(c, up, g->fused ? n_ff : 0, n_ff, slot_arg(c, 1), err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dlaunch(c, LB_DK_gemm_gated, buf, &a, err));
    return lb_dbarrier(c, err);
}

lb_status lb_dgated_run(const lb_context *c, const lb_dgated *g, lb_err *err) {
    const operand x = {LB_DBUF_GATED, LB_DEV_GATED_SCALE};
    const lb_dproduct down = {
        .l = g->down, .out = g->out, .n = g->n, .first = 0, .stride = c->m->p.n_embd};
    strip last = {0};
    LB_TRY(activate(c, g, err));
    LB_TRY(run_product(c, &x, &down, &last, err));
    LB_TRY(multiply(c, &x, &last, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dadd_bias(c, &down, err));
    return g->down->bias.buf ? lb_dbarrier(c, err) : LB_OK;
}
