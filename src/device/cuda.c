/* SPDX-License-Identifier: Apache-2.0 */
/* cuda.c: NVIDIA GPUs through the driver's own interface.
 *
 * A device is the primary context, so that other libraries of the process share it. Streams keep
 * their order by themselves: a barrier is nothing. A fault of a kernel or of the device makes the
 * context useless; it is remembered as lost, and the process ends with an error as after any other
 * failure of the system. */
#include "base/os.h"
#include "device/backend.h"
#include "device/cuda_driver.h"
#include "device/cuda_text.h"
#include <stdio.h>

/* The texts of kernels, by what a GPU must have. */
enum { TEXT_ALL, TEXT_TENSOR, TEXT_HOPPER, TEXTS };

typedef struct cuda {
    lb_cuda_driver cu;
    cu_device device;
    cu_context context;           /* NULL: not retained */
    bool overlaps;                /* kernels of a recording may begin early */
    lb_cuda_common common[TEXTS]; /* when one is used */
    cu_module module[LB_DEV_KERNEL_COUNT];
    cu_function kernel[LB_DEV_KERNEL_COUNT]; /* NULL: not compiled yet */
    bool waits[LB_DEV_KERNEL_COUNT];         /* for those in front of it, by itself */
} cuda;

static u32 text_of(lb_dev_kernel k) {
    switch (lb_dev_kernel_needs(k)) {
    case LB_DEV_NEEDS_TILES:
        return TEXT_HOPPER;
    case LB_DEV_NEEDS_MATRIX:
    case LB_DEV_NEEDS_FLASH:
    case LB_DEV_NEEDS_RING:
        return TEXT_TENSOR;
    default:
        return TEXT_ALL;
    }
}

static bool is_lost(cu_result r) {
    return r == CU_DEINITIALIZED || r == CU_DEVICE_UNAVAILABLE || r == CU_ECC_UNCORRECTABLE ||
           r == CU_ILLEGAL_ADDRESS || r == CU_LAUNCH_TIMEOUT || r == CU_CONTEXT_IS_DESTROYED ||
           (r >= CU_HARDWARE_STACK_ERROR && r <= CU_LAUNCH_FAILED) || r == CU_UNKNOWN;
}

/* What a call returned, as an error that says what was tried. */
static lb_status result(lb_dev *d, cu_result r, const char *what, lb_err *err) {
    const cuda *c = d->impl;
    if (r == CU_OK)
        return LB_OK;
    const char *text = lb_cuda_text(&c->cu, r);
    if (is_lost(r)) {
        (void)snprintf(d->lost, sizeof d->lost, "%s: %s (%d)", what, text, r);
        return lb_fail(err, LB_E_IO, "%s: the device was lost: %s", d->info.id, d->lost);
    }
    return lb_fail(err, r == CU_OUT_OF_MEMORY ? LB_E_NOMEM : LB_E_IO, "%s: %s: %s (%d)", d->info.id,
                   what, text, r);
}

/* The thread's context; cheap where it is that already. */
static lb_status enter(lb_dev *d, lb_err *err) {
    const cuda *c = d->impl;
    return result(d, c->cu.cuCtxSetCurrent(c->context), "context", err);
}

static u32 attribute(const lb_cuda_driver *cu, cu_device device, int which) {
    int v = 0;
    return cu->cuDeviceGetAttribute(&v, which, device) == CU_OK && v > 0 ? (u32)v : 0;
}

static void describe(const lb_cuda_driver *cu, cu_device device, u32 index, lb_dev_info *out) {
    size_t bytes = 0;
    *out = (lb_dev_info){.kind = LB_DEV_CUDA, .index = index};
    (void)snprintf(out->id, sizeof out->id, "cuda:%u", index);
    if (cu->cuDeviceGetName(out->name, (int)sizeof out->name, device) != CU_OK)
        (void)snprintf(out->name, sizeof out->name, "unknown");
    (void)snprintf(out->generation, sizeof out->generation, "compute capability %u.%u",
                   attribute(cu, device, CU_ATTR_MAJOR), attribute(cu, device, CU_ATTR_MINOR));
    (void)snprintf(out->driver, sizeof out->driver, "CUDA %d.%d", cu->version / 1000,
                   cu->version % 1000 / 10);
    if (cu->cuDeviceTotalMem_v2(&bytes, device) == CU_OK)
        out->memory_bytes = bytes;
    out->n_units = attribute(cu, device, CU_ATTR_UNITS);
    out->simd_threads = attribute(cu, device, CU_ATTR_WARP);
    out->threads_max = attribute(cu, device, CU_ATTR_THREADS);
    out->shared_bytes_max = attribute(cu, device, CU_ATTR_SHARED_BYTES);
    out->shared_bytes_most = attribute(cu, device, CU_ATTR_SHARED_BYTES_MOST);
    out->unified = attribute(cu, device, CU_ATTR_INTEGRATED) != 0;
    out->maps_files = attribute(cu, device, CU_ATTR_READ_ONLY_REGISTER) != 0;
    out->tuning = lb_dev_tuning_find(
        LB_DEV_CUDA,
        10 * attribute(cu, device, CU_ATTR_MAJOR) + attribute(cu, device, CU_ATTR_MINOR), 0);
    if (cu->version < LB_CUDA_VERSION_HOPPER)
        out->tuning.gemm = 0;
}

