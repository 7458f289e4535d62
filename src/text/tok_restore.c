/* SPDX-License-Identifier: Apache-2.0 */
/* tok_restore.c: filling a kept skeleton from the arrays of a GGUF. */
#include "text/tok_restore.h"

#include "base/hash.h"
#include "text/spm.h"

/* ---- the sum of the keys ---- */

static bool is_template(const void *ctx, lb_str key) {
    (void)ctx;
    return lb_str_starts(key, LB_STR("tokenizer.chat_template"));
}

/* Templates stand by themselves: one that was exchanged leaves the vocabulary what it was. */
static bool is_tokenizers(const void *ctx, lb_str key) {
    return lb_str_starts(key, LB_STR("tokenizer.")) && !is_template(ctx, key);
}

static void sum_of(const lb_gguf_meta *meta, const lb_gguf_meta *more, lb_meta_takes_fn *takes,
                   char out[33]) {
    lb_hash128 sum = {0, 0};
    lb_meta_sum(meta, takes, NULL, &sum);
    if (more)
        lb_meta_sum(more, takes, NULL, &sum);
    lb_hash_hex(sum, out);
}

void lb_tok_sum(const lb_gguf_meta *meta, const lb_gguf_meta *more, char out[33]) {
    sum_of(meta, more, is_tokenizers, out);
}

void lb_tok_template_sum(const lb_gguf_meta *meta, const lb_gguf_meta *more, char out[33]) {
    sum_of(meta, more, is_template, out);
}

bool lb_tok_templates_kept(const lb_gguf_meta *meta) {
    char sum[33];
    lb_str kept;
    if (!lb_kv_as_str(lb_meta_find(meta, "lbrx.hf.template_sum"), &kept))
        return true;
    lb_tok_template_sum(meta, NULL, sum);
    return lb_str_eq_c(kept, sum);
}

bool lb_tok_kept(const lb_gguf_meta *meta) {
    char sum[33];
    lb_str kept;
    if (!lb_kv_as_str(lb_meta_find(meta, "lbrx.hf.tokenizer_sum"), &kept))
        return false;
    lb_tok_sum(meta, NULL, sum);
    return lb_str_eq_c(kept, sum);
}

bool lb_tok_small_file(u32 i, const char **name, const char **key) {
    static const char *const files[][2] = {
        {"tokenizer_config.json", "lbrx.hf.tokenizer_config"},
        {"special_tokens_map.json", "lbrx.hf.special_tokens_map"},
        {"added_tokens.json", "lbrx.hf.added_tokens"},
        {"chat_template.json", "lbrx.hf.chat_template_json"},
        {"chat_template.jinja", "lbrx.hf.chat_template"},
    };
    if (i >= LB_LEN(files))
        return false;
    *name = files[i][0];
    *key = files[i][1];
    return true;
}

/* ---- vocabulary ---- */

static lb_status broken(const char *what, lb_err *err) {
    return lb_fail(err, LB_E_FORMAT, "lbrx.hf.tokenizer: %s", what);
}

/* What the arrays and the list of added tokens tell; the form's own texts come on top. */
lb_status lb_tok_guess_vocab(const lb_tok_arrays *a, const lb_json *added, u64 n_ids, lb_texts *out,
                             lb_err *err) {
    LB_TRY(lb_texts_resize(out, n_ids, err));
    LB_TRY(lb_texts_reserve(out, n_ids, a->token->pool.len, err));
    for (u64 i = 0; i < LB_MIN(n_ids, a->n); i++) {
        lb_str text;
        if (lb_tok_is_padding(a, i))
            continue;
        LB_TRY(lb_tok_piece_text(a, i, &text, err));
        LB_TRY(lb_texts_set(out, i, text, err));
    }
    for (const lb_json *o = added ? added->first : NULL; o; o = o->next) {
        u64 id;
        lb_str text;
        if (lb_json_as_u64(lb_json_get(o, "id"), &id) && id < n_ids &&
            lb_json_as_str(lb_json_get(o, "content"), &text) &&
            !(lb_texts_has(out, id) && lb_str_eq(lb_texts_get(out, id), text)))
            LB_TRY(lb_texts_set(out, id, text, err));
    }
    return LB_OK;
}

/* {"id": text or null} */
static lb_status apply_texts(const lb_json *texts, lb_texts *token, lb_err *err) {
    for (const lb_json *o = texts ? texts->first : NULL; o; o = o->next) {
        u64 id;
        lb_str text;
        if (!lb_str_to_u64(o->key, &id) || id >= token->n)
            return broken("form: a text for no id", err);
        if (lb_json_as_str(o, &text))
            LB_TRY(lb_texts_set(token, id, text, err));
        else
            lb_texts_unset(token, id);
    }
    return LB_OK;
}

/* [[from, to], ...]: ids that model.vocab lacks, each range behind the last: many that overlap
 * would take a day to carry out. */
static lb_status apply_outside(const lb_json *ranges, lb_texts *token, lb_err *err) {
    u64 next = 0;
    for (const lb_json *o = ranges ? ranges->first : NULL; o; o = o->next) {
        u64 from, to;
        if (o->type != LB_JARRAY || o->n != 2 || !lb_json_as_u64(o->first, &from) ||
            !lb_json_as_u64(o->last, &to) || from < next || to < from || to >= token->n)
            return broken("form: a range that is none", err);
        for (u64 i = from; i <= to; i++)
            lb_texts_unset(token, i);
        next = to + 1;
    }
    return LB_OK;
}

