/* SPDX-License-Identifier: Apache-2.0 */
/* shape.c: products, comparison and text of shapes. */
#include "tensor/source.h"
#include <stdio.h>

bool lb_shape_elems(const lb_shape *s, u64 *out) {
    u64 n = 1;
    bool empty = false;
    for (u32 i = 0; i < s->rank; i++) {
        if (s->dim[i] == 0)
            empty = true;
        else if (!lb_mul_u64(n, s->dim[i], &n))
            return false;
    }
    *out = empty ? 0 : n;
    return true;
}

void lb_shape_matrix(const lb_shape *s, u64 *n_rows, u64 *n_cols) {
    *n_cols = s->rank ? s->dim[s->rank - 1] : 1;
    *n_rows = 1;
    for (u32 i = 0; i + 1 < s->rank; i++)
        *n_rows *= s->dim[i]; /* checked by the reader: the product of all dims fits */
}

bool lb_shape_eq(const lb_shape *a, const lb_shape *b) {
    if (a->rank != b->rank)
        return false;
    for (u32 i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

/* Longest: 8 dims of 20 digits, 7 separators of 2, brackets and NUL = 177. */
_Static_assert(LB_SHAPE_TEXT >= LB_RANK_MAX * 20 + (LB_RANK_MAX - 1) * 2 + 3, "shape text");

const char *lb_shape_text(const lb_shape *s, char *out) {
    size_t at = 1;
    out[0] = '[';
    for (u32 i = 0; i < s->rank && i < LB_RANK_MAX; i++)
        at += (size_t)snprintf(out + at, LB_SHAPE_TEXT - at, "%s%llu", i ? ", " : "",
                               (unsigned long long)s->dim[i]);
    snprintf(out + at, LB_SHAPE_TEXT - at, "]");
    return out;
}
