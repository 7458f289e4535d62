/* SPDX-License-Identifier: Apache-2.0 */
/* tokdata.h: the data of a tokenizer from one format to another: Hugging Face's files
 * (tokenizer.json, tokenizer.model, tokenizer_config.json, templates...) <-> GGUF's `tokenizer.*`
 * keys.
 *
 * Kinds, not models: byte-level BPE (GGUF "gpt2"), SentencePiece with a tokenizer.model, and BPE
 * with byte fallback in a tokenizer.json (both GGUF "llama"). The families differ only in a row of
 * a small table (which kinds are tried, in which order, and three quirks). Keys, types, order and
 * values of the GGUF side are those of the reference converter (llama-cpp-python 0.3.36,
 * conversion/base.py, gguf-py/gguf/vocab.py). Nothing here runs a model's tokenizer for text; the
 * one string that must be encoded to name the pre-tokenizer goes through text/bpe.h. */
#ifndef LB_TEXT_TOKDATA_H
#define LB_TEXT_TOKDATA_H

#include "base/base.h"
#include "base/mem.h"
#include "format/gguf_meta.h"
#include "io/out.h"
#include "tensor/source.h"

/* ---- folder -> GGUF ---- */

typedef struct lb_tok_opts {
    lb_str arch; /* GGUF's general.architecture: "llama", "qwen2", "gemma3"... */
    u64 n_vocab; /* config's vocab_size, defaults applied; 0: the config has none */
    lb_str pre;  /* not empty: this tokenizer.ggml.pre, no detection */
    bool keep;   /* lb_tok_keep will follow: the files are read for both at once */
} lb_tok_opts;

typedef struct lb_tok_info {
    const char *kind; /* tokenizer.ggml.model written: "gpt2", "llama" */
    u64 n_tokens;     /* of tokenizer.ggml.tokens */
    u64 n_embd_rows;  /* rows of the embedding that GGUF keeps (LB_ROW_CUT_VOCAB families);
                         UINT64_MAX: all */
    const char *pre;  /* how tokenizer.ggml.pre was found: "hash", "structure", "given", "fixed" */
} lb_tok_info;

/* The tokenizer of an opened folder (lb_source_side gives the files); nothing is written to it. Big
 * files are read through a window; what it holds is a few bytes a token and a merge, and the small
 * files as trees, until it is closed. */
typedef struct lb_tok lb_tok;
lb_status lb_tok_open(lb_tok **out, const lb_source *src, lb_err *err);
void lb_tok_close(lb_tok **t);

/* Appends the tokenizer.* keys to meta, exactly as the reference converter does for that folder.
 *   info   may be NULL
 *   errors LB_E_NOT_FOUND no tokenizer file that this architecture can use; LB_E_FORMAT a malformed
 *          one (file and offset); LB_E_UNSUPPORTED a kind that is not known, or a pre-tokenizer
 * whose check hash and structure are both unknown (the message says how to force one); LB_E_NOMEM.
 */
lb_status lb_tok_to_meta(lb_tok *t, const lb_tok_opts *opts, lb_gguf_meta *meta, lb_tok_info *info,
                         lb_err *err);

/* Appends to out what GGUF cannot express, so that the way back gives the same files: keys
 * `lbrx.hf.*` (see docs/facts.md). meta has the keys of lb_tok_to_meta; out may be the same.
 * Leaving it out loses nothing that other programs read. */
lb_status lb_tok_keep(lb_tok *t, const lb_gguf_meta *meta, lb_gguf_meta *out, lb_err *err);

/* ---- GGUF -> folder ---- */

/* A big file is made when it is written, from the meta, which must still be there. */
typedef struct lb_tok_file {
    lb_str name; /* plain file name, or "additional_chat_templates/NAME.jinja" */
    lb_str bytes;
    const lb_gguf_meta *meta; /* not NULL: bytes is empty, lb_tok_file_write makes them */
    enum { LB_TOK_MADE_JSON, LB_TOK_MADE_SPM } made;
} lb_tok_file;

/* The tokenizer files of a folder, from the keys of a GGUF: `lbrx.hf.*` where lbrx wrote it, else
 * `tokenizer.huggingface.json` verbatim, else rebuilt from the arrays. All in perm. What is made
 * later was made once to nowhere: it cannot fail then but for memory and the output. errors
 * LB_E_UNSUPPORTED a tokenizer.ggml.model or pre that has no form in tokenizer.json; LB_E_FORMAT
 * arrays that do not fit each other; LB_E_NOT_FOUND no tokenizer at all. */
lb_status lb_tok_files_from_meta(const lb_gguf_meta *meta, lb_arena *perm, lb_tok_file **files,
                                 u64 *n_files, lb_err *err);
/* The same list where only the small files are read: big ones are not tried, so that writing one
 * may fail. */
lb_status lb_tok_files_look(const lb_gguf_meta *meta, lb_arena *perm, lb_tok_file **files,
                            u64 *n_files, lb_err *err);
/* tokenizer_config.json with another chat template than its own: taken out of it, for a file beside
 * it; where it has a list of several and text.ptr is not NULL, text becomes the default of the list
 * (*listed: no file is needed). One without a template stays as it is. errors LB_E_FORMAT,
 * LB_E_NOMEM. */
lb_status lb_tok_config_template(lb_str config, lb_str text, lb_arena *perm, lb_str *out,
                                 bool *listed, lb_err *err);
/* Appends the file's bytes. */
lb_status lb_tok_file_write(const lb_tok_file *f, lb_out *out, lb_err *err);

#endif
