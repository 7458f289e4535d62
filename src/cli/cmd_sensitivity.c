/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_sensitivity.c: `lbrx sensitivity MODEL -f TEXT -o FILE.json`: ops/sensitivity.h. */
#include "base/os.h"
#include "cli/infer.h"
#include "cli/write.h"
#include "cli/text.h"
#include "device/encode.h"
#include "ops/imatrix.h"
#include "ops/sensitivity.h"
#include "ops/write_file.h"
#include "plan/encoder.h"
#include "quant/recipe.h"
#include <math.h>

#define CTX_USUAL 512

typedef struct sensitivity_opts {
    lb_common common;
    lb_infer_opts infer;
    const char *file, *output, *types, *imatrix, *anchors;
    lb_opt_list tensors;
    u64 n_chunks;
    bool refine, force, no_sync;
} sensitivity_opts;

static const lb_opt rows[] = {
    {.name = "file",
     .short_name = 'f',
     .kind = LB_OPT_PATH,
     .arg = "TEXT",
     .required = true,
     .help = "file with the text to measure on",
     .off = offsetof(sensitivity_opts, file)},
    {.name = "output",
     .short_name = 'o',
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .required = true,
     .help = "the figures, as JSON, for quantize --sensitivity",
     .off = offsetof(sensitivity_opts, output)},
    {.name = "types",
     .kind = LB_OPT_STR,
     .arg = "TYPE[,TYPE...]",
     .help = "types of GGUF to measure; unless given those that quantize --target-bpw chooses from",
     .off = offsetof(sensitivity_opts, types)},
    {.name = "imatrix",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "quantize with this importance matrix",
     .off = offsetof(sensitivity_opts, imatrix)},
    {.name = "refine",
     .kind = LB_OPT_FLAG,
     .help = "quantize as quantize --refine does",
     .off = offsetof(sensitivity_opts, refine)},
    {.name = "chunks",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "4",
     .min = 1,
     .max = 1u << 20,
     .help = "only the first N chunks of --ctx tokens (512 unless given)",
     .off = offsetof(sensitivity_opts, n_chunks)},
    {.name = "anchors",
     .kind = LB_OPT_STR,
     .arg = "N|all",
     .initial = "2",
     .help = "types of each tensor that are measured by running the model; the others follow from "
             "the errors of its product",
     .off = offsetof(sensitivity_opts, anchors)},
    {.name = "tensors",
     .kind = LB_OPT_STR,
     .arg = "REGEX",
     .repeatable = true,
     .help = "only tensors in whose names one of these is found",
     .off = offsetof(sensitivity_opts, tensors)},
    {.name = "force",
     .kind = LB_OPT_FLAG,
     .help = "replace an existing file once the new one is complete",
     .off = offsetof(sensitivity_opts, force)},
    {.name = "no-sync",
     .kind = LB_OPT_FLAG,
     .help = "do not wait until the data are on the disk",
     .off = offsetof(sensitivity_opts, no_sync)},
};

/* As quantize_*.c's, of GGUF. */
static const lb_dtype usual[] = {LB_Q2_K,   LB_Q3_K, LB_IQ4_XS, LB_Q4_K,
                                 LB_IQ4_NL, LB_Q5_K, LB_Q6_K,   LB_Q8_0};
static const lb_dtype weighted[] = {LB_IQ1_S, LB_IQ1_M,   LB_IQ2_XXS, LB_IQ2_XS,
                                    LB_IQ2_S, LB_IQ3_XXS, LB_IQ3_S};

typedef struct work {
    lb_cli *cli;
    const sensitivity_opts *o;
    lb_infer *x;
    lb_context *beside;       /* the CPU's, where devices run the model */
    lb_quant_device *encoder; /* there, where it makes the CPU's codes */
    lb_sensitivity result;
    lb_sensor *sensor;
    lb_importance importance;
    lb_overrides wanted; /* patterns: any type */
    u32 n_anchors;
    lb_write_target target;
    const lb_source *input;
    lb_buf ids, json;
    lb_progress progress;
} work;

