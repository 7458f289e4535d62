/* SPDX-License-Identifier: Apache-2.0 */
/* session_file.h: saved sessions: the tokens that a model has read, and what its cache made of
 * them, so that another run goes on without reading them again. Version 1, little-endian:
 *
 *      0  u8[8]   "lbrxsess"
 *      8  u32     version, 1
 *     12  u32     type of keys and values, as GGUF numbers them: f32, f16, q4_0, q8_0
 *     16  u32     flags, LB_SESSION_*
 *     20  u32     n_vocab of the model
 *     24  u32     n_ids: tokens of the sequence
 *     28  u32     n_held: of them, from the first on, the cache holds; at most n_ids
 *     32  u64     row_bytes: keys and values of one position in all layers
 *     40  u64     state_bytes of recurrent layers; 0: it has none
 *     48  u64     text_bytes
 *     56  u32     rope_ctx: the least context that turns positions as these; 0: any of the trained
 * size 60  u8[4]   zeros 64  u8[16]  the model: what ops/saved.c makes of its metadata and tensors
 *     80  u8[16]  hash of bytes 0 to 79 and of the ids
 *     96  u32     ids [n_ids]
 *         u8      text [text_bytes]: the conversation as JSON, where there is one
 *         u8      states [state_bytes]: f32
 *         u8      keys and values [n_held * row_bytes]: for each layer that keeps some, for each
 *                 head, keys of all positions, then values (none where they are part of the keys);
 *                 rows as long as their type has them, without padding
 *         u8[16]  hash of all bytes from 80 on
 *
 * Hashes are XXH3-128, the low half first. A file has no byte more. */
#ifndef LB_FORMAT_SESSION_FILE_H
#define LB_FORMAT_SESSION_FILE_H

#include "base/hash.h"
#include "io/cur.h"
#include "io/out.h"
#include "tensor/dtype.h"

#define LB_SESSION_HEAD_BYTES 96
#define LB_SESSION_VERSION 1u
#define LB_SESSION_IDS_MAX (1u << 26)
#define LB_SESSION_TEXT_MAX (64 * LB_MIB)

enum {
    LB_SESSION_ROTATED = 1, /* keys and values are turned before they are rounded */
    LB_SESSION_EXACT = 2,   /* activations were not rounded */
    LB_SESSION_FAST = 4,    /* all of them were, to eight bits */
    LB_SESSION_FLAGS = 7
};

typedef struct lb_session_file {
    lb_dtype kv_type;
    u32 flags, n_vocab, n_ids, n_held, rope_ctx;
    u64 row_bytes, state_bytes, text_bytes;
    lb_hash128 model;
    lb_hash128 head_hash; /* set by lb_session_file_parse and lb_session_file_begin */
} lb_session_file;

/* Of the whole file; false: more than 64 bits. */
bool LB_MUST_CHECK lb_session_file_size(const lb_session_file *f, u64 *size_bytes);
/* Whether the first bytes of a file are those of one. */
bool lb_session_file_is(const u8 *bytes, size_t n);

/* ---- reading: head, ids, then the body in order, its end ---- */

/* Only the head; the file is exactly as long as it says. No memory. LB_E_FORMAT, LB_E_UNSUPPORTED
 * (a newer version), both naming c->path. */
lb_status lb_session_file_parse(lb_cur *c, lb_session_file *out, lb_err *err);
/* ids: [n_ids]. LB_E_FORMAT: head or ids are damaged, or an id is none of the vocabulary. */
lb_status lb_session_file_ids(lb_cur *c, const lb_session_file *f, u32 *ids, lb_err *err);

/* What follows the ids; the cursor stands there. Nothing of it is to be believed before
 * lb_session_body_end says so. */
typedef struct lb_session_body {
    lb_cur *c;
    lb_xxh hash;
} lb_session_body;
void lb_session_body_begin(lb_session_body *b, lb_cur *c, const lb_session_file *f, const u32 *ids);
/* n bytes of it; out NULL: only for the hash. */
lb_status lb_session_body_read(lb_session_body *b, void *out, u64 n, lb_err *err);
/* All has been read. LB_E_FORMAT: it is not what was written. */
lb_status lb_session_body_end(lb_session_body *b, lb_err *err);

/* ---- writing ---- */

/* Puts head and ids; then the body follows, by lb_session_file_put. */
void lb_session_file_begin(lb_session_file *f, const u32 *ids, lb_xxh *hash, lb_out *out);
void lb_session_file_put(lb_xxh *hash, lb_out *out, const void *bytes, size_t n);
void lb_session_file_end(const lb_xxh *hash, lb_out *out);

#endif
