/* SPDX-License-Identifier: Apache-2.0 */
/* out.c: see out.h. */
#include "io/out.h"

#define PIECE_BYTES ((size_t)64 << 10)

static void hand_on(lb_out *o) {
    if (lb_out_failed(o) || o->buf.len == 0)
        return;
    if (o->put && o->put(o->ctx, lb_buf_str(&o->buf), &o->err) != LB_OK && o->err.code == LB_OK)
        o->err.code = LB_E_IO;
    o->n_bytes += o->buf.len;
    lb_buf_reset(&o->buf);
}

void lb_out_spill(lb_out *o) {
    if (o->buf.len >= PIECE_BYTES)
        hand_on(o);
}

lb_status lb_out_end(lb_out *o, lb_err *err) {
    lb_status st = lb_buf_status(&o->buf, err);
    hand_on(o);
    if (o->err.code != LB_OK) {
        st = o->err.code;
        if (err)
            *err = o->err;
    }
    lb_buf_deinit(&o->buf);
    return st;
}

lb_status lb_out_to_buf(void *ctx, lb_str piece, lb_err *err) {
    lb_buf_put_str(ctx, piece);
    return lb_buf_status(ctx, err);
}
