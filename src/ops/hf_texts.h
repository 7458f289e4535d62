/* SPDX-License-Identifier: Apache-2.0 */
/* hf_texts.h: config and side files of a source in Hugging Face's form: a folder's own, or what a
 * GGUF's metadata say. */
#ifndef LB_OPS_HF_TEXTS_H
#define LB_OPS_HF_TEXTS_H

#include "arch/arch_config.h"
#include "ops/computed.h"
#include "ops/ctensor.h"

/* config.json and generation_config.json of a GGUF, c its tensors; dtype: of the matrices that are
 * written. Its rope factors are read. All memory is perm's. */
lb_status lb_hf_texts_of_gguf(const lb_ctensors *c, lb_dtype dtype, lb_arena *perm,
                              lb_arch_config_out *out, lb_err *err);
/* Gives s, which is computed, the config and side files of `from`, whose tensors c are and which
 * outlives s. notes: what had to be assumed, a line each. LB_E_NOT_FOUND: no tokenizer. */
lb_status lb_hf_texts_take(lb_source *s, const lb_source *from, const lb_ctensors *c, lb_buf *notes,
                           lb_err *err);
/* Only the tokenizer's files, of a GGUF. */
lb_status lb_hf_texts_tokenizer(lb_source *s, const lb_source *from, lb_err *err);

#endif
