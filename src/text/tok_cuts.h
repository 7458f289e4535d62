/* SPDX-License-Identifier: Apache-2.0 */
/* tok_cuts.h: the merges of a SentencePiece BPE, made from its scores one after the other. Internal
 * to text/.
 *
 * Every way to cut a token into two others is a merge. The order is that of transformers'
 * converters: by falling score; by_length: then by falling length of the parts (gemma's files);
 * then by id (llama's). Tokens that are no normal or byte tokens count as score 0. */
#ifndef LB_TEXT_TOK_CUTS_H
#define LB_TEXT_TOK_CUTS_H

#include "base/texts.h"
#include "text/hf_write.h"

/* Views: they must outlive the cuts. */
typedef struct lb_tok_pieces {
    const lb_texts *token;
    const lb_texts_index *id_of;
    const u8 *type;     /* [n_known] lb_spm_type; of the tokens behind: unused */
    const float *score; /* [n_known] */
    u64 n_known;
} lb_tok_pieces;

typedef struct lb_tok_cuts {
    lb_tok_pieces p;
    bool by_length;
    struct lb_tok_scored *order; /* [n] tokens as their merges come */
    u64 n, at;
    lb_buf lengths;               /* of lb_tok_mark_lengths */
    u64 vocab_bytes, merge_bytes; /* of the tokens that were cut */
    lb_buf
        group; /* cuts of the token, by_length: of all tokens of the score, that are being given */
    u64 group_at;
} lb_tok_cuts;

/* Puts into out whether a token has that length, [longest + 1]: of a token of a megabyte nearly no
 * cut has two parts of lengths that exist, and hashing all of them would take minutes. */
lb_status lb_tok_mark_lengths(const lb_texts *token, lb_buf *out, lb_err *err);

/* LB_E_UNSUPPORTED of a cut: tokens a, aa, aaa... give merges whose text grows with the third power
 * of their number: a file of 5 MB would become one of 15 GB. */
lb_status lb_tok_cuts_begin(lb_tok_cuts *c, const lb_tok_pieces *p, bool by_length, lb_err *err);
/* Ids of the two parts; *more = false behind the last merge. */
lb_status lb_tok_cuts_next(lb_tok_cuts *c, u32 pair[2], bool *more, lb_err *err);
/* From the first one again: as texts, for hf_write.h. */
lb_hf_merges lb_tok_cuts_merges(lb_tok_cuts *c);
void lb_tok_cuts_end(lb_tok_cuts *c);
/* The token that is cut as the i-th (below n); whether its score is that of the one before. */
bool lb_tok_cuts_token(const lb_tok_cuts *c, u64 i, u32 *id);
/* Characters of a part, by which cuts are ordered. */
u16 lb_tok_cuts_chars(lb_str s);

#endif
