/* SPDX-License-Identifier: Apache-2.0 */
/* context.c: sessions: their memory, and batches cut into what is computed at a time. */
#include "base/interrupt.h"
#include "base/mem.h"
#include "model/device_layers.h"
#include "model/device_parts.h"

#define BATCH_USUAL 256u
#define EXPERT_ROWS_MAX 1024u
#define BUFFERS_BYTES_MAX (96 * LB_MIB)

/* Where bytes are only counted, what comes is nobody's to use. */
static void *room(lb_context *c, u64 count, size_t size) {
    u64 bytes;
    if (!c->counts)
        return lb_arena_push_array(&c->perm, LB_MAX(count, (u64)1), size, 64);
    lb_arena_sum_push(&c->sum, lb_mul_u64(LB_MAX(count, (u64)1), size, &bytes) ? bytes : UINT64_MAX,
                      64);
    return c;
}

/* As llama.cpp's there are many forms, of which a model's types take one or two. */
static bool has_form(const lb_context *c, lb_act_form f) {
    const lb_mweights *w = c->m->weights;
    if (c->o.acts != LB_ACTS_GGML || f == LB_ACT_F32)
        return lb_act_used(f, c->o.acts);
    for (u64 i = 0; i < w->n; i++)
        for (u32 k = 0; k < w->list[i].n_mats; k++)
            if (lb_mat_act(&w->list[i].mats[k], c->o.acts) == f)
                return true;
    return false;
}

/* Activations of rows of the widest matrix, in the forms that are used. */
static bool make_acts(lb_context *c, u8 *set[LB_ACT_FORMS], u64 rows) {
    for (int f = 0; f < LB_ACT_FORMS; f++) {
        if (!has_form(c, (lb_act_form)f))
            continue;
        set[f] = room(c, rows * lb_act_bytes((lb_act_form)f, c->m->max_cols), 1);
        if (!set[f])
            return false;
    }
    return true;
}

static bool make_experts(lb_context *c) {
    const lb_params *p = &c->m->p;
    u32 b = c->o.n_batch, used = p->n_expert_used;
    u64 rows = c->rows_max;
    c->scores = room(c, (u64)b * LB_MAX(p->n_expert, 1u), sizeof(float));
    c->chosen = room(c, (u64)b * used, sizeof(u32));
    c->top = room(c, (u64)b * used, sizeof(float));
    c->row_of = room(c, rows, sizeof(u32));
    c->of_row = room(c, rows, sizeof(u32));
    c->expert_start = room(c, (u64)p->n_expert + 1, sizeof(u32));
    c->held = room(c, p->n_expert, sizeof(u32));
    c->rows_out = room(c, rows * p->n_embd, sizeof(float));
    c->shared = room(c, (u64)b * p->n_embd, sizeof(float));
    return c->scores && c->chosen && c->top && c->row_of && c->of_row && c->expert_start &&
           c->held && c->rows_out && c->shared;
}

static bool make_buffers(lb_context *c, u64 split_elems) {
    const lb_model *m = c->m;
    const lb_params *p = &m->p;
    u64 b = c->o.n_batch;
    c->rows_max = p->n_expert
                      ? LB_MAX(p->n_expert_used, LB_MIN((u32)b * p->n_expert_used, EXPERT_ROWS_MAX))
                      : 0;
    u64 ff = LB_MAX(b * 2 * m->max_ff, (u64)c->rows_max * 2 * m->max_ff_exp);
    c->pos = room(c, b, sizeof(u32));
    c->seq = room(c, b, sizeof(u32));
    c->want = room(c, b, 1);
    c->blocks = room(c, b, sizeof *c->blocks);
    c->x = room(c, b * p->n_embd, sizeof(float));
    c->h = room(c, b * p->n_embd, sizeof(float));
    c->h2 = room(c, b * p->n_embd, sizeof(float));
    c->y = room(c, b * p->n_embd, sizeof(float));
    c->qkv = room(c, b * m->max_attn, sizeof(float));
    c->att = room(c, b * m->max_attn, sizeof(float));
    c->ff = room(c, ff, sizeof(float));
    c->layer_in = room(c, b * m->p.n_layers * m->layer_in_dim, sizeof(float));
    c->cos = room(c, m->n_ropes * b * c->rope_width, sizeof(float));
    c->sin = room(c, m->n_ropes * b * c->rope_width, sizeof(float));
    c->split = room(c, split_elems, sizeof(float));
    c->cap_slices = m->max_slices;
    c->slices = room(c, c->cap_slices, sizeof *c->slices);
    return c->pos && c->seq && c->want && c->blocks && c->x && c->h && c->h2 && c->y && c->qkv &&
           c->att && c->ff && c->cos && c->sin && c->split && c->slices && c->layer_in &&
           make_acts(c, c->act, LB_MAX(b, (u64)c->rows_max)) &&
           make_acts(c, c->act2, LB_MAX(b, (u64)c->rows_max)) && (!p->n_expert || make_experts(c));
}

