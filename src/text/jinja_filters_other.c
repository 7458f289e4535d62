/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_filters_other.c: filters on numbers and on anything; all tests; finding by name. */
#include "text/jinja_builtin.h"
#include "text/jinja_run.h"
#include "text/jinja_text.h"
#include <math.h>
#include <stdlib.h>
#include <stdio.h>

static lb_status f_default(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    *out = self;
    if (self.type != LB_JT_UNDEF && (!lb_jv_true(a[1]) || lb_jv_true(self)))
        return LB_OK;
    *out = a[0];
    return a[0].type == LB_JT_MISSING ? lb_jv_view(x, LB_STR(""), out) : LB_OK;
}

static lb_status f_attr(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    bool found;
    if (a[0].type != LB_JT_STR)
        return lb_jx_error(x, "attribute name must be string, not '%s'", lb_jv_type_name(a[0]));
    if (self.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, self);
    LB_TRY(lb_jattr_own(x, self, a[0], &found, out));
    return found ? LB_OK : lb_jv_undef(x, self, a[0], out);
}

static lb_status f_abs(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    i64 i;
    (void)a;
    if (self.type == LB_JT_FLOAT) {
        *out = lb_jv_float(fabs(self.u.f));
        return LB_OK;
    }
    if (self.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, self);
    if (self.type == LB_JT_BIG && !lb_str_starts(lb_jv_text(self), LB_STR("-"))) {
        *out = self;
        return LB_OK;
    }
    if (self.type == LB_JT_BIG)
        return lb_jop_unary(x, true, self, out);
    if (!lb_jv_as_int(self, &i))
        return lb_jx_error(x, "bad operand type for abs(): '%s'", lb_jv_type_name(self));
    if (i < 0)
        return lb_jop_unary(x, true, lb_jv_int(i), out);
    *out = lb_jv_int(i);
    return LB_OK;
}

static lb_status int_from_float(lb_jx *x, double f, lb_jval *out) {
    char text[400];
    if (f >= -9.2e18 && f <= 9.2e18) {
        *out = lb_jv_int((i64)f);
        return LB_OK;
    }
    (void)snprintf(text, sizeof text, "%.0f", f);
    LB_TRY(lb_jv_str_c(x, text, out));
    out->type = LB_JT_BIG;
    return LB_OK;
}

/* An integer of more than 64 bits as its decimal digits. */
static lb_status big_from_text(lb_jx *x, lb_str s, lb_jval *out) {
    lb_jbuf b = {.x = x};
    s = lb_jstr_strip(s, LB_STR_NONE, true, true);
    bool minus = s.ptr[0] == '-';
    lb_jbuf_put_c(&b, minus ? "-" : "");
    s = lb_jstr_strip(lb_str_sub(s, minus || s.ptr[0] == '+', s.len), LB_STR("0_"), true, false);
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] != '_')
            lb_jbuf_put(&b, lb_str_sub(s, i, i + 1));
    LB_TRY(lb_jbuf_end(&b, out));
    out->type = LB_JT_BIG;
    return LB_OK;
}

static lb_status f_int(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    i64 i, base = 10;
    double f;
    if (a[1].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_int(x, a[1], &base));
    *out = a[0].type == LB_JT_MISSING ? lb_jv_int(0) : a[0];
    if (self.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, self);
    if (lb_jv_as_int(self, &i) || self.type == LB_JT_BIG) {
        *out = self.type == LB_JT_BIG ? self : lb_jv_int(i);
        return LB_OK;
    }
    if (self.type == LB_JT_FLOAT) {
        if (isinf(self.u.f))
            return lb_jx_error(x, "cannot convert float infinity to integer");
        return isnan(self.u.f) ? LB_OK : int_from_float(x, self.u.f, out);
    }
    if (self.type != LB_JT_STR)
        return LB_OK;
    bool good_base = base == 0 || (base >= 2 && base <= 36);
    switch (good_base ? lb_jstr_parse_int(lb_jv_text(self), (u32)base, &i) : LB_JNUM_NONE) {
    case LB_JNUM_OK:
        *out = lb_jv_int(i);
        return LB_OK;
    case LB_JNUM_BIG:
        if (base != 10)
            return lb_jx_fail(x, LB_E_UNSUPPORTED, "an integer of more than 64 bits");
        return big_from_text(x, lb_jv_text(self), out);
    default:
        break;
    }
    if (!lb_jstr_parse_float(lb_jv_text(self), &f) || isnan(f) || isinf(f))
        return LB_OK;
    return int_from_float(x, f, out);
}

