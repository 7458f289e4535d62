/* SPDX-License-Identifier: Apache-2.0 */
/* model.c: a model's layers from its tensors: which are there says what a layer is (arch_graph.h);
 * every shape is checked here, so that the graph need not. */
#include "base/mem.h"
#include "model/graph.h"
#include <stdio.h>

typedef struct binder {
    lb_model *m;
    u32 layer;
    lb_err *err;
    u64 products; /* bytes of matrices that a token is multiplied with */
} binder;

static lb_status missing(const binder *b, const char *what) {
    return lb_fail(b->err, LB_E_FORMAT, "tensor 'blk.%u.%s' is missing", b->layer, what);
}

static lb_status other_shape(const binder *b, const lb_mweight *w, u64 rows, u64 cols) {
    char text[LB_SHAPE_TEXT];
    return lb_fail(b->err, LB_E_FORMAT,
                   "tensor '%.*s' of shape %s: the model's metadata ask for %llu rows of %llu",
                   LB_FMT(w->name), lb_shape_text(&w->shape, text), (unsigned long long)rows,
                   (unsigned long long)cols);
}

/* It has a place in the graph. */
static const lb_mweight *use(const lb_model *m, const lb_mweight *w) {
    if (w)
        m->used[w - m->weights->list] = 1;
    return w;
}

static const lb_mweight *find_end(const lb_model *m, const char *name) {
    return use(m, lb_mweights_find(m->weights, lb_str_c(name)));
}

/* "blk.<layer>.<stem>.<end>" */
static const lb_mweight *find(const binder *b, const char *stem, const char *end) {
    char what[96];
    int n = snprintf(what, sizeof what, "%s%s%s", stem, *end ? "." : "", end);
    LB_ASSERT(n > 0 && (size_t)n < sizeof what);
    return use(b->m, lb_mweights_layer(b->m->weights, b->layer, what));
}

/* A vector of n values; *out NULL: it is not there. */
static lb_status vector(const binder *b, const char *stem, const char *end, u64 n,
                        const float **out) {
    const lb_mweight *w = find(b, stem, end);
    *out = NULL;
    if (!w)
        return LB_OK;
    if (!w->values || w->n_rows * w->n_cols != n)
        return other_shape(b, w, 1, n);
    *out = w->values;
    return LB_OK;
}

/* A norm of n elements; of rank 2, one for each head. */
static lb_status norm_of(const binder *b, const lb_mweight *w, const lb_mweight *bias,
                         lb_norm *out) {
    *out = (lb_norm){0};
    if (!w)
        return LB_OK;
    u64 n = w->n_cols, heads = w->n_rows;
    if (!w->values || n > UINT32_MAX || heads > UINT32_MAX)
        return other_shape(b, w, 1, b->m->p.n_embd);
    *out = (lb_norm){w->values, NULL, (u32)n, (u32)heads, b->m->p.eps};
    if (bias) {
        if (heads != 1 || !bias->values || bias->n_rows * bias->n_cols != n)
            return other_shape(b, bias, 1, n);
        out->b = bias->values;
    }
    return LB_OK;
}

/* A norm of n elements, or one for each of so many heads, or of all heads together. */
static lb_status norm(const binder *b, const char *stem, u64 n, u64 heads, lb_norm *out) {
    const lb_mweight *w = find(b, stem, "weight");
    LB_TRY(norm_of(b, w, find(b, stem, "bias"), out));
    bool fits = !w || (out->n == n && (out->n_heads == 1 || out->n_heads == heads)) ||
                (out->n == n * heads && out->n_heads == 1);
    return fits ? LB_OK : other_shape(b, w, 1, n);
}

static lb_status check_mats(const binder *b, const lb_mweight *w) {
    lb_err why;
    for (u32 i = 0; i < w->n_mats; i++)
        if (lb_mat_check(&w->mats[i], &why) != LB_OK)
            return lb_fail(b->err, why.code, "tensor '%.*s': %s", LB_FMT(w->name), why.msg);
    return LB_OK;
}

static void count(binder *b, const lb_mweight *w, u64 used) {
    for (u32 i = 0; i < w->n_mats; i++)
        b->products += w->mats[i].n_rows * w->mats[i].row_bytes * used / w->n_stack;
}

/* Elements of a token in any buffer: far beyond every model, and no sum of a few overflows 32 bits.
 */
#define WIDTH_MAX ((u64)1 << 28)

