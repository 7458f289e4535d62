/* SPDX-License-Identifier: Apache-2.0 */
/* tok_rebuild.c: a tokenizer.json from the arrays of a GGUF.
 *
 * Byte-level BPE: the steps come from the form of tokenizer.ggml.pre. SentencePiece: BPE with byte
 * fallback, as transformers' converters build it (LlamaConverter and GemmaConverter of transformers
 * 5.23: with a space put before the text, or without); merges are made from the scores. */
#include "text/tok_rebuild.h"

#include "text/bytelevel.h"
#include "text/hf_write.h"
#include "text/pre.h"
#include "text/spm.h"

#define PIECE_SPACE "\xe2\x96\x81" /* U+2581 */

static const char skeleton_text[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],"
    "\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":null,"
    "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
    "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,"
    "\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{\"a\":0,\"b\":1},"
    "\"merges\":[[\"a\",\"b\"],[\"a\",\"b\"]]}}";
static const char decoder_bytes[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                                    "\"trim_offsets\":true,\"use_regex\":true}";
static const char decoder_bytes_untrimmed[] =
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,"
    "\"use_regex\":false}";
static const char post_bytes[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                                 "\"trim_offsets\":false,\"use_regex\":true}";
#define REPLACE_PIECE_SPACE \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" PIECE_SPACE "\"},\"content\":\" \"}"
#define REPLACE_SPACE \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" PIECE_SPACE "\"}"
static const char decoder_spm[] = "{\"type\":\"Sequence\",\"decoders\":[" REPLACE_PIECE_SPACE
                                  ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}";
static const char decoder_spm_prefix[] =
    "{\"type\":\"Sequence\",\"decoders\":[" REPLACE_PIECE_SPACE
    ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}";
static const char normalizer_spm[] = REPLACE_SPACE;
static const char normalizer_spm_prefix[] =
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" PIECE_SPACE
    "\"}," REPLACE_SPACE "]}";
static const char split_spm[] = "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},"
                                "\"behavior\":\"MergedWithPrevious\",\"invert\":false}";

typedef struct maker {
    const lb_tok_arrays *a;
    lb_json *root, *model;
    lb_texts token;         /* model.vocab by id */
    lb_texts_index all;     /* the GGUF's tokens, text -> id */
    lb_texts_index in_file; /* SentencePiece: those of token */
    lb_tok_cuts cuts;       /* SentencePiece: its merges */
    lb_tok_iter merges;     /* byte-level: the GGUF's, of which the vocabulary can hold some */
    lb_buf joined;
    lb_hf_merges out;
} maker;

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer.json: out of memory");
}

static lb_status put(maker *m, lb_json *object, const char *key, lb_json *value, lb_err *err) {
    return lb_json_set(m->a->arena, object, key, value) ? LB_OK : no_memory(err);
}

static lb_status put_literal(maker *m, lb_json *object, const char *key, const char *text,
                             lb_err *err) {
    lb_json *v;
    LB_TRY(lb_json_parse(lb_str_c(text), key, m->a->arena, &v, err));
    return put(m, object, key, v, err);
}

static lb_status put_bool(maker *m, lb_json *object, const char *key, bool v, lb_err *err) {
    return put(m, object, key, lb_json_new_bool(m->a->arena, v), err);
}

static lb_status put_str(maker *m, lb_json *object, const char *key, lb_str v, lb_err *err) {
    return put(m, object, key, lb_json_new_str(m->a->arena, v), err);
}

/* ---- special tokens ---- */

/* The text of a *_token_id key; false: absent or out of range. */
static bool token_of(const lb_tok_arrays *a, const char *key, lb_str *text, u64 *id) {
    if (!lb_kv_as_u64(lb_meta_find(a->meta, key), id) || *id >= a->n)
        return false;
    *text = lb_tok_text(a, *id);
    return true;
}

static bool flag_of(const lb_tok_arrays *a, const char *key, bool *v) {
    return lb_kv_as_bool(lb_meta_find(a->meta, key), v);
}

