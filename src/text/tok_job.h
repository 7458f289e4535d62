/* SPDX-License-Identifier: Apache-2.0 */
/* tok_job.h: one conversion of a folder's tokenizer to GGUF keys, shared by the ways. Internal to
 * text/. */
#ifndef LB_TEXT_TOK_JOB_H
#define LB_TEXT_TOK_JOB_H

#include "text/spm.h"
#include "text/tok_folder.h"
#include "text/tokdata.h"

typedef struct lb_tok_job {
    lb_tok_folder *f;
    const lb_tok_opts *opts;
    lb_gguf_meta *meta;
    lb_tok_info info;
    lb_texts tokens; /* [n] */
    i32 *types;      /* [n] lb_spm_type */
    float *scores;   /* [n] or NULL */
    u64 n;
    const struct lb_special_named *named; /* see special.h; NULL: none */
    bool no_pad;                          /* see lb_special_opts */
} lb_tok_job;

struct lb_tok {
    lb_tok_folder f;
};

lb_status lb_tok_no_memory(lb_err *err);
lb_status lb_tok_make_arrays(lb_tok_job *j, u64 n, bool scores, lb_err *err);
/* An id without a token: "[PAD<id>]", unused. */
lb_status lb_tok_pad(lb_tok_job *j, u64 id, lb_err *err);
lb_status lb_tok_set(lb_tok_job *j, u64 id, lb_str text, i32 type, lb_err *err);
bool lb_tok_looks_special(lb_str t);
bool lb_tok_is_byte(lb_str t); /* "<0xNN>" */
lb_status lb_tok_with_spaces(lb_tok_job *j, lb_str t, lb_str *out, lb_err *err);
lb_str lb_tok_pre(lb_tok_job *j, lb_str otherwise, const char *how);
/* pre: ptr NULL: none.
 * tokenizer.ggml.{model,pre,tokens,scores,token_type}, in this order; the tokens are the meta's. */
lb_status lb_tok_put_vocab(lb_tok_job *j, const char *model, lb_str pre, lb_err *err);

/* A tokenizer.model with the tokens of InternLM 2's chat models. */
lb_status lb_tok_way_internlm2(lb_tok_job *j, lb_err *err);
/* The merges of tokenizer.json or merges.txt, "left right" each. */
lb_status lb_tok_read_merges(lb_tok_job *j, lb_texts *out, lb_err *err);
/* A tokenizer.json of BPE, as GGUF "gpt2". */
lb_status lb_tok_way_bpe(lb_tok_job *j, lb_err *err);

#endif
