/* SPDX-License-Identifier: Apache-2.0 */
/* quantize_budget.c: the types with the least error in so many bytes: candidates are measured on
 * the model (ops/measure.h), or a file says what the model loses by them (ops/sensitivity.h); then
 * the best choice is computed (quant/budget.h). */
#include "base/os.h"
#include "io/size.h"
#include "ops/measure.h"
#include "ops/quantize_internal.h"
#include "ops/sensitivity.h"
#include "quant/budget.h"
#include <math.h>

/* So many values of a tensor are measured; a tenth of a percent of a seven billion model's largest
 * decide no less well than all. */
#define MEASURED_MAX ((u64)1 << 20)
#define MEMORY_MAX (256 * LB_MIB)
#define FIGURES_BYTES_MAX (64 * LB_MIB)

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the choice of types");
}

bool lb_quantizer_has_target(const lb_quantizer *q) {
    return q->o->target_bpw > 0 || q->o->target_bytes;
}

/* Bytes for the tensors that have a choice. */
static lb_status room_of(const lb_quantizer *q, const lb_quant_room *r, u64 *out, lb_err *err) {
    u64 taken = r->other_bytes + (q->o->target_bytes ? r->head_bytes : 0);
    double all = q->o->target_bytes ? (double)q->o->target_bytes
                                    : q->o->target_bpw / 8 * (double)r->n_values;
    u64 bytes = all >= 0x1p63 ? (u64)1 << 63 : (u64)all;
    *out = bytes > taken ? bytes - taken : 0;
    if (bytes > taken)
        return LB_OK;
    return lb_fail(err, LB_E_LIMIT,
                   "the target is too small: what is not quantized takes %llu bytes alone",
                   (unsigned long long)taken);
}

typedef struct choosing {
    lb_conv *c;
    lb_arena scratch;
    lb_measure_tensor *measured; /* those with a choice */
    u64 n_measured;
    lb_budget_item *items;
    const u32 **option; /* of each item's the choice's */
    u32 *chosen;
} choosing;

static lb_status list_measured(choosing *x, const lb_quant_choice *list, u64 n, lb_err *err) {
    x->measured = lb_arena_new(&x->scratch, lb_measure_tensor, n + 1);
    x->items = lb_arena_new(&x->scratch, lb_budget_item, n + 1);
    x->chosen = lb_arena_new(&x->scratch, u32, n + 1);
    x->option = lb_arena_new(&x->scratch, const u32 *, n + 1);
    if (!x->measured || !x->items || !x->chosen || !x->option)
        return oom(err);
    for (u64 i = 0; i < n; i++) {
        const lb_quant_choice *t = &list[i];
        lb_measure_part *parts = lb_arena_new(&x->scratch, lb_measure_part, t->pieces.n + 1);
        double *error = lb_arena_new(&x->scratch, double, t->n_options + 1);
        if (t->n_options < 2)
            continue;
        if (!parts || !error)
            return oom(err);
        for (u32 k = 0; k < t->pieces.n; k++)
            parts[k] =
                (lb_measure_part){t->pieces.list[k].values, t->quants + (u64)k * t->n_options,
                                  t->pieces.list[k].weights};
        x->measured[x->n_measured++] = (lb_measure_tensor){.name = t->name,
                                                           .parts = parts,
                                                           .n_parts = t->pieces.n,
                                                           .n_quants = t->n_options,
                                                           .error = error};
    }
    return LB_OK;
}

static lb_status list_items(choosing *x, const lb_quant_choice *list, u64 n, lb_err *err) {
    u64 at = 0;
    for (u64 i = 0; i < n; i++) {
        const lb_quant_choice *t = &list[i];
        lb_budget_option *o = lb_arena_new(&x->scratch, lb_budget_option, t->n_options);
        const double *error = t->n_options > 1 ? x->measured[at++].error : NULL;
        u32 *of = lb_arena_new(&x->scratch, u32, t->n_options), kept = 0;
        if (!o || !of)
            return oom(err);
        for (u32 k = 0; k < t->n_options; k++) {
            if (error && !(error[k] >= 0 && error[k] < 0x1p1000))
                continue; /* the type cannot hold the values */
            of[kept] = k;
            o[kept++] = (lb_budget_option){t->size_bytes[k], error ? error[k] : 0};
        }
        if (!kept)
            return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s': no type can hold its values",
                           LB_FMT(t->name));
        x->items[i] = (lb_budget_item){o, kept};
        x->option[i] = of;
    }
    return LB_OK;
}

