/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_builtin.h: the tables of filters, tests, methods and global functions. Internal to text/.
 */
#ifndef LB_TEXT_JINJA_BUILTIN_H
#define LB_TEXT_JINJA_BUILTIN_H

#include "text/jinja_value.h"

typedef struct lb_jtable {
    const lb_jdef *def;
    u32 n;
} lb_jtable;

/* NULL: there is none of that name. */
const lb_jdef *lb_jfilter_find(lb_str name);
const lb_jdef *lb_jtest_find(lb_str name);
extern const lb_jtable lb_jglobals;
/* A method of a value's type. *unsafe: one that the sandbox keeps back. */
const lb_jdef *lb_jmethod_find(lb_jval v, lb_str name, bool *unsafe);
const lb_jdef *lb_jdef_find(const lb_jdef *table, u32 n, lb_str name);

/* Parts of the tables, a file each. */
extern const lb_jtable lb_jfilters_text, lb_jfilters_list, lb_jfilters_other, lb_jmethods_str,
    lb_jmethods_dict, lb_jmethods_list, lb_jmethods_number;

/* A constant of the tree: its characters are counted at once. */
lb_status lb_jtree_str(lb_arena *perm, lb_str s, lb_jval *out, lb_err *err);

/* Arguments as Python takes them: an integer (not a float), a truth, text. */
lb_status lb_jarg_int(lb_jx *x, lb_jval v, i64 *out);
lb_status lb_jarg_str(lb_jx *x, lb_jval v, const char *what, lb_str *out);
static inline bool lb_jarg_given(lb_jval v) {
    return v.type != LB_JT_MISSING && v.type != LB_JT_NONE;
}
/* soft_str: strings as they are, others as str() makes them. */
lb_status lb_jarg_text(lb_jx *x, lb_jval v, lb_str *out);

/* str.replace: count below 0: all. */
lb_status lb_jstr_replace(lb_jx *x, lb_str s, lb_str old, lb_str with, i64 count, lb_jval *out);
/* Filled to a width; where: below 0 the text stands left, above right, 0 centred. */
void lb_jstr_pad(lb_jbuf *b, lb_jval s, i64 width, lb_str fill, int where);
/* The time of the render, with C's conversions. */
lb_status lb_jstrftime(lb_jx *x, lb_str format, lb_jval *out);
lb_status lb_jfilter_wordwrap(lb_jx *x, lb_jval self, const lb_jval *a, lb_jval *out);

#endif
