/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_scope.c: which slot a name of a template is, decided before it runs, as jinja2's compiler
 * decides it (its idtracking and frames).
 *
 * A frame first collects the names that its own statements load and store (collect), not those of
 * the frames inside; then its statements are resolved (resolve), which makes the frames inside.
 * A name that is stored is the frame's own: it begins as a copy of the one outside, or as nothing.
 * A name that is only loaded, here and outside, is looked up among the render's variables when the
 * frame is entered. */
#include "text/jinja_ast.h"

typedef struct func {
    struct func *parent;
    lb_jcode *code;
} func;

typedef struct sym {
    lb_str name;
    lb_jload load;
    bool stored;
    struct sym *next;
} sym;

typedef struct frame {
    struct frame *parent;
    func *fn;
    lb_map map; /* name -> sym */
    sym *syms, **tail;
    u32 n;
    bool toplevel, soft, in_loop;
} frame;

typedef struct scoper {
    const char *what;
    lb_arena *perm;
    lb_err *err;
    bool has_blocks;
} scoper;

static lb_status no_memory(scoper *s) {
    return lb_fail(s->err, LB_E_NOMEM, "%s: out of memory for the template", s->what);
}

/* ---- symbols ---- */

static sym *find_own(const frame *f, lb_str name) {
    u64 v;
    return lb_map_find(&f->map, name, &v) ? (sym *)(uintptr_t)v : NULL;
}

static sym *find(const frame *f, lb_str name, u16 *up) {
    const func *fn = f->fn;
    for (*up = 0; f; f = f->parent) {
        sym *own;
        if (f->fn != fn) {
            fn = f->fn;
            ++*up;
        }
        own = find_own(f, name);
        if (own)
            return own;
    }
    return NULL;
}

static lb_status define(scoper *s, frame *f, lb_str name, u8 kind, sym **out) {
    sym *y = find_own(f, name);
    if (!y) {
        y = lb_arena_new(s->perm, sym, 1);
        if (!y)
            return no_memory(s);
        y->name = y->load.name = name;
        y->load.slot = f->fn->code->n_slots++;
        LB_TRY(lb_map_put(&f->map, name, (u64)(uintptr_t)y, NULL, s->err));
        *f->tail = y;
        f->tail = &y->next;
        f->n++;
    }
    y->load.kind = kind;
    *out = y;
    return LB_OK;
}

static lb_status declare(scoper *s, frame *f, lb_str name, u32 *slot) {
    sym *y;
    LB_TRY(define(s, f, name, LB_JLOAD_PARAM, &y));
    y->stored = true;
    if (slot)
        *slot = y->load.slot;
    return LB_OK;
}

/* in_branch: under an if, so perhaps never stored. */
static lb_status store(scoper *s, frame *f, lb_str name, bool in_branch) {
    sym *own = find_own(f, name), *outer;
    u16 up = 0;
    if (own && own->stored)
        return LB_OK;
    if (own && !in_branch) {
        own->stored = true;
        return LB_OK;
    }
    outer = f->parent ? find(f->parent, name, &up) : NULL;
    LB_TRY(define(s, f, name,
                  outer       ? LB_JLOAD_ALIAS
                  : in_branch ? LB_JLOAD_RESOLVE
                              : LB_JLOAD_UNDEF,
                  &own));
    own->stored = true;
    if (outer) {
        own->load.from = outer->load.slot;
        own->load.up = (u16)(up + (f->parent->fn != f->fn));
    }
    return LB_OK;
}

static lb_status load(scoper *s, frame *f, lb_str name) {
    u16 up;
    sym *y;
    return find(f, name, &up) ? LB_OK : define(s, f, name, LB_JLOAD_RESOLVE, &y);
}

/* ---- collecting the names of a frame ---- */

static lb_status collect(scoper *s, frame *f, const lb_jnode *n, bool branch);

static lb_status collect_list(scoper *s, frame *f, const lb_jnode *n, bool branch) {
    for (; n; n = n->next)
        LB_TRY(collect(s, f, n, branch));
    return LB_OK;
}

static lb_status collect_target(scoper *s, frame *f, const lb_jnode *n, bool param, bool branch) {
    if (n->kind == LB_JN_NSREF)
        return load(s, f, n->name);
    if (n->kind == LB_JN_NAME)
        return param || n->ctx == LB_JCTX_PARAM ? declare(s, f, n->name, NULL)
                                                : store(s, f, n->name, branch);
    for (const lb_jnode *k = n->a; k; k = k->next)
        LB_TRY(collect_target(s, f, k, param, branch));
    return LB_OK;
}

