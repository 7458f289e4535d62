/* SPDX-License-Identifier: Apache-2.0 */
/* merge_view.c: a source through the architecture table to Hugging Face's tensors. */
#include "ops/merge_view.h"
#include "base/os.h"
#include "merge/parts.h"
#include <stdlib.h>

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the tensors of a merge");
}

/* "model.layers.12.mlp": 12 */
static u32 layer_in(lb_str name) {
    u32 layer, at;
    return lb_merge_first_number(name, &layer, &at) ? layer : LB_NO_LAYER;
}

static lb_dtype dtype_of(const lb_ctensors *c, const lb_ctensor *t, lb_str name, u32 rank) {
    lb_dtype d = lb_ctensor_hf_dtype(c, t, name, rank);
    return d == LB_DTYPE_COUNT ? LB_BF16 : d;
}

/* Layers of token prediction may have an embedding and a head of their own. */
static bool is_copy_of_ends(lb_str name) {
    return lb_str_ends(name, LB_STR(".embed_tokens.weight")) ||
           lb_str_ends(name, LB_STR(".shared_head.head.weight"));
}

/* Of families that no table knows. */
static bool has_name_of_tokens(lb_str name, const lb_shape *shape) {
    static const char *const ends[] = {
        "embed_tokens.weight",   "wte.weight",     "word_embeddings.weight",
        "tok_embeddings.weight", "lm_head.weight", "embed_out.weight",
        "lm_head.bias"};
    for (u32 i = 0; i < LB_LEN(ends); i++) {
        lb_str end = lb_str_c(ends[i]);
        if (lb_str_ends(name, end) &&
            (name.len == end.len || name.ptr[name.len - end.len - 1] == '.'))
            return shape->rank == 2 || (shape->rank == 1 && lb_str_ends(end, LB_STR("bias")));
    }
    return false;
}

/* The row of the table that the tensor is; it must be known. */
static lb_arch_match match_of(const lb_ctensors *c, const lb_made_of *m) {
    lb_arch_match x = lb_ctensor_match(c, m->first, LB_WORLD_HF);
    if (m->ref[0].expert != LB_NO_INDEX)
        x.expert = m->ref[0].expert;
    return x;
}

static void set_place(const lb_ctensors *c, const lb_made_of *m, lb_merge_fact *f) {
    const lb_ctensor *t = m->first;
    const lb_arch_tensor *row = t->known ? match_of(c, m).row : NULL;
    u32 layer = t->known ? t->match.layer : layer_in(f->name);
    bool own = t->extra == LB_EXTRA_NONE || t->extra == LB_EXTRA_MTP;
    bool numbered = layer == layer_in(f->name); /* else it is counted among others */
    f->layer = own && numbered && layer != LB_NO_INDEX ? layer : LB_NO_LAYER;
    f->apart = own && !numbered;
    f->after = f->apart;
    f->same_as = LB_NO_FACT;
    f->is_buffer = lb_dtype_get(f->dtype)->cls != LB_CLASS_FLOAT;
    f->is_optional = !t->known || (row->flags & LB_ROW_OPTIONAL) ||
                     t->match.suffix == LB_SUFFIX_BIAS || t->extra != LB_EXTRA_NONE;
    if (!t->known) {
        f->is_vocab = !c->arch && has_name_of_tokens(f->name, &f->shape);
        return;
    }
    lb_role r = (lb_role)row->role;
    f->after |= r == LB_ROLE_OUTPUT || r == LB_ROLE_OUTPUT_NORM;
    f->is_vocab = r == LB_ROLE_OUTPUT || r == LB_ROLE_TOKEN_EMBD || r == LB_ROLE_LAYER_EMBD ||
                  (t->extra == LB_EXTRA_MTP && is_copy_of_ends(m->name));
}

/* The output matrix of a model that uses its embedding for one: *f names it. False: it has its own,
 * or none. */
static bool tied_output(lb_plan *p, const lb_ctensors *c, lb_merge_fact *f) {
    u32 n = 0;
    const lb_arch_tensor *rows = c->arch && c->hp.tied ? lb_arch_rows(c->arch, &n) : NULL;
    for (u32 i = 0; i < n; i++) {
        lb_arch_match m = {.row = &rows[i],
                           .n_rows = 1,
                           .layer = LB_NO_INDEX,
                           .expert = LB_NO_INDEX,
                           .mtp = LB_NO_INDEX,
                           .suffix = LB_SUFFIX_WEIGHT};
        if (rows[i].role != LB_ROLE_OUTPUT)
            continue;
        f->name = lb_arch_tensor_name(&rows[i], LB_WORLD_HF, &m, &p->perm);
        return f->name.ptr && f->name.len;
    }
    return false;
}

