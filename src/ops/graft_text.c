/* SPDX-License-Identifier: Apache-2.0 */
/* graft_text.c: tokens by what the model's own tokenizer cuts their text into (subword). A token
 * that is a part of a character goes by its bytes. */
#include "ops/graft.h"
#include "ops/work.h"
#include "text/encode.h"

typedef struct cutting {
    const lb_graft *g;
    const lb_encoder *encoder;
    u8 *memory;
    u64 own_bytes;
    bool marks; /* the tokenizer begins every text as a word: a blank before it is that mark */
} cutting;

static lb_status put_byte(const lb_graft *g, u8 byte, lb_buf *ids, lb_err *err) {
    u64 id = lb_token_of_byte(g->model_tokens, byte);
    if (id != LB_NO_TOKEN_ID)
        lb_buf_put_u32(ids, (u32)id);
    return lb_buf_status(ids, err);
}

/* Ids of the model's tokens, u32 each. */
static lb_status cut(const cutting *c, u32 token, lb_buf *text, lb_buf *ids, lb_err *err) {
    lb_buf_reset(text);
    lb_buf_reset(ids);
    LB_TRY(lb_token_bytes(c->g->donor_tokens, token, text, err));
    lb_str s = lb_buf_str(text);
    if (lb_str_is_utf8(s)) {
        bool marked = c->marks && lb_str_starts(s, LB_STR(" "));
        u64 mark =
            marked && s.len == 1 ? lb_token_find(c->g->model_tokens, LB_STR("w")) : LB_NO_TOKEN_ID;
        if (mark != LB_NO_TOKEN_ID) {
            lb_buf_put_u32(ids, (u32)mark);
            return lb_buf_status(ids, err);
        }
        return lb_encoder_encode(c->encoder, lb_str_sub(s, marked, s.len), false, ids, err);
    }
    for (size_t i = 0; i < text->len; i++)
        LB_TRY(put_byte(c->g, text->ptr[i], ids, err));
    return LB_OK;
}

/* Those that have a row. weight: for each. */
static u64 weigh(const lb_graft *g, lb_buf *ids, double *weight) {
    u32 *row = (u32 *)(void *)ids->ptr;
    u64 n = ids->len / sizeof *row, kept = 0, sum = n * (n + 1) / 2;
    if (g->o->subword == LB_SUBWORD_FIRST_LAST && n) { /* one that tells most of the text */
        row[0] = row[g->is_head ? 0 : n - 1];
        n = 1;
    }
    for (u64 i = 0; i < n; i++) {
        u64 place = g->is_head ? i + 1 : n - i;
        if (row[i] >= g->model->n_rows)
            continue;
        weight[kept] = g->o->subword == LB_SUBWORD_MEAN       ? 1 / (double)n
                       : g->o->subword == LB_SUBWORD_WEIGHTED ? (double)place / (double)sum
                                                              : 1;
        row[kept++] = row[i];
    }
    return kept;
}

#define TOKENS 32 /* cut by one worker at a time */

static lb_status put_tokens(void *ctx, u32 worker, u64 item, lb_err *err) {
    const cutting *c = ctx;
    const lb_graft *g = c->g;
    u8 *scratch = c->memory + worker * c->own_bytes;
    float *out = (float *)(void *)(scratch + (lb_graft_mix_bytes(g) + 63) / 64 * 64);
    lb_buf text = {0}, ids = {0}, weights = {0};
    lb_status st = LB_OK;
    u64 to = LB_MIN((item + 1) * TOKENS, g->align->n_fresh);
    for (u64 i = item * TOKENS; i < to && st == LB_OK; i++) {
        u32 token = g->align->fresh[i];
        LB_TRY_DONE(st, cut(c, token, &text, &ids, err));
        lb_buf_reset(&weights);
        lb_buf_put_zeros(&weights, (ids.len / sizeof(u32) + 1) * sizeof(double));
        LB_TRY_DONE(st, lb_buf_status(&weights, err));
        double *weight = (double *)(void *)weights.ptr;
        u64 n = weigh(g, &ids, weight);
        LB_TRY_DONE(
            st, lb_graft_mix(g, (const u32 *)(const void *)ids.ptr, weight, n, scratch, out, err));
        st = lb_graft_put(g, token, out, err);
    }
done:
    lb_buf_deinit(&text);
    lb_buf_deinit(&ids);
    lb_buf_deinit(&weights);
    return st;
}

/* Whether "a" comes out as a token that begins a word. */
static lb_status find_marks(cutting *c, lb_err *err) {
    const lb_token_set *t = c->g->model_tokens;
    lb_buf ids = {0};
    lb_status st = lb_encoder_encode(c->encoder, LB_STR("a"), false, &ids, err);
    if (st == LB_OK && ids.len) {
        u64 first = ((const u32 *)(const void *)ids.ptr)[0];
        lb_str key = first < t->n_ids ? lb_token_key(t, first) : LB_STR_NONE;
        c->marks = !t->byte_level && key.ptr && key.ptr[0] == LB_TOKEN_WORD;
    }
    lb_buf_deinit(&ids);
    return st;
}

lb_status lb_graft_subword(const lb_graft *g, lb_err *err) {
    cutting c = {.g = g};
    lb_encoder *e = NULL;
    c.own_bytes =
        (lb_graft_mix_bytes(g) + 63) / 64 * 64 + (g->model->n_cols * sizeof(float) + 63) / 64 * 64;
    LB_TRY(lb_encoder_open(&e, g->model_source, err));
    c.encoder = e;
    lb_status st = find_marks(&c, err);
    if (st == LB_OK)
        st = lb_graft_memory(g, g->env->threads * c.own_bytes, &c.memory, err);
    if (st == LB_OK)
        st = lb_work_run(g->env->threads, lb_ceil_div_u64(g->align->n_fresh, TOKENS), put_tokens,
                         &c, err);
    lb_free(c.memory);
    lb_encoder_close(&e);
    lb_graft_progress(g, g->align->n_fresh);
    return st;
}
