/* SPDX-License-Identifier: Apache-2.0 */
/* ctensor.c: stored tensors -> canonical tensors, by the architecture table's rows read backwards.
 */
#include "ops/ctensor.h"
#include "base/interrupt.h"

bool lb_ctensor_is_float(lb_dtype t) {
    return t == LB_F32 || t == LB_F16 || t == LB_BF16;
}

static lb_world world_of(const lb_source *s) {
    return s->format == LB_FORMAT_GGUF  ? LB_WORLD_GGUF
           : s->format == LB_FORMAT_MLX ? LB_WORLD_MLX
                                        : LB_WORLD_HF;
}

static lb_status find_family(lb_plan *p, lb_ctensors *c, lb_err *err) {
    const lb_source *s = c->source;
    lb_status st = LB_E_UNSUPPORTED;
    c->world = world_of(s);
    if (s->format == LB_FORMAT_GGUF) {
        st = lb_arch_from_gguf(s->gguf, lb_source_weight(s, LB_STR("output.weight")) != NULL,
                               &c->arch, &c->hp, &c->arch_err);
    } else if (s->config.len) {
        LB_TRY(lb_json_parse(s->config, "config.json", &p->perm, &c->config, err));
        st = lb_arch_from_config(c->config, &c->arch, &c->hp, &c->arch_err);
    } else {
        (void)lb_fail(
            &c->arch_err, LB_E_UNSUPPORTED,
            "'%.*s' has no config.json: its architecture is not known (params.json, the form "
            "of Meta and Mistral, is not read: take the model in Hugging Face's)",
            LB_FMT(s->label));
    }
    if (st == LB_OK)
        return LB_OK;
    c->arch = NULL;
    if (st == LB_E_NOMEM) {
        if (err)
            *err = c->arch_err;
        return st;
    }
    return LB_OK;
}

static lb_status add_dropped(lb_plan *p, lb_ctensors *c, lb_str name, lb_err *err) {
    if ((c->n_dropped & (c->n_dropped - 1)) == 0) { /* grows at powers of two */
        lb_str *n = lb_arena_new(&p->perm, lb_str, c->n_dropped ? 2 * c->n_dropped : 1);
        if (!n)
            return lb_fail(err, LB_E_NOMEM, "out of memory for names");
        if (c->n_dropped)
            memcpy(n, c->dropped, c->n_dropped * sizeof *n);
        c->dropped = n;
    }
    c->dropped[c->n_dropped++] = name;
    return LB_OK;
}

static lb_status push(lb_ctensors *c, const lb_ctensor *t, lb_err *err) {
    if (c->n_tensors == c->cap_tensors) {
        u64 cap =
            c->cap_tensors ? c->cap_tensors + c->cap_tensors / 8 + 64 : c->source->n_weights + 1;
        lb_ctensor *n = lb_realloc(c->tensors, (size_t)cap * sizeof *n);
        if (!n)
            return lb_fail(err, LB_E_NOMEM, "out of memory for %llu tensors",
                           (unsigned long long)cap);
        c->tensors = n;
        c->cap_tensors = cap;
    }
    c->tensors[c->n_tensors++] = *t;
    return LB_OK;
}

/* A vector for each matrix. */
static bool is_bias(const lb_arch_match *m) {
    return m->suffix == LB_SUFFIX_BIAS ||
           (m->suffix == LB_SUFFIX_NONE && lb_str_ends(m->row->gguf, LB_STR(".bias")));
}

static lb_status set_stack(const lb_ctensors *c, const lb_weight *w, lb_ctensor *t, lb_err *err) {
    bool experts = (t->match.row->flags & LB_ROW_EXPERT) != 0;
    u64 want = lb_arch_n_stack(t->match.row, &c->hp);
    if (w->shape.rank < 2 || (experts && !is_bias(&t->match) && w->shape.rank < 3))
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s': expected one %s", LB_FMT(w->name),
                       experts ? "matrix for each expert" : "vector for each head");
    t->n_stack = w->shape.dim[0];
    if (t->n_stack != want)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' holds %llu %s, the config says %llu %s",
                       LB_FMT(w->name), (unsigned long long)t->n_stack,
                       w->shape.rank > 2 ? "matrices" : "vectors", (unsigned long long)want,
                       experts ? "experts" : "heads");
    t->shape.rank--;
    memmove(t->shape.dim, w->shape.dim + 1, t->shape.rank * sizeof t->shape.dim[0]);
    t->match.expert = LB_NO_INDEX;
    return LB_OK;
}

