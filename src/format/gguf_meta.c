/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_meta.c: the ordered key-value pairs of a GGUF file in memory.
 *
 * The pairs stand in one array in file order; a map from key to index makes lookups O(1). The map
 * has no deletion, so removing a pair rebuilds it; should that run out of memory the map stays
 * empty and lookups walk the array until the next insertion has rebuilt it. by_key.n != n is the
 * sign of that. Does not read or write files: gguf.c and gguf_write.c do. */
#include "format/gguf_meta.h"

/* Longest key taken: far above any key in use, and what the project's writers promise to read back.
 */
#define KEY_BYTES_MAX 65535

static const struct {
    const char *name;
    u32 size_bytes;
} types[LB_GGUF_TYPE_COUNT] = {
    [LB_GGUF_U8] = {"u8", 1},       [LB_GGUF_I8] = {"i8", 1},     [LB_GGUF_U16] = {"u16", 2},
    [LB_GGUF_I16] = {"i16", 2},     [LB_GGUF_U32] = {"u32", 4},   [LB_GGUF_I32] = {"i32", 4},
    [LB_GGUF_F32] = {"f32", 4},     [LB_GGUF_BOOL] = {"bool", 1}, [LB_GGUF_STR] = {"str", 0},
    [LB_GGUF_ARRAY] = {"array", 0}, [LB_GGUF_U64] = {"u64", 8},   [LB_GGUF_I64] = {"i64", 8},
    [LB_GGUF_F64] = {"f64", 8},
};

const char *lb_gguf_type_name(lb_gguf_type t) {
    return (u32)t < LB_GGUF_TYPE_COUNT ? types[t].name : "?";
}

u32 lb_gguf_type_bytes(lb_gguf_type t) {
    return (u32)t < LB_GGUF_TYPE_COUNT ? types[t].size_bytes : 0;
}

void lb_meta_init(lb_gguf_meta *m, lb_arena *arena) {
    *m = (lb_gguf_meta){.arena = arena};
}

void lb_meta_deinit(lb_gguf_meta *m) {
    lb_map_deinit(&m->by_key);
    *m = (lb_gguf_meta){0};
}

/* ---- lookup ---- */

static bool index_of(const lb_gguf_meta *m, lb_str key, u64 *at) {
    if (m->by_key.n == m->n)
        return lb_map_find(&m->by_key, key, at);
    for (u64 i = 0; i < m->n; i++) {
        if (lb_str_eq(m->kv[i].key, key)) {
            *at = i;
            return true;
        }
    }
    return false;
}

const lb_gguf_kv *lb_meta_find(const lb_gguf_meta *m, const char *key) {
    u64 at;
    return m && index_of(m, lb_str_c(key), &at) ? &m->kv[at] : NULL;
}

const lb_gguf_kv *lb_meta_find_arch(const lb_gguf_meta *m, lb_str arch, const char *suffix) {
    char key[256];
    size_t len = strlen(suffix);
    u64 at;
    if (!m || len >= sizeof key || arch.len >= sizeof key - len)
        return NULL; /* longer than any key of an architecture */
    if (arch.len > 0)
        memcpy(key, arch.ptr, arch.len);
    key[arch.len] = '.';
    memcpy(key + arch.len + 1, suffix, len);
    return index_of(m, (lb_str){key, arch.len + 1 + len}, &at) ? &m->kv[at] : NULL;
}

/* ---- values as C types ---- */

