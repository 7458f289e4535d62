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
#include "text/tok_sheet.h"

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
    lb_tok_sheet s;
    lb_texts token;         /* model.vocab by id */
    lb_texts_index in_file; /* SentencePiece: of token */
    lb_tok_cuts cuts;       /* SentencePiece: its merges */
    u64 at;                 /* byte-level: place in the GGUF's merges */
    lb_hf_merges out;
} maker;

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer.json: out of memory");
}

/* ---- vocabulary ---- */

bool lb_tok_is_padding(const lb_tok_arrays *a, u64 i) {
    u64 id;
    lb_str t = lb_tok_text(a, i);
    return a->type[i] == LB_SPM_UNUSED && t.len > 6 && lb_str_starts(t, LB_STR("[PAD")) &&
           t.ptr[t.len - 1] == ']' && lb_str_to_u64(lb_str_sub(t, 4, t.len - 1), &id) && id == i;
}

/* The library numbers an added token that the vocabulary lacks one after the other behind it: those
 * at the end without a hole may be left out of the vocabulary, as the families do; others not. */
static void leave_out_last(maker *m) {
    const lb_tok_arrays *a = m->s.a;
    u64 end = a->n, first;
    while (end && !lb_texts_has(&m->token, end - 1))
        end--;
    for (first = end; first && lb_tok_is_added(a, first - 1) && a->type[first - 1] != LB_SPM_NORMAL;
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

/* Merges whose parts and result the vocabulary has; the library refuses a file with others, and for
 * llama.cpp they lead nowhere. */
static lb_status next_held(void *ctx, lb_str pair[2], bool *more, lb_err *err) {
    maker *m = ctx;
    const lb_tok_arrays *a = m->s.a;
    (void)err;
    for (*more = false; !*more && a->merges && m->at < a->merges->n; m->at++) {
        const u32 *id = a->merge_id + 3 * m->at;
        *more = lb_texts_has(&m->token, id[0]) && lb_texts_has(&m->token, id[1]) &&
                lb_texts_has(&m->token, id[2]);
        if (*more)
            lb_tok_merge(a, m->at, pair);
    }
    return LB_OK;
}

static lb_status begin(maker *m, lb_err *err) {
    const lb_tok_arrays *a = m->s.a;
    LB_TRY(lb_sheet_begin(&m->s, skeleton_text, err));
    LB_TRY(lb_texts_copy(&m->token, a->token, err));
    for (u64 i = 0; i < a->n; i++)
        if (lb_tok_is_padding(a, i))
            lb_texts_unset(&m->token, i);
    return LB_OK;
}

/* ---- byte-level BPE ---- */

static lb_status make_bpe(maker *m, const lb_pre_form *f, lb_err *err) {
    const lb_tok_arrays *a = m->s.a;
    lb_arena *p = a->arena;
    bool raw = f->flags & LB_PRE_RAW;
    LB_TRY(lb_sheet_put_added(&m->s, a->token, err));
    if (!raw || lb_tok_is_merged_spm(a))
        leave_out_last(m);
    m->out = (lb_hf_merges){next_held, m};
    LB_TRY(lb_sheet_put(&m->s, m->s.root, "normalizer", lb_pre_form_normalizer(f, p), err));
    LB_TRY(lb_sheet_put(&m->s, m->s.root, "pre_tokenizer", lb_pre_form_pre_tokenizer(f, p), err));
    /* llama.cpp's own ids here are 11: that of "," in all vocabularies of this kind */
    lb_tok_post post = {.bos = (f->flags & LB_PRE_BOS) != 0,
                        .bos_always = (f->flags & LB_PRE_BOS_ALWAYS) != 0,
                        .bos_id = UINT64_MAX,
                        .eos_id = UINT64_MAX};
    LB_TRY(lb_sheet_put_post(&m->s, &post, err));
    LB_TRY(lb_sheet_put_json(&m->s, m->s.root, "decoder",
                             raw                           ? decoder_spm
                             : f->flags & LB_PRE_UNTRIMMED ? decoder_bytes_untrimmed
                                                           : decoder_bytes,
                             err));
    LB_TRY(lb_sheet_put_bool(&m->s, m->s.model, "ignore_merges",
                             (f->flags & LB_PRE_IGNORE_MERGES) != 0, err));
    if (!raw)
        return LB_OK;
    lb_str unk;
    u64 id;
    if (lb_tok_named_token(a, "tokenizer.ggml.unknown_token_id", &unk, &id))
        LB_TRY(lb_sheet_put_str(&m->s, m->s.model, "unk_token", unk, err));
    LB_TRY(lb_sheet_put_bool(&m->s, m->s.model, "fuse_unk", true, err));
    return lb_sheet_put_bool(&m->s, m->s.model, "byte_fallback", true, err);
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
    const lb_tok_arrays *a = m->s.a;
    LB_TRY(lb_names_copy(&m->in_file, &a->id_of, err));
    for (u64 i = 0; i < a->n; i++) {
        u64 first;
        if (!lb_texts_has(&m->token, i) || lb_str_eq(lb_texts_get(&m->token, i), lb_tok_text(a, i)))
            continue; /* it is there */
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
    const lb_tok_arrays *a = m->s.a;
    bool prefix = true, bytes = false;
    (void)lb_tok_flag(a, "tokenizer.ggml.add_space_prefix", &prefix);
    if (!a->has_scores)
        return lb_fail(err, LB_E_FORMAT, "tokenizer.ggml.scores: a \"llama\" tokenizer needs them");
    /* With a prefix the originals match runs of spaces in the text as it is, and so does llama.cpp;
     * without one (gemma) they come of merges. */
    for (u64 i = 0; i < a->n && !prefix; i++) {
        lb_str text;
        LB_TRY(lb_tok_piece_text(a, i, &text, err));
        if (lb_texts_has(&m->token, i) && text.ptr != lb_tok_text(a, i).ptr)
            LB_TRY(lb_texts_set(&m->token, i, text, err));
    }
    LB_TRY(lb_sheet_put_added(&m->s, &m->token, err));
    /* Flat scores come from a tokenizer.json, where what was added stands outside the vocabulary.
     */
    if (a->flat_scores)
        leave_out_last(m);
    LB_TRY(spm_merges(m, prefix, err));
    LB_TRY(lb_sheet_put_json(&m->s, m->s.root, "normalizer",
                             prefix ? normalizer_spm_prefix : normalizer_spm, err));
    if (!prefix)
        LB_TRY(lb_sheet_put_json(&m->s, m->s.root, "pre_tokenizer", split_spm, err));
    LB_TRY(lb_sheet_put_post(&m->s, &(lb_tok_post){.bos = true, .bos_id = 1, .eos_id = 2}, err));
    LB_TRY(lb_sheet_put_json(&m->s, m->s.root, "decoder", prefix ? decoder_spm_prefix : decoder_spm,
                             err));
    lb_str unk = LB_STR_NONE;
    u64 id;
    bool has_unk = lb_tok_named_token(a, "tokenizer.ggml.unknown_token_id", &unk, &id);
    for (u64 i = 0; i < a->n; i++) {
        bytes |= a->type[i] == LB_SPM_BYTE;
        if (!has_unk && a->type[i] == LB_SPM_UNKNOWN) {
            has_unk = true;
            unk = lb_tok_text(a, i);
        }
    }
    if (has_unk)
        LB_TRY(lb_sheet_put_str(&m->s, m->s.model, "unk_token", unk, err));
    LB_TRY(lb_sheet_put_bool(&m->s, m->s.model, "fuse_unk", true, err));
    return lb_sheet_put_bool(&m->s, m->s.model, "byte_fallback", bytes, err);
}

/* ---- ---- */

static lb_status put_parts(maker *m, lb_hf_put *put, void *ctx, lb_err *err) {
    const lb_tok_arrays *a = m->s.a;
    lb_buf skeleton = {0};
    lb_json_write(&skeleton, m->s.root, (lb_json_style){.indent = 2});
    lb_status st = lb_buf_status(&skeleton, err);
    lb_hf_parts parts = {.skeleton = lb_buf_str(&skeleton),
                         .token = &m->token,
                         .merges = m->out,
                         .id_of = &a->id_of};
    if (lb_tok_is_spm(a)) {
        parts.id_of = &m->in_file;
        parts.cuts = &m->cuts;
    } else if (a->merges) {
        parts.merge_id = a->merge_id;
        parts.n_merge_ids = a->merges->n;
    }
    if (st == LB_OK)
        st = put(ctx, &parts, err);
    lb_buf_deinit(&skeleton);
    return st;
}

static const lb_pre_form *form_of(const lb_tok_arrays *a) {
    return lb_pre_form_by_name(lb_tok_is_merged_spm(a) ? a->model : a->pre);
}

lb_status lb_tok_check_form(const lb_tok_arrays *a, lb_err *err) {
    if (lb_tok_is_spm(a) || lb_tok_is_unigram(a) || lb_str_eq_c(a->model, "bert"))
        return LB_OK;
    if (!lb_tok_is_merged_spm(a) && !lb_str_eq_c(a->model, "gpt2"))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tokenizer.ggml.model \"%.*s\" has no form in a tokenizer.json; \"gpt2\" "
                       "(byte-level BPE), \"llama\" (SentencePiece), \"gemma4\", \"bert\" "
                       "(WordPiece) and \"t5\" (Unigram) have",
                       LB_FMT(a->model));
    if (form_of(a))
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "tokenizer.ggml.pre \"%.*s\": its pattern is not known; name one that "
                   "cuts alike with --set tokenizer.ggml.pre=str:NAME",
                   LB_FMT(a->pre));
}

lb_status lb_tok_rebuild_json(const lb_tok_arrays *a, lb_hf_put *put, void *ctx, lb_err *err) {
    maker m = {.s.a = a};
    LB_TRY(lb_tok_check_form(a, err));
    if (lb_str_eq_c(a->model, "bert"))
        return lb_tok_rebuild_wordpiece(a, put, ctx, err);
    if (lb_tok_is_unigram(a))
        return lb_tok_rebuild_unigram(a, put, ctx, err);
    lb_status st = begin(&m, err);
    if (st == LB_OK)
        st = lb_tok_is_spm(a) ? make_spm(&m, err) : make_bpe(&m, form_of(a), err);
    if (st == LB_OK)
        st = put_parts(&m, put, ctx, err);
    lb_texts_deinit(&m.token);
    lb_texts_index_deinit(&m.in_file);
    lb_tok_cuts_end(&m.cuts);
    return st;
}
