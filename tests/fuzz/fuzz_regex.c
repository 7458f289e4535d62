/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_regex.c: a tokenizer's regular expression, a NUL, and a text for it.
 *
 * Checked: no crash, no endless loop; matches are in order, inside the text and at the edges of
 * its characters; plain text is found as it stands. */
#include "text/regex.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static bool is_edge(lb_str text, size_t at) {
    return at == text.len || ((u8)text.ptr[at] & 0xc0) != 0x80;
}

static void match(const lb_regex *re, lb_str text, lb_str plain) {
    lb_regex_iter it;
    lb_err err = {0};
    size_t last = 0, n = 0, from, to;
    bool found = false;
    if (lb_regex_begin(&it, re, text, &err) != LB_OK)
        return;
    while (lb_regex_next(&it, &from, &to, &found, &err) == LB_OK && found) {
        LB_ASSERT(from >= last && to >= from && to <= text.len && n++ <= text.len);
        LB_ASSERT(is_edge(text, from) && is_edge(text, to));
        LB_ASSERT(!plain.ptr || lb_str_eq(lb_str_sub(text, from, to), plain));
        last = to;
    }
    lb_regex_end(&it);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    const u8 *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    lb_str pattern = {(const char *)data, n};
    lb_str text = {(const char *)data + n + 1, nul ? size - n - 1 : 0};
    lb_err err = {0};
    if (!nul || !lb_str_is_utf8(text))
        text = LB_STR("We've 12 <|x|>\n\n caf\xc3\xa9");
    for (int literal = 0; literal < 2; literal++) {
        lb_regex *re = NULL;
        if (lb_regex_new(&re, pattern, literal != 0, &err) == LB_OK)
            match(re, text, literal ? pattern : LB_STR_NONE);
        else
            LB_ASSERT(err.msg[0]);
        lb_regex_free(&re);
    }
    return 0;
}