/* Fewer tokens at a time where a model's vectors are wide. */
static u32 batch_that_fits(const lb_model *m, u32 n) {
    u64 acts = 2 * (lb_act_bytes(LB_ACT_F32, m->max_cols) + lb_act_bytes(LB_ACT_Q16, m->max_cols));
    u64 layer_in = (u64)m->p.n_layers * m->layer_in_dim;
    u64 bytes =
        (4ull * m->p.n_embd + 2ull * m->max_attn + 2ull * m->max_ff + layer_in) * sizeof(float) +
        acts;
    return (u32)LB_MIN((u64)n, LB_MAX(BUFFERS_BYTES_MAX / bytes, (u64)1));
}

/* Bytes of a thread's scratch. */
static size_t scratch_of(const lb_context *c, u64 *split_elems) {
    const lb_model *m = c->m;
    size_t scratch = 0, attend;
    lb_attend_sizes(m, &c->o, &attend, split_elems);
    for (u64 i = 0; i < m->weights->n; i++)
        for (u32 k = 0; k < m->weights->list[i].n_mats; k++)
            scratch = LB_MAX(scratch, lb_matmul_scratch_bytes(&m->weights->list[i].mats[k],
                                                              LB_MAX(c->o.n_batch, 1u)));
    scratch += m->positions ? m->p.n_embd * sizeof(float) : 0;
    if (m->layer_embd)
        scratch = LB_MAX(scratch, (m->layer_in_scratch + m->layer_embd->n_cols) * sizeof(float));
    scratch = LB_MAX(scratch, attend);
    scratch = LB_MAX(scratch, (size_t)c->o.scratch_bytes);
    scratch = LB_MAX(scratch, 2ull * m->max_attn * sizeof(float));
    return LB_MAX(scratch, (size_t)LB_MAX(m->p.n_expert, m->p.n_embd) * sizeof(float));
}

lb_cache_kind lb_context_cache_kind(const lb_context_opts *o) {
    bool is_auto = o->kv_rotate == LB_KV_ROTATE_AUTO;
    return (lb_cache_kind){.type = o->kv_type,
                           .rotated = o->kv_rotate == LB_KV_ROTATE_ON ||
                                      (is_auto && lb_dtype_get(o->kv_type)->cls == LB_CLASS_BLOCK)};
}

/* Angles, and the cache; of layers on a device, its tables alone. */
static lb_status init_positions(lb_context *c, lb_err *err) {
    const lb_model *m = c->m;
    lb_cache_kind kind = lb_context_cache_kind(&c->o);
    kind.copy = c->o.resident ? lb_device_copy_page : NULL;
    kind.step = c->o.resident ? lb_device_state : NULL;
    kind.user = c;
    kind.n_host = c->o.resident ? c->o.resident->first : 0;
    for (u32 i = 0; i < m->n_ropes; i++)
        LB_TRY(lb_rotary_init(&c->rotary[i],
                              &(lb_rotary_in){.p = &m->p,
                                              .w = m->weights,
                                              .n_rot = m->rope[i].n_rot,
                                              .n_ctx = c->o.n_ctx,
                                              .local = m->rope[i].local},
                              &c->perm, err));
    return lb_cache_init(&c->cache, &m->p, &kind, c->o.n_ctx, c->o.n_seqs, err);
}

