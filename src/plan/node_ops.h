/* SPDX-License-Identifier: Apache-2.0 */
/* node_ops.h: the kinds of nodes and the operations of each: what expr.h builds. */
#ifndef LB_PLAN_NODE_OPS_H
#define LB_PLAN_NODE_OPS_H

#include "base/base.h"

typedef u32 lb_node_id;
#define LB_NODE_NONE UINT32_MAX

typedef enum lb_node_kind {
#define LB_NODE(id, name) LB_NODE_##id,
#include "plan/node.def"
#undef LB_NODE
    LB_NODE_KIND_COUNT
} lb_node_kind;

typedef enum lb_value { LB_VALUE_STORED, LB_VALUE_F32, LB_VALUE_SMALL, LB_VALUE_BYTES } lb_value;

/* index: only moves. Row moves say for each row of the result which row of the input it is. */
typedef enum lb_index_op {
    LB_INDEX_ROWS,      /* result row i = input row from + i * step */
    LB_INDEX_HEADS,     /* within each band of 2*half rows: row 2*j+k = input row k*half+j (pairs
                           interleaved) */
    LB_INDEX_UNHEADS,   /* the inverse: row k*half+j = input row 2*j+k */
    LB_INDEX_GATHER,    /* result row i = input row table[i] */
    LB_INDEX_RUNS,      /* result row i = input row from + i / run * step + i % run (half: run) */
    LB_INDEX_STRIDES,   /* result row i = input row lb_strides_at(i) */
    LB_INDEX_TRANSPOSE, /* result[i][j] = input[j][i] */
    LB_INDEX_COLS,      /* result column j = input column from + j */
    LB_INDEX_EVERY,     /* result column j = input column from + j * step; of values only */
    LB_INDEX_STACK      /* rows of several inputs, one input after the other; of values only. It is
                           computed before what needs it, and held */
} lb_index_op;

/* Runs of neighbours in two nested loops: parts of groups, and orders of heads turned over. */
typedef struct lb_strides {
    u64 from, run; /* length of a run */
    u64 n, step;   /* runs of the inner loop, from one to the next */
    u64 jump;      /* of the outer loop */
} lb_strides;
static inline u64 lb_strides_at(const lb_strides *s, u64 i) {
    u64 q = i / s->run;
    return s->from + q % s->n * s->step + q / s->n * s->jump + i % s->run;
}

/* make: values that no file holds. */
typedef enum lb_make_op {
    LB_MAKE_CONST,   /* the caller's f32 values, copied into the graph */
    LB_MAKE_FILL,    /* one value everywhere */
    LB_MAKE_RESULTS, /* a row of the results of a stat: its input */
    /* Random: one number an element, row-major, of a stream (kernel/mt19937.h). */
    LB_MAKE_BERNOULLI, /* 1 where it is below p as f32, else 0 */
    LB_MAKE_UNIFORM    /* the number, in [0, 1) */
} lb_make_op;

/* map: element by element. Inputs of n_rows 1 are one value per column, of n_cols 1 one per row. */
typedef enum lb_map_op {
    LB_MAP_ADD,        /* a + b */
    LB_MAP_SUB,        /* a - b */
    LB_MAP_MUL,        /* a * b */
    LB_MAP_ADD_C,      /* a + c */
    LB_MAP_MUL_C,      /* a * c */
    LB_MAP_DIV_C,      /* a / c */
    LB_MAP_FMA_C,      /* fma(a, c, b) */
    LB_MAP_ROUND_F16,  /* through f16 and back */
    LB_MAP_ROUND_BF16, /* through bf16 and back */
    LB_MAP_EXP,        /* exp(a), correctly rounded */
    LB_MAP_LOG,        /* log(a), correctly rounded */
    LB_MAP_WEAVE,      /* twice the columns: a's and b's in turn */
    LB_MAP_DIV,        /* a / b */
    LB_MAP_RDIV_C,     /* c / a */
    LB_MAP_MAX_C,      /* the greater of a and c; NaN stays NaN */
    LB_MAP_MIN_C,      /* the smaller */
    LB_MAP_ABOVE_C,    /* 1 where |a| > c, else 0 */
    LB_MAP_ABS,        /* |a| */
    LB_MAP_OR_ONE,     /* a; 1 where a is 0 */
    LB_MAP_AGREE,  /* 1 where a has the sign of b (that of 0 is +), else 0: never where a is 0 */
    LB_MAP_BELOW,  /* 1 where a < b, else 0 */
    LB_MAP_CHOOSE, /* of many: in each row the values of the input that a number names */
    LB_MAP_OP_COUNT
} lb_map_op;

