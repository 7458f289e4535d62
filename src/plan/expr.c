/* SPDX-License-Identifier: Apache-2.0 */
/* expr.c: builders of expression nodes; every shape and type fault is found here, before a plan
 * exists.
 *
 * size: one builder for each kind of node, all on the same few helpers. */
#include "plan/expr.h"
#include "kernel/select_nm.h"
#include "plan/codec.h"
#include "plan/compare.h"
#include "plan/draw.h"
#include "plan/measure.h"

static const char *const kind_names[] = {
#define LB_NODE(id, name) name,
#include "plan/node.def"
#undef LB_NODE
};

const char *lb_node_kind_name(lb_node_kind k) {
    return k < LB_NODE_KIND_COUNT ? kind_names[k] : "?";
}

bool lb_map_has_number(lb_map_op op) {
    return (op >= LB_MAP_ADD_C && op <= LB_MAP_FMA_C) ||
           (op >= LB_MAP_RDIV_C && op <= LB_MAP_ABOVE_C) || op == LB_MAP_KEEP ||
           op == LB_MAP_VARIANCE;
}

void lb_graph_init(lb_graph *g, lb_arena *arena, const lb_source *const *sources, u32 n_sources) {
    *g = (lb_graph){.arena = arena, .sources = sources, .n_sources = n_sources};
}

lb_status lb_graph_status(const lb_graph *g, lb_err *err) {
    if (g->err.code != LB_OK && err)
        *err = g->err;
    return g->err.code;
}

const lb_node *lb_graph_node(const lb_graph *g, lb_node_id id) {
    LB_ASSERT(id < g->n);
    return &g->blocks[id / LB_GRAPH_BLOCK][id % LB_GRAPH_BLOCK];
}

lb_node_id lb_graph_id(const lb_graph *g, const lb_node *n) {
    for (u32 i = 0; i < g->n_blocks; i++)
        if (n >= g->blocks[i] && n < g->blocks[i] + LB_GRAPH_BLOCK)
            return i * LB_GRAPH_BLOCK + (lb_node_id)(n - g->blocks[i]);
    LB_ASSERT(false && "a node of another graph");
    return LB_NODE_NONE;
}

/* Records the first fault; later ones follow from it. */
#define FAULT(g, status, ...)                              \
    do {                                                   \
        if ((g)->err.code == LB_OK)                        \
            (void)lb_fail(&(g)->err, status, __VA_ARGS__); \
    } while (0)

static lb_node *node_at(const lb_graph *g, lb_node_id id) {
    return &g->blocks[id / LB_GRAPH_BLOCK][id % LB_GRAPH_BLOCK];
}

static bool add_block(lb_graph *g) {
    if (g->n_blocks == g->cap_blocks) {
        u32 cap = g->cap_blocks ? 2 * g->cap_blocks : 4;
        lb_node **p =
            cap < LB_NODE_NONE / LB_GRAPH_BLOCK ? lb_arena_new(g->arena, lb_node *, cap) : NULL;
        if (!p)
            return false;
        if (g->n_blocks)
            memcpy(p, g->blocks, g->n_blocks * sizeof *p);
        g->blocks = p;
        g->cap_blocks = cap;
    }
    g->blocks[g->n_blocks] = lb_arena_new(g->arena, lb_node, LB_GRAPH_BLOCK);
    return g->blocks[g->n_blocks++] != NULL;
}

static lb_node_id push(lb_graph *g, const lb_node *n) {
    if (g->err.code != LB_OK)
        return LB_NODE_NONE;
    if (g->n == g->n_blocks * LB_GRAPH_BLOCK && !add_block(g)) {
        FAULT(g, LB_E_NOMEM, "out of memory for expression nodes");
        return LB_NODE_NONE;
    }
    *node_at(g, g->n) = *n;
    return g->n++;
}

static const lb_node_id *inputs(lb_graph *g, const lb_node_id *ids, u32 n) {
    lb_node_id *p = lb_arena_new(g->arena, lb_node_id, n);
    if (!p)
        FAULT(g, LB_E_NOMEM, "out of memory for expression nodes");
    else
        memcpy(p, ids, n * sizeof *p);
    return p;
}

/* NULL when the graph has failed or id is none. */
static const lb_node *input(lb_graph *g, lb_node_id id) {
    if (g->err.code != LB_OK)
        return NULL;
    if (id >= g->n) {
        FAULT(g, LB_E_USAGE, "expression: an input is missing");
        return NULL;
    }
    return node_at(g, id);
}

static const lb_node *input_of(lb_graph *g, lb_node_id id, lb_value v, const char *what) {
    const lb_node *n = input(g, id);
    if (n && n->value != v) {
        FAULT(g, LB_E_USAGE, "expression: %s cannot take the result of a %s node", what,
              lb_node_kind_name(n->kind));
        return NULL;
    }
    return n;
}

/* Slices of one weight come one after the other: they share the node of the weight. */
static lb_node_id read_node(lb_graph *g, u32 source, const lb_weight *w, u64 n_rows, u64 n_cols) {
    const lb_node *last = g->last_read < g->n ? node_at(g, g->last_read) : NULL;
    LB_ASSERT(source < g->n_sources);
    if (g->err.code == LB_OK && last && last->kind == LB_NODE_READ &&
        last->u.read.source == source && last->u.read.weight == w && last->n_rows == n_rows &&
        last->n_cols == n_cols)
        return g->last_read;
    lb_node n = {
        .kind = LB_NODE_READ, .value = LB_VALUE_STORED, .n_rows = n_rows, .n_cols = n_cols};
    n.u.read.source = source;
    n.u.read.weight = w;
    return g->last_read = push(g, &n);
}

/* What stands for the weight in this graph. */
static lb_node_id computed_node(lb_graph *g, u32 source, const lb_weight *w) {
    const lb_source *s = g->sources[source];
    lb_node_id x = g->computed[source][w - s->weights];
    if (x == LB_NODE_NONE)
        FAULT(g, LB_E_UNSUPPORTED, "tensor '%.*s' of a merge is not computed", LB_FMT(w->name));
    return x;
}

lb_node_id lb_expr_read(lb_graph *g, u32 source, const lb_weight *w) {
    u64 rows, cols;
    lb_shape_matrix(&w->shape, &rows, &cols);
    if (g->computed && g->computed[source])
        return computed_node(g, source, w);
    lb_node_id x = read_node(g, source, w, rows, cols);
    return w->enc.kind == LB_ENC_VIEW ? lb_expr_decode(g, x) : x;
}

