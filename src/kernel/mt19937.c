/* SPDX-License-Identifier: Apache-2.0 */
/* mt19937.c: see mt19937.h. Polynomials over GF(2) are bits, the lowest power first. */
#include "kernel/mt19937.h"

#define DEGREE 19937
#define POLY_WORDS ((DEGREE + 63) / 64)
#define SQUARE_WORDS (2 * POLY_WORDS)
#define TAPS_MAX 256
/* The second highest power in the characteristic polynomial is 623 below the highest: so many words
 * of 64 bits are reduced at a time without meeting what they make themselves. */
#define CHUNK 8

/* The powers below DEGREE of the characteristic polynomial (Matsumoto and Nishimura 1998, appendix
 * A, with n = 624, m = 397, w = 32, r = 31): with y = t^227,
 *   t^12673 (1+y)^32 + sum over j < 31 of a_j t^(396(30-j)+397) (1+y)^(31-j) + a_31
 * where a_j are the bits of 0x9908b0df. Of binomial coefficients C(n, i) those are odd whose i has
 * no bit that n lacks. Powers met twice cancel. */
typedef struct taps {
    u32 power[TAPS_MAX];
    u32 n;
} taps;

static void toggle(taps *t, u32 power) {
    for (u32 i = 0; i < t->n; i++)
        if (t->power[i] == power) {
            t->power[i] = t->power[--t->n];
            return;
        }
    LB_ASSERT(t->n < TAPS_MAX);
    t->power[t->n++] = power;
}

static void find_taps(taps *t) {
    const u32 a = 0x9908b0dfu;
    t->n = 0;
    toggle(t, 12673); /* the other term of (1+y)^32 is t^19937 */
    for (u32 j = 0; j < 31; j++)
        for (u32 i = 0; (a >> j & 1) && i <= 31 - j; i++)
            if (((31 - j) & i) == i)
                toggle(t, 396 * (30 - j) + 397 + 227 * i);
    toggle(t, 0); /* a_31 */
}

static u64 spread(u32 x) { /* a zero behind each bit */
    u64 v = x;
    v = (v | v << 16) & 0x0000ffff0000ffffu;
    v = (v | v << 8) & 0x00ff00ff00ff00ffu;
    v = (v | v << 4) & 0x0f0f0f0f0f0f0f0fu;
    v = (v | v << 2) & 0x3333333333333333u;
    return (v | v << 1) & 0x5555555555555555u;
}

/* p modulo the characteristic polynomial. p: SQUARE_WORDS words, and one before them that is zero
 * and stays so. */
static void reduce(u64 *p, const taps *t) {
    for (u32 top = SQUARE_WORDS; top > DEGREE / 64;) {
        u32 n = LB_MIN(CHUNK, top - DEGREE / 64);
        u64 take[CHUNK + 1] = {0};
        top -= n;
        for (u32 i = 0; i < n; i++) {
            take[i] = p[top + i];
            if (top + i == DEGREE / 64)
                take[i] &= ~(((u64)1 << DEGREE % 64) - 1);
            p[top + i] ^= take[i];
        }
        for (u32 k = 0; k < t->n; k++) {
            u32 to =
                top * 64 + 64 - DEGREE + t->power[k]; /* of the chunk's first bit, from p - 1 */
            u64 *q = p - 1 + to / 64, before = 0;
            u32 s = to % 64;
            for (u32 i = 0; i <= n; i++) {
                q[i] ^= s ? take[i] << s | before >> (64 - s) : take[i];
                before = take[i];
            }
        }
    }
}

/* p = x^n modulo the characteristic polynomial; p as reduce's. */
static void power_of_x(u64 *p, u64 n, const taps *t) {
    u32 bits = 0;
    memset(p, 0, SQUARE_WORDS * sizeof *p);
    while (n >> bits >= DEGREE)
        bits++;
    p[(n >> bits) / 64] = (u64)1 << (n >> bits) % 64;
    while (bits--) {
        for (u32 i = POLY_WORDS; i--;) {
            u64 x = p[i];
            p[2 * i] = spread((u32)x);
            p[2 * i + 1] = spread((u32)(x >> 32));
        }
        if (n >> bits & 1) { /* times x */
            for (u32 i = SQUARE_WORDS - 1; i; i--)
                p[i] = p[i] << 1 | p[i - 1] >> 63;
            p[0] <<= 1;
        }
        reduce(p, t);
    }
}

void lb_mt19937_words(u32 seed, u32 *words) {
    u32 s = words[0] = seed;
    for (u32 i = 1; i < LB_MT_WORDS; i++)
        words[i] = s = 1812433253u * (s ^ (s >> 30)) + i;
}

