/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_braces.c: "{}".format(values): fields, and how a value fills one (Python's format
 * specifications). */
#include "text/bytelevel.h"
#include "text/jinja_builtin.h"
#include "text/jinja_format.h"
#include "text/jinja_text.h"
#include <math.h>
#include <stdio.h>

#define NUMBER_TEXT 512 /* %f of the largest double has 309 digits before its point */

/* ---- values in a field ---- */

static void put_fill(lb_jbuf *b, u32 cp, i64 n) {
    lb_buf text = {0};
    lb_utf8_put(&text, cp);
    if (text.oom)
        b->b.oom = true;
    else
        lb_jbuf_fill(b, lb_buf_str(&text), n);
    lb_buf_deinit(&text);
}

/* prefix (sign, 0x) and body in a field; n: characters of both. */
static void put_field(lb_jbuf *b, lb_str prefix, lb_str body, i64 n, const lb_jspec *s) {
    i64 pad = s->width > n ? s->width - n : 0;
    i64 left = s->align == '>' ? pad : s->align == '^' ? pad / 2 : 0;
    put_fill(b, s->fill, left);
    lb_jbuf_put(b, prefix);
    if (s->align == '=')
        put_fill(b, s->fill, pad);
    lb_jbuf_put(b, body);
    if (s->align == '<' || s->align == '^')
        put_fill(b, s->fill, pad - left);
}

lb_status lb_jformat_str(lb_jbuf *b, lb_jval v, const lb_jspec *s) {
    lb_str text = lb_jv_text(v);
    i64 n = (i64)lb_jv_chars(v);
    if (s->precision >= 0 && s->precision < n) {
        text = lb_str_sub(text, 0, lb_jstr_at(text, (u64)s->precision));
        n = s->precision;
    }
    put_field(b, LB_STR_NONE, text, n, s);
    return LB_OK;
}

/* Digits with separators every `every` of them, in out; the rest (a fraction) follows. */
static size_t group(const char *in, char *out, char sep, u32 every) {
    size_t n = 0, w = 0;
    while (in[n] && ((in[n] >= '0' && in[n] <= '9') || (every == 4 && lb_jdigit(in[n]) < 16)))
        n++;
    for (size_t i = 0; i < n; i++) {
        if (i && (n - i) % every == 0)
            out[w++] = sep;
        out[w++] = in[i];
    }
    size_t rest = strlen(in + n);
    memcpy(out + w, in + n, rest + 1);
    return w + rest;
}

static lb_status put_digits(lb_jbuf *b, bool minus, const char *mark, const char *digits,
                            const lb_jspec *s) {
    char prefix[8], grouped[2 * NUMBER_TEXT];
    size_t len = strlen(digits);
    (void)snprintf(prefix, sizeof prefix, "%s%s",
                   minus            ? "-"
                   : s->sign == '+' ? "+"
                   : s->sign == ' ' ? " "
                                    : "",
                   mark);
    if (s->grouping) {
        if (s->fill == '0' && s->align == '=' && s->width)
            return lb_jx_fail(b->x, LB_E_UNSUPPORTED, "a format with both grouping and zeros");
        len = group(digits, grouped, s->grouping,
                    s->type == 'x' || s->type == 'X' || s->type == 'b' || s->type == 'o' ? 4 : 3);
        digits = grouped;
    }
    put_field(b, lb_str_c(prefix), (lb_str){digits, len}, (i64)(strlen(prefix) + len), s);
    return LB_OK;
}

