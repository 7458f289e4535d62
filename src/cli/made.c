/* SPDX-License-Identifier: Apache-2.0 */
/* made.c: see made.h. */
#include "cli/made.h"
#include "base/interrupt.h"
#include "base/os.h"
#include "cli/text.h"
#include "cli/typing.h"
#include "ops/convert.h"
#include "ops/open.h"
#include <stdio.h>

#define PREFIX "lbrx-run-"
#define PLAN_BYTES (256 * LB_MIB)

const char *lb_run_folder(lb_arena *arena) {
    const char *own = lb_os_env("LBRX_CACHE"), *xdg = lb_os_env("XDG_CACHE_HOME");
    const char *home = lb_os_env("HOME"), *tmp = lb_os_env("TMPDIR");
    if (tmp)
        return tmp;
    if (!own && !xdg && !home)
        return "/tmp";
    if (!own && !xdg) {
        xdg = lb_arena_printf(arena, "%s/.cache", home).ptr;
        if (xdg)
            (void)lb_os_mkdir(xdg, true, NULL);
    }
    const char *dir = own ? own : xdg ? lb_arena_printf(arena, "%s/lbrx", xdg).ptr : NULL;
    return !dir || lb_os_mkdir(dir, true, NULL) == LB_OK ? dir : "/tmp";
}

static const char *inside(lb_arena *a, const char *dir, const char *name) {
    return lb_os_join(a, dir, lb_str_c(name));
}

/* Removes what has a lock that nobody holds. */
static void sweep(const char *dir) {
    lb_arena a = {0};
    lb_str *names;
    u64 n = 0;
    if (lb_os_list(dir, &a, &names, &n, NULL) != LB_OK)
        n = 0;
    for (u64 i = 0; i < n; i++) {
        const char *path =
            lb_str_starts(names[i], LB_STR(PREFIX)) ? lb_os_join(&a, dir, names[i]) : NULL;
        const char *lock = path ? inside(&a, path, "lock") : NULL;
        int fd = -1;
        if (!lock || !lb_os_exists(lock) || lb_os_open_write(lock, false, &fd, NULL) != LB_OK)
            continue;
        if (lb_os_lock(fd, lock, NULL) == LB_OK)
            (void)lb_os_remove_tree(path, NULL);
        lb_os_close(&fd);
    }
    lb_arena_deinit(&a);
}

static lb_status make_folder(lb_made_model *m, lb_arena *arena, lb_err *err) {
    const char *dir = lb_run_folder(arena);
    u64 tag;
    if (!dir)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    sweep(dir);
    lb_os_random(&tag, sizeof tag);
    m->folder = lb_arena_printf(arena, "%s/" PREFIX "%016llx", dir, (unsigned long long)tag).ptr;
    const char *lock = m->folder ? inside(arena, m->folder, "lock") : NULL;
    if (!lock)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    LB_TRY(lb_os_mkdir(m->folder, false, err));
    LB_TRY(lb_os_open_write(lock, true, &m->lock, err));
    return lb_os_lock(m->lock, lock, err);
}

static lb_to format_of(const char *type) {
    static const char *const hf[] = {"fp8", "fp8-block", "w4a16", "w8a8"};
    if (lb_str_starts(lb_str_c(type), LB_STR("mlx-")))
        return LB_TO_MLX;
    for (u32 i = 0; i < LB_LEN(hf); i++)
        if (strcmp(type, hf[i]) == 0)
            return LB_TO_HF;
    return LB_TO_GGUF;
}

typedef struct making {
    lb_progress progress;
    const char *type, *folder;
    bool quiet;
} making;

/* Before anything is computed. */
static void announce(void *user, u64 bytes) {
    const making *x = user;
    char size[LB_TEXT_BYTES];
    if (!x->quiet)
        fprintf(stderr, "making %s of %s first, in %s\n", lb_size_text(bytes, size), x->type,
                x->folder);
}

static void show_progress(void *user, u64 done, u64 total) {
    making *x = user;
    lb_progress_update(&x->progress, done, total);
}

static lb_status convert(lb_made_model *m, const lb_source *from, lb_convert_opts *c,
                         const lb_common *common, const char *type, lb_err *err) {
    making x = {.type = type, .folder = m->folder, .quiet = common->quiet};
    lb_out_report report = {0};
    lb_buf plan = {0}, remarks = {0};
    lb_progress_begin(&x.progress, common->progress, "quantize");
    c->w.planned = announce;
    c->w.progress = show_progress;
    c->w.user = &x;
    lb_status st = lb_convert(from, c, &plan, &remarks, &report, err);
    lb_progress_end(&x.progress);
    lb_buf_deinit(&plan);
    lb_buf_deinit(&remarks);
    return st;
}

lb_status lb_made_make(lb_made_model *m, lb_cli *cli, const lb_common *common,
                       const lb_kernels *kernels, const lb_source *from, const char *type,
                       lb_err *err) {
    const lb_to to = format_of(type);
    const lb_typing typing = {.type = type, .requantize = true};
    lb_quantize_opts q;
    *m = (lb_made_model){.lock = -1};
    if (strchr(type, ','))
        return lb_fail(err, LB_E_USAGE, "--type %s: a model runs in one type", type);
    LB_TRY(lb_typing_fill(&typing, &q, err));
    lb_status st = make_folder(m, &cli->arena, err);
    const char *out =
        st == LB_OK ? inside(&cli->arena, m->folder, to == LB_TO_GGUF ? "model.gguf" : "model")
                    : NULL;
    lb_convert_opts c = {.verb = "quantize",
                         .quantize = &q,
                         .w = {.output = out,
                               .to = to,
                               .memory_bytes = LB_MIN(common->memory_bytes, PLAN_BYTES),
                               .threads = (u32)common->n_threads,
                               .no_sync = true,
                               .no_provenance = true,
                               .kernels = kernels,
                               .stop = lb_interrupt_stop}};
    if (st == LB_OK)
        st = out ? convert(m, from, &c, common, type, err)
                 : lb_fail(err, LB_E_NOMEM, "out of memory for names");
    if (st == LB_OK)
        st = lb_open(&m->source, out, err);
    if (st != LB_OK)
        lb_made_forget(m);
    return st;
}

void lb_made_forget(lb_made_model *m) {
    if (m->folder)
        (void)lb_os_remove_tree(m->folder, NULL);
    m->folder = NULL;
    lb_os_close(&m->lock);
}
