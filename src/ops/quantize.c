/* SPDX-License-Identifier: Apache-2.0 */
/* quantize.c: types by name, and the nodes that make codes of a conversion's values. */
#include "merge/parts.h"
#include "ops/quantize_internal.h"
#include "base/os.h"
#include "kernel/refine.h"
#include <stdlib.h>

/* ---- types ---- */

static const char *const scheme_formats[LB_SCHEME_COUNT] = {"any format", "GGUF", "MLX",
                                                            "Hugging Face"};

static void list_types(lb_scheme scheme, lb_buf *out) {
    for (u32 i = 0; i < LB_RECIPE_COUNT && scheme == LB_SCHEME_GGUF; i++)
        lb_buf_printf(out, "%s%s", out->len ? " " : "", lb_recipe_get((lb_recipe_id)i)->name);
    for (u32 i = 0; scheme == LB_SCHEME_MLX && lb_mlx_type_at(i); i++)
        lb_buf_printf(out, "%s%s", out->len ? " " : "", lb_mlx_type_at(i));
    for (u32 i = 0; scheme == LB_SCHEME_HF && lb_hf_type_at(i); i++)
        lb_buf_printf(out, "%s%s", out->len ? " " : "", lb_hf_type_at(i));
    if (scheme == LB_SCHEME_FLOAT)
        lb_buf_printf(out, "%sf32 f16 bf16", out->len ? " " : "");
}

static bool holds(lb_format f, lb_scheme scheme) {
    return scheme == LB_SCHEME_FLOAT || (scheme == LB_SCHEME_GGUF && f == LB_FORMAT_GGUF) ||
           (scheme == LB_SCHEME_MLX && f == LB_FORMAT_MLX) ||
           (scheme == LB_SCHEME_HF && f == LB_FORMAT_HF);
}

static lb_status refuse(const lb_conv *c, const char *name, lb_scheme of, lb_err *err) {
    lb_buf b = {0};
    for (u32 s = LB_SCHEME_COUNT; s-- > 0;)
        if (holds(c->model.format, (lb_scheme)s) &&
            !(s == LB_SCHEME_FLOAT && c->model.format == LB_FORMAT_GGUF))
            list_types((lb_scheme)s, &b);
    const char *format = lb_format_name(c->model.format);
    lb_status st =
        of == LB_SCHEME_COUNT
            ? lb_fail(err, LB_E_USAGE, "--type %s: no such type: %s holds %.*s", name, format,
                      LB_FMT(lb_buf_str(&b)))
            : lb_fail(err, LB_E_USAGE,
                      "--type %s is a type of %s, and the output is %s, which holds %.*s (--to "
                      "chooses the format)",
                      name, scheme_formats[of], format, LB_FMT(lb_buf_str(&b)));
    lb_buf_deinit(&b);
    return st;
}

static bool find_recipe(lb_str name, lb_quant_type *out) {
    static const struct {
        const char *name;
        lb_dtype dtype;
    } floats[] = {{"f32", LB_F32}, {"f16", LB_F16}, {"bf16", LB_BF16}};
    if (!lb_recipe_find(name, &out->recipe))
        return false;
    out->name = lb_recipe_get(out->recipe)->name;
    out->scheme = LB_SCHEME_GGUF;
    for (u32 i = 0; i < LB_LEN(floats); i++)
        if (strcmp(out->name, floats[i].name) == 0) {
            out->scheme = LB_SCHEME_FLOAT;
            out->dtype = floats[i].dtype;
        }
    return true;
}

static bool find_mlx(lb_str name, lb_quant_type *out) {
    for (u32 i = 0; (out->name = lb_mlx_type_at(i)); i++)
        if (lb_str_eq_c(name, out->name)) {
            out->scheme = LB_SCHEME_MLX;
            return true;
        }
    return false;
}

static bool find_hf(lb_str name, lb_quant_type *out) {
    for (u32 i = 0; (out->name = lb_hf_type_at(i)); i++)
        if (lb_str_eq_c(name, out->name)) {
            out->scheme = LB_SCHEME_HF;
            return true;
        }
    return false;
}

static lb_hf_ask ask_of(const lb_quantize_opts *o) {
    lb_quant_scope scope = o->size == LB_SIZE_CHANNEL  ? LB_SCOPE_CHANNEL
                           : o->size == LB_SIZE_TENSOR ? LB_SCOPE_TENSOR
                                                       : LB_SCOPE_GROUP;
    return (lb_hf_ask){.has_scope = o->size != LB_SIZE_AUTO,
                       .scope = scope,
                       .group = o->group,
                       .sym = o->sym,
                       .asym = o->asym};
}

