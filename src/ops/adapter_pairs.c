/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_pairs.c: see adapter_pairs.h. Each part of the adapter is the rows of the table that its
 * tensor is, of each expert; each of these goes to the tensor that the row is in the other form. */
#include "ops/adapter_pairs.h"

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the matrices of an adapter");
}

static void *room(void *list, u64 n, u64 *cap, size_t size) {
    if (n < *cap)
        return list;
    u64 want = *cap ? 2 * *cap : 64;
    void *p = lb_realloc(list, (size_t)want * size);
    if (p)
        *cap = want;
    return p;
}

typedef struct maker {
    lb_adapter_pairs *x;
    lb_arena *perm;
    lb_world from, to;
} maker;

/* ---- where a matrix goes ---- */

static lb_status refuse(const lb_adapter_part *p, const char *why, lb_err *err) {
    return lb_fail(err, LB_E_UNSUPPORTED, "'%.*s': %s: fuse it", LB_FMT(p->module), why);
}

static lb_status world_name(maker *m, const lb_arch_match *at, lb_world world, lb_str *out,
                            lb_err *err) {
    lb_str end = LB_STR(".weight");
    *out = lb_arch_tensor_name(at->row, world, at, m->perm);
    if (!out->ptr)
        return oom(err);
    if (world != LB_WORLD_GGUF && lb_str_ends(*out, end))
        out->len -= end.len;
    return LB_OK;
}

static lb_status names_of(maker *m, const lb_arch_match *at, lb_adapter_pair *p, lb_err *err) {
    LB_TRY(world_name(m, at, LB_WORLD_HF, &p->module, err));
    LB_TRY(world_name(m, at, LB_WORLD_MLX, &p->mlx, err));
    return world_name(m, at, LB_WORLD_GGUF, &p->gguf, err);
}

lb_str lb_adapter_pair_name(const lb_adapter_pairs *x, const lb_adapter_pair *p) {
    return x->to == LB_ADAPTER_GGUF ? p->gguf : x->to == LB_ADAPTER_MLX ? p->mlx : p->module;
}

/* A matrix for the pair of its name. */
static lb_status add_unit(maker *m, const lb_adapter_unit *u, const lb_adapter_pair *as,
                          lb_err *err) {
    lb_adapter_pairs *x = m->x;
    u64 k = x->n;
    bool existed;
    lb_adapter_unit *units = room(x->units, x->n_units, &x->cap_units, sizeof *units);
    if (!units)
        return oom(err);
    x->units = units;
    lb_adapter_pair *pairs = room(x->pairs, x->n, &x->cap, sizeof *pairs);
    if (!pairs)
        return oom(err);
    x->pairs = pairs;
    LB_TRY(lb_map_put(&x->by_name, lb_adapter_pair_name(x, as), k, &existed, err));
    x->units[x->n_units] = *u;
    x->units[x->n_units].next = UINT32_MAX;
    if (!existed) {
        x->pairs[x->n] = *as;
        x->pairs[x->n].first = x->pairs[x->n].last = (u32)x->n_units;
        x->pairs[x->n++].n_units = 1;
    } else {
        (void)lb_map_find(&x->by_name, lb_adapter_pair_name(x, as), &k);
        lb_adapter_pair *p = &x->pairs[k];
        if (p->n_stack == 1)
            return refuse(u->part, "another matrix has the same place in the target", err);
        if (p->rank != as->rank || p->scale != as->scale || p->n_in != as->n_in ||
            p->n_out != as->n_out)
            return refuse(u->part, "the target has one rank and scale for all experts", err);
        x->units[p->last].next = (u32)x->n_units;
        p->last = (u32)x->n_units;
        p->n_units++;
    }
    x->n_units++;
    return LB_OK;
}

static bool moves_only(lb_relayout op, const lb_arch_tensor *row) {
    return op == LB_RL_NONE || op == LB_RL_ONE_ROW || lb_arch_is_conv1d(row) ||
           lb_relayout_moves_rows(op) || lb_relayout_moves_cols(op);
}

