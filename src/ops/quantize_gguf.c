/* SPDX-License-Identifier: Apache-2.0 */
/* quantize_gguf.c: the recipes of llama-quantize on a conversion's tensors.
 *
 * Order of the tensors, their types, bytes and keys are those of llama-quantize of llama-cpp-python
 * 0.3.36 on the file that the conversion would have written. */
#include "base/os.h"
#include "format/gguf_write.h"
#include "ops/quantize_internal.h"
#include <stdio.h>

/* ---- what is decided on ---- */

typedef struct job {
    lb_conv *c;
    lb_quantizer *q;
    u64 n;
    lb_recipe_tensor *tensors;
    lb_recipe_choice *choices;
    lb_str *weighted_as; /* the importance file's name for each: --prune-layers renames them */
    lb_arena *scratch;
} job;

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
}

/* ggml does not count dimensions of 1 before all others, so llama-quantize does not write them. */
static lb_status strip_dims(job *j, lb_err *err) {
    for (u64 i = 0; i < j->n; i++) {
        lb_out_tensor *t = &j->c->model.tensors[i];
        u32 n = 0;
        while (n + 1 < t->shape->rank && t->shape->dim[n] == 1)
            n++;
        if (n == 0)
            continue;
        lb_shape *own = lb_arena_new(j->c->perm, lb_shape, 1);
        if (!own)
            return oom(err);
        *own = (lb_shape){.rank = t->shape->rank - n};
        memcpy(own->dim, t->shape->dim + n, own->rank * sizeof own->dim[0]);
        t->shape = own;
    }
    return LB_OK;
}

/* Puts the tensors into llama-quantize's order. */
static lb_status list_tensors(job *j, lb_err *err) {
    lb_out_tensor *t = j->c->model.tensors;
    u32 *order = lb_arena_new(j->scratch, u32, j->n + 1);
    lb_out_tensor *sorted = lb_alloc((j->n + 1) * sizeof *sorted);
    j->tensors = lb_arena_new(j->scratch, lb_recipe_tensor, j->n + 1);
    j->choices = lb_arena_new(j->scratch, lb_recipe_choice, j->n + 1);
    lb_status st = order && sorted && j->tensors && j->choices ? LB_OK : oom(err);
    for (u64 i = 0; i < j->n && st == LB_OK; i++)
        j->tensors[i] =
            (lb_recipe_tensor){.name = t[i].name, .shape = *t[i].shape, .stored = t[i].dtype};
    for (u64 i = 0; i < j->n && st == LB_OK; i++)
        order[i] = (u32)i; /* as the source has them, file by file */
    if (st == LB_OK && !j->q->o->keep_split)
        st = lb_recipe_order(j->n, j->tensors, order, j->scratch, err);
    for (u64 i = 0; i < j->n && st == LB_OK; i++)
        sorted[i] = t[order[i]];
    if (st == LB_OK)
        memcpy(t, sorted, j->n * sizeof *t);
    lb_free(sorted);
    for (u64 i = 0; i < j->n && st == LB_OK; i++)
        j->tensors[i] =
            (lb_recipe_tensor){.name = t[i].name, .shape = *t[i].shape, .stored = t[i].dtype};
    return st;
}

static lb_status read_importance(job *j, lb_err *err) {
    const lb_quantize_opts *o = j->q->o;
    lb_importance *x = &j->q->importance;
    if (!o->imatrix) {
        if (o->n_include || o->n_exclude)
            return lb_fail(err, LB_E_USAGE,
                           "--include-weights and --exclude-weights choose from an importance "
                           "matrix: give one with --imatrix");
        return LB_OK;
    }
    lb_imatrix_tensor *list = lb_arena_new(j->scratch, lb_imatrix_tensor, j->n + 1);
    if (!list)
        return oom(err);
    for (u64 i = 0; i < j->n; i++)
        list[i] = (lb_imatrix_tensor){j->tensors[i].name, j->tensors[i].shape};
    LB_TRY(lb_importance_open(x,
                              &(lb_importance_opts){.path = o->imatrix,
                                                    .include = o->include,
                                                    .n_include = o->n_include,
                                                    .exclude = o->exclude,
                                                    .n_exclude = o->n_exclude},
                              list, j->n, err));
    for (u64 i = 0; i < j->n; i++) {
        u64 n_mats;
        j->tensors[i].has_importance =
            lb_importance_of(x, j->tensors[i].name, &j->tensors[i].shape, &n_mats) != NULL;
    }
    if (x->n_left)
        lb_conv_remark(j->c,
                       "importance of %llu matrices is not used, the first %.*s: the model has it "
                       "in another size, or not",
                       (unsigned long long)x->n_left, LB_FMT(x->first_left));
    return LB_OK;
}

