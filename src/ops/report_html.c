/* SPDX-License-Identifier: Apache-2.0 */
/* report_html.c: text that files brought, on a page: it can neither leave its element nor steer how
 * the page is read. What is written is well-formed XML, too. */
#include "ops/report_internal.h"
#include <math.h>

/* Bytes of the character at the front; 0: no UTF-8. */
static u32 character(lb_str s, u32 *code) {
    u8 c = (u8)s.ptr[0];
    u32 n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (n == 0 || n > s.len || !lb_str_is_utf8(lb_str_sub(s, 0, n)))
        return 0;
    *code = n == 1 ? c : c & (0x7fu >> n);
    for (u32 i = 1; i < n; i++)
        *code = *code << 6 | ((u8)s.ptr[i] & 63);
    return n;
}

/* Control characters, marks without width or of direction, what XML has no place for. */
static bool is_hidden(u32 c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e ||
           (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || (c >= 0xfe00 && c <= 0xfe0f) || c == 0xfeff ||
           (c >= 0xfff9 && c <= 0xfffb) || (c & 0xfffe) == 0xfffe || (c >= 0xfdd0 && c <= 0xfdef) ||
           c >= 0xe0000;
}

/* One character or one byte that is none; returns how many bytes it took. */
static u32 put_character(lb_buf *out, lb_str s) {
    u32 code = 0, n = character(s, &code);
    if (n == 0) {
        lb_buf_printf(out, "\\x%02x", (u8)s.ptr[0]);
        return 1;
    }
    if (code < 0x80 && is_hidden(code))
        lb_buf_printf(out, "\\x%02x", code);
    else if (is_hidden(code))
        lb_buf_printf(out, "\\u%04x", code);
    else if (code == '&')
        lb_buf_put_c(out, "&amp;");
    else if (code == '<')
        lb_buf_put_c(out, "&lt;");
    else if (code == '>')
        lb_buf_put_c(out, "&gt;");
    else if (code == '"')
        lb_buf_put_c(out, "&quot;");
    else if (code == '\'')
        lb_buf_put_c(out, "&#39;");
    else
        lb_buf_put(out, s.ptr, n);
    return n;
}

void lb_html_text(lb_buf *out, lb_str s) {
    for (size_t i = 0; i < s.len;)
        i += put_character(out, lb_str_sub(s, i, s.len));
}

static u64 count_characters(lb_str s) {
    u64 n = 0;
    u32 code;
    for (size_t i = 0; i < s.len; n++) {
        u32 k = character(lb_str_sub(s, i, s.len), &code);
        i += k ? k : 1;
    }
    return n;
}

void lb_html_cut(lb_buf *out, lb_str s, u32 n_max) {
    u64 n = count_characters(s), keep = n_max / 2, at = 0;
    u32 code;
    if (n <= n_max) {
        lb_html_text(out, s);
        return;
    }
    for (size_t i = 0; i < s.len; at++) {
        lb_str rest = lb_str_sub(s, i, s.len);
        u32 k = character(rest, &code);
        if (at == keep)
            lb_buf_put_c(out, "\xe2\x80\xa6");
        if (at < keep || at >= n - (n_max - 1 - keep))
            k = put_character(out, rest);
        i += k ? k : 1;
    }
}

void lb_html_name(lb_buf *out, lb_str s) {
    lb_html_cut(out, s, LB_REPORT_NAME_CHARS);
}

void lb_html_digits(lb_buf *out, u64 n) {
    char text[32], *p = text + sizeof text;
    u32 k = 0;
    *--p = '\0';
    do {
        if (k && k % 3 == 0)
            *--p = ',';
        *--p = (char)('0' + n % 10);
        k++;
    } while (n /= 10);
    lb_buf_put_c(out, p);
}

void lb_html_percent(lb_buf *out, double x) {
    lb_html_error(out, x * 100);
    if (isfinite(x))
        lb_buf_put_c(out, "%");
}

void lb_html_error(lb_buf *out, double x) {
    if (isnan(x))
        lb_buf_put_c(out, "no number");
    else if (isinf(x))
        lb_buf_put_c(out, "\xe2\x88\x9e");
    else if (x == 0)
        lb_buf_put_c(out, "0");
    else
        lb_buf_printf(out, x < 1e-4 ? "%.2e" : "%.3g", x);
}