/* The sum, over the powers i in p, of the 624 words from word i on. */
static void jump(lb_mt19937 *m, const lb_kernels *k, u64 at) {
    u64 room[1 + SQUARE_WORDS] = {0}, *p = room + 1;
    u32 words[2 * LB_MT_WORDS], sum[LB_MT_WORDS] = {0};
    taps t;
    find_taps(&t);
    power_of_x(p, at, &t);
    lb_mt19937_words(m->seed, m->block[1]);
    k->mt_blocks(2, words, m->block[1]);
    for (u32 b = 0; b * LB_MT_WORDS < DEGREE; b++) {
        for (u32 i = 0; i < LB_MT_WORDS && b * LB_MT_WORDS + i < DEGREE; i++) {
            u32 bit = b * LB_MT_WORDS + i;
            if (!(p[bit / 64] >> bit % 64 & 1))
                continue;
            for (u32 j = 0; j < LB_MT_WORDS; j++)
                sum[j] ^= words[i + j];
        }
        memcpy(words, words + LB_MT_WORDS, sizeof words / 2);
        k->mt_blocks(1, words + LB_MT_WORDS, words);
    }
    memcpy(m->block[0], sum, sizeof sum);
    m->now = 0;
    m->first = m->at = at;
}

void lb_mt19937_begin(lb_mt19937 *m, const lb_kernels *k, const u32 *words) {
    m->now = 0;
    m->first = m->at = 0;
    k->mt_blocks(1, m->block[0], words);
}

void lb_mt19937_init(lb_mt19937 *m, const lb_kernels *k, u64 seed) {
    m->seed = (u32)seed;
    lb_mt19937_words(m->seed, m->block[1]);
    lb_mt19937_begin(m, k, m->block[1]);
}

static void next_block(lb_mt19937 *m, const lb_kernels *k) {
    k->mt_blocks(1, m->block[!m->now], m->block[m->now]);
    m->now = !m->now;
    m->first += LB_MT_WORDS;
}

/* Numbers that are stepped over in the time of a jump (AMD EPYC with AVX2: 1.1 ms, 0.1 ns each). */
#define JUMP_STEPS ((u64)10 << 20)

void lb_mt19937_seek(lb_mt19937 *m, const lb_kernels *k, u64 at) {
    if (at < m->first || at - m->first > JUMP_STEPS) {
        if (at <= JUMP_STEPS)
            lb_mt19937_init(m, k, m->seed);
        else
            jump(m, k, at);
    }
    while (at - m->first >= LB_MT_WORDS)
        next_block(m, k);
    m->at = at;
}

static const u32 *words_from(lb_mt19937 *m, const lb_kernels *k, u64 *n) {
    if (m->at - m->first == LB_MT_WORDS)
        next_block(m, k);
    *n = LB_MIN(*n, LB_MT_WORDS - (m->at - m->first));
    return m->block[m->now] + (m->at - m->first);
}

u32 lb_mt19937_next(lb_mt19937 *m, const lb_kernels *k) {
    u64 one = 1;
    u32 y = *words_from(m, k, &one);
    m->at++;
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

void lb_mt19937_mask(lb_mt19937 *m, const lb_kernels *k, u64 n, u32 below, u8 *bits) {
    while (n) {
        u64 have = n;
        const u32 *w = words_from(m, k, &have);
        u64 whole = have == n ? have : have & ~(u64)7;
        if (whole) {
            k->mt_mask(whole, bits, w, below);
            m->at += whole;
            n -= whole;
            bits += whole / 8;
            continue;
        }
        u32 eight[8]; /* across two blocks */
        u64 got = 0;
        for (u64 want = LB_MIN(n, 8); got < want;) {
            have = want - got;
            w = words_from(m, k, &have);
            memcpy(eight + got, w, have * sizeof *w);
            m->at += have;
            got += have;
        }
        k->mt_mask(got, bits++, eight, below);
        n -= got;
    }
}

void lb_mt19937_uniform(lb_mt19937 *m, const lb_kernels *k, u64 n, float *out) {
    while (n) {
        u64 have = n;
        const u32 *w = words_from(m, k, &have);
        k->mt_uniform_f32(have, out, w);
        m->at += have;
        out += have;
        n -= have;
    }
}

u32 lb_mt19937_below(float p) {
    double x = (double)p * 16777216.0;
    u32 below = x >= 16777216.0 ? 1u << 24 : x > 0 ? (u32)x : 0;
    return below + ((double)below < x); /* rounded up */
}
