/* SPDX-License-Identifier: Apache-2.0 */
/* regex.c: rewriting of Oniguruma patterns, and bounded matching with PCRE2.
 *
 * Oniguruma in its Ruby dialect and UTF-8: \s is Unicode's White_Space; \w is what is Alphabetic,
 * marks, decimal digits, connector punctuation and the numbers of Latin-1; \h is a hexadecimal
 * digit; \p{Han} is the characters of that script, not those of several; (?m) makes the dot match
 * a newline; ^ and $ stand at every line. Source: Oniguruma's doc/RE (6.9), compared by tests/peers
 * with the tokenizers library on every pattern of pre_tables.c. PCRE2: pcre2pattern(3), 10.42. */
#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>

/* White_Space of Unicode 15: inside a class, without its brackets. */
#define SPACE_CLASS                                                                         \
    "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
    "\\x{205f}\\x{3000}"
/* Alphabetic beside letters, marks and letter numbers: symbols in circles and squares. */
#define WORD_CLASS                                                              \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}" \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
/* Outside of a class also the numbers of Latin-1. */
#define WORD WORD_CLASS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define HEX_CLASS "0-9a-fA-F"
#define GRAPH_CLASS "\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\p{Cf}\\p{Co}"

/* Steps of one match attempt: a tokenizer's pattern takes a few per byte. */
#define MATCH_STEPS_MAX 10000000
#define MATCH_DEPTH_MAX 100000
#define MATCH_HEAP_KIB 65536
#define PATTERN_BYTES_MAX ((size_t)1 << 20)

struct lb_regex {
    pcre2_code *code;
    pcre2_match_context *match;
    lb_str literal; /* the pattern where it is plain text */
};

static void *pcre_alloc(PCRE2_SIZE size, void *unused) {
    (void)unused;
    return lb_alloc(size);
}

static void pcre_free(void *ptr, void *unused) {
    (void)unused;
    lb_free(ptr);
}

/* ---- rewriting ---- */

static lb_status unsupported(lb_err *err, lb_str pattern, const char *why) {
    return lb_fail(err, LB_E_UNSUPPORTED, "regular expression \"%.*s\": %s",
                   (int)LB_MIN(pattern.len, (size_t)120), pattern.ptr, why);
}

/* Whether the name is one of a script: PCRE2 takes it for all characters that the script uses, from
 * 10.40 on, unless it is told otherwise ("sc:"). */
static bool is_script(lb_str name) {
    char text[48];
    int code;
    PCRE2_SIZE at;
    if (name.len < 3 || name.len > 24) /* shorter ones are categories */
        return false;
    int n = snprintf(text, sizeof text, "\\p{sc:%.*s}", LB_FMT(name));
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)text, (PCRE2_SIZE)n, PCRE2_UTF, &code, &at, NULL);
    pcre2_code_free(c);
    return c != NULL;
}

/* "\p{Han}", "\P{^Han}" at pattern[*i]; false: no script's name. */
static bool put_script(lb_str pattern, size_t *i, lb_buf *out) {
    lb_str rest = lb_str_sub(pattern, *i + 2, pattern.len);
    size_t from = rest.len > 1 && rest.ptr[0] == '{' && rest.ptr[1] == '^' ? 2 : 1, end = from;
    if (!rest.len || rest.ptr[0] != '{')
        return false;
    while (end < rest.len && rest.ptr[end] != '}')
        end++;
    if (end == rest.len || !is_script(lb_str_sub(rest, from, end)))
        return false;
    lb_buf_printf(out, "%.*s%ssc:%.*s}", 3, pattern.ptr + *i, from == 2 ? "^" : "",
                  LB_FMT(lb_str_sub(rest, from, end)));
    *i += 2 + end + 1;
    return true;
}

/* What Oniguruma has names for that PCRE2 has not, or means something else by: "[:alpha:]",
 * "\p{Alpha}", "\p{Uppercase_Letter}". As the inside of a class. */
