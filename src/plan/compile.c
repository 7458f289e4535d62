/* SPDX-License-Identifier: Apache-2.0 */
/* compile.c: graph -> passes of instances. Index nodes disappear here: row moves and column slices
 * go down to the leaves, a transposition swaps the frame of what lies below it.
 *
 * Why instances: one node may be wanted through different moves (a matrix and its permuted form);
 * each (node, moves, frame) is evaluated once a strip. Graphs are small (tens of nodes); searches
 * are linear. */
#include "plan/dense.h"
#include "plan/measure.h"
#include "plan/prog.h"

/* Of an expression: build() takes about 500 bytes of stack a level, a worker's stack is 256 KiB. */
#define DEPTH_MAX 256

typedef struct seen {
    u32 node_plus_1; /* 0: empty */
    u32 level;
} seen;

typedef struct builder {
    const lb_graph *g;
    lb_arena *arena;
    lb_prog *prog;
    lb_pass *pass;
    u32 cap_insts, cap_leaves, cap_results, depth;
    seen *seen; /* [cap_seen] open addressing: nodes that need() has seen */
    u32 n_seen, cap_seen;
    lb_prog_limits lim;
    /* Nodes that are computed by themselves and held. Found while building, which then begins
     * anew. */
    lb_node_id *apart;
    u32 n_apart, cap_apart;
    bool again;
    lb_err *err;
    lb_status st;
} builder;

static u32 fail_oom(builder *b) {
    b->st = lb_fail(b->err, LB_E_NOMEM, "out of memory while planning");
    return UINT32_MAX;
}

static void *grow(builder *b, void *old, u32 n, u32 *cap, size_t size) {
    if (n < *cap)
        return old;
    u32 want = *cap ? *cap * 2 : 8;
    void *p = lb_arena_push_array(b->arena, want, size, 16);
    if (!p) {
        (void)fail_oom(b);
        return NULL;
    }
    if (n)
        memcpy(p, old, n * size);
    *cap = want;
    return p;
}

/* ---- results: which stats and held matrices the roots need, dependencies first ---- */

/* Both return the level above which the node can be computed: as it stands in the graph, and by
 * itself. */
static u32 need(builder *b, lb_node_id id);
static u32 need_inside(builder *b, lb_node_id id);
static u32 add_matrix(builder *b, lb_node_id id);

static bool is_apart(const builder *b, lb_node_id id) {
    for (u32 i = 0; i < b->n_apart; i++)
        if (b->apart[i] == id)
            return true;
    return false;
}

static bool is_stack(const lb_node *n) {
    return n->kind == LB_NODE_INDEX && n->op == LB_INDEX_STACK;
}

/* Whether the node is a result where it is wanted. */
static bool is_held(const builder *b, lb_node_id id) {
    return is_stack(lb_graph_node(b->g, id)) || is_apart(b, id);
}

static u32 add_result(builder *b, lb_result_kind kind, lb_node_id id) {
    for (u32 i = 0; i < b->prog->n_results; i++)
        if (b->prog->results[i].kind == kind && b->prog->results[i].node == id)
            return i;
    const lb_node *n = lb_graph_node(b->g, id);
    u32 level = 0, other = UINT32_MAX;
    if (kind == LB_RESULT_HOLD) {
        level = need_inside(b, id);
    } else if (kind == LB_RESULT_DENSE) {
        level = need(b, n->in[0]);
        if (n->n_in > 1 && b->st == LB_OK)
            other = add_matrix(b, n->in[1]);
        if (n->n_in > 1 && b->st == LB_OK)
            level = LB_MAX(level, b->prog->results[other].level + 1);
    } else {
        for (u32 i = 0; i < n->n_in; i++)
            level = LB_MAX(level, need(b, n->in[i]));
    }
    if (b->st != LB_OK)
        return UINT32_MAX;
    lb_result *r = grow(b, b->prog->results, b->prog->n_results, &b->cap_results, sizeof *r);
    if (!r)
        return UINT32_MAX;
    b->prog->results = r;
    const lb_node *in = kind == LB_RESULT_HOLD ? n : lb_graph_node(b->g, n->in[0]);
    r += b->prog->n_results;
    *r = (lb_result){.kind = kind,
                     .node = id,
                     .level = level,
                     .other = other,
                     .in_rows = in->n_rows,
                     .in_cols = in->n_cols,
                     .out_rows = n->n_rows,
                     .out_cols = n->n_cols};
    return b->prog->n_results++;
}

static bool is_selection(const builder *b, const lb_result *r) {
    return r->kind == LB_RESULT_STAT && lb_graph_node(b->g, r->node)->op == LB_STAT_KTH;
}

/* A sixteenth of the values is some times what a sample's bracket has in it; of smaller matrices,
 * whose samples are small, it has more. */
#define SELECT_LEAST 262144
static void limit_selections(builder *b) {
    lb_prog *p = b->prog;
    u64 n_ranks = 0;
    for (u32 i = 0; i < p->n_results; i++)
        if (is_selection(b, &p->results[i]))
            n_ranks += lb_graph_node(b->g, p->results[i].node)->u.stat.ranks->n;
    for (u32 i = 0; i < p->n_results; i++) {
        lb_result *r = &p->results[i];
        u64 n = r->in_rows * r->in_cols, most = LB_MAX(n / 16, SELECT_LEAST);
        if (is_selection(b, r))
            r->select_cap = LB_MAX(LB_MIN(LB_MIN(n, most), b->lim.select_max / n_ranks), 1);
    }
}