static bool is_whole(const lb_tok_arrays *a, const lb_texts_index *id_of, const u8 *has_length,
                     u64 i) {
    lb_str t = lb_tok_text(a, i);
    size_t chars = 0;
    u64 id;
    for (size_t k = 0; k < t.len; k++) {
        if (((u8)t.ptr[k] & 0xc0) == 0x80)
            continue;
        chars++;
        if (k && has_length[k] && has_length[t.len - k] &&
            lb_texts_index_find(id_of, a->token, lb_str_sub(t, 0, k), &id) &&
            lb_texts_index_find(id_of, a->token, lb_str_sub(t, k, t.len), &id))
            return false;
    }
    return chars > 1;
}

/* Longer than a character, no byte, and no merge gives it. */
static lb_status find_unmerged(lb_tok_arrays *a, u8 *whole, const lb_texts_index *id_of,
                               lb_err *err) {
    lb_tok_iter it;
    lb_hf_merges merges = lb_tok_merges(&it, a);
    lb_buf joined = {0};
    lb_str pair[2];
    lb_status st = LB_OK;
    bool more = true;
    u64 id;
    for (u64 i = 0; i < a->n; i++) {
        lb_str t = lb_tok_text(a, i);
        size_t chars = 0;
        for (size_t k = 0; k < t.len; k++)
            chars += ((u8)t.ptr[k] & 0xc0) != 0x80;
        whole[i] = a->type[i] == LB_SPM_NORMAL && chars > 1;
    }
    while (st == LB_OK && (st = merges.next(merges.ctx, pair, &more, err)) == LB_OK && more) {
        lb_buf_reset(&joined);
        lb_buf_put_str(&joined, pair[0]);
        lb_buf_put_str(&joined, pair[1]);
        st = lb_buf_status(&joined, err);
        if (st == LB_OK && lb_texts_index_find(id_of, a->token, lb_buf_str(&joined), &id))
            whole[id] = 0;
    }
    lb_buf_deinit(&joined);
    return st;
}

lb_status lb_tok_find_whole(lb_tok_arrays *a, lb_err *err) {
    lb_texts_index id_of = {0};
    lb_buf lengths = {0};
    bool merged = lb_tok_is_merged_spm(a) && a->merges;
    if (!merged && (!lb_tok_is_spm(a) || !a->has_scores))
        return LB_OK;
    u8 *whole = lb_arena_new(a->arena, u8, a->n);
    lb_status st = whole || !a->n ? lb_tok_mark_lengths(a->token, &lengths, err) : no_memory(err);
    for (u64 i = 0; i < a->n && st == LB_OK; i++)
        st = lb_texts_index_put(&id_of, a->token, i, NULL, err);
    if (merged && st == LB_OK)
        st = find_unmerged(a, whole, &id_of, err);
    for (u64 i = 0; i < a->n && st == LB_OK && !merged; i++)
        whole[i] = a->type[i] == LB_SPM_NORMAL &&
                   (a->flat_scores || lb_f32_bits(a->score[i]) == 0) &&
                   is_whole(a, &id_of, lengths.ptr, i);
    a->whole = whole;
    lb_texts_index_deinit(&id_of);
    lb_buf_deinit(&lengths);
    return st;
}

static bool is_added(const lb_tok_arrays *a, u64 i) {
    return a->type[i] == LB_SPM_CONTROL || a->type[i] == LB_SPM_USER_DEFINED ||
           a->type[i] == LB_SPM_UNKNOWN || lb_tok_is_whole(a, i);
}

/* ---- the post-processor ---- */

typedef struct end_token {
    bool on;
    lb_str text;
    u64 id;
} end_token;

