/* SPDX-License-Identifier: Apache-2.0 */
/* q8.c: products of eight bits. Rows and activations are made valid from random ones: codes within
 * their type's range, sums that are sums. */
#include "checkkern.h"
#include "kernel/q8.h"
#include <stdlib.h>

bool is_q8(const kern *w) {
    return w->sig >= SIG_Q8_BLOCKS;
}

static const u32 types[] = {
    LB_Q8_TYPE(0, LB_Q8_NO_OFF),
    LB_Q8_TYPE(0, 4),
    LB_Q8_TYPE(LB_Q8_MIN, LB_Q8_NO_OFF),
    LB_Q8_TYPE(LB_Q8_WIDE, 7),
    LB_Q8_TYPE(LB_Q8_WIDE | LB_Q8_MIN, LB_Q8_NO_OFF),
    LB_Q8_TYPE(LB_Q8_HALVES, 5),
    LB_Q8_TYPE(LB_Q8_HALVES | LB_Q8_MIN, LB_Q8_NO_OFF),
};
/* Around the blocks: 16 and 32 rows, 6, 4, 2 tokens. */
static const u8 n_rows[] = {0, 1, 2, 15, 16, 17, 33},
                n_tokens[] = {1, 2, 3, 4, 5, 8, 11, 12, 13, 17};

static bool is_product(const kern *w) {
    return w->sig >= SIG_Q8_DOTS;
}

/* ---- stored rows ---- */

static const struct {
    const char *name;
    u32 type;
} row_types[] = {
#define LB_Q8_UNITS(id, t, elems, bytes, type) {"rows_" #t, type},
#include "kernel/q8_types.def"
    {"rows_mlx_q8", LB_Q8_TYPE(LB_Q8_MIN | LB_Q8_WIDE, LB_Q8_NO_OFF)},
};

static bool is_mlx(const kern *w) {
    return w->block_elems == 0;
}

static bool is_fp4(const kern *w) {
    return strstr(w->name, "mlx_fp4") != NULL;
}

static u32 row_type(const kern *w, size_t group) {
    if (is_fp4(w))
        return LB_Q8_TYPE(group == 16 ? LB_Q8_HALVES : 0, 4);
    for (size_t i = 0; i < LB_LEN(row_types); i++)
        if (strcmp(row_types[i].name, w->name) == 0)
            return row_types[i].type;
    if (!is_mlx(w))
        abort();
    return LB_Q8_TYPE(LB_Q8_MIN, LB_Q8_NO_OFF);
}

/* MLX: three types of scales, three groups; fp4: two groups, whose scales are bytes. */
static void set_rows(const kern *w, kcase *c, u32 variant) {
    static const lb_dtype scales[] = {LB_F32, LB_F16, LB_BF16};
    const size_t unit = is_fp4(w)   ? 16u << variant
                        : is_mlx(w) ? 32u << variant / 3
                                    : w->block_elems;
    c->how = row_type(w, unit);
    c->n_cols = (c->n_cols + unit - 1) / unit * unit;
    c->bits = scales[variant % 3];
    c->elem_bytes = unit; /* MLX: of a group */
    c->in_stride =
        is_mlx(w) ? c->n_cols * w->code_bits / 8 : c->n_cols / w->block_elems * w->block_bytes;
    c->in_stride += c->seed % 3;
    c->in_bytes[0] = c->n ? (c->n - 1) * c->in_stride + c->in_stride - c->seed % 3 : 0;
    if (is_fp4(w))
        c->bits = unit == 16 ? LB_F8_E4M3 : LB_F8_E8M0, c->in_bytes[2] = c->n * (c->n_cols / unit);
    else if (is_mlx(w)) /* scales, then biases */
        c->in_bytes[2] = 2 * c->n * (c->n_cols / unit) * (variant % 3 ? 2 : 4);
    c->in_step[2] = is_fp4(w) ? 1 : 4;
}

static lb_q8_rows rows_in(const kern *w, const kcase *c, const void *const in[3]) {
    const size_t scale_bytes =
        is_mlx(w) ? c->in_bytes[2] / (is_fp4(w) ? 1 : 2) / LB_MAX(c->n, (size_t)1) : 0;
    return (lb_q8_rows){.codes = in[0],
                        .row_bytes = c->in_stride,
                        .scale = in[2],
                        .bias =
                            is_mlx(w) && !is_fp4(w) ? (const u8 *)in[2] + c->in_bytes[2] / 2 : NULL,
                        .scale_bytes = scale_bytes,
                        .group = (u32)c->elem_bytes,
                        .scale_dtype = (lb_dtype)c->bits};
}

