/* SPDX-License-Identifier: Apache-2.0 */
/* terms.c: see terms.h. Two graphs over one file are walked side by side; a term is a lowrank node
 * on the way down from x to what base is. Parts of a stack are rows of base. */
#include "plan/terms.h"

/* Nodes that one comparison may visit: shared ones are visited again each time. */
#define VISITS_MAX 65536
/* Terms on one matrix that are found. */
#define DEPTH_MAX 64

/* Values and what they are decoded from are the same matrix. */
static lb_node_id stored(const lb_graph *g, lb_node_id x) {
    while (lb_graph_node(g, x)->kind == LB_NODE_DECODE)
        x = lb_graph_node(g, x)->in[0];
    return x;
}

static bool same_bytes(const lb_graph *g, const lb_node *a, const lb_node *b) {
    const lb_weight *x = a->u.read.weight, *y = b->u.read.weight;
    const lb_source *s = g->sources[a->u.read.source], *t = g->sources[b->u.read.source];
    if (x->enc.kind != y->enc.kind || x->n_parts != y->n_parts || !lb_str_eq(x->name, y->name))
        return false;
    for (u32 i = 0; i < x->n_parts; i++) {
        const lb_tensor *p = &s->tensors[x->part[i]], *q = &t->tensors[y->part[i]];
        const lb_file *f = &s->files[p->file], *h = &t->files[q->file];
        if (f->dev != h->dev || f->ino != h->ino || p->off_bytes != q->off_bytes ||
            p->size_bytes != q->size_bytes || p->dtype != q->dtype)
            return false;
    }
    return !s->making == !t->making && (!s->making || s == t);
}

static bool same(const lb_graph *g, lb_node_id a, lb_node_id b, u32 *visits) {
    a = stored(g, a);
    b = stored(g, b);
    const lb_node *x = lb_graph_node(g, a), *y = lb_graph_node(g, b);
    if (a == b)
        return true;
    if (++*visits > VISITS_MAX || x->kind != y->kind || x->op != y->op || x->n_in != y->n_in ||
        x->n_rows != y->n_rows || x->n_cols != y->n_cols)
        return false;
    if (x->kind == LB_NODE_READ)
        return same_bytes(g, x, y);
    if (!lb_hash_eq(lb_node_own_hash(g, x), lb_node_own_hash(g, y)))
        return false;
    if (x->kind == LB_NODE_MAP && (x->u.scalar.stat == LB_NODE_NONE
                                       ? y->u.scalar.stat != LB_NODE_NONE
                                       : y->u.scalar.stat == LB_NODE_NONE ||
                                             !same(g, x->u.scalar.stat, y->u.scalar.stat, visits)))
        return false;
    for (u32 i = 0; i < x->n_in; i++)
        if (!same(g, x->in[i], y->in[i], visits))
            return false;
    return true;
}

bool lb_expr_same(const lb_graph *g, lb_node_id a, lb_node_id b) {
    u32 visits = 0;
    return same(g, a, b, &visits);
}

/* Through slices of neighbouring rows: x is *from and the next rows of the result. */
static lb_node_id unslice(const lb_graph *g, lb_node_id x, u64 *from) {
    for (;;) {
        x = stored(g, x);
        const lb_node *n = lb_graph_node(g, x);
        if (n->kind != LB_NODE_INDEX || n->op != LB_INDEX_ROWS || n->u.index.step != 1)
            return x;
        *from += n->u.index.from;
        x = n->in[0];
    }
}

typedef struct walk {
    const lb_graph *g;
    lb_arena *perm;
    lb_terms *out;
    lb_err *err;
    lb_status st;
    u32 visits;
} walk;

static bool is_stack(const lb_node *n) {
    return n->kind == LB_NODE_INDEX && n->op == LB_INDEX_STACK;
}

/* x against rows [from, ...) of base. */
static bool same_rows(walk *w, lb_node_id x, lb_node_id base, u64 from) {
    u64 at = 0;
    const lb_node *b = lb_graph_node(w->g, base);
    if (from == 0 && lb_graph_node(w->g, x)->n_rows == b->n_rows)
        return same(w->g, x, base, &w->visits);
    x = unslice(w->g, x, &at);
    base = unslice(w->g, base, &from);
    return at == from && same(w->g, x, base, &w->visits);
}

static bool add(walk *w, const lb_node *n, u64 from) {
    lb_terms *t = w->out;
    if (t->n == t->cap) {
        u32 cap = t->cap ? 2 * t->cap : 4;
        lb_term *list = lb_arena_new(w->perm, lb_term, cap);
        if (!list) {
            w->st = lb_fail(w->err, LB_E_NOMEM, "out of memory for terms of a matrix");
            return false;
        }
        if (t->n)
            memcpy(list, t->list, t->n * sizeof *list);
        t->list = list;
        t->cap = cap;
    }
    t->list[t->n++] = (lb_term){.from = from,
                                .n_rows = n->n_rows,
                                .rank = lb_graph_node(w->g, n->in[1])->n_cols,
                                .b = n->in[1],
                                .a = n->in[2],
                                .scale = n->u.scale};
    return true;
}

/* at: the first of base's rows that x stands for, of those above it; deep: within a stack. */
static bool descend(walk *w, lb_node_id x, lb_node_id base, u64 at, u64 from, bool deep) {
    lb_node_id top = stored(w->g, x);
    const lb_node *n = lb_graph_node(w->g, top);
    lb_node_id term[DEPTH_MAX];
    u32 depth = 0;
    bool found = same_rows(w, top, base, at); /* which may have terms itself */
    while (!found && n->kind == LB_NODE_LOWRANK && n->op == LB_LOWRANK_ADD && depth < DEPTH_MAX) {
        term[depth++] = top;
        top = stored(w->g, n->in[0]);
        n = lb_graph_node(w->g, top);
        found = same_rows(w, top, base, at);
    }
    if (!found && is_stack(n) && !deep) {
        const lb_node *b = lb_graph_node(w->g, stored(w->g, base));
        bool pairs = is_stack(b) && b->n_in == n->n_in && at == 0;
        u64 row = 0;
        found = true;
        for (u32 i = 0; i < n->n_in && found; i++) {
            u64 rows = lb_graph_node(w->g, n->in[i])->n_rows;
            bool paired = pairs && lb_graph_node(w->g, b->in[i])->n_rows == rows;
            found = paired ? descend(w, n->in[i], b->in[i], 0, from + row, true)
                           : descend(w, n->in[i], base, at + row, from + row, true);
            row += rows;
        }
    }
    while (found && depth > 0)
        found = add(w, lb_graph_node(w->g, term[--depth]), from);
    return found;
}

lb_status lb_expr_terms(const lb_graph *g, lb_node_id x, lb_node_id base, lb_arena *perm,
                        lb_terms **out, lb_err *err) {
    LB_TRY(lb_graph_status(g, err));
    lb_terms *t = lb_arena_new(perm, lb_terms, 1);
    if (!t)
        return lb_fail(err, LB_E_NOMEM, "out of memory for terms of a matrix");
    *t = (lb_terms){0};
    walk w = {.g = g, .perm = perm, .out = t, .err = err};
    *out = descend(&w, x, base, 0, 0, false) ? t : NULL;
    return w.st;
}