/* What the host keeps of a batch whose layers devices compute, all of them. */
static lb_status init_batch(lb_context *c, lb_err *err) {
    const u64 b = c->o.n_batch;
    c->pos = room(c, b, sizeof(u32));
    c->seq = room(c, b, sizeof(u32));
    c->want = room(c, b, 1);
    return c->pos && c->seq && c->want
               ? LB_OK
               : lb_fail(err, LB_E_NOMEM, "out of memory for batches of %u tokens", c->o.n_batch);
}

static lb_status init(lb_context *c, lb_err *err) {
    const lb_resident *r = c->o.resident;
    u64 split_elems;
    if (r)
        LB_TRY(lb_device_check(&c->o, lb_resident_device(r), err));
    LB_TRY(init_positions(c, err));
    if (r && r->embeds) {
        LB_TRY(init_batch(c, err));
        if (c->o.sums) /* who measures has work for the host beside it (lb_context_each) */
            LB_TRY(lb_team_new(&c->team, c->o.threads, c->o.scratch_bytes, err));
        return lb_device_begin(c, err);
    }
    size_t scratch = scratch_of(c, &split_elems);
    if (!make_buffers(c, split_elems))
        return lb_fail(err, LB_E_NOMEM, "out of memory for batches of %u tokens", c->o.n_batch);
    LB_TRY(lb_team_new(&c->team, c->o.threads, scratch, err));
    return r ? lb_device_begin(c, err) : LB_OK;
}

void lb_context_settle(lb_context *c, const lb_model *m, const lb_context_opts *o) {
    c->m = m;
    c->o = *o;
    c->unit = LB_UNIT_NONE;
    c->o.n_seqs = LB_MAX(o->n_seqs, 1u);
    c->o.threads = LB_MAX(o->threads, 1u);
    c->o.n_ctx = LB_MAX(o->n_ctx, 1u);
    const lb_resident *r = c->device ? c->device->r : o->resident;
    const u32 usual = !r ? BATCH_USUAL : r->n_batch ? r->n_batch : LB_DEV_BATCH_USUAL;
    c->usual = !o->n_batch;
    c->o.n_batch = LB_MIN(o->n_batch ? o->n_batch : usual, c->o.n_ctx);
    if (!r || !r->embeds)
        c->o.n_batch = batch_that_fits(m, c->o.n_batch);
    for (u32 i = 0; i < m->n_ropes; i++)
        c->rope_width = LB_MAX(c->rope_width, (m->rope[i].n_rot / 2 + 15) & ~15u);
}

lb_status lb_context_new(lb_context **out, const lb_model *m, const lb_context_opts *o,
                         lb_err *err) {
    *out = NULL;
    lb_context *c = lb_alloc_zero(1, sizeof *c);
    if (!c)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a session");
    lb_context_settle(c, m, o);
    lb_status st = init(c, err);
    if (st == LB_OK)
        *out = c;
    else
        lb_context_free(&c);
    return st;
}

/* What blocks of the heap take beside their bytes. */
#define BLOCKS_BYTES (16 * LB_KIB)

/* The steps of init, counted; UINT64_MAX: beyond what can be said. */
static lb_status count(lb_context *c, u64 *out, lb_err *err) {
    const lb_model *m = c->m;
    const lb_cache_kind kind = lb_context_cache_kind(&c->o);
    u64 split_elems, sum = 0, scratch = scratch_of(c, &split_elems);
    LB_TRY(lb_cache_count(&m->p, &kind, c->o.n_ctx, c->o.n_seqs, &sum, err));
    for (u32 i = 0; i < m->n_ropes; i++)
        (void)room(c, m->rope[i].n_rot / 2 + 1, sizeof(double));
    (void)make_buffers(c, split_elems);
    bool fits = lb_add_u64(sum, c->sum.size_bytes, &sum) &&
                lb_mul_u64(c->o.threads, scratch + 128, &scratch) &&
                lb_add_u64(sum, scratch, &sum) && lb_add_u64(sum, sizeof *c + BLOCKS_BYTES, &sum);
    *out = fits ? sum : UINT64_MAX;
    return LB_OK;
}

