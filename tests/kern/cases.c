/* SPDX-License-Identifier: Apache-2.0 */
/* cases.c: which shapes, fills, places and variants each signature is tested with, and the calls.
 *
 * A case is an index. The short run crosses every shape with every fill and lets place and variant
 * rotate, so that each shape meets each place and, over the shapes, each variant; the long run
 * crosses all four and adds larger shapes. */
#include "checkkern.h"
#include <stdlib.h>

/* Around the widths of the loops: 8, 16, 32, 64, 128 elements a step, and longer. */
static size_t elem_shape(size_t i, bool is_long) {
    static const u32 some[] = {42,  47,  48,  49,   63,   64,   65,   79,    80,
                               95,  96,  97,  127,  128,  129,  130,  255,   256,
                               257, 511, 513, 1000, 1023, 1025, 4097, 16384, 65539};
    if (is_long)
        return i <= 300                  ? i
               : i <= 300 + LB_LEN(some) ? some[i - 301]
               : i == 328                ? 250007
                                         : SIZE_MAX;
    return i <= 40 ? i : i <= 40 + LB_LEN(some) ? some[i - 41] : SIZE_MAX;
}

static size_t block_shape(size_t i, u32 block_elems, bool is_long) {
    static const u32 some[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 64};
    if (is_long)
        return i < 70 ? i : i == 70 ? 262144 / block_elems + 1 : SIZE_MAX;
    return i < LB_LEN(some) ? some[i] : i == LB_LEN(some) ? 8192 / block_elems + 1 : SIZE_MAX;
}

/* Folds take one leaf at most. */
static size_t fold_shape(size_t i, bool is_long) {
    const size_t n = elem_shape(i, is_long);
    return n == SIZE_MAX ? n : LB_MIN(n, (size_t)LB_FOLD_LEAF);
}

static const u32 edges[] = {0,  1,  2,  3,  4,  5,  7,  8,  9,   15,
                            16, 17, 31, 32, 33, 63, 64, 65, 100, 257};

static bool transpose_shape(size_t i, bool is_long, size_t *n_rows, size_t *n_cols) {
    const size_t n = is_long ? LB_LEN(edges) : 12;
    if (i < n * n) {
        *n_rows = edges[i / n];
        *n_cols = edges[i % n];
        return true;
    }
    i -= n * n;
    if (is_long || i >= 2 * LB_LEN(edges)) /* short: each edge against one odd size, both ways */
        return false;
    *n_rows = i % 2 ? 37 : edges[i / 2];
    *n_cols = i % 2 ? edges[i / 2] : 37;
    return true;
}

static u32 n_variants(const kern *w) {
    if (is_quant(w))
        return quant_variants(w);
    if (is_dense(w))
        return dense_variants(w);
    if (is_nn(w))
        return nn_variants(w);
    if (is_q8(w))
        return q8_variants(w);
    switch (w->sig) {
    case SIG_MLX_AFFINE:
        return 27; /* three groups, three roundings of the product, three of the sum */
    case SIG_MLX_FP:
        return 2; /* groups */
    case SIG_MAP1:
    case SIG_MAPC:
    case SIG_SUMS:
    case SIG_KEEP:
        return 2;    /* out apart, out = a */
    case SIG_BINS:   /* below all, and between, of bf16; between, of f32 */
    case SIG_SELECT: /* room for all, for half, for none */
    case SIG_MAP2:
    case SIG_FMAC:
        return 3; /* and out = b */
    case SIG_CODES:
        return 8; /* bits */
    case SIG_LUT4:
        return 4; /* the first code's half of a byte, which half is first */
    case SIG_WORDS:
        return 88; /* four widths; 22 places: the last of 3 bits crosses the word */
    case SIG_AWQ:
        return 7; /* codes upon one another */
    case SIG_QUANT:
        return 4; /* no importance, like the rows, its magnitudes, its exponents nearer to 1 */
    case SIG_MT_MASK:
        return 4; /* nothing is kept, all is, and two between */
    case SIG_TRANSPOSE:
        return 8; /* four element sizes, dense or with strides */
    default:
        return 1;
    }
}

