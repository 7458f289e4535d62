/* SPDX-License-Identifier: Apache-2.0 */
/* hf_tok.c: reading a tokenizer.json.
 *
 * Two passes over the text: the first finds where model.vocab and model.merges stand and counts
 * their entries, the second fills arrays of exactly that size. What remains (a few KiB to a few MiB
 * of added tokens) is parsed as a tree. Layout of the file: the tokenizers library 0.23 (serialised
 * forms of models BPE, Unigram, WordPiece, WordLevel and of AddedVocabulary). */
#include "text/hf_tok.h"

#include "base/mem.h"

/* An id may be this far beyond the number of entries: cut-down vocabularies keep their numbers. An
 * array of ids costs 16 bytes a number, so the slack is what a hostile file can make us allocate.
 */
#define ID_SLACK ((u64)1 << 20)
#define ENTRIES_MAX ((u64)1 << 26)

typedef struct span {
    size_t from, to; /* of the value's text; from == to: absent */
    u64 n;           /* entries */
    bool is_array;
} span;

typedef struct reader {
    lb_hf_tok *t;
    lb_str text;
    const char *what;
    lb_arena *arena;
} reader;

/* Consumes the rest of a value whose first token was tok. */
static lb_status finish_value(lb_json_reader *r, lb_json_tok tok, lb_err *err) {
    if (tok != LB_JSON_OBJECT && tok != LB_JSON_ARRAY)
        return LB_OK;
    u32 depth = r->depth;
    while (r->depth >= depth)
        LB_TRY(lb_json_next(r, &tok, err));
    return LB_OK;
}

static lb_status expect(const lb_json_reader *r, bool ok, const char *what, lb_err *err) {
    if (ok)
        return LB_OK;
    return lb_fail_at(err, LB_E_FORMAT, r->off_base + r->pos, "%s expected", what);
}

/* The value behind a key: where it stands and how many entries it has. */
static lb_status measure(lb_json_reader *r, span *s, lb_err *err) {
    lb_json_tok tok;
    LB_TRY(lb_json_next(r, &tok, err));
    LB_TRY(expect(r, tok == LB_JSON_OBJECT || tok == LB_JSON_ARRAY,
                  "model.vocab and model.merges: an object or a list", err));
    *s = (span){.from = r->pos - 1, .is_array = tok == LB_JSON_ARRAY};
    for (;;) {
        LB_TRY(lb_json_next(r, &tok, err));
        if (tok == LB_JSON_OBJECT_END || tok == LB_JSON_ARRAY_END)
            break;
        if (tok == LB_JSON_KEY)
            LB_TRY(lb_json_next(r, &tok, err));
        LB_TRY(finish_value(r, tok, err));
        s->n++;
    }
    s->to = r->pos;
    if (s->n > ENTRIES_MAX)
        return lb_fail_at(err, LB_E_LIMIT, s->from, "%llu entries: at most %llu are taken",
                          (unsigned long long)s->n, (unsigned long long)ENTRIES_MAX);
    return LB_OK;
}

static lb_status locate(const reader *in, span *vocab, span *merges, lb_err *err) {
    lb_json_reader r;
    lb_json_tok tok;
    lb_json_begin(&r, in->text);
    LB_TRY(lb_json_next(&r, &tok, err));
    LB_TRY(expect(&r, tok == LB_JSON_OBJECT, "an object", err));
    for (;;) {
        LB_TRY(lb_json_next(&r, &tok, err));
        if (tok == LB_JSON_OBJECT_END)
            return LB_OK;
        bool is_model = lb_str_eq_c(r.raw, "model");
        LB_TRY(lb_json_next(&r, &tok, err));
        if (!is_model || tok != LB_JSON_OBJECT) {
            LB_TRY(finish_value(&r, tok, err));
            continue;
        }
        for (;;) {
            LB_TRY(lb_json_next(&r, &tok, err));
            if (tok == LB_JSON_OBJECT_END)
                break;
            if (lb_str_eq_c(r.raw, "vocab"))
                LB_TRY(measure(&r, vocab, err));
            else if (lb_str_eq_c(r.raw, "merges"))
                LB_TRY(measure(&r, merges, err));
            else
                LB_TRY(lb_json_skip(&r, err));
        }
    }
}

