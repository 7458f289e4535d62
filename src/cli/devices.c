/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/devices.h"
#include "cli/text.h"

#define DEVICES_MAX 64u /* that are described; more are counted */

static u32 list(lb_dev_kind kind, lb_dev_info *out, lb_err *why) {
    *why = (lb_err){0};
    return lb_dev_list(kind, out, DEVICES_MAX, why);
}

void lb_devices_put(lb_buf *out) {
    lb_dev_info info[DEVICES_MAX];
    lb_err why;
    char size[LB_TEXT_BYTES];
    lb_buf_put_c(out, "devices\n");
    for (u32 kind = 0; kind < LB_DEV_KINDS; kind++) {
        const u32 n = list((lb_dev_kind)kind, info, &why);
        const char *name = lb_dev_kind_name((lb_dev_kind)kind);
        if (n == 0) /* the message begins with the kind */
            lb_buf_printf(out, "  %-8s %s\n", name,
                          lb_str_starts(lb_str_c(why.msg), lb_str_c(name))
                              ? why.msg + strlen(name) + 2
                              : why.msg);
        for (u32 i = 0; i < LB_MIN(n, DEVICES_MAX); i++) {
            const lb_dev_info *d = &info[i];
            lb_buf_printf(out, "  %-8s ", d->id);
            lb_put_safe(out, lb_str_c(d->name));
            lb_buf_printf(out, ", %s, %s", *d->generation ? d->generation : "baseline",
                          lb_size_text(d->memory_bytes, size));
            if (d->n_units)
                lb_buf_printf(out, ", %u %s", d->n_units,
                              d->kind == LB_DEV_CPU ? "cores" : "multiprocessors");
            if (d->kind != LB_DEV_CPU)
                lb_buf_printf(out, ", %u threads and %u bytes a threadgroup, %s%s", d->threads_max,
                              d->shared_bytes_max, d->kind == LB_DEV_CUDA ? "driver of " : "",
                              d->driver);
            lb_buf_put_c(out, "\n");
        }
        if (n > DEVICES_MAX)
            lb_buf_printf(out, "  and %u more\n", n - DEVICES_MAX);
    }
}

static void set(lb_cli *cli, lb_json *object, const char *key, lb_json *value) {
    if (!lb_json_set(&cli->arena, object, key, value))
        cli->out.oom = true;
}

static lb_json *facts_of(lb_cli *cli, const lb_dev_info *d) {
    lb_arena *a = &cli->arena;
    lb_json *o = lb_json_new_object(a);
    set(cli, o, "device", lb_json_new_str(a, lb_arena_str(a, lb_str_c(d->id))));
    set(cli, o, "name", lb_json_new_str(a, lb_arena_str(a, lb_str_c(d->name))));
    set(cli, o, "generation", lb_json_new_str(a, lb_arena_str(a, lb_str_c(d->generation))));
    set(cli, o, "driver", lb_json_new_str(a, lb_arena_str(a, lb_str_c(d->driver))));
    set(cli, o, "memory_bytes", lb_json_new_u64(a, d->memory_bytes));
    set(cli, o, "units", lb_json_new_u64(a, d->n_units));
    set(cli, o, "simd_threads", lb_json_new_u64(a, d->simd_threads));
    set(cli, o, "threads_max", lb_json_new_u64(a, d->threads_max));
    set(cli, o, "shared_bytes_max", lb_json_new_u64(a, d->shared_bytes_max));
    set(cli, o, "unified", lb_json_new_bool(a, d->unified));
    set(cli, o, "maps_files", lb_json_new_bool(a, d->maps_files));
    return o;
}

void lb_devices_json(lb_cli *cli, lb_json *root) {
    lb_arena *a = &cli->arena;
    lb_json *names = lb_json_new_array(a), *facts = lb_json_new_array(a);
    lb_json *absent = lb_json_new_object(a);
    lb_dev_info info[DEVICES_MAX];
    lb_err why;
    for (u32 kind = 0; kind < LB_DEV_KINDS; kind++) {
        const u32 n = list((lb_dev_kind)kind, info, &why);
        if (n == 0)
            set(cli, absent, lb_dev_kind_name((lb_dev_kind)kind),
                lb_json_new_str(a, lb_arena_str(a, lb_str_c(why.msg))));
        for (u32 i = 0; i < LB_MIN(n, DEVICES_MAX); i++) {
            (void)lb_json_push(names, lb_json_new_str(a, lb_arena_str(a, lb_str_c(info[i].id))));
            (void)lb_json_push(facts, facts_of(cli, &info[i]));
        }
    }
    set(cli, root, "devices", names);
    set(cli, root, "device_facts", facts);
    set(cli, root, "devices_absent", absent);
}

lb_dev_choice lb_devices_choose(lb_dev_choice c) {
    for (u32 kind = LB_DEV_CPU + 1; c.is_auto && kind < LB_DEV_KINDS; kind++)
        if (lb_dev_list((lb_dev_kind)kind, NULL, 0, NULL))
            return (lb_dev_choice){.kind = (lb_dev_kind)kind};
    return (lb_dev_choice){.kind = c.kind, .index = c.index};
}