static void set_floats(kcase *c, u32 n_in, size_t n_elems) {
    c->n_in = n_in;
    for (u32 i = 0; i < n_in; i++) {
        c->in_bytes[i] = n_elems * sizeof(float);
        c->in_step[i] = sizeof(float);
    }
}

static void set_mlx(const kern *w, kcase *c, u32 variant) {
    c->n_in = w->sig == SIG_MLX_AFFINE ? 3 : 2;
    if (w->sig == SIG_MLX_AFFINE) {
        c->group_elems = (size_t)32 << variant % 3;
        c->round = LB_MLX_ROUND(variant / 3 % 3, variant / 9);
    } else {
        c->group_elems = (size_t)16 << variant;
    }
    c->in_bytes[0] = c->n * c->group_elems * w->code_bits / 8;
    c->in_step[0] = 1;
    for (u32 i = 1; i < c->n_in; i++) {
        c->in_bytes[i] = c->n * sizeof(float);
        c->in_step[i] = sizeof(float);
    }
    c->out_bytes = c->n * c->group_elems * sizeof(float);
    c->out_step = sizeof(float);
}

static void set_quant(const kern *w, kcase *c, u32 variant) {
    set_floats(c, 2, c->n);
    if (variant == 0 && lb_quant_needs_importance(w->type))
        variant = 3;
    c->first = variant;
    if (variant == 0)
        c->n_in = 1;
    c->out_bytes = c->n / w->block_elems * w->block_bytes;
    c->out_step = 1;
}

static void set_transpose(kcase *c, u32 variant) {
    const size_t gap = variant / 4 ? 3 : 0;
    c->elem_bytes = (size_t)1 << variant % 4;
    c->in_stride = c->n_cols + gap;
    c->out_stride = c->n + 2 * gap;
    c->n_in = 1;
    if (c->n && c->n_cols) {
        c->in_bytes[0] = ((c->n - 1) * c->in_stride + c->n_cols) * c->elem_bytes;
        c->out_bytes = ((c->n_cols - 1) * c->out_stride + c->n) * c->elem_bytes;
    }
    c->in_step[0] = c->out_step = 1;
}

/* Rows of words with a zero point and a scale for each value. variant: bits, the first code's
 * place, and from them how many codes lie upon one another. */
static void set_words(const kern *w, kcase *c, u32 variant) {
    static const u32 bits[] = {2, 3, 4, 8};
    static const u8 cols[] = {1, 3, 0, 2, 11, 64, 5};
    size_t most = c->n > 300000 ? 1 : c->n > 1100 ? 2 : 64; /* of what an area holds */
    c->n_cols = LB_MIN((size_t)cols[variant % LB_LEN(cols)], most);
    c->n_in = 3;
    set_floats(c, 3, c->n);
    c->in_step[0] = 1;
    c->out_bytes = c->n * c->n_cols * sizeof(float);
    if (w->sig == SIG_AWQ) {
        c->in_stride = c->n / 2 + variant % 3;
        c->in_bytes[0] = c->n_cols ? (c->n_cols - 1) * c->in_stride + c->n / 2 : 0;
        return;
    }
    c->bits = bits[variant % 4];
    c->first = (size_t)(c->bits * (variant / 4)) % 32;
    c->in_stride = 4 * c->n + variant % 3;
    c->in_bytes[0] =
        c->n_cols ? (c->first + c->n_cols * c->bits - 1) / 32 * c->in_stride + 4 * c->n : 0;
}

