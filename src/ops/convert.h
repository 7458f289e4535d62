/* SPDX-License-Identifier: Apache-2.0 */
/* convert.h: any model to any format: the canonical tensors of the source, written as the target
 * wants them. Also split and join, which are conversions to the same format with another cut into
 * files. */
#ifndef LB_OPS_CONVERT_H
#define LB_OPS_CONVERT_H

#include "arch/arch.h"
#include "ops/output.h"

/* What becomes of a part beside the language model: kept where the target has a place for it and
 * left out else, or as the user says. */
typedef enum lb_keep { LB_KEEP_AUTO, LB_KEEP_DROP, LB_KEEP_KEEP } lb_keep;

/* Codes of a quantized tensor that the target has a form for: kept where nothing is rounded; kept,
 * with scales rounded to f16 where they must be; turned into values. */
typedef enum lb_codes { LB_CODES_EXACT, LB_CODES_NEAR, LB_CODES_NONE } lb_codes;

typedef struct lb_convert_opts {
    lb_writer_opts w;
    bool cast;              /* --dtype was given and is not keep */
    lb_dtype dtype;         /* F32, F16, BF16 */
    const char *const *set; /* [n_set] "KEY=TYPE:VALUE": GGUF metadata */
    u32 n_set;
    const char *const *unset; /* [n_unset] keys */
    u32 n_unset;
    const char *chat_template; /* file, or NULL */
    u8 keep[LB_EXTRA_COUNT];   /* lb_keep, by lb_extra */
    lb_codes codes;
    const char *base;         /* an adapter's base model, or NULL: what the adapter names */
    bool adapter;             /* an adapter is wanted, no model */
    const char *verb;         /* "convert", "split", "join": provenance */
    const char *verb_options; /* the same of its own options, " -k 64"; or NULL */
    bool one_file;            /* join: whatever the size */
    const struct lb_merge_opts
        *merge; /* the model is a merge file; NULL: if it is one, as it says */
    const struct lb_quantize_opts *quantize; /* ops/quantize.h; NULL: values stay values */
} lb_convert_opts;

/* remarks (may be NULL) gets what a person should know: tensors left out, assumptions made; one a
 * line. */
lb_status lb_convert(const lb_source *src, const lb_convert_opts *o, lb_buf *text, lb_buf *remarks,
                     lb_out_report *report, lb_err *err);

#endif
