/* SPDX-License-Identifier: Apache-2.0 */
/* test_tok_parts.c: the pieces of a tokenizer one by one. Expected values that come from a peer:
 * tokenizers 0.23.3 run on the same input. */
#include "test.h"
#include "text/bytelevel.h"
#include "text/hf_encode.h"
#include "text/hf_write.h"
#include "text/pre.h"
#include "text/pre_tables.h"
#include "text/regex.h"
#include "text/spm.h"

/* ---- patterns ---- */

static lb_status matches(const char *pattern, const char *text, lb_buf *out, lb_err *err) {
    lb_regex *re;
    lb_regex_iter it;
    size_t from, to;
    bool found = true;
    LB_TRY(lb_regex_new(&re, lb_str_c(pattern), false, err));
    lb_status st = lb_regex_begin(&it, re, lb_str_c(text), err);
    while (st == LB_OK && found) {
        st = lb_regex_next(&it, &from, &to, &found, err);
        if (st == LB_OK && found)
            lb_buf_printf(out, "%zu-%zu ", from, to);
    }
    lb_regex_end(&it);
    lb_regex_free(&re);
    return st;
}

LB_TEST(patterns_match_as_in_oniguruma) {
    static const struct {
        const char *pattern, *text, *want;
    } cases[] = {
        {"(?=(\\d{3})+(?!\\d))", "1234567 12", "1-1 4-4 "},
        {"a*", "baac", "0-0 1-3 4-4 "},
        {"\\s+", "a\xc2\xa0\xc2\x85\xe1\xa0\x8e b", "1-5 8-9 "}, /* not U+180E */
        {"[^\\s]+", "a b", "0-1 2-3 "},
        {"\\S+", "a\xe3\x80\x80z", "0-1 4-5 "},
        {"\\h+", "x1fG", "1-3 "},
        {"[\\p{L}&&[^\\p{Han}]]+", "ab\xe4\xb8\x80z", "0-2 5-6 "},
        {" ?[^(\\s|[.,!?])]+", "a, b(c", "0-1 2-4 5-6 "},
        {"(?i:'s|'ll)", "'S'Ll's", "0-2 2-5 5-7 "},
        {"^b$", "a\nb\nc", "2-3 "},
        {"(?m:a.b)", "a\nb", "0-3 "},
        {"a.b", "a\nb", ""},
        {"\\bab\\b", "ab ab_ ab", "0-2 7-9 "},
        {"x?+x", "xx", "0-2 "},
        {"[]a]+", "a]b", "0-2 "},
        {"[[:alpha:]]+", "ab1", "0-2 "},
        {"[^\\S\\n]+", "a \n\tb", "1-2 3-4 "},
        {"[^\\S]+", "a \n\tb", "1-4 "},
        {"[\\S\\n]+", "a \nb", "0-1 2-4 "},
        {"[a\\W]+", "ab--", "0-1 2-4 "},
        {"\\p{Han}+", "\xe4\xb8\x80\xe3\x80\x82", "0-3 "}, /* not U+3002, of several scripts */
        {"[^\\p{Han}]+", "\xe4\xb8\x80\xe3\x80\x82", "3-6 "},
        {"\\P{Han}+", "\xe4\xb8\x80\xe3\x80\x82", "3-6 "},
        {"\\w+", "\xc2\xbd\xe2\x93\x90-", "0-5 "}, /* a half, a letter in a circle */
        {"[\\w]+", "\xc2\xbd\xe2\x93\x90-", "2-5 "},
        {"\\W+", "\xc2\xbd-", "2-3 "},
        {"[[:alpha:]]+",
         "a\xe2\x85\xa7\xe2\x93\x90"
         "1",
         "0-7 "}, /* a numeral, a circle */
        {"[[:alnum:]]+", "a1\xc2\xbd", "0-2 "},
        {"[[:punct:]]+", "a+\xe2\x86\x92.", "1-6 "}, /* symbols too */
        {"\\p{Punct}+", "a+.\xe2\x86\x92", "2-3 "},
        {"[[:^digit:]x]+", "a1x\xd9\xa3", "0-1 2-3 "},
        {"\\P{^Alnum}+|\\p{Uppercase_Letter}", "-a1A", "1-4 "},
        {"\\u0061|[\\u4e00-\\u9fa5]",
         "a\xe4\xb8\x80"
         "b",
         "0-1 1-4 "},
        {"a\\O", "a\n", "0-2 "},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_err err = {0};
        lb_buf out = {0};
        CHECK_OK(matches(cases[i].pattern, cases[i].text, &out, &err));
        CHECK_STR(lb_buf_str(&out), cases[i].want);
        lb_buf_deinit(&out);
    }
}

