/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_override.c: words PATTERN=TYPE, a NUL, and the name of a tensor.
 *
 * Checked: no crash, no endless loop, bounded memory; what is refused says why; the first that is
 * found is the one that lb_override_find names. */
#include "quant/override.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    const u8 *nul = size ? memchr(data, 0, size) : NULL;
    const size_t n = nul ? (size_t)(nul - data) : size;
    const lb_str text = {(const char *)data, n};
    const lb_str name = nul ? (lb_str){(const char *)nul + 1, LB_MIN(size - n - 1, (size_t)64)}
                            : LB_STR("blk.10.attn_v.weight");
    lb_arena perm = {0};
    lb_overrides o = {.arena = &perm};
    const lb_override *first = NULL;
    lb_err err = {0};
    if (n > 4096)
        return 0;
    if (lb_override_add_words(&o, text, n & 1, &err) != LB_OK)
        LB_ASSERT(err.msg[0]);
    const lb_status st = lb_override_find(&o, name, &first, &err);
    for (const lb_override *v = o.first; st == LB_OK && v; v = v->next) {
        bool found = false;
        LB_ASSERT(lb_override_matches(&o, v, name, &found, &err) == LB_OK);
        if (found) {
            LB_ASSERT(v == first);
            break;
        }
        LB_ASSERT(v != first);
    }
    LB_ASSERT(perm.size_bytes < 64 * LB_MIB);
    lb_arena_deinit(&perm);
    return 0;
}