static lb_status check_size(const lb_conv *c, const lb_quant_type *t, lb_err *err) {
    const lb_quantize_opts *o = c->o->quantize;
    if (t->scheme != LB_SCHEME_HF && (o->sym || o->asym))
        return lb_fail(err, LB_E_USAGE, "%s: --sym and --asym are of types of Hugging Face folders",
                       t->name);
    if (o->size != LB_SIZE_AUTO && t->scheme != LB_SCHEME_HF && t->scheme != LB_SCHEME_MLX)
        return lb_fail(err, LB_E_USAGE,
                       "%s: --group-size is of types of MLX and Hugging Face: this one has blocks "
                       "of its own",
                       t->name);
    if (t->scheme == LB_SCHEME_MLX && (o->size == LB_SIZE_CHANNEL || o->size == LB_SIZE_TENSOR))
        return lb_fail(err, LB_E_USAGE, "%s: MLX has groups only: --group-size 32, 64 or 128",
                       t->name);
    return LB_OK;
}

static lb_status take_type(lb_conv *c, lb_quantizer *q, lb_str name, lb_err *err) {
    lb_quant_type *t = &q->type[q->n_types];
    if (q->n_types == LB_QUANT_TYPES_MAX)
        return lb_fail(err, LB_E_USAGE, "--type: at most %d types in one run", LB_QUANT_TYPES_MAX);
    if (!find_recipe(name, t) && !find_mlx(name, t) && !find_hf(name, t))
        return refuse(c, name.ptr, LB_SCHEME_COUNT, err);
    if (!holds(c->model.format, t->scheme))
        return refuse(c, t->name, t->scheme, err);
    LB_TRY(check_size(c, t, err));
    if (t->scheme == LB_SCHEME_MLX)
        LB_TRY(lb_mlx_opts_find(name, q->o->group, &t->mlx, err));
    if (t->scheme == LB_SCHEME_HF) {
        q->hf_ask = ask_of(q->o);
        LB_TRY(lb_hf_form_find(name, &q->hf_ask, &t->hf, err));
        if (q->o->refine)
            return lb_fail(err, LB_E_USAGE, "--refine is for types of GGUF and MLX");
    }
    for (u32 i = 0; i < q->n_types; i++)
        if (strcmp(q->type[i].name, t->name) == 0)
            return lb_fail(err, LB_E_USAGE, "--type: %s is named twice", t->name);
    q->n_types++;
    return LB_OK;
}

/* The name at *at of a list with commas. False: that was all. */
static bool next_name(lb_str list, size_t *at, lb_str *out) {
    if (*at > list.len)
        return false;
    lb_str rest = lb_str_sub(list, *at, list.len);
    size_t n = rest.len;
    (void)lb_str_find(rest, LB_STR(","), &n);
    *out = lb_str_sub(rest, 0, n);
    *at += n + 1;
    return true;
}

static lb_status take_types(lb_conv *c, lb_quantizer *q, lb_err *err) {
    lb_str list = lb_str_c(q->o->type), rest;
    for (size_t at = 0; next_name(list, &at, &rest);) {
        lb_str name = lb_arena_str(c->perm, rest);
        if (!name.ptr)
            return lb_fail(err, LB_E_NOMEM, "out of memory for options");
        LB_TRY(take_type(c, q, name, err));
    }
    if (q->n_types > 1 && c->model.format != LB_FORMAT_GGUF)
        return lb_fail(err, LB_E_USAGE,
                       "--type %s: several types make several .gguf files; of a folder, one at a "
                       "time",
                       q->o->type);
    return LB_OK;
}

bool lb_quantize_is_quantized(const lb_source *s) {
    for (u64 i = 0; i < s->n_weights; i++)
        if (s->weights[i].enc.kind != LB_ENC_PLAIN && s->weights[i].enc.kind != LB_ENC_VIEW)
            return true;
    return false;
}

bool lb_quantize_has_codes(const lb_conv *c) {
    if (c->quantizer && c->quantizer->o->like)
        return lb_quantize_is_quantized(c->quantizer->o->like);
    return c->quantizer && c->quantizer->type[0].scheme != LB_SCHEME_FLOAT;
}

