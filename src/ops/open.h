/* SPDX-License-Identifier: Apache-2.0 */
/* open.h: any MODEL argument to an opened source, by what the path holds. */
#ifndef LB_OPS_OPEN_H
#define LB_OPS_OPEN_H

#include "base/base.h"
#include "tensor/source.h"

/* A folder (HF, MLX), a GGUF file (one, or the first of a split), a safetensors file, or hf:// with
 * a model in the local cache (ops/hub.h). Names decide nothing but the wording of refusals. What is
 * recognised and not taken here (merge files, MODEL+ADAPTER) is LB_E_UNSUPPORTED and
 * says so by name.
 *   errors LB_E_NOT_FOUND, LB_E_FORMAT, LB_E_UNSUPPORTED, LB_E_IO, LB_E_LIMIT, LB_E_NOMEM.
 *   *out is the caller's: lb_source_close. */
lb_status lb_open(lb_source **out, const char *arg, lb_err *err);
/* lb_open, and models that are computed (ops/computed.h: merge files), whose tensors lie in no
 * file: for what makes a plan (convert, diff). */
lb_status lb_open_planned(lb_source **out, const char *arg, lb_err *err);
/* The same, and importance matrices (LB_FORMAT_IMATRIX), which the others refuse by name: for what
 * shows or checks what a person has. */
lb_status lb_open_any(lb_source **out, const char *arg, lb_err *err);

/* Whether the argument is, by its form, a model that is computed: what lb_open_planned takes beyond
 * lb_open. */
bool lb_open_is_computed(const char *arg);

/* MODEL+ADAPTER with a factor for each adapter's scales (NULL: 1). */
lb_status lb_open_lora(lb_source **out, const char *model, const char *const *adapters,
                       const double *scales, u32 n, lb_err *err);

#endif
