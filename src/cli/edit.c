/* SPDX-License-Identifier: Apache-2.0 */
/* edit.c: keys of a terminal -> a text. */
#include "cli/edit_internal.h"
#include "text/bytelevel.h"

enum { GROUND, ESCAPE, CODE, LETTER }; /* state: behind ESC, behind ESC [, behind ESC O */

#define CTRL(c) ((c)&0x1f)

lb_status lb_edit_new(lb_edit **out, const lb_edit_opts *o, lb_err *err) {
    lb_edit *e = *out = lb_alloc_zero(1, sizeof *e);
    if (!e)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a line editor");
    e->o = *o;
    e->rows = 24;
    e->columns = 80;
    e->column = UINT32_MAX;
    e->old = lb_alloc_zero(LB_EDIT_HISTORY_MAX, sizeof *e->old);
    if (e->old)
        return LB_OK;
    lb_edit_free(out);
    return lb_fail(err, LB_E_NOMEM, "out of memory for a line editor");
}

void lb_edit_free(lb_edit **out) {
    lb_edit *e = *out;
    if (!e)
        return;
    for (u32 i = 0; e->old && i < LB_EDIT_HISTORY_MAX; i++)
        lb_buf_deinit(&e->old[i]);
    lb_free(e->old);
    lb_buf_deinit(&e->text);
    lb_buf_deinit(&e->cut);
    lb_buf_deinit(&e->held);
    lb_buf_deinit(&e->widths);
    lb_buf_deinit(&e->layout);
    lb_free(e);
    *out = NULL;
}

lb_str lb_edit_text(const lb_edit *e) {
    return lb_buf_str(&e->text);
}

lb_status lb_edit_status(const lb_edit *e, lb_err *err) {
    bool lost = e->oom || e->text.oom || e->cut.oom || e->held.oom || e->widths.oom;
    return lost ? lb_fail(err, LB_E_NOMEM, "out of memory for what is typed") : LB_OK;
}

static void set_text(lb_edit *e, lb_str text) {
    lb_buf_reset(&e->text);
    lb_buf_put_str(&e->text, text);
    e->at = e->text.len;
    e->column = UINT32_MAX;
}

void lb_edit_set(lb_edit *e, lb_str text) {
    set_text(e, text);
    e->shown = 0;
}

void lb_edit_begin(lb_edit *e) {
    lb_edit_set(e, LB_STR_NONE);
    lb_edit_forget(e);
    e->paste = e->was_cr = false;
    e->state = GROUND;
    e->n_part = 0;
}

/* ---- changes ---- */

static void insert(lb_edit *e, lb_str s) {
    const size_t tail = e->text.len - e->at;
    if (!s.len)
        return;
    if (e->text.len + s.len > LB_EDIT_TEXT_MAX || !lb_buf_reserve(&e->text, s.len)) {
        e->bell = true;
        return;
    }
    memmove(e->text.ptr + e->at + s.len, e->text.ptr + e->at, tail);
    memcpy(e->text.ptr + e->at, s.ptr, s.len);
    e->text.len += s.len;
    e->at += s.len;
}

static void remove_range(lb_edit *e, size_t from, size_t to) {
    if (from >= to)
        return;
    memmove(e->text.ptr + from, e->text.ptr + to, e->text.len - to);
    e->text.len -= to - from;
    e->at = from;
}

static void cut(lb_edit *e, size_t from, size_t to) {
    if (from >= to)
        return;
    lb_buf_reset(&e->cut);
    lb_buf_put_str(&e->cut, lb_str_sub(lb_buf_str(&e->text), from, to));
    remove_range(e, from, to);
}

/* ---- places ---- */

static size_t line_begin(const lb_edit *e) {
    size_t at = e->at;
    while (at && e->text.ptr[at - 1] != '\n')
        at--;
    return at;
}

