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

/* The same of what `open` opens: a model that only this command makes. */
typedef lb_status (*lb_cli_opener)(const void *user, const char *model, lb_source **out,
                                   lb_err *err);
typedef struct lb_cli_opened {
    lb_cli_opener open;
    const void *user;
    const char *model;
} lb_cli_opened;
lb_status lb_cli_convert_opened(lb_cli *cli, const lb_writing *writing, lb_common *common,
                                const lb_cli_opened *from, const lb_convert_opts *o, lb_err *err);

#endif
