/* SPDX-License-Identifier: Apache-2.0 */
/* backend.h: what one kind of device implements. device.c has checked all arguments and counts
 * memory; an implementation only carries out. */
#ifndef LB_DEVICE_BACKEND_H
#define LB_DEVICE_BACKEND_H

#include "base/mem.h"
#include "device/device.h"

struct lb_dev_buf {
    lb_dev *dev;
    lb_dev_buf *next, *prev; /* of all buffers of the device, or of a pool's list */
    u64 size_bytes;          /* as asked for */
    u64 room_bytes;          /* as allocated */
    lb_dev_place place;
    bool mapped;
    void *host;  /* NULL: not reached by the host */
    u64 address; /* the implementation's: an address of the device */
    void *impl;
    u64 used_at; /* number of the last submission that uses it */
};

struct lb_dev_queue {
    lb_dev *dev;
    lb_dev_queue *next;
    u64 pending_from; /* number of the first submission since the last wait; 0: none */
    lb_dev_graph *recording;
    void *impl;
};

struct lb_dev_event {
    lb_dev *dev;
    lb_dev_event *next;
    lb_dev_queue *queue; /* of the last mark; NULL: there is none, or it is gone */
    bool recorded;
    void *impl;
    u64 t_us; /* cpu */
};

typedef struct lb_dev_record {
    bool is_barrier;
    lb_dev_launch launch; /* val: see lb_dev_record_launch */
    lb_dev_shape shape;
    u8 val[LB_DEV_VAL_BYTES_MAX];
} lb_dev_record;

struct lb_dev_graph {
    lb_dev *dev;
    lb_dev_graph *next;
    lb_dev_record *rec; /* heap [n] */
    u32 n, cap;
    u64 used_at;
    void *impl;
};

typedef struct lb_dev_ops {
    u32 (*list)(lb_dev_info *out, u32 max, lb_err *why);
    lb_status (*open)(lb_dev *d, lb_err *err); /* fills d->info and d->impl */
    void (*close)(lb_dev *d);                  /* also after an open that failed half-way */
    lb_status (*buf_new)(lb_dev_buf *b, lb_err *err);
    lb_status (*buf_map)(lb_dev_buf *b, const void *base, lb_err *err);
    void (*buf_free)(lb_dev_buf *b);
    lb_status (*queue_new)(lb_dev_queue *q, lb_err *err);
    void (*queue_free)(lb_dev_queue *q);
    lb_status (*write)(lb_dev_queue *q, lb_dev_arg to, const void *from, u64 bytes, lb_err *err);
    lb_status (*read)(lb_dev_queue *q, void *to, lb_dev_arg from, u64 bytes, lb_err *err);
    lb_status (*copy)(lb_dev_queue *q, lb_dev_arg to, lb_dev_arg from, u64 bytes, lb_err *err);
    /* Makes copies between two devices ready; NULL: the kind has one. */
    lb_status (*peer)(lb_dev *to, lb_dev *from, bool *direct, lb_err *err);
    lb_status (*copy_peer)(lb_dev_queue *q, lb_dev_arg to, lb_dev_arg from, u64 bytes, lb_err *err);
    lb_status (*launch)(lb_dev_queue *q, const lb_dev_launch *l, const lb_dev_shape *s,
                        lb_err *err);
    lb_status (*barrier)(lb_dev_queue *q, lb_err *err);
    lb_status (*wait)(lb_dev_queue *q, lb_err *err);
    /* what the implementation makes of a recording; NULL: its launches one by one */
    lb_status (*graph_new)(lb_dev_graph *g, lb_err *err);
    lb_status (*graph_run)(lb_dev_queue *q, lb_dev_graph *g, lb_err *err);
    void (*graph_free)(lb_dev_graph *g);
    lb_status (*event_new)(lb_dev_event *e, lb_err *err);
    void (*event_free)(lb_dev_event *e);
    lb_status (*event_record)(lb_dev_event *e, lb_dev_queue *q, lb_err *err);
    lb_status (*event_await)(lb_dev_event *e, lb_dev_queue *q, lb_err *err);
    /* NULL: all of the queue is waited for that was marked */
    lb_status (*event_wait)(lb_dev_event *e, lb_err *err);
    lb_status (*event_us)(lb_dev_event *from, lb_dev_event *to, double *t_us, lb_err *err);
} lb_dev_ops;

extern const lb_dev_ops lb_dev_ops_cpu, lb_dev_ops_cuda, lb_dev_ops_metal;

/* Of a kernel: nothing is known; its self-test has passed; it is not used any more. */
enum { LB_PROOF_NONE, LB_PROOF_RIGHT, LB_PROOF_REFUSED };

struct lb_dev {
    const lb_dev_ops *ops;
    lb_dev_info info;
    lb_dev_opts opts;
    lb_dev_stats stats;
    lb_dev_buf *bufs; /* in use */
    lb_dev_buf *pool; /* free, the last freed first */
    lb_dev_queue *queues;
    lb_dev_event *events;
    lb_dev_graph *graphs;
    u64 submissions;
    bool launched[LB_DEV_KERNEL_COUNT];
    u8 proof[LB_DEV_KERNEL_COUNT]; /* LB_PROOF_* */
    char refusal[256];             /* of the first kernel that was refused, why */
    u64 host_bytes;                /* of stats.used_bytes, those of pinned memory */
    char lost[256];                /* how the device was lost; empty: it was not */
    void *impl;
};

/* LB_E_IO where the device was lost. */
lb_status lb_dev_alive(const lb_dev *d, lb_err *err);
/* A submission of q that uses a and b (NULL: fewer). */
void lb_dev_submitted(lb_dev_queue *q, lb_dev_buf *a, lb_dev_buf *b);

/* graph.c: a launch, or a barrier (l NULL); a launch as it was. */
lb_status lb_dev_graph_add(lb_dev_graph *g, const lb_dev_launch *l, const lb_dev_shape *s,
                           lb_err *err);
lb_dev_launch lb_dev_record_launch(const lb_dev_record *r);

/* pool.c */
lb_status lb_dev_pool_take(lb_dev *d, lb_dev_place place, u64 size_bytes, lb_dev_buf **out,
                           lb_err *err);
void lb_dev_pool_give(lb_dev_buf *b);
void lb_dev_buf_link(lb_dev_buf **list, lb_dev_buf *b);
void lb_dev_buf_unlink(lb_dev_buf **list, lb_dev_buf *b);
/* Waits for every queue that may still use what submission `used_at` used. */
lb_status lb_dev_settle(lb_dev *d, u64 used_at, lb_err *err);

#endif
