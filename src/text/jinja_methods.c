/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_methods.c: the methods of str. */
#include "text/bytelevel.h"
#include "text/jinja_builtin.h"
#include "text/jinja_run.h"
#include "text/jinja_text.h"

static lb_status str_part(lb_jx *x, lb_jval self, lb_str part, lb_jval *out) {
    LB_TRY(lb_jv_view(x, part, out));
    out->safe = self.safe;
    return LB_OK;
}

/* ---- case, ends, padding ---- */

static lb_status change_case(lb_jx *x, lb_jval self, lb_jcase how, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_jtext_case(&b, lb_jv_text(self), how);
    LB_TRY(lb_jbuf_end(&b, out));
    out->safe = self.safe;
    return LB_OK;
}

#define CASE(name, how)                                                                 \
    static lb_status m_##name(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) { \
        (void)a;                                                                        \
        return change_case(x, self, (how), out);                                        \
    }

CASE(upper, LB_JCASE_UPPER)
CASE(lower, LB_JCASE_LOWER)
CASE(title, LB_JCASE_TITLE)
CASE(capitalize, LB_JCASE_CAPITALIZE)
CASE(swapcase, LB_JCASE_SWAP)
CASE(casefold, LB_JCASE_FOLD)

static lb_status strip(lb_jx *x, lb_jval self, const lb_jval *a, bool left, bool right,
                       lb_jval *out) {
    lb_str chars = LB_STR_NONE;
    if (lb_jarg_given(a[0]))
        LB_TRY(lb_jarg_str(x, a[0], "strip arg", &chars));
    if (chars.len)
        LB_TRY(lb_jx_steps(x, self.u.s->len / 64 * (chars.len / 8 + 1)));
    return str_part(x, self, lb_jstr_strip(lb_jv_text(self), chars, left, right), out);
}

static lb_status m_strip(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return strip(x, self, a, true, true, out);
}

static lb_status m_lstrip(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return strip(x, self, a, true, false, out);
}

static lb_status m_rstrip(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return strip(x, self, a, false, true, out);
}

void lb_jstr_pad(lb_jbuf *b, lb_jval s, i64 width, lb_str fill, int where) {
    i64 n = (i64)lb_jv_chars(s), pad = width > n ? width - n : 0;
    i64 left = where < 0 ? 0 : where > 0 ? pad : pad / 2 + (pad & width & 1);
    lb_jbuf_fill(b, fill, left);
    lb_jbuf_put(b, lb_jv_text(s));
    lb_jbuf_fill(b, fill, pad - left);
}

static lb_status pad(lb_jx *x, lb_jval self, const lb_jval *a, int where, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_str fill = LB_STR(" ");
    i64 width;
    LB_TRY(lb_jarg_int(x, a[0], &width));
    if (a[1].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_str(x, a[1], "the fill character", &fill));
    if (lb_jstr_count(fill) != 1)
        return lb_jx_error(x, "The fill character must be exactly one character long");
    lb_jstr_pad(&b, self, width, fill, where);
    LB_TRY(lb_jbuf_end(&b, out));
    out->safe = self.safe;
    return LB_OK;
}

static lb_status m_center(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return pad(x, self, a, 0, out);
}

static lb_status m_ljust(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return pad(x, self, a, -1, out);
}

static lb_status m_rjust(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return pad(x, self, a, 1, out);
}

static lb_status m_zfill(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_str s = lb_jv_text(self);
    bool sign = s.len && (s.ptr[0] == '+' || s.ptr[0] == '-');
    i64 width;
    LB_TRY(lb_jarg_int(x, a[0], &width));
    lb_jbuf_put(&b, lb_str_sub(s, 0, sign));
    lb_jbuf_fill(&b, LB_STR("0"), width - (i64)lb_jv_chars(self));
    lb_jbuf_put(&b, lb_str_sub(s, sign, s.len));
    LB_TRY(lb_jbuf_end(&b, out));
    out->safe = self.safe;
    return LB_OK;
}

