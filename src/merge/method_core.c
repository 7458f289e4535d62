/* SPDX-License-Identifier: Apache-2.0 */
/* method_core.c: core_space: adapters of one base merged by another method in the space that their
 * factors span (A. Panariello et al., "Accurate and Efficient Low-Rank Model Merging in Core
 * Space", section 3; get_core_matrices in task_merger.py of apanariello4/core-space-merging).
 *
 *     [B_1 ... B_T] = U S W^T,  [A_1; ...; A_T] = X Z V^T      singular values, of all that there
 * are M_t = s_t U^T B_t A_t V                                  = s_t (W_t S)^T (X_t Z) W = base + U
 * inner(M_1 ... M_T) V^T
 *
 * so that the large sides of the factors are used for U and V alone, and the merge is one of
 * matrices of the sum of the ranks. Signs and orders of U's and V's columns cancel out for all
 * inner methods; where singular values are equal, the columns are arbitrary, and what methods that
 * look at elements make of them, too.
 *
 * An input may have several adapters, whose ranks add up. A tensor that is anything else than the
 * base and such products in one of the inputs is merged by the inner method as it is. Parts of a
 * tensor that have factors of their own (experts of a stack, rows of a fused matrix) have spaces of
 * their own. */
#include "merge/method.h"
#include <math.h>
#include <stdlib.h>

/* Methods over differences whose sums are in the same place for any base. */
static const char *const inner_methods[] = {
    "task_arithmetic", "linear", "ties",         "breadcrumbs", "breadcrumbs_ties", "dare_linear",
    "dare_ties",       "della",  "della_linear", "sce",         "consensus_ta",     "pcb",
    "iso_c",           "star",   "tsv",          NULL};

typedef struct core {
    const lb_merge_method *method, *inner;
    const lb_merge_job *j;
    lb_node_id base; /* values */
} core;

/* ---- the inner method ---- */

static lb_status take_param(const core *c, const double *own, u32 i, double *out, lb_err *err) {
    const lb_merge_param *p = &c->inner->params[i];
    u32 at = lb_merge_param_find(c->method, lb_str_c(p->name));
    bool given = at != UINT32_MAX && !isnan(own[at]);
    out[i] = given ? own[at] : p->initial;
    return given || !p->required
               ? LB_OK
               : lb_fail(err, LB_E_USAGE, "tensor '%.*s': inner_method %s needs the parameter `%s`",
                         LB_FMT(c->j->name), c->inner->name, p->name);
}

/* What it makes of differences x, one an input that is not the base, to a base of zeros. */
static lb_status run_inner(const core *c, const lb_node_id *x, const lb_shape *shape, bool is_vocab,
                           lb_node_id *out, lb_err *err) {
    const lb_merge_job *j = c->j;
    const lb_merge_method *m = c->inner;
    lb_merge_job own = *j;
    lb_merge_input *in = lb_arena_new(j->perm, lb_merge_input, j->n_in);
    u32 n = 0, k = 0;
    if (!in)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    LB_TRY(lb_graph_status(j->g, err));
    const lb_node *first = lb_graph_node(j->g, x[0]);
    for (u32 i = 0; i < j->n_in; i++) {
        if (j->in[i].is_base && m->base == LB_BASE_IGNORED)
            continue;
        in[n] = (lb_merge_input){
            .dtype = LB_F32, .is_base = j->in[i].is_base, .importance = LB_NODE_NONE};
        in[n].x = j->in[i].is_base ? lb_expr_fill(j->g, first->n_rows, first->n_cols, 0) : x[k++];
        for (u32 p = 0; p < m->n_params; p++)
            LB_TRY(take_param(c, m->params[p].scope == LB_MERGE_SHARED ? j->param : j->in[i].param,
                              p, m->params[p].scope == LB_MERGE_SHARED ? own.param : in[n].param,
                              err));
        n++;
    }
    own.in = in;
    own.n_in = n;
    own.shape = shape;
    own.is_vocab = is_vocab;
    own.rounding = LB_MERGE_F32;
    return m->build(m, &own, out, err);
}

