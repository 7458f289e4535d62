/* SPDX-License-Identifier: Apache-2.0 */
/* session_file.c: see session_file.h. */
#include "format/session_file.h"

static const char magic[8] = {'l', 'b', 'r', 'x', 's', 'e', 's', 's'};

#define HASH_BYTES 16u
#define HASH_OFF 80u
#define PIECE_BYTES ((u64)64 << 10)

static unsigned long long ull(u64 v) {
    return v;
}

bool lb_session_file_is(const u8 *bytes, size_t n) {
    return n >= sizeof magic && memcmp(bytes, magic, sizeof magic) == 0;
}

bool lb_session_file_size(const lb_session_file *f, u64 *size_bytes) {
    u64 sum;
    return lb_mul_u64(f->n_held, f->row_bytes, &sum) &&
           lb_add_u64(sum, (u64)f->n_ids * sizeof(u32), &sum) &&
           lb_add_u64(sum, f->state_bytes, &sum) && lb_add_u64(sum, f->text_bytes, &sum) &&
           lb_add_u64(sum, LB_SESSION_HEAD_BYTES + HASH_BYTES, size_bytes);
}

static void put_hash(u8 *out, lb_hash128 h) {
    lb_store_u64(out, h.lo);
    lb_store_u64(out + 8, h.hi);
}

static lb_hash128 get_hash(const u8 *in) {
    return (lb_hash128){.lo = lb_load_u64(in), .hi = lb_load_u64(in + 8)};
}

/* ---- reading ---- */

static bool kv_type_of(u32 id, lb_dtype *out) {
    return lb_dtype_find_ggml(id, out) &&
           (*out == LB_F32 || *out == LB_F16 || *out == LB_Q8_0 || *out == LB_Q4_0);
}

static lb_status check_kind(const lb_cur *c, const u8 *head, lb_err *err) {
    if (!lb_session_file_is(head, sizeof magic))
        return lb_fail(err, LB_E_FORMAT, "%s: no saved session: lbrx generate --session makes one",
                       c->path);
    if (c->size_bytes < LB_SESSION_HEAD_BYTES)
        return lb_fail(err, LB_E_FORMAT, "%s: ends inside its header: damaged or incomplete",
                       c->path);
    if (lb_load_u32(head + 8) != LB_SESSION_VERSION)
        return lb_fail_at(err, LB_E_UNSUPPORTED, 8,
                          "%s: version %u of saved sessions is not known: this lbrx reads %u",
                          c->path, lb_load_u32(head + 8), LB_SESSION_VERSION);
    return LB_OK;
}

static bool is_sound(const lb_session_file *f) {
    return !(f->flags & ~(u32)LB_SESSION_FLAGS) && f->n_vocab && f->n_ids <= LB_SESSION_IDS_MAX &&
           f->n_held <= f->n_ids && f->text_bytes <= LB_SESSION_TEXT_MAX &&
           f->state_bytes % sizeof(float) == 0;
}

lb_status lb_session_file_parse(lb_cur *c, lb_session_file *out, lb_err *err) {
    static const u8 zeros[4];
    u8 head[LB_SESSION_HEAD_BYTES] = {0};
    u64 size;
    *out = (lb_session_file){0};
    c->pos = 0;
    LB_TRY(lb_cur_bytes(c, head, LB_MIN(lb_cur_left(c), (u64)sizeof head), "its header", err));
    LB_TRY(check_kind(c, head, err));
    *out = (lb_session_file){.flags = lb_load_u32(head + 16),
                             .n_vocab = lb_load_u32(head + 20),
                             .n_ids = lb_load_u32(head + 24),
                             .n_held = lb_load_u32(head + 28),
                             .row_bytes = lb_load_u64(head + 32),
                             .state_bytes = lb_load_u64(head + 40),
                             .text_bytes = lb_load_u64(head + 48),
                             .rope_ctx = lb_load_u32(head + 56),
                             .model = get_hash(head + 64),
                             .head_hash = get_hash(head + HASH_OFF)};
    if (!kv_type_of(lb_load_u32(head + 12), &out->kv_type) || !is_sound(out) ||
        memcmp(head + 60, zeros, sizeof zeros) != 0)
        return lb_fail(err, LB_E_FORMAT,
                       "%s: its header says %u tokens (%u of them held) of a vocabulary of %u: "
                       "damaged",
                       c->path, out->n_ids, out->n_held, out->n_vocab);
    if (!lb_session_file_size(out, &size) || size != c->size_bytes)
        return lb_fail(err, LB_E_FORMAT,
                       "%s: %llu bytes long, which is not what its header says (%u tokens, %llu "
                       "bytes each): damaged or incomplete",
                       c->path, ull(c->size_bytes), out->n_ids, ull(out->row_bytes));
    return LB_OK;
}

