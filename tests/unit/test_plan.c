/* SPDX-License-Identifier: Apache-2.0 */
/* test_plan.c: random expressions through the engine and through the double: bytes equal for every
 * tile size, thread count and budget, and after any interruption; counters equal the plan's
 * figures. */
#include "plan_double.h"
#include "plan_kit.h"
#include "test.h"
#include "base/cpu.h"
#include "base/os.h"
#include "plan/draw.h"
#include "plan/quant.h"
#include "plan/run.h"
#include "plan/sink.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define N_DECL 20
#define N_VECTORS 2 /* decls 12 and 13 */
static lb_double_decl decls[N_DECL];
static lb_double_source src;
static char path[300];
static u32 n_quantized, n_turns, n_joined;

/* Encodings of other tools, where the shape has whole words. */
static void choose_foreign(u32 i, lb_double_decl *d) {
    bool words = d->n_rows % 8 == 0 && d->n_cols % 8 == 0;
    bool long_words = d->n_rows % 32 == 0 && d->n_cols % 32 == 0;
    u32 group = 8u << lb_test_rand_below(4);
    lb_enc gptq = {.kind = LB_ENC_GPTQ, .bits = 4, .group_size = group, .rounded = LB_F16};
    if (i == 14 && words) {
        d->enc = gptq;
        d->enc.less_one = lb_test_rand_below(2);
    } else if (i == 15 && words) {
        d->enc = gptq;
        d->enc.bits = long_words ? 3 : 8;
        d->enc.less_one = lb_test_rand_below(2);
        d->table = true;
    } else if (i == 16 && words) {
        d->enc = gptq;
        d->enc.kind = LB_ENC_AWQ;
    } else if (i == 17 || i == 19) {
        d->enc = (lb_enc){.kind = LB_ENC_BNB_NF4,
                          .bits = 4,
                          .group_size = 32,
                          .nested_size = 32,
                          .nested_offset = 0.25f};
    } else if (i == 18 && d->n_cols % 16 == 0) {
        d->enc = (lb_enc){.kind = LB_ENC_FP4, .bits = 4, .group_size = 16};
    }
}

static void choose_decls(u64 r, u64 c) {
    static const lb_dtype plain[] = {LB_F32, LB_F16, LB_BF16, LB_BF16, LB_Q8_0, LB_Q4_0, LB_Q4_K};
    for (u32 i = 0; i < N_DECL; i++) {
        u64 rows = i % 3 == 1 ? c : r, cols = i % 3 == 1 ? r : c;
        decls[i] =
            (lb_double_decl){.dtype = plain[i % LB_LEN(plain)], .n_rows = rows, .n_cols = cols};
        if (i == 12) /* a vector: one value a column; and one value a row */
            decls[i] = (lb_double_decl){.dtype = LB_F32, .n_rows = 1, .n_cols = c};
        if (i == 13)
            decls[i] = (lb_double_decl){.dtype = LB_BF16, .n_rows = r, .n_cols = 1};
        if (i == 10 && cols % 64 == 0)
            decls[i].enc = (lb_enc){.kind = LB_ENC_MLX_AFFINE, .bits = 3, .group_size = 64};
        choose_foreign(i, &decls[i]);
        if (decls[i].enc.kind == LB_ENC_PLAIN &&
            decls[i].n_cols % lb_dtype_get(decls[i].dtype)->block_elems)
            decls[i].dtype = LB_F16;
    }
}

static lb_node_id any_read(lb_graph *g, u64 rows, u64 cols) {
    for (u32 tries = 0; tries < 100; tries++) {
        u32 i = (u32)lb_test_rand_below(N_DECL);
        if (decls[i].n_rows == rows && decls[i].n_cols == cols)
            return lb_expr_read(g, 0, &src.src->weights[i]);
    }
    return LB_NODE_NONE;
}

static lb_node_id gen(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry);

static const char *product_ratio(const lb_formula *f, const double *dot, u32 n, double *out) {
    out[0] = f->param[0] * dot[lb_gram_at(n - 1, 0)];
    out[1] = dot[0] != 0 ? dot[lb_gram_at(0, n - 1)] / dot[0] : 0;
    return NULL;
}

static const char *norm_ratio(const lb_formula *f, const double *norm, u32 n, double *out) {
    out[0] = f->param[0] * norm[n - 1];
    out[1] = norm[0] != 0 ? norm[n - 1] / norm[0] : 0;
    return NULL;
}

static lb_scalar gen_gram(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    lb_node_id x[LB_GRAM_MAX];
    u32 n = 1 + (u32)lb_test_rand_below(5);
    static const lb_stat_op ops[] = {LB_STAT_GRAM, LB_STAT_GRAM, LB_STAT_NORMS1, LB_STAT_NORMS2};
    lb_stat_op op = ops[lb_test_rand_below(LB_LEN(ops))];
    lb_formula f = {"ratio", op == LB_STAT_GRAM ? product_ratio : norm_ratio, &(double){0.75}, 1,
                    2};
    for (u32 i = 0; i < n; i++)
        x[i] = i && lb_test_rand_below(3) == 0 ? x[i - 1] : gen(g, rows, cols, depth - 1, carry);
    bool plain = lb_test_rand_below(2);
    return (lb_scalar){.stat = lb_expr_norms(g, op, x, n, plain ? NULL : &f),
                       .result = (u32)lb_test_rand_below(plain ? lb_stat_n_wide(op, n) : 2)};
}