static lb_status too_wide(const binder *b) {
    return lb_fail(b->err, LB_E_LIMIT, "layer %u: vectors of more than %llu elements", b->layer,
                   (unsigned long long)WIDTH_MAX);
}

/* A token of a mixer needs so many floats. */
static lb_status widen(binder *b, u64 n) {
    if (n > WIDTH_MAX)
        return too_wide(b);
    b->m->max_attn = LB_MAX(b->m->max_attn, (u32)n);
    return LB_OK;
}

/* Of one matrix, and how many there are; 0 rows: any. */
typedef struct size {
    u64 rows, cols, stack;
} size;

/* Not there: out->w NULL. */
static lb_status linear_of(binder *b, const lb_mweight *w, const lb_mweight *bias, size s,
                           lb_linear *out) {
    lb_model *m = b->m;
    *out = (lb_linear){0};
    if (!w)
        return LB_OK;
    if (!w->mats || w->n_stack != s.stack || w->n_cols != s.cols || w->n_rows % s.stack ||
        (s.rows && w->n_rows != s.rows * s.stack))
        return other_shape(b, w, s.rows * s.stack, s.cols);
    if (w->n_cols > WIDTH_MAX || w->n_rows > WIDTH_MAX)
        return too_wide(b);
    LB_TRY(check_mats(b, w));
    out->w = w;
    m->max_cols = LB_MAX(m->max_cols, (u32)w->n_cols);
    u64 used = s.stack > 1 ? m->p.n_expert_used : 1;
    count(b, w, used);
    if (bias && (!bias->values || bias->n_rows * bias->n_cols != w->n_rows))
        return other_shape(b, bias, s.stack, w->n_rows / s.stack);
    out->bias = bias ? bias->values : NULL;
    m->max_slices = LB_MAX(m->max_slices, w->n_mats);
    return LB_OK;
}

static lb_status linear(binder *b, const char *stem, u64 rows, u64 cols, lb_linear *out) {
    return linear_of(b, find(b, stem, "weight"), find(b, stem, "bias"), (size){rows, cols, 1}, out);
}

static lb_status experts(binder *b, const char *stem, u64 rows, u64 cols, lb_linear *out) {
    return linear_of(b, find(b, stem, "weight"), find(b, stem, "bias"),
                     (size){rows, cols, b->m->p.n_expert}, out);
}

static lb_status need(const binder *b, const lb_linear *l, const char *what) {
    return l->w ? LB_OK : missing(b, what);
}

/* ---- attention ---- */

static lb_status find_rope(binder *b, lb_layer *l, const lb_layer_params *p) {
    lb_model *m = b->m;
    for (l->rope = 0; l->rope < m->n_ropes; l->rope++)
        if (m->rope[l->rope].n_rot == p->n_rot && m->rope[l->rope].local == p->local_rope)
            return LB_OK;
    if (m->n_ropes == LB_ROPES_MAX)
        return lb_fail(b->err, LB_E_UNSUPPORTED, "more than %d kinds of rope", LB_ROPES_MAX);
    m->rope[m->n_ropes++] = (lb_rope_kind){p->n_rot, p->local_rope};
    return LB_OK;
}