static const struct named_class {
    const char *name, *bracket, *property; /* property NULL: the same */
} named_classes[] = {{"alnum", "\\p{Alphabetic}\\p{Nd}", NULL},
                     {"alpha", "\\p{Alphabetic}", NULL},
                     {"ascii", "\\x00-\\x7f", NULL},
                     {"blank", "\\p{Zs}\\x09", NULL},
                     {"cntrl", "\\p{Cc}", NULL},
                     {"digit", "\\p{Nd}", NULL},
                     {"graph", GRAPH_CLASS, NULL},
                     {"lower", "\\p{Lowercase}", NULL},
                     {"print", GRAPH_CLASS "\\p{Zs}", NULL},
                     {"punct", "\\p{P}\\p{S}", "\\p{P}"},
                     {"space", SPACE_CLASS, NULL},
                     {"upper", "\\p{Uppercase}", NULL},
                     {"word", WORD_CLASS, NULL},
                     {"xdigit", HEX_CLASS, NULL},
                     /* general categories by their long names */
                     {"letter", "\\p{L}", NULL},
                     {"uppercaseletter", "\\p{Lu}", NULL},
                     {"lowercaseletter", "\\p{Ll}", NULL},
                     {"titlecaseletter", "\\p{Lt}", NULL},
                     {"modifierletter", "\\p{Lm}", NULL},
                     {"otherletter", "\\p{Lo}", NULL},
                     {"mark", "\\p{M}", NULL},
                     {"nonspacingmark", "\\p{Mn}", NULL},
                     {"spacingmark", "\\p{Mc}", NULL},
                     {"enclosingmark", "\\p{Me}", NULL},
                     {"number", "\\p{N}", NULL},
                     {"decimalnumber", "\\p{Nd}", NULL},
                     {"letternumber", "\\p{Nl}", NULL},
                     {"othernumber", "\\p{No}", NULL},
                     {"punctuation", "\\p{P}", NULL},
                     {"connectorpunctuation", "\\p{Pc}", NULL},
                     {"dashpunctuation", "\\p{Pd}", NULL},
                     {"openpunctuation", "\\p{Ps}", NULL},
                     {"closepunctuation", "\\p{Pe}", NULL},
                     {"initialpunctuation", "\\p{Pi}", NULL},
                     {"finalpunctuation", "\\p{Pf}", NULL},
                     {"otherpunctuation", "\\p{Po}", NULL},
                     {"symbol", "\\p{S}", NULL},
                     {"mathsymbol", "\\p{Sm}", NULL},
                     {"currencysymbol", "\\p{Sc}", NULL},
                     {"modifiersymbol", "\\p{Sk}", NULL},
                     {"othersymbol", "\\p{So}", NULL},
                     {"separator", "\\p{Z}", NULL},
                     {"spaceseparator", "\\p{Zs}", NULL},
                     {"lineseparator", "\\p{Zl}", NULL},
                     {"paragraphseparator", "\\p{Zp}", NULL},
                     {"other", "\\p{C}", NULL},
                     {"control", "\\p{Cc}", NULL},
                     {"format", "\\p{Cf}", NULL},
                     {"privateuse", "\\p{Co}", NULL},
                     {"unassigned", "\\p{Cn}", NULL}};

static const struct named_class *find_named(lb_str name) {
    for (size_t k = 0; k < LB_LEN(named_classes); k++) {
        const char *have = named_classes[k].name;
        size_t i = 0;
        for (; i < name.len; i++)
            if (memchr("_- ", name.ptr[i], 3))
                continue;
            else if (*have && (name.ptr[i] | 0x20) == *have)
                have++;
            else
                break;
        if (i == name.len && !*have)
            return &named_classes[k];
    }
    return NULL;
}

