/* SPDX-License-Identifier: Apache-2.0 */
/* merge.c: a merge file's models opened, its tensors listed, their nodes made. */
#include "ops/merge.h"
#include "merge/parts.h"
#include "merge/result.h"
#include "base/os.h"
#include "ops/hf_texts.h"
#include "ops/lora.h"
#include "ops/merge_adapters.h"
#include "ops/merge_importance.h"
#include "ops/merge_view.h"
#include "ops/merge_vocab.h"
#include "ops/moe.h"
#include "ops/open.h"

#define FILE_BYTES_MAX (4 * LB_MIB)

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
}

bool lb_merge_is_file(const char *path) {
    lb_str p = lb_str_c(path);
    return lb_str_ends(p, LB_STR(".yml")) || lb_str_ends(p, LB_STR(".yaml"));
}

/* ---- the models ---- */

static bool exists(const char *path) {
    lb_fstat r;
    return lb_os_stat(path, &r, NULL) == LB_OK;
}

/* As it stands; beside the merge file; in the hub's cache. */
static const char *find_model(lb_arena *perm, const char *file, lb_str name) {
    lb_str here = lb_arena_str(perm, name);
    if (!here.ptr || exists(here.ptr))
        return here.ptr;
    lb_str dir = lb_os_dir_name(lb_str_c(file));
    lb_str beside = lb_arena_printf(perm, "%.*s/%.*s", LB_FMT(dir), LB_FMT(name));
    if (!beside.ptr || exists(beside.ptr))
        return beside.ptr;
    size_t at;
    bool hub = !lb_str_starts(name, LB_STR("/")) && lb_str_find(name, LB_STR("/"), &at) &&
               !lb_str_starts(name, LB_STR("hf://")) && !lb_str_starts(name, LB_STR("."));
    return hub ? lb_arena_printf(perm, "hf://%.*s", LB_FMT(name)).ptr : here.ptr;
}

static lb_status open_document(lb_source **out, const char *path, const lb_merge_file *file, u32 k,
                               lb_str text, const lb_merge_opts *o, lb_err *err);

static bool is_same_file(const char *a, const char *b) {
    lb_fstat x, y;
    return lb_os_stat(a, &x, NULL) == LB_OK && lb_os_stat(b, &y, NULL) == LB_OK && x.dev == y.dev &&
           x.ino == y.ino;
}

static lb_status check_ring(const lb_merge_around *a, const char *path, lb_err *err) {
    u32 depth = 0;
    for (; a; a = a->around, depth++)
        if (is_same_file(a->path, path))
            return lb_fail(err, LB_E_FORMAT, "%s: this merge is made of itself", path);
    return depth < LB_MERGE_DEPTH_MAX
               ? LB_OK
               : lb_fail(err, LB_E_LIMIT, "%s: merge files within merge files, more than %d", path,
                         LB_MERGE_DEPTH_MAX);
}

/* MODEL+LORA: *model becomes the model with the adapter. */
static lb_status put_lora(lb_source *s, const lb_merge_ref *r, lb_source **model, lb_err *err) {
    lb_source *base = *model, *adapter = NULL;
    const char *path = find_model(&s->perm, s->path, r->lora);
    if (!path)
        return oom(err);
    LB_TRY(lb_open(&adapter, path, err));
    *model = NULL;
    return lb_lora_open(model, &base, &adapter, NULL, 1, err);
}

/* MODEL+LORA before another adapter: split as the whole was. False: it is a plain name. */
static bool split_lora(const lb_merge_ref *r, lb_merge_ref *out) {
    size_t at = r->path.len;
    while (at > 0 && r->path.ptr[at - 1] != '+')
        at--;
    if (at < 2 || at == r->path.len)
        return false;
    *out = (lb_merge_ref){.text = r->path,
                          .path = lb_str_sub(r->path, 0, at - 1),
                          .lora = lb_str_sub(r->path, at, r->path.len),
                          .merge = LB_NO_MERGE};
    return true;
}

