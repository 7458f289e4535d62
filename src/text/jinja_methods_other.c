/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_methods_other.c: methods of dict, list, numbers, loops and cyclers; global functions. */
#include "text/jinja_builtin.h"
#include "text/jinja_run.h"
#include "text/jinja_text.h"
#include <math.h>

/* ---- dict ---- */

static lb_status m_keys(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    return lb_jv_view_of(x, self.u.dict, LB_JVIEW_KEYS, out);
}

static lb_status m_values(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    return lb_jv_view_of(x, self.u.dict, LB_JVIEW_VALUES, out);
}

static lb_status m_items(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)a;
    return lb_jv_view_of(x, self.u.dict, LB_JVIEW_ITEMS, out);
}

static lb_status m_get(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    const lb_jval *v;
    if (!lb_jv_hashable(a[0]))
        return lb_jx_error(x, "unhashable type: '%s'", lb_jv_type_name(a[0]));
    v = lb_jdict_find(x, self.u.dict, a[0]);
    *out = v ? *v : a[1].type == LB_JT_MISSING ? lb_jv_none() : a[1];
    return LB_OK;
}

static lb_status m_copy(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)x, (void)a;
    *out = self; /* nothing can change it */
    return LB_OK;
}

/* dict.fromkeys(iterable, value=None) */
static lb_status m_fromkeys(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jlist *l;
    lb_jdict *d = lb_jdict_new(x);
    (void)self;
    LB_TRY(lb_jv_to_list(x, a[0], &l));
    if (!d)
        return LB_E_LIMIT;
    for (u32 i = 0; i < l->n; i++)
        LB_TRY(lb_jdict_set(x, d, l->item[i], a[1].type == LB_JT_MISSING ? lb_jv_none() : a[1]));
    *out = lb_jv_dict(d);
    return LB_OK;
}

static const lb_jdef dict_defs[] = {
    {"keys", m_keys, NULL, "", 0, true},   {"values", m_values, NULL, "", 0, true},
    {"items", m_items, NULL, "", 0, true}, {"get", m_get, NULL, "key default", 1, true},
    {"copy", m_copy, NULL, "", 0, true},   {"fromkeys", m_fromkeys, NULL, "k v", 1, true},
};
const lb_jtable lb_jmethods_dict = {dict_defs, LB_LEN(dict_defs)};

/* ---- list, tuple, range ---- */

static lb_status m_count(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jlist *l;
    i64 n = 0;
    LB_TRY(lb_jv_to_list(x, self, &l));
    for (u32 i = 0; i < l->n; i++) {
        bool same;
        LB_TRY(lb_jx_steps(x, 1));
        LB_TRY(lb_jv_equal(x, l->item[i], a[0], &same));
        n += same;
    }
    *out = lb_jv_int(n);
    return LB_OK;
}

static lb_status m_index(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jlist *l;
    i64 from = 0, to = INT64_MAX;
    LB_TRY(lb_jv_to_list(x, self, &l));
    if (a[1].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_int(x, a[1], &from));
    if (a[2].type != LB_JT_MISSING)
        LB_TRY(lb_jarg_int(x, a[2], &to));
    from = from < 0 ? LB_MAX(from + l->n, 0) : from;
    to = to < 0 ? LB_MAX(to + l->n, 0) : to;
    for (i64 i = from; i < (i64)l->n && i < to; i++) {
        bool same;
        LB_TRY(lb_jx_steps(x, 1));
        LB_TRY(lb_jv_equal(x, l->item[i], a[0], &same));
        if (same) {
            *out = lb_jv_int(i);
            return LB_OK;
        }
    }
    return lb_jx_error(x, "a value is not in the list");
}

static const lb_jdef list_defs[] = {
    {"count", m_count, NULL, "value", 1, true},
    {"index", m_index, NULL, "value start stop", 1, true},
    {"copy", m_copy, NULL, "", 0, true},
};
const lb_jtable lb_jmethods_list = {list_defs, LB_LEN(list_defs)};

/* ---- numbers ---- */

static lb_status m_bit_length(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    i64 i = 0, n = 0;
    (void)x, (void)a;
    (void)lb_jv_as_int(self, &i);
    for (u64 u = i < 0 ? (u64)0 - (u64)i : (u64)i; u; u >>= 1)
        n++;
    *out = lb_jv_int(n);
    return LB_OK;
}

static lb_status m_is_integer(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)x, (void)a;
    *out =
        lb_jv_bool(self.type != LB_JT_FLOAT || (!isinf(self.u.f) && floor(self.u.f) == self.u.f));
    return LB_OK;
}

static const lb_jdef number_defs[] = {
    {"bit_length", m_bit_length, NULL, "", 0, true}, /* of integers only, the other of floats */
    {"is_integer", m_is_integer, NULL, "", 0, true},
};
const lb_jtable lb_jmethods_number = {number_defs, LB_LEN(number_defs)};

/* ---- loops, cyclers ---- */

