/* SPDX-License-Identifier: Apache-2.0 */
/* test_json.c: what is accepted and refused, hostile input, the pull reader, limits, memory
 * faults. */
#include "test.h"
#include "io/json.h"
#include <stdlib.h>

static const lb_json_style COMPACT = {.compact = true};

/* Accepted texts and what the compact writer makes of them. */
typedef struct good_case {
    lb_str text;
    const char *written;
} good_case;

#define GOOD(in, out) \
    { {"" in "", sizeof(in) - 1}, out }
static const good_case good[] = {
    GOOD("[]", "[]"),
    GOOD("{}", "{}"),
    GOOD(" \t\r\n[ \n1 ,\t2\r]  ", "[1,2]"),
    GOOD("[[],[[]],{}]", "[[],[[]],{}]"),
    GOOD("null", "null"),
    GOOD("true", "true"),
    GOOD("[false,null,true]", "[false,null,true]"),
    GOOD("0", "0"),
    GOOD("-0", "-0"),
    GOOD("[-0.0,1E5,1e+5,1.50e-05,0e0,-1.0E+07]", "[-0.0,1E5,1e+5,1.50e-05,0e0,-1.0E+07]"),
    GOOD("1000000000000000019884624838656", "1000000000000000019884624838656"),
    GOOD("[NaN,Infinity,-Infinity]", "[NaN,Infinity,-Infinity]"),
    GOOD("1e99999", "1e99999"),
    GOOD("\"\"", "\"\""),
    GOOD("\"abc\"", "\"abc\""),
    GOOD("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\""),
    GOOD("\"\\u0041\\u00e9\\u20ac\\uFFFF\"", "\"A\xc3\xa9\xe2\x82\xac\xef\xbf\xbf\""),
    GOOD("\"\\u0000\\u001f\\u007f\"", "\"\\u0000\\u001f\x7f\""),
    GOOD("\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\""),
    GOOD("\"\\uD83D\\uDE00\"", "\"\xf0\x9f\x98\x80\""),
    GOOD("\"\\ud83d\"", "\"\\ud83d\""),
    GOOD("\"\\ude00x\"", "\"\\ude00x\""),
    GOOD("\"\\ud83dx\\ude00\"", "\"\\ud83dx\\ude00\""),
    GOOD("\"\\ud83d\\ud83d\\ude00\"", "\"\\ud83d\xf0\x9f\x98\x80\""),
    GOOD("\"\\ude00\\ud83d\"", "\"\\ude00\\ud83d\""),
    GOOD("\"\\ud83d\\n\"", "\"\\ud83d\\n\""),
    GOOD("\"\x7f\xc2\x80\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"",
         "\"\x7f\xc2\x80\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\""),
    GOOD("\"\xe2\x80\xa8\xef\xbb\xbf\"", "\"\xe2\x80\xa8\xef\xbb\xbf\""),
    GOOD("{\"a\":1,\"b\":{\"a\":2}}", "{\"a\":1,\"b\":{\"a\":2}}"),
    GOOD("{\"\":0}", "{\"\":0}"),
    GOOD("{\"a\\u0000b\":0,\"a\":1}", "{\"a\\u0000b\":0,\"a\":1}"),
    GOOD("{\"z\" : [ ] , \"a\" : { } }", "{\"z\":[],\"a\":{}}"),
    GOOD("[\"1234567\",\"12345678\",\"123456789\",\"1234567\\n\",\"12345678\\n\"]",
         "[\"1234567\",\"12345678\",\"123456789\",\"1234567\\n\",\"12345678\\n\"]"),
};

/* Refused texts and a part of the message. */
typedef struct bad_case {
    lb_str text;
    const char *say;
} bad_case;

#define BAD(in, say) \
    { {"" in "", sizeof(in) - 1}, say }
