/* SPDX-License-Identifier: Apache-2.0 */
/* q8_forms_tmpl.h: products of panels in each form that a type may have; part of q8_tmpl.h and
 * q8_gemm_tmpl.h, which define rows_fn, ROWS(name, halves, min, wide), a function of that type, and
 * NARROW: 1: wide codes are multiplied with a sign, 128 lower. */
#ifdef ROWS

ROWS(rows_32, false, false, false)
ROWS(rows_16, true, false, false)
ROWS(rows_32m, false, true, false)
ROWS(rows_16m, true, true, false)
#if NARROW
ROWS(rows_32w, false, false, true)
ROWS(rows_32mw, false, true, true)
#else
#define rows_32w rows_32
#define rows_32mw rows_32m
#endif
#undef ROWS

static rows_fn *rows_of(u32 type) {
    const bool min = type & LB_Q8_MIN;
    if (type & LB_Q8_HALVES)
        return min ? rows_16m : rows_16;
    if (type & LB_Q8_WIDE)
        return min ? rows_32mw : rows_32w;
    return min ? rows_32m : rows_32;
}

/* What is taken off codes before they are multiplied: 128 where a kernel takes wide ones with a
 * sign. */
INLINE i32 off_of(u32 type) {
    return lb_q8_off(type) - (NARROW && (type & LB_Q8_WIDE) ? 128 : 0);
}

#endif
