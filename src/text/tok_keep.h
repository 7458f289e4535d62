/* SPDX-License-Identifier: Apache-2.0 */
/* tok_keep.h: what a GGUF keeps of the original files (`lbrx.hf.*`), and taking it out. Internal to
 * text/.
 *
 *   lbrx.hf.tokenizer         skeleton of tokenizer.json (hf_write.h), with its own white space
 *   lbrx.hf.tokenizer_form    JSON: how the arrays of the GGUF fill it
 *   lbrx.hf.tokenizer_merges  left, right, left...; only where the GGUF's own cannot tell
 *   lbrx.hf.tokenizer_model   tokenizer.model as a patch on the arrays (spm_patch)
 *   lbrx.hf.tokenizer_sum     sum of the tokenizer.* keys all this was made from; edited: unused
 *   lbrx.hf.template_sum      sum of the keys of chat templates: exchanged, those of the files go
 *   lbrx.hf.chat_templates    name, text, name...: named templates, where their keys cannot tell
 *   lbrx.hf.{tokenizer_config,special_tokens_map,added_tokens,chat_template_json,chat_template}
 *                             small files as they are */
#ifndef LB_TEXT_TOK_KEEP_H
#define LB_TEXT_TOK_KEEP_H

#include "text/tok_rebuild.h"

/* The tokenizer.* keys of meta and more (may be NULL), in any order, as 32 hex digits; and those of
 * chat templates, which are not among them. */
void lb_tok_sum(const lb_gguf_meta *meta, const lb_gguf_meta *more, char out[33]);
void lb_tok_template_sum(const lb_gguf_meta *meta, const lb_gguf_meta *more, char out[33]);
/* Whether lbrx.hf.* is there and was made from these tokenizer.* keys. */
bool lb_tok_kept(const lb_gguf_meta *meta);
/* Whether the chat templates are still those of the files. */
bool lb_tok_templates_kept(const lb_gguf_meta *meta);

/* tokenizer.json; *kept = false: nothing is put. */
lb_status lb_tok_restore_json(const lb_tok_arrays *a, lb_hf_put *put, void *ctx, bool *kept,
                              lb_err *err);
/* tokenizer.model */
lb_status lb_tok_restore_spm(const lb_tok_arrays *a, lb_out *out, bool *kept, lb_err *err);

/* The i-th small file that may be kept; false beyond the last. */
bool lb_tok_small_file(u32 i, const char **name, const char **key);

/* A tokenizer.model as a patch on the arrays: operations `varint(len << 2 | kind)`: 0 bytes that
 * follow, 1 the next len pieces made from the arrays, 2 one piece whose bytes follow, 3 as 1 with
 * the type of normal pieces written too. */
lb_status lb_spm_patch_make(const lb_tok_arrays *a, lb_str model, lb_buf *out, lb_err *err);
lb_status lb_spm_patch_apply(const lb_tok_arrays *a, lb_str patch, lb_out *out, lb_err *err);

#endif
