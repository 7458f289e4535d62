/* SPDX-License-Identifier: Apache-2.0 */
/* libcuda.c: a stand-in for NVIDIA's driver library, for tests of src/device/cuda*.c without a GPU.
 *
 * Memory is the host's; streams hold what is submitted until somebody waits; kernels run as C11
 * (device/cpu_kernels.h), with the arguments that were handed over. Pointers of kernels and copies
 * must lie within live allocations, and ranges are only as large as was asked for. What a driver
 * refuses, the environment chooses:
 *
 *   STUB_CUDA=none | old | noinit | cc70 | ptx | jit     no GPU, CUDA 10.2, cuInit fails, an old
 *                                                         GPU, PTX refused, PTX with an error
 *   STUB_CUDA_MEMORY=BYTES                                of the device; 64 MiB
 *   STUB_CUDA_LOST=N                                      the N-th launch is a launch failure
 */
#include "base/mem.h"
#include "device/cpu_kernels.h"
#include "device/cuda_driver.h"
#include <stdlib.h>

#define LB_PUBLIC __attribute__((visibility("default")))
#define BLOCKS_MAX 4096
#define HELD_MAX 4096
#define STREAMS_MAX 16

enum { INVALID_VALUE = 1, NOT_FOUND = 500, NOT_READY = 600, INVALID_CONTEXT = 201 };

typedef struct block {
    u8 *at;
    size_t bytes;
    int kind; /* 1 device, 2 host, 3 registered; 0 free */
} block;

typedef struct held {
    cu_stream stream;
    int kind; /* 1 copy, 2 launch, 3 event */
    u8 *to;
    const u8 *from;
    size_t bytes;
    lb_dev_kernel kernel;
    u32 groups[3], n_threads;
    void *buf[LB_DEV_BUFS_MAX];
    u8 val[LB_DEV_VAL_BYTES_MAX];
    u32 *event;
} held;

static block blocks[BLOCKS_MAX];
static held queue[HELD_MAX];
static u32 n_held, n_launches, n_contexts, clock_ticks;
static size_t device_bytes;
static cu_result broken;
static cu_context current;
static lb_fibers *fibers;

static bool mode(const char *name) {
    const char *v = getenv("STUB_CUDA");
    return v && strcmp(v, name) == 0;
}

static u64 number(const char *name, u64 otherwise) {
    const char *v = getenv(name);
    u64 n;
    return v && lb_str_to_u64(lb_str_c(v), &n) ? n : otherwise;
}

static block *find(const void *p, size_t bytes) {
    const u8 *at = p;
    for (u32 i = 0; i < BLOCKS_MAX; i++)
        if (blocks[i].kind && at >= blocks[i].at && at <= blocks[i].at + blocks[i].bytes &&
            bytes <= (size_t)(blocks[i].at + blocks[i].bytes - at))
            return &blocks[i];
    return NULL;
}

static cu_result put_block(void *at, size_t bytes, int kind) {
    for (u32 i = 0; i < BLOCKS_MAX; i++)
        if (!blocks[i].kind) {
            blocks[i] = (block){at, bytes, kind};
            return CU_OK;
        }
    return CU_OUT_OF_MEMORY;
}