LB_TEST(patterns_that_cannot_be_run_are_refused) {
    static const char *const bad[] = {
        "a\\",          "[a",  "(",     "[a&&b]",       "[a[^b]]",      "[\\S\\W]",
        "\\p{Nothing}", "\\C", "\\u12", "[\\P{Punct}]", "[[:^punct:]]", "[[:x:]]"};
    for (u32 i = 0; i < LB_LEN(bad); i++) {
        lb_err err = {0};
        lb_regex *re;
        CHECK(lb_regex_new(&re, lb_str_c(bad[i]), false, &err) == LB_E_UNSUPPORTED);
        CHECK(!re && err.msg[0]);
    }
    lb_err err = {0};
    lb_buf out = {0};
    char text[202] = {0};
    memset(text, 'a', 200);
    text[200] = 'c';
    CHECK(matches("(a|aa)+x?$", text, &out, &err) == LB_E_LIMIT);
    lb_buf_deinit(&out);
}

/* ---- bytes ---- */

LB_TEST(every_byte_has_its_character) {
    bool seen[512] = {0};
    lb_buf text = {0}, back = {0};
    u8 all[256];
    for (u32 i = 0; i < 256; i++) {
        u32 c = lb_bytelevel_char((u8)i);
        CHECK(c < 324 && !seen[c] && lb_bytelevel_byte(c) == (int)i);
        seen[c] = true;
        all[i] = (u8)i;
    }
    CHECK_U64(lb_bytelevel_char(' '), 0x120);
    CHECK_U64(lb_bytelevel_char('\n'), 0x10a);
    CHECK_U64(lb_bytelevel_char(0xad), 0x143);
    CHECK(lb_bytelevel_byte(0x144) < 0 && lb_bytelevel_byte(' ') < 0);
    lb_bytelevel_encode(&text, (lb_str){(const char *)all, 256});
    CHECK(lb_bytelevel_decode(&back, lb_buf_str(&text)));
    CHECK(back.len == 256 && memcmp(back.ptr, all, 256) == 0);
    CHECK(!lb_bytelevel_decode(&back, LB_STR("\xe4\xbb\x8a")));
    lb_buf_deinit(&text);
    lb_buf_deinit(&back);
}

