/* SPDX-License-Identifier: Apache-2.0 */
/* logits.c: see logits.h. */
#include "format/logits.h"

static const char magic[8] = {'l', 'b', 'r', 'x', 'l', 'g', 't', 's'};
static const char magic_llama[8] = {'_', 'l', 'o', 'g', 'i', 't', 's', '_'};

#define HASH_BYTES 16u
#define HASH_OFF 48u
#define IDS_PIECE 4096u /* at a time */

static unsigned long long ull(u64 v) {
    return v;
}

static u64 row_bytes(const lb_logits *l) {
    return (u64)l->n_vocab * sizeof(float) + HASH_BYTES;
}

static u64 ids_bytes(const lb_logits *l) {
    return l->n_chunks * l->n_ctx * sizeof(u32);
}

bool lb_logits_size(const lb_logits *l, u64 *size_bytes) {
    u64 ids, rows;
    return lb_mul_u64(l->n_chunks, (u64)l->n_ctx * sizeof(u32), &ids) &&
           lb_mul_u64(l->n_chunks, lb_logits_n_rows(l), &rows) &&
           lb_mul_u64(rows, row_bytes(l), &rows) && lb_add_u64(ids, rows, &rows) &&
           lb_add_u64(rows, LB_LOGITS_HEAD_BYTES, size_bytes);
}

u64 lb_logits_row_off(const lb_logits *l, u64 row) {
    return LB_LOGITS_HEAD_BYTES + ids_bytes(l) + row * row_bytes(l);
}

static void put_hash(u8 *out, lb_hash128 h) {
    lb_store_u64(out, h.lo);
    lb_store_u64(out + 8, h.hi);
}

static lb_hash128 get_hash(const u8 *in) {
    return (lb_hash128){.lo = lb_load_u64(in), .hi = lb_load_u64(in + 8)};
}

void lb_logits_head(lb_logits *l, const u32 *ids, u8 out[LB_LOGITS_HEAD_BYTES]) {
    lb_xxh h;
    memset(out, 0, LB_LOGITS_HEAD_BYTES);
    memcpy(out, magic, sizeof magic);
    lb_store_u32(out + 8, LB_LOGITS_VERSION);
    lb_store_u32(out + 12, l->n_vocab);
    lb_store_u32(out + 16, l->n_ctx);
    lb_store_u32(out + 20, l->bos);
    lb_store_u64(out + 24, l->n_chunks);
    lb_xxh_init(&h);
    lb_xxh_update(&h, out, HASH_OFF);
    lb_xxh_update(&h, ids, (size_t)ids_bytes(l));
    l->hash = lb_xxh_digest(&h);
    put_hash(out + HASH_OFF, l->hash);
}

void lb_logits_row_hash(const lb_logits *l, u64 row, const float *values, u8 out[16]) {
    lb_xxh h;
    u8 place[HASH_BYTES + sizeof row];
    put_hash(place, l->hash);
    lb_store_u64(place + HASH_BYTES, row);
    lb_xxh_init(&h);
    lb_xxh_update(&h, place, sizeof place);
    lb_xxh_update(&h, values, (size_t)l->n_vocab * sizeof(float));
    put_hash(out, lb_xxh_digest(&h));
}

/* ---- reading ---- */

static lb_status check_kind(const lb_cur *c, const u8 *head, lb_err *err) {
    if (memcmp(head, magic_llama, sizeof magic_llama) == 0)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "%s: a file of llama-perplexity, whose log-probabilities are rounded to 16 "
                       "bits: make one with lbrx perplexity --save-logits",
                       c->path);
    if (memcmp(head, magic, sizeof magic) != 0)
        return lb_fail(err, LB_E_FORMAT,
                       "%s: no file of logits: lbrx perplexity --save-logits makes one", c->path);
    if (c->size_bytes < LB_LOGITS_HEAD_BYTES)
        return lb_fail(err, LB_E_FORMAT, "%s: ends inside its header: damaged or incomplete",
                       c->path);
    if (lb_load_u32(head + 8) != LB_LOGITS_VERSION)
        return lb_fail_at(err, LB_E_UNSUPPORTED, 8,
                          "%s: version %u of files of logits is not known: this lbrx reads %u",
                          c->path, lb_load_u32(head + 8), LB_LOGITS_VERSION);
    return LB_OK;
}

