/* SPDX-License-Identifier: Apache-2.0 */
/* logits.h: files of logits: what a model gave after each scored token of a text, exactly, so that
 * other models can be compared with it. Version 1, little-endian:
 *
 *      0  u8[8]   "lbrxlgts"
 *      8  u32     version, 1
 *     12  u32     n_vocab
 *     16  u32     n_ctx: tokens of a chunk, at least 4
 *     20  u32     the id that stood in the first place of each chunk; 2^32 - 1: its own token
 *     24  u64     n_chunks, at least 1
 *     32  u8[16]  zeros
 *     48  u8[16]  hash of bytes 0 to 47 and of the ids
 *     64  u32     ids of the text's tokens [n_chunks, n_ctx]
 *         rows    [n_chunks, n_ctx - 1 - n_ctx / 2], those after token n_ctx / 2 of a chunk and on:
 *                 f32[n_vocab], then u8[16] hash of bytes 48 to 63 of the file, of the row's number
 *                 in the file (u64) and of its values
 *
 * Hashes are XXH3-128, the low half first. A file has no byte more. A row that is damaged, comes
 * from another file or stands in another place is thus refused before it is used, and rows are
 * read one by one: a file may be far larger than the memory. */
#ifndef LB_FORMAT_LOGITS_H
#define LB_FORMAT_LOGITS_H

#include "base/hash.h"
#include "io/cur.h"

#define LB_LOGITS_HEAD_BYTES 64
#define LB_LOGITS_VERSION 1u
#define LB_LOGITS_CTX_MAX (1u << 26)

typedef struct lb_logits {
    u32 n_vocab, n_ctx, bos; /* bos: LB_LOGITS_OWN: none */
    u64 n_chunks;
    lb_hash128 hash; /* set by lb_logits_head and lb_logits_parse */
} lb_logits;
#define LB_LOGITS_OWN UINT32_MAX

/* Rows of a chunk. */
static inline u32 lb_logits_n_rows(const lb_logits *l) {
    return l->n_ctx - 1 - l->n_ctx / 2;
}
/* Of the whole file; false: more than 64 bits. */
bool LB_MUST_CHECK lb_logits_size(const lb_logits *l, u64 *size_bytes);
/* Where a row begins, in a file whose size there is; its values' hash follows them. */
u64 lb_logits_row_off(const lb_logits *l, u64 row);

/* The first bytes of a file, which the ids follow: [n_chunks * n_ctx]. Sets l->hash. */
void lb_logits_head(lb_logits *l, const u32 *ids, u8 out[LB_LOGITS_HEAD_BYTES]);
/* What follows the row's values [n_vocab]. */
void lb_logits_row_hash(const lb_logits *l, u64 row, const float *values, u8 out[16]);

/* Only the head; the file is exactly as long as it says. No memory. LB_E_FORMAT, LB_E_UNSUPPORTED
 * (another version; llama-perplexity's file), both naming c->path. */
lb_status lb_logits_parse(lb_cur *c, lb_logits *out, lb_err *err);
/* Reads the file's ids. LB_E_FORMAT: they are damaged, or not those of the text (named). */
lb_status lb_logits_check_ids(lb_cur *c, const lb_logits *l, const u32 *ids, lb_err *err);
/* values: [n_vocab], which is to be known by other means than the file's word. LB_E_FORMAT:
 * damaged.
 */
lb_status lb_logits_row(lb_cur *c, const lb_logits *l, u64 row, float *values, lb_err *err);

#endif
