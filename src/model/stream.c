/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c: see stream.h. */
#include "model/stream.h"
#include "base/mem.h"
#include "base/os.h"
#include "model/graph.h"
#include "model/stream_internal.h"

/* What a session asks for later beside its keys and values: texts, the steps of sampling. */
#define LATER_BYTES (4 * LB_MIB)
#define LATER_PER_TOKEN 32u /* of the vocabulary */
/* The system maps so much around a page that is touched (fault_around_bytes of Linux). */
#define AROUND_BYTES (64 * LB_KIB)

lb_status lb_stream_new(lb_stream **out, const lb_model *m, lb_err *err) {
    lb_stream *s = lb_alloc_zero(1, sizeof *s);
    *out = s;
    if (!s)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the list of weights");
    s->m = m;
    return LB_OK;
}

static void switch_off(lb_stream *s) {
    if (s->on)
        lb_reading_stop(&s->reading);
    if (s->on)
        lb_reading_deinit(&s->reading);
    lb_hot_deinit(&s->hot);
    lb_free(s->memory);
    s->memory = NULL;
    s->memory_bytes = 0;
    s->on = false;
    for (u32 i = 0; i < s->n_units; i++) {
        s->unit[i].to = NULL;
        s->unit[i].slot = LB_UNIT_NONE;
        s->unit[i].users = 0;
        s->unit[i].left = 0;
    }
}

void lb_stream_free(lb_stream **sp) {
    if (!*sp)
        return;
    switch_off(*sp);
    lb_arena_deinit(&(*sp)->perm);
    lb_free(*sp);
    *sp = NULL;
}

void lb_stream_set_limit(lb_stream *s, const lb_stream_limit *l) {
    s->limit = *l;
}

bool lb_stream_is_on(const lb_stream *s) {
    return s && s->on;
}

void lb_stream_tell(const lb_stream *s, lb_stream_figures *out) {
    *out = (lb_stream_figures){.streamed = s->on,
                               .copied = s->on && s->limit.copy,
                               .weights_bytes = s->weights_bytes,
                               .memory_bytes = s->memory_bytes,
                               .expert_bytes = s->expert_bytes,
                               .n_experts = s->n_units - s->n_dense};
    if (!s->on)
        return;
    out->pass_bytes = s->plan.pass_bytes;
    out->n_expert_slots = s->plan.n_slots;
    lb_reading *r = (lb_reading *)(uintptr_t)&s->reading;
    lb_lock(&r->lock);
    out->read_bytes = r->read_bytes;
    lb_unlock(&r->lock);
}

/* ---- how the memory is shared ---- */

static u64 table_bytes(const lb_mweight *w, u64 n_rows) {
    u64 all = 0;
    for (u32 i = 0; w && i < w->n_mats; i++)
        all += w->mats[i].n_rows * w->mats[i].row_bytes;
    return LB_MIN(all, n_rows * AROUND_BYTES);
}

/* All but weights. */
static u64 others(const lb_stream *s, u64 more) {
    const lb_model *m = s->m;
    u64 later = LATER_BYTES + (u64)LATER_PER_TOKEN * m->p.n_vocab;
    u64 heap = lb_mem_used() - s->memory_bytes;
    u64 known = s->limit.process_bytes + heap + later + s->mapped_bytes;
    return more > UINT64_MAX / 2 ? more : known + more;
}

/* Rows of tables that a batch reads where they are mapped. */
static u64 tables(const lb_stream *s, u64 n_rows) {
    return table_bytes(s->m->embd, n_rows) + table_bytes(s->m->positions, n_rows) +
           table_bytes(s->m->layer_embd, n_rows);
}

static lb_status too_small(const lb_stream *s, u64 least, lb_err *err) {
    return lb_fail(err, LB_E_LIMIT,
                   "weights of %llu MiB do not fit the memory, and to read them as they are needed "
                   "this session takes at least %llu MiB (--memory): a smaller --ctx or --batch, "
                   "or --kv-type q8_0, needs less",
                   (unsigned long long)(s->weights_bytes / LB_MIB),
                   (unsigned long long)lb_ceil_div_u64(least, LB_MIB));
}

