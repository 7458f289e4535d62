/* SPDX-License-Identifier: Apache-2.0 */
/* tok_index.c: what the arrays of a GGUF tokenizer say of each other: text -> id, merges as
 * numbers, tokens that are kept whole. */
#include "text/tok_rebuild.h"

#include "text/pair_group.h"
#include "text/spm.h"

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer: out of memory");
}

/* Every text has one id. */
static lb_status index_tokens(lb_tok_arrays *a, lb_err *err) {
    u64 i;
    LB_TRY(lb_texts_index_fill(&a->id_of, a->token, &i, err));
    if (i == a->token->n)
        return LB_OK;
    return lb_fail(err, LB_E_FORMAT, "tokenizer.ggml.tokens: token %llu: \"%.*s\" is there twice",
                   (unsigned long long)i, (int)LB_MIN(lb_tok_text(a, i).len, (size_t)80),
                   lb_tok_text(a, i).ptr);
}

/* ---- merges ---- */

static lb_status number_merges(lb_tok_arrays *a, lb_err *err) {
    lb_pair_group g = {.n = 0};
    lb_status st = LB_OK;
    lb_str pair[2], s[3 * LB_PAIR_GROUP];
    u64 n = a->merges ? a->merges->n : 0;
    a->merge_id = lb_arena_new(a->arena, u32, 3 * n + 1);
    if (!a->merge_id)
        return no_memory(err);
    for (u64 i = 0; i < n && st == LB_OK; i++) {
        lb_tok_merge(a, i, pair);
        lb_pair_group_add(&g, pair);
        if (g.n == LB_PAIR_GROUP || i + 1 == n) {
            u32 *id = a->merge_id + 3 * (i + 1 - g.n);
            st = lb_pair_group_find(&g, &a->id_of, a->token, s, id, err);
        }
    }
    lb_pair_group_deinit(&g);
    return st;
}

/* ---- tokens kept whole ---- */

static bool is_whole(const lb_tok_arrays *a, const u8 *has_length, u64 i) {
    lb_str t = lb_tok_text(a, i);
    size_t chars = 0;
    u64 id;
    for (size_t k = 0; k < t.len; k++) {
        if (t.ptr[k] == ' ') /* the normalizer leaves none: no text gives it */
            return false;
        if (((u8)t.ptr[k] & 0xc0) == 0x80)
            continue;
        chars++;
        if (k && has_length[k] && has_length[t.len - k] &&
            lb_texts_index_find(&a->id_of, a->token, lb_str_sub(t, 0, k), &id) &&
            lb_texts_index_find(&a->id_of, a->token, lb_str_sub(t, k, t.len), &id))
            return false;
    }
    return chars > 1;
}

/* Longer than a character, no byte, and no merge gives it. */
static void find_unmerged(lb_tok_arrays *a) {
    for (u64 i = 0; i < a->n; i++) {
        lb_str t = lb_tok_text(a, i);
        size_t chars = 0;
        for (size_t k = 0; k < t.len; k++)
            chars += ((u8)t.ptr[k] & 0xc0) != 0x80;
        a->whole[i] = a->type[i] == LB_SPM_NORMAL && chars > 1;
    }
    for (u64 i = 0; i < a->merges->n; i++)
        if (a->merge_id[3 * i + 2] != UINT32_MAX)
            a->whole[a->merge_id[3 * i + 2]] = 0;
}

/* Finds the SentencePiece tokens that the trainer was told to keep whole: the reference types these
 * as normal, but no pair of others, or no merge, gives them, and the trainer scores them 0 (flat
 * scores say nothing). */
static lb_status find_whole(lb_tok_arrays *a, lb_err *err) {
    lb_buf lengths = {0};
    bool merged = lb_tok_is_merged_spm(a) && a->merges;
    if (!merged && (!lb_tok_is_spm(a) || !a->has_scores))
        return LB_OK;
    a->whole = lb_arena_new(a->arena, u8, a->n);
    if (!a->whole && a->n)
        return no_memory(err);
    if (merged) {
        find_unmerged(a);
        return LB_OK;
    }
    LB_TRY(lb_tok_mark_lengths(a->token, &lengths, err));
    for (u64 i = 0; i < a->n; i++)
        a->whole[i] = a->type[i] == LB_SPM_NORMAL &&
                      (a->flat_scores || lb_f32_bits(a->score[i]) == 0) &&
                      is_whole(a, lengths.ptr, i);
    lb_buf_deinit(&lengths);
    return LB_OK;
}

lb_status lb_tok_arrays_index(lb_tok_arrays *a, lb_err *err) {
    bool merges = lb_str_eq_c(a->model, "gpt2") || lb_tok_is_merged_spm(a);
    if (!merges && !lb_tok_is_spm(a))
        return LB_OK;
    LB_TRY(index_tokens(a, err));
    if (merges)
        LB_TRY(number_merges(a, err));
    return find_whole(a, err);
}
