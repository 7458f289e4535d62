/* SPDX-License-Identifier: Apache-2.0 */
/* placing.h: which layers of a model lie where: the first ones on the CPU, if not all fit, the
 * others on the devices, each of which has neighbours of its own. Arithmetic alone.
 *
 * What the embeddings take lies with the first layer, what the output takes on the last device. */
#ifndef LB_MODEL_PLACING_H
#define LB_MODEL_PLACING_H

#include "arch/arch.h"

#define LB_PLACES_MAX 64u

typedef struct lb_placing_in {
    u32 n_layers, n_devices;
    const u64 *layer_bytes; /* [n_layers] with their keys and values */
    const u8 *whole;        /* [n_layers] layer i needs what layer i - 1 has: no border before it */
    u64 first_bytes, last_bytes; /* of the embeddings, of the output */
    u64 both_bytes;              /* what these two share where they are on one device */
    u64 fixed_bytes;             /* on each device: a session's buffers */
    const u64 *free_bytes;       /* [n_devices] 0: not known, without a limit */
    const double *share;         /* [n_devices] proportions; NULL: of what is free */
    bool few;                    /* as few devices as do it; else all of them */
    u32 n_wanted;                /* layers on devices, and what they need of those before;
                                    LB_NO_INDEX: as many as fit */
} lb_placing_in;

typedef struct lb_placing {
    u32 n_host;               /* layers [0, n_host) are the CPU's */
    u32 n_devices;            /* that have some; 0: what is wanted does not fit */
    u32 end[LB_PLACES_MAX];   /* device i has the layers up to it */
    u64 bytes[LB_PLACES_MAX]; /* of each, all included */
} lb_placing;

/* Where the largest part of a device's share is as small as it can be. LB_E_NOMEM. */
lb_status lb_place(const lb_placing_in *in, lb_placing *out, lb_err *err);

#endif
