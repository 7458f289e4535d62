/* SPDX-License-Identifier: Apache-2.0 */
/* refine_blocks.c: blocks of one scale, and blocks whose groups have scales (and minimums) as codes
 * of the block's.
 *
 * The latter from two starts: what the quantizer made, and each group's own best line. Then in
 * turn: for every group the codes of scale and minimum from which no neighbour leads on, with the
 * values' codes for each; for the block the scales by least squares. */
#include "kernel/refine.h"
#include "kernel/refine_blocks.h"
#include "kernel/refine_iq.h"

#define ROUNDS 6

typedef struct block {
    const lb_form *f;
    const float *x, *w; /* in units in which the largest magnitudes are 1..2 */
    float unit;         /* what is stored = unit * x */
    lb_parts p;
    float error; /* of p */
} block;

static u32 n_groups(const block *b) {
    return b->f->n / b->f->group;
}

static float fit_group(const block *b, const lb_parts *p, u32 j, i32 sc, i32 m, float *y) {
    const size_t n = b->f->group;
    return lb_fit_levels(&b->f->levels, n, b->x + n * j, b->w + n * j, p->d / b->unit * (float)sc,
                         p->dmin / b->unit * (float)m, y);
}

/* ---- the codes of one group ---- */

typedef struct spot {
    i32 sc, m;
    float error;
    float y[32];
} spot;

static void look_at(const block *b, const lb_parts *p, u32 j, i32 sc, i32 m, spot *best) {
    spot s;
    if (sc < b->f->sc_lo || sc > b->f->sc_hi || m < 0 || m > b->f->m_hi)
        return;
    s.sc = sc;
    s.m = m;
    s.error = fit_group(b, p, j, sc, m, s.y);
    if (s.error < best->error)
        *best = s;
}

/* From (sc, m) to neighbours as long as one of them is better. */
static void walk(const block *b, lb_parts *p, u32 j, i32 sc, i32 m, spot *best) {
    spot at = {.error = INFINITY};
    const bool both = b->f->m_hi > 0;
    look_at(b, p, j, sc, m, &at);
    for (u32 steps = 0; steps < 24; steps++) {
        const i32 s0 = at.sc, m0 = at.m;
        for (i32 ds = -1; ds <= 1; ds++)
            for (i32 dm = both ? -1 : 0; dm <= (both ? 1 : 0); dm++)
                if (ds || dm)
                    look_at(b, p, j, s0 + ds, m0 + dm, &at);
        if (!both) {
            look_at(b, p, j, s0 - 2, 0, &at);
            look_at(b, p, j, s0 + 2, 0, &at);
        }
        if (at.sc == s0 && at.m == m0)
            break;
    }
    if (at.error < best->error)
        *best = at;
}

/* Codes of all groups by the block's scales, from those that there are. */
static float walk_all(const block *b, lb_parts *p) {
    float error = 0;
    for (u32 j = 0; j < n_groups(b); j++) {
        spot best = {.error = INFINITY};
        walk(b, p, j, p->sc[j], p->m[j], &best);
        if (b->f->sc_lo < 0) /* levels are not symmetric */
            walk(b, p, j, LB_MIN(-p->sc[j], b->f->sc_hi), 0, &best);
        if (best.error == INFINITY)
            return INFINITY;
        p->sc[j] = best.sc;
        p->m[j] = best.m;
        memcpy(p->y + b->f->group * j, best.y, b->f->group * sizeof best.y[0]);
        error += best.error;
    }
    return error;
}

/* ---- the block's scales ---- */

/* x = d * (sc y) + dmin * (-m) over all groups, by least squares. */
static bool fit_scales(const block *b, lb_parts *p) {
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (u32 j = 0; j < n_groups(b); j++) {
        const size_t n = b->f->group;
        const lb_sums t = lb_fit_sums(n, b->x + n * j, b->w + n * j, p->y + n * j);
        const double sc = p->sc[j], m = b->f->m_hi ? -(double)p->m[j] : 0;
        aa += sc * sc * (double)t.yy;
        ab += sc * m * (double)t.y;
        bb += m * m * (double)t.w;
        ax += sc * (double)t.xy;
        bx += m * (double)t.x;
    }
    const double det = aa * bb - ab * ab;
    double d, dmin = 0;
    if (b->f->m_hi && det > 1e-9 * aa * bb) {
        d = (bb * ax - ab * bx) / det;
        dmin = (aa * bx - ab * ax) / det;
        if (dmin < 0)
            return false;
    } else if (aa > 0) {
        d = (ax - ab * (double)p->dmin / (double)b->unit) / aa;
        dmin = (double)p->dmin / (double)b->unit;
    } else {
        return false;
    }
    p->d = lb_stored_f16((float)d * b->unit);
    p->dmin = b->f->m_hi ? lb_stored_f16((float)dmin * b->unit) : 0;
    return p->d - p->d == 0 && p->dmin - p->dmin == 0;
}

static void descend(block *b, lb_parts p) {
    for (u32 i = 0; i < ROUNDS; i++) {
        const float error = walk_all(b, &p);
        if (!(error < b->error) && i)
            return;
        if (error < b->error) {
            b->p = p;
            b->error = error;
        }
        if (!fit_scales(b, &p))
            return;
    }
}

/* Every group's own line. */
typedef struct lines {
    float s[16], off[16];
    float most, most_off; /* the scale of the largest magnitude, the largest offset */
} lines;

