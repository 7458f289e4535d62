/* SPDX-License-Identifier: Apache-2.0 */
/* draw.c: see draw.h. Source: torch 2.15, aten/src/ATen/native/cpu/DistributionTemplates.h
 * (normal_fill: 16 values from 16 draws, the last 16 of a length that 16 does not divide anew) and
 * core/TransformationHelper.h; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011. */
#include "plan/draw.h"
#include <math.h>

#define GROUP 16

/* ---- from uniform to normal ---- */

/* pi / 2 in two parts, the first of 33 bits. */
#define HALF_PI_HIGH 0x1.921fb544p+0
#define HALF_PI_LOW 0x1.0b4611a626331p-34

/* Of angles of one turn: Taylor's series on an eighth of a turn, in double (errors below 2^-44: the
 * first terms left out are r^15 / 15! and r^16 / 16!). The same bits on every machine. */
static void sin_cos(double x, float *sine, float *cosine) {
    const double n = floor(x * (1 / (HALF_PI_HIGH + HALF_PI_LOW)) + 0.5);
    const double r = x - n * HALF_PI_HIGH - n * HALF_PI_LOW, z = r * r;
    double s = 1.0 / 6227020800.0, c = -1.0 / 87178291200.0;
    s = s * z - 1.0 / 39916800.0;
    s = s * z + 1.0 / 362880.0;
    s = s * z - 1.0 / 5040.0;
    s = s * z + 1.0 / 120.0;
    s = s * z - 1.0 / 6.0;
    c = c * z + 1.0 / 479001600.0;
    c = c * z - 1.0 / 3628800.0;
    c = c * z + 1.0 / 40320.0;
    c = c * z - 1.0 / 720.0;
    c = c * z + 1.0 / 24.0;
    c = c * z - 0.5;
    const double of_sine = r + r * z * s, of_cosine = 1 + z * c;
    const u32 quarter = (u32)(int)n;
    const double a = quarter & 1 ? of_cosine : of_sine, b = quarter & 1 ? of_sine : of_cosine;
    *sine = (float)(quarter & 2 ? -a : a);
    *cosine = (float)((quarter + 1) & 2 ? -b : b);
}

/* n_pairs radii from u in (0, 1], and angles from v in [0, 1): r cos and r sin. All in f32 as torch
 * has it. */
static void box_muller(const lb_kernels *k, u32 n_pairs, const float *u, const float *v,
                       float *cosines, float *sines) {
    const float two_pi = 6.28318530717958647692f;
    float logs[GROUP / 2];
    k->map_log_f32(n_pairs, logs, u);
    for (u32 i = 0; i < n_pairs; i++) {
        const float radius = sqrtf(-2.0f * logs[i]);
        float s, c;
        sin_cos(two_pi * v[i], &s, &c);
        cosines[i] = radius * c;
        sines[i] = radius * s;
    }
}

/* ---- torch ---- */

static void torch_group(const lb_kernels *k, lb_mt19937 *m, float out[GROUP]) {
    float u[GROUP / 2], v[GROUP / 2];
    lb_mt19937_uniform(m, k, GROUP / 2, u);
    lb_mt19937_uniform(m, k, GROUP / 2, v);
    for (u32 i = 0; i < GROUP / 2; i++)
        u[i] = 1 - u[i];
    box_muller(k, GROUP / 2, u, v, out, out + GROUP / 2);
}

/* Places [from, end) of the call, all in groups. */
static void torch_groups(const lb_draw *d, const lb_kernels *k, u64 from, u64 end, float *out) {
    lb_mt19937 m = *d->state;
    float group[GROUP];
    lb_mt19937_seek(&m, k, from - from % GROUP);
    for (u64 i = from; i < end;) {
        const u64 in = i % GROUP, n = LB_MIN(end - i, GROUP - in);
        torch_group(k, &m, group);
        memcpy(out, group + in, n * sizeof *out);
        out += n;
        i += n;
    }
}

/* Places [from, end) of the last 16, which are drawn behind all others. */
static void torch_tail(const lb_draw *d, const lb_kernels *k, u64 from, u64 end, float *out) {
    lb_mt19937 m = *d->state;
    float group[GROUP];
    lb_mt19937_seek(&m, k, d->total);
    torch_group(k, &m, group);
    memcpy(out, group + (from - (d->total - GROUP)), (end - from) * sizeof *out);
}

