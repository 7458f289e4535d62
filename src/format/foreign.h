/* SPDX-License-Identifier: Apache-2.0 */
/* foreign.h: models quantized by other tools: recognised by config and by tensor names, and refused
 * by the method's name, so that packed bytes are never taken for values. */
#ifndef LB_FORMAT_FOREIGN_H
#define LB_FORMAT_FOREIGN_H

#include "base/base.h"
#include "io/json.h"
#include "tensor/source.h"

/* config: may be NULL. modelopt: the parsed hf_quant_config.json, NULL where there is none. mlx:
 * the folder was written by MLX, whose config may still name the method of the model it was made
 * from: then only tensors that are not plain floats are refused. LB_E_UNSUPPORTED names the method.
 */
lb_status lb_foreign_check(const lb_source *s, const lb_json *config, const lb_json *modelopt,
                           bool mlx, lb_err *err);

#endif