static const bad_case bad[] = {
    BAD("", "ends too early"),
    BAD("  \n", "ends too early"),
    BAD("[", "ends too early"),
    BAD("[1", "ends too early"),
    BAD("[1,", "ends too early"),
    BAD("{\"a\"", "ends too early"),
    BAD("{\"a\":", "ends too early"),
    BAD("\"abc", "ends too early"),
    BAD("\"abc\\", "ends too early"),
    BAD("\"\\u12", "ends too early"),
    BAD("tru", "ends too early"),
    BAD("-", "ends too early"),
    BAD("1.", "ends too early"),
    BAD("1e", "ends too early"),
    BAD("1e+", "ends too early"),
    BAD("-Infinit", "ends too early"),
    BAD("]", "value expected"),
    BAD("[,1]", "value expected"),
    BAD("[1,]", "value expected"),
    BAD("[1,,2]", "value expected"),
    BAD("[1 2]", "',' or ']' expected"),
    BAD("[1}", "',' or ']' expected"),
    BAD("[1:2]", "',' or ']' expected"),
    BAD("{\"a\":1]", "',' or '}' expected"),
    BAD("{\"a\":1 \"b\":2}", "',' or '}' expected"),
    BAD("{\"a\":1,}", "key in double quotes expected"),
    BAD("{,}", "key in double quotes expected"),
    BAD("{1:2}", "key in double quotes expected"),
    BAD("{a:2}", "key in double quotes expected"),
    BAD("{'a':2}", "key in double quotes expected"),
    BAD("{null:2}", "key in double quotes expected"),
    BAD("{\"a\" 1}", "':' expected"),
    BAD("{\"a\",1}", "':' expected"),
    BAD("{\"a\"}", "':' expected"),
    BAD("{\"a\"::1}", "value expected"),
    BAD("{\"a\":}", "value expected"),
    BAD("1 2", "text behind the value"),
    BAD("[] ]", "text behind the value"),
    BAD("{}}", "text behind the value"),
    BAD("nullx", "text behind the value"),
    BAD("1\0", "text behind the value"),
    BAD("\0", "value expected"),
    BAD("'a'", "value expected"),
    BAD("True", "value expected"),
    BAD("nUll", "value expected"),
    BAD("nan", "value expected"),
    BAD("-NaN", "digit expected"),
    BAD("-Inf ", "value expected"),
    BAD("+1", "value expected"),
    BAD(".5", "value expected"),
    BAD("0x10", "text behind the value"),
    BAD("01", "leading zeros"),
    BAD("-01", "leading zeros"),
    BAD("00", "leading zeros"),
    BAD("- 1", "digit expected"),
    BAD("1.e5", "digit expected"),
    BAD("1.x", "digit expected"),
    BAD("1ex", "digit expected"),
    BAD("1e1.5", "text behind the value"),
    BAD("1_000", "text behind the value"),
    BAD("[1] // x", "text behind the value"),
    BAD("/* x */ 1", "value expected"),
    BAD("\xef\xbb\xbf[]", "value expected"),
    BAD("\"\n\"", "control byte"),
    BAD("\"\t\"", "control byte"),
    BAD("\"\0\"", "control byte"),
    BAD("\"1234567\x1f\"", "control byte"),
    BAD("\"\\x41\"", "unknown escape"),
    BAD("\"\\'\"", "unknown escape"),
    BAD("\"\\U0041\"", "unknown escape"),
    BAD("\"\\u004\"", "unknown escape"),
    BAD("\"\\u00g0\"", "unknown escape"),
    BAD("\"\\u 041\"", "unknown escape"),
    BAD("\"\\u-041\"", "unknown escape"),
    BAD("\"\\\n\"", "unknown escape"),
    BAD("\"\x80\"", "not UTF-8"),
    BAD("\"\xc0\x80\"", "not UTF-8"),
    BAD("\"\xc1\xbf\"", "not UTF-8"),
    BAD("\"\xed\xa0\x80\"", "not UTF-8"),
    BAD("\"\xf0\x8f\xbf\xbf\"", "not UTF-8"),
    BAD("\"\xf4\x90\x80\x80\"", "not UTF-8"),
    BAD("\"\xf5\x80\x80\x80\"", "not UTF-8"),
    BAD("\"\xff\"", "not UTF-8"),
    BAD("\"abcdefg\xc3\"", "not UTF-8"),
    BAD("\"abcdefgh\xe2\x82\"", "not UTF-8"),
    BAD("{\"\xc3\":1}", "not UTF-8"),
    BAD("{\"a\":1,\"a\":1}", "twice"),
    BAD("{\"a\":1,\"\\u0061\":1}", "twice"),
    BAD("{\"\":1,\"\":1}", "twice"),
    BAD("[{\"x\":{\"b\":1,\"b\":2}}]", "twice"),
    BAD("{\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"8\":0}", "twice"),
    BAD("{\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"1\":0}",
        "twice"),
    BAD("{\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"9\":0}",
        "twice"),
};

LB_TEST(accepts) {
    for (size_t i = 0; i < LB_LEN(good); i++) {
        lb_arena a = {0};
        lb_err err = {0};
        lb_json *v;
        lb_buf b = {0};
        CHECK_OK(lb_json_parse(good[i].text, "text", &a, &v, &err));
        lb_json_write(&b, v, COMPACT);
        CHECK_STR(lb_buf_str(&b), good[i].written);
        lb_buf_deinit(&b);
        lb_arena_deinit(&a);
    }
}

