/* SPDX-License-Identifier: Apache-2.0 */
/* model.safetensors.index.json as bytes. */
#include "format/folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lb_arena arena = {0};
    lb_index index;
    lb_err err = {0};
    lb_str text = {(const char *)data, size};
    if (lb_index_parse(text, LB_INDEX_NAME, ".safetensors", &arena, &index, &err) == LB_OK) {
        for (u64 i = 0; i < index.n_entries; i++)
            LB_ASSERT(index.entries[i].shard < index.n_shards &&
                      lb_str_is_utf8(index.entries[i].tensor));
        for (u32 i = 0; i < index.n_shards; i++) {
            LB_ASSERT(lb_str_is_file_name(index.shards[i]));
            LB_ASSERT(i == 0 || lb_str_cmp(index.shards[i - 1], index.shards[i]) < 0);
        }
    } else {
        LB_ASSERT(err.msg[0] != 0);
    }
    LB_ASSERT(arena.size_bytes < 64 * LB_KIB + 64 * (u64)size);
    lb_arena_deinit(&arena);
    return 0;
}
