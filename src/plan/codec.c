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
    if (w->enc.kind >= LB_ENC_FOREIGN)
        return lb_codec_of_foreign(c, s, w, err);
    lb_shape_matrix(&w->shape, &rows, &cols);
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

u64 lb_codec_stored_row(const lb_codec_part *p, u64 row) {
    u64 bands = lb_ceil_div_u64(p->mat_rows, p->rows);
    return (row / p->mat_rows * bands + row % p->mat_rows / p->rows) * p->stored_rows;
}

lb_codec_span lb_codec_span_of(const lb_codec_part *p, u64 r0, u64 nr, u64 c0, u64 nc) {
    lb_codec_span s = {.row_bytes = p->stride};
    if (nr == 0 || nc == 0)
        return (lb_codec_span){0};
    s.first_row = lb_codec_stored_row(p, r0);
    u64 end = LB_MIN(lb_codec_stored_row(p, r0 + nr - 1) + p->stored_rows, p->n_stored);
    s.n_rows = end - s.first_row;
    if (p->cols) {
        u64 last = LB_MIN(lb_ceil_div_u64(c0 + nc, p->cols) * p->unit_bytes, p->stride);
        s.off_bytes = c0 / p->cols * p->unit_bytes;
        s.row_bytes = last - s.off_bytes;
    }
    return s;
}

u64 lb_codec_scratch_elems(const lb_codec *c, u64 n_elems) {
    if (c->by_row) /* scales and zeros of a row, whole words of them */
        return 2 * (n_elems + 64);
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
static u32 round_of(lb_dtype t) {
    return t == LB_BF16 ? LB_ROUND_BF16 : t == LB_F16 ? LB_ROUND_F16 : LB_ROUND_NONE;
}

static void decode_affine(const lb_codec *c, const lb_kernels *k, u64 n_groups, float *out,
                          const u8 *const part[], float *scratch) {
    float *scale = scratch, *bias = scratch + n_groups;
    u32 gs = c->unit_elems;
    lb_dtype ts = c->part[1].dtype, tb = c->part[2].dtype;
    u32 round = LB_MLX_ROUND(round_of(ts), round_of(ts == tb ? ts : LB_F32));
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