/* The heads' matrices one below the other. */
static lb_status set_flat_stack(const lb_ctensors *c, const lb_weight *w, lb_ctensor *t,
                                lb_err *err) {
    t->n_stack = lb_arch_n_stack(t->match.row, &c->hp);
    if (w->shape.rank != 2 || t->n_stack == 0 || w->shape.dim[0] % t->n_stack != 0)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is not a matrix of %llu heads",
                       LB_FMT(w->name), (unsigned long long)t->n_stack);
    t->shape.dim[0] /= t->n_stack;
    return LB_OK;
}

lb_relayout lb_ctensor_relayout(const lb_ctensors *c, const lb_ctensor *t) {
    return t->upright ? LB_RL_TRANSPOSE
           : t->known ? lb_arch_row_relayout(t->match.row, c->world)
                      : LB_RL_NONE;
}

lb_arch_match lb_ctensor_match(const lb_ctensors *c, const lb_ctensor *t, lb_world world) {
    lb_arch_match m = t->match;
    if (world != LB_WORLD_HF)
        return m;
    if (m.row->flags & LB_ROW_HF_CODES)
        m.row = lb_arch_value_row(c->arch, m.row);
    else if (c->first_forms && c->world == LB_WORLD_HF)
        m = lb_arch_first_form(c->arch, &m);
    return m;
}

bool lb_ctensor_is_reformed(const lb_ctensors *c, const lb_ctensor *t) {
    return c->first_forms && t->known && c->world == LB_WORLD_HF &&
           !(t->match.row->flags & LB_ROW_HF_CODES) &&
           lb_arch_first_form(c->arch, &t->match).row != t->match.row;
}

/* Rows, and matrices of a stack, of the weight. */
static lb_status set_shape(const lb_ctensors *c, const lb_weight *w, lb_ctensor *t, lb_err *err) {
    u64 cols;
    t->n_stack = 1;
    t->shape = w->shape;
    if (t->known && lb_arch_is_flat(t->match.row, c->world))
        LB_TRY(set_flat_stack(c, w, t, err));
    else if (t->known && lb_arch_is_stacked(t->match.row, c->world))
        LB_TRY(set_stack(c, w, t, err));
    if (t->n_stack > LB_EXPERTS_MAX)
        return lb_fail(err, LB_E_LIMIT, "tensor '%.*s': more than %d matrices", LB_FMT(w->name),
                       LB_EXPERTS_MAX);
    lb_shape_matrix(&t->shape, &t->matrix_rows, &cols);
    if (t->shape.rank == 1)
        t->matrix_rows = cols;
    if (t->shape.rank && t->known && lb_relayout_by_channel(lb_ctensor_relayout(c, t)))
        t->matrix_rows = t->shape.dim[0];
    t->rows = (lb_part_rows){0, 1, 1, t->matrix_rows};
    if (!t->known || t->shape.rank == 0)
        return LB_OK;
    lb_part part = (lb_part)t->match.row->part[c->world];
    bool by_cols = part != LB_PART_ALL && t->shape.rank == 2 &&
                   lb_arch_row_relayout(t->match.row, c->world) == LB_RL_TRANSPOSE;
    lb_status st = lb_arch_part_rows(part, &c->hp, by_cols ? cols : t->matrix_rows,
                                     by_cols ? &t->cols : &t->rows, err);
    if (st != LB_OK)
        lb_err_context(err, "tensor '%.*s'", LB_FMT(w->name));
    if (by_cols)
        t->shape.dim[1] = t->cols.n;
    if (t->rows.n != t->matrix_rows) {
        if (t->shape.dim[0] != t->matrix_rows)
            return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' has more than two dimensions",
                           LB_FMT(w->name));
        t->shape.dim[0] = t->rows.n;
    }
    return st;
}

/* Tools that quantize a Conv1D make a linear layer of it first, whose matrix lies the other way:
 * GPTQModel (pack: Conv1D is transposed), transformers with bitsandbytes (source_cls is Conv1D).
 * The others know linear layers only. */
static lb_status set_upright(const lb_ctensors *c, const lb_weight *w, lb_ctensor *t, lb_err *err) {
    if (w->enc.kind < LB_ENC_FOREIGN || c->world != LB_WORLD_HF || !lb_arch_is_conv1d(t->match.row))
        return LB_OK;
    if (w->enc.kind < LB_ENC_BNB_NF4)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s': which way the codes of a Conv1D lie is not known for this "
                       "method",
                       LB_FMT(w->name));
    t->upright = true;
    return LB_OK;
}

