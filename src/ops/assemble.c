/* SPDX-License-Identifier: Apache-2.0 */
/* assemble.c: groups canonical tensors by the name of what they become, then makes each.
 *
 * A tensor that is stored as the world wants it is one segment, read whole; a stack of experts (or
 * of heads) has one segment an expert (and part), so that no tile crosses from one to the next. */
#include "ops/assemble.h"
#include "base/interrupt.h"
#include "base/names.h"
#include "ops/lora_terms.h"
#include <stdlib.h>

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
}

static void *grown(lb_arena *perm, const void *old, u64 n, u64 want, size_t size) {
    void *p = lb_arena_push_array(perm, want, size, 16);
    if (p && n)
        memcpy(p, old, n * size);
    return p;
}

typedef struct grouping {
    lb_assembly *out;
    lb_names by_name;
    lb_arena name; /* one */
    u64 place;     /* in the order */
} grouping;

static lb_str name_of(const void *list, u64 i) {
    return ((const lb_made_of *)list)[i].name;
}

/* stays: the name outlives the assembly. */
static lb_status add_group(grouping *g, lb_str name, bool stays, lb_made_of **out, lb_err *err) {
    lb_assembly *a = g->out;
    u64 i;
    if (lb_names_find(&g->by_name, name_of, a->tensor, name, &i)) {
        *out = &a->tensor[i];
        return LB_OK;
    }
    if (a->n == a->cap) {
        u64 cap = LB_MAX(a->cap + a->cap / 8, (u64)64);
        lb_made_of *t = lb_realloc(a->tensor, (size_t)cap * sizeof *t);
        if (!t)
            return oom(err);
        a->tensor = t;
        a->cap = cap;
    }
    if (!stays)
        name = lb_arena_str(&a->plan->perm, name);
    if (!name.ptr)
        return oom(err);
    *out = &a->tensor[a->n++];
    **out = (lb_made_of){.name = name, .by_table = a->by_table};
    return lb_names_put(&g->by_name, name_of, a->tensor, a->n - 1, NULL, err);
}

static lb_status add_ref(grouping *g, lb_made_of *m, u32 tensor, u32 expert, lb_err *err) {
    if (m->stored && m->n_ref)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' is there twice, in two forms",
                       LB_FMT(m->name));
    if (m->n_ref == m->cap_ref) {
        u32 cap = m->cap_ref ? 2 * m->cap_ref : 1;
        lb_made_ref *r = grown(&g->out->scratch, m->ref, m->n_ref, cap, sizeof *r);
        if (!r)
            return oom(err);
        m->ref = r;
        m->cap_ref = cap;
    }
    if (m->n_ref == 0)
        m->first = &g->out->source->tensors[tensor];
    m->ref[m->n_ref++] = (lb_made_ref){tensor, expert};
    m->last = g->place;
    return LB_OK;
}

static lb_status leave_out(grouping *g, u32 tensor, lb_err *err) {
    lb_assembly *a = g->out;
    if ((a->n_left_out & (a->n_left_out - 1)) == 0) {
        u64 cap = a->n_left_out ? 2 * a->n_left_out : 1;
        u32 *l = grown(&g->out->scratch, a->left_out, a->n_left_out, cap, sizeof *l);
        if (!l)
            return oom(err);
        a->left_out = l;
    }
    a->left_out[a->n_left_out++] = tensor;
    return LB_OK;
}

/* The tensor's row of the table as the assembly's world has it. */
static const lb_arch_tensor *row_in(const lb_assembly *a, const lb_ctensor *t) {
    return t->known ? lb_ctensor_match(a->source, t, a->world).row : t->match.row;
}

/* Two worlds with one relayout have one form: nothing is to be undone and done again. */
static bool same_relayout(const lb_assembly *a, const lb_ctensor *t) {
    return lb_arch_row_relayout(row_in(a, t), a->world) == lb_ctensor_relayout(a->source, t);
}

/* What adapters do to it. */
static lb_lora_touch touch(const lb_assembly *a, const lb_ctensor *t) {
    return lb_lora_terms_touch(a->source->terms, a->source, t);
}

