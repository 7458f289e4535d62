/* SPDX-License-Identifier: Apache-2.0 */
/* params.c: see params.h. Keys, defaults and rules: src/llama-model.cpp (load_hparams),
 * src/llama-context.cpp and src/models/ of llama-cpp-python 0.3.36. */
#include "model/params.h"
#include <math.h>

#define LAYERS_MAX 4096
#define DIM_MAX (1u << 24) /* of anything: sizes are multiplied in 64 bits */

typedef struct reader {
    const lb_gguf_meta *meta;
    lb_str arch;
    lb_params *p;
    const lb_mweights *w;
    lb_arena *perm;
    lb_err *err;
} reader;

static const lb_gguf_kv *find(const reader *r, const char *key) {
    return lb_meta_find_arch(r->meta, r->arch, key);
}

/* A number, or that of a layer where the key holds one for each. */
static lb_status u32_at(const reader *r, const char *key, u32 layer, u32 absent, u32 *out) {
    const lb_gguf_kv *kv = find(r, key);
    u64 v = absent;
    bool ok = true;
    if (kv && kv->type == LB_GGUF_ARRAY)
        ok = lb_kv_elem_u64(kv, layer, &v);
    else if (kv)
        ok = lb_kv_as_u64(kv, &v);
    if (!ok || (v > DIM_MAX && v != absent))
        return lb_fail(r->err, LB_E_FORMAT, "metadata: %.*s.%s is no usable number",
                       LB_FMT(r->arch), key);
    *out = (u32)v;
    return LB_OK;
}

static lb_status u32_of(const reader *r, const char *key, u32 absent, u32 *out) {
    return u32_at(r, key, 0, absent, out);
}

static double f64_of(const reader *r, const char *key, double absent) {
    double v;
    return lb_kv_as_f64(find(r, key), &v) && isfinite(v) ? v : absent;
}

static bool bool_of(const reader *r, const char *key, bool absent) {
    bool v;
    return lb_kv_as_bool(find(r, key), &v) ? v : absent;
}

static lb_status need(const reader *r, const char *key, u32 *out) {
    LB_TRY(u32_of(r, key, 0, out));
    return *out ? LB_OK
                : lb_fail(r->err, LB_E_FORMAT, "metadata: %.*s.%s is missing or 0", LB_FMT(r->arch),
                          key);
}

/* ---- rope ---- */

static double mscale_of(double factor, double mscale) {
    return factor > 1 ? 1 + 0.1 * mscale * log(factor) : 1;
}

/* What only the metadata of a folder has (arch/meta_run.c). */
static lb_status read_factors(reader *r, const char *key, lb_rope_list *out) {
    const lb_gguf_kv *kv = find(r, key);
    if (!kv)
        return LB_OK;
    u32 n = kv->type == LB_GGUF_ARRAY && kv->n <= DIM_MAX ? (u32)kv->n : 0;
    float *v = lb_arena_new(r->perm, float, n);
    if (!v)
        return lb_fail(r->err, LB_E_NOMEM, "out of memory for the factors of rope");
    for (u32 i = 0; i < n; i++) {
        double f;
        if (!lb_kv_elem_f64(kv, i, &f) || !(f > 0))
            return lb_fail(r->err, LB_E_FORMAT, "metadata: %s is no list of factors", key);
        v[i] = (float)f;
    }
    *out = (lb_rope_list){v, n};
    return LB_OK;
}