/* One fixed-size value as it stands in a file, widened into kv->v. Any byte but 0 is true. */
static bool widen(lb_gguf_type type, const u8 *p, lb_gguf_kv *kv) {
    kv->type = type;
    switch (type) {
    case LB_GGUF_U8:
        kv->v.u = *p;
        return true;
    case LB_GGUF_BOOL:
        kv->v.u = *p != 0;
        return true;
    case LB_GGUF_I8:
        kv->v.i = (i8)*p;
        return true;
    case LB_GGUF_U16:
        kv->v.u = lb_load_u16(p);
        return true;
    case LB_GGUF_I16:
        kv->v.i = (i16)lb_load_u16(p);
        return true;
    case LB_GGUF_U32:
        kv->v.u = lb_load_u32(p);
        return true;
    case LB_GGUF_I32:
        kv->v.i = (i32)lb_load_u32(p);
        return true;
    case LB_GGUF_U64:
        kv->v.u = lb_load_u64(p);
        return true;
    case LB_GGUF_I64:
        kv->v.i = (i64)lb_load_u64(p);
        return true;
    case LB_GGUF_F32:
        kv->v.f = (double)lb_f32_from_bits(lb_load_u32(p));
        return true;
    case LB_GGUF_F64:
        memcpy(&kv->v.f, p, sizeof kv->v.f);
        return true;
    case LB_GGUF_STR:
    case LB_GGUF_ARRAY:
    case LB_GGUF_TYPE_COUNT:
        break;
    }
    return false;
}

bool lb_kv_load(lb_gguf_kv *kv, lb_gguf_type type, const void *bytes) {
    return widen(type, bytes, kv);
}

static bool is_unsigned(lb_gguf_type t) {
    return t == LB_GGUF_U8 || t == LB_GGUF_U16 || t == LB_GGUF_U32 || t == LB_GGUF_U64 ||
           t == LB_GGUF_BOOL;
}

static bool is_signed(lb_gguf_type t) {
    return t == LB_GGUF_I8 || t == LB_GGUF_I16 || t == LB_GGUF_I32 || t == LB_GGUF_I64;
}

bool lb_kv_as_u64(const lb_gguf_kv *kv, u64 *out) {
    if (!kv)
        return false;
    if (is_unsigned(kv->type)) {
        *out = kv->v.u;
        return true;
    }
    if (is_signed(kv->type) && kv->v.i >= 0) {
        *out = (u64)kv->v.i;
        return true;
    }
    return false;
}

bool lb_kv_as_i64(const lb_gguf_kv *kv, i64 *out) {
    if (!kv)
        return false;
    if (is_signed(kv->type)) {
        *out = kv->v.i;
        return true;
    }
    if (is_unsigned(kv->type) && kv->v.u <= INT64_MAX) {
        *out = (i64)kv->v.u;
        return true;
    }
    return false;
}

bool lb_kv_as_f64(const lb_gguf_kv *kv, double *out) {
    if (!kv || kv->type == LB_GGUF_BOOL)
        return false;
    if (kv->type == LB_GGUF_F32 || kv->type == LB_GGUF_F64)
        *out = kv->v.f;
    else if (is_unsigned(kv->type))
        *out = (double)kv->v.u;
    else if (is_signed(kv->type))
        *out = (double)kv->v.i;
    else
        return false;
    return true;
}

bool lb_kv_as_bool(const lb_gguf_kv *kv, bool *out) {
    if (!kv || kv->type != LB_GGUF_BOOL)
        return false;
    *out = kv->v.u != 0;
    return true;
}

bool lb_kv_as_str(const lb_gguf_kv *kv, lb_str *out) {
    if (!kv || kv->type != LB_GGUF_STR)
        return false;
    *out = kv->v.s;
    return true;
}

/* Element i of an array of fixed-size values as a pair of its own. */
static bool element(const lb_gguf_kv *kv, u64 i, lb_gguf_kv *out) {
    if (!kv || kv->type != LB_GGUF_ARRAY || i >= kv->n)
        return false;
    u32 size = lb_gguf_type_bytes(kv->elem);
    return size > 0 && widen(kv->elem, (const u8 *)kv->v.array + i * size, out);
}

bool lb_kv_elem_u64(const lb_gguf_kv *kv, u64 i, u64 *out) {
    lb_gguf_kv e;
    return element(kv, i, &e) && lb_kv_as_u64(&e, out);
}

bool lb_kv_elem_i64(const lb_gguf_kv *kv, u64 i, i64 *out) {
    lb_gguf_kv e;
    return element(kv, i, &e) && lb_kv_as_i64(&e, out);
}