/* Whether a stored stack becomes a stack as it stands. */
static bool whole_stack(const grouping *g, const lb_ctensor *t) {
    const lb_arch_tensor *row = row_in(g->out, t);
    return lb_arch_is_stacked(row, g->out->world) && t->rows.n == t->matrix_rows &&
           row->part[g->out->world] == LB_PART_ALL &&
           (same_relayout(g->out, t) ||
            (lb_relayout_is_map(lb_arch_row_relayout(row, g->out->world)) &&
             lb_relayout_is_map(lb_ctensor_relayout(g->out->source, t))));
}

/* Whether a matrix that is fused of the heads' parts is so in both worlds. */
static bool same_fusion(const grouping *g, const lb_ctensor *t) {
    const lb_arch_tensor *row = t->match.row;
    lb_world from = g->out->source->world, to = g->out->world;
    return lb_arch_is_flat(row, from) && row->part[from] == row->part[to] &&
           same_relayout(g->out, t);
}

/* The name in the other world, in g->name. ptr NULL: out of memory. */
static lb_str other_name(grouping *g, const lb_arch_match *m) {
    lb_arena_reset(&g->name);
    lb_str name = lb_arch_tensor_name(m->row, g->out->world, m, &g->name);
    if (name.ptr)
        name = lb_arch_outer_name(&g->out->source->hp, g->out->world, name, &g->name);
    return name;
}

/* As it is, under the name of the other world. */
static lb_status add_fused(grouping *g, u32 tensor, lb_err *err) {
    const lb_ctensor *t = &g->out->source->tensors[tensor];
    lb_made_of *to;
    if (!t->first_row)
        return LB_OK;
    lb_str name = other_name(g, &t->match);
    if (!name.ptr)
        return oom(err);
    LB_TRY(add_group(g, name, false, &to, err));
    to->stored = true;
    return add_ref(g, to, tensor, LB_NO_INDEX, err);
}

static bool same_part(const lb_arch_tensor *row, lb_world from, lb_world to) {
    return !(row->flags & LB_ROW_HF_CODES) && row->part[from] != LB_PART_ALL &&
           row->part[from] == row->part[to] &&
           lb_arch_is_stacked(row, from) == lb_arch_is_stacked(row, to) &&
           lb_arch_row_relayout(row, from) == LB_RL_NONE &&
           lb_arch_row_relayout(row, to) == LB_RL_NONE;
}

/* Whether the weight holds the same parts in both worlds: it goes over in one piece. */
static bool same_parts(const grouping *g, const lb_ctensor *t) {
    const lb_ctensors *c = g->out->source;
    u32 n_rows;
    const lb_arch_tensor *rows = lb_arch_rows(c->arch, &n_rows);
    lb_str name = lb_arch_row_name(t->match.row, c->world);
    for (u32 i = 0; i < n_rows; i++)
        if (lb_str_eq(lb_arch_row_name(&rows[i], c->world), name) &&
            !same_part(&rows[i], c->world, g->out->world))
            return false;
    return true;
}

static lb_status add_known(grouping *g, u32 tensor, lb_err *err) {
    const lb_ctensor *t = &g->out->source->tensors[tensor];
    lb_arch_match m = lb_ctensor_match(g->out->source, t, g->out->world);
    lb_made_of *to;
    if ((m.row->flags & LB_ROW_MLX_DROP_TIED) && g->out->world == LB_WORLD_MLX && !m.row->mlx.len &&
        !g->out->source->hp.tied)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s': the '%s' of mlx-lm always has tied embeddings",
                       LB_FMT(g->out->source->source->weights[t->weight].name),
                       lb_arch_name(g->out->source->arch));
    if (lb_arch_is_left_out(&m, g->out->world, &g->out->source->hp))
        return leave_out(g, tensor, err);
    bool changed = touch(g->out, t) != LB_LORA_LEAVES;
    if (!changed && !lb_ctensor_is_reformed(g->out->source, t) &&
        (same_fusion(g, t) || same_parts(g, t)))
        return add_fused(g, tensor, err);
    bool each = t->n_stack > 1 && (changed || !whole_stack(g, t));
    bool stacked = lb_arch_is_stacked(m.row, g->out->world);
    for (u64 e = 0; e < (each ? t->n_stack : 1); e++) {
        if (each || (t->n_stack == 1 && (m.row->flags & LB_ROW_STACK) &&
                     m.expert == LB_NO_INDEX)) /* a stack of one */
            m.expert = (u32)e;
        lb_str name = other_name(g, &m);
        if (!name.ptr)
            return oom(err);
        LB_TRY(add_group(g, name, false, &to, err));
        to->stacked |= stacked;
        LB_TRY(add_ref(g, to, tensor, each ? (u32)e : LB_NO_INDEX, err));
    }
    return LB_OK;
}