/* Where held matrices lie: in the job's memory, or in its spill file. */
static lb_status place_results(builder *b) {
    lb_prog *p = b->prog;
    for (u32 i = 0; i < p->n_results; i++) {
        lb_result *r = &p->results[i];
        u64 in, out = 0;
        if (r->kind == LB_RESULT_STAT)
            continue;
        if (!lb_mul_u64(r->in_rows, r->in_cols, &in) || in > UINT64_MAX / 16 ||
            !lb_mul_u64(r->out_rows, r->out_cols, &out) || out > UINT64_MAX / 16)
            return lb_fail(b->err, LB_E_LIMIT, "a matrix of %llu x %llu",
                           (unsigned long long)r->in_rows, (unsigned long long)r->in_cols);
        in *= sizeof(float);
        out *= sizeof(float);
        r->spilled = r->kind == LB_RESULT_HOLD && !r->direct && in > b->lim.hold_max_bytes;
        r->fixed_bytes = r->spilled ? 0 : out;
        r->spill_off = p->spill_bytes;
        p->spill_bytes += r->spilled ? in : 0;
    }
    return LB_OK;
}

static u32 result_level(builder *b, u32 result) {
    return b->st == LB_OK ? b->prog->results[result].level + 1 : 0;
}

/* The place of a node in the table of levels: its own, or an empty one. */
static seen *find_seen(seen *t, u32 cap, lb_node_id id) {
    u32 i = (id * 2654435769u) & (cap - 1);
    while (t[i].node_plus_1 && t[i].node_plus_1 != id + 1)
        i = (i + 1) & (cap - 1);
    return &t[i];
}

/* A node that is wanted in several places is looked into once: a graph may share at every level. */
static void note_level(builder *b, lb_node_id id, u32 value) {
    if (2 * b->n_seen >= b->cap_seen) {
        u32 cap = b->cap_seen ? 2 * b->cap_seen : 16;
        seen *t = lb_arena_new(b->arena, seen, cap);
        if (!t) {
            (void)fail_oom(b);
            return;
        }
        for (u32 i = 0; i < b->cap_seen; i++)
            if (b->seen[i].node_plus_1)
                *find_seen(t, cap, b->seen[i].node_plus_1 - 1) = b->seen[i];
        b->seen = t;
        b->cap_seen = cap;
    }
    *find_seen(b->seen, b->cap_seen, id) = (seen){id + 1, value};
    b->n_seen++;
}

static lb_result_kind matrix_kind(const builder *b, lb_node_id id) {
    return lb_graph_node(b->g, id)->kind == LB_NODE_DENSE ? LB_RESULT_DENSE : LB_RESULT_HOLD;
}

/* A matrix that is wanted as a whole, in memory: a low-rank term reads all of A for each of its
 * rows. */
static u32 add_matrix(builder *b, lb_node_id id) {
    u32 r = add_result(b, matrix_kind(b, id), id);
    if (b->st == LB_OK && b->prog->results[r].kind == LB_RESULT_HOLD)
        b->prog->results[r].direct = true;
    return r;
}

/* Whether input i of the node is such a matrix. */
static bool is_whole(const lb_node *n, u32 i) {
    return n->kind == LB_NODE_LOWRANK && i + 1 == n->n_in;
}

static u32 need(builder *b, lb_node_id id) {
    return is_held(b, id) ? result_level(b, add_result(b, LB_RESULT_HOLD, id)) : need_inside(b, id);
}

static u32 need_inside(builder *b, lb_node_id id) {
    const lb_node *n = lb_graph_node(b->g, id);
    u32 level = 0;
    if (b->st != LB_OK || n->kind == LB_NODE_READ)
        return 0;
    if (b->cap_seen) {
        const seen *known = find_seen(b->seen, b->cap_seen, id);
        if (known->node_plus_1)
            return known->level;
    }
    if (++b->depth > DEPTH_MAX) {
        b->st = lb_fail(b->err, LB_E_LIMIT, "expression deeper than %d nodes", DEPTH_MAX);
        return 0;
    }
    if (n->kind == LB_NODE_STAT) {
        level = result_level(b, add_result(b, LB_RESULT_STAT, id));
    } else if (n->kind == LB_NODE_DENSE) {
        level = result_level(b, add_result(b, LB_RESULT_DENSE, id));
    } else {
        for (u32 i = 0; i < n->n_in; i++) {
            u32 l = is_whole(n, i) ? result_level(b, add_matrix(b, n->in[i])) : need(b, n->in[i]);
            level = LB_MAX(level, l);
        }
        if (n->kind == LB_NODE_MAP && n->u.scalar.stat != LB_NODE_NONE)
            level = LB_MAX(level, need(b, n->u.scalar.stat));
    }
    b->depth--;
    if (b->st == LB_OK)
        note_level(b, id, level);
    return level;
}

static u32 find_result(const builder *b, lb_result_kind kind, lb_node_id id) {
    for (u32 i = 0; i < b->prog->n_results; i++)
        if (b->prog->results[i].kind == kind && b->prog->results[i].node == id)
            return i;
    LB_ASSERT(false && "a result that was not collected");
    return 0;
}

/* ---- instances ---- */

static bool moves_eq(const lb_moves *a, const lb_moves *b) {
    return a->n == b->n && (a->n == 0 || a->step == b->step ||
                            memcmp(a->step, b->step, a->n * sizeof *a->step) == 0);
}

bool lb_frame_eq(const lb_frame *a, const lb_frame *b) {
    return a->row == b->row && a->col == b->col && a->col_shift == b->col_shift &&
           a->n_all == b->n_all && a->row_div == b->row_div && a->col_div == b->col_div &&
           a->col_mul == b->col_mul;
}

