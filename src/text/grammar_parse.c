/* SPDX-License-Identifier: Apache-2.0 */
/* grammar_parse.c: the text of a GBNF grammar into rules.
 *
 * Groups and repetitions become rules of their own, as in llama.cpp; what is repeated is referred
 * to and not copied, so that {m,n} takes a few words for each time. */
#include "text/grammar_internal.h"
#include <stdio.h>
#include <stdlib.h>

#define REPEAT_MAX 100000
#define CODE_POINT_MAX 0x10ffffu
#define NO_MAX 0xffffffffu

lb_status lb_gparse_fail(lb_gparse *p, lb_status code, size_t at, const char *fmt, ...) {
    char what[512];
    u64 line = 1, column = 1;
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    for (size_t i = 0; i < at && i < p->text.len; i++) {
        column = p->text.ptr[i] == '\n' ? 1 : column + 1;
        line += p->text.ptr[i] == '\n';
    }
    return lb_fail_at(p->err, code, at, "grammar:%llu:%llu: %s", (unsigned long long)line,
                      (unsigned long long)column, what);
}

static lb_status no_memory(lb_gparse *p) {
    return lb_fail(p->err, LB_E_NOMEM, "a grammar: out of memory");
}

static char peek(const lb_gparse *p, size_t ahead) {
    return p->pos + ahead < p->text.len ? p->text.ptr[p->pos + ahead] : 0;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || is_digit(c);
}

static void skip_space(lb_gparse *p, bool newlines) {
    while (p->pos < p->text.len) {
        char c = peek(p, 0);
        if (c == '#')
            while (p->pos < p->text.len && peek(p, 0) != '\r' && peek(p, 0) != '\n')
                p->pos++;
        else if (c == ' ' || c == '\t' || (newlines && (c == '\r' || c == '\n')))
            p->pos++;
        else
            return;
    }
}

/* ---- characters ---- */

static lb_status parse_hex(lb_gparse *p, u32 digits, u32 *out) {
    *out = 0;
    for (u32 i = 0; i < digits; i++) {
        char c = peek(p, 2 + i);
        u32 v = is_digit(c)              ? (u32)(c - '0')
                : (c >= 'a' && c <= 'f') ? (u32)(c - 'a' + 10)
                : (c >= 'A' && c <= 'F') ? (u32)(c - 'A' + 10)
                                         : 16;
        if (v == 16)
            return lb_gparse_fail(p, LB_E_FORMAT, p->pos, "\\%c needs %u hexadecimal digits",
                                  peek(p, 1), digits);
        *out = *out << 4 | v;
    }
    p->pos += 2 + digits;
    return LB_OK;
}

/* One character of a literal or a class. The text is valid UTF-8. */
static lb_status parse_char(lb_gparse *p, u32 *out) {
    u8 c = (u8)peek(p, 0);
    if (c == '\\') {
        char e = peek(p, 1);
        static const char plain[] = "trn\\\"[]-";
        static const char meaning[] = "\t\r\n\\\"[]-";
        const char *at = e ? strchr(plain, e) : NULL;
        if (e == 'x' || e == 'u' || e == 'U')
            return parse_hex(p, e == 'x' ? 2 : e == 'u' ? 4 : 8, out);
        if (!at)
            return lb_gparse_fail(p, LB_E_FORMAT, p->pos, "unknown escape");
        *out = (u8)meaning[at - plain];
        p->pos += 2;
        return LB_OK;
    }
    u32 len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    u32 value = len == 1 ? c : c & (0x7fu >> len);
    for (u32 i = 1; i < len; i++)
        value = value << 6 | ((u8)peek(p, i) & 0x3fu);
    *out = value;
    p->pos += len;
    return LB_OK;
}

static int by_begin(const void *a, const void *b) {
    u32 x = ((const lb_grange *)a)->lo, y = ((const lb_grange *)b)->lo;
    return x < y ? -1 : x > y;
}