/* The tree of everything but the two large members. */
static lb_status parse_rest(const reader *in, span vocab, span merges, lb_err *err) {
    lb_hf_tok *t = in->t;
    span first = vocab.from < merges.from ? vocab : merges;
    span second = vocab.from < merges.from ? merges : vocab;
    lb_buf text = {0};
    size_t pos = 0;
    const span *spans[2] = {&first, &second};
    for (u32 i = 0; i < 2; i++) {
        if (spans[i]->from == spans[i]->to)
            continue;
        lb_buf_put(&text, in->text.ptr + pos, spans[i]->from - pos);
        lb_buf_put_c(&text, spans[i]->is_array ? "[]" : "{}");
        pos = spans[i]->to;
    }
    lb_buf_put(&text, in->text.ptr + pos, in->text.len - pos);
    lb_status st = lb_buf_status(&text, err);
    lb_str copy = LB_STR_NONE;
    if (st == LB_OK) {
        copy = lb_arena_str(in->arena, lb_buf_str(&text));
        if (!copy.ptr)
            st = lb_fail(err, LB_E_NOMEM, "out of memory");
    }
    lb_buf_deinit(&text);
    if (st == LB_OK)
        st = lb_json_parse(copy, in->what, in->arena, &t->rest, err);
    if (st == LB_OK) {
        t->model = lb_json_get(t->rest, "model");
        if (!t->model || t->model->type != LB_JOBJECT)
            st = lb_fail(err, LB_E_FORMAT, "no \"model\": not a file of the tokenizers library");
    }
    return st;
}

/* Older files have no "type": the library then takes the first model whose members fit. */
static lb_status model_kind(lb_hf_tok *t, span vocab, span merges, lb_err *err) {
    static const char *const names[] = {"BPE", "Unigram", "WordPiece", "WordLevel"};
    lb_str type;
    if (!lb_json_as_str(lb_json_get(t->model, "type"), &type)) {
        t->kind = merges.from != merges.to                            ? LB_HF_BPE
                  : vocab.is_array                                    ? LB_HF_UNIGRAM
                  : lb_json_get(t->model, "max_input_chars_per_word") ? LB_HF_WORDPIECE
                                                                      : LB_HF_WORDLEVEL;
        return LB_OK;
    }
    for (u32 i = 0; i < LB_LEN(names); i++) {
        if (lb_str_eq_c(type, names[i])) {
            t->kind = (lb_hf_kind)i;
            return LB_OK;
        }
    }
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "model type \"%.*s\": BPE, Unigram, WordPiece and WordLevel are known",
                   LB_FMT(type));
}

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the vocabulary");
}

static lb_status put_token(const reader *in, const lb_json_reader *r, lb_str text, u64 id,
                           lb_err *err) {
    lb_hf_tok *t = in->t;
    bool existed;
    if (t->token[id].ptr)
        return lb_fail_at(err, LB_E_FORMAT, r->off_base + r->pos,
                          "model.vocab: id %llu given twice", (unsigned long long)id);
    t->token[id] = text.ptr ? text : LB_STR("");
    LB_TRY(lb_map_put(&t->id_of, text, id, &existed, err));
    if (existed)
        return lb_fail_at(err, LB_E_FORMAT, r->off_base + r->pos,
                          "model.vocab: \"%.*s\" given twice", (int)LB_MIN(text.len, (size_t)80),
                          text.ptr);
    return LB_OK;
}

/* {"text": id, ...}: two walks, since the ids say how long the array is. */
static lb_status read_vocab_object(const reader *in, span s, lb_err *err) {
    lb_hf_tok *t = in->t;
    lb_str text = lb_str_sub(in->text, s.from, s.to);
    lb_json_reader r;
    lb_json_tok tok;
    for (u32 walk = 0; walk < 2; walk++) {
        lb_json_begin(&r, text);
        r.off_base = s.from;
        LB_TRY(lb_json_next(&r, &tok, err));
        for (;;) {
            LB_TRY(lb_json_next(&r, &tok, err));
            if (tok == LB_JSON_OBJECT_END)
                break;
            lb_str key;
            if (walk)
                LB_TRY(lb_json_string(&r, in->arena, &key, err));
            LB_TRY(lb_json_next(&r, &tok, err));
            LB_TRY(expect(&r, tok == LB_JSON_NUMBER, "model.vocab: a number", err));
            u64 id;
            LB_TRY(lb_json_u64(&r, &id, err));
            if (walk) {
                LB_TRY(put_token(in, &r, key, id, err));
            } else {
                if (id > s.n + ID_SLACK)
                    return lb_fail_at(err, LB_E_LIMIT, s.from + r.pos,
                                      "model.vocab: id %llu in a vocabulary of %llu entries: "
                                      "numbers may leave out at most %llu",
                                      (unsigned long long)id, (unsigned long long)s.n,
                                      (unsigned long long)ID_SLACK);
                t->n_ids = LB_MAX(t->n_ids, id + 1);
            }
        }
        if (walk == 0) {
            t->token = lb_arena_new(in->arena, lb_str, t->n_ids);
            if (!t->token && t->n_ids)
                return no_memory(err);
        }
    }
    return LB_OK;
}