static lb_status m_expandtabs(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_str s = lb_jv_text(self);
    i64 size = 8, column = 0;
    if (a[0].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_int(x, a[0], &size));
    for (size_t i = 0; i < s.len && !b.over;) {
        size_t at = i;
        u32 cp = lb_utf8_next(s, &i);
        if (cp == '\t') {
            i64 n = size > 0 ? size - column % size : 0;
            lb_jbuf_fill(&b, LB_STR(" "), n);
            column += n;
            continue;
        }
        column = cp == '\n' || cp == '\r' ? 0 : column + 1;
        lb_jbuf_put(&b, lb_str_sub(s, at, i));
    }
    LB_TRY(lb_jbuf_end(&b, out));
    out->safe = self.safe;
    return LB_OK;
}

/* ---- finding ---- */

/* start and end arguments: the bytes between; false: start is beyond the end. */
static lb_status window(lb_jx *x, lb_jval self, const lb_jval *a, lb_str *out, i64 *first,
                        bool *valid) {
    i64 n = (i64)lb_jv_chars(self), start = 0, end = n;
    lb_str s = lb_jv_text(self);
    for (u32 i = 0; i < 2; i++) {
        i64 *to = i ? &end : &start;
        if (!lb_jarg_given(a[i]))
            continue;
        if (!lb_jv_as_int(a[i], to))
            return lb_jx_error(x, "slice indices must be integers or None or have an __index__ "
                                  "method");
        if (*to < 0)
            *to = LB_MAX(*to + n, 0);
    }
    end = LB_MIN(end, n);
    *valid = start <= n && start <= end;
    *first = start;
    if (!*valid)
        return LB_OK;
    bool ascii = (size_t)n == s.len;
    LB_TRY(lb_jx_steps(x, s.len / 64));
    *out = lb_str_sub(s, ascii ? (size_t)start : lb_jstr_at(s, (u64)start),
                      ascii ? (size_t)end : lb_jstr_at(s, (u64)end));
    return LB_OK;
}

static bool find_last(lb_str s, lb_str needle, size_t *pos) {
    if (needle.len > s.len)
        return false;
    for (size_t i = s.len - needle.len + 1; i-- > 0;)
        if (needle.len == 0 ||
            (s.ptr[i] == needle.ptr[0] && memcmp(s.ptr + i, needle.ptr, needle.len) == 0)) {
            *pos = i;
            return true;
        }
    return false;
}

/* A search may look at needle.len bytes at every place. */
static lb_status charge(lb_jx *x, lb_str s, lb_str needle) {
    return lb_jx_steps(x, s.len / 64 * LB_MIN(needle.len / 64 + 1, 4096));
}

static lb_status find(lb_jx *x, lb_jval self, const lb_jval *a, bool last, bool must,
                      lb_jval *out) {
    lb_str needle, in = LB_STR_NONE;
    i64 first = 0;
    bool valid;
    size_t pos = 0;
    LB_TRY(lb_jarg_str(x, a[0], "the text to find", &needle));
    LB_TRY(window(x, self, a + 1, &in, &first, &valid));
    LB_TRY(charge(x, in, needle));
    bool found = valid && (last ? find_last(in, needle, &pos) : lb_str_find(in, needle, &pos));
    if (!found && must)
        return lb_jx_error(x, "substring not found");
    *out = lb_jv_int(found ? first + (i64)lb_jstr_count(lb_str_sub(in, 0, pos)) : -1);
    return LB_OK;
}

static lb_status m_find(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return find(x, self, a, false, false, out);
}

static lb_status m_rfind(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return find(x, self, a, true, false, out);
}

static lb_status m_index(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return find(x, self, a, false, true, out);
}

static lb_status m_rindex(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return find(x, self, a, true, true, out);
}

