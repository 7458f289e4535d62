/* SPDX-License-Identifier: Apache-2.0 */
/* convert.h: what all commands share that are a conversion: convert, quantize, split, join. */
#ifndef LB_CLI_CONVERT_H
#define LB_CLI_CONVERT_H

#include "cli/write.h"
#include "ops/convert.h"

/* Opens the model and converts it; of o, what the options of writing do not say (and w.lossless).
 * A budget in which not even the plan can be made is refused with the smallest that would do. */
lb_status lb_cli_convert(lb_cli *cli, const lb_writing *writing, lb_common *common,
                         const char *model, const lb_convert_opts *o, lb_err *err);

#endif