static lb_status read_scaling(reader *r) {
    static const struct {
        const char *name;
        lb_rope_scaling scaling;
    } kinds[] = {{"none", LB_SCALING_NONE},
                 {"linear", LB_SCALING_LINEAR},
                 {"yarn", LB_SCALING_YARN},
                 {"longrope", LB_SCALING_LONGROPE},
                 {"dynamic", LB_SCALING_DYNAMIC}};
    lb_params *p = r->p;
    lb_str name = LB_STR("linear");
    size_t i = 0;
    (void)lb_kv_as_str(find(r, "rope.scaling.type"), &name);
    while (i < LB_LEN(kinds) && !lb_str_eq_c(name, kinds[i].name))
        i++;
    if (i == LB_LEN(kinds))
        return lb_fail(r->err, LB_E_UNSUPPORTED, "metadata: rope.scaling.type '%.*s' is not known",
                       LB_FMT(lb_str_sub(name, 0, 40)));
    p->scaling = kinds[i].scaling;
    p->rope_factor = f64_of(r, "rope.scaling.factor", f64_of(r, "rope.scale_linear", 1));
    if (!(p->rope_factor > 0) || p->scaling == LB_SCALING_NONE)
        p->rope_factor = 1;
    LB_TRY(u32_of(r, "rope.scaling.original_context_length", p->n_ctx_train, &p->n_ctx_orig));
    p->rope_attn_factor = f64_of(r, "rope.scaling.attn_factor", 1);
    p->yarn_ext = f64_of(r, "rope.scaling.yarn_ext_factor", -1);
    if (p->yarn_ext < 0)
        p->yarn_ext = p->scaling == LB_SCALING_YARN;
    p->yarn_fast = f64_of(r, "rope.scaling.yarn_beta_fast", 32);
    p->yarn_slow = f64_of(r, "rope.scaling.yarn_beta_slow", 1);
    p->yarn_log_mul = f64_of(r, "rope.scaling.yarn_log_multiplier", 0);
    double one = f64_of(r, "rope.scaling.yarn_mscale_one", 0);
    double all = f64_of(r, "rope.scaling.yarn_mscale_all", 0);
    double by_two = one != 0 ? mscale_of(p->rope_factor, one) / mscale_of(p->rope_factor, all) : 0;
    p->yarn_mscale = f64_of(r, "rope.scaling.yarn_mscale", by_two);
    p->yarn_round = !(p->graph->flags & LB_GRAPH_YARN_EXACT);
    (void)lb_kv_as_bool(find(r, "rope.scaling.yarn_truncate"), &p->yarn_round);
    LB_TRY(read_factors(r, "rope.scaling.freq_factors", &p->rope_freq));
    LB_TRY(read_factors(r, "rope.scaling.long_factors", &p->rope_long));
    LB_TRY(read_factors(r, "rope.scaling.short_factors", &p->rope_short));
    p->rope_base = f64_of(r, "rope.freq_base", 10000);
    double window = p->graph->window_base > 0 ? (double)p->graph->window_base : p->rope_base;
    p->rope_base_window = f64_of(r, "rope.freq_base_swa", window);
    return p->rope_base > 0 && p->rope_base_window > 0
               ? LB_OK
               : lb_fail(r->err, LB_E_FORMAT, "metadata: a base of rope is not positive");
}

/* ---- layers ---- */

static lb_status read_windows(reader *r) {
    lb_params *p = r->p;
    const lb_arch_graph *g = p->graph;
    const lb_gguf_kv *pattern = find(r, "attention.sliding_window_pattern");
    u32 period = g->window_period;
    LB_TRY(u32_of(r, "attention.sliding_window", 0, &p->window));
    if (g->flags & LB_GRAPH_NO_WINDOW)
        p->window = 0;
    if (!p->window)
        return LB_OK;
    if (pattern && pattern->type != LB_GGUF_ARRAY)
        LB_TRY(u32_of(r, "attention.sliding_window_pattern", 0, &period));
    for (u32 i = 0; i < p->n_layers; i++) {
        u64 slides;
        if (pattern && pattern->type == LB_GGUF_ARRAY) {
            if (!lb_kv_elem_u64(pattern, i, &slides))
                return lb_fail(r->err, LB_E_FORMAT,
                               "metadata: attention.sliding_window_pattern has no entry for layer "
                               "%u",
                               i);
        } else if (period == 0) {
            slides = (g->flags & LB_GRAPH_WINDOW_ALL) != 0;
        } else {
            slides = i % period != (g->window_first ? 0 : period - 1);
        }
        p->layer[i].window = slides != 0;
    }
    return LB_OK;
}

/* Whether layer i turns its heads. */
static bool has_rope(const reader *r, u32 i) {
    const lb_params *p = r->p;
    const lb_arch_graph *g = p->graph;
    const lb_gguf_kv *list = find(r, "rope.layers");
    u64 turns;
    if (g->rope != LB_ROPE_NO && list && lb_kv_elem_u64(list, i, &turns))
        return turns != 0;
    if (g->rope == LB_ROPE_NO || (g->nope_period && (i + 1) % g->nope_period == 0))
        return false;
    return !(g->flags & LB_GRAPH_FULL_NO_ROPE) || !p->window || p->layer[i].window;
}

