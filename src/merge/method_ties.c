/* SPDX-License-Identifier: Apache-2.0 */
/* method_ties.c: ties, breadcrumbs and breadcrumbs_ties: task arithmetic with what is left of the
 * differences when the small ones are dropped, and the largest ones.
 *
 * Exactly the wanted number is kept: of equal magnitudes those with the lowest indices, which in
 * mergekit is up to torch's sort. */
#include "merge/sparsify.h"
#include "merge/task_arithmetic.h"

/* int(part * n). The product is less than 2^53. */
static u64 part_of(double part, u64 n) {
    double x = part * (double)n;
    return x <= 0 ? 0 : x >= (double)n ? n : (u64)x;
}

static u64 elems_of(const lb_merge_job *j, lb_node_id x) {
    const lb_node *n = lb_graph_node(j->g, x);
    return n->n_rows * n->n_cols;
}

/* Keeps ranks [top, last) of *delta, and scales them to its norm if that is asked for. */
static void keep(const lb_merge_method *m, const lb_merge_job *j, u64 top, u64 last,
                 lb_node_id *delta) {
    lb_node_id whole = *delta;
    if (last <= top) {
        *delta = lb_expr_map1(j->g, LB_MAP_MUL_C, whole, LB_CONST(0));
        return;
    }
    *delta = lb_expr_keep(j->g, top ? lb_expr_select(j->g, whole, (u64[]){top, last}, 2, NULL)
                                    : lb_expr_select(j->g, whole, &last, 1, NULL));
    if (lb_merge_shared(m, j, "rescale") != 0)
        *delta = lb_merge_rescale(j, j->work, whole, *delta);
}

/* The largest max(1, int(density n)); none of density 0 (magnitude of mergekit 0.1.5). */
static lb_status magnitude(const lb_merge_method *m, const lb_merge_job *j,
                           const lb_merge_input *in, lb_node_id *delta, lb_err *err) {
    double density = lb_merge_of(m, in, "density");
    LB_TRY(lb_graph_status(j->g, err));
    u64 n = elems_of(j, *delta);
    if (density >= 1 || n == 0)
        return LB_OK;
    keep(m, j, 0, density <= 0 ? 0 : LB_MAX(part_of(density, n), 1), delta);
    return lb_graph_status(j->g, err);
}

/* The int(density n) next to the largest int(gamma n), of which fewer are dropped where not so many
 * would be left (magnitude_outliers of mergekit 0.1.5). */
static lb_status magnitude_outliers(const lb_merge_method *m, const lb_merge_job *j,
                                    const lb_merge_input *in, lb_node_id *delta, lb_err *err) {
    double density = lb_merge_of(m, in, "density");
    LB_TRY(lb_graph_status(j->g, err));
    u64 n = elems_of(j, *delta);
    if (density >= 1 || n == 0)
        return LB_OK;
    u64 kept = part_of(density, n), top = part_of(lb_merge_of(m, in, "gamma"), n);
    top = LB_MIN(top, n - kept);
    keep(m, j, top, top + kept, delta);
    return lb_graph_status(j->g, err);
}

static lb_status build_ties(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                            lb_err *err) {
    return lb_merge_task_build(m, j, &(lb_merge_task_way){.consensus = true, .sparsify = magnitude},
                               out, err);
}

static lb_status build_breadcrumbs(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                                   lb_err *err) {
    return lb_merge_task_build(m, j, &(lb_merge_task_way){.sparsify = magnitude_outliers}, out,
                               err);
}

static lb_status build_breadcrumbs_ties(const lb_merge_method *m, const lb_merge_job *j,
                                        lb_node_id *out, lb_err *err) {
    return lb_merge_task_build(
        m, j, &(lb_merge_task_way){.consensus = true, .sparsify = magnitude_outliers}, out, err);
}

static const lb_merge_param ties_params[] = {LB_MERGE_TASK_PARAMS(1, 0)};
static const lb_merge_param breadcrumbs_params[] = {
    LB_MERGE_TASK_PARAMS(0, 0),
    {.name = "gamma", .scope = LB_MERGE_NON_BASE, .initial = 0.01, .max = 1},
};

const lb_merge_method lb_merge_ties = {
    .name = "ties",
    .title = "TIES",
    .source = "https://arxiv.org/abs/2306.01708",
    .params = ties_params,
    .n_params = LB_LEN(ties_params),
    .base = LB_BASE_REQUIRED,
    .build = build_ties,
};

const lb_merge_method lb_merge_breadcrumbs = {
    .name = "breadcrumbs",
    .title = "Model Breadcrumbs",
    .source = "https://arxiv.org/abs/2312.06795",
    .params = breadcrumbs_params,
    .n_params = LB_LEN(breadcrumbs_params),
    .base = LB_BASE_REQUIRED,
    .build = build_breadcrumbs,
};

const lb_merge_method lb_merge_breadcrumbs_ties = {
    .name = "breadcrumbs_ties",
    .title = "Model Breadcrumbs with TIES",
    .source = "https://arxiv.org/abs/2312.06795",
    .params = breadcrumbs_params,
    .n_params = LB_LEN(breadcrumbs_params),
    .base = LB_BASE_REQUIRED,
    .build = build_breadcrumbs_ties,
};
