/* SPDX-License-Identifier: Apache-2.0 */
/* test_repack.c: codes in another layout (lb_expr_repack) against a loop over their bits: every
 * LB_REPACK_* from every encoding that it takes, under slices of rows and columns, orders of rows
 * and segments; the same bytes and counts for every tile size and number of threads. */
#include "plan_kit.h"
#include "test.h"
#include "kernel/half.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { GROUP = 32, SEGMENTS_MAX = 3, ROOTS_MAX = 3 };

/* ---- a source: one weight in a file of random bytes ---- */

typedef struct decl {
    lb_enc_kind kind;
    lb_dtype dtype, biases; /* PLAIN: the tensor's; MLX: those of scales and biases */
    u32 bits, group;
} decl;

typedef struct stored {
    decl d;
    u64 rows, cols, len;
    u8 *bytes;
    u64 off[3]; /* of the parts */
    lb_source *src;
} stored;

static float float_of(lb_dtype t, const u8 *p, u64 i) {
    return t == LB_F32    ? lb_f32_from_bits(lb_load_u32(p + 4 * i))
           : t == LB_BF16 ? lb_f32_from_bits((u32)lb_load_u16(p + 2 * i) << 16)
                          : lb_f16_to_f32(lb_load_u16(p + 2 * i));
}

static void put_float(lb_dtype t, u8 *p, u64 i, float v) {
    if (t == LB_F32)
        lb_store_u32(p + 4 * i, lb_f32_bits(v));
    else if (t == LB_BF16)
        lb_store_u16(p + 2 * i, (u16)(lb_f32_bits(v) >> 16));
    else
        lb_store_u16(p + 2 * i, lb_f16_from_f32(v));
}

/* Some are what f16 has, some are huge or tiny; of one in eight the random bits stay (NaN, too). */
static void fill_scales(stored *s) {
    u64 n = s->rows * s->cols / s->d.group;
    for (u64 i = 0; i < n; i++) {
        float v = lb_test_normal() * 0.05f;
        u64 kind = lb_test_rand_below(8);
        if (kind < 4)
            v = lb_f16_to_f32(lb_f16_from_f32(v));
        else if (kind == 4)
            v *= lb_test_rand_below(2) ? 1e5f : 1e-6f;
        if (kind < 7)
            put_float(s->d.dtype, s->bytes + s->off[1], i, v);
        v = float_of(s->d.dtype, s->bytes + s->off[1], i);
        if (lb_test_rand_below(2)) /* the zero point in the middle */
            put_float(s->d.biases, s->bytes + s->off[2], i, v * -(float)(1u << (s->d.bits - 1)));
    }
}

static bool add_part(stored *s, u32 k, lb_dtype t, u64 cols, lb_weight *w) {
    lb_err err = {0};
    lb_tensor x = {.dtype = t, .shape = {2, {s->rows, cols}}, .off_bytes = s->off[k]};
    x.n_elems = s->rows * cols;
    x.name = lb_arena_printf(&s->src->perm, "w.%u", k);
    w->part[k] = (u32)s->src->n_tensors;
    w->n_parts = k + 1;
    return lb_dtype_bytes(t, x.n_elems, &x.size_bytes) &&
           lb_source_add_tensor(s->src, &x, &err) == LB_OK;
}