/* ---- names ---- */

static bool is_as_stored(const lb_ctensors *c, const lb_made_of *m) {
    return c->world == LB_WORLD_HF && !(m->first->match.row->flags & LB_ROW_HF_CODES) &&
           !lb_ctensor_is_reformed(c, m->first);
}

/* As the table has it; empty: it does not. */
static lb_str table_name(lb_plan *p, const lb_ctensors *c, const lb_made_of *m) {
    const lb_ctensor *t = m->first;
    if (!t->known || t->extra != LB_EXTRA_NONE)
        return LB_STR_NONE;
    const lb_arch_match x = match_of(c, m);
    bool by_row = is_as_stored(c, m) || lb_ctensor_is_reformed(c, t);
    return by_row ? lb_arch_tensor_name(x.row, LB_WORLD_HF, &x, &p->perm) : m->name;
}

/* Whether s, which is shorter than its name, is whole words of it. */
static bool ends_word(lb_str s) {
    return s.len == 0 || s.ptr[s.len - 1] == '.' || s.ptr[s.len] == '.';
}

static void learn(lb_merge_view *v, lb_str table, lb_str stored) {
    size_t n = table.len;
    while (table.len && stored.len && table.ptr[table.len - 1] == stored.ptr[stored.len - 1]) {
        table.len--;
        stored.len--;
    }
    for (; table.len < n && !(ends_word(table) && ends_word(stored)); table.len++)
        stored.len++;
    for (u32 i = 0; i < v->n_prefixes; i++)
        if (lb_str_eq(v->prefix[i].table, table))
            return;
    if (v->n_prefixes < LB_MERGE_PREFIXES_MAX)
        v->prefix[v->n_prefixes++] = (lb_merge_prefix){table, stored};
}

/* With the longest beginning that fits. */
static lb_str name_like(lb_plan *p, const lb_merge_view *like, lb_str table) {
    const lb_merge_prefix *best = NULL;
    for (u32 i = 0; i < like->n_prefixes; i++) {
        const lb_merge_prefix *x = &like->prefix[i];
        if (lb_str_starts(table, x->table) && (!best || x->table.len > best->table.len))
            best = x;
    }
    return best ? lb_arena_printf(&p->perm, "%.*s%.*s", LB_FMT(best->stored),
                                  LB_FMT(lb_str_sub(table, best->table.len, table.len)))
                : table;
}

typedef struct item {
    lb_merge_fact fact;
    lb_str table; /* its name there; empty: none */
    bool counted; /* of a layer of the table's */
    lb_node_id node;
} item;

static int by_name(const void *a, const void *b) {
    return lb_str_cmp(((const item *)a)->fact.name, ((const item *)b)->fact.name);
}

/* As a matrix of the tensor's own shape: where rows of a vector were moved it is a column. */
static lb_node_id upright(lb_graph *g, lb_node_id x, const lb_shape *shape) {
    u64 rows, cols;
    lb_shape_matrix(shape, &rows, &cols);
    if (x == LB_NODE_NONE || cols == 1 || rows != 1 || lb_graph_node(g, x)->n_cols != 1)
        return x;
    return lb_expr_transpose(g, lb_expr_decode(g, x));
}

/* The values of a tensor, or what is stored; of one made of several parts, these one below the
 * other. */
static lb_status node_of(lb_plan *p, const lb_made *made, lb_node_id *out, lb_err *err) {
    lb_graph *g = &p->graph;
    lb_node_id *x = made->segments;
    LB_TRY(lb_graph_status(g, err));
    for (u32 i = 0; i < made->n_segments; i++) {
        x[i] = lb_graph_node(g, x[i])->in[0];
        if (made->n_segments > 1)
            x[i] = lb_expr_decode(g, x[i]);
        if (made->n_segments > 1 && made->shape.rank == 1 && lb_graph_node(g, x[i])->n_rows == 1)
            x[i] = lb_expr_transpose(g, x[i]); /* a vector's parts follow each other, too */
    }
    *out = made->n_segments == 1 ? x[0] : lb_expr_stack(g, x, made->n_segments);
    return lb_graph_status(g, err);
}

/* What comes of the names of the table is the model's way with them, which the names that are
 * stored show. */