static lb_status f_float(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    double f;
    *out = a[0].type == LB_JT_MISSING ? lb_jv_float(0) : a[0];
    if (self.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, self);
    if (lb_jv_is_number(self))
        *out = lb_jv_float(lb_jv_as_float(self));
    else if ((self.type == LB_JT_STR || self.type == LB_JT_BIG) &&
             lb_jstr_parse_float(lb_jv_text(self), &f))
        *out = lb_jv_float(f);
    return LB_OK;
}

static double power_of_ten(i64 n) {
    double p = 1;
    for (i64 i = 0; i < n && i < 400; i++)
        p *= 10;
    return p;
}

/* Half to even, of the exact decimal value, as Python's round. */
static lb_status round_common(lb_jx *x, lb_jval v, i64 digits, lb_jval *out) {
    char text[768];
    i64 i;
    if (lb_jv_as_int(v, &i)) {
        *out = lb_jv_int(i);
        if (digits >= 0)
            return LB_OK;
        if (digits < -18) {
            *out = lb_jv_int(0);
            return LB_OK;
        }
        i64 p = (i64)power_of_ten(-digits), rest = i % p, half = p / 2;
        i -= rest;
        if (llabs(rest) > half || (llabs(rest) == half && (i / p) % 2 != 0))
            i += rest < 0 ? -p : p;
        *out = lb_jv_int(i);
        return LB_OK;
    }
    *out = v;
    if (isnan(v.u.f) || isinf(v.u.f) || digits > 330)
        return LB_OK;
    if (digits < -310) {
        *out = lb_jv_float(copysign(0, v.u.f));
        return LB_OK;
    }
    if (digits >= 0) {
        (void)snprintf(text, sizeof text, "%.*f", (int)digits, v.u.f);
        *out = lb_jv_float(strtod(text, NULL));
    } else {
        double p = power_of_ten(-digits), q = v.u.f / p, r = nearbyint(q);
        *out = lb_jv_float(r * p);
    }
    (void)x;
    return LB_OK;
}

static lb_status f_round(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_str method = LB_STR("common");
    i64 digits = 0;
    if (a[0].type != LB_JT_MISSING && a[0].type != LB_JT_NONE)
        LB_TRY(lb_jarg_int(x, a[0], &digits));
    if (a[1].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_str(x, a[1], "round method", &method));
    bool up = lb_str_eq_c(method, "ceil"), common = lb_str_eq_c(method, "common");
    if (!up && !common && !lb_str_eq_c(method, "floor"))
        return lb_jx_error(x, "method must be common, ceil or floor");
    if (self.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, self);
    if (self.type == LB_JT_BIG && common && digits >= 0) {
        *out = self;
        return LB_OK;
    }
    if (self.type == LB_JT_BIG)
        return lb_jx_fail(x, LB_E_UNSUPPORTED, "arithmetic on an integer of more than 64 bits");
    if (!lb_jv_is_number(self))
        return lb_jx_error(x, "type %s doesn't define __round__ method", lb_jv_type_name(self));
    if (common)
        return round_common(x, self, digits, out);
    double p = power_of_ten(digits < 0 ? -digits : digits), v = lb_jv_as_float(self);
    v = digits < 0 ? v * (1 / p) : v * p;
    if (isnan(v) || isinf(v))
        return lb_jx_error(x, "cannot convert float to integer");
    v = up ? ceil(v) : floor(v);
    *out = lb_jv_float(digits < 0 ? v / (1 / p) : v / p);
    return LB_OK;
}

/* ---- tojson, pprint ---- */

static lb_status json_indent(lb_jx *x, lb_jval v, lb_jjson_opts *o) {
    lb_jbuf b = {.x = x};
    lb_jval text;
    i64 n;
    if (!lb_jarg_given(v))
        return LB_OK;
    o->lines = true;
    if (v.type == LB_JT_STR) {
        o->indent = lb_jv_text(v);
        return LB_OK;
    }
    LB_TRY(lb_jarg_int(x, v, &n));
    lb_jbuf_fill(&b, LB_STR(" "), n);
    LB_TRY(lb_jbuf_end(&b, &text));
    o->indent = lb_jv_text(text);
    return LB_OK;
}

/* ensure_ascii indent separators sort_keys */
static lb_status f_tojson(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jjson_opts o = {.ascii = lb_jv_true(a[0]), .sort = lb_jv_true(a[3])};
    lb_jbuf b = {.x = x};
    lb_status st;
    LB_TRY(json_indent(x, a[1], &o));
    o.item_sep = o.lines ? LB_STR(",") : LB_STR(", ");
    o.key_sep = LB_STR(": ");
    if (lb_jarg_given(a[2])) {
        lb_jlist *l;
        LB_TRY(lb_jv_to_list(x, a[2], &l));
        if (l->n != 2)
            return lb_jx_error(x, "separators: two strings are expected");
        LB_TRY(lb_jarg_str(x, l->item[0], "separator", &o.item_sep));
        LB_TRY(lb_jarg_str(x, l->item[1], "separator", &o.key_sep));
    }
    st = lb_jjson(&b, self, &o);
    if (st == LB_OK)
        return lb_jbuf_end(&b, out);
    lb_jbuf_drop(&b);
    return st;
}