static bool open_source(stored *s, decl d, u64 rows, u64 cols, const char *path) {
    lb_err err = {0};
    u32 file, parts = d.kind == LB_ENC_PLAIN ? 1 : d.kind == LB_ENC_MLX_AFFINE ? 3 : 2;
    bool plain = parts == 1;
    lb_dtype type[3] = {plain ? d.dtype : LB_U32, d.dtype, d.biases};
    u64 width[3] = {plain ? cols : cols * d.bits / 32, plain ? 0 : cols / d.group,
                    plain ? 0 : cols / d.group};
    *s = (stored){.d = d, .rows = rows, .cols = cols};
    for (u32 k = 0; k < parts; k++) {
        u64 n;
        s->off[k] = s->len + lb_test_rand_below(3); /* odd places */
        if (!lb_dtype_bytes(type[k], rows * width[k], &n))
            return false;
        s->len = s->off[k] + n;
    }
    s->bytes = malloc(s->len);
    for (u64 i = 0; i < s->len; i++)
        s->bytes[i] = (u8)lb_test_rand();
    if (parts == 3)
        fill_scales(s);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(s->bytes, 1, s->len, f) == s->len && fclose(f) == 0;
    s->src = lb_source_new(LB_FORMAT_SAFETENSORS, path);
    ok = ok && lb_source_add_file(s->src, path, LB_STR("src.bin"), &file, &err) == LB_OK;
    lb_weight w = {.name = LB_STR("w"), .shape = {2, {rows, cols}}};
    w.enc = (lb_enc){.kind = d.kind, .bits = d.bits, .group_size = d.group};
    for (u32 k = 0; ok && k < parts; k++)
        ok = add_part(s, k, type[k], width[k], &w);
    ok = ok && lb_source_add_weight(s->src, &w, &err) == LB_OK;
    if (!ok)
        fprintf(stderr, "%s\n", err.msg);
    return ok;
}

/* ---- what a group of 32 is: from the formats' descriptions, a bit at a time ---- */

typedef struct group {
    u32 code[GROUP];
    float scale, bias;
    u32 scale_half, bias_half; /* of what is f16 already: every bit stays */
    u8 e8m0;
} group;

enum { NO_HALF = 0x10000 };

static u32 bit_at(const u8 *p, u64 bit) {
    return p[bit / 8] >> bit % 8 & 1u;
}

static void nibbles(group *g, const u8 *p) { /* ggml: low ones, then high ones */
    for (u32 j = 0; j < GROUP; j++)
        g->code[j] = j < 16 ? p[j] % 16u : p[j - 16] / 16u;
}

/* Sub-block k of Q4_K and Q5_K: bit by bit of the packed 6-bit numbers. */
static void k_quant(group *g, const u8 *b, u32 k, bool five) {
    const u8 *q = b + 4, *low = b + (five ? 48 : 16);
    u32 sc = k < 4 ? q[k] % 64u : q[k + 4] % 16u + q[k - 4] / 64u * 16u;
    g->scale_half = NO_HALF;
    u32 mn = k < 4 ? q[k + 4] % 64u : q[k + 4] / 16u + q[k] / 64u * 16u;
    g->scale = lb_f16_to_f32(lb_load_u16(b)) * (float)sc;
    g->bias = -(lb_f16_to_f32(lb_load_u16(b + 2)) * (float)mn);
    for (u32 j = 0; j < GROUP; j++) {
        u8 byte = low[k / 2 * 32 + j];
        g->code[j] = (k % 2 ? byte / 16u : byte % 16u) + (five ? 16 * bit_at(b + 16 + j, k) : 0);
    }
}

static void read_plain(const stored *s, u64 row, u64 col, group *g) {
    const lb_dtype_info *t = lb_dtype_get(s->d.dtype);
    const u8 *b = s->bytes + s->off[0] +
                  (row * (s->cols / t->block_elems) + col / t->block_elems) * t->block_bytes;
    bool with_bias = s->d.dtype == LB_Q4_1 || s->d.dtype == LB_Q5_1;
    const u8 *q = b + (with_bias ? 4 : 2);
    g->scale_half = lb_load_u16(b);
    g->bias_half = with_bias ? lb_load_u16(b + 2) : NO_HALF;
    g->scale = lb_f16_to_f32(lb_load_u16(b));
    g->bias = lb_f16_to_f32(lb_load_u16(b + 2));
    switch (s->d.dtype) {
    case LB_Q4_0:
        g->bias = -8 * g->scale;
        nibbles(g, q);
        return;
    case LB_Q4_1:
        nibbles(g, q);
        return;
    case LB_Q5_0:
    case LB_Q5_1:
        g->bias = with_bias ? g->bias : -16 * g->scale;
        nibbles(g, q + 4);
        for (u32 j = 0; j < GROUP; j++)
            g->code[j] += 16 * bit_at(q, j);
        return;
    case LB_Q8_0:
        g->bias = -128 * g->scale;
        for (u32 j = 0; j < GROUP; j++)
            g->code[j] = (u32)((i8)q[j] + 128);
        return;
    case LB_MXFP4:
        g->e8m0 = b[0];
        nibbles(g, b + 1);
        return;
    default:
        k_quant(g, b, (u32)(col % 256 / GROUP), s->d.dtype == LB_Q5_K);
    }
}

