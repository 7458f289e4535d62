/* SPDX-License-Identifier: Apache-2.0 */
/* config_value.c: scalars of a merge file as pydantic 2 takes them in its lax mode, and the
 * reader's small parts: the path of keys, messages, known keys. */
#include "merge/config_internal.h"
#include <math.h>
#include <stdio.h>

/* ---- scalars ---- */

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static lb_str trim(lb_str s) {
    while (s.len && is_space(s.ptr[0]))
        s = lb_str_sub(s, 1, s.len);
    while (s.len && is_space(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool same_word(lb_str s, const char *low) {
    size_t n = strlen(low);
    for (size_t i = 0; i < n && i < s.len; i++) {
        char c = s.ptr[i];
        if ((c >= 'A' && c <= 'Z' ? c | 32 : c) != low[i])
            return false;
    }
    return s.len == n;
}

#define NUMBER_MAX 400 /* longer texts are no settings */

/* Copies without underscores; false where one does not stand between two others. */
static bool without_underscores(lb_str s, char *out, size_t *len) {
    *len = 0;
    if (s.len == 0 || s.len >= NUMBER_MAX || s.ptr[0] == '_' || s.ptr[s.len - 1] == '_')
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '_' && s.ptr[i + 1] == '_')
            return false;
        if (s.ptr[i] != '_')
            out[(*len)++] = s.ptr[i];
    }
    return true;
}

static size_t digits_at(lb_str s, size_t from) {
    size_t n = 0;
    while (from + n < s.len && is_digit(s.ptr[from + n]))
        n++;
    return n;
}

/* [+-] (digits [. digits] | . digits) [e [+-] digits] -> as JSON has numbers. */
static bool text_as_float(lb_str s, double *out) {
    char plain[NUMBER_MAX], json[NUMBER_MAX + 8];
    size_t len;
    s = trim(s);
    if (!without_underscores(s, plain, &len))
        return false;
    bool negative = plain[0] == '-';
    size_t at = plain[0] == '-' || plain[0] == '+';
    lb_str t = {plain, len}, rest = lb_str_sub(t, at, len);
    if (same_word(rest, "inf") || same_word(rest, "infinity") || same_word(rest, "nan")) {
        *out = same_word(rest, "nan") ? (double)NAN : negative ? -HUGE_VAL : HUGE_VAL;
        return true;
    }
    size_t whole = digits_at(t, at), fraction = 0, dot = at + whole, end = dot;
    while (whole > 1 && plain[at] == '0')
        at++, whole--;
    if (end < len && plain[end] == '.') {
        fraction = digits_at(t, dot + 1);
        end = dot + 1 + fraction;
    }
    if (whole + fraction == 0)
        return false;
    lb_str tail = lb_str_sub(t, end, len);
    if (tail.len) {
        size_t sign = tail.len > 1 && (tail.ptr[1] == '+' || tail.ptr[1] == '-');
        if ((tail.ptr[0] | 32) != 'e' || tail.len == 1 + sign ||
            digits_at(tail, 1 + sign) != tail.len - 1 - sign)
            return false;
    }
    lb_str w = whole ? (lb_str){plain + at, whole} : LB_STR("0");
    lb_str f = fraction ? (lb_str){plain + dot + 1, fraction} : LB_STR("0");
    int n = snprintf(json, sizeof json, "%s%.*s.%.*s%.*s", negative ? "-" : "", LB_FMT(w),
                     LB_FMT(f), LB_FMT(tail));
    lb_json v = {.type = LB_JNUMBER, .text = {json, (size_t)n}};
    return lb_json_as_f64(&v, out);
}

bool lb_merge_as_float(const lb_json *v, double *out) {
    switch (v->type) {
    case LB_JBOOL:
        *out = v->truth;
        return true;
    case LB_JNUMBER:
        return lb_json_as_f64(v, out);
    case LB_JSTRING:
        return text_as_float(v->text, out);
    default:
        return false;
    }
}

/* [+-] digits [. zeros] */
static bool text_as_int(lb_str s, i64 *out) {
    char plain[NUMBER_MAX];
    size_t len;
    s = trim(s);
    if (!without_underscores(s, plain, &len))
        return false;
    while (len > 1 && plain[len - 1] == '0' && memchr(plain, '.', len))
        len--;
    len -= len > 1 && plain[len - 1] == '.' && s.ptr[s.len - 1] == '0';
    size_t sign = plain[0] == '-' || plain[0] == '+';
    lb_str digits = {plain + sign, len - sign};
    u64 n;
    if (!lb_str_to_u64(digits, &n) || n > INT64_MAX)
        return false;
    *out = plain[0] == '-' ? -(i64)n : (i64)n;
    return true;
}

bool lb_merge_as_int(const lb_json *v, i64 *out) {
    switch (v->type) {
    case LB_JBOOL:
        *out = v->truth;
        return true;
    case LB_JNUMBER:
        return lb_json_as_i64(v, out);
    case LB_JSTRING:
        return text_as_int(v->text, out);
    default:
        return false;
    }
}

bool lb_merge_as_bool(const lb_json *v, bool *out) {
    static const char *const yes[] = {"1", "t", "y", "on", "yes", "true"};
    static const char *const no[] = {"0", "f", "n", "off", "no", "false"};
    i64 n;
    if (v->type == LB_JBOOL) {
        *out = v->truth;
        return true;
    }
    if (v->type == LB_JNUMBER) {
        *out = lb_json_as_i64(v, &n) && n == 1;
        return lb_json_as_i64(v, &n) && (n == 0 || n == 1);
    }
    for (u32 i = 0; v->type == LB_JSTRING && i < LB_LEN(yes); i++) {
        *out = same_word(v->text, yes[i]);
        if (*out || same_word(v->text, no[i]))
            return true;
    }
    return false;
}

/* ---- words ---- */

const char *lb_merge_nearest(lb_str word, const char *const *list) {
    char w[64];
    u32 best = UINT32_MAX;
    const char *near = NULL;
    (void)snprintf(w, sizeof w, "%.*s", LB_FMT(word));
    for (; *list; list++) {
        u32 d;
        if (lb_is_near(w, *list, &d) && d < best) {
            best = d;
            near = *list;
        }
    }
    return near;
}

/* ---- where the reader is ---- */

static void add_path(lb_merge_reader *r, const char *fmt, ...) LB_PRINTF(2, 3);
static void add_path(lb_merge_reader *r, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(r->path + r->path_len, sizeof r->path - r->path_len, fmt, args);
    va_end(args);
    r->path_len = (u32)LB_MIN((size_t)r->path_len + (size_t)LB_MAX(n, 0), sizeof r->path - 1);
}

u32 lb_merge_enter(lb_merge_reader *r, lb_str key) {
    u32 before = r->path_len;
    add_path(r, "%s%.*s", before ? "." : "", (int)LB_MIN(key.len, 64), key.ptr);
    return before;
}

u32 lb_merge_enter_at(lb_merge_reader *r, u64 i) {
    u32 before = r->path_len;
    add_path(r, "[%llu]", (unsigned long long)i);
    return before;
}

void lb_merge_leave(lb_merge_reader *r, u32 before) {
    r->path_len = before;
    r->path[before] = 0;
}

lb_status lb_merge_no_memory(lb_merge_reader *r) {
    return lb_fail(r->err, LB_E_NOMEM, "%.*s: out of memory", LB_FMT(r->what));
}

lb_status lb_merge_bad(lb_merge_reader *r, const lb_json *v, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return lb_fail(r->err, LB_E_FORMAT, "%.*s: line %u: %s%s%s", LB_FMT(r->what), v->line, r->path,
                   r->path_len ? ": " : "", text);
}

lb_status lb_merge_note(lb_merge_reader *r, const lb_json *v, const char *text) {
    lb_merge_config *c = r->config;
    if (c->n_notes == r->notes_cap) {
        u32 cap = r->notes_cap ? 2 * r->notes_cap : 4;
        lb_str *more = lb_arena_new(r->perm, lb_str, cap);
        if (!more)
            return lb_merge_no_memory(r);
        if (c->n_notes)
            memcpy(more, c->notes, c->n_notes * sizeof *more);
        c->notes = more;
        r->notes_cap = cap;
    }
    lb_str s =
        lb_arena_printf(r->perm, "%.*s: line %u: %s: %s", LB_FMT(r->what), v->line, r->path, text);
    c->notes[c->n_notes++] = s;
    return s.ptr ? LB_OK : lb_merge_no_memory(r);
}

const lb_json *lb_merge_get(const lb_json *object, const char *key) {
    const lb_json *v = lb_json_get(object, key);
    return v && v->type != LB_JNULL ? v : NULL;
}

static bool is_known(lb_str key, const char *const *keys) {
    for (; *keys; keys++)
        if (lb_str_eq_c(key, *keys))
            return true;
    return false;
}

lb_status lb_merge_keys(lb_merge_reader *r, const lb_json *v, const char *const *keys) {
    if (v->type != LB_JOBJECT)
        return lb_merge_bad(r, v, "a mapping with the keys %s... is needed", keys[0]);
    for (const lb_json *m = v->first; m; m = m->next) {
        if (is_known(m->key, keys))
            continue;
        u32 before = lb_merge_enter(r, m->key);
        /* The place for anchors, as in other YAML files. */
        if (lb_str_starts(m->key, LB_STR("x-"))) {
            lb_merge_leave(r, before);
            continue;
        }
        const char *near = lb_merge_nearest(m->key, keys);
        if (near)
            return lb_merge_bad(r, m, "unknown key; did you mean %s?", near);
        lb_buf list = {0};
        for (u32 i = 0; keys[i]; i++)
            lb_buf_printf(&list, "%s%s", i ? ", " : "", keys[i]);
        lb_status st =
            lb_merge_bad(r, m, "unknown key; here may stand %.*s", LB_FMT(lb_buf_str(&list)));
        lb_buf_deinit(&list);
        return st;
    }
    return LB_OK;
}

lb_status lb_merge_text(lb_merge_reader *r, const lb_json *v, lb_str *out) {
    if (!lb_json_as_str(v, out))
        return lb_merge_bad(
            r, v, "a text is needed%s",
            v->type == LB_JNUMBER || v->type == LB_JBOOL ? ": put it into quotation marks" : "");
    return LB_OK;
}
