/* SPDX-License-Identifier: Apache-2.0 */
/* bytelevel.c: see bytelevel.h. No tables: the two runs of moved bytes have a closed form. */
#include "text/bytelevel.h"

/* Moved bytes in order: 0-32 -> 256.., 127-160 -> 289.., 173 -> 323. */
u32 lb_bytelevel_char(u8 byte) {
    if (byte <= 32)
        return 256u + byte;
    if (byte >= 127 && byte <= 160)
        return 256u + 33 + (byte - 127u);
    return byte == 173 ? 256u + 33 + 34 : byte;
}

int lb_bytelevel_byte(u32 cp) {
    if (cp < 256)
        return lb_bytelevel_char((u8)cp) == cp ? (int)cp : -1;
    u32 n = cp - 256;
    if (n < 33)
        return (int)n;
    if (n < 33 + 34)
        return (int)(n - 33 + 127);
    return n == 33 + 34 ? 173 : -1;
}

u32 lb_utf8_next(lb_str text, size_t *pos) {
    u8 c = (u8)text.ptr[(*pos)++];
    if (c < 0x80)
        return c;
    u32 n = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    u32 cp = c & (0x3fu >> n);
    if (c < 0xc2 || c > 0xf4 || text.len - *pos < n)
        return 0xfffd;
    for (u32 i = 0; i < n; i++) {
        u8 d = (u8)text.ptr[*pos + i];
        if ((d & 0xc0) != 0x80)
            return 0xfffd;
        cp = cp << 6 | (d & 0x3fu);
    }
    *pos += n;
    return cp;
}

void lb_utf8_put(lb_buf *out, u32 cp) {
    u8 b[4];
    if (cp < 0x80) {
        lb_buf_put_u8(out, (u8)cp);
    } else if (cp < 0x800) {
        b[0] = (u8)(0xc0 | cp >> 6);
        b[1] = (u8)(0x80 | (cp & 0x3f));
        lb_buf_put(out, b, 2);
    } else if (cp < 0x10000) {
        b[0] = (u8)(0xe0 | cp >> 12);
        b[1] = (u8)(0x80 | (cp >> 6 & 0x3f));
        b[2] = (u8)(0x80 | (cp & 0x3f));
        lb_buf_put(out, b, 3);
    } else {
        b[0] = (u8)(0xf0 | (cp >> 18 & 7));
        b[1] = (u8)(0x80 | (cp >> 12 & 0x3f));
        b[2] = (u8)(0x80 | (cp >> 6 & 0x3f));
        b[3] = (u8)(0x80 | (cp & 0x3f));
        lb_buf_put(out, b, 4);
    }
}

/* Length of the longest part at text[i] that a character can begin with; *whole: it is one. Ranges:
 * Unicode, table 3-7. */
static size_t char_part(lb_str text, size_t i, bool *whole) {
    u8 c = (u8)text.ptr[i];
    u8 lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    u8 hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    *whole = c < 0x80;
    if (c < 0xc2 || c > 0xf4)
        return 1;
    for (size_t k = 1; k < n; k++) {
        if (i + k == text.len || (u8)text.ptr[i + k] < lo || (u8)text.ptr[i + k] > hi)
            return k;
        lo = 0x80;
        hi = 0xbf;
    }
    *whole = true;
    return n;
}

void lb_utf8_put_lossy(lb_buf *out, lb_str text) {
    for (size_t i = 0; i < text.len;) {
        bool whole;
        size_t n = char_part(text, i, &whole);
        if (whole)
            lb_buf_put(out, text.ptr + i, n);
        else
            lb_utf8_put(out, 0xfffd);
        i += n;
    }
}

void lb_bytelevel_encode(lb_buf *out, lb_str text) {
    for (size_t i = 0; i < text.len; i++)
        lb_utf8_put(out, lb_bytelevel_char((u8)text.ptr[i]));
}

bool lb_bytelevel_decode(lb_buf *out, lb_str text) {
    for (size_t i = 0; i < text.len;) {
        int b = lb_bytelevel_byte(lb_utf8_next(text, &i));
        if (b < 0)
            return false;
        lb_buf_put_u8(out, (u8)b);
    }
    return true;
}
