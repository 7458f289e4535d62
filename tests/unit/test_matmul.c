/* SPDX-License-Identifier: Apache-2.0 */
/* test_matmul.c: products of stored rows: codes are the decoders' values, a product is that of the
 * rounded activations, and neither instruction sets nor blocking can be seen. */
#include "test.h"
#include "base/cpu.h"
#include "kernel/half.h"
#include "kernel/matmul.h"
#include "kernel/q8.h"
#include <math.h>
#include <stdlib.h>

enum { ROWS = 37, TOKENS = 13 };

/* Of which rows products are computed in double, too: one compares the others, which are those of
 * other instruction sets and of tokens alone, byte for byte. */
static u64 row_step(void) {
    return lb_test_stride(4);
}

#define CHECK_F(cond, ...)                                 \
    do {                                                   \
        if (!(cond)) {                                     \
            lb_test_fail(__FILE__, __LINE__, __VA_ARGS__); \
            return;                                        \
        }                                                  \
    } while (0)

static u64 seed = 1;
static u32 next(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (u32)(seed >> 33);
}
static float normal(void) {
    float x = 0;
    for (int i = 0; i < 4; i++)
        x += (float)(next() % 2001) / 1000.0f - 1;
    return x;
}

static const lb_dtype types[] = {
    LB_F32,   LB_F16,     LB_BF16,  LB_F8_E4M3, LB_Q4_0,  LB_Q4_1, LB_Q5_0,    LB_Q5_1,
    LB_Q8_0,  LB_Q2_K,    LB_Q3_K,  LB_Q4_K,    LB_Q5_K,  LB_Q6_K, LB_IQ4_NL,  LB_IQ4_XS,
    LB_TQ1_0, LB_TQ2_0,   LB_MXFP4, LB_NVFP4,   LB_Q1_0,  LB_Q2_0, LB_IQ2_XXS, LB_IQ2_XS,
    LB_IQ2_S, LB_IQ3_XXS, LB_IQ3_S, LB_IQ1_S,   LB_IQ1_M, LB_Q8_1, LB_Q8_K,
};

/* Random codes; f16 and f32 scales that are numbers: bytes that stand where one may be are made
 * small exponents. */
static void fill_block(lb_dtype t, u8 *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        p[i] = (u8)next();
    const size_t n = lb_dtype_get(t)->block_bytes, size = lb_dtype_get(t)->block_elems;
    for (size_t b = 0; b + n <= bytes; b += n) {
        u8 *x = p + b;
        switch (t) {
        case LB_Q2_K:
            x[81] = x[83] = 0x2c;
            break;
        case LB_Q4_K:
        case LB_Q5_K:
        case LB_Q4_1:
        case LB_Q5_1:
        case LB_Q8_1:
            x[1] = x[3] = 0x2c;
            break;
        case LB_Q3_K:
        case LB_Q6_K:
        case LB_TQ1_0:
        case LB_TQ2_0:
            x[n - 1] = 0x2c;
            break;
        case LB_IQ1_M: /* high nibbles of four u16 */
            x[55] = (u8)((x[55] & 15) | 0x20);
            break;
        case LB_Q8_K:
            x[3] = 0x3c;
            x[2] = 0x10;
            break;
        case LB_MXFP4:
            x[0] = (u8)(120 + x[0] % 8);
            break;
        case LB_NVFP4:
        case LB_F8_E4M3:
            for (size_t i = 0; i < 4 && i < n; i++)
                x[i] = (u8)(x[i] % 0x50);
            break;
        case LB_F32:
        case LB_BF16:
        case LB_F16: {
            float v = normal();
            u64 c[2] = {0};
            lb_kernels k;
            lb_kernels_init(&k, 0);
            lb_kernels_encode(&k, t)(1, x, &v, c);
            break;
        }
        default:
            if (size > 1)
                x[1] = 0x2c;
        }
    }
}

typedef struct world {
    lb_mat m;
    float *x, *w, *out, *other;
    u8 *act, *scratch;
} world;

static void *room(size_t bytes) {
    return aligned_alloc(64, (bytes + 127) / 64 * 64);
}

typedef struct part {
    u64 row, n_rows;
    size_t token, n_tokens;
} part;

