/* SPDX-License-Identifier: Apache-2.0 */
/* generate_many.c: see generate_many.h. */
#include "ops/generate_many.h"
#include "base/mem.h"
#include "base/os.h"
#include "ops/generate_internal.h"

typedef struct slot {
    bool busy;
    u64 item;
    lb_many_item in;
    lb_running r;
    lb_generated out;
    u64 begin_us, ready_us; /* ready 0: its prompt is not read yet */
} slot;

typedef struct many {
    lb_context *c;
    const lb_many_opts *o;
    lb_many_result *result;
    slot *slots;
    u64 next;
    lb_unread batch;
    lb_draft_ask *asks; /* [n_seqs] of those that are past their prompts */
    u32 n_extra;        /* logits of guesses that one batch may have */
    float *logits;      /* [n_seqs + n_extra, n_vocab] */
} many;

/* Logits of guesses in one batch, of all sequences together. */
#define EXTRA_BYTES (64 * LB_MIB)

static lb_status end_slot(many *m, u32 seq, lb_status st, lb_err *err) {
    slot *s = &m->slots[seq];
    u64 now = lb_os_now_us();
    s->busy = false;
    st = lb_running_end(&s->r, st, err);
    s->out.prompt_us = (s->ready_us ? s->ready_us : now) - s->begin_us;
    s->out.generate_us = s->ready_us ? now - s->ready_us : 0;
    m->result->n_tokens += s->out.ids.len / sizeof(u32);
    m->result->n_drafted += s->out.n_drafted;
    m->result->n_accepted += s->out.n_accepted;
    lb_status ended =
        m->o->end(m->o->user, s->item, seq, &s->out, st == LB_OK, st == LB_OK ? err : NULL);
    lb_generated_deinit(&s->out);
    return st == LB_OK ? ended : st;
}

/* The sequence begins with what it or another holds of the prompt already. */
static u32 take_prefix(many *m, u32 seq, const u32 *ids, u32 n) {
    u32 best = seq, most = lb_context_common(m->c, seq, ids, n - 1);
    bool recurrent = lb_model_is_recurrent(lb_context_model(m->c));
    for (u32 i = 0; i < m->o->n_seqs && !recurrent; i++) {
        u32 same = lb_context_common(m->c, i, ids, n - 1);
        if (same > most) {
            most = same;
            best = i;
        }
    }
    if (best != seq && lb_context_copy(m->c, best, seq, most, NULL) == LB_OK)
        return most;
    return lb_context_keep(m->c, seq, ids, n - 1);
}

static lb_status begin_slot(many *m, u32 seq, lb_err *err) {
    slot *s = &m->slots[seq];
    *s = (slot){.busy = true, .item = m->next++, .begin_us = lb_os_now_us()};
    lb_status st = m->o->begin(m->o->user, s->item, seq, &s->in, err);
    s->in.o.draft = m->o->draft;
    s->r = (lb_running){.o = &s->in.o, .out = &s->out, .c = m->c, .seq = seq};
    if (st == LB_OK)
        st = lb_running_begin(&s->r, s->in.prompt, s->in.n, err);
    if (st != LB_OK || s->r.over)
        return end_slot(m, seq, st, err);
    s->out.n_prompt_computed = s->in.n - take_prefix(m, seq, s->in.prompt, s->in.n);
    m->result->n_prompt += s->in.n;
    m->result->n_prompt_computed += s->out.n_prompt_computed;
    return LB_OK;
}

/* Guesses of what follows the sequences that are past their prompts, which share the logits that
 * there is room for. */
static lb_status guess_all(many *m, lb_err *err) {
    u32 n = 0, n_asks = 0;
    for (u32 i = 0; i < m->o->n_seqs; i++)
        n += m->slots[i].busy && m->slots[i].ready_us;
    for (u32 i = 0; m->o->draft && i < m->o->n_seqs; i++)
        if (m->slots[i].busy && m->slots[i].ready_us)
            lb_running_ask(&m->slots[i].r, m->n_extra / n, &m->asks[n_asks++]);
    return n_asks ? lb_draft_guess(m->o->draft, m->asks, n_asks, err) : LB_OK;
}

