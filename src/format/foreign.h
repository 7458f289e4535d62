/* SPDX-License-Identifier: Apache-2.0 */
/* foreign.h: models quantized by other tools: recognised by config and by tensor names. Known
 * methods become weights; others are refused by name, so that packed bytes are never taken for
 * values. */
#ifndef LB_FORMAT_FOREIGN_H
#define LB_FORMAT_FOREIGN_H

#include "base/base.h"
#include "base/mem.h"
#include "io/json.h"
#include "tensor/source.h"

/* The parsed files of a folder that can say how its codes were made; NULL where there is none. */
typedef struct lb_foreign_files {
    const lb_json *config;   /* config.json */
    const lb_json *modelopt; /* hf_quant_config.json */
    const lb_json *gptq;     /* quantize_config.json: AutoGPTQ before it wrote into config.json */
    const lb_json *awq;      /* quant_config.json: the same of AutoAWQ */
} lb_foreign_files;

/* mlx: the folder was written by MLX, whose config may still name the method of the model it was
 * made from: then only tensors that are not plain floats are refused. LB_E_UNSUPPORTED names the
 * method. */
lb_status lb_foreign_check(const lb_source *s, const lb_foreign_files *files, bool mlx,
                           lb_err *err);

/* The same, but a method that is known is read: *made tells that s has its weights. What was left
 * aside goes to notes, a line each. */
lb_status lb_foreign_open(lb_source *s, const lb_foreign_files *files, bool mlx, lb_buf *notes,
                          bool *made, lb_err *err);

/* ---- foreign_weights.c, for foreign.c alone ---- */

bool lb_foreign_is_known(lb_str method);
/* object: the quantization config. */
lb_status lb_foreign_weights(lb_source *s, const lb_json *object, lb_str method, lb_buf *notes,
                             lb_err *err);

#endif
