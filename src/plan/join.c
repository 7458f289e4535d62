/* SPDX-License-Identifier: Apache-2.0 */
/* join.c: jobs that take turns with the rows of the same stored matrices (gate and up of experts
 * that store them woven) become one, so that the rows are read once and in the order of the file:
 * see compile.c's picks. Nothing else about them changes: neither what is computed nor where it is
 * written. */
#include "plan/plan.h"

#define LOOK_BACK 8 /* jobs: gate and up are a few tensors apart */

/* Every step-th row of a stored matrix. */
typedef struct turn {
    const lb_weight *weight;
    u32 source;
    u64 from, step, n_rows, n_cols;
} turn;

/* What an encode node's input is: such rows, through nodes of one input that compute each row by
 * itself. */
static bool turn_of(const lb_graph *g, lb_node_id root, turn *t) {
    const lb_node *n = lb_graph_node(g, root);
    *t = (turn){.step = 1, .n_rows = n->n_rows, .n_cols = n->n_cols};
    if (n->kind != LB_NODE_ENCODE)
        return false;
    t->n_rows = lb_graph_node(g, n->in[0])->n_rows;
    t->n_cols = lb_graph_node(g, n->in[0])->n_cols;
    for (n = lb_graph_node(g, n->in[0]); n->kind != LB_NODE_READ; n = lb_graph_node(g, n->in[0])) {
        bool rows = n->kind == LB_NODE_INDEX && n->op == LB_INDEX_ROWS && t->step == 1;
        if (rows) {
            t->from = n->u.index.from;
            t->step = n->u.index.step;
        }
        if (!rows && n->kind != LB_NODE_DECODE)
            return false;
    }
    t->weight = n->u.read.weight;
    t->source = n->u.read.source;
    return t->step > 1;
}

static bool same_turns(const turn *a, const turn *b) {
    return a->weight == b->weight && a->source == b->source && a->step == b->step &&
           a->n_rows == b->n_rows && a->n_cols == b->n_cols;
}

/* Whether all roots of a segment take the same rows. */
static bool turn_of_segment(const lb_graph *g, const lb_job *j, u32 segment, turn *t) {
    turn x;
    if (!turn_of(g, j->segments[segment].root[0], t))
        return false;
    for (u32 i = 1; i < j->n_streams; i++)
        if (!turn_of(g, j->segments[segment].root[i], &x) || !same_turns(t, &x) ||
            x.from != t->from)
            return false;
    return true;
}

/* Whether b's rows lie between a's in every segment. */
static bool take_turns(const lb_graph *g, const lb_job *a, const lb_job *b) {
    if (a->n_segments != b->n_segments || a->n_streams + b->n_streams > LB_ROOTS_MAX)
        return false;
    for (u32 i = 0; i < a->n_segments; i++) {
        turn x, y;
        if (!turn_of_segment(g, a, i, &x) || !turn_of_segment(g, b, i, &y) || !same_turns(&x, &y) ||
            y.from <= x.from || y.from - x.from >= x.step)
            return false;
    }
    return true;
}

static lb_status join(lb_plan *p, lb_job *a, lb_job *b, lb_err *err) {
    u32 n = a->n_streams + b->n_streams;
    lb_stream *streams = lb_arena_new(&p->perm, lb_stream, n);
    lb_segment *segments = lb_arena_new(&p->perm, lb_segment, a->n_segments);
    if (!streams || !segments)
        return lb_fail(err, LB_E_NOMEM, "out of memory while planning");
    memcpy(streams, a->streams, a->n_streams * sizeof *streams);
    memcpy(streams + a->n_streams, b->streams, b->n_streams * sizeof *streams);
    for (u32 i = 0; i < a->n_segments; i++) {
        memcpy(segments[i].root, a->segments[i].root, a->n_streams * sizeof(lb_node_id));
        memcpy(segments[i].root + a->n_streams, b->segments[i].root,
               b->n_streams * sizeof(lb_node_id));
    }
    a->streams = streams;
    a->n_streams = n;
    a->segments = segments;
    a->cap_segments = a->n_segments;
    b->n_segments = 0;
    return LB_OK;
}

lb_status lb_plan_join(lb_plan *p, lb_err *err) {
    u64 n = 0;
    for (u64 j = 0; j < p->n_jobs; j++) {
        lb_job *b = &p->jobs[j];
        turn t;
        bool turns =
            b->n_streams && b->n_segments && turn_of(&p->graph, b->segments[0].root[0], &t);
        bool joined = false;
        for (u64 k = n; turns && !joined && k-- > 0 && n - k <= LOOK_BACK;) {
            lb_job *a = &p->jobs[k];
            if (a->n_streams == 0 || !take_turns(&p->graph, a, b))
                continue;
            LB_TRY(join(p, a, b, err));
            joined = true;
        }
        if (!joined)
            p->jobs[n++] = *b;
    }
    p->n_jobs = n;
    return LB_OK;
}
