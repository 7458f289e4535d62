/* SPDX-License-Identifier: Apache-2.0 */
/* quant_rows.h: rows of made-up weights and importance for quantizers: the same on every machine.
 */
#ifndef LB_TESTS_QUANT_ROWS_H
#define LB_TESTS_QUANT_ROWS_H

#include "base/base.h"
#include "tensor/dtype.h"

enum { QUANT_ROW_KINDS = 18, QUANT_IMPORTANCE_KINDS = 7 };

typedef struct quant_rng {
    u64 state;
} quant_rng;

u64 quant_rng_next(quant_rng *r);

const char *quant_row_kind(u32 kind);
/* 0 is none: quant_importance writes nothing. */
const char *quant_importance_kind(u32 kind);
void quant_row(quant_rng *r, u32 kind, float *x, size_t n);
void quant_importance(quant_rng *r, u32 kind, float *w, size_t n);

/* Types that can be quantized, in the order of their numbers. */
bool quant_type(size_t i, lb_dtype *t);

/* Quantizes one row; false: this kind of row is not to be counted. */
typedef bool(quant_row_fn)(void *ctx, lb_dtype t, size_t n, void *out, const float *x,
                           const float *importance);

/* A hash of what fn makes of a few rows of one kind, with one kind of importance; false where fn
 * says so. */
bool quant_digest(quant_row_fn *fn, void *ctx, lb_dtype t, u32 kind, u32 importance, u32 *hash);

/* What lb_quant_tables_init needs, NULL where the type has no tables; free it. */
void *quant_tables_new(lb_dtype t);

#endif