/* "\p{Alnum}", "\P{^Punct}" at pattern[*i]; *done false: no such name. */
static lb_status put_property(lb_str pattern, size_t *i, bool in_class, lb_buf *out, bool *done,
                              lb_err *err) {
    lb_str rest = lb_str_sub(pattern, *i + 2, pattern.len);
    bool negated = pattern.ptr[*i + 1] == 'P';
    size_t from = 1, end = 0;
    *done = false;
    if (!rest.len || rest.ptr[0] != '{')
        return LB_OK;
    if (rest.len > 1 && rest.ptr[1] == '^') {
        negated = !negated;
        from = 2;
    }
    while (end < rest.len && rest.ptr[end] != '}')
        end++;
    const struct named_class *c = find_named(lb_str_sub(rest, from, end));
    if (end == rest.len || !c)
        return LB_OK;
    if (in_class && negated)
        return unsupported(err, pattern, "a negated property of that name inside a class");
    lb_buf_put_c(out, in_class ? "" : negated ? "[^" : "[");
    lb_buf_put_c(out, c->property ? c->property : c->bracket);
    lb_buf_put_c(out, in_class ? "" : "]");
    *i += 2 + end + 1;
    *done = true;
    return LB_OK;
}

/* "\u4e00" at pattern[*i]: PCRE2 has another form. */
static lb_status put_code_point(lb_str pattern, size_t *i, lb_buf *out, lb_err *err) {
    lb_str digits = lb_str_sub(pattern, *i + 2, LB_MIN(*i + 6, pattern.len));
    size_t n = 0;
    while (n < digits.len && memchr("0123456789abcdefABCDEF", digits.ptr[n], 22))
        n++;
    if (n != 4)
        return unsupported(err, pattern, "\\u without four hexadecimal digits");
    lb_buf_printf(out, "\\x{%.*s}", LB_FMT(digits));
    *i += 6;
    return LB_OK;
}

/* The escape at pattern[*i] == '\\'; *i moves behind it. */
static lb_status put_escape(lb_str pattern, size_t *i, bool in_class, lb_buf *out, lb_err *err) {
    if (*i + 1 >= pattern.len)
        return unsupported(err, pattern, "ends in a backslash");
    char c = pattern.ptr[*i + 1];
    const char *inside = NULL;
    switch (c) {
    case 's':
    case 'S':
        inside = SPACE_CLASS;
        break;
    case 'w':
    case 'W':
        inside = in_class ? WORD_CLASS : WORD;
        break;
    case 'h':
    case 'H':
        inside = HEX_CLASS;
        break;
    case 'p':
    case 'P': {
        bool done;
        LB_TRY(put_property(pattern, i, in_class, out, &done, err));
        if (done || put_script(pattern, i, out))
            return LB_OK;
        break;
    }
    case 'u':
        return put_code_point(pattern, i, out, err);
    case 'O':
        if (in_class)
            break;
        lb_buf_put_c(out, "(?s:.)");
        *i += 2;
        return LB_OK;
    case 'b':
    case 'B':
        if (in_class)
            break;
        lb_buf_put_c(out, c == 'b'
                              ? "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"
                              : "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))");
        *i += 2;
        return LB_OK;
    default:
        break;
    }
    if (inside) {
        bool negated = c < 'a';
        if (in_class && negated)
            return unsupported(err, pattern,
                               "a negated shorthand inside a class is not known here");
        if (!in_class)
            lb_buf_put_c(out, negated ? "[^" : "[");
        lb_buf_put_c(out, inside);
        if (!in_class)
            lb_buf_put_c(out, "]");
    } else {
        lb_buf_put(out, pattern.ptr + *i, 2);
    }
    *i += 2;
    return LB_OK;
}

/* "(?im-x:": the option letters of a group; m is PCRE2's s. *i stands behind "(?". */
static void put_group_options(lb_str pattern, size_t *i, lb_buf *out) {
    size_t j = *i;
    while (j < pattern.len && strchr("imx-", pattern.ptr[j]))
        j++;
    if (j == *i || j >= pattern.len || (pattern.ptr[j] != ':' && pattern.ptr[j] != ')'))
        return;
    for (; *i < j; ++*i)
        lb_buf_put_u8(out, (u8)(pattern.ptr[*i] == 'm' ? 's' : pattern.ptr[*i]));
}