static lb_status bind_attention(binder *b, lb_layer *l) {
    lb_model *m = b->m;
    const lb_layer_params *p = &m->p.layer[b->layer];
    u64 n = m->p.n_embd, gate = m->p.graph->flags & LB_GRAPH_Q_GATE ? 2 : 1;
    u64 q = (u64)p->n_head * p->k_dim * gate, k = (u64)p->n_head_kv * p->k_dim,
        v = (u64)p->n_head_kv * p->v_dim;
    bool own = p->kv_layer == b->layer;
    l->mixer = LB_MIX_ATTENTION;
    if (!p->n_head_kv)
        return lb_fail(b->err, LB_E_UNSUPPORTED,
                       "layer %u has no keys of its own, which cannot be run", b->layer);
    LB_TRY(linear(b, "attn_qkv", q + k + v, n, &l->qkv));
    if (!l->qkv.w) {
        LB_TRY(linear(b, "attn_q", q, n, &l->q));
        LB_TRY(linear(b, "attn_k", k, n, &l->k));
        LB_TRY(linear(b, "attn_v", v, n, &l->v));
        LB_TRY(need(b, &l->q, "attn_q.weight"));
        if (own)
            LB_TRY(need(b, &l->k, "attn_k.weight"));
        if (own && (!(m->p.graph->flags & LB_GRAPH_V_NORM) || v != k))
            LB_TRY(need(b, &l->v, "attn_v.weight"));
        if (own && l->q.w->upright != l->k.w->upright)
            return lb_fail(b->err, LB_E_UNSUPPORTED,
                           "layer %u: rows of q and k stand in different orders", b->layer);
    }
    LB_TRY(linear(b, "attn_output", n, (u64)p->n_head * p->v_dim, &l->o));
    LB_TRY(need(b, &l->o, "attn_output.weight"));
    LB_TRY(norm(b, "attn_q_norm", p->k_dim, p->n_head, &l->q_norm));
    LB_TRY(norm(b, "attn_k_norm", p->k_dim, p->n_head_kv, &l->k_norm));
    LB_TRY(vector(b, "attn_sinks", "weight", p->n_head, &l->sinks));
    l->halves = m->p.graph->rope == LB_ROPE_HALVES || (l->q.w && l->q.w->upright);
    LB_TRY(widen(b, LB_MAX(q + k + v, (u64)p->n_head * p->v_dim)));
    return p->n_rot ? find_rope(b, l, p) : LB_OK;
}

/* ---- latent attention ---- */

static lb_status bind_latent(binder *b, lb_layer *l) {
    lb_model *m = b->m;
    lb_params *p = &m->p;
    u64 n = p->n_embd, heads = p->layer[b->layer].n_head;
    u64 q = heads * (p->nope_dim + p->rot_dim), kv = p->kv_rank + p->rot_dim, tail;
    l->mixer = LB_MIX_LATENT;
    LB_TRY(linear(b, "attn_q", q, n, &l->q));
    if (!l->q.w) {
        LB_TRY(linear(b, "attn_q_a", p->q_rank, n, &l->q_a));
        LB_TRY(linear(b, "attn_q_b", q, p->q_rank, &l->q_b));
        LB_TRY(need(b, &l->q_a, "attn_q_a.weight"));
        LB_TRY(need(b, &l->q_b, "attn_q_b.weight"));
        LB_TRY(norm(b, "attn_q_a_norm", p->q_rank, 1, &l->q_a_norm));
    }
    LB_TRY(linear(b, "attn_kv_a_mqa", kv, n, &l->kv_a));
    LB_TRY(need(b, &l->kv_a, "attn_kv_a_mqa.weight"));
    LB_TRY(norm(b, "attn_kv_a_norm", p->kv_rank, 1, &l->kv_a_norm));
    l->q_a_norm.eps = l->kv_a_norm.eps = p->latent_eps;
    if ((!l->q.w && !l->q_a_norm.n) || !l->kv_a_norm.n)
        return missing(b, "attn_kv_a_norm.weight");
    LB_TRY(linear(b, "attn_kv_b", heads * (p->nope_dim + p->value_dim), p->kv_rank, &l->kv_b));
    tail = heads * (p->nope_dim + p->value_dim);
    if (!l->kv_b.w) {
        LB_TRY(linear_of(b, find(b, "attn_k_b", "weight"), NULL,
                         (size){p->kv_rank, p->nope_dim, heads}, &l->k_b));
        LB_TRY(linear_of(b, find(b, "attn_v_b", "weight"), NULL,
                         (size){p->value_dim, p->kv_rank, heads}, &l->v_b));
        LB_TRY(need(b, &l->k_b, "attn_k_b.weight"));
        LB_TRY(need(b, &l->v_b, "attn_v_b.weight"));
        tail = heads * kv;
    }
    LB_TRY(linear(b, "attn_output", n, heads * p->value_dim, &l->o));
    LB_TRY(need(b, &l->o, "attn_output.weight"));
    l->halves = p->graph->rope == LB_ROPE_HALVES;
    LB_TRY(widen(b, LB_MAX(q + kv + tail, heads * p->value_dim)));
    LB_TRY(widen(b, LB_MAX((u64)p->q_rank, heads * p->kv_rank)));
    return find_rope(b, l, &p->layer[b->layer]);
}

/* ---- recurrent layers ---- */

