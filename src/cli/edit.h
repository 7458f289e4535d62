/* SPDX-License-Identifier: Apache-2.0 */
/* edit.h: a text that is edited on a terminal: keys in, escape sequences out. It does no I/O: tty.h
 * brings the keys, and what is drawn goes to a buffer.
 *
 * The text may have several lines (a backslash before Enter, alt-Enter, a paste) and wraps at the
 * edge; where it is higher than the screen, the part around the cursor is shown. Moves and
 * deletions are by grapheme clusters, widths are utf8proc's. Keys are those of Emacs and readline:
 * ctrl-A E B F P N D H K U W Y L T, alt-B F D and backspace, arrows (with ctrl: words), Home, End,
 * Delete, Tab for words at the begin. */
#ifndef LB_CLI_EDIT_H
#define LB_CLI_EDIT_H

#include "base/base.h"
#include "base/mem.h"

#define LB_EDIT_TEXT_MAX LB_MIB /* bytes; what is beyond is not taken */
#define LB_EDIT_HISTORY_MAX 1000

typedef struct lb_edit lb_edit;

typedef enum lb_edit_event {
    LB_EDIT_MORE,      /* all keys were taken */
    LB_EDIT_ENTER,     /* the text is done */
    LB_EDIT_END,       /* ctrl-D, with no text */
    LB_EDIT_INTERRUPT, /* ctrl-C; the text is as it was */
    LB_EDIT_STOP,      /* ctrl-Z */
    LB_EDIT_CLEAR      /* ctrl-L */
} lb_edit_event;

typedef struct lb_edit_opts {
    const char *prompt, *more; /* before the first line, and the others */
    bool bold;                 /* these two */
    const char *const *words;  /* that Tab completes; NULL at the end */
} lb_edit_opts;

lb_status lb_edit_new(lb_edit **out, const lb_edit_opts *o, lb_err *err); /* o's are kept */
void lb_edit_free(lb_edit **e);
/* A new text, not drawn yet. */
void lb_edit_begin(lb_edit *e);
/* Of the screen; for the first draw, or after it has changed: the terminal may have wrapped what
 * stood there anew. */
void lb_edit_resize(lb_edit *e, u32 rows, u32 columns);
/* What stood there is gone (after a stop, a cleared screen): the cursor is in the first column. */
void lb_edit_forget(lb_edit *e);

/* Takes keys up to an event; *used: bytes. */
lb_edit_event lb_edit_keys(lb_edit *e, const u8 *keys, size_t n, size_t *used);
lb_str lb_edit_text(const lb_edit *e); /* valid until the next call */
/* Puts this text there instead. */
void lb_edit_set(lb_edit *e, lb_str text);
/* LB_E_NOMEM: something of the text was lost. */
lb_status lb_edit_status(const lb_edit *e, lb_err *err);

/* Appends what brings the screen up to date; nothing while a paste goes on. */
void lb_edit_draw(lb_edit *e, lb_buf *out);
/* Appends what puts the cursor below the text. */
void lb_edit_leave(lb_edit *e, lb_buf *out);

/* A text that the arrows bring back; not twice in a row. */
void lb_edit_remember(lb_edit *e, lb_str text);

#endif