static u64 lcm(u64 a, u64 b) {
    return a / lb_gcd_u64(a, b) * b;
}

/* The moves of an index node's input: those above it, then its own. */
static lb_moves moves_below(builder *b, const lb_moves *above, const lb_node *n) {
    lb_moves m = {.n = above->n + 1, .band = above->band};
    lb_move *s = lb_arena_new(b->arena, lb_move, m.n);
    if (!s) {
        (void)fail_oom(b);
        return *above;
    }
    if (above->n)
        memcpy(s, above->step, above->n * sizeof *s);
    s[above->n] = (lb_move){
        (lb_index_op)n->op, n->u.index.from, n->u.index.step, n->u.index.half, {n->u.index.table}};
    if (n->op == LB_INDEX_STRIDES)
        s[above->n].strides = n->u.index.strides;
    m.step = s;
    switch (n->op) {
    case LB_INDEX_HEADS:
    case LB_INDEX_UNHEADS:
        m.band = m.band ? lcm(m.band, 2 * n->u.index.half) : 0;
        break;
    case LB_INDEX_ROWS:
        /* a slice keeps order; below another permutation its bands could be cut: give up on them */
        if (n->u.index.step != 1 || (m.band > 1 && n->u.index.from % m.band != 0))
            m.band = 0;
        break;
    default:
        m.band = 0;
    }
    return m;
}

static u32 build(builder *b, lb_node_id id, const lb_moves *moves, lb_frame frame);

static u32 add_inst(builder *b, const lb_inst *in) {
    lb_inst *p = grow(b, b->pass->insts, b->pass->n_insts, &b->cap_insts, sizeof *p);
    if (!p)
        return UINT32_MAX;
    b->pass->insts = p;
    p[b->pass->n_insts] = *in;
    return b->pass->n_insts++;
}

static u32 find_inst(const builder *b, const lb_node *n, const lb_moves *moves,
                     const lb_frame *frame) {
    for (u32 i = 0; i < b->pass->n_insts; i++) {
        const lb_inst *x = &b->pass->insts[i];
        if (x->node == n && x->role != LB_INST_HOLD && moves_eq(&x->moves, moves) &&
            lb_frame_eq(&x->frame, frame))
            return i;
    }
    return UINT32_MAX;
}

static u32 add_leaf(builder *b, const lb_leaf *leaf) {
    for (u32 i = 0; i < b->pass->n_leaves; i++) {
        const lb_leaf *l = &b->pass->leaves[i];
        if (l->weight == leaf->weight && l->source == leaf->source && l->spilled == leaf->spilled &&
            l->spill_off == leaf->spill_off && l->n_cols == leaf->n_cols &&
            moves_eq(&l->moves, &leaf->moves) && lb_frame_eq(&l->frame, &leaf->frame))
            return i;
    }
    if (b->pass->n_leaves == LB_LEAVES_MAX) {
        b->st =
            lb_fail(b->err, LB_E_LIMIT, "more than %d tensors read by one output", LB_LEAVES_MAX);
        return UINT32_MAX;
    }
    lb_leaf *p = grow(b, b->pass->leaves, b->pass->n_leaves, &b->cap_leaves, sizeof *p);
    if (!p)
        return UINT32_MAX;
    b->pass->leaves = p;
    p += b->pass->n_leaves;
    *p = *leaf;
    if (p->moves.band > LB_SEGS_MAX) /* too wide a band to be put in file order within a tile */
        p->moves.band = 0;
    if (p->frame.row == LB_AXIS_COLS || p->frame.col == LB_AXIS_ROWS)
        b->pass->swapped = true;
    b->pass->across |= p->codec.transposed;
    return b->pass->n_leaves++;
}

/* A stored value: walks its index nodes down to the read and adds (or finds) the leaf. */
static u32 build_leaf(builder *b, lb_node_id id, lb_moves moves, lb_frame frame) {
    const lb_node *n = lb_graph_node(b->g, id);
    for (; n->kind != LB_NODE_READ; n = lb_graph_node(b->g, n->in[0])) {
        if (n->kind == LB_NODE_DECODE)
            continue; /* turned elements */
        if (n->op == LB_INDEX_COLS)
            frame.col_shift += n->u.index.from;
        else
            moves = moves_below(b, &moves, n);
        if (b->st != LB_OK)
            return UINT32_MAX;
    }
    lb_leaf l = {.source = n->u.read.source,
                 .weight = n->u.read.weight,
                 .n_rows = n->n_rows,
                 .n_cols = n->n_cols,
                 .frame = frame,
                 .moves = moves};
    b->st = lb_codec_of(&l.codec, b->g->sources[l.source], l.weight, b->err);
    if (b->st != LB_OK)
        return UINT32_MAX;
    bool all = frame.col == LB_AXIS_ALL && frame.n_all == n->n_cols;
    l.whole = moves.band > 0 && moves.band <= LB_SEGS_MAX && frame.row == LB_AXIS_ROWS &&
              frame.col_shift == 0 && !frame.row_div && b->pass->n_rows == n->n_rows &&
              (all || (frame.col == LB_AXIS_COLS && !frame.col_div &&
                       b->pass->n_cols * LB_MAX(frame.col_mul, 1) == n->n_cols));
    return add_leaf(b, &l);
}