lb_status lb_jformat_int(lb_jbuf *b, lb_jval v, const lb_jspec *s) {
    char digits[NUMBER_TEXT], *p = digits + sizeof digits;
    const char *mark = "";
    u32 base = s->type == 'x' || s->type == 'X' ? 16 : s->type == 'o' ? 8 : s->type == 'b' ? 2 : 10;
    i64 i = 0;
    if (v.type == LB_JT_BIG) {
        lb_str text = lb_jv_text(v);
        bool minus = text.ptr[0] == '-';
        if (base != 10 || text.len >= sizeof digits)
            return lb_jx_fail(b->x, LB_E_UNSUPPORTED, "an integer of more than 64 bits");
        memcpy(digits, text.ptr + minus, text.len - minus);
        digits[text.len - minus] = '\0';
        return put_digits(b, minus, "", digits, s);
    }
    (void)lb_jv_as_int(v, &i);
    u64 u = i < 0 ? (u64)0 - (u64)i : (u64)i;
    *--p = '\0';
    do
        *--p = (s->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
    while (u /= base);
    while (s->precision > (i64)strlen(p) && s->precision < NUMBER_TEXT - 2)
        *--p = '0';
    if (s->alternate)
        mark = s->type == 'x'   ? "0x"
               : s->type == 'X' ? "0X"
               : base == 8      ? "0o"
               : base == 2      ? "0b"
                                : "";
    return put_digits(b, i < 0, mark, p, s);
}

/* The type that formatting without one means: repr, or %g that keeps a point. */
static void plain_float(double f, i64 precision, lb_jbuf *text) {
    char digits[NUMBER_TEXT];
    if (precision < 0) {
        lb_jv_put_float(text, f);
        return;
    }
    (void)snprintf(digits, sizeof digits, "%.*g", (int)LB_MAX(precision, 1), f);
    lb_jbuf_put_c(text, digits);
    if (!strpbrk(digits, ".e"))
        lb_jbuf_put_c(text, ".0");
}

lb_status lb_jformat_float(lb_jbuf *b, double f, const lb_jspec *s) {
    char digits[NUMBER_TEXT], format[16];
    bool percent = s->type == '%', minus = signbit(f) && !isnan(f), upper;
    char type = percent ? 'f' : s->type == 'n' ? 'g' : s->type;
    i64 precision = s->precision < 0 && s->type ? 6 : s->precision;
    lb_status st;
    f = percent ? f * 100 : f;
    f = minus ? -f : f;
    upper = type == 'E' || type == 'F' || type == 'G';
    if (isnan(f) || isinf(f)) {
        (void)snprintf(digits, sizeof digits, "%s%s",
                       isnan(f) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf"),
                       percent ? "%" : "");
        return put_digits(b, minus, "", digits, s);
    }
    if (precision > NUMBER_TEXT - 350)
        return lb_jx_fail(b->x, LB_E_LIMIT, "a precision of more than %d digits",
                          NUMBER_TEXT - 350);
    if (!type) {
        lb_jbuf text = {.x = b->x};
        lb_jval v;
        plain_float(f, precision, &text);
        st = lb_jbuf_end(&text, &v);
        if (st != LB_OK)
            return st;
        (void)snprintf(digits, sizeof digits, "%.*s", LB_FMT(lb_jv_text(v)));
        return put_digits(b, minus, "", digits, s);
    }
    (void)snprintf(format, sizeof format, "%%%s.*%c", s->alternate ? "#" : "", type);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(digits, sizeof digits - 1, format, (int)precision, f);
#pragma GCC diagnostic pop
    if (percent)
        strncat(digits, "%", 2);
    return put_digits(b, minus, "", digits, s);
}

/* ---- "[[fill]align][sign][#][0][width][grouping][.precision][type]" ---- */

static bool is_align(char c) {
    return c && strchr("<>=^", c);
}

static lb_status number(lb_jx *x, lb_str s, size_t *i, i64 *out) {
    size_t begin = *i;
    while (*i < s.len && s.ptr[*i] >= '0' && s.ptr[*i] <= '9')
        ++*i;
    if (*i > begin && !lb_jstr_to_i64(lb_str_sub(s, begin, *i), 10, out))
        return lb_jx_error(x, "Too many decimal digits in format string");
    return LB_OK;
}

static lb_status parse_spec(lb_jx *x, lb_str s, lb_jspec *out) {
    size_t i = 0, after = 0;
    *out = (lb_jspec){.fill = ' ', .sign = '-', .precision = -1};
    u32 first = s.len ? lb_utf8_next(s, &after) : 0;
    if (after < s.len && is_align(s.ptr[after])) {
        out->fill = first;
        out->align = s.ptr[after];
        i = after + 1;
    } else if (s.len && is_align(s.ptr[0])) {
        out->align = s.ptr[i++];
    }
    if (i < s.len && (s.ptr[i] == '+' || s.ptr[i] == '-' || s.ptr[i] == ' '))
        out->sign = s.ptr[i++];
    if (i < s.len && s.ptr[i] == '#') {
        out->alternate = true;
        i++;
    }
    if (i < s.len && s.ptr[i] == '0') {
        out->zero = true;
        i++;
    }
    LB_TRY(number(x, s, &i, &out->width));
    if (i < s.len && (s.ptr[i] == ',' || s.ptr[i] == '_'))
        out->grouping = s.ptr[i++];
    if (i < s.len && s.ptr[i] == '.') {
        size_t begin = ++i;
        LB_TRY(number(x, s, &i, &out->precision));
        if (i == begin)
            return lb_jx_error(x, "Format specifier missing precision");
    }
    if (i < s.len)
        out->type = s.ptr[i++];
    return i == s.len ? LB_OK : lb_jx_error(x, "Invalid format specifier '%.*s'", LB_FMT(s));
}

static lb_status unknown_code(lb_jx *x, char type, lb_jval v) {
    return lb_jx_error(x, "Unknown format code '%c' for object of type '%s'",
                       (u8)type >= 0x20 && (u8)type < 0x7f ? type : '?', lb_jv_type_name(v));
}

static lb_status format_number(lb_jbuf *b, lb_jval v, lb_jspec *s) {
    lb_jx *x = b->x;
    if (!s->align)
        s->align = s->zero ? '=' : '>';
    if (s->zero && s->align == '=')
        s->fill = '0';
    if (v.type != LB_JT_FLOAT && (!s->type || strchr("bcdoxXn", s->type))) {
        if (s->precision >= 0)
            return lb_jx_error(x, "Precision not allowed in integer format specifier");
        if (s->type != 'c')
            return lb_jformat_int(b, v, s);
        lb_jbuf c = {.x = x};
        lb_jval text;
        if (v.type == LB_JT_BIG || v.u.i < 0 || v.u.i > 0x10ffff)
            return lb_jx_error(x, "%%c arg not in range(0x110000)");
        lb_jbuf_put_cp(&c, (u32)v.u.i);
        LB_TRY(lb_jbuf_end(&c, &text));
        s->precision = -1;
        return lb_jformat_str(b, text, s);
    }
    if (v.type == LB_JT_BIG)
        return lb_jx_fail(x, LB_E_UNSUPPORTED, "an integer of more than 64 bits");
    if (s->type && !strchr("eEfFgGn%", s->type))
        return unknown_code(x, s->type, v);
    return lb_jformat_float(b, lb_jv_as_float(v), s);
}

static lb_status format_value(lb_jbuf *b, lb_jval v, lb_str spec, bool escape) {
    lb_jspec s;
    lb_jval text = v;
    if (!spec.len || v.type == LB_JT_STR) {
        LB_TRY(lb_jv_to_str(b->x, v, &text));
        if (escape && !(v.type == LB_JT_STR && v.safe)) {
            lb_jbuf e = {.x = b->x};
            lb_jtext_escape(&e, lb_jv_text(text));
            LB_TRY(lb_jbuf_end(&e, &text));
        }
    }
    if (!spec.len) {
        lb_jbuf_put(b, lb_jv_text(text));
        return LB_OK;
    }
    if (v.type != LB_JT_STR && !lb_jv_is_number(v) && v.type != LB_JT_BIG)
        return lb_jx_error(b->x, "unsupported format string passed to %s.__format__",
                           lb_jv_type_name(v));
    LB_TRY(parse_spec(b->x, spec, &s));
    if (v.type != LB_JT_STR) {
        i64 i;
        if (v.type == LB_JT_BOOL && lb_jv_as_int(v, &i))
            v = lb_jv_int(i);
        return format_number(b, v, &s);
    }
    if (s.type && s.type != 's')
        return unknown_code(b->x, s.type, v);
    if (s.align == '=' || s.sign != '-' || s.alternate || s.grouping)
        return lb_jx_error(b->x, "Invalid format specifier '%.*s' for a string", LB_FMT(spec));
    s.fill = s.zero && s.fill == ' ' ? '0' : s.fill;
    s.align = s.align ? s.align : '<';
    return lb_jformat_str(b, text, &s);
}

/* ---- fields ---- */

typedef struct braces {
    lb_jx *x;
    const lb_jargs *args;
    bool escape, automatic, manual;
    u32 next;
} braces;

static lb_status run(braces *f, lb_str s, u32 depth, lb_jbuf *b);

static lb_status first_value(braces *f, lb_str name, lb_jval *out) {
    i64 i = 0;
    const lb_jval *v;
    bool digits = name.len && lb_jstr_to_i64(name, 10, &i) && !memchr(name.ptr, '_', name.len);
    if (!name.len || digits) {
        f->automatic |= !name.len;
        f->manual |= digits;
        if (f->automatic && f->manual)
            return lb_jx_error(f->x, "cannot mix manual and automatic field numbering");
        i = name.len ? i : f->next++;
        if (i >= f->args->n)
            return lb_jx_error(f->x,
                               "Replacement index %lld out of range for positional args tuple",
                               (long long)i);
        *out = f->args->pos[i];
        return LB_OK;
    }
    v = f->args->kw ? lb_jdict_find_str(f->args->kw, name) : NULL;
    if (!v)
        return lb_jx_error(f->x, "'%.*s' is not among the values to be formatted", LB_FMT(name));
    *out = *v;
    return LB_OK;
}

/* "0.name[key]" */
static lb_status field_value(braces *f, lb_str name, lb_jval *out) {
    size_t i = 0;
    lb_jval key;
    while (i < name.len && name.ptr[i] != '.' && name.ptr[i] != '[')
        i++;
    LB_TRY(first_value(f, lb_str_sub(name, 0, i), out));
    while (i < name.len) {
        bool item = name.ptr[i] == '[';
        size_t begin = ++i;
        i64 number;
        if (!item && name.ptr[begin - 1] != '.')
            return lb_jx_error(f->x, "Only '.' or '[' may follow ']' in format field specifier");
        while (i < name.len &&
               (item ? name.ptr[i] != ']' : name.ptr[i] != '.' && name.ptr[i] != '['))
            i++;
        lb_str part = lb_str_sub(name, begin, i);
        if (!part.len)
            return lb_jx_error(f->x, "Empty attribute in format string");
        if (item && i >= name.len)
            return lb_jx_error(f->x, "Missing ']' in format string");
        i += item;
        if (item && lb_jtext_is(part, LB_JIS_DIGIT) && lb_jstr_to_i64(part, 10, &number))
            key = lb_jv_int(number);
        else
            LB_TRY(lb_jv_view(f->x, part, &key));
        LB_TRY(item ? lb_jitem(f->x, *out, key, out) : lb_jattr(f->x, *out, key, out));
    }
    return LB_OK;
}

static lb_status put_replacement(braces *f, lb_str field, u32 depth, lb_jbuf *b) {
    size_t i = 0;
    lb_str name, spec = LB_STR_NONE;
    char how = '\0';
    lb_jval v, spec_text;
    u32 square = 0;
    for (; i < field.len && (square || (field.ptr[i] != '!' && field.ptr[i] != ':')); i++)
        square = field.ptr[i] == '[' ? 1 : field.ptr[i] == ']' ? 0 : square;
    name = lb_str_sub(field, 0, i);
    if (i < field.len && field.ptr[i] == '!') {
        how = i + 1 < field.len ? field.ptr[i + 1] : '\0';
        i += 2;
        if (!how || !strchr("sra", how) || (i < field.len && field.ptr[i] != ':'))
            return lb_jx_error(f->x, "Unknown conversion specifier in a format string");
    }
    if (i < field.len)
        spec = lb_str_sub(field, i + 1, field.len);
    LB_TRY(field_value(f, name, &v));
    if (how)
        LB_TRY(lb_jformat_text(f->x, v, how, &v));
    if (spec.len && memchr(spec.ptr, '{', spec.len)) {
        lb_jbuf inner = {.x = f->x};
        lb_status st = run(f, spec, depth + 1, &inner);
        if (st != LB_OK) {
            lb_jbuf_drop(&inner);
            return st;
        }
        LB_TRY(lb_jbuf_end(&inner, &spec_text));
        spec = lb_jv_text(spec_text);
    }
    return format_value(b, v, spec, f->escape);
}

static lb_status run(braces *f, lb_str s, u32 depth, lb_jbuf *b) {
    if (depth > 1)
        return lb_jx_error(f->x, "Max string recursion exceeded");
    for (size_t i = 0; i < s.len && !b->over;) {
        char c = s.ptr[i];
        if (c != '{' && c != '}') {
            size_t begin = i;
            while (i < s.len && s.ptr[i] != '{' && s.ptr[i] != '}')
                i++;
            lb_jbuf_put(b, lb_str_sub(s, begin, i));
            continue;
        }
        if (i + 1 < s.len && s.ptr[i + 1] == c) {
            lb_jbuf_put(b, lb_str_sub(s, i, i + 1));
            i += 2;
            continue;
        }
        if (c == '}')
            return lb_jx_error(f->x, "Single '}' encountered in format string");
        size_t begin = ++i;
        u32 open = 1;
        for (; i < s.len && open; i++)
            open += (u32)(s.ptr[i] == '{') - (u32)(s.ptr[i] == '}');
        if (open)
            return lb_jx_error(f->x, begin == s.len ? "Single '{' encountered in format string"
                                                    : "expected '}' before end of string");
        LB_TRY(lb_jx_steps(f->x, 1));
        LB_TRY(put_replacement(f, lb_str_sub(s, begin, i - 1), depth, b));
    }
    return LB_OK;
}

lb_status lb_jformat_braces(lb_jx *x, lb_jval fmt, const lb_jargs *args, lb_jval *out) {
    braces f = {.x = x, .args = args, .escape = fmt.safe};
    lb_jbuf b = {.x = x};
    lb_status st = run(&f, lb_jv_text(fmt), 0, &b);
    if (st != LB_OK) {
        lb_jbuf_drop(&b);
        return st;
    }
    LB_TRY(lb_jbuf_end(&b, out));
    out->safe = fmt.safe;
    return LB_OK;
}
