/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_filters_text.c: filters that make text. */
#include "text/bytelevel.h"
#include "text/jinja_builtin.h"
#include "text/jinja_run.h"
#include "text/jinja_text.h"
#include <stdio.h>

lb_status lb_jarg_int(lb_jx *x, lb_jval v, i64 *out) {
    if (v.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, v);
    return lb_jv_as_int(v, out) ? LB_OK
                                : lb_jx_error(x, "'%s' object cannot be interpreted as an integer",
                                              lb_jv_type_name(v));
}

lb_status lb_jarg_str(lb_jx *x, lb_jval v, const char *what, lb_str *out) {
    if (v.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, v);
    if (v.type != LB_JT_STR)
        return lb_jx_error(x, "%s must be str, not %s", what, lb_jv_type_name(v));
    *out = lb_jv_text(v);
    return LB_OK;
}

lb_status lb_jarg_text(lb_jx *x, lb_jval v, lb_str *out) {
    LB_TRY(lb_jv_to_str(x, v, &v));
    *out = lb_jv_text(v);
    return LB_OK;
}

static lb_status change_case(lb_jx *x, lb_jval self, lb_jcase how, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_str s;
    LB_TRY(lb_jarg_text(x, self, &s));
    lb_jtext_case(&b, s, how);
    LB_TRY(lb_jbuf_end(&b, out));
    out->safe = self.type == LB_JT_STR && self.safe;
    return LB_OK;
}

static lb_status f_upper(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    return change_case(x, self, LB_JCASE_UPPER, out);
}

static lb_status f_lower(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    return change_case(x, self, LB_JCASE_LOWER, out);
}

static lb_status f_capitalize(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    return change_case(x, self, LB_JCASE_CAPITALIZE, out);
}

/* Words begin after white space and - ( { [ <. */
static lb_status f_title(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_str s;
    size_t begin = 0;
    (void)a;
    LB_TRY(lb_jarg_text(x, self, &s));
    for (size_t i = 0; i <= s.len;) {
        size_t at = i;
        u32 cp = i < s.len ? lb_utf8_next(s, &i) : ' ';
        if (at == s.len)
            i = at + 1;
        if (!lb_jcp_is_space(cp) && (cp >= 0x80 || !strchr("-({[<", (int)cp) || !cp))
            continue;
        if (at > begin) { /* item[0].upper() + item[1:].lower() */
            lb_str word = lb_str_sub(s, begin, at);
            size_t first = 0;
            (void)lb_utf8_next(word, &first);
            lb_jtext_case(&b, lb_str_sub(word, 0, first), LB_JCASE_UPPER);
            lb_jtext_case(&b, lb_str_sub(word, first, word.len), LB_JCASE_LOWER);
        }
        if (at < s.len)
            lb_jbuf_put(&b, lb_str_sub(s, at, i));
        begin = i;
    }
    return lb_jbuf_end(&b, out);
}

static lb_status f_trim(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_str s, chars = LB_STR_NONE;
    LB_TRY(lb_jarg_text(x, self, &s));
    if (lb_jarg_given(a[0]))
        LB_TRY(lb_jarg_str(x, a[0], "strip arg", &chars));
    LB_TRY(lb_jv_view(x, lb_jstr_strip(s, chars, true, true), out));
    out->safe = self.type == LB_JT_STR && self.safe;
    return LB_OK;
}

static lb_status f_string(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    *out = self;
    return self.type == LB_JT_STR ? LB_OK : lb_jv_to_str(x, self, out);
}

static lb_status f_safe(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    LB_TRY(lb_jv_to_str(x, self, out));
    out->safe = true;
    return LB_OK;
}

static lb_status f_escape(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_str s;
    (void)a;
    *out = self;
    if (self.type == LB_JT_STR && self.safe)
        return LB_OK;
    LB_TRY(lb_jarg_text(x, self, &s));
    lb_jtext_escape(&b, s);
    LB_TRY(lb_jbuf_end(&b, out));
    out->safe = true;
    return LB_OK;
}