static lb_status m_cycle(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    if (!args->n || (args->kw && args->kw->n))
        return lb_jx_error(x, "no items for cycling given");
    *out = args->pos[(u64)LB_MAX(self.u.loop->index0, 0) % args->n];
    return LB_OK;
}

static lb_status m_changed(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    lb_jlist *l = lb_jlist_new(x, args->n);
    bool same = false;
    if (!l)
        return LB_E_LIMIT;
    if (args->kw && args->kw->n)
        return lb_jx_error(x, "changed() takes no keyword arguments");
    for (u32 i = 0; i < args->n; i++)
        l->item[l->n++] = args->pos[i];
    if (self.u.loop->changed.type != LB_JT_MISSING)
        LB_TRY(lb_jv_equal(x, self.u.loop->changed, lb_jv_tuple(l), &same));
    self.u.loop->changed = lb_jv_tuple(l);
    *out = lb_jv_bool(!same);
    return LB_OK;
}

static lb_status m_next(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jcycler *c = self.u.cycler;
    (void)x, (void)a;
    *out = c->items->item[c->pos];
    c->pos = (c->pos + 1) % c->items->n;
    return LB_OK;
}

static lb_status m_reset(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    (void)x, (void)a;
    self.u.cycler->pos = 0;
    *out = lb_jv_none();
    return LB_OK;
}

static const lb_jdef loop_defs[] = {
    {"cycle", NULL, m_cycle, NULL, 0, false},
    {"changed", NULL, m_changed, NULL, 0, false},
};
static const lb_jdef cycler_defs[] = {
    {"next", m_next, NULL, "", 0, true},
    {"reset", m_reset, NULL, "", 0, true},
};

/* ---- global functions ---- */

static lb_status g_range(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    i64 v[3] = {0, 0, 1}, n = 0;
    u64 width, step;
    (void)self;
    for (u32 i = 0; i < 3 && a[i].type != LB_JT_MISSING; i++)
        LB_TRY(lb_jarg_int(x, a[i], &v[i]));
    if (a[1].type == LB_JT_MISSING) {
        v[1] = v[0];
        v[0] = 0;
    }
    if (v[2] == 0)
        return lb_jx_error(x, "range() arg 3 must not be zero");
    step = v[2] > 0 ? (u64)v[2] : (u64)0 - (u64)v[2];
    if (v[2] > 0 ? v[0] < v[1] : v[0] > v[1]) {
        width = v[2] > 0 ? (u64)v[1] - (u64)v[0] : (u64)v[0] - (u64)v[1];
        width = (width - 1) / step + 1;
        if (width > 100000)
            return lb_jx_error(x, "Range too big. The sandbox blocks ranges larger than MAX_RANGE "
                                  "(100000).");
        n = (i64)width;
    }
    lb_jrange *r = lb_jx_new(x, lb_jrange, 1);
    if (!r)
        return LB_E_LIMIT;
    *r = (lb_jrange){v[0], v[1], v[2], n};
    *out = (lb_jval){.type = LB_JT_RANGE, .u.range = r};
    return LB_OK;
}

/* dict(mapping or pairs, **kw) */
static lb_status make_dict(lb_jx *x, const lb_jargs *args, lb_jdict **out) {
    lb_jdict *d = lb_jdict_new(x);
    lb_jlist *l, *pair;
    if (!d)
        return LB_E_LIMIT;
    *out = d;
    if (args->n > 1)
        return lb_jx_error(x, "dict expected at most 1 argument, got %u", args->n);
    if (args->n && args->pos[0].type == LB_JT_DICT) {
        const lb_jdict *from = args->pos[0].u.dict;
        for (u32 i = 0; i < from->n; i++)
            LB_TRY(lb_jdict_set(x, d, from->pair[i].key, from->pair[i].value));
    } else if (args->n) {
        if (args->pos[0].type == LB_JT_UNDEF)
            return lb_jx_undefined(x, args->pos[0]);
        LB_TRY(lb_jv_to_list(x, args->pos[0], &l));
        for (u32 i = 0; i < l->n; i++) {
            if (!lb_jv_is_iterable(l->item[i]))
                return lb_jx_error(x,
                                   "cannot convert dictionary update sequence element #%u to a "
                                   "sequence",
                                   i);
            LB_TRY(lb_jv_to_list(x, l->item[i], &pair));
            if (pair->n != 2)
                return lb_jx_error(x,
                                   "dictionary update sequence element #%u has length %u; 2 is "
                                   "required",
                                   i, pair->n);
            LB_TRY(lb_jdict_set(x, d, pair->item[0], pair->item[1]));
        }
    }
    for (u32 i = 0; args->kw && i < args->kw->n; i++)
        LB_TRY(lb_jdict_set(x, d, args->kw->pair[i].key, args->kw->pair[i].value));
    return LB_OK;
}

static lb_status g_dict(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    lb_jdict *d;
    (void)self;
    LB_TRY(make_dict(x, args, &d));
    *out = lb_jv_dict(d);
    return LB_OK;
}

