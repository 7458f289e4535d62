/* SPDX-License-Identifier: Apache-2.0 */
/* test_gguf_meta.c: order, lookup, conversion, replacement and removal of GGUF key-value pairs. */
#include "format/gguf_meta.h"
#include "test.h"

static lb_arena arena;
static lb_gguf_meta meta;

static void begin(void) {
    arena = (lb_arena){0};
    lb_meta_init(&meta, &arena);
}

static void end(void) {
    lb_meta_deinit(&meta);
    lb_arena_deinit(&arena);
}

LB_TEST(order_and_replace) {
    lb_err err = {0};
    begin();
    CHECK(lb_meta_find(&meta, "a") == NULL);
    CHECK_OK(lb_meta_set_u32(&meta, "a", 1, &err));
    CHECK_OK(lb_meta_set_str(&meta, "b", LB_STR("bee"), &err));
    CHECK_OK(lb_meta_set_f32(&meta, "c", 0.1f, &err));
    CHECK_OK(lb_meta_set_u64(&meta, "a", UINT64_MAX, &err)); /* in place, with another type */
    CHECK_U64(meta.n, 3);
    CHECK_STR(meta.kv[0].key, "a");
    CHECK_STR(meta.kv[1].key, "b");
    CHECK_STR(meta.kv[2].key, "c");
    CHECK(meta.kv[0].type == LB_GGUF_U64 && meta.kv[0].v.u == UINT64_MAX);
    double f = 0;
    CHECK(lb_kv_as_f64(lb_meta_find(&meta, "c"), &f) && f == (double)0.1f);
    end();
}

LB_TEST(values_are_copied) {
    lb_err err = {0};
    char key[] = "key", text[] = "text";
    u16 numbers[] = {1, 2, 65535};
    lb_str words[] = {LB_STR("alpha"), LB_STR(""), LB_STR("g")};
    begin();
    CHECK_OK(lb_meta_set_str(&meta, key, (lb_str){text, 4}, &err));
    CHECK_OK(lb_meta_set_array(&meta, "n", LB_GGUF_U16, 3, numbers, &err));
    CHECK_OK(lb_meta_set_array(&meta, "s", LB_GGUF_STR, 3, words, &err));
    CHECK_OK(lb_meta_set_array(&meta, "none", LB_GGUF_STR, 0, NULL, &err));
    CHECK_OK(lb_meta_set_array(&meta, "none2", LB_GGUF_F32, 0, NULL, &err));
    memset(text, 'x', 4);
    memset(key, 'x', 3);
    memset(numbers, 0, sizeof numbers);
    words[0] = LB_STR("zzzzz");
    lb_str s;
    u64 u = 0;
    CHECK(lb_kv_as_str(lb_meta_find(&meta, "key"), &s));
    CHECK_STR(s, "text");
    CHECK(lb_kv_elem_u64(lb_meta_find(&meta, "n"), 2, &u) && u == 65535);
    CHECK(!lb_kv_elem_u64(lb_meta_find(&meta, "n"), 3, &u));
    CHECK(lb_kv_elem_str(lb_meta_find(&meta, "s"), 0, &s));
    CHECK_STR(s, "alpha");
    CHECK(lb_kv_elem_str(lb_meta_find(&meta, "s"), 1, &s) && s.len == 0);
    CHECK(lb_kv_elem_str(lb_meta_find(&meta, "s"), 2, &s));
    CHECK_STR(s, "g");
    CHECK(!lb_kv_elem_str(lb_meta_find(&meta, "s"), 3, &s));
    CHECK(!lb_kv_elem_str(lb_meta_find(&meta, "none"), 0, &s));
    CHECK(!lb_kv_elem_str(lb_meta_find(&meta, "n"), 0, &s));
    CHECK(!lb_kv_elem_u64(lb_meta_find(&meta, "s"), 0, &u));
    end();
}

/* What each getter says of each type: U = as_u64, I = as_i64, F = as_f64, B = as_bool, S = as_str.
 */