static lb_status add_stored(grouping *g, u32 tensor, lb_err *err) {
    const lb_ctensors *c = g->out->source;
    const lb_ctensor *t = &c->tensors[tensor];
    lb_world world = g->out->world;
    lb_made_of *to;
    if (!t->first_row)
        return LB_OK;
    if (t->known && world != LB_WORLD_HF && lb_arch_is_left_out(&t->match, world, &c->hp))
        return leave_out(g, tensor, err);
    lb_str stored = c->source->weights[t->weight].name, name = stored;
    lb_arena_reset(&g->name);
    bool inner = !lb_extra_is_beside((lb_extra)t->extra);
    if (inner && (c->text_only || world != c->world))
        name = lb_arch_inner_name(&c->hp, name, &g->name);
    if (name.ptr && inner && world != c->world)
        name = lb_arch_outer_name(&c->hp, world, name, &g->name);
    if (!name.ptr)
        return oom(err);
    LB_TRY(add_group(g, name, name.ptr == stored.ptr, &to, err));
    to->stored = !t->upright;
    return add_ref(g, to, tensor, LB_NO_INDEX, err);
}

/* ---- completeness ---- */

static u32 expert_of(const lb_ctensors *c, const lb_made_ref *r) {
    const lb_ctensor *t = &c->tensors[r->tensor];
    return r->expert != LB_NO_INDEX         ? r->expert
           : t->match.expert != LB_NO_INDEX ? t->match.expert
                                            : 0;
}

typedef struct sort_key {
    u32 expert, row;
    lb_made_ref ref;
} sort_key;

