/* SPDX-License-Identifier: Apache-2.0 */
/* settings.c: parameters of a merge file: checked once, evaluated for each tensor
 * (evaluate_setting of mergekit 0.1.5's config.py, parameter_resolver.py). */
#include "merge/settings.h"
#include <math.h>
#include <stdio.h>

/* ---- checking ---- */

typedef struct checker {
    const lb_merge_config *config;
    const lb_merge_method *method;
    lb_arena *perm;
    lb_str *notes;
    u32 n_notes;
    lb_err *err;
} checker;

static lb_status bad(const checker *k, const lb_merge_settings *in, const lb_merge_setting *s,
                     u32 line, const char *text) {
    return lb_fail(k->err, LB_E_FORMAT, "%.*s: line %u: %.*s.%.*s: %s", LB_FMT(k->config->what),
                   line, LB_FMT(in->where), LB_FMT(s->name), text);
}

/* Index of the word that it is. */
static bool word_of(const lb_merge_param *p, const lb_json *v, double *out) {
    u32 i = 0;
    while (p->words[i] && !(v->type == LB_JSTRING && lb_str_eq_c(v->text, p->words[i])))
        i++;
    *out = i;
    return p->words[i] != NULL;
}

/* A value of the parameter's kind, as a number. */
static bool value_of(const lb_merge_param *p, const lb_json *v, double *out) {
    bool b = false;
    i64 n = 0;
    if (p->kind == LB_MERGE_WORD)
        return word_of(p, v, out);
    bool ok = p->kind == LB_MERGE_BOOL  ? lb_merge_as_bool(v, &b)
              : p->kind == LB_MERGE_INT ? lb_merge_as_int(v, &n)
                                        : lb_merge_as_float(v, out);
    if (p->kind == LB_MERGE_BOOL)
        *out = b;
    else if (p->kind == LB_MERGE_INT)
        *out = (double)n;
    return ok;
}

/* "one of a, b, c is needed; did you mean b?" */
static lb_status bad_word(const checker *k, const lb_merge_settings *in, const lb_merge_setting *s,
                          const lb_merge_param *p, const lb_json *v) {
    lb_buf b = {0};
    const char *near = v->type == LB_JSTRING ? lb_merge_nearest(v->text, p->words) : NULL;
    for (u32 i = 0; p->words[i]; i++)
        lb_buf_printf(&b, "%s%s", i ? ", " : "one of ", p->words[i]);
    lb_buf_printf(&b, " is needed%s%s%s", near ? "; did you mean " : "", near ? near : "",
                  near ? "?" : "");
    lb_status st = lb_buf_status(&b, k->err);
    lb_str text = st == LB_OK ? lb_arena_str(k->perm, lb_buf_str(&b)) : LB_STR_NONE;
    lb_buf_deinit(&b);
    return text.ptr ? bad(k, in, s, v->line, text.ptr)
                    : lb_fail(k->err, LB_E_NOMEM, "out of memory");
}

static lb_status check_scalar(const checker *k, const lb_merge_settings *in,
                              const lb_merge_setting *s, const lb_merge_param *p,
                              const lb_json *v) {
    static const char *const wanted[] = {[LB_MERGE_FLOAT] = "a finite number is needed",
                                         [LB_MERGE_INT] = "a whole number is needed",
                                         [LB_MERGE_BOOL] = "true or false is needed",
                                         [LB_MERGE_FILE] = "a file's name is needed"};
    double x = 0;
    char text[128];
    if (p->kind == LB_MERGE_FILE)
        return v->type == LB_JSTRING && v->text.len ? LB_OK
                                                    : bad(k, in, s, v->line, wanted[p->kind]);
    if (p->kind == LB_MERGE_WORD)
        return value_of(p, v, &x) ? LB_OK : bad_word(k, in, s, p, v);
    if (!value_of(p, v, &x) || !isfinite(x))
        return bad(k, in, s, v->line, wanted[p->kind]);
    if ((p->min != 0 || p->max != 0) && !(x >= p->min && x <= p->max)) {
        (void)snprintf(text, sizeof text, "%.*s is out of range: %g to %g",
                       (int)LB_MIN(v->text.len, 40), v->text.ptr ? v->text.ptr : "", p->min,
                       p->max);
        return bad(k, in, s, v->line, text);
    }
    return LB_OK;
}

static bool any_method_has(lb_str name) {
    const lb_merge_method *m;
    for (u32 i = 0; (m = lb_merge_method_at(i)); i++)
        if (lb_merge_param_find(m, name) != UINT32_MAX)
            return true;
    return false;
}

