/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_value.c: making values, dicts, truth, equality, order. */
#include "text/jinja_run.h"
#include "text/jinja_builtin.h"
#include "text/jinja_text.h"
#include <math.h>

/* ---- strings ---- */

static lb_status own_str(lb_jx *x, const char *ptr, size_t len, lb_jval *out) {
    lb_jstr *s = lb_jx_new(x, lb_jstr, 1);
    if (!s)
        return LB_E_LIMIT;
    *s = (lb_jstr){ptr, (u32)len, LB_JSTR_UNCOUNTED, NULL};
    *out = (lb_jval){.type = LB_JT_STR, .u.s = s};
    return LB_OK;
}

static lb_status too_long(lb_jx *x) {
    return lb_jx_fail(x, LB_E_LIMIT, "a string of more than %llu bytes",
                      (unsigned long long)x->max_string);
}

lb_status lb_jv_view(lb_jx *x, lb_str s, lb_jval *out) {
    if (s.len > x->max_string)
        return too_long(x);
    return own_str(x, s.ptr ? s.ptr : "", s.len, out);
}

lb_status lb_jv_str(lb_jx *x, lb_str s, lb_jval *out) {
    if (s.len > x->max_string)
        return too_long(x);
    LB_TRY(lb_jx_steps(x, s.len / 64));
    char *p = lb_jx_new(x, char, s.len + 1);
    if (!p)
        return LB_E_LIMIT;
    if (s.len)
        memcpy(p, s.ptr, s.len);
    return own_str(x, p, s.len, out);
}

lb_status lb_jv_str_c(lb_jx *x, const char *s, lb_jval *out) {
    return lb_jv_str(x, lb_str_c(s), out);
}

lb_status lb_jtree_str(lb_arena *perm, lb_str s, lb_jval *out, lb_err *err) {
    lb_jstr *v = lb_arena_new(perm, lb_jstr, 1);
    if (!v)
        return lb_fail(err, LB_E_NOMEM, "template: out of memory");
    *v = (lb_jstr){s.ptr ? s.ptr : "", (u32)s.len, lb_jstr_count(s), NULL};
    *out = (lb_jval){.type = LB_JT_STR, .u.s = v};
    return LB_OK;
}

/* Memory that strings made by concatenation share: each is a beginning of what stands there. */
typedef struct lb_jcat {
    char *ptr;
    size_t used, cap;
} lb_jcat;

lb_status lb_jv_concat(lb_jx *x, lb_jval a, lb_str b, lb_jval *out) {
    size_t n = a.u.s->len, len = n + b.len;
    lb_jcat *cat = a.u.s->cat;
    if (len > x->max_string)
        return too_long(x);
    if (!cat || a.u.s->ptr + n != cat->ptr + cat->used || cat->cap - cat->used < b.len) {
        LB_TRY(lb_jx_steps(x, len / 64));
        size_t cap = len + (cat ? len : len / 4) + 16;
        bool again = cat != NULL;
        cat = lb_jx_new(x, lb_jcat, 1);
        char *p = cat ? lb_jx_new(x, char, again ? cap : len + 16) : NULL;
        if (!p)
            return LB_E_LIMIT;
        *cat = (lb_jcat){p, n, again ? cap : len + 16};
        memcpy(p, a.u.s->ptr, n);
    } else {
        LB_TRY(lb_jx_steps(x, b.len / 64));
    }
    if (b.len)
        memcpy(cat->ptr + cat->used, b.ptr, b.len);
    cat->used += b.len;
    LB_TRY(own_str(x, cat->ptr, len, out));
    out->u.s->cat = cat;
    return LB_OK;
}

u32 lb_jv_chars(lb_jval s) {
    if (s.u.s->n == LB_JSTR_UNCOUNTED)
        s.u.s->n = lb_jstr_count(lb_jv_text(s));
    return s.u.s->n;
}

/* ---- lists and the like ---- */

lb_jlist *lb_jlist_new(lb_jx *x, u64 cap) {
    lb_jlist *l = lb_jx_new(x, lb_jlist, 1);
    if (!l)
        return NULL;
    if (cap > UINT32_MAX / 2) {
        (void)lb_jx_no_memory(x);
        return NULL;
    }
    l->item = cap ? lb_jx_new(x, lb_jval, cap) : NULL;
    l->cap = (u32)cap;
    return cap && !l->item ? NULL : l;
}

