/* SPDX-License-Identifier: Apache-2.0 */
/* windows.h: bytes of a mapped file to a device, through two pinned windows: while one is copied,
 * threads fill the other from the file. What follows closely on the device goes there in one copy.
 */
#ifndef LB_MODEL_WINDOWS_H
#define LB_MODEL_WINDOWS_H

#include "device/device.h"

typedef struct lb_windows lb_windows;

/* done, total: bytes */
typedef void lb_windows_progress_fn(void *user, u64 done, u64 total);

typedef struct lb_windows_in {
    lb_dev *d;
    u32 threads;                      /* that fill, the caller's included */
    u64 bytes;                        /* that will come: windows are not longer */
    u64 done, total;                  /* what progress begins with, and comes to */
    lb_windows_progress_fn *progress; /* may be NULL; from the caller's thread */
    void *user;
} lb_windows_in;

/* Rows of the host, one after the other from base on or `stride` apart. */
typedef struct lb_rows {
    const u8 *base;
    u64 n, bytes, stride;
} lb_rows;

lb_status lb_windows_new(lb_windows **out, const lb_windows_in *in, lb_err *err);
/* Rows one after the other at `to`; the source stays as it is until lb_windows_end. Gaps of less
 * than 256 bytes between what is put are overwritten with anything. LB_E_INTERRUPTED. */
lb_status lb_windows_put(lb_windows *w, lb_dev_arg to, const lb_rows *rows, lb_err *err);
/* All of it is there. */
lb_status lb_windows_end(lb_windows *w, lb_err *err);
void lb_windows_free(lb_windows **w);

#endif
