/* SPDX-License-Identifier: Apache-2.0 */
/* device_record.c: kernels of a batch as a recording of the device. What differs between two
 * batches of as many tokens lies in LB_DBUF_META and in buffers that stay where they are, so that
 * the same launches serve until attention is split otherwise: they are checked and handed over
 * once. The first batch of a kind runs without: a prompt's rest comes once. */
#include "base/mem.h"
#include "model/device_parts.h"

static lb_drecord_key key_of(const lb_context *c) {
    const lb_dcontext *d = c->device;
    return (lb_drecord_key){c->n, d->n_want, d->n_splits, d->split_rows, d->n_runs, d->temp};
}

static bool same_key(const lb_drecord_key *a, const lb_drecord_key *b) {
    return a->n == b->n && a->n_want == b->n_want && a->n_splits == b->n_splits &&
           a->split_rows == b->split_rows && a->n_runs == b->n_runs && a->temp == b->temp;
}

/* The place for a new one: that which has not been used for longest. */
static lb_drecord *oldest(lb_dcontext *d) {
    lb_drecord *o = &d->record[0];
    for (u32 i = 1; i < LB_DRECORDS; i++)
        if (d->record[i].used < o->used)
            o = &d->record[i];
    return o;
}

/* What is to be launched: all of a part, or a step of a rank. */
typedef struct work {
    lb_dlaunches *launches;
    lb_dstep *step_launches;
    u32 step;
} work;

static lb_status launch(lb_context *c, const work *w, lb_err *err) {
    return w->launches ? w->launches(c, err) : w->step_launches(c, w->step, err);
}

static lb_status record(lb_context *c, const work *w, lb_drecord *to, lb_err *err) {
    lb_dev_queue *q = c->device->r->q;
    lb_dev_graph_free(&to->graph);
    LB_TRY(lb_dev_graph_begin(q, err));
    const lb_status st = launch(c, w, err);
    if (st == LB_OK)
        return lb_dev_graph_end(q, &to->graph, err);
    lb_dev_graph_cancel(q);
    return st;
}

/* The devices' kernels as C are for tests: that a recording is still what would be launched. */
static lb_status still_same(lb_context *c, const work *w, const lb_drecord *r, lb_err *err) {
    lb_drecord now = {0};
    LB_TRY(record(c, w, &now, err));
    const bool same = lb_dev_graph_equal(now.graph, r->graph);
    lb_dev_graph_free(&now.graph);
    return same ? LB_OK
                : lb_fail(err, LB_E_FORMAT, "%s: a recording is not what the batch needs",
                          lb_resident_device(c->device->r)->id);
}

static lb_status run_again(lb_context *c, const work *w, lb_drecord *r, lb_err *err) {
    r->used = c->device->n_records;
    if (lb_resident_device(c->device->r)->kind == LB_DEV_CPU)
        LB_TRY(still_same(c, w, r, err));
    return lb_dev_graph_run(c->device->r->q, r->graph, err);
}

static lb_status run_first(lb_context *c, const work *w, lb_drecord *r, lb_err *err) {
    LB_TRY(record(c, w, r, err));
    r->key = key_of(c);
    r->used = c->device->n_records;
    return lb_dev_graph_run(c->device->r->q, r->graph, err);
}

static bool may_record(const lb_context *c) {
    return lb_dfew(c->n) && c->device->n_want <= c->device->n_logits;
}

bool lb_device_seen(lb_context *c) {
    lb_dcontext *d = c->device;
    const lb_drecord_key key = key_of(c);
    const bool same = same_key(&d->seen, &key);
    d->seen = key;
    return same;
}

lb_status lb_device_replay(lb_context *c, lb_dlaunches *launches, lb_err *err) {
    lb_dcontext *d = c->device;
    const lb_drecord_key key = key_of(c);
    const work w = {.launches = launches};
    if (!may_record(c))
        return launches(c, err);
    d->n_records++;
    for (u32 i = 0; i < LB_DRECORDS; i++)
        if (d->record[i].graph && same_key(&d->record[i].key, &key))
            return run_again(c, &w, &d->record[i], err);
    return lb_device_seen(c) ? run_first(c, &w, oldest(d), err) : launches(c, err);
}

lb_status lb_device_replay_step(lb_context *c, lb_dstep *launches, u32 step, bool again,
                                lb_err *err) {
    lb_dcontext *d = c->device;
    lb_drecord *r = &d->step[step];
    const lb_drecord_key key = key_of(c);
    const work w = {.step_launches = launches, .step = step};
    LB_ASSERT(step < d->n_steps);
    if (!may_record(c))
        return launches(c, step, err);
    if (r->graph && same_key(&r->key, &key))
        return run_again(c, &w, r, err);
    return again ? run_first(c, &w, r, err) : launches(c, step, err);
}

void lb_device_forget(lb_dcontext *d) {
    for (u32 i = 0; i < LB_DRECORDS; i++)
        lb_dev_graph_free(&d->record[i].graph);
    for (u32 i = 0; d->step && i < d->n_steps; i++)
        lb_dev_graph_free(&d->step[i].graph);
    lb_free(d->step);
    d->step = NULL;
}
