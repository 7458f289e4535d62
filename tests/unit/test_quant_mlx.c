/* SPDX-License-Identifier: Apache-2.0 */
/* Quantizers against the sums of what the peers' own code gives (tests/golden/kern/quant_mlx.txt),
 * and through the decoders: how far a value may be from what it was. */
#include "quant_kit.h"
#include "test.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "kernel/half.h"
#include <math.h>
#include <stdlib.h>

#define N_GROUPS 48

static const u32 isas[] = {0, LB_ISA_AVX2, LB_ISA_AVX2 | LB_ISA_AVX512, LB_ISA_NEON};

/* The rows without those of subnormals, whose factor is infinite. */
static size_t drop_subnormals(u8 *w, size_t row_bytes) {
    size_t n = 0;
    for (size_t g = 0; g < N_GROUPS; g++)
        if (g % 12 != 4)
            memmove(w + n++ * row_bytes, w + g * row_bytes, row_bytes);
    return n;
}

static void check_line(const char *line) {
    char name[16], want[65], got[65];
    unsigned long group;
    unsigned how;
    float global_scale;
    if (sscanf(line, "%15s %lu %x %f %64s", name, &group, &how, &global_scale, want) != 5) {
        lb_test_fail(__FILE__, __LINE__, "line %s", line);
        return;
    }
    const bool is_affine = name[0] == 'q', is_times = name[0] == 'f' && how & LB_QUANT_TIMES;
    u8 *w = quant_weights(N_GROUPS, group, how, is_affine);
    const size_t row_bytes = group * ((how & 15) == LB_ROUND_NONE ? 4 : 2);
    const size_t n = is_times ? drop_subnormals(w, row_bytes) : N_GROUPS;
    for (size_t i = 0; i < LB_LEN(isas); i++) {
        lb_kernels k;
        quant_out out;
        lb_sha256 sum;
        if ((isas[i] & lb_cpu_isa()) != isas[i])
            continue;
        lb_kernels_init(&k, isas[i]);
        if (!quant_run(&k,
                       &(quant_job){.name = name,
                                    .n_groups = n,
                                    .group = group,
                                    .how = how,
                                    .global_scale = global_scale},
                       w, &out)) {
            lb_test_fail(__FILE__, __LINE__, "no %s of %lu", name, group);
            break;
        }
        lb_sha256_init(&sum);
        lb_sha256_update(&sum, out.codes, out.n_codes);
        lb_sha256_update(&sum, out.scale, out.n_scale);
        if (!is_times)
            lb_sha256_update(&sum, out.second, out.n_second);
        lb_sha256_hex(&sum, got);
        if (strcmp(got, want) != 0)
            lb_test_fail(__FILE__, __LINE__, "%s of %lu, how 0x%04x, isa mask %u: another sum",
                         name, group, how, isas[i]);
        quant_out_free(&out);
    }
    free(w);
}

LB_TEST(golden) {
    char line[256];
    u32 n = 0;
    FILE *f = fopen(lb_test_golden("kern/quant_mlx.txt"), "r");
    CHECK(f);
    for (; f && fgets(line, sizeof line, f); n++)
        check_line(line);
    if (f)
        fclose(f);
    CHECK_U64(n, 414);
}

/* ---- there and back ---- */

static double load_value(const u8 *p, size_t i, u32 type) {
    return (double)(type == LB_ROUND_BF16  ? lb_bf16_to_f32(lb_load_u16(p + 2 * i))
                    : type == LB_ROUND_F16 ? lb_f16_to_f32(lb_load_u16(p + 2 * i))
                                           : lb_f32_from_bits(lb_load_u32(p + 4 * i)));
}

/* A step of rounding, relative and absolute. */
static double ulp_of(u32 type) {
    return type == LB_ROUND_BF16 ? 0x1p-8 : type == LB_ROUND_F16 ? 0x1p-11 : 0x1p-24;
}

static double tiny_of(u32 type) {
    return type == LB_ROUND_F16 ? 0x1p-24 : type == LB_ROUND_BF16 ? 0x1p-133 : 0x1p-149;
}

typedef struct affine_out {
    quant_out out;
    u32 bits, type;
    size_t group;
    float scale, bias; /* of the last group that was read back */
} affine_out;

