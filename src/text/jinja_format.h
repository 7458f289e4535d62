/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_format.h: one value in a field of a format. Internal to text/. */
#ifndef LB_TEXT_JINJA_FORMAT_H
#define LB_TEXT_JINJA_FORMAT_H

#include "text/jinja_run.h"

typedef struct lb_jspec {
    u32 fill;
    char align; /* '<' '>' '^' '=' */
    char sign;  /* '-' '+' ' ' */
    bool alternate, zero;
    i64 width, precision; /* precision -1: none */
    char grouping;        /* ',' '_' or 0 */
    char type;            /* 0: none */
} lb_jspec;

lb_status lb_jformat_str(lb_jbuf *b, lb_jval s, const lb_jspec *spec);
lb_status lb_jformat_int(lb_jbuf *b, lb_jval v, const lb_jspec *spec); /* b c d o x X n */
lb_status lb_jformat_float(lb_jbuf *b, double f, const lb_jspec *spec);
/* str (s), repr (r) or ascii (a). */
lb_status lb_jformat_text(lb_jx *x, lb_jval v, char how, lb_jval *out);

#endif
