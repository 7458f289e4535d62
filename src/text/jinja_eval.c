/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_eval.c: expressions. */
#include "text/jinja_builtin.h"
#include "text/jinja_eval.h"
#include <stdio.h>

#define ARGS_SMALL 6

static lb_status eval_name(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    for (u32 i = 0; i < n->up; i++)
        act = act->parent;
    *out = act->slot[n->slot];
    if (out->type != LB_JT_MISSING)
        return LB_OK;
    lb_jval name;
    LB_TRY(lb_jv_view(x, n->name, &name));
    return lb_jv_undef(x, (lb_jval){0}, name, out);
}

static lb_status eval_list(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    u32 count = 0;
    for (const lb_jnode *k = n->a; k; k = k->next)
        count++;
    lb_jlist *l = lb_jlist_new(x, count);
    if (!l)
        return LB_E_LIMIT;
    for (const lb_jnode *k = n->a; k; k = k->next) {
        LB_TRY(lb_jeval(x, act, k, &l->item[l->n]));
        l->n++;
    }
    *out = n->kind == LB_JN_LIST ? lb_jv_list(l) : lb_jv_tuple(l);
    return LB_OK;
}

static lb_status eval_dict(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    lb_jdict *d = lb_jdict_new(x);
    if (!d)
        return LB_E_LIMIT;
    for (const lb_jnode *k = n->a; k; k = k->next->next) {
        lb_jval key, value;
        LB_TRY(lb_jeval(x, act, k, &key));
        LB_TRY(lb_jeval(x, act, k->next, &value));
        LB_TRY(lb_jdict_set(x, d, key, value));
    }
    *out = lb_jv_dict(d);
    return LB_OK;
}

static lb_status eval_item(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    lb_jval obj, key, part[3] = {{0}, {0}, {0}};
    LB_TRY(lb_jeval(x, act, n->a, &obj));
    if (n->b->kind != LB_JN_SLICE) {
        LB_TRY(lb_jeval(x, act, n->b, &key));
        return lb_jitem(x, obj, key, out);
    }
    const lb_jnode *of[3] = {n->b->a, n->b->b, n->b->c};
    for (u32 i = 0; i < 3; i++)
        if (of[i])
            LB_TRY(lb_jeval(x, act, of[i], &part[i]));
    return lb_jslice(x, obj, part, out);
}

static lb_status eval_compare(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    lb_jval left, right;
    bool yes = true;
    LB_TRY(lb_jeval(x, act, n->a, &left));
    for (const lb_jnode *k = n->b; k && yes; k = k->next) {
        LB_TRY(lb_jeval(x, act, k->a, &right));
        LB_TRY(lb_jop_compare(x, k->op, left, right, &yes));
        left = right;
    }
    *out = lb_jv_bool(yes);
    return LB_OK;
}

static lb_status eval_concat(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    lb_jval v;
    LB_TRY(lb_jeval(x, act, n->a, &v));
    LB_TRY(lb_jv_to_str(x, v, out));
    for (const lb_jnode *k = n->a->next; k; k = k->next) {
        LB_TRY(lb_jeval(x, act, k, &v));
        LB_TRY(lb_jv_to_str(x, v, &v));
        LB_TRY(lb_jv_concat(x, *out, lb_jv_text(v), out));
    }
    return LB_OK;
}

static lb_status eval_cond(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    lb_jval test;
    char hint[128];
    LB_TRY(lb_jeval(x, act, n->a, &test));
    if (lb_jv_true(test))
        return lb_jeval(x, act, n->b, out);
    if (n->c)
        return lb_jeval(x, act, n->c, out);
    (void)snprintf(hint, sizeof hint,
                   "the inline if-expression on line %u evaluated to false and no else section was "
                   "defined.",
                   n->line);
    return lb_jv_undef_hint(x, hint, out);
}

/* ---- arguments ---- */

typedef struct args {
    lb_jargs a;
    lb_jval small[ARGS_SMALL];
} args;

static lb_status add_keyword(lb_jx *x, lb_jargs *a, lb_jval key, lb_jval value) {
    if (!a->kw)
        a->kw = lb_jdict_new(x);
    if (!a->kw)
        return LB_E_LIMIT;
    if (lb_jdict_find(x, a->kw, key))
        return lb_jx_error(x, "got multiple values for keyword argument '%.*s'",
                           LB_FMT(lb_jv_text(key)));
    return lb_jdict_set(x, a->kw, key, value);
}

