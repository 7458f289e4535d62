/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_call.c: calls: binding of arguments, macros, and filters and tests by name. */
#include "text/jinja_builtin.h"
#include "text/jinja_run.h"
#include <stdio.h>

/* The place of a name in a signature ("width first blank"); n: there is none. */
static u32 sig_place(const char *sig, lb_str name, u32 *n) {
    u32 at = UINT32_MAX, i = 0;
    for (const char *p = sig; *p; i++) {
        size_t len = strcspn(p, " ");
        if (name.ptr && len == name.len && memcmp(p, name.ptr, len) == 0)
            at = i;
        p += len + (p[len] == ' ');
    }
    *n = i;
    return at;
}

static lb_status bind(lb_jx *x, const lb_jdef *def, const lb_jargs *args, lb_jval *a) {
    u32 n;
    (void)sig_place(def->sig, LB_STR_NONE, &n);
    if (args->n > n)
        return lb_jx_error(x, "%s() takes at most %u argument%s (%u given)", def->name, n,
                           n == 1 ? "" : "s", args->n);
    for (u32 i = 0; i < args->n; i++)
        a[i] = args->pos[i];
    for (u32 i = 0; args->kw && i < args->kw->n; i++) {
        const lb_jpair *p = &args->kw->pair[i];
        u32 at = sig_place(def->sig, lb_jv_text(p->key), &n);
        if (def->pos_only)
            return lb_jx_error(x, "%s() takes no keyword arguments", def->name);
        if (at == UINT32_MAX)
            return lb_jx_error(x, "%s() got an unexpected keyword argument '%.*s'", def->name,
                               LB_FMT(lb_jv_text(p->key)));
        if (a[at].type != LB_JT_MISSING)
            return lb_jx_error(x, "%s() got multiple values for argument '%.*s'", def->name,
                               LB_FMT(lb_jv_text(p->key)));
        a[at] = p->value;
    }
    for (u32 i = 0; i < def->n_required; i++)
        if (a[i].type == LB_JT_MISSING)
            return lb_jx_error(x, "%s() misses a required argument", def->name);
    return LB_OK;
}

lb_status lb_jcall_def(lb_jx *x, const lb_jdef *def, lb_jval self, const lb_jargs *args,
                       lb_jval *out) {
    lb_jval a[LB_JDEF_ARGS] = {{0}};
    if (def->raw)
        return def->raw(x, self, args, out);
    if (!def->fn)
        return lb_jx_fail(x, LB_E_UNSUPPORTED, "'%s' is not supported in chat templates",
                          def->name);
    LB_TRY(bind(x, def, args, a));
    return def->fn(x, self, a, out);
}

/* ---- macros ---- */

static lb_status take_keyword(lb_jx *x, lb_jdict *kw, lb_str name, bool *used, lb_jval *out) {
    *out = (lb_jval){0};
    for (u32 i = 0; kw && i < kw->n; i++)
        if (!used[i] && lb_str_eq(lb_jv_text(kw->pair[i].key), name)) {
            used[i] = true;
            *out = kw->pair[i].value;
        }
    return lb_jx_steps(x, 1);
}

static lb_status bind_rest(lb_jx *x, const lb_jmacro *m, const lb_jargs *args, const bool *used,
                           lb_jact *act) {
    const lb_jcode *c = m->node->code;
    lb_jdict *rest = lb_jdict_new(x);
    lb_str name = m->node->kind == LB_JN_MACRO ? m->node->name : LB_STR("caller");
    if (!rest)
        return LB_E_LIMIT;
    for (u32 i = 0; args->kw && i < args->kw->n; i++)
        if (!used[i])
            LB_TRY(lb_jdict_set(x, rest, args->kw->pair[i].key, args->kw->pair[i].value));
    if (c->kwargs != LB_JSLOT_NONE)
        act->slot[c->kwargs] = lb_jv_dict(rest);
    else if (rest->n)
        return lb_jx_error(x, "macro '%.*s' takes no keyword argument '%.*s'", LB_FMT(name),
                           LB_FMT(lb_jv_text(rest->pair[0].key)));
    if (c->varargs != LB_JSLOT_NONE) {
        u32 n = args->n > c->n_params ? args->n - c->n_params : 0;
        lb_jlist *l = lb_jlist_new(x, n);
        if (!l)
            return LB_E_LIMIT;
        if (n)
            memcpy(l->item, args->pos + c->n_params, n * sizeof *l->item);
        l->n = n;
        act->slot[c->varargs] = lb_jv_tuple(l);
    } else if (args->n > c->n_params) {
        return lb_jx_error(x, "macro '%.*s' takes not more than %u argument(s)", LB_FMT(name),
                           c->n_params);
    }
    return LB_OK;
}

