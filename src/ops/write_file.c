/* SPDX-License-Identifier: Apache-2.0 */
/* write_file.c: the sink of models with a plan that has one file and no tensor. */
#include "ops/write_file.h"

static lb_sink_options sink_options(const lb_write_target *t) {
    return (lb_sink_options){.path = t->path, .force = t->force, .sync = !t->no_sync};
}

lb_status lb_write_check(const lb_write_target *t, lb_err *err) {
    lb_plan *plan = NULL;
    lb_sink_options so = sink_options(t);
    LB_TRY(lb_plan_new(&plan, t->inputs, t->n_inputs, err));
    lb_status st = lb_sink_check(plan, &so, err);
    lb_plan_free(&plan);
    return st;
}

lb_status lb_write_file(const lb_write_target *t, lb_sink_make make, void *ctx, lb_err *err) {
    lb_plan *plan = NULL;
    lb_sink *sink = NULL;
    lb_status st;
    lb_sink_options so = sink_options(t);
    lb_sink_head head = {.make = make, .ctx = ctx};
    LB_TRY(lb_plan_new(&plan, t->inputs, t->n_inputs, err));
    (void)lb_plan_file(plan, LB_STR_NONE, 0);
    if (plan->err.code != LB_OK)
        LB_TRY_DONE(st, lb_fail(err, LB_E_NOMEM, "out of memory for the output"));
    LB_TRY_DONE(st, lb_sink_open(&sink, plan, &so, err));
    LB_TRY_DONE(st, lb_sink_finish(sink, &(lb_sink_ending){.heads = &head}, err));
done:
    lb_sink_close(&sink, NULL);
    lb_plan_free(&plan);
    return st;
}