static u32 count_devices(const lb_cuda_driver *cu, lb_err *why) {
    int n = 0;
    if (cu->cuDeviceGetCount(&n) != CU_OK || n <= 0) {
        (void)lb_fail(why, LB_E_NOT_FOUND, "cuda: the driver sees no GPU");
        return 0;
    }
    return (u32)n;
}

static u32 cuda_list(lb_dev_info *out, u32 max, lb_err *why) {
    lb_cuda_driver cu;
    cu_device device;
    if (lb_cuda_driver_open(&cu, why) != LB_OK)
        return 0;
    const u32 n = count_devices(&cu, why);
    for (u32 i = 0; i < n && i < max; i++) {
        out[i] = (lb_dev_info){.kind = LB_DEV_CUDA, .index = i};
        if (cu.cuDeviceGet(&device, (int)i) == CU_OK)
            describe(&cu, device, i, &out[i]);
    }
    lb_cuda_driver_close(&cu);
    return n;
}

/* The driver compiles a text for its device, and keeps the result in a cache of its own. */
static lb_status load_module(lb_dev *d, const char *ptx, cu_module *out, lb_err *err) {
    cuda *c = d->impl;
    char log[512] = "";
    int options[] = {CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    const cu_result r = c->cu.cuModuleLoadDataEx(out, ptx, 2, options, values);
    if (r == CU_UNSUPPORTED_PTX_VERSION || r == CU_NO_BINARY_FOR_GPU)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "%s: the driver (%s) does not take the kernels: update NVIDIA's driver",
                       d->info.id, d->info.driver);
    if (r != CU_OK && log[0]) {
        log[sizeof log - 1] = 0;
        log[strcspn(log, "\n")] = 0;
        return lb_fail(err, LB_E_UNSUPPORTED, "%s: the driver does not compile the kernels: %s",
                       d->info.id, log);
    }
    return result(d, r, "kernels", err);
}

/* Compiles a kernel when it is used first. */
static lb_status need_kernel(lb_dev *d, lb_dev_kernel k, lb_err *err) {
    cuda *c = d->impl;
    const char *name = lb_dev_kernel_name(k);
    const u32 t = text_of(k);
    lb_buf text = {0};
    if (c->kernel[k])
        return LB_OK;
    const char *ptx = t == TEXT_HOPPER   ? lb_cuda_ptx_hopper
                      : t == TEXT_TENSOR ? lb_cuda_ptx_mm
                                         : lb_cuda_ptx;
    lb_cuda_common *common = &c->common[t];
    if (!common->rest.len)
        LB_TRY(lb_cuda_common_of(ptx, common, err));
    lb_status st = lb_cuda_text_of(ptx, common, name, &text, err);
    if (st == LB_OK && c->overlaps && t != TEXT_HOPPER)
        st = lb_cuda_text_hopper(&text, &c->waits[k], err);
    if (st == LB_OK)
        st = load_module(d, (const char *)text.ptr, &c->module[k], err);
    if (st == LB_OK)
        st = result(d, c->cu.cuModuleGetFunction(&c->kernel[k], c->module[k], name), name, err);
    lb_dev_shape own = {.groups = {1, 1, 1}};
    lb_dev_kernel_own_grid(k, d->info.n_units, &own);
    if (st == LB_OK && own.shared_bytes) {
        st = result(
            d,
            c->cu.cuFuncSetAttribute(c->kernel[k], CU_FUNC_SHARED_BYTES_MAX, (int)own.shared_bytes),
            name, err);
        if (st != LB_OK)
            c->kernel[k] = NULL;
    }
    lb_buf_deinit(&text);
    return st;
}