/* As Rust's from_utf8_lossy. */
LB_TEST(broken_text_becomes_replacement_characters) {
    static const struct {
        lb_str in;
        const char *want;
    } cases[] = {
        {{"a\xe4\xbb", 3}, "a\xef\xbf\xbd"},
        {{"\xff\xfe", 2}, "\xef\xbf\xbd\xef\xbf\xbd"},
        {{"\xe0\x80z", 3}, "\xef\xbf\xbd\xef\xbf\xbdz"},
        {{"\xf0\x9f\x98", 3}, "\xef\xbf\xbd"},
        {{"\xed\xa0\x80", 3}, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {{"\xf4\x90\x80\x80", 4}, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {{"\xe4\xbb\x8a", 3}, "\xe4\xbb\x8a"},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_buf out = {0};
        lb_utf8_put_lossy(&out, cases[i].in);
        CHECK_STR(lb_buf_str(&out), cases[i].want);
        lb_buf_deinit(&out);
    }
}

/* ---- steps ---- */

static lb_status normal(const char *json, const char *text, lb_buf *out, lb_err *err) {
    lb_arena a = {0};
    lb_json *j;
    lb_norm *n = NULL;
    lb_status st = lb_json_parse(lb_str_c(json), "normalizer", &a, &j, err);
    if (st == LB_OK)
        st = lb_norm_new(&n, j, err);
    if (st == LB_OK)
        st = lb_norm_run(n, lb_str_c(text), out, err);
    lb_norm_free(&n);
    lb_arena_deinit(&a);
    return st;
}

LB_TEST(normalizers) {
    static const struct {
        const char *json, *text, *want;
    } cases[] = {
        {"null", "a", "a"},
        {"{\"type\":\"NFC\"}", "e\xcc\x81\xe1\x84\x80\xe1\x85\xa1", "\xc3\xa9\xea\xb0\x80"},
        {"{\"type\":\"NFD\"}", "\xc3\xa9", "e\xcc\x81"},
        {"{\"type\":\"NFKC\"}", "\xef\xac\x81\xc2\xbd\xe2\x84\xab\xe2\x91\xa0",
         "fi1\xe2\x81\x84"
         "2\xc3\x85"
         "1"},
        {"{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}", "\xe3\x80\x80 a b \n",
         "a b"},
        {"{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":false}", " a ", "a "},
        {"{\"type\":\"StripAccents\"}",
         "e\xcc\x81"
         "a",
         "ea"},
        {"{\"type\":\"StripAccents\"}", "\xe0\xa4\x95\xe0\xa4\xbf\xe2\x83\x9d", "\xe0\xa4\x95"},
        {"{\"type\":\"BertNormalizer\",\"clean_text\":false,\"handle_chinese_chars\":false,"
         "\"strip_accents\":true,\"lowercase\":false}",
         "\xe0\xa4\x95\xe0\xa4\xbf", "\xe0\xa4\x95\xe0\xa4\xbf"},
        {"{\"type\":\"Lowercase\"}", "\xc4\xb0\xc3\x80\xce\xa3", "i\xcc\x87\xc3\xa0\xcf\x83"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\"_\"}", "a \n b",
         "a_b"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"__\"}", " a ",
         "__a__"},
        {"{\"type\":\"Prepend\",\"prepend\":\"_\"}", "", ""},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"_\"},"
         "{\"type\":\"Lowercase\"}]}",
         "A", "_a"},
        {"{\"type\":\"ByteLevel\"}", " \xc3\xa9", "\xc4\xa0\xc3\x83\xc2\xa9"},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_err err = {0};
        lb_buf out = {0};
        CHECK_OK(normal(cases[i].json, cases[i].text, &out, &err));
        CHECK_STR(lb_buf_str(&out), cases[i].want);
        lb_buf_deinit(&out);
    }
    lb_err err = {0};
    lb_buf out = {0};
    CHECK(normal("{\"type\":\"Unheard\"}", "a", &out, &err) == LB_E_UNSUPPORTED);
    lb_buf_deinit(&out);
}

/* Each step makes sixteen of one letter: after eight of them there would be 4 GiB. */
LB_TEST(normalizers_that_explode_are_refused) {
#define TIMES_16 \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"e\"},\"content\":\"eeeeeeeeeeeeeeee\"}"
#define TIMES_64K TIMES_16 "," TIMES_16 "," TIMES_16 "," TIMES_16
    lb_err err = {0};
    lb_buf out = {0};
    CHECK_OK(normal("{\"type\":\"Sequence\",\"normalizers\":[" TIMES_64K "]}", "e", &out, &err));
    CHECK(out.len == 65536);
    CHECK(normal("{\"type\":\"Sequence\",\"normalizers\":[" TIMES_64K "," TIMES_64K "]}", "e", &out,
                 &err) == LB_E_LIMIT);
    CHECK(out.cap < 8 * LB_MIB);
    lb_buf_deinit(&out);
}

static lb_status cut(const char *json, const char *text, lb_buf *out, lb_err *err) {
    lb_arena a = {0};
    lb_json *j;
    lb_pretok *p = NULL;
    lb_pieces pieces = {0};
    lb_status st = lb_json_parse(lb_str_c(json), "pre_tokenizer", &a, &j, err);
    if (st == LB_OK)
        st = lb_pretok_new(&p, j, err);
    if (st == LB_OK)
        st = lb_pieces_push(&pieces, lb_str_c(text), LB_PIECE_TEXT, true, err);
    if (st == LB_OK)
        st = lb_pretok_run(p, &pieces, &a, err);
    for (u64 i = 0; i < pieces.n; i++) {
        lb_buf_put_str(out, pieces.v[i].text);
        lb_buf_put_u8(out, '|');
    }
    lb_pieces_deinit(&pieces);
    lb_pretok_free(&p);
    lb_arena_deinit(&a);
    return st;
}

#define DASH(behavior, invert)                                                    \
    "{\"type\":\"Split\",\"pattern\":{\"String\":\"-\"},\"behavior\":\"" behavior \
    "\",\"invert\":" invert "}"
#define META(scheme, split)                                                      \
    "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"" scheme \
    "\",\"split\":" split "}"

/* Each round puts a character before each piece and cuts all of them apart again. */
LB_TEST(pre_tokenizers_that_explode_are_refused) {
#define APART                                                                                 \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\".\"},\"behavior\":\"Isolated\",\"invert\":" \
    "false}"
#define BEFORE(c) "{\"type\":\"Metaspace\",\"replacement\":\"" c "\"}," APART
#define ROUND BEFORE("-") "," BEFORE("_")
#define ROUNDS_4 ROUND "," ROUND "," ROUND "," ROUND
    lb_err err = {0};
    lb_buf out = {0};
    CHECK_OK(cut("{\"type\":\"Sequence\",\"pretokenizers\":[" ROUNDS_4 "]}", "abc", &out, &err));
    CHECK(out.len > 3 * 8);
    CHECK(cut("{\"type\":\"Sequence\",\"pretokenizers\":[" ROUNDS_4 "," ROUNDS_4 "," ROUNDS_4
              "," ROUNDS_4 "," ROUNDS_4 "," ROUNDS_4 "]}",
              "abc", &out, &err) == LB_E_LIMIT);
    CHECK(cut("{\"type\":\"Metaspace\",\"replacement\":\"__\"}", "abc", &out, &err) == LB_E_FORMAT);
    lb_buf_deinit(&out);
}

LB_TEST(pre_tokenizers) {
    static const struct {
        const char *json, *text, *want;
    } cases[] = {
        {DASH("Removed", "false"), "-a--b-c", "a|b|c|"},
        {DASH("Removed", "true"), "-a--b-c", "-|-|-|-|"},
        {DASH("Isolated", "false"), "-a--b-c", "-|a|-|-|b|-|c|"},
        {DASH("MergedWithPrevious", "false"), "-a--b-c", "-|a-|-|b-|c|"},
        {DASH("MergedWithPrevious", "true"), "-a--b-c", "-a|-|-b|-c|"},
        {DASH("MergedWithNext", "false"), "-a--b-c", "-a|-|-b|-c|"},
        {DASH("MergedWithNext", "true"), "-a--b-c", "-|a-|-|b-|c|"},
        {DASH("Contiguous", "false"), "-a--b-c", "-|a|--|b|-|c|"},
        {META("always", "true"), "a b  c", "_a|_b|_|_c|"},
        {META("always", "false"), "a b  c", "_a_b__c|"},
        {META("first", "true"), " b", "_b|"},
        {META("never", "true"), "a b  c", "a|_b|_|_c|"},
        {"{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}", "a!?b.", "a|!?|b|.|"},
        {"{\"type\":\"Digits\",\"individual_digits\":true}", "a12b\xc2\xbd", "a|1|2|b|\xc2\xbd|"},
        {"{\"type\":\"Digits\",\"individual_digits\":false}", "a12b3", "a|12|b|3|"},
        {"{\"type\":\"FixedLength\",\"length\":2}", "a\xc2\xbd\n1x", "a\xc2\xbd|\n1|x|"},
        /* one of Unicode 9, one that was of Unicode 8 */
        {"{\"type\":\"Punctuation\"}",
         "a\xe2\xb9\x83"
         "b\xe1\x99\xad"
         "c.",
         "a\xe2\xb9\x83"
         "b|\xe1\x99\xad|c|.|"},
        {"{\"type\":\"Whitespace\"}", "ab, c_d!? \xc3\xa9", "ab|,|c_d|!?|\xc3\xa9|"},
        {"{\"type\":\"WhitespaceSplit\"}", " ab  c\n", "ab|c|"},
        {"{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"x\"}", "axbxx", "a|b|"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}", "a b's\n",
         "a|\xc4\xa0"
         "b|'s|\xc4\x8a|"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":false}", "a",
         "\xc4\xa0"
         "a|"},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_err err = {0};
        lb_buf out = {0};
        CHECK_OK(cut(cases[i].json, cases[i].text, &out, &err));
        CHECK_STR(lb_buf_str(&out), cases[i].want);
        lb_buf_deinit(&out);
    }
    lb_err err = {0};
    lb_buf out = {0};
    CHECK(cut("{\"type\":\"UnicodeScripts\"}", "a", &out, &err) == LB_E_UNSUPPORTED);
    CHECK(cut(DASH("Sideways", "false"), "a", &out, &err) == LB_E_FORMAT);
    lb_buf_deinit(&out);
}

