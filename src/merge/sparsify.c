/* SPDX-License-Identifier: Apache-2.0 */
/* sparsify.c: see sparsify.h. */
#include "merge/sparsify.h"
#include "merge/sphere.h"
#include <math.h>

/* norm: of the whole, of what is kept. param: type. Sums that f16 cannot hold are infinite in
 * mergekit, and all that is kept NaN: then they are not rounded. */
static const char *rescale_formula(const lb_formula *f, const double *norm, u32 n, double *out) {
    double type = f->param[0], eps = lb_merge_typed_number(type, 1e-7);
    double whole = lb_merge_typed_number(type, norm[0]),
           kept = lb_merge_typed_number(type, norm[1]);
    (void)n;
    if (isinf(whole) || isinf(kept)) {
        whole = norm[0];
        kept = norm[1];
    }
    out[0] = whole < eps || kept < eps ? 1 : lb_merge_typed_number(type, whole / kept);
    return NULL;
}

lb_node_id lb_merge_rescale(const lb_merge_job *j, lb_dtype type, lb_node_id whole,
                            lb_node_id kept) {
    double how = j->rounding == LB_MERGE_MERGEKIT ? (double)type + 1 : 0;
    const lb_node_id x[2] = {whole, kept};
    lb_formula f = {
        .name = "rescale", .run = rescale_formula, .param = &how, .n_params = 1, .n_out = 1};
    return lb_merge_by(j, LB_MAP_MUL_C, kept, lb_expr_norms(j->g, LB_STAT_NORMS1, x, 2, &f), 0);
}
