/* SPDX-License-Identifier: Apache-2.0 */
/* json_schema_regex.c: patterns (ECMA-262, as JSON Schema has them) and formats as the inside of a
 * JSON string: what JSON escapes is written escaped. A pattern without anchors may stand anywhere
 * in the string. Look-around, back references, word boundaries and properties (\p) are refused. */
#include "text/json_schema_internal.h"
#include <stdlib.h>

#define DEPTH_MAX 100
#define LAST 0x10ffffu

typedef struct range {
    u32 lo, hi;
} range;

typedef struct regex {
    lb_schema *s;
    lb_str text;
    size_t at;
    u32 depth;
    lb_buf *out;
    lb_buf set; /* of range: the class under way */
} regex;

static lb_status refuse(regex *r, const char *what) {
    return lb_schema_fail(r->s, LB_E_UNSUPPORTED, "pattern \"%.*s\": %s (at %zu)",
                          (int)LB_MIN(r->text.len, (size_t)100), r->text.ptr, what, r->at);
}

static int peek(const regex *r, size_t ahead) {
    return r->at + ahead < r->text.len ? (u8)r->text.ptr[r->at + ahead] : -1;
}

static u32 next_char(regex *r) {
    u8 c = (u8)r->text.ptr[r->at];
    u32 len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    u32 v = len == 1 ? c : c & (0x7fu >> len);
    for (u32 i = 1; i < len; i++)
        v = v << 6 | ((u8)r->text.ptr[r->at + i] & 0x3fu);
    r->at += len;
    return v;
}

/* ---- sets ---- */

static void add(regex *r, u32 lo, u32 hi) {
    range x = {lo, hi};
    lb_buf_put(&r->set, &x, sizeof x);
}

static int by_begin(const void *a, const void *b) {
    u32 x = ((const range *)a)->lo, y = ((const range *)b)->lo;
    return x < y ? -1 : x > y;
}

/* The ranges from `from` on become what they do not have. */
static void negate(regex *r, size_t from) {
    range *x = r->set.ptr ? (range *)(void *)(r->set.ptr + from) : NULL;
    size_t n = (r->set.len - from) / sizeof *x;
    u32 next = 0;
    lb_buf out = {0};
    if (n)
        qsort(x, n, sizeof *x, by_begin);
    for (size_t i = 0; i < n; i++) {
        range gap = {next, x[i].lo - 1};
        if (x[i].lo > next)
            lb_buf_put(&out, &gap, sizeof gap);
        next = LB_MAX(next, x[i].hi + 1);
    }
    range rest = {next, LAST};
    if (next <= LAST)
        lb_buf_put(&out, &rest, sizeof rest);
    r->set.len = from;
    r->set.oom |= out.oom;
    lb_buf_put(&r->set, out.ptr, out.len);
    lb_buf_deinit(&out);
}

static bool must_escape(u32 c) {
    return c < 0x20 || c == '"' || c == '\\' || c == 0x7f;
}

/* c as JSON writes it, as a literal of the grammar. */
static void put_escaped(lb_buf *out, u32 c) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *at = c ? strchr(from, (int)c) : NULL;
    char text[8] = {'\\', at ? to[at - from] : 'u', '0', '0', (char)('0' + (c >> 4)), 0};
    text[5] = "0123456789abcdef"[c & 15];
    lb_schema_literal(out, (lb_str){text, at ? 2 : 6});
}

