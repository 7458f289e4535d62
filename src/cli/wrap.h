/* SPDX-License-Identifier: Apache-2.0 */
/* wrap.h: text on its way to a terminal, broken between words where a row ends. What has been
 * written of a word that turns out too long for its row is taken back and written in the next. */
#ifndef LB_CLI_WRAP_H
#define LB_CLI_WRAP_H

#include "base/base.h"
#include "base/mem.h"

typedef struct lb_wrap {
    u32 columns; /* of the screen; 0: nothing is broken */
    u32 indent;  /* of the rows that are begun here */
    u32 column;  /* where the cursor stands */
    u32 width;   /* of the word that is being written */
    lb_buf word;
    u8 part[4]; /* of a character */
    u32 n_part;
} lb_wrap;

/* Appends the text, without controls but line ends and tabs (as blanks): it cannot steer a
 * terminal. */
void lb_wrap_put(lb_wrap *w, lb_str text, lb_buf *out);
/* Something else is written from the first column on. */
void lb_wrap_begin(lb_wrap *w, u32 columns, u32 indent);
void lb_wrap_deinit(lb_wrap *w);

#endif
