/* SPDX-License-Identifier: Apache-2.0 */
/* convert.c: chooses the way from the source's format to the target's and writes the result. */
#include "ops/convert.h"
#include "base/interrupt.h"
#include "base/os.h"
#include "ops/adapter.h"
#include "ops/convert_internal.h"
#include "ops/computed.h"
#include "ops/quantize_internal.h"
#include <stdio.h>

void lb_conv_remark(lb_conv *c, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (c->remarks)
        lb_buf_printf(c->remarks, "%s\n", line);
    u32 n = c->model.n_remarks;
    if ((n & (n - 1)) == 0) {
        lb_str *r = lb_arena_new(c->perm, lb_str, n ? 2 * (u64)n : 1);
        if (!r)
            return;
        if (n)
            memcpy(r, c->model.remarks, n * sizeof *r);
        c->model.remarks = r;
    }
    c->model.remarks[n] = lb_arena_str(c->perm, lb_str_c(line));
    c->model.n_remarks++;
}

lb_status lb_conv_push(lb_conv *c, const lb_out_tensor *t, lb_err *err) {
    u64 n = c->model.n_tensors, elems = 0;
    LB_TRY(lb_interrupt_check(err));
    if (n == c->cap_tensors) {
        u64 cap = n ? n + n / 8 + 64 : c->src->n_tensors + 8; /* made tensors are few */
        lb_out_tensor *p = lb_realloc(c->model.tensors, (size_t)cap * sizeof *p);
        if (!p)
            return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
        c->model.tensors = p;
        c->cap_tensors = cap;
    }
    c->model.tensors[n] = *t;
    c->model.n_tensors++;
    if (lb_shape_elems(t->shape, &elems))
        c->model.n_parameters += elems;
    return LB_OK;
}

static lb_status read_template(lb_conv *c, lb_err *err) {
    const char *path = c->o->chat_template;
    if (!path)
        return LB_OK;
    if (c->model.format == LB_FORMAT_SAFETENSORS)
        return lb_fail(
            err, LB_E_USAGE,
            "--chat-template: a lone safetensors file holds none: --to hf makes a folder");
    lb_status st = lb_os_read_file(path, 16 * LB_MIB, c->perm, &c->chat_template, err);
    if (st == LB_OK && !lb_str_is_utf8(c->chat_template))
        st = lb_fail(err, LB_E_FORMAT, "%s: the text is not UTF-8", path);
    if (st != LB_OK)
        lb_err_context(err, "--chat-template");
    return st;
}

lb_status lb_conv_shape(lb_conv *c, const lb_ctensor *t, const lb_shape *shape,
                        const lb_shape **out, lb_err *err) {
    enum { LOOKED_AT = 8 }; /* experts and layers repeat */
    *out = &c->src->weights[t->weight].shape;
    if (lb_shape_eq(*out, shape))
        return LB_OK;
    for (u64 i = c->model.n_tensors; i > 0 && i + LOOKED_AT > c->model.n_tensors; i--) {
        *out = c->model.tensors[i - 1].shape;
        if (lb_shape_eq(*out, shape))
            return LB_OK;
    }
    lb_shape *own = lb_arena_new(c->perm, lb_shape, 1);
    if (!own)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
    *own = *shape;
    *out = own;
    return LB_OK;
}

const lb_weight *lb_conv_weight_of(lb_conv *c, u64 i) {
    const lb_tensor *t = &c->src->tensors[i];
    const lb_weight *own = lb_source_weight(c->src, t->name);
    if (own && own->enc.kind == LB_ENC_PLAIN && own->n_parts == 1 && own->part[0] == i &&
        lb_shape_eq(&own->shape, &t->shape))
        return own;
    lb_weight *w = lb_arena_new(c->perm, lb_weight, 1);
    if (w)
        *w = (lb_weight){.name = t->name, .shape = t->shape, .n_parts = 1, .part = {(u32)i}};
    return w;
}

/* ---- the same tensors ---- */

/* Every stored tensor is a weight of its own here: codes, scales and biases are copied like any
 * other. */