bool lb_kv_elem_f64(const lb_gguf_kv *kv, u64 i, double *out) {
    lb_gguf_kv e;
    return element(kv, i, &e) && lb_kv_as_f64(&e, out);
}

bool lb_kv_elem_str(const lb_gguf_kv *kv, u64 i, lb_str *out) {
    if (!kv || kv->type != LB_GGUF_ARRAY || kv->elem != LB_GGUF_STR || i >= kv->n)
        return false;
    *out = lb_texts_get(kv->v.texts, i);
    return true;
}

/* ---- insertion ---- */

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for GGUF metadata");
}

/* An integer that its type can hold: nothing is cut off when it is written. */
static bool fits_type(const lb_gguf_kv *kv) {
    u32 bits = 8 * lb_gguf_type_bytes(kv->type);
    if (kv->type == LB_GGUF_BOOL)
        return kv->v.u <= 1;
    if (is_unsigned(kv->type))
        return bits == 64 || kv->v.u >> bits == 0;
    if (is_signed(kv->type) && bits < 64)
        return kv->v.i >= -((i64)1 << (bits - 1)) && kv->v.i < (i64)1 << (bits - 1);
    return true;
}

static lb_status check_kv(const lb_gguf_kv *kv, lb_err *err) {
    if (kv->key.len == 0)
        return lb_fail(err, LB_E_FORMAT, "a GGUF metadata key is empty");
    if (kv->key.len > KEY_BYTES_MAX)
        return lb_fail(err, LB_E_FORMAT, "a GGUF metadata key has %zu bytes, the limit is %d",
                       kv->key.len, KEY_BYTES_MAX);
    if (memchr(kv->key.ptr, 0, kv->key.len))
        return lb_fail(err, LB_E_FORMAT, "GGUF metadata key '%.100s' holds a NUL byte",
                       kv->key.ptr);
    lb_gguf_type leaf = kv->type == LB_GGUF_ARRAY ? kv->elem : kv->type;
    if ((u32)leaf >= LB_GGUF_TYPE_COUNT || leaf == LB_GGUF_ARRAY)
        return lb_fail(err, LB_E_FORMAT, "key '%.*s': %s", LB_FMT(lb_str_sub(kv->key, 0, 100)),
                       leaf == LB_GGUF_ARRAY ? "an array of arrays is not supported"
                                             : "no such value type");
    if (!fits_type(kv))
        return lb_fail(err, LB_E_FORMAT, "key '%.*s': %lld does not fit a %s",
                       LB_FMT(lb_str_sub(kv->key, 0, 100)), (long long)kv->v.i,
                       lb_gguf_type_name(kv->type));
    return LB_OK;
}

static lb_status index_all(lb_gguf_meta *m, lb_err *err) {
    lb_map_deinit(&m->by_key);
    m->by_key = (lb_map){0};
    for (u64 i = 0; i < m->n; i++) {
        lb_status st = lb_map_put(&m->by_key, m->kv[i].key, i, NULL, err);
        if (st != LB_OK) {
            lb_map_deinit(&m->by_key);
            m->by_key = (lb_map){0};
            return st;
        }
    }
    return LB_OK;
}

static lb_status reserve(lb_gguf_meta *m, lb_err *err) {
    if (m->n < m->cap)
        return LB_OK;
    u64 cap = m->cap ? m->cap * 2 : 32;
    lb_gguf_kv *kv = lb_arena_new(m->arena, lb_gguf_kv, cap);
    if (!kv)
        return no_memory(err);
    if (m->n > 0)
        memcpy(kv, m->kv, m->n * sizeof *kv);
    m->kv = kv;
    m->cap = cap;
    return LB_OK;
}

lb_status lb_meta_adopt(lb_gguf_meta *m, const lb_gguf_kv *kv, lb_err *err) {
    LB_TRY(check_kv(kv, err));
    LB_TRY(reserve(m, err));
    if (m->by_key.n != m->n)
        LB_TRY(index_all(m, err));
    bool existed = false;
    LB_TRY(lb_map_put(&m->by_key, kv->key, m->n, &existed, err));
    if (existed)
        return lb_fail(err, LB_E_FORMAT, "key '%.*s' appears twice",
                       LB_FMT(lb_str_sub(kv->key, 0, 100)));
    m->kv[m->n++] = *kv;
    return LB_OK;
}