lb_status lb_jlist_push(lb_jx *x, lb_jlist *l, lb_jval v) {
    if (l->n == l->cap) {
        u32 cap = l->cap ? l->cap * 2 : 4;
        lb_jval *item = l->cap < UINT32_MAX / 4 ? lb_jx_new(x, lb_jval, cap) : NULL;
        if (!item)
            return LB_E_LIMIT;
        if (l->n)
            memcpy(item, l->item, l->n * sizeof *item);
        l->item = item;
        l->cap = cap;
    }
    l->item[l->n++] = v;
    return LB_OK;
}

lb_status lb_jv_pair(lb_jx *x, lb_jval a, lb_jval b, lb_jval *out) {
    lb_jlist *l = lb_jlist_new(x, 2);
    if (!l)
        return LB_E_LIMIT;
    l->item[0] = a;
    l->item[1] = b;
    l->n = 2;
    *out = lb_jv_tuple(l);
    return LB_OK;
}

lb_status lb_jv_view_of(lb_jx *x, lb_jdict *d, lb_jview_kind kind, lb_jval *out) {
    lb_jview *v = lb_jx_new(x, lb_jview, 1);
    if (!v)
        return LB_E_LIMIT;
    *v = (lb_jview){d, kind};
    *out = (lb_jval){.type = LB_JT_VIEW, .u.view = v};
    return LB_OK;
}

lb_status lb_jv_undef(lb_jx *x, lb_jval obj, lb_jval name, lb_jval *out) {
    lb_jundef *u = lb_jx_new(x, lb_jundef, 1);
    if (!u)
        return LB_E_LIMIT;
    *u = (lb_jundef){.obj = obj, .name = name};
    *out = (lb_jval){.type = LB_JT_UNDEF, .u.undef = u};
    return LB_OK;
}

lb_status lb_jv_undef_hint(lb_jx *x, const char *hint, lb_jval *out) {
    lb_jval text;
    LB_TRY(lb_jv_str_c(x, hint, &text));
    LB_TRY(lb_jv_undef(x, (lb_jval){0}, lb_jv_none(), out));
    out->u.undef->hint = lb_jv_text(text);
    return LB_OK;
}

/* ---- dicts ---- */

#define LINEAR_PAIRS 8

bool lb_jv_hashable(lb_jval v) {
    if (v.type == LB_JT_TUPLE || v.type == LB_JT_GROUP) {
        for (u32 i = 0; i < v.u.list->n; i++)
            if (!lb_jv_hashable(v.u.list->item[i]))
                return false;
        return true;
    }
    return v.type != LB_JT_LIST && v.type != LB_JT_DICT && v.type != LB_JT_VIEW &&
           v.type != LB_JT_MISSING;
}

