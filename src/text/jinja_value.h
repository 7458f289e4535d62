/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_value.h: the values of a template while it renders: Python's, as far as a sandbox shows
 * them. Internal to text/.
 *
 * All memory is the render's arena, which is bounded (lb_jx_alloc); nothing is freed before the
 * render ends. Values are immutable, but for namespaces, loops, cyclers and iterators. Text is
 * UTF-8; indices and lengths that a template sees count code points, as in Python. Lone surrogates
 * are three bytes, as io/json.h reads them. */
#ifndef LB_TEXT_JINJA_VALUE_H
#define LB_TEXT_JINJA_VALUE_H

#include "base/base.h"
#include "base/mem.h"

typedef enum lb_jtype {
    LB_JT_MISSING, /* not a value: a slot that was not set, an argument that was not given */
    LB_JT_UNDEF,
    LB_JT_NONE,
    LB_JT_BOOL,
    LB_JT_INT,
    LB_JT_BIG, /* an integer beyond 64 bits: its digits; can be printed and compared, no more */
    LB_JT_FLOAT,
    LB_JT_STR,
    LB_JT_LIST,
    LB_JT_TUPLE,
    LB_JT_DICT,
    LB_JT_VIEW, /* keys(), values(), items() of a dict */
    LB_JT_RANGE,
    LB_JT_ITER, /* a generator: can be walked once */
    LB_JT_NS,
    LB_JT_MACRO,
    LB_JT_FUNC, /* a global function, or a method with its object */
    LB_JT_LOOP,
    LB_JT_CYCLER,
    LB_JT_JOINER,
    LB_JT_GROUP /* a pair that groupby makes: a tuple with names */
} lb_jtype;

typedef struct lb_jx lb_jx;
typedef struct lb_jval lb_jval;
typedef struct lb_jdict lb_jdict;
typedef struct lb_jiter lb_jiter;
typedef struct lb_jloop lb_jloop;
typedef struct lb_jmacro lb_jmacro;

#define LB_JSTR_UNCOUNTED UINT32_MAX

typedef struct lb_jstr {
    const char *ptr;
    u32 len;             /* bytes */
    u32 n;               /* code points; LB_JSTR_UNCOUNTED */
    struct lb_jcat *cat; /* where text may be appended in place; NULL */
} lb_jstr;

typedef struct lb_jlist {
    lb_jval *item;
    u32 n, cap;
} lb_jlist;

typedef struct lb_jrange {
    i64 start, stop, step, n;
} lb_jrange;

struct lb_jval {
    u8 type;   /* lb_jtype */
    bool safe; /* LB_JT_STR: Markup; it escapes what is added to it */
    union {
        bool b;
        i64 i;
        double f;
        lb_jstr *s;
        lb_jlist *list; /* LIST, TUPLE, GROUP */
        lb_jdict *dict; /* DICT, NS */
        struct lb_jundef *undef;
        struct lb_jview *view;
        lb_jrange *range;
        lb_jiter *iter;
        lb_jmacro *macro;
        struct lb_jfunc *func;
        lb_jloop *loop;
        struct lb_jcycler *cycler;
        struct lb_jjoiner *joiner;
    } u;
};

typedef struct lb_jpair {
    lb_jval key, value;
    u64 hash;
} lb_jpair;

struct lb_jdict {
    lb_jpair *pair; /* in the order of insertion */
    u32 n, cap;
    u32 *index; /* [mask + 1] place + 1 in pair; NULL while the dict is small */
    u32 mask;
};

typedef struct lb_jundef {
    lb_jval obj, name; /* obj MISSING: a variable */
    lb_str hint;       /* the message, where there is one */
    bool unsafe;       /* the sandbox keeps it back */
} lb_jundef;

typedef enum lb_jview_kind { LB_JVIEW_KEYS, LB_JVIEW_VALUES, LB_JVIEW_ITEMS } lb_jview_kind;
typedef struct lb_jview {
    lb_jdict *dict;
    lb_jview_kind kind;
} lb_jview;

typedef struct lb_jcycler {
    lb_jlist *items;
    u32 pos;
} lb_jcycler;

typedef struct lb_jjoiner {
    lb_jval sep;
    bool used;
} lb_jjoiner;

/* Arguments of a call, evaluated. */
typedef struct lb_jargs {
    const lb_jval *pos;
    u32 n;
    lb_jdict *kw; /* NULL: none */
} lb_jargs;

/* A function's arguments stand in a[], one for each name of its signature; MISSING: not given. */
typedef lb_status (*lb_jfn)(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out);
typedef lb_status (*lb_jfn_raw)(lb_jx *x, lb_jval self, const lb_jargs *args, lb_jval *out);

#define LB_JDEF_ARGS 6
/* A row of a table of filters, tests, methods or globals. */
typedef struct lb_jdef {
    const char *name;
    lb_jfn fn;       /* NULL: raw */
    lb_jfn_raw raw;  /* both NULL: known, but not supported */
    const char *sig; /* "width first": names of its arguments */
    u8 n_required;
    bool pos_only; /* arguments have no names */
} lb_jdef;

typedef struct lb_jfunc {
    const lb_jdef *def;
    lb_jval self;
} lb_jfunc;

