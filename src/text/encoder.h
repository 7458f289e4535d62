/* SPDX-License-Identifier: Apache-2.0 */
/* encoder.h: text -> ids with the tokenizer of an opened model, whatever files it comes in. BPE
 * only, as hf_encode.h. */
#ifndef LB_TEXT_ENCODER_H
#define LB_TEXT_ENCODER_H

#include "tensor/source.h"

typedef struct lb_encoder lb_encoder;

/* LB_E_UNSUPPORTED names what of the tokenizer is not known; LB_E_NOT_FOUND: there is none. */
lb_status lb_encoder_open(lb_encoder **out, const lb_source *s, lb_err *err);
void lb_encoder_close(lb_encoder **e);
/* Appends the ids (u32 each) of a valid UTF-8 text, without what a template puts around it. */
lb_status lb_encoder_run(const lb_encoder *e, lb_str text, lb_buf *ids, lb_err *err);

#endif
