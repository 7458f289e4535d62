/* SPDX-License-Identifier: Apache-2.0 */
/* values.c: cutting a weight into tiles, reading their stored parts, decoding, undoing layouts. */
#include "ops/values.h"
#include "base/os.h"
#include "plan/expr.h"

#define ALIGN 64
#define TILE_SIDE 256 /* of a square one: its square is LB_VALUES_TILE */

static u64 aligned(u64 n) {
    return (n + ALIGN - 1) & ~(u64)(ALIGN - 1);
}

lb_status lb_values_init(lb_values *v, const lb_source *s, const lb_weight *w, lb_err *err) {
    *v = (lb_values){.source = s, .weight = w};
    LB_TRY(lb_codec_of(&v->codec, s, w, err));
    lb_shape_matrix(&w->shape, &v->n_rows, &v->n_cols);
    return LB_OK;
}

static bool is_view(const lb_values *v) {
    return v->weight->enc.kind == LB_ENC_VIEW;
}

lb_status lb_values_slice(lb_values *v, u64 first_row, u64 n_rows, lb_err *err) {
    if (v->codec.unit_elems == 1 && v->n_rows == 1 && v->weight->shape.rank <= 2) {
        v->n_rows = v->n_cols; /* a vector, or a stack of one */
        v->n_cols = 1;
    }
    if (v->weight->shape.rank == 2 && v->codec.unit_elems == 1 && !is_view(v) &&
        first_row + n_rows > v->n_rows) {
        v->n_rows *= v->n_cols; /* a stack of vectors */
        v->n_cols = 1;
    }
    if (first_row > v->n_rows || n_rows > v->n_rows - first_row)
        return lb_fail(err, LB_E_FORMAT, "weight '%.*s': rows %llu.. are not in it",
                       LB_FMT(v->weight->name), (unsigned long long)first_row);
    v->first_row = first_row;
    v->n_rows = n_rows;
    return LB_OK;
}

lb_status lb_values_as_rows(lb_values *v, u64 n_rows, lb_err *err) {
    u64 n = v->n_rows * v->n_cols;
    if (n_rows == v->n_rows)
        return LB_OK;
    if (is_view(v))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "weight '%.*s': a view is not read as %llu rows: save it with .contiguous()",
                       LB_FMT(v->weight->name), (unsigned long long)n_rows);
    if (v->codec.unit_elems != 1 || n_rows == 0 || n % n_rows)
        return lb_fail(err, LB_E_FORMAT, "weight '%.*s' does not have %llu rows",
                       LB_FMT(v->weight->name), (unsigned long long)n_rows);
    v->n_rows = n_rows;
    v->n_cols = n / n_rows;
    return LB_OK;
}

/* Whether n positions lie in n_in; those of the last run bound the others. */
static bool order_fits(const lb_strides *s, u64 n, u64 n_in) {
    u64 runs, inner, outer, last;
    if (s->run == 0 || s->n == 0)
        return false;
    if (n == 0)
        return true;
    runs = (n - 1) / s->run;
    return lb_mul_u64(LB_MIN(runs, s->n - 1), s->step, &inner) &&
           lb_mul_u64(runs / s->n, s->jump, &outer) && lb_add_u64(inner, outer, &last) &&
           lb_add_u64(last, s->from, &last) && lb_add_u64(last, LB_MIN(n, s->run) - 1, &last) &&
           last < n_in;
}

lb_status lb_values_order(lb_values *v, const lb_strides *order, u64 n_rows, lb_err *err) {
    if (n_rows > 1)
        lb_values_as_column(v);
    if (!order_fits(order, n_rows, v->n_rows))
        return lb_fail(err, LB_E_FORMAT, "weight '%.*s': its parts are not all in it",
                       LB_FMT(v->weight->name));
    v->moved = true;
    v->order = *order;
    v->n_rows = n_rows;
    return LB_OK;
}

lb_status lb_values_order_cols(lb_values *v, const lb_strides *order, lb_err *err) {
    if (!order_fits(order, v->n_cols, v->n_cols))
        return lb_fail(err, LB_E_FORMAT, "weight '%.*s': its heads are not all in it",
                       LB_FMT(v->weight->name));
    v->moved_cols = true;
    v->order = *order;
    return LB_OK;
}

