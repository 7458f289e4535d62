/* SPDX-License-Identifier: Apache-2.0 */
/* model_id.c: what the name of a model says: "org/Mixtral-8x7B-Instruct-v0.1".
 *
 * The rules are those of gguf-py/gguf/metadata.py (get_model_id_components, id_to_title) and
 * utility.py (size_label) of llama-cpp-python 0.3.36. A name is cut at its dashes; each part is a
 * version, a type, a size, a fine-tune, or by its place part of the base name. Parts are matched as
 * Python matches text: letters and digits of any script, case ignored. */
#include "arch/arch_internal.h"
#include <math.h>
#include <stdio.h>
#include <utf8proc.h>

/* More parts than any real name has; a longer name is taken whole, without components. */
#define PARTS_MAX 64

enum { KIND_BASENAME = 1, KIND_SIZE = 2, KIND_FINETUNE = 4, KIND_VERSION = 8, KIND_TYPE = 16 };

typedef struct part {
    lb_str text;
    u32 kinds;
} part;

/* ---- characters ---- */

/* The code point at *at, which is moved on; invalid bytes count as themselves. */
static i32 next_cp(lb_str s, size_t *at) {
    utf8proc_int32_t cp;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s.ptr + *at,
                                          (utf8proc_ssize_t)(s.len - *at), &cp);
    if (n <= 0) {
        cp = (u8)s.ptr[*at];
        n = 1;
    }
    *at += (size_t)n;
    return cp;
}

static bool is_digit(i32 cp) {
    return cp < 128 ? cp >= '0' && cp <= '9' : utf8proc_category(cp) == UTF8PROC_CATEGORY_ND;
}

