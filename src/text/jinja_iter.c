/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_iter.c: walking through values: sequences, the lazy results of filters, loops. */
#include "text/jinja_builtin.h"
#include "text/jinja_iter.h"
#include "text/jinja_text.h"

bool lb_jv_is_iterable(lb_jval v) {
    u64 n;
    return lb_jv_len(v, &n) || v.type == LB_JT_ITER;
}

lb_status lb_jiter_new(lb_jx *x, lb_jval v, lb_jiter **out) {
    if (v.type == LB_JT_ITER) {
        *out = v.u.iter;
        return LB_OK;
    }
    if (!lb_jv_is_iterable(v))
        return lb_jx_error(x, "'%s' object is not iterable", lb_jv_type_name(v));
    *out = lb_jx_new(x, lb_jiter, 1);
    if (!*out)
        return LB_E_LIMIT;
    (*out)->source = v;
    return LB_OK;
}

lb_status lb_jgen_new(lb_jx *x, const lb_jgen_opts *o, lb_jval *out) {
    lb_jiter *it = lb_jx_new(x, lb_jiter, 1);
    if (!it)
        return LB_E_LIMIT;
    it->o = *o;
    it->is_gen = true;
    if (o->args.n) { /* they stand on the caller's stack */
        lb_jval *pos = lb_jx_new(x, lb_jval, o->args.n);
        if (!pos)
            return LB_E_LIMIT;
        memcpy(pos, o->args.pos, o->args.n * sizeof *pos);
        it->o.args.pos = pos;
    }
    *out = (lb_jval){.type = LB_JT_ITER, .u.iter = it};
    return LB_OK;
}

/* ---- sequences ---- */

static lb_status view_item(lb_jx *x, const lb_jview *v, u32 i, lb_jval *out) {
    const lb_jpair *p = &v->dict->pair[i];
    if (v->kind == LB_JVIEW_ITEMS)
        return lb_jv_pair(x, p->key, p->value, out);
    *out = v->kind == LB_JVIEW_KEYS ? p->key : p->value;
    return LB_OK;
}

static lb_status next_char(lb_jx *x, lb_jiter *it, lb_jval *out, bool *more) {
    lb_str s = lb_jv_text(it->source);
    size_t end = it->pos + 1;
    *more = it->pos < s.len;
    if (!*more)
        return LB_OK;
    while (end < s.len && ((u8)s.ptr[end] & 0xc0) == 0x80)
        end++;
    LB_TRY(lb_jv_view(x, lb_str_sub(s, it->pos, end), out));
    out->safe = false;
    it->pos = end;
    return LB_OK;
}

static lb_status next_item(lb_jx *x, lb_jiter *it, lb_jval *out, bool *more) {
    lb_jval v = it->source;
    u64 n = 0, i = it->pos;
    if (v.type == LB_JT_STR)
        return next_char(x, it, out, more);
    *more = lb_jv_len(v, &n) && i < n;
    if (!*more)
        return LB_OK;
    it->pos++;
    switch ((lb_jtype)v.type) {
    case LB_JT_DICT:
        *out = v.u.dict->pair[i].key;
        return LB_OK;
    case LB_JT_VIEW:
        return view_item(x, v.u.view, (u32)i, out);
    case LB_JT_RANGE:
        *out = lb_jv_int(v.u.range->start + (i64)i * v.u.range->step);
        return LB_OK;
    default:
        *out = v.u.list->item[i];
        return LB_OK;
    }
}

/* ---- generators ---- */

static lb_status pull(lb_jx *x, lb_jiter *it, lb_jval *out, bool *more) {
    return lb_jiter_next(x, it->inner, out, more);
}

static lb_status selected(lb_jx *x, const lb_jiter *it, lb_jval item, bool *yes) {
    lb_jval v = item;
    if (it->o.attr.type != LB_JT_MISSING)
        LB_TRY(lb_jattr_path(x, item, it->o.attr, (lb_jval){0}, &v));
    if (it->o.name.type == LB_JT_MISSING)
        *yes = lb_jv_true(v);
    else
        LB_TRY(lb_jcall_test(x, it->o.name, v, &it->o.args, yes));
    *yes ^= it->o.negate;
    return LB_OK;
}

