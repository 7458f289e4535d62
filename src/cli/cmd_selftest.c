/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_selftest.c: `lbrx selftest`: every kernel of a device against the references, as a table. */
#include "cli/cli.h"
#include "cli/devices.h"
#include "cli/text.h"
#include "device/selftest.h"

typedef struct selftest_opts {
    lb_common common;
    const char *kernel;
    u64 schedule;
} selftest_opts;

static const lb_opt selftest_rows[] = {
    {.name = "kernel",
     .kind = LB_OPT_STR,
     .arg = "NAME",
     .help = "only this kernel",
     .off = offsetof(selftest_opts, kernel)},
    {.name = "schedule",
     .kind = LB_OPT_INT,
     .arg = "N",
     .max = 1000000,
     .help = "--device cpu: the order in which a threadgroup's threads run: 0 forward, 1 backward, "
             "else a random one",
     .off = offsetof(selftest_opts, schedule)},
};

static void put_text(lb_cli *cli, const lb_dev_info *d, const lb_selftest_row *rows, u32 n) {
    lb_table t = {.n_columns = 4, .right = 1u << 1 | 1u << 2};
    u32 n_wrong = 0;
    lb_table_cell(&t, LB_STR("kernel"));
    lb_table_cell(&t, LB_STR("cases"));
    lb_table_cell(&t, LB_STR("error/bound"));
    lb_table_cell(&t, LB_STR(""));
    for (u32 i = 0; i < n; i++) {
        n_wrong += rows[i].status != LB_OK;
        lb_table_cell(&t, lb_str_c(lb_dev_kernel_name(rows[i].kernel)));
        lb_table_printf(&t, "%u", rows[i].n_cases);
        lb_table_printf(&t, "%.3f", rows[i].worst);
        if (rows[i].status == LB_OK)
            lb_table_cell(&t, LB_STR("ok"));
        else
            lb_table_printf(&t, "WRONG: %s", rows[i].why);
    }
    lb_table_end(&t, 0, &cli->out);
    lb_buf_printf(&cli->out, "%s: ", d->id);
    lb_put_safe(&cli->out, lb_str_c(d->name));
    lb_buf_printf(&cli->out, ", %s: %u kernels right, %u wrong\n",
                  *d->generation ? d->generation : "baseline", n - n_wrong, n_wrong);
}

static void put_json(lb_cli *cli, const lb_dev_info *d, const lb_selftest_row *rows, u32 n) {
    lb_json_style style = {0};
    lb_arena *a = &cli->arena;
    lb_json *root = lb_json_new_object(a), *list = lb_json_new_array(a);
    bool ok = lb_json_set(a, root, "device", lb_json_new_str(a, lb_str_c(d->id))) &&
              lb_json_set(a, root, "name", lb_json_new_str(a, lb_str_c(d->name))) &&
              lb_json_set(a, root, "generation", lb_json_new_str(a, lb_str_c(d->generation)));
    for (u32 i = 0; i < n; i++) {
        const lb_selftest_row *r = &rows[i];
        lb_json *one = lb_json_new_object(a);
        ok = ok &&
             lb_json_set(a, one, "kernel",
                         lb_json_new_str(a, lb_str_c(lb_dev_kernel_name(r->kernel)))) &&
             lb_json_set(a, one, "cases", lb_json_new_u64(a, r->n_cases)) &&
             lb_json_set(a, one, "right", lb_json_new_bool(a, r->status == LB_OK)) &&
             lb_json_set(a, one, "error_of_bound", lb_json_new_f64(a, r->worst)) &&
             lb_json_set(a, one, "why", lb_json_new_str(a, lb_str_c(r->why))) &&
             lb_json_push(list, one);
    }
    ok = ok && lb_json_set(a, root, "kernels", list);
    cli->out.oom = cli->out.oom || !ok;
    lb_json_write(&cli->out, root, style);
    lb_buf_put_c(&cli->out, "\n");
}

static lb_status selftest_run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                              lb_err *err) {
    selftest_opts o = *(const selftest_opts *)opts;
    lb_dev_kernel only = LB_DEV_KERNEL_COUNT;
    lb_dev *d = NULL;
    lb_dev_kernel kernels[LB_DEV_KERNEL_COUNT];
    u32 n = 0, n_wrong = 0;
    (void)args;
    (void)n_args;
    LB_TRY(lb_common_finish_device(&o.common, err));
    if (o.kernel && !lb_dev_kernel_find(lb_str_c(o.kernel), &only))
        return lb_fail(err, LB_E_USAGE, "--kernel: no kernel is called '%s'", o.kernel);
    const lb_dev_choice c = lb_devices_choose(o.common.choice);
    const lb_selftest_opts how = {.large = c.kind != LB_DEV_CPU,
                                  .threads = (u32)o.common.n_threads};
    lb_selftest_row *rows = lb_arena_new(&cli->arena, lb_selftest_row, LB_DEV_KERNEL_COUNT);
    if (!rows)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the table");
    lb_status st = lb_dev_open(&d,
                               &(lb_dev_opts){.kind = c.kind,
                                              .index = c.index,
                                              .memory_bytes = o.common.device_memory_bytes,
                                              .exact = c.kind == LB_DEV_CPU,
                                              .schedule = (u32)o.schedule},
                               err);
    for (u32 k = 0; k < LB_DEV_KERNEL_COUNT && st == LB_OK; k++)
        if (o.kernel ? k == (u32)only : lb_dev_has(d, (lb_dev_kernel)k))
            kernels[n++] = (lb_dev_kernel)k;
    if (st == LB_OK)
        st = lb_dev_selftest_all(d, kernels, n, &how, rows, err);
    for (u32 i = 0; i < n && st == LB_OK; i++)
        n_wrong += rows[i].status != LB_OK;
    if (st == LB_OK) {
        if (o.common.json)
            put_json(cli, lb_dev_info_get(d), rows, n);
        else
            put_text(cli, lb_dev_info_get(d), rows, n);
        if (n_wrong)
            st = lb_fail(err, LB_E_DIFFERENT, "%s: %u of %u kernels are wrong",
                         lb_dev_info_get(d)->id, n_wrong, n);
    }
    lb_dev_close(&d);
    return st;
}

const lb_command lb_cmd_selftest = {
    .name = "selftest",
    .summary = "Runs every kernel of a device and compares it with the CPU's scalar reference.",
    .args = "",
    .details = "--device auto takes the first GPU; on the CPU the GPU's kernels run as C. Each "
               "error is given as a part of its bound, which counts the roundings of the case.",
    .examples = {{"the machine's own GPU", "lbrx selftest"},
                 {"the second one", "lbrx selftest --device cuda:1"},
                 {"the kernels without a GPU", "lbrx selftest --device cpu"}},
    .group = {{.title = "Options", .opts = selftest_rows, .n = LB_LEN(selftest_rows)},
              LB_GROUP_COMMON(offsetof(selftest_opts, common))},
    .size_bytes = sizeof(selftest_opts),
    .run = selftest_run,
};
