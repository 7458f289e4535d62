/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_exec.c: statements, and the state of a render. */
#include "text/jinja_builtin.h"
#include "text/jinja_eval.h"
#include "text/jinja_iter.h"
#include "text/jinja_text.h"
#include <stdio.h>

/* ---- limits and errors ---- */

lb_status lb_jx_fail(lb_jx *x, lb_status code, const char *fmt, ...) {
    char text[768];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *p = text; *p; p++) /* one line, and nothing that steers a terminal */
        if ((u8)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    x->failed = code;
    return lb_fail(x->err, code, "%s: line %u: %s", x->what, x->line, text);
}

lb_status lb_jx_no_memory(lb_jx *x) {
    if (x->arena.size_bytes >= x->arena.max_bytes / 2)
        return lb_jx_fail(x, LB_E_LIMIT, "the template takes more than %llu MiB of memory",
                          (unsigned long long)(x->arena.max_bytes / LB_MIB));
    return lb_jx_fail(x, LB_E_NOMEM, "out of memory");
}

void *lb_jx_alloc(lb_jx *x, u64 count, size_t size_bytes) {
    u64 bytes;
    bool fits = lb_mul_u64(count, size_bytes, &bytes) && bytes <= x->arena.max_bytes;
    void *p = fits ? lb_arena_push(&x->arena, (size_t)bytes, sizeof(void *)) : NULL;
    if (p)
        return p;
    if (!fits || x->arena.size_bytes + bytes > x->arena.max_bytes)
        (void)lb_jx_fail(x, LB_E_LIMIT, "the template takes more than %llu MiB of memory",
                         (unsigned long long)(x->arena.max_bytes / LB_MIB));
    else
        (void)lb_jx_no_memory(x);
    return NULL;
}

lb_status lb_jx_steps(lb_jx *x, u64 n) {
    x->steps += n + 1;
    if (x->steps > x->max_steps)
        return lb_jx_fail(x, LB_E_LIMIT, "the template takes more than %llu steps",
                          (unsigned long long)x->max_steps);
    return LB_OK;
}

lb_status lb_jx_enter(lb_jx *x) {
    if (x->depth == x->max_depth)
        return lb_jx_fail(x, LB_E_LIMIT, "the template calls and nests more than %u deep",
                          x->max_depth);
    x->depth++;
    return LB_OK;
}

static void object_text(lb_jval obj, char *out, size_t size) {
    if (obj.type == LB_JT_NONE)
        (void)snprintf(out, size, "None");
    else
        (void)snprintf(out, size, "%s object", lb_jv_type_name(obj));
}

void lb_jundef_text(lb_jx *x, const lb_jundef *u, char *out, size_t size) {
    char object[64];
    lb_jbuf b = {.x = x};
    if (u->hint.ptr) {
        (void)snprintf(out, size, "%.*s", LB_FMT(u->hint));
        return;
    }
    if (lb_jv_put_repr(&b, u->name) != LB_OK)
        lb_buf_reset(&b.b);
    lb_str name = lb_str_sub(lb_buf_str(&b.b), 0, 200);
    object_text(u->obj, object, sizeof object);
    if (u->unsafe)
        (void)snprintf(out, size, "access to attribute %.*s of '%s' object is unsafe.",
                       LB_FMT(name), lb_jv_type_name(u->obj));
    else if (u->obj.type == LB_JT_MISSING)
        (void)snprintf(out, size, "%.*s is undefined", LB_FMT(name));
    else if (u->name.type != LB_JT_STR)
        (void)snprintf(out, size, "%s has no element %.*s", object, LB_FMT(name));
    else
        (void)snprintf(out, size, "'%s' has no attribute %.*s", object, LB_FMT(name));
    lb_jbuf_drop(&b);
}

lb_status lb_jx_undefined(lb_jx *x, lb_jval undef) {
    char text[512];
    lb_jundef_text(x, undef.u.undef, text, sizeof text);
    return lb_jx_error(x, "%s", text);
}

/* ---- output ---- */

lb_status lb_jx_write(lb_jx *x, lb_str s) {
    if (s.len > x->max_output - x->out.len)
        return lb_jx_fail(x, LB_E_LIMIT, "the template writes more than %llu bytes",
                          (unsigned long long)x->max_output);
    LB_TRY(lb_jx_steps(x, s.len / 64));
    lb_buf_put_str(&x->out, s);
    return x->out.oom ? lb_jx_fail(x, LB_E_NOMEM, "out of memory") : LB_OK;
}

lb_status lb_jx_captured(lb_jx *x, size_t mark, lb_jval *out) {
    lb_status st = lb_jv_str(x, lb_str_sub(lb_buf_str(&x->out), mark, x->out.len), out);
    x->out.len = mark;
    return st;
}

