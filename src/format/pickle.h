/* SPDX-License-Identifier: Apache-2.0 */
/* pickle.h: Python's pickle, protocol 2 to 5, as a machine that can make containers and no more.
 *
 * Numbers, strings, tuples, lists and dicts are made here. A name (GLOBAL) is a number that the
 * caller's table gives it, calling one (REDUCE) and a persistent id are the caller's functions:
 * nothing is looked up, imported or run. Every other opcode and every name that the table does not
 * have is refused with opcode, name and byte. The values are a graph, may be shared and hold
 * themselves: walk them to a fixed depth only.
 *
 * Memory: at most LB_PICKLE_FACTOR bytes for a byte of the text (and 64 KiB): a length or index is
 * compared with the text before anything is taken for it. No recursion. */
#ifndef LB_FORMAT_PICKLE_H
#define LB_FORMAT_PICKLE_H

#include "base/mem.h"
#include "io/cur.h"

#define LB_PICKLE_MAX ((u64)100000000) /* bytes of one pickle */
#define LB_PICKLE_FACTOR 128

typedef enum lb_pv_kind {
    LB_PV_NONE,
    LB_PV_BOOL,  /* u.i */
    LB_PV_INT,   /* u.i */
    LB_PV_BIG,   /* an integer beyond i64: u.text, n bytes, little-endian two's complement */
    LB_PV_FLOAT, /* u.f */
    LB_PV_STR,   /* u.text, n bytes, UTF-8 but for what Python 2 wrote */
    LB_PV_BYTES,
    LB_PV_TUPLE, /* u.items, n */
    LB_PV_LIST,  /* and a set */
    LB_PV_DICT,  /* u.items: n values, key and value in turn, as they were set */
    LB_PV_NAME,  /* id: the caller's */
    LB_PV_OBJECT /* id, u.object: the caller's */
} lb_pv_kind;

typedef struct lb_pv lb_pv;
struct lb_pv {
    u8 kind;
    bool is_ordered; /* a DICT that the caller made: BUILD may set its attributes, which are dropped
                      */
    u32 id;
    u32 n, cap;
    union {
        i64 i;
        double f;
        const char *text;
        lb_pv **items;
        const void *object;
    } u;
};

static inline lb_str lb_pv_str(const lb_pv *v) {
    return (lb_str){v->u.text, v->n};
}
const char *lb_pv_kind_name(const lb_pv *v); /* "a tuple" */

typedef struct lb_pickle lb_pickle;
typedef struct lb_pickle_ops {
    void *ctx;
    /* False: the name is not in the table. */
    bool (*name)(void *ctx, lb_str module, lb_str name, u32 *id);
    /* args is a TUPLE. */
    lb_status (*call)(void *ctx, lb_pickle *p, u32 id, const lb_pv *args, lb_pv **out);
    lb_status (*persistent)(void *ctx, lb_pickle *p, const lb_pv *id, lb_pv **out);
} lb_pickle_ops;

/* Runs one pickle from where the cursor stands to behind its STOP. The values live in perm.
 * Errors: LB_E_FORMAT, LB_E_UNSUPPORTED, LB_E_LIMIT with c->path and byte; LB_E_NOMEM. */
lb_status lb_pickle_run(lb_cur *c, const lb_pickle_ops *ops, lb_arena *perm, lb_pv **out,
                        lb_err *err);

/* For the caller's functions. */
lb_pv *lb_pickle_new(lb_pickle *p, lb_pv_kind kind); /* NULL when out of memory */
lb_status lb_pickle_no_memory(lb_pickle *p);
/* "<path>: pickle, byte N: OPCODE <text>" with the status. */
lb_status lb_pickle_fail(lb_pickle *p, lb_status code, const char *fmt, ...) LB_PRINTF(3, 4);

#endif
