/* SPDX-License-Identifier: Apache-2.0 */
/* eval.c: evaluates the instances of a pass on one tile, strip by strip. */
#include "plan/eval.h"
#include "kernel/divergence.h"
#include "kernel/finite.h"
#include "kernel/half.h"
#include "kernel/rank.h"
#include "kernel/select_nm.h"
#include "kernel/variance.h"
#include "plan/compare.h"
#include "plan/dense.h"
#include "plan/draw.h"
#include "plan/measure.h"
#include <math.h>

void lb_eval_layout(lb_eval *e) {
    (void)lb_tile_layout(e->pass, e->tile, e->leaf, e->inst_off);
}

/* A tile is whole rows or a stretch of one: its numbers follow each other. */
void lb_eval_draw(const lb_eval *e, lb_mt19937 *m) {
    u64 n_elems = e->tile.nr * e->tile.nc;
    for (u32 i = 0; i < e->pass->n_insts; i++) {
        const lb_inst *x = &e->pass->insts[i];
        if (!lb_inst_draws(x))
            continue;
        u8 *out = e->slab + e->inst_off[i];
        lb_mt19937_seek(&m[x->mask], e->k, lb_inst_first_draw(x, e->tile));
        if (x->node->op == LB_MAKE_UNIFORM)
            lb_mt19937_uniform(&m[x->mask], e->k, n_elems, (float *)(void *)out);
        else
            lb_mt19937_mask(&m[x->mask], e->k, n_elems, lb_mt19937_below((float)x->node->u.make.p),
                            out);
    }
}

static float *slot(const lb_eval *e, u32 inst) {
    return e->slots + e->pass->insts[inst].slot * e->pass->slot_elems;
}

static lb_rect inst_rect(const lb_eval *e, u32 inst, lb_rect strip) {
    const lb_inst *x = &e->pass->insts[inst];
    (void)e;
    return lb_frame_rect(&x->frame, strip);
}

/* ---- decode ---- */

typedef struct piece {
    const lb_leaf *leaf;
    const lb_layout_leaf *at;
    const lb_inst *inst;
    const u8 *part[LB_PARTS_MAX];
} piece;

static piece piece_of(const lb_eval *e, const lb_inst *x) {
    return (piece){.leaf = &e->pass->leaves[x->leaf], .at = &e->leaf[x->leaf], .inst = x};
}

/* The parts of row `row` of what the instance sees, column c of the read node (a multiple of the
 * unit). */
static void locate(const lb_eval *e, piece *p, u64 row, u64 col) {
    const lb_codec *c = &p->leaf->codec;
    if (p->inst->picks)
        row = row * p->leaf->per_row + p->inst->pick;
    u64 in_tile = row - p->at->rect.r0, unit = (col - p->at->rect.c0) / c->unit_elems;
    for (u32 k = 0; k < c->n_parts; k++) {
        p->part[k] = e->slab + p->at->part_off[k];
        if (c->part[k].kind == LB_PART_ROWS)
            p->part[k] += in_tile * p->at->row_bytes[k] + unit * c->part[k].unit_bytes;
        else
            p->part[k] +=
                lb_moves_row(&p->leaf->moves, row) / c->rows_per_mat * c->part[k].unit_bytes;
    }
}

/* The same for what is decoded a row at a time: from any column on. */
static lb_codec_row locate_row(const lb_eval *e, const piece *p, u64 row, lb_rect r) {
    const lb_codec *c = &p->leaf->codec;
    const lb_layout_leaf *at = p->at;
    u64 in_tile = row - at->rect.r0, stored = lb_moves_row(&p->leaf->moves, row);
    lb_codec_row x = {.row = stored, .col = r.c0, .n = r.nc};
    for (u32 k = 0; k < c->n_parts; k++) {
        const lb_codec_part *part = &c->part[k];
        const u8 *q = e->slab + at->part_off[k];
        lb_rect one = {stored, 1, at->rect.c0, 1};
        if (part->kind == LB_PART_ROWS)
            q += in_tile * at->row_bytes[k] + (r.c0 - at->rect.c0) * part->unit_bytes;
        else if (part->kind == LB_PART_MAT)
            q += stored / c->rows_per_mat * part->unit_bytes;
        else if (p->leaf->moves.n)
            q += in_tile * lb_leaf_copy_bytes(p->leaf, k, at->row_bytes[k]) +
                 lb_codec_offset(c, k, one, stored, r.c0, at->row_bytes[k]);
        else
            q += lb_codec_offset(c, k, at->rect, row, r.c0, at->row_bytes[k]);
        x.part[k] = q;
        x.stride[k] = at->row_bytes[k];
    }
    return x;
}

static bool has_mats(const lb_codec *c) {
    for (u32 k = 0; k < c->n_parts; k++)
        if (c->part[k].kind == LB_PART_MAT)
            return true;
    return false;
}

/* Rows of the strip, from the range of the file's columns in which they lie. */
static void run_decode_rect(lb_eval *e, const piece *p, lb_rect r, float *out) {
    const lb_leaf *l = p->leaf;
    lb_codec_rect at = {.area = lb_leaf_held(l, r), .held = lb_leaf_held(l, p->at->rect)};
    float *scratch = e->codec;
    for (u32 k = 0; k < l->codec.n_parts; k++)
        at.part[k] = e->slab + p->at->part_off[k];
    if (l->moves.n) {
        u32 *order = (u32 *)(void *)scratch;
        scratch += (r.nr + 15) & ~(u64)15;
        for (u64 i = 0; i < r.nr; i++)
            order[i] = (u32)(lb_moves_row(&l->moves, r.r0 + i) - at.area.r0);
        at.order = order;
        at.n_order = r.nr;
        e->moved_bytes += r.nr * r.nc * sizeof *out;
    }
    lb_codec_decode_rect(&l->codec, e->k, &at, out, scratch);
}