/* ---- added tokens ---- */

#define ADDED(id, text, more) "{\"id\":" id ",\"content\":\"" text "\"" more "}"
#define LSTRIP ",\"lstrip\":true,\"normalized\":false"
#define RSTRIP ",\"rstrip\":true,\"normalized\":false"
#define WORD ",\"single_word\":true"
/* clang-format off */
static const char added_json[] =
    "{\"added_tokens\":["
    ADDED("11", "<x>", "") ","
    ADDED("12", "<x>y", "") ","
    ADDED("13", "L", LSTRIP) ","
    ADDED("14", "R", RSTRIP) ","
    ADDED("15", "w", WORD) ","
    ADDED("16", "<x", "") "],"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"e\":4,"
    "\"f\":5,\"g\":6,\"h\":7,\"i\":8,\"j\":9,\" \":10},\"merges\":[]}}";
/* clang-format on */

LB_TEST(added_tokens_are_found_as_in_the_library) {
    static const struct {
        const char *text, *ids;
    } cases[] = {
        {"a<x>yb<x>", "0 12 1 11 "},
        {"a  L  R  b", "0 13 10 10 14 1 "},
        {"w aw w wa", "15 10 0 10 15 10 0 "},
        {"<x<x>", "16 11 "},
        {"  LR  ", "13 14 "},
        {"Lw", "13 15 "},
        {"", ""},
    };
    lb_err err = {0};
    lb_arena a = {0};
    lb_hf_tok t;
    lb_hf_enc e;
    CHECK_OK(lb_hf_tok_parse(&t, lb_str_c(added_json), "added", &a, &err));
    CHECK_OK(lb_hf_enc_init(&e, &t, &err));
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_buf ids = {0}, text = {0};
        CHECK_OK(lb_hf_encode(&e, lb_str_c(cases[i].text), true, &ids, &err));
        for (size_t k = 0; k < ids.len; k += 4)
            lb_buf_printf(&text, "%u ", lb_load_u32(ids.ptr + k));
        CHECK_STR(lb_buf_str(&text), cases[i].ids);
        lb_buf_deinit(&ids);
        lb_buf_deinit(&text);
    }
    lb_hf_enc_deinit(&e);
    lb_hf_tok_deinit(&t);
    lb_arena_deinit(&a);
}