/* Their names in the output; those of layers that go leave the list. */
static lb_status rename_tensors(job *j, const lb_recipe_model *model, lb_err *err) {
    u64 n = 0;
    j->weighted_as = lb_arena_new(j->scratch, lb_str, j->n + 1);
    if (!j->weighted_as)
        return oom(err);
    if (j->q->o->prune)
        LB_TRY(lb_quantize_prune(j->c, model, err));
    for (u64 i = 0; i < j->n; i++) {
        lb_str name;
        LB_TRY(lb_quantize_pruned_name(j->c, j->tensors[i].name, &name, err));
        if (!name.ptr)
            continue;
        j->weighted_as[n] = j->tensors[i].name;
        j->tensors[n] = j->tensors[i];
        j->c->model.tensors[n] = j->c->model.tensors[i];
        j->tensors[n].name = j->c->model.tensors[n].name = name;
        n++;
    }
    j->n = j->c->model.n_tensors = n;
    return LB_OK;
}

/* ---- what people should know ---- */

static double bits_of(lb_dtype t) {
    const lb_dtype_info *d = lb_dtype_get(t);
    return 8.0 * d->block_bytes / d->block_elems;
}

/* What all others hang on: the embeddings, the head, the routers. */
static bool is_critical(lb_str name) {
    size_t at;
    return lb_str_starts(name, LB_STR("token_embd.")) || lb_str_starts(name, LB_STR("output.")) ||
           lb_str_starts(name, LB_STR("per_layer_token_embd.")) ||
           lb_str_find(name, LB_STR("ffn_gate_inp"), &at);
}

/* Type of what must not lose more: its rows may not be whole blocks of Q6_K. */
static lb_dtype protected_type(const lb_recipe_tensor *t) {
    size_t at;
    u64 cols = t->shape.rank ? t->shape.dim[t->shape.rank - 1] : 1;
    bool router = lb_str_find(t->name, LB_STR("ffn_gate_inp"), &at);
    if (!router && cols % lb_dtype_get(LB_Q6_K)->block_elems == 0)
        return LB_Q6_K;
    return cols % lb_dtype_get(LB_Q8_0)->block_elems == 0 ? LB_Q8_0 : LB_F16;
}

/* Embeddings, head and routers below 6 bit: raised, or named. */
static void mind_critical(const job *j, const char *type) {
    lb_str first = {0};
    lb_dtype first_type = LB_F32, raised = LB_F32;
    u64 n = 0;
    for (u64 i = 0; i < j->n; i++) {
        lb_recipe_choice *ch = &j->choices[i];
        if (ch->why == LB_WHY_KEPT || ch->why == LB_WHY_OPTION || ch->why == LB_WHY_OVERRIDE ||
            !is_critical(j->tensors[i].name) || bits_of(ch->dtype) >= 6)
            continue;
        if (n++ == 0) {
            first = j->tensors[i].name;
            first_type = ch->dtype;
            raised = protected_type(&j->tensors[i]);
        }
        if (j->q->o->protect) {
            ch->dtype = protected_type(&j->tensors[i]);
            ch->why = LB_WHY_OVERRIDE;
            ch->needs_importance = false;
        }
    }
    char more[48] = "";
    if (n > 1)
        (void)snprintf(more, sizeof more, " and %llu more", (unsigned long long)(n - 1));
    if (n && j->q->o->protect)
        lb_conv_remark(j->c, "%s: %.*s%s raised from %s to %s (--protect)", type, LB_FMT(first),
                       more, lb_dtype_get(first_type)->name, lb_dtype_get(raised)->name);
    else if (n)
        lb_conv_remark(j->c,
                       "%s: %.*s%s has fewer than 6 bit (%s), as llama-quantize decides: "
                       "--protect keeps embeddings, head and routers at 6 bit and more",
                       type, LB_FMT(first), more, lb_dtype_get(first_type)->name);
}

