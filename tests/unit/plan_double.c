/* SPDX-License-Identifier: Apache-2.0 */
/* plan_double.c: see plan_double.h. Slow and plain on purpose; shares only the scalar kernels and
 * the layout of stored groups with the engine.
 *
 * size: every operation of every node once more. */
#include "plan_double.h"
#include "test.h"
#include "base/os.h"
#include "kernel/divergence.h"
#include "kernel/half.h"
#include "plan/dense.h"
#include "plan/draw.h"
#include "kernel/half.h"
#include "plan/eval.h"
#include "plan/quant.h"
#include "tensor/four_bit.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static lb_kernels ref;

static void fill(u8 *p, u64 n, lb_dtype t) {
    if (t == LB_F32 || t == LB_F16 || t == LB_BF16) {
        u64 size = lb_dtype_get(t)->block_bytes;
        for (u64 i = 0; i < n / size; i++) {
            float v = lb_test_normal();
            u64 counts[2] = {0};
            lb_kernels_encode(&ref, t)(1, p + i * size, &v, counts);
        }
        return;
    }
    for (u64 i = 0; i < n; i++)
        p[i] = (u8)lb_test_rand();
    u32 size = lb_dtype_get(t)->block_bytes;
    u32 d = t == LB_Q4_K                   ? 4
            : t == LB_Q4_0 || t == LB_Q8_0 ? 2
                                           : 0; /* half scales at the start: keep finite */
    for (u64 b = 0; d && b < n / size; b++)
        for (u32 i = 1; i < d; i += 2)
            p[b * size + i] = (u8)(p[b * size + i] & 0x3b);
}

static bool add(lb_double_source *d, const char *name, lb_dtype t, u64 rows, u64 cols, u32 *index) {
    lb_err err = {0};
    lb_tensor x = {
        .dtype = t, .shape = {2, {rows, cols}}, .n_elems = rows * cols, .off_bytes = d->len};
    x.name = lb_arena_str(&d->src->perm, lb_str_c(name));
    if (!lb_dtype_bytes(t, rows * cols, &x.size_bytes))
        return false;
    *index = (u32)d->src->n_tensors;
    d->len += x.size_bytes;
    return lb_source_add_tensor(d->src, &x, &err) == LB_OK;
}

/* Parts of other tools' encodings, with shapes as their readers leave them. */
static bool add_foreign(lb_double_source *d, const lb_double_decl *c, const char *stem,
                        lb_weight *w) {
    const lb_enc *e = &c->enc;
    u64 r = c->n_rows, k = c->n_cols, n = r * k, groups = lb_ceil_div_u64(k, e->group_size);
    u64 blocks = lb_ceil_div_u64(n, e->group_size);
    const struct {
        lb_dtype t;
        u64 rows, cols;
    } list[][LB_PARTS_MAX] = {
        {{LB_I32, k * e->bits / 32, r}, {LB_F16, groups, r}, {LB_I32, groups, r * e->bits / 32}},
        {{LB_I32, k, r / 8}, {LB_F16, groups, r}, {LB_I32, groups, r / 8}},
        {{LB_U8, lb_ceil_div_u64(n, 2), 1},
         {LB_U8, blocks, 1},
         {LB_F32, lb_ceil_div_u64(blocks, e->nested_size ? e->nested_size : 1), 1},
         {LB_F32, 256, 1}},
        {{LB_U8, r, k / 2}, {LB_F8_E4M3, r, k / 16}, {LB_F32, 1, 1}},
    };
    u32 which = e->kind == LB_ENC_GPTQ      ? 0
                : e->kind == LB_ENC_AWQ     ? 1
                : e->kind == LB_ENC_BNB_NF4 ? 2
                                            : 3;
    for (u32 i = 0; i < LB_PARTS_MAX && list[which][i].rows; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.%u", stem, i);
        if (!add(d, name, list[which][i].t, list[which][i].rows, list[which][i].cols, &w->part[i]))
            return false;
        w->n_parts = i + 1;
    }
    if (c->table) { /* of which group each column is */
        char name[64];
        snprintf(name, sizeof name, "%s.table", stem);
        if (!add(d, name, LB_I32, k, 1, &w->part[3]))
            return false;
        w->n_parts = 4;
    }
    return true;
}

static u64 decl_bytes(const lb_double_decl *c) {
    u64 n = 0;
    if (c->enc.kind >= LB_ENC_FOREIGN)
        return 4 * c->n_rows * c->n_cols + 64 * (c->n_rows + c->n_cols) + 8192;
    if (c->enc.kind == LB_ENC_PLAIN)
        n = lb_dtype_bytes(c->dtype, c->n_rows * c->n_cols, &n) ? n : 0;
    else
        n = c->n_rows * (c->n_cols * c->enc.bits / 8 + c->n_cols / c->enc.group_size * 4);
    return n;
}

