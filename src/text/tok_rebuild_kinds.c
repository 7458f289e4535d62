/* SPDX-License-Identifier: Apache-2.0 */
/* tok_rebuild_kinds.c: a tokenizer.json of WordPiece (GGUF "bert") or Unigram (GGUF "t5").
 *
 * Keys and meaning: llama.cpp's src/llama-vocab.cpp (llm_tokenizer_wpm, llm_tokenizer_ugm) and
 * conversion/bert.py, t5.py of llama-cpp-python 0.3.36. Where llama.cpp and the tokenizers library
 * differ, the file says what the originals of these models say: words of more than 100 characters
 * are unknown, byte tokens are used where there are any. */
#include "text/tok_rebuild.h"

#include "text/charsmap.h"
#include "text/spm.h"
#include "text/tok_sheet.h"

#define PIECE_SPACE "\xe2\x96\x81" /* U+2581 */

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer.json: out of memory");
}

static lb_status put_parts(lb_tok_sheet *s, const lb_hf_parts *rest, lb_hf_put *put, void *ctx,
                           lb_err *err) {
    lb_buf skeleton = {0};
    lb_hf_parts parts = *rest;
    lb_json_write(&skeleton, s->root, (lb_json_style){.indent = 2});
    lb_status st = lb_buf_status(&skeleton, err);
    parts.skeleton = lb_buf_str(&skeleton);
    if (st == LB_OK)
        st = put(ctx, &parts, err);
    lb_buf_deinit(&skeleton);
    return st;
}

static lb_status refuse_twice(const lb_tok_arrays *a, u64 i, lb_err *err) {
    return lb_fail(err, LB_E_FORMAT, "tokenizer.ggml.tokens: token %llu: \"%.*s\" is there twice",
                   (unsigned long long)i, (int)LB_MIN(lb_tok_text(a, i).len, (size_t)80),
                   lb_tok_text(a, i).ptr);
}

/* ---- WordPiece ---- */

static const char wordpiece_text[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],"
    "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
    "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":null,"
    "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
    "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,"
    "\"vocab\":{\"a\":0,\"b\":1}}}";

/* vocab [n]: a number without a token is left out. */
static lb_status word_pieces(const lb_tok_arrays *a, lb_texts *vocab, lb_err *err) {
    lb_texts_index seen = {0};
    lb_status st = lb_texts_resize(vocab, a->n, err);
    for (u64 i = 0; i < a->n && st == LB_OK; i++) {
        u64 first = i;
        if (lb_tok_is_padding(a, i))
            continue;
        st = lb_texts_set(vocab, i, lb_tok_text(a, i), err);
        if (st == LB_OK)
            st = lb_texts_index_put(&seen, vocab, i, &first, err);
        if (st == LB_OK && first != i)
            st = refuse_twice(a, i, err);
    }
    lb_texts_index_deinit(&seen);
    return st;
}

static lb_status put_wordpiece(lb_tok_sheet *s, const lb_texts *vocab, lb_err *err) {
    const lb_tok_arrays *a = s->a;
    lb_json *norm = lb_json_get(s->root, "normalizer"), *template = NULL;
    lb_tok_end unk;
    lb_tok_ends e = {.n_sep = 1};
    bool lower = true, accents;
    (void)lb_tok_flag(a, "tokenizer.ggml.normalizer.lowercase", &lower);
    LB_TRY(lb_sheet_put_bool(s, norm, "lowercase", lower, err));
    if (lb_tok_flag(a, "tokenizer.ggml.normalizer.strip_accents", &accents))
        LB_TRY(lb_sheet_put_bool(s, norm, "strip_accents", accents, err));
    if (!lb_tok_end_of(a, "tokenizer.ggml.unknown_token_id", 100, &unk) ||
        !lb_tok_end_of(a, "tokenizer.ggml.seperator_token_id", 102, &e.sep) ||
        (!lb_tok_end_of(a, "tokenizer.ggml.bos_token_id", UINT64_MAX, &e.bos) &&
         !lb_tok_end_of(a, "tokenizer.ggml.cls_token_id", 101, &e.bos)))
        return lb_fail(
            err, LB_E_FORMAT,
            "tokenizer.ggml: a \"bert\" tokenizer needs the ids of its first, separating "
            "and unknown tokens (bos_token_id, seperator_token_id, unknown_token_id)");
    e.eos = e.sep;
    LB_TRY(lb_sheet_put_added(s, vocab, err));
    LB_TRY(lb_sheet_template(s, &e, &template, err));
    LB_TRY(lb_sheet_put(s, s->root, "post_processor", template, err));
    return lb_sheet_put_str(s, s->model, "unk_token", unk.text, err);
}

lb_status lb_tok_rebuild_wordpiece(const lb_tok_arrays *a, lb_hf_put *put, void *ctx, lb_err *err) {
    lb_tok_sheet s = {.a = a};
    lb_texts vocab = {0};
    lb_hf_parts parts = {.token = &vocab};
    lb_status st = lb_sheet_begin(&s, wordpiece_text, err);
    if (st == LB_OK)
        st = word_pieces(a, &vocab, err);
    if (st == LB_OK)
        st = put_wordpiece(&s, &vocab, err);
    if (st == LB_OK)
        st = put_parts(&s, &parts, put, ctx, err);
    lb_texts_deinit(&vocab);
    return st;
}

