/* SPDX-License-Identifier: Apache-2.0 */
/* transplant.c: see transplant.h. */
#include "merge/transplant.h"

const char *const lb_approx_names[LB_APPROX_COUNT] = {
    "omp",   "common_interpolation", "subword",      "mean", "zero",
    "randn", "john_hewitt",          "landmark_pca", "stb",  "mp_rope",
};

lb_str lb_transplant_text(const lb_transplant_opts *o, lb_arena *perm) {
    static const char *const weighs[] = {"distance_proportional", "barycentric", "least_squares"};
    static const char *const subwords[] = {"mean", "sum", "weighted_mean", "first_last"};
    static const char *const allows[] = {"no", "yes", "embed", "lm_head"};
    lb_buf b = {0};
    lb_buf_printf(&b, " --approximation-method %s", lb_approx_names[o->method]);
    if (o->k != LB_TRANSPLANT_K)
        lb_buf_printf(&b, " -k %llu", (unsigned long long)o->k);
    if (o->weighing)
        lb_buf_printf(&b, " --weight-scheme %s", weighs[o->weighing]);
    if (o->subword)
        lb_buf_printf(&b, " --subword-method %s", subwords[o->subword]);
    if (o->cosine)
        lb_buf_put_c(&b, " --cosine-similarity");
    if (o->prefix)
        lb_buf_printf(&b, " --prefix-match %s", allows[o->prefix]);
    if (o->byte)
        lb_buf_printf(&b, " --byte-match %s", allows[o->byte]);
    if (o->magikarp)
        lb_buf_put_c(&b, " --magikarp");
    if (o->noise != 0)
        lb_buf_printf(&b, " --new-vocab-noise %.17g", o->noise);
    if (o->scale != 0)
        lb_buf_printf(&b, " --new-vocab-scale %.17g", o->scale);
    if (o->seed)
        lb_buf_printf(&b, " --seed %llu", (unsigned long long)o->seed);
    lb_str text = b.oom ? LB_STR_NONE : lb_arena_str(perm, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return text;
}

/* Whether a token of the model has a row and may be used: one that both know well. */
static bool is_usable(const lb_align_in *in, u64 id) {
    if (id == LB_NO_TOKEN_ID || id >= in->model_rows || !in->model_good)
        return id != LB_NO_TOKEN_ID && id < in->model_rows;
    u64 there = lb_token_find(in->donor, lb_token_key(in->model, id));
    return in->model_good[id] && there != LB_NO_TOKEN_ID && in->donor_good[there];
}

static u32 row_of(const lb_align_in *in, lb_align *a, u64 donor_id) {
    lb_str key = lb_token_key(in->donor, donor_id);
    u64 id = lb_token_find(in->model, key);
    if (is_usable(in, id)) {
        a->donor_row[a->n_shared] = (u32)donor_id;
        a->model_row[a->n_shared++] = (u32)id;
        a->n_exact++;
        return (u32)id;
    }
    id = in->byte ? lb_token_find_byte(in->model, key) : LB_NO_TOKEN_ID;
    if (is_usable(in, id)) {
        a->n_byte++;
        return (u32)id;
    }
    size_t len = key.len;
    do {
        id = in->prefix ? lb_token_find_prefix(in->model, key, &len) : LB_NO_TOKEN_ID;
        if (is_usable(in, id)) {
            a->n_prefix++;
            return (u32)id;
        }
    } while (id != LB_NO_TOKEN_ID);
    return LB_ALIGN_NEW;
}

/* Hardly trained in both models: a row of zeros, and no landmark. */
static bool is_junk(const lb_align_in *in, u64 donor_id) {
    if (!in->donor_good || in->donor_good[donor_id])
        return false;
    u64 id = lb_token_find(in->model, lb_token_key(in->donor, donor_id));
    return id == LB_NO_TOKEN_ID || !in->model_good[id];
}

lb_status lb_align_make(const lb_align_in *in, lb_arena *perm, lb_align *a, lb_err *err) {
    u64 n = in->donor->n_ids;
    *a = (lb_align){.n_rows = n};
    a->from = lb_arena_new(perm, u32, n + 1);
    a->donor_row = lb_arena_new(perm, u32, n + 1);
    a->model_row = lb_arena_new(perm, u32, n + 1);
    a->fresh = lb_arena_new(perm, u32, n + 1);
    if (!a->from || !a->donor_row || !a->model_row || !a->fresh)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the vocabulary of a transplant");
    for (u64 i = 0; i < n; i++) {
        a->from[i] = LB_ALIGN_ZERO;
        if (!lb_texts_has(&in->donor->key, i))
            continue;
        if (i >= in->donor_rows || is_junk(in, i)) {
            a->n_junk++;
            continue;
        }
        a->from[i] = row_of(in, a, i);
        if (a->from[i] == LB_ALIGN_NEW)
            a->fresh[a->n_fresh++] = (u32)i;
    }
    return LB_OK;
}