/* Buffers of units: those that are kept, in the order of use. */
static lb_status place(lb_stream *s, lb_err *err) {
    u64 n = s->memory_bytes + 64;
    s->memory = lb_alloc((size_t)n);
    if (!s->memory)
        return lb_fail(err, LB_E_NOMEM, "out of memory for weights");
    lb_os_large_pages(s->memory, n);
    u8 *at = (u8 *)(((uintptr_t)s->memory + 63) & ~(uintptr_t)63);
    for (u32 i = 0; i < s->n_dense; i++)
        if (s->plan.kept[i]) {
            s->unit[i].to = at;
            at += s->dense_bytes[i];
        }
    s->slots = at;
    s->expert_slots = at + LB_STREAM_RING * s->plan.slot_bytes;
    for (u32 i = 0; i < LB_STREAM_RING; i++)
        s->slot_unit[i] = LB_UNIT_NONE;
    return lb_hot_init(&s->hot, s->n_units - s->n_dense, s->n_expert, (u32)s->plan.n_slots, err);
}

static lb_status switch_on(lb_stream *s, lb_err *err) {
    LB_TRY(place(s, err));
    lb_reading_init(&s->reading, s->span);
    lb_status st = lb_reading_start(&s->reading, err);
    if (st != LB_OK) {
        lb_reading_deinit(&s->reading);
        return st;
    }
    s->on = true;
    for (u32 i = 0; i < s->n_dense; i++)
        if (s->plan.kept[i])
            lb_reading_add(&s->reading, &s->unit[i], false);
    return LB_OK;
}

static lb_stream_sizes sizes_of(const lb_stream *s) {
    return (lb_stream_sizes){.dense = s->dense_bytes,
                             .n_dense = s->n_dense,
                             .expert_bytes = s->expert_bytes,
                             .n_experts = s->n_units - s->n_dense,
                             .n_together = s->m->p.n_expert_used};
}

/* What is on serves: all of them, or as good as all that could be had. */
static bool still_good(const lb_stream *s, u64 budget) {
    if (!s->on || s->reading.failed)
        return false;
    if (s->limit.copy)
        return !s->plan.pass_bytes && s->plan.n_slots == s->n_units - s->n_dense;
    return s->memory_bytes <= budget && s->memory_bytes >= budget / 8 * 7;
}

/* Whether all weights fit where they are mapped, beside `used` of others. */
static bool fits_whole(const lb_stream *s, u64 used) {
    u64 all = s->weights_bytes + tables(s, UINT64_MAX / AROUND_BYTES), total = s->limit.total_bytes;
    if (s->m->output.w == s->m->embd)
        all -= table_bytes(s->m->embd, UINT64_MAX / AROUND_BYTES);
    return used <= total && all <= total - used;
}

static lb_status no_copy(u64 all, u64 used, lb_err *err) {
    return lb_fail(err, LB_E_LIMIT,
                   "a copy of the weights (--repack) of %llu MiB does not fit: this session takes "
                   "%llu MiB of memory with it (--memory); without --repack weights are read where "
                   "they are mapped",
                   (unsigned long long)(all / LB_MIB),
                   (unsigned long long)lb_ceil_div_u64(all + used, LB_MIB));
}

/* How the memory is shared, beside `used` of others; LB_E_LIMIT: it is too small. What was on is
 * off. */
static lb_status plan(lb_stream *s, u64 used, lb_err *err) {
    u64 total = s->limit.total_bytes ? s->limit.total_bytes : UINT64_MAX;
    u64 budget = total - LB_MIN(used, total);
    lb_stream_sizes z = sizes_of(s);
    switch_off(s);
    if (s->limit.copy) {
        u64 all = lb_stream_plan_all(&z);
        if (all > budget)
            return no_copy(all, used, err);
        budget = all;
    }
    if (!lb_stream_plan_make(&z, budget, &s->plan))
        return too_small(s, used + s->plan.least_bytes, err);
    s->memory_bytes = lb_stream_plan_bytes(&z, &s->plan);
    return LB_OK;
}

/* All weights stay where they are mapped. */
static lb_status stay(lb_stream *s) {
    const lb_mweights *w = s->m->weights;
    switch_off(s);
    for (u32 i = 0; i < w->n_files && !s->stays; i++)
        lb_mapped_large_pages(w->files[i]);
    s->stays = true;
    return LB_OK;
}