/* As jinja2's Macro.__call__. */
static lb_status bind_macro(lb_jx *x, const lb_jmacro *m, const lb_jargs *args, lb_jact *act) {
    const lb_jcode *c = m->node->code;
    bool small[8] = {false}, *used = small, found_caller = c->explicit_caller;
    u32 n_kw = args->kw ? args->kw->n : 0, i = 0;
    if (n_kw > LB_LEN(small)) {
        used = lb_jx_new(x, bool, n_kw);
        if (!used)
            return LB_E_LIMIT;
    }
    if (args->n < c->n_params)
        found_caller = false;
    for (const lb_jnode *k = m->node->a; k; k = k->next, i++) {
        lb_jval *slot = &act->slot[c->param[i]];
        if (i < args->n) {
            *slot = args->pos[i];
            continue;
        }
        LB_TRY(take_keyword(x, args->kw, k->name, used, slot));
        found_caller |= lb_str_eq_c(k->name, "caller");
    }
    if (c->caller != LB_JSLOT_NONE && !found_caller) {
        lb_jval *slot = &act->slot[c->caller];
        LB_TRY(take_keyword(x, args->kw, LB_STR("caller"), used, slot));
        if (!lb_jarg_given(*slot))
            LB_TRY(lb_jv_undef_hint(x, "No caller defined", slot));
    }
    return bind_rest(x, m, args, used, act);
}

static lb_status defaults(lb_jx *x, const lb_jmacro *m, lb_jact *act) {
    const lb_jcode *c = m->node->code;
    const lb_jnode *value = m->node->b;
    u32 n_defaults = 0, i = 0;
    for (const lb_jnode *k = value; k; k = k->next)
        n_defaults++;
    for (const lb_jnode *k = m->node->a; k; k = k->next, i++) {
        bool has = i >= c->n_params - n_defaults;
        lb_jval *slot = &act->slot[c->param[i]];
        char hint[128];
        if (slot->type == LB_JT_MISSING && has) {
            lb_jval v;
            LB_TRY(lb_jeval(x, act, value, &v));
            *slot = v;
        } else if (slot->type == LB_JT_MISSING) {
            (void)snprintf(hint, sizeof hint, "parameter '%.*s' was not provided",
                           (int)LB_MIN(k->name.len, 80), k->name.ptr);
            LB_TRY(lb_jv_undef_hint(x, hint, slot));
        }
        if (has)
            value = value->next;
    }
    return LB_OK;
}

lb_status lb_jcall_macro(lb_jx *x, const lb_jmacro *m, const lb_jargs *args, lb_jval *out) {
    const lb_jcode *c = m->node->code;
    size_t mark = x->out.len;
    lb_jact *act;
    LB_TRY(lb_jx_enter(x));
    LB_TRY(lb_jact_new(x, m->outer, c, &act));
    LB_TRY(bind_macro(x, m, args, act));
    lb_jframe_enter(x, act, &c->frame);
    LB_TRY(defaults(x, m, act));
    LB_TRY(lb_jexec_list(x, act, m->node->c));
    LB_TRY(lb_jx_captured(x, mark, out));
    lb_jact_done(x, c, act);
    x->depth--;
    return LB_OK;
}

/* ---- any callable ---- */

static lb_status call_loop(lb_jx *x, const lb_jloop *l, const lb_jargs *args, lb_jval *out) {
    size_t mark = x->out.len;
    if (args->n != 1 || (args->kw && args->kw->n))
        return lb_jx_error(x, "loop() takes one iterable");
    if (!l->node)
        return lb_jx_error(x,
                           "The loop must have the 'recursive' marker to be called recursively.");
    LB_TRY(lb_jexec_recursive(x, l->outer, l->node, args->pos[0], l->depth0 + 1));
    return lb_jx_captured(x, mark, out);
}

lb_status lb_jcall(lb_jx *x, lb_jval f, const lb_jargs *args, lb_jval *out) {
    switch ((lb_jtype)f.type) {
    case LB_JT_UNDEF:
        return lb_jx_undefined(x, f);
    case LB_JT_FUNC:
        return lb_jcall_def(x, f.u.func->def, f.u.func->self, args, out);
    case LB_JT_MACRO:
        return lb_jcall_macro(x, f.u.macro, args, out);
    case LB_JT_LOOP:
        return call_loop(x, f.u.loop, args, out);
    case LB_JT_JOINER:
        if (args->n || (args->kw && args->kw->n))
            return lb_jx_error(x, "a joiner takes no arguments");
        if (f.u.joiner->used) {
            *out = f.u.joiner->sep;
            return LB_OK;
        }
        f.u.joiner->used = true;
        return lb_jv_view(x, LB_STR(""), out);
    default:
        return lb_jx_error(x, "'%s' object is not callable", lb_jv_type_name(f));
    }
}

static lb_status no_such(lb_jx *x, const char *what, lb_jval name) {
    lb_jval text;
    LB_TRY(lb_jv_to_str(x, name, &text));
    return lb_jx_error(x, "No %s named '%.*s'.", what, LB_FMT(lb_jv_text(text)));
}

lb_status lb_jcall_filter(lb_jx *x, lb_jval name, lb_jval value, const lb_jargs *args,
                          lb_jval *out) {
    const lb_jdef *def = name.type == LB_JT_STR ? lb_jfilter_find(lb_jv_text(name)) : NULL;
    return def ? lb_jcall_def(x, def, value, args, out) : no_such(x, "filter", name);
}

lb_status lb_jcall_test(lb_jx *x, lb_jval name, lb_jval value, const lb_jargs *args, bool *out) {
    const lb_jdef *def = name.type == LB_JT_STR ? lb_jtest_find(lb_jv_text(name)) : NULL;
    lb_jval v;
    if (!def)
        return no_such(x, "test", name);
    LB_TRY(lb_jcall_def(x, def, value, args, &v));
    *out = lb_jv_true(v);
    return LB_OK;
}
