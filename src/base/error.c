/* SPDX-License-Identifier: Apache-2.0 */
/* error.c: the status table, error messages, and the end of the program for our own bugs. */
#include "base/base.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct status_row {
    const char *text;
    int exit;
} status_row;

static const status_row rows[] = {
#define LB_ERR(code, text, exit) {text, exit},
#include "base/err.def"
#undef LB_ERR
};

void lb_assert_fail(const char *cond, const char *file, int line) {
    fprintf(stderr, "lbrx: bug: %s:%d: %s\n", file, line, cond);
    abort();
}

const char *lb_status_text(lb_status s) {
    return (size_t)s < LB_LEN(rows) ? rows[s].text : "unknown status";
}

int lb_status_exit(lb_status s) {
    return (size_t)s < LB_LEN(rows) ? rows[s].exit : 1;
}

/* Names in messages come from files: control characters (C0, DEL, and C1 in UTF-8) would reach the
 * user's terminal. */
static void clean_msg(char *msg) {
    for (u8 *p = (u8 *)msg; *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            *p = *p == '\n' || *p == '\t' ? ' ' : '?';
        else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
            p[0] = p[1] = '?';
    }
}

/* Formats into msg; a text that does not fit ends in "..." so that nobody takes it for the
 * whole. */
static void format_msg(char *msg, const char *fmt, va_list ap) {
    int n = vsnprintf(msg, LB_ERR_MSG_MAX, fmt, ap);
    if (n < 0)
        snprintf(msg, LB_ERR_MSG_MAX, "%s", fmt);
    else if (n >= LB_ERR_MSG_MAX)
        memcpy(msg + LB_ERR_MSG_MAX - 4, "...", 4);
    clean_msg(msg);
}

lb_status lb_fail(lb_err *err, lb_status code, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        format_msg(err->msg, fmt, ap);
        va_end(ap);
        err->code = code;
        err->off = 0;
    }
    return code;
}

lb_status lb_fail_at(lb_err *err, lb_status code, u64 off, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        format_msg(err->msg, fmt, ap);
        va_end(ap);
        err->code = code;
        err->off = off;
    }
    return code;
}

void lb_err_context(lb_err *err, const char *fmt, ...) {
    char text[LB_ERR_MSG_MAX], prefix[LB_ERR_MSG_MAX];
    if (!err || err->code == LB_OK)
        return;
    va_list ap;
    va_start(ap, fmt);
    format_msg(prefix, fmt, ap);
    va_end(ap);
    memcpy(text, err->msg, sizeof text);
    text[sizeof text - 1] = 0;
    /* The old message says what is wrong: the prefix gives way to it, but keeps a quarter. */
    size_t room = LB_ERR_MSG_MAX - 3 - LB_MIN(strlen(text), LB_ERR_MSG_MAX * 3 / 4);
    int n = snprintf(err->msg, LB_ERR_MSG_MAX, "%.*s: %s", (int)room, prefix, text);
    if (n >= LB_ERR_MSG_MAX)
        memcpy(err->msg + LB_ERR_MSG_MAX - 4, "...", 4);
}

void lb_err_note(lb_err *err, const char *text) {
    if (!err || err->code == LB_OK)
        return;
    size_t at = strlen(err->msg), n = strlen(text);
    if (n >= sizeof err->msg - at)
        return; /* better the whole message than half a note */
    memcpy(err->msg + at, text, n + 1);
}
