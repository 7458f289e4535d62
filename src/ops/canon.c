/* SPDX-License-Identifier: Apache-2.0 */
/* canon.c: the architecture tables asked about one source. */
#include "ops/canon.h"
#include "ops/relayout.h"
#include "plan/expr.h"

static lb_world world_of(const lb_source *s) {
    switch (s->format) {
    case LB_FORMAT_GGUF:
        return LB_WORLD_GGUF;
    case LB_FORMAT_MLX:
        return LB_WORLD_MLX;
    default:
        return LB_WORLD_HF;
    }
}

lb_status lb_canon_init(lb_canon *out, const lb_source *s, lb_arena *perm, lb_err *err) {
    lb_err unknown = {0};
    lb_json *config = NULL;
    lb_status st = LB_OK;
    *out = (lb_canon){.world = world_of(s)};
    if (s->gguf) {
        bool has_output = lb_source_tensor(s, LB_STR("output.weight")) != NULL;
        st = lb_arch_from_gguf(s->gguf, has_output, &out->arch, &out->hparams, &unknown);
    } else if (s->config.len) {
        LB_TRY(lb_json_parse(s->config, "config.json", perm, &config, err));
        st = lb_arch_from_config(config, &out->arch, &out->hparams, &unknown);
    }
    if (st == LB_E_NOMEM)
        return lb_fail(err, LB_E_NOMEM, "%s", unknown.msg);
    if (st != LB_OK)
        out->arch = NULL;
    return LB_OK;
}

/* Where Hugging Face fuses or stacks, a matrix has no name of its own there: "NAME[3][q]". */
static lb_str full_name(const lb_arch_match *m, lb_arena *perm) {
    static const char *const parts[] = {
        [LB_PART_ALL] = "",        [LB_PART_Q] = "[q]",         [LB_PART_K] = "[k]",
        [LB_PART_V] = "[v]",       [LB_PART_GROUP_Q] = "[q]",   [LB_PART_GROUP_K] = "[k]",
        [LB_PART_GROUP_V] = "[v]", [LB_PART_FIRST] = "[first]", [LB_PART_SECOND] = "[second]",
        [LB_PART_EVEN] = "[even]", [LB_PART_ODD] = "[odd]",     [LB_PART_NOPE] = "[k]",
        [LB_PART_VALUE] = "[v]",   [LB_PART_SSM_Q] = "[q]",     [LB_PART_SSM_K] = "[k]",
        [LB_PART_SSM_V] = "[v]",   [LB_PART_NET_Q] = "[q]",     [LB_PART_NET_K] = "[k]",
        [LB_PART_NET_V] = "[v]",   [LB_PART_NET_Z] = "[z]"};
    const char *part = parts[m->row->part[LB_WORLD_HF]];
    lb_str name = lb_arch_tensor_name(m->row, LB_WORLD_HF, m, perm);
    bool stacked = lb_arch_is_stacked(m->row, LB_WORLD_HF) && m->expert != LB_NO_INDEX;
    if (!name.ptr || (!*part && !stacked))
        return name;
    return stacked ? lb_arena_printf(perm, "%.*s[%u]%s", LB_FMT(name), m->expert, part)
                   : lb_arena_printf(perm, "%.*s%s", LB_FMT(name), part);
}

/* How the world holds what it is. */
static void set_layout(const lb_canon *c, const lb_arch_match *m, lb_canon_weight *out) {
    lb_relayout r = lb_arch_row_relayout(m->row, c->world);
    u64 rows, cols;
    if (c->world == LB_WORLD_GGUF)
        out->heads = lb_arch_relayout_heads(r, &c->hparams);
    if (m->suffix != LB_SUFFIX_BIAS)
        out->change = lb_relayout_change(r);
    lb_shape_matrix(&out->shape, &rows, &cols);
    if (out->shape.rank == 1)
        rows = cols;
    bool by_cols = lb_relayout_moves_cols(r);
    bool moved = lb_relayout_order(r, &c->hparams, by_cols ? cols : rows, &out->order);
    out->moved = moved && !by_cols;
    out->moved_cols = moved && by_cols;
}

/* Codes of a Conv1D lie the other way (ctensor.c). */
static bool is_transposed(const lb_canon *c, const lb_weight *w, const lb_arch_match *m) {
    bool upright =
        c->world == LB_WORLD_HF && w->enc.kind >= LB_ENC_BNB_NF4 && lb_arch_is_conv1d(m->row);
    return m->suffix != LB_SUFFIX_BIAS &&
           (upright || lb_arch_row_relayout(m->row, c->world) == LB_RL_TRANSPOSE);
}

