/* SPDX-License-Identifier: Apache-2.0 */
/* metal.c: the GPU of an Apple processor: the device, its buffers, its kernels.
 *
 * Memory is one: every buffer is in shared storage, and pages of a mapped file are a buffer as they
 * lie. The kernels' text is compiled at the first launch, each kernel's pipeline at its own. */
#include "device/metal.h"
#include "base/os.h"
#include "io/size.h"
#include <stdio.h>

enum { FAMILY_MIN = 7, FAMILY_MAX = 16, THREADS_MAX = 1024 };

/* Generations: Metal's family AppleN and the number in the architecture's name ("applegpu_g16s"),
 * which tells M3 from M4. Families: ggml-metal-device.m; numbers: mlx backend/metal/device.cpp. */
static const struct {
    u32 family, arch;
    const char *name;
} chips[] = {{7, 13, "M1"}, {8, 14, "M2"}, {9, 15, "M3"}, {9, 16, "M4"}, {10, 17, "M5"}};

/* The system's default device; where there is none, as in some sandboxes, the first of all. +1. */
static void *find_device(const lb_metal_api *a) {
    void *device = a->MTLCreateSystemDefaultDevice();
    if (device || !a->MTLCopyAllDevices)
        return device;
    void *all = a->MTLCopyAllDevices();
    if (all && LB_SEND0(a, count, all) > 0)
        device = LB_SEND0(a, retain, LB_SEND(a, at, all, 0ul));
    lb_metal_release(a, all);
    return device;
}

static u32 family_of(const lb_metal_api *a, void *device) {
    u32 family = 0;
    for (long n = 1; n <= FAMILY_MAX; n++)
        if (LB_SEND(a, family, device, LB_MTL_FAMILY_APPLE + n))
            family = (u32)n;
    return family;
}

/* The number in "applegpu_g16s"; 0: macOS 13 does not tell. */
static u32 arch_of(const lb_metal_api *a, void *device, char *out, size_t room) {
    static const char lead[] = "applegpu_g";
    u32 number = 0;
    out[0] = 0;
    if (!LB_SEND(a, responds, device, a->sel_architecture))
        return 0;
    void *architecture = LB_SEND0(a, architecture, device);
    if (architecture)
        lb_metal_text(a, LB_SEND0(a, name, architecture), out, room);
    if (strncmp(out, lead, sizeof lead - 1) == 0)
        for (const char *p = out + sizeof lead - 1; *p >= '0' && *p <= '9' && number < 1000; p++)
            number = 10 * number + (u32)(*p - '0');
    return number;
}

/* "M4, Apple9 (applegpu_g16s)"; a chip that the table does not know has its family alone. Where the
 * architecture has no name, the family tells the least number. */
static lb_dev_tuning put_generation(const lb_metal_api *a, void *device, char *out, size_t room) {
    const u32 family = family_of(a, device);
    char arch[32];
    const u32 number = arch_of(a, device, arch, sizeof arch);
    u32 least = 0;
    lb_buf text = {0};
    for (u32 i = 0; i < LB_LEN(chips); i++)
        least = chips[i].family == family && !least ? chips[i].arch : least;
    for (u32 i = 0; i < LB_LEN(chips); i++)
        if (number ? chips[i].arch == number : chips[i].family == family)
            lb_buf_printf(&text, "%s%s", text.len ? " or " : "", chips[i].name);
    lb_buf_printf(&text, "%sApple%u", text.len ? ", " : "", family);
    if (arch[0])
        lb_buf_printf(&text, " (%s)", arch);
    (void)snprintf(out, room, "%.*s", LB_FMT(lb_buf_str(&text)));
    lb_buf_deinit(&text);
    return lb_dev_tuning_find(LB_DEV_METAL, number ? number : least,
                              arch[0] ? arch[strlen(arch) - 1] : 0);
}

static void describe(const lb_metal_api *a, void *device, lb_dev_info *out) {
    const char *version = LB_SEND(a, family, device, (long)LB_MTL_FAMILY_METAL4)   ? "Metal 4"
                          : LB_SEND(a, family, device, (long)LB_MTL_FAMILY_METAL3) ? "Metal 3"
                                                                                   : "Metal 2";
    *out = (lb_dev_info){.kind = LB_DEV_METAL, .id = "metal", .simd_threads = 32};
    lb_metal_text(a, LB_SEND0(a, name, device), out->name, sizeof out->name);
    out->tuning = put_generation(a, device, out->generation, sizeof out->generation);
    (void)snprintf(out->driver, sizeof out->driver, "%s", version);
    out->memory_bytes = LB_SEND0(a, working_set, device);
    const u64 used = LB_SEND0(a, allocated, device);
    out->free_bytes = out->memory_bytes > used ? out->memory_bytes - used : 0;
    out->threads_max = THREADS_MAX; /* of every family since Apple4; pipelines say their own */
    out->shared_bytes_max = (u32)LB_SEND0(a, shared_max, device);
    out->unified = LB_SEND0(a, unified, device);
    out->maps_files = out->unified;
}

