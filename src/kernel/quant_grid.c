/* SPDX-License-Identifier: Apache-2.0 */
/* quant_grid.c: makes the search tables of a codebook (quant_grid.h) in the caller's memory, and
 * searches them. */
#include "kernel/quant_grid.h"
#include "kernel/iq_tables.h"
#include "kernel/kernel.h"

/* Which codebook a type has. A level is the stored magnitude, plus `bias`, over `step`. n_near:
 * entries of all lists, counted once and asserted here ever after. */
typedef struct grid_source {
    const u64 *points8;
    const u32 *points4;
    u32 n_points, n_rings, n_near, bias, step;
} grid_source;

static bool source_of(lb_dtype t, grid_source *s) {
    switch (t) {
    case LB_IQ2_XXS:
        *s = (grid_source){lb_iq2xxs_grid, NULL, 256, 2, 135360, 0, 17};
        return true;
    case LB_IQ2_XS:
        *s = (grid_source){lb_iq2xs_grid, NULL, 512, 2, 203376, 0, 17};
        return true;
    case LB_IQ2_S:
        *s = (grid_source){lb_iq2s_grid, NULL, 1024, 1, 69064, 0, 17};
        return true;
    case LB_IQ1_S:
    case LB_IQ1_M:
        *s = (grid_source){lb_iq1s_grid, NULL, 2048, 3, 343304, 1, 1};
        return true;
    case LB_IQ3_XXS:
        *s = (grid_source){NULL, lb_iq3xxs_grid, 256, 2, 34304, 0, 8};
        return true;
    case LB_IQ3_S:
        *s = (grid_source){NULL, lb_iq3s_grid, 512, 3, 36456, 0, 2};
        return true;
    default:
        return false;
    }
}

enum { ALIGN = 64, KEYS8 = 6561, KEYS4 = 4096, MAX_POINTS = 2048, MAX_DISTANCE = 4 * 49 };

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Offsets of the arrays; returns the end. */
static size_t layout(const grid_source *s, size_t off[4]) {
    const size_t n_keys = s->points8 ? KEYS8 : KEYS4;
    size_t at = aligned(sizeof(lb_grid));
    off[0] = at;
    at += aligned(s->n_points * sizeof(u16));
    off[1] = at;
    at += aligned(n_keys * sizeof(i32));
    off[2] = at;
    at += aligned(n_keys * sizeof(u16));
    off[3] = at;
    return at + aligned(s->n_near * sizeof(u32));
}

size_t lb_quant_tables_bytes(lb_dtype t) {
    grid_source s;
    size_t off[4];
    return source_of(t, &s) ? layout(&s, off) : 0;
}

/* Squared distance of two points of three levels, two bits each, 16 bits in all. */
static u32 distance8(u32 a, u32 b) {
    const u32 differ = a ^ b;
    const u32 by_one = differ & 0x5555u, by_two = differ >> 1 & 0x5555u & ~(a | b);
    return (u32)__builtin_popcount(by_one) + 4 * (u32)__builtin_popcount(by_two);
}

static u32 distance4(u32 a, u32 b) {
    u32 sum = 0;
    for (u32 i = 0; i < 12; i += 3) {
        const i32 d = (i32)(a >> i & 7) - (i32)(b >> i & 7);
        sum += (u32)(d * d);
    }
    return sum;
}

/* The list of a key that is no point, from entry `start` of near on; returns its end. */
static u32 make_list(lb_grid *g, u32 n_rings, u32 key, u32 packed, u32 start) {
    u8 distance[MAX_POINTS];
    u16 count[MAX_DISTANCE + 1] = {0}; /* points of each distance, then where the next one goes */
    for (u32 i = 0; i < g->n_points; i++) {
        distance[i] =
            (u8)(g->dims == 8 ? distance8(packed, g->point[i]) : distance4(packed, g->point[i]));
        count[distance[i]]++;
    }
    u32 n = 0, limit = 0;
    for (u32 d = 0, rings = 0; d <= MAX_DISTANCE && rings < n_rings; d++) {
        const u16 here = count[d];
        rings += here != 0;
        count[d] = (u16)n;
        n += here;
        limit = d;
    }
    for (u32 i = 0; i < g->n_points; i++)
        if (distance[i] <= limit)
            g->near[start + count[distance[i]]++] = g->point[i] | i << 16;
    while (n % 8) {
        g->near[start + n] = g->near[start + n - 1];
        n++;
    }
    g->n_near[key] = (u16)n;
    g->at[key] = ~(i32)start;
    return start + n;
}

/* Packs the levels of point i, one a byte, and finds its key. */
static u32 pack_point(const grid_source *s, const lb_grid *g, u32 i, u32 *key) {
    u32 packed = 0, power = 1;
    *key = 0;
    for (u32 j = 0; j < g->dims; j++, power *= g->base) {
        const u64 bytes = s->points8 ? s->points8[i] : s->points4[i];
        const u32 level = (u8)((bytes >> 8 * j) + s->bias) / s->step;
        packed |= level << g->bits * j;
        *key += level * power;
    }
    return packed;
}

void lb_quant_tables_init(lb_dtype t, void *memory) {
    grid_source s;
    if (!source_of(t, &s))
        return;
    size_t off[4];
    layout(&s, off);
    u8 *base = memory;
    lb_grid *g = memory;
    g->dims = s.points8 ? 8 : 4;
    g->base = s.points8 ? 3 : 8;
    g->bits = s.points8 ? 2 : 3;
    g->n_points = s.n_points;
    g->n_keys = s.points8 ? KEYS8 : KEYS4;
    g->point = (u16 *)(void *)(base + off[0]);
    g->at = (i32 *)(void *)(base + off[1]);
    g->n_near = (u16 *)(void *)(base + off[2]);
    g->near = (u32 *)(void *)(base + off[3]);
    memset(g->n_near, 0, g->n_keys * sizeof(u16));
    for (u32 key = 0; key < g->n_keys; key++)
        g->at[key] = -1;
    for (u32 i = 0; i < g->n_points; i++) {
        u32 key;
        g->point[i] = (u16)pack_point(&s, g, i, &key);
        g->at[key] = (i32)i;
    }
    u32 end = 0;
    for (u32 key = 0; key < g->n_keys; key++) {
        u32 packed = 0;
        for (u32 j = 0, rest = key; j < g->dims; j++, rest /= g->base)
            packed |= rest % g->base << g->bits * j;
        if (g->at[key] < 0)
            end = make_list(g, s.n_rings, key, packed, end);
    }
    LB_ASSERT(end == s.n_near);
}

u32 lb_grid_nearest(const lb_grid *g, u32 key, const float *x, const float *w, float scale,
                    const float *value) {
    float error[8][8];
    for (u32 i = 0; i < g->dims; i++)
        for (u32 l = 0; l < g->base; l++) {
            const float difference = scale * value[l] - x[i];
            error[i][l] = w[i] * difference * difference;
        }
    const u32 *list = g->near + ~g->at[key];
    u32 best = list[0];
    float best_sum = 0x1.fffffep127f;
    for (u32 k = 0; k < g->n_near[key]; k++) {
        float sum = 0;
        for (u32 i = 0; i < g->dims; i++)
            sum += error[i][lb_grid_level(g, list[k], i)];
        if (sum < best_sum) {
            best_sum = sum;
            best = list[k];
        }
    }
    return best;
}
