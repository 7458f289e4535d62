/* SPDX-License-Identifier: Apache-2.0 */
/* method_beyond.c: methods over differences to a base that mergekit 0.1.5 does not have: lines,
 * consensus_ta, cabs. In f32, one rounding, whatever --rounding says: no other program's roundings
 * are to be met. */
#include "kernel/select_nm.h"
#include "merge/sphere.h"
#include <math.h>

/* ---- what they share ---- */

/* The differences of the models to the base in f32, their weights. */
typedef struct beyond {
    lb_node_id base;
    lb_node_id *delta; /* [n] */
    const lb_merge_input **in;
    float *w;
    u32 n;
} beyond;

static lb_status prepare(const lb_merge_method *m, const lb_merge_job *j, beyond *b, lb_err *err) {
    *b = (beyond){.base = lb_merge_values(j, lb_merge_base_of(j)->x),
                  .delta = lb_arena_new(j->perm, lb_node_id, j->n_in),
                  .in = lb_arena_new(j->perm, const lb_merge_input *, j->n_in),
                  .w = lb_arena_new(j->perm, float, j->n_in)};
    if (!b->delta || !b->in || !b->w)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    for (u32 i = 0; i < j->n_in; i++) {
        if (j->in[i].is_base)
            continue;
        b->delta[b->n] =
            lb_expr_map2(j->g, LB_MAP_SUB, lb_merge_values(j, j->in[i].x), b->base, LB_CONST(0));
        b->in[b->n] = &j->in[i];
        b->w[b->n++] = (float)lb_merge_of(m, &j->in[i], "weight");
    }
    return LB_OK;
}

static lb_node_id map1(const lb_merge_job *j, lb_map_op op, lb_node_id a, double c) {
    return lb_expr_map1(j->g, op, a, LB_CONST(c));
}

static lb_node_id map2(const lb_merge_job *j, lb_map_op op, lb_node_id a, lb_node_id b) {
    return lb_expr_map2(j->g, op, a, b, LB_CONST(0));
}

/* x w + sum (LB_NODE_NONE: x w). */
static lb_node_id add_times(const lb_merge_job *j, lb_node_id sum, lb_node_id x, double w) {
    return sum == LB_NODE_NONE ? map1(j, LB_MAP_MUL_C, x, w)
                               : lb_expr_map2(j->g, LB_MAP_FMA_C, x, sum, LB_CONST(w));
}

/* 1 where a > b, else 0: a - b is above 0 exactly where a is above b. */
static lb_node_id above(const lb_merge_job *j, lb_node_id a, lb_node_id b) {
    return map1(j, LB_MAP_ABOVE_C, map1(j, LB_MAP_MAX_C, map2(j, LB_MAP_SUB, a, b), 0), 0);
}

static lb_status add_to_base(const lb_merge_job *j, lb_node_id base, lb_node_id sum, double times,
                             lb_node_id *out, lb_err *err) {
    *out = sum == LB_NODE_NONE ? base
           : times == 1        ? map2(j, LB_MAP_ADD, base, sum)
                               : lb_expr_map2(j->g, LB_MAP_FMA_C, sum, base, LB_CONST(times));
    return lb_graph_status(j->g, err);
}

/* ---- lines ---- */

/* base + (alpha + beta l / (L - 1)) sum w d in layer l of L, alpha alone outside of layers (LiNeS,
 * section 4; LiNeS_scaling in src/eval/eval.py of wang-kee/LiNeS). Defaults: alpha 1/N, which for a
 * sum of task vectors is what that script computes from norms (their ratio is 1 then), and beta
 * 1 - alpha, so that the last layer has the whole sum and one model's last layer is unchanged. */
static lb_status build_lines(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                             lb_err *err) {
    beyond b;
    lb_node_id sum = LB_NODE_NONE;
    LB_TRY(prepare(m, j, &b, err));
    double alpha = lb_merge_shared(m, j, "alpha"), beta = lb_merge_shared(m, j, "beta");
    if (alpha != alpha)
        alpha = 1.0 / LB_MAX(b.n, 1);
    if (beta != beta)
        beta = 1 - alpha;
    for (u32 i = 0; i < b.n; i++)
        sum = add_times(j, sum, b.delta[i], b.w[i]);
    double depth = j->n_layers > 1 && j->layer < j->n_layers
                       ? (double)j->layer / (double)(j->n_layers - 1)
                       : 0;
    return add_to_base(j, b.base, sum, alpha + beta * depth, out, err);
}

static const lb_merge_param lines_params[] = {
    {.name = "weight", .scope = LB_MERGE_NON_BASE, .initial = 1},
    {.name = "alpha", .initial = NAN},
    {.name = "beta", .initial = NAN},
};

const lb_merge_method lb_merge_lines = {
    .name = "lines",
    .title = "LiNeS",
    .source = "https://arxiv.org/abs/2410.17146",
    .params = lines_params,
    .n_params = LB_LEN(lines_params),
    .base = LB_BASE_REQUIRED,
    .build = build_lines,
};

/* ---- consensus_ta ---- */

