/* SPDX-License-Identifier: Apache-2.0 */
/* out.h: bytes on their way to a file, a comparison or nowhere, in pieces of bounded size.
 *
 * A writer appends to buf with any lb_buf function and calls lb_out_spill often; what has come
 * together goes to put. The first failure stays and ends the writing; lb_out_end tells it. */
#ifndef LB_IO_OUT_H
#define LB_IO_OUT_H

#include "base/base.h"
#include "base/mem.h"

typedef struct lb_out {
    lb_buf buf;
    lb_status (*put)(void *ctx, lb_str piece, lb_err *err); /* NULL: bytes are only counted */
    void *ctx;
    u64 n_bytes; /* handed on */
    lb_err err;  /* of put */
} lb_out;

/* Bytes written so far: the place in the file. */
static inline u64 lb_out_pos(const lb_out *o) {
    return o->n_bytes + o->buf.len;
}
/* Whether anything failed: a long loop may stop. */
static inline bool lb_out_failed(const lb_out *o) {
    return o->err.code != LB_OK || o->buf.oom;
}
/* Hands the buffer on once it has 64 KiB. */
void lb_out_spill(lb_out *o);
/* Hands on what is left and frees the buffer. */
lb_status lb_out_end(lb_out *o, lb_err *err);

/* A put whose ctx is a lb_buf. */
lb_status lb_out_to_buf(void *ctx, lb_str piece, lb_err *err);

#endif
