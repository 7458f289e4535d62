/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_split_names.c: the name of a file of a split GGUF; number and count before it, four bytes.
 *
 * Checked: a name that is taken is the one that its stem gives, and for no other number. */
#include "format/gguf_split.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena a = {0};
    lb_str stem;
    if (size < 4)
        return 0;
    u32 no = lb_load_u16(data), count = lb_load_u16(data + 2);
    lb_str name = {(const char *)data + 4, size - 4};
    if (lb_gguf_split_parse(name, no, count, &stem)) {
        LB_ASSERT(stem.len > 0 && stem.len < name.len);
        LB_ASSERT(lb_str_eq(lb_gguf_split_format(&a, stem, no, count), name));
        LB_ASSERT(!lb_gguf_split_parse(name, no + 1, count, &stem));
    }
    lb_str made = lb_gguf_split_format(&a, name, no, count);
    if (name.len) {
        LB_ASSERT(lb_gguf_split_parse(made, no, count, &stem) && lb_str_eq(stem, name));
    }
    lb_arena_deinit(&a);
    return 0;
}