/* ---- figures of a file ---- */

static lb_status other_model(const char *file, lb_str name, const char *why, lb_err *err) {
    return lb_fail(err, LB_E_FORMAT, "--sensitivity: %s is of another model: '%.*s' %s", file,
                   LB_FMT(name), why);
}

static lb_status take_figures(const lb_sensitivity *s, const char *file, const lb_quant_choice *t,
                              const lb_sensitivity_tensor *from, lb_measure_tensor *to,
                              lb_err *err) {
    if (!from)
        return lb_fail(err, LB_E_FORMAT,
                       "--sensitivity: %s has nothing for '%.*s': it is of another model, or only "
                       "some tensors were measured",
                       file, LB_FMT(t->measured_as));
    if (!lb_shape_eq(&from->shape, t->shape))
        return other_model(file, t->measured_as, "has another shape there", err);
    for (u32 k = 0; k < t->n_options; k++) {
        u32 at;
        lb_dtype d = t->quants[k]->dtype;
        if (!lb_sensitivity_type(s, d, &at))
            return lb_fail(err, LB_E_USAGE,
                           "--sensitivity: %s was not measured for %s: name those to choose from "
                           "with --type, or measure it with lbrx sensitivity --types",
                           file, lb_dtype_get(d)->name);
        to->error[k] = from->kl[at];
    }
    return LB_OK;
}

/* All of them are for tensors of the model. */
static lb_status check_names(const lb_sensitivity *s, const char *file, const lb_quant_choice *list,
                             u64 n, lb_err *err) {
    lb_map names = {0};
    lb_status st = LB_OK;
    for (u64 i = 0; i < n && st == LB_OK; i++)
        st = lb_map_put(&names, list[i].measured_as, i, NULL, err);
    for (u64 i = 0; i < s->n_tensors && st == LB_OK; i++)
        if (!lb_map_find(&names, s->tensors[i].name, NULL))
            st = other_model(file, s->tensors[i].name, "is not in this one", err);
    lb_map_deinit(&names);
    return st;
}

static lb_status take_all(choosing *x, const lb_sensitivity *s, const char *file,
                          const lb_quant_choice *list, u64 n, lb_err *err) {
    lb_map names = {0};
    u64 at = 0, i;
    lb_status st = LB_OK;
    for (i = 0; i < s->n_tensors && st == LB_OK; i++)
        st = lb_map_put(&names, s->tensors[i].name, i, NULL, err);
    for (u64 k = 0; k < n && st == LB_OK; k++) {
        bool found = lb_map_find(&names, list[k].measured_as, &i);
        if (list[k].n_options > 1)
            st = take_figures(s, file, &list[k], found ? &s->tensors[i] : NULL, &x->measured[at++],
                              err);
    }
    lb_map_deinit(&names);
    return st;
}

static lb_status use_figures(choosing *x, const char *file, const lb_quant_choice *list, u64 n,
                             lb_err *err) {
    const lb_quantize_opts *o = x->c->quantizer->o;
    lb_sensitivity s;
    lb_str text;
    LB_TRY(lb_os_read_file(file, FIGURES_BYTES_MAX, &x->scratch, &text, err));
    LB_TRY(lb_sensitivity_parse(text, file, &x->scratch, &s, err));
    LB_TRY(take_all(x, &s, file, list, n, err));
    if (!o->prune)
        LB_TRY(check_names(&s, file, list, n, err));
    if (s.refine != o->refine)
        lb_conv_remark(x->c, "the figures of --sensitivity are of types made %s --refine",
                       s.refine ? "with" : "without");
    if ((s.imatrix.len > 0) != (o->imatrix != NULL))
        lb_conv_remark(x->c, "the figures of --sensitivity are of types made %s importance matrix",
                       s.imatrix.len ? "with an" : "without");
    return LB_OK;
}

/* ---- the choice ---- */