/* Fills in sizes from n (and n_cols) and the variant. */
static void set_sizes(const kern *w, kcase *c, u32 variant) {
    c->out_bytes = c->n * sizeof(float);
    c->out_step = sizeof(float);
    if (is_quant(w)) {
        quant_sizes(w, c, variant);
        return;
    }
    if (is_dense(w)) {
        dense_sizes(w, c, variant);
        return;
    }
    if (is_nn(w)) {
        nn_sizes(w, c, variant);
        return;
    }
    if (is_q8(w)) {
        q8_sizes(w, c, variant);
        return;
    }
    switch (w->sig) {
    case SIG_DECODE:
        c->n_in = 1;
        c->in_bytes[0] = c->n / w->block_elems * w->block_bytes;
        c->in_step[0] = 1;
        break;
    case SIG_ENCODE:
        set_floats(c, 1, c->n);
        c->out_bytes = c->n * w->block_bytes;
        c->out_step = 1;
        break;
    case SIG_MLX_AFFINE:
    case SIG_MLX_FP:
        set_mlx(w, c, variant);
        break;
    case SIG_MAP1:
    case SIG_MAPC:
    case SIG_KEEP:
        set_floats(c, 1, c->n);
        c->alias = variant;
        break;
    case SIG_SELECT:
        set_floats(c, 1, c->n);
        c->out_bytes = variant < 2 ? c->n / (variant + 1) * sizeof(u32) : 0;
        break;
    case SIG_MAP2:
    case SIG_FMAC:
        set_floats(c, 2, c->n);
        c->alias = variant;
        break;
    case SIG_FOLD1:
    case SIG_RANGE:
        set_floats(c, 1, c->n);
        c->out_bytes = 0;
        break;
    case SIG_FOLD2:
        set_floats(c, 2, c->n);
        c->out_bytes = 0;
        break;
    case SIG_TRANSPOSE:
        set_transpose(c, variant);
        break;
    case SIG_CODES:
        c->n_in = 1;
        c->bits = variant + 1;
        c->first = c->seed % 9;
        c->in_bytes[0] = ((c->first + c->n) * c->bits + 7) / 8;
        c->in_step[0] = 1;
        break;
    case SIG_LUT4:
        set_floats(c, 2, 16);
        c->first = variant / 2;
        c->elem_bytes = variant % 2; /* which half of a byte comes first */
        c->in_bytes[0] = (c->first + c->n + 1) / 2;
        c->in_step[0] = 1;
        break;
    case SIG_WORDS:
    case SIG_AWQ:
        set_words(w, c, variant);
        break;
    case SIG_QUANT:
        set_quant(w, c, variant);
        break;
    case SIG_MAGNITUDES:
        set_floats(c, 1, c->n);
        c->out_bytes = 3 * sizeof(u32);
        break;
    case SIG_SUMS:
        set_floats(c, 1, c->n);
        c->alias = variant;
        break;
    case SIG_BINS:
        set_floats(c, 1, c->n);
        c->first = variant == 2 ? 0 : 16;
        c->bits = variant == 0 ? 0 : (u32)(c->seed % 0x4000);
        break;
    case SIG_MT_BLOCKS:
        c->n_in = 1;
        c->in_bytes[0] = 624 * sizeof(u32);
        c->in_step[0] = sizeof(u32);
        c->out_bytes = c->n * 624 * sizeof(u32);
        break;
    case SIG_MT_MASK:
    case SIG_MT_UNIFORM:
        set_floats(c, 1, c->n);
        c->first = variant == 0 ? 0 : variant == 1 ? 1 << 24 : c->seed % (1 << 24);
        if (w->sig == SIG_MT_MASK) {
            c->out_bytes = (c->n + 7) / 8;
            c->out_step = 1;
        }
        break;
    case SIG_RANGE_ANY:
        c->n_in = 1;
        c->in_bytes[0] = c->n * w->block_bytes;
        c->in_step[0] = 1;
        c->out_bytes = 0;
        break;
    default:
        break;
    }
}