static lb_status bind_conv(binder *b, lb_layer *l) {
    lb_model *m = b->m;
    const lb_params *p = &m->p;
    u64 n = p->n_embd;
    l->mixer = LB_MIX_CONV;
    LB_TRY(linear(b, "shortconv.in_proj", 3 * n, n, &l->in));
    LB_TRY(linear(b, "shortconv.out_proj", n, n, &l->out));
    LB_TRY(vector(b, "shortconv.conv", "weight", n * p->conv_width, &l->conv));
    LB_TRY(vector(b, "shortconv.conv", "bias", n, &l->conv_bias));
    LB_TRY(need(b, &l->out, "shortconv.out_proj.weight"));
    if (!l->conv || p->conv_width < 2)
        return missing(b, "shortconv.conv.weight");
    LB_TRY(widen(b, 3 * n));
    return LB_OK;
}

static lb_status bind_delta(binder *b, lb_layer *l) {
    lb_model *m = b->m;
    const lb_params *p = &m->p;
    u64 n = p->n_embd, k = (u64)p->ssm_groups * p->ssm_state;
    u64 channels = p->ssm_inner + 2 * k;
    l->mixer = LB_MIX_DELTA;
    if (!p->ssm_heads || !p->ssm_groups || !p->ssm_state || p->ssm_heads % p->ssm_groups ||
        p->ssm_inner % p->ssm_heads || p->conv_width < 2)
        return lb_fail(b->err, LB_E_FORMAT, "metadata: the ssm.* keys are no sizes of a delta net");
    LB_TRY(linear(b, "attn_qkv", channels, n, &l->in));
    LB_TRY(linear(b, "attn_gate", p->ssm_inner, n, &l->gate_z));
    LB_TRY(linear(b, "ssm_ba", 2ull * p->ssm_heads, n, &l->ba));
    LB_TRY(linear(b, "ssm_beta", p->ssm_heads, n, &l->beta));
    LB_TRY(linear(b, "ssm_alpha", p->ssm_heads, n, &l->alpha));
    LB_TRY(linear(b, "ssm_out", n, p->ssm_inner, &l->out));
    LB_TRY(vector(b, "ssm_conv1d", "weight", channels * p->conv_width, &l->conv));
    LB_TRY(vector(b, "ssm_conv1d", "bias", channels, &l->conv_bias));
    LB_TRY(vector(b, "ssm_a", "", p->ssm_heads, &l->ssm_a));
    LB_TRY(vector(b, "ssm_dt", "bias", p->ssm_heads, &l->ssm_dt));
    LB_TRY(norm(b, "ssm_norm", p->ssm_inner / p->ssm_heads, 1, &l->ssm_norm));
    LB_TRY(need(b, &l->in, "attn_qkv.weight"));
    LB_TRY(need(b, &l->gate_z, "attn_gate.weight"));
    if (!l->ba.w) {
        LB_TRY(need(b, &l->beta, "ssm_beta.weight"));
        LB_TRY(need(b, &l->alpha, "ssm_alpha.weight"));
    }
    if (!l->conv || !l->ssm_a || !l->ssm_dt || !l->ssm_norm.n)
        return missing(b, !l->conv ? "ssm_conv1d.weight" : "ssm_a, ssm_dt.bias or ssm_norm.weight");
    LB_TRY(widen(b, channels + p->ssm_inner + 2ull * p->ssm_heads));
    return LB_OK;
}

static lb_status bind_mixer(binder *b, lb_layer *l) {
    if (b->m->p.layer[b->layer].recurrent)
        return find(b, "shortconv.in_proj", "weight") ? bind_conv(b, l) : bind_delta(b, l);
    return b->m->p.kv_rank ? bind_latent(b, l) : bind_attention(b, l);
}

/* ---- feed-forward ---- */

static lb_status bind_dense(binder *b, lb_layer *l) {
    lb_model *m = b->m;
    u64 n = m->p.n_embd;
    const lb_mweight *down = find(b, "ffn_down", "weight");
    if (!down)
        return missing(b, "ffn_down.weight");
    u64 ff = down->n_cols;
    LB_TRY(linear(b, "ffn_gate", ff, n, &l->gate));
    LB_TRY(linear(b, "ffn_up", 0, n, &l->up));
    LB_TRY(linear(b, "ffn_down", n, ff, &l->down));
    LB_TRY(need(b, &l->up, "ffn_up.weight"));
    l->fused = !l->gate.w && l->up.w->n_rows == 2 * ff;
    if (!l->fused && l->up.w->n_rows != ff)
        return other_shape(b, l->up.w, ff, n);
    m->max_ff = LB_MAX(m->max_ff, (u32)ff);
    return LB_OK;
}