static int by_expert_and_row(const void *a, const void *b) {
    const sort_key *x = a, *y = b;
    if (x->expert != y->expert)
        return x->expert < y->expert ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* How many different parts the table has for a name of the world. A row that takes all of it is
 * another form. */
static u32 count_parts(const lb_ctensors *c, lb_world world, const lb_arch_tensor *row) {
    u32 n_rows, seen = 0, n = 0;
    const lb_arch_tensor *rows = lb_arch_rows(c->arch, &n_rows);
    lb_str name = lb_arch_row_name(row, world);
    if (row->part[world] == LB_PART_ALL)
        return 1;
    for (u32 i = 0; i < n_rows; i++)
        if (rows[i].part[world] != LB_PART_ALL &&
            lb_str_eq(lb_arch_row_name(&rows[i], world), name) &&
            !(seen & 1u << rows[i].part[world])) {
            seen |= 1u << rows[i].part[world];
            n++;
        }
    return n;
}

/* One stored stack that stays one. */
static bool is_stored_stack(const lb_made_of *m) {
    return m->n_ref == 1 && m->ref[0].expert == LB_NO_INDEX && m->first->n_stack > 1;
}

static lb_status put_in_order(grouping *g, lb_made_of *m, lb_err *err) {
    if (m->stored || (m->n_ref == 1 &&
                      row_in(g->out, m->first)->part[g->out->world] == LB_PART_ALL && !m->stacked))
        return LB_OK;
    u32 n_parts = count_parts(g->out->source, g->out->world, row_in(g->out, m->first));
    u64 n_stack = m->stacked ? lb_arch_n_stack(m->first->match.row, &g->out->source->hp) : 1;
    if (is_stored_stack(m) || n_stack == 0)
        n_stack = 1;
    sort_key *keys = lb_alloc(m->n_ref * sizeof *keys);
    if (!keys)
        return oom(err);
    for (u32 i = 0; i < m->n_ref; i++)
        keys[i] = (sort_key){expert_of(g->out->source, &m->ref[i]),
                             (u32)(g->out->source->tensors[m->ref[i].tensor].match.row -
                                   m->first->match.row + 0x10000),
                             m->ref[i]};
    qsort(keys, m->n_ref, sizeof *keys, by_expert_and_row);
    lb_status st = LB_OK;
    for (u32 i = 0; i < m->n_ref; i++) {
        if (st == LB_OK && keys[i].expert != i / n_parts)
            st = lb_fail(
                err, LB_E_FORMAT, "tensor '%.*s': a part of %s %u is missing or is there twice",
                LB_FMT(m->name), m->first->match.row->flags & LB_ROW_HEAD ? "head" : "expert",
                LB_MIN(keys[i].expert, i / n_parts));
        m->ref[i] = keys[i].ref;
    }
    lb_free(keys);
    if (st == LB_OK && m->n_ref != n_parts * n_stack)
        st = lb_fail(err, LB_E_FORMAT,
                     "tensor '%.*s': %u of the %llu matrices that it is made of are there",
                     LB_FMT(m->name), m->n_ref, (unsigned long long)(n_parts * n_stack));
    m->first = &g->out->source->tensors[m->ref[0].tensor];
    return st;
}

static int by_last(const void *a, const void *b) {
    const lb_made_of *x = a, *y = b;
    if (x->complete != y->complete)
        return x->complete < y->complete ? -1 : 1;
    const lb_arch_tensor *r = x->first->match.row, *t = y->first->match.row;
    int names = r && t && !x->by_table ? lb_str_cmp(r->hf, t->hf) : 0; /* stacks of one layer */
    return names ? names : r < t ? -1 : r > t;
}

static bool is_gathered(const lb_made_of *m) {
    return m->stacked && (m->first->match.row->flags & LB_ROW_EXPERT) && !m->stored &&
           m->first->match.expert != LB_NO_INDEX;
}

/* The reference writes the three stacks of a layer when the last matrix of all three is there. */
static lb_status complete_layers(lb_assembly *a, lb_err *err) {
    lb_map by_layer = {0};
    lb_status st = LB_OK;
    u64 *last = lb_alloc((a->n + 1) * sizeof *last), n = 0, k;
    if (!last)
        return oom(err);
    for (int pass = 0; pass < 2; pass++)
        for (u64 i = 0; i < a->n && st == LB_OK; i++) {
            lb_made_of *m = &a->tensor[i];
            lb_str layer = {(const char *)&m->first->match.layer, sizeof m->first->match.layer};
            bool existed = true;
            if (pass == 0)
                m->complete = m->last;
            if (!is_gathered(m))
                continue;
            if (!lb_map_find(&by_layer, layer, &k)) {
                st = lb_map_put(&by_layer, layer, k = n, &existed, err);
                last[n++] = 0;
            }
            if (pass == 0)
                last[k] = LB_MAX(last[k], m->last);
            else
                m->complete = last[k];
        }
    lb_map_deinit(&by_layer);
    lb_free(last);
    return st;
}

lb_status lb_assemble(lb_plan *p, const lb_ctensors *c, lb_world world, const u64 *order,
                      lb_assembly *out, lb_err *err) {
    grouping g = {.out = out};
    lb_status st = LB_OK;
    bool sorted = true;
    *out = (lb_assembly){.plan = p, .source = c, .world = world};
    out->by_table = c->arch && lb_arch_stacks_by_table(c->arch);
    for (g.place = 0; g.place < c->n_tensors && st == LB_OK; g.place++) {
        u32 i = (u32)(order ? order[g.place] : g.place);
        const lb_ctensor *t = &c->tensors[i];
        bool as_stored =
            !t->known || (world == c->world && !(t->match.row->flags & LB_ROW_HF_CODES) &&
                          !lb_ctensor_is_reformed(c, t) && touch(out, t) != LB_LORA_CANONICAL);
        st = lb_interrupt_check(err);
        if (st != LB_OK)
            break;
        st = c->left_extras & 1u << c->tensors[i].extra ? leave_out(&g, i, err)
             : as_stored                                ? add_stored(&g, i, err)
                                                        : add_known(&g, i, err);
    }
    for (u64 i = 0; i < out->n && st == LB_OK; i++) {
        st = put_in_order(&g, &out->tensor[i], err);
    }
    if (st == LB_OK)
        st = complete_layers(out, err);
    for (u64 i = 1; i < out->n && st == LB_OK; i++)
        sorted &= by_last(&out->tensor[i - 1], &out->tensor[i]) <= 0;
    if (!sorted)
        qsort(out->tensor, out->n, sizeof *out->tensor, by_last);
    lb_names_deinit(&g.by_name);
    lb_arena_deinit(&g.name);
    return st;
}

void lb_assembly_deinit(lb_assembly *a) {
    lb_free(a->tensor);
    lb_arena_deinit(&a->scratch);
    *a = (lb_assembly){0};
}

/* ---- making ---- */

/* Also where both hold the same instead of a value. */
static bool same_form(const lb_assembly *a, const lb_ctensor *t) {
    return same_relayout(a, t) ||
           lb_relayout_same_change(lb_arch_row_relayout(row_in(a, t), a->world),
                                   lb_ctensor_relayout(a->source, t));
}

static lb_status make_piece(const lb_assembly *a, const lb_made_of *m, const lb_made_ref *r,
                            lb_piece *x, lb_err *err) {
    lb_plan *p = a->plan;
    const lb_ctensors *c = a->source;
    const lb_ctensor *t = &c->tensors[r->tensor];
    lb_lora_touch change = touch(a, t);
    if (m->stored) {
        lb_ctensor_stored(p, c, t, x);
        return change == LB_LORA_LEAVES
                   ? LB_OK
                   : lb_lora_terms_apply(c->terms, c, t, r->expert, true, x, err);
    }
    lb_relayout_in in = {&p->graph, &c->hp, LB_RL_NONE, t->match.suffix, m->name};
    if (t->known)
        in.op = lb_arch_row_relayout(row_in(a, t), a->world);
    /* a vector whose rows are moved, here or between the parts, is read as a column */
    bool column = t->known && (lb_relayout_moves_rows(in.op) ||
                               lb_arch_part_is_woven((lb_part)row_in(a, t)->part[a->world]));
    if (t->known && same_form(a, t) && change == LB_LORA_LEAVES)
        return lb_ctensor_slice(p, c, t, r->expert, column, x, err);
    LB_TRY(lb_ctensor_piece(p, c, t, r->expert, column, x, err));
    if (x->changed) { /* the way back was computed: are the original bytes kept beside? */
        const lb_weight *w;
        LB_TRY(lb_ctensor_original(c, t, &p->perm, &w, err));
        if (w)
            *x = (lb_piece){.node = lb_expr_read(&p->graph, c->source_index, w),
                            .shape = t->shape,
                            .dtype = c->source->tensors[w->part[0]].dtype};
    }
    if (change != LB_LORA_LEAVES)
        LB_TRY(lb_lora_terms_apply(c->terms, c, t, r->expert, change == LB_LORA_STORED, x, err));
    return lb_relayout_apply(&in, false, x, err);
}

/* Rows add up over the parts of a matrix; matrices become one more dimension. n_rows: of the parts
 * of this matrix so far. */
static lb_status add_shape(const lb_made_of *m, u32 i, u32 n_parts, const lb_piece *x, u64 *n_rows,
                           lb_shape *out, lb_err *err) {
    *n_rows = (i % n_parts ? *n_rows : 0) + (x->shape.rank ? x->shape.dim[0] : 1);
    if (i == 0) {
        *out = x->shape;
        return LB_OK;
    }
    if (i < n_parts) { /* parts of the first matrix */
        lb_shape s = x->shape;
        if (s.rank != out->rank || s.rank == 0)
            goto differ;
        u64 rows = out->dim[0];
        out->dim[0] = s.dim[0];
        if (!lb_shape_eq(out, &s))
            goto differ;
        out->dim[0] = rows + s.dim[0];
        return LB_OK;
    }
    if (x->shape.rank != out->rank)
        goto differ;
    for (u32 d = 1; d < out->rank; d++)
        if (x->shape.dim[d] != out->dim[d])
            goto differ;
    if (i % n_parts != n_parts - 1 || out->rank == 0 || *n_rows == out->dim[0])
        return LB_OK;
differ:
    return lb_fail(err, LB_E_FORMAT,
                   "tensor '%.*s': the matrices that it is made of differ in shape",
                   LB_FMT(m->name));
}

u32 lb_assembly_rank(const lb_assembly *a, const lb_made_of *m) {
    if (m->stored)
        return a->source->source->weights[m->first->weight].shape.rank;
    return m->first->shape.rank +
           ((m->stacked && !lb_arch_is_flat(m->first->match.row, a->world)) || is_stored_stack(m));
}

/* A tensor whose parts' rows alternate: its segments are a run of each part in turn. */
typedef struct weaver {
    const lb_assembly *a;
    const lb_made_of *m;
    u32 n_parts;
    lb_dtype dtype;
    lb_made *out;
} weaver;

/* The segments of its matrix number `at`, whose parts are x. */
static lb_status weave(const weaver *w, const lb_piece *x, u32 at, lb_err *err) {
    const lb_ctensors *c = w->a->source;
    lb_part_rows part;
    u64 n_rows = 0, n_groups = 0;
    for (u32 i = 0; i < w->n_parts; i++)
        n_rows += x[i].shape.rank ? x[i].shape.dim[0] : 0;
    for (u32 i = 0; i < w->n_parts; i++) {
        const lb_ctensor *t = &c->tensors[w->m->ref[at * w->n_parts + i].tensor];
        LB_TRY(lb_arch_part_rows((lb_part)row_in(w->a, t)->part[w->a->world], &c->hp, n_rows, &part,
                                 err));
        n_groups = part.n / part.run;
        if (x[i].shape.dim[0] != part.n || n_groups * w->n_parts * (at + 1) > w->out->n_segments)
            return lb_fail(err, LB_E_FORMAT,
                           "tensor '%.*s': the matrices that it is made of differ in shape",
                           LB_FMT(w->m->name));
        for (u64 k = 0; k < n_groups; k++) {
            lb_piece run = x[i];
            run.node = lb_expr_rows(&w->a->plan->graph, x[i].node, k * part.run, 1, part.run);
            w->out->segments[(at * n_groups + k) * w->n_parts + i] =
                lb_piece_encode(w->a->plan, t, &run, w->dtype);
        }
    }
    return LB_OK;
}

/* Its segments, by the shapes of the first matrix's parts. */
static lb_status count_woven(const lb_assembly *a, const lb_made_of *m, u64 *out, lb_err *err) {
    lb_part_rows part;
    u64 n_rows = 0;
    const lb_ctensor *t = m->first;
    u32 n_parts = count_parts(a->source, a->world, row_in(a, t));
    for (u32 i = 0; i < n_parts; i++) {
        const lb_ctensor *x = &a->source->tensors[m->ref[i].tensor];
        n_rows += x->shape.rank ? x->shape.dim[0] : 0;
    }
    LB_TRY(lb_arch_part_rows((lb_part)row_in(a, t)->part[a->world], &a->source->hp, n_rows, &part,
                             err));
    *out = m->n_ref * (part.n / part.run);
    return LB_OK;
}

/* Two parts whose rows or columns alternate, made one matrix. */
static lb_status alternate(const lb_assembly *a, const lb_made_of *m, u32 at, lb_piece *x,
                           lb_err *err) {
    lb_graph *g = &a->plan->graph;
    lb_piece part[2];
    for (u32 i = 0; i < 2; i++) {
        const lb_ctensor *t = &a->source->tensors[m->ref[at + i].tensor];
        LB_TRY(make_piece(a, m, &m->ref[at + i], &part[i], err));
        bool vector = part[i].shape.rank == 1;
        bool turned = lb_arch_row_relayout(row_in(a, t), a->world) == LB_RL_TRANSPOSE;
        if ((!vector && !turned) || part[i].shape.rank > 2 || part[i].shape.rank == 0)
            return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s': rows of stored matrices in turn",
                           LB_FMT(m->name));
        if (!part[i].values)
            part[i].node = lb_expr_decode(g, part[i].node);
        if (vector && part[i].node != LB_NODE_NONE && lb_graph_node(g, part[i].node)->n_cols == 1)
            part[i].node = lb_expr_transpose(g, part[i].node);
    }
    *x = part[0];
    x->values = true;
    x->node = lb_expr_map2(g, LB_MAP_WEAVE, part[0].node, part[1].node, LB_CONST(0));
    if (!lb_shape_eq(&part[0].shape, &part[1].shape) ||
        !lb_mul_u64(x->shape.dim[x->shape.rank - 1], 2, &x->shape.dim[x->shape.rank - 1]))
        return lb_fail(err, LB_E_FORMAT,
                       "tensor '%.*s': the matrices that it is made of differ in shape",
                       LB_FMT(m->name));
    return lb_graph_status(g, err);
}