/* Its values one below the other. */
static lb_node_id as_column(lb_graph *g, lb_node_id x) {
    const lb_node *n = input(g, x);
    u64 rows = n ? n->n_rows : 0;
    lb_node_id *row = rows > 1 ? lb_arena_new(g->arena, lb_node_id, rows) : NULL;
    if (rows == 1)
        return lb_expr_transpose(g, x);
    if (!row) {
        FAULT(g, LB_E_NOMEM, "out of memory for expression nodes");
        return LB_NODE_NONE;
    }
    for (u64 i = 0; i < rows; i++)
        row[i] = lb_expr_transpose(g, lb_expr_rows(g, x, i, 1, 1));
    return lb_expr_stack(g, row, (u32)rows);
}

lb_node_id lb_expr_read_as(lb_graph *g, u32 source, const lb_weight *w, u64 n_rows, u64 n_cols) {
    u64 rows, cols;
    lb_shape_matrix(&w->shape, &rows, &cols);
    if (n_rows == rows && n_cols == cols)
        return lb_expr_read(g, source, w);
    if (g->computed && g->computed[source] && n_cols == 1 && n_rows == rows * cols)
        return as_column(g, lb_expr_decode(g, computed_node(g, source, w)));
    const lb_tensor *t = &g->sources[source]->tensors[w->part[0]];
    bool plain = w->enc.kind == LB_ENC_PLAIN && lb_dtype_get(t->dtype)->block_elems == 1 &&
                 !(g->computed && g->computed[source]);
    if (!plain || n_rows * n_cols != rows * cols) {
        FAULT(g, LB_E_UNSUPPORTED, "tensor '%.*s': %scannot be read as %llu x %llu",
              LB_FMT(w->name),
              w->enc.kind == LB_ENC_VIEW ? "a view (save it with .contiguous()) " : "",
              (unsigned long long)n_rows, (unsigned long long)n_cols);
        return LB_NODE_NONE;
    }
    return read_node(g, source, w, n_rows, n_cols);
}

lb_node_id lb_expr_const(lb_graph *g, u64 n_rows, u64 n_cols, const float *values) {
    u64 n = 0;
    float *copy = NULL;
    if (lb_mul_u64(n_rows, n_cols, &n))
        copy = lb_arena_new(g->arena, float, n ? n : 1);
    if (!copy) {
        FAULT(g, LB_E_NOMEM, "out of memory for a constant of %llu values", (unsigned long long)n);
        return LB_NODE_NONE;
    }
    if (n)
        memcpy(copy, values, n * sizeof *copy);
    lb_node node = {.kind = LB_NODE_MAKE,
                    .op = LB_MAKE_CONST,
                    .value = LB_VALUE_F32,
                    .n_rows = n_rows,
                    .n_cols = n_cols};
    node.u.make.values = copy;
    return push(g, &node);
}

lb_node_id lb_expr_fill(lb_graph *g, u64 n_rows, u64 n_cols, double value) {
    lb_node node = {.kind = LB_NODE_MAKE,
                    .op = LB_MAKE_FILL,
                    .value = LB_VALUE_F32,
                    .n_rows = n_rows,
                    .n_cols = n_cols};
    node.u.make.p = value;
    return push(g, &node);
}

lb_node_id lb_expr_draw(lb_graph *g, u64 n_rows, u64 n_cols, const struct lb_draw *draw) {
    lb_node node = {.kind = LB_NODE_MAKE,
                    .op = LB_MAKE_DRAW,
                    .value = LB_VALUE_F32,
                    .n_rows = n_rows,
                    .n_cols = n_cols};
    if (!draw) {
        FAULT(g, LB_E_NOMEM, "out of memory for random values");
        return LB_NODE_NONE;
    }
    node.u.make.draw = draw;
    return push(g, &node);
}

lb_node_id lb_expr_normal(lb_graph *g, u64 n_rows, u64 n_cols, u64 seed) {
    lb_draw *d = lb_arena_new(g->arena, lb_draw, 1);
    if (d)
        *d = (lb_draw){.kind = LB_DRAW_NORMAL, .seed = seed};
    return lb_expr_draw(g, n_rows, n_cols, d);
}

u32 lb_expr_carry(lb_graph *g, u64 seed) {
    if (g->n_carries == g->cap_carries) {
        u32 cap = g->cap_carries ? g->cap_carries * 2 : 4;
        lb_carry *p = lb_arena_new(g->arena, lb_carry, cap);
        if (!p) {
            FAULT(g, LB_E_NOMEM, "out of memory for carries");
            return 0;
        }
        if (g->n_carries)
            memcpy(p, g->carries, g->n_carries * sizeof *p);
        g->carries = p;
        g->cap_carries = cap;
    }
    g->carries[g->n_carries] = (lb_carry){.seed = seed};
    return g->n_carries++;
}

static lb_node_id random_node(lb_graph *g, lb_make_op op, u64 n_rows, u64 n_cols, u32 carry) {
    lb_node node = {
        .kind = LB_NODE_MAKE, .op = op, .value = LB_VALUE_F32, .n_rows = n_rows, .n_cols = n_cols};
    u64 n_elems;
    if (carry >= g->n_carries || !lb_mul_u64(n_rows, n_cols, &n_elems)) {
        FAULT(g, LB_E_LIMIT, "random numbers: no such stream, or too many");
        return LB_NODE_NONE;
    }
    node.u.make.carry = carry;
    node.u.make.first = g->carries[carry].next;
    g->carries[carry].next += n_elems;
    return push(g, &node);
}

lb_node_id lb_expr_bernoulli(lb_graph *g, u64 n_rows, u64 n_cols, double p, u32 carry) {
    if (!(p >= 0 && p <= 1)) {
        FAULT(g, LB_E_USAGE, "random mask: the probability must lie in [0, 1]");
        return LB_NODE_NONE;
    }
    lb_node_id id = random_node(g, LB_MAKE_BERNOULLI, n_rows, n_cols, carry);
    if (id != LB_NODE_NONE)
        g->blocks[id / LB_GRAPH_BLOCK][id % LB_GRAPH_BLOCK].u.make.p = p;
    return id;
}

lb_node_id lb_expr_uniform(lb_graph *g, u64 n_rows, u64 n_cols, u32 carry) {
    return random_node(g, LB_MAKE_UNIFORM, n_rows, n_cols, carry);
}

/* A node of one input that keeps its shape. */
static lb_node_id push1(lb_graph *g, lb_node n, lb_node_id x) {
    n.n_in = 1;
    n.in = inputs(g, &x, 1);
    return push(g, &n);
}

static const lb_weight *stored_weight(const lb_graph *g, lb_node_id x) {
    const lb_node *n = node_at(g, x);
    while (n->kind != LB_NODE_READ)
        n = node_at(g, n->in[0]);
    return n->u.read.weight;
}

static const lb_source *stored_source(const lb_graph *g, lb_node_id x) {
    const lb_node *n = node_at(g, x);
    while (n->kind != LB_NODE_READ)
        n = node_at(g, n->in[0]);
    return g->sources[n->u.read.source];
}