/* Without factors: the differences themselves. */
static lb_status build_dense(const core *c, lb_node_id *out, lb_err *err) {
    const lb_merge_job *j = c->j;
    lb_node_id *x = lb_arena_new(j->perm, lb_node_id, j->n_in), merged = LB_NODE_NONE;
    u32 n = 0;
    if (!x)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    for (u32 i = 0; i < j->n_in; i++)
        if (!j->in[i].is_base)
            x[n++] = lb_expr_map2(j->g, LB_MAP_SUB, lb_merge_values(j, j->in[i].x), c->base,
                                  LB_CONST(0));
    LB_TRY(run_inner(c, x, j->shape, j->is_vocab, &merged, err));
    *out = lb_expr_map2(j->g, LB_MAP_ADD, c->base, merged, LB_CONST(0));
    return lb_graph_status(j->g, err);
}

/* ---- one space ---- */

/* Factors of all inputs side by side: [total, dim] = at basis^T. */
typedef struct side {
    lb_node_id basis; /* [dim, k] orthonormal columns */
    lb_node_id at;    /* [total, k] */
    u64 k;
} side;

static lb_node_id identity(const lb_merge_job *j, u64 n) {
    float *x = n < 65536 ? lb_alloc_zero((size_t)(n * n), sizeof *x) : NULL;
    for (u64 i = 0; i < n && x; i++)
        x[i * n + i] = 1;
    lb_node_id id = x ? lb_expr_const(j->g, n, n, x) : LB_NODE_NONE;
    lb_free(x);
    return id;
}

static lb_status find_side(const core *c, const lb_node_id *rows, u32 n, side *s, lb_err *err) {
    lb_graph *g = c->j->g;
    lb_node_id x = n == 1 ? rows[0] : lb_expr_stack(g, rows, n), f, sigma;
    LB_TRY(lb_graph_status(g, err));
    u64 total = lb_graph_node(g, x)->n_rows, dim = lb_graph_node(g, x)->n_cols;
    bool thin = total <= dim; /* of X^T the left vectors are the basis, else of X the right ones */
    s->k = LB_MIN(total, dim);
    f = thin ? lb_expr_transpose(g, x) : x;
    lb_node_id unit = identity(c->j, s->k);
    if (unit == LB_NODE_NONE && lb_graph_status(g, err) == LB_OK)
        return lb_fail(err, LB_E_NOMEM,
                       "tensor '%.*s': out of memory for ranks that add up to %llu",
                       LB_FMT(c->j->name), (unsigned long long)total);
    f = lb_expr_dense(g, LB_DENSE_SVD, f, unit, 0);
    u64 above = LB_MAX(total, dim);
    sigma = lb_expr_rows(g, f, above, 1, 1);
    lb_node_id left = lb_expr_rows(g, f, 0, 1, above),
               right = lb_expr_rows(g, f, above + 1, 1, s->k);
    s->basis = thin ? left : right;
    s->at = lb_expr_map2(g, LB_MAP_MUL, sigma, thin ? right : left, LB_CONST(0));
    return lb_graph_status(g, err);
}

/* Factors of one matrix, input after input. */
typedef struct space {
    lb_term *term;
    u32 *of; /* which of the inputs that are no base */
    u32 n, n_of;
    u64 rows; /* of the tensor */
} space;

/* M of an input; of none of the terms: zeros. */
static lb_node_id core_of(const core *c, const space *s, u32 of, const side *b, const side *a) {
    lb_graph *g = c->j->g;
    lb_node_id m = LB_NODE_NONE;
    u64 at = 0;
    for (u32 i = 0; i < s->n; at += s->term[i++].rank) {
        if (s->of[i] != of)
            continue;
        u64 rank = s->term[i].rank;
        lb_node_id p = lb_expr_product(g, lb_expr_transpose(g, lb_expr_rows(g, b->at, at, 1, rank)),
                                       lb_expr_rows(g, a->at, at, 1, rank));
        lb_scalar scale = LB_CONST((double)s->term[i].scale);
        m = m == LB_NODE_NONE ? lb_expr_map1(g, LB_MAP_MUL_C, p, scale)
                              : lb_expr_map2(g, LB_MAP_FMA_C, p, m, scale);
    }
    return m == LB_NODE_NONE ? lb_expr_fill(g, b->k, a->k, 0) : m;
}

