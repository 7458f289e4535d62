/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c: see answer.h. */
#include "ops/answer.h"
#include "text/bytelevel.h"
#include "text/decode.h"

struct lb_answer {
    lb_answer_opts o;
    lb_decode_stream *stream; /* NULL: pieces of the constraint */
    lb_buf text;
    size_t shown;    /* bytes that were given out */
    size_t searched; /* a text that stops can only begin from here on */
    size_t longest;  /* of those texts */
    bool stopped;
};

lb_status lb_answer_begin(lb_answer **out, const lb_answer_opts *o, lb_err *err) {
    lb_answer *a = *out = lb_alloc_zero(1, sizeof *a);
    if (!a)
        return lb_fail(err, LB_E_NOMEM, "out of memory for an answer");
    a->o = *o;
    for (u32 i = 0; i < o->n_stops; i++)
        a->longest = LB_MAX(a->longest, o->stops[i].len);
    lb_status st = o->constraint ? LB_OK : lb_decode_begin(&a->stream, o->encoder, true, err);
    if (st != LB_OK)
        lb_answer_free(out);
    return st;
}

/* The first place from `from` on where one of the texts stands; false: none. */
static bool find_stop(const lb_answer *a, size_t from, size_t *at) {
    const lb_str rest = lb_str_sub(lb_buf_str(&a->text), from, a->text.len);
    bool found = false;
    for (u32 i = 0; i < a->o.n_stops; i++) {
        size_t pos;
        if (!lb_str_find(rest, a->o.stops[i], &pos) || (found && from + pos >= *at))
            continue;
        *at = from + pos;
        found = true;
    }
    return found;
}

/* Where the text's end may be the begin of one that stops. */
static size_t held_from(const lb_answer *a) {
    const lb_str text = lb_buf_str(&a->text);
    size_t begin = text.len - LB_MIN(text.len, a->longest ? a->longest - 1 : 0);
    for (size_t at = LB_MAX(begin, a->shown); at < text.len; at++)
        for (u32 i = 0; i < a->o.n_stops; i++)
            if (text.len - at < a->o.stops[i].len &&
                lb_str_starts(a->o.stops[i], lb_str_sub(text, at, text.len)))
                return at;
    return text.len;
}

/* The begin of a last character that may still go on, at most `to`. */
static size_t whole_until(const lb_answer *a, size_t to) {
    for (size_t back = 1; back <= LB_MIN(to, (size_t)3); back++) {
        u8 c = a->text.ptr[to - back];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        return back < need ? to - back : to;
    }
    return to;
}

static lb_status show(lb_answer *a, size_t to, lb_err *err) {
    lb_str piece = lb_str_sub(lb_buf_str(&a->text), a->shown, to);
    if (to <= a->shown)
        return LB_OK;
    a->shown = to;
    return a->o.text ? a->o.text(a->o.user, piece, err) : LB_OK;
}

/* After text has come; last: no more will. */
static lb_status go_on(lb_answer *a, bool last, lb_err *err) {
    size_t at = 0;
    LB_TRY(lb_buf_status(&a->text, err));
    if (find_stop(a, a->searched, &at)) {
        a->stopped = true;
        a->text.len = at;
        return show(a, at, err);
    }
    a->searched = a->text.len - LB_MIN(a->text.len, a->longest ? a->longest - 1 : 0);
    if (last)
        return show(a, a->text.len, err);
    size_t to = held_from(a);
    return show(a, a->stream ? to : whole_until(a, to), err);
}

static bool is_shown(const lb_answer *a, u32 id) {
    for (u32 i = 0; i < a->o.n_shown_ids; i++)
        if (a->o.shown_ids[i] == id)
            return true;
    return false;
}

lb_status lb_answer_put(lb_answer *a, u32 id, bool *stopped, lb_err *err) {
    if (a->stream && is_shown(a, id)) {
        LB_TRY(lb_decode_end(a->stream, &a->text, err));
        LB_TRY(lb_encoder_bytes(a->o.encoder, id, &a->text, err));
    } else if (a->stream)
        LB_TRY(lb_decode_put(a->stream, id, &a->text, err));
    else
        lb_buf_put_str(&a->text, lb_constraint_piece(a->o.constraint, id));
    lb_status st = go_on(a, false, err);
    *stopped = a->stopped;
    return st;
}

/* A character that will never be whole becomes U+FFFD, as a decoder has it. */
static lb_status end_pieces(lb_answer *a, lb_err *err) {
    lb_buf rest = {0};
    lb_buf_put_str(&rest, lb_str_sub(lb_buf_str(&a->text), a->shown, a->text.len));
    a->text.len = a->shown;
    lb_utf8_put_lossy(&a->text, lb_buf_str(&rest));
    lb_status st = lb_buf_status(&rest, err);
    lb_buf_deinit(&rest);
    return st;
}

lb_status lb_answer_end(lb_answer *a, bool *stopped, lb_err *err) {
    lb_status st = LB_OK;
    if (!a->stopped) {
        LB_TRY(a->stream ? lb_decode_end(a->stream, &a->text, err) : end_pieces(a, err));
        st = go_on(a, true, err);
    }
    *stopped = a->stopped;
    return st;
}

lb_buf lb_answer_take(lb_answer *a) {
    lb_buf text = a->text;
    a->text = (lb_buf){0};
    return text;
}

void lb_answer_free(lb_answer **a) {
    if (!*a)
        return;
    if ((*a)->stream)
        lb_decode_close(&(*a)->stream);
    lb_buf_deinit(&(*a)->text);
    lb_free(*a);
    *a = NULL;
}