static lb_status cuda_open(lb_dev *d, lb_err *err) {
    size_t free_bytes = 0, all_bytes = 0;
    cuda *c = lb_alloc_zero(1, sizeof *c);
    d->impl = c;
    if (!c)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a device's record");
    LB_TRY(lb_cuda_driver_open(&c->cu, err));
    const u32 n = count_devices(&c->cu, err);
    if (n == 0)
        return LB_E_NOT_FOUND;
    if (d->opts.index >= n)
        return lb_fail(err, LB_E_NOT_FOUND, "cuda:%u: there is no such GPU, they are 0 to %u",
                       d->opts.index, n - 1);
    (void)snprintf(d->info.id, sizeof d->info.id, "cuda:%u", d->opts.index);
    LB_TRY(result(d, c->cu.cuDeviceGet(&c->device, (int)d->opts.index), "device", err));
    describe(&c->cu, c->device, d->opts.index, &d->info);
    const u32 major = attribute(&c->cu, c->device, CU_ATTR_MAJOR);
    const u32 minor = attribute(&c->cu, c->device, CU_ATTR_MINOR);
    if (10 * major + minor < LB_CUDA_CAPABILITY_MIN)
        return lb_fail(err, LB_E_UNSUPPORTED, "%s: %s has %s, kernels need %d.%d", d->info.id,
                       d->info.name, d->info.generation, LB_CUDA_CAPABILITY_MIN / 10,
                       LB_CUDA_CAPABILITY_MIN % 10);
    c->overlaps =
        10 * major + minor >= LB_CUDA_CAPABILITY_OVERLAP && c->cu.cuGraphAddDependencies_v2 != NULL;
    LB_TRY(result(d, c->cu.cuDevicePrimaryCtxRetain(&c->context, c->device), "context", err));
    LB_TRY(enter(d, err));
    LB_TRY(need_kernel(d, LB_DK_add, err)); /* whether the driver takes them */
    if (c->cu.cuMemGetInfo_v2(&free_bytes, &all_bytes) == CU_OK)
        d->info.free_bytes = free_bytes;
    return LB_OK;
}

static void cuda_close(lb_dev *d) {
    cuda *c = d->impl;
    if (!c)
        return;
    if (c->context) {
        (void)c->cu.cuCtxSetCurrent(c->context);
        for (u32 k = 0; k < LB_DEV_KERNEL_COUNT; k++)
            if (c->module[k])
                (void)c->cu.cuModuleUnload(c->module[k]);
        (void)c->cu.cuCtxSetCurrent(NULL);
        (void)c->cu.cuDevicePrimaryCtxRelease_v2(c->device);
    }
    for (u32 t = 0; t < TEXTS; t++)
        lb_cuda_common_deinit(&c->common[t]);
    lb_cuda_driver_close(&c->cu);
    lb_free(c);
    d->impl = NULL;
}

static lb_status cuda_buf_new(lb_dev_buf *b, lb_err *err) {
    lb_dev *d = b->dev;
    const cuda *c = d->impl;
    char what[64];
    (void)snprintf(what, sizeof what, "a buffer of %llu bytes", (unsigned long long)b->room_bytes);
    LB_TRY(enter(d, err));
    if (b->place == LB_DEV_OWN)
        return result(d, c->cu.cuMemAlloc_v2(&b->address, (size_t)b->room_bytes), what, err);
    LB_TRY(result(
        d,
        c->cu.cuMemHostAlloc(&b->host, (size_t)b->room_bytes, CU_HOST_PORTABLE | CU_HOST_DEVICEMAP),
        what, err));
    const lb_status st =
        result(d, c->cu.cuMemHostGetDevicePointer_v2(&b->address, b->host, 0), what, err);
    if (st != LB_OK)
        (void)c->cu.cuMemFreeHost(b->host);
    return st;
}

