/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.h: what a model holds, without decoding it: sums over its directory, hashes on request.
 */
#ifndef LB_OPS_INSPECT_H
#define LB_OPS_INSPECT_H

#include "base/base.h"
#include "base/mem.h"
#include "format/gguf_meta.h"
#include "io/json.h"
#include "tensor/source.h"

/* Arrays of metadata with more elements than this stand as {"type","length","sha256"}. */
#define LB_INSPECT_ARRAY_MAX 128

typedef struct lb_inspect_type {
    u64 n_tensors, n_elems, size_bytes;
} lb_inspect_type;

typedef struct lb_inspect {
    const lb_source *source;
    lb_str architecture; /* as GGUF names it where known, else what the config says; may be empty */
    /* Values of all weights: packed codes count as what they stand for; importance counts not. */
    u64 n_params;
    u64 size_bytes;                       /* of all tensors */
    lb_inspect_type type[LB_DTYPE_COUNT]; /* by storage type */
    const char (*sha256)[65];             /* [n_tensors] of the raw bytes; NULL: not asked for */
    const lb_json *config; /* folders: config.json; safetensors: __metadata__; NULL: none */
} lb_inspect;

/* Everything lives in the arena and in the source. */
lb_status lb_inspect_run(lb_inspect *out, const lb_source *s, lb_arena *perm, lb_err *err);
typedef struct lb_inspect_hash_options {
    u32 n_threads;
    u64 memory_bytes; /* fewer threads rather than more than half of it */
    void (*progress)(void *user, u64 done_bytes, u64 total_bytes); /* may be NULL */
    void *user;
} lb_inspect_hash_options;
/* SHA-256 of every tensor's bytes, read once, tensors in parallel; a MiB a thread. */
lb_status lb_inspect_hash(lb_inspect *out, const lb_inspect_hash_options *o, lb_arena *perm,
                          lb_err *err);

/* Bits a weight; 0 for a model without weights. */
double lb_inspect_bpw(const lb_inspect *i);

/* One value of GGUF metadata as JSON; a long array as its type, length and the SHA-256 of its
 * elements as a file stores them (a string: u64 length, bytes). */
void lb_inspect_kv(const lb_gguf_kv *kv, lb_buf *out);

/* The whole result as `lbrx inspect --json` prints it. */
lb_status lb_inspect_json(const lb_inspect *i, lb_buf *out, lb_err *err);

#endif
