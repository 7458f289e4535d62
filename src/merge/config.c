/* SPDX-License-Identifier: Apache-2.0 */
/* config.c: one document of a merge file: the forms `models`, `slices` and `modules`, made one.
 *
 * `models` becomes a module of one slice that takes all layers of each; a base that it does not
 * list is put behind (plan.py). `slices` is a module without a name. */
#include "merge/config_internal.h"

static const char *const sub_keys[] = {"model", "layer_range", "parameters", NULL};

/* ---- sources and slices ---- */

static lb_status read_range(lb_merge_reader *r, const lb_json *v, lb_merge_source *out) {
    i64 n[2];
    u32 before = lb_merge_enter(r, LB_STR("layer_range"));
    if (v->type != LB_JARRAY || v->n != 2)
        return lb_merge_bad(r, v, "two layers [FIRST, END] are needed");
    if (!lb_merge_as_int(v->first, &n[0]) || !lb_merge_as_int(v->last, &n[1]))
        return lb_merge_bad(r, v, "two whole numbers [FIRST, END] are needed");
    if (n[0] < 0 || n[1] < n[0])
        return lb_merge_bad(r, v, "[%lld, %lld]: layers count from 0, and END is not below FIRST",
                            (long long)n[0], (long long)n[1]);
    out->first = (u64)n[0];
    out->end = (u64)n[1];
    lb_merge_leave(r, before);
    return LB_OK;
}

/* An entry of `models`, or of a slice's `sources`. */
static lb_status read_source(lb_merge_reader *r, const lb_json *v, bool ranged,
                             lb_merge_source *out) {
    static const char *const whole_keys[] = {"model", "parameters", NULL};
    if (v->type == LB_JOBJECT && !ranged && lb_json_get(v, "layer_range"))
        return lb_merge_bad(r, lb_json_get(v, "layer_range"),
                            "`layer_range` stands in `slices` only: here all layers are taken");
    LB_TRY(lb_merge_keys(r, v, ranged ? sub_keys : whole_keys));
    const lb_json *model = lb_merge_get(v, "model"), *range = lb_merge_get(v, "layer_range");
    if (!model)
        return lb_merge_bad(r, v, "`model` is missing");
    u32 before = lb_merge_enter(r, model->key);
    LB_TRY(lb_merge_read_ref(r, model, true, &out->model));
    lb_merge_leave(r, before);
    out->line = v->line;
    out->all = !ranged;
    if (ranged && !range)
        return lb_merge_bad(r, v, "`layer_range` is missing");
    if (ranged)
        LB_TRY(read_range(r, range, out));
    return lb_merge_read_settings(r, v, &out->settings);
}

/* list: an array that is not empty. extra: room for the base. */
static lb_status read_sources(lb_merge_reader *r, const lb_json *list, bool ranged, u32 extra,
                              lb_merge_slice *out) {
    if (list->type != LB_JARRAY || list->n == 0)
        return lb_merge_bad(r, list, "a list of models is needed");
    out->sources = lb_arena_new(r->perm, lb_merge_source, list->n + extra);
    lb_str where = lb_arena_str(r->perm, (lb_str){r->path, r->path_len});
    if (!out->sources || !where.ptr)
        return lb_merge_no_memory(r);
    out->where = where;
    out->line = list->line;
    for (const lb_json *m = list->first; m; m = m->next) {
        u32 before = lb_merge_enter_at(r, out->n_sources);
        LB_TRY(read_source(r, m, ranged, &out->sources[out->n_sources]));
        out->n_sources++;
        lb_merge_leave(r, before);
    }
    return LB_OK;
}

static lb_status read_slice(lb_merge_reader *r, const lb_json *v, lb_merge_slice *out) {
    static const char *const keys[] = {"sources", "base_model", "residual_weight", "parameters",
                                       NULL};
    LB_TRY(lb_merge_keys(r, v, keys));
    const lb_json *sources = lb_merge_get(v, "sources"), *base = lb_merge_get(v, "base_model");
    const lb_json *residual = lb_merge_get(v, "residual_weight");
    lb_str where = lb_arena_str(r->perm, (lb_str){r->path, r->path_len});
    if (!where.ptr)
        return lb_merge_no_memory(r);
    if (!sources)
        return lb_merge_bad(r, v, "`sources` is missing");
    u32 before = lb_merge_enter(r, sources->key);
    LB_TRY(read_sources(r, sources, true, 0, out));
    lb_merge_leave(r, before);
    out->where = where;
    out->line = v->line;
    out->base = r->config->base;
    if (base) {
        lb_merge_enter(r, base->key);
        LB_TRY(lb_merge_read_ref(r, base, false, &out->base));
        lb_merge_leave(r, before);
    }
    if (residual) {
        lb_merge_enter(r, residual->key);
        if (!lb_merge_as_float(residual, &out->residual_weight))
            return lb_merge_bad(r, residual, "a number is needed");
        LB_TRY(lb_merge_note(r, residual, "says nothing: mergekit does not read it either"));
        lb_merge_leave(r, before);
    }
    return lb_merge_read_settings(r, v, &out->settings);
}

