/* SPDX-License-Identifier: Apache-2.0 */
/* Quantizers of every instruction set against the hashes of what ggml makes of the same rows:
 * tests/golden/kern/quant.txt, a line "type rows hash..." for each kind of rows, with a hash for
 * each kind of importance that ggml quantizes and accepts. Its head line says how it was made. */
#include "base/cpu.h"
#include "golden.h"
#include "kernel/refine.h"
#include "quant_rows.h"
#include "test.h"
#include <stdlib.h>

typedef struct ours {
    lb_kernels k;
    void *tables;
} ours;

static bool row_by_us(void *ctx, lb_dtype t, size_t n, void *out, const float *x,
                      const float *importance) {
    const ours *o = ctx;
    lb_kernels_quant(&o->k, t)(n, out, x, importance, o->tables);
    return true;
}

/* The hashes of one line, of rows of one kind; how many. */
static size_t check_line(ours *o, lb_dtype t, u32 kind, const char *hashes, const char *isa) {
    size_t n = 0;
    for (u32 w = 0; w < QUANT_IMPORTANCE_KINDS; w++) {
        char *end;
        const u32 want = (u32)strtoul(hashes, &end, 16);
        u32 hash = 0;
        if (end == hashes) { /* " -" */
            hashes += 2;
            continue;
        }
        hashes = end;
        n++;
        if (!quant_digest(row_by_us, o, t, kind, w, &hash) || hash != want)
            lb_test_fail(__FILE__, __LINE__, "%s of %s rows, importance %s, %s: not ggml's bytes",
                         lb_dtype_get(t)->name, quant_row_kind(kind), quant_importance_kind(w),
                         isa);
    }
    return n;
}

/* All lines of a type; with a share of the cases every second or fourth kind of rows from
 * `first` on. */
static size_t check_lines(ours *o, lb_dtype t, const char *text, u32 first, const char *isa) {
    const u32 step = lb_test_full() ? 1 : 2 * lb_test_stride(2);
    size_t n = 0;
    for (u32 kind = first % step; kind < QUANT_ROW_KINDS; kind += step) {
        char head[48];
        snprintf(head, sizeof head, "\n%s %s ", lb_dtype_get(t)->name, quant_row_kind(kind));
        const char *line = strstr(text, head);
        if (line)
            n += check_line(o, t, kind, line + strlen(head) - 1, isa);
    }
    return n;
}

LB_TEST(quant_as_ggml) {
    static const u32 isa[] = {0, LB_ISA_AVX2, LB_ISA_AVX2 | LB_ISA_AVX512,
                              LB_ISA_AVX2 | LB_ISA_AVX512 | LB_ISA_AVX512VNNI | LB_ISA_AVX512VBMI,
                              LB_ISA_NEON};
    u8 *data;
    size_t size;
    if (!golden_open("quant.txt", &data, &size))
        return;
    char *text = malloc(size + 1);
    CHECK(text != NULL);
    memcpy(text, data, size);
    text[size] = 0;
    CHECK(size && text[size - 1] == '\n');
    lb_dtype t;
    size_t n_types = 0;
    for (size_t i = 0; quant_type(i, &t); i++, n_types++) {
        ours o = {.tables = quant_tables_new(t)};
        lb_quant_fn *before = NULL;
        for (size_t s = 0; s < LB_LEN(isa); s++) {
            if ((isa[s] & lb_cpu_isa()) != isa[s])
                continue;
            lb_kernels_init(&o.k, isa[s]);
            char who[32];
            snprintf(who, sizeof who, "isa mask %u", isa[s]);
            if (lb_kernels_quant(&o.k, t) != before) /* else no code of its own */
                CHECK(check_lines(&o, t, text, s != 0, who) >=
                      (lb_test_full() ? 60 : 25 / lb_test_stride(2)));
            before = lb_kernels_quant(&o.k, t);
        }
        free(o.tables);
    }
    CHECK(n_types == 25);
    free(text);
    golden_close(data);
}

/* ggml's iq3_s puts what follows a group of zeros at a wrong place, and so do we: the error is
 * about that of other values. --refine has the codes where they belong. */
LB_TEST(iq3_s_behind_zeros) {
    float x[2560], w[2560], back[2560];
    u8 blocks[1100];
    quant_rng r = {7};
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    void *tables = quant_tables_new(LB_IQ3_S);
    for (size_t i = 0; i < LB_LEN(x); i++) { /* one group of zeros a block, at all places */
        quant_row(&r, 0, x + i, 1);
        x[i] = x[i] > 0 ? 0.5f + (float)(i % 7) : -0.5f - (float)(i % 5);
        if (i / 32 % 8 == i / 256 % 8)
            x[i] = 0;
        w[i] = 1;
    }
    for (u32 importance = 0; importance < 2; importance++) {
        double error = 0, all = 0;
        k.quant_iq3_s_f32(LB_LEN(x), blocks, x, importance ? w : NULL, tables);
        for (u32 refined = 0; refined < 2; refined++) {
            error = all = 0;
            if (refined)
                lb_refine_blocks(&k, LB_IQ3_S, LB_LEN(x), blocks, x, importance ? w : NULL);
            k.decode_f32_iq3_s(LB_LEN(x), back, blocks);
            for (size_t i = 0; i < LB_LEN(x); i++) {
                error += (double)(x[i] - back[i]) * (double)(x[i] - back[i]);
                all += (double)x[i] * (double)x[i];
            }
            CHECK(refined ? error < 0.04 * all : error > 0.5 * all);
        }
    }
    free(tables);
}

LB_TEST_MAIN("fast")
