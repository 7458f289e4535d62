/* SPDX-License-Identifier: Apache-2.0 */
/* resident.h: a model's weights on a device, for sessions that are computed there
 * (lb_context_opts.resident).
 *
 * Made from the layers that model.c has bound, so families are described once, for every device.
 * Where the device reads the host's memory, matrices stay where they are mapped; else each is
 * copied once. A session's keys, values and activations are on the device too: of a batch only
 * tokens, positions and the wanted logits are copied.
 *
 * Several devices have neighbouring layers each, and a batch goes from one to the next. Where not
 * all layers fit, the first ones stay with the CPU. */
#ifndef LB_MODEL_RESIDENT_H
#define LB_MODEL_RESIDENT_H

#include "device/device.h"
#include "model/model.h"
#include "model/placing.h"
#include "model/windows.h"

typedef struct lb_resident lb_resident;

/* m and d outlive it; one thread uses d. LB_E_UNSUPPORTED: what of the model the device's kernels
 * cannot compute, by name, before anything is copied; LB_E_NOMEM, LB_E_LIMIT: the weights do not
 * fit. */
lb_status lb_resident_new(lb_resident **out, const lb_model *m, lb_dev *d, lb_err *err);

typedef struct lb_resident_opts {
    lb_dev *const *devices; /* of one kind */
    u32 n_devices;
    const double *share;     /* [n_devices] proportions of a model; NULL: by what they have free */
    bool few;                /* as few of them as hold it */
    bool ranks;              /* all of them have an equal share of every layer */
    u32 n_layers;            /* on devices, the last ones; LB_NO_INDEX: as many as fit */
    lb_context_opts session; /* for which there is to be room; its threads read weights */
    lb_windows_progress_fn *progress; /* of bytes that are copied; may be NULL */
    void *progress_user;
} lb_resident_opts;

/* What lies where, in bytes. */
typedef struct lb_resident_bytes_of {
    u64 embeddings, output, shared; /* shared: of these two, on one device */
    u64 constants;                  /* of each part */
    u64 sums;                       /* of sessions that add up what products read */
} lb_resident_bytes_of;

typedef struct lb_resident_plan {
    lb_placing placing;
    u64 weights[LB_PLACES_MAX], kv[LB_PLACES_MAX], buffers; /* of a device; buffers of each */
    u64 host_weights, host_kv;
    bool ranks;    /* every device has layers from placing.n_host on, a share of each */
    u32 n_batch;   /* of sessions that do not say it */
    bool no_tiles; /* products of tiles find no room (device_tiles.c) */
    u64 all;       /* bytes of one device that would hold everything */
} lb_resident_plan;

/* Nothing is copied. placing.n_devices 0: not one layer fits. LB_E_UNSUPPORTED as below. */
lb_status lb_resident_plan_make(lb_resident_plan *out, const lb_model *m, const lb_resident_opts *o,
                                lb_err *err);
/* By the plan, which has layers on devices. */
lb_status lb_resident_new_planned(lb_resident **out, const lb_model *m, const lb_resident_opts *o,
                                  const lb_resident_plan *plan, lb_err *err);
/* Sessions on it are freed before. */
void lb_resident_free(lb_resident **r);
/* What was copied, of all parts. */
u64 lb_resident_bytes(const lb_resident *r);
/* The first device. */
const lb_dev_info *lb_resident_device(const lb_resident *r);

#endif
