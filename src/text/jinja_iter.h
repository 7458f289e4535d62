/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_iter.h: what an iterator holds. Internal to text/. */
#ifndef LB_TEXT_JINJA_ITER_H
#define LB_TEXT_JINJA_ITER_H

#include "text/jinja_run.h"

struct lb_jiter {
    lb_jval source; /* a sequence */
    u64 pos;        /* in it; bytes of a string */
    /* generators */
    bool is_gen, started, done;
    lb_jgen_opts o;
    lb_jiter *inner;
    lb_jdict *seen;
    lb_jlist *list;
    lb_jval held;
    /* of a loop's own test */
    const lb_jnode *node;
    lb_jact *act;
};

/* The value goes to a name, a namespace's attribute or the names of a tuple. */
lb_status lb_jassign(lb_jx *x, lb_jact *act, const lb_jnode *target, lb_jval v);

#endif