static void read_group(const stored *s, u64 row, u64 col, group *g) {
    *g = (group){0};
    if (s->d.kind == LB_ENC_PLAIN) {
        read_plain(s, row, col, g);
        return;
    }
    u64 at = (row * s->cols + col) / s->d.group;
    for (u32 j = 0; j < GROUP; j++)
        for (u32 k = 0; k < s->d.bits; k++)
            g->code[j] |= bit_at(s->bytes + s->off[0], (row * s->cols + col + j) * s->d.bits + k)
                          << k;
    if (s->d.kind == LB_ENC_MLX_MXFP4) {
        g->e8m0 = s->bytes[s->off[1] + at];
        return;
    }
    const u8 *scale = s->bytes + s->off[1], *bias = s->bytes + s->off[2];
    g->scale_half = s->d.dtype == LB_F16 ? lb_load_u16(scale + 2 * at) : NO_HALF;
    g->bias_half = s->d.biases == LB_F16 ? lb_load_u16(bias + 2 * at) : NO_HALF;
    g->scale = float_of(s->d.dtype, scale, at);
    g->bias = float_of(s->d.biases, bias, at);
}

/* ---- ... and as it is written ---- */

typedef struct image {
    u8 *bytes;
    u64 len, counts[2];
} image;

/* A NaN that was computed is the one of processors that have one. */
static void put_f16(image *out, float v, u32 half, bool product) {
    u16 h = product && v != v ? 0x7e00 : lb_f16_from_f32(v);
    lb_store_u16(out->bytes + out->len, half == NO_HALF ? h : (u16)half);
    out->len += 2;
}

static bool inexact(float v) {
    return v == v && lb_f16_to_f32(lb_f16_from_f32(v)) != v;
}

static bool too_large(float v) {
    return isfinite(v) && !isfinite(lb_f16_to_f32(lb_f16_from_f32(v)));
}

static void put_words(image *out, const group *g, u32 bits) {
    u8 *p = out->bytes + out->len;
    memset(p, 0, 4 * bits);
    for (u32 i = 0; i < GROUP * bits; i++)
        p[i / 8] = (u8)(p[i / 8] | (g->code[i / bits] >> i % bits & 1u) << i % 8);
    out->len += 4 * bits;
}

static void put_nibbles(image *out, const group *g) {
    for (u32 j = 0; j < 16; j++)
        out->bytes[out->len++] = (u8)(g->code[j] % 16 + g->code[j + 16] % 16 * 16);
}

static void put_block(image *out, const group *g, u32 bits, bool with_bias) {
    put_f16(out, g->scale, g->scale_half, false);
    if (with_bias)
        put_f16(out, g->bias, g->bias_half, false);
    u32 high = 0;
    for (u32 j = 0; j < GROUP; j++)
        high |= (g->code[j] >> 4 & 1u) << j;
    if (bits == 5)
        memcpy(out->bytes + out->len, &(u32){high}, 4);
    out->len += bits == 5 ? 4 : 0;
    if (bits < 8)
        put_nibbles(out, g);
    for (u32 j = 0; bits == 8 && j < GROUP; j++)
        out->bytes[out->len++] = (u8)((int)g->code[j] - 128);
}

static u32 bits_of(lb_repack r) {
    return r == LB_REPACK_Q8_0 || r == LB_REPACK_AFFINE8                          ? 8
           : r == LB_REPACK_Q5_0 || r == LB_REPACK_Q5_1 || r == LB_REPACK_AFFINE5 ? 5
                                                                                  : 4;
}