/* [["text", score], ...]: ids are the places. */
static lb_status read_vocab_array(const reader *in, span s, lb_err *err) {
    lb_hf_tok *t = in->t;
    lb_json_reader r;
    lb_json_tok tok;
    t->n_ids = s.n;
    t->token = lb_arena_new(in->arena, lb_str, s.n);
    t->score = lb_arena_new(in->arena, float, s.n);
    if ((!t->token || !t->score) && s.n)
        return no_memory(err);
    lb_json_begin(&r, lb_str_sub(in->text, s.from, s.to));
    r.off_base = s.from;
    LB_TRY(lb_json_next(&r, &tok, err));
    for (u64 id = 0; id < s.n; id++) {
        LB_TRY(lb_json_next(&r, &tok, err));
        LB_TRY(expect(&r, tok == LB_JSON_ARRAY, "model.vocab: [text, score]", err));
        LB_TRY(lb_json_next(&r, &tok, err));
        LB_TRY(expect(&r, tok == LB_JSON_STRING, "model.vocab: [text, score]", err));
        lb_str text;
        LB_TRY(lb_json_string(&r, in->arena, &text, err));
        LB_TRY(lb_json_next(&r, &tok, err));
        LB_TRY(expect(&r, tok == LB_JSON_NUMBER, "model.vocab: [text, score]", err));
        lb_json number = {.type = LB_JNUMBER, .text = r.raw};
        double score = 0;
        LB_TRY(expect(&r, lb_json_as_f64(&number, &score), "model.vocab: a score", err));
        t->score[id] = (float)score;
        LB_TRY(put_token(in, &r, text, id, err));
        LB_TRY(lb_json_next(&r, &tok, err));
        LB_TRY(expect(&r, tok == LB_JSON_ARRAY_END, "model.vocab: [text, score]", err));
    }
    return LB_OK;
}

/* One entry of model.merges, whose first token was read: "left right" or ["left", "right"]. */
static lb_status read_merge(const reader *in, lb_json_reader *r, lb_json_tok tok, lb_str *pair,
                            lb_err *err) {
    if (tok == LB_JSON_STRING) {
        lb_str both;
        LB_TRY(lb_json_string(r, in->arena, &both, err));
        const char *space = both.len ? memchr(both.ptr, ' ', both.len) : NULL;
        size_t at = space ? (size_t)(space - both.ptr) : 0;
        pair[0] = lb_str_sub(both, 0, at);
        pair[1] = lb_str_sub(both, at + 1, both.len);
        bool ok = space && !(pair[1].len && memchr(pair[1].ptr, ' ', pair[1].len));
        return expect(r, ok, "model.merges: two parts with one space between", err);
    }
    LB_TRY(expect(r, tok == LB_JSON_ARRAY, "model.merges: a string or a list of two", err));
    for (u32 side = 0; side < 2; side++) {
        LB_TRY(lb_json_next(r, &tok, err));
        LB_TRY(expect(r, tok == LB_JSON_STRING, "model.merges: a list of two strings", err));
        LB_TRY(lb_json_string(r, in->arena, &pair[side], err));
    }
    LB_TRY(lb_json_next(r, &tok, err));
    return expect(r, tok == LB_JSON_ARRAY_END, "model.merges: a list of two strings", err);
}

static lb_status read_merges(const reader *in, span s, lb_err *err) {
    lb_hf_tok *t = in->t;
    lb_json_reader r;
    lb_json_tok tok;
    t->merge = lb_arena_new(in->arena, lb_str, 2 * s.n);
    if (!t->merge && s.n)
        return no_memory(err);
    lb_json_begin(&r, lb_str_sub(in->text, s.from, s.to));
    r.off_base = s.from;
    LB_TRY(lb_json_next(&r, &tok, err));
    LB_TRY(expect(&r, tok == LB_JSON_ARRAY, "model.merges: a list", err));
    for (u64 i = 0; i < s.n; i++) {
        LB_TRY(lb_json_next(&r, &tok, err));
        bool pairs = tok == LB_JSON_ARRAY;
        if (i == 0)
            t->merge_pairs = pairs;
        LB_TRY(expect(&r, pairs == t->merge_pairs, "model.merges: entries of one form", err));
        LB_TRY(read_merge(in, &r, tok, &t->merge[2 * i], err));
    }
    return LB_OK;
}

/* ---- added tokens ---- */

bool lb_hf_tok_id(const lb_hf_tok *t, lb_str text, u32 *id) {
    u64 v;
    if (lb_map_find(&t->added_of, text, &v)) {
        *id = t->added[v].id;
        return true;
    }
    if (!lb_map_find(&t->id_of, text, &v))
        return false;
    *id = (u32)v;
    return true;
}

u64 lb_hf_tok_n_all(const lb_hf_tok *t) {
    return LB_MAX(t->n_ids, t->next_added);
}

