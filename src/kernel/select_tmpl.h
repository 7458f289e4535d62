/* SPDX-License-Identifier: Apache-2.0 */
/* select_tmpl.h: a selection in spans, for select_<isa>.c, which defines span, the same of at most
 * SPAN_ELEMS elements. */
#include "kernel/kernel.h"

static u64 select_f32(size_t n_elems, const float *a, i32 lo, i32 hi, u32 *list, size_t room,
                      u64 count[3]) {
    u64 n = 0;
    for (size_t i = 0; i < n_elems; i += SPAN_ELEMS) {
        const u64 full = n < room ? n : room;
        n += span(n_elems - i < SPAN_ELEMS ? n_elems - i : SPAN_ELEMS, a + i, lo, hi,
                  room ? list + full : list, room - full, count);
    }
    return n;
}
