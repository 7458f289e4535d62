/* SPDX-License-Identifier: Apache-2.0 */
/* Refinement: for every type no block is worse than the reference's, on rows of all kinds with
 * importance of all kinds; the same bytes by every instruction set; and how much is gained, which
 * must not become less. */
#include "quant_rows.h"
#include "test.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "plan/measure.h"
#include <math.h>
#include <stdlib.h>

#define N_COLS 1024
#define N_ROWS 64

typedef struct kind {
    char name[24];
    lb_quant q;
    double gain[3]; /* at least so many percent on normal, heavy-tailed, weighted rows */
} kind;

static kind kinds[96];
static u32 n_kinds;
static u32 isas[2];

/* Percent of the error that is gained, a little below what was measured: normal values, values with
 * heavy tails, normal values with importance. */
static const struct {
    const char *name;
    double gain[3];
} floors[] = {
    {"q4_0", {11, 7.25, 5.25}},
    {"q4_1", {21.25, 19.5, 5.75}},
    {"q5_0", {12, 6.25, 5.75}},
    {"q5_1", {20.25, 18.75, 4.75}},
    {"q8_0", {16, 10.75, 25.75}},
    {"q2_k", {22.75, 31, 10.75}},
    {"q3_k", {8.75, 8, 4.5}},
    {"q4_k", {4.75, 5.5, 5.75}},
    {"q5_k", {8.75, 9, 8.75}},
    {"q6_k", {11.5, 9.75, 11.25}},
    {"iq2_xxs", {17, 22.5, 17}},
    {"iq2_xs", {13.25, 21.75, 13.25}},
    {"iq3_xxs", {27.75, 44, 11.75}},
    {"iq1_s", {16, 18.5, 16}},
    {"iq4_nl", {7, 6.75, 8.75}},
    {"iq3_s", {34.5, 43, 17.25}},
    {"iq2_s", {16.5, 28.25, 11}},
    {"iq4_xs", {7, 6.75, 9}},
    {"iq1_m", {47, 35, 14.75}},
    {"tq1_0", {67.75, 51, 67.75}},
    {"tq2_0", {67.75, 51, 67.75}},
    {"mxfp4", {3.75, 4.75, 5}},
    {"nvfp4", {24.75, 17, 36.25}},
    {"q1_0", {0, 0, 1}},
    {"q2_0", {72.25, 60, 74.75}},
    {"mlx-q1/32", {79, 83.75, 81}},
    {"mlx-q1/64 f16", {82.75, 87.25, 83.5}},
    {"mlx-q1/128 f32", {85, 89.5, 85.5}},
    {"mlx-q2/64", {32.5, 24.25, 41.25}},
    {"mlx-q2/128 f16", {36, 28.5, 41.25}},
    {"mlx-q2/32 f32", {31.5, 25, 45}},
    {"mlx-q3/128", {24.75, 24, 32.75}},
    {"mlx-q3/32 f16", {28, 24.5, 42.25}},
    {"mlx-q3/64 f32", {25, 22.25, 35.75}},
    {"mlx-q4/32", {25.75, 24.25, 39.75}},
    {"mlx-q4/64 f16", {20, 19.25, 31.25}},
    {"mlx-q4/128 f32", {17.25, 17.5, 26.75}},
    {"mlx-q5/64", {19.25, 19, 29.25}},
    {"mlx-q5/128 f16", {14.25, 13.75, 22.75}},
    {"mlx-q5/32 f32", {25.5, 24, 38.75}},
    {"mlx-q6/128", {16.75, 18.5, 23.25}},
    {"mlx-q6/32 f16", {25, 23, 37.75}},
    {"mlx-q6/64 f32", {17.75, 16.5, 28.25}},
    {"mlx-q8/32", {54.5, 60.25, 55.75}},
    {"mlx-q8/64 f16", {18.5, 18.25, 28.25}},
    {"mlx-q8/128 f32", {12.75, 12.25, 20.75}},
    {"mlx-mxfp4", {10.5, 16, 11.5}},
    {"mlx-nvfp4", {24.75, 15.75, 36.25}},
};

