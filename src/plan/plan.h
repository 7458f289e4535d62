/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h: a plan: output files, and jobs that fill them. What --dry-run prints; what run.h carries
 * out.
 *
 * Order of use: lb_plan_new, expressions on plan->graph, lb_plan_file for each output file,
 * lb_plan_job (streams), lb_plan_segment (one or more per job: the stream is their rows one after
 * the other), lb_plan_close (checks, sizes, memory), then lb_run.
 *
 * No tensor data is read here. */
#ifndef LB_PLAN_PLAN_H
#define LB_PLAN_PLAN_H

#include "base/hash.h"
#include "plan/expr.h"
#include "plan/prog.h"

/* One tensor's bytes in one output file. */
typedef struct lb_stream {
    u32 file;
    lb_dtype dtype;
    u64 off_bytes, size_bytes;
    lb_str name;
    const lb_shape *shape; /* NULL: a scalar. In a plan only its first `rank` dims are there */
    /* set by lb_plan_close: so many elements for so many of the job's, which are what is encoded;
     * the last ones of a matrix, or of the job (mat: 0), may be fewer */
    u64 per, mat;
    u32 per_elems;
    bool once;  /* of a matrix: with the first of them */
    bool codes; /* given: moved, not computed: see lb_expr_repack */
    /* set by the run */
    lb_hash128 hash;  /* XXH3-128 of its bytes */
    u64 n_rounded;    /* values that the type could not hold exactly */
    u64 n_overflowed; /* finite values that became infinite */
} lb_stream;

/* Bytes of a stream for the first n_elems of the job. False: they are no whole blocks. */
bool lb_stream_part(const lb_stream *s, u64 n_elems, u64 *bytes);
/* The part of it for n_elems of the job from `first` on: whole blocks. */
typedef struct lb_stream_span {
    u64 off_bytes, len_bytes;
} lb_stream_span;
lb_stream_span lb_stream_span_of(const lb_stream *s, u64 first, u64 n_elems);

typedef struct lb_segment {
    lb_node_id root[LB_ROOTS_MAX]; /* one a stream */
} lb_segment;

typedef struct lb_job {
    lb_str name;
    lb_stream *streams;
    u32 n_streams;
    lb_segment *segments;
    u32 n_segments, cap_segments;
    double stat[LB_STAT_RESULTS]; /* a survey's answer, set by the run */
    /* known when the plan is closed */
    u64 read_bytes, write_bytes;
    u64 fixed_bytes, slab_bytes, scratch_bytes;
    u64 spill_bytes; /* of its temporary file; read_bytes and write_bytes count its traffic */
    u64 n_tiles;
    u64 after; /* all jobs before this number must have ended when this one begins */
} lb_job;

/* An output file. Bytes [0, head) and any other gap between streams are written by the sink. */
typedef struct lb_out_file {
    lb_str name; /* plain name inside the output folder; empty: the output itself is this file */
    u64 size_bytes;
} lb_out_file;

enum {
    LB_USED = 1,         /* some leaf reads it */
    LB_USED_WHOLE = 2,   /* some leaf reads all of it in order: hashed on the way */
    LB_USED_HASHED = 4,  /* tensor_hash is set, or promised to a leaf */
    LB_USED_CHAINED = 8, /* slices of it are read one after the other: hashed on the way */
};
/* Digest over the tensors of one source that the plan used. */
typedef struct lb_plan_source {
    lb_hash128 *tensor_hash;   /* [n_tensors], set by the run */
    u8 *used;                  /* [n_tensors] LB_USED_* bits */
    u64 *next_elem, *last_job; /* [n_tensors] of chain.c, while planning; NULL: nothing is sliced */
    lb_hash128 digest;
} lb_plan_source;

