/* SPDX-License-Identifier: Apache-2.0 */
/* device_parts.h: within model/: a model on several devices, or partly on the CPU (device_graph.h
 * has what a part is). */
#ifndef LB_MODEL_DEVICE_PARTS_H
#define LB_MODEL_DEVICE_PARTS_H

#include "model/device_graph.h"

/* Tokens of a batch where nobody says. LARGE: one device with all layers multiplies tiles of f16
 * and has memory to spare; an unpacked matrix serves more tokens then. USUAL: there is room; LEAST:
 * there is less. */
#define LB_DEV_BATCH_LARGE 4096u
#define LB_DEV_BATCH_USUAL 2048u
#define LB_DEV_BATCH_LEAST 256u

/* ---- device_parts.c ---- */

/* Layers [first, end) of m on d; its neighbours are the caller's. */
typedef struct lb_part_in {
    const lb_model *m;
    lb_dev *d;
    u32 first, end;
    u32 rank, n_ranks;            /* n_ranks 0: 1 */
    const lb_resident_opts *opts; /* NULL: the usual */
    u64 done, total;              /* bytes of earlier parts, of all: for progress */
} lb_part_in;

/* resident.c */
lb_status lb_resident_part(lb_resident **out, const lb_part_in *in, lb_err *err);
/* What the parts of m would take of d: [n_layers] of each layer, of all else. */
lb_status lb_resident_costs(const lb_model *m, lb_dev *d, u64 *layer_bytes,
                            lb_resident_bytes_of *out, lb_err *err);

/* Matrix k of a layer, as the part has it; NULL: it has no more. */
lb_dlinear *lb_resident_linear(const lb_resident *r, u32 layer, u32 k);
/* A copy of w, without a bias, beside the weights; all buffers behind the first n_bufs. Waits. */
lb_status lb_resident_put(lb_resident *r, const lb_mweight *w, lb_dlinear *out, lb_err *err);
void lb_resident_drop(lb_resident *r, u32 n_bufs);

/* device_context.c */
/* What a session like this one takes of devices: keys and values [n_layers], and of a device that
 * has all steps. */
typedef struct lb_device_way {
    const lb_model *m;
    lb_dev *d;
    u32 n_batch; /* where o does not say it */
    bool no_tiles;
    u64 sums_bytes;
} lb_device_way;
typedef struct lb_device_needs {
    u64 buffers; /* bytes */
    bool tiles;  /* products of prompts are of tiles */
} lb_device_needs;
lb_status lb_device_room(const lb_device_way *way, const lb_context_opts *o, u64 *layer_bytes,
                         lb_device_needs *out, lb_err *err);

/* Makes links between the parts of c, and what the host's layers need. */
lb_status lb_device_join(lb_context *c, lb_err *err);
/* The CPU's layers, and their results to the first part. */
lb_status lb_device_take_host(lb_context *c, lb_err *err);
/* The stream of c->n tokens goes to the next part, which is c->device from then on. */
lb_status lb_device_hand_on(lb_context *c, lb_err *err);
/* Until all parts are done; c->device is the first again. The first error. */
lb_status lb_device_settle(lb_context *c, lb_err *err);

/* ---- device_sums.c ---- */

/* Bytes of a matrix's place. */
u64 lb_dsums_bytes(const lb_dlinear *l);
/* Zeros, where the session adds up what products of c->device read. */
lb_status lb_dsums_begin(lb_context *c, lb_err *err);
/* Beside a product. per, routes: as of lb_dproject_routed; per 0: of one matrix. */
lb_status lb_dsums_add(const lb_context *c, const lb_dproduct *p, u32 per, lb_dev_arg routes,
                       lb_err *err);

/* ---- device_partial.c: as partial.h says of the CPU's sessions ---- */

/* LB_E_UNSUPPORTED: why not. */
lb_status lb_device_can_part(const lb_context *c, lb_err *err);
/* Of c->n tokens that have their places. */
lb_status lb_device_layers(lb_context *c, u32 first, u32 end, float *x, lb_err *err);
lb_status lb_device_head(lb_context *c, u32 n, const float *x, float *logits, lb_err *err);
/* c->swap stands for weights from now on. */
lb_status lb_device_swap(lb_context *c, lb_err *err);

/* ---- device_ranks.c ---- */

/* The group of c's ranks. */
lb_status lb_device_group(lb_context *c, lb_err *err);
/* All layers; the first rank has what goes into them, and at the end what comes out. */
lb_status lb_device_ranks(lb_context *c, lb_err *err);
/* LB_E_UNSUPPORTED: what of the layers from first on so many devices cannot share. */
lb_status lb_ranks_check(const lb_model *m, u32 first, u32 n_ranks, lb_err *err);
u64 lb_ff_unit(const lb_layer *l);

/* What c->device launches for a batch between its sums, one after the other. */
lb_status lb_device_rank_steps(lb_context *c, lb_err *err);

/* ---- device_flight.c: batches that are submitted while others are under way ---- */

/* Whether the batch of c->n tokens need not be waited for: nobody wants logits of it. */
bool lb_device_may_fly(const lb_context *c, const u8 *want);
/* Whether there are such. The caller's to wait for (lb_device_land), also after an error. */
bool lb_device_in_flight(const lb_context *c);
lb_status lb_device_land(lb_context *c, lb_err *err);
/* Memory of the host for the next batch, which no device reads any more: d->host. */
lb_status lb_device_next_host(lb_context *c, lb_err *err);
/* c->parts->host was submitted to be copied to `to`. */
lb_status lb_device_sent(const lb_context *c, lb_dcontext *to, lb_err *err);
void lb_device_flight_end(lb_dcontext *d);

/* device_forward.c */
/* All that c->device launches for a batch. */
lb_status lb_device_launches(lb_context *c, lb_err *err);

/* ---- device_try.c ---- */

/* Before a batch that is on all parts (lb_device_put_batch) is launched: those of its kernels that
 * are not known to be right are tried, and left out where they are not, with a warning to c->o.
 * LB_E_UNSUPPORTED: there is no other for one of them. Submits nothing of the batch. */
lb_status lb_device_try(lb_context *c, lb_err *err);
/* The same of n kernels of a device, or of all parts' (d NULL), for which there are others; whether
 * all of them can be used. */
bool lb_device_may(const lb_context *c, const lb_dcontext *d, const lb_dev_kernel *k, u32 n);

/* ---- device_record.c ---- */

typedef lb_status(lb_dlaunches)(lb_context *c, lb_err *err);
/* Runs launches, which submit kernels alone, or a recording of them. */
lb_status lb_device_replay(lb_context *c, lb_dlaunches *launches, lb_err *err);
void lb_device_forget(lb_dcontext *d);
/* The same of a rank's step, which has a place of its own; again: the batch before was alike. */
typedef lb_status(lb_dstep)(lb_context *c, u32 step, lb_err *err);
lb_status lb_device_replay_step(lb_context *c, lb_dstep *launches, u32 step, bool again,
                                lb_err *err);
/* Whether the batch is like the one before, of which nothing is recorded. */
bool lb_device_seen(lb_context *c);

#endif
