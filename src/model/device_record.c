/* SPDX-License-Identifier: Apache-2.0 */
/* device_record.c: kernels of a batch as a recording of the device. What differs between two
 * batches of as many tokens lies in LB_DBUF_META and in buffers that stay where they are, so that
 * the same launches serve until attention is split otherwise: they are checked and handed over
 * once. The first batch of a kind runs without: a prompt's rest comes once. */
#include "base/os.h"
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

static lb_status record(lb_context *c, lb_dlaunches *launches, lb_drecord *to, lb_err *err) {
    lb_dev_queue *q = c->device->r->q;
    lb_dev_graph_free(&to->graph);
    LB_TRY(lb_dev_graph_begin(q, err));
    const lb_status st = launches(c, err);
    if (st == LB_OK)
        return lb_dev_graph_end(q, &to->graph, err);
    lb_dev_graph_cancel(q);
    return st;
}

/* The devices' kernels as C are for tests: that a recording is still what would be launched. */
static lb_status still_same(lb_context *c, lb_dlaunches *launches, const lb_drecord *r,
                            lb_err *err) {
    lb_drecord now = {0};
    LB_TRY(record(c, launches, &now, err));
    const bool same = lb_dev_graph_equal(now.graph, r->graph);
    lb_dev_graph_free(&now.graph);
    return same ? LB_OK
                : lb_fail(err, LB_E_FORMAT, "%s: a recording is not what the batch needs",
                          lb_resident_device(c->device->r)->id);
}

lb_status lb_device_replay(lb_context *c, lb_dlaunches *launches, lb_err *err) {
    lb_dcontext *d = c->device;
    lb_dev_queue *q = d->r->q;
    const lb_drecord_key key = key_of(c);
    if (!lb_dfew(c->n) || d->n_want > d->n_logits)
        return launches(c, err);
    d->n_records++;
    for (u32 i = 0; i < LB_DRECORDS; i++)
        if (d->record[i].graph && same_key(&d->record[i].key, &key)) {
            d->record[i].used = d->n_records;
            if (lb_resident_device(d->r)->kind == LB_DEV_CPU)
                LB_TRY(still_same(c, launches, &d->record[i], err));
            return lb_dev_graph_run(q, d->record[i].graph, err);
        }
    if (!same_key(&d->seen, &key)) {
        d->seen = key;
        return launches(c, err);
    }
    lb_drecord *r = oldest(d);
    LB_TRY(record(c, launches, r, err));
    r->key = key;
    r->used = d->n_records;
    return lb_dev_graph_run(q, r->graph, err);
}

void lb_device_forget(lb_dcontext *d) {
    for (u32 i = 0; i < LB_DRECORDS; i++)
        lb_dev_graph_free(&d->record[i].graph);
}
