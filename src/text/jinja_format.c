/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_format.c: "%s" % values, as CPython's printf-style formatting. */
#include "text/jinja_builtin.h"
#include "text/jinja_format.h"
#include "text/jinja_text.h"
#include "text/bytelevel.h"
#include <math.h>
#include <stdio.h>

typedef struct percent {
    lb_jx *x;
    lb_jbuf b;
    lb_jval args;
    bool safe, mapping, single_used;
    u32 next; /* of a tuple */
    lb_jspec spec;
    bool has_key;
    lb_jval key_value;
} percent;

lb_status lb_jformat_text(lb_jx *x, lb_jval v, char how, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_status st;
    if (how == 's')
        return lb_jv_to_str(x, v, out);
    st = lb_jv_put_repr(&b, v);
    if (st != LB_OK) {
        lb_jbuf_drop(&b);
        return st;
    }
    LB_TRY(lb_jbuf_end(&b, out));
    if (how != 'a')
        return LB_OK;
    lb_jbuf ascii = {.x = x};
    lb_str s = lb_jv_text(*out);
    for (size_t i = 0; i < s.len && !ascii.over;) {
        char text[16];
        u32 cp = lb_utf8_next(s, &i);
        (void)snprintf(text, sizeof text,
                       cp < 0x80      ? "%c"
                       : cp < 0x100   ? "\\x%02x"
                       : cp < 0x10000 ? "\\u%04x"
                                      : "\\U%08x",
                       cp);
        lb_jbuf_put_c(&ascii, text);
    }
    return lb_jbuf_end(&ascii, out);
}

static lb_status next_arg(percent *p, lb_jval *out) {
    if (p->has_key) {
        *out = p->key_value;
        return LB_OK;
    }
    if (p->args.type == LB_JT_TUPLE || p->args.type == LB_JT_GROUP) {
        if (p->next >= p->args.u.list->n)
            return lb_jx_error(p->x, "not enough arguments for format string");
        *out = p->args.u.list->item[p->next++];
        return LB_OK;
    }
    if (p->single_used)
        return lb_jx_error(p->x, "not enough arguments for format string");
    p->single_used = true;
    *out = p->args;
    return LB_OK;
}

/* "(name)" of "%(name)s". */
static lb_status take_key(percent *p, lb_str s, size_t *i) {
    size_t begin = ++*i;
    u32 depth = 1;
    lb_jval key;
    const lb_jval *v;
    if (!p->mapping)
        return lb_jx_error(p->x, "format requires a mapping");
    for (; *i < s.len && depth; ++*i)
        depth += (u32)(s.ptr[*i] == '(') - (u32)(s.ptr[*i] == ')');
    if (depth)
        return lb_jx_error(p->x, "incomplete format key");
    LB_TRY(lb_jv_view(p->x, lb_str_sub(s, begin, *i - 1), &key));
    if (p->args.type == LB_JT_UNDEF)
        return lb_jx_undefined(p->x, p->args);
    v = p->args.type == LB_JT_DICT ? lb_jdict_find(p->x, p->args.u.dict, key) : NULL;
    if (!v)
        return lb_jx_error(p->x, "'%.*s' is not among the values to be formatted",
                           LB_FMT(lb_jv_text(key)));
    p->has_key = true;
    p->key_value = *v;
    return LB_OK;
}

/* A width or precision: digits, or "*" for an argument. */
static lb_status take_size(percent *p, lb_str s, size_t *i, i64 *out) {
    lb_jval v;
    size_t begin = *i;
    if (*i < s.len && s.ptr[*i] == '*') {
        ++*i;
        LB_TRY(next_arg(p, &v));
        if (!lb_jv_as_int(v, out))
            return lb_jx_error(p->x, "* wants int");
        return LB_OK;
    }
    while (*i < s.len && s.ptr[*i] >= '0' && s.ptr[*i] <= '9')
        ++*i;
    *out = 0;
    if (*i > begin && !lb_jstr_to_i64(lb_str_sub(s, begin, *i), 10, out))
        return lb_jx_error(p->x, "width too big");
    return LB_OK;
}

static lb_status take_spec(percent *p, lb_str s, size_t *i) {
    static const char flags[] = "-+ #0";
    p->spec = (lb_jspec){.precision = -1, .fill = ' ', .align = '>', .sign = '-'};
    p->has_key = false;
    if (*i < s.len && s.ptr[*i] == '(')
        LB_TRY(take_key(p, s, i));
    for (; *i < s.len && s.ptr[*i] && strchr(flags, s.ptr[*i]); ++*i)
        switch (s.ptr[*i]) {
        case '-':
            p->spec.align = '<';
            break;
        case '+':
            p->spec.sign = '+';
            break;
        case ' ':
            p->spec.sign = p->spec.sign == '+' ? '+' : ' ';
            break;
        case '#':
            p->spec.alternate = true;
            break;
        default:
            p->spec.zero = true;
        }
    LB_TRY(take_size(p, s, i, &p->spec.width));
    if (p->spec.width < 0) {
        p->spec.align = '<';
        p->spec.width = -p->spec.width;
    }
    if (*i < s.len && s.ptr[*i] == '.') {
        ++*i;
        LB_TRY(take_size(p, s, i, &p->spec.precision));
        p->spec.precision = LB_MAX(p->spec.precision, 0);
    }
    if (*i < s.len && strchr("hlL", s.ptr[*i]))
        ++*i;
    if (*i >= s.len)
        return lb_jx_error(p->x, "incomplete format");
    p->spec.type = s.ptr[(*i)++];
    return LB_OK;
}