static size_t line_end(const lb_edit *e) {
    size_t at = e->at;
    while (at < e->text.len && e->text.ptr[at] != '\n')
        at++;
    return at;
}

static bool is_word(u8 c) {
    return c >= 0x80 || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static size_t word_back(const lb_edit *e) {
    size_t at = e->at;
    while (at && !is_word(e->text.ptr[at - 1]))
        at--;
    while (at && is_word(e->text.ptr[at - 1]))
        at--;
    return at;
}

static size_t word_on(const lb_edit *e) {
    size_t at = e->at;
    while (at < e->text.len && !is_word(e->text.ptr[at]))
        at++;
    while (at < e->text.len && is_word(e->text.ptr[at]))
        at++;
    return at;
}

static size_t blank_back(const lb_edit *e) {
    size_t at = e->at;
    while (at && e->text.ptr[at - 1] <= ' ')
        at--;
    while (at && e->text.ptr[at - 1] > ' ')
        at--;
    return at;
}

static size_t next_place(const lb_edit *e) {
    u32 width;
    return e->at < e->text.len ? lb_edit_cluster(lb_buf_str(&e->text), e->at, &width) : e->at;
}

static size_t place_before(const lb_edit *e) {
    return lb_edit_before(lb_buf_str(&e->text), e->at);
}

/* ---- texts from before ---- */

void lb_edit_remember(lb_edit *e, lb_str text) {
    if (!text.len)
        return;
    if (e->n_old) {
        const lb_buf *last = &e->old[(e->old_at + e->n_old - 1) % LB_EDIT_HISTORY_MAX];
        if (lb_str_eq(lb_buf_str(last), text))
            return;
    }
    u32 i = (e->old_at + e->n_old) % LB_EDIT_HISTORY_MAX;
    if (e->n_old == LB_EDIT_HISTORY_MAX)
        e->old_at = (e->old_at + 1) % LB_EDIT_HISTORY_MAX;
    else
        e->n_old++;
    lb_buf_reset(&e->old[i]);
    lb_buf_put_str(&e->old[i], text);
    e->oom |= e->old[i].oom;
}

static void show_old(lb_edit *e, u32 back) {
    if (back > e->n_old) {
        e->bell = true;
        return;
    }
    if (!e->shown) {
        lb_buf_reset(&e->held);
        lb_buf_put_str(&e->held, lb_buf_str(&e->text));
    }
    e->shown = back;
    set_text(e, back ? lb_buf_str(&e->old[(e->old_at + e->n_old - back) % LB_EDIT_HISTORY_MAX])
                     : lb_buf_str(&e->held));
}

/* A row up or down, or an older or newer text. */
static void move_row(lb_edit *e, bool up) {
    u32 row, column;
    lb_edit_lay_out(e, &row, &column);
    const u32 n = (u32)(e->layout.len / sizeof(lb_edit_row));
    if (up ? row == 0 : row + 1 >= n) {
        if (up || e->shown)
            show_old(e, up ? e->shown + 1 : e->shown - 1);
        return;
    }
    if (e->column == UINT32_MAX)
        e->column = column;
    e->at = lb_edit_place(e, up ? row - 1 : row + 1, e->column);
}

/* ---- keys ---- */

/* The longest common beginning of the words that begin as the text does. */
static void complete(lb_edit *e) {
    const lb_str text = lb_buf_str(&e->text);
    lb_str common = LB_STR_NONE;
    u32 n = 0;
    if (!text.len || e->at != text.len || memchr(text.ptr, ' ', text.len))
        return;
    for (const char *const *w = e->o.words; w && *w; w++) {
        lb_str word = lb_str_c(*w);
        size_t k = 0;
        if (!lb_str_starts(word, text))
            continue;
        while (n && k < common.len && k < word.len && common.ptr[k] == word.ptr[k])
            k++;
        common = n++ ? lb_str_sub(common, 0, k) : word;
    }
    if (n && common.len > text.len)
        insert(e, lb_str_sub(common, text.len, common.len));
    if (n == 1 && lb_buf_str(&e->text).len == common.len)
        insert(e, LB_STR(" "));
    e->bell |= n != 1;
}

static void swap_clusters(lb_edit *e) {
    size_t mid = e->at < e->text.len && e->text.ptr[e->at] != '\n' ? e->at : place_before(e);
    size_t from = lb_edit_before(lb_buf_str(&e->text), mid), to;
    u32 width;
    u8 first[64];
    if (from == mid || mid >= e->text.len || mid - from > sizeof first)
        return;
    to = lb_edit_cluster(lb_buf_str(&e->text), mid, &width);
    memcpy(first, e->text.ptr + from, mid - from);
    memmove(e->text.ptr + from, e->text.ptr + mid, to - mid);
    memcpy(e->text.ptr + from + (to - mid), first, mid - from);
    e->at = to;
}

static lb_edit_event enter(lb_edit *e) {
    const lb_buf *t = &e->text;
    if (e->at == t->len && t->len && t->ptr[t->len - 1] == '\\') {
        remove_range(e, t->len - 1, t->len);
        insert(e, LB_STR("\n"));
        return LB_EDIT_MORE;
    }
    return LB_EDIT_ENTER;
}

static lb_edit_event control_key(lb_edit *e, u8 c) {
    if (c != CTRL('P') && c != CTRL('N'))
        e->column = UINT32_MAX;
    switch (c) {
    case '\r':
    case '\n':
        return enter(e);
    case '\t':
        complete(e);
        break;
    case CTRL('A'):
        e->at = line_begin(e);
        break;
    case CTRL('E'):
        e->at = line_end(e);
        break;
    case CTRL('B'):
        e->at = place_before(e);
        break;
    case CTRL('F'):
        e->at = next_place(e);
        break;
    case CTRL('P'):
    case CTRL('N'):
        move_row(e, c == CTRL('P'));
        break;
    case CTRL('H'):
    case 0x7f:
        remove_range(e, place_before(e), e->at);
        break;
    case CTRL('D'):
        if (!e->text.len)
            return LB_EDIT_END;
        remove_range(e, e->at, next_place(e));
        break;
    case CTRL('K'): /* at the end of a line its break goes */
        cut(e, e->at, line_end(e) > e->at ? line_end(e) : next_place(e));
        break;
    case CTRL('U'):
        cut(e, line_begin(e), e->at);
        break;
    case CTRL('W'):
        cut(e, blank_back(e), e->at);
        break;
    case CTRL('Y'):
        insert(e, lb_buf_str(&e->cut));
        break;
    case CTRL('T'):
        swap_clusters(e);
        break;
    case CTRL('C'):
        return LB_EDIT_INTERRUPT;
    case CTRL('L'):
        return LB_EDIT_CLEAR;
    case CTRL('Z'):
        return LB_EDIT_STOP;
    default:
        break;
    }
    return LB_EDIT_MORE;
}

/* Behind ESC. */
static void alt_key(lb_edit *e, u8 c) {
    switch (c) {
    case 'b':
    case 'B':
        e->at = word_back(e);
        break;
    case 'f':
    case 'F':
        e->at = word_on(e);
        break;
    case 'd':
    case 'D': {
        size_t at = e->at;
        cut(e, at, word_on(e));
        break;
    }
    case 0x7f:
    case CTRL('H'):
        cut(e, word_back(e), e->at);
        break;
    case '\r':
    case '\n':
        insert(e, LB_STR("\n"));
        break;
    default:
        break;
    }
}

/* ESC [ code final, and ESC O final. */
static void function_key(lb_edit *e, const char *code, char final) {
    const bool word = strchr(code, ';') != NULL; /* with ctrl, alt or shift */
    if (final != 'A' && final != 'B')
        e->column = UINT32_MAX;
    switch (final) {
    case 'A':
    case 'B':
        move_row(e, final == 'A');
        break;
    case 'C':
        e->at = word ? word_on(e) : next_place(e);
        break;
    case 'D':
        e->at = word ? word_back(e) : place_before(e);
        break;
    case 'H':
        e->at = line_begin(e);
        break;
    case 'F':
        e->at = line_end(e);
        break;
    case '~':
        if (strcmp(code, "1") == 0 || strcmp(code, "7") == 0)
            e->at = line_begin(e);
        else if (strcmp(code, "4") == 0 || strcmp(code, "8") == 0)
            e->at = line_end(e);
        else if (strcmp(code, "3") == 0 && e->at < e->text.len)
            remove_range(e, e->at, next_place(e));
        else if (strcmp(code, "200") == 0)
            e->paste = true;
        break;
    default:
        break;
    }
}

static void take_code(lb_edit *e, u8 c) {
    const bool letter = e->state == LETTER;
    if (!letter && (c < 0x40 || c > 0x7e)) {
        if (e->n_code + 1 < sizeof e->code)
            e->code[e->n_code++] = (char)c;
        return;
    }
    e->state = GROUND;
    e->code[e->n_code] = 0;
    if (e->paste) { /* nothing but its end counts */
        e->paste = !(c == '~' && strcmp(e->code, "201") == 0);
        return;
    }
    function_key(e, e->code, (char)c);
}

static u32 length_of(u8 c) {
    return c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
}

/* A byte of a character: whole ones go in, what is none as U+FFFD. Controls stay out (C1: the two
 * bytes c2 80 to c2 9f). */
static void take_byte(lb_edit *e, u8 c) {
    if (e->n_part && (c & 0xc0) != 0x80) {
        insert(e, LB_STR("\xef\xbf\xbd"));
        e->n_part = 0;
    }
    if (!e->n_part)
        e->n_want = length_of(c);
    e->part[e->n_part++] = c;
    if (e->n_part < e->n_want)
        return;
    lb_str s = {(const char *)e->part, e->n_part};
    e->n_part = 0;
    e->column = UINT32_MAX;
    if (s.len == 2 && (u8)s.ptr[0] == 0xc2 && (u8)s.ptr[1] < 0xa0)
        return;
    insert(e, lb_str_is_utf8(s) ? s : LB_STR("\xef\xbf\xbd"));
}

static void take_pasted(lb_edit *e, u8 c) {
    if (c == '\r' || (c == '\n' && !e->was_cr))
        insert(e, LB_STR("\n"));
    else if (c == '\t' || (c >= 0x20 && c != 0x7f))
        take_byte(e, c);
    e->was_cr = c == '\r';
}

static lb_edit_event take(lb_edit *e, u8 c) {
    switch (e->state) {
    case ESCAPE:
        e->n_code = 0;
        e->state = c == '[' ? CODE : c == 'O' ? LETTER : c == 0x1b ? ESCAPE : GROUND;
        if (e->state == GROUND && !e->paste) {
            e->column = UINT32_MAX;
            alt_key(e, c);
        }
        return LB_EDIT_MORE;
    case CODE:
    case LETTER:
        take_code(e, c);
        return LB_EDIT_MORE;
    default:
        break;
    }
    if (c == 0x1b) {
        e->state = ESCAPE;
        e->n_part = 0;
    } else if (e->paste) {
        take_pasted(e, c);
    } else if (c < 0x20 || c == 0x7f) {
        e->n_part = 0;
        return control_key(e, c);
    } else {
        take_byte(e, c);
    }
    return LB_EDIT_MORE;
}

lb_edit_event lb_edit_keys(lb_edit *e, const u8 *keys, size_t n, size_t *used) {
    lb_edit_event event = LB_EDIT_MORE;
    for (*used = 0; *used < n && event == LB_EDIT_MORE; ++*used)
        event = take(e, keys[*used]);
    return event;
}
