/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_json.c: the tojson filter: Python's json.dumps, as transformers calls it. */
#include "io/json.h"
#include "text/jinja_run.h"
#include <math.h>
#include <stdlib.h>

static lb_status put_value(lb_jbuf *b, lb_jval v, const lb_jjson_opts *o, u32 level);

static void put_break(lb_jbuf *b, const lb_jjson_opts *o, u32 level) {
    if (o->lines) {
        lb_jbuf_put_c(b, "\n");
        lb_jbuf_fill(b, o->indent, level);
    }
}

static void put_text(lb_jbuf *b, lb_str s, bool ascii) {
    if (b->over || s.len > b->x->max_string - b->b.len)
        b->over = true;
    else
        lb_json_write_str(&b->b, s, ascii);
}

static void put_float(lb_jbuf *b, double f) {
    if (isnan(f) || isinf(f))
        lb_jbuf_put_c(b, isnan(f) ? "NaN" : f > 0 ? "Infinity" : "-Infinity");
    else
        lb_jv_put_float(b, f);
}

static lb_status put_key(lb_jbuf *b, lb_jval k, const lb_jjson_opts *o) {
    if (k.type == LB_JT_STR) {
        put_text(b, lb_jv_text(k), o->ascii);
        return LB_OK;
    }
    if (!lb_jv_is_number(k) && k.type != LB_JT_NONE && k.type != LB_JT_BIG)
        return lb_jx_error(b->x, "keys must be str, int, float, bool or None, not %s",
                           lb_jv_type_name(k));
    lb_jbuf_put_c(b, "\"");
    LB_TRY(put_value(b, k, o, 0));
    lb_jbuf_put_c(b, "\"");
    return LB_OK;
}

static lb_status put_list(lb_jbuf *b, const lb_jlist *l, const lb_jjson_opts *o, u32 level) {
    lb_jbuf_put_c(b, "[");
    for (u32 i = 0; i < l->n && !b->over; i++) {
        if (i)
            lb_jbuf_put(b, o->item_sep);
        put_break(b, o, level + 1);
        LB_TRY(put_value(b, l->item[i], o, level + 1));
    }
    if (l->n)
        put_break(b, o, level);
    lb_jbuf_put_c(b, "]");
    return LB_OK;
}

/* A stable merge sort of pairs by key. */
static lb_status sort_pairs(lb_jx *x, lb_jpair *a, lb_jpair *scratch, u32 n) {
    u32 half = n / 2, i = 0, j = half, k = 0;
    if (n < 2)
        return LB_OK;
    LB_TRY(sort_pairs(x, a, scratch, half));
    LB_TRY(sort_pairs(x, a + half, scratch, n - half));
    memcpy(scratch, a, n * sizeof *a);
    while (k < n) {
        int c = i == half ? 1 : j == n ? -1 : 0;
        if (!c)
            LB_TRY(lb_jv_compare(x, scratch[j].key, scratch[i].key, "<", &c));
        else
            c = -c;
        a[k++] = c < 0 ? scratch[j++] : scratch[i++];
    }
    return LB_OK;
}

static lb_status put_dict(lb_jbuf *b, const lb_jdict *d, const lb_jjson_opts *o, u32 level) {
    const lb_jpair *pair = d->pair;
    if (o->sort && d->n > 1) {
        lb_jpair *sorted = lb_jx_new(b->x, lb_jpair, d->n), *scratch;
        scratch = sorted ? lb_jx_new(b->x, lb_jpair, d->n) : NULL;
        if (!scratch)
            return LB_E_LIMIT;
        memcpy(sorted, d->pair, d->n * sizeof *sorted);
        LB_TRY(sort_pairs(b->x, sorted, scratch, d->n));
        pair = sorted;
    }
    lb_jbuf_put_c(b, "{");
    for (u32 i = 0; i < d->n && !b->over; i++) {
        if (i)
            lb_jbuf_put(b, o->item_sep);
        put_break(b, o, level + 1);
        LB_TRY(put_key(b, pair[i].key, o));
        lb_jbuf_put(b, o->key_sep);
        LB_TRY(put_value(b, pair[i].value, o, level + 1));
    }
    if (d->n)
        put_break(b, o, level);
    lb_jbuf_put_c(b, "}");
    return LB_OK;
}

static lb_status put_value(lb_jbuf *b, lb_jval v, const lb_jjson_opts *o, u32 level) {
    lb_status st;
    LB_TRY(lb_jx_steps(b->x, 1));
    switch ((lb_jtype)v.type) {
    case LB_JT_NONE:
        lb_jbuf_put_c(b, "null");
        return LB_OK;
    case LB_JT_BOOL:
        lb_jbuf_put_c(b, v.u.b ? "true" : "false");
        return LB_OK;
    case LB_JT_FLOAT:
        put_float(b, v.u.f);
        return LB_OK;
    case LB_JT_INT:
    case LB_JT_BIG:
        return lb_jv_put_str(b, v);
    case LB_JT_STR:
        put_text(b, lb_jv_text(v), o->ascii);
        return LB_OK;
    case LB_JT_LIST:
    case LB_JT_TUPLE:
    case LB_JT_GROUP:
    case LB_JT_DICT:
        break;
    default:
        return lb_jx_error(b->x, "Object of type %s is not JSON serializable", lb_jv_type_name(v));
    }
    LB_TRY(lb_jx_enter(b->x));
    st = v.type == LB_JT_DICT ? put_dict(b, v.u.dict, o, level) : put_list(b, v.u.list, o, level);
    b->x->depth--;
    return st;
}

lb_status lb_jjson(lb_jbuf *out, lb_jval v, const lb_jjson_opts *o) {
    return put_value(out, v, o, 0);
}