lb_status lb_merge_open_ref(lb_source **out, lb_source *s, const lb_merge_ref *r,
                            const lb_merge_opts *o, lb_err *err) {
    const char *whole = find_model(&s->perm, s->path, r->text);
    if (!whole)
        return oom(err);
    bool with_lora = r->lora.len && !exists(whole);
    const char *path = exists(whole) ? whole : find_model(&s->perm, s->path, r->path);
    lb_merge_ref below;
    if (!path)
        return oom(err);
    if (with_lora && !exists(path) && split_lora(r, &below)) {
        lb_status st = lb_merge_open_ref(out, s, &below, o, err);
        if (st == LB_OK)
            st = put_lora(s, r, out, err);
        if (st != LB_OK && r->line)
            lb_err_context(err, "%s: line %u", s->path, r->line);
        return st;
    }
    lb_merge_around own = {s->path, o->around};
    lb_merge_opts inner = *o;
    inner.around = &own;
    inner.text = LB_STR_NONE;
    lb_status st = lb_merge_is_file(path) ? check_ring(&own, path, err) : LB_OK;
    const lb_moe_opts moe = {.seed = o->seed, .around = &own};
    if (st == LB_OK)
        st = lb_moe_is_file(path)     ? lb_moe_open(out, path, &moe, err)
             : lb_merge_is_file(path) ? lb_merge_open(out, path, &inner, err)
                                      : lb_open_planned(out, path, err);
    if (st == LB_OK && with_lora)
        st = put_lora(s, r, out, err);
    if (st != LB_OK && r->line)
        lb_err_context(err, "%s: line %u", s->path, r->line);
    return st;
}

static lb_status open_model(lb_source *s, const lb_merge_file *file, const lb_merge_ref *r,
                            lb_str text, const lb_merge_opts *o, lb_source **out, lb_err *err) {
    if (r->merge == LB_NO_MERGE)
        return lb_merge_open_ref(out, s, r, o, err);
    LB_TRY(open_document(out, s->path, file, r->merge, text, o, err));
    return r->lora.len ? put_lora(s, r, out, err) : LB_OK;
}

static lb_status open_models(lb_source *s, const lb_merge_file *file, const lb_merge_config *c,
                             lb_str text, const lb_merge_opts *o, lb_err *err) {
    lb_merge_files files;
    LB_TRY(lb_merge_files_of(c, &s->perm, &files, err));
    LB_TRY(lb_computed_room(s, c->n_models + files.n, err));
    for (u32 i = 0; i < c->n_models; i++) {
        lb_source *in = NULL;
        LB_TRY(open_model(s, file, &c->models[i], text, o, &in, err));
        lb_computed_take(s, &in);
    }
    for (u32 i = 0; i < files.n; i++) {
        lb_source *in = NULL;
        const char *path = find_model(&s->perm, s->path, files.list[i].name);
        lb_status st = path ? lb_merge_importance_open(&in, path, err) : oom(err);
        if (st != LB_OK)
            lb_err_context(err, "%s: line %u", s->path, files.list[i].line);
        LB_TRY(st);
        lb_computed_take(s, &in);
    }
    return LB_OK;
}

/* ---- views of the inputs in a plan ---- */

typedef struct views {
    lb_merge_view *view; /* [n] */
    lb_merge_model *model;
    u32 n;
    u32 index; /* of the source in the plan */
} views;

static void free_views(views *v) {
    for (u32 i = 0; i < v->n; i++)
        lb_merge_view_deinit(&v->view[i]);
}

/* mergekit wants one architecture; another has other tensors under the same names. */
static lb_status check_family(const lb_merge_config *c, const views *v, u32 i, lb_err *err) {
    const lb_arch *first = v->view[0].canon.arch, *own = v->view[i].canon.arch;
    if (own == first || (own && first && strcmp(lb_arch_name(own), lb_arch_name(first)) == 0))
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "'%.*s' is of the family %s, '%.*s' of %s: models of one family are merged",
                   LB_FMT(c->models[0].text), first ? lb_arch_name(first) : "(unknown)",
                   LB_FMT(c->models[i].text), own ? lb_arch_name(own) : "(unknown)");
}