static void say_choices(const job *j, const char *type) {
    u64 n_misfits = 0, n_again = 0, n_plain = 0;
    const lb_recipe_choice *misfit = NULL;
    lb_str again = {0}, plain = {0};
    lb_dtype was = LB_F32;
    for (u64 i = 0; i < j->n; i++) {
        const lb_recipe_choice *ch = &j->choices[i];
        const lb_recipe_tensor *t = &j->tensors[i];
        if (ch->wanted != ch->dtype && ch->why != LB_WHY_OVERRIDE && n_misfits++ == 0)
            misfit = ch;
        if (t->stored != ch->dtype && lb_dtype_get(t->stored)->cls == LB_CLASS_BLOCK &&
            n_again++ == 0) {
            again = t->name;
            was = t->stored;
        }
        if (j->q->o->imatrix && ch->why != LB_WHY_KEPT && !t->has_importance && n_plain++ == 0)
            plain = t->name;
    }
    if (n_misfits)
        lb_conv_remark(j->c,
                       "%s: rows of %llu tensors are no whole blocks of their type: another stands "
                       "in (%s instead of %s...)",
                       type, (unsigned long long)n_misfits, lb_dtype_get(misfit->dtype)->name,
                       lb_dtype_get(misfit->wanted)->name);
    if (n_again)
        lb_conv_remark(j->c,
                       "%s: %llu tensors are quantized already (%.*s: %s): quantizing them again "
                       "adds its loss to theirs; better start from the original",
                       type, (unsigned long long)n_again, LB_FMT(again), lb_dtype_get(was)->name);
    if (n_plain)
        lb_conv_remark(j->c, "%s: %llu tensors have no importance in the file, the first %.*s",
                       type, (unsigned long long)n_plain, LB_FMT(plain));
}

/* Whether all of its values are codes of the type, as they would be written: they are copied. */
static bool has_codes(const job *j, const lb_out_tensor *t, lb_dtype dtype) {
    lb_graph *g = &j->c->plan->graph;
    for (u32 i = 0; i < t->n_segments; i++) {
        lb_dtype stored = LB_F32;
        lb_node_id x = lb_expr_codes(g, lb_quantize_values(g, t->segments[i]));
        if (x == LB_NODE_NONE)
            return false;
        const lb_node *n = lb_graph_node(g, x);
        while (n->kind != LB_NODE_READ)
            n = lb_graph_node(g, n->in[0]);
        const lb_weight *w = n->u.read.weight;
        stored = g->sources[n->u.read.source]->tensors[w->part[0]].dtype;
        if (w->enc.kind != LB_ENC_PLAIN || stored != dtype)
            return false;
    }
    return true;
}

static lb_status copy_codes(job *j, const lb_out_tensor *t, lb_dtype dtype, lb_out_tensor *out,
                            lb_err *err) {
    lb_graph *g = &j->c->plan->graph;
    lb_node_id *x = lb_arena_new(j->c->perm, lb_node_id, t->n_segments);
    if (!x)
        return oom(err);
    for (u32 i = 0; i < t->n_segments; i++)
        x[i] = lb_expr_encode(g, lb_expr_codes(g, lb_quantize_values(g, t->segments[i])), dtype);
    *out = *t;
    out->dtype = dtype;
    out->segments = x;
    return lb_graph_status(g, err);
}

/* Segments of every output are cut alike: they are made together. */
static lb_status make_tensor(job *j, u64 i, lb_out_tensor *out, lb_err *err) {
    const lb_out_tensor *t = &j->c->model.tensors[i];
    const lb_recipe_choice *ch = &j->choices[i];
    u64 n_mats = 1;
    const float *w = lb_importance_of(&j->q->importance, j->weighted_as[i], t->shape, &n_mats);
    if (ch->dtype == t->dtype && (n_mats == 1 || j->q->n_types == 1)) {
        *out = *t;
        return LB_OK;
    }
    if (j->q->o->keep && lb_dtype_get(ch->dtype)->cls == LB_CLASS_BLOCK &&
        has_codes(j, t, ch->dtype))
        return copy_codes(j, t, ch->dtype, out, err);
    return lb_quantize_blocks(j->c, t, ch->dtype, w, n_mats, out, err);
}

