/* SPDX-License-Identifier: Apache-2.0 */
/* output.h: from a list of tensors to a written model: files are laid out, planned, run and
 * finished.
 *
 * Shared by every operation that writes one. The operation makes the list (names, types, shapes,
 * encode nodes) and the metadata or texts; here are the two containers (GGUF files, safetensors
 * folders), the dry run, the sink, the provenance and the report. */
#ifndef LB_OPS_OUTPUT_H
#define LB_OPS_OUTPUT_H

#include "format/gguf_meta.h"
#include "plan/run.h"
#include "plan/sink.h"

typedef enum lb_to { LB_TO_AUTO, LB_TO_HF, LB_TO_MLX, LB_TO_GGUF, LB_TO_NONE } lb_to;

/* What every writing command takes from its user. */
typedef struct lb_writer_opts {
    const char *output; /* NULL with LB_TO_NONE */
    lb_to to;
    u64 memory_bytes;
    u32 threads;
    u64 max_shard_bytes;   /* 0: the format's rule (HF 5 GB, MLX 5 GiB, GGUF one file) */
    u64 max_shard_tensors; /* GGUF only, instead of bytes; 0: any number */
    bool dry_run, resume, force, no_sync, no_provenance, sha256;
    bool no_write; /* all is computed as for `to`, and nothing written */
    bool json;     /* form of a dry run's text */
    bool lossless; /* refuse when any value would be rounded */
    const lb_kernels *kernels;
    lb_quant_device *encoder; /* quantizes what it takes (plan/encoder.h), and is opened where it is
                                 not; NULL: the CPU all */
    bool (*stop)(void *);
    void (*progress)(void *, u64 done_bytes, u64 total_bytes);
    void (*planned)(void *, u64 write_bytes); /* before anything is read; may be NULL */
    void *user;
    /* Told of every tensor that was made, with the hash of its bytes; may be NULL. */
    lb_status (*made)(void *made_user, lb_str name, lb_dtype dtype, const lb_shape *shape,
                      lb_hash128 hash, lb_err *err);
    void *made_user;
} lb_writer_opts;

/* With a smaller budget a device is open before a model is planned, so that what its driver takes
 * counts. */
#define LB_OUTPUT_BESIDE_BYTES 1000000000ull

/* One tensor of the result. segments: encode nodes whose rows follow each other (one: most of
 * them). */
typedef struct lb_out_tensor {
    lb_str name;
    lb_dtype dtype;
    u32 file; /* of the source, where the model keeps its files */
    const lb_shape *shape;
    const lb_node_id *segments;
    u32 n_segments;
    lb_node_id node; /* the one segment, when segments is NULL */
    bool joint;      /* made in one job with the tensor before it: of the same stored bytes */
} lb_out_tensor;

/* The model to be written, format-specific parts beside the tensors. */
typedef struct lb_out_model {
    const char *output;     /* instead of the options' path; NULL: that */
    lb_format format;       /* LB_FORMAT_GGUF, _HF, _MLX or _SAFETENSORS (one file) */
    lb_out_tensor *tensors; /* heap; in file order */
    u64 n_tensors;
    lb_gguf_meta *meta;  /* GGUF */
    lb_sink_text *texts; /* folders; the index and lbrx.json are added */
    u32 n_texts;
    const char *stem;   /* of the weight files' names in a folder; NULL: "model" */
    u64 n_parameters;   /* for the index */
    lb_str operation;   /* "convert --dtype bf16": provenance */
    lb_str identity;    /* what else the bytes follow from: of all models; empty: operation */
    lb_str st_metadata; /* kept: raw JSON of the source's __metadata__, or empty */
    lb_str codes;       /* MLX: what its codes were in GGUF (convert_codes.c); empty: nothing */
    bool codes_near;    /* scales of codes may be rounded to f16; else that is refused */
    bool keep_files;    /* GGUF: cut as the source is; tensors are in the order of its files */
    bool all_memory;    /* the whole budget may be of use: factorisations hold much */
    bool only_finite;   /* values that are NaN or infinite are refused, kept ones too */
    lb_str *remarks;    /* for people: what was left out or changed */
    u32 n_remarks;
} lb_out_model;

typedef struct lb_out_report {
    lb_format format;
    u64 n_tensors, bytes_read, bytes_written, bytes_moved; /* dry run: as planned */
    u64 n_rounded, n_overflowed; /* values that the output's types could not hold exactly */
    u64 n_rounded_tensors;
    u64 n_jobs_kept; /* by --resume */
    double seconds;
    u64 peak_rss_bytes;
    u64 needed_bytes; /* the smallest budget, where the plan was refused for it */
    lb_pool_stats pool;
    bool dry_run, kept_partial;
    char sha256[65]; /* of a single-file output, when asked for */
} lb_out_report;

/* Lays out, plans and writes; m->tensors is freed once laid out. With dry_run the plan's text goes
 * to *text, nothing is written, and an output that would be refused is refused. Of several models
 * (GGUF, paths in one folder) the k-th tensors are made together, in one read. */
lb_status lb_output_write(lb_plan *p, lb_out_model *m, u32 n_models, const lb_writer_opts *o,
                          lb_buf *text, lb_out_report *report, lb_err *err);

/* The report as CLI.md's JSON object, and as one line for people. */
void lb_output_json(const lb_writer_opts *o, const lb_out_report *r, lb_buf *out);
void lb_output_text(const lb_writer_opts *o, const lb_out_report *r, lb_buf *out);

#endif
