/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_lex.c: the text of a template -> tokens, with white space around tags taken away as
 * trim_blocks and lstrip_blocks say. Rules: jinja2's lexer. */
#include "text/bytelevel.h"
#include "text/jinja_ast.h"
#include "text/jinja_text.h"
#include <stdio.h>

typedef struct lexer {
    lb_str src;
    size_t pos;
    u32 line;        /* of pos */
    size_t line_pos; /* where lines were last counted */
    const char *what;
    lb_arena *perm;
    lb_buf *out;
    lb_err *err;
    char open[LB_JINJA_NEST_MAX]; /* brackets to be closed */
    u32 n_open;
} lexer;

static u32 line_at(lexer *l, size_t pos) {
    for (; l->line_pos < pos; l->line_pos++)
        l->line += l->src.ptr[l->line_pos] == '\n';
    return l->line;
}

static lb_status put(lexer *l, lb_jtok t, size_t pos) {
    t.line = line_at(l, pos);
    lb_buf_put(l->out, &t, sizeof t);
    return lb_buf_status(l->out, l->err);
}

static lb_status fail(lexer *l, size_t pos, const char *text) {
    return lb_fail(l->err, LB_E_FORMAT, "%s: line %u: %s", l->what, line_at(l, pos), text);
}

static char at(const lexer *l, size_t pos) {
    return pos < l->src.len ? l->src.ptr[pos] : '\0';
}

static bool ends_here(const lexer *l, size_t pos, const char *two) {
    return pos + 1 < l->src.len && l->src.ptr[pos] == two[0] && l->src.ptr[pos + 1] == two[1];
}

static size_t skip_space(const lexer *l, size_t pos) {
    while (pos < l->src.len) {
        size_t next = pos;
        if (!lb_jcp_is_space(lb_utf8_next(l->src, &next)))
            break;
        pos = next;
    }
    return pos;
}

/* Behind a closing tag that begins at pos ("-%}", "%}"...) with its white space; 0: none here. */
static size_t closing(const lexer *l, size_t pos, const char *end, bool trim) {
    char c = at(l, pos);
    if (c == '-' && ends_here(l, pos + 1, end))
        return skip_space(l, pos + 3);
    if (trim && c == '+' && ends_here(l, pos + 1, end))
        return pos + 3;
    if (!ends_here(l, pos, end))
        return 0;
    return pos + 2 + (trim && at(l, pos + 2) == '\n');
}

/* The text before a tag: what of it stays. */
static lb_str strip_before(const lexer *l, size_t from, size_t to, bool variable) {
    lb_str text = lb_str_sub(l->src, from, to);
    char sign = at(l, to + 2);
    size_t line = text.len, p;
    if (sign == '-')
        return lb_jstr_strip(text, LB_STR_NONE, false, true);
    if (sign == '+' || variable)
        return text;
    while (line && text.ptr[line - 1] != '\n')
        line--;
    if (line == 0 && from != 0 && l->src.ptr[from - 1] != '\n')
        return text;
    for (p = line; p < text.len;)
        if (!lb_jcp_is_space(lb_utf8_next(text, &p)))
            return text;
    return lb_str_sub(text, 0, line);
}

static lb_status put_data(lexer *l, size_t from, lb_str text) {
    return text.len ? put(l, (lb_jtok){.type = LB_JTOK_DATA, .text = text}, from) : LB_OK;
}

/* Behind `{% raw %}` that begins at pos; 0: another tag. */
static size_t raw_begin(const lexer *l, size_t pos) {
    size_t p = pos + 2;
    if (at(l, p) == '-' || at(l, p) == '+')
        p++;
    p = skip_space(l, p);
    if (!lb_str_starts(lb_str_sub(l->src, p, l->src.len), LB_STR("raw")))
        return 0;
    p = skip_space(l, p + 3);
    if (at(l, p) == '-' && ends_here(l, p + 1, "%}"))
        return skip_space(l, p + 3);
    return ends_here(l, p, "%}") ? p + 2 : 0;
}

/* The text up to `{% endraw %}`. */
static lb_status lex_raw(lexer *l, size_t begin) {
    for (size_t p = begin; p + 1 < l->src.len; p++) {
        if (!ends_here(l, p, "{%"))
            continue;
        size_t q = p + 2, end;
        if (at(l, q) == '-' || at(l, q) == '+')
            q++;
        q = skip_space(l, q);
        if (!lb_str_starts(lb_str_sub(l->src, q, l->src.len), LB_STR("endraw")))
            continue;
        end = closing(l, skip_space(l, q + 6), "%}", true);
        if (!end)
            continue;
        l->pos = end;
        return put_data(l, begin, strip_before(l, begin, p, false));
    }
    return fail(l, begin, "Missing end of raw directive");
}

