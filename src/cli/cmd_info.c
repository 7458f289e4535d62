/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_info.c: `lbrx info`: what this build is, what the machine offers, what is honoured. */
#include "arch/arch.h"
#include "base/cpu.h"
#include "base/os.h"
#include "base/sysinfo.h"
#include "base/thread.h"
#include "cli/cli.h"
#include "cli/devices.h"
#include "cli/facts.h"
#include "cli/text.h"
#include "io/json.h"
#include "kernel/kernel.h"
#include "tensor/source.h"
#include <stdlib.h>

typedef struct info_opts {
    bool json, kernels, models;
} info_opts;

static const lb_opt info_rows[] = {
    {.name = "json",
     .kind = LB_OPT_FLAG,
     .help = "print one JSON object",
     .off = offsetof(info_opts, json)},
    {.name = "kernels",
     .kind = LB_OPT_FLAG,
     .help = "also list every kernel, how it is checked and which CPU family runs it",
     .off = offsetof(info_opts, kernels)},
    {.name = "models",
     .kind = LB_OPT_FLAG,
     .help = "also list the families of models that go to and from GGUF, with the classes that "
             "config.json names",
     .off = offsetof(info_opts, models)},
};

static const lb_isa isas[] = {LB_ISA_AVX2,       LB_ISA_AVXVNNI, LB_ISA_AVX512,  LB_ISA_AVX512VNNI,
                              LB_ISA_AVX512VBMI, LB_ISA_NEON,    LB_ISA_DOTPROD, LB_ISA_I8MM};

typedef struct kernel_row {
    const char *name;
    const char *check; /* comparison class of kernel.def */
    const char *isa;   /* which family's function the table holds */
} kernel_row;

/* Which family fills a slot: the smallest mask that puts the same function there. */
#define LB_KERNEL(id, ret, args, cmp)                                                             \
    static const char *isa_of_##id(const lb_kernels *k, const lb_kernels *lower, const u32 *mask, \
                                   u32 n) {                                                       \
        for (u32 i = 0; i < n; i++)                                                               \
            if (lower[i].id == k->id)                                                             \
                return lb_isa_name((lb_isa)mask[i]);                                              \
        return "?";                                                                               \
    }
#include "kernel/kernel.def"
#undef LB_KERNEL

