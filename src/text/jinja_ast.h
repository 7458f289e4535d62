/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_ast.h: tokens and the tree of a template: lexer, parser, the analysis of names. Internal to
 * text/.
 *
 * Names are resolved before anything runs, as jinja2's compiler does it: every frame (loop, macro,
 * set block...) has its own names, which begin as copies of those outside where it stores to them.
 * What is a function in jinja2's Python (root, macro, call block, recursive loop) has an activation
 * with slots here; a name is (activations outward, slot). Read-only once it is made. */
#ifndef LB_TEXT_JINJA_AST_H
#define LB_TEXT_JINJA_AST_H

#include "base/base.h"
#include "base/mem.h"
#include "text/jinja_value.h"

#define LB_JINJA_TEXT_MAX ((u64)1 << 20) /* bytes of a template; the largest known has 20 KB */
#define LB_JINJA_NEST_MAX 200            /* what is open at once; CPython takes 100 to 200 */

/* ---- tokens ---- */

typedef enum lb_jtok_type {
    LB_JTOK_EOF,
    LB_JTOK_DATA,
    LB_JTOK_VAR_BEGIN,
    LB_JTOK_VAR_END,
    LB_JTOK_BLOCK_BEGIN,
    LB_JTOK_BLOCK_END,
    LB_JTOK_NAME,
    LB_JTOK_STRING,
    LB_JTOK_NUMBER, /* value in `value` */
    LB_JTOK_OP      /* op: its characters, '*' | '*' << 8 for "**" */
} lb_jtok_type;

#define LB_JOP(a, b) ((u16)((u16)(a) | (u16)((b) << 8)))

typedef struct lb_jtok {
    u8 type;
    u16 op;
    u32 line;
    lb_str text; /* NAME, STRING (decoded), DATA */
    lb_jval value;
} lb_jtok;

/* Tokens of a text with \n line ends; out: lb_jtok each, ended by EOF. what names it in errors. */
lb_status lb_jinja_lex(lb_str text, const char *what, lb_arena *perm, lb_buf *out, lb_err *err);

/* ---- tree ---- */

typedef enum lb_jkind {
    LB_JN_CONST,
    LB_JN_NAME,
    LB_JN_NSREF, /* name, attr in text */
    LB_JN_TUPLE, /* a: items */
    LB_JN_LIST,
    LB_JN_DICT,   /* a: key, value, key, value... */
    LB_JN_ATTR,   /* a, text */
    LB_JN_ITEM,   /* a, b */
    LB_JN_SLICE,  /* a, b, c: any may be NULL */
    LB_JN_CALL,   /* a; arguments: b (KEYWORD among them), c: *args, d: **kwargs */
    LB_JN_FILTER, /* a (NULL: the text of a block), name; arguments as CALL */
    LB_JN_TEST,
    LB_JN_KEYWORD, /* name, a */
    LB_JN_BINARY,  /* op, a, b */
    LB_JN_AND,
    LB_JN_OR,
    LB_JN_NOT,
    LB_JN_NEG,
    LB_JN_POS,
    LB_JN_CONCAT,  /* a: items */
    LB_JN_COMPARE, /* a; b: OPERANDs */
    LB_JN_OPERAND, /* op, a */
    LB_JN_COND,    /* a: test, b, c (may be NULL) */
    /* statements */
    LB_JN_DATA,      /* value */
    LB_JN_OUTPUT,    /* a: expressions */
    LB_JN_FOR,       /* a: target, b: iterable, c: body, d: else, e: test, f: target for the test */
    LB_JN_IF,        /* a: test, b: body, c: IFs, d: else */
    LB_JN_SET,       /* a: target, b */
    LB_JN_SET_BLOCK, /* a: target, b: FILTERs, c: body */
    LB_JN_MACRO,     /* name; a: parameters, b: defaults, c: body */
    LB_JN_CALL_BLOCK,   /* a, b, c as MACRO; d: call (NULL: a generation block) */
    LB_JN_FILTER_BLOCK, /* b: FILTERs, c: body */
    LB_JN_WITH,         /* a: targets, b: values, c: body */
    LB_JN_SCOPE,        /* an autoescape block: a: its value, c: body */
    LB_JN_BREAK,
    LB_JN_CONTINUE,
    LB_JN_BLOCK /* name, c: body */
} lb_jkind;

typedef enum lb_jctx { LB_JCTX_LOAD, LB_JCTX_STORE, LB_JCTX_PARAM } lb_jctx;

#define LB_JSLOT_NONE UINT32_MAX
#define LB_JIN LB_JOP('i', 'n')
#define LB_JNOTIN LB_JOP('n', 'i')