static lb_status lex_comment(lexer *l, size_t tag) {
    size_t p = tag + 2;
    if (at(l, p) == '-' || at(l, p) == '+')
        p++;
    size_t begin = p;
    for (; p + 1 < l->src.len; p++) {
        if (!ends_here(l, p, "#}"))
            continue;
        size_t from =
            p > begin && (l->src.ptr[p - 1] == '-' || l->src.ptr[p - 1] == '+') ? p - 1 : p;
        l->pos = closing(l, from, "#}", true);
        return LB_OK;
    }
    return fail(l, tag, "Missing end of comment tag");
}

/* ---- inside of a tag ---- */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Behind digits with single underscores between them. */
static size_t digits(const lexer *l, size_t p) {
    while (is_digit(at(l, p)) || (at(l, p) == '_' && is_digit(at(l, p + 1))))
        p++;
    return p;
}

static lb_str without_underscores(lexer *l, size_t from, size_t to) {
    lb_str s = lb_arena_str(l->perm, lb_str_sub(l->src, from, to));
    char *w = s.ptr ? (char *)(uintptr_t)s.ptr : NULL;
    size_t n = 0;
    for (size_t i = 0; w && i < s.len; i++)
        if (w[i] != '_')
            w[n++] = w[i];
    if (w)
        w[n] = '\0';
    return (lb_str){s.ptr, n};
}

static lb_status put_number(lexer *l, size_t to, bool is_float, u32 base) {
    size_t from = l->pos;
    lb_jtok t = {.type = LB_JTOK_NUMBER};
    lb_str s = without_underscores(l, from, to);
    if (!s.ptr)
        return lb_fail(l->err, LB_E_NOMEM, "%s: out of memory", l->what);
    if (is_float) {
        t.value = lb_jv_float(lb_jstr_to_f64(s));
    } else if (base != 10) {
        i64 v;
        if (!lb_jstr_to_i64(lb_str_sub(s, 2, s.len), base, &v))
            return fail(l, from, "an integer of more than 64 bits");
        t.value = lb_jv_int(v);
    } else {
        i64 v;
        while (s.len > 1 && s.ptr[0] == '0')
            s = lb_str_sub(s, 1, s.len);
        if (lb_jstr_to_i64(s, 10, &v)) {
            t.value = lb_jv_int(v);
        } else {
            lb_jstr *big = lb_arena_new(l->perm, lb_jstr, 1);
            if (!big)
                return lb_fail(l->err, LB_E_NOMEM, "%s: out of memory", l->what);
            *big = (lb_jstr){s.ptr, (u32)s.len, (u32)s.len, NULL};
            t.value = (lb_jval){.type = LB_JT_BIG, .u.s = big};
        }
    }
    l->pos = to;
    return put(l, t, from);
}

/* A number of another base; 0: none. */
static size_t based(const lexer *l, size_t p, u32 *base) {
    char c = at(l, p) == '0' ? (char)(at(l, p + 1) | 0x20) : '\0';
    size_t begin = p + 2;
    *base = c == 'b' ? 2 : c == 'o' ? 8 : c == 'x' ? 16 : 0;
    if (!*base)
        return 0;
    for (p = begin;;) {
        size_t q = p + (at(l, p) == '_');
        if (lb_jdigit(at(l, q)) >= *base)
            break;
        p = q + 1;
    }
    return p > begin ? p : 0;
}

static lb_status lex_number(lexer *l) {
    size_t p = l->pos, whole = digits(l, p), frac = whole, q;
    bool after_dot = p && l->src.ptr[p - 1] == '.';
    u32 base;
    if (!after_dot) {
        if (at(l, whole) == '.' && is_digit(at(l, whole + 1)))
            frac = digits(l, whole + 1);
        if ((at(l, frac) | 0x20) == 'e') {
            q = frac + 1 + (at(l, frac + 1) == '+' || at(l, frac + 1) == '-');
            if (is_digit(at(l, q)))
                return put_number(l, digits(l, q), true, 10);
        }
        if (frac > whole)
            return put_number(l, frac, true, 10);
    }
    q = based(l, p, &base);
    if (q)
        return put_number(l, q, false, base);
    if (at(l, p) == '0') /* zeros only; what follows is the next token */
        for (whole = p + 1;
             at(l, whole) == '0' || (at(l, whole) == '_' && at(l, whole + 1) == '0');)
            whole++;
    return put_number(l, whole, false, 10);
}