/* In a block of its own, so that a sanitizer sees a read beyond the text. */
static lb_status parse_exact(lb_str text, lb_arena *a, lb_json **v, lb_err *err) {
    char *p = malloc(text.len ? text.len : 1);
    if (text.len)
        memcpy(p, text.ptr, text.len);
    lb_status st = lb_json_parse((lb_str){p, text.len}, "text", a, v, err);
    if (st == LB_OK) { /* touch what the tree says, while the text is there */
        lb_buf b = {0};
        lb_json_write(&b, *v, COMPACT);
        lb_buf_deinit(&b);
        *v = NULL;
    }
    free(p);
    return st;
}

LB_TEST(refuses) {
    for (size_t i = 0; i < LB_LEN(bad); i++) {
        lb_arena a = {0};
        lb_err err = {0};
        lb_json *v = (lb_json *)1;
        size_t pos;
        CHECK(parse_exact(bad[i].text, &a, &v, &err) == LB_E_FORMAT);
        CHECK(!v && err.code == LB_E_FORMAT && err.off <= bad[i].text.len);
        CHECK(lb_str_starts(lb_str_c(err.msg), LB_STR("text: JSON: byte ")));
        if (!lb_str_find(lb_str_c(err.msg), lb_str_c(bad[i].say), &pos))
            lb_test_fail(__FILE__, __LINE__, "case %d: %s", (int)i, err.msg);
        lb_arena_deinit(&a);
    }
}

LB_TEST(error_places) {
    lb_arena a = {0};
    lb_err err = {0};
    lb_json *v;
    CHECK(lb_json_parse(LB_STR("{\"a\":\n\n  [1, x]}"), "f.json", &a, &v, &err) == LB_E_FORMAT);
    CHECK_U64(err.off, 13);
    CHECK_STR(lb_str_c(err.msg), "f.json: JSON: byte 13 (line 3): value expected");
    lb_json_reader r;
    lb_json_tok tok;
    lb_json_begin(&r, LB_STR("?"));
    r.off_base = 1000;
    CHECK(lb_json_next(&r, &tok, &err) == LB_E_FORMAT && err.off == 1000);
    lb_arena_deinit(&a);
}

static const char sample[] = "{\"model_type\": \"x\\u00e9\\ud83d\\ude00\", \"n\": [0, -1.5e+3, 10, "
                             "{\"deep\": [[[true]]], \"f\": false}],"
                             "\n \"\xc3\xa9\": null, \"s\": \"\\ud800 \\\"q\\\" caf\xc3\xa9 "
                             "\xe4\xb8\xad\", \"inf\": -Infinity, \"e\": {},"
                             " \"a1\": [], \"a2\": 1, \"a3\": 2, \"a4\": {\"x\": NaN}}";

LB_TEST(every_prefix_is_refused) {
    lb_arena a = {0};
    lb_err err = {0};
    lb_json *v;
    for (size_t n = 0; n < sizeof sample - 1; n++) {
        CHECK(parse_exact((lb_str){sample, n}, &a, &v, &err) == LB_E_FORMAT);
        lb_arena_reset(&a);
    }
    CHECK_OK(parse_exact((lb_str){sample, sizeof sample - 1}, &a, &v, &err));
    lb_arena_deinit(&a);
}

/* Every single flipped bit, then many random changes: an error, or a text that is written and read
 * again to the same text. */
static void survive(lb_str text) {
    lb_arena a = {0};
    lb_err err = {0};
    lb_json *v, *again;
    char *p = malloc(text.len);
    lb_buf x = {0}, y = {0};
    memcpy(p, text.ptr, text.len);
    if (lb_json_parse((lb_str){p, text.len}, "x", &a, &v, &err) == LB_OK) {
        lb_json_write(&x, v, COMPACT);
        CHECK_OK(lb_json_parse(lb_buf_str(&x), "x", &a, &again, &err));
        lb_json_write(&y, again, COMPACT);
        CHECK(lb_str_eq(lb_buf_str(&x), lb_buf_str(&y)));
    } else {
        CHECK(err.code == LB_E_FORMAT);
    }
    free(p);
    lb_buf_deinit(&x);
    lb_buf_deinit(&y);
    lb_arena_deinit(&a);
}