static lb_status m_count(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_str needle, in = LB_STR_NONE;
    i64 first, n = 0;
    bool valid;
    size_t pos;
    LB_TRY(lb_jarg_str(x, a[0], "the text to count", &needle));
    LB_TRY(window(x, self, a + 1, &in, &first, &valid));
    LB_TRY(charge(x, in, needle));
    if (valid && needle.len == 0)
        n = (i64)lb_jstr_count(in) + 1;
    while (needle.len && in.len && lb_str_find(in, needle, &pos)) {
        n++;
        in = lb_str_sub(in, pos + needle.len, in.len);
    }
    *out = lb_jv_int(n);
    return LB_OK;
}

static lb_status begins_or_ends(lb_jx *x, lb_jval self, const lb_jval *a, bool ends, lb_jval *out) {
    lb_str in = LB_STR_NONE, part;
    lb_jlist one = {.item = (lb_jval[]){a[0]}, .n = 1};
    const lb_jlist *l = a[0].type == LB_JT_TUPLE ? a[0].u.list : &one;
    i64 first;
    bool valid, yes = false;
    LB_TRY(window(x, self, a + 1, &in, &first, &valid));
    for (u32 i = 0; i < l->n && !yes; i++) {
        LB_TRY(lb_jarg_str(x, l->item[i], ends ? "endswith first arg" : "startswith first arg",
                           &part));
        yes = valid && (ends ? lb_str_ends(in, part) : lb_str_starts(in, part));
    }
    *out = lb_jv_bool(yes);
    return LB_OK;
}

static lb_status m_startswith(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return begins_or_ends(x, self, a, false, out);
}

static lb_status m_endswith(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return begins_or_ends(x, self, a, true, out);
}

lb_status lb_jstr_replace(lb_jx *x, lb_str s, lb_str old, lb_str with, i64 count, lb_jval *out) {
    lb_jbuf b = {.x = x};
    size_t pos;
    LB_TRY(charge(x, s, old));
    if (!old.len) {
        for (size_t i = 0; count != 0 && !b.over; count--) {
            size_t at = i;
            lb_jbuf_put(&b, with);
            if (i >= s.len)
                break;
            (void)lb_utf8_next(s, &i);
            lb_jbuf_put(&b, lb_str_sub(s, at, i));
            if (count == 1) {
                s = lb_str_sub(s, i, s.len);
                lb_jbuf_put(&b, s);
            }
        }
        return b.b.len || b.over || b.b.oom ? lb_jbuf_end(&b, out) : lb_jv_view(x, s, out);
    }
    while (count != 0 && s.len && !b.over && lb_str_find(s, old, &pos)) {
        lb_jbuf_put(&b, lb_str_sub(s, 0, pos));
        lb_jbuf_put(&b, with);
        s = lb_str_sub(s, pos + old.len, s.len);
        count--;
    }
    lb_jbuf_put(&b, s);
    return lb_jbuf_end(&b, out);
}

static lb_status m_replace(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_str old, with;
    i64 count = -1;
    LB_TRY(lb_jarg_str(x, a[0], "replace() argument 1", &old));
    LB_TRY(lb_jarg_str(x, a[1], "replace() argument 2", &with));
    if (a[2].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_int(x, a[2], &count));
    if (self.safe && !a[1].safe) {
        lb_jbuf b = {.x = x};
        lb_jval e;
        lb_jtext_escape(&b, with);
        LB_TRY(lb_jbuf_end(&b, &e));
        with = lb_jv_text(e);
    }
    LB_TRY(lb_jstr_replace(x, lb_jv_text(self), old, with, count, out));
    out->safe = self.safe;
    return LB_OK;
}

static lb_status m_removeprefix(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_str s = lb_jv_text(self), part;
    LB_TRY(lb_jarg_str(x, a[0], "removeprefix() argument", &part));
    return str_part(x, self, lb_str_sub(s, lb_str_starts(s, part) ? part.len : 0, s.len), out);
}

static lb_status m_removesuffix(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_str s = lb_jv_text(self), part;
    LB_TRY(lb_jarg_str(x, a[0], "removesuffix() argument", &part));
    return str_part(x, self, lb_str_sub(s, 0, s.len - (lb_str_ends(s, part) ? part.len : 0)), out);
}