static bool has_fact(const lb_merge_view *v, lb_str name) {
    u32 lo = 0, hi = v->n;
    while (lo < hi) {
        u32 mid = lo + (hi - lo) / 2;
        int c = lb_str_cmp(v->facts[mid].name, name);
        if (c == 0)
            return true;
        lo = c < 0 ? mid + 1 : lo;
        hi = c < 0 ? hi : mid;
    }
    return false;
}

/* Only the tensors that all have. */
static void keep_common(views *v) {
    for (u32 i = 0; i < v->n; i++) {
        lb_merge_view *x = &v->view[i];
        u32 n = 0;
        for (u32 k = 0; k < x->n; k++) {
            bool all = true;
            for (u32 m = 0; m < v->n && all; m++)
                all = m == i || has_fact(&v->view[m], x->facts[k].name);
            if (!all)
                continue;
            x->facts[n] = x->facts[k];
            x->nodes[n++] = x->nodes[k];
        }
        x->n = x->counted = n;
    }
}

/* Of the inputs of source `index` of the plan. */
static lb_status make_views(lb_plan *p, u32 index, const lb_merge *merge, views *v, lb_err *err) {
    const lb_merge_config *c = merge->config;
    const lb_merge_opts *o = &merge->opts;
    const lb_source *s = p->graph.sources[index];
    v->index = index;
    v->view = lb_arena_new(&p->perm, lb_merge_view, s->n_inputs + 1);
    v->model = lb_arena_new(&p->perm, lb_merge_model, s->n_inputs + 1);
    if (!v->view || !v->model)
        return oom(err);
    for (u32 i = 0; i < c->n_models; i++) { /* behind them: files of importance */
        v->n = i + 1;
        u32 at = lb_computed_input(p, index, i);
        lb_status st = c->raw ? lb_merge_view_raw(p, at, &v->view[i], err)
                              : lb_merge_view_make(p, at, i ? &v->view[0] : NULL, &v->view[i], err);
        if (st != LB_OK) {
            lb_err_context(err, "%.*s", LB_FMT(c->models[i].text));
            return st;
        }
        LB_TRY(check_family(c, v, i, err));
    }
    if (o->raw && o->intersect)
        keep_common(v);
    for (u32 i = 0; i < v->n; i++) {
        lb_merge_view *x = &v->view[i];
        for (u32 k = 0; o->raw && o->unite && k < x->n; k++)
            x->facts[k].is_optional = true;
        v->model[i] =
            (lb_merge_model){.n_layers = &x->n_layers, .facts = x->facts, .n_facts = x->n};
    }
    return LB_OK;
}

/* ---- types ---- */

static lb_dtype promote(lb_dtype a, lb_dtype b) {
    return a == b ? a : LB_F32;
}

/* In which mergekit computes a tensor. */
static lb_dtype work_type(const lb_merge_config *c, const lb_merge_model *models,
                          const lb_merge_tensor *t) {
    lb_dtype d = models[t->slots[0].model].facts[t->slots[0].fact].dtype;
    if (c->has_dtype)
        return c->dtype;
    for (u32 i = 1; i < t->n_slots; i++)
        d = promote(d, models[t->slots[i].model].facts[t->slots[i].fact].dtype);
    return d;
}

/* The model whose types --type keep keeps: the base, else that which gives the config. */
static u32 base_of(const lb_merge_config *c) {
    return c->base != LB_NO_MODEL ? c->base : 0;
}

static lb_dtype out_type(const lb_merge *merge, const lb_merge_model *models,
                         const lb_merge_tensor *t) {
    const lb_merge_config *c = merge->config;
    const lb_merge_fact *f = &models[t->slots[0].model].facts[t->slots[0].fact];
    for (u32 i = 0; merge->opts.keep && i < t->n_slots; i++)
        if (t->slots[i].model == base_of(c))
            return models[t->slots[i].model].facts[t->slots[i].fact].dtype;
    if (f->is_buffer || merge->opts.keep)
        return f->dtype;
    return c->has_out_dtype ? c->out_dtype : work_type(c, models, t);
}