/* The library's rule: the model's id; else one more than the largest added id, but at least the
 * number of entries of the model. */
lb_status lb_hf_tok_add(lb_hf_tok *t, const lb_hf_added *token, lb_arena *arena, lb_err *err) {
    bool existed;
    if (token->content.len == 0)
        return LB_OK;
    if (lb_map_find(&t->added_of, token->content, NULL))
        return LB_OK;
    if (t->n_added == t->cap_added) {
        u64 cap = t->cap_added ? t->cap_added * 2 : 64;
        lb_hf_added *grown = lb_arena_new(arena, lb_hf_added, cap);
        if (!grown)
            return lb_fail(err, LB_E_NOMEM, "tokenizer: out of memory for the added tokens");
        if (t->n_added)
            memcpy(grown, t->added, (size_t)t->n_added * sizeof *grown);
        t->added = grown;
        t->cap_added = cap;
    }
    u64 id = LB_MAX(t->n_vocab, t->next_added);
    bool in_vocab = lb_map_find(&t->id_of, token->content, &id);
    t->next_added = LB_MAX(t->next_added, id + 1);
    LB_TRY(lb_map_put(&t->added_of, token->content, t->n_added, &existed, err));
    lb_hf_added *a = &t->added[t->n_added++];
    *a = *token;
    a->id = (u32)id;
    a->in_vocab = in_vocab;
    return LB_OK;
}

static bool flag(const lb_json *o, const char *key, bool otherwise) {
    bool v = otherwise;
    (void)lb_json_as_bool(lb_json_get(o, key), &v);
    return v;
}

static lb_status read_added(const reader *in, lb_err *err) {
    const lb_json *list = lb_json_get(in->t->rest, "added_tokens");
    for (const lb_json *o = list ? list->first : NULL; o; o = o->next) {
        lb_hf_added a = {.file_id = UINT64_MAX};
        if (!lb_json_as_str(lb_json_get(o, "content"), &a.content))
            return lb_fail(err, LB_E_FORMAT, "added_tokens: an entry without \"content\"");
        (void)lb_json_as_u64(lb_json_get(o, "id"), &a.file_id);
        a.special = flag(o, "special", false);
        a.single_word = flag(o, "single_word", false);
        a.lstrip = flag(o, "lstrip", false);
        a.rstrip = flag(o, "rstrip", false);
        a.normalized = flag(o, "normalized", !a.special);
        LB_TRY(lb_hf_tok_add(in->t, &a, in->arena, err));
    }
    return LB_OK;
}

static lb_status parse(lb_hf_tok *t, lb_str text, const char *what, lb_arena *arena, bool arrays,
                       lb_err *err) {
    *t = (lb_hf_tok){0};
    reader in = {t, text, what, arena};
    span vocab = {0}, merges = {0};
    lb_status st = LB_OK;
    LB_TRY_DONE(st, locate(&in, &vocab, &merges, err));
    LB_TRY_DONE(st, parse_rest(&in, vocab, merges, err));
    LB_TRY_DONE(st, model_kind(t, vocab, merges, err));
    t->vocab_text = lb_str_sub(text, vocab.from, vocab.to);
    t->merges_text = lb_str_sub(text, merges.from, merges.to);
    if (vocab.from == vocab.to)
        st = lb_fail(err, LB_E_FORMAT, "model without \"vocab\"");
    else if (vocab.is_array != (t->kind == LB_HF_UNIGRAM))
        st = lb_fail_at(err, LB_E_FORMAT, vocab.from, "model.vocab: not the form of this type");
    if (st != LB_OK)
        goto done;
    t->n_vocab = vocab.n;
    t->n_merges = merges.n;
    if (!arrays)
        return LB_OK;
    LB_TRY_DONE(st, vocab.is_array ? read_vocab_array(&in, vocab, err)
                                   : read_vocab_object(&in, vocab, err));
    if (merges.from != merges.to)
        LB_TRY_DONE(st, read_merges(&in, merges, err));
    LB_TRY_DONE(st, read_added(&in, err));
done:
    if (st != LB_OK) {
        lb_err_context(err, "%s", what);
        lb_hf_tok_deinit(t);
    }
    return st;
}

lb_status lb_hf_tok_parse(lb_hf_tok *t, lb_str text, const char *what, lb_arena *arena,
                          lb_err *err) {
    return parse(t, text, what, arena, true, err);
}

lb_status lb_hf_tok_parse_rest(lb_hf_tok *t, lb_str text, const char *what, lb_arena *arena,
                               lb_err *err) {
    return parse(t, text, what, arena, false, err);
}

void lb_hf_tok_deinit(lb_hf_tok *t) {
    lb_map_deinit(&t->id_of);
    lb_map_deinit(&t->added_of);
}