static lb_status write_value(lb_jx *x, lb_jval v) {
    LB_TRY(lb_jv_to_str(x, v, &v));
    return lb_jx_write(x, lb_jv_text(v));
}

/* What jinja2 writes without str(): the results of call and filter blocks. */
static lb_status write_str(lb_jx *x, lb_jval v) {
    if (v.type != LB_JT_STR)
        return lb_jx_error(x, "a block gives a %s where text is expected", lb_jv_type_name(v));
    return lb_jx_write(x, lb_jv_text(v));
}

/* ---- names ---- */

void lb_jframe_enter(lb_jx *x, lb_jact *act, const lb_jframe *f) {
    for (u32 i = 0; i < f->n; i++) {
        const lb_jload *l = &f->load[i];
        const lb_jval *v = NULL;
        const lb_jact *from = act;
        if (l->kind == LB_JLOAD_ALIAS) {
            for (u32 k = 0; k < l->up; k++)
                from = from->parent;
            v = &from->slot[l->from];
        } else if (l->kind == LB_JLOAD_RESOLVE) {
            v = x->exported ? lb_jdict_find_str(x->exported, l->name) : NULL;
            v = v ? v : lb_jdict_find_str(x->vars, l->name);
        }
        act->slot[l->slot] = v ? *v : (lb_jval){0};
    }
}

lb_status lb_jact_new(lb_jx *x, lb_jact *parent, const lb_jcode *code, lb_jact **out) {
    lb_jact *a = x->free;
    if (a && a->n_slots >= code->n_slots) {
        x->free = a->free;
        memset(a->slot, 0, a->n_slots * sizeof *a->slot);
    } else {
        a = lb_jx_alloc(x, 1, sizeof *a + code->n_slots * sizeof *a->slot);
        if (!a)
            return LB_E_LIMIT;
        a->n_slots = code->n_slots;
    }
    a->parent = parent;
    *out = a;
    return LB_OK;
}

void lb_jact_done(lb_jx *x, const lb_jcode *code, lb_jact *a) {
    if (code->holds)
        return;
    a->free = x->free;
    x->free = a;
}

static lb_status assign_attr(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval v) {
    lb_jval key, ns;
    for (u32 i = 0; i < n->up; i++)
        act = act->parent;
    ns = act->slot[n->slot];
    if (ns.type != LB_JT_NS)
        return lb_jx_error(x, "cannot assign attribute on non-namespace object");
    if (n->text.len && n->text.ptr[0] == '_')
        return lb_jx_error(x,
                           "Chat templates cannot store underscore-prefixed attributes on a "
                           "namespace, but got '%.*s'. Please rename the attribute.",
                           LB_FMT(n->text));
    LB_TRY(lb_jv_view(x, n->text, &key));
    return lb_jdict_set(x, ns.u.dict, key, v);
}

static lb_status unpack(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval v) {
    lb_jlist *l;
    u32 want = 0;
    for (const lb_jnode *k = n->a; k; k = k->next)
        want++;
    if (!lb_jv_is_iterable(v))
        return lb_jx_error(x, "cannot unpack non-iterable %s object", lb_jv_type_name(v));
    LB_TRY(lb_jv_to_list(x, v, &l));
    if (l->n < want)
        return lb_jx_error(x, "not enough values to unpack (expected %u, got %u)", want, l->n);
    if (l->n > want)
        return lb_jx_error(x, "too many values to unpack (expected %u)", want);
    want = 0;
    for (const lb_jnode *k = n->a; k; k = k->next)
        LB_TRY(lb_jassign(x, act, k, l->item[want++]));
    return LB_OK;
}

lb_status lb_jassign(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval v) {
    if (n->kind == LB_JN_TUPLE)
        return unpack(x, act, n, v);
    if (n->kind == LB_JN_NSREF)
        return assign_attr(x, act, n, v);
    for (u32 i = 0; i < n->up; i++)
        act = act->parent;
    act->slot[n->slot] = v;
    return LB_OK;
}

/* Blocks see what the top level sets. */
static lb_status export(lb_jx *x, const lb_jact *act, const lb_jnode *n) {
    lb_jval key;
    for (const lb_jnode *k = n->a; n->kind == LB_JN_TUPLE && k; k = k->next)
        LB_TRY(export(x, act, k));
    if (n->kind != LB_JN_NAME)
        return LB_OK;
    LB_TRY(lb_jv_view(x, n->name, &key));
    return lb_jdict_set(x, x->exported, key, act->slot[n->slot]);
}

