/* SPDX-License-Identifier: Apache-2.0 */
/* What a layer computes in floats, against libm in double: activations within a few ulp over all
 * magnitudes, norms, softmax, positions and the mixers against their formulas. That all instruction
 * sets give the same bytes is checkkern's. */
#include "test.h"
#include "base/cpu.h"
#include "kernel/kernel.h"
#include "kernel/nn.h"
#include <math.h>

static lb_kernels fastest(void) {
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    return k;
}

/* A fixed stream of values between -1 and 1. */
static float noise(u32 *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(i32)*state * 0x1p-31f;
}

/* Distance in ulp of the nearest float's; none is below the least subnormal times `floor`. */
static double ulps_of(float got, double want, double floor) {
    int e;
    if (fabs(want) > 0x1.ffffffp127)
        return isinf(got) && (got > 0) == (want > 0) ? 0 : 1e9;
    frexp(want, &e);
    return fabs((double)got - want) / fmax(ldexp(1, e - 24), floor * 0x1p-149);
}

static double ulps(float got, double want) {
    return ulps_of(got, want, 1);
}

static double d_sigmoid(double x) {
    return 1 / (1 + exp(-x));
}
static double d_silu(double x) {
    return x / (1 + exp(-x));
}
static double d_gelu(double x) {
    return x / (1 + exp(-2 * (sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))));
}
static double d_gelu_erf(double x) {
    return 0.5 * x * erfc(-x / sqrt(2));
}
static double d_relu(double x) {
    return x > 0 ? x : 0;
}
static double d_relu2(double x) {
    return x > 0 ? x * x : 0;
}
static double d_softplus(double x) {
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

enum { N = 4096 };
static float in[N], up[N], out[N], got[N];

/* Both signs, every magnitude from 2^-40 to 2^7, closely; then a line through 0. */
static void sweep(u32 part) {
    u32 s = part + 1;
    for (u32 i = 0; i < N; i++) {
        const float m = ldexpf(1 + fabsf(noise(&s)), (int)(i % 47) - 40);
        in[i] = part % 2 ? 100 * noise(&s) : noise(&s) < 0 ? -m : m;
        up[i] = noise(&s);
    }
}

LB_TEST(nn_activations) {
    const lb_kernels k = fastest();
    const struct {
        const char *name;
        lb_k_exp_f32_fn *fn;
        lb_k_silu_mul_f32_fn *mul;
        double (*want)(double);
        double bound; /* ulp; 1.5 times what four million values showed */
    } acts[] = {
        {"exp", k.exp_f32, NULL, exp, 1.5},
        {"sigmoid", k.sigmoid_f32, k.sigmoid_mul_f32, d_sigmoid, 3},
        {"silu", k.silu_f32, k.silu_mul_f32, d_silu, 4},
        {"tanh", k.tanh_f32, NULL, tanh, 4},
        {"gelu", k.gelu_f32, k.gelu_mul_f32, d_gelu, 400}, /* of its argument's rounding, as e^u */
        {"gelu_erf", k.gelu_erf_f32, k.gelu_erf_mul_f32, d_gelu_erf, 6},
        {"relu", k.relu_f32, k.relu_mul_f32, d_relu, 0},
        {"relu2", k.relu2_f32, k.relu2_mul_f32, d_relu2, 0.51},
        {"softplus", k.softplus_f32, NULL, d_softplus, 3},
    };
    for (size_t a = 0; a < LB_LEN(acts); a++) {
        double worst = 0;
        for (u32 part = 0; part < 40; part++) {
            sweep(part);
            acts[a].fn(N, out, in);
            for (u32 i = 0; i < N; i++) {
                /* a factor below 2^-126 has lost digits */
                const double x = (double)in[i],
                             u = ulps_of(out[i], acts[a].want(x), fmax(1, fabs(x)));
                worst = LB_MAX(worst, u);
            }
            if (acts[a].mul) {
                acts[a].mul(N, got, in, up);
                for (u32 i = 0; i < N; i++)
                    CHECK(got[i] == out[i] * up[i]);
            }
        }
        if (!(worst <= acts[a].bound))
            printf("%s: %.2f ulp\n", acts[a].name, worst);
        CHECK(worst <= acts[a].bound);
    }
}

LB_TEST(nn_activation_limits) {
    const lb_kernels k = fastest();
    const float x[] = {INFINITY, -INFINITY, NAN, 0.0f, -0.0f, 89, -104, 3e38f, -3e38f, -95, 1e-44f};
    float y[LB_LEN(x)];
    k.exp_f32(LB_LEN(x), y, x);
    CHECK(isinf(y[0]) && y[1] == 0 && isnan(y[2]) && y[3] == 1 && isinf(y[5]) && y[6] == 0);
    CHECK(isinf(y[7]) && y[8] == 0 && y[9] > 0 && y[9] < 0x1p-126f);
    k.sigmoid_f32(LB_LEN(x), y, x);
    CHECK(y[0] == 1 && y[1] == 0 && isnan(y[2]) && y[3] == 0.5f && y[7] == 1 && y[8] == 0);
    k.silu_f32(LB_LEN(x), y, x);
    CHECK(isinf(y[0]) && isnan(y[1]) && isnan(y[2]) && y[3] == 0 && y[7] == 3e38f && y[8] == 0);
    k.tanh_f32(LB_LEN(x), y, x);
    CHECK(y[0] == 1 && y[1] == -1 && isnan(y[2]) && y[4] == 0 && signbit(y[4]) && y[8] == -1);
    CHECK(y[10] == x[10]);
    k.gelu_f32(LB_LEN(x), y, x);
    CHECK(isinf(y[0]) && isnan(y[2]) && y[7] == 3e38f && y[8] == 0);
    k.gelu_erf_f32(LB_LEN(x), y, x);
    CHECK(isinf(y[0]) && isnan(y[2]) && y[7] == 3e38f && y[8] == 0);
    k.softplus_f32(LB_LEN(x), y, x);
    CHECK(isinf(y[0]) && y[1] == 0 && isnan(y[2]) && y[5] == 89 && y[7] == 3e38f);
    k.softcap_f32(LB_LEN(x), y, x, 30);
    CHECK(y[0] == 30 && y[1] == -30 && isnan(y[2]) && y[3] == 0);
}

LB_TEST(nn_swiglu_oai) {
    const lb_kernels k = fastest();
    sweep(1);
    for (u32 i = 0; i < N; i++)
        up[i] = 20 * up[i];
    k.swiglu_oai_mul_f32(N, out, in, up, 1.702f, 7);
    for (u32 i = 0; i < N; i++) {
        const double g = fmin((double)in[i], 7), u = fmax(fmin((double)up[i], 7), -7);
        const double want = g / (1 + exp(-(double)1.702f * g)) * (u + 1);
        CHECK(fabs((double)out[i] - want) <= 1e-5 * fabs(want) + 1e-12);
    }
}

LB_TEST(nn_norms) {
    const lb_kernels k = fastest();
    static float w[N], b[N];
    u32 s = 5;
    for (u32 i = 0; i < N; i++) {
        in[i] = 3 * noise(&s) + 1;
        w[i] = noise(&s);
        b[i] = noise(&s);
    }
    for (size_t n = 1; n <= N; n = n * 3 + 1) {
        double sum = 0, sq = 0, var = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)in[i];
            sq += (double)in[i] * (double)in[i];
        }
        const double mean = sum / (double)n;
        for (size_t i = 0; i < n; i++)
            var += ((double)in[i] - mean) * ((double)in[i] - mean);
        const double eps = (double)1e-6f, rms = 1 / sqrt(sq / (double)n + eps);
        const double l2 = 1 / sqrt(sq + eps), rstd = 1 / sqrt(var / (double)n + eps);
        k.rms_norm_f32(n, out, in, w, 1e-6f);
        k.l2_norm_f32(n, got, in, 1e-6f);
        for (size_t i = 0; i < n; i++) {
            CHECK(ulps(out[i], (double)in[i] * rms * (double)w[i]) <= 2.5);
            CHECK(ulps(got[i], (double)in[i] * l2) <= 1.5);
        }
        k.layer_norm_f32(n, out, in, w, b, 1e-6f);
        k.layer_norm_f32(n, got, in, NULL, NULL, 1e-6f);
        for (size_t i = 0; i < n; i++) {
            const double y = ((double)in[i] - mean) * rstd;
            CHECK(fabs((double)got[i] - y) <= 3e-6 * fmax(1, n == 1 ? rstd : 1));
            CHECK(fabs((double)out[i] - (y * (double)w[i] + (double)b[i])) <=
                  3e-6 * fmax(1, n == 1 ? rstd : 1));
        }
    }
}