/* Each expert's matrix holds the gate's rows, then those of up. */
static lb_status halve(binder *b, const lb_mweight *w, u64 ff, lb_layer *l) {
    lb_model *m = b->m;
    u64 n = m->p.n_embd, stack = m->p.n_expert;
    lb_linear *const out[] = {&l->gate_exps, &l->up_exps};
    bool apart = w->n_mats == 2 * stack; /* each half is stored as a matrix */
    if (!w->mats || w->n_stack != stack || (w->n_mats != stack && !apart) ||
        w->n_rows != 2 * ff * stack)
        return other_shape(b, w, 2 * ff * stack, n);
    for (u32 half = 0; half < 2; half++) {
        lb_mweight *part = lb_arena_new(&m->perm, lb_mweight, 1);
        lb_mat *mats = lb_arena_new(&m->perm, lb_mat, stack);
        if (!part || !mats)
            return lb_fail(b->err, LB_E_NOMEM, "out of memory for experts");
        for (u64 e = 0; e < stack; e++) {
            const lb_mat *both = &w->mats[apart ? 2 * e + half : e];
            if (!apart && both->block_rows > 1 && ff % both->block_rows)
                return lb_fail(b->err, LB_E_UNSUPPORTED,
                               "tensor '%.*s': a block of scales stands in both halves of it",
                               LB_FMT(w->name));
            mats[e] = apart ? *both : lb_mat_part(both, half * ff, ff);
        }
        *part = *w;
        part->mats = mats;
        part->n_mats = (u32)stack;
        part->n_rows = ff * stack;
        LB_TRY(linear_of(b, part, NULL, (size){ff, n, stack}, out[half]));
    }
    return LB_OK;
}

static lb_status bind_experts(binder *b, lb_layer *l) {
    lb_model *m = b->m;
    u64 n = m->p.n_embd;
    const lb_mweight *down = find(b, "ffn_down_exps", "weight");
    if (!down)
        return bind_dense(b, l);
    if (!m->p.n_expert)
        return lb_fail(b->err, LB_E_FORMAT, "metadata: expert_count is missing");
    u64 ff = down->n_cols;
    LB_TRY(linear(b, "ffn_gate_inp", m->p.n_expert, n, &l->router));
    LB_TRY(need(b, &l->router, "ffn_gate_inp.weight"));
    const lb_mweight *both = find(b, "ffn_gate_up_exps", "weight");
    if (both)
        LB_TRY(halve(b, both, ff, l));
    else
        LB_TRY(experts(b, "ffn_gate_exps", ff, n, &l->gate_exps));
    if (!both)
        LB_TRY(experts(b, "ffn_up_exps", ff, n, &l->up_exps));
    LB_TRY(experts(b, "ffn_down_exps", n, ff, &l->down_exps));
    LB_TRY(need(b, &l->up_exps, "ffn_up_exps.weight"));
    LB_TRY(vector(b, "exp_probs_b", "bias", m->p.n_expert, &l->selection));
    m->max_ff_exp = LB_MAX(m->max_ff_exp, (u32)ff);
    const lb_mweight *shared = find(b, "ffn_down_shexp", "weight");
    if (!shared)
        return LB_OK;
    LB_TRY(linear(b, "ffn_gate_shexp", shared->n_cols, n, &l->gate_shared));
    LB_TRY(linear(b, "ffn_up_shexp", shared->n_cols, n, &l->up_shared));
    LB_TRY(linear(b, "ffn_down_shexp", n, shared->n_cols, &l->down_shared));
    LB_TRY(need(b, &l->up_shared, "ffn_up_shexp.weight"));
    m->max_ff = LB_MAX(m->max_ff, (u32)shared->n_cols);
    return linear(b, "ffn_gate_inp_shexp", 1, n, &l->shared_router);
}

/* Experts beside a dense feed-forward. */
static lb_status bind_beside(binder *b, lb_layer *l) {
    if (!l->up_exps.w || !l->ffn_norm.n || !l->dense_post_norm.n || !l->exps_post_norm.n)
        return missing(b, "pre_ffw_norm_2.weight's experts and norms");
    LB_TRY(vector(b, "ffn_gate_inp", "scale", b->m->p.n_embd, &l->router_scale));
    LB_TRY(vector(b, "ffn_down_exps", "scale", b->m->p.n_expert, &l->exps_scale));
    return bind_dense(b, l);
}