/* Matrices become a stack. */
static lb_status stack(const lb_made_of *m, u64 n, lb_shape *shape, lb_err *err) {
    if (shape->rank == LB_RANK_MAX)
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' has too many dimensions", LB_FMT(m->name));
    memmove(shape->dim + 1, shape->dim, shape->rank * sizeof shape->dim[0]);
    shape->dim[0] = n;
    shape->rank++;
    return LB_OK;
}

static lb_status make_alternating(const lb_assembly *a, const lb_made_of *m, lb_dtype dtype,
                                  lb_made *out, lb_err *err) {
    u32 n = m->n_ref / 2;
    u64 rows = 0;
    *out = (lb_made){.segments = lb_arena_new(&a->plan->perm, lb_node_id, n), .n_segments = n};
    if (!out->segments)
        return oom(err);
    for (u32 i = 0; i < n; i++) {
        lb_piece x;
        LB_TRY(alternate(a, m, 2 * i, &x, err));
        LB_TRY(add_shape(m, i, 1, &x, &rows, &out->shape, err));
        out->segments[i] = lb_piece_encode(a->plan, m->first, &x, dtype);
    }
    return m->stacked ? stack(m, n, &out->shape, err) : LB_OK;
}

bool lb_assembly_keeps(const lb_assembly *a, const lb_made_of *m, lb_repack repack, bool exact) {
    lb_part part = m->first->known ? (lb_part)row_in(a, m->first)->part[a->world] : LB_PART_ALL;
    if (lb_arch_part_is_woven(part))
        return false;
    for (u32 i = 0; i < m->n_ref; i++) {
        const lb_ctensor *t = &a->source->tensors[m->ref[i].tensor];
        const lb_weight *w = &a->source->source->weights[t->weight];
        if (!(exact ? lb_repack_is_exact : lb_repack_takes)(repack, a->source->source, w))
            return false;
        lb_relayout moves[2] = {LB_RL_NONE, LB_RL_NONE};
        if (t->known && !m->stored) {
            moves[0] = lb_ctensor_relayout(a->source, t);
            moves[1] = lb_arch_row_relayout(row_in(a, t), a->world);
        }
        for (u32 k = 0; k < 2; k++)
            if (moves[k] != LB_RL_NONE && !lb_relayout_moves_rows(moves[k]))
                return false;
    }
    return true;
}

