/* SPDX-License-Identifier: Apache-2.0 */
/* merge_importance.c: entries of an importance matrix, by the names of GGUF and in its order of
 * columns, for tensors in Hugging Face's form. */
#include "ops/merge_importance.h"
#include "format/imatrix.h"
#include "ops/relayout.h"

lb_status lb_merge_importance_open(lb_source **out, const char *path, lb_err *err) {
    lb_fds *fds = NULL;
    LB_TRY(lb_imatrix_open(out, path, err));
    lb_status st = lb_fds_new(&fds, (*out)->files, (*out)->n_files, 1, err);
    const lb_imatrix *im = (*out)->imatrix;
    for (u64 i = 0; st == LB_OK && i < im->n_entries; i++)
        st = lb_imatrix_check(*out, fds, &im->entries[i], err);
    lb_fds_free(&fds);
    if (st != LB_OK)
        lb_source_close(out);
    return st;
}

static const lb_weight *weight_of(const lb_source *s, const lb_imatrix_entry *e) {
    for (u64 i = 0; i < s->n_weights; i++)
        if (s->tensors[s->weights[i].part[0]].off_bytes == e->off_bytes)
            return &s->weights[i];
    return NULL;
}

/* sum / count of each matrix, [n_mats, n_cols]; 1 where a GGUF has no count, the value as it stands
 * where a legacy file has none (lb_imatrix_values). */
static lb_status means(lb_plan *p, u32 file, const lb_imatrix_entry *e, u64 n_mats, lb_node_id *out,
                       lb_err *err) {
    lb_graph *g = &p->graph;
    const lb_source *s = g->sources[file];
    const lb_weight *w = weight_of(s, e);
    LB_ASSERT(w);
    float *by = lb_arena_new(&p->perm, float, 2 * n_mats), *more = by + n_mats;
    if (!by)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the importance of a merge");
    for (u64 i = 0; i < n_mats; i++) {
        float count = e->counts[e->n_counts == n_mats ? i : 0];
        by[i] = count > 0 ? count : 1;
        more[i] = count > 0 || s->imatrix->legacy ? 0 : 1;
    }
    lb_node_id x = lb_expr_decode(g, lb_expr_read_as(g, file, w, n_mats, e->n_values / n_mats));
    if (n_mats == 1) {
        x = lb_expr_map1(g, LB_MAP_DIV_C, x, LB_CONST(by[0]));
        *out = more[0] != 0 ? lb_expr_map1(g, LB_MAP_ADD_C, x, LB_CONST(1)) : x;
        return LB_OK;
    }
    x = lb_expr_map2(g, LB_MAP_DIV, x, lb_expr_const(g, n_mats, 1, by), LB_CONST(0));
    *out = lb_expr_map2(g, LB_MAP_ADD, x, lb_expr_const(g, n_mats, 1, more), LB_CONST(0));
    return LB_OK;
}

static lb_status misfit(const lb_source *s, const lb_imatrix_entry *e, const lb_merge_fact *f,
                        lb_err *err) {
    char shape[LB_SHAPE_TEXT];
    return lb_fail(
        err, LB_E_FORMAT,
        "%s: importance of '%.*s' has %llu values, which is not what tensor '%.*s' of %s "
        "takes: it is of another model",
        s->path, LB_FMT(e->name), (unsigned long long)e->n_values, LB_FMT(f->name),
        lb_shape_text(&f->shape, shape));
}

/* The vector in the order of Hugging Face's columns. */
static lb_status in_order(lb_plan *p, const lb_merge_view *v, const lb_arch_match *m, lb_str name,
                          lb_node_id *x, lb_err *err) {
    lb_relayout r = lb_arch_row_relayout(m->row, LB_WORLD_GGUF);
    if (!lb_relayout_moves_cols(r))
        return LB_OK;
    lb_piece piece = {.node = *x, .shape = {2, {1, 0}}, .values = true, .dtype = LB_F32};
    lb_relayout_in in = {&p->graph, &v->canon.hp, r, m->suffix, name};
    LB_TRY(lb_relayout_apply(&in, true, &piece, err));
    *x = piece.node;
    return LB_OK;
}

/* An entry that is for a tensor. */
typedef struct found {
    const lb_source *file;
    const lb_imatrix_entry *e;
    const lb_merge_fact *fact;
    lb_arch_match m;
    u64 n_mats;
} found;

/* The vectors as they stand for a tensor of this shape. */
static lb_status spread(lb_graph *g, const found *k, lb_node_id *x, lb_err *err) {
    const lb_shape *shape = &k->fact->shape;
    u64 rows, cols;
    lb_shape_matrix(shape, &rows, &cols);
    if (shape->rank == 2 && lb_arch_is_conv1d(k->m.row)) {
        if (k->n_mats != 1 || k->e->n_values != rows)
            return misfit(k->file, k->e, k->fact, err);
        *x = lb_expr_transpose(g, *x);
        return LB_OK;
    }
    if (k->e->n_values != k->n_mats * cols)
        return misfit(k->file, k->e, k->fact, err);
    if (k->n_mats > 1 && shape->rank == 3)
        *x =
            lb_expr_strides(g, *x, &(lb_strides){.run = 1, .n = rows / k->n_mats, .jump = 1}, rows);
    else if (k->n_mats > 1)
        *x = lb_expr_rows(g, *x, k->m.expert, 1, 1);
    return LB_OK;
}

lb_status lb_merge_importance_make(lb_plan *p, u32 file, const lb_merge_view *v, u32 fact,
                                   lb_node_id *out, lb_err *err) {
    found k = {.file = p->graph.sources[file], .fact = &v->facts[fact], .n_mats = 1};
    u64 rows, cols;
    *out = LB_NODE_NONE;
    if (!v->canon.arch)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "%s: importance is found by the names of GGUF, and the family of the models "
                       "is not known",
                       k.file->path);
    if (!lb_arch_find(v->canon.arch, &v->canon.hp, LB_WORLD_HF, k.fact->name, &k.m))
        return LB_OK;
    lb_str name = lb_arch_tensor_name(k.m.row, LB_WORLD_GGUF, &k.m, &p->perm);
    if (!name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the importance of a merge");
    k.e = name.len ? lb_imatrix_find(k.file->imatrix, name) : NULL;
    if (!k.e)
        return LB_OK;
    lb_shape_matrix(&k.fact->shape, &rows, &cols);
    if (k.fact->shape.rank == 3)
        k.n_mats = k.fact->shape.dim[0];
    else if (k.m.expert != LB_NO_INDEX && k.e->n_values % cols == 0)
        k.n_mats = k.e->n_values / cols;
    if (k.n_mats == 0 || k.e->n_values % k.n_mats ||
        (k.e->n_counts != 1 && k.e->n_counts != k.n_mats) ||
        (k.m.expert != LB_NO_INDEX && k.m.expert >= k.n_mats))
        return misfit(k.file, k.e, k.fact, err);
    LB_TRY(means(p, file, k.e, k.n_mats, out, err));
    LB_TRY(spread(&p->graph, &k, out, err));
    return in_order(p, v, &k.m, k.fact->name, out, err);
}