/* ---- modules ---- */

static lb_status models_to_module(lb_merge_reader *r, const lb_json *list, lb_merge_module *out) {
    u32 base = r->config->base;
    lb_merge_slice *s = out->slices = lb_arena_new(r->perm, lb_merge_slice, 1);
    if (!s)
        return lb_merge_no_memory(r);
    out->n_slices = 1;
    u32 before = lb_merge_enter(r, list->key);
    LB_TRY(read_sources(r, list, false, 1, s));
    lb_merge_leave(r, before);
    s->base = base;
    bool listed = base == LB_NO_MODEL;
    for (u32 i = 0; i < s->n_sources; i++)
        listed |= s->sources[i].model == base;
    if (!listed)
        s->sources[s->n_sources++] = (lb_merge_source){
            .model = base, .all = true, .implied = true, .line = r->config->models[base].line};
    return LB_OK;
}

static lb_status slices_to_module(lb_merge_reader *r, const lb_json *list, lb_merge_module *out) {
    u32 before = lb_merge_enter(r, list->key);
    if (list->type != LB_JARRAY)
        return lb_merge_bad(r, list, "a list of slices is needed");
    if (!(out->slices = lb_arena_new(r->perm, lb_merge_slice, list->n)))
        return lb_merge_no_memory(r);
    for (const lb_json *m = list->first; m; m = m->next) {
        u32 inner = lb_merge_enter_at(r, out->n_slices);
        LB_TRY(read_slice(r, m, &out->slices[out->n_slices++]));
        lb_merge_leave(r, inner);
    }
    lb_merge_leave(r, before);
    return LB_OK;
}

/* Absent, null and empty are the same to mergekit. */
static const lb_json *filled(const lb_json *object, const char *key) {
    const lb_json *v = lb_merge_get(object, key);
    bool empty = v && (v->type == LB_JARRAY || v->type == LB_JOBJECT) && v->n == 0;
    return empty ? NULL : v;
}

static lb_status read_module(lb_merge_reader *r, const lb_json *v, lb_merge_module *out) {
    static const char *const keys[] = {"slices", "models", "parameters", NULL};
    LB_TRY(lb_merge_keys(r, v, keys));
    const lb_json *slices = filled(v, "slices"), *models = filled(v, "models");
    if (!slices == !models)
        return lb_merge_bad(r, v, "one of `slices` and `models` is needed%s",
                            slices ? ", not both" : "");
    if (v->key.len == 0)
        return lb_merge_bad(r, v, "the name of a module is empty");
    out->name = v->key;
    out->line = v->line;
    LB_TRY(slices ? slices_to_module(r, slices, out) : models_to_module(r, models, out));
    return lb_merge_read_settings(r, v, &out->settings);
}

static lb_status read_modules(lb_merge_reader *r, const lb_json *v) {
    lb_merge_config *c = r->config;
    u32 before = lb_merge_enter(r, v->key);
    if (v->type != LB_JOBJECT)
        return lb_merge_bad(r, v, "a mapping of modules is needed");
    if (!(c->modules = lb_arena_new(r->perm, lb_merge_module, v->n)))
        return lb_merge_no_memory(r);
    for (const lb_json *m = v->first; m; m = m->next) {
        u32 inner = lb_merge_enter(r, m->key);
        LB_TRY(read_module(r, m, &c->modules[c->n_modules++]));
        lb_merge_leave(r, inner);
    }
    lb_merge_leave(r, before);
    return LB_OK;
}

static lb_status read_form(lb_merge_reader *r, const lb_json *root) {
    lb_merge_config *c = r->config;
    const lb_json *form[] = {filled(root, "models"), filled(root, "slices"),
                             filled(root, "modules")};
    const lb_json *found = NULL;
    for (u32 i = 0; i < LB_LEN(form); i++) {
        if (form[i] && found)
            return lb_merge_bad(r, form[i], "`%.*s` stands beside `%.*s` (line %u): one of them",
                                LB_FMT(form[i]->key), LB_FMT(found->key), found->line);
        if (form[i])
            found = form[i];
    }
    if (!found)
        return lb_merge_bad(r, root,
                            c->raw ? "`models` is missing or empty"
                                   : "one of `models`, `slices` and `modules` is needed");
    if (found == form[2])
        return read_modules(r, found);
    if (!(c->modules = lb_arena_new(r->perm, lb_merge_module, 1)))
        return lb_merge_no_memory(r);
    c->n_modules = 1;
    c->modules->line = found->line;
    return found == form[0] ? models_to_module(r, found, c->modules)
                            : slices_to_module(r, found, c->modules);
}