/* A matrix in the spill file, seen through moves and a frame. */
static u32 build_spilled(builder *b, const lb_result *r, const lb_moves *moves, lb_frame frame) {
    lb_leaf l = {.n_rows = r->out_rows,
                 .n_cols = r->out_cols,
                 .frame = frame,
                 .moves = *moves,
                 .spilled = true,
                 .spill_off = r->spill_off};
    lb_codec_f32(&l.codec);
    return add_leaf(b, &l);
}

/* The frame of a map's input that is broadcast along an axis. */
static u32 build_input(builder *b, const lb_node *n, u32 i, const lb_moves *moves, lb_frame frame) {
    static const lb_moves none = {.band = 1};
    const lb_node *in = lb_graph_node(b->g, n->in[i]);
    if (in->n_rows == 1 && n->n_rows != 1) {
        moves = &none;
        frame.row = LB_AXIS_ONE;
    }
    if (in->n_cols == 1 && n->n_cols != 1) {
        frame.col = LB_AXIS_ONE;
        frame.col_shift = 0;
    }
    return build(b, n->in[i], moves, frame);
}

/* The node cannot be evaluated where it is wanted: it becomes a result of its own, and the program
 * is made anew. */
static void set_apart(builder *b, const lb_node *n) {
    lb_node_id *p = grow(b, b->apart, b->n_apart, &b->cap_apart, sizeof *p);
    if (!p)
        return;
    b->apart = p;
    p[b->n_apart++] = lb_graph_id(b->g, n);
    b->again = true;
    b->st = LB_E_UNSUPPORTED;
}

bool lb_frame_is_upright(const lb_frame *f) {
    return f->row == LB_AXIS_ROWS && f->col == LB_AXIS_COLS && !f->row_div && !f->col_div &&
           !f->col_mul;
}

/* Rows and columns of the pass, either way round, and all of the columns in order. */
static bool is_turnable(const lb_frame *f) {
    return ((f->row == LB_AXIS_ROWS && f->col == LB_AXIS_COLS) ||
            (f->row == LB_AXIS_COLS && f->col == LB_AXIS_ROWS)) &&
           !f->col_shift && !f->col_mul;
}

static void build_lowrank(builder *b, lb_inst *x, const lb_moves *moves, lb_frame frame) {
    const lb_node *n = x->node;
    u32 rows = n->n_in - 2, whole = n->n_in - 1; /* B and A */
    bool product = n->op == LB_LOWRANK_PRODUCT;
    lb_frame all = frame;
    all.col = LB_AXIS_ALL;
    all.col_shift = 0;
    all.n_all = lb_graph_node(b->g, n->in[rows])->n_cols;
    if (!lb_frame_is_upright(&frame) ||
        (product && (frame.col_shift || n->n_cols != b->pass->n_cols))) {
        set_apart(b, n);
        return;
    }
    b->pass->full_cols |= product;
    if (!product)
        x->in[x->n_in++] = build(b, n->in[0], moves, frame);
    if (b->st == LB_OK)
        x->in[x->n_in++] = build(b, n->in[rows], moves, all);
    x->result = find_result(b, matrix_kind(b, n->in[whole]), n->in[whole]);
}

/* All columns of the pass's rows, or all rows of what are its rows as columns. */
static bool is_all(const lb_frame *f) {
    return ((f->row == LB_AXIS_ROWS && f->col == LB_AXIS_ALL) ||
            (f->row == LB_AXIS_ALL && f->col == LB_AXIS_ROWS)) &&
           !f->col_shift && !f->col_mul;
}

/* Below a transposition rows are columns; below a second one they are rows again. */
static void build_transpose(builder *b, lb_inst *x, const lb_moves *moves, lb_frame frame) {
    static const lb_moves none = {.band = 1};
    if (moves->n || (!is_turnable(&frame) && !is_all(&frame))) {
        set_apart(b, x->node);
        return;
    }
    b->pass->swapped = true;
    lb_frame below = {.row = frame.col,
                      .row_div = frame.col_div,
                      .col = frame.row,
                      .col_div = frame.row_div,
                      .n_all = frame.n_all};
    x->in[x->n_in++] = build(b, x->node->in[0], &none, below);
}

/* Every n-th column: the input's stretch is n times as long. */
static void build_every(builder *b, lb_inst *x, const lb_moves *moves, lb_frame frame) {
    if (!is_turnable(&frame) || frame.col_div || x->node->u.index.step > UINT32_MAX) {
        set_apart(b, x->node);
        return;
    }
    frame.col_mul = (u32)x->node->u.index.step;
    x->in[x->n_in++] = build(b, x->node->in[0], moves, frame);
}

/* Columns in turn: each input's stretch is half as long. */
static void build_weave(builder *b, lb_inst *x, const lb_moves *moves, lb_frame frame) {
    if (!is_turnable(&frame) || frame.col_div) {
        set_apart(b, x->node);
        return;
    }
    frame.col_div = 2;
    for (u32 i = 0; i < 2 && b->st == LB_OK; i++)
        x->in[x->n_in++] = build(b, x->node->in[i], moves, frame);
}

/* The stored elements whose transposed matrix an encode node writes as they are, or LB_NODE_NONE.
 */