static lb_scalar gen_scalar(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    if (depth == 0 || lb_test_rand_below(3))
        return LB_CONST((double)lb_test_normal());
    static const lb_stat_op ops[] = {LB_STAT_SUM, LB_STAT_SUMABS, LB_STAT_DOT, LB_STAT_RANGE,
                                     LB_STAT_KTH};
    if (lb_test_rand_below(4) == 0)
        return gen_gram(g, rows, cols, depth, carry);
    lb_stat_op op = ops[lb_test_rand_below(LB_LEN(ops))];
    lb_node_id a = gen(g, rows, cols, depth - 1, carry);
    lb_node_id b = op == LB_STAT_DOT ? gen(g, rows, cols, depth - 1, carry) : LB_NODE_NONE;
    lb_node_id s = lb_expr_stat(g, op, a, b, 1 + lb_test_rand_below(rows * cols));
    u32 result = op == LB_STAT_RANGE ? (u32)lb_test_rand_below(3)
                 : op == LB_STAT_KTH ? (u32)lb_test_rand_below(2)
                                     : 0;
    lb_scalar_fn fn = (lb_scalar_fn)lb_test_rand_below(3);
    if (op == LB_STAT_RANGE && result == 0 && lb_test_rand_below(2))
        fn = LB_SCALAR_INV_SPAN;
    return (lb_scalar){.stat = s, .result = result, .fn = fn};
}

static lb_node_id gen_runs(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    u64 run = 1 + lb_test_rand_below(rows), step = run + lb_test_rand_below(3);
    u64 from = lb_test_rand_below(4);
    u64 n = from + (rows - 1) / run * step + (rows - 1) % run + 1 + lb_test_rand_below(2);
    return lb_expr_runs(g, gen(g, n, cols, depth - 1, carry), from, run, step, rows);
}

/* Blocks of rows or of columns turned over: (outer, inner) to (inner, outer). */
static lb_node_id gen_strides(lb_graph *g, lb_node_id x, u64 rows, u64 cols) {
    bool by_cols = lb_test_rand_below(2);
    u64 all = by_cols ? cols : rows, run = 1 + lb_test_rand_below(3);
    while (all % run)
        run--;
    u64 blocks = all / run, n = 1 + lb_test_rand_below(6);
    while (blocks % n)
        n--;
    lb_strides s = {0, run, n, blocks / n * run, run};
    return by_cols ? lb_expr_move_cols(g, x, &s) : lb_expr_strides(g, x, &s, rows);
}

/* Rows of up to four inputs. */
static lb_node_id gen_stack(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    lb_node_id x[4];
    u64 n = 1 + lb_test_rand_below(LB_MIN(rows, (u64)LB_LEN(x)));
    for (u64 i = 0; i < n; i++)
        x[i] = gen(g, (i + 1) * rows / n - i * rows / n, cols, depth - 1, carry);
    return lb_expr_stack(g, x, (u32)n);
}

static lb_node_id gen_move(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    lb_node_id x = gen(g, rows, cols, depth - 1, carry);
    u64 table[512];
    switch (lb_test_rand_below(9)) {
    case 0:
        if (rows % 8 == 0)
            return lb_expr_heads(g, x, rows / 8, lb_test_rand_below(2));
        return x;
    case 1:
        for (u64 i = 0; i < rows && rows <= 512; i++)
            table[i] = lb_test_rand_below(rows);
        return rows <= 512 ? lb_expr_gather(g, x, table, rows) : x;
    case 2:
        return lb_expr_transpose(g, gen(g, cols, rows, depth - 1, carry));
    case 3:
        return gen_runs(g, rows, cols, depth, carry);
    case 4:
        return gen_strides(g, x, rows, cols);
    case 5: {
        u64 step = 1 + lb_test_rand_below(3);
        return lb_expr_every(g, gen(g, rows, cols * step, depth - 1, carry),
                             lb_test_rand_below(step), step);
    }
    case 7:
        return gen_stack(g, rows, cols, depth, carry);
    case 6:
        if (cols % 2)
            return x;
        return lb_expr_map2(g, LB_MAP_WEAVE, gen(g, rows, cols / 2, depth - 1, carry),
                            gen(g, rows, cols / 2, depth - 1, carry), LB_CONST(0));
    default:
        return x;
    }
}

static const lb_map_op map1_ops[] = {LB_MAP_ROUND_F16, LB_MAP_ROUND_BF16, LB_MAP_EXP,
                                     LB_MAP_LOG,       LB_MAP_ABS,        LB_MAP_OR_ONE};
static const lb_map_op map2_ops[] = {LB_MAP_ADD, LB_MAP_SUB,   LB_MAP_MUL,
                                     LB_MAP_DIV, LB_MAP_AGREE, LB_MAP_BELOW};
static const lb_map_op mapc_ops[] = {LB_MAP_ADD_C, LB_MAP_MUL_C, LB_MAP_DIV_C,  LB_MAP_RDIV_C,
                                     LB_MAP_MAX_C, LB_MAP_MIN_C, LB_MAP_ABOVE_C};

static lb_node_id gen_map_c(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    return lb_expr_map1(g, mapc_ops[lb_test_rand_below(LB_LEN(mapc_ops))],
                        gen(g, rows, cols, depth - 1, carry),
                        gen_scalar(g, rows, cols, depth, carry));
}

static lb_node_id gen_row_formula(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    lb_node_id x[LB_GRAM_MAX];
    u32 n = 1 + (u32)lb_test_rand_below(5);
    for (u32 i = 0; i < n; i++)
        x[i] = gen(g, rows, cols, depth - 1, carry);
    return lb_expr_row_formula(g, x, n,
                               &(lb_formula){"ratio", product_ratio, &(double){0.25}, 1, 2},
                               (u32)lb_test_rand_below(2));
}