static lb_status collect_if(scoper *s, frame *f, const lb_jnode *n, bool branch) {
    LB_TRY(collect(s, f, n->a, branch));
    LB_TRY(collect_list(s, f, n->b, true));
    for (const lb_jnode *k = n->c; k; k = k->next) {
        LB_TRY(collect(s, f, k->a, true));
        LB_TRY(collect_list(s, f, k->b, true));
    }
    return collect_list(s, f, n->d, true);
}

static lb_status collect(scoper *s, frame *f, const lb_jnode *n, bool branch) {
    switch ((lb_jkind)n->kind) {
    case LB_JN_NAME:
        return load(s, f, n->name);
    case LB_JN_IF:
        return collect_if(s, f, n, branch);
    case LB_JN_FOR:
        return collect(s, f, n->b, branch);
    case LB_JN_SET:
        LB_TRY(collect(s, f, n->b, branch));
        return collect_target(s, f, n->a, false, branch);
    case LB_JN_SET_BLOCK:
        return collect_target(s, f, n->a, false, branch);
    case LB_JN_MACRO:
        return store(s, f, n->name, branch);
    case LB_JN_CALL_BLOCK:
        return n->d ? collect(s, f, n->d, branch) : LB_OK;
    case LB_JN_FILTER_BLOCK:
    case LB_JN_WITH:
        return collect_list(s, f, n->b, branch);
    case LB_JN_SCOPE:
    case LB_JN_BLOCK:
    case LB_JN_BREAK:
    case LB_JN_CONTINUE:
    case LB_JN_DATA:
    case LB_JN_CONST:
        return LB_OK;
    default:
        break;
    }
    LB_TRY(collect_list(s, f, n->a, branch));
    LB_TRY(collect_list(s, f, n->b, branch));
    if (n->c)
        LB_TRY(collect(s, f, n->c, branch));
    return n->d ? collect(s, f, n->d, branch) : LB_OK;
}

/* ---- names in a whole subtree ---- */

#define WANT_MAX 3
typedef struct want {
    const char *name[WANT_MAX];
    bool open[WANT_MAX], found[WANT_MAX];
} want;

static void look_for(const lb_jnode *list, want *w);

static void look_at(const lb_jnode *n, want *w) {
    /* The order of jinja2's fields. */
    const lb_jnode *plain[] = {n->a, n->b, n->c, n->d, n->e},
                   *as_for[] = {n->a, n->b, n->c, n->d, n->e},
                   *as_call[] = {n->d, n->a, n->b, n->c, NULL},
                   *as_filter[] = {n->c, n->b, NULL, NULL, NULL};
    const lb_jnode **kids = n->kind == LB_JN_FOR            ? as_for
                            : n->kind == LB_JN_CALL_BLOCK   ? as_call
                            : n->kind == LB_JN_FILTER_BLOCK ? as_filter
                                                            : plain;
    if (n->kind == LB_JN_BLOCK)
        return;
    if (n->kind == LB_JN_NAME)
        for (u32 i = 0; i < WANT_MAX; i++)
            if (w->name[i] && w->open[i] && lb_str_eq_c(n->name, w->name[i])) {
                if (n->ctx == LB_JCTX_LOAD)
                    w->found[i] = true;
                else
                    w->open[i] = false;
            }
    for (u32 i = 0; i < LB_LEN(plain); i++)
        look_for(kids[i], w);
}

static void look_for(const lb_jnode *list, want *w) {
    for (; list; list = list->next)
        look_at(list, w);
}

/* Whether something in the tree stores to `loop`. */
static bool stores_loop(const lb_jnode *list) {
    for (const lb_jnode *n = list; n; n = n->next) {
        if (n->kind == LB_JN_NAME && n->ctx == LB_JCTX_STORE && lb_str_eq_c(n->name, "loop"))
            return true;
        if (stores_loop(n->a) || stores_loop(n->b) || stores_loop(n->c) || stores_loop(n->d) ||
            stores_loop(n->e))
            return true;
    }
    return false;
}

/* ---- resolving ---- */

static lb_status resolve_list(scoper *s, frame *f, lb_jnode *n);