/* Whether a target names attributes of what is no namespace: seen before the value is made. */
static lb_status check_refs(lb_jx *x, const lb_jact *act, const lb_jnode *n) {
    if (n->kind == LB_JN_NSREF) {
        for (u32 i = 0; i < n->up; i++)
            act = act->parent;
        if (act->slot[n->slot].type != LB_JT_NS)
            return lb_jx_error(x, "cannot assign attribute on non-namespace object");
    }
    for (const lb_jnode *k = n->kind == LB_JN_TUPLE ? n->a : NULL; k; k = k->next)
        LB_TRY(check_refs(x, act, k));
    return LB_OK;
}

/* ---- statements ---- */

static lb_status exec_set(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    lb_jval v;
    LB_TRY(check_refs(x, act, n->a));
    LB_TRY(lb_jeval(x, act, n->b, &v));
    LB_TRY(lb_jassign(x, act, n->a, v));
    return n->flag ? export(x, act, n->a) : LB_OK;
}

/* The text of a body; *left: it was left by break or continue, and there is none. */
static lb_status capture(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out, bool *left) {
    size_t mark = x->out.len;
    lb_jframe_enter(x, act, &n->frame);
    LB_TRY(lb_jexec_list(x, act, n->c));
    *left = x->ctl != LB_JCTL_NONE;
    if (*left)
        x->out.len = mark;
    else
        LB_TRY(lb_jx_captured(x, mark, out));
    if (*left || !n->b)
        return LB_OK;
    return lb_jeval_filters(x, act, n->b, *out, out);
}

static lb_status exec_set_block(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    lb_jval v = {0};
    bool left;
    LB_TRY(capture(x, act, n, &v, &left));
    if (left)
        return LB_OK;
    LB_TRY(lb_jassign(x, act, n->a, v));
    return n->flag ? export(x, act, n->a) : LB_OK;
}

static lb_status exec_filter_block(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    lb_jval v = {0};
    bool left;
    LB_TRY(capture(x, act, n, &v, &left));
    return left ? LB_OK : write_str(x, v);
}

static lb_status exec_if(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    lb_jval v;
    LB_TRY(lb_jeval(x, act, n->a, &v));
    if (lb_jv_true(v))
        return lb_jexec_list(x, act, n->b);
    for (const lb_jnode *k = n->c; k; k = k->next) {
        LB_TRY(lb_jeval(x, act, k->a, &v));
        if (lb_jv_true(v))
            return lb_jexec_list(x, act, k->b);
    }
    return lb_jexec_list(x, act, n->d);
}

static lb_status begin_loop(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval iterable,
                            lb_jloop **out) {
    lb_jloop *l = lb_jx_new(x, lb_jloop, 1);
    lb_jiter *it;
    if (!l)
        return LB_E_LIMIT;
    LB_TRY(lb_jiter_new(x, iterable, &it));
    if (n->e) {
        lb_jiter *tested = lb_jx_new(x, lb_jiter, 1);
        if (!tested)
            return LB_E_LIMIT;
        *tested = (lb_jiter){.is_gen = true, .inner = it, .node = n, .act = act};
        it = tested;
        iterable = (lb_jval){.type = LB_JT_ITER, .u.iter = it};
    }
    *l = (lb_jloop){.iterable = iterable, .it = it, .index0 = -1, .length = -1};
    *out = l;
    return LB_OK;
}

static lb_status run_loop(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jloop *l) {
    bool more = true, whole = false;
    for (;;) {
        lb_jval v;
        LB_TRY(lb_jloop_next(x, l, &v, &more));
        if (!more)
            break;
        LB_TRY(lb_jassign(x, act, n->a, v));
        if (n->slot != LB_JSLOT_NONE)
            act->slot[n->slot] = (lb_jval){.type = LB_JT_LOOP, .u.loop = l};
        lb_jframe_enter(x, act, &n->frame);
        LB_TRY(lb_jexec_list(x, act, n->c));
        u8 ctl = x->ctl;
        x->ctl = LB_JCTL_NONE;
        if (ctl == LB_JCTL_BREAK)
            break;
        whole |= ctl == LB_JCTL_NONE;
    }
    if (whole || !n->d) /* as jinja2: a loop that only broke or continued counts as empty */
        return LB_OK;
    lb_jframe_enter(x, act, &n->frame_else);
    return lb_jexec_list(x, act, n->d);
}

lb_status lb_jexec_recursive(lb_jx *x, lb_jact *outer, const lb_jnode *n, lb_jval iterable,
                             i64 depth0) {
    lb_jact *act;
    lb_jloop *l;
    LB_TRY(lb_jx_enter(x));
    LB_TRY(lb_jact_new(x, outer, n->code, &act));
    LB_TRY(begin_loop(x, act, n, iterable, &l));
    l->node = n;
    l->outer = outer;
    l->depth0 = depth0;
    LB_TRY(run_loop(x, act, n, l));
    x->depth--;
    return LB_OK;
}