lb_node_id lb_expr_decode(lb_graph *g, lb_node_id x) {
    const lb_node *in = input(g, x);
    if (in && in->value == LB_VALUE_F32)
        return x;
    if (!in || !input_of(g, x, LB_VALUE_STORED, "decode"))
        return LB_NODE_NONE;
    lb_codec c;
    lb_err e = {0};
    if (lb_codec_of(&c, stored_source(g, x), stored_weight(g, x), &e) != LB_OK || !c.decodes) {
        FAULT(g, e.code ? e.code : LB_E_UNSUPPORTED, "tensor '%.*s': %s",
              LB_FMT(stored_weight(g, x)->name),
              e.code ? e.msg : "this type has no values to decode");
        return LB_NODE_NONE;
    }
    return push1(g,
                 (lb_node){.kind = LB_NODE_DECODE,
                           .value = LB_VALUE_F32,
                           .n_rows = in->n_rows,
                           .n_cols = in->n_cols},
                 x);
}

static lb_node_id push_index(lb_graph *g, lb_index_op op, lb_node_id x, lb_node n) {
    const lb_node *in = input(g, x);
    if (!in)
        return LB_NODE_NONE;
    if (in->value != LB_VALUE_STORED && in->value != LB_VALUE_F32) {
        FAULT(g, LB_E_USAGE, "expression: index cannot move the result of a %s node",
              lb_node_kind_name(in->kind));
        return LB_NODE_NONE;
    }
    n.kind = LB_NODE_INDEX;
    n.op = op;
    n.value = in->value;
    return push1(g, n, x);
}

static bool is_stack(const lb_node *n) {
    return n->kind == LB_NODE_INDEX && n->op == LB_INDEX_STACK;
}

/* Neighbouring rows of a stack are those of its parts: the others need not be computed. */
static lb_node_id rows_of_stack(lb_graph *g, const lb_node *stack, u64 from, u64 n_rows) {
    lb_node_id *part = lb_arena_new(g->arena, lb_node_id, stack->n_in);
    u32 n = 0;
    if (!part)
        FAULT(g, LB_E_NOMEM, "out of memory for expression nodes");
    for (u32 i = 0; part && i < stack->n_in && n_rows && g->err.code == LB_OK; i++) {
        u64 has = node_at(g, stack->in[i])->n_rows;
        if (from >= has) {
            from -= has;
            continue;
        }
        u64 k = LB_MIN(has - from, n_rows);
        part[n++] = k == has ? stack->in[i] : lb_expr_rows(g, stack->in[i], from, 1, k);
        n_rows -= k;
        from = 0;
    }
    return g->err.code != LB_OK ? LB_NODE_NONE : n == 1 ? part[0] : lb_expr_stack(g, part, n);
}

lb_node_id lb_expr_rows(lb_graph *g, lb_node_id x, u64 from, u64 step, u64 n_rows) {
    const lb_node *in = input(g, x);
    if (!in)
        return LB_NODE_NONE;
    if (step == 0 ||
        (n_rows && (from >= in->n_rows || (n_rows - 1) > (in->n_rows - 1 - from) / step))) {
        FAULT(g, LB_E_USAGE, "slice: rows %llu.. (%llu of them, step %llu) do not lie in %llu rows",
              (unsigned long long)from, (unsigned long long)n_rows, (unsigned long long)step,
              (unsigned long long)in->n_rows);
        return LB_NODE_NONE;
    }
    if (is_stack(in) && step == 1 && n_rows)
        return rows_of_stack(g, in, from, n_rows);
    lb_node n = {.n_rows = n_rows, .n_cols = in->n_cols};
    n.u.index.from = from;
    n.u.index.step = step;
    return push_index(g, LB_INDEX_ROWS, x, n);
}

lb_node_id lb_expr_runs(lb_graph *g, lb_node_id x, u64 from, u64 run, u64 step, u64 n_rows) {
    const lb_node *in = input(g, x);
    u64 last = 0;
    if (!in)
        return LB_NODE_NONE;
    if (run == step || run == 1 || n_rows <= run)
        return lb_expr_rows(g, x, from, run == 1 ? step : 1, n_rows);
    if (run == 0 || run > step || !lb_mul_u64((n_rows - 1) / run, step, &last) ||
        !lb_add_u64(last, from, &last) || !lb_add_u64(last, (n_rows - 1) % run, &last) ||
        last >= in->n_rows) {
        FAULT(g, LB_E_USAGE, "slice: %llu rows in runs of %llu do not lie in %llu rows",
              (unsigned long long)n_rows, (unsigned long long)run, (unsigned long long)in->n_rows);
        return LB_NODE_NONE;
    }
    lb_node n = {.n_rows = n_rows, .n_cols = in->n_cols};
    n.u.index.from = from;
    n.u.index.step = step;
    n.u.index.half = run;
    return push_index(g, LB_INDEX_RUNS, x, n);
}

lb_node_id lb_expr_heads(lb_graph *g, lb_node_id x, u64 n_heads, bool inverse) {
    const lb_node *in = input(g, x);
    if (!in)
        return LB_NODE_NONE;
    if (n_heads == 0 || in->n_rows % n_heads != 0 || in->n_rows / n_heads % 2 != 0) {
        FAULT(g, LB_E_FORMAT, "%llu rows cannot be divided into %llu heads of an even size",
              (unsigned long long)in->n_rows, (unsigned long long)n_heads);
        return LB_NODE_NONE;
    }
    lb_node n = {.n_rows = in->n_rows, .n_cols = in->n_cols};
    n.u.index.half = in->n_rows / n_heads / 2;
    if (n.u.index.half <= 1) /* pairs are already neighbours */
        return x;
    return push_index(g, inverse ? LB_INDEX_UNHEADS : LB_INDEX_HEADS, x, n);
}

lb_node_id lb_expr_gather(lb_graph *g, lb_node_id x, const u64 *table, u64 n_rows) {
    const lb_node *in = input(g, x);
    u64 *copy = in ? lb_arena_new(g->arena, u64, n_rows ? n_rows : 1) : NULL;
    if (!copy) {
        FAULT(g, LB_E_NOMEM, "out of memory for a table of %llu rows", (unsigned long long)n_rows);
        return LB_NODE_NONE;
    }
    for (u64 i = 0; i < n_rows; i++) {
        if (table[i] >= in->n_rows) {
            FAULT(g, LB_E_USAGE, "gather: row %llu of %llu", (unsigned long long)table[i],
                  (unsigned long long)in->n_rows);
            return LB_NODE_NONE;
        }
        copy[i] = table[i];
    }
    lb_node n = {.n_rows = n_rows, .n_cols = in->n_cols};
    n.u.index.table = copy;
    return push_index(g, LB_INDEX_GATHER, x, n);
}