/* Group g of affine codes as f32 has it. */
static void affine_back(const lb_kernels *k, affine_out *a, size_t g, float *back) {
    lb_k_decode_f32_mlx_q4_fn *const decode[9] = {NULL,
                                                  k->decode_f32_mlx_q1,
                                                  k->decode_f32_mlx_q2,
                                                  k->decode_f32_mlx_q3,
                                                  k->decode_f32_mlx_q4,
                                                  k->decode_f32_mlx_q5,
                                                  k->decode_f32_mlx_q6,
                                                  NULL,
                                                  k->decode_f32_mlx_q8};
    a->scale = (float)load_value(a->out.scale, g, a->type);
    a->bias = (float)load_value(a->out.second, g, a->type);
    decode[a->bits](1, a->group, back, a->out.codes + g * a->group * a->bits / 8, &a->scale,
                    &a->bias, LB_MLX_ROUND(LB_ROUND_NONE, LB_ROUND_NONE));
}

static affine_out affine_run(const lb_kernels *k, u32 bits, size_t group, u32 how, const u8 *w) {
    const char name[4] = {'q', (char)('0' + bits), 0, 0};
    affine_out a = {.bits = bits, .type = how & 15, .group = group};
    if (!quant_run(k, &(quant_job){.name = name, .n_groups = N_GROUPS, .group = group, .how = how},
                   w, &a.out))
        abort();
    return a;
}

/* Half a step, or a whole one at the end where the rule clips; scale and bias are rounded after
 * the codes were chosen. Constant huge groups have scale 0. */
static void check_affine(const lb_kernels *k, u32 bits, size_t group, u32 how) {
    u8 *w = quant_weights(N_GROUPS, group, how, false);
    affine_out a = affine_run(k, bits, group, how, w);
    const double n = (double)((1u << bits) - 1), ulp = ulp_of(a.type), tiny = tiny_of(a.type);
    for (size_t g = 0; g < N_GROUPS; g++) {
        float back[128];
        affine_back(k, &a, g, back);
        const double as = fabs((double)a.scale), ab = fabs((double)a.bias);
        const double bound = as * (1 + 0x1p-20) + ulp * (n * as + ab) + tiny * (n + 1);
        if (isinf(a.scale)) /* counted */
            continue;
        for (size_t i = 0; i < group; i++) {
            const double d = fabs((double)back[i] - load_value(w, g * group + i, a.type));
            if (!(d <= bound))
                lb_test_fail(__FILE__, __LINE__,
                             "q%u group %zu how %x: value %zu of %zu is off by %g, bound %g", bits,
                             group, how, i, g, d, bound);
        }
    }
    quant_out_free(&a.out);
    free(w);
}

LB_TEST(affine_there_and_back) {
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    for (u32 bits = 1; bits <= 8; bits++)
        for (u32 v = 0; bits != 7 && v < 18; v++)
            check_affine(&k, bits, (size_t)32 << v % 3,
                         LB_QUANT_HOW(v / 3 % 3, v / 3 % 3, 0) | (v / 9 ? LB_QUANT_CPU : 0));
}

/* Scales and biases are those of mlx; no value further off than the quotient's rounding can make
 * it; the squares of the errors, of mlx's codes and of these, are added to sum[2]. */
static void check_stored(const lb_kernels *k, u32 bits, size_t group, u32 how, double sum[2]) {
    u8 *w = quant_weights(N_GROUPS, group, how, false);
    affine_out a = affine_run(k, bits, group, how, w);
    affine_out b = affine_run(k, bits, group, how | LB_QUANT_STORED, w);
    CHECK(memcmp(a.out.scale, b.out.scale, a.out.n_scale) == 0);
    CHECK(memcmp(a.out.second, b.out.second, a.out.n_second) == 0);
    CHECK_U64(a.out.n_odd, b.out.n_odd);
    for (size_t g = 0; g < N_GROUPS; g++) {
        float back[2][128];
        affine_back(k, &a, g, back[0]);
        affine_back(k, &b, g, back[1]);
        const double slack =
            0x1p-22 * (fabs((double)a.bias) + 256 * fabs((double)a.scale)) + 0x1p-149;
        for (size_t i = 0; !isinf(a.scale) && i < group; i++) {
            const double x = load_value(w, g * group + i, a.type);
            const double d0 = fabs((double)back[0][i] - x), d1 = fabs((double)back[1][i] - x);
            if (!(d1 <= d0 + slack))
                lb_test_fail(__FILE__, __LINE__, "q%u how %x: value %zu of %zu: %g, was %g", bits,
                             how, i, g, d1, d0);
            sum[0] += g % 12 == 0 ? d0 * d0 : 0;
            sum[1] += g % 12 == 0 ? d1 * d1 : 0;
        }
    }
    quant_out_free(&a.out);
    quant_out_free(&b.out);
    free(w);
}