static lb_status next_selected(lb_jx *x, lb_jiter *it, lb_jval *out, bool *more) {
    for (bool yes = false;;) {
        LB_TRY(pull(x, it, out, more));
        if (!*more)
            return LB_OK;
        LB_TRY(selected(x, it, *out, &yes));
        if (yes)
            return LB_OK;
    }
}

static lb_status next_unique(lb_jx *x, lb_jiter *it, lb_jval *out, bool *more) {
    for (;;) {
        lb_jval key;
        LB_TRY(pull(x, it, out, more));
        if (!*more)
            return LB_OK;
        LB_TRY(lb_jattr_path(x, *out, it->o.attr, (lb_jval){0}, &key));
        if (it->o.fold_case)
            LB_TRY(lb_jv_fold_case(x, key, &key));
        if (!lb_jv_hashable(key))
            return lb_jx_error(x, "unhashable type: '%s'", lb_jv_type_name(key));
        if (lb_jdict_find(x, it->seen, key))
            continue;
        return lb_jdict_set(x, it->seen, key, lb_jv_none());
    }
}

static lb_status next_batch(lb_jx *x, lb_jiter *it, lb_jval *out, bool *more) {
    lb_jlist *l = lb_jlist_new(x, 0);
    lb_jval v;
    bool any = true;
    if (!l)
        return LB_E_LIMIT;
    if (it->held.type != LB_JT_MISSING)
        LB_TRY(lb_jlist_push(x, l, it->held));
    it->held = (lb_jval){0};
    for (;;) {
        LB_TRY(pull(x, it, &v, &any));
        if (!any)
            break;
        if ((i64)l->n == it->o.count) {
            it->held = v;
            break;
        }
        LB_TRY(lb_jlist_push(x, l, v));
    }
    *more = l->n > 0 || any;
    if (!any && l->n && lb_jarg_given(it->o.fallback))
        while ((i64)l->n < it->o.count)
            LB_TRY(lb_jlist_push(x, l, it->o.fallback));
    *out = lb_jv_list(l);
    return LB_OK;
}

static lb_status next_slice(lb_jx *x, lb_jiter *it, lb_jval *out, bool *more) {
    i64 n = it->list->n, per, extra, i = (i64)it->pos, begin, end;
    if (it->o.count == 0)
        return lb_jx_error(x, "integer division or modulo by zero");
    *more = i < it->o.count;
    if (!*more)
        return LB_OK;
    per = n / it->o.count;
    extra = n % it->o.count;
    begin = i * per + LB_MIN(i, extra);
    end = (i + 1) * per + LB_MIN(i + 1, extra);
    lb_jlist *l = lb_jlist_new(x, (u64)(end - begin) + 1);
    if (!l)
        return LB_E_LIMIT;
    for (i64 k = begin; k < end; k++)
        l->item[l->n++] = it->list->item[k];
    if (lb_jarg_given(it->o.fallback) && i >= extra)
        l->item[l->n++] = it->o.fallback;
    it->pos++;
    *out = lb_jv_list(l);
    return LB_OK;
}

static lb_status next_reversed(lb_jiter *it, lb_jval *out, bool *more) {
    *more = it->pos < it->list->n;
    if (*more)
        *out = it->list->item[it->list->n - 1 - it->pos++];
    return LB_OK;
}

static lb_status next_tested(lb_jx *x, lb_jiter *it, lb_jval *out, bool *more) {
    for (;;) {
        lb_jval v;
        LB_TRY(pull(x, it, out, more));
        if (!*more)
            return LB_OK;
        LB_TRY(lb_jassign(x, it->act, it->node->f, *out));
        LB_TRY(lb_jeval(x, it->act, it->node->e, &v));
        if (lb_jv_true(v))
            return LB_OK;
    }
}

