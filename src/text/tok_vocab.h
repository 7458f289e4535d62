/* SPDX-License-Identifier: Apache-2.0 */
/* tok_vocab.h: the tokens of a model as transformers sees them when it opens its folder, whatever
 * the files are: tokenizer.json, vocab.json with merges.txt, a file of tiktoken, tokenizer.model,
 * or the keys of a GGUF. */
#ifndef LB_TEXT_TOK_VOCAB_H
#define LB_TEXT_TOK_VOCAB_H

#include "text/hf_tok.h"
#include "text/tokdata.h"

typedef struct lb_tok_vocab lb_tok_vocab;
/* Finds the files. opts: of the model (lb_tok_to_meta), for tokenizer.model. */
lb_status lb_tok_vocab_open(lb_tok_vocab **out, const lb_source *src, const lb_tok_opts *opts,
                            lb_err *err);
void lb_tok_vocab_close(lb_tok_vocab **v);

/* Reads them, once: the tokens, with those that transformers adds from the other files. Tokens may
 * be added to it. LB_E_NOT_FOUND: there is no tokenizer. */
lb_status lb_tok_vocab_load(lb_tok_vocab *v, lb_hf_tok **out, lb_err *err);
/* The files, as sides: src, or a source that v owns. */
const lb_source *lb_tok_vocab_files(const lb_tok_vocab *v);
/* In place of it: another text of the same tokenizer (lb_hf_tok_text). */
lb_status lb_tok_vocab_replace(lb_tok_vocab *v, lb_str text, lb_err *err);
/* Of the tokenizer: chat_template.jinja, or what tokenizer_config.json has, where it is a list, its
 * default. In perm; ptr NULL: there is none. */
lb_status lb_tok_vocab_template(lb_tok_vocab *v, lb_arena *perm, lb_str *out, lb_err *err);

#endif
