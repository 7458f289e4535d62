/* SPDX-License-Identifier: Apache-2.0 */
/* saved.h: sessions in files: opened, checked against the model, taken up, written.
 *
 * A session belongs to the model that made it: the metadata of its architecture, the names, types
 * and shapes of its tensors and bytes from the begin, the middle and the end of each are hashed,
 * which reads a few pages of each however large they are. */
#ifndef LB_OPS_SAVED_H
#define LB_OPS_SAVED_H

#include "model/saved.h"
#include "ops/load.h"

typedef struct lb_saved {
    lb_cur cur;
    lb_session_file file;
    u32 *ids; /* [file.n_ids] */
} lb_saved;

lb_hash128 lb_saved_model(const lb_loaded *l);
/* Head and tokens; s is to be closed in any case. l NULL: whatever model it is of. LB_E_NOT_FOUND:
 * there is no such file; LB_E_FORMAT: it is damaged, or of another model; LB_E_UNSUPPORTED: it is
 * of a newer lbrx. */
lb_status lb_saved_open(lb_saved *s, const char *path, const lb_loaded *l, lb_err *err);
void lb_saved_close(lb_saved *s);
/* Reads the rest. Sequence 0 of c becomes what the session's tokens have in common with ids[n], as
 * far as the model can go back to there; c has room for n. Appends the session's text, where text
 * is not NULL. LB_E_USAGE: keys and values are of another kind here. What fails leaves the sequence
 * empty; *n_kept: its tokens. */
lb_status lb_saved_load(lb_saved *s, lb_context *c, const u32 *ids, u32 n, lb_buf *text,
                        u32 *n_kept, lb_err *err);

/* Whether one can be there, before any work: there is a folder for it, and nothing but a file of
 * its name in it. LB_E_IO. *exists: there is one. */
lb_status lb_saved_check(const char *path, bool *exists, lb_err *err);

/* Sequence 0 of c, the first tokens of ids[n], with a text. The file is replaced as a whole or
 * stays as it was. */
typedef struct lb_saving {
    const char *path;
    const lb_loaded *loaded;
    const lb_context *context;
    const u32 *ids;
    u32 n_ids;
    lb_str text;
} lb_saving;
lb_status lb_saved_write(const lb_saving *s, lb_err *err);

#endif
