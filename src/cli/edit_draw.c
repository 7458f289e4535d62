/* SPDX-License-Identifier: Apache-2.0 */
/* edit_draw.c: where a text stands on the screen, and the sequences that put it there.
 *
 * Every row ends with a line break of its own, so that nothing depends on when a terminal wraps. */
#include "cli/edit_internal.h"
#include "text/bytelevel.h"
#include <utf8proc.h>

static u32 width_of(u32 cp) {
    int w = cp == '\t' ? LB_EDIT_TAB : utf8proc_charwidth((utf8proc_int32_t)cp);
    return w > 0 ? (u32)w : 0;
}

size_t lb_edit_cluster(lb_str text, size_t at, u32 *width) {
    utf8proc_int32_t state = 0;
    size_t end = at, next;
    u32 cp = lb_utf8_next(text, &end);
    *width = cp == '\n' ? 0 : width_of(cp);
    for (; end < text.len; end = next) {
        next = end;
        u32 following = lb_utf8_next(text, &next);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)cp, (utf8proc_int32_t)following,
                                             &state))
            break;
        cp = following;
        *width = LB_MAX(*width, cp == 0xfe0f ? 2u : LB_MIN(width_of(cp), 2u));
    }
    return end;
}

/* Clusters are found from their begin: from the line's on, which is short enough. */
size_t lb_edit_before(lb_str text, size_t at) {
    size_t line = at, last;
    u32 width;
    if (!at)
        return 0;
    if (text.ptr[at - 1] == '\n')
        return at - 1;
    while (line && text.ptr[line - 1] != '\n')
        line--;
    for (last = line; line < at; line = lb_edit_cluster(text, line, &width))
        last = line;
    return last;
}

static u32 text_width(const char *s) {
    lb_str text = lb_str_c(s);
    u32 sum = 0, width;
    for (size_t at = 0; at < text.len; sum += width)
        at = lb_edit_cluster(text, at, &width);
    return sum;
}

static void put_row(lb_edit *e, lb_edit_row *row, size_t to) {
    row->to = to;
    lb_buf_put(&e->layout, row, sizeof *row);
    *row = (lb_edit_row){.from = to};
}

void lb_edit_lay_out(lb_edit *e, u32 *row, u32 *column) {
    const lb_str text = lb_buf_str(&e->text);
    const u32 more = text_width(e->o.more), n_columns = LB_MAX(e->columns, 2u);
    lb_edit_row r = {.width = text_width(e->o.prompt), .first = true};
    size_t at = 0, end;
    u32 width;
    lb_buf_reset(&e->layout);
    *row = *column = 0;
    for (;; at = end) {
        const bool ends = at >= text.len, breaks = !ends && text.ptr[at] == '\n';
        end = ends ? at : lb_edit_cluster(text, at, &width);
        /* The cursor wants a column too, at the end of a line. */
        const u32 wants = ends || breaks ? at == e->at : width;
        if (r.width + wants > n_columns && r.width)
            put_row(e, &r, at);
        if (at == e->at) {
            *row = (u32)(e->layout.len / sizeof r);
            *column = r.width;
        }
        if (ends)
            break;
        if (breaks) {
            put_row(e, &r, at);
            r = (lb_edit_row){.from = end, .width = more, .first = true};
        } else {
            r.width += width;
        }
    }
    put_row(e, &r, text.len);
    e->oom |= e->layout.oom;
}

size_t lb_edit_place(const lb_edit *e, u32 row, u32 column) {
    const lb_str text = lb_buf_str(&e->text);
    const lb_edit_row *r = (const lb_edit_row *)(const void *)e->layout.ptr + row;
    const bool last = row + 1 == e->layout.len / sizeof *r;
    size_t at = r->from, end;
    u32 width, here = r->first ? text_width(row ? e->o.more : e->o.prompt) : 0;
    for (; at < r->to; at = end, here += width) {
        end = lb_edit_cluster(text, at, &width);
        /* Behind the last character of a row that wraps the cursor would be in the next. */
        if (here + (width + 1) / 2 > column || (end == r->to && !last && !r[1].first))
            return at;
    }
    return at;
}

static void put_prompt(const lb_edit *e, bool first, lb_buf *out) {
    if (e->o.bold)
        lb_buf_put_c(out, "\x1b[1m");
    lb_buf_put_c(out, first ? e->o.prompt : e->o.more);
    if (e->o.bold)
        lb_buf_put_c(out, "\x1b[0m");
}

static void put_text(lb_str text, lb_buf *out) {
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] == '\t')
            lb_buf_printf(out, "%*s", LB_EDIT_TAB, "");
        else
            lb_buf_put_u8(out, (u8)text.ptr[i]);
}

static void move(lb_buf *out, u32 n, char how) {
    if (n)
        lb_buf_printf(out, "\x1b[%u%c", n, how);
}

/* The rows [*from, *to) that the screen has room for, with the cursor's. */
static void choose_rows(const lb_edit *e, u32 row, u32 n, u32 *from, u32 *to) {
    const u32 room = LB_MAX(e->rows, 1u);
    *from = n <= room ? 0 : LB_MIN(row - LB_MIN(row, room / 2), n - room);
    *to = LB_MIN(n, *from + room);
}

void lb_edit_draw(lb_edit *e, lb_buf *out) {
    const lb_edit_row *r;
    u32 row, column, from, to;
    if (e->paste)
        return;
    lb_edit_lay_out(e, &row, &column);
    r = (const lb_edit_row *)(const void *)e->layout.ptr;
    const u32 n = (u32)(e->layout.len / sizeof *r);
    choose_rows(e, row, n, &from, &to);
    lb_buf_put_c(out, "\r");
    move(out, e->drawn_at, 'A');
    lb_buf_put_c(out, "\x1b[J");
    lb_buf_reset(&e->widths);
    for (u32 i = from; i < to; i++) {
        if (i > from)
            lb_buf_put_c(out, "\r\n");
        if (r[i].first)
            put_prompt(e, i == 0, out);
        put_text(lb_str_sub(lb_buf_str(&e->text), r[i].from, r[i].to), out);
        lb_buf_put_u32(&e->widths, r[i].width);
    }
    move(out, to - 1 - row, 'A');
    lb_buf_put_c(out, "\r");
    move(out, column, 'C');
    e->drawn_at = row - from;
    if (e->bell)
        lb_buf_put_c(out, "\a");
    e->bell = false;
}

void lb_edit_leave(lb_edit *e, lb_buf *out) {
    const u32 n = (u32)(e->widths.len / sizeof(u32));
    if (n > e->drawn_at + 1)
        move(out, n - 1 - e->drawn_at, 'B');
    lb_buf_put_c(out, "\r\n");
    lb_edit_forget(e);
}

void lb_edit_resize(lb_edit *e, u32 rows, u32 columns) {
    u32 above = 0;
    /* Rows that are wider than the screen now were wrapped by the terminal. */
    for (u32 i = 0; i < e->widths.len / sizeof(u32) && i <= e->drawn_at; i++) {
        u32 width = lb_load_u32(e->widths.ptr + 4 * i), more = width ? (width - 1) / columns : 0;
        above += i < e->drawn_at ? more : 0;
    }
    if (columns < e->columns)
        e->drawn_at += above;
    e->rows = rows;
    e->columns = columns;
}

void lb_edit_forget(lb_edit *e) {
    e->drawn_at = 0;
    lb_buf_reset(&e->widths);
}
