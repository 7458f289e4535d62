/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c: see pool.h. Free buffers of a class form a list through their first bytes. */
#include "plan/pool.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/thread.h"

#define MIN_SHIFT 12 /* 4 KiB */
#define N_CLASSES (2 * (48 - MIN_SHIFT))

typedef struct spare {
    struct spare *next;
} spare;

struct lb_pool {
    lb_mutex mutex;
    spare *free_list[N_CLASSES];
    u64 limit_bytes, held_bytes; /* held: taken from the system, in use or spare */
    lb_pool_stats stats;
};

/* Class 2i: 4 KiB << i; class 2i + 1: one and a half times that (from 8 KiB up: pages stay whole).
 */
static u64 class_bytes(u32 c) {
    u64 b = (u64)1 << (MIN_SHIFT + c / 2);
    return c % 2 ? (b < 8192 ? 2 * b : b + b / 2) : b;
}

static u32 class_of(u64 size_bytes) {
    u32 c = 0;
    while (c + 1 < N_CLASSES && class_bytes(c) < size_bytes)
        c++;
    return c;
}

u64 lb_pool_class(u64 size_bytes) {
    return class_bytes(class_of(size_bytes));
}

lb_status lb_pool_new(lb_pool **out, u64 limit_bytes, lb_err *err) {
    lb_pool *p = lb_alloc_zero(1, sizeof *p);
    if (!p)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the buffer pool");
    lb_mutex_init(&p->mutex);
    p->limit_bytes = limit_bytes;
    *out = p;
    return LB_OK;
}

static void drop(lb_pool *p, u32 c) {
    spare *s = p->free_list[c];
    p->free_list[c] = s->next;
    p->held_bytes -= class_bytes(c);
    lb_os_unmap(s, class_bytes(c));
}

/* Gives spare buffers back, the largest first, until `room` more bytes fit under the limit. */
static bool make_room(lb_pool *p, u64 room) {
    for (u32 c = N_CLASSES;
         c-- > 0 && room > p->limit_bytes - LB_MIN(p->held_bytes, p->limit_bytes);)
        while (p->free_list[c] && room > p->limit_bytes - LB_MIN(p->held_bytes, p->limit_bytes))
            drop(p, c);
    return p->held_bytes <= p->limit_bytes && room <= p->limit_bytes - p->held_bytes;
}

void *lb_pool_take(lb_pool *p, u64 size_bytes) {
    u32 c = class_of(size_bytes);
    u64 bytes = class_bytes(c);
    void *ptr = NULL;
    if (bytes < size_bytes)
        return NULL;
    lb_lock(&p->mutex);
    if (p->free_list[c]) {
        ptr = p->free_list[c];
        p->free_list[c] = p->free_list[c]->next;
        p->stats.reuses++;
    } else if (make_room(p, bytes) && (ptr = lb_os_map_anon(bytes)) != NULL) {
        p->stats.allocations++;
        p->held_bytes += bytes;
        p->stats.peak_bytes = LB_MAX(p->stats.peak_bytes, p->held_bytes);
    }
    if (ptr)
        p->stats.outstanding += bytes;
    lb_unlock(&p->mutex);
    return ptr;
}

void lb_pool_give(lb_pool *p, void *ptr, u64 size_bytes) {
    if (!ptr)
        return;
    u32 c = class_of(size_bytes);
    lb_lock(&p->mutex);
#ifdef LB_DEBUG_POISON
    memset(ptr, 0xdb, class_bytes(c));
#endif
    ((spare *)ptr)->next = p->free_list[c];
    p->free_list[c] = ptr;
    p->stats.outstanding -= class_bytes(c);
    lb_unlock(&p->mutex);
}

void lb_pool_read_stats(lb_pool *p, lb_pool_stats *out) {
    lb_lock(&p->mutex);
    *out = p->stats;
    lb_unlock(&p->mutex);
}

void lb_pool_free(lb_pool **pp) {
    lb_pool *p = *pp;
    if (!p)
        return;
    for (u32 c = 0; c < N_CLASSES; c++)
        while (p->free_list[c])
            drop(p, c);
    lb_mutex_deinit(&p->mutex);
    lb_free(p);
    *pp = NULL;
}