/* "[X&&[^Y]]" at pattern[i]: where X, Y and the end are. False: a class of another form. */
static bool find_difference(lb_str pattern, size_t i, lb_str *x, lb_str *y, size_t *end) {
    size_t j = i + 1;
    while (j + 1 < pattern.len && pattern.ptr[j] != ']' && pattern.ptr[j] != '[' &&
           !(pattern.ptr[j] == '&' && pattern.ptr[j + 1] == '&'))
        j += pattern.ptr[j] == '\\' ? 2 : 1;
    if (!lb_str_starts(lb_str_sub(pattern, j, pattern.len), LB_STR("&&[^")))
        return false;
    size_t k = j + 4;
    while (k < pattern.len && pattern.ptr[k] != ']' && pattern.ptr[k] != '[')
        k += pattern.ptr[k] == '\\' ? 2 : 1;
    if (!lb_str_starts(lb_str_sub(pattern, k, pattern.len), LB_STR("]]")))
        return false;
    *x = lb_str_sub(pattern, i + 1, j);
    *y = lb_str_sub(pattern, j + 4, k);
    *end = k + 2;
    return true;
}

/* "[:alpha:]", "[:^digit:]" at text[*i], in a class. */
static lb_status put_posix(lb_str pattern, lb_str text, size_t *i, lb_buf *out, lb_err *err) {
    size_t end = *i;
    while (end < text.len && text.ptr[end] != ']')
        end++;
    lb_str name = lb_str_sub(text, *i + 2, end);
    bool negated = lb_str_starts(name, LB_STR("^"));
    name = lb_str_sub(name, negated, name.len - (name.len && name.ptr[name.len - 1] == ':'));
    const struct named_class *c = find_named(name);
    *i = LB_MIN(end + 1, text.len);
    if (!c)
        return unsupported(err, pattern, "no class of that name");
    if (!negated) {
        lb_buf_put_c(out, c->bracket);
        return LB_OK;
    }
    if (strncmp(c->bracket, "\\p{", 3) != 0 || strchr(c->bracket, '}')[1])
        return unsupported(err, pattern, "a negated class of that name");
    lb_buf_printf(out, "\\P%s", c->bracket + 2);
    return LB_OK;
}

/* The inside of a class, without its brackets, up to the end of text. A class inside it is a union:
 * its brackets go. */
static lb_status put_class(lb_str pattern, lb_str text, lb_buf *out, lb_err *err) {
    u32 depth = 0;
    for (size_t i = 0; i < text.len;) {
        char c = text.ptr[i];
        if (c == '\\') {
            LB_TRY(put_escape(text, &i, true, out, err));
            continue;
        }
        if (c == '[' && i + 1 < text.len && text.ptr[i + 1] == ':') { /* "[:alpha:]" */
            LB_TRY(put_posix(pattern, text, &i, out, err));
            continue;
        }
        if (c == '[') {
            if (i + 1 < text.len && text.ptr[i + 1] == '^')
                return unsupported(err, pattern, "a negated class inside a class");
            depth++;
        } else if (c == ']' && depth) {
            depth--;
        } else if (c == '&' && i + 1 < text.len && text.ptr[i + 1] == '&') {
            return unsupported(err, pattern, "&& inside a class, of a form not known here");
        } else {
            lb_buf_put_u8(out, (u8)c);
        }
        i++;
    }
    return LB_OK;
}

/* Where the class that starts at pattern[i] ends: behind its bracket. 0: it does not. */
static size_t class_end(lb_str pattern, size_t i) {
    u32 depth = 0;
    for (size_t j = i; j < pattern.len; j++) {
        char c = pattern.ptr[j];
        if (c == '\\')
            j++;
        else if (c == '[' && depth && j + 1 < pattern.len && pattern.ptr[j + 1] == ':')
            while (j < pattern.len && pattern.ptr[j] != ']')
                j++;
        else if (c == '[')
            depth++;
        else if (c == ']' && --depth == 0)
            return j + 1;
        /* a first ] is itself, in both dialects */
        if (depth == 1 && (j == i || (j == i + 1 && pattern.ptr[j] == '^')) &&
            j + 1 < pattern.len && pattern.ptr[j + 1] == ']')
            j++;
    }
    return 0;
}