static void put_group(image *out, const group *g, lb_repack r) {
    bool symmetric = r == LB_REPACK_Q4_0 || r == LB_REPACK_Q5_0 || r == LB_REPACK_Q8_0;
    bool with_bias = r == LB_REPACK_Q4_1 || r == LB_REPACK_Q5_1 || r == LB_REPACK_AFFINE_SCALES;
    float middle = g->scale * -(float)(1u << (bits_of(r) - 1));
    bool nan = g->scale != g->scale && g->bias != g->bias;
    if ((symmetric || with_bias) && (inexact(g->scale) || (with_bias && inexact(g->bias)) ||
                                     (symmetric && g->bias != middle && !nan)))
        out->counts[0] += GROUP;
    if ((symmetric || with_bias) && (too_large(g->scale) || (with_bias && too_large(g->bias))))
        out->counts[1] += GROUP;
    switch (r) {
    case LB_REPACK_MXFP4:
        out->bytes[out->len++] = g->e8m0;
        put_nibbles(out, g);
        return;
    case LB_REPACK_MXFP4_SCALES:
        out->bytes[out->len++] = g->e8m0;
        return;
    case LB_REPACK_AFFINE_SCALES:
        put_f16(out, g->scale, g->scale_half, true);
        return;
    case LB_REPACK_AFFINE_BIASES:
        put_f16(out, g->bias, g->bias_half, true);
        return;
    case LB_REPACK_MXFP4_CODES:
    case LB_REPACK_AFFINE4:
    case LB_REPACK_AFFINE5:
    case LB_REPACK_AFFINE8:
        put_words(out, g, bits_of(r));
        return;
    default:
        put_block(out, g, bits_of(r), !symmetric);
    }
}

/* ---- one case ---- */

/* Rows of the weight that stand in the output one after the other, and its columns. */
typedef struct view {
    u64 *row, n, col, n_cols;
} view;

static lb_node_id move_rows(lb_graph *g, lb_node_id x, view *v) {
    u64 *old = v->row, n = v->n, table[64];
    v->row = malloc(64 * sizeof *v->row);
    switch (lb_test_rand_below(4)) {
    case 0: { /* one matrix of a stack, or every other row */
        u64 step = 1 + lb_test_rand_below(2), from = lb_test_rand_below(n);
        v->n = 1 + (n - from - 1) / step;
        for (u64 i = 0; i < v->n; i++)
            v->row[i] = old[from + i * step];
        x = lb_expr_rows(g, x, from, step, v->n);
        break;
    }
    case 1:
        v->n = 1 + lb_test_rand_below(20);
        for (u64 i = 0; i < v->n; i++)
            v->row[i] = old[table[i] = lb_test_rand_below(n)];
        x = lb_expr_gather(g, x, table, v->n);
        break;
    case 2: {
        bool inverse = lb_test_rand_below(2);
        if (n % 4 == 0)
            x = lb_expr_heads(g, x, n / 4, inverse);
        for (u64 i = 0; i < n; i++) { /* pairs of a band of four: 0 2 1 3, its own inverse */
            u64 k = i % 4;
            v->row[i] = old[n % 4 == 0 ? i - k + (k == 1 ? 2 : k == 2 ? 1 : k) : i];
        }
        break;
    }
    default: {
        u64 run = 1 + lb_test_rand_below(n);
        v->n = run;
        for (u64 i = 0; i < run; i++)
            v->row[i] = old[n - run + i];
        x = lb_expr_runs(g, x, n - run, run, run + 1, run);
    }
    }
    free(old);
    return x;
}

static lb_node_id make_view(lb_graph *g, const stored *s, u32 unit, u64 n_cols, view *v) {
    lb_node_id x = lb_expr_read(g, 0, &s->src->weights[0]);
    *v = (view){.row = malloc(64 * sizeof *v->row), .n = s->rows, .n_cols = n_cols};
    for (u64 i = 0; i < s->rows; i++)
        v->row[i] = i;
    bool cols_last = lb_test_rand_below(2);
    if (cols_last && lb_test_rand_below(2))
        x = move_rows(g, x, v);
    if (n_cols != s->cols) {
        v->col = lb_test_rand_below((s->cols - n_cols) / unit + 1) * unit;
        x = lb_expr_cols(g, x, v->col, n_cols);
    }
    if (!cols_last && lb_test_rand_below(2))
        x = move_rows(g, x, v);
    return x;
}

