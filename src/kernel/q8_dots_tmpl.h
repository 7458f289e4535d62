/* SPDX-License-Identifier: Apache-2.0 */
/* q8_dots_tmpl.h: rows of codes by tokens, in the terms of q8_dots_<isa>.h; MT: tokens at once. */

INLINE void dots_row(const u32 type, const int nt, const lb_q8_shape *s, float *out,
                     const lb_q8_row *w, const lb_q8_act *x) {
    sums sum[MT];
    UNROLL for (int t = 0; t < nt; t++) clear(sum + t);
    for (size_t k = 0; k < lb_q8_chunks(s->n_cols); k++)
        add_row_chunk(type, nt, w + k, x + k, s, sum);
    UNROLL for (int t = 0; t < nt; t++) out[(size_t)t * s->out_stride] = finish_row(type, sum + t);
}

INLINE void dots_any(const u32 type, const lb_q8_shape *s, float *out, const lb_q8_row *w,
                     const lb_q8_act *act) {
    const size_t n = lb_q8_chunks(s->n_cols);
    for (size_t r = 0; r < s->n_rows; r++, w += n) {
        size_t t = 0;
        for (; t + MT <= s->n_tokens; t += MT)
            dots_row(type, MT, s, out + t * s->out_stride + r, w, act + t * s->act_stride);
        for (; t < s->n_tokens; t++)
            dots_row(type, 1, s, out + t * s->out_stride + r, w, act + t * s->act_stride);
    }
}

static void dots_q8(const lb_q8_shape *s, float *out, const void *rows, const void *act) {
    switch (s->type & 7) {
#define CASE(flags)                                             \
    case flags:                                                 \
        dots_any((s->type & ~7u) | (flags), s, out, rows, act); \
        break;
        CASE(LB_Q8_HALVES)
        CASE(LB_Q8_HALVES | LB_Q8_MIN)
        CASE(LB_Q8_MIN)
        CASE(LB_Q8_WIDE)
        CASE(LB_Q8_WIDE | LB_Q8_MIN)
    default:
        dots_any(s->type & ~7u, s, out, rows, act);
#undef CASE
    }
}
