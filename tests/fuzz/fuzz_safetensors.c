/* SPDX-License-Identifier: Apache-2.0 */
/* A whole safetensors file, as bytes: length, header, data. What is accepted must be sound. */
#include "format/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const lb_st_dir *d, u64 size_bytes) {
    u64 end = d->data_off_bytes;
    for (u64 i = 0; i < d->n_tensors; i++) {
        const lb_tensor *t = &d->tensors[i];
        u64 n, bytes;
        LB_ASSERT(t->off_bytes == end && t->size_bytes <= size_bytes - end);
        LB_ASSERT(t->shape.rank <= LB_RANK_MAX && lb_shape_elems(&t->shape, &n) && n == t->n_elems);
        LB_ASSERT(lb_dtype_bytes(t->dtype, n, &bytes) && bytes == t->size_bytes);
        LB_ASSERT(lb_str_is_utf8(t->name));
        end += t->size_bytes;
    }
    LB_ASSERT(end == size_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lb_arena perm = {0}, scratch = {0};
    lb_st_dir dir;
    lb_err err = {0};
    lb_str value;
    if (size < 8)
        return 0;
    u64 n = lb_load_u64(data);
    if (n > size - 8) /* a length that does not fit the file is refused before the parser */
        n = size - 8;
    lb_str header = {(const char *)data + 8, (size_t)n};
    if (lb_st_parse(header, size, &perm, &scratch, &dir, &err) == LB_OK) {
        check(&dir, size);
        (void)lb_st_metadata_find(dir.metadata, LB_STR("format"), &perm, &value);
    } else {
        LB_ASSERT(err.msg[0] != 0);
    }
    LB_ASSERT(perm.size_bytes + scratch.size_bytes < 64 * LB_KIB + 64 * (u64)size);
    lb_arena_deinit(&perm);
    lb_arena_deinit(&scratch);
    return 0;
}
