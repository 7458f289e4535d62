/* SPDX-License-Identifier: Apache-2.0 */
/* json_write.c: the writer: what Python's json.dumps writes for the same tree.
 *
 * Source: Lib/json/encoder.py of CPython 3.11 (ESCAPE, ESCAPE_ASCII, _make_iterencode). One
 * difference: a lone surrogate is written as its escape also where non-ASCII is not escaped; Python
 * would then make a text that no file can hold. Bytes that are no WTF-8 (never from a file we read)
 * become U+FFFD. */
#include "io/json.h"

#define TREE_DEPTH (2 * LB_JSON_DEPTH)

/* Decodes the sequence at p; its length, or 0 where it is malformed. Surrogates pass (WTF-8). */
static size_t decode(const u8 *p, size_t left, u32 *out) {
    u32 c = p[0];
    size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : 4;
    if (n == 1) {
        *out = c;
        return 1;
    }
    if (c < 0xc2 || c > 0xf4 || n > left)
        return 0;
    c &= 0x7fu >> n;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if ((n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff)))
        return 0;
    *out = c;
    return n;
}

static void put_u16_escape(lb_buf *out, u32 c) {
    static const char digits[] = "0123456789abcdef";
    const char text[6] = {
        '\\', 'u', digits[c >> 12 & 15], digits[c >> 8 & 15], digits[c >> 4 & 15], digits[c & 15]};
    lb_buf_put(out, text, sizeof text);
}

static void put_escape(lb_buf *out, u32 c) {
    static const char plain[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
    const char *k = c && c < 0x80 ? strchr(plain, (int)c) : NULL;
    if (k) {
        lb_buf_put_u8(out, '\\');
        lb_buf_put_u8(out, (u8)letters[k - plain]);
    } else if (c >= 0x10000) {
        put_u16_escape(out, 0xd800 + ((c - 0x10000) >> 10));
        put_u16_escape(out, 0xdc00 + ((c - 0x10000) & 0x3ff));
    } else {
        put_u16_escape(out, c);
    }
}

static bool needs_escape(u32 c, bool ascii) {
    if (c < 0x20 || c == '"' || c == '\\' || (c >= 0xd800 && c < 0xe000))
        return true;
    return ascii && c > 0x7e;
}

void lb_json_write_str(lb_buf *out, lb_str s, bool ascii) {
    const u8 *p = (const u8 *)s.ptr;
    size_t i = 0, start = 0; /* start: of the run that is not written yet */
    lb_buf_put_u8(out, '"');
    while (i < s.len) {
        u32 c = p[i];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            i++;
            continue;
        }
        size_t n = decode(p + i, s.len - i, &c);
        if (n && !needs_escape(c, ascii)) {
            i += n;
            continue;
        }
        lb_buf_put(out, p + start, i - start);
        if (n)
            put_escape(out, c);
        else
            lb_buf_put_c(out, ascii ? "\\ufffd" : "\xef\xbf\xbd");
        i += n ? n : 1;
        start = i;
    }
    if (i > start)
        lb_buf_put(out, p + start, i - start);
    lb_buf_put_u8(out, '"');
}

static void new_line(lb_buf *out, u32 indent, u32 depth) {
    static const char spaces[] = "                                                                ";
    size_t n = (size_t)indent * depth;
    lb_buf_put_u8(out, '\n');
    for (; n && !out->oom; n -= LB_MIN(n, sizeof spaces - 1))
        lb_buf_put(out, spaces, LB_MIN(n, sizeof spaces - 1));
}

static void write_value(lb_buf *out, const lb_json *v, const lb_json_style *style, u32 depth);

static void write_children(lb_buf *out, const lb_json *v, const lb_json_style *style, u32 depth) {
    bool object = v->type == LB_JOBJECT, tight = style->compact && !style->indent;
    lb_buf_put_u8(out, object ? '{' : '[');
    for (const lb_json *c = v->first; c && !out->oom; c = c->next) {
        if (c != v->first)
            lb_buf_put_c(out, style->indent || tight ? "," : ", ");
        if (style->indent)
            new_line(out, style->indent, depth + 1);
        if (object) {
            lb_json_write_str(out, c->key, style->ascii);
            lb_buf_put_c(out, tight ? ":" : ": ");
        }
        write_value(out, c, style, depth + 1);
    }
    if (v->first && style->indent)
        new_line(out, style->indent, depth);
    lb_buf_put_u8(out, object ? '}' : ']');
}

/* Recursion is bounded by TREE_DEPTH. */
static void write_value(lb_buf *out, const lb_json *v, const lb_json_style *style, u32 depth) {
    LB_ASSERT(depth < TREE_DEPTH);
    switch (v->type) {
    case LB_JNULL:
        lb_buf_put_c(out, "null");
        break;
    case LB_JBOOL:
        lb_buf_put_c(out, v->truth ? "true" : "false");
        break;
    case LB_JNUMBER:
        if (style->strict && lb_str_eq_c(v->text, "NaN"))
            lb_buf_put_c(out, "null");
        else if (style->strict && lb_str_ends(v->text, LB_STR("Infinity")))
            lb_buf_put_c(out, v->text.ptr[0] == '-' ? "-1e999" : "1e999");
        else
            lb_buf_put_str(out, v->text);
        break;
    case LB_JSTRING:
        lb_json_write_str(out, v->text, style->ascii);
        break;
    case LB_JARRAY:
    case LB_JOBJECT:
        write_children(out, v, style, depth);
        break;
    }
}

void lb_json_write(lb_buf *out, const lb_json *v, lb_json_style style) {
    if (v)
        write_value(out, v, &style, 0);
    else
        lb_buf_put_c(out, "null");
}

lb_status lb_json_file(const lb_json *v, lb_arena *perm, lb_str *out, lb_err *err) {
    lb_buf b = {0};
    lb_json_write(&b, v, (lb_json_style){.indent = 2});
    lb_buf_put_c(&b, "\n");
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK) {
        *out = lb_arena_str(perm, lb_buf_str(&b));
        st = out->ptr ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for a JSON file");
    }
    lb_buf_deinit(&b);
    return st;
}