static bool set_shape(const kern *w, bool is_long, size_t shape, kcase *c) {
    const size_t period = is_long ? 71 : 15;
    if (is_dense(w))
        return dense_shape(w, is_long, shape, c);
    if (is_nn(w))
        return nn_shape(w, is_long, shape, c);
    if (is_q8(w))
        return q8_shape(w, is_long, shape, c);
    switch (w->sig) {
    case SIG_TRANSPOSE:
        return transpose_shape(shape, is_long, &c->n, &c->n_cols);
    case SIG_FOLD1:
    case SIG_FOLD2:
    case SIG_RANGE:
    case SIG_RANGE_ANY:
        c->n = fold_shape(shape, is_long);
        return c->n != SIZE_MAX;
    case SIG_MT_BLOCKS:
        c->n = shape < (is_long ? 9 : 5) ? shape : SIZE_MAX;
        return c->n != SIZE_MAX;
    case SIG_QUANT_GROUPS: /* many variants: short, the shapes eight times */
    case SIG_QUANT_FP:
        c->n = shape < (is_long ? 1 : 8) * period ? block_shape(shape % period, 64, is_long)
                                                  : SIZE_MAX;
        return c->n != SIZE_MAX;
    case SIG_MLX_AFFINE:
    case SIG_MLX_FP:
        c->n = block_shape(shape, 64, is_long);
        return c->n != SIZE_MAX;
    default:
        if ((w->sig == SIG_DECODE || w->sig == SIG_QUANT) && w->block_elems > 4)
            c->n = block_shape(shape, w->block_elems, is_long);
        else
            c->n = elem_shape(shape, is_long);
        if (c->n == SIZE_MAX)
            return false;
        c->n *= w->sig == SIG_DECODE || w->sig == SIG_QUANT ? w->block_elems
                : w->sig == SIG_AWQ                         ? 8
                                                            : 1;
        if (w->sig == SIG_AWQ) /* what an area holds */
            c->n = LB_MIN(c->n, (size_t)1 << 20);
        return true;
    }
}

static float pick_c(rng *r) {
    static const float odd[] = {0.0f,      -0.0f,           1.0f,     -1.0f,
                                0x1p-149f, 0x1.fffffep127f, 0x1p-14f, 3.0f};
    const u64 i = rng_below(r, 12);
    if (i < LB_LEN(odd))
        return odd[i];
    return i == 8   ? lb_f32_from_bits(0xffc12345u)
           : i == 9 ? lb_f32_from_bits(0x7f800000u)
                    : rng_normal(r);
}

bool kcase_make(const kern *w, bool is_long, u64 seed, size_t index, kcase *c) {
    memset(c, 0, sizeof *c);
    rng mix = {seed + index};
    for (const char *s = w->name; *s; s++)
        mix.state = rng_next(&mix) ^ (u8)*s;
    c->seed = rng_next(&mix);
    const u32 n_var = n_variants(w);
    size_t shape;
    u32 variant;
    c->fill = (u32)(index % N_FILLS);
    if (is_long) {
        const u32 n_cross =
            n_var > 8 ? 3 : n_var; /* MLX: three of 27 a shape, others at the next */
        const size_t rest = index / N_FILLS;
        c->place = (u32)(rest % N_PLACES);
        shape = rest / N_PLACES / n_cross;
        variant = (u32)((n_var > 8 ? 9 * (rest / N_PLACES % n_cross) + shape + c->fill
                                   : rest / N_PLACES) %
                        n_var);
    } else {
        shape = index / N_FILLS;
        c->place = (u32)((shape + c->fill) % N_PLACES);
        variant = (u32)((7 * shape + 3 * c->fill) % n_var);
    }
    if (!set_shape(w, is_long, shape, c))
        return false;
    c->c = pick_c(&mix);
    if (is_quant(w))
        variant = (u32)rng_below(&mix, n_var);
    set_sizes(w, c, variant);
    return true;
}

