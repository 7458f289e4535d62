/* SPDX-License-Identifier: Apache-2.0 */
/* json.c: the pull reader: one token a call, no allocation, no recursion.
 *
 * The grammar is RFC 8259 with Python's three words for non-finite numbers. A string's end is found
 * eight bytes at a time; its UTF-8 is checked once, over the whole, and only if a byte above 0x7f
 * was seen: no byte of a well-formed sequence looks like a quote or a backslash. Escapes are
 * checked here and decoded on demand (lb_json_string). */
#include "io/json.h"

enum {
    S_VALUE,      /* a value must come */
    S_FIRST_ELEM, /* behind '[': a value or ']' */
    S_FIRST_KEY,  /* behind '{': a key or '}' */
    S_KEY,        /* behind ',' in an object */
    S_AFTER,      /* behind a value inside a container */
    S_DONE,       /* behind the outermost value */
};

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

void lb_json_begin(lb_json_reader *r, lb_str text) {
    *r = (lb_json_reader){.ptr = text.ptr, .len = text.len, .state = S_VALUE};
}

static lb_status fail(const lb_json_reader *r, size_t pos, const char *what, lb_err *err) {
    u64 line = r->line_base + 1;
    for (const char *p = r->ptr, *nl; pos && (nl = memchr(p, '\n', (size_t)(r->ptr + pos - p)));
         p = nl + 1)
        line++;
    return lb_fail_at(err, LB_E_FORMAT, r->off_base + pos, "JSON: byte %llu (line %llu): %s",
                      (unsigned long long)(r->off_base + pos), (unsigned long long)line, what);
}

static lb_status ends_early(lb_json_reader *r, lb_err *err) {
    r->starved = true;
    return fail(r, r->len, "the text ends too early", err);
}

static inline size_t skip_space(const char *p, size_t pos, size_t len) {
    while (pos < len) {
        char c = p[pos];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            break;
        pos++;
        while (len - pos >= 8 && lb_load_u64(p + pos) == ONES * ' ')
            pos += 8;
    }
    return pos;
}

/* High bit of each byte of x that ends a plain run: '"', '\\' or a control byte. The lowest bit
 * that is set is exact; those above it may be borrow. */
static inline u64 specials(u64 x) {
    u64 quote = x ^ ONES * '"', slash = x ^ ONES * '\\';
    return (((quote - ONES) & ~quote) | ((slash - ONES) & ~slash) | ((x - ONES * 0x20) & ~x)) &
           HIGHS;
}

/* Place of the next special byte at or behind pos (len if there is none); *high collects the bytes
 * before it. */
static inline size_t plain_run(const char *p, size_t pos, size_t len, u64 *high) {
    while (len - pos >= 8) {
        u64 x = lb_load_u64(p + pos), hit = specials(x);
        if (hit) {
            u64 low = hit & -hit; /* bit 7 of the special byte */
            *high |= x & (low - 1) & HIGHS;
            return pos + (size_t)(__builtin_ctzll(low) / 8);
        }
        *high |= x & HIGHS;
        pos += 8;
    }
    for (; pos < len; pos++) {
        u8 c = (u8)p[pos];
        if (c == '"' || c == '\\' || c < 0x20)
            break;
        *high |= c & 0x80u;
    }
    return pos;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes of the escape at p[0] = '\\', 0 if it is none. */
static size_t escape_len(const char *p, size_t left) {
    if (left < 2)
        return 0;
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return 2;
    case 'u':
        if (left < 6)
            return 0;
        for (int i = 2; i < 6; i++)
            if (hex_digit(p[i]) < 0)
                return 0;
        return 6;
    default:
        return 0;
    }
}

/* r->pos is at the opening quote; ends behind the closing one. */
static lb_status read_string(lb_json_reader *r, lb_err *err) {
    const char *p = r->ptr;
    size_t start = r->pos + 1, pos = start, n;
    u64 high = 0;
    r->has_escape = false;
    for (;;) {
        pos = plain_run(p, pos, r->len, &high);
        if (pos == r->len)
            return ends_early(r, err);
        if (p[pos] == '"')
            break;
        if (p[pos] != '\\')
            return fail(r, pos, "control byte in a string: write it as an escape", err);
        n = escape_len(p + pos, r->len - pos);
        if (n == 0 && r->len - pos < 6 && !memchr(p + pos, '"', r->len - pos))
            return ends_early(r, err);
        if (n == 0)
            return fail(r, pos, "unknown escape in a string", err);
        r->has_escape = true;
        pos += n;
    }
    r->raw = (lb_str){p + start, pos - start};
    if (high && !lb_str_is_utf8(r->raw))
        return fail(r, start, "the string that starts here is not UTF-8", err);
    r->pos = pos + 1;
    return LB_OK;
}

