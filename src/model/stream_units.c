/* SPDX-License-Identifier: Apache-2.0 */
/* stream_units.c: which bytes of the files belong together: each layer's matrices, each expert's,
 * and those before and behind the layers, as ranges without holes. */
#include "base/mem.h"
#include "model/graph.h"
#include "model/stream_internal.h"
#include <stdlib.h>

#define HOLE_BYTES 4096u /* between tensors that are read at once */

typedef struct piece {
    u32 unit;
    const u8 *from;
    u64 n;
} piece;

typedef struct lister {
    lb_stream *s;
    piece *list; /* heap; NULL: they are counted */
    u64 n;
} lister;

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the list of weights");
}

static const lb_mapped *file_of(const lb_mweights *w, const u8 *at, u64 n) {
    for (u32 i = 0; i < w->n_files; i++) {
        const lb_mapped *f = w->files[i];
        if (at >= f->base && (u64)(at - f->base) < f->size_bytes)
            return n <= f->size_bytes - (u64)(at - f->base) ? f : NULL;
    }
    return NULL;
}

/* ---- bytes of a matrix ---- */

static u64 row_bytes(const lb_mat *m) {
    u64 n = 0;
    if (m->kind == LB_ENC_PLAIN)
        return lb_dtype_bytes(m->dtype, m->n_cols, &n) ? n : m->row_bytes;
    return m->kind == LB_ENC_FP8 ? m->n_cols : m->n_cols * m->bits / 8;
}

static u64 scale_row_bytes(const lb_mat *m) {
    u64 n = 0, groups = m->group ? (m->n_cols + m->group - 1) / m->group : 1;
    return lb_dtype_bytes(m->scale_dtype, groups, &n) ? n : m->scale_bytes;
}

/* Rows that are `stride` apart; the last ends where it ends. */
static void add(lister *l, u32 unit, const u8 *from, u64 n_rows, u64 stride, u64 row) {
    if (!from || !n_rows || !row)
        return;
    if (l->list)
        l->list[l->n] = (piece){unit, from, (n_rows - 1) * stride + row};
    l->n++;
}

static void add_mat(lister *l, u32 unit, const lb_mat *m) {
    u64 scales = m->n_rows;
    if (m->kind == LB_ENC_FP8)
        scales = m->block_rows ? lb_ceil_div_u64(m->n_rows, m->block_rows) : 1;
    add(l, unit, m->codes, m->n_rows, m->row_bytes, row_bytes(m));
    add(l, unit, m->scale, scales, m->scale_bytes, scale_row_bytes(m));
    add(l, unit, m->bias, scales, m->scale_bytes, scale_row_bytes(m));
}

/* ---- which unit ---- */

static bool same(const lb_linear *l, const lb_mweight *w) {
    return l->w && lb_str_eq(l->w->name, w->name);
}

static bool is_experts(const lb_layer *l, const lb_mweight *w) {
    return same(&l->gate_exps, w) || same(&l->up_exps, w) || same(&l->down_exps, w);
}

static bool layer_of(const lb_model *m, lb_str name, u32 *layer) {
    size_t end = 4;
    u64 n;
    if (!lb_str_starts(name, LB_STR("blk.")))
        return false;
    while (end < name.len && name.ptr[end] != '.')
        end++;
    if (!lb_str_to_u64(lb_str_sub(name, 4, end), &n) || n >= m->p.n_layers)
        return false;
    *layer = (u32)n;
    return true;
}

u32 lb_stream_layer(const lb_stream *s, u32 layer) {
    (void)s;
    return 1 + layer;
}

u32 lb_stream_inputs(const lb_stream *s) {
    (void)s;
    return 0;
}

u32 lb_stream_head(const lb_stream *s) {
    return s->n_dense - 1;
}

u32 lb_stream_unit(const lb_stream *s, const lb_mweight *w, u32 matrix) {
    const lb_model *m = s->m;
    u32 layer, per = w->n_mats / (u32)LB_MAX(w->n_stack, (u64)1);
    if (!w->n_mats || !file_of(m->weights, w->mats[matrix * per].codes, 1))
        return LB_UNIT_NONE;
    if (layer_of(m, w->name, &layer))
        return is_experts(&m->layer[layer], w) ? s->experts_of[layer] + matrix
                                               : lb_stream_layer(s, layer);
    if (m->output.w && lb_str_eq(m->output.w->name, w->name))
        return lb_stream_head(s);
    return same(&m->layer_in_proj, w) ? lb_stream_inputs(s) : LB_UNIT_NONE;
}

bool lb_stream_is_expert(const lb_stream *s, u32 unit, u32 *layer) {
    for (u32 i = 0; unit >= s->n_dense && i < s->m->p.n_layers; i++)
        if (s->experts_of[i] != LB_UNIT_NONE && unit - s->experts_of[i] < s->n_expert) {
            *layer = i;
            return true;
        }
    return false;
}