static lb_status name_all(lb_plan *p, const lb_assembly *a, const lb_merge_view *like,
                          lb_merge_view *v, item *out, lb_err *err) {
    for (u64 i = 0; i < a->n; i++) {
        const lb_made_of *m = &a->tensor[i];
        lb_str table = table_name(p, &v->canon, m);
        if (table.len && !lb_ctensor_is_reformed(&v->canon, m->first))
            learn(v, table, m->name);
        out[i].table = table;
    }
    for (u64 i = 0; i < a->n; i++) {
        const lb_made_of *m = &a->tensor[i];
        lb_str *name = &out[i].fact.name;
        bool reformed = lb_ctensor_is_reformed(&v->canon, m->first);
        *name = m->name;
        if (out[i].table.len && (like || reformed))
            *name = name_like(p, like ? like : v, out[i].table);
        if (!name->ptr)
            return oom(err);
    }
    return LB_OK;
}

static lb_status fill(lb_plan *p, const lb_ctensors *c, const lb_assembly *a, item *out,
                      lb_err *err) {
    for (u64 i = 0; i < a->n; i++) {
        const lb_made_of *m = &a->tensor[i];
        lb_merge_fact *f = &out[i].fact;
        lb_made made;
        f->dtype = dtype_of(c, m->first, m->name, lb_assembly_rank(a, m));
        LB_TRY(lb_assembly_make(a, m, f->dtype, UINT64_MAX, &made, err));
        LB_TRY(lb_graph_status(&p->graph, err));
        f->shape = made.shape;
        set_place(c, m, f);
        out[i].counted = m->first->known && f->layer != LB_NO_LAYER;
        LB_TRY(lb_graph_status(&p->graph, err));
        LB_TRY(node_of(p, &made, &out[i].node, err));
        out[i].node = upright(&p->graph, out[i].node, &f->shape);
    }
    return LB_OK;
}

/* A stand-in for the output matrix that a tied model lacks. */
static u64 add_tied(lb_plan *p, const lb_ctensors *c, const lb_merge_view *like, item *items,
                    u64 n) {
    lb_merge_fact f = {0};
    if (!tied_output(p, c, &f))
        return n;
    if (like)
        f.name = name_like(p, like, f.name);
    for (u64 i = 0; i < n; i++)
        if (lb_str_eq(items[i].fact.name, f.name))
            return n;
    for (u64 i = 0; i < n; i++) {
        const lb_merge_fact *e = &items[i].fact;
        if (!e->is_vocab || e->after)
            continue;
        items[n] = items[i];
        items[n].fact.name = f.name;
        items[n].fact.after = true;
        items[n].fact.is_optional = true;
        items[n].fact.same_as = (u32)i; /* until they are sorted */
        return n + 1;
    }
    return n;
}

static void take_sorted(lb_merge_view *v, item *items) {
    lb_str of = LB_STR_NONE;
    for (u32 i = 0; i < v->n; i++)
        if (items[i].fact.same_as != LB_NO_FACT)
            of = items[items[i].fact.same_as].fact.name;
    qsort(items, v->n, sizeof *items, by_name);
    for (u32 i = 0; i < v->n; i++) {
        v->facts[i] = items[i].fact;
        v->counted = items[i].counted ? i : v->counted;
        v->nodes[i] = items[i].node;
        for (u32 k = 0; items[i].fact.same_as != LB_NO_FACT && k < v->n; k++)
            if (lb_str_eq(items[k].fact.name, of))
                v->facts[i].same_as = k;
    }
}

lb_status lb_merge_view_begin(lb_plan *p, u32 source_index, lb_merge_view *v, lb_err *err) {
    *v = (lb_merge_view){0};
    LB_TRY(lb_ctensors_build(p, source_index, &v->canon, err));
    v->canon.first_forms = true; /* what is merged or compared does not depend on the form */
    v->n_layers = v->canon.hp.n_layers;
    return LB_OK;
}

lb_status lb_merge_view_make(lb_plan *p, u32 source_index, const lb_merge_view *like,
                             lb_merge_view *v, lb_err *err) {
    LB_TRY(lb_merge_view_begin(p, source_index, v, err));
    return lb_merge_view_finish(p, like, v, err);
}

