/* SPDX-License-Identifier: Apache-2.0 */
/* arch_pieces.h: the pieces that read families' tables, for each other; included by
 * arch_internal.h. */
#ifndef LB_ARCH_ARCH_PIECES_H
#define LB_ARCH_ARCH_PIECES_H

#include "arch/arch_internal.h"

/* Whether the config class has a field of this name. */
bool lb_arch_has_field(const lb_arch *a, const char *name);
/* A field's name in lb_arch.defaults without its marks. */
lb_str lb_arch_field_name(lb_str key, bool *optional, bool *number);

/* ---- a config as the reference's classes see it ---- */

typedef struct lb_arch_normal {
    lb_json *config;     /* a copy: defaults of the config class added, rope keys as below */
    lb_json *rope;       /* parameters of full attention; never NULL, may be empty */
    lb_json *rope_local; /* of sliding attention; NULL: none */
} lb_arch_normal;

lb_status lb_arch_normalise(const lb_json *config, lb_arena *scratch, lb_arch_normal *out,
                            lb_err *err);
/* The value under the first of `names` ("a|b|@c") that exists; NULL if absent. */
const lb_json *lb_arch_pick(const lb_arch_normal *n, const char *names);
/* The family's LB_KV_ROPE_DIMS row; NULL: whole heads are rotated. */
const lb_arch_kv *lb_arch_rope_dims_row(const lb_arch *a);
lb_status lb_arch_head_dim(const lb_arch_normal *n, u64 *out, lb_err *err);
/* How many values of a head are rotated. */
lb_status lb_arch_rope_dims(const lb_arch *a, const lb_arch_normal *n, u64 *out, lb_err *err);
/* An integer that the config must have, above 0. */
lb_status lb_arch_pick_u64(const lb_arch_normal *n, const char *names, u64 *out, lb_err *err);
/* The feed-forward's size as Lfm2's class makes it of the config's number (LB_KV_FF_SIZE). */
lb_status lb_arch_ff_size(const lb_arch_normal *n, const char *names, u64 *out, lb_err *err);

/* The row that counts the layers of multi-token prediction; NULL: the family has none. */
const lb_arch_kv *lb_arch_mtp_kv(const lb_arch *a);
/* GGUF's number of an expert gating function; 0: it has none. */
u32 lb_arch_gating_type(lb_str name);
/* Whether layers of linear attention stand between those of attention. */
bool lb_arch_has_recurrent(const lb_arch *a);

/* ---- kinds of layers (layers.c) ---- */

#define LB_LAYERS_MAX 65536 /* config.json names the kind of every layer */

typedef struct lb_arch_kinds {
    const bool *full; /* [n]: sees all tokens, not a window of them; NULL: no layer_types */
    u64 n, n_full;
} lb_arch_kinds;

/* False: out of memory. */
bool lb_arch_layer_kinds(const lb_json *config, lb_arena *s, lb_arch_kinds *out);
/* For LB_ARCH_LAYER_SIZES: the two names of sizes whatever the form in the config; the last layer
 * sees all tokens. by_class: the class has taken it. */
bool lb_arch_fill_sizes(lb_json *c, bool by_class, lb_arena *s);
lb_status lb_arch_check_layers(const lb_arch_normal *n, lb_err *err);
/* Their way back, into a config that has the rest. */
typedef struct lb_arch_sizes_in {
    const lb_arch *arch;
    const lb_gguf_meta *meta;
    lb_str name; /* general.architecture */
    const lb_hparams *hp;
    const lb_arch_seen *seen;
    const bool *full; /* [n_layers] */
    lb_arena *perm;
    lb_json *config;
} lb_arch_sizes_in;
lb_status lb_arch_sizes_back(const lb_arch_sizes_in *in, lb_err *err);

/* <arch>.* and, when in is given, general.file_type. */
lb_status lb_arch_meta_rows(const lb_arch *a, const lb_arch_normal *n, const lb_arch_meta_in *in,
                            lb_gguf_meta *out, lb_err *err);
/* general.* up to general.languages. */
lb_status lb_arch_meta_general(const lb_arch_meta_in *in, lb_arena *scratch, lb_gguf_meta *out,
                               lb_err *err);

/* ---- rope factors (rope_factors.c) ---- */

typedef struct lb_rope_llama3 {
    double theta, factor, low, high, orig;
} lb_rope_llama3;

#define LB_ARCH_MADE_MAX 2
/* Factors of rope (made.c) as the tensors that some families' GGUF has: in out (LB_ARCH_MADE_MAX),
 * values in perm; *n_out 0: the type of rope has none. flags: LB_ARCH_ROPE_FREQS, LB_ARCH_LONGROPE,
 * LB_ARCH_ROPE_SHARE, those that are made. */
lb_status lb_arch_made_rope(const lb_arch *a, const lb_arch_normal *n, u32 flags, lb_arena *perm,
                            lb_arch_made_tensor *out, u32 *n_out, lb_err *err);
/* n = head_dim / 2 factors, with the reference's steps of rounding. */
void lb_rope_llama3_factors(const lb_rope_llama3 *p, u64 head_dim, float *out);
/* longrope's factor on cosine and sine for a context `scale` times the original one. */
double lb_rope_long_mscale(double scale, double orig);
/* Parameters that give exactly these factors (theta is given in p); false: none found. */
bool lb_rope_llama3_solve(lb_rope_llama3 *p, u64 head_dim, const float *factors);

/* The base that stretches the lowest frequency by alpha; dim: of a head, above 2. */
double lb_rope_ntk_base(double base, double alpha, u64 dim);
/* The alpha of the fewest digits that gives exactly this base as f32. */
bool lb_rope_ntk_solve(float scaled, double base, u64 dim, double *alpha);

/* ---- names of models (model_id.c): the heuristics behind general.name, basename... ---- */

typedef struct lb_model_id { /* ptr NULL: none */
    lb_str name, organization, basename, finetune, version, size_label;
} lb_model_id;

/* n_params: of the model, negative for an adapter, 0: not known. */
lb_status lb_model_id_parse(lb_str id, i64 n_params, lb_arena *perm, lb_model_id *out, lb_err *err);
lb_str lb_model_id_title(lb_str id, lb_arena *perm); /* ptr NULL: out of memory */
lb_str lb_model_size_label(u64 n_params, u64 n_experts, lb_arena *perm); /* "7.2B", "8x7.1B" */

/* Shortest decimal that reads back as this float, as a JSON number ("1e-05"). */
lb_json *lb_arch_json_f32(lb_arena *perm, float v);

#endif
