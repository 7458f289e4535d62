/* SPDX-License-Identifier: Apache-2.0 */
/* codec_transposed.c: GPTQ and AWQ, which store a matrix with its inputs first; transposed views.
 *
 * A column of the weight is a row of words in the file, whose values have their own zero points and
 * scales side by side: it is decoded so, BLOCK columns at a time, and the block is turned. The
 * order of act-order costs nothing then: a column takes the zero points and scales of its group.
 * Arithmetic: (code - zero) * scale, rounded to the type of the scales: GPTQModel 7.3.4
 * nn_modules/qlinear/__init__.py _dequantize_from_codes, utils/model.py
 * convert_gptq_v1_to_v2_format_module; AutoAWQ 0.2.9 utils/packing_utils.py dequantize_gemm. */
#include "plan/codec.h"
#include "plan/expr.h"

/* Columns decoded before they are turned: with 64 rows 16 KiB, which stay in an L1. */
#define BLOCK 64
#define AWQ_CODES 8 /* in a word */

enum { CODES, SCALES, ZEROS, GROUPS };

/* A part of whose stored rows `stored` hold `rows` columns, in units of `unit_bytes` for `cols`
 * rows of the weight. */
static lb_codec_part part_of(const lb_source *s, const lb_weight *w, u32 p, u64 rows, u64 cols) {
    const lb_tensor *t = &s->tensors[w->part[p]];
    u32 size = lb_dtype_get(t->dtype)->block_bytes;
    return (lb_codec_part){.kind = LB_PART_GRID,
                           .tensor = w->part[p],
                           .dtype = t->dtype,
                           .unit_bytes = size,
                           .cols = cols,
                           .rows = rows,
                           .mat_rows = w->shape.dim[1],
                           .stored_rows = 1,
                           .n_stored = t->shape.dim[0],
                           .stride = (t->shape.rank > 1 ? t->shape.dim[1] : 1) * size};
}

/* Codes that fill words exactly, and those words. */
static u32 codes_together(u32 bits) {
    return bits == 3 ? 32 : 32 / bits;
}

static u32 words_together(u32 bits) {
    return bits == 3 ? 3 : 1;
}

/* Zero points and scales: of any column, if a table says of which group it is. */
static void of_groups(lb_codec *c, u32 p) {
    if (c->n_parts <= GROUPS)
        return;
    c->part[p].rows = c->part[p].mat_rows;
    c->part[p].stored_rows = c->part[p].n_stored;
}

void lb_codec_parts_transposed(lb_codec *c, const lb_source *s, const lb_weight *w) {
    const lb_enc *e = &w->enc;
    bool awq = e->kind == LB_ENC_AWQ;
    u32 n = awq ? AWQ_CODES : codes_together(e->bits), n_words = awq ? 1 : words_together(e->bits);
    c->part[CODES] = part_of(s, w, CODES, awq ? 1 : n, awq ? n : 1);
    if (!awq)
        c->part[CODES].stored_rows = n_words;
    c->part[SCALES] = part_of(s, w, SCALES, e->group_size, 1);
    c->part[ZEROS] = part_of(s, w, ZEROS, e->group_size, n);
    c->part[ZEROS].unit_bytes *= n_words;
    of_groups(c, SCALES);
    of_groups(c, ZEROS);
    if (c->n_parts > GROUPS)
        c->part[GROUPS] = part_of(s, w, GROUPS, 1, 0);
}

/* ---- what a rectangle needs ---- */

typedef struct rect {
    const lb_codec *c;
    const lb_kernels *k;
    const lb_codec_rect *at;
    u64 x0, width;    /* rows that are decoded: whole words */
    u64 group0, n;    /* groups */
    u64 stored_group; /* the first that is held */
    u64 row_bytes[LB_PARTS_MAX];
    float *zero, *scale; /* [n, width] */
    float *block;        /* [BLOCK, width] */
    float *turned;       /* [rows, BLOCK] */
    u32 *words;
} rect;

static u64 max_width(u64 n_rows) {
    return n_rows + 2 * AWQ_CODES;
}

static u64 max_groups(const lb_codec *c, u64 n_cols) {
    if (c->enc.kind == LB_ENC_VIEW)
        return 0;
    u64 all = c->part[SCALES].n_stored;
    return c->n_parts > GROUPS ? all : LB_MIN(n_cols / c->enc.group_size + 2, all);
}

