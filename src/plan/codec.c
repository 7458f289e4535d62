/* SPDX-License-Identifier: Apache-2.0 */
/* codec.c: one description for plain types, GGUF blocks and MLX groups; codec_foreign.c has the
 * rest. Layouts: tensor/dtype.def and docs/facts.md; shapes were checked by the readers. */
#include "plan/codec.h"
#include "plan/expr.h"

static lb_codec_part rows_part(const lb_source *s, const lb_weight *w, u32 p, u32 unit_bytes) {
    return (lb_codec_part){.kind = LB_PART_ROWS,
                           .tensor = w->part[p],
                           .dtype = s->tensors[w->part[p]].dtype,
                           .unit_bytes = unit_bytes};
}

static lb_codec_part mat_part(const lb_source *s, const lb_weight *w, u32 p) {
    lb_dtype t = s->tensors[w->part[p]].dtype;
    return (lb_codec_part){.kind = LB_PART_MAT,
                           .tensor = w->part[p],
                           .dtype = t,
                           .unit_bytes = lb_dtype_get(t)->block_bytes};
}

lb_status lb_codec_of(lb_codec *c, const lb_source *s, const lb_weight *w, lb_err *err) {
    const lb_tensor *t = &s->tensors[w->part[0]];
    const lb_dtype_info *info = lb_dtype_get(t->dtype);
    *c = (lb_codec){.enc = w->enc, .dtype = t->dtype, .n_parts = w->n_parts, .rows_per_mat = 1};
    u64 rows, cols, mats;
    lb_shape_matrix(&w->shape, &rows, &cols);
    c->n_cols = cols;
    if (w->enc.kind >= LB_ENC_FOREIGN || w->enc.kind == LB_ENC_VIEW)
        return lb_codec_of_foreign(c, s, w, err);
    switch (w->enc.kind) {
    case LB_ENC_PLAIN:
    case LB_ENC_GGUF_SCALED:
        c->unit_elems = info->block_elems;
        c->part[0] = rows_part(s, w, 0, info->block_bytes);
        c->decodes = info->cls == LB_CLASS_FLOAT || info->cls == LB_CLASS_BLOCK;
        if (w->enc.kind == LB_ENC_PLAIN)
            break;
        mats = s->tensors[w->part[1]].n_elems;
        if (mats == 0 || rows % mats != 0)
            return lb_fail(err, LB_E_FORMAT, "%llu scales do not go with %llu rows",
                           (unsigned long long)mats, (unsigned long long)rows);
        c->rows_per_mat = rows / mats;
        c->part[1] = mat_part(s, w, 1);
        break;
    case LB_ENC_MLX_AFFINE:
    case LB_ENC_MLX_MXFP4:
    case LB_ENC_MLX_MXFP8:
    case LB_ENC_MLX_NVFP4:
        c->unit_elems = w->enc.group_size;
        c->decodes = true;
        c->part[0] = rows_part(s, w, 0, w->enc.group_size * w->enc.bits / 8);
        c->part[1] = rows_part(s, w, 1, lb_dtype_get(s->tensors[w->part[1]].dtype)->block_bytes);
        if (w->enc.kind == LB_ENC_MLX_AFFINE)
            c->part[2] =
                rows_part(s, w, 2, lb_dtype_get(s->tensors[w->part[2]].dtype)->block_bytes);
        else if (w->n_parts > 2) {
            mats = s->tensors[w->part[2]].n_elems;
            if (mats == 0 || rows % mats != 0)
                return lb_fail(err, LB_E_FORMAT, "%llu scales do not go with %llu rows",
                               (unsigned long long)mats, (unsigned long long)rows);
            c->rows_per_mat = rows / mats;
            c->part[2] = mat_part(s, w, 2);
        }
        break;
    default:
        return lb_fail(err, LB_E_UNSUPPORTED, "unknown encoding");
    }
    return LB_OK;
}

void lb_codec_f32(lb_codec *c) {
    *c = (lb_codec){.enc = {.kind = LB_ENC_PLAIN},
                    .dtype = LB_F32,
                    .unit_elems = 1,
                    .n_parts = 1,
                    .rows_per_mat = 1,
                    .decodes = true};
    c->part[0] =
        (lb_codec_part){.kind = LB_PART_ROWS, .dtype = LB_F32, .unit_bytes = sizeof(float)};
}

