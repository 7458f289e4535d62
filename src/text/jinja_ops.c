/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_ops.c: operators, with Python's rules. Integers are 64 bits: what would be longer is an
 * error. */
#include "text/jinja_run.h"
#include "text/jinja_text.h"
#include <math.h>

static const char *op_text(u16 op, char out[3]) {
    out[0] = (char)(op & 0xff);
    out[1] = (char)(op >> 8);
    out[2] = '\0';
    return out;
}

static lb_status wrong_types(lb_jx *x, u16 op, lb_jval a, lb_jval b) {
    char text[3];
    if (a.type == LB_JT_BIG || b.type == LB_JT_BIG)
        return lb_jx_fail(x, LB_E_UNSUPPORTED, "arithmetic on an integer of more than 64 bits");
    return lb_jx_error(x, "unsupported operand type(s) for %s: '%s' and '%s'", op_text(op, text),
                       lb_jv_type_name(a), lb_jv_type_name(b));
}

static lb_status too_big(lb_jx *x) {
    return lb_jx_fail(x, LB_E_UNSUPPORTED, "an integer of more than 64 bits");
}

static lb_status power_int(lb_jx *x, i64 base, i64 e, lb_jval *out) {
    i64 r = 1;
    while (e) {
        if (e & 1 && __builtin_mul_overflow(r, base, &r))
            return too_big(x);
        e >>= 1;
        if (e && __builtin_mul_overflow(base, base, &base))
            return too_big(x);
    }
    *out = lb_jv_int(r);
    return LB_OK;
}

/* gcc's and clang's on every 64-bit machine: what + - * make of two integers of 64 bits. */
typedef __int128 wide;

static lb_status put_wide(lb_jx *x, wide v, lb_jval *out) {
    char text[48];
    size_t at = sizeof text;
    bool minus = v < 0;
    lb_jbuf b = {.x = x};
    do {
        int digit = (int)(v % 10);
        text[--at] = (char)('0' + (minus ? -digit : digit));
        v /= 10;
    } while (v);
    if (minus)
        text[--at] = '-';
    lb_jbuf_put(&b, (lb_str){text + at, sizeof text - at});
    LB_TRY(lb_jbuf_end(&b, out));
    out->type = LB_JT_BIG;
    return LB_OK;
}

static lb_status int_op(lb_jx *x, u16 op, i64 a, i64 b, lb_jval *out) {
    i64 r = 0;
    bool over = false;
    switch (op) {
    case '+':
        over = __builtin_add_overflow(a, b, &r);
        break;
    case '-':
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case '*':
        over = __builtin_mul_overflow(a, b, &r);
        break;
    case LB_JOP('/', '/'):
    case '%':
        if (b == 0)
            return lb_jx_error(x, "integer division or modulo by zero");
        if (b == -1) {
            over = op != '%' && a == INT64_MIN;
            r = op == '%' || over ? 0 : -a;
            break;
        }
        r = op == '%' ? a % b : a / b;
        if (a % b != 0 && (a % b < 0) != (b < 0))
            r += op == '%' ? b : -1;
        break;
    case LB_JOP('*', '*'):
        return power_int(x, a, b, out);
    default:
        break;
    }
    if (over)
        return put_wide(x,
                        op == '+'   ? (wide)a + b
                        : op == '-' ? (wide)a - b
                        : op == '*' ? (wide)a * b
                                    : -(wide)a,
                        out);
    *out = lb_jv_int(r);
    return LB_OK;
}

