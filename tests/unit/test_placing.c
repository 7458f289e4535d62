/* SPDX-License-Identifier: Apache-2.0 */
/* Which layers go to which device: every placing of small cases is compared with all that there
 * are. */
#include "model/placing.h"
#include "test.h"
#include <math.h>

#define N 7u

static lb_err err;

typedef struct scene {
    u64 layer[N], free_bytes[3];
    u8 whole[N];
    lb_placing_in in;
} scene;

static u64 next(u64 *state, u64 n) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (*state >> 33) % n;
}

static u64 load(const scene *s, u32 begin, u32 end, bool last) {
    u64 sum = s->in.fixed_bytes;
    for (u32 i = begin; i < end; i++)
        sum += s->layer[i];
    sum += begin == 0 ? s->in.first_bytes : 0;
    sum += last ? s->in.last_bytes : 0;
    return begin == 0 && last ? sum - s->in.both_bytes : sum;
}

/* The largest part of a share, or infinity where a border or the memory forbids it. */
static double worth(const scene *s, const u32 *border, u32 n) {
    double worst = 0;
    for (u32 d = 0; d < n; d++) {
        const u64 bytes = load(s, border[d], border[d + 1], d + 1 == n);
        if ((border[d] && s->whole[border[d]]) || bytes > s->free_bytes[d])
            return INFINITY;
        worst = fmax(worst, s->in.share ? (double)bytes / s->in.share[d]
                                        : (double)bytes / (double)s->free_bytes[d]);
    }
    return worst;
}

/* Of n devices, by trying all borders. */
static double best(const scene *s, u32 n_host, u32 n) {
    double least = INFINITY;
    u32 b[4] = {n_host, N, N, N};
    if (n == 1)
        return worth(s, b, 1);
    for (b[1] = n_host + 1; b[1] < N; b[1]++) {
        if (n == 2)
            least = fmin(least, worth(s, b, 2));
        for (b[2] = b[1] + 1; n == 3 && b[2] < N; b[2]++)
            least = fmin(least, worth(s, b, 3));
        b[2] = N;
    }
    return least;
}

/* What lb_place has to come to: most layers first, then how many devices. */
static bool expect(const scene *s, u32 *n_host, u32 *n) {
    u32 most = LB_MIN(s->in.n_wanted, N);
    while (most && most < N && s->whole[N - most])
        most++;
    const u32 least = s->in.n_wanted == LB_NO_INDEX ? 1 : most;
    for (u32 want = most; want >= least && want; want--)
        for (u32 i = 0; i < LB_MIN(s->in.n_devices, want); i++) {
            *n_host = N - want;
            *n = s->in.few ? i + 1 : LB_MIN(s->in.n_devices, want) - i;
            if (best(s, *n_host, *n) != INFINITY)
                return true;
        }
    return false;
}

LB_TEST(placing_all) {
    static const double shares[] = {3, 1, 2};
    u64 state = 7;
    u32 n_whole = 0, n_partly = 0, n_none = 0;
    for (u32 i = 0; i < 3000; i++) {
        scene s = {.in = {.n_layers = N,
                          .n_devices = 1 + (u32)next(&state, 3),
                          .first_bytes = next(&state, 40),
                          .last_bytes = next(&state, 40),
                          .fixed_bytes = next(&state, 10),
                          .few = next(&state, 2) != 0,
                          .share = next(&state, 3) ? NULL : shares,
                          .n_wanted = next(&state, 3) ? LB_NO_INDEX : (u32)next(&state, N + 2)}};
        s.in.both_bytes = LB_MIN(s.in.first_bytes, s.in.last_bytes);
        for (u32 k = 0; k < N; k++) {
            s.layer[k] = 5 + next(&state, 30);
            s.whole[k] = k > 0 && next(&state, 6) == 0;
        }
        for (u32 k = 0; k < 3; k++)
            s.free_bytes[k] = 20 + next(&state, 200);
        s.in.layer_bytes = s.layer;
        s.in.whole = s.whole;
        s.in.free_bytes = s.free_bytes;
        lb_placing p;
        u32 n_host, n, border[4] = {0};
        CHECK_OK(lb_place(&s.in, &p, &err));
        if (!expect(&s, &n_host, &n)) {
            n_none++;
            CHECK_U64(p.n_devices, 0);
            continue;
        }
        n_whole += n_host == 0;
        n_partly += n_host != 0;
        CHECK_U64(p.n_host, n_host);
        CHECK_U64(p.n_devices, n);
        border[0] = p.n_host;
        for (u32 k = 0; k < p.n_devices; k++) {
            border[k + 1] = p.end[k];
            CHECK_U64(p.bytes[k], load(&s, border[k], border[k + 1], k + 1 == n));
        }
        CHECK(border[n] == N && worth(&s, border, n) <= best(&s, n_host, n));
    }
    CHECK(n_whole > 300 && n_partly > 300 && n_none > 300);
}

/* Memory that nobody knows has no limit: by bytes alone. */
LB_TEST(placing_unknown) {
    const u64 layer[] = {10, 10, 10, 30}, free_bytes[] = {0, 0};
    const u8 whole[4] = {0};
    lb_placing p;
    const lb_placing_in in = {.n_layers = 4,
                              .n_devices = 2,
                              .layer_bytes = layer,
                              .whole = whole,
                              .free_bytes = free_bytes,
                              .n_wanted = LB_NO_INDEX};
    CHECK_OK(lb_place(&in, &p, &err));
    CHECK(p.n_host == 0 && p.n_devices == 2 && p.end[0] == 3 && p.end[1] == 4);
}

LB_TEST_MAIN("fast")