/* The library's numbers, whatever the file says. */
LB_TEST(added_tokens_get_the_librarys_numbers) {
    lb_err err = {0};
    lb_arena a = {0};
    lb_hf_tok t;
    u32 id;
    lb_str json =
        LB_STR("{\"added_tokens\":[{\"id\":7,\"content\":\"b\"},{\"id\":9,\"content\":\"x\"},"
               "{\"id\":3,\"content\":\"y\"},{\"id\":4,\"content\":\"x\"}],"
               "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":5},\"merges\":[]}}");
    CHECK_OK(lb_hf_tok_parse(&t, json, "numbers", &a, &err));
    CHECK_U64(t.n_added, 3);
    CHECK(lb_hf_tok_id(&t, LB_STR("b"), &id) && id == 5);
    CHECK(lb_hf_tok_id(&t, LB_STR("x"), &id) && id == 6);
    CHECK(lb_hf_tok_id(&t, LB_STR("y"), &id) && id == 7);
    CHECK(!lb_hf_tok_id(&t, LB_STR("z"), &id));
    CHECK_U64(lb_hf_tok_n_all(&t), 8);
    CHECK_U64(t.added[1].file_id, 9);
    lb_hf_tok_deinit(&t);
    lb_arena_deinit(&a);
}

/* ---- broken files ---- */