static void list_pieces(lister *l) {
    const lb_model *m = l->s->m;
    l->n = 0;
    for (u64 i = 0; i < m->weights->n; i++) {
        const lb_mweight *w = &m->weights->list[i];
        u32 per = w->n_mats / (u32)LB_MAX(w->n_stack, (u64)1);
        for (u32 k = 0; k < w->n_mats; k++) {
            u32 unit = lb_stream_unit(l->s, w, k / LB_MAX(per, 1u));
            if (unit != LB_UNIT_NONE)
                add_mat(l, unit, &w->mats[k]);
        }
    }
}

static int by_place(const void *a, const void *b) {
    const piece *x = a, *y = b;
    if (x->unit != y->unit)
        return x->unit < y->unit ? -1 : 1;
    return x->from < y->from ? -1 : x->from > y->from;
}

/* ---- spans ---- */

/* The piece goes on where the span ends, or nearly. */
static bool joins(const lb_span *s, const piece *p, const lb_mapped *file) {
    return s->file == file &&
           (p->from <= s->from + s->n || (u64)(p->from - (s->from + s->n)) <= HOLE_BYTES);
}

static void put_span(lb_stream *s, const piece *p, const lb_mapped *file) {
    lb_unit *u = &s->unit[p->unit];
    lb_span *last = u->n_spans ? &s->span[s->n_spans - 1] : NULL;
    if (last && joins(last, p, file)) {
        last->n = LB_MAX(last->n, (u64)(p->from - last->from) + p->n);
        u->size_bytes = LB_MAX(u->size_bytes, last->at + last->n);
        return;
    }
    u64 at = (u->size_bytes + 63) / 64 * 64 + (uintptr_t)p->from % 64;
    if (!u->n_spans)
        u->first_span = (u32)s->n_spans;
    u->n_spans++;
    s->span[s->n_spans++] = (lb_span){p->from, p->n, at, file};
    u->size_bytes = at + p->n;
}

static lb_status make_spans(lb_stream *s, const lister *l, lb_err *err) {
    for (u64 i = 0; i < l->n; i++) {
        const lb_mapped *file = file_of(s->m->weights, l->list[i].from, l->list[i].n);
        if (!file)
            return lb_fail(err, LB_E_UNSUPPORTED, "weights that lie in no file");
        put_span(s, &l->list[i], file);
    }
    for (u32 i = 0; i < s->n_units; i++) {
        u64 bytes = lb_round_up(s->unit[i].size_bytes, 64);
        s->weights_bytes += bytes;
        if (i < s->n_dense)
            s->dense_bytes[i] = bytes;
        else
            s->expert_bytes = LB_MAX(s->expert_bytes, bytes);
    }
    return LB_OK;
}

/* Values, and rows of tables: of a batch at most. */
static void count_mapped(lb_stream *s) {
    const lb_model *m = s->m;
    for (u64 i = 0; i < m->weights->n; i++) {
        const lb_mweight *w = &m->weights->list[i];
        s->mapped_bytes += w->values ? w->n_rows * w->n_cols * sizeof(float) : 0;
    }
}

static lb_status make_units(lb_stream *s, lb_err *err) {
    const lb_model *m = s->m;
    u64 n = (u64)m->p.n_layers + 2;
    s->n_dense = (u32)n;
    s->n_expert = m->p.n_expert;
    s->experts_of = lb_arena_new(&s->perm, u32, m->p.n_layers);
    if (!s->experts_of)
        return oom(err);
    for (u32 i = 0; i < m->p.n_layers; i++) {
        bool has = m->layer[i].up_exps.w != NULL;
        s->experts_of[i] = has ? (u32)n : LB_UNIT_NONE;
        n += has ? m->p.n_expert : 0;
        if (n > UINT32_MAX / 2)
            return lb_fail(err, LB_E_LIMIT, "more than %u experts", UINT32_MAX / 2);
    }
    s->n_units = (u32)n;
    s->unit = lb_arena_new(&s->perm, lb_unit, n);
    s->dense_bytes = lb_arena_new(&s->perm, u64, s->n_dense);
    s->plan.kept = lb_arena_new(&s->perm, u8, s->n_dense);
    for (u32 i = 0; s->unit && i < s->n_units; i++)
        s->unit[i].slot = LB_UNIT_NONE;
    return s->unit && s->dense_bytes && s->plan.kept ? LB_OK : oom(err);
}

lb_status lb_stream_list(lb_stream *s, lb_err *err) {
    lister l = {.s = s};
    LB_TRY(make_units(s, err));
    list_pieces(&l);
    if (l.n > UINT32_MAX / 2)
        return lb_fail(err, LB_E_LIMIT, "more than %u matrices", UINT32_MAX / 2);
    s->span = lb_arena_new(&s->perm, lb_span, l.n + 1);
    l.list = lb_alloc_zero((size_t)l.n + 1, sizeof *l.list);
    lb_status st = s->span && l.list ? LB_OK : oom(err);
    if (st == LB_OK) {
        list_pieces(&l);
        qsort(l.list, l.n, sizeof *l.list, by_place);
        st = make_spans(s, &l, err);
    }
    lb_free(l.list);
    count_mapped(s);
    return st;
}