/* The first step of a generator: what its Python does before the first item. */
static lb_status start(lb_jx *x, lb_jiter *it) {
    it->started = true;
    if (it->node) {
        lb_jframe_enter(x, it->act, &it->node->frame_test);
        return LB_OK;
    }
    switch (it->o.kind) {
    case LB_JGEN_MAP:
    case LB_JGEN_MAP_ATTR:
    case LB_JGEN_SELECT:
        if (!lb_jv_true(it->o.source)) {
            it->done = true;
            return LB_OK;
        }
        if (it->o.kind == LB_JGEN_MAP && it->o.name.type == LB_JT_MISSING)
            return lb_jx_error(x, "map requires a filter argument");
        break;
    case LB_JGEN_ITEMS:
        if (it->o.source.type == LB_JT_UNDEF) {
            it->done = true;
            return LB_OK;
        }
        if (it->o.source.type != LB_JT_DICT)
            return lb_jx_error(x, "Can only get item pairs from a mapping.");
        LB_TRY(lb_jv_view_of(x, it->o.source.u.dict, LB_JVIEW_ITEMS, &it->o.source));
        break;
    case LB_JGEN_UNIQUE:
        it->seen = lb_jdict_new(x);
        if (!it->seen)
            return LB_E_LIMIT;
        break;
    case LB_JGEN_SLICE:
    case LB_JGEN_REVERSED:
        return lb_jv_to_list(x, it->o.source, &it->list);
    default:
        break;
    }
    return lb_jiter_new(x, it->o.source, &it->inner);
}

static lb_status next_generated(lb_jx *x, lb_jiter *it, lb_jval *out, bool *more) {
    lb_jval v;
    *more = false;
    if (!it->started)
        LB_TRY(start(x, it));
    if (it->done)
        return LB_OK;
    if (it->node)
        return next_tested(x, it, out, more);
    switch (it->o.kind) {
    case LB_JGEN_SELECT:
        return next_selected(x, it, out, more);
    case LB_JGEN_UNIQUE:
        return next_unique(x, it, out, more);
    case LB_JGEN_BATCH:
        return next_batch(x, it, out, more);
    case LB_JGEN_SLICE:
        return next_slice(x, it, out, more);
    case LB_JGEN_REVERSED:
        return next_reversed(it, out, more);
    case LB_JGEN_ITEMS:
        return pull(x, it, out, more);
    default:
        break;
    }
    LB_TRY(pull(x, it, &v, more));
    if (!*more)
        return LB_OK;
    if (it->o.kind == LB_JGEN_MAP_ATTR)
        return lb_jattr_path(x, v, it->o.attr, it->o.fallback, out);
    return lb_jcall_filter(x, it->o.name, v, &it->o.args, out);
}

lb_status lb_jiter_next(lb_jx *x, lb_jiter *it, lb_jval *out, bool *more) {
    LB_TRY(lb_jx_steps(x, 1));
    if (!it->is_gen)
        return next_item(x, it, out, more);
    LB_TRY(lb_jx_enter(x));
    LB_TRY(next_generated(x, it, out, more));
    x->depth--;
    it->done |= !*more;
    return LB_OK;
}

lb_status lb_jv_to_list(lb_jx *x, lb_jval v, lb_jlist **out) {
    u64 n = 0;
    lb_jiter *it;
    lb_jval item;
    (void)lb_jv_len(v, &n);
    LB_TRY(lb_jiter_new(x, v, &it));
    *out = lb_jlist_new(x, n);
    if (!*out)
        return LB_E_LIMIT;
    for (bool more = true;;) {
        LB_TRY(lb_jiter_next(x, it, &item, &more));
        if (!more)
            return LB_OK;
        LB_TRY(lb_jlist_push(x, *out, item));
    }
}

/* ---- attributes of items ---- */

static lb_status path_part(lb_jx *x, lb_jval item, lb_jval part, lb_jval fallback, lb_jval *out) {
    LB_TRY(lb_jitem(x, item, part, out));
    if (out->type == LB_JT_UNDEF && lb_jarg_given(fallback))
        *out = fallback;
    return LB_OK;
}

lb_status lb_jattr_path(lb_jx *x, lb_jval item, lb_jval path, lb_jval fallback, lb_jval *out) {
    *out = item;
    if (!lb_jarg_given(path))
        return LB_OK;
    if (path.type != LB_JT_STR)
        return path_part(x, item, path, fallback, out);
    lb_str s = lb_jv_text(path);
    for (size_t begin = 0, i = 0; i <= s.len; i++) {
        lb_str part;
        lb_jval key;
        i64 number;
        if (i < s.len && s.ptr[i] != '.')
            continue;
        part = lb_str_sub(s, begin, i);
        begin = i + 1;
        if (lb_jtext_is(part, LB_JIS_DIGIT) && lb_jstr_to_i64(part, 10, &number))
            key = lb_jv_int(number);
        else
            LB_TRY(lb_jv_view(x, part, &key));
        LB_TRY(path_part(x, *out, key, fallback, out));
    }
    return LB_OK;
}

