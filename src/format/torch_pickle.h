/* SPDX-License-Identifier: Apache-2.0 */
/* torch_pickle.h: what the names in a pickle of torch.save mean: storages, tensors, parameters.
 *
 * The table of names is the whole of what is known: OrderedDict, the functions that put a strided
 * tensor together, storage classes, dtypes, torch.Size (torch/_utils.py, torch/storage.py of
 * PyTorch 2.15). A tensor is kept as the pickle tells it; whether it lies in its storage is tested
 * when it is asked for by name (lb_torch_place). */
#ifndef LB_FORMAT_TORCH_PICKLE_H
#define LB_FORMAT_TORCH_PICKLE_H

#include "format/pickle.h"
#include "format/zip.h"
#include "tensor/source.h"

/* lb_pv.id of the objects that are made here. */
enum { LB_TORCH_STORAGE = 1, LB_TORCH_TENSOR };

typedef struct lb_torch_storage {
    lb_str key;
    lb_dtype dtype;
    u64 n_elems, size_bytes, off_bytes;
    bool is_placed; /* off_bytes is set */
} lb_torch_storage;

typedef struct lb_torch lb_torch; /* opaque to all but torch_pickle.c and pytorch.c */
struct lb_torch {
    lb_arena *perm;
    /* The zip archive whose entries are the storages, and the name of its folder; NULL: the legacy
     * form, where the caller places them. */
    const lb_zip *zip;
    lb_str folder;
    lb_torch_storage *storages; /* heap */
    u64 n_storages, cap_storages;
    lb_map by_key;
    lb_buf name; /* scratch */
    lb_err *err;
};

void lb_torch_deinit(lb_torch *t);
/* One pickle; see lb_pickle_run. */
lb_status lb_torch_run(lb_torch *t, lb_cur *c, lb_pv **out, lb_err *err);
static inline bool lb_torch_is_tensor(const lb_pv *v) {
    return v->kind == LB_PV_OBJECT && v->id == LB_TORCH_TENSOR;
}
/* Type, shape, order and range of a tensor (not its file). LB_E_UNSUPPORTED, with name and strides,
 * where no lb_lies says how its elements stand. path is for messages. */
lb_status lb_torch_place(const lb_torch *t, const lb_pv *tensor, lb_str name, const char *path,
                         lb_tensor *out, lb_err *err);

#endif