static void run(const lb_kernels *k, const world *v, part p, float *out) {
    const lb_act_form form = lb_mat_act(&v->m, LB_ACTS_FAST);
    lb_matmul_in in = {.m = &v->m,
                       .row = p.row,
                       .n_rows = p.n_rows,
                       .n_tokens = p.n_tokens,
                       .form = form,
                       .act = v->act + p.token * lb_act_bytes(form, v->m.n_cols),
                       .out = out + p.token * ROWS + p.row,
                       .out_stride = ROWS};
    lb_matmul(k, &in, v->scratch);
}

/* The product of the activations as they are rounded, in double; what comes back in *scale is the
 * sum of magnitudes. */
static double exact_dot(const world *v, const float *w, size_t t, double *scale) {
    const u64 n = v->m.n_cols;
    double s = 0;
    *scale = 0;
    const bool q8 = lb_mat_act(&v->m, LB_ACTS_FAST) == LB_ACT_Q8;
    const lb_q8_act *a = (const void *)(v->act + t * lb_act_bytes(LB_ACT_Q8, n));
    for (u64 i = 0; i < n; i++) {
        const u64 c = i / LB_Q8_CHUNK, j = i % LB_Q8_CHUNK;
        const double x =
            q8 ? (double)a[c].q[lb_q8_at(j)] * (double)a[c].d32[j / 32] : (double)v->x[t * n + i];
        s += x * (double)w[i];
        *scale += fabs(x * (double)w[i]);
    }
    return s;
}

static double mean_of(const float *x, u64 n) {
    double sum = 0;
    for (u64 i = 0; i < n; i++)
        sum += fabs((double)x[i]);
    return sum / (double)n;
}

/* With second parts: what is left of a group's largest magnitude is 1/254 of it at most, and 2^-15
 * where that is coarse; tokens alone give what they give together. */
static void check_sixteen(const world *v, const lb_kernels *k, const char *name) {
    const u64 n = v->m.n_cols;
    const size_t bytes = lb_act_bytes(LB_ACT_Q16, n);
    u8 *act = room(TOKENS * bytes);
    for (size_t t = 0; t < TOKENS; t++)
        lb_act_make(k, LB_ACT_Q16, n, act + t * bytes, v->x + t * n);
    lb_matmul_in in = {.m = &v->m,
                       .n_rows = ROWS,
                       .n_tokens = TOKENS,
                       .form = LB_ACT_Q16,
                       .act = act,
                       .out = v->out,
                       .out_stride = ROWS};
    lb_matmul(k, &in, v->scratch);
    for (size_t t = 0; t < TOKENS; t++) {
        in.n_tokens = 1;
        in.act = act + t * bytes;
        in.out = v->other + t * ROWS;
        lb_matmul(k, &in, v->scratch);
    }
    CHECK_F(memcmp(v->out, v->other, TOKENS * ROWS * 4) == 0, "%s: sixteen bits, alone", name);
    size_t n_more = 0;
    for (size_t t = 0; t < TOKENS; t++)
        for (u64 c = 0; c < lb_q8_chunks(n); c++)
            n_more += ((const lb_q8_act *)(const void *)(act + t * bytes))[c].more != 0;
    CHECK_F(n < 97 || n_more > 0, "%s: no coarse group", name);
    for (u64 r = 0; r < ROWS; r += row_step()) {
        lb_mat_row(k, &v->m, r, v->w, v->scratch);
        for (size_t t = 0; t < TOKENS; t++) {
            double want = 0, bound = 0;
            for (u64 g = 0; g < n; g += 32) {
                const double mean = mean_of(v->x + t * n, n) * 1.001;
                double most = 0, weight = 0;
                for (u64 i = g; i < LB_MIN(g + 32, n); i++) {
                    const double x = (double)v->x[t * n + i], w = (double)v->w[i];
                    most = fmax(most, fabs(x));
                    weight += fabs(w);
                    want += x * w;
                    bound += 16 * (double)n * 0x1p-24 * fabs(x * w);
                }
                bound += most * weight * (most > (double)LB_Q8_COARSE * mean ? 0x1p-14 : 0.004);
            }
            const double got = (double)v->out[t * ROWS + r];
            CHECK_F(!(fabs(got - want) > bound), "%s row %u token %u: %g, not %g (%g)", name,
                    (unsigned)r, (unsigned)t, got, want, bound);
        }
    }
    free(act);
}