lb_status lb_merge_view_finish(lb_plan *p, const lb_merge_view *like, lb_merge_view *v,
                               lb_err *err) {
    lb_assembly a = {0};
    item *items = NULL;
    lb_status st = lb_assemble(p, &v->canon, LB_WORLD_HF, NULL, &a, err);
    if (st == LB_OK) {
        items = lb_alloc_zero((size_t)a.n + 2, sizeof *items);
        v->facts = lb_arena_new(&p->perm, lb_merge_fact, a.n + 2);
        v->nodes = lb_arena_new(&p->perm, lb_node_id, a.n + 2);
        st = items && v->facts && v->nodes ? name_all(p, &a, like, v, items, err) : oom(err);
        if (st == LB_OK)
            st = fill(p, &v->canon, &a, items, err);
    }
    if (st == LB_OK) {
        v->n = (u32)add_tied(p, &v->canon, like, items, a.n);
        v->counted = v->n;
        take_sorted(v, items);
    }
    lb_free(items);
    lb_assembly_deinit(&a);
    return st;
}

lb_status lb_merge_view_raw(lb_plan *p, u32 source_index, lb_merge_view *v, lb_err *err) {
    const lb_source *s = p->graph.sources[source_index];
    *v = (lb_merge_view){.canon = {.source = s, .source_index = source_index}};
    item *items = lb_alloc_zero((size_t)s->n_weights + 1, sizeof *items);
    v->facts = lb_arena_new(&p->perm, lb_merge_fact, s->n_weights + 1);
    v->nodes = lb_arena_new(&p->perm, lb_node_id, s->n_weights + 1);
    lb_status st = items && v->facts && v->nodes ? LB_OK : oom(err);
    for (u64 i = 0; i < s->n_weights && st == LB_OK; i++) {
        const lb_weight *w = &s->weights[i];
        bool plain = w->enc.kind == LB_ENC_PLAIN || w->enc.kind == LB_ENC_VIEW;
        lb_dtype d = plain ? s->tensors[w->part[0]].dtype : LB_BF16;
        items[i].fact = (lb_merge_fact){.name = w->name,
                                        .shape = w->shape,
                                        .dtype = d,
                                        .layer = LB_NO_LAYER,
                                        .same_as = LB_NO_FACT,
                                        .is_buffer = lb_dtype_get(d)->cls != LB_CLASS_FLOAT};
        items[i].node = lb_expr_read(&p->graph, source_index, w);
        st = lb_graph_status(&p->graph, err);
    }
    if (st == LB_OK) {
        v->n = v->counted = (u32)s->n_weights;
        take_sorted(v, items);
    }
    lb_free(items);
    return st;
}

/* ---- tensors that must be equal ---- */

static const lb_tensor *tensor_of(const lb_graph *g, lb_node_id id, const lb_source **s) {
    const lb_node *n = lb_graph_node(g, id);
    if (n->kind != LB_NODE_READ || n->u.read.weight->n_parts != 1)
        return NULL;
    *s = g->sources[n->u.read.source];
    return &(*s)->tensors[n->u.read.weight->part[0]];
}

static lb_status read_piece(const lb_source *s, const lb_tensor *t, u64 at, u64 n, u8 *out,
                            lb_err *err) {
    const char *path = s->files[t->file].path;
    int fd = -1;
    LB_TRY(lb_os_open_read(path, &fd, err));
    lb_status st = lb_os_pread(fd, path, out, n, t->off_bytes + at, err);
    lb_os_close(&fd);
    return st;
}

lb_status lb_merge_view_same(const lb_graph *g, lb_node_id a, lb_node_id b, bool *same,
                             lb_err *err) {
    enum { PIECE = 256 << 10 };
    const lb_source *sa, *sb;
    const lb_tensor *x = tensor_of(g, a, &sa), *y = tensor_of(g, b, &sb);
    *same = x && y && x->dtype == y->dtype && x->size_bytes == y->size_bytes;
    u8 *room = *same ? lb_alloc(2 * (size_t)PIECE) : NULL;
    if (*same && !room)
        return oom(err);
    lb_status st = LB_OK;
    for (u64 at = 0, n; *same && st == LB_OK && at < x->size_bytes; at += n) {
        n = LB_MIN(x->size_bytes - at, (u64)PIECE);
        st = read_piece(sa, x, at, n, room, err);
        if (st == LB_OK)
            st = read_piece(sb, y, at, n, room + PIECE, err);
        *same = st == LB_OK && memcmp(room, room + PIECE, (size_t)n) == 0;
    }
    lb_free(room);
    return st;
}

void lb_merge_view_deinit(lb_merge_view *v) {
    lb_ctensors_deinit(&v->canon);
}