/* Of a class without others inside: where its only negated shorthand stands (\S, \W, \H). */
static bool find_negated(lb_str text, size_t *at) {
    u32 n = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '[')
            return false;
        if (text.ptr[i] != '\\' || i + 1 >= text.len)
            continue;
        i++;
        if (memchr("SWH", text.ptr[i], 3)) {
            n++;
            *at = i - 1;
        }
    }
    return n == 1;
}

/* [\SX] is what is no blank, or in X; [^\SX] a blank that is not in X. */
static lb_status put_with_negated(lb_str pattern, lb_str text, size_t at, bool negated, lb_buf *out,
                                  lb_err *err) {
    const char letter[] = {'\\', (char)(text.ptr[at + 1] | 0x20)};
    lb_buf rest = {0};
    size_t zero = 0;
    lb_status st = put_class(pattern, lb_str_sub(text, 0, at), &rest, err);
    if (st == LB_OK)
        st = put_class(pattern, lb_str_sub(text, at + 2, text.len), &rest, err);
    if (st == LB_OK)
        st = lb_buf_status(&rest, err);
    if (st == LB_OK && rest.len)
        lb_buf_printf(out, negated ? "(?:(?![%.*s])[" : "(?:[%.*s]|[^", (int)rest.len,
                      (const char *)rest.ptr);
    else if (st == LB_OK)
        lb_buf_put_c(out, negated ? "(?:[" : "(?:[^");
    if (st == LB_OK)
        st = put_escape((lb_str){letter, 2}, &zero, true, out, err);
    lb_buf_put_c(out, "])");
    lb_buf_deinit(&rest);
    return st;
}

static lb_status translate_class(lb_str pattern, size_t *i, lb_buf *out, lb_err *err) {
    lb_str x, y;
    size_t end, at;
    if (find_difference(pattern, *i, &x, &y, &end)) {
        lb_buf_put_c(out, "(?:(?![");
        LB_TRY(put_class(pattern, y, out, err));
        lb_buf_put_c(out, "])[");
        LB_TRY(put_class(pattern, x, out, err));
        lb_buf_put_c(out, "])");
        *i = end;
        return LB_OK;
    }
    end = class_end(pattern, *i);
    if (!end)
        return unsupported(err, pattern, "a class without end");
    size_t from = *i + 1;
    bool negated = from < end && pattern.ptr[from] == '^';
    lb_str inside = lb_str_sub(pattern, from + negated, end - 1);
    if (find_negated(inside, &at)) {
        *i = end;
        return put_with_negated(pattern, inside, at, negated, out, err);
    }
    lb_buf_put_u8(out, '[');
    if (from < end && pattern.ptr[from] == '^') {
        lb_buf_put_u8(out, '^');
        from++;
    }
    if (from + 1 < end && pattern.ptr[from] == ']') {
        lb_buf_put_c(out, "\\]");
        from++;
    }
    LB_TRY(put_class(pattern, lb_str_sub(pattern, from, end - 1), out, err));
    lb_buf_put_u8(out, ']');
    *i = end;
    return LB_OK;
}

lb_status lb_regex_translate(lb_str pattern, lb_buf *out, lb_err *err) {
    if (pattern.len > PATTERN_BYTES_MAX)
        return lb_fail(err, LB_E_LIMIT, "regular expression of %zu bytes: at most %zu are taken",
                       pattern.len, PATTERN_BYTES_MAX);
    for (size_t i = 0; i < pattern.len;) {
        char c = pattern.ptr[i];
        if (c == '\\') {
            LB_TRY(put_escape(pattern, &i, false, out, err));
        } else if (c == '[') {
            LB_TRY(translate_class(pattern, &i, out, err));
        } else if (c == '(' && i + 1 < pattern.len && pattern.ptr[i + 1] == '?') {
            lb_buf_put_c(out, "(?");
            i += 2;
            put_group_options(pattern, &i, out);
        } else {
            lb_buf_put_u8(out, (u8)c);
            i++;
        }
    }
    return lb_buf_status(out, err);
}

