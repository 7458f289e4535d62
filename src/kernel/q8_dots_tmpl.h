/* SPDX-License-Identifier: Apache-2.0 */
/* q8_dots_tmpl.h: rows by tokens from dots(halves, min, nt, ...) of the file that includes it and
 * MT, the tokens that it takes at once. */

INLINE void dots_any(const bool halves, const bool min, const lb_q8_shape *s, float *out,
                     const lb_q8_row *w, const lb_q8_act *act) {
    const size_t n = lb_q8_chunks(s->n_cols);
    for (size_t r = 0; r < s->n_rows; r++, w += n) {
        size_t t = 0;
        for (; t + MT <= s->n_tokens; t += MT)
            dots(halves, min, MT, s, out + t * s->out_stride + r, w, act + t * s->act_stride);
        for (; t < s->n_tokens; t++)
            dots(halves, min, 1, s, out + t * s->out_stride + r, w, act + t * s->act_stride);
    }
}

static void dots_q8(const lb_q8_shape *shape, float *out, const void *rows, const void *act) {
    if (shape->type & LB_Q8_HALVES) {
        if (shape->type & LB_Q8_MIN)
            dots_any(true, true, shape, out, rows, act);
        else
            dots_any(true, false, shape, out, rows, act);
    } else {
        if (shape->type & LB_Q8_MIN)
            dots_any(false, true, shape, out, rows, act);
        else
            dots_any(false, false, shape, out, rows, act);
    }
}