static lb_status push_same(lb_conv *c, u64 i, lb_err *err) {
    const lb_tensor *t = &c->src->tensors[i];
    const lb_weight *w = lb_conv_weight_of(c, i);
    lb_str name = t->name;
    if (t->lies) /* its values alone, not what stands between them */
        w = lb_source_weight(c->src, t->name);
    if (c->canon.text_only)
        name = lb_arch_inner_name(&c->canon.hp, name, c->perm);
    if (!w || !name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
    lb_graph *g = &c->plan->graph;
    lb_piece x = {.node = lb_expr_read(g, 0, w), .shape = t->shape};
    lb_out_tensor out = {.name = name, .dtype = t->dtype, .file = t->file, .shape = &t->shape};
    lb_node_id *list = NULL;
    LB_TRY(lb_piece_matrices(c->plan, &x, &list, &out.n_segments, err));
    for (u32 k = 0; k < out.n_segments; k++)
        list[k] = lb_expr_encode(g, list[k], t->dtype);
    out.segments = out.n_segments ? list : NULL;
    out.node = list ? LB_NODE_NONE : lb_expr_encode(g, x.node, t->dtype);
    return lb_conv_push(c, &out, err);
}

/* Who wants values of them may not know that there are codes. */
static void say_copied(lb_conv *c) {
    u64 n = 0;
    for (u64 i = 0; i < c->src->n_weights; i++)
        n += c->src->weights[i].enc.kind != LB_ENC_PLAIN &&
             c->src->weights[i].enc.kind != LB_ENC_VIEW;
    if (n && c->src->format == LB_FORMAT_HF && strcmp(c->o->verb, "convert") == 0)
        lb_conv_remark(
            c,
            "%llu quantized tensors are copied as they are: --dtype bf16 makes values of "
            "them",
            (unsigned long long)n);
}

lb_status lb_conv_same_tensors(lb_conv *c, lb_err *err) {
    u8 *extra; /* of every stored tensor */
    say_copied(c);
    LB_TRY(lb_conv_extras_of(c, &extra, err));
    for (u64 i = 0; i < c->src->n_tensors; i++)
        if (!(c->canon.left_extras & 1u << extra[i]))
            LB_TRY(push_same(c, i, err));
    /* the index counts values, not packed words */
    c->model.n_parameters = 0;
    for (u64 i = 0; i < c->src->n_weights; i++) {
        const lb_weight *w = &c->src->weights[i];
        u64 k = 0;
        if (!(c->canon.left_extras & 1u << extra[w->part[0]]) && lb_shape_elems(&w->shape, &k))
            c->model.n_parameters += k;
    }
    return LB_OK;
}

static lb_format target_format(const lb_source *s, const lb_writer_opts *w) {
    switch (w->to) {
    case LB_TO_HF:
        return LB_FORMAT_HF;
    case LB_TO_MLX:
        return LB_FORMAT_MLX;
    case LB_TO_GGUF:
        return LB_FORMAT_GGUF;
    default:
        break;
    }
    if (w->output && lb_str_ends(lb_str_c(w->output), LB_STR(".gguf")))
        return LB_FORMAT_GGUF;
    if (s->computed && w->output && lb_str_ends(lb_str_c(w->output), LB_STR(".safetensors")))
        return LB_FORMAT_SAFETENSORS;
    while (s->computed && s->computed->like_input)
        s = s->inputs[0];
    return s->format == LB_FORMAT_PYTORCH ? LB_FORMAT_SAFETENSORS : s->format;
}

static lb_status keep_text(lb_conv *c, const lb_buf *b, lb_str *out, lb_err *err) {
    LB_TRY(lb_buf_status(b, err));
    *out = lb_arena_str(c->perm, lb_buf_str(b));
    return out->ptr ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for metadata");
}

static lb_status operation_text(lb_conv *c, lb_err *err) {
    lb_buf b = {0};
    const lb_convert_opts *o = c->o;
    lb_buf_printf(&b, "%s%s --to %s", o->verb, o->verb_options ? o->verb_options : "",
                  lb_format_name(c->model.format));
    if (o->cast && !c->quantizer)
        lb_buf_printf(&b, " --dtype %s", lb_dtype_get(o->dtype)->name);
    for (u32 i = 0; i < o->n_set; i++)
        lb_buf_printf(&b, " --set %s", o->set[i]);
    for (u32 i = 0; i < o->n_unset; i++)
        lb_buf_printf(&b, " --unset %s", o->unset[i]);
    if (o->chat_template)
        lb_buf_printf(&b, " --chat-template %.*s",
                      LB_FMT(lb_os_base_name(lb_str_c(o->chat_template))));
    for (u32 e = LB_EXTRA_NONE + 1; e < LB_EXTRA_COUNT; e++)
        if (o->keep[e] && strcmp(lb_extra_flag((lb_extra)e), lb_extra_flag((lb_extra)(e - 1))) != 0)
            lb_buf_printf(&b, " %s %s", lb_extra_flag((lb_extra)e),
                          o->keep[e] == LB_KEEP_KEEP ? "keep" : "drop");
    if (o->codes)
        lb_buf_printf(&b, " --codes %s", o->codes == LB_CODES_NEAR ? "near" : "none");
    if (o->w.lossless)
        lb_buf_put_c(&b, " --lossless");
    if (o->w.max_shard_bytes && o->w.max_shard_bytes != UINT64_MAX) /* join's: the user gave none */
        lb_buf_printf(&b, " --max-shard-size %llu", (unsigned long long)o->w.max_shard_bytes);
    if (o->w.max_shard_tensors)
        lb_buf_printf(&b, " --max-shard-tensors %llu", (unsigned long long)o->w.max_shard_tensors);
    lb_status st = LB_OK;
    for (u32 i = 0; c->quantizer && i < c->quantizer->n_types && st == LB_OK; i++) {
        size_t n = b.len;
        lb_quantizer_operation(c->quantizer, i, &b);
        st = keep_text(c, &b, &c->quantizer->model[i].operation, err);
        b.len = n;
    }
    if (c->quantizer)
        lb_quantizer_operation(c->quantizer, LB_QUANT_TYPES_MAX, &b);
    if (st == LB_OK)
        st = keep_text(c, &b, &c->model.operation, err);
    lb_buf_deinit(&b);
    return st;
}

/* A name may say one format and hold another: allowed, and said. */
static void remark_on_name(lb_conv *c) {
    static const struct {
        const char *ending;
        lb_format format;
    } names[] = {{".gguf", LB_FORMAT_GGUF}, {".safetensors", LB_FORMAT_SAFETENSORS}};
    for (u32 i = 0; i < LB_LEN(names) && c->o->w.output; i++)
        if (lb_str_ends(lb_str_c(c->o->w.output), lb_str_c(names[i].ending)) &&
            c->model.format != names[i].format)
            lb_conv_remark(c, "the output's name ends in %s and its format is %s: see --to",
                           names[i].ending, lb_format_name(c->model.format));
}

static lb_status choose_way(lb_conv *c, lb_err *err) {
    lb_format to = c->model.format, from = c->src->format;
    if (to != LB_FORMAT_GGUF && (c->o->n_set || c->o->n_unset))
        return lb_fail(err, LB_E_USAGE, "--set and --unset change GGUF metadata: the output is %s",
                       lb_format_name(to));
    lb_adapter_form form = lb_adapter_form_of(c->src);
    if (c->o->adapter && !form)
        return lb_fail(err, LB_E_FORMAT, "%s: no adapter of LoRA matrices", c->src->path);
    if (c->quantizer && form)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "a LoRA adapter (%s), not a model: its small matrices are not quantized; "
                       "`lbrx convert` changes its form",
                       lb_adapter_form_name(form));
    if (lb_conv_is_adapter(c))
        return lb_conv_adapter(c, err);
    if (c->o->base)
        return lb_fail(err, LB_E_USAGE,
                       "--base is the base model of an adapter that changes its form: '%.*s' is %s",
                       LB_FMT(c->src->label), form ? "copied" : "none");
    if (to != LB_FORMAT_GGUF)
        return lb_conv_to_folder(c, err);
    LB_TRY(from == LB_FORMAT_GGUF ? lb_conv_gguf_to_gguf(c, err) : lb_conv_to_gguf(c, err));
    return c->quantizer ? lb_quantize_gguf(c, err) : LB_OK;
}

