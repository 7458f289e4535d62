/* SPDX-License-Identifier: Apache-2.0 */
/* template.c: compiling and rendering; JSON -> values. */
#include "text/template.h"
#include "text/jinja_builtin.h"
#include "text/jinja_run.h"
#include "text/jinja_text.h"

struct lb_template {
    lb_arena arena; /* the text, its name, the tree */
    const char *what;
    lb_jtree tree;
};

/* Line ends become \n, and one at the very end goes. */
static lb_str normal_lines(lb_arena *perm, lb_str text) {
    char *p = lb_arena_push(perm, text.len + 1, 1);
    size_t n = 0;
    if (!p)
        return LB_STR_NONE;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\r' && i + 1 < text.len && text.ptr[i + 1] == '\n')
            continue;
        p[n++] = text.ptr[i] == '\r' ? '\n' : text.ptr[i];
    }
    n -= n && p[n - 1] == '\n';
    return (lb_str){p, n};
}

lb_status lb_template_new(lb_template **out, lb_str text, const char *what, lb_err *err) {
    lb_template *t = NULL;
    lb_str name;
    lb_status st;
    *out = NULL;
    if (text.len > LB_JINJA_TEXT_MAX)
        return lb_fail(err, LB_E_LIMIT, "%s: a template of %zu bytes; at most %llu are taken", what,
                       text.len, (unsigned long long)LB_JINJA_TEXT_MAX);
    if (!lb_str_is_utf8(text))
        return lb_fail(err, LB_E_FORMAT, "%s: the template is not UTF-8", what);
    t = lb_alloc_zero(1, sizeof *t);
    if (!t)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory for the template", what);
    name = lb_arena_str(&t->arena, lb_str_c(what));
    text = normal_lines(&t->arena, text);
    if (!name.ptr || !text.ptr) {
        st = lb_fail(err, LB_E_NOMEM, "%s: out of memory for the template", what);
        goto done;
    }
    t->what = name.ptr;
    LB_TRY_DONE(st, lb_jinja_parse(text, t->what, &t->arena, &t->tree, err));
    *out = t;
    t = NULL;
done:
    lb_template_free(&t);
    return st;
}

void lb_template_free(lb_template **t) {
    if (!*t)
        return;
    lb_arena_deinit(&(*t)->arena);
    lb_free(*t);
    *t = NULL;
}

/* ---- JSON -> values ---- */

static lb_status from_json(lb_jx *x, const lb_json *v, lb_jval *out);

static lb_status number_from_json(lb_jx *x, lb_str s, lb_jval *out) {
    bool whole = true;
    i64 i;
    for (size_t k = 0; k < s.len; k++)
        whole &= (s.ptr[k] >= '0' && s.ptr[k] <= '9') || (k == 0 && s.ptr[k] == '-');
    if (!whole) {
        double f;
        if (!lb_jstr_parse_float(s, &f))
            f = lb_jstr_to_f64(s);
        *out = lb_jv_float(f);
        return LB_OK;
    }
    if (lb_jstr_parse_int(s, 10, &i) == LB_JNUM_OK) {
        *out = lb_jv_int(i);
        return LB_OK;
    }
    LB_TRY(lb_jv_view(x, s, out));
    out->type = LB_JT_BIG;
    return LB_OK;
}

static lb_status list_from_json(lb_jx *x, const lb_json *v, lb_jval *out) {
    lb_jlist *l = lb_jlist_new(x, v->n);
    if (!l)
        return LB_E_LIMIT;
    for (const lb_json *c = v->first; c; c = c->next) {
        LB_TRY(from_json(x, c, &l->item[l->n]));
        l->n++;
    }
    *out = lb_jv_list(l);
    return LB_OK;
}

static lb_status fill_dict(lb_jx *x, const lb_json *v, lb_jdict *d) {
    for (const lb_json *c = v->first; c; c = c->next) {
        lb_jval key, value;
        LB_TRY(lb_jv_view(x, c->key, &key));
        LB_TRY(from_json(x, c, &value));
        LB_TRY(lb_jdict_set(x, d, key, value));
    }
    return LB_OK;
}

static lb_status from_json(lb_jx *x, const lb_json *v, lb_jval *out) {
    lb_jdict *d;
    switch (v->type) {
    case LB_JNULL:
        *out = lb_jv_none();
        return LB_OK;
    case LB_JBOOL:
        *out = lb_jv_bool(v->truth);
        return LB_OK;
    case LB_JSTRING:
        return lb_jv_view(x, v->text, out);
    case LB_JNUMBER:
        return number_from_json(x, v->text, out);
    default:
        break;
    }
    LB_TRY(lb_jx_enter(x));
    if (v->type == LB_JARRAY) {
        LB_TRY(list_from_json(x, v, out));
    } else {
        d = lb_jdict_new(x);
        if (!d)
            return LB_E_LIMIT;
        LB_TRY(fill_dict(x, v, d));
        *out = lb_jv_dict(d);
    }
    x->depth--;
    return LB_OK;
}

/* ---- rendering ---- */

static lb_status put_globals(lb_jx *x) {
    for (u32 i = 0; i < lb_jglobals.n; i++) {
        lb_jfunc *f = lb_jx_new(x, lb_jfunc, 1);
        if (!f)
            return LB_E_LIMIT;
        f->def = &lb_jglobals.def[i];
        LB_TRY(
            lb_jdict_set_c(x, x->vars, f->def->name, (lb_jval){.type = LB_JT_FUNC, .u.func = f}));
    }
    return LB_OK;
}

static lb_status render(lb_jx *x, const lb_json *vars) {
    lb_jact *act;
    x->vars = lb_jdict_new(x);
    x->exported = x->tree->blocks ? lb_jdict_new(x) : NULL;
    if (!x->vars || (x->tree->blocks && !x->exported))
        return LB_E_LIMIT;
    LB_TRY(put_globals(x));
    if (vars && vars->type == LB_JOBJECT)
        LB_TRY(fill_dict(x, vars, x->vars));
    LB_TRY(lb_jact_new(x, NULL, x->tree->root, &act));
    lb_jframe_enter(x, act, &x->tree->root->frame);
    return lb_jexec_list(x, act, x->tree->body);
}

lb_status lb_template_render(const lb_template *t, const lb_json *vars,
                             const lb_template_opts *opts, lb_buf *out, lb_err *err) {
    static const lb_template_opts none;
    const lb_template_opts *o = opts ? opts : &none;
    lb_template_limits l = o->limits;
    lb_jx x = {.what = t->what, .tree = &t->tree, .err = err, .line = 1};
    lb_status st;
    x.max_steps = l.steps ? l.steps : LB_TEMPLATE_STEPS;
    x.max_depth = l.depth ? l.depth : LB_TEMPLATE_DEPTH;
    x.max_output = l.output_bytes ? l.output_bytes : LB_TEMPLATE_OUTPUT;
    x.arena.max_bytes = l.memory_bytes ? l.memory_bytes : LB_TEMPLATE_MEMORY;
    x.max_string = LB_MIN(LB_TEMPLATE_OUTPUT, x.arena.max_bytes / 2);
    x.now_us = o->now_us ? *o->now_us : INT64_MIN;
    st = render(&x, vars);
    if (st == LB_OK) {
        lb_buf_put_str(out, lb_buf_str(&x.out));
        st = lb_buf_status(out, err);
    } else if (x.failed != LB_OK) {
        st = x.failed;
    }
    lb_buf_deinit(&x.out);
    lb_arena_deinit(&x.arena);
    return st;
}