static lb_status push_special(maker *m, lb_json *list, lb_str text, u32 type_id, lb_err *err) {
    lb_arena *p = m->a->arena;
    lb_json *o = lb_json_new_object(p), *s = lb_json_new_object(p);
    LB_TRY(put_str(m, s, "id", text, err));
    LB_TRY(put(m, s, "type_id", lb_json_new_u64(p, type_id), err));
    LB_TRY(put(m, o, "SpecialToken", s, err));
    return lb_json_push(list, o) ? LB_OK : no_memory(err);
}

static lb_status push_sequence(maker *m, lb_json *list, const char *name, u32 type_id,
                               lb_err *err) {
    lb_arena *p = m->a->arena;
    lb_json *o = lb_json_new_object(p), *s = lb_json_new_object(p);
    LB_TRY(put_str(m, s, "id", lb_str_c(name), err));
    LB_TRY(put(m, s, "type_id", lb_json_new_u64(p, type_id), err));
    LB_TRY(put(m, o, "Sequence", s, err));
    return lb_json_push(list, o) ? LB_OK : no_memory(err);
}

static lb_status put_known(maker *m, lb_json *known, const end_token *t, lb_err *err) {
    lb_arena *p = m->a->arena;
    lb_json *o = lb_json_new_object(p), *ids = lb_json_new_array(p), *texts = lb_json_new_array(p);
    lb_json *id = lb_json_new_u64(p, t->id), *text = lb_json_new_str(p, t->text);
    LB_TRY(put_str(m, o, "id", t->text, err));
    if (!ids || !texts || !id || !text || !lb_json_push(ids, id) || !lb_json_push(texts, text))
        return no_memory(err);
    LB_TRY(put(m, o, "ids", ids, err));
    LB_TRY(put(m, o, "tokens", texts, err));
    lb_buf key = {0};
    lb_buf_put_str(&key, t->text);
    lb_buf_put_u8(&key, 0);
    lb_status st = lb_buf_status(&key, err);
    if (st == LB_OK)
        st = put(m, known, (const char *)key.ptr, o, err);
    lb_buf_deinit(&key);
    return st;
}

typedef struct ends {
    end_token bos, eos;
    end_token sep; /* on: stands between the texts of a pair */
} ends;

/* Between the texts of a pair: EOS and BOS, as transformers writes it; or the separator, twice
 * where EOS closes a text (as RoBERTa). */
static lb_status push_middle(maker *m, lb_json *pair, const ends *e, lb_err *err) {
    for (u32 i = 0; e->sep.on && i < (e->eos.on ? 2u : 1u); i++)
        LB_TRY(push_special(m, pair, e->sep.text, 0, err));
    if (e->sep.on)
        return LB_OK;
    if (e->eos.on)
        LB_TRY(push_special(m, pair, e->eos.text, 0, err));
    return e->bos.on ? push_special(m, pair, e->bos.text, 1, err) : LB_OK;
}

static lb_status make_template(maker *m, const ends *e, lb_json **out, lb_err *err) {
    lb_arena *p = m->a->arena;
    lb_json *o = lb_json_new_object(p), *single = lb_json_new_array(p);
    lb_json *pair = lb_json_new_array(p), *known = lb_json_new_object(p);
    LB_TRY(put_str(m, o, "type", LB_STR("TemplateProcessing"), err));
    LB_TRY(put(m, o, "single", single, err));
    LB_TRY(put(m, o, "pair", pair, err));
    LB_TRY(put(m, o, "special_tokens", known, err));
    if (e->bos.on) {
        LB_TRY(push_special(m, single, e->bos.text, 0, err));
        LB_TRY(push_special(m, pair, e->bos.text, 0, err));
    }
    LB_TRY(push_sequence(m, single, "A", 0, err));
    LB_TRY(push_sequence(m, pair, "A", 0, err));
    LB_TRY(push_middle(m, pair, e, err));
    LB_TRY(push_sequence(m, pair, "B", 1, err));
    if (e->eos.on) {
        LB_TRY(push_special(m, single, e->eos.text, 0, err));
        LB_TRY(push_special(m, pair, e->eos.text, 1, err));
    }
    const end_token *all[] = {&e->bos, &e->eos, &e->sep};
    for (u32 i = 0; i < LB_LEN(all); i++)
        if (all[i]->on)
            LB_TRY(put_known(m, known, all[i], err));
    *out = o;
    return LB_OK;
}

