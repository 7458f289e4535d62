/* SPDX-License-Identifier: Apache-2.0 */
/* chat_terminal.c: the prompt on a terminal: keys to the editor, its drawing to the screen. */
#include "base/interrupt.h"
#include "base/os.h"
#include "base/tty.h"
#include "cli/chat_ui.h"
#include "cli/edit.h"

#define HISTORY_BYTES_MAX (16 * LB_MIB)
#define HISTORY_BYTES_KEPT LB_MIB /* a longer file is cut at the start */

typedef struct prompt {
    lb_chat_ui *u;
    lb_edit *e;
    lb_buf out;
    u8 keys[4096];
    size_t n_keys, at; /* those that were read and not taken yet: typed while an answer came */
    bool warned;       /* the last thing was a ctrl-C on an empty line */
} prompt;

static void flush(prompt *p) {
    if (p->out.len)
        (void)lb_os_write_all(1, lb_buf_str(&p->out), NULL);
    lb_buf_reset(&p->out);
}

static void draw(prompt *p) {
    lb_edit_draw(p->e, &p->out);
    flush(p);
}

static void measure(prompt *p) {
    u32 rows, columns;
    lb_tty_size(&rows, &columns);
    lb_edit_resize(p->e, rows, columns);
}

static void new_line(prompt *p) {
    lb_edit_begin(p->e);
    measure(p);
    lb_tty_set(LB_TTY_EDIT);
    draw(p);
}

/* ctrl-C. False: leave. */
static bool interrupted(prompt *p) {
    const bool empty = lb_edit_text(p->e).len == 0;
    lb_interrupt_clear();
    lb_edit_leave(p->e, &p->out);
    flush(p);
    if (empty && p->warned)
        return false;
    p->warned = empty;
    if (empty)
        lb_chat_remark(p->u, "[ctrl-C again, or ctrl-D, leaves]");
    new_line(p);
    return true;
}

/* What is no text: false: leave. */
static bool handle(prompt *p, lb_edit_event event) {
    switch (event) {
    case LB_EDIT_INTERRUPT:
        return interrupted(p);
    case LB_EDIT_END:
        lb_edit_leave(p->e, &p->out);
        flush(p);
        return false;
    case LB_EDIT_CLEAR:
        lb_buf_put_c(&p->out, "\x1b[H\x1b[2J");
        lb_edit_forget(p->e);
        draw(p);
        return true;
    case LB_EDIT_STOP:
        lb_edit_leave(p->e, &p->out);
        flush(p);
        lb_tty_stop();
        measure(p);
        draw(p);
        return true;
    default:
        return true;
    }
}

/* A text in *line. *end: none comes any more. */
static lb_status read_text(prompt *p, lb_str *line, bool *end, lb_err *err) {
    *end = false;
    for (;;) {
        while (p->at < p->n_keys) {
            size_t used;
            lb_edit_event event = lb_edit_keys(p->e, p->keys + p->at, p->n_keys - p->at, &used);
            p->at += used;
            LB_TRY(lb_edit_status(p->e, err));
            p->warned &= event == LB_EDIT_INTERRUPT;
            draw(p);
            if (event == LB_EDIT_ENTER) {
                lb_edit_leave(p->e, &p->out);
                flush(p);
                *line = lb_edit_text(p->e);
                return LB_OK;
            }
            if (!handle(p, event)) {
                *end = true;
                return LB_OK;
            }
        }
        p->at = p->n_keys = 0;
        switch (lb_tty_read(p->keys, sizeof p->keys, &p->n_keys)) {
        case LB_TTY_KEYS:
            break;
        case LB_TTY_CHANGED:
            measure(p);
            draw(p);
            break;
        case LB_TTY_INTERRUPTED:
            if (lb_tty_ended()) {
                lb_edit_leave(p->e, &p->out);
                flush(p);
                return lb_interrupt_check(err);
            }
            if (!interrupted(p))
                *end = true;
            break;
        case LB_TTY_GONE:
            *end = true;
            break;
        }
        if (*end)
            return LB_OK;
    }
}

