/* SPDX-License-Identifier: Apache-2.0 */
/* report_internal.h: what the files report*.c share: what is known about the models, and the page's
 * writers. */
#ifndef LB_OPS_REPORT_INTERNAL_H
#define LB_OPS_REPORT_INTERNAL_H

#include "io/out.h"
#include "ops/diff.h"
#include "ops/inspect.h"
#include "ops/report.h"

/* ---- report_axis.c: where tensors stand: layer by layer, role by role ---- */

#define LB_REPORT_SLOTS_MAX 160 /* columns of a plot: a layer, or several where there are more */
#define LB_REPORT_ROLES_MAX 40  /* rows of the type map; the last one is all others then */
#define LB_REPORT_GROUPS_MAX 4  /* stacks of layers: language model, vision tower... */

/* One tensor on its way to a place. */
typedef struct lb_report_item {
    lb_str name;
    u64 n_params;
    /* out: */
    u64 layer; /* the number in the name; UINT64_MAX: outside the layers */
    u32 group; /* UINT32_MAX: the same */
    u32 slot, role;
} lb_report_item;

typedef struct lb_report_slot {
    u32 group;          /* UINT32_MAX: slot 0, all that stands outside the layers */
    u64 first, last, n; /* numbers of layers */
} lb_report_slot;

typedef struct lb_report_group {
    lb_str prefix; /* "model.layers" */
    u64 n_layers, n_params;
    u64 per_slot; /* layers a slot */
} lb_report_group;

typedef struct lb_report_axis {
    lb_report_slot *slots;
    u32 n_slots;
    lb_str *roles; /* "self_attn.q_proj": largest first, those outside the layers before */
    u32 n_roles;
    u64 n_roles_merged; /* roles that the last one stands for; 0: it is one of its own */
    lb_report_group groups[LB_REPORT_GROUPS_MAX];
    u32 n_groups;
    u64 n_groups_merged; /* smaller stacks, which stand outside the layers */
} lb_report_axis;

/* Splits a name at its first number: "model.layers.3.mlp.up_proj.weight" is layer 3 of
 * "model.layers", role "mlp.up_proj"; further numbers (experts) become "*". False: it has no number
 * between two dots; the role is then the name itself. The role lives in the arena; ptr NULL: out of
 * memory. */
bool lb_report_place(lb_str name, lb_str *prefix, u64 *layer, lb_str *role, lb_arena *perm);
/* Places all items. */
lb_status lb_report_axis_build(lb_report_axis *out, lb_report_item *items, u64 n, lb_arena *perm,
                               lb_err *err);
/* "layer 3", "layers 4-7", "outside the layers"; with its stack where there are several. */
void lb_report_slot_text(const lb_report_axis *a, u32 slot, lb_buf *out);

/* ---- report_sample.c, report_codes.c: what codes, scales and values are used ---- */

#define LB_REPORT_CODES_MAX 2048
/* Half octaves of |x| in f32: bin b begins at 2^(b/2 - 149). */
#define LB_REPORT_LOG_BINS 554
#define LB_REPORT_LOG_ZERO 298 /* the bin of 1.0 */
#define LB_REPORT_STRETCH ((u64)65536)
#define LB_REPORT_SAMPLE ((u64)262144)  /* values of a tensor at most... */
#define LB_REPORT_BUDGET ((u64)1 << 28) /* ...and of a model, if that is less */

typedef struct lb_report_logs {
    u64 n[LB_REPORT_LOG_BINS], n_zero, n_bad; /* bad: NaN, Inf */
} lb_report_logs;

typedef struct lb_report_hist {
    u32 n_codes;                   /* 0: of no codes */
    i32 zero;                      /* the bin of code 0 */
    bool signed_magnitude, points; /* floats in order of value; points of a codebook */
    u64 n_sampled, n_all;          /* values */
    u64 codes[LB_REPORT_CODES_MAX];
    lb_report_logs scales, minus, plus; /* of |scale|; of values below and above zero */
} lb_report_hist;

u32 lb_report_log_bin(float magnitude); /* finite, above 0 */
void lb_report_logs_add(lb_report_logs *l, float x);
/* Sets n_codes and so on for blocks of a type; false: it has no codes. */
bool lb_report_codes_of(lb_dtype t, lb_report_hist *h);
/* Counts the codes and scales (a sub-block's, in f32) of n whole blocks. */
void lb_report_count_blocks(lb_dtype t, const u8 *blocks, u64 n, lb_report_hist *h);
/* Bits of codes that lie one after the other, from the lowest bit of the first byte on. */
void lb_report_count_bits(const u8 *p, u64 n, u32 bits, lb_report_hist *h);

/* ---- report.c ---- */

#define LB_REPORT_TYPES_MAX 48 /* the last one is all others then */
#define LB_REPORT_COLORS 12
#define LB_REPORT_LABEL 48

typedef struct lb_report_type {
    char label[LB_REPORT_LABEL]; /* "q4_k", "mlx-q4/64" */
    u64 n_params, size_bytes;    /* of all models */
    u32 color;
} lb_report_type;

typedef struct lb_report_sum {
    u64 n_weights, n_params, size_bytes;
} lb_report_sum;

