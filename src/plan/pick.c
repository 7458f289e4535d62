/* SPDX-License-Identifier: Apache-2.0 */
/* pick.c: leaves of a pass that together read all rows of a stretch, each every n-th, become one.
 */
#include "plan/prog.h"

#define PICKS_MAX 4

static bool may_pick(const lb_leaf *l) {
    const lb_frame *f = &l->frame;
    bool ok = !l->spilled && !l->per_row && l->moves.n == 1 && l->moves.step->op == LB_INDEX_ROWS &&
              l->moves.step->step > 1 && l->moves.step->step <= PICKS_MAX && lb_frame_is_upright(f);
    for (u32 k = 0; k < l->codec.n_parts; k++)
        ok = ok && l->codec.part[k].kind == LB_PART_ROWS;
    return ok;
}

/* The leaf of the pass that reads the rows k after l's, or UINT32_MAX. */
static u32 find_turn(const lb_pass *p, const lb_leaf *l, u64 k) {
    for (u32 i = 0; i < p->n_leaves; i++) {
        const lb_leaf *x = &p->leaves[i];
        if (may_pick(x) && x->weight == l->weight && x->source == l->source &&
            x->n_cols == l->n_cols && lb_frame_eq(&x->frame, &l->frame) &&
            x->moves.step->step == l->moves.step->step &&
            x->moves.step->from == l->moves.step->from + k)
            return i;
    }
    return UINT32_MAX;
}

static void remove_leaf(lb_pass *p, u32 leaf) {
    for (u32 i = leaf; i + 1 < p->n_leaves; i++)
        p->leaves[i] = p->leaves[i + 1];
    p->n_leaves--;
    for (u32 i = 0; i < p->n_insts; i++)
        if (p->insts[i].leaf != UINT32_MAX && p->insts[i].leaf > leaf)
            p->insts[i].leaf--;
}

/* Leaf `first` and those that read between its rows become one, which reads all in order. */
static bool pick_from(lb_pass *p, u32 first, lb_arena *arena, bool *oom) {
    lb_leaf *l = &p->leaves[first];
    u32 n = (u32)l->moves.step->step, turn[PICKS_MAX];
    for (u32 k = 0; k < n; k++)
        if ((turn[k] = find_turn(p, l, k)) == UINT32_MAX)
            return false;
    lb_move *all = lb_arena_new(arena, lb_move, 1);
    if (!all) {
        *oom = true;
        return false;
    }
    for (u32 i = 0; i < p->n_insts; i++)
        for (u32 k = 0; k < n; k++)
            if (!p->insts[i].picks && p->insts[i].leaf == turn[k]) {
                p->insts[i].picks = true;
                p->insts[i].pick = k;
                p->insts[i].leaf = first;
            }
    *all = (lb_move){.op = LB_INDEX_ROWS, .from = l->moves.step->from, .step = 1};
    l->moves = (lb_moves){.step = all, .n = 1, .band = 1};
    l->per_row = n;
    for (u32 i = p->n_leaves; i-- > 0;) /* from the last: numbers of the others stay */
        for (u32 k = 1; k < n; k++)
            if (turn[k] == i)
                remove_leaf(p, i);
    return true;
}

lb_status lb_pass_pick(lb_pass *p, lb_arena *arena, lb_err *err) {
    bool oom = false;
    for (u32 i = 0; i < p->n_leaves && !oom;)
        i = may_pick(&p->leaves[i]) && pick_from(p, i, arena, &oom) ? 0 : i + 1;
    return oom ? lb_fail(err, LB_E_NOMEM, "out of memory while planning") : LB_OK;
}