/* Rows of several matrices, or one row for all; sums of columns as such a row. */
static lb_node_id gen_choose(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    lb_node_id x[5];
    float which[512];
    u32 n = 1 + (u32)lb_test_rand_below(4);
    if (rows > LB_LEN(which))
        return gen(g, rows, cols, depth - 1, carry);
    for (u32 i = 0; i < n; i++)
        x[i] = gen(g, rows, cols, depth - 1, carry);
    if (lb_test_rand_below(2)) {
        u64 some = 1 + lb_test_rand_below(2 * rows);
        lb_node_id s =
            lb_expr_stat(g, LB_STAT_COLS, gen(g, some, cols, depth - 1, carry), LB_NODE_NONE, 0);
        x[n++] = lb_expr_results(g, s);
    }
    for (u64 i = 0; i < rows; i++)
        which[i] = (float)lb_test_rand_below(n);
    return lb_expr_choose(g, x, n, which);
}

static lb_node_id gen_row_nm(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    u32 of = 1 + (u32)lb_test_rand_below(40), keep = 1 + (u32)lb_test_rand_below(of);
    lb_node_id x = gen(g, rows, cols, depth - 1, carry), claimed = LB_NODE_NONE;
    if (lb_test_rand_below(2))
        claimed =
            lb_expr_map1(g, LB_MAP_ABOVE_C, gen(g, rows, cols, depth - 1, carry), LB_CONST(0.5));
    return lb_expr_row_nm(g, x, claimed, keep, of);
}

/* Values of the graph's own: one row of several, or one value a row, moved. */
static lb_node_id gen_const(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    static float values[4096];
    bool row = lb_test_rand_below(2) && 3 * cols <= LB_LEN(values);
    lb_node_id k;
    for (u32 i = 0; i < LB_LEN(values); i++)
        values[i] = lb_test_normal();
    if (row)
        k = lb_expr_rows(g, lb_expr_const(g, 3, cols, values), lb_test_rand_below(3), 1, 1);
    else if (rows + 5 <= LB_LEN(values))
        k = lb_expr_rows(g, lb_expr_const(g, rows + 5, 1, values), lb_test_rand_below(6), 1, rows);
    else
        return gen(g, rows, cols, depth - 1, carry);
    return lb_expr_map2(g, LB_MAP_MUL, gen(g, rows, cols, depth - 1, carry), k, LB_CONST(0));
}

static lb_node_id gen_product(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    lb_node_id b = gen(g, rows, cols, depth - 1, carry);
    if (lb_test_rand_below(2)) /* columns of what is stored as rows */
        b = lb_expr_transpose(g, gen(g, cols, rows, depth - 1, carry));
    return lb_expr_product(g, b,
                           lb_test_rand_below(2) ? lb_expr_normal(g, cols, cols, lb_test_rand())
                                                 : gen(g, cols, cols, depth - 1, carry));
}

static lb_node_id gen_draw(lb_graph *g, u64 rows, u64 cols) {
    lb_draw *own = lb_arena_new(g->arena, lb_draw, 1);
    lb_mt19937 m;
    lb_kernels k;
    u64 first = lb_test_rand_below(50), kind = lb_test_rand_below(3);
    if (kind == 2 && own) {
        *own = (lb_draw){.kind = LB_DRAW_NORMAL, .seed = lb_test_rand(), .stream = rows};
        return lb_expr_draw(g, rows, cols, own);
    }
    lb_kernels_init(&k, 0);
    lb_mt19937_init(&m, &k, lb_test_rand());
    return lb_expr_draw(g, rows, cols,
                        lb_draw_torch((lb_draw_kind)kind, first, first + rows * cols + first % 20,
                                      &m, &k, g->arena));
}

static const char *quartiles(const lb_formula *f, const double *value, u32 n, double *out) {
    out[0] = f->param[0] + value[0] - value[n - 1];
    return NULL;
}

/* Rounded, so that many are equal; also of differences, most of them 0. */
static lb_node_id gen_select(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    lb_node_id x = gen(g, rows, cols, depth - 1, carry);
    u64 n = rows * cols, last = 1 + lb_test_rand_below(n), first = lb_test_rand_below(last);
    if (lb_test_rand_below(2))
        x = lb_expr_map1(g, LB_MAP_ROUND_BF16, x, LB_CONST(0));
    if (lb_test_rand_below(4) == 0)
        x = lb_expr_map1(g, LB_MAP_ABOVE_C, x, LB_CONST(0.5));
    lb_formula f = {"quartiles", quartiles, &(double){0.5}, 1, 1};
    u64 rank[3] = {first, first + lb_test_rand_below(last - first + 1), last};
    switch (lb_test_rand_below(5)) {
    case 0:
        x = lb_expr_variance(g, (lb_node_id[]){x, gen(g, rows, cols, depth - 1, carry), x}, 3);
        return lb_expr_keep(g, lb_expr_select_nonzero(g, x, 0.3));
    case 3:
        return lb_expr_keep(g, lb_expr_select_nonzero(g, x, 0.3));
    case 1:
        if (lb_test_rand_below(3) == 0)
            x = lb_expr_row_kl(g, x, gen(g, rows, cols, depth - 1, carry),
                               (u32)lb_test_rand_below(3));
        return lb_expr_keep(g, lb_expr_select(g, x, (u64[]){first, last}, 2, NULL));
    case 2:
        return lb_expr_map1(
            g, LB_MAP_ADD_C, x,
            (lb_scalar){.stat = lb_expr_select(g, x, rank, 3, lb_test_rand_below(2) ? &f : NULL)});
    default:
        return lb_expr_keep(g, lb_expr_select(g, x, &last, 1, NULL));
    }
}