/* fallback: whether BOS is added where the keys do not say. */
static lb_status put_post(maker *m, bool fallback, lb_err *err) {
    const lb_tok_arrays *a = m->a;
    ends e = {.bos.on = fallback};
    bool has_bos = flag_of(a, "tokenizer.ggml.add_bos_token", &e.bos.on);
    bool has_eos = flag_of(a, "tokenizer.ggml.add_eos_token", &e.eos.on);
    (void)flag_of(a, "tokenizer.ggml.add_sep_token", &e.sep.on);
    bool bos = token_of(a, "tokenizer.ggml.bos_token_id", &e.bos.text, &e.bos.id);
    bool eos = token_of(a, "tokenizer.ggml.eos_token_id", &e.eos.text, &e.eos.id);
    bool sep = token_of(a, "tokenizer.ggml.seperator_token_id", &e.sep.text, &e.sep.id);
    e.bos.on &= bos;
    e.eos.on &= eos;
    if (!sep) {
        e.sep.text = e.eos.text;
        e.sep.id = e.eos.id;
    }
    e.sep.on &= sep || eos;
    bool bytes = has_bos && has_eos && !lb_tok_is_spm(a);
    lb_json *template = NULL;
    if (e.bos.on || e.eos.on)
        LB_TRY(make_template(m, &e, &template, err));
    if (!bytes)
        return template ? put(m, m->root, "post_processor", template, err) : LB_OK;
    const lb_pre_form *f = lb_pre_form_by_name(a->pre);
    const char *text = f && (f->flags & LB_PRE_UNTRIMMED) ? decoder_bytes_untrimmed : post_bytes;
    if (!template)
        return put_literal(m, m->root, "post_processor", text, err);
    LB_TRY(put_literal(m, m->root, "post_processor", "{\"type\":\"Sequence\",\"processors\":[]}",
                       err));
    lb_json *list = lb_json_path(m->root, "post_processor.processors"), *first;
    LB_TRY(lb_json_parse(lb_str_c(text), "post_processor", a->arena, &first, err));
    return lb_json_push(list, first) && lb_json_push(list, template) ? LB_OK : no_memory(err);
}

/* ---- vocabulary ---- */

/* The reference decodes added tokens that are not marked normalized: one whose text, read in the
 * byte alphabet, is another text must be marked to come back as it is. */
static bool changes_when_decoded(const lb_tok_arrays *a, lb_str text) {
    lb_buf b = {0};
    bool changes =
        !lb_tok_is_spm(a) && lb_bytelevel_decode(&b, text) && !lb_str_eq(lb_buf_str(&b), text);
    lb_buf_deinit(&b);
    return changes;
}

static lb_status put_added(maker *m, const lb_texts *contents, lb_err *err) {
    const lb_tok_arrays *a = m->a;
    lb_arena *p = a->arena;
    lb_json *list = lb_json_get(m->root, "added_tokens");
    for (u64 i = 0; i < a->n; i++) {
        if (!is_added(a, i))
            continue;
        lb_str content = lb_texts_get(contents, i);
        lb_json *o = lb_json_new_object(p);
        LB_TRY(put(m, o, "id", lb_json_new_u64(p, i), err));
        LB_TRY(put_str(m, o, "content", content, err));
        LB_TRY(put_bool(m, o, "single_word", false, err));
        LB_TRY(put_bool(m, o, "lstrip", false, err));
        LB_TRY(put_bool(m, o, "rstrip", false, err));
        LB_TRY(put_bool(m, o, "normalized", changes_when_decoded(a, content), err));
        bool plain = a->type[i] == LB_SPM_USER_DEFINED || a->type[i] == LB_SPM_NORMAL;
        LB_TRY(put_bool(m, o, "special", !plain, err));
        if (!lb_json_push(list, o))
            return no_memory(err);
    }
    return LB_OK;
}