/* ---- opening ---- */

/* The model whose config, tokenizer and the like the result takes. */
static const lb_source *donor_of(const lb_source *s) {
    return s->inputs[0];
}

/* What of the models is in no result, as notes of the source. */
static lb_status say_skipped(lb_source *s, const lb_merge_config *c, const views *v,
                             const lb_merge *merge, lb_err *err) {
    static const char *const whys[] = {"no slice takes its layer", "no first or last slice has it",
                                       "the model gives config and tokenizer only",
                                       "the method makes nothing of it"};
    lb_buf b = {0};
    for (u32 w = 0; w < LB_LEN(whys); w++) {
        u64 n = 0;
        const lb_merge_skip *first = NULL;
        for (u64 i = 0; i < merge->outline.n_skipped; i++)
            if (merge->outline.skipped[i].why == (lb_merge_why)w && n++ == 0)
                first = &merge->outline.skipped[i];
        if (n)
            lb_buf_printf(&b, "left out: %llu tensors (%s), the first %.*s of %.*s\n",
                          (unsigned long long)n, whys[w],
                          LB_FMT(v->model[first->model].facts[first->fact].name),
                          LB_FMT(c->models[first->model].text));
    }
    for (u32 i = 0; i < c->n_notes; i++)
        lb_buf_printf(&b, "%.*s\n", LB_FMT(c->notes[i]));
    for (u64 i = 0; i < merge->outline.n_notes; i++)
        lb_buf_printf(&b, "%.*s\n", LB_FMT(merge->outline.notes[i]));
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK && b.len) {
        s->notes = lb_arena_str(&s->perm, lb_str_sub(lb_buf_str(&b), 0, b.len - 1));
        st = s->notes.ptr ? LB_OK : oom(err);
    }
    lb_buf_deinit(&b);
    return st;
}

/* The module of the language model, whose layers the architecture's table counts. */
static lb_status find_parts(const views *v, lb_arena *perm, lb_merge_parts *parts, lb_err *err) {
    lb_merge_fact **facts = lb_arena_new(perm, lb_merge_fact *, v->n + 1);
    u32 *n_facts = lb_arena_new(perm, u32, v->n + 1);
    lb_str type = LB_STR_NONE;
    if (!facts || !n_facts)
        return oom(err);
    for (u32 i = 0; i < v->n; i++) {
        facts[i] = v->view[i].facts;
        n_facts[i] = v->view[i].n;
    }
    (void)lb_json_as_str(lb_json_get(v->view[0].canon.config, "model_type"), &type);
    LB_TRY(
        lb_merge_parts_find(type, (lb_merge_fact *const *)facts, n_facts, v->n, perm, parts, err));
    for (u32 i = 0; i < v->n; i++) {
        u32 own = v->view[i].counted;
        if (own < n_facts[i])
            parts->n_layers[(u64)i * parts->n + facts[i][own].module] = v->view[i].n_layers;
        v->model[i].n_layers = &parts->n_layers[(u64)i * parts->n];
    }
    return LB_OK;
}

/* Layer i of the result comes from layer from[i] of its model. */
static lb_status keep_layers(lb_source *s, lb_merge *merge, const views *v, lb_err *err) {
    u32 own = v->view[0].counted;
    const lb_merge_part *p =
        &merge->outline.parts[own < v->view[0].n ? v->view[0].facts[own].module : 0];
    u32 *from = lb_arena_new(&s->perm, u32, p->n_layers + 1);
    if (!from)
        return oom(err);
    for (u64 i = 0; i < p->n_layers; i++)
        from[i] = p->from[i].layer;
    merge->computed.has_base = true;
    merge->computed.base = base_of(merge->config);
    merge->computed.base_layers = from;
    merge->computed.n_base_layers = (u32)p->n_layers;
    return LB_OK;
}

