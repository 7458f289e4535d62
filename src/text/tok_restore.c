/* SPDX-License-Identifier: Apache-2.0 */
/* tok_restore.c: filling a kept skeleton from the arrays of a GGUF. */
#include "text/tok_restore.h"

#include "base/hash.h"
#include "text/spm.h"

/* ---- the sum of the keys ---- */

static void sum_value(const lb_gguf_kv *kv, lb_xxh *h) {
    u64 n;
    switch (kv->type) {
    case LB_GGUF_STR:
        lb_xxh_update(h, kv->v.s.ptr, kv->v.s.len);
        return;
    case LB_GGUF_ARRAY:
        lb_xxh_update(h, &kv->n, sizeof kv->n);
        if (kv->elem != LB_GGUF_STR) {
            lb_xxh_update(h, kv->v.array, (size_t)(kv->n * lb_gguf_type_bytes(kv->elem)));
            return;
        }
        for (u64 i = 0; i < kv->n; i++) {
            lb_str s = LB_STR_NONE;
            (void)lb_kv_elem_str(kv, i, &s);
            n = s.len;
            lb_xxh_update(h, &n, sizeof n);
            lb_xxh_update(h, s.ptr, s.len);
        }
        return;
    case LB_GGUF_F32:
    case LB_GGUF_F64:
        lb_xxh_update(h, &kv->v.f, sizeof kv->v.f);
        return;
    default:
        lb_xxh_update(h, &kv->v.u, sizeof kv->v.u);
        return;
    }
}

void lb_tok_sum(const lb_gguf_meta *meta, char out[33]) {
    lb_hash128 sum = {0, 0};
    for (u64 i = 0; i < meta->n; i++) {
        const lb_gguf_kv *kv = &meta->kv[i];
        u32 types[2] = {(u32)kv->type, kv->type == LB_GGUF_ARRAY ? (u32)kv->elem : 0};
        lb_xxh h;
        if (!lb_str_starts(kv->key, LB_STR("tokenizer.")))
            continue;
        lb_xxh_init(&h);
        lb_xxh_update(&h, kv->key.ptr, kv->key.len);
        lb_xxh_update(&h, types, sizeof types);
        sum_value(kv, &h);
        lb_hash128 one = lb_xxh_digest(&h);
        sum.lo += one.lo;
        sum.hi += one.hi;
    }
    lb_hash_hex(sum, out);
}

bool lb_tok_kept(const lb_gguf_meta *meta) {
    char sum[33];
    lb_str kept;
    if (!lb_kv_as_str(lb_meta_find(meta, "lbrx.hf.tokenizer_sum"), &kept))
        return false;
    lb_tok_sum(meta, sum);
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

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer.json: out of memory");
}

static lb_status broken(const char *what, lb_err *err) {
    return lb_fail(err, LB_E_FORMAT, "lbrx.hf.tokenizer: %s", what);
}

/* What the arrays and the list of added tokens tell; the form's own texts come on top. */
lb_status lb_tok_guess_vocab(const lb_tok_arrays *a, const lb_json *added, u64 n_ids, lb_str **out,
                             lb_err *err) {
    lb_str *token = lb_arena_new(a->arena, lb_str, n_ids);
    if (!token && n_ids)
        return no_memory(err);
    for (u64 i = 0; i < LB_MIN(n_ids, a->n); i++)
        if (!lb_tok_is_padding(a, i))
            LB_TRY(lb_tok_piece_text(a, i, &token[i], err));
    for (const lb_json *o = added ? added->first : NULL; o; o = o->next) {
        u64 id;
        lb_str text;
        if (lb_json_as_u64(lb_json_get(o, "id"), &id) && id < n_ids &&
            lb_json_as_str(lb_json_get(o, "content"), &text))
            token[id] = text.ptr ? text : LB_STR("");
    }
    *out = token;
    return LB_OK;
}

/* {"id": text or null} */
static lb_status apply_texts(const lb_json *texts, lb_str *token, u64 n_ids, lb_err *err) {
    for (const lb_json *o = texts ? texts->first : NULL; o; o = o->next) {
        u64 id;
        lb_str text = LB_STR_NONE;
        if (!lb_str_to_u64(o->key, &id) || id >= n_ids)
            return broken("form: a text for no id", err);
        if (lb_json_as_str(o, &text) && !text.ptr)
            text = LB_STR("");
        token[id] = text;
    }
    return LB_OK;
}

/* [[from, to], ...]: ids that model.vocab lacks, each range behind the last: many that overlap
 * would take a day to carry out. */
static lb_status apply_outside(const lb_json *ranges, lb_str *token, u64 n_ids, lb_err *err) {
    u64 next = 0;
    for (const lb_json *o = ranges ? ranges->first : NULL; o; o = o->next) {
        u64 from, to;
        if (o->type != LB_JARRAY || o->n != 2 || !lb_json_as_u64(o->first, &from) ||
            !lb_json_as_u64(o->last, &to) || from < next || to < from || to >= n_ids)
            return broken("form: a range that is none", err);
        for (u64 i = from; i <= to; i++)
            token[i] = LB_STR_NONE;
        next = to + 1;
    }
    return LB_OK;
}

/* ---- merges ---- */

