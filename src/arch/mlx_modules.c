/* SPDX-License-Identifier: Apache-2.0 */
/* mlx_modules.c: the modules of mlx-lm's classes, by the rows of the families' tables. */
#include "arch/arch_internal.h"
#include "arch/arch_mlx.h"

bool lb_role_is_linear(lb_role role) {
    switch (role) {
    case LB_ROLE_TOKEN_EMBD:
    case LB_ROLE_POS_EMBD:
    case LB_ROLE_OUTPUT:
    case LB_ROLE_ATTN_Q:
    case LB_ROLE_ATTN_K:
    case LB_ROLE_ATTN_V:
    case LB_ROLE_ATTN_QKV:
    case LB_ROLE_ATTN_Q_A:
    case LB_ROLE_ATTN_Q_B:
    case LB_ROLE_ATTN_KV_A:
    case LB_ROLE_ATTN_K_B:
    case LB_ROLE_ATTN_V_B:
    case LB_ROLE_ATTN_OUTPUT:
    case LB_ROLE_FFN_GATE:
    case LB_ROLE_FFN_UP:
    case LB_ROLE_FFN_DOWN:
    case LB_ROLE_FFN_ROUTER:
    case LB_ROLE_FFN_GATE_EXPS:
    case LB_ROLE_FFN_UP_EXPS:
    case LB_ROLE_FFN_DOWN_EXPS:
    case LB_ROLE_FFN_SHARED_ROUTER:
    case LB_ROLE_FFN_GATE_SHARED:
    case LB_ROLE_FFN_UP_SHARED:
    case LB_ROLE_FFN_DOWN_SHARED:
    case LB_ROLE_SHORTCONV_IN:
    case LB_ROLE_SHORTCONV_OUT:
    case LB_ROLE_LINEAR_Q:
    case LB_ROLE_LINEAR_K:
    case LB_ROLE_LINEAR_V:
    case LB_ROLE_LINEAR_GATE:
    case LB_ROLE_SSM_BETA_ALPHA:
    case LB_ROLE_SSM_BETA:
    case LB_ROLE_SSM_ALPHA:
    case LB_ROLE_SSM_OUT:
    case LB_ROLE_LAYER_EMBD:
    case LB_ROLE_LAYER_EMBD_PROJ:
    case LB_ROLE_LAYER_IN_GATE:
    case LB_ROLE_LAYER_IN_PROJ:
        return true;
    default:
        return false;
    }
}

bool lb_arch_mlx_module(const lb_arch *a, const lb_hparams *hp, lb_str name, u32 rank,
                        lb_str *path) {
    static const lb_str suffix = LB_N(".weight");
    lb_arch_match m;
    if (rank < 2 || !lb_str_ends(name, suffix) || !lb_arch_find(a, hp, LB_WORLD_MLX, name, &m) ||
        m.extra != LB_EXTRA_NONE || m.mtp != LB_NO_INDEX || !lb_role_is_linear(m.row->role) ||
        (m.row->flags & LB_ROW_MLX_BARE))
        return false;
    *path = lb_str_sub(name, 0, name.len - suffix.len);
    return true;
}

bool lb_arch_mlx_is_8bit(const lb_arch *a, lb_str path) {
    for (const char *s = a->mlx_8bit; s && *s;) {
        const size_t len = strcspn(s, "|");
        if (lb_str_ends(path, (lb_str){s, len}))
            return true;
        s += len + (s[len] == '|');
    }
    return false;
}

/* ---- order ---- */

/* What a module of this name holds, in order; "#": one of a list. */
typedef struct holder {
    const char *name, *parts;
} holder;

#define FFN_PARTS \
    " c_fc c_proj gate experts switch_mlp router shared_experts shared_expert shared_expert_gate "

static const holder holders[] = {
    {"", " language_model model lm_head output "},
    {"language_model", " model lm_head output "},
    {"model", " embed_tokens tok_embeddings wte wpe layers h embed_tokens_per_layer "
              "per_layer_model_projection "},
    {"#", " self_attn linear_attn conv attn attention mlp feed_forward block_sparse_moe router "
          "experts per_layer_input_gate per_layer_projection "},
    {"self_attn", " q_a_proj q_b_proj q_proj k_proj v_proj qkv_proj kv_a_proj_with_mqa kv_b_proj "
                  "embed_q unembed_out o_proj out_proj "},
    {"attention", " wqkv wo "},
    {"attn", " c_attn c_proj "},
    {"linear_attn", " in_proj_qkvz in_proj_ba in_proj_qkv in_proj_z in_proj_b in_proj_a "
                    "out_proj "},
    {"conv", " in_proj out_proj "},
    {"block_sparse_moe", " gate switch_mlp router "},
};
/* Of a feed-forward's. Stacks of experts are of one class in all models. */
static const char down_before_up[] = " gate_proj gate_up_proj down_proj up_proj w1 w2 w3" FFN_PARTS;
static const char down_last[] = " gate_proj up_proj gate_up_proj down_proj w1 w3 w2" FFN_PARTS;

static const char *parts_of(const lb_arch *a, lb_str name) {
    for (size_t i = 0; i < LB_LEN(holders); i++)
        if (lb_str_eq_c(name, holders[i].name))
            return holders[i].parts;
    const bool stack = lb_str_eq_c(name, "switch_mlp") || lb_str_eq_c(name, "switch_glu") ||
                       lb_str_eq_c(name, "experts");
    return stack || (a->flags & LB_ARCH_MLX_DOWN_LAST) ? down_last : down_before_up;
}

static size_t place(const char *parts, lb_str name) {
    const size_t len = strlen(parts);
    for (size_t at = 0; at < len;) {
        const size_t n = strcspn(parts + at, " ");
        if (lb_str_eq(name, (lb_str){parts + at, n}))
            return at;
        at += n + 1;
    }
    return len;
}

static lb_str component(lb_str path, size_t at) {
    const lb_str rest = lb_str_sub(path, at, path.len);
    size_t end = rest.len;
    (void)lb_str_find(rest, LB_STR("."), &end);
    return lb_str_sub(rest, 0, end);
}

int lb_arch_mlx_cmp(const lb_arch *a, lb_str x, lb_str y) {
    lb_str holder_name = LB_STR("");
    size_t at = 0;
    while (at < x.len && at < y.len) {
        const lb_str p = component(x, at), q = component(y, at);
        u64 i, j;
        const bool number = lb_str_to_u64(p, &i);
        if (lb_str_eq(p, q)) {
            holder_name = number ? LB_STR("#") : p;
            at += p.len + 1;
            continue;
        }
        if (number && lb_str_to_u64(q, &j) && i != j)
            return i < j ? -1 : 1;
        const char *parts = parts_of(a, holder_name);
        const size_t u = place(parts, p), v = place(parts, q);
        return u != v ? (u < v ? -1 : 1) : lb_str_cmp(p, q);
    }
    return x.len == y.len ? 0 : x.len < y.len ? -1 : 1;
}
