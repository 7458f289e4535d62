/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_str.c: strings, UTF-8, errors, checked arithmetic. */
#include "test.h"
#include "base/mem.h"
#include <stdlib.h>

LB_TEST(compare) {
    CHECK(lb_str_cmp(LB_STR("a"), LB_STR("b")) < 0);
    CHECK(lb_str_cmp(LB_STR("ab"), LB_STR("a")) > 0);
    CHECK(lb_str_cmp(LB_STR("\x80"), LB_STR("a")) > 0); /* unsigned bytes */
    CHECK(lb_str_cmp(LB_STR_NONE, LB_STR("")) == 0);
    CHECK(lb_str_cmp(LB_STR_NONE, LB_STR("a")) < 0);
}

static int sign(int x) {
    return (x > 0) - (x < 0);
}

LB_TEST(natural_order) {
    /* In order; each is compared with each. Equal numbers are ordered bytewise, at the very end. */
    static const char *const sorted[] = {"",
                                         "0",
                                         "00",
                                         "01",
                                         "1",
                                         "2",
                                         "010",
                                         "10",
                                         "a",
                                         "a01",
                                         "a1",
                                         "a1b",
                                         "a2",
                                         "a10",
                                         "b",
                                         "layers.2.q",
                                         "layers.10.k",
                                         "layers.10.q",
                                         "layers.99999999999999999999999.q",
                                         "layers.100000000000000000000000.q",
                                         "layers.x"};
    for (size_t i = 0; i < LB_LEN(sorted); i++)
        for (size_t j = 0; j < LB_LEN(sorted); j++) {
            int c = sign(lb_str_cmp_natural(lb_str_c(sorted[i]), lb_str_c(sorted[j])));
            if (c != (i > j) - (i < j))
                lb_test_fail(__FILE__, __LINE__, "\"%s\" ? \"%s\": %d", sorted[i], sorted[j], c);
        }
}

/* A total order on random strings: antisymmetric, transitive, zero only for equals. */
LB_TEST(natural_order_is_total) {
    static const char letters[] = "0019a.";
    for (int round = 0; round < 20000; round++) {
        char text[3][8];
        lb_str s[3];
        for (int k = 0; k < 3; k++) {
            size_t len = (size_t)lb_test_rand_below(6);
            for (size_t i = 0; i < len; i++)
                text[k][i] = letters[lb_test_rand_below(6)];
            s[k] = (lb_str){text[k], len};
        }
        int ab = sign(lb_str_cmp_natural(s[0], s[1])), bc = sign(lb_str_cmp_natural(s[1], s[2]));
        int ac = sign(lb_str_cmp_natural(s[0], s[2]));
        CHECK(ab == -sign(lb_str_cmp_natural(s[1], s[0])));
        CHECK((ab == 0) == lb_str_eq(s[0], s[1]));
        if (ab <= 0 && bc <= 0)
            CHECK(ac <= 0);
    }
}

LB_TEST(search_and_parts) {
    size_t pos = 99;
    CHECK(lb_str_find(LB_STR("hello"), LB_STR("l"), &pos) && pos == 2);
    CHECK(lb_str_find(LB_STR("hello"), LB_STR("lo"), &pos) && pos == 3);
    CHECK(lb_str_find(LB_STR("aaab"), LB_STR("aab"), &pos) && pos == 1);
    CHECK(lb_str_find(LB_STR("x"), LB_STR(""), &pos) && pos == 0);
    CHECK(!lb_str_find(LB_STR("hello"), LB_STR("loo"), &pos));
    CHECK(!lb_str_find(LB_STR(""), LB_STR("a"), &pos));
    CHECK(!lb_str_find(LB_STR_NONE, LB_STR("a"), &pos));
    CHECK(!lb_str_find(LB_STR("ab"), LB_STR("abc"), &pos));
    CHECK(lb_str_starts(LB_STR("abc"), LB_STR("ab")) && !lb_str_starts(LB_STR("a"), LB_STR("ab")));
    CHECK(lb_str_ends(LB_STR("abc"), LB_STR("bc")) && !lb_str_ends(LB_STR("c"), LB_STR("bc")));
    CHECK(lb_str_starts(LB_STR("abc"), LB_STR_NONE) && lb_str_ends(LB_STR_NONE, LB_STR_NONE));
    CHECK_STR(lb_str_sub(LB_STR("abcdef"), 2, 4), "cd");
    CHECK_STR(lb_str_sub(LB_STR("abc"), 2, 99), "c");
    CHECK_U64(lb_str_sub(LB_STR("abc"), 3, 2).len, 0);
    CHECK_U64(lb_str_sub(LB_STR_NONE, 0, 5).len, 0);
}

LB_TEST(numbers) {
    u64 v = 5;
    CHECK(lb_str_to_u64(LB_STR("0"), &v) && v == 0);
    CHECK(lb_str_to_u64(LB_STR("0018"), &v) && v == 18);
    CHECK(lb_str_to_u64(LB_STR("18446744073709551615"), &v) && v == UINT64_MAX);
    v = 5;
    CHECK(!lb_str_to_u64(LB_STR("18446744073709551616"), &v) && v == 5);
    CHECK(!lb_str_to_u64(LB_STR("99999999999999999999999"), &v));
    CHECK(!lb_str_to_u64(LB_STR(""), &v) && !lb_str_to_u64(LB_STR("+1"), &v));
    CHECK(!lb_str_to_u64(LB_STR("1 "), &v) && !lb_str_to_u64(LB_STR("-1"), &v) && v == 5);
}

