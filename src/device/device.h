/* SPDX-License-Identifier: Apache-2.0 */
/* device.h: where arithmetic can run: the CPU, NVIDIA GPUs, Apple's, behind one narrow interface.
 *
 * A device has buffers (its own memory, memory of the host that it reaches, or pages of a mapped
 * file) and queues. A queue carries out copies and kernels in their order of submission, later;
 * lb_dev_queue_wait is when the host may look. Kernels that are submitted one after the other
 * without lb_dev_queue_barrier between them may run at the same time or in any order; copies come
 * after all before them and before all after them. Kernels are those of kernels.def; their
 * arguments are checked against the buffers before anything is submitted, so a wrong launch is an
 * error and no access beyond a buffer.
 *
 * Freed buffers stay in a pool and are used again (counted in lb_dev_stats). One thread uses a
 * device and all that belongs to it. Errors: LB_E_NOT_FOUND no such device or no driver,
 * LB_E_UNSUPPORTED what the device or its driver cannot do, LB_E_NOMEM the device's memory is out,
 * LB_E_LIMIT the budget is, LB_E_IO the device was lost: then every later call says so and nothing
 * but closing helps; LB_E_USAGE a call that is wrong. */
#ifndef LB_DEVICE_DEVICE_H
#define LB_DEVICE_DEVICE_H

#include "base/base.h"
#include "device/kernels.h"
#include "device/tuning.h"

typedef enum lb_dev_kind { LB_DEV_CPU, LB_DEV_CUDA, LB_DEV_METAL, LB_DEV_KINDS } lb_dev_kind;

/* "cpu", "cuda", "metal" */
const char *lb_dev_kind_name(lb_dev_kind kind);

typedef struct lb_dev_info {
    lb_dev_kind kind;
    u32 index;             /* among those of its kind */
    char id[16];           /* "cpu", "cuda:0", "metal": what --device takes */
    char name[128];        /* of the model */
    char generation[64];   /* "compute capability 9.0", "M4, Apple9", the CPU's features */
    char driver[32];       /* its version; empty: none */
    u64 memory_bytes;      /* of the device; Metal: that it may use */
    u64 free_bytes;        /* when it was asked; 0: not known */
    u32 n_units;           /* multiprocessors, cores; 0: not known */
    u32 simd_threads;      /* that run in step: 32 */
    u32 threads_max;       /* of a threadgroup */
    u32 shared_bytes_max;  /* memory of a threadgroup without asking for more */
    u32 shared_bytes_most; /* with asking; 0: not known */
    bool unified;          /* the host's memory is the device's */
    bool maps_files;       /* lb_dev_buf_map works */
    lb_dev_tuning tuning;
} lb_dev_info;

/* All devices of a kind, the first max of them; returns how many there are. why (may be NULL): set
 * where there are none, to the reason: no driver, too old a driver. */
u32 lb_dev_list(lb_dev_kind kind, lb_dev_info *out, u32 max, lb_err *why);

/* ---- what --device names ---- */

#define LB_DEV_LIST_MAX 64u

typedef struct lb_dev_choice {
    bool is_auto;
    bool emulated; /* the devices' kernels as C on the CPU, for tests */
    lb_dev_kind kind;
    u32 index;                 /* of the first */
    u32 n;                     /* that are named by their numbers or as a list; 0: the kind is */
    u32 list[LB_DEV_LIST_MAX]; /* [n] */
} lb_dev_choice;

/* "auto", "cpu", "cuda", "cuda:N", "metal", "emulated", or several as "cuda:0,cuda:1" (of one kind,
 * each once; "emulated,emulated" are two). LB_E_USAGE: none of them. Looks for no device. */
lb_status lb_dev_choice_parse(const char *text, lb_dev_choice *out, lb_err *err);

/* ---- devices ---- */

typedef struct lb_dev lb_dev;
typedef struct lb_dev_buf lb_dev_buf;
typedef struct lb_dev_queue lb_dev_queue;
typedef struct lb_dev_event lb_dev_event;

