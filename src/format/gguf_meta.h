/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_meta.h: the key-value pairs of a GGUF file, in order, as read or as to be written.
 *
 * Also the common currency of arch/ and text/ when they translate a config or a tokenizer: they
 * fill or read one of these. Values live in the meta's arena. Keys are unique. */
#ifndef LB_FORMAT_GGUF_META_H
#define LB_FORMAT_GGUF_META_H

#include "base/base.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/texts.h"

typedef enum lb_gguf_type {
    LB_GGUF_U8 = 0,
    LB_GGUF_I8 = 1,
    LB_GGUF_U16 = 2,
    LB_GGUF_I16 = 3,
    LB_GGUF_U32 = 4,
    LB_GGUF_I32 = 5,
    LB_GGUF_F32 = 6,
    LB_GGUF_BOOL = 7,
    LB_GGUF_STR = 8,
    LB_GGUF_ARRAY = 9,
    LB_GGUF_U64 = 10,
    LB_GGUF_I64 = 11,
    LB_GGUF_F64 = 12,
    LB_GGUF_TYPE_COUNT = 13
} lb_gguf_type;

typedef struct lb_gguf_kv {
    lb_str key;
    lb_gguf_type type;
    lb_gguf_type elem; /* ARRAY: type of the elements (never ARRAY) */
    u64 n;             /* ARRAY: elements */
    union {
        u64 u;    /* U8, U16, U32, U64, BOOL (0 or 1) */
        i64 i;    /* I8, I16, I32, I64 */
        double f; /* F32 (exact), F64 */
        lb_str s; /* STR */
        /* elements as stored (little-endian, packed, maybe unaligned); of STR: texts */
        const void *array;
        const lb_texts *texts; /* [n], none left out */
    } v;
} lb_gguf_kv;

typedef struct lb_gguf_meta {
    lb_arena *arena;
    lb_gguf_kv *kv; /* in file order */
    u64 n, cap;
    lb_map by_key;
} lb_gguf_meta;

void lb_meta_init(lb_gguf_meta *m, lb_arena *arena);
void lb_meta_deinit(lb_gguf_meta *m); /* the map only; the rest is the arena's */

const lb_gguf_kv *lb_meta_find(const lb_gguf_meta *m, const char *key); /* NULL if absent */
/* "<arch>.<suffix>" */
const lb_gguf_kv *lb_meta_find_arch(const lb_gguf_meta *m, lb_str arch, const char *suffix);
/* Any integer type (bool too) that fits; any float type; a string. False: absent or of another
 * kind. */
bool lb_kv_as_u64(const lb_gguf_kv *kv, u64 *out);
bool lb_kv_as_i64(const lb_gguf_kv *kv, i64 *out);
bool lb_kv_as_f64(const lb_gguf_kv *kv, double *out); /* integers too */
bool lb_kv_as_bool(const lb_gguf_kv *kv, bool *out);
bool lb_kv_as_str(const lb_gguf_kv *kv, lb_str *out);
/* Element i of an array. */
bool lb_kv_elem_u64(const lb_gguf_kv *kv, u64 i, u64 *out);
bool lb_kv_elem_i64(const lb_gguf_kv *kv, u64 i, i64 *out);
bool lb_kv_elem_f64(const lb_gguf_kv *kv, u64 i, double *out);
bool lb_kv_elem_str(const lb_gguf_kv *kv, u64 i, lb_str *out);

/* Appends, or replaces the value in place when the key exists. Copies key, string and array bytes.
 * LB_E_NOMEM; LB_E_FORMAT for an empty key or one longer than 65,535 bytes. */
lb_status lb_meta_set(lb_gguf_meta *m, const lb_gguf_kv *kv, lb_err *err);
/* The same without copying the value: it must live as long as the meta's arena. */
lb_status lb_meta_share(lb_gguf_meta *m, const lb_gguf_kv *kv, lb_err *err);
lb_status lb_meta_set_u32(lb_gguf_meta *m, const char *key, u32 v, lb_err *err);
lb_status lb_meta_set_u64(lb_gguf_meta *m, const char *key, u64 v, lb_err *err);
lb_status lb_meta_set_i32(lb_gguf_meta *m, const char *key, i32 v, lb_err *err);
lb_status lb_meta_set_f32(lb_gguf_meta *m, const char *key, float v, lb_err *err);
lb_status lb_meta_set_bool(lb_gguf_meta *m, const char *key, bool v, lb_err *err);
lb_status lb_meta_set_str(lb_gguf_meta *m, const char *key, lb_str v, lb_err *err);
/* elem != STR: n packed elements; elem == STR: lb_str[n]. */
lb_status lb_meta_set_array(lb_gguf_meta *m, const char *key, lb_gguf_type elem, u64 n,
                            const void *elems, lb_err *err);
/* An array of strings; the meta's arena takes the list's memory, on failure too, and *t is empty.
 */
lb_status lb_meta_set_texts(lb_gguf_meta *m, const char *key, lb_texts *t, lb_err *err);
void lb_meta_remove(lb_gguf_meta *m, const char *key); /* keeps the order of the rest */

/* Appends a pair whose key is new, without copying: its key, string or array must live as long as
 * the meta's arena. LB_E_FORMAT also for a key that exists. For readers. */
lb_status lb_meta_adopt(lb_gguf_meta *m, const lb_gguf_kv *kv, lb_err *err);
/* Sets kv's type and value from a fixed-size value as it stands in a file (little-endian,
 * unaligned; a bool is true for any byte but 0). False for STR and ARRAY. */
bool lb_kv_load(lb_gguf_kv *kv, lb_gguf_type type, const void *bytes);

/* Adds the hashes of those pairs whose keys are taken to *sum; their order does not count. */
typedef bool(lb_meta_takes_fn)(const void *ctx, lb_str key);
void lb_meta_sum(const lb_gguf_meta *m, lb_meta_takes_fn *takes, const void *ctx, lb_hash128 *sum);

const char *lb_gguf_type_name(lb_gguf_type t); /* "u32", "str", "array"... */
u32 lb_gguf_type_bytes(lb_gguf_type t);        /* of a fixed-size value; 0 for STR and ARRAY */

#endif
