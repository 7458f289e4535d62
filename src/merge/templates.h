/* SPDX-License-Identifier: Apache-2.0 */
/* templates.h: chat templates by the names that mergekit 0.1.5 has for them. */
#ifndef LB_MERGE_TEMPLATES_H
#define LB_MERGE_TEMPLATES_H

#include "merge/config.h"

/* The text that `chat_template` means; ptr NULL: "auto". LB_E_FORMAT: it is neither a name nor a
 * template. */
lb_status lb_merge_template(const lb_merge_config *c, lb_str *out, lb_err *err);

#endif