/* Sorts, joins, turns round: n ranges become *out ranges (room: n + 1). */
static u32 normalize(lb_grange *r, u32 n, bool negated) {
    u32 m = 0;
    for (u32 i = 0; i < n; i++)
        if (r[i].lo <= r[i].hi && r[i].lo <= CODE_POINT_MAX)
            r[m++] = (lb_grange){r[i].lo, LB_MIN(r[i].hi, CODE_POINT_MAX)};
    n = m;
    qsort(r, n, sizeof *r, by_begin);
    m = 0;
    for (u32 i = 0; i < n; i++) {
        if (m && r[i].lo <= r[m - 1].hi + 1)
            r[m - 1].hi = LB_MAX(r[m - 1].hi, r[i].hi);
        else
            r[m++] = r[i];
    }
    if (!negated)
        return m;
    u32 next = 0, k = 0;
    for (u32 i = 0; i < m; i++) {
        lb_grange x = r[i];
        if (x.lo > next)
            r[k++] = (lb_grange){next, x.lo - 1};
        next = x.hi + 1;
    }
    if (next <= CODE_POINT_MAX)
        r[k++] = (lb_grange){next, CODE_POINT_MAX};
    return k;
}

static lb_status set_of(lb_gparse *p, lb_grange *r, u32 n, bool negated, u32 *out) {
    n = normalize(r, n, negated);
    lb_str key = {(const char *)r, n * sizeof *r};
    u64 id = p->sets.len / sizeof(lb_gset);
    if (!lb_map_find(&p->set_ids, key, &id)) {
        lb_grange *copy = lb_arena_new(&p->arena, lb_grange, n + 1);
        if (!copy)
            return no_memory(p);
        if (n)
            memcpy(copy, r, n * sizeof *r);
        lb_gset set = {copy, n};
        key.ptr = (const char *)copy;
        LB_TRY(lb_map_put(&p->set_ids, key, id, NULL, p->err));
        lb_buf_put(&p->sets, &set, sizeof set);
        LB_TRY(lb_buf_status(&p->sets, p->err));
    }
    *out = (u32)id;
    return LB_OK;
}

/* ---- rules ---- */

static lb_status push(lb_gparse *p, u32 rule, u32 type, u32 value) {
    lb_gelem e = {type, value};
    if (++p->n_elems > LB_GRAMMAR_ELEMS_MAX)
        return lb_gparse_fail(p, LB_E_LIMIT, p->pos,
                              "the grammar has more than %u elements: fewer or shorter "
                              "repetitions",
                              LB_GRAMMAR_ELEMS_MAX);
    lb_grule *r = lb_gparse_rule(p, rule);
    lb_buf_put(&r->elems, &e, sizeof e);
    return lb_buf_status(&r->elems, p->err);
}

static lb_status add_rule(lb_gparse *p, lb_str name, size_t at, bool defined, u32 *out) {
    lb_grule r = {.name = name, .at = at, .defined = defined};
    *out = (u32)(p->rules.len / sizeof r);
    if (++p->n_elems > LB_GRAMMAR_ELEMS_MAX)
        return lb_gparse_fail(p, LB_E_LIMIT, p->pos, "the grammar has more than %u elements",
                              LB_GRAMMAR_ELEMS_MAX);
    lb_buf_put(&p->rules, &r, sizeof r);
    return lb_buf_status(&p->rules, p->err);
}

static lb_status named_rule(lb_gparse *p, lb_str name, size_t at, u32 *out) {
    u64 id;
    if (lb_map_find(&p->names, name, &id)) {
        *out = (u32)id;
        return LB_OK;
    }
    LB_TRY(add_rule(p, name, at, false, out));
    return lb_map_put(&p->names, name, *out, NULL, p->err);
}

static u32 rule_len(lb_gparse *p, u32 rule) {
    return (u32)(lb_gparse_rule(p, rule)->elems.len / sizeof(lb_gelem));
}

static lb_str name_of(lb_gparse *p, u32 rule) {
    return lb_gparse_rule(p, rule)->name;
}

/* The elements of `rule` from `from` on become a rule of their own; *out is what stands for them.
 */
static lb_status fold(lb_gparse *p, u32 rule, u32 from, lb_gelem *out) {
    u32 len = rule_len(p, rule), made;
    lb_grule *r = lb_gparse_rule(p, rule);
    *out = ((lb_gelem *)(void *)r->elems.ptr)[from];
    if (len - from > 1) {
        LB_TRY(add_rule(p, name_of(p, rule), p->pos, true, &made));
        for (u32 i = from; i < len; i++) {
            lb_gelem e = ((lb_gelem *)(void *)lb_gparse_rule(p, rule)->elems.ptr)[i];
            LB_TRY(push(p, made, e.type, e.value));
        }
        LB_TRY(push(p, made, LB_GELEM_END, 0));
        *out = (lb_gelem){LB_GELEM_REF, made};
    }
    lb_gparse_rule(p, rule)->elems.len = from * sizeof(lb_gelem);
    return LB_OK;
}

