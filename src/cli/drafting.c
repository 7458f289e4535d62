/* SPDX-License-Identifier: Apache-2.0 */
/* drafting.c: see drafting.h. */
#include "cli/drafting.h"

const lb_opt lb_drafting_rows[LB_DRAFTING_OPTS] = {
    {.name = "draft",
     .kind = LB_OPT_STR,
     .arg = "MODEL",
     .help = "a smaller model of the same vocabulary guesses the next tokens, which are then read "
             "at once: the same text, sooner",
     .off = offsetof(lb_drafting_opts, model)},
    {.name = "lookup",
     .kind = LB_OPT_INT,
     .arg = "N",
     .max = LB_NGRAM_MAX,
     .help = "what followed the last N tokens (or fewer, from 2 on) where they stood before is the "
             "guess; 0: not looked up",
     .off = offsetof(lb_drafting_opts, ngram)},
    {.name = "draft-max",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "8",
     .min = 1,
     .max = LB_DRAFT_MAX,
     .help = "tokens of one guess at most",
     .off = offsetof(lb_drafting_opts, n_max)},
    {.name = "draft-min-p",
     .kind = LB_OPT_FLOAT,
     .arg = "P",
     .initial = "0.5",
     .help = "the smaller model's guess ends before a token that it gives less than P; 0: never",
     .off = offsetof(lb_drafting_opts, min_p)},
};

lb_status lb_drafting_check(const lb_drafting_opts *o, lb_err *err) {
    if (o->ngram && o->ngram < LB_NGRAM_LEAST)
        return lb_fail(err, LB_E_USAGE, "--lookup: 0, or %u to %u tokens", LB_NGRAM_LEAST,
                       LB_NGRAM_MAX);
    if (o->min_p < 0 || o->min_p > 1)
        return lb_fail(err, LB_E_USAGE, "--draft-min-p: a probability from 0 to 1");
    return LB_OK;
}

static lb_status open_model(lb_drafting *d, lb_infer *x, lb_cli *cli, const lb_common *common,
                            const char *arg, lb_err *err) {
    lb_common own = *common;
    lb_infer *m = &d->model;
    lb_infer_opts small = x->opts;
    small.gpu = (lb_gpu_opts){0};
    m->any_device = x->any_device;
    LB_TRY(lb_infer_open(m, cli, &own, &small, arg, err));
    LB_TRY(lb_infer_tokenizer(m, err));
    lb_model_limit(lb_loaded_model(m->loaded), &(lb_stream_limit){0}); /* it stays as it is */
    LB_TRY(lb_draft_check_vocab(x->encoder, lb_model_n_vocab(lb_loaded_model(x->loaded)),
                                m->encoder, lb_model_n_vocab(lb_loaded_model(m->loaded)), err));
    m->n_seqs = x->n_seqs;
    LB_TRY(lb_infer_context(m, x->n_ctx, err));
    lb_infer_leave(x, lb_loaded_mapped_bytes(m->loaded) + lb_loaded_made_bytes(m->loaded) +
                          lb_context_rest_bytes(m->context));
    return LB_OK;
}

lb_status lb_drafting_open(lb_drafting *d, lb_infer *x, lb_cli *cli, const lb_common *common,
                           const lb_drafting_opts *o, lb_err *err) {
    if (!o->model && !o->ngram)
        return LB_OK;
    if (o->model) {
        lb_status st = open_model(d, x, cli, common, o->model, err);
        if (st != LB_OK) {
            lb_err_context(err, "--draft %s", o->model);
            return st;
        }
    }
    return lb_draft_new(&d->draft,
                        &(lb_draft_opts){.n_max = (u32)o->n_max,
                                         .n_vocab = lb_model_n_vocab(lb_loaded_model(x->loaded)),
                                         .n_seqs = x->n_seqs,
                                         .ngram = (u32)o->ngram,
                                         .context = d->model.context,
                                         .min_p = (float)o->min_p,
                                         .kernels = &x->kernels},
                        err);
}

void lb_drafting_close(lb_drafting *d) {
    lb_draft_free(&d->draft);
    lb_infer_close(&d->model);
}
