/* SPDX-License-Identifier: Apache-2.0 */
/* device_parts.c: a model on several devices, or partly on the CPU: what is given from one part to
 * the next, and which layers each has. */
#include "base/mem.h"
#include "io/size.h"
#include "model/device_parts.h"

/* ---- a batch ---- */

/* Floats of a token's own inputs of layers, with the room behind them. */
static u32 inputs_stride(const lb_model *m) {
    return (m->p.n_layers + 1) * m->layer_in_dim;
}

static u64 stream_bytes(const lb_context *c) {
    return 4ull * c->n * c->m->p.n_embd;
}

static u64 inputs_bytes(const lb_context *c) {
    return c->m->layer_embd ? 4ull * c->n * inputs_stride(c->m) : 0;
}

lb_status lb_device_join(lb_context *c, lb_err *err) {
    const lb_model *m = c->m;
    const u64 b = c->o.n_batch;
    const u64 stream = 4 * b * m->p.n_embd;
    const u64 inputs = m->layer_embd ? 4 * b * inputs_stride(m) : 0;
    if (c->parts->r->n_ranks > 1)
        LB_TRY(lb_device_group(c, err));
    for (lb_dcontext *d = c->parts; d->next && !c->parts->group; d = d->next)
        LB_TRY(lb_dev_link_new(&d->link, d->r->q, d->next->r->q, LB_MAX(stream, inputs), err));
    c->device = c->parts;
    return c->device->r->embeds ? LB_OK
                                : lb_dev_buf_new(c->device->r->d, LB_DEV_HOST, stream + inputs,
                                                 &c->device->given, err);
}

lb_status lb_device_take_host(lb_context *c, lb_err *err) {
    const lb_dcontext *d = c->device;
    const u32 dim = c->m->p.n_layers * c->m->layer_in_dim, stride = inputs_stride(c->m);
    const u64 stream = stream_bytes(c);
    LB_TRY(lb_forward_begin(c, err));
    LB_TRY(lb_forward_layers(c, 0, d->r->first, err));
    u8 *host = lb_dev_buf_host(d->given);
    memcpy(host, c->x, stream);
    LB_TRY(lb_dev_queue_write(d->r->q, d->buf[LB_DBUF_X], 0, host, stream, err));
    if (!inputs_bytes(c))
        return LB_OK;
    host += stream;
    for (u32 t = 0; t < c->n; t++)
        memcpy(host + 4ull * t * stride, c->layer_in + (size_t)t * dim, 4ull * dim);
    return lb_dev_queue_write(d->r->q, d->buf[LB_DBUF_INPUTS], 0, host,
                              inputs_bytes(c) - 4ull * (stride - dim), err);
}

lb_status lb_device_hand_on(lb_context *c, lb_err *err) {
    const lb_dcontext *d = c->device, *next = d->next;
    static const lb_dbuf what[] = {LB_DBUF_X, LB_DBUF_INPUTS};
    const u64 bytes[] = {stream_bytes(c), inputs_bytes(c)};
    for (u32 i = 0; i < LB_LEN(what); i++)
        if (bytes[i])
            LB_TRY(lb_dev_link_copy(d->link, (lb_dev_arg){next->buf[what[i]], 0},
                                    (lb_dev_arg){d->buf[what[i]], 0}, bytes[i], err));
    c->device = d->next;
    return LB_OK;
}

lb_status lb_device_settle(lb_context *c, lb_err *err) {
    lb_status st = LB_OK;
    lb_err other;
    for (lb_dcontext *d = c->parts; d; d = d->next) {
        const lb_status now = lb_dev_queue_wait(d->r->q, st == LB_OK ? err : &other);
        st = st == LB_OK ? now : st;
    }
    c->device = c->parts;
    c->parts->n_flying = 0;
    return st;
}

/* ---- which layers lie where ---- */

/* Of a device's free memory: what the driver and sizes that are rounded up take. */
static u64 usable(const lb_resident_opts *o, u32 i) {
    const u64 free_bytes = lb_dev_info_get(o->devices[i])->free_bytes;
    const u64 budget = lb_dev_budget(o->devices[i]);
    const u64 rest = free_bytes - free_bytes / 32;
    return !budget ? rest : !rest ? budget : LB_MIN(rest, budget);
}