static kind *add(const char *name, lb_quant q) {
    kind *k = &kinds[n_kinds++];
    *k = (kind){.q = q};
    snprintf(k->name, sizeof k->name, "%s", name);
    for (size_t i = 0; i < LB_LEN(floors); i++)
        if (strcmp(floors[i].name, name) == 0)
            memcpy(k->gain, floors[i].gain, sizeof k->gain);
    return k;
}

static void set_up(void) {
    static const u32 bits[] = {1, 2, 3, 4, 5, 6, 8};
    static const lb_round rounds[] = {LB_ROUND_BF16, LB_ROUND_F16, LB_ROUND_NONE};
    lb_dtype t;
    char name[24];
    isas[0] = 0;
    isas[1] = lb_cpu_isa();
    if (n_kinds)
        return;
    for (size_t i = 0; quant_type(i, &t); i++)
        add(lb_dtype_get(t)->name,
            (lb_quant){.kind = LB_QUANT_BLOCKS, .dtype = t, .tables = quant_tables_new(t)});
    for (size_t i = 0; i < LB_LEN(bits); i++)
        for (u32 r = 0; r < 3; r++) {
            u32 group = 32u << (i + r) % 3;
            snprintf(name, sizeof name, "mlx-q%u/%u%s", bits[i], group,
                     r == 0   ? ""
                     : r == 1 ? " f16"
                              : " f32");
            add(name, (lb_quant){.kind = LB_QUANT_AFFINE,
                                 .bits = bits[i],
                                 .group = group,
                                 .round = rounds[r],
                                 .cpu_rule = i % 2});
        }
    add("mlx-mxfp4", (lb_quant){.kind = LB_QUANT_MXFP4, .round = LB_ROUND_BF16});
    add("mlx-mxfp8", (lb_quant){.kind = LB_QUANT_MXFP8, .round = LB_ROUND_BF16});
    add("mlx-nvfp4", (lb_quant){.kind = LB_QUANT_NVFP4, .round = LB_ROUND_BF16});
}

typedef struct made {
    u8 part[LB_QUANT_PARTS][N_COLS * 8];
    float values[N_COLS];
} made;

typedef struct job {
    const kind *kind;
    u32 isa;
    bool refine;
    size_t n;
    const float *x, *importance;
} job;

static bool make(const job *j, made *m) {
    static float scratch[N_COLS];
    lb_kernels k;
    lb_quant q = j->kind->q;
    const float *importance = j->importance;
    u8 *part[LB_QUANT_PARTS] = {m->part[0], m->part[1], m->part[2]};
    lb_kernels_init(&k, j->isa);
    q.refine = j->refine;
    q.importance = importance;
    if (q.kind == LB_QUANT_BLOCKS && !importance && lb_quant_needs_importance(q.dtype))
        return false;
    memset(m, 0, sizeof *m);
    if (lb_quant_run(&q, &k, j->n, 0, j->x, part))
        return false; /* values or scales that have no codes */
    lb_quant_decode(&q, &k, j->n, m->values, (const u8 *const *)part, scratch);
    return true;
}

static double error_of(size_t n, const float *y, const float *x, const float *w) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double e = (double)y[i] - (double)x[i];
        sum += (w ? (double)w[i] : 1) * e * e;
    }
    return sum;
}

typedef struct tally {
    u64 n_blocks, n_better;
    lb_sha256 bytes; /* of all that was refined */
} tally;