/* By multiplication, with bits to spare: libm's pow differs from machine to machine. */
static lb_status power_float(lb_jx *x, double a, double b, lb_jval *out) {
    long double r = 1, base = a;
    if (a == 0 && b < 0)
        return lb_jx_error(x, "0.0 cannot be raised to a negative power");
    if (b == 0.5 && a >= 0) {
        *out = lb_jv_float(sqrt(a));
        return LB_OK;
    }
    if (b != floor(b) || fabs(b) > 1e6 || isinf(a) || isnan(a))
        return lb_jx_fail(x, LB_E_UNSUPPORTED, "a power with an exponent that is no integer");
    for (u64 e = (u64)fabs(b); e; e >>= 1, base *= base)
        if (e & 1)
            r *= base;
    *out = lb_jv_float((double)(b < 0 ? 1 / r : r));
    if (isinf(out->u.f))
        return lb_jx_error(x, "Numerical result out of range");
    return LB_OK;
}

static lb_status float_op(lb_jx *x, u16 op, double a, double b, lb_jval *out) {
    double r = 0;
    if (b == 0 && (op == '/' || op == '%' || op == LB_JOP('/', '/')))
        return lb_jx_error(x, op == '/'   ? "float division by zero"
                              : op == '%' ? "float modulo"
                                          : "float floor division by zero");
    switch (op) {
    case '+':
        r = a + b;
        break;
    case '-':
        r = a - b;
        break;
    case '*':
        r = a * b;
        break;
    case '/':
        r = a / b;
        break;
    case LB_JOP('*', '*'):
        return power_float(x, a, b, out);
    default: { /* % and // as CPython's float_divmod */
        double mod = fmod(a, b), div = (a - mod) / b;
        if (mod != 0 && (b < 0) != (mod < 0)) {
            mod += b;
            div -= 1;
        } else if (mod == 0) {
            mod = copysign(0, b);
        }
        if (op == '%') {
            r = mod;
        } else if (div != 0) {
            r = floor(div);
            r += div - r > 0.5;
        } else {
            r = copysign(0, a / b);
        }
    }
    }
    *out = lb_jv_float(r);
    return LB_OK;
}

static lb_status number_op(lb_jx *x, u16 op, lb_jval a, lb_jval b, lb_jval *out) {
    i64 i, j;
    if (lb_jv_as_int(a, &i) && lb_jv_as_int(b, &j)) {
        if (op == '/') {
            if (j == 0)
                return lb_jx_error(x, "division by zero");
            *out = lb_jv_float((double)((long double)i / (long double)j));
            return LB_OK;
        }
        if (op != LB_JOP('*', '*') || j >= 0)
            return int_op(x, op, i, j, out);
    }
    return float_op(x, op, lb_jv_as_float(a), lb_jv_as_float(b), out);
}

/* Text that a Markup takes: escaped unless it is one. */
static lb_status escaped(lb_jx *x, lb_jval s, lb_jval *out) {
    lb_jbuf b = {.x = x};
    *out = s;
    if (s.safe)
        return LB_OK;
    lb_jtext_escape(&b, lb_jv_text(s));
    return lb_jbuf_end(&b, out);
}

static lb_status add_str(lb_jx *x, lb_jval a, lb_jval b, lb_jval *out) {
    bool safe = a.safe || b.safe;
    if (safe) {
        LB_TRY(escaped(x, a, &a));
        LB_TRY(escaped(x, b, &b));
    }
    LB_TRY(lb_jv_concat(x, a, lb_jv_text(b), out));
    out->safe = safe;
    return LB_OK;
}

static lb_status add_lists(lb_jx *x, lb_jval a, lb_jval b, lb_jval *out) {
    u64 n = (u64)a.u.list->n + b.u.list->n;
    lb_jlist *l = lb_jlist_new(x, n);
    if (!l)
        return LB_E_LIMIT;
    LB_TRY(lb_jx_steps(x, n / 4));
    if (a.u.list->n)
        memcpy(l->item, a.u.list->item, a.u.list->n * sizeof *l->item);
    if (b.u.list->n)
        memcpy(l->item + a.u.list->n, b.u.list->item, b.u.list->n * sizeof *l->item);
    l->n = (u32)n;
    *out = a.type == LB_JT_LIST ? lb_jv_list(l) : lb_jv_tuple(l);
    return LB_OK;
}