static void begin(frame *f, frame *parent, func *fn) {
    *f = (frame){.parent = parent, .fn = fn};
    f->tail = &f->syms;
    f->in_loop = parent && parent->fn == fn && parent->in_loop;
}

/* What has to be done at the frame's entry. */
static lb_status end(scoper *s, frame *f, lb_jframe *out) {
    lb_jload *l = f->n ? lb_arena_new(s->perm, lb_jload, f->n) : NULL;
    lb_map_deinit(&f->map);
    if (f->n && !l)
        return no_memory(s);
    *out = (lb_jframe){.load = l};
    for (const sym *y = f->syms; y; y = y->next)
        if (y->load.kind != LB_JLOAD_PARAM)
            l[out->n++] = y->load;
    return LB_OK;
}

static lb_status new_code(scoper *s, lb_jcode **out) {
    *out = lb_arena_new(s->perm, lb_jcode, 1);
    if (!*out)
        return no_memory(s);
    (*out)->caller = (*out)->kwargs = (*out)->varargs = LB_JSLOT_NONE;
    return LB_OK;
}

static void holds(func *fn) {
    for (; fn; fn = fn->parent)
        fn->code->holds = true;
}

/* A name or the names of a target: their slots. */
static lb_status bind(scoper *s, frame *f, lb_jnode *n) {
    if (n->kind == LB_JN_NAME || n->kind == LB_JN_NSREF) {
        const sym *y = find(f, n->name, &n->up);
        if (!y) {
            LB_TRY(load(s, f, n->name));
            y = find(f, n->name, &n->up);
        }
        n->slot = y->load.slot;
        return LB_OK;
    }
    for (lb_jnode *k = n->a; k; k = k->next)
        LB_TRY(bind(s, f, k));
    return LB_OK;
}

static lb_status resolve_expr(scoper *s, frame *f, lb_jnode *n, bool soft) {
    if (n->kind == LB_JN_NAME)
        return bind(s, f, n);
    soft |= n->kind == LB_JN_COND;
    if ((n->kind == LB_JN_FILTER || n->kind == LB_JN_TEST) && !n->def && !soft)
        return lb_fail(s->err, LB_E_FORMAT, "%s: line %u: No %s named '%.*s'.", s->what, n->line,
                       n->kind == LB_JN_FILTER ? "filter" : "test", LB_FMT(n->name));
    lb_jnode *kids[] = {n->a, n->b, n->c, n->d};
    for (size_t i = 0; i < LB_LEN(kids); i++)
        for (lb_jnode *k = kids[i]; k; k = k->next)
            LB_TRY(resolve_expr(s, f, k, soft));
    return LB_OK;
}

static lb_status resolve_exprs(scoper *s, frame *f, lb_jnode *n) {
    for (; n; n = n->next)
        LB_TRY(resolve_expr(s, f, n, f->soft));
    return LB_OK;
}

/* The body of a loop; `loop` is its own where the body speaks of it. */
static lb_status resolve_loop_body(scoper *s, frame *outer, func *fn, lb_jnode *n) {
    want w = {.name = {"loop"}, .open = {true}};
    frame f;
    lb_status st;
    begin(&f, outer, fn);
    f.in_loop = true;
    look_for(n->c, &w);
    st = n->flag || w.found[0] ? declare(s, &f, LB_STR("loop"), &n->slot) : LB_OK;
    if (st == LB_OK)
        st = collect_target(s, &f, n->a, true, false);
    if (st == LB_OK)
        st = collect_list(s, &f, n->c, false);
    if (st == LB_OK)
        st = bind(s, &f, n->a);
    if (st == LB_OK)
        st = resolve_list(s, &f, n->c);
    lb_status last = end(s, &f, &n->frame);
    return st == LB_OK ? last : st;
}

static lb_status resolve_loop_test(scoper *s, frame *outer, func *fn, lb_jnode *n) {
    frame f;
    lb_status st, last;
    begin(&f, outer, fn);
    st = collect_target(s, &f, n->f, true, false);
    if (st == LB_OK)
        st = collect(s, &f, n->e, false);
    if (st == LB_OK)
        st = bind(s, &f, n->f);
    if (st == LB_OK)
        st = resolve_expr(s, &f, n->e, false);
    last = end(s, &f, &n->frame_test);
    return st == LB_OK ? last : st;
}