static void run_decode(lb_eval *e, const lb_inst *x, lb_rect r, float *out) {
    piece p = piece_of(e, x);
    const lb_codec *c = &p.leaf->codec;
    if (c->transposed) {
        run_decode_rect(e, &p, r, out);
        return;
    }
    if (c->by_row) {
        for (u64 i = 0; i < r.nr; i++) {
            lb_codec_row at = locate_row(e, &p, r.r0 + i, r);
            lb_codec_decode_row(c, e->k, &at, out + i * r.nc, e->codec);
        }
        return;
    }
    u64 unit = c->unit_elems, lo = r.c0 - r.c0 % unit;
    u64 hi = LB_MIN(lb_ceil_div_u64(r.c0 + r.nc, unit) * unit, p.leaf->n_cols);
    if (lo == r.c0 && hi == r.c0 + r.nc && p.at->rect.nc == r.nc && !has_mats(c) && !x->picks) {
        locate(e, &p, r.r0, lo);
        lb_codec_decode(c, e->k, r.nr * r.nc, out, p.part, e->codec);
        return;
    }
    for (u64 i = 0; i < r.nr; i++) {
        locate(e, &p, r.r0 + i, lo);
        if (lo == r.c0 && hi == r.c0 + r.nc) {
            lb_codec_decode(c, e->k, r.nc, out + i * r.nc, p.part, e->codec);
            continue;
        }
        /* a slice that starts or ends inside a unit: decode beside, keep the middle */
        float *wide = e->codec + lb_codec_scratch_elems(c, hi - lo);
        lb_codec_decode(c, e->k, hi - lo, wide, p.part, e->codec);
        memcpy(out + i * r.nc, wide + (r.c0 - lo), r.nc * sizeof *out);
        e->moved_bytes += r.nc * sizeof *out;
    }
}

/* ---- make, held values ---- */

static void run_rows_of(lb_eval *e, const lb_inst *x, const float *values, lb_rect r, float *out) {
    for (u64 i = 0; i < r.nr; i++) {
        u64 row = lb_moves_row(&x->moves, x->frame.row == LB_AXIS_ONE ? 0 : r.r0 + i);
        memcpy(out + i * r.nc, values + row * x->node->n_cols + r.c0, r.nc * sizeof *out);
    }
    e->moved_bytes += r.nr * r.nc * sizeof *out;
}

static void run_make(lb_eval *e, u32 inst, lb_rect r, float *out) {
    const lb_inst *x = &e->pass->insts[inst];
    const lb_node *n = x->node;
    if (n->op == LB_MAKE_CONST) {
        run_rows_of(e, x, n->u.make.values, r, out);
        return;
    }
    if (n->op == LB_MAKE_DRAW) {
        for (u64 i = 0; i < r.nr; i++) {
            u64 row = x->frame.row == LB_AXIS_ONE ? 0 : lb_moves_row(&x->moves, r.r0 + i);
            lb_draw_fill(n->u.make.draw, e->k, row * n->n_cols + r.c0, r.nc, out + i * r.nc);
        }
        return;
    }
    if (n->op == LB_MAKE_FILL) {
        for (u64 i = 0; i < r.nr * r.nc; i++)
            out[i] = (float)n->u.make.p;
        return;
    }
    if (n->op == LB_MAKE_RESULTS) {
        const double *v =
            lb_held_results(e->graph, &e->prog->results[x->result], &e->held[x->result]);
        for (u64 i = 0; i < r.nr * r.nc; i++)
            out[i] = (float)v[r.c0 + i % r.nc];
        return;
    }
    const u8 *drawn = e->slab + e->inst_off[inst];
    for (u64 i = 0; i < r.nr; i++) {
        u64 first =
            (lb_moves_row(&x->moves, r.r0 + i) - e->tile.r0) * e->tile.nc + (r.c0 - e->tile.c0);
        if (n->op == LB_MAKE_UNIFORM)
            memcpy(out + i * r.nc, drawn + first * sizeof *out, r.nc * sizeof *out);
        else
            e->k->decode_f32_codes(r.nc, first, 1, out + i * r.nc, drawn);
    }
}

/* ---- map ---- */

static float scalar_of(const lb_eval *e, const lb_inst *x) {
    const lb_scalar *s = &x->node->u.scalar;
    double v = s->value, next = 0;
    if (s->stat != LB_NODE_NONE) {
        const double *res =
            lb_held_results(e->graph, &e->prog->results[x->result], &e->held[x->result]);
        v = res[s->result];
        next = s->fn == LB_SCALAR_INV_SPAN ? res[s->result + 1] : 0;
    }
    switch (s->fn) {
    case LB_SCALAR_ID:
        break;
    case LB_SCALAR_NEG:
        v = -v;
        break;
    case LB_SCALAR_INV:
        v = v == 0 ? 0 : 1 / v;
        break;
    case LB_SCALAR_SQRT:
        v = sqrt(v);
        break;
    case LB_SCALAR_INV_SQRT:
        v = v == 0 ? 0 : 1 / sqrt(v);
        break;
    case LB_SCALAR_INV_SPAN:
        v = next == v ? 0 : 1 / (next - v);
        break;
    }
    return (float)v;
}

typedef struct map_args {
    const float *a, *b;
    float c;
} map_args;