LB_TEST(conversions) {
    static const struct {
        lb_gguf_kv kv;
        const char *accepts;
    } cases[] = {
        {{.type = LB_GGUF_U8, .v.u = 255}, "UIF"},
        {{.type = LB_GGUF_U16, .v.u = 65535}, "UIF"},
        {{.type = LB_GGUF_U32, .v.u = UINT32_MAX}, "UIF"},
        {{.type = LB_GGUF_U64, .v.u = INT64_MAX}, "UIF"},
        {{.type = LB_GGUF_U64, .v.u = (u64)INT64_MAX + 1}, "UF"},
        {{.type = LB_GGUF_I8, .v.i = -1}, "IF"},
        {{.type = LB_GGUF_I16, .v.i = 7}, "UIF"},
        {{.type = LB_GGUF_I32, .v.i = -5}, "IF"},
        {{.type = LB_GGUF_I64, .v.i = INT64_MAX}, "UIF"},
        {{.type = LB_GGUF_F32, .v.f = 1.0}, "F"},
        {{.type = LB_GGUF_F64, .v.f = 1.5}, "F"},
        {{.type = LB_GGUF_BOOL, .v.u = 1}, "UIB"},
        {{.type = LB_GGUF_STR}, "S"},
        {{.type = LB_GGUF_ARRAY, .elem = LB_GGUF_U8}, ""},
    };
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        char got[8] = "";
        size_t n = 0;
        u64 u = 0;
        i64 s = 0;
        double f = 0;
        bool b = false;
        lb_str text;
        if (lb_kv_as_u64(&cases[i].kv, &u))
            got[n++] = 'U';
        if (lb_kv_as_i64(&cases[i].kv, &s))
            got[n++] = 'I';
        if (lb_kv_as_f64(&cases[i].kv, &f))
            got[n++] = 'F';
        if (lb_kv_as_bool(&cases[i].kv, &b))
            got[n++] = 'B';
        if (lb_kv_as_str(&cases[i].kv, &text))
            got[n++] = 'S';
        CHECK_STR(lb_str_c(got), cases[i].accepts);
    }
    u64 u;
    i64 s;
    double f;
    bool b;
    lb_str text;
    CHECK(!lb_kv_as_u64(NULL, &u) && !lb_kv_as_i64(NULL, &s) && !lb_kv_as_f64(NULL, &f));
    CHECK(!lb_kv_as_bool(NULL, &b) && !lb_kv_as_str(NULL, &text));
    CHECK(!lb_kv_elem_u64(NULL, 0, &u) && !lb_kv_elem_str(NULL, 0, &text));
}