/* The characters of the set, each as it may stand in a JSON string; the set is empty then. */
static void put_set(regex *r) {
    negate(r, 0);
    add(r, 0xd800, 0xdfff);
    const size_t n_gaps = r->set.len / sizeof(range);
    lb_buf *out = r->out;
    const char *between = "";
    lb_buf_put_c(out, "(");
    for (u32 c = 0; c < 0x80; c++) {
        bool in = must_escape(c);
        const range *x = (const range *)(const void *)r->set.ptr;
        for (size_t i = 0; i < n_gaps && in; i++)
            in = c < x[i].lo || c > x[i].hi;
        if (!in)
            continue;
        lb_buf_put_c(out, between);
        put_escaped(out, c);
        between = " | ";
    }
    add(r, 0, 0x1f);
    add(r, '"', '"');
    add(r, '\\', '\\');
    add(r, 0x7f, 0x7f);
    negate(r, 0);
    const range *x = (const range *)(const void *)r->set.ptr;
    const size_t n = r->set.len / sizeof *x;
    if (n || !*between) { /* nothing at all: a class that holds nothing */
        lb_buf_printf(out, "%s[", between);
        for (size_t i = 0; i < n; i++)
            lb_buf_printf(out, "\\U%08X-\\U%08X", x[i].lo, x[i].hi);
        lb_buf_put_c(out, n ? "]" : "\\U00000001-\\U00000000]");
    }
    lb_buf_put_c(out, ")");
    out->oom |= r->set.oom;
    r->set.len = 0;
}

/* \s: what ECMA-262 and Python agree on; \S: what neither calls space. */
static void add_shorthand(regex *r, int c) {
    const size_t from = r->set.len;
    switch (c | 32) {
    case 'd':
        add(r, '0', '9');
        break;
    case 'w':
        add(r, '0', '9');
        add(r, 'A', 'Z');
        add(r, '_', '_');
        add(r, 'a', 'z');
        break;
    default:
        add(r, 9, 13);
        add(r, ' ', ' ');
        add(r, 0xa0, 0xa0);
        add(r, 0x1680, 0x1680);
        add(r, 0x2000, 0x200a);
        add(r, 0x2028, 0x2029);
        add(r, 0x202f, 0x202f);
        add(r, 0x205f, 0x205f);
        add(r, 0x3000, 0x3000);
        if (c == 'S') {
            add(r, 0x1c, 0x1f);
            add(r, 0x85, 0x85);
            add(r, 0xfeff, 0xfeff);
        }
    }
    if (c < 'a')
        negate(r, from);
}

static lb_status hex(regex *r, u32 digits, u32 *out) {
    *out = 0;
    for (u32 i = 0; i < digits; i++) {
        int c = peek(r, 0);
        int v = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;
        if (v < 0)
            return refuse(r, "hexadecimal digits are missing");
        *out = *out << 4 | (u32)v;
        r->at++;
    }
    return LB_OK;
}

/* Behind a backslash: one character (*c), or a shorthand that joins the set (*c = ~0). */
static lb_status escape(regex *r, bool in_class, u32 *c) {
    static const char from[] = "nrtfv0", to[] = "\n\r\t\f\v";
    int e = peek(r, 0);
    if (e < 0)
        return refuse(r, "it ends in a backslash");
    if (strchr("dDwWsS", e)) {
        r->at++;
        add_shorthand(r, e);
        *c = ~0u;
        return LB_OK;
    }
    const char *at = strchr(from, e);
    if (at && !(e == '0' && peek(r, 1) >= '0' && peek(r, 1) <= '9')) {
        r->at++;
        *c = e == '0' ? 0 : (u8)to[at - from];
        return LB_OK;
    }
    if (e == 'x' || e == 'u') {
        r->at++;
        if (e == 'u' && peek(r, 0) == '{')
            return refuse(r, "\\u{...} is not known here");
        LB_TRY(hex(r, e == 'x' ? 2 : 4, c));
        if (*c >= 0xd800 && *c < 0xdc00 && peek(r, 0) == '\\' && peek(r, 1) == 'u') {
            u32 low;
            r->at += 2;
            LB_TRY(hex(r, 4, &low));
            *c = 0x10000 + ((*c & 0x3ff) << 10 | (low & 0x3ff));
        }
        return LB_OK;
    }
    if (e == 'b' && in_class) {
        r->at++;
        *c = 8;
        return LB_OK;
    }
    if ((e >= '0' && e <= '9') || (e >= 'a' && e <= 'z') || (e >= 'A' && e <= 'Z'))
        return refuse(r, e >= '0' && e <= '9' ? "back references are not known here"
                                              : "this escape is not known here");
    *c = next_char(r);
    return LB_OK;
}

static lb_status class_char(regex *r, u32 *c) {
    if (peek(r, 0) != '\\') {
        *c = next_char(r);
        return LB_OK;
    }
    r->at++;
    return escape(r, true, c);
}

