/* SPDX-License-Identifier: Apache-2.0 */
/* device_sample.c: of the logits of a batch's last token what the sampler needs alone comes back
 * from a device: the first k in its order, and those of tokens that it names. */
#include "base/mem.h"
#include "model/device_layers.h"
#include "model/device_parts.h"
#include "model/sample_internal.h"

/* What comes back: keys as kern/sample.k makes them, then logits by name. */
typedef struct answer {
    u64 key[LB_DEV_TOP_MAX];
    float touched[LB_SAMPLE_TOUCHED_MAX];
} answer;

struct lb_dtop {
    lb_sample_need need;
    answer back; /* where the device does not write to pinned memory */
    u32 id[LB_DEV_TOP_MAX];
    float logit[LB_DEV_TOP_MAX];
};

u64 lb_device_top_bytes(void) {
    return sizeof(answer);
}

static u32 n_lists(const lb_context *c) {
    return (u32)lb_ceil_div_u64(c->m->p.n_vocab, LB_DEV_TOP_CHUNK);
}

/* Places in LB_DBUF_TOP: lists, those that are made of them, tokens by name, their logits. */
typedef struct places {
    u64 second, touched, logits, end;
} places;

static places places_of(const lb_context *c) {
    const u64 list = 8ull * LB_DEV_TOP_MAX, first = n_lists(c) * list;
    const u64 second = lb_ceil_div_u64(n_lists(c), LB_DEV_TOP_WAYS) * list;
    const u64 named = 4ull * LB_SAMPLE_TOUCHED_MAX;
    return (places){first, first + second, first + second + named, first + second + 2 * named};
}

u64 lb_device_top_room(const lb_context *c) {
    return places_of(c).end;
}

bool lb_context_can_choose(const lb_context *c, const lb_sample_need *need) {
    static const lb_dev_kernel kernels[] = {LB_DK_top_chunks, LB_DK_top_merge, LB_DK_top_take};
    const lb_dcontext *d = c->device ? c->parts : NULL;
    while (d && !d->r->ends)
        d = d->next;
    return d && need->k && need->k <= LB_DEV_TOP_MAX && need->n_touched <= LB_SAMPLE_TOUCHED_MAX &&
           lb_device_may(c, d, kernels, need->n_touched ? 3 : 2);
}

/* *at: where in LB_DBUF_TOP the list is that all have become. */
static lb_status merge(const lb_context *c, u32 k, u64 *at, lb_err *err) {
    const lb_dcontext *d = c->device;
    const lb_dev_arg x = lb_dbuf_arg(c, LB_DBUF_LOGITS);
    lb_dev_arg from = {d->buf[LB_DBUF_TOP], 0}, to = {d->buf[LB_DBUF_TOP], places_of(c).second};
    lb_top_args a = {.n_cols = c->m->p.n_vocab, .k = k, .n_lists = n_lists(c)};
    LB_TRY(lb_dlaunch(c, LB_DK_top_chunks, (lb_dev_arg[]){x, from}, &a, err));
    while (a.n_lists > 1) {
        LB_TRY(lb_dbarrier(c, err));
        LB_TRY(lb_dlaunch(c, LB_DK_top_merge, (lb_dev_arg[]){from, to}, &a, err));
        a.n_lists = (u32)lb_ceil_div_u64(a.n_lists, LB_DEV_TOP_WAYS);
        const lb_dev_arg other = from;
        from = to;
        to = other;
    }
    *at = from.off_bytes;
    return LB_OK;
}

static answer *answer_of(const lb_context *c) {
    float *row = lb_device_row(c); /* of pinned memory, with room for an answer */
    return row ? (answer *)(void *)row : &c->first->back;
}

lb_status lb_device_top(const lb_context *c, lb_err *err) {
    const lb_dcontext *d = c->device;
    const lb_sample_need *need = &c->first->need;
    const places p = places_of(c);
    lb_dev_buf *b = d->buf[LB_DBUF_TOP];
    answer *to = answer_of(c);
    u64 at;
    LB_TRY(lb_dbarrier(c, err));
    if (need->n_touched) {
        const lb_top_args a = {.n_cols = c->m->p.n_vocab, .k = need->n_touched};
        const lb_dev_arg buf[] = {lb_dbuf_arg(c, LB_DBUF_LOGITS), {b, p.touched}, {b, p.logits}};
        LB_TRY(lb_dev_queue_write(d->r->q, b, p.touched, need->touched, 4ull * a.k, err));
        LB_TRY(lb_dlaunch(c, LB_DK_top_take, buf, &a, err));
    }
    LB_TRY(merge(c, need->k, &at, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dev_queue_read(d->r->q, to->key, b, at, 8ull * need->k, err));
    return need->n_touched
               ? lb_dev_queue_read(d->r->q, to->touched, b, p.logits, 4ull * need->n_touched, err)
               : LB_OK;
}

lb_status lb_context_eval_top(lb_context *c, const lb_batch *b, const lb_sample_need *need,
                              lb_candidates *out, lb_err *err) {
    LB_ASSERT(lb_context_can_choose(c, need) && !b->want);
    lb_dtop *top = c->first ? c->first : lb_arena_new(&c->perm, lb_dtop, 1);
    if (!top)
        return lb_fail(err, LB_E_NOMEM, "out of memory for candidates");
    c->first = top;
    top->need = *need;
    c->firsts = true;
    const lb_status st = lb_context_eval(c, b, NULL, err);
    c->firsts = false;
    if (st != LB_OK)
        return st;
    const answer *from = answer_of(c);
    for (u32 i = 0; i < need->k; i++) {
        top->id[i] = (u32)from->key[i];
        top->logit[i] = lb_sample_key_logit(from->key[i]);
    }
    *out = (lb_candidates){need->k, top->id, top->logit, from->touched};
    return LB_OK;
}
