/* SPDX-License-Identifier: Apache-2.0 */
/* params.h: the numbers of a model's graph, from its metadata (GGUF's keys, whatever format the
 * model is stored in: arch/ makes them of a config.json) and its family's table. */
#ifndef LB_MODEL_PARAMS_H
#define LB_MODEL_PARAMS_H

#include "arch/arch.h"
#include "arch/arch_graph.h"
#include "model/weights.h"

typedef enum lb_rope_scaling {
    LB_SCALING_NONE,
    LB_SCALING_LINEAR,
    LB_SCALING_YARN,
    LB_SCALING_LONGROPE,
    LB_SCALING_DYNAMIC /* the base grows with a session beyond the trained context */
} lb_rope_scaling;

/* Factors by which frequencies are divided. */
typedef struct lb_rope_list {
    const float *v; /* [n]; NULL: none */
    u32 n;
} lb_rope_list;

typedef struct lb_layer_params {
    u32 n_head, n_head_kv, k_dim, v_dim; /* of a head */
    u32 n_rot;                           /* elements of a head that turn; 0: none */
    bool window;                         /* sees so many positions only */
    bool local_rope;                     /* has the window's rope base, and no scaling */
    u32 kv_layer;                        /* whose keys and values it reads: its own, or an earlier
                                            one's */
    bool recurrent;                      /* keeps a state, no keys and values */
} lb_layer_params;

#define LB_GROUPS_MAX 256   /* of experts */
#define LB_OAI_ALPHA 1.702f /* of LB_ACT_OAI */
#define LB_OAI_LIMIT 7.0f
/* The smallest sum by which chosen experts' weights are divided: the least normal f16. */
#define LB_TOP_SUM_MIN 6.103515625e-5f

typedef struct lb_params {
    const lb_arch_graph *graph;
    u32 n_layers, n_embd, n_vocab, n_ctx_train;
    float eps, latent_eps; /* of norms; of those inside latent attention */
    lb_act_fn act;
    u32 window;
    float attn_scale, attn_softcap, final_softcap, embd_scale, residual_scale, logit_scale;
    float temp_scale; /* q grows with 1 + temp_scale ln(1 + floor(pos / n_ctx_orig)); 0: no */
    /* rope */
    lb_rope_scaling scaling;
    double rope_base, rope_base_window, rope_factor, rope_attn_factor;
    double yarn_ext, yarn_fast, yarn_slow, yarn_log_mul;
    double yarn_mscale; /* of cosines; 0: by factor and yarn_log_mul */
    bool yarn_round;    /* limits are whole elements */
    u32 n_ctx_orig;
    lb_rope_list rope_freq, rope_long, rope_short; /* of models without tensors for them */
    /* experts */
    u32 n_expert, n_expert_used, n_group, n_group_used;
    lb_router_fn router;
    bool top_norm;
    float top_scale;
    /* latent attention: ranks and sizes of a head; 0: none */
    u32 q_rank, kv_rank, nope_dim, rot_dim, value_dim;
    /* recurrent layers */
    u32 conv_width, ssm_state, ssm_groups, ssm_heads, ssm_inner;
    lb_layer_params *layer; /* [n_layers] */
} lb_params;

/* perm: owns layer and the lists of rope. LB_E_UNSUPPORTED: the family has no graph, or the
 * metadata say what it cannot; LB_E_FORMAT: they contradict the tensors. */
lb_status lb_params_read(lb_params *p, const lb_arch *a, const lb_gguf_meta *meta,
                         const lb_mweights *w, lb_arena *perm, lb_err *err);

#endif
