/* SPDX-License-Identifier: Apache-2.0 */
/* Decoders against the values that the peers' own code gives (tests/golden/kern). */
#include "golden.h"
#include "test.h"
#include "base/cpu.h"
#include "kernel/half.h"
#include <math.h>
#include <stdlib.h>

#define DECODE_TEST(id, dtype)      \
    LB_TEST(id) {                   \
        golden_check_decode(dtype); \
    }
DECODE_TEST(f32, LB_F32)
DECODE_TEST(f16, LB_F16)
DECODE_TEST(bf16, LB_BF16)
DECODE_TEST(f64, LB_F64)
DECODE_TEST(f8_e4m3, LB_F8_E4M3)
DECODE_TEST(f8_e5m2, LB_F8_E5M2)
DECODE_TEST(f8_e8m0, LB_F8_E8M0)
DECODE_TEST(f8_e4m3fnuz, LB_F8_E4M3FNUZ)
DECODE_TEST(f8_e5m2fnuz, LB_F8_E5M2FNUZ)
DECODE_TEST(f6_e2m3, LB_F6_E2M3)
DECODE_TEST(f6_e3m2, LB_F6_E3M2)
DECODE_TEST(f4, LB_F4)
DECODE_TEST(q4_0, LB_Q4_0)
DECODE_TEST(q4_1, LB_Q4_1)
DECODE_TEST(q5_0, LB_Q5_0)
DECODE_TEST(q5_1, LB_Q5_1)
DECODE_TEST(q8_0, LB_Q8_0)
DECODE_TEST(q8_1, LB_Q8_1)
DECODE_TEST(q1_0, LB_Q1_0)
DECODE_TEST(q2_0, LB_Q2_0)
DECODE_TEST(mxfp4, LB_MXFP4)
DECODE_TEST(nvfp4, LB_NVFP4)
DECODE_TEST(tq1_0, LB_TQ1_0)
DECODE_TEST(tq2_0, LB_TQ2_0)

/* ---- MLX: the whole rule of mx.dequantize, with the roundings a caller asks for ---- */

static u32 round_of(const char *type) {
    return !strcmp(type, "bf16")  ? LB_ROUND_BF16
           : !strcmp(type, "f16") ? LB_ROUND_F16
                                  : LB_ROUND_NONE;
}

static void mlx_affine(const lb_kernels *k, const golden_record *r, float *out) {
    unsigned bits, group;
    char ts[8], tb[8];
    if (sscanf(r->name, "q%u %7s %7s %u", &bits, ts, tb, &group) != 4) {
        lb_test_fail(__FILE__, __LINE__, "name %s", r->name);
        return;
    }
    const size_t n_groups = r->n_elems / group, n_code_bytes = r->n_elems * bits / 8;
    if (n_code_bytes + 8 * n_groups != r->n_bytes || n_groups > 16) {
        lb_test_fail(__FILE__, __LINE__, "%s: sizes", r->name);
        return;
    }
    float scale[16], bias[16];
    memcpy(scale, r->raw + n_code_bytes, 4 * n_groups);
    memcpy(bias, r->raw + n_code_bytes + 4 * n_groups, 4 * n_groups);
    lb_k_decode_f32_mlx_q4_fn *const fn[9] = {NULL,
                                              k->decode_f32_mlx_q1,
                                              k->decode_f32_mlx_q2,
                                              k->decode_f32_mlx_q3,
                                              k->decode_f32_mlx_q4,
                                              k->decode_f32_mlx_q5,
                                              k->decode_f32_mlx_q6,
                                              NULL,
                                              k->decode_f32_mlx_q8};
    const u32 sum = strcmp(ts, tb) ? (u32)LB_ROUND_NONE : round_of(ts);
    fn[bits](n_groups, group, out, r->raw, scale, bias, LB_MLX_ROUND(round_of(ts), sum));
    golden_same(r, "mlx affine", out);
}

