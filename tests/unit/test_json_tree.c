/* SPDX-License-Identifier: Apache-2.0 */
/* test_json_tree.c: finding, numbers, building, sorting, and the writer against Python's
 * goldens. */
#include "test.h"
#include "base/os.h"
#include "io/json.h"
#include <locale.h>
#include <math.h>
#include <stdlib.h>

/* A tree from a literal, in an arena that lives until the program ends (freed by tree_free). */
static lb_arena arena;

static lb_json *tree(const char *text) {
    lb_err err = {0};
    lb_json *v = NULL;
    if (lb_json_parse(lb_str_c(text), "literal", &arena, &v, &err) != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
    return v;
}

/* What the writer makes of a tree, in the arena. */
static lb_str text_of(const lb_json *v, lb_json_style style) {
    lb_buf b = {0};
    lb_json_write(&b, v, style);
    lb_str s = lb_arena_str(&arena, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return s;
}

static lb_str line_of(const lb_json *v) {
    return text_of(v, (lb_json_style){0});
}

LB_TEST(finding) {
    const lb_json *v = tree("{\"a\":{\"b\":{\"c\":7}},\"s\":\"x\",\"l\":[1,2],\"t\":true}");
    u64 n = 0;
    lb_str s;
    bool b = false;
    CHECK(lb_json_as_u64(lb_json_path(v, "a.b.c"), &n) && n == 7);
    CHECK(!lb_json_path(v, "a.x.c") && !lb_json_path(v, "s.x") && !lb_json_path(v, "a.b.c.d"));
    CHECK(!lb_json_path(NULL, "a") && !lb_json_path(v, ""));
    CHECK(lb_json_path(v, "l")->n == 2);
    CHECK(!lb_json_get(NULL, "a") && !lb_json_get(lb_json_get(v, "l"), "a"));
    CHECK(lb_json_as_str(lb_json_get(v, "s"), &s) && lb_str_eq_c(s, "x"));
    CHECK(!lb_json_as_str(lb_json_get(v, "l"), &s) && !lb_json_as_str(NULL, &s));
    CHECK(lb_json_as_bool(lb_json_get(v, "t"), &b) && b);
    CHECK(!lb_json_as_bool(lb_json_get(v, "s"), &b) && !lb_json_as_bool(NULL, &b));
    lb_arena_deinit(&arena);
}

typedef struct whole_case {
    const char *text;
    bool is_u64, is_i64, is_int;
    u64 u;
    i64 i;
} whole_case;

LB_TEST(whole_numbers) {
    static const whole_case cases[] = {
        {"0", 1, 1, 1, 0, 0},
        {"-0", 1, 1, 1, 0, 0},
        {"-0.0", 1, 1, 0, 0, 0},
        {"0e999999999999999999999", 1, 1, 0, 0, 0},
        {"42", 1, 1, 1, 42, 42},
        {"-42", 0, 1, 1, 0, -42},
        {"2.0", 1, 1, 0, 2, 2},
        {"1e3", 1, 1, 0, 1000, 1000},
        {"1.5e1", 1, 1, 0, 15, 15},
        {"1500e-2", 1, 1, 0, 15, 15},
        {"1501e-2", 0, 0, 0, 0, 0},
        {"2.5", 0, 0, 0, 0, 0},
        {"1e-5", 0, 0, 0, 0, 0},
        {"9007199254740993", 1, 1, 1, 9007199254740993, 9007199254740993},
        {"9223372036854775807", 1, 1, 1, INT64_MAX, INT64_MAX},
        {"9223372036854775808", 1, 0, 1, (u64)1 << 63, 0},
        {"-9223372036854775808", 0, 1, 1, 0, INT64_MIN},
        {"-9223372036854775809", 0, 0, 1, 0, 0},
        {"18446744073709551615", 1, 0, 1, UINT64_MAX, 0},
        {"18446744073709551616", 0, 0, 1, 0, 0},
        {"1.8446744073709551615e19", 1, 0, 0, UINT64_MAX, 0},
        {"1000000000000000019884624838656", 0, 0, 1, 0, 0},
        {"1e99999999999999999999", 0, 0, 0, 0, 0},
        {"1e-99999999999999999999", 0, 0, 0, 0, 0},
        {"NaN", 0, 0, 0, 0, 0},
        {"Infinity", 0, 0, 0, 0, 0},
        {"\"1\"", 0, 0, 0, 0, 0},
        {"true", 0, 0, 0, 0, 0},
    };
    for (size_t k = 0; k < LB_LEN(cases); k++) {
        const whole_case *c = &cases[k];
        const lb_json *v = tree(c->text);
        u64 u = 5;
        i64 i = 5;
        CHECK(lb_json_as_u64(v, &u) == c->is_u64 && u == (c->is_u64 ? c->u : 5));
        CHECK(lb_json_as_i64(v, &i) == c->is_i64 && i == (c->is_i64 ? c->i : 5));
        CHECK(lb_json_is_int(v) == c->is_int);
    }
    CHECK(!lb_json_as_u64(NULL, NULL) && !lb_json_as_i64(NULL, NULL) && !lb_json_is_int(NULL));
    lb_arena_deinit(&arena);
}

static double f64(const char *text) {
    double x = -77;
    return lb_json_as_f64(tree(text), &x) ? x : -77;
}

LB_TEST(doubles) {
    CHECK(f64("0.1") == 0.1 && f64("-1.5e3") == -1500 && f64("1E-400") == 0);
    CHECK(isinf(f64("1e400")) && f64("-1e400") < 0 && isinf(f64("Infinity")));
    CHECK(isnan(f64("NaN")) && f64("-Infinity") == -INFINITY);
    CHECK(f64("-0.0") == 0 && signbit(f64("-0.0")) && signbit(f64("-0e5")));
    CHECK(f64("5e-324") == 5e-324 && f64("2.4703282292062327e-324") == 0);
    CHECK(isinf(f64("{\"__float__\":\"Infinity\"}")) && isnan(f64("{\"__float__\":\"NaN\"}")));
    CHECK(f64("{\"__float__\":\"-Infinity\"}") == -INFINITY);
    CHECK(f64("{\"__float__\":\"inf\"}") == -77 && f64("{\"__float__\":\"NaN\",\"x\":1}") == -77);
    CHECK(f64("\"1\"") == -77 && f64("null") == -77 && !lb_json_as_f64(NULL, NULL));
    /* Zeros and exponents that cancel. */
    lb_buf b = {0};
    lb_buf_put_c(&b, "0.");
    for (int i = 0; i < 5000; i++)
        lb_buf_put_u8(&b, '0');
    lb_buf_put_c(&b, "125e5001");
    lb_buf_put_u8(&b, 0);
    CHECK(f64((char *)b.ptr) == 1.25);
    lb_buf_reset(&b);
    lb_buf_put_c(&b, "125");
    for (int i = 0; i < 5000; i++)
        lb_buf_put_u8(&b, '0');
    lb_buf_put_c(&b, "e-5000");
    lb_buf_put_u8(&b, 0);
    CHECK(f64((char *)b.ptr) == 125);
    lb_buf_deinit(&b);
    lb_arena_deinit(&arena);
}

/* The exact middle between two doubles, 751 digits long, and the same with a last digit thousands
 * of places further on: half to even, and up. Digits of (2^53 + 1) x 2^-1074 / 2 by long
 * multiplication. */
LB_TEST(exact_middle) {
    enum { N = 1100 };
    static u8 dec[N]; /* least digit first: (2^53 + 1) x 5^1075, then shifted by 10^-1075 */
    u64 m = ((u64)1 << 53) + 1;
    size_t len = 0;
    memset(dec, 0, sizeof dec);
    for (; m; m /= 10)
        dec[len++] = (u8)(m % 10);
    for (int k = 0; k < 1075; k++) {
        u32 carry = 0;
        for (size_t i = 0; i < len || carry; i++) {
            u32 x = dec[i] * 5u + carry;
            dec[i] = (u8)(x % 10);
            carry = x / 10;
            len = LB_MAX(len, i + 1);
        }
    }
    double even = ldexp(0x1p52, -1074), up = ldexp(0x1p52 + 1, -1074);
    for (int zeros = 0; zeros <= 4000; zeros += 2000)
        for (int last = 0; last < 2; last++) {
            lb_buf b = {0};
            for (size_t i = len; i > 0; i--)
                lb_buf_put_u8(&b, (u8)('0' + dec[i - 1]));
            for (int i = 0; i < zeros; i++)
                lb_buf_put_u8(&b, '0');
            lb_buf_put_u8(&b, (u8)('0' + last));
            lb_buf_printf(&b, "e-%d", 1075 + zeros + 1);
            lb_buf_put_u8(&b, 0);
            CHECK(f64((char *)b.ptr) == (last ? up : even));
            lb_buf_deinit(&b);
        }
    CHECK(len > 750 && even < up);
    lb_arena_deinit(&arena);
}

/* Bits and repr, one pair a line. */
LB_TEST(repr_as_python) {
    lb_err err = {0};
    lb_str text;
    lb_buf b = {0};
    u64 n = 0;
    CHECK_OK(lb_os_read_file(lb_test_golden("json/f64.txt"), LB_MIB, &arena, &text, &err));
    const char *p = text.ptr;
    while (*p) {
        char *end;
        u64 bits = strtoull(p, &end, 16);
        const char *nl = strchr(end, '\n');
        double x, back = 0;
        memcpy(&x, &bits, sizeof x);
        lb_json v = {.type = LB_JNUMBER, .text = {end + 1, (size_t)(nl - end - 1)}};
        lb_buf_reset(&b);
        lb_json_write_f64(&b, x);
        if (!lb_str_eq(lb_buf_str(&b), v.text)) {
            lb_test_fail(__FILE__, __LINE__, "%.17g written as %.*s", x, LB_FMT(lb_buf_str(&b)));
            return;
        }
        CHECK(lb_json_as_f64(&v, &back) && (isnan(x) ? isnan(back) : memcmp(&x, &back, 8) == 0));
        p = nl + 1;
        n++;
    }
    CHECK(n > 1500);
    lb_buf_deinit(&b);
    lb_arena_deinit(&arena);
}

/* A locale with a decimal comma: installed, or made in the scratch folder by localedef. */
static bool use_comma(void) {
    char cmd[800];
    if (setlocale(LC_ALL, "de_DE.UTF-8") || setlocale(LC_ALL, "fr_FR.UTF-8"))
        return true;
    snprintf(cmd, sizeof cmd, "localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' >/dev/null 2>&1",
             lb_test_dir());
    if (system(cmd) != 0 || setenv("LOCPATH", lb_test_dir(), 1) != 0)
        return false;
    return setlocale(LC_ALL, "de_DE.UTF-8") != NULL;
}

/* Numbers do not follow the locale of the program that we are linked into. */
LB_TEST(locale) {
    if (!use_comma()) {
        lb_test_skip("no locale with a decimal comma is installed");
        return;
    }
    CHECK(localeconv()->decimal_point[0] == ',');
    lb_buf b = {0};
    lb_json_write_f64(&b, 1.5);
    CHECK_STR(lb_buf_str(&b), "1.5");
    CHECK(f64("2.25") == 2.25);
    lb_buf_deinit(&b);
    lb_arena_deinit(&arena);
    setlocale(LC_ALL, "C");
}

/* Records "indent compact ascii n_in n_out\n<input>\n<output>\n". */
LB_TEST(dumps_as_python) {
    lb_err err = {0};
    lb_str text;
    u64 n = 0;
    CHECK_OK(lb_os_read_file(lb_test_golden("json/dumps.txt"), LB_MIB, &arena, &text, &err));
    const char *p = text.ptr;
    while (*p) {
        u64 f[5];
        for (int i = 0; i < 5; i++) {
            char *end;
            f[i] = strtoull(p, &end, 10);
            p = end + 1;
        }
        lb_str in = {p, f[3]}, want = {p + f[3] + 1, f[4]};
        lb_json *v;
        CHECK_OK(lb_json_parse(in, "golden", &arena, &v, &err));
        lb_str got = text_of(
            v, (lb_json_style){.indent = (u32)f[0], .compact = f[1] != 0, .ascii = f[2] != 0});
        if (!lb_str_eq(got, want)) {
            lb_test_fail(__FILE__, __LINE__, "record %llu: got\n%.*s\nexpected\n%.*s",
                         (unsigned long long)n, LB_FMT(got), LB_FMT(want));
            return;
        }
        p = want.ptr + want.len + 1;
        n++;
    }
    CHECK_U64(n, 150);
    lb_arena_deinit(&arena);
}

LB_TEST(strict_has_no_words_for_numbers) {
    lb_err err = {0};
    lb_json *v;
    CHECK_OK(lb_json_parse(LB_STR("[NaN, Infinity, -Infinity, 1e5, \"NaN\"]"), "test", &arena, &v,
                           &err));
    CHECK(lb_str_eq_c(text_of(v, (lb_json_style){.strict = true}),
                      "[null, 1e999, -1e999, 1e5, \"NaN\"]"));
    CHECK(lb_str_eq_c(text_of(v, (lb_json_style){0}), "[NaN, Infinity, -Infinity, 1e5, \"NaN\"]"));
    lb_arena_deinit(&arena);
}

LB_TEST(strings_of_any_bytes) {
    static const struct {
        lb_str in;
        const char *utf8, *ascii;
    } cases[] = {
        {{"", 0}, "\"\"", "\"\""},
        {{"a\0b", 3}, "\"a\\u0000b\"", "\"a\\u0000b\""},
        {{"\x7f", 1}, "\"\x7f\"", "\"\\u007f\""},
        {{"\xed\xa0\xbd", 3}, "\"\\ud83d\"", "\"\\ud83d\""},
        {{"\xf0\x9f\x98\x80", 4}, "\"\xf0\x9f\x98\x80\"", "\"\\ud83d\\ude00\""},
        {{"\xff", 1}, "\"\xef\xbf\xbd\"", "\"\\ufffd\""},
        {{"\xe2\x82", 2}, "\"\xef\xbf\xbd\xef\xbf\xbd\"", "\"\\ufffd\\ufffd\""},
        {{"\xc0\x80z", 3}, "\"\xef\xbf\xbd\xef\xbf\xbdz\"", "\"\\ufffd\\ufffdz\""},
        {{"\xe0\x80\x80", 3},
         "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"",
         "\"\\ufffd\\ufffd\\ufffd\""},
        {{"\xf4\x90\x80\x80", 4}, NULL, "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {{"\xf0\x80\x80\x80", 4}, NULL, "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
    };
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        const lb_json *v = lb_json_new_str(&arena, cases[i].in);
        if (cases[i].utf8)
            CHECK_STR(line_of(v), cases[i].utf8);
        CHECK_STR(text_of(v, (lb_json_style){.ascii = true}), cases[i].ascii);
    }
    lb_arena_deinit(&arena);
}

LB_TEST(building) {
    lb_arena *a = &arena;
    lb_json *o = lb_json_new_object(a), *l = lb_json_new_array(a);
    CHECK(lb_json_set(a, o, "n", lb_json_new_u64(a, UINT64_MAX)));
    CHECK(lb_json_set(a, o, "i", lb_json_new_i64(a, INT64_MIN)));
    CHECK(lb_json_set(a, o, "f", lb_json_new_f64(a, 1e-5)));
    CHECK(lb_json_set(a, o, "l", l));
    CHECK(lb_json_push(l, lb_json_new_null(a)) && lb_json_push(l, lb_json_new_bool(a, true)));
    CHECK(lb_json_push(l, lb_json_new_i64(a, 0)) && lb_json_push(l, lb_json_new_i64(a, -7)));
    CHECK(lb_json_push(l, lb_json_new_f64(a, NAN)));
    CHECK_STR(line_of(o),
              "{\"n\": 18446744073709551615, \"i\": -9223372036854775808, \"f\": 1e-05, "
              "\"l\": [null, true, 0, -7, NaN]}");
    CHECK(lb_json_set(a, o, "n", lb_json_new_str(a, LB_STR("first"))));
    CHECK(lb_json_set(a, o, "l", lb_json_new_str(a, LB_STR("last"))));
    CHECK(lb_json_set(a, o, "z", lb_json_new_null(a)));
    CHECK(lb_json_set(a, o, "z", lb_json_get(o, "z"))); /* itself */
    CHECK_U64(o->n, 5);
    CHECK_STR(line_of(o),
              "{\"n\": \"first\", \"i\": -9223372036854775808, \"f\": 1e-05, \"l\": \"last\", "
              "\"z\": null}");
    lb_json *other = lb_json_copy(a, o);
    lb_json_remove(o, "z");
    lb_json_remove(o, "n");
    lb_json_remove(o, "f");
    lb_json_remove(o, "absent");
    CHECK_U64(o->n, 2);
    CHECK(lb_json_set(a, o, "e", lb_json_new_array(a)));
    CHECK_STR(line_of(o), "{\"i\": -9223372036854775808, \"l\": \"last\", \"e\": []}");
    CHECK_STR(line_of(other),
              "{\"n\": \"first\", \"i\": -9223372036854775808, \"f\": 1e-05, \"l\": "
              "\"last\", \"z\": null}");
    for (int i = 0; i < 3; i++)
        lb_json_remove(o, i == 0 ? "e" : i == 1 ? "i" : "l");
    CHECK(o->n == 0 && !o->first && !o->last);
    CHECK_STR(line_of(o), "{}");
    CHECK(!lb_json_set(a, o, "x", NULL) && !lb_json_set(a, NULL, "x", l) && !lb_json_push(l, NULL));
    CHECK_STR(line_of(NULL), "null");
    CHECK(!lb_json_copy(a, NULL));
    lb_arena_deinit(&arena);
}

/* Building when memory ends: NULL or false, passed on. */
LB_TEST(building_out_of_memory) {
    for (u64 limit = 1; limit < 8000; limit += 97) {
        lb_arena a = {.max_bytes = limit};
        lb_json *o = lb_json_new_object(&a);
        bool ok = true;
        for (int i = 0; i < 20; i++) {
            char key[12];
            snprintf(key, sizeof key, "k%d", i);
            ok &= lb_json_set(&a, o, key, lb_json_new_i64(&a, -i));
            ok &= lb_json_set(&a, o, "s", lb_json_new_str(&a, LB_STR("text")));
            ok &= lb_json_set(&a, o, "f", lb_json_new_f64(&a, i / 3.0));
            ok &= lb_json_set(&a, o, "c", lb_json_copy(&a, lb_json_get(o, "s")));
        }
        CHECK(ok == (o && o->n == 23 && a.size_bytes <= limit && lb_json_get(o, "k19")) || !ok);
        CHECK(a.size_bytes <= limit);
        lb_arena_deinit(&a);
    }
}

LB_TEST(sorting) {
    lb_json *v = tree("{\"b\":[{\"z\":1,\"a\":{\"y\":0,\"x\":0}}],\"\xc3\xa9\":1,\"a\":2,\"aa\":3,"
                      "\"B\":4,\"\":5}");
    lb_json_sort_keys(v);
    CHECK_STR(line_of(v),
              "{\"\": 5, \"B\": 4, \"a\": 2, \"aa\": 3, \"b\": [{\"a\": {\"x\": 0, \"y\": 0}, "
              "\"z\": 1}], \"\xc3\xa9\": 1}");
    CHECK_STR(v->last->key, "\xc3\xa9");
    CHECK(lb_json_set(&arena, v, "end", lb_json_new_null(&arena)) &&
          lb_str_eq_c(v->last->key, "end"));
    lb_json_sort_keys(NULL);
    lb_json_sort_keys(lb_json_new_object(&arena));
    for (u64 n = 1; n < 200; n += 7) { /* random keys */
        lb_json *o = lb_json_new_object(&arena);
        for (u64 i = 0; i < n; i++) {
            char key[20];
            snprintf(key, sizeof key, "%llu", (unsigned long long)lb_test_rand_below(100000));
            CHECK(lb_json_set(&arena, o, key, lb_json_new_null(&arena)));
        }
        u64 count = 0, before = o->n;
        lb_json_sort_keys(o);
        for (const lb_json *c = o->first; c; c = c->next, count++)
            CHECK(!c->next || lb_str_cmp(c->key, c->next->key) < 0);
        CHECK(count == before && o->n == before);
    }
    lb_arena_deinit(&arena);
}

LB_TEST_MAIN("fast")
