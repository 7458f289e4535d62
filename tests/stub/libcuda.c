/* SPDX-License-Identifier: Apache-2.0 */
/* libcuda.c: a stand-in for NVIDIA's driver library, for tests of src/device/cuda*.c without a GPU.
 *
 * Memory is the host's; streams hold what is submitted until somebody waits for them, also when
 * another stream waits for their events; kernels run as C11 (device/cpu_kernels.h), with the
 * arguments that were handed over. Pointers of kernels and copies must lie within live allocations,
 * and ranges are only as large as was asked for. Kernels reach the memory of their own GPU alone,
 * streams and events are their context's. What a driver refuses, the environment chooses:
 *
 *   STUB_CUDA=none | old | noinit | cc70 | cc75 | cc80 | cc86 | ptx | jit | nopeer | wrong | taken
 * | noearly no GPU, CUDA 10.2, cuInit fails, an old GPU, one without matrix units for mm_*, two of
 * the generation after it, PTX refused, PTX with an error; GPUs that do not reach each other; a
 * value of attend_few_64 is another; of the memory that is said to be free another process has
 * half; no kernels that begin early
 *   STUB_CUDA_GPUS=N                                      how many there are; 2
 *   STUB_CUDA_MEMORY=BYTES                                of each; 64 MiB
 *   STUB_CUDA_LOST=N                                      the N-th launch is a launch failure
 *   STUB_CUDA_SLOW=MS                                     that it takes to start
 *   STUB_CUDA_BAD=HOW:NAME                                of kernels whose names begin so: `jit`
 * the text does not compile, `launch` they are refused, `wrong` a result is another
 */
#include "base/mem.h"
#include "device/cpu_kernels.h"
#include "device/cuda_driver.h"
#include <stdlib.h>
#include <time.h>

#define LB_PUBLIC __attribute__((visibility("default")))
#define BLOCKS_MAX 4096
#define HELD_MAX 4096
#define GPUS_MAX 16
#define N_UNITS 2
#define SHARED_MOST (mode("cc80") ? 166912 : mode("cc86") ? 101376 : 232448)

enum {
    INVALID_VALUE = 1,
    INVALID_CONTEXT = 201,
    PEER_UNSUPPORTED = 217,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    OUT_OF_RESOURCES = 701
};

typedef struct block {
    u8 *at;
    size_t bytes;
    int kind; /* 1 device, 2 host, 3 registered; 0 free */
    u32 gpu;  /* of kind 1 */
} block;

/* Each GPU has one context, the primary one. */
typedef struct gpu {
    u32 n_retained;
    size_t bytes;
    bool peer[GPUS_MAX]; /* whose memory its kernels and copies reach */
} gpu;

struct cu_stream_st {
    u32 gpu;
};

struct cu_event_st {
    u32 gpu;
    u32 ticks;  /* when it was reached; 0: not yet */
    u32 serial; /* of its last record */
};

typedef struct held {
    cu_stream stream;
    int kind;             /* 1 copy, 2 launch, 3 event, 4 wait for a record, 5 a rank of a sum */
    u32 serial, wait_for; /* of what is held */
    bool done;
    u8 *to;
    const u8 *from;
    size_t bytes;
    lb_dev_kernel kernel;
    u32 groups[3], n_threads;
    void *buf[LB_DEV_BUFS_MAX];
    u8 val[LB_DEV_VAL_BYTES_MAX];
    cu_event event;
} held;

static block blocks[BLOCKS_MAX];
static held queue[HELD_MAX];
static u32 n_waits, n_pending, most_held; /* for stub_cuda_counts */
static u32 n_held, n_launches, n_contexts, clock_ticks, n_serial;
static gpu gpus[GPUS_MAX];
static cu_result broken;
static bool waits[LB_DEV_KERNEL_COUNT]; /* a kernel for those in front of it, by itself */
static u32 shared_max[LB_DEV_KERNEL_COUNT];
static cu_context current; /* a gpu */
static lb_fibers *fibers;

static bool mode(const char *name) {
    const char *v = getenv("STUB_CUDA");
    return v && strcmp(v, name) == 0;
}

