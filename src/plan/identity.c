/* SPDX-License-Identifier: Apache-2.0 */
/* identity.c: the hash by which a journal knows its plan. Over the nodes and not over their text: a
 * graph may share what it holds at every level, its text would double each time. */
#include "plan/draw.h"
#include "plan/making.h"
#include "plan/measure.h"
#include "plan/plan.h"
#include "plan/terms.h"

static void put_u64(lb_xxh *h, u64 v) {
    lb_xxh_update(h, &v, sizeof v);
}

static void put_str(lb_xxh *h, lb_str s) {
    put_u64(h, s.len);
    lb_xxh_update(h, s.ptr, s.len);
}

static void put_f64(lb_xxh *h, double v) {
    lb_xxh_update(h, &v, sizeof v);
}

static void put_shape(lb_xxh *h, const lb_shape *s) {
    put_u64(h, s->rank);
    lb_xxh_update(h, s->dim, s->rank * sizeof s->dim[0]);
}

static void put_source(lb_xxh *h, const lb_source *s) {
    if (s->making) { /* what its bytes follow from, for the file has no name */
        put_str(h, s->making->identity);
        return;
    }
    put_u64(h, s->n_files);
    for (u64 i = 0; i < s->n_files; i++) {
        const lb_file *f = &s->files[i];
        put_u64(h, f->size_bytes);
        put_u64(h, f->ino);
        put_u64(h, f->dev);
        put_u64(h, (u64)f->mtime_ns);
    }
}

static void put_read(lb_xxh *h, const lb_graph *g, const lb_node *n) {
    const lb_weight *w = n->u.read.weight;
    put_u64(h, n->u.read.source);
    put_str(h, w->name);
    put_shape(h, &w->shape);
    put_u64(h, w->enc.kind);
    put_u64(h, w->enc.bits);
    put_u64(h, w->enc.turned);
    put_u64(h, w->enc.group_size);
    put_u64(h, w->enc.block_rows);
    put_u64(h, w->enc.rounded);
    put_u64(h, w->enc.less_one);
    put_u64(h, w->enc.ordered);
    put_u64(h, w->enc.nested_size);
    put_u64(h, lb_f32_bits(w->enc.nested_offset));
    for (u32 i = 0; i < w->n_parts; i++) {
        const lb_tensor *t = &g->sources[n->u.read.source]->tensors[w->part[i]];
        put_u64(h, t->dtype);
        put_u64(h, t->file);
        put_u64(h, t->off_bytes);
        put_u64(h, t->size_bytes);
    }
}

static void put_quant(lb_xxh *h, const lb_quant *q, u64 n_cols) {
    put_u64(h, q->kind);
    put_u64(h, q->dtype);
    put_u64(h, q->bits);
    put_u64(h, q->group);
    put_u64(h, q->round);
    put_u64(h, q->cpu_rule);
    put_u64(h, q->refine);
    put_u64(h, q->scope);
    put_u64(h, q->band);
    put_u64(h, q->asym);
    if (q->importance)
        lb_xxh_update(h, q->importance, n_cols * sizeof *q->importance);
}

static void put_measure(lb_xxh *h, const lb_measure *m, u64 n_cols) {
    put_u64(h, m->n);
    for (u32 i = 0; i < m->n; i++)
        put_quant(h, m->quants[i], n_cols);
    if (m->importance)
        lb_xxh_update(h, m->importance, n_cols * sizeof *m->importance);
}

static void put_make(lb_xxh *h, const lb_graph *g, const lb_node *n) {
    if (n->op == LB_MAKE_FILL || n->op == LB_MAKE_BERNOULLI)
        put_f64(h, n->u.make.p);
    if (n->op == LB_MAKE_CONST)
        lb_xxh_update(h, n->u.make.values, n->n_rows * n->n_cols * sizeof(float));
    if (n->op == LB_MAKE_DRAW) {
        const lb_draw *d = n->u.make.draw;
        put_u64(h, d->kind);
        put_u64(h, d->seed);
        put_u64(h, d->stream);
        put_u64(h, d->first);
        put_u64(h, d->total);
    }
    if (lb_node_draws(n)) {
        put_u64(h, g->carries[n->u.make.carry].seed);
        put_u64(h, n->u.make.first);
    }
}

static void put_formula(lb_xxh *h, const lb_formula *f) {
    put_str(h, lb_str_c(f->name));
    for (u32 i = 0; i < f->n_params; i++)
        put_f64(h, f->param[i]);
}