lb_status lb_logits_parse(lb_cur *c, lb_logits *out, lb_err *err) {
    static const u8 zeros[HASH_BYTES];
    u8 head[LB_LOGITS_HEAD_BYTES] = {0};
    u64 size;
    *out = (lb_logits){0};
    LB_TRY(lb_cur_bytes(c, head, LB_MIN(lb_cur_left(c), (u64)sizeof head), "its header", err));
    LB_TRY(check_kind(c, head, err));
    *out = (lb_logits){.n_vocab = lb_load_u32(head + 12),
                       .n_ctx = lb_load_u32(head + 16),
                       .bos = lb_load_u32(head + 20),
                       .n_chunks = lb_load_u64(head + 24),
                       .hash = get_hash(head + HASH_OFF)};
    if (out->n_vocab == 0 || out->n_ctx < 4 || out->n_ctx > LB_LOGITS_CTX_MAX ||
        out->n_chunks == 0 || memcmp(head + 32, zeros, sizeof zeros) != 0)
        return lb_fail(err, LB_E_FORMAT,
                       "%s: its header says %llu chunks of %u tokens, %u logits each: damaged",
                       c->path, ull(out->n_chunks), out->n_ctx, out->n_vocab);
    if (!lb_logits_size(out, &size) || size != c->size_bytes)
        return lb_fail(err, LB_E_FORMAT,
                       "%s: %llu bytes long, which is not what its header says (%llu chunks of %u "
                       "tokens, %u logits each): damaged or incomplete",
                       c->path, ull(c->size_bytes), ull(out->n_chunks), out->n_ctx, out->n_vocab);
    return LB_OK;
}

static lb_status other_text(const lb_cur *c, const lb_logits *l, u64 i, u32 theirs, u32 ours,
                            lb_err *err) {
    return lb_fail_at(err, LB_E_FORMAT, LB_LOGITS_HEAD_BYTES + i * sizeof(u32),
                      "%s: of another text or another tokenizer: token %llu of chunk %llu is %u "
                      "there, and %u here",
                      c->path, ull(i % l->n_ctx + 1), ull(i / l->n_ctx + 1), theirs, ours);
}

lb_status lb_logits_check_ids(lb_cur *c, const lb_logits *l, const u32 *ids, lb_err *err) {
    u8 head[LB_LOGITS_HEAD_BYTES];
    u32 piece[IDS_PIECE], theirs = 0;
    u64 n = l->n_chunks * l->n_ctx, other = n;
    lb_xxh h;
    lb_xxh_init(&h);
    c->pos = 0;
    LB_TRY(lb_cur_bytes(c, head, sizeof head, "its header", err));
    lb_xxh_update(&h, head, HASH_OFF);
    for (u64 i = 0; i < n; i += IDS_PIECE) {
        u64 k = LB_MIN((u64)IDS_PIECE, n - i);
        LB_TRY(lb_cur_bytes(c, piece, k * sizeof(u32), "its tokens", err));
        lb_xxh_update(&h, piece, (size_t)k * sizeof(u32));
        for (u64 j = 0; j < k && other == n; j++)
            if (piece[j] != ids[i + j]) {
                other = i + j;
                theirs = piece[j];
            }
    }
    if (!lb_hash_eq(lb_xxh_digest(&h), l->hash))
        return lb_fail_at(err, LB_E_FORMAT, HASH_OFF,
                          "%s: damaged: header or tokens are not those that were hashed", c->path);
    return other < n ? other_text(c, l, other, theirs, ids[other], err) : LB_OK;
}

lb_status lb_logits_row(lb_cur *c, const lb_logits *l, u64 row, float *values, lb_err *err) {
    u8 want[HASH_BYTES], got[HASH_BYTES];
    c->pos = lb_logits_row_off(l, row);
    LB_TRY(lb_cur_bytes(c, values, (u64)l->n_vocab * sizeof(float), "a row", err));
    LB_TRY(lb_cur_bytes(c, want, sizeof want, "a row's hash", err));
    lb_logits_row_hash(l, row, values, got);
    if (memcmp(want, got, sizeof got) != 0)
        return lb_fail_at(err, LB_E_FORMAT, lb_logits_row_off(l, row),
                          "%s: damaged: row %llu of chunk %llu (byte %llu) is not what was written",
                          c->path, ull(row % lb_logits_n_rows(l) + 1),
                          ull(row / lb_logits_n_rows(l) + 1), ull(lb_logits_row_off(l, row)));
    return LB_OK;
}
