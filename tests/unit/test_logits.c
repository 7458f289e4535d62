/* SPDX-License-Identifier: Apache-2.0 */
/* test_logits.c: files of logits: what was written is read, a file that is cut, changed in one bit
 * or has rows in other places is refused, headers that lie cost nothing; divergences of rows
 * against sums in long double. */
#include "format/logits.h"
#include "model/logprob.h"
#include "test.h"
#include <math.h>

static lb_err err;

#define N_VOCAB 5u
#define N_CTX 7u
#define N_CHUNKS 2u
#define N_ROWS (N_CHUNKS * (N_CTX - 1 - N_CTX / 2))
#define ROW_BYTES (N_VOCAB * 4 + 16)
#define IDS_BYTES (N_CHUNKS * N_CTX * 4)
#define FILE_BYTES (LB_LOGITS_HEAD_BYTES + IDS_BYTES + N_ROWS * ROW_BYTES)

static u32 ids[N_CHUNKS * N_CTX];
static float rows[N_ROWS][N_VOCAB];
static u8 bytes[FILE_BYTES];
static lb_logits made;

static void make(void) {
    for (u32 i = 0; i < LB_LEN(ids); i++)
        ids[i] = (u32)lb_test_rand_below(N_VOCAB);
    made = (lb_logits){.n_vocab = N_VOCAB, .n_ctx = N_CTX, .bos = 1, .n_chunks = N_CHUNKS};
    lb_logits_head(&made, ids, bytes);
    memcpy(bytes + LB_LOGITS_HEAD_BYTES, ids, sizeof ids);
    for (u32 r = 0; r < N_ROWS; r++) {
        u8 *at = bytes + lb_logits_row_off(&made, r);
        for (u32 i = 0; i < N_VOCAB; i++)
            rows[r][i] = lb_test_normal();
        memcpy(at, rows[r], sizeof rows[r]);
        lb_logits_row_hash(&made, r, rows[r], at + sizeof rows[r]);
    }
}

/* All of a file: header, ids and rows, which must be those of make(). */
static lb_status read_all(const u8 *file, u64 size, bool *same) {
    lb_cur c;
    lb_logits l;
    float row[N_VOCAB];
    lb_cur_mem(&c, "x.logits", file, size);
    LB_TRY(lb_logits_parse(&c, &l, &err));
    if (l.n_vocab != N_VOCAB)
        return lb_fail(&err, LB_E_FORMAT, "another vocabulary");
    LB_TRY(lb_logits_check_ids(&c, &l, ids, &err));
    for (u32 r = 0; r < N_ROWS; r++) {
        LB_TRY(lb_logits_row(&c, &l, r, row, &err));
        *same &= memcmp(row, rows[r], sizeof row) == 0;
    }
    return LB_OK;
}

LB_TEST(round_trip) {
    u64 size;
    bool same = true;
    make();
    CHECK(lb_logits_size(&made, &size));
    CHECK_U64(size, FILE_BYTES);
    CHECK_OK(read_all(bytes, sizeof bytes, &same));
    CHECK(same);
}

LB_TEST(every_prefix_is_refused) {
    make();
    for (u64 n = 0; n < FILE_BYTES; n++) {
        bool same = true;
        err = (lb_err){0};
        CHECK(read_all(bytes, n, &same) == LB_E_FORMAT && err.msg[0]);
    }
    u8 longer[FILE_BYTES + 1] = {0};
    bool same = true;
    memcpy(longer, bytes, sizeof bytes);
    CHECK(read_all(longer, sizeof longer, &same) == LB_E_FORMAT);
}

LB_TEST(every_bit_counts) {
    make();
    for (u64 bit = 0; bit < 8 * (u64)FILE_BYTES; bit++) {
        bool same = true;
        bytes[bit / 8] ^= (u8)(1u << bit % 8);
        lb_status st = read_all(bytes, sizeof bytes, &same);
        bytes[bit / 8] ^= (u8)(1u << bit % 8);
        if (st != LB_E_FORMAT && st != LB_E_UNSUPPORTED)
            lb_test_fail(__FILE__, __LINE__, "bit %llu: %s", (unsigned long long)bit,
                         lb_status_text(st));
    }
    bool same = true;
    CHECK_OK(read_all(bytes, sizeof bytes, &same));
}

LB_TEST(rows_stay_where_they_are) {
    bool same = true;
    make();
    u8 *a = bytes + lb_logits_row_off(&made, 0), *b = bytes + lb_logits_row_off(&made, 1);
    u8 swap[ROW_BYTES];
    memcpy(swap, a, ROW_BYTES);
    memcpy(a, b, ROW_BYTES);
    memcpy(b, swap, ROW_BYTES);
    CHECK(read_all(bytes, sizeof bytes, &same) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "row 1 of chunk 1") != NULL);
    /* a row of the same place of another file */
    make();
    u8 first[ROW_BYTES];
    memcpy(first, bytes + lb_logits_row_off(&made, 3), ROW_BYTES);
    make();
    memcpy(bytes + lb_logits_row_off(&made, 3), first, ROW_BYTES);
    CHECK(read_all(bytes, sizeof bytes, &same) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "row 1 of chunk 2") != NULL);
}

LB_TEST(another_text_is_named) {
    bool same = true;
    make();
    ids[9] = (ids[9] + 1) % N_VOCAB;
    CHECK(read_all(bytes, sizeof bytes, &same) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "token 3 of chunk 2") != NULL);
    CHECK_U64(err.off, LB_LOGITS_HEAD_BYTES + 9 * 4);
}

