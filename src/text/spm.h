/* SPDX-License-Identifier: Apache-2.0 */
/* spm.h: tokenizer.model: SentencePiece's ModelProto, read within bounds.
 *
 * Only what a tokenizer needs is decoded; unknown fields are skipped, as protobuf demands. Source:
 * sentencepiece_model.proto of sentencepiece 0.2 (field numbers, types, defaults). */
#ifndef LB_TEXT_SPM_H
#define LB_TEXT_SPM_H

#include "base/base.h"
#include "base/mem.h"

typedef enum lb_spm_type {
    LB_SPM_NORMAL = 1,
    LB_SPM_UNKNOWN = 2,
    LB_SPM_CONTROL = 3,
    LB_SPM_USER_DEFINED = 4,
    LB_SPM_UNUSED = 5,
    LB_SPM_BYTE = 6
} lb_spm_type; /* the numbers of GGUF's token_type, too */

typedef struct lb_spm_piece {
    lb_str text; /* view of the file */
    float score;
    lb_spm_type type;
} lb_spm_piece;

typedef enum lb_spm_model {
    LB_SPM_UNIGRAM = 1,
    LB_SPM_BPE = 2,
    LB_SPM_WORD = 3,
    LB_SPM_CHAR = 4
} lb_spm_model;

typedef struct lb_spm {
    lb_spm_piece *pieces;
    u64 n_pieces;
    lb_spm_model model;
    bool byte_fallback;
    i32 unk_id, bos_id, eos_id, pad_id; /* -1: none */
    lb_str precompiled_charsmap;
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    bool treat_whitespace_as_suffix;
} lb_spm;

/* bytes must outlive *out; the array lives in arena. what names the file in messages.
 * LB_E_FORMAT: no ModelProto (offset), no pieces, a piece that is empty or not UTF-8. */
lb_status lb_spm_parse(lb_spm *out, lb_str bytes, const char *what, lb_arena *arena, lb_err *err);

/* The type that the sentencepiece library gives out: a piece of one zero byte is unused where bytes
 * are pieces; user-defined ones are normal to those that ask for the other types only. */
lb_spm_type lb_spm_seen_type(const lb_spm *m, const lb_spm_piece *p);
/* Appends one piece as sentencepiece writes it: text, score, type; a normal one's type only if
 * normal_type (both forms occur). */
void lb_spm_put_piece(lb_buf *out, lb_buf *scratch, const lb_spm_piece *piece, bool normal_type);

#endif
