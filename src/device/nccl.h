/* SPDX-License-Identifier: Apache-2.0 */
/* nccl.h: NVIDIA's collectives over several GPUs of one process, opened at run time (libnccl.so.2).
 * Names and numbers are those of nccl.h, which its second version keeps. */
#ifndef LB_DEVICE_NCCL_H
#define LB_DEVICE_NCCL_H

#include "device/device.h"

typedef struct lb_nccl lb_nccl;

/* Of n queues of as many GPUs. LB_E_NOT_FOUND: there is no NCCL; LB_E_UNSUPPORTED: it does not
 * start for these. */
lb_status lb_nccl_new(lb_nccl **out, lb_dev_queue *const *queue, u32 n, lb_err *err);
void lb_nccl_free(lb_nccl **n);
/* buf[i] of the i-th queue's GPU becomes the sum of all; n_elems f32. */
lb_status lb_nccl_sum(lb_nccl *n, const lb_dev_arg *buf, u64 n_elems, lb_err *err);

#endif
