/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_attr.c: obj.name, obj[key] and slices, as jinja2's sandbox looks them up: an attribute
 * first or an item first, and something undefined where there is neither. */
#include "text/jinja_builtin.h"
#include "text/jinja_run.h"
#include "text/jinja_text.h"

static lb_status unsafe(lb_jx *x, lb_jval obj, lb_jval name, lb_jval *out) {
    LB_TRY(lb_jv_undef(x, obj, name, out));
    out->u.undef->unsafe = true;
    return LB_OK;
}

/* What every object of Python has, and the sandbox keeps back. */
static bool is_object_name(lb_str name) {
    static const char *const names[] = {
        "class",  "doc",          "init",    "new",          "repr",         "str",
        "hash",   "eq",           "ne",      "lt",           "le",           "gt",
        "ge",     "getattribute", "setattr", "delattr",      "dir",          "format",
        "reduce", "reduce_ex",    "sizeof",  "subclasshook", "init_subclass"};
    if (!lb_str_starts(name, LB_STR("__")) || !lb_str_ends(name, LB_STR("__")) || name.len < 5)
        return false;
    name = lb_str_sub(name, 2, name.len - 2);
    for (size_t i = 0; i < LB_LEN(names); i++)
        if (lb_str_eq_c(name, names[i]))
            return true;
    return false;
}

static lb_status macro_attr(lb_jx *x, const lb_jmacro *m, lb_str name, bool *found, lb_jval *out) {
    const lb_jcode *c = m->node->code;
    *found = true;
    if (lb_str_eq_c(name, "name")) {
        *out = lb_jv_none();
        return m->node->kind == LB_JN_MACRO ? lb_jv_view(x, m->node->name, out) : LB_OK;
    }
    if (lb_str_eq_c(name, "arguments")) {
        lb_jlist *l = lb_jlist_new(x, c->n_params);
        if (!l)
            return LB_E_LIMIT;
        for (const lb_jnode *k = m->node->a; k; k = k->next)
            LB_TRY(lb_jv_view(x, k->name, &l->item[l->n++]));
        *out = lb_jv_tuple(l);
        return LB_OK;
    }
    if (lb_str_eq_c(name, "catch_kwargs"))
        *out = lb_jv_bool(c->kwargs != LB_JSLOT_NONE);
    else if (lb_str_eq_c(name, "catch_varargs"))
        *out = lb_jv_bool(c->varargs != LB_JSLOT_NONE);
    else if (lb_str_eq_c(name, "caller"))
        *out = lb_jv_bool(c->caller != LB_JSLOT_NONE || c->explicit_caller);
    else
        *found = false;
    return LB_OK;
}

/* Attributes that are no methods. */
static lb_status field(lb_jx *x, lb_jval obj, lb_str name, bool *found, lb_jval *out) {
    const lb_jval *v;
    switch ((lb_jtype)obj.type) {
    case LB_JT_NS:
        v = lb_jdict_find_str(obj.u.dict, name);
        *found = v != NULL;
        *out = v ? *v : *out;
        return LB_OK;
    case LB_JT_LOOP:
        return lb_jloop_attr(x, obj.u.loop, name, found, out);
    case LB_JT_MACRO:
        return macro_attr(x, obj.u.macro, name, found, out);
    case LB_JT_GROUP:
        *found = lb_str_eq_c(name, "grouper") || lb_str_eq_c(name, "list");
        if (*found)
            *out = obj.u.list->item[lb_str_eq_c(name, "list")];
        return LB_OK;
    case LB_JT_CYCLER:
        *found = lb_str_eq_c(name, "current");
        if (*found)
            *out = obj.u.cycler->items->item[obj.u.cycler->pos];
        return LB_OK;
    case LB_JT_RANGE:
        *found = true;
        if (lb_str_eq_c(name, "start"))
            *out = lb_jv_int(obj.u.range->start);
        else if (lb_str_eq_c(name, "stop"))
            *out = lb_jv_int(obj.u.range->stop);
        else if (lb_str_eq_c(name, "step"))
            *out = lb_jv_int(obj.u.range->step);
        else
            *found = false;
        return LB_OK;
    case LB_JT_FLOAT:
        *found = lb_str_eq_c(name, "real") || lb_str_eq_c(name, "imag");
        *out = lb_jv_float(name.len && name.ptr[0] == 'r' ? obj.u.f : 0);
        return LB_OK;
    case LB_JT_BOOL:
    case LB_JT_INT:
    case LB_JT_BIG:
        *found = true;
        if (lb_str_eq_c(name, "real") || lb_str_eq_c(name, "numerator"))
            *out =
                obj.type == LB_JT_BIG ? obj : lb_jv_int(obj.type == LB_JT_INT ? obj.u.i : obj.u.b);
        else if (lb_str_eq_c(name, "imag") || lb_str_eq_c(name, "denominator"))
            *out = lb_jv_int(name.ptr[0] == 'd');
        else
            *found = false;
        return LB_OK;
    default:
        return LB_OK;
    }
}