/* What Python prints in one line; more is its pprint's business. */
static lb_status f_pprint(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jbuf b = {.x = x};
    lb_status st = lb_jv_put_repr(&b, self);
    (void)a;
    if (st == LB_OK)
        st = lb_jbuf_end(&b, out);
    else
        lb_jbuf_drop(&b);
    if (st == LB_OK && (lb_jv_chars(*out) > 80 || self.type == LB_JT_DICT))
        return lb_jx_fail(x, LB_E_UNSUPPORTED,
                          "pprint of a mapping or of more than one line is not supported");
    return st;
}

static const lb_jdef filters[] = {
    {"default", f_default, NULL, "default_value boolean", 0, false},
    {"d", f_default, NULL, "default_value boolean", 0, false},
    {"attr", f_attr, NULL, "name", 1, false},
    {"abs", f_abs, NULL, "", 0, false},
    {"int", f_int, NULL, "default base", 0, false},
    {"float", f_float, NULL, "default", 0, false},
    {"round", f_round, NULL, "precision method", 0, false},
    {"tojson", f_tojson, NULL, "ensure_ascii indent separators sort_keys", 0, false},
    {"pprint", f_pprint, NULL, "", 0, false},
};
const lb_jtable lb_jfilters_other = {filters, LB_LEN(filters)};

/* ---- tests ---- */

#define TEST(name, cond)                                                                \
    static lb_status t_##name(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) { \
        (void)x, (void)a;                                                               \
        *out = lb_jv_bool(cond);                                                        \
        return LB_OK;                                                                   \
    }

TEST(defined, self.type != LB_JT_UNDEF)
TEST(undefined, self.type == LB_JT_UNDEF)
TEST(none, self.type == LB_JT_NONE)
TEST(boolean, self.type == LB_JT_BOOL)
TEST(false, self.type == LB_JT_BOOL && !self.u.b)
TEST(true, self.type == LB_JT_BOOL && self.u.b)
TEST(integer, self.type == LB_JT_INT || self.type == LB_JT_BIG)
TEST(float, self.type == LB_JT_FLOAT)
TEST(string, self.type == LB_JT_STR)
TEST(mapping, self.type == LB_JT_DICT)
TEST(number, lb_jv_is_number(self) || self.type == LB_JT_BIG)
TEST(sequence, lb_jv_is_list(self) || self.type == LB_JT_STR || self.type == LB_JT_DICT ||
                   self.type == LB_JT_RANGE || self.type == LB_JT_UNDEF)
TEST(iterable, lb_jv_is_iterable(self) || self.type == LB_JT_LOOP)
TEST(callable, self.type == LB_JT_FUNC || self.type == LB_JT_MACRO || self.type == LB_JT_LOOP ||
                   self.type == LB_JT_JOINER || self.type == LB_JT_UNDEF)
TEST(escaped, self.type == LB_JT_STR && self.safe)

static lb_status parity(lb_jx *x, lb_jval self, i64 of, i64 rest, lb_jval *out) {
    bool same;
    LB_TRY(lb_jop_binary(x, '%', self, lb_jv_int(of), out));
    LB_TRY(lb_jv_equal(x, *out, lb_jv_int(rest), &same));
    *out = lb_jv_bool(same);
    return LB_OK;
}

static lb_status t_odd(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    return parity(x, self, 2, 1, out);
}

static lb_status t_even(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    return parity(x, self, 2, 0, out);
}

static lb_status t_divisibleby(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    bool same;
    LB_TRY(lb_jop_binary(x, '%', self, a[0], out));
    LB_TRY(lb_jv_equal(x, *out, lb_jv_int(0), &same));
    *out = lb_jv_bool(same);
    return LB_OK;
}

static lb_status cased(lb_jx *x, lb_jval self, lb_jis what, lb_jval *out) {
    lb_str s;
    LB_TRY(lb_jarg_text(x, self, &s));
    *out = lb_jv_bool(lb_jtext_is(s, what));
    return LB_OK;
}

static lb_status t_lower(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    return cased(x, self, LB_JIS_LOWER, out);
}

static lb_status t_upper(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    return cased(x, self, LB_JIS_UPPER, out);
}

static lb_status t_is_filter(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    if (!lb_jv_hashable(self))
        return lb_jx_error(x, "unhashable type: '%s'", lb_jv_type_name(self));
    *out = lb_jv_bool(self.type == LB_JT_STR && lb_jfilter_find(lb_jv_text(self)));
    return LB_OK;
}

