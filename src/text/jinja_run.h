/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_run.h: a render of a template: its state, what evaluates the tree, and what the built-in
 * functions share. Internal to text/.
 *
 * A render that fails stops for good: counters are not put back on the way out. */
#ifndef LB_TEXT_JINJA_RUN_H
#define LB_TEXT_JINJA_RUN_H

#include "text/jinja_ast.h"
#include "text/jinja_value.h"
#include "text/template.h"

typedef enum lb_jctl { LB_JCTL_NONE, LB_JCTL_BREAK, LB_JCTL_CONTINUE } lb_jctl;

/* What a call of a function has: its slots, and where those of the functions around it are. */
typedef struct lb_jact {
    struct lb_jact *parent;
    struct lb_jact *free; /* the next one that may be used again */
    u32 n_slots;
    lb_jval slot[];
} lb_jact;

struct lb_jx {
    const char *what;
    const lb_jtree *tree;
    lb_arena arena; /* bounded by limits.memory_bytes */
    lb_buf out;
    lb_err *err;
    lb_jdict *vars;     /* the render's variables */
    lb_jdict *exported; /* set at top level, for blocks; NULL: the template has none */
    lb_jact *free;
    u64 steps, max_steps;
    u64 max_output, max_string;
    u32 depth, max_depth;
    u32 line;         /* of what is evaluated */
    u8 ctl;           /* lb_jctl */
    lb_status failed; /* LB_OK so far */
    i64 now_us;       /* INT64_MIN: the clock */
};

struct lb_jmacro {
    const lb_jnode *node; /* MACRO, CALL_BLOCK */
    lb_jact *outer;
};

struct lb_jloop {
    const lb_jnode *node; /* recursive: what a call of it runs; NULL */
    lb_jact *outer;
    lb_jval iterable;
    struct lb_jiter *it;
    i64 index0, depth0;
    i64 length;                              /* -1: not known yet */
    lb_jval after, current, before, changed; /* MISSING: none */
};

lb_status lb_jx_fail(lb_jx *x, lb_status code, const char *fmt, ...) LB_PRINTF(3, 4);
/* LB_E_FORMAT, as Python's TypeError and the like. */
#define lb_jx_error(x, ...) lb_jx_fail((x), LB_E_FORMAT, __VA_ARGS__)
lb_status lb_jx_no_memory(lb_jx *x); /* out of memory, or the render's limit of it */
void *lb_jx_alloc(lb_jx *x, u64 count, size_t size_bytes); /* zeroed; NULL: x's error is set */
#define lb_jx_new(x, type, count) ((type *)lb_jx_alloc((x), (count), sizeof(type)))
lb_status lb_jx_steps(lb_jx *x, u64 n);
lb_status lb_jx_enter(lb_jx *x); /* one level deeper; undone by x->depth-- */
/* An operation on something undefined: says what is. */
lb_status lb_jx_undefined(lb_jx *x, lb_jval undef);
/* The message of an undefined value, cut to size. */
void lb_jundef_text(lb_jx *x, const lb_jundef *u, char *out, size_t size);

/* ---- evaluating: jinja_eval.c, jinja_exec.c ---- */

lb_status lb_jeval(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval *out);
/* Filters of a block: `text` is what the innermost gets. */
lb_status lb_jeval_filters(lb_jx *x, lb_jact *act, const lb_jnode *n, lb_jval text, lb_jval *out);
lb_status lb_jexec_list(lb_jx *x, lb_jact *act, const lb_jnode *n);
lb_status lb_jexec_recursive(lb_jx *x, lb_jact *outer, const lb_jnode *n, lb_jval iterable,
                             i64 depth0);
void lb_jframe_enter(lb_jx *x, lb_jact *act, const lb_jframe *f);
lb_status lb_jact_new(lb_jx *x, lb_jact *parent, const lb_jcode *code, lb_jact **out);
void lb_jact_done(lb_jx *x, const lb_jcode *code, lb_jact *a);
/* What was written since `mark` becomes a value and leaves the output. */
lb_status lb_jx_captured(lb_jx *x, size_t mark, lb_jval *out);
lb_status lb_jx_write(lb_jx *x, lb_str s);

/* ---- calls: jinja_call.c ---- */

lb_status lb_jcall(lb_jx *x, lb_jval f, const lb_jargs *args, lb_jval *out);
lb_status lb_jcall_def(lb_jx *x, const lb_jdef *def, lb_jval self, const lb_jargs *args,
                       lb_jval *out);