/* The list is the arena's from here, whatever happens. */
static const lb_texts *keep_texts(lb_arena *arena, lb_texts *t) {
    lb_texts *kept = lb_arena_new(arena, lb_texts, 1);
    if (!kept)
        lb_texts_deinit(t);
    else if (!lb_texts_keep(t, arena))
        kept = NULL;
    else
        *kept = *t;
    *t = (lb_texts){0};
    return kept;
}

static lb_status copy_strings(lb_arena *arena, lb_gguf_kv *kv, lb_err *err) {
    lb_texts t = {0};
    LB_TRY(lb_texts_copy(&t, kv->v.texts, err));
    kv->v.texts = keep_texts(arena, &t);
    return kv->v.texts ? LB_OK : no_memory(err);
}

static lb_status copy_value(lb_arena *arena, lb_gguf_kv *kv, lb_err *err) {
    if (kv->type == LB_GGUF_STR) {
        kv->v.s = lb_arena_str(arena, kv->v.s);
        return kv->v.s.ptr ? LB_OK : no_memory(err);
    }
    if (kv->type != LB_GGUF_ARRAY)
        return LB_OK;
    if (kv->elem == LB_GGUF_STR)
        return copy_strings(arena, kv, err);
    void *bytes = lb_arena_push_array(arena, kv->n, lb_gguf_type_bytes(kv->elem), 8);
    if (!bytes && kv->n > 0)
        return no_memory(err);
    if (kv->n > 0)
        memcpy(bytes, kv->v.array, kv->n * lb_gguf_type_bytes(kv->elem));
    kv->v.array = bytes;
    return LB_OK;
}

lb_status lb_meta_set(lb_gguf_meta *m, const lb_gguf_kv *kv, lb_err *err) {
    lb_gguf_kv copy = *kv;
    LB_TRY(check_kv(kv, err));
    LB_TRY(copy_value(m->arena, &copy, err));
    return lb_meta_share(m, &copy, err);
}

lb_status lb_meta_share(lb_gguf_meta *m, const lb_gguf_kv *kv, lb_err *err) {
    lb_gguf_kv copy = *kv;
    u64 at;
    LB_TRY(check_kv(kv, err));
    if (index_of(m, kv->key, &at)) {
        copy.key = m->kv[at].key;
        m->kv[at] = copy;
        return LB_OK;
    }
    copy.key = lb_arena_str(m->arena, kv->key);
    if (!copy.key.ptr)
        return no_memory(err);
    return lb_meta_adopt(m, &copy, err);
}

lb_status lb_meta_set_u32(lb_gguf_meta *m, const char *key, u32 v, lb_err *err) {
    return lb_meta_set(m, &(lb_gguf_kv){.key = lb_str_c(key), .type = LB_GGUF_U32, .v.u = v}, err);
}

lb_status lb_meta_set_u64(lb_gguf_meta *m, const char *key, u64 v, lb_err *err) {
    return lb_meta_set(m, &(lb_gguf_kv){.key = lb_str_c(key), .type = LB_GGUF_U64, .v.u = v}, err);
}

lb_status lb_meta_set_i32(lb_gguf_meta *m, const char *key, i32 v, lb_err *err) {
    return lb_meta_set(m, &(lb_gguf_kv){.key = lb_str_c(key), .type = LB_GGUF_I32, .v.i = v}, err);
}

lb_status lb_meta_set_f32(lb_gguf_meta *m, const char *key, float v, lb_err *err) {
    lb_gguf_kv kv = {.key = lb_str_c(key), .type = LB_GGUF_F32, .v.f = (double)v};
    return lb_meta_set(m, &kv, err);
}

lb_status lb_meta_set_bool(lb_gguf_meta *m, const char *key, bool v, lb_err *err) {
    return lb_meta_set(m, &(lb_gguf_kv){.key = lb_str_c(key), .type = LB_GGUF_BOOL, .v.u = v}, err);
}

