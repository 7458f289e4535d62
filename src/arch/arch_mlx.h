/* SPDX-License-Identifier: Apache-2.0 */
/* arch_mlx.h: the modules of mlx-lm's classes: which matrices it can quantize, and what a class
 * says of them itself.
 *
 * A module is named by its path: the tensor's name without ".weight". Roles and flags of the rows
 * decide; no class of mlx-lm is known by name. Source: mlx-lm 0.32.2, models/ (to_quantized,
 * quant_predicate), mlx 0.32.4, nn/layers/quantized.py. */
#ifndef LB_ARCH_ARCH_MLX_H
#define LB_ARCH_ARCH_MLX_H

#include "arch/arch.h"

/* Whether the tensor of an MLX folder is the weight of a module with to_quantized: of nn.Linear,
 * nn.Embedding, SwitchLinear (experts), MultiLinear (heads). Not so: norms, convolutions, biases,
 * routers that are bare parameters (LB_ROW_MLX_BARE), parts beside the language model, names that
 * the family does not know. No allocation; *path is a part of the name. */
bool lb_arch_mlx_module(const lb_arch *a, const lb_hparams *hp, lb_str name, u32 rank,
                        lb_str *path);
/* Whether the class's own predicate wants 8 bits in groups of 64 for it, whatever is asked. */
bool lb_arch_mlx_is_8bit(const lb_arch *a, lb_str path);
/* The order in which mlx-lm walks through the modules of a model, and writes of them in
 * config.json: as memcmp. Paths that no class has come behind their siblings, by name. */
int lb_arch_mlx_cmp(const lb_arch *a, lb_str x, lb_str y);

#endif