/* ---- splitting and joining ---- */

static lb_status push_part(lb_jx *x, lb_jlist *l, lb_jval self, lb_str part) {
    lb_jval v;
    LB_TRY(lb_jx_steps(x, 1));
    LB_TRY(str_part(x, self, part, &v));
    return lb_jlist_push(x, l, v);
}

static lb_status split_space(lb_jx *x, lb_jval self, i64 max, lb_jlist *l) {
    lb_str s = lb_jstr_strip(lb_jv_text(self), LB_STR_NONE, true, false);
    while (s.len) {
        size_t end = 0, next = 0;
        if (max-- == 0) /* the rest keeps its inner white space */
            return push_part(x, l, self, lb_jstr_strip(s, LB_STR_NONE, false, true));
        while (next < s.len && !lb_jcp_is_space(lb_utf8_next(s, &next)))
            end = next;
        LB_TRY(push_part(x, l, self, lb_str_sub(s, 0, end)));
        s = lb_jstr_strip(lb_str_sub(s, end, s.len), LB_STR_NONE, true, false);
    }
    return LB_OK;
}

static lb_status rsplit_space(lb_jx *x, lb_jval self, i64 max, lb_jlist *l) {
    lb_str s = lb_jstr_strip(lb_jv_text(self), LB_STR_NONE, false, true);
    while (s.len) {
        size_t begin = s.len;
        if (max-- == 0)
            return push_part(x, l, self, lb_jstr_strip(s, LB_STR_NONE, true, false));
        while (begin > 0) {
            size_t p = begin - 1, at;
            while (p > 0 && ((u8)s.ptr[p] & 0xc0) == 0x80)
                p--;
            at = p;
            if (lb_jcp_is_space(lb_utf8_next(s, &at)))
                break;
            begin = p;
        }
        LB_TRY(push_part(x, l, self, lb_str_sub(s, begin, s.len)));
        s = lb_jstr_strip(lb_str_sub(s, 0, begin), LB_STR_NONE, false, true);
    }
    return LB_OK;
}

static lb_status split_by(lb_jx *x, lb_jval self, lb_str sep, i64 max, lb_jlist *l) {
    lb_str s = lb_jv_text(self);
    size_t pos;
    while (max-- != 0 && s.len && lb_str_find(s, sep, &pos)) {
        LB_TRY(push_part(x, l, self, lb_str_sub(s, 0, pos)));
        s = lb_str_sub(s, pos + sep.len, s.len);
    }
    return push_part(x, l, self, s);
}

static lb_status rsplit_by(lb_jx *x, lb_jval self, lb_str sep, i64 max, lb_jlist *l) {
    lb_str s = lb_jv_text(self);
    size_t pos;
    while (max-- != 0 && find_last(s, sep, &pos)) {
        LB_TRY(push_part(x, l, self, lb_str_sub(s, pos + sep.len, s.len)));
        s = lb_str_sub(s, 0, pos);
    }
    return push_part(x, l, self, s);
}

static lb_status split(lb_jx *x, lb_jval self, const lb_jval *a, bool right, lb_jval *out) {
    lb_jlist *l = lb_jlist_new(x, 0);
    lb_str sep = LB_STR_NONE;
    i64 max = -1;
    if (!l)
        return LB_E_LIMIT;
    if (lb_jarg_given(a[0])) {
        LB_TRY(lb_jarg_str(x, a[0], "the separator", &sep));
        if (!sep.len)
            return lb_jx_error(x, "empty separator");
    }
    if (a[1].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_int(x, a[1], &max));
    LB_TRY(charge(x, lb_jv_text(self), sep));
    if (!sep.len)
        LB_TRY(right ? rsplit_space(x, self, max, l) : split_space(x, self, max, l));
    else
        LB_TRY(right ? rsplit_by(x, self, sep, max, l) : split_by(x, self, sep, max, l));
    for (u32 i = 0; right && i < l->n / 2; i++) {
        lb_jval v = l->item[i];
        l->item[i] = l->item[l->n - 1 - i];
        l->item[l->n - 1 - i] = v;
    }
    *out = lb_jv_list(l);
    return LB_OK;
}