bool lb_double_open(lb_double_source *d, const lb_double_decl *decl, u32 n, const char *path) {
    lb_err err = {0};
    u32 file;
    lb_kernels_init(&ref, 0);
    *d = (lb_double_source){.path = path};
    for (u32 i = 0; i < n; i++)
        d->cap += decl_bytes(&decl[i]) + 3;
    d->bytes = malloc(d->cap + 1);
    for (u64 i = 0; i < d->cap; i++)
        d->bytes[i] = (u8)lb_test_rand();
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(d->bytes, 1, d->cap, f) != d->cap || fclose(f) != 0)
        return false;
    d->src = lb_source_new(LB_FORMAT_SAFETENSORS, path);
    if (lb_source_add_file(d->src, path, LB_STR("double.bin"), &file, &err) != LB_OK)
        return false;
    for (u32 i = 0; i < n; i++) {
        const lb_double_decl *c = &decl[i];
        char name[64];
        lb_weight w = {.enc = c->enc, .shape = {2, {c->n_rows, c->n_cols}}, .n_parts = 1};
        snprintf(name, sizeof name, "t%u.weight", i);
        w.name = lb_arena_str(&d->src->perm, lb_str_c(name));
        bool ok = c->enc.kind >= LB_ENC_FOREIGN ? add_foreign(d, c, name, &w)
                  : c->enc.kind == LB_ENC_PLAIN
                      ? add(d, name, c->dtype, c->n_rows, c->n_cols, &w.part[0])
                      : add(d, name, LB_U32, c->n_rows, c->n_cols * c->enc.bits / 32, &w.part[0]);
        for (u32 k = 1; ok && k < 3 && c->enc.kind == LB_ENC_MLX_AFFINE; k++) {
            snprintf(name, sizeof name, "t%u.%s", i, k == 1 ? "scales" : "biases");
            ok = add(d, name, LB_BF16, c->n_rows, c->n_cols / c->enc.group_size, &w.part[k]);
            w.n_parts = k + 1;
        }
        if (!ok || lb_source_add_weight(d->src, &w, &err) != LB_OK)
            return false;
        d->len += lb_test_rand_below(3); /* odd alignments */
    }
    for (u64 t = 0; t < d->src->n_tensors; t++)
        fill(d->bytes + d->src->tensors[t].off_bytes, d->src->tensors[t].size_bytes,
             d->src->tensors[t].dtype);
    for (u64 i = 0; i < d->src->n_weights; i++) {
        const lb_weight *w = &d->src->weights[i];
        if (w->enc.kind != LB_ENC_GPTQ || w->n_parts < 4)
            continue;
        const lb_tensor *t = &d->src->tensors[w->part[3]];
        u64 groups = d->src->tensors[w->part[1]].shape.dim[0];
        for (u64 k = 0; k < t->n_elems; k++)
            lb_store_u32(d->bytes + t->off_bytes + 4 * k, (u32)lb_test_rand_below(groups));
    }
    f = fopen(path, "r+b");
    bool ok = f && fwrite(d->bytes, 1, d->cap, f) == d->cap && fclose(f) == 0;
    lb_fstat st;
    ok = ok && lb_os_stat(path, &st, &err) == LB_OK;
    if (ok)
        d->src->files[0].mtime_ns = st.mtime_ns;
    return ok;
}

void lb_double_close(lb_double_source *d) {
    lb_source_close(&d->src);
    free(d->bytes);
    d->bytes = NULL;
}

/* ---- the evaluator ---- */

static u64 moved_row(const lb_node *n, u64 i) {
    u64 h = n->u.index.half;
    const lb_strides *s = n->u.index.strides;
    switch (n->op) {
    case LB_INDEX_STRIDES: /* i counts (outer, inner, place in the run) */
        return s->from + i / (s->run * s->n) * s->jump + i / s->run % s->n * s->step + i % s->run;
    case LB_INDEX_ROWS:
        return n->u.index.from + i * n->u.index.step;
    case LB_INDEX_RUNS:
        return n->u.index.from + i / h * n->u.index.step + i % h;
    case LB_INDEX_GATHER:
        return n->u.index.table[i];
    case LB_INDEX_HEADS:
        return i / (2 * h) * 2 * h + (i % 2) * h + i % (2 * h) / 2;
    case LB_INDEX_UNHEADS:
        return i / (2 * h) * 2 * h + i % h * 2 + i % (2 * h) / h;
    default:
        return i;
    }
}

static const u8 *content(const lb_graph *g, const lb_tensor *t) {
    (void)g;
    static u8 *bytes;
    static u64 cap;
    lb_err err = {0};
    int fd = -1;
    const lb_source *s = g->sources[0];
    if (cap < t->size_bytes)
        bytes = realloc(bytes, cap = t->size_bytes + 1);
    if (lb_os_open_read(s->files[t->file].path, &fd, &err) != LB_OK ||
        lb_os_pread(fd, s->files[t->file].path, bytes, t->size_bytes, t->off_bytes, &err) != LB_OK)
        abort();
    lb_os_close(&fd);
    return bytes;
}

/* ---- other tools' encodings, a value at a time, by their definitions ---- */

typedef struct stored {
    const lb_weight *w;
    const u8 *part[LB_PARTS_MAX];
    lb_dtype dtype[LB_PARTS_MAX];
    u64 rows, cols;
} stored;

static float one(const stored *x, u32 p, u64 i) {
    float v;
    u32 size = lb_dtype_get(x->dtype[p])->block_bytes;
    lb_kernels_decode(&ref, x->dtype[p])(1, &v, x->part[p] + i * size);
    return v;
}

static float gptq_value(const stored *x, u64 r, u64 c) {
    const lb_enc *e = &x->w->enc;
    u64 group = x->w->n_parts > 3 ? lb_load_u32(x->part[3] + 4 * c) : c / e->group_size;
    u32 mask = (1u << e->bits) - 1, ones = 0;
    u64 bit = c * e->bits, zero_bit = r * e->bits;
    u64 code = lb_load_u32(x->part[0] + 4 * (bit / 32 * x->rows + r));
    if (bit % 32 + e->bits > 32)
        code |= (u64)lb_load_u32(x->part[0] + 4 * ((bit / 32 + 1) * x->rows + r)) << 32;
    const u8 *z = x->part[2] + 4 * (group * (x->rows * e->bits / 32) + zero_bit / 32);
    for (u32 b = 0; b < 32 && e->less_one && e->bits != 3; b += e->bits)
        ones |= 1u << b;
    u64 zero = lb_load_u32(z) + ones;
    zero &= 0xffffffffu;
    if (zero_bit % 32 + e->bits > 32)
        zero |= (u64)lb_load_u32(z + 4) << 32;
    zero = (zero >> zero_bit % 32 & mask) + (e->less_one && e->bits == 3);
    return ((float)(code >> bit % 32 & mask) - (float)(zero & mask)) *
           one(x, 1, group * x->rows + r);
}

static float awq_value(const stored *x, u64 r, u64 c) {
    static const u32 place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    u64 group = c / x->w->enc.group_size, words = x->rows / 8;
    u32 code = lb_load_u32(x->part[0] + 4 * (c * words + r / 8)) >> 4 * place[r % 8] & 15;
    u32 zero = lb_load_u32(x->part[2] + 4 * (group * words + r / 8)) >> 4 * place[r % 8] & 15;
    return ((float)code - (float)zero) * one(x, 1, group * x->rows + r);
}

static float foreign_value(const stored *x, u64 r, u64 c) {
    const lb_enc *e = &x->w->enc;
    if (e->kind == LB_ENC_GPTQ)
        return gptq_value(x, r, c);
    if (e->kind == LB_ENC_AWQ)
        return awq_value(x, r, c);
    u64 i = r * x->cols + c, block = i / e->group_size;
    u32 byte = x->part[0][i / 2], upper = byte >> 4, lower = byte & 15;
    if (e->kind == LB_ENC_BNB_NF4)
        return lb_four_bit_nf4[i % 2 ? lower : upper] *
               (one(x, 3, x->part[1][block]) * one(x, 2, block / e->nested_size) +
                e->nested_offset);
    return lb_four_bit_e2m1_one_zero[i % 2 ? upper : lower] * (one(x, 1, i / 16) * one(x, 2, 0));
}

