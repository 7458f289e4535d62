/* SPDX-License-Identifier: Apache-2.0 */
/* q8_second_tmpl.h: second parts of activations (q8.h) in the order in which a panel has its
 * groups; part of q8_tmpl.h. */

/* The columns of a group, a run at a time. */
INLINE void copy_runs(const bool halves, u8 *to, const size_t step, const void *codes, size_t g) {
    const u8 *from = (const u8 *)codes + lb_q8_at((halves ? 16 : 32) * g);
    for (size_t i = 0; i < (halves ? 16 : 32) / RUN; i++)
        memcpy(to + step * i, from + lb_q8_at(RUN * i), RUN);
}

/* The second part of a group, with the place of the group in a panel. */
typedef struct second {
    i8 q[32];
    float d, m;
    i32 less;
    u32 lane, at;
} second;

/* What is flagged, lane by lane as the panel has it; returns how many. */
static size_t seconds_of(const bool halves, i32 off, size_t n_chunks, second *out,
                         const lb_q8_act *act) {
    const size_t per32 = halves ? 2 : 1;
    const second *const first = out;
    u32 any = 0;
    for (size_t c = 0; c < n_chunks; c++)
        any |= act[c].more;
    if (!any)
        return 0;
    for (size_t lane = 0; lane < LANES; lane++)
        for (size_t k = 0; k < per32 * n_chunks; k++) {
            const size_t c = k / per32, g = k % per32 * LANES + lane;
            const lb_q8_act *a = act + n_chunks + c;
            if (!(act[c].more >> g / per32 & 1))
                continue;
            copy_runs(halves, (u8 *)out->q, RUN, a->q, g);
            out->d = halves ? a->d16[g] : a->d32[g];
            out->m = halves ? a->m16[g] : a->m32[g];
            out->less = off * (halves ? a->s16[g] : a->s32[g]);
            out->lane = (u32)lane;
            out->at = (u32)(lane * per32 * n_chunks + k);
            out++;
        }
    return (size_t)(out - first);
}
