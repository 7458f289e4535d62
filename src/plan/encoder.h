/* SPDX-License-Identifier: Apache-2.0 */
/* encoder.h: quantizing on a device while a plan runs (device/encode.h has the kernels).
 *
 * Workers evaluate values as ever; those that a quantizer would take go into lanes instead: pinned
 * memory of the host with a place on the device and a queue of its own. A full lane is copied,
 * quantized and copied back by the encoder's thread, the only one that uses the device; its worker
 * then takes the result. Several lanes are under way at a time, so that copies, kernels and workers
 * overlap. The bytes are those of the CPU's quantizers: an encoder is not made for a device where
 * they would not be. So the CPU quantizes while the device is being opened, and what is quick there
 * while all lanes are under way. */
#ifndef LB_PLAN_ENCODER_H
#define LB_PLAN_ENCODER_H

#include "base/thread.h"
#include "device/device.h"
#include "plan/quant.h"

typedef struct lb_quant_device lb_quant_device;

/* Nothing is opened yet. threads: workers that will feed it; memory_bytes: the budget of the
 * process, of which lanes take a quarter at most, where that is two of them. LB_E_UNSUPPORTED: the
 * device's arithmetic is not the CPU's. */
lb_status lb_quant_device_new(lb_quant_device **out, const lb_dev_opts *dev, u32 threads,
                              u64 memory_bytes, lb_err *err);
/* Opens it, unless it is open. LB_E_LIMIT, LB_E_NOMEM: not even two lanes fit into its memory;
 * others of lb_dev_open. */
lb_status lb_quant_device_open(lb_quant_device *e, lb_err *err);
/* Begins to open it, unless it is open, and tests what was tried until now; it takes nothing
 * before. That it failed is lb_encoding_end's and the next function's to say. */
lb_status lb_quant_device_open_beside(lb_quant_device *e, lb_err *err);
/* Until it is open or could not be opened, which is what comes back. */
lb_status lb_quant_device_wait(lb_quant_device *e, lb_err *err);
/* No worker has anything open. */
void lb_quant_device_free(lb_quant_device **e);
/* What --device calls it: "cuda:0"; of the kernels as C, "emulated". */
const char *lb_quant_device_id(const lb_quant_device *e);
/* Memory of the host that is not in this process's heap, at most. */
u64 lb_quant_device_pinned_bytes(const lb_quant_device *e);
/* Before a run: whether the kernels that make what q makes are right, by their self-test, once
 * each; of a device that is not open, when it is. Those that are not are left out, and their values
 * are the CPU's. LB_E_IO: the device was lost. */
lb_status lb_quant_device_try(lb_quant_device *e, const lb_quant *q, lb_err *err);
/* Whether there are kernels for anything that was tried. */
bool lb_quant_device_has_any(const lb_quant_device *e);
/* What was left out, and why; NULL: nothing. */
const char *lb_quant_device_refusal(const lb_quant_device *e);
/* Whether it makes what q makes of a matrix of so many columns: once it is open, that does not
 * change. e may be NULL. */
bool lb_quant_device_takes(const lb_quant_device *e, const lb_quant *q, u64 n_cols);
/* Values of larger magnitude are the CPU's, of MLX's groups: their scales may not fit their type,
 * and the CPU counts those. */
float lb_quant_device_most(const lb_quant *q);
/* Batches and values that were quantized so far. */
typedef struct lb_quant_device_stats {
    u64 n_batches, n_elems;
} lb_quant_device_stats;
void lb_quant_device_stats_get(lb_quant_device *e, lb_quant_device_stats *out);

/* ---- of one worker ---- */

#define LB_ENCODING_MAX 8 /* outputs of a job: LB_ROOTS_MAX */
typedef struct lb_encoding {
    lb_quant_device *e;
    struct lb_lane *open[LB_ENCODING_MAX]; /* what is being filled */
    u32 pending;                           /* lanes that were handed over */
    lb_cond done;                          /* there are none of them any more */
} lb_encoding;

/* e may be NULL: then nothing else is called. */
void lb_encoding_init(lb_encoding *x, lb_quant_device *e);
void lb_encoding_deinit(lb_encoding *x);

/* Where values stand: in the output of a job, of a matrix of n_cols columns, from column col of a
 * row on; over a row's end the next one follows. */
typedef struct lb_encoding_at {
    u32 root;
    const lb_quant *q;
    lb_round in_type; /* of the values as they are handed over; blocks: f32 */
    u64 n_cols, col;
} lb_encoding_at;

/* n values, whole blocks or groups, all finite. out: where each part goes, until lb_encoding_end
 * returns. May wait for others; false: nothing was taken, since all lanes are under way and the CPU
 * is as soon done, or since the device has failed. */
bool lb_encoding_add(lb_encoding *x, lb_encoding_at at, u64 n, const void *in,
                     u8 *const out[LB_QUANT_PARTS]);
/* All that was added is where it belongs, or the device has failed. */
lb_status lb_encoding_end(lb_encoding *x, lb_err *err);

#endif