static bool is_alpha(i32 cp) {
    utf8proc_category_t c = utf8proc_category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static bool is_word(i32 cp) { /* \w */
    utf8proc_category_t c = utf8proc_category(cp);
    return cp == '_' || is_alpha(cp) || (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO);
}

static bool is_space(i32 cp) { /* str.isspace */
    utf8proc_category_t c = utf8proc_category(cp);
    return (cp >= 9 && cp <= 13) || (cp >= 28 && cp <= 31) || cp == 0x85 ||
           (c >= UTF8PROC_CATEGORY_ZS && c <= UTF8PROC_CATEGORY_ZP);
}

static bool all_parts(lb_str s, bool (*is)(i32)) {
    for (size_t at = 0; at < s.len;)
        if (!is(next_cp(s, &at)))
            return false;
    return s.len > 0;
}

static bool any_digit(lb_str s) {
    for (size_t at = 0; at < s.len;)
        if (is_digit(next_cp(s, &at)))
            return true;
    return false;
}

static i32 lower(i32 cp) {
    return utf8proc_tolower(cp);
}

/* A matcher walks over s: each step eats at *at or leaves it. */
static bool eat_digits(lb_str s, size_t *at) {
    size_t start = *at;
    while (*at < s.len) {
        size_t next = *at;
        if (!is_digit(next_cp(s, &next)))
            break;
        *at = next;
    }
    return *at > start;
}

static bool eat_any(lb_str s, size_t *at, const char *set) {
    size_t next = *at;
    if (*at >= s.len)
        return false;
    i32 cp = lower(next_cp(s, &next));
    if (cp <= 0 || cp >= 128 || !strchr(set, (int)cp))
        return false;
    *at = next;
    return true;
}

static bool eat_text(lb_str s, size_t *at, const char *text) {
    size_t p = *at;
    for (; *text; text++) {
        char set[2] = {*text, 0};
        if (!eat_any(s, &p, set))
            return false;
    }
    *at = p;
    return true;
}

static bool is_text(lb_str s, const char *text) {
    size_t at = 0;
    return eat_text(s, &at, text) && at == s.len;
}

/* ---- kinds of parts ---- */

/* (v|iter)?\d+([.]\d+)* */
static bool is_version(lb_str s) {
    size_t at = 0;
    if (!eat_text(s, &at, "iter"))
        eat_text(s, &at, "v");
    if (!eat_digits(s, &at))
        return false;
    while (at < s.len)
        if (!eat_any(s, &at, ".") || !eat_digits(s, &at))
            return false;
    return true;
}

/* i?q\d(_\w)*|b?fp?(16|32) */
static bool is_type(lb_str s) {
    size_t at = 0;
    eat_any(s, &at, "i");
    if (eat_any(s, &at, "q") && at < s.len && is_digit(next_cp(s, &at))) {
        bool pairs = true;
        while (pairs && at < s.len)
            pairs = eat_any(s, &at, "_") && at < s.len && is_word(next_cp(s, &at));
        if (pairs)
            return true;
    }
    at = 0;
    eat_any(s, &at, "b");
    if (!eat_any(s, &at, "f"))
        return false;
    eat_any(s, &at, "p");
    return (eat_text(s, &at, "16") || eat_text(s, &at, "32")) && at == s.len;
}

/* (A|\d+x)?\d+([._]\d+)?[KMBT]\d? */
static bool is_size_number(lb_str s, bool with_prefix) {
    size_t at = 0;
    if (with_prefix && !eat_any(s, &at, "a") && !(eat_digits(s, &at) && eat_any(s, &at, "x")))
        return false;
    if (!eat_digits(s, &at))
        return false;
    size_t fraction = at;
    if (!eat_any(s, &fraction, "._") || !eat_digits(s, &fraction))
        fraction = at;
    at = fraction;
    if (!eat_any(s, &at, "kmbt"))
        return false;
    if (at < s.len) {
        size_t p = at;
        if (is_digit(next_cp(s, &p)))
            at = p;
    }
    return at == s.len;
}

static bool is_size(lb_str s) {
    static const char *const words[] = {"small", "mini", "medium", "large", "xl", "xxl"};
    for (size_t i = 0; i < LB_LEN(words); i++)
        if (is_text(s, words[i]))
            return true;
    return is_size_number(s, false) || is_size_number(s, true);
}

static bool is_finetune(lb_str s) {
    return is_text(s, "chat") || is_text(s, "instruct") || is_text(s, "vision") ||
           is_text(s, "lora");
}

/* ---- sizes ---- */

static bool ascii_digit(char c) {
    return c >= '0' && c <= '9';
}

/* "1.6" of "1.6B" times its unit. False where Python's float() would refuse: "8x7", "A2.7", words.
 */
static bool size_value(lb_str s, double *out) {
    static const char units[] = " KMBT";
    char text[64];
    size_t n = s.len - 1, digits = 0, dots = 0;
    if (s.len < 2 || n >= sizeof text)
        return false;
    for (size_t i = 0; i < n; i++) {
        digits += ascii_digit(s.ptr[i]);
        dots += s.ptr[i] == '.';
    }
    const char *unit = memchr(units, s.ptr[n], 5);
    if (digits + dots != n || dots > 1 || digits == 0)
        return false;
    /* Exact: at most 15 digits would be needed for that, and no name has more. */
    double v = 0, scale = 1;
    bool fraction = false;
    for (size_t i = 0; i < n; i++) {
        if (s.ptr[i] == '.') {
            fraction = true;
            continue;
        }
        v = v * 10 + (s.ptr[i] - '0');
        scale = fraction ? scale * 10 : scale;
    }
    v /= scale;
    /* A unit that is none of these is found at -1, and 1000 to that power is meant. */
    static const double powers[] = {1, 1e3, 1e6, 1e9, 1e12};
    *out = unit ? v * powers[unit - units] : v * 0.001;
    return true;
}

/* Not close to the model's size: a length of context, or the number of training tokens. */
static bool is_other_size(lb_str s, i64 n_params) {
    double label;
    if (n_params == 0 || !size_value(s, &label))
        return false;
    if (n_params < 0)
        return label < (double)(-n_params / 8);
    i64 seven_eighths = (i64)(7 * ((u64)n_params / 8) + 7 * ((u64)n_params % 8) / 8);
    return fabs(label - (double)n_params) > (double)seven_eighths;
}

/* Normal form of a size; NULL ptr: out of memory. */
static lb_str size_text(lb_str s, i64 n_params, bool *other, lb_arena *perm) {
    lb_str t = lb_arena_printf(perm, "%.*s", LB_FMT(s));
    char *c = (char *)(uintptr_t)t.ptr;
    *other = false;
    if (!c)
        return t;
    for (size_t i = 0; i < t.len; i++)
        if (c[i] == '_')
            c[i] = '.';
    if (t.len >= 2 && ascii_digit(c[t.len - 1])) { /* 7b1 -> 7.1b */
        char unit = c[t.len - 2], digit = c[t.len - 1];
        t = lb_arena_printf(perm, "%.*s.%c%c", (int)(t.len - 2), c, digit, unit);
        c = (char *)(uintptr_t)t.ptr;
        if (!c)
            return t;
    }
    char *last = c + t.len - 1;
    if (t.len > 1 && ascii_digit(last[-1]) && strchr("kmbt", *last))
        *last = (char)(*last - 32);
    if (is_other_size(t, n_params)) {
        *other = true;
        if (*last >= 'A' && *last <= 'Z')
            *last = (char)(*last + 32);
    }
    return t;
}

/* ---- the parts of a name ---- */

static lb_str upper(lb_str s, lb_arena *perm) {
    lb_str t = lb_arena_str(perm, s);
    char *c = (char *)(uintptr_t)t.ptr;
    for (size_t i = 0; c && i < t.len; i++)
        if (c[i] >= 'a' && c[i] <= 'z')
            c[i] = (char)(c[i] - 32);
    return t;
}

static bool annotate(part *p, bool first, i64 n_params, lb_arena *perm) {
    lb_str s = p->text;
    if (is_version(s)) {
        p->kinds = KIND_VERSION;
    } else if (is_type(s)) {
        p->kinds = KIND_TYPE;
        p->text = upper(s, perm);
    } else if (!first && is_size(s)) {
        bool other;
        p->text = size_text(s, n_params, &other, perm);
        p->kinds = other ? KIND_FINETUNE : KIND_SIZE;
    } else if (!first && is_finetune(s)) {
        p->kinds = n_params < 0 && is_text(s, "lora") ? KIND_TYPE : KIND_FINETUNE;
    }
    return p->text.ptr != NULL;
}

/* A word is a size only where no number is. */
static void drop_word_sizes(part *p, size_t n) {
    bool number = false;
    for (size_t i = 0; i < n; i++)
        number |= (p[i].kinds & KIND_SIZE) && any_digit(p[i].text);
    for (size_t i = 0; number && i < n; i++)
        if ((p[i].kinds & KIND_SIZE) && all_parts(p[i].text, is_alpha))
            p[i].kinds &= ~(u32)KIND_SIZE;
}

static void find_basename(part *p, size_t n) {
    bool at_start = true;
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;
        bool word = p[i].kinds == 0 && is_alpha(next_cp(p[i].text, &at));
        if (at_start && (word || (p[i].kinds & KIND_VERSION))) {
            p[i].kinds |= KIND_BASENAME;
        } else {
            at_start = false;
            if (p[i].kinds == 0)
                p[i].kinds = KIND_FINETUNE;
        }
    }
    for (size_t i = n; i-- > 0 && p[i].kinds != KIND_BASENAME && (p[i].kinds & KIND_BASENAME);)
        p[i].kinds &= ~(u32)KIND_BASENAME;
}

