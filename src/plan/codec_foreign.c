/* SPDX-License-Identifier: Apache-2.0 */
/* codec_foreign.c: encodings of other tools: where their parts lie and how a row is decoded, each
 * operation in the type in which the maker's own code computes it. Shapes were checked by
 * format/foreign*.c, which also says whose code that is. */
#include "plan/codec.h"
#include "plan/expr.h"

static lb_codec_part plain_part(const lb_source *s, const lb_weight *w, u32 p) {
    lb_dtype t = s->tensors[w->part[p]].dtype;
    return (lb_codec_part){.kind = LB_PART_ROWS,
                           .tensor = w->part[p],
                           .dtype = t,
                           .unit_bytes = lb_dtype_get(t)->block_bytes};
}

/* One element of the tensor for a block of rows x cols of each matrix; 0: all of them. */
static lb_codec_part block_part(const lb_source *s, const lb_weight *w, u32 p, u64 rows, u64 cols) {
    lb_codec_part x = plain_part(s, w, p);
    u64 n_rows, n_cols;
    lb_shape_matrix(&w->shape, &n_rows, &n_cols);
    x.kind = LB_PART_GRID;
    x.mat_rows = LB_MAX(w->shape.rank > 2 ? w->shape.dim[w->shape.rank - 2] : n_rows, 1);
    x.rows = rows ? rows : x.mat_rows;
    x.cols = cols;
    x.stored_rows = 1;
    x.n_stored = n_rows / x.mat_rows * lb_ceil_div_u64(x.mat_rows, x.rows);
    x.stride = (cols ? lb_ceil_div_u64(n_cols, cols) : 1) * x.unit_bytes;
    return x;
}

/* Codes of e->bits in rows of words: units of 32 codes, the last one cut. */
static lb_codec_part packed_part(const lb_source *s, const lb_weight *w, u32 p) {
    lb_codec_part x = block_part(s, w, p, 1, 32);
    u64 n_rows, n_cols;
    lb_shape_matrix(&w->shape, &n_rows, &n_cols);
    x.unit_bytes = 4 * w->enc.bits;
    x.stride = lb_ceil_div_u64(n_cols * w->enc.bits, 32) * 4;
    return x;
}

/* Zero points packed down the rows, one column for a block of `cols`: 32 rows are e->bits words; a
 * word is a band of its own where codes do not cross words. */
static lb_codec_part packed_zeros(const lb_source *s, const lb_weight *w, u32 p) {
    u32 bits = w->enc.bits;
    bool whole = 32 % bits == 0;
    lb_codec_part x = block_part(s, w, p, whole ? 32 / bits : 32, w->enc.group_size);
    x.stored_rows = whole ? 1 : bits;
    x.n_stored = lb_ceil_div_u64(x.mat_rows * bits, 32);
    return x;
}

/* The tables must hold what the blocks ask for: a slip of a reader must not read beyond. */
static lb_status check_parts(const lb_codec *c, const lb_source *s, lb_err *err) {
    for (u32 k = 0; k < c->n_parts; k++) {
        const lb_codec_part *p = &c->part[k];
        const lb_tensor *t = &s->tensors[p->tensor];
        u64 n;
        if (p->kind == LB_PART_GRID &&
            (!lb_mul_u64(p->n_stored, p->stride, &n) || n != t->size_bytes))
            return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' does not have the blocks of its weight",
                           LB_FMT(t->name));
    }
    return LB_OK;
}

lb_status lb_codec_of_foreign(lb_codec *c, const lb_source *s, const lb_weight *w, lb_err *err) {
    const lb_enc *e = &w->enc;
    c->unit_elems = 1;
    c->decodes = c->by_row = c->has_grid = true;
    switch (e->kind) {
    case LB_ENC_FP8:
        c->part[0] = plain_part(s, w, 0);
        c->part[1] = block_part(s, w, 1, e->block_rows, e->group_size);
        break;
    case LB_ENC_INT8:
        c->part[0] = plain_part(s, w, 0);
        for (u32 p = 1; p < w->n_parts; p++)
            c->part[p] = block_part(s, w, p, e->block_rows, e->group_size);
        break;
    case LB_ENC_PACKED:
        c->part[0] = packed_part(s, w, 0);
        c->part[1] = block_part(s, w, 1, e->block_rows, e->group_size);
        if (w->n_parts > 2)
            c->part[2] = packed_zeros(s, w, 2);
        break;
    default:
        return lb_fail(err, LB_E_UNSUPPORTED, "unknown encoding");
    }
    return check_parts(c, s, err);
}

