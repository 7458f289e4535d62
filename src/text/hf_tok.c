/* SPDX-License-Identifier: Apache-2.0 */
/* hf_tok.c: reading a tokenizer.json.
 *
 * One pass: entries of model.vocab and model.merges become offsets and ids as they come by, all
 * other text is copied (a few KiB to a few MiB of added tokens) and parsed as a tree. Layout of the
 * file: the tokenizers library 0.23 (serialised forms of models BPE, Unigram, WordPiece, WordLevel
 * and of AddedVocabulary). */
#include "text/hf_tok.h"

#include "base/mem.h"
#include "io/json_feed.h"
#include "text/hf_take.h"
#include "text/pair_group.h"

/* An id may be this far beyond the number of entries: cut-down vocabularies keep their numbers. An
 * array of ids costs 4 bytes a number, so the slack is what a hostile file can make us allocate. */
#define ID_SLACK ((u64)1 << 20)
#define ENTRIES_MAX ((u64)1 << 26)
#define ENTRY_BYTES_MIN 5 /* "":0, */
#define KEPT_ENTRIES 2    /* of the skeleton */

typedef struct reader {
    lb_hf_tok *t;
    const lb_hf_opts *o;
    lb_arena *arena;
    lb_arena scratch; /* one text with escapes */
    lb_json_feed f;
    lb_buf rest;
    u64 ids_max;         /* no id of a file of this size can be above */
    lb_pair_group group; /* merges that were read and are to be found */
    lb_buf left;
    u64 vocab_from, merges_from;
    bool has_vocab, has_merges, vocab_is_array, merges_are_array;
} reader;

static lb_status expect(const reader *in, bool ok, const char *what, lb_err *err) {
    if (ok)
        return LB_OK;
    return lb_fail_at(err, LB_E_FORMAT, lb_json_feed_pos(&in->f), "%s expected", what);
}

/* The text of the token that was read, good until the next. */
static lb_status token_text(reader *in, lb_str *out, lb_err *err) {
    lb_arena_reset(&in->scratch);
    return lb_json_string(&in->f.r, &in->scratch, out, err);
}

static lb_status put_token(reader *in, lb_str text, u64 id, lb_err *err) {
    lb_hf_tok *t = in->t;
    u64 first;
    if (lb_texts_has(&t->token, id))
        return lb_fail_at(err, LB_E_FORMAT, lb_json_feed_pos(&in->f),
                          "model.vocab: id %llu given twice", (unsigned long long)id);
    LB_TRY(lb_texts_set(&t->token, id, text, err));
    LB_TRY(lb_texts_index_put(&t->id_of, &t->token, id, &first, err));
    if (first != id)
        return lb_fail_at(err, LB_E_FORMAT, lb_json_feed_pos(&in->f),
                          "model.vocab: \"%.*s\" given twice", (int)LB_MIN(text.len, (size_t)80),
                          text.ptr);
    return LB_OK;
}