/* A copy, where its n positions lie in n_in; NULL: a fault. */
static const lb_strides *strides_copy(lb_graph *g, const lb_strides *s, u64 n, u64 n_in) {
    u64 inner, outer, last = 0;
    bool ok = s->run && s->n;
    if (ok && n) { /* the last of the longest inner loop in the last outer one bounds them all */
        u64 q = (n - 1) / s->run;
        ok = lb_mul_u64(LB_MIN(q, s->n - 1), s->step, &inner) &&
             lb_mul_u64(q / s->n, s->jump, &outer) && lb_add_u64(inner, outer, &last) &&
             lb_add_u64(last, s->from, &last) && lb_add_u64(last, LB_MIN(n, s->run) - 1, &last) &&
             last < n_in;
    }
    lb_strides *copy = ok ? lb_arena_new(g->arena, lb_strides, 1) : NULL;
    if (copy)
        *copy = *s;
    else if (ok)
        FAULT(g, LB_E_NOMEM, "out of memory for expression nodes");
    else
        FAULT(g, LB_E_USAGE, "strides: %llu positions do not lie in %llu", (unsigned long long)n,
              (unsigned long long)n_in);
    return copy;
}

lb_node_id lb_expr_strides(lb_graph *g, lb_node_id x, const lb_strides *s, u64 n_rows) {
    const lb_node *in = input(g, x);
    const lb_strides *copy = in ? strides_copy(g, s, n_rows, in->n_rows) : NULL;
    if (!copy)
        return LB_NODE_NONE;
    lb_node n = {.n_rows = n_rows, .n_cols = in->n_cols};
    n.u.index.strides = copy;
    return push_index(g, LB_INDEX_STRIDES, x, n);
}

lb_node_id lb_expr_transpose(lb_graph *g, lb_node_id x) {
    const lb_node *in = input_of(g, x, LB_VALUE_F32, "transpose");
    if (!in)
        return LB_NODE_NONE;
    if (in->kind == LB_NODE_INDEX && in->op == LB_INDEX_TRANSPOSE)
        return in->in[0];
    return push_index(g, LB_INDEX_TRANSPOSE, x,
                      (lb_node){.n_rows = in->n_cols, .n_cols = in->n_rows});
}

lb_node_id lb_expr_cols(lb_graph *g, lb_node_id x, u64 from, u64 n_cols) {
    const lb_node *in = input(g, x);
    if (!in)
        return LB_NODE_NONE;
    if (from > in->n_cols || n_cols > in->n_cols - from) {
        FAULT(g, LB_E_USAGE, "slice: columns %llu..%llu do not lie in %llu",
              (unsigned long long)from, (unsigned long long)(from + n_cols),
              (unsigned long long)in->n_cols);
        return LB_NODE_NONE;
    }
    lb_node n = {.n_rows = in->n_rows, .n_cols = n_cols};
    n.u.index.from = from;
    return push_index(g, LB_INDEX_COLS, x, n);
}

lb_node_id lb_expr_every(lb_graph *g, lb_node_id x, u64 from, u64 step) {
    const lb_node *in = input_of(g, x, LB_VALUE_F32, "every");
    if (!in)
        return LB_NODE_NONE;
    if (step == 0 || from >= step || in->n_cols % step != 0) {
        FAULT(g, LB_E_FORMAT, "%llu columns do not divide by %llu", (unsigned long long)in->n_cols,
              (unsigned long long)step);
        return LB_NODE_NONE;
    }
    lb_node n = {.n_rows = in->n_rows, .n_cols = in->n_cols / step};
    n.u.index.from = from;
    n.u.index.step = step;
    return step == 1 ? x : push_index(g, LB_INDEX_EVERY, x, n);
}

static bool scalar_ok(lb_graph *g, lb_scalar c) {
    if (c.stat == LB_NODE_NONE)
        return true;
    const lb_node *s = input_of(g, c.stat, LB_VALUE_SMALL, "a scalar");
    if (s && c.result >= s->n_cols)
        FAULT(g, LB_E_USAGE, "scalar: the stat has %llu results", (unsigned long long)s->n_cols);
    return g->err.code == LB_OK;
}

lb_node_id lb_expr_map1(lb_graph *g, lb_map_op op, lb_node_id a, lb_scalar c) {
    const lb_node *in = input_of(g, a, LB_VALUE_F32, "map");
    if (!in || !scalar_ok(g, c))
        return LB_NODE_NONE;
    lb_node n = {.kind = LB_NODE_MAP,
                 .op = op,
                 .value = LB_VALUE_F32,
                 .n_rows = in->n_rows,
                 .n_cols = in->n_cols};
    n.u.scalar = c;
    return push1(g, n, a);
}

static bool broadcast(u64 a, u64 b, u64 *out) {
    if (a != b && a != 1 && b != 1)
        return false;
    *out = a == 1 ? b : a;
    return true;
}

lb_node_id lb_expr_map2(lb_graph *g, lb_map_op op, lb_node_id a, lb_node_id b, lb_scalar c) {
    const lb_node *na = input_of(g, a, LB_VALUE_F32, "map"),
                  *nb = input_of(g, b, LB_VALUE_F32, "map");
    if (!na || !nb || !scalar_ok(g, c))
        return LB_NODE_NONE;
    lb_node n = {.kind = LB_NODE_MAP, .op = op, .value = LB_VALUE_F32};
    n.u.scalar = c;
    if (!broadcast(na->n_rows, nb->n_rows, &n.n_rows) ||
        !broadcast(na->n_cols, nb->n_cols, &n.n_cols)) {
        FAULT(g, LB_E_FORMAT, "shapes %llu x %llu and %llu x %llu do not go together",
              (unsigned long long)na->n_rows, (unsigned long long)na->n_cols,
              (unsigned long long)nb->n_rows, (unsigned long long)nb->n_cols);
        return LB_NODE_NONE;
    }
    if (op == LB_MAP_WEAVE) {
        if (na->n_rows != nb->n_rows || na->n_cols != nb->n_cols ||
            !lb_mul_u64(n.n_cols, 2, &n.n_cols)) {
            FAULT(g, LB_E_FORMAT, "matrices of different shapes do not alternate");
            return LB_NODE_NONE;
        }
    }
    n.n_in = 2;
    n.in = inputs(g, (lb_node_id[]){a, b}, 2);
    return push(g, &n);
}

