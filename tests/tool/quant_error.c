/* SPDX-License-Identifier: Apache-2.0 */
/* quant_error.c: what every type loses of a model's matrices, as the reference quantizes and
 * refined, for the tables of docs/quality.md:
 *
 *   quant_error MODEL [ELEMENTS [PART]]   at most so many elements of each tensor are measured
 *                                         (0: all); of tensors whose names have PART in them
 *
 * Rows that are no whole blocks of 256 are read several at a time. Types that need an importance
 * have it: 1 for every column. */
#include "base/cpu.h"
#include "base/mem.h"
#include "base/thread.h"
#include "ops/measure.h"
#include "ops/open.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define COLS_MAX (1 << 20)
#define TYPES_MAX 64

static float ones[COLS_MAX];
static lb_quant quants[TYPES_MAX][2];
static const lb_quant *list[TYPES_MAX * 2];
static char names[TYPES_MAX][24];
static u32 n_types;

static lb_status add(const char *name, const lb_quant *q) {
    if (n_types == TYPES_MAX)
        return LB_E_LIMIT;
    snprintf(names[n_types], sizeof names[0], "%s", name);
    for (u32 f = 0; f < 2; f++) {
        quants[n_types][f] = *q;
        quants[n_types][f].refine = f;
        list[2 * n_types + f] = &quants[n_types][f];
    }
    n_types++;
    return LB_OK;
}

static lb_status add_all(lb_arena *arena, lb_err *err) {
    static const u32 bits[] = {1, 2, 3, 4, 5, 6, 8};
    lb_kernels k;
    char name[24];
    lb_kernels_init(&k, 0);
    for (u32 t = 0; t < LB_DTYPE_COUNT; t++) {
        const lb_dtype_info *d = lb_dtype_get((lb_dtype)t);
        if (!lb_kernels_quant(&k, (lb_dtype)t))
            continue;
        size_t n = lb_quant_tables_bytes((lb_dtype)t);
        void *tables = n ? lb_arena_push(arena, n, 64) : NULL;
        if (n && !tables)
            return lb_fail(err, LB_E_NOMEM, "out of memory");
        if (n)
            lb_quant_tables_init((lb_dtype)t, tables);
        lb_quant q = {.kind = LB_QUANT_BLOCKS, .dtype = (lb_dtype)t, .tables = tables};
        if (lb_quant_needs_importance((lb_dtype)t))
            q.importance = ones;
        LB_TRY(add(d->name, &q));
    }
    for (size_t i = 0; i < LB_LEN(bits); i++) {
        snprintf(name, sizeof name, "mlx-q%u", bits[i]);
        LB_TRY(add(name, &(lb_quant){.kind = LB_QUANT_AFFINE,
                                     .bits = bits[i],
                                     .group = 64,
                                     .round = LB_ROUND_BF16}));
    }
    LB_TRY(add("mlx-mxfp4", &(lb_quant){.kind = LB_QUANT_MXFP4, .round = LB_ROUND_BF16}));
    LB_TRY(add("mlx-mxfp8", &(lb_quant){.kind = LB_QUANT_MXFP8, .round = LB_ROUND_BF16}));
    return add("mlx-nvfp4", &(lb_quant){.kind = LB_QUANT_NVFP4, .round = LB_ROUND_BF16});
}

/* Matrices of whole blocks of 256, seen as wide as that needs. */
static u64 list_tensors(lb_plan *p, lb_measure_tensor *t, lb_measure_part *parts, double *error,
                        const char *part) {
    const lb_source *s = p->graph.sources[0];
    u64 n = 0, at;
    for (u64 i = 0; i < s->n_weights; i++) {
        const lb_weight *w = &s->weights[i];
        u64 rows, cols, wide;
        lb_shape_matrix(&w->shape, &rows, &cols);
        if (rows < 2 || w->shape.rank < 2 || cols == 0)
            continue;
        if (part && !lb_str_find(w->name, lb_str_c(part), &at))
            continue;
        wide = cols / lb_gcd_u64(cols, 256) * 256;
        if (wide > COLS_MAX || rows * cols % wide)
            continue;
        parts[n] = (lb_measure_part){
            .values = wide == cols ? lb_expr_read(&p->graph, 0, w)
                                   : lb_expr_read_as(&p->graph, 0, w, rows * cols / wide, wide),
            .quants = list};
        t[n] = (lb_measure_tensor){.name = w->name,
                                   .parts = &parts[n],
                                   .n_parts = 1,
                                   .n_quants = 2 * n_types,
                                   .error = error + n * 2 * n_types};
        n++;
    }
    return n;
}

static void print(const lb_measure_tensor *t, u64 n) {
    u64 elems = 0;
    double sum[2 * TYPES_MAX] = {0};
    for (u64 i = 0; i < n; i++) {
        elems += t[i].n_measured;
        for (u32 q = 0; q < 2 * n_types; q++)
            sum[q] += t[i].error[q];
    }
    printf("%llu tensors, %llu values measured\n%-12s %12s %12s %9s\n", (unsigned long long)n,
           (unsigned long long)elems, "type", "error", "refined", "less by");
    for (u32 q = 0; q < n_types; q++)
        printf("%-12s %12.5g %12.5g %7.2f %%\n", names[q], sum[2 * q], sum[2 * q + 1],
               100 * (1 - sum[2 * q + 1] / sum[2 * q]));
}

static lb_status run(const char *model, u64 elems_max, const char *part, lb_arena *a, lb_err *err) {
    lb_source *s = NULL;
    lb_plan *p = NULL;
    lb_kernels k;
    LB_TRY(lb_open(&s, model, err));
    lb_kernels_init(&k, lb_cpu_isa());
    const lb_source *one = s;
    lb_status st = lb_plan_new(&p, &one, 1, err);
    lb_measure_tensor *t = lb_arena_new(a, lb_measure_tensor, s->n_weights);
    lb_measure_part *parts = lb_arena_new(a, lb_measure_part, s->n_weights);
    double *error = lb_arena_new(a, double, s->n_weights * 2 * n_types);
    if (st == LB_OK && t && parts && error) {
        const lb_measure_opts o = {.elems_max = elems_max,
                                   .memory_bytes = LB_GIB,
                                   .threads = lb_cpu_count(),
                                   .kernels = &k};
        u64 n = list_tensors(p, t, parts, error, part);
        st = lb_measure_tensors(p, t, n, &o, NULL, err);
        if (st == LB_OK)
            print(t, n);
    }
    lb_plan_free(&p);
    lb_source_close(&s);
    return st;
}

int main(int argc, char **argv) {
    lb_arena arena = {0};
    lb_err err = {0};
    for (u32 i = 0; i < COLS_MAX; i++)
        ones[i] = 1;
    lb_status st = argc > 1 ? add_all(&arena, &err)
                            : lb_fail(&err, LB_E_USAGE, "quant_error MODEL [ELEMENTS [PART]]");
    if (st == LB_OK)
        st = run(argv[1], argc > 2 ? strtoull(argv[2], NULL, 10) : 0, argc > 3 ? argv[3] : NULL,
                 &arena, &err);
    if (st != LB_OK)
        fprintf(stderr, "%s\n", err.msg);
    lb_arena_deinit(&arena);
    return lb_status_exit(st);
}