static lb_status put_text(percent *p, lb_jval v) {
    lb_jval text;
    lb_jspec spec = p->spec;
    LB_TRY(lb_jformat_text(p->x, v, spec.type, &text));
    if (p->safe && !(v.type == LB_JT_STR && v.safe)) {
        lb_jbuf b = {.x = p->x};
        lb_jtext_escape(&b, lb_jv_text(text));
        LB_TRY(lb_jbuf_end(&b, &text));
    }
    return lb_jformat_str(&p->b, text, &spec);
}

static lb_status put_char(percent *p, lb_jval v) {
    lb_jbuf b = {.x = p->x};
    lb_jval text = v;
    i64 i;
    if (lb_jv_as_int(v, &i)) {
        if (i < 0 || i > 0x10ffff)
            return lb_jx_error(p->x, "%%c arg not in range(0x110000)");
        lb_jbuf_put_cp(&b, (u32)i);
        LB_TRY(lb_jbuf_end(&b, &text));
    } else if (v.type != LB_JT_STR || lb_jv_chars(v) != 1) {
        return lb_jx_error(p->x, "%%c requires int or char");
    }
    p->spec.precision = -1;
    return lb_jformat_str(&p->b, text, &p->spec);
}

static lb_status put_number(percent *p, lb_jval v) {
    bool as_float = strchr("eEfFgG", p->spec.type) != NULL;
    bool whole = v.type == LB_JT_INT || v.type == LB_JT_BOOL || v.type == LB_JT_BIG;
    if (v.type == LB_JT_UNDEF)
        return lb_jx_undefined(p->x, v);
    if (p->spec.zero && p->spec.align != '<') {
        p->spec.fill = '0';
        p->spec.align = '=';
    }
    if (as_float) {
        double f;
        if (v.type == LB_JT_BIG && lb_jstr_parse_float(lb_jv_text(v), &f))
            v = lb_jv_float(f);
        if (!lb_jv_is_number(v))
            return lb_jx_error(p->x, "must be real number, not %s", lb_jv_type_name(v));
        if (p->spec.precision < 0)
            p->spec.precision = 6;
        return lb_jformat_float(&p->b, lb_jv_as_float(v), &p->spec);
    }
    if (v.type == LB_JT_FLOAT && strchr("diu", p->spec.type)) {
        if (isnan(v.u.f) || isinf(v.u.f) || fabs(v.u.f) > 9.2e18)
            return lb_jx_error(p->x, "cannot convert this float to integer");
        v = lb_jv_int((i64)v.u.f);
        whole = true;
    }
    if (!whole)
        return lb_jx_error(p->x, "%%%c format: a real number is required, not %s", p->spec.type,
                           lb_jv_type_name(v));
    if (strchr("iu", p->spec.type))
        p->spec.type = 'd';
    return lb_jformat_int(&p->b, v, &p->spec);
}

static lb_status put_one(percent *p) {
    lb_jval v;
    if (p->spec.type == '%') {
        lb_jbuf_put_c(&p->b, "%");
        return LB_OK;
    }
    if (!p->spec.type || !strchr("sracdiuoxXeEfFgG", p->spec.type))
        return lb_jx_error(p->x, "unsupported format character (0x%x)", (u8)p->spec.type);
    LB_TRY(next_arg(p, &v));
    if (strchr("sra", p->spec.type))
        return put_text(p, v);
    return p->spec.type == 'c' ? put_char(p, v) : put_number(p, v);
}

static lb_status run(percent *p, lb_str s) {
    for (size_t i = 0; i < s.len && !p->b.over;) {
        const char *at = memchr(s.ptr + i, '%', s.len - i);
        size_t end = at ? (size_t)(at - s.ptr) : s.len;
        lb_jbuf_put(&p->b, lb_str_sub(s, i, end));
        i = end + 1;
        if (!at)
            break;
        LB_TRY(lb_jx_steps(p->x, 1));
        LB_TRY(take_spec(p, s, &i));
        LB_TRY(put_one(p));
    }
    bool tuple = p->args.type == LB_JT_TUPLE || p->args.type == LB_JT_GROUP;
    if (tuple ? p->next < p->args.u.list->n : !p->single_used && !p->mapping)
        return lb_jx_error(p->x, "not all arguments converted during string formatting");
    return LB_OK;
}

lb_status lb_jformat_percent(lb_jx *x, lb_jval fmt, lb_jval args, lb_jval *out) {
    percent p = {.x = x, .b = {.x = x}, .args = args, .safe = fmt.safe};
    lb_status st;
    p.mapping = args.type == LB_JT_DICT || args.type == LB_JT_LIST || args.type == LB_JT_RANGE ||
                args.type == LB_JT_UNDEF;
    st = run(&p, lb_jv_text(fmt));
    if (st != LB_OK) {
        lb_jbuf_drop(&p.b);
        return st;
    }
    LB_TRY(lb_jbuf_end(&p.b, out));
    out->safe = fmt.safe;
    return LB_OK;
}