bool lb_tok_is_padding(const lb_tok_arrays *a, u64 i) {
    u64 id;
    lb_str t = lb_tok_text(a, i);
    return a->type[i] == LB_SPM_UNUSED && t.len > 6 && lb_str_starts(t, LB_STR("[PAD")) &&
           t.ptr[t.len - 1] == ']' && lb_str_to_u64(lb_str_sub(t, 4, t.len - 1), &id) && id == i;
}

/* The library numbers an added token that the vocabulary lacks one after the other behind it: those
 * at the end without a hole may be left out of the vocabulary, as the families do; others not. */
static void leave_out_last(maker *m) {
    const lb_tok_arrays *a = m->a;
    u64 end = a->n, first;
    while (end && !lb_texts_has(&m->token, end - 1))
        end--;
    for (first = end; first && is_added(a, first - 1) && a->type[first - 1] != LB_SPM_NORMAL;
         first--) {
    }
    u64 in_vocab = 0;
    for (u64 i = 0; i < first; i++)
        in_vocab += lb_texts_has(&m->token, i);
    if (in_vocab != first) /* a hole: the library would number them lower */
        return;
    for (u64 i = first; i < end; i++)
        lb_texts_unset(&m->token, i);
}

static bool in_vocab(const maker *m, lb_str text) {
    u64 id;
    return lb_texts_index_find(&m->all, m->a->token, text, &id) && lb_texts_has(&m->token, id);
}

/* Merges whose parts and result the vocabulary has; the library refuses a file with others, and for
 * llama.cpp they lead nowhere. */
static lb_status next_held(void *ctx, lb_str pair[2], bool *more, lb_err *err) {
    maker *m = ctx;
    lb_hf_merges all = {m->out.next, &m->merges};
    do {
        LB_TRY(all.next(all.ctx, pair, more, err));
        if (!*more)
            return LB_OK;
        lb_buf_reset(&m->joined);
        lb_buf_put_str(&m->joined, pair[0]);
        lb_buf_put_str(&m->joined, pair[1]);
        LB_TRY(lb_buf_status(&m->joined, err));
    } while (!in_vocab(m, pair[0]) || !in_vocab(m, pair[1]) ||
             !in_vocab(m, lb_buf_str(&m->joined)));
    return LB_OK;
}

/* Every text has one id. */
static lb_status index_tokens(maker *m, lb_err *err) {
    const lb_tok_arrays *a = m->a;
    for (u64 i = 0; i < a->n; i++) {
        u64 first;
        LB_TRY(lb_texts_index_put(&m->all, a->token, i, &first, err));
        if (first != i)
            return lb_fail(err, LB_E_FORMAT,
                           "tokenizer.ggml.tokens: token %llu: \"%.*s\" is there twice",
                           (unsigned long long)i, (int)LB_MIN(lb_tok_text(a, i).len, (size_t)80),
                           lb_tok_text(a, i).ptr);
    }
    return LB_OK;
}

static lb_status begin(maker *m, lb_err *err) {
    const lb_tok_arrays *a = m->a;
    LB_TRY(index_tokens(m, err));
    LB_TRY(lb_json_parse(lb_str_c(skeleton_text), "tokenizer.json", a->arena, &m->root, err));
    m->model = lb_json_get(m->root, "model");
    LB_TRY(lb_texts_resize(&m->token, a->n, err));
    LB_TRY(lb_texts_reserve(&m->token, a->n, a->token->pool.len, err));
    for (u64 i = 0; i < a->n; i++)
        if (!lb_tok_is_padding(a, i))
            LB_TRY(lb_texts_set(&m->token, i, lb_tok_text(a, i), err));
    return LB_OK;
}

/* ---- byte-level BPE ---- */