lb_status lb_values_transpose(lb_values *v, lb_err *err) {
    u64 n = v->n_rows;
    if (!v->codec.decodes || v->codec.dtype == LB_F64 || v->codec.dtype == LB_C64)
        return lb_fail(err, LB_E_UNSUPPORTED, "weight '%.*s': this type is not transposed",
                       LB_FMT(v->weight->name));
    v->n_rows = v->n_cols;
    v->n_cols = n;
    v->transposed = true;
    return LB_OK;
}

lb_status lb_values_every(lb_values *v, u64 from, u64 step, lb_err *err) {
    LB_ASSERT(v->transposed && step > from);
    if (v->codec.unit_elems != 1)
        return lb_fail(err, LB_E_UNSUPPORTED, "weight '%.*s': columns of blocks are not told apart",
                       LB_FMT(v->weight->name));
    if (v->n_rows % step != 0)
        return lb_fail(err, LB_E_FORMAT, "weight '%.*s': %llu columns do not divide by %llu",
                       LB_FMT(v->weight->name), (unsigned long long)v->n_rows,
                       (unsigned long long)step);
    v->all_cols = v->n_rows;
    v->col_from = from;
    v->col_step = step;
    v->n_rows /= step;
    return LB_OK;
}

lb_status lb_values_heads(lb_values *v, u64 heads, lb_err *err) {
    const lb_weight *w = v->weight;
    if (heads == 0)
        return LB_OK;
    lb_values_as_column(v);
    if (v->n_rows % heads || v->n_rows / heads % 2 || v->n_cols % v->codec.unit_elems)
        return lb_fail(err, LB_E_FORMAT, "weight '%.*s': %llu rows are not %llu heads of pairs",
                       LB_FMT(w->name), (unsigned long long)v->n_rows, (unsigned long long)heads);
    v->head_rows = v->n_rows / heads;
    return LB_OK;
}

void lb_values_as_column(lb_values *v) {
    if (v->weight->shape.rank > 1 || v->codec.unit_elems != 1 || v->n_rows != 1)
        return;
    v->n_rows = v->n_cols;
    v->n_cols = 1;
}

/* Rows that must stay together, and rows at whose multiples every tile ends: heads; where rows are
 * columns of the file, 64 f32 of them are four cache lines. */
static u64 together(const lb_values *a, const lb_values *b) {
    u64 heads = LB_MAX(LB_MAX(a->head_rows, b ? b->head_rows : 0), (u64)1);
    u64 least = a->codec.transposed || (b && b->codec.transposed) ? 64 : 1;
    return lb_ceil_div_u64(least, heads) * heads;
}

/* 0, the neutral element of gcd, where a tile may end anywhere. */
static u64 mat_rows(const lb_values *v) {
    return v->codec.rows_per_mat > 1 ? v->codec.rows_per_mat : 0;
}

void lb_values_cut_init(lb_values_cut *c, const lb_values *a, const lb_values *b) {
    u64 keep = together(a, b);
    *c = (lb_values_cut){.n_rows = a->n_rows, .n_cols = a->n_cols};
    if (b)
        c->n_rows = LB_MIN(a->n_rows, b->n_rows);
    c->band_rows = b ? lb_gcd_u64(mat_rows(a), mat_rows(b)) : mat_rows(a);
    if (c->band_rows == 0)
        c->band_rows = LB_MAX(c->n_rows, (u64)1);
    if (c->n_rows == 0 || c->n_cols == 0)
        return;
    c->tile_rows = LB_MAX(LB_VALUES_TILE / c->n_cols, (u64)1);
    c->tile_cols = c->n_cols;
    if (a->transposed || (b && b->transposed)) { /* a multiple of every block */
        c->tile_rows = lb_ceil_div_u64(TILE_SIDE, keep) * keep;
        c->tile_cols = LB_MIN(TILE_SIDE, c->n_cols);
    } else if (keep > 1)
        c->tile_rows = LB_MAX(c->tile_rows / keep, (u64)1) * keep;
    else if (a->moved_cols || (b && b->moved_cols))
        c->tile_cols = c->n_cols;
    else if (c->n_cols > LB_VALUES_TILE)
        c->tile_cols = LB_VALUES_TILE;
    c->tiles_per_row = lb_ceil_div_u64(c->n_cols, c->tile_cols);
    c->tiles_per_band = lb_ceil_div_u64(c->band_rows, c->tile_rows) * c->tiles_per_row;
    u64 full = c->n_rows / c->band_rows, rest = c->n_rows % c->band_rows;
    c->n_tiles = full * c->tiles_per_band + lb_ceil_div_u64(rest, c->tile_rows) * c->tiles_per_row;
}

