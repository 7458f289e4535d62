/* SPDX-License-Identifier: Apache-2.0 */
/* sensitivity_file.c: figures of sensitivity as JSON.
 *
 *     {"format": "lbrx-sensitivity", "version": 1, "architecture": "llama", "text": "calib.txt",
 *      "ctx": 512, "chunks": 4, "tokens": 1020, "imatrix": null, "refine": false, "nll": 3.1,
 *      "types": ["q4_k", ...],
 *      "tensors": [{"name": "blk.0.attn_q.weight", "shape": [576, 576],
 *                   "kl": [0.0012, null...], "error": [0.31, null...], "run": [true, false...]}]}
 *
 * Lists of a tensor go with "types"; null: the tensor cannot have the type. */
#include "io/json.h"
#include "ops/sensitivity.h"
#include <math.h>

#define FORMAT "lbrx-sensitivity"
#define VERSION 1

/* ---- writing ---- */

static void put_numbers(lb_buf *out, const char *key, const double *v, u32 n) {
    lb_buf_printf(out, ",\"%s\":[", key);
    for (u32 i = 0; i < n; i++) {
        lb_buf_put_c(out, i ? "," : "");
        if (isfinite(v[i]))
            lb_buf_printf(out, "%.9g", v[i]);
        else
            lb_buf_put_c(out, "null");
    }
    lb_buf_put_c(out, "]");
}

static void put_tensor(lb_buf *out, const lb_sensitivity_tensor *t, u32 n) {
    lb_buf_put_c(out, "{\"name\":");
    lb_json_write_str(out, t->name, false);
    lb_buf_put_c(out, ",\"shape\":[");
    for (u32 i = 0; i < t->shape.rank; i++)
        lb_buf_printf(out, "%s%llu", i ? "," : "", (unsigned long long)t->shape.dim[i]);
    lb_buf_put_c(out, "]");
    put_numbers(out, "kl", t->kl, n);
    put_numbers(out, "error", t->error, n);
    lb_buf_put_c(out, ",\"run\":[");
    for (u32 i = 0; i < n; i++)
        lb_buf_printf(out, "%s%s", i ? "," : "", t->run[i] ? "true" : "false");
    lb_buf_put_c(out, "]}");
}

static void put_name(lb_buf *out, const char *key, lb_str name) {
    lb_buf_printf(out, ",\"%s\":", key);
    if (name.len)
        lb_json_write_str(out, name, false);
    else
        lb_buf_put_c(out, "null");
}

void lb_sensitivity_write(const lb_sensitivity *s, lb_buf *out) {
    lb_buf_printf(out, "{\"format\":\"%s\",\"version\":%d", FORMAT, VERSION);
    put_name(out, "architecture", s->arch);
    put_name(out, "text", s->text);
    lb_buf_printf(out, ",\"ctx\":%llu,\"chunks\":%llu,\"tokens\":%llu",
                  (unsigned long long)s->n_ctx, (unsigned long long)s->n_chunks,
                  (unsigned long long)s->n_scored);
    put_name(out, "imatrix", s->imatrix);
    lb_buf_printf(out, ",\"refine\":%s,\"nll\":%.9g,\n\"types\":[", s->refine ? "true" : "false",
                  s->n_scored ? s->nll / (double)s->n_scored : 0);
    for (u32 i = 0; i < s->n_types; i++)
        lb_buf_printf(out, "%s\"%s\"", i ? "," : "", lb_dtype_get(s->types[i])->name);
    lb_buf_put_c(out, "],\n\"tensors\":[");
    for (u64 i = 0; i < s->n_tensors; i++) {
        lb_buf_put_c(out, i ? ",\n" : "\n");
        put_tensor(out, &s->tensors[i], s->n_types);
    }
    lb_buf_put_c(out, "\n]}\n");
}

/* ---- reading ---- */

typedef struct reader {
    const char *what;
    lb_arena *perm;
    lb_sensitivity *s;
    lb_err *err;
} reader;

static lb_status bad(const reader *r, const char *why) {
    return lb_fail(r->err, LB_E_FORMAT, "%s: no figures of sensitivity: %s", r->what, why);
}

static lb_status bad_tensor(const reader *r, lb_str name, const char *why) {
    return lb_fail(r->err, LB_E_FORMAT, "%s: sensitivity of '%.*s': %s", r->what, LB_FMT(name),
                   why);
}

static lb_status no_memory(const reader *r) {
    return lb_fail(r->err, LB_E_NOMEM, "%s: out of memory for figures of sensitivity", r->what);
}

static lb_status read_types(reader *r, const lb_json *v) {
    lb_sensitivity *s = r->s;
    lb_str name;
    if (!v || v->type != LB_JARRAY || !v->n || v->n > LB_SENSITIVITY_TYPES_MAX)
        return bad(r, "\"types\" is no list of types");
    for (const lb_json *t = v->first; t; t = t->next) {
        u32 at;
        lb_dtype d;
        if (!lb_json_as_str(t, &name) || !lb_dtype_find(name, &d) ||
            lb_dtype_get(d)->cls != LB_CLASS_BLOCK)
            return bad(r, "\"types\" names a type that there is not");
        if (lb_sensitivity_type(s, d, &at))
            return bad(r, "\"types\" names a type twice");
        s->types[s->n_types++] = d;
    }
    return LB_OK;
}