/* S{least,most}: S least times, then a chain of rules S'(k) ::= S S'(k-1) | , or one that refers to
 * itself. */
static lb_status repeat(lb_gparse *p, u32 rule, u32 from, u32 least, u32 most, size_t at) {
    lb_gelem what;
    if (from == rule_len(p, rule))
        return lb_gparse_fail(p, LB_E_FORMAT, at, "nothing stands before the repetition");
    if (most < least)
        return lb_gparse_fail(p, LB_E_FORMAT, at, "{%u,%u}: the second number is smaller", least,
                              most);
    LB_TRY(fold(p, rule, from, &what));
    for (u32 i = 0; i < least; i++)
        LB_TRY(push(p, rule, what.type, what.value));
    u32 n = most == NO_MAX ? 1 : most - least, last = 0;
    for (u32 i = 0; i < n; i++) {
        u32 made;
        LB_TRY(add_rule(p, name_of(p, rule), at, true, &made));
        LB_TRY(push(p, made, what.type, what.value));
        if (i || most == NO_MAX)
            LB_TRY(push(p, made, LB_GELEM_REF, most == NO_MAX ? made : last));
        LB_TRY(push(p, made, LB_GELEM_ALT, 0));
        LB_TRY(push(p, made, LB_GELEM_END, 0));
        last = made;
    }
    return n ? push(p, rule, LB_GELEM_REF, last) : LB_OK;
}

static lb_status parse_number(lb_gparse *p, u64 max, const char *what, u32 *out) {
    size_t at = p->pos;
    u64 v = 0;
    if (!is_digit(peek(p, 0)))
        return lb_gparse_fail(p, LB_E_FORMAT, at, "a number is missing");
    for (; is_digit(peek(p, 0)); p->pos++)
        v = LB_MIN(v * 10 + (u64)(peek(p, 0) - '0'), max + 1);
    if (v > max)
        return lb_gparse_fail(p, LB_E_LIMIT, at, "%s of more than %llu", what,
                              (unsigned long long)max);
    *out = (u32)v;
    return LB_OK;
}

static lb_status parse_braces(lb_gparse *p, bool nested, u32 *least, u32 *most) {
    p->pos++;
    skip_space(p, nested);
    LB_TRY(parse_number(p, REPEAT_MAX, "a repetition", least));
    skip_space(p, nested);
    *most = *least;
    if (peek(p, 0) == ',') {
        p->pos++;
        skip_space(p, nested);
        *most = NO_MAX;
        if (is_digit(peek(p, 0))) {
            LB_TRY(parse_number(p, REPEAT_MAX, "a repetition", most));
            skip_space(p, nested);
        }
    }
    if (peek(p, 0) != '}')
        return lb_gparse_fail(p, LB_E_FORMAT, p->pos, "\"}\" is missing");
    p->pos++;
    return LB_OK;
}

static lb_status parse_literal(lb_gparse *p, u32 rule) {
    size_t at = p->pos++;
    while (peek(p, 0) != '"') {
        u32 c, set;
        if (p->pos >= p->text.len)
            return lb_gparse_fail(p, LB_E_FORMAT, at, "the literal does not end");
        LB_TRY(parse_char(p, &c));
        lb_grange r[2] = {{c, c}};
        LB_TRY(set_of(p, r, 1, false, &set));
        LB_TRY(push(p, rule, LB_GELEM_SET, set));
    }
    p->pos++;
    return LB_OK;
}

