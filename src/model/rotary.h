/* SPDX-License-Identifier: Apache-2.0 */
/* rotary.h: rotary positions: the angles of a position for each of a model's kinds of layers.
 *
 * Su et al. 2021; yarn: Peng et al. 2023 as ggml has it (ggml_rope_yarn_corr_dims); factors of
 * frequencies (llama3, longrope, proportional) come as tensors. Computed in double. */
#ifndef LB_MODEL_ROTARY_H
#define LB_MODEL_ROTARY_H

#include "model/params.h"

/* Of one kind of layers. */
typedef struct lb_rotary {
    u32 n_rot;
    double mscale;       /* on cosine and sine */
    const double *speed; /* [n_rot / 2] angle a position */
} lb_rotary;

/* n_ctx: positions that the session may have (longrope, dynamic). local:
 * of layers with rope of their own. */
typedef struct lb_rotary_in {
    const lb_params *p;
    const lb_mweights *w;
    u32 n_rot, n_ctx;
    bool local;
} lb_rotary_in;
/* speed is perm's. */
lb_status lb_rotary_init(lb_rotary *r, const lb_rotary_in *in, lb_arena *perm, lb_err *err);
/* Sessions turn positions alike where this is the same: 0, or the least n_ctx that turns them as
 * this one. */
u32 lb_rotary_ctx(const lb_params *p, const lb_mweights *w, u32 n_ctx);
/* cos, sin [n_rot / 2] of a position. */
void lb_rotary_angles(const lb_rotary *r, u32 pos, float *cos, float *sin);

#endif
