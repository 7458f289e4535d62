/* SPDX-License-Identifier: Apache-2.0 */
/* lora.h: a model with adapters as a model that is computed: MODEL+ADAPTER.
 *
 * The base may be stored in any form and be computed itself; the result is one in Hugging Face's
 * form, each matrix W + scale * B A in f32, added in the order of the rank, then of the adapters.
 */
#ifndef LB_OPS_LORA_H
#define LB_OPS_LORA_H

#include "ops/computed.h"

/* Takes the sources: the base, and n adapters with a factor each for their scales (NULL: 1). They
 * are the result's, or closed. *base and adapters[i] become NULL. */
lb_status lb_lora_open(lb_source **out, lb_source **base, lb_source **adapters,
                       const double *scales, u32 n, lb_err *err);

/* Whether it is one: input 0 is the base. */
bool lb_lora_is(const lb_source *s);

#define LB_LORA_MAX 16 /* adapters on one model */

/* Where MODEL+ADAPTER is cut: the base ends at the first + from the right before which there is a
 * path that exists (or a name of the hub). *n is 0 where arg is no such thing. at[i]: where the
 * name of adapter i begins. */
void lb_lora_split(const char *arg, size_t *base_len, size_t at[LB_LORA_MAX], u32 *n);

#endif
