/* SPDX-License-Identifier: Apache-2.0 */
/* tok_arrays.c: the tokenizer arrays of a GGUF. */
#include "text/tok_rebuild.h"

#include "text/spm.h"
#include <stdio.h>

#define PIECE_SPACE "\xe2\x96\x81" /* U+2581 */

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer: out of memory");
}

bool lb_tok_is_spm(const lb_tok_arrays *a) {
    return lb_str_eq_c(a->model, "llama");
}

bool lb_tok_is_merged_spm(const lb_tok_arrays *a) {
    return lb_str_eq_c(a->model, "gemma4");
}

bool lb_tok_is_unigram(const lb_tok_arrays *a) {
    return lb_str_eq_c(a->model, "t5");
}

/* An array key of n elements; NULL where it is absent. */
static lb_status find_array(const lb_gguf_meta *meta, const char *key, u64 n,
                            const lb_gguf_kv **out, lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find(meta, key);
    *out = kv;
    if (!kv)
        return LB_OK;
    if (kv->type != LB_GGUF_ARRAY)
        return lb_fail(err, LB_E_FORMAT, "%s: an array is expected", key);
    if (kv->n < n)
        return lb_fail(err, LB_E_FORMAT, "%s: %llu entries for %llu tokens", key,
                       (unsigned long long)kv->n, (unsigned long long)n);
    return LB_OK;
}

/* llama.cpp's name for it. */
static lb_status name_empty(lb_tok_arrays *a, u64 i, lb_err *err) {
    char text[40];
    if (a->token != &a->own)
        LB_TRY(lb_texts_copy(&a->own, a->token, err));
    a->token = &a->own;
    (void)snprintf(text, sizeof text, "[EMPTY_%llu]", (unsigned long long)i);
    return lb_texts_set(&a->own, i, lb_str_c(text), err);
}

/* WordPiece: GGUF marks the pieces that begin a word, a vocabulary those that go on with one
 * (conversion/bert.py). */
static lb_status mark_inner(lb_tok_arrays *a, lb_err *err) {
    lb_texts pieces = {0};
    lb_buf b = {0};
    lb_status st = lb_texts_resize(&pieces, a->n, err);
    for (u64 i = 0; i < a->n && st == LB_OK; i++) {
        lb_str t = lb_tok_text(a, i);
        bool first = t.len > 3 && lb_str_starts(t, LB_STR(PIECE_SPACE));
        bool added = a->type[i] == LB_SPM_CONTROL || a->type[i] == LB_SPM_USER_DEFINED ||
                     a->type[i] == LB_SPM_UNKNOWN;
        lb_buf_reset(&b);
        if (!first && !added)
            lb_buf_put_c(&b, "##");
        lb_buf_put_str(&b, lb_str_sub(t, first ? 3 : 0, t.len));
        st = lb_buf_status(&b, err);
        if (st == LB_OK)
            st = lb_texts_set(&pieces, i, lb_buf_str(&b), err);
    }
    lb_buf_deinit(&b);
    lb_texts_deinit(&a->own);
    a->own = pieces;
    a->token = &a->own;
    return st;
}

static lb_status read_tokens(lb_tok_arrays *a, lb_err *err) {
    const lb_gguf_kv *tokens, *types, *scores;
    LB_TRY(find_array(a->meta, "tokenizer.ggml.tokens", 0, &tokens, err));
    if (!tokens || tokens->elem != LB_GGUF_STR || tokens->n > UINT32_MAX / 2)
        return lb_fail(err, LB_E_NOT_FOUND,
                       "tokenizer.ggml.tokens: no list of tokens: the file has no tokenizer");
    a->n = tokens->n;
    LB_TRY(find_array(a->meta, "tokenizer.ggml.token_type", a->n, &types, err));
    LB_TRY(find_array(a->meta, "tokenizer.ggml.scores", a->n, &scores, err));
    a->has_scores = scores != NULL;
    a->token = tokens->v.texts;
    a->type = lb_arena_new(a->arena, u8, a->n);
    a->score = lb_arena_new(a->arena, float, a->n);
    if (a->n && (!a->type || !a->score))
        return no_memory(err);
    for (u64 i = 0; i < a->n; i++) {
        i64 type = LB_SPM_NORMAL;
        double score = 0;
        bool ok = (!types || lb_kv_elem_i64(types, i, &type)) &&
                  (!scores || lb_kv_elem_f64(scores, i, &score));
        if (!ok || type < 0 || type > LB_SPM_BYTE || score != score)
            return lb_fail(err, LB_E_FORMAT,
                           "tokenizer.ggml: token %llu: its type or score is none",
                           (unsigned long long)i);
        if (!lb_str_is_utf8(lb_tok_text(a, i)))
            return lb_fail(
                err, LB_E_FORMAT,
                "tokenizer.ggml.tokens: token %llu is not UTF-8: a tokenizer.json has no "
                "form for it",
                (unsigned long long)i);
        if (lb_tok_text(a, i).len == 0)
            LB_TRY(name_empty(a, i, err));
        a->type[i] = (u8)(type ? type : LB_SPM_NORMAL);
        a->score[i] = (float)score;
    }
    return LB_OK;
}