u64 lb_codec_rect_scratch(const lb_codec *c, u64 n_rows, u64 n_cols) {
    u64 width = max_width(n_rows);
    return width * (2 * max_groups(c, n_cols) + BLOCK) + n_rows * BLOCK + width + 64;
}

static rect set_up(const lb_codec *c, const lb_kernels *k, const lb_codec_rect *at,
                   float *scratch) {
    const lb_codec_area *a = &at->area;
    rect r = {.c = c, .k = k, .at = at, .x0 = a->r0, .width = a->nr};
    if (c->enc.kind == LB_ENC_AWQ) {
        r.x0 -= r.x0 % AWQ_CODES;
        r.width = lb_ceil_div_u64(a->r0 + a->nr, AWQ_CODES) * AWQ_CODES - r.x0;
    }
    if (c->n_parts > GROUPS) {
        r.n = c->part[SCALES].n_stored;
    } else if (c->enc.kind != LB_ENC_VIEW) {
        r.group0 = a->c0 / c->enc.group_size;
        r.n = (a->c0 + a->nc - 1) / c->enc.group_size - r.group0 + 1;
        r.stored_group = at->held.c0 / c->enc.group_size;
    }
    for (u32 p = 0; p < c->n_parts; p++)
        r.row_bytes[p] = lb_codec_span_of(c, p, at->held).row_bytes;
    r.zero = scratch;
    r.scale = r.zero + r.n * r.width;
    r.block = r.scale + r.n * r.width;
    r.turned = r.block + BLOCK * r.width;
    r.words = (u32 *)(void *)(r.turned + a->nr * BLOCK);
    return r;
}

/* The unit of row `row` in row i of those that are held of a part. */
static const u8 *unit_at(const rect *r, u32 p, u64 i, u64 row) {
    const lb_codec_part *part = &r->c->part[p];
    return r->at->part[p] + i * r->row_bytes[p] +
           (row / part->cols - r->at->held.r0 / part->cols) * part->unit_bytes;
}

/* ---- zero points and scales ---- */

/* The maker adds one to all zero points of a word at once: 16 of 4 bits carries into the next. */
static const u8 *add_ones(const rect *r, const u8 *in, u64 n_words) {
    u32 bits = r->c->enc.bits, ones = 0;
    for (u32 b = 0; b < 32; b += bits)
        ones |= 1u << b;
    for (u64 i = 0; i < n_words; i++)
        r->words[i] = lb_load_u32(in + 4 * i) + ones;
    return (const u8 *)r->words;
}

static void gptq_zeros(const rect *r, u64 i, float *zero) {
    u32 bits = r->c->enc.bits, together = codes_together(bits);
    u64 n = r->at->area.nr, first = r->at->area.r0 % together;
    const u8 *in = unit_at(r, ZEROS, i, r->at->area.r0);
    bool add = r->c->enc.less_one;
    if (add && bits != 3)
        in = add_ones(r, in, lb_ceil_div_u64(first + n, together));
    r->k->decode_f32_codes(n, first, bits, zero, in);
    for (u64 j = 0; add && bits == 3 && j < n; j++) /* these cross words: one by one, modulo 8 */
        zero[j] = zero[j] == 7 ? 0 : zero[j] + 1;
}

static void awq_zeros(const rect *r, u64 i, float *zero) {
    static const u8 nibble[AWQ_CODES] = {0, 4, 1, 5, 2, 6, 3, 7};
    const u8 *in = unit_at(r, ZEROS, i, r->x0);
    for (u64 j = 0; j < r->width; j++)
        zero[j] = (float)(lb_load_u32(in + j / AWQ_CODES * 4) >> (4 * nibble[j % AWQ_CODES]) & 15);
}

static void decode_groups(const rect *r) {
    const lb_codec_area *a = &r->at->area;
    for (u64 g = 0; g < r->n; g++) {
        u64 i = r->group0 + g - r->stored_group;
        float *zero = r->zero + g * r->width, *scale = r->scale + g * r->width;
        for (u64 j = 0; j < r->width; j++) /* beside the rows that are wanted */
            scale[j] = 0;
        lb_codec_decode_floats(r->k, r->c->part[SCALES].dtype, a->nr, scale + (a->r0 - r->x0),
                               unit_at(r, SCALES, i, a->r0));
        if (r->c->enc.kind == LB_ENC_AWQ)
            awq_zeros(r, i, zero);
        else
            gptq_zeros(r, i, zero);
    }
}

