/* SPDX-License-Identifier: Apache-2.0 */
/* gpus.c: see gpus.h. */
#include "cli/gpus.h"
#include "device/selftest.h"
#include "io/progress.h"
#include "io/size.h"
#include <stdio.h>
#include <stdlib.h>

const lb_opt lb_gpu_rows[LB_GPU_OPTS] = {
    {.name = "gpu-layers",
     .kind = LB_OPT_STR,
     .arg = "N|auto|all",
     .initial = "auto",
     .help = "how many layers the devices compute, the last ones and the output; the CPU has the "
             "others; auto: as many as fit",
     .off = offsetof(lb_gpu_opts, layers)},
    {.name = "split-mode",
     .kind = LB_OPT_ENUM,
     .arg = "layer|row",
     .initial = "layer",
     .help = "how several GPUs share a model: layer: each has some layers; row: each has some "
             "heads and columns of every layer. With --device cuda: over all of them, else over as "
             "few as hold it",
     .off = offsetof(lb_gpu_opts, split_mode),
     .given_off = offsetof(lb_gpu_opts, split_given)},
    {.name = "tensor-split",
     .kind = LB_OPT_STR,
     .arg = "A,B,...",
     .help = "proportions of a model that the GPUs get; by their free memory unless given",
     .off = offsetof(lb_gpu_opts, tensor_split)},
    {.name = "dry-run",
     .kind = LB_OPT_FLAG,
     .help = "say what of the model and of a session would lie where, and do nothing",
     .off = offsetof(lb_gpu_opts, dry_run)},
};

/* ---- which there are ---- */

static lb_status open_one(lb_gpus *g, lb_dev_kind kind, u32 index, lb_err *err) {
    const lb_dev_opts o = {.kind = kind, .index = index, .memory_bytes = g->memory_bytes};
    LB_TRY(lb_dev_open(&g->dev[g->n], &o, err));
    g->n++;
    return LB_OK;
}

/* "3,1": finite, not negative, not all 0. */
static lb_status read_shares(lb_gpus *g, const char *text, u32 *n, lb_err *err) {
    double sum = 0;
    const char *at = text;
    char *end;
    for (*n = 0; *n < LB_DEV_LIST_MAX; at = end + 1) {
        const double v = strtod(at, &end);
        if (end == at || !(v >= 0 && v < 1e9) || (*end && *end != ','))
            break;
        sum += g->share[(*n)++] = v;
        if (!*end && sum > 0) {
            g->shared = true;
            return LB_OK;
        }
        if (!*end)
            break;
    }
    return lb_fail(err, LB_E_USAGE,
                   "--tensor-split: '%s' is no list of proportions, one a GPU: 3,1", text);
}

static lb_status read_layers(lb_gpus *g, const char *text, lb_err *err) {
    u64 n = 0;
    const lb_str s = lb_str_c(text ? text : "auto");
    g->n_layers = LB_NO_INDEX;
    g->all_layers = lb_str_eq_c(s, "all");
    if (g->all_layers || lb_str_eq_c(s, "auto"))
        return LB_OK;
    if (!lb_str_to_u64(s, &n) || n >= LB_NO_INDEX)
        return lb_fail(err, LB_E_USAGE, "--gpu-layers: '%s' is not one of N|auto|all", text);
    g->n_layers = (u32)n;
    return LB_OK;
}

/* Devices without a share have nothing to do. */
static void drop_idle(lb_gpus *g) {
    u32 n = 0;
    for (u32 i = 0; i < g->n; i++) {
        if (g->share[i] > 0) {
            g->share[n] = g->share[i];
            g->dev[n++] = g->dev[i];
        } else {
            lb_dev_close(&g->dev[i]);
        }
    }
    g->n = n;
}