static lb_status m_split(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return split(x, self, a, false, out);
}

static lb_status m_rsplit(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return split(x, self, a, true, out);
}

static lb_status m_splitlines(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jlist *l = lb_jlist_new(x, 0);
    lb_str line, whole;
    size_t pos = 0;
    if (!l)
        return LB_E_LIMIT;
    while (lb_jstr_line(lb_jv_text(self), &pos, &line, &whole))
        LB_TRY(push_part(x, l, self, lb_jv_true(a[0]) ? whole : line));
    *out = lb_jv_list(l);
    return LB_OK;
}

static lb_status partition(lb_jx *x, lb_jval self, const lb_jval *a, bool right, lb_jval *out) {
    lb_jlist *l = lb_jlist_new(x, 3);
    lb_str s = lb_jv_text(self), sep;
    size_t pos;
    if (!l)
        return LB_E_LIMIT;
    LB_TRY(lb_jarg_str(x, a[0], "the separator", &sep));
    if (!sep.len)
        return lb_jx_error(x, "empty separator");
    LB_TRY(charge(x, s, sep));
    bool found = right ? find_last(s, sep, &pos) : lb_str_find(s, sep, &pos);
    lb_str none = LB_STR("");
    LB_TRY(push_part(x, l, self, found ? lb_str_sub(s, 0, pos) : right ? none : s));
    LB_TRY(push_part(x, l, self, found ? sep : none));
    LB_TRY(push_part(x, l, self, found ? lb_str_sub(s, pos + sep.len, s.len) : right ? s : none));
    *out = lb_jv_tuple(l);
    return LB_OK;
}

static lb_status m_partition(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return partition(x, self, a, false, out);
}

static lb_status m_rpartition(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    return partition(x, self, a, true, out);
}

static lb_status m_join(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_jlist *l;
    LB_TRY(lb_jv_to_list(x, a[0], &l));
    for (u32 i = 0; i < l->n; i++)
        if (l->item[i].type != LB_JT_STR && !self.safe)
            return lb_jx_error(x, "sequence item %u: expected str instance, %s found", i,
                               lb_jv_type_name(l->item[i]));
    for (u32 i = 0; i < l->n; i++) {
        lb_jval v;
        LB_TRY(lb_jv_to_str(x, l->item[i], &v));
        l->item[i] = (lb_jval){.type = LB_JT_STR, .safe = l->item[i].safe, .u.s = v.u.s};
    }
    for (u32 i = 0; i < l->n && !b.over; i++) {
        if (i)
            lb_jbuf_put(&b, lb_jv_text(self));
        if (self.safe && !l->item[i].safe)
            lb_jtext_escape(&b, lb_jv_text(l->item[i]));
        else
            lb_jbuf_put(&b, lb_jv_text(l->item[i]));
    }
    LB_TRY(lb_jbuf_end(&b, out));
    out->safe = self.safe;
    return LB_OK;
}

static lb_status m_format(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    return lb_jformat_braces(x, self, args, out);
}

static lb_status m_format_map(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    if (args->n != 1 || (args->kw && args->kw->n))
        return lb_jx_error(x, "format_map() takes exactly one argument");
    if (args->pos[0].type != LB_JT_DICT)
        return lb_jx_error(x, "format_map() takes a mapping");
    return lb_jformat_braces(x, self, &(lb_jargs){.kw = args->pos[0].u.dict}, out);
}

#define IS(name, what)                                                                  \
    static lb_status m_##name(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) { \
        (void)x, (void)a;                                                               \
        *out = lb_jv_bool(lb_jtext_is(lb_jv_text(self), (what)));                       \
        return LB_OK;                                                                   \
    }