#define MODEL(x) "{\"model\":{\"type\":\"BPE\"," x "}}"

#define ONE_ADDED(members)                                                                         \
    "{\"added_tokens\":[{\"content\":\"x\"," members "}],\"model\":{\"type\":\"BPE\",\"vocab\":{}" \
    "}}"

LB_TEST(broken_files_are_refused) {
    static const struct {
        const char *text;
        lb_status st;
    } cases[] = {
        {"", LB_E_FORMAT},
        {"[]", LB_E_FORMAT},
        {"{}", LB_E_FORMAT},
        {"{\"model\":3}", LB_E_FORMAT},
        {MODEL("\"merges\":[]"), LB_E_FORMAT},
        {MODEL("\"vocab\":[]"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":-1}"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":1.5}"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":\"b\"}"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":0,\"b\":0}"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":0,\"a\":1}"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":4000000000}"), LB_E_LIMIT},
        {MODEL("\"vocab\":{\"a\":18446744073709551615}"), LB_E_LIMIT},
        {MODEL("\"vocab\":{\"a\":0},\"merges\":[\"ab\"]"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":0},\"merges\":[\"a b c\"]"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"b\",\"c\"]]"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":0},\"merges\":[\"a a\",[\"a\",\"a\"]]"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":0},\"merges\":{}"), LB_E_FORMAT},
        {MODEL("\"vocab\":{\"a\":0},\"vocab\":{}"), LB_E_FORMAT},
        {"{\"model\":{\"type\":\"Other\",\"vocab\":{}}}", LB_E_UNSUPPORTED},
        {"{\"added_tokens\":[{\"id\":1}],\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", LB_E_FORMAT},
        {"{\"added_tokens\":{},\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", LB_E_FORMAT},
        {ONE_ADDED("\"id\":-5"), LB_E_FORMAT},
        {ONE_ADDED("\"id\":4294967296"), LB_E_FORMAT},
        {ONE_ADDED("\"id\":\"5\""), LB_E_FORMAT},
        {ONE_ADDED("\"id\":1,\"special\":1"), LB_E_FORMAT},
        {ONE_ADDED("\"id\":1,\"lstrip\":null"), LB_E_FORMAT},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_err err = {0};
        lb_arena a = {0};
        lb_hf_tok t;
        lb_status st = lb_hf_tok_parse(&t, lb_str_c(cases[i].text), "tokenizer.json", &a, &err);
        if (st != cases[i].st)
            lb_test_fail(__FILE__, __LINE__, "%s: %s", cases[i].text, lb_status_text(st));
        CHECK(strncmp(err.msg, "tokenizer.json: ", 16) == 0);
        lb_arena_deinit(&a);
    }
}

LB_TEST(merges_without_their_tokens_are_refused) {
    lb_err err = {0};
    lb_arena a = {0};
    lb_hf_tok t;
    lb_bpe b;
    lb_str json = LB_STR(MODEL("\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]"));
    CHECK_OK(lb_hf_tok_parse(&t, json, "merges", &a, &err));
    CHECK(lb_bpe_init(&b, &t, &err) == LB_E_FORMAT);
    lb_hf_tok_deinit(&t);
    lb_arena_deinit(&a);
}

/* ---- skeletons ---- */

