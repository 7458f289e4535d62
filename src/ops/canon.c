/* SPDX-License-Identifier: Apache-2.0 */
/* canon.c: the architecture tables asked about one source. */
#include "ops/canon.h"

static lb_world world_of(const lb_source *s) {
    switch (s->format) {
    case LB_FORMAT_GGUF:
        return LB_WORLD_GGUF;
    case LB_FORMAT_MLX:
        return LB_WORLD_MLX;
    default:
        return LB_WORLD_HF;
    }
}

lb_status lb_canon_init(lb_canon *out, const lb_source *s, lb_arena *perm, lb_err *err) {
    lb_err unknown = {0};
    lb_json *config = NULL;
    lb_status st = LB_OK;
    *out = (lb_canon){.world = world_of(s)};
    if (s->gguf) {
        bool has_output = lb_source_tensor(s, LB_STR("output.weight")) != NULL;
        st = lb_arch_from_gguf(s->gguf, has_output, &out->arch, &out->hparams, &unknown);
    } else if (s->config.len) {
        LB_TRY(lb_json_parse(s->config, "config.json", perm, &config, err));
        st = lb_arch_from_config(config, &out->arch, &out->hparams, &unknown);
    }
    if (st == LB_E_NOMEM)
        return lb_fail(err, LB_E_NOMEM, "%s", unknown.msg);
    if (st != LB_OK)
        out->arch = NULL;
    return LB_OK;
}

lb_status lb_canon_find(const lb_canon *c, const lb_weight *w, lb_arena *perm, lb_canon_weight *out,
                        lb_err *err) {
    lb_arch_match m;
    *out = (lb_canon_weight){.name = w->name};
    if (!c->arch || !lb_arch_find(c->arch, c->world, w->name, &m))
        return LB_OK;
    /* One stored matrix that several rows cut up has no single canonical name: it keeps its own. */
    if (m.n_rows != 1)
        return LB_OK;
    out->may_lack = m.row->relayout == LB_RL_MADE || m.row->role == LB_ROLE_DROPPED;
    for (u32 world = 0; world <= LB_WORLD_GGUF; world++)
        out->may_lack |= lb_arch_is_dropped(m.row, (lb_world)world, &c->hparams);
    out->cut_vocab = (m.row->flags & LB_ROW_CUT_VOCAB) != 0;
    if (m.row->hf.len == 0)
        return LB_OK;
    out->name = lb_arch_tensor_name(m.row, LB_WORLD_HF, &m, perm);
    if (!out->name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    if (c->world == LB_WORLD_GGUF) {
        out->heads = lb_arch_relayout_heads(m.row->relayout, &c->hparams);
        out->plus_one = m.row->relayout == LB_RL_ADD_ONE && m.suffix != LB_SUFFIX_BIAS;
    }
    return LB_OK;
}