LB_TEST(stored_codes_are_nearer) {
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    for (u32 bits = 1; bits <= 8; bits++)
        for (u32 v = 0; bits != 7 && v < 6; v++) {
            const u32 how = LB_QUANT_HOW(v % 3, v % 3, 0) | (v / 3 ? LB_QUANT_CPU : 0);
            double sum[2] = {0, 0};
            for (size_t group = 32; group <= 128; group *= 2)
                check_stored(&k, bits, group, how, sum);
            const double left = sqrt(sum[1] / sum[0]);
            if (v % 3 == LB_ROUND_NONE) /* they are stored as they are */
                CHECK(left == 1);
            else if (v % 3 == LB_ROUND_BF16) /* measured: 0.861, 0.9925, 0.9994 */
                CHECK(left < (bits == 8   ? 0.87
                              : bits == 6 ? 0.993
                              : bits == 5 ? 0.9996
                                          : 1.000001));
        }
}

/* E2M1: half of the largest gap, or half a unit of the smallest scale; E4M3: 2^-4 of the value. */
static void check_fp(const lb_kernels *k, const char *name, u32 how) {
    const bool is_nv = name[0] == 'n', is_8 = name[4] == '8';
    const size_t group = is_nv ? 16 : 32;
    const u32 type = how & 15;
    u8 *w = quant_weights(N_GROUPS, group, how, false);
    quant_out o;
    CHECK(quant_run(k, &(quant_job){.name = name, .n_groups = N_GROUPS, .group = group, .how = how},
                    w, &o));
    for (size_t g = 0; g < N_GROUPS; g++) {
        float s, back[32];
        double amax = 0;
        (is_nv ? k->decode_f32_f8_e4m3 : k->decode_f32_mlx_e8m0)(1, &s, o.scale + g);
        (is_8 ? k->decode_f32_mlx_fp8 : k->decode_f32_mlx_fp4)(
            1, group, back, o.codes + g * group * (is_8 ? 2 : 1) / 2, &s);
        for (size_t i = 0; i < group; i++)
            amax = fmax(amax, fabs(load_value(w, g * group + i, type)));
        if ((is_nv && amax > 448 * 6) || (how & LB_QUANT_CPU && amax < 0x1p-110)) /* counted */
            continue;
        for (size_t i = 0; i < group; i++) {
            const double x = load_value(w, g * group + i, type), d = fabs((double)back[i] - x);
            const double bound = is_8 ? fmax(fabs(x) * 0x1p-4, (double)s * 0x1p-10)
                                      : fmax((double)s * (1 + 0x1p-6), is_nv ? 6 * 0x1p-10 : 0);
            if (!(d <= bound * (1 + 0x1p-7) + 0x1p-139))
                lb_test_fail(__FILE__, __LINE__,
                             "%s how %x: value %zu of %zu, %g, is off by %g, scale %g", name, how,
                             i, g, x, d, (double)s);
        }
    }
    quant_out_free(&o);
    free(w);
}

LB_TEST(floating_modes_there_and_back) {
    static const char *const names[] = {"mxfp4", "mxfp8", "nvfp4"};
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    for (u32 v = 0; v < 18; v++)
        check_fp(&k, names[v % 3],
                 LB_QUANT_HOW(v / 3 % 3, v / 3 % 3, 0) | (v / 9 ? LB_QUANT_CPU : 0));
}

/* Codes of packed groups as decode_f32_codes reads them. The scale is rounded before the codes are
 * chosen, so only the quotient's rounding and the clamp at the end add to half a step. */
static void check_groups(const lb_kernels *k, u32 bits, size_t group, u32 how) {
    const u32 type = how & 15;
    u8 *w = quant_weights(N_GROUPS, group, how, false);
    quant_out o;
    CHECK(quant_run(
        k, &(quant_job){.name = "groups", .n_groups = N_GROUPS, .group = group, .how = how}, w,
        &o));
    const double half = (double)(1u << bits) / 2;
    for (size_t g = 0; g < N_GROUPS; g++) {
        const double s = load_value(o.scale, g, type);
        const double z = how & LB_QUANT_ASYM ? (double)(i8)o.second[g] : 0;
        float code[128];
        k->decode_f32_codes(group, g * group, bits, code, o.codes);
        if (isinf(s))
            continue;
        for (size_t i = 0; i < group; i++) {
            const double x = load_value(w, g * group + i, type);
            const double d = fabs(((double)code[i] - half - z) * s - x);
            if (!(d <= s * (1 + 4 * half * ulp_of(type)) + tiny_of(type)))
                lb_test_fail(__FILE__, __LINE__,
                             "groups how %x: value %zu of %zu, %g, is off by %g, scale %g", how, i,
                             g, x, d, s);
        }
    }
    quant_out_free(&o);
    free(w);
}