static u32 metal_list(lb_dev_info *out, u32 max, lb_err *why) {
    lb_metal_api a;
    u32 n = 0;
    if (lb_metal_api_open(&a, why) == LB_OK) {
        void *pool = a.objc_autoreleasePoolPush();
        void *device = find_device(&a);
        n = device ? 1 : 0;
        if (!device)
            (void)lb_fail(why, LB_E_NOT_FOUND, "metal: the system has no GPU for this program");
        else if (max)
            describe(&a, device, out);
        lb_metal_release(&a, device);
        a.objc_autoreleasePoolPop(pool);
    }
    lb_metal_api_close(&a);
    return n;
}

static lb_status start(lb_dev *d, lb_err *err) {
    lb_metal *m = d->impl;
    const lb_metal_api *a = &m->api;
    m->device = find_device(a);
    if (!m->device)
        return lb_fail(err, LB_E_NOT_FOUND, "metal: the system has no GPU for this program");
    describe(a, m->device, &d->info);
    if (family_of(a, m->device) < FAMILY_MIN || !d->info.unified)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "metal: %s (%s) is no GPU of Apple silicon, kernels need an M1 or later",
                       d->info.name, d->info.generation);
    m->buffer_max = LB_SEND0(a, buffer_max, m->device);
    m->scratch = LB_SEND(a, new_buffer, m->device, 16ul, (unsigned long)LB_MTL_SHARED_UNTRACKED);
    return m->scratch ? LB_OK
                      : lb_fail(err, LB_E_NOMEM, "metal: a buffer of 16 bytes: out of memory");
}

static lb_status metal_open(lb_dev *d, lb_err *err) {
    lb_metal *m = lb_alloc_zero(1, sizeof *m);
    d->impl = m;
    if (!m)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a device's record");
    if (d->opts.index != 0)
        return lb_fail(err, LB_E_NOT_FOUND, "metal:%u: there is one device metal", d->opts.index);
    LB_TRY(lb_metal_api_open(&m->api, err));
    void *pool = m->api.objc_autoreleasePoolPush();
    const lb_status st = start(d, err);
    m->api.objc_autoreleasePoolPop(pool);
    return st;
}

static void metal_close(lb_dev *d) {
    lb_metal *m = d->impl;
    if (!m)
        return;
    for (u32 k = 0; k < LB_DEV_KERNEL_COUNT; k++)
        lb_metal_release(&m->api, m->pipeline[k]);
    lb_metal_release(&m->api, m->library);
    lb_metal_release(&m->api, m->scratch);
    lb_metal_release(&m->api, m->device);
    lb_metal_api_close(&m->api);
    lb_free(m);
    d->impl = NULL;
}

/* ---- kernels ---- */

/* The text itself asks for exact arithmetic; older compilers do not know its pragmas. */
static void *compile_options(const lb_metal_api *a) {
    void *options = LB_SEND0(a, make, a->objc_getClass("MTLCompileOptions"));
    if (!options)
        return NULL;
    if (LB_SEND(a, responds, options, a->sel_math_mode)) /* macOS 15 */
        LB_SEND(a, math_mode, options, (long)LB_MTL_MATH_SAFE);
    else
        LB_SEND(a, fast_math, options, false);
    LB_SEND(a, language, options, (unsigned long)LB_MTL_LANGUAGE_3_0);
    return options;
}

static lb_status compile(lb_dev *d, lb_err *err) {
    lb_metal *m = d->impl;
    const lb_metal_api *a = &m->api;
    if (!m->library && !m->why[0]) {
        void *error = NULL, *options = compile_options(a);
        void *text = LB_SEND(a, string, a->objc_getClass("NSString"), lb_metal_msl);
        m->library = LB_SEND(a, new_library, m->device, text, options, &error);
        if (!m->library)
            lb_metal_error(a, error, m->why, sizeof m->why);
        lb_metal_release(a, options);
    }
    return m->library ? LB_OK
                      : lb_fail(err, LB_E_UNSUPPORTED,
                                "metal: the system does not compile the kernels: %s", m->why);
}

static lb_status make_pipeline(lb_dev *d, lb_dev_kernel k, lb_err *err) {
    lb_metal *m = d->impl;
    const lb_metal_api *a = &m->api;
    const char *name = lb_dev_kernel_name(k);
    char why[256];
    LB_TRY(compile(d, err));
    void *text = LB_SEND(a, string, a->objc_getClass("NSString"), name);
    void *error = NULL, *function = LB_SEND(a, new_function, m->library, text);
    if (!function)
        return lb_fail(err, LB_E_UNSUPPORTED, "metal: the kernels have no %s", name);
    void *pipeline = LB_SEND(a, new_pipeline, m->device, function, &error);
    lb_metal_release(a, function);
    if (!pipeline) {
        lb_metal_error(a, error, why, sizeof why);
        return lb_fail(err, LB_E_UNSUPPORTED, "metal: kernel %s: %s", name, why);
    }
    const unsigned long width = LB_SEND0(a, simd_width, pipeline);
    if (width != d->info.simd_threads) {
        lb_metal_release(a, pipeline);
        return lb_fail(err, LB_E_UNSUPPORTED, "metal: kernel %s: %lu threads run in step, not %u",
                       name, width, d->info.simd_threads);
    }
    m->threads_max[k] = (u32)LB_SEND0(a, threads_max, pipeline);
    m->pipeline[k] = pipeline;
    return LB_OK;
}