/* All parts of a fused matrix that is the same in the target, in the same order. */
static bool is_whole(const maker *m, const lb_arch_match *at, u32 n) {
    for (u32 i = 0; i < n; i++) {
        const lb_arch_tensor *r = at[i].row;
        if (r->part[m->from] != r->part[m->to] || r->part[m->to] == LB_PART_ALL ||
            (r->flags & LB_ROW_EXPERT) ||
            lb_arch_row_relayout(r, m->from) != lb_arch_row_relayout(r, m->to) ||
            lb_arch_row_relayout(r, m->to) != LB_RL_NONE ||
            !lb_str_eq(lb_arch_row_name(r, m->to), lb_arch_row_name(at[0].row, m->to)))
            return false;
    }
    return n > 0;
}

static lb_status add_row(maker *m, const lb_adapter_part *p, lb_arch_match at, lb_err *err) {
    const lb_hparams *hp = m->x->hp;
    const lb_arch_tensor *r = at.row;
    bool experts = (r->flags & LB_ROW_EXPERT) != 0, stacked = lb_arch_is_stacked(r, m->to);
    u64 n_out = p->n_out, n_stack = experts && stacked ? hp->n_expert : 1;
    u64 n = experts && at.expert == LB_NO_INDEX ? p->n_stack : 1;
    lb_part_rows rows;
    if ((r->flags & LB_ROW_STACK & ~(u32)LB_ROW_EXPERT) || r->part[m->to] != LB_PART_ALL)
        return refuse(p, "its tensor is a part of a fused one in the target", err);
    if (experts && at.expert == LB_NO_INDEX && p->n_stack != hp->n_expert)
        return lb_fail(err, LB_E_FORMAT, "'%.*s' has %llu matrices, the base model %llu experts",
                       LB_FMT(p->module), (unsigned long long)p->n_stack,
                       (unsigned long long)hp->n_expert);
    if (experts && stacked && m->to == LB_WORLD_HF)
        return refuse(p, "PEFT has experts as parameters of one module there", err);
    if (!moves_only(lb_arch_row_relayout(r, m->to), r))
        return refuse(p, "the target stores the base tensor in a form that adapters cannot follow",
                      err);
    LB_TRY(lb_arch_part_rows((lb_part)r->part[m->from], hp, n_out, &rows, err));
    for (u64 e = 0; e < n; e++) {
        lb_adapter_pair as = {.rank = p->rank,
                              .n_in = p->n_in,
                              .n_out = rows.n,
                              .scale = p->scale,
                              .embedding = r->role == LB_ROLE_TOKEN_EMBD,
                              .n_stack = n_stack};
        if (experts && at.expert == LB_NO_INDEX)
            at.expert = (u32)e;
        lb_adapter_unit u = {.part = p, .row = r, .expert = experts ? at.expert : LB_NO_INDEX};
        LB_TRY(names_of(m, &at, &as, err));
        if (lb_adapter_pair_name(m->x, &as).len == 0 || lb_arch_is_left_out(&at, m->to, hp))
            return refuse(p, "it has no tensor of its own in the target", err);
        LB_TRY(add_unit(m, &u, &as, err));
        if (n > 1)
            at.expert = LB_NO_INDEX;
    }
    return LB_OK;
}

static lb_status add_part(maker *m, const lb_adapter_part *p, lb_err *err) {
    lb_adapter_pairs *x = m->x;
    lb_adapter_unit u = {.part = p, .expert = LB_NO_INDEX};
    lb_adapter_pair as = {.module = p->module,
                          .mlx = p->module,
                          .rank = p->rank,
                          .n_in = p->n_in,
                          .n_out = p->n_out,
                          .scale = p->scale,
                          .embedding = p->embedding,
                          .n_stack = 1};
    lb_arch_match at[LB_LORA_ROWS_MAX];
    lb_str name = p->module;
    if (!x->arch)
        return p->n_stack == 1 && !p->parameter.len
                   ? add_unit(m, &u, &as, err)
                   : refuse(p, "adapters of experts want the base model: give it with --base", err);
    if (p->parameter.len)
        name = lb_arena_printf(m->perm, "%.*s.%.*s", LB_FMT(p->module), LB_FMT(p->parameter));
    else if (m->from != LB_WORLD_GGUF)
        name = lb_arena_printf(m->perm, "%.*s.weight", LB_FMT(p->module));
    if (!name.ptr)
        return oom(err);
    u32 n = lb_lora_find_rows(x->arch, x->hp, m->from, name, at);
    if (n == 0)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "'%.*s': the base model's family (%s) has no such tensor", LB_FMT(name),
                       lb_arch_name(x->arch));
    if (is_whole(m, at, n)) {
        LB_TRY(names_of(m, &at[0], &as, err));
        return add_unit(m, &u, &as, err);
    }
    for (u32 i = 0; i < n; i++)
        LB_TRY(add_row(m, p, at[i], err));
    return LB_OK;
}

