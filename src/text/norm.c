/* SPDX-License-Identifier: Apache-2.0 */
/* norm.c: steps of a normalizer, run one after the other over two buffers. */
#include "text/norm.h"

#include "text/bytelevel.h"
#include "text/charsmap.h"
#include "text/regex.h"
#include <utf8proc.h>

#define STEPS_MAX 64
/* NFKD of U+FDFA is 18 code points; nothing expands more. */
#define DECOMPOSED_MAX 18

typedef enum step_kind {
    STEP_FORM,
    STEP_LOWER,
    STEP_STRIP,
    STEP_STRIP_ACCENTS, /* marks without width of their own */
    STEP_STRIP_MARKS,   /* all marks */
    STEP_REPLACE,
    STEP_PREPEND,
    STEP_BYTELEVEL,
    STEP_CHARSMAP,
    STEP_NMT,
    STEP_CLEAN,
    STEP_CHINESE
} step_kind;

typedef struct step {
    step_kind kind;
    utf8proc_option_t form;
    bool left, right;
    bool longest; /* CHARSMAP: as SentencePiece reads it */
    lb_regex *re;
    lb_str content;
    lb_charsmap map;
} step;

struct lb_norm {
    step steps[STEPS_MAX];
    u32 n;
    lb_arena arena;
};

bool lb_cp_is_space(u32 cp) {
    return (cp >= 9 && cp <= 13) || cp == 0x20 || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f ||
           cp == 0x205f || cp == 0x3000;
}

/* ---- compiling ---- */

static lb_status member_str(lb_norm *n, const lb_json *json, const char *key, lb_str *out,
                            lb_err *err) {
    lb_str s;
    if (!lb_json_as_str(lb_json_get(json, key), &s))
        return lb_fail(err, LB_E_FORMAT, "normalizer: \"%s\" missing", key);
    *out = lb_arena_str(&n->arena, s);
    if (!out->ptr)
        return lb_fail(err, LB_E_NOMEM, "normalizer: out of memory");
    return LB_OK;
}

static lb_status replace_step(lb_norm *n, const lb_json *json, step *s, lb_err *err) {
    lb_str pattern;
    s->kind = STEP_REPLACE;
    LB_TRY(member_str(n, json, "content", &s->content, err));
    if (lb_json_as_str(lb_json_path(json, "pattern.String"), &pattern))
        return lb_regex_new(&s->re, pattern, true, err);
    if (lb_json_as_str(lb_json_path(json, "pattern.Regex"), &pattern))
        return lb_regex_new(&s->re, pattern, false, err);
    return lb_fail(err, LB_E_FORMAT, "normalizer Replace: no pattern");
}

static lb_status charsmap_step(lb_norm *n, const lb_json *json, step *s, lb_err *err) {
    lb_str text;
    lb_buf bytes = {0};
    s->kind = STEP_CHARSMAP;
    (void)lb_json_as_bool(lb_json_get(json, LB_NORM_LONGEST), &s->longest);
    if (!lb_json_as_str(lb_json_get(json, "precompiled_charsmap"), &text))
        return LB_OK; /* null: changes nothing */
    lb_status st = lb_base64_decode(text, &bytes) ? lb_buf_status(&bytes, err)
                                                  : lb_fail(err, LB_E_FORMAT,
                                                            "normalizer: precompiled_charsmap: "
                                                            "no base64");
    if (st == LB_OK && bytes.len) {
        lb_str kept = lb_arena_str(&n->arena, lb_buf_str(&bytes));
        st = kept.ptr ? lb_charsmap_init(&s->map, kept, err)
                      : lb_fail(err, LB_E_NOMEM, "normalizer: out of memory");
    }
    lb_buf_deinit(&bytes);
    return st;
}

