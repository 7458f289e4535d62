/* SPDX-License-Identifier: Apache-2.0 */
/* libnccl.c: a stand-in for NVIDIA's NCCL beside that for its driver, whose streams it uses. A sum
 * takes place when all ranks of a group have been called, one a GPU; anything else is an error.
 *
 *   STUB_NCCL=none | old | noinit   no version, an old one, communicators that are not made
 *   STUB_NCCL_LOST=N                the N-th sum is an error */
#include "device/cuda_driver.h"
#include <stdlib.h>

#define LB_PUBLIC __attribute__((visibility("default")))
#define RANKS_MAX 16

enum { OK = 0, SYSTEM_ERROR = 2, INVALID_USAGE = 5, F32 = 7, SUM = 0 };

int stub_cuda_sum(const cu_stream *s, float *const *at, u32 n_ranks, size_t n);

typedef struct comm {
    u32 rank, n;
} comm;

static struct {
    u32 depth, n, of, seen;
    size_t elems;
    cu_stream stream[RANKS_MAX];
    float *at[RANKS_MAX];
} group;
static u32 n_sums;

static bool mode(const char *name) {
    const char *v = getenv("STUB_NCCL");
    return v && strcmp(v, name) == 0;
}

LB_PUBLIC int ncclGetVersion(int *version);
LB_PUBLIC int ncclGetVersion(int *version) {
    *version = mode("old") ? 2300 : 22105;
    return mode("none") ? SYSTEM_ERROR : OK;
}
LB_PUBLIC int ncclCommInitAll(comm **out, int n, const int *devices);
LB_PUBLIC int ncclCommInitAll(comm **out, int n, const int *devices) {
    n_sums = 0;
    if (mode("noinit") || n > RANKS_MAX)
        return SYSTEM_ERROR;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++)
            if (devices[k] == devices[i])
                return INVALID_USAGE;
        out[i] = calloc(1, sizeof **out);
        if (!out[i])
            return SYSTEM_ERROR;
        *out[i] = (comm){(u32)i, (u32)n};
    }
    return OK;
}
LB_PUBLIC int ncclCommDestroy(comm *c);
LB_PUBLIC int ncclCommDestroy(comm *c) {
    free(c);
    return OK;
}
LB_PUBLIC int ncclGroupStart(void);
LB_PUBLIC int ncclGroupStart(void) {
    if (group.depth++ == 0)
        group.n = group.seen = 0;
    return OK;
}
LB_PUBLIC int ncclAllReduce(const void *from, void *to, size_t n, int type, int op, comm *c,
                            cu_stream s);
LB_PUBLIC int ncclAllReduce(const void *from, void *to, size_t n, int type, int op, comm *c,
                            cu_stream s) {
    const char *lost = getenv("STUB_NCCL_LOST");
    if (!group.depth || from != to || type != F32 || op != SUM || group.seen & 1u << c->rank ||
        (group.n && n != group.elems))
        return INVALID_USAGE;
    if (lost && c->rank == 0 && (int)++n_sums == atoi(lost))
        return SYSTEM_ERROR;
    group.elems = n;
    group.of = c->n;
    group.seen |= 1u << c->rank;
    group.stream[c->rank] = s;
    group.at[c->rank] = to;
    group.n++;
    return OK;
}
LB_PUBLIC int ncclGroupEnd(void);
LB_PUBLIC int ncclGroupEnd(void) {
    if (--group.depth || group.n == 0)
        return OK;
    return group.n != group.of || stub_cuda_sum(group.stream, group.at, group.n, group.elems)
               ? INVALID_USAGE
               : OK;
}
