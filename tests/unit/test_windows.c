/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes through pinned windows to a device: rows of all lengths, windows shorter than rows, several
 * targets; on the CPU and on the stand-in for NVIDIA's driver (LB_TEST_STUB_CUDA), which copies as
 * late as it may: a window that is filled again too early shows. */
#include "model/windows.h"
#include "base/interrupt.h"
#include "test.h"
#include <dlfcn.h>
#include <stdlib.h>

#define N_PIECES 40u
#define ROOM (4u << 20)

static lb_err err;

typedef struct told {
    u64 done, total;
    u32 n;
    bool back; /* it has gone backward, or beyond the end */
} told;

static void hear(void *user, u64 done, u64 total) {
    told *t = user;
    t->back |= done < t->done || done > total;
    *t = (told){done, total, t->n + 1, t->back};
}

static u64 next(u64 *state, u64 n) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (*state >> 33) % n;
}

/* What is put, and what has to be there. */
typedef struct scene {
    lb_dev *d;
    u8 *source, *want[2], *got;
    lb_dev_buf *to[2];
    u64 end[2];
} scene;

static lb_status put_one(scene *s, lb_windows *w, u64 *state) {
    static const u64 lengths[] = {1, 4, 16, 300, 4096, 60000};
    const u64 at = lengths[next(state, LB_LEN(lengths))], bytes = at + next(state, at);
    const u64 n = next(state, 3) == 0 ? 1 : 1 + next(state, 60000 / bytes + 2);
    const lb_rows r = {s->source + next(state, 1000), n, bytes,
                       bytes + (next(state, 2) ? next(state, 100) : 0)};
    const u32 which = (u32)next(state, 5) == 0;
    if (s->end[which] + n * bytes > ROOM)
        return LB_OK;
    for (u64 i = 0; i < n; i++)
        memcpy(s->want[which] + s->end[which] + i * bytes, r.base + i * r.stride, bytes);
    LB_TRY(lb_windows_put(w, (lb_dev_arg){s->to[which], s->end[which]}, &r, &err));
    s->end[which] = lb_round_up(s->end[which] + n * bytes, 256) + (next(state, 4) ? 0 : 512);
    return LB_OK;
}

static bool same(scene *s, u32 which) {
    lb_dev_queue *q;
    bool ok = lb_dev_queue_new(s->d, &q, &err) == LB_OK &&
              lb_dev_queue_read(q, s->got, s->to[which], 0, ROOM, &err) == LB_OK &&
              lb_dev_queue_wait(q, &err) == LB_OK;
    /* where nothing was put, anything may be */
    for (u64 i = 0; i < ROOM && ok; i++)
        ok = s->want[which][i] == 0 || s->want[which][i] == s->got[i];
    return ok;
}

static void run(const lb_dev_opts *o) {
    static const u64 sizes[] = {16, 1000, 70000, 1u << 20, 3u << 20};
    scene s = {.source = malloc(ROOM), .got = malloc(ROOM)};
    u64 state = 3;
    for (u32 i = 0; i < 2; i++)
        s.want[i] = malloc(ROOM);
    CHECK(s.source && s.got && s.want[0] && s.want[1]);
    for (u32 i = 0; i < ROOM; i++)
        s.source[i] = (u8)(1 + next(&state, 255)); /* 0: nothing was put there */
    CHECK_OK(lb_dev_open(&s.d, o, &err));
    for (u32 i = 0; i < LB_LEN(sizes); i++) {
        lb_windows *w;
        told t = {0};
        for (u32 k = 0; k < 2; k++) {
            CHECK_OK(lb_dev_buf_new(s.d, LB_DEV_OWN, ROOM, &s.to[k], &err));
            memset(s.want[k], 0, ROOM);
            s.end[k] = 0;
        }
        CHECK_OK(lb_windows_new(&w,
                                &(lb_windows_in){.d = s.d,
                                                 .threads = 1 + i % 3,
                                                 .bytes = sizes[i],
                                                 .total = 2 * ROOM,
                                                 .progress = hear,
                                                 .user = &t},
                                &err));
        for (u32 k = 0; k < N_PIECES; k++) {
            CHECK_OK(put_one(&s, w, &state));
            if (k == N_PIECES / 2) /* and on */
                CHECK_OK(lb_windows_end(w, &err));
        }
        CHECK_OK(lb_windows_end(w, &err));
        lb_windows_free(&w);
        CHECK(s.end[0] > 300000 && same(&s, 0));
        CHECK(s.end[1] > 1000 && same(&s, 1));
        CHECK(t.n > 1 && !t.back && t.total == 2 * ROOM);
        for (u32 k = 0; k < 2; k++)
            lb_dev_buf_free(&s.to[k]);
    }
    lb_dev_close(&s.d);
    free(s.source);
    free(s.got);
    free(s.want[0]);
    free(s.want[1]);
}

LB_TEST(windows_cpu) {
    run(&(lb_dev_opts){.kind = LB_DEV_CPU, .exact = true});
}

static bool stubbed(void) {
    const char *path = getenv("LB_TEST_STUB_CUDA");
    static void *library;
    if (!library && path && *path)
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        lb_test_skip("no stand-in for the CUDA driver (LB_TEST_STUB_CUDA)");
    return library != NULL;
}

LB_TEST(windows_cuda) {
    if (stubbed())
        run(&(lb_dev_opts){.kind = LB_DEV_CUDA});
}

LB_TEST(windows_interrupted) {
    lb_dev *d;
    lb_dev_buf *to;
    lb_windows *w;
    u8 bytes[64] = {0};
    CHECK_OK(lb_dev_open(&d, &(lb_dev_opts){.kind = LB_DEV_CPU}, &err));
    CHECK_OK(lb_dev_buf_new(d, LB_DEV_OWN, 64, &to, &err));
    CHECK_OK(lb_windows_new(&w, &(lb_windows_in){.d = d, .bytes = 64}, &err));
    CHECK_OK(lb_windows_put(w, (lb_dev_arg){to, 0}, &(lb_rows){bytes, 1, 64, 64}, &err));
    lb_interrupt_set();
    CHECK_U64(lb_windows_end(w, &err), LB_E_INTERRUPTED);
    lb_interrupt_clear();
    lb_windows_free(&w);
    lb_dev_close(&d);
}

LB_TEST_MAIN("fast")