/* One row by the reference and refined, by scalar kernels and by SIMD. */
static bool check_row(job j, const char *what, tally *t) {
    static made ref, fine, other;
    const size_t cols = lb_quant_cols(&j.kind->q);
    if (!make(&j, &ref)) /* no codes, or no quantizer without importance */
        return true;
    j.refine = true;
    bool ok = make(&j, &fine);
    lb_sha256_update(&t->bytes, fine.part, sizeof fine.part);
    for (size_t at = 0; at < j.n && ok; at += cols) {
        const float *w = j.importance ? j.importance + at : NULL;
        double a = error_of(cols, ref.values + at, j.x + at, w);
        double b = error_of(cols, fine.values + at, j.x + at, w);
        t->n_blocks++;
        t->n_better += b < a;
        ok = !(b > a) && (b == b || a != a);
        if (!ok)
            lb_test_fail(__FILE__, __LINE__, "%s, %s: %g above %g", j.kind->name, what, b, a);
    }
    j.isa = isas[1];
    if (ok && (!make(&j, &other) || memcmp(other.part, fine.part, sizeof fine.part) != 0)) {
        lb_test_fail(__FILE__, __LINE__, "%s, %s: other bytes with SIMD", j.kind->name, what);
        ok = false;
    }
    return ok;
}

static bool is_digest(tally *t, const char *want) {
    char hex[65];
    lb_sha256_hex(&t->bytes, hex);
    printf("%llu of %llu blocks better\n", (unsigned long long)t->n_better,
           (unsigned long long)t->n_blocks);
    if (strcmp(hex, want) != 0)
        lb_test_fail(__FILE__, __LINE__, "digest %s", hex);
    return strcmp(hex, want) == 0;
}

/* The cases of one part of n_parts. */
static bool check_part(u32 part, u32 n_parts, tally *t) {
    static float x[N_COLS], w[N_COLS];
    char what[64];
    lb_sha256_init(&t->bytes);
    for (u32 i = 0; i < n_kinds; i++)
        for (u32 row = 0; row < QUANT_ROW_KINDS; row++)
            for (u32 imp = 0; imp < QUANT_IMPORTANCE_KINDS; imp++) {
                if ((i + row + imp) % n_parts != part)
                    continue;
                quant_rng rng = {row * 77 + imp * 1000 + i};
                quant_row(&rng, row, x, N_COLS);
                quant_importance(&rng, imp, w, N_COLS);
                snprintf(what, sizeof what, "%s, importance %s", quant_row_kind(row),
                         quant_importance_kind(imp));
                if (!check_row((job){.kind = &kinds[i],
                                     .n = kinds[i].q.tables ? 256 : N_COLS,
                                     .x = x,
                                     .importance = imp ? w : NULL},
                               what, t))
                    return false;
            }
    return true;
}

/* The digests are those of every machine and compiler; of less than all cases one part of four
 * is done, on an emulator one of eight. */
LB_TEST(never_worse) {
    tally t = {0};
    set_up();
    if (lb_test_emulated()) {
        if (check_part(0, 8, &t))
            CHECK(
                is_digest(&t, "4794acaf57f72def22bc102ab7d942524af4e58502fa19ee868885aa1a7ef6e6"));
        CHECK(t.n_blocks > 5000 && t.n_better > t.n_blocks / 4);
        return;
    }
    if (!lb_test_full()) {
        if (check_part(0, 4, &t))
            CHECK(
                is_digest(&t, "b6203f06cb5de4277ca2262f169f157408fc912df42c7140db52cb8f9c6d9075"));
        CHECK(t.n_blocks > 10000 && t.n_better > t.n_blocks / 4);
        return;
    }
    if (!check_part(0, 1, &t))
        return;
    CHECK(is_digest(&t, "d107a2e98cd58c5a4c6a91a092514c2fdbda582e9763b1c765a13dbe1b8be1d1"));
    CHECK(t.n_blocks > 40000 && t.n_better > t.n_blocks / 4);
}

