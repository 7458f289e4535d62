/* SPDX-License-Identifier: Apache-2.0 */
/* pretok.c: steps of a pre-tokenizer. A step turns each piece of text into parts; most only cut. */
#include "text/pretok.h"

#include "text/bytelevel.h"
#include "text/norm.h"
#include "text/regex.h"
#include <stdio.h>
#include <utf8proc.h>

#define STEPS_MAX 64
#define FIXED_LENGTH_MAX 65535 /* as often as PCRE2 repeats */
/* \w of Rust's regex (UTS 18), which is more than Oniguruma's: see is_word in hf_encode.c. */
#define RUST_WORD                                                                          \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-" \
    "\\x{1f169}\\x{1f170}-\\x{1f189}\\x{200c}\\x{200d}"

/* The library's punctuation is that of Unicode 8: what came since is none, and two have left. */
#define PUNCTUATION_SINCE                                                                          \
    "\\x{61d}\\x{9fd}\\x{a76}\\x{c77}\\x{c84}\\x{1b7d}\\x{1b7e}\\x{2e43}-\\x{2e4f}\\x{2e52}-"      \
    "\\x{2e5d}\\x{10ead}\\x{10f55}-\\x{10f59}\\x{10f86}-\\x{10f89}\\x{1144b}-\\x{1144f}\\x{1145a}" \
    "\\x{1145b}\\x{1145d}\\x{11660}-\\x{1166c}\\x{116b9}\\x{1183b}\\x{11944}-\\x{11946}"           \
    "\\x{119e2}\\x{11a3f}-\\x{11a46}\\x{11a9a}-\\x{11a9c}\\x{11a9e}-\\x{11aa2}\\x{11c41}-"         \
    "\\x{11c45}\\x{11c70}\\x{11c71}\\x{11ef7}\\x{11ef8}\\x{11fff}\\x{12ff1}\\x{12ff2}\\x{16e97}-"  \
    "\\x{16e9a}\\x{16fe2}\\x{1e95e}\\x{1e95f}"
#define PUNCTUATION "(?:[!-/:-@\\[-`{-~]|(?![" PUNCTUATION_SINCE "])[\\p{P}\\x{166d}\\x{111c9}])"

/* ByteLevel is two steps: its prefix and cuts, and the alphabet. */
typedef enum step_kind { STEP_SPLIT, STEP_BYTELEVEL, STEP_ALPHABET, STEP_METASPACE } step_kind;
typedef enum behavior {
    REMOVED,
    ISOLATED,
    MERGED_WITH_PREVIOUS,
    MERGED_WITH_NEXT,
    CONTIGUOUS
} behavior;
typedef enum prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS } prepend;

typedef struct step {
    step_kind kind;
    behavior behavior;
    bool invert;
    lb_regex *re;       /* SPLIT; BYTELEVEL and METASPACE: NULL where they do not cut */
    bool prefix_space;  /* BYTELEVEL */
    prepend prepend;    /* METASPACE */
    lb_str replacement; /* METASPACE */
} step;

struct lb_pretok {
    step steps[STEPS_MAX];
    u32 n;
    lb_arena arena;
};

lb_status lb_pieces_push(lb_pieces *p, lb_str text, u32 id, bool first, lb_err *err) {
    if (p->n == p->cap) {
        u64 cap = p->cap ? p->cap * 2 : 64, bytes;
        lb_piece *v = lb_mul_u64(cap, sizeof *v, &bytes) ? lb_realloc(p->v, (size_t)bytes) : NULL;
        if (!v)
            return lb_fail(err, LB_E_NOMEM, "pre-tokenizer: out of memory");
        p->v = v;
        p->cap = cap;
    }
    p->v[p->n++] = (lb_piece){text, id, first};
    return LB_OK;
}

void lb_pieces_deinit(lb_pieces *p) {
    lb_free(p->v);
    *p = (lb_pieces){0};
}

/* ---- compiling ---- */

static lb_status read_behavior(const lb_json *json, step *s, lb_err *err) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    lb_str name;
    if (!lb_json_as_str(lb_json_get(json, "behavior"), &name))
        return LB_OK;
    for (u32 i = 0; i < LB_LEN(names); i++) {
        if (lb_str_eq_c(name, names[i])) {
            s->behavior = (behavior)i;
            return LB_OK;
        }
    }
    return lb_fail(err, LB_E_FORMAT, "pre_tokenizer: behavior \"%.*s\"", LB_FMT(name));
}