static lb_status t_is_test(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    if (!lb_jv_hashable(self))
        return lb_jx_error(x, "unhashable type: '%s'", lb_jv_type_name(self));
    *out = lb_jv_bool(self.type == LB_JT_STR && lb_jtest_find(lb_jv_text(self)));
    return LB_OK;
}

/* Objects are the same where they are one; numbers and strings where they are equal. */
static lb_status t_sameas(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    bool same = self.type == a[0].type;
    if (same && (lb_jv_is_number(self) || self.type == LB_JT_STR || self.type == LB_JT_NONE))
        LB_TRY(lb_jv_equal(x, self, a[0], &same));
    else if (same)
        same = self.u.s == a[0].u.s;
    *out = lb_jv_bool(same);
    return LB_OK;
}

#define COMPARE(name, op)                                                               \
    static lb_status t_##name(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) { \
        bool yes;                                                                       \
        LB_TRY(lb_jop_compare(x, (op), self, a[0], &yes));                              \
        *out = lb_jv_bool(yes);                                                         \
        return LB_OK;                                                                   \
    }

COMPARE(eq, LB_JOP('=', '='))
COMPARE(ne, LB_JOP('!', '='))
COMPARE(gt, '>')
COMPARE(ge, LB_JOP('>', '='))
COMPARE(lt, '<')
COMPARE(le, LB_JOP('<', '='))
COMPARE(in, LB_JIN)

static const lb_jdef tests[] = {
    {"defined", t_defined, NULL, "", 0, false},
    {"undefined", t_undefined, NULL, "", 0, false},
    {"none", t_none, NULL, "", 0, false},
    {"string", t_string, NULL, "", 0, false},
    {"mapping", t_mapping, NULL, "", 0, false},
    {"iterable", t_iterable, NULL, "", 0, false},
    {"sequence", t_sequence, NULL, "", 0, false},
    {"number", t_number, NULL, "", 0, false},
    {"integer", t_integer, NULL, "", 0, false},
    {"float", t_float, NULL, "", 0, false},
    {"boolean", t_boolean, NULL, "", 0, false},
    {"true", t_true, NULL, "", 0, false},
    {"false", t_false, NULL, "", 0, false},
    {"odd", t_odd, NULL, "", 0, false},
    {"even", t_even, NULL, "", 0, false},
    {"divisibleby", t_divisibleby, NULL, "num", 1, false},
    {"lower", t_lower, NULL, "", 0, false},
    {"upper", t_upper, NULL, "", 0, false},
    {"callable", t_callable, NULL, "", 0, false},
    {"sameas", t_sameas, NULL, "other", 1, false},
    {"escaped", t_escaped, NULL, "", 0, false},
    {"filter", t_is_filter, NULL, "", 0, false},
    {"test", t_is_test, NULL, "", 0, false},
    {"in", t_in, NULL, "seq", 1, false},
    {"==", t_eq, NULL, "b", 1, true},
    {"eq", t_eq, NULL, "b", 1, true},
    {"equalto", t_eq, NULL, "b", 1, true},
    {"!=", t_ne, NULL, "b", 1, true},
    {"ne", t_ne, NULL, "b", 1, true},
    {">", t_gt, NULL, "b", 1, true},
    {"gt", t_gt, NULL, "b", 1, true},
    {"greaterthan", t_gt, NULL, "b", 1, true},
    {">=", t_ge, NULL, "b", 1, true},
    {"ge", t_ge, NULL, "b", 1, true},
    {"<", t_lt, NULL, "b", 1, true},
    {"lt", t_lt, NULL, "b", 1, true},
    {"lessthan", t_lt, NULL, "b", 1, true},
    {"<=", t_le, NULL, "b", 1, true},
    {"le", t_le, NULL, "b", 1, true},
};

/* ---- finding ---- */

const lb_jdef *lb_jdef_find(const lb_jdef *table, u32 n, lb_str name) {
    for (u32 i = 0; i < n; i++)
        if (lb_str_eq_c(name, table[i].name))
            return &table[i];
    return NULL;
}

const lb_jdef *lb_jfilter_find(lb_str name) {
    const lb_jtable *const parts[] = {&lb_jfilters_text, &lb_jfilters_list, &lb_jfilters_other};
    for (size_t i = 0; i < LB_LEN(parts); i++) {
        const lb_jdef *d = lb_jdef_find(parts[i]->def, parts[i]->n, name);
        if (d)
            return d;
    }
    return NULL;
}

const lb_jdef *lb_jtest_find(lb_str name) {
    return lb_jdef_find(tests, LB_LEN(tests), name);
}
