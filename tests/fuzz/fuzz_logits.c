/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_logits.c: bytes -> a file of logits: as it is, and with the hashes that its bytes should
 * have, so that what lies behind them is reached. What is accepted is as long as it says; then the
 * ids are those of the file, every row is read, and a row compared with itself is no divergence. */
#include "format/logits.h"
#include "fuzz/mended.h"
#include "model/logprob.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static lb_status read_rows(lb_cur *c, const lb_logits *l, lb_err *err) {
    float *row = malloc((size_t)l->n_vocab * sizeof *row); /* no more than the file is long */
    lb_status st = LB_OK;
    for (u64 r = 0; r < l->n_chunks * lb_logits_n_rows(l) && st == LB_OK && row; r++) {
        lb_logprob_pair x;
        st = lb_logits_row(c, l, r, row, err);
        if (st == LB_OK && lb_logprob_compare(row, row, l->n_vocab, 0, &x))
            LB_ASSERT(x.kl == 0 && x.same_top && (x.p == x.q || x.p != x.p));
    }
    free(row);
    return st;
}

static lb_status read_file(const u8 *data, size_t size) {
    lb_err err = {0};
    lb_cur c;
    lb_logits l;
    u64 need;
    lb_cur_mem(&c, "x.logits", data, size);
    lb_status st = lb_logits_parse(&c, &l, &err);
    if (st == LB_OK) {
        LB_ASSERT(lb_logits_size(&l, &need) && need == size && l.n_vocab <= size / 4);
        LB_ASSERT(l.n_chunks <= size / (4 * (u64)l.n_ctx));
        u64 n_bytes = l.n_chunks * l.n_ctx * sizeof(u32);
        u32 *ids = malloc(n_bytes);
        if (ids) {
            memcpy(ids, data + LB_LOGITS_HEAD_BYTES, n_bytes);
            st = lb_logits_check_ids(&c, &l, ids, &err);
            ids[n_bytes / sizeof *ids / 2] ^= 1;
            LB_ASSERT(lb_logits_check_ids(&c, &l, ids, NULL) == LB_E_FORMAT);
        }
        free(ids);
    }
    if (st == LB_OK)
        st = read_rows(&c, &l, &err);
    return mended_end(st, &err);
}

static void mend(u8 *data, size_t size) {
    lb_cur c;
    lb_logits l;
    u8 head[LB_LOGITS_HEAD_BYTES];
    lb_cur_mem(&c, "x.logits", data, size);
    if (lb_logits_parse(&c, &l, NULL) != LB_OK)
        return;
    u64 n_ids = l.n_chunks * l.n_ctx, n_values = l.n_vocab;
    u32 *ids = malloc(n_ids * sizeof *ids);
    float *row = malloc(n_values * sizeof *row);
    if (ids && row) {
        memcpy(ids, data + LB_LOGITS_HEAD_BYTES, n_ids * sizeof *ids);
        lb_logits_head(&l, ids, head);
        memcpy(data, head, sizeof head);
        for (u64 r = 0; r < l.n_chunks * lb_logits_n_rows(&l); r++) {
            u8 *at = data + lb_logits_row_off(&l, r);
            memcpy(row, at, n_values * sizeof *row);
            lb_logits_row_hash(&l, r, row, at + n_values * sizeof *row);
        }
        LB_ASSERT(read_file(data, size) == LB_OK);
    }
    free(ids);
    free(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return mended_run(data, size, read_file, mend);
}