static lb_node_id gen(lb_graph *g, u64 rows, u64 cols, u32 depth, u32 carry) {
    if (depth == 0) {
        lb_node_id r = any_read(g, rows, cols);
        return r == LB_NODE_NONE ? lb_expr_fill(g, rows, cols, 0.5) : lb_expr_decode(g, r);
    }
    switch (lb_test_rand_below(10)) {
    case 9:
        return gen_choose(g, rows, cols, depth, carry);
    case 0:
    case 1:
        return gen_move(g, rows, cols, depth, carry);
    case 2:
        return gen_map_c(g, rows, cols, depth, carry);
    case 3:
        return lb_expr_map2(
            g, map2_ops[lb_test_rand_below(LB_LEN(map2_ops))], gen(g, rows, cols, depth - 1, carry),
            gen(g, lb_test_rand_below(2) ? rows : 1, cols, depth - 1, carry), LB_CONST(0));
    case 4:
        return lb_expr_map2(g, LB_MAP_FMA_C, gen(g, rows, cols, depth - 1, carry),
                            gen(g, rows, lb_test_rand_below(2) ? cols : 1, depth - 1, carry),
                            gen_scalar(g, rows, cols, depth, carry));
    case 5:
        if (lb_test_rand_below(3) == 0)
            return gen_row_formula(g, rows, cols, depth, carry);
        if (lb_test_rand_below(4) == 0)
            return gen_row_nm(g, rows, cols, depth, carry);
        if (lb_test_rand_below(3) == 0 && cols > 1)
            return lb_expr_row_odds(
                g, gen(g, rows, cols, depth - 1, carry),
                &(lb_odds){.density = 0.4, .epsilon = 0.17, .bf16 = lb_test_rand_below(2) != 0});
        return lb_expr_row(g, (lb_row_op)lb_test_rand_below(LB_ROW_MOVE),
                           gen(g, rows, cols, depth - 1, carry));
    case 6:
        if (rows < 8 || cols < 8)
            return gen(g, rows, cols, depth - 1, carry);
        return lb_expr_lowrank(
            g, gen(g, rows, cols, depth - 1, carry),
            lb_expr_cols(g, gen(g, rows, cols, depth - 1, carry), lb_test_rand_below(cols - 2), 3),
            lb_expr_rows(g, gen(g, rows, cols, depth - 1, carry), 0, 1 + (rows > 6), 3), 0.25f);
    case 7:
        if (rows == cols)
            return lb_expr_dense(g, LB_DENSE_GRAM, gen(g, rows, cols, depth - 1, carry),
                                 LB_NODE_NONE, 0);
        if (lb_test_rand_below(2))
            return gen_product(g, rows, cols, depth, carry);
        return lb_expr_map1(g, map1_ops[lb_test_rand_below(LB_LEN(map1_ops))],
                            gen(g, rows, cols, depth - 1, carry), LB_CONST(0));
    default:
        if (lb_test_rand_below(3) == 0)
            return gen_select(g, rows, cols, depth, carry);
        if (lb_test_rand_below(3) == 0)
            return gen_const(g, rows, cols, depth, carry);
        if (lb_test_rand_below(3) == 0)
            return lb_expr_map2(g, LB_MAP_MUL,
                                lb_test_rand_below(2) ? lb_expr_bernoulli(g, rows, cols, 0.7, carry)
                                                      : lb_expr_uniform(g, rows, cols, carry),
                                gen(g, rows, cols, depth - 1, carry), LB_CONST(0));
        if (lb_test_rand_below(3) == 0)
            return gen_draw(g, rows, cols);
        return gen(g, rows, cols, depth - 1, carry);
    }
}

/* Runs the plan into a file and compares every stream with the double. */
typedef struct expected {
    u8 *bytes;
    u64 len;
} expected;

/* A tensor cut into slices, a job each (sometimes one is left out, or out of order): its hash goes
 * on from one to the next. */
static void add_slices(lb_plan *p, u32 file, u64 *at) {
    u64 which = lb_test_rand_below(N_DECL - N_VECTORS);
    const lb_weight *w = &src.src->weights[which < 12 ? which : which + N_VECTORS];
    lb_dtype t = src.src->tensors[w->part[0]].dtype;
    u64 rows, cols, n = 1 + lb_test_rand_below(5), odd = lb_test_rand_below(8);
    lb_shape_matrix(&w->shape, &rows, &cols);
    for (u64 i = 0; i < n; i++) {
        u64 k = odd == 0 ? n - 1 - i : i, from = k * rows / n, to = (k + 1) * rows / n;
        lb_node_id x = lb_expr_read(&p->graph, 0, w);
        bool copy = w->enc.kind == LB_ENC_PLAIN && lb_test_rand_below(2);
        lb_stream st = {.file = file, .off_bytes = *at, .dtype = copy ? t : LB_F32};
        if (odd == 1 && i == n / 2)
            continue;
        x = lb_expr_rows(&p->graph, x, from, 1, to - from);
        x = lb_expr_encode(&p->graph, copy ? x : lb_expr_decode(&p->graph, x), st.dtype);
        st.name = LB_STR("slice");
        st.shape = &(lb_shape){2, {to - from, cols}};
        if (!lb_dtype_bytes(st.dtype, (to - from) * cols, &st.size_bytes))
            abort();
        *at += st.size_bytes;
        lb_plan_output(p, &st, x);
    }
}