static lb_status resolve_inner(scoper *s, frame *outer, func *fn, lb_jnode *list, lb_jframe *out) {
    frame f;
    lb_status st, last;
    begin(&f, outer, fn);
    st = collect_list(s, &f, list, false);
    if (st == LB_OK)
        st = resolve_list(s, &f, list);
    last = end(s, &f, out);
    return st == LB_OK ? last : st;
}

static lb_status resolve_for(scoper *s, frame *f, lb_jnode *n) {
    func own = {.parent = f->fn}, *fn = f->fn;
    if (stores_loop(n->a) || stores_loop(n->c) || stores_loop(n->d))
        return lb_fail(s->err, LB_E_FORMAT,
                       "%s: line %u: Can't assign to special loop variable in for-loop target",
                       s->what, n->line);
    LB_TRY(resolve_exprs(s, f, n->b));
    if (n->flag) {
        LB_TRY(new_code(s, &n->code));
        own.code = n->code;
        holds(f->fn);
        fn = &own;
    }
    LB_TRY(resolve_loop_body(s, f, fn, n));
    if (n->e) {
        holds(fn); /* the loop may be kept, and walks on with these slots */
        LB_TRY(resolve_loop_test(s, f, fn, n));
    }
    return n->d ? resolve_inner(s, f, fn, n->d, &n->frame_else) : LB_OK;
}

static lb_status macro_params(scoper *s, frame *f, lb_jnode *n) {
    lb_jcode *code = n->code;
    want w = {.name = {"caller", "kwargs", "varargs"}, .open = {true, true, true}};
    u32 *slots[] = {&code->caller, &code->kwargs, &code->varargs}, i = 0, n_defaults = 0;
    for (const lb_jnode *k = n->a; k; k = k->next)
        code->n_params++;
    for (const lb_jnode *k = n->b; k; k = k->next)
        n_defaults++;
    code->param = lb_arena_new(s->perm, u32, code->n_params + 1);
    if (!code->param)
        return no_memory(s);
    look_for(n->c, &w);
    for (lb_jnode *k = n->a; k; k = k->next, i++) {
        LB_TRY(bind(s, f, k));
        code->param[i] = k->slot;
        for (u32 j = 0; j < WANT_MAX; j++)
            if (lb_str_eq_c(k->name, w.name[j])) {
                if (j == 0 && w.found[0] && i < code->n_params - n_defaults)
                    return lb_fail(s->err, LB_E_FORMAT,
                                   "%s: line %u: When defining macros or call blocks the special "
                                   "\"caller\" argument must be omitted or be given a default.",
                                   s->what, n->line);
                code->explicit_caller |= j == 0;
                w.found[j] = false;
            }
    }
    for (u32 j = 0; j < WANT_MAX; j++)
        if (w.found[j])
            LB_TRY(declare(s, f, lb_str_c(w.name[j]), slots[j]));
    return LB_OK;
}

/* A macro, or the body of a call block. */
static lb_status resolve_macro(scoper *s, frame *outer, lb_jnode *n) {
    func fn = {.parent = outer->fn};
    frame f;
    lb_status st, last;
    LB_TRY(new_code(s, &n->code));
    fn.code = n->code;
    holds(outer->fn);
    begin(&f, outer, &fn);
    st = LB_OK;
    for (const lb_jnode *k = n->a; k && st == LB_OK; k = k->next)
        st = declare(s, &f, k->name, NULL);
    if (st == LB_OK)
        st = collect_list(s, &f, n->b, false);
    if (st == LB_OK)
        st = collect_list(s, &f, n->c, false);
    if (st == LB_OK)
        st = macro_params(s, &f, n);
    if (st == LB_OK)
        st = resolve_exprs(s, &f, n->b);
    if (st == LB_OK)
        st = resolve_list(s, &f, n->c);
    last = end(s, &f, &n->code->frame);
    return st == LB_OK ? last : st;
}

