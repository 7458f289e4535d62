/* SPDX-License-Identifier: Apache-2.0 */
/* chat_ui.h: a conversation on a terminal, or line by line through pipes. */
#ifndef LB_CLI_CHAT_UI_H
#define LB_CLI_CHAT_UI_H

#include "cli/session.h"
#include "cli/wrap.h"

typedef struct lb_chat_ui {
    lb_session *s;
    bool json;           /* a line of JSON for each answer; not on a terminal */
    bool terminal;       /* lines are edited */
    bool styled;         /* bold and dim */
    bool timings;        /* after each answer */
    bool quiet;          /* no remarks */
    const char *history; /* a file; NULL: none is kept */
    lb_str model;        /* its name */
    /* While it runs. */
    bool leaves;      /* /exit */
    bool dim;         /* what is being written */
    bool any;         /* of this answer */
    bool complete;    /* the last byte that was written ended a line */
    lb_wrap wrap;     /* of the terminal */
    lb_status failed; /* the first failure that was told */
} lb_chat_ui;

/* Until the end of input, or /exit. LB_E_INTERRUPTED: a signal; other failures are told and the
 * conversation goes on: the first one is returned at the end, with no message. */
lb_status lb_chat_run(lb_chat_ui *u, lb_err *err);

/* ---- for its files ---- */

/* About what is done, on the terminal or stderr: one line, or several. */
void lb_chat_remark(lb_chat_ui *u, const char *fmt, ...) LB_PRINTF(2, 3);
void lb_chat_remark_text(lb_chat_ui *u, lb_str text, u32 indent); /* of what is broken */
/* A failure that leaves the conversation as it was. */
void lb_chat_tell(lb_chat_ui *u, lb_status st, const lb_err *err);
/* A message, or a command. Only what ends the program is returned. */
lb_status lb_chat_take(lb_chat_ui *u, lb_str line, lb_err *err);
/* An answer to the text; NULL: another one to the last. What fails is told; LB_E_INTERRUPTED: a
 * signal to leave; LB_E_IO: stdout is gone. */
lb_status lb_chat_answer(lb_chat_ui *u, const lb_str *text, lb_err *err);
void lb_chat_put_timings(lb_chat_ui *u);
/* The names of commands, NULL at the end. */
extern const char *const lb_chat_words[];
lb_status lb_chat_on_terminal(lb_chat_ui *u, lb_err *err);

#endif
