/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_diff.c: `lbrx diff A B`: ops/diff.h for people and for scripts. */
#include "cli/cli.h"
#include "io/progress.h"
#include "cli/text.h"
#include "ops/diff.h"
#include <stdlib.h>

typedef struct diff_opts {
    lb_common common;
    double tolerance;
    u64 top;
    u32 sort;
    bool all;
} diff_opts;

static const lb_opt rows[] = {
    {.name = "tolerance",
     .kind = LB_OPT_FLOAT,
     .arg = "X",
     .initial = "0",
     .help = "count tensors as equal whose relative error |a-b|/|a| is at most X",
     .off = offsetof(diff_opts, tolerance)},
    {.name = "all",
     .kind = LB_OPT_FLAG,
     .help = "list the tensors that are equal, too",
     .off = offsetof(diff_opts, all)},
    {.name = "sort",
     .kind = LB_OPT_ENUM,
     .arg = "file|error",
     .initial = "file",
     .help = "order of the table: as in A, or the largest relative error first",
     .off = offsetof(diff_opts, sort)},
    {.name = "top",
     .kind = LB_OPT_INT,
     .arg = "N",
     .min = 1,
     .help = "list only the N tensors with the largest relative error",
     .off = offsetof(diff_opts, top)},
};

/* Those of another shape first, then by error, then as in A. */
static int by_error(const void *a, const void *b) {
    const lb_diff_row *x = *(const lb_diff_row *const *)a, *y = *(const lb_diff_row *const *)b;
    if (x->same_shape != y->same_shape)
        return x->same_shape ? 1 : -1;
    if (x->rel != y->rel)
        return x->rel < y->rel ? 1 : -1;
    return x < y ? -1 : x > y;
}

static lb_status put_rows(lb_cli *cli, const lb_diff *d, const diff_opts *o, lb_err *err) {
    const lb_diff_row **list = lb_arena_new(&cli->arena, const lb_diff_row *, d->n_rows + 1);
    u64 n = 0;
    if (!list)
        return lb_fail(err, LB_E_NOMEM, "out of memory for %llu rows",
                       (unsigned long long)d->n_rows);
    for (u64 i = 0; i < d->n_rows; i++)
        if (o->all || !d->rows[i].identical)
            list[n++] = &d->rows[i];
    if (o->sort || o->top)
        qsort(list, n, sizeof *list, by_error);
    n = o->top ? LB_MIN(n, o->top) : n;
    lb_table t = {.n_columns = 5, .right = 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4};
    static const char *const heads[] = {"tensor", "max abs", "rmse", "rel", "cosine"};
    for (u32 i = 0; i < LB_LEN(heads); i++)
        lb_table_cell(&t, lb_str_c(heads[i]));
    for (u64 i = 0; i < n; i++) {
        const lb_diff_row *r = list[i];
        lb_table_cell(&t, r->name);
        if (r->same_shape) {
            lb_table_printf(&t, "%.3g", r->max_abs);
            lb_table_printf(&t, "%.3g", r->rmse);
            lb_table_printf(&t, "%.3g", r->rel);
            lb_table_printf(&t, "%.8f", r->cosine);
        } else {
            char a[LB_SHAPE_TEXT], b[LB_SHAPE_TEXT];
            lb_table_cell(&t, lb_str_c(lb_shape_text(&r->shape_a, a)));
            lb_table_cell(&t, lb_str_c(lb_shape_text(&r->shape_b, b)));
            lb_table_cell(&t, LB_STR("shapes"));
            lb_table_cell(&t, LB_STR("differ"));
        }
    }
    if (n) {
        lb_table_end(&t, 0, &cli->out);
        lb_buf_put_c(&cli->out, "\n");
    } else {
        lb_buf_deinit(&t.text);
    }
    return LB_OK;
}

static void put_names(lb_cli *cli, const char *what, const lb_str *names, u64 n) {
    for (u64 i = 0; i < n; i++) {
        lb_buf_put_c(&cli->out, what);
        lb_put_safe(&cli->out, names[i]);
        lb_buf_put_c(&cli->out, "\n");
    }
}

