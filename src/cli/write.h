/* SPDX-License-Identifier: Apache-2.0 */
/* write.h: the options of every command that writes a model (CLI.md), and how such a command ends.
 */
#ifndef LB_CLI_WRITE_H
#define LB_CLI_WRITE_H

#include "cli/cli.h"
#include "io/progress.h"
#include "ops/output.h"

typedef struct lb_writing {
    const char *output;
    u32 to; /* index of "auto|hf|mlx|gguf|none" */
    u64 max_shard_bytes, max_shard_tensors;
    bool resume, dry_run, force, no_sync, no_provenance, sha256;
} lb_writing;

#define LB_WRITE_OPTS 10
extern const lb_opt lb_write_opts[LB_WRITE_OPTS];
#define LB_GROUP_WRITE(offset) \
    { .title = "Writing", .opts = lb_write_opts, .n = LB_WRITE_OPTS, .off = (offset) }

/* A running writer: kernels, progress, remarks. */
typedef struct lb_writer {
    lb_kernels kernels;
    lb_progress progress;
    lb_quant_device *encoder; /* of --device; NULL: none */
    lb_writer_opts opts;
    lb_buf remarks;
    u64 process_bytes; /* what the process held at the beginning beside the blocks of its heap */
} lb_writer;

/* Fills w->opts from the command line and limits the heap to what --memory leaves. LB_E_USAGE where
 * no output is named. */
lb_status lb_writer_begin(lb_writer *w, const lb_cli *cli, const lb_writing *o, lb_common *common,
                          const char *verb, lb_err *err);
/* The same of a command that quantizes: also on other devices than the CPU. */
lb_status lb_writer_begin_device(lb_writer *w, const lb_cli *cli, const lb_writing *o,
                                 lb_common *common, const char *verb, lb_err *err);
/* One line on stderr where kernels of the device were left out; unless quiet. */
void lb_quant_device_warn(const lb_quant_device *e, bool quiet);
/* Remarks to stderr, the plan or the report to the result. */
void lb_writer_end(lb_writer *w, lb_cli *cli, const lb_common *common, const lb_out_report *r,
                   const lb_buf *plan, lb_status st);

#endif
