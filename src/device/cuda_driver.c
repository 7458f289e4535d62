/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_driver.c: NVIDIA's driver library by dlopen. */
#include "device/cuda_driver.h"
#include <dlfcn.h>

const char *lb_cuda_text(const lb_cuda_driver *d, cu_result r) {
    const char *text = NULL;
    if (d->cuGetErrorString(r, &text) != CU_OK || !text)
        return "unknown error";
    return text;
}

static bool load(lb_cuda_driver *d, const char **missing) {
#define F(name, args)                        \
    {                                        \
        void *at = dlsym(d->library, #name); \
        if (!at) {                           \
            *missing = #name;                \
            return false;                    \
        }                                    \
        memcpy(&d->name, &at, sizeof at);    \
    }
    LB_CUDA_FUNCTIONS(F)
#undef F
#define F(name, args)                        \
    {                                        \
        void *at = dlsym(d->library, #name); \
        memcpy(&d->name, &at, sizeof at);    \
    }
    LB_CUDA_LATER(F)
#undef F
    return true;
}

static lb_status start(lb_cuda_driver *d, lb_err *err) {
    const char *missing = NULL;
    if (!load(d, &missing))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "cuda: the driver is too old, it has no %s: update NVIDIA's driver",
                       missing);
    /* The version can be asked for before anything is started. */
    cu_result r = d->cuDriverGetVersion(&d->version);
    if (r == CU_OK && d->version < LB_CUDA_VERSION_MIN)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "cuda: the driver is too old, of CUDA %d.%d, kernels need %d.%d: update "
                       "NVIDIA's driver",
                       d->version / 1000, d->version % 1000 / 10, LB_CUDA_VERSION_MIN / 1000,
                       LB_CUDA_VERSION_MIN % 1000 / 10);
    r = d->cuInit(0);
    if (r == CU_NO_DEVICE)
        return lb_fail(err, LB_E_NOT_FOUND, "cuda: the driver sees no GPU");
    if (r != CU_OK)
        return lb_fail(err, LB_E_UNSUPPORTED, "cuda: the driver does not start: %s (%d)",
                       lb_cuda_text(d, r), r);
    return LB_OK;
}

lb_status lb_cuda_driver_open(lb_cuda_driver *d, lb_err *err) {
    *d = (lb_cuda_driver){0};
    d->library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
#if defined(__APPLE__)
    if (!d->library)
        return lb_fail(err, LB_E_NOT_FOUND, "cuda: NVIDIA has no driver for this system");
#endif
    if (!d->library)
        return lb_fail(err, LB_E_NOT_FOUND,
                       "cuda: there is no driver (libcuda.so.1): install NVIDIA's");
    const lb_status st = start(d, err);
    if (st != LB_OK)
        lb_cuda_driver_close(d);
    return st;
}

void lb_cuda_driver_close(lb_cuda_driver *d) {
    if (d->library)
        (void)dlclose(d->library);
    d->library = NULL;
}
