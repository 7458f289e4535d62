/* SPDX-License-Identifier: Apache-2.0 */
/* convert_folder.c: canonical tensors -> an HF or MLX folder (or one safetensors file). */
#include "base/os.h"
#include "ops/adapter.h"
#include "ops/convert_internal.h"
#include "ops/computed.h"
#include "ops/hf_texts.h"
#include "ops/quantize_internal.h"
#include "text/tokdata.h"
#include <stdlib.h>

/* ---- texts ---- */

lb_status lb_conv_push_text(lb_conv *c, lb_sink_text t, lb_err *err) {
    u32 n = c->model.n_texts;
    for (u32 i = 0; i < n; i++) /* a later one replaces: --chat-template over the source's */
        if (lb_str_eq(c->model.texts[i].name, t.name)) {
            c->model.texts[i] = t;
            return LB_OK;
        }
    if ((n & (n - 1)) == 0) {
        lb_sink_text *p = lb_arena_new(c->perm, lb_sink_text, n ? 2 * (u64)n : 1);
        if (!p)
            return lb_fail(err, LB_E_NOMEM, "out of memory for the folder's files");
        if (n)
            memcpy(p, c->model.texts, n * sizeof *p);
        c->model.texts = p;
    }
    c->model.texts[n] = t;
    c->model.n_texts++;
    return LB_OK;
}

lb_status lb_conv_push_buf(lb_conv *c, const char *name, lb_buf *b, lb_err *err) {
    lb_status st = lb_buf_status(b, err);
    if (st == LB_OK)
        st = lb_conv_push_text(
            c,
            (lb_sink_text){.name = lb_str_c(name), .bytes = lb_arena_str(c->perm, lb_buf_str(b))},
            err);
    lb_buf_deinit(b);
    return st;
}

static lb_dtype matrices_dtype(const lb_conv *c) {
    return c->o->cast ? c->o->dtype : c->canon.main_dtype;
}

/* *out: in, that of the outer class; out, the language model's. */
static lb_status text_config(lb_conv *c, lb_str *out, lb_err *err) {
    lb_buf b = {0};
    lb_status st = lb_arch_config_text(*out, &b, err);
    if (st == LB_OK) {
        *out = lb_arena_str(c->perm, lb_buf_str(&b));
        if (!out->ptr)
            st = lb_fail(err, LB_E_NOMEM, "out of memory for the folder's files");
    }
    lb_buf_deinit(&b);
    return st;
}

/* What an MLX folder's config says of codes: none, or how they are stored. */
static lb_status mlx_quantization(lb_conv *c, const lb_json **out, lb_err *err) {
    static const lb_json plain = {.type = LB_JNULL}; /* codes are dequantized here */
    lb_json *codes;
    LB_TRY(lb_conv_codes_config(c, &codes, err));
    if (c->quantizer && c->quantizer->config)
        codes = c->quantizer->config;
    *out = codes ? codes : &plain;
    return LB_OK;
}

/* config.json of a folder for another folder. */
static lb_status config_of_folder(lb_conv *c, bool plain_copy, lb_err *err) {
    lb_buf b = {0};
    lb_json *generation = NULL;
    lb_str config = c->src->config;
    if (config.len == 0)
        return LB_OK;
    if (c->canon.text_only || (c->model.format == LB_FORMAT_MLX && !plain_copy))
        LB_TRY(lb_arch_config_tied(config, &c->canon.hp, c->perm, &config, err));
    if (c->canon.text_only)
        LB_TRY(text_config(c, &config, err));
    if (c->model.format != LB_FORMAT_MLX) /* there mlx-lm leaves it as it is */
        LB_TRY(lb_conv_config_without(c, &config, err));
    if (plain_copy && !c->canon.text_only) /* whatever else the user wants dropped */
        return lb_conv_push_text(c, (lb_sink_text){.name = LB_STR("config.json"), .bytes = config},
                                 err);
    lb_status st;
    if (c->model.format == LB_FORMAT_MLX) {
        const lb_side_file *f = lb_source_side(c->src, LB_STR("generation_config.json"));
        lb_str text;
        if (f) {
            LB_TRY(lb_side_read(f, 16 * LB_MIB, c->perm, &text, err));
            LB_TRY(lb_json_parse(text, "generation_config.json", c->perm, &generation, err));
        }
        const lb_json *quantization;
        LB_TRY(mlx_quantization(c, &quantization, err));
        st = lb_arch_config_to_mlx(config, generation, plain_copy ? NULL : quantization, &b, err);
    } else {
        st = lb_arch_config_to_hf(config, matrices_dtype(c), 0, &b, err);
        if (st == LB_OK)
            st = lb_quantize_hf_config(c, &b, err);
    }
    if (st == LB_OK)
        return lb_conv_push_buf(c, "config.json", &b, err);
    lb_buf_deinit(&b);
    return st;
}

