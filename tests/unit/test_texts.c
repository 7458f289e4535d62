/* SPDX-License-Identifier: Apache-2.0 */
/* test_texts.c: long lists of short strings, their index, and the account of the heap. */
#include "base/texts.h"
#include "test.h"
#include <stdio.h>

LB_TEST(strings_come_back_in_any_order_of_setting) {
    lb_texts t = {0};
    lb_err err = {0};
    char long_text[300];
    memset(long_text, 'x', sizeof long_text);
    CHECK_OK(lb_texts_set(&t, 3, LB_STR("three"), &err));
    CHECK_OK(lb_texts_set(&t, 0, LB_STR(""), &err));
    CHECK_OK(lb_texts_set(&t, 1, (lb_str){long_text, sizeof long_text}, &err));
    CHECK_OK(lb_texts_add(&t, LB_STR("four"), &err));
    CHECK_U64(t.n, 5);
    CHECK_STR(lb_texts_get(&t, 3), "three");
    CHECK_STR(lb_texts_get(&t, 4), "four");
    CHECK(lb_texts_get(&t, 0).ptr && lb_texts_get(&t, 0).len == 0);
    CHECK(!lb_texts_get(&t, 2).ptr && !lb_texts_has(&t, 2) && !lb_texts_has(&t, 5));
    CHECK_U64(lb_texts_get(&t, 1).len, sizeof long_text);
    CHECK_OK(lb_texts_set(&t, 3, LB_STR("another"), &err));
    CHECK_STR(lb_texts_get(&t, 3), "another");
    lb_texts_unset(&t, 3);
    CHECK(!lb_texts_has(&t, 3));
    CHECK(lb_texts_resize(&t, (u64)1 << 33, &err) == LB_E_LIMIT);
    lb_texts_deinit(&t);
}

LB_TEST(index_finds_every_string_and_no_other) {
    lb_texts t = {0};
    lb_texts_index x = {0};
    lb_err err = {0};
    char name[16];
    u64 at = 0;
    CHECK(!lb_texts_index_find(&x, &t, LB_STR("0"), &at));
    for (u64 i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "%u", (unsigned)i);
        CHECK_OK(lb_texts_add(&t, lb_str_c(name), &err));
        CHECK_OK(lb_texts_index_put(&x, &t, i, &at, &err));
        CHECK_U64(at, i);
    }
    CHECK_OK(lb_texts_add(&t, LB_STR("17"), &err));
    CHECK_OK(lb_texts_index_put(&x, &t, 1000, &at, &err));
    CHECK_U64(at, 17);
    for (u64 i = 0; i < 1000; i++)
        CHECK(lb_texts_index_find(&x, &t, lb_texts_get(&t, i), &at) && at == i);
    CHECK(!lb_texts_index_find(&x, &t, LB_STR("1000"), &at));
    lb_texts_index_deinit(&x);
    lb_texts_deinit(&t);
}

LB_TEST(a_kept_list_lives_with_its_arena) {
    lb_arena a = {0};
    lb_texts t = {0};
    lb_err err = {0};
    u64 before = lb_mem_used();
    for (u64 i = 0; i < 100; i++)
        CHECK_OK(lb_texts_add(&t, LB_STR("a string"), &err));
    CHECK(lb_texts_keep(&t, &a));
    CHECK_STR(lb_texts_get(&t, 99), "a string");
    CHECK(a.size_bytes >= 100 * 13);
    lb_arena_deinit(&a);
    CHECK_U64(lb_mem_used(), before);
}

LB_TEST(the_account_has_a_limit) {
    u64 before = lb_mem_used();
    u64 peak = lb_mem_peak_reset();
    lb_mem_limit(before + LB_MIB);
    void *a = lb_alloc(600 * LB_KIB), *b = lb_alloc(600 * LB_KIB);
    CHECK(a && !b && lb_mem_refused());
    CHECK(!lb_realloc(a, 2 * LB_MIB));
    CHECK(lb_mem_used() >= before + 600 * LB_KIB);
    lb_mem_limit(0);
    CHECK(!lb_mem_refused());
    b = lb_realloc(a, 2 * LB_MIB);
    CHECK(b && lb_mem_peak() >= before + 2 * LB_MIB);
    lb_free(b);
    CHECK_U64(lb_mem_used(), before);
    CHECK(lb_mem_peak() >= before + 2 * LB_MIB);
    lb_mem_peak_raise(peak);
    CHECK(lb_mem_peak() >= peak);
}

LB_TEST_MAIN("fast")
