/* SPDX-License-Identifier: Apache-2.0 */
/* A whole file of torch.save, zip archive or legacy form. What is accepted must be sound: types,
 * shapes and sizes fit, ranges lie in the file, in order, names are text and different; memory is a
 * multiple of the file. */
#include "format/pytorch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const lb_pt_dir *d, u64 size_bytes) {
    lb_map names = {0};
    LB_ASSERT(d->n_tensors > 0);
    for (u64 i = 0; i < d->n_tensors; i++) {
        const lb_tensor *t = &d->tensors[i];
        u64 n, bytes, stride;
        bool existed = true;
        LB_ASSERT(t->off_bytes <= size_bytes && t->size_bytes <= size_bytes - t->off_bytes);
        LB_ASSERT(i == 0 || t->off_bytes >= t[-1].off_bytes);
        LB_ASSERT(t->shape.rank <= LB_RANK_MAX && lb_shape_elems(&t->shape, &n) && n == t->n_elems);
        LB_ASSERT(t->lies ? lb_tensor_stride(t, &stride)
                          : lb_dtype_bytes(t->dtype, n, &bytes) && bytes == t->size_bytes);
        LB_ASSERT(lb_str_is_utf8(t->name));
        LB_ASSERT(lb_map_put(&names, t->name, i, &existed, NULL) == LB_OK && !existed);
    }
    lb_map_deinit(&names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lb_arena perm = {0}, scratch = {0};
    lb_pt_dir dir;
    lb_err err = {0};
    lb_cur c;
    lb_cur_mem(&c, "x.pt", data, size);
    if (lb_pt_parse(&c, &perm, &scratch, &dir, &err) == LB_OK)
        check(&dir, size);
    else
        LB_ASSERT(err.msg[0] != 0 && err.code != LB_E_NOMEM && err.code != LB_E_IO);
    LB_ASSERT(perm.size_bytes + scratch.size_bytes < 64 * LB_KIB + 256 * (u64)size);
    lb_arena_deinit(&perm);
    lb_arena_deinit(&scratch);
    return 0;
}
