/* SPDX-License-Identifier: Apache-2.0 */
/* sink.h: where a plan's bytes go: a partial file or folder beside the target, renamed when
 * complete.
 *
 *   OUT.gguf       <- OUT.gguf.lbrx-partial      journal OUT.gguf.lbrx-journal
 *   OUT/           <- OUT.lbrx-partial/          journal OUT.lbrx-journal
 * The journal is locked while a process works on OUT; it records finished jobs with the hashes of
 * their streams, and of large jobs how far they have come, so that --resume can check and keep
 * them. Nothing stands under the final name before all is written and synced. After a failure the
 * partial stays for --resume, unless nothing was finished. */
#ifndef LB_PLAN_SINK_H
#define LB_PLAN_SINK_H

#include "io/out.h"
#include "plan/plan.h"

typedef struct lb_sink lb_sink;

typedef struct lb_sink_options {
    const char *path; /* the final name */
    bool folder;      /* files of the plan stand in a folder of that name */
    bool resume, force, sync;
    bool spread;    /* folder: its files are put beside each other in the target's folder (a split
                       GGUF); the first one last */
    bool sha256;    /* also write SHA-256 sums: SHA256SUMS in a folder, OUT.sha256 beside a file */
    u64 span_bytes; /* a job is recorded whenever so much more of it is written; 0: 1 GiB */
    u64 sync_bytes; /* synced before a record when so much was written; 0: 256 MiB */
    bool (*stop)(void *); /* polled while kept bytes are checked and sums made; may be NULL */
    void *user;
} lb_sink_options;

/* Creates (or with resume reopens and checks) the partial. A run that was cut off after its output
 * got its final name is resumed too: all jobs are kept, and lb_sink_finish clears up. Errors:
 * LB_E_USAGE where the target exists (without force) or an input would be overwritten, LB_E_LIMIT
 * for too little disk space or a lock held by another process, LB_E_FORMAT for a journal of another
 * plan or version. The plan must be closed and must outlive the sink. */
lb_status lb_sink_open(lb_sink **out, lb_plan *plan, const lb_sink_options *o, lb_err *err);

/* The folder that the output stands in: for temporary files. */
const char *lb_sink_dir(const lb_sink *s);
/* One file of output: what stands beside it until it is finished. */
void lb_sink_unfinished(const lb_sink *s, const char **partial, const char **journal);
/* Only what lb_sink_open refuses about the target; touches nothing: for a dry run. */
lb_status lb_sink_check(lb_plan *plan, const lb_sink_options *o, lb_err *err);

/* Thread-safe; any order. Bytes of several threads for one file may be written together, by one of
 * them; each returns when its own are. */
lb_status lb_sink_write(lb_sink *s, u32 file, u64 off_bytes, const void *ptr, u64 len, lb_err *err);
typedef struct lb_sink_piece {
    u32 file;
    u64 off_bytes;
    const void *ptr; /* [len] */
    u64 len;
} lb_sink_piece;
/* The same of n pieces; those of a file stand together. */
lb_status lb_sink_write_all(lb_sink *s, const lb_sink_piece *p, u32 n, lb_err *err);
/* A job kept from before: its streams' hashes are set in the plan. */
bool lb_sink_kept(const lb_sink *s, u64 job);
/* All streams of the job are written and their hashes set: appends to the journal. hashes: those of
 * the tensors that this job hashed and that no record has yet. */
typedef struct lb_sink_hash {
    u32 source, tensor;
    lb_hash128 hash;
} lb_sink_hash;
lb_status lb_sink_job_done(lb_sink *s, u64 job, const lb_sink_hash *hashes, u32 n_hashes,
                           lb_err *err);

/* How far a stream has come: of its first elements, the hash and the counts. */
typedef struct lb_sink_prefix {
    lb_hash128 hash;
    u64 n_rounded, n_overflowed;
} lb_sink_prefix;
/* Bytes after which a job in progress is recorded; UINT64_MAX: this one is too small for that. */
u64 lb_sink_span_bytes(const lb_sink *s, u64 job);
/* The first n_elems elements of each stream are written; prefix: one a stream. */
lb_status lb_sink_span_done(lb_sink *s, u64 job, u64 n_elems, const lb_sink_prefix *prefix,
                            const lb_sink_hash *hashes, u32 n_hashes, lb_err *err);
/* Where a job goes on that was recorded so; NULL: at its start. */
typedef struct lb_sink_part {
    u64 n_elems;
    lb_xxh *hash;           /* [n_streams] over these elements */
    lb_sink_prefix *prefix; /* [n_streams] */
} lb_sink_part;
const lb_sink_part *lb_sink_kept_part(const lb_sink *s, u64 job);

/* Appends what is written to out: its failures are out's, others are returned. */
typedef lb_status (*lb_sink_make)(void *ctx, lb_out *out, lb_err *err);

/* Files (config.json...) of the output, written at the end: bytes, the content of the file
 * copy_from, or what make gives. A name may have one folder in front. All of it must outlive the
 * sink. */
typedef struct lb_sink_text {
    lb_str name, bytes;
    const char *copy_from; /* NULL: bytes, or make */
    lb_sink_make make;     /* NULL: bytes */
    void *ctx;
} lb_sink_text;
/* The first bytes of a file of the plan: bytes, or what make gives. */
typedef struct lb_sink_head {
    lb_str bytes;
    lb_sink_make make;
    void *ctx;
} lb_sink_head;
/* Bytes that are put over a head. */
typedef struct lb_sink_patch {
    u32 file;
    u64 off_bytes;
    u8 bytes[32];
} lb_sink_patch;
typedef struct lb_sink_ending {
    const lb_sink_head *heads; /* [n_files of the plan], at offset 0; may be empty */
    const lb_sink_patch *patches;
    const lb_sink_text *texts;
    u32 n_patches, n_texts;
} lb_sink_ending;
/* Names may come from a model: a plain file name, or one in one plain folder; else LB_E_FORMAT. */
lb_status lb_sink_check_name(lb_str name, lb_err *err);
/* Writes heads, patches and texts, syncs, renames, removes the journal. After success the sink is
 * finished; lb_sink_close frees it. */
lb_status lb_sink_finish(lb_sink *s, const lb_sink_ending *e, lb_err *err);
/* SHA-256 of the first file, after lb_sink_finish with sha256. */
const char *lb_sink_sha256(const lb_sink *s);
/* What was written is of no use: lb_sink_close keeps nothing of it. */
void lb_sink_discard(lb_sink *s);
/* Without finish: keeps the partial when some job is done, else removes it. *kept tells (may be
 * NULL). */
void lb_sink_close(lb_sink **s, bool *kept);

#endif