/* x-{type}.gguf with a type's name in every place. */
static lb_str fill_holes(lb_conv *c, lb_str path, lb_str hole, const char *type) {
    lb_buf b = {0};
    for (size_t at; lb_str_find(path, hole, &at);
         path = lb_str_sub(path, at + hole.len, path.len)) {
        lb_buf_put_str(&b, lb_str_sub(path, 0, at));
        lb_buf_put_c(&b, type);
    }
    lb_buf_put_str(&b, path);
    lb_str s = b.oom ? LB_STR_NONE : lb_arena_str(c->perm, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return s;
}

static lb_status name_outputs(lb_conv *c, lb_quantizer *q, lb_err *err) {
    lb_str path = lb_str_c(c->o->w.output ? c->o->w.output : ""), hole = LB_STR("{type}");
    size_t at = 0;
    bool has_hole = lb_str_find(path, hole, &at);
    if (!has_hole && q->n_types > 1 && c->o->w.output)
        return lb_fail(err, LB_E_USAGE,
                       "%u types make %u outputs: write {type} in the name, as in -o "
                       "'model-{type}.gguf'",
                       q->n_types, q->n_types);
    lb_str dir = lb_os_dir_name(path);
    if (has_hole && q->n_types > 1 && at < dir.len)
        return lb_fail(err, LB_E_USAGE,
                       "-o %s: {type} is part of the file's name, not of its folder's",
                       c->o->w.output);
    for (u32 i = 0; i < q->n_types && has_hole; i++) {
        lb_str p = fill_holes(c, path, hole, q->type[i].name);
        if (!p.ptr)
            return lb_fail(err, LB_E_NOMEM, "out of memory for names");
        q->model[i].output = p.ptr;
    }
    return LB_OK;
}

static lb_str trimmed(lb_str s) {
    size_t from = 0, to = s.len;
    while (from < to && (u8)s.ptr[from] <= ' ')
        from++;
    while (to > from && (u8)s.ptr[to - 1] <= ' ')
        to--;
    return lb_str_sub(s, from, to);
}

/* Lines "REGEX=TYPE"; # begins a comment. */
static lb_status add_rules(lb_conv *c, lb_quantizer *q, lb_err *err) {
    lb_str text;
    if (!q->o->rules)
        return LB_OK;
    LB_TRY(lb_os_read_file(q->o->rules, 4 * LB_MIB, c->perm, &text, err));
    for (size_t at = 0, n, line = 1; at < text.len; at += n + 1, line++) {
        lb_str s = lb_str_sub(text, at, text.len);
        n = s.len;
        (void)lb_str_find(s, LB_STR("\n"), &n);
        s = trimmed(lb_str_sub(s, 0, n));
        if (s.len == 0 || s.ptr[0] == '#')
            continue;
        lb_status st = lb_override_add(&q->overrides, s, false, err);
        if (st != LB_OK) {
            lb_err_context(err, "%s, line %zu", q->o->rules, line);
            return st;
        }
    }
    return LB_OK;
}

/* What only llama-quantize's recipes ask. */
static lb_status refuse_gguf_options(const lb_quantize_opts *o, lb_err *err) {
    const char *flag = o->imatrix            ? "--imatrix"
                       : o->sensitivity      ? "--sensitivity"
                       : o->n_override_kv    ? "--override-kv"
                       : o->prune            ? "--prune-layers"
                       : o->keep_split       ? "--keep-split"
                       : o->n_tensor_types   ? "--tensor-type"
                       : o->tensor_type_file ? "--tensor-type-file"
                       : o->output_type      ? "--output-tensor-type"
                       : o->embedding_type   ? "--token-embedding-type"
                       : o->keep_output      ? "--leave-output-tensor"
                                             : NULL;
    if (!flag)
        return LB_OK;
    return lb_fail(err, LB_E_USAGE, "%s is for GGUF outputs: see --override for others", flag);
}

static lb_status take_overrides(lb_conv *c, lb_quantizer *q, lb_err *err) {
    const lb_quantize_opts *o = q->o;
    lb_str text;
    q->overrides.arena = c->perm;
    if (q->type[0].scheme == LB_SCHEME_MLX)
        q->overrides.find_type = lb_mlx_type_find;
    if (q->type[0].scheme == LB_SCHEME_HF)
        q->overrides.find_type = lb_hf_type_find;
    if (c->model.format != LB_FORMAT_GGUF)
        LB_TRY(refuse_gguf_options(o, err));
    for (u32 i = 0; i < o->n_overrides; i++)
        LB_TRY(lb_override_add(&q->overrides, lb_str_c(o->overrides[i]), false, err));
    for (u32 i = 0; i < o->n_tensor_types; i++)
        LB_TRY(lb_override_add(&q->overrides, lb_str_c(o->tensor_types[i]), true, err));
    if (o->tensor_type_file) {
        LB_TRY(lb_os_read_file(o->tensor_type_file, 4 * LB_MIB, c->perm, &text, err));
        LB_TRY(lb_override_add_words(&q->overrides, text, true, err));
    }
    return add_rules(c, q, err);
}

/* ---- candidates of a target ---- */

/* What a GGUF offers at every size; the types below 3 bit are of use with importance only. */
static const lb_dtype gguf_candidates[] = {LB_Q2_K,   LB_Q3_K, LB_IQ4_XS, LB_Q4_K,
                                           LB_IQ4_NL, LB_Q5_K, LB_Q6_K,   LB_Q8_0};
static const lb_dtype weighted_candidates[] = {LB_IQ1_S, LB_IQ1_M,   LB_IQ2_XXS, LB_IQ2_XS,
                                               LB_IQ2_S, LB_IQ3_XXS, LB_IQ3_S};
static const char mlx_candidates[] = "mlx-q2,mlx-q3,mlx-q4,mlx-q5,mlx-q6,mlx-q8";

static lb_status take_candidate(lb_quantizer *q, lb_scheme scheme, lb_str name, lb_err *err) {
    u32 n = q->n_candidates;
    if (n == LB_CANDIDATES_MAX)
        return lb_fail(err, LB_E_USAGE, "--type: at most %d types to choose from",
                       LB_CANDIDATES_MAX);
    q->n_candidates++;
    if (scheme == LB_SCHEME_GGUF)
        return lb_recipe_type_find(name, &q->dtypes[n], err);
    LB_TRY(lb_mlx_opts_find(name, q->o->group, &q->groupings[n], err));
    return q->groupings[n].low_bits
               ? lb_fail(err, LB_E_USAGE, "--type %.*s: a recipe is no type to choose from",
                         LB_FMT(name))
               : LB_OK;
}

static lb_status take_candidates(const lb_conv *c, lb_quantizer *q, lb_err *err) {
    lb_format f = c->model.format;
    lb_scheme scheme = f == LB_FORMAT_GGUF ? LB_SCHEME_GGUF : LB_SCHEME_MLX;
    if (f != LB_FORMAT_GGUF && f != LB_FORMAT_MLX)
        return lb_fail(err, LB_E_USAGE,
                       "--target-bpw and --target-size choose from types of GGUF or MLX: --to one "
                       "of them");
    if (q->o->target_bpw > 0 && q->o->target_bytes)
        return lb_fail(err, LB_E_USAGE, "--target-bpw and --target-size exclude each other");
    if (q->o->pure)
        return lb_fail(err, LB_E_USAGE, "--pure: one type for all leaves nothing to choose");
    q->n_types = 1;
    q->type[0] = (lb_quant_type){.name = "mix", .scheme = scheme, .recipe = LB_RECIPE_Q8_0};
    if (scheme == LB_SCHEME_MLX)
        LB_TRY(lb_mlx_opts_find(LB_STR("mlx-q4"), q->o->group, &q->type[0].mlx, err));
    for (u32 i = 0; !q->o->type && scheme == LB_SCHEME_GGUF && i < LB_LEN(gguf_candidates); i++)
        q->dtypes[q->n_candidates++] = gguf_candidates[i];
    for (u32 i = 0; !q->o->type && scheme == LB_SCHEME_GGUF && q->o->imatrix &&
                    i < LB_LEN(weighted_candidates);
         i++)
        q->dtypes[q->n_candidates++] = weighted_candidates[i];
    if (q->n_candidates)
        return LB_OK;
    lb_str list = lb_str_c(q->o->type ? q->o->type : mlx_candidates), name;
    for (size_t at = 0; next_name(list, &at, &name);)
        LB_TRY(take_candidate(q, scheme, name, err));
    return LB_OK;
}

static lb_world world_of(lb_format f) {
    return f == LB_FORMAT_GGUF ? LB_WORLD_GGUF : f == LB_FORMAT_MLX ? LB_WORLD_MLX : LB_WORLD_HF;
}

/* The part of a layer's feed-forward that experts have the like of. */
static lb_role dense_role(lb_role r) {
    switch (r) {
    case LB_ROLE_FFN_GATE_EXPS:
    case LB_ROLE_FFN_GATE_SHARED:
        return LB_ROLE_FFN_GATE;
    case LB_ROLE_FFN_UP_EXPS:
    case LB_ROLE_FFN_UP_SHARED:
        return LB_ROLE_FFN_UP;
    case LB_ROLE_FFN_DOWN_EXPS:
    case LB_ROLE_FFN_DOWN_SHARED:
        return LB_ROLE_FFN_DOWN;
    default:
        return LB_ROLE_COUNT;
    }
}

static void find_like_arch(lb_conv *c, lb_quantizer *q) {
    const lb_source *s = q->o->like;
    lb_hparams hp;
    lb_json *config;
    lb_err why; /* without it tensors are found by name alone */
    if (s->format == LB_FORMAT_GGUF)
        (void)lb_arch_from_gguf(s->gguf, true, &q->like_arch, &hp, &why);
    else if (s->config.len &&
             lb_json_parse(s->config, "config.json", c->perm, &config, &why) == LB_OK)
        (void)lb_arch_from_config(config, &q->like_arch, &hp, &why);
}

/* The name that the matrix of an expert has in a dense layer of the other model; empty: it is none
 * of an expert. */
static lb_str dense_name(const lb_conv *c, lb_str name, lb_arena *scratch) {
    const lb_quantizer *q = c->quantizer;
    lb_world world = world_of(c->model.format);
    lb_arch_match m;
    u32 n = 0;
    const lb_arch_tensor *rows = q->like_arch ? lb_arch_rows(q->like_arch, &n) : NULL;
    if (!rows || !c->canon.arch || !lb_arch_find(c->canon.arch, &c->canon.hp, world, name, &m))
        return LB_STR_NONE;
    lb_role want = dense_role((lb_role)m.row->role);
    for (u32 i = 0; i < n && want != LB_ROLE_COUNT; i++)
        if (rows[i].role == want && lb_arch_row_name(&rows[i], world).len)
            return lb_arch_tensor_name(&rows[i], world,
                                       &(lb_arch_match){.row = &rows[i],
                                                        .n_rows = 1,
                                                        .layer = m.layer,
                                                        .expert = LB_NO_INDEX,
                                                        .mtp = LB_NO_INDEX,
                                                        .suffix = LB_SUFFIX_WEIGHT},
                                       scratch);
    return LB_STR_NONE;
}

const lb_weight *lb_quantizer_like(const lb_conv *c, lb_str name, const lb_shape *shape,
                                   lb_arena *scratch) {
    const lb_quantize_opts *o = c->quantizer->o;
    u32 layer, at;
    if (o->like_layers && lb_merge_first_number(name, &layer, &at) && layer < o->n_like_layers) {
        size_t end = at;
        while (name.ptr[end] != '.')
            end++;
        name = lb_arena_printf(scratch, "%.*s%u%.*s", (int)at, name.ptr, o->like_layers[layer],
                               (int)(name.len - end), name.ptr + end);
    }
    const lb_weight *w = name.ptr ? lb_source_weight(o->like, name) : NULL;
    lb_str dense = w || !name.ptr ? LB_STR_NONE : dense_name(c, name, scratch);
    if (dense.len)
        w = lb_source_weight(o->like, dense);
    bool wide = w && w->shape.rank && (dense.len || w->shape.rank == shape->rank) &&
                w->shape.dim[w->shape.rank - 1] == shape->dim[shape->rank - 1];
    return wide || (w && lb_shape_eq(&w->shape, shape)) ? w : NULL;
}

lb_status lb_quantizer_begin(lb_conv *c, lb_err *err) {
    lb_quantizer *q = c->quantizer;
    q->o = c->o->quantize;
    if (q->o->like) {
        if (q->o->keep)
            find_like_arch(c, q);
        q->n_types = 1;
        q->type[0] = (lb_quant_type){.name = "copy",
                                     .recipe = LB_RECIPE_COPY,
                                     .scheme = c->model.format == LB_FORMAT_GGUF  ? LB_SCHEME_GGUF
                                               : c->model.format == LB_FORMAT_MLX ? LB_SCHEME_MLX
                                                                                  : LB_SCHEME_HF};
        return LB_OK;
    }
    c->model.only_finite = true;
    if (!q->o->type && !lb_quantizer_has_target(q))
        return lb_fail(err, LB_E_USAGE,
                       "quantize: to which type? Name it with --type TYPE, or give a "
                       "--target-bpw or --target-size");
    if (q->o->sensitivity && !lb_quantizer_has_target(q))
        return lb_fail(err, LB_E_USAGE,
                       "--sensitivity chooses types for a size: give a --target-bpw or "
                       "--target-size");
    LB_TRY(lb_quantizer_has_target(q) ? take_candidates(c, q, err) : take_types(c, q, err));
    LB_TRY(name_outputs(c, q, err));
    return take_overrides(c, q, err);
}

void lb_quantizer_end(lb_quantizer *q) {
    for (u32 i = 0; i < q->n_types; i++) {
        lb_free(q->model[i].tensors);
        lb_meta_deinit(&q->meta[i]);
    }
    lb_importance_close(&q->importance);
}

void lb_quantizer_operation(const lb_quantizer *q, u32 k, lb_buf *b) {
    const lb_quantize_opts *o = q->o;
    bool target = lb_quantizer_has_target(q);
    if (o->keep)
        lb_buf_put_c(b, " --type keep");
    else if (!target || o->type)
        lb_buf_printf(b, " --type %s", k < q->n_types && !target ? q->type[k].name : o->type);
    if (o->target_bpw > 0)
        lb_buf_printf(b, " --target-bpw %.17g", o->target_bpw);
    if (o->target_bytes)
        lb_buf_printf(b, " --target-size %llu", (unsigned long long)o->target_bytes);
    for (const lb_override *v = q->overrides.first; v; v = v->next)
        lb_buf_printf(b, " --override %.*s=%.*s", LB_FMT(v->pattern), LB_FMT(v->type_name));
    if (o->output_type)
        lb_buf_printf(b, " --output-tensor-type %s", o->output_type);
    if (o->embedding_type)
        lb_buf_printf(b, " --token-embedding-type %s", o->embedding_type);
    if (o->keep_output)
        lb_buf_put_c(b, " --leave-output-tensor");
    if (o->keep_split)
        lb_buf_put_c(b, " --keep-split");
    if (o->prune)
        lb_buf_printf(b, " --prune-layers %s", o->prune);
    for (u32 i = 0; i < o->n_override_kv; i++)
        lb_buf_printf(b, " --override-kv %s", o->override_kv[i]);
    if (o->pure)
        lb_buf_put_c(b, " --pure");
    if (o->protect)
        lb_buf_put_c(b, " --protect");
    if (o->size == LB_SIZE_GROUPS)
        lb_buf_printf(b, " --group-size %u", o->group);
    else if (o->size != LB_SIZE_AUTO)
        lb_buf_printf(b, " --group-size %s", o->size == LB_SIZE_CHANNEL ? "channel" : "tensor");
    if (o->sym || o->asym)
        lb_buf_put_c(b, o->sym ? " --sym" : " --asym");
    if (o->refine)
        lb_buf_put_c(b, " --refine");
    if (o->cpu_rule)
        lb_buf_put_c(b, " --mlx-rule cpu");
    if (o->imatrix)
        lb_buf_printf(b, " --imatrix %.*s", LB_FMT(lb_os_base_name(lb_str_c(o->imatrix))));
    if (o->sensitivity)
        lb_buf_printf(b, " --sensitivity %.*s", LB_FMT(lb_os_base_name(lb_str_c(o->sensitivity))));
    for (u32 i = 0; i < o->n_include; i++)
        lb_buf_printf(b, " --include-weights %s", o->include[i]);
    for (u32 i = 0; i < o->n_exclude; i++)
        lb_buf_printf(b, " --exclude-weights %s", o->exclude[i]);
}

lb_status lb_quantize_folder(lb_conv *c, lb_err *err) {
    switch (c->quantizer->type[0].scheme) {
    case LB_SCHEME_MLX:
        return lb_quantize_mlx(c, err);
    case LB_SCHEME_HF:
        return lb_quantize_hf(c, err);
    default:
        return LB_OK;
    }
}

const lb_quant *lb_quantizer_shared(lb_conv *c, const lb_quant *x) {
    lb_quantizer *q = c->quantizer;
    for (u32 i = 0; i < q->n_groups; i++) {
        const lb_quant *g = q->groups[i];
        if (g->kind == x->kind && g->dtype == x->dtype && g->bits == x->bits &&
            g->group == x->group && g->round == x->round && g->scope == x->scope &&
            g->band == x->band && g->asym == x->asym && g->cpu_rule == x->cpu_rule &&
            g->refine == x->refine && g->importance == x->importance && g->tables == x->tables)
            return g;
    }
    lb_quant *own = lb_arena_new(c->perm, lb_quant, 1);
    if (!own)
        return NULL;
    *own = *x;
    if (q->n_groups < LB_LEN(q->groups))
        q->groups[q->n_groups++] = own;
    return own;
}

void lb_quantizer_say_again(lb_conv *c, u64 n, lb_str first) {
    if (n)
        lb_conv_remark(c,
                       "%llu tensors are quantized already, the first %.*s: quantizing them again "
                       "adds its loss to theirs; better start from the original",
                       (unsigned long long)n, LB_FMT(first));
}

/* ---- nodes ---- */

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the plan");
}