/* The first n_rows of a tensor in one piece. */
static void cut_rows(lb_plan *p, const lb_made_of *m, u64 n_rows, lb_piece *x, lb_made *out) {
    if (m->n_ref != 1 || !x->shape.rank || n_rows >= x->shape.dim[0] || x->node == LB_NODE_NONE)
        return;
    u64 rows = lb_graph_node(&p->graph, x->node)->n_rows / x->shape.dim[0] * n_rows;
    x->node = lb_expr_rows(&p->graph, x->node, 0, 1, rows);
    out->shape.dim[0] = n_rows;
}

lb_status lb_assembly_repack(const lb_assembly *a, const lb_made_of *m, lb_repack repack,
                             u64 n_rows, lb_made *out, lb_err *err) {
    u32 n_parts =
        m->stored || m->n_ref == 1 ? 1 : count_parts(a->source, a->world, row_in(a, m->first));
    u64 rows = 0;
    *out = (lb_made){.segments = lb_arena_new(&a->plan->perm, lb_node_id, m->n_ref),
                     .n_segments = m->n_ref};
    if (!out->segments)
        return oom(err);
    for (u32 i = 0; i < m->n_ref; i++) {
        lb_piece x;
        LB_TRY(make_piece(a, m, &m->ref[i], &x, err));
        LB_TRY(add_shape(m, i, n_parts, &x, &rows, &out->shape, err));
        cut_rows(a->plan, m, n_rows, &x, out);
        out->segments[i] = lb_expr_repack(&a->plan->graph, x.node, repack);
    }
    LB_TRY(lb_graph_status(&a->plan->graph, err));
    u64 *cols = &out->shape.dim[out->shape.rank - 1];
    *cols = *cols / 32 * lb_repack_elems(repack);
    return m->stacked && !is_stored_stack(m) && !m->stored
               ? stack(m, m->n_ref / n_parts, &out->shape, err)
               : LB_OK;
}