static lb_status parse_class(lb_gparse *p, u32 rule) {
    size_t at = p->pos++;
    lb_buf ranges = {0};
    lb_status st = LB_OK;
    bool negated = peek(p, 0) == '^';
    p->pos += negated;
    while (peek(p, 0) != ']') {
        lb_grange r;
        if (p->pos >= p->text.len) {
            st = lb_gparse_fail(p, LB_E_FORMAT, at, "the class does not end");
            goto done;
        }
        LB_TRY_DONE(st, parse_char(p, &r.lo));
        r.hi = r.lo;
        if (peek(p, 0) == '-' && peek(p, 1) != ']') {
            p->pos++;
            if (p->pos >= p->text.len) {
                st = lb_gparse_fail(p, LB_E_FORMAT, at, "the class does not end");
                goto done;
            }
            LB_TRY_DONE(st, parse_char(p, &r.hi));
        }
        lb_buf_put(&ranges, &r, sizeof r);
    }
    p->pos++;
    u32 n = (u32)(ranges.len / sizeof(lb_grange)), set;
    lb_buf_put(&ranges, &(lb_grange){0, 0}, sizeof(lb_grange)); /* room */
    LB_TRY_DONE(st, lb_buf_status(&ranges, p->err));
    if (n) { /* llama.cpp: an empty class is nothing at all */
        LB_TRY_DONE(st, set_of(p, (lb_grange *)(void *)ranges.ptr, n, negated, &set));
        st = push(p, rule, LB_GELEM_SET, set);
    }
done:
    lb_buf_deinit(&ranges);
    return st;
}

/* <[id]>, <text>, and either behind "!". */
static lb_status parse_token(lb_gparse *p, u32 rule) {
    size_t at = p->pos;
    u32 type = LB_GELEM_TOKEN, id;
    if (peek(p, 0) == '!') {
        type = LB_GELEM_TOKEN_NOT;
        p->pos++;
    }
    if (peek(p, 0) != '<')
        return lb_gparse_fail(p, LB_E_FORMAT, p->pos, "\"<\" is missing behind \"!\"");
    if (peek(p, 1) == '[') {
        p->pos += 2;
        LB_TRY(parse_number(p, 0x7fffffff, "the id of a token", &id));
        if (peek(p, 0) != ']' || peek(p, 1) != '>')
            return lb_gparse_fail(p, LB_E_FORMAT, p->pos, "\"]>\" is missing");
        p->pos += 2;
    } else {
        size_t begin = p->pos;
        while (p->pos < p->text.len && peek(p, 0) != '>')
            p->pos++;
        if (p->pos >= p->text.len)
            return lb_gparse_fail(p, LB_E_FORMAT, at, "\">\" is missing");
        lb_str name = lb_str_sub(p->text, begin, ++p->pos);
        if (!p->o || !p->o->token)
            return lb_gparse_fail(p, LB_E_UNSUPPORTED, at,
                                  "a token by its text needs a vocabulary: write <[id]>");
        if (!p->o->token(p->o->data, name, &id))
            return lb_gparse_fail(p, LB_E_FORMAT, at, "%.*s is not one token",
                                  (int)LB_MIN(name.len, (size_t)60), name.ptr);
    }
    return push(p, rule, type, id);
}

static lb_status parse_alternatives(lb_gparse *p, u32 rule, bool nested);

static lb_status parse_group(lb_gparse *p, u32 rule) {
    size_t at = p->pos++;
    u32 made;
    if (++p->depth > LB_GRAMMAR_DEPTH_MAX)
        return lb_gparse_fail(p, LB_E_LIMIT, at, "parentheses are nested more than %d deep",
                              LB_GRAMMAR_DEPTH_MAX);
    skip_space(p, true);
    LB_TRY(add_rule(p, name_of(p, rule), at, true, &made));
    LB_TRY(parse_alternatives(p, made, true));
    if (peek(p, 0) != ')')
        return lb_gparse_fail(p, LB_E_FORMAT, p->pos, "\")\" is missing");
    p->pos++;
    p->depth--;
    return push(p, rule, LB_GELEM_REF, made);
}