void kcase_bench(const kern *w, size_t n_elems, kcase *c) {
    memset(c, 0, sizeof *c);
    c->seed = 1;
    c->c = 0.75f;
    c->n = n_elems;
    c->place = PLACE_ROOMY;
    c->finite = true;
    if (w->sig == SIG_TRANSPOSE) {
        for (c->n = 64; 4 * c->n * c->n <= n_elems; c->n *= 2)
            ;
        c->n_cols = c->n;
    } else if (w->sig == SIG_MLX_AFFINE || w->sig == SIG_MLX_FP || w->sig == SIG_QUANT_GROUPS ||
               w->sig == SIG_QUANT_FP) {
        c->n = n_elems / 64;
    }
    if (is_dense(w)) {
        dense_bench(w, c);
        return;
    }
    if (is_nn(w)) {
        nn_bench(w, c);
        return;
    }
    if (is_q8(w)) {
        q8_bench(w, c);
        return;
    }
    /* MLX affine: groups of 64, both operations to bf16; transpose: f32, dense; quantizers: bf16 in
     * and out, the rule of Metal, 4 bits in groups of 64 */
    if (w->sig == SIG_MT_BLOCKS)
        c->n = n_elems / 624;
    set_sizes(w, c, w->sig == SIG_MLX_AFFINE ? 13 : w->sig == SIG_TRANSPOSE ? 2 : quant_bench(w));
    if (w->sig == SIG_RANGE_ANY)
        c->how = strstr(w->name, "bf16") ? LB_ROUND_BF16 : LB_ROUND_F16;
}

size_t kcase_elems(const kern *w, const kcase *c) {
    if (is_dense(w))
        return dense_elems(w, c);
    if (is_nn(w))
        return nn_elems(w, c);
    if (is_q8(w))
        return q8_elems(w, c);
    if (w->sig == SIG_TRANSPOSE || w->sig == SIG_WORDS || w->sig == SIG_AWQ)
        return c->n * c->n_cols;
    if (w->sig == SIG_MT_BLOCKS)
        return c->n * 624;
    return c->group_elems ? c->n * c->group_elems : c->n;
}

/* Importance is a mean of squares, so never negative; kernels must stand the rest as well. */
static void make_importance(const kcase *c, float *w) {
    for (size_t i = 0; i < c->n && c->first > 1; i++) {
        u32 bits = lb_f32_bits(w[i]) & 0x7fffffffu;
        if (c->first == 3 && bits < 0x7f800000u)
            bits = (bits & 0x07ffffffu) | 0x38000000u;
        w[i] = lb_f32_from_bits(bits);
    }
}

void kcase_fill(const kern *w, const kcase *c, u32 input, u8 *out) {
    rng r = {c->seed + input * 0x1234567u};
    if (is_quant(w) || (w->sig == SIG_RANGE_ANY && c->finite)) {
        quant_fill(w, c, input, out);
        return;
    }
    if (is_dense(w)) {
        dense_fill(w, c, input, out);
        return;
    }
    if (is_nn(w)) {
        nn_fill(w, c, input, out);
        return;
    }
    if (is_q8(w)) {
        q8_fill(w, c, input, out);
        return;
    }
    const bool codes = input == 0 && (w->sig == SIG_DECODE || w->sig == SIG_MLX_AFFINE ||
                                      w->sig == SIG_MLX_FP || w->sig == SIG_TRANSPOSE ||
                                      (w->sig >= SIG_CODES && w->sig != SIG_QUANT &&
                                       w->sig != SIG_MAGNITUDES && w->sig != SIG_BINS));
    if (codes) {
        const bool plain = w->sig == SIG_DECODE || w->sig == SIG_RANGE_ANY;
        const u32 unit = plain && w->block_elems == 1 ? w->block_bytes : 1;
        fill_codes(&r, w->sig == SIG_TRANSPOSE ? 0 : c->fill, out, c->in_bytes[input], unit);
    } else {
        fill_f32(&r, c->fill, (float *)(void *)out, c->in_bytes[input] / sizeof(float));
        if (w->sig == SIG_QUANT && input == 1)
            make_importance(c, (float *)(void *)out);
    }
}

