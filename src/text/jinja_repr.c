/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_repr.c: values as text: Python's str() and repr(), and the buffer that they are written
 * to. */
#include "io/json.h"
#include "text/bytelevel.h"
#include "text/jinja_run.h"
#include "text/jinja_text.h"
#include <math.h>
#include <stdio.h>

void lb_jbuf_put(lb_jbuf *b, lb_str s) {
    if (b->over || s.len > b->x->max_string - b->b.len) {
        b->over = true;
        return;
    }
    lb_buf_put_str(&b->b, s);
}

void lb_jbuf_put_c(lb_jbuf *b, const char *s) {
    lb_jbuf_put(b, lb_str_c(s));
}

void lb_jbuf_put_cp(lb_jbuf *b, u32 cp) {
    if (b->over || b->x->max_string - b->b.len < 4)
        b->over = true;
    else
        lb_utf8_put(&b->b, cp);
}

void lb_jbuf_fill(lb_jbuf *b, lb_str s, i64 n) {
    if (n <= 0 || !s.len)
        return;
    if (b->over || (u64)n > (b->x->max_string - b->b.len) / s.len) {
        b->over = true;
        return;
    }
    if (!lb_buf_reserve(&b->b, (size_t)n * s.len))
        return;
    for (i64 i = 0; i < n; i++)
        lb_buf_put_str(&b->b, s);
}

void lb_jbuf_drop(lb_jbuf *b) {
    lb_buf_deinit(&b->b);
}

lb_status lb_jbuf_end(lb_jbuf *b, lb_jval *out) {
    lb_status st;
    if (b->b.oom)
        st = lb_jx_no_memory(b->x);
    else if (b->over)
        st = lb_jx_fail(b->x, LB_E_LIMIT, "a string of more than %llu bytes",
                        (unsigned long long)b->x->max_string);
    else
        st = lb_jv_str(b->x, lb_buf_str(&b->b), out);
    lb_buf_deinit(&b->b);
    return st;
}

