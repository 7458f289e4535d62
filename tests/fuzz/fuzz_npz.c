/* SPDX-License-Identifier: Apache-2.0 */
/* A whole file of numpy.savez. What is accepted must be sound: types, shapes and sizes fit, ranges
 * lie in the file and in no other, names are text; memory is a multiple of the file. */
#include "format/npz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const lb_npz_dir *d, u64 size_bytes) {
    u64 end = 0;
    LB_ASSERT(d->n_tensors > 0);
    for (u64 i = 0; i < d->n_tensors; i++) {
        const lb_tensor *t = &d->tensors[i];
        u64 n, bytes;
        LB_ASSERT(t->off_bytes <= size_bytes && t->size_bytes <= size_bytes - t->off_bytes);
        LB_ASSERT(t->off_bytes >= end);
        end = t->off_bytes + t->size_bytes;
        LB_ASSERT(t->shape.rank <= LB_RANK_MAX && lb_shape_elems(&t->shape, &n) && n == t->n_elems);
        LB_ASSERT(lb_dtype_bytes(t->dtype, n, &bytes) && bytes == t->size_bytes);
        LB_ASSERT(t->name.len && lb_str_is_utf8(t->name));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lb_arena perm = {0}, scratch = {0};
    lb_npz_dir dir;
    lb_err err = {0};
    lb_cur c;
    lb_cur_mem(&c, "x.npz", data, size);
    if (lb_npz_parse(&c, &perm, &scratch, &dir, &err) == LB_OK)
        check(&dir, size);
    else
        LB_ASSERT(err.msg[0] != 0 && err.code != LB_E_NOMEM && err.code != LB_E_IO);
    LB_ASSERT(perm.size_bytes + scratch.size_bytes < 64 * LB_KIB + 256 * (u64)size);
    lb_arena_deinit(&perm);
    lb_arena_deinit(&scratch);
    return 0;
}
