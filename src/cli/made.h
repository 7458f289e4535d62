/* SPDX-License-Identifier: Apache-2.0 */
/* made.h: a model that is made before it runs (--type): converted and quantized into a folder that
 * is removed as soon as its files are mapped. */
#ifndef LB_CLI_MADE_H
#define LB_CLI_MADE_H

#include "cli/cli.h"
#include "kernel/kernel.h"

/* Where temporary files of models go: $TMPDIR, else the cache folder, which is made; else /tmp. In
 * the arena; NULL: out of memory. */
const char *lb_run_folder(lb_arena *arena);

typedef struct lb_made_model {
    lb_source *source; /* what was made; the caller's to close */
    const char *folder;
    int lock;
} lb_made_model;

/* type: as `lbrx quantize --type` has it. Says beforehand how large it will be. What runs that were
 * killed have left there is removed. */
lb_status lb_made_make(lb_made_model *m, lb_cli *cli, const lb_common *common,
                       const lb_kernels *kernels, const lb_source *from, const char *type,
                       lb_err *err);
/* The files are mapped, or not needed: they go. */
void lb_made_forget(lb_made_model *m);

#endif
