/* SPDX-License-Identifier: Apache-2.0 */
/* texts.c: see texts.h. */
#include "base/texts.h"

#define VARINT_MAX 5

static lb_status no_memory(const lb_texts *t, lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory: a list of %llu strings could not grow",
                   (unsigned long long)t->n);
}

lb_status lb_texts_resize(lb_texts *t, u64 n, lb_err *err) {
    if (n > UINT32_MAX)
        return lb_fail(err, LB_E_LIMIT, "%llu strings in a list: at most 2^32 are taken",
                       (unsigned long long)n);
    if (n > t->cap) {
        u64 cap = LB_MAX(n, t->cap + t->cap / 2);
        u32 *at = lb_realloc(t->at, (size_t)LB_MAX(cap, (u64)16) * sizeof *at);
        if (!at)
            return no_memory(t, err);
        t->at = at;
        t->cap = LB_MAX(cap, (u64)16);
    }
    if (n > t->n)
        memset(t->at + t->n, 0, (size_t)(n - t->n) * sizeof *t->at);
    t->n = n;
    return LB_OK;
}

lb_status lb_texts_reserve(lb_texts *t, u64 n, u64 bytes, lb_err *err) {
    u64 was = t->n;
    LB_TRY(lb_texts_resize(t, LB_MAX(n, was), err));
    t->n = was;
    return lb_buf_reserve(&t->pool, (size_t)LB_MIN(bytes, (u64)UINT32_MAX)) ? LB_OK
                                                                            : no_memory(t, err);
}

/* Room for a string of len bytes behind its length; its place. NULL: out of memory or too much. */
static u8 *make_room(lb_texts *t, u64 len, u32 *ref, lb_err *err) {
    if (len > UINT32_MAX - VARINT_MAX - 1 || t->pool.len > UINT32_MAX - VARINT_MAX - 1 - len) {
        (void)lb_fail(err, LB_E_LIMIT, "a list of strings of more than 4 GiB");
        return NULL;
    }
    if (!lb_buf_reserve(&t->pool, (size_t)len + VARINT_MAX + 1)) {
        (void)no_memory(t, err);
        return NULL;
    }
    if (t->pool.len == 0)
        t->pool.ptr[t->pool.len++] = 0;
    *ref = (u32)t->pool.len;
    for (u64 v = len; v > 0x7f; v >>= 7)
        t->pool.ptr[t->pool.len++] = (u8)(v | 0x80);
    u64 high = len;
    while (high > 0x7f)
        high >>= 7;
    t->pool.ptr[t->pool.len++] = (u8)high;
    u8 *p = t->pool.ptr + t->pool.len;
    t->pool.len += (size_t)len;
    return p;
}

lb_status lb_texts_put(lb_texts *t, lb_str s, u32 *ref, lb_err *err) {
    lb_err own = {0};
    u8 *p = make_room(t, s.len, ref, err ? err : &own);
    if (!p)
        return err ? err->code : own.code;
    if (s.len)
        memcpy(p, s.ptr, s.len);
    return LB_OK;
}

u8 *lb_texts_push(lb_texts *t, u64 len, lb_err *err) {
    u32 ref;
    if (lb_texts_resize(t, t->n + 1, err) != LB_OK)
        return NULL;
    u8 *p = make_room(t, len, &ref, err);
    if (p)
        t->at[t->n - 1] = ref;
    return p;
}

lb_status lb_texts_set(lb_texts *t, u64 i, lb_str s, lb_err *err) {
    u32 ref;
    LB_TRY(lb_texts_put(t, s, &ref, err));
    if (i >= t->n)
        LB_TRY(lb_texts_resize(t, i + 1, err));
    t->at[i] = ref;
    return LB_OK;
}

lb_status lb_texts_add(lb_texts *t, lb_str s, lb_err *err) {
    return lb_texts_set(t, t->n, s, err);
}

