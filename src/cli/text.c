/* SPDX-License-Identifier: Apache-2.0 */
/* text.c: numbers, names and columns for people. */
#include "cli/text.h"
#include <stdio.h>

const char *lb_digits_text(u64 n, char *out) {
    char digits[LB_TEXT_BYTES];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), k = 0;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            out[k++] = ',';
        out[k++] = digits[i];
    }
    out[k] = 0;
    return out;
}

void lb_put_safe(lb_buf *out, lb_str s) {
    for (size_t i = 0; i < s.len; i++) {
        u8 c = (u8)s.ptr[i];
        /* C1 controls are two bytes in UTF-8: c2 80 ... c2 9f */
        bool c1 = c == 0xc2 && i + 1 < s.len && (u8)s.ptr[i + 1] < 0xa0;
        if (c < 0x20 || c == 0x7f)
            lb_buf_printf(out, "\\x%02x", (unsigned)c);
        else if (c1)
            lb_buf_printf(out, "\\x%02x", (unsigned)(u8)s.ptr[++i]);
        else
            lb_buf_put_u8(out, c);
    }
}

/* Columns that text of UTF-8 takes: bytes that do not continue a character. Wide characters count
 * as one: names of tensors and keys hold none in practice. */
static u32 columns(const char *s) {
    u32 n = 0;
    for (; *s; s++)
        n += ((u8)*s & 0xc0) != 0x80;
    return n;
}

static void end_cell(lb_table *t, size_t begin) {
    u32 c = t->n_cells % t->n_columns;
    lb_buf_put_u8(&t->text, 0);
    if (!t->text.oom)
        t->width[c] = LB_MAX(t->width[c], columns((const char *)t->text.ptr + begin));
    t->n_cells++;
}

void lb_table_cell(lb_table *t, lb_str s) {
    size_t begin = t->text.len;
    lb_put_safe(&t->text, s);
    end_cell(t, begin);
}

void lb_table_printf(lb_table *t, const char *fmt, ...) {
    char cell[256];
    va_list ap;
    size_t begin = t->text.len;
    va_start(ap, fmt);
    (void)vsnprintf(cell, sizeof cell, fmt, ap);
    va_end(ap);
    lb_buf_put_c(&t->text, cell);
    end_cell(t, begin);
}

void lb_table_end(lb_table *t, u32 indent, lb_buf *out) {
    const char *cell = (const char *)t->text.ptr;
    out->oom = out->oom || t->text.oom;
    for (u32 i = 0; i < t->n_cells && !out->oom; i++, cell += strlen(cell) + 1) {
        u32 c = i % t->n_columns, pad = t->width[c] - columns(cell);
        bool last = c + 1 == t->n_columns;
        if (c == 0)
            lb_buf_printf(out, "%*s", (int)indent, "");
        if (t->right & (1u << c))
            lb_buf_printf(out, "%*s%s", (int)pad, "", cell);
        else
            lb_buf_printf(out, "%s%*s", cell, last ? 0 : (int)pad, "");
        lb_buf_put_c(out, last ? "\n" : "  ");
    }
    lb_buf_deinit(&t->text);
    memset(t, 0, sizeof *t);
}
