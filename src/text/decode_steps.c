/* SPDX-License-Identifier: Apache-2.0 */
/* decode_steps.c: steps of a decoder as a chain that tokens run through one by one.
 *
 * The library runs each step over all tokens of a text. Here a token goes through all steps as soon
 * as it comes; a step that depends on what follows holds it back. Behind a step that makes one
 * token of all (ByteLevel, Fuse) that token comes in parts: steps that can take parts do, others
 * wait for its end. */
#include "text/decode_steps.h"

#include "text/bytelevel.h"
#include "text/regex.h"

typedef enum step_kind {
    STEP_JOIN,
    STEP_BYTELEVEL,
    STEP_BYTEFALLBACK,
    STEP_FUSE,
    STEP_METASPACE,
    STEP_REPLACE,
    STEP_STRIP,
    STEP_WORDPIECE,
    STEP_BPE,
    STEP_CTC
} step_kind;

typedef struct step {
    step_kind kind;
    lb_regex *re;    /* REPLACE */
    lb_str text;     /* REPLACE: content; STRIP, METASPACE: the character; WORDPIECE: prefix; BPE:
                        suffix; CTC: pad */
    lb_str literal;  /* REPLACE: the pattern where it is a text; CTC: delimiter */
    u32 start, stop; /* STRIP */
    bool cleanup;    /* WORDPIECE, CTC */
    bool keep_first; /* METASPACE: nothing is put before the first token */
} step;

struct lb_decode_steps {
    step v[LB_DECODE_STEPS_MAX];
    u32 n;
    lb_arena arena;
};

/* ---- compiling ---- */

static lb_status text_member(lb_decode_steps *s, const lb_json *json, const char *key,
                             const char *otherwise, lb_str *out, lb_err *err) {
    lb_str text = otherwise ? lb_str_c(otherwise) : LB_STR_NONE;
    if (!lb_json_as_str(lb_json_get(json, key), &text) && !otherwise)
        return lb_fail(err, LB_E_FORMAT, "decoder: \"%s\" missing", key);
    *out = lb_arena_str(&s->arena, text);
    return out->ptr ? LB_OK : lb_fail(err, LB_E_NOMEM, "decoder: out of memory");
}

static lb_status replace_step(lb_decode_steps *s, const lb_json *json, step *v, lb_err *err) {
    lb_str pattern;
    v->kind = STEP_REPLACE;
    LB_TRY(text_member(s, json, "content", NULL, &v->text, err));
    if (lb_json_as_str(lb_json_path(json, "pattern.String"), &pattern)) {
        v->literal = lb_arena_str(&s->arena, pattern);
        if (!v->literal.ptr)
            return lb_fail(err, LB_E_NOMEM, "decoder: out of memory");
        return lb_regex_new(&v->re, pattern, true, err);
    }
    if (lb_json_as_str(lb_json_path(json, "pattern.Regex"), &pattern))
        return lb_regex_new(&v->re, pattern, false, err);
    return lb_fail(err, LB_E_FORMAT, "decoder Replace: no pattern");
}

static lb_status strip_step(lb_decode_steps *s, const lb_json *json, step *v, lb_err *err) {
    u64 start = 0, stop = 0;
    v->kind = STEP_STRIP;
    (void)lb_json_as_u64(lb_json_get(json, "start"), &start);
    (void)lb_json_as_u64(lb_json_get(json, "stop"), &stop);
    v->start = (u32)LB_MIN(start, (u64)UINT32_MAX);
    v->stop = (u32)LB_MIN(stop, (u64)UINT32_MAX);
    LB_TRY(text_member(s, json, "content", " ", &v->text, err));
    return v->text.len ? LB_OK : lb_fail(err, LB_E_FORMAT, "decoder Strip: no character");
}

