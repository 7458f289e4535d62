/* SPDX-License-Identifier: Apache-2.0 */
/* sha1.c: SHA-1 (FIPS 180-4, section 6.1): names of git's objects, by which the hub calls small
 * files. Not for security. */
#include "base/hash.h"

static inline u32 rotl(u32 x, int n) {
    return x << n | x >> (32 - n);
}

static void one_block(u32 state[5], const u8 *p) {
    u32 w[80];
    for (int t = 0; t < 16; t++)
        w[t] = __builtin_bswap32(lb_load_u32(p + 4 * t));
    for (int t = 16; t < 80; t++)
        w[t] = rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    u32 a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int t = 0; t < 80; t++) {
        u32 f = t < 20              ? (b & c) | (~b & d)
                : t < 40 || t >= 60 ? b ^ c ^ d
                                    : (b & c) | (b & d) | (c & d);
        u32 k = t < 20 ? 0x5a827999 : t < 40 ? 0x6ed9eba1 : t < 60 ? 0x8f1bbcdc : 0xca62c1d6;
        u32 x = rotl(a, 5) + f + e + k + w[t];
        e = d, d = c, c = rotl(b, 30), b = a, a = x;
    }
    const u32 s[5] = {a, b, c, d, e};
    for (int i = 0; i < 5; i++)
        state[i] += s[i];
}

void lb_sha1_init(lb_sha1 *s) {
    *s = (lb_sha1){.state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}};
}

void lb_sha1_update(lb_sha1 *s, const void *ptr, size_t len) {
    const u8 *p = ptr;
    while (len) {
        size_t at = (size_t)(s->len % 64), n = LB_MIN(len, 64 - at);
        memcpy(s->block + at, p, n);
        s->len += n;
        p += n;
        len -= n;
        if (s->len % 64 == 0)
            one_block(s->state, s->block);
    }
}

void lb_sha1_hex(lb_sha1 *s, char out[41]) {
    static const char digits[] = "0123456789abcdef";
    u64 bits = s->len * 8;
    u8 end[8];
    lb_sha1_update(s, "\x80", 1);
    while (s->len % 64 != 56)
        lb_sha1_update(s, "", 1);
    for (int i = 0; i < 8; i++)
        end[i] = (u8)(bits >> (56 - 8 * i));
    lb_sha1_update(s, end, 8);
    for (int i = 0; i < 40; i++)
        out[i] = digits[s->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    out[40] = 0;
}