static cu_result run_launch(const held *h) {
    void *args[LB_DEV_BUFS_MAX + 1];
    const u32 n = (u32)strlen(lb_dev_kernel_signature(h->kernel)) - 1;
    lb_dev_shape shape;
    lb_err err;
    u8 val[LB_DEV_VAL_BYTES_MAX];
    memcpy(val, h->val, sizeof val);
    if (lb_dev_kernel_shape(h->kernel, val, &shape, &err) != LB_OK ||
        memcmp(shape.groups, h->groups, sizeof shape.groups) != 0 ||
        shape.n_threads != h->n_threads)
        return CU_LAUNCH_FAILED;
    for (u32 i = 0; i < n; i++) {
        args[i] = h->buf[i];
        if (!find(h->buf[i], (size_t)shape.need_bytes[i]))
            return CU_ILLEGAL_ADDRESS;
    }
    args[n] = val;
    const lb_fiber_grid grid = {
        {h->groups[0], h->groups[1], h->groups[2]}, h->n_threads, LB_FIBER_FORWARD};
    if (!fibers && lb_fibers_new(&fibers, &err) != LB_OK)
        return CU_OUT_OF_MEMORY;
    if (lb_fibers_run(fibers, lb_dev_kernel_name(h->kernel), lb_cpu_kernel_get(h->kernel), args,
                      &grid, &err) != LB_OK)
        return CU_LAUNCH_FAILED;
    return ++n_launches == number("STUB_CUDA_LOST", 0) ? CU_LAUNCH_FAILED : CU_OK;
}

/* All that was submitted to one stream, of all when it is NULL, up to an event if one is given. */
static cu_result drain(cu_stream s, const u32 *until) {
    u32 kept = 0;
    bool stop = false;
    for (u32 i = 0; i < n_held; i++) {
        const held *h = &queue[i];
        if (stop || (s && h->stream != s)) {
            queue[kept++] = *h;
            continue;
        }
        if (broken == CU_OK && h->kind == 1)
            memmove(h->to, h->from, h->bytes);
        if (broken == CU_OK && h->kind == 2)
            broken = run_launch(h);
        if (h->kind == 3) {
            *h->event = ++clock_ticks;
            stop = h->event == until;
        }
    }
    n_held = kept;
    return broken;
}

static cu_result hold(held h) {
    if (broken)
        return broken;
    if (!current)
        return INVALID_CONTEXT;
    if (n_held == HELD_MAX)
        (void)drain(NULL, NULL);
    queue[n_held++] = h;
    return broken;
}

