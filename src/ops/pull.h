/* SPDX-License-Identifier: Apache-2.0 */
/* pull.h: a model of the hub into the local cache, laid out as huggingface_hub 1.x keeps it:
 *   CACHE/models--OWNER--NAME/blobs/ETAG             a file's bytes; ETAG.incomplete until they are
 * all there CACHE/models--OWNER--NAME/snapshots/COMMIT/PATH  links to them
 *   CACHE/models--OWNER--NAME/refs/REVISION          the commit; written when the snapshot is
 * complete CACHE/.locks/models--OWNER--NAME/ETAG.lock       held while a file is fetched, as the
 * hub's tools do
 *
 * Asked of the hub (HF_ENDPOINT, with lb_hub_token): /api/models/ID/revision/REVISION
 * with ?blobs=true (where it lists no files, /api/models/ID/tree/COMMIT), and
 * ID/resolve/COMMIT/PATH for each file. A file whose name is its SHA-256
 * (large files) or git's SHA-1 (small ones) is checked against it before it gets its name. What the
 * hub asks to wait (429, Retry-After) is waited for, up to ten minutes. */
#ifndef LB_OPS_PULL_H
#define LB_OPS_PULL_H

#include "ops/hub.h"

#define LB_PULL_CONNECTIONS 4 /* unless said otherwise */

typedef struct lb_pull_opts {
    const char *revision;                        /* NULL: that of the name, else main */
    const char *const *include, *const *exclude; /* patterns as in a shell, of paths */
    u32 n_include, n_exclude;
    bool all;       /* also weights in a second form (see lb_pull_file.skipped) */
    bool one_model; /* refuse a repository of GGUF files of which none is named */
    bool dry_run;
    u32 connections;                                               /* files at a time; 0: 1 */
    void (*progress)(void *user, u64 done_bytes, u64 total_bytes); /* any thread; may be NULL */
    void (*note)(void *user, const char *text); /* why it waits; any thread; may be NULL */
    void *user;
} lb_pull_opts;

/* What a file is checked by before it gets its name: its name on the hub where that is a sum, else
 * its size alone. */
typedef enum lb_pull_sum { LB_PULL_SIZE, LB_PULL_SHA1, LB_PULL_SHA256 } lb_pull_sum;

typedef struct lb_pull_file {
    lb_str path;    /* inside the model */
    lb_str etag;    /* name of its blob; empty until the hub was asked */
    u64 size_bytes; /* UINT64_MAX: the hub did not say */
    bool skipped;   /* not asked for; or, unless `all`, weights beside safetensors files that hold
                       the same (PyTorch, TensorFlow, ONNX..., consolidated, original/) */
    bool present;   /* was there already */
} lb_pull_file;

typedef struct lb_pull_result {
    lb_str id, revision, commit;
    const char *path; /* the snapshot's folder */
    lb_pull_file *files;
    u64 n_files, n_skipped, n_present;
    u64 n_unsummed;    /* of those not skipped: checked by their size alone */
    u64 total_bytes;   /* of those not skipped */
    u64 fetched_bytes; /* came over the network */
} lb_pull_result;

lb_pull_sum lb_pull_sum_of(const lb_pull_file *f);

/* Everything of the result lies in the arena. What was fetched stays, also after an error: the next
 * call goes on from there. LB_E_NOT_FOUND: no such model, revision or file, or no access to it;
 * LB_E_IO: the hub cannot be reached; LB_E_LIMIT: the disk is too small; LB_E_FORMAT: an answer
 * that makes no sense, or bytes that are not the file's. */
lb_status lb_pull(const char *arg, const lb_pull_opts *o, lb_arena *arena, lb_pull_result *out,
                  lb_err *err);

#endif
