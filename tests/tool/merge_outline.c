/* SPDX-License-Identifier: Apache-2.0 */
/* merge_outline.c: what lbrx makes of merge files and models that are only described, for
 * tests/peers/peer_merge_outline.py:
 *
 *   merge_outline FILE.json    an array of cases -> an array of outlines, or {"error": MESSAGE}
 *   merge_outline --methods    the methods that there are
 *
 * A case: {"yaml", "raw", "method" (as --methods prints one; null: by the file), "modules": [name],
 * "models": {TEXT: {"n_layers": [of each module],
 *                   "facts": [[name, shape, dtype, module, layer or -1, same_as or -1, flags]]}}}
 * flags: a behind the layers, v vocabulary, b buffer, o optional. With "model_type" modules and
 * layers are those that the names say (merge/parts.h). */
#include "base/os.h"
#include "io/json.h"
#include "merge/parts.h"
#include <stdio.h>

static const char *const policies[] = {"ignored", "optional", "required"};
static const char *const lacks[] = {"error", "passthrough_singleton", "passthrough_base_singleton",
                                    "base_or_skip"};
static const char *const scopes[] = {"shared", "input", "non_base"};
static const char *const kinds[] = {"float", "int", "bool"};

static u32 number(const lb_json *v, const char *key) {
    u64 n = 0;
    (void)lb_json_as_u64(lb_json_get(v, key), &n);
    return (u32)n;
}

static u32 word(const lb_json *v, const char *key, const char *const *list, u32 n) {
    lb_str s = LB_STR_NONE;
    (void)lb_json_as_str(lb_json_get(v, key), &s);
    for (u32 i = 0; i < n; i++)
        if (lb_str_eq_c(s, list[i]))
            return i;
    LB_ASSERT(!"a known word");
    return 0;
}

static const char *text(const lb_json *v, const char *key, lb_arena *perm) {
    lb_str s = LB_STR_NONE;
    (void)lb_json_as_str(lb_json_get(v, key), &s);
    return lb_arena_str(perm, s).ptr;
}

static const lb_merge_method *read_method(const lb_json *v, lb_arena *perm) {
    if (!v || v->type != LB_JOBJECT)
        return NULL;
    const lb_json *list = lb_json_get(v, "params");
    lb_merge_method *m = lb_arena_new(perm, lb_merge_method, 1);
    lb_merge_param *p = lb_arena_new(perm, lb_merge_param, list->n + 1);
    *m = (lb_merge_method){.name = text(v, "name", perm),
                           .params = p,
                           .n_params = (u32)list->n,
                           .base = word(v, "base", policies, LB_LEN(policies)),
                           .min_in = number(v, "min_in"),
                           .max_in = number(v, "max_in"),
                           .min_non_base = number(v, "min_non_base"),
                           .max_non_base = number(v, "max_non_base"),
                           .lack = word(v, "lack", lacks, LB_LEN(lacks))};
    for (const lb_json *e = list->first; e; e = e->next, p++) {
        *p = (lb_merge_param){.name = text(e, "name", perm),
                              .scope = word(e, "scope", scopes, LB_LEN(scopes)),
                              .kind = word(e, "kind", kinds, LB_LEN(kinds))};
        (void)lb_json_as_bool(lb_json_get(e, "required"), &p->required);
        (void)lb_json_as_f64(lb_json_get(e, "default"), &p->initial);
    }
    return m;
}

static void put_str(lb_buf *b, const char *key, lb_str s) {
    lb_buf_printf(b, "\"%s\": ", key);
    lb_json_write_str(b, s, true);
}

static void put_method(lb_buf *b, const lb_merge_method *m) {
    lb_buf_printf(b, "{\"name\": \"%s\", \"base\": \"%s\", \"min_in\": %u, \"max_in\": %u, ",
                  m->name, policies[m->base], m->min_in, m->max_in);
    lb_buf_printf(b, "\"min_non_base\": %u, \"max_non_base\": %u, \"lack\": \"%s\", \"params\": [",
                  m->min_non_base, m->max_non_base, lacks[m->lack]);
    for (u32 i = 0; i < m->n_params; i++) {
        const lb_merge_param *p = &m->params[i];
        lb_buf_printf(b,
                      "%s{\"name\": \"%s\", \"scope\": \"%s\", \"kind\": \"%s\", \"required\": %s, "
                      "\"default\": ",
                      i ? ", " : "", p->name, scopes[p->scope], kinds[p->kind],
                      p->required ? "true" : "false");
        lb_json_write_f64(b, p->initial);
        lb_buf_put_c(b, "}");
    }
    lb_buf_put_c(b, "]}");
}