static lb_status open_named(lb_gpus *g, const lb_dev_choice *c, u32 n_shares, lb_err *err) {
    const u32 n = c->n ? c->n : 1;
    if (g->shared && n_shares != n)
        return lb_fail(err, LB_E_USAGE,
                       "--tensor-split: %u proportions, and --device names %u: one for each",
                       n_shares, n);
    for (u32 i = 0; i < n; i++)
        LB_TRY(open_one(g, c->kind, c->n ? c->list[i] : c->index, err));
    return LB_OK;
}

/* `cuda`: the first, and the others where they are asked for or needed. */
static lb_status open_kind(lb_gpus *g, u32 n_shares, bool all, lb_err *err) {
    const u32 n = LB_MIN(lb_dev_list(LB_DEV_CUDA, NULL, 0, NULL), LB_DEV_LIST_MAX);
    if (g->shared && n_shares > n && n)
        return lb_fail(err, LB_E_USAGE, "--tensor-split: %u proportions for %u GPUs", n_shares, n);
    LB_TRY(open_one(g, LB_DEV_CUDA, 0, err));
    for (u32 i = 1; i < (g->shared ? n_shares : n) && (g->shared || all); i++)
        LB_TRY(open_one(g, LB_DEV_CUDA, i, err));
    g->more = !g->shared && !all && n > 1;
    return LB_OK;
}

/* Options that are of no use where the CPU computes. */
static lb_status check_none(const lb_gpus *g, const lb_common *common, const lb_gpu_opts *o,
                            lb_err *err) {
    if (g->shared || o->split_given || g->all_layers ||
        (g->n_layers != LB_NO_INDEX && g->n_layers != 0))
        return lb_fail(err, LB_E_USAGE, "%s: --device %s is no GPU",
                       g->shared        ? "--tensor-split"
                       : o->split_given ? "--split-mode"
                                        : "--gpu-layers",
                       common->device);
    return lb_common_check_cpu(common, err);
}

/* The first kind of which there are any. That there is none is no news; that one cannot be used is.
 */
static bool find_auto(lb_dev_kind *kind, lb_err *why) {
    *why = (lb_err){0};
    for (*kind = LB_DEV_CPU + 1; *kind < LB_DEV_KINDS; (*kind)++) {
        lb_err own = {0};
        if (lb_dev_list(*kind, NULL, 0, &own))
            return true;
        if (own.code != LB_E_NOT_FOUND && why->code == LB_OK)
            *why = own;
    }
    return false;
}

static lb_status open_auto(lb_gpus *g, const lb_common *common, const lb_gpu_opts *o, u32 n_shares,
                           lb_err *err) {
    lb_dev_choice c = {0};
    lb_err why;
    if (g->n_layers == 0)
        return LB_OK;
    if (!find_auto(&c.kind, &why)) {
        LB_TRY(check_none(g, common, o, err));
        if (why.code != LB_OK)
            lb_gpus_fall_back(g, common->quiet, &why);
        return LB_OK;
    }
    g->is_auto = true;
    const lb_status st = c.kind == LB_DEV_CUDA ? open_kind(g, n_shares, o->split_given, &why)
                                               : open_named(g, &c, n_shares, &why);
    if (st == LB_OK)
        return LB_OK;
    if (lb_gpus_may_fall_back(g, st)) {
        lb_gpus_fall_back(g, common->quiet, &why);
        return LB_OK;
    }
    *err = why;
    return st;
}

lb_status lb_gpus_open(lb_gpus *g, const lb_common *common, const lb_gpu_opts *o, lb_err *err) {
    const lb_dev_choice *c = &common->choice;
    u32 n_shares = 0;
    *g = (lb_gpus){.memory_bytes = common->device_memory_bytes};
    LB_TRY(read_layers(g, o->layers, err));
    g->ranks = o->split_mode == 1;
    if (o->tensor_split && g->ranks)
        return lb_fail(err, LB_E_USAGE,
                       "--tensor-split: with --split-mode row all GPUs have equal shares");
    if (o->tensor_split)
        LB_TRY(read_shares(g, o->tensor_split, &n_shares, err));
    if (c->is_auto)
        LB_TRY(open_auto(g, common, o, n_shares, err));
    else if (c->kind == LB_DEV_CPU && !c->emulated)
        return check_none(g, common, o, err);
    else
        LB_TRY(c->kind == LB_DEV_CUDA && !c->n ? open_kind(g, n_shares, o->split_given, err)
                                               : open_named(g, c, n_shares, err));
    if (g->shared)
        drop_idle(g);
    return LB_OK;
}