static lb_status read_shape(const reader *r, const lb_json *v, lb_sensitivity_tensor *t) {
    u64 n;
    if (!v || v->type != LB_JARRAY || !v->n || v->n > LB_RANK_MAX)
        return bad_tensor(r, t->name, "\"shape\" is no shape");
    for (const lb_json *d = v->first; d; d = d->next)
        if (!lb_json_as_u64(d, &t->shape.dim[t->shape.rank++]))
            return bad_tensor(r, t->name, "\"shape\" is no shape");
    return lb_shape_elems(&t->shape, &n) ? LB_OK : bad_tensor(r, t->name, "\"shape\" is too large");
}

/* [n_types] numbers from 0, or null. */
static lb_status read_numbers(const reader *r, const lb_json *v, lb_str name, double **out) {
    u32 n = 0;
    *out = lb_arena_new(r->perm, double, r->s->n_types);
    if (!*out)
        return no_memory(r);
    if (!v || v->type != LB_JARRAY || v->n != r->s->n_types)
        return bad_tensor(r, name, "not as many figures as types");
    for (const lb_json *x = v->first; x; x = x->next, n++) {
        (*out)[n] = (double)NAN;
        if (x->type != LB_JNULL &&
            (!lb_json_as_f64(x, &(*out)[n]) || !((*out)[n] >= 0 && (*out)[n] < 0x1p1000)))
            return bad_tensor(r, name, "a figure is no number from 0");
    }
    return LB_OK;
}

static lb_status read_runs(const reader *r, const lb_json *v, lb_sensitivity_tensor *t) {
    u32 n = 0;
    t->run = lb_arena_new(r->perm, bool, r->s->n_types);
    if (!t->run)
        return no_memory(r);
    if (!v)
        return LB_OK;
    if (v->type != LB_JARRAY || v->n != r->s->n_types)
        return bad_tensor(r, t->name, "\"run\" is not a list like \"types\"");
    for (const lb_json *x = v->first; x; x = x->next)
        if (!lb_json_as_bool(x, &t->run[n++]))
            return bad_tensor(r, t->name, "\"run\" is not a list like \"types\"");
    return LB_OK;
}

static lb_status read_tensor(reader *r, const lb_json *v, lb_map *names) {
    lb_sensitivity_tensor *t = &r->s->tensors[r->s->n_tensors];
    bool twice;
    if (!lb_json_as_str(lb_json_get(v, "name"), &t->name) || !t->name.len)
        return bad(r, "a tensor has no name");
    LB_TRY(lb_map_put(names, t->name, r->s->n_tensors, &twice, r->err));
    if (twice)
        return bad_tensor(r, t->name, "stands there twice");
    LB_TRY(read_shape(r, lb_json_get(v, "shape"), t));
    LB_TRY(read_numbers(r, lb_json_get(v, "kl"), t->name, &t->kl));
    LB_TRY(read_numbers(r, lb_json_get(v, "error"), t->name, &t->error));
    LB_TRY(read_runs(r, lb_json_get(v, "run"), t));
    r->s->n_tensors++;
    return LB_OK;
}

static lb_status read_tensors(reader *r, const lb_json *v) {
    lb_map names = {0};
    lb_status st = LB_OK;
    if (!v || v->type != LB_JARRAY || !v->n)
        return bad(r, "\"tensors\" is no list");
    r->s->tensors = lb_arena_new(r->perm, lb_sensitivity_tensor, v->n);
    if (!r->s->tensors)
        return no_memory(r);
    for (const lb_json *t = v->first; t && st == LB_OK; t = t->next)
        st = read_tensor(r, t, &names);
    lb_map_deinit(&names);
    return st;
}

lb_status lb_sensitivity_parse(lb_str text, const char *what, lb_arena *perm, lb_sensitivity *out,
                               lb_err *err) {
    reader r = {what, perm, out, err};
    lb_json *v;
    lb_str format;
    u64 version;
    *out = (lb_sensitivity){0};
    LB_TRY(lb_json_parse(text, what, perm, &v, err));
    if (v->type != LB_JOBJECT || !lb_json_as_str(lb_json_get(v, "format"), &format) ||
        !lb_str_eq_c(format, FORMAT))
        return bad(&r, "its \"format\" is not \"" FORMAT "\"");
    if (!lb_json_as_u64(lb_json_get(v, "version"), &version) || version != VERSION)
        return bad(&r, "its \"version\" is not 1");
    (void)lb_json_as_str(lb_json_get(v, "architecture"), &out->arch);
    (void)lb_json_as_str(lb_json_get(v, "text"), &out->text);
    (void)lb_json_as_str(lb_json_get(v, "imatrix"), &out->imatrix);
    (void)lb_json_as_bool(lb_json_get(v, "refine"), &out->refine);
    (void)lb_json_as_u64(lb_json_get(v, "ctx"), &out->n_ctx);
    (void)lb_json_as_u64(lb_json_get(v, "chunks"), &out->n_chunks);
    (void)lb_json_as_u64(lb_json_get(v, "tokens"), &out->n_scored);
    LB_TRY(read_types(&r, lb_json_get(v, "types")));
    return read_tensors(&r, lb_json_get(v, "tensors"));
}

const lb_sensitivity_tensor *lb_sensitivity_find(const lb_sensitivity *s, lb_str name) {
    for (u64 i = 0; i < s->n_tensors; i++)
        if (lb_str_eq(s->tensors[i].name, name))
            return &s->tensors[i];
    return NULL;
}

bool lb_sensitivity_type(const lb_sensitivity *s, lb_dtype t, u32 *at) {
    for (u32 i = 0; i < s->n_types; i++)
        if (s->types[i] == t) {
            *at = i;
            return true;
        }
    return false;
}
