/* SPDX-License-Identifier: Apache-2.0 */
/* draw.c: see draw.h. Source: torch 2.15, aten/src/ATen/native/cpu/DistributionTemplates.h
 * (normal_fill: 16 values from 16 draws, the last 16 of a length that 16 does not divide anew) and
 * core/TransformationHelper.h; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011. */
#include "plan/draw.h"
#include "kernel/angle.h"
#include <math.h>

#define GROUP 16

/* ---- from uniform to normal ---- */

/* n_pairs radii from u in (0, 1], and angles from v in [0, 1): r cos and r sin. All in f32 as torch
 * has it. */
static void box_muller(const lb_kernels *k, u32 n_pairs, const float *u, const float *v,
                       float *cosines, float *sines) {
    const float two_pi = 6.28318530717958647692f;
    float logs[GROUP / 2];
    k->map_log_f32(n_pairs, logs, u);
    for (u32 i = 0; i < n_pairs; i++) {
        const float radius = sqrtf(-2.0f * logs[i]);
        const double angle = two_pi * v[i];
        cosines[i] = radius * (float)lb_cos_f64(angle);
        sines[i] = radius * (float)lb_sin_f64(angle);
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
