/* SPDX-License-Identifier: Apache-2.0 */
/* selftest.h: every kernel of a device against the scalar references of kernel/, within a bound
 * that is computed from the data of each case: what `lbrx selftest` and the tests run.
 *
 * The references are the CPU's; products of rows are those of decoded weights in double. A bound
 * counts roundings (2^-24 each) of the kernel's own order of sums; decoding, sums of two values and
 * argmax are exact. */
#ifndef LB_DEVICE_SELFTEST_H
#define LB_DEVICE_SELFTEST_H

#include "device/device.h"

typedef struct lb_selftest_opts {
    bool large;  /* also shapes of a real model: for a GPU */
    bool quick;  /* the first two cases alone */
    bool damage; /* one bit of each result is turned before it is looked at, until that is seen */
    u32 threads; /* of lb_dev_selftest_all; 0: 1 */
} lb_selftest_opts;

typedef struct lb_selftest_row {
    lb_dev_kernel kernel;
    u32 n_cases;
    double worst;     /* greatest error / bound; above 1 or NaN: wrong. Exact ones: 0 or Inf */
    lb_status status; /* LB_E_DIFFERENT: wrong; else why it did not run */
    char why[256];    /* empty when it passed */
} lb_selftest_row;

/* One kernel. Results that are wrong and launches that fail stand in the row; the status is for
 * what is not the device's: memory of the host. */
lb_status lb_dev_selftest(lb_dev *d, lb_dev_kernel k, const lb_selftest_opts *opts,
                          lb_selftest_row *out, lb_err *err);

/* n kernels, one in each thread: while one of them uses the device the others make data, compute
 * what it should give and compare. The rows are those of one kernel after the other. */
lb_status lb_dev_selftest_all(lb_dev *d, const lb_dev_kernel *kernels, u32 n,
                              const lb_selftest_opts *opts, lb_selftest_row *out, lb_err *err);

/* Whether a kernel of the device is right, by a quick self-test when it is asked the first time.
 * One that is not is refused from then on (lb_dev_has): *right false, and why is what is wrong, of
 * the code that the test ended with. LB_E_IO: the device was lost; LB_E_NOMEM, LB_E_LIMIT: there is
 * no memory for the test. The devices' kernels as C are right, which tests look at. */
lb_status lb_dev_prove(lb_dev *d, lb_dev_kernel k, bool *right, lb_err *why);

/* Which kernels, and who hears of those that are not right and says whether to go on; why is of the
 * call. */
typedef struct lb_dev_proving {
    const lb_dev_kernel *list; /* NULL: all that were launched (device.h) */
    u32 n;
    bool (*wrong)(void *user, const lb_dev *d, lb_dev_kernel k, const lb_err *why);
    void *user;
    bool all; /* where there is no memory for a test: LB_E_NOMEM, LB_E_LIMIT; else it is left out */
} lb_dev_proving;
/* The same of all of them that the device has, until it is lost. */
lb_status lb_dev_prove_all(lb_dev *d, const lb_dev_proving *p, lb_err *err);

#endif