lb_status lb_context_check_memory(const lb_model *m, const lb_context_opts *o, lb_err *err) {
    lb_context c = {.counts = true};
    u64 bytes;
    if (o->resident)
        return LB_OK;
    lb_context_settle(&c, m, o);
    LB_TRY(count(&c, &bytes, err));
    return lb_stream_check(m->stream, bytes, c.o.n_batch, err);
}

lb_status lb_context_room(const lb_model *m, const lb_context_opts *o, u64 *kv, u64 *buffers,
                          lb_err *err) {
    lb_context c = {.counts = true};
    u64 all;
    lb_context_settle(&c, m, o);
    const lb_cache_kind kind = lb_context_cache_kind(&c.o);
    LB_TRY(count(&c, &all, err));
    LB_TRY(lb_cache_count(&m->p, &kind, c.o.n_ctx, c.o.n_seqs, kv, err));
    *buffers = all - *kv;
    return LB_OK;
}

void lb_context_free(lb_context **cp) {
    lb_context *c = *cp;
    if (!c)
        return;
    lb_drop_unit(c);
    lb_device_end(c);
    lb_team_free(&c->team);
    lb_cache_deinit(&c->cache);
    lb_free(c->halves);
    lb_arena_deinit(&c->perm);
    lb_free(c);
    *cp = NULL;
}

lb_status lb_context_begin(lb_context *c, lb_err *err) {
    if (c->begun || c->device)
        return LB_OK;
    LB_TRY(lb_stream_begin(c->m->stream, lb_cache_rest_bytes(&c->cache), c->o.n_batch, err));
    c->begun = true;
    return LB_OK;
}

lb_status lb_context_check(const lb_context *c, const lb_batch *b, lb_err *err) {
    for (u32 i = 0; i < b->n; i++) {
        if (b->id[i] >= c->m->p.n_vocab)
            return lb_fail(err, LB_E_USAGE, "token %u: the model's vocabulary has %u", b->id[i],
                           c->m->p.n_vocab);
        if (b->seq && b->seq[i] >= c->o.n_seqs)
            return lb_fail(err, LB_E_USAGE, "sequence %u: the session has %u", b->seq[i],
                           c->o.n_seqs);
    }
    return LB_OK;
}

/* Positions of the part's tokens, and room for them. */
lb_status lb_context_place(lb_context *c, const lb_batch *b, u32 first, lb_err *err) {
    for (u32 i = 0; i < c->n;) {
        u32 seq = b->seq ? b->seq[first + i] : 0, n = 1;
        while (i + n < c->n && (b->seq ? b->seq[first + i + n] : 0) == seq)
            n++;
        LB_TRY(lb_cache_grow(&c->cache, seq, n, err));
        for (u32 k = 0; k < n; k++) {
            c->seq[i + k] = seq;
            c->pos[i + k] = c->cache.seq[seq].length + k;
            c->cache.seq[seq].id[c->pos[i + k]] = b->id[first + i + k];
            if (c->m->positions && c->pos[i + k] >= c->m->positions->n_rows)
                return lb_fail(err, LB_E_LIMIT, "position %u: the model has %llu", c->pos[i + k],
                               (unsigned long long)c->m->positions->n_rows);
        }
        c->cache.seq[seq].length += n;
        i += n;
    }
    return LB_OK;
}

static lb_status eval_part(lb_context *c, const lb_batch *b, u32 first, float **logits,
                           lb_err *err) {
    u32 n_want = 0;
    for (u32 i = 0; i < c->n; i++) {
        c->want[i] = b->want ? b->want[first + i] : first + i + 1 == b->n;
        n_want += c->want[i];
    }
    c->id = b->id + first;
    LB_TRY((c->device ? lb_device_forward : lb_forward)(c, *logits, c->want, err));
    if (*logits)
        *logits += (size_t)n_want * c->m->p.n_vocab;
    return LB_OK;
}

