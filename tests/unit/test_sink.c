/* SPDX-License-Identifier: Apache-2.0 */
/* test_sink.c: outputs of many megabytes, whose pages are laid before they are written (lay.c): the
 * bytes are those of the pieces, whatever their order, and those of a run before stay. */
#include "plan/sink_internal.h"
#include "plan_kit.h"
#include "test.h"
#include "base/os.h"
#include "base/thread.h"
#include <stdlib.h>
#include <unistd.h>

enum { THREADS = 3, PIECES_MAX = 600 };

static const char *path_of(const char *name) {
    static char path[2][512];
    static u32 n;
    n++;
    snprintf(path[n % 2], sizeof path[0], "%s/%s", lb_test_dir(), name);
    return path[n % 2];
}

/* Random bytes of an odd number, in tensors that end anywhere. */
static lb_source *source(u64 *size_bytes) {
    static const u64 dims[][2] = {{1, 77}, {900, 1000}, {3, 5}, {2111, 999}, {1, 1}, {513, 777}};
    lb_source *s = lb_source_new(LB_FORMAT_SAFETENSORS, "in");
    u32 file;
    u64 off = 0, n = 0;
    for (u32 i = 0; i < LB_LEN(dims); i++)
        n += lb_kit_bytes(LB_BF16, dims[i][0], dims[i][1]);
    if (!s || !lb_kit_file(s, path_of("in.bin"), n, true, &file))
        abort();
    for (u32 i = 0; i < LB_LEN(dims); i++) {
        char name[8];
        snprintf(name, sizeof name, "t%u", i);
        if (!lb_kit_tensor(s, file, &off, name, LB_BF16, dims[i]))
            abort();
    }
    *size_bytes = n;
    return s;
}

static lb_plan *plan_of(const lb_source *s) {
    lb_err err = {0};
    lb_plan *p = lb_kit_plan(s, false, 1, &err);
    const u64 mib = lb_test_emulated() ? 1024 : 64; /* an emulator has memory of its own */
    const lb_plan_limits l = {.memory_bytes = mib * LB_MIB, .threads = THREADS};
    if (!p || lb_plan_close(p, &l, &err) != LB_OK)
        abort();
    return p;
}

typedef struct piece {
    u64 off, len;
} piece;

typedef struct writer {
    lb_sink *sink;
    const u8 *bytes;
    const piece *pieces;
    u32 n, first;
    lb_status st;
} writer;

static void *write_some(void *ctx) {
    writer *w = ctx;
    lb_sink_piece list[1 + THREADS];
    u32 n = 0;
    for (u32 i = w->first; i < w->n && w->st == LB_OK; i += THREADS) {
        const piece *p = &w->pieces[i];
        list[n++] = (lb_sink_piece){0, p->off, w->bytes + p->off, p->len};
        if (n <= i % THREADS) /* some bring one, some several */
            continue;
        w->st = lb_sink_write_all(w->sink, list, n, NULL);
        n = 0;
    }
    if (w->st == LB_OK)
        w->st = lb_sink_write_all(w->sink, list, n, NULL);
    return NULL;
}

/* Cut anywhere, in no order. */
static u32 cut(piece pieces[PIECES_MAX], u64 size_bytes, u64 max) {
    u32 n = 0;
    for (u64 at = 0; at < size_bytes; at += pieces[n++].len) {
        const u64 len = 1 + lb_test_rand_below(max);
        if (n == PIECES_MAX)
            abort();
        pieces[n] = (piece){at, LB_MIN(len, size_bytes - at)};
    }
    for (u32 i = n; i > 1; i--) {
        const u64 j = lb_test_rand_below(i);
        const piece p = pieces[j];
        pieces[j] = pieces[i - 1];
        pieces[i - 1] = p;
    }
    return n;
}

/* Written by several threads. */
static void cut_and_write(lb_sink *sink, const u8 *bytes, u64 size_bytes, u64 max) {
    static piece pieces[PIECES_MAX];
    const u32 n = cut(pieces, size_bytes, max);
    lb_thread t[THREADS];
    writer w[THREADS];
    for (u32 i = 0; i < THREADS; i++) {
        lb_err err = {0};
        w[i] = (writer){sink, bytes, pieces, n, i, LB_OK};
        CHECK_OK(lb_thread_start(&t[i], write_some, &w[i], &err));
    }
    for (u32 i = 0; i < THREADS; i++)
        lb_thread_join(&t[i]);
    for (u32 i = 0; i < THREADS; i++)
        CHECK_U64(w[i].st, LB_OK);
}