static void decode_foreign(const lb_source *s, const lb_weight *w, const u8 *const part[],
                           float *out) {
    stored x = {.w = w, .rows = w->shape.dim[0], .cols = w->shape.dim[1]};
    for (u32 k = 0; k < w->n_parts; k++) {
        x.part[k] = part[k];
        x.dtype[k] = s->tensors[w->part[k]].dtype;
    }
    for (u64 i = 0; i < x.rows * x.cols; i++) {
        out[i] = foreign_value(&x, i / x.cols, i % x.cols);
        if (isnan(out[i]))
            out[i] = lb_f32_from_bits(0x7fc00000u);
    }
    if (w->enc.rounded == LB_F16)
        ref.map_round_f16_f32(x.rows * x.cols, out, out);
}

static float *decoded(const lb_graph *g, const lb_node *n) {
    const lb_weight *w = n->u.read.weight;
    const lb_source *s = g->sources[n->u.read.source];
    u64 elems = n->n_rows * n->n_cols;
    float *out = malloc((elems + 1) * sizeof *out);
    lb_codec c;
    lb_err err = {0};
    u8 *copy[LB_PARTS_MAX] = {0};
    const u8 *part[LB_PARTS_MAX] = {0};
    if (lb_codec_of(&c, s, w, &err) != LB_OK)
        abort();
    for (u32 k = 0; k < c.n_parts; k++) {
        const lb_tensor *t = &s->tensors[w->part[k]];
        copy[k] = malloc(t->size_bytes + 1);
        memcpy(copy[k], content(g, t), t->size_bytes);
        part[k] = copy[k];
    }
    float *scratch = malloc((lb_codec_scratch_elems(&c, elems) + 1) * sizeof *scratch);
    if (w->enc.kind >= LB_ENC_FOREIGN)
        decode_foreign(s, w, part, out);
    else
        lb_codec_decode(&c, &ref, elems, out, part, scratch);
    for (u32 k = 0; k < c.n_parts; k++)
        free(copy[k]);
    free(scratch);
    return out;
}

static float *eval(const lb_graph *g, lb_node_id id);
static float *eval_keep(const lb_graph *g, const lb_node *n);

static float *eval_stack(const lb_graph *g, const lb_node *n) {
    float *out = malloc((n->n_rows * n->n_cols + 1) * sizeof *out), *at = out;
    for (u32 i = 0; i < n->n_in; i++) {
        const lb_node *in = lb_graph_node(g, n->in[i]);
        float *x = eval(g, n->in[i]);
        memcpy(at, x, in->n_rows * in->n_cols * sizeof *x);
        at += in->n_rows * in->n_cols;
        free(x);
    }
    return out;
}

static float *eval_index(const lb_graph *g, const lb_node *n) {
    if (n->op == LB_INDEX_STACK)
        return eval_stack(g, n);
    const lb_node *in = lb_graph_node(g, n->in[0]);
    float *x = eval(g, n->in[0]), *out = malloc((n->n_rows * n->n_cols + 1) * sizeof *out);
    for (u64 i = 0; i < n->n_rows; i++)
        for (u64 j = 0; j < n->n_cols; j++)
            out[i * n->n_cols + j] = n->op == LB_INDEX_TRANSPOSE ? x[j * in->n_cols + i]
                                     : n->op == LB_INDEX_EVERY
                                         ? x[i * in->n_cols + n->u.index.from + j * n->u.index.step]
                                     : n->op == LB_INDEX_COLS
                                         ? x[i * in->n_cols + n->u.index.from + j]
                                         : x[moved_row(n, i) * in->n_cols + j];
    free(x);
    return out;
}

static double wide_result(const lb_graph *g, const lb_node *n, u32 result);

static float scalar(const lb_graph *g, const lb_scalar *s) {
    double v = s->value, next = 0, res[LB_STAT_RESULTS];
    const lb_node *of = s->stat == LB_NODE_NONE ? NULL : lb_graph_node(g, s->stat);
    if (of && lb_stat_is_wide(of->op)) {
        v = wide_result(g, of, s->result);
    } else if (of) {
        lb_double_stat(g, s->stat, res);
        v = res[s->result];
        next = s->fn == LB_SCALAR_INV_SPAN ? res[s->result + 1] : 0;
    }
    switch (s->fn) {
    case LB_SCALAR_ID:
        break;
    case LB_SCALAR_NEG:
        v = -v;
        break;
    case LB_SCALAR_INV:
        v = v == 0 ? 0 : 1 / v;
        break;
    case LB_SCALAR_SQRT:
        v = sqrt(v);
        break;
    case LB_SCALAR_INV_SQRT:
        v = v == 0 ? 0 : 1 / sqrt(v);
        break;
    case LB_SCALAR_INV_SPAN:
        v = next == v ? 0 : 1 / (next - v);
        break;
    }
    return (float)v;
}

static float round_to(lb_dtype t, float v) {
    u8 b[4];
    u64 counts[2] = {0};
    lb_kernels_encode(&ref, t)(1, b, &v, counts);
    lb_kernels_decode(&ref, t)(1, &v, b);
    return v;
}