static void map_op(const lb_kernels *k, lb_map_op op, u64 n, float *out, const map_args *x) {
    switch (op) {
    case LB_MAP_ADD:
        k->map_add_f32(n, out, x->a, x->b);
        return;
    case LB_MAP_SUB:
        k->map_sub_f32(n, out, x->a, x->b);
        return;
    case LB_MAP_MUL:
        k->map_mul_f32(n, out, x->a, x->b);
        return;
    case LB_MAP_ADD_C:
        k->map_addc_f32(n, out, x->a, x->c);
        return;
    case LB_MAP_MUL_C:
        k->map_mulc_f32(n, out, x->a, x->c);
        return;
    case LB_MAP_DIV_C:
        k->map_divc_f32(n, out, x->a, x->c);
        return;
    case LB_MAP_FMA_C:
        k->map_fmac_f32(n, out, x->a, x->c, x->b);
        return;
    case LB_MAP_ROUND_F16:
        k->map_round_f16_f32(n, out, x->a);
        return;
    case LB_MAP_ROUND_BF16:
        k->map_round_bf16_f32(n, out, x->a);
        return;
    case LB_MAP_EXP:
        k->map_exp_f32(n, out, x->a);
        return;
    case LB_MAP_LOG:
        k->map_log_f32(n, out, x->a);
        return;
    case LB_MAP_DIV:
        k->map_div_f32(n, out, x->a, x->b);
        return;
    case LB_MAP_RDIV_C:
        k->map_rdivc_f32(n, out, x->a, x->c);
        return;
    case LB_MAP_MAX_C:
        k->map_maxc_f32(n, out, x->a, x->c);
        return;
    case LB_MAP_MIN_C:
        k->map_minc_f32(n, out, x->a, x->c);
        return;
    case LB_MAP_ABOVE_C:
        k->map_above_f32(n, out, x->a, x->c);
        return;
    case LB_MAP_ABS:
        k->map_abs_f32(n, out, x->a);
        return;
    case LB_MAP_OR_ONE:
        k->map_or_one_f32(n, out, x->a);
        return;
    case LB_MAP_AGREE:
        k->map_agree_f32(n, out, x->a, x->b);
        return;
    case LB_MAP_BELOW:
        k->map_below_f32(n, out, x->a, x->b);
        return;
    case LB_MAP_WEAVE:
    case LB_MAP_CHOOSE:
    case LB_MAP_VARIANCE:
    case LB_MAP_ORDER:
    case LB_MAP_KEEP:
    case LB_MAP_OP_COUNT:
        break;
    }
    LB_ASSERT(false && "a map operation");
}

/* Row i of an input: in place, or its one value spread over `spread`. */
static const float *map_row(const float *in, lb_rect ir, u64 i, u64 nc, float *spread) {
    const float *p = in + (ir.nr == 1 ? 0 : i * ir.nc);
    if (ir.nc == nc)
        return p;
    for (u64 j = 0; j < nc; j++)
        spread[j] = *p;
    return spread;
}

static void run_every(const lb_eval *e, const lb_inst *x, lb_rect strip, lb_rect r, float *out) {
    lb_rect in = inst_rect(e, x->in[0], strip);
    const float *a = slot(e, x->in[0]);
    u64 step = x->node->u.index.step;
    for (u64 i = 0; i < r.nr; i++)
        for (u64 j = 0; j < r.nc; j++)
            out[i * r.nc + j] = a[i * in.nc + x->node->u.index.from + j * step];
}

static void run_weave(const lb_eval *e, const lb_inst *x, lb_rect r, float *out) {
    const float *a = slot(e, x->in[0]), *b = slot(e, x->in[1]);
    for (u64 i = 0; i < r.nr * r.nc / 2; i++) {
        out[2 * i] = a[i];
        out[2 * i + 1] = b[i];
    }
}

static void run_choose(lb_eval *e, const lb_inst *x, lb_rect strip, lb_rect r, float *out) {
    const float *which = slot(e, x->many[0]);
    bool one = inst_rect(e, x->many[0], strip).nr == 1;
    for (u64 i = 0; i < r.nr; i++) {
        u32 in = x->many[1 + (u32)which[one ? 0 : i]];
        float *to = out + i * r.nc;
        const float *from = map_row(slot(e, in), inst_rect(e, in, strip), i, r.nc, to);
        if (from != to)
            memcpy(to, from, r.nc * sizeof *to);
    }
    e->moved_bytes += r.nr * r.nc * sizeof *out;
}

/* Elements are told apart by their places in the matrix that was selected from. */
static void run_keep(const lb_eval *e, const lb_inst *x, lb_rect r, float *out) {
    const lb_node *select = lb_graph_node(e->graph, x->node->u.scalar.stat);
    const lb_select *s = e->held[x->result].select;
    const float *a = slot(e, x->in[0]);
    u64 n_cols = x->node->n_cols;
    bool at_once = x->moves.n == 0 && r.nc == n_cols;
    for (u64 i = 0; i < (at_once ? 1 : r.nr); i++) {
        u64 row = x->frame.row == LB_AXIS_ONE ? 0 : lb_moves_row(&x->moves, r.r0 + i);
        lb_select_keep(
            s, select->u.stat.ranks->n, e->k,
            (lb_select_run){row * n_cols + r.c0, at_once ? r.nr * r.nc : r.nc, a + i * r.nc},
            out + i * r.nc);
    }
}

static void run_variance(const lb_eval *e, const lb_inst *x, lb_rect r, float *out) {
    const float *in[LB_GRAM_MAX];
    for (u32 i = 0; i < x->n_in; i++)
        in[i] = slot(e, x->many[i]);
    lb_variance_f32(r.nr * r.nc, x->n_in, out, in);
}