/* *used: what others have, with rows of tables; *whole: nothing is to be done for weights. */
static lb_status share(lb_stream *s, u64 more, u64 n_rows, u64 *used, bool *whole, lb_err *err) {
    *whole = !s->limit.copy && !s->limit.total_bytes;
    if (*whole)
        return LB_OK;
    if (!s->unit)
        LB_TRY(lb_stream_list(s, err));
    *used = others(s, more);
    *whole = !s->limit.copy && fits_whole(s, *used);
    if (*used <= UINT64_MAX / 2)
        *used += tables(s, n_rows);
    return LB_OK;
}

lb_status lb_stream_begin(lb_stream *s, u64 more, u64 n_rows, lb_err *err) {
    u64 used = 0;
    bool whole;
    LB_TRY(share(s, more, n_rows, &used, &whole, err));
    if (whole)
        return stay(s);
    if (still_good(s, s->limit.total_bytes - LB_MIN(used, s->limit.total_bytes)))
        return LB_OK;
    LB_TRY(plan(s, used, err));
    lb_status st = switch_on(s, err);
    if (st != LB_OK)
        switch_off(s);
    else if (s->limit.begins)
        s->limit.begins(s->limit.user, s);
    return st;
}

lb_status lb_stream_check(lb_stream *s, u64 more, u64 n_rows, lb_err *err) {
    u64 used = 0;
    bool whole;
    LB_TRY(share(s, more, n_rows, &used, &whole, err));
    if (whole)
        return LB_OK;
    LB_TRY(plan(s, used, err));
    switch_off(s);
    return LB_OK;
}

/* ---- dense units ---- */

static bool is_streamed(const lb_stream *s, u32 unit) {
    return unit < s->n_dense && s->unit[unit].n_spans && !s->plan.kept[unit];
}

/* The next one from `unit` on that goes through the ring; there is one. */
static u32 next_streamed(const lb_stream *s, u32 unit) {
    while (!is_streamed(s, unit % s->n_dense))
        unit++;
    return unit % s->n_dense;
}

/* A slot that neither is used nor holds one of the wanted. */
static u32 free_slot(const lb_stream *s, const u32 *wanted) {
    for (u32 i = 0; i < LB_STREAM_RING; i++) {
        u32 has = s->slot_unit[i];
        bool is_wanted = false;
        for (u32 k = 0; k < LB_STREAM_RING; k++)
            is_wanted |= has == wanted[k];
        if (has == LB_UNIT_NONE || (!is_wanted && !s->unit[has].users))
            return i;
    }
    return LB_UNIT_NONE;
}

static void fill_slot(lb_stream *s, u32 slot, u32 unit) {
    u32 had = s->slot_unit[slot];
    if (had != LB_UNIT_NONE) {
        lb_reading_cancel(&s->reading, &s->unit[had]);
        s->unit[had].to = NULL;
        s->unit[had].slot = LB_UNIT_NONE;
    }
    s->slot_unit[slot] = unit;
    s->unit[unit].slot = slot;
    s->unit[unit].to = s->slots + slot * s->plan.slot_bytes;
    lb_reading_add(&s->reading, &s->unit[unit], false);
}

/* The ring is to hold what comes from `unit` on. */
static void look_ahead(lb_stream *s, u32 unit) {
    u32 wanted[LB_STREAM_RING], slot;
    if (!s->plan.slot_bytes)
        return;
    for (u32 i = 0; i < LB_STREAM_RING; i++)
        wanted[i] = next_streamed(s, i ? wanted[i - 1] + 1 : unit);
    for (u32 i = 0; i < LB_STREAM_RING; i++)
        if (!s->unit[wanted[i]].to && (slot = free_slot(s, wanted)) != LB_UNIT_NONE)
            fill_slot(s, slot, wanted[i]);
}

lb_status lb_stream_enter(lb_stream *s, u32 unit, lb_err *err) {
    lb_unit *u = &s->unit[unit];
    LB_ASSERT(unit < s->n_dense);
    LB_TRY(lb_reading_status(&s->reading, err));
    look_ahead(s, unit);
    if (!u->n_spans)
        return LB_OK;
    LB_ASSERT(u->to);
    LB_TRY(lb_reading_wait(&s->reading, u, err));
    u->users++;
    return LB_OK;
}