static lb_status add_tensor(lb_plan *p, lb_ctensors *c, u32 weight, lb_err *err) {
    const lb_weight *w = &c->source->weights[weight];
    const lb_tensor *stored = &c->source->tensors[w->part[0]];
    lb_dtype_class cls = lb_dtype_get(stored->dtype)->cls;
    lb_arch_match m;
    lb_ctensor t = {.dtype = stored->dtype, .weight = weight, .first_row = true};
    t.quantized = w->enc.kind != LB_ENC_PLAIN || cls == LB_CLASS_BLOCK;
    t.carried = !t.quantized && (cls == LB_CLASS_INT || cls == LB_CLASS_OPAQUE);
    t.extra = c->world == LB_WORLD_GGUF ? 0 : (u8)lb_arch_find_extra(&c->hp, w->name);
    t.known = c->arch && !t.extra && lb_arch_find(c->arch, &c->hp, c->world, w->name, &m);
    if (t.known)
        t.extra = (u8)m.extra;
    c->n_extra[t.extra]++;
    if (c->world == LB_WORLD_GGUF) {
        if (lb_str_starts(w->name, LB_STR(LB_ORIG_PREFIX)))
            return LB_OK;
        if (!t.known)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "tensor '%.*s' has no place in the %s family: it would be lost",
                           LB_FMT(w->name), lb_arch_name(c->arch));
    }
    if (!t.known) {
        LB_TRY(set_shape(c, w, &t, err));
        return push(c, &t, err);
    }
    lb_arch_seen_add(&c->seen, &m, &w->shape);
    if (m.row->relayout == LB_RL_MADE)
        return add_dropped(p, c, w->name, err);
    for (u32 i = 0; i < m.n_rows; i++) {
        t.match = m;
        t.match.row = m.row + i;
        t.match.n_rows = 1;
        t.first_row = i == 0;
        LB_TRY(set_upright(c, w, &t, err));
        LB_TRY(set_shape(c, w, &t, err));
        LB_TRY(push(c, &t, err));
    }
    return LB_OK;
}

lb_status lb_ctensor_of(const lb_ctensors *c, u32 weight, const lb_arch_match *row, lb_ctensor *out,
                        lb_err *err) {
    const lb_weight *w = &c->source->weights[weight];
    *out = (lb_ctensor){.weight = weight,
                        .known = true,
                        .match = *row,
                        .first_row = true,
                        .dtype = c->source->tensors[w->part[0]].dtype};
    out->quantized = w->enc.kind != LB_ENC_PLAIN || lb_dtype_get(out->dtype)->cls == LB_CLASS_BLOCK;
    return set_shape(c, w, out, err);
}

static void find_main_dtype(lb_ctensors *c) {
    u64 bytes[LB_DTYPE_COUNT] = {0}, quantized = 0, best = 0;
    c->main_dtype = LB_BF16;
    for (u64 i = 0; i < c->n_tensors; i++) {
        const lb_ctensor *t = &c->tensors[i];
        const lb_shape *shape = &c->source->weights[t->weight].shape;
        u64 n = 0;
        if (!t->first_row || t->extra || shape->rank < 2 || t->carried ||
            !lb_shape_elems(shape, &n))
            continue;
        if (t->quantized || !lb_ctensor_is_float(t->dtype))
            quantized += n;
        else
            bytes[t->dtype] += n;
    }
    for (u32 d = 0; d < LB_DTYPE_COUNT; d++)
        if (bytes[d] > best) {
            best = bytes[d];
            c->main_dtype = (lb_dtype)d;
        }
    if (quantized > best)
        c->main_dtype = LB_BF16;
}