/* The first stored row of a row's band. */
static u64 stored_row(const lb_codec_part *p, u64 row) {
    u64 bands = lb_ceil_div_u64(p->mat_rows, p->rows);
    return (row / p->mat_rows * bands + row % p->mat_rows / p->rows) * p->stored_rows;
}

static lb_codec_area turned(lb_codec_area a) {
    return (lb_codec_area){a.c0, a.nc, a.r0, a.nr};
}

static lb_codec_span flat_span(const lb_codec_part *p, u64 n_cols, lb_codec_area a) {
    u64 first = (a.r0 * n_cols + a.c0) / p->cols;
    u64 end = lb_ceil_div_u64((a.r0 + a.nr - 1) * n_cols + a.c0 + a.nc, p->cols);
    lb_codec_span s = {.n_rows = 1, .off_bytes = first * p->unit_bytes};
    s.row_bytes = LB_MIN(end * p->unit_bytes, p->stride) - s.off_bytes;
    return s;
}

lb_codec_span lb_codec_span_of(const lb_codec *c, u32 part, lb_codec_area a) {
    const lb_codec_part *p = &c->part[part];
    lb_codec_span s = {.row_bytes = p->stride};
    if (a.nr == 0 || a.nc == 0)
        return (lb_codec_span){0};
    if (p->kind == LB_PART_FLAT)
        return flat_span(p, c->n_cols, a);
    if (c->transposed)
        a = turned(a);
    s.first_row = stored_row(p, a.r0);
    u64 end = LB_MIN(stored_row(p, a.r0 + a.nr - 1) + p->stored_rows, p->n_stored);
    s.n_rows = end - s.first_row;
    if (p->cols) {
        u64 last = LB_MIN(lb_ceil_div_u64(a.c0 + a.nc, p->cols) * p->unit_bytes, p->stride);
        s.off_bytes = a.c0 / p->cols * p->unit_bytes;
        s.row_bytes = last - s.off_bytes;
    }
    return s;
}

u64 lb_codec_span_max(const lb_codec *c, u32 part, u64 nr, u64 nc) {
    const lb_codec_part *p = &c->part[part];
    if (p->kind == LB_PART_FLAT) /* from the first value to the last, with what lies between */
        return LB_MIN((((nr ? nr - 1 : 0) * c->n_cols + nc) / p->cols + 2) * p->unit_bytes,
                      p->stride);
    if (c->transposed) {
        u64 swap = nr;
        nr = nc;
        nc = swap;
    }
    u64 bands = LB_MIN(nr, (nr / p->rows + 2) * (nr / p->mat_rows + 2));
    u64 units = p->cols ? nc / p->cols + 2 : 1;
    return LB_MIN(bands * p->stored_rows, p->n_stored) * LB_MIN(units * p->unit_bytes, p->stride);
}

u64 lb_codec_offset(const lb_codec *c, u32 part, lb_codec_area a, u64 row, u64 col, u64 row_bytes) {
    const lb_codec_part *p = &c->part[part];
    if (p->kind == LB_PART_FLAT)
        return ((row * c->n_cols + col) / p->cols - (a.r0 * c->n_cols + a.c0) / p->cols) *
               p->unit_bytes;
    u64 units = p->cols ? col / p->cols - a.c0 / p->cols : 0;
    return (stored_row(p, row) - stored_row(p, a.r0)) * row_bytes + units * p->unit_bytes;
}

/* Groups of columns: the only part of any encoding that says where another is looked up. */
lb_status lb_codec_check(const lb_codec *c, u32 part, const u8 *bytes, u64 n_bytes, lb_err *err) {
    u64 n_groups = c->enc.ordered ? c->n_groups : c->part[1].n_stored;
    if (c->enc.ordered ? part != c->n_parts - 1 : c->enc.kind != LB_ENC_GPTQ || part != 3)
        return LB_OK;
    for (u64 i = 0; i + 4 <= n_bytes; i += 4)
        if (lb_load_u32(bytes + i) >= n_groups)
            return lb_fail(err, LB_E_FORMAT, "column of group %d, of %llu groups",
                           (int)lb_load_u32(bytes + i), (unsigned long long)n_groups);
    return LB_OK;
}