/* Says how the source's codes were made: the target has none. */
static bool is_quantizers(lb_str name) {
    return lb_str_eq_c(name, "hf_quant_config.json") || lb_str_eq_c(name, "quantize_config.json") ||
           lb_str_eq_c(name, "quant_config.json");
}

/* Says how images, videos and sound are prepared. */
static bool is_processors(lb_str name) {
    return lb_str_eq_c(name, "preprocessor_config.json") ||
           lb_str_eq_c(name, "processor_config.json") ||
           lb_str_eq_c(name, "video_preprocessor_config.json");
}

static bool has_card(const lb_conv *c) {
    return c->src->computed && c->src->computed->card;
}

static lb_status texts_of_folder(lb_conv *c, bool plain_copy, lb_err *err) {
    for (u64 i = 0; i < c->src->n_sides; i++) {
        const lb_side_file *f = &c->src->sides[i];
        if ((f->provenance && c->o->w.no_provenance) ||
            (has_card(c) && lb_str_eq_c(f->name, "README.md")))
            continue;
        if (lb_str_eq_c(f->name, "config.json") || lb_str_eq_c(f->name, "lbrx.json") ||
            lb_str_eq_c(f->name, "SHA256SUMS"))
            continue;
        if (!plain_copy && is_quantizers(f->name))
            continue;
        if (c->canon.text_only && is_processors(f->name)) {
            lb_conv_remark(c, "left out: %.*s (what it prepares has no place in the model)",
                           LB_FMT(f->name));
            continue;
        }
        LB_TRY(lb_conv_push_text(c, lb_conv_side_text(f), err));
    }
    if (has_card(c)) {
        lb_str card;
        LB_TRY(lb_conv_card(c, &card, err));
        if (card.len)
            LB_TRY(lb_conv_push_text(c, (lb_sink_text){.name = LB_STR("README.md"), .bytes = card},
                                     err));
    }
    return config_of_folder(c, plain_copy, err);
}

static lb_status make_file(void *ctx, lb_out *out, lb_err *err) {
    return lb_tok_file_write(ctx, out, err);
}

/* What making them takes now, it will take again when they are written. */
static lb_status tokenizer_files(lb_conv *c, lb_tok_file **files, u64 *n, lb_err *err) {
    u64 before = lb_mem_used(), peak = lb_mem_peak_reset();
    lb_status st = lb_tok_files_from_meta(c->src->gguf, c->perm, files, n, err);
    c->plan->after_bytes = LB_MAX(c->plan->after_bytes, lb_mem_peak() - before);
    lb_mem_peak_raise(peak);
    return st;
}

static lb_status texts_of_gguf(lb_conv *c, lb_err *err) {
    lb_arch_config_out out;
    lb_tok_file *files = NULL;
    lb_buf b = {0};
    u64 n_files = 0;
    LB_TRY(lb_hf_texts_of_gguf(&c->canon, matrices_dtype(c), c->perm, &out, err));
    for (u32 i = 0; i < out.n_notices; i++)
        lb_conv_remark(c, "config.json: %s", out.notices[i]);
    lb_str config = out.config;
    if (c->model.format != LB_FORMAT_MLX)
        LB_TRY(lb_conv_config_without(c, &config, err));
    if (c->model.format == LB_FORMAT_MLX) {
        lb_json *generation = NULL;
        if (out.generation.len)
            LB_TRY(
                lb_json_parse(out.generation, "generation_config.json", c->perm, &generation, err));
        const lb_json *quantization;
        LB_TRY(mlx_quantization(c, &quantization, err));
        lb_status st = lb_arch_config_to_mlx(config, generation, quantization, &b, err);
        if (st != LB_OK) {
            lb_buf_deinit(&b);
            return st;
        }
        LB_TRY(lb_conv_push_buf(c, "config.json", &b, err));
    } else if (out.original) {
        /* the text of the model that lbrx converted: its type may have been another */
        lb_status st = lb_arch_config_to_hf(config, matrices_dtype(c), 0, &b, err);
        if (st == LB_OK)
            st = lb_quantize_hf_config(c, &b, err);
        if (st != LB_OK) {
            lb_buf_deinit(&b);
            return st;
        }
        LB_TRY(lb_conv_push_buf(c, "config.json", &b, err));
    } else {
        lb_buf_put_str(&b, config);
        lb_status st = lb_quantize_hf_config(c, &b, err);
        if (st != LB_OK) {
            lb_buf_deinit(&b);
            return st;
        }
        LB_TRY(lb_conv_push_buf(c, "config.json", &b, err));
    }
    if (out.generation.len)
        LB_TRY(lb_conv_push_text(
            c, (lb_sink_text){.name = LB_STR("generation_config.json"), .bytes = out.generation},
            err));
    LB_TRY(tokenizer_files(c, &files, &n_files, err));
    for (u64 i = 0; i < n_files; i++)
        LB_TRY(lb_conv_push_text(c,
                                 (lb_sink_text){.name = files[i].name,
                                                .bytes = files[i].bytes,
                                                .make = files[i].meta ? make_file : NULL,
                                                .ctx = &files[i]},
                                 err));
    return LB_OK;
}

