/* SPDX-License-Identifier: Apache-2.0 */
/* generate.h: within `lbrx generate`: its options, and what one prompt and many have in common. */
#ifndef LB_CLI_GENERATE_H
#define LB_CLI_GENERATE_H

#include "cli/drafting.h"
#include "cli/sampling.h"
#include "cli/talk.h"
#include "ops/generate.h"

#define LB_PROMPT_BYTES_MAX (256 * LB_MIB)
#define LB_CTX_USUAL 4096u

typedef struct lb_generate_cmd {
    lb_common common;
    lb_infer_opts infer;
    lb_sampling_opts sampling;
    lb_talk_opts talk;
    lb_drafting_opts drafting;
    const char *prompt, *file, *messages, *session;
    const char *keep; /* a count, or "-1": the prompt */
    u64 n, parallel, n_keep;
    bool chat, ids, ignore_eos, jsonl, shift;
} lb_generate_cmd;

/* A file, or - for stdin. */
lb_status lb_generate_read(const char *file, lb_arena *arena, lb_str *out, lb_err *err);
/* The ids that the model reads of a text: of a conversation or a message in its template, with the
 * tokens that a text begins with. x has its tokenizer. */
lb_status lb_generate_prompt(lb_infer *x, const lb_generate_cmd *o, lb_str text, lb_arena *arena,
                             lb_buf *ids, lb_err *err);
/* Positions of a session for so many tokens of a prompt and n behind them. */
u64 lb_generate_room(const lb_infer *x, const lb_generate_cmd *o, u64 n_prompt, u64 n);
/* What an answer to n tokens needs of the options. */
lb_generate_opts lb_generate_opts_of(const lb_infer *x, const lb_generate_cmd *o,
                                     const lb_sampling *s, u32 n_prompt);
/* One line of JSON. prompt: its ids. */
void lb_generate_put(lb_buf *out, const lb_generate_cmd *o, lb_str prompt, const lb_generated *g,
                     u64 seed);
/* --jsonl: a prompt a line, an answer a line. */
lb_status lb_generate_lines(lb_infer *x, const lb_generate_cmd *o, lb_cli *cli, lb_err *err);

#endif
