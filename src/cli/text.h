/* SPDX-License-Identifier: Apache-2.0 */
/* text.h: how results are written for people: digits, names from files, columns. */
#ifndef LB_CLI_TEXT_H
#define LB_CLI_TEXT_H

#include "base/base.h"
#include "base/mem.h"
#include "io/size.h"

#define LB_TEXT_BYTES LB_SIZE_TEXT

/* "1,234,567" */
const char *lb_digits_text(u64 n, char *out);

/* Text that a file brought: control bytes are shown as \xNN, so that it cannot steer a terminal. */
void lb_put_safe(lb_buf *out, lb_str s);

/* ---- columns: cells are added row by row, widths are known at the end ---- */

#define LB_TABLE_COLUMNS_MAX 10

typedef struct lb_table {
    lb_buf text; /* cells, NUL-terminated */
    u32 n_columns;
    u32 right; /* bit c: column c is aligned to the right */
    u32 n_cells;
    u32 width[LB_TABLE_COLUMNS_MAX];
} lb_table;

void lb_table_cell(lb_table *t, lb_str s); /* made safe */
void lb_table_printf(lb_table *t, const char *fmt, ...) LB_PRINTF(2, 3);
/* Writes the rows, each after `indent` spaces, and frees the table. */
void lb_table_end(lb_table *t, u32 indent, lb_buf *out);

#endif
