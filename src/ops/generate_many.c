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
    lb_buf ids, seqs, wants; /* of a batch: u32, u32, u8 */
    float *logits;           /* [n_seqs, n_vocab] */
} many;

static u32 n_sequence(const slot *s) {
    return (u32)(s->out.sequence.len / sizeof(u32));
}

static lb_status end_slot(many *m, u32 seq, lb_status st, lb_err *err) {
    slot *s = &m->slots[seq];
    u64 now = lb_os_now_us();
    s->busy = false;
    st = lb_running_end(&s->r, st, err);
    s->out.prompt_us = (s->ready_us ? s->ready_us : now) - s->begin_us;
    s->out.generate_us = s->ready_us ? now - s->ready_us : 0;
    m->result->n_tokens += s->out.ids.len / sizeof(u32);
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
    s->r = (lb_running){.o = &s->in.o, .out = &s->out};
    if (st == LB_OK && !s->in.n)
        st = lb_fail(err, LB_E_USAGE, "the prompt is empty: there is no token to begin with");
    if (st == LB_OK && s->in.n > lb_context_n_ctx(m->c))
        st = lb_fail(err, LB_E_LIMIT,
                     "the prompt has %u tokens, the context room for %u: use a "
                     "larger --ctx",
                     s->in.n, lb_context_n_ctx(m->c));
    if (st == LB_OK)
        st = lb_running_check(&s->r, m->c, err);
    if (st == LB_OK)
        st = lb_running_begin(&s->r, s->in.prompt, s->in.n,
                              lb_model_n_vocab(lb_context_model(m->c)), err);
    if (st != LB_OK || s->r.over)
        return end_slot(m, seq, st, err);
    s->out.n_prompt_computed = s->in.n - take_prefix(m, seq, s->in.prompt, s->in.n);
    m->result->n_prompt += s->in.n;
    m->result->n_prompt_computed += s->out.n_prompt_computed;
    return LB_OK;
}

/* What each sequence has not read yet, the last of it with logits. */
static lb_status add_slot(many *m, u32 seq, lb_err *err) {
    const slot *s = &m->slots[seq];
    const u32 *ids = (const u32 *)(const void *)s->out.sequence.ptr;
    for (u32 i = lb_context_length(m->c, seq), n = n_sequence(s); i < n; i++) {
        lb_buf_put_u32(&m->ids, ids[i]);
        lb_buf_put_u32(&m->seqs, seq);
        lb_buf_put_u8(&m->wants, i + 1 == n);
    }
    LB_TRY(lb_buf_status(&m->ids, err));
    LB_TRY(lb_buf_status(&m->seqs, err));
    return lb_buf_status(&m->wants, err);
}

/* One batch; *any false: nobody has anything to read. */
static lb_status read_all(many *m, bool *any, lb_err *err) {
    lb_buf_reset(&m->ids);
    lb_buf_reset(&m->seqs);
    lb_buf_reset(&m->wants);
    for (u32 i = 0; i < m->o->n_seqs; i++)
        if (m->slots[i].busy)
            LB_TRY(add_slot(m, i, err));
    *any = m->wants.len != 0;
    m->result->n_steps += *any;
    return *any ? lb_context_eval(m->c,
                                  &(lb_batch){.n = (u32)m->wants.len,
                                              .id = (const u32 *)(const void *)m->ids.ptr,
                                              .seq = (const u32 *)(const void *)m->seqs.ptr,
                                              .want = (const u8 *)m->wants.ptr},
                                  m->logits, err)
                : LB_OK;
}

static lb_status sample_all(many *m, lb_err *err) {
    const float *row = m->logits;
    u32 n_vocab = lb_model_n_vocab(lb_context_model(m->c)), id;
    for (u32 i = 0; i < m->o->n_seqs; i++) {
        slot *s = &m->slots[i];
        bool put;
        if (!s->busy)
            continue;
        if (!s->ready_us)
            s->ready_us = lb_os_now_us();
        LB_TRY(lb_running_take(&s->r, row, &id, &put, err));
        row += n_vocab;
        bool full = false;
        if (!s->r.over)
            LB_TRY(lb_running_room(&s->r, m->c, i, &full, err));
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

lb_status lb_generate_many(lb_context *c, const lb_many_opts *o, lb_many_result *r, lb_err *err) {
    many m = {.c = c, .o = o, .result = r};
    u64 begin = lb_os_now_us();
    *r = (lb_many_result){0};
    m.slots = lb_alloc_zero(o->n_seqs, sizeof *m.slots);
    m.logits = lb_alloc_zero(o->n_seqs, lb_model_n_vocab(lb_context_model(c)) * sizeof(float));
    lb_status st = m.slots && m.logits ? run_all(&m, err)
                                       : lb_fail(err, LB_E_NOMEM, "out of memory for logits");
    for (u32 i = 0; m.slots && i < o->n_seqs; i++)
        if (m.slots[i].busy)
            (void)end_slot(&m, i, st, err);
    r->us = lb_os_now_us() - begin;
    lb_buf_deinit(&m.ids);
    lb_buf_deinit(&m.seqs);
    lb_buf_deinit(&m.wants);
    lb_free(m.slots);
    lb_free(m.logits);
    return st;
}