LB_TEST(load_sign_and_width) {
    static const u8 ff[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    lb_gguf_kv kv;
    CHECK(lb_kv_load(&kv, LB_GGUF_I8, ff) && kv.v.i == -1);
    CHECK(lb_kv_load(&kv, LB_GGUF_I16, ff) && kv.v.i == -1);
    CHECK(lb_kv_load(&kv, LB_GGUF_I32, ff) && kv.v.i == -1);
    CHECK(lb_kv_load(&kv, LB_GGUF_I64, ff) && kv.v.i == -1);
    CHECK(lb_kv_load(&kv, LB_GGUF_U8, ff) && kv.v.u == 255);
    CHECK(lb_kv_load(&kv, LB_GGUF_U16, ff) && kv.v.u == 65535);
    CHECK(lb_kv_load(&kv, LB_GGUF_U32, ff) && kv.v.u == UINT32_MAX);
    CHECK(lb_kv_load(&kv, LB_GGUF_U64, ff) && kv.v.u == UINT64_MAX);
    CHECK(lb_kv_load(&kv, LB_GGUF_BOOL, ff) && kv.v.u == 1);
    CHECK(lb_kv_load(&kv, LB_GGUF_F32, ff) && kv.v.f != kv.v.f);
    CHECK(lb_kv_load(&kv, LB_GGUF_F64, ff) && kv.v.f != kv.v.f);
    CHECK(!lb_kv_load(&kv, LB_GGUF_STR, ff));
    CHECK(!lb_kv_load(&kv, LB_GGUF_ARRAY, ff));
}

LB_TEST(elements) {
    lb_err err = {0};
    i32 i32s[] = {-1, 5};
    double f64s[] = {0.25, -1e300};
    u8 bools[] = {0, 1};
    begin();
    CHECK_OK(lb_meta_set_array(&meta, "i", LB_GGUF_I32, 2, i32s, &err));
    CHECK_OK(lb_meta_set_array(&meta, "f", LB_GGUF_F64, 2, f64s, &err));
    CHECK_OK(lb_meta_set_array(&meta, "b", LB_GGUF_BOOL, 2, bools, &err));
    i64 i = 0;
    u64 u = 0;
    double f = 0;
    CHECK(lb_kv_elem_i64(lb_meta_find(&meta, "i"), 0, &i) && i == -1);
    CHECK(!lb_kv_elem_u64(lb_meta_find(&meta, "i"), 0, &u));
    CHECK(lb_kv_elem_u64(lb_meta_find(&meta, "i"), 1, &u) && u == 5);
    CHECK(lb_kv_elem_f64(lb_meta_find(&meta, "f"), 1, &f) && f == -1e300);
    CHECK(lb_kv_elem_f64(lb_meta_find(&meta, "i"), 1, &f) && f == 5.0);
    CHECK(lb_kv_elem_u64(lb_meta_find(&meta, "b"), 1, &u) && u == 1);
    end();
}

LB_TEST(find_arch) {
    lb_err err = {0};
    char long_suffix[400];
    memset(long_suffix, 'a', sizeof long_suffix - 1);
    long_suffix[sizeof long_suffix - 1] = 0;
    begin();
    CHECK_OK(lb_meta_set_u32(&meta, "llama.block_count", 22, &err));
    u64 u = 0;
    CHECK(lb_kv_as_u64(lb_meta_find_arch(&meta, LB_STR("llama"), "block_count"), &u) && u == 22);
    CHECK(lb_meta_find_arch(&meta, LB_STR("qwen2"), "block_count") == NULL);
    CHECK(lb_meta_find_arch(&meta, LB_STR_NONE, "block_count") == NULL);
    CHECK(lb_meta_find_arch(&meta, LB_STR("llama"), long_suffix) == NULL);
    CHECK(lb_meta_find_arch(&meta, (lb_str){long_suffix, 399}, "block_count") == NULL);
    CHECK(lb_meta_find_arch(NULL, LB_STR("llama"), "block_count") == NULL);
    end();
}

LB_TEST(remove_keeps_order) {
    lb_err err = {0};
    char key[16];
    begin();
    for (u32 i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof key, "k%u", i);
        CHECK_OK(lb_meta_set_u32(&meta, key, i, &err));
    }
    for (u32 i = 0; i < 100; i += 2) {
        (void)snprintf(key, sizeof key, "k%u", i);
        lb_meta_remove(&meta, key);
    }
    lb_meta_remove(&meta, "absent");
    CHECK_U64(meta.n, 50);
    for (u32 i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof key, "k%u", i);
        CHECK((lb_meta_find(&meta, key) != NULL) == (i % 2 == 1));
    }
    for (u64 i = 0; i < meta.n; i++)
        CHECK_U64(meta.kv[i].v.u, 2 * i + 1);
    CHECK_OK(lb_meta_set_u32(&meta, "k0", 1000, &err)); /* comes back at the end */
    CHECK_U64(meta.kv[50].v.u, 1000);
    end();
}

/* A removal that cannot rebuild the map must still find everything, and recover at the next set. */
LB_TEST(remove_without_memory) {
    lb_err err = {0};
    begin();
    for (u32 n = 1; n <= 4; n++) {
        CHECK_OK(lb_meta_set_u32(&meta, "a", 1, &err));
        CHECK_OK(lb_meta_set_u32(&meta, "b", 2, &err));
        CHECK_OK(lb_meta_set_u32(&meta, "c", 3, &err));
        lb_mem_fail_at(n);
        lb_meta_remove(&meta, "b");
        lb_mem_fail_at(0);
        u64 u = 0;
        CHECK(lb_meta_find(&meta, "b") == NULL);
        CHECK(lb_kv_as_u64(lb_meta_find(&meta, "a"), &u) && u == 1);
        CHECK(lb_kv_as_u64(lb_meta_find(&meta, "c"), &u) && u == 3);
    }
    end();
}

