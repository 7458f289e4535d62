/* SPDX-License-Identifier: Apache-2.0 */
/* spm_patch.c: a tokenizer.model told by a GGUF's arrays and the bytes that they do not tell. */
#include "text/tok_keep.h"

#include "text/spm.h"

enum { OP_BYTES, OP_PIECES, OP_PIECE, OP_TYPED_PIECES };
#define MODEL_BYTES_MAX ((u64)512 << 20)

static void put_varint(lb_buf *b, u64 v) {
    for (; v >= 0x80; v >>= 7)
        lb_buf_put_u8(b, (u8)(v | 0x80));
    lb_buf_put_u8(b, (u8)v);
}

static bool read_varint(lb_str s, size_t *pos, u64 *out) {
    u64 v = 0;
    for (u32 shift = 0; shift < 64 && *pos < s.len; shift += 7) {
        u8 b = (u8)s.ptr[(*pos)++];
        v |= (u64)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* Piece i as sentencepiece would write it. */
static lb_status piece_bytes(const lb_tok_arrays *a, u64 i, bool typed, lb_buf *out,
                             lb_buf *scratch, lb_err *err) {
    lb_spm_piece p = {.score = a->score[i], .type = (lb_spm_type)a->type[i]};
    LB_TRY(lb_tok_piece_text(a, i, &p.text, err));
    lb_spm_put_piece(out, scratch, &p, typed);
    return LB_OK;
}

/* One top-level field at *pos: its bytes; *is_piece: field 1. False: none. */
static bool next_field(lb_str s, size_t *pos, lb_str *field, bool *is_piece) {
    size_t from = *pos;
    u64 tag, len = 0;
    if (!read_varint(s, pos, &tag))
        return false;
    *is_piece = tag == (1 << 3 | 2);
    if ((tag & 7) == 0) {
        if (!read_varint(s, pos, &len))
            return false;
        len = 0;
    } else if ((tag & 7) == 2) {
        if (!read_varint(s, pos, &len))
            return false;
    } else {
        len = (tag & 7) == 1 ? 8 : 4;
    }
    if (len > s.len - *pos)
        return false;
    *pos += (size_t)len;
    *field = lb_str_sub(s, from, *pos);
    return true;
}

/* A run of pieces that the arrays tell, of one kind. */
typedef struct run {
    u64 n;
    u32 kind;
} run;

static void end_run(lb_buf *out, run *r) {
    if (r->n)
        put_varint(out, r->n << 2 | r->kind);
    r->n = 0;
}

/* Whether the arrays tell piece id, in the form of the run going on or in the other. */
static lb_status match(const lb_tok_arrays *a, u64 id, lb_str field, lb_buf *made, run *r,
                       u32 *kind, lb_err *err) {
    lb_buf scratch = {0};
    lb_status st = LB_OK;
    u32 first = r->kind == OP_TYPED_PIECES;
    *kind = OP_PIECE;
    for (u32 i = 0; i < 2 && id < a->n && *kind == OP_PIECE && st == LB_OK; i++) {
        bool typed = i != first;
        lb_buf_reset(made);
        st = piece_bytes(a, id, typed, made, &scratch, err);
        if (st == LB_OK)
            st = lb_buf_status(made, err);
        if (st == LB_OK && lb_str_eq(lb_buf_str(made), field))
            *kind = typed ? OP_TYPED_PIECES : OP_PIECES;
    }
    lb_buf_deinit(&scratch);
    return st;
}

lb_status lb_spm_patch_make(const lb_tok_arrays *a, lb_str model, lb_buf *out, lb_err *err) {
    lb_buf made = {0};
    lb_status st = LB_OK;
    lb_str field;
    bool is_piece;
    run r = {0, OP_PIECES};
    u64 id = 0;
    for (size_t pos = 0; pos < model.len;) {
        u32 kind = OP_BYTES;
        if (!next_field(model, &pos, &field, &is_piece)) {
            st = lb_fail_at(err, LB_E_FORMAT, pos, "tokenizer.model: a broken field");
            goto done;
        }
        if (is_piece)
            LB_TRY_DONE(st, match(a, id++, field, &made, &r, &kind, err));
        if (kind != r.kind)
            end_run(out, &r);
        if (kind == OP_PIECES || kind == OP_TYPED_PIECES) {
            r.kind = kind;
            r.n++;
            continue;
        }
        put_varint(out, field.len << 2 | kind);
        lb_buf_put_str(out, field);
    }
    end_run(out, &r);
    st = lb_buf_status(out, err);
done:
    lb_buf_deinit(&made);
    return st;
}

lb_status lb_spm_patch_apply(const lb_tok_arrays *a, lb_str patch, lb_out *out, lb_err *err) {
    lb_buf scratch = {0};
    lb_status st = LB_OK;
    u64 id = 0, begin = lb_out_pos(out);
    for (size_t pos = 0; pos < patch.len && st == LB_OK;) {
        u64 op = 0, len;
        bool ok = read_varint(patch, &pos, &op);
        len = op >> 2;
        bool typed = (op & 3) == OP_TYPED_PIECES;
        if (ok && (typed || (op & 3) == OP_PIECES)) {
            ok = id <= a->n && len <= a->n - id;
            for (u64 end = id + len; ok && id < end && st == LB_OK; id++) {
                st = piece_bytes(a, id, typed, &out->buf, &scratch, err);
                lb_out_spill(out);
            }
        } else if (ok) {
            ok = len <= patch.len - pos;
            if (ok)
                lb_buf_put(&out->buf, patch.ptr + pos, (size_t)len);
            pos += ok ? (size_t)len : 0;
            id += (op & 3) == OP_PIECE;
        }
        lb_out_spill(out);
        if (!ok || lb_out_pos(out) - begin > MODEL_BYTES_MAX)
            st = lb_fail_at(err, LB_E_FORMAT, pos, "lbrx.hf.tokenizer_model: a broken patch");
    }
    if (st == LB_OK)
        st = lb_buf_status(&scratch, err);
    lb_buf_deinit(&scratch);
    return st;
}