lb_status lb_metal_pipeline(lb_dev *d, lb_dev_kernel k, u32 n_threads, void **out, lb_err *err) {
    lb_metal *m = d->impl;
    if (!m->pipeline[k])
        LB_TRY(make_pipeline(d, k, err));
    if (n_threads > m->threads_max[k])
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "metal: kernel %s: the GPU takes threadgroups of %u threads, it needs %u",
                       lb_dev_kernel_name(k), m->threads_max[k], n_threads);
    *out = m->pipeline[k];
    return LB_OK;
}

/* ---- buffers ---- */

/* Beyond the working set the system would swap, or stop the program's work half-way. */
static lb_status metal_buf_new(lb_dev_buf *b, lb_err *err) {
    lb_metal *m = b->dev->impl;
    const u64 all = b->dev->info.memory_bytes;
    char want[LB_SIZE_TEXT], limit[LB_SIZE_TEXT];
    if (b->room_bytes > m->buffer_max)
        return lb_fail(err, LB_E_NOMEM, "metal: a buffer of %s: the GPU's longest has %s",
                       lb_size_text(b->room_bytes, want), lb_size_text(m->buffer_max, limit));
    if (m->own_bytes > all || b->room_bytes > all - m->own_bytes)
        return lb_fail(err, LB_E_NOMEM,
                       "metal: a buffer of %s: out of the %s that the GPU may use (sysctl "
                       "iogpu.wired_limit_mb raises it)",
                       lb_size_text(b->room_bytes, want), lb_size_text(all, limit));
    b->impl = LB_SEND(&m->api, new_buffer, m->device, (unsigned long)b->room_bytes,
                      (unsigned long)LB_MTL_SHARED_UNTRACKED);
    if (!b->impl)
        return lb_fail(err, LB_E_NOMEM, "metal: a buffer of %s: out of memory",
                       lb_size_text(b->room_bytes, want));
    m->own_bytes += b->room_bytes;
    b->host = LB_SEND0(&m->api, contents, b->impl);
    b->address = (u64)(uintptr_t)b->host;
    return LB_OK;
}

/* Whole pages around the range are the buffer. */
static lb_status metal_buf_map(lb_dev_buf *b, const void *base, lb_err *err) {
    lb_metal *m = b->dev->impl;
    const uintptr_t page = lb_os_page_size(), from = (uintptr_t)base / page * page;
    const size_t bytes = lb_round_up((uintptr_t)base - from + (size_t)b->size_bytes, page);
    char want[LB_SIZE_TEXT], limit[LB_SIZE_TEXT];
    const u64 most = LB_MIN(m->buffer_max, b->dev->info.memory_bytes);
    if (bytes > most)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "metal: a mapped file of %s: the GPU's longest buffer has %s",
                       lb_size_text(bytes, want), lb_size_text(most, limit));
    b->impl = LB_SEND(&m->api, new_mapped, m->device, (void *)from, (unsigned long)bytes,
                      (unsigned long)LB_MTL_SHARED_UNTRACKED, NULL);
    if (!b->impl)
        return lb_fail(err, LB_E_UNSUPPORTED, "metal: a mapped file of %s is refused",
                       lb_size_text(bytes, want));
    b->address = (u64)(uintptr_t)base;
    b->host = (u8 *)from + ((uintptr_t)base - from);
    return LB_OK;
}

unsigned long lb_metal_lead(const lb_dev_buf *b) {
    return b->mapped ? (unsigned long)(b->address % lb_os_page_size()) : 0;
}

/* Command buffers do not hold what they use: of a lost device, nobody has waited for them. */
static void metal_buf_free(lb_dev_buf *b) {
    lb_metal *m = b->dev->impl;
    if (b->dev->lost[0])
        lb_metal_drain(b->dev);
    if (!b->mapped)
        m->own_bytes -= b->room_bytes;
    lb_metal_release(&m->api, b->impl);
}

const lb_dev_ops lb_dev_ops_metal = {
    .list = metal_list,
    .open = metal_open,
    .close = metal_close,
    .buf_new = metal_buf_new,
    .buf_map = metal_buf_map,
    .buf_free = metal_buf_free,
    .queue_new = lb_metal_queue_new,
    .queue_free = lb_metal_queue_free,
    .write = lb_metal_write,
    .read = lb_metal_read,
    .copy = lb_metal_copy,
    .launch = lb_metal_launch,
    .barrier = lb_metal_barrier,
    .wait = lb_metal_wait,
    .event_new = lb_metal_event_new,
    .event_free = lb_metal_event_free,
    .event_record = lb_metal_event_record,
    .event_await = lb_metal_event_await,
    .event_us = lb_metal_event_us,
};