static bool flag(const lb_json *json, const char *key, bool otherwise) {
    (void)lb_json_as_bool(lb_json_get(json, key), &otherwise);
    return otherwise;
}

static lb_status split_step(const lb_json *json, step *s, lb_err *err) {
    lb_str pattern;
    bool literal = true;
    if (!lb_json_as_str(lb_json_path(json, "pattern.String"), &pattern)) {
        literal = false;
        if (!lb_json_as_str(lb_json_path(json, "pattern.Regex"), &pattern))
            return lb_fail(err, LB_E_FORMAT, "pre_tokenizer Split: no pattern");
    }
    s->invert = flag(json, "invert", false);
    LB_TRY(read_behavior(json, s, err));
    return lb_regex_new(&s->re, pattern, literal, err);
}

static bool is_one_character(lb_str s) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += ((u8)s.ptr[i] & 0xc0u) != 0x80;
    return n == 1;
}

static lb_status metaspace_step(lb_pretok *p, const lb_json *json, step *s, lb_err *err) {
    lb_str replacement, scheme;
    s->kind = STEP_METASPACE;
    s->behavior = MERGED_WITH_NEXT;
    if (!lb_json_as_str(lb_json_get(json, "replacement"), &replacement) || replacement.len == 0)
        return lb_fail(err, LB_E_FORMAT, "pre_tokenizer Metaspace: no replacement");
    if (!is_one_character(replacement))
        return lb_fail(err, LB_E_FORMAT,
                       "pre_tokenizer Metaspace: a replacement of one character "
                       "expected");
    s->replacement = lb_arena_str(&p->arena, replacement);
    if (!s->replacement.ptr)
        return lb_fail(err, LB_E_NOMEM, "pre-tokenizer: out of memory");
    s->prepend = flag(json, "add_prefix_space", true) ? PREPEND_ALWAYS : PREPEND_NEVER;
    if (lb_json_as_str(lb_json_get(json, "prepend_scheme"), &scheme))
        s->prepend = lb_str_eq_c(scheme, "always")  ? PREPEND_ALWAYS
                     : lb_str_eq_c(scheme, "first") ? PREPEND_FIRST
                                                    : PREPEND_NEVER;
    if (flag(json, "split", true))
        return lb_regex_new(&s->re, replacement, true, err);
    return LB_OK;
}

static lb_status bytelevel_step(const lb_json *json, step *s, lb_err *err) {
    s->kind = STEP_BYTELEVEL;
    s->behavior = ISOLATED;
    s->prefix_space = flag(json, "add_prefix_space", true);
    if (flag(json, "use_regex", true))
        return lb_regex_new(&s->re, LB_STR(LB_GPT2_PATTERN), false, err);
    return LB_OK;
}

static lb_status fixed_step(const lb_json *json, step *s, lb_err *err) {
    char pattern[32];
    u64 length = 5;
    (void)lb_json_as_u64(lb_json_get(json, "length"), &length);
    if (length == 0 || length > FIXED_LENGTH_MAX)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "pre_tokenizer FixedLength: %llu characters, 1 to %d are taken",
                       (unsigned long long)length, FIXED_LENGTH_MAX);
    int n = snprintf(pattern, sizeof pattern, "\\O{1,%u}", (u32)length);
    return lb_regex_new(&s->re, (lb_str){pattern, (size_t)n}, false, err);
}

