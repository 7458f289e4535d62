/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h: buffers of a run: size classes (powers of two and one and a half times), page-aligned,
 * under one hard limit. Freed buffers are kept for reuse and given back to the system when another
 * class needs the room. Thread-safe. */
#ifndef LB_PLAN_POOL_H
#define LB_PLAN_POOL_H

#include "base/base.h"

typedef struct lb_pool lb_pool;

typedef struct lb_pool_stats {
    u64 allocations; /* taken from the system */
    u64 reuses;      /* served from freed buffers */
    u64 peak_bytes;  /* most that was taken from the system at a time */
    u64 outstanding; /* bytes in use now */
} lb_pool_stats;

lb_status lb_pool_new(lb_pool **out, u64 limit_bytes, lb_err *err);
/* The size that a request really takes. */
u64 lb_pool_class(u64 size_bytes);
/* NULL when the limit (or the system) does not allow it now. Contents are undefined. */
void *lb_pool_take(lb_pool *p, u64 size_bytes);
void lb_pool_give(lb_pool *p, void *ptr, u64 size_bytes);
void lb_pool_read_stats(lb_pool *p, lb_pool_stats *out);
void lb_pool_free(lb_pool **p); /* everything must have been given back */

#endif