LB_TEST(checked_sums) {
    u64 v = 5;
    CHECK(lb_add_u64(UINT64_MAX - 1, 1, &v) && v == UINT64_MAX);
    CHECK(!lb_add_u64(UINT64_MAX, 1, &v) && v == UINT64_MAX);
    CHECK(lb_mul_u64(1u << 31, 2, &v) && v == (u64)1 << 32);
    CHECK(!lb_mul_u64((u64)1 << 63, 2, &v) && v == (u64)1 << 32);
    CHECK(lb_align_u64(65, 64, &v) && v == 128);
    CHECK(lb_align_u64(0, 64, &v) && v == 0);
    CHECK(!lb_align_u64(UINT64_MAX - 3, 64, &v) && v == 0);
    CHECK_U64(lb_ceil_div_u64(UINT64_MAX, 2), (u64)1 << 63);
}

/* What Unicode 15 table 3-7 says, without its compressed form. */
static bool plain_utf8(const u8 *p, size_t n) {
    for (size_t i = 0; i < n;) {
        u32 c = p[i], len = c < 0x80         ? 1
                            : (c >> 5) == 6  ? 2
                            : (c >> 4) == 14 ? 3
                            : (c >> 3) == 30 ? 4
                                             : 0;
        static const u32 least[] = {0, 0, 0x80, 0x800, 0x10000};
        if (len == 0 || len > n - i)
            return false;
        u32 v = len == 1 ? c : c & (0x7fu >> len);
        for (u32 k = 1; k < len; k++) {
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
            v = v << 6 | (p[i + k] & 0x3fu);
        }
        if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
            return false;
        i += len;
    }
    return true;
}

/* All texts of up to three bytes, and four-byte texts with every byte class, behind 0 or 9 ASCII
 * bytes. */
LB_TEST(utf8_exhaustive) {
    static const u8 edge[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2,
                              0xdf, 0xe0, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf3, 0xf4, 0xf5, 0xff};
    u8 text[16];
    for (u32 v = 0; v < 1u << 24; v++) {
        text[0] = (u8)(v >> 16), text[1] = (u8)(v >> 8), text[2] = (u8)v;
        size_t n = text[0] < 0x80 && text[0] > 0 ? 1 : text[0] < 0xe0 && text[0] > 0 ? 2 : 3;
        if (n < 3 && text[2])
            continue;
        if (lb_str_is_utf8((lb_str){(char *)text, n}) != plain_utf8(text, n)) {
            lb_test_fail(__FILE__, __LINE__, "%02x %02x %02x", text[0], text[1], text[2]);
            return;
        }
    }
    for (size_t a = 0; a < LB_LEN(edge); a++)
        for (size_t b = 0; b < LB_LEN(edge); b++)
            for (size_t c = 0; c < LB_LEN(edge); c++)
                for (size_t d = 0; d < LB_LEN(edge); d++)
                    for (size_t pad = 0; pad <= 9; pad += 9) {
                        memset(text, 'x', pad);
                        text[pad] = edge[a], text[pad + 1] = edge[b];
                        text[pad + 2] = edge[c], text[pad + 3] = edge[d];
                        lb_str s = {(char *)text, pad + 4};
                        CHECK(lb_str_is_utf8(s) == plain_utf8(text, pad + 4));
                    }
    CHECK(lb_str_is_utf8(LB_STR_NONE));
}

LB_TEST(file_names) {
    static const char *const good[] = {"a",   "model.safetensors", "...",
                                       "a b", ".hidden",           "\xc3\xa9"};
    static const char *const bad[] = {"", ".", "..", "a/b", "/", "a\\b", "a\n", "a\x7f", "\x1b[0m"};
    for (size_t i = 0; i < LB_LEN(good); i++)
        CHECK(lb_str_is_file_name(lb_str_c(good[i])));
    for (size_t i = 0; i < LB_LEN(bad); i++)
        CHECK(!lb_str_is_file_name(lb_str_c(bad[i])));
    CHECK(!lb_str_is_file_name(LB_STR("a\0b")));
}

LB_TEST(errors) {
    lb_err err = {0};
    CHECK(lb_fail(NULL, LB_E_IO, "x") == LB_E_IO);
    lb_err_context(NULL, "x");
    lb_err_context(&err, "nothing is set");
    CHECK(err.msg[0] == 0);
    CHECK(lb_fail_at(&err, LB_E_FORMAT, 17, "tensor '%s': bad", "w") == LB_E_FORMAT);
    CHECK(err.code == LB_E_FORMAT && err.off == 17);
    lb_err_context(&err, "shard %d", 3);
    CHECK_STR(lb_str_c(err.msg), "shard 3: tensor 'w': bad");
    char longer[2000];
    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    (void)lb_fail(&err, LB_E_LIMIT, "%s", longer);
    CHECK(err.off == 0 && strlen(err.msg) == LB_ERR_MSG_MAX - 1);
    CHECK(lb_str_ends(lb_str_c(err.msg), LB_STR("y...")));
    (void)lb_fail(&err, LB_E_LIMIT, "the fact");
    lb_err_context(&err, "%s", longer);
    CHECK(lb_str_ends(lb_str_c(err.msg), LB_STR("y: the fact")));
    CHECK_STR(lb_str_c(lb_status_text(LB_OK)), "done");
    CHECK(lb_status_exit(LB_OK) == 0 && lb_status_exit(LB_E_USAGE) == 2);
    CHECK(lb_status_exit(LB_E_INTERRUPTED) == 130 && lb_status_exit((lb_status)999) == 1);
}

LB_TEST_MAIN("fast")
