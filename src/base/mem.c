/* SPDX-License-Identifier: Apache-2.0 */
/* mem.c: heap blocks with fault injection, arenas, growable byte buffers.
 *
 * Mutable state: the allocation counters and the account, which are atomic; they serve fault tests,
 * budgets and reports and never change a result. Under AddressSanitizer what an arena has not
 * handed out is poisoned, so that a write beyond a pushed object is caught as if it had been a heap
 * block. */
#include "base/mem.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(__APPLE__)
#include <malloc/malloc.h>
#define BLOCK_BYTES(ptr) malloc_size(ptr)
#else
#include <malloc.h>
#define BLOCK_BYTES(ptr) malloc_usable_size(ptr)
#endif

#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#endif
#ifdef ASAN
#include <sanitizer/asan_interface.h>
#define POISON(ptr, len) ASAN_POISON_MEMORY_REGION(ptr, len)
#define UNPOISON(ptr, len) ASAN_UNPOISON_MEMORY_REGION(ptr, len)
#define RED_ZONE_BYTES 16
#else
#define POISON(ptr, len) ((void)0)
#define UNPOISON(ptr, len) ((void)0)
#define RED_ZONE_BYTES 0
#endif

/* ---- heap ---- */

static _Atomic u64 n_allocs;
static _Atomic u64 fail_at; /* value of n_allocs at which an allocation fails; 0: never */

/* Counts an allocation; false if this is the one that has to fail, or larger than any object can
 * be. */
static bool may_allocate(u64 size_bytes) {
    u64 n = atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed) + 1;
    u64 at = atomic_load_explicit(&fail_at, memory_order_relaxed);
    if (at == 0 || n != at)
        return size_bytes <= PTRDIFF_MAX;
    atomic_store_explicit(&fail_at, 0, memory_order_relaxed);
    return false;
}

/* ---- the account ---- */

static _Atomic u64 used_bytes, peak_bytes, limit_bytes;
static atomic_bool refused;

static bool within_limit(u64 size_bytes) {
    u64 limit = atomic_load_explicit(&limit_bytes, memory_order_relaxed);
    u64 now = atomic_load_explicit(&used_bytes, memory_order_relaxed);
    if (!limit || (now <= limit && size_bytes <= limit - now))
        return true;
    atomic_store_explicit(&refused, true, memory_order_relaxed);
    return false;
}

