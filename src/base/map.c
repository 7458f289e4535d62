/* SPDX-License-Identifier: Apache-2.0 */
/* map.c: the hash map: open addressing, linear probing, at most 3/4 full.
 *
 * Keys are hashed by SipHash-1-3 (J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input
 * PRF", 2012) under a key drawn once per process: names come from files that may be hostile, and
 * faster seeded hashes have collisions that no seed removes. No result depends on the order of
 * slots. Mutable state: that key, written once before its first use. */
#include "base/mem.h"
#include "base/os.h"
#include "base/thread.h"

struct lb_map_slot {
    const char *key; /* NULL: free; the empty key points to a byte of its own */
    size_t len;
    u64 hash, value;
};

static u64 sip_key[2];
static pthread_once_t sip_once = PTHREAD_ONCE_INIT;

static void draw_key(void) {
    lb_os_random(sip_key, sizeof sip_key);
}

static inline u64 rotl(u64 x, int n) {
    return x << n | x >> (64 - n);
}

static inline void sip_round(u64 v[4]) {
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

static u64 sip13(lb_str s) {
    u64 v[4] = {sip_key[0] ^ 0x736f6d6570736575u, sip_key[1] ^ 0x646f72616e646f6du,
                sip_key[0] ^ 0x6c7967656e657261u, sip_key[1] ^ 0x7465646279746573u};
    size_t i = 0;
    for (; s.len - i >= 8; i += 8) {
        u64 m = lb_load_u64(s.ptr + i);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    u64 m = (u64)s.len << 56;
    for (int shift = 0; i < s.len; i++, shift += 8)
        m |= (u64)(u8)s.ptr[i] << shift;
    v[3] ^= m;
    sip_round(v);
    v[0] ^= m;
    v[2] ^= 0xff;
    for (int r = 0; r < 3; r++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

u64 lb_map_hash(lb_str key) {
    (void)pthread_once(&sip_once, draw_key);
    return sip13(key);
}

/* The slot that holds the key, or the free one where it belongs. There is always a free one. */
static struct lb_map_slot *find_slot(struct lb_map_slot *slots, u64 cap, lb_str key, u64 hash) {
    for (u64 i = hash & (cap - 1);; i = (i + 1) & (cap - 1)) {
        struct lb_map_slot *s = &slots[i];
        if (!s->key || (s->hash == hash && lb_str_eq((lb_str){s->key, s->len}, key)))
            return s;
    }
}

static bool grow(lb_map *m) {
    u64 cap = m->cap ? m->cap * 2 : 16;
    if (cap > SIZE_MAX / sizeof(struct lb_map_slot))
        return false;
    struct lb_map_slot *slots = lb_alloc_zero((size_t)cap, sizeof *slots);
    if (!slots)
        return false;
    for (u64 i = 0; i < m->cap; i++) {
        const struct lb_map_slot *s = &m->slots[i];
        if (!s->key)
            continue;
        u64 j = s->hash & (cap - 1);
        while (slots[j].key)
            j = (j + 1) & (cap - 1);
        slots[j] = *s;
    }
    lb_free(m->slots);
    m->slots = slots;
    m->cap = cap;
    return true;
}

lb_status lb_map_put(lb_map *m, lb_str key, u64 value, bool *existed, lb_err *err) {
    if (!key.ptr)
        key.ptr = "";
    if (m->n >= m->cap / 4 * 3 && !grow(m))
        return lb_fail(err, LB_E_NOMEM, "out of memory: a map of %llu names could not grow",
                       (unsigned long long)m->n);
    (void)pthread_once(&sip_once, draw_key);
    u64 hash = sip13(key);
    struct lb_map_slot *s = find_slot(m->slots, m->cap, key, hash);
    bool found = s->key != NULL;
    if (!found) {
        *s = (struct lb_map_slot){key.ptr, key.len, hash, value};
        m->n++;
    }
    if (existed)
        *existed = found;
    return LB_OK;
}

bool lb_map_find(const lb_map *m, lb_str key, u64 *value) {
    if (m->n == 0)
        return false;
    const struct lb_map_slot *s = find_slot(m->slots, m->cap, key, sip13(key));
    if (!s->key)
        return false;
    if (value)
        *value = s->value;
    return true;
}

void lb_map_deinit(lb_map *m) {
    lb_free(m->slots);
    *m = (lb_map){0};
}
