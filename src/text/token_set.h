/* SPDX-License-Identifier: Apache-2.0 */
/* token_set.h: the tokens of a model's tokenizer by number, under keys by which the tokens of two
 * tokenizers are compared, whatever kind they are of.
 *
 * A key is a letter and a text:
 *   s  a token with a role: the role, "bos_token" (two tokenizers may call it <s> and <|begin|>)
 *   w  one that begins a word: what stands behind the mark (U+0120 or U+2581)
 *   p  any other, as the vocabulary writes it
 * This is how mergekit 0.1.5 compares them (tokenizer/normalization.py), but that the mark is
 * found in the vocabulary and not in the name of a class. */
#ifndef LB_TEXT_TOKEN_SET_H
#define LB_TEXT_TOKEN_SET_H

#include "base/texts.h"
#include "tensor/source.h"

#define LB_TOKEN_ROLE 's'
#define LB_TOKEN_WORD 'w'
#define LB_TOKEN_PLAIN 'p'
#define LB_NO_TOKEN_ID UINT64_MAX

typedef struct lb_token_set {
    lb_texts key;         /* [n_ids]; numbers without a token are left out */
    lb_texts text;        /* [n_ids] as the vocabulary writes it */
    lb_texts_index id_of; /* of a key; of equal ones the first */
    u64 n_ids;            /* largest number + 1 */
    u64 n_tokens;
    bool byte_level; /* written in the alphabet of bytelevel.h */
    lb_buf added;    /* u8 [n_ids]: 1: text that stands for itself */
} lb_token_set;

/* Of a folder with any tokenizer that lbrx reads, or a GGUF. LB_E_NOT_FOUND: it has none. *t is to
 * be deinitialised in any case. */
lb_status lb_token_set_read(lb_token_set *t, const lb_source *s, lb_err *err);
void lb_token_set_deinit(lb_token_set *t);

/* The same one token after the other (tests, and readers of other forms). role: "bos_token", or
 * NULL. finish: after the last: makes the keys. */
typedef struct lb_token {
    u64 id;
    lb_str text;
    const char *role;
    bool added;
} lb_token;
lb_status lb_token_set_put(lb_token_set *t, const lb_token *token, lb_err *err);
lb_status lb_token_set_finish(lb_token_set *t, lb_err *err);

static inline lb_str lb_token_key(const lb_token_set *t, u64 id) {
    return lb_texts_get(&t->key, id);
}
/* LB_NO_TOKEN_ID: there is none. */
u64 lb_token_find(const lb_token_set *t, lb_str key);

/* A token of b for one that a only has in the other way of writing a byte: "<0x41>" for "A" and
 * the reverse; LB_NO_TOKEN_ID: none. */
u64 lb_token_find_byte(const lb_token_set *t, lb_str key);
/* The longest prefix of a token of less than *len bytes of its key that is one, and its length;
 * blanks alone are none. */
u64 lb_token_find_prefix(const lb_token_set *t, lb_str key, size_t *len);

/* Appends the bytes that the token stands for in a text. */
lb_status lb_token_bytes(const lb_token_set *t, u64 id, lb_buf *out, lb_err *err);
/* The token of one byte, however it is written; LB_NO_TOKEN_ID: none. */
u64 lb_token_of_byte(const lb_token_set *t, u8 byte);

#endif
