/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_text.h: one kernel out of a PTX text of many, so that the driver compiles what is used and
 * nothing else: all of them take it half a minute. */
#ifndef LB_DEVICE_CUDA_TEXT_H
#define LB_DEVICE_CUDA_TEXT_H

#include "base/mem.h"

/* What stands in no kernel: the version, tables, functions. Heap. */
typedef struct lb_cuda_common {
    lb_buf tables, rest; /* tables: a line each */
} lb_cuda_common;

lb_status lb_cuda_common_of(const char *ptx, lb_cuda_common *out, lb_err *err);
void lb_cuda_common_deinit(lb_cuda_common *c);
/* A whole text with kernel `name` alone and the tables that it names, ends with NUL. LB_E_FORMAT:
 * there is no such kernel. */
lb_status lb_cuda_text_of(const char *ptx, const lb_cuda_common *c, const char *name, lb_buf *out,
                          lb_err *err);
/* The same for compute capability 9.0 and later (PTX 7.8): the words LBK_BEGIN and LBK_AFTER of
 * kern/dialect_cuda.k become instructions, copies marked `once` (kern/mt_cuda.k) tell the L2 cache
 * to drop what they read first. *waits: the kernel has LBK_AFTER, that is, it may be started before
 * those in front of it have ended. */
lb_status lb_cuda_text_hopper(lb_buf *text, bool *waits, lb_err *err);

#endif