static void append(const stored *s, const view *v, lb_repack r, image *out) {
    group g;
    for (u64 i = 0; i < v->n; i++)
        for (u64 c = 0; c < v->n_cols; c += GROUP) {
            read_group(s, v->row[i], v->col + c, &g);
            put_group(out, &g, r);
        }
}

static bool is_right(const lb_plan *p, const image *want, u32 n, const char *path) {
    FILE *f = fopen(path, "rb");
    bool ok = f != NULL;
    for (u32 k = 0; k < n && ok; k++) {
        const lb_stream *st = &p->jobs[0].streams[k];
        u8 *got = malloc(want[k].len + 1);
        ok = st->size_bytes == want[k].len && fseek(f, (long)st->off_bytes, SEEK_SET) == 0 &&
             fread(got, 1, want[k].len, f) == want[k].len &&
             memcmp(got, want[k].bytes, want[k].len) == 0 &&
             lb_hash_eq(st->hash, lb_xxh128(want[k].bytes, want[k].len));
        if (ok && (st->n_rounded != want[k].counts[0] || st->n_overflowed != want[k].counts[1])) {
            fprintf(stderr, "rounded %llu (expected %llu), overflowed %llu (expected %llu)\n",
                    (unsigned long long)st->n_rounded, (unsigned long long)want[k].counts[0],
                    (unsigned long long)st->n_overflowed, (unsigned long long)want[k].counts[1]);
            ok = false;
        }
        free(got);
    }
    if (f)
        fclose(f);
    return ok;
}

static void run_all(lb_plan *p, const image *want, u32 n, const char *what) {
    static const u64 tiles[] = {1, 100, 1000, 20000, 0};
    char out[320];
    lb_err err = {0};
    snprintf(out, sizeof out, "%s/out.bin", lb_test_dir());
    for (u32 i = 0; i < LB_LEN(tiles); i += lb_test_stride(2)) {
        lb_run_report rep = {0};
        lb_plan_limits lim = {.memory_bytes = LB_GIB,
                              .threads = 1 + (u32)lb_test_rand_below(4),
                              .tile_bytes = tiles[i]};
        for (u64 t = 0; t < p->graph.sources[0]->n_tensors; t++)
            p->src[0].used[t] = 0;
        CHECK_OK(lb_plan_close(p, &lim, &err));
        CHECK_OK(lb_kit_run(p, out, NULL, NULL, &rep, &err));
        if (!is_right(p, want, n, out))
            lb_test_fail(__FILE__, __LINE__, "%s: tiles of %llu bytes", what,
                         (unsigned long long)tiles[i]);
        CHECK_U64(rep.bytes_read, p->read_bytes);
    }
}

static bool stop_after(void *left) {
    u32 *n = left;
    return *n == 0 || --*n == 0;
}

/* Cut off again and again, recorded within the job, each time with other tiles: the same bytes. */
static void run_on(lb_plan *p, const image *want, u32 n, const char *what) {
    char out[320];
    lb_err err = {0};
    lb_status st = LB_E_INTERRUPTED;
    snprintf(out, sizeof out, "%s/on.bin", lb_test_dir());
    for (u32 i = 0; i < 1000 && st == LB_E_INTERRUPTED; i++) {
        u32 polls = 1 + (u32)lb_test_rand_below(8) + i / 4 * 3;
        lb_plan_limits lim = {.memory_bytes = LB_GIB,
                              .threads = 1 + (u32)lb_test_rand_below(2),
                              .tile_bytes = 1 + lb_test_rand_below(5000)};
        for (u64 t = 0; t < p->graph.sources[0]->n_tensors; t++)
            p->src[0].used[t] = 0;
        err = (lb_err){0};
        CHECK_OK(lb_plan_close(p, &lim, &err));
        st = lb_kit_run(p, out,
                        &(lb_sink_options){.resume = true,
                                           .force = true,
                                           .span_bytes = 1 + lb_test_rand_below(3000)},
                        &(lb_run_options){.stop = stop_after, .user = &polls}, NULL, &err);
    }
    CHECK_OK(st);
    if (!is_right(p, want, n, out))
        lb_test_fail(__FILE__, __LINE__, "%s: in parts", what);
    for (u64 t = 0; t < p->graph.sources[0]->n_tensors; t++)
        CHECK(p->src[0].used[t] & LB_USED);
}