static void run_map(lb_eval *e, const lb_inst *x, lb_rect strip, lb_rect r, float *out) {
    lb_map_op op = (lb_map_op)x->node->op;
    if (op == LB_MAP_CHOOSE) {
        run_choose(e, x, strip, r, out);
        return;
    }
    if (op == LB_MAP_ORDER) {
        const float *x0 = slot(e, x->in[0]);
        for (u64 i = 0; i < r.nr * r.nc; i++)
            out[i] = lb_order_of(x0[i]);
        return;
    }
    if (op == LB_MAP_VARIANCE) {
        run_variance(e, x, r, out);
        return;
    }
    if (op == LB_MAP_WEAVE || op == LB_MAP_KEEP) {
        if (op == LB_MAP_WEAVE)
            run_weave(e, x, r, out);
        else
            run_keep(e, x, r, out);
        return;
    }
    float c = scalar_of(e, x);
    lb_rect ar = inst_rect(e, x->in[0], strip),
            br = x->n_in > 1 ? inst_rect(e, x->in[1], strip) : ar;
    const float *a = slot(e, x->in[0]), *b = x->n_in > 1 ? slot(e, x->in[1]) : NULL;
    if (ar.nr == r.nr && ar.nc == r.nc && br.nr == r.nr && br.nc == r.nc) {
        map_op(e->k, op, r.nr * r.nc, out, &(map_args){a, b, c});
        return;
    }
    for (u64 i = 0; i < r.nr; i++) {
        float *row = out + i * r.nc;
        /* at most one input lacks columns, unless both are one column wide: then r.nc is 1 */
        const float *ra = map_row(a, ar, i, r.nc, row);
        const float *rb = b ? map_row(b, br, i, r.nc, row) : NULL;
        map_op(e->k, op, r.nc, row, &(map_args){ra, rb, c});
    }
}

/* ---- row, lowrank ---- */

static double fold_row(const lb_kernels *k, const float *x, u64 n, bool square) {
    double s = 0;
    for (u64 c = 0; c < n; c += LB_FOLD_LEAF) {
        u64 m = LB_MIN(n - c, LB_FOLD_LEAF);
        s += square ? k->fold_dot_f32(m, x + c, x + c) : k->fold_sum_f32(m, x + c);
    }
    return s;
}

static double fold_dot(const lb_kernels *k, const float *a, const float *b, u64 n) {
    double s = 0;
    for (u64 c = 0; c < n; c += LB_FOLD_LEAF)
        s += k->fold_dot_f32(LB_MIN(n - c, LB_FOLD_LEAF), a + c, b + c);
    return s;
}

/* Whole runs at a time. */
static void move_cols(const lb_strides *s, u64 n, float *out, const float *in) {
    for (u64 j = 0; j < n; j += s->run)
        memcpy(out + j, in + lb_strides_at(s, j), LB_MIN(s->run, n - j) * sizeof *out);
}

static void run_row_formula(const lb_eval *e, const lb_inst *x, lb_rect r, float *out) {
    const lb_formula *f = x->node->u.row.formula;
    double dot[LB_GRAM_MAX * (LB_GRAM_MAX + 1) / 2], res[LB_GRAM_RESULTS];
    for (u64 i = 0; i < r.nr; i++) {
        for (u32 p = 0; p < x->n_in; p++)
            for (u32 q = 0; q <= p; q++)
                dot[lb_gram_at(p, q)] = fold_dot(e->k, slot(e, x->many[p]) + i * r.nc,
                                                 slot(e, x->many[q]) + i * r.nc, r.nc);
        const char *why = f->run(f, dot, x->n_in, res);
        for (u64 c = 0; c < r.nc; c++)
            out[i * r.nc + c] = why ? NAN : (float)res[x->node->u.row.result];
    }
}

static void run_row_nm(const lb_eval *e, const lb_inst *x, lb_rect r, float *out) {
    const float *in = slot(e, lb_inst_input(x, 0));
    const float *claimed = x->n_in > 1 ? slot(e, lb_inst_input(x, 1)) : NULL;
    for (u64 i = 0; i < r.nr; i++)
        lb_select_nm(r.nc, x->node->u.nm.keep, x->node->u.nm.of, out + i * r.nc, in + i * r.nc,
                     claimed ? claimed + i * r.nc : NULL);
}

static void run_row_odds(const lb_eval *e, const lb_inst *x, lb_rect r, float *out) {
    const float *in = slot(e, x->in[0]);
    float *by_rank = e->codec;
    u32 *scratch = (u32 *)(void *)(e->codec + lb_odds_elems(r.nc));
    lb_odds_by_rank(&x->node->u.odds, e->k, r.nc, by_rank);
    for (u64 i = 0; i < r.nr; i++)
        lb_rank_abs_f32(e->k, r.nc, out + i * r.nc, in + i * r.nc, by_rank, scratch);
}

static void run_row_kl(lb_eval *e, const lb_inst *x, lb_rect r, float *out) {
    for (u64 i = 0; i < r.nr; i++) {
        float v = lb_kl_f32(e->k, r.nc, slot(e, x->many[0]) + i * r.nc,
                            slot(e, x->many[1]) + i * r.nc, (lb_kl_how)x->node->u.kl, e->codec);
        for (u64 c = 0; c < r.nc; c++)
            out[i * r.nc + c] = v;
    }
}

static void run_row(lb_eval *e, const lb_inst *x, lb_rect r, float *out) {
    if (x->node->op == LB_ROW_NM) {
        run_row_nm(e, x, r, out);
        return;
    }
    if (x->node->op == LB_ROW_ODDS) {
        run_row_odds(e, x, r, out);
        return;
    }
    if (x->node->op == LB_ROW_FORMULA) {
        run_row_formula(e, x, r, out);
        return;
    }
    if (x->node->op == LB_ROW_KL) {
        run_row_kl(e, x, r, out);
        return;
    }
    const float *in = slot(e, x->in[0]);
    if (x->node->op == LB_ROW_MOVE) {
        for (u64 i = 0; i < r.nr; i++)
            move_cols(x->node->u.strides, r.nc, out + i * r.nc, in + i * r.nc);
        e->moved_bytes += r.nr * r.nc * sizeof *out;
        return;
    }
    for (u64 i = 0; i < r.nr; i++) {
        const float *a = in + i * r.nc;
        if (x->node->op == LB_ROW_L2) {
            double s = fold_row(e->k, a, r.nc, true);
            e->k->map_mulc_f32(r.nc, out + i * r.nc, a, s == 0 ? 0 : (float)(1 / sqrt(s)));
        } else {
            double s = fold_row(e->k, a, r.nc, false);
            e->k->map_addc_f32(r.nc, out + i * r.nc, a, -(float)(s / (double)r.nc));
        }
    }
}