/* Whole pages around the range are pinned; impl: where they begin. */
static lb_status cuda_buf_map(lb_dev_buf *b, const void *base, lb_err *err) {
    lb_dev *d = b->dev;
    const cuda *c = d->impl;
    const uintptr_t page = lb_os_page_size(), from = (uintptr_t)base / page * page;
    const size_t bytes = lb_round_up((uintptr_t)base - from + (size_t)b->size_bytes, page);
    cu_ptr at = 0;
    LB_TRY(enter(d, err));
    if (!d->info.maps_files)
        return lb_fail(err, LB_E_UNSUPPORTED, "%s: the device does not map files", d->info.id);
    const cu_result r = c->cu.cuMemHostRegister_v2(
        (void *)from, bytes, CU_REGISTER_PORTABLE | CU_REGISTER_DEVICEMAP | CU_REGISTER_READ_ONLY);
    if (r != CU_OK && !is_lost(r))
        return lb_fail(err, LB_E_UNSUPPORTED, "%s: a mapped file of %zu bytes: %s (%d)", d->info.id,
                       bytes, lb_cuda_text(&c->cu, r), r);
    LB_TRY(result(d, r, "a mapped file", err));
    b->impl = (void *)from;
    const lb_status st =
        result(d, c->cu.cuMemHostGetDevicePointer_v2(&at, b->impl, 0), "a mapped file", err);
    if (st != LB_OK)
        (void)c->cu.cuMemHostUnregister(b->impl);
    b->address = at + ((uintptr_t)base - from);
    b->host = (u8 *)b->impl + ((uintptr_t)base - from);
    return st;
}

static void cuda_buf_free(lb_dev_buf *b) {
    const cuda *c = b->dev->impl;
    lb_err ignored;
    if (enter(b->dev, &ignored) != LB_OK)
        return;
    if (b->mapped)
        (void)c->cu.cuMemHostUnregister(b->impl);
    else if (b->place == LB_DEV_HOST)
        (void)c->cu.cuMemFreeHost(b->host);
    else
        (void)c->cu.cuMemFree_v2(b->address);
}

static lb_status cuda_queue_new(lb_dev_queue *q, lb_err *err) {
    const cuda *c = q->dev->impl;
    cu_stream s = NULL;
    LB_TRY(enter(q->dev, err));
    LB_TRY(result(q->dev, c->cu.cuStreamCreate(&s, CU_STREAM_NON_BLOCKING), "stream", err));
    q->impl = s;
    return LB_OK;
}

static void cuda_queue_free(lb_dev_queue *q) {
    const cuda *c = q->dev->impl;
    lb_err ignored;
    if (enter(q->dev, &ignored) == LB_OK)
        (void)c->cu.cuStreamDestroy_v2(q->impl);
}

/* Host and device have one address space: the driver sees which side an address is on. */
static lb_status copy(lb_dev_queue *q, cu_ptr to, cu_ptr from, u64 bytes, lb_err *err) {
    const cuda *c = q->dev->impl;
    LB_TRY(enter(q->dev, err));
    return result(q->dev, c->cu.cuMemcpyAsync(to, from, (size_t)bytes, q->impl), "copy", err);
}

static lb_status cuda_write(lb_dev_queue *q, lb_dev_arg to, const void *from, u64 bytes,
                            lb_err *err) {
    return copy(q, to.buf->address + to.off_bytes, (cu_ptr)(uintptr_t)from, bytes, err);
}

static lb_status cuda_read(lb_dev_queue *q, void *to, lb_dev_arg from, u64 bytes, lb_err *err) {
    return copy(q, (cu_ptr)(uintptr_t)to, from.buf->address + from.off_bytes, bytes, err);
}

static lb_status cuda_copy(lb_dev_queue *q, lb_dev_arg to, lb_dev_arg from, u64 bytes,
                           lb_err *err) {
    return copy(q, to.buf->address + to.off_bytes, from.buf->address + from.off_bytes, bytes, err);
}

/* Access of each to the other's memory, where their link gives it; else a copy of the driver's goes
 * through the host. */
static lb_status cuda_peer(lb_dev *to, lb_dev *from, bool *direct, lb_err *err) {
    const cuda *a = to->impl, *b = from->impl;
    int can = 0;
    *direct = false;
    LB_TRY(result(to, a->cu.cuDeviceCanAccessPeer(&can, a->device, b->device), "peer", err));
    if (!can)
        return LB_OK;
    LB_TRY(enter(to, err));
    const cu_result r = a->cu.cuCtxEnablePeerAccess(b->context, 0);
    if (r != CU_PEER_ALREADY)
        LB_TRY(result(to, r, "peer", err));
    *direct = true;
    return LB_OK;
}

static lb_status cuda_copy_peer(lb_dev_queue *q, lb_dev_arg to, lb_dev_arg from, u64 bytes,
                                lb_err *err) {
    const cuda *a = q->dev->impl, *b = from.buf->dev->impl;
    LB_TRY(enter(q->dev, err));
    return result(q->dev,
                  a->cu.cuMemcpyPeerAsync(to.buf->address + to.off_bytes, a->context,
                                          from.buf->address + from.off_bytes, b->context,
                                          (size_t)bytes, q->impl),
                  "copy", err);
}

