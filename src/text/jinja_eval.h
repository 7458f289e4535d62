/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_eval.h: between expressions and statements. Internal to text/. */
#ifndef LB_TEXT_JINJA_EVAL_H
#define LB_TEXT_JINJA_EVAL_H

#include "text/jinja_run.h"

/* A CALL; caller: what its keyword argument `caller` is, or NULL. */
lb_status lb_jeval_call(lb_jx *x, lb_jact *act, const lb_jnode *n, const lb_jval *caller,
                        lb_jval *out);

#endif
