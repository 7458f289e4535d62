/* SPDX-License-Identifier: Apache-2.0 */
/* charsmap.c: see charsmap.h. */
#include "text/charsmap.h"

#include "text/bytelevel.h"
#include <utf8proc.h>

#define GRAPHEME_BYTES_MAX 6

static u32 unit(const lb_charsmap *m, u64 i) {
    const u8 *p = m->unit + 4 * i;
    return (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

lb_status lb_charsmap_init(lb_charsmap *m, lb_str bytes, lb_err *err) {
    *m = (lb_charsmap){0};
    if (!bytes.len)
        return LB_OK;
    const u8 *p = (const u8 *)bytes.ptr;
    u32 size = bytes.len >= 4 ? (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24 : 0;
    if (bytes.len < 4 || size > bytes.len - 4 || size % 4 || !size)
        return lb_fail(err, LB_E_FORMAT,
                       "precompiled_charsmap: its table does not fit in %zu bytes", bytes.len);
    m->unit = p + 4;
    m->n_units = size / 4;
    m->texts = lb_str_sub(bytes, 4 + (size_t)size, bytes.len);
    return LB_OK;
}

/* The entry at the beginning of a text, the longest or the shortest: bytes that it takes; 0: none.
 */
static size_t find(const lb_charsmap *m, lb_str text, bool longest, lb_str *to) {
    size_t taken = 0;
    u64 at = 0;
    if (!m->n_units)
        return 0;
    u32 u = unit(m, 0);
    at ^= (u64)(u >> 10) << ((u & 512u) >> 6);
    for (size_t i = 0; i < text.len; i++) {
        u8 c = (u8)text.ptr[i];
        at ^= c;
        if (!c || at >= m->n_units)
            break;
        u = unit(m, at);
        if ((u & 0x800000ffu) != c)
            break;
        at ^= (u64)(u >> 10) << ((u & 512u) >> 6);
        if (!(u >> 8 & 1) || at >= m->n_units)
            continue;
        u32 value = unit(m, at) & 0x7fffffffu;
        if (value >= m->texts.len)
            break;
        const char *p = m->texts.ptr + value, *end = memchr(p, 0, m->texts.len - value);
        *to = (lb_str){p, end ? (size_t)(end - p) : m->texts.len - value};
        taken = i + 1;
        if (!longest)
            break;
    }
    return taken;
}

static size_t char_end(lb_str in, size_t i) {
    (void)lb_utf8_next(in, &i);
    return i;
}

static size_t grapheme_end(lb_str in, size_t i) {
    utf8proc_int32_t state = 0;
    u32 last = lb_utf8_next(in, &i);
    while (i < in.len) {
        size_t next = i;
        u32 cp = lb_utf8_next(in, &next);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)last, (utf8proc_int32_t)cp, &state))
            break;
        last = cp;
        i = next;
    }
    return i;
}

static void run_longest(const lb_charsmap *m, lb_str in, lb_buf *out) {
    for (size_t i = 0; i < in.len;) {
        lb_str to;
        size_t n = find(m, lb_str_sub(in, i, in.len), true, &to);
        if (n) {
            lb_buf_put_str(out, lb_str_is_utf8(to) ? to : LB_STR_NONE);
        } else {
            n = char_end(in, i) - i;
            lb_buf_put(out, in.ptr + i, n);
        }
        i += n;
    }
}

void lb_charsmap_run(const lb_charsmap *m, lb_str in, bool longest, lb_buf *out) {
    if (longest) {
        run_longest(m, in, out);
        return;
    }
    for (size_t i = 0; i < in.len;) {
        lb_str to;
        size_t end = grapheme_end(in, i);
        if (end - i < GRAPHEME_BYTES_MAX && find(m, lb_str_sub(in, i, end), false, &to)) {
            lb_buf_put_str(out, lb_str_is_utf8(to) ? to : LB_STR_NONE);
            i = end;
            continue;
        }
        while (i < end) {
            size_t next = char_end(in, i);
            lb_str c = lb_str_sub(in, i, next);
            bool is = find(m, c, false, &to) != 0;
            lb_buf_put_str(out, !is ? c : lb_str_is_utf8(to) ? to : LB_STR_NONE);
            i = next;
        }
    }
}

static int digit(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

bool lb_base64_decode(lb_str t, lb_buf *out) {
    while (t.len && t.ptr[t.len - 1] == '=')
        t.len--;
    u32 bits = 0, n = 0;
    for (size_t i = 0; i < t.len; i++) {
        int d = digit(t.ptr[i]);
        if (d < 0)
            return false;
        bits = bits << 6 | (u32)d;
        n += 6;
        if (n >= 8) {
            n -= 8;
            lb_buf_put_u8(out, (u8)(bits >> n));
        }
    }
    return true;
}

void lb_base64_encode(lb_str bytes, lb_buf *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes.len; i += 3) {
        u32 left = (u32)LB_MIN(bytes.len - i, (size_t)3), bits = 0;
        for (u32 k = 0; k < 3; k++)
            bits = bits << 8 | (k < left ? (u8)bytes.ptr[i + k] : 0u);
        for (u32 k = 0; k < 4; k++)
            lb_buf_put_u8(out, (u8)(k <= left ? digits[bits >> (18 - 6 * k) & 63] : '='));
    }
}