static lb_status make_bpe(maker *m, const lb_pre_form *f, lb_err *err) {
    const lb_tok_arrays *a = m->a;
    lb_arena *p = a->arena;
    bool raw = f->flags & LB_PRE_RAW;
    LB_TRY(put_added(m, a->token, err));
    if (!raw || lb_tok_is_merged_spm(a))
        leave_out_last(m);
    m->out = lb_tok_merges(&m->merges, a);
    LB_TRY(put(m, m->root, "normalizer", lb_pre_form_normalizer(f, p), err));
    LB_TRY(put(m, m->root, "pre_tokenizer", lb_pre_form_pre_tokenizer(f, p), err));
    LB_TRY(put_post(m, (f->flags & LB_PRE_BOS) != 0 || raw, err));
    LB_TRY(put_literal(m, m->root, "decoder",
                       raw                           ? decoder_spm
                       : f->flags & LB_PRE_UNTRIMMED ? decoder_bytes_untrimmed
                                                     : decoder_bytes,
                       err));
    LB_TRY(put_bool(m, m->model, "ignore_merges", (f->flags & LB_PRE_IGNORE_MERGES) != 0, err));
    if (!raw)
        return LB_OK;
    lb_str unk;
    u64 id;
    if (token_of(a, "tokenizer.ggml.unknown_token_id", &unk, &id))
        LB_TRY(put_str(m, m->model, "unk_token", unk, err));
    LB_TRY(put_bool(m, m->model, "fuse_unk", true, err));
    return put_bool(m, m->model, "byte_fallback", true, err);
}

/* ---- SentencePiece ---- */

static bool all_spaces(lb_str t) {
    for (size_t i = 0; i < t.len; i++)
        if (t.ptr[i] != ' ')
            return false;
    return t.len > 0;
}

/* User-defined runs of spaces are spaces in a GGUF and U+2581 in a vocabulary. */
lb_status lb_tok_piece_text(const lb_tok_arrays *a, u64 i, lb_str *out, lb_err *err) {
    *out = lb_tok_text(a, i);
    if (!lb_tok_is_spm(a) || a->type[i] != LB_SPM_USER_DEFINED || !all_spaces(*out))
        return LB_OK;
    char *text = lb_arena_push(a->arena, out->len * 3 + 1, 1);
    if (!text)
        return no_memory(err);
    for (size_t k = 0; k < out->len; k++)
        memcpy(text + 3 * k, PIECE_SPACE, 3);
    *out = (lb_str){text, out->len * 3};
    return LB_OK;
}

static lb_status spm_merges(maker *m, bool prefix, lb_err *err) {
    const lb_tok_arrays *a = m->a;
    lb_texts_index_deinit(&m->all); /* by other texts from here */
    for (u64 i = 0; i < a->n; i++) {
        u64 first;
        if (!lb_texts_has(&m->token, i))
            continue;
        LB_TRY(lb_texts_index_put(&m->in_file, &m->token, i, &first, err));
        if (first != i)
            return lb_fail(err, LB_E_FORMAT,
                           "tokenizer.ggml.tokens: token %llu: its text is there twice",
                           (unsigned long long)i);
    }
    lb_tok_pieces pieces = {&m->token, &m->in_file, a->type, a->score, a->n};
    LB_TRY(lb_tok_cuts_begin(&m->cuts, &pieces, !prefix, err));
    m->out = lb_tok_cuts_merges(&m->cuts);
    return LB_OK;
}