static float *eval_map(const lb_graph *g, const lb_node *n) {
    const lb_node *na = lb_graph_node(g, n->in[0]), *nb = lb_graph_node(g, n->in[n->n_in - 1]);
    float *a = eval(g, n->in[0]), *b = n->n_in > 1 ? eval(g, n->in[1]) : NULL,
          c = scalar(g, &n->u.scalar);
    float *out = malloc((n->n_rows * n->n_cols + 1) * sizeof *out);
    for (u64 i = 0; i < n->n_rows && n->op == LB_MAP_WEAVE; i++)
        for (u64 j = 0; j < n->n_cols; j++)
            out[i * n->n_cols + j] = (j % 2 ? b : a)[i * na->n_cols + j / 2];
    for (u64 i = 0; i < n->n_rows && n->op != LB_MAP_WEAVE; i++)
        for (u64 j = 0; j < n->n_cols; j++) {
            float x = a[(na->n_rows == 1 ? 0 : i) * na->n_cols + (na->n_cols == 1 ? 0 : j)];
            float y = b ? b[(nb->n_rows == 1 ? 0 : i) * nb->n_cols + (nb->n_cols == 1 ? 0 : j)] : 0;
            float v = 0;
            switch (n->op) {
            case LB_MAP_ADD:
                v = x + y;
                break;
            case LB_MAP_SUB:
                v = x - y;
                break;
            case LB_MAP_MUL:
                v = x * y;
                break;
            case LB_MAP_ADD_C:
                v = x + c;
                break;
            case LB_MAP_MUL_C:
                v = x * c;
                break;
            case LB_MAP_DIV_C:
                v = x / c;
                break;
            case LB_MAP_DIV:
                v = x / y;
                break;
            case LB_MAP_RDIV_C:
                v = c / x;
                break;
            case LB_MAP_MAX_C:
                v = x < c ? c : x;
                break;
            case LB_MAP_MIN_C:
                v = x > c ? c : x;
                break;
            case LB_MAP_ABOVE_C:
                v = fabsf(x) > c;
                break;
            case LB_MAP_ABS:
                v = fabsf(x);
                break;
            case LB_MAP_OR_ONE:
                v = x == 0 ? 1 : x;
                break;
            case LB_MAP_ORDER:
                v = lb_order_of(x);
                break;
            case LB_MAP_AGREE:
                v = y >= 0 ? x > 0 : x < 0;
                break;
            case LB_MAP_BELOW:
                v = x < y;
                break;
            case LB_MAP_FMA_C:
                v = fmaf(x, c, y);
                break;
            case LB_MAP_ROUND_F16:
                v = round_to(LB_F16, x);
                break;
            case LB_MAP_ROUND_BF16:
                v = round_to(LB_BF16, x);
                break;
            case LB_MAP_EXP: /* no libm rounds as it does */
                ref.map_exp_f32(1, &v, &x);
                break;
            case LB_MAP_LOG:
                ref.map_log_f32(1, &v, &x);
                break;
            }
            out[i * n->n_cols + j] =
                v == v ? v : lb_f32_from_bits(0x7fc00000); /* the kernels' one NaN */
        }
    free(a);
    free(b);
    return out;
}

/* Leaves of at most LB_FOLD_LEAF elements of a row, added in order. */
static double fold(const float *a, const float *b, u64 rows, u64 cols, lb_stat_op op) {
    double s = 0;
    for (u64 i = 0; i < rows; i++)
        for (u64 j = 0; j < cols; j += LB_FOLD_LEAF) {
            u64 m = LB_MIN(cols - j, LB_FOLD_LEAF), at = i * cols + j;
            s += op == LB_STAT_SUM      ? ref.fold_sum_f32(m, a + at)
                 : op == LB_STAT_SUMABS ? ref.fold_sumabs_f32(m, a + at)
                                        : ref.fold_dot_f32(m, a + at, b + at);
        }
    return s;
}

static double wide_result(const lb_graph *g, const lb_node *n, u32 result) {
    const lb_node *in = lb_graph_node(g, n->in[0]);
    double dot[LB_GRAM_MAX * (LB_GRAM_MAX + 1) / 2] = {0}, out[LB_GRAM_RESULTS] = {0};
    for (u32 i = 0; i < n->n_in && n->op != LB_STAT_GRAM; i++) {
        float *a = eval(g, n->in[i]);
        dot[i] = fold(a, a, in->n_rows, in->n_cols,
                      n->op == LB_STAT_NORMS1 ? LB_STAT_SUMABS : LB_STAT_DOT);
        free(a);
    }
    for (u32 i = 0; i < n->n_in && n->op == LB_STAT_GRAM; i++)
        for (u32 j = 0; j <= i; j++) {
            float *a = eval(g, n->in[i]), *b = eval(g, n->in[j]);
            dot[lb_gram_at(i, j)] = fold(a, b, in->n_rows, in->n_cols, LB_STAT_DOT);
            free(a);
            free(b);
        }
    if (!n->u.stat.formula)
        return dot[result];
    if (n->u.stat.formula->run(n->u.stat.formula, dot, n->n_in, out))
        abort();
    return out[result];
}

static float *eval_row_formula(const lb_graph *g, const lb_node *n) {
    const lb_formula *f = n->u.row.formula;
    float *x[LB_GRAM_MAX], *out = malloc((n->n_rows * n->n_cols + 1) * sizeof *out);
    for (u32 k = 0; k < n->n_in; k++)
        x[k] = eval(g, n->in[k]);
    for (u64 i = 0; i < n->n_rows; i++) {
        double dot[LB_GRAM_MAX * (LB_GRAM_MAX + 1) / 2], res[LB_GRAM_RESULTS];
        for (u32 a = 0; a < n->n_in; a++)
            for (u32 b = 0; b <= a; b++)
                dot[lb_gram_at(a, b)] =
                    fold(x[a] + i * n->n_cols, x[b] + i * n->n_cols, 1, n->n_cols, LB_STAT_DOT);
        if (f->run(f, dot, n->n_in, res))
            abort();
        for (u64 c = 0; c < n->n_cols; c++)
            out[i * n->n_cols + c] = (float)res[n->u.row.result];
    }
    for (u32 k = 0; k < n->n_in; k++)
        free(x[k]);
    return out;
}

/* Again and again the largest that is left, of those that are free first. */
static float *eval_row_nm(const lb_graph *g, const lb_node *n) {
    float *x = eval(g, n->in[0]), *claimed = n->n_in > 1 ? eval(g, n->in[1]) : NULL;
    u64 cols = n->n_cols, of = n->u.nm.of;
    float *out = calloc(n->n_rows * cols + 1, sizeof *out);
    for (u64 first = 0; first < n->n_rows * cols;) {
        u64 len = LB_MIN(of, cols - first % cols), keep = (n->u.nm.keep * len + of - 1) / of;
        for (int taken = 0; taken < 2; taken++)
            for (bool any = true; any && keep;) {
                u64 best = 0;
                any = false;
                for (u64 i = first; i < first + len; i++) {
                    bool here = (claimed && claimed[i] != 0) == taken;
                    u32 bits = lb_f32_bits(x[i]) & 0x7fffffffu;
                    if (!here || !bits || out[i] != 0 ||
                        (any && bits <= (lb_f32_bits(x[best]) & 0x7fffffffu)))
                        continue;
                    best = i;
                    any = true;
                }
                if (any)
                    out[best] = 1, keep--;
            }
        first += len;
    }
    free(x);
    free(claimed);
    return out;
}

