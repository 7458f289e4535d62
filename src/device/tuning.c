/* SPDX-License-Identifier: Apache-2.0 */
/* tuning.c: the table of tuning.def. */
#include "device/tuning.h"
#include "device/device.h"

static const struct {
    u32 kind, generation;
    char size;
    lb_dev_tuning t;
} rows[] = {
#define LB_DEV_TUNING(kind, generation, size, small, middle, large, experts, gemm, grouped, \
                      launches, simdgroups, parts)                                          \
    {LB_DEV_##kind,                                                                         \
     generation,                                                                            \
     size,                                                                                  \
     {small, middle, large, experts, gemm, grouped, launches, simdgroups, parts}},
#include "device/tuning.def"
#undef LB_DEV_TUNING
};

lb_dev_tuning lb_dev_tuning_find(u32 kind, u32 generation, char size) {
    lb_dev_tuning best = {0};
    for (u32 i = 0; i < LB_LEN(rows); i++)
        if (rows[i].kind == kind && rows[i].generation <= generation &&
            (!rows[i].size || rows[i].size == size))
            best = rows[i].t;
    return best;
}

/* mm_* make 64 rows, whether they are there or not: of fewer than these (the gate of a shared
 * expert) they take as long as of 64, tokens one by one do not. */
#define MM_ROWS_LEAST 8u

u32 lb_dev_tuning_mm(const lb_dev_tuning *t, u32 n_rows, u32 n_cols) {
    const u32 n = LB_MAX(n_rows, n_cols);
    if (n_rows < MM_ROWS_LEAST)
        return 0;
    return n <= 2048 ? t->mm_small : n <= 4096 ? t->mm_middle : t->mm_large;
}
