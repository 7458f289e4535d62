/* SPDX-License-Identifier: Apache-2.0 */
/* common.c: the options of every command that computes; opening a model; the log. */
#include "base/os.h"
#include "base/thread.h"
#include "cli/cli.h"
#include "cli/text.h"
#include "ops/hub.h"
#include "ops/lora.h"
#include "ops/moe.h"
#include "ops/open.h"
#include "ops/pull.h"
#include "plan/run.h"
#include <stdio.h>

const lb_opt lb_common_opts[LB_COMMON_OPTS] = {
    {.name = "threads",
     .short_name = 't',
     .kind = LB_OPT_INT,
     .arg = "N",
     .min = 1,
     .max = 1024,
     .help = "number of threads; all cores the process may use unless given",
     .off = offsetof(lb_common, n_threads)},
    {.name = "memory",
     .kind = LB_OPT_SIZE,
     .arg = "SIZE",
     .initial = "1GB",
     .help = "hard limit for the memory of the process: 512MB, 4GiB",
     .off = offsetof(lb_common, memory_bytes),
     .given_off = offsetof(lb_common, memory_given)},
    {.name = "device",
     .kind = LB_OPT_STR,
     .arg = "auto|cpu|cuda[:N]|metal",
     .initial = "auto",
     .help = "where arithmetic runs; auto: of what runs a model and of selftest a GPU where there "
             "is one, else the CPU; cuda:0,cuda:1: a model on both",
     .off = offsetof(lb_common, device)},
    {.name = "device-memory",
     .kind = LB_OPT_SIZE,
     .arg = "SIZE",
     .help = "limit for what is put into the memory of --device; what it has free unless given",
     .off = offsetof(lb_common, device_memory_bytes)},
    {.name = "json",
     .kind = LB_OPT_FLAG,
     .help = "print the result as one JSON object",
     .off = offsetof(lb_common, json)},
    {.name = "quiet",
     .short_name = 'q',
     .kind = LB_OPT_FLAG,
     .help = "no progress and no remarks on stderr; the result is still printed",
     .off = offsetof(lb_common, quiet)},
    {.name = "progress",
     .kind = LB_OPT_ENUM,
     .arg = "auto|bar|plain|json|none",
     .initial = "auto",
     .help = "how progress is shown on stderr: a bar on a terminal, plain lines otherwise",
     .off = offsetof(lb_common, progress)},
};

lb_status lb_common_finish(lb_common *c, lb_err *err) {
    LB_TRY(lb_common_finish_device(c, err));
    if (c->choice.kind != LB_DEV_CPU || c->choice.emulated)
        return lb_fail(err, LB_E_USAGE,
                       "--device: '%s': this command computes on the CPU alone: use --device cpu",
                       c->device);
    return LB_OK;
}

lb_status lb_common_finish_device(lb_common *c, lb_err *err) {
    LB_TRY(lb_common_finish_devices(c, err));
    LB_TRY(lb_common_check_cpu(c, err));
    return c->choice.n > 1
               ? lb_fail(err, LB_E_USAGE, "--device: '%s': this command computes on one device",
                         c->device)
               : LB_OK;
}

lb_status lb_common_check_cpu(const lb_common *c, lb_err *err) {
    return c->device_memory_bytes && c->choice.kind == LB_DEV_CPU && !c->choice.emulated
               ? lb_fail(err, LB_E_USAGE,
                         "--device-memory: --device %s is the CPU, whose limit is --memory",
                         c->device)
               : LB_OK;
}

lb_status lb_common_finish_devices(lb_common *c, lb_err *err) {
    LB_TRY(lb_dev_choice_parse(c->device, &c->choice, err));
    if (!c->choice.is_auto)
        LB_TRY(lb_common_check_cpu(c, err));
    if (c->n_threads == 0)
        c->n_threads = lb_cpu_count();
    if (c->quiet)
        c->progress = LB_PROGRESS_NONE;
    return LB_OK;
}

u64 lb_cli_limit_heap(u64 memory_bytes) {
    u64 data = lb_run_base_bytes(), used = lb_mem_used(), process_bytes = data - LB_MIN(data, used);
    lb_mem_limit(memory_bytes > process_bytes ? memory_bytes - process_bytes : 1);
    return process_bytes;
}

void lb_cli_log(const lb_cli *cli, const char *fmt, ...) {
    char line[1024];
    lb_buf text = {0};
    va_list ap;
    if (!cli->log)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    lb_buf_put_c(&text, "log: ");
    lb_put_safe(&text, lb_str_c(line));
    lb_buf_put_c(&text, "\n");
    if (!text.oom)
        (void)fwrite(text.ptr, 1, text.len, stderr);
    lb_buf_deinit(&text);
}