static lines lines_of(const block *b) {
    lines l = {.most = 0};
    for (u32 j = 0; j < n_groups(b); j++) {
        const size_t n = b->f->group;
        lb_group_fit g = {.levels = &b->f->levels,
                          .n = n,
                          .x = b->x + n * j,
                          .w = b->w + n * j,
                          .unit = 1,
                          .stored = lb_stored_f32,
                          .affine = b->f->m_hi > 0,
                          .error = INFINITY};
        lb_refine_group(&g);
        l.s[j] = g.s;
        l.off[j] = g.off;
        l.most = fabsf(g.s) > fabsf(l.most) ? g.s : l.most;
        l.most_off = g.off > l.most_off ? g.off : l.most_off;
    }
    return l;
}

/* Scales of the block whose codes reach the largest of the groups', times stretch. */
static void start_anew(block *b, const lines *l, float stretch) {
    lb_parts p = {0};
    const float top = (float)(b->f->sc_lo < 0 ? b->f->sc_lo : b->f->sc_hi);
    p.d = lb_stored_f16(l->most / top * stretch * b->unit);
    p.dmin = b->f->m_hi ? lb_stored_f16(l->most_off / (float)b->f->m_hi * stretch * b->unit) : 0;
    if (p.d == 0 || !(p.d - p.d == 0) || !(p.dmin - p.dmin == 0))
        return;
    for (u32 j = 0; j < n_groups(b); j++) {
        const float d = p.d / b->unit, dmin = p.dmin / b->unit;
        p.sc[j] = lb_clamp(lb_nearest(l->s[j] / d), b->f->sc_lo, b->f->sc_hi);
        p.m[j] = dmin > 0 ? lb_clamp(lb_nearest(l->off[j] / dmin), 0, b->f->m_hi) : 0;
    }
    descend(b, p);
}

static void refine_two_levels(block *b) {
    lb_parts p = b->p;
    b->error = 0;
    for (u32 j = 0; j < n_groups(b); j++) {
        float y[32];
        b->error += fit_group(b, &p, j, p.sc[j], p.m[j], y);
        memcpy(b->p.y + b->f->group * j, y, b->f->group * sizeof y[0]);
    }
    descend(b, b->p);
    const lines l = lines_of(b);
    start_anew(b, &l, 1);
    start_anew(b, &l, 0.96f);
}

static void refine_one_scale(block *b) {
    lb_group_fit g = {.levels = &b->f->levels,
                      .n = b->f->n,
                      .x = b->x,
                      .w = b->w,
                      .unit = b->unit,
                      .stored = lb_stored_f16,
                      .affine = b->f->offset,
                      .s = b->p.d / b->unit,
                      .off = b->p.dmin / b->unit};
    g.error = lb_fit_levels(g.levels, g.n, g.x, g.w, g.s, g.off, g.y);
    if (!(g.error - g.error == 0))
        g.error = INFINITY;
    lb_refine_group(&g);
    b->p.d = g.s * b->unit;
    b->p.dmin = g.off * b->unit;
    memcpy(b->p.y, g.y, g.n * sizeof g.y[0]);
}

/* ---- all types ---- */

/* Weighted squared error of what the block decodes to. */
static double error_of(lb_decode_fn *decode, size_t n, const u8 *bytes, const float *x,
                       const float *w) {
    float out[LB_QK];
    double sum = 0;
    decode(n, out, bytes);
    for (size_t i = 0; i < n; i++) {
        const double e = (double)out[i] - (double)x[i];
        sum += (w ? (double)w[i] : 1) * e * e;
    }
    return sum;
}

static void refine_block(const lb_form *f, const float *x, const float *w, float unit, u8 *bytes) {
    block b = {.f = f, .x = x, .w = w, .unit = unit};
    f->open(f, bytes, &b.p);
    if (f->sc_lo == f->sc_hi)
        refine_one_scale(&b);
    else
        refine_two_levels(&b);
    f->close(f, &b.p, bytes);
}

bool lb_refine_has(lb_dtype t) {
    return lb_form_of(t) || lb_refine_iq_has(t) || t == LB_MXFP4 || t == LB_NVFP4;
}

void lb_refine_blocks(const lb_kernels *k, lb_dtype t, size_t n_elems, void *blocks,
                      const float *in, const float *importance) {
    const lb_dtype_info *info = lb_dtype_get(t);
    const size_t n = info->block_elems, size = info->block_bytes;
    const lb_form *f = lb_form_of(t);
    lb_decode_fn *decode = lb_kernels_decode(k, t);
    lb_refine_iq iq;
    if (!lb_refine_has(t))
        return;
    if (lb_refine_iq_has(t))
        lb_refine_iq_init(&iq, t);
    u8 *y = blocks;
    for (size_t at = 0; at < n_elems; at += n, y += size) {
        float x[LB_QK], w[LB_QK];
        u8 trial[256];
        const float *of = importance ? importance + at : NULL;
        const float unit = lb_refine_unit(n, in + at), weight = of ? lb_refine_unit(n, of) : 1;
        for (size_t i = 0; i < n; i++) {
            x[i] = in[at + i] * unit;
            w[i] = of ? of[i] * weight : 1;
        }
        memcpy(trial, y, size);
        if (t == LB_IQ3_S)
            lb_refine_iq3s_places(x, trial);
        if (f)
            refine_block(f, x, w, 1 / unit, trial);
        else if (lb_refine_iq_has(t))
            lb_refine_iq_block(&iq, x, w, 1 / unit, trial);
        else
            lb_refine_fp_block(t, x, w, 1 / unit, trial);
        const double before = error_of(decode, n, y, in + at, of);
        const double after = error_of(decode, n, trial, in + at, of);
        if (after < before || (before != before && after == after))
            memcpy(y, trial, size);
    }
}
