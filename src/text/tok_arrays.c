/* SPDX-License-Identifier: Apache-2.0 */
/* tok_arrays.c: the tokenizer arrays of a GGUF, and merges made from SentencePiece scores. */
#include "text/tok_rebuild.h"

#include "text/bytelevel.h"
#include "text/spm.h"
#include <stdlib.h>

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer: out of memory");
}

bool lb_tok_is_spm(const lb_tok_arrays *a) {
    return lb_str_eq_c(a->model, "llama");
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
    a->token = lb_arena_new(a->arena, lb_str, a->n);
    a->type = lb_arena_new(a->arena, u8, a->n);
    a->score = lb_arena_new(a->arena, float, a->n);
    if (a->n && (!a->token || !a->type || !a->score))
        return no_memory(err);
    for (u64 i = 0; i < a->n; i++) {
        i64 type = LB_SPM_NORMAL;
        double score = 0;
        bool existed, ok = lb_kv_elem_str(tokens, i, &a->token[i]) &&
                           (!types || lb_kv_elem_i64(types, i, &type)) &&
                           (!scores || lb_kv_elem_f64(scores, i, &score));
        if (!ok || type < 0 || type > LB_SPM_BYTE || score != score)
            return lb_fail(err, LB_E_FORMAT,
                           "tokenizer.ggml: token %llu: its type or score is none",
                           (unsigned long long)i);
        if (a->token[i].len == 0) /* llama.cpp's name for it */
            a->token[i] = lb_arena_printf(a->arena, "[EMPTY_%llu]", (unsigned long long)i);
        if (!a->token[i].ptr)
            return no_memory(err);
        a->type[i] = (u8)(type ? type : LB_SPM_NORMAL);
        a->score[i] = (float)score;
        LB_TRY(lb_map_put(&a->id_of, a->token[i], i, &existed, err));
        if (existed && !a->has_twice) {
            a->has_twice = true;
            a->twice = i;
        }
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
static lb_status read_merges(lb_tok_arrays *a, lb_err *err) {
    const lb_gguf_kv *merges;
    LB_TRY(find_array(a->meta, "tokenizer.ggml.merges", 0, &merges, err));
    if (!merges)
        return LB_OK;
    a->merge = lb_arena_new(a->arena, lb_str, 2 * merges->n);
    if (!a->merge && merges->n)
        return no_memory(err);
    for (u64 i = 0; i < merges->n; i++) {
        lb_str both;
        const char *space = NULL;
        if (lb_kv_elem_str(merges, i, &both) && both.len > 1)
            space = memchr(both.ptr + 1, ' ', both.len - 1);
        if (!space)
            return lb_fail(err, LB_E_FORMAT, "tokenizer.ggml.merges: entry %llu has no two parts",
                           (unsigned long long)i);
        size_t at = (size_t)(space - both.ptr);
        a->merge[2 * i] = lb_str_sub(both, 0, at);
        a->merge[2 * i + 1] = lb_str_sub(both, at + 1, both.len);
    }
    a->n_merges = merges->n;
    return LB_OK;
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
        lb_str t = a->token[id];
        bool framed = (t.ptr[0] == '<' && t.ptr[t.len - 1] == '>') ||
                      (t.ptr[0] == '[' && t.ptr[t.len - 1] == ']');
        if (a->type[id] == LB_SPM_NORMAL && t.len > 2 && framed)
            a->type[id] = LB_SPM_CONTROL;
    }
}

lb_status lb_tok_arrays_read(lb_tok_arrays *a, const lb_gguf_meta *meta, lb_arena *arena,
                             lb_err *err) {
    *a = (lb_tok_arrays){.meta = meta, .arena = arena, .pre = LB_STR("default")};
    (void)lb_kv_as_str(lb_meta_find(meta, "tokenizer.ggml.pre"), &a->pre);
    if (!lb_kv_as_str(lb_meta_find(meta, "tokenizer.ggml.model"), &a->model))
        return lb_fail(err, LB_E_NOT_FOUND, "tokenizer.ggml.model: the file has no tokenizer");
    lb_status st = read_tokens(a, err);
    if (st == LB_OK)
        st = read_merges(a, err);
    if (st == LB_OK && lb_tok_is_spm(a))
        replace_flat_scores(a);
    else if (st == LB_OK)
        mark_named(a);
    if (st != LB_OK)
        lb_tok_arrays_deinit(a);
    return st;
}

void lb_tok_arrays_deinit(lb_tok_arrays *a) {
    lb_map_deinit(&a->id_of);
}

/* ---- merges from scores ---- */

/* Tokens a, aa, aaa... give merges whose text grows with the third power of their number: a file of
 * 5 MB would become one of 15 GB. The vocabularies there are give about
 * twice their text. */
#define MERGES_RATIO 32u
#define MERGES_FREE_BYTES ((u64)16 << 20)

typedef struct made {
    float score;
    u32 left, right, order; /* order: place before sorting */
    u16 left_chars, right_chars;
} made;

static int by_ids(const void *x, const void *y) {
    const made *a = x, *b = y;
    if (a->left != b->left)
        return a->left < b->left ? -1 : 1;
    return (a->right > b->right) - (a->right < b->right);
}

static int by_score(const void *x, const void *y) {
    const made *a = x, *b = y;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

static int by_score_and_length(const void *x, const void *y) {
    const made *a = x, *b = y;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    if (a->left_chars != b->left_chars)
        return a->left_chars > b->left_chars ? -1 : 1;
    if (a->right_chars != b->right_chars)
        return a->right_chars > b->right_chars ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

static u16 count_chars(lb_str s) {
    u64 n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += ((u8)s.ptr[i] & 0xc0) != 0x80;
    return (u16)LB_MIN(n, (u64)UINT16_MAX);
}

/* [length] whether a token has it: of a token of a megabyte nearly no cut has two parts of lengths
 * that exist, and hashing all of them would take minutes. */
static void mark_lengths(const lb_tok_pieces *p, lb_buf *out) {
    size_t longest = 0;
    for (u64 i = 0; i < p->n; i++)
        longest = LB_MAX(longest, p->token[i].len);
    lb_buf_put_zeros(out, longest + 1);
    for (u64 i = 0; i < p->n && !out->oom; i++)
        out->ptr[p->token[i].len] = 1;
}

/* All ways to cut one token into two others, ordered by their ids. */
static void cut_token(const lb_tok_pieces *p, u64 id, const u8 *has_length, lb_buf *out) {
    lb_str t = p->token[id];
    u64 left, right;
    size_t first = out->len;
    bool plain = p->type[id] == LB_SPM_NORMAL || p->type[id] == LB_SPM_BYTE;
    for (size_t i = 1; i < t.len; i++) {
        if (!has_length[i] || !has_length[t.len - i] || ((u8)t.ptr[i] & 0xc0) == 0x80)
            continue;
        lb_str l = lb_str_sub(t, 0, i), r = lb_str_sub(t, i, t.len);
        if (!lb_map_find(p->id_of, l, &left) || !lb_map_find(p->id_of, r, &right))
            continue;
        made m = {.score = plain ? p->score[id] : 0.0f,
                  .left = (u32)left,
                  .right = (u32)right,
                  .left_chars = count_chars(l),
                  .right_chars = count_chars(r)};
        lb_buf_put(out, &m, sizeof m);
    }
    if (!out->oom && out->len > first)
        qsort(out->ptr + first, (out->len - first) / sizeof(made), sizeof(made), by_ids);
}

lb_status lb_tok_make_merges(const lb_tok_pieces *p, bool by_length, lb_arena *arena, lb_str **out,
                             u64 *n_out, lb_err *err) {
    lb_buf all = {0}, lengths = {0};
    mark_lengths(p, &lengths);
    lb_status st = lb_buf_status(&lengths, err);
    u64 vocab_bytes = 0, merge_bytes = 0;
    for (u64 i = 0; i < p->n && st == LB_OK; i++) {
        u64 before = all.len;
        cut_token(p, i, lengths.ptr, &all);
        vocab_bytes += p->token[i].len;
        merge_bytes += (all.len - before) / sizeof(made) * p->token[i].len;
        st = lb_buf_status(&all, err);
        if (st == LB_OK && merge_bytes > MERGES_FREE_BYTES + MERGES_RATIO * vocab_bytes)
            st = lb_fail(err, LB_E_UNSUPPORTED,
                         "tokenizer: the first %llu tokens give %llu bytes of merges: more than "
                         "%u times their text is not made",
                         (unsigned long long)i + 1, (unsigned long long)merge_bytes, MERGES_RATIO);
    }
    u64 n = all.len / sizeof(made);
    if (st == LB_OK && n > UINT32_MAX)
        st = lb_fail(err, LB_E_LIMIT, "tokenizer: more than 2^32 merges");
    if (st != LB_OK)
        goto done;
    made *m = (made *)(void *)all.ptr;
    for (u64 i = 0; i < n; i++)
        m[i].order = (u32)i;
    if (n)
        qsort(m, (size_t)n, sizeof *m, by_length ? by_score_and_length : by_score);
    lb_str *merges = lb_arena_new(arena, lb_str, 2 * n);
    if (!merges && n) {
        st = no_memory(err);
        goto done;
    }
    for (u64 i = 0; i < n; i++) {
        merges[2 * i] = p->token[m[i].left];
        merges[2 * i + 1] = p->token[m[i].right];
    }
    *out = merges;
    *n_out = n;
done:
    lb_buf_deinit(&lengths);
    lb_buf_deinit(&all);
    return st;
}