static lb_status make_spm(maker *m, lb_err *err) {
    const lb_tok_arrays *a = m->a;
    bool prefix = true, bytes = false;
    (void)flag_of(a, "tokenizer.ggml.add_space_prefix", &prefix);
    if (!a->has_scores)
        return lb_fail(err, LB_E_FORMAT, "tokenizer.ggml.scores: a \"llama\" tokenizer needs them");
    for (u64 i = 0; i < a->n; i++) {
        lb_str text;
        LB_TRY(lb_tok_piece_text(a, i, &text, err));
        if (lb_texts_has(&m->token, i) && text.ptr != lb_tok_text(a, i).ptr)
            LB_TRY(lb_texts_set(&m->token, i, text, err));
    }
    LB_TRY(put_added(m, &m->token, err));
    /* Flat scores come from a tokenizer.json, where what was added stands outside the vocabulary.
     */
    if (a->flat_scores)
        leave_out_last(m);
    LB_TRY(spm_merges(m, prefix, err));
    LB_TRY(put_literal(m, m->root, "normalizer", prefix ? normalizer_spm_prefix : normalizer_spm,
                       err));
    if (!prefix)
        LB_TRY(put_literal(m, m->root, "pre_tokenizer", split_spm, err));
    LB_TRY(put_post(m, true, err));
    LB_TRY(put_literal(m, m->root, "decoder", prefix ? decoder_spm_prefix : decoder_spm, err));
    lb_str unk = LB_STR_NONE;
    u64 id;
    bool has_unk = token_of(a, "tokenizer.ggml.unknown_token_id", &unk, &id);
    for (u64 i = 0; i < a->n; i++) {
        bytes |= a->type[i] == LB_SPM_BYTE;
        if (!has_unk && a->type[i] == LB_SPM_UNKNOWN) {
            has_unk = true;
            unk = lb_tok_text(a, i);
        }
    }
    if (has_unk)
        LB_TRY(put_str(m, m->model, "unk_token", unk, err));
    LB_TRY(put_bool(m, m->model, "fuse_unk", true, err));
    return put_bool(m, m->model, "byte_fallback", bytes, err);
}

/* ---- ---- */

static lb_status write_out(maker *m, lb_out *out, lb_err *err) {
    lb_buf skeleton = {0};
    lb_json_write(&skeleton, m->root, (lb_json_style){.indent = 2});
    lb_status st = lb_buf_status(&skeleton, err);
    lb_hf_parts parts = {.skeleton = lb_buf_str(&skeleton), .token = &m->token, .merges = m->out};
    if (!lb_tok_is_spm(m->a))
        parts.merges = (lb_hf_merges){next_held, m};
    if (st == LB_OK)
        st = lb_hf_write(&parts, out, err);
    lb_buf_deinit(&skeleton);
    return st;
}

static lb_status make(maker *m, lb_err *err) {
    const lb_tok_arrays *a = m->a;
    LB_TRY(begin(m, err));
    if (lb_tok_is_spm(a))
        return make_spm(m, err);
    lb_str pre = lb_tok_is_merged_spm(a) ? a->model : a->pre;
    const lb_pre_form *f = lb_pre_form_by_name(pre);
    if (!f)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tokenizer.ggml.pre \"%.*s\": its pattern is not known; name one that "
                       "cuts alike with --set tokenizer.ggml.pre=str:NAME",
                       LB_FMT(pre));
    return make_bpe(m, f, err);
}

lb_status lb_tok_rebuild_json(const lb_tok_arrays *a, lb_out *out, lb_err *err) {
    maker m = {.a = a};
    if (!lb_tok_is_spm(a) && !lb_tok_is_merged_spm(a) && !lb_str_eq_c(a->model, "gpt2"))
        return lb_fail(
            err, LB_E_UNSUPPORTED,
            "tokenizer.ggml.model \"%.*s\": only \"gpt2\" (byte-level BPE) and \"llama\" "
            "(SentencePiece) can be written as a tokenizer.json",
            LB_FMT(a->model));
    lb_status st = make(&m, err);
    if (st == LB_OK)
        st = write_out(&m, out, err);
    lb_texts_deinit(&m.token);
    lb_texts_index_deinit(&m.all);
    lb_texts_index_deinit(&m.in_file);
    lb_tok_cuts_end(&m.cuts);
    lb_buf_deinit(&m.joined);
    return st;
}