/* ---- the document ---- */

lb_status lb_merge_read_dtype(lb_merge_reader *r, const lb_json *root, const char *key, bool *has,
                              lb_dtype *out) {
    static const char *const names[] = {"bfloat16", "float16", "float32", "float64", NULL};
    static const lb_dtype types[] = {LB_BF16, LB_F16, LB_F32, LB_F64};
    static const char *const short_names[] = {"bf16", "fp16",  "f16",  "half",  "fp32",
                                              "f32",  "float", "fp64", "double"};
    static const u8 long_name[] = {0, 1, 1, 1, 2, 2, 2, 3, 3};
    const lb_json *v = lb_merge_get(root, key);
    lb_str s;
    if (!v)
        return LB_OK;
    u32 before = lb_merge_enter(r, v->key);
    LB_TRY(lb_merge_text(r, v, &s));
    if (lb_str_starts(s, LB_STR("torch.")))
        s = lb_str_sub(s, 6, s.len);
    *has = s.len > 0;
    for (u32 i = 0; i < LB_LEN(types); i++)
        if (lb_str_eq_c(s, names[i])) {
            *out = types[i];
            lb_merge_leave(r, before);
            return LB_OK;
        }
    lb_merge_leave(r, s.len ? r->path_len : before);
    if (s.len == 0)
        return LB_OK;
    const char *near = lb_merge_nearest(s, names);
    for (u32 i = 0; i < LB_LEN(short_names); i++)
        if (lb_str_eq_c(s, short_names[i]))
            near = names[long_name[i]];
    return lb_merge_bad(r, v, "'%.*s' is none of bfloat16, float16, float32, float64%s%s%s",
                        LB_FMT(s), near ? "; did you mean " : "", near ? near : "",
                        near ? "?" : "");
}

static lb_status read_base(lb_merge_reader *r, const lb_json *root) {
    const lb_json *base = lb_merge_get(root, "base_model");
    r->config->base = LB_NO_MODEL;
    if (!base)
        return LB_OK;
    u32 before = lb_merge_enter(r, base->key);
    LB_TRY(lb_merge_read_ref(r, base, true, &r->config->base));
    lb_merge_leave(r, before);
    return LB_OK;
}

static lb_status check_root(lb_merge_reader *r, const lb_json *root) {
    static const char *const keys[] = {
        "merge_method", "base_model",    "models",      "slices",    "modules",
        "parameters",   "dtype",         "out_dtype",   "tokenizer", "tokenizer_source",
        "name",         "chat_template", "random_seed", NULL};
    static const char *const raw_keys[] = {"merge_method", "base_model", "models", "parameters",
                                           "dtype",        "out_dtype",  "name",   NULL};
    static const char *const merge_only[] = {"slices", "modules", "tokenizer", "tokenizer_source",
                                             "chat_template"};
    if (root->type != LB_JOBJECT)
        return lb_merge_bad(r, root, "a merge file is a mapping (merge_method, models...)");
    if (!lb_json_get(root, "merge_method") && lb_json_get(root, "experts"))
        return lb_merge_bad(r, root, "this is a file of mergekit-moe: lbrx moe takes it");
    for (u32 i = 0; r->config->raw && i < LB_LEN(merge_only); i++) {
        const lb_json *v = lb_json_get(root, merge_only[i]);
        if (v)
            return lb_merge_bad(r, v, "`%s` has no meaning for files of tensors: models only",
                                merge_only[i]);
    }
    LB_TRY(lb_merge_keys(r, root, r->config->raw ? raw_keys : keys));
    const lb_json *seed = lb_json_get(root, "random_seed");
    if (!seed)
        return LB_OK;
    u32 before = lb_merge_enter(r, seed->key);
    LB_TRY(lb_merge_note(r, seed, "says nothing here, as in mergekit: the seed is an option"));
    lb_merge_leave(r, before);
    return LB_OK;
}