/* Layers that read the keys of an earlier one stay with it. */
static void find_whole(const lb_model *m, u8 *whole) {
    for (u32 i = 0; i < m->p.n_layers; i++) {
        const lb_layer_params *l = &m->p.layer[i];
        for (u32 k = l->kv_layer + 1; !l->recurrent && l->kv_layer < i && k <= i; k++)
            whole[k] = 1;
    }
}

static void tell(lb_resident_plan *out, const lb_placing_in *in, const u64 *weights,
                 const u64 *kv) {
    u32 d = 0;
    for (u32 i = 0; i < in->n_layers; i++) {
        out->all += in->layer_bytes[i];
        if (i < out->placing.n_host) {
            out->host_weights += weights[i];
            out->host_kv += kv[i];
            continue;
        }
        while (i >= out->placing.end[d])
            d++;
        out->kv[d] += kv[i];
    }
    for (d = 0; out->ranks && d < out->placing.n_devices; d++)
        out->kv[d] = out->kv[0] / (d ? 1 : out->placing.n_devices);
    out->all += in->first_bytes + in->last_bytes - in->both_bytes + in->fixed_bytes;
    for (d = 0; d < out->placing.n_devices; d++)
        out->weights[d] = out->placing.bytes[d] - out->kv[d] - out->buffers;
    if (out->placing.n_host)
        out->host_weights += in->first_bytes;
}

/* Every device an equal share of as many layers as are wanted and fit; the first one has the rest.
 */
static void share_layers(const lb_placing_in *in, const lb_resident_bytes_of *rest,
                         lb_placing *out) {
    const u32 most = LB_MIN(in->n_wanted, in->n_layers), n = in->n_devices;
    const u32 least = in->n_wanted == LB_NO_INDEX ? 1 : most;
    *out = (lb_placing){.n_host = in->n_layers};
    for (u32 want = most; want >= least && want > 0; want--) {
        const u32 first = in->n_layers - want;
        u64 each = in->fixed_bytes;
        bool fits = true;
        for (u32 i = first; i < in->n_layers; i++)
            each += in->layer_bytes[i] / n;
        for (u32 d = 0; d < n; d++) {
            const u64 more = first ? rest->output : rest->output + rest->embeddings - rest->shared;
            out->end[d] = in->n_layers;
            out->bytes[d] = d ? each : each + more;
            fits &= !in->free_bytes[d] || out->bytes[d] <= in->free_bytes[d];
        }
        if (fits) {
            out->n_host = first;
            out->n_devices = n;
            return;
        }
    }
}

/* What the layers' weights take, and what else there is. */
typedef struct costs {
    u64 *weights, *kv, *both, *free_bytes; /* [n_layers]; the last one of devices */
    u8 *whole;
    lb_resident_bytes_of rest;
} costs;

static lb_status plan_way(lb_resident_plan *out, const lb_resident_opts *o,
                          const lb_device_way *way, const costs *t, bool *tiles, lb_err *err) {
    const u32 n = way->m->p.n_layers;
    lb_device_needs needs;
    *out = (lb_resident_plan){.n_batch = way->n_batch, .no_tiles = way->no_tiles};
    LB_TRY(lb_device_room(way, &o->session, t->kv, &needs, err));
    out->buffers = needs.buffers;
    *tiles = needs.tiles;
    for (u32 i = 0; i < n; i++)
        t->both[i] = t->weights[i] + t->kv[i];
    const lb_placing_in in = {.n_layers = n,
                              .n_devices = o->n_devices,
                              .layer_bytes = t->both,
                              .whole = t->whole,
                              .first_bytes = t->rest.embeddings,
                              .last_bytes = t->rest.output,
                              .both_bytes = t->rest.shared,
                              .fixed_bytes = out->buffers + t->rest.constants,
                              .free_bytes = t->free_bytes,
                              .share = o->share,
                              .few = o->few,
                              .n_wanted = o->n_layers};
    out->ranks = o->ranks && o->n_devices > 1;
    if (out->ranks)
        share_layers(&in, &t->rest, &out->placing);
    else
        LB_TRY(lb_place(&in, &out->placing, err));
    tell(out, &in, t->weights, t->kv);
    return LB_OK;
}

/* Of what is free beside weights, keys and values: the most that buffers of large batches take. */
#define LARGE_SHARE 16u

/* Whether a plan of large batches is worth its memory. Several devices have a batch each under way
 * (device_flight.c): smaller ones keep them busier. Sums of what products read are f32's
 * (device_sums.c), of more terms in larger batches. */