/* Some converters give all tokens one score. A SentencePiece vocabulary stands in the order of its
 * scores, so the places stand in for them. */
static void replace_flat_scores(lb_tok_arrays *a) {
    u64 first = UINT64_MAX;
    bool flat = a->has_scores;
    for (u64 i = 0; i < a->n && flat; i++) {
        if (a->type[i] != LB_SPM_NORMAL)
            continue;
        if (first == UINT64_MAX)
            first = i;
        flat = a->score[i] == a->score[first];
    }
    a->flat_scores = flat && first != UINT64_MAX;
    for (u64 i = 0; i < a->n && a->flat_scores; i++)
        a->score[i] = -(float)i;
}

/* "left right": cut at the first space behind the first byte, as llama.cpp does. */
static bool cut_merge(const lb_gguf_kv *merges, u64 i, lb_str pair[2]) {
    lb_str both;
    const char *space = NULL;
    if (lb_kv_elem_str(merges, i, &both) && both.len > 1)
        space = memchr(both.ptr + 1, ' ', both.len - 1);
    if (!space)
        return false;
    size_t at = (size_t)(space - both.ptr);
    pair[0] = lb_str_sub(both, 0, at);
    pair[1] = lb_str_sub(both, at + 1, both.len);
    return true;
}

static lb_status read_merges(lb_tok_arrays *a, lb_err *err) {
    lb_str pair[2];
    LB_TRY(find_array(a->meta, "tokenizer.ggml.merges", 0, &a->merges, err));
    for (u64 i = 0; a->merges && i < a->merges->n; i++)
        if (!cut_merge(a->merges, i, pair))
            return lb_fail(err, LB_E_FORMAT, "tokenizer.ggml.merges: entry %llu has no two parts",
                           (unsigned long long)i);
    return LB_OK;
}

void lb_tok_merge(const lb_tok_arrays *a, u64 i, lb_str pair[2]) {
    (void)cut_merge(a->merges, i, pair); /* all were cut when they were read */
}

static lb_status next_merge(void *ctx, lb_str pair[2], bool *more, lb_err *err) {
    lb_tok_iter *it = ctx;
    (void)err;
    *more = it->a->merges && it->at < it->a->merges->n && cut_merge(it->a->merges, it->at, pair);
    it->at++;
    return LB_OK;
}

lb_hf_merges lb_tok_merges(lb_tok_iter *it, const lb_tok_arrays *a) {
    *it = (lb_tok_iter){a, 0};
    return (lb_hf_merges){next_merge, it};
}

/* In older files the tokens that *_token_id name can be typed as normal; those that look like
 * special ones are, or a prompt would be cut through them. */
static void mark_named(lb_tok_arrays *a) {
    static const char *const keys[] = {
        "tokenizer.ggml.bos_token_id",       "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.unknown_token_id",   "tokenizer.ggml.padding_token_id",
        "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.mask_token_id",
    };
    for (u32 i = 0; i < LB_LEN(keys); i++) {
        u64 id;
        if (!lb_kv_as_u64(lb_meta_find(a->meta, keys[i]), &id) || id >= a->n)
            continue;
        lb_str t = lb_tok_text(a, id);
        bool framed = (t.ptr[0] == '<' && t.ptr[t.len - 1] == '>') ||
                      (t.ptr[0] == '[' && t.ptr[t.len - 1] == ']');
        if (a->type[id] == LB_SPM_NORMAL && t.len > 2 && framed)
            a->type[id] = LB_SPM_CONTROL;
    }
}

