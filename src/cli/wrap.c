/* SPDX-License-Identifier: Apache-2.0 */
/* wrap.c: see wrap.h. The last column stays free: terminals differ in where the cursor is once it
 * has been written to. */
#include "cli/wrap.h"
#include "text/bytelevel.h"
#include <utf8proc.h>

#define TAB 4

void lb_wrap_begin(lb_wrap *w, u32 columns, u32 indent) {
    w->columns = columns > 2 ? columns : 0;
    w->indent = indent + 8 < columns ? indent : 0;
    w->column = w->width = w->n_part = 0;
    lb_buf_reset(&w->word);
}

void lb_wrap_deinit(lb_wrap *w) {
    lb_buf_deinit(&w->word);
}

static void end_word(lb_wrap *w) {
    lb_buf_reset(&w->word);
    w->width = 0;
}

static void next_row(lb_wrap *w, lb_buf *out) {
    lb_buf_printf(out, "\n%*s", (int)w->indent, "");
    w->column = w->indent;
}

/* The row is full: the word goes to the next, where it is not as long as a row. */
static void break_row(lb_wrap *w, lb_buf *out) {
    if (w->width && w->width + w->indent < w->columns - 1 && w->width < w->column) {
        lb_buf_printf(out, "\x1b[%uD\x1b[K", w->width);
        next_row(w, out);
        lb_buf_put_str(out, lb_buf_str(&w->word));
        w->column += w->width;
    } else {
        next_row(w, out);
        end_word(w);
    }
}

static void put_blank(lb_wrap *w, u32 n, lb_buf *out) {
    end_word(w);
    for (u32 i = 0; i < n && (!w->columns || w->column + 1 < w->columns); i++) {
        lb_buf_put_c(out, " ");
        w->column++;
    }
}

static void put_char(lb_wrap *w, lb_str c, lb_buf *out) {
    size_t at = 0;
    const u32 cp = lb_utf8_next(c, &at);
    const int wide = utf8proc_charwidth((utf8proc_int32_t)cp);
    const u32 width = wide > 0 ? (u32)wide : 0;
    if (cp == '\n') {
        lb_buf_put_c(out, "\n");
        end_word(w);
        w->column = 0;
    } else if (cp == ' ' || cp == '\t') {
        put_blank(w, cp == ' ' ? 1 : TAB, out);
    } else if (cp >= 0x20 && (cp < 0x7f || cp > 0x9f)) {
        if (width == 2) /* what is written without blanks may be broken anywhere */
            end_word(w);
        if (w->columns && width && w->column + width + 1 > w->columns)
            break_row(w, out);
        lb_buf_put_str(out, c);
        lb_buf_put_str(&w->word, c);
        w->column += width;
        w->width += width;
        if (width == 2)
            end_word(w);
    }
}

void lb_wrap_put(lb_wrap *w, lb_str text, lb_buf *out) {
    for (size_t i = 0; i < text.len; i++) {
        const u8 c = (u8)text.ptr[i];
        if (w->n_part && (c & 0xc0) != 0x80)
            w->n_part = 0;
        w->part[w->n_part++] = c;
        const u8 lead = w->part[0];
        if (w->n_part < (lead < 0x80 ? 1u : lead >= 0xf0 ? 4u : lead >= 0xe0 ? 3u : 2u))
            continue;
        const lb_str whole = {(const char *)w->part, w->n_part};
        w->n_part = 0;
        put_char(w, lb_str_is_utf8(whole) ? whole : LB_STR("\xef\xbf\xbd"), out);
    }
    out->oom |= w->word.oom;
}