/* base and what the inner method makes of the terms, of some rows. */
static lb_status build_space(const core *c, const space *s, lb_node_id base, lb_node_id *out,
                             lb_err *err) {
    lb_graph *g = c->j->g;
    lb_node_id *left = lb_arena_new(c->j->perm, lb_node_id, 2 * (u64)s->n),
               *m = lb_arena_new(c->j->perm, lb_node_id, s->n_of), *right, merged = LB_NODE_NONE;
    side b, a;
    if (!left || !m)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    right = left + s->n;
    for (u32 i = 0; i < s->n; i++) {
        left[i] = lb_expr_transpose(g, s->term[i].b);
        right[i] = s->term[i].a;
    }
    LB_TRY(find_side(c, left, s->n, &b, err));
    LB_TRY(find_side(c, right, s->n, &a, err));
    for (u32 i = 0; i < s->n_of; i++)
        m[i] = core_of(c, s, i, &b, &a);
    lb_shape *shape = lb_arena_new(c->j->perm, lb_shape, 1);
    if (!shape)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    *shape = (lb_shape){.rank = 2, .dim = {b.k, a.k}};
    LB_TRY(run_inner(c, m, shape, false, &merged, err));
    *out = lb_expr_lowrank(g, base, b.basis,
                           lb_expr_product(g, merged, lb_expr_transpose(g, a.basis)), 1);
    return lb_graph_status(g, err);
}

/* ---- the spaces of a tensor ---- */

typedef struct range {
    u64 from, n_rows;
} range;

static int by_place(const void *x, const void *y) {
    const range *a = x, *b = y;
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    return a->n_rows < b->n_rows ? -1 : a->n_rows > b->n_rows;
}

static bool is_in(const range *r, const lb_term *t) {
    return r->from == t->from && r->n_rows == t->n_rows;
}

/* Zeros above and below the rows of a term, so that it is one of all rows. */
static void pad(const core *c, u64 n_rows, lb_term *t) {
    lb_graph *g = c->j->g;
    u64 below = n_rows - t->from - t->n_rows;
    lb_node_id part[3];
    u32 n = 0;
    if (t->from)
        part[n++] = lb_expr_fill(g, t->from, t->rank, 0);
    part[n++] = t->b;
    if (below)
        part[n++] = lb_expr_fill(g, below, t->rank, 0);
    if (n > 1)
        t->b = lb_expr_stack(g, part, n);
    t->from = 0;
    t->n_rows = n_rows;
}

/* Ranges of rows that terms have, ascending; where some overlap, all rows are one. */
static u32 list_ranges(const core *c, space *all, range *r) {
    u32 n = 0;
    bool apart = true;
    for (u32 i = 0; i < all->n; i++)
        r[i] = (range){all->term[i].from, all->term[i].n_rows};
    qsort(r, all->n, sizeof *r, by_place);
    for (u32 i = 0; i < all->n; i++)
        if (n == 0 || r[i].from != r[n - 1].from || r[i].n_rows != r[n - 1].n_rows)
            r[n++] = r[i];
    for (u32 i = 1; i < n; i++)
        apart &= r[i].from - r[i - 1].from >= r[i - 1].n_rows;
    if (apart)
        return n;
    for (u32 i = 0; i < all->n; i++)
        pad(c, all->rows, &all->term[i]);
    r[0] = (range){0, all->rows};
    return 1;
}

/* The terms of a range, in their order. */
static void pick_terms(const space *all, const range *r, space *out) {
    out->n = 0;
    for (u32 i = 0; i < all->n; i++) {
        if (!is_in(r, &all->term[i]))
            continue;
        out->term[out->n] = all->term[i];
        out->of[out->n++] = all->of[i];
    }
}

