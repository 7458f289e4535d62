/* SPDX-License-Identifier: Apache-2.0 */
/* chat_ui.c: what comes out of a conversation, and its lines through pipes. */
#include "cli/chat_ui.h"
#include "base/interrupt.h"
#include "base/os.h"
#include "base/tty.h"
#include <stdio.h>

static lb_status put(lb_str s, lb_err *err) {
    return lb_os_write_all(1, s, err);
}

static u32 columns(const lb_chat_ui *u) {
    return u->terminal ? lb_os_terminal_columns(1) : 0;
}

/* To the terminal, or stderr. A model or a file must not steer a terminal: wrap.h lets no controls
 * through. */
static void put_remark(lb_chat_ui *u, const char *before, lb_str text, u32 indent, bool dim) {
    lb_buf out = {0};
    lb_buf_put_c(&out, dim ? "\x1b[2m" : "");
    lb_wrap_begin(&u->wrap, columns(u), indent);
    lb_wrap_put(&u->wrap, lb_str_c(before), &out);
    lb_wrap_put(&u->wrap, text, &out);
    lb_buf_put_c(&out, dim ? "\x1b[0m\n" : "\n");
    if (!out.oom)
        (void)lb_os_write_all(u->terminal ? 1 : 2, lb_buf_str(&out), NULL);
    lb_buf_deinit(&out);
}

void lb_chat_remark_text(lb_chat_ui *u, lb_str text, u32 indent) {
    if (!u->quiet)
        put_remark(u, "", text, indent, u->styled);
}

void lb_chat_remark(lb_chat_ui *u, const char *fmt, ...) {
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    lb_chat_remark_text(u, lb_str_c(text), 0);
}

void lb_chat_tell(lb_chat_ui *u, lb_status st, const lb_err *err) {
    lb_buf line = {0};
    if (u->failed == LB_OK)
        u->failed = st;
    if (!u->json) {
        put_remark(u, "lbrx: ", lb_str_c(err->msg), 0, false);
        return;
    }
    lb_buf_put_c(&line, "{\"error\":");
    lb_json_write_str(&line, lb_str_c(err->msg), true);
    lb_buf_put_c(&line, "}\n");
    if (!line.oom)
        (void)put(lb_buf_str(&line), NULL);
    lb_buf_deinit(&line);
}

/* ---- answers ---- */

static lb_status show(void *user, bool thinking, lb_str piece, lb_err *err) {
    lb_chat_ui *u = user;
    lb_buf out = {0};
    lb_status st = LB_OK;
    if (u->json || (thinking && !u->terminal))
        return LB_OK;
    if (u->terminal && thinking != u->dim && u->any)
        lb_wrap_put(&u->wrap, u->complete ? LB_STR("\n") : LB_STR("\n\n"), &out);
    if (u->styled && thinking != u->dim)
        lb_buf_put_c(&out, thinking ? "\x1b[2m" : "\x1b[0m");
    u->dim = thinking;
    if (u->terminal)
        lb_wrap_put(&u->wrap, piece, &out);
    else
        lb_buf_put_str(&out, piece);
    if (piece.len) {
        u->any = true;
        u->complete = piece.ptr[piece.len - 1] == '\n';
    }
    st = lb_buf_status(&out, err);
    if (st == LB_OK)
        st = put(lb_buf_str(&out), err);
    lb_buf_deinit(&out);
    return st;
}

static double rate(u64 n, u64 us) {
    return us ? (double)n * 1e6 / (double)us : 0;
}

void lb_chat_put_timings(lb_chat_ui *u) {
    const lb_turn *t = &u->s->last;
    lb_chat_remark(u, "[%u tokens read at %.1f a second, %u known before, %u written at %.1f]",
                   t->n_read, rate(t->n_read, t->read_us), t->n_kept, t->n_written,
                   rate(t->n_written, t->write_us));
}

static void put_json(lb_buf *out, const lb_session *s) {
    const lb_turn *t = &s->last;
    lb_buf_put_c(out, "{\"role\":\"assistant\",");
    if (s->thought.any) {
        lb_buf_put_c(out, "\"reasoning_content\":");
        lb_json_write_str(out, lb_buf_str(&s->thought.thought), false);
        lb_buf_put_c(out, ",");
    }
    lb_buf_put_c(out, "\"content\":");
    lb_json_write_str(out, lb_buf_str(&s->thought.said), false);
    lb_buf_printf(out,
                  ",\"finish_reason\":\"%s\",\"timings\":{\"prompt_tokens\":%u,\"kept_tokens\":%u,"
                  "\"prompt_seconds\":%.6f,\"tokens\":%u,\"seconds\":%.6f}}\n",
                  t->stopped ? "stop" : "length", t->n_read, t->n_kept, (double)t->read_us / 1e6,
                  t->n_written, (double)t->write_us / 1e6);
}

