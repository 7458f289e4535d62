/* SPDX-License-Identifier: Apache-2.0 */
/* held.c: results of a job: begun before a round, fed by tiles in order, finished after the last.
 *
 * Sums add leaves in index order, so that neither tiles nor threads can be seen in them. */
#include "plan/eval.h"
#include "plan/compare.h"
#include "plan/dense.h"
#include "plan/measure.h"
#include <math.h>

static bool is_kth(const lb_graph *g, const lb_result *r) {
    return r->kind == LB_RESULT_STAT && lb_graph_node(g, r->node)->op == LB_STAT_KTH;
}

static const lb_node *wide_of(const lb_graph *g, const lb_result *r) {
    const lb_node *n = lb_graph_node(g, r->node);
    return r->kind == LB_RESULT_STAT && lb_stat_is_wide(n->op) ? n : NULL;
}

static bool is_cols(const lb_graph *g, const lb_result *r) {
    return r->kind == LB_RESULT_STAT && lb_graph_node(g, r->node)->op == LB_STAT_COLS;
}

static u32 n_found(const lb_node *wide) {
    return lb_stat_n_wide(wide->op, wide->n_in);
}

static u64 more_bytes(const lb_graph *g, const lb_result *r) {
    const lb_node *wide = wide_of(g, r);
    if (wide)
        return (n_found(wide) + wide->n_cols) * sizeof(double);
    if (is_cols(g, r))
        return r->in_cols * sizeof(double);
    if (r->kind == LB_RESULT_DENSE)
        return lb_dense_sums_bytes(lb_graph_node(g, r->node), r->in_rows, r->in_cols);
    return is_kth(g, r) ? lb_select_bytes(lb_graph_node(g, r->node), r->select_cap) : 0;
}

static bool collects(const lb_graph *g, const lb_result *r) {
    return r->kind == LB_RESULT_DENSE && !lb_dense_adds_up(lb_graph_node(g, r->node));
}

static u64 aligned(u64 bytes) {
    return (bytes + 63) & ~(u64)63;
}

/* memory is NULL where there is nothing to hold. */
static u8 *behind(u8 *memory, u64 bytes) {
    return memory ? memory + bytes : NULL;
}

/* Memory that a time has for itself: inputs of the factorisations of one pass, then the work of
 * one. */
static u64 place_shared(const lb_graph *g, const lb_prog *p, lb_held *held, u8 *memory) {
    u64 inputs = 0, work = 0;
    for (u32 i = 0; i < p->n_results; i++) {
        const lb_result *r = &p->results[i];
        u64 at = 0;
        if (r->kind != LB_RESULT_DENSE)
            continue;
        for (u32 j = 0; j < i; j++)
            if (p->results[j].pass == r->pass && collects(g, &p->results[j]))
                at += aligned(p->results[j].in_rows * p->results[j].in_cols * sizeof(float));
        if (held && collects(g, r))
            held[i].input = (float *)(void *)behind(memory, at);
        if (collects(g, r))
            inputs = LB_MAX(inputs, at + aligned(r->in_rows * r->in_cols * sizeof(float)));
        work = LB_MAX(work, lb_dense_work_bytes(lb_graph_node(g, r->node), r->in_rows, r->in_cols));
    }
    for (u32 i = 0; i < p->n_results && held; i++)
        held[i].work = behind(memory, inputs);
    return inputs + aligned(work);
}

static void place_more(const lb_graph *g, const lb_result *r, lb_held *h, u8 *more) {
    if (wide_of(g, r) || is_cols(g, r))
        h->wide = (double *)(void *)more;
    else if (r->kind == LB_RESULT_DENSE)
        h->sums = (double *)(void *)more;
    else
        h->select = lb_select_place(lb_graph_node(g, r->node), r->select_cap, more);
}

u64 lb_held_place(const lb_graph *g, const lb_prog *p, lb_held *held, u8 *memory) {
    u64 at = 0;
    for (u32 i = 0; i < p->n_results; i++) {
        const lb_result *r = &p->results[i];
        u64 more = more_bytes(g, r);
        if (r->spilled)
            continue;
        if (held && r->kind != LB_RESULT_STAT)
            held[i].values = (float *)(void *)behind(memory, at);
        at += aligned(r->fixed_bytes);
        if (held && more)
            place_more(g, r, &held[i], behind(memory, at));
        at += aligned(more);
    }
    return at + place_shared(g, p, held, held ? behind(memory, at) : NULL);
}

const double *lb_held_results(const lb_graph *g, const lb_result *r, const lb_held *h) {
    const lb_node *wide = wide_of(g, r);
    if (!wide)
        return is_cols(g, r) ? h->wide : h->stat;
    return wide->u.stat.formula ? h->wide + n_found(wide) : h->wide;
}