static inline bool digit_at(const lb_json_reader *r, size_t pos) {
    return pos < r->len && r->ptr[pos] >= '0' && r->ptr[pos] <= '9';
}

/* Place behind the digits at pos; at least one must be there. */
static lb_status read_digits(lb_json_reader *r, size_t *pos, lb_err *err) {
    if (*pos == r->len)
        return ends_early(r, err);
    if (!digit_at(r, *pos))
        return fail(r, *pos, "digit expected", err);
    while (digit_at(r, *pos))
        ++*pos;
    return LB_OK;
}

static lb_status read_number(lb_json_reader *r, lb_err *err) {
    size_t pos = r->pos;
    if (r->ptr[pos] == '-')
        pos++;
    if (digit_at(r, pos) && r->ptr[pos] == '0') {
        pos++;
        if (digit_at(r, pos))
            return fail(r, r->pos, "a number has no leading zeros", err);
    } else {
        LB_TRY(read_digits(r, &pos, err));
    }
    if (pos < r->len && r->ptr[pos] == '.') {
        pos++;
        LB_TRY(read_digits(r, &pos, err));
    }
    if (pos < r->len && (r->ptr[pos] == 'e' || r->ptr[pos] == 'E')) {
        pos++;
        if (pos < r->len && (r->ptr[pos] == '+' || r->ptr[pos] == '-'))
            pos++;
        LB_TRY(read_digits(r, &pos, err));
    }
    r->raw = (lb_str){r->ptr + r->pos, pos - r->pos};
    r->pos = pos;
    return LB_OK;
}

/* A fixed word at r->pos. */
static lb_status read_word(lb_json_reader *r, const char *word, lb_err *err) {
    size_t n = strlen(word), left = r->len - r->pos;
    if (memcmp(r->ptr + r->pos, word, LB_MIN(n, left)) != 0)
        return fail(r, r->pos, "value expected", err);
    if (left < n)
        return ends_early(r, err);
    r->raw = (lb_str){r->ptr + r->pos, n};
    r->pos += n;
    return LB_OK;
}

static lb_status push(lb_json_reader *r, bool object, lb_err *err) {
    if (r->depth == LB_JSON_DEPTH)
        return fail(r, r->pos, "nested deeper than 64 levels", err);
    u64 bit = (u64)1 << r->depth++;
    r->is_object = object ? r->is_object | bit : r->is_object & ~bit;
    r->state = object ? S_FIRST_KEY : S_FIRST_ELEM;
    r->pos++;
    return LB_OK;
}
_Static_assert(LB_JSON_DEPTH == 64, "is_object has one bit a level; the message names the limit");

static inline bool in_object(const lb_json_reader *r) {
    return r->is_object >> (r->depth - 1) & 1;
}

static inline void value_done(lb_json_reader *r) {
    r->state = r->depth ? S_AFTER : S_DONE;
}

static lb_json_tok pop(lb_json_reader *r) {
    lb_json_tok tok = in_object(r) ? LB_JSON_OBJECT_END : LB_JSON_ARRAY_END;
    r->depth--;
    r->pos++;
    value_done(r);
    return tok;
}

static lb_status read_value(lb_json_reader *r, lb_json_tok *tok, lb_err *err) {
    const char *word = NULL;
    switch (r->ptr[r->pos]) {
    case '{':
        *tok = LB_JSON_OBJECT;
        return push(r, true, err);
    case '[':
        *tok = LB_JSON_ARRAY;
        return push(r, false, err);
    case '"':
        *tok = LB_JSON_STRING;
        LB_TRY(read_string(r, err));
        value_done(r);
        return LB_OK;
    case 't':
        *tok = LB_JSON_TRUE;
        word = "true";
        break;
    case 'f':
        *tok = LB_JSON_FALSE;
        word = "false";
        break;
    case 'n':
        *tok = LB_JSON_NULL;
        word = "null";
        break;
    case 'N':
        *tok = LB_JSON_NUMBER;
        word = "NaN";
        break;
    case 'I':
        *tok = LB_JSON_NUMBER;
        word = "Infinity";
        break;
    case '-':
        *tok = LB_JSON_NUMBER;
        if (r->pos + 1 < r->len && r->ptr[r->pos + 1] == 'I')
            word = "-Infinity";
        break;
    default:
        if (!digit_at(r, r->pos))
            return fail(r, r->pos, "value expected", err);
        *tok = LB_JSON_NUMBER;
        break;
    }
    LB_TRY(word ? read_word(r, word, err) : read_number(r, err));
    value_done(r);
    return LB_OK;
}

