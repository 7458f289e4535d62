/* SPDX-License-Identifier: Apache-2.0 */
/* method.h: merge methods: from the inputs of one tensor to the expression of the result.
 *
 * A method is a row of the table: its parameters with their defaults, what inputs it takes, and a
 * builder. Builders make nodes; no data is read here. Names, parameters, defaults and arithmetic
 * are those of mergekit 0.1.5 (registry.py, merge_methods/), unless docs/merging.md says otherwise.
 *
 * Two roundings. LB_MERGE_F32: values and sums in f32, the result is rounded once by the output's
 * type. LB_MERGE_MERGEKIT: every step is rounded as torch does it in the work type. */
#ifndef LB_MERGE_METHOD_H
#define LB_MERGE_METHOD_H

#include "base/base.h"
#include "base/mem.h"
#include "plan/terms.h"
#include "tensor/dtype.h"

typedef enum lb_merge_scope {
    LB_MERGE_SHARED,  /* one value for a tensor */
    LB_MERGE_INPUT,   /* one an input */
    LB_MERGE_NON_BASE /* one an input that is not the base */
} lb_merge_scope;

typedef enum lb_merge_kind {
    LB_MERGE_FLOAT,
    LB_MERGE_INT,
    LB_MERGE_BOOL,
    LB_MERGE_FILE, /* a path; its value is an index into lb_merge_outline.files */
    LB_MERGE_WORD  /* one of `words`; its value is an index into them */
} lb_merge_kind;

typedef struct lb_merge_param {
    const char *name;
    lb_merge_scope scope;
    lb_merge_kind kind;
    bool required;
    double initial;           /* where it is not given; bools: 0, 1; NaN: none */
    double min, max;          /* refused outside; both 0: any */
    const char *const *words; /* NULL behind the last */
} lb_merge_param;
#define LB_MERGE_PARAMS_MAX 12

typedef enum lb_merge_base {
    LB_BASE_IGNORED, /* one input like the others */
    LB_BASE_OPTIONAL,
    LB_BASE_REQUIRED
} lb_merge_base;

/* What becomes of a tensor that some inputs lack. */
typedef enum lb_merge_lack {
    LB_LACK_ERROR,
    LB_LACK_COPY_ONE,       /* the only input that has it is copied */
    LB_LACK_COPY_BASE,      /* the same, if that is the base */
    LB_LACK_BASE_OR_NOTHING /* merged from those that have it; without the base there is none */
} lb_merge_lack;

typedef enum lb_merge_rounding { LB_MERGE_F32, LB_MERGE_MERGEKIT } lb_merge_rounding;

typedef struct lb_merge_input {
    lb_node_id x;   /* its values in Hugging Face's layout: f32, or as stored */
    lb_dtype dtype; /* that they have in the source; bf16 where that is quantized */
    bool is_base;
    /* How much its columns count, as the file of a parameter says: one value per column or row, or
     * per element; LB_NODE_NONE: nothing is said of the tensor. */
    lb_node_id importance;
    /* Of methods over adapters: what x is more than the base's, as factors. NULL: no such form. */
    const lb_terms *terms;
    double param[LB_MERGE_PARAMS_MAX]; /* by the method's list; those of INPUT and NON_BASE scope */
} lb_merge_input;

typedef struct lb_merge_job {
    lb_graph *g;
    lb_arena *perm; /* lives as long as the graph */
    lb_str name;    /* of the result, for messages */
    const lb_shape *shape;
    bool is_vocab;            /* rows are tokens: embeddings, output matrix */
    const lb_merge_input *in; /* in the order of the merge file; the base wherever it stands */
    u32 n_in;
    u32 layer;                         /* of the result's module; UINT32_MAX: of none */
    u64 n_layers;                      /* of the module */
    double param[LB_MERGE_PARAMS_MAX]; /* those of SHARED scope */
    lb_dtype work; /* type in which mergekit computes: `dtype`, else what the inputs promote to */
    lb_merge_rounding rounding;
    u32 carry; /* the random stream of the whole merge (lb_expr_carry) */
} lb_merge_job;

typedef struct lb_merge_method {
    const char *name;   /* "ties" */
    const char *title;  /* "TIES" */
    const char *source; /* paper or page */
    const lb_merge_param *params;
    u32 n_params;
    lb_merge_base base;
    u32 min_in, max_in;             /* of all inputs; max 0: any number */
    u32 min_non_base, max_non_base; /* likewise */
    lb_merge_lack lack;
    bool draws;       /* takes random numbers: its tensors are made in mergekit's order */
    bool of_adapters; /* inputs are the base with adapters on it: terms are looked up */
    /* *out: values (f32), or what is stored where nothing is computed. LB_E_USAGE names a
     * parameter, LB_E_FORMAT an input. */
    lb_status (*build)(const struct lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                       lb_err *err);
} lb_merge_method;

const lb_merge_method *lb_merge_method_find(lb_str name); /* NULL if there is none */
const lb_merge_method *lb_merge_method_at(u32 i);         /* NULL beyond the last */
/* Index in params; UINT32_MAX if it has none of the name. */
u32 lb_merge_param_find(const lb_merge_method *m, lb_str name);

/* ---- for builders ---- */

/* Parameter of the method by name, of the job or of an input; it must have it. */
double lb_merge_shared(const lb_merge_method *m, const lb_merge_job *j, const char *name);
double lb_merge_of(const lb_merge_method *m, const lb_merge_input *in, const char *name);
/* Rounds to the work type where mergekit's arithmetic is asked for; else x. */
lb_node_id lb_merge_round(const lb_merge_job *j, lb_node_id x);
float lb_merge_round_number(const lb_merge_job *j, double x);
/* The values of an input as the method computes with them: of the work type where mergekit's
 * arithmetic is asked for. */
lb_node_id lb_merge_typed(const lb_merge_job *j, const lb_merge_input *in);
/* x_0 + x_1 + ...: in f32 in this order, rounded once; as torch from +0 on. */
lb_node_id lb_merge_sum(const lb_merge_job *j, const lb_node_id *x, u32 n);
/* Of n numbers, in the order in which torch adds up a vector of the type (with AVX2). */
float lb_merge_total(lb_dtype type, const float *x, u32 n);
const lb_merge_input *lb_merge_base_of(const lb_merge_job *j); /* NULL: none */
/* The values of an input that may be stored. */
lb_node_id lb_merge_values(const lb_merge_job *j, lb_node_id x);

#endif