void lb_held_begin(const lb_graph *g, const lb_result *r, const lb_pass *p, lb_held *h,
                   bool first) {
    if (first) {
        memset(h->stat, 0, sizeof h->stat);
        h->any = false;
        if (h->wide)
            memset(h->wide, 0, more_bytes(g, r));
        if (h->sums)
            memset(h->sums, 0, more_bytes(g, r));
        if (h->select)
            lb_select_begin(h->select, lb_graph_node(g, r->node), p);
    }
    if (h->select)
        lb_select_begin_round(h->select, lb_graph_node(g, r->node));
}

static void commit_range(lb_held *h, const u8 *part) {
    float mm[2];
    u64 bad;
    memcpy(mm, part, sizeof mm);
    memcpy(&bad, part + 8, sizeof bad);
    h->stat[2] += (double)bad;
    if (mm[0] > mm[1])
        return;
    h->stat[0] = h->any ? fmin(h->stat[0], mm[0]) : mm[0];
    h->stat[1] = h->any ? fmax(h->stat[1], mm[1]) : mm[1];
    h->any = true;
}

static void commit_wide(const lb_node *n, lb_held *h, const u8 *part, u64 n_leaves) {
    u32 n_all = n_found(n);
    for (u64 j = 0; j < n_leaves; j++)
        for (u32 p = 0; p < n_all; p++) {
            double v;
            memcpy(&v, part + (j * n_all + p) * sizeof v, sizeof v);
            h->wide[p] += v;
        }
}

static void commit_cols(const lb_eval *e, lb_held *h, const double *blocks) {
    u64 n = lb_ceil_div_u64(e->tile.nr, LB_COLS_BLOCK);
    for (u64 i = 0; i < n; i++, blocks += e->tile.nc)
        for (u64 j = 0; j < e->tile.nc; j++)
            h->wide[e->tile.c0 + j] += blocks[j];
}
static lb_dense dense_of(const lb_graph *g, const lb_prog *p, u32 result, const lb_held *held);

void lb_eval_commit(const lb_eval *e) {
    for (u32 i = 0; i < e->pass->n_insts; i++) {
        const lb_inst *x = &e->pass->insts[i];
        if (x->kept) {
            lb_dense d = dense_of(e->graph, e->prog, x->result, e->held);
            lb_dense_add(e->k, &d, e->tile.nr, (const float *)(void *)(e->slab + e->inst_off[i]));
            continue;
        }
        if (x->node->kind != LB_NODE_STAT || x->role == LB_INST_HOLD)
            continue;
        lb_held *h = &e->held[x->result];
        const u8 *part = e->slab + e->inst_off[i];
        u64 n_leaves = e->tile.nr * lb_ceil_div_u64(e->tile.nc, LB_FOLD_LEAF);
        switch (x->node->op) {
        case LB_STAT_KTH: {
            const lb_select_at at = lb_eval_select_at(e, i);
            lb_select_commit(h->select, x->node, &at);
            break;
        }
        case LB_STAT_RANGE:
            commit_range(h, part);
            break;
        case LB_STAT_COLS:
            commit_cols(e, h, (const double *)(const void *)part);
            break;
        case LB_STAT_GRAM:
        case LB_STAT_NORMS1:
        case LB_STAT_NORMS2:
            commit_wide(x->node, h, part, n_leaves);
            break;
        case LB_STAT_ERROR:
            lb_measure_add(x->node->u.stat.measure, (const double *)(const void *)part, n_leaves);
            break;
        case LB_STAT_COMPARE:
            for (u64 j = 0; j < n_leaves; j++)
                lb_compare_add(x->node->u.stat.compare, (const lb_compare *)(const void *)part + j);
            break;
        default:
            for (u64 j = 0; j < n_leaves; j++) {
                double v;
                memcpy(&v, part + j * sizeof v, sizeof v);
                h->stat[0] += v;
            }
        }
    }
}

static lb_dense dense_of(const lb_graph *g, const lb_prog *p, u32 result, const lb_held *held) {
    const lb_result *r = &p->results[result];
    const lb_held *h = &held[result];
    lb_dense d = {.node = lb_graph_node(g, r->node),
                  .n_rows = r->in_rows,
                  .n_cols = r->in_cols,
                  .input = h->input,
                  .out = h->values,
                  .sums = h->sums,
                  .work = h->work};
    if (r->other != UINT32_MAX) {
        d.other = held[r->other].values;
        d.other_rows = p->results[r->other].out_rows;
    }
    return d;
}

const char *lb_held_finish(const lb_graph *g, const lb_kernels *k, const lb_prog *p, u32 result,
                           lb_held *held, lb_visit visit) {
    const lb_result *r = &p->results[result];
    lb_held *h = &held[result];
    const lb_node *wide = wide_of(g, r);
    const lb_formula *f = wide ? wide->u.stat.formula : NULL;
    if (h->select)
        return lb_select_finish(h->select, lb_graph_node(g, r->node), visit, h->stat);
    if (r->kind == LB_RESULT_DENSE) {
        lb_dense d = dense_of(g, p, result, held);
        return lb_dense_finish(k, &d);
    }
    return f ? f->run(f, h->wide, wide->n_in, h->wide + n_found(wide)) : NULL;
}