LB_TEST(groups_there_and_back) {
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    for (u32 bits = 2; bits <= 8; bits++)
        for (u32 v = 0; v < 12; v++)
            check_groups(&k, bits, v % 2 ? 128 : 32,
                         LB_QUANT_HOW(v / 2 % 3, v / 2 % 3, bits) | (v / 6 ? LB_QUANT_ASYM : 0));
}

static void check_row(const lb_kernels *k, const char *name, u32 how) {
    const u32 type = how & 15;
    const size_t group = 160;
    const bool is_f8 = name[0] == 'f';
    u8 *w = quant_weights(N_GROUPS, group, how, false);
    quant_out o;
    CHECK(quant_run(k, &(quant_job){.name = name, .n_groups = N_GROUPS, .group = group, .how = how},
                    w, &o));
    for (size_t g = 0; g < N_GROUPS; g++) {
        float s, z, back[160];
        memcpy(&s, o.scale + 4 * g, 4);
        memcpy(&z, o.second + 4 * g, 4);
        if (isinf(s) || s == 0 || isinf(z))
            continue;
        (is_f8 ? k->decode_f32_f8_e4m3 : k->decode_f32_i8)(group, back, o.codes + g * group);
        for (size_t i = 0; i < group; i++) {
            const double x = load_value(w, g * group + i, type), zero = is_f8 ? 0 : (double)z;
            const double d = fabs(((double)back[i] - zero) * (double)s - x);
            const double bound =
                is_f8 ? fmax(fabs(x) * (0x1p-4 + 4 * ulp_of(type)), (double)s * 0x1p-10)
                      : (double)s * (1 + 512 * ulp_of(type));
            if (!(d <= bound * (1 + 0x1p-20) + tiny_of(type)))
                lb_test_fail(__FILE__, __LINE__,
                             "%s how %x: value %zu of %zu, %g, is off by %g, scale %g", name, how,
                             i, g, x, d, (double)s);
        }
    }
    quant_out_free(&o);
    free(w);
}

LB_TEST(rows_there_and_back) {
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    for (u32 t = 0; t < 3; t++) {
        check_row(&k, "f8", LB_QUANT_HOW(t, t, 8) | LB_QUANT_FLOAT);
        check_row(&k, "f8", LB_QUANT_HOW(t, LB_ROUND_NONE, 8) | LB_QUANT_TIMES);
        check_row(&k, "i8", LB_QUANT_HOW(t, t, 8));
        check_row(&k, "i8", LB_QUANT_HOW(t, t, 8) | LB_QUANT_ASYM);
    }
}

/* ---- what is told ---- */

LB_TEST(what_cannot_be_held_is_counted) {
    lb_kernels k;
    float x[128] = {0};
    quant_out o;
    lb_kernels_init(&k, lb_cpu_isa());
    x[3] = lb_f32_from_bits(LB_NAN_BITS);
    x[70] = 1e30f; /* a scale that f16 does not hold */
    CHECK(quant_run(
        &k,
        &(quant_job){
            .name = "q4", .n_groups = 4, .group = 32, .how = LB_QUANT_HOW(0, LB_ROUND_F16, 0)},
        x, &o));
    CHECK_U64(o.n_odd, 2);
    quant_out_free(&o);
    CHECK(quant_run(
        &k, &(quant_job){.name = "nvfp4", .n_groups = 8, .group = 16, .how = LB_QUANT_HOW(0, 0, 0)},
        x, &o));
    CHECK_U64(o.n_odd, 2); /* NaN, a scale above 448 */
    quant_out_free(&o);
    x[3] = 0x1p-140f;
    CHECK(quant_run(&k,
                    &(quant_job){.name = "mxfp4",
                                 .n_groups = 4,
                                 .group = 32,
                                 .how = LB_QUANT_HOW(0, 0, 0) | LB_QUANT_CPU},
                    x, &o));
    CHECK_U64(o.n_odd, 1); /* its byte wraps around */
    quant_out_free(&o);
    CHECK(quant_run(
        &k, &(quant_job){.name = "mxfp4", .n_groups = 4, .group = 32, .how = LB_QUANT_HOW(0, 0, 0)},
        x, &o));
    CHECK_U64(o.n_odd, 0);
    quant_out_free(&o);
    x[3] = lb_f32_from_bits(0x7f800000u);
    CHECK(quant_run(
        &k,
        &(quant_job){
            .name = "groups", .n_groups = 4, .group = 32, .how = LB_QUANT_HOW(0, LB_ROUND_F16, 4)},
        x, &o));
    CHECK_U64(o.n_odd, 2);
    quant_out_free(&o);
}

LB_TEST_MAIN("fast")