/* Numbers and switches of another type would be read as if they were not there. */
static lb_status check_small(const lb_gguf_meta *meta, lb_err *err) {
    static const char *const switches[] = {
        "tokenizer.ggml.add_bos_token",
        "tokenizer.ggml.add_eos_token",
        "tokenizer.ggml.add_sep_token",
        "tokenizer.ggml.add_space_prefix",
        "tokenizer.ggml.remove_extra_whitespaces",
        "tokenizer.ggml.normalizer.lowercase",
        "tokenizer.ggml.normalizer.strip_accents",
    };
    for (u32 i = 0; i < LB_LEN(switches); i++) {
        const lb_gguf_kv *kv = lb_meta_find(meta, switches[i]);
        bool on;
        if (kv && !lb_kv_as_bool(kv, &on))
            return lb_fail(err, LB_E_FORMAT, "%s: true or false is expected", switches[i]);
    }
    for (u64 i = 0; i < meta->n; i++) {
        const lb_gguf_kv *kv = &meta->kv[i];
        u64 id;
        if (lb_str_starts(kv->key, LB_STR("tokenizer.ggml.")) &&
            lb_str_ends(kv->key, LB_STR("_token_id")) &&
            (kv->type == LB_GGUF_BOOL || !lb_kv_as_u64(kv, &id)))
            return lb_fail(err, LB_E_FORMAT, "%.*s: the number of a token is expected",
                           LB_FMT(kv->key));
    }
    return LB_OK;
}

lb_status lb_tok_arrays_read(lb_tok_arrays *a, const lb_gguf_meta *meta, lb_arena *arena,
                             lb_err *err) {
    *a = (lb_tok_arrays){.meta = meta, .arena = arena, .pre = LB_STR("default")};
    (void)lb_kv_as_str(lb_meta_find(meta, "tokenizer.ggml.pre"), &a->pre);
    if (!lb_kv_as_str(lb_meta_find(meta, "tokenizer.ggml.model"), &a->model))
        return lb_fail(err, LB_E_NOT_FOUND, "tokenizer.ggml.model: the file has no tokenizer");
    lb_status st = check_small(meta, err);
    if (st == LB_OK)
        st = read_tokens(a, err);
    if (st == LB_OK)
        st = read_merges(a, err);
    if (st == LB_OK && lb_str_eq_c(a->model, "bert"))
        st = mark_inner(a, err);
    if (st == LB_OK && lb_tok_is_spm(a))
        replace_flat_scores(a);
    else if (st == LB_OK)
        mark_named(a);
    if (st != LB_OK)
        lb_tok_arrays_deinit(a);
    return st;
}

lb_status lb_tok_charsmap(const lb_tok_arrays *a, lb_str *out, lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find(a->meta, "tokenizer.ggml.precompiled_charsmap");
    *out = LB_STR_NONE;
    if (!kv)
        return LB_OK;
    if (kv->type != LB_GGUF_ARRAY || (kv->elem != LB_GGUF_I8 && kv->elem != LB_GGUF_U8))
        return lb_fail(err, LB_E_FORMAT,
                       "tokenizer.ggml.precompiled_charsmap: an array of bytes is expected");
    if (kv->n)
        *out = (lb_str){(const char *)kv->v.array, (size_t)kv->n};
    /* a length, the trie of that length, then the texts (llama.cpp demands the same) */
    if (kv->n && (kv->n < 4 || lb_load_u32(out->ptr) >= kv->n - 4))
        return lb_fail(err, LB_E_FORMAT,
                       "tokenizer.ggml.precompiled_charsmap: its trie is longer than all of it");
    return LB_OK;
}

void lb_tok_arrays_deinit(lb_tok_arrays *a) {
    lb_texts_deinit(&a->own);
    lb_texts_index_deinit(&a->id_of);
}