IS(isalnum, LB_JIS_ALNUM)
IS(isalpha, LB_JIS_ALPHA)
IS(isascii, LB_JIS_ASCII)
IS(isdecimal, LB_JIS_DECIMAL)
IS(isdigit, LB_JIS_DIGIT)
IS(isidentifier, LB_JIS_IDENTIFIER)
IS(islower, LB_JIS_LOWER)
IS(isnumeric, LB_JIS_NUMERIC)
IS(isprintable, LB_JIS_PRINTABLE)
IS(isspace, LB_JIS_SPACE)
IS(istitle, LB_JIS_TITLE)
IS(isupper, LB_JIS_UPPER)

static const lb_jdef defs[] = {
    {"strip", m_strip, NULL, "chars", 0, true},
    {"lstrip", m_lstrip, NULL, "chars", 0, true},
    {"rstrip", m_rstrip, NULL, "chars", 0, true},
    {"split", m_split, NULL, "sep maxsplit", 0, false},
    {"rsplit", m_rsplit, NULL, "sep maxsplit", 0, false},
    {"splitlines", m_splitlines, NULL, "keepends", 0, false},
    {"replace", m_replace, NULL, "old new count", 2, true},
    {"startswith", m_startswith, NULL, "prefix start end", 1, true},
    {"endswith", m_endswith, NULL, "suffix start end", 1, true},
    {"upper", m_upper, NULL, "", 0, true},
    {"lower", m_lower, NULL, "", 0, true},
    {"title", m_title, NULL, "", 0, true},
    {"capitalize", m_capitalize, NULL, "", 0, true},
    {"swapcase", m_swapcase, NULL, "", 0, true},
    {"casefold", m_casefold, NULL, "", 0, true},
    {"find", m_find, NULL, "sub start end", 1, true},
    {"rfind", m_rfind, NULL, "sub start end", 1, true},
    {"index", m_index, NULL, "sub start end", 1, true},
    {"rindex", m_rindex, NULL, "sub start end", 1, true},
    {"count", m_count, NULL, "sub start end", 1, true},
    {"join", m_join, NULL, "iterable", 1, true},
    {"format", NULL, m_format, NULL, 0, false},
    {"format_map", NULL, m_format_map, NULL, 0, false},
    {"center", m_center, NULL, "width fillchar", 1, true},
    {"ljust", m_ljust, NULL, "width fillchar", 1, true},
    {"rjust", m_rjust, NULL, "width fillchar", 1, true},
    {"zfill", m_zfill, NULL, "width", 1, true},
    {"expandtabs", m_expandtabs, NULL, "tabsize", 0, false},
    {"partition", m_partition, NULL, "sep", 1, true},
    {"rpartition", m_rpartition, NULL, "sep", 1, true},
    {"removeprefix", m_removeprefix, NULL, "prefix", 1, true},
    {"removesuffix", m_removesuffix, NULL, "suffix", 1, true},
    {"isalnum", m_isalnum, NULL, "", 0, true},
    {"isalpha", m_isalpha, NULL, "", 0, true},
    {"isascii", m_isascii, NULL, "", 0, true},
    {"isdecimal", m_isdecimal, NULL, "", 0, true},
    {"isdigit", m_isdigit, NULL, "", 0, true},
    {"isidentifier", m_isidentifier, NULL, "", 0, true},
    {"islower", m_islower, NULL, "", 0, true},
    {"isnumeric", m_isnumeric, NULL, "", 0, true},
    {"isprintable", m_isprintable, NULL, "", 0, true},
    {"isspace", m_isspace, NULL, "", 0, true},
    {"istitle", m_istitle, NULL, "", 0, true},
    {"isupper", m_isupper, NULL, "", 0, true},
    {"encode", NULL, NULL, NULL, 0, true},
    {"translate", NULL, NULL, NULL, 0, true},
    {"maketrans", NULL, NULL, NULL, 0, true},
};
const lb_jtable lb_jmethods_str = {defs, LB_LEN(defs)};