static lb_status add_star(lb_jx *x, lb_jact *act, const lb_jnode *n, args *out, lb_jval *pos) {
    lb_jval v;
    lb_jlist *more;
    LB_TRY(lb_jeval(x, act, n, &v));
    LB_TRY(lb_jv_to_list(x, v, &more));
    lb_jval *all = lb_jx_new(x, lb_jval, (u64)out->a.n + more->n + 1);
    if (!all)
        return LB_E_LIMIT;
    memcpy(all, pos, out->a.n * sizeof *all);
    if (more->n)
        memcpy(all + out->a.n, more->item, more->n * sizeof *all);
    out->a.n += more->n;
    out->a.pos = all;
    return LB_OK;
}

static lb_status add_star_star(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jargs *a) {
    lb_jval v;
    LB_TRY(lb_jeval(x, act, n, &v));
    if (v.type != LB_JT_DICT)
        return lb_jx_error(x, "argument after ** must be a mapping, not %s", lb_jv_type_name(v));
    for (u32 i = 0; i < v.u.dict->n; i++) {
        if (v.u.dict->pair[i].key.type != LB_JT_STR)
            return lb_jx_error(x, "keywords must be strings");
        LB_TRY(add_keyword(x, a, v.u.dict->pair[i].key, v.u.dict->pair[i].value));
    }
    return LB_OK;
}

/* Of a CALL, FILTER or TEST; they stay in *out, which must not move. */
static lb_status eval_args(lb_jx *x, lb_jact *act, const lb_jnode *n, args *out) {
    u32 count = 0;
    out->a = (lb_jargs){0};
    for (const lb_jnode *k = n->b; k; k = k->next)
        count += k->kind != LB_JN_KEYWORD;
    lb_jval *pos = count > ARGS_SMALL ? lb_jx_new(x, lb_jval, count) : out->small;
    if (!pos)
        return LB_E_LIMIT;
    out->a.pos = pos;
    for (const lb_jnode *k = n->b; k; k = k->next) {
        lb_jval key, value;
        if (k->kind != LB_JN_KEYWORD) {
            LB_TRY(lb_jeval(x, act, k, &pos[out->a.n]));
            out->a.n++;
            continue;
        }
        LB_TRY(lb_jeval(x, act, k->a, &value));
        LB_TRY(lb_jv_view(x, k->name, &key));
        LB_TRY(add_keyword(x, &out->a, key, value));
    }
    if (n->c)
        LB_TRY(add_star(x, act, n->c, out, pos));
    return n->d ? add_star_star(x, act, n->d, &out->a) : LB_OK;
}

/* obj.name(...): a method is called without being made a value first. */
static lb_status eval_callee(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *f,
                             const lb_jdef **def, lb_jval *self) {
    bool unsafe = false;
    *def = NULL;
    if (n->kind != LB_JN_ATTR)
        return lb_jeval(x, act, n, f);
    LB_TRY(lb_jeval(x, act, n->a, self));
    x->line = n->line;
    if (self->type == LB_JT_STR || self->type == LB_JT_DICT || lb_jv_is_list(*self)) {
        *def = lb_jmethod_find(*self, lb_jv_text(n->value), &unsafe);
        if (*def && !unsafe)
            return LB_OK;
        *def = NULL;
    }
    return lb_jattr(x, *self, n->value, f);
}

lb_status lb_jeval_call(lb_jx *x, lb_jact *act, const lb_jnode *n, const lb_jval *caller,
                        lb_jval *out) {
    args a;
    const lb_jdef *def;
    lb_jval f = {0}, self = {0}, key;
    LB_TRY(eval_callee(x, act, n->a, &f, &def, &self));
    LB_TRY(eval_args(x, act, n, &a));
    if (caller) {
        LB_TRY(lb_jv_view(x, LB_STR("caller"), &key));
        LB_TRY(add_keyword(x, &a.a, key, *caller));
    }
    x->line = n->line;
    return def ? lb_jcall_def(x, def, self, &a.a, out) : lb_jcall(x, f, &a.a, out);
}

static lb_status unknown(lb_jx *x, const lb_jnode *n) {
    return lb_jx_error(x, "No %s named '%.*s' found.", n->kind == LB_JN_FILTER ? "filter" : "test",
                       LB_FMT(n->name));
}