/* What a slot begins with when its frame is entered. */
typedef enum lb_jload_kind {
    LB_JLOAD_PARAM,
    LB_JLOAD_RESOLVE,
    LB_JLOAD_ALIAS,
    LB_JLOAD_UNDEF
} lb_jload_kind;

typedef struct lb_jload {
    u8 kind; /* lb_jload_kind */
    u16 up;  /* ALIAS: activations outward */
    u32 slot;
    u32 from; /* ALIAS */
    lb_str name;
} lb_jload;

typedef struct lb_jframe {
    lb_jload *load; /* without PARAM */
    u32 n;
} lb_jframe;

/* A function of its own. */
typedef struct lb_jcode {
    u32 n_slots;
    bool holds;                  /* functions inside may outlive a call of it */
    u32 *param;                  /* [n_params] slots, in order */
    u32 n_params;                /* of LB_JN_MACRO's a */
    u32 caller, kwargs, varargs; /* slots; LB_JSLOT_NONE */
    bool explicit_caller;
    lb_jframe frame;
} lb_jcode;

typedef struct lb_jnode lb_jnode;
struct lb_jnode {
    u8 kind, ctx;
    bool flag;     /* FOR: recursive; TEST: of no meaning; toplevel SET, MACRO: seen by blocks */
    u16 op, depth; /* depth: of the tree below */
    u16 up;
    u32 line, slot; /* NAME, NSREF, MACRO; FOR: of `loop`; CALL_BLOCK: none */
    lb_str name, text;
    lb_jval value;
    lb_jnode *next;
    lb_jnode *a, *b, *c, *d, *e, *f;
    const lb_jdef *def; /* FILTER, TEST; NULL: unknown */
    lb_jframe frame, frame_else, frame_test;
    lb_jcode *code; /* MACRO, CALL_BLOCK, BLOCK, recursive FOR */
};

typedef struct lb_jblock {
    lb_str name;
    lb_jnode *node;
    struct lb_jblock *next;
} lb_jblock;

typedef struct lb_jtree {
    lb_jnode *body; /* statements */
    lb_jcode *root;
    lb_jblock *blocks;
} lb_jtree;

/* LB_E_FORMAT: a syntax error; LB_E_UNSUPPORTED: a tag that is refused by name; LB_E_LIMIT. */
lb_status lb_jinja_parse(lb_str text, const char *what, lb_arena *perm, lb_jtree *out, lb_err *err);
/* Gives every name its slot; refuses what jinja2's compiler refuses. */
lb_status lb_jinja_scope(lb_jtree *t, const char *what, lb_arena *perm, lb_err *err);

/* ---- between the two files of the parser ---- */

typedef struct lb_jparser {
    const lb_jtok *tok; /* the current one */
    const char *what;
    lb_arena *perm;
    lb_err *err;
    u32 depth;
    lb_jtree *tree;
} lb_jparser;

lb_status lb_jparse_fail(lb_jparser *p, u32 line, const char *fmt, ...) LB_PRINTF(3, 4);
lb_jnode *lb_jparse_node(lb_jparser *p, lb_jkind kind, u32 line); /* NULL: out of memory */
lb_status lb_jparse_no_memory(lb_jparser *p);
bool lb_jparse_is_name(const lb_jtok *t, const char *name);
static inline bool lb_jparse_is_op(const lb_jtok *t, u16 op) {
    return t->type == LB_JTOK_OP && t->op == op;
}
bool lb_jparse_skip_name(lb_jparser *p, const char *name);
bool lb_jparse_skip_op(lb_jparser *p, u16 op);
lb_status lb_jparse_expect_name(lb_jparser *p, const char *name); /* NULL: any */
lb_status lb_jparse_expect_op(lb_jparser *p, u16 op);
lb_status lb_jparse_expect(lb_jparser *p, lb_jtok_type type);
lb_status lb_jparse_enter(lb_jparser *p); /* one level more; undone by p->depth-- */

typedef struct lb_jtuple_opts {
    bool simplified, no_cond, parens, with_ns;
    const char *end; /* a name that ends it; NULL */
} lb_jtuple_opts;
lb_status lb_jparse_tuple(lb_jparser *p, lb_jtuple_opts o, lb_jnode **out);
lb_status lb_jparse_expr(lb_jparser *p, bool with_cond, lb_jnode **out);
lb_status lb_jparse_primary(lb_jparser *p, bool with_ns, lb_jnode **out);
/* Filters from the current token on; in_line: the first stands without its bar. */
lb_status lb_jparse_filter(lb_jparser *p, lb_jnode *node, bool in_line, lb_jnode **out);
void lb_jparse_describe(const lb_jtok *t, char *out, size_t size);

#endif
