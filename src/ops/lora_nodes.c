/* SPDX-License-Identifier: Apache-2.0 */
/* lora_nodes.c: B and A brought into the canonical layout, then added.
 *
 * A pair stands in the orientation of a linear layer, [out, in]. The canonical matrix is that, but
 * for a Conv1D's, which is the transposed: there the factors change places. Rows of B go the way of
 * the rows of the adapter's tensor: its part, back to the canonical order. */
#include "ops/lora_nodes.h"
#include <math.h>

static lb_status shape_fault(const lb_lora_where *w, lb_str module, u64 rows, u64 cols,
                             lb_err *err) {
    char text[LB_SHAPE_TEXT];
    return lb_fail(
        err, LB_E_FORMAT,
        "'%.*s': the adapter's matrix is [%llu, %llu], '%.*s' of the base model %s: is it "
        "another model's?",
        LB_FMT(module), (unsigned long long)rows, (unsigned long long)cols, LB_FMT(w->name),
        lb_shape_text(&w->before.shape, text));
}

static void to_values(const lb_lora_where *w, lb_piece *x) {
    if (!x->values)
        x->node = lb_expr_decode(&w->plan->graph, x->node);
    x->values = true;
}

static bool is_turned(const lb_lora_where *w, const lb_lora_input *in, const lb_lora_term *t,
                      u64 n_rows, u64 n_cols) {
    bool truth = false;
    const lb_shape *s = &w->before.shape;
    if (t->row)
        return lb_arch_is_conv1d(t->row);
    /* of a family that is not known: as PEFT says where the shape does not */
    if (s->rank == 2 && s->dim[0] == n_cols && s->dim[1] == n_rows && n_rows != n_cols)
        return true;
    return s->rank == 2 && s->dim[0] == s->dim[1] &&
           lb_json_as_bool(lb_json_get(in->adapter->config, "fan_in_fan_out"), &truth) && truth;
}

/* The rows of a module's n rows that the canonical matrix has. */
static lb_status rows_of(const lb_lora_pair *x, u64 n, lb_part_rows *out, lb_err *err) {
    lb_world world = lb_adapter_world(x->adapter->form);
    *out = (lb_part_rows){0, 1, 1, n};
    if (!x->row)
        return LB_OK;
    u64 heads = lb_arch_is_flat(x->row, world) ? lb_arch_n_stack(x->row, x->hp) : 1;
    if (heads == 0 || n % heads)
        return lb_fail(err, LB_E_FORMAT, "'%.*s': %llu rows are no %llu heads",
                       LB_FMT(x->part->module), (unsigned long long)n, (unsigned long long)heads);
    LB_TRY(lb_arch_part_rows((lb_part)x->row->part[world], x->hp, n / heads, out, err));
    if (heads > 1 && x->expert != LB_NO_INDEX)
        out->from += x->expert * (n / heads);
    return LB_OK;
}

/* A matrix or vector with a row for each of the module's n, to those of the canonical matrix. */
static lb_status take_rows(const lb_lora_pair *x, u64 n, lb_piece *piece, lb_err *err) {
    lb_part_rows rows;
    lb_world world = lb_adapter_world(x->adapter->form);
    LB_TRY(rows_of(x, n, &rows, err));
    if (rows.n != n)
        piece->node = lb_expr_runs(x->g, piece->node, rows.from, rows.run, rows.step, rows.n);
    piece->shape.dim[0] = rows.n;
    if (!x->row)
        return LB_OK;
    lb_relayout op = lb_arch_row_relayout(x->row, world);
    lb_relayout_in rl = {x->g, x->hp, op, LB_SUFFIX_WEIGHT, x->part->module};
    if (lb_relayout_moves_rows(op))
        return lb_relayout_apply(&rl, true, piece, err);
    if (op == LB_RL_TRANSPOSE && world != LB_WORLD_HF && !lb_arch_is_conv1d(x->row))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "'%.*s': the base tensor is stored in a form that adapters cannot follow",
                       LB_FMT(x->part->module));
    return LB_OK;
}