bool lb_gpus_may_fall_back(const lb_gpus *g, lb_status st) {
    return g->is_auto && st != LB_OK && st != LB_E_USAGE && st != LB_E_INTERRUPTED;
}

void lb_gpus_fall_back(lb_gpus *g, bool quiet, const lb_err *why) {
    if (!quiet)
        fprintf(stderr, "warning: %s; the CPU computes\n", why->msg);
    lb_gpus_close(g);
    g->is_auto = false;
}

/* One is enough. */
static bool keep(void *user, const lb_dev *d, lb_dev_kernel k, const lb_err *why) {
    (void)d;
    (void)k;
    *(lb_err *)user = *why;
    return false;
}

lb_status lb_gpus_probe(lb_gpus *g, lb_err *err) {
    lb_err wrong = {0};
    const lb_dev_proving p = {.wrong = keep, .user = &wrong, .all = true};
    for (u32 i = 0; i < g->n; i++) {
        LB_TRY(lb_dev_prove_all(g->dev[i], &p, err));
        if (wrong.code != LB_OK) {
            *err = wrong;
            lb_err_context(err, "%s", lb_gpus_name(g, i));
            return wrong.code;
        }
    }
    return LB_OK;
}

void lb_gpus_close(lb_gpus *g) {
    while (g->n)
        lb_dev_close(&g->dev[--g->n]);
}

/* ---- a model there ---- */

static lb_resident_opts resident_opts(const lb_gpus *g, const lb_context_opts *session) {
    return (lb_resident_opts){.devices = g->dev,
                              .n_devices = g->n,
                              .share = g->shared ? g->share : NULL,
                              .few = g->few,
                              .ranks = g->ranks,
                              .n_layers = g->n_layers,
                              .session = *session};
}

const char *lb_gpus_name(const lb_gpus *g, u32 i) {
    const lb_dev_info *d = lb_dev_info_get(g->dev[i]);
    return d->kind == LB_DEV_CPU ? "emulated" : d->id;
}

/* The first device alone where it holds all that is wanted; else all of them. */
static lb_status make_plan(lb_gpus *g, lb_resident_plan *plan, const lb_model *m,
                           const lb_context_opts *session, lb_err *err) {
    lb_resident_opts o = resident_opts(g, session);
    const u32 all = lb_model_n_layers(m), wanted = LB_MIN(o.n_layers, all);
    if (g->more)
        o.n_layers = wanted;
    LB_TRY(lb_resident_plan_make(plan, m, &o, err));
    if (!g->more || plan->placing.n_devices)
        return LB_OK;
    const u32 n = LB_MIN(lb_dev_list(LB_DEV_CUDA, NULL, 0, NULL), LB_DEV_LIST_MAX);
    while (g->n < n)
        LB_TRY(open_one(g, LB_DEV_CUDA, g->n, err));
    g->few = true;
    o = resident_opts(g, session);
    return lb_resident_plan_make(plan, m, &o, err);
}

u64 lb_gpus_memory(const lb_dev *d, bool *budget) {
    const u64 free_bytes = lb_dev_info_get(d)->free_bytes, limit = lb_dev_budget(d);
    if (!limit || (free_bytes && free_bytes <= limit))
        return free_bytes;
    *budget = true;
    return limit;
}