/* ---- texts of the source ---- */

lb_sink_text lb_conv_side_text(const lb_side_file *f) {
    return (lb_sink_text){.name = f->name, .bytes = f->bytes, .copy_from = f->path};
}

static lb_status card_of_computed(lb_conv *c, lb_str *out, lb_err *err) {
    const char *path = c->o->w.output;
    lb_buf b = {0};
    lb_status st = c->src->computed->card(
        c->src->computed, path ? lb_os_base_name(lb_str_c(path)) : c->src->label, &b, err);
    if (st == LB_OK) {
        *out = lb_arena_str(c->perm, lb_buf_str(&b));
        st = out->ptr ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for README.md");
    }
    lb_buf_deinit(&b);
    return st;
}

lb_status lb_conv_card(lb_conv *c, lb_str *out, lb_err *err) {
    const lb_side_file *f = lb_source_side(c->src, LB_STR("README.md"));
    *out = LB_STR_NONE;
    if (c->src->computed && c->src->computed->card)
        return c->o->w.no_provenance ? LB_OK : card_of_computed(c, out, err);
    return f && f->size_bytes <= 4 * LB_MIB ? lb_side_read(f, 4 * LB_MIB, c->perm, out, err)
                                            : LB_OK;
}

/* What metadata and configs say wrong is known without their files. */
static void name_source(const lb_source *src, lb_err *err) {
    size_t at;
    if (err && !lb_str_find(lb_str_c(err->msg), lb_str_c(src->path), &at))
        lb_err_context(err, "%s", src->path);
}

