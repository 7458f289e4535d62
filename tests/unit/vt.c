/* SPDX-License-Identifier: Apache-2.0 */
/* vt.c: see vt.h. */
#include "vt.h"
#include "text/bytelevel.h"
#include <stdlib.h>
#include <utf8proc.h>

void vt_begin(vt *t, u32 rows, u32 columns) {
    memset(t, 0, sizeof *t);
    t->rows = LB_MIN(rows, (u32)VT_ROWS_MAX);
    t->columns = LB_MIN(columns, (u32)VT_COLUMNS_MAX);
}

static void line_feed(vt *t) {
    t->wraps = false;
    if (t->row + 1 < t->rows) {
        t->row++;
        return;
    }
    memmove(t->cell[0], t->cell[1], (t->rows - 1) * sizeof t->cell[0]);
    memset(t->cell[t->rows - 1], 0, sizeof t->cell[0]);
}

static void put_char(vt *t, u32 cp) {
    int width = utf8proc_charwidth((utf8proc_int32_t)cp);
    if (width <= 0)
        return;
    if (t->wraps || t->column + (u32)width > t->columns) {
        t->column = 0;
        line_feed(t);
    }
    t->cell[t->row][t->column] = cp;
    if (width == 2)
        t->cell[t->row][t->column + 1] = 1;
    t->column += (u32)width;
    t->wraps = t->column >= t->columns;
    if (t->wraps)
        t->column = t->columns - 1;
}

static void erase(vt *t, u32 row, u32 column) {
    for (u32 c = column; c < t->columns; c++)
        t->cell[row][c] = 0;
}

static void control(vt *t, char final) {
    u32 n = (u32)atoi(t->code);
    u32 k = LB_MAX(n, 1u);
    t->wraps = final == 'm' || final == 'h' || final == 'l' ? t->wraps : false;
    switch (final) {
    case 'A':
        t->row -= LB_MIN(t->row, k);
        break;
    case 'B':
        t->row = LB_MIN(t->row + k, t->rows - 1);
        break;
    case 'C':
        t->column = LB_MIN(t->column + k, t->columns - 1);
        break;
    case 'D':
        t->column -= LB_MIN(t->column, k);
        break;
    case 'H':
        t->row = t->column = 0;
        break;
    case 'J':
        if (n == 0)
            erase(t, t->row, t->column);
        for (u32 r = n == 2 ? 0 : t->row + 1; r < t->rows; r++)
            erase(t, r, 0);
        break;
    case 'K':
        erase(t, t->row, t->column);
        break;
    case 'm':
        t->dim = n == 2;
        break;
    case 'h':
    case 'l':
        if (strcmp(t->code, "?2004") == 0)
            t->paste = final == 'h';
        break;
    default:
        t->n_unknown++;
    }
}

static void take(vt *t, u8 c) {
    if (t->state == 1) {
        t->state = c == '[' ? 2 : 0;
        t->n_code = 0;
        t->n_unknown += c != '[';
    } else if (t->state == 2) {
        if (c >= 0x40) {
            t->code[t->n_code] = 0;
            t->state = 0;
            control(t, (char)c);
        } else if (t->n_code + 1 < sizeof t->code) {
            t->code[t->n_code++] = (char)c;
        }
    } else if (c == 0x1b) {
        t->state = 1;
    } else if (c == '\r') {
        t->column = 0;
        t->wraps = false;
    } else if (c == '\n') {
        line_feed(t);
    } else if (c >= 0x20) {
        t->part[t->n_part++] = c;
        u8 lead = t->part[0];
        if (t->n_part < (lead < 0x80 ? 1u : lead >= 0xf0 ? 4u : lead >= 0xe0 ? 3u : 2u))
            return;
        size_t at = 0;
        u32 cp = lb_utf8_next((lb_str){(const char *)t->part, t->n_part}, &at);
        t->n_part = 0;
        put_char(t, cp);
    }
}

void vt_put(vt *t, const void *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        take(t, ((const u8 *)bytes)[i]);
}

void vt_row(const vt *t, u32 row, lb_buf *out) {
    u32 last = t->columns;
    while (last && (t->cell[row][last - 1] == 0 || t->cell[row][last - 1] == ' '))
        last--;
    for (u32 c = 0; c < last; c++)
        if (t->cell[row][c] != 1)
            lb_utf8_put(out, t->cell[row][c] ? t->cell[row][c] : ' ');
}

void vt_text(const vt *t, lb_buf *out) {
    for (u32 r = 0; r < t->rows; r++) {
        vt_row(t, r, out);
        lb_buf_put_c(out, "\n");
    }
}
