/* SPDX-License-Identifier: Apache-2.0 */
/* link.h: what goes from a queue of one device to a queue of another of the same kind.
 *
 * A copy comes after all that its source's queue has submitted so far and after all of the
 * target's; both queues go on behind it. No host waits: order is made by events, bytes go from
 * device to device where their link allows it and through a pinned buffer of the host where it does
 * not. */
#ifndef LB_DEVICE_LINK_H
#define LB_DEVICE_LINK_H

#include "device/device.h"

typedef struct lb_dev_link lb_dev_link;

/* For copies of up to max_bytes. The queues outlive it. LB_E_UNSUPPORTED: devices of two kinds, or
 * of a kind of which there is one. */
lb_status lb_dev_link_new(lb_dev_link **out, lb_dev_queue *from, lb_dev_queue *to, u64 max_bytes,
                          lb_err *err);
void lb_dev_link_free(lb_dev_link **l);
lb_status lb_dev_link_copy(lb_dev_link *l, lb_dev_arg to, lb_dev_arg from, u64 size_bytes,
                           lb_err *err);
/* Whether bytes go from device to device. */
bool lb_dev_link_is_direct(const lb_dev_link *l);

#endif