static lb_status g_namespace(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    lb_jdict *d;
    (void)self;
    LB_TRY(make_dict(x, args, &d));
    for (u32 i = 0; i < d->n; i++)
        if (d->pair[i].key.type == LB_JT_STR && d->pair[i].key.u.s->len &&
            d->pair[i].key.u.s->ptr[0] == '_')
            return lb_jx_error(x,
                               "Chat templates cannot store underscore-prefixed attributes on a "
                               "namespace, but got '%.*s'. Please rename the attribute.",
                               LB_FMT(lb_jv_text(d->pair[i].key)));
    *out = (lb_jval){.type = LB_JT_NS, .u.dict = d};
    return LB_OK;
}

static lb_status g_cycler(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out) {
    lb_jcycler *c = lb_jx_new(x, lb_jcycler, 1);
    (void)self;
    if (!args->n)
        return lb_jx_error(x, "at least one item has to be provided");
    if (!c || !(c->items = lb_jlist_new(x, args->n)))
        return LB_E_LIMIT;
    for (u32 i = 0; i < args->n; i++)
        c->items->item[c->items->n++] = args->pos[i];
    *out = (lb_jval){.type = LB_JT_CYCLER, .u.cycler = c};
    return LB_OK;
}

static lb_status g_joiner(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jjoiner *j = lb_jx_new(x, lb_jjoiner, 1);
    (void)self;
    if (!j)
        return LB_E_LIMIT;
    j->sep = a[0];
    if (a[0].type == LB_JT_MISSING)
        LB_TRY(lb_jv_view(x, LB_STR(", "), &j->sep));
    *out = (lb_jval){.type = LB_JT_JOINER, .u.joiner = j};
    return LB_OK;
}

static lb_status g_raise(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_jval text;
    (void)self, (void)out;
    LB_TRY(lb_jv_to_str(x, a[0], &text));
    return lb_jx_error(x, "%.*s", (int)LB_MIN(text.u.s->len, 700), text.u.s->ptr);
}

static lb_status g_strftime_now(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out) {
    lb_str format;
    (void)self;
    LB_TRY(lb_jarg_str(x, a[0], "strftime() argument 1", &format));
    return lb_jstrftime(x, format, out);
}

static const lb_jdef globals[] = {
    {"range", g_range, NULL, "a b c", 1, true},
    {"dict", NULL, g_dict, NULL, 0, false},
    {"namespace", NULL, g_namespace, NULL, 0, false},
    {"cycler", NULL, g_cycler, NULL, 0, false},
    {"joiner", g_joiner, NULL, "sep", 0, false},
    {"raise_exception", g_raise, NULL, "message", 1, false},
    {"strftime_now", g_strftime_now, NULL, "format", 1, false},
    {"lipsum", NULL, NULL, NULL, 0, false},
};
const lb_jtable lb_jglobals = {globals, LB_LEN(globals)};

/* ---- finding ---- */

static bool in_names(lb_str name, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (lb_str_eq_c(name, names[i]))
            return true;
    return false;
}

const lb_jdef *lb_jmethod_find(lb_jval v, lb_str name, bool *unsafe) {
    static const char *const list_changes[] = {"append", "clear", "pop",    "reverse",
                                               "insert", "sort",  "extend", "remove"},
                             *const dict_changes[] = {"clear", "pop", "popitem", "setdefault",
                                                      "update"};
    const lb_jtable loops = {loop_defs, LB_LEN(loop_defs)};
    const lb_jtable floats = {number_defs + 1, 1};
    const lb_jtable cyclers = {cycler_defs, LB_LEN(cycler_defs)};
    const lb_jtable *t = NULL;
    u32 n = 0;
    *unsafe = false;
    switch ((lb_jtype)v.type) {
    case LB_JT_STR:
        t = &lb_jmethods_str;
        break;
    case LB_JT_DICT:
        *unsafe = in_names(name, dict_changes, LB_LEN(dict_changes));
        t = &lb_jmethods_dict;
        break;
    case LB_JT_LIST:
        *unsafe = in_names(name, list_changes, LB_LEN(list_changes));
        t = &lb_jmethods_list;
        break;
    case LB_JT_TUPLE:
    case LB_JT_GROUP:
    case LB_JT_RANGE:
        t = &lb_jmethods_list;
        n = 2;
        break;
    case LB_JT_BOOL:
    case LB_JT_INT:
        t = &lb_jmethods_number;
        n = 1;
        break;
    case LB_JT_FLOAT:
        t = &floats;
        break;
    case LB_JT_LOOP:
        t = &loops;
        break;
    case LB_JT_CYCLER:
        t = &cyclers;
        break;
    case LB_JT_FUNC:
        if (v.u.func->def->raw != g_dict || !lb_str_eq_c(name, "fromkeys"))
            return NULL;
        t = &lb_jmethods_dict;
        break;
    default:
        return NULL;
    }
    return *unsafe ? NULL : lb_jdef_find(t->def, n ? n : t->n, name);
}
