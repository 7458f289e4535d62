/* SPDX-License-Identifier: Apache-2.0 */
/* chain.c: see chain.h. Slices are counted in elements: a vector may be read as rows of one. */
#include "plan/chain.h"

#define BROKEN UINT64_MAX

/* Whether the pass's tiles follow each other in the order of the leaf's rows: down its rows, or in
 * one tile, whichever way round it looks at them. */
static bool in_order(const lb_frame *f, const lb_pass *p) {
    bool turned = f->row == LB_AXIS_COLS && f->col == LB_AXIS_ROWS && p->n_tiles == 1;
    return (turned || (f->row == LB_AXIS_ROWS && f->col == LB_AXIS_COLS)) && !f->row_div &&
           !f->col_div;
}

/* Whether the leaf reads whole rows in order: from element *first on, *n elements. */
static bool is_run(const lb_leaf *l, const lb_pass *p, u64 *first, u64 *n) {
    const lb_move *m = l->moves.n == 1 ? l->moves.step : NULL;
    if (l->per_row && p->tiles_per_row != 1) /* a tile has stretches of several rows */
        return false;
    if (l->spilled || l->whole || p->n_rows == 0 || p->n_cols == 0 || !in_order(&l->frame, p) ||
        (m ? m->op != LB_INDEX_ROWS || m->step != 1 : l->moves.n != 0))
        return false;
    lb_rect r = lb_leaf_rect(l, (lb_rect){0, p->n_rows, 0, p->n_cols});
    if (r.c0 != 0 || r.nc != l->n_cols)
        return false;
    for (u32 k = 0; k < l->codec.n_parts; k++)
        if (l->codec.part[k].kind != LB_PART_ROWS)
            return false;
    *first = (m ? m->from : 0) * l->n_cols;
    *n = r.nr * l->n_cols;
    return true;
}

void lb_chain_begin(lb_plan *p) {
    for (u32 i = 0; i < p->graph.n_sources; i++)
        for (u64 t = 0; t < p->graph.sources[i]->n_tensors; t++) {
            p->src[i].used[t] &= (u8) ~(LB_USED_CHAINED | LB_USED_WHOLE);
            if (p->src[i].next_elem)
                p->src[i].next_elem[t] = 0;
        }
    for (u64 j = 0; j < p->n_jobs; j++)
        p->jobs[j].after = 0;
}

/* As lb_chains_take will see it: before any leaf of the pass has advanced. A job whose slice was
 * read before waits too, so that it cannot come first. */
static bool note_part(lb_plan *p, u64 job, const lb_leaf *l, u32 tensor, u64 first) {
    lb_plan_source *s = &p->src[l->source];
    u64 *next = &s->next_elem[tensor];
    if (*next < first)
        *next = BROKEN;
    if (*next != 0 && *next != BROKEN && s->last_job[tensor] != job)
        p->jobs[job].after = LB_MAX(p->jobs[job].after, s->last_job[tensor] + 1);
    return *next == first;
}

static void advance_part(lb_plan *p, u64 job, const lb_leaf *l, u32 tensor, u64 to) {
    lb_plan_source *s = &p->src[l->source];
    if (s->next_elem[tensor] == BROKEN)
        return;
    s->last_job[tensor] = job;
    s->next_elem[tensor] = to;
    if (to == l->n_rows * l->n_cols)
        s->used[tensor] |= LB_USED_CHAINED;
}

static lb_status make_tables(lb_plan *p, u32 source, lb_err *err) {
    lb_plan_source *s = &p->src[source];
    u64 n_tensors = p->graph.sources[source]->n_tensors;
    if (s->next_elem)
        return LB_OK;
    s->next_elem = lb_arena_new(&p->perm, u64, n_tensors);
    s->last_job = lb_arena_new(&p->perm, u64, n_tensors);
    if (!s->next_elem || !s->last_job)
        return lb_fail(err, LB_E_NOMEM, "out of memory while planning");
    return LB_OK;
}

/* A leaf before this one in the pass that has the same tensor's slice at the same place. */
static bool taken(const lb_pass *pass, const bool *takes, u32 leaf) {
    for (u32 i = 0; i < leaf; i++)
        if (takes[i] && pass->leaves[i].source == pass->leaves[leaf].source &&
            pass->leaves[i].codec.part[0].tensor == pass->leaves[leaf].codec.part[0].tensor)
            return true;
    return false;
}

