/* SPDX-License-Identifier: Apache-2.0 */
/* method_arcee.c: arcee_fusion: differences where they are important: large, and in a row whose
 * softmax changes much (arcee_fusion.py of mergekit 0.1.5).
 *
 * Of more than a million elements mergekit takes the quantiles of a random sample; here they are
 * those of all. */
#include "kernel/divergence.h"
#include "kernel/half.h"
#include "merge/sphere.h"
#include <math.h>

/* value: quartiles, the largest first. param: type, whether they are what lb_order_of makes of
 * them. out: what is larger is fused: just less than median + 1.5 (q3 - q1), which is fused too. */
static const char *arcee_formula(const lb_formula *f, const double *value, u32 n, double *out) {
    double type = f->param[0], q[3];
    bool ordered = f->param[1] != 0;
    for (u32 i = 0; i < n; i++)
        q[i] = ordered ? (double)lb_order_value((float)value[i]) : value[i];
    double range = lb_merge_typed_number(type, 1.5 * lb_merge_typed_number(type, q[0] - q[2]));
    float least = (float)lb_merge_typed_number(type, q[1] + range);
    if (ordered && least == least)
        least = lb_order_of(least);
    out[0] = least > 0 ? (double)lb_f32_from_bits(lb_f32_bits(least) - 1) : least == 0 ? -1 : NAN;
    return NULL;
}

/* |x - base| times the divergence of the rows. In 16 bits that is a sum of roundings, which may be
 * negative: then all is put in order as non-negative numbers. */
static lb_node_id importance_of(const lb_merge_job *j, lb_node_id delta, lb_node_id x,
                                lb_node_id base, bool *ordered) {
    bool half = j->rounding == LB_MERGE_MERGEKIT && j->work != LB_F32;
    lb_kl_how how = !half ? LB_KL_DOUBLE : j->work == LB_F16 ? LB_KL_F16 : LB_KL_BF16;
    lb_node_id kl = lb_expr_row_kl(j->g, x, base, how);
    if (!half)
        kl = lb_expr_map1(j->g, LB_MAP_MAX_C, kl, LB_CONST(0));
    lb_node_id size = lb_expr_map1(j->g, LB_MAP_ABS, delta, LB_CONST(0));
    lb_node_id out = lb_merge_map2(j, LB_MAP_MUL, size, kl);
    *ordered = half;
    return half ? lb_expr_map1(j->g, LB_MAP_ORDER, out, LB_CONST(0)) : out;
}

static lb_status build_arcee_fusion(const lb_merge_method *m, const lb_merge_job *j,
                                    lb_node_id *out, lb_err *err) {
    lb_graph *g = j->g;
    u32 b = j->in[0].is_base ? 0 : 1;
    bool ordered = false;
    lb_node_id base = lb_merge_typed(j, &j->in[b]), x = lb_merge_typed(j, &j->in[1 - b]);
    LB_TRY(lb_graph_status(g, err));
    const lb_node *shape = lb_graph_node(g, base);
    u64 n = shape->n_rows * shape->n_cols, rank[3];
    *out = base;
    if (n == 0)
        return LB_OK;
    lb_node_id delta = lb_merge_map2(j, LB_MAP_SUB, x, base);
    lb_node_id importance = importance_of(j, delta, x, base, &ordered);
    double param[2] = {lb_merge_number_type(j), ordered};
    lb_formula f = {
        .name = m->name, .run = arcee_formula, .param = param, .n_params = 2, .n_out = 1};
    for (u64 i = 0; i < 3; i++) /* those at q (n - 1), cut off, in ascending order */
        rank[i] = n - ((n - 1) / 4 * (3 - i) + (n - 1) % 4 * (3 - i) / 4);
    lb_scalar least = {.stat = lb_expr_select(g, importance, rank, 3, &f)};
    /* mergekit's mask is of f32, and so is all behind it */
    lb_node_id mask = lb_expr_map1(g, LB_MAP_ABOVE_C, importance, least);
    delta = lb_expr_map2(g, LB_MAP_MUL, delta, mask, LB_CONST(0));
    *out = lb_expr_map2(g, LB_MAP_ADD, base, delta, LB_CONST(0));
    return lb_graph_status(g, err);
}

const lb_merge_method lb_merge_arcee_fusion = {
    .name = "arcee_fusion",
    .title = "Arcee Fusion",
    .source = "https://arcee.ai",
    .base = LB_BASE_REQUIRED,
    .min_in = 2,
    .max_in = 2,
    .lack = LB_LACK_COPY_ONE,
    .build = build_arcee_fusion,
};
