/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_mem.c: heap faults, arenas, buffers. */
#include "test.h"
#include "base/mem.h"

LB_TEST(heap_faults) {
    u64 before = lb_mem_count();
    lb_mem_fail_at(2);
    void *a = lb_alloc(10), *b = lb_alloc(10), *c = lb_alloc(10);
    CHECK(a && !b && c);
    CHECK_U64(lb_mem_count() - before, 3);
    lb_mem_fail_at(1);
    CHECK(!lb_realloc(a, 1000));
    memset(a, 1, 10); /* still ours */
    lb_mem_fail_at(5);
    lb_mem_fail_at(0);
    for (int i = 0; i < 10; i++) {
        void *p = lb_alloc(1);
        CHECK(p);
        lb_free(p);
    }
    lb_free(a);
    lb_free(b);
    lb_free(c);
    CHECK(!lb_alloc_zero(SIZE_MAX / 2, 3));
    u8 *z = lb_alloc_zero(3, 5);
    CHECK(z);
    for (int i = 0; i < 15; i++)
        CHECK(z[i] == 0);
    lb_free(z);
    z = lb_alloc(0);
    CHECK(z);
    lb_free(z);
}

/* Objects of random size and alignment keep their bytes, are aligned, zeroed and apart. */
LB_TEST(arena_objects) {
    enum { N = 3000 };
    static u8 *ptr[N];
    static size_t len[N];
    lb_arena a = {0};
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            size_t align = (size_t)1 << lb_test_rand_below(8);
            len[i] = (size_t)lb_test_rand_below(i % 100 ? 100 : 30000);
            ptr[i] = lb_arena_push(&a, len[i], align);
            CHECK(ptr[i] && (uintptr_t)ptr[i] % align == 0);
            for (size_t k = 0; k < len[i]; k++)
                CHECK(ptr[i][k] == 0);
            if (len[i])
                memset(ptr[i], i & 255, len[i]);
        }
        for (int i = 0; i < N; i++)
            for (size_t k = 0; k < len[i]; k++)
                CHECK(ptr[i][k] == (i & 255));
        lb_arena_reset(&a);
    }
    lb_arena_deinit(&a);
    lb_arena_deinit(&a);
    CHECK(a.last == NULL && a.size_bytes == 0);
}

LB_TEST(arena_limits) {
    lb_arena a = {.max_bytes = 10000};
    u64 n = 0;
    while (lb_arena_push(&a, 100, 8))
        n++;
    CHECK(a.size_bytes <= 10000 && n >= 70 && n < 100);
    CHECK(!lb_arena_push(&a, SIZE_MAX, 8) && !lb_arena_push(&a, SIZE_MAX - 4, 1));
    CHECK(!lb_arena_push_array(&a, UINT64_MAX / 2, 3, 1));
    CHECK(!lb_arena_new(&a, u64, (u64)1 << 61));
    lb_arena_deinit(&a);
    a = (lb_arena){0};
    lb_mem_fail_at(1);
    CHECK(!lb_arena_push(&a, 1, 1));
    CHECK(lb_arena_push(&a, 1, 1));
    CHECK_U64(lb_arena_str(&a, LB_STR_NONE).ptr[0], 0);
    lb_arena_deinit(&a);
}

/* A large object does not throw away the room of the chunk that was being filled. */
LB_TEST(arena_waste) {
    lb_arena a = {0};
    u64 pushed = 0;
    for (int i = 0; i < 200; i++) {
        CHECK(lb_arena_push(&a, 100, 8) && lb_arena_push(&a, 20000, 8));
        pushed += 20100;
    }
    CHECK(a.size_bytes < pushed + pushed / 4);
    lb_arena_deinit(&a);
}

LB_TEST(arena_text) {
    lb_arena a = {0};
    lb_str s = lb_arena_str(&a, LB_STR("ab\0c"));
    CHECK(s.len == 4 && memcmp(s.ptr, "ab\0c", 5) == 0);
    s = lb_arena_printf(&a, "%s-%d", "x", 12);
    CHECK_STR(s, "x-12");
    CHECK(s.ptr[4] == 0);
    lb_arena_deinit(&a);
}

LB_TEST(buffers) {
    lb_buf b = {0};
    lb_err err = {0};
    lb_buf_put(&b, NULL, 0);
    lb_buf_put_c(&b, "ab");
    lb_buf_put_str(&b, LB_STR("cd"));
    lb_buf_put_u8(&b, 'e');
    lb_buf_put_u32(&b, 0x69686766);
    lb_buf_put_u64(&b, 0x71706f6e6d6c6b6au);
    lb_buf_printf(&b, "%03d|%s", 7, "z");
    CHECK_STR(lb_buf_str(&b), "abcdefghijklmnopq007|z");
    lb_buf_put_zeros(&b, 300);
    CHECK_U64(b.len, 322);
    for (size_t i = 22; i < b.len; i++)
        CHECK(b.ptr[i] == 0);
    for (int i = 0; i < 5000; i++)
        lb_buf_put_u32(&b, (u32)i);
    for (int i = 0; i < 5000; i++)
        CHECK_U64(lb_load_u32(b.ptr + 322 + 4 * i), (u64)i);
    CHECK_OK(lb_buf_status(&b, &err));
    lb_buf_reset(&b);
    CHECK(b.len == 0 && b.cap > 0);
    lb_buf_deinit(&b);
    CHECK(b.ptr == NULL && b.cap == 0);
}

/* After a failed append nothing more is added: what is there is a prefix of what was meant. */
LB_TEST(buffer_out_of_memory) {
    lb_buf b = {0};
    lb_err err = {0};
    lb_buf_put_c(&b, "keep");
    lb_mem_fail_at(1);
    lb_buf_put_zeros(&b, 1000);
    lb_buf_put_c(&b, "lost");
    lb_buf_printf(&b, "%d", 1);
    CHECK_STR(lb_buf_str(&b), "keep");
    CHECK(lb_buf_status(&b, &err) == LB_E_NOMEM && err.code == LB_E_NOMEM);
    lb_buf_reset(&b);
    CHECK_OK(lb_buf_status(&b, &err));
    lb_buf_put_zeros(&b, SIZE_MAX - 2);
    CHECK(b.oom);
    lb_buf_deinit(&b);
}

/* The sum of the same pushes is what an arena takes, but for gaps before what is aligned: each is
 * counted in full, so that now and then a block begins earlier or later. */
LB_TEST(arena_sums) {
    u64 state = 1, sums = 0, arenas = 0;
    for (u32 round = 0; round < 20; round++) {
        lb_arena a = {0};
        lb_arena_sum s = {0};
        for (u32 i = 0; i < 60; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            u64 n = (state >> 40) >> (state >> 60);
            CHECK(lb_arena_push(&a, (size_t)n, 64) != NULL);
            lb_arena_sum_push(&s, n, 64);
        }
        sums += s.size_bytes;
        arenas += a.size_bytes;
        bool near = s.size_bytes >= a.size_bytes - a.size_bytes / 8 &&
                    s.size_bytes <= a.size_bytes + a.size_bytes / 8 + 4096;
        lb_arena_deinit(&a);
        CHECK(near);
    }
    CHECK(sums >= arenas - arenas / 32 && sums <= arenas + arenas / 32);
    lb_arena_sum s = {0};
    lb_arena_sum_push(&s, UINT64_MAX, 64);
    CHECK_U64(s.size_bytes, UINT64_MAX);
    lb_arena_sum_push(&s, 1, 64);
    CHECK_U64(s.size_bytes, UINT64_MAX);
}

LB_TEST_MAIN("fast")
