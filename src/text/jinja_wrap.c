/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_wrap.c: the wordwrap filter (Python's textwrap without tabs and white space changed), and
 * strftime_now. */
#include "base/os.h"
#include "text/bytelevel.h"
#include "text/jinja_builtin.h"
#include "text/jinja_run.h"
#include "text/jinja_text.h"
#include <time.h>
#include <stdio.h>

typedef struct wrapper {
    lb_jx *x;
    lb_jbuf *out;
    lb_str sep;
    i64 width;
    bool long_words, hyphens;
    lb_jlist *chunk; /* words, hyphenated parts and the white space between */
    bool any;        /* a line was written */
} wrapper;

static bool ascii_space(char c) {
    return c == ' ' || (c >= 9 && c <= 13);
}

static u32 char_before(lb_str s, size_t at, size_t *begin) {
    size_t p = at;
    *begin = 0;
    if (!at)
        return 0;
    do
        p--;
    while (p > 0 && ((u8)s.ptr[p] & 0xc0) == 0x80);
    *begin = p;
    return lb_utf8_next(s, &p);
}

static bool is_letter(u32 cp) {
    return lb_jcp_is_word(cp) && !(cp >= '0' && cp <= '9');
}

/* Whether a word may break behind the hyphen at byte i: letters on both sides, two at least. */
static bool hyphen_breaks(lb_str word, size_t i) {
    size_t p, q, next = i + 1;
    u32 before = char_before(word, i, &p);
    u32 more = p ? char_before(word, p, &q) : 0;
    if (!is_letter(before) || !lb_jcp_is_word(more) || next >= word.len)
        return false;
    if (!lb_jcp_is_word(lb_utf8_next(word, &next)))
        return false;
    while (next < word.len) {
        u32 cp = lb_utf8_next(word, &next);
        if (!lb_jcp_is_word(cp))
            return false;
        if (is_letter(cp))
            return true;
    }
    return false;
}

static lb_status push(wrapper *w, lb_str part) {
    lb_jval v;
    if (!part.len)
        return LB_OK;
    LB_TRY(lb_jx_steps(w->x, 1));
    LB_TRY(lb_jv_view(w->x, part, &v));
    return lb_jlist_push(w->x, w->chunk, v);
}

static lb_status push_word(wrapper *w, lb_str word) {
    size_t begin = 0;
    for (size_t i = 0; w->hyphens && i < word.len; i++)
        if (word.ptr[i] == '-' && hyphen_breaks(word, i)) {
            LB_TRY(push(w, lb_str_sub(word, begin, i + 1)));
            begin = i + 1;
        }
    return push(w, lb_str_sub(word, begin, word.len));
}

static lb_status cut(wrapper *w, lb_str line) {
    for (size_t i = 0; i < line.len;) {
        size_t begin = i;
        bool space = ascii_space(line.ptr[i]);
        while (i < line.len && ascii_space(line.ptr[i]) == space)
            i++;
        lb_str part = lb_str_sub(line, begin, i);
        LB_TRY(space ? push(w, part) : push_word(w, part));
    }
    return LB_OK;
}

static bool is_blank(lb_jval v) {
    return lb_jstr_strip(lb_jv_text(v), LB_STR_NONE, true, true).len == 0;
}

/* Chunks [from, to) as a line. */
static void put_line(wrapper *w, u32 from, u32 to) {
    if (w->any)
        lb_jbuf_put(w->out, w->sep);
    w->any = true;
    for (u32 i = from; i < to; i++)
        lb_jbuf_put(w->out, lb_jv_text(w->chunk->item[i]));
}

static lb_status wrap_line(wrapper *w, lb_str line) {
    lb_jval *c;
    u32 i = 0;
    bool first = true;
    w->chunk = lb_jlist_new(w->x, 0);
    if (!w->chunk)
        return LB_E_LIMIT;
    LB_TRY(cut(w, line));
    c = w->chunk->item;
    while (i < w->chunk->n) {
        i64 used = 0;
        if (!first && is_blank(c[i]))
            i++;
        u32 from = i;
        while (i < w->chunk->n && used + (i64)lb_jv_chars(c[i]) <= w->width)
            used += (i64)lb_jv_chars(c[i++]);
        u32 to = i;
        if (i < w->chunk->n && (i64)lb_jv_chars(c[i]) > w->width) {
            i64 room = w->width < 1 ? 1 : w->width - used;
            lb_str s = lb_jv_text(c[i]);
            if (w->long_words && room > 0) { /* what fits of it, the rest stays */
                size_t at = lb_jstr_at(s, (u64)room);
                if (to > from && is_blank(c[to - 1]) && room == 0)
                    to--;
                put_line(w, from, to);
                lb_jbuf_put(w->out, lb_str_sub(s, 0, at));
                LB_TRY(lb_jx_steps(w->x, 1 + s.len / 64));
                LB_TRY(lb_jv_view(w->x, lb_str_sub(s, at, s.len), &c[i]));
                first = false;
                continue;
            }
            if (!w->long_words && to == from)
                to = ++i;
        }
        if (to > from && is_blank(c[to - 1]))
            to--;
        if (to > from)
            put_line(w, from, to);
        first = first && to == from;
        LB_TRY(lb_jx_steps(w->x, 1));
    }
    return LB_OK;
}

lb_status lb_jfilter_wordwrap(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x};
    wrapper w = {.x = x, .out = &b, .sep = LB_STR("\n"), .width = 79};
    lb_str s, line, whole;
    size_t pos = 0;
    lb_status st = LB_OK;
    LB_TRY(lb_jarg_str(x, self, "wordwrap value", &s));
    if (a[0].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_int(x, a[0], &w.width));
    w.long_words = a[1].type == LB_JT_MISSING || lb_jv_true(a[1]);
    if (lb_jarg_given(a[2]))
        LB_TRY(lb_jarg_str(x, a[2], "wrapstring", &w.sep));
    w.hyphens = a[3].type == LB_JT_MISSING || lb_jv_true(a[3]);
    if (w.width <= 0 && s.len)
        return lb_jx_error(x, "invalid width %lld (must be > 0)", (long long)w.width);
    for (bool begin = true; st == LB_OK && lb_jstr_line(s, &pos, &line, &whole); begin = false) {
        if (!begin)
            lb_jbuf_put(&b, w.sep);
        w.any = false;
        st = wrap_line(&w, line);
    }
    if (st == LB_OK)
        return lb_jbuf_end(&b, out);
    lb_jbuf_drop(&b);
    return st;
}