static lb_status put_class(regex *r) {
    bool negated = peek(r, 0) == '^';
    r->at += negated;
    while (peek(r, 0) != ']') {
        u32 lo, hi;
        if (peek(r, 0) < 0)
            return refuse(r, "the class does not end");
        LB_TRY(class_char(r, &lo));
        if (lo == ~0u)
            continue;
        hi = lo;
        if (peek(r, 0) == '-' && peek(r, 1) >= 0 && peek(r, 1) != ']') {
            r->at++;
            LB_TRY(class_char(r, &hi));
            if (hi == ~0u || hi < lo)
                return refuse(r, "a range in a class is malformed");
        }
        add(r, lo, hi);
    }
    r->at++;
    if (negated)
        negate(r, 0);
    put_set(r);
    return LB_OK;
}

/* ---- expressions ---- */

static lb_status put_alternatives(regex *r, bool top);

static lb_status put_group(regex *r) {
    if (peek(r, 0) == '?') {
        if (peek(r, 1) == ':') {
            r->at += 2;
        } else if (peek(r, 1) == '<' && peek(r, 2) != '=' && peek(r, 2) != '!') {
            while (peek(r, 0) >= 0 && peek(r, 0) != '>')
                r->at++;
            r->at++;
        } else {
            return refuse(r, "look-around and flags are not known here");
        }
    }
    if (++r->depth > DEPTH_MAX)
        return lb_schema_fail(r->s, LB_E_LIMIT, "pattern: groups are nested more than %d deep",
                              DEPTH_MAX);
    lb_buf_put_c(r->out, "(");
    LB_TRY(put_alternatives(r, false));
    lb_buf_put_c(r->out, ")");
    if (peek(r, 0) != ')')
        return refuse(r, "a parenthesis is missing");
    r->at++;
    r->depth--;
    return LB_OK;
}

static bool count(regex *r, size_t *at, u64 *out) {
    size_t begin = *at;
    *out = 0;
    for (; *at < r->text.len && r->text.ptr[*at] >= '0' && r->text.ptr[*at] <= '9'; ++*at)
        *out = LB_MIN(*out * 10 + (u64)(r->text.ptr[*at] - '0'), (u64)1000000);
    return *at > begin;
}

/* A quantifier, if one stands here; "{" that begins none is a character. *brace: one may. */
static lb_status put_quantifier(regex *r, bool *found) {
    int c = peek(r, 0);
    *found = true;
    if (c == '*' || c == '+' || c == '?') {
        r->at++;
        lb_buf_put_u8(r->out, (u8)c);
    } else {
        u64 least, most = 0;
        size_t at = r->at + 1;
        *found = c == '{' && count(r, &at, &least);
        if (!*found)
            return LB_OK;
        bool comma = at < r->text.len && r->text.ptr[at] == ',';
        at += comma;
        bool bounded = comma && count(r, &at, &most);
        if (at >= r->text.len || r->text.ptr[at] != '}') {
            *found = false;
            return LB_OK;
        }
        r->at = at + 1;
        if (bounded && most < least)
            return refuse(r, "the second number of a repetition is smaller");
        lb_buf_printf(r->out, comma ? "{%llu," : "{%llu", (unsigned long long)least);
        if (bounded)
            lb_buf_put_dec(r->out, most);
        lb_buf_put_c(r->out, "}");
    }
    if (peek(r, 0) == '?') /* lazy: the same strings */
        r->at++;
    lb_buf_put_c(r->out, " ");
    return LB_OK;
}

static lb_status put_atom(regex *r) {
    int c = peek(r, 0);
    u32 one = 0;
    if (c == '(' || c == '[') {
        r->at++;
        return c == '(' ? put_group(r) : put_class(r);
    }
    if (c == '.') {
        r->at++;
        add(r, '\n', '\n');
        add(r, '\r', '\r');
        add(r, 0x2028, 0x2029);
        negate(r, 0);
    } else if (c == '\\') {
        r->at++;
        LB_TRY(escape(r, false, &one));
        if (one != ~0u)
            add(r, one, one);
    } else if (c == '*' || c == '+' || c == '?') {
        return refuse(r, "nothing stands before the repetition");
    } else if (c == '^' || c == '$') {
        return refuse(r, "an anchor inside the pattern");
    } else {
        one = next_char(r);
        add(r, one, one);
    }
    put_set(r);
    return LB_OK;
}

