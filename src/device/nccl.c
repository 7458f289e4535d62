/* SPDX-License-Identifier: Apache-2.0 */
/* nccl.c: see nccl.h. One process has all ranks: a call for each, in a group, so that none waits
 * for another that is still to come. Its streams are the driver's of the primary contexts, which it
 * shares. */
#include "device/nccl.h"
#include "device/backend.h"
#include "device/group.h"
#include <dlfcn.h>

typedef struct nccl_comm *nccl_comm;

enum { NCCL_OK = 0, NCCL_F32 = 7, NCCL_SUM = 0, NCCL_VERSION_MIN = 20400 };

#define FUNCTIONS(F)                                                 \
    F(ncclGetVersion, (int *version))                                \
    F(ncclCommInitAll, (nccl_comm * out, int n, const int *devices)) \
    F(ncclCommDestroy, (nccl_comm c))                                \
    F(ncclGroupStart, (void))                                        \
    F(ncclGroupEnd, (void))                                          \
    F(ncclAllReduce,                                                 \
      (const void *from, void *to, size_t n, int type, int op, nccl_comm c, void *stream))

struct lb_nccl {
    void *library;
    u32 n;
    lb_dev_queue *queue[LB_DEV_GROUP_MAX];
    nccl_comm comm[LB_DEV_GROUP_MAX];
#define F(name, args) int(*name) args;
    FUNCTIONS(F)
#undef F
};

static bool load(lb_nccl *n) {
#define F(name, args)                        \
    {                                        \
        void *at = dlsym(n->library, #name); \
        if (!at)                             \
            return false;                    \
        memcpy(&n->name, &at, sizeof at);    \
    }
    FUNCTIONS(F)
#undef F
    return true;
}

static lb_status start(lb_nccl *n, lb_err *err) {
    int version = 0, device[LB_DEV_GROUP_MAX];
    n->library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!n->library)
        return lb_fail(err, LB_E_NOT_FOUND, "nccl: there is no libnccl.so.2");
    if (!load(n) || n->ncclGetVersion(&version) != NCCL_OK || version < NCCL_VERSION_MIN)
        return lb_fail(err, LB_E_UNSUPPORTED, "nccl: version %d is too old", version);
    for (u32 i = 0; i < n->n; i++)
        device[i] = (int)n->queue[i]->dev->info.index;
    const int r = n->ncclCommInitAll(n->comm, (int)n->n, device);
    if (r != NCCL_OK) {
        memset(n->comm, 0, sizeof n->comm);
        return lb_fail(err, LB_E_UNSUPPORTED, "nccl: it does not start for %u GPUs (%d)", n->n, r);
    }
    return LB_OK;
}

lb_status lb_nccl_new(lb_nccl **out, lb_dev_queue *const *queue, u32 n, lb_err *err) {
    lb_nccl *c = lb_alloc_zero(1, sizeof *c);
    *out = NULL;
    if (!c)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a group of devices");
    c->n = n;
    memcpy(c->queue, queue, n * sizeof(lb_dev_queue *));
    const lb_status st = start(c, err);
    if (st == LB_OK)
        *out = c;
    else
        lb_nccl_free(&c);
    return st;
}

void lb_nccl_free(lb_nccl **out) {
    lb_nccl *n = *out;
    lb_err ignored;
    if (!n)
        return;
    for (u32 i = 0; i < n->n; i++)
        (void)lb_dev_queue_wait(n->queue[i], &ignored);
    for (u32 i = 0; i < n->n; i++)
        if (n->comm[i])
            (void)n->ncclCommDestroy(n->comm[i]);
    lb_free(n); /* the library stays: what it has started may outlive its communicators */
    *out = NULL;
}

static lb_status result(const lb_nccl *n, int r, lb_err *err) {
    return r == NCCL_OK ? LB_OK
                        : lb_fail(err, LB_E_IO, "nccl: a sum over %u GPUs failed (%d)", n->n, r);
}

lb_status lb_nccl_sum(lb_nccl *n, const lb_dev_arg *buf, u64 n_elems, lb_err *err) {
    int r = n->ncclGroupStart();
    for (u32 i = 0; i < n->n && r == NCCL_OK; i++) {
        void *at = (void *)(uintptr_t)(buf[i].buf->address + buf[i].off_bytes);
        lb_dev_submitted(n->queue[i], buf[i].buf, NULL);
        r = n->ncclAllReduce(at, at, (size_t)n_elems, NCCL_F32, NCCL_SUM, n->comm[i],
                             n->queue[i]->impl);
    }
    const int end = n->ncclGroupEnd();
    return result(n, r == NCCL_OK ? end : r, err);
}
