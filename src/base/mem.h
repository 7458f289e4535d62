/* SPDX-License-Identifier: Apache-2.0 */
/* mem.h: the only place that calls malloc. Heap blocks, arenas and growable byte buffers.
 *
 * Every allocation can fail and says so; tests make the n-th one fail (lb_mem_fail_at).
 * An arena is named by its lifetime (perm, file, scratch); what it holds is freed all at once. */
#ifndef LB_BASE_MEM_H
#define LB_BASE_MEM_H

#include "base/base.h"

/* ---- heap ---- */

void *lb_alloc(size_t size_bytes);                    /* uninitialised; NULL when out of memory */
void *lb_alloc_zero(size_t count, size_t size_bytes); /* product checked */
void *lb_realloc(void *ptr, size_t size_bytes);       /* NULL leaves ptr valid */
void lb_free(void *ptr);                              /* NULL is fine */
/* Tests only: the n-th allocation from now (1 = next) fails, once; 0 turns it off. */
void lb_mem_fail_at(u64 n);
u64 lb_mem_count(void); /* allocations so far */

/* The account of the process: bytes of all heap blocks that stand. With a limit an allocation
 * beyond it fails as if memory were out, and lb_mem_refused tells of it. */
void lb_mem_limit(u64 bytes); /* 0: none (the default) */
u64 lb_mem_used(void);
u64 lb_mem_peak(void); /* the most since the start or lb_mem_peak_reset */
/* Returns the peak until now; lb_mem_peak_raise puts it back when a part was measured. */
u64 lb_mem_peak_reset(void);
void lb_mem_peak_raise(u64 bytes);
bool lb_mem_refused(void); /* whether the limit made an allocation fail */
/* Blocks come from the system and go back to it, also when others were made after them; for a
 * program's start. */
void lb_mem_init(void);

/* ---- arena: chunks from the heap, all freed by deinit; zero-initialised is an empty arena ---- */

typedef struct lb_arena_chunk lb_arena_chunk;
typedef struct lb_arena {
    lb_arena_chunk *last;
    struct lb_arena_block *blocks; /* of lb_arena_keep */
    u64 size_bytes;                /* of all chunks and blocks */
    u64 max_bytes;                 /* 0: no limit; else a push beyond it fails */
} lb_arena;

void *lb_arena_push(lb_arena *a, size_t size_bytes,
                    size_t align); /* zeroed; NULL when out of memory */
#define lb_arena_new(a, type, count) \
    ((type *)lb_arena_push_array((a), (count), sizeof(type), _Alignof(type)))
void *lb_arena_push_array(lb_arena *a, u64 count, size_t size_bytes,
                          size_t align); /* product checked */
/* Copies; the copy is NUL-terminated beyond its length. ptr is NULL when out of memory. */
lb_str lb_arena_str(lb_arena *a, lb_str s);
/* What an arena takes for the same pushes, without memory; starts as zero. size_bytes UINT64_MAX:
 * beyond what can be said. */
typedef struct lb_arena_sum {
    u64 size_bytes, left_bytes;
} lb_arena_sum;
void lb_arena_sum_push(lb_arena_sum *s, u64 size_bytes, size_t align);
lb_str lb_arena_printf(lb_arena *a, const char *fmt, ...) LB_PRINTF(2, 3);
/* A block of the heap is the arena's from now on: freed with it. False when out of memory or beyond
 * max_bytes: it is freed at once. */
bool lb_arena_keep(lb_arena *a, void *ptr, u64 size_bytes);
void lb_arena_reset(lb_arena *a); /* keeps one chunk */
void lb_arena_deinit(lb_arena *a);

/* ---- growable bytes; zero-initialised is empty. A failed append is remembered (oom) so that a
 *      writer checks once at its end: lb_buf_status ---- */

typedef struct lb_buf {
    u8 *ptr;
    size_t len, cap;
    bool oom;
} lb_buf;

bool lb_buf_reserve(lb_buf *b, size_t len); /* room for len more bytes; false: oom is set */
void lb_buf_put(lb_buf *b, const void *ptr, size_t len);
void lb_buf_put_str(lb_buf *b, lb_str s);
void lb_buf_put_c(lb_buf *b, const char *s);
void lb_buf_put_u8(lb_buf *b, u8 v);
void lb_buf_put_u32(lb_buf *b, u32 v);
void lb_buf_put_u64(lb_buf *b, u64 v);
void lb_buf_put_dec(lb_buf *b, u64 v);          /* decimal digits */
void lb_buf_put_run(lb_buf *b, u8 v, size_t n); /* n bytes v */
void lb_buf_put_zeros(lb_buf *b, size_t n);
void lb_buf_printf(lb_buf *b, const char *fmt, ...) LB_PRINTF(2, 3);
lb_status lb_buf_status(const lb_buf *b, lb_err *err); /* LB_E_NOMEM if an append failed */
static inline lb_str lb_buf_str(const lb_buf *b) {
    return (lb_str){(const char *)b->ptr, b->len};
}
void lb_buf_reset(lb_buf *b); /* len = 0, keeps memory */
void lb_buf_deinit(lb_buf *b);

/* ---- hash map: string -> u64, insertion only; keys are not copied. Zero-initialised is empty.
 *      Hashing is seeded per process, so that a hostile file cannot choose collisions ---- */

typedef struct lb_map {
    struct lb_map_slot *slots;
    u64 n, cap;
} lb_map;

/* Adds key -> value. *existed (may be NULL) tells that the key was there; its value is then
 * left. */
lb_status lb_map_put(lb_map *m, lb_str key, u64 value, bool *existed, lb_err *err);
bool lb_map_find(const lb_map *m, lb_str key, u64 *value); /* value may be NULL */
void lb_map_deinit(lb_map *m);
u64 lb_map_hash(lb_str key); /* of this process: other tables may use it */

#endif
