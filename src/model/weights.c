/* SPDX-License-Identifier: Apache-2.0 */
/* weights.c: see weights.h. */
#include "model/weights.h"
#include <stdio.h>

static lb_str name_of(const void *list, u64 i) {
    return ((const lb_mweight *)list)[i].name;
}

lb_status lb_mweights_index(lb_mweights *w, lb_err *err) {
    for (u64 i = 0; i < w->n; i++) {
        u64 first;
        LB_TRY(lb_names_put(&w->by_name, name_of, w->list, i, &first, err));
        if (first != i)
            return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is there twice",
                           LB_FMT(w->list[i].name));
    }
    return LB_OK;
}

const lb_mweight *lb_mweights_find(const lb_mweights *w, lb_str name) {
    u64 i;
    return lb_names_find(&w->by_name, name_of, w->list, name, &i) ? &w->list[i] : NULL;
}

const lb_mweight *lb_mweights_layer(const lb_mweights *w, u32 layer, const char *what) {
    char name[128];
    int n = snprintf(name, sizeof name, "blk.%u.%s", layer, what);
    LB_ASSERT(n > 0 && (size_t)n < sizeof name);
    return lb_mweights_find(w, (lb_str){name, (size_t)n});
}

bool lb_mweight_is_values(lb_str name, const lb_shape *shape) {
    static const char *const ends[] = {"_norm.weight", "conv.weight", "conv1d.weight"};
    for (size_t i = 0; i < LB_LEN(ends); i++)
        if (lb_str_ends(name, lb_str_c(ends[i])))
            return true;
    /* a matrix of one row, which GGUF keeps without the 1 */
    if (lb_str_ends(name, LB_STR("_gate_inp_shexp.weight")))
        return false;
    return shape->rank < 2 || !lb_str_ends(name, LB_STR(".weight"));
}

lb_mat lb_mat_part(const lb_mat *m, u64 from, u64 n) {
    lb_mat out = *m;
    out.codes += from * m->row_bytes;
    u64 scale_rows = m->kind == LB_ENC_FP8 ? (m->block_rows ? from / m->block_rows : 0) : from;
    if (out.scale)
        out.scale += scale_rows * m->scale_bytes;
    if (out.bias)
        out.bias += scale_rows * m->scale_bytes;
    out.n_rows = n;
    return out;
}
