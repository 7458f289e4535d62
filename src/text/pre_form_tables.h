/* SPDX-License-Identifier: Apache-2.0 */
/* pre_form_tables.h: what each tokenizer.ggml.pre of byte-level BPE means, as steps of a
 * tokenizer.json.
 *
 * Where the original tokenizer.json is known the steps are its own; elsewhere they are made from
 * the patterns that llama.cpp runs for that name (src/llama-vocab.cpp), so that both give the same
 * ids. */
#ifndef LB_TEXT_PRE_FORM_TABLES_H
#define LB_TEXT_PRE_FORM_TABLES_H

#include "base/base.h"

typedef enum lb_pre_step_kind {
    LB_PRE_END,
    LB_PRE_SPLIT,      /* Split, Isolated, by the pattern */
    LB_PRE_DIGITS,     /* Digits, each alone */
    LB_PRE_DIGIT_RUNS, /* Digits, runs */
    LB_PRE_PUNCT_RUNS, /* Punctuation, Contiguous */
    LB_PRE_BYTES,      /* ByteLevel without its pattern */
    LB_PRE_BYTES_GPT2, /* ByteLevel with GPT-2's pattern */
    LB_PRE_SPACES      /* Split at " ", MergedWithPrevious (SentencePiece-like BPE) */
} lb_pre_step_kind;

#define LB_PRE_STEPS_MAX 8

enum {
    LB_PRE_NFC = 1,           /* normalizer NFC */
    LB_PRE_IGNORE_MERGES = 2, /* model.ignore_merges */
    LB_PRE_BOS = 4,           /* a BOS token is added where the GGUF does not say */
    LB_PRE_CLEAN = 8,         /* clean_up_tokenization_spaces */
    LB_PRE_UNTRIMMED = 16,    /* ByteLevel: trim_offsets false */
    LB_PRE_RAW = 32,          /* no byte alphabet: " " -> U+2581, byte tokens "<0xNN>" */
    LB_PRE_BOS_ALWAYS = 64    /* a BOS token is added whatever the GGUF says */
};

typedef struct lb_pre_form {
    const char
        *names; /* of tokenizer.ggml.pre, separated by spaces; the first stands for the form */
    u32 flags;
    struct {
        lb_pre_step_kind kind;
        const char *pattern; /* SPLIT */
    } steps[LB_PRE_STEPS_MAX];
} lb_pre_form;

extern const lb_pre_form lb_pre_forms[];
extern const u32 lb_pre_n_forms;

#endif