/* The canonical tensor of one row; of a stack, of one expert. */
static lb_status one(const lb_canon *c, const lb_weight *w, const lb_arch_match *m, lb_arena *perm,
                     lb_canon_weight *out, lb_err *err) {
    out->may_lack = m->row->relayout == LB_RL_MADE || m->row->role == LB_ROLE_DROPPED ||
                    m->extra != LB_EXTRA_NONE;
    for (u32 world = 0; world <= LB_WORLD_GGUF; world++)
        out->may_lack |= lb_arch_is_left_out(m, (lb_world)world, &c->hparams);
    out->cut_vocab = (m->row->flags & LB_ROW_CUT_VOCAB) != 0;
    if (m->row->hf.len == 0)
        return LB_OK;
    lb_arch_match first = lb_arch_first_form(c->arch, m); /* all forms have its name */
    out->name = full_name(&first, perm);
    if (!out->name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    out->transposed = is_transposed(c, w, m) && out->shape.rank == 2;
    if (out->transposed)
        out->shape = (lb_shape){.rank = 2, .dim = {out->shape.dim[1], out->shape.dim[0]}};
    set_layout(c, m, out);
    return LB_OK;
}

/* Matrices of a stack times rows of the table. Falls back to the weight as it is stored where it
 * cannot be cut so (another shape). */
static lb_status cut(const lb_canon *c, const lb_weight *w, const lb_arch_match *m, lb_arena *perm,
                     lb_canon_weight *out, u64 *n, lb_err *err) {
    bool stacked = lb_arch_is_stacked(m->row, c->world);
    u64 n_stack = stacked && w->shape.rank ? w->shape.dim[0] : 1, rows, cols, k = 0;
    lb_shape shape = w->shape;
    if (lb_arch_is_flat(m->row, c->world)) {
        n_stack = lb_arch_n_stack(m->row, &c->hparams);
        shape.dim[0] /= n_stack;
    } else if (stacked && shape.rank) {
        shape.rank--;
        memmove(shape.dim, w->shape.dim + 1, shape.rank * sizeof shape.dim[0]);
    }
    lb_relayout_shape(lb_arch_row_relayout(m->row, c->world), &shape);
    lb_shape_matrix(&shape, &rows, &cols);
    if (shape.rank == 1)
        rows = cols;
    for (u64 e = 0; e < n_stack; e++)
        for (u32 i = 0; i < m->n_rows; i++) {
            lb_arch_match x = *m;
            lb_part_rows part;
            x.row += i;
            x.expert = stacked ? (u32)e : m->expert;
            if (i && x.row->part[c->world] == LB_PART_ALL)
                continue; /* another form of the first */
            lb_part of = (lb_part)x.row->part[c->world];
            bool by_cols = of != LB_PART_ALL && shape.rank == 2 &&
                           lb_arch_row_relayout(x.row, c->world) == LB_RL_TRANSPOSE;
            if (lb_arch_part_rows(of, &c->hparams, by_cols ? cols : rows, &part, NULL) != LB_OK ||
                (shape.rank > 2 && shape.dim[0] != rows) || (by_cols && part.run != 1)) {
                *n = 1;
                return LB_OK;
            }
            if (by_cols) {
                out[k] = (lb_canon_weight){.weight = out[0].weight,
                                           .name = w->name,
                                           .shape = {.rank = 2, .dim = {rows, part.n}},
                                           .first_row = e * rows,
                                           .n_rows = rows,
                                           .col_from = part.from,
                                           .col_step = part.step};
                LB_TRY(one(c, w, &x, perm, &out[k++], err));
                continue;
            }
            out[k] = (lb_canon_weight){.weight = out[0].weight,
                                       .channels = shape.rank > 2 ? rows : 0,
                                       .name = w->name,
                                       .shape = shape,
                                       .first_row = e * rows + part.from,
                                       .n_rows = part.n,
                                       .run = part.run == part.step ? 0 : part.run,
                                       .step = part.step};
            if (part.n != rows)
                out[k].shape.dim[0] = part.n;
            LB_TRY(one(c, w, &x, perm, &out[k++], err));
        }
    *n = k;
    return LB_OK;
}

/* Whether the weight holds as many matrices as the model has experts or heads. */
static bool has_stack(const lb_canon *c, const lb_weight *w, const lb_arch_tensor *row) {
    u64 n = lb_arch_n_stack(row, &c->hparams);
    if (lb_arch_is_flat(row, c->world))
        return w->shape.rank == 2 && n != 0 && w->shape.dim[0] % n == 0;
    return w->shape.rank != 0 && w->shape.dim[0] == n;
}

lb_status lb_canon_find(const lb_canon *c, const lb_source *s, u64 weight, lb_arena *perm,
                        lb_canon_weight **out, u64 *n, lb_err *err) {
    const lb_weight *w = &s->weights[weight];
    lb_arch_match m;
    bool extra = c->world != LB_WORLD_GGUF && lb_arch_find_extra(&c->hparams, w->name);
    bool known = c->arch && !extra && lb_arch_find(c->arch, &c->hparams, c->world, w->name, &m);
    bool stacked = known && lb_arch_is_stacked(m.row, c->world);
    bool whole = !known || (m.n_rows == 1 && !stacked && m.row->part[c->world] == LB_PART_ALL) ||
                 (stacked && !has_stack(c, w, m.row));
    u64 room = whole ? 1 : (stacked ? lb_arch_n_stack(m.row, &c->hparams) : 1) * m.n_rows;
    *n = 1;
    *out = lb_arena_new(perm, lb_canon_weight, room);
    if (!*out)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    (*out)[0] =
        (lb_canon_weight){.weight = weight, .name = w->name, .shape = w->shape, .may_lack = extra};
    if (!known)
        return LB_OK;
    if (whole) {
        lb_shape *shape = &(*out)[0].shape;
        lb_relayout_shape(lb_arch_row_relayout(m.row, c->world), shape);
        if (shape->rank == 3 && shape->dim[1] == 1)
            (*out)[0].channels = shape->dim[0];
    }
    return whole ? one(c, w, &m, perm, *out, err) : cut(c, w, &m, perm, *out, n, err);
}