lb_node_id lb_expr_choose(lb_graph *g, const lb_node_id *x, u32 n, const float *which) {
    u64 rows = 1;
    const lb_node *first = n ? input_of(g, x[0], LB_VALUE_F32, "map") : NULL;
    lb_node_id *in = first ? lb_arena_new(g->arena, lb_node_id, (u64)n + 1) : NULL;
    if (!in) {
        FAULT(g, first ? LB_E_NOMEM : LB_E_USAGE, "choose: no inputs, or out of memory for them");
        return LB_NODE_NONE;
    }
    for (u32 i = 0; i < n; i++) {
        const lb_node *y = input_of(g, x[i], LB_VALUE_F32, "map");
        if (!y)
            return LB_NODE_NONE;
        if (y->n_cols != first->n_cols || !broadcast(rows, y->n_rows, &rows)) {
            FAULT(g, LB_E_FORMAT, "choose: matrices of different shapes");
            return LB_NODE_NONE;
        }
        in[i + 1] = x[i];
    }
    for (u64 i = 0; i < rows; i++)
        LB_ASSERT(which[i] >= 0 && which[i] < (float)n);
    in[0] = lb_expr_const(g, rows, 1, which);
    lb_node node = {.kind = LB_NODE_MAP,
                    .op = LB_MAP_CHOOSE,
                    .value = LB_VALUE_F32,
                    .n_rows = rows,
                    .n_cols = first->n_cols,
                    .n_in = n + 1,
                    .in = in};
    node.u.scalar = LB_CONST(0);
    return push(g, &node);
}

lb_node_id lb_expr_row(lb_graph *g, lb_row_op op, lb_node_id x) {
    const lb_node *in = input_of(g, x, LB_VALUE_F32, "row");
    if (!in)
        return LB_NODE_NONE;
    return push1(g,
                 (lb_node){.kind = LB_NODE_ROW,
                           .op = op,
                           .value = LB_VALUE_F32,
                           .n_rows = in->n_rows,
                           .n_cols = in->n_cols},
                 x);
}

lb_node_id lb_expr_row_odds(lb_graph *g, lb_node_id x, const lb_odds *o) {
    lb_node_id id = lb_expr_row(g, LB_ROW_ODDS, x);
    if (id == LB_NODE_NONE)
        return id;
    if (node_at(g, id)->n_cols < 2) {
        FAULT(g, LB_E_USAGE, "row: ranks of rows of one value");
        return LB_NODE_NONE;
    }
    node_at(g, id)->u.odds = *o;
    return id;
}

lb_node_id lb_expr_move_cols(lb_graph *g, lb_node_id x, const lb_strides *s) {
    const lb_node *in = input_of(g, x, LB_VALUE_F32, "row");
    const lb_strides *copy = in ? strides_copy(g, s, in->n_cols, in->n_cols) : NULL;
    lb_node_id id = copy ? lb_expr_row(g, LB_ROW_MOVE, x) : LB_NODE_NONE;
    if (id != LB_NODE_NONE)
        node_at(g, id)->u.strides = copy;
    return id;
}

lb_node_id lb_expr_measure(lb_graph *g, lb_node_id x, lb_measure *m) {
    const lb_node *in = input_of(g, x, LB_VALUE_F32, "stat");
    for (u32 i = 0; i < m->n && in; i++) {
        if (lb_quant_is_hf(m->quants[i]))
            FAULT(g, LB_E_UNSUPPORTED, "the error of Hugging Face's types is not measured");
        else if (in->n_cols % lb_quant_cols(m->quants[i]))
            FAULT(g, LB_E_UNSUPPORTED, "%llu columns are no whole blocks of %u values",
                  (unsigned long long)in->n_cols, lb_quant_cols(m->quants[i]));
    }
    lb_node_id id = in ? lb_expr_stat(g, LB_STAT_ERROR, x, LB_NODE_NONE, 0) : LB_NODE_NONE;
    if (id != LB_NODE_NONE)
        node_at(g, id)->u.stat.measure = m;
    return id;
}

lb_node_id lb_expr_compare(lb_graph *g, lb_node_id a, lb_node_id b, lb_compare *c) {
    lb_node_id id = lb_expr_stat(g, LB_STAT_COMPARE, a, b, 0);
    if (id != LB_NODE_NONE)
        node_at(g, id)->u.stat.compare = c;
    return id;
}

lb_node_id lb_expr_stat(lb_graph *g, lb_stat_op op, lb_node_id a, lb_node_id b, u64 k) {
    bool two = op == LB_STAT_DOT || op == LB_STAT_COMPARE;
    const lb_node *na = input_of(g, a, LB_VALUE_F32, "stat");
    const lb_node *nb = b == LB_NODE_NONE ? na : input_of(g, b, LB_VALUE_F32, "stat");
    if (!na || !nb)
        return LB_NODE_NONE;
    if (na->n_rows != nb->n_rows || na->n_cols != nb->n_cols || (b != LB_NODE_NONE && !two)) {
        FAULT(g, LB_E_USAGE, "stat: two inputs of one shape belong to dot and compare alone");
        return LB_NODE_NONE;
    }
    if (op == LB_STAT_KTH)
        return lb_expr_select(g, a, &k, 1, NULL);
    lb_node n = {.kind = LB_NODE_STAT,
                 .op = op,
                 .value = LB_VALUE_SMALL,
                 .n_rows = 1,
                 .n_cols = op == LB_STAT_COLS ? na->n_cols : LB_STAT_RESULTS};
    n.n_in = two ? 2 : 1;
    n.in = inputs(g, (lb_node_id[]){a, b == LB_NODE_NONE ? a : b}, n.n_in);
    return push(g, &n);
}

/* Inputs, those that are stacks themselves by their parts. NULL: none, or a fault. */
static const lb_node_id *parts_of_stacks(lb_graph *g, const lb_node_id *x, u32 n, u32 *n_parts) {
    u64 all = 0;
    for (u32 i = 0; i < n; i++)
        all += is_stack(node_at(g, x[i])) ? node_at(g, x[i])->n_in : 1;
    lb_node_id *out = all < LB_NODE_NONE ? lb_arena_new(g->arena, lb_node_id, all) : NULL;
    if (!out)
        FAULT(g, LB_E_NOMEM, "out of memory for expression nodes");
    *n_parts = 0;
    for (u32 i = 0; i < n && out; i++) {
        const lb_node *s = node_at(g, x[i]);
        if (!is_stack(s))
            out[(*n_parts)++] = x[i];
        for (u32 k = 0; is_stack(s) && k < s->n_in; k++)
            out[(*n_parts)++] = s->in[k];
    }
    return out;
}

lb_node_id lb_expr_stack(lb_graph *g, const lb_node_id *x, u32 n) {
    lb_node node = {.kind = LB_NODE_INDEX, .op = LB_INDEX_STACK, .value = LB_VALUE_F32};
    for (u32 i = 0; i < n; i++) {
        const lb_node *in = input_of(g, x[i], LB_VALUE_F32, "index");
        if (!in)
            return LB_NODE_NONE;
        node.n_cols = in->n_cols;
        if (in->n_cols != lb_graph_node(g, x[0])->n_cols ||
            !lb_add_u64(node.n_rows, in->n_rows, &node.n_rows)) {
            FAULT(g, LB_E_USAGE, "index: what is stacked has as many columns each");
            return LB_NODE_NONE;
        }
    }
    if (n == 1)
        return x[0];
    node.in = parts_of_stacks(g, x, n, &node.n_in);
    return push(g, &node);
}

