/* SPDX-License-Identifier: Apache-2.0 */
/* hf_take.h: a tokenizer in memory from the parts of a tokenizer.json (hf_write.h) that need not be
 * written for that; and the merges of a SentencePiece BPE that need not be listed. Internal to
 * text/. */
#ifndef LB_TEXT_HF_TAKE_H
#define LB_TEXT_HF_TAKE_H

#include "text/hf_tok.h"
#include "text/hf_write.h"

/* What lb_hf_tok_parse would make of the file that lb_hf_write makes of the parts, but for merges:
 * those with a part or result that is no token are left out, and `cuts` stands for the merges of
 * tok_cuts.h. Nothing of the parts is borrowed; tree and skeleton live in arena. LB_E_FORMAT,
 * LB_E_LIMIT, LB_E_NOMEM, LB_E_UNSUPPORTED. */
lb_status lb_hf_tok_take(lb_hf_tok *t, const lb_hf_parts *p, const char *what, lb_arena *arena,
                         lb_err *err);

/* The order of the merges of tok_cuts.h, of which each is found when a word asks for it: the two
 * parts' texts together are a token. */
typedef struct lb_cut_order {
    struct lb_cut_place {
        u32 place; /* of the token among all, by falling score, then by id */
        u32 score; /* place of its score among the scores */
    } * of;        /* [n_ids] */
    bool by_length;
    u8 *has_length; /* [longest + 1] whether a token has that many bytes */
    size_t longest;
} lb_cut_order;

/* Where a merge stands: smaller comes first. */
typedef struct lb_cut_rank {
    u64 high, low;
} lb_cut_rank;

/* The token that two make together, and the rank of this merge; scratch takes its text. False: none
 * (or scratch->oom). */
bool lb_cut_find(const lb_hf_tok *t, u32 left, u32 right, lb_buf *scratch, u32 *joined,
                 lb_cut_rank *rank);
/* Whether a token is made of two others. */
bool lb_cut_is_joined(const lb_hf_tok *t, u32 id);
void lb_cut_order_free(lb_cut_order **o);

#endif
