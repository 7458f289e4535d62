/* SPDX-License-Identifier: Apache-2.0 */
/* result.c: config.json and README.md of a merge's result. */
#include "merge/result.h"
#include "arch/arch_config.h"

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the result's config");
}

/* ---- config.json ---- */

static const char *const count_keys[] = {"num_hidden_layers", "n_layer", "num_layers", "n_layers"};

/* Parsed configs; of a model without one NULL. */
typedef struct configs {
    lb_json **root;
    const lb_merge_part *part;
    lb_arena *perm;
} configs;

static u64 layers_of(const lb_json *object) {
    u64 n = 0;
    for (u32 i = 0; i < LB_LEN(count_keys); i++)
        if (lb_json_as_u64(lb_json_get(object, count_keys[i]), &n))
            return n;
    return 0;
}

/* What a model's config lists for a layer; NULL: nothing. */
static const lb_json *listed(const configs *x, u32 model, const char *within, lb_str key,
                             u64 layer) {
    const lb_json *o = x->root[model];
    o = within ? lb_json_get(o, within) : o;
    const lb_json *list = lb_json_get_str(o, key);
    if (!list || list->type != LB_JARRAY || list->n != layers_of(o) || layer >= list->n)
        return NULL;
    const lb_json *v = list->first;
    while (layer--)
        v = v->next;
    return v;
}

/* A list with an entry a layer, for the layers of the result. */
static lb_status pick_layers(const configs *x, const char *within, lb_json *list, lb_err *err) {
    lb_json *fresh = lb_json_new_array(x->perm);
    for (u64 i = 0; fresh && i < x->part->n_layers; i++) {
        const lb_merge_layer *l = &x->part->from[i];
        const lb_json *v = listed(x, l->model, within, list->key, l->layer);
        v = v ? v : listed(x, 0, within, list->key, LB_MIN((u64)l->layer, list->n - 1));
        lb_json *copy = v ? lb_json_copy(x->perm, v) : NULL;
        if (!copy || !lb_json_push(fresh, copy))
            return oom(err);
    }
    if (!fresh)
        return oom(err);
    list->first = fresh->first;
    list->last = fresh->last;
    list->n = fresh->n;
    return LB_OK;
}

static bool is_same(const lb_merge_part *p, u64 had) {
    bool same = p->n_layers == had;
    for (u64 i = 0; i < p->n_layers && same; i++)
        same = p->from[i].layer == i && p->from[i].model == 0;
    return same;
}

/* Of one object: the language model's own, or the whole. */
static lb_status set_layers(const configs *x, const char *within, lb_json *object, lb_err *err) {
    u64 had = layers_of(object);
    if (had == 0 || is_same(x->part, had))
        return LB_OK;
    lb_json *copy = lb_json_copy(x->perm, object); /* lists are looked up in what it was */
    if (!copy)
        return oom(err);
    for (lb_json *v = copy->first; v; v = v->next)
        if (v->type == LB_JARRAY && v->n == had && had)
            LB_TRY(pick_layers(x, within, v, err));
    for (u32 i = 0; i < LB_LEN(count_keys); i++)
        if (lb_json_get(copy, count_keys[i]) &&
            !lb_json_set(x->perm, copy, count_keys[i], lb_json_new_u64(x->perm, x->part->n_layers)))
            return oom(err);
    object->first = copy->first;
    object->last = copy->last;
    object->n = copy->n;
    return LB_OK;
}

/* ---- tokens ---- */

static bool is_id_key(lb_str key) {
    return lb_str_ends(key, LB_STR("_token_id")) || lb_str_ends(key, LB_STR("_token_ids")) ||
           lb_str_ends(key, LB_STR("_token_index"));
}

/* Ids are of another tokenizer now: those of its model; what that does not say is not said. */
static bool take_ids(lb_json *to, const lb_json *from, lb_arena *perm) {
    for (lb_json *v = to->first; v; v = v->next) {
        const lb_json *other = lb_json_get_str(from, v->key);
        if (v->type == LB_JOBJECT && !take_ids(v, other, perm))
            return false;
        if (!is_id_key(v->key))
            continue;
        lb_json *copy = other ? lb_json_copy(perm, other) : lb_json_new_null(perm);
        if (!copy)
            return false;
        v->type = copy->type;
        v->truth = copy->truth;
        v->text = copy->text;
        v->first = copy->first;
        v->last = copy->last;
        v->n = copy->n;
    }
    return true;
}

/* Wherever the config counts the tokens that it had: of language models within it, too. */
static bool set_rows(lb_json *object, u64 had, u64 n, lb_arena *perm) {
    static const char *const keys[] = {"vocab_size", "padded_vocab_size",
                                       "vocab_size_per_layer_input"};
    u64 v;
    for (lb_json *m = object->first; m; m = m->next)
        if (m->type == LB_JOBJECT && !set_rows(m, had, n, perm))
            return false;
    for (u32 i = 0; i < LB_LEN(keys); i++)
        if (lb_json_as_u64(lb_json_get(object, keys[i]), &v) && (v == had || i == 2) &&
            !lb_json_set(perm, object, keys[i], lb_json_new_u64(perm, n)))
            return false;
    return true;
}

/* At its usual place it stands in any case. */
static bool set_vocab(lb_json *root, lb_json *text, u64 n, lb_arena *perm) {
    lb_json *home = text ? text : root;
    u64 had;
    if (lb_json_as_u64(lb_json_get(home, "vocab_size"), &had) && !set_rows(root, had, n, perm))
        return false;
    return lb_json_set(perm, home, "vocab_size", lb_json_new_u64(perm, n));
}