/* Parts of a kind, joined by dashes; no part: NULL. */
static bool join(const part *p, size_t n, u32 kind, lb_arena *perm, lb_str *out) {
    lb_buf b = {0};
    bool any = false;
    *out = LB_STR_NONE;
    for (size_t i = 0; i < n; i++) {
        bool skip = !(p[i].kinds & kind) || (kind == KIND_VERSION && (p[i].kinds & KIND_BASENAME));
        for (size_t k = 0; kind == KIND_SIZE && k < i && !skip; k++)
            skip = (p[k].kinds & KIND_SIZE) && lb_str_eq(p[k].text, p[i].text);
        if (skip)
            continue;
        if (any)
            lb_buf_put_u8(&b, '-');
        lb_buf_put_str(&b, p[i].text);
        any = true;
    }
    if (any && !b.oom)
        *out = lb_arena_str(perm, lb_buf_str(&b));
    bool ok = !b.oom && (!any || out->ptr);
    lb_buf_deinit(&b);
    return ok;
}

lb_status lb_model_id_parse(lb_str id, i64 n_params, lb_arena *perm, lb_model_id *out,
                            lb_err *err) {
    part parts[PARTS_MAX] = {{{NULL, 0}, 0}};
    size_t n = 0, slash;
    *out = (lb_model_id){.name = id};
    if (!id.ptr || lb_str_find(id, LB_STR(" "), &slash))
        return LB_OK;
    if (lb_str_find(id, LB_STR("/"), &slash)) {
        out->organization = lb_str_sub(id, 0, slash);
        if (slash > 0 && id.ptr[0] == '.')
            out->organization = LB_STR_NONE;
        out->name = lb_str_sub(id, slash + 1, id.len);
    }
    for (size_t at = 0; at <= out->name.len;) {
        size_t end = at;
        while (end < out->name.len && out->name.ptr[end] != '-')
            end++;
        if (end > at && n == PARTS_MAX)
            return LB_OK;
        if (end > at)
            parts[n++].text = lb_str_sub(out->name, at, end);
        at = end + 1;
    }
    bool ok = true;
    for (size_t i = 0; i < n; i++)
        ok = ok && annotate(&parts[i], i == 0, n_params, perm);
    if (ok) {
        drop_word_sizes(parts, n);
        find_basename(parts, n);
    }
    ok = ok && join(parts, n, KIND_BASENAME, perm, &out->basename) &&
         join(parts, n, KIND_SIZE, perm, &out->size_label) &&
         join(parts, n, KIND_FINETUNE, perm, &out->finetune) &&
         join(parts, n, KIND_VERSION, perm, &out->version);
    if (!ok)
        return lb_fail(err, LB_E_NOMEM, "the model's name: out of memory");
    if (!out->size_label.ptr && !out->finetune.ptr && !out->version.ptr)
        out->basename = LB_STR_NONE;
    return LB_OK;
}

