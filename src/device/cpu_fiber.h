/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_fiber.h: runs one threadgroup of a kernel on one thread of the CPU: each of its threads is a
 * fiber with a stack of its own, and all meet at barriers and simdgroup operations as on a GPU.
 *
 * For tests and the self-test, not for speed (a switch costs about 10 ns, a product of 200 rows of
 * 2,048 columns milliseconds). What a GPU leaves undefined is an error here: a barrier that not all
 * threads reach, a simdgroup operation in divergent flow, more memory than a threadgroup has.
 * Memory of the threadgroup holds NaN at first. The order in which threads run between two barriers
 * is the schedule's: a result that depends on it is a missing barrier. */
#ifndef LB_DEVICE_CPU_FIBER_H
#define LB_DEVICE_CPU_FIBER_H

#include "base/base.h"

#define LB_FIBER_THREADS_MAX 512u
#define LB_FIBER_SIMD 32u
#define LB_FIBER_SHARED_BYTES 32768u
#define LB_FIBER_SHARED_MOST 232448u /* of kernels that ask for more than every device has */
#define LB_FIBER_STACK_BYTES 65536u
#define LB_FIBER_WORDS 6u /* that a lane brings at most */

/* Threads run forward, backward, or in a random order of this number with one simdgroup ahead. */
#define LB_FIBER_FORWARD 0u
#define LB_FIBER_BACKWARD 1u

typedef struct lb_fibers lb_fibers;

typedef enum lb_fiber_op { LB_FIBER_SUM, LB_FIBER_MAX, LB_FIBER_BARRIER } lb_fiber_op;
typedef enum lb_fiber_state { LB_FIBER_RUNS, LB_FIBER_WAITS, LB_FIBER_DONE } lb_fiber_state;

typedef struct lb_fiber {
    lb_fibers *all;
    void *sp;
    u32 group[3], thread;
    u32 shared_bytes; /* of the threadgroup's memory, as this thread has come to it */
    lb_fiber_state state;
    lb_fiber_op op; /* where it waits */
    int line;       /* in the kernel's text */
    float value;    /* what it brought to a simdgroup operation, what it takes from it */
    u32 turn;       /* of the two places for what it brings */
#if defined(__SANITIZE_ADDRESS__)
    void *fake_stack;
#endif
} lb_fiber;

/* A kernel as C11: args[i] points to the buffer or to the values; one character an argument: i (a
 * buffer that is read), o (written), v (values, of val_bytes). */
typedef struct lb_cpu_kernel {
    void (*run)(lb_fiber *f, void *const *args);
    char signature[14];
    u32 val_bytes;
} lb_cpu_kernel;

typedef struct lb_fiber_grid {
    u32 groups[3], n_threads; /* of a threadgroup */
    u32 schedule;
} lb_fiber_grid;

/* Stacks and fibers: 16.2 MiB, touched as they are used. LB_E_UNSUPPORTED: not on this processor.
 */
lb_status lb_fibers_new(lb_fibers **out, lb_err *err);
void lb_fibers_free(lb_fibers **f);
/* All threadgroups of a grid, one by one. name: for messages. LB_E_FORMAT: the kernel did what it
 * must not; outputs are then not what they should be. */
lb_status lb_fibers_run(lb_fibers *f, const char *name, const lb_cpu_kernel *k, void *const *args,
                        const lb_fiber_grid *grid, lb_err *err);
/* The fiber that runs: for who is called by a kernel without it. */
lb_fiber *lb_fibers_running(lb_fibers *f);

/* What kernels call, through the dialect. */
void *lb_fiber_shared(lb_fiber *f, size_t size_bytes);
void lb_fiber_barrier(lb_fiber *f, int line);
void *lb_fiber_shared_more(lb_fiber *f, size_t size_bytes); /* up to LB_FIBER_SHARED_MOST */
float lb_fiber_simd(lb_fiber *f, lb_fiber_op op, float value, int line);
/* Each lane brings n words; returns those of all, by lane, until the next but one call. */
const u32 (*lb_fiber_words(lb_fiber *f, const u32 *words, u32 n, int line))[LB_FIBER_WORDS];

#endif
