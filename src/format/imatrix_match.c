/* SPDX-License-Identifier: Apache-2.0 */
/* imatrix_match.c: whether an importance matrix is of a model: names and sizes.
 *
 * llama-quantize stops at a wrong size only, and not at that of an embedding; names that do not fit
 * it passes over, and quantizes without importance. */
#include "format/imatrix.h"

static unsigned long long ull(u64 v) {
    return v;
}

bool lb_imatrix_fits(const lb_imatrix_entry *e, const lb_shape *shape) {
    u64 n_mats = 1, n;
    if (shape->rank == 0)
        return false;
    for (u32 i = 0; i + 2 < shape->rank; i++)
        if (!lb_mul_u64(n_mats, shape->dim[i], &n_mats))
            return false;
    return lb_mul_u64(n_mats, shape->dim[shape->rank - 1], &n) && n == e->n_values &&
           (e->n_counts == 1 || e->n_counts == n_mats);
}

/* "blk.12." of "blk.12.ffn_up.weight"; empty for tensors of no block. */
static lb_str block_of(lb_str name) {
    size_t i = 4;
    if (!lb_str_starts(name, LB_STR("blk.")))
        return LB_STR_NONE;
    while (i < name.len && name.ptr[i] >= '0' && name.ptr[i] <= '9')
        i++;
    return i > 4 && i < name.len && name.ptr[i] == '.' ? lb_str_sub(name, 0, i + 1) : LB_STR_NONE;
}

static bool is_mtp(lb_str name) {
    return lb_str_starts(lb_str_sub(name, block_of(name).len, name.len), LB_STR("nextn."));
}

/* Where sizes may differ or the tensor may be missing: the head is tied to the embedding in one
 * file and stands alone in another. */
static bool is_outer(lb_str name) {
    return lb_str_eq_c(name, "token_embd.weight") || lb_str_eq_c(name, "output.weight") ||
           lb_str_eq_c(name, "per_layer_token_embd.weight");
}

typedef struct match {
    const lb_source *s;
    const lb_imatrix_tensor *tensors;
    u64 n;
    lb_map by_name; /* of the model's tensors */
    lb_map blocks;  /* that need no entry, or have one */
    lb_err *err;
} match;

static lb_status other_size(const match *m, const lb_imatrix_entry *e, const lb_shape *shape) {
    char text[LB_SHAPE_TEXT];
    return lb_fail(m->err, LB_E_FORMAT,
                   "%s: an importance matrix of another model: '%.*s' has %llu values and %llu "
                   "count%s, the model's is %s",
                   m->s->path, LB_FMT(e->name), ull(e->n_values), ull(e->n_counts),
                   e->n_counts == 1 ? "" : "s", lb_shape_text(shape, text));
}

static lb_status match_entry(match *m, const lb_imatrix_entry *e, lb_imatrix_match *out) {
    u64 i;
    lb_str block = block_of(e->name);
    bool there = lb_map_find(&m->by_name, e->name, &i);
    if (there && lb_imatrix_fits(e, &m->tensors[i].shape)) {
        out->n_used++;
        return block.len ? lb_map_put(&m->blocks, block, 0, NULL, m->err) : LB_OK;
    }
    /* llama.cpp excuses the size of an embedding, not of the head */
    if (is_outer(e->name) && (!there || !lb_str_eq_c(e->name, "output.weight"))) {
        out->first_left = out->n_left++ ? out->first_left : e->name;
        return LB_OK;
    }
    if (there)
        return other_size(m, e, &m->tensors[i].shape);
    return lb_fail(m->err, LB_E_FORMAT,
                   "%s: an importance matrix of another model: it has '%.*s', the model has not",
                   m->s->path, LB_FMT(e->name));
}

/* A block whose matrices all lack an entry is one that the measured model did not have. */
static lb_status match_blocks(match *m) {
    for (u64 i = 0; i < m->n; i++)
        if (is_mtp(m->tensors[i].name))
            LB_TRY(lb_map_put(&m->blocks, block_of(m->tensors[i].name), 0, NULL, m->err));
    for (u64 i = 0; i < m->n; i++) {
        const lb_imatrix_tensor *t = &m->tensors[i];
        lb_str block = block_of(t->name);
        if (block.len == 0 || t->shape.rank < 2 || lb_map_find(&m->blocks, block, NULL))
            continue;
        return lb_fail(m->err, LB_E_FORMAT,
                       "%s: an importance matrix of another model: it has nothing for the model's "
                       "'%.*s' nor for any tensor of that block",
                       m->s->path, LB_FMT(t->name));
    }
    return LB_OK;
}

lb_status lb_imatrix_match_model(const lb_source *s, const lb_imatrix_tensor *tensors, u64 n,
                                 lb_imatrix_match *out, lb_err *err) {
    match m = {.s = s, .tensors = tensors, .n = n, .err = err};
    const lb_imatrix *im = s->imatrix;
    lb_status st = LB_OK;
    *out = (lb_imatrix_match){0};
    for (u64 i = 0; i < n; i++)
        LB_TRY_DONE(st, lb_map_put(&m.by_name, tensors[i].name, i, NULL, err));
    for (u64 i = 0; i < im->n_entries; i++)
        LB_TRY_DONE(st, match_entry(&m, &im->entries[i], out));
    if (out->n_used == 0)
        LB_TRY_DONE(st, lb_fail(err, LB_E_FORMAT,
                                "%s: an importance matrix of another model: no entry is for a "
                                "tensor of the model",
                                s->path));
    st = match_blocks(&m);
done:
    lb_map_deinit(&m.by_name);
    lb_map_deinit(&m.blocks);
    return st;
}