static void mlx_fp(const lb_kernels *k, const golden_record *r, float *out) {
    unsigned group;
    char mode[8], t[8];
    float global, scale[256];
    if (sscanf(r->name, "%7s %7s %u %f", mode, t, &group, &global) != 4 ||
        r->n_elems > 256 * group) {
        lb_test_fail(__FILE__, __LINE__, "name %s", r->name);
        return;
    }
    const size_t n_groups = r->n_elems / group;
    const bool nv = !strcmp(mode, "nvfp4");
    const u8 *stored = r->raw + r->n_bytes - n_groups;
    (nv ? k->decode_f32_f8_e4m3 : k->decode_f32_mlx_e8m0)(n_groups, scale, stored);
    if (global != 0)
        k->map_mulc_f32(n_groups, scale, scale, global / 2688.0f); /* 448 * 6 */
    if (!strcmp(mode, "mxfp8"))
        k->decode_f32_mlx_fp8(n_groups, group, out, r->raw, scale);
    else
        k->decode_f32_mlx_fp4(n_groups, group, out, r->raw, scale);
    if (round_of(t) == LB_ROUND_BF16)
        k->map_round_bf16_f32(r->n_elems, out, out);
    golden_same(r, "mlx fp", out);
}

LB_TEST(mlx) {
    static const u32 isa[] = {0, LB_ISA_AVX2, LB_ISA_AVX2 | LB_ISA_AVX512,
                              LB_ISA_AVX2 | LB_ISA_AVX512 | LB_ISA_AVX512VNNI | LB_ISA_AVX512VBMI,
                              LB_ISA_NEON};
    u8 *data;
    size_t size;
    if (!golden_open("mlx.bin", &data, &size))
        return;
    float *out = malloc(8192 * sizeof *out);
    for (size_t i = 0; i < LB_LEN(isa); i++) {
        if ((lb_cpu_isa() & isa[i]) != isa[i])
            continue;
        lb_kernels k;
        lb_kernels_init(&k, isa[i]);
        golden_record r;
        for (size_t at = 0; golden_next(data, size, &at, &r); golden_record_free(&r)) {
            if (r.n_elems > 8192)
                lb_test_fail(__FILE__, __LINE__, "%s is too long", r.name);
            else if (r.name[0] == 'q')
                mlx_affine(&k, &r, out);
            else
                mlx_fp(&k, &r, out);
        }
    }
    free(out);
    golden_close(data);
}

/* Every float and block type decodes, nothing else does; three types are encoded. */
LB_TEST(every_type_has_its_decoder) {
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    for (int i = 0; i < LB_DTYPE_COUNT; i++) {
        const lb_dtype t = (lb_dtype)i;
        const lb_dtype_class c = lb_dtype_get(t)->cls;
        CHECK_U64(lb_kernels_decode(&k, t) != NULL, c == LB_CLASS_FLOAT || c == LB_CLASS_BLOCK);
        CHECK_U64(lb_kernels_encode(&k, t) != NULL, t == LB_F32 || t == LB_F16 || t == LB_BF16);
    }
    CHECK(lb_kernels_encode(&k, LB_F32) == k.encode_f32_f32);
    CHECK(lb_kernels_encode(&k, LB_F16) == k.encode_f16_f32);
    CHECK(lb_kernels_encode(&k, LB_BF16) == k.encode_bf16_f32);
}

/* ---- encoders and arithmetic against the compiler's and the C library's ---- */

/* All 65,536 codes come back from f32 as they were (NaN: quiet). */
LB_TEST(half_codes_round_trip) {
    for (u32 h = 0; h < 65536; h++) {
        const bool nan16 = (h & 0x7fff) > 0x7c00, nan_b = (h & 0x7fff) > 0x7f80;
        CHECK_U64(lb_f16_from_f32(lb_f16_to_f32((u16)h)), nan16 ? h | 0x200u : h);
        CHECK_U64(lb_bf16_from_f32(lb_bf16_to_f32((u16)h)), nan_b ? h | 0x40u : h);
    }
}