void lb_mem_peak_raise(u64 bytes) {
    u64 peak = atomic_load_explicit(&peak_bytes, memory_order_relaxed);
    while (bytes > peak &&
           !atomic_compare_exchange_weak_explicit(&peak_bytes, &peak, bytes, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

static void *enter(void *ptr) {
    if (!ptr)
        return NULL;
    u64 n = BLOCK_BYTES(ptr);
    u64 now = atomic_fetch_add_explicit(&used_bytes, n, memory_order_relaxed) + n;
    lb_mem_peak_raise(now);
    return ptr;
}

static void leave(u64 size_bytes) {
    atomic_fetch_sub_explicit(&used_bytes, size_bytes, memory_order_relaxed);
}

void lb_mem_limit(u64 bytes) {
    atomic_store_explicit(&limit_bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&refused, false, memory_order_relaxed);
}

u64 lb_mem_used(void) {
    return atomic_load_explicit(&used_bytes, memory_order_relaxed);
}

u64 lb_mem_peak(void) {
    return atomic_load_explicit(&peak_bytes, memory_order_relaxed);
}

u64 lb_mem_peak_reset(void) {
    return atomic_exchange_explicit(&peak_bytes, lb_mem_used(), memory_order_relaxed);
}

bool lb_mem_refused(void) {
    return atomic_load_explicit(&refused, memory_order_relaxed);
}

/* glibc raises its thresholds when a large block is freed: the next one would come from the heap,
 * which only shrinks from its end. */
void lb_mem_init(void) {
#ifdef M_MMAP_THRESHOLD
    (void)mallopt(M_MMAP_THRESHOLD, 128 << 10);
    (void)mallopt(M_TRIM_THRESHOLD, 128 << 10);
#endif
}

void *lb_alloc(size_t size_bytes) {
    bool ok = may_allocate(size_bytes) && within_limit(size_bytes);
    return ok ? enter(malloc(size_bytes ? size_bytes : 1)) : NULL;
}

void *lb_alloc_zero(size_t count, size_t size_bytes) {
    u64 bytes = UINT64_MAX;
    if (!lb_mul_u64(count, size_bytes, &bytes) || !may_allocate(bytes) || !within_limit(bytes))
        return NULL;
    return enter(bytes ? calloc(count, size_bytes) : calloc(1, 1));
}

void *lb_realloc(void *ptr, size_t size_bytes) {
    u64 old = ptr ? BLOCK_BYTES(ptr) : 0;
    if (!may_allocate(size_bytes) || (size_bytes > old && !within_limit(size_bytes - old)))
        return NULL;
    void *p = realloc(ptr, size_bytes ? size_bytes : 1);
    if (!p)
        return NULL;
    leave(old);
    return enter(p);
}

void lb_free(void *ptr) {
    if (ptr)
        leave(BLOCK_BYTES(ptr));
    free(ptr);
}

void lb_mem_fail_at(u64 n) {
    u64 now = atomic_load_explicit(&n_allocs, memory_order_relaxed);
    atomic_store_explicit(&fail_at, n ? now + n : 0, memory_order_relaxed);
}

u64 lb_mem_count(void) {
    return atomic_load_explicit(&n_allocs, memory_order_relaxed);
}

/* ---- arena ----
 * A chunk is [header][used ...][free ...]; chunks form a list, newest first. Chunks grow with the
 * arena (an eighth of its size, from 4 KiB to 1 MiB), so that at most that part is unused. */

struct lb_arena_chunk {
    lb_arena_chunk *prev;
    size_t cap, used; /* of data */
    alignas(max_align_t) u8 data[];
};

#define CHUNK_BYTES_MIN ((u64)4 << 10)
#define CHUNK_BYTES_MAX ((u64)1 << 20)

static void free_chunk(lb_arena_chunk *c) {
    UNPOISON(c->data, c->cap);
    lb_free(c);
}

/* Bytes to skip so that the next free byte is aligned. */
static size_t align_gap(const lb_arena_chunk *c, size_t align) {
    uintptr_t at = (uintptr_t)(c->data + c->used);
    return (size_t)(-at & (align - 1));
}

static u64 usual_bytes(u64 arena_bytes) {
    return LB_MIN(LB_MAX(arena_bytes / 8, CHUNK_BYTES_MIN), CHUNK_BYTES_MAX);
}

static lb_arena_chunk *new_chunk(lb_arena *a, u64 need) {
    u64 bytes, want = usual_bytes(a->size_bytes);
    if (!lb_add_u64(need, sizeof(lb_arena_chunk), &bytes))
        return NULL;
    if (a->max_bytes) {
        u64 left = a->max_bytes > a->size_bytes ? a->max_bytes - a->size_bytes : 0;
        if (bytes > left)
            return NULL;
        want = LB_MIN(want, left);
    }
    bytes = LB_MAX(bytes, want);
    lb_arena_chunk *c = bytes > SIZE_MAX ? NULL : lb_alloc((size_t)bytes);
    if (!c)
        return NULL;
    c->cap = (size_t)bytes - sizeof *c;
    c->used = 0;
    POISON(c->data, c->cap);
    a->size_bytes += bytes;
    /* The chunk with more room left is the one that is filled on. */
    if (a->last && a->last->cap - a->last->used > c->cap - (size_t)need) {
        c->prev = a->last->prev;
        a->last->prev = c;
    } else {
        c->prev = a->last;
        a->last = c;
    }
    return c;
}

void *lb_arena_push(lb_arena *a, size_t size_bytes, size_t align) {
    LB_ASSERT(align && (align & (align - 1)) == 0);
    lb_arena_chunk *c = a->last;
    u64 need;
    if (!lb_add_u64(size_bytes, align - 1 + RED_ZONE_BYTES, &need))
        return NULL;
    if (!c || need > c->cap - c->used)
        c = new_chunk(a, need);
    if (!c)
        return NULL;
    c->used += align_gap(c, align);
    u8 *p = c->data + c->used;
    c->used += size_bytes + RED_ZONE_BYTES;
    UNPOISON(p, size_bytes);
    return memset(p, 0, size_bytes);
}

void *lb_arena_push_array(lb_arena *a, u64 count, size_t size_bytes, size_t align) {
    u64 bytes;
    if (!lb_mul_u64(count, size_bytes, &bytes) || bytes > SIZE_MAX)
        return NULL;
    return lb_arena_push(a, (size_t)bytes, align);
}

void lb_arena_sum_push(lb_arena_sum *s, u64 size_bytes, size_t align) {
    u64 need, bytes;
    if (s->size_bytes == UINT64_MAX || !lb_add_u64(size_bytes, align - 1 + RED_ZONE_BYTES, &need) ||
        !lb_add_u64(need, sizeof(lb_arena_chunk), &bytes)) {
        s->size_bytes = UINT64_MAX;
        return;
    }
    if (need <= s->left_bytes) {
        s->left_bytes -= need;
        return;
    }
    bytes = LB_MAX(bytes, usual_bytes(s->size_bytes));
    s->left_bytes = LB_MAX(s->left_bytes, bytes - sizeof(lb_arena_chunk) - need);
    if (!lb_add_u64(s->size_bytes, bytes, &s->size_bytes))
        s->size_bytes = UINT64_MAX;
}

lb_str lb_arena_str(lb_arena *a, lb_str s) {
    char *p = s.len < SIZE_MAX ? lb_arena_push(a, s.len + 1, 1) : NULL;
    if (!p)
        return LB_STR_NONE;
    if (s.len)
        memcpy(p, s.ptr, s.len);
    return (lb_str){p, s.len};
}

lb_str lb_arena_printf(lb_arena *a, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : lb_arena_push(a, (size_t)n + 1, 1);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p ? (lb_str){p, (size_t)n} : LB_STR_NONE;
}

/* ---- blocks made elsewhere ---- */

struct lb_arena_block {
    struct lb_arena_block *prev;
    void *ptr;
};

bool lb_arena_keep(lb_arena *a, void *ptr, u64 size_bytes) {
    bool fits = !a->max_bytes ||
                (a->size_bytes <= a->max_bytes && size_bytes <= a->max_bytes - a->size_bytes);
    struct lb_arena_block *b = fits ? lb_arena_new(a, struct lb_arena_block, 1) : NULL;
    if (!b) {
        lb_free(ptr);
        return false;
    }
    *b = (struct lb_arena_block){a->blocks, ptr};
    a->blocks = b;
    a->size_bytes += size_bytes;
    return true;
}

static void free_blocks(lb_arena *a) {
    for (struct lb_arena_block *b = a->blocks; b; b = b->prev)
        lb_free(b->ptr);
    a->blocks = NULL;
}

/* Keeps the largest chunk: what an arena held once it will most likely hold again. */
void lb_arena_reset(lb_arena *a) {
    lb_arena_chunk *keep = NULL;
    free_blocks(a);
    for (lb_arena_chunk *c = a->last, *prev; c; c = prev) {
        prev = c->prev;
        if (!keep || c->cap > keep->cap) {
            if (keep)
                free_chunk(keep);
            keep = c;
        } else {
            free_chunk(c);
        }
    }
    a->last = keep;
    a->size_bytes = 0;
    if (keep) {
        keep->prev = NULL;
        keep->used = 0;
        POISON(keep->data, keep->cap);
        a->size_bytes = sizeof *keep + keep->cap;
    }
}

void lb_arena_deinit(lb_arena *a) {
    free_blocks(a);
    for (lb_arena_chunk *c = a->last, *prev; c; c = prev) {
        prev = c->prev;
        free_chunk(c);
    }
    a->last = NULL;
    a->size_bytes = 0;
}

/* ---- growable bytes ---- */

/* Makes room for len more bytes; on failure the buffer stays what it was and oom is set. */
bool lb_buf_reserve(lb_buf *b, size_t len) {
    if (b->oom)
        return false;
    if (len <= b->cap - b->len)
        return true;
    size_t cap = b->cap + b->cap / 2;
    if (len > SIZE_MAX - b->len) {
        b->oom = true;
        return false;
    }
    cap = LB_MAX(cap, b->len + len);
    cap = LB_MAX(cap, (size_t)64);
    u8 *p = lb_realloc(b->ptr, cap);
    if (!p) {
        b->oom = true;
        return false;
    }
    b->ptr = p;
    b->cap = cap;
    return true;
}

void lb_buf_put(lb_buf *b, const void *ptr, size_t len) {
    if (len == 0 || !lb_buf_reserve(b, len))
        return;
    memcpy(b->ptr + b->len, ptr, len);
    b->len += len;
}

void lb_buf_put_str(lb_buf *b, lb_str s) {
    lb_buf_put(b, s.ptr, s.len);
}

void lb_buf_put_c(lb_buf *b, const char *s) {
    lb_buf_put(b, s, strlen(s));
}

void lb_buf_put_u8(lb_buf *b, u8 v) {
    if (b->len < b->cap && !b->oom)
        b->ptr[b->len++] = v;
    else
        lb_buf_put(b, &v, sizeof v);
}

void lb_buf_put_u32(lb_buf *b, u32 v) {
    lb_buf_put(b, &v, sizeof v);
}

void lb_buf_put_u64(lb_buf *b, u64 v) {
    lb_buf_put(b, &v, sizeof v);
}

void lb_buf_put_dec(lb_buf *b, u64 v) {
    char digits[20];
    size_t n = sizeof digits;
    do {
        digits[--n] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    lb_buf_put(b, digits + n, sizeof digits - n);
}

void lb_buf_put_run(lb_buf *b, u8 v, size_t n) {
    if (n == 0 || !lb_buf_reserve(b, n))
        return;
    memset(b->ptr + b->len, v, n);
    b->len += n;
}

void lb_buf_put_zeros(lb_buf *b, size_t n) {
    lb_buf_put_run(b, 0, n);
}

void lb_buf_printf(lb_buf *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->oom = true;
    } else if (lb_buf_reserve(b, (size_t)n + 1)) { /* vsnprintf writes a NUL behind */
        vsnprintf((char *)b->ptr + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

lb_status lb_buf_status(const lb_buf *b, lb_err *err) {
    if (!b->oom)
        return LB_OK;
    return lb_fail(err, LB_E_NOMEM, "out of memory: a buffer of %zu bytes could not grow", b->len);
}

void lb_buf_reset(lb_buf *b) {
    b->len = 0;
    b->oom = false;
}

void lb_buf_deinit(lb_buf *b) {
    lb_free(b->ptr);
    *b = (lb_buf){0};
}
