/* SPDX-License-Identifier: Apache-2.0 */
/* method_svd.c: methods over the singular values of differences to a base: iso_c, star, tsv. In
 * f32, factorisations in double, one rounding, whatever --rounding says.
 *
 * Matrices but embeddings and output matrices are factorised; all else, as in the reference
 * implementations, is averaged. iso_c and star read a matrix twice and hold the square of its
 * smaller side (Gram matrix, eigenvectors, function of it); tsv holds bases of all models. What is
 * wider than high is worked on turned over, and the result held or kept in a temporary file. */
#include "merge/method.h"

typedef struct svd_job {
    lb_node_id base;
    lb_node_id *delta; /* [n] times their weights */
    u32 n;
    bool matrix, turned; /* turned: wider than high */
    u64 least;           /* of rows and columns */
} svd_job;

static lb_status prepare(const lb_merge_method *m, const lb_merge_job *j, svd_job *s, lb_err *err) {
    *s = (svd_job){.base = lb_merge_values(j, lb_merge_base_of(j)->x),
                   .delta = lb_arena_new(j->perm, lb_node_id, j->n_in)};
    if (!s->delta)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    for (u32 i = 0; i < j->n_in; i++) {
        if (j->in[i].is_base)
            continue;
        lb_node_id d =
            lb_expr_map2(j->g, LB_MAP_SUB, lb_merge_values(j, j->in[i].x), s->base, LB_CONST(0));
        double w = lb_merge_of(m, &j->in[i], "weight");
        s->delta[s->n++] = w == 1 ? d : lb_expr_map1(j->g, LB_MAP_MUL_C, d, LB_CONST(w));
    }
    LB_TRY(lb_graph_status(j->g, err));
    const lb_node *b = lb_graph_node(j->g, s->base);
    s->matrix = j->shape->rank == 2 && !j->is_vocab && s->n > 0;
    s->turned = b->n_cols > b->n_rows;
    s->least = LB_MIN(b->n_rows, b->n_cols);
    return LB_OK;
}

static lb_node_id sum_of(const lb_merge_job *j, const svd_job *s) {
    lb_node_id sum = s->delta[0];
    for (u32 i = 1; i < s->n; i++)
        sum = lb_expr_map2(j->g, LB_MAP_ADD, sum, s->delta[i], LB_CONST(0));
    return sum;
}

static lb_node_id turn(const lb_merge_job *j, const svd_job *s, lb_node_id x) {
    return s->turned ? lb_expr_transpose(j->g, x) : x;
}

/* base + lambda x; x: LB_NODE_NONE: the mean of the differences. */
static lb_status finish(const lb_merge_method *m, const lb_merge_job *j, const svd_job *s,
                        lb_node_id x, lb_node_id *out, lb_err *err) {
    double lambda = lb_merge_shared(m, j, "lambda");
    *out = s->base;
    if (s->n == 0)
        return lb_graph_status(j->g, err);
    if (x == LB_NODE_NONE) {
        x = sum_of(j, s);
        lambda /= s->n;
    }
    *out = lb_expr_map2(j->g, LB_MAP_FMA_C, x, s->base, LB_CONST(lambda));
    return lb_graph_status(j->g, err);
}

/* ---- iso_c ---- */

/* base + lambda mean(sigma) U V^T of sum w d = U diag(sigma) V^T (D. Marczak et al., "No Task Left
 * Behind", algorithm 1; iso_c in fusion_bench/method/isotropic_merging/iso_utils.py). The mean is
 * that of all singular values; directions of those that are 0 but for rounding (2^-22 of the
 * largest), which are arbitrary, are left out. */
static lb_status build_iso_c(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                             lb_err *err) {
    svd_job s;
    LB_TRY(prepare(m, j, &s, err));
    if (!s.matrix)
        return finish(m, j, &s, LB_NODE_NONE, out, err);
    lb_node_id x = turn(j, &s, sum_of(j, &s));
    x = lb_expr_product(j->g, x, lb_expr_dense(j->g, LB_DENSE_FLAT, x, LB_NODE_NONE, 0));
    return finish(m, j, &s, turn(j, &s, x), out, err);
}

static const lb_merge_param svd_params[] = {
    {.name = "weight", .scope = LB_MERGE_NON_BASE, .initial = 1},
    {.name = "lambda", .initial = 1},
};

const lb_merge_method lb_merge_iso_c = {
    .name = "iso_c",
    .title = "Iso-C",
    .source = "https://arxiv.org/abs/2502.04959",
    .params = svd_params,
    .n_params = LB_LEN(svd_params),
    .base = LB_BASE_REQUIRED,
    .build = build_iso_c,
};

/* ---- star ---- */

/* base + lambda / N sum w star(d): of d the largest singular values that have eta percent of their
 * sum, times what makes their sum that of all (Y. Lee et al., "STAR: Spectral Truncation and
 * Rescale", equations 1 to 4; merger/STAR.py of IBM/STAR, averaged as simple_avg.py does). */