/* Of one call, and of parts of all lengths joined by their running sums. */
LB_TEST(nn_softmax) {
    const lb_kernels k = fastest();
    u32 s = 9;
    static double want[N];
    for (size_t n = 1; n <= N; n = n * 2 + 1) {
        double sum = 0;
        float max = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            in[i] = i % 7 == 6 ? -INFINITY : 40 * noise(&s);
            max = fmaxf(max, in[i]);
        }
        for (size_t i = 0; i < n; i++)
            sum += want[i] = exp((double)in[i] - (double)max);
        CHECK(k.max_f32(n, in) == max);
        CHECK(fabs(k.sum_exp_f32(n, in, max) - sum) <= 1e-7 * sum);
        CHECK(fabs(k.sum_exp_f64(n, in, max) - sum) <= 1e-13 * sum);
        memcpy(out, in, n * sizeof *in);
        k.softmax_f32(n, out);
        for (size_t i = 0; i < n; i++)
            CHECK(fabs((double)out[i] - want[i] / sum) <= 6e-6 * want[i] / sum); /* 80 * 2^-24 */
        float state[2] = {-INFINITY, 0};
        double joined = 0;
        for (size_t at = 0, len = 1; at < n; at += len, len = LB_MIN(2 * len, n - at)) {
            memcpy(out, in + at, len * sizeof *in);
            const float before = k.softmax_part_f32(len, out, 1, 0, state);
            joined *= (double)before;
            for (size_t i = 0; i < len; i++)
                joined += (double)out[i];
        }
        CHECK(state[0] == max);
        CHECK(fabs((double)state[1] - sum) <= 2e-6 * sum && fabs(joined - sum) <= 2e-6 * sum);
    }
    float none[5] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
    k.softmax_f32(5, none);
    for (int i = 0; i < 5; i++)
        CHECK(none[i] == 0);
    float nan[3] = {1, NAN, 2};
    k.softmax_f32(3, nan);
    CHECK(isnan(nan[0]) && isnan(nan[1]) && isnan(nan[2]));
}

