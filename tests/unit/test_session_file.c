/* SPDX-License-Identifier: Apache-2.0 */
/* test_session_file.c: saved sessions: what was written is read, a file that is cut, longer or
 * changed in one bit is refused, headers that lie cost nothing, other versions are told apart. */
#include "format/session_file.h"
#include "test.h"

static lb_err err;

#define N_IDS 7u
#define N_HELD 6u
#define ROW 20u
#define STATE 12u
#define TEXT "{\"messages\": []}"
#define N_TEXT (sizeof TEXT - 1)
#define N_BODY (N_TEXT + STATE + N_HELD * ROW)
#define FILE_BYTES (LB_SESSION_HEAD_BYTES + N_IDS * 4 + N_BODY + 16)

static u32 ids[N_IDS];
static u8 body[N_BODY];
static lb_buf bytes;
static lb_session_file made;

static void make(void) {
    lb_out out = {.put = lb_out_to_buf, .ctx = &bytes};
    lb_xxh hash;
    lb_buf_reset(&bytes);
    for (u32 i = 0; i < N_IDS; i++)
        ids[i] = (u32)lb_test_rand_below(100);
    for (u32 i = 0; i < N_BODY; i++)
        body[i] = (u8)lb_test_rand_below(256);
    memcpy(body, TEXT, N_TEXT);
    made = (lb_session_file){.kv_type = LB_Q8_0,
                             .flags = LB_SESSION_ROTATED | LB_SESSION_FAST,
                             .n_vocab = 100,
                             .n_ids = N_IDS,
                             .n_held = N_HELD,
                             .row_bytes = ROW,
                             .state_bytes = STATE,
                             .text_bytes = N_TEXT,
                             .rope_ctx = 4097,
                             .model = {.lo = 1, .hi = 2}};
    lb_session_file_begin(&made, ids, &hash, &out);
    lb_session_file_put(&hash, &out, body, N_TEXT);
    lb_session_file_put(&hash, &out, body + N_TEXT, N_BODY - N_TEXT);
    lb_session_file_end(&hash, &out);
    CHECK_OK(lb_out_end(&out, &err));
}

static lb_status read_all(const u8 *file, u64 size, bool *same) {
    lb_cur c;
    lb_session_file f;
    lb_session_body b;
    u32 got[N_IDS];
    u8 rest[N_BODY];
    *same = false;
    err = (lb_err){0};
    lb_cur_mem(&c, "x.session", file, size);
    LB_TRY(lb_session_file_parse(&c, &f, &err));
    if (f.n_ids != N_IDS)
        return lb_fail(&err, LB_E_FORMAT, "another number of tokens");
    LB_TRY(lb_session_file_ids(&c, &f, got, &err));
    lb_session_body_begin(&b, &c, &f, got);
    LB_TRY(lb_session_body_read(&b, rest, N_BODY, &err));
    LB_TRY(lb_session_body_end(&b, &err));
    *same = memcmp(got, ids, sizeof got) == 0 && memcmp(rest, body, sizeof rest) == 0 &&
            f.kv_type == made.kv_type && f.flags == made.flags && f.n_vocab == made.n_vocab &&
            f.n_held == N_HELD && f.row_bytes == ROW && f.state_bytes == STATE &&
            f.text_bytes == N_TEXT && f.rope_ctx == made.rope_ctx &&
            lb_hash_eq(f.model, made.model);
    return LB_OK;
}

LB_TEST(round_trip) {
    bool same;
    make();
    CHECK_U64(bytes.len, FILE_BYTES);
    CHECK(lb_session_file_is(bytes.ptr, bytes.len) && !lb_session_file_is(bytes.ptr, 7));
    CHECK_OK(read_all(bytes.ptr, bytes.len, &same));
    CHECK(same);
}

LB_TEST(every_prefix_is_refused) {
    bool same;
    make();
    for (u64 n = 0; n < FILE_BYTES; n++)
        CHECK(read_all(bytes.ptr, n, &same) == LB_E_FORMAT && err.msg[0]);
    lb_buf_put_u8(&bytes, 0);
    CHECK(read_all(bytes.ptr, bytes.len, &same) == LB_E_FORMAT);
}

LB_TEST(every_bit_counts) {
    bool same;
    make();
    for (u64 i = 0; i < FILE_BYTES * 8; i++) {
        bytes.ptr[i / 8] ^= (u8)(1u << i % 8);
        lb_status st = read_all(bytes.ptr, bytes.len, &same);
        CHECK(st == LB_E_FORMAT || (i / 8 >= 8 && i / 8 < 12 && st == LB_E_UNSUPPORTED));
        bytes.ptr[i / 8] ^= (u8)(1u << i % 8);
    }
    CHECK_OK(read_all(bytes.ptr, bytes.len, &same));
}

/* Numbers that no file of this length can have, or that would not fit 64 bits. */
LB_TEST(headers_that_lie) {
    static const struct {
        u32 at, size;
        u64 value;
    } lies[] = {
        {12, 4, 12},         {12, 4, 2000},           {16, 4, 8},  {16, 4, 16},
        {20, 4, 0},          {24, 4, UINT32_MAX},     {24, 4, 1},  {28, 4, N_IDS + 1},
        {32, 8, UINT64_MAX}, {32, 8, UINT64_MAX / 6}, {40, 8, 13}, {40, 8, UINT64_MAX - 3},
        {48, 8, UINT64_MAX}, {48, 8, 1ull << 32},     {56, 8, 1},  {60, 4, 1},
    };
    bool same;
    for (u32 i = 0; i < LB_LEN(lies); i++) {
        make();
        if (lies[i].size == 4)
            lb_store_u32(bytes.ptr + lies[i].at, (u32)lies[i].value);
        else
            lb_store_u64(bytes.ptr + lies[i].at, lies[i].value);
        CHECK(read_all(bytes.ptr, bytes.len, &same) == LB_E_FORMAT);
    }
}

LB_TEST(another_version) {
    bool same;
    make();
    lb_store_u32(bytes.ptr + 8, LB_SESSION_VERSION + 1);
    CHECK(read_all(bytes.ptr, bytes.len, &same) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "version 2") != NULL);
    lb_buf_deinit(&bytes);
}

/* An id that is hashed right and is none of the vocabulary. */
LB_TEST(ids_of_the_vocabulary) {
    lb_buf file = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &file};
    lb_session_file f = {.kv_type = LB_F16, .n_vocab = 5, .n_ids = 2}, got;
    const u32 two[] = {4, 5};
    u32 read[2];
    lb_xxh hash;
    lb_cur c;
    lb_session_file_begin(&f, two, &hash, &out);
    lb_session_file_end(&hash, &out);
    CHECK_OK(lb_out_end(&out, &err));
    lb_cur_mem(&c, "x.session", file.ptr, file.len);
    CHECK_OK(lb_session_file_parse(&c, &got, &err));
    CHECK(lb_session_file_ids(&c, &got, read, &err) == LB_E_FORMAT);
    lb_buf_deinit(&file);
}

LB_TEST_MAIN("fast")
