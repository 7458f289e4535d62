/* SPDX-License-Identifier: Apache-2.0 */
/* json_num.c: text of numbers to integers and doubles, and doubles to their shortest text.
 *
 * The C library does the correct rounding, fed with "digits e exponent" and read the same way, so
 * that no decimal point and with it no locale is involved. Digits beyond those that can decide a
 * rounding become one: the middle between two doubles is m x 2^-1075 (or a larger power of two)
 * with m < 2^54, which is m x 5^1075 x 10^-1075: at most 54 log10(2) + 1075 log10(5) = 767.7, so
 * 768 digits. */
#include "io/json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DIGITS_MAX 770
#define EXP_MAX ((i64)1 << 40) /* beyond any text's length: sums stay small */

/* digits x 10^exp; no zeros at either end; n == 0 is zero. more: digits were dropped. */
typedef struct decimal {
    bool negative, more;
    u32 n;
    i64 exp;
    char digits[DIGITS_MAX];
} decimal;

static void add_digit(decimal *d, char c, bool behind_point) {
    if (d->n == 0 && c == '0') {
        d->exp -= behind_point;
    } else if (d->n < DIGITS_MAX) {
        d->digits[d->n++] = c;
        d->exp -= behind_point;
    } else {
        d->more |= c != '0';
        d->exp += !behind_point;
    }
}