/* What it says itself. */
static void put_own(lb_xxh *h, const lb_graph *g, const lb_node *n) {
    u64 n_bytes;
    switch (n->kind) {
    case LB_NODE_READ:
        put_read(h, g, n);
        return;
    case LB_NODE_MAKE:
        put_make(h, g, n);
        return;
    case LB_NODE_INDEX:
        put_u64(h, n->u.index.from);
        put_u64(h, n->u.index.step);
        put_u64(h, n->u.index.half);
        if (n->op == LB_INDEX_GATHER)
            lb_xxh_update(h, n->u.index.table, n->n_rows * sizeof n->u.index.table[0]);
        if (n->op == LB_INDEX_STRIDES)
            lb_xxh_update(h, n->u.index.strides, sizeof *n->u.index.strides);
        return;
    case LB_NODE_ROW:
        if (n->op == LB_ROW_MOVE)
            lb_xxh_update(h, n->u.strides, sizeof *n->u.strides);
        if (n->op == LB_ROW_ODDS) {
            put_f64(h, n->u.odds.density);
            put_f64(h, n->u.odds.epsilon);
            put_u64(h, n->u.odds.bf16);
        }
        if (n->op == LB_ROW_KL)
            put_u64(h, n->u.kl);
        if (n->op == LB_ROW_NM) {
            put_u64(h, n->u.nm.keep);
            put_u64(h, n->u.nm.of);
        }
        if (n->op == LB_ROW_FORMULA) {
            put_formula(h, n->u.row.formula);
            put_u64(h, n->u.row.result);
        }
        return;
    case LB_NODE_MAP:
        put_f64(h, n->u.scalar.value);
        put_u64(h, n->u.scalar.result);
        put_u64(h, n->u.scalar.fn);
        return;
    case LB_NODE_STAT:
        for (u32 i = 0; n->op == LB_STAT_KTH && i < LB_SELECT_RANKS; i++)
            put_u64(h, n->u.stat.ranks->rank[i]);
        if (n->op == LB_STAT_KTH)
            put_f64(h, n->u.stat.ranks->of_nonzero);
        if (n->u.stat.formula)
            put_formula(h, n->u.stat.formula);
        if (n->op == LB_STAT_ERROR)
            put_measure(h, n->u.stat.measure, lb_graph_node(g, n->in[0])->n_cols);
        return;
    case LB_NODE_ENCODE:
        put_u64(h, n->u.encode.repack);
        if (n->u.encode.quant) {
            put_u64(h, n->u.encode.part);
            put_quant(h, n->u.encode.quant, lb_graph_node(g, n->in[0])->n_cols);
        }
        if (n->u.encode.bytes && lb_dtype_bytes((lb_dtype)n->op, n->n_cols, &n_bytes))
            lb_xxh_update(h, n->u.encode.bytes, n_bytes);
        return;
    case LB_NODE_DENSE:
        put_f64(h, n->u.part);
        return;
    case LB_NODE_LOWRANK:
        put_f64(h, n->op == LB_LOWRANK_ADD ? (double)n->u.scale : 0);
        return;
    default:
        return;
    }
}

static void put_node(lb_xxh *h, const lb_graph *g, const lb_node *n) {
    put_u64(h, n->kind);
    put_u64(h, n->op);
    put_u64(h, n->n_rows);
    put_u64(h, n->n_cols);
    put_u64(h, n->n_in);
    lb_xxh_update(h, n->in, n->n_in * sizeof n->in[0]);
    if (n->kind == LB_NODE_MAP)
        put_u64(h, n->u.scalar.stat);
    put_own(h, g, n);
}

lb_hash128 lb_node_own_hash(const lb_graph *g, const lb_node *n) {
    lb_xxh h;
    lb_xxh_init(&h);
    put_own(&h, g, n);
    return lb_xxh_digest(&h);
}

static void put_job(lb_xxh *h, const lb_job *j) {
    put_u64(h, j->n_streams);
    for (u32 i = 0; i < j->n_streams; i++) {
        const lb_stream *s = &j->streams[i];
        put_u64(h, s->file);
        put_u64(h, s->off_bytes);
        put_u64(h, s->size_bytes);
        put_u64(h, s->dtype);
        put_str(h, s->name);
        put_shape(h, s->shape);
    }
    put_u64(h, j->n_segments);
    for (u32 i = 0; i < j->n_segments; i++)
        lb_xxh_update(h, j->segments[i].root,
                      LB_MAX(j->n_streams, 1) * sizeof j->segments[i].root[0]);
}

void lb_plan_identify(lb_plan *p) {
    const lb_graph *g = &p->graph;
    lb_xxh h;
    lb_xxh_init(&h);
    put_str(&h, LB_STR(LB_VERSION));
    put_str(&h, p->options);
    put_u64(&h, p->want_digests);
    put_u64(&h, g->n_sources);
    for (u32 i = 0; i < g->n_sources; i++)
        put_source(&h, g->sources[i]);
    put_u64(&h, g->n);
    for (u32 i = 0; i < g->n; i++)
        put_node(&h, g, lb_graph_node(g, i));
    put_u64(&h, p->n_files);
    for (u64 i = 0; i < p->n_files; i++) {
        put_str(&h, p->files[i].name);
        put_u64(&h, p->files[i].size_bytes);
    }
    put_u64(&h, p->n_jobs);
    for (u64 i = 0; i < p->n_jobs; i++)
        put_job(&h, &p->jobs[i]);
    p->identity = lb_xxh_digest(&h);
}