/* A parameter that the method does not have: of another one, or a slip. */
static lb_status unused(checker *k, const lb_merge_settings *in, const lb_merge_setting *s) {
    const lb_merge_method *m = k->method;
    const char *names[LB_MERGE_PARAMS_MAX + 1];
    char text[160];
    u32 n = 0;
    if (any_method_has(s->name)) {
        lb_str note = lb_arena_printf(k->perm,
                                      "%.*s: line %u: %.*s.%.*s: says nothing: %s has no "
                                      "such parameter",
                                      LB_FMT(k->config->what), s->line, LB_FMT(in->where),
                                      LB_FMT(s->name), m->name);
        k->notes[k->n_notes++] = note;
        return note.ptr ? LB_OK : lb_fail(k->err, LB_E_NOMEM, "out of memory");
    }
    while (n < m->n_params) {
        names[n] = m->params[n].name;
        n++;
    }
    names[n] = NULL;
    const char *near = lb_merge_nearest(s->name, names);
    (void)snprintf(text, sizeof text, "no method has such a parameter%s%s%s",
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return bad(k, in, s, s->line, text);
}

static lb_status check_list(checker *k, const lb_merge_settings *in) {
    for (u32 i = 0; i < in->n; i++) {
        const lb_merge_setting *s = &in->list[i];
        u32 at = lb_merge_param_find(k->method, s->name);
        if (at == UINT32_MAX) {
            LB_TRY(unused(k, in, s));
            continue;
        }
        const lb_merge_param *p = &k->method->params[at];
        for (u32 c = 0; c < s->n_choices; c++) {
            const lb_json *v = s->choices[c].value;
            if (v->type != LB_JARRAY || p->kind == LB_MERGE_FILE || p->kind == LB_MERGE_WORD)
                LB_TRY(check_scalar(k, in, s, p, v));
            else
                for (const lb_json *e = v->first; e; e = e->next)
                    LB_TRY(check_scalar(k, in, s, p, e));
        }
    }
    return LB_OK;
}

lb_status lb_merge_settings_check(const lb_merge_config *c, const lb_merge_method *m,
                                  lb_arena *perm, lb_str *notes, u32 *n_notes, lb_err *err) {
    checker k = {.config = c, .method = m, .perm = perm, .notes = notes, .err = err};
    LB_TRY(check_list(&k, &c->settings));
    for (u32 i = 0; i < c->n_modules; i++) {
        const lb_merge_module *mod = &c->modules[i];
        LB_TRY(check_list(&k, &mod->settings));
        for (u32 j = 0; j < mod->n_slices; j++) {
            LB_TRY(check_list(&k, &mod->slices[j].settings));
            for (u32 s = 0; s < mod->slices[j].n_sources; s++)
                LB_TRY(check_list(&k, &mod->slices[j].sources[s].settings));
        }
    }
    *n_notes = k.n_notes;
    return LB_OK;
}

u32 lb_merge_settings_count(const lb_merge_config *c) {
    u32 n = c->settings.n;
    for (u32 i = 0; i < c->n_modules; i++) {
        const lb_merge_module *mod = &c->modules[i];
        n += mod->settings.n;
        for (u32 j = 0; j < mod->n_slices; j++) {
            n += mod->slices[j].settings.n;
            for (u32 s = 0; s < mod->slices[j].n_sources; s++)
                n += mod->slices[j].sources[s].settings.n;
        }
    }
    return n;
}

/* ---- files ---- */

static u32 file_index(const lb_merge_files *files, lb_str name) {
    u32 i = 0;
    while (i < files->n && !lb_str_eq(files->list[i].name, name))
        i++;
    return i;
}

/* All settings of the file, one after the other; NULL behind the last. */
static const lb_merge_settings *settings_at(const lb_merge_config *c, u32 at) {
    if (at-- == 0)
        return &c->settings;
    for (u32 i = 0; i < c->n_modules; i++) {
        const lb_merge_module *m = &c->modules[i];
        if (at-- == 0)
            return &m->settings;
        for (u32 j = 0; j < m->n_slices; j++) {
            const lb_merge_slice *s = &m->slices[j];
            if (at-- == 0)
                return &s->settings;
            if (at < s->n_sources)
                return &s->sources[at].settings;
            at -= s->n_sources;
        }
    }
    return NULL;
}

static bool is_file_of(const lb_merge_method *m, const lb_merge_setting *s) {
    u32 p = lb_merge_param_find(m, s->name);
    return p != UINT32_MAX && m->params[p].kind == LB_MERGE_FILE;
}

/* Adds them to a list that has room, or counts them. */
static u32 walk_files(const lb_merge_config *c, const lb_merge_method *m, lb_merge_files *out) {
    const lb_merge_settings *in;
    u32 n = 0;
    for (u32 at = 0; (in = settings_at(c, at)); at++)
        for (u32 i = 0; i < in->n; i++)
            for (u32 k = 0; is_file_of(m, &in->list[i]) && k < in->list[i].n_choices; k++, n++) {
                const lb_json *v = in->list[i].choices[k].value;
                if (!out || v->type != LB_JSTRING || file_index(out, v->text) < out->n)
                    continue;
                out->list[out->n++] = (lb_merge_named){v->text, v->line};
            }
    return n;
}

lb_status lb_merge_settings_files(const lb_merge_config *c, const lb_merge_method *m,
                                  lb_arena *perm, lb_merge_files *out, lb_err *err) {
    *out = (lb_merge_files){
        .list = lb_arena_new(perm, lb_merge_named, (u64)walk_files(c, m, NULL) + 1)};
    if (!out->list)
        return lb_fail(err, LB_E_NOMEM, "%.*s: out of memory", LB_FMT(c->what));
    (void)walk_files(c, m, out);
    return LB_OK;
}

/* ---- evaluating ---- */

static double checked_value(const lb_merge_param *p, const lb_json *v) {
    double x = 0;
    bool ok = value_of(p, v, &x);
    LB_ASSERT(ok);
    return x;
}

/* Numbers are interpolated, truths are picked. The order of operations is mergekit's: the last bit
 * of a weight counts. */
static double gradient(const lb_merge_param *p, const lb_json *list, double t) {
    u64 last = list->n - 1;
    double scaled = t * (double)last;
    u64 i0 = (u64)scaled, i1 = LB_MIN(last, i0 + 1), i = 0;
    double frac = scaled - (double)i0, a = 0, b = 0;
    for (const lb_json *e = list->first; e; e = e->next, i++) {
        if (i == i0)
            a = checked_value(p, e);
        if (i == i1)
            b = checked_value(p, e);
    }
    return p->kind == LB_MERGE_BOOL ? a : (1 - frac) * a + frac * b;
}

/* False: this level says nothing of the tensor. */
static bool evaluate(const lb_merge_place *at, const lb_merge_setting *s, const lb_merge_param *p,
                     double *out) {
    size_t pos;
    for (u32 i = 0; i < s->n_choices; i++) {
        const lb_merge_choice *c = &s->choices[i];
        if (!c->any && !lb_str_find(at->tensor, c->filter, &pos))
            continue;
        if (c->value->type == LB_JARRAY && c->value->n == 0)
            return false;
        *out = p->kind == LB_MERGE_FILE      ? file_index(at->files, c->value->text)
               : c->value->type == LB_JARRAY ? gradient(p, c->value, at->t)
                                             : checked_value(p, c->value);
        return true;
    }
    return false;
}

lb_status lb_merge_setting_value(const lb_merge_place *at, const lb_merge_param *p, double *out,
                                 lb_err *err) {
    for (u32 i = 0; i < LB_LEN(at->levels); i++) {
        const lb_merge_settings *level = at->levels[i];
        for (u32 k = 0; level && k < level->n; k++) {
            const lb_merge_setting *s = &level->list[k];
            if (!lb_str_eq_c(s->name, p->name) || !evaluate(at, s, p, out))
                continue;
            if (p->kind == LB_MERGE_INT && *out != floor(*out))
                return lb_fail(err, LB_E_FORMAT,
                               "%.*s: line %u: %.*s.%s: the gradient gives %g for tensor '%.*s': a "
                               "whole number is needed",
                               LB_FMT(at->config->what), s->line, LB_FMT(level->where), p->name,
                               *out, LB_FMT(at->tensor));
            return LB_OK;
        }
    }
    *out = p->initial;
    if (!p->required)
        return LB_OK;
    return lb_fail(
        err, LB_E_FORMAT,
        "%.*s: line %u: merge_method %.*s needs the parameter `%s`, which is not set for "
        "%s%.*s%stensor '%.*s'%s",
        LB_FMT(at->config->what), at->config->method_line, LB_FMT(at->config->method), p->name,
        at->model ? "model " : "", at->model_len, at->model ? at->model : "", at->model ? ", " : "",
        LB_FMT(at->tensor),
        at->implied ? ": base_model is merged like the others here; list it, or leave it "
                      "away"
                    : "");
}
