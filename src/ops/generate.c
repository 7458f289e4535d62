/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c: see generate.h. */
#include "ops/generate.h"
#include "base/mem.h"
#include "base/os.h"
#include "text/decode.h"

typedef struct run {
    lb_context *c;
    const lb_generate_opts *o;
    lb_generated *out;
    lb_decode_stream *stream;
    float *logits;
} run;

static lb_status put_piece(run *r, size_t before, lb_err *err) {
    lb_str piece = lb_str_sub(lb_buf_str(&r->out->text), before, r->out->text.len);
    LB_TRY(lb_buf_status(&r->out->text, err));
    return piece.len && r->o->text ? r->o->text(r->o->user, piece, err) : LB_OK;
}

static lb_status put_token(run *r, u32 id, lb_err *err) {
    size_t before = r->out->text.len;
    lb_buf_put_u32(&r->out->ids, id);
    LB_TRY(lb_buf_status(&r->out->ids, err));
    if (!r->stream)
        return LB_OK;
    LB_TRY(lb_decode_put(r->stream, id, &r->out->text, err));
    return put_piece(r, before, err);
}

static lb_status go_on(run *r, u32 n_ctx, lb_err *err) {
    for (u32 i = 0; i < r->o->n_max; i++) {
        u32 id;
        if (r->o->stop && r->o->stop(r->o->user))
            return LB_OK;
        LB_TRY(lb_sampler_sample(r->o->sampler, r->logits, NULL, &id, err));
        lb_sampler_accept(r->o->sampler, id);
        if (r->o->encoder && !r->o->ignore_end && lb_encoder_is_end(r->o->encoder, id)) {
            r->out->stopped = true;
            return LB_OK;
        }
        LB_TRY(put_token(r, id, err));
        if (i + 1 == r->o->n_max || lb_context_length(r->c, 0) >= n_ctx)
            return LB_OK;
        LB_TRY(lb_context_eval(r->c, &(lb_batch){.n = 1, .id = &id}, r->logits, err));
    }
    return LB_OK;
}

static lb_status generate(run *r, const u32 *prompt, u32 n, lb_err *err) {
    u32 n_ctx = lb_context_n_ctx(r->c);
    u64 begin = lb_os_now_us();
    if (n > n_ctx)
        return lb_fail(err, LB_E_LIMIT,
                       "the prompt has %u tokens, the context room for %u: use a larger --ctx", n,
                       n_ctx);
    for (u32 i = 0; i < n; i++)
        lb_sampler_accept(r->o->sampler, prompt[i]);
    u32 kept = lb_context_keep(r->c, 0, prompt, n - 1);
    r->out->n_prompt_computed = n - kept;
    LB_TRY(lb_context_eval(r->c, &(lb_batch){.n = n - kept, .id = prompt + kept}, r->logits, err));
    u64 ready = lb_os_now_us();
    r->out->prompt_us = ready - begin;
    lb_status st = r->o->n_max ? go_on(r, n_ctx, err) : LB_OK;
    r->out->generate_us = lb_os_now_us() - ready;
    if (st == LB_OK && r->stream) {
        size_t before = r->out->text.len;
        LB_TRY(lb_decode_end(r->stream, &r->out->text, err));
        return put_piece(r, before, err);
    }
    return st;
}

lb_status lb_generate(lb_context *c, const u32 *prompt, u32 n, const lb_generate_opts *o,
                      lb_generated *out, lb_err *err) {
    run r = {c, o, out, NULL, NULL};
    *out = (lb_generated){0};
    if (!n)
        return lb_fail(err, LB_E_USAGE, "the prompt is empty: there is no token to begin with");
    r.logits = lb_alloc((size_t)lb_model_n_vocab(lb_context_model(c)) * sizeof(float));
    lb_status st = r.logits ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for logits");
    if (st == LB_OK && o->encoder)
        st = lb_decode_begin(&r.stream, o->encoder, true, err);
    if (st == LB_OK)
        st = generate(&r, prompt, n, err);
    if (r.stream)
        lb_decode_close(&r.stream);
    lb_free(r.logits);
    return st;
}

void lb_generated_deinit(lb_generated *g) {
    lb_buf_deinit(&g->ids);
    lb_buf_deinit(&g->text);
    *g = (lb_generated){0};
}
