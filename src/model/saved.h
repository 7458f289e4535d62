/* SPDX-License-Identifier: Apache-2.0 */
/* saved.h: a sequence of a session to a saved one (format/session_file.h), and back. */
#ifndef LB_MODEL_SAVED_H
#define LB_MODEL_SAVED_H

#include "format/session_file.h"
#include "model/model.h"

/* What a saved session of this one says of it; not its ids, its text, its model. */
void lb_context_describe(const lb_context *c, lb_session_file *f);
/* States, keys and values of a sequence's positions: the end of a body. Fails where they are a
 * device's alone. */
lb_status lb_context_save(const lb_context *c, u32 seq, lb_xxh *hash, lb_out *out, lb_err *err);
/* Reads the end of a body and its hash. The sequence becomes ids[n], the first of the f->n_held
 * that are there: all of them, or none, where layers are recurrent. f is as lb_context_describe has
 * it, the context has room for n. What fails leaves the sequence empty. */
lb_status lb_context_load(lb_context *c, u32 seq, lb_session_body *b, const lb_session_file *f,
                          const u32 *ids, u32 n, lb_err *err);

#endif