lb_status lb_chain_note(lb_plan *p, u64 job, const lb_pass *pass, lb_err *err) {
    bool takes[LB_LEAVES_MAX] = {0};
    for (u32 i = 0; i < pass->n_leaves && p->want_digests; i++) {
        const lb_leaf *l = &pass->leaves[i];
        u64 first = 0, n = 0;
        if (!is_run(l, pass, &first, &n) || n == 0)
            continue;
        LB_TRY(make_tables(p, l->source, err));
        takes[i] = !taken(pass, takes, i);
        for (u32 k = 0; k < l->codec.n_parts; k++)
            takes[i] = note_part(p, job, l, l->codec.part[k].tensor, first) && takes[i];
    }
    for (u32 i = 0; i < pass->n_leaves; i++) {
        const lb_leaf *l = &pass->leaves[i];
        u64 first = 0, n = 0;
        if (!takes[i] || !is_run(l, pass, &first, &n))
            continue;
        for (u32 k = 0; k < l->codec.n_parts; k++)
            advance_part(p, job, l, l->codec.part[k].tensor, first + n);
    }
    return LB_OK;
}

void lb_chain_end(lb_plan *p) {
    for (u32 i = 0; i < p->graph.n_sources; i++)
        for (u64 t = 0; p->src[i].next_elem && t < p->graph.sources[i]->n_tensors; t++)
            if (p->src[i].used[t] & LB_USED_WHOLE)
                p->src[i].used[t] &= (u8)~LB_USED_CHAINED;
}

/* ---- running ---- */

static bool is_chained(const lb_plan *p, u32 source, u64 tensor) {
    return p->want_digests && (p->src[source].used[tensor] & LB_USED_CHAINED);
}

static u64 count(const lb_plan *p, u32 source) {
    u64 n = 0;
    for (u64 t = 0; t < p->graph.sources[source]->n_tensors; t++)
        n += is_chained(p, source, t);
    return n;
}

u64 lb_chains_bytes(const lb_plan *p) {
    u64 bytes = 64;
    for (u32 i = 0; i < p->graph.n_sources; i++) {
        u64 n = count(p, i);
        bytes += n ? n * sizeof(lb_chain) + p->graph.sources[i]->n_tensors * sizeof(u32) : 0;
    }
    return bytes;
}

lb_status lb_chains_init(lb_chains *c, const lb_plan *p, lb_arena *perm, lb_err *err) {
    u64 n = 0;
    u32 at = 0;
    for (u32 i = 0; i < p->graph.n_sources; i++)
        n += count(p, i);
    *c = (lb_chains){.no = lb_arena_new(perm, u32 *, p->graph.n_sources + 1),
                     .chain = lb_arena_new(perm, lb_chain, n + 1)};
    bool ok = c->no && c->chain;
    for (u32 i = 0; ok && i < p->graph.n_sources; i++) {
        u64 n_tensors = p->graph.sources[i]->n_tensors;
        if (count(p, i) == 0)
            continue;
        ok = (c->no[i] = lb_arena_new(perm, u32, n_tensors)) != NULL;
        for (u64 t = 0; ok && t < n_tensors; t++)
            if (is_chained(p, i, t)) {
                lb_xxh_init(&c->chain[at].state);
                c->no[i][t] = ++at;
            }
    }
    return ok ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for hashes");
}

lb_chain *lb_chains_of(const lb_chains *c, const lb_leaf *l, u32 part) {
    u32 no = !l->spilled && c->no[l->source] ? c->no[l->source][l->codec.part[part].tensor] : 0;
    return no ? &c->chain[no - 1] : NULL;
}

bool lb_chains_take(lb_chains *c, const lb_leaf *l, const lb_pass *pass) {
    u64 first = 0, n;
    bool follows = is_run(l, pass, &first, &n);
    for (u32 k = 0; k < l->codec.n_parts && follows; k++) {
        lb_chain *x = lb_chains_of(c, l, k);
        follows = x && x->next_elem == first && !x->busy;
        if (x && x->next_elem < first)
            x->next_elem = BROKEN;
    }
    for (u32 k = 0; k < l->codec.n_parts && follows; k++)
        lb_chains_of(c, l, k)->busy = true;
    return follows;
}

void lb_chain_advance(lb_chain *c, const lb_leaf *l, const lb_pass *pass, bool *done) {
    u64 first, n = 0;
    c->busy = false;
    if (is_run(l, pass, &first, &n) && c->next_elem != BROKEN)
        c->next_elem += n;
    *done = c->next_elem == l->n_rows * l->n_cols;
}