lb_status lb_meta_set_str(lb_gguf_meta *m, const char *key, lb_str v, lb_err *err) {
    return lb_meta_set(m, &(lb_gguf_kv){.key = lb_str_c(key), .type = LB_GGUF_STR, .v.s = v}, err);
}

lb_status lb_meta_set_texts(lb_gguf_meta *m, const char *key, lb_texts *t, lb_err *err) {
    lb_gguf_kv kv = {.key = lb_str_c(key), .type = LB_GGUF_ARRAY, .elem = LB_GGUF_STR, .n = t->n};
    kv.v.texts = keep_texts(m->arena, t);
    return kv.v.texts ? lb_meta_share(m, &kv, err) : no_memory(err);
}

lb_status lb_meta_set_array(lb_gguf_meta *m, const char *key, lb_gguf_type elem, u64 n,
                            const void *elems, lb_err *err) {
    if (elem == LB_GGUF_STR) {
        lb_texts t = {0};
        lb_status st = LB_OK;
        for (u64 i = 0; i < n && st == LB_OK; i++)
            st = lb_texts_add(&t, ((const lb_str *)elems)[i], err);
        if (st == LB_OK)
            return lb_meta_set_texts(m, key, &t, err);
        lb_texts_deinit(&t);
        return st;
    }
    lb_gguf_kv kv = {
        .key = lb_str_c(key), .type = LB_GGUF_ARRAY, .elem = elem, .n = n, .v.array = elems};
    return lb_meta_set(m, &kv, err);
}

void lb_meta_remove(lb_gguf_meta *m, const char *key) {
    u64 at;
    if (!index_of(m, lb_str_c(key), &at))
        return;
    memmove(&m->kv[at], &m->kv[at + 1], (m->n - at - 1) * sizeof *m->kv);
    m->n--;
    (void)index_all(m, NULL); /* on failure lookups walk the array: see the top */
}

/* ---- what changed? ---- */

static void sum_value(const lb_gguf_kv *kv, lb_xxh *h) {
    u64 n;
    switch (kv->type) {
    case LB_GGUF_STR:
        lb_xxh_update(h, kv->v.s.ptr, kv->v.s.len);
        return;
    case LB_GGUF_ARRAY:
        lb_xxh_update(h, &kv->n, sizeof kv->n);
        if (kv->elem != LB_GGUF_STR) {
            lb_xxh_update(h, kv->v.array, (size_t)(kv->n * lb_gguf_type_bytes(kv->elem)));
            return;
        }
        for (u64 i = 0; i < kv->n; i++) {
            lb_str s = LB_STR_NONE;
            (void)lb_kv_elem_str(kv, i, &s);
            n = s.len;
            lb_xxh_update(h, &n, sizeof n);
            lb_xxh_update(h, s.ptr, s.len);
        }
        return;
    case LB_GGUF_F32:
    case LB_GGUF_F64:
        lb_xxh_update(h, &kv->v.f, sizeof kv->v.f);
        return;
    default:
        lb_xxh_update(h, &kv->v.u, sizeof kv->v.u);
        return;
    }
}

void lb_meta_sum(const lb_gguf_meta *m, lb_meta_takes_fn *takes, const void *ctx, lb_hash128 *sum) {
    for (u64 i = 0; i < m->n; i++) {
        const lb_gguf_kv *kv = &m->kv[i];
        u32 kinds[2] = {(u32)kv->type, kv->type == LB_GGUF_ARRAY ? (u32)kv->elem : 0};
        lb_xxh h;
        if (!takes(ctx, kv->key))
            continue;
        lb_xxh_init(&h);
        lb_xxh_update(&h, kv->key.ptr, kv->key.len);
        lb_xxh_update(&h, kinds, sizeof kinds);
        sum_value(kv, &h);
        lb_hash128 one = lb_xxh_digest(&h);
        sum->lo += one.lo;
        sum->hi += one.hi;
    }
}
