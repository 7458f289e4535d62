/* SPDX-License-Identifier: Apache-2.0 */
/* special.h: ids of special tokens, add_*_token flags, chat templates and normalizer flags,
 * gathered from a folder as the reference's SpecialVocab does (gguf-py/gguf/vocab.py). Internal to
 * text/. */
#ifndef LB_TEXT_SPECIAL_H
#define LB_TEXT_SPECIAL_H

#include "base/base.h"
#include "base/mem.h"
#include "format/gguf_meta.h"
#include "text/tok_folder.h"

/* A type whose id, where the files give none, is that of an added token. */
typedef struct lb_special_named {
    const char *type; /* "eot"; NULL: the end of a list */
    const char *text;
} lb_special_named;

/* What the reference loads beside the special tokens. */
typedef struct lb_special_opts {
    u64 n_vocab;                   /* ids must be below; 0: any */
    lb_texts *merges;              /* written first and then empty; NULL: none */
    bool no_pad;                   /* no token pads, whatever the files say */
    const u64 *eos;                /* in place of what the files say; NULL: as they say */
    const lb_special_named *named; /* in their order; NULL: none */
} lb_special_opts;

/* Appends merges, *_token_id, add_*_token, chat_template* and normalizer.* to meta, in that order.
 */
lb_status lb_special_put(lb_tok_folder *f, const lb_special_opts *opts, lb_gguf_meta *meta,
                         lb_err *err);

#endif