void lb_texts_unset(lb_texts *t, u64 i) {
    t->at[i] = 0;
}

lb_str lb_texts_at(const lb_texts *t, u32 ref) {
    const u8 *p = t->pool.ptr + ref;
    size_t len = *p & 0x7f;
    for (u32 shift = 7; *p++ & 0x80; shift += 7)
        len |= (size_t)(*p & 0x7f) << shift;
    return (lb_str){(const char *)p, len};
}

lb_status lb_texts_copy(lb_texts *out, const lb_texts *t, lb_err *err) {
    *out = (lb_texts){0};
    lb_status st = lb_texts_resize(out, t->n, err);
    lb_buf_put(&out->pool, t->pool.ptr, t->pool.len);
    if (st == LB_OK)
        st = lb_buf_status(&out->pool, err);
    if (st != LB_OK)
        lb_texts_deinit(out);
    else if (t->n)
        memcpy(out->at, t->at, (size_t)t->n * sizeof *out->at);
    return st;
}

/* Gives a block of which len bytes are used to the arena. */
static bool keep_block(lb_arena *perm, void **block, u64 len) {
    void *cut = lb_realloc(*block, (size_t)LB_MAX(len, (u64)1));
    if (cut)
        *block = cut;
    else
        lb_free(*block);
    return cut && lb_arena_keep(perm, cut, len);
}

bool lb_texts_keep(lb_texts *t, lb_arena *perm) {
    void *at = t->at, *pool = t->pool.ptr;
    if (at && !keep_block(perm, &at, t->n * sizeof *t->at)) {
        lb_buf_deinit(&t->pool);
        *t = (lb_texts){0};
        return false;
    }
    if (pool && !keep_block(perm, &pool, t->pool.len)) {
        *t = (lb_texts){0};
        return false;
    }
    t->at = at;
    t->pool.ptr = pool;
    t->cap = t->n;
    t->pool.cap = t->pool.len;
    return true;
}

void lb_texts_deinit(lb_texts *t) {
    lb_free(t->at);
    lb_buf_deinit(&t->pool);
    *t = (lb_texts){0};
}

/* ---- index ---- */

static lb_str text_of(const void *list, u64 i) {
    return lb_texts_get(list, i);
}

lb_status lb_texts_index_put(lb_texts_index *x, const lb_texts *t, u64 i, u64 *first, lb_err *err) {
    return lb_names_put(x, text_of, t, i, first, err);
}

bool lb_texts_index_find(const lb_texts_index *x, const lb_texts *t, lb_str s, u64 *i) {
    return lb_names_find(x, text_of, t, s, i);
}

lb_status lb_texts_index_fill(lb_texts_index *x, const lb_texts *t, u64 *twice, lb_err *err) {
    return lb_names_fill(x, text_of, t, t->n, twice, err);
}

/* A step for all, then the next. */
void lb_texts_index_find_many(const lb_texts_index *x, const lb_texts *t, u32 n, const lb_str *s,
                              u32 *id) {
    u32 hash[LB_TEXTS_SEARCHES];
    LB_ASSERT(n <= LB_TEXTS_SEARCHES);
    for (u32 i = 0; i < n; i++) {
        hash[i] = lb_names_hash(s[i]);
        lb_names_fetch(x, hash[i]);
    }
    for (u32 i = 0; i < n; i++) {
        id[i] = lb_names_guess(x, hash[i]);
        if (id[i] < t->n)
            __builtin_prefetch(&t->at[id[i]]);
    }
    for (u32 i = 0; i < n; i++)
        if (id[i] < t->n)
            __builtin_prefetch(t->pool.ptr + t->at[id[i]]);
    for (u32 i = 0; i < n; i++) {
        u64 found = UINT32_MAX;
        if (id[i] != UINT32_MAX)
            (void)lb_names_find_hashed(x, text_of, t, s[i], hash[i], &found);
        id[i] = (u32)found;
    }
}