typedef struct lb_dev_opts {
    lb_dev_kind kind;
    u32 index;
    u64 memory_bytes; /* budget: buffers in use and in the pool, mapped ones and, where the device
                         has memory of its own, the host's not; 0: none */
    bool exact;   /* no pool, no rounding of sizes: a sanitizer sees what reaches beyond a buffer */
    u32 schedule; /* cpu: in which order threads run, LB_FIBER_FORWARD .. (cpu_fiber.h) */
} lb_dev_opts;

typedef struct lb_dev_stats {
    u64 allocations; /* buffers made by the driver */
    u64 reuses;      /* buffers taken from the pool */
    u64 used_bytes, pool_bytes, peak_bytes;
    u64 launches, copies, graphs;
} lb_dev_stats;

lb_status lb_dev_open(lb_dev **out, const lb_dev_opts *opts, lb_err *err);
/* Waits for its queues; frees all that belongs to it. NULL and *d NULL are fine. */
void lb_dev_close(lb_dev **d);
const lb_dev_info *lb_dev_info_get(const lb_dev *d);
/* Whether the device has what a kernel needs (lb_dev_needs), and it has not been refused. */
bool lb_dev_has(const lb_dev *d, lb_dev_kernel k);
/* From now on the device does not have it: it does not compile there, is not launched or is wrong.
 * Launches are LB_E_UNSUPPORTED and say why, as it was said of the first one. selftest.h looks. */
void lb_dev_refuse(lb_dev *d, lb_dev_kernel k, const char *why);
/* Whether it has been launched there, or recorded. */
bool lb_dev_launched(const lb_dev *d, lb_dev_kernel k);
/* How a product by k, an mt_* or mte_*, of a's rows, columns and tokens is shared out: simdgroups,
 * split, per, parts. alone: no other one that has the same join (lb_dev_mt_join_bytes, counters of
 * zeros) runs beside it; else parts is 1, and join is not touched. */
void lb_dev_mt_share(const lb_dev_info *d, lb_dev_kernel k, bool alone, lb_mv_args *a);
u64 lb_dev_mt_join_bytes(u32 n_rows, u32 n_tokens, u32 parts);
/* By how many gemm shares a's columns, so that all units have something where rows and tokens are
 * few; bytes of its join, 0 where nothing is shared; the most that any so shared out has. */
u32 lb_dev_gemm_parts(const lb_dev_info *d, const lb_gemm_args *a);
u64 lb_dev_gemm_join_bytes(const lb_gemm_args *a);
u64 lb_dev_gemm_join_most(const lb_dev_info *d);
void lb_dev_stats_get(const lb_dev *d, lb_dev_stats *out);
u64 lb_dev_budget(const lb_dev *d); /* lb_dev_opts.memory_bytes; 0: none */

/* ---- buffers: at least 256-byte aligned, mapped ones as the file's pages ---- */

typedef enum lb_dev_place {
    LB_DEV_OWN, /* the device's memory, reached by copies alone unless it is unified */
    LB_DEV_HOST /* the host's, pinned: both reach it, copies from it are fast and asynchronous */
} lb_dev_place;

lb_status lb_dev_buf_new(lb_dev *d, lb_dev_place place, u64 size_bytes, lb_dev_buf **out,
                         lb_err *err);
/* The mapped pages of a file (base/mapped.h) as a buffer that kernels read, without a copy; base
 * stays mapped until it is freed, off and size need no alignment beyond a kernel's. Kernels may not
 * write it. LB_E_UNSUPPORTED: the device cannot (maps_files); then copy. */
lb_status lb_dev_buf_map(lb_dev *d, const void *base, u64 size_bytes, lb_dev_buf **out,
                         lb_err *err);
/* What still uses it on a queue is waited for when its memory is used again. *b becomes NULL. */
void lb_dev_buf_free(lb_dev_buf **b);
/* Drops what the pool keeps. */
void lb_dev_pool_trim(lb_dev *d);
u64 lb_dev_buf_bytes(const lb_dev_buf *b);
/* Where the host reads and writes it, NULL for the device's own memory. */
void *lb_dev_buf_host(lb_dev_buf *b);

/* ---- queues ---- */