static float to_bf16(const lb_odds *o, double x) {
    float v = (float)x;
    return o->bf16 ? lb_bf16_to_f32(lb_bf16_from_f32(v)) : v;
}

/* Every value against every other; then as mergekit has it. */
static void odds_row(const lb_odds *o, u64 n, float *x) {
    float *out = malloc((n + 1) * sizeof *out);
    float max = to_bf16(o, (double)to_bf16(o, (double)(n - 1)) + 1);
    for (u64 i = 0; i < n; i++) {
        u64 before = 0;
        for (u64 j = 0; j < n; j++) {
            float a = fabsf(x[j]), b = fabsf(x[i]);
            bool equal = a == b || (a != a && b != b);
            before += equal ? j < i : b != b || a < b;
        }
        float rank = to_bf16(o, (double)to_bf16(o, (double)before) + 1);
        float norm = to_bf16(o, to_bf16(o, (double)rank - 1) / to_bf16(o, (double)max - 1));
        float more = to_bf16(o, norm * 2 * (float)o->epsilon);
        out[i] = to_bf16(o, more + to_bf16(o, o->density - o->epsilon));
    }
    memcpy(x, out, n * sizeof *x);
    free(out);
}

static float *eval_row_kl(const lb_graph *g, const lb_node *n) {
    float *x = eval(g, n->in[0]), *y = eval(g, n->in[1]);
    float *out = malloc((n->n_rows * n->n_cols + 1) * sizeof *out);
    double *scratch = malloc((2 * n->n_cols + 1) * sizeof *scratch);
    for (u64 i = 0; i < n->n_rows; i++)
        out[i * n->n_cols] = lb_kl_f32(&ref, n->n_cols, x + i * n->n_cols, y + i * n->n_cols,
                                       (lb_kl_how)n->u.kl, (float *)(void *)scratch);
    for (u64 i = 0; i < n->n_rows * n->n_cols; i++)
        out[i] = out[i / n->n_cols * n->n_cols];
    free(x);
    free(y);
    free(scratch);
    return out;
}

static float *eval_row(const lb_graph *g, const lb_node *n) {
    if (n->op == LB_ROW_KL)
        return eval_row_kl(g, n);
    if (n->op == LB_ROW_NM)
        return eval_row_nm(g, n);
    if (n->op == LB_ROW_FORMULA)
        return eval_row_formula(g, n);
    float *x = eval(g, n->in[0]);
    if (n->op == LB_ROW_MOVE) {
        const lb_strides *s = n->u.strides;
        float *out = malloc((n->n_rows * n->n_cols + 1) * sizeof *out);
        for (u64 i = 0; i < n->n_rows; i++)
            for (u64 j = 0; j < n->n_cols; j++)
                out[i * n->n_cols + j] = x[i * n->n_cols + s->from + j / (s->run * s->n) * s->jump +
                                           j / s->run % s->n * s->step + j % s->run];
        free(x);
        return out;
    }
    for (u64 i = 0; i < n->n_rows; i++) {
        float *r = x + i * n->n_cols;
        if (n->op == LB_ROW_ODDS) {
            odds_row(&n->u.odds, n->n_cols, r);
        } else if (n->op == LB_ROW_L2) {
            double s = fold(r, r, 1, n->n_cols, LB_STAT_DOT);
            ref.map_mulc_f32(n->n_cols, r, r, s == 0 ? 0 : (float)(1 / sqrt(s)));
        } else {
            double s = fold(r, r, 1, n->n_cols, LB_STAT_SUM);
            ref.map_addc_f32(n->n_cols, r, r, -(float)(s / (double)n->n_cols));
        }
    }
    return x;
}

/* Leaves of the inner dimension, each from 0, added up in order. */
static float *eval_product(const lb_graph *g, const lb_node *n) {
    float *b = eval(g, n->in[0]), *a = eval(g, n->in[1]);
    u64 inner = lb_graph_node(g, n->in[0])->n_cols, cols = n->n_cols;
    float *out = malloc((n->n_rows * cols + 1) * sizeof *out);
    for (u64 i = 0; i < n->n_rows; i++)
        for (u64 j = 0; j < cols; j++) {
            float v = 0;
            for (u64 k = 0; k < inner;) {
                float leaf = 0;
                for (u64 end = LB_MIN(k + LB_GEMM_LEAF, inner); k < end; k++)
                    leaf = fmaf(b[i * inner + k], a[k * cols + j], leaf);
                v += leaf;
                v = v == v ? v : lb_f32_from_bits(0x7fc00000);
            }
            out[i * cols + j] = v;
        }
    free(a);
    free(b);
    return out;
}

static float *eval_lowrank(const lb_graph *g, const lb_node *n) {
    if (n->op == LB_LOWRANK_PRODUCT)
        return eval_product(g, n);
    float *x = eval(g, n->in[0]), *b = eval(g, n->in[1]), *a = eval(g, n->in[2]);
    u64 rank = lb_graph_node(g, n->in[1])->n_cols;
    for (u64 i = 0; i < n->n_rows; i++)
        for (u64 j = 0; j < n->n_cols; j++) {
            float acc = 0;
            for (u64 k = 0; k < rank; k++)
                acc = fmaf(a[k * n->n_cols + j], b[i * rank + k], acc);
            float v = fmaf(acc, n->u.scale, x[i * n->n_cols + j]);
            x[i * n->n_cols + j] = v == v ? v : lb_f32_from_bits(0x7fc00000);
        }
    free(a);
    free(b);
    return x;
}

/* The factorisation itself is test_la.c's: here it gets whole matrices and scalar kernels. */
static float *eval_dense(const lb_graph *g, const lb_node *n) {
    const lb_node *in = lb_graph_node(g, n->in[0]);
    float *x = eval(g, n->in[0]), *q = n->n_in > 1 ? eval(g, n->in[1]) : NULL;
    u64 sums = lb_dense_sums_bytes(n, in->n_rows, in->n_cols);
    lb_dense d = {.node = n,
                  .n_rows = in->n_rows,
                  .n_cols = in->n_cols,
                  .input = sums ? NULL : x,
                  .other = q,
                  .other_rows = q ? lb_graph_node(g, n->in[1])->n_rows : 0,
                  .out = malloc((n->n_rows * n->n_cols + 1) * sizeof(float)),
                  .sums = calloc(1, sums + 1),
                  .work = malloc(lb_dense_work_bytes(n, in->n_rows, in->n_cols) + 1)};
    if (sums)
        lb_dense_add(&ref, &d, in->n_rows, x);
    if (lb_dense_finish(&ref, &d))
        abort();
    free(d.sums);
    free(d.work);
    free(x);
    free(q);
    return d.out;
}

