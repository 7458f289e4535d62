/* SPDX-License-Identifier: Apache-2.0 */
/* mlx.h: which tensors of an MLX model make one weight, and how it is packed.
 *
 * `<path>.weight` u32 + `<path>.scales` (+ `<path>.biases`, `<path>.global_scale`) with bits, group
 * size and mode from config.json's "quantization": a default and one entry a path. Rules: mlx-lm
 * 0.32.2 utils.py load_model (class_predicate, infer_quant_config), mlx 0.32.4 ops.cpp quantize. */
#ifndef LB_FORMAT_MLX_H
#define LB_FORMAT_MLX_H

#include "base/base.h"
#include "base/mem.h"
#include "io/json.h"
#include "tensor/source.h"

typedef struct lb_mlx_entry {
    lb_str path;       /* "model.layers.0.mlp.gate" */
    bool quantized;    /* false: the config says false */
    bool global_scale; /* the config says that a global_scale tensor exists */
    lb_enc enc;
} lb_mlx_entry;

typedef struct lb_mlx_quant {
    bool present; /* the config has a quantization object of MLX's form */
    lb_enc enc;   /* of paths without an entry */
    lb_mlx_entry *entries;
    u64 n_entries;
    lb_map by_path; /* path -> index; lb_mlx_quant_deinit */
} lb_mlx_quant;

/* "quantization", else "quantization_config" without a quant_method, at the top or in text_config.
 * Errors: LB_E_UNSUPPORTED (mode or bits x group by name), LB_E_FORMAT, LB_E_NOMEM. Entries and
 * their paths live in perm; q->present is false and nothing else is set when the config has none.
 */
lb_status lb_mlx_quant_parse(const lb_json *config, lb_arena *perm, lb_mlx_quant *q, lb_err *err);
void lb_mlx_quant_deinit(lb_mlx_quant *q);

/* Whether s has a u32 `<path>.weight` with `<path>.scales`: MLX's packed form and nobody else's. */
lb_status lb_mlx_is_packed(const lb_source *s, bool *out, lb_err *err);

/* Fills s->weights from s->tensors; companions of a packed weight get no weight of their own.
 * Every inconsistency is an error that names the tensor and the shapes. */
lb_status lb_mlx_weights(lb_source *s, const lb_mlx_quant *q, lb_err *err);

/* The encoding's name in MLX's words ("affine", "mxfp4"...); NULL for others. */
const char *lb_mlx_mode_name(lb_enc_kind kind);
/* The encoding that MLX takes where only the mode is said. kind: one of MLX's. */
lb_enc lb_mlx_enc_default(lb_enc_kind kind);
/* Whether MLX has these bits in groups of that size. */
bool lb_mlx_enc_exists(const lb_enc *enc);

/* What an encoding's object in the config names: all of it; no mode, which is affine then; null for
 * the group's size, which is the mode's then. */
typedef enum lb_mlx_said { LB_MLX_SAID_ALL, LB_MLX_SAID_NO_MODE, LB_MLX_SAID_NO_GROUP } lb_mlx_said;
/* As mlx-lm writes it: "group_size", "bits", "mode". NULL: out of memory. */
lb_json *lb_mlx_enc_json(const lb_enc *enc, lb_mlx_said said, lb_arena *perm);

#endif
