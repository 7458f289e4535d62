/* SPDX-License-Identifier: Apache-2.0 */
/* gpus.h: the devices that a model runs on: which there are, and what of it goes to each. */
#ifndef LB_CLI_GPUS_H
#define LB_CLI_GPUS_H

#include "cli/cli.h"
#include "model/resident.h"

typedef struct lb_gpu_opts {
    const char *layers;       /* "auto", "all", a number; NULL: not given, as auto */
    u32 split_mode;           /* index of "layer|row" */
    const char *tensor_split; /* "3,1"; NULL: by what is free */
    bool split_given;
    bool dry_run;
} lb_gpu_opts;

#define LB_GPU_OPTS 4
extern const lb_opt lb_gpu_rows[LB_GPU_OPTS];

typedef struct lb_gpus {
    lb_dev *dev[LB_DEV_LIST_MAX];
    u32 n;
    bool few;                      /* they are to be as few as do it */
    bool ranks;                    /* they share every layer */
    bool more;                     /* there are more that the user has not named */
    double share[LB_DEV_LIST_MAX]; /* [n] */
    bool shared;                   /* share is given */
    u32 n_layers;                  /* lb_resident_opts.n_layers */
    bool all_layers;               /* all or nothing */
    bool is_auto;                  /* nobody has named them: where they fail the CPU computes */
    u64 memory_bytes;              /* --device-memory */
    char text[256];                /* "cuda:0,cuda:1": those that have a part of the model */
} lb_gpus;

/* Those that the finished options name; none where the CPU computes. `auto` is the first kind of
 * which there are any; one that is there and cannot be opened is warned of, and the CPU computes.
 * LB_E_USAGE: options that do not go together. */
lb_status lb_gpus_open(lb_gpus *g, const lb_common *common, const lb_gpu_opts *o, lb_err *err);
void lb_gpus_close(lb_gpus *g);
/* Whether the CPU is to compute after a failure there: of devices that nobody has named. */
bool lb_gpus_may_fall_back(const lb_gpus *g, lb_status st);
/* Closes them, and says on one line why the CPU computes. */
void lb_gpus_fall_back(lb_gpus *g, bool quiet, const lb_err *why);
/* What was launched so far, against the CPU's references, two cases each. LB_E_DIFFERENT: a kernel
 * is wrong there; or why it does not run. */
lb_status lb_gpus_probe(lb_gpus *g, lb_err *err);
/* Puts m there, as far as it fits and the options say; *out NULL: nothing of it, the CPU computes,
 * and no device is open any more. session: for which there is to be room. */
lb_status lb_gpus_put(lb_gpus *g, lb_resident **out, const lb_model *m,
                      const lb_context_opts *session, const lb_common *common, lb_err *err);
/* What lies where, of a session that is made from these, as text or (--json) an object. Nothing is
 * copied. host_bytes: of all weights, as the CPU has them. */
lb_status lb_gpus_show(lb_gpus *g, lb_cli *cli, const lb_model *m, const lb_context_opts *session,
                       const lb_common *common, u64 host_bytes, lb_err *err);
/* gpus.c: the plan that lb_gpus_put carries out; placing.n_devices 0: the CPU has everything. */
lb_status lb_gpus_plan(lb_gpus *g, lb_resident_plan *plan, const lb_model *m,
                       const lb_context_opts *session, lb_err *err);
/* "cuda:0", "emulated" */
const char *lb_gpus_name(const lb_gpus *g, u32 i);
/* What a device has for a model: its free memory, or what the user gives; 0: not known. *budget: it
 * is the user's. */
u64 lb_gpus_memory(const lb_dev *d, bool *budget);

#endif