lb_node_id lb_quantize_values(lb_graph *g, lb_node_id encoded) {
    if (encoded == LB_NODE_NONE)
        return encoded;
    return lb_expr_decode(g, lb_graph_node(g, encoded)->in[0]);
}

const lb_weight *lb_quantize_stored(const lb_graph *g, lb_node_id encoded, lb_dtype *dtype,
                                    bool *whole) {
    const lb_node *x = lb_graph_node(g, lb_graph_node(g, encoded)->in[0]);
    *whole = true;
    if (x->kind == LB_NODE_DECODE)
        x = lb_graph_node(g, x->in[0]);
    for (; x->kind == LB_NODE_INDEX; x = lb_graph_node(g, x->in[0]))
        *whole = false;
    if (x->kind != LB_NODE_READ)
        return NULL;
    *dtype = g->sources[x->u.read.source]->tensors[x->u.read.weight->part[0]].dtype;
    return x->u.read.weight;
}

bool lb_quantize_was_codes(const lb_conv *c, lb_node_id encoded) {
    bool whole;
    lb_dtype stored = LB_F32;
    const lb_weight *w = lb_quantize_stored(&c->plan->graph, encoded, &stored, &whole);
    return w && (w->enc.kind != LB_ENC_PLAIN || lb_dtype_get(stored)->cls == LB_CLASS_BLOCK);
}

