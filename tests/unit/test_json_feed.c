/* SPDX-License-Identifier: Apache-2.0 */
/* test_json_feed.c: a file read through a window gives the tokens that its text gives in memory,
 * and the copy leaves out what was cut. */
#include "base/os.h"
#include "io/json_feed.h"
#include "test.h"

static const char *write_file(const lb_buf *text, lb_arena *a) {
    lb_err err = {0};
    int fd = -1;
    const char *path = lb_os_join(a, lb_test_dir(), LB_STR("feed.json"));
    bool ok = lb_os_open_write(path, false, &fd, &err) == LB_OK &&
              lb_os_truncate(fd, path, 0, &err) == LB_OK &&
              lb_os_pwrite(fd, path, text->ptr, text->len, 0, &err) == LB_OK;
    lb_os_close(&fd);
    return ok ? path : NULL;
}

/* Numbers, escapes and multi-byte characters at every place of a window's end; one string is longer
 * than a window. */
static void make_text(lb_buf *b) {
    lb_buf_put_c(b, "{\"list\": [");
    for (u32 i = 0; i < 40000; i++)
        lb_buf_printf(b, "%s%u, \"\xe4\xbb\x8a%u\\n\", -%u.5e1, true", i ? ",\n " : "", i, i, i);
    lb_buf_put_c(b, "], \"long\": \"");
    for (u32 i = 0; i < 400000; i++)
        lb_buf_put_u8(b, (u8)('a' + i % 26));
    lb_buf_put_c(b, "\"}\n");
}

LB_TEST(tokens_are_those_of_the_text) {
    lb_arena a = {0};
    lb_err err = {0};
    lb_buf text = {0}, copy = {0};
    lb_cur c;
    lb_json_feed f;
    lb_json_reader r;
    lb_json_tok x = LB_JSON_NULL, y = LB_JSON_NULL;
    u64 n = 0, differ = 0;
    make_text(&text);
    const char *path = write_file(&text, &a);
    CHECK(path);
    CHECK_OK(lb_cur_open(&c, path, &err));
    CHECK_OK(lb_json_feed_open(&f, &c, &copy, &err));
    lb_json_begin(&r, lb_buf_str(&text));
    do {
        CHECK_OK(lb_json_next(&r, &x, &err));
        CHECK_OK(lb_json_feed_next(&f, &y, &err));
        bool raw = x == LB_JSON_KEY || x == LB_JSON_STRING || x == LB_JSON_NUMBER;
        differ += x != y || r.pos != lb_json_feed_pos(&f) || (raw && !lb_str_eq(r.raw, f.r.raw));
        n++;
    } while (x != LB_JSON_END && y != LB_JSON_END);
    CHECK_U64(differ, 0);
    CHECK_U64(n, 160000 + 8);
    CHECK(lb_str_eq(lb_buf_str(&copy), lb_buf_str(&text)));
    CHECK(f.cap < LB_MIB);
    lb_json_feed_close(&f);
    lb_cur_close(&c);
    lb_buf_deinit(&copy);
    lb_buf_deinit(&text);
    lb_arena_deinit(&a);
}

LB_TEST(what_is_cut_is_not_copied) {
    lb_arena a = {0};
    lb_err err = {0};
    lb_buf text = {0}, copy = {0};
    lb_cur c;
    lb_json_feed f;
    lb_json_tok tok;
    make_text(&text);
    const char *path = write_file(&text, &a);
    CHECK(path);
    CHECK_OK(lb_cur_open(&c, path, &err));
    CHECK_OK(lb_json_feed_open(&f, &c, &copy, &err));
    for (u32 i = 0; i < 3; i++)
        CHECK_OK(lb_json_feed_next(&f, &tok, &err)); /* { "list" [ */
    for (u32 i = 0;; i++) {
        CHECK_OK(lb_json_feed_next(&f, &tok, &err));
        if (tok == LB_JSON_ARRAY_END)
            break;
        if (i >= 3)
            lb_json_feed_cut(&f);
    }
    lb_json_feed_cut_end(&f);
    while (tok != LB_JSON_END)
        CHECK_OK(lb_json_feed_next(&f, &tok, &err));
    lb_str head = LB_STR("{\"list\": [0, \"\xe4\xbb\x8a"
                         "0\\n\", -0.5e1, true], \"long\": \"abc");
    CHECK(lb_str_eq(lb_str_sub(lb_buf_str(&copy), 0, head.len), head));
    CHECK_U64(copy.len, head.len - 3 + 400000 + 3);
    lb_json_feed_close(&f);
    lb_cur_close(&c);
    lb_buf_deinit(&copy);
    lb_buf_deinit(&text);
    lb_arena_deinit(&a);
}

/* Offsets and lines count from the start of the file. */
LB_TEST(errors_name_the_place_in_the_file) {
    lb_arena a = {0};
    lb_err err = {0};
    lb_buf text = {0};
    lb_cur c;
    lb_json_feed f;
    lb_json_tok tok;
    lb_status st = LB_OK;
    lb_buf_put_c(&text, "[");
    for (u32 i = 0; i < 200000; i++)
        lb_buf_put_c(&text, "1,\n");
    lb_buf_put_c(&text, "x]");
    const char *path = write_file(&text, &a);
    CHECK(path);
    CHECK_OK(lb_cur_open(&c, path, &err));
    CHECK_OK(lb_json_feed_open(&f, &c, NULL, &err));
    while (st == LB_OK)
        st = lb_json_feed_next(&f, &tok, &err);
    CHECK(st == LB_E_FORMAT);
    CHECK_U64(err.off, text.len - 2);
    CHECK(strstr(err.msg, "line 200001"));
    lb_json_feed_close(&f);
    lb_cur_close(&c);
    lb_buf_deinit(&text);
    lb_arena_deinit(&a);
}

LB_TEST_MAIN("fast")