static lb_node_id turned_elements(const builder *b, const lb_node *n) {
    const lb_node *t = lb_graph_node(b->g, n->in[0]);
    if (t->kind != LB_NODE_INDEX || t->op != LB_INDEX_TRANSPOSE || n->u.encode.quant ||
        is_apart(b, n->in[0]))
        return LB_NODE_NONE;
    lb_node_id id = t->in[0], below;
    for (below = id; lb_graph_node(b->g, below)->kind != LB_NODE_READ;
         below = lb_graph_node(b->g, below)->in[0]) {
        const lb_node *x = lb_graph_node(b->g, below);
        bool moves = x->kind == LB_NODE_INDEX && !is_stack(x) && x->op != LB_INDEX_TRANSPOSE &&
                     x->op != LB_INDEX_EVERY;
        if ((!moves && x->kind != LB_NODE_DECODE) || is_apart(b, below))
            return LB_NODE_NONE;
    }
    const lb_node *r = lb_graph_node(b->g, below);
    const lb_weight *w = r->u.read.weight;
    const lb_tensor *s = &b->g->sources[r->u.read.source]->tensors[w->part[0]];
    const lb_dtype_info *d = lb_dtype_get(s->dtype);
    bool same = w->enc.kind == LB_ENC_PLAIN && s->dtype == (lb_dtype)n->op &&
                d->cls == LB_CLASS_FLOAT && d->block_elems == 1;
    return same ? id : LB_NODE_NONE;
}

/* A leaf below decode and index nodes, seen the other way round. */
static u32 build_turned(builder *b, lb_node_id id) {
    static const lb_moves none = {.band = 1};
    lb_frame frame = {.row = LB_AXIS_COLS, .col = LB_AXIS_ROWS};
    b->pass->swapped = true;
    return build_leaf(b, id, none, frame);
}

static void build_encode(builder *b, lb_inst *x, const lb_moves *moves, lb_frame frame) {
    const lb_node *n = x->node;
    lb_node_id turned;
    if (lb_graph_node(b->g, n->in[0])->value == LB_VALUE_STORED) {
        x->leaf = build_leaf(b, n->in[0], *moves, frame);
    } else if ((turned = turned_elements(b, n)) != LB_NODE_NONE) {
        x->turned = true;
        x->leaf = build_turned(b, turned);
    } else {
        x->in[x->n_in++] = build(b, n->in[0], moves, frame);
    }
    if (n->n_in > 1) /* the range of a matrix */
        x->result = find_result(b, LB_RESULT_STAT, n->in[1]);
}

static void build_gram(builder *b, lb_inst *x, const lb_node *n, const lb_moves *moves,
                       lb_frame frame) {
    x->many = lb_arena_new(b->arena, u32, n->n_in);
    if (!x->many) {
        (void)fail_oom(b);
        return;
    }
    for (u32 i = 0; i < n->n_in && b->st == LB_OK; i++)
        x->many[x->n_in++] = build_input(b, n, i, moves, frame);
}

static void build_inputs(builder *b, lb_inst *x, const lb_node *n, const lb_moves *moves,
                         lb_frame frame) {
    switch (n->kind) {
    case LB_NODE_DECODE:
        x->leaf = build_leaf(b, n->in[0], *moves, frame);
        return;
    case LB_NODE_ENCODE:
        build_encode(b, x, moves, frame);
        return;
    case LB_NODE_MAP:
        if (n->op == LB_MAP_WEAVE) {
            build_weave(b, x, moves, frame);
            return;
        }
        if (n->op == LB_MAP_CHOOSE || n->op == LB_MAP_VARIANCE) {
            build_gram(b, x, n, moves, frame);
            return;
        }
        /* fall through */
    case LB_NODE_STAT:
        if (n->kind == LB_NODE_STAT && lb_stat_is_wide(n->op)) {
            build_gram(b, x, n, moves, frame);
            return;
        }
        for (u32 i = 0; i < n->n_in && b->st == LB_OK; i++)
            x->in[x->n_in++] = build_input(b, n, i, moves, frame);
        if (n->kind == LB_NODE_MAP && n->u.scalar.stat != LB_NODE_NONE)
            x->result = find_result(b, LB_RESULT_STAT, n->u.scalar.stat);
        return;
    case LB_NODE_ROW:
        if (frame.col != LB_AXIS_COLS || frame.col_shift != 0 || n->n_cols != b->pass->n_cols) {
            set_apart(b, n);
            return;
        }
        b->pass->full_cols = true;
        if (n->op == LB_ROW_FORMULA || n->op == LB_ROW_NM || n->op == LB_ROW_KL)
            build_gram(b, x, n, moves, frame);
        else
            x->in[x->n_in++] = build(b, n->in[0], moves, frame);
        return;
    case LB_NODE_LOWRANK:
        build_lowrank(b, x, moves, frame);
        return;
    case LB_NODE_MAKE:
        if (n->op == LB_MAKE_RESULTS)
            x->result = find_result(b, LB_RESULT_STAT, n->in[0]);
        return;
    case LB_NODE_INDEX:
        if (n->op == LB_INDEX_EVERY)
            build_every(b, x, moves, frame);
        else
            build_transpose(b, x, moves, frame);
        return;
    default:
        return;
    }
}

/* Random numbers are drawn row by row, once a pass. */
static void build_mask(builder *b, lb_inst *x) {
    if (x->moves.band == 0 || !lb_frame_is_upright(&x->frame) || x->frame.col_shift ||
        x->node->n_rows != b->pass->n_rows || x->node->n_cols != b->pass->n_cols) {
        set_apart(b, x->node);
        return;
    }
    for (u32 i = 0; i < b->pass->n_insts; i++)
        if (b->pass->insts[i].node == x->node && b->pass->insts[i].role == LB_INST_COMPUTE) {
            set_apart(b, x->node); /* seen in two orders */
            return;
        }
    x->mask = b->pass->n_masks++;
}

