/* SPDX-License-Identifier: Apache-2.0 */
/* decode.h: ids -> text, by the decoder of the model's tokenizer.json (or of the one that its
 * SentencePiece file or GGUF is as good as), as the tokenizers library decodes.
 *
 * A stream gives text as ids come: never half a character, and all that it gives together is what
 * decoding the whole list gives. What depends on the next token is held back until it comes: an
 * unfinished character, a run of byte tokens (where one more byte decides whether it is text). */
#ifndef LB_TEXT_DECODE_H
#define LB_TEXT_DECODE_H

#include "text/encode.h"

typedef struct lb_decode_stream lb_decode_stream;

/* e must outlive it. skip_special: special tokens give no text. */
lb_status lb_decode_begin(lb_decode_stream **out, const lb_encoder *e, bool skip_special,
                          lb_err *err);
/* Appends to out what is certain. An id that no token has gives nothing. */
lb_status lb_decode_put(lb_decode_stream *d, u32 id, lb_buf *out, lb_err *err);
/* Appends the rest; the stream is then at the beginning of another text. */
lb_status lb_decode_end(lb_decode_stream *d, lb_buf *out, lb_err *err);
void lb_decode_close(lb_decode_stream **d);

/* All at once. */
lb_status lb_decode_ids(const lb_encoder *e, const u32 *ids, u64 n, bool skip_special, lb_buf *out,
                        lb_err *err);

#endif