/* A model of the hub that is not in the cache: the same as `lbrx pull` before. */
static lb_status fetch(const char *arg, u32 mode, lb_err *err) {
    lb_arena arena = {0};
    lb_progress progress;
    lb_pull_result r;
    lb_err why = {0};
    lb_progress_begin(&progress, mode, "pull");
    lb_status st = lb_pull(arg,
                           &(lb_pull_opts){.connections = LB_PULL_CONNECTIONS,
                                           .one_model = true,
                                           .progress = lb_progress_update,
                                           .note = lb_progress_note,
                                           .user = &progress},
                           &arena, &r, &why);
    lb_progress_end(&progress);
    lb_arena_deinit(&arena);
    if (st == LB_E_IO || st == LB_E_UNSUPPORTED) /* no network: the first message says what to do */
        return lb_fail(err, LB_E_NOT_FOUND, "%s: not in the local cache, and not to be had: %s",
                       arg, why.msg);
    *err = st == LB_OK ? *err : why;
    return st;
}

lb_status lb_cli_fetch_missing(const lb_common *common, const char *arg, lb_err *err) {
    lb_arena arena = {0};
    const char *path;
    lb_str id;
    lb_err why = {0};
    bool missing =
        common && lb_hub_is(arg) && lb_hub_find(arg, &arena, &path, &id, &why) == LB_E_NOT_FOUND;
    lb_arena_deinit(&arena);
    return missing ? fetch(arg, common->progress, err) : LB_OK;
}

/* MODEL+ADAPTER: the model and each adapter. */
static lb_status fetch_split(const lb_common *common, const char *arg, size_t base_len,
                             const size_t *at, u32 n, lb_err *err) {
    lb_arena names = {0};
    lb_status st = LB_OK;
    for (u32 i = 0; i <= n && st == LB_OK; i++) {
        size_t from = i ? at[i - 1] : 0;
        size_t end = i == 0 ? base_len : i < n ? at[i] - 1 : strlen(arg);
        lb_str name = lb_arena_str(&names, (lb_str){arg + from, end - from});
        st = name.ptr ? lb_cli_fetch_missing(common, name.ptr, err)
                      : lb_fail(err, LB_E_NOMEM, "out of memory for names");
    }
    lb_arena_deinit(&names);
    return st;
}

typedef lb_status open_fn(lb_source **out, const char *arg, lb_err *err);

static lb_status open_with(open_fn *open, const lb_cli *cli, const lb_common *common,
                           lb_source **out, const char *arg, lb_err *err) {
    u64 begin = lb_os_now_us();
    lb_status st = open(out, arg, err);
    size_t base_len, at[LB_LORA_MAX];
    u32 n = 0;
    if (st == LB_E_NOT_FOUND && common)
        lb_lora_split(arg, &base_len, at, &n);
    if (st == LB_E_NOT_FOUND && common && (n || lb_hub_is(arg))) {
        LB_TRY(n ? fetch_split(common, arg, base_len, at, n, err)
                 : fetch(arg, common->progress, err));
        st = open(out, arg, err);
    }
    LB_TRY(st);
    const lb_source *s = *out;
    lb_cli_log(cli, "opened %s: %s, %llu files, %llu tensors, %llu weights in %llu us", s->path,
               lb_format_name(s->format), (unsigned long long)s->n_files,
               (unsigned long long)s->n_tensors, (unsigned long long)s->n_weights,
               (unsigned long long)(lb_os_now_us() - begin));
    return LB_OK;
}

lb_status lb_cli_open(const lb_cli *cli, const lb_common *common, lb_source **out, const char *arg,
                      lb_err *err) {
    return open_with(lb_open, cli, common, out, arg, err);
}

lb_moe_limits lb_cli_moe_limits(const lb_common *c) {
    return (lb_moe_limits){.threads = (u32)c->n_threads,
                           .buffers_bytes = c->memory_bytes / 2,
                           .memory_bytes = c->memory_given ? c->memory_bytes : 0};
}

lb_status lb_cli_open_planned(const lb_cli *cli, const lb_common *common, lb_source **out,
                              const char *arg, lb_err *err) {
    if (common && lb_moe_is_file(arg)) {
        lb_moe_opts o = {.limits = lb_cli_moe_limits(common)};
        return lb_moe_open(out, arg, &o, err);
    }
    return open_with(lb_open_planned, cli, common, out, arg, err);
}

lb_status lb_cli_open_any(const lb_cli *cli, const lb_common *common, lb_source **out,
                          const char *arg, lb_err *err) {
    return open_with(lb_open_any, cli, common, out, arg, err);
}
