/* SPDX-License-Identifier: Apache-2.0 */
#include "arch_util.h"
#include "test.h"

lb_json *arch_golden(const char *name, lb_arena *perm) {
    char path[64];
    lb_err err = {0};
    lb_buf b = {0};
    lb_json *v = NULL;
    snprintf(path, sizeof path, "arch/%s", name);
    FILE *f = fopen(lb_test_golden(path), "rb");
    char chunk[65536];
    size_t n;
    while (f && (n = fread(chunk, 1, sizeof chunk, f)) > 0)
        lb_buf_put(&b, chunk, n);
    if (f)
        fclose(f);
    lb_str text = lb_arena_str(perm, lb_buf_str(&b));
    lb_buf_deinit(&b);
    if (!f || lb_json_parse(text, name, perm, &v, &err) != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "golden file %s: %s", path, err.msg);
    return v;
}

lb_str arch_str(const lb_json *object, const char *key) {
    lb_str s = {0};
    lb_json_as_str(lb_json_get(object, key), &s);
    return s;
}

lb_json *arch_text(const lb_json *object, const char *key, lb_arena *perm) {
    lb_json *v = NULL;
    lb_str s = arch_str(object, key);
    if (s.ptr)
        lb_json_parse(s, key, perm, &v, NULL);
    return v;
}

static bool same_array(const lb_gguf_kv *kv, const lb_json *type, const lb_json *values) {
    u64 i = 0;
    if (!lb_str_eq_c(type->text, lb_gguf_type_name(kv->elem)) &&
        !(kv->elem == LB_GGUF_STR && lb_str_eq_c(type->text, "string")) &&
        !(kv->elem == LB_GGUF_I32 && lb_str_eq_c(type->text, "int32")) &&
        !(kv->elem == LB_GGUF_F32 && lb_str_eq_c(type->text, "float32")))
        return false;
    if (kv->n != values->n)
        return false;
    for (const lb_json *v = values->first; v; v = v->next, i++) {
        lb_str s, t;
        double x, y;
        bool truth, same;
        u64 flag;
        if (lb_json_as_str(v, &s))
            same = lb_kv_elem_str(kv, i, &t) && lb_str_eq(s, t);
        else if (lb_json_as_bool(v, &truth))
            same = lb_kv_elem_u64(kv, i, &flag) && flag == truth;
        else
            same = lb_json_as_f64(v, &x) && lb_kv_elem_f64(kv, i, &y) && x == y;
        if (!same)
            return false;
    }
    return true;
}

bool arch_same_pair(const lb_gguf_kv *kv, const lb_json *want) {
    const lb_json *key = want->first, *type = key->next, *value = type->next;
    lb_str s;
    u64 u;
    i64 i;
    bool b;
    if (!lb_str_eq(kv->key, key->text))
        return false;
    switch (kv->type) {
    case LB_GGUF_U32:
        return lb_str_eq_c(type->text, "uint32") && lb_json_as_u64(value, &u) && u == kv->v.u;
    case LB_GGUF_I32:
        return lb_str_eq_c(type->text, "int32") && lb_json_as_i64(value, &i) && i == kv->v.i;
    case LB_GGUF_F32:
        return lb_str_eq_c(type->text, "float32") && lb_json_as_u64(value, &u) &&
               u == lb_f32_bits((float)kv->v.f);
    case LB_GGUF_BOOL:
        return lb_str_eq_c(type->text, "bool") && lb_json_as_bool(value, &b) && b == (kv->v.u != 0);
    case LB_GGUF_STR:
        return lb_str_eq_c(type->text, "string") && lb_json_as_str(value, &s) &&
               lb_str_eq(s, kv->v.s);
    case LB_GGUF_ARRAY:
        return lb_str_eq_c(type->text, "array") && same_array(kv, value, value->next);
    default:
        return false;
    }
}

bool arch_same_meta(const char *what, const lb_gguf_meta *m, const lb_json *want,
                    const char *until) {
    u64 i = 0;
    for (const lb_json *w = want->first; w; w = w->next, i++) {
        lb_buf text = {0};
        if (until && lb_str_starts(w->first->text, lb_str_c(until)))
            break;
        if (i < m->n && arch_same_pair(&m->kv[i], w))
            continue;
        lb_json_write(&text, w, (lb_json_style){0});
        lb_test_fail(__FILE__, __LINE__, "%s: pair %llu is '%.*s' (%s), expected %.*s", what,
                     (unsigned long long)i, LB_FMT(i < m->n ? m->kv[i].key : LB_STR("none")),
                     i < m->n ? lb_gguf_type_name(m->kv[i].type) : "", LB_FMT(lb_buf_str(&text)));
        lb_buf_deinit(&text);
        return false;
    }
    if (i != m->n)
        lb_test_fail(__FILE__, __LINE__, "%s: %llu pairs more than expected, first '%.*s'", what,
                     (unsigned long long)(m->n - i), LB_FMT(m->kv[i].key));
    return i == m->n;
}