typedef struct lb_plan {
    lb_arena perm;
    lb_graph graph;
    lb_job *jobs;
    u64 n_jobs, cap_jobs;
    lb_out_file *files;
    u64 n_files, cap_files;
    lb_plan_source *src; /* one a source */
    bool want_digests;   /* hash what is read: for provenance */
    bool only_finite;    /* an output with a value that is NaN or infinite stops the run */
    const struct lb_quant_device *encoder; /* quantizes beside the kernels; NULL: nothing */
    lb_str options; /* text that is part of the plan's identity (operation and its options) */
    lb_err err;
    /* known when closed */
    u64 read_bytes, write_bytes;
    u64 memory_bytes;  /* the budget, or what of it is enough */
    u64 limit_bytes;   /* the budget */
    u64 base_bytes;    /* what the process holds before the run: program, headers, vocabularies */
    u64 after_bytes;   /* beside the base when the run is over: for texts made then; set by ops */
    u64 peak_bytes;    /* base + what the run may take */
    u64 pool_bytes;    /* of that, buffers */
    u64 held_bytes;    /* of those, what jobs that run at a time may hold */
    u64 slab_bytes;    /* of the largest tile: all slabs are of this size */
    u64 scratch_bytes; /* of a worker, for any job */
    u64 target_bytes;  /* tile size aimed at */
    lb_prog_limits limits;
    u64 spill_bytes;     /* of temporary files at a time */
    u32 threads, window; /* workers; tiles in flight */
    u32 n_active;        /* jobs that run at a time, at most */
    lb_hash128 identity;
} lb_plan;

/* A source that is computed is followed by its inputs, and they by theirs. */
lb_status lb_plan_new(lb_plan **out, const lb_source *const *sources, u32 n_sources, lb_err *err);
void lb_plan_free(lb_plan **p);
/* A plan for surveys over the nodes of another one: those of `of` that exist may be used in its
 * graph. Until it is freed, none may be made in that of `of`. */
lb_status lb_plan_survey(lb_plan **out, const lb_plan *of, lb_err *err);

/* Room for so many jobs in all. A hint. */
void lb_plan_reserve(lb_plan *p, u64 n_jobs);
/* Index of the new file. */
u32 lb_plan_file(lb_plan *p, lb_str name, u64 size_bytes);
/* A job with n_streams streams (copied with their shapes; names must outlive the plan): of
 * what has one shape, in whatever layouts. Returns NULL after a fault (kept in p->err). */
lb_job *lb_plan_job(lb_plan *p, lb_str name, const lb_stream *streams, u32 n_streams);
/* Appends rows to the last job's streams: one encode node for each. */
void lb_plan_segment(lb_plan *p, const lb_node_id *roots);
/* A job of one stream and one segment: the common case. */
void lb_plan_output(lb_plan *p, const lb_stream *stream, lb_node_id root);

typedef struct lb_plan_limits {
    u64 memory_bytes;
    u64 enough_bytes; /* no more is taken, if the plan can be carried out in it; 0: no such limit */
    u64 beside_bytes; /* that the run holds and lb_run_base_bytes does not count */
    u32 threads;
    u64 tile_bytes;     /* 0: chosen; tests force it */
    u64 hold_max_bytes; /* 0: chosen; tests force it */
    u64 select_max;     /* 0: chosen; tests force it */
} lb_plan_limits;
/* Checks every job, solves for tile size, threads and window under the budget. LB_E_LIMIT names the
 * smallest budget that would do. */
lb_status lb_plan_close(lb_plan *p, const lb_plan_limits *limits, lb_err *err);

/* Makes one job of those that take turns with the rows of stored matrices. Part of closing; what is
 * written, and where, stays. */
lb_status lb_plan_join(lb_plan *p, lb_err *err);

/* Sets p->identity: a hash of everything that the bytes of the output follow from: version,
 * options, the input files (size, inode, time), every node, where each stream lies. Part of
 * closing. */
void lb_plan_identify(lb_plan *p);

/* One line for each stream: "name type [shape] <- expression [and n more]". */
void lb_plan_print_job(const lb_plan *p, const lb_job *j, lb_buf *out);
/* The expression of one stream in one segment, without its line's head. */
void lb_plan_print_segment(const lb_plan *p, const lb_job *j, u32 segment, u32 stream, lb_buf *out);

#endif
