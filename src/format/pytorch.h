/* SPDX-License-Identifier: Apache-2.0 */
/* pytorch.h: files of torch.save (.bin, .pt, .pth): the tensors of a state dict, as byte ranges.
 *
 * Both forms: the zip archive (since PyTorch 1.6) and the legacy one (pickles, then storages).
 * Nothing of the file is run; see pickle.h and torch_pickle.h for what is understood. Tensor bytes
 * are not read. Tensors may share their bytes (tied weights, views of one storage).
 * Refused by name: TorchScript archives, big-endian files, views that are not contiguous, what is
 * no dictionary of tensors. */
#ifndef LB_FORMAT_PYTORCH_H
#define LB_FORMAT_PYTORCH_H

#include "base/mem.h"
#include "io/cur.h"
#include "tensor/source.h"

typedef struct lb_pt_dir {
    lb_tensor *tensors; /* file is 0; by offset, then as in the dictionary */
    u64 n_tensors;
    lb_str notes; /* what was chosen or left aside, one line each; may be empty */
} lb_pt_dir;

bool lb_pt_probe(const u8 *head, size_t n); /* a zip archive or a pickle; 4 bytes tell */

/* Reads the directory. perm owns names and notes, scratch out->tensors. Errors name c->path. */
lb_status lb_pt_parse(lb_cur *c, lb_arena *perm, lb_arena *scratch, lb_pt_dir *out, lb_err *err);

/* Adds the file and its tensors to s, and lines to notes. */
lb_status lb_pt_read(lb_source *s, const char *path, lb_str name, lb_buf *notes, lb_err *err);

/* A single file as a model: format PYTORCH, one plain weight a tensor. */
lb_status lb_pt_open(lb_source **out, const char *path, lb_err *err);

#endif