static lb_status read_layer(reader *r, u32 i) {
    lb_params *p = r->p;
    lb_layer_params *l = &p->layer[i];
    u32 n_rot, usual, shared;
    LB_TRY(u32_of(r, "attention.shared_kv_layers", 0, &shared));
    shared = LB_MIN(shared, p->n_layers);
    LB_TRY(u32_at(r, "attention.head_count", i, 0, &l->n_head));
    LB_TRY(u32_at(r, "attention.head_count_kv", i, l->n_head, &l->n_head_kv));
    usual = l->n_head ? p->n_embd / l->n_head : 0;
    LB_TRY(u32_of(r, "attention.key_length", usual, &l->k_dim));
    LB_TRY(u32_of(r, "attention.value_length", usual, &l->v_dim));
    if (l->window) {
        LB_TRY(u32_of(r, "attention.key_length_swa", l->k_dim, &l->k_dim));
        LB_TRY(u32_of(r, "attention.value_length_swa", l->v_dim, &l->v_dim));
    }
    LB_TRY(u32_of(r, "rope.dimension_count", l->k_dim, &n_rot));
    if (l->window)
        LB_TRY(u32_of(r, "rope.dimension_count_swa", n_rot, &n_rot));
    l->n_rot = has_rope(r, i) ? n_rot : 0;
    l->kv_layer = i;
    for (u32 k = 0; i >= p->n_layers - shared && k < p->n_layers - shared; k++)
        if (p->layer[k].window == l->window && !p->layer[k].recurrent)
            l->kv_layer = k;
    if (l->kv_layer == i && i >= p->n_layers - shared)
        return lb_fail(r->err, LB_E_FORMAT,
                       "layer %u reads the keys of an earlier one of its kind, and there is none",
                       i);
    if (p->kv_rank) { /* one head of what is cached, or all heads where kv_b is one matrix */
        bool all = lb_mweights_layer(r->w, i, "attn_kv_b.weight") != NULL;
        l->n_head_kv = all ? l->n_head : 1;
        l->k_dim = (all ? p->nope_dim : p->kv_rank) + p->rot_dim;
        l->v_dim = all ? p->value_dim : p->kv_rank;
    }
    l->local_rope = l->window && !(p->graph->flags & LB_GRAPH_SCALED_WINDOW);
    if (!l->recurrent && l->n_head_kv && l->n_head % l->n_head_kv)
        return lb_fail(r->err, LB_E_FORMAT,
                       "layer %u: its %u heads are not shared out among %u of keys", i, l->n_head,
                       l->n_head_kv);
    if (!l->recurrent && (!l->n_head || !l->k_dim || !l->v_dim || l->n_rot > l->k_dim ||
                          l->n_rot % 2 || l->k_dim > 4096 || l->v_dim > 4096))
        return lb_fail(
            r->err, LB_E_FORMAT,
            "layer %u: %u heads of %u and %u elements, %u of which turn, are no sizes of "
            "attention",
            i, l->n_head, l->k_dim, l->v_dim, l->n_rot);
    return LB_OK;
}