static lb_status parse_with(u32 n_vocab, u32 n_ctx, u64 n_chunks) {
    u8 head[FILE_BYTES];
    lb_cur c;
    lb_logits l;
    memcpy(head, bytes, sizeof head);
    lb_store_u32(head + 12, n_vocab);
    lb_store_u32(head + 16, n_ctx);
    lb_store_u64(head + 24, n_chunks);
    lb_cur_mem(&c, "x.logits", head, sizeof head);
    err = (lb_err){0};
    return lb_logits_parse(&c, &l, &err);
}

LB_TEST(headers_that_lie) {
    static const u64 chunks[] = {
        0, 1, 3, 1u << 30, UINT64_MAX / 7, UINT64_MAX / 8, UINT64_MAX, (u64)1 << 61, (u64)1 << 62};
    static const u32 sizes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 1u << 26, (1u << 26) + 1, UINT32_MAX};
    make();
    CHECK_OK(parse_with(N_VOCAB, N_CTX, N_CHUNKS));
    for (u32 i = 0; i < LB_LEN(chunks); i++)
        for (u32 j = 0; j < LB_LEN(sizes); j++)
            for (u32 k = 0; k < LB_LEN(sizes); k++) {
                CHECK(parse_with(sizes[j], sizes[k], chunks[i]) == LB_E_FORMAT);
                CHECK(err.msg[0]);
            }
}

LB_TEST(other_files) {
    u8 file[FILE_BYTES];
    lb_cur c;
    lb_logits l;
    make();
    memcpy(file, bytes, sizeof file);
    memcpy(file, "_logits_", 8);
    lb_cur_mem(&c, "x", file, sizeof file);
    CHECK(lb_logits_parse(&c, &l, &err) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "llama-perplexity") != NULL);
    memcpy(file, "GGUF\3\0\0\0", 8);
    lb_cur_mem(&c, "x", file, sizeof file);
    CHECK(lb_logits_parse(&c, &l, &err) == LB_E_FORMAT);
    memcpy(file, bytes, sizeof file);
    file[8] = 2;
    lb_cur_mem(&c, "x", file, sizeof file);
    CHECK(lb_logits_parse(&c, &l, &err) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "version 2") != NULL);
}

/* ---- divergences ---- */

#define N 1000u

static long double log_sum(const float *x) {
    long double max = (long double)x[0], sum = 0;
    for (u32 i = 0; i < N; i++)
        max = (long double)x[i] > max ? (long double)x[i] : max;
    for (u32 i = 0; i < N; i++)
        sum += expl((long double)x[i] - max);
    return max + logl(sum);
}

LB_TEST(divergences) {
    static float p[N], q[N];
    static const float nearness[] = {10, 1, 1e-2f, 1e-4f, 1e-6f, 0};
    for (u32 turn = 0; turn < 60; turn++) {
        float near = nearness[turn % LB_LEN(nearness)];
        lb_logprob_pair got;
        long double want = 0;
        u32 token = (u32)lb_test_rand_below(N), top_p = 0, top_q = 0;
        for (u32 i = 0; i < N; i++) {
            p[i] = lb_test_normal() * 8 + (turn % 2 ? 300.0f : -20.0f);
            q[i] = p[i] + near * lb_test_normal() + (turn % 3 ? 0.0f : 3.0f);
        }
        for (u32 i = 0; i < N; i++) {
            top_p = p[i] > p[top_p] ? i : top_p;
            top_q = q[i] > q[top_q] ? i : top_q;
        }
        long double lp = log_sum(p), lq = log_sum(q);
        for (u32 i = 0; i < N; i++)
            want +=
                expl((long double)p[i] - lp) * ((long double)p[i] - lp - ((long double)q[i] - lq));
        CHECK(lb_logprob_compare(p, q, N, token, &got));
        CHECK(fabsl((long double)got.kl - want) < 1e-13L * (1 + want) && got.kl >= 0);
        CHECK(fabsl((long double)got.p - ((long double)p[token] - lp)) < 1e-12L);
        CHECK(fabsl((long double)got.q - ((long double)q[token] - lq)) < 1e-12L);
        CHECK(got.same_top == (top_p == top_q));
        CHECK(lb_logprob_compare(p, p, N, token, &got));
        CHECK(got.kl == 0 && got.same_top && got.p == got.q);
    }
}

LB_TEST(what_is_ruled_out) {
    const float p[] = {1, 2, -INFINITY}, q[] = {1, -INFINITY, 2};
    const float nan_row[] = {1, NAN, 2}, inf_row[] = {1, INFINITY, 2},
                none[] = {-INFINITY, -INFINITY};
    lb_logprob_pair x;
    u32 top;
    CHECK(lb_logprob_compare(p, q, 3, 1, &x));
    CHECK(isinf(x.kl) && x.kl > 0 && isinf(x.q) && !x.same_top);
    CHECK(lb_logprob_compare(p, p, 3, 1, &x) && x.kl == 0);
    CHECK(lb_logprob_compare(p, q, 1, 0, &x) && x.kl == 0 && x.p == 0);
    CHECK(!lb_logprob_compare(p, nan_row, 3, 0, &x) && !lb_logprob_compare(inf_row, p, 3, 0, &x));
    CHECK(!lb_logprob_first(none, 2, &top) && !lb_logprob_first(p, 0, &top));
    /* far below the others: no probability in a double, but not ruled out */
    const float low[] = {0, -2000}, zero[] = {0, -INFINITY};
    CHECK(lb_logprob_compare(zero, low, 2, 0, &x) && x.kl == 0);
    CHECK(lb_logprob_compare(low, zero, 2, 0, &x) && isinf(x.kl));
}

LB_TEST_MAIN("fast")