/* One alternative. At the top it is anchored by ^ and $ or may stand anywhere. */
static lb_status put_sequence(regex *r, bool top) {
    bool open = top, any = false;
    if (top && peek(r, 0) == '^') {
        r->at++;
        open = false;
    }
    if (open)
        lb_buf_put_c(r->out, "char* ");
    open = top;
    while (peek(r, 0) >= 0 && peek(r, 0) != '|' && peek(r, 0) != ')') {
        bool found;
        if (top && peek(r, 0) == '$' && (peek(r, 1) < 0 || peek(r, 1) == '|')) {
            r->at++;
            open = false;
            break;
        }
        LB_TRY(put_atom(r));
        LB_TRY(put_quantifier(r, &found));
        if (found && (peek(r, 0) == '*' || peek(r, 0) == '+'))
            return refuse(r, "a repetition of a repetition");
        any = true;
        lb_buf_put_c(r->out, " ");
    }
    if (!any)
        lb_buf_put_c(r->out, "\"\" ");
    if (open)
        lb_buf_put_c(r->out, "char* ");
    return LB_OK;
}

static lb_status put_alternatives(regex *r, bool top) {
    LB_TRY(put_sequence(r, top));
    while (peek(r, 0) == '|') {
        r->at++;
        lb_buf_put_c(r->out, "| ");
        LB_TRY(put_sequence(r, top));
    }
    return LB_OK;
}

lb_status lb_schema_pattern(lb_schema *s, lb_str pattern) {
    regex r = {.s = s, .text = pattern, .out = s->out};
    lb_status st = LB_OK;
    if (!lb_str_is_utf8(pattern))
        return lb_schema_fail(s, LB_E_FORMAT, "pattern is not UTF-8");
    lb_buf_put_c(s->out, "(");
    st = put_alternatives(&r, true);
    if (st == LB_OK && r.at < pattern.len)
        st = refuse(&r, "a parenthesis too many");
    lb_buf_put_c(s->out, ")");
    lb_buf_deinit(&r.set);
    return st;
}

/* ---- formats: texts that every reader of the format takes ---- */

#define DATE                                                                                  \
    "^[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|" \
    "02-(0[1-9]|1[0-9]|2[0-8]))"
#define TIME                                                                                       \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]" \
    ")$"
#define BYTE "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define LABEL "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", DATE "$"},
    {"time", "^" TIME},
    {"date-time", DATE "T" TIME},
    {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
    {"ipv4", "^" BYTE "(\\." BYTE "){3}$"},
    {"ipv6", "^[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){7}$"},
    {"hostname", "^" LABEL "(\\." LABEL "){0,2}$"},
    {"email", "^[a-zA-Z0-9_+-]{1,32}(\\.[a-zA-Z0-9_+-]{1,16})?@" LABEL "(\\." LABEL "){1,2}$"},
    {"uri", "^https?://" LABEL "(\\." LABEL "){0,3}(:[1-9][0-9]{0,3})?(/[a-zA-Z0-9._~-]*)*"
            "(\\?[a-zA-Z0-9._~=&-]*)?(#[a-zA-Z0-9._~-]*)?$"},
    {"duration", "^P([0-9]{1,9}D(T[0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?)?|[0-9]{1,9}W|"
                 "T[0-9]{1,9}[HMS])$"},
};

lb_status lb_schema_format(lb_schema *s, lb_str format) {
    for (u32 i = 0; i < LB_LEN(formats); i++)
        if (lb_str_eq_c(format, formats[i].name))
            return lb_schema_pattern(s, lb_str_c(formats[i].pattern));
    return lb_schema_fail(s, LB_E_UNSUPPORTED, "the format \"%.*s\" is not known here",
                          (int)LB_MIN(format.len, (size_t)60), format.len ? format.ptr : "");
}