/* Weights of a trained model (tests/golden/quant/make_real_rows.py). */
LB_TEST(real_rows) {
    static u8 bytes[8 * N_COLS * 2];
    static float x[N_COLS], w[N_COLS];
    lb_kernels ref;
    tally t = {0};
    if (lb_test_emulated()) { /* never_worse has the digests of every machine */
        lb_test_skip("minutes in an emulator");
        return;
    }
    FILE *f = fopen(lb_test_golden("quant/real_rows.bf16"), "rb");
    CHECK(f);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    CHECK_U64(n, sizeof bytes);
    set_up();
    lb_kernels_init(&ref, 0);
    lb_sha256_init(&t.bytes);
    for (u32 row = 0; row < 8; row++) {
        quant_rng rng = {row};
        lb_kernels_decode(&ref, LB_BF16)(N_COLS, x, bytes + row * N_COLS * 2);
        quant_importance(&rng, 2, w, N_COLS);
        for (u32 i = 0; i < n_kinds; i++)
            for (u32 weighted = 0; weighted < 2; weighted++)
                if (!check_row((job){.kind = &kinds[i],
                                     .n = N_COLS,
                                     .x = x,
                                     .importance = weighted ? w : NULL},
                               "real weights", &t))
                    return;
    }
    CHECK(is_digest(&t, "77d94d7fbf63ca60bfb4047bf03ad74da2ed271480dfe1bc6732bf56bb27ab6a"));
    CHECK(t.n_better > t.n_blocks / 2);
}

/* Of variance 1: twelve uniform ones. */
static float normal(quant_rng *r) {
    float sum = -6;
    for (u32 i = 0; i < 12; i++)
        sum += (float)(quant_rng_next(r) >> 40) * 0x1p-24f;
    return sum;
}

/* Errors of the reference and refined; us: time of both. */
static void sums_of(const kind *k, u32 row, bool weighted, double sum[2], u64 us[2]) {
    static float x[N_COLS], w[N_COLS];
    static made m;
    const u32 n_rows = k->q.tables ? N_ROWS / 8 : N_ROWS;
    sum[0] = sum[1] = 0;
    us[0] = us[1] = 0;
    for (u32 r = 0; r < n_rows; r++) {
        quant_rng rng = {r};
        for (u32 i = 0; i < N_COLS; i++) {
            float v = 0.02f * normal(&rng);
            x[i] = row == 1 ? v / (0.2f + fabsf(normal(&rng))) : v;
        }
        for (u32 i = 0; i < N_COLS; i++)
            w[i] = fabsf(0.1f + normal(&rng) * normal(&rng));
        const bool needs = k->q.kind == LB_QUANT_BLOCKS && lb_quant_needs_importance(k->q.dtype);
        const float *of = weighted || needs ? w : NULL;
        for (u32 f = 0; f < 2; f++) {
            u64 t0 = lb_test_cpu_us();
            if (!make(&(job){k, isas[1], f, N_COLS, x, of}, &m))
                return;
            us[f] += lb_test_cpu_us() - t0;
            sum[f] += error_of(N_COLS, m.values, x, of);
        }
    }
}

LB_TEST(gain) {
    if (lb_test_emulated()) { /* never_worse has the digests of every machine */
        lb_test_skip("minutes in an emulator");
        return;
    }
    set_up();
    printf("%-18s %8s %8s %8s  ns a value\n", "percent gained", "normal", "heavy", "weighted");
    for (u32 i = 0; i < n_kinds; i++) {
        const kind *k = &kinds[i];
        double gain[3];
        u64 us[2] = {0};
        for (u32 c = 0; c < 3; c++) {
            double sum[2];
            sums_of(k, c == 1, c == 2, sum, us);
            gain[c] = 100 * (1 - sum[1] / sum[0]);
            if (!(gain[c] >= k->gain[c]))
                lb_test_fail(__FILE__, __LINE__, "%s: %.2f %% gained in case %u, not %.2f", k->name,
                             gain[c], c, k->gain[c]);
        }
        printf("%-18s %8.2f %8.2f %8.2f  %.0f\n", k->name, gain[0], gain[1], gain[2],
               (double)us[1] * 1e3 / N_COLS / (k->q.tables ? N_ROWS / 8 : N_ROWS));
    }
}

LB_TEST_MAIN("slow")