lb_values_tile lb_values_cut_get(const lb_values_cut *c, u64 tile) {
    lb_values_tile t;
    u64 band = tile / c->tiles_per_band, in_band = tile % c->tiles_per_band;
    u64 row = in_band / c->tiles_per_row * c->tile_rows, end;
    t.r0 = band * c->band_rows + row;
    end = LB_MIN(c->n_rows, (band + 1) * c->band_rows);
    t.nr = LB_MIN(c->tile_rows, end - t.r0);
    t.c0 = in_band % c->tiles_per_row * c->tile_cols;
    t.nc = LB_MIN(c->tile_cols, c->n_cols - t.c0);
    return t;
}

static lb_codec_area area_of(const lb_values *v, const lb_values_tile *t) {
    return (lb_codec_area){v->first_row + t->r0, t->nr, t->c0, t->nc};
}

static lb_codec_span span_of(const lb_values *v, u32 p, const lb_values_tile *t) {
    return lb_codec_span_of(&v->codec, p, area_of(v, t));
}

static u64 part_bytes(const lb_values *v, u32 p, const lb_values_tile *t) {
    const lb_codec_part *part = &v->codec.part[p];
    if (part->kind == LB_PART_MAT)
        return part->unit_bytes;
    if (part->kind == LB_PART_ROWS)
        return t->nr * t->nc / v->codec.unit_elems * part->unit_bytes;
    lb_codec_span s = span_of(v, p, t);
    return s.n_rows * s.row_bytes;
}

/* The most that a tile of so many rows and columns needs, wherever it begins. */
static u64 most_bytes(const lb_values *v, u32 p, const lb_values_tile *t) {
    lb_part_kind kind = v->codec.part[p].kind;
    return kind == LB_PART_GRID || kind == LB_PART_FLAT
               ? lb_codec_span_max(&v->codec, p, t->nr, t->nc)
               : part_bytes(v, p, t);
}

u64 lb_values_stored_bytes(const lb_values *v, const lb_values_tile *t) {
    u64 n = 0;
    for (u32 p = 0; p < v->codec.n_parts; p++)
        n += aligned(part_bytes(v, p, t));
    return n;
}

static u64 decode_scratch(const lb_values *v, const lb_values_tile *t) {
    return v->codec.transposed ? lb_codec_rect_scratch(&v->codec, t->nr, t->nc)
                               : lb_codec_scratch_elems(&v->codec, t->nr * t->nc);
}

/* Bytes at the front of the scratch where values lie that are moved then. */
static u64 moved_bytes(const lb_values *v, u64 n_elems) {
    return v->head_rows || v->transposed || v->moved_cols ? aligned(n_elems * sizeof(float)) : 0;
}

u64 lb_values_scratch_bytes(const lb_values *v, const lb_values_cut *c) {
    lb_values_tile t = {0, LB_MIN(c->tile_rows, c->n_rows), 0, c->tile_cols};
    if (v->transposed)
        t = (lb_values_tile){0, t.nc, 0, t.nr * LB_MAX(v->col_step, 1)};
    u64 elems = t.nr * t.nc, stored = 0;
    for (u32 p = 0; p < v->codec.n_parts; p++)
        stored += aligned(most_bytes(v, p, &t));
    return stored + aligned(decode_scratch(v, &t) * sizeof(float)) + moved_bytes(v, elems);
}

/* A tile is whole rows or a stretch of one row: its bytes in each part are one range, but for
 * blocks, whose stored rows may be wanted in part. */
static lb_status read_range(const lb_values *v, lb_fds *fds, const lb_tensor *x, u64 off, u64 len,
                            u8 *to, lb_err *err) {
    int fd;
    /* The shape agreed with the parts when the model was opened; a slip here must not read beyond.
     */
    if (off > x->size_bytes || len > x->size_bytes - off)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s': its parts do not have the same rows",
                       LB_FMT(x->name));
    LB_TRY(lb_fds_get(fds, x->file, &fd, err));
    lb_status st =
        lb_os_pread(fd, v->source->files[x->file].path, to, len, x->off_bytes + off, err);
    lb_fds_put(fds, x->file);
    return st;
}

