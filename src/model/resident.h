/* SPDX-License-Identifier: Apache-2.0 */
/* resident.h: a model's weights on a device, for sessions that are computed there
 * (lb_context_opts.resident).
 *
 * Made from the layers that model.c has bound, so families are described once, for every device.
 * Where the device reads the host's memory, matrices stay where they are mapped; else each is
 * copied once. A session's keys, values and activations are on the device too: of a batch only
 * tokens, positions and the wanted logits are copied. */
#ifndef LB_MODEL_RESIDENT_H
#define LB_MODEL_RESIDENT_H

#include "device/device.h"
#include "model/model.h"

typedef struct lb_resident lb_resident;

/* m and d outlive it; one thread uses d. LB_E_UNSUPPORTED: what of the model the device's kernels
 * cannot compute, by name, before anything is copied; LB_E_NOMEM, LB_E_LIMIT: the weights do not
 * fit. */
lb_status lb_resident_new(lb_resident **out, const lb_model *m, lb_dev *d, lb_err *err);
/* Sessions on it are freed before. */
void lb_resident_free(lb_resident **r);
/* What was copied, or would be. */
u64 lb_resident_bytes(const lb_resident *r);
const lb_dev_info *lb_resident_device(const lb_resident *r);

#endif