/* A value that an earlier pass has left. */
static void build_held(builder *b, lb_inst *x, lb_result_kind kind, lb_node_id id) {
    x->result = find_result(b, kind, id);
    const lb_result *r = &b->prog->results[x->result];
    x->role = r->spilled ? LB_INST_SPILLED : LB_INST_HELD;
    if (r->spilled)
        x->leaf = build_spilled(b, r, &x->moves, x->frame);
}

/* top: the node of a result is computed here. */
static u32 build_node(builder *b, lb_node_id id, const lb_moves *moves, lb_frame frame, bool top) {
    const lb_node *n = lb_graph_node(b->g, id);
    bool apart = !top && is_held(b, id);
    if (b->st != LB_OK)
        return UINT32_MAX;
    if (n->kind == LB_NODE_INDEX && n->op == LB_INDEX_COLS && !apart) {
        frame.col_shift += n->u.index.from;
        return build(b, n->in[0], moves, frame);
    }
    if (n->kind == LB_NODE_INDEX && n->op != LB_INDEX_TRANSPOSE && n->op != LB_INDEX_EVERY &&
        !apart) {
        lb_moves below = moves_below(b, moves, n);
        return b->st == LB_OK ? build(b, n->in[0], &below, frame) : UINT32_MAX;
    }
    u32 found = find_inst(b, n, moves, &frame);
    if (found != UINT32_MAX)
        return found;
    lb_inst x = {.node = n,
                 .frame = frame,
                 .moves = *moves,
                 .leaf = UINT32_MAX,
                 .slot = LB_NO_SLOT,
                 .result = UINT32_MAX};
    if (apart)
        build_held(b, &x, LB_RESULT_HOLD, id);
    else if (n->kind == LB_NODE_DENSE)
        build_held(b, &x, LB_RESULT_DENSE, id);
    else if (lb_node_draws(n))
        build_mask(b, &x);
    else
        build_inputs(b, &x, n, moves, frame);
    return b->st == LB_OK ? add_inst(b, &x) : UINT32_MAX;
}

static u32 build(builder *b, lb_node_id id, const lb_moves *moves, lb_frame frame) {
    return build_node(b, id, moves, frame, false);
}

/* ---- units and slots ---- */

static void unit_of_leaf(lb_pass *p, const lb_leaf *l) {
    u64 unit = l->codec.unit_elems;
    if (l->frame.row == LB_AXIS_ROWS && l->moves.band > 1)
        p->unit_rows = lcm(p->unit_rows, l->moves.band);
    if (unit > 1 && l->frame.col_shift % unit == 0) {
        if (l->frame.col == LB_AXIS_COLS)
            p->unit_cols = lcm(p->unit_cols, unit);
        else if (l->frame.col == LB_AXIS_ROWS)
            p->unit_rows = lcm(p->unit_rows, unit);
    }
}

/* Columns are cut where the output's elements are whole, and the blocks of what is copied. */
static lb_status unit_of_encode(builder *b, lb_pass *p, const lb_inst *x) {
    u64 rows = x->node->u.encode.rows, cols = x->node->u.encode.cols;
    bool whole = p->n_cols % cols == 0;
    if (x->node->u.encode.once)
        return LB_OK;
    p->unit_rows = lcm(p->unit_rows, rows);
    p->unit_cols = lcm(p->unit_cols, cols);
    if (x->leaf == UINT32_MAX)
        return whole || rows > 1 ? LB_OK
                                 : lb_fail(b->err, LB_E_UNSUPPORTED,
                                           "%llu columns are no whole blocks of %llu values",
                                           (unsigned long long)p->n_cols, (unsigned long long)cols);
    if (x->turned)
        return LB_OK;
    const lb_leaf *l = &p->leaves[x->leaf];
    u32 unit = l->codec.unit_elems;
    if (!whole || l->frame.col_shift % unit || p->n_cols % unit || l->frame.row != LB_AXIS_ROWS ||
        l->frame.col != LB_AXIS_COLS)
        return lb_fail(b->err, LB_E_UNSUPPORTED, "tensor '%.*s': columns cut inside a block",
                       LB_FMT(l->weight->name));
    return LB_OK;
}

static void unit_of_measure(lb_pass *p, const lb_measure *m) {
    for (u32 i = 0; i < m->n; i++) {
        p->unit_cols = lcm(p->unit_cols, lb_quant_cols(m->quants[i]));
        p->full_cols = p->full_cols || lb_quant_by_row(m->quants[i]);
    }
}

static lb_status units(builder *b, lb_pass *p) {
    p->unit_rows = p->unit_cols = 1;
    for (u32 i = 0; i < p->n_leaves; i++)
        unit_of_leaf(p, &p->leaves[i]);
    for (u32 i = 0; i < p->n_insts; i++) {
        const lb_inst *x = &p->insts[i];
        if (x->role == LB_INST_HOLD || x->role == LB_INST_SPILLED)
            continue;
        if (x->node->kind == LB_NODE_STAT && x->node->op != LB_STAT_KTH &&
            x->node->op != LB_STAT_RANGE && x->node->op != LB_STAT_COLS)
            p->folds = true;
        if (x->node->kind == LB_NODE_STAT && x->node->op == LB_STAT_COLS)
            p->unit_rows = lcm(p->unit_rows, LB_COLS_BLOCK);
        if (x->node->kind == LB_NODE_STAT && x->node->op == LB_STAT_ERROR)
            unit_of_measure(p, x->node->u.stat.measure);
        if (x->node->kind == LB_NODE_MAKE && x->moves.band > 1)
            p->unit_rows = lcm(p->unit_rows, x->moves.band);
        if (x->node->kind == LB_NODE_MAP && x->node->op == LB_MAP_WEAVE &&
            x->role == LB_INST_COMPUTE) { /* pairs stay together */
            if (x->frame.col == LB_AXIS_COLS)
                p->unit_cols = lcm(p->unit_cols, 2);
            else
                p->unit_rows = lcm(p->unit_rows, 2);
        }
        if (x->node->kind == LB_NODE_ENCODE)
            LB_TRY(unit_of_encode(b, p, x));
    }
    if (p->folds)
        p->unit_cols = lcm(p->unit_cols, LB_FOLD_LEAF);
    return LB_OK;
}

