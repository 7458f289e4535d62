/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.c: the tokens of a merge's result, and which rows of the models are theirs. */
#include "merge/vocab.h"
#include <stdlib.h>

static lb_status oom(const lb_merge_config *c, lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "%.*s: out of memory for the vocabulary", LB_FMT(c->what));
}

/* ---- tokens of the result ---- */

static const lb_hf_tok *tok_of(const lb_vocab_model *models, u32 m) {
    return models[m].tok ? models[m].tok : models[0].tok;
}

static bool is_added(const lb_hf_tok *t, lb_str text) {
    return lb_map_find(&t->added_of, text, NULL);
}

/* As an added token, in a model that has a row for it. */
static bool is_added_in(const lb_vocab_model *m, lb_str text) {
    u64 i;
    return m->tok && lb_map_find(&m->tok->added_of, text, &i) && m->tok->added[i].id < m->n_rows;
}

static bool is_added_anywhere(const lb_merge_config *c, const lb_vocab_model *models, lb_str text) {
    for (u32 m = 0; m < c->n_models; m++)
        if (is_added_in(&models[m], text))
            return true;
    return false;
}

/* The tokenizers library gives the next id by the number of entries: where ids are left out, that
 * may be one that is taken. */
static lb_status add(lb_hf_tok *out, const lb_hf_added *a, const lb_merge_config *c, lb_arena *perm,
                     u64 *n_added, lb_err *err) {
    u64 before = out->n_added;
    u32 id;
    bool known = lb_hf_tok_id(out, a->content, &id);
    lb_hf_added own = *a;
    own.content = lb_arena_str(perm, a->content);
    if (!own.content.ptr)
        return oom(c, err);
    LB_TRY(lb_hf_tok_add(out, &own, perm, err));
    if (known || out->n_added == before)
        return LB_OK;
    id = out->added[before].id;
    ++*n_added;
    return lb_texts_has(&out->token, id)
               ? lb_fail(err, LB_E_UNSUPPORTED,
                         "%.*s: the tokenizer has ids without tokens below %llu: no token can be "
                         "added to it",
                         LB_FMT(c->what), (unsigned long long)out->n_ids)
               : LB_OK;
}

static lb_status add_plain(lb_hf_tok *out, lb_str text, const lb_merge_config *c, lb_arena *perm,
                           u64 *n_added, lb_err *err) {
    u32 id;
    lb_hf_added a = {.content = text, .file_id = UINT64_MAX, .normalized = true};
    return lb_hf_tok_id(out, text, &id) ? LB_OK : add(out, &a, c, perm, n_added, err);
}

static lb_status add_entries(lb_hf_tok *out, const lb_merge_config *c, const lb_vocab_model *models,
                             u32 m, lb_arena *perm, u64 *n_added, lb_err *err) {
    const lb_hf_tok *t = models[m].tok;
    for (u64 i = 0; t && i < t->n_ids && i < models[m].n_rows; i++) {
        if (!lb_texts_has(&t->token, i))
            continue;
        lb_str text = lb_texts_get(&t->token, i);
        if (!is_added(t, text) && !is_added_anywhere(c, models, text))
            LB_TRY(add_plain(out, text, c, perm, n_added, err));
    }
    return LB_OK;
}

static int by_id(const void *a, const void *b) {
    u32 x = (*(const lb_hf_added *const *)a)->id, y = (*(const lb_hf_added *const *)b)->id;
    return (x > y) - (x < y);
}

static lb_status add_added(lb_hf_tok *out, const lb_merge_config *c, const lb_vocab_model *model,
                           lb_arena *perm, u64 *n_added, lb_err *err) {
    const lb_hf_tok *t = model->tok;
    lb_status st = LB_OK;
    if (!t || t->n_added == 0)
        return LB_OK;
    const lb_hf_added **list = lb_alloc_zero((size_t)t->n_added, sizeof *list);
    if (!list)
        return oom(c, err);
    for (u64 i = 0; i < t->n_added; i++)
        list[i] = &t->added[i];
    qsort(list, (size_t)t->n_added, sizeof *list, by_id);
    for (u64 i = 0; i < t->n_added && st == LB_OK; i++)
        if (list[i]->id < model->n_rows)
            st = add(out, list[i], c, perm, n_added, err);
    lb_free(list);
    return st;
}

lb_status lb_vocab_extend(lb_hf_tok *out, const lb_merge_config *c, const lb_vocab_model *models,
                          lb_arena *perm, u64 *n_added, lb_err *err) {
    *n_added = 0;
    for (u32 m = 0; m < c->n_models && c->vocab == LB_VOCAB_UNION; m++)
        LB_TRY(add_entries(out, c, models, m, perm, n_added, err));
    for (u32 m = 0; m < c->n_models && c->vocab == LB_VOCAB_UNION; m++)
        LB_TRY(add_added(out, c, &models[m], perm, n_added, err));
    for (u32 i = 0; i < c->n_tokens; i++)
        LB_TRY(add_plain(out, c->tokens[i].token, c, perm, n_added, err));
    return LB_OK;
}

/* ---- whose rows ---- */