static lb_status f_forceescape(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    if (self.type == LB_JT_STR)
        self.safe = false;
    return f_escape(x, self, a, out);
}

static lb_status f_replace(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_str s, old, new;
    i64 count = -1;
    LB_TRY(lb_jarg_text(x, self, &s));
    LB_TRY(lb_jarg_text(x, a[0], &old));
    LB_TRY(lb_jarg_text(x, a[1], &new));
    if (lb_jarg_given(a[2]))
        LB_TRY(lb_jarg_int(x, a[2], &count));
    return lb_jstr_replace(x, s, old, new, count, out);
}

static lb_status f_center(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_jval s;
    i64 width = 80;
    LB_TRY(lb_jv_to_str(x, self, &s));
    if (a[0].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_int(x, a[0], &width));
    lb_jstr_pad(&b, s, width, LB_STR(" "), 0);
    return lb_jbuf_end(&b, out);
}

static lb_status f_indent(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x}, by = {.x = x};
    lb_jval width = a[0].type == LB_JT_MISSING ? lb_jv_int(4) : a[0], indent;
    bool first = lb_jv_true(a[1]), blank = lb_jv_true(a[2]);
    lb_str s, line, whole;
    i64 n;
    if (width.type == LB_JT_STR) {
        indent = width;
    } else {
        LB_TRY(lb_jarg_int(x, width, &n));
        lb_jbuf_fill(&by, LB_STR(" "), n);
        LB_TRY(lb_jbuf_end(&by, &indent));
    }
    LB_TRY(lb_jarg_str(x, self, "indent value", &s));
    size_t pos = 0;
    bool begin = true, ended = true;
    while (lb_jstr_line(s, &pos, &line, &whole) || (ended && begin)) {
        bool empty = pos == 0 && s.len == 0;
        if (empty)
            line = whole = LB_STR_NONE;
        if (!begin)
            lb_jbuf_put_c(&b, "\n");
        if (begin ? first : blank || line.len)
            lb_jbuf_put(&b, lb_jv_text(indent));
        lb_jbuf_put(&b, line);
        ended = whole.len > line.len;
        begin = false;
    }
    if (s.len && ended) { /* the line end that the filter adds makes one line more */
        lb_jbuf_put_c(&b, "\n");
        if (blank)
            lb_jbuf_put(&b, lb_jv_text(indent));
    }
    LB_TRY(lb_jbuf_end(&b, out));
    out->safe = self.safe;
    return LB_OK;
}

static lb_status f_truncate(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    i64 length = 255, leeway = 5, keep;
    lb_str s, end = LB_STR("..."), part;
    u64 n;
    if (a[0].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_int(x, a[0], &length));
    if (a[2].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_str(x, a[2], "truncate end", &end));
    if (lb_jarg_given(a[3]))
        LB_TRY(lb_jarg_int(x, a[3], &leeway));
    keep = length - (i64)lb_jstr_count(end);
    if (keep < 0 || leeway < 0)
        return lb_jx_error(x, "truncate: expected length >= %u and leeway >= 0",
                           lb_jstr_count(end));
    if (!lb_jv_len(self, &n))
        return lb_jx_error(x, "object of type '%s' has no len()", lb_jv_type_name(self));
    *out = self;
    if ((i64)n - length <= leeway)
        return LB_OK;
    LB_TRY(lb_jarg_str(x, self, "truncate value", &s));
    part = lb_str_sub(s, 0, lb_jstr_at(s, (u64)keep));
    if (!lb_jv_true(a[1]))
        for (size_t i = part.len; i > 0; i--)
            if (part.ptr[i - 1] == ' ') {
                part.len = i - 1;
                break;
            }
    lb_jbuf b = {.x = x};
    lb_jbuf_put(&b, part);
    lb_jbuf_put(&b, end);
    return lb_jbuf_end(&b, out);
}