static lb_status read_experts(reader *r) {
    lb_params *p = r->p;
    const lb_arch_graph *g = p->graph;
    u32 router;
    LB_TRY(u32_of(r, "expert_count", 0, &p->n_expert));
    LB_TRY(u32_of(r, "expert_used_count", 0, &p->n_expert_used));
    LB_TRY(u32_of(r, "expert_group_count", 0, &p->n_group));
    LB_TRY(u32_of(r, "expert_group_used_count", 0, &p->n_group_used));
    LB_TRY(u32_of(r, "expert_gating_func", g->router ? g->router : LB_ROUTER_SOFTMAX, &router));
    if (g->router == LB_ROUTER_MIXER)
        router = LB_ROUTER_MIXER;
    else if (p->n_expert && (router < LB_ROUTER_SOFTMAX || router > LB_ROUTER_SOFTMAX_TOP))
        return lb_fail(r->err, LB_E_UNSUPPORTED, "metadata: expert_gating_func %u is not known",
                       router);
    p->router = (lb_router_fn)router;
    p->top_norm = bool_of(r, "expert_weights_norm", (g->flags & LB_GRAPH_TOP_NORM) != 0);
    p->top_scale = (float)f64_of(r, "expert_weights_scale", 1);
    if (p->top_scale == 0)
        p->top_scale = 1;
    if (p->n_expert_used > p->n_expert || p->n_expert > LB_EXPERTS_MAX ||
        (p->n_expert && !p->n_expert_used) ||
        (p->router == LB_ROUTER_MIXER && (p->n_expert_used != 2 || p->n_expert < 2)) ||
        (p->n_group > 1 && (p->n_expert % p->n_group || p->n_expert / p->n_group < 2 ||
                            !p->n_group_used || p->n_group_used > p->n_group ||
                            p->n_expert_used > p->n_group_used * (p->n_expert / p->n_group))))
        return lb_fail(r->err, LB_E_FORMAT,
                       "metadata: %u of %u experts in %u of %u groups cannot be chosen",
                       p->n_expert_used, p->n_expert, p->n_group_used, p->n_group);
    return LB_OK;
}

static lb_status read_latent(reader *r) {
    lb_params *p = r->p;
    u32 k, v;
    LB_TRY(u32_of(r, "attention.kv_lora_rank", 0, &p->kv_rank));
    if (!p->kv_rank)
        return LB_OK;
    LB_TRY(u32_of(r, "attention.q_lora_rank", 0, &p->q_rank));
    LB_TRY(need(r, "rope.dimension_count", &p->rot_dim));
    LB_TRY(need(r,
                find(r, "attention.key_length_mla") ? "attention.key_length_mla"
                                                    : "attention.key_length",
                &k));
    LB_TRY(need(r,
                find(r, "attention.value_length_mla") ? "attention.value_length_mla"
                                                      : "attention.value_length",
                &v));
    if (k <= p->rot_dim)
        return lb_fail(r->err, LB_E_FORMAT,
                       "metadata: keys of %u elements, of which %u turn, are no latent attention",
                       k, p->rot_dim);
    p->nope_dim = k - p->rot_dim;
    p->value_dim = v;
    return LB_OK;
}

static lb_status read_recurrent(reader *r) {
    lb_params *p = r->p;
    LB_TRY(u32_of(r, "ssm.state_size", 0, &p->ssm_state));
    LB_TRY(u32_of(r, "ssm.group_count", 0, &p->ssm_groups));
    LB_TRY(u32_of(r, "ssm.time_step_rank", 0, &p->ssm_heads));
    LB_TRY(u32_of(r, "ssm.inner_size", 0, &p->ssm_inner));
    LB_TRY(u32_of(r, "ssm.conv_kernel", 0, &p->conv_width));
    if (!p->conv_width)
        LB_TRY(u32_of(r, "shortconv.l_cache", 0, &p->conv_width));
    for (u32 i = 0; i < p->n_layers; i++)
        p->layer[i].recurrent = lb_mweights_layer(r->w, i, "ssm_out.weight") ||
                                lb_mweights_layer(r->w, i, "shortconv.in_proj.weight");
    return LB_OK;
}

/* ---- scales ---- */

/* 1 / sqrt of the length of keys; where q's was another (the largest Gemmas), of that. */
static double usual_scale(const lb_params *p) {
    u32 i = 0;
    while (i + 1 < p->n_layers && p->layer[i].recurrent)
        i++;
    const lb_layer_params *l = &p->layer[i];
    if (p->graph->scalar_layers && p->n_layers == p->graph->scalar_layers)
        return 1 / sqrt((double)p->n_embd / l->n_head);
    return 1 / sqrt(p->kv_rank ? (double)(p->nope_dim + p->rot_dim) : (double)l->k_dim);
}