static lb_status put_text(lb_cli *cli, const lb_diff *d, const diff_opts *o, lb_err *err) {
    LB_TRY(put_rows(cli, d, o, err));
    put_names(cli, "only in A: ", d->only_in_a, d->n_only_in_a);
    put_names(cli, "only in B: ", d->only_in_b, d->n_only_in_b);
    put_names(cli, "left out (the other format has no such tensor): ", d->left_out, d->n_left_out);
    lb_buf_printf(&cli->out, "%llu tensors compared, %llu different", (unsigned long long)d->n_rows,
                  (unsigned long long)d->n_different);
    if (o->tolerance > 0)
        lb_buf_printf(&cli->out, " (tolerance %g)", o->tolerance);
    lb_buf_printf(&cli->out, "; %llu only in A, %llu only in B\n",
                  (unsigned long long)d->n_only_in_a, (unsigned long long)d->n_only_in_b);
    if (d->differ.n_rows)
        lb_buf_printf(
            &cli->out,
            "values of those that differ: max abs %.3g, rmse %.3g, rel %.3g, cosine %.8f\n",
            d->differ.max_abs, d->differ.rmse, d->differ.rel, d->differ.cosine);
    return LB_OK;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    diff_opts o = *(const diff_opts *)opts;
    lb_source *a = NULL, *b = NULL;
    lb_kernels *kernels = lb_arena_new(&cli->arena, lb_kernels, 1);
    lb_progress progress;
    lb_diff d;
    lb_status st;
    (void)n_args;
    if (!kernels)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    if (o.tolerance < 0)
        return lb_fail(err, LB_E_USAGE, "diff: --tolerance: %g is negative", o.tolerance);
    LB_TRY(lb_common_finish(&o.common, err));
    lb_kernels_init(kernels, cli->isa_mask);
    LB_TRY_DONE(st, lb_cli_open_planned(cli, &o.common, &a, args[0], err));
    LB_TRY_DONE(st, lb_cli_open_planned(cli, &o.common, &b, args[1], err));
    lb_progress_begin(&progress, o.common.progress, "diff");
    st = lb_diff_run(&d, a, b,
                     &(lb_diff_options){.kernels = kernels,
                                        .n_threads = (u32)o.common.n_threads,
                                        .memory_bytes = o.common.memory_bytes,
                                        .tolerance = o.tolerance,
                                        .progress = lb_progress_update,
                                        .user = &progress},
                     &cli->arena, err);
    lb_progress_end(&progress);
    if (st != LB_OK)
        goto done;
    if (o.common.json)
        LB_TRY_DONE(st, lb_diff_json(&d, &cli->out, err));
    else
        LB_TRY_DONE(st, put_text(cli, &d, &o, err));
    if (!d.identical)
        st = lb_fail(err, LB_E_DIFFERENT, "diff: %s and %s are different", args[0], args[1]);
done:
    lb_source_close(&a);
    lb_source_close(&b);
    return st;
}

const lb_command lb_cmd_diff = {
    .name = "diff",
    .summary = "Compares two models tensor by tensor, by value, across formats and types.",
    .args = "A B",
    .examples = {{"what a conversion changed", "lbrx diff model-folder model.gguf"},
                 {"the error of a quantization, as JSON", "lbrx diff model/ model-4bit/ --json"},
                 {"equal up to rounding", "lbrx diff a/ b/ --tolerance 1e-2"}},
    .details =
        "Tensors are matched by the names that they have in Hugging Face folders, and layouts "
        "(rows of attention heads, norms stored plus one) are undone, where the "
        "architecture is known. rel is |a-b|/|a| (Frobenius). Exit code 5 when something "
        "differs.",
    .n_args_min = 2,
    .n_args_max = 2,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_COMMON(offsetof(diff_opts, common))},
    .size_bytes = sizeof(diff_opts),
    .run = run,
};