lb_status lb_jcall_macro(lb_jx *x, const lb_jmacro *m, const lb_jargs *args, lb_jval *out);
lb_status lb_jcall_filter(lb_jx *x, lb_jval name, lb_jval value, const lb_jargs *args,
                          lb_jval *out);
lb_status lb_jcall_test(lb_jx *x, lb_jval name, lb_jval value, const lb_jargs *args, bool *out);

/* ---- operators: jinja_ops.c ---- */

lb_status lb_jop_binary(lb_jx *x, u16 op, lb_jval a, lb_jval b, lb_jval *out);
lb_status lb_jop_unary(lb_jx *x, bool negate, lb_jval a, lb_jval *out);
lb_status lb_jop_compare(lb_jx *x, u16 op, lb_jval a, lb_jval b, bool *out);
lb_status lb_jop_in(lb_jx *x, lb_jval item, lb_jval seq, bool *out);

/* ---- attributes and items: jinja_attr.c ---- */

lb_status lb_jattr(lb_jx *x, lb_jval obj, lb_jval name, lb_jval *out); /* obj.name */
lb_status lb_jitem(lb_jx *x, lb_jval obj, lb_jval key, lb_jval *out);  /* obj[key] */
/* Bounds and step as Python's slice; MISSING and None: left out. */
lb_status lb_jslice(lb_jx *x, lb_jval obj, const lb_jval *start_stop_step, lb_jval *out);
/* Whether an attribute exists without looking at items; *out where it does. */
lb_status lb_jattr_own(lb_jx *x, lb_jval obj, lb_jval name, bool *found, lb_jval *out);

/* ---- walking: jinja_iter.c ---- */

/* LB_E_FORMAT: not iterable. */
lb_status lb_jiter_new(lb_jx *x, lb_jval v, lb_jiter **out);
bool lb_jv_is_iterable(lb_jval v);
lb_status lb_jiter_next(lb_jx *x, lb_jiter *it, lb_jval *out, bool *more);
lb_status lb_jv_to_list(lb_jx *x, lb_jval v, lb_jlist **out); /* a new list */
/* Generators of filters. */
typedef enum lb_jgen {
    LB_JGEN_MAP,      /* name: the filter, args */
    LB_JGEN_MAP_ATTR, /* attr, fallback */
    LB_JGEN_SELECT,   /* name: the test (MISSING: truth), args; attr; negate */
    LB_JGEN_UNIQUE,   /* attr, fold_case */
    LB_JGEN_BATCH,    /* count, fallback: fill */
    LB_JGEN_SLICE,
    LB_JGEN_ITEMS,
    LB_JGEN_REVERSED
} lb_jgen;
typedef struct lb_jgen_opts {
    lb_jgen kind;
    lb_jval source;
    lb_jval name, attr, fallback; /* MISSING: none */
    lb_jargs args;
    i64 count;
    bool negate, fold_case;
} lb_jgen_opts;
lb_status lb_jgen_new(lb_jx *x, const lb_jgen_opts *o, lb_jval *out);
/* item's attribute by a dotted path, or a number; fallback MISSING: none. */
lb_status lb_jattr_path(lb_jx *x, lb_jval item, lb_jval path, lb_jval fallback, lb_jval *out);
lb_status lb_jv_fold_case(lb_jx *x, lb_jval v, lb_jval *out); /* strings in lower case */

lb_status lb_jloop_next(lb_jx *x, lb_jloop *l, lb_jval *out, bool *more);
lb_status lb_jloop_attr(lb_jx *x, lb_jloop *l, lb_str name, bool *found, lb_jval *out);
lb_status lb_jloop_length(lb_jx *x, lb_jloop *l, i64 *out);

/* ---- formatting: jinja_format.c, jinja_json.c ---- */

lb_status lb_jformat_percent(lb_jx *x, lb_jval fmt, lb_jval args, lb_jval *out);
lb_status lb_jformat_braces(lb_jx *x, lb_jval fmt, const lb_jargs *args, lb_jval *out);

typedef struct lb_jjson_opts {
    bool ascii, sort;
    bool lines;    /* with indent */
    lb_str indent; /* of one level */
    lb_str item_sep, key_sep;
} lb_jjson_opts;
lb_status lb_jjson(lb_jbuf *out, lb_jval v, const lb_jjson_opts *o);

#endif