static lb_status check_part(const lb_values *v, u32 p, const u8 *bytes, u64 n_bytes, lb_err *err) {
    lb_status st = lb_codec_check(&v->codec, p, bytes, n_bytes, err);
    if (st != LB_OK)
        lb_err_context(err, "tensor '%.*s'",
                       LB_FMT(v->source->tensors[v->codec.part[p].tensor].name));
    return st;
}

static lb_status read_part(const lb_values *v, lb_fds *fds, const lb_values_tile *t, u32 p, u8 *to,
                           lb_err *err) {
    const lb_codec_part *part = &v->codec.part[p];
    const lb_tensor *x = &v->source->tensors[part->tensor];
    u64 row = v->first_row + t->r0, unit = v->codec.unit_elems, off;
    if (part->kind == LB_PART_GRID || part->kind == LB_PART_FLAT) {
        lb_codec_span s = span_of(v, p, t);
        off = s.first_row * part->stride + s.off_bytes;
        u64 n = s.row_bytes == part->stride ? LB_MIN(s.n_rows, 1) : s.n_rows;
        for (u64 i = 0; i < n; i++)
            LB_TRY(read_range(v, fds, x, off + i * part->stride, s.n_rows / n * s.row_bytes,
                              to + i * s.row_bytes, err));
        return check_part(v, p, to, s.n_rows * s.row_bytes, err);
    }
    if (part->kind == LB_PART_MAT)
        off = row / v->codec.rows_per_mat * part->unit_bytes;
    else
        off = (row * v->n_cols + t->c0) / unit * part->unit_bytes;
    LB_TRY(read_range(v, fds, x, off, part_bytes(v, p, t), to, err));
    return check_part(v, p, to, part_bytes(v, p, t), err);
}

/* Row i of a tile whose parts lie at part[], of an encoding that is decoded by rows. */
static lb_codec_row row_of(const lb_values *v, const lb_values_tile *t, u64 i,
                           const u8 *const part[]) {
    lb_codec_row at = {.row = v->first_row + t->r0 + i, .col = t->c0, .n = t->nc};
    for (u32 p = 0; p < v->codec.n_parts; p++) {
        const lb_codec_part *x = &v->codec.part[p];
        at.part[p] = part[p];
        if (x->kind == LB_PART_ROWS)
            at.part[p] += i * t->nc * x->unit_bytes;
        if (x->kind != LB_PART_GRID && x->kind != LB_PART_FLAT)
            continue;
        at.stride[p] = span_of(v, p, t).row_bytes;
        at.part[p] += lb_codec_offset(&v->codec, p, area_of(v, t), at.row, at.col, at.stride[p]);
    }
    return at;
}

/* GGUF's row 2i+h of a head to h*half+i. */
static void undo_heads(u64 head_rows, u64 n_rows, u64 n_cols, float *out, const float *in) {
    u64 half = head_rows / 2;
    for (u64 r = 0; r < n_rows; r++) {
        u64 head = r / head_rows, in_head = r % head_rows;
        u64 from = head * head_rows + in_head % half * 2 + in_head / half;
        memcpy(out + r * n_cols, in + from * n_cols, (size_t)n_cols * sizeof *out);
    }
}

/* Stored rows one after the other, as they are. */
static lb_status read_rows(const lb_values *v, const lb_values_io *io, const lb_values_tile *t,
                           float *out, lb_err *err) {
    const lb_kernels *k = io->kernels;
    const u8 *part[LB_PARTS_MAX] = {0};
    u8 *at = io->scratch;
    for (u32 p = 0; p < v->codec.n_parts; p++) {
        LB_TRY(read_part(v, io->fds, t, p, at, err));
        part[p] = at;
        at += aligned(part_bytes(v, p, t));
    }
    float *scales = (float *)(void *)at;
    for (u64 i = 0; v->codec.by_row && i < t->nr; i++) {
        lb_codec_row row = row_of(v, t, i, part);
        lb_codec_decode_row(&v->codec, k, &row, out + i * t->nc, scales);
    }
    if (v->codec.transposed) {
        lb_codec_rect rect = {.area = area_of(v, t), .held = area_of(v, t)};
        memcpy(rect.part, part, sizeof part);
        lb_codec_decode_rect(&v->codec, k, &rect, out, scales);
    } else if (!v->codec.by_row) {
        lb_codec_decode(&v->codec, k, t->nr * t->nc, out, part, scales);
    }
    return LB_OK;
}

