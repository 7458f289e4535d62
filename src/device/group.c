/* SPDX-License-Identifier: Apache-2.0 */
/* group.c: see group.h. Without NCCL the first device adds up what the others send, in their order,
 * and sends the sum back: every device has the same bits. */
#include "device/group.h"
#include "device/backend.h"
#include "device/link.h"
#include "device/nccl.h"

struct lb_dev_group {
    u32 n;
    u64 max_elems;
    lb_nccl *nccl; /* NULL: links */
    lb_dev_queue *queue[LB_DEV_GROUP_MAX];
    lb_dev_link *in[LB_DEV_GROUP_MAX], *out[LB_DEV_GROUP_MAX]; /* to the first device, from it */
    lb_dev_buf *got;                                           /* of the first device */
};

static lb_status make(lb_dev_group *g, lb_err *err) {
    const u64 bytes = 4 * g->max_elems;
    lb_err why;
    for (u32 i = 1; i < g->n; i++) {
        LB_TRY(lb_dev_link_new(&g->in[i], g->queue[i], g->queue[0], bytes, err));
        LB_TRY(lb_dev_link_new(&g->out[i], g->queue[0], g->queue[i], bytes, err));
    }
    LB_TRY(lb_dev_buf_new(g->queue[0]->dev, LB_DEV_OWN, bytes, &g->got, err));
    if (g->queue[0]->dev->info.kind == LB_DEV_CUDA &&
        lb_nccl_new(&g->nccl, g->queue, g->n, &why) != LB_OK)
        g->nccl = NULL; /* it is not there, or not for these: links do it */
    return LB_OK;
}

lb_status lb_dev_group_new(lb_dev_group **out, lb_dev_queue *const *queue, u32 n, u64 max_elems,
                           lb_err *err) {
    lb_dev_group *g = lb_alloc_zero(1, sizeof *g);
    *out = NULL;
    if (!g)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a group of devices");
    LB_ASSERT(n > 0 && n <= LB_DEV_GROUP_MAX);
    g->n = n;
    g->max_elems = max_elems;
    memcpy(g->queue, queue, n * sizeof(lb_dev_queue *));
    const lb_status st = make(g, err);
    if (st == LB_OK)
        *out = g;
    else
        lb_dev_group_free(&g);
    return st;
}

void lb_dev_group_free(lb_dev_group **out) {
    lb_dev_group *g = *out;
    if (!g)
        return;
    lb_nccl_free(&g->nccl);
    for (u32 i = 0; i < g->n; i++) {
        lb_dev_link_free(&g->in[i]);
        lb_dev_link_free(&g->out[i]);
    }
    lb_dev_buf_free(&g->got);
    lb_free(g);
    *out = NULL;
}

static lb_status check(const lb_dev_group *g, const lb_dev_arg *buf, u64 n_elems, lb_err *err) {
    for (u32 i = 0; i < g->n; i++)
        if (n_elems > g->max_elems || !buf[i].buf || buf[i].buf->dev != g->queue[i]->dev ||
            buf[i].off_bytes > buf[i].buf->size_bytes ||
            4 * n_elems > buf[i].buf->size_bytes - buf[i].off_bytes)
            return lb_fail(err, LB_E_USAGE, "%s: a sum over devices of %llu values",
                           g->queue[i]->dev->info.id, (unsigned long long)n_elems);
    return LB_OK;
}

static lb_status add(const lb_dev_group *g, lb_dev_arg to, u64 n_elems, lb_err *err) {
    const lb_vec_args a = {
        .n_rows = 1, .n_cols = (u32)n_elems, .stride = (u32)n_elems, .times = 1, .scale = 1};
    LB_TRY(lb_dev_queue_barrier(g->queue[0], err));
    LB_TRY(lb_dev_queue_launch(g->queue[0],
                               &(lb_dev_launch){.kernel = LB_DK_residual,
                                                .buf = {{g->got, 0}, to},
                                                .n_bufs = 2,
                                                .val = &a,
                                                .val_bytes = sizeof a},
                               err));
    return lb_dev_queue_barrier(g->queue[0], err);
}

lb_status lb_dev_group_share(lb_dev_group *g, const lb_dev_arg *buf, u64 n_elems, lb_err *err) {
    LB_TRY(check(g, buf, n_elems, err));
    for (u32 i = 1; i < g->n; i++)
        LB_TRY(lb_dev_link_copy(g->out[i], buf[i], buf[0], 4 * n_elems, err));
    return LB_OK;
}

lb_status lb_dev_group_sum(lb_dev_group *g, const lb_dev_arg *buf, u64 n_elems, lb_err *err) {
    LB_TRY(check(g, buf, n_elems, err));
    if (g->nccl)
        return lb_nccl_sum(g->nccl, buf, n_elems, err);
    for (u32 i = 1; i < g->n; i++) {
        LB_TRY(lb_dev_link_copy(g->in[i], (lb_dev_arg){g->got, 0}, buf[i], 4 * n_elems, err));
        LB_TRY(add(g, buf[0], n_elems, err));
    }
    return lb_dev_group_share(g, buf, n_elems, err);
}

bool lb_dev_group_has_nccl(const lb_dev_group *g) {
    return g->nccl != NULL;
}