/* A kernel's arguments as the driver takes them. */
typedef struct params {
    cu_ptr address[LB_DEV_BUFS_MAX];
    u8 val[LB_DEV_VAL_BYTES_MAX];
    void *at[LB_DEV_BUFS_MAX + 1];
} params;

static void set_params(const lb_dev_launch *l, params *p) {
    for (u32 i = 0; i < l->n_bufs; i++) {
        p->address[i] = l->buf[i].buf->address + l->buf[i].off_bytes;
        p->at[i] = &p->address[i];
    }
    memcpy(p->val, l->val, l->val_bytes);
    p->at[l->n_bufs] = p->val;
}

static lb_status cuda_launch(lb_dev_queue *q, const lb_dev_launch *l, const lb_dev_shape *s,
                             lb_err *err) {
    const cuda *c = q->dev->impl;
    lb_dev_shape own = *s;
    params p;
    set_params(l, &p);
    LB_TRY(enter(q->dev, err));
    LB_TRY(need_kernel(q->dev, l->kernel, err));
    lb_dev_kernel_own_grid(l->kernel, q->dev->info.n_units, &own);
    return result(q->dev,
                  c->cu.cuLaunchKernel(c->kernel[l->kernel], own.groups[0], own.groups[1],
                                       own.groups[2], own.n_threads, 1, 1, own.shared_bytes,
                                       q->impl, p.at, NULL),
                  lb_dev_kernel_name(l->kernel), err);
}

/* ---- recordings ---- */

/* A node waits for another by itself, once it has begun. */
static cu_result add_early(const cuda *c, cu_graph g, const cu_graph_node *before,
                           const cu_graph_node *node) {
    const cu_graph_edge e = {.from_port = CU_EDGE_PORT_PROGRAMMATIC, .type = CU_EDGE_PROGRAMMATIC};
    return c->cu.cuGraphAddDependencies_v2(g, before, node, &e, 1);
}

/* Kernels wait for all between the barriers before them. node: [n], of launches. early: those that
 * can begin before. */
static lb_status add_nodes(const lb_dev_graph *g, cu_graph to, cu_graph_node *node, bool early,
                           lb_err *err) {
    const cuda *c = g->dev->impl;
    u32 n = 0, begin = 0, last = 0; /* nodes; of this group; of the one before */
    for (u32 i = 0; i < g->n; i++) {
        const lb_dev_record *r = &g->rec[i];
        if (r->is_barrier) {
            if (n > begin) {
                last = begin;
                begin = n;
            }
            continue;
        }
        const lb_dev_launch l = lb_dev_record_launch(r);
        lb_dev_shape own = r->shape;
        params p;
        set_params(&l, &p);
        LB_TRY(need_kernel(g->dev, l.kernel, err));
        lb_dev_kernel_own_grid(l.kernel, g->dev->info.n_units, &own);
        const cu_kernel_node k = {.f = c->kernel[l.kernel],
                                  .groups = {own.groups[0], own.groups[1], own.groups[2]},
                                  .threads = {own.n_threads, 1, 1},
                                  .shared_bytes = own.shared_bytes,
                                  .params = p.at};
        const bool by_itself = early && c->waits[l.kernel];
        const u32 n_before = begin - last;
        cu_result res =
            c->cu.cuGraphAddKernelNode(&node[n], to, node + last, by_itself ? 0 : n_before, &k);
        for (u32 j = last; j < begin && by_itself && res == CU_OK; j++)
            res = add_early(c, to, &node[j], &node[n]);
        LB_TRY(result(g->dev, res, lb_dev_kernel_name(l.kernel), err));
        n++;
    }
    return LB_OK;
}

static lb_status make_graph(lb_dev_graph *g, cu_graph_node *node, bool early, lb_err *err) {
    const cuda *c = g->dev->impl;
    cu_graph graph = NULL;
    cu_graph_exec exec = NULL;
    lb_status st = result(g->dev, c->cu.cuGraphCreate(&graph, 0), "recording", err);
    if (st == LB_OK)
        st = add_nodes(g, graph, node, early, err);
    if (st == LB_OK)
        st = result(g->dev, c->cu.cuGraphInstantiate_v2(&exec, graph, NULL, NULL, 0), "recording",
                    err);
    if (graph)
        (void)c->cu.cuGraphDestroy(graph);
    g->impl = exec;
    return st;
}