/* Tokens that failed on their way through the layers are nothing that a sequence holds. */
static void take_back(lb_context *c, const lb_batch *b, u32 first, u32 end) {
    for (u32 i = first, n; i < end; i += n) {
        const u32 seq = b->seq ? b->seq[i] : 0, length = c->cache.seq[seq].length;
        for (n = 1; i + n < end && (b->seq ? b->seq[i + n] : 0) == seq;)
            n++;
        if (!lb_cache_cut(&c->cache, seq, length - LB_MIN(n, length)))
            (void)lb_cache_cut(&c->cache, seq, 0);
    }
}

lb_status lb_context_eval(lb_context *c, const lb_batch *b, float *logits, lb_err *err) {
    LB_TRY(lb_context_check(c, b, err));
    LB_TRY(lb_context_begin(c, err));
    u32 first = 0, kept = 0; /* kept: tokens that are known to be through */
    lb_status st = LB_OK;
    while (first < b->n && st == LB_OK) {
        const u32 n = LB_MIN(c->o.n_batch, b->n - first);
        st = lb_interrupt_check(err);
        c->n = n;
        if (st == LB_OK)
            st = lb_context_place(c, b, first, err);
        if (st != LB_OK)
            break;
        st = eval_part(c, b, first, &logits, err);
        first += n;
        if (st == LB_OK && !lb_device_in_flight(c))
            kept = first;
    }
    if (lb_device_in_flight(c)) {
        lb_err ignored;
        const lb_status landed = lb_device_land(c, st == LB_OK ? err : &ignored);
        kept = landed == LB_OK ? first : kept;
        st = st == LB_OK ? landed : st;
    }
    if (st != LB_OK)
        take_back(c, b, kept, first);
    return st;
}

float *lb_context_row(const lb_context *c) {
    return lb_device_row(c);
}

const lb_model *lb_context_model(const lb_context *c) {
    return c->m;
}

u32 lb_context_n_ctx(const lb_context *c) {
    return c->o.n_ctx;
}

u32 lb_context_n_batch(const lb_context *c) {
    return c->o.n_batch;
}

u32 lb_context_common(const lb_context *c, u32 seq, const u32 *ids, u32 n) {
    const lb_cache_seq *s = &c->cache.seq[seq];
    u32 same = 0;
    while (same < n && same < s->length && s->id[same] == ids[same])
        same++;
    return same;
}

u32 lb_context_keep(lb_context *c, u32 seq, const u32 *ids, u32 n) {
    const lb_cache_seq *s = &c->cache.seq[seq];
    u32 same = lb_context_common(c, seq, ids, n);
    if (lb_cache_cut(&c->cache, seq, same))
        return same;
    same = s->marked && s->mark_length <= same ? s->mark_length : 0;
    (void)lb_cache_cut(&c->cache, seq, same);
    return same;
}

lb_status lb_context_mark(lb_context *c, u32 seq, lb_err *err) {
    return lb_cache_mark(&c->cache, seq, err);
}

u32 lb_context_length(const lb_context *c, u32 seq) {
    return c->cache.seq[seq].length;
}

const u32 *lb_context_ids(const lb_context *c, u32 seq) {
    return c->cache.seq[seq].id;
}

bool lb_context_cut(lb_context *c, u32 seq, u32 n) {
    return lb_cache_cut(&c->cache, seq, n);
}

lb_status lb_context_copy(lb_context *c, u32 from, u32 to, u32 n, lb_err *err) {
    return lb_cache_copy(&c->cache, from, to, n, err);
}

u64 lb_context_cache_bytes(const lb_context *c) {
    return lb_cache_bytes(&c->cache);
}

u64 lb_context_rest_bytes(const lb_context *c) {
    return lb_cache_rest_bytes(&c->cache);
}
