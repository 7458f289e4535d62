/* SPDX-License-Identifier: Apache-2.0 */
/* q8_ref.c: products of eight bits, the scalar definition. */
#include "kernel/q8.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include <math.h>

static i32 sum_of(const u8 *w, i32 off, const i8 *a, size_t n) {
    i32 s = 0;
    for (size_t i = 0; i < n; i++)
        s += ((i32)w[i] - off) * a[i];
    return s;
}

static void add_group(u32 type, size_t g, const lb_q8_row *w, const lb_q8_act *a, float *lane) {
    const size_t len = type & LB_Q8_HALVES ? 16 : 32;
    const float d = len == 16 ? a->d16[g] : a->d32[g];
    const i32 sum = sum_of(w->q + len * g, lb_q8_off(type), a->q + len * g, len);
    float *l = lane + g % LB_Q8_LANES;
    *l = fmaf((float)sum, w->s[g] * d, *l);
    if (type & LB_Q8_MIN)
        *l = fmaf(w->m[g], len == 16 ? a->m16[g] : a->m32[g], *l);
}

static float dot(size_t n_chunks, u32 type, const lb_q8_row *w, const lb_q8_act *a) {
    const size_t per32 = type & LB_Q8_HALVES ? 2 : 1;
    float lane[LB_Q8_LANES] = {0}, second[LB_Q8_LANES] = {0};
    u32 has = 0; /* bits of lanes with second parts */
    for (size_t c = 0; c < n_chunks; c++)
        for (size_t g = 0; g < 16 * per32; g++) {
            add_group(type, g, w + c, a + c, lane);
            if (a[c].more >> g / per32 & 1) {
                has |= 1u << g % LB_Q8_LANES;
                add_group(type, g, w + c, a + n_chunks + c, second);
            }
        }
    for (size_t i = 0; i < LB_Q8_LANES; i++)
        if (has >> i & 1)
            lane[i] += second[i];
    for (size_t n = LB_Q8_LANES / 2; n; n /= 2)
        for (size_t i = 0; i < n; i++)
            lane[i] += lane[i + n];
    return lb_canon_f32(lane[0]);
}

void lb_k_dots_q8_ref(const lb_q8_shape *s, float *out, const void *rows, const void *act) {
    const size_t n = lb_q8_chunks(s->n_cols);
    for (size_t t = 0; t < s->n_tokens; t++)
        for (size_t r = 0; r < s->n_rows; r++)
            out[t * s->out_stride + r] = dot(n, s->type, (const lb_q8_row *)rows + r * n,
                                             (const lb_q8_act *)act + t * s->act_stride);
}

/* Where group g of row r stands: codes of a quad 64 bytes apart, then scales and minima. */
static u8 *group_at(u8 *panel, bool halves, size_t n_chunks, size_t chunk, size_t g) {
    if (halves)
        return panel + (g % 16 * 2 * n_chunks + 2 * chunk + g / 16) * sizeof(lb_q8_panel16);
    return panel + (g * n_chunks + chunk) * sizeof(lb_q8_panel32);
}

void lb_k_panel_q8_ref(size_t n_rows, size_t n_cols, void *out, u32 type, const void *rows) {
    const size_t n = lb_q8_chunks(n_cols);
    const bool halves = type & LB_Q8_HALVES;
    const size_t n_groups = halves ? 32 : 16, quads = halves ? 4 : 8;
    memset(out, 0, lb_q8_panel_bytes(type, n_cols));
    for (size_t r = 0; r < n_rows; r++)
        for (size_t c = 0; c < n; c++)
            for (size_t g = 0; g < n_groups; g++) {
                const lb_q8_row *w = (const lb_q8_row *)rows + r * n + c;
                u8 *p = group_at(out, halves, n, c, g);
                for (size_t i = 0; i < quads; i++)
                    memcpy(p + 64 * i + 4 * r, w->q + 4 * (quads * g + i), 4);
                memcpy(p + 64 * quads + 4 * r, w->s + g, sizeof *w->s);
                if (type & LB_Q8_MIN)
                    memcpy(p + 64 * quads + 64 + 4 * r, w->m + g, sizeof *w->m);
            }
}

/* Back to a row, and its product. */
void lb_k_gemm_q8_ref(const lb_q8_shape *s, float *out, const void *panels, const void *act,
                      void *scratch) {
    const size_t n = lb_q8_chunks(s->n_cols), bytes = lb_q8_panel_bytes(s->type, s->n_cols);
    const bool halves = s->type & LB_Q8_HALVES;
    const size_t n_groups = halves ? 32 : 16, quads = halves ? 4 : 8;
    lb_q8_row *w = scratch;
    lb_q8_shape one = *s;
    one.n_rows = 1;
    for (size_t r = 0; r < s->n_rows; r++) {
        for (size_t c = 0; c < n; c++)
            for (size_t g = 0; g < n_groups; g++) {
                u8 *panel = (u8 *)(uintptr_t)panels + r / 16 * bytes;
                const u8 *p = group_at(panel, halves, n, c, g) + r % 16 * 4;
                for (size_t i = 0; i < quads; i++)
                    memcpy(w[c].q + 4 * (quads * g + i), p + 64 * i, 4);
                memcpy(w[c].s + g, p + 64 * quads, sizeof *w->s);
                memcpy(w[c].m + g, p + 64 * quads + 64, sizeof *w->m);
            }
        lb_k_dots_q8_ref(&one, out + r, w, act);
    }
}