lb_status lb_session_file_ids(lb_cur *c, const lb_session_file *f, u32 *ids, lb_err *err) {
    u8 head[LB_SESSION_HEAD_BYTES];
    lb_xxh h;
    c->pos = 0;
    LB_TRY(lb_cur_bytes(c, head, sizeof head, "its header", err));
    LB_TRY(lb_cur_bytes(c, ids, (u64)f->n_ids * sizeof *ids, "its tokens", err));
    lb_xxh_init(&h);
    lb_xxh_update(&h, head, HASH_OFF);
    lb_xxh_update(&h, ids, (size_t)f->n_ids * sizeof *ids);
    if (!lb_hash_eq(lb_xxh_digest(&h), f->head_hash))
        return lb_fail_at(err, LB_E_FORMAT, HASH_OFF,
                          "%s: damaged: header or tokens are not those that were hashed", c->path);
    for (u32 i = 0; i < f->n_ids; i++)
        if (ids[i] >= f->n_vocab)
            return lb_fail_at(err, LB_E_FORMAT, LB_SESSION_HEAD_BYTES + (u64)i * sizeof *ids,
                              "%s: token %u is %u: the vocabulary has %u", c->path, i, ids[i],
                              f->n_vocab);
    return LB_OK;
}

void lb_session_body_begin(lb_session_body *b, lb_cur *c, const lb_session_file *f,
                           const u32 *ids) {
    u8 head_hash[HASH_BYTES];
    put_hash(head_hash, f->head_hash);
    b->c = c;
    lb_xxh_init(&b->hash);
    lb_xxh_update(&b->hash, head_hash, sizeof head_hash);
    lb_xxh_update(&b->hash, ids, (size_t)f->n_ids * sizeof *ids);
    c->pos = LB_SESSION_HEAD_BYTES + (u64)f->n_ids * sizeof *ids;
}

lb_status lb_session_body_read(lb_session_body *b, void *out, u64 n, lb_err *err) {
    u8 piece[4096], *to = out;
    for (u64 done = 0; done < n;) {
        u64 some = LB_MIN(n - done, out ? PIECE_BYTES : (u64)sizeof piece);
        u8 *at = out ? to + done : piece;
        LB_TRY(lb_cur_bytes(b->c, at, some, "its keys and values", err));
        lb_xxh_update(&b->hash, at, (size_t)some);
        done += some;
    }
    return LB_OK;
}

lb_status lb_session_body_end(lb_session_body *b, lb_err *err) {
    u8 want[HASH_BYTES];
    LB_TRY(lb_cur_bytes(b->c, want, sizeof want, "its hash", err));
    if (lb_cur_left(b->c) || !lb_hash_eq(lb_xxh_digest(&b->hash), get_hash(want)))
        return lb_fail(err, LB_E_FORMAT,
                       "%s: damaged: its keys and values are not those that were hashed",
                       b->c->path);
    return LB_OK;
}

/* ---- writing ---- */

void lb_session_file_begin(lb_session_file *f, const u32 *ids, lb_xxh *hash, lb_out *out) {
    u8 head[LB_SESSION_HEAD_BYTES] = {0};
    memcpy(head, magic, sizeof magic);
    lb_store_u32(head + 8, LB_SESSION_VERSION);
    lb_store_u32(head + 12, (u32)lb_dtype_get(f->kv_type)->ggml);
    lb_store_u32(head + 16, f->flags);
    lb_store_u32(head + 20, f->n_vocab);
    lb_store_u32(head + 24, f->n_ids);
    lb_store_u32(head + 28, f->n_held);
    lb_store_u64(head + 32, f->row_bytes);
    lb_store_u64(head + 40, f->state_bytes);
    lb_store_u64(head + 48, f->text_bytes);
    lb_store_u32(head + 56, f->rope_ctx);
    put_hash(head + 64, f->model);
    lb_xxh_init(hash);
    lb_xxh_update(hash, head, HASH_OFF);
    lb_xxh_update(hash, ids, (size_t)f->n_ids * sizeof *ids);
    f->head_hash = lb_xxh_digest(hash);
    put_hash(head + HASH_OFF, f->head_hash);
    lb_buf_put(&out->buf, head, sizeof head);
    lb_xxh_init(hash);
    lb_xxh_update(hash, head + HASH_OFF, HASH_BYTES);
    lb_session_file_put(hash, out, ids, (size_t)f->n_ids * sizeof *ids);
}

void lb_session_file_put(lb_xxh *hash, lb_out *out, const void *bytes, size_t n) {
    const u8 *at = bytes;
    lb_xxh_update(hash, bytes, n);
    for (size_t done = 0; done < n;) {
        size_t some = LB_MIN(n - done, (size_t)PIECE_BYTES);
        lb_buf_put(&out->buf, at + done, some);
        lb_out_spill(out);
        done += some;
    }
}

void lb_session_file_end(const lb_xxh *hash, lb_out *out) {
    u8 bytes[HASH_BYTES];
    put_hash(bytes, lb_xxh_digest(hash));
    lb_buf_put(&out->buf, bytes, sizeof bytes);
}