/* As another file has them. What that lacks keeps its type: who compares finds it missing. */
static void choose_like(job *j) {
    const lb_source *s = j->q->o->like;
    for (u64 i = 0; i < j->n; i++) {
        const lb_recipe_tensor *t = &j->tensors[i];
        const lb_weight *w = lb_quantizer_like(j->c, t->name, &t->shape, j->scratch);
        lb_dtype d = w ? s->tensors[w->part[0]].dtype : t->stored;
        j->choices[i] = (lb_recipe_choice){.dtype = d, .wanted = d, .why = LB_WHY_OVERRIDE};
    }
}

/* ---- a target ---- */

/* In a file, with what stands before the next tensor. */
static u64 padded_bytes(const lb_recipe_tensor *t, lb_dtype d) {
    u64 n = 0, bytes = 0;
    bool fits = lb_shape_elems(&t->shape, &n) && lb_dtype_bytes(d, n, &bytes);
    return fits ? (bytes + 31) / 32 * 32 : 0;
}

static bool may_have(const job *j, const lb_recipe_tensor *t, lb_dtype d) {
    u64 cols = t->shape.dim[t->shape.rank - 1];
    bool weighted =
        lb_quant_needs_importance(d) || d == LB_IQ3_XXS || d == LB_IQ2_S || d == LB_IQ1_M;
    (void)j;
    return cols % lb_dtype_get(d)->block_elems == 0 && (!weighted || t->has_importance) &&
           (!is_critical(t->name) || bits_of(d) >= 6);
}

/* The types that tensor i may have; of what no rule has given one. */
static lb_status list_options(job *j, u64 i, lb_dtype *types, lb_quant_choice *out, lb_err *err) {
    const lb_recipe_tensor *t = &j->tensors[i];
    const lb_recipe_choice *ch = &j->choices[i];
    u64 n_mats = 1, *sizes = lb_arena_new(j->scratch, u64, LB_CANDIDATES_MAX);
    u32 n = 0;
    if (!sizes)
        return oom(err);
    for (u32 k = 0;
         k < j->q->n_candidates && ch->why != LB_WHY_OVERRIDE && ch->why != LB_WHY_OPTION; k++)
        if (may_have(j, t, j->q->dtypes[k]))
            types[n++] = j->q->dtypes[k];
    if (n == 0) /* named, or too narrow for all of them */
        types[n++] = is_critical(t->name) && bits_of(ch->dtype) < 6 && ch->why != LB_WHY_OVERRIDE
                         ? protected_type(t)
                         : ch->dtype;
    for (u32 k = 0; k < n; k++)
        sizes[k] = padded_bytes(t, types[k]);
    *out = (lb_quant_choice){.name = t->name,
                             .measured_as = j->weighted_as[i],
                             .shape = &t->shape,
                             .n_options = n,
                             .size_bytes = sizes};
    if (n == 1)
        return LB_OK;
    const float *w = lb_importance_of(&j->q->importance, j->weighted_as[i], &t->shape, &n_mats);
    LB_TRY(lb_quantize_pieces(j->c, &j->c->model.tensors[i], w, n_mats, &out->pieces, err));
    const lb_quant **q = lb_arena_new(j->scratch, const lb_quant *, (u64)out->pieces.n *n);
    if (!q)
        return oom(err);
    for (u32 p = 0; p < out->pieces.n; p++)
        for (u32 k = 0; k < n; k++)
            LB_TRY(lb_quantizer_blocks(j->c, types[k], out->pieces.list[p].weights,
                                       &q[(u64)p * n + k], err));
    out->quants = q;
    return LB_OK;
}

/* More than the head of the file takes, whatever of lbrx's own record comes on top. */
static lb_status head_bytes(job *j, u64 *out, lb_err *err) {
    lb_gguf_layout l;
    lb_gguf_item *items = lb_arena_new(j->scratch, lb_gguf_item, j->n + 1);
    if (!items)
        return oom(err);
    for (u64 i = 0; i < j->n; i++)
        items[i] = (lb_gguf_item){
            .name = j->tensors[i].name, .dtype = LB_F32, .shape = j->tensors[i].shape};
    lb_gguf_layout_opts o = {.meta = j->c->model.meta, .stem = LB_STR("model"), .later = true};
    LB_TRY(lb_gguf_layout_plan(items, j->n, &o, j->scratch, &l, err));
    u64 data = 0, bytes = 0;
    for (u64 i = 0; i < j->n; i++)
        data += padded_bytes(&j->tensors[i], LB_F32);
    bytes = l.files[0].size_bytes > data ? l.files[0].size_bytes - data : 0;
    *out = bytes + 1024 + j->c->model.operation.len;
    for (u32 i = 0; i < j->c->plan->graph.n_sources; i++)
        *out += 256 + j->c->plan->graph.sources[i]->label.len;
    return LB_OK;
}