lb_status lb_lora_pair_factors(const lb_lora_pair *x, lb_piece *left, lb_piece *right,
                               lb_err *err) {
    const lb_adapter_part *p = x->part;
    u64 e = x->expert != LB_NO_INDEX ? x->expert : 0;
    lb_adapter_factors f = lb_adapter_factors_of(x->adapter, p, e, x->g, x->source);
    *left = (lb_piece){
        .node = f.left, .values = true, .shape = {.rank = 2, .dim = {f.n_rows, p->rank}}};
    *right = (lb_piece){
        .node = f.right, .values = true, .shape = {.rank = 2, .dim = {p->rank, f.n_cols}}};
    LB_TRY(take_rows(x, f.n_rows, left, err));
    if (!x->row)
        return LB_OK;
    lb_relayout op = lb_arch_row_relayout(x->row, lb_adapter_world(x->adapter->form));
    lb_relayout_in rl = {x->g, x->hp, op, LB_SUFFIX_WEIGHT, p->module};
    return lb_relayout_moves_cols(op) ? lb_relayout_apply(&rl, true, right, err) : LB_OK;
}

static lb_lora_pair pair_of(const lb_lora_where *w, const lb_lora_input *in,
                            const lb_lora_term *t) {
    return (lb_lora_pair){.g = &w->plan->graph,
                          .hp = &w->base->hp,
                          .adapter = in->adapter,
                          .source = in->source,
                          .part = t->part,
                          .row = t->stored ? NULL : t->row,
                          .expert = w->expert};
}

/* ---- DoRA ---- */

static const char *root(const lb_formula *f, const double *dot, u32 n, double *out) {
    (void)f;
    (void)n;
    out[0] = sqrt(dot[0]);
    return NULL;
}

/* Rows of y get the lengths m, the lengths that they had being those of x. */
static lb_node_id with_lengths(lb_graph *g, lb_node_id y, lb_node_id x, lb_node_id m) {
    static const lb_formula length = {.name = "length", .run = root, .n_out = 1};
    lb_node_id norm = lb_expr_row_formula(g, &x, 1, &length, 0);
    norm = lb_expr_map1(g, LB_MAP_OR_ONE, norm, LB_CONST(0));
    lb_node_id factor = lb_expr_map2(g, LB_MAP_DIV, m, norm, LB_CONST(0));
    return lb_expr_map2(g, LB_MAP_MUL, factor, y, LB_CONST(0));
}

/* by_col: the magnitude is of the columns, of a matrix that lies so. */
static lb_status add_length(const lb_lora_where *w, const lb_lora_input *in, const lb_lora_term *t,
                            bool by_col, lb_node_id sum_of_base, lb_node_id *y, lb_err *err) {
    lb_graph *g = &w->plan->graph;
    const lb_weight *v = &in->adapter->source->weights[t->part->magnitude];
    u64 n = 0;
    if (!lb_shape_elems(&v->shape, &n))
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is too large", LB_FMT(v->name));
    lb_piece m = {.node = lb_expr_decode(g, lb_expr_read_as(g, in->source, v, n, 1)),
                  .values = true,
                  .shape = {.rank = 1, .dim = {n}}};
    lb_lora_pair pair = pair_of(w, in, t);
    LB_TRY(take_rows(&pair, n, &m, err));
    if (!by_col) {
        *y = with_lengths(g, *y, sum_of_base, m.node);
        return LB_OK;
    }
    lb_node_id turned = lb_expr_transpose(g, *y);
    lb_node_id base = sum_of_base == *y ? turned : lb_expr_transpose(g, sum_of_base);
    *y = lb_expr_transpose(g, with_lengths(g, turned, base, m.node));
    return LB_OK;
}

/* ---- the terms ---- */