/* A segment for each matrix of a stack that is computed so. */
static lb_status spread(const lb_assembly *a, const lb_made_of *m, const lb_piece *x,
                        lb_dtype dtype, lb_made *out, lb_err *err) {
    u32 n = 0;
    lb_node_id *list;
    if (m->n_ref == 1)
        LB_TRY(lb_piece_matrices(a->plan, x, &list, &n, err));
    for (u32 i = 0; i < n; i++)
        list[i] = lb_expr_encode(&a->plan->graph, list[i], dtype);
    if (n) {
        out->segments = list;
        out->n_segments = n;
    }
    return lb_graph_status(&a->plan->graph, err);
}

lb_status lb_assembly_make(const lb_assembly *a, const lb_made_of *m, lb_dtype dtype, u64 n_rows,
                           lb_made *out, lb_err *err) {
    lb_plan *p = a->plan;
    u32 n_parts =
        m->stored || m->n_ref == 1 ? 1 : count_parts(a->source, a->world, row_in(a, m->first));
    lb_part part = m->first->known ? (lb_part)row_in(a, m->first)->part[a->world] : LB_PART_ALL;
    bool woven = n_parts > 1 && lb_arch_part_is_woven(part);
    if (n_parts == 2 && (part == LB_PART_EVEN || part == LB_PART_ODD))
        return make_alternating(a, m, dtype, out, err);
    const weaver w = {a, m, n_parts, dtype, out};
    lb_piece parts[LB_PARTS_OF_MATRIX];
    u64 matrix_rows = 0, n_segments = m->n_ref;
    LB_ASSERT(n_parts <= LB_PARTS_OF_MATRIX);
    if (woven)
        LB_TRY(count_woven(a, m, &n_segments, err));
    *out = (lb_made){.segments = lb_arena_new(&p->perm, lb_node_id, n_segments),
                     .n_segments = (u32)n_segments};
    if (!out->segments || n_segments > UINT32_MAX)
        return oom(err);
    for (u32 i = 0; i < m->n_ref; i++) {
        const lb_ctensor *t = &a->source->tensors[m->ref[i].tensor];
        lb_piece x;
        LB_TRY(make_piece(a, m, &m->ref[i], &x, err));
        LB_TRY(add_shape(m, i, n_parts, &x, &matrix_rows, &out->shape, err));
        cut_rows(p, m, n_rows, &x, out);
        if (p->graph.err.code != LB_OK)
            return lb_graph_status(&p->graph, err);
        if (!woven) {
            out->segments[i] = lb_piece_encode(p, t, &x, dtype);
            LB_TRY(spread(a, m, &x, dtype, out, err));
            continue;
        }
        parts[i % n_parts] = x;
        if (i % n_parts == n_parts - 1)
            LB_TRY(weave(&w, parts, i / n_parts, err));
    }
    if (!m->stacked || is_stored_stack(m) || m->stored)
        return LB_OK;
    if (!lb_arch_is_flat(m->first->match.row, a->world))
        return stack(m, m->n_ref / n_parts, &out->shape, err);
    out->shape.dim[0] *= m->n_ref / n_parts;
    return LB_OK;
}