/* Made once; they live as long as the program. */
static const void *quant_tables(lb_dtype t) {
    static void *made[LB_DTYPE_COUNT];
    const size_t bytes = lb_quant_tables_bytes(t);
    if (bytes && !made[t]) {
        made[t] = malloc(bytes);
        LB_ASSERT(made[t]);
        lb_quant_tables_init(t, made[t]);
    }
    return made[t];
}

/* Two magnitudes of the data, as they are compared, and now and then one on their outer side. */
static void pick_range(const kcase *c, const float *a, i32 range[2]) {
    rng mix = {c->seed};
    for (u32 i = 0; i < 2; i++)
        range[i] = c->n ? (i32)(lb_f32_bits(a[rng_below(&mix, c->n)]) & 0x7fffffffu) : 1;
    if (range[0] > range[1]) {
        const i32 t = range[0];
        range[0] = range[1];
        range[1] = t;
    }
    if (rng_below(&mix, 8) == 0)
        range[0] = -1;
    if (rng_below(&mix, 8) == 0)
        range[1] = INT32_MAX;
}

void kcase_call(const kern *w, any_fn *fn, const kcase *c, void *out, const void *const in[3],
                result *r) {
    if (is_quant(w)) {
        quant_call(w, fn, c, out, in, r);
        return;
    }
    if (is_dense(w)) {
        dense_call(w, fn, c, out, in, r);
        return;
    }
    if (is_nn(w)) {
        nn_call(w, fn, c, out, in, r);
        return;
    }
    if (is_q8(w)) {
        q8_call(fn, w, c, out, in);
        return;
    }
    i32 range[2];
    switch (w->sig) {
    case SIG_KEEP:
        pick_range(c, in[0], range);
        ((lb_k_map_keep_f32_fn *)fn)(c->n, out, in[0], range[0], range[1]);
        break;
    case SIG_SELECT: {
        u64 count[3] = {r->counts[0], r->counts[1], 7};
        pick_range(c, in[0], range);
        r->n = ((lb_k_select_f32_fn *)fn)(c->n, in[0], range[0], range[1], out,
                                          c->out_bytes / sizeof(u32), count);
        memcpy(r->counts, count, sizeof r->counts);
        r->fold = (double)count[2];
        break;
    }
    case SIG_DECODE:
        ((lb_decode_fn *)fn)(c->n, out, in[0]);
        break;
    case SIG_ENCODE:
        ((lb_encode_fn *)fn)(c->n, out, in[0], r->counts);
        break;
    case SIG_MLX_AFFINE:
        ((lb_k_decode_f32_mlx_q4_fn *)fn)(c->n, c->group_elems, out, in[0], in[1], in[2], c->round);
        break;
    case SIG_MLX_FP:
        ((lb_k_decode_f32_mlx_fp4_fn *)fn)(c->n, c->group_elems, out, in[0], in[1]);
        break;
    case SIG_MAP1:
        ((lb_k_map_round_f16_f32_fn *)fn)(c->n, out, in[0]);
        break;
    case SIG_MAP2:
        ((lb_k_map_add_f32_fn *)fn)(c->n, out, in[0], in[1]);
        break;
    case SIG_MAPC:
        ((lb_k_map_addc_f32_fn *)fn)(c->n, out, in[0], c->c);
        break;
    case SIG_FMAC:
        ((lb_k_map_fmac_f32_fn *)fn)(c->n, out, in[0], c->c, in[1]);
        break;
    case SIG_FOLD1:
        r->fold = ((lb_k_fold_sum_f32_fn *)fn)(c->n, in[0]);
        break;
    case SIG_FOLD2:
        r->fold = ((lb_k_fold_dot_f32_fn *)fn)(c->n, in[0], in[1]);
        break;
    case SIG_RANGE:
        r->n = ((lb_k_fold_range_f32_fn *)fn)(c->n, in[0], r->minmax);
        break;
    case SIG_TRANSPOSE:
        ((lb_k_transpose_fn *)fn)(c->n, c->n_cols, c->elem_bytes, out, c->out_stride, in[0],
                                  c->in_stride);
        break;
    case SIG_CODES:
        ((lb_k_decode_f32_codes_fn *)fn)(c->n, c->first, c->bits, out, in[0]);
        break;
    case SIG_LUT4:
        ((lb_k_decode_f32_lut4_fn *)fn)(c->n, c->first, c->elem_bytes != 0, out, in[0], in[1],
                                        c->c);
        break;
    case SIG_WORDS:
        ((lb_k_decode_f32_words_fn *)fn)(c->n, c->n_cols, LB_WORD_BITS(c->first, c->bits), out,
                                         in[0], c->in_stride, in[1], in[2]);
        break;
    case SIG_QUANT:
        ((lb_quant_fn *)fn)(c->n, out, in[0], c->first ? in[1] : NULL, quant_tables(w->type));
        break;
    case SIG_AWQ:
        ((lb_k_decode_f32_awq_fn *)fn)(c->n, c->n_cols, out, in[0], c->in_stride, in[1], in[2]);
        break;
    case SIG_MAGNITUDES:
        ((lb_k_magnitudes_f32_fn *)fn)(c->n, out, in[0]);
        break;
    case SIG_BINS:
        ((lb_k_magnitude_bins_f32_fn *)fn)(c->n, out, in[0], (u32)c->first, c->bits);
        break;
    case SIG_SUMS:
        r->n = ((lb_k_sums_u32_fn *)fn)(c->n, out, in[0]);
        break;
    case SIG_MT_BLOCKS:
        ((lb_k_mt_blocks_fn *)fn)(c->n, out, in[0]);
        break;
    case SIG_MT_MASK:
        ((lb_k_mt_mask_fn *)fn)(c->n, out, in[0], (u32)c->first);
        break;
    case SIG_MT_UNIFORM:
        ((lb_k_mt_uniform_f32_fn *)fn)(c->n, out, in[0]);
        break;
    case SIG_RANGE_ANY:
        r->n = ((lb_k_fold_range_f16_fn *)fn)(c->n, in[0], r->minmax);
        break;
    default:
        break;
    }
}