static void torch_normal(const lb_draw *d, const lb_kernels *k, u64 from, u64 end, float *out) {
    const bool tail = d->total % GROUP && d->total > GROUP;
    const u64 last = tail ? d->total - GROUP : d->total;
    const u64 cut = LB_MIN(LB_MAX(from, last), end);
    if (from < cut)
        torch_groups(d, k, from, cut, out);
    if (cut < end)
        torch_tail(d, k, cut, end, out + (cut - from));
}

static void torch_uniform(const lb_draw *d, const lb_kernels *k, u64 from, u64 n, float *out) {
    lb_mt19937 m = *d->state;
    lb_mt19937_seek(&m, k, from);
    lb_mt19937_uniform(&m, k, n, out);
}

const lb_draw *lb_draw_torch(lb_draw_kind kind, u64 first, u64 total, lb_mt19937 *m,
                             const lb_kernels *k, lb_arena *perm) {
    lb_draw *d = lb_arena_new(perm, lb_draw, 1);
    lb_mt19937 *state = lb_arena_new(perm, lb_mt19937, 1);
    if (!d || !state)
        return NULL;
    lb_mt19937_seek(m, k, first - first % GROUP);
    *state = *m;
    *d = (lb_draw){.kind = kind, .seed = m->seed, .first = first, .total = total, .state = state};
    return d;
}

/* ---- Philox ---- */

void lb_philox(const u32 counter[4], const u32 key[2], u32 out[4]) {
    u32 c[4], k0 = key[0], k1 = key[1];
    memcpy(c, counter, sizeof c);
    for (u32 round = 0; round < 10; round++) {
        const u64 a = (u64)0xd2511f53u * c[0], b = (u64)0xcd9e8d57u * c[2];
        const u32 next[4] = {(u32)(b >> 32) ^ c[1] ^ k0, (u32)b, (u32)(a >> 32) ^ c[3] ^ k1,
                             (u32)a};
        memcpy(c, next, sizeof c);
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    memcpy(out, c, sizeof c);
}

/* Four counters at a time: places [16 block, 16 block + 16). */
static void philox_block(const lb_draw *d, const lb_kernels *k, u64 block, float out[GROUP]) {
    const u32 key[2] = {(u32)d->seed, (u32)(d->seed >> 32)};
    float u[GROUP / 2], v[GROUP / 2];
    for (u32 i = 0; i < GROUP / 4; i++) {
        const u64 at = block * (GROUP / 4) + i;
        const u32 counter[4] = {(u32)at, (u32)(at >> 32), (u32)d->stream, (u32)(d->stream >> 32)};
        u32 w[4];
        lb_philox(counter, key, w);
        for (u32 j = 0; j < 2; j++) {
            u[2 * i + j] = (float)((w[2 * j] >> 8) + 1) * 0x1p-24f;
            v[2 * i + j] = (float)(w[2 * j + 1] >> 8) * 0x1p-24f;
        }
    }
    box_muller(k, GROUP / 2, u, v, out, out + GROUP / 2);
}

static void normal(const lb_draw *d, const lb_kernels *k, u64 from, u64 end, float *out) {
    float block[GROUP];
    for (u64 i = from; i < end;) {
        const u64 in = i % GROUP, n = LB_MIN(end - i, GROUP - in);
        philox_block(d, k, i / GROUP, block);
        memcpy(out, block + in, n * sizeof *out);
        out += n;
        i += n;
    }
}

void lb_draw_fill(const lb_draw *d, const lb_kernels *k, u64 from, u64 n, float *out) {
    switch (d->kind) {
    case LB_DRAW_TORCH_NORMAL:
        torch_normal(d, k, d->first + from, d->first + from + n, out);
        break;
    case LB_DRAW_TORCH_UNIFORM:
        torch_uniform(d, k, d->first + from, n, out);
        break;
    case LB_DRAW_NORMAL:
        normal(d, k, from, from + n, out);
        break;
    }
}
