/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_verify.c: `lbrx verify MODEL`: ops/verify.h for people and for scripts. */
#include "cli/cli.h"
#include "io/progress.h"
#include "cli/text.h"
#include "cli/write.h"
#include "ops/against.h"
#include "ops/merge.h"

typedef struct verify_opts {
    lb_common common;
    const char *against, *imatrix;
    bool refine;
    u32 mlx_rule; /* metal|cpu */
} verify_opts;

static const lb_opt verify_rows[] = {
    {.name = "against",
     .kind = LB_OPT_PATH,
     .arg = "SOURCE",
     .help = "the model that it was made of: every tensor is made again, in the type that it has, "
             "and compared byte by byte",
     .off = offsetof(verify_opts, against)},
    {.name = "imatrix",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "the importance matrix that it was quantized with",
     .off = offsetof(verify_opts, imatrix)},
    {.name = "refine",
     .kind = LB_OPT_FLAG,
     .help = "it was quantized with --refine, and does not say so itself",
     .off = offsetof(verify_opts, refine)},
    {.name = "mlx-rule",
     .kind = LB_OPT_ENUM,
     .arg = "metal|cpu",
     .initial = "metal",
     .help = "how codes of MLX were made: as on a GPU, or on a CPU",
     .off = offsetof(verify_opts, mlx_rule)},
};

enum { LINES_MAX = 100 };

static void put_text(lb_cli *cli, const lb_verify *v) {
    lb_buf *out = &cli->out;
    char n[LB_TEXT_BYTES];
    for (u64 i = 0; i < v->n_problems; i++) {
        if (i == LINES_MAX) {
            lb_buf_printf(out, "... and %llu more: --json lists them\n",
                          (unsigned long long)(v->n_problems - i));
            break;
        }
        lb_put_safe(out, v->problems[i].where);
        lb_buf_put_c(out, v->problems[i].where.len ? ": " : "");
        lb_put_safe(out, v->problems[i].what);
        lb_buf_put_c(out, "\n");
    }
    lb_buf_printf(out, "%llu tensors, %s values: %llu NaN, %llu infinite\n",
                  (unsigned long long)v->n_tensors, lb_digits_text(v->n_values, n),
                  (unsigned long long)v->n_nan, (unsigned long long)v->n_inf);
    if (v->architecture.len) {
        lb_buf_put_c(out, "architecture ");
        lb_put_safe(out, v->architecture);
        lb_buf_put_c(out, ": tensors that it needs and that are missing are told\n");
    } else if (!v->importance) {
        lb_buf_put_c(out, "architecture unknown: whether tensors are missing was not checked\n");
    }
    if (v->n_hashes)
        lb_buf_printf(out, "lbrx.json: %llu hashes checked, %llu different\n",
                      (unsigned long long)v->n_hashes, (unsigned long long)v->n_hashes_different);
    if (v->n_files)
        lb_buf_printf(out, "SHA-256: %llu files checked, %llu different\n",
                      (unsigned long long)v->n_files, (unsigned long long)v->n_files_different);
    if (v->against)
        lb_buf_printf(out, "against the source: %llu tensors made again, %llu different\n",
                      (unsigned long long)v->n_made, (unsigned long long)v->n_made_different);
    lb_buf_put_c(out, v->n_problems ? "problems found\n" : "no problem found\n");
}

static lb_status verify_against(lb_cli *cli, verify_opts *o, const lb_source *model, lb_verify *v,
                                lb_err *err) {
    lb_source *source = NULL;
    lb_writer w;
    lb_writing writing = {.to = 4}; /* none */
    LB_TRY(lb_writer_begin(&w, cli, &writing, &o->common, "verify", err));
    lb_merge_opts m;
    lb_str made = lb_against_operation(model, &cli->arena);
    lb_merge_opts_of(made, &m);
    lb_status st = lb_merge_is_file(o->against) && lb_str_starts(made, LB_STR("merge "))
                       ? lb_merge_open(&source, o->against, &m, err)
                       : lb_cli_open_planned(cli, &o->common, &source, o->against, err);
    if (st == LB_OK)
        st = lb_against_run(v, model, source,
                            &(lb_against_opts){.w = w.opts,
                                               .imatrix = o->imatrix,
                                               .cpu_rule = o->mlx_rule == 1,
                                               .refine = o->refine},
                            &cli->arena, err);
    lb_writer_end(&w, cli, &o->common, NULL, NULL, st == LB_OK ? LB_E_DIFFERENT : st);
    lb_source_close(&source);
    return st;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    verify_opts o = *(const verify_opts *)opts;
    lb_source *s = NULL;
    lb_kernels *kernels = lb_arena_new(&cli->arena, lb_kernels, 1);
    lb_progress progress;
    lb_verify v;
    lb_status st;
    (void)n_args;
    if (!kernels)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    LB_TRY(lb_common_finish(&o.common, err));
    if (o.imatrix && !o.against)
        return lb_fail(err, LB_E_USAGE, "--imatrix: of what --against SOURCE makes again: name it");
    lb_kernels_init(kernels, cli->isa_mask);
    LB_TRY_DONE(st, lb_cli_open_any(cli, &o.common, &s, args[0], err));
    lb_progress_begin(&progress, o.common.progress, "verify");
    st = lb_verify_run(&v, s,
                       &(lb_verify_options){.kernels = kernels,
                                            .n_threads = (u32)o.common.n_threads,
                                            .memory_bytes = o.common.memory_bytes,
                                            .progress = lb_progress_update,
                                            .user = &progress},
                       &cli->arena, err);
    lb_progress_end(&progress);
    if (st == LB_OK && o.against)
        st = verify_against(cli, &o, s, &v, err);
    if (st != LB_OK)
        goto done;
    if (o.common.json)
        LB_TRY_DONE(st, lb_verify_json(&v, &cli->out, err));
    else
        put_text(cli, &v);
    if (v.n_problems)
        st = lb_fail(err, LB_E_DIFFERENT, "verify: %s: %llu problem%s", args[0],
                     (unsigned long long)v.n_problems, v.n_problems == 1 ? "" : "s");
done:
    lb_source_close(&s);
    return st;
}

const lb_command lb_cmd_verify = {
    .name = "verify",
    .summary = "Checks a model: structure, missing tensors, values that are no numbers, sums.",
    .args = "MODEL [--against SOURCE]",
    .examples = {{"after a download", "lbrx verify model.gguf"},
                 {"whether it is what the original gives",
                  "lbrx verify model-q4_k_m.gguf --against model/"},
                 {"for a script", "lbrx verify model/ --json"}},
    .details =
        "Every tensor is read once. Sums are those of lbrx.json (XXH3-128 of each tensor), of "
        "SHA256SUMS in the folder and of FILE.sha256 beside a file. Importance matrices are "
        "checked "
        "too: their values are no numbers below 0. Exit code 5 when something is "
        "wrong, 3 when the model cannot be opened at all.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", verify_rows, 0), LB_GROUP_COMMON(offsetof(verify_opts, common))},
    .size_bytes = sizeof(verify_opts),
    .run = run,
};