static lb_status read_key(lb_json_reader *r, lb_json_tok *tok, lb_err *err) {
    if (r->ptr[r->pos] != '"')
        return fail(r, r->pos, "key in double quotes expected", err);
    size_t start = r->pos;
    LB_TRY(read_string(r, err));
    size_t pos = skip_space(r->ptr, r->pos, r->len);
    r->pos = start; /* until the colon is there the key was not read */
    if (pos == r->len)
        return ends_early(r, err);
    if (r->ptr[pos] != ':')
        return fail(r, pos, "':' expected behind a key", err);
    r->pos = pos + 1;
    r->state = S_VALUE;
    *tok = LB_JSON_KEY;
    return LB_OK;
}

lb_status lb_json_next(lb_json_reader *r, lb_json_tok *tok, lb_err *err) {
    *tok = LB_JSON_END;
    r->starved = false;
    size_t pos = skip_space(r->ptr, r->pos, r->len);
    if (pos == r->len) {
        if (r->state != S_DONE)
            return ends_early(r, err);
        r->pos = pos;
        return LB_OK;
    }
    r->pos = pos;
    char c = r->ptr[pos];
    switch (r->state) {
    case S_DONE:
        return fail(r, pos, "text behind the value", err);
    case S_AFTER:
        if (c == (in_object(r) ? '}' : ']')) {
            *tok = pop(r);
            return LB_OK;
        }
        if (c != ',')
            return fail(r, pos, in_object(r) ? "',' or '}' expected" : "',' or ']' expected", err);
        r->pos = skip_space(r->ptr, pos + 1, r->len);
        r->state = in_object(r) ? S_KEY : S_VALUE;
        if (r->pos == r->len)
            return ends_early(r, err);
        return r->state == S_KEY ? read_key(r, tok, err) : read_value(r, tok, err);
    case S_FIRST_KEY:
        if (c == '}') {
            *tok = pop(r);
            return LB_OK;
        }
        return read_key(r, tok, err);
    case S_FIRST_ELEM:
        if (c == ']') {
            *tok = pop(r);
            return LB_OK;
        }
        return read_value(r, tok, err);
    case S_KEY:
        return read_key(r, tok, err);
    default:
        return read_value(r, tok, err);
    }
}

lb_status lb_json_skip(lb_json_reader *r, lb_err *err) {
    u32 depth = r->depth;
    lb_json_tok tok;
    do {
        LB_TRY(lb_json_next(r, &tok, err));
        if (r->depth < depth || tok == LB_JSON_END)
            return fail(r, r->pos, "value expected", err);
    } while (r->depth > depth || tok == LB_JSON_KEY);
    return LB_OK;
}

static u32 hex4(const char *p) {
    u32 v = 0;
    for (int i = 0; i < 4; i++)
        v = v << 4 | (u32)hex_digit(p[i]);
    return v;
}

/* UTF-8, surrogates included (WTF-8). */
static char *put_code_point(char *out, u32 c) {
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

/* One escape at *p (checked by the reader), two if they are the halves of a pair. */
static char *decode_escape(const char **p, const char *end, char *out) {
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    char c = (*p)[1];
    if (c != 'u') {
        const char *k = strchr(from, c);
        *out++ = k ? to[k - from] : c;
        *p += 2;
        return out;
    }
    u32 v = hex4(*p + 2);
    *p += 6;
    if (v >= 0xd800 && v < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u') {
        u32 low = hex4(*p + 2);
        if (low >= 0xdc00 && low < 0xe000) {
            v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
            *p += 6;
        }
    }
    return put_code_point(out, v);
}

lb_status lb_json_string(const lb_json_reader *r, lb_arena *perm, lb_str *out, lb_err *err) {
    *out = r->raw;
    if (!r->has_escape)
        return LB_OK;
    /* Decoding never makes a string longer: 2 bytes become 1, 6 at most 3, 12 of a pair 4. */
    char *dst = lb_arena_push(perm, r->raw.len + 1, 1), *q = dst;
    if (!dst)
        return lb_fail(err, LB_E_NOMEM, "JSON: out of memory for a string of %zu bytes",
                       r->raw.len);
    const char *p = r->raw.ptr, *end = p + r->raw.len;
    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((slash ? slash : end) - p);
        memcpy(q, p, n);
        q += n;
        p += n;
        if (slash)
            q = decode_escape(&p, end, q);
    }
    *q = 0;
    *out = (lb_str){dst, (size_t)(q - dst)};
    return LB_OK;
}

lb_status lb_json_u64(const lb_json_reader *r, u64 *out, lb_err *err) {
    if (lb_str_to_u64(r->raw, out))
        return LB_OK;
    return fail(r, r->pos - r->raw.len, "whole number from 0 to 2^64 - 1 expected", err);
}
