/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_report.c: `lbrx report MODEL... -o FILE.html`: ops/report.h. */
#include "cli/cli.h"
#include "cli/text.h"
#include "ops/report.h"

typedef struct report_opts {
    lb_common common;
    const char *output;
    bool force, no_sync;
    u64 buffer_bytes; /* of the memory; the heap has the rest */
} report_opts;

#define THREAD_BYTES (16 * LB_MIB) /* no more of it for buffers: most need 2 MB */

static const lb_opt rows[] = {
    {.name = "output",
     .short_name = 'o',
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "write the page here: report.html",
     .required = true,
     .off = offsetof(report_opts, output)},
    {.name = "force",
     .kind = LB_OPT_FLAG,
     .help = "replace an existing file once the new one is complete",
     .off = offsetof(report_opts, force)},
    {.name = "no-sync",
     .kind = LB_OPT_FLAG,
     .help = "do not wait until the data are on the disk",
     .off = offsetof(report_opts, no_sync)},
};

static lb_status make(lb_cli *cli, const report_opts *o, const lb_source *const *models, u32 n,
                      lb_err *err) {
    lb_kernels *kernels = lb_arena_new(&cli->arena, lb_kernels, 1);
    lb_report_target target = {.path = o->output, .force = o->force, .no_sync = o->no_sync};
    lb_progress progress;
    lb_report *r = NULL;
    u64 size_bytes = 0;
    char size[LB_TEXT_BYTES];
    if (!kernels)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    lb_kernels_init(kernels, cli->isa_mask);
    lb_progress_begin(&progress, o->common.progress, "report");
    lb_status st = lb_report_run(&r, models, n,
                                 &(lb_report_options){.kernels = kernels,
                                                      .n_threads = (u32)o->common.n_threads,
                                                      .memory_bytes = 2 * o->buffer_bytes,
                                                      .progress = lb_progress_update,
                                                      .user = &progress},
                                 &cli->arena, err);
    lb_progress_end(&progress);
    LB_TRY(st);
    LB_TRY(lb_report_write(r, &target, &size_bytes, err));
    if (o->common.json)
        return lb_report_json(r, o->output, size_bytes, &cli->out, err);
    lb_put_safe(&cli->out, lb_str_c(o->output));
    lb_buf_printf(&cli->out, ": %s, %u model%s\n", lb_size_text(size_bytes, size), n,
                  n == 1 ? "" : "s");
    return LB_OK;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    report_opts o = *(const report_opts *)opts;
    lb_source *models[LB_REPORT_MODELS_MAX] = {0};
    const lb_source *views[LB_REPORT_MODELS_MAX] = {0};
    lb_status st;
    LB_TRY(lb_common_finish(&o.common, err));
    if (strcmp(o.output, "-") == 0)
        return lb_fail(err, LB_E_USAGE,
                       "report: the page is written beside its name and renamed, so not to "
                       "standard output: name a file (./- is one)");
    o.buffer_bytes = LB_MIN(o.common.memory_bytes / 2, o.common.n_threads * THREAD_BYTES);
    (void)lb_cli_limit_heap(o.common.memory_bytes - o.buffer_bytes);
    for (u32 i = 0; i < n_args; i++) {
        LB_TRY_DONE(st, lb_cli_open(cli, &o.common, &models[i], args[i], err));
        views[i] = models[i];
    }
    LB_TRY_DONE(st, lb_report_check(views, n_args, o.output, o.force, err));
    LB_TRY_DONE(st, make(cli, &o, views, n_args, err));
done:
    if (st == LB_E_NOMEM && lb_mem_refused())
        st = lb_fail(err, LB_E_LIMIT,
                     "--memory: %llu MB are not enough for this report: give it more, or report "
                     "fewer models at a time",
                     (unsigned long long)(o.common.memory_bytes / 1000000));
    for (u32 i = 0; i < n_args; i++)
        lb_source_close(&models[i]);
    return st;
}

const lb_command lb_cmd_report = {
    .name = "report",
    .summary = "Writes one HTML page about models: sizes, types, errors, histograms.",
    .args = "MODEL... -o FILE",
    .examples = {{"what a file is made of", "lbrx report model.gguf -o report.html"},
                 {"what quantization cost, against the original",
                  "lbrx report model/ model-q4_k_m.gguf model-4bit/ -o report.html"},
                 {"what is plotted, for a script",
                  "lbrx report model/ model.gguf -o report.html --json > report.json"}},
    .details =
        "The page stands alone: plots are SVG in it, nothing is fetched, light and dark follow the "
        "reader's setting, and each plot has its table. The first model is the reference of "
        "errors, which are those of lbrx diff. Histograms of codes, scales and values come from "
        "samples; the page says by what rule. Of models with very many layers or tensors some "
        "share a row or a column, and the page says so; --json has every tensor.",
    .n_args_min = 1,
    .n_args_max = LB_REPORT_MODELS_MAX,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_COMMON(offsetof(report_opts, common))},
    .size_bytes = sizeof(report_opts),
    .run = run,
};