/* Pairs keep their length and turn by their angle; the two layouts do the same to the same pairs.
 */
LB_TEST(nn_rope) {
    const lb_kernels k = fastest();
    enum { HEADS = 3, ROT = 38, STRIDE = 50 };
    float a[HEADS * STRIDE], b[HEADS * STRIDE], c[ROT / 2], sn[ROT / 2];
    u32 s = 3;
    for (int i = 0; i < ROT / 2; i++) {
        c[i] = cosf((float)i);
        sn[i] = sinf((float)i);
    }
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < STRIDE; i++)
            a[h * STRIDE + i] = b[h * STRIDE + i] = (float)i;
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < ROT / 2; i++) {
            a[h * STRIDE + i] = b[h * STRIDE + 2 * i] = noise(&s);
            a[h * STRIDE + i + ROT / 2] = b[h * STRIDE + 2 * i + 1] = noise(&s);
        }
    float before[HEADS * STRIDE];
    memcpy(before, a, sizeof a);
    k.rope_half_f32(HEADS, STRIDE, ROT, a, c, sn);
    k.rope_pairs_f32(HEADS, STRIDE, ROT, b, c, sn);
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < STRIDE; i++) {
            const float *x = before + h * STRIDE, *y = a + h * STRIDE, *z = b + h * STRIDE;
            if (i >= ROT) {
                CHECK(y[i] == x[i] && z[i] == x[i]);
            } else if (i < ROT / 2) {
                const double t = (double)x[i], u = (double)x[i + ROT / 2], an = (double)(float)i;
                CHECK(fabs((double)y[i] - (t * cos(an) - u * sin(an))) < 1e-6);
                CHECK(fabs((double)y[i + ROT / 2] - (u * cos(an) + t * sin(an))) < 1e-6);
                CHECK(z[2 * i] == y[i] && z[2 * i + 1] == y[i + ROT / 2]);
            }
        }
}