LB_PUBLIC cu_result cuDriverGetVersion(int *version);
LB_PUBLIC cu_result cuDriverGetVersion(int *version) {
    *version = mode("old") ? 10020 : 12040;
    return CU_OK;
}
LB_PUBLIC cu_result cuInit(unsigned flags);
LB_PUBLIC cu_result cuInit(unsigned flags) {
    (void)flags;
    broken = CU_OK;
    n_launches = 0;
    return mode("none") ? CU_NO_DEVICE : mode("noinit") ? CU_UNKNOWN : CU_OK;
}
LB_PUBLIC cu_result cuGetErrorString(cu_result r, const char **out);
LB_PUBLIC cu_result cuGetErrorString(cu_result r, const char **out) {
    *out = r == CU_OUT_OF_MEMORY     ? "out of memory"
           : r == CU_LAUNCH_FAILED   ? "unspecified launch failure"
           : r == CU_ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
                                     : NULL;
    return *out ? CU_OK : INVALID_VALUE;
}
LB_PUBLIC cu_result cuDeviceGetCount(int *n);
LB_PUBLIC cu_result cuDeviceGetCount(int *n) {
    *n = 2;
    return CU_OK;
}
LB_PUBLIC cu_result cuDeviceGet(cu_device *out, int i);
LB_PUBLIC cu_result cuDeviceGet(cu_device *out, int i) {
    *out = i + 7;
    return i >= 0 && i < 2 ? CU_OK : 101;
}
LB_PUBLIC cu_result cuDeviceGetName(char *out, int n, cu_device d);
LB_PUBLIC cu_result cuDeviceGetName(char *out, int n, cu_device d) {
    const char name[] = "Stub \x1b GPU";
    if (d < 7 || n < (int)sizeof name)
        return INVALID_VALUE;
    memcpy(out, name, sizeof name);
    return CU_OK;
}
LB_PUBLIC cu_result cuDeviceGetAttribute(int *out, int attribute, cu_device d);
LB_PUBLIC cu_result cuDeviceGetAttribute(int *out, int attribute, cu_device d) {
    (void)d;
    *out = attribute == CU_ATTR_MAJOR                ? (mode("cc70") ? 7 : 9)
           : attribute == CU_ATTR_MINOR              ? 0
           : attribute == CU_ATTR_WARP               ? 32
           : attribute == CU_ATTR_THREADS            ? 1024
           : attribute == CU_ATTR_SHARED_BYTES       ? 49152
           : attribute == CU_ATTR_UNITS              ? 2
           : attribute == CU_ATTR_READ_ONLY_REGISTER ? 1
                                                     : 0;
    return CU_OK;
}
LB_PUBLIC cu_result cuDeviceTotalMem_v2(size_t *out, cu_device d);
LB_PUBLIC cu_result cuDeviceTotalMem_v2(size_t *out, cu_device d) {
    (void)d;
    *out = (size_t)number("STUB_CUDA_MEMORY", 64 * LB_MIB);
    return CU_OK;
}
LB_PUBLIC cu_result cuDevicePrimaryCtxRetain(cu_context *out, cu_device d);
LB_PUBLIC cu_result cuDevicePrimaryCtxRetain(cu_context *out, cu_device d) {
    (void)d;
    n_contexts++;
    *out = (cu_context)(void *)&blocks[0];
    return CU_OK;
}
LB_PUBLIC cu_result cuDevicePrimaryCtxRelease_v2(cu_device d);
LB_PUBLIC cu_result cuDevicePrimaryCtxRelease_v2(cu_device d) {
    (void)d;
    if (--n_contexts == 0)
        lb_fibers_free(&fibers);
    return CU_OK;
}
LB_PUBLIC cu_result cuCtxSetCurrent(cu_context c);
LB_PUBLIC cu_result cuCtxSetCurrent(cu_context c) {
    current = c;
    return CU_OK;
}
LB_PUBLIC cu_result cuMemGetInfo_v2(size_t *free_bytes, size_t *all_bytes);
LB_PUBLIC cu_result cuMemGetInfo_v2(size_t *free_bytes, size_t *all_bytes) {
    (void)cuDeviceTotalMem_v2(all_bytes, 0);
    *free_bytes = *all_bytes - device_bytes;
    return broken;
}
LB_PUBLIC cu_result cuModuleLoadDataEx(cu_module *out, const void *image, unsigned n, int *options,
                                       void **values);
