/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_internal.h: shared by adapter.c (names, shapes) and adapter_config.c. */
#ifndef LB_OPS_ADAPTER_INTERNAL_H
#define LB_OPS_ADAPTER_INTERNAL_H

#include "ops/adapter.h"

/* Reads adapter_config.json, or a GGUF's pairs, and refuses kinds that are not low-rank sums. */
lb_status lb_adapter_read_config(lb_adapter *a, lb_err *err);
/* The scale of a part whose matrices are known; of parameters also the stack. */
lb_status lb_adapter_set_scale(lb_adapter *a, lb_adapter_part *p, lb_err *err);
/* PEFT: which parameters of a module its parts are of. */
lb_status lb_adapter_name_parameters(lb_adapter *a, lb_err *err);
/* PEFT: which rows of the embedding v has. */
lb_status lb_adapter_token_rows(lb_adapter *a, lb_adapter_value *v, lb_err *err);
/* PEFT: whether modules_to_save has the module. */
bool lb_adapter_saves(const lb_adapter *a, lb_str module);
/* By the name alone: without a table. */
bool lb_adapter_is_embedding(lb_str module);

#endif