/* base + lambda D where at least k of the TALL masks |t_i| > tall_lambda |D - t_i| hold, else base;
 * t_i = w_i d_i, D = sum t_i (Wang, Dimitriadis et al., sections 3 and 4; tallmask_utils.py of
 * nik-dim/tall_masks). k 1 drops what serves no model, 2 also what serves one alone. */
static lb_status build_consensus_ta(const lb_merge_method *m, const lb_merge_job *j,
                                    lb_node_id *out, lb_err *err) {
    beyond b;
    lb_node_id sum = LB_NODE_NONE, count = LB_NODE_NONE;
    LB_TRY(prepare(m, j, &b, err));
    for (u32 i = 0; i < b.n; i++) {
        if (b.w[i] != 1)
            b.delta[i] = map1(j, LB_MAP_MUL_C, b.delta[i], b.w[i]);
        sum = i ? map2(j, LB_MAP_ADD, sum, b.delta[i]) : b.delta[0];
    }
    double k = lb_merge_shared(m, j, "k");
    for (u32 i = 0; i < b.n && k > 0; i++) {
        lb_node_id rest = map1(j, LB_MAP_ABS, map2(j, LB_MAP_SUB, sum, b.delta[i]), 0);
        rest = map1(j, LB_MAP_MUL_C, rest, lb_merge_of(m, b.in[i], "tall_lambda"));
        lb_node_id mask = above(j, map1(j, LB_MAP_ABS, b.delta[i], 0), rest);
        count = i ? map2(j, LB_MAP_ADD, count, mask) : mask;
    }
    if (count != LB_NODE_NONE)
        sum = map2(j, LB_MAP_MUL, sum, map1(j, LB_MAP_ABOVE_C, count, k - 0.5));
    return add_to_base(j, b.base, sum, lb_merge_shared(m, j, "lambda"), out, err);
}

static const lb_merge_param consensus_params[] = {
    {.name = "weight", .scope = LB_MERGE_NON_BASE, .initial = 1},
    {.name = "tall_lambda", .scope = LB_MERGE_NON_BASE, .initial = 0.4, .min = 0, .max = 1e6},
    {.name = "k", .kind = LB_MERGE_INT, .initial = 2, .min = 0, .max = 1e6},
    {.name = "lambda", .initial = 1},
};

const lb_merge_method lb_merge_consensus_ta = {
    .name = "consensus_ta",
    .title = "Consensus Task Arithmetic (TALL masks)",
    .source = "https://arxiv.org/abs/2405.07813",
    .params = consensus_params,
    .n_params = LB_LEN(consensus_params),
    .base = LB_BASE_REQUIRED,
    .build = build_consensus_ta,
};

/* ---- cabs ---- */

/* base + lambda sum w_i d_i M_i; M_i keeps n of each m neighbours of d_i in a row: the largest that
 * no model before has kept, and where fewer are left, the largest of the others too, so that models
 * overlap as little as n and m allow (CABS, section 4, and its sparse_task_vectors in
 * prune_task_vector_7b.py of zongzhenyang/CABS, which takes two models; n:m of their experiments).
 * Models in the order of the file. */
static lb_status build_cabs(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                            lb_err *err) {
    beyond b;
    lb_node_id sum = LB_NODE_NONE, claimed = LB_NODE_NONE;
    LB_TRY(prepare(m, j, &b, err));
    for (u32 i = 0; i < b.n; i++) {
        u32 n = (u32)lb_merge_of(m, b.in[i], "n"), of = (u32)lb_merge_of(m, b.in[i], "m");
        if (n > of)
            return lb_fail(err, LB_E_USAGE, "tensor '%.*s': cabs keeps n of m: n is %u, m %u",
                           LB_FMT(j->name), n, of);
        lb_node_id mask = lb_expr_row_nm(j->g, b.delta[i], claimed, n, of);
        sum = add_times(j, sum, map2(j, LB_MAP_MUL, b.delta[i], mask), b.w[i]);
        if (i + 1 < b.n)
            claimed = i ? map2(j, LB_MAP_ADD, claimed, mask) : mask;
    }
    return add_to_base(j, b.base, sum, lb_merge_shared(m, j, "lambda"), out, err);
}

static const lb_merge_param cabs_params[] = {
    {.name = "weight", .scope = LB_MERGE_NON_BASE, .initial = 1},
    {.name = "n",
     .scope = LB_MERGE_NON_BASE,
     .kind = LB_MERGE_INT,
     .initial = 64,
     .min = 1,
     .max = LB_NM_MAX},
    {.name = "m",
     .scope = LB_MERGE_NON_BASE,
     .kind = LB_MERGE_INT,
     .initial = 256,
     .min = 1,
     .max = LB_NM_MAX},
    {.name = "lambda", .initial = 1},
};

const lb_merge_method lb_merge_cabs = {
    .name = "cabs",
    .title = "CABS",
    .source = "https://arxiv.org/abs/2503.01874",
    .params = cabs_params,
    .n_params = LB_LEN(cabs_params),
    .base = LB_BASE_REQUIRED,
    .build = build_cabs,
};