/* What llama.cpp makes of activations for these weights, by its formulas in double: scales of their
 * groups and integers. */
static void ggml_values(lb_dtype t, const float *x, u64 n, double *scale, double *q) {
    const u64 size = lb_dtype_get(t)->block_elems == 256 ? 256 : 32;
    for (u64 g = 0; g < n; g += size) {
        float most = 0;
        for (u64 i = g; i < LB_MIN(g + size, n); i++)
            most = fmaxf(most, fabsf(x[i]));
        for (u64 i = g; i < LB_MIN(g + size, n); i++) {
            scale[i] = (double)most / 127;
            q[i] = nearbyint((double)(x[i] * (127.0f / most)));
        }
    }
    for (u64 i = 0; i < n && (t == LB_F16 || t == LB_BF16); i++) {
        scale[i] = 1;
        q[i] = (double)(t == LB_F16 ? lb_f16_to_f32(lb_f16_from_f32(x[i]))
                                    : lb_bf16_to_f32(lb_bf16_from_f32(x[i])));
    }
}

static double as_f16(double x) {
    return (double)lb_f16_to_f32(lb_f16_from_f32((float)x));
}

/* A row with an activation: scales of groups of 32 in f16, and their sums where a block's second
 * number is a minimum. */
static double ggml_dot(const world *v, u64 row, const double *scale, const double *q,
                       double *bound) {
    const lb_mat *m = &v->m;
    const lb_dtype_info *t = lb_dtype_get(m->dtype);
    const bool minima = m->dtype == LB_Q4_1 || m->dtype == LB_Q5_1;
    double want = 0, sum = 0;
    *bound = 0;
    for (u64 i = 0; i < m->n_cols; i++) {
        const u8 *block = m->codes + row * m->row_bytes + i / t->block_elems * t->block_bytes;
        const double low = minima ? (double)lb_f16_to_f32(lb_load_u16(block + 2)) : 0;
        const double x = (t->block_elems == 256 ? scale[i] : as_f16(scale[i])) * q[i];
        want += ((double)v->w[i] - low) * x;
        sum += q[i];
        *bound +=
            (8 + (double)m->n_cols / 16) * 0x1p-24 * (fabs((double)v->w[i] * x) + fabs(low * x));
        if (i % 32 == 31 || i + 1 == m->n_cols) {
            want += low * as_f16(scale[i] * sum);
            sum = 0;
        }
    }
    return want;
}

static void check_ggml(const world *v, const lb_kernels *k, const char *name) {
    const u64 n = v->m.n_cols;
    const lb_act_form form = lb_mat_act(&v->m, LB_ACTS_GGML);
    const size_t bytes = lb_act_bytes(form, n);
    u8 *act = room(TOKENS * bytes);
    double *scale = room(n * sizeof *scale), *q = room(n * sizeof *q);
    for (size_t t = 0; t < TOKENS; t++)
        lb_act_make(k, form, n, act + t * bytes, v->x + t * n);
    const lb_matmul_in in = {.m = &v->m,
                             .n_rows = ROWS,
                             .n_tokens = TOKENS,
                             .form = form,
                             .act = act,
                             .out = v->out,
                             .out_stride = ROWS};
    lb_matmul(k, &in, v->scratch);
    for (size_t t = 0; t < TOKENS; t++) {
        ggml_values(v->m.dtype, v->x + t * n, n, scale, q);
        for (u64 r = 0; r < ROWS; r += row_step()) {
            double bound;
            lb_mat_row(k, &v->m, r, v->w, v->scratch);
            const double want = ggml_dot(v, r, scale, q, &bound);
            const double got = (double)v->out[t * ROWS + r];
            CHECK_F(!(fabs(got - want) > bound) && bound > 0,
                    "%s as llama.cpp's, row %u token %u: %g, not %g (%g)", name, (unsigned)r,
                    (unsigned)t, got, want, bound);
        }
    }
    free(act), free(scale), free(q);
}