/* ---- the whole file ---- */

typedef struct filler {
    const lb_tok_arrays *a;
    const lb_json *form;
    lb_texts token;
    lb_texts_index id_of;
    lb_tok_cuts cuts;         /* merges from the scores */
    lb_tok_iter gguf;         /* those of the GGUF */
    const lb_gguf_kv *stored; /* stored ones: left, right, left... */
    u64 at;
} filler;

static lb_status next_stored(void *ctx, lb_str pair[2], bool *more, lb_err *err) {
    filler *f = ctx;
    *more = f->at < f->stored->n;
    for (u32 side = 0; side < 2 && *more; side++)
        if (!lb_kv_elem_str(f->stored, f->at++, &pair[side]))
            return broken("form: no stored merges", err);
    return LB_OK;
}

static lb_status from_scores(filler *f, bool by_length, lb_hf_merges *out, lb_err *err) {
    const lb_tok_arrays *a = f->a;
    u64 twice;
    LB_TRY(lb_texts_index_fill(&f->id_of, &f->token, &twice, err));
    if (twice < f->token.n)
        return broken("form: a text is there twice", err);
    lb_tok_pieces pieces = {&f->token, &f->id_of, a->type, a->score, a->n};
    LB_TRY(lb_tok_cuts_begin(&f->cuts, &pieces, by_length, err));
    *out = lb_tok_cuts_merges(&f->cuts);
    return LB_OK;
}

static lb_status find_merges(filler *f, lb_hf_merges *out, lb_err *err) {
    lb_str how = LB_STR_NONE;
    (void)lb_json_as_str(lb_json_get(f->form, "merges"), &how);
    if (lb_str_eq_c(how, "gguf")) {
        *out = lb_tok_merges(&f->gguf, f->a);
    } else if (lb_str_eq_c(how, "stored")) {
        const lb_gguf_kv *kv = lb_meta_find(f->a->meta, "lbrx.hf.tokenizer_merges");
        if (!kv || kv->type != LB_GGUF_ARRAY || kv->elem != LB_GGUF_STR || kv->n % 2)
            return broken("form: no stored merges", err);
        f->stored = kv;
        *out = (lb_hf_merges){next_stored, f};
    } else if (lb_str_eq_c(how, "scores") || lb_str_eq_c(how, "lengths")) {
        return from_scores(f, lb_str_eq_c(how, "lengths"), out, err);
    } else if (!lb_str_eq_c(how, "none")) {
        return broken("form: merges of an unknown kind", err);
    }
    return LB_OK;
}

static lb_status fill(filler *f, lb_str skeleton, lb_hf_put *put, void *ctx, lb_err *err) {
    lb_json *root;
    u64 n_ids;
    lb_hf_parts p = {.skeleton = skeleton, .token = &f->token};
    LB_TRY(lb_json_parse(skeleton, "lbrx.hf.tokenizer", f->a->arena, &root, err));
    if (!lb_json_as_u64(lb_json_get(f->form, "n_ids"), &n_ids) ||
        n_ids > f->a->n + LB_TOK_IDS_BEYOND)
        return broken("form: n_ids", err);
    LB_TRY(lb_tok_guess_vocab(f->a, lb_json_get(root, "added_tokens"), n_ids, &f->token, err));
    LB_TRY(apply_texts(lb_json_get(f->form, "texts"), &f->token, err));
    LB_TRY(apply_outside(lb_json_get(f->form, "outside"), &f->token, err));
    (void)lb_json_as_bool(lb_json_get(f->form, "ascii"), &p.ascii);
    LB_TRY(find_merges(f, &p.merges, err));
    if (f->cuts.order) {
        p.id_of = &f->id_of;
        p.cuts = &f->cuts;
    }
    return put(ctx, &p, err);
}

lb_status lb_tok_restore_json(const lb_tok_arrays *a, lb_hf_put *put, void *ctx, bool *kept,
                              lb_err *err) {
    lb_str skeleton, form_text;
    lb_json *form;
    filler f = {.a = a};
    *kept = lb_kv_as_str(lb_meta_find(a->meta, "lbrx.hf.tokenizer"), &skeleton) &&
            lb_kv_as_str(lb_meta_find(a->meta, "lbrx.hf.tokenizer_form"), &form_text);
    if (!*kept)
        return LB_OK;
    LB_TRY(lb_json_parse(form_text, "lbrx.hf.tokenizer_form", a->arena, &form, err));
    f.form = form;
    lb_status st = fill(&f, skeleton, put, ctx, err);
    lb_texts_deinit(&f.token);
    lb_texts_index_deinit(&f.id_of);
    lb_tok_cuts_end(&f.cuts);
    return st;
}

lb_status lb_tok_restore_spm(const lb_tok_arrays *a, lb_out *out, bool *kept, lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find(a->meta, "lbrx.hf.tokenizer_model");
    *kept = kv != NULL;
    if (!kv)
        return LB_OK;
    if (kv->type != LB_GGUF_ARRAY || kv->elem != LB_GGUF_U8)
        return lb_fail(err, LB_E_FORMAT, "lbrx.hf.tokenizer_model: an array of u8 is expected");
    return lb_spm_patch_apply(a, (lb_str){kv->v.array, (size_t)kv->n}, out, err);
}