/* Jobs that take turns with the rows of one matrix, slice by slice; now and then one is missing. */
static void add_turns(lb_plan *p, u32 file, u64 *at) {
    u64 which = lb_test_rand_below(N_DECL - N_VECTORS), rows, cols;
    const lb_weight *w = &src.src->weights[which < 12 ? which : which + N_VECTORS];
    lb_dtype stored = src.src->tensors[w->part[0]].dtype;
    u64 step = 2 + lb_test_rand_below(2), n_slices = 1 + lb_test_rand_below(3);
    lb_shape_matrix(&w->shape, &rows, &cols);
    u64 n = rows / (step * n_slices);
    for (u64 i = 0; n && i < n_slices * step; i++) {
        lb_stream st[2];
        lb_shape shape = {2, {n, cols}};
        lb_node_id root[2];
        u32 n_streams = 1 + (u32)lb_test_rand_below(2);
        if (lb_test_rand_below(12) == 0)
            continue;
        for (u32 k = 0; k < n_streams; k++) {
            bool copy = w->enc.kind == LB_ENC_PLAIN && lb_test_rand_below(2);
            lb_node_id x = lb_expr_read(&p->graph, 0, w);
            st[k] = (lb_stream){.file = file,
                                .off_bytes = *at,
                                .dtype = copy ? stored : LB_F32,
                                .name = LB_STR("turn"),
                                .shape = &shape};
            x = lb_expr_rows(&p->graph, x, i / step * n * step + i % step, step, n);
            root[k] =
                lb_expr_encode(&p->graph, copy ? x : lb_expr_decode(&p->graph, x), st[k].dtype);
            if (!lb_dtype_bytes(st[k].dtype, n * cols, &st[k].size_bytes))
                abort();
            *at += st[k].size_bytes;
        }
        if (lb_plan_job(p, LB_STR("turn"), st, n_streams))
            lb_plan_segment(p, root);
        n_turns++;
    }
}

/* The largest |x|; infinite where one value is not a number. */
static float largest(const lb_graph *g, lb_node_id x, u64 n) {
    u64 len;
    float range[2] = {0, 0};
    lb_kernels k;
    lb_kernels_init(&k, 0);
    float *v = (float *)(void *)lb_double_bytes(g, lb_expr_encode((lb_graph *)g, x, LB_F32), &len);
    u64 n_bad = k.fold_range_f32(n, v, range);
    free(v);
    return n_bad ? INFINITY : fmaxf(fabsf(range[0]), fabsf(range[1]));
}

static void choose_hf(lb_quant *q) {
    static const u32 sides[] = {8, 24, 32, 128};
    bool packed = q->kind == LB_QUANT_PACKED;
    q->bits = lb_test_rand_below(2) ? 4 : 8;
    q->scope = packed ? (lb_quant_scope)lb_test_rand_below(2)
                      : (lb_quant_scope)(1 + lb_test_rand_below(3));
    q->band = sides[lb_test_rand_below(LB_LEN(sides))];
    if (q->scope == LB_SCOPE_BLOCK)
        q->group = sides[lb_test_rand_below(LB_LEN(sides))];
    q->asym = (packed || q->kind == LB_QUANT_I8) && lb_test_rand_below(2);
}

/* A job that quantizes: codes, scales, biases, and sometimes the values beside them. */
static void add_quant(lb_plan *p, u32 file, u64 *at, u64 rows, u64 cols) {
    static const lb_dtype blocks[] = {LB_Q8_0, LB_Q4_0, LB_Q5_1, LB_IQ4_NL, LB_Q4_K, LB_Q6_K};
    static lb_quant quants[64];
    static float importance[2048];
    static u32 n_quants;
    lb_graph *g = &p->graph;
    lb_quant *q = &quants[n_quants++ % LB_LEN(quants)];
    lb_node_id raw = any_read(g, rows, cols), root[LB_QUANT_PARTS + 1];
    lb_stream st[LB_QUANT_PARTS + 1];
    lb_shape shape[LB_QUANT_PARTS + 1];
    static const u32 bits[] = {1, 2, 3, 4, 5, 6, 8};
    *q = (lb_quant){.kind = (lb_quant_kind)lb_test_rand_below(9),
                    .dtype = blocks[lb_test_rand_below(LB_LEN(blocks))],
                    .bits = bits[lb_test_rand_below(LB_LEN(bits))],
                    .group = 32u << lb_test_rand_below(3),
                    .round = (lb_round)lb_test_rand_below(3),
                    .cpu_rule = lb_test_rand_below(2)};
    q->refine = !lb_quant_is_hf(q) && lb_test_rand_below(4) == 0;
    if (lb_quant_is_hf(q))
        choose_hf(q);
    for (u64 i = 0; i < LB_LEN(importance); i++)
        importance[i] = 1 + (float)(i * 7 % 13);
    if (lb_test_rand_below(2) && cols <= LB_LEN(importance))
        q->importance = importance;
    if (raw == LB_NODE_NONE || cols % lb_quant_cols(q))
        return;
    lb_node_id x = lb_expr_decode(g, raw);
    if (rows % 8 == 0 && lb_test_rand_below(2))
        x = lb_expr_heads(g, x, rows / 8, false);
    if (lb_test_rand_below(2))
        x = lb_expr_map1(g, LB_MAP_MUL_C, x, LB_CONST(0.5));
    float top = largest(g, x, rows * cols);
    if (top > 1e4f) /* scales of f16 could become infinite */
        q->round = LB_ROUND_NONE;
    if (top > (q->kind == LB_QUANT_NVFP4 ? 448 * 6 : 1e30f)) /* there is no scale for it */
        return;
    u32 n = lb_quant_n_parts(q);
    for (u32 k = 0; k < n; k++)
        root[k] = lb_expr_quant(g, x, q, (lb_quant_part)k);
    if (lb_test_rand_below(3) == 0)
        root[n++] = lb_expr_encode(g, x, LB_BF16);
    for (u32 k = 0; k < n; k++) {
        const lb_node *e = lb_graph_node(g, root[k]);
        shape[k] = (lb_shape){2, {e->n_rows, e->n_cols}};
        st[k] = (lb_stream){.file = file,
                            .off_bytes = *at,
                            .dtype = (lb_dtype)e->op,
                            .name = LB_STR("codes"),
                            .shape = &shape[k]};
        if (!lb_dtype_bytes(st[k].dtype, e->n_rows * e->n_cols, &st[k].size_bytes))
            abort();
        *at += st[k].size_bytes + lb_test_rand_below(5);
    }
    n_quantized++;
    if (lb_plan_job(p, LB_STR("codes"), st, n))
        lb_plan_segment(p, root);
}