static lb_status list_tensors(lb_source *s, const lb_merge_config *c, const views *v,
                              lb_merge *merge, lb_err *err) {
    lb_merge_parts parts;
    LB_TRY(find_parts(v, &s->perm, &parts, err));
    const lb_merge_world world = {parts.names, parts.n, v->model};
    LB_TRY(lb_merge_outline_make(c, NULL, &world, &s->perm, &merge->outline, err));
    LB_TRY(keep_layers(s, merge, v, err));
    LB_TRY(say_skipped(s, c, v, merge, err));
    for (u64 i = 0; i < merge->outline.n_tensors; i++) {
        lb_merge_tensor *t = &merge->outline.tensors[i];
        const lb_merge_fact *f = &v->model[t->slots[0].model].facts[t->slots[0].fact];
        t->name = lb_arena_str(&s->perm, t->name); /* the plan's names go with it */
        if (!t->name.ptr)
            return oom(err);
        lb_shape shape = lb_merge_tokens_shape(&merge->vocab, t, &f->shape);
        LB_TRY(lb_source_add_computed(s, t->name, out_type(merge, v->model, t), &shape, err));
    }
    return LB_OK;
}

static lb_status take_sides(lb_source *s, const views *v, const lb_merge *merge, lb_buf *notes,
                            lb_err *err) {
    LB_TRY(lb_hf_texts_take(s, donor_of(s), &v->view[0].canon, notes, err));
    return lb_computed_side(s, LB_STR("mergekit_config.yml"), merge->text, true, err);
}

/* An output matrix that is no other tensor of the result. */
static bool has_head(const lb_merge *merge, const views *v) {
    for (u64 i = 0; i < merge->outline.n_tensors; i++) {
        const lb_merge_tensor *t = &merge->outline.tensors[i];
        const lb_merge_view *own = &v->view[t->slots[0].model];
        for (u32 k = 0; t->is_vocab && k < own->n; k++)
            if (own->facts[k].is_vocab && own->facts[k].after &&
                lb_str_eq(own->facts[k].name, t->name))
                return true;
    }
    return false;
}

static lb_status take_config(lb_source *s, const lb_merge_config *c, const lb_merge *merge,
                             const views *v, const lb_source *other, lb_err *err) {
    lb_merge_more more = {.n_rows = merge->vocab.n_rows,
                          .untied = v->view[0].canon.hp.tied && has_head(merge, v)};
    if (c->vocab == LB_VOCAB_MODEL && c->vocab_model != 0)
        LB_TRY(lb_merge_ids_of(other ? other : s->inputs[c->vocab_model], &s->perm, &more.ids_of,
                               err));
    lb_str *configs = lb_arena_new(&s->perm, lb_str, s->n_inputs + 1);
    if (!configs)
        return oom(err);
    for (u32 i = 0; i < s->n_inputs; i++)
        configs[i] = i ? s->inputs[i]->config : s->config;
    return lb_merge_config_of(configs, c, &merge->outline, &more, &s->perm, &s->config, err);
}

/* Of the models as they are seen in a plan: tokenizer, tensors, config. */
static lb_status describe(lb_source *s, lb_plan *p, const lb_merge_config *c, const views *v,
                          lb_merge *merge, lb_source *other, lb_err *err) {
    lb_merge_tokens_in in = {.config = c, .views = v->view, .other = other};
    lb_buf notes = {0};
    lb_status st = take_sides(s, v, merge, &notes, err);
    if (st == LB_OK)
        st = lb_merge_tokens_make(s, &in, &merge->vocab, &notes, err);
    if (st == LB_OK)
        st = lb_merge_template_set(s, &in, err);
    if (st == LB_OK)
        st = list_tensors(s, c, v, merge, err);
    if (st == LB_OK)
        st = lb_merge_adapters_note(&p->graph, &merge->outline, v->view, &p->perm, &notes, err);
    if (st == LB_OK)
        st = lb_computed_notes(s, &notes, err);
    lb_buf_deinit(&notes);
    return st == LB_OK ? take_config(s, c, merge, v, other, err) : st;
}