static lb_status refuse(const lb_gpus *g, const lb_resident_plan *plan, lb_err *err) {
    char want[LB_SIZE_TEXT], room[LB_SIZE_TEXT], which[32];
    u64 most = 0;
    bool budget = false;
    for (u32 i = 0; i < g->n; i++)
        most += lb_gpus_memory(g->dev[i], &budget);
    (void)snprintf(which, sizeof which, "%s", lb_gpus_name(g, 0));
    if (g->n > 1)
        (void)snprintf(which, sizeof which, "%u GPUs", g->n);
    return lb_fail(err, budget ? LB_E_LIMIT : LB_E_NOMEM,
                   "%s: weights and a session, %s in all, do not fit %s of %s%s: use %s, a smaller "
                   "--ctx or --device cpu",
                   which, lb_size_text(plan->all, want),
                   budget      ? "--device-memory"
                   : g->n == 1 ? "its free memory"
                               : "their free memory",
                   lb_size_text(most, room),
                   g->n_layers == LB_NO_INDEX ? ", nor does one layer" : "",
                   g->n_layers == LB_NO_INDEX ? "fewer bits (--type)" : "fewer --gpu-layers");
}

/* "layers 0 to 11 on the CPU, 12 to 31 on cuda:0 (4.1 GB)" */
static void tell(const lb_gpus *g, const lb_resident_plan *plan) {
    const lb_placing *p = &plan->placing;
    char size[LB_SIZE_TEXT];
    const char *before = "layers";
    u32 first = p->n_host;
    if (p->n_host) {
        fprintf(stderr, "layers 0 to %u on the CPU (%s)", p->n_host - 1,
                lb_size_text(plan->host_weights, size));
        before = ",";
    }
    if (plan->ranks) {
        fprintf(stderr, "%s %u to %u shared by %u devices (%s on the first)\n", before, first,
                p->end[0] - 1, p->n_devices, lb_size_text(plan->weights[0], size));
        return;
    }
    for (u32 i = 0; i < p->n_devices; i++) {
        fprintf(stderr, "%s %u to %u on %s (%s)", before, first, p->end[i] - 1, lb_gpus_name(g, i),
                lb_size_text(plan->weights[i], size));
        first = p->end[i];
        before = ",";
    }
    fprintf(stderr, "\n");
}

static void set_text(lb_gpus *g, const lb_resident_plan *plan) {
    size_t at = plan->placing.n_host ? (size_t)snprintf(g->text, sizeof g->text, "cpu") : 0;
    for (u32 i = 0; i < plan->placing.n_devices && at < sizeof g->text; i++)
        at += (size_t)snprintf(g->text + at, sizeof g->text - at, "%s%s", at ? "," : "",
                               lb_gpus_name(g, i));
}

lb_status lb_gpus_plan(lb_gpus *g, lb_resident_plan *plan, const lb_model *m,
                       const lb_context_opts *session, lb_err *err) {
    *plan = (lb_resident_plan){.placing = {.n_host = lb_model_n_layers(m)}};
    if (g->n_layers == 0)
        lb_gpus_close(g);
    if (!g->n)
        return LB_OK;
    if (g->all_layers)
        g->n_layers = lb_model_n_layers(m);
    LB_TRY(make_plan(g, plan, m, session, err));
    return plan->placing.n_devices ? LB_OK : refuse(g, plan, err);
}

lb_status lb_gpus_put(lb_gpus *g, lb_resident **out, const lb_model *m,
                      const lb_context_opts *session, const lb_common *common, lb_err *err) {
    lb_resident_plan plan;
    lb_progress bar;
    *out = NULL;
    LB_TRY(lb_gpus_plan(g, &plan, m, session, err));
    if (!g->n)
        return LB_OK;
    if (!common->quiet && (plan.placing.n_devices > 1 || plan.placing.n_host))
        tell(g, &plan);
    set_text(g, &plan);
    lb_resident_opts o = resident_opts(g, session);
    lb_progress_begin(&bar, common->progress, "load");
    o.progress = lb_progress_update;
    o.progress_user = &bar;
    const lb_status st = lb_resident_new_planned(out, m, &o, &plan, err);
    lb_progress_end(&bar);
    return st;
}
