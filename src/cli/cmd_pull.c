/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_pull.c: `lbrx pull hf://OWNER/NAME`: ops/pull.h for people and for scripts. */
#include "cli/cli.h"
#include "cli/text.h"
#include "io/json.h"
#include "ops/pull.h"
#include <stdio.h>

typedef struct pull_opts {
    lb_common common;
    const char *revision;
    lb_opt_list include, exclude;
    bool all, dry_run;
    u64 connections;
} pull_opts;

static const lb_opt rows[] = {
    {.name = "revision",
     .kind = LB_OPT_STR,
     .arg = "R",
     .help = "branch, tag or commit; main unless given",
     .off = offsetof(pull_opts, revision)},
    {.name = "include",
     .kind = LB_OPT_STR,
     .arg = "PATTERN",
     .repeatable = true,
     .help = "only files whose path matches, as in a shell: '*Q4_K_M*'",
     .off = offsetof(pull_opts, include)},
    {.name = "exclude",
     .kind = LB_OPT_STR,
     .arg = "PATTERN",
     .repeatable = true,
     .help = "not these",
     .off = offsetof(pull_opts, exclude)},
    {.name = "all",
     .kind = LB_OPT_FLAG,
     .help = "also weights in a second form beside model*.safetensors",
     .off = offsetof(pull_opts, all)},
    {.name = "connections",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "4",
     .min = 1,
     .max = 16,
     .help = "files fetched at a time",
     .off = offsetof(pull_opts, connections)},
    {.name = "dry-run",
     .kind = LB_OPT_FLAG,
     .help = "list the files, fetch none",
     .off = offsetof(pull_opts, dry_run)},
};

static const char *state_of(const lb_pull_file *f, bool dry_run) {
    return f->skipped ? "skipped" : f->present ? "present" : dry_run ? "missing" : "fetched";
}

static void put_json(lb_cli *cli, const lb_pull_result *r, bool dry_run) {
    lb_buf *out = &cli->out;
    lb_buf_put_c(out, "{\"id\": ");
    lb_json_write_str(out, r->id, true);
    lb_buf_put_c(out, ", \"revision\": ");
    lb_json_write_str(out, r->revision, true);
    lb_buf_put_c(out, ", \"commit\": ");
    lb_json_write_str(out, r->commit, true);
    lb_buf_put_c(out, ", \"path\": ");
    lb_json_write_str(out, lb_str_c(r->path), true);
    lb_buf_printf(out, ", \"bytes\": %llu, \"bytes_fetched\": %llu, \"files\": [",
                  (unsigned long long)r->total_bytes, (unsigned long long)r->fetched_bytes);
    for (u64 i = 0; i < r->n_files; i++) {
        const lb_pull_file *f = &r->files[i];
        lb_buf_put_c(out, i ? ",\n{\"path\": " : "\n{\"path\": ");
        lb_json_write_str(out, f->path, true);
        if (f->size_bytes != UINT64_MAX)
            lb_buf_printf(out, ", \"bytes\": %llu", (unsigned long long)f->size_bytes);
        static const char *const sums[] = {"null", "\"sha1\"", "\"sha256\""};
        lb_buf_printf(out, ", \"state\": \"%s\", \"sum\": %s}", state_of(f, dry_run),
                      sums[lb_pull_sum_of(f)]);
    }
    lb_buf_put_c(out, "]}\n");
}

static void put_list(lb_cli *cli, const lb_pull_result *r) {
    lb_table t = {.n_columns = 3, .right = 1u << 1};
    char a[LB_TEXT_BYTES];
    for (u64 i = 0; i < r->n_files; i++) {
        const lb_pull_file *f = &r->files[i];
        lb_table_cell(&t, f->path);
        lb_table_cell(&t,
                      lb_str_c(f->size_bytes == UINT64_MAX ? "?" : lb_size_text(f->size_bytes, a)));
        lb_table_cell(&t, lb_str_c(state_of(f, true)));
    }
    lb_table_end(&t, 0, &cli->out);
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    pull_opts o = *(const pull_opts *)opts;
    lb_progress progress;
    lb_pull_result r;
    char a[LB_TEXT_BYTES], b[LB_TEXT_BYTES];
    lb_buf name = {0};
    (void)n_args;
    LB_TRY(lb_common_finish(&o.common, err));
    if (!lb_hub_is(args[0])) /* OWNER/NAME is what other tools take */
        lb_buf_printf(&name, "hf://%s", args[0]);
    lb_buf_put_u8(&name, 0);
    lb_str arg = lb_arena_str(&cli->arena,
                              name.len > 1 ? lb_str_c((const char *)name.ptr) : lb_str_c(args[0]));
    lb_buf_deinit(&name);
    if (!arg.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    lb_progress_begin(&progress, o.common.progress, "pull");
    lb_status st = lb_pull(arg.ptr,
                           &(lb_pull_opts){.revision = o.revision,
                                           .include = o.include.item,
                                           .n_include = o.include.n,
                                           .exclude = o.exclude.item,
                                           .n_exclude = o.exclude.n,
                                           .all = o.all,
                                           .dry_run = o.dry_run,
                                           .connections = (u32)o.connections,
                                           .progress = lb_progress_update,
                                           .note = lb_progress_note,
                                           .user = &progress},
                           &cli->arena, &r, err);
    lb_progress_end(&progress);
    LB_TRY(st);
    if (o.common.json) {
        put_json(cli, &r, o.dry_run);
        return LB_OK;
    }
    if (o.dry_run) {
        put_list(cli, &r);
        return LB_OK;
    }
    lb_buf_printf(&cli->out, "%s\n", r.path);
    if (o.common.quiet)
        return LB_OK;
    if (r.n_skipped)
        (void)fprintf(stderr,
                      "note: %llu of %llu files left aside (--dry-run lists them, --all fetches "
                      "them)\n",
                      (unsigned long long)r.n_skipped, (unsigned long long)r.n_files);
    if (r.n_unsummed)
        (void)fprintf(stderr,
                      "note: the hub gives no sum for %llu files: their size alone was checked\n",
                      (unsigned long long)r.n_unsummed);
    (void)fprintf(stderr, "note: %llu files, %s, of which %s fetched\n",
                  (unsigned long long)(r.n_files - r.n_skipped), lb_size_text(r.total_bytes, a),
                  lb_size_text(r.fetched_bytes, b));
    return LB_OK;
}

const lb_command lb_cmd_pull = {
    .name = "pull",
    .summary = "Fetches a model from the Hugging Face hub into its local cache.",
    .args = "hf://OWNER/NAME",
    .examples = {{"a model, or what is missing of it", "lbrx pull hf://owner/name"},
                 {"one file of many, of a branch",
                  "lbrx pull hf://owner/name-GGUF --include '*Q4_K_M*' --revision main"},
                 {"what it would fetch", "lbrx pull hf://owner/name --dry-run"}},
    .details =
        "The folder's path is printed; every command takes hf://OWNER/NAME for it. The cache is "
        "the "
        "one of Hugging Face's own tools (HF_HUB_CACHE, HF_HOME), in their layout. What was "
        "interrupted goes on where it stopped. A file is checked against the sum that the hub "
        "gives "
        "(SHA-256, or git's SHA-1), against its size where there is none. A token (HF_TOKEN, else "
        "the one of `hf auth login` in HF_HOME) opens private and gated models; it is sent to the "
        "hub alone and never printed. HF_ENDPOINT names a mirror. Needs libcurl, which is looked "
        "for when the command runs.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_COMMON(offsetof(pull_opts, common))},
    .size_bytes = sizeof(pull_opts),
    .run = run,
};
