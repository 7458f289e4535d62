/* SPDX-License-Identifier: Apache-2.0 */
/* texts.h: long lists of short strings (a vocabulary, its merges) in little memory: one pool of
 * bytes and four bytes a string beside it.
 *
 * A string stands in the pool behind its length (a varint, so one byte for most). Strings can be
 * set in any order and left out (NULL); setting moves the pool: what lb_texts_get gave is then no
 * longer valid. */
#ifndef LB_BASE_TEXTS_H
#define LB_BASE_TEXTS_H

#include "base/base.h"
#include "base/mem.h"
#include "base/names.h"

typedef struct lb_texts {
    u32 *at; /* [n] place in pool; 0: left out */
    u64 n, cap;
    lb_buf pool; /* begins with a byte that no string has */
} lb_texts;

/* LB_E_NOMEM; LB_E_LIMIT: more than 4 GiB of text, or 2^32 strings. */
lb_status lb_texts_add(lb_texts *t, lb_str s, lb_err *err);
/* Adds a string of len bytes for the caller to fill; NULL: *err tells. */
u8 *lb_texts_push(lb_texts *t, u64 len, lb_err *err);
/* Grows the list to i + 1. */
lb_status lb_texts_set(lb_texts *t, u64 i, lb_str s, lb_err *err);
/* The list has n entries from now on; new ones are left out. */
lb_status lb_texts_resize(lb_texts *t, u64 n, lb_err *err);
/* Room for so many strings and bytes of pool: less is moved later. */
lb_status lb_texts_reserve(lb_texts *t, u64 n, u64 bytes, lb_err *err);
void lb_texts_unset(lb_texts *t, u64 i);
/* A string for the reference that lb_texts_put gave: kept in the pool, in no list. */
lb_status lb_texts_put(lb_texts *t, lb_str s, u32 *ref, lb_err *err);
lb_str lb_texts_at(const lb_texts *t, u32 ref);
static inline bool lb_texts_has(const lb_texts *t, u64 i) {
    return i < t->n && t->at[i] != 0;
}
/* ptr is NULL for one that was left out. */
static inline lb_str lb_texts_get(const lb_texts *t, u64 i) {
    return t->at[i] ? lb_texts_at(t, t->at[i]) : LB_STR_NONE;
}
lb_status lb_texts_copy(lb_texts *out, const lb_texts *t, lb_err *err);
/* Gives its memory to the arena, cut to what is used; t stays valid and must not grow any more.
 * False when out of memory. */
bool lb_texts_keep(lb_texts *t, lb_arena *perm);
void lb_texts_deinit(lb_texts *t); /* of a list that was not kept */

/* ---- text -> place in a list; insertion only. The list may grow, its strings stay ---- */

typedef lb_names lb_texts_index;

/* Adds string i of the list. *first (may be NULL): i, or the one with the same text before it. */
lb_status lb_texts_index_put(lb_texts_index *x, const lb_texts *t, u64 i, u64 *first, lb_err *err);
bool lb_texts_index_find(const lb_texts_index *x, const lb_texts *t, lb_str s, u64 *i);
/* Of all strings of the list, for an empty index; *twice: the first that was there before, else n.
 */
lb_status lb_texts_index_fill(lb_texts_index *x, const lb_texts *t, u64 *twice, lb_err *err);
/* n searches at once, each of whose waits for memory are the others' too; id [n]: UINT32_MAX where
 * the list has none. */
#define LB_TEXTS_SEARCHES 48
void lb_texts_index_find_many(const lb_texts_index *x, const lb_texts *t, u32 n, const lb_str *s,
                              u32 *id);
static inline void lb_texts_index_deinit(lb_texts_index *x) {
    lb_names_deinit(x);
}

#endif
