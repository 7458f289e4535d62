/* SPDX-License-Identifier: Apache-2.0 */
/* plan_kit.h: sources of any shape without any data (files of holes), plans over them, and what the
 * kernel says about this process. */
#ifndef LB_TESTS_PLAN_KIT_H
#define LB_TESTS_PLAN_KIT_H

#include "plan/run.h"
#include "plan/sink.h"

/* A file of size_bytes: holes, or with `random` bytes that depend on its name's length and the
 * test's random state. */
bool lb_kit_file(lb_source *s, const char *path, u64 size_bytes, bool random, u32 *file);
/* A tensor of rows x cols at *off and a plain weight over it; *off moves behind it. */
bool lb_kit_tensor(lb_source *s, u32 file, u64 *off, const char *name, lb_dtype t,
                   const u64 dim[2]);
u64 lb_kit_bytes(lb_dtype t, u64 rows, u64 cols);

/* One output file (or, with n_files > 1, a folder of files "out-0"...) holding every weight of the
 * source: a copy, or with `cast` values encoded as bf16. */
lb_plan *lb_kit_plan(const lb_source *s, bool cast, u32 n_files, lb_err *err);
/* Closes nothing: the plan is closed. out NULL: no sink. */
lb_status lb_kit_run(lb_plan *p, const char *out, const lb_sink_options *so,
                     const lb_run_options *ro, lb_run_report *rep, lb_err *err);

/* The same bytes? */
bool lb_kit_same_file(const char *a, const char *b);
u64 lb_kit_open_files(void); /* descriptors of this process; 0 if unknown */

/* Linux, of this process: bytes, 0 if unknown (other systems, sanitizers). */
u64 lb_kit_data_bytes(void); /* VmData + VmStk: what a limit on data counts */
u64 lb_kit_peak_rss(void);   /* VmHWM */
bool lb_kit_memory_known(void);
/* Under a sanitizer or an emulator: tests of many runs take fewer. */
bool lb_kit_slow(void);

#endif