/* The same where the rows of a tile are no neighbours, or it has not all of their columns. */
static lb_status read_pieces(const lb_values *v, const lb_values_io *io, const lb_values_tile *t,
                             float *out, lb_err *err) {
    lb_values x = *v;
    for (u64 i = 0, n; i < t->nr; i += n) {
        u64 row = t->r0 + i;
        n = t->nc == v->n_cols ? t->nr - i : 1;
        if (v->moved) {
            n = LB_MIN(n, v->order.run - row % v->order.run);
            row = lb_strides_at(&v->order, row);
        }
        x.first_row = v->first_row + row;
        lb_values_tile piece = {0, n, t->c0, t->nc};
        LB_TRY(read_rows(&x, io, &piece, out + i * t->nc, err));
    }
    return LB_OK;
}

static lb_status read_transposed(const lb_values *v, const lb_values_io *io,
                                 const lb_values_tile *t, float *out, lb_err *err) {
    lb_values x = *v;
    x.n_rows = v->n_cols;
    x.n_cols = v->col_step ? v->all_cols : v->n_rows;
    u64 step = LB_MAX(v->col_step, 1);
    return read_pieces(&x, io, &(lb_values_tile){t->c0, t->nc, t->r0 * step, t->nr * step}, out,
                       err);
}

/* out [nr][nc] = every step-th column of in [nc][nr * step]. */
static void pick_transposed(const lb_values *v, const lb_values_tile *t, float *out,
                            const float *in) {
    for (u64 r = 0; r < t->nr; r++)
        for (u64 c = 0; c < t->nc; c++)
            out[r * t->nc + c] = in[c * t->nr * v->col_step + r * v->col_step + v->col_from];
}

static void change(const lb_values *v, const lb_kernels *k, size_t n, float *out) {
    if (v->add_one)
        k->map_addc_f32(n, out, out, 1.0f);
    if (v->neg_exp)
        k->map_exp_f32(n, out, out);
    if (v->round == LB_F16)
        k->map_round_f16_f32(n, out, out);
    else if (v->round == LB_BF16)
        k->map_round_bf16_f32(n, out, out);
    if (v->neg_exp)
        k->map_mulc_f32(n, out, out, -1.0f);
}

lb_status lb_values_read(const lb_values *v, const lb_values_io *io, const lb_values_tile *t,
                         float *out, lb_err *err) {
    const lb_kernels *k = io->kernels;
    u64 n = t->nr * t->nc, moved = moved_bytes(v, n * LB_MAX(v->col_step, 1));
    float *values = moved ? (float *)(void *)io->scratch : out;
    lb_values_io inner = *io;
    inner.scratch += moved;
    if (v->transposed)
        LB_TRY(read_transposed(v, &inner, t, values, err));
    else if (v->moved || (t->nr > 1 && t->nc < v->n_cols))
        LB_TRY(read_pieces(v, &inner, t, values, err));
    else
        LB_TRY(read_rows(v, &inner, t, values, err));
    if (v->col_step)
        pick_transposed(v, t, out, values);
    else if (v->transposed)
        k->transpose(t->nc, t->nr, sizeof *out, out, t->nc, values, t->nr);
    if (v->head_rows)
        undo_heads(v->head_rows, t->nr, t->nc, out, values);
    for (u64 i = 0; v->moved_cols && i < t->nr; i++)
        for (u64 c = 0; c < t->nc; c += v->order.run)
            memcpy(out + i * t->nc + c, values + i * t->nc + lb_strides_at(&v->order, c),
                   (size_t)LB_MIN(v->order.run, t->nc - c) * sizeof *out);
    change(v, k, (size_t)n, out);
    return LB_OK;
}

const u8 *lb_values_part(const lb_values *v, const lb_values_io *io, const lb_values_tile *t, u32 p,
                         u64 *len) {
    const u8 *at = io->scratch + moved_bytes(v, t->nr * t->nc * LB_MAX(v->col_step, 1));
    for (u32 i = 0; i < p; i++)
        at += aligned(part_bytes(v, i, t));
    *len = part_bytes(v, p, t);
    return at;
}

lb_status lb_values_read_stored(const lb_values *v, const lb_values_io *io, const lb_values_tile *t,
                                lb_err *err) {
    return read_part(v, io->fds, t, 0, io->scratch, err);
}