static float *eval_gram(const lb_graph *g, const lb_node *n) {
    if (n->op != LB_DENSE_GRAM)
        return eval_dense(g, n);
    u64 m = lb_graph_node(g, n->in[0])->n_cols;
    float *x = eval(g, n->in[0]), *out = malloc((n->n_rows * n->n_rows + 1) * sizeof *out);
    for (u64 i = 0; i < n->n_rows; i++)
        for (u64 j = 0; j < n->n_rows; j++)
            out[i * n->n_rows + j] =
                (float)fold(x + LB_MAX(i, j) * m, x + LB_MIN(i, j) * m, 1, m, LB_STAT_DOT);
    free(x);
    return out;
}

/* A generator's numbers one by one from the first on. */
static u32 next_number(u32 state[624], u32 *at) {
    if (*at == 624) {
        for (u32 i = 0; i < 624; i++) {
            u32 y = (state[i] & 0x80000000u) | (state[(i + 1) % 624] & 0x7fffffffu);
            state[i] = state[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        *at = 0;
    }
    u32 y = state[(*at)++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return (y ^ y >> 18) & 0xffffffu;
}

/* Numbers of a stream before a node: those of the nodes that were made before. */
static u64 numbers_before(const lb_graph *g, lb_node_id id) {
    u64 n = 0;
    for (lb_node_id i = 0; i < id; i++) {
        const lb_node *x = lb_graph_node(g, i);
        if (lb_node_draws(x) && x->u.make.carry == lb_graph_node(g, id)->u.make.carry)
            n += x->n_rows * x->n_cols;
    }
    return n;
}

static float *eval_random(const lb_graph *g, lb_node_id id) {
    const lb_node *n = lb_graph_node(g, id);
    u32 state[624], at = 624;
    state[0] = (u32)g->carries[n->u.make.carry].seed;
    for (u32 i = 1; i < 624; i++)
        state[i] = 1812433253u * (state[i - 1] ^ state[i - 1] >> 30) + i;
    for (u64 k = numbers_before(g, id); k; k--)
        (void)next_number(state, &at);
    float *out = malloc((n->n_rows * n->n_cols + 1) * sizeof *out);
    for (u64 k = 0; k < n->n_rows * n->n_cols; k++) {
        float u = (float)next_number(state, &at) / 16777216.0f;
        out[k] = n->op == LB_MAKE_UNIFORM ? u : (float)(u < (float)n->u.make.p);
    }
    return out;
}

/* Blocks of rows, each summed in order, added in order. */
static void sum_cols(const lb_graph *g, const lb_node *stat, float *out) {
    const lb_node *in = lb_graph_node(g, stat->in[0]);
    float *x = eval(g, stat->in[0]);
    for (u64 j = 0; j < in->n_cols; j++) {
        double all = 0, block = 0;
        for (u64 i = 0; i < in->n_rows; i++) {
            block += (double)x[i * in->n_cols + j];
            if (i % LB_COLS_BLOCK == LB_COLS_BLOCK - 1 || i + 1 == in->n_rows) {
                all += block;
                block = 0;
            }
        }
        out[j] = (float)all;
    }
    free(x);
}

static float *eval_choose(const lb_graph *g, const lb_node *n) {
    float *which = eval(g, n->in[0]), *out = malloc((n->n_rows * n->n_cols + 1) * sizeof *out);
    for (u32 k = 0; k + 1 < n->n_in; k++) {
        float *x = eval(g, n->in[k + 1]);
        u64 rows = lb_graph_node(g, n->in[k + 1])->n_rows;
        for (u64 i = 0; i < n->n_rows; i++)
            if ((u32)which[i] == k)
                memcpy(out + i * n->n_cols, x + (rows == 1 ? 0 : i) * n->n_cols,
                       n->n_cols * sizeof *out);
        free(x);
    }
    free(which);
    return out;
}

static float *eval_variance(const lb_graph *g, const lb_node *n) {
    u64 elems = n->n_rows * n->n_cols;
    float *x[LB_GRAM_MAX], *out = malloc((elems + 1) * sizeof *out);
    for (u32 k = 0; k < n->n_in; k++)
        x[k] = eval(g, n->in[k]);
    for (u64 i = 0; i < elems; i++) {
        double mean = 0, square = 0;
        for (u32 k = 0; k < n->n_in; k++) {
            double d = (double)x[k][i] - mean;
            mean += d / (k + 1);
            square += d * ((double)x[k][i] - mean);
        }
        float v = (float)(square / n->n_in);
        out[i] = v == v ? v : lb_f32_from_bits(0x7fc00000);
    }
    for (u32 k = 0; k < n->n_in; k++)
        free(x[k]);
    return out;
}

static float *eval(const lb_graph *g, lb_node_id id) {
    const lb_node *n = lb_graph_node(g, id);
    u64 elems = n->n_rows * n->n_cols;
    float *out;
    switch (n->kind) {
    case LB_NODE_READ:
        return decoded(g, n);
    case LB_NODE_DECODE:
        return eval(g, n->in[0]);
    case LB_NODE_INDEX:
        return eval_index(g, n);
    case LB_NODE_MAP:
        return n->op == LB_MAP_CHOOSE     ? eval_choose(g, n)
               : n->op == LB_MAP_VARIANCE ? eval_variance(g, n)
               : n->op == LB_MAP_KEEP     ? eval_keep(g, n)
                                          : eval_map(g, n);
    case LB_NODE_ROW:
        return eval_row(g, n);
    case LB_NODE_LOWRANK:
        return eval_lowrank(g, n);
    case LB_NODE_DENSE:
        return eval_gram(g, n);
    case LB_NODE_MAKE:
        if (lb_node_draws(n))
            return eval_random(g, id);
        out = malloc((elems + 1) * sizeof *out);
        if (n->op == LB_MAKE_RESULTS) {
            sum_cols(g, lb_graph_node(g, n->in[0]), out);
            return out;
        }
        if (n->op == LB_MAKE_DRAW) {
            lb_draw_fill(n->u.make.draw, &ref, 0, elems, out);
            return out;
        }
        for (u64 i = 0; i < elems; i++)
            out[i] = n->op == LB_MAKE_CONST ? n->u.make.values[i] : (float)n->u.make.p;
        return out;
    default:
        abort();
    }
}

static int descending(const void *a, const void *b) {
    u32 x = *(const u32 *)a, y = *(const u32 *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static u64 rank_of(const lb_node *n, u32 i, const float *a, u64 elems) {
    u64 nonzero = 0;
    for (u64 j = 0; j < elems; j++)
        nonzero += a[j] != 0;
    return n->u.stat.ranks->of_nonzero > 0
               ? (u64)((float)nonzero * (float)n->u.stat.ranks->of_nonzero)
               : n->u.stat.ranks->rank[i];
}

/* Of nothing the value is a NaN, the largest magnitude there is. */
static void kth(const lb_node *n, const float *a, u64 elems, double out[LB_STAT_RESULTS]) {
    double value[LB_SELECT_RANKS];
    u32 *bits = malloc((elems + 1) * sizeof *bits);
    for (u64 i = 0; i < elems; i++)
        bits[i] = lb_f32_bits(a[i]) & 0x7fffffffu;
    qsort(bits, elems, sizeof *bits, descending);
    for (u32 i = 0; i < n->u.stat.ranks->n; i++) {
        u64 rank = rank_of(n, i, a, elems);
        value[i] = lb_f32_from_bits(rank ? bits[rank - 1] : 0x7fffffff);
        out[i] = value[i];
        while (n->u.stat.ranks->n == 1 && rank && bits[(u64)out[1]] != bits[rank - 1])
            out[1]++;
    }
    free(bits);
    if (n->u.stat.formula &&
        n->u.stat.formula->run(n->u.stat.formula, value, n->u.stat.ranks->n, out))
        abort();
}

/* Keeps the elements of the wanted ranks; of equals at the end of what is kept, and at its
 * beginning, those with the lowest indices. One element after the other: counts as it goes. */
static float *eval_keep(const lb_graph *g, const lb_node *n) {
    const lb_node *s = lb_graph_node(g, n->u.scalar.stat);
    float *x = eval(g, n->in[0]), *of = eval(g, s->in[0]);
    u64 elems = n->n_rows * n->n_cols;
    bool two = s->u.stat.ranks->n == 2;
    u64 top = two ? s->u.stat.ranks->rank[0] : 0, last = rank_of(s, two, of, elems);
    u32 *bits = malloc((elems + 1) * sizeof *bits);
    float *out = malloc((elems + 1) * sizeof *out);
    for (u64 i = 0; i < elems; i++)
        bits[i] = lb_f32_bits(of[i]) & 0x7fffffffu;
    qsort(bits, elems, sizeof *bits, descending);
    for (u64 i = 0; i < elems; i++) {
        u32 b = lb_f32_bits(of[i]) & 0x7fffffffu;
        u64 n_wanted = 0, before = 0; /* of this magnitude */
        for (u64 k = top; k < last; k++)
            n_wanted += bits[k] == b;
        for (u64 k = 0; k < i && n_wanted; k++)
            before += (lb_f32_bits(of[k]) & 0x7fffffffu) == b;
        float v = x[i] * (before < n_wanted ? 1.0f : 0.0f);
        out[i] = v == v ? v : lb_f32_from_bits(0x7fc00000);
    }
    free(bits);
    free(of);
    free(x);
    return out;
}

void lb_double_stat(const lb_graph *g, lb_node_id stat, double out[LB_STAT_RESULTS]) {
    const lb_node *n = lb_graph_node(g, stat), *in = lb_graph_node(g, n->in[0]);
    float *a = eval(g, n->in[0]), *b = n->n_in > 1 ? eval(g, n->in[1]) : NULL;
    u64 elems = in->n_rows * in->n_cols;
    memset(out, 0, LB_STAT_RESULTS * sizeof *out);
    if (n->op == LB_STAT_KTH) {
        kth(n, a, elems, out);
    } else if (n->op == LB_STAT_RANGE) {
        bool any = false;
        for (u64 i = 0; i < elems; i++) {
            out[2] += !isfinite(a[i]);
            if (a[i] == a[i]) {
                out[0] = any ? fmin(out[0], a[i]) : a[i];
                out[1] = any ? fmax(out[1], a[i]) : a[i];
                any = true;
            }
        }
    } else {
        out[0] = fold(a, b ? b : a, in->n_rows, in->n_cols, (lb_stat_op)n->op);
    }
    free(a);
    free(b);
}

/* Stored bytes moved by rows and whole columns of blocks. */
static u8 *eval_stored(const lb_graph *g, lb_node_id id, u64 block, u64 size) {
    const lb_node *n = lb_graph_node(g, id);
    u64 row = n->n_cols / block * size;
    u8 *out = malloc(n->n_rows * row + 1);
    if (n->kind == LB_NODE_READ) {
        memcpy(out, content(g, &g->sources[n->u.read.source]->tensors[n->u.read.weight->part[0]]),
               n->n_rows * row);
        return out;
    }
    u64 in_row = lb_graph_node(g, n->in[0])->n_cols / block * size;
    u8 *in = eval_stored(g, n->in[0], block, size);
    u64 from = n->op == LB_INDEX_COLS ? n->u.index.from / block * size : 0;
    for (u64 i = 0; i < n->n_rows; i++)
        memcpy(out + i * row, in + moved_row(n, i) * in_row + from, row);
    free(in);
    return out;
}

/* Values of a matrix that have one scale. */
typedef struct unit {
    u64 r0, nr, c0, nc;
} unit;

/* Scale and zero point or factor. */
static void unit_params(const lb_quant *q, const float *x, u64 n_cols, unit u, u32 how,
                        float out[2]) {
    float lo = 0, hi = 0;
    for (u64 i = u.r0; i < u.r0 + u.nr; i++)
        for (u64 j = u.c0; j < u.c0 + u.nc; j++) {
            lo = fminf(lo, x[i * n_cols + j]);
            hi = fmaxf(hi, x[i * n_cols + j]);
        }
    if (ref.quant_params(1, &out[0], &out[1], &lo, &hi, how) && q->kind == LB_QUANT_FINE_F8)
        out[0] = out[1] = 1; /* too small for a factor: all zeros */
}

static void or_bits(u8 *words, u64 word, u32 place, u32 code) {
    lb_store_u32(words + 4 * word, lb_load_u32(words + 4 * word) | code << place);
}

/* The node's part of one unit, a value at a time, by the definitions of the formats. */
static void put_unit(const lb_node *n, const float *x, u64 n_cols, unit u, u8 *out) {
    const lb_quant *q = n->u.encode.quant;
    u32 bits = q->kind == LB_QUANT_PACKED ? q->bits : 8, half = 1u << (bits - 1);
    bool fine = q->kind == LB_QUANT_FINE_F8;
    u32 how = LB_QUANT_HOW(LB_ROUND_NONE, fine ? LB_ROUND_NONE : q->round, bits);
    how |= fine ? LB_QUANT_TIMES : q->kind == LB_QUANT_F8 ? LB_QUANT_FLOAT : 0;
    how |= q->asym ? LB_QUANT_ASYM : 0;
    float p[2];
    unit_params(q, x, n_cols, u, how, p);
    u64 band = q->scope == LB_SCOPE_BLOCK ? q->band : q->scope == LB_SCOPE_TENSOR ? UINT64_MAX : 1;
    u64 group = q->scope == LB_SCOPE_CHANNEL || q->scope == LB_SCOPE_TENSOR ? n_cols : q->group;
    u64 row = u.r0 / band, col = u.c0 / group;
    if (n->u.encode.part == LB_QUANT_SCALES) {
        lb_dtype t = (lb_dtype)n->op;
        u64 counts[2] = {0};
        lb_kernels_encode(&ref, t)(1, out + (row * n->n_cols + col) * lb_dtype_get(t)->block_bytes,
                                   p, counts);
    } else if (n->u.encode.part == LB_QUANT_BIASES && q->kind == LB_QUANT_PACKED) {
        or_bits(out, row * bits / 32 * n->n_cols + col, (u32)(row * bits % 32),
                (u32)((i32)p[1] + (i32)half));
    } else if (n->u.encode.part == LB_QUANT_BIASES) {
        out[row * n->n_cols + col] = (u8)(i8)p[1];
    }
    for (u64 i = u.r0; i < u.r0 + u.nr && n->u.encode.part == LB_QUANT_CODES; i++)
        for (u64 j = u.c0; j < u.c0 + u.nc; j++) {
            u8 code;
            if (fine || q->kind == LB_QUANT_F8)
                ref.quant_f8_e4m3(1, &code, x + i * n_cols + j, p[fine], how);
            else
                ref.quant_i8(1, &code, x + i * n_cols + j, p[0], p[1], how);
            if (q->kind == LB_QUANT_PACKED)
                or_bits(out, i * n->n_cols + j * bits / 32, (u32)(j * bits % 32),
                        (u32)((i8)code + (i32)half));
            else
                out[i * n_cols + j] = code;
        }
}

static void quantize_hf(const lb_node *n, u64 n_rows, u64 n_cols, const float *x, u8 *out) {
    const lb_quant *q = n->u.encode.quant;
    u64 rows = q->scope == LB_SCOPE_TENSOR ? n_rows : q->scope == LB_SCOPE_BLOCK ? q->band : 1;
    bool cut = q->scope == LB_SCOPE_GROUP || q->scope == LB_SCOPE_BLOCK;
    u64 cols = cut ? q->group : n_cols;
    for (u64 i = 0; i < n_rows; i += rows)
        for (u64 j = 0; j < n_cols; j += cols)
            put_unit(n, x, n_cols, (unit){i, LB_MIN(rows, n_rows - i), j, LB_MIN(cols, n_cols - j)},
                     out);
}

/* Row by row, each part into a place of its own; the node's is kept. */
static void quantize(const lb_node *n, u64 n_cols, const float *x, u8 *out) {
    const lb_quant *q = n->u.encode.quant;
    u64 part_bytes[LB_QUANT_PARTS] = {0};
    u8 *part[LB_QUANT_PARTS] = {0};
    for (u32 k = 0; k < lb_quant_n_parts(q); k++) {
        u64 elems = n_cols / lb_quant_cols(q) * lb_quant_part_elems(q, (lb_quant_part)k);
        if (!lb_dtype_bytes(lb_quant_part_dtype(q, (lb_quant_part)k), elems, &part_bytes[k]))
            abort();
        part[k] = malloc(part_bytes[k] + 1);
    }
    for (u64 i = 0; i < n->n_rows; i++) {
        if (lb_quant_run(q, &ref, n_cols, 0, x + i * n_cols, part))
            abort();
        memcpy(out + i * part_bytes[n->u.encode.part], part[n->u.encode.part],
               part_bytes[n->u.encode.part]);
    }
    for (u32 k = 0; k < lb_quant_n_parts(q); k++)
        free(part[k]);
}

u8 *lb_double_bytes(const lb_graph *g, lb_node_id encode, u64 *len) {
    const lb_node *n = lb_graph_node(g, encode);
    lb_dtype t = (lb_dtype)n->op;
    u64 counts[2] = {0}, elems = n->n_rows * n->n_cols;
    if (!ref.map_add_f32) /* a graph without sources */
        lb_kernels_init(&ref, 0);
    if (!lb_dtype_bytes(t, elems, len))
        abort();
    if (lb_graph_node(g, n->in[0])->value == LB_VALUE_STORED)
        return eval_stored(g, n->in[0], lb_dtype_get(t)->block_elems, lb_dtype_get(t)->block_bytes);
    float *x = eval(g, n->in[0]);
    u8 *out = calloc(1, *len + 1);
    if (n->u.encode.bytes) {
        memcpy(out, n->u.encode.bytes, *len);
        free(x);
        return out;
    }
    if (n->u.encode.quant && lb_quant_is_hf(n->u.encode.quant)) {
        const lb_node *in = lb_graph_node(g, n->in[0]);
        quantize_hf(n, in->n_rows, in->n_cols, x, out);
        free(x);
        return out;
    }
    if (n->u.encode.quant) {
        quantize(n, lb_graph_node(g, n->in[0])->n_cols, x, out);
        free(x);
        return out;
    }
    lb_kernels_encode(&ref, t)(elems, out, x, counts);
    free(x);
    return out;
}