/* Rows between ranges are the base's. */
static lb_status build_ranges(const core *c, const space *all, const range *r, u32 n_ranges,
                              lb_node_id *out, lb_err *err) {
    lb_graph *g = c->j->g;
    space one = {.term = lb_arena_new(c->j->perm, lb_term, all->n),
                 .of = lb_arena_new(c->j->perm, u32, all->n),
                 .n_of = all->n_of};
    lb_node_id *part = lb_arena_new(c->j->perm, lb_node_id, 2 * (u64)n_ranges + 1);
    u64 row = 0;
    u32 n = 0;
    if (!one.term || !one.of || !part)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    for (u32 i = 0; i < n_ranges; i++) {
        bool whole = r[i].n_rows == all->rows;
        if (r[i].from > row)
            part[n++] = lb_expr_rows(g, c->base, row, 1, r[i].from - row);
        row = r[i].from + r[i].n_rows;
        pick_terms(all, &r[i], &one);
        LB_TRY(build_space(c, &one,
                           whole ? c->base : lb_expr_rows(g, c->base, r[i].from, 1, r[i].n_rows),
                           &part[n++], err));
    }
    if (row < all->rows)
        part[n++] = lb_expr_rows(g, c->base, row, 1, all->rows - row);
    *out = n == 1 ? part[0] : lb_expr_stack(g, part, n);
    return lb_graph_status(g, err);
}

/* All terms; false: an input has another form. */
static bool list_terms(const core *c, space *all) {
    const lb_merge_job *j = c->j;
    for (u32 i = 0; i < j->n_in; i++) {
        const lb_terms *t = j->in[i].terms;
        if (j->in[i].is_base)
            continue;
        if (!t)
            return false;
        for (u32 k = 0; k < t->n; k++) {
            all->term[all->n] = t->list[k];
            all->of[all->n++] = all->n_of;
        }
        all->n_of++;
    }
    return true;
}

static lb_status build_core_space(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                                  lb_err *err) {
    const lb_merge_input *base = lb_merge_base_of(j);
    core c = {.method = m, .j = j, .base = lb_merge_values(j, base->x)};
    c.inner =
        lb_merge_method_find(lb_str_c(inner_methods[(u32)lb_merge_shared(m, j, "inner_method")]));
    LB_TRY(lb_graph_status(j->g, err));
    u64 most = 1;
    for (u32 i = 0; i < j->n_in; i++)
        most += j->in[i].terms ? j->in[i].terms->n : 0;
    space all = {.term = lb_arena_new(j->perm, lb_term, most),
                 .of = lb_arena_new(j->perm, u32, most),
                 .rows = lb_graph_node(j->g, c.base)->n_rows};
    range *r = lb_arena_new(j->perm, range, most);
    if (!all.term || !all.of || !r)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    *out = base->x;
    if (j->n_in < 2)
        return LB_OK;
    if (!list_terms(&c, &all))
        return build_dense(&c, out, err);
    if (all.n == 0)
        return LB_OK;
    return build_ranges(&c, &all, r, list_ranges(&c, &all, r), out, err);
}

static const lb_merge_param params[] = {
    {.name = "inner_method", .kind = LB_MERGE_WORD, .words = inner_methods},
    {.name = "weight", .scope = LB_MERGE_NON_BASE, .initial = 1},
    {.name = "lambda", .initial = 1},
    /* of the inner method, with its defaults */
    {.name = "density", .scope = LB_MERGE_NON_BASE, .initial = NAN, .max = 1},
    {.name = "gamma", .scope = LB_MERGE_NON_BASE, .initial = NAN, .max = 1},
    {.name = "epsilon", .scope = LB_MERGE_NON_BASE, .initial = NAN},
    {.name = "tall_lambda", .scope = LB_MERGE_NON_BASE, .initial = NAN, .max = 1e6},
    {.name = "normalize", .kind = LB_MERGE_BOOL, .initial = NAN},
    {.name = "rescale", .kind = LB_MERGE_BOOL, .initial = NAN},
    {.name = "select_topk", .initial = NAN},
    {.name = "k", .kind = LB_MERGE_INT, .initial = NAN, .max = 1e6},
    {.name = "eta", .initial = NAN, .max = 100},
};

const lb_merge_method lb_merge_core_space = {
    .name = "core_space",
    .title = "Core Space",
    .source = "https://arxiv.org/abs/2509.17786",
    .params = params,
    .n_params = LB_LEN(params),
    .base = LB_BASE_REQUIRED,
    .min_non_base = 1,
    .of_adapters = true,
    .build = build_core_space,
};