lb_status lb_jattr_own(lb_jx *x, lb_jval obj, lb_jval name, bool *found, lb_jval *out) {
    lb_str s = lb_jv_text(name);
    bool kept_back = false;
    *found = false;
    if (is_object_name(s) && obj.type != LB_JT_NS) {
        *found = true;
        return unsafe(x, obj, name, out);
    }
    LB_TRY(field(x, obj, s, found, out));
    if (*found && obj.type == LB_JT_NS && s.len && s.ptr[0] == '_')
        return unsafe(x, obj, name, out);
    if (*found)
        return LB_OK;
    const lb_jdef *def = lb_jmethod_find(obj, s, &kept_back);
    if (!def && !kept_back)
        return LB_OK;
    *found = true;
    if (kept_back)
        return unsafe(x, obj, name, out);
    lb_jfunc *f = lb_jx_new(x, lb_jfunc, 1);
    if (!f)
        return LB_E_LIMIT;
    *f = (lb_jfunc){def, obj};
    *out = (lb_jval){.type = LB_JT_FUNC, .u.func = f};
    return LB_OK;
}

lb_status lb_jattr(lb_jx *x, lb_jval obj, lb_jval name, lb_jval *out) {
    bool found;
    const lb_jval *v;
    if (obj.type == LB_JT_UNDEF && !is_object_name(lb_jv_text(name)))
        return lb_jx_undefined(x, obj);
    LB_TRY(lb_jattr_own(x, obj, name, &found, out));
    if (found)
        return LB_OK;
    v = obj.type == LB_JT_DICT ? lb_jdict_find(x, obj.u.dict, name) : NULL;
    if (v) {
        *out = *v;
        return LB_OK;
    }
    return lb_jv_undef(x, obj, name, out);
}

/* An index counted from the end where it is negative; false: beyond. */
static bool place(lb_jval key, u64 n, u64 *out) {
    i64 i;
    if (!lb_jv_as_int(key, &i))
        return false;
    if (i < 0)
        i += (i64)n;
    *out = (u64)i;
    return i >= 0 && (u64)i < n;
}

static lb_status char_at(lb_jx *x, lb_jval s, u64 i, lb_jval *out) {
    lb_str text = lb_jv_text(s), part;
    if (lb_jv_chars(s) == text.len) {
        part = lb_str_sub(text, i, i + 1);
    } else {
        size_t at = lb_jstr_at(text, i), next = at + 1;
        LB_TRY(lb_jx_steps(x, at / 16));
        while (next < text.len && ((u8)text.ptr[next] & 0xc0) == 0x80)
            next++;
        part = lb_str_sub(text, at, next);
    }
    LB_TRY(lb_jv_view(x, part, out));
    out->safe = s.safe;
    return LB_OK;
}

static lb_status subscript(lb_jx *x, lb_jval obj, lb_jval key, bool *found, lb_jval *out) {
    u64 i = 0, n;
    const lb_jval *v;
    *found = false;
    if (obj.type == LB_JT_DICT) {
        v = lb_jdict_find(x, obj.u.dict, key);
        *found = v != NULL;
        *out = v ? *v : *out;
        return LB_OK;
    }
    if (!lb_jv_is_list(obj) && obj.type != LB_JT_STR && obj.type != LB_JT_RANGE)
        return LB_OK;
    *found = lb_jv_len(obj, &n) && place(key, n, &i);
    if (!*found)
        return LB_OK;
    if (obj.type == LB_JT_STR)
        return char_at(x, obj, i, out);
    *out = obj.type == LB_JT_RANGE ? lb_jv_int(obj.u.range->start + (i64)i * obj.u.range->step)
                                   : obj.u.list->item[i];
    return LB_OK;
}

lb_status lb_jitem(lb_jx *x, lb_jval obj, lb_jval key, lb_jval *out) {
    bool found;
    if (obj.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, obj);
    LB_TRY(subscript(x, obj, key, &found, out));
    if (!found && key.type == LB_JT_STR)
        LB_TRY(lb_jattr_own(x, obj, key, &found, out));
    return found ? LB_OK : lb_jv_undef(x, obj, key, out);
}

/* ---- slices ---- */

static lb_status bound(lb_jx *x, lb_jval v, bool *given, i64 *out) {
    *given = lb_jarg_given(v);
    if (v.type == LB_JT_UNDEF || (*given && !lb_jv_as_int(v, out)))
        return lb_jx_error(x, "slice indices must be integers or None or have an __index__ method");
    return LB_OK;
}

static i64 clamp(i64 i, i64 n, bool down) {
    if (i < 0) {
        i += n;
        return i < 0 ? (down ? -1 : 0) : i;
    }
    return i >= n ? (down ? n - 1 : n) : i;
}