lb_status lb_tok_made_merges(const lb_tok_arrays *a, const lb_str *token, u64 n_ids, bool by_length,
                             lb_str **out, u64 *n_out, lb_err *err) {
    lb_map id_of = {0};
    lb_status st = LB_OK;
    u8 *type = lb_arena_new(a->arena, u8, n_ids);
    float *score = lb_arena_new(a->arena, float, n_ids);
    if (n_ids && (!type || !score))
        return no_memory(err);
    for (u64 i = 0; i < n_ids; i++) {
        type[i] = i < a->n ? a->type[i] : LB_SPM_UNUSED;
        score[i] = i < a->n ? a->score[i] : 0;
        if (token[i].ptr)
            LB_TRY_DONE(st, lb_map_put(&id_of, token[i], i, NULL, err));
    }
    lb_tok_pieces pieces = {token, type, score, n_ids, &id_of};
    st = lb_tok_make_merges(&pieces, by_length, a->arena, out, n_out, err);
done:
    lb_map_deinit(&id_of);
    return st;
}

static lb_status stored_merges(const lb_tok_arrays *a, lb_str **out, u64 *n_out, lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find(a->meta, "lbrx.hf.tokenizer_merges");
    if (!kv || kv->type != LB_GGUF_ARRAY || kv->elem != LB_GGUF_STR || kv->n % 2)
        return broken("form: no stored merges", err);
    lb_str *merge = lb_arena_new(a->arena, lb_str, kv->n);
    if (!merge && kv->n)
        return no_memory(err);
    for (u64 i = 0; i < kv->n; i++)
        if (!lb_kv_elem_str(kv, i, &merge[i]))
            return broken("form: no stored merges", err);
    *out = merge;
    *n_out = kv->n / 2;
    return LB_OK;
}

static lb_status find_merges(const lb_tok_arrays *a, const lb_json *form, lb_hf_parts *p,
                             lb_err *err) {
    lb_str how = LB_STR_NONE, *merge = NULL;
    u64 n = 0;
    (void)lb_json_as_str(lb_json_get(form, "merges"), &how);
    if (lb_str_eq_c(how, "gguf")) {
        p->merge = a->merge;
        p->n_merges = a->n_merges;
        return LB_OK;
    }
    if (lb_str_eq_c(how, "stored"))
        LB_TRY(stored_merges(a, &merge, &n, err));
    else if (lb_str_eq_c(how, "scores") || lb_str_eq_c(how, "lengths"))
        LB_TRY(lb_tok_made_merges(a, p->token, p->n_ids, lb_str_eq_c(how, "lengths"), &merge, &n,
                                  err));
    else if (!lb_str_eq_c(how, "none"))
        return broken("form: merges of an unknown kind", err);
    p->merge = merge;
    p->n_merges = n;
    return LB_OK;
}

/* ---- ---- */

static bool collect(void *ctx, lb_str text) {
    lb_buf_put_str(ctx, text);
    return true;
}

static lb_status fill(const lb_tok_arrays *a, lb_str skeleton, const lb_json *form, lb_buf *text,
                      lb_err *err) {
    lb_json *root;
    lb_str *token;
    lb_hf_parts p = {.skeleton = skeleton};
    LB_TRY(lb_json_parse(skeleton, "lbrx.hf.tokenizer", a->arena, &root, err));
    if (!lb_json_as_u64(lb_json_get(form, "n_ids"), &p.n_ids) || p.n_ids > a->n + LB_TOK_IDS_BEYOND)
        return broken("form: n_ids", err);
    LB_TRY(lb_tok_guess_vocab(a, lb_json_get(root, "added_tokens"), p.n_ids, &token, err));
    LB_TRY(apply_texts(lb_json_get(form, "texts"), token, p.n_ids, err));
    LB_TRY(apply_outside(lb_json_get(form, "outside"), token, p.n_ids, err));
    p.token = token;
    (void)lb_json_as_bool(lb_json_get(form, "ascii"), &p.ascii);
    LB_TRY(find_merges(a, form, &p, err));
    lb_hf_sink sink = {collect, text};
    return lb_hf_write(&p, &sink, err);
}

lb_status lb_tok_restore_json(const lb_tok_arrays *a, lb_str *out, lb_err *err) {
    lb_str skeleton, form_text;
    lb_json *form;
    lb_buf text = {0};
    *out = LB_STR_NONE;
    if (!lb_kv_as_str(lb_meta_find(a->meta, "lbrx.hf.tokenizer"), &skeleton) ||
        !lb_kv_as_str(lb_meta_find(a->meta, "lbrx.hf.tokenizer_form"), &form_text))
        return LB_OK;
    LB_TRY(lb_json_parse(form_text, "lbrx.hf.tokenizer_form", a->arena, &form, err));
    lb_status st = fill(a, skeleton, form, &text, err);
    if (st == LB_OK)
        st = lb_buf_status(&text, err);
    if (st == LB_OK) {
        *out = lb_arena_str(a->arena, lb_buf_str(&text));
        if (!out->ptr)
            st = no_memory(err);
    }
    lb_buf_deinit(&text);
    return st;
}

lb_status lb_tok_restore_spm(const lb_tok_arrays *a, lb_str *out, lb_err *err) {
    const lb_gguf_kv *kv = lb_meta_find(a->meta, "lbrx.hf.tokenizer_model");
    lb_buf model = {0};
    *out = LB_STR_NONE;
    if (!kv)
        return LB_OK;
    if (kv->type != LB_GGUF_ARRAY || kv->elem != LB_GGUF_U8)
        return lb_fail(err, LB_E_FORMAT, "lbrx.hf.tokenizer_model: an array of u8 is expected");
    lb_str patch = {kv->v.array, (size_t)kv->n};
    lb_status st = lb_spm_patch_apply(a, patch, &model, err);
    if (st == LB_OK) {
        *out = lb_arena_str(a->arena, lb_buf_str(&model));
        if (!out->ptr)
            st = no_memory(err);
    }
    lb_buf_deinit(&model);
    return st;
}