/* Which of the types is best for each tensor: the recipe has said which are quantized at all. */
static lb_status choose_for_target(job *j, lb_err *err) {
    lb_quant_choice *list = lb_arena_new(j->scratch, lb_quant_choice, j->n + 1);
    lb_dtype(*types)[LB_CANDIDATES_MAX] =
        lb_arena_push_array(j->scratch, j->n + 1, sizeof *types, 8);
    u64 *of = lb_arena_new(j->scratch, u64, j->n + 1), n = 0;
    lb_quant_room room = {0};
    if (!list || !types || !of)
        return oom(err);
    for (u64 i = 0; i < j->n; i++) {
        u64 elems = lb_quantize_elems(&j->tensors[i].shape);
        room.n_values += elems;
        if (j->choices[i].why == LB_WHY_KEPT) {
            room.other_bytes += padded_bytes(&j->tensors[i], j->choices[i].dtype);
            continue;
        }
        LB_TRY(list_options(j, i, types[n], &list[n], err));
        of[n++] = i;
    }
    LB_TRY(head_bytes(j, &room.head_bytes, err));
    LB_TRY(lb_quantize_choose(j->c, list, n, &room, err));
    for (u64 k = 0; k < n; k++) {
        lb_recipe_choice *ch = &j->choices[of[k]];
        ch->dtype = ch->wanted = types[k][list[k].chosen];
        ch->needs_importance = false;
    }
    return LB_OK;
}

/* The file type that names what most values have. */
static u32 file_type_of(const job *j) {
    u64 n[LB_DTYPE_COUNT] = {0}, best = 0;
    u32 type = 0;
    for (u64 i = 0; i < j->n; i++) {
        u64 elems = lb_quantize_elems(&j->tensors[i].shape);
        n[j->choices[i].dtype] += elems;
    }
    for (u32 r = 0; r < LB_RECIPE_COUNT; r++) {
        const lb_recipe *x = lb_recipe_get((lb_recipe_id)r);
        if (x->cls != LB_RECIPE_COPY_ALL && n[x->dtype] > best) {
            best = n[x->dtype];
            type = x->file_type;
        }
    }
    return type;
}

static lb_status choose(job *j, u32 k, const lb_recipe_opts *o, const lb_recipe_model *model,
                        lb_err *err) {
    const lb_recipe_job rj = {o, model, j->n, j->tensors};
    const char *type = j->q->type[k].name;
    if (j->q->o->like) {
        choose_like(j);
        return LB_OK;
    }
    LB_TRY(lb_recipe_choose(&rj, j->choices, j->scratch, err));
    if (lb_quantizer_has_target(j->q))
        LB_TRY(choose_for_target(j, err));
    else
        mind_critical(j, type);
    LB_TRY(lb_recipe_check(&rj, j->choices, err));
    if (k == 0)
        LB_TRY(lb_recipe_check_overrides(&rj, err));
    if (j->q->overrides.first &&
        lb_dtype_get(lb_recipe_get(o->recipe)->dtype)->cls != LB_CLASS_BLOCK)
        lb_conv_remark(j->c,
                       "%s: overrides count beside quantized types only: all of them are "
                       "without effect, as in llama-quantize",
                       type);
    say_choices(j, type);
    return LB_OK;
}

/* ---- one output ---- */

/* A copy of a file that does not say its type: llama.cpp's loader takes it from what most tensors
 * are, the first among equals, and marks it as a guess. */
static u32 guessed_file_type(const job *j) {
    u32 n[LB_DTYPE_COUNT] = {0}, best = 0;
    lb_dtype most = LB_F32;
    for (u64 i = 0; i < j->n; i++) {
        lb_dtype t = j->tensors[i].stored;
        if (++n[t] > best) {
            best = n[t];
            most = t;
        }
    }
    return lb_recipe_file_type_of(most) | 1024;
}