/* ---- Unigram ---- */

/* SentencePiece's normalizer: its table of characters, then its treatment of spaces. What the table
 * makes of a text has no other space than U+0020. */
static const char unigram_text[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[]},\"pre_tokenizer\":null,"
    "\"post_processor\":null,\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"" PIECE_SPACE
    "\",\"prepend_scheme\":\"always\",\"split\":true},"
    "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\",0.0],[\"b\",0.0]],"
    "\"byte_fallback\":false}}";
static const char trim_ends[] = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\A +| +\\\\z\"},"
                                "\"content\":\"\"}";
static const char merge_spaces[] = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},"
                                   "\"content\":\" \"}";
static const char put_prefix[] = "{\"type\":\"Prepend\",\"prepend\":\"" PIECE_SPACE "\"}";
static const char mark_spaces[] = "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
                                  "\"content\":\"" PIECE_SPACE "\"}";

static lb_status push_step(lb_tok_sheet *s, lb_json *list, const char *text, lb_err *err) {
    lb_json *v;
    LB_TRY(lb_json_parse(lb_str_c(text), "normalizer", s->a->arena, &v, err));
    return lb_json_push(list, v) ? LB_OK : no_memory(err);
}

static lb_status push_charsmap(lb_tok_sheet *s, lb_json *list, lb_str map, lb_err *err) {
    lb_arena *p = s->a->arena;
    lb_buf text = {0};
    lb_json *o = lb_json_new_object(p);
    lb_base64_encode(map, &text);
    lb_status st = lb_buf_status(&text, err);
    if (st == LB_OK)
        st = lb_sheet_put_str(s, o, "type", LB_STR("Precompiled"), err);
    if (st == LB_OK)
        st =
            lb_sheet_put_str(s, o, "precompiled_charsmap", lb_arena_str(p, lb_buf_str(&text)), err);
    lb_buf_deinit(&text);
    return st == LB_OK && !lb_json_push(list, o) ? no_memory(err) : st;
}

static lb_status put_normalizer(lb_tok_sheet *s, lb_err *err) {
    const lb_tok_arrays *a = s->a;
    lb_json *list = lb_json_path(s->root, "normalizer.normalizers");
    bool prefix = true, merge = false;
    lb_str map;
    (void)lb_tok_flag(a, "tokenizer.ggml.add_space_prefix", &prefix);
    (void)lb_tok_flag(a, "tokenizer.ggml.remove_extra_whitespaces", &merge);
    LB_TRY(lb_tok_charsmap(a, &map, err));
    if (map.len)
        LB_TRY(push_charsmap(s, list, map, err));
    if (merge) {
        LB_TRY(push_step(s, list, trim_ends, err));
        LB_TRY(push_step(s, list, merge_spaces, err));
    }
    if (prefix)
        LB_TRY(push_step(s, list, put_prefix, err));
    else
        LB_TRY(lb_sheet_put_str(s, lb_json_get(s->root, "decoder"), "prepend_scheme",
                                LB_STR("never"), err));
    return push_step(s, list, mark_spaces, err);
}

static lb_status put_unigram(lb_tok_sheet *s, lb_err *err) {
    const lb_tok_arrays *a = s->a;
    lb_tok_end unk;
    bool bytes = false;
    u64 unknown = 2; /* llama.cpp's, where no token is typed so */
    if (!a->has_scores)
        return lb_fail(err, LB_E_FORMAT, "tokenizer.ggml.scores: a \"t5\" tokenizer needs them");
    for (u64 i = a->n; i-- > 0;) {
        if (a->score[i] - a->score[i] != 0)
            return lb_fail(err, LB_E_FORMAT, "tokenizer.ggml.scores: that of token %llu is none",
                           (unsigned long long)i);
        bytes |= a->type[i] == LB_SPM_BYTE;
        if (a->type[i] == LB_SPM_UNKNOWN)
            unknown = i;
    }
    if (!lb_tok_end_of(a, "tokenizer.ggml.unknown_token_id", unknown, &unk))
        return lb_fail(err, LB_E_FORMAT,
                       "tokenizer.ggml.unknown_token_id: a \"t5\" tokenizer needs it");
    LB_TRY(put_normalizer(s, err));
    LB_TRY(lb_sheet_put_added(s, a->token, err));
    LB_TRY(
        lb_sheet_put_post(s, &(lb_tok_post){.eos = true, .bos_id = UINT64_MAX, .eos_id = 1}, err));
    LB_TRY(lb_sheet_put(s, s->model, "unk_id", lb_json_new_u64(a->arena, unk.id), err));
    return lb_sheet_put_bool(s, s->model, "byte_fallback", bytes, err);
}

lb_status lb_tok_rebuild_unigram(const lb_tok_arrays *a, lb_hf_put *put, void *ctx, lb_err *err) {
    lb_tok_sheet s = {.a = a};
    lb_hf_parts parts = {.token = a->token, .score = a->score};
    LB_TRY(lb_sheet_begin(&s, unigram_text, err));
    LB_TRY(put_unigram(&s, err));
    return put_parts(&s, &parts, put, ctx, err);
}