static lb_status f_wordcount(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_str s;
    i64 n = 0;
    (void)a;
    LB_TRY(lb_jarg_text(x, self, &s));
    bool inside = false;
    for (size_t i = 0; i < s.len;) {
        bool word = lb_jcp_is_word(lb_utf8_next(s, &i));
        n += word && !inside;
        inside = word;
    }
    *out = lb_jv_int(n);
    return LB_OK;
}

static void quote_url(lb_jbuf *b, lb_str s, bool query) {
    for (size_t i = 0; i < s.len; i++) {
        u8 c = (u8)s.ptr[i];
        char text[4];
        bool plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
                     (c && strchr("_.-~", c)) || (c == '/' && !query);
        if (plain)
            lb_jbuf_put(b, lb_str_sub(s, i, i + 1));
        else if (c == ' ' && query)
            lb_jbuf_put_c(b, "+");
        else {
            (void)snprintf(text, sizeof text, "%%%02X", c);
            lb_jbuf_put_c(b, text);
        }
    }
}

static lb_status f_urlencode(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_jlist *pairs, *pair;
    lb_str s;
    (void)a;
    if (self.type == LB_JT_STR || !lb_jv_is_iterable(self)) {
        LB_TRY(lb_jarg_text(x, self, &s));
        quote_url(&b, s, false);
        return lb_jbuf_end(&b, out);
    }
    if (self.type == LB_JT_DICT)
        LB_TRY(lb_jv_view_of(x, self.u.dict, LB_JVIEW_ITEMS, &self));
    LB_TRY(lb_jv_to_list(x, self, &pairs));
    for (u32 i = 0; i < pairs->n; i++) {
        LB_TRY(lb_jv_to_list(x, pairs->item[i], &pair));
        if (pair->n != 2)
            return lb_jx_error(x, "urlencode: pairs are expected");
        lb_jval k, v;
        LB_TRY(lb_jv_to_str(x, pair->item[0], &k));
        LB_TRY(lb_jv_to_str(x, pair->item[1], &v));
        pair->item[0] = k;
        pair->item[1] = v;
        pairs->item[i] = lb_jv_list(pair);
    }
    for (u32 i = 0; i < pairs->n; i++) {
        pair = pairs->item[i].u.list;
        lb_jbuf_put_c(&b, i ? "&" : "");
        quote_url(&b, lb_jv_text(pair->item[0]), true);
        lb_jbuf_put_c(&b, "=");
        quote_url(&b, lb_jv_text(pair->item[1]), true);
    }
    return lb_jbuf_end(&b, out);
}

static lb_status f_xmlattr(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x};
    bool space = a[0].type == LB_JT_MISSING || lb_jv_true(a[0]);
    if (self.type != LB_JT_DICT)
        return lb_jx_error(x, "xmlattr: a mapping is expected, not %s", lb_jv_type_name(self));
    for (u32 i = 0; i < self.u.dict->n; i++) {
        const lb_jpair *p = &self.u.dict->pair[i];
        lb_str key, value;
        if (!lb_jarg_given(p->value) || p->value.type == LB_JT_UNDEF)
            continue;
        if (p->key.type != LB_JT_STR || lb_jv_to_str(x, p->value, &(lb_jval){0}) != LB_OK) {
            lb_jbuf_drop(&b);
            return lb_jx_error(x, "xmlattr: a key is no string");
        }
        key = lb_jv_text(p->key);
        for (size_t k = 0; k < key.len; k++)
            if (!key.ptr[k] || strchr(" \t\n\r\f\v/>=", key.ptr[k])) {
                lb_jbuf_drop(&b);
                return lb_jx_error(x, "Invalid character in attribute name");
            }
        lb_jval text, e;
        if (f_escape(x, p->value, NULL, &e) != LB_OK || f_escape(x, p->key, NULL, &text) != LB_OK) {
            lb_jbuf_drop(&b);
            return LB_E_LIMIT;
        }
        value = lb_jv_text(e);
        lb_jbuf_put_c(&b, b.b.len || space ? " " : "");
        lb_jbuf_put(&b, lb_jv_text(text));
        lb_jbuf_put_c(&b, "=\"");
        lb_jbuf_put(&b, value);
        lb_jbuf_put_c(&b, "\"");
    }
    return lb_jbuf_end(&b, out);
}