/* Slots by last use: a value's slot is free for the next once its last reader has run. */
static lb_status slots(builder *b, lb_pass *p) {
    u32 *last = lb_arena_new(b->arena, u32, p->n_insts + 1);
    u32 *free_slot = lb_arena_new(b->arena, u32, p->n_insts + 1);
    u32 n_free = 0;
    if (!last || !free_slot)
        return lb_fail(b->err, LB_E_NOMEM, "out of memory while planning");
    for (u32 i = 0; i < p->n_insts; i++)
        for (u32 k = 0; k < p->insts[i].n_in; k++)
            last[lb_inst_input(&p->insts[i], k)] = i;
    for (u32 i = 0; i < p->n_insts; i++) {
        lb_inst *x = &p->insts[i];
        if (x->node->value == LB_VALUE_F32 && x->role != LB_INST_HOLD)
            x->slot = n_free ? free_slot[--n_free] : p->n_slots++;
        for (u32 k = 0; k < x->n_in; k++) {
            u32 in = lb_inst_input(x, k);
            bool again = false;
            for (u32 j = 0; j < k; j++)
                again |= lb_inst_input(x, j) == in;
            if (last[in] == i && !again)
                free_slot[n_free++] = p->insts[in].slot;
        }
    }
    return LB_OK;
}

static lb_pass *begin_pass(builder *b, u64 n_rows, u64 n_cols) {
    lb_pass *p = &b->prog->passes[b->prog->n_passes++];
    *p = (lb_pass){.n_rows = n_rows, .n_cols = n_cols, .band = 1};
    b->pass = p;
    b->cap_insts = b->cap_leaves = 0;
    return p;
}

static lb_status end_pass(builder *b) {
    if (b->st == LB_OK)
        b->st = units(b, b->pass);
    if (b->st == LB_OK)
        b->st = slots(b, b->pass);
    return b->st;
}

/* input: of a stack; its rows begin at row0. */
static void build_result(builder *b, u32 result, u32 input, u64 row0) {
    static const lb_moves none = {.band = 1};
    const lb_frame frame = {.row = LB_AXIS_ROWS, .col = LB_AXIS_COLS};
    lb_result *r = &b->prog->results[result];
    const lb_node *n = lb_graph_node(b->g, r->node);
    lb_inst x = {.node = n,
                 .frame = frame,
                 .moves = none,
                 .leaf = UINT32_MAX,
                 .slot = LB_NO_SLOT,
                 .result = result};
    r->pass = b->prog->n_passes - 1;
    if (r->kind == LB_RESULT_STAT) {
        build_inputs(b, &x, n, &none, frame);
        x.result = result;
    } else {
        bool itself = r->kind == LB_RESULT_HOLD && !is_stack(n);
        x.role = LB_INST_HOLD;
        x.kept = r->kind == LB_RESULT_DENSE && lb_dense_adds_up(n);
        b->pass->full_cols |= x.kept;
        x.spill = r->spilled;
        x.spill_off = r->spill_off + row0 * n->n_cols * sizeof(float);
        x.row0 = row0;
        x.n_in = 1;
        x.in[0] = build_node(b, itself ? r->node : n->in[input], &none, frame, itself);
    }
    if (b->st == LB_OK)
        (void)add_inst(b, &x);
}

/* A pass for each input. */
static lb_status build_stack(builder *b, u32 result) {
    const lb_node *n = lb_graph_node(b->g, b->prog->results[result].node);
    u64 row0 = 0;
    for (u32 i = 0; i < n->n_in; i++) {
        const lb_node *in = lb_graph_node(b->g, n->in[i]);
        begin_pass(b, in->n_rows, in->n_cols);
        build_result(b, result, i, row0);
        LB_TRY(end_pass(b));
        row0 += in->n_rows;
    }
    return LB_OK;
}

static bool is_stack_result(const builder *b, const lb_result *r) {
    return r->kind == LB_RESULT_HOLD && is_stack(lb_graph_node(b->g, r->node));
}

/* Results of one level over one shape share a pass; selections have theirs, which may be read more
 * than once. */
static lb_status build_results(builder *b) {
    lb_prog *p = b->prog;
    u32 top = 0;
    for (u32 i = 0; i < p->n_results; i++)
        top = LB_MAX(top, p->results[i].level + 1);
    for (u32 level = 0; level < top; level++) {
        for (u32 i = 0; i < p->n_results; i++) {
            lb_result *r = &p->results[i];
            if (r->level != level || r->pass != UINT32_MAX)
                continue;
            if (is_stack_result(b, r)) {
                LB_TRY(build_stack(b, i));
                continue;
            }
            begin_pass(b, r->in_rows, r->in_cols);
            for (u32 j = i; j < p->n_results && b->st == LB_OK; j++) {
                lb_result *q = &p->results[j];
                if (q->level == level && q->pass == UINT32_MAX && q->in_rows == r->in_rows &&
                    q->in_cols == r->in_cols && is_selection(b, q) == is_selection(b, r) &&
                    !is_stack_result(b, q))
                    build_result(b, j, 0, 0);
            }
            b->pass->select_cap = r->select_cap;
            LB_TRY(end_pass(b));
        }
    }
    return LB_OK;
}

