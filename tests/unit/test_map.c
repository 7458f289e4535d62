/* SPDX-License-Identifier: Apache-2.0 */
/* test_map.c: the hash map against a plain list, and with failing allocations. */
#include "test.h"
#include "base/mem.h"

LB_TEST(empty_map) {
    lb_map m = {0};
    u64 v = 7;
    CHECK(!lb_map_find(&m, LB_STR("x"), &v) && v == 7);
    CHECK(!lb_map_find(&m, LB_STR_NONE, NULL));
    lb_map_deinit(&m);
    lb_map_deinit(&m);
}

LB_TEST(empty_key_and_nul_bytes) {
    lb_map m = {0};
    lb_err err = {0};
    bool existed = true;
    u64 v = 0;
    CHECK_OK(lb_map_put(&m, LB_STR_NONE, 1, &existed, &err));
    CHECK(!existed);
    CHECK_OK(lb_map_put(&m, LB_STR(""), 2, &existed, &err));
    CHECK(existed);
    CHECK_OK(lb_map_put(&m, LB_STR("a\0b"), 3, &existed, &err));
    CHECK_OK(lb_map_put(&m, LB_STR("a\0c"), 4, &existed, &err));
    CHECK(!existed);
    CHECK(lb_map_find(&m, LB_STR(""), &v) && v == 1);
    CHECK(lb_map_find(&m, LB_STR("a\0b"), &v) && v == 3);
    CHECK(lb_map_find(&m, LB_STR("a\0c"), &v) && v == 4);
    CHECK(!lb_map_find(&m, LB_STR("a"), &v));
    lb_map_deinit(&m);
}

LB_TEST(many_keys) {
    enum { N = 20000 };
    lb_map m = {0};
    lb_arena a = {0};
    lb_err err = {0};
    for (u64 i = 0; i < N; i++) {
        lb_str k = lb_arena_printf(&a, "model.layers.%llu.weight", (unsigned long long)i);
        bool existed = true;
        CHECK_OK(lb_map_put(&m, k, i * 3, &existed, &err));
        CHECK(!existed);
    }
    CHECK_U64(m.n, N);
    for (u64 i = 0; i < N; i++) {
        lb_str k = lb_arena_printf(&a, "model.layers.%llu.weight", (unsigned long long)i);
        bool existed = false;
        u64 v = 0;
        CHECK(lb_map_find(&m, k, &v) && v == i * 3);
        CHECK_OK(lb_map_put(&m, k, 1, &existed, &err));
        CHECK(existed && lb_map_find(&m, k, &v) && v == i * 3);
        CHECK(!lb_map_find(&m, lb_str_sub(k, 1, k.len), &v));
    }
    CHECK_U64(m.n, N);
    lb_map_deinit(&m);
    lb_arena_deinit(&a);
}

/* A put that fails leaves the map as it was. */
LB_TEST(failed_growth) {
    static char keys[100][4];
    lb_map m = {0};
    lb_err err = {0};
    u64 failed = 0, v;
    for (u64 i = 0; i < 100; i++) {
        snprintf(keys[i], sizeof keys[i], "%02d", (int)i);
        lb_mem_fail_at(1);
        lb_status st = lb_map_put(&m, lb_str_c(keys[i]), i, NULL, &err);
        lb_mem_fail_at(0);
        if (st != LB_OK) {
            CHECK(st == LB_E_NOMEM && err.code == LB_E_NOMEM);
            CHECK(!lb_map_find(&m, lb_str_c(keys[i]), NULL));
            failed++;
            CHECK_OK(lb_map_put(&m, lb_str_c(keys[i]), i, NULL, &err));
        }
        for (u64 j = 0; j <= i; j++)
            CHECK(lb_map_find(&m, lb_str_c(keys[j]), &v) && v == j);
    }
    CHECK_U64(failed, 5); /* capacities 16, 32, 64, 128, 256 at 3/4 */
    lb_map_deinit(&m);
}

LB_TEST_MAIN("fast")