/* ---- texts of other days: a line each, with \n and \\ for what would end it ---- */

static void escape(lb_buf *out, lb_str text) {
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] == '\n')
            lb_buf_put_c(out, "\\n");
        else if (text.ptr[i] == '\\')
            lb_buf_put_c(out, "\\\\");
        else
            lb_buf_put_u8(out, (u8)text.ptr[i]);
    lb_buf_put_c(out, "\n");
}

static void unescape(lb_buf *out, lb_str line) {
    lb_buf_reset(out);
    for (size_t i = 0; i < line.len; i++)
        if (line.ptr[i] == '\\' && i + 1 < line.len)
            lb_buf_put_u8(out, line.ptr[++i] == 'n' ? '\n' : (u8)line.ptr[i]);
        else
            lb_buf_put_u8(out, (u8)line.ptr[i]);
}

static void read_history(prompt *p, lb_err *err) {
    lb_arena a = {0};
    lb_str text;
    lb_buf line = {0};
    const char *path = p->u->history;
    lb_status st = lb_os_exists(path) ? lb_os_read_file(path, HISTORY_BYTES_MAX, &a, &text, err)
                                      : LB_E_NOT_FOUND;
    if (st == LB_OK) {
        size_t at = text.len > HISTORY_BYTES_KEPT ? text.len - HISTORY_BYTES_KEPT : 0, end;
        while (at && at < text.len && text.ptr[at - 1] != '\n')
            at++;
        if (at)
            st = lb_os_replace_file(path, lb_str_sub(text, at, text.len), err);
        for (; at < text.len; at = end + 1) {
            for (end = at; end < text.len && text.ptr[end] != '\n'; end++)
                ;
            unescape(&line, lb_str_sub(text, at, end));
            if (lb_str_is_utf8(lb_buf_str(&line)))
                lb_edit_remember(p->e, lb_buf_str(&line));
        }
    }
    if (st != LB_OK && st != LB_E_NOT_FOUND)
        lb_chat_tell(p->u, st, err);
    lb_buf_deinit(&line);
    lb_arena_deinit(&a);
}

static void remember(prompt *p, lb_str text) {
    lb_buf line = {0};
    lb_err why = {0};
    lb_edit_remember(p->e, text);
    if (!p->u->history || !text.len)
        return;
    escape(&line, text);
    lb_status st = lb_buf_status(&line, &why);
    if (st == LB_OK)
        st = lb_os_append_private(p->u->history, lb_buf_str(&line), &why);
    if (st != LB_OK) { /* once */
        lb_chat_tell(p->u, st, &why);
        p->u->history = NULL;
    }
    lb_buf_deinit(&line);
}

static lb_status converse(prompt *p, lb_err *err) {
    lb_str text;
    bool end = false;
    lb_chat_remark(p->u, "%.*s, a context of %u tokens; /help tells what can be typed\n",
                   LB_FMT(p->u->model), p->u->s->x.n_ctx);
    while (!p->u->leaves) {
        new_line(p);
        LB_TRY(read_text(p, &text, &end, err));
        if (end)
            break;
        remember(p, text);
        lb_tty_set(LB_TTY_BUSY);
        LB_TRY(lb_chat_take(p->u, text, err));
    }
    return LB_OK;
}

lb_status lb_chat_on_terminal(lb_chat_ui *u, lb_err *err) {
    prompt p = {.u = u};
    LB_TRY(lb_edit_new(
        &p.e,
        &(lb_edit_opts){.prompt = "> ", .more = ". ", .bold = u->styled, .words = lb_chat_words},
        err));
    if (u->history)
        read_history(&p, err);
    lb_status st = lb_tty_open(0, 1, err);
    if (st == LB_OK)
        st = converse(&p, err);
    lb_tty_close();
    lb_edit_free(&p.e);
    lb_buf_deinit(&p.out);
    return st;
}
