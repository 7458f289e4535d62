/* SPDX-License-Identifier: Apache-2.0 */
/* output_internal.h: the state of one output, shared by output.c and output_print.c. */
#ifndef LB_OPS_OUTPUT_INTERNAL_H
#define LB_OPS_OUTPUT_INTERNAL_H

#include "format/gguf_write.h"
#include "format/st_layout.h"
#include "ops/output.h"

/* 32 characters of a head that take a source's digest after the run. */
typedef struct lb_out_field {
    u32 file;
    u64 off;
    u32 source;
} lb_out_field;

/* One model's part in the output. */
typedef struct lb_out_part {
    lb_out_model *model;
    const char *path; /* NULL: none */
    u32 first_file;   /* of the plan's */
    u32 n_files;
    lb_gguf_layout gguf;            /* what makes heads: of a GGUF */
    lb_st_layout st;                /* of safetensors */
    const lb_gguf_item *gguf_items; /* [n_tensors] where each lies, of the part's format */
    const lb_st_item *st_items;
    struct lb_out_roots *roots;
} lb_out_part;

/* A file of the output, for what makes its head. */
typedef struct lb_out_head {
    const lb_out_part *part;
    u32 file; /* of the part's */
} lb_out_head;

typedef struct lb_output {
    lb_plan *plan;
    lb_out_model *model; /* the first */
    lb_out_part *part;   /* [n_parts] */
    u32 n_parts;
    const lb_writer_opts *opts;
    lb_sink *sink;
    u32 *read; /* [n_read] the plan's sources that are no merges */
    u32 n_read;
    lb_str *keys;        /* [2 * n_read] "lbrx.source.N.name", "...digest" */
    lb_sink_head *heads; /* [n_files of the plan] first bytes of each file */
    lb_out_field *fields;
    u32 n_fields, cap_fields;
    u64 first_field; /* safetensors: index of the first source's pair in the metadata list */
    lb_sink_text index;
    const lb_sink_text *texts; /* after the run: the output's, but for lbrx.json */
    u32 n_texts;
    bool folder;
} lb_output;

static inline bool lb_output_is_written(const lb_writer_opts *o) {
    return o->to != LB_TO_NONE && !o->no_write;
}

/* The plan for people and as one JSON object. */
void lb_output_print_plan(const lb_output *x, lb_buf *out);
void lb_output_json_plan(const lb_output *x, lb_buf *out);

#endif