static void run_product(lb_eval *e, const lb_inst *x, lb_rect strip, lb_rect r, float *out) {
    const float *b = slot(e, x->in[0]), *a = e->held[x->result].values;
    u64 inner = inst_rect(e, x->in[0], strip).nc;
    memset(out, 0, r.nr * r.nc * sizeof *out);
    for (u64 k = 0; k < inner; k += LB_GEMM_LEAF)
        e->k->gemm_f32(r.nr, r.nc, LB_MIN(inner - k, LB_GEMM_LEAF), out, b + k, inner,
                       a + k * r.nc);
}

static void run_lowrank(lb_eval *e, const lb_inst *x, lb_rect strip, lb_rect r, float *out) {
    if (x->node->op == LB_LOWRANK_PRODUCT) {
        run_product(e, x, strip, r, out);
        return;
    }
    const float *in = slot(e, x->in[0]), *b = slot(e, x->in[1]), *a = e->held[x->result].values;
    u64 rank = inst_rect(e, x->in[1], strip).nc, stride = e->prog->results[x->result].out_cols;
    for (u64 i = 0; i < r.nr; i++) {
        float *acc = out + i * r.nc;
        memset(acc, 0, r.nc * sizeof *acc);
        for (u64 j = 0; j < rank; j++)
            e->k->map_fmac_f32(r.nc, acc, a + j * stride + r.c0, b[i * rank + j], acc);
        e->k->map_fmac_f32(r.nc, acc, acc, x->node->u.scale, in + i * r.nc);
    }
}

/* ---- ends: encode, stat, hold ---- */

/* Where the strip's row i goes: of outputs that have one row for several of them, its own. */
static u8 *encoded_row(const lb_eval *e, u32 inst, lb_rect strip, u64 i) {
    const lb_inst *x = &e->pass->insts[inst];
    u8 *first = e->slab + e->inst_off[inst];
    u64 row = strip.r0 - e->first_row + i, col = strip.c0 - e->tile.c0;
    if (x->node->u.encode.once)
        return first;
    return first + row / x->node->u.encode.rows * lb_inst_bytes(x, 1, e->tile.nc) +
           lb_inst_bytes(x, 1, col);
}

static void run_encode(lb_eval *e, u32 inst, lb_rect strip) {
    const lb_inst *x = &e->pass->insts[inst];
    lb_encode_fn *encode = lb_kernels_encode(e->k, (lb_dtype)x->node->op);
    bool at_once = strip.nc == e->tile.nc;
    u64 n = at_once ? strip.nr * strip.nc : strip.nc;
    u8 *out = encoded_row(e, inst, strip, 0);
    u64 row_bytes = lb_inst_bytes(x, 1, e->tile.nc);
    for (u64 i = 0; i < (at_once ? 1 : strip.nr); i++)
        encode(n, out + i * row_bytes, slot(e, x->in[0]) + i * strip.nc, e->counts[x->root]);
}

/* Elements of a strip, rows for columns. */
static void run_turned(lb_eval *e, u32 inst, lb_rect strip) {
    const lb_inst *x = &e->pass->insts[inst];
    const lb_leaf *l = &e->pass->leaves[x->leaf];
    const lb_layout_leaf *at = &e->leaf[x->leaf];
    lb_rect r = lb_frame_rect(&l->frame, strip);
    u64 size = l->codec.part[0].unit_bytes;
    const u8 *in = e->slab + at->part_off[0] + (r.r0 - at->rect.r0) * at->row_bytes[0] +
                   (r.c0 - at->rect.c0) * size;
    e->k->transpose(r.nr, r.nc, size, encoded_row(e, inst, strip, 0), e->tile.nc, in,
                    at->row_bytes[0] / size);
    e->moved_bytes += r.nr * r.nc * size;
}

static void run_quant_hf(lb_eval *e, u32 inst, lb_rect strip) {
    const lb_inst *x = &e->pass->insts[inst];
    const lb_quant *q = x->node->u.encode.quant;
    lb_quant_rect r = {
        .row = strip.r0, .n_rows = strip.nr, .n_cols = strip.nc, .in = slot(e, x->in[0])};
    for (u32 k = 0; k < lb_quant_n_parts(q); k++) {
        u32 part = k ? x->with[k - 1] : inst;
        r.out[k] = encoded_row(e, part, strip, 0);
        r.stride[k] = lb_inst_bytes(&e->pass->insts[part], 1, e->tile.nc);
    }
    if (q->scope == LB_SCOPE_TENSOR) {
        const double *stat = e->held[x->result].stat;
        e->n_bad[x->root] = (u64)stat[2];
        if (e->n_bad[x->root])
            return;
        r.range[0] = (float)stat[0];
        r.range[1] = (float)stat[1];
    }
    e->n_bad[x->root] += lb_quant_run_hf(q, e->k, &r);
}

/* Where row i of a strip goes, each part of it. */
static void quant_rows(const lb_eval *e, u32 inst, lb_rect strip, u64 i, u8 *out[]) {
    const lb_inst *x = &e->pass->insts[inst];
    out[0] = encoded_row(e, inst, strip, i);
    for (u32 k = 1; k < lb_quant_n_parts(x->node->u.encode.quant); k++)
        out[k] = encoded_row(e, x->with[k - 1], strip, i);
}

static bool is_there(const lb_eval *e, const lb_inst *x) {
    return x->role == LB_INST_COMPUTE && x->node->kind == LB_NODE_ENCODE &&
           x->node->u.encode.quant && e->encoding &&
           lb_quant_device_takes(e->encoding->e, x->node->u.encode.quant, x->node->n_cols);
}