static u64 mix(u64 h) {
    h ^= h >> 31;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static u64 hash_of(lb_jval v) {
    i64 i;
    u64 h = v.type;
    switch ((lb_jtype)v.type) {
    case LB_JT_STR:
    case LB_JT_BIG:
        return lb_map_hash(lb_jv_text(v));
    case LB_JT_BOOL:
    case LB_JT_INT:
        return mix(lb_jv_as_int(v, &i) ? (u64)i : 0);
    case LB_JT_FLOAT:
        if (v.u.f >= -9e15 && v.u.f <= 9e15 && v.u.f == floor(v.u.f))
            return mix((u64)(i64)v.u.f);
        memcpy(&h, &v.u.f, sizeof h);
        return mix(h);
    case LB_JT_TUPLE:
    case LB_JT_GROUP:
        for (u32 k = 0; k < v.u.list->n; k++)
            h = mix(h + hash_of(v.u.list->item[k]) * 31);
        return h;
    case LB_JT_NONE:
    case LB_JT_UNDEF:
        return mix(h);
    default:
        return mix((u64)(uintptr_t)v.u.s);
    }
}

lb_jdict *lb_jdict_new(lb_jx *x) {
    return lb_jx_new(x, lb_jdict, 1);
}

static bool same_key(lb_jx *x, lb_jval a, lb_jval b) {
    bool equal = false;
    if (a.type == LB_JT_STR || b.type == LB_JT_STR)
        return a.type == b.type && lb_str_eq(lb_jv_text(a), lb_jv_text(b));
    /* keys are scalars or tuples that were walked when they were hashed */
    return lb_jv_equal(x, a, b, &equal) == LB_OK && equal;
}

static lb_jpair *find_pair(lb_jx *x, const lb_jdict *d, lb_jval key, u64 hash) {
    if (!d->index) {
        for (u32 i = 0; i < d->n; i++)
            if (d->pair[i].hash == hash && same_key(x, d->pair[i].key, key))
                return &d->pair[i];
        return NULL;
    }
    for (u32 i = (u32)hash & d->mask; d->index[i]; i = (i + 1) & d->mask) {
        lb_jpair *p = &d->pair[d->index[i] - 1];
        if (p->hash == hash && same_key(x, p->key, key))
            return p;
    }
    return NULL;
}

static lb_status grow_dict(lb_jx *x, lb_jdict *d) {
    u32 cap = d->cap ? d->cap * 2 : LINEAR_PAIRS;
    if (cap > UINT32_MAX / 8)
        return lb_jx_no_memory(x);
    lb_jpair *pair = lb_jx_new(x, lb_jpair, cap);
    u32 *index = cap > LINEAR_PAIRS ? lb_jx_new(x, u32, cap * 2) : NULL;
    if (!pair || (cap > LINEAR_PAIRS && !index))
        return LB_E_LIMIT;
    if (d->n)
        memcpy(pair, d->pair, d->n * sizeof *pair);
    d->pair = pair;
    d->cap = cap;
    d->index = index;
    d->mask = cap * 2 - 1;
    for (u32 i = 0; index && i < d->n; i++) {
        u32 at = (u32)pair[i].hash & d->mask;
        while (index[at])
            at = (at + 1) & d->mask;
        index[at] = i + 1;
    }
    return LB_OK;
}

lb_status lb_jdict_set(lb_jx *x, lb_jdict *d, lb_jval key, lb_jval value) {
    if (!lb_jv_hashable(key))
        return lb_jx_error(x, "unhashable type: '%s'", lb_jv_type_name(key));
    u64 hash = hash_of(key);
    lb_jpair *p = find_pair(x, d, key, hash);
    if (p) {
        p->value = value;
        return LB_OK;
    }
    if (d->n == d->cap)
        LB_TRY(grow_dict(x, d));
    d->pair[d->n++] = (lb_jpair){key, value, hash};
    if (d->index) {
        u32 at = (u32)hash & d->mask;
        while (d->index[at])
            at = (at + 1) & d->mask;
        d->index[at] = d->n;
    }
    return LB_OK;
}

lb_status lb_jdict_set_c(lb_jx *x, lb_jdict *d, const char *key, lb_jval value) {
    lb_jval k;
    LB_TRY(lb_jv_str_c(x, key, &k));
    return lb_jdict_set(x, d, k, value);
}

lb_jval *lb_jdict_find(lb_jx *x, const lb_jdict *d, lb_jval key) {
    lb_jpair *p = d && d->n && lb_jv_hashable(key) ? find_pair(x, d, key, hash_of(key)) : NULL;
    return p ? &p->value : NULL;
}

lb_jval *lb_jdict_find_str(const lb_jdict *d, lb_str key) {
    lb_jstr s = {key.ptr, (u32)key.len, LB_JSTR_UNCOUNTED, NULL};
    return lb_jdict_find(NULL, d, (lb_jval){.type = LB_JT_STR, .u.s = &s});
}

/* ---- what they are ---- */

bool lb_jv_len(lb_jval v, u64 *n) {
    switch ((lb_jtype)v.type) {
    case LB_JT_STR:
        *n = lb_jv_chars(v);
        return true;
    case LB_JT_UNDEF:
        *n = 0;
        return true;
    case LB_JT_LIST:
    case LB_JT_TUPLE:
    case LB_JT_GROUP:
        *n = v.u.list->n;
        return true;
    case LB_JT_DICT:
        *n = v.u.dict->n;
        return true;
    case LB_JT_VIEW:
        *n = v.u.view->dict->n;
        return true;
    case LB_JT_RANGE:
        *n = (u64)v.u.range->n;
        return true;
    default:
        return false;
    }
}

bool lb_jv_true(lb_jval v) {
    u64 n;
    switch ((lb_jtype)v.type) {
    case LB_JT_MISSING:
    case LB_JT_NONE:
        return false;
    case LB_JT_BOOL:
        return v.u.b;
    case LB_JT_INT:
        return v.u.i != 0;
    case LB_JT_FLOAT:
        return v.u.f != 0;
    case LB_JT_STR:
        return v.u.s->len != 0;
    default:
        return lb_jv_len(v, &n) ? n != 0 : true;
    }
}

const char *lb_jv_type_name(lb_jval v) {
    static const char *const names[] = {
        [LB_JT_MISSING] = "missing",  [LB_JT_UNDEF] = "Undefined",
        [LB_JT_NONE] = "NoneType",    [LB_JT_BOOL] = "bool",
        [LB_JT_INT] = "int",          [LB_JT_BIG] = "int",
        [LB_JT_FLOAT] = "float",      [LB_JT_STR] = "str",
        [LB_JT_LIST] = "list",        [LB_JT_TUPLE] = "tuple",
        [LB_JT_DICT] = "dict",        [LB_JT_RANGE] = "range",
        [LB_JT_ITER] = "generator",   [LB_JT_NS] = "TemplateNamespace",
        [LB_JT_MACRO] = "Macro",      [LB_JT_FUNC] = "builtin_function_or_method",
        [LB_JT_LOOP] = "LoopContext", [LB_JT_CYCLER] = "Cycler",
        [LB_JT_JOINER] = "Joiner",    [LB_JT_GROUP] = "_GroupTuple",
        [LB_JT_VIEW] = "dict_items",
    };
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    if (v.type == LB_JT_STR && v.safe)
        return "Markup";
    return v.type == LB_JT_VIEW ? views[v.u.view->kind] : names[v.type];
}

bool lb_jv_is_number(lb_jval v) {
    return v.type == LB_JT_BOOL || v.type == LB_JT_INT || v.type == LB_JT_FLOAT;
}

bool lb_jv_as_int(lb_jval v, i64 *out) {
    if (v.type != LB_JT_BOOL && v.type != LB_JT_INT)
        return false;
    *out = v.type == LB_JT_BOOL ? v.u.b : v.u.i;
    return true;
}

double lb_jv_as_float(lb_jval v) {
    return v.type == LB_JT_FLOAT ? v.u.f : v.type == LB_JT_INT ? (double)v.u.i : (double)v.u.b;
}

/* Exactly: below 0, 0, above 0; 2: nan. */
static int compare_int_float(i64 i, double f) {
    if (isnan(f))
        return 2;
    if (f >= 9223372036854775808.0)
        return -1;
    if (f < -9223372036854775808.0)
        return 1;
    i64 whole = (i64)f;
    if (i != whole)
        return i < whole ? -1 : 1;
    double rest = f - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

static int compare_numbers(lb_jval a, lb_jval b) {
    i64 i, j;
    bool ia = lb_jv_as_int(a, &i), ib = lb_jv_as_int(b, &j);
    if (ia && ib)
        return i < j ? -1 : i > j;
    if (ia)
        return compare_int_float(i, b.u.f);
    if (ib) {
        int c = compare_int_float(j, a.u.f);
        return c == 2 ? 2 : -c;
    }
    return isnan(a.u.f) || isnan(b.u.f) ? 2 : a.u.f < b.u.f ? -1 : a.u.f > b.u.f;
}

static int compare_text(lb_str a, lb_str b) {
    int c = lb_str_cmp(a, b); /* of any size: 2 would be taken for a nan */
    return c < 0 ? -1 : c > 0;
}

static bool is_any_number(lb_jval v) {
    return lb_jv_is_number(v) || v.type == LB_JT_BIG;
}

/* One of them at least is longer than 64 bits. */
static int compare_big(lb_jval a, lb_jval b) {
    lb_str s, t = LB_STR_NONE;
    double f;
    if (a.type != LB_JT_BIG) {
        int c = compare_big(b, a);
        return c == 2 ? 2 : -c;
    }
    s = lb_jv_text(a);
    int sign = s.ptr[0] == '-' ? -1 : 1;
    if (b.type == LB_JT_FLOAT) {
        (void)lb_jstr_parse_float(s, &f);
        return isnan(b.u.f) ? 2 : f < b.u.f ? -1 : f > b.u.f;
    }
    if (b.type == LB_JT_BIG)
        t = lb_jv_text(b);
    if (b.type != LB_JT_BIG || (t.ptr[0] == '-') != (sign < 0))
        return sign;
    return sign * (s.len != t.len ? (s.len < t.len ? -1 : 1) : compare_text(s, t));
}

static int compare_any(lb_jval a, lb_jval b) {
    return a.type == LB_JT_BIG || b.type == LB_JT_BIG ? compare_big(a, b) : compare_numbers(a, b);
}

static lb_status equal_lists(lb_jx *x, const lb_jlist *a, const lb_jlist *b, bool *out) {
    *out = a->n == b->n;
    for (u32 i = 0; i < a->n && *out; i++)
        LB_TRY(lb_jv_equal(x, a->item[i], b->item[i], out));
    return LB_OK;
}

static lb_status equal_dicts(lb_jx *x, const lb_jdict *a, const lb_jdict *b, bool *out) {
    *out = a->n == b->n;
    for (u32 i = 0; i < a->n && *out; i++) {
        const lb_jval *v = lb_jdict_find(x, b, a->pair[i].key);
        *out = v != NULL;
        if (v)
            LB_TRY(lb_jv_equal(x, a->pair[i].value, *v, out));
    }
    return LB_OK;
}

lb_status lb_jv_equal(lb_jx *x, lb_jval a, lb_jval b, bool *out) {
    lb_status st = LB_OK;
    *out = false;
    if (is_any_number(a) && is_any_number(b)) {
        *out = compare_any(a, b) == 0;
        return LB_OK;
    }
    if (lb_jv_is_list(a) && lb_jv_is_list(b) && (a.type == LB_JT_LIST) == (b.type == LB_JT_LIST)) {
        LB_TRY(lb_jx_steps(x, 1));
        LB_TRY(lb_jx_enter(x));
        st = equal_lists(x, a.u.list, b.u.list, out);
        x->depth--;
        return st;
    }
    if (a.type != b.type)
        return LB_OK;
    switch ((lb_jtype)a.type) {
    case LB_JT_STR:
    case LB_JT_BIG:
        *out = lb_str_eq(lb_jv_text(a), lb_jv_text(b));
        return LB_OK;
    case LB_JT_MISSING:
    case LB_JT_UNDEF:
    case LB_JT_NONE:
        *out = true;
        return LB_OK;
    case LB_JT_RANGE:
        *out = a.u.range->n == b.u.range->n &&
               (a.u.range->n == 0 || (a.u.range->start == b.u.range->start &&
                                      (a.u.range->n == 1 || a.u.range->step == b.u.range->step)));
        return LB_OK;
    case LB_JT_DICT:
        LB_TRY(lb_jx_steps(x, 1));
        LB_TRY(lb_jx_enter(x));
        st = equal_dicts(x, a.u.dict, b.u.dict, out);
        x->depth--;
        return st;
    default:
        *out = a.u.s == b.u.s;
        return LB_OK;
    }
}

static lb_status compare_lists(lb_jx *x, lb_jval a, lb_jval b, const char *op, int *out) {
    const lb_jlist *l = a.u.list, *r = b.u.list;
    bool equal = true;
    u32 i = 0;
    LB_TRY(lb_jx_enter(x));
    for (; i < l->n && i < r->n && equal; i += equal)
        LB_TRY(lb_jv_equal(x, l->item[i], r->item[i], &equal));
    if (!equal)
        LB_TRY(lb_jv_compare(x, l->item[i], r->item[i], op, out));
    else
        *out = l->n < r->n ? -1 : l->n > r->n;
    x->depth--;
    return LB_OK;
}

lb_status lb_jv_compare(lb_jx *x, lb_jval a, lb_jval b, const char *op, int *out) {
    LB_TRY(lb_jx_steps(x, 1));
    if (a.type == LB_JT_UNDEF || b.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, a.type == LB_JT_UNDEF ? a : b);
    if (is_any_number(a) && is_any_number(b)) {
        *out = compare_any(a, b);
        return LB_OK;
    }
    if (a.type == LB_JT_STR && b.type == LB_JT_STR) {
        *out = compare_text(lb_jv_text(a), lb_jv_text(b));
        return LB_OK;
    }
    if (lb_jv_is_list(a) && lb_jv_is_list(b) && (a.type == LB_JT_LIST) == (b.type == LB_JT_LIST))
        return compare_lists(x, a, b, op, out);
    return lb_jx_error(x, "'%s' not supported between instances of '%s' and '%s'", op,
                       lb_jv_type_name(a), lb_jv_type_name(b));
}