static lb_status take_types(work *w, lb_err *err) {
    lb_sensitivity *s = &w->result;
    lb_str list = lb_str_c(w->o->types ? w->o->types : "");
    u32 at;
    for (u32 i = 0; !list.len && i < LB_LEN(usual); i++)
        s->types[s->n_types++] = usual[i];
    for (u32 i = 0; !list.len && w->o->imatrix && i < LB_LEN(weighted); i++)
        s->types[s->n_types++] = weighted[i];
    while (list.len) {
        size_t end = list.len;
        lb_dtype t;
        (void)lb_str_find(list, LB_STR(","), &end);
        LB_TRY(lb_recipe_type_find(lb_str_sub(list, 0, end), &t, err));
        list = lb_str_sub(list, LB_MIN(end + 1, list.len), list.len);
        if (lb_dtype_get(t)->cls != LB_CLASS_BLOCK)
            return lb_fail(err, LB_E_USAGE, "--types: %s loses nothing that this measures",
                           lb_dtype_get(t)->name);
        if (lb_sensitivity_type(s, t, &at))
            return lb_fail(err, LB_E_USAGE, "--types: %s is named twice", lb_dtype_get(t)->name);
        if (s->n_types == LB_SENSITIVITY_TYPES_MAX)
            return lb_fail(err, LB_E_USAGE, "--types: at most %d types", LB_SENSITIVITY_TYPES_MAX);
        s->types[s->n_types++] = t;
    }
    return LB_OK;
}

static lb_status take_options(work *w, lb_err *err) {
    u64 n;
    const sensitivity_opts *o = w->o;
    LB_TRY(take_types(w, err));
    if (!lb_str_eq_c(lb_str_c(o->anchors), "all")) {
        if (!lb_str_to_u64(lb_str_c(o->anchors), &n) || !n)
            return lb_fail(err, LB_E_USAGE, "--anchors: a number from 1, or all");
        w->n_anchors = (u32)LB_MIN(n, (u64)LB_SENSITIVITY_TYPES_MAX);
    }
    w->wanted.arena = &w->cli->arena;
    for (u32 i = 0; i < o->tensors.n; i++) {
        lb_str text = lb_arena_printf(&w->cli->arena, "%s=f32", o->tensors.item[i]);
        if (!text.ptr)
            return lb_fail(err, LB_E_NOMEM, "out of memory for patterns");
        lb_status st = lb_override_add(&w->wanted, text, false, err);
        if (st != LB_OK) {
            lb_err_context(err, "--tensors");
            return st;
        }
    }
    return LB_OK;
}

static bool is_wanted(void *user, lb_str name) {
    const work *w = user;
    const lb_override *found = NULL;
    lb_err err;
    return !w->wanted.first || (lb_override_find(&w->wanted, name, &found, &err) == LB_OK && found);
}

static void progress(void *user, u64 done, u64 total) {
    work *w = user;
    lb_progress_update(&w->progress, done, total);
}

static lb_status read_importance(work *w, lb_err *err) {
    const lb_mweights *weights = lb_loaded_weights(w->x->loaded);
    if (!w->o->imatrix)
        return LB_OK;
    lb_imatrix_tensor *list = lb_arena_new(&w->cli->arena, lb_imatrix_tensor, weights->n + 1);
    if (!list)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
    for (u64 i = 0; i < weights->n; i++)
        list[i] = (lb_imatrix_tensor){weights->list[i].name, weights->list[i].shape};
    w->result.imatrix = lb_os_base_name(lb_str_c(w->o->imatrix));
    return lb_importance_open(&w->importance, &(lb_importance_opts){.path = w->o->imatrix}, list,
                              weights->n, err);
}

static lb_status make_json(void *ctx, lb_out *out, lb_err *err) {
    const work *w = ctx;
    (void)err;
    lb_buf_put_str(&out->buf, lb_buf_str(&w->json));
    return LB_OK;
}