/* The model that is there for its tokenizer alone. */
static lb_status open_other(lb_source *s, const lb_merge_file *file, const lb_merge_config *c,
                            lb_merge *merge, lb_source **out, lb_err *err) {
    static const char *const words[] = {"union", "base", NULL};
    const lb_merge_ref *r = &c->models[c->vocab_model];
    const char *near = lb_merge_nearest(r->text, words);
    lb_status st = open_model(s, file, r, merge->text, &merge->opts, out, err);
    if (st != LB_OK)
        lb_err_context(err, "tokenizer_source%s%s%s", near ? " (did you mean " : "",
                       near ? near : "", near ? "?)" : "");
    return st;
}

static lb_status check_adapters(lb_source *s, const lb_merge_config *c, lb_err *err) {
    const lb_merge_method *m;
    LB_TRY(lb_merge_method_of(c, &m, err));
    return m->of_adapters ? lb_merge_adapters_check(s->inputs, c, err) : LB_OK;
}

static lb_status fill_source(lb_source *s, const lb_merge_file *file, const lb_merge_config *c,
                             lb_merge *merge, lb_err *err) {
    lb_plan *p = NULL;
    views v = {0};
    lb_source *other = NULL;
    LB_TRY(open_models(s, file, c, merge->text, &merge->opts, err));
    LB_TRY(check_adapters(s, c, err));
    lb_status st = lb_computed_plan(&p, s, err);
    if (st == LB_OK)
        st = make_views(p, 0, merge, &v, err);
    if (st == LB_OK && c->vocab == LB_VOCAB_MODEL && c->vocab_model >= c->n_models)
        st = open_other(s, file, c, merge, &other, err);
    if (st == LB_OK)
        st = describe(s, p, c, &v, merge, other, err);
    lb_source_close(&other);
    free_views(&v);
    lb_plan_free(&p);
    return st;
}

static lb_status bind(const lb_computed *c, lb_plan *p, u32 index, lb_node_id *nodes, lb_err *err);

static lb_status card(const lb_computed *c, lb_str name, lb_buf *out, lb_err *err) {
    const lb_merge *m = (const lb_merge *)(const void *)c;
    return lb_merge_card(name, m->config, m->text, out, err);
}

/* A source for document k of a file; of the last one it holds the parsed file too. */
static lb_status begin_source(lb_source **out, const char *path, const lb_merge_opts *o,
                              lb_merge **merge, lb_err *err) {
    LB_TRY(lb_computed_new(out, NULL, path, o->text.ptr ? o->file : path, err));
    *merge = lb_arena_new(&(*out)->perm, lb_merge, 1);
    if (!*merge)
        return oom(err);
    **merge = (lb_merge){.computed = {.bind = bind, .card = card}, .opts = *o};
    (*out)->computed = &(*merge)->computed;
    return LB_OK;
}

static lb_status open_document(lb_source **out, const char *path, const lb_merge_file *file, u32 k,
                               lb_str text, const lb_merge_opts *o, lb_err *err) {
    lb_merge *merge;
    lb_status st = begin_source(out, path, o, &merge, err);
    if (st == LB_OK) {
        merge->config = &file->merges[k];
        merge->text = text;
        st = fill_source(*out, file, merge->config, merge, err);
    }
    if (st != LB_OK)
        lb_source_close(out);
    return st;
}

static lb_status pick_document(lb_merge *merge, const lb_merge_file *file, const char *path,
                               lb_err *err) {
    const char *named = merge->opts.named;
    for (u32 i = 0; i < file->n_merges; i++)
        if (named ? lb_str_eq_c(file->merges[i].name, named) : i + 1 == file->n_merges) {
            merge->config = &file->merges[i];
            return LB_OK;
        }
    return lb_fail(err, LB_E_NOT_FOUND, "%s: no merge in it has the name '%s'", path, named);
}