static void one_case(const char *what, decl d, const lb_repack *repack, u32 n_roots, u64 rows,
                     u64 cols) {
    char path[300];
    stored s;
    lb_err err = {0};
    lb_plan *p = NULL;
    image want[ROOTS_MAX] = {{0}};
    lb_stream st[ROOTS_MAX];
    u32 unit = d.kind == LB_ENC_PLAIN ? lb_dtype_get(d.dtype)->block_elems : d.group;
    u32 n_segments = 1 + (u32)lb_test_rand_below(SEGMENTS_MAX);
    u64 n_cols = lb_test_rand_below(2) ? cols : (1 + lb_test_rand_below(cols / unit)) * unit;
    lb_node_id root[SEGMENTS_MAX][ROOTS_MAX];
    snprintf(path, sizeof path, "%s/src.bin", lb_test_dir());
    CHECK(open_source(&s, d, rows, cols, path));
    const lb_source *one = s.src;
    CHECK_OK(lb_plan_new(&p, &one, 1, &err));
    for (u32 k = 0; k < n_roots; k++)
        want[k].bytes = malloc(SEGMENTS_MAX * 64 * n_cols / 32 * 36);
    for (u32 i = 0; i < n_segments; i++) {
        view v;
        lb_node_id x = make_view(&p->graph, &s, unit, n_cols, &v);
        for (u32 k = 0; k < n_roots; k++) {
            append(&s, &v, repack[k], &want[k]);
            root[i][k] = lb_expr_repack(&p->graph, x, repack[k]);
        }
        free(v.row);
    }
    CHECK_OK(lb_graph_status(&p->graph, &err));
    u64 at = 0;
    u32 file = lb_plan_file(p, LB_STR(""), 0);
    lb_shape shape[ROOTS_MAX];
    for (u32 k = 0; k < n_roots; k++) {
        lb_dtype t = lb_repack_dtype(repack[k]);
        u64 elems = n_cols / 32 * lb_repack_elems(repack[k]), row;
        CHECK(lb_dtype_bytes(t, elems, &row));
        shape[k] = (lb_shape){2, {want[k].len / row, elems}};
        st[k] = (lb_stream){.file = file,
                            .off_bytes = at,
                            .size_bytes = want[k].len,
                            .name = LB_STR("out"),
                            .dtype = t,
                            .shape = &shape[k]};
        at += want[k].len;
    }
    p->files[0].size_bytes = at;
    CHECK(lb_plan_job(p, LB_STR("out"), st, n_roots) != NULL);
    for (u32 i = 0; i < n_segments; i++)
        lb_plan_segment(p, root[i]);
    p->want_digests = true;
    run_all(p, want, n_roots, what);
    if (lb_test_rand_below(4) == 0)
        run_on(p, want, n_roots, what);
    for (u32 k = 0; k < n_roots; k++)
        free(want[k].bytes);
    lb_plan_free(&p);
    lb_source_close(&s.src);
    free(s.bytes);
}

static const struct repack_case {
    const char *what;
    decl d;
    lb_repack repack[ROOTS_MAX];
} cases[] = {
#define PLAIN(type, ...)                                   \
    {                                                      \
#type, {LB_ENC_PLAIN, LB_##type, LB_F16, 0, 0 }, { \
            __VA_ARGS__                                    \
        }                                                  \
    }
