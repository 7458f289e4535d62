/* SPDX-License-Identifier: Apache-2.0 */
/* convert.c: runs a conversion for the commands that are one. */
#include "cli/convert.h"
#include "io/size.h"
#include "ops/merge.h"
#include "ops/open.h"

/* Planning did not fit into the budget: it is made once more without one, for the smallest that
 * would do. By then the process has grown: what counts is what it was at the beginning. */
static lb_status refuse_budget(const lb_cli_opened *from, const lb_convert_opts *o,
                               u64 process_bytes, lb_err *err) {
    lb_convert_opts c = *o;
    lb_source *src = NULL;
    lb_out_report report = {0};
    lb_buf plan = {0};
    lb_err own = {0};
    c.w.dry_run = true;
    c.w.memory_bytes = 1;
    lb_mem_limit(0);
    (void)lb_mem_peak_reset();
    if (from->open(from->user, from->model, &src, &own) == LB_OK)
        (void)lb_convert(src, &c, &plan, NULL, &report, &own);
    lb_source_close(&src);
    lb_buf_deinit(&plan);
    char have[LB_SIZE_TEXT];
    u64 need = LB_MAX(report.needed_bytes, lb_mem_peak() + process_bytes);
    return lb_fail(err, LB_E_LIMIT,
                   "a memory budget of %s is too small: planning this needs %s %llu MiB (--memory)",
                   lb_size_text(o->w.memory_bytes, have),
                   report.needed_bytes ? "at least" : "more than",
                   (unsigned long long)lb_ceil_div_u64(need, LB_MIB));
}

lb_status lb_cli_convert_opened(lb_cli *cli, const lb_writing *writing, lb_common *common,
                                const lb_cli_opened *from, const lb_convert_opts *base,
                                lb_err *err) {
    lb_source *src = NULL;
    lb_writer w;
    lb_out_report report = {0};
    lb_buf plan = {0};
    LB_TRY((base->quantize ? lb_writer_begin_device : lb_writer_begin)(&w, cli, writing, common,
                                                                       base->verb, err));
    lb_convert_opts c = *base;
    c.w = w.opts;
    c.w.lossless = base->w.lossless;
    lb_status st = from->open(from->user, from->model, &src, err);
    if (st == LB_OK)
        st = lb_convert(src, &c, &plan, &w.remarks, &report, err);
    if (st == LB_E_NOMEM && lb_mem_refused()) {
        lb_source_close(&src);
        st = refuse_budget(from, &c, w.process_bytes, err);
    }
    lb_writer_end(&w, cli, common, &report, &plan, st);
    lb_source_close(&src);
    lb_buf_deinit(&plan);
    return st;
}

typedef struct opening {
    const lb_cli *cli;
    const lb_common *fetch;
    const lb_merge_opts *merge;
} opening;

static lb_status open_model(const void *user, const char *model, lb_source **out, lb_err *err) {
    const opening *o = user;
    return o->merge ? lb_merge_open(out, model, o->merge, err)
                    : lb_cli_open_planned(o->cli, o->fetch, out, model, err);
}

lb_status lb_cli_convert(lb_cli *cli, const lb_writing *writing, lb_common *common,
                         const char *model, const lb_convert_opts *base, lb_err *err) {
    /* a dry run writes nothing: gigabytes of a model least of all */
    opening o = {cli, writing->dry_run ? NULL : common, base->merge};
    return lb_cli_convert_opened(cli, writing, common, &(lb_cli_opened){open_model, &o, model},
                                 base, err);
}