static lb_status slice_str(lb_jx *x, lb_jval s, i64 start, i64 count, i64 step, lb_jval *out) {
    lb_str text = lb_jv_text(s);
    bool ascii = lb_jv_chars(s) == text.len;
    LB_TRY(lb_jx_steps(x, text.len / 64));
    if (step == 1) {
        size_t from = ascii ? (size_t)start : lb_jstr_at(text, (u64)start);
        lb_str rest = lb_str_sub(text, from, text.len);
        LB_TRY(lb_jv_view(
            x, lb_str_sub(rest, 0, ascii ? (size_t)count : lb_jstr_at(rest, (u64)count)), out));
    } else {
        lb_jbuf b = {.x = x};
        u32 *at = ascii ? NULL : lb_jx_new(x, u32, (u64)lb_jv_chars(s) + 1), n = 0;
        if (!ascii && !at)
            return LB_E_LIMIT;
        for (u32 i = 0; at && i < text.len; i++)
            if (((u8)text.ptr[i] & 0xc0) != 0x80)
                at[n++] = i;
        if (at)
            at[n] = (u32)text.len;
        for (i64 k = 0; k < count; k++, start += step)
            lb_jbuf_put(&b, at ? lb_str_sub(text, at[start], at[start + 1])
                               : lb_str_sub(text, (size_t)start, (size_t)start + 1));
        LB_TRY(lb_jbuf_end(&b, out));
    }
    out->safe = s.safe;
    return LB_OK;
}

static lb_status slice_list(lb_jx *x, lb_jval v, i64 start, i64 count, i64 step, lb_jval *out) {
    lb_jlist *l = lb_jlist_new(x, (u64)count);
    if (!l)
        return LB_E_LIMIT;
    LB_TRY(lb_jx_steps(x, (u64)count / 4));
    for (i64 k = 0; k < count; k++, start += step)
        l->item[l->n++] = v.u.list->item[start];
    *out = v.type == LB_JT_LIST ? lb_jv_list(l) : lb_jv_tuple(l);
    return LB_OK;
}

static lb_status slice_range(lb_jx *x, const lb_jrange *r, lb_jrange part, lb_jval *out) {
    lb_jrange *n = lb_jx_new(x, lb_jrange, 1);
    if (!n)
        return LB_E_LIMIT;
    n->n = part.n;
    if (__builtin_mul_overflow(r->step, part.step, &n->step) ||
        __builtin_mul_overflow(part.start, r->step, &n->start) ||
        __builtin_add_overflow(n->start, r->start, &n->start) ||
        __builtin_mul_overflow(part.stop, r->step, &n->stop) ||
        __builtin_add_overflow(n->stop, r->start, &n->stop))
        return lb_jx_fail(x, LB_E_UNSUPPORTED, "an integer of more than 64 bits");
    *out = (lb_jval){.type = LB_JT_RANGE, .u.range = n};
    return LB_OK;
}

lb_status lb_jslice(lb_jx *x, lb_jval obj, const lb_jval *part, lb_jval *out) {
    i64 start = 0, stop = 0, step = 1, count = 0, n;
    bool has_start, has_stop, has_step;
    u64 len = 0;
    if (obj.type == LB_JT_UNDEF)
        return lb_jx_undefined(x, obj);
    if (obj.type == LB_JT_DICT)
        return lb_jx_error(x, "unhashable type: 'slice'");
    if (!lb_jv_is_list(obj) && obj.type != LB_JT_STR && obj.type != LB_JT_RANGE)
        return lb_jx_error(x, "'%s' object is not subscriptable", lb_jv_type_name(obj));
    LB_TRY(bound(x, part[0], &has_start, &start));
    LB_TRY(bound(x, part[1], &has_stop, &stop));
    LB_TRY(bound(x, part[2], &has_step, &step));
    if (step == 0)
        return lb_jx_error(x, "slice step cannot be zero");
    (void)lb_jv_len(obj, &len);
    n = (i64)len;
    bool down = step < 0;
    start = has_start ? clamp(start, n, down) : down ? n - 1 : 0;
    stop = has_stop ? clamp(stop, n, down) : down ? -1 : n;
    if (!down && start < stop)
        count = (stop - start - 1) / step + 1;
    else if (down && stop < start && step > INT64_MIN)
        count = (start - stop - 1) / -step + 1;
    else if (down && stop < start)
        count = 1;
    if (obj.type == LB_JT_RANGE)
        return slice_range(x, obj.u.range, (lb_jrange){start, stop, step, count}, out);
    if (count == 0)
        start = 0;
    if (obj.type == LB_JT_STR)
        return slice_str(x, obj, start, count, count ? step : 1, out);
    return slice_list(x, obj, start, count, step, out);
}
