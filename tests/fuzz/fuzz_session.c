/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_session.c: bytes -> a saved session: as it is, and with the hashes that its bytes should
 * have, so that what lies behind them is reached. What is accepted is as long as it says, its ids
 * are of its vocabulary, and writing what was read gives the same bytes. */
#include "format/session_file.h"
#include "fuzz/mended.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same file once more. */
static void check_written(const lb_session_file *f, const u32 *ids, const u8 *body, size_t n,
                          const u8 *data, size_t size) {
    lb_buf bytes = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &bytes};
    lb_session_file again = *f;
    lb_xxh hash;
    lb_session_file_begin(&again, ids, &hash, &out);
    lb_session_file_put(&hash, &out, body, n);
    lb_session_file_end(&hash, &out);
    if (lb_out_end(&out, NULL) == LB_OK) {
        LB_ASSERT(bytes.len == size && memcmp(bytes.ptr, data, size) == 0);
        LB_ASSERT(lb_hash_eq(again.head_hash, f->head_hash));
    }
    lb_buf_deinit(&bytes);
}

static lb_status read_body(lb_cur *c, const lb_session_file *f, const u32 *ids, const u8 *data,
                           size_t size, lb_err *err) {
    size_t n = size - LB_SESSION_HEAD_BYTES - f->n_ids * sizeof *ids - 16;
    u8 *body = malloc(n ? n : 1);
    lb_session_body b;
    lb_status st = LB_OK;
    if (!body)
        return LB_OK;
    lb_session_body_begin(&b, c, f, ids); /* once unread, once read */
    st = lb_session_body_read(&b, NULL, n, err);
    if (st == LB_OK)
        st = lb_session_body_end(&b, err);
    lb_session_body_begin(&b, c, f, ids);
    LB_ASSERT(lb_session_body_read(&b, body, n, NULL) == LB_OK);
    LB_ASSERT(lb_session_body_end(&b, NULL) == st);
    if (st == LB_OK)
        check_written(f, ids, body, n, data, size);
    free(body);
    return st;
}

static lb_status read_file(const u8 *data, size_t size) {
    lb_err err = {0};
    lb_cur c;
    lb_session_file f;
    u64 need;
    lb_cur_mem(&c, "x.session", data, size);
    lb_status st = lb_session_file_parse(&c, &f, &err);
    if (st == LB_OK) {
        LB_ASSERT(lb_session_file_size(&f, &need) && need == size);
        LB_ASSERT(f.n_ids <= size / 4 && f.n_held <= f.n_ids && f.text_bytes < size);
        u32 *ids = malloc(f.n_ids ? f.n_ids * sizeof *ids : 1);
        if (ids) {
            st = lb_session_file_ids(&c, &f, ids, &err);
            for (u32 i = 0; st == LB_OK && i < f.n_ids; i++)
                LB_ASSERT(ids[i] < f.n_vocab);
            if (st == LB_OK)
                st = read_body(&c, &f, ids, data, size, &err);
        }
        free(ids);
    }
    return mended_end(st, &err);
}

static void mend(u8 *data, size_t size) {
    lb_cur c;
    lb_session_file f;
    lb_buf bytes = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &bytes};
    lb_xxh hash;
    lb_cur_mem(&c, "x.session", data, size);
    if (lb_session_file_parse(&c, &f, NULL) != LB_OK)
        return;
    size_t n_ids = f.n_ids * sizeof(u32), at = LB_SESSION_HEAD_BYTES + n_ids;
    u32 *ids = malloc(n_ids ? n_ids : 1);
    if (ids) {
        memcpy(ids, data + LB_SESSION_HEAD_BYTES, n_ids);
        for (u32 i = 0; i < f.n_ids; i++)
            ids[i] %= f.n_vocab;
        lb_session_file_begin(&f, ids, &hash, &out);
        lb_session_file_put(&hash, &out, data + at, size - at - 16);
        lb_session_file_end(&hash, &out);
        if (lb_out_end(&out, NULL) == LB_OK)
            LB_ASSERT(read_file(bytes.ptr, bytes.len) == LB_OK);
    }
    lb_buf_deinit(&bytes);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return mended_run(data, size, read_file, mend);
}