static void read_fact(const lb_json *v, lb_merge_fact *f) {
    const lb_json *at = v->first;
    i64 n = 0;
    *f = (lb_merge_fact){.name = at->text};
    for (const lb_json *d = (at = at->next)->first; d; d = d->next)
        (void)lb_json_as_u64(d, &f->shape.dim[f->shape.rank++]);
    bool known = lb_dtype_find((at = at->next)->text, &f->dtype);
    LB_ASSERT(known);
    (void)lb_json_as_i64(at = at->next, &n);
    f->module = (u32)n;
    (void)lb_json_as_i64(at = at->next, &n);
    f->layer = n < 0 ? LB_NO_LAYER : (u32)n;
    (void)lb_json_as_i64(at = at->next, &n);
    f->same_as = n < 0 ? LB_NO_FACT : (u32)n;
    lb_str flags = at->next->text;
    size_t pos;
    f->after = lb_str_find(flags, LB_STR("a"), &pos);
    f->is_vocab = lb_str_find(flags, LB_STR("v"), &pos);
    f->is_buffer = lb_str_find(flags, LB_STR("b"), &pos);
    f->is_optional = lb_str_find(flags, LB_STR("o"), &pos);
}

static void read_model(const lb_json *v, u32 n_modules, lb_arena *perm, lb_merge_model *out) {
    const lb_json *list = lb_json_get(v, "facts");
    lb_merge_fact *f = lb_arena_new(perm, lb_merge_fact, list->n + 1);
    u64 *n = lb_arena_new(perm, u64, n_modules), *at = n;
    for (const lb_json *e = lb_json_get(v, "n_layers")->first; e; e = e->next)
        (void)lb_json_as_u64(e, at++);
    *out = (lb_merge_model){.n_layers = n, .facts = f, .n_facts = (u32)list->n};
    for (const lb_json *e = list->first; e; e = e->next)
        read_fact(e, f++);
}

/* The same by names alone. */
static lb_status find_parts(lb_str model_type, u32 n, lb_arena *perm, lb_merge_world *w,
                            lb_merge_model *models, lb_err *err) {
    lb_merge_fact **facts = lb_arena_new(perm, lb_merge_fact *, n);
    u32 *n_facts = lb_arena_new(perm, u32, n);
    lb_merge_parts parts;
    for (u32 i = 0; i < n; i++) {
        facts[i] = (lb_merge_fact *)(uintptr_t)models[i].facts;
        n_facts[i] = models[i].n_facts;
        for (u32 k = 0; k < n_facts[i]; k++)
            facts[i][k].layer = LB_NO_LAYER;
    }
    LB_TRY(lb_merge_parts_find(model_type, facts, n_facts, n, perm, &parts, err));
    w->modules = parts.names;
    w->n_modules = parts.n;
    for (u32 i = 0; i < n; i++)
        models[i].n_layers = parts.n_layers + (u64)i * parts.n;
    return LB_OK;
}

static void put_params(lb_buf *b, const lb_merge_method *m, const double *values, bool shared) {
    bool first = true;
    lb_buf_put_c(b, ", \"params\": {");
    for (u32 i = 0; values && i < m->n_params; i++) {
        if ((m->params[i].scope == LB_MERGE_SHARED) != shared)
            continue;
        lb_buf_printf(b, "%s\"%s\": ", first ? "" : ", ", m->params[i].name);
        lb_json_write_f64(b, values[i]);
        first = false;
    }
    lb_buf_put_c(b, "}");
}

static void put_outline(lb_buf *b, const lb_merge_config *c, const lb_merge_world *w,
                        const lb_merge_outline *o) {
    lb_buf_put_c(b, "{\"tensors\": [");
    for (u64 i = 0; i < o->n_tensors; i++) {
        const lb_merge_tensor *t = &o->tensors[i];
        lb_buf_put_c(b, i ? ",\n {" : "{");
        put_str(b, "name", t->name);
        lb_buf_printf(b, ", \"copy\": %s, \"equal\": %s", t->method ? "false" : "true",
                      t->equal ? "true" : "false");
        put_params(b, o->method, t->param, true);
        lb_buf_put_c(b, ", \"slots\": [");
        for (u32 s = 0; s < t->n_slots; s++) {
            const lb_merge_slot *x = &t->slots[s];
            lb_buf_put_c(b, s ? ", {" : "{");
            put_str(b, "model", c->models[x->model].text);
            lb_buf_put_c(b, ", ");
            put_str(b, "fact", w->models[x->model].facts[x->fact].name);
            lb_buf_printf(b, ", \"is_base\": %s", x->is_base ? "true" : "false");
            put_params(b, o->method, x->param, false);
            lb_buf_put_c(b, "}");
        }
        lb_buf_put_c(b, "]}");
    }
    lb_buf_put_c(b, "], \"skipped\": [");
    for (u64 i = 0; i < o->n_skipped; i++) {
        const lb_merge_skip *s = &o->skipped[i];
        lb_buf_put_c(b, i ? ", {" : "{");
        put_str(b, "model", c->models[s->model].text);
        lb_buf_put_c(b, ", ");
        put_str(b, "fact", w->models[s->model].facts[s->fact].name);
        lb_buf_printf(b, ", \"why\": %d}", (int)s->why);
    }
    lb_buf_put_c(b, "]}");
}

