/* SPDX-License-Identifier: Apache-2.0 */
/* parts.c: names of tensors -> modules and layers. See parts.h. */
#include "merge/parts.h"

#define PREFIXES_MAX 4
#define ROWS_MAX 3

/* Without prefixes: what no other row takes. A projector's numbers are those of a sequence. */
typedef struct row {
    const char *module;
    bool no_layers;
    const char *prefixes[PREFIXES_MAX + 1];
} row;

typedef struct family {
    const char *types[5];
    row rows[ROWS_MAX];
    u32 n_rows;
} family;

#define PROJECTOR                                                    \
    {                                                                \
        "multi_modal_projector", true, {                             \
            "multi_modal_projector.", "model.multi_modal_projector." \
        }                                                            \
    }

static const family families[] = {
    {{"gemma3", "mistral3"},
     {{"text_decoder", false, {NULL}},
      PROJECTOR,
      {"vision_tower", false, {"vision_tower.", "model.vision_tower."}}},
     3},
    {{"llama4"},
     {{"text_decoder", false, {NULL}},
      PROJECTOR,
      {"vision_model", false, {"vision_model.", "model.vision_model."}}},
     3},
    {{"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"},
     {{"text_decoder", false, {NULL}},
      {"multi_modal_projector",
       true,
       {"visual.merger.", "model.visual.merger.", "visual.deepstack_merger_list.",
        "model.visual.deepstack_merger_list."}},
      {"vision_tower", false, {"visual.", "model.visual."}}},
     3},
    {{"t5"},
     {{"decoder", false, {"decoder."}}, {"encoder", false, {"encoder."}}, {"shared", true, {NULL}}},
     3},
    {{"whisper"},
     {{"decoder", false, {NULL}}, {"encoder", false, {"encoder.", "model.encoder."}}},
     2},
};

static const family *family_of(lb_str model_type) {
    for (u32 i = 0; i < LB_LEN(families); i++)
        for (u32 k = 0; families[i].types[k]; k++)
            if (lb_str_eq_c(model_type, families[i].types[k]))
                return &families[i];
    return NULL;
}

/* The first row with a prefix of the name, else the one without. */
static u32 row_of(const family *f, lb_str name) {
    u32 rest = 0;
    for (u32 i = 0; i < f->n_rows; i++) {
        if (!f->rows[i].prefixes[0])
            rest = i;
        for (u32 k = 0; f->rows[i].prefixes[k]; k++)
            if (lb_str_starts(name, lb_str_c(f->rows[i].prefixes[k])))
                return i;
    }
    return rest;
}

bool lb_merge_first_number(lb_str name, u32 *layer, u32 *at) {
    for (size_t i = 0; i < name.len; i++) {
        size_t end = i + 1;
        u64 n;
        if (name.ptr[i] != '.')
            continue;
        while (end < name.len && name.ptr[end] >= '0' && name.ptr[end] <= '9')
            end++;
        if (end == i + 1 || end == name.len || name.ptr[end] != '.' ||
            !lb_str_to_u64(lb_str_sub(name, i + 1, end), &n) || n >= LB_NO_LAYER - 1)
            continue;
        *layer = (u32)n;
        *at = (u32)(i + 1);
        return true;
    }
    return false;
}

typedef struct finder {
    lb_merge_fact *const *facts;
    const u32 *n_facts;
    u32 n_models;
    lb_arena *perm;
    lb_merge_parts *out;
    lb_err *err;
} finder;

static lb_status no_memory(const finder *f) {
    return lb_fail(f->err, LB_E_NOMEM, "out of memory");
}

static lb_status by_family(finder *f, const family *fam) {
    f->out->n = fam->n_rows;
    if (!(f->out->names = lb_arena_new(f->perm, lb_str, fam->n_rows)))
        return no_memory(f);
    for (u32 i = 0; i < fam->n_rows; i++)
        f->out->names[i] = lb_str_c(fam->rows[i].module);
    for (u32 m = 0; m < f->n_models; m++)
        for (u32 i = 0; i < f->n_facts[m]; i++) {
            lb_merge_fact *x = &f->facts[m][i];
            x->module = row_of(fam, x->name);
            if (x->layer == LB_NO_LAYER && !x->apart && !fam->rows[x->module].no_layers)
                (void)lb_merge_first_number(x->name, &x->layer, &x->layer_at);
        }
    return LB_OK;
}

/* Modules in order of mention; what has no layer is of "default", which comes last. */
static lb_status infer(finder *f) {
    lb_map seen = {0};
    lb_status st = LB_OK;
    u32 cap = 8;
    lb_str *names = lb_arena_new(f->perm, lb_str, cap + 1);
    bool loose = false;
    u32 n = 0, layer, digit;
    if (!names)
        return no_memory(f);
    for (u32 m = 0; m < f->n_models; m++)
        for (u32 i = 0; st == LB_OK && i < f->n_facts[m]; i++) {
            lb_merge_fact *x = &f->facts[m][i];
            u64 at = n;
            bool old;
            if (x->apart || !lb_merge_first_number(x->name, &layer, &digit)) {
                loose = true;
                continue;
            }
            lb_str prefix = lb_str_sub(x->name, 0, digit - 1);
            if (x->layer == LB_NO_LAYER) {
                x->layer = layer;
                x->layer_at = digit;
            }
            if (!lb_map_find(&seen, prefix, &at)) {
                if (n == cap) {
                    lb_str *more = lb_arena_new(f->perm, lb_str, 2 * (u64)cap + 1);
                    if (!more) {
                        st = no_memory(f);
                        break;
                    }
                    memcpy(more, names, n * sizeof *more);
                    names = more;
                    cap *= 2;
                }
                st = lb_map_put(&seen, prefix, n, &old, f->err);
                names[n++] = prefix;
            }
            x->module = (u32)at;
        }
    lb_map_deinit(&seen);
    bool one = n <= 1;
    if (one || loose)
        names[one ? 0 : n] = LB_STR("default");
    for (u32 m = 0; m < f->n_models; m++)
        for (u32 i = 0; i < f->n_facts[m]; i++)
            if (one || f->facts[m][i].apart ||
                !lb_merge_first_number(f->facts[m][i].name, &layer, &digit))
                f->facts[m][i].module = one ? 0 : n;
    f->out->names = names;
    f->out->n = one ? 1 : n + loose;
    return st;
}

lb_status lb_merge_parts_find(lb_str model_type, lb_merge_fact *const *facts, const u32 *n_facts,
                              u32 n_models, lb_arena *perm, lb_merge_parts *out, lb_err *err) {
    finder f = {facts, n_facts, n_models, perm, out, err};
    const family *fam = family_of(model_type);
    *out = (lb_merge_parts){0};
    LB_TRY(fam ? by_family(&f, fam) : infer(&f));
    u64 cells;
    if (!lb_mul_u64(n_models, out->n, &cells) ||
        !(out->n_layers = lb_arena_new(perm, u64, cells + 1)))
        return no_memory(&f);
    for (u32 m = 0; m < n_models; m++)
        for (u32 i = 0; i < n_facts[m]; i++) {
            const lb_merge_fact *x = &facts[m][i];
            u64 *count = &out->n_layers[(u64)m * out->n + x->module];
            if (x->layer != LB_NO_LAYER)
                *count = LB_MAX(*count, (u64)x->layer + 1);
        }
    return LB_OK;
}