static void check_mat(lb_mat m, const char *name) {
    static const u32 isas[] = {0,
                               LB_ISA_AVX2,
                               LB_ISA_AVX2 | LB_ISA_AVXVNNI,
                               LB_ISA_AVX2 | LB_ISA_AVX512,
                               LB_ISA_AVX2 | LB_ISA_AVX512 | LB_ISA_AVX512VNNI,
                               LB_ISA_NEON};
    const u64 n = m.n_cols;
    const lb_act_form form = lb_mat_act(&m, LB_ACTS_FAST);
    lb_err err = {0};
    lb_kernels k;
    world v = {.m = m,
               .x = room(TOKENS * n * 4),
               .w = room(n * 4),
               .out = room(TOKENS * ROWS * 4),
               .other = room(TOKENS * ROWS * 4),
               .act = room(TOKENS * lb_act_bytes(form, n)),
               .scratch = room(lb_matmul_scratch_bytes(&m, TOKENS))};
    CHECK_OK(lb_mat_check(&m, &err));
    for (u64 i = 0; i < TOKENS * n; i++)
        v.x[i] = normal() * (i % 97 == 5 ? 200.0f : 1.0f);
    for (size_t i = 0; i < LB_LEN(isas); i++) {
        if ((isas[i] & lb_cpu_isa()) != isas[i])
            continue;
        lb_kernels_init(&k, isas[i]);
        for (size_t t = 0; t < TOKENS; t++)
            lb_act_make(&k, form, n, v.act + t * lb_act_bytes(form, n), v.x + t * n);
        float *out = i ? v.other : v.out;
        memset(out, 0, TOKENS * ROWS * 4);
        run(&k, &v, (part){0, ROWS, 0, TOKENS}, out); /* panels */
        if (i)
            CHECK_F(memcmp(v.out, v.other, TOKENS * ROWS * 4) == 0, "%s: isa %u", name, isas[i]);
        memset(v.other, 0, TOKENS * ROWS * 4);
        for (size_t t = 0; t < TOKENS; t++) { /* rows by themselves, split */
            run(&k, &v, (part){0, 5, t, 1}, v.other);
            run(&k, &v, (part){5, ROWS - 5, t, 1}, v.other);
        }
        CHECK_F(memcmp(v.out, v.other, TOKENS * ROWS * 4) == 0, "%s: tokens alone, isa %u", name,
                isas[i]);
    }
    lb_kernels_init(&k, 0);
    for (u64 r = 0; r < ROWS; r += row_step()) {
        lb_mat_row(&k, &m, r, v.w, v.scratch);
        for (size_t t = 0; t < TOKENS; t++) {
            double scale;
            const double want = exact_dot(&v, v.w, t, &scale);
            const double bound = 8 * (double)n * 0x1p-24 * scale;
            CHECK_F(!(fabs((double)v.out[t * ROWS + r] - want) > bound) && scale > 0,
                    "%s row %u token %u: %g, not %g (%g)", name, (unsigned)r, (unsigned)t,
                    (double)v.out[t * ROWS + r], want, bound);
        }
    }
    lb_kernels_init(&k, lb_cpu_isa());
    if (form == LB_ACT_Q8)
        check_sixteen(&v, &k, name);
    if (lb_mat_act(&m, LB_ACTS_GGML) != LB_ACT_F32)
        check_ggml(&v, &k, name);
    free(v.x), free(v.w), free(v.out), free(v.other), free(v.act), free(v.scratch);
}

LB_TEST(plain) {
    for (size_t i = 0; i < LB_LEN(types); i++) {
        const u64 block = lb_dtype_get(types[i])->block_elems, cols[] = {block, 768, 1792};
        for (size_t j = 0; j < LB_LEN(cols); j++) {
            if (cols[j] % block)
                continue;
            u64 bytes = 0;
            CHECK(lb_dtype_bytes(types[i], cols[j], &bytes));
            u8 *data = malloc(ROWS * (bytes + 2));
            for (u64 r = 0; r < ROWS; r++)
                fill_block(types[i], data + r * (bytes + 2), bytes);
            check_mat((lb_mat){.kind = LB_ENC_PLAIN,
                               .dtype = types[i],
                               .times = 1,
                               .n_rows = ROWS,
                               .n_cols = cols[j],
                               .codes = data,
                               .row_bytes = bytes + 2},
                      lb_dtype_get(types[i])->name);
            free(data);
        }
    }
}