/* ---- compiling ---- */

static lb_status compile(lb_regex *re, lb_str pattern, lb_str rewritten, bool literal,
                         lb_err *err) {
    lb_status st = LB_OK;
    pcre2_general_context *general = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    pcre2_compile_context *cc = general ? pcre2_compile_context_create(general) : NULL;
    if (!cc) {
        st = lb_fail(err, LB_E_NOMEM, "regular expression: out of memory");
        goto done;
    }
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(cc, 100);
    /* PCRE2's \C would cut a character in two (and is a control character in Oniguruma). */
    u32 pattern_options = PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    u32 options = PCRE2_UTF | (literal ? PCRE2_LITERAL : pattern_options);
    int code;
    PCRE2_SIZE at;
    re->code = pcre2_compile((PCRE2_SPTR)rewritten.ptr, rewritten.len, options, &code, &at, cc);
    if (!re->code) {
        char text[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        st = unsupported(err, pattern, text);
        goto done;
    }
    re->match = pcre2_match_context_create(general);
    if (!re->match) {
        st = lb_fail(err, LB_E_NOMEM, "regular expression: out of memory");
        goto done;
    }
    pcre2_set_match_limit(re->match, MATCH_STEPS_MAX);
    pcre2_set_depth_limit(re->match, MATCH_DEPTH_MAX);
    pcre2_set_heap_limit(re->match, MATCH_HEAP_KIB);
    (void)pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE); /* without it the interpreter runs */
done:
    pcre2_compile_context_free(cc);
    pcre2_general_context_free(general);
    return st;
}

lb_status lb_regex_new(lb_regex **out, lb_str pattern, bool literal, lb_err *err) {
    *out = NULL;
    if (!lb_str_is_utf8(pattern))
        return lb_fail(err, LB_E_FORMAT, "regular expression: not valid UTF-8");
    if (literal && pattern.len == 0)
        return lb_fail(err, LB_E_FORMAT, "pattern: an empty string splits nothing");
    lb_buf rewritten = {0};
    lb_regex *re = lb_alloc_zero(1, sizeof *re);
    lb_status st = LB_OK;
    if (!re) {
        st = lb_fail(err, LB_E_NOMEM, "regular expression: out of memory");
        goto done;
    }
    if (literal)
        lb_buf_put_str(&rewritten, pattern);
    else
        LB_TRY_DONE(st, lb_regex_translate(pattern, &rewritten, err));
    LB_TRY_DONE(st, lb_buf_status(&rewritten, err));
    LB_TRY_DONE(st, compile(re, pattern, lb_buf_str(&rewritten), literal, err));
    if (literal) {
        re->literal = lb_buf_str(&rewritten);
        rewritten = (lb_buf){0};
    }
    *out = re;
    re = NULL;
done:
    lb_regex_free(&re);
    lb_buf_deinit(&rewritten);
    return st;
}

void lb_regex_free(lb_regex **re) {
    if (!re || !*re)
        return;
    pcre2_match_context_free((*re)->match);
    pcre2_code_free((*re)->code);
    lb_free((void *)(uintptr_t)(*re)->literal.ptr);
    lb_free(*re);
    *re = NULL;
}

/* ---- matching ---- */

lb_status lb_regex_begin_in(lb_regex_iter *it, const lb_regex *re, lb_str text, void **data,
                            lb_err *err) {
    *it = (lb_regex_iter){.re = re, .text = text, .borrowed = true};
    if (!*data)
        *data = pcre2_match_data_create_from_pattern(re->code, NULL);
    it->data = *data;
    return it->data ? LB_OK : lb_fail(err, LB_E_NOMEM, "regular expression: out of memory");
}

