/* SPDX-License-Identifier: Apache-2.0 */
/* merge_methods.h: what `lbrx merge --methods` prints. */
#ifndef LB_CLI_MERGE_METHODS_H
#define LB_CLI_MERGE_METHODS_H

#include "base/base.h"
#include "base/mem.h"

/* Every method of the table with its parameters: for people, or as one JSON array. */
void lb_cli_merge_methods(lb_buf *out, bool json);

#endif
