/* SPDX-License-Identifier: Apache-2.0 */
/* report.h: one HTML page about one or several models: sizes, types, errors, histograms.
 *
 * The page stands alone: style and plots (SVG) are in it, nothing is fetched, and its content
 * security policy forbids that. What files brought (names, metadata) is escaped text on it. It is
 * bounded whatever the models are: layers, roles and rows beyond a number are put together, and the
 * page says so. Figures are those of ops/inspect.h and ops/diff.h. The same input gives the same
 * bytes, for any number of threads and any budget. */
#ifndef LB_OPS_REPORT_H
#define LB_OPS_REPORT_H

#include "base/base.h"
#include "base/mem.h"
#include "kernel/kernel.h"
#include "tensor/source.h"

#define LB_REPORT_MODELS_MAX 16

typedef struct lb_report lb_report;

typedef struct lb_report_options {
    const lb_kernels *kernels;
    u32 n_threads;
    u64 memory_bytes; /* fewer threads rather than more than half of it */
    void (*progress)(void *user, u64 done_bytes, u64 total_bytes); /* may be NULL */
    void *user;
} lb_report_options;

/* Refuses what lb_report_write would refuse about the target, before anything is computed:
 * LB_E_USAGE where it exists (without force) or is or lies inside a model. */
lb_status lb_report_check(const lb_source *const *models, u32 n_models, const char *path,
                          bool force, lb_err *err);
/* Reads and computes what the page shows. The first model is the reference for errors. Everything
 * lives in the arena; the models must outlive it. A model that cannot be compared with the first is
 * shown without errors, and why stands on the page; other failures are returned. */
lb_status lb_report_run(lb_report **out, const lb_source *const *models, u32 n_models,
                        const lb_report_options *o, lb_arena *perm, lb_err *err);
/* Writes the page beside path, syncs (unless no_sync) and renames. */
typedef struct lb_report_target {
    const char *path;
    bool force, no_sync;
} lb_report_target;
lb_status lb_report_write(const lb_report *r, const lb_report_target *t, u64 *size_bytes,
                          lb_err *err);
/* What is plotted, and what `lbrx report --json` prints: every tensor, unlike the page. */
lb_status lb_report_json(const lb_report *r, const char *output, u64 size_bytes, lb_buf *out,
                         lb_err *err);

#endif
