/* SPDX-License-Identifier: Apache-2.0 */
/* device_parts.h: within model/: a model in parts, on several devices or partly on the CPU, and
 * recordings of what is launched for one. */
#ifndef LB_MODEL_DEVICE_PARTS_H
#define LB_MODEL_DEVICE_PARTS_H

#include "model/device_graph.h"

/* Layers [first, end) of m on d; its neighbours are the caller's. */
typedef struct lb_part_in {
    const lb_model *m;
    lb_dev *d;
    u32 first, end;
    const lb_resident_opts *opts; /* NULL: the usual */
    u64 done, total;              /* bytes of earlier parts, of all: for progress */
} lb_part_in;

/* resident.c */
lb_status lb_resident_part(lb_resident **out, const lb_part_in *in, lb_err *err);
/* What the parts of m would take of d: [n_layers] of each layer, of all else. */
lb_status lb_resident_costs(const lb_model *m, lb_dev *d, u64 *layer_bytes,
                            lb_resident_bytes_of *out, lb_err *err);

/* Makes links between the parts of c, and what the host's layers need. */
lb_status lb_device_join(lb_context *c, lb_err *err);
/* The CPU's layers, and their results to the first part. */
lb_status lb_device_take_host(lb_context *c, lb_err *err);
/* The stream of c->n tokens goes to the next part, which is c->device from then on. */
lb_status lb_device_hand_on(lb_context *c, lb_err *err);
/* Until all parts are done; c->device is the first again. The first error. */
lb_status lb_device_settle(lb_context *c, lb_err *err);

/* ---- device_record.c ---- */

typedef lb_status(lb_dlaunches)(lb_context *c, lb_err *err);
/* Runs launches, which submit kernels alone, or a recording of them. */
lb_status lb_device_replay(lb_context *c, lb_dlaunches *launches, lb_err *err);
void lb_device_forget(lb_dcontext *d);

#endif