/* "text": id. The key was read; setting it needs the id, which comes behind it. */
static lb_status read_id(reader *in, lb_err *err) {
    lb_json_tok tok;
    lb_str raw;
    u64 id;
    LB_TRY(token_text(in, &raw, err));
    lb_str key = lb_arena_str(&in->scratch, raw); /* the window may move */
    if (!key.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the vocabulary");
    LB_TRY(lb_json_feed_next(&in->f, &tok, err));
    LB_TRY(expect(in, tok == LB_JSON_NUMBER, "model.vocab: a number", err));
    LB_TRY(lb_json_u64(&in->f.r, &id, err));
    if (id > in->ids_max)
        return lb_fail_at(err, LB_E_LIMIT, lb_json_feed_pos(&in->f),
                          "model.vocab: id %llu: numbers may leave out at most %llu",
                          (unsigned long long)id, (unsigned long long)ID_SLACK);
    return put_token(in, key, id, err);
}

/* ["text", score]: its id is its place. The bracket was read. */
static lb_status read_piece(reader *in, u64 id, lb_err *err) {
    lb_json_tok tok;
    lb_str text;
    double score = 0;
    LB_TRY(lb_json_feed_next(&in->f, &tok, err));
    LB_TRY(expect(in, tok == LB_JSON_STRING, "model.vocab: [text, score]", err));
    LB_TRY(token_text(in, &text, err));
    LB_TRY(put_token(in, text, id, err));
    LB_TRY(lb_json_feed_next(&in->f, &tok, err));
    LB_TRY(expect(in, tok == LB_JSON_NUMBER, "model.vocab: [text, score]", err));
    lb_json number = {.type = LB_JNUMBER, .text = in->f.r.raw};
    LB_TRY(expect(in, lb_json_as_f64(&number, &score), "model.vocab: a score", err));
    lb_buf_put_u32(&in->t->scores, lb_f32_bits((float)score));
    lb_buf_put(&in->t->doubles, &score, sizeof score);
    LB_TRY(lb_buf_status(&in->t->scores, err));
    LB_TRY(lb_buf_status(&in->t->doubles, err));
    LB_TRY(lb_json_feed_next(&in->f, &tok, err));
    return expect(in, tok == LB_JSON_ARRAY_END, "model.vocab: [text, score]", err);
}

/* An id, or a text in the pool. */
static lb_status put_part(lb_hf_tok *t, lb_str text, u32 id, lb_err *err) {
    if (id == UINT32_MAX) {
        LB_TRY(lb_texts_put(&t->token, text, &id, err));
        if (id >= LB_HF_FOREIGN)
            return lb_fail(err, LB_E_LIMIT, "model.merges: more than 2 GiB of text");
        id |= LB_HF_FOREIGN;
    }
    lb_buf_put_u32(&t->merges, id);
    return lb_buf_status(&t->merges, err);
}

static lb_status put_group(reader *in, lb_err *err) {
    lb_hf_tok *t = in->t;
    lb_str s[3 * LB_PAIR_GROUP];
    u32 id[3 * LB_PAIR_GROUP], n = in->group.n;
    LB_TRY(lb_pair_group_find(&in->group, &t->id_of, &t->token, s, id, err));
    for (u32 i = 0; i < n; i++) {
        LB_TRY(put_part(t, s[3 * i], id[3 * i], err));
        LB_TRY(put_part(t, s[3 * i + 1], id[3 * i + 1], err));
        lb_buf_put_u32(&t->joins, id[3 * i + 2]);
    }
    return lb_buf_status(&t->joins, err);
}

static lb_status put_merge(reader *in, const lb_str pair[2], lb_err *err) {
    lb_pair_group_add(&in->group, pair);
    return in->group.n == LB_PAIR_GROUP ? put_group(in, err) : LB_OK;
}

/* "left right" or ["left", "right"], whose first token was read. */
static lb_status read_merge(reader *in, lb_json_tok tok, lb_err *err) {
    lb_str text;
    if (tok == LB_JSON_STRING) {
        LB_TRY(token_text(in, &text, err));
        const char *space = text.len ? memchr(text.ptr, ' ', text.len) : NULL;
        size_t at = space ? (size_t)(space - text.ptr) : 0;
        lb_str right = lb_str_sub(text, at + 1, text.len);
        bool ok = space && !(right.len && memchr(right.ptr, ' ', right.len));
        LB_TRY(expect(in, ok, "model.merges: two parts with one space between", err));
        return put_merge(in, (lb_str[2]){lb_str_sub(text, 0, at), right}, err);
    }
    LB_TRY(expect(in, tok == LB_JSON_ARRAY, "model.merges: a string or a list of two", err));
    lb_str pair[2];
    LB_TRY(lb_json_feed_next(&in->f, &tok, err));
    LB_TRY(expect(in, tok == LB_JSON_STRING, "model.merges: a list of two strings", err));
    LB_TRY(token_text(in, &text, err));
    lb_buf_reset(&in->left); /* the window may move */
    lb_buf_put_str(&in->left, text);
    LB_TRY(lb_buf_status(&in->left, err));
    pair[0] = lb_buf_str(&in->left);
    LB_TRY(lb_json_feed_next(&in->f, &tok, err));
    LB_TRY(expect(in, tok == LB_JSON_STRING, "model.merges: a list of two strings", err));
    LB_TRY(token_text(in, &pair[1], err));
    LB_TRY(put_merge(in, pair, err));
    LB_TRY(lb_json_feed_next(&in->f, &tok, err));
    return expect(in, tok == LB_JSON_ARRAY_END, "model.merges: a list of two strings", err);
}

static lb_status skip_entry(reader *in, lb_json_tok tok, lb_err *err) {
    if (tok == LB_JSON_KEY)
        LB_TRY(lb_json_feed_next(&in->f, &tok, err));
    return lb_json_feed_finish(&in->f, tok, err);
}

static lb_status read_entry(reader *in, bool vocab, lb_json_tok tok, u64 i, lb_err *err) {
    lb_hf_tok *t = in->t;
    if (in->o->no_arrays)
        return skip_entry(in, tok, err);
    if (vocab && !in->vocab_is_array)
        return read_id(in, err);
    if (vocab) {
        LB_TRY(expect(in, tok == LB_JSON_ARRAY, "model.vocab: [text, score]", err));
        return read_piece(in, i, err);
    }
    bool pairs = tok == LB_JSON_ARRAY;
    if (i == 0)
        t->merge_pairs = pairs;
    LB_TRY(expect(in, pairs == t->merge_pairs, "model.merges: entries of one form", err));
    return read_merge(in, tok, err);
}

/* The value behind "vocab" or "merges"; entries behind the second are cut out of the skeleton. */
static lb_status read_large(reader *in, bool vocab, lb_err *err) {
    lb_json_tok tok;
    u64 n = 0;
    LB_TRY(lb_json_feed_next(&in->f, &tok, err));
    LB_TRY(expect(in, tok == LB_JSON_OBJECT || tok == LB_JSON_ARRAY,
                  "model.vocab and model.merges: an object or a list", err));
    u64 from = lb_json_feed_pos(&in->f) - 1;
    *(vocab ? &in->vocab_from : &in->merges_from) = from;
    *(vocab ? &in->has_vocab : &in->has_merges) = true;
    *(vocab ? &in->vocab_is_array : &in->merges_are_array) = tok == LB_JSON_ARRAY;
    LB_TRY(expect(in, vocab || in->merges_are_array, "model.merges: a list", err));
    for (;; n++) {
        LB_TRY(lb_json_feed_next(&in->f, &tok, err));
        if (tok == LB_JSON_OBJECT_END || tok == LB_JSON_ARRAY_END)
            break;
        LB_TRY(read_entry(in, vocab, tok, n, err));
        if (n + 1 >= KEPT_ENTRIES)
            lb_json_feed_cut(&in->f);
    }
    lb_json_feed_cut_end(&in->f);
    if (!vocab)
        LB_TRY(put_group(in, err));
    if (n > ENTRIES_MAX)
        return lb_fail_at(err, LB_E_LIMIT, from, "%llu entries: at most %llu are taken",
                          (unsigned long long)n, (unsigned long long)ENTRIES_MAX);
    *(vocab ? &in->t->n_vocab : &in->t->n_merges) = n;
    return LB_OK;
}

static lb_status read_model(reader *in, lb_err *err) {
    lb_json_tok tok;
    for (;;) {
        LB_TRY(lb_json_feed_next(&in->f, &tok, err));
        if (tok == LB_JSON_OBJECT_END)
            return LB_OK;
        bool vocab = lb_str_eq_c(in->f.r.raw, "vocab");
        if (vocab || lb_str_eq_c(in->f.r.raw, "merges")) {
            if (vocab ? in->has_vocab : in->has_merges)
                return lb_fail_at(err, LB_E_FORMAT, lb_json_feed_pos(&in->f),
                                  "model: the key \"%s\" is there twice",
                                  vocab ? "vocab" : "merges");
            LB_TRY(read_large(in, vocab, err));
            continue;
        }
        LB_TRY(lb_json_feed_next(&in->f, &tok, err));
        LB_TRY(lb_json_feed_finish(&in->f, tok, err));
    }
}

static lb_status read_file(reader *in, lb_err *err) {
    lb_json_tok tok;
    LB_TRY(lb_json_feed_next(&in->f, &tok, err));
    LB_TRY(expect(in, tok == LB_JSON_OBJECT, "an object", err));
    for (;;) {
        LB_TRY(lb_json_feed_next(&in->f, &tok, err));
        if (tok == LB_JSON_OBJECT_END)
            break;
        bool is_model = lb_str_eq_c(in->f.r.raw, "model");
        LB_TRY(lb_json_feed_next(&in->f, &tok, err));
        LB_TRY(is_model && tok == LB_JSON_OBJECT ? read_model(in, err)
                                                 : lb_json_feed_finish(&in->f, tok, err));
    }
    return lb_json_feed_next(&in->f, &tok, err);
}

static void make_empty(lb_json *v) {
    if (v && (v->type == LB_JOBJECT || v->type == LB_JARRAY)) {
        v->first = v->last = NULL;
        v->n = 0;
    }
}

static lb_status model_kind(lb_hf_tok *t, lb_err *err);

lb_status lb_hf_tok_rest(lb_hf_tok *t, lb_str skeleton, const char *what, lb_arena *arena,
                         lb_err *err) {
    t->skeleton = lb_arena_str(arena, skeleton);
    if (!t->skeleton.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    LB_TRY(lb_json_parse(t->skeleton, what, arena, &t->rest, err));
    t->model = lb_json_get(t->rest, "model");
    if (!t->model || t->model->type != LB_JOBJECT)
        return lb_fail(err, LB_E_FORMAT, "no \"model\": not a file of the tokenizers library");
    make_empty(lb_json_get(t->model, "vocab"));
    make_empty(lb_json_get(t->model, "merges"));
    return model_kind(t, err);
}

/* Older files have no "type": the library then takes the first model whose members fit. */
static lb_status model_kind(lb_hf_tok *t, lb_err *err) {
    static const char *const names[] = {"BPE", "Unigram", "WordPiece", "WordLevel"};
    const lb_json *vocab = lb_json_get(t->model, "vocab");
    lb_str type;
    if (!lb_json_as_str(lb_json_get(t->model, "type"), &type)) {
        t->kind = lb_json_get(t->model, "merges")                     ? LB_HF_BPE
                  : vocab && vocab->type == LB_JARRAY                 ? LB_HF_UNIGRAM
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

lb_str lb_hf_tok_part(const lb_hf_tok *t, u64 merge, u32 side) {
    u32 v = t->merge[2 * merge + side];
    return v & LB_HF_FOREIGN ? lb_texts_at(&t->token, v & ~LB_HF_FOREIGN)
                             : lb_texts_get(&t->token, v);
}

static lb_status next_merge(void *ctx, lb_str pair[2], bool *more, lb_err *err) {
    lb_hf_tok_iter *it = ctx;
    (void)err;
    *more = it->at < it->t->n_merges;
    for (u32 side = 0; side < 2 && *more; side++)
        pair[side] = lb_hf_tok_part(it->t, it->at, side);
    it->at += *more;
    return LB_OK;
}

lb_hf_merges lb_hf_tok_merges(lb_hf_tok_iter *it, const lb_hf_tok *t) {
    *it = (lb_hf_tok_iter){t, 0};
    return (lb_hf_merges){next_merge, it};
}

/* ---- added tokens ---- */

bool lb_hf_tok_id(const lb_hf_tok *t, lb_str text, u32 *id) {
    u64 v;
    if (lb_map_find(&t->added_of, text, &v)) {
        *id = t->added[v].id;
        return true;
    }
    if (!lb_texts_index_find(&t->id_of, &t->token, text, &v))
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
    u64 known;
    bool in_vocab = lb_texts_index_find(&t->id_of, &t->token, token->content, &known);
    if (in_vocab)
        id = known;
    t->next_added = LB_MAX(t->next_added, id + 1);
    LB_TRY(lb_map_put(&t->added_of, token->content, t->n_added, &existed, err));
    lb_hf_added *a = &t->added[t->n_added++];
    *a = *token;
    a->id = (u32)id;
    a->in_vocab = in_vocab;
    return LB_OK;
}

static lb_status flag(const lb_json *o, const char *key, bool *v, lb_err *err) {
    const lb_json *m = lb_json_get(o, key);
    return !m || lb_json_as_bool(m, v)
               ? LB_OK
               : lb_fail(err, LB_E_FORMAT, "added_tokens: \"%s\": true or false expected", key);
}

static lb_status read_one_added(const lb_json *o, lb_hf_added *a, lb_err *err) {
    const lb_json *id = lb_json_get(o, "id");
    if (!lb_json_as_str(lb_json_get(o, "content"), &a->content))
        return lb_fail(err, LB_E_FORMAT, "added_tokens: an entry without \"content\"");
    if (id && (!lb_json_as_u64(id, &a->file_id) || a->file_id > UINT32_MAX))
        return lb_fail(err, LB_E_FORMAT, "added_tokens: \"%.*s\": its \"id\" is no token id",
                       LB_FMT(a->content));
    LB_TRY(flag(o, "special", &a->special, err));
    a->normalized = !a->special;
    LB_TRY(flag(o, "single_word", &a->single_word, err));
    LB_TRY(flag(o, "lstrip", &a->lstrip, err));
    LB_TRY(flag(o, "rstrip", &a->rstrip, err));
    return flag(o, "normalized", &a->normalized, err);
}

lb_status lb_hf_tok_rest_added(lb_hf_tok *t, lb_arena *arena, lb_err *err) {
    const lb_json *list = lb_json_get(t->rest, "added_tokens");
    if (list && list->type != LB_JARRAY)
        return lb_fail(err, LB_E_FORMAT, "added_tokens: a list expected");
    for (const lb_json *o = list ? list->first : NULL; o; o = o->next) {
        lb_hf_added a = {.file_id = UINT64_MAX};
        LB_TRY(read_one_added(o, &a, err));
        LB_TRY(lb_hf_tok_add(t, &a, arena, err));
    }
    return LB_OK;
}

/* Where the merges stand before the vocabulary their parts are found now. */
static void resolve_parts(lb_hf_tok *t) {
    for (u64 i = 0; i < 2 * t->n_merges; i++) {
        u64 id;
        if ((t->merge[i] & LB_HF_FOREIGN) &&
            lb_texts_index_find(&t->id_of, &t->token, lb_hf_tok_part(t, i / 2, i % 2), &id))
            t->merge[i] = (u32)id;
    }
}

static lb_status read_all(reader *in, lb_err *err) {
    lb_hf_tok *t = in->t;
    LB_TRY(read_file(in, err));
    LB_TRY(lb_buf_status(&in->rest, err));
    LB_TRY(lb_hf_tok_rest(t, lb_buf_str(&in->rest), in->o->what, in->arena, err));
    lb_buf_deinit(&in->rest);
    if (!in->has_vocab)
        return lb_fail(err, LB_E_FORMAT, "model without \"vocab\"");
    if (in->vocab_is_array != (t->kind == LB_HF_UNIGRAM))
        return lb_fail_at(err, LB_E_FORMAT, in->vocab_from,
                          "model.vocab: not the form of this type");
    if (in->o->no_arrays)
        return LB_OK;
    t->n_ids = t->token.n;
    t->score = in->vocab_is_array ? (float *)(void *)t->scores.ptr : NULL;
    t->exact = in->vocab_is_array ? (double *)(void *)t->doubles.ptr : NULL;
    t->merge = (u32 *)(void *)t->merges.ptr;
    t->joined = (u32 *)(void *)t->joins.ptr;
    if (t->n_ids > t->n_vocab + ID_SLACK + 1)
        return lb_fail_at(err, LB_E_LIMIT, in->vocab_from,
                          "model.vocab: id %llu in a vocabulary of %llu entries: numbers may leave "
                          "out at most %llu",
                          (unsigned long long)t->n_ids - 1, (unsigned long long)t->n_vocab,
                          (unsigned long long)ID_SLACK);
    if (in->merges_from < in->vocab_from)
        resolve_parts(t);
    return lb_hf_tok_rest_added(t, in->arena, err);
}

lb_status lb_hf_tok_read(lb_hf_tok *t, lb_cur *c, const lb_hf_opts *o, lb_arena *arena,
                         lb_err *err) {
    *t = (lb_hf_tok){0};
    reader in = {.t = t, .o = o, .arena = arena};
    in.ids_max = LB_MIN(lb_cur_left(c) / ENTRY_BYTES_MIN + ID_SLACK, (u64)LB_HF_FOREIGN - 1);
    lb_status st = lb_json_feed_open(&in.f, c, &in.rest, err);
    if (st == LB_OK)
        st = read_all(&in, err);
    lb_json_feed_close(&in.f);
    lb_buf_deinit(&in.rest);
    lb_buf_deinit(&in.left);
    lb_pair_group_deinit(&in.group);
    lb_arena_deinit(&in.scratch);
    if (st != LB_OK) {
        lb_err_context(err, "%s", o->what);
        lb_hf_tok_deinit(t);
    }
    return st;
}

lb_status lb_hf_tok_parse(lb_hf_tok *t, lb_str text, const char *what, lb_arena *arena,
                          lb_err *err) {
    lb_cur c;
    lb_cur_mem(&c, what, text.ptr, text.len);
    return lb_hf_tok_read(t, &c, &(lb_hf_opts){.what = what}, arena, err);
}

void lb_hf_tok_deinit(lb_hf_tok *t) {
    lb_texts_deinit(&t->token);
    lb_texts_index_deinit(&t->id_of);
    lb_buf_deinit(&t->scores);
    lb_buf_deinit(&t->doubles);
    lb_buf_deinit(&t->merges);
    lb_buf_deinit(&t->joins);
    lb_cut_order_free(&t->cuts);
    lb_map_deinit(&t->added_of);
    t->score = NULL;
    t->exact = NULL;
    t->merge = t->joined = NULL;
}