LB_PUBLIC cu_result cuModuleLoadDataEx(cu_module *out, const void *image, unsigned n, int *options,
                                       void **values) {
    if (mode("ptx"))
        return CU_UNSUPPORTED_PTX_VERSION;
    if (mode("jit") && n == 2 && options[0] == CU_JIT_ERROR_LOG) {
        const char log[] = "ptxas: line 7\nmore";
        memcpy(values[0], log, sizeof log);
        return 218;
    }
    *out = (cu_module)(uintptr_t)image;
    return lb_str_starts(lb_str_c(image), LB_STR("// lbrx kernels ")) ? CU_OK : INVALID_VALUE;
}
LB_PUBLIC cu_result cuModuleUnload(cu_module m);
LB_PUBLIC cu_result cuModuleUnload(cu_module m) {
    return m ? CU_OK : INVALID_VALUE;
}
/* A kernel that the text holds, as ".entry NAME(". */
LB_PUBLIC cu_result cuModuleGetFunction(cu_function *out, cu_module m, const char *name);
LB_PUBLIC cu_result cuModuleGetFunction(cu_function *out, cu_module m, const char *name) {
    lb_dev_kernel k;
    lb_buf entry = {0};
    size_t at;
    lb_buf_printf(&entry, ".entry %s(", name);
    const bool there = lb_str_find(lb_str_c((const char *)m), lb_buf_str(&entry), &at) &&
                       lb_dev_kernel_find(lb_str_c(name), &k);
    lb_buf_deinit(&entry);
    if (!there)
        return NOT_FOUND;
    *out = (cu_function)(uintptr_t)(k + 1);
    return CU_OK;
}
LB_PUBLIC cu_result cuMemAlloc_v2(cu_ptr *out, size_t n);
LB_PUBLIC cu_result cuMemAlloc_v2(cu_ptr *out, size_t n) {
    const size_t all = (size_t)number("STUB_CUDA_MEMORY", 64 * LB_MIB);
    if (broken || !current)
        return broken ? broken : INVALID_CONTEXT;
    if (n == 0 || n > all - device_bytes)
        return n ? CU_OUT_OF_MEMORY : INVALID_VALUE;
    void *p = aligned_alloc(256, lb_round_up(n, 256));
    if (!p)
        return CU_OUT_OF_MEMORY;
    memset(p, 0xff, n);
    device_bytes += n;
    *out = (cu_ptr)(uintptr_t)p;
    return put_block(p, n, 1);
}
LB_PUBLIC cu_result cuMemFree_v2(cu_ptr p);
LB_PUBLIC cu_result cuMemFree_v2(cu_ptr p) {
    block *b = find((void *)(uintptr_t)p, 0);
    if (!b || b->kind != 1 || b->at != (u8 *)(uintptr_t)p)
        return INVALID_VALUE;
    (void)drain(NULL, NULL);
    device_bytes -= b->bytes;
    free(b->at);
    b->kind = 0;
    return broken;
}
LB_PUBLIC cu_result cuMemHostAlloc(void **out, size_t n, unsigned flags);
LB_PUBLIC cu_result cuMemHostAlloc(void **out, size_t n, unsigned flags) {
    if (broken || !current || flags != (CU_HOST_PORTABLE | CU_HOST_DEVICEMAP))
        return broken ? broken : INVALID_VALUE;
    *out = aligned_alloc(4096, lb_round_up(n, 4096));
    return *out ? put_block(*out, n, 2) : CU_OUT_OF_MEMORY;
}
LB_PUBLIC cu_result cuMemFreeHost(void *p);
LB_PUBLIC cu_result cuMemFreeHost(void *p) {
    block *b = find(p, 0);
    if (!b || b->kind != 2)
        return INVALID_VALUE;
    (void)drain(NULL, NULL);
    free(b->at);
    b->kind = 0;
    return broken;
}
LB_PUBLIC cu_result cuMemHostRegister_v2(void *p, size_t n, unsigned flags);
LB_PUBLIC cu_result cuMemHostRegister_v2(void *p, size_t n, unsigned flags) {
    if ((uintptr_t)p % 4096 || n % 4096 || !(flags & CU_REGISTER_READ_ONLY))
        return INVALID_VALUE;
    return find(p, 1) ? 712 : put_block(p, n, 3);
}
LB_PUBLIC cu_result cuMemHostUnregister(void *p);
LB_PUBLIC cu_result cuMemHostUnregister(void *p) {
    block *b = find(p, 0);
    if (!b || b->kind != 3 || b->at != p)
        return INVALID_VALUE;
    (void)drain(NULL, NULL);
    b->kind = 0;
    return broken;
}
LB_PUBLIC cu_result cuMemHostGetDevicePointer_v2(cu_ptr *out, void *p, unsigned flags);
LB_PUBLIC cu_result cuMemHostGetDevicePointer_v2(cu_ptr *out, void *p, unsigned flags) {
    *out = (cu_ptr)(uintptr_t)p;
    return flags == 0 && find(p, 1) ? CU_OK : INVALID_VALUE;
}
/* One side must be the driver's; from pageable memory is read at once, as a driver does. */
LB_PUBLIC cu_result cuMemcpyAsync(cu_ptr to, cu_ptr from, size_t n, cu_stream s);
LB_PUBLIC cu_result cuMemcpyAsync(cu_ptr to, cu_ptr from, size_t n, cu_stream s) {
    u8 *t = (u8 *)(uintptr_t)to, *f = (u8 *)(uintptr_t)from;
    const block *b = find(t, 1);
    if ((b && !find(t, n)) || (find(f, 1) && !find(f, n)) || (!b && !find(f, 1)) ||
        (b && b->kind == 3))
        return INVALID_VALUE;
    return hold((held){.stream = s, .kind = 1, .to = t, .from = f, .bytes = n});
}
LB_PUBLIC cu_result cuStreamCreate(cu_stream *out, unsigned flags);
LB_PUBLIC cu_result cuStreamCreate(cu_stream *out, unsigned flags) {
    void *p = flags == CU_STREAM_NON_BLOCKING ? malloc(1) : NULL;
    *out = p;
    return p ? CU_OK : INVALID_VALUE;
}
LB_PUBLIC cu_result cuStreamDestroy_v2(cu_stream s);
LB_PUBLIC cu_result cuStreamDestroy_v2(cu_stream s) {
    const cu_result r = drain(s, NULL);
    free(s);
    return r;
}
LB_PUBLIC cu_result cuStreamSynchronize(cu_stream s);
LB_PUBLIC cu_result cuStreamSynchronize(cu_stream s) {
    return drain(s, NULL);
}
LB_PUBLIC cu_result cuEventCreate(cu_event *out, unsigned flags);
LB_PUBLIC cu_result cuEventCreate(cu_event *out, unsigned flags) {
    *out = flags == 0 ? calloc(1, sizeof(u32)) : NULL;
    return *out ? CU_OK : INVALID_VALUE;
}
LB_PUBLIC cu_result cuEventDestroy_v2(cu_event e);
LB_PUBLIC cu_result cuEventDestroy_v2(cu_event e) {
    (void)drain(NULL, NULL);
    free(e);
    return broken;
}
LB_PUBLIC cu_result cuEventRecord(cu_event e, cu_stream s);
LB_PUBLIC cu_result cuEventRecord(cu_event e, cu_stream s) {
    *(u32 *)(void *)e = 0;
    return hold((held){.stream = s, .kind = 3, .event = (u32 *)(void *)e});
}
/* A stand-in that is late would have to keep the order: what the event marks runs now. */
LB_PUBLIC cu_result cuStreamWaitEvent(cu_stream s, cu_event e, unsigned flags);
LB_PUBLIC cu_result cuStreamWaitEvent(cu_stream s, cu_event e, unsigned flags) {
    (void)s;
    (void)flags;
    return drain(NULL, (u32 *)(void *)e);
}
LB_PUBLIC cu_result cuEventElapsedTime(float *ms, cu_event from, cu_event to);
LB_PUBLIC cu_result cuEventElapsedTime(float *ms, cu_event from, cu_event to) {
    const u32 a = *(u32 *)(void *)from, b = *(u32 *)(void *)to;
    if (!a || !b)
        return NOT_READY;
    *ms = (float)b - (float)a;
    return CU_OK;
}
LB_PUBLIC cu_result cuLaunchKernel(cu_function f, unsigned gx, unsigned gy, unsigned gz,
                                   unsigned bx, unsigned by, unsigned bz, unsigned shared,
                                   cu_stream s, void **params, void **extra);
LB_PUBLIC cu_result cuLaunchKernel(cu_function f, unsigned gx, unsigned gy, unsigned gz,
                                   unsigned bx, unsigned by, unsigned bz, unsigned shared,
                                   cu_stream s, void **params, void **extra) {
    const lb_dev_kernel k = (lb_dev_kernel)((uintptr_t)f - 1);
    held h = {.stream = s, .kind = 2, .kernel = k, .groups = {gx, gy, gz}, .n_threads = bx};
    if ((u32)k >= LB_DEV_KERNEL_COUNT || by != 1 || bz != 1 || shared || extra)
        return INVALID_VALUE;
    const u32 n = (u32)strlen(lb_dev_kernel_signature(k)) - 1;
    for (u32 i = 0; i < n; i++)
        h.buf[i] = (void *)(uintptr_t) * (cu_ptr *)params[i];
    memcpy(h.val, params[n], lb_dev_kernel_val_bytes(k));
    return hold(h);
}