static lb_status one_step(lb_pretok *p, const lb_json *json, lb_str type, step *s, lb_err *err) {
    s->behavior = ISOLATED;
    if (lb_str_eq_c(type, "Split"))
        return split_step(json, s, err);
    if (lb_str_eq_c(type, "Metaspace"))
        return metaspace_step(p, json, s, err);
    if (lb_str_eq_c(type, "Digits")) { /* Rust's char::is_numeric */
        s->behavior = flag(json, "individual_digits", false) ? ISOLATED : CONTIGUOUS;
        return lb_regex_new(&s->re, LB_STR("\\p{N}"), false, err);
    }
    if (lb_str_eq_c(type, "Punctuation")) {
        LB_TRY(read_behavior(json, s, err));
        return lb_regex_new(&s->re, LB_STR(PUNCTUATION), false, err);
    }
    if (lb_str_eq_c(type, "Whitespace")) {
        s->behavior = REMOVED;
        s->invert = true;
        return lb_regex_new(&s->re, LB_STR("[" RUST_WORD "]+|[^" RUST_WORD "\\s]+"), false, err);
    }
    if (lb_str_eq_c(type, "WhitespaceSplit")) {
        s->behavior = REMOVED;
        return lb_regex_new(&s->re, LB_STR("\\s"), false, err);
    }
    if (lb_str_eq_c(type, "FixedLength"))
        return fixed_step(json, s, err);
    if (lb_str_eq_c(type, "CharDelimiterSplit")) {
        lb_str delimiter;
        s->behavior = REMOVED;
        if (!lb_json_as_str(lb_json_get(json, "delimiter"), &delimiter))
            return lb_fail(err, LB_E_FORMAT, "pre_tokenizer CharDelimiterSplit: no delimiter");
        return lb_regex_new(&s->re, delimiter, true, err);
    }
    return lb_fail(err, LB_E_UNSUPPORTED, "pre_tokenizer \"%.*s\" is not known here", LB_FMT(type));
}

/* Recursion: as deep as the JSON, LB_JSON_DEPTH. */
static lb_status add_steps(lb_pretok *p, const lb_json *json, lb_err *err) {
    lb_str type;
    if (!json || json->type == LB_JNULL)
        return LB_OK;
    if (!lb_json_as_str(lb_json_get(json, "type"), &type))
        return lb_fail(err, LB_E_FORMAT, "pre_tokenizer without \"type\"");
    if (lb_str_eq_c(type, "Sequence")) {
        const lb_json *list = lb_json_get(json, "pretokenizers");
        for (const lb_json *v = list ? list->first : NULL; v; v = v->next)
            LB_TRY(add_steps(p, v, err));
        return LB_OK;
    }
    if (p->n + 1 >= STEPS_MAX)
        return lb_fail(err, LB_E_LIMIT, "pre_tokenizer: more than %d steps", STEPS_MAX);
    if (lb_str_eq_c(type, "ByteLevel")) {
        step *s = &p->steps[p->n++];
        p->steps[p->n++].kind = STEP_ALPHABET;
        return bytelevel_step(json, s, err);
    }
    if (lb_str_eq_c(type, "BertPreTokenizer")) { /* blanks go, punctuation stands alone */
        step *blanks = &p->steps[p->n++], *marks = &p->steps[p->n++];
        blanks->behavior = REMOVED;
        marks->behavior = ISOLATED;
        LB_TRY(lb_regex_new(&blanks->re, LB_STR("\\s"), false, err));
        return lb_regex_new(&marks->re, LB_STR(PUNCTUATION), false, err);
    }
    return one_step(p, json, type, &p->steps[p->n++], err);
}

lb_status lb_pretok_new(lb_pretok **out, const lb_json *json, lb_err *err) {
    *out = NULL;
    lb_pretok *p = lb_alloc_zero(1, sizeof *p);
    if (!p)
        return lb_fail(err, LB_E_NOMEM, "pre-tokenizer: out of memory");
    lb_status st = add_steps(p, json, err);
    if (st != LB_OK)
        lb_pretok_free(&p);
    *out = p;
    return st;
}

void lb_pretok_free(lb_pretok **p) {
    if (!p || !*p)
        return;
    for (u32 i = 0; i < (*p)->n; i++)
        lb_regex_free(&(*p)->steps[i].re);
    lb_arena_deinit(&(*p)->arena);
    lb_free(*p);
    *p = NULL;
}

/* ---- running ---- */

struct lb_pretok_run_state {
    const lb_pretok *p;
    void *data[STEPS_MAX];  /* of the steps' regular expressions */
    lb_buf text[STEPS_MAX]; /* what a step makes of a piece */
    size_t len[STEPS_MAX], max;
    u32 n; /* steps that run */
    lb_piece_fn put;
    void *ctx;
};

lb_pretok_work *lb_pretok_work_new(const lb_pretok *p) {
    lb_pretok_work *w = lb_alloc_zero(1, sizeof *w);
    if (w)
        w->p = p;
    return w;
}