static lb_status parse_sequence(lb_gparse *p, u32 rule, bool nested) {
    u32 last = rule_len(p, rule); /* where the item begins that a repetition is of */
    for (;; skip_space(p, nested)) {
        char c = peek(p, 0);
        size_t at = p->pos;
        u32 least = 0, most = NO_MAX;
        if (c == '*' || c == '+' || c == '?' || c == '{') {
            if (c == '{') {
                LB_TRY(parse_braces(p, nested, &least, &most));
            } else {
                p->pos++;
                least = c == '+';
                most = c == '?' ? 1 : NO_MAX;
            }
            LB_TRY(repeat(p, rule, last, least, most, at));
            continue;
        }
        u32 begin = rule_len(p, rule);
        if (c == '"') {
            LB_TRY(parse_literal(p, rule));
        } else if (c == '[') {
            LB_TRY(parse_class(p, rule));
        } else if (c == '<' || c == '!') {
            LB_TRY(parse_token(p, rule));
        } else if (c == '(') {
            LB_TRY(parse_group(p, rule));
        } else if (c == '.') {
            lb_grange all[2] = {{0, CODE_POINT_MAX}};
            u32 set;
            p->pos++;
            LB_TRY(set_of(p, all, 1, false, &set));
            LB_TRY(push(p, rule, LB_GELEM_SET, set));
        } else if (is_word(c)) {
            u32 ref;
            while (is_word(peek(p, 0)))
                p->pos++;
            LB_TRY(named_rule(p, lb_str_sub(p->text, at, p->pos), at, &ref));
            LB_TRY(push(p, rule, LB_GELEM_REF, ref));
        } else {
            return LB_OK;
        }
        last = begin;
    }
}

static lb_status parse_alternatives(lb_gparse *p, u32 rule, bool nested) {
    LB_TRY(parse_sequence(p, rule, nested));
    while (peek(p, 0) == '|') {
        p->pos++;
        LB_TRY(push(p, rule, LB_GELEM_ALT, 0));
        skip_space(p, true);
        LB_TRY(parse_sequence(p, rule, nested));
    }
    return push(p, rule, LB_GELEM_END, 0);
}

static lb_status parse_rule(lb_gparse *p) {
    size_t at = p->pos;
    u32 rule;
    while (is_word(peek(p, 0)))
        p->pos++;
    if (p->pos == at)
        return lb_gparse_fail(p, LB_E_FORMAT, at, "the name of a rule is missing");
    lb_str name = lb_str_sub(p->text, at, p->pos);
    skip_space(p, false);
    if (peek(p, 0) != ':' || peek(p, 1) != ':' || peek(p, 2) != '=')
        return lb_gparse_fail(p, LB_E_FORMAT, p->pos, "\"::=\" is missing");
    p->pos += 3;
    skip_space(p, true);
    LB_TRY(named_rule(p, name, at, &rule));
    lb_gparse_rule(p, rule)->elems.len = 0; /* llama.cpp: the last definition counts */
    lb_gparse_rule(p, rule)->defined = true;
    p->depth = 0;
    LB_TRY(parse_alternatives(p, rule, false));
    char c = peek(p, 0);
    if (p->pos < p->text.len && c != '\r' && c != '\n')
        return lb_gparse_fail(p, LB_E_FORMAT, p->pos, "a rule ends here: expected a new line");
    skip_space(p, true);
    return LB_OK;
}

lb_status lb_gparse_text(lb_gparse *p) {
    size_t n = 0;
    while (n < p->text.len && p->text.ptr[n])
        n++;
    if (n < p->text.len)
        return lb_gparse_fail(p, LB_E_FORMAT, n, "a zero byte");
    if (!lb_str_is_utf8(p->text))
        return lb_fail(p->err, LB_E_FORMAT, "grammar: the text is not UTF-8");
    skip_space(p, true);
    while (p->pos < p->text.len)
        LB_TRY(parse_rule(p));
    for (u32 i = 0; i < p->rules.len / sizeof(lb_grule); i++) {
        lb_grule *r = lb_gparse_rule(p, i);
        if (!r->defined)
            return lb_gparse_fail(p, LB_E_FORMAT, r->at, "the rule \"%.*s\" is not defined",
                                  (int)LB_MIN(r->name.len, (size_t)60), r->name.ptr);
    }
    return LB_OK;
}

void lb_gparse_deinit(lb_gparse *p) {
    for (u32 i = 0; i < p->rules.len / sizeof(lb_grule); i++)
        lb_buf_deinit(&lb_gparse_rule(p, i)->elems);
    lb_buf_deinit(&p->rules);
    lb_buf_deinit(&p->sets);
    lb_map_deinit(&p->names);
    lb_map_deinit(&p->set_ids);
    lb_arena_deinit(&p->arena);
}