static void read_scales(reader *r) {
    lb_params *p = r->p;
    u32 flags = p->graph->flags;
    double scale = f64_of(r, "attention.scale", 0), logit = f64_of(r, "logit_scale", 0);
    if (flags & LB_GRAPH_ATTN_SCALE_ONE)
        scale = 1;
    else if (scale == 0)
        scale = usual_scale(p);
    if (p->kv_rank && p->yarn_log_mul != 0 && p->rope_factor > 1) {
        double m = 1 + p->yarn_log_mul * log(p->rope_factor);
        scale *= m * m;
    }
    p->attn_scale = (float)scale;
    p->temp_scale = (float)f64_of(r, "attention.temperature_scale", 0);
    if (!p->n_ctx_orig)
        p->temp_scale = 0;
    p->attn_softcap = (float)f64_of(r, "attn_logit_softcapping", 0);
    p->final_softcap = (float)f64_of(r, "final_logit_softcapping", 0);
    p->embd_scale = (float)f64_of(r, "embedding_scale", 0);
    if (p->embd_scale == 0)
        p->embd_scale = flags & LB_GRAPH_EMBD_SQRT ? sqrtf((float)p->n_embd) : 1;
    p->residual_scale = (float)f64_of(r, "residual_scale", 0);
    if (p->residual_scale == 0)
        p->residual_scale = 1;
    p->logit_scale = logit == 0                       ? 1
                     : flags & LB_GRAPH_LOGIT_DIVIDES ? (float)(1 / logit)
                                                      : (float)logit;
    p->eps = (float)(p->graph->norm == LB_NORM_LAYER
                         ? f64_of(r, "attention.layer_norm_epsilon",
                                  f64_of(r, "attention.layer_norm_rms_epsilon", 1e-5))
                         : f64_of(r, "attention.layer_norm_rms_epsilon",
                                  f64_of(r, "attention.layer_norm_epsilon", 1e-5)));
    p->latent_eps = (float)f64_of(r, "attention.latent_epsilon", (double)p->eps);
}

lb_status lb_params_read(lb_params *p, const lb_arch *a, const lb_gguf_meta *meta,
                         const lb_mweights *w, lb_arena *perm, lb_err *err) {
    reader r = {meta, lb_str_c(lb_arch_name(a)), p, w, perm, err};
    const lb_mweight *embd = lb_mweights_find(w, LB_STR("token_embd.weight"));
    u32 n_blocks, n_mtp, act;
    *p = (lb_params){.graph = lb_arch_graph_of(a)};
    if (!p->graph->runs)
        return lb_fail(err, LB_E_UNSUPPORTED, "models of the architecture '%s' cannot be run",
                       lb_arch_name(a));
    if (!embd || !embd->mats)
        return lb_fail(err, LB_E_FORMAT, "tensor 'token_embd.weight' is missing");
    LB_TRY(need(&r, "block_count", &n_blocks));
    LB_TRY(u32_of(&r, "nextn_predict_layers", 0, &n_mtp));
    if (n_blocks > LAYERS_MAX || n_mtp >= n_blocks)
        return lb_fail(err, LB_E_LIMIT, "metadata: %u layers (at most %u)", n_blocks, LAYERS_MAX);
    p->n_layers = n_blocks - n_mtp;
    LB_TRY(need(&r, "embedding_length", &p->n_embd));
    LB_TRY(u32_of(&r, "context_length", 0, &p->n_ctx_train));
    if (embd->n_cols != p->n_embd || embd->n_rows > DIM_MAX)
        return lb_fail(err, LB_E_FORMAT,
                       "tensor 'token_embd.weight': rows of %llu, the model's vectors have %u",
                       (unsigned long long)embd->n_cols, p->n_embd);
    p->n_vocab = (u32)embd->n_rows;
    LB_TRY(u32_of(&r, "feed_forward.activation", p->graph->act, &act));
    if (act != p->graph->act && act > LB_ACT_RELU2)
        return lb_fail(err, LB_E_UNSUPPORTED, "metadata: feed_forward.activation %u is not known",
                       act);
    p->act = (lb_act_fn)act;
    p->layer = lb_arena_new(perm, lb_layer_params, p->n_layers);
    if (!p->layer)
        return lb_fail(err, LB_E_NOMEM, "out of memory for %u layers", p->n_layers);
    LB_TRY(read_scaling(&r));
    LB_TRY(read_windows(&r));
    LB_TRY(read_recurrent(&r));
    LB_TRY(read_latent(&r));
    for (u32 i = 0; i < p->n_layers; i++)
        LB_TRY(read_layer(&r, i));
    LB_TRY(read_experts(&r));
    read_scales(&r);
    return LB_OK;
}