LB_TEST(bit_flips) {
    char text[sizeof sample];
    for (size_t i = 0; i < (sizeof sample - 1) * 8; i++) {
        memcpy(text, sample, sizeof sample);
        text[i / 8] = (char)(text[i / 8] ^ 1 << i % 8);
        survive((lb_str){text, sizeof sample - 1});
    }
    for (int round = 0; round < 20000; round++) {
        memcpy(text, sample, sizeof sample);
        for (u64 k = lb_test_rand_below(4) + 1; k; k--)
            text[lb_test_rand_below(sizeof sample - 1)] =
                "{}[]:,\"\\u019eE+-.NItn \n\x80\xc3"[lb_test_rand_below(25)];
        survive((lb_str){text, sizeof sample - 1});
    }
}

LB_TEST(depth) {
    lb_arena a = {0};
    lb_err err = {0};
    lb_json *v;
    char text[2000];
    size_t pos;
    for (u32 object = 0; object < 2; object++)
        for (u32 depth = LB_JSON_DEPTH; depth <= LB_JSON_DEPTH + 1; depth++) {
            size_t n = 0;
            for (u32 i = 0; i < depth; i++)
                n += (size_t)snprintf(text + n, sizeof text - n, "%s",
                                      object && i + 1 < depth ? "{\"k\":"
                                      : object                ? "{"
                                                              : "[");
            for (u32 i = 0; i < depth; i++)
                text[n++] = object ? '}' : ']';
            lb_status st = parse_exact((lb_str){text, n}, &a, &v, &err);
            if (depth <= LB_JSON_DEPTH)
                CHECK_OK(st);
            else
                CHECK(st == LB_E_FORMAT &&
                      lb_str_find(lb_str_c(err.msg), LB_STR("64 levels"), &pos));
        }
    /* A million open brackets cost nothing. */
    char *many = malloc(1000000);
    memset(many, '[', 1000000);
    u64 before = lb_mem_count();
    CHECK(lb_json_parse((lb_str){many, 1000000}, "x", &a, &v, &err) == LB_E_FORMAT);
    CHECK(lb_mem_count() - before < 20);
    free(many);
    lb_arena_deinit(&a);
}

/* 300,000 keys: by comparing each with each this would take minutes. */
LB_TEST(many_keys) {
    lb_arena a = {0};
    lb_err err = {0};
    lb_json *v;
    lb_buf b = {0};
    size_t pos;
    lb_buf_put_u8(&b, '{');
    const u64 n = lb_test_cases(300000);
    for (u64 i = 0; i < n; i++)
        lb_buf_printf(&b, "\"key%d\":%d,", (int)i, (int)i);
    lb_buf_put_c(&b, "\"last\":0}");
    CHECK_OK(lb_json_parse(lb_buf_str(&b), "x", &a, &v, &err));
    CHECK_U64(v->n, n + 1);
    CHECK_STR(v->last->key, "last");
    b.len -= strlen("\"last\":0}");
    lb_buf_put_c(&b, "\"key7\":0}");
    CHECK(lb_json_parse(lb_buf_str(&b), "x", &a, &v, &err) == LB_E_FORMAT);
    CHECK(lb_str_find(lb_str_c(err.msg), LB_STR("key \"key7\" is there twice"), &pos));
    lb_buf_deinit(&b);
    lb_arena_deinit(&a);
}

LB_TEST(pull_tokens) {
    static const lb_json_tok want[] = {
        LB_JSON_OBJECT,     LB_JSON_KEY,        LB_JSON_ARRAY, LB_JSON_NUMBER, LB_JSON_STRING,
        LB_JSON_ARRAY_END,  LB_JSON_KEY,        LB_JSON_TRUE,  LB_JSON_KEY,    LB_JSON_OBJECT,
        LB_JSON_OBJECT_END, LB_JSON_OBJECT_END, LB_JSON_END,   LB_JSON_END};
    lb_json_reader r;
    lb_err err = {0};
    lb_json_begin(&r, LB_STR("{\"a\":[12,\"x\\ny\"],\"b\":true,\"c\":{}} "));
    for (size_t i = 0; i < LB_LEN(want); i++) {
        lb_json_tok tok;
        CHECK_OK(lb_json_next(&r, &tok, &err));
        CHECK(tok == want[i]);
        if (i == 3) {
            u64 n = 0;
            CHECK_STR(r.raw, "12");
            CHECK_OK(lb_json_u64(&r, &n, &err));
            CHECK_U64(n, 12);
        }
        if (i == 4) {
            lb_arena a = {0};
            lb_str s;
            CHECK(r.has_escape);
            CHECK_STR(r.raw, "x\\ny");
            CHECK_OK(lb_json_string(&r, &a, &s, &err));
            CHECK_STR(s, "x\ny");
            lb_arena_deinit(&a);
        }
    }
}