/* Whether an instance is rows of f16 or bf16 that nothing takes but a device that makes MLX's
 * groups: it gets them as they are stored, and they are not decoded. A device may come while a
 * strip is computed, but does not go: rows that were decoded are then not looked at. */
static bool goes_stored(const lb_eval *e, u32 inst) {
    const lb_inst *x = &e->pass->insts[inst];
    if (!e->encoding || x->role != LB_INST_COMPUTE || x->node->kind != LB_NODE_DECODE || x->picks)
        return false;
    const lb_codec *c = &e->pass->leaves[x->leaf].codec;
    if ((c->dtype != LB_F16 && c->dtype != LB_BF16) || c->n_parts != 1 || c->unit_elems != 1 ||
        c->part[0].kind != LB_PART_ROWS || c->transposed || c->by_row)
        return false;
    for (u32 i = 0; i < e->pass->n_insts; i++) {
        const lb_inst *y = &e->pass->insts[i];
        for (u32 k = 0; k < y->n_in; k++)
            if (lb_inst_input(y, k) == inst &&
                (!is_there(e, y) || y->node->u.encode.quant->kind == LB_QUANT_BLOCKS))
                return false;
    }
    return true;
}

/* Row i of a strip as it is stored; false: it is not for the device, or not now, and is decoded. */
static bool add_stored(lb_eval *e, u32 from, lb_rect r, lb_encoding_at at, u8 *const out[]) {
    const lb_inst *x = &e->pass->insts[from];
    piece p = piece_of(e, x);
    const bool is_f16 = p.leaf->codec.dtype == LB_F16;
    const float most = lb_quant_device_most(at.q);
    const u32 limit = is_f16 ? lb_f16_from_f32(LB_MIN(most, 65504.0f)) : lb_bf16_from_f32(most);
    locate(e, &p, r.r0, r.c0);
    at.in_type = is_f16 ? LB_ROUND_F16 : LB_ROUND_BF16;
    if (lb_halves_most((size_t)r.nc, p.part[0]) <= limit &&
        lb_encoding_add(e->encoding, at, r.nc, p.part[0], out))
        return true;
    run_decode(e, x, r, slot(e, from));
    return false;
}

/* On a device; rows with what it does not take here. Blocks of rows follow each other in the tile.
 */
static void run_quant_there(lb_eval *e, u32 inst, lb_rect strip) {
    const lb_inst *x = &e->pass->insts[inst];
    const lb_quant *q = x->node->u.encode.quant;
    const float most = lb_quant_device_most(q);
    const bool stored = goes_stored(e, x->in[0]);
    lb_rect r = inst_rect(e, x->in[0], strip);
    for (u64 i = 0; i < strip.nr; i++) {
        const float *in = slot(e, x->in[0]) + (stored ? 0 : i * strip.nc);
        const lb_encoding_at at = {
            .root = x->root, .q = q, .n_cols = x->node->n_cols, .col = strip.c0};
        const lb_rect row = {r.r0 + i, 1, r.c0, r.nc};
        float range[2] = {0, 0};
        u8 *out[LB_QUANT_PARTS];
        quant_rows(e, inst, strip, i, out);
        if (stored && add_stored(e, x->in[0], row, at, out))
            continue;
        u64 bad = e->k->fold_range_f32(strip.nc, in, range);
        const bool fits = q->kind == LB_QUANT_BLOCKS || (range[0] >= -most && range[1] <= most);
        if (!bad && (stored || !fits || !lb_encoding_add(e->encoding, at, strip.nc, in, out)))
            bad = lb_quant_run(q, e->k, strip.nc, strip.c0, in, out);
        e->n_bad[x->root] += bad;
    }
}

static void run_quant(lb_eval *e, u32 inst, lb_rect strip) {
    const lb_inst *x = &e->pass->insts[inst];
    const lb_quant *q = x->node->u.encode.quant;
    bool at_once = strip.nc == e->tile.nc && !q->importance;
    u64 n = at_once ? strip.nr * strip.nc : strip.nc;
    if (x->node->u.encode.part != LB_QUANT_CODES)
        return; /* written with the codes */
    if (lb_quant_is_hf(q)) {
        run_quant_hf(e, inst, strip);
        return;
    }
    if (is_there(e, x)) {
        run_quant_there(e, inst, strip);
        return;
    }
    for (u64 i = 0; i < (at_once ? 1 : strip.nr); i++) {
        u8 *out[LB_QUANT_PARTS];
        quant_rows(e, inst, strip, i, out);
        e->n_bad[x->root] +=
            lb_quant_run(q, e->k, n, strip.c0, slot(e, x->in[0]) + i * strip.nc, out);
    }
}

/* Codes of a strip in another layout, or rows as they are. */
static void run_repack(lb_eval *e, u32 inst, lb_rect strip) {
    const lb_inst *x = &e->pass->insts[inst];
    piece p = piece_of(e, x);
    lb_rect r = lb_frame_rect(&p.leaf->frame, strip);
    u64 row_bytes = lb_inst_bytes(x, 1, e->tile.nc), len = lb_inst_bytes(x, 1, strip.nc);
    u64 n_units = r.nc / p.leaf->codec.unit_elems;
    u8 *out = encoded_row(e, inst, strip, 0);
    LB_ASSERT(r.c0 % p.leaf->codec.unit_elems == 0);
    for (u64 i = 0; i < r.nr; i++, out += row_bytes) {
        locate(e, &p, r.r0 + i, r.c0);
        if (x->node->u.encode.repack != LB_REPACK_NONE) {
            lb_repack_run(x->node->u.encode.repack, &p.leaf->codec, n_units, out, p.part,
                          e->counts[x->root]);
            continue;
        }
        memcpy(out, p.part[0], len);
        e->moved_bytes += len;
    }
}