LB_TEST(refused) {
    lb_err err = {0};
    static char big[65537];
    memset(big, 'k', sizeof big - 1);
    begin();
    CHECK(lb_meta_set_u32(&meta, "", 1, &err) == LB_E_FORMAT);
    CHECK(lb_meta_set_u32(&meta, big, 1, &err) == LB_E_FORMAT);
    big[65535] = 0;
    CHECK_OK(lb_meta_set_u32(&meta, big, 1, &err));
    lb_gguf_kv nul = {.key = {"a\0b", 3}, .type = LB_GGUF_U8};
    CHECK(lb_meta_set(&meta, &nul, &err) == LB_E_FORMAT);
    lb_gguf_kv nested = {.key = LB_STR("x"), .type = LB_GGUF_ARRAY, .elem = LB_GGUF_ARRAY};
    CHECK(lb_meta_set(&meta, &nested, &err) == LB_E_FORMAT);
    lb_gguf_kv unknown = {.key = LB_STR("x"), .type = LB_GGUF_TYPE_COUNT};
    CHECK(lb_meta_set(&meta, &unknown, &err) == LB_E_FORMAT);
    static const lb_gguf_kv too_big[] = {
        {.type = LB_GGUF_U8, .v.u = 256},     {.type = LB_GGUF_U32, .v.u = (u64)1 << 32},
        {.type = LB_GGUF_I8, .v.i = 128},     {.type = LB_GGUF_I8, .v.i = -129},
        {.type = LB_GGUF_I16, .v.i = -32769}, {.type = LB_GGUF_I32, .v.i = (i64)1 << 31},
        {.type = LB_GGUF_BOOL, .v.u = 2},
    };
    for (size_t i = 0; i < LB_LEN(too_big); i++) {
        lb_gguf_kv kv = too_big[i];
        kv.key = LB_STR("x");
        CHECK(lb_meta_set(&meta, &kv, &err) == LB_E_FORMAT);
    }
    lb_gguf_kv twice = {.key = LB_STR("t"), .type = LB_GGUF_U8};
    CHECK_OK(lb_meta_adopt(&meta, &twice, &err));
    CHECK(lb_meta_adopt(&meta, &twice, &err) == LB_E_FORMAT);
    CHECK_U64(meta.n, 2);
    end();
}

/* Every allocation fails once; nothing is lost that was there before. */
LB_TEST(allocation_failures) {
    lb_str words[] = {LB_STR("alpha"), LB_STR("beta")};
    for (u64 n = 1; n < 200; n++) {
        lb_err err = {0};
        lb_status st = LB_OK;
        begin();
        lb_mem_fail_at(n);
        for (u32 i = 0; i < 300 && st == LB_OK; i++) {
            char key[16];
            (void)snprintf(key, sizeof key, "k%u", i);
            st = lb_meta_set_array(&meta, key, LB_GGUF_STR, 2, words, &err);
        }
        lb_mem_fail_at(0);
        CHECK(st == LB_OK || st == LB_E_NOMEM);
        for (u64 i = 0; i < meta.n; i++) {
            char key[16];
            lb_str s;
            (void)snprintf(key, sizeof key, "k%u", (unsigned)i);
            CHECK(lb_kv_elem_str(lb_meta_find(&meta, key), 1, &s));
            CHECK_STR(s, "beta");
        }
        end();
    }
}

LB_TEST(type_table) {
    CHECK_STR(lb_str_c(lb_gguf_type_name(LB_GGUF_U8)), "u8");
    CHECK_STR(lb_str_c(lb_gguf_type_name(LB_GGUF_ARRAY)), "array");
    CHECK_STR(lb_str_c(lb_gguf_type_name(LB_GGUF_F64)), "f64");
    CHECK_STR(lb_str_c(lb_gguf_type_name((lb_gguf_type)99)), "?");
    CHECK_U64(lb_gguf_type_bytes(LB_GGUF_BOOL), 1);
    CHECK_U64(lb_gguf_type_bytes(LB_GGUF_I16), 2);
    CHECK_U64(lb_gguf_type_bytes(LB_GGUF_F64), 8);
    CHECK_U64(lb_gguf_type_bytes(LB_GGUF_STR), 0);
    CHECK_U64(lb_gguf_type_bytes((lb_gguf_type)13), 0);
}

LB_TEST_MAIN("fast")
