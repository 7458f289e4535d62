/* SPDX-License-Identifier: Apache-2.0 */
/* metal.h: what the two files of the Metal implementation share: metal.c has the device, its
 * buffers and kernels, metal_queue.c what is submitted. */
#ifndef LB_DEVICE_METAL_H
#define LB_DEVICE_METAL_H

#include "device/backend.h"
#include "device/metal_api.h"

typedef struct lb_metal {
    lb_metal_api api;
    void *device;
    void *library;  /* NULL: not compiled yet */
    char why[256];  /* the kernels do not compile; empty: they do, or nobody tried */
    void *scratch;  /* a buffer that marks write */
    u64 buffer_max; /* bytes of the longest buffer */
    u64 own_bytes;  /* of all buffers but mapped ones */
    void *pipeline[LB_DEV_KERNEL_COUNT];  /* NULL: not made yet */
    u32 threads_max[LB_DEV_KERNEL_COUNT]; /* of a threadgroup of it */
} lb_metal;

/* The kernel's pipeline, made at its first use. LB_E_UNSUPPORTED carries the compiler's message. */
lb_status lb_metal_pipeline(lb_dev *d, lb_dev_kernel k, u32 n_threads, void **out, lb_err *err);
/* Where the buffer begins in its object, in bytes: a mapped one begins within a page. */
unsigned long lb_metal_lead(const lb_dev_buf *b);
/* All queues, whatever becomes of what they carry out. */
void lb_metal_drain(lb_dev *d);

lb_status lb_metal_queue_new(lb_dev_queue *q, lb_err *err);
void lb_metal_queue_free(lb_dev_queue *q);
lb_status lb_metal_write(lb_dev_queue *q, lb_dev_arg to, const void *from, u64 bytes, lb_err *err);
lb_status lb_metal_read(lb_dev_queue *q, void *to, lb_dev_arg from, u64 bytes, lb_err *err);
lb_status lb_metal_copy(lb_dev_queue *q, lb_dev_arg to, lb_dev_arg from, u64 bytes, lb_err *err);
lb_status lb_metal_launch(lb_dev_queue *q, const lb_dev_launch *l, const lb_dev_shape *s,
                          lb_err *err);
lb_status lb_metal_barrier(lb_dev_queue *q, lb_err *err);
lb_status lb_metal_wait(lb_dev_queue *q, lb_err *err);
lb_status lb_metal_event_new(lb_dev_event *e, lb_err *err);
void lb_metal_event_free(lb_dev_event *e);
lb_status lb_metal_event_record(lb_dev_event *e, lb_dev_queue *q, lb_err *err);
lb_status lb_metal_event_await(lb_dev_event *e, lb_dev_queue *q, lb_err *err);
lb_status lb_metal_event_us(lb_dev_event *from, lb_dev_event *to, double *t_us, lb_err *err);

#endif
