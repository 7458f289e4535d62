/* SPDX-License-Identifier: Apache-2.0 */
/* arch_extra.h: parts that a model works without. */
#ifndef LB_ARCH_ARCH_EXTRA_H
#define LB_ARCH_ARCH_EXTRA_H

#include "base/base.h"

/* Parts that a model works without, which users keep or drop and a target may have no place for.
 * Those beside the language model are told by their names; layers of multi-token prediction are the
 * language model's own: a family has them if one of its rows has LB_ROW_MTP, and then every layer
 * from n_layers on is one of them, in rows of any kind. */
typedef enum lb_extra {
    LB_EXTRA_NONE,
    LB_EXTRA_VISION, /* the tower of images and videos and what leads from it to the model */
    LB_EXTRA_AUDIO,
    LB_EXTRA_MTP, /* layers of multi-token prediction */
    LB_EXTRA_COUNT
} lb_extra;

const char *lb_extra_name(lb_extra e); /* "vision" */
const char *lb_extra_flag(lb_extra e); /* by which the user keeps or drops it: "--vision" */
bool lb_extra_is_beside(lb_extra e);   /* the language model, not in it */

#endif
