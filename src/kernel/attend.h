/* SPDX-License-Identifier: Apache-2.0 */
/* attend.h: attention of queries over the keys and values of one page, with a running softmax
 * (Milakov and Gimelshein 2018; Dao et al. 2022): pages are visited in any number of calls, and
 * what is kept between them is for each query the largest score, the sum of exponentials and the
 * sum of values.
 *
 * Up to LB_ATTEND_FEW queries (the heads that share a key head, in decoding) read stored rows in
 * registers; more are a blocked product of a page that is made floats once. A query's bytes depend
 * on where pages begin and on nothing else: not on its neighbours, how many they are, or the
 * machine. A query that sees no row of the page is left as it was. Rows between the least `from`
 * and the greatest `to` hold numbers: a NaN there reaches queries that do not see it. A NaN that
 * is seen gives NaN; a score of -Inf weighs 0. */
#ifndef LB_KERNEL_ATTEND_H
#define LB_KERNEL_ATTEND_H

#include "kernel/kernel.h"

#define LB_ATTEND_FEW 8

typedef struct lb_attend {
    size_t n_queries, k_dim, v_dim, n_rows; /* rows: positions of the page */
    lb_dtype type;                          /* of keys and values: f32, f16, q8_0, q4_0; dims
                                             * are multiples of its block */
    const float *q;                         /* [n_queries, k_dim], q_stride floats apart */
    size_t q_stride;
    const void *k, *v; /* [n_rows], k_bytes and v_bytes apart; v may lie within k */
    size_t k_bytes, v_bytes;
    float scale, softcap; /* score = scale * q.k; softcap * tanh(score / softcap) if not 0 */
    const i32 *from, *to; /* [n_queries] rows that the query sees: from <= row < to */
    float *max, *sum;     /* [n_queries]; at first -INFINITY and 0, or a sink's score and 1 */
    float *acc;           /* [n_queries, v_dim], acc_stride floats apart; at first 0 */
    size_t acc_stride;
    void *scratch; /* lb_attend_scratch_bytes, aligned to 64 */
} lb_attend;

/* Of n_queries, k_dim, v_dim alone; more queries never need less. */
size_t lb_attend_scratch_bytes(const lb_attend *a);
void lb_attend_page(const lb_kernels *k, const lb_attend *a);

#endif