/* A driver that does not take kernels which begin early has one without them. */
static lb_status cuda_graph_new(lb_dev_graph *g, lb_err *err) {
    cuda *c = g->dev->impl;
    cu_graph_node *node = lb_alloc_zero(g->n, sizeof(cu_graph_node));
    lb_err ignored;
    if (!node)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a recording");
    lb_status st = enter(g->dev, err);
    if (st == LB_OK && c->overlaps && make_graph(g, node, true, &ignored) != LB_OK)
        c->overlaps = false;
    if (st == LB_OK && !c->overlaps)
        st = make_graph(g, node, false, err);
    lb_free(node);
    return st;
}

static lb_status cuda_graph_run(lb_dev_queue *q, lb_dev_graph *g, lb_err *err) {
    const cuda *c = q->dev->impl;
    LB_TRY(enter(q->dev, err));
    return result(q->dev, c->cu.cuGraphLaunch(g->impl, q->impl), "recording", err);
}

static void cuda_graph_free(lb_dev_graph *g) {
    const cuda *c = g->dev->impl;
    lb_err ignored;
    if (enter(g->dev, &ignored) == LB_OK)
        (void)c->cu.cuGraphExecDestroy(g->impl);
}

static lb_status cuda_barrier(lb_dev_queue *q, lb_err *err) {
    (void)q;
    (void)err;
    return LB_OK;
}

static lb_status cuda_wait(lb_dev_queue *q, lb_err *err) {
    const cuda *c = q->dev->impl;
    LB_TRY(enter(q->dev, err));
    return result(q->dev, c->cu.cuStreamSynchronize(q->impl), "wait", err);
}

static lb_status cuda_event_new(lb_dev_event *e, lb_err *err) {
    const cuda *c = e->dev->impl;
    cu_event out = NULL;
    LB_TRY(enter(e->dev, err));
    LB_TRY(result(e->dev, c->cu.cuEventCreate(&out, 0), "event", err));
    e->impl = out;
    return LB_OK;
}

static void cuda_event_free(lb_dev_event *e) {
    const cuda *c = e->dev->impl;
    lb_err ignored;
    if (enter(e->dev, &ignored) == LB_OK)
        (void)c->cu.cuEventDestroy_v2(e->impl);
}

static lb_status cuda_event_record(lb_dev_event *e, lb_dev_queue *q, lb_err *err) {
    const cuda *c = e->dev->impl;
    LB_TRY(enter(e->dev, err));
    return result(e->dev, c->cu.cuEventRecord(e->impl, q->impl), "event", err);
}

static lb_status cuda_event_await(lb_dev_event *e, lb_dev_queue *q, lb_err *err) {
    const cuda *c = q->dev->impl; /* the event may be another device's */
    LB_TRY(enter(q->dev, err));
    return result(q->dev, c->cu.cuStreamWaitEvent(q->impl, e->impl, 0), "event", err);
}

static lb_status cuda_event_wait(lb_dev_event *e, lb_err *err) {
    const cuda *c = e->dev->impl;
    LB_TRY(enter(e->dev, err));
    return result(e->dev, c->cu.cuEventSynchronize(e->impl), "event", err);
}

static lb_status cuda_event_us(lb_dev_event *from, lb_dev_event *to, double *t_us, lb_err *err) {
    const cuda *c = from->dev->impl;
    float ms = 0;
    LB_TRY(enter(from->dev, err));
    LB_TRY(result(from->dev, c->cu.cuEventElapsedTime(&ms, from->impl, to->impl), "event", err));
    *t_us = (double)ms * 1000;
    return LB_OK;
}

const lb_dev_ops lb_dev_ops_cuda = {
    .list = cuda_list,
    .open = cuda_open,
    .close = cuda_close,
    .buf_new = cuda_buf_new,
    .buf_map = cuda_buf_map,
    .buf_free = cuda_buf_free,
    .queue_new = cuda_queue_new,
    .queue_free = cuda_queue_free,
    .write = cuda_write,
    .read = cuda_read,
    .copy = cuda_copy,
    .peer = cuda_peer,
    .copy_peer = cuda_copy_peer,
    .launch = cuda_launch,
    .barrier = cuda_barrier,
    .graph_new = cuda_graph_new,
    .graph_run = cuda_graph_run,
    .graph_free = cuda_graph_free,
    .wait = cuda_wait,
    .event_new = cuda_event_new,
    .event_free = cuda_event_free,
    .event_record = cuda_event_record,
    .event_await = cuda_event_await,
    .event_wait = cuda_event_wait,
    .event_us = cuda_event_us,
};
