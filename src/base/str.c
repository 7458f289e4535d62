/* SPDX-License-Identifier: Apache-2.0 */
/* str.c: comparing, searching and checking string views. */
#include "base/base.h"

int lb_str_cmp(lb_str a, lb_str b) {
    size_t n = LB_MIN(a.len, b.len);
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* The run of digits at *pos without its leading zeros; *pos moves behind it. */
static lb_str digit_run(lb_str s, size_t *pos) {
    size_t i = *pos;
    while (i < s.len && s.ptr[i] == '0')
        i++;
    size_t start = i;
    while (i < s.len && is_digit(s.ptr[i]))
        i++;
    *pos = i;
    return lb_str_sub(s, start, i);
}

/* A total order: strings that differ only in leading zeros are ordered bytewise. */
int lb_str_cmp_natural(lb_str a, lb_str b) {
    size_t i = 0, j = 0;
    while (i < a.len && j < b.len) {
        if (is_digit(a.ptr[i]) && is_digit(b.ptr[j])) {
            lb_str x = digit_run(a, &i), y = digit_run(b, &j);
            if (x.len != y.len)
                return x.len < y.len ? -1 : 1;
            int c = lb_str_cmp(x, y);
            if (c)
                return c;
        } else {
            u8 x = (u8)a.ptr[i++], y = (u8)b.ptr[j++];
            if (x != y)
                return x < y ? -1 : 1;
        }
    }
    if (i < a.len || j < b.len)
        return i < a.len ? 1 : -1;
    return lb_str_cmp(a, b);
}

bool lb_str_starts(lb_str s, lb_str prefix) {
    return s.len >= prefix.len && lb_str_eq(lb_str_sub(s, 0, prefix.len), prefix);
}

bool lb_str_ends(lb_str s, lb_str suffix) {
    return s.len >= suffix.len && lb_str_eq(lb_str_sub(s, s.len - suffix.len, s.len), suffix);
}

bool lb_str_find(lb_str s, lb_str needle, size_t *pos) {
    if (needle.len == 0) {
        *pos = 0;
        return true;
    }
    size_t at = 0;
    while (needle.len <= s.len - at) {
        const char *p = memchr(s.ptr + at, needle.ptr[0], s.len - at - needle.len + 1);
        if (!p)
            return false;
        at = (size_t)(p - s.ptr);
        if (memcmp(p, needle.ptr, needle.len) == 0) {
            *pos = at;
            return true;
        }
        at++;
    }
    return false;
}

lb_str lb_str_sub(lb_str s, size_t from, size_t to) {
    to = LB_MIN(to, s.len);
    if (from >= to)
        return (lb_str){s.ptr ? s.ptr + to : NULL, 0};
    return (lb_str){s.ptr + from, to - from};
}

bool lb_str_to_u64(lb_str s, u64 *out) {
    u64 v = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (!is_digit(s.ptr[i]) || !lb_mul_u64(v, 10, &v) ||
            !lb_add_u64(v, (u64)(s.ptr[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

/* Length of the well-formed sequence at p (Unicode 15, table 3-7), 0 if there is none. */
static size_t utf8_sequence(const u8 *p, size_t left) {
    u8 c = p[0], lo = 0x80, hi = 0xbf;
    size_t n;
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    if (c < 0xe0) {
        n = 2;
    } else if (c < 0xf0) {
        n = 3;
        lo = c == 0xe0 ? 0xa0 : 0x80; /* no overlong form */
        hi = c == 0xed ? 0x9f : 0xbf; /* no surrogate */
    } else {
        n = 4;
        lo = c == 0xf0 ? 0x90 : 0x80;
        hi = c == 0xf4 ? 0x8f : 0xbf; /* at most U+10FFFF */
    }
    if (n > left || p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

bool lb_str_is_utf8(lb_str s) {
    const u8 *p = (const u8 *)s.ptr;
    size_t i = 0;
    while (i < s.len) {
        if (s.len - i >= 8 && !(lb_load_u64(p + i) & 0x8080808080808080u)) {
            i += 8;
            continue;
        }
        size_t n = utf8_sequence(p + i, s.len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

bool lb_str_is_file_name(lb_str s) {
    if (s.len == 0 || lb_str_eq_c(s, ".") || lb_str_eq_c(s, ".."))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        u8 c = (u8)s.ptr[i];
        if (c < 0x20 || c == 0x7f || c == '/' || c == '\\')
            return false;
    }
    return true;
}

#define NEAR_MAX 63 /* bytes that are compared */

u32 lb_edit_distance(const char *a, const char *b) {
    size_t na = LB_MIN(strlen(a), (size_t)NEAR_MAX), nb = LB_MIN(strlen(b), (size_t)NEAR_MAX);
    u32 row[3][NEAR_MAX + 1]; /* i - 2, i - 1, i */
    for (size_t j = 0; j <= nb; j++)
        row[1][j] = (u32)j;
    for (size_t i = 1; i <= na; i++) {
        row[2][0] = (u32)i;
        for (size_t j = 1; j <= nb; j++) {
            u32 best = row[1][j - 1] + (a[i - 1] != b[j - 1]);
            best = LB_MIN(best, row[1][j] + 1);
            best = LB_MIN(best, row[2][j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = LB_MIN(best, row[0][j - 2] + 1);
            row[2][j] = best;
        }
        memcpy(row[0], row[1], sizeof row[0]);
        memcpy(row[1], row[2], sizeof row[1]);
    }
    return row[1][nb];
}

bool lb_is_near(const char *a, const char *b, u32 *distance) {
    size_t na = strlen(a), nb = strlen(b);
    *distance = lb_edit_distance(a, b);
    /* A beginning of the right word of three letters or more is near, whatever is missing. */
    if (na >= 3 && na < nb && memcmp(a, b, na) == 0) {
        *distance = 1;
        return true;
    }
    return *distance <= LB_MAX((u32)1, (u32)LB_MAX(na, nb) / 3);
}