LB_TEST(pull_u64) {
    static const char *const no[] = {"-1", "1.0", "1e3", "18446744073709551616", "NaN", "-0"};
    lb_json_reader r;
    lb_json_tok tok;
    lb_err err = {0};
    u64 n = 0;
    lb_json_begin(&r, LB_STR("18446744073709551615"));
    CHECK_OK(lb_json_next(&r, &tok, &err));
    CHECK_OK(lb_json_u64(&r, &n, &err));
    CHECK_U64(n, UINT64_MAX);
    for (size_t i = 0; i < LB_LEN(no); i++) {
        lb_json_begin(&r, lb_str_c(no[i]));
        CHECK_OK(lb_json_next(&r, &tok, &err));
        CHECK(lb_json_u64(&r, &n, &err) == LB_E_FORMAT && n == UINT64_MAX);
    }
}

LB_TEST(pull_skip) {
    lb_json_reader r;
    lb_json_tok tok;
    lb_err err = {0};
    lb_json_begin(&r, LB_STR("{\"a\":[1,{\"x\":[]},[2]],\"b\":3,\"c\":\"s\"}"));
    CHECK_OK(lb_json_next(&r, &tok, &err));
    for (int i = 0; i < 3; i++) {
        CHECK_OK(lb_json_next(&r, &tok, &err));
        CHECK(tok == LB_JSON_KEY && r.raw.len == 1 && r.raw.ptr[0] == "abc"[i]);
        CHECK_OK(lb_json_skip(&r, &err));
    }
    CHECK_OK(lb_json_next(&r, &tok, &err));
    CHECK(tok == LB_JSON_OBJECT_END);
    lb_json_begin(&r, LB_STR("[]"));
    CHECK_OK(lb_json_next(&r, &tok, &err));
    CHECK(lb_json_skip(&r, &err) == LB_E_FORMAT);
    lb_json_begin(&r, LB_STR("[[1,[2],3"));
    CHECK(lb_json_skip(&r, &err) == LB_E_FORMAT);
}

/* Whichever allocation fails, parsing and writing say so and free everything. */
LB_TEST(allocation_failures) {
    lb_buf text = {0};
    u64 n_failed = 0;
    lb_buf_put_u8(&text, '[');
    for (int i = 0; i < 300; i++)
        lb_buf_printf(&text, "{\"k\\n%d\":\"v\\t%d\",\"b\":[%d]},", i, i, i);
    lb_buf_put_u8(&text, '{');
    for (int i = 0; i < 200; i++)
        lb_buf_printf(&text, "\"m%d\":%s,", i, i % 50 ? "0" : "[]");
    lb_buf_put_c(&text, "\"z\":1}]");
    for (u64 n = 1; n <= 2000; n++) {
        lb_err err = {0};
        lb_arena a = {0};
        lb_json *v;
        lb_buf b = {0};
        u64 before = lb_mem_count();
        lb_mem_fail_at(n);
        lb_status st = lb_json_parse(lb_buf_str(&text), "text", &a, &v, &err);
        if (st == LB_OK) {
            lb_json_write(&b, v, COMPACT);
            st = lb_buf_status(&b, &err);
        }
        lb_mem_fail_at(0);
        bool reached = lb_mem_count() - before >= n;
        CHECK(st == (reached ? LB_E_NOMEM : LB_OK));
        n_failed += reached;
        lb_buf_deinit(&b);
        lb_arena_deinit(&a);
        if (!reached)
            break;
    }
    CHECK(n_failed > 20 && n_failed < 2000);
    lb_buf_deinit(&text);
}

LB_TEST(memory_limit) {
    lb_arena a = {.max_bytes = 64 * LB_KIB};
    lb_err err = {0};
    lb_json *v;
    lb_buf b = {0};
    for (int i = 0; i < 5000; i++)
        lb_buf_put_c(&b, i ? ",0" : "[0");
    lb_buf_put_u8(&b, ']');
    CHECK(lb_json_parse(lb_buf_str(&b), "x", &a, &v, &err) == LB_E_NOMEM && !v);
    CHECK(a.size_bytes <= 64 * LB_KIB);
    lb_buf_deinit(&b);
    lb_arena_deinit(&a);
}

LB_TEST_MAIN("fast")