/* The sign and digits of the exponent part, saturated. */
static i64 read_exponent(lb_str s) {
    size_t i = s.len && (s.ptr[0] == '-' || s.ptr[0] == '+');
    i64 e = 0;
    for (; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9'; i++)
        if (e < EXP_MAX)
            e = e * 10 + (s.ptr[i] - '0');
    return s.len && s.ptr[0] == '-' ? -e : e;
}

/* Text as the reader accepts it; false for the words NaN and Infinity. */
static bool read_decimal(lb_str s, decimal *d) {
    bool behind_point = false;
    size_t i = 0;
    d->negative = s.len && s.ptr[0] == '-';
    d->more = false;
    d->n = 0;
    d->exp = 0;
    i += d->negative;
    if (i == s.len || s.ptr[i] < '0' || s.ptr[i] > '9')
        return false;
    for (; i < s.len; i++) {
        char c = s.ptr[i];
        if (c >= '0' && c <= '9') {
            add_digit(d, c, behind_point);
        } else if (c == '.') {
            behind_point = true;
        } else if (c == 'e' || c == 'E') {
            d->exp += read_exponent(lb_str_sub(s, i + 1, s.len));
            break;
        } else {
            return false;
        }
    }
    while (d->n && !d->more && d->digits[d->n - 1] == '0') {
        d->n--;
        d->exp++;
    }
    return true;
}

static double decimal_value(const decimal *d) {
    char text[DIGITS_MAX + 32];
    i64 exp = d->exp - d->more;
    exp = LB_MIN(LB_MAX(exp, (i64)-99999), (i64)99999);
    if (d->n == 0)
        return d->negative ? -0.0 : 0.0;
    snprintf(text, sizeof text, "%s%.*s%se%d", d->negative ? "-" : "", (int)d->n, d->digits,
             d->more ? "1" : "", (int)exp);
    return strtod(text, NULL);
}

static bool word_value(lb_str s, double *out) {
    if (lb_str_eq_c(s, "NaN"))
        *out = NAN;
    else if (lb_str_eq_c(s, "Infinity"))
        *out = INFINITY;
    else if (lb_str_eq_c(s, "-Infinity"))
        *out = -INFINITY;
    else
        return false;
    return true;
}

bool lb_json_as_f64(const lb_json *v, double *out) {
    decimal d;
    if (!v)
        return false;
    if (v->type == LB_JOBJECT) { /* how transformers writes non-finite values in strict JSON */
        const lb_json *word = lb_json_get(v, "__float__");
        return word && v->n == 1 && word->type == LB_JSTRING && word_value(word->text, out);
    }
    if (v->type != LB_JNUMBER)
        return false;
    if (!read_decimal(v->text, &d))
        return word_value(v->text, out);
    *out = decimal_value(&d);
    return true;
}

/* The magnitude, if it is a whole number that fits. */
static bool whole(const lb_json *v, u64 *out, bool *negative) {
    decimal d;
    u64 n = 0;
    if (!v || v->type != LB_JNUMBER || !read_decimal(v->text, &d))
        return false;
    if (d.n && (d.more || d.exp < 0 || d.n + d.exp > 20))
        return false;
    for (u32 i = 0; i < d.n; i++)
        if (!lb_mul_u64(n, 10, &n) || !lb_add_u64(n, (u64)(d.digits[i] - '0'), &n))
            return false;
    for (i64 i = 0; d.n && i < d.exp; i++)
        if (!lb_mul_u64(n, 10, &n))
            return false;
    *out = n;
    *negative = d.negative && n;
    return true;
}

bool lb_json_as_u64(const lb_json *v, u64 *out) {
    u64 n;
    bool negative;
    if (!whole(v, &n, &negative) || negative)
        return false;
    *out = n;
    return true;
}

bool lb_json_as_i64(const lb_json *v, i64 *out) {
    u64 n;
    bool negative;
    if (!whole(v, &n, &negative) || n > (u64)INT64_MAX + negative)
        return false;
    *out = negative ? (i64)(0 - n) : (i64)n;
    return true;
}

bool lb_json_is_int(const lb_json *v) {
    if (!v || v->type != LB_JNUMBER)
        return false;
    size_t i = v->text.len && v->text.ptr[0] == '-', digits = i;
    while (i < v->text.len && v->text.ptr[i] >= '0' && v->text.ptr[i] <= '9')
        i++;
    return i > digits && i == v->text.len;
}

/* ---- shortest text ---- */

/* x > 0 correctly rounded to n digits; value = 0.d1 d2 ... x 10^point. */
static void round_digits(double x, int n, char digits[17], int *point) {
    char text[40];
    int k = 0;
    const char *p = text;
    snprintf(text, sizeof text, "%.*e", n - 1, x);
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            digits[k++] = *p;
    *point = (int)strtol(p + 1, NULL, 10) + 1;
}

static double digits_value(const char *digits, int n, int point) {
    char text[40];
    snprintf(text, sizeof text, "%.*se%d", n, digits, point - n);
    return strtod(text, NULL);
}

/* The fewest digits that read back as x, and of those the nearest to x.
 * Every decimal of at most 15 digits survives the way through a normal double (DBL_DIG), so if a
 * short form exists, rounding to 15 digits gives it, with zeros behind it; subnormals have fewer
 * bits: all lengths are tried. Where x is a power of two the doubles below are closer than those
 * above: a text above x may read back though the nearest one, below x, does not; it is tried too.
 */
static int shortest(double x, char digits[17], int *point) {
    int n = x < 0x1p-1022 ? 1 : 15;
    for (; n < 17; n++) {
        round_digits(x, n, digits, point);
        if (digits_value(digits, n, *point) == x)
            break;
        int k = n - 1;
        char up[17];
        memcpy(up, digits, (size_t)n);
        while (k > 0 && up[k] == '9')
            up[k--] = '0';
        if (up[k] != '9') {
            up[k]++;
            if (digits_value(up, n, *point) == x) {
                memcpy(digits, up, (size_t)n);
                break;
            }
        }
    }
    if (n == 17)
        round_digits(x, n, digits, point);
    while (n > 1 && digits[n - 1] == '0')
        n--;
    return n;
}

/* JSON has no word for them; 1e999 is a number for every reader, and infinite as a double. */
void lb_json_write_number(lb_buf *out, double v) {
    if (isnan(v))
        lb_buf_put_c(out, "null");
    else if (isinf(v))
        lb_buf_put_c(out, v < 0 ? "-1e999" : "1e999");
    else
        lb_json_write_f64(out, v);
}

/* Python's repr (format_float_short, code 'r'): exponent form where the value is below 1e-4 or at
 * least 1e16, with a sign and at least two digits in the exponent; ".0" behind whole numbers. */
void lb_json_write_f64(lb_buf *out, double v) {
    char digits[17];
    int point;
    if (isnan(v)) {
        lb_buf_put_c(out, "NaN");
        return;
    }
    if (signbit(v))
        lb_buf_put_u8(out, '-');
    v = fabs(v);
    if (isinf(v)) {
        lb_buf_put_c(out, "Infinity");
        return;
    }
    if (v == 0) {
        lb_buf_put_c(out, "0.0");
        return;
    }
    int n = shortest(v, digits, &point);
    if (point <= -4 || point > 16) {
        lb_buf_put(out, digits, 1);
        if (n > 1)
            lb_buf_put_u8(out, '.');
        lb_buf_put(out, digits + 1, (size_t)n - 1);
        lb_buf_printf(out, "e%c%02d", point > 0 ? '+' : '-', abs(point - 1));
    } else if (point <= 0) {
        lb_buf_put_c(out, "0.");
        for (int i = point; i < 0; i++)
            lb_buf_put_u8(out, '0');
        lb_buf_put(out, digits, (size_t)n);
    } else if (n <= point) {
        lb_buf_put(out, digits, (size_t)n);
        for (int i = n; i < point; i++)
            lb_buf_put_u8(out, '0');
        lb_buf_put_c(out, ".0");
    } else {
        lb_buf_put(out, digits, (size_t)point);
        lb_buf_put_u8(out, '.');
        lb_buf_put(out, digits + point, (size_t)(n - point));
    }
}