static void build_plan(lb_plan **out, u64 seed, u32 n_jobs, u64 r, u64 c, lb_status *st,
                       lb_err *err) {
    (void)seed;
    const lb_source *s = src.src;
    *st = lb_plan_new(out, &s, 1, err);
    if (*st != LB_OK)
        return;
    lb_plan *p = *out;
    u32 carry = lb_expr_carry(&p->graph, 7);
    u64 at = 0;
    u32 file = lb_plan_file(p, LB_STR(""), 0);
    for (u32 i = 0; i < n_jobs; i++) {
        static const lb_dtype types[] = {LB_F32, LB_F16, LB_BF16};
        u64 rows = lb_test_rand_below(3) ? r : c, cols = rows == r ? c : r;
        lb_stream st1[2];
        lb_shape shape = {2, {rows, cols}};
        lb_node_id root[2];
        u32 n = 1 + (u32)lb_test_rand_below(2);
        for (u32 k = 0; k < n; k++) {
            lb_dtype t = types[lb_test_rand_below(3)];
            lb_node_id x = gen(&p->graph, rows, cols, (u32)lb_test_rand_below(4), carry);
            lb_node_id raw = any_read(&p->graph, rows, cols);
            if (lb_test_rand_below(4) == 0 &&
                raw != LB_NODE_NONE) { /* stored bytes, maybe permuted */
                const lb_weight *w = lb_graph_node(&p->graph, raw)->u.read.weight;
                if (w->enc.kind == LB_ENC_PLAIN) {
                    t = src.src->tensors[w->part[0]].dtype;
                    x = rows % 8 == 0 && lb_test_rand_below(2)
                            ? lb_expr_heads(&p->graph, raw, rows / 8, false)
                            : raw;
                }
            }
            root[k] = lb_expr_encode(&p->graph, x, t);
            st1[k] = (lb_stream){
                .file = file, .off_bytes = at, .dtype = t, .name = LB_STR("out"), .shape = &shape};
            if (!lb_dtype_bytes(t, rows * cols, &st1[k].size_bytes))
                abort();
            at += st1[k].size_bytes + lb_test_rand_below(5);
        }
        if (lb_plan_job(p, LB_STR("out"), st1, n))
            lb_plan_segment(p, root);
        if (lb_test_rand_below(3) == 0)
            add_slices(p, file, &at);
        if (lb_test_rand_below(3) == 0)
            add_quant(p, file, &at, rows, cols);
        if (lb_test_rand_below(3) == 0)
            add_turns(p, file, &at);
    }
    p->files[0].size_bytes = at;
    *st = lb_graph_status(&p->graph, err);
}

static bool compare(const lb_plan *p, const char *file, const expected *want, char *why,
                    size_t n_why) {
    FILE *f = fopen(file, "rb");
    u32 at = 0;
    bool ok = f != NULL;
    for (u64 j = 0; j < p->n_jobs && ok; j++)
        for (u32 k = 0; k < p->jobs[j].n_streams && ok; k++, at++) {
            const lb_stream *s = &p->jobs[j].streams[k];
            u8 *got = malloc(s->size_bytes + 1);
            ok = fseek(f, (long)s->off_bytes, SEEK_SET) == 0 &&
                 fread(got, 1, s->size_bytes, f) == s->size_bytes &&
                 s->size_bytes == want[at].len && memcmp(got, want[at].bytes, want[at].len) == 0 &&
                 lb_hash_eq(s->hash, lb_xxh128(want[at].bytes, want[at].len));
            if (!ok) {
                lb_buf b = {0};
                lb_plan_print_job(p, &p->jobs[j], &b);
                snprintf(why, n_why, "stream %u of job %llu: %.*s", k, (unsigned long long)j,
                         LB_FMT(lb_buf_str(&b)));
                lb_buf_deinit(&b);
            }
            free(got);
        }
    if (f)
        fclose(f);
    return ok;
}

static lb_status run_once(lb_plan *p, const lb_plan_limits *lim, const char *out,
                          lb_run_report *rep, lb_err *err) {
    lb_kernels k;
    lb_sink *sink = NULL;
    lb_kernels_init(&k, lb_cpu_isa());
    LB_TRY(lb_plan_close(p, lim, err));
    LB_TRY(lb_sink_open(&sink, p, &(lb_sink_options){.path = out, .force = true}, err));
    lb_status st = lb_run(p, &(lb_run_options){.kernels = &k, .sink = sink}, rep, err);
    if (st == LB_OK)
        st = lb_sink_finish(sink, &(lb_sink_ending){.heads = &(lb_sink_head){.bytes = LB_STR("")}},
                            err);
    lb_sink_close(&sink, NULL);
    return st;
}

static u32 n_compared, n_left_out, n_spilled, n_interrupted, n_parts, n_chained;

/* ---- interrupted and resumed ---- */