/* Whether it takes a number beside its inputs. */
bool lb_map_has_number(lb_map_op op);

/* row: needs whole rows. */
typedef enum lb_row_op {
    LB_ROW_L2,      /* x / sqrt(sum x^2); rows of zeros stay zero */
    LB_ROW_MEAN,    /* x - mean(x) */
    LB_ROW_MOVE,    /* column j = column lb_strides_at(j) */
    LB_ROW_FORMULA, /* in all columns a number made of all dot products of the inputs' rows */
    LB_ROW_NM,      /* 1 where x is among the n of m neighbours that are kept: kernel/select_nm.h */
    LB_ROW_OP_COUNT
} lb_row_op;

/* stat: a whole matrix to a few doubles; ends a pass. */
typedef enum lb_stat_op {
    LB_STAT_SUM,    /* [sum] */
    LB_STAT_SUMABS, /* [sum |x|] */
    LB_STAT_DOT,    /* [sum a*b]; one input twice: the square of the norm */
    LB_STAT_RANGE,  /* [min, max, count of values that are NaN or infinite] */
    LB_STAT_KTH,    /* [the k-th largest |x| (k from 1), number above it]; exact; several passes */
    LB_STAT_ERROR,  /* what quantizers lose, into the node's lb_measure: plan/measure.h */
    LB_STAT_COLS,   /* the sum of each column: blocks of LB_COLS_BLOCK rows, added in their order */
    LB_STAT_COMPARE, /* how two inputs differ, into the node's lb_compare: plan/compare.h */
    LB_STAT_GRAM,    /* all dot products of its inputs, and what its formula makes of them */
    LB_STAT_NORMS1,  /* sum |x| of each input, likewise */
    LB_STAT_NORMS2,  /* sum x^2 of each input, likewise */
    LB_STAT_OP_COUNT
} lb_stat_op;
#define LB_STAT_RESULTS 4 /* of all that take no formula, but COLS */
#define LB_COLS_BLOCK 64
/* Whether it takes any number of inputs, and a formula. */
static inline bool lb_stat_is_wide(u32 op) {
    return op == LB_STAT_GRAM || op == LB_STAT_NORMS1 || op == LB_STAT_NORMS2;
}

#define LB_GRAM_MAX 16 /* inputs */
#define LB_GRAM_RESULTS 64
/* Where the product of inputs i and j stands among those of a GRAM. */
static inline u32 lb_gram_at(u32 i, u32 j) {
    return i >= j ? i * (i + 1) / 2 + j : j * (j + 1) / 2 + i;
}

/* Numbers of a wide stat of n inputs. */
static inline u32 lb_stat_n_wide(u32 op, u32 n) {
    return op == LB_STAT_GRAM ? n * (n + 1) / 2 : n;
}

/* From the dot products of n inputs (or their norms) to a few numbers: once a tensor, in double.
 * run returns NULL, or why there are none. */
typedef struct lb_formula {
    const char *name;
    const char *(*run)(const struct lb_formula *f, const double *dot, u32 n, double *out);
    const double *param; /* [n_params] of the graph's arena */
    u32 n_params, n_out;
} lb_formula;

/* dense: factorisation of a small matrix held whole. */
typedef enum lb_dense_op {
    LB_DENSE_GRAM, /* X [n, m] -> X X^T [n, n]; declares n*m + n*n f32 */
    LB_DENSE_OP_COUNT
} lb_dense_op;

#endif