static void put_summary(const work *w, lb_buf *out) {
    const lb_sensitivity *s = &w->result;
    lb_table t = {.n_columns = 4, .right = 0xe};
    lb_put_safe(out, lb_str_c(w->o->output));
    lb_buf_printf(out, ": %llu tensors, %llu tokens of %llu chunks; perplexity %.4f\n",
                  (unsigned long long)s->n_tensors, (unsigned long long)s->n_scored,
                  (unsigned long long)s->n_chunks, exp(s->nll / (double)s->n_scored));
    lb_table_cell(&t, LB_STR("type"));
    lb_table_cell(&t, LB_STR("tensors"));
    lb_table_cell(&t, LB_STR("KL of all"));
    lb_table_cell(&t, LB_STR("of the worst one"));
    for (u32 k = 0; k < s->n_types; k++) {
        double sum = 0, most = 0;
        u64 n = 0;
        for (u64 i = 0; i < s->n_tensors; i++) {
            double v = s->tensors[i].kl[k];
            if (!(v >= 0))
                continue;
            n++;
            sum += v;
            most = fmax(most, v);
        }
        lb_table_cell(&t, lb_str_c(lb_dtype_get(s->types[k])->name));
        lb_table_printf(&t, "%llu", (unsigned long long)n);
        lb_table_printf(&t, "%.6f", sum);
        lb_table_printf(&t, "%.6f", most);
    }
    lb_table_end(&t, 0, out);
}

static lb_status finish(work *w, lb_err *err) {
    lb_sensitivity_write(&w->result, &w->json);
    LB_TRY(lb_buf_status(&w->json, err));
    LB_TRY(lb_write_file(&w->target, make_json, w, err));
    if (w->o->common.json)
        lb_buf_put_str(&w->cli->out, lb_buf_str(&w->json));
    else
        put_summary(w, &w->cli->out);
    return LB_OK;
}

/* Where the model runs on a device that quantizes as the CPU does and has room for it. */
static lb_status open_encoder(work *w, lb_err *err) {
    lb_infer *x = w->x;
    lb_dev_stats used;
    if (!x->resident || !lb_dev_encode_exact(lb_resident_device(x->resident)->kind))
        return LB_OK;
    const u64 budget = lb_dev_budget(x->gpus.dev[0]);
    lb_dev_stats_get(x->gpus.dev[0], &used);
    if (budget && budget <= used.used_bytes)
        return LB_OK;
    const lb_dev_opts o = {.kind = lb_resident_device(x->resident)->kind,
                           .index = lb_resident_device(x->resident)->index,
                           .memory_bytes = budget ? budget - used.used_bytes : 0};
    LB_TRY(lb_quant_device_new(&w->encoder, &o, x->threads, w->o->common.memory_bytes, err));
    const lb_status st = lb_quant_device_open(w->encoder, err);
    if (st != LB_E_NOMEM && st != LB_E_LIMIT)
        return st;
    lb_quant_device_free(&w->encoder);
    return LB_OK;
}

