/* SPDX-License-Identifier: Apache-2.0 */
/* json_feed.c: a token that reaches the end of the window is read again with more text behind it;
 * the window only grows where one token is longer than it. */
#include "io/json_feed.h"
#include "base/interrupt.h"

#define WINDOW_BYTES ((size_t)256 << 10)

lb_status lb_json_feed_open(lb_json_feed *f, lb_cur *c, lb_buf *copy, lb_err *err) {
    *f = (lb_json_feed){.c = c, .copy = copy, .copied = c->pos, .owned = c->fd >= 0};
    u64 left = lb_cur_left(c);
    f->at_end = !f->owned;
    f->cap = (size_t)LB_MIN(left, WINDOW_BYTES);
    f->window = f->owned ? lb_alloc(f->cap) : c->window + (c->pos - c->window_off);
    if (!f->window && !f->owned)
        f->window = (u8 *)(uintptr_t) ""; /* never written */
    if (!f->window)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory while reading it", c->path);
    lb_json_begin(&f->r, (lb_str){(const char *)f->window, f->owned ? 0 : (size_t)left});
    f->r.off_base = c->pos;
    return LB_OK;
}

void lb_json_feed_close(lb_json_feed *f) {
    if (f->owned)
        lb_free(f->window);
    *f = (lb_json_feed){0};
}

/* Copies what lies before pos of the window and was not yet. */
static void copy_to(lb_json_feed *f, size_t pos) {
    u64 end = f->r.off_base + pos;
    if (f->copy && end > f->copied)
        lb_buf_put(f->copy, f->window + (f->copied - f->r.off_base), (size_t)(end - f->copied));
    f->copied = end;
}

static u64 count_lines(const u8 *p, size_t n) {
    u64 lines = 0;
    for (const u8 *end = p + n; (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++)
        lines++;
    return lines;
}

/* More text behind what the window has from r.pos on. */
static lb_status refill(lb_json_feed *f, lb_err *err) {
    lb_json_reader *r = &f->r;
    LB_TRY(lb_interrupt_check(err));
    if (!f->cutting)
        copy_to(f, r->pos);
    size_t gone = f->copied < r->off_base + r->pos ? (size_t)(f->copied - r->off_base) : r->pos;
    if (gone == 0 && r->len == f->cap) {
        u8 *wider = lb_realloc(f->window, f->cap * 2);
        if (!wider)
            return lb_fail(err, LB_E_NOMEM, "%s: out of memory while reading it", f->c->path);
        f->window = wider;
        f->cap *= 2;
    }
    if (gone) {
        r->line_base += count_lines(f->window, gone);
        memmove(f->window, f->window + gone, r->len - gone);
        r->off_base += gone;
        r->pos -= gone;
        r->len -= gone;
    }
    u64 n = LB_MIN((u64)(f->cap - r->len), lb_cur_left(f->c));
    LB_TRY(lb_cur_bytes(f->c, f->window + r->len, n, "JSON", err));
    r->len += (size_t)n;
    r->ptr = (const char *)f->window;
    f->at_end = lb_cur_left(f->c) == 0;
    return LB_OK;
}

lb_status lb_json_feed_next(lb_json_feed *f, lb_json_tok *tok, lb_err *err) {
    for (;;) {
        lb_json_reader before = f->r;
        lb_status st = lb_json_next(&f->r, tok, f->at_end ? err : NULL);
        if (f->at_end) {
            if (st == LB_OK && *tok == LB_JSON_END)
                copy_to(f, f->r.len);
            return st;
        }
        if (st == LB_OK && f->r.pos < f->r.len)
            return LB_OK;
        bool failed = st != LB_OK && !f->r.starved;
        f->r = before;
        if (failed) /* once more, for the message */
            return lb_json_next(&f->r, tok, err);
        LB_TRY(refill(f, err));
    }
}

lb_status lb_json_feed_finish(lb_json_feed *f, lb_json_tok tok, lb_err *err) {
    if (tok != LB_JSON_OBJECT && tok != LB_JSON_ARRAY)
        return LB_OK;
    u32 depth = f->r.depth;
    while (f->r.depth >= depth)
        LB_TRY(lb_json_feed_next(f, &tok, err));
    return LB_OK;
}

void lb_json_feed_cut(lb_json_feed *f) {
    if (!f->cutting)
        copy_to(f, f->r.pos);
    f->cutting = true;
    f->copied = f->r.off_base + f->r.pos;
}

void lb_json_feed_cut_end(lb_json_feed *f) {
    f->cutting = false;
}