static lb_status bind_layer_input(binder *b, lb_layer *l) {
    u64 n = b->m->p.n_embd, dim = b->m->layer_in_dim;
    LB_TRY(linear(b, "inp_gate", dim, n, &l->in_gate));
    LB_TRY(linear(b, "proj", n, dim, &l->in_proj));
    LB_TRY(need(b, &l->in_gate, "inp_gate.weight"));
    LB_TRY(need(b, &l->in_proj, "proj.weight"));
    LB_TRY(norm(b, "post_norm", n, 1, &l->in_norm));
    b->m->max_ff = LB_MAX(b->m->max_ff, (u32)dim);
    return l->in_norm.n ? LB_OK : missing(b, "post_norm.weight");
}

/* ---- layers ---- */

static lb_status bind_layer(binder *b, lb_layer *l) {
    const lb_params *p = &b->m->p;
    u64 n = p->n_embd;
    LB_TRY(norm(b, "attn_norm", n, 1, &l->attn_norm));
    LB_TRY(norm(b, "post_attention_norm", n, 1, &l->attn_post_norm));
    LB_TRY(norm(b, "ffn_norm", n, 1, &l->ffn_norm));
    LB_TRY(norm(b, "post_ffw_norm", n, 1, &l->ffn_post_norm));
    LB_TRY(norm(b, "post_ffw_norm_1", n, 1, &l->dense_post_norm));
    LB_TRY(norm(b, "pre_ffw_norm_2", n, 1, &l->exps_norm));
    LB_TRY(norm(b, "post_ffw_norm_2", n, 1, &l->exps_post_norm));
    LB_TRY(vector(b, "layer_output_scale", "weight", 1, &l->scale));
    if (!l->ffn_norm.n && !l->ffn_post_norm.n && l->attn_post_norm.n) {
        l->ffn_norm = l->attn_post_norm;
        l->attn_post_norm.n = 0;
    }
    l->parallel = !l->ffn_norm.n && !l->ffn_post_norm.n;
    LB_TRY(bind_mixer(b, l));
    LB_TRY(bind_experts(b, l));
    if (l->exps_norm.n)
        LB_TRY(bind_beside(b, l));
    if (b->m->layer_embd)
        LB_TRY(bind_layer_input(b, l));
    b->m->max_slices = LB_MAX(b->m->max_slices, 4u);
    return LB_OK;
}

static lb_status bind_ends(binder *b) {
    lb_model *m = b->m;
    u64 n = m->p.n_embd;
    const lb_mweight *out = find_end(m, "output.weight");
    const lb_mweight *pos = find_end(m, "position_embd.weight");
    m->embd = find_end(m, "token_embd.weight");
    LB_TRY(check_mats(b, m->embd));
    LB_TRY(norm_of(b, find_end(m, "output_norm.weight"), find_end(m, "output_norm.bias"),
                   &m->output_norm));
    LB_TRY(norm_of(b, find_end(m, "token_embd_norm.weight"), find_end(m, "token_embd_norm.bias"),
                   &m->embd_norm));
    if (!m->output_norm.n && m->embd_norm.n) { /* LFM2's name for it */
        m->output_norm = m->embd_norm;
        m->embd_norm.n = 0;
    }
    if ((m->output_norm.n && m->output_norm.n != n) || (m->embd_norm.n && m->embd_norm.n != n))
        return lb_fail(b->err, LB_E_FORMAT,
                       "a norm has not the %llu elements of the model's vectors",
                       (unsigned long long)n);
    if (pos) {
        if (!pos->mats || pos->n_cols != n)
            return other_shape(b, pos, m->p.n_ctx_train, n);
        LB_TRY(check_mats(b, pos));
        m->positions = pos;
    }
    return linear_of(b, out ? out : m->embd, find_end(m, "output.bias"), (size){m->p.n_vocab, n, 1},
                     &m->output);
}