lb_node_id lb_quantize_plain(lb_conv *c, lb_node_id encoded, lb_node_id values, lb_dtype dtype) {
    lb_graph *g = &c->plan->graph;
    bool whole;
    lb_dtype stored = LB_F32;
    lb_node_id v = values == LB_NODE_NONE ? lb_quantize_values(g, encoded) : values;
    const lb_weight *w = v == LB_NODE_NONE ? NULL : lb_quantize_stored(g, encoded, &stored, &whole);
    if (v == LB_NODE_NONE || dtype == LB_F32 ||
        (w && w->enc.kind == LB_ENC_PLAIN && stored == dtype))
        return v;
    lb_map_op round = dtype == LB_F16 ? LB_MAP_ROUND_F16 : LB_MAP_ROUND_BF16;
    return lb_expr_map1(g, round, v, LB_CONST(0));
}

lb_status lb_quantizer_blocks(lb_conv *c, lb_dtype t, const float *weights, const lb_quant **out,
                              lb_err *err) {
    lb_quantizer *q = c->quantizer;
    size_t n = lb_quant_tables_bytes(t);
    if (!weights && q->plain[t]) {
        *out = q->plain[t];
        return LB_OK;
    }
    if (n && !q->tables[t]) {
        q->tables[t] = lb_arena_push(c->perm, n, 64);
        if (!q->tables[t])
            return oom(err);
        lb_quant_tables_init(t, q->tables[t]);
    }
    lb_quant *x = lb_arena_new(c->perm, lb_quant, 1);
    if (!x)
        return oom(err);
    *x = (lb_quant){.kind = LB_QUANT_BLOCKS,
                    .dtype = t,
                    .refine = q->o->refine && lb_refine_has(t),
                    .importance = weights,
                    .tables = q->tables[t]};
    if (!weights)
        q->plain[t] = x;
    *out = x;
    return LB_OK;
}