/* ---- decoding ---- */

/* How many columns of `cols` a stretch of n from col on touches. */
static u64 units_of(u64 cols, u64 col, u64 n) {
    return cols ? (col + n - 1) / cols - col / cols + 1 : 1;
}

/* E8M0 is often stored as bytes. */
static void decode_floats(const lb_kernels *k, lb_dtype t, u64 n, float *out, const u8 *in) {
    if (t == LB_U8)
        k->decode_f32_f8_e8m0(n, out, in);
    else
        lb_kernels_decode(k, t)(n, out, in);
}

/* Codes minus zero points: whole numbers of at most nine bits, exact in every type. */
static void subtract(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, float *out,
                     const float *zero) {
    u64 end = at->col + at->n, cols = c->part[2].cols ? c->part[2].cols : end;
    for (u64 i = at->col, b = 0; i < end; b++) {
        u64 to = LB_MIN((i / cols + 1) * cols, end);
        k->map_addc_f32(to - i, out + (i - at->col), out + (i - at->col), -zero[b]);
        i = to;
    }
}

/* Zero points of a row out of words that go down the rows; less = 2^(bits-1), as the codes have. */
static void column_zeros(const lb_codec *c, const lb_codec_row *at, u64 n, float *zero) {
    const lb_codec_part *p = &c->part[2];
    u32 bits = c->enc.bits, bit = (u32)(at->row % p->mat_rows % p->rows) * bits;
    for (u64 i = 0; i < n; i++) {
        const u8 *word = at->part[2] + bit / 32 * at->stride[2] + 4 * i;
        u64 v = lb_load_u32(word);
        if (bit % 32 + bits > 32)
            v |= (u64)lb_load_u32(word + at->stride[2]) << 32;
        zero[i] = (float)(v >> bit % 32 & ((1u << bits) - 1));
    }
}

static void decode_ints(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, float *out,
                        float *scratch) {
    u64 n = units_of(c->part[2].cols, at->col, at->n);
    if (c->enc.kind == LB_ENC_INT8) {
        k->decode_f32_i8(at->n, out, at->part[0]);
        if (c->n_parts > 2)
            k->decode_f32_i8(n, scratch, at->part[2]);
    } else {
        k->decode_f32_codes(at->n, at->col % 32, c->enc.bits, out, at->part[0]);
        if (c->n_parts > 2)
            column_zeros(c, at, n, scratch);
        else
            k->map_addc_f32(at->n, out, out, -(float)(1u << (c->enc.bits - 1)));
    }
    if (c->n_parts > 2)
        subtract(c, k, at, out, scratch);
}

/* out[i] *= the scale of its block; then to the type of the scales where the maker computes so. */
static void scale_row(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, float *out,
                      u32 p, float *scratch) {
    const lb_codec_part *part = &c->part[p];
    u64 end = at->col + at->n, cols = part->cols ? part->cols : end;
    decode_floats(k, part->dtype, units_of(part->cols, at->col, at->n), scratch, at->part[p]);
    for (u64 i = at->col, b = 0; i < end; b++) {
        u64 to = LB_MIN((i / cols + 1) * cols, end);
        k->map_mulc_f32(to - i, out + (i - at->col), out + (i - at->col), scratch[b]);
        i = to;
    }
    if (c->enc.rounds && part->dtype == LB_BF16)
        k->map_round_bf16_f32(at->n, out, out);
    if (c->enc.rounds && part->dtype == LB_F16)
        k->map_round_f16_f32(at->n, out, out);
}

void lb_codec_decode_row(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, float *out,
                         float *scratch) {
    if (at->n == 0)
        return;
    switch (c->enc.kind) {
    case LB_ENC_FP8:
        lb_kernels_decode(k, c->dtype)(at->n, out, at->part[0]);
        scale_row(c, k, at, out, 1, scratch);
        return;
    case LB_ENC_INT8:
    case LB_ENC_PACKED:
        decode_ints(c, k, at, out, scratch);
        scale_row(c, k, at, out, 1, scratch);
        return;
    default:
        LB_ASSERT(false && "a foreign encoding");
    }
}
