/* SPDX-License-Identifier: Apache-2.0 */
/* test_cur.c: the cursor against plain memory, at every end, over a file and over memory. */
#include "test.h"
#include "base/os.h"
#include "io/cur.h"
#include <stdlib.h>

enum { N = 700000 }; /* more than two windows */
static u8 data[N];

static const char *make_file(u64 len) {
    static char path[600];
    lb_err err = {0};
    int fd;
    for (size_t i = 0; i < N; i++)
        data[i] = (u8)(i * 2654435761u >> 13);
    snprintf(path, sizeof path, "%s/cur", lb_test_dir());
    if (lb_os_open_write(path, false, &fd, &err) != LB_OK ||
        lb_os_truncate(fd, path, 0, &err) != LB_OK ||
        lb_os_pwrite(fd, path, data, len, 0, &err) != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
    lb_os_close(&fd);
    return path;
}

/* Random reads, skips and strings until the end; every byte as it was written. */
static void walk(lb_cur *c) {
    static u8 out[N];
    lb_err err = {0};
    u64 pos = 0;
    while (lb_cur_left(c)) {
        lb_arena a = {0};
        u64 kind = lb_test_rand_below(8), max = kind == 7 ? 400000 : 3000;
        u64 n = lb_test_rand_below(LB_MIN(max, N - pos) + 1);
        u16 v2;
        u32 v4;
        u64 v8;
        lb_str s;
        CHECK_U64(c->pos, pos);
        CHECK_U64(lb_cur_left(c), N - pos);
        if (kind == 0 && N - pos >= 15) {
            CHECK_OK(lb_cur_u8(c, out, "x", &err));
            CHECK_OK(lb_cur_u16(c, &v2, "x", &err));
            CHECK_OK(lb_cur_u32(c, &v4, "x", &err));
            CHECK_OK(lb_cur_u64(c, &v8, "x", &err));
            CHECK(out[0] == data[pos] && v2 == lb_load_u16(data + pos + 1));
            CHECK(v4 == lb_load_u32(data + pos + 3) && v8 == lb_load_u64(data + pos + 7));
            n = 15;
        } else if (kind == 1) {
            CHECK_OK(lb_cur_skip(c, n, "x", &err));
        } else if (kind == 2) {
            CHECK_OK(lb_cur_str(c, n, &a, &s, "x", &err));
            CHECK(s.len == n && memcmp(s.ptr, data + pos, (size_t)n) == 0 && s.ptr[n] == 0);
        } else {
            CHECK_OK(lb_cur_bytes(c, out, n, "x", &err));
            CHECK(memcmp(out, data + pos, (size_t)n) == 0);
        }
        pos += n;
        lb_arena_deinit(&a);
    }
}

LB_TEST(file_and_memory) {
    lb_err err = {0};
    const char *path = make_file(N);
    for (int round = 0; round < 20; round++) {
        lb_cur c;
        CHECK_OK(lb_cur_open(&c, path, &err));
        walk(&c);
        lb_cur_close(&c);
        CHECK(c.fd == -1 && !c.window);
        lb_cur_close(&c);
        lb_cur_mem(&c, "memory", data, N);
        walk(&c);
        lb_cur_close(&c);
    }
}

/* Reads by position: going back is allowed, inside the window and before it. */
LB_TEST(going_back) {
    lb_err err = {0};
    lb_cur c;
    u32 v;
    CHECK_OK(lb_cur_open(&c, make_file(N), &err));
    static const u64 places[] = {0, 300000, 299990, 5, N - 4, 262140, 262144, 1};
    for (size_t i = 0; i < LB_LEN(places); i++) {
        c.pos = places[i];
        CHECK_OK(lb_cur_u32(&c, &v, "x", &err));
        CHECK_U64(v, lb_load_u32(data + places[i]));
    }
    lb_cur_close(&c);
}

/* At every distance from the end: what does not fit is an error that moves nothing. */
LB_TEST(ends) {
    u8 out[32];
    lb_err err = {0};
    size_t pos;
    for (int mem = 0; mem < 2; mem++)
        for (u64 len = 0; len <= 20; len++) {
            lb_cur c;
            lb_arena a = {0};
            lb_str s;
            if (mem)
                lb_cur_mem(&c, "memory", data, len);
            else
                CHECK_OK(lb_cur_open(&c, make_file(len), &err));
            for (u64 n = len + 1; n < len + 5; n++) {
                CHECK(lb_cur_bytes(&c, out, n, "the magic", &err) == LB_E_FORMAT);
                CHECK(lb_cur_skip(&c, n, "x", &err) == LB_E_FORMAT);
                CHECK(lb_cur_str(&c, n, &a, &s, "x", &err) == LB_E_FORMAT && !s.ptr);
            }
            u64 before = lb_mem_count();
            CHECK(lb_cur_str(&c, UINT64_MAX, &a, &s, "x", &err) == LB_E_FORMAT);
            CHECK(lb_cur_skip(&c, UINT64_MAX, "x", &err) == LB_E_FORMAT);
            CHECK(lb_mem_count() == before && c.pos == 0);
            CHECK(lb_cur_bytes(&c, out, len + 1, "the magic", &err) == LB_E_FORMAT);
            CHECK(lb_str_find(lb_str_c(err.msg), LB_STR("file ends inside the magic"), &pos));
            CHECK_OK(lb_cur_bytes(&c, out, len, "all", &err));
            CHECK(memcmp(out, data, (size_t)len) == 0);
            CHECK(lb_cur_u8(&c, out, "more", &err) == LB_E_FORMAT && err.off == len);
            CHECK_OK(lb_cur_bytes(&c, NULL, 0, "nothing", &err));
            lb_cur_close(&c);
            lb_arena_deinit(&a);
        }
}

LB_TEST(opening) {
    lb_err err = {0};
    lb_cur c;
    CHECK(lb_cur_open(&c, "/nonexistent", &err) == LB_E_NOT_FOUND && c.fd == -1);
    CHECK(lb_cur_open(&c, lb_test_dir(), &err) == LB_E_IO && c.fd == -1);
    const char *path = make_file(10);
    lb_mem_fail_at(1);
    CHECK(lb_cur_open(&c, path, &err) == LB_E_NOMEM && c.fd == -1);
    lb_mem_fail_at(0);
    /* Cut after it was opened. */
    int fd;
    u8 b[10];
    CHECK_OK(lb_cur_open(&c, path, &err));
    CHECK_OK(lb_os_open_write(path, false, &fd, &err));
    CHECK_OK(lb_os_truncate(fd, path, 4, &err));
    CHECK(lb_cur_bytes(&c, b, 10, "x", &err) == LB_E_IO);
    CHECK(lb_cur_bytes(&c, b, 2, "x", &err) == LB_E_IO);
    lb_os_close(&fd);
    lb_cur_close(&c);
}

LB_TEST_MAIN("fast")