/* Weights of one role in one slot. */
typedef struct lb_report_cell {
    u64 n_weights, n_params, size_bytes, main_params;
    u32 type; /* of most of its parameters: that with the most bytes a weight among equals */
    bool mixed;
} lb_report_cell;

typedef struct lb_report_pair {
    lb_report_item *items; /* [diff.n_rows] */
    u32 *types;            /* [diff.n_rows] of the weight in the model */
    u64 *worst;            /* rows, largest error first; those of other shapes are not in it */
    u64 n_worst;
    lb_report_axis axis;
} lb_report_pair;

typedef struct lb_report_model {
    const lb_source *source;
    lb_inspect inspect;
    char letter[4];
    lb_report_item *items; /* [n_weights] */
    u32 *types;            /* [n_weights] */
    u64 *bytes;            /* [n_weights] */
    lb_report_axis axis;
    lb_report_sum *sum;    /* [n_types] */
    u64 *slot_bytes;       /* [n_slots][n_types] */
    lb_report_cell *cells; /* [n_roles][n_slots] */
    lb_report_hist **hist; /* [n_types]; NULL: nothing to show */
    u64 n_sample;          /* values of a tensor at most */
    bool compared;         /* diff and pair are set */
    lb_str why_not;        /* else, of all models but the first */
    lb_diff diff;
    lb_report_pair pair;
} lb_report_model;

struct lb_report {
    const lb_kernels *kernels;
    lb_report_model *models;
    u32 n_models;
    lb_report_type *types; /* few bits a weight first */
    u32 n_types;
};

typedef struct lb_report_job {
    const lb_report_options *o;
    u64 done_bytes; /* of phases that are over */
} lb_report_job;

/* Fills m->hist. */
lb_status lb_report_sample(const lb_report *r, lb_report_model *m, lb_report_job *j, lb_arena *perm,
                           lb_err *err);
/* Base-10 logarithm, the same on every machine. */
double lb_report_log10(const lb_report *r, double x);
double lb_report_log2(const lb_report *r, double x);
/* Bits of information a code; 0 for a histogram without codes. */
double lb_report_entropy(const lb_report *r, const lb_report_hist *h);

/* ---- report_html.c ---- */

#define LB_REPORT_NAME_CHARS 120
/* Text of an element or of an attribute in double quotes. Control bytes, what is no UTF-8 and marks
 * that turn the direction of text are shown as \xNN; \uNNNN. */
void lb_html_text(lb_buf *out, lb_str s);
/* The same, cut in its middle to at most LB_REPORT_NAME_CHARS characters. */
void lb_html_name(lb_buf *out, lb_str s);
void lb_html_cut(lb_buf *out, lb_str s, u32 n_max);
/* "1,234,567" */
void lb_html_digits(lb_buf *out, u64 n);
/* An error: "0.0312"; "0"; an infinity sign. The same times 100: "3.12%". */
void lb_html_error(lb_buf *out, double x);
void lb_html_percent(lb_buf *out, double x);

/* The page that is being written; p->b is the buffer of p->out. */
typedef struct lb_page {
    const lb_report *r;
    lb_out *out;
    lb_buf *b;
    lb_arena scratch;
} lb_page;
void lb_page_put(lb_page *p, const char *s);
/* Cells of numbers, which sort by their value. */
void lb_page_cell_digits(lb_page *p, u64 n);
void lb_page_cell_percent(lb_page *p, double x);
void lb_page_cell_error(lb_page *p, double x);
/* heads: separated by '|'; those of numbers begin with '#'. */
void lb_page_begin_table(lb_page *p, const char *class, const char *caption, const char *heads);
void lb_page_end_table(lb_page *p);
/* A box that scrolls by itself, with the keyboard too; a closing </div> ends it. */
void lb_page_begin_scroll(lb_page *p, const char *label);
void lb_page_begin_details(lb_page *p, const char *summary);
void lb_page_end_details(lb_page *p);
void lb_page_model(lb_page *p, const lb_report_model *m); /* its letter and name */
void lb_page_merged(lb_page *p, const lb_report_axis *a); /* what shares a column or a row */

/* ---- report_plot.c, report_plot_hist.c ---- */

void lb_plot_bars(const lb_report *r, lb_out *out); /* share of types, a bar a model */
void lb_plot_layers(const lb_report *r, u32 model, u64 most_bytes, lb_out *out);
void lb_plot_types(const lb_report *r, u32 model, lb_out *out);  /* type map */
void lb_plot_errors(const lb_report *r, u32 model, lb_out *out); /* by layer */
void lb_plot_error_map(const lb_report *r, u32 model, lb_out *out);
void lb_plot_error_legend(lb_out *out);
void lb_plot_codes(const lb_report *r, u32 model, u32 type, lb_out *out);
void lb_plot_logs(const lb_report *r, u32 model, u32 type, bool scales, lb_out *out);
/* Of the types that the models first.. first + n - 1 have. */
void lb_plot_legend(const lb_report *r, u32 first, u32 n, lb_out *out);

/* ---- report_page.c, report_errors.c, report_hists.c, report_style.c ---- */

void lb_page_errors(lb_page *p);
void lb_page_hists(lb_page *p);

lb_status lb_report_page(const lb_report *r, lb_out *out, lb_err *err);
extern const char lb_report_css[], lb_report_js[];

#endif