void lb_pretok_work_free(lb_pretok_work **out) {
    lb_pretok_work *w = *out;
    if (!w)
        return;
    for (u32 i = 0; i < STEPS_MAX; i++) {
        lb_regex_data_free(w->data[i]);
        lb_buf_deinit(&w->text[i]);
    }
    lb_free(w);
    *out = NULL;
}

static lb_status run_step(lb_pretok_work *w, u32 k, const lb_piece *piece, lb_err *err);

/* A part that step k has made. Steps that put a character before each piece, and cut it off again,
 * multiply. */
static lb_status emit(lb_pretok_work *w, u32 k, lb_str text, bool first, lb_err *err) {
    lb_piece part = {text, LB_PIECE_TEXT, first};
    w->len[k] += text.len;
    if (w->len[k] > w->max)
        return lb_fail(err, LB_E_LIMIT, "pre_tokenizer: it makes a text of over %zu bytes", w->max);
    return run_step(w, k + 1, &part, err);
}

/* Where a cut piece is being put together from the parts between and at the matches. */
typedef struct cutter {
    lb_pretok_work *w;
    u32 k;
    const step *s;
    lb_str text;
    bool first;
    size_t from, to;     /* the part not yet handed on; from == to: none */
    bool last_was_match; /* of the part before */
} cutter;

static lb_status flush(cutter *c, lb_err *err) {
    size_t from = c->from;
    c->from = c->to;
    if (from == c->to)
        return LB_OK;
    return emit(c->w, c->k, lb_str_sub(c->text, from, c->to), c->first && from == 0, err);
}

/* The next part in order; parts follow each other without holes. */
static lb_status take(cutter *c, size_t from, size_t to, bool is_match, lb_err *err) {
    is_match = is_match != c->s->invert;
    bool joined = false; /* to the part before */
    switch (c->s->behavior) {
    case REMOVED:
    case ISOLATED:
        break;
    case CONTIGUOUS:
        joined = is_match == c->last_was_match;
        break;
    case MERGED_WITH_PREVIOUS:
        joined = is_match && !c->last_was_match;
        break;
    case MERGED_WITH_NEXT:
        joined = !is_match && c->last_was_match;
        break;
    }
    c->last_was_match = is_match;
    if (c->s->behavior == REMOVED && is_match) {
        LB_TRY(flush(c, err));
        c->from = c->to = to;
        return LB_OK;
    }
    if (!joined)
        LB_TRY(flush(c, err));
    if (c->from == c->to)
        c->from = from;
    c->to = to;
    return LB_OK;
}

static lb_status cut(lb_pretok_work *w, u32 k, const lb_piece *piece, lb_err *err) {
    lb_regex_iter it;
    size_t from, to, pos = 0;
    bool found = true;
    const step *s = &w->p->steps[k];
    cutter c = {.w = w, .k = k, .s = s, .text = piece->text, .first = piece->first};
    lb_status st = lb_regex_begin_in(&it, s->re, piece->text, &w->data[k], err);
    while (st == LB_OK) {
        LB_TRY_DONE(st, lb_regex_next(&it, &from, &to, &found, err));
        if (!found)
            break;
        if (pos < from)
            LB_TRY_DONE(st, take(&c, pos, from, false, err));
        LB_TRY_DONE(st, take(&c, from, to, true, err));
        pos = to;
    }
    if (st == LB_OK && pos < piece->text.len)
        st = take(&c, pos, piece->text.len, false, err);
    if (st == LB_OK)
        st = flush(&c, err);
done:
    lb_regex_end(&it);
    return st;
}

static lb_status run_prefix(lb_pretok_work *w, u32 k, lb_piece piece, lb_err *err) {
    lb_buf *text = &w->text[k];
    if (w->p->steps[k].prefix_space && !lb_str_starts(piece.text, LB_STR(" "))) {
        lb_buf_reset(text);
        lb_buf_put_u8(text, ' ');
        lb_buf_put_str(text, piece.text);
        LB_TRY(lb_buf_status(text, err));
        piece.text = lb_buf_str(text);
    }
    return w->p->steps[k].re ? cut(w, k, &piece, err) : emit(w, k, piece.text, piece.first, err);
}