void lb_jv_put_float(lb_jbuf *b, double f) {
    lb_buf text = {0};
    if (isnan(f) || isinf(f)) {
        lb_jbuf_put_c(b, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    lb_json_write_f64(&text, f);
    if (text.oom)
        b->b.oom = true;
    else
        lb_jbuf_put(b, lb_buf_str(&text));
    lb_buf_deinit(&text);
}

static void put_int(lb_jbuf *b, i64 i) {
    char text[24];
    (void)snprintf(text, sizeof text, "%lld", (long long)i);
    lb_jbuf_put_c(b, text);
}

static void put_quoted(lb_jbuf *b, lb_str s) {
    bool single = s.len && memchr(s.ptr, '\'', s.len), twice = s.len && memchr(s.ptr, '"', s.len);
    char quote = single && !twice ? '"' : '\'', text[16];
    lb_jbuf_put(b, (lb_str){&quote, 1});
    for (size_t i = 0; i < s.len && !b->over;) {
        u32 cp = lb_utf8_next(s, &i);
        if (cp == (u32)quote || cp == '\\')
            (void)snprintf(text, sizeof text, "\\%c", (char)cp);
        else if (cp == '\n' || cp == '\r' || cp == '\t')
            (void)snprintf(text, sizeof text, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
        else if (lb_jcp_is_printable(cp))
            text[0] = '\0';
        else
            (void)snprintf(text, sizeof text,
                           cp < 0x100     ? "\\x%02x"
                           : cp < 0x10000 ? "\\u%04x"
                                          : "\\U%08x",
                           cp);
        if (text[0])
            lb_jbuf_put_c(b, text);
        else
            lb_jbuf_put_cp(b, cp);
    }
    lb_jbuf_put(b, (lb_str){&quote, 1});
}

static lb_status put_list(lb_jbuf *b, const lb_jlist *l, const char *open, const char *close) {
    lb_jbuf_put_c(b, open);
    for (u32 i = 0; i < l->n; i++) {
        if (i)
            lb_jbuf_put_c(b, ", ");
        LB_TRY(lb_jv_put_repr(b, l->item[i]));
    }
    lb_jbuf_put_c(b, l->n == 1 && close[0] == ')' ? ",)" : close);
    return LB_OK;
}

static lb_status put_dict(lb_jbuf *b, const lb_jdict *d) {
    lb_jbuf_put_c(b, "{");
    for (u32 i = 0; i < d->n; i++) {
        if (i)
            lb_jbuf_put_c(b, ", ");
        LB_TRY(lb_jv_put_repr(b, d->pair[i].key));
        lb_jbuf_put_c(b, ": ");
        LB_TRY(lb_jv_put_repr(b, d->pair[i].value));
    }
    lb_jbuf_put_c(b, "}");
    return LB_OK;
}

static lb_status put_view(lb_jbuf *b, const lb_jview *v) {
    const lb_jdict *d = v->dict;
    lb_jbuf_put_c(b, v->kind == LB_JVIEW_KEYS     ? "dict_keys(["
                     : v->kind == LB_JVIEW_VALUES ? "dict_values(["
                                                  : "dict_items([");
    for (u32 i = 0; i < d->n; i++) {
        if (i)
            lb_jbuf_put_c(b, ", ");
        if (v->kind == LB_JVIEW_ITEMS)
            lb_jbuf_put_c(b, "(");
        if (v->kind != LB_JVIEW_VALUES)
            LB_TRY(lb_jv_put_repr(b, d->pair[i].key));
        if (v->kind == LB_JVIEW_ITEMS)
            lb_jbuf_put_c(b, ", ");
        if (v->kind != LB_JVIEW_KEYS)
            LB_TRY(lb_jv_put_repr(b, d->pair[i].value));
        if (v->kind == LB_JVIEW_ITEMS)
            lb_jbuf_put_c(b, ")");
    }
    lb_jbuf_put_c(b, "])");
    return LB_OK;
}

static lb_status put_other(lb_jbuf *b, lb_jval v) {
    i64 n;
    switch ((lb_jtype)v.type) {
    case LB_JT_NS:
        lb_jbuf_put_c(b, "<Namespace ");
        LB_TRY(put_dict(b, v.u.dict));
        lb_jbuf_put_c(b, ">");
        return LB_OK;
    case LB_JT_MACRO:
        if (v.u.macro->node->kind != LB_JN_MACRO) {
            lb_jbuf_put_c(b, "<Macro anonymous>");
            return LB_OK;
        }
        lb_jbuf_put_c(b, "<Macro ");
        put_quoted(b, v.u.macro->node->name);
        lb_jbuf_put_c(b, ">");
        return LB_OK;
    case LB_JT_LOOP:
        LB_TRY(lb_jloop_length(b->x, v.u.loop, &n));
        lb_jbuf_put_c(b, "<LoopContext ");
        put_int(b, v.u.loop->index0 + 1);
        lb_jbuf_put_c(b, "/");
        put_int(b, n);
        lb_jbuf_put_c(b, ">");
        return LB_OK;
    default:
        return lb_jx_fail(b->x, LB_E_UNSUPPORTED, "a %s is printed: it has no text of its own",
                          lb_jv_type_name(v));
    }
}

static lb_status put_range(lb_jbuf *b, const lb_jrange *r) {
    lb_jbuf_put_c(b, "range(");
    put_int(b, r->start);
    lb_jbuf_put_c(b, ", ");
    put_int(b, r->stop);
    if (r->step != 1) {
        lb_jbuf_put_c(b, ", ");
        put_int(b, r->step);
    }
    lb_jbuf_put_c(b, ")");
    return LB_OK;
}

static lb_status put_repr(lb_jbuf *b, lb_jval v) {
    switch ((lb_jtype)v.type) {
    case LB_JT_UNDEF:
        lb_jbuf_put_c(b, "Undefined");
        return LB_OK;
    case LB_JT_MISSING:
    case LB_JT_NONE:
        lb_jbuf_put_c(b, "None");
        return LB_OK;
    case LB_JT_BOOL:
        lb_jbuf_put_c(b, v.u.b ? "True" : "False");
        return LB_OK;
    case LB_JT_INT:
        put_int(b, v.u.i);
        return LB_OK;
    case LB_JT_BIG:
        lb_jbuf_put(b, lb_jv_text(v));
        return LB_OK;
    case LB_JT_FLOAT:
        lb_jv_put_float(b, v.u.f);
        return LB_OK;
    case LB_JT_STR:
        if (v.safe)
            lb_jbuf_put_c(b, "Markup(");
        put_quoted(b, lb_jv_text(v));
        if (v.safe)
            lb_jbuf_put_c(b, ")");
        return LB_OK;
    case LB_JT_LIST:
        return put_list(b, v.u.list, "[", "]");
    case LB_JT_TUPLE:
    case LB_JT_GROUP:
        return put_list(b, v.u.list, "(", ")");
    case LB_JT_DICT:
        return put_dict(b, v.u.dict);
    case LB_JT_VIEW:
        return put_view(b, v.u.view);
    case LB_JT_RANGE:
        return put_range(b, v.u.range);
    default:
        return put_other(b, v);
    }
}

lb_status lb_jv_put_repr(lb_jbuf *b, lb_jval v) {
    lb_status st;
    LB_TRY(lb_jx_steps(b->x, 1));
    LB_TRY(lb_jx_enter(b->x));
    st = b->over ? LB_OK : put_repr(b, v);
    b->x->depth--;
    return st;
}

lb_status lb_jv_put_str(lb_jbuf *b, lb_jval v) {
    if (v.type == LB_JT_STR) {
        lb_jbuf_put(b, lb_jv_text(v));
        return LB_OK;
    }
    if (v.type == LB_JT_UNDEF)
        return LB_OK;
    if (v.type == LB_JT_JOINER || v.type == LB_JT_CYCLER)
        return put_other(b, v);
    return lb_jv_put_repr(b, v);
}

lb_status lb_jv_to_str(lb_jx *x, lb_jval v, lb_jval *out) {
    lb_jbuf b = {.x = x};
    if (v.type == LB_JT_STR) {
        *out = v;
        out->safe = false;
        return LB_OK;
    }
    lb_status st = lb_jv_put_str(&b, v);
    if (st == LB_OK)
        return lb_jbuf_end(&b, out);
    lb_jbuf_drop(&b);
    return st;
}