lb_node_id lb_expr_results(lb_graph *g, lb_node_id stat) {
    const lb_node *s = input_of(g, stat, LB_VALUE_SMALL, "a row of results");
    if (!s)
        return LB_NODE_NONE;
    return push1(g,
                 (lb_node){.kind = LB_NODE_MAKE,
                           .op = LB_MAKE_RESULTS,
                           .value = LB_VALUE_F32,
                           .n_rows = 1,
                           .n_cols = s->n_cols},
                 stat);
}

static bool moves_rows(const lb_node *n) {
    return n->kind == LB_NODE_INDEX &&
           (n->op == LB_INDEX_ROWS || n->op == LB_INDEX_HEADS || n->op == LB_INDEX_UNHEADS ||
            n->op == LB_INDEX_GATHER || n->op == LB_INDEX_RUNS || n->op == LB_INDEX_STRIDES);
}

lb_node_id lb_expr_codes(lb_graph *g, lb_node_id x) {
    const lb_node *n = input(g, x);
    if (!n || n->value == LB_VALUE_STORED)
        return x;
    if (n->kind == LB_NODE_DECODE)
        return n->in[0];
    if (!moves_rows(n))
        return LB_NODE_NONE;
    lb_node_id below = lb_expr_codes(g, n->in[0]);
    if (below == LB_NODE_NONE)
        return below;
    lb_node moved = *n;
    moved.value = LB_VALUE_STORED;
    return push1(g, moved, below);
}

static const lb_formula *formula_copy(lb_graph *g, const lb_formula *f) {
    lb_formula *copy = lb_arena_new(g->arena, lb_formula, 1);
    double *param = lb_arena_new(g->arena, double, f->n_params + 1);
    if (!copy || !param) {
        FAULT(g, LB_E_NOMEM, "out of memory for expression nodes");
        return NULL;
    }
    if (f->n_params)
        memcpy(param, f->param, f->n_params * sizeof *param);
    *copy = *f;
    copy->param = param;
    return copy;
}

/* The first of n matrices of one shape; NULL: a fault. */
static const lb_node *same_shapes(lb_graph *g, const lb_node_id *x, u32 n, const lb_formula *f) {
    const lb_node *first = NULL;
    if (n == 0 || n > LB_GRAM_MAX || (f && (f->n_out == 0 || f->n_out > LB_GRAM_RESULTS))) {
        FAULT(g, LB_E_USAGE, "dot products are made of 1 to %d matrices, not of %u", LB_GRAM_MAX,
              n);
        return NULL;
    }
    for (u32 i = 0; i < n; i++) {
        const lb_node *in = input_of(g, x[i], LB_VALUE_F32, "dot products");
        if (!in)
            return NULL;
        first = first ? first : in;
        if (in->n_rows != first->n_rows || in->n_cols != first->n_cols) {
            FAULT(g, LB_E_FORMAT, "dot products of matrices of different shapes");
            return NULL;
        }
    }
    return first;
}

static lb_node_id select_node(lb_graph *g, lb_node_id x, const u64 *rank, u32 n_ranks,
                              double of_nonzero, const lb_formula *f) {
    const lb_node *in = input_of(g, x, LB_VALUE_F32, "stat");
    bool ok =
        in && n_ranks >= 1 && n_ranks <= LB_SELECT_RANKS && (!f || f->n_out <= LB_STAT_RESULTS);
    for (u32 i = 0; ok && i < n_ranks; i++)
        ok = rank[i] <= in->n_rows * in->n_cols && (i == 0 || rank[i] >= rank[i - 1]) &&
             (rank[i] > 0 || i + 1 < n_ranks);
    if (!ok) {
        FAULT(g, LB_E_USAGE, "stat: ranks are 1 to the number of values, in ascending order");
        return LB_NODE_NONE;
    }
    lb_node n = {.kind = LB_NODE_STAT,
                 .op = LB_STAT_KTH,
                 .value = LB_VALUE_SMALL,
                 .n_rows = 1,
                 .n_cols = f ? f->n_out : LB_STAT_RESULTS};
    lb_ranks *own = lb_arena_new(g->arena, lb_ranks, 1);
    if (!own) {
        FAULT(g, LB_E_NOMEM, "out of memory for expression nodes");
        return LB_NODE_NONE;
    }
    *own = (lb_ranks){.n = n_ranks, .of_nonzero = of_nonzero};
    memcpy(own->rank, rank, n_ranks * sizeof *rank);
    n.u.stat.ranks = own;
    n.u.stat.formula = f ? formula_copy(g, f) : NULL;
    return push1(g, n, x);
}

lb_node_id lb_expr_select(lb_graph *g, lb_node_id x, const u64 *rank, u32 n_ranks,
                          const lb_formula *f) {
    return select_node(g, x, rank, n_ranks, 0, f);
}

lb_node_id lb_expr_select_nonzero(lb_graph *g, lb_node_id x, double part) {
    return select_node(g, x, &(u64){1}, 1, part, NULL);
}

lb_node_id lb_expr_keep(lb_graph *g, lb_node_id select) {
    const lb_node *s = input_of(g, select, LB_VALUE_SMALL, "keep");
    if (!s)
        return LB_NODE_NONE;
    LB_ASSERT(s->op == LB_STAT_KTH && s->u.stat.ranks->n <= 2);
    return lb_expr_map1(g, LB_MAP_KEEP, s->in[0], (lb_scalar){.stat = select});
}

lb_node_id lb_expr_gram(lb_graph *g, const lb_node_id *x, u32 n, const lb_formula *f) {
    return lb_expr_norms(g, LB_STAT_GRAM, x, n, f);
}

lb_node_id lb_expr_variance(lb_graph *g, const lb_node_id *x, u32 n) {
    const lb_node *first = same_shapes(g, x, n, NULL);
    if (!first)
        return LB_NODE_NONE;
    lb_node node = {.kind = LB_NODE_MAP,
                    .op = LB_MAP_VARIANCE,
                    .value = LB_VALUE_F32,
                    .n_rows = first->n_rows,
                    .n_cols = first->n_cols,
                    .n_in = n};
    node.in = inputs(g, x, n);
    return push(g, &node);
}

lb_node_id lb_expr_norms(lb_graph *g, lb_stat_op op, const lb_node_id *x, u32 n,
                         const lb_formula *f) {
    LB_ASSERT(lb_stat_is_wide(op));
    if (!same_shapes(g, x, n, f))
        return LB_NODE_NONE;
    lb_node node = {.kind = LB_NODE_STAT,
                    .op = op,
                    .value = LB_VALUE_SMALL,
                    .n_rows = 1,
                    .n_cols = f ? f->n_out : lb_stat_n_wide(op, n),
                    .n_in = n};
    node.in = inputs(g, x, n);
    node.u.stat.formula = f ? formula_copy(g, f) : NULL;
    return push(g, &node);
}