static lb_status set_tokens(lb_json *root, lb_json *text, const lb_merge_more *more, lb_arena *perm,
                            lb_err *err) {
    lb_json *from = NULL;
    if (more->ids_of.len)
        LB_TRY(lb_json_parse(more->ids_of, "config.json", perm, &from, err));
    bool ok = !from || take_ids(root, from, perm);
    if (ok && more->n_rows)
        ok = set_vocab(root, text, more->n_rows, perm);
    if (ok && more->untied)
        ok = lb_json_set(perm, root, "tie_word_embeddings", lb_json_new_bool(perm, false)) &&
             (!text ||
              lb_json_set(perm, text, "tie_word_embeddings", lb_json_new_bool(perm, false)));
    return ok ? LB_OK : oom(err);
}

lb_status lb_merge_config_ids(lb_str text, lb_str from, const char *what, lb_arena *perm,
                              lb_str *out, lb_err *err) {
    lb_json *root, *other = NULL;
    LB_TRY(lb_json_parse(text, what, perm, &root, err));
    if (from.len)
        LB_TRY(lb_json_parse(from, what, perm, &other, err));
    if (!take_ids(root, other, perm))
        return oom(err);
    return lb_json_file(root, perm, out, err);
}

static bool set_dtype(lb_json *object, const char *key, lb_str name, lb_arena *perm) {
    return !lb_json_get(object, key) || lb_json_set(perm, object, key, lb_json_new_str(perm, name));
}

static lb_status parse_all(configs *x, const lb_str *texts, const lb_merge_config *c, lb_err *err) {
    x->root = lb_arena_new(x->perm, lb_json *, c->n_models + 1);
    if (!x->root)
        return oom(err);
    for (u32 i = 0; i < c->n_models; i++) {
        x->root[i] = NULL;
        if (texts[i].len)
            LB_TRY(lb_json_parse(texts[i], "config.json", x->perm, &x->root[i], err));
    }
    return LB_OK;
}

lb_status lb_merge_config_of(const lb_str *texts, const lb_merge_config *c,
                             const lb_merge_outline *o, const lb_merge_more *more, lb_arena *perm,
                             lb_str *out, lb_err *err) {
    configs x = {.part = &o->parts[0], .perm = perm};
    lb_json *root, *text;
    *out = texts[0];
    if (texts[0].len == 0)
        return LB_OK;
    LB_TRY(parse_all(&x, texts, c, err));
    LB_TRY(lb_json_parse(texts[0], "config.json", perm, &root, err)); /* which is changed */
    lb_arch_config_unquantize(root);
    LB_TRY(set_layers(&x, NULL, root, err));
    text = lb_json_get(root, "text_config");
    text = text && text->type == LB_JOBJECT ? text : NULL;
    if (text)
        LB_TRY(set_layers(&x, "text_config", text, err));
    LB_TRY(set_tokens(root, text, more, perm, err));
    if (c->has_out_dtype || c->has_dtype) {
        lb_dtype d = c->has_out_dtype ? c->out_dtype : c->dtype;
        lb_str name = d == LB_BF16  ? LB_STR("bfloat16")
                      : d == LB_F16 ? LB_STR("float16")
                                    : LB_STR("float32");
        if (!set_dtype(root, "torch_dtype", name, perm) || !set_dtype(root, "dtype", name, perm) ||
            (text && (!set_dtype(text, "torch_dtype", name, perm) ||
                      !set_dtype(text, "dtype", name, perm))))
            return oom(err);
    }
    return lb_json_file(root, perm, out, err);
}

/* ---- README.md ---- */

lb_status lb_merge_card(lb_str name, const lb_merge_config *c, lb_str text, lb_buf *b,
                        lb_err *err) {
    const lb_merge_method *m = lb_merge_method_find(c->method);
    lb_buf_put_c(b, "---\n");
    if (c->n_models)
        lb_buf_put_c(b, "base_model:\n");
    for (u32 i = 0; i < c->n_models; i++)
        lb_buf_printf(b, "- %.*s\n", LB_FMT(c->models[i].path));
    lb_buf_put_c(b, "library_name: transformers\ntags:\n- merge\n- lbrx\n---\n");
    lb_buf_printf(b, "# %.*s\n\nThis is a merge of language models, made with lbrx %s.\n\n",
                  LB_FMT(name), LB_VERSION);
    lb_buf_printf(b, "## Method\n\n%s%s%s%s%s", m ? "[" : "", m ? m->title : "", m ? "](" : "",
                  m ? m->source : "", m ? ")" : "");
    if (!m)
        lb_buf_put_str(b, c->method);
    if (c->base != LB_NO_MODEL)
        lb_buf_printf(b, ", with %.*s as the base", LB_FMT(c->models[c->base].path));
    lb_buf_put_c(b, ".\n\n## Models\n\n");
    for (u32 i = 0; i < c->n_models; i++)
        lb_buf_printf(b, "- %.*s\n", LB_FMT(c->models[i].text));
    lb_buf_put_c(b, "\n## Merge file\n\n```yaml\n");
    lb_buf_put_str(b, text);
    if (!lb_str_ends(text, LB_STR("\n")))
        lb_buf_put_c(b, "\n");
    lb_buf_put_c(b, "```\n");
    return lb_buf_status(b, err);
}