void lb_stream_leave(lb_stream *s, u32 unit) {
    lb_unit *u = &s->unit[unit];
    if (!u->n_spans)
        return;
    LB_ASSERT(u->users);
    u->users--;
    look_ahead(s, unit + 1);
}

/* ---- experts ---- */

u32 lb_stream_n_together(const lb_stream *s) {
    return (u32)s->plan.n_slots;
}

lb_status lb_stream_hold(lb_stream *s, u32 layer, const u32 *expert, u32 n, lb_err *err) {
    u32 first = s->experts_of[layer];
    lb_status st = LB_OK;
    bool there;
    LB_TRY(lb_reading_status(&s->reading, err));
    for (u32 i = 0; i < n; i++) {
        lb_unit *u = &s->unit[first + expert[i]];
        u32 slot = lb_hot_hold(&s->hot, first - s->n_dense + expert[i], &there);
        LB_ASSERT(slot != LB_HOT_NONE);
        u->to = s->expert_slots + slot * s->expert_bytes;
        u->users++;
        if (!there)
            lb_reading_add(&s->reading, u, true);
    }
    for (u32 i = n; i-- > 0 && st == LB_OK;) /* in the order of the queue */
        st = lb_reading_wait(&s->reading, &s->unit[first + expert[i]], err);
    if (st != LB_OK)
        lb_stream_drop(s, layer, expert, n);
    return st;
}

void lb_stream_drop(lb_stream *s, u32 layer, const u32 *expert, u32 n) {
    u32 first = s->experts_of[layer];
    for (u32 i = 0; i < n; i++) {
        lb_hot_drop(&s->hot, first - s->n_dense + expert[i]);
        s->unit[first + expert[i]].users--;
    }
}

/* ---- where bytes are now ---- */

/* NULL: not in this unit. */
static const u8 *in_unit(const lb_stream *s, const lb_unit *u, const u8 *p) {
    u32 low = u->first_span, high = low + u->n_spans;
    if (!u->n_spans || !u->users)
        return NULL;
    while (high - low > 1) {
        u32 mid = low + (high - low) / 2;
        if (s->span[mid].from <= p)
            low = mid;
        else
            high = mid;
    }
    const lb_span *x = &s->span[low];
    return p >= x->from && (u64)(p - x->from) < x->n ? u->to + x->at + (p - x->from) : NULL;
}

static const u8 *moved(const lb_stream *s, const lb_unit *u, const u8 *p) {
    const u8 *now = p ? in_unit(s, u, p) : NULL;
    return now ? now : p;
}

lb_mat lb_stream_mat(const lb_stream *s, const lb_mat *m, u32 unit, u32 expert) {
    lb_mat now = *m;
    if (unit == LB_UNIT_NONE)
        return now;
    const lb_unit *u = &s->unit[unit];
    if (!in_unit(s, u, m->codes)) {
        u32 layer = unit - 1;
        if (unit == 0 || layer >= s->m->p.n_layers || s->experts_of[layer] == LB_UNIT_NONE ||
            expert >= s->n_expert)
            return now;
        u = &s->unit[s->experts_of[layer] + expert];
        if (!in_unit(s, u, m->codes))
            return now;
    }
    now.codes = moved(s, u, m->codes);
    now.scale = moved(s, u, m->scale);
    now.bias = moved(s, u, m->bias);
    return now;
}

static void let_go(const lb_mweights *all, const u8 *p, u64 n) {
    for (u32 k = 0; p && k < all->n_files; k++) {
        const lb_mapped *f = all->files[k];
        if (p >= f->base && (u64)(p - f->base) < f->size_bytes)
            lb_mapped_let_go(f, (u64)(p - f->base), n);
    }
}

void lb_stream_let_go(const lb_stream *s, const lb_mweight *w) {
    const lb_mweights *all = s->m->weights;
    for (u32 i = 0; s->on && w && i < w->n_mats; i++) {
        const lb_mat *m = &w->mats[i];
        let_go(all, m->codes, m->n_rows * m->row_bytes);
        let_go(all, m->scale, m->n_rows * m->scale_bytes);
        let_go(all, m->bias, m->n_rows * m->scale_bytes);
    }
}