/* ---- making ---- */

static inline lb_jval lb_jv_none(void) {
    return (lb_jval){.type = LB_JT_NONE};
}
static inline lb_jval lb_jv_bool(bool b) {
    return (lb_jval){.type = LB_JT_BOOL, .u.b = b};
}
static inline lb_jval lb_jv_int(i64 i) {
    return (lb_jval){.type = LB_JT_INT, .u.i = i};
}
static inline lb_jval lb_jv_float(double f) {
    return (lb_jval){.type = LB_JT_FLOAT, .u.f = f};
}
static inline lb_jval lb_jv_list(lb_jlist *l) {
    return (lb_jval){.type = LB_JT_LIST, .u.list = l};
}
static inline lb_jval lb_jv_tuple(lb_jlist *l) {
    return (lb_jval){.type = LB_JT_TUPLE, .u.list = l};
}
static inline lb_jval lb_jv_dict(lb_jdict *d) {
    return (lb_jval){.type = LB_JT_DICT, .u.dict = d};
}
static inline bool lb_jv_is_list(lb_jval v) {
    return v.type == LB_JT_LIST || v.type == LB_JT_TUPLE || v.type == LB_JT_GROUP;
}
static inline lb_str lb_jv_text(lb_jval v) { /* of LB_JT_STR and LB_JT_BIG */
    return (lb_str){v.u.s->ptr, v.u.s->len};
}

/* Text that lives as long as the render: not copied. */
lb_status lb_jv_view(lb_jx *x, lb_str s, lb_jval *out);
lb_status lb_jv_str(lb_jx *x, lb_str s, lb_jval *out); /* copied */
lb_status lb_jv_str_c(lb_jx *x, const char *s, lb_jval *out);
/* a then b; appends to a's memory where a was the last to be made there. */
lb_status lb_jv_concat(lb_jx *x, lb_jval a, lb_str b, lb_jval *out);
u32 lb_jv_chars(lb_jval s);                /* code points of a string */
lb_jlist *lb_jlist_new(lb_jx *x, u64 cap); /* NULL: x's error is set */
lb_status lb_jlist_push(lb_jx *x, lb_jlist *l, lb_jval v);
lb_status lb_jv_pair(lb_jx *x, lb_jval a, lb_jval b, lb_jval *out); /* a tuple of two */
lb_status lb_jv_view_of(lb_jx *x, lb_jdict *d, lb_jview_kind kind, lb_jval *out);
lb_status lb_jv_undef(lb_jx *x, lb_jval obj, lb_jval name, lb_jval *out);
lb_status lb_jv_undef_hint(lb_jx *x, const char *hint, lb_jval *out);

lb_jdict *lb_jdict_new(lb_jx *x);
/* LB_E_FORMAT: the key can't be hashed. */
lb_status lb_jdict_set(lb_jx *x, lb_jdict *d, lb_jval key, lb_jval value);
lb_status lb_jdict_set_c(lb_jx *x, lb_jdict *d, const char *key, lb_jval value);
/* NULL: not there, or a key that can't be hashed. */
lb_jval *lb_jdict_find(lb_jx *x, const lb_jdict *d, lb_jval key);
lb_jval *lb_jdict_find_str(const lb_jdict *d, lb_str key);

/* ---- what they are ---- */

bool lb_jv_true(lb_jval v);
const char *lb_jv_type_name(lb_jval v);
bool lb_jv_hashable(lb_jval v);
/* *out: whether they are equal, as Python's ==. Fails on depth or steps only. */
lb_status lb_jv_equal(lb_jx *x, lb_jval a, lb_jval b, bool *out);
/* *out: below 0, 0, above 0; nan: 2. op names the comparison in errors ("<"). */
lb_status lb_jv_compare(lb_jx *x, lb_jval a, lb_jval b, const char *op, int *out);
bool lb_jv_is_number(lb_jval v);        /* bool, int, float */
bool lb_jv_as_int(lb_jval v, i64 *out); /* bool and int */
double lb_jv_as_float(lb_jval v);       /* of a number */
bool lb_jv_len(lb_jval v, u64 *n);      /* false: it has none */

/* ---- as text ---- */

/* A buffer that gives up at the render's limit of a string's length. */
typedef struct lb_jbuf {
    lb_jx *x;
    lb_buf b;
    bool over;
} lb_jbuf;

void lb_jbuf_put(lb_jbuf *b, lb_str s);
void lb_jbuf_put_c(lb_jbuf *b, const char *s);
void lb_jbuf_put_cp(lb_jbuf *b, u32 cp);
void lb_jbuf_fill(lb_jbuf *b, lb_str s, i64 n); /* n times */
/* The text becomes a value; frees the buffer in any case. */
lb_status lb_jbuf_end(lb_jbuf *b, lb_jval *out);
void lb_jbuf_drop(lb_jbuf *b);

lb_status lb_jv_put_str(lb_jbuf *b, lb_jval v);  /* str() */
lb_status lb_jv_put_repr(lb_jbuf *b, lb_jval v); /* repr() */
lb_status lb_jv_to_str(lb_jx *x, lb_jval v, lb_jval *out);
void lb_jv_put_float(lb_jbuf *b, double f);

#endif
