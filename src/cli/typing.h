/* SPDX-License-Identifier: Apache-2.0 */
/* typing.h: the options that say which types a model's matrices become, of all commands that make
 * one: quantize, merge, moe, lora fuse... */
#ifndef LB_CLI_TYPING_H
#define LB_CLI_TYPING_H

#include "cli/cli.h"
#include "ops/quantize.h"

typedef struct lb_typing {
    const char *type;
    double target_bpw;
    u64 target_bytes;
    lb_opt_list overrides, tensor_types, include, exclude;
    const char *rules, *tensor_type_file, *output_type, *embedding_type, *imatrix, *sensitivity;
    bool keep_output, pure, protect, requantize, refine;
    u32 group; /* index of group sizes */
    bool sym, asym;
    u32 mlx_rule; /* metal|cpu */
    u64 max_buffer;
} lb_typing;

#define LB_TYPING_OPTS 23
extern const lb_opt lb_typing_opts[LB_TYPING_OPTS];
#define LB_GROUP_TYPING(offset) \
    { .title = "Types", .opts = lb_typing_opts, .n = LB_TYPING_OPTS, .off = (offset) }

/* Whether the user asks for types at all. */
bool lb_typing_given(const lb_typing *t);
/* LB_E_USAGE names an option that makes no sense. */
lb_status lb_typing_fill(const lb_typing *t, lb_quantize_opts *out, lb_err *err);

#endif