static u32 row_of(const lb_vocab_model *models, u32 m, lb_str text) {
    u32 id;
    return lb_hf_tok_id(tok_of(models, m), text, &id) && id < models[m].n_rows ? id : LB_NO_ROW;
}

/* Puts the rows of the models for one token. */
static void map_token(lb_vocab *v, const lb_merge_config *c, const lb_vocab_model *models, u64 id,
                      lb_str text) {
    bool any = false;
    for (u32 m = 0; m < c->n_models; m++)
        any |= (v->row[m][id] = row_of(models, m, text)) != LB_NO_ROW;
    v->n_nowhere += !any;
    v->n_tokens++;
}

static lb_status make_tables(lb_vocab *v, const lb_merge_config *c, lb_arena *perm, lb_err *err) {
    v->row = lb_arena_new(perm, u32 *, c->n_models);
    for (u32 m = 0; v->row && m < c->n_models; m++) {
        if (!(v->row[m] = lb_arena_new(perm, u32, v->n_ids + 1)))
            return oom(c, err);
        memset(v->row[m], 0xff, v->n_ids * sizeof *v->row[m]); /* LB_NO_ROW */
    }
    return v->row ? LB_OK : oom(c, err);
}

static lb_status add_rules(lb_vocab *v, const lb_hf_tok *out, const lb_merge_config *c,
                           const lb_vocab_model *models, lb_err *err) {
    for (u32 i = 0; i < c->n_tokens; i++) {
        const lb_merge_token *t = &c->tokens[i];
        lb_vocab_rule *r = &v->rules[v->n_rules++];
        *r = (lb_vocab_rule){
            .from = t->from, .model = t->model, .row = LB_NO_ROW, .said = t, .force = t->force};
        if (!lb_hf_tok_id(out, t->token, &r->id))
            return lb_fail(err, LB_E_FORMAT, "%.*s: line %u: tokens: an empty token",
                           LB_FMT(c->what), t->line);
        if (t->from == LB_TOKEN_MODEL)
            r->row = v->row[t->model][r->id];
        if (t->from == LB_TOKEN_TEXT)
            r->row = row_of(models, t->model, t->text);
        if (t->from == LB_TOKEN_ID && t->id < models[t->model].n_rows)
            r->row = (u32)t->id;
    }
    return LB_OK;
}

/* Ids without a token keep the row that stands there in the model that the tokenizer is of. */
static void add_holes(lb_vocab *v, const u8 *is_token, u32 donor, const lb_vocab_model *models) {
    for (u64 i = 0; i < v->n_ids; i++) {
        bool has = donor != LB_NO_MODEL && i < models[donor].n_rows;
        if (!is_token[i])
            v->rules[v->n_rules++] = (lb_vocab_rule){.id = (u32)i,
                                                     .from = has ? LB_TOKEN_ID : LB_TOKEN_ZERO,
                                                     .model = has ? donor : 0,
                                                     .row = has ? (u32)i : LB_NO_ROW,
                                                     .force = true};
    }
}

static int by_rule_id(const void *a, const void *b) {
    u32 x = ((const lb_vocab_rule *)a)->id, y = ((const lb_vocab_rule *)b)->id;
    return (x > y) - (x < y);
}

static void map_all(lb_vocab *v, const lb_hf_tok *out, const lb_merge_config *c,
                    const lb_vocab_model *models, u8 *is_token) {
    for (u64 i = 0; i < out->n_ids; i++)
        if ((is_token[i] = lb_texts_has(&out->token, i)))
            map_token(v, c, models, i, lb_texts_get(&out->token, i));
    for (u64 i = 0; i < out->n_added; i++) {
        u32 id = out->added[i].id;
        if (is_token[id])
            continue;
        is_token[id] = true;
        map_token(v, c, models, id, out->added[i].content);
    }
}

lb_status lb_vocab_map(lb_vocab *v, const lb_hf_tok *out, u32 donor, const lb_merge_config *c,
                       const lb_vocab_model *models, lb_arena *perm, lb_err *err) {
    u64 pad = LB_MAX(c->pad_to_multiple_of, (u64)1);
    *v = (lb_vocab){.n_ids = lb_hf_tok_n_all(out)};
    if (v->n_ids == 0 || pad > UINT32_MAX)
        return lb_fail(err, v->n_ids ? LB_E_LIMIT : LB_E_FORMAT, "%.*s: %s", LB_FMT(c->what),
                       v->n_ids ? "pad_to_multiple_of: more than 2^32"
                                : "a tokenizer without tokens");
    v->n_rows = lb_ceil_div_u64(v->n_ids, pad) * pad;
    LB_TRY(make_tables(v, c, perm, err));
    u8 *is_token = lb_alloc_zero((size_t)v->n_ids, 1);
    if (!is_token)
        return oom(c, err);
    map_all(v, out, c, models, is_token);
    v->rules = lb_arena_new(perm, lb_vocab_rule, c->n_tokens + (v->n_ids - v->n_tokens) + 1);
    lb_status st = v->rules ? add_rules(v, out, c, models, err) : oom(c, err);
    if (st == LB_OK) {
        add_holes(v, is_token, donor, models);
        qsort(v->rules, v->n_rules, sizeof *v->rules, by_rule_id);
    }
    lb_free(is_token);
    return st;
}
