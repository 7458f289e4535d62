/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_text.c: characters and their classes, case, numbers in text: Python's str. */
#include "text/jinja_text.h"
#include "text/bytelevel.h"
#include "text/jinja_case_tables.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

static utf8proc_category_t category(u32 cp) {
    return utf8proc_category((utf8proc_int32_t)cp);
}

bool lb_jcp_is_space(u32 cp) {
    if (cp < 0x80)
        return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x1f);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

bool lb_jcp_is_line_end(u32 cp) {
    return (cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

static bool is_letter(u32 cp) {
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static bool is_numeric(u32 cp) {
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

bool lb_jcp_is_word(u32 cp) {
    if (cp < 0x80)
        return (cp >= '0' && cp <= '9') || cp == '_' || ((cp | 0x20) >= 'a' && (cp | 0x20) <= 'z');
    return is_letter(cp) || is_numeric(cp);
}

bool lb_jcp_is_printable(u32 cp) {
    if (cp < 0x80)
        return cp >= 0x20 && cp < 0x7f;
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

u32 lb_jdigit(char c) {
    if (c >= '0' && c <= '9')
        return (u32)(c - '0');
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'z' ? (u32)(c - 'a') + 10 : 99;
}

static bool in_set(u32 cp, lb_str chars) {
    if (!chars.ptr)
        return lb_jcp_is_space(cp);
    for (size_t i = 0; i < chars.len;)
        if (lb_utf8_next(chars, &i) == cp)
            return true;
    return false;
}

lb_str lb_jstr_strip(lb_str s, lb_str chars, bool left, bool right) {
    size_t begin = 0, end = s.len;
    while (left && begin < end) {
        size_t next = begin;
        if (!in_set(lb_utf8_next(s, &next), chars))
            break;
        begin = next;
    }
    while (right && end > begin) {
        size_t p = end - 1, at;
        while (p > begin && ((u8)s.ptr[p] & 0xc0) == 0x80)
            p--;
        at = p;
        if (!in_set(lb_utf8_next(s, &at), chars))
            break;
        end = p;
    }
    return lb_str_sub(s, begin, end);
}

u32 lb_jstr_count(lb_str s) {
    u32 n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += ((u8)s.ptr[i] & 0xc0) != 0x80;
    return n;
}

size_t lb_jstr_at(lb_str s, u64 n) {
    size_t i = 0;
    for (; i < s.len; i++)
        if (((u8)s.ptr[i] & 0xc0) != 0x80 && n-- == 0)
            break;
    return i;
}

bool lb_jstr_line(lb_str s, size_t *pos, lb_str *line, lb_str *with_end) {
    size_t begin = *pos, p = begin;
    if (begin >= s.len)
        return false;
    while (p < s.len) {
        size_t at = p;
        u32 cp = lb_utf8_next(s, &p);
        if (!lb_jcp_is_line_end(cp))
            continue;
        if (cp == '\r' && p < s.len && s.ptr[p] == '\n')
            p++;
        *line = lb_str_sub(s, begin, at);
        *with_end = lb_str_sub(s, begin, p);
        *pos = p;
        return true;
    }
    *line = *with_end = lb_str_sub(s, begin, p);
    *pos = p;
    return true;
}

/* ---- numbers ---- */

bool lb_jstr_to_i64(lb_str s, u32 base, i64 *out) {
    i64 v = 0;
    for (size_t i = 0; i < s.len; i++) {
        u32 d;
        if (s.ptr[i] == '_')
            continue;
        d = lb_jdigit(s.ptr[i]);
        if (d >= base || __builtin_mul_overflow(v, (i64)base, &v) ||
            __builtin_add_overflow(v, (i64)d, &v))
            return false;
    }
    *out = v;
    return s.len > 0;
}

double lb_jstr_to_f64(lb_str s) {
    char small[64], *big = s.len < sizeof small ? NULL : lb_alloc(s.len + 1);
    char *text = big ? big : small;
    size_t n = big ? s.len : LB_MIN(s.len, sizeof small - 1);
    memcpy(text, s.ptr, n);
    text[n] = '\0';
    double v = strtod(text, NULL);
    lb_free(big);
    return v;
}

/* Digits with single underscores between them. */
static bool digits_ok(lb_str s, u32 base) {
    bool digit = false;
    for (size_t i = 0; i < s.len; i++) {
        bool d = lb_jdigit(s.ptr[i]) < base;
        if (!d && !(s.ptr[i] == '_' && digit && i + 1 < s.len))
            return false;
        digit = d;
    }
    return s.len > 0 && digit;
}

lb_jnum lb_jstr_parse_int(lb_str s, u32 base, i64 *out) {
    bool minus = false;
    u32 named = 0;
    s = lb_jstr_strip(s, LB_STR_NONE, true, true);
    if (s.len && (s.ptr[0] == '+' || s.ptr[0] == '-')) {
        minus = s.ptr[0] == '-';
        s = lb_str_sub(s, 1, s.len);
    }
    if (s.len > 2 && s.ptr[0] == '0') {
        char c = (char)(s.ptr[1] | 0x20);
        named = c == 'b' ? 2 : c == 'o' ? 8 : c == 'x' ? 16 : 0;
    }
    if (named && (base == 0 || base == named)) {
        base = named;
        s = lb_str_sub(s, 2, s.len);
        if (s.len && s.ptr[0] == '_')
            s = lb_str_sub(s, 1, s.len);
    } else if (base == 0) {
        base = 10;
        if (s.len > 1 && s.ptr[0] == '0' && lb_jstr_strip(s, LB_STR("0_"), true, true).len)
            return LB_JNUM_NONE;
    }
    if (!digits_ok(s, base))
        return LB_JNUM_NONE;
    if (!lb_jstr_to_i64(s, base, out))
        return LB_JNUM_BIG;
    *out = minus ? -*out : *out;
    return LB_JNUM_OK;
}

static bool word_is(lb_str s, const char *word) {
    size_t n = strlen(word);
    if (s.len != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((s.ptr[i] | 0x20) != word[i])
            return false;
    return true;
}

bool lb_jstr_parse_float(lb_str s, double *out) {
    size_t i = 0, n_digits = 0;
    char text[512];
    size_t len = 0;
    s = lb_jstr_strip(s, LB_STR_NONE, true, true);
    lb_str word = s;
    if (word.len && (word.ptr[0] == '+' || word.ptr[0] == '-'))
        word = lb_str_sub(word, 1, word.len);
    bool minus = s.len && s.ptr[0] == '-';
    if (word_is(word, "nan") || word_is(word, "inf") || word_is(word, "infinity")) {
        double v = word_is(word, "nan") ? (double)__builtin_nanf("") : (double)__builtin_inff();
        *out = minus ? -v : v;
        return true;
    }
    if (word.len >= sizeof text)
        return false;
    for (; i < word.len; i++) {
        char c = word.ptr[i];
        bool digit = c >= '0' && c <= '9';
        char before = i ? word.ptr[i - 1] : '\0', after = i + 1 < word.len ? word.ptr[i + 1] : '\0';
        if (c == '_' && before >= '0' && before <= '9' && after >= '0' && after <= '9')
            continue;
        if (!digit && c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-')
            return false;
        n_digits += digit;
        text[len++] = c;
    }
    text[len] = '\0';
    char *end;
    double v = strtod(text, &end);
    if (!n_digits || *end || end == text || text[0] == '+' || text[0] == '-')
        return false;
    *out = minus ? -v : v;
    return true;
}

/* ---- case ---- */

static const lb_jcase_row *special(u32 cp) {
    u32 lo = 0, hi = lb_jcase_n_rows;
    if (cp < 0x80)
        return NULL;
    while (lo < hi) {
        u32 mid = (lo + hi) / 2;
        if (lb_jcase_rows[mid].cp < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < lb_jcase_n_rows && lb_jcase_rows[lo].cp == cp ? &lb_jcase_rows[lo] : NULL;
}

static bool is_cased(u32 cp) {
    if (cp < 0x80)
        return (cp | 0x20) >= 'a' && (cp | 0x20) <= 'z';
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT ||
           (u32)utf8proc_tolower((utf8proc_int32_t)cp) != cp ||
           (u32)utf8proc_toupper((utf8proc_int32_t)cp) != cp;
}

static bool is_case_ignorable(u32 cp) {
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF ||
           c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_SK || cp == '\'' || cp == '.' ||
           cp == ':' || cp == 0xb7 || cp == 0x2018 || cp == 0x2019 || cp == 0x2024 || cp == 0x2027;
}

/* Whether a capital sigma at byte `at` is the last letter of a word. */
static bool final_sigma(lb_str s, size_t at, size_t after) {
    size_t p = at;
    bool before = false;
    while (p > 0 && !before) {
        size_t q = --p;
        while (q > 0 && ((u8)s.ptr[q] & 0xc0) == 0x80)
            q--;
        p = q;
        u32 cp = lb_utf8_next(s, &q);
        if (is_case_ignorable(cp))
            continue;
        before = is_cased(cp);
        break;
    }
    while (before && after < s.len) {
        u32 cp = lb_utf8_next(s, &after);
        if (!is_case_ignorable(cp))
            return !is_cased(cp);
    }
    return before;
}

static void put_lower(lb_jbuf *out, lb_str s, size_t at, size_t after, u32 cp) {
    const lb_jcase_row *r = special(cp);
    if (cp == 0x3a3)
        lb_jbuf_put_cp(out, final_sigma(s, at, after) ? 0x3c2 : 0x3c3);
    else if (r)
        lb_jbuf_put_c(out, r->lower);
    else
        lb_jbuf_put_cp(out, (u32)utf8proc_tolower((utf8proc_int32_t)cp));
}

static void put_upper(lb_jbuf *out, u32 cp, bool title) {
    const lb_jcase_row *r = special(cp);
    if (r)
        lb_jbuf_put_c(out, title ? r->title : r->upper);
    else
        lb_jbuf_put_cp(out, title ? (u32)utf8proc_totitle((utf8proc_int32_t)cp)
                                  : (u32)utf8proc_toupper((utf8proc_int32_t)cp));
}

static bool is_upper(u32 cp) {
    return cp < 0x80 ? cp >= 'A' && cp <= 'Z' : category(cp) == UTF8PROC_CATEGORY_LU;
}

static bool is_lower(u32 cp) {
    return cp < 0x80 ? cp >= 'a' && cp <= 'z' : category(cp) == UTF8PROC_CATEGORY_LL;
}

void lb_jtext_case(lb_jbuf *out, lb_str s, lb_jcase how) {
    bool in_word = false;
    for (size_t i = 0; i < s.len && !out->over;) {
        size_t at = i;
        u32 cp = lb_utf8_next(s, &i);
        bool up = how == LB_JCASE_UPPER || (how == LB_JCASE_SWAP && is_lower(cp));
        bool title = (how == LB_JCASE_TITLE && !in_word) || (how == LB_JCASE_CAPITALIZE && at == 0);
        const lb_jcase_row *r = special(cp);
        if (how == LB_JCASE_SWAP && !up && !is_upper(cp))
            lb_jbuf_put_cp(out, cp);
        else if (how == LB_JCASE_FOLD && r)
            lb_jbuf_put_c(out, r->fold);
        else if (up || title)
            put_upper(out, cp, title);
        else
            put_lower(out, s, at, i, cp);
        in_word = is_cased(cp);
    }
}

/* ---- classes ---- */

static bool char_is(u32 cp, lb_jis what) {
    utf8proc_category_t c = category(cp);
    switch (what) {
    case LB_JIS_ALNUM:
        return is_letter(cp) || is_numeric(cp);
    case LB_JIS_ALPHA:
        return is_letter(cp);
    case LB_JIS_ASCII:
        return cp < 0x80;
    case LB_JIS_DECIMAL:
        return c == UTF8PROC_CATEGORY_ND;
    case LB_JIS_DIGIT:
        return c == UTF8PROC_CATEGORY_ND || cp == 0xb2 || cp == 0xb3 || cp == 0xb9 ||
               (cp >= 0x2070 && cp <= 0x2079) || (cp >= 0x2080 && cp <= 0x2089) ||
               (cp >= 0x2460 && cp <= 0x2468);
    case LB_JIS_NUMERIC:
        return is_numeric(cp);
    case LB_JIS_PRINTABLE:
        return lb_jcp_is_printable(cp);
    case LB_JIS_SPACE:
        return lb_jcp_is_space(cp);
    case LB_JIS_IDENTIFIER:
        return lb_jcp_is_word(cp) || c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC;
    default:
        return false;
    }
}

/* Titles: upper case begins words, lower case goes on. */
static bool cased_as(lb_str s, lb_jis what) {
    bool cased = false, in_word = false;
    for (size_t i = 0; i < s.len;) {
        u32 cp = lb_utf8_next(s, &i);
        bool up = is_upper(cp) || (cp >= 0x80 && category(cp) == UTF8PROC_CATEGORY_LT);
        bool low = is_lower(cp);
        if (what == LB_JIS_LOWER ? up : what == LB_JIS_UPPER ? low : up ? in_word : low && !in_word)
            return false;
        in_word = up || low;
        cased |= in_word;
    }
    return cased;
}

bool lb_jtext_is(lb_str s, lb_jis what) {
    if (what == LB_JIS_LOWER || what == LB_JIS_UPPER || what == LB_JIS_TITLE)
        return cased_as(s, what);
    if (what == LB_JIS_IDENTIFIER && s.len && s.ptr[0] >= '0' && s.ptr[0] <= '9')
        return false;
    for (size_t i = 0; i < s.len;)
        if (!char_is(lb_utf8_next(s, &i), what))
            return false;
    return s.len > 0 || what == LB_JIS_ASCII || what == LB_JIS_PRINTABLE;
}

void lb_jtext_escape(lb_jbuf *out, lb_str s) {
    for (size_t i = 0, begin = 0; i <= s.len && !out->over; i++) {
        const char *as = NULL;
        switch (i < s.len ? s.ptr[i] : '\0') {
        case '&':
            as = "&amp;";
            break;
        case '<':
            as = "&lt;";
            break;
        case '>':
            as = "&gt;";
            break;
        case '"':
            as = "&#34;";
            break;
        case '\'':
            as = "&#39;";
            break;
        default:
            break;
        }
        if (as || i == s.len) {
            lb_jbuf_put(out, lb_str_sub(s, begin, i));
            begin = i + 1;
        }
        if (as)
            lb_jbuf_put_c(out, as);
    }
}
