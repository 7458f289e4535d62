/* SPDX-License-Identifier: Apache-2.0 */
/* layershuffle.c: see layershuffle.h. */
#include "ops/layershuffle.h"
#include "ops/canon.h"
#include "ops/merge.h"

static lb_status no_layers(const lb_source *of, const lb_shuffle_model *m, const lb_source *s,
                           lb_err *err) {
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "%s: '%.*s' (%s) is of no family that is known: how many "
                   "layers it has is not",
                   of->path, LB_FMT(m->text), s->path);
}

/* of: in whose name the model is looked for. */
static lb_status count_layers(lb_source *of, lb_shuffle_model *m, lb_err *err) {
    lb_source *s = NULL;
    lb_canon canon;
    lb_merge_ref ref = {.text = m->text, .path = m->text, .merge = LB_NO_MERGE, .line = m->line};
    lb_status st = lb_merge_open_ref(&s, of, &ref, &(lb_merge_opts){0}, err);
    if (st == LB_OK)
        st = lb_canon_init(&canon, s, &of->perm, err);
    if (st == LB_OK) {
        m->n_layers = canon.hparams.n_layers;
        st = m->n_layers ? LB_OK : no_layers(of, m, s, err);
    }
    lb_source_close(&s);
    return st;
}

lb_status lb_layershuffle_text(lb_shuffle *s, const char *file, u64 seed, lb_buf *yaml,
                               lb_err *err) {
    lb_source *of = lb_source_new(LB_FORMAT_HF, file ? file : "layershuffle");
    lb_status st = of ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory");
    for (u32 i = 0; st == LB_OK && i < s->n_models; i++)
        st = count_layers(of, &s->models[i], err);
    lb_source_close(&of);
    if (st != LB_OK)
        return st;
    st = lb_shuffle_make(s, seed, yaml, err);
    if (st != LB_OK && file)
        lb_err_context(err, "%s", file);
    return st;
}