static u32 file_type_for(const job *j, u32 k) {
    const lb_recipe *r = lb_recipe_get(j->q->type[k].recipe);
    u64 v = 0;
    if (lb_quantizer_has_target(j->q))
        return file_type_of(j);
    if (r->cls != LB_RECIPE_COPY_ALL)
        return r->file_type;
    const lb_gguf_kv *kv =
        lb_meta_find(j->q->o->keep ? j->q->o->like->gguf : j->c->model.meta, "general.file_type");
    return kv && lb_kv_as_u64(kv, &v) ? (u32)v : guessed_file_type(j);
}

static lb_status make_output(job *j, u32 k, const lb_recipe_opts *base,
                             const lb_recipe_model *model, lb_err *err) {
    lb_conv *c = j->c;
    lb_recipe_opts o = *base;
    lb_out_model *m = &j->q->model[k];
    lb_str operation = m->operation;
    const char *output = m->output;
    o.recipe = j->q->type[k].recipe;
    LB_TRY(choose(j, k, &o, model, err));
    *m = c->model;
    m->identity = m->operation; /* of all */
    m->operation = operation;
    m->output = output;
    m->keep_files = j->q->o->keep_split;
    m->meta = &j->q->meta[k];
    m->tensors = lb_alloc((j->n + 1) * sizeof *m->tensors);
    if (!m->tensors)
        return oom(err);
    for (u64 i = 0; i < j->n; i++)
        LB_TRY(make_tensor(j, i, &m->tensors[i], err));
    return lb_quantize_keys(c, k, file_type_for(j, k), err);
}

static lb_status option_type(const char *flag, const char *name, lb_dtype *type,
                             const lb_dtype **out, lb_err *err) {
    if (!name)
        return LB_OK;
    lb_status st = lb_recipe_type_find(lb_str_c(name), type, err);
    if (st != LB_OK)
        lb_err_context(err, "%s", flag);
    *out = type;
    return st;
}

static lb_status check_split(const lb_conv *c, lb_err *err) {
    if (c->src->format != LB_FORMAT_GGUF)
        return lb_fail(err, LB_E_USAGE,
                       "--keep-split is for a GGUF in parts: the input is %s: see --max-shard-size",
                       lb_format_name(c->src->format));
    if (c->o->w.max_shard_bytes || c->o->w.max_shard_tensors)
        return lb_fail(err, LB_E_USAGE, "--keep-split and another cut exclude each other");
    return LB_OK;
}

static lb_status make_outputs(job *j, lb_err *err) {
    const lb_quantize_opts *o = j->q->o;
    lb_dtype output, embedding;
    lb_recipe_model model;
    lb_recipe_opts ro = {.pure = o->pure,
                         .keep_output = o->keep_output,
                         .listed = o->keep_split,
                         .requantize = true, /* and said */
                         .overrides = &j->q->overrides};
    LB_TRY(option_type("--output-tensor-type", o->output_type, &output, &ro.output, err));
    LB_TRY(
        option_type("--token-embedding-type", o->embedding_type, &embedding, &ro.embedding, err));
    if (o->keep_split)
        LB_TRY(check_split(j->c, err));
    if (o->max_buffer)
        lb_conv_remark(j->c, "--max-buffer-size is without effect: --memory limits all buffers");
    LB_TRY(strip_dims(j, err));
    LB_TRY(list_tensors(j, err));
    LB_TRY(read_importance(j, err));
    ro.importance = j->q->importance.n_entries != 0;
    LB_TRY(lb_quantize_override_keys(j->c, err));
    LB_TRY(lb_recipe_model_from_meta(j->c->model.meta, &model, err));
    LB_TRY(rename_tensors(j, &model, err));
    for (u32 k = 0; k < j->q->n_types; k++)
        LB_TRY(make_output(j, k, &ro, &model, err));
    for (u32 k = 0; k < j->q->n_types; k++) { /* those that the later ones gave too */
        j->q->model[k].remarks = j->c->model.remarks;
        j->q->model[k].n_remarks = j->c->model.n_remarks;
    }
    return LB_OK;
}

lb_status lb_quantize_gguf(lb_conv *c, lb_err *err) {
    lb_arena scratch = {0};
    job j = {.c = c, .q = c->quantizer, .n = c->model.n_tensors, .scratch = &scratch};
    lb_status st = make_outputs(&j, err);
    lb_arena_deinit(&scratch);
    return st;
}