static void say_result(lb_conv *c, const lb_budget_result *r, const lb_quant_room *room,
                       const choosing *x) {
    double all = (double)(r->size_bytes + room->other_bytes);
    char size[LB_SIZE_TEXT];
    u64 n = 0, seen = 0;
    for (u64 i = 0; i < x->n_measured; i++) {
        n += x->measured[i].n_measured;
        seen++;
    }
    if (c->quantizer->o->sensitivity)
        lb_conv_remark(
            c,
            "target: %.4f bits a value, tensors of %s; %llu tensors had a choice; sum of "
            "their divergences %.6g%s",
            8 * all / (double)room->n_values, lb_size_text((u64)all, size),
            (unsigned long long)seen, r->error, r->exact ? ", the least there is" : "");
    else
        lb_conv_remark(c,
                       "target: %.4f bits a value, tensors of %s; %llu tensors had a choice, "
                       "measured on %llu values; weighted error %.6g%s",
                       8 * all / (double)room->n_values, lb_size_text((u64)all, size),
                       (unsigned long long)seen, (unsigned long long)n, r->error,
                       r->exact ? ", the least there is" : "");
    if (!r->exact)
        lb_conv_remark(c, "target: the search was cut short: no choice has less than %.6g",
                       r->error_least);
}

static lb_status check_least(const choosing *x, u64 n, u64 bytes, const lb_quant_room *room,
                             lb_err *err) {
    u64 least = 0;
    char size[LB_SIZE_TEXT];
    for (u64 i = 0; i < n; i++) {
        u64 own = UINT64_MAX;
        for (u32 k = 0; k < x->items[i].n_options; k++)
            own = LB_MIN(own, x->items[i].options[k].size_bytes);
        least += own;
    }
    if (least <= bytes)
        return LB_OK;
    least += room->other_bytes;
    if (!x->c->quantizer->o->target_bytes)
        return lb_fail(err, LB_E_LIMIT,
                       "%g bits a value are too few: the smallest types that the tensors may have "
                       "take %.4f",
                       x->c->quantizer->o->target_bpw, 8 * (double)least / (double)room->n_values);
    return lb_fail(err, LB_E_LIMIT,
                   "too small: the smallest types that the tensors may have make files of %s (%llu "
                   "bytes)",
                   lb_size_text(least + room->head_bytes, size),
                   (unsigned long long)(least + room->head_bytes));
}

static lb_status measure_and_solve(choosing *x, lb_quant_choice *list, u64 n,
                                   const lb_quant_room *room, lb_err *err) {
    const lb_writer_opts *w = &x->c->o->w;
    lb_budget_result result;
    u64 bytes = 0;
    LB_TRY(room_of(x->c->quantizer, room, &bytes, err));
    LB_TRY(list_measured(x, list, n, err));
    lb_measure_opts mo = {.elems_max = MEASURED_MAX,
                          .memory_bytes = LB_MIN(w->memory_bytes, MEMORY_MAX),
                          .threads = w->threads,
                          .kernels = w->kernels,
                          .stop = w->stop,
                          .progress = w->progress,
                          .user = w->user};
    const char *figures = x->c->quantizer->o->sensitivity;
    if (figures)
        LB_TRY(use_figures(x, figures, list, n, err));
    else if (x->n_measured)
        LB_TRY(lb_measure_tensors(x->c->plan, x->measured, x->n_measured, &mo, NULL, err));
    LB_TRY(list_items(x, list, n, err));
    LB_TRY(check_least(x, n, bytes, room, err));
    LB_TRY(lb_budget_solve(x->items, n, bytes, NULL, x->chosen, &result, err));
    for (u64 i = 0; i < n; i++)
        list[i].chosen = x->option[i][x->chosen[i]];
    say_result(x->c, &result, room, x);
    return LB_OK;
}

lb_status lb_quantize_choose(lb_conv *c, lb_quant_choice *list, u64 n, const lb_quant_room *room,
                             lb_err *err) {
    choosing x = {.c = c};
    lb_status st = measure_and_solve(&x, list, n, room, err);
    if (st == LB_E_LIMIT)
        lb_err_context(err, "%s", c->quantizer->o->target_bytes ? "--target-size" : "--target-bpw");
    lb_arena_deinit(&x.scratch);
    return st;
}
