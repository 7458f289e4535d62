/* SPDX-License-Identifier: Apache-2.0 */
/* test_hash.c: published vectors, and pieces of any size against the whole.
 * SHA-256: NIST FIPS 180-4 example values (csrc.nist.gov, "SHA256.pdf" and "SHA2_Additional.pdf").
 * XXH3-128: figures of the Python package xxhash 4.1.0 (library 0.8.4). */
#include "test.h"
#include "base/cpu.h"
#include "base/hash_isa.h"
#include <stdlib.h>

typedef struct sha_vector {
    const char *text;
    size_t repeat;
    const char *sum;
} sha_vector;

static const sha_vector sha_vectors[] = {
    {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnop"
     "qrs"
     "mnopqrstnopqrstu",
     1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    {"\0", 55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7"},
    {"\0", 56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb"},
    {"\0", 57, "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785"},
    {"\0", 64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"},
    {"\0", 1000, "541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53"},
    {"\0", 1000000, "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025"},
};

/* Both ways, where the processor has instructions for it. */
LB_TEST(sha256_vectors) {
    for (size_t i = 0; i < LB_LEN(sha_vectors); i++) {
        const sha_vector *v = &sha_vectors[i];
        size_t len = *v->text ? strlen(v->text) : v->repeat > 1;
        for (int hw = 0; hw < 2; hw++) {
            lb_sha256 s;
            char hex[65];
            lb_sha256_init(&s);
            s.hw = s.hw && hw;
            for (size_t k = 0; k < v->repeat; k++)
                lb_sha256_update(&s, v->text, len);
            lb_sha256_hex(&s, hex);
            CHECK_STR(lb_str_c(hex), v->sum);
        }
    }
}

/* FIPS 180-4's examples, and `printf 'what is up, doc?' | git hash-object --stdin` (Pro Git, 10.2).
 */
LB_TEST(sha1) {
    static const struct {
        const char *text;
        size_t len, repeat;
        const char *sum;
    } v[] = {{"abc", 3, 1, "a9993e364706816aba3e25717850c26c9cd0d89d"},
             {"", 0, 1, "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
             {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 1,
              "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
             {"a", 1, 1000000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f"},
             {"blob 16\0what is up, doc?", 24, 1, "bd9dbf5aae1a3862dd1526723246b20206e5fc37"}};
    for (size_t i = 0; i < LB_LEN(v); i++) {
        lb_sha1 s;
        char hex[41];
        lb_sha1_init(&s);
        for (size_t k = 0; k < v[i].repeat; k++)
            lb_sha1_update(&s, v[i].text, v[i].len);
        lb_sha1_hex(&s, hex);
        CHECK_STR(lb_str_c(hex), v[i].sum);
    }
}

LB_TEST(sha256_pieces_and_hardware_agree) {
    u8 data[1024];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (u8)lb_test_rand();
    for (int round = 0; round < 2000; round++) {
        size_t len = (size_t)lb_test_rand_below(sizeof data + 1);
        lb_sha256 a, b;
        u8 x[32], y[32];
        lb_sha256_init(&a);
        a.hw = false;
        lb_sha256_update(&a, data, len);
        lb_sha256_digest(&a, x);
        lb_sha256_init(&b);
        for (size_t at = 0; at < len;) {
            size_t n = (size_t)lb_test_rand_below(LB_MIN(len - at, (size_t)150) + 1);
            lb_sha256_update(&b, data + at, n);
            at += n;
        }
        lb_sha256_digest(&b, y);
        CHECK(memcmp(x, y, 32) == 0);
    }
}

typedef struct xxh_vector {
    size_t len; /* bytes i % 251 for i < len */
    const char *sum;
} xxh_vector;

static const xxh_vector xxh_vectors[] = {
    {0, "99aa06d3014798d86001c324468d497f"},      {1, "a6cd5e9392000f6ac44bdff4074eecdb"},
    {3, "e3b55f57945a17cf5f4299fc161c9cbb"},      {4, "eb70bf5fc779e9e6a6111d53e80a3db5"},
    {8, "e1e4432a62217fe4cfd50c61c8bb98c1"},      {9, "16c769d83e4aebce907931979dca3746"},
    {16, "72950631827607e2842812cc870dcae2"},     {17, "685bc458b37d057fc06e233df7729217"},
    {128, "14792fc3af88dc6c05321a0b64d67b41"},    {129, "dd5e74ac6b45f54ebc30b63382b09a3b"},
    {240, "65b5be86da5540e7c92b68e16f83bbb6"},    {241, "1da1cb61bcb8a2a102e8cd95421c6d02"},
    {512, "5884ea91ad7102d75c021aac13954143"},    {1023, "4325711b0ed4d742d3d91d80ac495685"},
    {1024, "d0ac1f7b93bf57b9e5d78bafa45b2aa5"},   {1025, "2882ebca04ec915ce95c42288f28186e"},
    {4096, "e12cd72144990fe57135ffa504f1bc71"},   {65536, "f5e7bc5d3d8675bfaaae63800707a868"},
    {100000, "54182c58bbb1337c42c23aeead96750d"},
};

LB_TEST(xxh128_vectors) {
    u8 *data = malloc(100000);
    CHECK(data);
    for (size_t i = 0; i < 100000; i++)
        data[i] = (u8)(i % 251);
    for (size_t i = 0; i < LB_LEN(xxh_vectors); i++) {
        char hex[33];
        lb_hash128 h = lb_xxh128(data, xxh_vectors[i].len), back;
        lb_hash_hex(h, hex);
        CHECK_STR(lb_str_c(hex), xxh_vectors[i].sum);
        CHECK(lb_hash_parse(lb_str_c(hex), &back) && lb_hash_eq(h, back));
    }
    free(data);
}

/* A state copied in the middle (as a journal does) goes on to the same sum. */
LB_TEST(xxh128_pieces_and_copied_state) {
    static u8 data[5000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (u8)lb_test_rand();
    for (int round = 0; round < 2000; round++) {
        size_t len = (size_t)lb_test_rand_below(sizeof data + 1);
        lb_xxh h, copy;
        lb_xxh_init(&h);
        for (size_t at = 0; at < len;) {
            size_t n = (size_t)lb_test_rand_below(LB_MIN(len - at, (size_t)700) + 1);
            lb_xxh_update(&h, data + at, n);
            at += n;
            memcpy(&copy, &h, sizeof copy);
            memset(&h, 0xa5, sizeof h);
            memcpy(&h, &copy, sizeof h);
        }
        CHECK(lb_hash_eq(lb_xxh_digest(&h), lb_xxh128(data, len)));
    }
}

/* What is compiled in for wider registers goes on with any other's state; lb_xxh128 has none of it.
 */
LB_TEST(xxh128_for_each_processor) {
    static u8 data[9000];
    u32 n_wide = 0;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (u8)lb_test_rand();
    for (int round = 0; round < 2000; round++) {
        size_t first = (size_t)lb_test_rand_below(64);
        size_t len = (size_t)lb_test_rand_below(sizeof data - first + 1);
        lb_xxh h;
        lb_xxh_init(&h);
        for (size_t at = 0, n; at < len; at += n) {
            const u8 *p = data + first + at;
            n = (size_t)lb_test_rand_below(LB_MIN(len - at, (size_t)3000) + 1);
            u32 isa = n == 0 ? LB_ISA_REF : (u32)lb_test_rand_below(3) & lb_cpu_isa();
            n_wide += isa != LB_ISA_REF;
#if defined(__x86_64__)
            if (isa == LB_ISA_AVX512)
                lb_xxh_update_avx512(&h, p, n);
            else if (isa == LB_ISA_AVX2)
                lb_xxh_update_avx2(&h, p, n);
            else
#endif
                lb_xxh_update(&h, p, n);
        }
        CHECK(lb_hash_eq(lb_xxh_digest(&h), lb_xxh128(data + first, len)));
    }
    CHECK(n_wide > 0 || !(lb_cpu_isa() & (LB_ISA_AVX2 | LB_ISA_AVX512)));
}

LB_TEST(hash_parse_refuses) {
    static const char *const bad[] = {"",
                                      "0",
                                      "0123456789abcdef0123456789abcde",
                                      "0123456789abcdef0123456789abcdef0",
                                      "0123456789ABCDEF0123456789abcdef",
                                      "0123456789abcdeg0123456789abcdef"};
    lb_hash128 h = {7, 8};
    for (size_t i = 0; i < LB_LEN(bad); i++)
        CHECK(!lb_hash_parse(lb_str_c(bad[i]), &h));
    CHECK(h.lo == 7 && h.hi == 8);
    CHECK(lb_hash_parse(LB_STR("0123456789abcdeffedcba9876543210"), &h));
    CHECK_U64(h.hi, 0x0123456789abcdefu);
    CHECK_U64(h.lo, 0xfedcba9876543210u);
}

LB_TEST_MAIN("fast")
