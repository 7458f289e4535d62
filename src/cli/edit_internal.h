/* SPDX-License-Identifier: Apache-2.0 */
/* edit_internal.h: the state of a line editor, for the files that make it up. */
#ifndef LB_CLI_EDIT_INTERNAL_H
#define LB_CLI_EDIT_INTERNAL_H

#include "cli/edit.h"

#define LB_EDIT_TAB 4 /* columns */

/* A row of the screen: bytes [from, to) of the text. */
typedef struct lb_edit_row {
    size_t from, to;
    u32 width;  /* with the prompt */
    bool first; /* of a line: a prompt stands before it */
} lb_edit_row;

struct lb_edit {
    lb_edit_opts o;
    lb_buf text, cut, held; /* the text; what was cut last; the new text while old ones are shown */
    size_t at;              /* the cursor: a byte of the text */
    u32 column;             /* that moves up and down come from; UINT32_MAX: the cursor's */
    lb_buf *old;            /* a ring of n_old texts, the first at old_at */
    u32 n_old, old_at, shown; /* shown: how many back from the newest; 0: the text itself */
    /* Keys. */
    u8 part[4]; /* of a character */
    u32 n_part, n_want;
    char code[16]; /* of an escape sequence, behind its begin */
    u32 n_code;
    u8 state;
    bool paste, was_cr, bell, oom;
    /* The screen. */
    u32 rows, columns;
    u32 drawn_at;  /* row of the cursor, from the first row that is drawn */
    lb_buf widths; /* u32 each: of the rows that are drawn */
    lb_buf layout; /* lb_edit_row each */
};

/* ---- edit_draw.c ---- */

/* The cluster at `at`: where it ends, and its columns (a line break: 0). */
size_t lb_edit_cluster(lb_str text, size_t at, u32 *width);
size_t lb_edit_before(lb_str text, size_t at); /* where the cluster before begins */
/* Makes e->layout; the cursor's row, and its column. */
void lb_edit_lay_out(lb_edit *e, u32 *row, u32 *column);
/* The place in a row that is nearest to a column. */
size_t lb_edit_place(const lb_edit *e, u32 row, u32 column);

#endif