/* rows: one per kernel, in the arena. */
static u32 list_kernels(lb_cli *cli, kernel_row **rows) {
    /* The references, then each family alone on top of them. */
    u32 mask[LB_LEN(isas) + 1] = {LB_ISA_REF}, n_masks = 1, n = 0;
    for (u32 i = 0; i < LB_LEN(isas); i++)
        if (cli->isa_mask & (u32)isas[i])
            mask[n_masks++] = (u32)isas[i];
    lb_kernels *table = lb_arena_new(&cli->arena, lb_kernels, LB_LEN(mask) + 1);
    *rows = lb_arena_new(&cli->arena, kernel_row, sizeof(lb_kernels) / sizeof(void *));
    if (!table || !*rows)
        return 0;
    for (u32 i = 0; i < n_masks; i++)
        lb_kernels_init(&table[i], mask[i]);
    lb_kernels_init(&table[LB_LEN(mask)], cli->isa_mask);
#define LB_KERNEL(id, ret, args, cmp) \
    (*rows)[n++] = (kernel_row){#id, #cmp, isa_of_##id(&table[LB_LEN(mask)], table, mask, n_masks)};
#include "kernel/kernel.def"
#undef LB_KERNEL
    return n;
}

typedef struct limit_fact {
    const char *name;
    u64 value;
} limit_fact;

static const limit_fact limits[] = {
    {"tensor_rank", LB_RANK_MAX},
    {"json_depth", LB_JSON_DEPTH},
    {"thread_stack_bytes", LB_STACK_BYTES},
};

static void set(lb_cli *cli, lb_json *object, const char *key, lb_json *value) {
    if (!lb_json_set(&cli->arena, object, key, value))
        cli->out.oom = true;
}

static lb_json *isa_list(lb_cli *cli, u32 mask) {
    lb_json *list = lb_json_new_array(&cli->arena);
    for (u32 i = 0; i < LB_LEN(isas); i++)
        if (mask & (u32)isas[i])
            (void)lb_json_push(list, lb_json_new_str(&cli->arena, lb_str_c(lb_isa_name(isas[i]))));
    return list;
}

static lb_json *env_object(lb_cli *cli) {
    lb_json *object = lb_json_new_object(&cli->arena);
    for (u32 i = 0; i < lb_env_count(); i++) {
        const lb_env_fact *e = lb_env_get(i);
        const char *value = getenv(e->name);
        lb_json *v = !value      ? lb_json_new_null(&cli->arena)
                     : e->secret ? lb_json_new_str(&cli->arena, LB_STR("(set)"))
                                 : lb_json_new_str(&cli->arena, lb_str_c(value));
        set(cli, object, e->name, v);
    }
    return object;
}

static lb_json *families_list(lb_cli *cli) {
    lb_arena *a = &cli->arena;
    lb_json *list = lb_json_new_array(a);
    const lb_arch *arch;
    const char *family, *name;
    for (u32 i = 0; (arch = lb_arch_at(i, &family)) != NULL; i++) {
        lb_json *one = lb_json_new_object(a), *classes = lb_json_new_array(a);
        for (u32 k = 0; (name = lb_arch_class_at(arch, k)) != NULL; k++)
            (void)lb_json_push(classes, lb_json_new_str(a, lb_str_c(name)));
        set(cli, one, "family", lb_json_new_str(a, lb_str_c(family)));
        set(cli, one, "gguf", lb_json_new_str(a, lb_str_c(lb_arch_name(arch))));
        set(cli, one, "classes", classes);
        (void)lb_json_push(list, one);
    }
    return list;
}

static void put_families(lb_buf *out) {
    const lb_arch *arch;
    const char *family, *name;
    lb_buf_put_c(out, "models\n");
    for (u32 i = 0; (arch = lb_arch_at(i, &family)) != NULL; i++) {
        lb_buf_printf(out, "  %-20s %-18s", family, lb_arch_name(arch));
        for (u32 k = 0; (name = lb_arch_class_at(arch, k)) != NULL; k++)
            lb_buf_printf(out, " %s", name);
        lb_buf_put_c(out, "\n");
    }
}

static void info_json(lb_cli *cli, const info_opts *o) {
    lb_arena *a = &cli->arena;
    lb_json *root = lb_json_new_object(a), *cpu = lb_json_new_object(a);
    lb_json *lim = lb_json_new_object(a);
    char name[128];
    set(cli, root, "version", lb_json_new_str(a, LB_STR(LB_VERSION)));
    set(cli, root, "os", lb_json_new_str(a, lb_str_c(lb_sys_os())));
    set(cli, root, "arch", lb_json_new_str(a, lb_str_c(lb_sys_arch())));
    set(cli, cpu, "name", lb_json_new_str(a, lb_str_c(lb_sys_cpu_name(name, sizeof name))));
    set(cli, cpu, "features", isa_list(cli, lb_cpu_isa()));
    set(cli, cpu, "features_in_use", isa_list(cli, cli->isa_mask));
    set(cli, cpu, "cores", lb_json_new_u64(a, lb_cpu_count()));
    set(cli, root, "cpu", cpu);
    set(cli, root, "memory_bytes", lb_json_new_u64(a, lb_sys_memory_bytes()));
    set(cli, root, "page_bytes", lb_json_new_u64(a, lb_os_page_size()));
    lb_devices_json(cli, root);
    for (u32 i = 0; i < LB_LEN(limits); i++)
        set(cli, lim, limits[i].name, lb_json_new_u64(a, limits[i].value));
    set(cli, root, "limits", lim);
    set(cli, root, "environment", env_object(cli));
    if (o->kernels) {
        lb_json *list = lb_json_new_array(a);
        kernel_row *rows;
        u32 n = list_kernels(cli, &rows);
        for (u32 i = 0; i < n; i++) {
            lb_json *k = lb_json_new_object(a);
            set(cli, k, "name", lb_json_new_str(a, lb_str_c(rows[i].name)));
            set(cli, k, "check", lb_json_new_str(a, lb_str_c(rows[i].check)));
            set(cli, k, "isa", lb_json_new_str(a, lb_str_c(rows[i].isa)));
            (void)lb_json_push(list, k);
        }
        set(cli, root, "kernels", list);
    }
    if (o->models)
        set(cli, root, "models", families_list(cli));
    lb_json_write(&cli->out, root, (lb_json_style){0});
    lb_buf_put_c(&cli->out, "\n");
}

static void put_isas(lb_buf *out, u32 mask) {
    bool any = false;
    for (u32 i = 0; i < LB_LEN(isas); i++)
        if (mask & (u32)isas[i]) {
            lb_buf_printf(out, "%s%s", any ? " " : "", lb_isa_name(isas[i]));
            any = true;
        }
    if (!any)
        lb_buf_put_c(out, lb_isa_name(LB_ISA_REF));
}

static void info_text(lb_cli *cli, const info_opts *o) {
    lb_buf *out = &cli->out;
    char name[128], size[LB_TEXT_BYTES];
    lb_buf_printf(out, "lbrx         %s\nsystem       %s %s\n", LB_VERSION, lb_sys_os(),
                  lb_sys_arch());
    lb_buf_printf(out, "cpu          %s\n", lb_sys_cpu_name(name, sizeof name));
    lb_buf_put_c(out, "cpu families ");
    put_isas(out, cli->isa_mask);
    if (cli->isa_mask != lb_cpu_isa()) {
        lb_buf_put_c(out, " (of ");
        put_isas(out, lb_cpu_isa());
        lb_buf_put_c(out, ", masked by LBRX_CPU)");
    }
    lb_buf_printf(out, "\ncores        %u\nmemory       %s\n", lb_cpu_count(),
                  lb_size_text(lb_sys_memory_bytes(), size));
    lb_buf_printf(out, "page         %llu bytes\n", (unsigned long long)lb_os_page_size());
    lb_devices_put(out);
    lb_buf_put_c(out, "limits\n");
    for (u32 i = 0; i < LB_LEN(limits); i++)
        lb_buf_printf(out, "  %-20s %llu\n", limits[i].name, (unsigned long long)limits[i].value);
    lb_buf_put_c(out, "environment\n");
    for (u32 i = 0; i < lb_env_count(); i++) {
        const lb_env_fact *e = lb_env_get(i);
        const char *value = getenv(e->name);
        lb_buf_printf(out, "  %-20s %s (%s)\n", e->name,
                      !value || !*value ? "not set"
                      : e->secret       ? "set"
                                        : value,
                      e->text);
    }
    if (o->models)
        put_families(out);
    if (o->kernels) {
        kernel_row *rows;
        u32 n = list_kernels(cli, &rows);
        lb_buf_put_c(out, "kernels\n");
        for (u32 i = 0; i < n; i++)
            lb_buf_printf(out, "  %-28s %-10s %s\n", rows[i].name, rows[i].check, rows[i].isa);
    }
}

static lb_status info_run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                          lb_err *err) {
    const info_opts *o = opts;
    (void)args;
    (void)n_args;
    (void)err;
    if (o->json)
        info_json(cli, o);
    else
        info_text(cli, o);
    return LB_OK;
}

const lb_command lb_cmd_info = {
    .name = "info",
    .other = "inspect",
    .summary =
        "Shows the version, the CPU features in use, devices, limits and environment variables.",
    .args = "",
    .examples = {{"for a bug report", "lbrx info"},
                 {"which models are known", "lbrx info --models"},
                 {"for a script", "lbrx info --json"}},
    .group = {{.title = "Options", .opts = info_rows, .n = LB_LEN(info_rows)}},
    .size_bytes = sizeof(info_opts),
    .run = info_run,
};