/* ---- tensors ---- */

/* Of values that were codes. */
static lb_dtype values_dtype(const lb_conv *c, const lb_ctensor *t) {
    return lb_ctensor_keeps_f32(t) ? LB_F32 : c->codes.affine ? LB_F16 : LB_BF16;
}

static lb_status target_dtype(lb_conv *c, const lb_assembly *a, const lb_made_of *m, lb_dtype *out,
                              lb_err *err) {
    const lb_ctensor *t = m->first;
    const lb_weight *original = NULL;
    bool cast = c->o->cast && !lb_ctensor_keeps_f32(t);
    *out = t->carried     ? t->dtype
           : cast         ? c->o->dtype
           : t->quantized ? values_dtype(c, t)
                          : t->dtype;
    if (t->carried || cast || c->src->format != LB_FORMAT_GGUF)
        return LB_OK;
    if (!m->stored)
        LB_TRY(lb_ctensor_original(&c->canon, t, c->perm, &original, err));
    if (original) {
        *out = c->src->tensors[original->part[0]].dtype;
        return LB_OK;
    }
    lb_str name = lb_ctensor_hf_name(&c->canon, t, m->ref[0].expert, c->perm);
    if (!name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    *out = lb_ctensor_hf_dtype(&c->canon, t, name, lb_assembly_rank(a, m));
    if (*out == LB_DTYPE_COUNT)
        *out = values_dtype(c, t);
    return LB_OK;
}

/* What mlx-lm's form of a value cannot give back has no place beside it in its folders. */
static lb_status check_loss(lb_conv *c, const lb_assembly *a, const lb_made_of *m, lb_err *err) {
    const lb_ctensor *t = m->first;
    if (m->stored || !t->known)
        return LB_OK;
    const char *loss = lb_ctensor_loss(&c->canon, t, a->world);
    if (loss && c->o->w.lossless)
        return lb_fail(err, LB_E_UNSUPPORTED, "--lossless: tensor '%.*s' would be %s",
                       LB_FMT(m->name), loss);
    if (loss && c->o->w.dry_run)
        lb_conv_remark(c, "%.*s: %s", LB_FMT(m->name), loss);
    return LB_OK;
}

static lb_status add_tensor(lb_conv *c, const lb_assembly *a, const lb_made_of *m, lb_err *err) {
    lb_out_tensor out = {.name = m->name};
    lb_made made;
    LB_TRY(check_loss(c, a, m, err));
    u32 form;
    if (c->model.format == LB_FORMAT_MLX && lb_conv_keeps_codes(c, a, m, &form))
        return lb_conv_push_codes(c, a, m, form, err);
    lb_conv_note_values(c, a, m);
    LB_TRY(target_dtype(c, a, m, &out.dtype, err));
    LB_TRY(lb_assembly_make(a, m, out.dtype, UINT64_MAX, &made, err));
    LB_TRY(lb_conv_shape(c, m->first, &made.shape, &out.shape, err));
    out.segments = made.segments;
    out.n_segments = made.n_segments;
    return lb_conv_push(c, &out, err);
}

static int by_natural_name(const void *a, const void *b) {
    return lb_str_cmp_natural(((const lb_made_of *)a)->name, ((const lb_made_of *)b)->name);
}

static bool same_form(const lb_conv *c) {
    bool folders = c->src->format != LB_FORMAT_GGUF;
    bool mlx_in = c->src->format == LB_FORMAT_MLX, mlx_out = c->model.format == LB_FORMAT_MLX;
    return folders && mlx_in == mlx_out && !c->o->cast && !lb_quantize_has_codes(c);
}

/* The class that reads the result may know no more of them than the table does. */
static void say_unknown(lb_conv *c) {
    lb_str first = {0};
    u64 n = 0;
    if (!c->canon.arch && (c->src->format == LB_FORMAT_MLX) != (c->model.format == LB_FORMAT_MLX))
        lb_conv_remark(c, "the config is of no known family: names and layouts of tensors are "
                          "copied as they are");
    for (u64 i = 0; c->canon.arch && i < c->canon.n_tensors; i++) {
        const lb_ctensor *t = &c->canon.tensors[i];
        if (t->known || t->extra)
            continue;
        if (n++ == 0)
            first = c->src->weights[t->weight].name;
    }
    if (n)
        lb_conv_remark(c,
                       "copied as they are: %llu tensors that are none of the %s family's, %s%.*s",
                       (unsigned long long)n, lb_arch_name(c->canon.arch),
                       n > 1 ? "the first " : "", LB_FMT(first));
}

static lb_status add_tensors(lb_conv *c, lb_err *err) {
    lb_world world = c->model.format == LB_FORMAT_MLX ? LB_WORLD_MLX : LB_WORLD_HF;
    lb_assembly a;
    LB_TRY(lb_ctensors_build(c->plan, 0, &c->canon, err));
    LB_TRY(lb_conv_choose_extras(c, world, err));
    lb_status st = lb_assemble(c->plan, &c->canon, world, NULL, &a, err);
    if (c->src->format == LB_FORMAT_GGUF && a.n)
        qsort(a.tensor, a.n, sizeof *a.tensor, by_natural_name);
    if (st == LB_OK)
        lb_conv_codes_choose(c, &a);
    if (st == LB_OK)
        st = lb_conv_say_left_out(c, &a, "mlx-lm does not keep it", err);
    for (u64 i = 0; i < a.n && st == LB_OK; i++)
        st = add_tensor(c, &a, &a.tensor[i], err);
    lb_assembly_deinit(&a);
    LB_TRY(st);
    LB_TRY(lb_conv_codes_record(c, err));
    lb_conv_say_values(c);
    for (u64 i = 0; i < c->canon.n_dropped; i++)
        lb_conv_remark(c, "left out: %.*s (in the config)", LB_FMT(c->canon.dropped[i]));
    say_unknown(c);
    return LB_OK;
}

/* mlx-lm lists a model layer after layer; a folder's files are sorted by letters, or by nothing. */
static int by_layer(const void *a, const void *b) {
    return lb_str_cmp_natural(((const lb_out_tensor *)a)->name, ((const lb_out_tensor *)b)->name);
}

/* What is no language model keeps the name that its loader looks for: peft's adapters, diffusers'
 * parts. Else NULL: "model". */
static const char *stem_of(const lb_conv *c) {
    static const char *const stems[] = {"adapter_model", "adapters", "diffusion_pytorch_model"};
    lb_str name = c->src->n_files ? c->src->files[0].name : LB_STR_NONE;
    if (c->src->format != LB_FORMAT_HF || c->model.format != LB_FORMAT_HF)
        return NULL;
    if (c->src->computed && lb_adapter_form_of(c->src) == LB_ADAPTER_PEFT)
        return stems[0];
    for (u32 i = 0; i < LB_LEN(stems); i++) {
        size_t n = strlen(stems[i]);
        if (lb_str_starts(name, lb_str_c(stems[i])) && (name.ptr[n] == '.' || name.ptr[n] == '-'))
            return stems[i];
    }
    return NULL;
}

/* mlx 0.32 refuses some types of safetensors and reads eight-bit floats as integers. */
static lb_status check_mlx(const lb_conv *c, lb_err *err) {
    if (c->model.format != LB_FORMAT_MLX || c->src->format == LB_FORMAT_MLX)
        return LB_OK;
    for (u64 i = 0; i < c->model.n_tensors; i++) {
        const lb_out_tensor *t = &c->model.tensors[i];
        lb_dtype_class cls = lb_dtype_get(t->dtype)->cls;
        if (t->dtype == LB_F64 || (cls == LB_CLASS_OPAQUE && t->dtype != LB_C64) ||
            (cls == LB_CLASS_FLOAT && !lb_ctensor_is_float(t->dtype)))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "tensor '%.*s': MLX has no type %s: choose --dtype f32, f16 or bf16",
                           LB_FMT(t->name), lb_dtype_get(t->dtype)->name);
    }
    return LB_OK;
}

lb_status lb_conv_to_folder(lb_conv *c, lb_err *err) {
    bool same = same_form(c);
    if (same)
        LB_TRY(lb_conv_drop_extras(c, err));
    c->model.st_metadata = c->src->st_metadata;
    c->model.stem = stem_of(c);
    if (same) {
        LB_TRY(lb_conv_same_tensors(c, err));
    } else {
        LB_TRY(add_tensors(c, err));
    }
    LB_TRY(check_mlx(c, err));
    if (c->quantizer)
        LB_TRY(lb_quantize_folder(c, err));
    if (c->model.format == LB_FORMAT_MLX && c->model.n_tensors)
        qsort(c->model.tensors, c->model.n_tensors, sizeof *c->model.tensors, by_layer);
    if (c->src->format == LB_FORMAT_GGUF)
        LB_TRY(texts_of_gguf(c, err));
    else
        LB_TRY(texts_of_folder(c, same, err));
    return lb_conv_edit_template(c, err);
}