/* Blocks with text of their own: set, filter, with, autoescape. */
static lb_status resolve_scope(scoper *s, frame *outer, lb_jnode *n) {
    frame f;
    lb_status st = LB_OK, last;
    if (n->kind == LB_JN_WITH)
        LB_TRY(resolve_exprs(s, outer, n->b));
    begin(&f, outer, outer->fn);
    if (n->kind == LB_JN_WITH)
        for (const lb_jnode *k = n->a; k && st == LB_OK; k = k->next)
            st = collect_target(s, &f, k, true, false);
    if (st == LB_OK)
        st = collect_list(s, &f, n->c, false);
    if (st == LB_OK && n->b && n->kind != LB_JN_WITH)
        st = collect(s, &f, n->b, false);
    if (st == LB_OK && n->kind == LB_JN_SCOPE)
        st = collect(s, &f, n->a, false);
    if (st == LB_OK && n->b && n->kind != LB_JN_WITH)
        st = resolve_expr(s, &f, n->b, false);
    if (st == LB_OK && n->kind == LB_JN_SCOPE)
        st = resolve_expr(s, &f, n->a, false);
    if (n->kind == LB_JN_WITH)
        for (lb_jnode *k = n->a; k && st == LB_OK; k = k->next)
            st = bind(s, &f, k);
    if (st == LB_OK)
        st = resolve_list(s, &f, n->c);
    last = end(s, &f, &n->frame);
    return st == LB_OK ? last : st;
}

static lb_status resolve_if(scoper *s, frame *f, lb_jnode *n) {
    bool soft = f->soft;
    lb_status st;
    f->soft = true;
    st = resolve_exprs(s, f, n->a);
    if (st == LB_OK)
        st = resolve_list(s, f, n->b);
    for (lb_jnode *k = n->c; k && st == LB_OK; k = k->next) {
        st = resolve_exprs(s, f, k->a);
        if (st == LB_OK)
            st = resolve_list(s, f, k->b);
    }
    if (st == LB_OK)
        st = resolve_list(s, f, n->d);
    f->soft = soft;
    return st;
}

static lb_status resolve_block(scoper *s, lb_jnode *n) {
    func fn = {0};
    LB_TRY(new_code(s, &n->code));
    fn.code = n->code;
    return resolve_inner(s, NULL, &fn, n->c, &n->code->frame);
}

static lb_status resolve(scoper *s, frame *f, lb_jnode *n) {
    switch ((lb_jkind)n->kind) {
    case LB_JN_DATA:
        return LB_OK;
    case LB_JN_OUTPUT:
        return resolve_exprs(s, f, n->a);
    case LB_JN_IF:
        return resolve_if(s, f, n);
    case LB_JN_FOR:
        return resolve_for(s, f, n);
    case LB_JN_SET:
        n->flag = f->toplevel && s->has_blocks;
        LB_TRY(resolve_exprs(s, f, n->b));
        return bind(s, f, n->a);
    case LB_JN_SET_BLOCK:
        n->flag = f->toplevel && s->has_blocks;
        LB_TRY(bind(s, f, n->a));
        return resolve_scope(s, f, n);
    case LB_JN_MACRO: {
        lb_jnode name = {.kind = LB_JN_NAME, .name = n->name};
        n->flag = f->toplevel && s->has_blocks;
        LB_TRY(bind(s, f, &name));
        n->slot = name.slot;
        return resolve_macro(s, f, n);
    }
    case LB_JN_CALL_BLOCK:
        LB_TRY(resolve_macro(s, f, n));
        return n->d ? resolve_exprs(s, f, n->d) : LB_OK;
    case LB_JN_FILTER_BLOCK:
    case LB_JN_WITH:
    case LB_JN_SCOPE:
        return resolve_scope(s, f, n);
    case LB_JN_BLOCK:
        return resolve_block(s, n);
    case LB_JN_BREAK:
    case LB_JN_CONTINUE:
        return f->in_loop
                   ? LB_OK
                   : lb_fail(s->err, LB_E_FORMAT, "%s: line %u: '%s' outside of a loop", s->what,
                             n->line, n->kind == LB_JN_BREAK ? "break" : "continue");
    default:
        return resolve_exprs(s, f, n);
    }
}

static lb_status resolve_list(scoper *s, frame *f, lb_jnode *n) {
    for (; n; n = n->next)
        LB_TRY(resolve(s, f, n));
    return LB_OK;
}

lb_status lb_jinja_scope(lb_jtree *t, const char *what, lb_arena *perm, lb_err *err) {
    scoper s = {.what = what, .perm = perm, .err = err, .has_blocks = t->blocks != NULL};
    func fn = {0};
    frame f;
    lb_status st, last;
    LB_TRY(new_code(&s, &t->root));
    fn.code = t->root;
    begin(&f, NULL, &fn);
    f.toplevel = true;
    st = collect_list(&s, &f, t->body, false);
    if (st == LB_OK)
        st = resolve_list(&s, &f, t->body);
    last = end(&s, &f, &t->root->frame);
    return st == LB_OK ? last : st;
}