lb_status lb_ctensors_build(lb_plan *p, u32 source_index, lb_ctensors *c, lb_err *err) {
    const lb_source *s = p->graph.sources[source_index];
    *c = (lb_ctensors){.source = s, .source_index = source_index};
    LB_TRY(find_family(p, c, err));
    if (s->format == LB_FORMAT_GGUF && !c->arch) {
        if (err)
            *err = c->arch_err;
        return c->arch_err.code;
    }
    for (u64 i = 0; i < s->n_weights; i++) {
        LB_TRY(lb_interrupt_check(err));
        LB_TRY(add_tensor(p, c, (u32)i, err));
    }
    /* the name of that matrix is the one of q, k and v of attention in one, too */
    if (c->seen.count[LB_ROLE_LINEAR_Q] > c->hp.n_recurrent)
        return lb_fail(err, LB_E_FORMAT,
                       "%llu layers have matrices of linear attention, the model has %llu such "
                       "layers (files of this family made with --fuse-qkv are not supported)",
                       (unsigned long long)c->seen.count[LB_ROLE_LINEAR_Q],
                       (unsigned long long)c->hp.n_recurrent);
    if (c->arch && !c->seen.count[LB_ROLE_OUTPUT])
        c->hp.tied |= c->hp.may_tie;
    else
        c->hp.may_tie = false;
    find_main_dtype(c);
    return LB_OK;
}

void lb_ctensors_deinit(lb_ctensors *c) {
    lb_free(c->tensors);
    c->tensors = NULL;
    c->n_tensors = c->cap_tensors = 0;
}

void lb_ctensor_stored(lb_plan *p, const lb_ctensors *c, const lb_ctensor *t, lb_piece *out) {
    const lb_weight *w = &c->source->weights[t->weight];
    *out = (lb_piece){
        .node = lb_expr_read(&p->graph, c->source_index, w), .shape = w->shape, .dtype = t->dtype};
}

static u64 cols_of(const lb_graph *g, lb_node_id x) {
    return x == LB_NODE_NONE ? 0 : lb_graph_node(g, x)->n_cols;
}

lb_status lb_ctensor_slice(lb_plan *p, const lb_ctensors *c, const lb_ctensor *t, u32 expert,
                           bool keep_vector, lb_piece *out, lb_err *err) {
    const lb_weight *w = &c->source->weights[t->weight];
    lb_graph *g = &p->graph;
    bool all = expert == LB_NO_INDEX || t->n_stack == 1;
    bool sliced = !all || t->rows.n != t->matrix_rows;
    bool by_channel = lb_relayout_by_channel(lb_ctensor_relayout(c, t));
    u64 n_elems;
    *out = (lb_piece){.shape = t->shape, .dtype = t->dtype};
    if (t->shape.rank == 1 && (sliced || keep_vector))
        out->node = lb_expr_read_as(g, c->source_index, w, t->n_stack * t->matrix_rows, 1);
    else if (by_channel && t->matrix_rows && lb_shape_elems(&w->shape, &n_elems))
        out->node =
            lb_expr_read_as(g, c->source_index, w, t->matrix_rows, n_elems / t->matrix_rows);
    else
        out->node = lb_expr_read(g, c->source_index, w);
    if (all && t->n_stack > 1)
        out->shape = w->shape;
    if (sliced)
        out->node = lb_expr_runs(g, out->node, (all ? 0 : expert * t->matrix_rows) + t->rows.from,
                                 t->rows.run, t->rows.step, t->rows.n);
    if (t->cols.n && (t->cols.run != 1 || cols_of(g, out->node) % t->cols.step != 0))
        return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s': columns in runs", LB_FMT(w->name));
    if (t->cols.n) {
        out->node = lb_expr_every(g, lb_expr_decode(g, out->node), t->cols.from, t->cols.step);
        out->values = true;
    }
    return LB_OK;
}

lb_status lb_ctensor_piece(lb_plan *p, const lb_ctensors *c, const lb_ctensor *t, u32 expert,
                           bool keep_vector, lb_piece *out, lb_err *err) {
    const lb_weight *w = &c->source->weights[t->weight];
    lb_relayout_in in = {&p->graph, &c->hp, lb_ctensor_relayout(c, t),
                         t->known ? t->match.suffix : 0, w->name};
    LB_TRY(
        lb_ctensor_slice(p, c, t, expert, keep_vector || lb_relayout_moves_rows(in.op), out, err));
    return lb_relayout_apply(&in, true, out, err);
}

const char *lb_ctensor_loss(const lb_ctensors *c, const lb_ctensor *t, lb_world world) {
    if (t->match.suffix == LB_SUFFIX_BIAS)
        return NULL;
    lb_relayout to = lb_arch_row_relayout(t->match.row, world);
    return lb_relayout_same_change(lb_ctensor_relayout(c, t), to) ? NULL : lb_relayout_loss(to);
}