/* ---- codes ---- */

static u64 group_of(const rect *r, u64 col) {
    if (r->c->n_parts > GROUPS) /* lb_codec_check has looked at them */
        return lb_load_u32(r->at->part[GROUPS] + 4 * (col - r->at->held.c0));
    return col / r->c->enc.group_size - r->group0;
}

/* How many of the next n columns are of the first one's group. */
static u64 of_one_group(const rect *r, u64 col, u64 n) {
    u64 same = 1;
    while (r->c->enc.kind != LB_ENC_VIEW && same < n && group_of(r, col + same) == group_of(r, col))
        same++;
    return same;
}

/* n columns of one group; of a view one. */
static void decode_columns(const rect *r, u64 col, u64 n, float *out) {
    if (r->c->enc.kind == LB_ENC_VIEW) {
        lb_kernels_decode(r->k, r->c->dtype)(r->width, out,
                                             unit_at(r, CODES, col - r->at->held.c0, r->x0));
        return;
    }
    u64 at = group_of(r, col) * r->width;
    const float *zero = r->zero + at, *scale = r->scale + at;
    if (r->c->enc.kind == LB_ENC_AWQ) {
        r->k->decode_f32_awq(r->width, n, out, unit_at(r, CODES, col - r->at->held.c0, r->x0),
                             r->row_bytes[CODES], zero, scale);
        return;
    }
    u32 bits = r->c->enc.bits, together = codes_together(bits);
    u64 held = r->at->held.c0 / together * words_together(bits), bit = col * bits;
    r->k->decode_f32_words(r->width, n, LB_WORD_BITS(bit % 32, bits), out,
                           unit_at(r, CODES, bit / 32 - held, r->x0), r->row_bytes[CODES], zero,
                           scale);
}

/* Columns that lie in the block to rows of the result. */
static void turn(const rect *r, u64 first, u64 n, float *out) {
    const lb_codec_rect *at = r->at;
    const float *in = r->block + (at->area.r0 - r->x0);
    u64 nc = at->area.nc;
    if (!at->order) {
        r->k->transpose(n, at->area.nr, sizeof *out, out + first, nc, in, r->width);
        return;
    }
    r->k->transpose(n, at->area.nr, sizeof *out, r->turned, BLOCK, in, r->width);
    for (u64 i = 0; i < at->n_order; i++)
        memcpy(out + i * nc + first, r->turned + at->order[i] * (u64)BLOCK, n * sizeof *out);
}

/* Asks for the codes of the columns from `col` on: their rows lie too far apart for a processor to
 * foresee. */
static void ask(const rect *r, u64 col) {
    const lb_codec_part *part = &r->c->part[CODES];
    const lb_codec_area *held = &r->at->held;
    u64 end = LB_MIN(col + BLOCK, held->c0 + held->nc);
    if (col >= end)
        return;
    u64 first = (col / part->rows - held->c0 / part->rows) * part->stored_rows;
    u64 last = ((end - 1) / part->rows - held->c0 / part->rows + 1) * part->stored_rows;
    u64 n_bytes = lb_ceil_div_u64(r->width, LB_MAX(part->cols, 1)) * part->unit_bytes;
    for (u64 i = first; i < last; i++)
        for (u64 at = 0; at < n_bytes; at += 64)
            __builtin_prefetch(unit_at(r, CODES, i, r->x0) + at);
}

void lb_codec_decode_rect(const lb_codec *c, const lb_kernels *k, const lb_codec_rect *at,
                          float *out, float *scratch) {
    const lb_codec_area *a = &at->area;
    if (a->nr == 0 || a->nc == 0)
        return;
    rect r = set_up(c, k, at, scratch);
    decode_groups(&r);
    for (u64 first = 0; first < a->nc; first += BLOCK) {
        u64 n = LB_MIN(BLOCK, a->nc - first);
        ask(&r, a->c0 + first + n);
        for (u64 i = 0, same; i < n; i += same) {
            u64 col = a->c0 + first + i;
            same = of_one_group(&r, col, n - i);
            decode_columns(&r, col, same, r.block + i * r.width);
        }
        lb_codec_round(c, k, n * r.width, r.block);
        turn(&r, first, n, out);
    }
}