static bool is_named_gguf(const lb_writer_opts *w) {
    return w->output && lb_str_ends(lb_str_c(w->output), LB_STR(".gguf"));
}

/* --type keep: as the base has them, in its format. */
static lb_status keep_types(lb_conv *c, lb_convert_opts *own, lb_quantize_opts *kept, lb_err *err) {
    const lb_source *s = c->src;
    if (!own->quantize || !own->quantize->keep)
        return LB_OK;
    if (!s->computed || !s->computed->has_base)
        return lb_fail(err, LB_E_USAGE,
                       "--type keep: the types of a base model are kept, as in a merge: this model "
                       "has none");
    *kept = *own->quantize;
    own->quantize = kept;
    kept->like_layers = s->computed->base_layers;
    kept->n_like_layers = s->computed->n_base_layers;
    while (s->computed && s->computed->has_base)
        s = s->inputs[s->computed->base];
    kept->like = s;
    lb_format format = s->format == LB_FORMAT_SAFETENSORS || s->format == LB_FORMAT_PYTORCH
                           ? LB_FORMAT_HF
                           : s->format;
    if ((own->w.to == LB_TO_AUTO || own->w.to == LB_TO_NONE) && !is_named_gguf(&own->w))
        c->model.format = format;
    if (c->model.format != format)
        return lb_fail(err, LB_E_USAGE,
                       "--type keep writes the format of the base, %s, which is %s: give --to %s "
                       "and a name for one",
                       s->path, lb_format_name(format), lb_format_name(format));
    if (format != LB_FORMAT_GGUF && !lb_quantize_is_quantized(s))
        own->quantize = NULL; /* the tensors have its types already */
    return LB_OK;
}

lb_status lb_convert(const lb_source *src, const lb_convert_opts *o, lb_buf *text, lb_buf *remarks,
                     lb_out_report *report, lb_err *err) {
    lb_convert_opts own = *o;
    lb_conv c = {.src = src, .o = &own, .remarks = remarks};
    lb_quantizer quantizer = {0};
    lb_quantize_opts kept;
    lb_out_model *models = &c.model;
    lb_status st;
    LB_TRY(lb_plan_new(&c.plan, &src, 1, err));
    c.perm = &c.plan->perm;
    LB_TRY_DONE(st, lb_computed_bind(c.plan, 0, err));
    lb_meta_init(&c.meta, c.perm);
    c.model.format = target_format(src, &o->w);
    if (src->notes.len && remarks)
        lb_buf_printf(remarks, "%.*s\n", LB_FMT(src->notes));
    LB_TRY_DONE(st, keep_types(&c, &own, &kept, err));
    if (own.quantize) {
        c.quantizer = &quantizer;
        LB_TRY_DONE(st, lb_quantizer_begin(&c, err));
        if (quantizer.type[0].scheme == LB_SCHEME_FLOAT && c.model.format != LB_FORMAT_GGUF) {
            own.cast = true;
            own.dtype = quantizer.type[0].dtype;
        }
    }
    LB_TRY_DONE(st, read_template(&c, err));
    LB_TRY_DONE(st, operation_text(&c, err));
    remark_on_name(&c);
    lb_conv_codes_begin(&c);
    c.model.codes_near = o->codes == LB_CODES_NEAR;
    st = choose_way(&c, err);
    if (st == LB_E_FORMAT || st == LB_E_UNSUPPORTED || st == LB_E_NOT_FOUND)
        name_source(src, err);
    if (st != LB_OK)
        goto done;
    LB_TRY_DONE(st, lb_graph_status(&c.plan->graph, err));
    lb_ctensors_deinit(&c.canon);
    if (own.quantize && c.model.format == LB_FORMAT_GGUF)
        models = quantizer.model;
    st = lb_output_write(c.plan, models, models == &c.model ? 1 : quantizer.n_types, &o->w, text,
                         report, err);
done:
    lb_quantizer_end(&quantizer);
    lb_free(c.model.tensors);
    lb_free(c.codes.list);
    lb_ctensors_deinit(&c.canon);
    lb_meta_deinit(&c.meta);
    lb_plan_free(&c.plan);
    return st;
}