u64 lb_codec_scratch_elems(const lb_codec *c, u64 n_elems) {
    if (c->by_row) /* scales and zeros of a row, whole words of them */
        return 2 * (n_elems + 64) + c->n_groups;
    if (c->enc.kind == LB_ENC_PLAIN || c->enc.kind == LB_ENC_GGUF_SCALED)
        return 0;
    return 2 * (n_elems / c->unit_elems);
}

static float mat_scale(const lb_codec *c, const lb_kernels *k, u32 p, const u8 *ptr) {
    float v = 1;
    lb_decode_fn *f = lb_kernels_decode(k, c->part[p].dtype);
    if (f)
        f(1, &v, ptr);
    return v;
}

/* mx.dequantize works in the type of the scales (docs/facts.md). */
static void decode_affine(const lb_codec *c, const lb_kernels *k, u64 n_groups, float *out,
                          const u8 *const part[], float *scratch) {
    float *scale = scratch, *bias = scratch + n_groups;
    u32 gs = c->unit_elems;
    lb_dtype ts = c->part[1].dtype, tb = c->part[2].dtype;
    u32 round = LB_MLX_ROUND(lb_round_of(ts), lb_round_of(ts == tb ? ts : LB_F32));
    lb_kernels_decode(k, c->part[1].dtype)(n_groups, scale, part[1]);
    lb_kernels_decode(k, c->part[2].dtype)(n_groups, bias, part[2]);
    switch (c->enc.bits) {
    case 1:
        k->decode_f32_mlx_q1(n_groups, gs, out, part[0], scale, bias, round);
        break;
    case 2:
        k->decode_f32_mlx_q2(n_groups, gs, out, part[0], scale, bias, round);
        break;
    case 3:
        k->decode_f32_mlx_q3(n_groups, gs, out, part[0], scale, bias, round);
        break;
    case 4:
        k->decode_f32_mlx_q4(n_groups, gs, out, part[0], scale, bias, round);
        break;
    case 5:
        k->decode_f32_mlx_q5(n_groups, gs, out, part[0], scale, bias, round);
        break;
    case 6:
        k->decode_f32_mlx_q6(n_groups, gs, out, part[0], scale, bias, round);
        break;
    default:
        k->decode_f32_mlx_q8(n_groups, gs, out, part[0], scale, bias, round);
        break;
    }
}

void lb_codec_decode(const lb_codec *c, const lb_kernels *k, u64 n_elems, float *out,
                     const u8 *const part[], float *scratch) {
    u64 n_groups = n_elems / c->unit_elems;
    switch (c->enc.kind) {
    case LB_ENC_PLAIN:
        lb_kernels_decode(k, c->dtype)(n_elems, out, part[0]);
        return;
    case LB_ENC_GGUF_SCALED:
        lb_kernels_decode(k, c->dtype)(n_elems, out, part[0]);
        k->map_mulc_f32(n_elems, out, out, mat_scale(c, k, 1, part[1]));
        return;
    case LB_ENC_MLX_AFFINE:
        decode_affine(c, k, n_groups, out, part, scratch);
        return;
    case LB_ENC_MLX_NVFP4:
        k->decode_f32_f8_e4m3(n_groups, scratch, part[1]);
        if (c->n_parts > 2) /* quantize multiplied by 448 * 6 / global_scale (docs/facts.md) */
            k->map_mulc_f32(n_groups, scratch, scratch,
                            mat_scale(c, k, 2, part[2]) / (448.0f * 6.0f));
        k->decode_f32_mlx_fp4(n_groups, c->unit_elems, out, part[0], scratch);
        return;
    case LB_ENC_MLX_MXFP4:
        k->decode_f32_mlx_e8m0(n_groups, scratch, part[1]);
        k->decode_f32_mlx_fp4(n_groups, c->unit_elems, out, part[0], scratch);
        return;
    case LB_ENC_MLX_MXFP8:
        k->decode_f32_mlx_e8m0(n_groups, scratch, part[1]);
        k->decode_f32_mlx_fp8(n_groups, c->unit_elems, out, part[0], scratch);
        return;
    default:
        break;
    }
    LB_ASSERT(false && "decoded by rows");
}