/* Of one leaf, n elements from `at` on in each input: all pairs, or a norm of each. */
static double *fold_wide(const lb_eval *e, const lb_inst *x, u64 n, u64 at, double *out) {
    for (u32 p = 0; p < x->n_in; p++) {
        const float *a = slot(e, lb_inst_input(x, p)) + at;
        if (x->node->op == LB_STAT_NORMS1)
            *out++ = e->k->fold_sumabs_f32(n, a);
        else if (x->node->op == LB_STAT_NORMS2)
            *out++ = e->k->fold_dot_f32(n, a, a);
        else
            for (u32 q = 0; q <= p; q++)
                *out++ = e->k->fold_dot_f32(n, a, slot(e, lb_inst_input(x, q)) + at);
    }
    return out;
}

/* One leaf after the other. */
static void run_wide(lb_eval *e, u32 inst, lb_rect r) {
    const lb_inst *x = &e->pass->insts[inst];
    u64 leaves = lb_ceil_div_u64(e->tile.nc, LB_FOLD_LEAF);
    u64 n_wide = lb_stat_n_wide(x->node->op, x->n_in);
    for (u64 i = 0; i < r.nr; i++) {
        double *out =
            (double *)(void *)(e->slab + e->inst_off[inst]) +
            ((r.r0 - e->tile.r0 + i) * leaves + (r.c0 - e->tile.c0) / LB_FOLD_LEAF) * n_wide;
        for (u64 c = 0; c < r.nc; c += LB_FOLD_LEAF)
            out = fold_wide(e, x, LB_MIN(r.nc - c, LB_FOLD_LEAF), i * r.nc + c, out);
    }
}

static void run_compare(lb_eval *e, u32 inst, lb_rect r) {
    const lb_inst *x = &e->pass->insts[inst];
    const float *a = slot(e, x->in[0]), *b = slot(e, x->in[1]);
    u64 leaves = lb_ceil_div_u64(e->tile.nc, LB_FOLD_LEAF);
    for (u64 i = 0; i < r.nr; i++) {
        lb_compare *out = (lb_compare *)(void *)(e->slab + e->inst_off[inst]) +
                          (r.r0 - e->tile.r0 + i) * leaves + (r.c0 - e->tile.c0) / LB_FOLD_LEAF;
        for (u64 c = 0; c < r.nc; c += LB_FOLD_LEAF, out++) {
            u64 at = i * r.nc + c;
            *out = (lb_compare){0};
            lb_compare_leaf(out, e->k, LB_MIN(r.nc - c, LB_FOLD_LEAF), a + at, b + at, e->codec);
        }
    }
}

/* A block's rows come in their order, in however many strips. */
static void add_cols(const lb_eval *e, lb_rect r, const float *x, double *blocks) {
    for (u64 i = 0; i < r.nr; i++, x += r.nc) {
        double *sum =
            blocks + (r.r0 - e->tile.r0 + i) / LB_COLS_BLOCK * e->tile.nc + (r.c0 - e->tile.c0);
        for (u64 j = 0; j < r.nc; j++)
            sum[j] += (double)x[j];
    }
}

lb_select_at lb_eval_select_at(const lb_eval *e, u32 inst) {
    return (lb_select_at){.visit = e->visit,
                          .tile = e->number,
                          .tile_elems = e->tile.nr * e->tile.nc,
                          .part = e->slab + e->inst_off[inst]};
}

static void run_stat(lb_eval *e, u32 inst, lb_rect r) {
    const lb_inst *x = &e->pass->insts[inst];
    if (x->node->op == LB_STAT_COMPARE) {
        run_compare(e, inst, r);
        return;
    }
    if (lb_stat_is_wide(x->node->op)) {
        run_wide(e, inst, r);
        return;
    }
    const float *a = slot(e, x->in[0]), *b = slot(e, x->in[x->n_in - 1]);
    u8 *part = e->slab + e->inst_off[inst];
    if (x->node->op == LB_STAT_KTH) {
        const lb_select_at at = lb_eval_select_at(e, inst);
        bool at_once = r.nc == e->pass->n_cols;
        for (u64 i = 0; i < (at_once ? 1 : r.nr); i++)
            lb_select_strip(e->held[x->result].select, x->node, e->k, &at,
                            (lb_select_run){(r.r0 + i) * e->pass->n_cols + r.c0,
                                            at_once ? r.nr * r.nc : r.nc, a + i * r.nc});
        return;
    }
    if (x->node->op == LB_STAT_RANGE) {
        float mm[2], of_strip[2] = {INFINITY, -INFINITY};
        u64 bad;
        memcpy(mm, part, sizeof mm);
        memcpy(&bad, part + 8, sizeof bad);
        bad += e->k->fold_range_f32(r.nr * r.nc, a, of_strip);
        mm[0] = LB_MIN(mm[0], of_strip[0]);
        mm[1] = LB_MAX(mm[1], of_strip[1]);
        memcpy(part, mm, sizeof mm);
        memcpy(part + 8, &bad, sizeof bad);
        return;
    }
    if (x->node->op == LB_STAT_COLS) {
        add_cols(e, r, a, (double *)(void *)part);
        return;
    }
    u64 leaves = lb_ceil_div_u64(e->tile.nc, LB_FOLD_LEAF);
    if (x->node->op == LB_STAT_ERROR) {
        u64 first = (r.r0 - e->tile.r0) * leaves + (r.c0 - e->tile.c0) / LB_FOLD_LEAF;
        e->n_bad[0] += lb_measure_run(x->node->u.stat.measure, e->k,
                                      &(lb_measure_area){.n_rows = r.nr,
                                                         .n_cols = r.nc,
                                                         .col = r.c0,
                                                         .values = a,
                                                         .leaf = (double *)(void *)part + first,
                                                         .row_leaves = leaves,
                                                         .quant_leaves = e->tile.nr * leaves,
                                                         .scratch = e->codec});
        return;
    }
    for (u64 i = 0; i < r.nr; i++) {
        double *out = (double *)(void *)part + (r.r0 - e->tile.r0 + i) * leaves +
                      (r.c0 - e->tile.c0) / LB_FOLD_LEAF;
        for (u64 c = 0; c < r.nc; c += LB_FOLD_LEAF, out++) {
            u64 n = LB_MIN(r.nc - c, LB_FOLD_LEAF), at = i * r.nc + c;
            *out = x->node->op == LB_STAT_SUM      ? e->k->fold_sum_f32(n, a + at)
                   : x->node->op == LB_STAT_SUMABS ? e->k->fold_sumabs_f32(n, a + at)
                                                   : e->k->fold_dot_f32(n, a + at, b + at);
        }
    }
}