static lb_status build_star(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                            lb_err *err) {
    svd_job s;
    double part = lb_merge_shared(m, j, "eta") / 100;
    LB_TRY(prepare(m, j, &s, err));
    for (u32 i = 0; i < s.n && s.matrix; i++) {
        lb_node_id x = turn(j, &s, s.delta[i]);
        x = lb_expr_product(j->g, x, lb_expr_dense(j->g, LB_DENSE_TOP, x, LB_NODE_NONE, part));
        s.delta[i] = turn(j, &s, x);
    }
    return finish(m, j, &s, LB_NODE_NONE, out, err);
}

static const lb_merge_param star_params[] = {
    {.name = "weight", .scope = LB_MERGE_NON_BASE, .initial = 1},
    {.name = "eta", .initial = 40, .min = 0, .max = 100},
    {.name = "lambda", .initial = 1},
};

const lb_merge_method lb_merge_star = {
    .name = "star",
    .title = "STAR",
    .source = "https://arxiv.org/abs/2502.10339",
    .params = star_params,
    .n_params = LB_LEN(star_params),
    .base = LB_BASE_REQUIRED,
    .build = build_star,
};

/* ---- tsv ---- */

/* Parts of the largest singular value below which one is rounding's (LEAST of plan/dense.c). */
#define LEAST 0x1p-22

/* Factors without directions of singular values that are 0 but for rounding: they are arbitrary,
 * and what is made orthonormal to them would be so, too. */
static lb_node_id without_noise(const lb_merge_job *j, lb_node_id factors, u64 sigma_row) {
    lb_node_id sigma = lb_expr_rows(j->g, factors, sigma_row, 1, 1);
    lb_scalar most = {.stat = lb_expr_stat(j->g, LB_STAT_RANGE, sigma, LB_NODE_NONE, 0),
                      .result = 1,
                      .fn = LB_SCALAR_INV};
    lb_node_id part = lb_expr_map1(j->g, LB_MAP_MUL_C, sigma, most);
    part = lb_expr_map1(j->g, LB_MAP_ABOVE_C, part, LB_CONST(LEAST));
    return lb_expr_map2(j->g, LB_MAP_MUL, part, factors, LB_CONST(0));
}

/* Rows of the factors of all models, one model's columns after the other's: [from, from + n). */
static lb_node_id side_by_side(const lb_merge_job *j, const lb_node_id *factors, u32 n_models,
                               u64 from, u64 n) {
    lb_node_id x[LB_GRAM_MAX];
    for (u32 i = 0; i < n_models; i++)
        x[i] = lb_expr_transpose(j->g, lb_expr_rows(j->g, factors[i], from, 1, n));
    return n_models == 1 ? x[0] : lb_expr_stack(j->g, x, n_models);
}

/* base + lambda P(U) diag(sigma) P(V)^T: of each of N differences the first 1/N of its singular
 * values, with their vectors side by side in U and V, and P(X) = X (X^T X)^-1/2 (A. Gargiulo et
 * al., "Task Singular Vectors", algorithm 1; compute_and_sum_svd_mem_reduction in
 * fusion_bench/method/task_singular_vector). */
static lb_status build_tsv(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                           lb_err *err) {
    svd_job s;
    LB_TRY(prepare(m, j, &s, err));
    u64 k = s.n ? s.least / s.n : 0;
    if (s.n > LB_GRAM_MAX)
        return lb_fail(err, LB_E_LIMIT, "tensor '%.*s': tsv of more than %d models",
                       LB_FMT(j->name), LB_GRAM_MAX);
    if (!s.matrix)
        return finish(m, j, &s, LB_NODE_NONE, out, err);
    if (k == 0) {
        *out = s.base;
        return lb_graph_status(j->g, err);
    }
    u64 rows = 0, cols = 0;
    for (u32 i = 0; i < s.n; i++) {
        lb_node_id x = turn(j, &s, s.delta[i]), v;
        v = lb_expr_dense(j->g, LB_DENSE_EIGEN, x, LB_NODE_NONE, (double)k);
        s.delta[i] = lb_expr_dense(j->g, LB_DENSE_SVD, lb_expr_product(j->g, x, v), v, 0);
        LB_TRY(lb_graph_status(j->g, err));
        rows = lb_graph_node(j->g, x)->n_rows;
        cols = lb_graph_node(j->g, x)->n_cols;
        s.delta[i] = without_noise(j, s.delta[i], rows);
    }
    lb_node_id u = lb_expr_transpose(j->g, side_by_side(j, s.delta, s.n, 0, rows)),
               v = lb_expr_transpose(j->g, side_by_side(j, s.delta, s.n, rows + 1, cols)),
               sigma = side_by_side(j, s.delta, s.n, rows, 1);
    u = lb_expr_dense(j->g, LB_DENSE_POLAR, u, LB_NODE_NONE, 0);
    v = lb_expr_transpose(j->g, lb_expr_dense(j->g, LB_DENSE_POLAR, v, LB_NODE_NONE, 0));
    v = lb_expr_map2(j->g, LB_MAP_MUL, v, sigma, LB_CONST(0));
    return finish(m, j, &s, turn(j, &s, lb_expr_product(j->g, u, v)), out, err);
}

const lb_merge_method lb_merge_tsv = {
    .name = "tsv",
    .title = "TSV-Merge",
    .source = "https://arxiv.org/abs/2412.00081",
    .params = svd_params,
    .n_params = LB_LEN(svd_params),
    .base = LB_BASE_REQUIRED,
    .build = build_tsv,
};
