/* SPDX-License-Identifier: Apache-2.0 */
/* group.h: sums over queues of several devices of one kind, one of each, without the host: by NCCL
 * where NVIDIA's library is found at run time, else over links by a kernel. Both order themselves
 * like a kernel between barriers in each queue. */
#ifndef LB_DEVICE_GROUP_H
#define LB_DEVICE_GROUP_H

#include "device/device.h"

#define LB_DEV_GROUP_MAX 64u

typedef struct lb_dev_group lb_dev_group;

/* Of n queues, which outlive it; for up to max_elems f32. */
lb_status lb_dev_group_new(lb_dev_group **out, lb_dev_queue *const *queue, u32 n, u64 max_elems,
                           lb_err *err);
void lb_dev_group_free(lb_dev_group **g);
/* buf[i], of the i-th queue's device: each becomes the sum of all. */
lb_status lb_dev_group_sum(lb_dev_group *g, const lb_dev_arg *buf, u64 n_elems, lb_err *err);
/* buf[0] to all others. */
lb_status lb_dev_group_share(lb_dev_group *g, const lb_dev_arg *buf, u64 n_elems, lb_err *err);
bool lb_dev_group_has_nccl(const lb_dev_group *g);

#endif