lb_status lb_merge_open(lb_source **out, const char *path, const lb_merge_opts *o, lb_err *err) {
    lb_merge *merge;
    lb_merge_file *file = NULL;
    lb_status st = begin_source(out, path, o, &merge, err);
    if (st == LB_OK && !(file = lb_arena_new(&(*out)->perm, lb_merge_file, 1)))
        st = oom(err);
    if (st == LB_OK && o->text.ptr)
        merge->text = lb_arena_str(&(*out)->perm, o->text);
    else if (st == LB_OK)
        st = lb_os_read_file(path, FILE_BYTES_MAX, &(*out)->perm, &merge->text, err);
    if (st == LB_OK && !merge->text.ptr)
        st = oom(err);
    if (st == LB_OK)
        st = lb_merge_file_parse(merge->text, path, o->raw ? LB_MERGE_RAW : 0, &(*out)->perm, file,
                                 err);
    if (st == LB_OK)
        st = pick_document(merge, file, path, err);
    if (st == LB_OK) {
        st = fill_source(*out, file, merge->config, merge, err);
    }
    if (st != LB_OK)
        lb_source_close(out);
    return st;
}

lb_str lb_merge_opts_text(const lb_merge_opts *o, lb_arena *perm) {
    lb_str seed =
        o->seed ? lb_arena_printf(perm, " --seed %llu", (unsigned long long)o->seed) : LB_STR("");
    if (!seed.ptr)
        return seed;
    return lb_arena_printf(perm, "%s%s%s%s%.*s", o->rounding ? " --rounding mergekit" : "",
                           o->raw ? " --raw" : "", o->unite ? " --tensor-union" : "",
                           o->intersect ? " --tensor-intersection" : "", LB_FMT(seed));
}

void lb_merge_opts_of(lb_str text, lb_merge_opts *out) {
    size_t at, end;
    const lb_str seed = LB_STR(" --seed ");
    *out = (lb_merge_opts){0};
    out->rounding =
        lb_str_find(text, LB_STR(" --rounding mergekit"), &at) ? LB_MERGE_MERGEKIT : LB_MERGE_F32;
    out->raw = lb_str_find(text, LB_STR(" --raw"), &at);
    out->unite = lb_str_find(text, LB_STR(" --tensor-union"), &at);
    out->intersect = lb_str_find(text, LB_STR(" --tensor-intersection"), &at);
    if (!lb_str_find(text, seed, &at))
        return;
    for (end = at += seed.len; end < text.len && text.ptr[end] != ' ';)
        end++;
    (void)lb_str_to_u64(lb_str_sub(text, at, end), &out->seed);
}

lb_status lb_merge_names(const char *path, lb_arena *perm, lb_str **names, u32 *n, lb_err *err) {
    lb_merge_file file;
    lb_str text;
    LB_TRY(lb_os_read_file(path, FILE_BYTES_MAX, perm, &text, err));
    LB_TRY(lb_merge_file_parse(text, path, 0, perm, &file, err));
    *n = 0;
    if (!(*names = lb_arena_new(perm, lb_str, file.n_merges + 1)))
        return oom(err);
    for (u32 i = 0; i + 1 < file.n_merges; i++)
        if (file.merges[i].name.len)
            (*names)[(*n)++] = file.merges[i].name;
    return LB_OK;
}

/* ---- nodes ---- */

/* What a parameter of the slot that names a file says of the tensor. */
static lb_status add_importance(lb_plan *p, const lb_merge *merge, const lb_merge_tensor *t,
                                const lb_merge_slot *s, const views *v, lb_node_id *out,
                                lb_err *err) {
    *out = LB_NODE_NONE;
    for (u32 i = 0; t->method && s->param && i < t->method->n_params; i++) {
        if (t->method->params[i].kind != LB_MERGE_FILE || !(s->param[i] >= 0))
            continue;
        u32 file = lb_computed_input(p, v->index, merge->config->n_models + (u32)s->param[i]);
        LB_TRY(lb_merge_importance_make(p, file, &v->view[s->model], s->fact, out, err));
    }
    return LB_OK;
}

/* Integers (positions...) are copied where all models have the same. */
static lb_status check_equal(lb_plan *p, const lb_merge_config *c, const lb_merge_tensor *t,
                             const lb_merge_input *in, lb_err *err) {
    for (u32 i = 1; i < t->n_slots; i++) {
        bool same;
        LB_TRY(lb_merge_view_same(&p->graph, in[0].x, in[i].x, &same, err));
        if (!same)
            return lb_fail(err, LB_E_FORMAT,
                           "tensor '%.*s': integers that differ between %.*s and %.*s: such "
                           "tensors are copied, and must be the same",
                           LB_FMT(t->name), LB_FMT(c->models[t->slots[0].model].text),
                           LB_FMT(c->models[t->slots[i].model].text));
    }
    return LB_OK;
}