/* ---- all ---- */

/* MLX: groups of 32, 64, 128. Products: types, tokens for each. */
u32 q8_variants(const kern *w) {
    if (w->sig == SIG_Q8_ROWS)
        return is_fp4(w) ? 2 : is_mlx(w) ? 9 : 1;
    return w->sig == SIG_Q8_MLX ? 3 : is_product(w) ? (u32)LB_LEN(types) : 1;
}

bool q8_shape(const kern *w, bool is_long, size_t i, kcase *c) {
    if (is_product(w)) {
        static const u16 cols[] = {0, 1, 512, 1025, 928, 576, 768};
        const size_t step = is_long ? 1 : 9;
        const size_t n = LB_LEN(n_rows) * LB_LEN(n_tokens) * LB_LEN(cols);
        c->n = n_rows[i * step % LB_LEN(n_rows)];
        c->first = n_tokens[i * step / LB_LEN(n_rows) % LB_LEN(n_tokens)];
        c->n_cols = cols[(i * step / LB_LEN(n_rows) / LB_LEN(n_tokens) + i) % LB_LEN(cols)];
        return i * step < n;
    }
    const size_t n = is_long ? 80 : 20;
    c->n = (i < n ? i : 129) * (w->sig == SIG_Q8_BLOCKS ? w->block_elems : 1);
    return i <= n;
}

/* Chunks from a token to the next: every second case has second parts. */
static size_t act_chunks(const kcase *c) {
    return (1 + (c->seed >> 7) % 2) * lb_q8_chunks(c->n_cols);
}

static bool has_seconds(const kern *w) {
    return strcmp(w->name, "act_q16") == 0;
}

static void set_in(kcase *c, u32 i, size_t n, size_t size) {
    c->in_bytes[i] = n * size;
    c->in_step[i] = size;
}

static size_t panels(size_t rows) {
    return (rows + 15) / 16;
}

void q8_sizes(const kern *w, kcase *c, u32 variant) {
    size_t out = 0;
    c->n_in = 3;
    c->how = variant;
    set_in(c, 0, 0, 1);
    set_in(c, 1, 0, 4);
    set_in(c, 2, 0, 4);
    switch (w->sig) {
    case SIG_Q8_BLOCKS:
        set_in(c, 0, c->n / w->block_elems * w->block_bytes, 1);
        out = lb_q8_chunks(c->n) * sizeof(lb_q8_row);
        break;
    case SIG_Q8_MLX: /* n: groups; fp4 also of 16 */
        c->group_elems = (size_t)(w->code_bits == 4 && strstr(w->name, "fp4") ? 16u : 32u)
                         << variant;
        c->n *= c->group_elems;
        set_in(c, 0, c->n * w->code_bits / 8, 1);
        set_in(c, 1, c->n / c->group_elems, 4);
        set_in(c, 2, c->n / c->group_elems, 4);
        out = lb_q8_chunks(c->n) * sizeof(lb_q8_row);
        break;
    case SIG_Q8_ACT:
        set_in(c, 0, c->n, 4);
        out = (has_seconds(w) ? 2 : 1) * lb_q8_chunks(c->n) * sizeof(lb_q8_act);
        break;
    case SIG_Q8_ROWS:
        set_rows(w, c, variant);
        c->group_elems = act_chunks(c);
        set_in(c, 1, c->first * c->group_elems * sizeof(lb_q8_act), 1);
        c->in_step[1] = 4;
        c->out_stride = c->n + 3;
        out = c->n ? ((c->first - 1) * c->out_stride + c->n) * sizeof(float) : 0;
        break;
    default: {
        const u32 type = types[variant];
        const size_t rows = c->n * lb_q8_chunks(c->n_cols) * sizeof(lb_q8_row);
        c->how = type;
        if (w->sig == SIG_Q8_PANEL) {
            c->n = LB_MIN(c->n, (size_t)16);
            set_in(c, 0, c->n * lb_q8_chunks(c->n_cols) * sizeof(lb_q8_row), 1);
            out = lb_q8_panel_bytes(type, c->n_cols);
        } else {
            set_in(c, 0,
                   w->sig == SIG_Q8_DOTS ? rows : panels(c->n) * lb_q8_panel_bytes(type, c->n_cols),
                   1);
            c->group_elems = act_chunks(c);
            set_in(c, 1, c->first * c->group_elems * sizeof(lb_q8_act), 1);
            c->in_step[1] = 4;
            c->out_stride = c->n + 3;
            out = c->n ? ((c->first - 1) * c->out_stride + c->n) * sizeof(float) : 0;
        }
        c->in_step[0] = 4;
    }
    }
    c->out_bytes = out;
    c->out_step = 4;
}