lb_status lb_dev_queue_new(lb_dev *d, lb_dev_queue **out, lb_err *err);
void lb_dev_queue_free(lb_dev_queue **q); /* waits */
/* Copies; ranges are checked. from and to on the host stay valid until a wait. */
lb_status lb_dev_queue_write(lb_dev_queue *q, lb_dev_buf *to, u64 off_bytes, const void *from,
                             u64 size_bytes, lb_err *err);
lb_status lb_dev_queue_read(lb_dev_queue *q, void *to, lb_dev_buf *from, u64 off_bytes,
                            u64 size_bytes, lb_err *err);

typedef struct lb_dev_arg {
    lb_dev_buf *buf;
    u64 off_bytes; /* a multiple of LB_DEV_ALIGN */
} lb_dev_arg;

/* Not overlapping within one buffer. */
lb_status lb_dev_queue_copy(lb_dev_queue *q, lb_dev_arg to, lb_dev_arg from, u64 size_bytes,
                            lb_err *err);

/* From another device of q's kind to q's own. Its order to the other device's queues is the
 * caller's: events (link.h does all of it). *direct (may be NULL): not through the host's memory.
 * LB_E_UNSUPPORTED: between these two there is no copy. */
lb_status lb_dev_peer(lb_dev *to, lb_dev *from, bool *direct, lb_err *err);
lb_status lb_dev_queue_copy_peer(lb_dev_queue *q, lb_dev_arg to, lb_dev_arg from, u64 size_bytes,
                                 lb_err *err);

typedef struct lb_dev_launch {
    lb_dev_kernel kernel;
    lb_dev_arg buf[LB_DEV_BUFS_MAX]; /* in the order of the signature */
    u32 n_bufs;
    const void *val; /* the family's struct of args.h, copied */
    u32 val_bytes;
} lb_dev_launch;

/* LB_E_USAGE names the kernel and the argument: count, kind, size, range, alignment, a written
 * buffer that overlaps another argument. */
lb_status lb_dev_queue_launch(lb_dev_queue *q, const lb_dev_launch *l, lb_err *err);
/* What comes after sees what kernels before have written. */
lb_status lb_dev_queue_barrier(lb_dev_queue *q, lb_err *err);
/* Until all of the queue is done. */
lb_status lb_dev_queue_wait(lb_dev_queue *q, lb_err *err);

/* ---- recordings: launches that are submitted again and again as they are ---- */

typedef struct lb_dev_graph lb_dev_graph;

/* From here on launches and barriers of the queue are checked and kept, not submitted; copies,
 * waits and marks are LB_E_USAGE. */
lb_status lb_dev_graph_begin(lb_dev_queue *q, lb_err *err);
/* Buffers that it names must live as long as it is used. After an error nothing is left of it. */
lb_status lb_dev_graph_end(lb_dev_queue *q, lb_dev_graph **out, lb_err *err);
/* Drops what was recorded; fine where nothing is. */
void lb_dev_graph_cancel(lb_dev_queue *q);
/* Submits all of it, as a whole where the device can: kernels between two barriers side by side. */
lb_status lb_dev_graph_run(lb_dev_queue *q, lb_dev_graph *g, lb_err *err);
void lb_dev_graph_free(lb_dev_graph **g); /* waits for what uses it */
/* The same kernels with the same arguments. */
bool lb_dev_graph_equal(const lb_dev_graph *a, const lb_dev_graph *b);

/* ---- events: marks in queues, for order between queues and for times ---- */

lb_status lb_dev_event_new(lb_dev *d, lb_dev_event **out, lb_err *err);
void lb_dev_event_free(lb_dev_event **e);
/* Marks what is submitted so far. */
lb_status lb_dev_event_record(lb_dev_event *e, lb_dev_queue *q, lb_err *err);
/* What is submitted to q from here on comes after the mark; q may be of another device of the
 * kind. */
lb_status lb_dev_event_await(lb_dev_event *e, lb_dev_queue *q, lb_err *err);
/* Until the device has come to the mark: what is behind it goes on. */
lb_status lb_dev_event_wait(lb_dev_event *e, lb_err *err);
/* Time of the device between two marks, both of which are waited for. */
lb_status lb_dev_event_us(lb_dev_event *from, lb_dev_event *to, double *t_us, lb_err *err);

#endif