static lb_status build(lb_plan *p, const lb_merge *merge, const lb_merge_tensor *t, const views *v,
                       u32 carry, lb_node_id *out, lb_err *err) {
    const lb_merge_config *c = merge->config;
    const lb_merge_fact *first = &v->model[t->slots[0].model].facts[t->slots[0].fact];
    lb_merge_input *in = lb_arena_new(&p->perm, lb_merge_input, t->n_slots);
    if (!in)
        return oom(err);
    for (u32 i = 0; i < t->n_slots; i++) {
        const lb_merge_slot *s = &t->slots[i];
        in[i] = (lb_merge_input){.dtype = v->model[s->model].facts[s->fact].dtype,
                                 .is_base = s->is_base};
        if (s->param)
            memcpy(in[i].param, s->param, t->method->n_params * sizeof *s->param);
        in[i].x = v->view[s->model].nodes[s->fact];
        LB_TRY(add_importance(p, merge, t, s, v, &in[i].importance, err));
    }
    lb_shape shape = lb_merge_tokens_shape(&merge->vocab, t, &first->shape);
    lb_merge_job j = {.g = &p->graph,
                      .perm = &p->perm,
                      .name = t->name,
                      .shape = &shape,
                      .in = in,
                      .n_in = t->n_slots,
                      .layer = t->layer,
                      .n_layers = merge->outline.parts[t->module].n_layers,
                      .is_vocab = t->is_vocab,
                      .work = work_type(c, v->model, t),
                      .rounding = merge->opts.rounding,
                      .carry = carry};
    if (merge->vocab.n_ids && t->is_vocab)
        LB_TRY(lb_merge_tokens_align(&merge->vocab, c, t, &j, in, err));
    if (t->method && t->method->of_adapters)
        LB_TRY(lb_merge_adapters_terms(&p->graph, in, t->n_slots, &p->perm, err));
    if (!t->method) {
        *out = in[0].x;
        return t->equal ? check_equal(p, c, t, in, err) : LB_OK;
    }
    if (t->param)
        memcpy(j.param, t->param, t->method->n_params * sizeof *t->param);
    return t->method->build(t->method, &j, out, err);
}

/* A stored value of the type that is written stays stored. */
static lb_node_id as_result(lb_graph *g, lb_node_id x, lb_dtype dtype) {
    return lb_expr_is_stored_as(g, x, dtype) ? x : lb_expr_decode(g, x);
}

static lb_status bind_all(lb_plan *p, const lb_merge *merge, u32 index, const views *v,
                          lb_node_id *nodes, lb_err *err) {
    const lb_source *s = p->graph.sources[index];
    u32 carry = lb_expr_carry(&p->graph, merge->opts.seed);
    for (u64 i = 0; i < s->n_weights; i++) {
        const lb_merge_tensor *t = &merge->outline.tensors[i];
        lb_status st = build(p, merge, t, v, carry, &nodes[i], err);
        if (st == LB_E_USAGE) /* what a method says of its parameters: the file has them */
            st = lb_fail(err, LB_E_FORMAT, "%s", lb_arena_printf(&p->perm, "%s", err->msg).ptr);
        LB_TRY(st);
        LB_TRY(lb_graph_status(&p->graph, err));
        nodes[i] = as_result(&p->graph, nodes[i], s->tensors[i].dtype);
    }
    return LB_OK;
}

static lb_status bind(const lb_computed *c, lb_plan *p, u32 index, lb_node_id *nodes, lb_err *err) {
    const lb_merge *merge = (const lb_merge *)(const void *)c;
    views v = {0};
    lb_status st = make_views(p, index, merge, &v, err);
    if (st == LB_OK)
        st = bind_all(p, merge, index, &v, nodes, err);
    free_views(&v);
    return st;
}