/* Any style of file comes back as it was. */
LB_TEST(skeletons_keep_the_style) {
    static const char *const texts[] = {
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\",\"b "
        "a\",\"a a\"]}}",
        "{\n  \"model\": {\n    \"merges\": [\n      [\n        \"a\",\n        \"b\"\n      ],\n  "
        " "
        "   [\n        \"b\",\n        \"a\"\n      ],\n      [\n        \"a\",\n        \"a\"\n   "
        "  "
        " ]\n    ],\n    \"type\": \"BPE\",\n    \"vocab\": {\n      \"a\": 0,\n      \"b\": 1,\n  "
        "   "
        " \"ab\": 2\n    }\n  }\n}\n",
        "{\"model\": {\"vocab\": { \"a\" : 0 , \"b\" : 1 , \"ab\" : 2 } , \"merges\" : [ ] } }",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"x\":0}}}",
    };
    for (u32 i = 0; i < LB_LEN(texts); i++) {
        lb_err err = {0};
        lb_arena a = {0};
        lb_hf_tok t;
        lb_buf out = {0};
        lb_out to = {.put = lb_out_to_buf, .ctx = &out};
        lb_hf_tok_iter it;
        CHECK_OK(lb_hf_tok_parse(&t, lb_str_c(texts[i]), "style", &a, &err));
        lb_hf_parts p = {
            .skeleton = t.skeleton, .token = &t.token, .merges = lb_hf_tok_merges(&it, &t)};
        CHECK_OK(lb_hf_write(&p, &to, &err));
        CHECK_OK(lb_out_end(&to, &err));
        CHECK_STR(lb_buf_str(&out), texts[i]);
        lb_buf_deinit(&out);
        lb_hf_tok_deinit(&t);
        lb_arena_deinit(&a);
    }
}

/* ---- names ---- */

/* Every name that the hashes give has a form, but for those of other models than BPE. */
LB_TEST(every_name_has_a_form) {
    static const char *const others[] = {"bert-bge", "bert-bge-large", "jina-v2-en"};
    u32 n = 0;
    CHECK(lb_pre_n_hashes > 90);
    for (u32 i = 0; i < lb_pre_n_hashes; i++) {
        bool other = false;
        CHECK(i == 0 || strcmp(lb_pre_hashes[i - 1].sha256, lb_pre_hashes[i].sha256) < 0);
        for (u32 k = 0; k < LB_LEN(others); k++)
            other |= strcmp(others[k], lb_pre_hashes[i].pre) == 0;
        const lb_pre_form *f = lb_pre_form_by_name(lb_str_c(lb_pre_hashes[i].pre));
        if (!f != other)
            lb_test_fail(__FILE__, __LINE__, "%s", lb_pre_hashes[i].pre);
        n += f != NULL;
    }
    CHECK(n > 85);
    CHECK(!lb_pre_form_by_name(LB_STR("")) && !lb_pre_form_by_name(LB_STR("llama")));
}

/* Every form is a pre-tokenizer that lbrx itself can run, and is found by its structure. */
LB_TEST(every_form_is_found_by_its_structure) {
    for (u32 i = 0; i < lb_pre_n_forms; i++) {
        const lb_pre_form *f = &lb_pre_forms[i];
        lb_err err = {0};
        lb_arena a = {0};
        lb_pretok *p;
        lb_json *root;
        lb_json *steps = lb_pre_form_pre_tokenizer(f, &a);
        CHECK(steps);
        CHECK_OK(lb_pretok_new(&p, steps, &err));
        lb_pretok_free(&p);
        CHECK_OK(lb_json_parse(LB_STR("{\"model\":{\"vocab\":{}}}"), "form", &a, &root, &err));
        lb_json *model = lb_json_get(root, "model");
        CHECK(lb_json_set(&a, root, "pre_tokenizer", steps));
        CHECK(lb_json_set(&a, root, "normalizer", lb_pre_form_normalizer(f, &a)));
        CHECK(lb_json_set(&a, model, "ignore_merges",
                          lb_json_new_bool(&a, (f->flags & LB_PRE_IGNORE_MERGES) != 0)));
        lb_hf_tok t = {.rest = root, .model = model};
        const lb_pre_form *found = lb_pre_form_by_structure(&t);
        CHECK(found && found <= f); /* or one with the same steps before it */
        lb_arena_deinit(&a);
    }
}