lb_status lb_jv_fold_case(lb_jx *x, lb_jval v, lb_jval *out) {
    lb_jbuf b = {.x = x};
    *out = v;
    if (v.type != LB_JT_STR)
        return LB_OK;
    lb_jtext_case(&b, lb_jv_text(v), LB_JCASE_LOWER);
    return lb_jbuf_end(&b, out);
}

/* ---- loops ---- */

lb_status lb_jloop_next(lb_jx *x, lb_jloop *l, lb_jval *out, bool *more) {
    *more = true;
    if (l->after.type != LB_JT_MISSING) {
        *out = l->after;
        l->after = (lb_jval){0};
    } else {
        LB_TRY(lb_jiter_next(x, l->it, out, more));
        if (!*more)
            return LB_OK;
    }
    l->index0++;
    l->before = l->current;
    l->current = *out;
    return LB_OK;
}

static lb_status peek(lb_jx *x, lb_jloop *l, bool *more) {
    *more = true;
    if (l->after.type != LB_JT_MISSING)
        return LB_OK;
    LB_TRY(lb_jiter_next(x, l->it, &l->after, more));
    if (!*more)
        l->after = (lb_jval){0};
    return LB_OK;
}

lb_status lb_jloop_length(lb_jx *x, lb_jloop *l, i64 *out) {
    u64 n;
    if (l->length < 0 && lb_jv_len(l->iterable, &n))
        l->length = (i64)n;
    if (l->length < 0) {
        lb_jlist *rest;
        LB_TRY(lb_jv_to_list(x, (lb_jval){.type = LB_JT_ITER, .u.iter = l->it}, &rest));
        LB_TRY(lb_jiter_new(x, lb_jv_list(rest), &l->it));
        l->length = rest->n + l->index0 + 1 + (l->after.type != LB_JT_MISSING);
    }
    *out = l->length;
    return LB_OK;
}

static lb_status loop_edge(lb_jx *x, lb_jloop *l, lb_str name, lb_jval *out) {
    bool more;
    if (lb_str_eq_c(name, "previtem")) {
        *out = l->before;
        return l->index0 == 0 ? lb_jv_undef_hint(x, "there is no previous item", out) : LB_OK;
    }
    LB_TRY(peek(x, l, &more));
    if (lb_str_eq_c(name, "last")) {
        *out = lb_jv_bool(!more);
        return LB_OK;
    }
    *out = l->after;
    return more ? LB_OK : lb_jv_undef_hint(x, "there is no next item", out);
}

lb_status lb_jloop_attr(lb_jx *x, lb_jloop *l, lb_str name, bool *found, lb_jval *out) {
    static const char *const edges[] = {"last", "nextitem", "previtem"};
    struct {
        const char *name;
        i64 value;
    } plain[] = {{"index", l->index0 + 1},
                 {"index0", l->index0},
                 {"depth", l->depth0 + 1},
                 {"depth0", l->depth0}};
    i64 n;
    *found = true;
    for (size_t i = 0; i < LB_LEN(plain); i++)
        if (lb_str_eq_c(name, plain[i].name)) {
            *out = lb_jv_int(plain[i].value);
            return LB_OK;
        }
    for (size_t i = 0; i < LB_LEN(edges); i++)
        if (lb_str_eq_c(name, edges[i]))
            return loop_edge(x, l, name, out);
    if (lb_str_eq_c(name, "first")) {
        *out = lb_jv_bool(l->index0 == 0);
        return LB_OK;
    }
    *found = lb_str_eq_c(name, "length") || lb_str_eq_c(name, "revindex") ||
             lb_str_eq_c(name, "revindex0");
    if (!*found)
        return LB_OK;
    LB_TRY(lb_jloop_length(x, l, &n));
    *out = lb_jv_int(lb_str_eq_c(name, "length")     ? n
                     : lb_str_eq_c(name, "revindex") ? n - l->index0
                                                     : n - l->index0 - 1);
    return LB_OK;
}