/* One batch; *any false: nobody has anything to read. */
static lb_status read_all(many *m, bool *any, lb_err *err) {
    u32 n_asks = 0;
    lb_unread_reset(&m->batch);
    LB_TRY(guess_all(m, err));
    for (u32 i = 0; i < m->o->n_seqs; i++) {
        slot *s = &m->slots[i];
        if (!s->busy)
            continue;
        const lb_draft_ask *ask = m->o->draft && s->ready_us ? &m->asks[n_asks++] : NULL;
        LB_TRY(lb_running_add(&s->r, ask, &m->batch, err));
        s->out.n_steps += s->ready_us != 0;
    }
    *any = m->batch.wants.len != 0;
    m->result->n_steps += *any;
    return *any ? lb_unread_eval(&m->batch, m->c, m->logits, err) : LB_OK;
}

static lb_status sample_all(many *m, lb_err *err) {
    const float *row = m->logits;
    u32 n_vocab = lb_model_n_vocab(lb_context_model(m->c));
    for (u32 i = 0; i < m->o->n_seqs; i++) {
        slot *s = &m->slots[i];
        if (!s->busy)
            continue;
        if (!s->ready_us)
            s->ready_us = lb_os_now_us();
        const float *mine = row;
        row += ((size_t)s->r.n_guess + 1) * n_vocab;
        LB_TRY(lb_running_sample(&s->r, mine, err));
        bool full = false;
        if (!s->r.over)
            LB_TRY(lb_running_room(&s->r, &full, err));
        if (s->r.over || full)
            LB_TRY(end_slot(m, i, LB_OK, err));
    }
    return LB_OK;
}

static lb_status run_all(many *m, lb_err *err) {
    for (bool any = true; any;) {
        for (u32 i = 0; i < m->o->n_seqs; i++)
            while (!m->slots[i].busy && m->next < m->o->n_items)
                LB_TRY(begin_slot(m, i, err));
        LB_TRY(read_all(m, &any, err));
        if (any)
            LB_TRY(sample_all(m, err));
    }
    return LB_OK;
}

static lb_status make_room(many *m, lb_err *err) {
    const u32 n_max = m->o->draft ? lb_draft_n_max(m->o->draft) : 0, n_seqs = m->o->n_seqs;
    const u64 row_bytes = lb_model_n_vocab(lb_context_model(m->c)) * sizeof(float);
    const u64 most = LB_MAX(EXTRA_BYTES / row_bytes, (u64)LB_MAX(n_seqs, n_max));
    m->n_extra = (u32)LB_MIN((u64)n_seqs * n_max, most);
    m->slots = lb_alloc_zero(n_seqs, sizeof *m->slots);
    m->asks = lb_alloc_zero(n_seqs, sizeof *m->asks);
    m->logits = lb_alloc_zero((size_t)n_seqs + m->n_extra, row_bytes);
    return m->slots && m->asks && m->logits ? LB_OK
                                            : lb_fail(err, LB_E_NOMEM, "out of memory for logits");
}

lb_status lb_generate_many(lb_context *c, const lb_many_opts *o, lb_many_result *r, lb_err *err) {
    many m = {.c = c, .o = o, .result = r};
    u64 begin = lb_os_now_us();
    *r = (lb_many_result){0};
    lb_status st = make_room(&m, err);
    if (st == LB_OK)
        st = run_all(&m, err);
    for (u32 i = 0; m.slots && i < o->n_seqs; i++)
        if (m.slots[i].busy)
            (void)end_slot(&m, i, st, err);
    r->us = lb_os_now_us() - begin;
    lb_unread_deinit(&m.batch);
    lb_free(m.slots);
    lb_free(m.asks);
    lb_free(m.logits);
    return st;
}