static lb_status run_alphabet(lb_pretok_work *w, u32 k, const lb_piece *piece, lb_err *err) {
    lb_buf_reset(&w->text[k]);
    lb_bytelevel_encode(&w->text[k], piece->text);
    LB_TRY(lb_buf_status(&w->text[k], err));
    return emit(w, k, lb_buf_str(&w->text[k]), piece->first, err);
}

static lb_status run_metaspace(lb_pretok_work *w, u32 k, lb_piece piece, lb_err *err) {
    const step *s = &w->p->steps[k];
    lb_buf *text = &w->text[k];
    bool wanted = s->prepend == PREPEND_ALWAYS || (s->prepend == PREPEND_FIRST && piece.first);
    bool there =
        lb_str_starts(piece.text, LB_STR(" ")) || lb_str_starts(piece.text, s->replacement);
    lb_buf_reset(text);
    if (wanted && !there)
        lb_buf_put_str(text, s->replacement);
    for (size_t i = 0; i < piece.text.len; i++) {
        if (piece.text.ptr[i] == ' ')
            lb_buf_put_str(text, s->replacement);
        else
            lb_buf_put_u8(text, (u8)piece.text.ptr[i]);
    }
    LB_TRY(lb_buf_status(text, err));
    piece.text = lb_buf_str(text);
    return s->re ? cut(w, k, &piece, err) : emit(w, k, piece.text, piece.first, err);
}

/* Recursion: as deep as there are steps. */
static lb_status run_step(lb_pretok_work *w, u32 k, const lb_piece *piece, lb_err *err) {
    if (k == w->n)
        return w->put(w->ctx, piece, err);
    switch (w->p->steps[k].kind) {
    case STEP_BYTELEVEL:
        return run_prefix(w, k, *piece, err);
    case STEP_ALPHABET:
        return run_alphabet(w, k, piece, err);
    case STEP_METASPACE:
        return run_metaspace(w, k, *piece, err);
    case STEP_SPLIT:
        break;
    }
    return cut(w, k, piece, err);
}

bool lb_pretok_ends_in_bytes(const lb_pretok *p) {
    return p->n && p->steps[p->n - 1].kind == STEP_ALPHABET;
}

bool lb_pretok_is_empty(const lb_pretok *p) {
    return p->n == 0;
}

lb_status lb_pretok_each(lb_pretok_work *w, lb_str text, bool first, bool raw, lb_piece_fn put,
                         void *ctx, lb_err *err) {
    lb_piece piece = {text, LB_PIECE_TEXT, first};
    w->n = w->p->n - (raw && lb_pretok_ends_in_bytes(w->p) ? 1 : 0);
    w->put = put;
    w->ctx = ctx;
    w->max = 16 * LB_KIB + LB_MIN(text.len, SIZE_MAX / 32) * 16;
    memset(w->len, 0, sizeof w->len);
    return run_step(w, 0, &piece, err);
}

/* ---- all at once ---- */

typedef struct collector {
    lb_pieces *out;
    lb_arena *scratch;
} collector;

static lb_status collect(void *ctx, const lb_piece *part, lb_err *err) {
    collector *c = ctx;
    lb_str text = lb_arena_str(c->scratch, part->text);
    if (!text.ptr)
        return lb_fail(err, LB_E_NOMEM, "pre-tokenizer: out of memory");
    return lb_pieces_push(c->out, text, part->id, part->first, err);
}

lb_status lb_pretok_run(const lb_pretok *p, lb_pieces *pieces, lb_arena *scratch, lb_err *err) {
    lb_pieces out = {0};
    collector c = {&out, scratch};
    lb_pretok_work *w = lb_pretok_work_new(p);
    lb_status st = w ? LB_OK : lb_fail(err, LB_E_NOMEM, "pre-tokenizer: out of memory");
    for (u64 i = 0; i < pieces->n && st == LB_OK; i++) {
        const lb_piece *v = &pieces->v[i];
        st = v->id == LB_PIECE_TEXT ? lb_pretok_each(w, v->text, v->first, false, collect, &c, err)
                                    : lb_pieces_push(&out, v->text, v->id, v->first, err);
    }
    lb_pretok_work_free(&w);
    lb_pieces_deinit(pieces);
    *pieces = out;
    return st;
}
