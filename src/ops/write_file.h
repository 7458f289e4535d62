/* SPDX-License-Identifier: Apache-2.0 */
/* write_file.h: one file that is no model, written as models are: beside its name, and renamed when
 * it is complete. */
#ifndef LB_OPS_WRITE_FILE_H
#define LB_OPS_WRITE_FILE_H

#include "plan/sink.h"
#include "tensor/source.h"

typedef struct lb_write_target {
    const char *path;
    bool force, no_sync;
    const lb_source *const *inputs; /* [n_inputs] that it must not replace */
    u32 n_inputs;
} lb_write_target;

/* What lb_write_file would refuse of the target: before any work. */
lb_status lb_write_check(const lb_write_target *t, lb_err *err);
/* LB_E_USAGE where the file exists (without force) or is an input. */
lb_status lb_write_file(const lb_write_target *t, lb_sink_make make, void *ctx, lb_err *err);

#endif
