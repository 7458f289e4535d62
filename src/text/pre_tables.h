/* SPDX-License-Identifier: Apache-2.0 */
/* pre_tables.h: names of pre-tokenizers by the hash of the ids of a check text. */
#ifndef LB_TEXT_PRE_TABLES_H
#define LB_TEXT_PRE_TABLES_H

#include "base/base.h"

typedef struct lb_pre_hash {
    char sha256[65]; /* of the ids as Python prints the list: "[1, 22, 333]" */
    const char *pre; /* tokenizer.ggml.pre */
} lb_pre_hash;

extern const char lb_pre_check_text[];
extern const u32 lb_pre_check_len; /* bytes */
extern const lb_pre_hash lb_pre_hashes[];
extern const u32 lb_pre_n_hashes;

#endif