#define AFFINE(bits, group, scales, biases, ...)                           \
    {                                                                      \
#bits " bits, groups of " #group ", " #scales " " #biases,         \
            {LB_ENC_MLX_AFFINE, LB_##scales, LB_##biases, bits, group }, { \
            __VA_ARGS__                                                    \
        }                                                                  \
    }
    PLAIN(MXFP4, LB_REPACK_MXFP4),
    PLAIN(MXFP4, LB_REPACK_MXFP4_CODES),
    PLAIN(MXFP4, LB_REPACK_MXFP4_SCALES),
    {"mlx mxfp4", {LB_ENC_MLX_MXFP4, LB_U8, LB_U8, 4, 32}, {LB_REPACK_MXFP4}},
    {"mlx mxfp4", {LB_ENC_MLX_MXFP4, LB_U8, LB_U8, 4, 32}, {LB_REPACK_MXFP4_CODES}},
    {"mlx mxfp4", {LB_ENC_MLX_MXFP4, LB_U8, LB_U8, 4, 32}, {LB_REPACK_MXFP4_SCALES}},
    PLAIN(Q4_0, LB_REPACK_AFFINE4),
    PLAIN(Q4_1, LB_REPACK_AFFINE4),
    PLAIN(Q5_0, LB_REPACK_AFFINE5),
    PLAIN(Q5_1, LB_REPACK_AFFINE5),
    PLAIN(Q8_0, LB_REPACK_AFFINE8),
    PLAIN(Q4_K, LB_REPACK_AFFINE4),
    PLAIN(Q5_K, LB_REPACK_AFFINE5),
    /* rows of several lengths in one job */
    PLAIN(MXFP4, LB_REPACK_MXFP4_SCALES, LB_REPACK_MXFP4_CODES),
    PLAIN(MXFP4, LB_REPACK_MXFP4, LB_REPACK_MXFP4_CODES),
    PLAIN(Q4_0, LB_REPACK_AFFINE_BIASES, LB_REPACK_AFFINE_SCALES, LB_REPACK_AFFINE4),
    PLAIN(Q5_1, LB_REPACK_AFFINE5, LB_REPACK_AFFINE_BIASES, LB_REPACK_AFFINE_SCALES),
    PLAIN(Q8_0, LB_REPACK_AFFINE_BIASES, LB_REPACK_AFFINE8, LB_REPACK_AFFINE_SCALES),
    PLAIN(Q4_K, LB_REPACK_AFFINE_BIASES, LB_REPACK_AFFINE_SCALES, LB_REPACK_AFFINE4),
    PLAIN(Q5_K, LB_REPACK_AFFINE_BIASES, LB_REPACK_AFFINE_SCALES, LB_REPACK_AFFINE5),
    PLAIN(Q4_0, LB_REPACK_AFFINE_SCALES, LB_REPACK_AFFINE_BIASES),
    PLAIN(Q4_1, LB_REPACK_AFFINE_BIASES, LB_REPACK_AFFINE_SCALES),
    PLAIN(Q5_0, LB_REPACK_AFFINE_SCALES, LB_REPACK_AFFINE_BIASES),
    PLAIN(Q5_1, LB_REPACK_AFFINE_SCALES, LB_REPACK_AFFINE_BIASES),
    PLAIN(Q8_0, LB_REPACK_AFFINE_SCALES, LB_REPACK_AFFINE_BIASES),
    PLAIN(Q4_K, LB_REPACK_AFFINE_SCALES, LB_REPACK_AFFINE_BIASES),
    PLAIN(Q5_K, LB_REPACK_AFFINE_BIASES, LB_REPACK_AFFINE_SCALES),
    AFFINE(4, 32, F16, F16, LB_REPACK_Q4_0),
    AFFINE(4, 64, BF16, BF16, LB_REPACK_Q4_0),
    AFFINE(4, 64, F16, F16, LB_REPACK_Q4_1),
    AFFINE(4, 128, F32, F32, LB_REPACK_Q4_1),
    AFFINE(5, 32, F16, F16, LB_REPACK_Q5_0),
    AFFINE(5, 128, BF16, F32, LB_REPACK_Q5_0),
    AFFINE(5, 64, BF16, BF16, LB_REPACK_Q5_1),
    AFFINE(8, 32, F16, F16, LB_REPACK_Q8_0),
    AFFINE(8, 64, BF16, BF16, LB_REPACK_Q8_0),
    AFFINE(8, 128, F32, F32, LB_REPACK_Q8_0),
};

