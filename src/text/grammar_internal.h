/* SPDX-License-Identifier: Apache-2.0 */
/* grammar_internal.h: a compiled grammar, and what its parser and its matcher share. */
#ifndef LB_TEXT_GRAMMAR_INTERNAL_H
#define LB_TEXT_GRAMMAR_INTERNAL_H

#include "text/grammar.h"

#define LB_GRAMMAR_ELEMS_MAX (1u << 21)
#define LB_GRAMMAR_DEPTH_MAX 256 /* of parentheses */

typedef enum lb_gelem_type {
    LB_GELEM_END, /* of a rule */
    LB_GELEM_ALT, /* the next alternative begins */
    LB_GELEM_REF, /* value: rule */
    LB_GELEM_SET, /* value: set of characters; after compiling its first byte node */
    LB_GELEM_TOKEN,
    LB_GELEM_TOKEN_NOT
} lb_gelem_type;

typedef struct lb_gelem {
    u32 type, value;
} lb_gelem;

/* Of a sequence of bytes: from node i with a byte in [lo, hi] to next; LB_BYTE_END: the character
 * is whole. */
#define LB_BYTE_END 0xffffffffu
typedef struct lb_byte_edge {
    u32 next;
    u8 lo, hi;
} lb_byte_edge;
typedef struct lb_byte_node {
    u32 first, n; /* edges */
} lb_byte_node;

struct lb_grammar {
    lb_gelem *elems; /* all rules, one behind the other */
    u32 n_elems;
    u32 *rules; /* first element of each */
    u32 n_rules, root;
    lb_byte_node *nodes;
    lb_byte_edge *edges;
    u32 n_nodes, n_edges;
    bool has_tokens;
};

static inline bool lb_gelem_is_end(lb_gelem e) {
    return e.type == LB_GELEM_END || e.type == LB_GELEM_ALT;
}

/* ---- grammar_parse.c ---- */

typedef struct lb_grange {
    u32 lo, hi;
} lb_grange;

typedef struct lb_grule {
    lb_str name; /* of made ones: of the rule that they stand in */
    lb_buf elems;
    size_t at; /* where it is named first */
    bool defined;
} lb_grule;

typedef struct lb_gparse {
    lb_str text;
    size_t pos;
    const lb_grammar_opts *o;
    lb_err *err;
    lb_map names;   /* rule -> index */
    lb_buf rules;   /* of lb_grule */
    lb_map set_ids; /* bytes of the ranges -> index */
    lb_buf sets;    /* of lb_gset */
    lb_arena arena;
    u32 n_elems, depth;
} lb_gparse;

typedef struct lb_gset {
    const lb_grange *ranges; /* ascending, apart */
    u32 n;
} lb_gset;

lb_status lb_gparse_text(lb_gparse *p);
void lb_gparse_deinit(lb_gparse *p);
/* An error at a place of the text. */
lb_status lb_gparse_fail(lb_gparse *p, lb_status code, size_t at, const char *fmt, ...)
    LB_PRINTF(4, 5);
static inline lb_grule *lb_gparse_rule(lb_gparse *p, u32 i) {
    return (lb_grule *)(void *)p->rules.ptr + i;
}

#endif