static lb_status metaspace_step(lb_decode_steps *s, const lb_json *json, step *v, lb_err *err) {
    lb_str scheme;
    bool prefix = true;
    v->kind = STEP_METASPACE;
    (void)lb_json_as_bool(lb_json_get(json, "add_prefix_space"), &prefix);
    v->keep_first = !prefix;
    if (lb_json_as_str(lb_json_get(json, "prepend_scheme"), &scheme))
        v->keep_first = lb_str_eq_c(scheme, "never");
    LB_TRY(text_member(s, json, "replacement", "\xe2\x96\x81", &v->text, err));
    return v->text.len ? LB_OK : lb_fail(err, LB_E_FORMAT, "decoder Metaspace: no replacement");
}

static lb_status one_step(lb_decode_steps *s, const lb_json *json, lb_str type, lb_err *err) {
    if (s->n == LB_DECODE_STEPS_MAX)
        return lb_fail(err, LB_E_LIMIT, "decoder: more than %d steps", LB_DECODE_STEPS_MAX);
    step *v = &s->v[s->n++];
    v->cleanup = true;
    (void)lb_json_as_bool(lb_json_get(json, "cleanup"), &v->cleanup);
    if (lb_str_eq_c(type, "Replace"))
        return replace_step(s, json, v, err);
    if (lb_str_eq_c(type, "Strip"))
        return strip_step(s, json, v, err);
    if (lb_str_eq_c(type, "Metaspace"))
        return metaspace_step(s, json, v, err);
    if (lb_str_eq_c(type, "WordPiece")) {
        v->kind = STEP_WORDPIECE;
        return text_member(s, json, "prefix", "##", &v->text, err);
    }
    if (lb_str_eq_c(type, "BPEDecoder")) {
        v->kind = STEP_BPE;
        return text_member(s, json, "suffix", "</w>", &v->text, err);
    }
    if (lb_str_eq_c(type, "CTC")) {
        v->kind = STEP_CTC;
        LB_TRY(text_member(s, json, "word_delimiter_token", "|", &v->literal, err));
        return text_member(s, json, "pad_token", "<pad>", &v->text, err);
    }
    if (lb_str_eq_c(type, "ByteLevel"))
        v->kind = STEP_BYTELEVEL;
    else if (lb_str_eq_c(type, "ByteFallback"))
        v->kind = STEP_BYTEFALLBACK;
    else if (lb_str_eq_c(type, "Fuse"))
        v->kind = STEP_FUSE;
    else
        return lb_fail(err, LB_E_UNSUPPORTED, "decoder \"%.*s\" is not known here", LB_FMT(type));
    return LB_OK;
}

/* Recursion: as deep as the JSON, LB_JSON_DEPTH. */
static lb_status add_steps(lb_decode_steps *s, const lb_json *json, lb_err *err) {
    lb_str type;
    if (!lb_json_as_str(lb_json_get(json, "type"), &type))
        return lb_fail(err, LB_E_FORMAT, "decoder without \"type\"");
    if (lb_str_eq_c(type, "Sequence")) {
        const lb_json *list = lb_json_get(json, "decoders");
        for (const lb_json *v = list ? list->first : NULL; v; v = v->next)
            LB_TRY(add_steps(s, v, err));
        return LB_OK;
    }
    return one_step(s, json, type, err);
}

lb_status lb_decode_steps_new(lb_decode_steps **out, const lb_json *json, lb_err *err) {
    lb_decode_steps *s = *out = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return lb_fail(err, LB_E_NOMEM, "decoder: out of memory");
    if (!json || json->type == LB_JNULL) {
        s->v[s->n++].kind = STEP_JOIN;
        return LB_OK;
    }
    lb_status st = add_steps(s, json, err);
    if (st != LB_OK)
        lb_decode_steps_free(out);
    return st;
}

void lb_decode_steps_free(lb_decode_steps **s) {
    if (!*s)
        return;
    for (u32 i = 0; i < (*s)->n; i++)
        lb_regex_free(&(*s)->v[i].re);
    lb_arena_deinit(&(*s)->arena);
    lb_free(*s);
    *s = NULL;
}

/* ---- texts of one token ---- */

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