static void begin_stats(lb_eval *e) {
    const float mm[2] = {INFINITY, -INFINITY};
    for (u32 i = 0; i < e->pass->n_insts; i++) {
        const lb_inst *x = &e->pass->insts[i];
        if (x->node->kind != LB_NODE_STAT || x->role == LB_INST_HOLD)
            continue;
        if (x->node->op == LB_STAT_KTH) {
            const lb_select_at at = lb_eval_select_at(e, i);
            lb_select_clear(e->held[x->result].select, x->node, &at);
        }
        if (x->node->op == LB_STAT_COLS)
            memset(e->slab + e->inst_off[i], 0,
                   lb_ceil_div_u64(e->tile.nr, LB_COLS_BLOCK) * e->tile.nc * sizeof(double));
        if (x->node->op == LB_STAT_RANGE) {
            memcpy(e->slab + e->inst_off[i], mm, sizeof mm);
            memset(e->slab + e->inst_off[i] + 8, 0, 8);
        }
    }
}

static void run_hold(lb_eval *e, u32 inst, lb_rect r) {
    const lb_inst *x = &e->pass->insts[inst];
    const lb_held *h = &e->held[x->result];
    const lb_result *res = &e->prog->results[x->result];
    float *to = res->kind == LB_RESULT_DENSE ? h->input : h->values;
    const float *from = slot(e, x->in[0]);
    if (x->spill || x->kept) { /* as a tile of its own: written like an output's, or committed */
        to = (float *)(void *)(e->slab + e->inst_off[inst]);
        for (u64 i = 0; i < r.nr; i++)
            memcpy(to + (r.r0 - e->tile.r0 + i) * e->tile.nc + (r.c0 - e->tile.c0), from + i * r.nc,
                   r.nc * sizeof *to);
        return;
    }
    for (u64 i = 0; i < r.nr; i++)
        memcpy(to + (x->row0 + r.r0 + i) * res->in_cols + r.c0, from + i * r.nc, r.nc * sizeof *to);
}

static void run_inst(lb_eval *e, u32 i, lb_rect strip) {
    const lb_inst *x = &e->pass->insts[i];
    if (x->role == LB_INST_HOLD) {
        run_hold(e, i, strip);
        return;
    }
    lb_rect r = inst_rect(e, i, strip);
    float *out = x->slot == LB_NO_SLOT ? NULL : slot(e, i);
    if (x->role == LB_INST_HELD) {
        run_rows_of(e, x, e->held[x->result].values, r, out);
        return;
    }
    if (x->role == LB_INST_SPILLED) {
        run_decode(e, x, r, out);
        return;
    }
    switch (x->node->kind) {
    case LB_NODE_DECODE:
        if (!goes_stored(e, i))
            run_decode(e, x, r, out);
        return;
    case LB_NODE_MAKE:
        run_make(e, i, r, out);
        return;
    case LB_NODE_MAP:
        run_map(e, x, strip, r, out);
        return;
    case LB_NODE_ROW:
        run_row(e, x, r, out);
        return;
    case LB_NODE_LOWRANK:
        run_lowrank(e, x, strip, r, out);
        return;
    case LB_NODE_INDEX: {
        if (x->node->op == LB_INDEX_EVERY) {
            run_every(e, x, strip, r, out);
            return;
        }
        /* transposition: the input's rows are this one's columns */
        lb_rect in = inst_rect(e, x->in[0], strip);
        e->k->transpose(in.nr, in.nc, sizeof *out, out, in.nr, slot(e, x->in[0]), in.nc);
        e->moved_bytes += in.nr * in.nc * sizeof *out;
        return;
    }
    case LB_NODE_STAT:
        run_stat(e, i, r);
        return;
    case LB_NODE_ENCODE:
        if (x->node->u.encode.quant)
            run_quant(e, i, strip);
        else if (x->node->u.encode.bytes)
            memcpy(encoded_row(e, i, strip, 0),
                   x->node->u.encode.bytes + lb_inst_bytes(x, 1, strip.c0),
                   lb_inst_bytes(x, strip.nr, strip.nc));
        else if (x->leaf == UINT32_MAX)
            run_encode(e, i, strip);
        else if (x->turned)
            run_turned(e, i, strip);
        else if (!lb_inst_copies(x))
            run_repack(e, i, strip);
        return;
    default:
        LB_ASSERT(false && "an instance of this kind");
    }
}

void lb_eval_rows(lb_eval *e, lb_rect rows) {
    const lb_pass *p = e->pass;
    bool computes = false;
    for (u32 i = 0; i < p->n_insts; i++)
        computes |= !lb_inst_copies(&p->insts[i]);
    if (!computes) /* stored bytes go out as they came in */
        return;
    begin_stats(e);
    e->first_row = rows.r0;
    for (u64 r = 0; r < rows.nr; r += p->strip_rows)
        for (u64 c = 0; c < rows.nc; c += p->strip_cols) {
            lb_rect strip = {rows.r0 + r, LB_MIN(p->strip_rows, rows.nr - r), rows.c0 + c,
                             LB_MIN(p->strip_cols, rows.nc - c)};
            for (u32 i = 0; i < p->n_insts; i++)
                run_inst(e, i, strip);
        }
}
