/* SPDX-License-Identifier: Apache-2.0 */
/* template.h: chat templates: the Jinja language as transformers sets it up (its
 * ImmutableSandboxedEnvironment with trim_blocks, lstrip_blocks, loop controls and generation
 * blocks; autoescape off), interpreted.
 *
 * A template is compiled once and is read-only then: threads may share it. A render has memory of
 * its own, which is bounded, as are its steps, its depth and its output: a template can be a
 * stranger's. It reads its variables and nothing else: no files, no environment; of the clock only
 * what strftime_now gives. A render needs 4 MiB of stack (LB_TEMPLATE_DEPTH levels).
 *
 * Behaviour: jinja2 3.1.6, Python 3.11, transformers 5.24 (utils/chat_template_utils.py). Not
 * supported, and refused by name: other files (include, import, extends), random, lipsum, urlize,
 * scoped and required blocks, autoescape on, arithmetic on integers beyond 64 bits. */
#ifndef LB_TEXT_TEMPLATE_H
#define LB_TEXT_TEMPLATE_H

#include "base/base.h"
#include "base/mem.h"
#include "io/json.h"

typedef struct lb_template lb_template;

/* Nodes of the tree, calls and items walked through, and 64 bytes of text made; about 10 ns each.
 */
#define LB_TEMPLATE_STEPS 30000000
#define LB_TEMPLATE_DEPTH 2000 /* calls and expressions inside each other */
#define LB_TEMPLATE_OUTPUT (64 * LB_MIB)
#define LB_TEMPLATE_MEMORY (256 * LB_MIB)

typedef struct lb_template_limits {
    u64 steps, output_bytes, memory_bytes; /* 0: as above */
    u32 depth;
} lb_template_limits;

/* text: UTF-8, at most 1 MiB. what names it in errors. LB_E_FORMAT with the line of a syntax error;
 * LB_E_UNSUPPORTED: a tag by name; LB_E_LIMIT, LB_E_NOMEM. */
lb_status lb_template_new(lb_template **out, lb_str text, const char *what, lb_err *err);
void lb_template_free(lb_template **t);

typedef struct lb_template_opts {
    lb_template_limits limits;
    const i64 *now_us; /* of strftime_now, since 1970 in local time; NULL: the clock */
} lb_template_opts;

/* Appends the text; vars: an object whose members are the template's variables; opts may be NULL.
 * On failure nothing is appended. LB_E_FORMAT: what Python would raise, and raise_exception with
 * its message; LB_E_LIMIT names the limit. */
lb_status lb_template_render(const lb_template *t, const lb_json *vars,
                             const lb_template_opts *opts, lb_buf *out, lb_err *err);

#endif