/* Behind an answer: the line's end, what is to be said about it. */
static lb_status end_answer(lb_chat_ui *u, lb_status st, lb_err *err) {
    const lb_turn *t = &u->s->last;
    lb_buf line = {0};
    lb_err why = {0};
    if (u->dim && u->styled)
        (void)put(LB_STR("\x1b[0m"), NULL);
    u->dim = false;
    if (u->json && st == LB_OK)
        put_json(&line, u->s);
    else if (!u->json && (st == LB_OK || u->any))
        lb_buf_put_c(&line, u->terminal && u->complete ? "" : "\n");
    lb_status put_st = lb_buf_status(&line, &why);
    if (put_st == LB_OK)
        put_st = put(lb_buf_str(&line), &why);
    lb_buf_deinit(&line);
    if (put_st != LB_OK) {
        *err = why;
        return put_st;
    }
    if (st == LB_OK && t->interrupted && u->terminal)
        lb_chat_remark(u, "[stopped]");
    else if (st == LB_OK && !t->stopped && !t->interrupted)
        lb_chat_remark(u,
                       u->s->n_max && t->n_written >= u->s->n_max
                           ? "[cut off after %u tokens: -n]"
                           : "[cut off after %u tokens: the context is full: /undo, /clear, or "
                             "a larger --ctx]",
                       t->n_written);
    if (st == LB_OK && t->left_out)
        lb_chat_remark(u, "[the context is full: the first %llu messages are not read any more]",
                       (unsigned long long)u->s->n_left_out);
    if (st == LB_OK && u->timings)
        lb_chat_put_timings(u);
    if (st == LB_OK && u->terminal)
        (void)put(LB_STR("\n"), NULL);
    return st;
}

/* Whether a signal asks to leave, beyond the answer. */
static bool must_leave(const lb_chat_ui *u) {
    return lb_interrupted() && (!u->terminal || lb_tty_ended());
}

lb_status lb_chat_answer(lb_chat_ui *u, const lb_str *text, lb_err *err) {
    u->s->show = show;
    u->s->user = u;
    u->dim = u->any = false;
    u->complete = true;
    lb_wrap_begin(&u->wrap, columns(u), 0);
    if (u->terminal)
        lb_tty_set(LB_TTY_BUSY);
    lb_status st = text ? lb_session_say(u->s, *text, err) : lb_session_again(u->s, err);
    st = end_answer(u, st, err);
    if (must_leave(u)) {
        *err = (lb_err){0};
        return lb_interrupt_check(err);
    }
    if (u->terminal)
        lb_interrupt_clear();
    if (st == LB_E_INTERRUPTED) { /* before there was an answer */
        lb_chat_remark(u, "[stopped: the message is forgotten]");
        return LB_OK;
    }
    if (st == LB_OK || st == LB_E_IO) /* nothing can be told where stdout is gone */
        return st;
    lb_chat_tell(u, st, err);
    return LB_OK;
}

/* ---- lines through pipes ---- */

/* A line and those that follow a backslash at its end. */
static lb_status read_message(lb_buf *line, lb_buf *piece, bool *end, lb_err *err) {
    lb_buf_reset(line);
    for (;;) {
        LB_TRY(lb_read_line(piece, end, err));
        const bool more = piece->len && piece->ptr[piece->len - 1] == '\\';
        lb_buf_put(line, piece->ptr, piece->len - more);
        if (*end && line->len)
            *end = false;
        else if (!*end && more)
            lb_buf_put_c(line, "\n");
        if (!more || *end)
            return lb_buf_status(line, err);
    }
}

static lb_status through_pipes(lb_chat_ui *u, lb_err *err) {
    lb_buf line = {0}, piece = {0};
    bool end = false;
    lb_status st = LB_OK;
    while (st == LB_OK && !u->leaves) {
        st = read_message(&line, &piece, &end, err);
        if (lb_interrupted()) {
            st = lb_interrupt_check(err);
            break;
        }
        if (st != LB_OK || end)
            break;
        st = lb_chat_take(u, lb_buf_str(&line), err);
    }
    lb_buf_deinit(&line);
    lb_buf_deinit(&piece);
    return st;
}

lb_status lb_chat_run(lb_chat_ui *u, lb_err *err) {
    lb_status st = u->terminal ? lb_chat_on_terminal(u, err) : through_pipes(u, err);
    lb_wrap_deinit(&u->wrap);
    if (st != LB_OK)
        return st;
    *err = (lb_err){0};
    return u->terminal ? LB_OK : u->failed;
}