void kcase_print(FILE *f, const kern *w, const kcase *c) {
    static const char *const places[N_PLACES] = {"roomy", "before a guard page",
                                                 "after a guard page", "shifted"};
    fprintf(f, "n=%zu", c->n);
    if (w->sig == SIG_TRANSPOSE)
        fprintf(f, "x%zu elem_bytes=%zu in_stride=%zu out_stride=%zu", c->n_cols, c->elem_bytes,
                c->in_stride, c->out_stride);
    if (is_dense(w))
        fprintf(f, "x%zu inner=%zu stride=%zu c=%08x", c->n_cols, c->first, c->in_stride,
                lb_f32_bits(c->c));
    else if (is_q8(w))
        fprintf(f, "x%zu x%zu type=0x%x", c->n_cols, c->first, c->how);
    else if (c->group_elems)
        fprintf(f, " group=%zu round=0x%02x", c->group_elems, c->round);
    if (w->sig == SIG_QUANT)
        fprintf(f, " importance=%zu", c->first);
    if (is_quant(w))
        fprintf(f, " how=0x%04x", c->how);
    if (w->sig == SIG_MAPC || w->sig == SIG_FMAC || is_quant(w))
        fprintf(f, " c=%08x", lb_f32_bits(c->c));
    if (c->bits)
        fprintf(f, " bits=%u first=%zu", c->bits, c->first);
    if (w->sig == SIG_MT_MASK)
        fprintf(f, " below=%zu", c->first);
    if (c->alias)
        fprintf(f, " out=input %u", c->alias - 1);
    fprintf(f, ", fill %s, %s", fill_name(c->fill), places[c->place]);
}