/* The nearest code by comparing exact distances in double; ties to the even code. */
static u16 nearest(float x, float (*decode)(u16), u16 inf) {
    const u16 sign = signbit(x) ? 0x8000 : 0;
    const double mag = fabs((double)x);
    u32 lo = 0, hi = inf;
    while (hi - lo > 1) {
        const u32 mid = (lo + hi) / 2;
        if ((double)decode((u16)mid) <= mag)
            lo = mid;
        else
            hi = mid;
    }
    /* Beyond the largest value the next step of the grid counts, though Inf stands there. */
    const double a = decode((u16)lo);
    const double b = hi == inf ? 2 * a - (double)decode((u16)(lo - 1)) : (double)decode((u16)hi);
    const double below = mag - a, above = b - mag;
    const bool up = isinf(x) || above < below || (!(below < above) && (lo & 1));
    return (u16)(sign | (up ? hi : lo));
}

LB_TEST(half_from_f32_is_nearest) {
    for (int i = 0; i < 300000; i++) {
        u32 bits = (u32)lb_test_rand();
        if (i % 4 == 1) /* around f16's range */
            bits = (bits & 0x807fffffu) | (100 + (u32)lb_test_rand_below(46)) << 23;
        if (i % 4 == 2) /* at and beside the middle between two f16 codes */
            bits = (bits & 0x8fffe000u) | 0x30001000u | ((u32)lb_test_rand_below(3) - 1);
        if (i % 4 == 3) /* the same for bf16 */
            bits = (bits & 0xffff0000u) + 0x8000u + (u32)lb_test_rand_below(3) - 1;
        const float x = lb_f32_from_bits(bits);
        if (isnan(x))
            continue;
        CHECK_U64(lb_f16_from_f32(x), nearest(x, lb_f16_to_f32, 0x7c00));
        CHECK_U64(lb_bf16_from_f32(x), nearest(x, lb_bf16_to_f32, 0x7f80));
    }
}

LB_TEST(encode_counts) {
    const float in[] = {1,     1.0009765625f, 65504, 65520, -70000, INFINITY, NAN,
                        1e-8f, -0.0f,         65519, 3e38f, 1e-40f, 0.5f,     3.4e38f};
    u16 out[LB_LEN(in)];
    u64 counts[2] = {10, 20};
    lb_k_encode_f16_f32_ref(LB_LEN(in), out, in, counts);
    CHECK_U64(counts[0], 10 + 7); /* 65519, 65520, -70000, 1e-8, 3e38, 1e-40, 3.4e38 */
    CHECK_U64(counts[1], 20 + 4);
    counts[0] = counts[1] = 0;
    lb_k_encode_bf16_f32_ref(LB_LEN(in), out, in, counts);
    CHECK_U64(counts[0], 9); /* 1.00098, 65504, 65519, 65520, -70000, 1e-8, 3e38, 1e-40, 3.4e38 */
    CHECK_U64(counts[1], 1); /* 3.4e38 */
}

LB_TEST(fmac_is_fmaf) {
    for (int i = 0; i < 300000; i++) {
        float x[3];
        for (int j = 0; j < 3; j++) {
            u32 bits = (u32)lb_test_rand();
            if (i % 3) /* exponents close together, so that sums cancel and tie */
                bits = (bits & 0x80ff00ffu) | (i % 3 == 1 ? 0x3f000000u : 0x20000000u);
            x[j] = lb_f32_from_bits(bits);
        }
        if (i % 7 == 0)
            x[2] = -(x[0] * x[1]);
        float got;
        lb_k_map_fmac_f32_ref(1, &got, &x[0], x[1], &x[2]);
        CHECK_U64(lb_f32_bits(got), lb_f32_bits(lb_canon_f32(fmaf(x[0], x[1], x[2]))));
    }
}

LB_TEST_MAIN("fast")