/* Whether a kernel is to fail so. */
static bool is_bad(const char *how, lb_dev_kernel k) {
    const char *v = getenv("STUB_CUDA_BAD");
    const lb_str s = lb_str_c(v ? v : "");
    const size_t n = strlen(how);
    return lb_str_starts(s, lb_str_c(how)) && s.len > n && s.ptr[n] == ':' &&
           lb_str_starts(lb_str_c(lb_dev_kernel_name(k)), lb_str_sub(s, n + 1, s.len));
}

static u64 number(const char *name, u64 otherwise) {
    const char *v = getenv(name);
    u64 n;
    return v && lb_str_to_u64(lb_str_c(v), &n) ? n : otherwise;
}

static u32 n_gpus(void) {
    return (u32)LB_MIN(number("STUB_CUDA_GPUS", 2), (u64)GPUS_MAX);
}

static u32 gpu_of(cu_context c) {
    return (u32)((gpu *)(void *)c - gpus);
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
            blocks[i] = (block){at, bytes, kind, kind == 1 ? gpu_of(current) : 0};
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
        const block *b = find(h->buf[i], (size_t)shape.need_bytes[i]);
        if (!b || (b->kind == 1 && b->gpu != h->stream->gpu))
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
    if (mode("wrong") && h->kernel == LB_DK_attend_few_64)
        *(float *)args[10] += 1; /* of the first head, which stays a number */
    for (u32 i = 0; i < n && is_bad("wrong", h->kernel); i++)
        if (lb_dev_kernel_signature(h->kernel)[i] == 'o' && shape.need_bytes[i] >= 4)
            ((u8 *)args[i])[3] ^= 0x40; /* of a float: large */
    return ++n_launches == number("STUB_CUDA_LOST", 0) ? CU_LAUNCH_FAILED : CU_OK;
}

static void drain_before(cu_stream s, u32 serial);

/* All streams of a sum go on to their ranks of it; then the last one that is reached adds up. */
static void run_sum(const held *h) {
    float **at = (float **)(void *)h->buf;
    bool last = true;
    for (u32 i = 0; i < n_held; i++)
        if (queue[i].kind == 5 && queue[i].wait_for == h->wait_for && !queue[i].done) {
            last = false;
            drain_before(queue[i].stream, queue[i].serial);
        }
    for (size_t i = 0; i < h->bytes && last; i++) {
        float sum = 0;
        for (u32 r = 0; r < h->n_threads; r++)
            sum += at[r][i];
        for (u32 r = 0; r < h->n_threads; r++)
            at[r][i] = sum;
    }
}

/* One step of a stream, all before it done. */
static void carry_out(held *h) {
    h->done = true;
    n_pending--;
    if (h->kind == 4)
        for (u32 i = 0; i < n_held; i++)
            if (queue[i].serial == h->wait_for && !queue[i].done)
                drain_before(queue[i].stream, queue[i].serial);
    if (broken == CU_OK && h->kind == 1)
        memmove(h->to, h->from, h->bytes);
    if (broken == CU_OK && h->kind == 2)
        broken = run_launch(h);
    if (broken == CU_OK && h->kind == 5)
        run_sum(h);
    if (h->kind == 3)
        h->event->ticks = ++clock_ticks;
}

/* What is held of a stream, up to a serial number. */
static void drain_before(cu_stream s, u32 serial) {
    for (u32 i = 0; i < n_held && queue[i].serial <= serial; i++)
        if (!queue[i].done && queue[i].stream == s)
            carry_out(&queue[i]);
}

/* All that was submitted to one stream, of all when it is NULL. */
static cu_result drain(cu_stream s) {
    u32 kept = 0;
    for (u32 i = 0; i < n_held; i++)
        if (!queue[i].done && (!s || queue[i].stream == s))
            carry_out(&queue[i]);
    for (u32 i = 0; i < n_held; i++)
        if (!queue[i].done)
            queue[kept++] = queue[i];
    n_held = kept;
    return broken;
}