static bool may_be_large(const lb_resident_plan *plan, const lb_resident_opts *o, const costs *t,
                         bool tiles) {
    const lb_placing *p = &plan->placing;
    const u64 free_bytes = t->free_bytes[0];
    return tiles && !o->session.sums && p->n_devices == 1 && !p->n_host && free_bytes &&
           plan->buffers <= (free_bytes - (p->bytes[0] - plan->buffers)) / LARGE_SHARE;
}

/* Large batches through tiles, unless fewer layers find room so. */
static lb_status plan(lb_resident_plan *out, const lb_model *m, const lb_resident_opts *o,
                      u64 *list, lb_err *err) {
    const u32 n = m->p.n_layers, host = n - LB_MIN(o->n_layers, n);
    costs t = {.weights = list, .kv = list + n, .both = list + 2 * n, .free_bytes = list + 3 * n};
    t.whole = (u8 *)(t.free_bytes + LB_PLACES_MAX);
    LB_TRY(lb_device_check(&o->session, lb_dev_info_get(o->devices[0]), err));
    LB_TRY(lb_resident_costs(m, o->devices[0], t.weights, &t.rest, err));
    if (o->ranks && o->n_devices > 1 && o->session.sums)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "--split-mode row: what products read is not added up on devices that share "
                       "them: use --split-mode layer");
    if (o->ranks && o->n_devices > 1)
        LB_TRY(lb_ranks_check(m, 0, o->n_devices, err));
    find_whole(m, t.whole);
    for (u32 i = 0; i < o->n_devices; i++)
        t.free_bytes[i] = usable(o, i);
    const u64 sums = t.rest.sums;
    const lb_device_way ways[] = {{m, o->devices[0], LB_DEV_BATCH_LARGE, false, sums},
                                  {m, o->devices[0], LB_DEV_BATCH_USUAL, false, sums},
                                  {m, o->devices[0], LB_DEV_BATCH_LEAST, false, sums},
                                  {m, o->devices[0], LB_DEV_BATCH_LEAST, true, sums}};
    for (u32 i = 0; i < LB_LEN(ways); i++) {
        bool tiles;
        LB_TRY(plan_way(out, o, &ways[i], &t, &tiles, err));
        if (out->placing.n_devices && out->placing.n_host <= host &&
            (ways[i].n_batch <= LB_DEV_BATCH_USUAL || may_be_large(out, o, &t, tiles)))
            break;
    }
    return LB_OK;
}

lb_status lb_resident_plan_make(lb_resident_plan *out, const lb_model *m, const lb_resident_opts *o,
                                lb_err *err) {
    u64 *list = lb_alloc_zero(4ull * m->p.n_layers + LB_PLACES_MAX, sizeof *list);
    *out = (lb_resident_plan){0};
    if (!list)
        return lb_fail(err, LB_E_NOMEM, "out of memory for placing layers");
    LB_ASSERT(o->n_devices > 0 && o->n_devices <= LB_PLACES_MAX);
    const lb_status st = plan(out, m, o, list, err);
    lb_free(list);
    return st;
}

lb_status lb_resident_new_planned(lb_resident **out, const lb_model *m, const lb_resident_opts *o,
                                  const lb_resident_plan *plan_of, lb_err *err) {
    const lb_placing *p = &plan_of->placing;
    lb_resident **at = out;
    lb_status st = LB_OK;
    u64 done = 0, total = 0;
    *out = NULL;
    for (u32 i = 0; i < p->n_devices; i++)
        total += plan_of->weights[i];
    for (u32 i = 0; i < p->n_devices && st == LB_OK; i++) {
        st = lb_resident_part(
            at,
            &(lb_part_in){.m = m,
                          .d = o->devices[i],
                          .first = i && !plan_of->ranks ? p->end[i - 1] : p->n_host,
                          .end = p->end[i],
                          .rank = plan_of->ranks ? i : 0,
                          .n_ranks = plan_of->ranks ? p->n_devices : 1,
                          .opts = o,
                          .done = done,
                          .total = total},
            err);
        done += plan_of->weights[i];
        if (st != LB_OK)
            break;
        (*at)->n_batch = plan_of->n_batch;
        (*at)->no_tiles = plan_of->no_tiles;
        at = &(*at)->next;
    }
    if (st != LB_OK)
        lb_resident_free(out);
    return st;
}