static void fill_rows(rng *r, const kcase *c, lb_q8_row *rows, size_t n) {
    const u8 most = c->how & LB_Q8_WIDE ? 255 : 127;
    for (size_t i = 0; i < n; i++) {
        fill_codes(r, c->fill, rows[i].q, sizeof rows[i].q, 1);
        for (size_t j = 0; j < LB_Q8_CHUNK; j++)
            rows[i].q[j] &= most;
        fill_f32(r, c->fill, rows[i].s, LB_LEN(rows[i].s));
        fill_f32(r, c->fill, rows[i].m, LB_LEN(rows[i].m));
    }
}

/* Makes some groups large, at random. */
static void add_spikes(rng *r, float *x, size_t n) {
    const u64 every = 1 + rng_below(r, 3) * 100;
    for (size_t i = 0; i < n; i++)
        if (rng_below(r, every) == 0)
            x[i] *= 1000;
}

/* A token with second parts; what stands in groups that have none is not to be seen. */
static void fill_seconds(rng *r, size_t n_cols, lb_q8_act *out, float *x) {
    const size_t n = lb_q8_chunks(n_cols);
    add_spikes(r, x, n_cols);
    memset(out + n, 0xff, n * sizeof *out);
    lb_k_act_q16_ref(n_cols, out, x);
    for (size_t c = 0; c < n; c++)
        for (size_t g = 0; g < 16; g++)
            if (!(out[c].more >> g & 1)) {
                lb_q8_act *a = out + n + c;
                memset(a->q + lb_q8_at(32 * g), 77, 16);
                memset(a->q + lb_q8_at(32 * g) + 64, 77, 16);
                memset(a->d32 + g, 0xff, 4), memset(a->m32 + g, 0xff, 4);
                memset(a->d16 + 2 * g, 0xff, 8), memset(a->m16 + 2 * g, 0xff, 8);
            }
}

void q8_fill(const kern *w, const kcase *c, u32 input, u8 *out) {
    rng r = {c->seed + input * 0x1234567u};
    const size_t chunks = lb_q8_chunks(c->n_cols);
    if (c->in_bytes[input] == 0)
        return;
    if (!is_product(w)) {
        if (input == 0 && w->sig != SIG_Q8_ACT)
            fill_codes(&r, c->fill, out, c->in_bytes[0], 1);
        else
            fill_f32(&r, c->fill, (float *)(void *)out, c->in_bytes[input] / 4);
        if (has_seconds(w))
            add_spikes(&r, (float *)(void *)out, c->in_bytes[input] / 4);
    } else if (input == 1) {
        float *x = malloc((c->n_cols + 1) * sizeof *x);
        for (size_t t = 0; t < c->first; t++) {
            fill_f32(&r, c->fill, x, c->n_cols);
            lb_q8_act *a = (lb_q8_act *)(void *)out + t * c->group_elems;
            if (c->group_elems > chunks)
                fill_seconds(&r, c->n_cols, a, x);
            else
                lb_k_act_q8_ref(c->n_cols, a, x);
        }
        free(x);
    } else if (w->sig == SIG_Q8_GEMM) {
        lb_q8_row *rows = malloc(c->n * chunks * sizeof *rows + 1);
        fill_rows(&r, c, rows, c->n * chunks);
        for (size_t p = 0; p < c->n; p += 16)
            lb_k_panel_q8_ref(LB_MIN(c->n - p, (size_t)16), c->n_cols,
                              out + p / 16 * lb_q8_panel_bytes(c->how, c->n_cols), c->how,
                              rows + p * chunks);
        free(rows);
    } else if (w->sig == SIG_Q8_ROWS) {
        fill_codes(&r, c->fill, out, c->in_bytes[input], 1);
        if (input == 2 && c->bits == LB_F32)
            fill_f32(&r, c->fill, (float *)(void *)out, c->in_bytes[2] / 4);
    } else {
        fill_rows(&r, c, (lb_q8_row *)(void *)out, c->n * chunks);
    }
}

