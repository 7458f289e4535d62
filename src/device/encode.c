/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c: launches of the kernels that quantize, and the codebooks as they take them. */
#include "device/encode.h"
#include "kernel/quant_grid.h"

void lb_dev_encode_table(lb_dtype t, const void *tables, u32 *out) {
    const lb_grid *g = tables;
    u32 end = 2 * g->n_keys;
    for (u32 key = 0; key < g->n_keys; key++) {
        const u32 at = (u32)g->at[key];
        if (g->at[key] >= 0) {
            out[2 * key] = 0;
            out[2 * key + 1] = g->point[at] | at << 16;
            continue;
        }
        out[2 * key] = end;
        out[2 * key + 1] = g->n_near[key];
        memcpy(out + end, g->near + ~at, g->n_near[key] * sizeof(u32));
        end += g->n_near[key];
    }
    LB_ASSERT(end == lb_dev_encode_table_words(t));
}

lb_status lb_dev_encode_launch(lb_dev_queue *q, const lb_dev_encode *e, lb_err *err) {
    lb_dev_launch l = {.val = &e->val, .val_bytes = sizeof e->val};
    if (!lb_dev_encode_of(e->type, &l.kernel))
        return lb_fail(err, LB_E_UNSUPPORTED, "no kernel quantizes to %s",
                       lb_dtype_get(e->type)->name);
    l.buf[l.n_bufs++] = e->in;
    l.buf[l.n_bufs++] = e->imp;
    if (lb_dev_encode_table_words(e->type))
        l.buf[l.n_bufs++] = e->grid;
    l.buf[l.n_bufs++] = e->out;
    return lb_dev_queue_launch(q, &l, err);
}

lb_status lb_dev_encode_mlx_launch(lb_dev_queue *q, const lb_dev_encode_mlx *e, lb_err *err) {
    return lb_dev_queue_launch(
        q,
        &(lb_dev_launch){.kernel = e->affine ? LB_DK_enc_mlx_affine : LB_DK_enc_mlx_float,
                         .buf = {e->in, e->codes, e->scales, e->biases},
                         .n_bufs = e->affine ? 4 : 3,
                         .val = &e->val,
                         .val_bytes = sizeof e->val},
        err);
}

lb_status lb_dev_refine_launch(lb_dev_queue *q, const lb_dev_encode *e, lb_dev_arg blocks,
                               lb_err *err) {
    lb_dev_launch l = {.buf = {e->in, e->imp, blocks, e->out},
                       .n_bufs = 4,
                       .val = &e->val,
                       .val_bytes = sizeof e->val};
    if (!lb_dev_refine_of(e->type, &l.kernel))
        return lb_fail(err, LB_E_UNSUPPORTED, "no kernel refines %s", lb_dtype_get(e->type)->name);
    return lb_dev_queue_launch(q, &l, err);
}
