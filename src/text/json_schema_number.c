/* SPDX-License-Identifier: Apache-2.0 */
/* json_schema_number.c: numbers between bounds, digit by digit. Magnitudes have at most 16 digits
 * before the point, as in llama.cpp; with bounds there is no exponent. */
#include "text/json_schema_internal.h"

#define DIGITS_MAX 16
#define MOST ((i64)9999999999999999)

/* Digit strings of equal length, from lo to hi. */
static void same_length(lb_buf *out, const char *lo, const char *hi, u32 n) {
    bool zeros = true, nines = true; /* of what follows the first digit */
    if (!n)
        return;
    for (u32 i = 1; i < n; i++) {
        zeros &= lo[i] == '0';
        nines &= hi[i] == '9';
    }
    if (lo[0] == hi[0] && !(zeros && nines)) {
        lb_buf_printf(out, "\"%c\" ", lo[0]);
        same_length(out, lo + 1, hi + 1, n - 1); /* at most 16 deep */
        return;
    }
    char from = lo[0], to = hi[0];
    const char *between = "";
    lb_buf_put_c(out, "(");
    if (!zeros) {
        lb_buf_printf(out, "\"%c\" ", from++);
        same_length(out, lo + 1, "9999999999999999", n - 1);
        between = " | ";
    }
    if (!nines)
        to--;
    if (from <= to) {
        lb_buf_printf(out, "%s[%c-%c]", between, from, to);
        if (n > 1)
            lb_buf_printf(out, " [0-9]{%u}", n - 1);
        between = " | ";
    }
    if (!nines) {
        lb_buf_printf(out, "%s\"%c\" ", between, hi[0]);
        same_length(out, "0000000000000000", hi + 1, n - 1);
    }
    lb_buf_put_c(out, ")");
}

static u32 digits_of(i64 v, char *text) {
    u32 n = 0;
    char back[24];
    do
        back[n++] = (char)('0' + v % 10);
    while ((v /= 10));
    for (u32 i = 0; i < n; i++)
        text[i] = back[n - 1 - i];
    return n;
}

/* Integers from lo to hi, 0 <= lo <= hi, as alternatives in parentheses. */
static void magnitudes(lb_buf *out, i64 lo, i64 hi) {
    char a[24], b[24];
    const u32 n_hi = digits_of(hi, b);
    lb_buf_put_c(out, "(");
    for (u32 n = digits_of(lo, a); n <= n_hi; n++) {
        same_length(out, a, n < n_hi ? "9999999999999999" : b, n);
        lb_buf_put_c(out, n < n_hi ? " | " : ")");
        memset(a, '0', sizeof a);
        a[0] = '1';
    }
}

typedef struct bounds {
    i64 lo, hi;
    bool lo_open, hi_open, any;
} bounds;

/* An interval of magnitudes, whole numbers with fractions. Returns whether it wrote something. */
static bool real_magnitudes(lb_buf *out, bounds b, const char *sign, const char *between) {
    const i64 whole = b.lo + b.lo_open;
    if (b.lo > b.hi || (b.lo == b.hi && (b.lo_open || b.hi_open)))
        return false;
    lb_buf_printf(out, "%s%s(", between, sign);
    between = "";
    if (whole < b.hi) {
        magnitudes(out, whole, b.hi - 1);
        lb_buf_put_c(out, " (\".\" [0-9]{1,16})?");
        between = " | ";
    }
    if (b.lo_open && b.lo < b.hi) {
        lb_buf_put_c(out, between);
        magnitudes(out, b.lo, b.lo);
        lb_buf_put_c(out, " \".\" [0-9]{0,15} [1-9]");
        between = " | ";
    }
    if (!b.hi_open) {
        lb_buf_put_c(out, between);
        magnitudes(out, b.hi, b.hi);
        lb_buf_put_c(out, " (\".\" \"0\"{1,16})?");
    }
    lb_buf_put_c(out, ")");
    return true;
}

