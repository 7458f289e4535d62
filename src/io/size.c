/* SPDX-License-Identifier: Apache-2.0 */
/* size.c: sizes, counts and times to text, and sizes from it. */
#include "io/size.h"
#include <stdio.h>

static const char *scaled(double v, const char *const *units, size_t n_units, char *out) {
    size_t u = 0;
    for (; v >= 999.5 && u + 1 < n_units; u++)
        v /= 1000;
    int digits = u == 0 || v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2;
    snprintf(out, LB_SIZE_TEXT, "%.*f%s", digits, v, units[u]);
    return out;
}

const char *lb_size_text(u64 size_bytes, char *out) {
    static const char *const units[] = {" B", " kB", " MB", " GB", " TB", " PB", " EB"};
    return scaled((double)size_bytes, units, LB_LEN(units), out);
}

const char *lb_count_text(u64 n, char *out) {
    static const char *const units[] = {"", " k", " M", " B", " T"};
    return scaled((double)n, units, LB_LEN(units), out);
}

/* At most four digits, so that at most one part in a thousand is added. */
const char *lb_size_text_up(u64 size_bytes, char *out) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    u64 scale = 1;
    size_t u = 0;
    for (; lb_ceil_div_u64(size_bytes, scale) >= 10000 && u + 1 < LB_LEN(units); u++)
        scale *= 1000;
    snprintf(out, LB_SIZE_TEXT, "%llu%s", (unsigned long long)lb_ceil_div_u64(size_bytes, scale),
             units[u]);
    return out;
}

/* The unit's size in bytes, 0 for no unit of ours. */
static u64 unit_scale(lb_str s) {
    static const struct {
        const char *name;
        u64 scale;
    } units[] = {{"", 1},
                 {"b", 1},
                 {"k", 1000},
                 {"kb", 1000},
                 {"kib", LB_KIB},
                 {"m", 1000000},
                 {"mb", 1000000},
                 {"mib", LB_MIB},
                 {"g", 1000000000},
                 {"gb", 1000000000},
                 {"gib", LB_GIB},
                 {"t", 1000000000000},
                 {"tb", 1000000000000},
                 {"tib", (u64)1 << 40}};
    char lower[4];
    if (s.len >= sizeof lower)
        return 0;
    for (size_t i = 0; i < s.len; i++)
        lower[i] = s.ptr[i] >= 'A' && s.ptr[i] <= 'Z' ? (char)(s.ptr[i] + 32) : s.ptr[i];
    for (size_t i = 0; i < LB_LEN(units); i++)
        if (lb_str_eq_c((lb_str){lower, s.len}, units[i].name))
            return units[i].scale;
    return 0;
}

/* Place behind the digits at pos. */
static size_t digits_end(lb_str s, size_t pos) {
    while (pos < s.len && s.ptr[pos] >= '0' && s.ptr[pos] <= '9')
        pos++;
    return pos;
}

bool lb_size_parse(lb_str text, u64 *out) {
    u64 whole = 0, frac = 0, frac_scale = 1, sum;
    size_t pos = digits_end(text, 0);
    if (!lb_str_to_u64(lb_str_sub(text, 0, pos), &whole))
        return false;
    if (pos < text.len && text.ptr[pos] == '.') {
        size_t from = pos + 1;
        pos = digits_end(text, from);
        if (pos - from > 6 || !lb_str_to_u64(lb_str_sub(text, from, pos), &frac))
            return false;
        for (size_t i = from; i < pos; i++)
            frac_scale *= 10;
    }
    if (pos < text.len && text.ptr[pos] == ' ')
        pos++;
    u64 scale = unit_scale(lb_str_sub(text, pos, text.len));
    /* scale <= 2^40 and frac < 10^6 < 2^20: their product fits. */
    if (!scale || !lb_mul_u64(whole, scale, &whole) ||
        !lb_add_u64(whole, frac * scale / frac_scale, &sum))
        return false;
    *out = sum;
    return true;
}

const char *lb_clock_text(u64 seconds, char *out) {
    unsigned long long s = seconds % 60, m = seconds / 60 % 60, h = seconds / 3600;
    if (h >= 100)
        snprintf(out, LB_SIZE_TEXT, "%llu d %02llu h", h / 24, h % 24);
    else if (h)
        snprintf(out, LB_SIZE_TEXT, "%llu:%02llu:%02llu", h, m, s);
    else
        snprintf(out, LB_SIZE_TEXT, "%llu:%02llu", m, s);
    return out;
}

const char *lb_duration_text(u64 us, char *out) {
    if (us >= 59950000) /* would be printed as 60.0 s */
        return lb_clock_text(us / 1000000 + (us % 1000000 >= 500000), out);
    snprintf(out, LB_SIZE_TEXT, us < 9995000 ? "%.2f s" : "%.1f s", (double)us / 1e6);
    return out;
}