static lb_status add_sum(const lb_lora_where *w, const lb_lora_input *in, const lb_lora_term *t,
                         lb_piece *piece, lb_err *err) {
    lb_graph *g = &w->plan->graph;
    const lb_adapter_part *p = t->part;
    lb_lora_pair pair = pair_of(w, in, t);
    lb_piece before = w->before, left, right;
    float scale = (float)(t->part->scale * in->scale);
    if (p->n_stack > 1 && (w->expert == LB_NO_INDEX || w->expert >= p->n_stack))
        return lb_fail(err, LB_E_FORMAT,
                       "'%.*s' has %llu matrices, for '%.*s' of the base model there is another "
                       "number",
                       LB_FMT(p->module), (unsigned long long)p->n_stack, LB_FMT(w->name));
    LB_TRY(lb_lora_pair_factors(&pair, &left, &right, err));
    u64 rows = left.shape.dim[0], cols = right.shape.dim[1];
    bool turned = is_turned(w, in, t, rows, cols);
    lb_node_id b = left.node, a = right.node;
    if (turned) {
        b = lb_expr_transpose(g, right.node);
        a = lb_expr_transpose(g, left.node);
    }
    const lb_shape *s = &piece->shape;
    if (s->rank != 2 || s->dim[0] != (turned ? cols : rows) || s->dim[1] != (turned ? rows : cols))
        return shape_fault(w, t->part->module, rows, cols, err);
    bool first = before.node == piece->node;
    to_values(w, piece);
    to_values(w, &before);
    lb_node_id y = lb_expr_lowrank(g, piece->node, b, a, scale);
    if (t->part->magnitude != LB_ADAPTER_ABSENT) {
        lb_node_id own = first ? y : lb_expr_lowrank(g, before.node, b, a, scale);
        bool by_col = turned || (t->part->embedding && in->adapter->form == LB_ADAPTER_PEFT);
        LB_TRY(add_length(w, in, t, by_col, own, &y, err));
    }
    piece->node = y;
    return lb_graph_status(g, err);
}

static lb_status add_bias(const lb_lora_where *w, const lb_lora_input *in, const lb_lora_term *t,
                          lb_piece *piece, lb_err *err) {
    lb_graph *g = &w->plan->graph;
    const lb_weight *v = &in->adapter->source->weights[t->part->bias];
    u64 n = t->part->n_out;
    lb_piece x = {.node = lb_expr_decode(g, lb_expr_read_as(g, in->source, v, n, 1)),
                  .values = true,
                  .shape = {.rank = 1, .dim = {n}}};
    lb_lora_pair pair = pair_of(w, in, t);
    LB_TRY(take_rows(&pair, n, &x, err));
    if (piece->shape.rank != 1 || piece->shape.dim[0] != x.shape.dim[0])
        return shape_fault(w, v->name, n, 1, err);
    to_values(w, piece);
    LB_TRY(lb_graph_status(g, err));
    if (lb_graph_node(g, piece->node)->n_rows == 1 && n > 1)
        x.node = lb_expr_transpose(g, x.node);
    piece->node = lb_expr_map2(g, LB_MAP_FMA_C, x.node, piece->node,
                               LB_CONST((float)(t->part->scale * in->scale)));
    return lb_graph_status(g, err);
}

/* The tensor of the adapter in the canonical form, found as one of the base model would be. */
static lb_status canonical_value(const lb_lora_where *w, const lb_lora_input *in,
                                 const lb_lora_term *t, bool column, lb_piece *out, lb_err *err) {
    const lb_source *s = in->adapter->source;
    const lb_weight *v = &s->weights[t->value->weight];
    lb_graph *g = &w->plan->graph;
    if (t->stored || !t->row) {
        *out = (lb_piece){.node = lb_expr_read(g, in->source, v),
                          .shape = v->shape,
                          .dtype = s->tensors[v->part[0]].dtype};
        if (column && v->shape.rank == 1)
            out->node = lb_expr_read_as(g, in->source, v, v->shape.dim[0], 1);
        return lb_graph_status(g, err);
    }
    lb_ctensors own = *w->base;
    lb_ctensor x;
    own.source = s;
    own.source_index = in->source;
    own.world = lb_adapter_world(in->adapter->form);
    lb_arch_match m = {.row = t->row,
                       .n_rows = 1,
                       .layer = LB_NO_INDEX,
                       .expert = t->expert,
                       .mtp = LB_NO_INDEX,
                       .suffix = w->suffix};
    LB_TRY(lb_ctensor_of(&own, t->value->weight, &m, &x, err));
    u32 e = x.n_stack > 1 ? w->expert : LB_NO_INDEX;
    return lb_ctensor_piece(w->plan, &own, &x, e, column, out, err);
}

static bool is_vocab(const lb_lora_where *w) {
    return w->row && (w->row->role == LB_ROLE_TOKEN_EMBD || w->row->role == LB_ROLE_OUTPUT);
}