int lb_byte_token_value(lb_str t) {
    if (t.len != 6 || !lb_str_starts(t, LB_STR("<0x")) || t.ptr[5] != '>')
        return -1;
    int high = hex(t.ptr[3]), low = hex(t.ptr[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static void put_replaced(lb_buf *out, lb_str in, lb_str from, lb_str to) {
    for (size_t i = 0; i < in.len;) {
        if (from.len && lb_str_starts(lb_str_sub(in, i, in.len), from)) {
            lb_buf_put_str(out, to);
            i += from.len;
        } else {
            lb_buf_put_u8(out, (u8)in.ptr[i++]);
        }
    }
}

/* The library's list, each over the whole text before the next (tokenizers, decoders/wordpiece). */
static void clean_up(lb_buf *text) {
    static const char *const rules[][2] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    lb_buf other = {0};
    for (u32 i = 0; i < LB_LEN(rules); i++) {
        size_t at;
        if (!lb_str_find(lb_buf_str(text), lb_str_c(rules[i][0]), &at))
            continue;
        lb_buf_reset(&other);
        put_replaced(&other, lb_buf_str(text), lb_str_c(rules[i][0]), lb_str_c(rules[i][1]));
        lb_buf swap = *text;
        *text = other;
        other = swap;
    }
    text->oom |= other.oom;
    lb_buf_deinit(&other);
}

static void put_wordpiece(const step *s, bool first, lb_str t, lb_buf *out) {
    if (!first && lb_str_starts(t, s->text))
        t = lb_str_sub(t, s->text.len, t.len);
    else if (!first)
        lb_buf_put_u8(out, ' ');
    lb_buf_put_str(out, t);
    if (s->cleanup)
        clean_up(out);
}

static void put_stripped(const step *s, lb_str t, lb_buf *out) {
    for (u32 i = 0; i < s->start && lb_str_starts(t, s->text); i++)
        t = lb_str_sub(t, s->text.len, t.len);
    for (u32 i = 0; i < s->stop && lb_str_ends(t, s->text); i++)
        t = lb_str_sub(t, 0, t.len - s->text.len);
    lb_buf_put_str(out, t);
}

/* The first token loses its marks: one of them stands for the blank that was put before it. */
static void put_metaspace(const step *s, bool first, lb_str t, lb_buf *out) {
    put_replaced(out, t, s->text, first && !s->keep_first ? LB_STR_NONE : LB_STR(" "));
}

static void put_bytes(lb_str t, lb_buf *out) {
    size_t len = out->len;
    if (!lb_bytelevel_decode(out, t)) {
        out->len = len;
        lb_buf_put_str(out, t);
    }
}

/* ---- running ---- */

static lb_status feed(lb_decode_run *r, u32 k, lb_str text, bool whole, lb_buf *out, lb_err *err);

/* A run of byte tokens has ended: its text, or a mark for each byte. */
static lb_status flush_bytes(lb_decode_run *r, u32 k, lb_buf *out, lb_err *err) {
    lb_buf *hold = &r->state[k].hold;
    lb_status st = LB_OK;
    if (!hold->len)
        return LB_OK;
    if (lb_str_is_utf8(lb_buf_str(hold)))
        st = feed(r, k + 1, lb_buf_str(hold), true, out, err);
    else
        for (size_t i = 0; i < hold->len && st == LB_OK; i++)
            st = feed(r, k + 1, LB_STR("\xef\xbf\xbd"), true, out, err);
    lb_buf_reset(hold);
    return st;
}

/* How many bytes at the end of a text could begin a character. */
static size_t open_tail(lb_str t) {
    for (size_t n = 1; n <= 3 && n <= t.len; n++) {
        u8 c = (u8)t.ptr[t.len - n];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;
        return need > n ? n : 0;
    }
    return 0;
}

/* Bytes from `hold` as text; all: what is not a whole character is none. */
static lb_status flush_level(lb_decode_run *r, u32 k, bool all, lb_buf *out, lb_err *err) {
    lb_buf *hold = &r->state[k].hold, text = {0};
    size_t tail = all ? 0 : open_tail(lb_buf_str(hold)), done = hold->len - tail;
    lb_utf8_put_lossy(&text, lb_str_sub(lb_buf_str(hold), 0, done));
    lb_status st = lb_buf_status(&text, err);
    if (st == LB_OK && text.len)
        st = feed(r, k + 1, lb_buf_str(&text), false, out, err);
    if (done)
        memmove(hold->ptr, hold->ptr + done, tail);
    hold->len = tail;
    lb_buf_deinit(&text);
    return st;
}

/* Of one token that comes in parts: what is certain. */
static lb_status part_replace(lb_decode_run *r, u32 k, bool all, lb_buf *out, lb_err *err) {
    const step *s = &r->steps->v[k];
    lb_buf *hold = &r->state[k].hold, text = {0};
    lb_str in = lb_buf_str(hold);
    size_t i = 0;
    while (i < in.len && (all || in.len - i >= s->literal.len)) {
        if (lb_str_starts(lb_str_sub(in, i, in.len), s->literal)) {
            lb_buf_put_str(&text, s->text);
            i += s->literal.len;
        } else {
            do /* whole characters */
                lb_buf_put_u8(&text, (u8)in.ptr[i++]);
            while (i < in.len && ((u8)in.ptr[i] & 0xc0) == 0x80);
        }
    }
    lb_status st = lb_buf_status(&text, err);
    if (st == LB_OK && text.len)
        st = feed(r, k + 1, lb_buf_str(&text), false, out, err);
    if (i)
        memmove(hold->ptr, hold->ptr + i, hold->len - i);
    hold->len -= i;
    lb_buf_deinit(&text);
    return st;
}

static lb_status part_strip(lb_decode_run *r, u32 k, lb_str t, lb_buf *out, lb_err *err) {
    const step *s = &r->steps->v[k];
    struct lb_decode_state *state = &r->state[k];
    lb_buf *hold = &state->hold;
    while (!state->any && state->count < s->start && lb_str_starts(t, s->text)) {
        t = lb_str_sub(t, s->text.len, t.len);
        state->count++;
    }
    if (!t.len)
        return LB_OK;
    state->any = true;
    lb_buf_put_str(hold, t);
    LB_TRY(lb_buf_status(hold, err));
    /* all but what may be the end */
    lb_str rest = lb_buf_str(hold);
    for (u32 i = 0; i < s->stop && lb_str_ends(rest, s->text); i++)
        rest = lb_str_sub(rest, 0, rest.len - s->text.len);
    lb_status st = feed(r, k + 1, rest, false, out, err);
    memmove(hold->ptr, hold->ptr + rest.len, hold->len - rest.len);
    hold->len -= rest.len;
    return st;
}

static bool takes_parts(const step *s) {
    return s->kind == STEP_FUSE || s->kind == STEP_METASPACE || s->kind == STEP_STRIP ||
           (s->kind == STEP_REPLACE && s->literal.len);
}

static lb_status feed_part(lb_decode_run *r, u32 k, lb_str t, lb_buf *out, lb_err *err) {
    const step *s = &r->steps->v[k];
    lb_buf *hold = &r->state[k].hold, text = {0};
    if (s->kind == STEP_FUSE)
        return feed(r, k + 1, t, false, out, err);
    if (s->kind == STEP_STRIP)
        return part_strip(r, k, t, out, err);
    if (s->kind == STEP_METASPACE) {
        put_metaspace(s, true, t, &text);
        lb_status st = lb_buf_status(&text, err);
        if (st == LB_OK)
            st = feed(r, k + 1, lb_buf_str(&text), false, out, err);
        lb_buf_deinit(&text);
        return st;
    }
    lb_buf_put_str(hold, t);
    LB_TRY(lb_buf_status(hold, err));
    return takes_parts(s) ? part_replace(r, k, false, out, err) : LB_OK;
}

/* BPE: the last token of all loses its suffix, others have a blank there: one is held back. CTC:
 * the token before, to see repetitions. */
static lb_status feed_held(lb_decode_run *r, u32 k, lb_str t, lb_buf *out, lb_err *err) {
    const step *s = &r->steps->v[k];
    struct lb_decode_state *state = &r->state[k];
    lb_buf text = {0};
    lb_status st = LB_OK;
    bool again = s->kind == STEP_CTC && state->any && lb_str_eq(lb_buf_str(&state->hold), t);
    if (s->kind == STEP_BPE && state->any)
        put_replaced(&text, lb_buf_str(&state->hold), s->text, LB_STR(" "));
    if (s->kind == STEP_CTC && !again && !lb_str_eq(t, s->text)) {
        lb_buf clean = {0};
        put_replaced(&clean, t, s->text, LB_STR_NONE);
        if (s->cleanup)
            clean_up(&clean);
        put_replaced(&text, lb_buf_str(&clean), s->cleanup ? s->literal : LB_STR_NONE, LB_STR(" "));
        text.oom |= clean.oom;
        lb_buf_deinit(&clean);
    }
    LB_TRY_DONE(st, lb_buf_status(&text, err));
    if (text.len || (s->kind == STEP_BPE && state->any))
        LB_TRY_DONE(st, feed(r, k + 1, lb_buf_str(&text), true, out, err));
    state->any = true;
    lb_buf_reset(&state->hold);
    lb_buf_put_str(&state->hold, t);
    st = lb_buf_status(&state->hold, err);
done:
    lb_buf_deinit(&text);
    return st;
}

static lb_status feed_simple(lb_decode_run *r, u32 k, lb_str t, lb_buf *out, lb_err *err) {
    const step *s = &r->steps->v[k];
    struct lb_decode_state *state = &r->state[k];
    lb_buf text = {0};
    bool whole = s->kind != STEP_JOIN;
    lb_status st = LB_OK;
    if (s->kind == STEP_JOIN) {
        if (state->any)
            lb_buf_put_u8(&text, ' ');
        lb_buf_put_str(&text, t);
    } else if (s->kind == STEP_METASPACE) {
        put_metaspace(s, !state->any, t, &text);
    } else if (s->kind == STEP_WORDPIECE) {
        put_wordpiece(s, !state->any, t, &text);
    } else if (s->kind == STEP_STRIP) {
        put_stripped(s, t, &text);
    } else {
        st = lb_regex_replace(s->re, t, s->text, SIZE_MAX, &text, err);
    }
    state->any = true;
    if (st == LB_OK)
        st = lb_buf_status(&text, err);
    if (st == LB_OK)
        st = feed(r, k + 1, lb_buf_str(&text), whole, out, err);
    lb_buf_deinit(&text);
    return st;
}

/* Recursion: as deep as there are steps. */
static lb_status feed(lb_decode_run *r, u32 k, lb_str t, bool whole, lb_buf *out, lb_err *err) {
    if (k == r->steps->n) {
        lb_buf_put_str(out, t);
        return lb_buf_status(out, err);
    }
    const step *s = &r->steps->v[k];
    struct lb_decode_state *state = &r->state[k];
    if (!whole)
        return feed_part(r, k, t, out, err);
    switch (s->kind) {
    case STEP_BYTELEVEL:
        put_bytes(t, &state->hold);
        LB_TRY(lb_buf_status(&state->hold, err));
        return flush_level(r, k, false, out, err);
    case STEP_BYTEFALLBACK: {
        int byte = lb_byte_token_value(t);
        if (byte >= 0) {
            lb_buf_put_u8(&state->hold, (u8)byte);
            return lb_buf_status(&state->hold, err);
        }
        LB_TRY(flush_bytes(r, k, out, err));
        return feed(r, k + 1, t, true, out, err);
    }
    case STEP_FUSE:
        return feed(r, k + 1, t, false, out, err);
    case STEP_BPE:
    case STEP_CTC:
        return feed_held(r, k, t, out, err);
    default:
        return feed_simple(r, k, t, out, err);
    }
}

/* True: behind a step that makes one token of all. */
static bool in_parts(const lb_decode_steps *s, u32 k) {
    for (u32 i = 0; i < k; i++)
        if (s->v[i].kind == STEP_FUSE || s->v[i].kind == STEP_BYTELEVEL)
            return true;
    return false;
}

static lb_status end_step(lb_decode_run *r, u32 k, lb_buf *out, lb_err *err) {
    const step *s = &r->steps->v[k];
    struct lb_decode_state *state = &r->state[k];
    lb_status st = LB_OK;
    if (in_parts(r->steps, k) && s->kind == STEP_REPLACE && s->literal.len)
        return part_replace(r, k, true, out, err);
    if (in_parts(r->steps, k) && !takes_parts(s)) { /* the one token, whole at last */
        lb_buf all = state->hold;
        state->hold = (lb_buf){0};
        if (all.len)
            st = feed(r, k, lb_buf_str(&all), true, out, err);
        lb_buf_deinit(&all);
        LB_TRY(st);
    }
    if (s->kind == STEP_BYTELEVEL)
        return flush_level(r, k, true, out, err);
    if (s->kind == STEP_BYTEFALLBACK)
        return flush_bytes(r, k, out, err);
    if (s->kind == STEP_BPE && state->any) {
        lb_buf text = {0};
        put_replaced(&text, lb_buf_str(&state->hold), s->text, LB_STR_NONE);
        st = lb_buf_status(&text, err);
        if (st == LB_OK)
            st = feed(r, k + 1, lb_buf_str(&text), true, out, err);
        lb_buf_deinit(&text);
    }
    return st;
}

void lb_decode_run_begin(lb_decode_run *r, const lb_decode_steps *steps) {
    *r = (lb_decode_run){.steps = steps};
}

lb_status lb_decode_run_put(lb_decode_run *r, lb_str token, lb_buf *out, lb_err *err) {
    return feed(r, 0, token, true, out, err);
}

lb_status lb_decode_run_end(lb_decode_run *r, lb_buf *out, lb_err *err) {
    for (u32 k = 0; k < r->steps->n; k++)
        LB_TRY(end_step(r, k, out, err));
    lb_decode_run_deinit(r);
    return LB_OK;
}

void lb_decode_run_deinit(lb_decode_run *r) {
    for (u32 k = 0; k < LB_DECODE_STEPS_MAX; k++) {
        lb_buf_deinit(&r->state[k].hold);
        r->state[k].any = false;
        r->state[k].count = 0;
    }
}

/* ---- pieces ---- */

bool lb_decode_steps_has_bytes(const lb_decode_steps *s) {
    for (u32 k = 0; k < s->n; k++)
        if (s->v[k].kind == STEP_BYTEFALLBACK)
            return true;
    return false;
}

void lb_decode_steps_piece(const lb_decode_steps *s, lb_str token, lb_buf *out) {
    lb_buf a = {0}, b = {0};
    lb_buf_put_str(&a, token);
    for (u32 k = 0; k < s->n; k++) {
        const step *v = &s->v[k];
        lb_str t = lb_buf_str(&a);
        int byte = lb_byte_token_value(t);
        lb_buf_reset(&b);
        if (v->kind == STEP_BYTEFALLBACK && byte >= 0)
            lb_buf_put_u8(&b, (u8)byte);
        else if (v->kind == STEP_BYTELEVEL)
            put_bytes(t, &b);
        else if (v->kind == STEP_METASPACE)
            put_metaspace(v, false, t, &b);
        else if (v->kind == STEP_WORDPIECE)
            put_wordpiece(v, false, t, &b);
        else if (v->kind == STEP_REPLACE && lb_str_is_utf8(t))
            (void)lb_regex_replace(v->re, t, v->text, SIZE_MAX, &b, NULL);
        else if (v->kind == STEP_BPE)
            put_replaced(&b, t, v->text, LB_STR(" "));
        else
            lb_buf_put_str(&b, t);
        lb_buf swap = a;
        a = b;
        b = swap;
    }
    lb_buf_put_str(out, lb_buf_str(&a));
    out->oom |= a.oom || b.oom;
    lb_buf_deinit(&a);
    lb_buf_deinit(&b);
}