static lb_status exec_for(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    lb_jval iterable;
    lb_jloop *l;
    LB_TRY(lb_jeval(x, act, n->b, &iterable));
    x->line = n->line;
    if (n->flag)
        return lb_jexec_recursive(x, act, n, iterable, 0);
    LB_TRY(begin_loop(x, act, n, iterable, &l));
    return run_loop(x, act, n, l);
}

static lb_status new_macro(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out) {
    lb_jmacro *m = lb_jx_new(x, lb_jmacro, 1);
    if (!m)
        return LB_E_LIMIT;
    *m = (lb_jmacro){n, act};
    *out = (lb_jval){.type = LB_JT_MACRO, .u.macro = m};
    return LB_OK;
}

static lb_status exec_macro(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    lb_jnode name = {.kind = LB_JN_NAME, .name = n->name, .slot = n->slot};
    LB_TRY(new_macro(x, act, n, &act->slot[n->slot]));
    return n->flag ? export(x, act, &name) : LB_OK;
}

static lb_status exec_call_block(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    lb_jval caller, v;
    LB_TRY(new_macro(x, act, n, &caller));
    if (n->d)
        LB_TRY(lb_jeval_call(x, act, n->d, &caller, &v));
    else
        LB_TRY(lb_jcall_macro(x, caller.u.macro, &(lb_jargs){0}, &v));
    return write_str(x, v);
}

static lb_status exec_with(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    const lb_jnode *value = n->b;
    lb_jframe_enter(x, act, &n->frame);
    for (const lb_jnode *k = n->a; k; k = k->next, value = value->next) {
        lb_jval v;
        LB_TRY(lb_jeval(x, act, value, &v));
        LB_TRY(lb_jassign(x, act, k, v));
    }
    return lb_jexec_list(x, act, n->c);
}

static lb_status exec_scope(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    lb_jval on;
    lb_jframe_enter(x, act, &n->frame);
    LB_TRY(lb_jeval(x, act, n->a, &on));
    if (lb_jv_true(on))
        return lb_jx_fail(x, LB_E_UNSUPPORTED, "autoescape is not supported in chat templates");
    return lb_jexec_list(x, act, n->c);
}

static lb_status exec_block(lb_jx *x, const lb_jnode *n) {
    lb_jact *act;
    LB_TRY(lb_jact_new(x, NULL, n->code, &act));
    lb_jframe_enter(x, act, &n->code->frame);
    LB_TRY(lb_jexec_list(x, act, n->c));
    lb_jact_done(x, n->code, act);
    return LB_OK;
}

static lb_status exec_output(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    for (const lb_jnode *k = n->a; k; k = k->next) {
        lb_jval v;
        LB_TRY(lb_jeval(x, act, k, &v));
        LB_TRY(write_value(x, v));
    }
    return LB_OK;
}

static lb_status exec(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    switch ((lb_jkind)n->kind) {
    case LB_JN_DATA:
        return lb_jx_write(x, n->text);
    case LB_JN_OUTPUT:
        return exec_output(x, act, n);
    case LB_JN_IF:
        return exec_if(x, act, n);
    case LB_JN_FOR:
        return exec_for(x, act, n);
    case LB_JN_SET:
        return exec_set(x, act, n);
    case LB_JN_SET_BLOCK:
        return exec_set_block(x, act, n);
    case LB_JN_MACRO:
        return exec_macro(x, act, n);
    case LB_JN_CALL_BLOCK:
        return exec_call_block(x, act, n);
    case LB_JN_FILTER_BLOCK:
        return exec_filter_block(x, act, n);
    case LB_JN_WITH:
        return exec_with(x, act, n);
    case LB_JN_SCOPE:
        return exec_scope(x, act, n);
    case LB_JN_BLOCK:
        return exec_block(x, n);
    case LB_JN_BREAK:
        x->ctl = LB_JCTL_BREAK;
        return LB_OK;
    case LB_JN_CONTINUE:
        x->ctl = LB_JCTL_CONTINUE;
        return LB_OK;
    default:
        return lb_jx_error(x, "a statement is expected");
    }
}

lb_status lb_jexec_list(lb_jx *x, lb_jact *act, const lb_jnode *n) {
    LB_TRY(lb_jx_enter(x));
    for (; n && x->ctl == LB_JCTL_NONE; n = n->next) {
        x->line = n->line;
        LB_TRY(lb_jx_steps(x, 1));
        LB_TRY(exec(x, act, n));
    }
    x->depth--;
    return LB_OK;
}