LB_TEST(nn_hadamard) {
    const lb_kernels k = fastest();
    u32 s = 21;
    for (size_t n = 1; n <= 1024; n *= 2) {
        double sq = 0, sq2 = 0;
        for (size_t i = 0; i < n; i++)
            in[i] = out[i] = noise(&s);
        k.hadamard_f32(n, out);
        for (size_t j = 0; j < n && n <= 64; j++) {
            double want = 0;
            for (size_t i = 0; i < n; i++)
                want += (__builtin_popcountll(i & j) % 2 ? -1 : 1) * (double)in[i];
            CHECK(fabs((double)out[j] - want / sqrt((double)n)) < 1e-6);
        }
        for (size_t i = 0; i < n; i++) {
            sq += (double)in[i] * (double)in[i];
            sq2 += (double)out[i] * (double)out[i];
        }
        CHECK(fabs(sq - sq2) < 1e-5 * sq);
        k.hadamard_f32(n, out);
        for (size_t i = 0; i < n; i++)
            CHECK(fabs((double)out[i] - (double)in[i]) < 1e-6);
    }
}

/* Steps through 20 tokens against the whole convolution. */
LB_TEST(nn_conv) {
    const lb_kernels k = fastest();
    enum { C = 37, T = 20 };
    for (size_t width = 1; width <= 5; width++) {
        float x[T][C], w[C * 5], bias[C], state[5 * C] = {0}, y[C];
        u32 s = (u32)width;
        for (int t = 0; t < T; t++)
            for (int c = 0; c < C; c++)
                x[t][c] = noise(&s);
        for (size_t i = 0; i < C * width; i++)
            w[i] = noise(&s);
        for (int c = 0; c < C; c++)
            bias[c] = noise(&s);
        for (size_t t = 0; t < T; t++) {
            k.conv_step_f32(C, width, y, state, x[t], w, bias);
            for (size_t c = 0; c < C; c++) {
                double want = (double)bias[c];
                for (size_t j = 0; j < width && j <= t; j++)
                    want += (double)x[t - j][c] * (double)w[c * width + width - 1 - j];
                CHECK(fabs((double)y[c] - want) < 1e-5);
            }
        }
    }
}

/* The rule with the state's decay first, as it is written. */
LB_TEST(nn_delta) {
    const lb_kernels k = fastest();
    enum { K = 24, V = 83 };
    static float state[K * V], q[K], key[K], v[V], y[V];
    static double ds[K][V];
    u32 s = 77;
    for (int t = 0; t < 6; t++) {
        const float gate[2] = {0.9f - 0.1f * (float)t, 0.5f + 0.5f * noise(&s)};
        for (int i = 0; i < K; i++) {
            q[i] = noise(&s);
            key[i] = 0.3f * noise(&s);
        }
        for (int j = 0; j < V; j++)
            v[j] = noise(&s);
        const lb_delta d = {q, key, v, &gate[0], &gate[1], 0, V};
        k.delta_steps_f32(1, K, V, state, y, &d);
        for (int j = 0; j < V; j++) {
            double u = 0, o = 0;
            for (int i = 0; i < K; i++) {
                ds[i][j] *= (double)gate[0];
                u += (double)key[i] * ds[i][j];
            }
            for (int i = 0; i < K; i++) {
                ds[i][j] += (double)key[i] * (double)gate[1] * ((double)v[j] - u);
                o += (double)q[i] * ds[i][j];
            }
            CHECK(fabs((double)y[j] - o) < 1e-5);
        }
    }
}

LB_TEST_MAIN("fast")
