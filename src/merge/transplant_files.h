/* SPDX-License-Identifier: Apache-2.0 */
/* transplant_files.h: what config.json and generation_config.json say of tokens, for a model that
 * gets another tokenizer. */
#ifndef LB_MERGE_TRANSPLANT_FILES_H
#define LB_MERGE_TRANSPLANT_FILES_H

#include "io/json.h"
#include "text/token_set.h"

typedef struct lb_token_ids {
    const lb_token_set *model, *donor;
    const lb_json *config; /* the donor's config.json; NULL: none */
} lb_token_ids;

/* Ids in place of the model's: those that the donor's config names, else its tokenizer's roles,
 * else null; others by the text of their token. LB_E_UNSUPPORTED: the donor has no such token. */
lb_status lb_token_ids_config(const lb_token_ids *t, lb_str config, lb_arena *perm, lb_str *out,
                              lb_err *err);
/* model, donor: the files' bytes; empty: there is none. *out empty: none is needed. */
lb_status lb_token_ids_generation(const lb_token_ids *t, lb_str model, lb_str donor, lb_arena *perm,
                                  lb_str *out, lb_err *err);

/* Whether a file of a folder belongs to its tokenizer. */
bool lb_is_tokenizer_file(lb_str name);

#endif
