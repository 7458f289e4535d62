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

/* A file of the output, for what makes its head. */
typedef struct lb_out_head {
    const struct lb_output *x;
    u32 file;
} lb_out_head;

typedef struct lb_output {
    lb_plan *plan;
    lb_out_model *model;
    struct lb_out_roots *roots;    /* [n_tensors] while the layout is made */
    lb_stream joint[LB_ROOTS_MAX]; /* of a job that is not complete */
    u32 n_joint;
    const lb_writer_opts *opts;
    lb_sink *sink;
    lb_str *keys;        /* [2 * n_sources] "lbrx.source.N.name", "...digest" */
    lb_sink_head *heads; /* [n_files] first bytes of each file */
    lb_gguf_layout gguf; /* what makes them: of a GGUF */
    lb_st_layout st;     /* of safetensors */
    lb_out_field *fields;
    u32 n_fields, cap_fields;
    u64 first_field; /* safetensors: index of the first source's pair in the metadata list */
    lb_sink_text index;
    const lb_sink_text *texts; /* after the run: the output's, but for lbrx.json */
    u32 n_texts;
    bool folder;
} lb_output;

/* The plan for people and as one JSON object. */
void lb_output_print_plan(const lb_output *x, lb_buf *out);
void lb_output_json_plan(const lb_output *x, lb_buf *out);

#endif