static lb_status f_format(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    lb_jval with, text = self;
    if (args->n && args->kw && args->kw->n)
        return lb_jx_error(x, "can't handle positional and keyword arguments at the same time");
    if (args->kw && args->kw->n) {
        with = lb_jv_dict(args->kw);
    } else {
        lb_jlist *l = lb_jlist_new(x, args->n);
        if (!l)
            return LB_E_LIMIT;
        for (u32 i = 0; i < args->n; i++)
            l->item[l->n++] = args->pos[i];
        with = lb_jv_tuple(l);
    }
    if (text.type != LB_JT_STR)
        LB_TRY(lb_jv_to_str(x, self, &text));
    return lb_jformat_percent(x, text, with, out);
}

static lb_status f_filesizeformat(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    double bytes, base = lb_jv_true(a[0]) ? 1024 : 1000, unit;
    char text[64];
    const char *prefix = "kMGTPEZY";
    if (self.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, self);
    bool text_like = self.type == LB_JT_STR || self.type == LB_JT_BIG;
    if (text_like ? !lb_jstr_parse_float(lb_jv_text(self), &bytes) : !lb_jv_is_number(self))
        return lb_jx_error(x, "could not convert %s to float", lb_jv_type_name(self));
    if (!text_like)
        bytes = lb_jv_as_float(self);
    if (bytes == 1)
        return lb_jv_str_c(x, "1 Byte", out);
    if (!(bytes >= base)) {
        if (bytes != bytes || bytes < -9e15)
            return lb_jx_error(x, "cannot convert float to integer");
        (void)snprintf(text, sizeof text, "%lld Bytes", (long long)bytes);
        return lb_jv_str_c(x, text, out);
    }
    unit = base * base;
    for (; prefix[1] && bytes >= unit; prefix++)
        unit *= base;
    (void)snprintf(text, sizeof text, "%.1f %c%sB", base * bytes / unit,
                   base == 1024 && *prefix == 'k' ? 'K' : *prefix, base == 1024 ? "i" : "");
    return lb_jv_str_c(x, text, out);
}

static const lb_jdef defs[] = {
    {"upper", f_upper, NULL, "", 0, false},
    {"lower", f_lower, NULL, "", 0, false},
    {"capitalize", f_capitalize, NULL, "", 0, false},
    {"title", f_title, NULL, "", 0, false},
    {"trim", f_trim, NULL, "chars", 0, false},
    {"string", f_string, NULL, "", 0, false},
    {"safe", f_safe, NULL, "", 0, false},
    {"escape", f_escape, NULL, "", 0, false},
    {"e", f_escape, NULL, "", 0, false},
    {"forceescape", f_forceescape, NULL, "", 0, false},
    {"replace", f_replace, NULL, "old new count", 2, false},
    {"center", f_center, NULL, "width", 0, false},
    {"indent", f_indent, NULL, "width first blank", 0, false},
    {"truncate", f_truncate, NULL, "length killwords end leeway", 0, false},
    {"wordcount", f_wordcount, NULL, "", 0, false},
    {"wordwrap", lb_jfilter_wordwrap, NULL, "width break_long_words wrapstring break_on_hyphens", 0,
     false},
    {"urlencode", f_urlencode, NULL, "", 0, false},
    {"xmlattr", f_xmlattr, NULL, "autospace", 0, false},
    {"format", NULL, f_format, NULL, 0, false},
    {"filesizeformat", f_filesizeformat, NULL, "binary", 0, false},
    {"striptags", NULL, NULL, NULL, 0, false},
    {"urlize", NULL, NULL, NULL, 0, false},
};
const lb_jtable lb_jfilters_text = {defs, LB_LEN(defs)};