/* Random numbers of their own: how often a run is cut off depends on the machine's mood, and the
 * graphs that follow must not. */
static u64 cut_state;
static u64 cut_below(u64 n) {
    cut_state = cut_state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
    return (cut_state >> 33) % n;
}

static bool stop_after(void *left) {
    u32 *n = left;
    return *n == 0 || --*n == 0;
}

static u64 sum_counts(const lb_plan *p) {
    u64 sum = 0;
    for (u64 j = 0; j < p->n_jobs; j++)
        for (u32 k = 0; k < p->jobs[j].n_streams; k++)
            sum =
                31 * sum + 7 * p->jobs[j].streams[k].n_rounded + p->jobs[j].streams[k].n_overflowed;
    return sum;
}

static lb_status run_some(lb_plan *p, const char *out, u32 polls, lb_err *err) {
    static const u64 tiles[] = {1, 300, 4096, 100000};
    lb_kernels k;
    lb_sink *sink = NULL;
    lb_plan_limits lim = {.memory_bytes = LB_GIB,
                          .threads = 1 + (u32)cut_below(4),
                          .tile_bytes = tiles[cut_below(LB_LEN(tiles))],
                          .hold_max_bytes = cut_below(2) ? 1 : 0,
                          .select_max = cut_below(2) ? 40 : 0};
    lb_sink_options so = {.path = out,
                          .resume = true,
                          .force = true,
                          .sync = cut_below(4) == 0,
                          .sync_bytes = 1000,
                          .span_bytes = 1 + cut_below(3000)};
    lb_kernels_init(&k, lb_cpu_isa());
    for (u64 t = 0; t < src.src->n_tensors; t++)
        p->src[0].used[t] = 0;
    LB_TRY(lb_plan_close(p, &lim, err));
    LB_TRY(lb_sink_open(&sink, p, &so, err));
    for (u64 j = 0; j < p->n_jobs; j++)
        n_parts += lb_sink_kept_part(sink, j) != NULL;
    lb_status st = lb_run(
        p, &(lb_run_options){.kernels = &k, .sink = sink, .stop = stop_after, .user = &polls}, NULL,
        err);
    if (st == LB_OK)
        st = lb_sink_finish(sink, &(lb_sink_ending){.heads = &(lb_sink_head){.bytes = LB_STR("")}},
                            err);
    lb_sink_close(&sink, NULL);
    return st;
}

/* Cut off again and again, each time with other tiles and threads: the same bytes, digests and
 * counts. */
static bool resumed(lb_plan *p, const char *out, lb_err *err) {
    (void)remove(out);
    for (u32 i = 0; i < 1000; i++) {
        *err = (lb_err){0};
        lb_status st = run_some(p, out, 1 + (u32)cut_below(8) + i / 4 * 3, err);
        if (st == LB_OK)
            return true;
        if (st != LB_E_INTERRUPTED)
            return false;
        n_interrupted++;
    }
    return false;
}

/* The hash of every tensor that was used, whichever way it was taken. */
static bool hashes_right(const lb_plan *p) {
    for (u64 t = 0; t < src.src->n_tensors; t++) {
        const lb_tensor *x = &src.src->tensors[t];
        if ((p->src[0].used[t] & LB_USED) &&
            !lb_hash_eq(p->src[0].tensor_hash[t],
                        lb_xxh128(src.bytes + x->off_bytes, x->size_bytes)))
            return false;
    }
    return true;
}

/* How much selections collect: what there is, or so little that they take samples and histograms.
 */
static u64 some_max(void) {
    static const u64 most[] = {0, 1, 7, 100, 600, 3000};
    return most[lb_test_rand_below(LB_LEN(most))];
}

/* Enough has been cut off, and gone on with in the middle of a job, for so many cases. */
static bool cut_enough(u64 cases) {
    return n_interrupted * 8 > cases && n_parts * 8 > cases;
}

/* Rows that are longer than the second size are tiles of one by it, too. */
static u32 first_tile(bool longer) {
    const u32 first = longer && lb_test_stride(2) > 1;
    n_left_out += first;
    return first;
}