static lb_node_id segment_at(const lb_out_tensor *t, u32 i) {
    return t->segments ? t->segments[i] : t->node;
}

static u32 n_segments(const lb_out_tensor *t) {
    return t->segments ? t->n_segments : 1;
}

static u64 count_pieces(const lb_graph *g, const lb_out_tensor *t, u64 mat_rows) {
    u64 n = 0, at = 0;
    for (u32 i = 0; i < n_segments(t); i++) {
        u64 rows = lb_graph_node(g, segment_at(t, i))->n_rows;
        n += (at + LB_MAX(rows, 1) - 1) / mat_rows - at / mat_rows + 1;
        at += rows;
    }
    return n;
}

lb_status lb_quantize_pieces(lb_conv *c, const lb_out_tensor *t, const float *weights, u64 n_mats,
                             lb_quant_pieces *out, lb_err *err) {
    lb_graph *g = &c->plan->graph;
    u64 rows, cols, row = 0, at = 0;
    lb_shape_matrix(t->shape, &rows, &cols);
    u64 mat_rows = n_mats > 1 && rows ? rows / n_mats : UINT64_MAX / 2;
    u64 n = count_pieces(g, t, mat_rows);
    lb_quant_piece *list = lb_arena_new(c->perm, lb_quant_piece, n + 1);
    if (!list || n > INT32_MAX)
        return oom(err);
    for (u32 i = 0; i < n_segments(t); i++) {
        lb_node_id all = lb_quantize_values(g, segment_at(t, i));
        LB_TRY(lb_graph_status(g, err));
        u64 has = lb_graph_node(g, all)->n_rows;
        for (u64 from = 0, k; from < has; from += k, row += k) {
            u64 mat = row / mat_rows;
            k = LB_MIN(has - from, (mat + 1) * mat_rows - row);
            lb_node_id v = k == has ? all : lb_expr_rows(g, all, from, 1, k);
            list[at++] = (lb_quant_piece){.values = v,
                                          .encoded = segment_at(t, i),
                                          .from = from,
                                          .n_rows = k,
                                          .weights = weights ? weights + mat * cols : NULL};
        }
    }
    LB_ASSERT(at <= n);
    *out = (lb_quant_pieces){list, (u32)at};
    return lb_graph_status(g, err);
}