lb_status lb_regex_begin(lb_regex_iter *it, const lb_regex *re, lb_str text, lb_err *err) {
    void *data = NULL;
    lb_status st = lb_regex_begin_in(it, re, text, &data, err);
    it->borrowed = false;
    return st;
}

void lb_regex_data_free(void *data) {
    pcre2_match_data_free(data);
}

static size_t char_len(lb_str text, size_t at) {
    size_t n = 1;
    while (at + n < text.len && ((u8)text.ptr[at + n] & 0xc0) == 0x80)
        n++;
    return n;
}

/* A text that stands in UTF-8 stands nowhere but at the beginning of a character. */
static void next_literal(lb_regex_iter *it, size_t *from, size_t *to, bool *found) {
    lb_str want = it->re->literal, text = it->text;
    for (size_t i = it->next; text.len - i >= want.len;) {
        const char *p = memchr(text.ptr + i, want.ptr[0], text.len - i - want.len + 1);
        if (!p)
            break;
        i = (size_t)(p - text.ptr);
        if (memcmp(p, want.ptr, want.len) == 0) {
            *from = i;
            it->next = *to = i + want.len;
            *found = true;
            return;
        }
        i++;
    }
    it->done = true;
}

static int match(lb_regex_iter *it) {
    PCRE2_SPTR text = (PCRE2_SPTR)(it->text.ptr ? it->text.ptr : "");
    int rc = pcre2_match(it->re->code, text, it->text.len, it->next, PCRE2_NO_UTF_CHECK, it->data,
                         it->re->match);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its places in the heap */
        rc = pcre2_match(it->re->code, text, it->text.len, it->next,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, it->data, it->re->match);
    return rc;
}

lb_status lb_regex_next(lb_regex_iter *it, size_t *from, size_t *to, bool *found, lb_err *err) {
    *found = false;
    if (it->re->literal.len && !it->done) {
        next_literal(it, from, to, found);
        return LB_OK;
    }
    while (!it->done && it->next <= it->text.len) {
        int rc = match(it);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        if (rc == PCRE2_ERROR_NOMEMORY)
            return lb_fail(err, LB_E_NOMEM, "regular expression: out of memory");
        if (rc < 0) {
            char text[128];
            pcre2_get_error_message(rc, (PCRE2_UCHAR *)text, sizeof text);
            return lb_fail_at(err, LB_E_LIMIT, it->next,
                              "regular expression: gave up on a text of %zu bytes: %s",
                              it->text.len, text);
        }
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(it->data);
        /* \K in a look-ahead can end before it starts; an end that moves back would loop. */
        if (at[1] < at[0] || at[0] < it->next)
            break;
        if (at[0] == at[1] && it->any && at[1] == it->last_end) {
            it->next = it->next < it->text.len ? it->next + char_len(it->text, it->next)
                                               : it->text.len + 1;
            continue;
        }
        it->any = true;
        it->next = it->last_end = at[1];
        *from = at[0];
        *to = at[1];
        *found = true;
        return LB_OK;
    }
    it->done = true;
    return LB_OK;
}

void lb_regex_end(lb_regex_iter *it) {
    if (!it->borrowed)
        pcre2_match_data_free(it->data);
    it->data = NULL;
}

lb_status lb_regex_replace(const lb_regex *re, lb_str text, lb_str with, size_t max, lb_buf *out,
                           lb_err *err) {
    lb_regex_iter it;
    size_t from, to, pos = 0;
    bool found;
    if (!text.ptr) /* parts of it are taken below */
        text = LB_STR("");
    lb_status st = lb_regex_begin(&it, re, text, err);
    while (st == LB_OK && out->len <= max) {
        st = lb_regex_next(&it, &from, &to, &found, err);
        if (st != LB_OK || !found)
            break;
        lb_buf_put(out, text.ptr + pos, from - pos);
        lb_buf_put_str(out, with);
        pos = to;
    }
    lb_regex_end(&it);
    lb_buf_put(out, text.ptr + pos, text.len - pos);
    return st;
}