/* As Python's unicode-escape of text whose characters beyond ASCII were escaped before. */
static lb_status put_escape(lexer *l, lb_str s, size_t *pos, lb_buf *b, size_t where) {
    static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    size_t p = *pos;
    u32 cp = lb_utf8_next(s, &p), n = cp == 'x' ? 2 : cp == 'u' ? 4 : cp == 'U' ? 8 : 0, v = 0;
    if (cp >= 0x80) { /* "\é" is "\\xe9" */
        lb_buf_printf(b, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
    } else if (n) {
        for (u32 i = 0; i < n; i++, p++) {
            u32 d = p < s.len ? lb_jdigit(s.ptr[p]) : 99;
            if (d >= 16)
                return fail(l, where, "a string has a truncated \\x, \\u or \\U escape");
            v = v << 4 | d;
        }
        if (v > 0x10ffff)
            return fail(l, where, "a string has a \\U escape beyond Unicode");
        lb_utf8_put(b, v);
    } else if (cp >= '0' && cp <= '7') {
        v = cp - '0';
        for (u32 i = 0; i < 2 && p < s.len && s.ptr[p] >= '0' && s.ptr[p] <= '7'; i++)
            v = v << 3 | (u32)(s.ptr[p++] - '0');
        lb_utf8_put(b, v);
    } else if (cp == 'N') {
        return fail(l, where, "a string has a \\N escape: names of characters are not known");
    } else if (cp != '\n') {
        for (size_t i = 0; i + 1 < sizeof plain - 1; i += 2)
            if ((u8)plain[i] == cp) {
                lb_buf_put_u8(b, (u8)plain[i + 1]);
                *pos = p;
                return LB_OK;
            }
        lb_buf_put_u8(b, '\\');
        lb_buf_put_u8(b, (u8)cp);
    }
    *pos = p;
    return LB_OK;
}

static lb_status lex_string(lexer *l) {
    size_t begin = l->pos, p = begin + 1;
    char quote = at(l, begin);
    bool escapes = false;
    lb_status st = LB_OK;
    while (p < l->src.len && l->src.ptr[p] != quote) {
        escapes |= l->src.ptr[p] == '\\';
        p += l->src.ptr[p] == '\\' ? 2 : 1;
    }
    if (p >= l->src.len)
        return fail(l, begin, "a string is not closed");
    lb_str s = lb_str_sub(l->src, begin + 1, p);
    l->pos = p + 1;
    if (escapes) {
        lb_buf b = {0};
        for (size_t i = 0; i < s.len && st == LB_OK;) {
            if (s.ptr[i] != '\\') {
                lb_buf_put_u8(&b, (u8)s.ptr[i++]);
                continue;
            }
            i++;
            st = put_escape(l, s, &i, &b, begin);
        }
        if (st == LB_OK)
            st = lb_buf_status(&b, l->err);
        if (st == LB_OK) {
            s = lb_arena_str(l->perm, lb_buf_str(&b));
            if (!s.ptr)
                st = lb_fail(l->err, LB_E_NOMEM, "%s: out of memory", l->what);
        }
        lb_buf_deinit(&b);
    }
    return st == LB_OK ? put(l, (lb_jtok){.type = LB_JTOK_STRING, .text = s}, begin) : st;
}

static lb_status lex_operator(lexer *l) {
    static const char two[] = "//**==!=>=<=", one[] = "+-/*%~[](){}><=.:|,;";
    size_t p = l->pos;
    char c = at(l, p), text[48];
    u16 op = 0;
    for (size_t i = 0; i + 1 < sizeof two && !op; i += 2)
        if (ends_here(l, p, two + i))
            op = LB_JOP(two[i], two[i + 1]);
    if (!op && c && strchr(one, c))
        op = (u16)c;
    if (!op) {
        if ((u8)c >= 0x80 || (u8)c < 0x20)
            (void)snprintf(text, sizeof text, "unexpected char (byte 0x%02x)", (u8)c);
        else
            (void)snprintf(text, sizeof text, "unexpected char '%c'", c);
        return fail(l, p, text);
    }
    if (op == '(' || op == '[' || op == '{') {
        if (l->n_open == LB_JINJA_NEST_MAX)
            return lb_fail(l->err, LB_E_LIMIT, "%s: line %u: more than %d brackets are open",
                           l->what, line_at(l, p), LB_JINJA_NEST_MAX);
        l->open[l->n_open++] = op == '(' ? ')' : op == '[' ? ']' : '}';
    } else if (op == ')' || op == ']' || op == '}') {
        if (!l->n_open)
            (void)snprintf(text, sizeof text, "unexpected '%c'", c);
        else
            (void)snprintf(text, sizeof text, "unexpected '%c', expected '%c'", c,
                           l->open[l->n_open - 1]);
        if (!l->n_open || l->open[--l->n_open] != c)
            return fail(l, p, text);
    }
    l->pos = p + (op > 0xff ? 2 : 1);
    return put(l, (lb_jtok){.type = LB_JTOK_OP, .op = op}, p);
}

static lb_status lex_name(lexer *l, bool *found) {
    size_t p = l->pos, next = p;
    while (next < l->src.len) {
        size_t q = next;
        u32 cp = lb_utf8_next(l->src, &q);
        if (!(cp < 0x80
                  ? is_digit((char)cp) || cp == '_' || ((cp | 0x20) >= 'a' && (cp | 0x20) <= 'z')
                  : lb_jcp_is_word(cp)))
            break;
        next = q;
    }
    *found = next > p;
    if (!*found)
        return LB_OK;
    l->pos = next;
    return put(l, (lb_jtok){.type = LB_JTOK_NAME, .text = lb_str_sub(l->src, p, next)}, p);
}

/* Tokens of a tag up to its end. */
static lb_status lex_tag(lexer *l, bool variable) {
    const char *end = variable ? "}}" : "%}";
    l->n_open = 0;
    for (;;) {
        size_t past = l->n_open ? 0 : closing(l, l->pos, end, !variable), p = l->pos;
        bool found = false;
        if (past) {
            LB_TRY(put(l, (lb_jtok){.type = variable ? LB_JTOK_VAR_END : LB_JTOK_BLOCK_END}, p));
            l->pos = past;
            return LB_OK;
        }
        l->pos = skip_space(l, p);
        if (l->pos > p)
            continue;
        if (p >= l->src.len)
            return LB_OK; /* the parser says what is missing */
        char c = at(l, p);
        if (is_digit(c))
            LB_TRY(lex_number(l));
        else if (c == '"' || c == '\'')
            LB_TRY(lex_string(l));
        else {
            LB_TRY(lex_name(l, &found));
            if (!found)
                LB_TRY(lex_operator(l));
        }
    }
}

/* Text, and the tag after it. */
static lb_status lex_root(lexer *l) {
    size_t begin = l->pos, p = begin, raw;
    const char *brace;
    while ((brace = p < l->src.len ? memchr(l->src.ptr + p, '{', l->src.len - p) : NULL)) {
        p = (size_t)(brace - l->src.ptr);
        char c = at(l, p + 1);
        if (c == '{' || c == '%' || c == '#')
            break;
        p++;
    }
    if (!brace) {
        l->pos = l->src.len;
        return put_data(l, begin, lb_str_sub(l->src, begin, l->src.len));
    }
    char c = at(l, p + 1);
    LB_TRY(put_data(l, begin, strip_before(l, begin, p, c == '{')));
    if (c == '#')
        return lex_comment(l, p);
    raw = c == '%' ? raw_begin(l, p) : 0;
    if (raw)
        return lex_raw(l, raw);
    LB_TRY(put(l, (lb_jtok){.type = c == '{' ? LB_JTOK_VAR_BEGIN : LB_JTOK_BLOCK_BEGIN}, p));
    l->pos = p + 2 + (at(l, p + 2) == '-' || at(l, p + 2) == '+');
    return lex_tag(l, c == '{');
}

lb_status lb_jinja_lex(lb_str text, const char *what, lb_arena *perm, lb_buf *out, lb_err *err) {
    lexer l = {.src = text, .line = 1, .what = what, .perm = perm, .out = out, .err = err};
    while (l.pos < text.len)
        LB_TRY(lex_root(&l));
    return put(&l, (lb_jtok){.type = LB_JTOK_EOF}, text.len);
}