static void one_case(u64 seed, u64 cases, const u64 shape[2], u32 n_jobs) {
    u64 r = shape[0], c = shape[1];
    static const u64 tiles[] = {1, 300, 4096, 100000, 0};
    char out[320], why[2000] = "";
    lb_err err = {0};
    expected want[256] = {0};
    snprintf(path, sizeof path, "%s/src.bin", lb_test_dir());
    snprintf(out, sizeof out, "%s/out.bin", lb_test_dir());
    choose_decls(r, c);
    CHECK(lb_double_open(&src, decls, N_DECL, path));
    lb_plan *p = NULL;
    lb_status st;
    build_plan(&p, seed, n_jobs, r, c, &st, &err);
    CHECK_OK(st);
    u32 n = 0;
    u64 before = p->n_jobs;
    CHECK_OK(lb_plan_join(p, &err));
    n_joined += (u32)(before - p->n_jobs);
    for (u64 j = 0; j < p->n_jobs; j++)
        for (u32 k = 0; k < p->jobs[j].n_streams; k++, n++)
            want[n].bytes =
                lb_double_bytes(&p->graph, p->jobs[j].segments[0].root[k], &want[n].len);
    p->want_digests = true;
    lb_hash128 digest = {0};
    bool begun = false;
    for (u32 i = first_tile(c * sizeof(float) > tiles[1]); i < LB_LEN(tiles); i++, begun = true) {
        lb_run_report rep = {0};
        lb_plan_limits lim = {.memory_bytes = LB_GIB,
                              .threads = 1 + (u32)lb_test_rand_below(7),
                              .tile_bytes = tiles[i],
                              .hold_max_bytes = lb_test_rand_below(2) ? 1 : 0,
                              .select_max = some_max()};
        memset(&err, 0, sizeof err);
        for (u64 t = 0; t < src.src->n_tensors; t++)
            p->src[0].used[t] = 0;
        CHECK_OK(st = run_once(p, &lim, out, &rep, &err));
        if (!compare(p, out, want, why, sizeof why)) {
            lb_test_fail(__FILE__, __LINE__,
                         "case %llu (%llu x %llu), tiles of %llu, %u threads: %s",
                         (unsigned long long)seed, (unsigned long long)r, (unsigned long long)c,
                         (unsigned long long)tiles[i], lim.threads, why);
            break;
        }
        CHECK_U64(rep.bytes_read, p->read_bytes);
        CHECK_U64(rep.bytes_written, p->write_bytes);
        CHECK_U64(rep.pool.outstanding, 0);
        CHECK(!begun || lb_hash_eq(digest, p->src[0].digest));
        digest = p->src[0].digest;
        CHECK(hashes_right(p));
        for (u64 t = 0; t < src.src->n_tensors; t++)
            n_chained += (p->src[0].used[t] & LB_USED_CHAINED) != 0;
        n_compared++;
        n_spilled += p->spill_bytes > 0;
    }
    /* One of four where that is slow, under sanitizers and emulators: more of them until it is
     * enough. */
    if (st == LB_OK && (!lb_kit_slow() || seed % 4 == 0 || !cut_enough(cases))) {
        u64 counts = sum_counts(p);
        bool ok =
            resumed(p, out, &err) && compare(p, out, want, why, sizeof why) && hashes_right(p);
        if (!ok || !lb_hash_eq(digest, p->src[0].digest) || counts != sum_counts(p))
            lb_test_fail(__FILE__, __LINE__, "case %llu (%llu x %llu), resumed: %s %s",
                         (unsigned long long)seed, (unsigned long long)r, (unsigned long long)c,
                         err.msg, ok ? "counts or digests" : why);
    }
    for (u32 i = 0; i < n; i++)
        free(want[i].bytes);
    lb_plan_free(&p);
    lb_double_close(&src);
}

LB_TEST(random_graphs) {
    static const u64 shape[][2] = {{8, 64},   {16, 256}, {64, 64},  {13, 33},
                                   {256, 40}, {32, 512}, {260, 130}};
    u64 cases = lb_test_cases(90);
    for (u64 i = 0; i < cases; i++) {
        one_case(i, cases, shape[i % LB_LEN(shape)], 1 + (u32)lb_test_rand_below(4));
    }
    fprintf(
        stderr,
        "compared %u runs, %u with a spill file; %u interruptions, %u jobs gone on with in their "
        "middle; %u of %u jobs joined\n",
        n_compared, n_spilled, n_interrupted, n_parts, n_joined, n_turns);
    CHECK_U64(n_compared + n_left_out, cases * 5);
    CHECK(n_quantized * 8 > cases && n_joined * 4 > n_turns);
    CHECK(n_spilled > 0 && cut_enough(cases) && n_chained > cases);
}

/* An exact selection reads its pass in rounds: its masks are the same in each. */
LB_TEST(selection_of_masked_values) {
    static const u64 tiles[] = {1, 300, 4096, 0};
    char out[320], why[2000] = "";
    lb_err err = {0};
    lb_plan *p = NULL;
    const u64 rows = 64, cols = 96;
    snprintf(path, sizeof path, "%s/src.bin", lb_test_dir());
    snprintf(out, sizeof out, "%s/out.bin", lb_test_dir());
    choose_decls(rows, cols);
    CHECK(lb_double_open(&src, decls, N_DECL, path));
    const lb_source *one = src.src;
    CHECK_OK(lb_plan_new(&p, &one, 1, &err));
    lb_graph *g = &p->graph;
    u32 carry = lb_expr_carry(g, 7);
    lb_node_id x = lb_expr_decode(g, lb_expr_read(g, 0, &one->weights[0]));
    lb_node_id masked =
        lb_expr_map2(g, LB_MAP_MUL, lb_expr_bernoulli(g, rows, cols, 0.7, carry), x, LB_CONST(0));
    lb_node_id kth = lb_expr_stat(g, LB_STAT_KTH, masked, LB_NODE_NONE, rows * cols / 3);
    lb_node_id root =
        lb_expr_encode(g, lb_expr_map1(g, LB_MAP_MUL_C, x, (lb_scalar){.stat = kth}), LB_F32);
    const lb_shape shape = {2, {rows, cols}};
    lb_stream st = {.name = LB_STR("out"),
                    .dtype = LB_F32,
                    .shape = &shape,
                    .size_bytes = rows * cols * sizeof(float)};
    (void)lb_plan_file(p, LB_STR(""), st.size_bytes);
    lb_plan_output(p, &st, root);
    expected want = {0};
    want.bytes = lb_double_bytes(g, root, &want.len);
    for (u32 i = 0; i < LB_LEN(tiles); i++) {
        lb_plan_limits lim = {.memory_bytes = LB_GIB, .threads = 1 + i % 3, .tile_bytes = tiles[i]};
        CHECK_OK(run_once(p, &lim, out, NULL, &err));
        if (!compare(p, out, &want, why, sizeof why))
            lb_test_fail(__FILE__, __LINE__, "tiles of %llu: %s", (unsigned long long)tiles[i],
                         why);
    }
    free(want.bytes);
    lb_plan_free(&p);
    lb_double_close(&src);
}

LB_TEST_MAIN("slow")