lb_node_id lb_piece_encode(lb_plan *p, const lb_ctensor *t, const lb_piece *x, lb_dtype dtype) {
    lb_node_id n = x->node;
    if (!x->values && (t->quantized || x->dtype != dtype))
        n = lb_expr_decode(&p->graph, n);
    return lb_expr_encode(&p->graph, n, dtype);
}

lb_status lb_piece_matrices(lb_plan *p, const lb_piece *x, lb_node_id **out, u32 *n, lb_err *err) {
    lb_graph *g = &p->graph;
    LB_TRY(lb_graph_status(g, err));
    const lb_node *s = lb_graph_node(g, x->node);
    u64 n_mats = x->shape.rank > 2 ? x->shape.dim[0] : 1;
    *n = 0;
    if (s->kind != LB_NODE_INDEX || s->op != LB_INDEX_STACK || n_mats < 2 ||
        s->n_rows % n_mats != 0 || s->n_in % n_mats != 0)
        return LB_OK;
    u64 rows = s->n_rows / n_mats;
    *out = lb_arena_new(&p->perm, lb_node_id, n_mats);
    if (!*out)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
    for (*n = 0; *n < n_mats; ++*n)
        (*out)[*n] = lb_expr_rows(g, x->node, *n * rows, 1, rows);
    return lb_graph_status(g, err);
}

lb_str lb_ctensor_hf_name(const lb_ctensors *c, const lb_ctensor *t, u32 expert, lb_arena *perm) {
    lb_arch_match m = t->match;
    lb_str name = c->source->weights[t->weight].name;
    if (!t->known)
        return name;
    if (c->world == LB_WORLD_HF && expert == LB_NO_INDEX)
        return lb_arch_inner_name(&c->hp, name, perm);
    if (expert != LB_NO_INDEX)
        m.expert = expert;
    return lb_arch_tensor_name(m.row, LB_WORLD_HF, &m, perm);
}

lb_status lb_ctensor_original(const lb_ctensors *c, const lb_ctensor *t, lb_arena *perm,
                              const lb_weight **out, lb_err *err) {
    *out = NULL;
    if (c->world != LB_WORLD_GGUF || !t->known || t->n_stack != 1)
        return LB_OK;
    lb_str hf = lb_ctensor_hf_name(c, t, LB_NO_INDEX, perm);
    lb_str name = lb_arena_printf(perm, LB_ORIG_PREFIX "%.*s", LB_FMT(hf));
    if (!hf.ptr || !name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    const lb_weight *w = lb_source_weight(c->source, name);
    if (w && !lb_shape_eq(&w->shape, &t->shape))
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' does not have the shape of '%.*s'",
                       LB_FMT(name), LB_FMT(c->source->weights[t->weight].name));
    *out = w;
    return LB_OK;
}

/* The type that a GGUF of ours recorded for a tensor that it had to store as F32. */
static bool recorded_dtype(const lb_ctensors *c, lb_str name, lb_dtype *out) {
    const lb_gguf_kv *kv = c->source->gguf ? lb_meta_find(c->source->gguf, LB_KEY_HF_DTYPES) : NULL;
    if (!kv || kv->type != LB_GGUF_ARRAY || kv->elem != LB_GGUF_STR)
        return false;
    for (u64 i = 0; i < kv->n; i++) {
        lb_str s;
        if (lb_kv_elem_str(kv, i, &s) && s.len > name.len && lb_str_starts(s, name) &&
            s.ptr[name.len] == ' ')
            return lb_dtype_find(lb_str_sub(s, name.len + 1, s.len), out) &&
                   lb_ctensor_is_float(*out);
    }
    return false;
}

bool lb_ctensor_keeps_f32(const lb_ctensor *t) {
    return t->known && (t->match.row->flags & LB_ROW_HF_F32);
}

lb_dtype lb_ctensor_hf_dtype(const lb_ctensors *c, const lb_ctensor *t, lb_str name, u32 rank) {
    lb_dtype recorded;
    if (c->world == LB_WORLD_GGUF && recorded_dtype(c, name, &recorded))
        return recorded;
    bool forced = c->world == LB_WORLD_GGUF && t->known && t->dtype == LB_F32 &&
                  !lb_ctensor_keeps_f32(t) &&
                  lb_arch_gguf_is_f32(t->match.row, t->match.suffix, rank);
    return t->quantized ? LB_DTYPE_COUNT : forced ? c->main_dtype : t->dtype;
}