lb_node_id lb_expr_row_formula(lb_graph *g, const lb_node_id *x, u32 n, const lb_formula *f,
                               u32 result) {
    const lb_node *in = same_shapes(g, x, n, f);
    if (!in)
        return LB_NODE_NONE;
    LB_ASSERT(result < f->n_out);
    lb_node node = {.kind = LB_NODE_ROW,
                    .op = LB_ROW_FORMULA,
                    .value = LB_VALUE_F32,
                    .n_rows = in->n_rows,
                    .n_cols = in->n_cols,
                    .n_in = n};
    node.in = inputs(g, x, n);
    node.u.row.formula = formula_copy(g, f);
    node.u.row.result = result;
    return push(g, &node);
}

lb_node_id lb_expr_row_kl(lb_graph *g, lb_node_id x, lb_node_id y, u32 how) {
    const lb_node_id in[2] = {x, y};
    const lb_node *first = same_shapes(g, in, 2, NULL);
    if (!first)
        return LB_NODE_NONE;
    lb_node node = {.kind = LB_NODE_ROW,
                    .op = LB_ROW_KL,
                    .value = LB_VALUE_F32,
                    .n_rows = first->n_rows,
                    .n_cols = first->n_cols,
                    .n_in = 2};
    node.in = inputs(g, in, 2);
    node.u.kl = how;
    return push(g, &node);
}

lb_node_id lb_expr_row_nm(lb_graph *g, lb_node_id x, lb_node_id claimed, u32 keep, u32 of) {
    const lb_node_id in[2] = {x, claimed};
    const lb_node *first = input_of(g, x, LB_VALUE_F32, "row");
    if (!first || (claimed != LB_NODE_NONE && !same_shapes(g, in, 2, NULL)))
        return LB_NODE_NONE;
    if (keep > of || of == 0 || of > LB_NM_MAX) {
        FAULT(g, LB_E_FORMAT, "row: %u of %u neighbours are kept: at most %u of %u are possible",
              keep, of, of, LB_NM_MAX);
        return LB_NODE_NONE;
    }
    lb_node node = {.kind = LB_NODE_ROW,
                    .op = LB_ROW_NM,
                    .value = LB_VALUE_F32,
                    .n_rows = first->n_rows,
                    .n_cols = first->n_cols,
                    .n_in = claimed == LB_NODE_NONE ? 1 : 2};
    node.in = inputs(g, in, node.n_in);
    node.u.nm.keep = keep;
    node.u.nm.of = of;
    return push(g, &node);
}

lb_node_id lb_expr_lowrank(lb_graph *g, lb_node_id x, lb_node_id b, lb_node_id a, float scale) {
    const lb_node *nx = input_of(g, x, LB_VALUE_F32, "lowrank"),
                  *nb = input_of(g, b, LB_VALUE_F32, "lowrank"),
                  *na = input_of(g, a, LB_VALUE_F32, "lowrank");
    if (!nx || !nb || !na)
        return LB_NODE_NONE;
    if (nb->n_rows != nx->n_rows || na->n_cols != nx->n_cols || nb->n_cols != na->n_rows) {
        FAULT(g, LB_E_FORMAT,
              "low-rank term: B is %llu x %llu and A %llu x %llu, the matrix %llu x %llu",
              (unsigned long long)nb->n_rows, (unsigned long long)nb->n_cols,
              (unsigned long long)na->n_rows, (unsigned long long)na->n_cols,
              (unsigned long long)nx->n_rows, (unsigned long long)nx->n_cols);
        return LB_NODE_NONE;
    }
    lb_node n = {.kind = LB_NODE_LOWRANK,
                 .value = LB_VALUE_F32,
                 .n_rows = nx->n_rows,
                 .n_cols = nx->n_cols,
                 .n_in = 3};
    n.in = inputs(g, (lb_node_id[]){x, b, a}, 3);
    n.u.scale = scale;
    return push(g, &n);
}

lb_node_id lb_expr_product(lb_graph *g, lb_node_id b, lb_node_id a) {
    const lb_node *nb = input_of(g, b, LB_VALUE_F32, "product"),
                  *na = input_of(g, a, LB_VALUE_F32, "product");
    if (!nb || !na)
        return LB_NODE_NONE;
    if (nb->n_cols != na->n_rows) {
        FAULT(g, LB_E_FORMAT, "product of %llu x %llu and %llu x %llu",
              (unsigned long long)nb->n_rows, (unsigned long long)nb->n_cols,
              (unsigned long long)na->n_rows, (unsigned long long)na->n_cols);
        return LB_NODE_NONE;
    }
    lb_node n = {.kind = LB_NODE_LOWRANK,
                 .op = LB_LOWRANK_PRODUCT,
                 .value = LB_VALUE_F32,
                 .n_rows = nb->n_rows,
                 .n_cols = na->n_cols,
                 .n_in = 2};
    n.in = inputs(g, (lb_node_id[]){b, a}, 2);
    return push(g, &n);
}

lb_node_id lb_expr_dense(lb_graph *g, lb_dense_op op, lb_node_id x, lb_node_id q, double k) {
    const lb_node *in = input_of(g, x, LB_VALUE_F32, "dense"),
                  *nq = op == LB_DENSE_SVD ? input_of(g, q, LB_VALUE_F32, "dense") : in;
    if (!in || !nq)
        return LB_NODE_NONE;
    u64 n = in->n_rows, m = in->n_cols;
    bool thin = op == LB_DENSE_ORTH || op == LB_DENSE_SVD || op == LB_DENSE_POLAR;
    if ((thin && m > n) || nq->n_cols != m || (op == LB_DENSE_EIGEN && k > (double)m)) {
        FAULT(g, LB_E_FORMAT, "no factors of %llu x %llu", (unsigned long long)n,
              (unsigned long long)m);
        return LB_NODE_NONE;
    }
    lb_node d = {.kind = LB_NODE_DENSE, .op = op, .value = LB_VALUE_F32, .n_rows = n, .n_cols = m};
    if (op == LB_DENSE_GRAM)
        d.n_cols = n;
    if (op == LB_DENSE_SVD)
        d.n_rows = n + 1 + nq->n_rows;
    if (op == LB_DENSE_FLAT || op == LB_DENSE_TOP)
        d.n_rows = m;
    d.u.part = op == LB_DENSE_TOP ? k : 0;
    if (op == LB_DENSE_EIGEN)
        d.n_rows = m, d.n_cols = (u64)k;
    d.n_in = op == LB_DENSE_SVD ? 2 : 1;
    d.in = inputs(g, (lb_node_id[]){x, q}, d.n_in);
    return push(g, &d);
}