lb_status lb_jstrftime(lb_jx *x, lb_str format, lb_jval *out) {
    lb_jbuf b = {.x = x};
    i64 us = x->now_us == INT64_MIN ? lb_os_local_time_us() : x->now_us;
    i64 rest = us % 1000000;
    time_t seconds = (time_t)(us / 1000000 - (rest < 0));
    struct tm tm;
    rest += rest < 0 ? 1000000 : 0;
    if (!gmtime_r(&seconds, &tm))
        return lb_jx_error(x, "the time is out of range");
    for (size_t i = 0; i < format.len && !b.over; i++) {
        char spec[4] = {'%', '\0', '\0', '\0'}, text[128];
        if (format.ptr[i] != '%' || i + 1 >= format.len) {
            lb_jbuf_put(&b, lb_str_sub(format, i, i + 1));
            continue;
        }
        spec[1] = format.ptr[++i];
        if (strchr("-_0^#EO", spec[1]) && spec[1] && i + 1 < format.len)
            spec[2] = format.ptr[++i];
        char last = spec[2] ? spec[2] : spec[1];
        if (last == 'f') {
            (void)snprintf(text, sizeof text, "%06lld", (long long)rest);
            lb_jbuf_put_c(&b, text);
        } else if (last != 'z' && last != 'Z') { /* of a time without a zone: nothing */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            size_t n = strftime(text, sizeof text, spec, &tm);
#pragma GCC diagnostic pop
            lb_jbuf_put(&b, (lb_str){text, n});
        }
    }
    return lb_jbuf_end(&b, out);
}