/* ---- titles ---- */

static bool is_lower_word(lb_str s) {
    bool any = false;
    for (size_t at = 0; at < s.len;) {
        utf8proc_category_t c = utf8proc_category(next_cp(s, &at));
        if (c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LT)
            return false;
        any |= c == UTF8PROC_CATEGORY_LL;
    }
    return any;
}

/* ^(v\d+(\.\d+)*|\d.*)$ */
static bool keeps_case(lb_str s) {
    size_t at = 0;
    if (eat_digits(s, &at))
        return true;
    return s.len > 0 && s.ptr[0] == 'v' && is_version(s);
}

static void put_cp(lb_buf *b, i32 cp) {
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(cp, bytes);
    lb_buf_put(b, bytes, (size_t)n);
}

/* The first letter of every run of letters in title case. */
static void put_title(lb_buf *b, lb_str s) {
    bool inside = false;
    for (size_t at = 0; at < s.len;) {
        i32 cp = next_cp(s, &at);
        utf8proc_category_t c = utf8proc_category(cp);
        bool cased =
            c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
        put_cp(b, !cased ? cp : inside ? utf8proc_tolower(cp) : utf8proc_totitle(cp));
        inside = cased;
    }
}

lb_str lb_model_id_title(lb_str id, lb_arena *perm) {
    lb_buf b = {0};
    lb_str out = LB_STR_NONE;
    size_t at = 0;
    while (at < id.len) {
        size_t start = at, end = at;
        while (at < id.len) {
            i32 cp = next_cp(id, &at);
            if (cp == '-' || is_space(cp))
                break;
            end = at;
        }
        if (end == start)
            continue;
        lb_str word = lb_str_sub(id, start, end);
        if (b.len)
            lb_buf_put_u8(&b, ' ');
        if (is_lower_word(word) && !keeps_case(word))
            put_title(&b, word);
        else
            lb_buf_put_str(&b, word);
    }
    if (!b.oom)
        out = lb_arena_str(perm, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return out;
}

/* ---- size labels ---- */

lb_str lb_model_size_label(u64 n_params, u64 n_experts, lb_arena *perm) {
    static const struct {
        double above, scale;
        char unit;
    } steps[] = {{1e12, 1e-12, 'T'}, {1e9, 1e-9, 'B'}, {1e6, 1e-6, 'M'}, {-1, 1e-3, 'K'}};
    size_t i = 0;
    while (!((double)n_params > steps[i].above))
        i++;
    double scaled = (double)n_params * steps[i].scale, whole = rint(scaled);
    int digits = whole < 1 ? 2 : whole < 10 ? 1 : 0; /* two significant digits at least */
    if (n_experts)
        return lb_arena_printf(perm, "%llux%.*f%c", (unsigned long long)n_experts, digits, scaled,
                               steps[i].unit);
    return lb_arena_printf(perm, "%.*f%c", digits, scaled, steps[i].unit);
}