static lb_status measure(work *w, lb_err *err) {
    lb_infer *x = w->x;
    const lb_gguf_meta *meta = lb_loaded_meta(x->loaded);
    w->input = x->source;
    w->target = (lb_write_target){.path = w->o->output,
                                  .force = w->o->force,
                                  .no_sync = w->o->no_sync,
                                  .inputs = &w->input,
                                  .n_inputs = 1};
    LB_TRY(lb_write_check(&w->target, err));
    LB_TRY(read_importance(w, err));
    w->result.text = lb_os_base_name(lb_str_c(w->o->file));
    LB_TRY(lb_infer_encode_file(x, w->o->file, &w->ids, err));
    (void)lb_kv_as_str(lb_meta_find(meta, "general.architecture"), &w->result.arch);
    lb_sensitivity_opts so = {.weights = lb_loaded_weights(x->loaded),
                              .meta = meta,
                              .kernels = &x->kernels,
                              .n_ctx = (u32)w->o->infer.n_ctx,
                              .n_chunks = (u32)w->o->n_chunks,
                              .bos = lb_infer_bos(x),
                              .n_anchors = w->n_anchors,
                              .refine = w->o->refine,
                              .importance = w->o->imatrix ? &w->importance : NULL,
                              .wanted = is_wanted,
                              .progress = progress,
                              .user = w};
    LB_TRY(open_encoder(w, err));
    so.encoder = w->encoder;
    LB_TRY(lb_sensor_new(&w->sensor, &w->result, &so, &w->cli->arena, err));
    x->tap = lb_sensor_tap;
    x->tap_user = w->sensor;
    x->scratch_bytes = lb_sensor_scratch_bytes(w->sensor, (u32)x->opts.n_batch);
    x->opts.exact |= x->resident != NULL; /* what is rounded there would be noise in differences */
    LB_TRY(lb_infer_context(x, w->o->infer.n_ctx, err));
    LB_TRY(lb_context_can_part(x->context, err));
    if (x->resident)
        LB_TRY(lb_infer_beside(x, &w->beside, err));
    lb_progress_begin(&w->progress, w->o->common.progress, "sensitivity");
    lb_status st =
        lb_sensor_run(w->sensor, w->beside ? w->beside : x->context, x->context,
                      (const u32 *)(const void *)w->ids.ptr, w->ids.len / sizeof(u32), err);
    lb_progress_end(&w->progress);
    return st == LB_OK ? finish(w, err) : st;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    sensitivity_opts o = *(const sensitivity_opts *)opts;
    lb_infer *x = lb_arena_new(&cli->arena, lb_infer, 1);
    work *w = lb_arena_new(&cli->arena, work, 1);
    (void)n_args;
    if (!x || !w)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    *w = (work){.cli = cli, .o = &o, .x = x};
    if (!o.infer.n_ctx)
        o.infer.n_ctx = CTX_USUAL;
    if (o.infer.n_ctx < 4)
        return lb_fail(err, LB_E_USAGE, "sensitivity: --ctx: at least 4");
    LB_TRY(take_options(w, err));
    o.infer.n_batch = LB_MAX(o.infer.n_batch, (u64)LB_IMATRIX_BATCH_MIN);
    x->any_device = strcmp(o.common.device, "auto") != 0;
    lb_status st = lb_infer_open(x, cli, &o.common, &o.infer, args[0], err);
    if (st == LB_OK && !x->planned)
        st = measure(w, err);
    lb_context_free(&w->beside);
    lb_sensor_free(&w->sensor);
    if (w->encoder)
        lb_quant_device_warn(w->encoder, x->quiet);
    lb_quant_device_free(&w->encoder);
    lb_importance_close(&w->importance);
    lb_buf_deinit(&w->ids);
    lb_buf_deinit(&w->json);
    lb_infer_close(x);
    return st;
}

const lb_command lb_cmd_sensitivity = {
    .name = "sensitivity",
    .summary = "Measures what a model loses when one tensor alone is quantized.",
    .args = "MODEL -f TEXT -o FILE.json",
    .examples = {{"of every tensor and type",
                  "lbrx sensitivity model/ -f text.txt -o model-kl.json --imatrix imatrix.gguf"},
                 {"the types that lose least by it, at 4.5 bits a value",
                  "lbrx quantize model/ -o model.gguf --target-bpw 4.5 --imatrix imatrix.gguf "
                  "--sensitivity model-kl.json"},
                 {"every type of one tensor, by running the model",
                  "lbrx sensitivity model/ -f text.txt -o one.json --anchors all --tensors "
                  "'blk\\.0\\.ffn_down'"}},
    .details =
        "For each tensor and type: the mean divergence of the next token's distribution from the "
        "model's own, in nats, when this tensor alone has the type. Some types (--anchors) are "
        "measured by running the rest of the model from the tensor's layer on; the others follow "
        "from how far the tensor's products are off on the same text. Tensors outside the layers "
        "are run for every type. It takes about as long as --anchors / 2 runs over the text for "
        "each tensor; --chunks and --ctx say how long the text is.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_INFER(offsetof(sensitivity_opts, infer)),
              LB_GROUP_GPUS(offsetof(sensitivity_opts, infer)),
              LB_GROUP_COMMON(offsetof(sensitivity_opts, common))},
    .size_bytes = sizeof(sensitivity_opts),
    .run = run,
};
