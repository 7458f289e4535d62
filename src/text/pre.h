/* SPDX-License-Identifier: Apache-2.0 */
/* pre.h: naming the pre-tokenizer of a tokenizer.json (tokenizer.ggml.pre), and what a name means.
 */
#ifndef LB_TEXT_PRE_H
#define LB_TEXT_PRE_H

#include "base/base.h"
#include "base/mem.h"
#include "io/json.h"
#include "text/hf_tok.h"
#include "text/pre_form_tables.h"

typedef struct lb_pre_found {
    lb_str pre;      /* ptr NULL: not found */
    const char *how; /* "hash", "structure" */
    char sha256[65]; /* of the check text's ids; empty where they could not be made */
} lb_pre_found;

/* As the reference converter: the SHA-256 of the ids of its check text, printed as Python prints a
 * list, looked up in its table. What the post-processor adds around a text depends on the version
 * of transformers, so three ways of adding BOS and EOS are tried. A hash that is not in the table:
 * the form whose steps are the same. LB_E_UNSUPPORTED: neither is known; out->sha256 is set. config
 * tokenizer_config.json, or NULL */
lb_status lb_pre_detect(const lb_hf_tok *t, const lb_json *config, lb_pre_found *out, lb_err *err);

/* NULL: no such pre-tokenizer of byte-level BPE is known. */
const lb_pre_form *lb_pre_form_by_name(lb_str pre);
/* NULL: no form has these steps. */
const lb_pre_form *lb_pre_form_by_structure(const lb_hf_tok *t);
/* The members "normalizer" and "pre_tokenizer" of a form; NULL: out of memory. */
lb_json *lb_pre_form_normalizer(const lb_pre_form *f, lb_arena *perm);
lb_json *lb_pre_form_pre_tokenizer(const lb_pre_form *f, lb_arena *perm);
/* The first name of a form. */
lb_str lb_pre_form_name(const lb_pre_form *f);

#endif
