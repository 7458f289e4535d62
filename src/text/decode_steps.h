/* SPDX-License-Identifier: Apache-2.0 */
/* decode_steps.h: the `decoder` of a tokenizer.json, compiled once, then read-only; and one text
 * that is being decoded by it. Internal to text/: decode.h is what others use.
 *
 * Known: ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip, WordPiece, BPEDecoder, CTC,
 * Sequence; none: tokens with blanks between them. Others are LB_E_UNSUPPORTED by name. Semantics:
 * tokenizers 0.23. */
#ifndef LB_TEXT_DECODE_STEPS_H
#define LB_TEXT_DECODE_STEPS_H

#include "base/base.h"
#include "base/mem.h"
#include "io/json.h"

#define LB_DECODE_STEPS_MAX 16

typedef struct lb_decode_steps lb_decode_steps;

/* json: the "decoder" member; NULL and null: none. */
lb_status lb_decode_steps_new(lb_decode_steps **out, const lb_json *json, lb_err *err);
void lb_decode_steps_free(lb_decode_steps **s);

/* A text on its way: what a step must hold back until it knows how it goes on. */
typedef struct lb_decode_run {
    const lb_decode_steps *steps;
    struct lb_decode_state {
        lb_buf hold;
        u32 count; /* characters dropped at the beginning */
        bool any;  /* a token came before */
    } state[LB_DECODE_STEPS_MAX];
} lb_decode_run;

void lb_decode_run_begin(lb_decode_run *r, const lb_decode_steps *steps);
/* The next token's text (UTF-8); appends to out what is certain by now: whole characters. */
lb_status lb_decode_run_put(lb_decode_run *r, lb_str token, lb_buf *out, lb_err *err);
/* Appends the rest. */
lb_status lb_decode_run_end(lb_decode_run *r, lb_buf *out, lb_err *err);
void lb_decode_run_deinit(lb_decode_run *r);

/* Appends the bytes that a token of the vocabulary stands for where it is not the first. */
void lb_decode_steps_piece(const lb_decode_steps *s, lb_str token, lb_buf *out);
/* Whether tokens "<0xNN>" are bytes. */
bool lb_decode_steps_has_bytes(const lb_decode_steps *s);
/* -1: not of the form <0xNN>. */
int lb_byte_token_value(lb_str token);

#endif
