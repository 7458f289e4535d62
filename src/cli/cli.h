/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h: what all commands share: the context, the options of every command that computes, the
 * table of commands. Commands are thin: they call ops/ and print. */
#ifndef LB_CLI_CLI_H
#define LB_CLI_CLI_H

#include "base/base.h"
#include "base/mem.h"
#include "cli/opt.h"
#include "device/device.h"
#include "io/json.h"
#include "io/progress.h"
#include "ops/moe_gates.h"
#include "tensor/source.h"

struct lb_cli {
    lb_arena arena; /* lives as long as the command */
    lb_buf
        out; /* the result, for stdout: written at the end, also when `run` reports a difference */
    u32 isa_mask; /* what LBRX_CPU leaves of lb_cpu_isa() */
    bool log;     /* LBRX_LOG */
    u64 start_us; /* of the program */
    const lb_command *const *commands;
    u32 n_commands;
};

/* Options of every command that computes; lies in a command's struct as a member of any name. */
typedef struct lb_common {
    u64 n_threads;           /* 0 until lb_common_finish: all cores the process may use */
    u64 memory_bytes;        /* hard limit of anonymous memory */
    const char *device;      /* as given: auto, cpu, cuda[:N], metal */
    u64 device_memory_bytes; /* of what is put there; 0: what it has free */
    u32 progress;            /* LB_PROGRESS_* */
    bool json, quiet;
    bool memory_given;    /* --memory is the user's */
    lb_dev_choice choice; /* what `device` says, from lb_common_finish on */
} lb_common;

/* Checks what a table cannot say (a device that this build does not have) and fills in n_threads.
 */
lb_status lb_common_finish(lb_common *c, lb_err *err);
/* The same for a command that computes on any device; lb_common_finish refuses all but the CPU. */
lb_status lb_common_finish_device(lb_common *c, lb_err *err);
/* And for one that may use several; what `auto` is, it finds by itself (gpus.h). */
lb_status lb_common_finish_devices(lb_common *c, lb_err *err);
/* LB_E_USAGE: what is said of a device's memory where the CPU computes. */
lb_status lb_common_check_cpu(const lb_common *c, lb_err *err);
/* The heap gets what --memory leaves beside what the process holds already, which is returned. */
u64 lb_cli_limit_heap(u64 memory_bytes);

/* lb_open, told to the log. What hf:// names and the cache lacks is fetched first, with progress as
 * the (finished) options say; NULL: nothing is fetched. */
/* Fetches a model that hf:// names and the cache lacks; all else is left alone. */
lb_status lb_cli_fetch_missing(const lb_common *common, const char *arg, lb_err *err);
lb_status lb_cli_open(const lb_cli *cli, const lb_common *common, lb_source **out, const char *arg,
                      lb_err *err);
/* What a mixture may use whose routers come from running its base. */
lb_moe_limits lb_cli_moe_limits(const lb_common *c);
/* Also merge files: for what makes a plan. */
lb_status lb_cli_open_planned(const lb_cli *cli, const lb_common *common, lb_source **out,
                              const char *arg, lb_err *err);
/* lb_open_any: importance matrices too. */
lb_status lb_cli_open_any(const lb_cli *cli, const lb_common *common, lb_source **out,
                          const char *arg, lb_err *err);
/* With LBRX_LOG one line "log: ..." on stderr; else nothing. */
void lb_cli_log(const lb_cli *cli, const char *fmt, ...) LB_PRINTF(2, 3);

#define LB_GROUP_COMMON(offset) \
    { .title = "Common options", .opts = lb_common_opts, .n = LB_COMMON_OPTS, .off = (offset) }
#define LB_COMMON_OPTS 7
extern const lb_opt lb_common_opts[LB_COMMON_OPTS];

#define LB_COMMAND(id) extern const lb_command lb_cmd_##id;
#include "cli/commands.def"
#undef LB_COMMAND

#endif