/* As it was to be: codes stay the same codes. */
static lb_node_id same_piece(lb_graph *g, const lb_quant_piece *x) {
    lb_node e = *lb_graph_node(g, x->encoded);
    if (x->n_rows == e.n_rows)
        return x->encoded;
    lb_node_id rows = lb_expr_rows(g, e.in[0], x->from, 1, x->n_rows);
    return e.u.encode.repack ? lb_expr_repack(g, rows, (lb_repack)e.u.encode.repack)
                             : lb_expr_encode(g, rows, (lb_dtype)e.op);
}

static lb_status make_piece(lb_conv *c, const lb_out_tensor *t, const lb_quant_piece *x,
                            lb_dtype dtype, lb_node_id *out, lb_err *err) {
    lb_graph *g = &c->plan->graph;
    const lb_quant *q = NULL;
    if (dtype == t->dtype) {
        *out = same_piece(g, x);
        return lb_graph_status(g, err);
    }
    if (lb_dtype_get(dtype)->cls != LB_CLASS_BLOCK) {
        *out = lb_expr_encode(g, x->values, dtype);
        return lb_graph_status(g, err);
    }
    if (lb_graph_node(g, x->values)->n_cols != t->shape->dim[t->shape->rank - 1])
        return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s': its rows are not made in one piece",
                       LB_FMT(t->name));
    LB_TRY(lb_quantizer_blocks(c, dtype, x->weights, &q, err));
    *out = lb_expr_quant(g, x->values, q, LB_QUANT_CODES);
    return lb_graph_status(g, err);
}

lb_status lb_quantize_blocks(lb_conv *c, const lb_out_tensor *t, lb_dtype dtype,
                             const float *weights, u64 n_mats, lb_out_tensor *out, lb_err *err) {
    lb_quant_pieces x;
    LB_TRY(lb_quantize_pieces(c, t, weights, n_mats, &x, err));
    lb_node_id *list = lb_arena_new(c->perm, lb_node_id, x.n + 1);
    if (!list)
        return oom(err);
    for (u32 i = 0; i < x.n; i++)
        LB_TRY(make_piece(c, t, &x.list[i], dtype, &list[i], err));
    *out = *t;
    out->dtype = dtype;
    out->segments = list;
    out->n_segments = x.n;
    return LB_OK;
}