static lb_status put_value(const lb_lora_where *w, const lb_lora_input *in, const lb_lora_term *t,
                           lb_piece *piece, lb_err *err) {
    lb_graph *g = &w->plan->graph;
    lb_piece x;
    char a[LB_SHAPE_TEXT], b[LB_SHAPE_TEXT];
    LB_TRY(lb_graph_status(g, err));
    bool column = piece->shape.rank == 1 && piece->shape.dim[0] != 1 &&
                  lb_graph_node(g, piece->node)->n_cols == 1;
    LB_TRY(canonical_value(w, in, t, column, &x, err));
    bool longer = is_vocab(w) && x.shape.rank == 2 && piece->shape.rank == 2 &&
                  x.shape.dim[1] == piece->shape.dim[1]; /* tokens were added */
    if (!longer && !lb_shape_eq(&x.shape, &piece->shape))
        return lb_fail(
            err, LB_E_FORMAT, "'%.*s': the adapter's tensor is %s, that of the base model %s",
            LB_FMT(t->value->name), lb_shape_text(&x.shape, a), lb_shape_text(&piece->shape, b));
    if (!lb_expr_is_stored_as(g, x.node, piece->dtype))
        to_values(w, &x);
    x.dtype = piece->dtype;
    *piece = x;
    return lb_graph_status(g, err);
}

#define TOKENS_MAX 4096

/* x with some rows 0, and a sum of rank n in which each of them is one of A's rows: exact. */
static lb_status put_rows(const lb_lora_where *w, const lb_lora_input *in, const lb_lora_term *t,
                          lb_piece *piece, lb_err *err) {
    lb_graph *g = &w->plan->graph;
    const lb_adapter_value *v = t->value;
    const lb_weight *rows = &in->adapter->source->weights[v->weight];
    u64 n = v->n_rows, n_vocab = piece->shape.rank == 2 ? piece->shape.dim[0] : 0;
    if (n_vocab == 0 || rows->shape.dim[1] != piece->shape.dim[1])
        return shape_fault(w, v->name, n, rows->shape.dim[1], err);
    if (n > TOKENS_MAX)
        return lb_fail(err, LB_E_LIMIT, "'%.*s': more than %d tokens in trainable_token_indices",
                       LB_FMT(v->name), TOKENS_MAX);
    lb_arena a = {0};
    float *keep = lb_arena_new(&a, float, n_vocab), *unit = lb_arena_new(&a, float, (n + 1) * n);
    u64 *which = lb_arena_new(&a, u64, n_vocab);
    lb_status st = keep && unit && which ? LB_OK
                                         : lb_fail(err, LB_E_NOMEM, "out of memory for %llu tokens",
                                                   (unsigned long long)n);
    for (u64 i = 0; i < n_vocab && st == LB_OK; i++) {
        keep[i] = 1;
        which[i] = n; /* a row of zeros */
    }
    for (u64 i = 0; i < (n + 1) * n && st == LB_OK; i++)
        unit[i] = i / n == i % n;
    for (u64 i = 0; i < n && st == LB_OK; i++) {
        if (v->rows[i] >= n_vocab || which[v->rows[i]] != n)
            st = lb_fail(err, LB_E_FORMAT, "'%.*s': trainable_token_indices: token %llu of %llu%s",
                         LB_FMT(v->name), (unsigned long long)v->rows[i],
                         (unsigned long long)n_vocab, v->rows[i] < n_vocab ? " twice" : "");
        else {
            keep[v->rows[i]] = 0;
            which[v->rows[i]] = i;
        }
    }
    if (st == LB_OK) {
        to_values(w, piece);
        lb_node_id b = lb_expr_gather(g, lb_expr_const(g, n + 1, n, unit), which, n_vocab);
        lb_node_id x = lb_expr_map2(g, LB_MAP_MUL, lb_expr_const(g, n_vocab, 1, keep), piece->node,
                                    LB_CONST(0));
        piece->node =
            lb_expr_lowrank(g, x, b, lb_expr_decode(g, lb_expr_read(g, in->source, rows)), 1);
        st = lb_graph_status(g, err);
    }
    lb_arena_deinit(&a);
    return st;
}

lb_status lb_lora_node(const lb_lora_where *w, const lb_lora_input *in, const lb_lora_term *t,
                       lb_piece *piece, lb_err *err) {
    switch (t->what) {
    case LB_LORA_VALUE:
        return put_value(w, in, t, piece, err);
    case LB_LORA_ROWS:
        return put_rows(w, in, t, piece, err);
    case LB_LORA_SUM:
        return add_sum(w, in, t, piece, err);
    case LB_LORA_BIAS:
        break;
    }
    return add_bias(w, in, t, piece, err);
}