static lb_status call_filter(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval value,
                             lb_jval *out) {
    args a;
    LB_TRY(eval_args(x, act, n, &a));
    x->line = n->line;
    return n->def ? lb_jcall_def(x, n->def, value, &a.a, out) : unknown(x, n);
}

lb_status lb_jeval_filters(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval text, lb_jval *out) {
    lb_jval value = text;
    if (n->a && n->a->kind == LB_JN_FILTER) {
        LB_TRY(lb_jx_enter(x));
        LB_TRY(lb_jeval_filters(x, act, n->a, text, &value));
        x->depth--;
    }
    return call_filter(x, act, n, value, out);
}

static lb_status eval_filter(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    lb_jval value;
    LB_TRY(lb_jeval(x, act, n->a, &value));
    return call_filter(x, act, n, value, out);
}

/* The tests that templates use most, without a call. */
static bool eval_simple_test(const lb_jnode *n, lb_jval v, lb_jval *out) {
    const char *name = n->def ? n->def->name : "";
    if (n->b || n->c || n->d)
        return false;
    if (strcmp(name, "defined") == 0)
        *out = lb_jv_bool(v.type != LB_JT_UNDEF);
    else if (strcmp(name, "none") == 0)
        *out = lb_jv_bool(v.type == LB_JT_NONE);
    else if (strcmp(name, "string") == 0)
        *out = lb_jv_bool(v.type == LB_JT_STR);
    else
        return false;
    return true;
}

static lb_status eval_test(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    lb_jval value;
    LB_TRY(lb_jeval(x, act, n->a, &value));
    return eval_simple_test(n, value, out) ? LB_OK : call_filter(x, act, n, value, out);
}

static lb_status eval_logic(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    LB_TRY(lb_jeval(x, act, n->a, out));
    if (n->kind == LB_JN_NOT) {
        *out = lb_jv_bool(!lb_jv_true(*out));
        return LB_OK;
    }
    return lb_jv_true(*out) == (n->kind == LB_JN_AND) ? lb_jeval(x, act, n->b, out) : LB_OK;
}

static lb_status eval_operator(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    lb_jval a, b;
    LB_TRY(lb_jeval(x, act, n->a, &a));
    if (n->kind == LB_JN_NEG || n->kind == LB_JN_POS)
        return lb_jop_unary(x, n->kind == LB_JN_NEG, a, out);
    LB_TRY(lb_jeval(x, act, n->b, &b));
    x->line = n->line;
    return lb_jop_binary(x, n->op, a, b, out);
}

static lb_status eval_attr(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    lb_jval obj;
    LB_TRY(lb_jeval(x, act, n->a, &obj));
    x->line = n->line;
    return lb_jattr(x, obj, n->value, out);
}

static lb_status eval(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    switch ((lb_jkind)n->kind) {
    case LB_JN_CONST:
        *out = n->value;
        return LB_OK;
    case LB_JN_NAME:
        return eval_name(x, act, n, out);
    case LB_JN_TUPLE:
    case LB_JN_LIST:
        return eval_list(x, act, n, out);
    case LB_JN_DICT:
        return eval_dict(x, act, n, out);
    case LB_JN_ATTR:
        return eval_attr(x, act, n, out);
    case LB_JN_ITEM:
        return eval_item(x, act, n, out);
    case LB_JN_CALL:
        return lb_jeval_call(x, act, n, NULL, out);
    case LB_JN_FILTER:
        return eval_filter(x, act, n, out);
    case LB_JN_TEST:
        return eval_test(x, act, n, out);
    case LB_JN_BINARY:
    case LB_JN_NEG:
    case LB_JN_POS:
        return eval_operator(x, act, n, out);
    case LB_JN_AND:
    case LB_JN_OR:
    case LB_JN_NOT:
        return eval_logic(x, act, n, out);
    case LB_JN_CONCAT:
        return eval_concat(x, act, n, out);
    case LB_JN_COMPARE:
        return eval_compare(x, act, n, out);
    case LB_JN_COND:
        return eval_cond(x, act, n, out);
    default:
        return lb_jx_error(x, "a name is expected");
    }
}

lb_status lb_jeval(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    x->line = n->line;
    LB_TRY(lb_jx_steps(x, 1));
    LB_TRY(lb_jx_enter(x));
    LB_TRY(eval(x, act, n, out));
    x->depth--;
    return LB_OK;
}
