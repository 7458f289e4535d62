/* SPDX-License-Identifier: Apache-2.0 */
/* device_inputs.c: inputs.c for a device. */
#include "model/device_layers.h"
#include <math.h>

/* (norm(product / root of n_embd) + row * root of its length) / root of 2 */
lb_status lb_device_inputs(const lb_context *c, lb_err *err) {
    const lb_resident *r = c->device->r;
    const lb_model *m = c->m;
    const u32 dim = m->layer_in_dim, n_layers = m->p.n_layers, n = n_layers * dim;
    const u32 stride = n + dim;
    const lb_dev_arg to = lb_dbuf_arg(c, LB_DBUF_INPUTS), rows = lb_dbuf_arg(c, LB_DBUF_TABLE);
    const lb_vec_args root = {
        .n_rows = c->n, .n_cols = n, .stride = stride, .times = 1 / sqrtf((float)m->p.n_embd)};
    const lb_vec_args blend = {.n_rows = c->n,
                               .n_cols = n,
                               .stride = stride,
                               .times = sqrtf((float)dim) * r->layer_embd.args.times,
                               .scale = sqrtf(0.5f),
                               .y_stride = n};
    LB_TRY(lb_drows(c, &r->layer_embd, lb_dmeta_arg(c, LB_DMETA_IDS), rows, err));
    LB_TRY(lb_dproject(
        c,
        &(lb_dproduct){
            &r->layer_in_proj, {.x = lb_dbuf_arg(c, LB_DBUF_X)}, {.y = to}, c->n, 0, stride},
        1, err));
    LB_TRY(lb_dlaunch(c, LB_DK_scale, (lb_dev_arg[]){to}, &root, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dnorm_heads(c, &r->layer_in_norm, &(lb_dheads){to, c->n, n_layers, dim, 0, stride},
                          err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dlaunch(c, LB_DK_residual, (lb_dev_arg[]){rows, to}, &blend, err));
    return lb_dbarrier(c, err);
}

lb_status lb_device_input(const lb_context *c, u32 layer, lb_err *err) {
    const lb_dlayer *l = &c->device->r->layer[layer];
    const u32 dim = c->m->layer_in_dim, n = c->m->p.n_layers * dim;
    const lb_dev_arg inputs = lb_dbuf_arg(c, LB_DBUF_INPUTS), act = lb_dbuf_arg(c, LB_DBUF_ACT);
    const lb_act_args a = {.n_rows = c->n,
                           .n_cols = dim,
                           .first = n,
                           .second = layer * dim,
                           .stride = n + dim,
                           .gated = 1};
    const lb_dproduct gate = {&l->in_gate, {.x = lb_dbuf_arg(c, LB_DBUF_X)}, {.y = inputs}, c->n, n,
                              n + dim};
    const lb_dproduct proj = {&l->in_proj, {.x = act}, {.y = lb_dbuf_arg(c, LB_DBUF_Y)},
                              c->n,        0,          c->m->p.n_embd};
    LB_TRY(lb_dproject(c, &gate, 1, err));
    LB_TRY(lb_dlaunch(c, LB_DK_act_gelu, (lb_dev_arg[]){inputs, act}, &a, err));
    LB_TRY(lb_dbarrier(c, err));
    return lb_dproject(c, &proj, 1, err);
}