static lb_status repeat(lb_jx *x, lb_jval v, i64 n, lb_jval *out) {
    if (v.type == LB_JT_STR) {
        lb_jbuf b = {.x = x};
        lb_jbuf_fill(&b, lb_jv_text(v), n);
        LB_TRY(lb_jbuf_end(&b, out));
        out->safe = v.safe;
        return LB_OK;
    }
    u64 each = v.u.list->n, total;
    if (n < 0 || !each)
        n = 0;
    if (!lb_mul_u64(each, (u64)n, &total) || total > UINT32_MAX / 4)
        return lb_jx_no_memory(x);
    lb_jlist *l = lb_jlist_new(x, total);
    if (!l)
        return LB_E_LIMIT;
    LB_TRY(lb_jx_steps(x, total / 4));
    for (i64 i = 0; i < n; i++, l->n += (u32)each)
        memcpy(l->item + l->n, v.u.list->item, each * sizeof *l->item);
    *out = v.type == LB_JT_LIST ? lb_jv_list(l) : lb_jv_tuple(l);
    return LB_OK;
}

lb_status lb_jop_binary(lb_jx *x, u16 op, lb_jval a, lb_jval b, lb_jval *out) {
    i64 n;
    if (op == '%' && a.type == LB_JT_STR)
        return lb_jformat_percent(x, a, b, out);
    if (a.type == LB_JT_UNDEF || b.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, a.type == LB_JT_UNDEF ? a : b);
    if (lb_jv_is_number(a) && lb_jv_is_number(b))
        return number_op(x, op, a, b, out);
    if (op == '+') {
        if (a.type == LB_JT_STR && b.type == LB_JT_STR)
            return add_str(x, a, b, out);
        if (lb_jv_is_list(a) && lb_jv_is_list(b) &&
            (a.type == LB_JT_LIST) == (b.type == LB_JT_LIST))
            return add_lists(x, a, b, out);
        if (a.type == LB_JT_STR)
            return lb_jx_error(x, "can only concatenate str (not \"%s\") to str",
                               lb_jv_type_name(b));
    }
    if (op == '*') {
        if ((a.type == LB_JT_STR || lb_jv_is_list(a)) && lb_jv_as_int(b, &n))
            return repeat(x, a, n, out);
        if ((b.type == LB_JT_STR || lb_jv_is_list(b)) && lb_jv_as_int(a, &n))
            return repeat(x, b, n, out);
    }
    return wrong_types(x, op, a, b);
}

lb_status lb_jop_unary(lb_jx *x, bool negate, lb_jval a, lb_jval *out) {
    i64 i;
    if (a.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, a);
    if (a.type == LB_JT_FLOAT) {
        *out = lb_jv_float(negate ? -a.u.f : a.u.f);
        return LB_OK;
    }
    if (a.type == LB_JT_BIG && !negate) {
        *out = a;
        return LB_OK;
    }
    if (a.type == LB_JT_BIG) {
        lb_str s = lb_jv_text(a);
        lb_jbuf b = {.x = x};
        bool minus = s.ptr[0] == '-';
        if (lb_str_eq_c(s, "9223372036854775808")) {
            *out = lb_jv_int(INT64_MIN);
            return LB_OK;
        }
        lb_jbuf_put_c(&b, minus ? "" : "-");
        lb_jbuf_put(&b, lb_str_sub(s, minus, s.len));
        LB_TRY(lb_jbuf_end(&b, out));
        out->type = LB_JT_BIG;
        return LB_OK;
    }
    if (!lb_jv_as_int(a, &i))
        return lb_jx_error(x, "bad operand type for unary %c: '%s'", negate ? '-' : '+',
                           lb_jv_type_name(a));
    if (negate && i == INT64_MIN)
        return put_wide(x, -(wide)i, out);
    *out = lb_jv_int(negate ? -i : i);
    return LB_OK;
}

/* ---- comparison ---- */

