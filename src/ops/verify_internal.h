/* SPDX-License-Identifier: Apache-2.0 */
/* verify_internal.h: shared by the files of verify. */
#ifndef LB_OPS_VERIFY_INTERNAL_H
#define LB_OPS_VERIFY_INTERNAL_H

#include "ops/verify.h"

/* Values of a model that is computed. */
lb_status lb_verify_computed(lb_verify *v, const lb_source *s, const lb_verify_options *o,
                             lb_arena *perm, lb_err *err);

#endif