static lb_status check_stacks(const lb_adapter_pairs *x, lb_err *err) {
    for (u64 i = 0; i < x->n; i++) {
        const lb_adapter_pair *p = &x->pairs[i];
        if (p->n_units != p->n_stack)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "'%.*s': %u of %llu experts have matrices: the target has all of them "
                           "in one: fuse it",
                           LB_FMT(p->module), p->n_units, (unsigned long long)p->n_stack);
    }
    return LB_OK;
}

lb_status lb_adapter_pairs_make(lb_adapter_pairs *x, lb_arena *perm, lb_err *err) {
    maker m = {x, perm, lb_adapter_world(x->adapter->form), lb_adapter_world(x->to)};
    for (u64 i = 0; i < x->adapter->n; i++)
        LB_TRY(add_part(&m, &x->adapter->parts[i], err));
    return check_stacks(x, err);
}

void lb_adapter_pairs_deinit(lb_adapter_pairs *x) {
    lb_free(x->pairs);
    lb_free(x->units);
    lb_map_deinit(&x->by_name);
    x->pairs = NULL;
    x->units = NULL;
    x->n = x->n_units = 0;
}

/* ---- their matrices ---- */

/* Left and right of a unit, rows and columns in the target's order. */
static lb_status target_factors(const lb_adapter_pairs *x, const lb_adapter_unit *u, lb_graph *g,
                                lb_piece *left, lb_piece *right, lb_err *err) {
    lb_lora_pair pair = {.g = g,
                         .hp = x->hp,
                         .adapter = x->adapter,
                         .part = u->part,
                         .row = u->row,
                         .expert = u->part->n_stack > 1 ? u->expert : LB_NO_INDEX};
    LB_TRY(lb_lora_pair_factors(&pair, left, right, err));
    if (!u->row || lb_arch_is_conv1d(u->row))
        return LB_OK;
    lb_relayout op = lb_arch_row_relayout(u->row, lb_adapter_world(x->to));
    lb_relayout_in in = {g, x->hp, op, LB_SUFFIX_WEIGHT, u->part->module};
    if (lb_relayout_moves_rows(op))
        return lb_relayout_apply(&in, false, left, err);
    return lb_relayout_moves_cols(op) ? lb_relayout_apply(&in, false, right, err) : LB_OK;
}

/* Whether the target's A or B is the left factor, and turned round. */
static void choose(const lb_adapter_pairs *x, const lb_adapter_pair *p, u32 which, bool *is_left,
                   bool *turned) {
    bool mlx = x->to == LB_ADAPTER_MLX;
    *is_left = p->embedding ? which == 0 : which == 1;
    if (p->embedding)
        *turned = x->to == LB_ADAPTER_PEFT || (x->to == LB_ADAPTER_GGUF && which == 1);
    else
        *turned = mlx && p->n_stack == 1;
}

lb_status lb_adapter_pair_nodes(const lb_adapter_pairs *x, const lb_adapter_pair *p, u32 which,
                                lb_plan *plan, lb_node_id *nodes, lb_shape *shape, lb_err *err) {
    lb_graph *g = &plan->graph;
    bool is_left, turned;
    choose(x, p, which, &is_left, &turned);
    for (u32 k = p->first; k != UINT32_MAX; k = x->units[k].next) {
        const lb_adapter_unit *u = &x->units[k];
        lb_piece left, right;
        LB_TRY(target_factors(x, u, g, &left, &right, err));
        lb_piece *f = is_left ? &left : &right;
        u64 rows = f->shape.dim[0], cols = f->shape.dim[1];
        nodes[p->n_stack > 1 ? u->expert : 0] = turned ? lb_expr_transpose(g, f->node) : f->node;
        *shape = (lb_shape){.rank = 2, .dim = {turned ? cols : rows, turned ? rows : cols}};
        if (p->n_stack > 1)
            *shape = (lb_shape){.rank = 3, .dim = {p->n_stack, rows, cols}};
    }
    return lb_graph_status(g, err);
}