bool lb_expr_is_stored_as(const lb_graph *g, lb_node_id x, lb_dtype dtype) {
    if (x == LB_NODE_NONE || lb_graph_node(g, x)->value != LB_VALUE_STORED)
        return false;
    const lb_weight *w = stored_weight(g, x);
    return w->enc.kind == LB_ENC_PLAIN && stored_source(g, x)->tensors[w->part[0]].dtype == dtype;
}

lb_node_id lb_expr_encode(lb_graph *g, lb_node_id x, lb_dtype dtype) {
    const lb_node *in = input(g, x);
    if (!in)
        return LB_NODE_NONE;
    bool copy = in->value == LB_VALUE_STORED;
    if (copy) {
        copy = lb_expr_is_stored_as(g, x, dtype);
    } else if (in->value == LB_VALUE_F32) {
        copy = dtype == LB_F32 || dtype == LB_F16 || dtype == LB_BF16;
    }
    if (!copy) {
        FAULT(g, LB_E_UNSUPPORTED, "encoding to %s from a %s node is not available",
              lb_dtype_get(dtype)->name, lb_node_kind_name(in->kind));
        return LB_NODE_NONE;
    }
    lb_node n = {.kind = LB_NODE_ENCODE,
                 .op = (u32)dtype,
                 .value = LB_VALUE_BYTES,
                 .n_rows = in->n_rows,
                 .n_cols = in->n_cols};
    n.u.encode.rows = 1;
    n.u.encode.cols = n.u.encode.elems = lb_dtype_get(dtype)->block_elems;
    return push1(g, n, x);
}

/* Smallest and largest of a matrix: the outputs of one quantization share it. */
static lb_node_id range_of(lb_graph *g, lb_node_id x) {
    for (u32 i = 0; i < LB_QUANT_PARTS + 1 && i < g->n && g->err.code == LB_OK; i++) {
        const lb_node *n = node_at(g, g->n - 1 - i);
        if (n->kind == LB_NODE_STAT && n->op == LB_STAT_RANGE && n->in[0] == x)
            return g->n - 1 - i;
    }
    return lb_expr_stat(g, LB_STAT_RANGE, x, LB_NODE_NONE, 0);
}

static bool quant_fits(lb_graph *g, const lb_node *in, const lb_quant *q) {
    u32 cols = lb_quant_cols(q);
    if (in->n_cols % cols != 0)
        FAULT(g, LB_E_UNSUPPORTED, "%llu columns are no whole groups of %u",
              (unsigned long long)in->n_cols, cols);
    else if (lb_quant_is_hf(q) && (in->n_rows == 0 || in->n_cols == 0))
        FAULT(g, LB_E_UNSUPPORTED, "an empty matrix has no scale");
    else if (lb_quant_is_hf(q) && q->refine)
        FAULT(g, LB_E_UNSUPPORTED, "Hugging Face's types are not refined");
    return g->err.code == LB_OK;
}

lb_node_id lb_expr_quant(lb_graph *g, lb_node_id x, const lb_quant *q, lb_quant_part part) {
    const lb_node *in = input_of(g, x, LB_VALUE_F32, "quantize");
    if (!in || !quant_fits(g, in, q))
        return LB_NODE_NONE;
    lb_quant_ratio r = lb_quant_ratio_of(q, part, in->n_rows, in->n_cols);
    u64 shape[2];
    lb_quant_part_shape(q, part, in->n_rows, in->n_cols, shape);
    lb_node n = {.kind = LB_NODE_ENCODE,
                 .op = (u32)lb_quant_part_dtype(q, part),
                 .value = LB_VALUE_BYTES,
                 .n_rows = shape[0],
                 .n_cols = shape[1]};
    n.u.encode.quant = q;
    if (r.rows > UINT32_MAX || r.cols > UINT32_MAX || r.elems > UINT32_MAX) {
        FAULT(g, LB_E_LIMIT, "a matrix of %llu x %llu has too many rows or columns for one scale",
              (unsigned long long)in->n_rows, (unsigned long long)in->n_cols);
        return LB_NODE_NONE;
    }
    n.u.encode.part = (u8)part;
    n.u.encode.rows = (u32)r.rows;
    n.u.encode.cols = (u32)r.cols;
    n.u.encode.elems = (u32)r.elems;
    n.u.encode.once = r.once;
    if (!lb_quant_is_hf(q) || q->scope != LB_SCOPE_TENSOR)
        return push1(g, n, x);
    lb_node_id range = range_of(g, x);
    n.n_in = 2;
    n.in = inputs(g, (lb_node_id[]){x, range}, 2);
    return push(g, &n);
}

lb_node_id lb_expr_bytes(lb_graph *g, lb_dtype dtype, u64 n_elems, const void *bytes) {
    u64 n_bytes = 0;
    u8 *copy = lb_dtype_bytes(dtype, n_elems, &n_bytes)
                   ? lb_arena_new(g->arena, u8, LB_MAX(n_bytes, (u64)1))
                   : NULL;
    lb_node_id none = lb_expr_fill(g, 1, n_elems, 0);
    if (!copy) {
        FAULT(g, LB_E_NOMEM, "out of memory for a constant of %llu values",
              (unsigned long long)n_elems);
        return LB_NODE_NONE;
    }
    if (n_bytes)
        memcpy(copy, bytes, n_bytes);
    lb_node n = {.kind = LB_NODE_ENCODE,
                 .op = (u32)dtype,
                 .value = LB_VALUE_BYTES,
                 .n_rows = 1,
                 .n_cols = n_elems};
    n.u.encode.rows = 1;
    n.u.encode.cols = n.u.encode.elems = lb_dtype_get(dtype)->block_elems;
    n.u.encode.bytes = copy;
    return push1(g, n, none);
}

lb_node_id lb_expr_repack(lb_graph *g, lb_node_id x, lb_repack repack) {
    const lb_node *in = input_of(g, x, LB_VALUE_STORED, "repack");
    if (!in)
        return LB_NODE_NONE;
    if (!lb_repack_takes(repack, stored_source(g, x), stored_weight(g, x)) ||
        in->n_cols % 32 != 0) {
        FAULT(g, LB_E_UNSUPPORTED, "tensor '%.*s': its codes have no such layout",
              LB_FMT(stored_weight(g, x)->name));
        return LB_NODE_NONE;
    }
    lb_node n = {.kind = LB_NODE_ENCODE,
                 .op = (u32)lb_repack_dtype(repack),
                 .value = LB_VALUE_BYTES,
                 .n_rows = in->n_rows,
                 .n_cols = in->n_cols / 32 * lb_repack_elems(repack)};
    n.u.encode.repack = (u8)repack;
    n.u.encode.rows = 1;
    n.u.encode.cols = 32;
    n.u.encode.elems = lb_repack_elems(repack);
    return push1(g, n, x);
}