/* A row of the table and one of the product hold all layers' parts. */
static lb_status bind_layer_inputs(binder *b) {
    lb_model *m = b->m;
    const lb_mweight *table = find_end(m, "per_layer_token_embd.weight");
    if (!table)
        return LB_OK;
    if (!table->mats || table->n_rows < m->p.n_vocab || table->n_cols % m->p.n_layers)
        return other_shape(b, table, m->p.n_vocab, table->n_cols);
    LB_TRY(check_mats(b, table));
    m->layer_embd = table;
    m->layer_in_dim = (u32)(table->n_cols / m->p.n_layers);
    for (u32 i = 0; i < table->n_mats; i++)
        m->layer_in_scratch =
            LB_MAX(m->layer_in_scratch, lb_matmul_scratch_bytes(&table->mats[i], 1) / 4 + 16);
    LB_TRY(norm_of(b, find_end(m, "per_layer_proj_norm.weight"), NULL, &m->layer_in_norm));
    LB_TRY(linear_of(b, find_end(m, "per_layer_model_proj.weight"), NULL,
                     (size){table->n_cols, m->p.n_embd, 1}, &m->layer_in_proj));
    return m->layer_in_norm.n == m->layer_in_dim && m->layer_in_proj.w
               ? LB_OK
               : lb_fail(b->err, LB_E_FORMAT,
                         "tensors 'per_layer_model_proj.weight' and 'per_layer_proj_norm.weight' "
                         "do not fit 'per_layer_token_embd.weight'");
}

/* What nothing asked for would be missing from the result. */
static lb_status all_used(const lb_model *m, lb_err *err) {
    (void)find_end(m, "rope_freqs.weight");
    (void)find_end(m, "rope_factors_long.weight");
    (void)find_end(m, "rope_factors_short.weight");
    for (u64 i = 0; i < m->weights->n; i++)
        if (!m->used[i])
            return lb_fail(
                err, LB_E_UNSUPPORTED,
                "tensor '%.*s' has no place in the graph of this architecture: the model "
                "cannot be run",
                LB_FMT(m->weights->list[i].name));
    return LB_OK;
}

static lb_status bind(lb_model *m, lb_err *err) {
    binder b = {.m = m, .err = err};
    m->layer = lb_arena_new(&m->perm, lb_layer, m->p.n_layers);
    m->used = lb_arena_new(&m->perm, u8, m->weights->n + 1);
    if (!m->layer || !m->used)
        return lb_fail(err, LB_E_NOMEM, "out of memory for %u layers", m->p.n_layers);
    LB_TRY(bind_ends(&b));
    LB_TRY(bind_layer_inputs(&b));
    for (b.layer = 0; b.layer < m->p.n_layers; b.layer++)
        LB_TRY(bind_layer(&b, &m->layer[b.layer]));
    m->max_slices *= 3; /* matrices that are multiplied at once */
    m->token_bytes = b.products;
    return all_used(m, err);
}

lb_status lb_model_new(lb_model **out, const lb_model_in *in, lb_err *err) {
    lb_model *m = lb_alloc_zero(1, sizeof *m);
    *out = NULL;
    if (!m)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a model");
    m->weights = in->weights;
    m->k = in->kernels;
    lb_status st = lb_params_read(&m->p, in->arch, in->meta, in->weights, &m->perm, err);
    if (st == LB_OK)
        st = bind(m, err);
    if (st == LB_OK)
        st = lb_stream_new(&m->stream, m, err);
    if (st == LB_OK)
        *out = m;
    else
        lb_model_free(&m);
    return st;
}

void lb_model_free(lb_model **mp) {
    if (!*mp)
        return;
    lb_stream_free(&(*mp)->stream);
    lb_arena_deinit(&(*mp)->perm);
    lb_free(*mp);
    *mp = NULL;
}

const lb_kernels *lb_model_kernels(const lb_model *m) {
    return m->k;
}

u32 lb_model_n_vocab(const lb_model *m) {
    return m->p.n_vocab;
}

u32 lb_model_n_ctx_train(const lb_model *m) {
    return m->p.n_ctx_train;
}

u32 lb_model_n_layers(const lb_model *m) {
    return m->p.n_layers;
}

u32 lb_model_n_embd(const lb_model *m) {
    return m->p.n_embd;
}

bool lb_model_is_recurrent(const lb_model *m) {
    for (u32 i = 0; i < m->p.n_layers; i++)
        if (m->p.layer[i].recurrent)
            return true;
    return false;
}

void lb_model_limit(const lb_model *m, const lb_stream_limit *l) {
    lb_stream_set_limit(m->stream, l);
}

const lb_stream *lb_model_stream(const lb_model *m) {
    return m->stream;
}

u64 lb_model_token_bytes(const lb_model *m) {
    return m->token_bytes;
}
