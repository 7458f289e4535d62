/* SPDX-License-Identifier: Apache-2.0 */
/* compile.c: kernels' text by mslcc.sh, which is clang; their threads as fibers of
 * device/cpu_fiber.h. */
#include "base/mem.h"
#include "fake.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct msl_host {
    void (*barrier)(int line);
    float (*simd_sum)(float value, int line);
    float (*simd_max)(float value, int line);
    u32 (*thread_index)(void);
} msl_host;

typedef struct run {
    const fake_library *library;
    const fake_kernel *kernel;
    void *const *args;
    u32 group[3];
    bool begun;
} run;

static lb_fibers *fibers;

static lb_fiber *self(void) {
    return lb_fibers_running(fibers);
}

static void barrier(int line) {
    lb_fiber_barrier(self(), line);
}

static float simd_sum(float value, int line) {
    return lb_fiber_simd(self(), LB_FIBER_SUM, value, line);
}

static float simd_max(float value, int line) {
    return lb_fiber_simd(self(), LB_FIBER_MAX, value, line);
}

static u32 thread_index(void) {
    return self()->thread;
}

/* The first thread of a threadgroup that runs finds its memory with NaN in it. */
static void run_thread(lb_fiber *f, void *const *args) {
    run *r = args[0];
    const u32 place[4] = {f->group[0], f->group[1], f->group[2], f->thread};
    if (!r->begun || memcmp(r->group, f->group, sizeof r->group) != 0) {
        r->begun = true;
        memcpy(r->group, f->group, sizeof r->group);
        if (r->library->shared_bytes)
            memset(r->library->shared, 0xff, (size_t)r->library->shared_bytes);
        if (r->kernel->shared)
            memset(r->kernel->shared, 0xff, (size_t)(r->kernel->shared_end - r->kernel->shared));
    }
    r->kernel->call(r->args, place);
}

bool fake_run(const fake_library *l, const fake_kernel *k, void *const *args, const u32 groups[3],
              u32 n_threads, lb_err *why) {
    static const lb_cpu_kernel kernel = {run_thread, "", 0};
    run r = {l, k, args, {0, 0, 0}, false};
    void *const outer[1] = {&r};
    const lb_fiber_grid grid = {
        {groups[0], groups[1], groups[2]}, n_threads, (u32)fake_number("STUB_METAL_SCHEDULE", 7)};
    if (!fibers && lb_fibers_new(&fibers, why) != LB_OK)
        return false;
    return lb_fibers_run(fibers, k->name, &kernel, outer, &grid, why) == LB_OK;
}

__attribute__((destructor)) static void at_end(void) {
    lb_fibers_free(&fibers);
}

static char *slurp(const char *path) {
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, 65536);
    if (!text)
        fake_die("out of memory");
    if (f) {
        text[fread(text, 1, 65535, f)] = 0;
        (void)fclose(f);
    }
    return text;
}

static void open_library(fake_library *l, const char *path) {
    static const msl_host host = {barrier, simd_sum, simd_max, thread_index};
    void (*bind)(const msl_host *, char **, u64 *);
    l->dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!l->dl)
        fake_die("%s", dlerror());
    void *at = dlsym(l->dl, "lbk_msl_bind");
    memcpy(&bind, &at, sizeof at);
    l->kernels = dlsym(l->dl, "lbk_msl_kernels");
    if (!at || !l->kernels)
        fake_die("the compiled kernels have no table");
    bind(&host, &l->shared, &l->shared_bytes);
}

bool fake_compile(fake_library *l, const char *text, char **log) {
    const char *tmp = getenv("TMPDIR");
    char dir[512], path[600], command[2400];
    (void)snprintf(dir, sizeof dir, "%s/fake-metal-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        fake_die("no folder %s", dir);
    (void)snprintf(path, sizeof path, "%s/kernels.metal", dir);
    FILE *f = fopen(path, "wb");
    if (!f || fputs(text, f) < 0 || (fake_mode("broken") && fputs("\n#error not today\n", f) < 0) ||
        fclose(f) != 0)
        fake_die("%s cannot be written", path);
    (void)snprintf(command, sizeof command,
                   "LB_TEST_MSL_CACHE='%s' LB_TEST_MSL_TARGET='%s' sh '%s' '%s' '%s/kernels.so' "
                   "2>'%s/log'",
                   LB_MSL_CACHE, LB_MSL_TARGET, LB_MSL_COMPILER, path, dir, dir);
    const bool ok = system(command) == 0;
    if (ok) {
        (void)snprintf(path, sizeof path, "%s/kernels.so", dir);
        open_library(l, path);
    } else {
        (void)snprintf(path, sizeof path, "%s/log", dir);
        *log = slurp(path);
    }
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command) != 0)
        fake_die("%s cannot be removed", dir);
    return ok;
}
