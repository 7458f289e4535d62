/* SPDX-License-Identifier: Apache-2.0 */
/* codec_foreign.c: encodings of other tools: where their parts lie and how a row is decoded, each
 * operation in the type in which the maker's own code computes it. Shapes were checked by
 * format/foreign*.c, which also says whose code that is. */
#include "plan/codec.h"
#include "plan/expr.h"
#include "tensor/four_bit.h"

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

/* Columns are of any group: a row has the zero points and scales of all, and one table for all rows
 * says which. */
static void parts_of_any_group(lb_codec *c, const lb_weight *w) {
    u64 n_rows, n_cols;
    lb_shape_matrix(&w->shape, &n_rows, &n_cols);
    u64 n_groups = lb_ceil_div_u64(n_cols, w->enc.group_size);
    u32 last = w->n_parts - 1;
    for (u32 p = 1; p < last; p++) {
        c->part[p].cols = 0;
        c->part[p].unit_bytes *= (u32)n_groups;
        c->part[p].stride = c->part[p].unit_bytes;
    }
    c->part[last] = (lb_codec_part){.kind = LB_PART_MAT,
                                    .tensor = w->part[last],
                                    .dtype = LB_I32,
                                    .unit_bytes = (u32)n_cols * 4};
    c->rows_per_mat = LB_MAX(n_rows, 1);
    c->n_groups = n_groups;
}

/* Two codes of four bits a byte, in rows. */
static lb_codec_part nibbles_part(const lb_source *s, const lb_weight *w, u32 p) {
    lb_codec_part x = block_part(s, w, p, 1, 2);
    u64 n_rows, n_cols;
    lb_shape_matrix(&w->shape, &n_rows, &n_cols);
    x.unit_bytes = 1;
    x.stride = lb_ceil_div_u64(n_cols, 2);
    return x;
}

/* One unit of so many bytes for n values in row-major order. */
static lb_codec_part flat_part(const lb_source *s, const lb_weight *w, u32 p, u64 n,
                               u32 unit_bytes) {
    const lb_tensor *t = &s->tensors[w->part[p]];
    return (lb_codec_part){.kind = LB_PART_FLAT,
                           .tensor = w->part[p],
                           .dtype = t->dtype,
                           .unit_bytes = unit_bytes,
                           .cols = n,
                           .rows = 1,
                           .mat_rows = 1,
                           .stored_rows = 1,
                           .n_stored = 1,
                           .stride = t->size_bytes};
}

/* A plain matrix by its lines, which are its columns where it is turned. */
static lb_codec_part view_part(const lb_source *s, const lb_weight *w) {
    lb_codec_part x = plain_part(s, w, 0);
    u64 n_rows, n_cols, stride;
    lb_shape_matrix(&w->shape, &n_rows, &n_cols);
    x.kind = LB_PART_GRID;
    x.mat_rows = x.n_stored = w->enc.turned ? n_cols : n_rows;
    x.rows = x.cols = x.stored_rows = 1;
    x.stride = lb_tensor_stride(&s->tensors[w->part[0]], &stride) ? stride * x.unit_bytes : 0;
    return x;
}

static void parts_of_bnb(lb_codec *c, const lb_source *s, const lb_weight *w) {
    const lb_enc *e = &w->enc;
    u64 n_rows, n_cols;
    lb_shape_matrix(&w->shape, &n_rows, &n_cols);
    c->part[0] = flat_part(s, w, 0, 2, 1);
    c->part[1] = flat_part(s, w, 1, e->group_size, e->nested_size ? 1 : 4);
    if (!e->nested_size)
        return;
    c->part[2] = flat_part(s, w, 2, (u64)e->group_size * e->nested_size, 4);
    c->part[3] = (lb_codec_part){.kind = LB_PART_MAT,
                                 .tensor = w->part[3],
                                 .dtype = LB_F32,
                                 .unit_bytes = 256 * sizeof(float)};
    c->rows_per_mat = LB_MAX(n_rows, 1);
}

/* The tables must hold what the blocks ask for: a slip of a reader must not read beyond. */
static lb_status check_parts(const lb_codec *c, const lb_source *s, lb_err *err) {
    for (u32 k = 0; k < c->n_parts; k++) {
        const lb_codec_part *p = &c->part[k];
        const lb_tensor *t = &s->tensors[p->tensor];
        u64 n;
        if (c->enc.kind != LB_ENC_VIEW && /* lb_source_add_tensor looked at it */
            (p->kind == LB_PART_GRID || p->kind == LB_PART_FLAT) &&
            (!lb_mul_u64(p->n_stored, p->stride, &n) || n != t->size_bytes))
            return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' does not have the blocks of its weight",
                           LB_FMT(t->name));
    }
    return LB_OK;
}