LB_TEST(mlx) {
    static const struct {
        u8 kind, bits, group;
    } c[] = {{LB_ENC_MLX_AFFINE, 1, 64},  {LB_ENC_MLX_AFFINE, 2, 32}, {LB_ENC_MLX_AFFINE, 3, 64},
             {LB_ENC_MLX_AFFINE, 4, 128}, {LB_ENC_MLX_AFFINE, 4, 32}, {LB_ENC_MLX_AFFINE, 5, 64},
             {LB_ENC_MLX_AFFINE, 6, 64},  {LB_ENC_MLX_AFFINE, 8, 64}, {LB_ENC_MLX_MXFP4, 4, 32},
             {LB_ENC_MLX_NVFP4, 4, 16},   {LB_ENC_MLX_MXFP8, 8, 32}};
    const u64 n_cols = 640 + 256;
    for (size_t i = 0; i < LB_LEN(c); i++) {
        const u64 bytes = n_cols * c[i].bits / 8, groups = n_cols / c[i].group;
        u8 *data = malloc(ROWS * bytes), *scale = malloc(ROWS * groups * 2);
        u8 *bias = malloc(ROWS * groups * 2);
        for (u64 j = 0; j < ROWS * bytes; j++)
            data[j] = (u8)(c[i].kind == LB_ENC_MLX_MXFP8 ? next() % 0x70 : next());
        for (u64 j = 0; j < ROWS * groups; j++) {
            if (c[i].kind == LB_ENC_MLX_AFFINE) {
                lb_store_u16(scale + 2 * j, (u16)(0x3c00 + next() % 256));
                lb_store_u16(bias + 2 * j, (u16)(0xbd00 + next() % 256));
            } else {
                scale[j] = (u8)(c[i].kind == LB_ENC_MLX_NVFP4 ? next() % 0x50 : 120 + next() % 8);
            }
        }
        char name[32];
        snprintf(name, sizeof name, "mlx kind %u, %u bits", c[i].kind, c[i].bits);
        check_mat((lb_mat){.kind = c[i].kind,
                           .dtype = LB_U32,
                           .bits = c[i].bits,
                           .group = c[i].group,
                           .scale_dtype = LB_BF16,
                           .times = 0.5f,
                           .n_rows = ROWS,
                           .n_cols = n_cols,
                           .codes = data,
                           .row_bytes = bytes,
                           .scale = scale,
                           .bias = c[i].kind == LB_ENC_MLX_AFFINE ? bias : NULL,
                           .scale_bytes = c[i].kind == LB_ENC_MLX_AFFINE ? 2 * groups : groups},
                  name);
        free(data), free(scale), free(bias);
    }
}

/* What activations of eight bits cost: the relative error of a long product of random values. */
LB_TEST(act_error) {
    enum { N = 4096 };
    static float x[N], back[N];
    static _Alignas(64) lb_q8_act a[N / LB_Q8_CHUNK];
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    double err = 0, all = 0;
    for (int i = 0; i < N; i++)
        x[i] = normal();
    lb_act_make(&k, LB_ACT_Q8, N, a, x);
    for (int i = 0; i < N; i++) {
        back[i] = (float)a[i / LB_Q8_CHUNK].q[lb_q8_at((size_t)i % LB_Q8_CHUNK)] *
                  a[i / LB_Q8_CHUNK].d32[i % LB_Q8_CHUNK / 32];
        err += (double)((x[i] - back[i]) * (x[i] - back[i]));
        all += (double)(x[i] * x[i]);
    }
    CHECK(sqrt(err / all) < 0.006);
    x[7] = INFINITY;
    x[4000] = NAN;
    lb_act_make(&k, LB_ACT_Q8, N, a, x);
    CHECK(isnan(a[0].d32[0]) && isnan(a[7].d32[13]) && !isnan(a[0].d32[1]));
}

LB_TEST_MAIN("fast")
