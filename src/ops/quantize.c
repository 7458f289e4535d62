/* SPDX-License-Identifier: Apache-2.0 */
/* quantize.c: types by name, and the nodes that make codes of a conversion's values. */
#include "ops/quantize_internal.h"
#include "base/os.h"
#include <stdlib.h>

/* ---- types ---- */

static const char *const scheme_formats[LB_SCHEME_COUNT] = {"any format", "GGUF", "MLX",
                                                            "Hugging Face"};

static void list_types(lb_scheme scheme, lb_buf *out) {
    for (u32 i = 0; i < LB_RECIPE_COUNT && scheme == LB_SCHEME_GGUF; i++)
        lb_buf_printf(out, "%s%s", out->len ? " " : "", lb_recipe_get((lb_recipe_id)i)->name);
    for (u32 i = 0; scheme == LB_SCHEME_MLX && lb_mlx_type_at(i); i++)
        lb_buf_printf(out, "%s%s", out->len ? " " : "", lb_mlx_type_at(i));
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
    if (!find_recipe(name, t) && !find_mlx(name, t))
        return refuse(c, name.ptr, LB_SCHEME_COUNT, err);
    if (!holds(c->model.format, t->scheme))
        return refuse(c, t->name, t->scheme, err);
    LB_TRY(check_size(c, t, err));
    if (t->scheme == LB_SCHEME_MLX)
        LB_TRY(lb_mlx_opts_find(name, q->o->group, &t->mlx, err));
    for (u32 i = 0; i < q->n_types; i++)
        if (strcmp(q->type[i].name, t->name) == 0)
            return lb_fail(err, LB_E_USAGE, "--type: %s is named twice", t->name);
    q->n_types++;
    return LB_OK;
}