/* Panels are read by the instruction set that made them: usmmla's have eight columns of a row side
 * by side, others and the reference's four. */
static bool has_eight(any_fn *fn) {
    lb_kernels k;
    const u32 isa = lb_cpu_isa();
    lb_kernels_init(&k, isa);
    return isa & LB_ISA_I8MM && (fn == (any_fn *)k.panel_q8 || fn == (any_fn *)k.gemm_q8);
}

/* From four to eight, or back. */
static void turn_panels(u8 *out, const u8 *in, u32 type, size_t n_bytes, bool back) {
    const size_t codes = type & LB_Q8_HALVES ? 256 : 512;
    memcpy(out, in, n_bytes);
    for (size_t p = 0; p < n_bytes; p += codes + 128)
        for (size_t quad = 0; quad < codes / 64; quad++)
            for (size_t r = 0; r < 16; r++) {
                const size_t four = p + 64 * quad + 4 * r,
                             eight = p + quad / 2 * 128 + 8 * r + quad % 2 * 4;
                memcpy(out + (back ? four : eight), in + (back ? eight : four), 4);
            }
}

static void *turned(const void *in, u32 type, size_t n_bytes, bool back) {
    u8 *out = malloc(n_bytes + 1);
    turn_panels(out, in, type, n_bytes, back);
    return out;
}

static void call_panel(any_fn *fn, const kcase *c, void *out, const void *in) {
    ((lb_k_panel_q8_fn *)fn)(c->n, c->n_cols, out, c->how, in);
    if (has_eight(fn)) {
        void *x = turned(out, c->how, c->out_bytes, true);
        memcpy(out, x, c->out_bytes);
        free(x);
    }
}

static void call_gemm(any_fn *fn, const kcase *c, const lb_q8_shape *shape, void *out,
                      const void *const in[3]) {
    static _Alignas(64) u8 scratch[1 << 18];
    void *x = has_eight(fn) ? turned(in[0], c->how, c->in_bytes[0], false) : NULL;
    ((lb_k_gemm_q8_fn *)fn)(shape, out, x ? x : in[0], in[1], scratch);
    free(x);
}

void q8_call(any_fn *fn, const kern *w, const kcase *c, void *out, const void *const in[3]) {
    const lb_q8_shape shape = {c->n, c->n_cols, c->first, c->out_stride, c->how, c->group_elems};
    memset(out, 0, c->out_bytes); /* places that a type does not use stay */
    switch (w->sig) {
    case SIG_Q8_BLOCKS:
        ((lb_k_codes_q4_0_fn *)fn)(c->n, out, in[0]);
        break;
    case SIG_Q8_MLX:
        ((lb_k_codes_mlx_q4_fn *)fn)(c->n, c->group_elems, out, in[0], in[1], in[2]);
        break;
    case SIG_Q8_ACT:
        ((lb_k_act_q8_fn *)fn)(c->n, out, in[0]);
        break;
    case SIG_Q8_DOTS:
        ((lb_k_dots_q8_fn *)fn)(&shape, out, in[0], in[1]);
        break;
    case SIG_Q8_PANEL:
        call_panel(fn, c, out, in[0]);
        break;
    case SIG_Q8_ROWS: {
        const lb_q8_rows rows = rows_in(w, c, in);
        ((lb_k_rows_q4_0_fn *)fn)(&shape, out, &rows, in[1]);
        break;
    }
    default:
        call_gemm(fn, c, &shape, out, in);
    }
}

size_t q8_elems(const kern *w, const kcase *c) {
    if (w->sig == SIG_Q8_PANEL)
        return c->n * c->n_cols;
    return is_product(w) ? c->n * c->n_cols * c->first : c->n;
}

/* Products: 16 (panels: 32) rows of 2048 by one (12) tokens. */
void q8_bench(const kern *w, kcase *c) {
    c->fill = 0;
    c->n = w->sig == SIG_Q8_GEMM ? 32 : is_product(w) ? 16 : 4096;
    c->n_cols = 2048;
    c->first = w->sig == SIG_Q8_GEMM ? 12 : 1;
    if (w->sig == SIG_Q8_MLX)
        c->n /= 64;
    /* MLX: groups of 64, bf16 */
    q8_sizes(w, c,
             w->sig == SIG_Q8_MLX    ? 1
             : w->sig == SIG_Q8_ROWS ? is_fp4(w)   ? 1
                                       : is_mlx(w) ? 5
                                                   : 0
             : is_product(w)         ? 2
                                     : 0);
}