static cu_result hold(held h) {
    if (broken)
        return broken;
    if (!current)
        return INVALID_CONTEXT;
    if (h.stream->gpu != gpu_of(current))
        return INVALID_HANDLE;
    if (n_held == HELD_MAX)
        (void)drain(NULL);
    h.serial = ++n_serial;
    queue[n_held++] = h;
    n_pending++;
    most_held = LB_MAX(most_held, n_pending);
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
    const u64 ms = number("STUB_CUDA_SLOW", 0);
    (void)nanosleep(&(struct timespec){(time_t)(ms / 1000), (long)(ms % 1000 * 1000000)}, NULL);
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
    *n = (int)n_gpus();
    return CU_OK;
}
LB_PUBLIC cu_result cuDeviceGet(cu_device *out, int i);
LB_PUBLIC cu_result cuDeviceGet(cu_device *out, int i) {
    *out = i + 7;
    return i >= 0 && i < (int)n_gpus() ? CU_OK : 101;
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
    *out = attribute == CU_ATTR_MAJOR                ? (mode("cc70") || mode("cc75")   ? 7
                                                        : mode("cc80") || mode("cc86") ? 8
                                                                                       : 9)
           : attribute == CU_ATTR_MINOR              ? (mode("cc75")   ? 5
                                                        : mode("cc86") ? 6
                                                                       : 0)
           : attribute == CU_ATTR_WARP               ? 32
           : attribute == CU_ATTR_THREADS            ? 1024
           : attribute == CU_ATTR_SHARED_BYTES       ? 49152
           : attribute == CU_ATTR_SHARED_BYTES_MOST  ? SHARED_MOST
           : attribute == CU_ATTR_UNITS              ? N_UNITS
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
    if (d < 7 || d >= 7 + (int)n_gpus())
        return 101;
    n_contexts++;
    gpus[d - 7].n_retained++;
    *out = (cu_context)(void *)&gpus[d - 7];
    return CU_OK;
}
LB_PUBLIC cu_result cuDevicePrimaryCtxRelease_v2(cu_device d);
LB_PUBLIC cu_result cuDevicePrimaryCtxRelease_v2(cu_device d) {
    if (--gpus[d - 7].n_retained == 0)
        memset(gpus[d - 7].peer, 0, sizeof gpus->peer);
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
    *free_bytes = *all_bytes - LB_MIN(*all_bytes, gpus[gpu_of(current)].bytes);
    return broken;
}
LB_PUBLIC cu_result cuDeviceCanAccessPeer(int *out, cu_device d, cu_device peer);
LB_PUBLIC cu_result cuDeviceCanAccessPeer(int *out, cu_device d, cu_device peer) {
    *out = d != peer && !mode("nopeer");
    return CU_OK;
}
LB_PUBLIC cu_result cuCtxEnablePeerAccess(cu_context peer, unsigned flags);
LB_PUBLIC cu_result cuCtxEnablePeerAccess(cu_context peer, unsigned flags) {
    bool *is = &gpus[gpu_of(current)].peer[gpu_of(peer)];
    const cu_result r = flags             ? INVALID_VALUE
                        : peer == current ? 101
                        : mode("nopeer")  ? PEER_UNSUPPORTED
                        : *is             ? CU_PEER_ALREADY
                                          : CU_OK;
    *is |= r == CU_OK;
    return r;
}
/* Whether the text's kernel does not compile. */
static bool holds_bad(const char *text) {
    size_t at, end;
    lb_dev_kernel k;
    lb_str s = lb_str_c(text);
    if (!getenv("STUB_CUDA_BAD") || !lb_str_find(s, LB_STR(".entry "), &at))
        return false;
    s = lb_str_sub(s, at + strlen(".entry "), s.len);
    return lb_str_find(s, LB_STR("("), &end) && lb_dev_kernel_find(lb_str_sub(s, 0, end), &k) &&
           is_bad("jit", k);
}

LB_PUBLIC cu_result cuModuleLoadDataEx(cu_module *out, const void *image, unsigned n, int *options,
                                       void **values);