static lb_status in_view(lb_jx *x, const lb_jview *v, lb_jval item, bool *out) {
    if (v->kind == LB_JVIEW_KEYS) {
        if (!lb_jv_hashable(item))
            return lb_jx_error(x, "unhashable type: '%s'", lb_jv_type_name(item));
        *out = lb_jdict_find(x, v->dict, item) != NULL;
        return LB_OK;
    }
    *out = false;
    if (v->kind == LB_JVIEW_ITEMS) {
        if (!lb_jv_is_list(item) || item.type == LB_JT_LIST || item.u.list->n != 2)
            return LB_OK;
        const lb_jval *found = lb_jdict_find(x, v->dict, item.u.list->item[0]);
        return found ? lb_jv_equal(x, *found, item.u.list->item[1], out) : LB_OK;
    }
    for (u32 i = 0; i < v->dict->n && !*out; i++)
        LB_TRY(lb_jv_equal(x, v->dict->pair[i].value, item, out));
    return LB_OK;
}

static bool in_range(const lb_jrange *r, lb_jval item) {
    i64 i;
    if (!lb_jv_as_int(item, &i)) {
        if (item.type != LB_JT_FLOAT || item.u.f != floor(item.u.f) || fabs(item.u.f) > 9e15)
            return false;
        i = (i64)item.u.f;
    }
    i64 last = r->start + (r->n - 1) * r->step;
    return r->n && i >= LB_MIN(r->start, last) && i <= LB_MAX(r->start, last) &&
           (i - r->start) % r->step == 0;
}

lb_status lb_jop_in(lb_jx *x, lb_jval item, lb_jval seq, bool *out) {
    size_t pos;
    lb_jiter *it;
    *out = false;
    switch ((lb_jtype)seq.type) {
    case LB_JT_STR:
        if (item.type != LB_JT_STR)
            return lb_jx_error(x, "'in <string>' requires string as left operand, not %s",
                               lb_jv_type_name(item));
        LB_TRY(lb_jx_steps(x, seq.u.s->len / 64));
        *out = lb_str_find(lb_jv_text(seq), lb_jv_text(item), &pos);
        return LB_OK;
    case LB_JT_DICT:
        if (!lb_jv_hashable(item))
            return lb_jx_error(x, "unhashable type: '%s'", lb_jv_type_name(item));
        *out = lb_jdict_find(x, seq.u.dict, item) != NULL;
        return LB_OK;
    case LB_JT_VIEW:
        return in_view(x, seq.u.view, item, out);
    case LB_JT_RANGE:
        *out = in_range(seq.u.range, item);
        return LB_OK;
    default:
        break;
    }
    if (!lb_jv_is_iterable(seq))
        return lb_jx_error(x, "argument of type '%s' is not iterable", lb_jv_type_name(seq));
    LB_TRY(lb_jiter_new(x, seq, &it));
    for (bool more = true; !*out;) {
        lb_jval v;
        LB_TRY(lb_jiter_next(x, it, &v, &more));
        if (!more)
            return LB_OK;
        LB_TRY(lb_jv_equal(x, v, item, out));
    }
    return LB_OK;
}

lb_status lb_jop_compare(lb_jx *x, u16 op, lb_jval a, lb_jval b, bool *out) {
    char text[3];
    int c;
    if (op == LB_JIN || op == LB_JNOTIN) {
        LB_TRY(lb_jop_in(x, a, b, out));
        *out ^= op == LB_JNOTIN;
        return LB_OK;
    }
    if (op == LB_JOP('=', '=') || op == LB_JOP('!', '=')) {
        LB_TRY(lb_jv_equal(x, a, b, out));
        *out ^= op == LB_JOP('!', '=');
        return LB_OK;
    }
    LB_TRY(lb_jv_compare(x, a, b, op_text(op, text), &c));
    *out = c != 2 && (op == '<'                ? c < 0
                      : op == '>'              ? c > 0
                      : op == LB_JOP('<', '=') ? c <= 0
                                               : c >= 0);
    return LB_OK;
}