/* BertNormalizer: up to five steps. */
static void bert_steps(lb_norm *n, const lb_json *json) {
    bool clean = true, chinese = true, lower = true, accents;
    (void)lb_json_as_bool(lb_json_get(json, "clean_text"), &clean);
    (void)lb_json_as_bool(lb_json_get(json, "handle_chinese_chars"), &chinese);
    (void)lb_json_as_bool(lb_json_get(json, "lowercase"), &lower);
    accents = lower;
    (void)lb_json_as_bool(lb_json_get(json, "strip_accents"), &accents);
    if (clean)
        n->steps[n->n++].kind = STEP_CLEAN;
    if (chinese)
        n->steps[n->n++].kind = STEP_CHINESE;
    if (accents) {
        n->steps[n->n].kind = STEP_FORM;
        n->steps[n->n++].form = (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
        n->steps[n->n++].kind = STEP_STRIP_ACCENTS;
    }
    if (lower)
        n->steps[n->n++].kind = STEP_LOWER;
}

static lb_status one_step(lb_norm *n, const lb_json *json, lb_str type, step *s, lb_err *err) {
    static const struct {
        const char *name;
        int form;
    } forms[] = {
        {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
        {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
        {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
        {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
    };
    for (u32 i = 0; i < LB_LEN(forms); i++) {
        if (lb_str_eq_c(type, forms[i].name)) {
            s->kind = STEP_FORM;
            s->form = (utf8proc_option_t)forms[i].form;
            return LB_OK;
        }
    }
    if (lb_str_eq_c(type, "Replace"))
        return replace_step(n, json, s, err);
    if (lb_str_eq_c(type, "Prepend")) {
        s->kind = STEP_PREPEND;
        return member_str(n, json, "prepend", &s->content, err);
    }
    if (lb_str_eq_c(type, "Strip")) {
        s->kind = STEP_STRIP;
        s->left = s->right = true;
        (void)lb_json_as_bool(lb_json_get(json, "strip_left"), &s->left);
        (void)lb_json_as_bool(lb_json_get(json, "strip_right"), &s->right);
        return LB_OK;
    }
    if (lb_str_eq_c(type, "Precompiled"))
        return charsmap_step(n, json, s, err);
    if (lb_str_eq_c(type, "Nmt"))
        s->kind = STEP_NMT;
    else if (lb_str_eq_c(type, "Lowercase"))
        s->kind = STEP_LOWER;
    else if (lb_str_eq_c(type, "StripAccents"))
        s->kind = STEP_STRIP_MARKS;
    else if (lb_str_eq_c(type, "ByteLevel"))
        s->kind = STEP_BYTELEVEL;
    else
        return lb_fail(err, LB_E_UNSUPPORTED, "normalizer \"%.*s\" is not known here",
                       LB_FMT(type));
    return LB_OK;
}

/* Recursion: as deep as the JSON, LB_JSON_DEPTH. */
static lb_status add_steps(lb_norm *n, const lb_json *json, lb_err *err) {
    lb_str type;
    if (!json || json->type == LB_JNULL)
        return LB_OK;
    if (!lb_json_as_str(lb_json_get(json, "type"), &type))
        return lb_fail(err, LB_E_FORMAT, "normalizer without \"type\"");
    if (lb_str_eq_c(type, "Sequence")) {
        const lb_json *list = lb_json_get(json, "normalizers");
        for (const lb_json *v = list ? list->first : NULL; v; v = v->next)
            LB_TRY(add_steps(n, v, err));
        return LB_OK;
    }
    if (n->n + 5 > STEPS_MAX)
        return lb_fail(err, LB_E_LIMIT, "normalizer: more than %d steps", STEPS_MAX);
    if (lb_str_eq_c(type, "BertNormalizer")) {
        bert_steps(n, json);
        return LB_OK;
    }
    return one_step(n, json, type, &n->steps[n->n++], err);
}

lb_status lb_norm_new(lb_norm **out, const lb_json *json, lb_err *err) {
    *out = NULL;
    lb_norm *n = lb_alloc_zero(1, sizeof *n);
    if (!n)
        return lb_fail(err, LB_E_NOMEM, "normalizer: out of memory");
    lb_status st = add_steps(n, json, err);
    if (st != LB_OK)
        lb_norm_free(&n);
    *out = n;
    return st;
}

void lb_norm_free(lb_norm **n) {
    if (!n || !*n)
        return;
    for (u32 i = 0; i < (*n)->n; i++)
        lb_regex_free(&(*n)->steps[i].re);
    lb_arena_deinit(&(*n)->arena);
    lb_free(*n);
    *n = NULL;
}

bool lb_norm_is_empty(const lb_norm *n) {
    return n->n == 0;
}

/* ---- running ---- */

static lb_status form_part(const step *s, lb_str in, lb_buf *out, lb_err *err) {
    if (in.len > SIZE_MAX / (DECOMPOSED_MAX * sizeof(utf8proc_int32_t)) || in.len > INT32_MAX / 64)
        return lb_fail(err, LB_E_LIMIT, "normalizer: a text of %zu bytes", in.len);
    utf8proc_ssize_t cap = (utf8proc_ssize_t)in.len + DECOMPOSED_MAX, n;
    utf8proc_int32_t *cps = NULL;
    for (;;) {
        lb_free(cps);
        cps = lb_alloc((size_t)cap * sizeof *cps);
        if (!cps)
            return lb_fail(err, LB_E_NOMEM, "normalizer: out of memory");
        n = utf8proc_decompose((const utf8proc_uint8_t *)in.ptr, (utf8proc_ssize_t)in.len, cps, cap,
                               s->form);
        if (n <= cap)
            break;
        cap = n;
    }
    if (n >= 0)
        n = utf8proc_normalize_utf32(cps, n, s->form);
    if (n < 0) {
        lb_free(cps);
        return lb_fail(err, LB_E_FORMAT, "normalizer: %s", utf8proc_errmsg(n));
    }
    for (utf8proc_ssize_t i = 0; i < n; i++)
        lb_utf8_put(out, (u32)cps[i]);
    lb_free(cps);
    return LB_OK;
}

/* A form does not reach over a blank or a line end: parts between them are done by themselves, and
 * those of ASCII are what they are. */
static lb_status run_form(const step *s, lb_str in, lb_buf *out, lb_err *err) {
    for (size_t i = 0; i < in.len;) {
        size_t end = i;
        while (end < in.len && (u8)in.ptr[end] < 0x80)
            end++;
        if (end < in.len && end > i) /* its last character may get a mark */
            end--;
        lb_buf_put_str(out, lb_str_sub(in, i, end));
        i = end;
        if (i == in.len)
            break;
        end = i + 1;
        while (end < in.len && (end - i < 2 || (in.ptr[end] != ' ' && in.ptr[end] != '\n')))
            end++;
        LB_TRY(form_part(s, lb_str_sub(in, i, end), out, err));
        i = end;
    }
    return lb_buf_status(out, err);
}

/* Steps that replace a letter by fifty multiply: twenty of them make of one letter more than any
 * memory holds. What normalizers are for stays far below. */
static size_t longest(size_t in_len) {
    return LB_MIB + LB_MIN(in_len, SIZE_MAX / 512) * 256;
}

static lb_status check_length(const lb_buf *out, size_t max, lb_err *err) {
    return out->len <= max
               ? LB_OK
               : lb_fail(err, LB_E_LIMIT, "normalizer: it makes a text of over %zu bytes", max);
}

/* The text without its white space at the ends. */
static lb_str strip(lb_str in, bool left, bool right) {
    size_t from = 0, to = 0, behind_last = 0;
    bool inside = false;
    while (to < in.len) {
        size_t at = to;
        if (!lb_cp_is_space(lb_utf8_next(in, &to))) {
            if (!inside)
                from = at;
            inside = true;
            behind_last = to;
        }
    }
    if (!inside)
        return left || right ? LB_STR_NONE : in;
    return lb_str_sub(in, left ? from : 0, right ? behind_last : in.len);
}

/* Blocks of Chinese characters, as BERT's original code lists them; 2B820 stands as 2B920 in the
 * library. */
static bool is_chinese(u32 cp) {
    return (cp >= 0x4e00 && cp <= 0x9fff) || (cp >= 0x3400 && cp <= 0x4dbf) ||
           (cp >= 0x20000 && cp <= 0x2a6df) || (cp >= 0x2a700 && cp <= 0x2b73f) ||
           (cp >= 0x2b740 && cp <= 0x2b81f) || (cp >= 0x2b920 && cp <= 0x2ceaf) ||
           (cp >= 0xf900 && cp <= 0xfaff) || (cp >= 0x2f800 && cp <= 0x2fa1f);
}

/* Cc, Cf, Co: what the library's tables call other; what is not assigned stays. */
static bool is_other(u32 cp) {
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CO;
}

static void clean_char(u32 cp, lb_buf *out) {
    bool blank = cp == '\t' || cp == '\n' || cp == '\r';
    if (cp == 0 || cp == 0xfffd || (!blank && is_other(cp)))
        return;
    if (lb_cp_is_space(cp))
        lb_buf_put_u8(out, ' ');
    else
        lb_utf8_put(out, cp);
}

/* SentencePiece's rules for translation: some controls go, some characters are blanks. */
static void nmt_char(u32 cp, lb_buf *out) {
    bool gone = (cp >= 1 && cp <= 8) || cp == 0xb || (cp >= 0xe && cp <= 0x1f) || cp == 0x7f ||
                cp == 0x8f || cp == 0x9f;
    bool blank = cp == 9 || cp == 0xa || cp == 0xc || cp == 0xd || cp == 0x1680 ||
                 (cp >= 0x200b && cp <= 0x200f) || cp == 0x2028 || cp == 0x2029 || cp == 0x2581 ||
                 cp == 0xfeff || cp == 0xfffd;
    if (blank)
        lb_buf_put_u8(out, ' ');
    else if (!gone)
        lb_utf8_put(out, cp);
}

static void run_chars(const step *s, lb_str in, lb_buf *out) {
    for (size_t i = 0; i < in.len;) {
        u32 cp = lb_utf8_next(in, &i);
        if (s->kind == STEP_CLEAN) {
            clean_char(cp, out);
        } else if (s->kind == STEP_NMT) {
            nmt_char(cp, out);
        } else if (s->kind == STEP_CHINESE) {
            bool is = is_chinese(cp);
            if (is)
                lb_buf_put_u8(out, ' ');
            lb_utf8_put(out, cp);
            if (is)
                lb_buf_put_u8(out, ' ');
        } else if (cp < 0x80) {
            bool upper = s->kind == STEP_LOWER && cp >= 'A' && cp <= 'Z';
            lb_buf_put_u8(out, (u8)(upper ? cp | 0x20 : cp));
        } else if (s->kind == STEP_STRIP_ACCENTS) {
            if (utf8proc_category((utf8proc_int32_t)cp) != UTF8PROC_CATEGORY_MN)
                lb_utf8_put(out, cp);
        } else if (s->kind == STEP_STRIP_MARKS) {
            utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
            bool was =
                cp == 0x1cf2 || cp == 0x1cf3; /* marks until Unicode 12, as the library has it */
            if (!was && (c < UTF8PROC_CATEGORY_MN || c > UTF8PROC_CATEGORY_ME))
                lb_utf8_put(out, cp);
        } else {
            lb_utf8_put(out, (u32)utf8proc_tolower((utf8proc_int32_t)cp));
            if (cp == 0x130) /* the one code point whose lower case is two: i, dot above */
                lb_utf8_put(out, 0x307);
        }
    }
}

static lb_status run_step(const step *s, lb_str in, size_t max, lb_buf *out, lb_err *err) {
    switch (s->kind) {
    case STEP_FORM:
        return run_form(s, in, out, err);
    case STEP_REPLACE:
        return lb_regex_replace(s->re, in, s->content, max, out, err);
    case STEP_STRIP:
        lb_buf_put_str(out, strip(in, s->left, s->right));
        break;
    case STEP_PREPEND:
        if (in.len)
            lb_buf_put_str(out, s->content);
        lb_buf_put_str(out, in);
        break;
    case STEP_BYTELEVEL:
        lb_bytelevel_encode(out, in);
        break;
    case STEP_CHARSMAP:
        lb_charsmap_run(&s->map, in, s->longest, out);
        break;
    case STEP_LOWER:
    case STEP_STRIP_ACCENTS:
    case STEP_STRIP_MARKS:
    case STEP_CLEAN:
    case STEP_CHINESE:
    case STEP_NMT:
        run_chars(s, in, out);
        break;
    }
    return LB_OK;
}

lb_status lb_norm_run(const lb_norm *n, lb_str in, lb_buf *out, lb_err *err) {
    lb_buf other = {0};
    lb_status st = LB_OK;
    lb_buf_reset(out);
    lb_buf_put_str(out, in);
    for (u32 i = 0; i < n->n && st == LB_OK; i++) {
        lb_buf_reset(&other);
        st = run_step(&n->steps[i], lb_buf_str(out), longest(in.len), &other, err);
        if (st == LB_OK)
            st = check_length(&other, longest(in.len), err);
        lb_buf swap = *out;
        *out = other;
        other = swap;
    }
    if (st == LB_OK)
        st = lb_buf_status(out, err);
    lb_buf_deinit(&other);
    return st;
}
