/* SPDX-License-Identifier: Apache-2.0 */
/* vt.h: a small terminal in memory, for tests of what is drawn: characters with their widths, line
 * ends, the cursor's moves, erasing, scrolling, the wrap that waits for one more character. */
#ifndef LB_TESTS_VT_H
#define LB_TESTS_VT_H

#include "base/base.h"
#include "base/mem.h"

#define VT_ROWS_MAX 64
#define VT_COLUMNS_MAX 160

typedef struct vt {
    u32 rows, columns, row, column;
    bool wraps;      /* the last column was written to: the next character begins a row */
    bool paste, dim; /* modes that were asked for */
    u32 n_unknown;   /* sequences that are none of these */
    u32 cell[VT_ROWS_MAX][VT_COLUMNS_MAX]; /* code points; 0: blank; 1: right half of a wide one */
    u8 state, part[4];
    u32 n_part;
    char code[16];
    u32 n_code;
} vt;

void vt_begin(vt *t, u32 rows, u32 columns);
void vt_put(vt *t, const void *bytes, size_t n);
/* A row as text, without the blanks at its end. */
void vt_row(const vt *t, u32 row, lb_buf *out);
/* All rows, each with a line end; combining characters are not kept. */
void vt_text(const vt *t, lb_buf *out);

#endif