static bool is_raw(const char *pre_tokenizer) {
    lb_err err = {0};
    lb_arena a = {0};
    lb_json *root;
    lb_str text = lb_arena_printf(
        &a,
        "{\"model\":{\"vocab\":{},\"ignore_merges\":true},\"normalizer\":{\"type\":\"Replace\","
        "\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"},\"pre_tokenizer\":%s}",
        pre_tokenizer);
    if (lb_json_parse(text, "form", &a, &root, &err) != LB_OK)
        return false;
    lb_hf_tok t = {.rest = root, .model = lb_json_get(root, "model")};
    const lb_pre_form *f = lb_pre_form_by_structure(&t);
    bool raw = f && (f->flags & LB_PRE_RAW);
    lb_arena_deinit(&a);
    return raw;
}

/* What transformers makes of a SentencePiece model: nothing is cut, or the user-defined pieces. */
LB_TEST(literal_cuts_leave_the_form) {
    CHECK(is_raw("null"));
    CHECK(is_raw("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                 "{\"Regex\":\"<a>|\\\\[b\\\\]\"},\"behavior\":\"Isolated\",\"invert\":false}]}"));
    CHECK(!is_raw("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[ab]\"},"
                  "\"behavior\":\"Isolated\",\"invert\":false}"));
    CHECK(!is_raw("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s\"},"
                  "\"behavior\":\"Isolated\",\"invert\":false}"));
    CHECK(!is_raw("{\"type\":\"Whitespace\"}"));
}

/* ---- tokenizer.model ---- */

/* Two pieces, byte fallback, no dummy prefix; then every prefix and flipped bit of it. */
LB_TEST(models_are_read_within_bounds) {
    static const u8 model[] = {
        0x0a, 0x0e, 0x0a, 5,    '<',  'u',  'n',  'k',  '>',  0x15, 0, 0,    0,    0, 0x18,
        2,    0x0a, 0x0a, 0x0a, 3,    0xe2, 0x96, 0x81, 0x15, 0,    0, 0x80, 0xbf, /* U+2581, -1 */
        0x12, 0x06, 0x18, 2,    0x98, 2,    1,    0x70, /* field 14, a varint, is cut off */
    };
    static const u8 good[] = {
        0x0a, 0x0e, 0x0a, 5,    '<', 'u',  'n',  'k',  '>',  0x15, 0, 0,    0,    0,    0x18,
        2,    0x0a, 0x0a, 0x0a, 3,   0xe2, 0x96, 0x81, 0x15, 0,    0, 0x80, 0xbf, 0x12, 5,
        0x18, 2,    0x98, 2,    1,   0x1a, 2,    0x18, 0,    0x52, 1, 'x', /* an unknown field */
    };
    lb_err err = {0};
    lb_arena a = {0};
    lb_spm m;
    CHECK(lb_spm_parse(&m, (lb_str){(const char *)model, sizeof model}, "m", &a, &err) ==
          LB_E_FORMAT);
    CHECK_OK(lb_spm_parse(&m, (lb_str){(const char *)good, sizeof good}, "m", &a, &err));
    CHECK_U64(m.n_pieces, 2);
    CHECK_STR(m.pieces[0].text, "<unk>");
    CHECK(m.pieces[0].type == LB_SPM_UNKNOWN && m.pieces[0].score == 0);
    CHECK_STR(m.pieces[1].text, "\xe2\x96\x81");
    CHECK(m.pieces[1].type == LB_SPM_NORMAL && m.pieces[1].score == -1.0f);
    CHECK(m.model == LB_SPM_BPE && m.byte_fallback && !m.add_dummy_prefix);
    for (size_t n = 0; n < sizeof good; n++) {
        lb_status st = lb_spm_parse(&m, (lb_str){(const char *)good, n}, "m", &a, &err);
        bool whole = n == 35 || n == 39; /* between two fields, behind the trainer_spec */
        CHECK(st == (whole ? LB_OK : LB_E_FORMAT));
    }
    for (size_t bit = 0; bit < sizeof good * 8; bit++) {
        u8 flipped[sizeof good];
        memcpy(flipped, good, sizeof good);
        flipped[bit / 8] ^= (u8)(1u << bit % 8);
        lb_status st =
            lb_spm_parse(&m, (lb_str){(const char *)flipped, sizeof good}, "m", &a, &err);
        CHECK(st == LB_OK || st == LB_E_FORMAT);
    }
    lb_arena_deinit(&a);
}

LB_TEST_MAIN("fast")