/* mergekit finds out at the end of the merge (merge.py). */
static lb_status read_chat(lb_merge_reader *r, const lb_json *v) {
    static const char *const names[] = {"auto",   "alpaca",  "chatml", "exaone",
                                        "llama3", "mistral", NULL};
    lb_merge_config *c = r->config;
    bool known = false;
    u32 before = lb_merge_enter(r, v->key);
    LB_TRY(lb_merge_text(r, v, &c->chat_template));
    c->chat_template_line = v->line;
    for (u32 i = 0; names[i]; i++)
        known |= lb_str_eq_c(c->chat_template, names[i]);
    lb_str s = c->chat_template;
    bool is_template = s.len >= 20 && memchr(s.ptr, '{', s.len);
    const char *near = lb_merge_nearest(s, names);
    if (s.len && !known && !is_template)
        return lb_merge_bad(
            r, v, "neither auto, alpaca, chatml, exaone, llama3, mistral nor a template%s%s%s",
            near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    lb_merge_leave(r, before);
    return LB_OK;
}

/* Rows of tokens come from inputs only. */
static lb_status order_token(const lb_merge_reader *r, lb_merge_token *t, const u32 *to) {
    const lb_merge_config *c = r->config;
    if (t->from == LB_TOKEN_USUAL || t->from == LB_TOKEN_ZERO)
        return LB_OK;
    if (!r->merged[t->model])
        return lb_fail(r->err, LB_E_FORMAT,
                       "%.*s: line %u: tokenizer.tokens.%.*s: model %.*s is no input of the merge: "
                       "its embedding is not at hand",
                       LB_FMT(r->what), t->line, (int)LB_MIN(t->token.len, 64), t->token.ptr,
                       LB_FMT(c->models[t->model].text));
    t->model = to[t->model];
    return LB_OK;
}

/* The base, then the inputs in order of mention, then what else is named. */
static lb_status order_models(lb_merge_reader *r) {
    lb_merge_config *c = r->config;
    u32 *to = lb_arena_new(r->perm, u32, (u64)c->n_refs + 1), n = 0;
    lb_merge_ref *refs = lb_arena_new(r->perm, lb_merge_ref, (u64)c->n_refs + 1);
    if (!to || !refs)
        return lb_merge_no_memory(r);
    for (u32 pass = 0; pass < 2; pass++) {
        for (u32 i = 0; i < c->n_refs; i++)
            if (r->merged[i] == (pass == 0)) {
                refs[n] = c->models[i];
                to[i] = n++;
            }
        if (pass == 0)
            c->n_models = n;
    }
    if (c->vocab == LB_VOCAB_MODEL)
        c->vocab_model = to[c->vocab_model];
    for (u32 i = 0; i < c->n_tokens; i++)
        LB_TRY(order_token(r, &c->tokens[i], to));
    c->models = refs;
    for (u32 i = 0; i < c->n_modules; i++)
        for (u32 k = 0; k < c->modules[i].n_slices; k++) {
            lb_merge_slice *s = &c->modules[i].slices[k];
            s->base = s->base == LB_NO_MODEL ? LB_NO_MODEL : to[s->base];
            for (u32 j = 0; j < s->n_sources; j++)
                s->sources[j].model = to[s->sources[j].model];
        }
    return LB_OK;
}

lb_status lb_merge_read_config(lb_merge_reader *r, const lb_json *root, u32 flags) {
    lb_merge_config *c = r->config;
    c->what = r->what;
    c->raw = flags & LB_MERGE_RAW;
    c->line = root->line;
    c->base = LB_NO_MODEL;
    LB_TRY(check_root(r, root));
    const lb_json *name = lb_merge_get(root, "name"), *method = lb_merge_get(root, "merge_method");
    const lb_json *chat = lb_merge_get(root, "chat_template");
    u32 before = r->path_len;
    if (name) {
        lb_merge_enter(r, name->key);
        LB_TRY(lb_merge_text(r, name, &c->name));
        lb_merge_leave(r, before);
    }
    if (!method)
        return lb_merge_bad(r, root, "`merge_method` is missing");
    lb_merge_enter(r, method->key);
    LB_TRY(lb_merge_text(r, method, &c->method));
    lb_merge_leave(r, before);
    c->method_line = method->line;
    if (chat)
        LB_TRY(read_chat(r, chat));
    LB_TRY(lb_merge_read_dtype(r, root, "dtype", &c->has_dtype, &c->dtype));
    LB_TRY(lb_merge_read_dtype(r, root, "out_dtype", &c->has_out_dtype, &c->out_dtype));
    LB_TRY(read_base(r, root));
    LB_TRY(read_form(r, root));
    LB_TRY(lb_merge_read_settings(r, root, &c->settings));
    if (!c->raw)
        LB_TRY(lb_merge_read_tokenizer(r, root));
    return order_models(r);
}