/* The instances of what a quantizer makes beside its codes, which compute nothing themselves;
 * returns how many. */
static u32 join_parts(lb_pass *p, lb_inst *codes) {
    u32 n = 0;
    for (u32 i = 0; i < p->n_insts; i++) {
        const lb_inst *x = &p->insts[i];
        const lb_node *y = x->node;
        if (y->kind != LB_NODE_ENCODE || y->u.encode.part == LB_QUANT_CODES ||
            y->u.encode.quant != codes->node->u.encode.quant || x->in[0] != codes->in[0])
            continue;
        codes->with[y->u.encode.part - 1] = i;
        n++;
    }
    return n;
}

static lb_status join_quants(builder *b, lb_pass *p) {
    u32 left = 0;
    bool whole = true;
    for (u32 i = 0; i < p->n_insts; i++)
        left +=
            p->insts[i].node->kind == LB_NODE_ENCODE && p->insts[i].node->u.encode.quant != NULL;
    for (u32 i = 0; i < p->n_insts && left; i++) {
        lb_inst *x = &p->insts[i];
        const lb_quant *q = x->node->kind == LB_NODE_ENCODE ? x->node->u.encode.quant : NULL;
        if (!q || x->node->u.encode.part != LB_QUANT_CODES)
            continue;
        u32 n = 1 + join_parts(p, x);
        whole = whole && n == lb_quant_n_parts(q);
        left -= LB_MIN(n, left);
        p->full_cols = p->full_cols || lb_quant_by_row(q);
        if (lb_quant_is_hf(q) && q->scope == LB_SCOPE_BLOCK)
            p->band = lcm(p->band, q->band);
    }
    return whole && left == 0
               ? LB_OK
               : lb_fail(b->err, LB_E_USAGE,
                         "codes, scales and biases or zero points are outputs of one job");
}

/* The pass has the rows and columns of what is encoded: all of it one shape. */
static lb_status build_roots(builder *b, const lb_node_id *roots, u32 n_roots) {
    static const lb_moves none = {.band = 1};
    const lb_node *first = lb_graph_node(b->g, lb_graph_node(b->g, roots[0])->in[0]);
    begin_pass(b, first->n_rows, first->n_cols);
    for (u32 i = 0; i < n_roots && b->st == LB_OK; i++) {
        const lb_node *n = lb_graph_node(b->g, roots[i]), *in = lb_graph_node(b->g, n->in[0]);
        if (n->kind != LB_NODE_ENCODE || in->n_rows != first->n_rows || in->n_cols != first->n_cols)
            return lb_fail(b->err, LB_E_USAGE,
                           "the outputs of a job must be encode nodes of one shape");
        lb_inst x = {.node = n,
                     .frame = {.row = LB_AXIS_ROWS, .col = LB_AXIS_COLS},
                     .moves = none,
                     .leaf = UINT32_MAX,
                     .slot = LB_NO_SLOT,
                     .result = UINT32_MAX,
                     .root = i};
        build_inputs(b, &x, n, &none, x.frame);
        if (b->st == LB_OK)
            (void)add_inst(b, &x);
    }
    if (b->st == LB_OK)
        b->st = join_quants(b, b->pass);
    if (b->st == LB_OK)
        b->st = lb_pass_pick(b->pass, b->arena, b->err);
    return end_pass(b);
}

/* One attempt: b->again tells that a node was set apart. */
static lb_status compile(builder *b, const lb_node_id *roots, u32 n_roots) {
    lb_prog *p = b->prog;
    *p = (lb_prog){0};
    b->seen = NULL;
    b->cap_results = b->n_seen = b->cap_seen = 0;
    b->again = false;
    b->st = LB_OK;
    for (u32 i = 0; i < n_roots; i++)
        (void)need(b, roots[i]);
    if (b->st != LB_OK)
        return b->st;
    u64 n_passes = (u64)p->n_results + 1;
    for (u32 i = 0; i < p->n_results; i++) {
        p->results[i].pass = UINT32_MAX;
        if (is_stack_result(b, &p->results[i]))
            n_passes += lb_graph_node(b->g, p->results[i].node)->n_in - 1;
    }
    LB_TRY(place_results(b));
    limit_selections(b);
    p->passes = lb_arena_new(b->arena, lb_pass, n_passes);
    if (!p->passes)
        return lb_fail(b->err, LB_E_NOMEM, "out of memory while planning");
    LB_TRY(build_results(b));
    /* of a survey the passes of its results are all there is */
    bool survey = lb_graph_node(b->g, roots[0])->kind == LB_NODE_STAT;
    return survey ? LB_OK : build_roots(b, roots, n_roots);
}

lb_status lb_prog_compile(lb_prog *p, const lb_graph *g, const lb_node_id *roots, u32 n_roots,
                          const lb_prog_limits *lim, lb_arena *arena, lb_err *err) {
    builder b = {.g = g, .arena = arena, .prog = p, .lim = *lim, .err = err};
    lb_status st;
    LB_ASSERT(n_roots >= 1 && n_roots <= LB_ROOTS_MAX);
    do
        st = compile(&b, roots, n_roots);
    while (st == LB_E_UNSUPPORTED && b.again);
    return st;
}
