/* SPDX-License-Identifier: Apache-2.0 */
/* making.c: see making.h. */
#include "plan/making.h"
#include "base/os.h"
#include "base/thread.h"
#include "io/size.h"
#include <stdio.h>

#define NAME "temporary file"

/* What makers take at most where the budget is larger. */
#define ENOUGH_BYTES (512 * LB_MIB)

lb_status lb_making_file(lb_source *s, lb_making *m, u64 size_bytes, lb_err *err) {
    s->files = lb_arena_new(&s->perm, lb_file, 1);
    s->made_fd = lb_arena_new(&s->perm, int, 1);
    if (!s->files || !s->made_fd)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory", s->path);
    s->files[0] = (lb_file){.path = s->path, .name = LB_STR("made"), .size_bytes = size_bytes};
    s->n_files = 1;
    *s->made_fd = -1;
    s->making = m;
    return LB_OK;
}

static bool is_read(const lb_plan *p, u32 source) {
    for (u64 t = 0; t < p->graph.sources[source]->n_tensors; t++)
        if (p->src[source].used[t])
            return true;
    return false;
}

static lb_status check_disk(const lb_source *s, const lb_run_options *o, lb_err *err) {
    char need[LB_SIZE_TEXT], have[LB_SIZE_TEXT];
    const char *dir = o->temp_dir ? o->temp_dir : lb_os_env("TMPDIR");
    dir = dir ? dir : "/tmp";
    u64 free_bytes = lb_os_disk_free(dir);
    if (free_bytes >= s->files[0].size_bytes)
        return LB_OK;
    return lb_fail(err, LB_E_LIMIT, "%s: a temporary file of %s is needed, %s has %s free (TMPDIR)",
                   s->path, lb_size_text(s->files[0].size_bytes, need), dir,
                   lb_size_text(free_bytes, have));
}

/* The file under a name by which it can be opened again, as every file that is read. */
static lb_status name_file(const lb_source *s, int fd, lb_err *err) {
    lb_fstat st;
    char path[32];
    lb_str text = {path, (size_t)snprintf(path, sizeof path, "/dev/fd/%d", fd)};
    LB_TRY(lb_os_fstat(fd, NAME, &st, err));
    s->files[0].path = lb_arena_str((lb_arena *)(uintptr_t)&s->perm, text).ptr;
    if (!s->files[0].path)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory", s->path);
    s->files[0].dev = st.dev;
    s->files[0].ino = st.ino;
    s->files[0].mtime_ns = st.mtime_ns;
    return LB_OK;
}

static u64 buffer_bytes(const lb_plan *p, u64 limit) {
    u64 held = lb_run_base_bytes() + p->threads * LB_STACK_BYTES;
    return limit > held ? limit - held : 0;
}

static lb_status make(const lb_plan *p, const lb_source *s, const lb_run_options *o, lb_err *err) {
    lb_making_env env = {.kernels = o->kernels,
                         .temp_dir = o->temp_dir,
                         .memory_bytes = buffer_bytes(p, LB_MIN(p->limit_bytes, ENOUGH_BYTES)),
                         .memory_max_bytes = buffer_bytes(p, p->limit_bytes),
                         .threads = p->threads,
                         .stop = o->stop,
                         .progress = o->progress,
                         .user = o->user};
    int fd = -1;
    LB_TRY(check_disk(s, o, err));
    lb_status st = lb_os_open_temp(o->temp_dir, &fd, err);
    if (st == LB_OK)
        st = lb_os_truncate(fd, NAME, s->files[0].size_bytes, err);
    if (st == LB_OK)
        st = s->making->make(s->making, &env, fd, err);
    if (st == LB_OK)
        st = name_file(s, fd, err);
    if (st != LB_OK) {
        lb_os_close(&fd);
        return st;
    }
    *s->made_fd = fd;
    return LB_OK;
}

lb_status lb_making_run(const lb_plan *p, const lb_run_options *o, lb_err *err) {
    for (u32 i = 0; i < p->graph.n_sources; i++) {
        const lb_source *s = p->graph.sources[i];
        if (s->making && *s->made_fd < 0 && is_read(p, i))
            LB_TRY(make(p, s, o, err));
    }
    return LB_OK;
}
