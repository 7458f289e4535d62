/* SPDX-License-Identifier: Apache-2.0 */
/* result.h: texts of a merge's result beside its tensors. */
#ifndef LB_MERGE_RESULT_H
#define LB_MERGE_RESULT_H

#include "merge/outline.h"

/* What becomes of the donor's config beside its layers. */
typedef struct lb_merge_more {
    u64 n_rows;    /* of tokens; 0: as it says */
    lb_str ids_of; /* config.json of the model whose tokenizer the result has; empty: the donor's */
    bool untied;   /* the result has an output matrix of its own, unlike the donor */
} lb_merge_more;

/* configs: [n_models] config.json of each model. That of the donor (the first), as the result needs
 * it: the number of layers, what is listed a layer
 * (layer_types...), the type of the weights. The donor's other words stay as they are. */
lb_status lb_merge_config_of(const lb_str *configs, const lb_merge_config *c,
                             const lb_merge_outline *o, const lb_merge_more *more, lb_arena *perm,
                             lb_str *out, lb_err *err);
/* A config, or generation_config.json, with the ids of special tokens that another one has. */
lb_status lb_merge_config_ids(lb_str text, lb_str from, const char *what, lb_arena *perm,
                              lb_str *out, lb_err *err);
/* README.md: what was merged and how, with the merge file itself. name: of the result. */
lb_status lb_merge_card(lb_str name, const lb_merge_config *c, lb_str text, lb_buf *out,
                        lb_err *err);

#endif