LB_PUBLIC cu_result cuModuleLoadDataEx(cu_module *out, const void *image, unsigned n, int *options,
                                       void **values) {
    if (mode("ptx"))
        return CU_UNSUPPORTED_PTX_VERSION;
    if ((mode("jit") || holds_bad(image)) && n == 2 && options[0] == CU_JIT_ERROR_LOG) {
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
    waits[k] = lb_str_find(lb_str_c((const char *)m), LB_STR("griddepcontrol.wait;"), &at);
    return CU_OK;
}
LB_PUBLIC cu_result cuFuncSetAttribute(cu_function f, int attribute, int value);
LB_PUBLIC cu_result cuFuncSetAttribute(cu_function f, int attribute, int value) {
    const uintptr_t k = (uintptr_t)f - 1;
    if (k >= LB_DEV_KERNEL_COUNT || attribute != CU_FUNC_SHARED_BYTES_MAX || value < 0 ||
        value > SHARED_MOST)
        return INVALID_VALUE;
    shared_max[k] = (u32)value;
    return CU_OK;
}
LB_PUBLIC cu_result cuMemAlloc_v2(cu_ptr *out, size_t n);
LB_PUBLIC cu_result cuMemAlloc_v2(cu_ptr *out, size_t n) {
    const size_t all = (size_t)number("STUB_CUDA_MEMORY", 64 * LB_MIB);
    if (broken || !current)
        return broken ? broken : INVALID_CONTEXT;
    if (n == 0 || n > all / (mode("taken") ? 2 : 1) -
                          LB_MIN(all / (mode("taken") ? 2 : 1), gpus[gpu_of(current)].bytes))
        return n ? CU_OUT_OF_MEMORY : INVALID_VALUE;
    void *p = aligned_alloc(256, lb_round_up(n, 256));
    if (!p)
        return CU_OUT_OF_MEMORY;
    memset(p, 0xff, n);
    gpus[gpu_of(current)].bytes += n;
    *out = (cu_ptr)(uintptr_t)p;
    return put_block(p, n, 1);
}
LB_PUBLIC cu_result cuMemFree_v2(cu_ptr p);
LB_PUBLIC cu_result cuMemFree_v2(cu_ptr p) {
    block *b = find((void *)(uintptr_t)p, 0);
    if (!b || b->kind != 1 || b->at != (u8 *)(uintptr_t)p)
        return INVALID_VALUE;
    (void)drain(NULL);
    gpus[b->gpu].bytes -= b->bytes;
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
    (void)drain(NULL);
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
    (void)drain(NULL);
    b->kind = 0;
    return broken;
}
LB_PUBLIC cu_result cuMemHostGetDevicePointer_v2(cu_ptr *out, void *p, unsigned flags);
LB_PUBLIC cu_result cuMemHostGetDevicePointer_v2(cu_ptr *out, void *p, unsigned flags) {
    *out = (cu_ptr)(uintptr_t)p;
    return flags == 0 && find(p, 1) ? CU_OK : INVALID_VALUE;
}
/* One side must be the driver's; memory of another GPU is reached by a copy between peers. */
LB_PUBLIC cu_result cuMemcpyAsync(cu_ptr to, cu_ptr from, size_t n, cu_stream s);
LB_PUBLIC cu_result cuMemcpyAsync(cu_ptr to, cu_ptr from, size_t n, cu_stream s) {
    u8 *t = (u8 *)(uintptr_t)to, *f = (u8 *)(uintptr_t)from;
    const block *b = find(t, 1), *a = find(f, 1);
    if ((b && !find(t, n)) || (a && !find(f, n)) || (!b && !a) || (b && b->kind == 3) ||
        (b && b->kind == 1 && b->gpu != s->gpu) || (a && a->kind == 1 && a->gpu != s->gpu))
        return INVALID_VALUE;
    return hold((held){.stream = s, .kind = 1, .to = t, .from = f, .bytes = n});
}
LB_PUBLIC cu_result cuMemcpyPeerAsync(cu_ptr to, cu_context to_c, cu_ptr from, cu_context from_c,
                                      size_t n, cu_stream s);
LB_PUBLIC cu_result cuMemcpyPeerAsync(cu_ptr to, cu_context to_c, cu_ptr from, cu_context from_c,
                                      size_t n, cu_stream s) {
    u8 *t = (u8 *)(uintptr_t)to, *f = (u8 *)(uintptr_t)from;
    const block *a = find(t, n), *b = find(f, n);
    if (!a || !b || a->kind != 1 || b->kind != 1 || a->gpu != gpu_of(to_c) ||
        b->gpu != gpu_of(from_c) || !gpus[a->gpu].peer[b->gpu])
        return INVALID_VALUE;
    return hold((held){.stream = s, .kind = 1, .to = t, .from = f, .bytes = n});
}
LB_PUBLIC cu_result cuStreamCreate(cu_stream *out, unsigned flags);
LB_PUBLIC cu_result cuStreamCreate(cu_stream *out, unsigned flags) {
    cu_stream p = flags == CU_STREAM_NON_BLOCKING && current ? malloc(sizeof *p) : NULL;
    if (p)
        p->gpu = gpu_of(current);
    *out = p;
    return p ? CU_OK : INVALID_VALUE;
}
LB_PUBLIC cu_result cuStreamDestroy_v2(cu_stream s);
LB_PUBLIC cu_result cuStreamDestroy_v2(cu_stream s) {
    const cu_result r = drain(s);
    free(s);
    return r;
}
LB_PUBLIC cu_result cuStreamSynchronize(cu_stream s);
LB_PUBLIC cu_result cuStreamSynchronize(cu_stream s) {
    n_waits++;
    return drain(s);
}
LB_PUBLIC cu_result cuEventCreate(cu_event *out, unsigned flags);
LB_PUBLIC cu_result cuEventCreate(cu_event *out, unsigned flags) {
    *out = flags == 0 && current ? calloc(1, sizeof **out) : NULL;
    if (*out)
        (*out)->gpu = gpu_of(current);
    return *out ? CU_OK : INVALID_VALUE;
}
LB_PUBLIC cu_result cuEventDestroy_v2(cu_event e);
LB_PUBLIC cu_result cuEventDestroy_v2(cu_event e) {
    (void)drain(NULL);
    free(e);
    return broken;
}
LB_PUBLIC cu_result cuEventRecord(cu_event e, cu_stream s);
LB_PUBLIC cu_result cuEventRecord(cu_event e, cu_stream s) {
    if (e->gpu != s->gpu)
        return INVALID_HANDLE;
    const cu_result r = hold((held){.stream = s, .kind = 3, .event = e});
    e->ticks = 0;
    e->serial = n_serial;
    return r;
}
/* Of a stream and an event of any two contexts: the last record before the call. */
LB_PUBLIC cu_result cuStreamWaitEvent(cu_stream s, cu_event e, unsigned flags);
LB_PUBLIC cu_result cuStreamWaitEvent(cu_stream s, cu_event e, unsigned flags) {
    return flags ? INVALID_VALUE : hold((held){.stream = s, .kind = 4, .wait_for = e->serial});
}
LB_PUBLIC cu_result cuEventSynchronize(cu_event e);
LB_PUBLIC cu_result cuEventSynchronize(cu_event e) {
    n_waits++;
    for (u32 i = 0; i < n_held; i++)
        if (queue[i].kind == 3 && queue[i].serial == e->serial && !queue[i].done)
            drain_before(queue[i].stream, queue[i].serial);
    return broken;
}
LB_PUBLIC cu_result cuEventElapsedTime(float *ms, cu_event from, cu_event to);
LB_PUBLIC cu_result cuEventElapsedTime(float *ms, cu_event from, cu_event to) {
    if (!from->ticks || !to->ticks)
        return NOT_READY;
    *ms = (float)to->ticks - (float)from->ticks;
    return CU_OK;
}
/* Of a launch's arguments. */
/* A kernel with a text of its own is launched as that one takes it, and run as all others. */
static cu_result take_own(held *h, const cu_kernel_node *l) {
    lb_dev_shape shape, own;
    lb_err err;
    u8 val[LB_DEV_VAL_BYTES_MAX];
    memcpy(val, h->val, sizeof val);
    if (lb_dev_kernel_shape(h->kernel, val, &shape, &err) != LB_OK)
        return INVALID_VALUE;
    own = shape;
    lb_dev_kernel_own_grid(h->kernel, N_UNITS, &own);
    if (l->shared_bytes != own.shared_bytes || own.shared_bytes > shared_max[h->kernel])
        return INVALID_VALUE;
    if (own.shared_bytes && memcmp(own.groups, h->groups, sizeof own.groups) == 0 &&
        own.n_threads == h->n_threads) {
        memcpy(h->groups, shape.groups, sizeof h->groups);
        h->n_threads = shape.n_threads;
    }
    return CU_OK;
}

static cu_result take(held *h, const cu_kernel_node *l) {
    const lb_dev_kernel k = (lb_dev_kernel)((uintptr_t)l->f - 1);
    *h = (held){.kind = 2, .kernel = k, .n_threads = l->threads[0]};
    memcpy(h->groups, l->groups, sizeof h->groups);
    if ((u32)k >= LB_DEV_KERNEL_COUNT || l->threads[1] != 1 || l->threads[2] != 1 || l->extra)
        return INVALID_VALUE;
    const u32 n = (u32)strlen(lb_dev_kernel_signature(k)) - 1;
    for (u32 i = 0; i < n; i++)
        h->buf[i] = (void *)(uintptr_t) * (cu_ptr *)l->params[i];
    memcpy(h->val, l->params[n], lb_dev_kernel_val_bytes(k));
    return take_own(h, l);
}

LB_PUBLIC cu_result cuLaunchKernel(cu_function f, unsigned gx, unsigned gy, unsigned gz,
                                   unsigned bx, unsigned by, unsigned bz, unsigned shared,
                                   cu_stream s, void **params, void **extra);
LB_PUBLIC cu_result cuLaunchKernel(cu_function f, unsigned gx, unsigned gy, unsigned gz,
                                   unsigned bx, unsigned by, unsigned bz, unsigned shared,
                                   cu_stream s, void **params, void **extra) {
    held h;
    const cu_kernel_node l = {.f = f,
                              .groups = {gx, gy, gz},
                              .threads = {bx, by, bz},
                              .shared_bytes = shared,
                              .params = params,
                              .extra = extra};
    const cu_result r = take(&h, &l);
    h.stream = s;
    if (r == CU_OK && is_bad("launch", h.kernel))
        return OUT_OF_RESOURCES;
    return r ? r : hold(h);
}

/* ---- graphs: kernels of one level, none of which waits for another, run last to first ---- */

struct cu_graph_st {
    u32 n, cap, levels;
    struct {
        held h;
        u32 level;
    } * node;
};

LB_PUBLIC cu_result cuGraphCreate(cu_graph *out, unsigned flags);
LB_PUBLIC cu_result cuGraphCreate(cu_graph *out, unsigned flags) {
    *out = flags ? NULL : calloc(1, sizeof **out);
    return *out ? CU_OK : INVALID_VALUE;
}
LB_PUBLIC cu_result cuGraphAddKernelNode(cu_graph_node *out, cu_graph g, const cu_graph_node *deps,
                                         size_t n_deps, const cu_kernel_node *k);
LB_PUBLIC cu_result cuGraphAddKernelNode(cu_graph_node *out, cu_graph g, const cu_graph_node *deps,
                                         size_t n_deps, const cu_kernel_node *k) {
    u32 level = 0;
    held h;
    const cu_result r = take(&h, k);
    if (r)
        return r;
    for (size_t i = 0; i < n_deps; i++) {
        const uintptr_t at = (uintptr_t)deps[i];
        if (!at || at > g->n)
            return INVALID_VALUE;
        level = LB_MAX(level, g->node[at - 1].level + 1);
    }
    if (g->n == g->cap) {
        g->cap = 2 * g->cap + 16;
        void *more = realloc(g->node, g->cap * sizeof *g->node);
        if (!more)
            return CU_OUT_OF_MEMORY;
        g->node = more;
    }
    g->node[g->n].h = h;
    g->node[g->n].level = level;
    g->levels = LB_MAX(g->levels, level + 1);
    *out = (cu_graph_node)(uintptr_t)++g->n;
    return CU_OK;
}
/* A kernel may begin early that waits by itself. */
LB_PUBLIC cu_result cuGraphAddDependencies_v2(cu_graph g, const cu_graph_node *from,
                                              const cu_graph_node *to, const cu_graph_edge *e,
                                              size_t n);
LB_PUBLIC cu_result cuGraphAddDependencies_v2(cu_graph g, const cu_graph_node *from,
                                              const cu_graph_node *to, const cu_graph_edge *e,
                                              size_t n) {
    if (mode("noearly"))
        return INVALID_VALUE;
    for (size_t i = 0; i < n; i++) {
        const uintptr_t a = (uintptr_t)from[i], b = (uintptr_t)to[i];
        if (!a || !b || a >= b || b > g->n || e[i].type != CU_EDGE_PROGRAMMATIC || e[i].to_port ||
            e[i].from_port != CU_EDGE_PORT_PROGRAMMATIC || !waits[g->node[b - 1].h.kernel])
            return INVALID_VALUE;
        g->node[b - 1].level = LB_MAX(g->node[b - 1].level, g->node[a - 1].level + 1);
        g->levels = LB_MAX(g->levels, g->node[b - 1].level + 1);
    }
    return CU_OK;
}
LB_PUBLIC cu_result cuGraphInstantiate_v2(cu_graph_exec *out, cu_graph g, cu_graph_node *error,
                                          char *log, size_t n);
LB_PUBLIC cu_result cuGraphInstantiate_v2(cu_graph_exec *out, cu_graph g, cu_graph_node *error,
                                          char *log, size_t n) {
    cu_graph copy = calloc(1, sizeof *copy);
    void *node = copy && g->n ? malloc(g->n * sizeof *g->node) : NULL;
    if (error || log || n || !node) {
        free(copy);
        return INVALID_VALUE;
    }
    *copy = *g;
    copy->node = node;
    memcpy(node, g->node, g->n * sizeof *g->node);
    *out = (cu_graph_exec)(void *)copy;
    return CU_OK;
}
LB_PUBLIC cu_result cuGraphDestroy(cu_graph g);
LB_PUBLIC cu_result cuGraphDestroy(cu_graph g) {
    free(g->node);
    free(g);
    return CU_OK;
}
LB_PUBLIC cu_result cuGraphLaunch(cu_graph_exec e, cu_stream s);
LB_PUBLIC cu_result cuGraphLaunch(cu_graph_exec e, cu_stream s) {
    const struct cu_graph_st *g = (const void *)e;
    cu_result r = CU_OK;
    for (u32 level = 0; level < g->levels; level++)
        for (u32 i = g->n; r == CU_OK && i-- > 0;)
            if (g->node[i].level == level) {
                held h = g->node[i].h;
                h.stream = s;
                r = hold(h);
            }
    return r;
}
LB_PUBLIC cu_result cuGraphExecDestroy(cu_graph_exec e);
LB_PUBLIC cu_result cuGraphExecDestroy(cu_graph_exec e) {
    return cuGraphDestroy((cu_graph)(void *)e);
}

/* How often the host has waited, and how much was held at a time, since the last call. */
LB_PUBLIC void stub_cuda_counts(u32 *waited, u32 *held_most);
LB_PUBLIC void stub_cuda_counts(u32 *waited, u32 *held_most) {
    *waited = n_waits;
    *held_most = most_held;
    n_waits = most_held = 0;
}

/* For libnccl.c: ranks' buffers of n floats, each in its stream. */
LB_PUBLIC int stub_cuda_sum(const cu_stream *s, float *const *at, u32 n_ranks, size_t n);
LB_PUBLIC int stub_cuda_sum(const cu_stream *s, float *const *at, u32 n_ranks, size_t n) {
    const cu_context before = current;
    cu_result r = n_ranks > LB_DEV_BUFS_MAX ? INVALID_VALUE : CU_OK;
    if (n_held + n_ranks > HELD_MAX)
        (void)drain(NULL);
    const u32 id = n_serial + 1;
    for (u32 i = 0; i < n_ranks && r == CU_OK; i++) {
        const block *b = find(at[i], n * sizeof(float));
        held h = {.stream = s[i], .kind = 5, .wait_for = id, .bytes = n, .n_threads = n_ranks};
        if (!b || b->kind != 1 || b->gpu != s[i]->gpu)
            return CU_ILLEGAL_ADDRESS;
        memcpy(h.buf, at, n_ranks * sizeof(float *));
        current = (cu_context)(void *)&gpus[s[i]->gpu];
        r = hold(h);
    }
    current = before;
    return r;
}