/* Of a bound: which, that it is not itself allowed, for integers only. */
enum { UPPER = 1, OPEN = 2, INTEGER = 4 };

static lb_status narrow(lb_schema *s, bounds *b, const lb_json *x, const char *key, u32 how) {
    const bool upper = how & UPPER, integer = how & INTEGER;
    bool open = how & OPEN;
    double d;
    if (!lb_json_as_f64(x, &d) || x->type != LB_JNUMBER || d != d)
        return lb_schema_fail(s, LB_E_FORMAT, "%s is not a number", key);
    b->any = true;
    d = d < -(double)MOST ? -(double)MOST - 2 : d > (double)MOST ? (double)MOST + 2 : d;
    i64 v = (i64)d;
    if ((double)v != d) {
        if (!integer)
            return lb_schema_fail(s, LB_E_UNSUPPORTED,
                                  "%s of a number that is not an integer: only whole bounds", key);
        v = upper ? (d < 0 ? v - 1 : v) : (d < 0 ? v : v + 1);
        open = false;
    }
    if (integer && open) {
        v += upper ? -1 : 1;
        open = false;
    }
    if (upper ? v < b->hi : v > b->lo) {
        *(upper ? &b->hi : &b->lo) = v;
        *(upper ? &b->hi_open : &b->lo_open) = open;
    } else if (v == (upper ? b->hi : b->lo)) {
        *(upper ? &b->hi_open : &b->lo_open) |= open;
    }
    return LB_OK;
}

static lb_status read_bounds(lb_schema *s, const lb_sitem *item, bool integer, bounds *b) {
    for (u32 i = 0; i < item->n; i++)
        for (u32 upper = 0; upper < 2; upper++) {
            const char *key = upper ? "maximum" : "minimum";
            const char *open = upper ? "exclusiveMaximum" : "exclusiveMinimum";
            const lb_json *x = lb_json_get(item->parts[i].node, key);
            const lb_json *y = lb_json_get(item->parts[i].node, open);
            /* Before draft 6 the exclusive ones were flags. */
            bool flag = y && y->type == LB_JBOOL;
            const u32 how = (upper ? UPPER : 0u) | (integer ? INTEGER : 0u);
            if (x)
                LB_TRY(narrow(s, b, x, key, how | (flag && y->truth ? OPEN : 0u)));
            if (y && !flag)
                LB_TRY(narrow(s, b, y, open, how | OPEN));
        }
    return LB_OK;
}

lb_status lb_schema_number(lb_schema *s, const lb_sitem *item, bool integer) {
    bounds b = {-MOST, MOST, false, false, false};
    LB_TRY(read_bounds(s, item, integer, &b));
    if (!b.any) {
        lb_buf_put_c(s->out, integer ? "integer" : "number");
        return LB_OK;
    }
    if (b.lo > b.hi || (b.lo == b.hi && (b.lo_open || b.hi_open)))
        return lb_schema_fail(s, LB_E_FORMAT, "no number is between minimum and maximum");
    bounds up = {LB_MAX(b.lo, 0), b.hi, b.lo >= 0 && b.lo_open, b.hi_open, true};
    bounds down = {b.hi < 0 ? -b.hi : 0, -b.lo, b.hi <= 0 && b.hi_open, b.lo_open, true};
    if (integer) {
        down.lo = LB_MAX(down.lo, 1); /* no -0 */
        bool two = up.lo <= up.hi && b.hi >= 0 && down.lo <= down.hi && b.lo < 0;
        if (b.lo < 0) {
            lb_buf_put_c(s->out, "\"-\" ");
            magnitudes(s->out, down.lo, down.hi);
        }
        lb_buf_put_c(s->out, two ? " | " : "");
        if (b.hi >= 0)
            magnitudes(s->out, up.lo, up.hi);
        return LB_OK;
    }
    bool wrote = b.hi >= 0 && real_magnitudes(s->out, up, "", "");
    if (b.lo < 0)
        real_magnitudes(s->out, down, "\"-\" ", wrote ? " | " : "");
    return LB_OK;
}