LB_TEST(pieces_in_no_order) {
    static const u64 max[] = {30 * LB_KIB, 128 * LB_KIB, 700 * LB_KIB, 5 * LB_MIB};
    lb_err err = {0};
    u64 size_bytes;
    lb_source *s = source(&size_bytes);
    lb_arena a = {0};
    lb_str bytes;
    CHECK_OK(lb_os_read_file(path_of("in.bin"), size_bytes, &a, &bytes, &err));
    for (u64 i = 0; i < lb_test_cases(4 * LB_LEN(max)); i++) {
        lb_sink *sink = NULL;
        lb_plan *p = plan_of(s);
        lb_sink_options o = {.path = path_of("out.bin"), .force = true};
        CHECK_OK(lb_sink_open(&sink, p, &o, &err));
        cut_and_write(sink, (const u8 *)bytes.ptr, size_bytes, max[i % LB_LEN(max)]);
        lb_sink_head head = {.bytes = lb_str_sub(bytes, 0, 1)};
        CHECK_OK(lb_sink_finish(sink, &(lb_sink_ending){.heads = &head}, &err));
        lb_sink_close(&sink, NULL);
        lb_plan_free(&p);
        CHECK(lb_kit_same_file(path_of("in.bin"), path_of("out.bin")));
    }
    lb_arena_deinit(&a);
    lb_source_close(&s);
}

/* On any file system: no zero goes where a piece has been, and who comes first to a block fills it.
 */
LB_TEST(pads) {
    enum { BLOCKS = 40, REST = 777, SIZE = BLOCKS * LB_SINK_BLOCK + REST };
    for (u64 i = 0; i < lb_test_cases(20); i++) {
        static u8 was[SIZE], laid[BLOCKS / 8 + 1];
        static piece pieces[PIECES_MAX];
        lb_out_file file = {.size_bytes = SIZE};
        lb_plan p = {.n_files = 1, .files = &file};
        lb_sink_file f = {.laid = laid};
        lb_sink s = {.plan = &p, .file = &f};
        const u32 n = cut(pieces, SIZE, (1 + i % 8) * 64 * LB_KIB);
        memset(was, 0, sizeof was);
        memset(laid, 0, sizeof laid);
        for (u32 k = 0; k < n; k++) {
            const u64 off = pieces[k].off, to = off + pieces[k].len;
            const lb_sink_pads pads = lb_sink_lay(&s, 0, off, pieces[k].len);
            CHECK(pads.before <= off && pads.before < LB_SINK_BLOCK && pads.after < LB_SINK_BLOCK);
            const u64 first = off / LB_SINK_BLOCK * LB_SINK_BLOCK;
            const u64 end = LB_MIN(lb_ceil_div_u64(to, LB_SINK_BLOCK) * LB_SINK_BLOCK, (u64)SIZE);
            CHECK(to + pads.after <= BLOCKS * LB_SINK_BLOCK || pads.after == 0);
            CHECK(memchr(was + off - pads.before, 1, (size_t)pads.before) == NULL);
            CHECK(memchr(was + to, 1, (size_t)pads.after) == NULL);
            memset(was + off - pads.before, 1, (size_t)(pads.before + to - off + pads.after));
            if (to <= BLOCKS * LB_SINK_BLOCK)
                CHECK(memchr(was + first, 0, (size_t)(end - first)) == NULL);
        }
    }
}

typedef struct until {
    u64 done, max;
} until;

static void count(void *user, u64 done_bytes, u64 total_bytes) {
    (void)total_bytes;
    ((until *)user)->done = done_bytes;
}

static bool enough(void *user) {
    const until *u = user;
    return u->done >= u->max;
}

/* What a run before has written is not laid over. */
LB_TEST(resumed) {
    lb_err err = {0};
    u64 size_bytes;
    lb_source *s = source(&size_bytes);
    lb_sink_options o = {.resume = true, .force = true, .span_bytes = 300 * LB_KIB};
    u32 n_kept = 0;
    for (u64 i = 1; i <= 6; i++) {
        lb_run_report rep;
        until u = {.max = size_bytes * 2 * i / 7};
        lb_plan *p = plan_of(s);
        lb_run_options ro = {.progress = count, .stop = enough, .user = &u};
        CHECK(lb_kit_run(p, path_of("out.bin"), &o, &ro, NULL, &err) == LB_E_INTERRUPTED);
        lb_plan_free(&p);
        p = plan_of(s);
        memset(&err, 0, sizeof err);
        CHECK_OK(lb_kit_run(p, path_of("out.bin"), &o, NULL, &rep, &err));
        n_kept += rep.resumed_jobs > 0;
        lb_plan_free(&p);
        CHECK(lb_kit_same_file(path_of("in.bin"), path_of("out.bin")));
        CHECK(unlink(path_of("out.bin")) == 0);
    }
    CHECK(n_kept > 0);
    lb_source_close(&s);
}

LB_TEST_MAIN("fast")
