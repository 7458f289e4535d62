/* SPDX-License-Identifier: Apache-2.0 */
/* load.h: an opened model, of whatever format, ready to run.
 *
 * Each tensor of the GGUF form is an expression over what is stored (assemble.h). Where that only
 * picks and orders rows of a type that has kernels, the matrix is used where the file is mapped:
 * nothing is read, nothing is copied. What must be computed (values stored otherwise, transposed
 * matrices, encodings without kernels, merges, adapters) is computed once by the engine into a
 * temporary file without a name, which is mapped like any other. */
#ifndef LB_OPS_LOAD_H
#define LB_OPS_LOAD_H

#include "model/model.h"
#include "plan/run.h"

typedef struct lb_load_opts {
    const lb_kernels *kernels;
    u32 threads;
    u64 memory_bytes;                    /* of buffers while something is computed */
    const char *temp_dir;                /* NULL: TMPDIR, else /tmp */
    bool (*stop)(void *);                /* may be NULL */
    void (*announce)(void *, u64 bytes); /* may be NULL: how much is computed, before it is */
    void (*progress)(void *, u64 done_bytes, u64 total_bytes); /* may be NULL */
    void *user;
} lb_load_opts;

typedef struct lb_loaded lb_loaded;

/* s outlives it. LB_E_UNSUPPORTED: what of the model cannot be run. */
lb_status lb_load(lb_loaded **out, const lb_source *s, const lb_load_opts *o, lb_err *err);
void lb_loaded_free(lb_loaded **l);
const lb_model *lb_loaded_model(const lb_loaded *l);
const char *lb_loaded_arch(const lb_loaded *l); /* as GGUF names it */
/* <arch>.* at least. */
const lb_gguf_meta *lb_loaded_meta(const lb_loaded *l);
const lb_mweights *lb_loaded_weights(const lb_loaded *l);
u64 lb_loaded_made_bytes(const lb_loaded *l);   /* of what was computed */
u64 lb_loaded_mapped_bytes(const lb_loaded *l); /* of the files that are mapped */

#endif
