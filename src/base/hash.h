/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h: XXH3-128 (content checks; xxHash library), SHA-256 (published sums; FIPS 180-4) and SHA-1
 * (names of git's objects). */
#ifndef LB_BASE_HASH_H
#define LB_BASE_HASH_H

#include "base/base.h"

typedef struct lb_hash128 {
    u64 lo, hi;
} lb_hash128;

/* Streaming state; plain memory (may be copied, stored in a journal of the same version). */
typedef struct lb_xxh {
    alignas(64) u8 opaque[576];
} lb_xxh;

lb_hash128 lb_xxh128(const void *ptr, size_t len);
void lb_xxh_init(lb_xxh *h);
void lb_xxh_update(lb_xxh *h, const void *ptr, size_t len);
lb_hash128 lb_xxh_digest(const lb_xxh *h);
bool lb_hash_eq(lb_hash128 a, lb_hash128 b);
/* 32 lower-case hex digits (canonical big-endian form, as xxhsum prints) + NUL. */
void lb_hash_hex(lb_hash128 h, char out[33]);
bool lb_hash_parse(lb_str hex, lb_hash128 *out);

typedef struct lb_sha256 {
    u32 state[8];
    u64 len;
    u8 block[64];
    bool hw; /* the processor's SHA-256 instructions are used */
} lb_sha256;

void lb_sha256_init(lb_sha256 *s);
void lb_sha256_update(lb_sha256 *s, const void *ptr, size_t len);
void lb_sha256_digest(lb_sha256 *s, u8 out[32]);
void lb_sha256_hex(lb_sha256 *s, char out[65]); /* finishes */

typedef struct lb_sha1 {
    u32 state[5];
    u64 len;
    u8 block[64];
} lb_sha1;

void lb_sha1_init(lb_sha1 *s);
void lb_sha1_update(lb_sha1 *s, const void *ptr, size_t len);
void lb_sha1_hex(lb_sha1 *s, char out[41]); /* finishes */

#endif
