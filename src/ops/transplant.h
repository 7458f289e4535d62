/* SPDX-License-Identifier: Apache-2.0 */
/* transplant.h: a model with the tokenizer of another one: a computed source (ops/computed.h) whose
 * embeddings, and output matrix where it has one, are made for the new vocabulary
 * (merge/transplant.h); all else is the model's. */
#ifndef LB_OPS_TRANSPLANT_H
#define LB_OPS_TRANSPLANT_H

#include "merge/transplant.h"
#include "tensor/source.h"

/* model, donor: paths, of anything that lb_open_planned takes. Nothing is computed before a plan
 * runs. LB_E_UNSUPPORTED, LB_E_FORMAT and LB_E_LIMIT name what cannot be transplanted. */
lb_status lb_transplant_open(lb_source **out, const char *model, const char *donor,
                             const lb_transplant_opts *o, lb_err *err);

#endif
