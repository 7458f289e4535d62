/* SPDX-License-Identifier: Apache-2.0 */
/* test_size.c: sizes, counts and times, to text and back. */
#include "test.h"
#include "io/size.h"

LB_TEST(parse) {
    static const struct {
        const char *text;
        u64 size;
    } good[] = {{"0", 0},
                {"4096", 4096},
                {"1B", 1},
                {"1k", 1000},
                {"1KB", 1000},
                {"1KiB", 1024},
                {"512MB", 512000000},
                {"512mb", 512000000},
                {"4GiB", 4 * LB_GIB},
                {"1.5GiB", 3 * LB_GIB / 2},
                {"2 GB", 2000000000},
                {"3t", 3000000000000},
                {"1TiB", (u64)1 << 40},
                {"0.5k", 500},
                {"0.000001TB", 1000000},
                {"1.999999TiB", ((u64)1 << 40) + 1099510528264},
                {"0.9B", 0},
                {"16777215.999999TiB", UINT64_MAX - 1099511},
                {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {"",
                                      "GB",
                                      "-1",
                                      "1.2.3",
                                      "5 X",
                                      "18446744073709551616",
                                      "18446744073709551615k",
                                      "1GBB",
                                      " 1",
                                      "1e9",
                                      "1.",
                                      ".5",
                                      "1.0000001GB",
                                      "16777216TiB",
                                      "1  GB",
                                      "1 GB ",
                                      "+1",
                                      "1,5GB",
                                      "0x10",
                                      "1Gi",
                                      "1BK"};
    for (u32 i = 0; i < LB_LEN(good); i++) {
        u64 v = 1;
        CHECK(lb_size_parse(lb_str_c(good[i].text), &v));
        CHECK_U64(v, good[i].size);
    }
    for (u32 i = 0; i < LB_LEN(bad); i++) {
        u64 v = 77;
        if (lb_size_parse(lb_str_c(bad[i]), &v) || v != 77)
            lb_test_fail(__FILE__, __LINE__, "'%s' was taken as a size", bad[i]);
    }
}

LB_TEST(print) {
    static const struct {
        u64 n;
        const char *size, *count;
    } cases[] = {{0, "0 B", "0"},
                 {999, "999 B", "999"},
                 {1000, "1.00 kB", "1.00 k"},
                 {1234567, "1.23 MB", "1.23 M"},
                 {9994000, "9.99 MB", "9.99 M"},
                 {9996000, "10.0 MB", "10.0 M"},
                 {99940000, "99.9 MB", "99.9 M"},
                 {99960000, "100 MB", "100 M"},
                 {999400000, "999 MB", "999 M"},
                 {999600000, "1.00 GB", "1.00 B"},
                 {134515008, "135 MB", "135 M"},
                 {1000000000000, "1.00 TB", "1.00 T"},
                 {UINT64_MAX, "18.4 EB", "18446744 T"}};
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        char text[LB_SIZE_TEXT];
        CHECK_STR(lb_str_c(lb_size_text(cases[i].n, text)), cases[i].size);
        CHECK_STR(lb_str_c(lb_count_text(cases[i].n, text)), cases[i].count);
    }
}

/* The printed figure is a size that is enough, and hardly more. */
LB_TEST(print_up) {
    char text[LB_SIZE_TEXT];
    CHECK_STR(lb_str_c(lb_size_text_up(0, text)), "0B");
    CHECK_STR(lb_str_c(lb_size_text_up(9999, text)), "9999B");
    CHECK_STR(lb_str_c(lb_size_text_up(10000, text)), "10kB");
    CHECK_STR(lb_str_c(lb_size_text_up(134217729, text)), "135MB");
    CHECK_STR(lb_str_c(lb_size_text_up(UINT64_MAX, text)), "18446745TB");
    for (int i = 0; i < 20000; i++) {
        u64 n = lb_test_rand() >> (1 + lb_test_rand_below(63)), back = 0;
        CHECK(lb_size_parse(lb_str_c(lb_size_text_up(n, text)), &back));
        CHECK(back >= n && back - n <= n / 9 + 1);
    }
}

LB_TEST(times) {
    static const struct {
        u64 us;
        const char *duration;
    } d[] = {{0, "0.00 s"},        {420000, "0.42 s"},     {9994000, "9.99 s"}, {9996000, "10.0 s"},
             {12345678, "12.3 s"}, {59940000, "59.9 s"},   {59960000, "1:00"},  {245499999, "4:05"},
             {245500000, "4:06"},  {3723000000, "1:02:03"}};
    static const struct {
        u64 s;
        const char *clock;
    } c[] = {{0, "0:00"},       {7, "0:07"},          {245, "4:05"},        {3599, "59:59"},
             {3600, "1:00:00"}, {359999, "99:59:59"}, {360000, "4 d 04 h"}, {446400, "5 d 04 h"}};
    char text[LB_SIZE_TEXT];
    for (u32 i = 0; i < LB_LEN(d); i++)
        CHECK_STR(lb_str_c(lb_duration_text(d[i].us, text)), d[i].duration);
    for (u32 i = 0; i < LB_LEN(c); i++)
        CHECK_STR(lb_str_c(lb_clock_text(c[i].s, text)), c[i].clock);
    CHECK(strlen(lb_clock_text(UINT64_MAX, text)) < LB_SIZE_TEXT - 1);
}

LB_TEST_MAIN("fast")