static lb_status take_types(lb_conv *c, lb_quantizer *q, lb_err *err) {
    lb_str list = lb_str_c(q->o->type ? q->o->type : "");
    for (size_t at = 0, n; at <= list.len; at += n + 1) {
        lb_str rest = lb_str_sub(list, at, list.len);
        n = rest.len;
        (void)lb_str_find(rest, LB_STR(","), &n);
        lb_str name = lb_arena_str(c->perm, lb_str_sub(rest, 0, n));
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

static bool is_quantized(const lb_source *s) {
    for (u64 i = 0; i < s->n_weights; i++)
        if (s->weights[i].enc.kind != LB_ENC_PLAIN && s->weights[i].enc.kind != LB_ENC_VIEW)
            return true;
    return false;
}

bool lb_quantize_has_codes(const lb_conv *c) {
    if (c->quantizer && c->quantizer->o->like)
        return is_quantized(c->quantizer->o->like);
    return c->quantizer && c->quantizer->type[0].scheme != LB_SCHEME_FLOAT;
}

/* x-{type}.gguf */
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
        lb_str p = lb_arena_printf(c->perm, "%.*s%s%s", (int)at, path.ptr, q->type[i].name,
                                   path.ptr + at + hole.len);
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

lb_status lb_quantizer_begin(lb_conv *c, lb_err *err) {
    lb_quantizer *q = c->quantizer;
    q->o = c->o->quantize;
    if (q->o->like) {
        q->n_types = 1;
        q->type[0] = (lb_quant_type){.name = "copy",
                                     .recipe = LB_RECIPE_COPY,
                                     .scheme = c->model.format == LB_FORMAT_GGUF  ? LB_SCHEME_GGUF
                                               : c->model.format == LB_FORMAT_MLX ? LB_SCHEME_MLX
                                                                                  : LB_SCHEME_HF};
        return LB_OK;
    }
    LB_TRY(take_types(c, q, err));
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
    lb_buf_printf(b, " --type %s", k < q->n_types ? q->type[k].name : o->type);
    for (const lb_override *v = q->overrides.first; v; v = v->next)
        lb_buf_printf(b, " --override %.*s=%.*s", LB_FMT(v->pattern), LB_FMT(v->type_name));
    if (o->output_type)
        lb_buf_printf(b, " --output-tensor-type %s", o->output_type);
    if (o->embedding_type)
        lb_buf_printf(b, " --token-embedding-type %s", o->embedding_type);
    if (o->keep_output)
        lb_buf_put_c(b, " --leave-output-tensor");
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
    if (o->cpu_rule)
        lb_buf_put_c(b, " --mlx-rule cpu");
    if (o->imatrix)
        lb_buf_printf(b, " --imatrix %.*s", LB_FMT(lb_os_base_name(lb_str_c(o->imatrix))));
    for (u32 i = 0; i < o->n_include; i++)
        lb_buf_printf(b, " --include-weights %s", o->include[i]);
    for (u32 i = 0; i < o->n_exclude; i++)
        lb_buf_printf(b, " --exclude-weights %s", o->exclude[i]);
}

lb_status lb_quantize_folder(lb_conv *c, lb_err *err) {
    switch (c->quantizer->type[0].scheme) {
    case LB_SCHEME_MLX:
        return lb_quantize_mlx(c, err);
    default:
        return LB_OK;
    }
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

static lb_status quantizer_of(lb_conv *c, lb_dtype t, const float *weights, const lb_quant **out,
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
    *x = (lb_quant){
        .kind = LB_QUANT_BLOCKS, .dtype = t, .importance = weights, .tables = q->tables[t]};
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

/* The segments of a tensor, cut where one of its matrices ends: each has its own weights. */
typedef struct cutter {
    const lb_out_tensor *t;
    lb_dtype dtype;
    const float *weights;
    u64 mat_rows; /* UINT64_MAX: all are one */
    u64 row;      /* of the tensor: how far it is cut */
    lb_node_id *list;
    u64 n;
} cutter;

static u64 count_pieces(const lb_graph *g, const lb_out_tensor *t, u64 mat_rows) {
    u64 n = 0, at = 0;
    for (u32 i = 0; i < n_segments(t); i++) {
        u64 rows = lb_graph_node(g, segment_at(t, i))->n_rows;
        n += (at + LB_MAX(rows, 1) - 1) / mat_rows - at / mat_rows + 1;
        at += rows;
    }
    return n;
}

static lb_status encode_piece(lb_conv *c, cutter *x, lb_node_id values, lb_err *err) {
    lb_graph *g = &c->plan->graph;
    const lb_quant *q = NULL;
    u64 cols = x->t->shape->dim[x->t->shape->rank - 1];
    if (lb_dtype_get(x->dtype)->cls != LB_CLASS_BLOCK) {
        x->list[x->n++] = lb_expr_encode(g, values, x->dtype);
        return lb_graph_status(g, err);
    }
    if (lb_graph_node(g, values)->n_cols != cols)
        return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s': its rows are not made in one piece",
                       LB_FMT(x->t->name));
    const float *w = x->weights ? x->weights + x->row / x->mat_rows * cols : NULL;
    LB_TRY(quantizer_of(c, x->dtype, w, &q, err));
    x->list[x->n++] = lb_expr_quant(g, values, q, LB_QUANT_CODES);
    return lb_graph_status(g, err);
}

static lb_status cut_segment(lb_conv *c, cutter *x, lb_node_id encoded, lb_err *err) {
    lb_graph *g = &c->plan->graph;
    lb_node_id all = lb_quantize_values(g, encoded);
    LB_TRY(lb_graph_status(g, err));
    u64 rows = lb_graph_node(g, all)->n_rows;
    for (u64 at = 0, n; at < rows; at += n) {
        n = LB_MIN(rows - at, (x->row / x->mat_rows + 1) * x->mat_rows - x->row);
        lb_node_id v = n == rows ? all : lb_expr_rows(g, all, at, 1, n);
        LB_TRY(lb_graph_status(g, err));
        LB_TRY(encode_piece(c, x, v, err));
        x->row += n;
    }
    return LB_OK;
}

lb_status lb_quantize_blocks(lb_conv *c, const lb_out_tensor *t, lb_dtype dtype,
                             const float *weights, u64 n_mats, lb_out_tensor *out, lb_err *err) {
    u64 rows, cols;
    lb_shape_matrix(t->shape, &rows, &cols);
    cutter x = {.t = t,
                .dtype = dtype,
                .weights = weights,
                .mat_rows = n_mats > 1 && rows ? rows / n_mats : UINT64_MAX / 2};
    u64 n = count_pieces(&c->plan->graph, t, x.mat_rows);
    x.list = lb_arena_new(c->perm, lb_node_id, n + 1);
    if (!x.list || n > INT32_MAX)
        return oom(err);
    for (u32 i = 0; i < n_segments(t); i++)
        LB_TRY(cut_segment(c, &x, segment_at(t, i), err));
    LB_ASSERT(x.n <= n);
    *out = *t;
    out->dtype = dtype;
    out->segments = x.list;
    out->n_segments = (u32)x.n;
    return LB_OK;
}