LB_TEST(every_layout) {
    u64 rounds = lb_kit_slow() ? 2 : 8;
    bool seen[LB_REPACK_COUNT] = {true};
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        const struct repack_case *c = &cases[i];
        u32 n = c->repack[2] ? 3 : c->repack[1] ? 2 : 1;
        u32 unit = c->d.kind == LB_ENC_PLAIN ? lb_dtype_get(c->d.dtype)->block_elems : c->d.group;
        for (u64 k = 0; k < rounds; k++)
            one_case(c->what, c->d, c->repack, n, 1 + lb_test_rand_below(24),
                     unit * (1 + lb_test_rand_below(12)));
        /* rows that are cut: 8192 columns are the least tile of words of five bits from Q5_K */
        one_case(c->what, c->d, c->repack, n, 1 + lb_test_rand_below(3),
                 unit * (20000 / unit + lb_test_rand_below(20000 / unit)));
        seen[c->repack[0]] = seen[c->repack[1]] = seen[c->repack[2]] = true;
    }
    for (u32 r = 0; r < LB_REPACK_COUNT; r++)
        if (!seen[r])
            lb_test_fail(__FILE__, __LINE__, "no case has layout %u", r);
}

/* One row that is more than a strip (16384 words) long. */
LB_TEST(long_rows) {
    static const lb_repack words[] = {LB_REPACK_AFFINE5}, bytes[] = {LB_REPACK_AFFINE8};
    one_case("long Q5_K", (decl){LB_ENC_PLAIN, LB_Q5_K, LB_F16, 0, 0}, words, 1, 2, 256 * 700);
    one_case("long Q5_0", (decl){LB_ENC_PLAIN, LB_Q5_0, LB_F16, 0, 0}, words, 1, 2, 32 * 5003);
    one_case("long Q8_0", (decl){LB_ENC_PLAIN, LB_Q8_0, LB_F16, 0, 0}, bytes, 1, 2, 32 * 3001);
}

/* Columns that are not whole groups are refused, not cut. */
LB_TEST(parts_of_groups) {
    char path[300];
    stored s;
    lb_err err = {0};
    lb_plan *p = NULL;
    snprintf(path, sizeof path, "%s/src.bin", lb_test_dir());
    CHECK(open_source(&s, (decl){LB_ENC_PLAIN, LB_Q5_K, LB_F16, 0, 0}, 2, 1024, path));
    const lb_source *one = s.src;
    static const u64 from_n[][2] = {{32, 256}, {0, 32}, {256, 128}};
    for (u32 i = 0; i < LB_LEN(from_n); i++) {
        u64 n_cols = from_n[i][1];
        CHECK_OK(lb_plan_new(&p, &one, 1, &err));
        lb_node_id x = lb_expr_cols(&p->graph, lb_expr_read(&p->graph, 0, &one->weights[0]),
                                    from_n[i][0], n_cols);
        x = lb_expr_repack(&p->graph, x, LB_REPACK_AFFINE5);
        lb_stream st = {.name = LB_STR("out"),
                        .dtype = LB_U32,
                        .shape = &(lb_shape){2, {2, n_cols / 32 * 5}},
                        .size_bytes = 2 * n_cols / 32 * 20};
        (void)lb_plan_file(p, LB_STR(""), st.size_bytes);
        if (lb_graph_status(&p->graph, &err) == LB_OK) {
            lb_plan_output(p, &st, x);
            lb_plan_limits lim = {.memory_bytes = LB_GIB, .threads = 1};
            CHECK_U64(lb_plan_close(p, &lim, &err), LB_E_UNSUPPORTED);
        }
        lb_plan_free(&p);
    }
    lb_source_close(&s.src);
    free(s.bytes);
}

LB_TEST_MAIN("slow")