lb_status lb_codec_of_foreign(lb_codec *c, const lb_source *s, const lb_weight *w, lb_err *err) {
    const lb_enc *e = &w->enc;
    c->unit_elems = 1;
    c->decodes = c->has_grid = true;
    c->transposed = e->kind >= LB_ENC_TRANSPOSED || e->turned;
    c->by_row = !c->transposed;
    switch (e->kind) {
    case LB_ENC_VIEW:
        c->part[0] = view_part(s, w);
        break;
    case LB_ENC_FP8:
        c->part[0] = plain_part(s, w, 0);
        c->part[1] = block_part(s, w, 1, e->block_rows, e->group_size);
        break;
    case LB_ENC_INT8:
        c->part[0] = plain_part(s, w, 0);
        for (u32 p = 1; p < w->n_parts - e->ordered; p++)
            c->part[p] = block_part(s, w, p, e->block_rows, e->group_size);
        if (e->ordered)
            parts_of_any_group(c, w);
        break;
    case LB_ENC_PACKED:
        c->part[0] = packed_part(s, w, 0);
        c->part[1] = block_part(s, w, 1, e->block_rows, e->group_size);
        if (w->n_parts - e->ordered > 2)
            c->part[2] = packed_zeros(s, w, 2);
        if (e->ordered)
            parts_of_any_group(c, w);
        break;
    case LB_ENC_FP4:
    case LB_ENC_FP4_INVERSE:
        c->part[0] = nibbles_part(s, w, 0);
        c->part[1] = block_part(s, w, 1, 1, e->group_size);
        if (w->n_parts > 2)
            c->part[2] = block_part(s, w, 2, 0, 0);
        break;
    case LB_ENC_BNB_NF4:
    case LB_ENC_BNB_FP4:
        parts_of_bnb(c, s, w);
        break;
    case LB_ENC_BNB_INT8:
        c->part[0] = plain_part(s, w, 0);
        c->part[1] = block_part(s, w, 1, 1, 0);
        break;
    case LB_ENC_GPTQ:
    case LB_ENC_AWQ:
        lb_codec_parts_transposed(c, s, w);
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
void lb_codec_decode_floats(const lb_kernels *k, lb_dtype t, u64 n, float *out, const u8 *in) {
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

/* A column's zero point and scale are those of its group (lb_codec_check has looked at these). */
static void decode_ordered(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at,
                           float *out, float *scratch) {
    u64 n = c->n_groups;
    float *value = scratch, *spread = scratch + n;
    u32 last = c->n_parts - 1;
    const u8 *group = at->part[last] + 4 * at->col;
    if (c->enc.kind == LB_ENC_INT8)
        k->decode_f32_i8(at->n, out, at->part[0]);
    else
        k->decode_f32_codes(at->n, at->col % 32, c->enc.bits, out, at->part[0]);
    if (last > 2) {
        if (c->enc.kind == LB_ENC_INT8)
            k->decode_f32_i8(n, value, at->part[2]);
        else
            column_zeros(c, at, n, value);
        for (u64 i = 0; i < at->n; i++)
            spread[i] = value[lb_load_u32(group + 4 * i)];
        k->map_sub_f32(at->n, out, out, spread);
    } else if (c->enc.kind == LB_ENC_PACKED) {
        k->map_addc_f32(at->n, out, out, -(float)(1u << (c->enc.bits - 1)));
    }
    lb_codec_decode_floats(k, c->part[1].dtype, n, value, at->part[1]);
    for (u64 i = 0; i < at->n; i++)
        spread[i] = value[lb_load_u32(group + 4 * i)];
    k->map_mul_f32(at->n, out, out, spread);
    lb_codec_round(c, k, at->n, out);
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

void lb_codec_round(const lb_codec *c, const lb_kernels *k, u64 n, float *values) {
    if (c->enc.rounded == LB_BF16)
        k->map_round_bf16_f32(n, values, values);
    if (c->enc.rounded == LB_F16)
        k->map_round_f16_f32(n, values, values);
}

/* out[i] *= the scale of its block; then to the type of the scales where the maker computes so. */
static void scale_row(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, float *out,
                      u32 p, float *scratch) {
    const lb_codec_part *part = &c->part[p];
    u64 end = at->col + at->n, cols = part->cols ? part->cols : end;
    u64 n = units_of(part->cols, at->col, at->n);
    if (part->dtype == LB_U8 && c->enc.rounded == LB_BF16) /* compressed-tensors: 2^128 is Inf */
        k->decode_f32_mlx_e8m0(n, scratch, at->part[p]);
    else
        lb_codec_decode_floats(k, part->dtype, n, scratch, at->part[p]);
    for (u64 i = at->col, b = 0; i < end; b++) {
        u64 to = LB_MIN((i / cols + 1) * cols, end);
        k->map_mulc_f32(to - i, out + (i - at->col), out + (i - at->col), scratch[b]);
        i = to;
    }
    lb_codec_round(c, k, at->n, out);
}

/* The scales of a row from at->col on; the one of all goes into them before they are used. */
static void fp4_scales(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, u64 n,
                       float *scale) {
    float all = 1;
    if (c->part[1].dtype == LB_U8 || c->part[1].dtype == LB_F8_E8M0)
        k->decode_f32_mlx_e8m0(n, scale, at->part[1]);
    else
        lb_kernels_decode(k, c->part[1].dtype)(n, scale, at->part[1]);
    if (c->n_parts < 3)
        return;
    lb_kernels_decode(k, c->part[2].dtype)(1, &all, at->part[2]);
    if (c->enc.kind == LB_ENC_FP4)
        k->map_mulc_f32(n, scale, scale, all);
    else
        for (u64 i = 0; i < n; i++)
            scale[i] /= all;
}

static void decode_fp4(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, float *out,
                       float *scratch) {
    const float *value = c->enc.kind == LB_ENC_FP4 ? lb_four_bit_e2m1_one_zero : lb_four_bit_e2m1;
    u64 end = at->col + at->n, group = c->enc.group_size, first = at->col & ~(u64)1;
    fp4_scales(c, k, at, units_of(group, at->col, at->n), scratch);
    if (c->enc.kind == LB_ENC_FP4_INVERSE && (group == 16 || group == 32) && at->col % group == 0 &&
        at->n % group == 0) { /* the same values, all groups at once */
        k->decode_f32_mlx_fp4(at->n / group, group, out, at->part[0], scratch);
        lb_codec_round(c, k, at->n, out);
        return;
    }
    for (u64 i = at->col, b = 0; i < end; b++) {
        u64 to = LB_MIN((i / group + 1) * group, end);
        k->decode_f32_lut4(to - i, i - first, false, out + (i - at->col), at->part[0], value,
                           scratch[b]);
        i = to;
    }
    lb_codec_round(c, k, at->n, out);
}

/* Scales of the blocks from number `first` on. */
static void bnb_scales(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, u64 first,
                       u64 n, float *scale) {
    u32 nested = c->enc.nested_size;
    if (!nested) {
        k->decode_f32_f32(n, scale, at->part[1]);
        return;
    }
    for (u64 i = 0; i < n; i++) {
        float stands_for, all;
        memcpy(&stands_for, at->part[3] + at->part[1][i] * sizeof(float), sizeof stands_for);
        memcpy(&all, at->part[2] + ((first + i) / nested - first / nested) * sizeof(float),
               sizeof all);
        scale[i] = stands_for * all + c->enc.nested_offset;
    }
}

static void decode_bnb(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, float *out,
                       float *scratch) {
    const float *value = c->enc.kind == LB_ENC_BNB_NF4 ? lb_four_bit_nf4 : lb_four_bit_fp4;
    u64 start = at->row * c->n_cols + at->col, end = start + at->n, group = c->enc.group_size;
    bnb_scales(c, k, at, start / group, units_of(group, start, at->n), scratch);
    for (u64 i = start, b = 0; i < end; b++) {
        u64 to = LB_MIN((i / group + 1) * group, end);
        k->decode_f32_lut4(to - i, i - (start & ~(u64)1), true, out + (i - start), at->part[0],
                           value, scratch[b]);
        i = to;
    }
    lb_codec_round(c, k, at->n, out);
}

void lb_codec_decode_row(const lb_codec *c, const lb_kernels *k, const lb_codec_row *at, float *out,
                         float *scratch) {
    if (at->n == 0)
        return;
    switch (c->enc.kind) {
    case LB_ENC_VIEW:
        lb_kernels_decode(k, c->dtype)(at->n, out, at->part[0]);
        return;
    case LB_ENC_FP8:
        lb_kernels_decode(k, c->dtype)(at->n, out, at->part[0]);
        scale_row(c, k, at, out, 1, scratch);
        return;
    case LB_ENC_INT8:
    case LB_ENC_PACKED:
        if (c->enc.ordered) {
            decode_ordered(c, k, at, out, scratch);
            return;
        }
        decode_ints(c, k, at, out, scratch);
        scale_row(c, k, at, out, 1, scratch);
        return;
    case LB_ENC_FP4:
    case LB_ENC_FP4_INVERSE:
        decode_fp4(c, k, at, out, scratch);
        return;
    case LB_ENC_BNB_NF4:
    case LB_ENC_BNB_FP4:
        decode_bnb(c, k, at, out, scratch);
        return;
    case LB_ENC_BNB_INT8:
        k->decode_f32_i8(at->n, out, at->part[0]);
        scale_row(c, k, at, out, 1, scratch);
        k->map_mulc_f32(at->n, out, out,
                        7.874015718698502e-3f); /* 1 / 127, as bitsandbytes has it */
        return;
    default:
        LB_ASSERT(false && "a foreign encoding");
    }
}
