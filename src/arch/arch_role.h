/* SPDX-License-Identifier: Apache-2.0 */
/* arch_role.h: what a tensor of a model is. */
#ifndef LB_ARCH_ARCH_ROLE_H
#define LB_ARCH_ARCH_ROLE_H

#include "base/base.h"

/* What the tensor is: quantization recipes, merge filters and type policies ask. */
typedef enum lb_role {
    LB_ROLE_TOKEN_EMBD,
    LB_ROLE_POS_EMBD, /* learned positions */
    LB_ROLE_OUTPUT,
    LB_ROLE_OUTPUT_NORM,
    LB_ROLE_ATTN_NORM,
    LB_ROLE_ATTN_Q,
    LB_ROLE_ATTN_K,
    LB_ROLE_ATTN_V,
    LB_ROLE_ATTN_QKV, /* one matrix in every world: the rows of q, then k, then v */
    LB_ROLE_ATTN_Q_A, /* latent attention (MLA): down to the rank of q, up from it */
    LB_ROLE_ATTN_Q_B,
    LB_ROLE_ATTN_Q_A_NORM,
    LB_ROLE_ATTN_KV_A, /* down to the rank that keys and values share, and the rotated key */
    LB_ROLE_ATTN_KV_A_NORM,
    LB_ROLE_ATTN_K_B, /* up from it: a head's keys without rotation, a head's values */
    LB_ROLE_ATTN_V_B,
    LB_ROLE_ATTN_OUTPUT,
    LB_ROLE_ATTN_Q_NORM,
    LB_ROLE_ATTN_K_NORM,
    LB_ROLE_ATTN_POST_NORM,
    LB_ROLE_FFN_NORM,
    LB_ROLE_FFN_GATE,
    LB_ROLE_FFN_UP,
    LB_ROLE_FFN_DOWN,
    LB_ROLE_FFN_POST_NORM,
    LB_ROLE_FFN_ROUTER,
    LB_ROLE_FFN_GATE_EXPS, /* of experts */
    LB_ROLE_FFN_UP_EXPS,
    LB_ROLE_FFN_DOWN_EXPS,
    LB_ROLE_FFN_SHARED_ROUTER, /* of an expert that all tokens use */
    LB_ROLE_FFN_GATE_SHARED,
    LB_ROLE_FFN_UP_SHARED,
    LB_ROLE_FFN_DOWN_SHARED,
    LB_ROLE_SHORTCONV_CONV, /* of layers with a short convolution in place of attention */
    LB_ROLE_SHORTCONV_IN,
    LB_ROLE_SHORTCONV_OUT,
    /* Layers of linear attention: the fused q, k, v and the gate z of a gated delta net, ... */
    LB_ROLE_LINEAR_Q,
    LB_ROLE_LINEAR_K,
    LB_ROLE_LINEAR_V,
    LB_ROLE_LINEAR_GATE,
    LB_ROLE_SSM_BETA_ALPHA,
    LB_ROLE_SSM_BETA,
    LB_ROLE_SSM_ALPHA,
    LB_ROLE_SSM_CONV,
    LB_ROLE_SSM_CONV_Q,
    LB_ROLE_SSM_CONV_K,
    LB_ROLE_SSM_CONV_V,
    LB_ROLE_SSM_A,
    LB_ROLE_SSM_DT,
    LB_ROLE_SSM_NORM,
    LB_ROLE_SSM_OUT,
    LB_ROLE_FFN_ROUTER_SCALE, /* on what the router reads */
    LB_ROLE_FFN_EXPS_SCALE,   /* one number an expert */
    LB_ROLE_FFN_NORM_EXPS,    /* of the experts beside a dense feed-forward, before and after */
    LB_ROLE_FFN_POST_NORM_EXPS,
    LB_ROLE_FFN_POST_NORM_DENSE,
    LB_ROLE_LAYER_EMBD, /* embeddings for every layer */
    LB_ROLE_LAYER_EMBD_PROJ,
    LB_ROLE_LAYER_EMBD_NORM,
    LB_ROLE_LAYER_IN_GATE, /* and their way into a layer */
    LB_ROLE_LAYER_IN_PROJ,
    LB_ROLE_LAYER_IN_NORM,
    LB_ROLE_LAYER_SCALE, /* one number: on the layer's result */
    LB_ROLE_ROPE_FREQS,
    LB_ROLE_ROPE_LONG, /* factors of longrope, beyond the original context and within it */
    LB_ROLE_ROPE_SHORT,
    LB_ROLE_FFN_GATE_EXPS_BIAS,
    LB_ROLE_FFN_UP_EXPS_BIAS,
    LB_ROLE_FFN_DOWN_EXPS_BIAS,
    LB_ROLE_ATTN_SINKS,
    LB_ROLE_FFN_ROUTER_BIAS, /* added to the scores by which experts are chosen */
    LB_ROLE_MTP,             /* of multi-token prediction alone: its projection, norms, head */
    LB_ROLE_DROPPED, /* recomputed at run time (inv_freq); counted and named when left out */
    LB_ROLE_COUNT
} lb_role;
/* Matrices that a row of tokens, positions or activations is looked up in or multiplied by. */
bool lb_role_is_linear(lb_role role);

#endif