static lb_status put_case(lb_buf *b, const lb_json *v, lb_arena *perm, lb_err *err) {
    const lb_json *list = lb_json_get(v, "modules"), *known = lb_json_get(v, "models");
    bool raw = false;
    lb_merge_file f;
    lb_merge_outline o;
    (void)lb_json_as_bool(lb_json_get(v, "raw"), &raw);
    LB_TRY(lb_merge_file_parse(lb_json_get(v, "yaml")->text, "m.yml", raw ? LB_MERGE_RAW : 0, perm,
                               &f, err));
    const lb_merge_config *c = &f.merges[f.n_merges - 1];
    lb_str *names = lb_arena_new(perm, lb_str, list->n);
    lb_merge_model *models = lb_arena_new(perm, lb_merge_model, c->n_models);
    lb_merge_world w = {.modules = names, .models = models};
    for (const lb_json *e = list->first; e; e = e->next)
        names[w.n_modules++] = e->text;
    for (u32 i = 0; i < c->n_models; i++) {
        const lb_json *m = lb_json_get_str(known, c->models[i].text);
        if (!m)
            return lb_fail(err, LB_E_USAGE, "no model %.*s", LB_FMT(c->models[i].text));
        read_model(m, w.n_modules, perm, &models[i]);
    }
    lb_str type;
    if (lb_json_as_str(lb_json_get(v, "model_type"), &type))
        LB_TRY(find_parts(type, c->n_models, perm, &w, models, err));
    LB_TRY(
        lb_merge_outline_make(c, read_method(lb_json_get(v, "method"), perm), &w, perm, &o, err));
    put_outline(b, c, &w, &o);
    return LB_OK;
}

static void put_methods(lb_buf *b) {
    const lb_merge_method *m;
    lb_buf_put_c(b, "[");
    for (u32 i = 0; (m = lb_merge_method_at(i)); i++) {
        lb_buf_put_c(b, i ? ",\n" : "");
        put_method(b, m);
    }
    lb_buf_put_c(b, "]\n");
}

static lb_status put_cases(const char *path, lb_buf *b, lb_err *err) {
    lb_buf in = {0};
    lb_arena a = {0};
    lb_json *all = NULL;
    FILE *f = fopen(path, "rb");
    char chunk[65536];
    size_t n;
    while (f && (n = fread(chunk, 1, sizeof chunk, f)) > 0)
        lb_buf_put(&in, chunk, n);
    if (f)
        fclose(f);
    lb_status st = lb_json_parse(lb_buf_str(&in), path, &a, &all, err);
    lb_buf_put_c(b, "[");
    for (const lb_json *v = all ? all->first : NULL; v; v = v->next) {
        lb_arena perm = {0};
        lb_err why = {0};
        size_t before = b->len;
        if (put_case(b, v, &perm, &why) != LB_OK) {
            b->len = before;
            lb_buf_put_c(b, "{");
            put_str(b, "error", lb_str_c(why.msg));
            lb_buf_put_c(b, "}");
        }
        lb_buf_put_c(b, v->next ? ",\n" : "");
        lb_arena_deinit(&perm);
    }
    lb_buf_put_c(b, "]\n");
    lb_arena_deinit(&a);
    lb_buf_deinit(&in);
    return st;
}

int main(int argc, char **argv) {
    lb_buf b = {0};
    lb_err err = {0};
    lb_status st = LB_OK;
    if (argc == 2 && strcmp(argv[1], "--methods") == 0)
        put_methods(&b);
    else if (argc == 2)
        st = put_cases(argv[1], &b, &err);
    if (st == LB_OK)
        (void)fwrite(b.ptr, 1, b.len, stdout);
    else
        (void)fprintf(stderr, "%s\n", err.msg);
    lb_buf_deinit(&b);
    return st != LB_OK || argc != 2;
}
